"""How much better or worse one model is than another on the same items: Tango's score interval, and exact error rates.

Belongs here: one paired table of wins and losses, its interval and its p-values. Not here: several buckets at once, verdicts
and planning (`noninferiority.py`).

On the same items a candidate gained `gained` answers that the baseline had wrong and lost `lost` that it had right; the rest
did not change. The difference of the accuracies is `(gained - lost) / items`. Source of the statistic and of the interval:
T. Tango, Equivalence test and confidence interval for the difference in proportions for the paired-sample design, Statistics
in Medicine 17 (1998) 891-908. Source of the exact error rates: H. Hsueh, J. Liu, J. Chen, Unconditional exact tests for
equivalence or noninferiority for paired binary endpoints, Biometrics 57 (2001) 478-483: how probable the score or a more
extreme one is at most, whatever share of the items changes.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

Numbers = NDArray[np.float64]

_SHARES, _FINER = 48, 9
"""Shares of changing items that are tried for the largest error rate, and around the best of them."""

_DEVIATIONS = 9.0
"""How many standard deviations of the number of changing items are summed: what lies outside is below 1e-17."""

_ROUNDING = 1e-9
"""Scores that differ by less are the same score: tables of equal score must not be told apart by rounding."""


@dataclass(frozen=True)
class PairedCounts:
    """One table: `gained` and `lost` of `items` answers changed. Raises `ValueError` where it is none."""

    gained: int
    lost: int
    items: int

    def __post_init__(self) -> None:
        if self.gained < 0 or self.lost < 0 or self.items < 1 or self.gained + self.lost > self.items:
            raise ValueError(f"{self.gained} gained and {self.lost} lost of {self.items} items is no table")

    @property
    def changed(self) -> int:
        """Answers that changed, in either direction."""
        return self.gained + self.lost

    @property
    def difference(self) -> float:
        """Candidate minus baseline, a share of the items from -1 to 1."""
        return (self.gained - self.lost) / self.items


def score(gained: Numbers | float, lost: Numbers | float, items: int, difference: float) -> Numbers:
    """Return Tango's statistic of each table against a true difference: above 0 the data speak for a larger one.

    0 where nothing could change (no changed item, and a true difference of 0).
    """
    b, c = np.asarray(gained, dtype=np.float64), np.asarray(lost, dtype=np.float64)
    linear = -b - c + (2 * items - b + c) * difference
    constant = -c * difference * (1 - difference)
    # the most likely share of losses where the true difference is the one asked about
    losing = (np.sqrt(np.maximum(linear * linear - 8 * items * constant, 0)) - linear) / (4 * items)
    variance = items * (2 * losing + difference * (1 - difference))
    above = b - c - items * difference
    with np.errstate(divide="ignore", invalid="ignore"):
        found = above / np.sqrt(np.maximum(variance, 0))
    # at the edge of what is possible the variance is 0: the table is the only one there is, or an impossible one
    edge = np.where(np.abs(above) < _ROUNDING, 0.0, np.copysign(np.inf, above))
    return np.where(variance > 0, found, edge)


def interval(table: PairedCounts, confidence: float) -> tuple[float, float]:
    """Return Tango's two-sided interval of the true difference: what the score does not refute at `confidence`."""
    most = float(stats.norm.isf((1 - confidence) / 2))

    def beyond(difference: float, limit: float) -> float:
        found = float(score(table.gained, table.lost, table.items, difference))
        # the search needs finite values on both sides of the root
        return max(-1e9, min(1e9, found)) - limit

    edge = 1 - 1e-12
    low = -1.0 if table.lost == table.items else optimize.brentq(beyond, -edge, table.difference, args=(most,))
    high = 1.0 if table.gained == table.items else optimize.brentq(beyond, table.difference, edge, args=(-most,))
    return float(low), float(high)  # pyright: ignore[reportArgumentType]


