"""Rows become buckets of measurements: like with like, in order, and nothing that was not recorded."""

import itertools

import pytest
from some_measurements import LATENCY, THROUGHPUT, row

from mlcc_dagster.core.measured_series import MeasuredSeries


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("config_id", "c2"),
        ("executor", "replay"),
        ("executor", None),
        ("model_name", "Q/other"),
        ("deployment_config", "transformers-sglang"),
        ("deployment_target", "batch-transform"),
        ("quantization", "fp8"),
        ("tensor_parallel_degree", 4),
        ("instance_type", "ml.g5.2xlarge"),
        ("gpu_type", "L4"),
        ("adapter_name", "tutor"),
        ("workload", "rag"),
        ("concurrency", 4),
    ],
)
def test_what_differs_in_one_of_these_is_another_bucket(name: str, value: object) -> None:
    assert len(MeasuredSeries.of([row(1), row(2, **{name: value})]).buckets) == 2


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"quantization": "FP16"}, "full precision has one name"),
        ({"quantization": None}, "and none is full precision"),
        ({"deployment_target": "managed-inference"}, "the target's old name"),
        ({"deployment_target": None}, "an absent target is the first one"),
        ({"tensor_parallel_degree": None, "tp_degree": "1"}, "its other name"),
        ({"adapter_name": ""}, "an absent text and an empty one"),
        ({"workload": "chat", "run_id": "x"}, "another run"),
        ({"engine": "vllm 2"}, "another engine is what a regression may come from"),
    ],
)
def test_what_means_the_same_is_one_bucket(values: dict[str, object], why: str) -> None:
    assert len(MeasuredSeries.of([row(1), row(2, **values)]).buckets) == 1, why


def test_measurements_are_in_the_order_of_their_times_whatever_the_order_of_rows() -> None:
    rows = [row(number) for number in (1, 2, 3)]
    for order in itertools.permutations(rows):
        (measured,) = MeasuredSeries.of(order).buckets.values()
        assert [each.run_id for each in measured] == ["c1-g1", "c1-g2", "c1-g3"]


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), None, "500", True])
def test_a_value_that_was_not_recorded_is_absent(value: object) -> None:
    (measured,) = MeasuredSeries.of([row(1, **{THROUGHPUT: 100.0, LATENCY: value})]).buckets.values()
    assert dict(measured[0].values) == {THROUGHPUT: 100.0}


@pytest.mark.parametrize(
    "values",
    [{"status": "failed", "concurrency": 0}, {"concurrency": None, LATENCY: None}, {LATENCY: None}],
    ids=["failed", "no benchmark", "no metric"],
)
def test_a_row_without_a_measurement_makes_none(values: dict[str, object]) -> None:
    assert MeasuredSeries.of([row(1, **values)]).buckets == {}


def test_a_failure_after_the_newest_measurement_is_remembered_and_one_before_is_not() -> None:
    failed = {"status": "failed", "concurrency": 0, "failure_stage": "benchmark", LATENCY: None}
    after = MeasuredSeries.of([row(1), row(2, **failed)])
    assert {who: each.run_id for who, each in after.failed.items()} == {("c1", "local"): "c1-g2"}
    assert after.failed["c1", "local"].stage == "benchmark"
    assert MeasuredSeries.of([row(1, **failed), row(2)]).failed == {}
    assert MeasuredSeries.of([row(1), row(2, **failed, executor="replay")]).failed == {}


def test_what_was_measured_is_known_by_digests_that_do_not_change_by_themselves() -> None:
    (measured,) = MeasuredSeries.of([row(1), row(2, evidence="no json"), row(3, evidence=None)]).buckets.values()
    assert dict(measured[0].ground) == {"template": "t1", "engine": "vllm 1"}
    assert dict(measured[1].ground) == dict(measured[2].ground) == {"engine": "vllm 1"}


def test_a_row_without_a_readable_time_is_older_than_all() -> None:
    (measured,) = MeasuredSeries.of([row(1), row(2, run_timestamp="soon")]).buckets.values()
    assert [each.run_id for each in measured] == ["c1-g2", "c1-g1"]
