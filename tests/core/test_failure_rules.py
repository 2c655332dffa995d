"""Every rule of `v1` decides its own line and no near miss, and the strongest of a log decides it."""

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mlcc_dagster.core.failure_rules import LOCATED, STEMS, Strength
from mlcc_dagster.core.failures import (
    CATEGORIES,
    RULES,
    bare,
    classify,
    deciding_rule,
    window,
)

COMPANY = {"interrupted-by-limit": "Command took >30min, returning 124"}
"""What must stand beside the example of a rule that takes two lines."""


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_every_rule_decides_its_example(rule):
    assert deciding_rule(rule.example) is rule
    reading = classify("deploy", f"starting\n{rule.example}\nbye\n{COMPANY.get(rule.id, '')}")
    assert (reading.line, reading.category) == (rule.example, rule.category)
    assert reading.rule == f"v1/{rule.id}@{rule.version}"
    assert reading.retryable is CATEGORIES[rule.category].retryable


NEAR_MISSES = {
    "quota-exceeded": "the client handles resourceLimitExceededHandler events",
    "quota-words": "service quota is 4, in use 2",
    "instance-capacity": "capacity of the queue is 100 requests",
    "pod-pending": "2 pods are running, the queue is pending",
    "throttled": "POST /invocations HTTP/1.1 200 rate 429.7 requests/s",
    "gpu-out-of-memory": "GPU memory: 2.1 of 24.0 GiB used",
    "out-of-memory": "[ERROR] Worker (pid:12) was sent SIGKILL! Perhaps out of memory?",
    "python-memory": "tests of MemoryErrors are skipped",
    "openblas-memory": "OpenBLAS allocates memory for 8 threads",
    "cannot-allocate": "allocated 7.45 GiB for the buffer",
    "shared-object-memory": "mapped segment from shared object libx.so",
    "bad-alloc": "bad_allocation_count 3",
    "killed-for-memory": "memory limit is 512 MB, nothing was ended",
    "compiler-killed": "Signal terminated program: reload",
    "kv-cache-memory": "Available KV cache memory: 12.3 GiB",
    "compiler": "src/main.cpp:128:26: note: candidate: 'add(int)'",
    "linker": "[ 90%] Linking CXX executable serve",
    "syntax": "checking syntax of 12 files",
    "template": "rendered template do/deploy.j2",
    "package-build": "Building wheel for example (pyproject.toml): finished with status 'done'",
    "package-resolution": "Resolved 120 packages in 1.20s",
    "dockerfile": "COPY serve.py /opt/serve.py",
    "terraform": "Terraform used the selected providers to generate the following execution plan.",
    "workflow": "Download action repository 'example/setup@v4'",
    "architecture-unsupported": "main.c:3:1: error: unknown type name 'uint'",
    "lora-unsupported": "LoRA is enabled, rank 16",
    "quantization-unsupported": "quantization fp8 is used",
    "gpu-capability": "compute capability of the device is 8.6",
    "context-length": "max_model_len is 32768",
    "model-kind": "loading model shards: 100%",
    "parallel-degree": "tensor parallel size is 4, attention heads 32",
    "validation-exception": "java.lang.UnsupportedOperationException: remove",
    "region-or-api": "RuntimeError: this operation on a bool tensor is not supported",
    "credentials": "credentials found in the environment",
    "disk-full": "412 GB of space left on /dev/nvme0n1",
    "port-taken": "listening on port 8080",
    "registry": "pulling image registry.example/serve:1",
    "docker-daemon": "Docker daemon API version: '1.51'",
    "download-failed": "Downloading model.safetensors (4.2 GB)",
    "git-transport": "remote: Enumerating objects: 12, done.",
    "host-lost": "the server was shut down in order",
    "gpu-host": "NVIDIA driver version: 550.54",
    "name-resolution": "resolved host registry.example to 192.0.2.7",
    "state-lock": "Acquiring state lock. This may take a few moments...",
    "job-time-limit": "maximum execution time: 360 minutes",
    "interrupted-by-limit": "(to show a full traceback on KeyboardInterrupt use --full-trace)",
    "assertion-failed": "tests/test_api.py::test_ping PASSED",
    "connect-timeout": "connect_timeout: 5",
    "connection": "connection to 127.0.0.1 established",
    "access-denied": "access granted",
    "gateway": "GET /503 HTTP/1.1 200 OK",
    "killed": "signal handlers for 9 and 15 are installed",
    "time-limit": "default timeout: 30s for all requests",
    "sanitizer": "configured with AddressSanitizer",
    "arguments": "arguments: --model /opt/ml/model",
    "cmake": "-- CMake version 3.31",
    "lint": "src/serve.py:12: in main",
    "checks-failed": "tests/test_api.py::test_failed_login PASSED [ 10%]",
    "script-crash": "jq: command found in /usr/bin",
    "process-crash": "exited with code 0",
    "python-crash": "    except ImportError:",
    "config-invalid": "0 validation errors for the catalog",
    "command-failed": "Command ['make'] returned zero",
    "checks-summary": "=========== 12 passed in 1.20s ===========",
    "build-step": "[12/90] Building CXX object main.cpp.o",
    "time-limit-status": "returned 124 rows",
    "python-exception": "Errors: see above",
    "error-line": "mean absolute deviation 0.2",
}
"""A line beside each rule's meaning, which it must not decide."""


