"""The metrics that measurements are compared by: their names, which way is better, and how far one may get worse.

Belongs here: metrics, aliases, thresholds, the difference of two values in percent. Not here: how a metric is computed
(`metrics.py`), which measurements may be compared (`measured_series.py`), baselines. Source: the rules of benchmark
regressions.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

from mlcc_dagster.core.exceptions import InvalidInput, UsageError

DEFAULT_THRESHOLD_PCT = 10.0
"""By how many percent a metric may get worse; a regression lies strictly beyond."""


@dataclass(frozen=True)
class ComparedMetric:
    """A column of the results table, its short name, its unit and which way is better."""

    column: str
    alias: str
    unit: str
    higher_is_better: bool

    @property
    def direction(self) -> str:
        """`higher_is_better` or `lower_is_better`, as reports spell it."""
        return "higher_is_better" if self.higher_is_better else "lower_is_better"

    def worse_pct(self, delta_pct: float) -> float:
        """Return by how many percent a difference is worse; negative where it is better."""
        return -delta_pct if self.higher_is_better else delta_pct

    def regressed(self, current: float, base: float, threshold_pct: float) -> bool:
        """Whether `current` is worse than `base` by strictly more than the threshold. Reckoned with the decimals as they are
        written: in binary, 1.1 would lie more than 10 % above 1.0."""
        delta = _exact_delta_pct(current, base)
        if delta is None:
            return False
        return (-delta if self.higher_is_better else delta) > _exact(threshold_pct)

    def better(self, one: float, other: float) -> bool:
        """Whether one value is better than the other."""
        return one > other if self.higher_is_better else one < other


COMPARED: Mapping[str, ComparedMetric] = MappingProxyType(
    {
        each.column: each
        for each in (
            ComparedMetric("output_token_throughput_tps", "throughput", "tokens/s", True),
            ComparedMetric("ttft_p90_ms", "ttft", "ms", False),
            ComparedMetric("itl_p90_ms", "itl", "ms", False),
            ComparedMetric("e2e_latency_p90_ms", "latency", "ms", False),
        )
    }
)
"""The compared metrics by their columns, in the order of reports."""


def metric_named(text: str) -> ComparedMetric:
    """Return the metric of a column or alias. Raises `UsageError` naming all of both."""
    name = text.strip()
    for metric in COMPARED.values():
        if name in (metric.column, metric.alias):
            return metric
    raise UsageError(f"no metric '{text}' is compared; use one of {_names()}")


def delta_pct(current: float, base: float) -> float | None:
    """Return (current - base) / |base| x 100, none where the base is 0: nothing can be said in percent of it."""
    delta = _exact_delta_pct(current, base)
    return None if delta is None else float(delta)


def digits_apart(value: float, limit: float, *, least: int = 1) -> int:
    """Return how many digits behind the point show on which side of its limit a value lies, whatever its sign; `least` where
    both are the same: 2.04 beside a limit of 2 needs 2, or a verdict would contradict the numbers beside it."""
    sizes = abs(value), abs(limit)
    if not all(map(math.isfinite, sizes)) or math.isclose(*sizes, rel_tol=1e-9, abs_tol=1e-7):
        return least
    return next((digits for digits in range(least, 9) if len({f"{size:.{digits}f}" for size in sizes}) == 2), 9)


def read_thresholds(texts: Iterable[str]) -> Mapping[str, float]:
    """Return a threshold in percent for every metric: the given ones (`throughput:5`, by column or alias), else the default.

    Raises `InvalidInput` with every mistake: no such form, unknown metrics, numbers below 0 or not finite, one metric twice.
    """
    problems: list[str] = []
    given: dict[str, float] = {}
    for text in texts:
        name, colon, number = text.rpartition(":")
        if not colon:
            problems.append(f"--threshold {text}: write METRIC:PERCENT, such as throughput:5")
            continue
        try:
            metric = metric_named(name).column
        except UsageError as error:
            problems.append(f"--threshold {text}: {error}")
            continue
        percent = _number(number)
        if percent is None or percent < 0:
            problems.append(f"--threshold {text}: '{number}' is no number of percent, 0 or more")
        elif metric in given:
            problems.append(f"--threshold {text}: {metric} has a threshold already; name it once")
        else:
            given[metric] = percent
    if problems:
        raise InvalidInput("the request", problems)
    return MappingProxyType({column: given.get(column, DEFAULT_THRESHOLD_PCT) for column in COMPARED})


def _exact_delta_pct(current: float, base: float) -> Fraction | None:
    return None if base == 0 else (_exact(current) - _exact(base)) / abs(_exact(base)) * 100


def _exact(number: float) -> Fraction:
    # the shortest decimal that reads back as this number: what a person would write for it
    return Fraction(repr(float(number)))


def _number(text: str) -> float | None:
    if not text.isascii() or "_" in text:
        # float() reads digits of every script, and 1_0
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _names() -> str:
    return ", ".join(f"{metric.alias} ({metric.column})" for metric in COMPARED.values())
