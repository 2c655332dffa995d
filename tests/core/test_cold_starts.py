"""A first run that stands out is flagged; a first run that was right is not."""

import numpy as np
import pytest
from scipy.stats import binom

from mlcc_dagster.core.cold_starts import FOLLOWERS, cold_starts

OLD, NEW, UNKNOWN = {"template": "t1"}, {"template": "t2"}, {}


@pytest.mark.parametrize(
    ("values", "grounds", "expected", "why"),
    [
        ([40, 20, 21, 20, 21, 20], [OLD] * 6, (0,), "the first run of all, twice as slow"),
        ([40, 20, 21, 20, 21], [OLD] * 5, (), "four runs after it are too few to say"),
        ([21, 20, 21, 20, 21, 20], [OLD] * 6, (), "as the others"),
        ([5, 20, 21, 20, 21, 20], [OLD] * 6, (), "faster is not cold"),
        ([20] * 6 + [40] + [20] * 6, [OLD] * 6 + [NEW] * 7, (6,), "the first run of a new template"),
        ([20] * 6 + [40] + [20] * 6, [OLD] * 13, (), "nothing was new: an outlier, no cold start"),
        ([20] * 6 + [40] + [20] * 6, [OLD] * 6 + [UNKNOWN] * 7, (), "what is not known has not changed"),
        ([20] * 6 + [40] * 7, [OLD] * 6 + [NEW] * 7, (), "all runs of the new template are slow: a regression"),
        ([20] * 6 + [40, 20, 20] + [20] * 6, [OLD] * 6 + [NEW] * 3 + [OLD] * 6, (), "it had two followers"),
        ([20.5, 20, 20, 20, 20, 20], [OLD] * 6, (), "2.5 % is none, though the others agree to the last digit"),
        ([30, 20, 40, 20, 21, 20], [OLD] * 6, (), "another one was slower still"),
    ],
)
def test_a_cold_start_is_the_first_of_something_new_and_stands_out(values, grounds, expected, why) -> None:
    assert cold_starts(values, grounds, higher_is_better=False) == expected, why


def test_of_a_throughput_low_is_cold() -> None:
    assert cold_starts([5, 20, 21, 20, 21, 20], [OLD] * 6, higher_is_better=True) == (0,)
    assert cold_starts([40, 20, 21, 20, 21, 20], [OLD] * 6, higher_is_better=True) == ()


@pytest.mark.parametrize(("runs", "share"), [(FOLLOWERS + 1, 0.02), (20, 0.003)])
def test_without_any_change_few_first_runs_are_flagged(runs: int, share: float) -> None:
    generator = np.random.default_rng(3)
    found = sum(
        bool(cold_starts(list(100 * np.exp(0.1 * generator.normal(size=runs))), [OLD] * runs, higher_is_better=False))
        for _ in range(1500)
    )
    assert found <= binom.ppf(0.999, 1500, share)
