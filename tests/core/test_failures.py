"""Failure classification: the compatible rules, the rules of `v1` one by one, real logs, and when a retry is due."""

import csv
import json
import re
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mlcc_dagster.core.compat_failure_rules import COMPAT_RULES, COMPAT_STAGE_RULES
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.failure_rules import LOCATED, STEMS, Strength
from mlcc_dagster.core.failures import (
    CATEGORIES,
    RULES,
    Compat,
    bare,
    classify,
    deciding_rule,
    known,
    retry_due,
    window,
)

SHARED = Path(__file__).parents[3] / "shared"
REAL_LOGS = SHARED / "realdata" / "ci_failure_logs"
DATA = SHARED / "data"
NOW = datetime(2026, 6, 9, 12, tzinfo=UTC)


# ---- categories


def test_the_categories_are_the_documented_ones_and_each_says_what_to_do():
    retryable = {name for name, category in CATEGORIES.items() if category.retryable}
    assert retryable == {"capacity", "timeout", "infrastructure", "unknown"}
    assert set(CATEGORIES) - retryable == {
        "oom",
        "code_bug",
        "model_incompatibility",
        "service_limitation",
        "quota",
        "preflight",
    }
    assert all(category.action and category.next_step.endswith(".") for category in CATEGORIES.values())
    assert all((category.wait is not None) == category.retryable for category in CATEGORIES.values())


@pytest.mark.parametrize(
    ("category", "attempt", "minutes", "reason"),
    [
        ("capacity", 1, 60, "one hour"),
        ("capacity", 2, 60, "one hour again"),
        ("capacity", 3, None, "attempts used up: parked"),
        ("infrastructure", 1, 5, "backoff begins"),
        ("infrastructure", 2, 20, "and grows"),
        ("infrastructure", 3, None, "parked"),
        ("timeout", 1, 10, "soon, with a longer limit"),
        ("unknown", 1, 60, "once"),
        ("unknown", 2, None, "a person looks"),
        ("oom", 1, None, "not retryable"),
        ("quota", 1, None, "until the quota changes"),
        ("code_bug", 1, None, "until fixed"),
        ("preflight", 1, None, "refuted by what is declared, not by what was tried"),
    ],
)
def test_a_retry_is_due_by_category_and_attempt(category: str, attempt: int, minutes: int | None, reason: str):
    expected = None if minutes is None else NOW + timedelta(minutes=minutes)
    assert retry_due(category, attempt, NOW) == expected, reason


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(UsageError, match="unknown failure category 'bad'; use one of capacity"):
        retry_due("bad", 1, NOW)
    with pytest.raises(UsageError, match="unknown failure category 'bad'"):
        known("deploy", "bad", None)
    with pytest.raises(UsageError, match="unknown ruleset 'v9'; use one of compat, v1"):
        classify("deploy", "x", "v9")
    with pytest.raises(ValueError, match="count from 1"):
        retry_due("oom", 0, NOW)


def test_a_known_cause_needs_no_log():
    reading = known("deploy", "timeout", "stage deploy passed its own time limit")
    assert (reading.category, reading.retryable, reading.rule) == ("timeout", True, "known/timeout@1")


# ---- compat

COMPAT_FIXTURES = [
    (1, "capacity", "An error occurred (InsufficientInstanceCapacity)"),
    (2, "capacity", "raise CapacityError"),
    (3, "capacity", "there is No Capacity"),
    (4, "timeout", "it TIMED   out"),
    (5, "timeout", "timeout=30"),
    (6, "timeout", "Deadline exceeded"),
    (7, "oom", "OutOfMemoryError"),
    (8, "oom", "a room with a view"),
    (9, "oom", "CUDA out of memory"),
    (10, "oom", "cannot allocate memory"),
    (11, "oom", "process killed: used too much memory"),
    (12, "code_bug", "template rendering: error"),
    (13, "code_bug", "SyntaxError: x"),
    (14, "code_bug", "ReferenceError: x"),
    (15, "code_bug", "TypeError: x"),
    (16, "code_bug", "script crash"),
    (17, "code_bug", "rendering failed"),
    (18, "model_incompatibility", "not supported by this model"),
    (19, "model_incompatibility", "this model is incompatible"),
    (20, "model_incompatibility", "unsupported architecture"),
    (21, "model_incompatibility", "LoRA is not supported"),
    (22, "model_incompatibility", "adapter is not compatible"),
    (23, "service_limitation", "not available in this region"),
    (24, "service_limitation", "service is not supported"),
    (25, "service_limitation", "API is not available"),
    (26, "service_limitation", "feature is not offered in that region"),
    (27, "service_limitation", "ValidationException"),
]


