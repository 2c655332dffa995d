"""The arithmetic of promised money: exact, and never rounded in favour of spending more."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcc_dagster.core.budget import (
    MOST_USD,
    Budget,
    Totals,
    charge,
    fits,
    micros_ceiling,
    micros_promised,
    usd_of,
)
from mlcc_dagster.core.exceptions import UsageError

USD = st.floats(min_value=0, max_value=10_000, allow_nan=False)


@pytest.mark.parametrize(
    ("usd", "promised", "ceiling"),
    [
        pytest.param(0.07, 70_000, 70_000, id="0.07 x 10^6 is above 70,000 in binary"),
        pytest.param(1e-9, 1, 0, id="the smallest promise is not free, the smallest ceiling allows nothing"),
        pytest.param(50, 50_000_000, 50_000_000, id="whole dollars"),
        pytest.param(0.0, 0, 0, id="nothing costs nothing"),
    ],
)
def test_promises_are_rounded_up_and_ceilings_down(usd: float, promised: int, ceiling: int) -> None:
    assert (micros_promised(usd), micros_ceiling(usd)) == (promised, ceiling)


@pytest.mark.parametrize(
    "usd",
    [
        pytest.param(-0.01, id="would give money back"),
        pytest.param(math.nan, id="compares as neither more nor less, so that every ceiling would admit it"),
        pytest.param(math.inf, id="is no number of micro-dollars"),
        pytest.param(MOST_USD * 1.01, id="sums of it would not fit into the books"),
    ],
)
def test_what_is_no_amount_is_refused(usd: float) -> None:
    with pytest.raises(UsageError, match="at least 0"):
        micros_promised(usd)
    with pytest.raises(UsageError, match="at least 0"):
        micros_ceiling(usd)


def test_ten_promises_of_a_tenth_fit_under_one_dollar_and_an_eleventh_does_not() -> None:
    tenth, dollar = micros_promised(0.1), micros_ceiling(1.0)
    assert fits(committed=9 * tenth, overrun=0, amount=tenth, ceiling=dollar)
    assert not fits(committed=10 * tenth, overrun=0, amount=1, ceiling=dollar)
    assert not fits(committed=0, overrun=0, amount=dollar + 1, ceiling=dollar), "the first one included"
    assert not fits(committed=9 * tenth, overrun=1, amount=tenth, ceiling=dollar), "an overrun is gone too"


@given(promised=st.integers(0, 10**9), used=st.integers(0, 10**9))
def test_settling_never_raises_the_sum_and_loses_nothing(promised: int, used: int) -> None:
    spent, overrun = charge(promised=promised, used=used)
    assert spent <= promised
    assert spent + overrun == used


@given(USD)
def test_rounding_is_less_than_a_micro_dollar(usd: float) -> None:
    assert micros_ceiling(usd) <= micros_promised(usd) <= micros_ceiling(usd) + 1
    assert math.isclose(usd_of(micros_promised(usd)), usd, abs_tol=1e-6)


def test_committed_is_what_may_never_pass_the_ceiling() -> None:
    assert Totals(reserved_usd=0.1, active_usd=0.2, spent_usd=0.3, overrun_usd=9).committed_usd == 0.6


@pytest.mark.parametrize(
    ("ceiling", "totals", "left"),
    [
        pytest.param(1.0, Totals(0.1, 0.2, 0.3, 0.0), 0.4, id="what is neither promised nor spent"),
        pytest.param(1.0, Totals(0.1, 0.2, 0.3, 0.1), 0.3, id="an overrun is gone too"),
        pytest.param(1.0, Totals(0.0, 0.0, 0.9, 0.3), 0.0, id="more is gone than there was"),
        pytest.param(None, Totals(0.1, 0.2, 0.3, 0.0), None, id="nobody kept the ceiling"),
    ],
)
def test_what_is_left_of_a_budget_is_what_a_promise_may_still_take(
    ceiling: float | None, totals: Totals, left: float | None
) -> None:
    assert Budget("b", ceiling, totals, "2026-11-01T00:00:00.000000Z").left_usd == left
