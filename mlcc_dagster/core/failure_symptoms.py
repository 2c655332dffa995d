"""The rules on lines that say what a cause brings about: symptoms, what programs raise, reports of another failure, hints.

Belongs here: data, the stronger kinds first. Not here: causes (`failure_causes.py`), how rules are applied
(`failures.py`).
"""

from mlcc_dagster.core.failure_rules import Rule, Strength

_SYMPTOM, _CRASH, _REPORT, _HINT = Strength.SYMPTOM, Strength.CRASH, Strength.REPORT, Strength.HINT

SYMPTOMS: tuple[Rule, ...] = (
    # -- a time limit that the runner itself enforced: it cancels afterwards, which is what it says last
    Rule(
        "job-time-limit",
        "timeout",
        r"\bexceeded the maximum (?:execution|run(?:ning)?) time\b|\bhas timed out after \d+ (?:second|minute|hour)s?\b|"
        r"\bDUE TO TIME LIMIT\b|\bBUILD_TIMED_OUT\b|\bMaxRuntimeExceeded\b",
        "##[error]The job running on runner gpu-7 has exceeded the maximum execution time of 360 minutes.",
    ),
    Rule(
        "interrupted-by-limit",
        "timeout",
        # Where a command stood when its limit ended it says more than the limit.
        r"^!{3,} .*\bKeyboardInterrupt\b.* !{3,}$",
        "!!!!!!!!!!!!!!!!!!!! KeyboardInterrupt !!!!!!!!!!!!!!!!!!!!",
        beside=r"\bCommand took >\s?\d|\b(?:exit(?:ed)?|returning|returned)\b[^\n]{0,20}\b124\b|"
        r"\bpassed its own time limit\b|\btimeout: sending signal\b|\btimed out after \d",
    ),
    # -- failed checks that quote what they compared: the words may be any, the failure is the check's
    Rule(
        "assertion-failed",
        "code_bug",
        r"^(?:\[gw\d+\] (?:\[ *\d+%\] )?)?FAILED (?:\[[\d.]+s\] )?\S+ - (?:AssertionError|assert)\b",
        "FAILED tests/test_api.py::test_ping - AssertionError: assert 'Connection refused' in ''",
        _SYMPTOM,
        case=True,
    ),
    # -- symptoms
    Rule(
        "connect-timeout",
        "infrastructure",
        # Nobody answered the first packet, or a download stalled: the network, not a limit of the stage.
        r"\bconnection (?:attempt )?(?:has )?timed out\b|\bconnect(?:ion)? ?timeout(?:Error)?\b|"
        r"\bHTTPSConnectionPool\(.{0,200}\btimed out\b|\bdial tcp\b.{0,80}\bi/o timeout\b|\bcurl: \(28\)|\bETIMEDOUT\b|"
        r"\bdownload(?:ing)?\b.{0,40}\btimed out\b",
        "requests.exceptions.ConnectTimeout: HTTPSConnectionPool(host='models.example', port=443): Max retries exceeded",
        _SYMPTOM,
    ),
    Rule(
        "connection",
        "infrastructure",
        r"\bconnection (?:was )?(?:refused|reset|aborted|closed|broken)\b|\b(?:ECONNREFUSED|ECONNRESET|EPIPE)\b|"
        r"\bBroken pipe\b|\bConnection(?:Refused|Reset|Aborted)?Error\b|\bRemoteProtocolError\b|"
        r"\bserver disconnected\b|\bConnectError\b|\bIncompleteRead\b|\bChunkedEncodingError\b|"
        r"\bcurl: \((?:5|7|18|35|52|55|56|92)\)",
        "httpx.ConnectError: [Errno 111] Connection refused",
        _SYMPTOM,
        version=2,
    ),
    Rule(
        "access-denied",
        "infrastructure",
        r"\bAccessDenied(?:Exception)?\b|\b403 (?:Client Error|Forbidden)\b|\bPermission denied\b",
        "An error occurred (AccessDeniedException) when calling InvokeEndpoint",
        _SYMPTOM,
    ),
    Rule(
        "gateway",
        "infrastructure",
        r"\b(?:502 Bad Gateway|503 Service (?:Temporarily )?Unavailable|504 Gateway Time-?out|"
        r"ServiceUnavailable(?:Exception)?|InternalServerException|InternalFailure)\b|\b50[0234] Server Error\b|"
        r"\breturned error: 50[0234]\b",
        "HTTPStatusError: Server error '503 Service Unavailable' for url",
        _SYMPTOM,
        version=2,
    ),
    Rule(
        "killed",
        "infrastructure",
        r"\bkilled by signal 9\b|\bSIGKILL\b|\bexit(?:ed)?(?: with)? (?:code|status):? 137\b|"
        r"\boperation was cancell?ed\b|\bKeyboardInterrupt\b|^Killed$",
        "the server was killed by signal 9",
        _SYMPTOM,
    ),
    Rule(
        "time-limit",
        "timeout",
        r"\b(?:timed[ -]out|deadline exceeded)\b|\b(?-i:\w*[a-z]Timeout|exceptions\.Timeout):|"
        r"\bTimeout(?:Error|Exception|Expired)\b|\b(?:read|write|pool)timeout\b|"
        r"\btimeout (?:expired|exceeded|elapsed|reached|error)\b|\btimeout: \w+\(|\bpassed its own time limit\b|"
        r"\bCommand took >\s?\d+|\bdid not (?:become|get) (?:ready|healthy) (?:within|in|after)\b|"
        r"\btimeout: sending signal\b|\btimeout while waiting\b|\bexceeded timeout of\b|\bTimeout \(?>\s?[\d.]+|"
        r"\*{3}Timeout\b|(?-i:\bTIMEOUT in \d|\bWORKER TIMEOUT\b)|^\+{7,} Timeout \+{7,}$|\bbefore timing out\b|"
        r"\b(?:exceeded|passed) (?:the|its) time limit\b|\btime limit (?:exceeded|reached)\b|"
        r"\bWaiter \w+ failed: Max attempts exceeded\b",
        "httpx.ReadTimeout: timed out",
        _SYMPTOM,
        version=2,
    ),
    Rule(
        "sanitizer",
        "code_bug",
        r"\bERROR: (?:Address|Leak|Memory)Sanitizer\b|\bWARNING: ThreadSanitizer: data race\b|"
        r":\d+:\d+: runtime error: ",
        "==4711==ERROR: AddressSanitizer: heap-use-after-free on address 0x602000000010",
        _SYMPTOM,
        case=True,
    ),
    Rule(
        "arguments",
        "code_bug",
        r"\berror: (?:unrecognized arguments|the following arguments are required|unexpected argument|"
        r"argument \S+: (?:invalid|expected))|\bunknown (?:flag|option|shorthand flag): -|\bno such option: -",
        "serve.py: error: unrecognized arguments: --max-batch 4",
        _SYMPTOM,
    ),
    Rule(
        "cmake",
        "code_bug",
        r"^CMake Error\b",
        "CMake Error at CMakeLists.txt:12 (find_package):",
        _SYMPTOM,
        case=True,
    ),
    Rule(
        "lint",
        "code_bug",
        r"^>>> Lint for \S+:$|^\S+\.\w+:\d+:(?:\d+:)? [A-Z]{1,4}\d{2,4}\b|^\s+\d+:\d+\s+error\s{2}|"
        r"^would reformat \S|\bcode should be clang-formatted\b|^\S.*\.{3,}Failed$|\[-W(?:error|clang)\S*\]$",
        "src/serve.py:12:5: E501 line too long (130 > 120 characters)",
        _SYMPTOM,
        case=True,
    ),
    Rule(
        "checks-failed",
        "code_bug",
        # pytest (summary, progress, heading), unittest, GoogleTest, Go, Cargo, CTest, Bazel, Jest, TAP; tables of checks
        r"\bFAILED (?:\[[\d.]+s\] )?\S+::|\S+::\S+ FAILED\b|^_{3,} \S.* _{3,}$|^ERROR \S+\.py(?:::| - |$)|"
        r"(?:^|\s)FAIL: |^ERROR: \w+ \([\w.]+\)|^\[  FAILED  \] |^test \S+ \.\.\. FAILED$|"
        r"\*{3}(?:Failed|Exception)\b|^//\S+\s.*\bFAILED\b|^\s*● .+ › |^not ok \d+|\bREGRESSION\b|"
        r"\b(?:checkout|working tree|repository) (?:is )?dirty\b",
        "FAILED tests/test_api.py::test_ping - ValueError: no port",
        _SYMPTOM,
        case=True,
        version=2,
    ),
    # -- what programs raise
    Rule(
        "script-crash",
        "code_bug",
        r"\bscript crash(?:ed)?\b|: command not found$|: unbound variable$|\bpanicked at\b|"
        r"^(?:/\S+/)?\w*sh: (?:line )?\d+: .*: (?:not found|No such file or directory)$|"
        r"\bError: Cannot find module '|^panic: (?:runtime error|assignment)\b",
        "do/deploy: line 12: jq: command not found",
        _CRASH,
        version=2,
    ),
    Rule(
        "process-crash",
        "code_bug",
        r"\bSegmentation fault\b|\bFatal Python error\b|\bSIG(?:SEGV|ABRT|BUS|ILL)\b|\bsignal 11\b|\bBus error\b|"
        r"\bexit(?:ed)?(?: with)? (?:code|status):? 13[49]\b|\bCUDA error: (?:device-side assert|an illegal memory access)|"
        r"\b(?:cuda|hip)Error(?:IllegalAddress|IllegalInstruction|MisalignedAddress|LaunchFailure|Assert)\b",
        "Fatal Python error: Segmentation fault",
        _CRASH,
    ),
    Rule(
        "python-crash",
        "code_bug",
        r"(?:^|[\s.|])(?:TypeError|NameError|AttributeError|ImportError|ModuleNotFoundError|KeyError|IndexError|"
        r"AssertionError|UnboundLocalError|NotImplementedError|ZeroDivisionError|RecursionError|FileNotFoundError|"
        r"ReferenceError|java\.lang\.\w+(?:Exception|Error))(?::|$)",
        "ModuleNotFoundError: No module named 'serve'",
        _CRASH,
        case=True,
        version=2,
    ),
    Rule(
        "config-invalid",
        "code_bug",
        r"\b[1-9]\d* validation errors? for \w+|\byaml\.(?:scanner|parser)\.\w+Error\b",
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for ServerSettings",
        _CRASH,
    ),
    # -- reports of another failure
    Rule(
        "command-failed",
        "code_bug",
        r"\bCommand .{1,300} returned non-zero exit (?:status|code) [1-9]|"
        r"\bprocess \".{1,300}\" did not complete successfully\b",
        "subprocess.CalledProcessError: Command '['make']' returned non-zero exit status 2.",
        _REPORT,
        version=2,
    ),
    Rule(
        "checks-summary",
        "code_bug",
        r"^=+ .*\b\d+ (?:failed|errors?)\b.* =+$|\b\d+/\d+ failed!|^\W*\w+ failed!$|^!{3,} .* !{3,}$|"
        r"^--- FAIL: |^FAIL\s+\S+|^test result: FAILED|\btests passed, [1-9]\d* tests? failed out of\b|"
        r"^FAILED \((?:failures|errors)=|^Found \d+ errors?\b",
        "=========== 3 failed, 12 passed in 1.20s ===========",
        _REPORT,
        version=2,
    ),
    Rule(
        "build-step",
        "code_bug",
        r"^FAILED: \S|\bcollect2: error: |^error: could not compile `|\bBUILD FAIL(?:URE|ED)\b|"
        r"^ERROR: \S+/BUILD(?:\.bazel)?:\d+:\d+: |^> Task :\S+ FAILED$|\bCMake build failed\b",
        "FAILED: CMakeFiles/serve.dir/main.cpp.o",
        _REPORT,
        case=True,
    ),
    Rule(
        "time-limit-status",
        "timeout",
        r"\b(?:exited|exit (?:code|status):?|returning|returned)(?: with)? 124(?=$|[.,;:)])",
        "the command exited with 124",
        _REPORT,
    ),
    # -- anything that calls itself an error
    Rule(
        "python-exception",
        "unknown",
        r"^(?:[a-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception|Interrupt|Warning|Exit)(?::|$)",
        "RuntimeError: Engine core initialization failed. See root cause above.",
        _HINT,
        case=True,
    ),
    Rule(
        "error-line",
        "unknown",
        r"##\[error\]|^\W*(?:error|fatal|critical|panic)\b|\b(?:error|fatal|critical)\b\]?\s?:|\bERROR\b|"
        r"\bfailed\b|\bfailure\b|\bFAIL\b|\baborting\b|\bdid not pass\b",
        "fatal: the endpoint went away",
        _HINT,
        version=2,
    ),
)
"""In order: of two of one strength that match one line the earlier decides."""
