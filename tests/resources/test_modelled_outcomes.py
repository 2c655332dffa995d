"""Modelled outcomes: the same for the same seed, failures that classify as what they are, plausible request times."""

import json
from collections import Counter
from dataclasses import replace

import pytest

from catalog.loader import load_catalog
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.exceptions import StageFailed, UsageError
from mlcc_dagster.core.failures import CATEGORIES, classify
from mlcc_dagster.core.metrics import inter_token_latency, request_latency
from mlcc_dagster.core.outcome import BenchmarkPlan
from mlcc_dagster.core.request_records import RequestRecord, parse_record
from mlcc_dagster.core.stages import DEFAULT_LIMIT_SECONDS, Stage
from resources.modelled_outcomes import FAILURES, ModelledFailure, ModelledOutcomes, Script
from resources.played import Played

CATALOG = load_catalog()
QWEN = Configuration("transformers-vllm", "Qwen/Qwen3-4B", "qwen3", "ml.g5.xlarge", "us-west-2")
PLAN = BenchmarkPlan(enabled=True, workload="multi_turn_chat", concurrency_levels=(1, 8))


def benchmark(outcomes: ModelledOutcomes, *, configuration: Configuration = QWEN, plan: BenchmarkPlan = PLAN) -> Played:
    return outcomes.play("abc-g1", configuration, Stage.BENCHMARK, plan)


def records(played: Played, level: int) -> list[RequestRecord]:
    return [parse_record(line) for line in played.records[level].splitlines()]


def test_the_same_seed_plays_the_same_and_another_one_differently() -> None:
    again = benchmark(ModelledOutcomes(load_catalog(), seed=3))
    assert again == benchmark(ModelledOutcomes(CATALOG, seed=3))
    assert again != benchmark(ModelledOutcomes(CATALOG, seed=4))


def test_the_digest_names_everything_but_the_catalog_that_outcomes_depend_on() -> None:
    base = ModelledOutcomes(CATALOG)
    others = [
        replace(base, seed=1),
        replace(base, failures=FAILURES[1:]),
        replace(base, script={"abc": Script(Stage.TEST, "x")}),
        replace(base, request_error_rate=0.1),
    ]
    assert len({each.digest for each in [base, *others]}) == 5
    assert ModelledOutcomes(CATALOG).digest == base.digest


@pytest.mark.parametrize("failure", [f for f in FAILURES if f.log], ids=lambda f: f.category)
def test_each_modelled_failure_reads_as_its_own_category(failure: ModelledFailure) -> None:
    (certain,) = (replace(failure, rate=1.0),)
    played = ModelledOutcomes(CATALOG, failures=(certain,)).play("abc-g1", QWEN, failure.stage, PLAN)
    assert played.failed
    assert classify(failure.stage.value, played.log).category == failure.category


def test_what_is_only_slow_is_longer_than_the_limit_of_its_stage() -> None:
    slow = [failure for failure in FAILURES if not failure.log]
    assert [failure.category for failure in slow] == ["timeout"]
    for failure in slow:
        certain = ModelledOutcomes(CATALOG, failures=(replace(failure, rate=1.0),))
        played = certain.play("abc-g1", QWEN, failure.stage, PLAN)
        assert not played.failed
        assert played.seconds > DEFAULT_LIMIT_SECONDS[failure.stage]


def test_lasting_failures_are_decided_by_dimensions_and_passing_ones_by_the_run() -> None:
    for failure in FAILURES:
        lasting = not CATEGORIES[failure.category].retryable
        assert bool(failure.decided_by) is lasting, failure.category
    outcomes = ModelledOutcomes(CATALOG, failures=(replace(FAILURES[4], rate=0.5), replace(FAILURES[2], rate=0.5)))
    assert outcomes.failures[0].decided_by == ("deployment_config", "model_family")
    ends: Counter[str] = Counter()
    for family in "abcdefghij":
        configuration = replace(QWEN, model_family=family)
        logs = {outcomes.play(f"abc-g{n}", configuration, Stage.DEPLOY, PLAN).log[:13] for n in range(20)}
        ends["always" if logs == {"Loading model"} else "sometimes"] += 1
        assert logs == {"Loading model"} or "Loading model" not in logs
    assert 0 < ends["always"] < 10


def test_rates_are_kept_over_many_runs() -> None:
    capacity = replace(FAILURES[2], rate=0.25)
    outcomes = ModelledOutcomes(CATALOG, failures=(capacity,))
    failed = sum(outcomes.play(f"abc-g{n}", QWEN, Stage.DEPLOY, PLAN).failed for n in range(2000))
    assert 430 < failed < 570