def test_every_compatible_rule_has_a_fixture():
    assert [rule.order for rule in COMPAT_RULES] == [order for order, _, _ in COMPAT_FIXTURES]


@pytest.mark.parametrize(("order", "category", "log"), COMPAT_FIXTURES)
def test_compat_decides_by_its_rule(order: int, category: str, log: str):
    assert COMPAT_RULES[order - 1].pattern.search(log)
    # "timeout" is also "time", no "d", no space, "out": rule 5 never gets a say, which is kept.
    deciding = 4 if order == 5 else order
    reading = classify("deploy", f"before\n{log}\nafter", "compat")
    assert (reading.rule, reading.category, reading.line) == (f"compat/{deciding}@1", category, log)


@pytest.mark.parametrize(
    ("log", "rule", "reason"),
    [
        ("CUDA out of memory\nConnection timed out", "compat/4@1", "the first rule wins, not the first line"),
        ("killed\nfor memory", "compat/default@1", "both words must stand on one line"),
        ("killed\rfor memory", "compat/default@1", "a carriage return ends a line too"),
        ("nothing to see", "compat/default@1", "no match is a code bug"),
        ("", "compat/default@1", "neither is an empty log"),
    ],
)
def test_compat_keeps_the_order_and_the_default(log: str, rule: str, reason: str):
    reading = classify("deploy", log, "compat")
    assert reading.rule == rule, reason
    if rule == "compat/default@1":
        assert (reading.category, reading.retryable, reading.line) == ("code_bug", False, None)


@pytest.mark.parametrize(
    ("log", "stage", "reason"),
    [
        ("generation of the project", "generate", "word"),
        ("running do/stage now", "stage", "script"),
        ("model-staging", "stage", "any one character between"),
        ("s3://bucket/staging", "stage", "no word bounds"),
        ("docker daemon", "build", "word"),
        ("pushing to ECR", "push", "case does not count"),
        ("CreateEndpoint", "deploy", "word"),
        ("the invocation", "test", "word"),
        ("fine-tun", "tune", "only as a whole word"),
        ("fine-tuning", "unknown", "a word bound must follow tun"),
        ("a lora", "adapter", "word"),
        ("bench", "benchmark", "word"),
        ("dynamo", "register", "word"),
        ("deleted and cleaned", "unknown", "whole words only"),
        ("clean up", "clean", "word"),
        ("benchmark of the build", "build", "the first stage in order wins"),
    ],
)
def test_compat_detects_the_stage(log: str, stage: str, reason: str):
    assert Compat().detect_stage(log) == stage, reason
    assert classify("", log, "compat").stage == stage


# ---- v1


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


# ---- logs of the kinds that builds, tests and deployments write

