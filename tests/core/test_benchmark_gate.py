"""The gate of speed and memory judges every metric of every configuration, by both rules, and fails closed."""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mlcc_dagster.core.benchmark_gate import BenchmarkDecision, decide_benchmarks, read_benchmarks
from mlcc_dagster.core.exceptions import UsageError

LATENCY, THROUGHPUT, MEMORY = "e2e_latency_p90_ms", "output_token_throughput_tps", "gpu_memory_used_avg_gb"


def document(cells: dict[str, dict[str, Sequence[float]]], **changes: Any) -> dict[str, Any]:
    return {"schema_version": 1, "kind": "benchmarks", "configurations": cells} | changes


def decided(before: Any, after: Any, **options: Any) -> BenchmarkDecision:
    read = [read_benchmarks(json.dumps(each), source=name) for each, name in ((before, "base"), (after, "candidate"))]
    return decide_benchmarks(*read, **options)


def one(metric: str, *values: float, **changes: Any) -> dict[str, Any]:
    return document({"tutor chat x 1": {metric: list(values)}}, **changes)


@pytest.mark.parametrize(
    ("metric", "before", "after", "verdict"),
    [
        pytest.param(LATENCY, 100.0, 110.0, "promote", id="latency exactly at 10 %"),
        pytest.param(LATENCY, 100.0, 110.1, "blocked", id="latency just beyond"),
        pytest.param(LATENCY, 1.0, 1.1, "promote", id="at 10 %, which binary numbers miss"),
        pytest.param(LATENCY, 100.0, 50.0, "promote", id="faster"),
        pytest.param(THROUGHPUT, 100.0, 90.0, "promote", id="throughput exactly at 10 %"),
        pytest.param(THROUGHPUT, 100.0, 89.9, "blocked", id="throughput just beyond"),
        pytest.param(THROUGHPUT, 100.0, 200.0, "promote", id="more throughput"),
        pytest.param(MEMORY, 10.0, 11.5, "blocked", id="more memory"),
    ],
)
def test_the_fixed_rule_compares_medians(metric: str, before: float, after: float, verdict: str):
    found = decided(one(metric, before), one(metric, after))
    assert found.verdict == verdict
    assert found.exit_code == (0 if verdict == "promote" else 1)


def test_the_median_counts_and_not_one_bad_run():
    assert decided(one(LATENCY, 100, 101, 99), one(LATENCY, 100, 500, 99)).verdict == "promote"


def test_one_metric_of_one_configuration_blocks():
    cells = {"a chat x 1": {LATENCY: [100.0], THROUGHPUT: [50.0]}, "b chat x 4": {LATENCY: [100.0]}}
    worse = cells | {"b chat x 4": {LATENCY: [120.0]}}
    found = decided(document(cells), document(worse))
    assert found.verdict == "blocked"
    assert found.reasons == (
        "b chat x 4 latency is 20.0 % worse (100 -> 120 ms), 10 % are tolerated; mend the candidate",
    )


def test_the_baseline_says_what_is_tolerated_and_looser_is_never_silent():
    base, slower = one(LATENCY, 100, tolerance_pct={LATENCY: 2}), one(LATENCY, 105)
    assert decided(base, slower).verdict == "blocked"
    loosened = decided(base, slower, tolerance_pct={LATENCY: 6})
    assert (loosened.verdict, loosened.loosened) == ("promote", (LATENCY,))
    assert loosened.to_json()["loosened"] == [LATENCY]
    assert decided(base, slower, tolerance_pct={LATENCY: 1}).loosened == ()


