"""The place where a series of numbers differs most before and after, and how likely chance alone makes it so.

Belongs here: the energy statistic of every split of one segment, and its permutation test. Not here: which segments are
asked (`change_points.py`), what a change means for a metric (`regressions.py`).

The statistic is that of E-divisive (Matteson and James, "A Nonparametric Approach for Multiple Change Point Analysis of
Multivariate Data", JASA 109, 2014) with exponent 1: for a split at t and an end at k it is mn/(m+n) times the mean distance
between the m values before and the n after, doubled, minus the mean distances within each. The largest over all t and k
marks the place; an end before the last value lets it find what came and went. All of it comes from one table of prefix sums:
S[t, k] is the sum of the distances between the first t and the first k values.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

FEWEST_BESIDE = 2
"""Fewest values on either side of a split: one alone has no spread, so nothing tells a change from an outlier."""

PERMUTATIONS = 499
"""Shuffles of a test at most; the smallest p-value is 1/500."""

EXTREMES = 20
"""So many shuffles at least as extreme end a test early: its p-value is then no small one (Besag and Clifford, "Sequential
Monte Carlo p-values", Biometrika 78, 1991)."""

_AS_EXTREME = 1 - 1e-9  # the same split in another order adds up to the same sum but for its last bits
_CELLS_AT_ONCE = 120_000  # distances of a batch of shuffles: more no longer fits the processor's cache

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Split:
    """The best place to split a segment: `at` is the place of the first value after it, within the segment."""

    at: int
    statistic: float


@lru_cache(maxsize=256)
def _there(length: int, beside: int) -> NDArray[np.bool_]:
    """Return which splits (rows) and ends (columns) leave `beside` values on either side."""
    splits = np.arange(beside, length - beside + 1)[:, None]
    found = np.arange(2 * beside, length + 1)[None, :] - splits >= beside
    found.setflags(write=False)
    return found


@lru_cache(maxsize=256)
def _coefficients(length: int, beside: int) -> tuple[Floats, Floats, Floats]:
    """Return what S[t, k], S[t, t] and S[k, k] weigh in the statistic, by t (rows) and k (columns); 0 where a side would
    have fewer than `beside` values."""
    before = np.arange(beside, length - beside + 1, dtype=float)[:, None]
    after = np.arange(2 * beside, length + 1, dtype=float)[None, :] - before
    there = _there(length, beside)
    after = np.where(there, after, float(beside))
    both = before + after
    # of a single value there is no pair: its mean distance within is 0
    within_before = np.where(before > 1, after / (both * np.maximum(before - 1, 1)), 0.0)
    within_after = np.where(after > 1, before / (both * np.maximum(after - 1, 1)), 0.0)
    crossed = 2 / both
    weights = (crossed + 2 * within_after, -crossed - within_before - within_after, -within_after)
    kept = tuple(np.where(there, weight, 0.0) for weight in weights)
    for weight in kept:
        weight.setflags(write=False)
    return kept[0], kept[1], kept[2]


def _statistics(values: Floats, beside: int) -> Floats:
    """Return the statistic of every split and end of each row of `values` (rows x length): rows x splits x ends."""
    length = values.shape[-1]
    sums = np.abs(values[:, :, None] - values[:, None, :])
    np.cumsum(sums, axis=2, out=sums)
    np.cumsum(sums, axis=1, out=sums)
    corner = np.diagonal(sums, axis1=1, axis2=2)
    crossed, first, last = _coefficients(length, beside)
    found = crossed * sums[:, beside - 1 : length - beside, 2 * beside - 1 :]
    found += first * corner[:, beside - 1 : length - beside, None]
    found += last * corner[:, None, 2 * beside - 1 :]
    return found


def best_split(values: Floats, *, beside: int = FEWEST_BESIDE) -> Split | None:
    """Return the split with the largest statistic (the first of several), in the unit of the values; none where they are too
    few for two sides of `beside`."""
    if len(values) < 2 * beside:
        return None
    # where no split and end are there is a 0, and all that are may be below it
    found = np.where(_there(len(values), beside), _statistics(values[None, :], beside)[0], -np.inf)
    row, column = np.unravel_index(int(np.argmax(found)), found.shape)
    return Split(int(row) + beside, float(found[row, column]))


def chance_of(values: Floats, split: Split, generator: np.random.Generator, *, beside: int = FEWEST_BESIDE) -> float:
    """Return how likely the same values in random order have a split at least as good: a p-value above 0.

    It holds for values that could as well have come in any other order, whatever their distribution: at most a share p of
    segments without a change has a p-value of p or less. The same generator gives the same answer.
    """
    if not split.statistic > 0:
        return 1.0
    at_once = max(1, min(64, _CELLS_AT_ONCE // len(values) ** 2))
    extremes = done = 0
    while done < PERMUTATIONS and extremes < EXTREMES:
        count = min(at_once, PERMUTATIONS - done)
        shuffled = generator.permuted(np.broadcast_to(values, (count, len(values))), axis=1)
        best = _statistics(shuffled, beside).reshape(count, -1).max(axis=1)
        extremes += int(np.count_nonzero(best >= split.statistic * _AS_EXTREME))
        done += count
    return (extremes + 1) / (done + 1)