KINDS = [
    ("pytest with a summary", "code_bug",
     """
     ============================= test session starts ==============================
     tests/test_api.py::test_ping PASSED                                      [ 50%]
     tests/test_api.py::test_generate FAILED                                  [100%]
     =================================== FAILURES ===================================
     ________________________________ test_generate _________________________________
         def test_generate():
     >       assert answer.status_code == 200
     E       assert 500 == 200
     tests/test_api.py:12: AssertionError
     =========================== short test summary info ============================
     >>FAILED tests/test_api.py::test_generate - assert 500 == 200
     ========================= 1 failed, 1 passed in 3.21s ==========================
     """),
    ("pytest whose check raised", "code_bug",
     """
     =================================== FAILURES ===================================
     >>______________________________ TestServe.test_load _____________________________
     Traceback (most recent call last):
       File "/src/serve.py", line 3, in load
         return table[name]
     KeyError: 'model'
     ----------------------------- Captured stderr call -----------------------------
     loading
     """),
    ("pytest that cannot collect", "code_bug",
     """
     ==================================== ERRORS ====================================
     ________________________ ERROR collecting tests/test_api.py ____________________
     E   ModuleNotFoundError: No module named 'serve'
     =========================== short test summary info ============================
     >>ERROR tests/test_api.py
     !!!!!!!!!!!!!!!!!!!! Interrupted: 1 error during collection !!!!!!!!!!!!!!!!!!!!
     =============================== 1 error in 0.12s ===============================
     """),
    ("pytest with a limit per check", "timeout",
     """
     +++++++++++++++++++++++++++++++++++ Timeout +++++++++++++++++++++++++++++++++++
     =========================== short test summary info ============================
     >>FAILED tests/test_api.py::test_slow - Failed: Timeout (>30.0s) from pytest-timeout.
     ============================== 1 failed in 30.12s ==============================
     """),
    ("pytest against a dead network", "infrastructure",
     """
     ________________________________ test_download _________________________________
     E   requests.exceptions.ConnectionError: HTTPSConnectionPool(host='models.example', port=443): Max retries exceeded
     =========================== short test summary info ============================
     >>FAILED tests/test_hub.py::test_download - requests.exceptions.ConnectionError: HTTPSConnectionPool(host='models...
     """),
    ("pytest out of GPU memory", "oom",
     """
     ________________________________ test_generate _________________________________
     >>E   torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 14.58 GiB
     ============================== 1 failed in 30.12s ==============================
     """),
    ("unittest", "code_bug",
     """
     ..F.
     ======================================================================
     >>FAIL: test_ping (test_api.TestApi)
     ----------------------------------------------------------------------
     Traceback (most recent call last):
       File "test_api.py", line 9, in test_ping
         self.assertEqual(1, 2)
     AssertionError: 1 != 2

     Ran 4 tests in 0.004s

     FAILED (failures=1)
     """),
    ("GoogleTest", "code_bug",
     """
     [ RUN      ] Cache.Evicts
     cache_test.cc:42: Failure
     Expected equality of these values:
     [  FAILED  ] Cache.Evicts (3 ms)
     [==========] 12 tests from 3 test suites ran. (51 ms total)
     [  PASSED  ] 11 tests.
     [  FAILED  ] 1 test, listed below:
     >>[  FAILED  ] Cache.Evicts
     """),
    ("CTest with a limit", "timeout",
     """
      1/2 Test #1: cache_test .......................   Passed    0.05 sec
     >> 2/2 Test #2: serve_test .......................***Timeout  60.02 sec
     50% tests passed, 1 tests failed out of 2
     Errors while running CTest
     """),
    ("go test", "code_bug",
     """
     === RUN   TestServe
         serve_test.go:12: got 500, want 200
     >>--- FAIL: TestServe (0.00s)
     FAIL
     FAIL    example.org/serve 0.012s
     """),
    ("go build", "code_bug",
     """
     # example.org/serve
     >>./main.go:12:5: undefined: listen
     """),
    ("go test that hangs", "timeout",
     """
     >>panic: test timed out after 10m0s
     goroutine 17 [running]:
     FAIL    example.org/serve 600.012s
     """),
    ("cargo build", "code_bug",
     """
        Compiling serve v0.1.0 (/src)
     >>error[E0308]: mismatched types
       --> src/main.rs:12:5
     error: could not compile `serve` (bin "serve") due to 1 previous error
     """),
    ("cargo test", "code_bug",
     """
     test cache::evicts ... ok
     >>test cache::holds ... FAILED
     thread 'cache::holds' panicked at src/cache.rs:12:5:
     test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out
     error: test failed, to rerun pass `--lib`
     """),
    ("cargo without a network", "infrastructure",
     """
     >>error: failed to get `serde` as a dependency of package `serve v0.1.0 (/src)`

     Caused by:
       failed to load source for dependency `serde`

     Caused by:
       Unable to update registry `index`

     Caused by:
       [6] Could not resolve host (Could not resolve host: index.example)
     """),
    ("npm", "code_bug",
     """
     npm error code ERESOLVE
     npm error ERESOLVE could not resolve
     >>npm error ERESOLVE unable to resolve dependency tree
     npm error A complete log of this run can be found in: /home/ci/.npm/_logs/x-debug-0.log
     """),
    ("npm without a network", "infrastructure",
     """
     npm error code ENOTFOUND
     >>npm error network request to https://packages.example/react failed, reason: getaddrinfo ENOTFOUND packages.example
     npm error A complete log of this run can be found in: /home/ci/.npm/_logs/x-debug-0.log
     """),
    ("Jest", "code_bug",
     """
     FAIL src/serve.test.js
     >>  ● serve › answers a ping
         expect(received).toBe(expected)
     Test Suites: 1 failed, 1 total
     Tests:       1 failed, 4 passed, 5 total
     """),
    ("TypeScript", "code_bug",
     """
     > tsc --noEmit
     >>src/serve.ts:12:5 - error TS2322: Type 'string' is not assignable to type 'number'.
     Found 1 error in src/serve.ts:12
     """),
    ("Java with causes and frames", "infrastructure",
     """
     Exception in thread "main" java.lang.RuntimeException: cannot start
     \tat org.example.Serve.main(Serve.java:12)
     >>Caused by: java.net.ConnectException: Connection refused
     \tat java.base/sun.nio.ch.Net.pollConnect(Native Method)
     \t... 1 more
     """),
    ("CMake", "code_bug",
     """
     -- Detecting CXX compile features - done
     >>CMake Error at CMakeLists.txt:12 (find_package):
       Could not find a package configuration file provided by "Torch"
     -- Configuring incomplete, errors occurred!
     """),
    ("linker", "code_bug",
     """
     [ 90%] Linking CXX executable serve
     >>/usr/bin/ld: main.o: in function `main': main.cpp:(.text+0x5): undefined reference to `serve()'
     collect2: error: ld returned 1 exit status
     make[2]: *** [CMakeFiles/serve.dir/build.make:97: serve] Error 1
     """),
    ("compiler killed", "oom",
     """
     [12/90] Building CUDA object csrc/attention.cu.o
     FAILED: csrc/attention.cu.o
     >>g++: fatal error: Killed signal terminated program cc1plus
     compilation terminated.
     ninja: build stopped: subcommand failed.
     """),
    ("Bazel", "code_bug",
     """
     //serve:cache_test                                                       PASSED in 0.4s
     >>//serve:serve_test                                                       FAILED in 1.2s
       /home/ci/.cache/bazel/testlogs/serve/serve_test/test.log
     Executed 2 out of 2 tests: 1 test passes and 1 fails locally.
     """),
    ("Bazel with a limit", "timeout",
     """
     >>//serve:serve_test                                                      TIMEOUT in 60.0s
     Executed 1 out of 1 test: 1 fails locally.
     """),
    ("docker build whose step fails", "code_bug",
     """
     #9 [4/7] RUN pip install -r requirements.txt
     #9 1.234 ERROR: Could not find a version that satisfies the requirement vllm==9.9 (from versions: 0.1, 0.2)
     >>#9 1.301 ERROR: No matching distribution found for vllm==9.9
     #9 ERROR: process "/bin/sh -c pip install -r requirements.txt" did not complete successfully: exit code: 1
     ERROR: failed to solve: process "/bin/sh -c pip install -r requirements.txt" did not complete successfully: exit code: 1
     """),
    ("docker build without a base", "infrastructure",
     """
     #3 ERROR: failed to do request: Head "https://images.example/v2/cuda/manifests/12.8"
     >>ERROR: failed to solve: images.example/cuda:12.8: failed to resolve source metadata for images.example/cuda:12.8
     """),
    ("docker build on a full disk", "infrastructure",
     """
     >>#14 221.3 OSError: [Errno 28] No space left on device: '/usr/local/lib/python3.12/site-packages/torch'
     ERROR: failed to solve: process "/bin/sh -c pip install torch" did not complete successfully: exit code: 1
     """),
    ("docker push", "infrastructure",
     """
     The push refers to repository [images.example/serve]
     >>denied: requested access to the resource is denied
     """),
    ("uv cannot resolve", "code_bug",
     """
     >>  × No solution found when resolving dependencies:
       ╰─▶ Because only vllm<=0.11 is available and you require vllm==9.9, we can conclude that your requirements are
           unsatisfiable.
     """),
    ("uv with a chain of causes", "infrastructure",
     """
     >>error: Failed to fetch: `https://wheels.example/torch.whl`
       Caused by: error sending request for url (https://wheels.example/torch.whl)
       Caused by: client error (Connect)
       Caused by: tcp connect error: Connection refused (os error 111)
     + RC=2
     """),
    ("pip against a stalled mirror", "infrastructure",
     """
     >>pip._vendor.urllib3.exceptions.ReadTimeoutError: HTTPSConnectionPool(host='wheels.example', port=443): Read timed out.
     """),
    ("download of a gated model", "infrastructure",
     """
     OSError: You are trying to access a gated repo.
     >>huggingface_hub.errors.GatedRepoError: 401 Client Error. (Request ID: Root=1-6)
     """),
    ("download that is throttled", "capacity",
     """
     >>huggingface_hub.errors.HfHubHTTPError: 429 Client Error: Too Many Requests for url: https://models.example/config.json
     """),
    ("download without a hub", "infrastructure",
     """
     >>OSError: We couldn't connect to 'https://models.example' to load the files, and couldn't find them in the cache.
     """),
    ("vLLM out of memory", "oom",
     """
     INFO 09-01 12:00:00 [gpu_model_runner.py:1] Loading model weights took 14.2 GB
     (EngineCore_0 pid=71) ERROR 09-01 12:00:09 [core.py:700] EngineCore failed to start.
     >>(EngineCore_0 pid=71) ERROR 09-01 12:00:09 [core.py:700] torch.OutOfMemoryError: CUDA out of memory. Tried 1 GiB.
     (APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
     """),
    ("vLLM and an unknown architecture", "model_incompatibility",
     """
     >>ValueError: Model architectures ['FooForCausalLM'] are not supported for now. Supported architectures: ['Llama']
     RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
     """),
    ("vLLM and an unknown flag", "code_bug",
     """
     usage: vllm serve [model_tag] [options]
     >>vllm: error: unrecognized arguments: --max-batch 4
     """),
    ("vLLM whose collective hangs", "timeout",
     """
     >>[rank0]: Watchdog caught collective operation timeout: WorkNCCL(SeqNum=3) ran for 600123 milliseconds before timing out.
     terminate called after throwing an instance of 'c10::DistBackendError'
     """),
    ("gunicorn that ends a slow worker", "timeout",
     """
     >>[2026-06-09 14:30:22 +0000] [7] [CRITICAL] WORKER TIMEOUT (pid:12)
     [2026-06-09 14:30:23 +0000] [7] [ERROR] worker 12 left. Perhaps out of memory?
     """),
    ("SageMaker without capacity", "capacity",
     """
     >>Failed: InsufficientInstanceCapacity: Unable to provision requested ML compute capacity due to a shortage.
     sagemaker.exceptions.UnexpectedStatusException: Error hosting endpoint serve: Failed.
     """),
    ("SageMaker beyond the quota", "quota",
     """
     >>botocore.errorfactory.ResourceLimitExceeded: An error occurred (ResourceLimitExceeded) when calling CreateEndpoint
     """),
    ("SageMaker and a slow container", "timeout",
     """
     >>botocore.errorfactory.ModelError: Your invocation timed out while waiting for a response from container primary.
     """),
    ("SageMaker that waits too long", "timeout",
     """
     >>botocore.exceptions.WaiterError: Waiter EndpointInService failed: Max attempts exceeded
     """),
    ("a container that dies without a word", "unknown",
     """
     INFO waiting for the endpoint
     >>The primary container for production variant AllTraffic did not pass the ping health check.
     """),
    ("Terraform", "code_bug",
     """
     ╷
     >>│ Error: Reference to undeclared resource
     │   on main.tf line 12, in resource "aws_sagemaker_endpoint" "serve":
     ╵
     """),
    ("Terraform that waits", "timeout",
     """
     aws_sagemaker_endpoint.serve: Still creating... [30m0s elapsed]
     >>│ Error: timeout while waiting for state to become 'InService' (last state: 'Creating', timeout: 30m0s)
     """),
    ("Kubernetes and memory", "oom",
     """
     State:          Waiting
       Reason:       CrashLoopBackOff
     >>Last State:     Terminated  Reason: OOMKilled  Exit Code: 137
     """),
    ("a runner that ends a job by its limit", "timeout",
     """
     [gw0] [ 89%] PASSED tests/test_ops.py::test_add
     >>##[error]The job running on runner gpu-7 has exceeded the maximum execution time of 360 minutes.
     ##[error]The operation was canceled.
     """),
    ("a person who cancels", "infrastructure",
     """
     !!!!!!!!!!!!!!!!!!!!!!!!!!!!!! KeyboardInterrupt !!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!
     (to show a full traceback on KeyboardInterrupt use --full-trace)
     >>##[error]The operation was canceled.
     """),
    ("a command that its limit interrupts", "timeout",
     """
     >>!!!!!!!!!!!!!!!!!!!!!!!!!!!!!! KeyboardInterrupt !!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!
     /src/serve.py:142: KeyboardInterrupt
     timeout: sending signal INT to command 'pytest'
     """),
    ("git without a server", "infrastructure",
     """
     error: RPC failed; curl 56 GnuTLS recv error (-9)
     >>fatal: the remote end hung up unexpectedly
     ##[error]Process completed with exit code 128.
     """),
    ("a driver that is gone", "infrastructure",
     """
     >>Failed to initialize NVML: Driver/library version mismatch
     RuntimeError: cannot start
     """),
    ("flake8", "code_bug",
     """
     >>src/serve.py:12:5: E501 line too long (130 > 120 characters)
     1     E501 line too long (130 > 120 characters)
     """),
    ("ESLint", "code_bug",
     """
     /src/serve.js
     >>  12:5  error  'port' is not defined  no-undef
     ✖ 1 problem (1 error, 0 warnings)
     """),
    ("pre-commit", "code_bug",
     """
     trim trailing whitespace.................................................Passed
     >>ruff.....................................................................Failed
     - hook id: ruff
     - exit code: 1
     """),
    ("a crash of the interpreter", "code_bug",
     """
     >>Fatal Python error: Segmentation fault
     Current thread 0x00007f (most recent call first):
       File "/src/serve.py", line 12 in load
     """),
    ("a kernel that reads elsewhere", "code_bug",
     """
     >>operator returned cudaErrorIllegalAddress at kernel.cu:120
     aborting
     """),
    ("a script without its tool", "code_bug",
     """
     + ./do/push
     >>/bin/sh: 1: aws: not found
     """),
    ("advice and settings only", "unknown",
     """
     read_timeout: 60s
     To avoid out of memory errors, lower the batch size
     the zoom level and the room are fine
     >>the endpoint failed
     """),
]  # fmt: skip
"""(kind, category, log): the deciding line is marked by `>>`. Written for these tests after the tools' own formats."""