def test_every_reason_of_both_documents_and_of_their_comparison_comes_at_once():
    base = document({"a": {LATENCY: [100.0], MEMORY: [1.0]}, "b": {LATENCY: [100.0]}, "c": {LATENCY: [1.0]}})
    broken = document({"a": {LATENCY: [-1.0]}, "c": {}}, schema_version=9)
    found = decided(base, broken)
    expected = (
        "schema_version is 9",
        "configurations.a.e2e_latency_p90_ms",
        "configurations.c must be",
        "has no configuration b",
        "has no metric gpu_memory_used_avg_gb of a",
    )
    assert len(found.reasons) == len(expected), found.reasons
    assert all(words in reason for words, reason in zip(expected, found.reasons, strict=True))
    assert (found.verdict, found.compared) == ("blocked", False)


def test_a_reason_has_as_many_digits_as_tell_the_value_from_what_is_tolerated():
    (reason,) = decided(one(LATENCY, 100.0), one(LATENCY, 110.04)).reasons
    assert "10.04 % worse" in reason


def runs(middle: float, spread: float, count: int, seed: int) -> list[float]:
    return list(middle * np.exp(spread * np.random.default_rng(seed).standard_normal(count)))


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        pytest.param(runs(100, 0.02, 8, 2), "promote", id="as fast, little spread"),
        pytest.param(runs(100, 0.3, 8, 3), "inconclusive", id="as fast, much spread"),
        pytest.param(runs(140, 0.02, 8, 4), "blocked", id="slower by 40 %"),
        pytest.param(runs(100, 0.02, 2, 5), "inconclusive", id="two runs say nothing of the spread"),
        pytest.param([100.0] * 8, "promote", id="constant on one side"),
    ],
)
def test_the_paired_rule_compares_runs(after: list[float], verdict: str):
    found = decided(one(LATENCY, *runs(100, 0.02, 8, 1)), one(LATENCY, *after), rule="noninferiority")
    assert found.verdict == verdict
    (bucket,) = found.rules["noninferiority"].buckets.values()
    needed = bucket.numbers["runs_needed"]
    assert (needed == 0) == (verdict != "inconclusive")


def test_without_any_spread_nothing_is_shown():
    found = decided(one(LATENCY, 100, 100, 100), one(LATENCY, 100, 100, 100), rule="noninferiority")
    assert found.verdict == "inconclusive"


def test_the_p_values_are_welchs():
    before, after = runs(100, 0.05, 6, 7), runs(106, 0.03, 9, 8)
    found = decided(one(LATENCY, *before), one(LATENCY, *after), rule="noninferiority")
    (bucket,) = found.rules["noninferiority"].buckets.values()
    expected = stats.ttest_ind(
        np.log(after) - math.log(1.1), np.log(before), equal_var=False, alternative="less"
    ).pvalue
    assert bucket.numbers["p_pass"] == pytest.approx(expected)
    assert bucket.numbers["p_fail"] == pytest.approx(1 - expected)


def test_the_same_is_as_far_from_blocked_whichever_way_is_better():
    """90 of 100 tokens and 1/0.9 of the time are the same speed, so the same verdict."""
    times, slower = runs(100, 0.03, 6, 9), runs(104, 0.03, 6, 10)
    tokens, fewer = [[1e4 / each for each in values] for values in (times, slower)]
    latency = decided(one(LATENCY, *times, tolerance_pct={LATENCY: 100 / 0.9 - 100}), one(LATENCY, *slower))
    throughput = decided(one(THROUGHPUT, *tokens), one(THROUGHPUT, *fewer))
    for name in ("p_pass", "p_fail"):
        ours, theirs = (
            next(iter(each.rules["noninferiority"].buckets.values())).numbers[name] for each in (latency, throughput)
        )
        assert ours == pytest.approx(theirs)