def test_every_rule_has_a_near_miss():
    assert set(NEAR_MISSES) == {rule.id for rule in RULES}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_near_miss_is_not_decided(rule):
    assert deciding_rule(NEAR_MISSES[rule.id], rules=[rule]) is None
    assert classify("deploy", NEAR_MISSES[rule.id]).rule != f"v1/{rule.id}@{rule.version}"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(data=st.data())
def test_no_line_that_a_rule_matches_is_passed_over_unread(rule, data: st.DataObject):
    """Whatever way through its expression a line takes, it holds a stem or begins with a place."""
    line = data.draw(
        st.from_regex(rule.pattern, alphabet=st.characters(max_codepoint=126, categories=("L", "N", "P", "S", "Zs")))
    )
    text = bare(line)
    assume("\n" not in line and rule.pattern.search(text))
    assert any(stem in text.lower() for stem in STEMS) or LOCATED.search(text)


def test_rule_ids_are_unique():
    assert len({rule.id for rule in RULES}) == len(RULES)


@pytest.mark.parametrize(
    ("line", "category", "reason"),
    [
        ("MemoryError", "oom", "an interpreter under a memory limit"),
        ("numpy._core._exceptions._ArrayMemoryError: Unable to allocate 7.45 GiB for an array", "oom", "numpy"),
        ("OSError: [Errno 12] Cannot allocate memory", "oom", "fork under a limit"),
        ("ImportError: libx.so.0: failed to map segment from shared object", "oom", "loader under a limit"),
        ("OpenBLAS error: Memory allocation still failed after 10 retries, giving up.", "oom", "threads' buffers"),
        ("terminate called after throwing an instance of 'std::bad_alloc'", "oom", "C++"),
        ("ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 1073741824", "oom", "engine"),
        ("the server was killed by signal 9 (memory limit 512 MB)", "oom", "killed for memory"),
        ("hipError_OutOfMemory (status=2)", "oom", "another vendor"),
        ("the server was killed by signal 9", "infrastructure", "killed, and nobody says for memory"),
        ("OSError: [Errno 98] error while attempting to bind on ('127.0.0.1', 80): address already in use",
         "infrastructure", "port"),
        ("port 8080 is already taken", "infrastructure", "port, in words"),
        ("OSError: [Errno 28] No space left on device: '/x'", "infrastructure", "disk"),
        ("httpx.ConnectError: [Errno 111] Connection refused", "infrastructure", "nobody listens"),
        ("ConnectionResetError: [Errno 104] Connection reset by peer", "infrastructure", "server went away"),
        ("jinja2.exceptions.TemplateSyntaxError: unexpected '}'", "code_bug", "template"),
        ("jinja2.exceptions.TemplateNotFound: app.py.j2", "code_bug", "template"),
        ("SyntaxError: invalid syntax", "code_bug", "script"),
        ("llama_model_load: error loading model: unknown model architecture: 'foo'", "model_incompatibility", "engine"),
        ("Model architectures ['X'] are not supported for now", "model_incompatibility", "engine"),
        ("stage deploy passed its own time limit", "timeout", "own limit"),
        ("Quota exceeded? No: ResourceLimitExceeded", "quota", "quota before service limitation"),
        ("RuntimeError: something nobody has seen", "unknown", "an exception without a cause decides nothing"),
    ],
)  # fmt: skip
def test_what_really_happens_is_read(line: str, category: str, reason: str):
    reading = classify("deploy", f"INFO starting\n{line}\n")
    assert (reading.category, reading.line) == (category, line), reason


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("timeout=30", "a setting"),
        ('  "timeout": 30,', "a setting in JSON"),
        ("--timeout 30", "a flag"),
        ("read_timeout: 60s", "a setting in YAML"),
        ("there is room for more", "oom inside a word"),
        ("the classroom zoomed out", "oom inside words"),
        ("oom_score_adj: 0", "a setting"),
        ("INFO vllm: memory profiling: CUDA out of memory margin is 0.9", "said as information"),
        ("WARNING CUDA out of memory, trying a smaller batch", "said as a warning"),
        ("Connection refused, retrying in 2 s", "an announced retry"),
        ("0 errors, 0 failed", "a count of nothing"),
        ("Cache timeouts                        0", "a counter"),
        ("tests/test_timeout.py::test_deadline_exceeded PASSED [ 10%]", "a finished check"),
        ("+ echo 'out of memory'", "an echoed command"),
        ("ResourceWarning: unclosed socket, connection reset", "a warning"),
        ("the template was rendered, no error", "success"),
        ("", "nothing"),
    ],
)
def test_lines_that_report_no_failure_decide_nothing(line: str, reason: str):
    reading = classify("deploy", line)
    assert (reading.category, reading.line, reading.rule) == ("unknown", None, "v1/none@1"), reason