@pytest.mark.parametrize(("kind", "category", "log"), KINDS, ids=[kind for kind, _, _ in KINDS])
def test_a_log_of_each_kind_is_read(kind: str, category: str, log: str):
    lines = [line.removeprefix("     ") for line in log.strip("\n").splitlines()]
    (deciding,) = (line.removeprefix(">>") for line in lines if line.startswith(">>"))
    reading = classify("test", "\n".join(line.removeprefix(">>") for line in lines))
    assert (reading.category, reading.line) == (category, deciding.strip())


def test_an_interruption_is_a_time_limit_only_where_a_limit_is_told():
    bar = "!!!!!!!!!! KeyboardInterrupt !!!!!!!!!!"
    assert classify("test", bar).category == "infrastructure"
    assert classify("test", f"{bar}\nCommand took >30min, returning 124").category == "timeout"


def test_a_chain_of_causes_is_told_by_its_first_line_and_decided_by_its_strongest():
    chain = (
        "error: cannot install\n  Caused by: something\n  Caused by: Connection refused\n  Caused by: No route to host"
    )
    reading = classify("build", f"Permission denied\n{chain}\nbye")
    assert (reading.category, reading.rule.split("@")[0], reading.line) == (
        "infrastructure", "v1/name-resolution", "error: cannot install",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("log", "stage", "reason"),
    [
        ("== stage: deploy ==\nMemoryError\n== stage: clean ==\nbye", "deploy", "clean runs after every failure"),
        ("== stage: build ==\nok\n== stage: push ==\nNo space left on device", "push", "the last marked"),
        ("+ ./do/test-adapter\nMemoryError", "test_adapter", "by its name here"),
        ("== stage: clean ==\nNo space left on device", "clean", "clean alone"),
        ("[Container] 2026/06/09 14:30:22 Entering phase BUILD\nMemoryError", "build", "phase of a build service"),
        ("building\nMemoryError when calling the endpoint", "deploy", "no marker: what the deciding line is about"),
        ("docker build\nMemoryError", "unknown", "words anywhere else say nothing"),
        ("", "unknown", "nothing"),
    ],
)
def test_a_stage_that_is_not_given_is_read_from_the_markers(log: str, stage: str, reason: str):
    assert classify("", log).stage == stage, reason


