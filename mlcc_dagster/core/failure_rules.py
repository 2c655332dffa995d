"""The rules by which logs of failing stages are read: the data of the rulesets `compat` and `v1`.

Belongs here: rules, noise, markers. Not here: how they are applied (`failures.py`). Every rule of `v1` carries a line
that it must match, so that a new rule brings its own fixture.
"""

import re
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

# ---- compat: the ordered rules and the stage detection of existing installations, kept as they are.


@dataclass(frozen=True)
class CompatRule:
    """A rule of `compat`: its place in the order, its category, what is searched for (case-insensitive, within a
    line)."""

    order: int
    category: str
    pattern: re.Pattern[str]


def _compat(expression: str) -> re.Pattern[str]:
    # A line of the original ends at a lone carriage return too, and its words are ASCII words.
    return re.compile(expression.replace("..", r"[^\n\r\u2028\u2029]*"), re.IGNORECASE | re.ASCII)


_COMPAT: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("capacity", ("InsufficientInstanceCapacity", "CapacityError", "no capacity")),
    ("timeout", (r"timed?\s*out", "timeout", "deadline exceeded")),
    ("oom", ("OutOfMemory", "OOM", "CUDA out of memory", "Cannot allocate memory", "killed..memory")),
    ("code_bug", ("template..error", "SyntaxError", "ReferenceError", "TypeError", "script crash", "rendering failed")),
    ("model_incompatibility", ("not supported..model", "model..incompatible", "unsupported..architecture")),
    ("model_incompatibility", ("LoRA..not supported", "adapter..not compatible")),
    ("service_limitation", ("not available..region", "service..not supported", "API..not available")),
    ("service_limitation", ("feature..not..region", "ValidationException")),
)
COMPAT_RULES: tuple[CompatRule, ...] = tuple(
    CompatRule(order, category, _compat(expression))
    for order, (category, expression) in enumerate(
        ((category, expression) for category, expressions in _COMPAT for expression in expressions), start=1
    )
)
"""The order is the rule: the first one that matches anywhere decides. `..` stands for anything on the same line."""

COMPAT_STAGE_RULES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("generate", _compat(r"\b(?:generate|generation)\b")),
    ("stage", _compat(r"\bdo/stage\b|model[^\n\r]staging|pre-stage|s3..stag")),
    ("build", _compat(r"\b(?:build|docker)\b")),
    ("push", _compat(r"\b(?:push|ecr|registry)\b")),
    ("deploy", _compat(r"\b(?:deploy|endpoint|CreateEndpoint|InferenceComponent)\b")),
    ("test", _compat(r"\b(?:test|invoke|invocation|inference)\b")),
    ("tune", _compat(r"\b(?:tune|customization|fine-tun|finetun)\b")),
    ("adapter", _compat(r"\b(?:adapter|lora)\b")),
    ("benchmark", _compat(r"\b(?:benchmark|bench)\b")),
    ("register", _compat(r"\b(?:register|dynamo)\b")),
    ("clean", _compat(r"\b(?:clean|delete)\b")),
)
"""Which stage a log belongs to, in order: the first whose words occur anywhere."""

# ---- v1


class Strength(IntEnum):
    """How much a match says: any error line, a report of another failure, what a cause brings about, the cause."""

    HINT = 1
    REPORT = 2
    SYMPTOM = 3
    CAUSE = 4


@dataclass(frozen=True)
class Rule:
    """One rule of `v1`. `example` is a line that it decides; a rule whose meaning changes gets the next `version`."""

    id: str
    category: str
    expression: str
    example: str
    strength: Strength = Strength.CAUSE
    case: bool = False
    version: int = 1

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """The compiled expression; case-insensitive unless `case`."""
        return re.compile(self.expression, 0 if self.case else re.IGNORECASE)


_SYMPTOM, _REPORT, _HINT = Strength.SYMPTOM, Strength.REPORT, Strength.HINT

