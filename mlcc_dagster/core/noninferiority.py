"""Is a candidate shown not to be worse than the baseline, bucket by bucket, or how many items are missing to tell?

Belongs here: several buckets at once (Holm), the verdict of each, and planning how many items a bucket needs. Not here: one table
alone (`paired_scores.py`), reading evaluations (`evaluations.py`), what a gate makes of the verdicts (`gate.py`).

Two families of tests, one per direction, each by Holm over all buckets (S. Holm, A simple sequentially rejective multiple test
procedure, Scandinavian Journal of Statistics 6 (1979) 65-70): PASS refutes "worse by the margin or more", FAIL refutes "worse
by less than that, as good, or better". What neither refutes is INCONCLUSIVE. So of all buckets together, however they overlap:

- some bucket that is worse by the margin or more gets PASS with a probability of at most alpha; all the more a candidate with such
  a bucket passes with at most alpha, since every bucket must PASS;
- some bucket that is worse by less than the margin (an equal one most of all) gets FAIL with a probability of at most alpha.

Both hold for one evaluation: whoever evaluates k times until it fits has k times that.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from scipy import optimize, stats

from mlcc_dagster.core.paired_scores import (
    PairedCounts,
    chance_of,
    error_rate,
    interval,
    p_not_worse,
    p_worse,
)

ALPHA = 0.05
"""The error rate of each direction unless somebody says otherwise. Source: the specification of the gate."""

POWER = 0.8
"""How probable a decision is to be where the planned items are there. Source: the specification of the gate."""

MOST_ITEMS = 1_000_000
"""A bucket that would need more is said to need no number at all."""

_CLOSE = 0.02
"""Planned numbers are found to within this share, never below."""

_COARSE = 0.03
"""How exactly planning knows a critical score: being off by so much asks for 1 to 2 % more items."""


class Verdict(StrEnum):
    """What is known of one bucket."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True)
class BucketJudgement:
    """What the items of one bucket show.

    `low` and `high` bound the true difference (candidate minus baseline, share of the items) at 1 - 2 alpha, this bucket
    alone. `p_pass` and `p_fail` are the p-values of the two directions and `verdict` what Holm makes of them.
    `items_for_power`: with so many items in every bucket an equal candidate passes the whole gate with the planned power;
    none where no number suffices. `items_needed`: how many more this bucket needs for a decision, 0 where it has one, none
    where no number suffices; `as_observed` where that supposes the difference that was seen, since the items would
    have sufficed for an equal candidate.
    """

    table: PairedCounts
    verdict: Verdict
    low: float
    high: float
    p_pass: float
    p_fail: float
    items_for_power: int | None
    items_needed: int | None
    as_observed: bool = False


def judge(
    tables: Mapping[str, PairedCounts], *, margin: float, alpha: float = ALPHA, power: float = POWER
) -> dict[str, BucketJudgement]:
    """Judge all buckets together; `margin` is the largest drop that is tolerated, a share from 0 to below 1.

    Raises `ValueError` without buckets and for numbers out of range.
    """
    if not tables:
        raise ValueError("there are no buckets to judge")
    if not (0 <= margin < 1 and 0 < alpha < 0.5 and 0.5 <= power < 1):
        raise ValueError(f"margin {margin}, alpha {alpha} or power {power} is out of range")
    pass_ps = [p_not_worse(table, margin) for table in tables.values()]
    fail_ps = [p_worse(table, margin) for table in tables.values()]
    judged = {}
    passed, failed = holm(pass_ps, alpha), holm(fail_ps, alpha)
    for index, (bucket, table) in enumerate(tables.items()):
        verdict = Verdict.PASS if passed[index] else Verdict.FAIL if failed[index] else Verdict.INCONCLUSIVE
        low, high = interval(table, 1 - 2 * alpha)
        share = _likely_share(table)
        planned = items_for_power(share, margin=margin, buckets=len(tables), alpha=alpha, power=power)
        needed, as_observed = 0, False
        if verdict is Verdict.INCONCLUSIVE:
            needed = None if planned is None else planned - table.items
            if needed is None or needed <= 0:
                as_observed = True
                needed = _needed_as_observed(table, share, margin, len(tables), alpha, power)
        judged[bucket] = BucketJudgement(
            table, verdict, low, high, pass_ps[index], fail_ps[index], planned, needed, as_observed
        )
    return judged


def holm(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Return which hypotheses Holm's procedure rejects at a family-wise error rate of `alpha`, whatever their dependence."""
    rejected = [False] * len(p_values)
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] > alpha / (len(p_values) - rank):
            break
        rejected[index] = True
    return rejected


