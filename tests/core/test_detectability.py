"""The noise floor is the spread; what would have been found is found."""

import numpy as np
import pytest
from scipy.stats import binom

from mlcc_dagster.core.change_points import FEWEST_RUNS, change_points
from mlcc_dagster.core.detectability import (
    FRESH_RUNS,
    POWER,
    minimum_detectable_effect_pct,
    noise_floor_pct,
)


def test_the_noise_floor_is_the_deviation_in_percent_of_the_mean() -> None:
    assert noise_floor_pct([95.0, 105.0] * 8) == pytest.approx(5.1640, abs=1e-4)


@pytest.mark.parametrize("level", [[], [1.0], [1.0] * (FEWEST_RUNS - 1), [-1.0, 1.0] * 10])
def test_too_few_runs_or_a_mean_of_0_have_no_noise_floor(level: list[float]) -> None:
    assert noise_floor_pct(level) is None
    assert minimum_detectable_effect_pct(level) is None


def test_a_level_without_noise_would_have_revealed_any_change() -> None:
    assert minimum_detectable_effect_pct([5.0] * 20) == 0.0
    assert [change.index for change in change_points([5.0] * 20 + [5.001] * FRESH_RUNS)] == [20]


def test_more_runs_and_less_noise_reveal_smaller_changes() -> None:
    found = [
        minimum_detectable_effect_pct([100 - size, 100 + size] * runs) for runs, size in ((6, 5), (20, 5), (20, 1))
    ]
    assert found == sorted(found, key=lambda each: -(each or 0))
    assert len(set(found)) == 3


NOISES = {
    "normal": lambda g, n: g.normal(size=n),
    "heavy tails": lambda g, n: g.standard_t(3, size=n),
    "skew": lambda g, n: np.exp(0.5 * g.normal(size=n)),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("runs", [12, 30])
def test_shifts_of_the_stated_size_are_found_in_at_least_the_stated_share(kind: str, runs: int) -> None:
    """150 series of each: what their history says would be found is laid upon five more runs, up or down, and searched.

    The bound is what 150 draws with a share of `POWER` fall below once in 1,000 times.
    """
    generator = np.random.default_rng(20261122)
    found = 0
    for draw in range(150):
        values = 100 + 2 * NOISES[kind](generator, runs + FRESH_RUNS)
        effect = minimum_detectable_effect_pct(list(values[:runs]))
        assert effect is not None
        values[runs:] += (1 if draw % 2 else -1) * effect / 100 * values[:runs].mean()
        found += any(abs(change.index - runs) <= 2 for change in change_points(list(values)))
    print(f"{kind}, {runs} runs: {found} of 150")
    assert found >= binom.ppf(0.001, 150, POWER)
