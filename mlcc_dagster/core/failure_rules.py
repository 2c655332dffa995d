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
    """How much a match says: any line that calls itself an error, a report of another failure, what a program raised, a
    symptom or a failed check that names itself, the cause.

    What a program raised is worth less than a symptom: programs print what they catch, and a check that fails names
    itself beside what it raised.
    """

    HINT = 1
    REPORT = 2
    CRASH = 3
    SYMPTOM = 4
    CAUSE = 5


@dataclass(frozen=True)
class Rule:
    """One rule of `v1`. `example` is a line that it decides; a rule whose meaning changes gets the next `version`.

    With `beside` the rule holds only in a log in which that expression matches too: a fact that takes two lines.
    """

    id: str
    category: str
    expression: str
    example: str
    strength: Strength = Strength.CAUSE
    case: bool = False
    version: int = 1
    beside: str | None = None

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """The compiled expression; case-insensitive unless `case`."""
        return re.compile(self.expression, 0 if self.case else re.IGNORECASE)

    @cached_property
    def company(self) -> re.Pattern[str] | None:
        """The compiled `beside`, case-insensitive; none where one line is enough."""
        return None if self.beside is None else re.compile(self.beside, re.IGNORECASE)


_SYMPTOM, _CRASH, _REPORT, _HINT = Strength.SYMPTOM, Strength.CRASH, Strength.REPORT, Strength.HINT