def test_a_script_decides_alone_for_its_configuration() -> None:
    certain = tuple(replace(failure, rate=1.0) for failure in FAILURES)
    outcomes = ModelledOutcomes(CATALOG, failures=certain, script={"abc": Script(Stage.BENCHMARK, "no space left")})
    assert not outcomes.play("abc-g1", QWEN, Stage.DEPLOY, PLAN).failed
    assert benchmark(outcomes).failed
    assert outcomes.play("abd-g1", QWEN, Stage.DEPLOY, PLAN).failed


@pytest.mark.parametrize(
    ("build", "said"),
    [
        pytest.param(
            {"failures": (ModelledFailure("bad luck", Stage.TEST, 0.1),)}, "unknown failure category", id="name"
        ),
        pytest.param({"failures": (replace(FAILURES[0], rate=1.5),)}, "infrastructure 1.5", id="rate"),
        pytest.param({"request_error_rate": -0.1}, "request -0.1", id="request rate"),
    ],
)
def test_impossible_models_are_refused(build: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ModelledOutcomes(CATALOG, **build)


def test_requests_of_a_language_model_fit_together() -> None:
    played = benchmark(ModelledOutcomes(CATALOG, failures=()))
    for record in records(played, 8):
        if record.error is not None:
            assert record.metrics == {}
            continue
        assert request_latency(record) == pytest.approx((record.end_ns - record.start_ns) / 1e6)
        between = (request_latency(record) - record.metrics["time_to_first_token"]) / (
            record.metrics["output_sequence_length"] - 1
        )
        assert inter_token_latency(record) == pytest.approx(between)
        assert 440 <= record.metrics["input_sequence_length"] <= 660
        assert 120 <= record.metrics["output_sequence_length"] <= 180


def middle(played: Played, level: int, metric: str) -> float:
    values = sorted(record.metrics[metric] for record in records(played, level) if record.error is None)
    return values[len(values) // 2]


def test_times_follow_model_size_hardware_quantization_and_concurrency() -> None:
    outcomes = ModelledOutcomes(CATALOG, failures=())
    base = benchmark(outcomes)
    larger = benchmark(outcomes, configuration=replace(QWEN, model_name="Qwen/Qwen3-14B"))
    faster = benchmark(outcomes, configuration=replace(QWEN, instance_type="ml.p5.48xlarge"))
    smaller_weights = benchmark(outcomes, configuration=replace(QWEN, quantization="awq"))
    for metric in ("time_to_first_token", "inter_token_latency"):
        assert middle(base, 8, metric) > middle(base, 1, metric)
        assert middle(larger, 1, metric) > middle(base, 1, metric) > middle(faster, 1, metric)
    assert middle(smaller_weights, 1, "inter_token_latency") < middle(base, 1, "inter_token_latency") / 3


@pytest.mark.parametrize(
    ("workload", "present"),
    [
        pytest.param(
            "agent_tool_calling", {"request_latency", "output_sequence_length"}, id="not streamed: no first token"
        ),
        pytest.param("local_predict", {"request_latency"}, id="a predictor has no tokens"),
    ],
)
def test_records_hold_only_what_the_workload_has(workload: str, present: set[str]) -> None:
    plan = BenchmarkPlan(enabled=True, workload=workload, concurrency_levels=(2,))
    played = benchmark(ModelledOutcomes(CATALOG, failures=(), request_error_rate=0.0), plan=plan)
    for record in records(played, 2):
        assert present <= set(record.metrics)
        assert not {"time_to_first_token", "inter_token_latency"} & set(record.metrics)
        assert ("output_sequence_length" in record.metrics) is ("output_sequence_length" in present)


def test_failed_requests_are_records_and_a_benchmark_without_success_fails() -> None:
    some = records(benchmark(ModelledOutcomes(CATALOG, failures=(), request_error_rate=0.3)), 1)
    errors = sum(record.error is not None for record in some)
    assert 10 < errors < 60
    assert len(some) == 100
    none = benchmark(ModelledOutcomes(CATALOG, failures=(), request_error_rate=1.0))
    assert none.failed
    assert "no request succeeded" in none.log


def test_an_unknown_workload_fails_with_its_name() -> None:
    plan = BenchmarkPlan(enabled=True, workload="nonsense", concurrency_levels=(1,))
    with pytest.raises(StageFailed, match="no workload 'nonsense'"):
        benchmark(ModelledOutcomes(CATALOG), plan=plan)


def test_the_seconds_of_a_benchmark_cover_its_requests() -> None:
    played = benchmark(ModelledOutcomes(CATALOG, failures=()))
    ends = [
        max(json.loads(line)["metadata"]["request_end_ns"] for line in text.splitlines())
        for text in played.records.values()
    ]
    assert played.seconds > sum(ends) / 1e9
