"""What a person may change of a record: known keys, sound values, all mistakes at once."""

import pytest

from catalog.loader import load_catalog
from mlcc_dagster.core.exceptions import InvalidInput
from mlcc_dagster.core.outcome import BenchmarkPlan
from mlcc_dagster.core.record_settings import (
    SETTABLE,
    RecordSettings,
    changed_settings,
    default_workload,
    workload_problem,
)
from mlcc_dagster.core.resolution import configuration_of

CATALOG = load_catalog()
MODEL = configuration_of(CATALOG.entry("rt-qwen3-4b"), CATALOG)
PREDICTOR = configuration_of(CATALOG.entry("local-flask-forest-1cpu"), CATALOG)
BEFORE = RecordSettings(BenchmarkPlan(False, "multi_turn_chat", (1, 4, 8)), "codebuild-submit", "ci")


def changed(*words: str) -> RecordSettings:
    return changed_settings(words, BEFORE, MODEL, CATALOG)


@pytest.mark.parametrize(
    ("words", "after"),
    [
        ((), BEFORE),
        (
            ("benchmarkEnabled=true",),
            RecordSettings(BenchmarkPlan(True, "multi_turn_chat", (1, 4, 8)), "codebuild-submit", "ci"),
        ),
        (
            ("benchmarkWorkload=rag_document_qa", "benchmarkConcurrencyLevels=2, 4,2"),
            RecordSettings(BenchmarkPlan(False, "rag_document_qa", (2, 4)), "codebuild-submit", "ci"),
        ),
        (
            ("buildStrategy=docker-in-docker", "tier=weekly"),
            RecordSettings(BEFORE.benchmark, "docker-in-docker", "weekly"),
        ),
        (("tier=ci", "tier=ci"), BEFORE),
    ],
)
def test_what_is_said_is_changed_and_the_rest_stays(words: tuple[str, ...], after: RecordSettings):
    assert changed(*words) == after


def test_every_key_that_can_be_set_is_one_that_is_shown():
    assert set(SETTABLE) == set(BEFORE.to_json())


WRONG = [
    ("benchmarkEnabled=yes", "benchmarkEnabled: must be true or false, not 'yes'"),
    ("benchmarkEnabled", "benchmarkEnabled: has no value; write benchmarkEnabled=VALUE"),
    ("benchmarkenabled=true", "benchmarkenabled: cannot be set; did you mean 'benchmarkEnabled'?"),
    ("testStatus=pass", "testStatus: cannot be set; "),
    ("benchmarkWorkload=chat", "benchmarkWorkload: 'chat' is not known; "),
    (
        "benchmarkWorkload=local_predict",
        "benchmarkWorkload: 'local_predict' is for a predictor and transformers-vllm serves",
    ),
    (
        "benchmarkConcurrencyLevels=",
        "benchmarkConcurrencyLevels: must be whole numbers from 1 to 1024, such as 1,4,8, not ''",
    ),
    ("benchmarkConcurrencyLevels=1,0", "benchmarkConcurrencyLevels: must be whole numbers from 1 to 1024"),
    ("benchmarkConcurrencyLevels=1,²", "benchmarkConcurrencyLevels: must be whole numbers from 1 to 1024"),
    ("benchmarkConcurrencyLevels=1025", "benchmarkConcurrencyLevels: must be whole numbers from 1 to 1024"),
    (f"benchmarkConcurrencyLevels={'9' * 5000}", "benchmarkConcurrencyLevels: must be whole numbers from 1 to 1024"),
    ("buildStrategy=by-hand", "buildStrategy: 'by-hand' is not known; use one of codebuild-submit, docker-in-docker"),
    ("tier=", "tier: '' is not known; use one of ci, nightly, weekly, local"),
]


@pytest.mark.parametrize(("word", "said"), WRONG)
def test_a_mistake_says_what_would_be_right(word: str, said: str):
    with pytest.raises(InvalidInput) as refused:
        changed(word)
    (problem,) = refused.value.problems
    assert problem.startswith(said)


def test_all_mistakes_are_reported_at_once():
    with pytest.raises(InvalidInput) as refused:
        changed(*(word for word, _ in WRONG if not word.endswith("local_predict")), "tier=ci")
    assert len(refused.value.problems) >= 8
    assert "tier: is given twice with different values; keep one" in refused.value.problems


def test_a_benchmark_that_is_switched_on_needs_something_to_measure_with():
    nothing = RecordSettings(BenchmarkPlan(False, "none", (1,)), "codebuild-submit", None)
    with pytest.raises(InvalidInput, match="benchmarkWorkload: 'none' is not known"):
        changed_settings(["benchmarkEnabled=true"], nothing, MODEL, CATALOG)


@pytest.mark.parametrize(
    ("configuration", "workload"),
    [
        (MODEL, "multi_turn_chat"),
        (PREDICTOR, "local_predict"),
        (configuration_of(CATALOG.entry("local-llamacpp-smollm2-q8-0-2cpu"), CATALOG), "local_chat"),
    ],
)
def test_the_default_workload_can_measure_what_it_is_the_default_of(configuration, workload: str):
    assert default_workload(configuration, CATALOG) == workload
    assert workload_problem(configuration, workload, CATALOG) is None
