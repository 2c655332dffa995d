"""Evidence: the exact test, the interval, and how many trials would do."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mlcc_dagster.core.triage.cell_evidence import (
    POWER,
    SIGNIFICANCE,
    Evidence,
    beta_interval,
    fisher_less,
    trials_needed,
)


@given(st.integers(1, 60), st.integers(1, 60), st.data())
def test_the_p_value_is_that_of_fishers_exact_test(trials, base_trials, data):
    failed = data.draw(st.integers(0, trials))
    base_failed = data.draw(st.integers(0, base_trials))
    table = [[failed, trials - failed], [base_failed, base_trials - base_failed]]
    expected = stats.fisher_exact(table, alternative="less").pvalue
    assert fisher_less(failed, trials, base_failed, base_trials) == pytest.approx(expected, rel=1e-9)


def test_a_million_trials_are_no_trouble():
    expected = stats.hypergeom.cdf(100, 2_000_000, 300, 1_000_000)
    assert fisher_less(100, 1_000_000, 200, 1_000_000) == pytest.approx(expected, rel=1e-6)


@given(st.integers(1, 500), st.data())
def test_the_interval_holds_the_rate_that_was_seen(trials, data):
    failed = data.draw(st.integers(0, trials))
    low, high = beta_interval(failed, trials)
    assert 0 <= low <= failed / trials <= high <= 1


def test_the_interval_is_that_of_jeffreys():
    expected = stats.beta.ppf([0.025, 0.975], 2.5, 6.5)
    assert beta_interval(2, 8) == pytest.approx(tuple(expected))
    assert beta_interval(0, 8)[0] == 0
    assert beta_interval(8, 8)[1] == 1


def power(n: int, base_rate: float, rate: float) -> float:
    """How often the exact test with n trials per cell finds the difference: the sum over all outcomes."""
    cell, base = (stats.binom.pmf(np.arange(n + 1), n, each) for each in (rate, base_rate))
    found = [
        cell[failed] * base[base_failed]
        for failed in range(n + 1)
        for base_failed in range(failed + 1, n + 1)
        if fisher_less(failed, n, base_failed, n) <= SIGNIFICANCE
    ]
    return float(np.sum(found))


@pytest.mark.parametrize(("base_rate", "rate"), [(0.4, 0.0), (0.5, 0.1), (0.9, 0.5), (0.2, 0.0)])
def test_as_many_trials_as_are_called_needed_show_the_difference_about_as_often_as_is_said(base_rate, rate):
    needed = trials_needed(base_rate, rate)
    assert needed is not None
    assert power(needed, base_rate, rate) == pytest.approx(POWER, abs=0.09)
    assert power(needed // 2, base_rate, rate) < POWER - 0.1


def test_no_number_of_trials_shows_what_is_not_there():
    assert trials_needed(0.3, 0.3) is None
    assert trials_needed(0.0, 0.5) is None


@pytest.mark.parametrize(("p", "text"), [(0.5, "p = 0.5"), (0.0123, "p = 0.012"), (1e-9, "p < 0.0001"), (1.0, "p = 1")])
def test_a_p_value_is_never_written_as_nothing(p, text):
    assert Evidence(0, 8, 4, 8, p, 0.0, 0.3, 10).p_text == text
