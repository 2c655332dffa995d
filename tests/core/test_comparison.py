"""The newest run against a baseline: every verdict, and what is not a pass."""

import json

import pytest
from some_measurements import ITL, LATENCY, THROUGHPUT, TTFT, row, run

from mlcc_dagster.core.compared_metrics import read_thresholds
from mlcc_dagster.core.comparison import Comparison, Verdict, compare_newest, compare_values, worst
from mlcc_dagster.core.measured_baselines import baseline_named
from mlcc_dagster.core.measured_series import MeasuredSeries

DEFAULTS = read_thresholds(())
PREVIOUS = baseline_named("previous")


def compared(rows: list[dict[str, object]], baseline: str = "previous", **options: object) -> Comparison:
    series = MeasuredSeries.of(rows)
    subjects = options.pop("subjects", series.subjects)
    found = compare_newest(series, baseline_named(baseline), DEFAULTS, subjects=subjects, **options)  # type: ignore[arg-type]
    return Comparison(baseline, DEFAULTS, found)


@pytest.mark.parametrize(
    ("newest", "verdict", "code"),
    [(550.0, Verdict.PASS, 0), (550.1, Verdict.REGRESSION, 1), (1.0, Verdict.PASS, 0)],
)
def test_the_newest_run_is_judged(newest: float, verdict: Verdict, code: int) -> None:
    found = compared([row(1), row(2, **{LATENCY: newest})])
    assert found.verdict is verdict
    assert found.verdict.exit_code == code


def test_a_first_run_has_no_baseline() -> None:
    found = compared([row(1)])
    assert found.verdict is Verdict.NO_BASELINE
    assert found.verdict.exit_code == 3


def test_too_few_runs_for_a_median_are_too_little_data() -> None:
    found = compared([row(1), row(2)], "median:2")
    assert (found.verdict, found.verdict.exit_code) == (Verdict.INSUFFICIENT, 3)


def test_what_was_never_measured_has_no_baseline_and_says_so() -> None:
    found = compared([], subjects=[("c1", "local")])
    assert found.verdict.exit_code == 3
    assert "nothing was measured yet" in str(found.configurations[0].reason)


def test_nothing_at_all_is_no_pass() -> None:
    assert compared([]).verdict.exit_code == 3


def test_a_newest_run_that_failed_is_not_hidden_by_the_one_before_it() -> None:
    failed = row(3, status="failed", concurrency=0, failure_stage="benchmark", **{LATENCY: None})
    found = compared([row(1), row(2), failed])
    assert found.verdict is Verdict.INSUFFICIENT
    assert "c1-g3 failed at benchmark" in str(found.configurations[0].reason)


def test_a_metric_that_is_no_longer_measured_is_too_little_data() -> None:
    current, before = run(2, **{THROUGHPUT: 100.0}), run(1, **{THROUGHPUT: 100.0, TTFT: 50.0})
    found = {each.metric.column: each for each in compare_values(current, [before], PREVIOUS, DEFAULTS)}
    assert found[THROUGHPUT].verdict is Verdict.PASS
    assert found[TTFT].verdict is Verdict.INSUFFICIENT
    assert found[TTFT].reason == "the newest run has no ttft_p90_ms"
    assert set(found) == {THROUGHPUT, TTFT}, "what no run has is not of this kind of model"


def test_a_metric_that_is_new_has_no_baseline() -> None:
    current, before = run(2, **{THROUGHPUT: 100.0, ITL: 5.0}), run(1, **{THROUGHPUT: 100.0})
    found = {each.metric.column: each.verdict for each in compare_values(current, [before], PREVIOUS, DEFAULTS)}
    assert found == {THROUGHPUT: Verdict.PASS, ITL: Verdict.NO_BASELINE}


@pytest.mark.parametrize(
    ("base", "newest", "threshold", "delta", "digits"),
    [
        (100.0, 110.0, "10", 10.0, 4),
        (100.0, 110.0001, "10", 10.0001, 7),
        (100.0, 110.2, "10", 10.2, 4),
        (10000.0, 11000.4, "10", 10.004, 6),
        (100.0, 100.06, "0.07", 0.06, 5),
        (100.0, 100.04, "0.03", 0.04, 5),
    ],
)
def test_no_rounded_number_contradicts_the_verdict(
    base: float, newest: float, threshold: str, delta: float, digits: int
) -> None:
    (found,) = compare_values(
        run(2, **{LATENCY: newest}), [run(1, **{LATENCY: base})], PREVIOUS, read_thresholds([f"latency:{threshold}"])
    )
    assert (found.to_json()["delta_pct"], found.value_digits) == (delta, digits)


def test_only_the_levels_of_the_newest_run_are_compared() -> None:
    rows = [row(1, concurrency=4), row(2), row(3), row(3, concurrency=2)]
    (found,) = compared(rows).configurations
    assert [level.bucket.concurrency for level in found.buckets] == [1, 2]
    assert [level.verdict for level in found.buckets] == [Verdict.PASS, Verdict.NO_BASELINE]


def test_executors_are_never_compared_with_each_other() -> None:
    found = compared([row(1), row(2, executor="replay", **{LATENCY: 900.0})])
    assert {each.executor: each.verdict for each in found.configurations} == {
        "local": Verdict.NO_BASELINE,
        "replay": Verdict.NO_BASELINE,
    }


def test_the_blessed_run_is_the_baseline_of_newer_runs_alone() -> None:
    rows = [row(1), row(2, **{LATENCY: 600.0}), row(3, **{LATENCY: 620.0})]
    assert compared(rows, "blessed", blessed={"c1": "c1-g1"}).verdict is Verdict.REGRESSION
    assert compared(rows, "blessed", blessed={"c1": "c1-g2"}).verdict is Verdict.PASS
    itself = compared(rows, "blessed", blessed={"c1": "c1-g3"})
    assert itself.verdict.exit_code == 3, "it would keep to itself whatever it measured"
    assert "c1-g3 is the blessed one" in str(itself.configurations[0].reason)
    assert compared(rows, "blessed").verdict is Verdict.NO_BASELINE


def test_a_regression_counts_more_than_what_could_not_be_compared() -> None:
    rows = [row(1), row(2, **{LATENCY: 900.0}), row(2, concurrency=4)]
    assert compared(rows).verdict.exit_code == 1


def test_the_worst_verdict_counts_and_of_none_there_is_no_baseline() -> None:
    assert worst([Verdict.PASS, Verdict.NO_BASELINE, Verdict.REGRESSION]) is Verdict.REGRESSION
    assert worst([Verdict.PASS, Verdict.INSUFFICIENT]) is Verdict.INSUFFICIENT
    assert worst([]) is Verdict.NO_BASELINE


def test_the_document_is_json_with_null_for_what_is_absent() -> None:
    document = compared([row(1)]).to_json(lambda config_id: f"name of {config_id}")
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    (level,) = document["configurations"][0]["levels"]
    assert document["configurations"][0]["name"] == "name of c1"
    assert level["comparisons"][0]["delta_pct"] is None
    assert level["comparisons"][0]["historical"] == {"avg": None, "min": None, "max": None, "runs": []}
