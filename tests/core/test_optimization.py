"""The rules of a search: scores, what is left, when it ends, and whether the best is better."""

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcc_dagster.core.compared_metrics import metric_named
from mlcc_dagster.core.optimization import (
    FAILED,
    Bounds,
    EndedBy,
    Improvement,
    Used,
    Verdict,
    best_of,
    comparison_ended,
    improvement_of,
    score,
    scores_of,
    search_ended,
    turn,
    untried,
    verdict_of,
)
from mlcc_dagster.core.optimization_space import Result

UP, DOWN = metric_named("throughput"), metric_named("latency")
A, B, C = (1,), (2,), (3,)
VALUES = st.floats(1e-3, 1e6)


def result(setting=A, value: float | None = 1.0, **changes) -> Result:
    return Result(setting, "r", None, value, **changes)


@given(VALUES, VALUES)
def test_the_better_value_has_the_smaller_score_and_any_value_beats_a_failure(one: float, other: float) -> None:
    assert (score(UP, one) < score(UP, other)) == (math.log(one) > math.log(other))
    assert score(UP, one) == -score(DOWN, one)
    assert score(UP, one) < FAILED


def test_a_setting_scores_the_mean_of_what_was_measured_and_failures_beside_it_do_not_count() -> None:
    found = scores_of(DOWN, [result(A, 1.0), result(A, math.e**2), result(A, None), result(B, None)])
    assert found == {A: pytest.approx(1.0), B: FAILED}


@pytest.mark.parametrize(
    ("known", "failed_now", "left"),
    [
        pytest.param([], set(), (A, B, C), id="nothing known"),
        pytest.param([result(A)], set(), (B, C), id="measured"),
        pytest.param([result(A, None, feasible=False)], set(), (B, C), id="known to be unfeasible"),
        pytest.param([result(A, None)], set(), (A, B, C), id="failed in another search: once more"),
        pytest.param([result(A, None)], {A}, (B, C), id="failed in this one"),
    ],
)
def test_what_is_left_to_try(known, failed_now, left) -> None:
    assert untried((A, B, C), known, failed_now) == left


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        pytest.param({A: 1.0, B: 0.5, C: 0.7}, B, id="the smallest score"),
        pytest.param({A: 0.1, B: 0.5}, None, id="none better than the present"),
        pytest.param({A: 1.0}, None, id="the present alone"),
        pytest.param({A: FAILED, B: 0.5}, B, id="the present failed"),
        pytest.param({A: 1.0, B: FAILED}, None, id="the other failed"),
        pytest.param({A: 1.0, C: 0.5, B: 0.5}, B, id="equals in one order"),
    ],
)
def test_the_best_is_better_than_the_present_or_there_is_none(scores, best) -> None:
    assert best_of(scores, A) == best


BOUNDS = Bounds(max_trials=10, max_usd=10.0, max_seconds=100.0, pairs=3)
USED = Used(trials=1, usd=1.0, seconds=10.0, usd_per_run=0.5, most_usd=2.0, seconds_per_run=5.0)


@pytest.mark.parametrize(
    ("changes", "left", "ended"),
    [
        pytest.param({}, 5, None, id="room for one more and the comparison"),
        pytest.param({}, 0, EndedBy.ALL_TRIED, id="nothing left"),
        pytest.param({"trials": 10}, 5, EndedBy.TRIALS, id="as many as asked for"),
        pytest.param({"usd": 5.0}, 5, None, id="1 + 6 x 0.5 + 2 are exactly left"),
        pytest.param({"usd": 5.01}, 5, EndedBy.MONEY, id="the comparison could not be paid"),
        pytest.param({"seconds": 65.0}, 5, None, id="7 runs of 5 s are exactly left"),
        pytest.param({"seconds": 65.1}, 5, EndedBy.TIME, id="the comparison would come too late"),
        pytest.param({"seconds": 99.0, "seconds_per_run": None}, 5, None, id="nobody knows what a run takes"),
        pytest.param({"seconds": 101.0, "seconds_per_run": None}, 5, EndedBy.TIME, id="the time is over"),
    ],
)
def test_a_search_ends_where_the_comparison_still_fits(changes, left: int, ended: EndedBy | None) -> None:
    assert search_ended(BOUNDS, replace(USED, **changes), left) is ended