RULES: tuple[Rule, ...] = (
    # Where two rules match one line the earlier one decides it.
    Rule(
        "quota-exceeded",
        "quota",
        r"\b(?:ResourceLimitExceeded|ServiceQuotaExceeded(?:Exception)?|VcpuLimitExceeded|"
        r"LimitExceededException)\b",
        "ClientError: An error occurred (ResourceLimitExceeded) when calling CreateEndpoint: the limit is 0 Instances",
    ),
    Rule(
        "quota-words",
        "quota",
        r"\b(?:account-level service limit|exceeded (?:your |the )?(?:current )?(?:service )?quota|"
        r"quota\b.{0,60}\bexceeded)\b",
        "The account-level service limit 'ml.p5.48xlarge for endpoint usage' is 0 Instances",
    ),
    Rule(
        "instance-capacity",
        "capacity",
        r"\b(?:Insufficient(?:Instance|Host|Reserved\w*)?Capacity(?:Error|Exception)?|CapacityError)\b|"
        r"\bunable to provision requested ML compute capacity\b|\bno capacity\b",
        "Failed: InsufficientInstanceCapacity: Unable to provision requested ML compute capacity",
    ),
    Rule(
        "pod-pending",
        "capacity",
        r"\bFailedScheduling\b|\b\d+/\d+ nodes are available\b|"
        r"\bpods? .{0,80}\b(?:is|are|still|remained) pending\b|\bUnschedulable\b",
        "Warning  FailedScheduling  0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
    ),
    Rule(
        "throttled",
        "capacity",
        r"\bThrottl(?:ing(?:Exception)?|edException)\b|\bTooManyRequestsException\b|\bRequestLimitExceeded\b|"
        r"\bRate exceeded\b",
        "botocore.exceptions.ClientError: An error occurred (ThrottlingException): Rate exceeded",
    ),
    Rule(
        "gpu-out-of-memory",
        "oom",
        r"(?<![A-Za-z])OutOfMemory(?:Error)?\b|\bCUDA(?:_ERROR)?[ _]out[ _]of[ _]memory\b|"
        r"\bcudaErrorMemoryAllocation\b|\bHIP out of memory\b",
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
    ),
    Rule(
        "out-of-memory",
        "oom",
        r"\bout of memory\b(?! killer)|\bOOM[- ]?killed\b|\bOOM[- ]killer\b.{0,40}\bkilled\b|"
        r"\b(?:an? )?OOM (?:error|when)\b|\boom-kill\b",
        "Last State: Terminated  Reason: OOMKilled  Exit Code: 137",
    ),
    Rule("python-memory", "oom", r"(?:^|[\s.:|])(?:\w*ArrayMemoryError|MemoryError)\b", "MemoryError", case=True),
    Rule(
        "openblas-memory",
        "oom",
        r"\bOpenBLAS\b.{0,80}\bMemory allocation still failed\b",
        "OpenBLAS error: Memory allocation still failed after 10 retries, giving up.",
    ),
    Rule(
        "cannot-allocate",
        "oom",
        r"\bCannot allocate memory\b|\bUnable to allocate [\d.]+ [KMGT]iB\b|"
        r"\bfailed to allocate\b.{0,60}\b(?:buffer|memory)\b|\b(?:memory|buffer) allocation (?:still )?failed\b|"
        r"\bENOMEM\b",
        "OSError: [Errno 12] Cannot allocate memory",
    ),
    Rule(
        "shared-object-memory",
        "oom",
        r"\bfailed to map segment from shared object\b",
        "ImportError: libopenblas.so: failed to map segment from shared object",
    ),
    Rule(
        "bad-alloc",
        "oom",
        r"\bstd::bad_alloc\b",
        "terminate called after throwing an instance of 'std::bad_alloc'",
    ),
    Rule(
        "killed-for-memory",
        "oom",
        r"\b(?:killed|signal 9|SIGKILL)\b.{0,120}\bmemory\b|"
        r"\bmemory (?:limit|cgroup)\b.{0,120}\b(?:killed|kill|signal 9|SIGKILL)\b|"
        r"\bmemory limit\b.{0,60}\b(?:exceeded|passed|reached)\b",
        "server was killed by signal 9 after passing its memory limit of 512 MB",
    ),
    Rule(
        "kv-cache-memory",
        "oom",
        r"\bNo available memory for the cache blocks\b|"
        r"\blarger than the (?:maximum number of tokens that can be stored|available) (?:in )?KV cache\b|"
        r"\bKV cache\b.{0,80}\blarger than\b.{0,40}\bavailable\b",
        "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`.",
    ),
    Rule(
        "architecture-unsupported",
        "model_incompatibility",
        r"\b(?:model )?architectures?\b.{0,100}\b(?:not supported|unsupported|not recogni[sz]ed|incompatible)\b|"
        r"\b(?:unsupported|unknown|unrecogni[sz]ed) (?:model )?(?:architecture|type)\b|"
        r"\bdoes not recogni[sz]e this architecture\b|\bmodel type\b.{0,60}\b(?:not supported|unsupported)\b",
        "ValueError: Model architectures ['FooForCausalLM'] are not supported for now.",
    ),
    Rule(
        "lora-unsupported",
        "model_incompatibility",
        r"\bLoRA\b.{0,80}\b(?:not (?:yet )?supported|unsupported)\b|\bdoes not support LoRA\b|"
        r"\badapter\b.{0,80}\bnot compatible\b",
        "ValueError: Model GptOssForCausalLM does not support LoRA, but LoRA is enabled.",
    ),
    Rule(
        "quantization-unsupported",
        "model_incompatibility",
        r"\bquantization\b.{0,80}\b(?:not supported|unsupported)\b|\b(?:unknown|unsupported) quantization\b",
        "ValueError: The quantization method fp8 is not supported for the current GPU. Minimum capability: 89.",
    ),
    Rule(
        "model-kind",
        "model_incompatibility",
        r"\bserves? no language models?\b|"
        r"\b(?:cannot|does not|can't) (?:serve|load) (?:a |this )?(?:language )?model\b|"
        r"\bmodel\b.{0,60}\b(?:is |are )?incompatible\b|\bmodel\b.{0,60}\bis not supported\b|"
        r"\bnot supported\b.{0,40}\bby this model\b",
        "the predictor http-flask serves no language model",
    ),
    Rule(
        "parallel-degree",
        "model_incompatibility",
        r"\battention heads\b.{0,60}\bdivisible by\b.{0,40}\btensor parallel\b",
        "ValueError: Total number of attention heads (14) must be divisible by tensor parallel size (4).",
    ),
    Rule(
        "validation-exception",
        "service_limitation",
        r"\b(?:ValidationException|UnsupportedOperation(?:Exception)?|OptInRequired|InvalidParameterCombination)\b",
        "botocore.exceptions.ClientError: An error occurred (ValidationException) when calling CreateModel",
    ),
    Rule(
        "region-or-api",
        "service_limitation",
        r"\b(?:not (?:available|supported|offered)|unavailable)\b.{0,40}\bin (?:this|the|your) (?:\w+ )?region\b|"
        r"\bnot (?:available|supported)\b.{0,20}\bregion\b|"
        r"\b(?:API|operation)\b.{0,60}\bis not (?:available|supported)\b",
        "Instance type ml.p5.48xlarge is not available in this region",
    ),
    Rule(
        "credentials",
        "infrastructure",
        r"\b(?:ExpiredToken(?:Exception)?|InvalidClientTokenId|UnrecognizedClientException|NoCredentialsError|"
        r"GatedRepoError)\b|"
        r"\b(?:unable to locate|could not (?:load|find)) credentials\b|\btoken\b.{0,40}\b(?:has |is )?expired\b|"
        r"\b401 (?:Client Error|Unauthorized)\b|\bno basic auth credentials\b",
        "botocore.exceptions.NoCredentialsError: Unable to locate credentials",
    ),
    Rule(
        "disk-full",
        "infrastructure",
        r"\bNo space left on device\b|\bdisk quota exceeded\b|\bENOSPC\b|\bRead-only file system\b",
        "OSError: [Errno 28] No space left on device",
    ),
    Rule(
        "port-taken",
        "infrastructure",
        r"\bAddress already in use\b|\bEADDRINUSE\b|"
        r"\bport\b.{0,40}\b(?:is |was )?(?:already (?:allocated|in use)|taken|in use)\b",
        "OSError: [Errno 98] Address already in use",
    ),
    Rule(
        "registry",
        "infrastructure",
        r"\bmanifest unknown\b|\bpull access denied\b|\b(?:ErrImagePull|ImagePullBackOff)\b|\btoomanyrequests\b|"
        r"\berror pulling image\b",
        "Error response from daemon: manifest for repository:tag not found: manifest unknown: manifest unknown",
    ),
    Rule(
        "download-failed",
        "infrastructure",
        r"\b(?:failed|unable) to (?:download|fetch|pull|clone)\b|\berror while (?:fetching|downloading)\b|"
        r"\bdownload\b.{0,40}\bfailed\b",
        "error: Failed to download archive after 3 attempts",
    ),
    Rule(
        "host-lost",
        "infrastructure",
        r"\breceived a shutdown signal\b|\blost communication with the server\b|"
        r"\bspot (?:instance )?interruption\b|\bhost terminated\b|\bNode\b.{0,20}\bNotReady\b|"
        r"\bNCCL error: unhandled system error\b",
        "The runner has received a shutdown signal.",
    ),
    Rule(
        "name-resolution",
        "infrastructure",
        r"\b(?:Temporary failure in name resolution|Name or service not known|Could not resolve host|"
        r"nodename nor servname)\b|"
        r"\b(?:Network is unreachable|No route to host)\b|\bSSLError\b|\bCERTIFICATE_VERIFY_FAILED\b|"
        r"\bTLS handshake (?:error|timeout|failed)\b",
        "curl: (6) Could not resolve host: registry.example",
    ),
    Rule(
        "template",
        "code_bug",
        r"\bTemplate(?:Error|SyntaxError|NotFound|RuntimeError|AssertionError)\b|\bjinja2\.exceptions\.\w+|"
        r"\b(?:template )?rendering failed\b|\btemplate\b.{0,60}\berror:",
        "jinja2.exceptions.UndefinedError: 'model' is undefined",
    ),
    Rule(
        "syntax",
        "code_bug",
        r"\b(?:SyntaxError|IndentationError|TabError):|\bsyntax error near unexpected token\b|\bsyntax error:",
        "SyntaxError: invalid syntax",
    ),
    Rule(
        "compiler",
        "code_bug",
        r"[\w)]:\d+:(?:\d+:)? (?:fatal )?error: |\(\d+(?:,\d+)?\)\s?: (?:fatal )?error \w+: |^error\[E\d+\]: |"
        r"\bundefined reference to\b",
        "src/main.cpp:128:26: error: no matching function for call to 'add'",
    ),
    Rule(
        "package-build",
        "code_bug",
        r"\bFailed (?:to build|building) (?:wheel|installable wheels)\b|\bNo matching distribution found\b|"
        r"\bResolutionImpossible\b",
        "ERROR: Failed building wheel for example",
    ),
    Rule(
        "script-crash",
        "code_bug",
        r"\bscript crash(?:ed)?\b|: command not found$|: unbound variable$|\bpanicked at\b",
        "do/deploy: line 12: jq: command not found",
        _SYMPTOM,
    ),
    Rule(
        "python-crash",
        "code_bug",
        r"(?:^|[\s.|])(?:TypeError|NameError|AttributeError|ImportError|ModuleNotFoundError|KeyError|IndexError|"
        r"AssertionError|UnboundLocalError|NotImplementedError|ZeroDivisionError|RecursionError|"
        r"ReferenceError)(?::|$)",
        "ModuleNotFoundError: No module named 'serve'",
        _SYMPTOM,
        case=True,
    ),
    Rule(
        "command-failed",
        "code_bug",
        r"\bCommand .{1,300} returned non-zero exit (?:status|code) [1-9]",
        "subprocess.CalledProcessError: Command '['make']' returned non-zero exit status 2.",
        _REPORT,
    ),
    Rule(
        "checks-failed",
        "code_bug",
        r"^FAILED \S+::|\S+::\S+ FAILED\b|(?:^|\s)FAIL: |\bREGRESSION\b|"
        r"\b(?:checkout|working tree|repository) (?:is )?dirty\b",
        "FAILED tests/test_api.py::test_ping - assert 500 == 200",
        _SYMPTOM,
        case=True,
    ),
    Rule(
        "checks-summary",
        "code_bug",
        r"^=+ .*\b\d+ (?:failed|errors?)\b.* =+$|\b\d+/\d+ failed!|^\W*\w+ failed!$",
        "=========== 3 failed, 12 passed in 1.20s ===========",
        _REPORT,
    ),
    Rule(
        "connection",
        "infrastructure",
        r"\bconnection (?:was )?(?:refused|reset|aborted|closed|broken)\b|\b(?:ECONNREFUSED|ECONNRESET|EPIPE)\b|"
        r"\bBroken pipe\b|\bConnection(?:Refused|Reset|Aborted)?Error\b|\bRemoteProtocolError\b|"
        r"\bserver disconnected\b|\bConnectError\b",
        "httpx.ConnectError: [Errno 111] Connection refused",
        _SYMPTOM,
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
        r"ServiceUnavailable(?:Exception)?|InternalServerException|InternalFailure)\b",
        "HTTPStatusError: Server error '503 Service Unavailable' for url",
        _SYMPTOM,
    ),
    Rule(
        "killed",
        "infrastructure",
        r"\bkilled by signal 9\b|\bSIGKILL\b|\bexit(?:ed)?(?: with)? (?:code|status) 137\b|"
        r"\boperation was cancell?ed\b|\bKeyboardInterrupt\b|^Killed$",
        "the server was killed by signal 9",
        _SYMPTOM,
    ),
    Rule(
        "time-limit",
        "timeout",
        r"\b(?:timed[ -]out|deadline exceeded)\b|\b\w*Timeout(?:Error|Exception|Expired)?:|"
        r"\bTimeout(?:Error|Exception|Expired)\b|\b(?:connect|read|write|pool)timeout\b|"
        r"\btimeout (?:expired|exceeded|elapsed|reached|error)\b|\btimeout: \w+\(|\bpassed its own time limit\b|"
        r"\bCommand took >\s?\d+|\bdid not (?:become|get) (?:ready|healthy) (?:within|in|after)\b",
        "httpx.ReadTimeout: timed out",
        _SYMPTOM,
    ),
    Rule(
        "time-limit-status",
        "timeout",
        r"\b(?:exited|exit (?:code|status)|returning|returned)(?: with)? 124\b",
        "the command exited with 124",
        _REPORT,
    ),
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
        r"\bfailed\b|\bfailure\b|\bFAIL\b|\baborting\b",
        "fatal: the endpoint went away",
        _HINT,
    ),
)
"""The rules of `v1`."""