# ---- real logs


def labelled_log(path: Path) -> tuple[str, str, str]:
    """Return a real log without its labels, the line that explains it, and the telling part of that line."""
    lines, deciding, span = [], "", ""
    for line in path.read_text("utf-8-sig").splitlines():
        if line.startswith("#=SOURCE=#"):
            continue
        if line.startswith("#=MATCH=# "):
            line = line.removeprefix("#=MATCH=# ")
            span = "".join(re.findall("‹(.*?)›", line))
            line = deciding = line.replace("‹", "").replace("›", "")
        lines.append(line)
    return "\n".join(lines), deciding, span


REAL_CATEGORIES = {
    "action_archive_download_failure": "infrastructure",
    "aws_credentials_load_failure": "infrastructure",
    "collection_assertionerror": "code_bug",
    "compile_error": "code_bug",
    "dirty_checkout": "code_bug",
    "docker_manifest_unknown": "infrastructure",
    "gha_cancellation_shutdown": "infrastructure",
    "gha_operation_canceled": "infrastructure",
    "ghstack_cherry_pick": "code_bug",
    # Nothing but its author can mend it; the line alone does not show that to a rule, which may say unknown.
    "ghstack_out_of_sync": "code_bug",
    "inductor_graph_breaks": "code_bug",
    "lint_lintrunner": "code_bug",
    "msvc_compiler_error": "code_bug",
    "pip_wheel_build_failure": "code_bug",
    "pr_time_benchmarks_regression": "code_bug",
    "pytest_failures_section": "code_bug",
    "python_importerror_name": "code_bug",
    # Interrupted after 30 minutes by the limit of its wrapper.
    "python_test_keyboardinterrupt": "timeout",
    "test_file_failed_wrapper": "code_bug",
    "test_file_timeout": "timeout",
    "uv_python_download_failed": "infrastructure",
}
"""What a person reads out of each log, in the words of the categories."""


