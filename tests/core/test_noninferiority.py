"""Holm over buckets keeps both error rates for all of them together, and the planned items have the planned power."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mlcc_dagster.core.noninferiority import (
    BucketJudgement,
    Verdict,
    holm,
    items_for_power,
    judge,
    required_shift,
)
from mlcc_dagster.core.paired_scores import PairedCounts

EVEN = PairedCounts(12, 12, 240)
"""10 % of 240 answers changed, as many for the better as for the worse."""


def closed_test(p_values: list[float], alpha: float) -> list[bool]:
    """What the closure of Bonferroni's test rejects, from the definition: a hypothesis falls with all intersections it is in."""
    indices = range(len(p_values))
    subsets = [set(each) for size in range(1, len(p_values) + 1) for each in itertools.combinations(indices, size)]
    fallen = [each for each in subsets if min(p_values[index] for index in each) <= alpha / len(each)]
    return [all(each in fallen for each in subsets if index in each) for index in indices]


@given(st.lists(st.sampled_from([0.0001, 0.005, 0.012, 0.0125, 0.02, 0.04, 0.3]), min_size=1, max_size=5))
def test_holm_rejects_what_the_closed_test_rejects(p_values: list[float]):
    assert holm(p_values, 0.05) == closed_test(p_values, 0.05)


def test_holm_on_an_example_by_hand():
    """0.01 against 0.05/4, 0.015 against 0.05/3, 0.03 against 0.05/2: the third stays, so the fourth does too."""
    assert holm([0.03, 0.01, 0.04, 0.015], 0.05) == [False, True, False, True]


def test_one_bucket_needs_the_two_quantiles_that_books_give():
    assert required_shift(1) == pytest.approx(stats.norm.isf(0.05) + stats.norm.isf(0.2))


@pytest.mark.parametrize("buckets", [2, 6, 15])
def test_scores_shifted_so_far_are_all_rejected_with_the_power(buckets: int):
    drawn = np.random.default_rng(5).standard_normal((20_000, buckets)) + required_shift(buckets)
    ordered = np.sort(stats.norm.sf(drawn), axis=1)
    rejected = (ordered <= 0.05 / np.arange(buckets, 0, -1)).all(axis=1).mean()
    assert rejected == pytest.approx(0.8, abs=4 * (0.8 * 0.2 / 20_000) ** 0.5)


@pytest.mark.parametrize(
    ("table", "others", "verdict"),
    [
        pytest.param(PairedCounts(300, 300, 6000), 0, Verdict.PASS, id="equal, enough items"),
        pytest.param(EVEN, 0, Verdict.INCONCLUSIVE, id="equal, too few items"),
        pytest.param(PairedCounts(24, 0, 240), 0, Verdict.PASS, id="far better needs few items"),
        pytest.param(PairedCounts(0, 24, 240), 0, Verdict.FAIL, id="far worse"),
        pytest.param(PairedCounts(300, 420, 6000), 0, Verdict.INCONCLUSIVE, id="exactly at the margin stays open"),
        pytest.param(PairedCounts(0, 0, 200), 0, Verdict.PASS, id="nothing changed, one bucket"),
        pytest.param(PairedCounts(0, 0, 200), 11, Verdict.INCONCLUSIVE, id="nothing changed, beside many open buckets"),
        pytest.param(PairedCounts(4, 20, 240), 0, Verdict.FAIL, id="worse, one bucket"),
        pytest.param(PairedCounts(4, 20, 240), 11, Verdict.INCONCLUSIVE, id="worse by chance in one of many"),
    ],
)
def test_the_verdict_of_a_bucket(table: PairedCounts, others: int, verdict: Verdict):
    tables = {"this": table} | {f"other {number}": EVEN for number in range(others)}
    assert judge(tables, margin=0.02)["this"].verdict is verdict


def judged(table: PairedCounts, *, margin: float = 0.02) -> BucketJudgement:
    return judge({"bucket": table}, margin=margin)["bucket"]


def test_an_open_bucket_says_how_many_items_are_missing():
    found = judged(EVEN)
    assert found.items_for_power is not None
    assert found.items_needed == found.items_for_power - 240
    assert not found.as_observed


def test_where_the_items_suffice_for_an_equal_candidate_the_seen_difference_is_supposed():
    found = judged(PairedCounts(60, 110, 3000))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.items_for_power is not None and found.items_for_power < 3000
    assert found.as_observed and found.items_needed is not None and found.items_needed > 3000


def test_a_bucket_that_looks_worse_is_told_how_many_items_would_show_it():
    found = judged(PairedCounts(60, 135, 3000))
    assert found.verdict is Verdict.INCONCLUSIVE and found.table.difference < -0.02
    assert found.as_observed and found.items_needed is not None and found.items_needed > 3000


def test_at_the_margin_no_number_of_items_decides():
    found = judged(PairedCounts(300, 420, 6000))
    assert found.items_needed is None


def test_where_nothing_may_be_lost_an_equal_candidate_never_passes():
    found = judged(PairedCounts(0, 0, 500), margin=0.0)
    assert (found.verdict, found.items_needed) == (Verdict.INCONCLUSIVE, None)
    assert judged(PairedCounts(40, 2, 500), margin=0.0).verdict is Verdict.PASS


def test_more_buckets_and_more_change_need_more_items_and_a_larger_margin_fewer():
    def needed(share: float, margin: float, buckets: int) -> int:
        found = items_for_power(share, margin=margin, buckets=buckets)
        assert found is not None
        return found

    assert needed(0.1, 0.02, 1) < needed(0.1, 0.02, 10)
    assert needed(0.05, 0.02, 5) < needed(0.1, 0.02, 5)
    assert needed(0.1, 0.04, 5) < needed(0.1, 0.02, 5)


def test_what_would_need_more_than_a_million_items_has_no_number():
    assert items_for_power(0.5, margin=0.0005, buckets=10) is None


@pytest.mark.parametrize(
    "arguments",
    [{"margin": -0.1}, {"margin": 1.0}, {"margin": 0.02, "alpha": 0.5}, {"margin": 0.02, "power": 1.0}],
    ids=["a negative margin", "everything may be lost", "alpha of a half", "certainty"],
)
def test_numbers_out_of_range_are_refused(arguments: dict[str, float]):
    with pytest.raises(ValueError, match="out of range"):
        judge({"bucket": EVEN}, **arguments)


def test_no_buckets_are_refused():
    with pytest.raises(ValueError, match="no buckets"):
        judge({}, margin=0.02)
