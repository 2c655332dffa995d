"""The statistic is the published one, and its p-values keep their word."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from mlcc_dagster.core.energy_splits import Split, best_split, chance_of


def energy(before: list[float], after: list[float]) -> float:
    """The statistic of a split as the paper writes it: pairs, counted one by one."""
    n, m = len(before), len(after)
    crossed = sum(abs(x - y) for x in before for y in after) * 2 / (n * m)
    within = sum(abs(x - y) for x, y in itertools.combinations(before, 2)) * 2 / (n * (n - 1)) if n > 1 else 0.0
    beyond = sum(abs(x - y) for x, y in itertools.combinations(after, 2)) * 2 / (m * (m - 1)) if m > 1 else 0.0
    return (crossed - within - beyond) * n * m / (n + m)


def all_splits(values: list[float], beside: int) -> dict[tuple[int, int], float]:
    return {
        (t, k): energy(values[:t], values[t:k])
        for k in range(2 * beside, len(values) + 1)
        for t in range(beside, k - beside + 1)
    }


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=4, max_size=14), st.sampled_from([1, 2]))
def test_the_best_split_is_the_one_that_counting_pairs_finds(values: list[float], beside: int) -> None:
    found = best_split(np.array(values), beside=beside)
    expected = all_splits(values, beside)
    assert found is not None
    assert found.statistic == pytest.approx(max(expected.values()), abs=1e-7 * (1 + max(map(abs, values))))
    best_here = max(value for (t, _), value in expected.items() if t == found.at)
    assert best_here == pytest.approx(found.statistic, abs=1e-7 * (1 + max(map(abs, values))))


@pytest.mark.parametrize(("length", "beside"), [(0, 2), (3, 2), (1, 1)])
def test_too_few_values_have_no_split(length: int, beside: int) -> None:
    assert best_split(np.zeros(length), beside=beside) is None


def test_what_came_and_went_is_found_too() -> None:
    values = np.array([1.0, 1.1] * 6 + [9.0, 9.1] * 3 + [1.0, 1.1] * 20)
    split = best_split(values)
    assert split is not None
    assert split.at == 12


def test_values_that_are_all_the_same_have_no_chance_of_a_change() -> None:
    values = np.full(20, 3.0)
    split = best_split(values)
    assert split is not None
    assert chance_of(values, split, np.random.default_rng(1)) == 1.0


def test_the_p_value_of_ten_values_is_about_that_of_all_their_orders() -> None:
    """Of six high values and four low ones 2 of the 210 arrangements are as apart."""
    values = np.array([10.43, 10.23, 10.29, 10.91, 10.34, 10.69, 9.23, 9.11, 9.13, 9.03])
    split = best_split(values)
    assert split == Split(6, split.statistic if split else 0)
    chances = [chance_of(values, split, np.random.default_rng(seed)) for seed in range(40)]
    assert np.mean(chances) == pytest.approx(2 / 210, abs=0.003)


NOISES = {
    "normal": lambda g, n: g.normal(size=n),
    "heavy tails": lambda g, n: g.standard_t(1.5, size=n),
    "skew": lambda g, n: np.exp(g.normal(size=n)),
    "ties": lambda g, n: g.integers(0, 3, size=n).astype(float),
    "mostly one value": lambda g, n: (g.random(n) < 0.1).astype(float),
}


@pytest.mark.parametrize("noise", NOISES)
def test_p_values_are_no_smaller_than_chance_makes_them(noise: str) -> None:
    """Of 300 segments without a change at most a share p has a p-value of p or less, but for what 300 draws may show."""
    generator = np.random.default_rng(20261122)
    chances = []
    for _ in range(300):
        values = NOISES[noise](generator, 16)
        split = best_split(values)
        assert split is not None
        chances.append(chance_of(values, split, generator))
    for level in (0.02, 0.1, 0.3):
        found = sum(chance <= level for chance in chances)
        assert found <= binom.ppf(0.999, len(chances), level), f"{found} of {len(chances)} at {level}"


def test_the_same_generator_gives_the_same_answer() -> None:
    values = np.random.default_rng(5).normal(size=30)
    split = best_split(values)
    assert split is not None
    one, other = (chance_of(values, split, np.random.default_rng(7)) for _ in range(2))
    assert one == other