def test_a_slower_candidate_at_the_tolerance_passes_at_most_at_alpha_and_the_planned_runs_have_power():
    chance = np.random.default_rng(11)

    def promoted(factor: float, count: int) -> float:
        passed = 0
        for _ in range(400):
            before, after = 100 * np.exp(0.05 * chance.standard_normal((2, count)))
            found = decided(one(LATENCY, *before), one(LATENCY, *(factor * after)), rule="noninferiority")
            passed += found.verdict == "promote"
        return passed / 400

    assert promoted(1.1, 6) <= stats.binom.isf(1e-5, 400, 0.05) / 400
    found = decided(one(LATENCY, *runs(100, 0.05, 3, 40)), one(LATENCY, *runs(100, 0.05, 3, 41)), rule="noninferiority")
    assert found.verdict == "inconclusive"
    assert promoted(1.0, 6) >= stats.binom.ppf(1e-5, 400, 0.8) / 400, (
        "6 runs at 5 % spread: (2.486 / log 1.1)^2 * 2 * 0.05^2 + 1"
    )


GOOD = one(LATENCY, 100.0)


@pytest.mark.parametrize(
    ("spoilt", "words"),
    [
        pytest.param([], "must be an object", id="a list"),
        pytest.param(GOOD | {"schema_version": 2}, "schema_version is 2", id="a newer schema"),
        pytest.param(GOOD | {"schema_version": True}, "schema_version is True", id="a version that is true"),
        pytest.param(GOOD | {"kind": "evaluation"}, "kind is 'evaluation'", id="another kind"),
        pytest.param(GOOD | {"configurations": {}}, "at least one", id="no configuration"),
        pytest.param(document({"a": {}}), "at least one metric", id="no metric"),
        pytest.param(one("latency", 5), "no such metric is gated", id="an unknown metric"),
        pytest.param(one(LATENCY), "must be a list with a value per run", id="no run"),
        pytest.param(one(LATENCY, 0.0), "above 0", id="zero"),
        pytest.param(one(LATENCY, float("nan")), "above 0", id="not a number"),
        pytest.param(one(LATENCY, float("inf")), "above 0", id="infinite"),
        pytest.param(one(LATENCY, True), "above 0", id="true"),
        pytest.param(one(LATENCY, "5"), "above 0", id="a text"),
        pytest.param(GOOD | {"candidate_sha": 5}, "candidate_sha must be", id="a number as sha"),
        pytest.param(GOOD | {"tolerance_pct": 5}, "tolerance_pct must be an object", id="one tolerance for all"),
        pytest.param(GOOD | {"tolerance_pct": {"x": 5}}, "no such metric", id="the tolerance of no metric"),
        pytest.param(GOOD | {"tolerance_pct": {LATENCY: 100}}, "below 100", id="a tolerance of everything"),
        pytest.param(document({"a chat x 1": {LATENCY: [1.0]}}), "has no configuration", id="another configuration"),
        pytest.param(document({"tutor chat x 1": {THROUGHPUT: [1.0]}}), "has no metric", id="another metric"),
        pytest.param(
            document({"tutor chat x 1": {LATENCY: [1.0], THROUGHPUT: [1.0]}}),
            "the baseline has no metric",
            id="one more",
        ),
    ],
)
def test_what_cannot_be_compared_is_blocked(spoilt: Any, words: str):
    found = decided(GOOD, spoilt)
    assert (found.verdict, found.compared, found.exit_code) == ("blocked", False, 1)
    assert any(words in reason for reason in found.reasons), found.reasons
    assert all(";" in reason for reason in found.reasons)


def test_a_name_that_stands_twice_blocks():
    text = json.dumps(GOOD).replace('"tutor chat x 1":', '"tutor chat x 1": {"ttft_p90_ms": [1.0]}, "tutor chat x 1":')
    assert "configurations.tutor chat x 1 stands there twice" in read_benchmarks(text, source="f").problems[0]


def test_what_is_no_json_is_an_unusable_request():
    with pytest.raises(UsageError, match="not readable as JSON"):
        read_benchmarks("{", source="f")


@given(
    st.recursive(
        st.none() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["configurations", "tolerance_pct", "kind", LATENCY, "a"]), inner)
        ),
    )
)
def test_whatever_the_json_is_reading_answers_and_never_crashes(value: Any):
    read = read_benchmarks(json.dumps(value), source="f")
    assert (read.document is None) == bool(read.problems)
