"""Evidence that may be looked at after every trial: it never says too much, and agrees with what it stands for."""

import random
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_cells import counted, drawn, written

from mlcc_dagster.core.triage.anytime import EARLY, LOOKING, anytime_evidence, chance_of_credit, e_value, failures
from mlcc_dagster.core.triage.cell_evidence import SIGNIFICANCE, fisher_less

outcomes = st.lists(st.booleans(), max_size=12)


@pytest.mark.parametrize("rate", [0.02, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("pairs", [1, 2, 4])
def test_the_mean_of_the_last_e_value_is_at_most_one_whatever_the_common_rate_is(rate: float, pairs: int):
    """The exact mean over all outcomes; of the running maximum no such thing holds, so the last factor is taken alone."""
    total = 0.0
    for letters in product((False, True), repeat=2 * pairs):
        base, cell = letters[:pairs], letters[pairs:]
        failed = sum(letters)
        total += rate**failed * (1 - rate) ** (2 * pairs - failed) * last_e_value(base, cell)
    assert total <= 1 + 1e-9


def last_e_value(base: tuple[bool, ...], cell: tuple[bool, ...]) -> float:
    """The e-value after the last pair: a plain form of the weighted mean of products."""
    total = 0.0
    for a in np.arange(0.05, 1.0, 0.05):
        for left, weight in ((0.01, 0.7), (0.1, 0.2), (0.3, 0.1)):
            b = a * left
            m = (a + b) / 2
            value = 1.0
            for x, y in zip(base, cell, strict=True):
                value *= (a if x else 1 - a) * (b if y else 1 - b) / ((m if x else 1 - m) * (m if y else 1 - m))
            total += weight / 19 * value
    return total


@given(base=outcomes, cell=outcomes)
def test_the_e_value_is_the_largest_of_its_plain_form_over_all_pairs(base: list[bool], cell: list[bool]):
    pairs = min(len(base), len(cell))
    plain = [last_e_value(tuple(base[:n]), tuple(cell[:n])) for n in range(1, pairs + 1)]
    assert e_value(base, cell) == pytest.approx(max(1.0, *plain) if plain else 1.0, rel=1e-9)


def test_looking_after_every_trial_credits_no_more_than_is_said():
    drawer = random.Random(7)
    matrices, credited = 600, 0
    for _ in range(matrices):
        rate = drawer.choice((0.2, 0.5, 0.8))
        base = [drawer.random() < rate for _ in range(32)]
        cell = [drawer.random() < rate for _ in range(32)]
        credited += e_value(base, cell) >= EARLY
    # four standard deviations above the bound
    assert credited <= matrices * LOOKING + 4 * (matrices * LOOKING * (1 - LOOKING)) ** 0.5


def test_a_cure_is_credited_long_before_the_end():
    assert e_value([True, False] * 10, [False] * 20) >= EARLY
    assert e_value([True, False] * 10, [True, False] * 10) < 1.5


@given(
    base=st.tuples(st.integers(0, 10), st.integers(0, 10)),
    cell=st.tuples(st.integers(0, 10), st.integers(0, 10)),
)
def test_with_no_trial_left_the_chance_of_a_credit_is_what_fisher_says(base, cell):
    (base_failed, base_passed), (failed, passed) = base, cell
    trials, base_trials = failed + passed, base_failed + base_passed
    chance = chance_of_credit(base_failed, base_trials, failed, trials, base_left=0, cell_left=0)
    assert chance == pytest.approx(float(fisher_less(failed, trials, base_failed, base_trials) <= SIGNIFICANCE))


def test_the_chance_of_a_credit_is_that_of_drawing_the_rest():
    drawer = random.Random(3)
    hits = 0
    for _ in range(4000):
        base_rate, rate = drawer.betavariate(5.5, 3.5), drawer.betavariate(1.5, 7.5)
        base = 5 + sum(drawer.random() < base_rate for _ in range(8))
        cell = 1 + sum(drawer.random() < rate for _ in range(8))
        hits += fisher_less(cell, 16, base, 16) <= SIGNIFICANCE
    chance = chance_of_credit(5, 8, 1, 8, base_left=8, cell_left=8)
    assert hits / 4000 == pytest.approx(chance, abs=0.03)


def test_errors_are_no_pairs_and_take_trials_away():
    found = anytime_evidence(written("b", "fefe"), written("c", "pp"), base_most=4, cell_most=2)
    assert (found.pairs, found.ended) == (2, True)
    assert failures(written("b", "fepe")) == [True, False]


def test_the_evidence_says_how_it_stands():
    drawer = random.Random(1)
    found = anytime_evidence(counted("b", 5, 10), drawn(drawer, "c", 0.0, 10), base_most=32, cell_most=32)
    assert not found.early
    assert found.text.startswith("e = ")
    assert found.to_json()["credited_from"] == EARLY