@pytest.mark.shared
def test_real_logs_are_read_right_and_better_than_by_the_compatible_rules():
    if not REAL_LOGS.exists():
        pytest.skip(f"no real logs at {REAL_LOGS}")
    paths = sorted(REAL_LOGS.glob("*.txt"))
    found: dict[str, set[str]] = {"v1": set(), "compat": set()}
    read: dict[str, dict[str, str]] = {"v1": {}, "compat": {}}
    for path in paths:
        log, deciding, span = labelled_log(path)
        assert deciding
        assert span
        for ruleset in found:
            reading = classify("test", log, ruleset)
            read[ruleset][path.stem] = reading.category
            if reading.line == deciding.strip():
                found[ruleset].add(path.stem)
    right = {ruleset: {name for name, said in readings.items() if said == REAL_CATEGORIES[name]}
             for ruleset, readings in read.items()}  # fmt: skip
    said, true = Counter(read["v1"].values()), Counter(REAL_CATEGORIES[path.stem] for path in paths)
    hits = Counter(REAL_CATEGORIES[name] for name in right["v1"])
    sys.stdout.write(f"deciding line {len(found['v1'])}/{len(paths)}, category {len(right['v1'])}/{len(paths)}\n")
    for category in sorted(said | true):
        sys.stdout.write(
            f"{category}: precision {hits[category]}/{said[category]}, recall {hits[category]}/{true[category]}\n"
        )
    assert len(found["v1"]) >= 0.9 * len(paths), sorted({path.stem for path in paths} - found["v1"])
    for category, told in read["v1"].items():
        assert told not in {"timeout", "oom"} or told == REAL_CATEGORIES[category], f"{category} is no {told}"
    for category in true:
        assert hits[category] == said[category], f"a false {category}"
        assert hits[category] >= 0.9 * true[category], f"a missed {category}"
    assert len(found["v1"]) > len(found["compat"])
    assert len(right["v1"]) > len(right["compat"])