def test_nothing_known_is_unknown_and_never_unfeasible():
    for log in ("", "hello\nworld", "RuntimeError: x", "some ERROR", "failed"):
        reading = classify("deploy", log)
        assert (reading.category, reading.retryable) == ("unknown", True)


@pytest.mark.parametrize(
    ("log", "line", "reason"),
    [
        ("CUDA out of memory\nhttpx.ConnectError: Connection refused", "CUDA out of memory",
         "the cause outweighs what it brings about"),
        ("httpx.ConnectError: Connection refused\nTypeError: 'NoneType' object", "httpx.ConnectError: Connection refused",
         "a symptom outweighs what a program raised"),
        ("TypeError: a\nKeyError: 'b'", "KeyError: 'b'", "of two raised errors the last decides"),
        ("httpx.ConnectError: Connection refused\nPermission denied", "Permission denied",
         "of two symptoms the last decides"),
        ("No space left on device\nMemoryError", "MemoryError", "of two causes the last decides"),
        ("ModuleNotFoundError: No module named 'x'\n=== 1 failed, 2 passed in 1s ===\nRuntimeError: gave up",
         "ModuleNotFoundError: No module named 'x'", "a report says less than what it reports"),
        ("RuntimeError: a\nRuntimeError: b", "RuntimeError: b", "of two hints the last is shown"),
        ("2026-06-09T14:30:22.123Z \x1b[31mMemoryError\x1b[0m\r\n", "2026-06-09T14:30:22.123Z \x1b[31mMemoryError\x1b[0m",
         "time and colour do not hide a line, which is given as it stands"),
    ],
)  # fmt: skip
def test_the_last_line_of_the_strongest_kind_decides(log: str, line: str, reason: str):
    assert classify("deploy", log).line == line, reason


@pytest.mark.parametrize(
    ("stage", "log", "line", "reason"),
    [
        ("deploy", "== stage: deploy ==\nMemoryError\n== stage: clean ==\nNo space left on device", "MemoryError",
         "what clean says is not the failure of deploy"),
        ("deploy", "== stage: build ==\nNo space left on device\n== stage: deploy ==\nMemoryError", "MemoryError",
         "neither is what came before"),
        ("test_adapter", "== stage: test-adapter ==\nMemoryError\n== stage: clean ==\nNo space left on device",
         "MemoryError", "both spellings of a stage"),
        ("deploy", "+ ./do/deploy --ci\nMemoryError\n+ ./do/clean all --force\nNo space left on device", "MemoryError",
         "scripts mark stages"),
        ("build", "MemoryError\n##[error]Process completed with exit code 1.\nNo space left on device", "MemoryError",
         "what a runner does after the failing step"),
        ("push", "No space left on device", "No space left on device", "no markers: the whole log"),
    ],
)  # fmt: skip
def test_only_the_failing_stage_is_read(stage: str, log: str, line: str, reason: str):
    assert classify(stage, log).line == line, reason


def test_the_window_keeps_every_line_of_a_log_without_markers():
    assert list(window("deploy", "a\nb\nc")) == ["a", "b", "c"]


def test_strengths_are_ordered_from_hint_to_cause():
    assert Strength.HINT < Strength.REPORT < Strength.CRASH < Strength.SYMPTOM < Strength.CAUSE
    assert {rule.category for rule in RULES if rule.strength is Strength.HINT} == {"unknown"}