@pytest.mark.parametrize(
    ("changes", "first", "ended"),
    [
        pytest.param({"seconds": 90.0}, False, None, id="a pair is exactly left"),
        pytest.param({"seconds": 91.0}, False, EndedBy.TIME, id="half a pair says nothing"),
        pytest.param({"seconds": 99.0}, True, None, id="the first pair begins while there is time"),
        pytest.param({"seconds": 101.0}, True, EndedBy.TIME, id="and not after it"),
        pytest.param({"usd": 8.0}, True, EndedBy.MONEY, id="money is never overdrawn"),
    ],
)
def test_a_comparison_ends_where_no_pair_fits(changes, first: bool, ended: EndedBy | None) -> None:
    assert comparison_ended(BOUNDS, replace(USED, **changes), first=first) is ended


def test_pairs_go_one_way_and_the_other() -> None:
    assert [turn(pair) for pair in range(3)] == [(False, True), (True, False), (False, True)]


# ---- is it better


@pytest.mark.parametrize(
    ("metric", "pairs", "pct"),
    [
        pytest.param(UP, [(10.0, 12.0), (20.0, 24.0), (5.0, 6.0)], 20.0, id="higher is better"),
        pytest.param(DOWN, [(10.0, 8.0), (20.0, 16.0), (5.0, 4.0)], 20.0, id="lower is better"),
        pytest.param(UP, [(10.0, 9.0), (20.0, 18.0), (5.0, 4.5)], -10.0, id="worse"),
    ],
)
def test_an_improvement_is_told_in_the_direction_of_its_metric(metric, pairs, pct: float) -> None:
    found = improvement_of(metric, pairs)
    assert found is not None
    assert found.pct == pytest.approx(pct)
    assert found.interval_pct == pytest.approx((pct, pct)), (
        "pairs of one ratio leave no doubt, however the machine changes"
    )
    assert found.better == (pct > 0)


def test_fewer_than_three_pairs_say_nothing() -> None:
    assert improvement_of(UP, [(1.0, 2.0), (1.0, 2.0)]) is None


@given(st.lists(st.tuples(VALUES, VALUES), min_size=3, max_size=8))
def test_the_interval_holds_the_improvement(pairs) -> None:
    found = improvement_of(DOWN, pairs)
    assert found is not None
    low, high = found.interval_pct
    assert low <= found.pct + 1e-9 * abs(found.pct) + 1e-9
    assert found.pct <= high + 1e-9 * abs(high) + 1e-9


def test_equal_settings_are_called_better_about_as_often_as_the_level_says() -> None:
    """95 % two-sided: one in forty by chance. 4,000 comparisons of nothing with itself, noise of 10 % and a drifting machine."""
    draw = random.Random(20261122)
    better = 0
    for _ in range(4000):
        drift = [1 + 0.3 * draw.random() for _ in range(5)]
        pairs = [(draw.lognormvariate(0, 0.1) * each, draw.lognormvariate(0, 0.1) * each) for each in drift]
        found = improvement_of(UP, pairs)
        assert found is not None
        better += found.better
    assert 0.015 < better / 4000 < 0.035


CLEAR, UNCLEAR = Improvement((1.0,), (2.0,), 10.0, (1.0, 20.0)), Improvement((1.0,), (2.0,), 10.0, (-1.0, 20.0))


@pytest.mark.parametrize(
    ("best", "improvement", "measured", "verdict"),
    [
        pytest.param(B, CLEAR, True, Verdict.BETTER, id="the whole interval is above 0"),
        pytest.param(B, UNCLEAR, True, Verdict.NO_BETTER, id="the interval holds 0"),
        pytest.param(B, None, True, Verdict.NOT_COMPARED, id="never compared"),
        pytest.param(None, None, True, Verdict.NO_BETTER, id="none scored better"),
        pytest.param(None, None, False, Verdict.NOT_COMPARED, id="nothing was measured"),
    ],
)
def test_the_verdict(best, improvement, measured: bool, verdict: Verdict) -> None:
    assert verdict_of(best, improvement, measured=measured) is verdict