def p_not_worse(table: PairedCounts, margin: float) -> float:
    """Return the p-value against "worse by the margin or more": small, where the candidate is shown not to be.

    The larger of Tango's own and the exact one, so that neither the interval nor the error rate is contradicted.
    """
    found = float(score(table.gained, table.lost, table.items, -margin))
    return max(float(stats.norm.sf(found)), error_rate(found, table.items, margin, upper=True))


def p_worse(table: PairedCounts, margin: float) -> float:
    """Return the p-value against "worse by less than the margin, as good, or better": small, where the candidate is
    shown to be worse by more. As `p_not_worse` otherwise."""
    found = float(score(table.gained, table.lost, table.items, -margin))
    return max(float(stats.norm.cdf(found)), error_rate(found, table.items, margin, upper=False))


@functools.lru_cache(maxsize=65_536)
def error_rate(extreme: float, items: int, margin: float, *, upper: bool) -> float:
    """Return how probable a score of at least (`upper`) or at most `extreme` can be where the candidate is worse by exactly
    the margin: the largest value over the share of items that change, found on a grid and refined."""
    changed = np.arange(items + 1, dtype=np.float64)
    # scores of exactly `extreme` count: below, everything before the first table whose score is above it
    first = _first_gained(extreme + (-_ROUNDING if upper else _ROUNDING), changed, items, margin)

    def rate(share: float) -> float:
        at = _likely(items, share)
        return _chance(first[at], at, items, share, max(0.0, (share - margin) / 2), upper=upper)

    shares = np.geomspace(max(margin, 0.5 / items), 1.0, _SHARES)
    rates = [rate(float(share)) for share in shares]
    best = int(np.argmax(rates))
    low, high = shares[max(0, best - 1)], shares[min(_SHARES - 1, best + 1)]
    finer = [rate(float(share)) for share in np.linspace(low, high, _FINER)[1:-1]]
    return min(1.0, max(rates[best], *finer))


def chance_of(reached: float, items: int, margin: float, *, share: float, difference: float) -> float:
    """Return how probable a score of at least `reached` against the margin is where `share` of the items change and the true
    difference is `difference`."""
    at = _likely(items, share)
    first = _first_gained(reached - _ROUNDING, at.astype(np.float64), items, margin)
    return _chance(first, at, items, share, min(share, max(0.0, (share + difference) / 2)), upper=True)


def _chance(
    first: Numbers, changed: NDArray[np.int64], items: int, share: float, gaining: float, *, upper: bool
) -> float:
    """Return the probability of `first` or more gains (of fewer where not `upper`), given for each number of changed items,
    where `share` of the items change and `gaining` of them gain."""
    count = changed.astype(np.float64)
    weights = np.exp(
        special.gammaln(items + 1)
        - special.gammaln(count + 1)
        - special.gammaln(items - count + 1)
        + special.xlogy(count, share)
        + special.xlog1py(items - count, -share)
    )
    below = np.where(first > 0, special.bdtr(np.maximum(first - 1, 0), changed, gaining / share), 0.0)
    return float(weights @ np.where(first > count, 0.0, 1.0 - below)) if upper else float(weights @ below)


def _likely(items: int, share: float) -> NDArray[np.int64]:
    """Return the numbers of changed items that are not all but impossible."""
    mean, spread = items * share, math.sqrt(items * share * (1 - share))
    low, high = math.floor(mean - _DEVIATIONS * spread - 9), math.ceil(mean + _DEVIATIONS * spread + 30)
    return np.arange(max(0, low), min(items, high) + 1)


def _first_gained(limit: float, changed: Numbers, items: int, margin: float) -> Numbers:
    """Return for each number of changed items the fewest gains whose score reaches `limit`; one more than all where none
    does.

    With so many changed items the score grows with the gains.
    """
    low, high = np.zeros_like(changed), changed + 1
    while bool((low < high).any()):
        middle = np.floor((low + high) / 2)
        reaches = score(middle, changed - middle, items, -margin) >= limit
        searching = low < high
        high = np.where(searching & reaches, middle, high)
        low = np.where(searching & ~reaches, middle + 1, low)
    return low
