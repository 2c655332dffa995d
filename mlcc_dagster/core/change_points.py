"""When a series of measurements changed its level, by how much, and how sure that is.

Belongs here: the searches for changes, by name, and what a change is. Not here: the statistic (`energy_splits.py`), how
small a change would be found (`detectability.py`), what a change means for a metric (`regressions.py`).

`permutation` splits the series at its best place while chance makes such a place in at most `SIGNIFICANCE` of all orders of
the segment's values, then each part again (E-divisive, Matteson and James 2014). A series without a change so has one found
with at most that probability, whatever the distribution of its values: ties, heavy tails and skew included. Other than
published, each part is tested by its own values alone, so that a loud part does not hide the change of a quiet one.

`t-test` is the variant of Hunter (Fleming et al., "Hunter: Using Change Point Detection to Hunt for Performance Regressions",
ICPE 2023): windows, Student's t-test, weak candidates merged. It is much faster and needs fewer values after a change, but
its p-values take no account of the search for the best place.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np
from scipy.stats import ttest_ind_from_stats

from mlcc_dagster.core.energy_splits import Floats, best_split, chance_of
from mlcc_dagster.core.exceptions import UsageError

SIGNIFICANCE = 0.02
"""The p-value of a change at most: of series that never changed this share has one found."""

FALSE_ALARMS = 0.03
"""What is stated of it: of a thousand such series hardly ever a larger share has a change found (1 time in 100)."""

FEWEST_RUNS = 10
"""Fewer values cannot tell: of their orders too large a share is as extreme as any."""

SEED = 20260601
"""Shuffles are drawn from it, so that the same series always has the same changes."""

HUNTER_WINDOW = 50
HUNTER_P = 0.001
"""Window and p-value of the `t-test` search, as published."""


@dataclass(frozen=True)
class ChangePoint:
    """A change of level: `index` is the place of the first value after it; `before` and `after` are the means of the values
    between the changes next to it; `p_value` as the search means it."""

    index: int
    before: float
    after: float
    p_value: float

    @property
    def magnitude_pct(self) -> float | None:
        """The change in percent of the level before, none where that is 0."""
        return (self.after - self.before) / abs(self.before) * 100 if self.before else None

    def to_json(self) -> dict[str, Any]:
        """Return place, levels, magnitude and p-value as JSON values."""
        magnitude = self.magnitude_pct
        return {
            "index": self.index,
            "before": self.before,
            "after": self.after,
            "magnitude_pct": None if magnitude is None else round(magnitude, 1),
            "p_value": float(f"{self.p_value:.3g}"),
        }


def change_points(values: Sequence[float | None], *, search: str = "permutation") -> tuple[ChangePoint, ...]:
    """Return the changes of a series, oldest first. What is absent or not finite is left out, never filled in; `index`
    counts all values.

    Raises `UsageError` naming the searches for an unknown one.
    """
    look = search_named(search)
    present = [place for place, value in enumerate(values) if value is not None and math.isfinite(value)]
    series = np.array([values[place] for place in present], dtype=float)
    return tuple(replace(change, index=present[change.index]) for change in look(series))


def search_named(name: str) -> Callable[[Floats], tuple[ChangePoint, ...]]:
    """Return a search by its name. Raises `UsageError` naming the known ones."""
    if name not in SEARCHES:
        raise UsageError(f"no search '{name}'; use one of {', '.join(SEARCHES)}")
    return SEARCHES[name]


# ---- permutation


def _by_permutation(series: Floats) -> tuple[ChangePoint, ...]:
    generator = np.random.default_rng(SEED)
    found: dict[int, float] = {}
    segments = [(0, len(series))]
    while segments:
        begin, end = segments.pop()
        segment = series[begin:end]
        split = best_split(segment) if end - begin >= FEWEST_RUNS else None
        if split is None:
            continue
        chance = chance_of(segment, split, generator)
        if chance <= SIGNIFICANCE:
            found[begin + split.at] = chance
            segments += [(begin + split.at, end), (begin, begin + split.at)]
    return _with_levels(series, found)


def _with_levels(series: Floats, chances: Mapping[int, float]) -> tuple[ChangePoint, ...]:
    places = sorted(chances)
    bounds = [0, *places, len(series)]
    levels = [float(series[begin:end].mean()) for begin, end in pairwise(bounds)] if places else []
    return tuple(ChangePoint(at, levels[n], levels[n + 1], chances[at]) for n, at in enumerate(places))


# ---- Hunter


def _by_t_test(series: Floats) -> tuple[ChangePoint, ...]:
    return _merged(series, _weak_points(series))


def _weak_points(series: Floats) -> list[int]:
    """Return what windows of the series show at ten times the p-value: candidates, of which a neighbour may yet take one
    away."""
    found: set[int] = set()
    begin = 0
    while begin < len(series):
        window = series[begin : begin + HUNTER_WINDOW]
        inside = _divided(window)
        found |= {begin + at for at in inside}
        newest = begin + inside[-1] if inside else 0
        begin = max(newest, begin + HUNTER_WINDOW // 2)
    return sorted(found)


def _divided(window: Floats) -> list[int]:
    """Split a window at its best place again and again, until the best one left is not significant."""
    places: list[int] = []
    while True:
        bounds = [0, *places, len(window)]
        best: tuple[float, int, int, int] | None = None
        for begin, end in pairwise(bounds):
            split = best_split(window[begin:end], beside=1)
            if split is not None and (best is None or split.statistic > best[0]):
                best = split.statistic, begin, begin + split.at, end
        if best is None or _t_test(window, *best[1:]) > 10 * HUNTER_P:
            return places
        places = sorted([*places, best[2]])


def _merged(series: Floats, places: list[int]) -> tuple[ChangePoint, ...]:
    """Take the weakest candidate away until all are significant between their neighbours."""
    while places:
        bounds = [0, *places, len(series)]
        chances = [_t_test(series, *bounds[n : n + 3]) for n in range(len(places))]
        if max(chances) < HUNTER_P:
            return _with_levels(series, dict(zip(places, chances, strict=True)))
        del places[chances.index(max(chances))]
    return ()


def _t_test(series: Floats, begin: int, at: int, end: int) -> float:
    """Return the p-value that both sides have one mean; deviations are those of the values themselves (not the estimate of a
    population's), as published."""
    before, after = series[begin:at], series[at:end]
    if len(before) + len(after) <= 2:
        return 1.0
    moments = (before.mean(), before.std(), len(before), after.mean(), after.std(), len(after))
    with np.errstate(divide="ignore", invalid="ignore"):
        chance = float(ttest_ind_from_stats(*moments).pvalue)
    # both sides constant: equal levels have no statistic, other ones an infinite one
    return 1.0 if math.isnan(chance) else chance


SEARCHES: Mapping[str, Callable[[Floats], tuple[ChangePoint, ...]]] = MappingProxyType(
    {"permutation": _by_permutation, "t-test": _by_t_test}
)
"""The searches by name, the default first."""
