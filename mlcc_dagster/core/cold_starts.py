"""First runs that are slow because nothing is warm yet.

Belongs here: flagging the first run of something new that stands out from those which follow it. Not here: what is done with
a flag (`regressions.py`).

A run is first when no run is before it, or when what is measured changed with it (template, model, weights, base image,
Python, engine). It is flagged when it is worse than each of at least five runs of the same ground that follow, by more than
`FENCE` of their deviations from their median. Of series without any change 1 to 2 in 100 have their first run flagged while
five runs follow, 3 in 1,000 once fifteen do.
"""

from collections.abc import Mapping, Sequence
from statistics import median

FOLLOWERS = 5
MOST_FOLLOWERS = 15
"""Runs after the first that it is held against, at least and at most."""

FENCE = 8.0
"""Deviations (1.4826 times the median distance from the median) that the first run must be off."""

_LEAST_SHARE = 0.05  # runs that agree to the last digit have no deviation; less than 5 % is no cold start


def cold_starts(
    values: Sequence[float], grounds: Sequence[Mapping[str, str]], *, higher_is_better: bool
) -> tuple[int, ...]:
    """Return the places of cold starts in a series, oldest first; `grounds` says what each run measured, by name, and a name
    that is absent is not known."""
    found = []
    for place, value in enumerate(values):
        if place and not _changed(grounds[place - 1], grounds[place]):
            continue
        following: list[float] = []
        for later in range(place + 1, min(len(values), place + 1 + MOST_FOLLOWERS)):
            if _changed(grounds[later - 1], grounds[later]):
                break
            following.append(values[later])
        if len(following) >= FOLLOWERS and _stands_out(value, following, higher_is_better):
            found.append(place)
    return tuple(found)


def _stands_out(value: float, following: Sequence[float], higher_is_better: bool) -> bool:
    middle = median(following)
    spread = 1.4826 * median(abs(each - middle) for each in following)
    off = middle - value if higher_is_better else value - middle
    worst = min(following) if higher_is_better else max(following)
    beyond = value < worst if higher_is_better else value > worst
    return beyond and off > max(FENCE * spread, _LEAST_SHARE * abs(middle))


def _changed(before: Mapping[str, str], after: Mapping[str, str]) -> bool:
    return any(before[name] != value for name, value in after.items() if name in before)
