"""What a measured value can be: ranges and orders that no honest measurement leaves.

Belongs here: rules over one result row. Not here: the types of the columns (`records.py`) or thresholds of quality, which
are a matter of baselines.
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

NON_NEGATIVE_ENDINGS: tuple[str, ...] = ("_ms", "_rps", "_tps", "_seconds", "_sec", "_usd", "_gb", "_count", "_mean")
PERCENTILE_GROUPS: tuple[str, ...] = ("ttft", "itl", "e2e_latency")
_MEASURES: tuple[str, ...] = ("p50", "p90", "p99")


def plausibility_problems(row: Mapping[str, Any]) -> list[str]:
    """Return one clause per value of a result row that cannot be true; absent values are never a problem.

    Rules: durations, rates, counts and money are not negative; an error rate lies within 0..1; percentiles of one
    metric do not decrease.
    """
    return [*_negative(row), *_outside_share(row), *_disordered(row)]


def _negative(row: Mapping[str, Any]) -> Iterator[str]:
    for name, value in row.items():
        if isinstance(value, (int, float)) and value < 0 and name.endswith(NON_NEGATIVE_ENDINGS):
            yield f"{name} is {value}, below 0"


def _outside_share(row: Mapping[str, Any]) -> Iterator[str]:
    rate = row.get("error_rate")
    if rate is not None and not 0 <= rate <= 1:
        yield f"error_rate is {rate}, outside 0..1"


def _disordered(row: Mapping[str, Any]) -> Iterator[str]:
    for group in PERCENTILE_GROUPS:
        values = [(name, row[name]) for m in _MEASURES if row.get(name := f"{group}_{m}_ms") is not None]
        for (lower, low), (upper, high) in pairwise(values):
            if low > high:
                yield f"{lower} ({low}) is above {upper} ({high})"