NOISE: tuple[re.Pattern[str], ...] = tuple(
    re.compile(expression)
    for expression in (
        # Said at a level that is no failure. Capitals only: an event of type Warning is how a cluster reports one.
        r"^\W*(?:\S+[ \t]+){0,4}?[\[(]?(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING)\b",
        r"##\[(?:warning|debug|notice|group|endgroup|command)\]",
        r"\b\w*(?:Deprecation|Future|User|Resource|Runtime)Warning\b",
        # A retry that is announced has not failed yet.
        r"(?i)\b(?:retrying|will retry|retry(?:ing)? in|back(?:ing)? ?off \d|attempt \d+ ?(?:/|of) ?\d+)\b",
        # Settings and flags are no events: timeout=30, "timeout": 30, oom_score_adj=0.
        r"(?i)^\W*(?:export\s+)?[\"']?[\w.-]*(?:timeout|oom|memory|limit|retries|error)[\w.-]*[\"']?\s*[:=]\s*"
        r"[\"']?[-\d.]+\s?\w{0,3}[\"']?,?$",
        # What a shell echoes before it runs it.
        r"^\s*\++ ",
        # Counters, and reports of success.
        r"(?i)\b(?:0|no) (?:errors?|failures?|failed|timeouts?)\b",
        r"(?i)^[\w /()+-]*\b(?:errors?|timeouts?|failures?)(?: \(\S+\))?\s+\d+$",
        r"(?:\bPASSED\b|\bPASS\b|\bok\b|\bSKIPPED\b|\bXFAIL\b)(?:\s*\[[^\]]*\])*\s*$",
        # Side tasks: reports, telemetry and compiler caches may fail without failing the stage.
        r"(?i)\b(?:upload|publish|send)\w*\b.{0,40}\b(?:reports?|artifacts?|telemetry|statistics|stats|metrics)\b",
        r"(?i)\b(?:cache|storage) (?:read|write|check)\b|\bs?ccache\b",
        # What every failing step says, whatever its cause.
        r"(?i)\bprocess completed with exit code\b|\bstep script exited with code\b",
        r"(?i)\bcontainer implementation failed\b|\bcommand did not exit successfully\b",
        r"(?i)\bphase complete: \w+ state: failed\b|\bif your build fails\b",
        r"(?i)^\W*(?:make(?:\[\d+\])?: \*\*\*|npm ERR! (?:code|A complete log)|ninja: build stopped)",
        r"(?i)\b(?:continue-on-error|fail-fast|error-handling|if-no-files-found|ignore-errors?|on-error)\b",
    )
)
"""Lines that report no failure, matched on the bare line (no time, no colour). They decide nothing, not even as a
hint."""

DECORATION = re.compile(
    r"\x1b\[[0-9;?]*[A-Za-z]|^\ufeff|^\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|"
    r"[+-]\d\d:?\d\d)?\]?[ \t]?|^\[Container\] \S+ \S+ "
)
"""What stands before or around the words of a line: colour, byte order mark, time."""

STAGE_MARKER = re.compile(
    r"^(?:\W*(?:stage|phase|entering phase|running stage|"
    r"starting stage)\b[ :=]+['\"]?(?P<named>[a-z_-]+)['\"]?\W*$"
    r"|\+*\s*(?:bash |sh )?(?:\./)?do/(?P<script>[a-z-]+)\b)",
    re.IGNORECASE,
)
"""A line that begins a stage in a log which holds several."""

STEP_END = re.compile(
    r"(?i)\bprocess completed with exit code [1-9]|\bphase complete: \w+ state: failed\b|"
    r"\bcommand did not exit successfully\b"
)
"""The line with which a runner ends a failing step; what comes after belongs to later steps."""
