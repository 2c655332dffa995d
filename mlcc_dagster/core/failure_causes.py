"""The rules on lines that name the cause of a failure: these decide over everything else that a log says.

Belongs here: data. Not here: what follows from a cause (`failure_symptoms.py`), how rules are applied (`failures.py`).
"""

from mlcc_dagster.core.failure_rules import Rule

CAUSES: tuple[Rule, ...] = (
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
)
"""In order: of two that match one line the earlier decides."""