RULES: tuple[Rule, ...] = (
    # Of rules of one strength that match one line the earlier one decides it.
    # -- quota and capacity
    Rule(
        "quota-exceeded",
        "quota",
        r"\b(?:ResourceLimitExceeded|ServiceQuotaExceeded(?:Exception)?|VcpuLimitExceeded|"
        r"MaxSpotInstanceCountExceeded|LimitExceededException)\b",
        "ClientError: An error occurred (ResourceLimitExceeded) when calling CreateEndpoint: the limit is 0 Instances",
    ),
    Rule(
        "quota-words",
        "quota",
        r"\b(?:account-level service limit|exceeded (?:your |the )?(?:current )?(?:service )?quota|"
        r"(?<!disk )quota\b.{0,60}\bexceeded)\b",
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
        r"\bpods? [^,;]{0,80}\b(?:is|are|still|remained) pending\b|\bUnschedulable\b",
        "Warning  FailedScheduling  0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
    ),
    Rule(
        "throttled",
        "capacity",
        r"\bThrottl(?:ing(?:Exception)?|edException)\b|\bTooManyRequestsException\b|\bRequestLimitExceeded\b|"
        r"\bRate exceeded\b|\b429 (?:Client Error|Too Many Requests)\b|\(SlowDown\)",
        "botocore.exceptions.ClientError: An error occurred (ThrottlingException): Rate exceeded",
        version=2,
    ),
    # -- memory
    Rule(
        "gpu-out-of-memory",
        "oom",
        r"(?<![A-Za-z])OutOfMemory(?:Error)?\b|\bCUDA(?:_ERROR)?[ _]out[ _]of[ _]memory\b|"
        r"\bcudaErrorMemoryAllocation\b|\bHIP out of memory\b|\bCUBLAS_STATUS_ALLOC_FAILED\b|"
        r"\bFree memory on device\b.{0,80}\bless than desired\b",
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
        version=2,
    ),
    Rule(
        "out-of-memory",
        "oom",
        # A supervisor that only guesses ("Perhaps out of memory?") knows no more than that it killed.
        r"(?<!perhaps )(?<!possibly )(?<!maybe )\bout of (?:heap )?(?:memory|heap space)\b(?! killer)|"
        r"\bOOM[- ]?killed\b|\bOOM[- ]killer\b.{0,40}\bkilled\b|\b(?:an? )?OOM (?:error|when)\b|\boom-kill\b|"
        r"\bvirtual memory exhausted\b|\bpaging file is too small\b",
        "Last State: Terminated  Reason: OOMKilled  Exit Code: 137",
        version=2,
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
        r"\bCan(?:no|')t allocate memory\b|\bUnable to allocate [\d.]+ [KMGT]iB\b|"
        r"\bfailed to allocate\b.{0,60}\b(?:buffer|memory)\b|\b(?:memory|buffer) allocation (?:still )?failed\b|"
        r"\bENOMEM\b",
        "OSError: [Errno 12] Cannot allocate memory",
        version=2,
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
        r"\b(?:killed|signal 9|SIGKILL)\b.{0,120}(?<!out of )\bmemory\b|"
        r"\bmemory (?:limit|cgroup)\b.{0,120}\b(?:killed|kill|signal 9|SIGKILL)\b|"
        r"\bmemory limit\b.{0,60}\b(?:exceeded|passed|reached)\b",
        "server was killed by signal 9 after passing its memory limit of 512 MB",
        version=2,
    ),
    Rule(
        "compiler-killed",
        "oom",
        # Nothing but the kernel's memory killer ends a compiler behind its driver's back.
        r"\bKilled signal terminated program\b",
        "g++: fatal error: Killed signal terminated program cc1plus",
    ),
    Rule(
        "kv-cache-memory",
        "oom",
        r"\bNo available memory for the cache blocks\b|"
        r"\blarger than the (?:maximum number of tokens that can be stored|available) (?:in )?KV cache\b|"
        r"\bKV cache\b.{0,80}\blarger than\b.{0,40}\bavailable\b",
        "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`.",
    ),
    # -- sources and packages. Before the rules on models: a compiler too speaks of unknown types and architectures.
    Rule(
        "compiler",
        "code_bug",
        r"[\w)]:\d+:(?:\d+:)? (?:fatal |internal compiler )?error: |\(\d+(?:,\d+)?\)\s?: (?:fatal )?error \w+: |"
        r"^error\[E\d+\]: |:\d+:\d+ - error\b|^(?:vet: )?\S+\.go:\d+:\d+: \S|^nvcc fatal\b|^ptxas (?:fatal|error)\b",
        "src/main.cpp:128:26: error: no matching function for call to 'add'",
        version=2,
    ),
    Rule(
        "linker",
        "code_bug",
        r"\bundefined reference to\b|\berror LNK\d{4}: |\bld(?:\.\w+)?: (?:error: |cannot find -l|library not found )|"
        r"\bsymbol\(s\) not found for architecture\b",
        "main.o: in function `main': undefined reference to `serve'",
    ),
    Rule(
        "syntax",
        "code_bug",
        r"\b(?:SyntaxError|IndentationError|TabError):|\bsyntax error near unexpected token\b|\bsyntax error:",
        "SyntaxError: invalid syntax",
    ),
    Rule(
        "template",
        "code_bug",
        r"\bTemplate(?:Error|SyntaxError|NotFound|RuntimeError|AssertionError)\b|\bjinja2\.exceptions\.\w+|"
        r"\b(?:template )?rendering failed\b|\btemplate\b.{0,60}\berror:",
        "jinja2.exceptions.UndefinedError: 'model' is undefined",
    ),
    Rule(
        "package-build",
        "code_bug",
        r"\bFailed (?:to build|building) (?:editable |wheel|installable wheels)",
        "ERROR: Failed building wheel for example",
        version=2,
    ),
    Rule(
        "package-resolution",
        "code_bug",
        r"\bNo matching distribution found\b|\bResolutionImpossible\b|\bNo solution found when resolving\b|"
        r"\bunable to resolve dependency tree\b|\b(?:PackagesNotFound|Unsatisfiable|SolverProblem)Error\b|"
        r"\bResolvePackageNotFound\b|^E: Unable to locate package\b|\bfailed to select a version for\b|"
        r"\bno matching package named\b|\bno required module provides package\b|^go: .*: unknown revision\b",
        "× No solution found when resolving dependencies:",
    ),
    Rule(
        "dockerfile",
        "code_bug",
        r"\bdockerfile parse error\b|\bCOPY failed: |\bfailed to (?:compute|calculate) (?:cache key|checksum)\b|"
        r"\bno matching manifest for\b|\bfailed to read dockerfile\b|\bexec format error\b|"
        r"\bexecutable file not found in \$PATH\b",
        'ERROR: failed to solve: failed to compute cache key: "/serve.py": not found',
    ),
    Rule(
        "terraform",
        "code_bug",
        r"\bError: (?:Unsupported (?:argument|attribute|block type)|Invalid (?:reference|expression|block definition|"
        r"function argument|resource type|template interpolation value)|Reference to undeclared \w+|"
        r"Missing required argument|Duplicate (?:resource|variable|provider) )",
        "│ Error: Reference to undeclared resource",
    ),
    Rule(
        "workflow",
        "code_bug",
        r"\bUnable to resolve action\b|\bCan't find 'action\.ya?ml'|\bInvalid workflow file\b|"
        r"\bInput required and not supplied: |\bYAML_FILE_ERROR\b",
        "##[error]Unable to resolve action `example/setup@v9`, unable to find version `v9`",
    ),
    # -- models and services
    Rule(
        "architecture-unsupported",
        "model_incompatibility",
        r"\b(?:model )?architectures?\b.{0,100}\b(?:not supported|unsupported|not recogni[sz]ed|incompatible)\b|"
        r"\b(?:unsupported|unknown|unrecogni[sz]ed) (?:architecture|model (?:architecture|type))\b|"
        r"\bdoes not recogni[sz]e this architecture\b|\bmodel type\b.{0,60}\b(?:not supported|unsupported)\b",
        "ValueError: Model architectures ['FooForCausalLM'] are not supported for now.",
        version=2,
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
        "gpu-capability",
        "model_incompatibility",
        r"\bonly supported on GPUs with compute capability\b|\bno kernel image is available for execution\b",
        "ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0.",
    ),
    Rule(
        "context-length",
        "model_incompatibility",
        r"\bmax_model_len\b.{0,40}\bgreater than the derived max_model_len\b",
        "ValueError: User-specified max_model_len (65536) is greater than the derived max_model_len (32768)",
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
        # With a dot before it, UnsupportedOperation is an exception of Java or of Python's files.
        r"\b(?:ValidationException|OptInRequired|InvalidParameterCombination)\b|"
        r"(?<![\w.])UnsupportedOperation(?:Exception)?\b",
        "botocore.exceptions.ClientError: An error occurred (ValidationException) when calling CreateModel",
        version=2,
    ),
    Rule(
        "region-or-api",
        "service_limitation",
        r"\b(?:not (?:available|supported|offered)|unavailable)\b.{0,40}\bin (?:this|the|your) (?:\w+ )?region\b|"
        r"\bnot (?:available|supported)\b.{0,20}\bregion\b|\binstance type\b.{0,60}\bnot supported\b|"
        r"\bAPI\b.{0,60}\bis not (?:available|supported)\b|"
        r"\boperation\b.{0,60}\bis not (?:available|supported) (?:in|for|by|on) (?:this|the|your) "
        r"(?:region|account|service|endpoint|partition)\b",
        "Instance type ml.p5.48xlarge is not available in this region",
        version=2,
    ),
    # -- machines and networks, where the line names the cause
    Rule(
        "credentials",
        "infrastructure",
        r"\b(?:ExpiredToken(?:Exception)?|InvalidClientTokenId|UnrecognizedClientException|NoCredentialsError|"
        r"GatedRepoError)\b|\bgated repo\b|"
        r"\b(?:unable to locate|could not (?:load|find)) credentials\b|\btoken\b.{0,40}\b(?:has |is )?expired\b|"
        r"\b401 (?:Client Error|Unauthorized)\b|\bno basic auth credentials\b|\bBad credentials\b|"
        r"\bAuthentication failed for\b|\bcould not read Username\b|\bPermission denied \(publickey\b",
        "botocore.exceptions.NoCredentialsError: Unable to locate credentials",
        version=2,
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
        r"\bmanifest unknown\b|\bpull access denied\b|\b(?:ErrImagePull|ImagePullBackOff|CannotPullContainerError)\b|"
        r"\btoomanyrequests\b|\berror pulling image\b|\bfailed to resolve source metadata\b|"
        r"\brequested access to the resource is denied\b|\bname unknown: ",
        "Error response from daemon: manifest for repository:tag not found: manifest unknown: manifest unknown",
        version=2,
    ),
    Rule(
        "docker-daemon",
        "infrastructure",
        r"\bCannot connect to the Docker daemon\b|\berror during connect: .{0,200}\bdocker",
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
    ),
    Rule(
        "download-failed",
        "infrastructure",
        r"\b(?:failed|unable) to (?:download|fetch|pull|clone)\b|\berror while (?:fetching|downloading)\b|"
        r"\bdownload\b.{0,40}\bfailed\b|\bHash Sum mismatch\b|\bCondaHTTPError\b|\bLocalEntryNotFoundError\b|"
        r"\bcouldn't connect to 'https?://|\bConsistency check failed: file should be of size\b",
        "error: Failed to download archive after 3 attempts",
        version=2,
    ),
    Rule(
        "git-transport",
        "infrastructure",
        r"\bfatal: unable to access '|\bRPC failed; |\bremote end hung up unexpectedly\b|\bfetch-pack: unexpected disconnect\b|"
        r"\bCould not read from remote repository\b",
        "fatal: the remote end hung up unexpectedly",
    ),
    Rule(
        "host-lost",
        "infrastructure",
        r"\breceived a shutdown signal\b|\blost communication with the server\b|"
        r"\bspot (?:instance )?interruption\b|\bhost terminated\b|\bNode\b.{0,20}\bNotReady\b|"
        r"\bNCCL error: unhandled system error\b|\bhosted runner encountered an error\b",
        "The runner has received a shutdown signal.",
        version=2,
    ),
    Rule(
        "gpu-host",
        "infrastructure",
        r"\bNVRM: Xid\b|\buncorrectable (?:NVLink|ECC) error\b|\bcouldn't communicate with the NVIDIA driver\b|"
        r"\bFailed to initialize NVML\b|\bNo CUDA GPUs are available\b|\bcould not select device driver\b|"
        r"\bCUDA driver version is insufficient\b",
        "RuntimeError: No CUDA GPUs are available",
    ),
    Rule(
        "name-resolution",
        "infrastructure",
        r"\b(?:Temporary failure in name resolution|Name or service not known|Could not resolve host|"
        r"nodename nor servname|no such host|ENOTFOUND|EAI_AGAIN)\b|"
        r"\b(?:Network is unreachable|No route to host)\b|\bSSLError\b|\bCERTIFICATE_VERIFY_FAILED\b|"
        r"\bTLS handshake (?:error|timeout|failed)\b|\bx509: certificate\b",
        "curl: (6) Could not resolve host: registry.example",
        version=2,
    ),
    Rule(
        "state-lock",
        "infrastructure",
        r"\bError acquiring the state lock\b|\bCould not get lock /var/lib/\b",
        "│ Error: Error acquiring the state lock",
    ),
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
"""The rules of `v1`."""

# fmt: off
STEMS: tuple[str, ...] = (
    " › ", "!!!", ".go:", "124", "[-w", "___", "abort", "alloc", "available", "broken", "can't", "cancel",
    "cannot find", "cannot load", "cannot serve", "capacity", "command", "compatible", "connect", "could not",
    "couldn't", "crash", "credential", "critical", "curl", "denied", "did not", "dirty", "divisible",
    "does not", "eaddrinuse", "eai_again", "enomem", "enospc", "enotfound", "epipe", "error", "exceed",
    "exception", "exit", "expired", "fail", "fatal", "forbidden", "formatted", "gated", "gateway",
    "greater than", "heap space", "hung up", "in use", "incompleteread", "input required", "insufficient",
    "interrupt", "invalid", "kill", "larger than", "limit", "lint", "lost", "memory", "mismatch",
    "name or service", "no language", "no matching", "no required", "no space", "no such", "nodename",
    "not found", "not ok", "notready", "oom", "optinrequired", "panic", "pending", "pull", "read-only",
    "recogni", "reformat", "refused", "region", "regression", "reset", "route", "schedul", "segment", "sigabrt",
    "sigbus", "sigill", "signal", "sigsegv", "slowdown", "solution", "supported", "taken", "terminated",
    "throttl", "timed", "timeout", "timing", "too many", "too small", "unable to", "unauthorized", "unbound",
    "undefined", "unknown", "unreachable", "warning", "x509", "xid",
)
# fmt: on
"""What a line must hold, one of them in small letters, to be matched with the rules at all: reading a log of millions of
lines takes minutes otherwise. A new rule may need a new stem."""

LOCATED = re.compile(r"^\S+\.\w+:\d+:")
"""A line that begins with a place in a source file is matched with the rules too, whatever it holds."""

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
        # What a shell echoes before it runs it (a bar of pluses is no echo), and what an echoed script would print.
        r"^\s*\+{1,6} ",
        r"^\s*(?:echo|printf|die|logger)\b",
        # Source lines of a traceback: what would be caught, raised or expected.
        r"^\s*(?:except|raise|assert|catch|throw|if|elif|with|warn|return)\b.*[:({\[,;)]$",
        # Advice, not an event.
        r"(?i)\b(?:to avoid|to prevent|in case of|in order to|if (?:you|it|there|this|any)|when you|may cause|can cause|"
        r"might cause)\b.{0,60}\b(?:out of memory|oom|tim(?:es?|ed)[ -]?out)\b",
        # Counters, and reports of success.
        r"(?i)\b(?:0|no) (?:errors?|failures?|failed|timeouts?)\b",
        r"(?i)^[\w /()+-]*\b(?:errors?|timeouts?|failures?)(?: \(\S+\))?\s+\d+$",
        r"(?:\bPASSED\b|\bPASS\b|\bok\b|\bSKIPPED\b|\bXFAIL\b)(?:\s*\[[^\]]*\])*\s*$",
        # Side tasks: reports, telemetry and compiler caches may fail without failing the stage.
        r"(?i)\b(?:upload|publish|send)\w*\b.{0,40}\b(?:reports?|artifacts?|telemetry|statistics|stats|metrics)\b",
        r"(?i)\b(?:cache|storage) (?:read|write|check)\b|\bs?ccache\b",
        # What every failing step says, whatever its cause.
        r"(?i)\bto show a full traceback\b|\bprocess completed with exit code\b|\bstep script exited with code\b",
        r"(?i)\bcontainer implementation failed\b|\bcommand did not exit successfully\b",
        r"(?i)\bphase complete: \w+ state: failed\b|\bif your build fails\b",
        r"(?i)^\W*(?:make(?:\[\d+\])?: \*\*\*|npm (?:ERR!|error) (?:code|A complete log)|ninja: build stopped)",
        r"(?i)\b(?:continue-on-error|fail-fast|error-handling|if-no-files-found|ignore-errors?|on-error)\b",
    )
)
"""Lines that report no failure, matched on the bare line (no time, no colour). They decide nothing, not even as a
hint."""

DECORATION = re.compile(
    r"\x1b\[[0-9;?]*[A-Za-z]|^\ufeff|^#\d+ \d+\.\d+ |^E {3,}(?=\S)|^\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|"
    r"[+-]\d\d:?\d\d)?\]?[ \t]?|^\[Container\] \S+ \S+ "
)
"""What stands before or around the words of a line: colour, byte order mark, time, step of an image build, the mark of
pytest before what a check raised."""

CHAIN_LINK = re.compile(r"^\s*(?:Caused by:|[├╰]─▶)")
"""A further cause in the chain of an error."""

CHAIN_HEAD = re.compile(r"^\S|^\s*× ")
"""A line at which a chain of causes can begin: not indented, or marked as the head."""

STACK_FRAME = re.compile(r"^\s+(?:at \S|\.\.\. \d+ more\b|File \")")
"""A line of a stack trace, whose causes are not told from the top."""

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
