"""Tango's interval is the published one, its p-values keep their error rate for every share of changing items."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from mlcc_dagster.core.paired_scores import (
    PairedCounts,
    chance_of,
    error_rate,
    interval,
    p_not_worse,
    p_worse,
    score,
)


@st.composite
def tables(draw: st.DrawFn, most: int = 400) -> PairedCounts:
    items = draw(st.integers(1, most))
    gained = draw(st.integers(0, items))
    return PairedCounts(gained, draw(st.integers(0, items - gained)), items)


@pytest.mark.parametrize(
    ("table", "confidence", "published"),
    [
        pytest.param(
            PairedCounts(1, 7, 21), 0.95, (-0.517, -0.026), id="airway responsiveness: Fagerland 2014, of Bentur 2009"
        ),
        pytest.param(
            PairedCounts(6, 16, 161), 0.95, (-0.1240, -0.0054), id="complete response: contingencytables, of Cavo 2012"
        ),
        pytest.param(PairedCounts(28, 25, 618), 0.90, (-0.0148, 0.0247), id="PropCIs scoreci.mp(25, 28, 618)"),
        pytest.param(PairedCounts(20, 60, 1000), 0.95, (-0.0584, -0.0231), id="PropCIs scoreci.mp(60, 20, 1000)"),
        pytest.param(PairedCounts(60, 20, 1000), 0.95, (0.0231, 0.0584), id="PropCIs, the mirror of it"),
        pytest.param(PairedCounts(48, 41, 549), 0.90, (-0.0157, 0.0414), id="PropCIs, 549 pairs"),
    ],
)
def test_the_interval_is_the_published_one(table: PairedCounts, confidence: float, published: tuple[float, float]):
    digits = len(str(published[0]).split(".")[1])
    assert interval(table, confidence) == pytest.approx(published, abs=0.51 * 10**-digits)


def test_without_a_change_the_interval_ends_where_its_closed_form_says():
    """With no change the score against d is sqrt(n d / (1 - d)) or so: the limit is z^2 / (n + z^2)."""
    z = stats.norm.isf(0.05)
    low, high = interval(PairedCounts(0, 0, 100), 0.90)
    assert high == pytest.approx(z**2 / (100 + z**2))
    assert low == pytest.approx(-high)


@given(tables(), st.sampled_from([0.8, 0.9, 0.95]))
def test_the_ends_of_the_interval_are_where_the_score_is_just_refuted(table: PairedCounts, confidence: float):
    low, high = interval(table, confidence)
    z = stats.norm.isf((1 - confidence) / 2)
    assert -1 <= low <= table.difference <= high <= 1
    if low > -1:
        assert score(table.gained, table.lost, table.items, low) == pytest.approx(z, abs=1e-4)
    if high < 1:
        assert score(table.gained, table.lost, table.items, high) == pytest.approx(-z, abs=1e-4)


@given(tables())
def test_seen_from_the_other_model_everything_is_mirrored(table: PairedCounts):
    other = PairedCounts(table.lost, table.gained, table.items)
    assert interval(other, 0.9) == pytest.approx([-end for end in reversed(interval(table, 0.9))], abs=1e-6)


@given(tables())
def test_against_no_difference_the_score_is_mcnemars(table: PairedCounts):
    assume(table.changed)
    expected = (table.gained - table.lost) / math.sqrt(table.changed)
    assert score(table.gained, table.lost, table.items, 0.0) == pytest.approx(expected)


@given(st.integers(1, 300), st.integers(0, 300), st.sampled_from([0.0, 0.005, 0.02, 0.1, 0.4]))
def test_with_so_many_changes_the_score_grows_with_the_gains(items: int, changed: int, margin: float):
    """The exact error rate counts tables from the first one on: that must be all of those with a larger score."""
    changed = min(changed, items)
    gained = np.arange(changed + 1, dtype=np.float64)
    found = score(gained, changed - gained, items, -margin)
    assert np.all(np.diff(found[np.isfinite(found)]) > -1e-9)


def chances(items: int, share: float, difference: float) -> dict[tuple[int, int], float]:
    """Every table with its probability, from the definition."""
    gaining, losing = (share + difference) / 2, (share - difference) / 2
    draws = stats.multinomial(items, [gaining, losing, 1 - share])
    pairs = [(b, c) for b in range(items + 1) for c in range(items + 1 - b)]
    return {pair: float(draws.pmf([*pair, items - sum(pair)])) for pair in pairs}


@pytest.mark.parametrize("share", [0.1, 0.35, 0.9])
@pytest.mark.parametrize("difference", [-0.1, 0.0, 0.06])
def test_the_chance_of_a_score_is_the_sum_over_all_tables(share: float, difference: float):
    reached = 1.0
    expected = sum(
        chance for (b, c), chance in chances(20, share, difference).items() if score(b, c, 20, -0.1) >= reached - 1e-9
    )
    assert chance_of(reached, 20, 0.1, share=share, difference=difference) == pytest.approx(expected)


@pytest.mark.parametrize("upper", [True, False])
@pytest.mark.parametrize("extreme", [-1.5, 0.3, 1.7])
def test_the_error_rate_is_the_largest_over_the_shares(upper: bool, extreme: float):
    def rate(share: float) -> float:
        return sum(
            chance
            for (b, c), chance in chances(15, share, -0.1).items()
            if (score(b, c, 15, -0.1) >= extreme - 1e-9 if upper else score(b, c, 15, -0.1) <= extreme + 1e-9)
        )

    largest = max(rate(float(share)) for share in np.linspace(0.1, 1, 61))
    found = error_rate(extreme, 15, 0.1, upper=upper)
    assert found >= largest - 2e-4
    assert found == pytest.approx(largest, abs=2e-3)


@pytest.mark.parametrize(("items", "margin"), [(18, 0.1), (28, 0.05)])
def test_neither_error_is_more_frequent_than_its_level_whatever_changes(items: int, margin: float):
    """Not drawn but summed: at the margin, over every table, for many shares of changing items."""
    every = [PairedCounts(b, c, items) for b in range(items + 1) for c in range(items + 1 - b)]
    ps = {
        "pass": {(each.gained, each.lost): p_not_worse(each, margin) for each in every},
        "fail": {(each.gained, each.lost): p_worse(each, margin) for each in every},
    }
    for share in np.geomspace(margin, 1.0, 25):
        found = chances(items, float(share), -margin)
        for level, (verdict, p_values) in itertools.product((0.05, 0.01, 0.05 / 15), ps.items()):
            wrong = {pair for pair, p in p_values.items() if p <= level}
            assert wrong or verdict == "pass", "a test that never rejects would keep any level"
            assert sum(found[pair] for pair in wrong) <= level * 1.002


def test_tangos_own_error_rate_is_exceeded_where_every_change_is_a_loss():
    """Why the exact rate is asked for too: 300 items, 2 % change and all of them are lost."""
    limit = float(stats.norm.isf(0.05))
    assert chance_of(limit, 300, 0.02, share=0.02, difference=-0.02) > 0.06
    assert error_rate(limit, 300, 0.02, upper=True) > 0.06


@pytest.mark.parametrize(("share", "difference"), [(0.3, 0.0), (0.3, -0.15), (0.6, 0.1), (0.15, 0.1)])
def test_the_interval_covers_the_truth_as_often_as_it_says(share: float, difference: float):
    """Summed over all tables of 60 items. Asymptotic: near its confidence, not above it everywhere."""
    covered = sum(
        chance
        for (b, c), chance in chances(60, share, difference).items()
        if chance > 1e-9
        for low, high in [interval(PairedCounts(b, c, 60), 0.95)]
        if low <= difference <= high
    )
    assert 0.93 < covered < 0.975


@given(tables(120), st.sampled_from([0.01, 0.02, 0.1]))
def test_a_small_p_value_never_contradicts_the_interval(table: PairedCounts, margin: float):
    low, high = interval(table, 0.9)
    if p_not_worse(table, margin) < 0.05 - 1e-6:
        assert low > -margin - 1e-9
    if p_worse(table, margin) < 0.05 - 1e-6:
        assert high < -margin + 1e-9


@pytest.mark.parametrize(
    ("gained", "lost", "items"),
    [(-1, 0, 5), (0, -1, 5), (3, 3, 5), (0, 0, 0)],
    ids=["negative gains", "negative losses", "more changes than items", "no items"],
)
def test_what_is_no_table_is_refused(gained: int, lost: int, items: int):
    with pytest.raises(ValueError, match="is no table"):
        PairedCounts(gained, lost, items)


def test_one_gain_more_speaks_for_the_candidate_and_one_loss_more_against_it():
    for gained, lost in itertools.product(range(0, 12, 3), range(0, 12, 3)):
        here = p_not_worse(PairedCounts(gained, lost, 60), 0.05)
        assert p_not_worse(PairedCounts(gained + 1, lost, 60), 0.05) <= here + 1e-12
        assert p_not_worse(PairedCounts(gained, lost + 1, 60), 0.05) >= here - 1e-12