@lru_cache(maxsize=4096)
def items_for_power(
    share: float,
    *,
    margin: float,
    buckets: int,
    alpha: float = ALPHA,
    power: float = POWER,
    difference: float = 0.0,
) -> int | None:
    """Return how many items a bucket needs, of which `share` change, so that all `buckets` together PASS with the power
    where the true difference is `difference` in each (default: equal) and each has its number; none above `MOST_ITEMS`.

    Buckets count as independent: where they share items, they pass together more often, not less.
    """
    share = max(share, abs(difference))
    shift = required_shift(buckets, alpha=alpha, power=power)
    # all steps of Holm hold when the first and the last do as a shift of that size would
    goals = {level: float(stats.norm.cdf(shift - stats.norm.isf(level))) for level in (alpha, alpha / buckets)}

    def suffice(items: int, *, exact: bool) -> bool:
        return all(
            chance_of(
                critical_score(items, margin, level, exact=exact), items, margin, share=share, difference=difference
            )
            >= goal
            for level, goal in goals.items()
        )

    if margin + difference <= 0:
        return None
    found = _fewest(lambda items: suffice(items, exact=False))
    while found is not None and not suffice(found, exact=True):
        found = math.ceil(found * (1 + _CLOSE))
        found = found if found <= MOST_ITEMS else None
    return found


@lru_cache(maxsize=1024)
def required_shift(buckets: int, *, alpha: float = ALPHA, power: float = POWER) -> float:
    """Return how far from 0 the mean of independent normal scores with deviation 1 must lie, one per bucket, so that Holm
    rejects all of them with the power."""

    def missing(shift: float) -> float:
        return power - _all_rejected(shift, buckets, alpha)

    return float(optimize.brentq(missing, 0.0, 40.0))  # pyright: ignore[reportArgumentType]


def _all_rejected(shift: float, buckets: int, alpha: float) -> float:
    """Return the probability that Holm rejects all: of the scores below the limit of alpha / i there are fewer than i, for
    every i. Counted from the lowest limit up."""
    below = [float(stats.norm.cdf(stats.norm.isf(alpha / i) - shift)) for i in range(1, buckets + 1)]
    chances = {0: (1 - below[0]) ** buckets}
    for i in range(1, buckets):
        left = 1 - below[i - 1]
        falls = (below[i] - below[i - 1]) / left if left > 0 else 0.0
        nexts: dict[int, float] = {}
        for count, chance in chances.items():
            for more in range(i - count + 1):
                rest = buckets - count
                others = math.comb(rest, more) * falls**more * (1 - falls) ** (rest - more)
                nexts[count + more] = nexts.get(count + more, 0.0) + chance * others
        chances = nexts
    return sum(chances.values())


def critical_score(
    items: int, margin: float, level: float, *, upper: bool = True, exact: bool = True, within: float = 1e-3
) -> float:
    """Return a score from which on a bucket is a PASS at `level` (not `upper`: down from which on a FAIL), at most `within` more
    extreme than it must be; not `exact`: by Tango's own p-value alone."""
    sign = 1.0 if upper else -1.0

    def keeps(limit: float) -> bool:
        return error_rate(sign * limit, items, margin, upper=upper) <= level

    low = float(stats.norm.isf(level))
    if not exact or keeps(low):
        return sign * low
    step = within
    while not keeps(low + step):
        low, step = low + step, step * 2
    high = low + step
    while high - low > within:
        middle = (low + high) / 2
        low, high = (low, middle) if keeps(middle) else (middle, high)
    return sign * high


def _needed_as_observed(
    table: PairedCounts, share: float, margin: float, buckets: int, alpha: float, power: float
) -> int | None:
    """Return how many more items settle a bucket whose true difference is the one that was seen."""
    if table.difference > -margin:
        total = items_for_power(
            share, margin=margin, buckets=buckets, alpha=alpha, power=power, difference=table.difference
        )
    else:
        total = _items_to_fail(share, margin, buckets, alpha, power, table.difference)
    return None if total is None else max(1, total - table.items)


@lru_cache(maxsize=4096)
def _items_to_fail(
    share: float, margin: float, buckets: int, alpha: float, power: float, difference: float
) -> int | None:
    """Return how many items show with the power that a bucket is worse by more than the margin; one such bucket blocks."""
    if difference >= -margin:
        return None
    limit = -float(stats.norm.isf(alpha / buckets))
    share = max(share, -difference)

    def suffice(items: int) -> bool:
        return 1 - chance_of(limit, items, margin, share=share, difference=difference) >= power

    return _fewest(suffice)


def _fewest(suffice: Callable[[int], bool]) -> int | None:
    """Return the fewest items that suffice, to within `_CLOSE` above; none above `MOST_ITEMS`."""
    low, high = 0, 8
    while not suffice(high):
        low, high = high, high * 2
        if low > MOST_ITEMS:
            return None
    while high - low > max(1, high * _CLOSE / 4):
        middle = (low + high) // 2
        low, high = (low, middle) if suffice(middle) else (middle, high)
    return high if high <= MOST_ITEMS else None


def _likely_share(table: PairedCounts) -> float:
    """Return the share of items that change, as planning supposes it: none seen does not mean that none ever will."""
    return (table.changed + 1) / (table.items + 2)