# ---- compat against its published form

ANYTHING = r"[^\n\r\u2028\u2029]*"


def published(name: str) -> Path:
    if not (DATA / name).exists():
        pytest.skip(f"no {name} at {DATA}")
    return DATA / name


def stage_and_text(recorded: str | dict[str, str] | None) -> tuple[str, str]:
    """Return the stage and the text of a recorded failure: a log, nothing, or a record with either."""
    if not isinstance(recorded, dict):
        return "", recorded or ""
    said = recorded.get("error") or recorded.get("message") or json.dumps(recorded)
    return recorded.get("stage", ""), said


@pytest.mark.shared
def test_compat_answers_the_recorded_logs_as_recorded():
    recorded = json.loads(published("golden_path_prover.json").read_text("utf-8"))["classify"]
    assert recorded
    for case in recorded:
        reading = classify(*stage_and_text(case["input"]), "compat")
        answer = {"stage": reading.stage, "category": reading.category, "retryable": reading.retryable}
        assert answer == case["result"], case["input"]


@pytest.mark.shared
def test_compat_has_the_published_rules_in_their_order():
    with published("failure_rules.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [rule.order for rule in COMPAT_RULES] == [int(row["order"]) for row in rows]
    for rule, row in zip(COMPAT_RULES, rows, strict=True):
        assert rule.category == row["category"]
        assert str(CATEGORIES[rule.category].retryable) == row["retryable"]
        kind, first, second = row["match_kind(case-insensitive)"], row["text_a"], row["text_b"]
        if kind.startswith("time + optional letter d"):
            expected = r"timed?\s*out"
        elif kind == "contains":
            expected = first
        else:  # one text, then another on the same line; ".." stands for anything within a text
            expected = f"{first}{ANYTHING}{second.replace(' .. ', ANYTHING)}"
        assert rule.pattern.pattern == expected, row
        assert rule.pattern.flags & re.IGNORECASE


@pytest.mark.shared
def test_compat_has_the_published_stages_in_their_order():
    with published("stage_rules.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [stage for stage, _ in COMPAT_STAGE_RULES] == [row["stage"] for row in rows]
    for (stage, pattern), row in zip(COMPAT_STAGE_RULES, rows, strict=True):
        if row["match_kind(case-insensitive)"] == "word":
            # "a|b (+c in one place only)" is a, b and c; "a|b; c / d only when ..." is a, b, c and d
            terms = re.sub(r" \(\+(\w+) in .*", r"|\1", row["terms"])
            words = re.sub(r" only when .*", "", terms).replace("; ", "|").replace(" / ", "|")
            assert pattern.pattern == rf"\b(?:{words})\b", stage
    assert [row["stage"] for row in rows if row["match_kind(case-insensitive)"] != "word"] == ["stage"]
