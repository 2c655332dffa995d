"""Failure classification: the compatible rules, the rules of `v1` one by one, real logs, and when a retry is due."""

import csv
import json
import re
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlcc_dagster.core.compat_failure_rules import COMPAT_RULES, COMPAT_STAGE_RULES
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.failures import (
    CATEGORIES,
    Compat,
    classify,
    known,
    retry_due,
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
