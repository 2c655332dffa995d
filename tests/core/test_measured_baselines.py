"""Each baseline by its name takes what its name says, and says what it lacks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from some_measurements import BUCKET, LATENCY, THROUGHPUT, history, run

from mlcc_dagster.core.compared_metrics import metric_named
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.measured_baselines import BaselineValue, NoBaseline, baseline_lines, baseline_named

LATENCIES = metric_named("latency")


def value(name: str, values: list[float], blessed: str | None = None) -> float | str:
    found = baseline_named(name).value(LATENCIES, history(values), blessed=blessed)
    return found.value if isinstance(found, BaselineValue) else found.reason


@pytest.mark.parametrize(
    ("name", "expected"),
    [("previous", 12.0), ("best", 9.0), ("median:1", 12.0), ("median:3", 11.0), ("median:4", 10.5), ("blessed", 10.0)],
)
def test_a_baseline_takes_its_value_from_the_earlier_runs(name: str, expected: float) -> None:
    assert value(name, [10.0, 9.0, 11.0, 12.0], blessed="c1-g1") == expected


def test_the_best_of_a_throughput_is_the_largest_and_of_equals_the_newest() -> None:
    found = baseline_named("best").value(metric_named("throughput"), history([5, 9, 9, 7], THROUGHPUT))
    assert found == BaselineValue(9, ("c1-g3",))


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("previous", [], "no earlier run has e2e_latency_p90_ms"),
        ("best", [], "no earlier run has"),
        ("median:3", [1.0, 2.0], "2 earlier runs have e2e_latency_p90_ms, median:3 needs 3"),
        ("blessed", [1.0], "no run is blessed"),
    ],
)
def test_what_is_lacking_is_said(name: str, values: list[float], said: str) -> None:
    assert said in str(value(name, values))


def test_too_few_runs_are_told_from_none() -> None:
    median = baseline_named("median:2")
    assert median.value(LATENCIES, history([1.0])) == NoBaseline(
        "1 earlier run has e2e_latency_p90_ms, median:2 needs 2", too_few=True
    )
    none = median.value(LATENCIES, [])
    assert isinstance(none, NoBaseline)
    assert not none.too_few


def test_a_blessed_run_that_is_not_alike_is_no_baseline() -> None:
    assert "blessed run elsewhere has no earlier" in str(value("blessed", [1.0], blessed="elsewhere"))


def test_runs_without_the_metric_do_not_count() -> None:
    runs = [run(1, **{LATENCY: 10.0}), run(2, **{THROUGHPUT: 3.0})]
    assert baseline_named("previous").value(LATENCIES, runs) == BaselineValue(10.0, ("c1-g1",))


@pytest.mark.parametrize("name", ["median", "median:0", "median:-1", "median:x", "median:", "newest", "", "Previous"])
def test_an_unknown_name_names_the_known_ones(name: str) -> None:
    with pytest.raises(UsageError, match="previous, best, median:N, blessed"):
        baseline_named(name)


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=20), st.integers(1, 20))
def test_no_baseline_lies_outside_of_what_was_measured(values: list[float], count: int) -> None:
    for name in ("previous", "best", f"median:{min(count, len(values))}"):
        found = value(name, values)
        assert isinstance(found, float)
        assert min(values) <= found <= max(values)
    assert value("best", values) == min(values)


def test_lines_show_every_baseline_of_every_metric_that_is_there() -> None:
    runs = [run(n, **{LATENCY: 10.0 + n, THROUGHPUT: 5.0}) for n in range(1, 6)]
    lines = baseline_lines({BUCKET: runs}, {"c1": "c1-g2"})
    assert [line.metric.alias for line in lines] == ["throughput", "latency"]
    assert [lines[1].value(name) for name in ("previous", "best", "median:5", "blessed")] == [15.0, 11.0, 13.0, 12.0]
    assert lines[1].to_json(str)["baselines"]["blessed"] == {"value": 12.0, "run_ids": ["c1-g2"], "reason": None}
