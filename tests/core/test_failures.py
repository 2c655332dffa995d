"""Failure classification: the compatible rules, the rules of `v1` one by one, real logs, and when a retry is due."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.failure_rules import COMPAT_RULES, RULES, Strength
from mlcc_dagster.core.failures import CATEGORIES, Compat, classify, deciding_rule, known, retry_due, window

REAL_LOGS = Path(__file__).parents[3] / "shared" / "realdata" / "ci_failure_logs"
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


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_every_rule_decides_its_example(rule):
    assert deciding_rule(rule.example) is rule
    reading = classify("deploy", f"starting\n{rule.example}\nbye")
    assert (reading.line, reading.category) == (rule.example, rule.category)
    assert reading.rule == f"v1/{rule.id}@{rule.version}"
    assert reading.retryable is CATEGORIES[rule.category].retryable


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
        ("httpx.ConnectError: Connection refused\nTypeError: 'NoneType' object", "TypeError: 'NoneType' object",
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
    assert Strength.HINT < Strength.REPORT < Strength.SYMPTOM < Strength.CAUSE
    assert {rule.category for rule in RULES if rule.strength is Strength.HINT} == {"unknown"}


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
    "lint_lintrunner": "code_bug",
    "msvc_compiler_error": "code_bug",
    "pip_wheel_build_failure": "code_bug",
    "pytest_failures_section": "code_bug",
    "python_importerror_name": "code_bug",
    "test_file_timeout": "timeout",
    "uv_python_download_failed": "infrastructure",
}
"""What a person reads out of the labelled line, where one category is plainly right."""


@pytest.mark.shared
def test_real_logs_are_read_better_than_by_the_compatible_rules():
    if not REAL_LOGS.exists():
        pytest.skip(f"no real logs at {REAL_LOGS}")
    found: dict[str, set[str]] = {"v1": set(), "compat": set()}
    right: dict[str, set[str]] = {"v1": set(), "compat": set()}
    paths = sorted(REAL_LOGS.glob("*.txt"))
    for path in paths:
        log, deciding, span = labelled_log(path)
        assert deciding
        assert span
        for ruleset in found:
            reading = classify("test", log, ruleset)
            if reading.line == deciding.strip():
                found[ruleset].add(path.stem)
            if reading.category == REAL_CATEGORIES.get(path.stem):
                right[ruleset].add(path.stem)
    assert len(found["v1"]) >= 0.75 * len(paths), sorted({path.stem for path in paths} - found["v1"])
    assert right["v1"] >= set(REAL_CATEGORIES), sorted(set(REAL_CATEGORIES) - right["v1"])
    assert len(found["v1"]) > len(found["compat"])
    assert len(right["v1"]) > len(right["compat"])
