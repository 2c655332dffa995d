"""How much a series moves by itself, and how small a change would be found in it.

Belongs here: the noise floor and the minimum detectable effect. Not here: finding changes (`change_points.py`).

The minimum detectable effect of n runs at one level is the shift that the `permutation` search finds, within two runs of its
place, in at least 80 % of cases once `FRESH_RUNS` more runs lie at the new level. In standard deviations, as estimated from
the n runs, it is c sqrt(1/FRESH_RUNS + 1/n): the standard error of the difference of two means, times what the search and the
uncertain deviation cost. The constant was chosen on simulated series of normal noise with n from 10 to 195; `python -m
benchmarks change_points` measures how often such shifts are found, under other noise too.
"""

from collections.abc import Sequence
from math import sqrt
from statistics import fmean, stdev

from mlcc_dagster.core.change_points import FEWEST_RUNS

FRESH_RUNS = 5
"""Runs after a change within which it would be found."""

POWER = 0.8
"""The share of such changes that is found at least."""

_STANDARD_ERRORS = 5.7


def noise_floor_pct(level: Sequence[float]) -> float | None:
    """Return the standard deviation of the runs at one level, in percent of their mean; none for fewer than `FEWEST_RUNS` or
    a mean of 0."""
    if len(level) < FEWEST_RUNS or fmean(level) == 0:
        return None
    return stdev(level) / abs(fmean(level)) * 100


def minimum_detectable_effect_pct(level: Sequence[float]) -> float | None:
    """Return the smallest change, in percent of the level, that would be found; none where the noise floor is not known.

    A level without any noise has 0: every change would be found.
    """
    noise = noise_floor_pct(level)
    if noise is None:
        return None
    count = len(level)
    return noise * _STANDARD_ERRORS * sqrt(1 / FRESH_RUNS + 1 / count)
