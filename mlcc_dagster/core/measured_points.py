"""Result rows as measured points: what was measured of a vector, and under which load.

Belongs here: reading the two metrics that substitutes are compared by from rows of any origin, and what is missing in such
rows. Not here: what is learned from the points (`swap_costs.py`), who is offered (`substitute_ranks.py`).
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from mlcc_dagster.core.configuration import Vector, text_value
from mlcc_dagster.core.exceptions import InvalidInput
from mlcc_dagster.core.result_columns import is_null, moment_of
from mlcc_dagster.core.standing import IMPORTED, row_vector

COST = "cost_per_1m_tokens"
LATENCY = "e2e_latency_p99_ms"
METRICS: Mapping[str, str] = MappingProxyType(
    {COST: "USD per 1M generated tokens", LATENCY: "p99 request latency in ms"}
)
"""What substitutes are compared by: columns of the results table and what they hold."""

LOADS: tuple[str, ...] = ("concurrency", "input_tokens_mean", "output_tokens_mean")
"""The columns of a row that say under which load it was measured, beside the name of its workload."""

_NO_TIME = datetime.min.replace(tzinfo=UTC)
_MILLION_TOKENS_PER_HOUR = 1e6 / 3600  # tokens per second: the rate that makes a million in an hour


@dataclass(frozen=True)
class Conditions:
    """Under which load something is measured: the workload's name (empty where the row has none), requests in flight,
    mean tokens of a request; none where the row does not say."""

    workload: str
    concurrency: float | None = None
    input_tokens_mean: float | None = None
    output_tokens_mean: float | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Conditions":
        """Read the conditions of a result row."""
        return cls(text_value(row.get("workload")), *(_positive(row.get(name)) for name in LOADS))

    @property
    def bucket(self) -> tuple[str, float | None]:
        """Workload and concurrency: what two measurements must have in common to be compared."""
        return self.workload, self.concurrency

    @property
    def loads(self) -> tuple[float | None, ...]:
        """The numbers, in the order of `LOADS`."""
        return self.concurrency, self.input_tokens_mean, self.output_tokens_mean

    def to_json(self) -> dict[str, Any]:
        """Return workload, concurrency and token means as JSON values; whole numbers as such."""
        numbers = (load if load is None or load % 1 else int(load) for load in self.loads)
        return {"workload": self.workload or None, **dict(zip(LOADS, numbers, strict=True))}

    def __str__(self) -> str:
        level = "an unknown concurrency" if self.concurrency is None else f"concurrency {self.concurrency:g}"
        return f"{self.workload or 'an unnamed workload'} at {level}"


@dataclass(frozen=True)
class Point:
    """The newest value of one metric of one vector under one load; `at` is when it was measured (UTC), the beginning of
    time where the row does not say."""

    vector: Vector
    conditions: Conditions
    value: float
    at: datetime


@dataclass(frozen=True)
class Measurements:
    """The points of every executor by metric. Points of two executors are never compared."""

    by_executor: Mapping[str, Mapping[str, tuple[Point, ...]]]
    missing: tuple[str, ...]

    @classmethod
    def of(
        cls, rows: Iterable[Mapping[str, Any]], *, usd_per_hour: Mapping[str, float | None] = MappingProxyType({})
    ) -> "Measurements":
        """Read completed rows: the six dimensions, `workload`, `LOADS`, the metrics, `run_timestamp`, `executor`.

        A row without `cost_per_1m_tokens` has one where it has `output_token_throughput_tps` and its `instance_type` a
        price in `usd_per_hour`. What is no finite number above 0 is absent: some writers put 0 for what they did not
        measure. Of the same vector under the same load the newest value counts, of several as new their geometric mean.
        `missing` says what no row has, and what was there but no such number, a sentence each. Raises `InvalidInput` naming
        every time of a measured row that cannot be read.
        """
        seen: dict[tuple[str, str, Vector, Conditions], tuple[datetime, list[float]]] = {}
        problems: list[str] = []
        named = dict.fromkeys(("workload", *LOADS), False)
        unusable: Counter[str] = Counter()
        for index, row in enumerate(rows):
            if row.get("status") != "completed":
                continue
            measured = _values(row, usd_per_hour)
            unusable.update(
                name for name in (*METRICS, *LOADS) if _said(row.get(name)) and _positive(row.get(name)) is None
            )
            if not measured:
                continue
            try:
                at = moment_of(row.get("run_timestamp")) or _NO_TIME
            except ValueError:
                problems.append(f"row {index}: run_timestamp {row.get('run_timestamp')!r} is no ISO 8601 time")
                continue
            conditions, vector = Conditions.of(row), row_vector(row)
            for metric, value in measured.items():
                key = text_value(row.get("executor")) or IMPORTED, metric, vector, conditions
                newest, values = seen.get(key, (at, []))
                if at > newest:
                    values = []
                if at >= newest:
                    seen[key] = at, [*values, value]
                named["workload"] |= bool(conditions.workload)
                for name, load in zip(LOADS, conditions.loads, strict=True):
                    named[name] |= load is not None
        if problems:
            raise InvalidInput("the result rows", problems)
        found: dict[str, dict[str, list[Point]]] = defaultdict(lambda: {metric: [] for metric in METRICS})
        for (executor, metric, vector, conditions), (at, values) in seen.items():
            value = values[0] if len(values) == 1 else math.exp(math.fsum(map(math.log, values)) / len(values))
            found[executor][metric].append(Point(vector, conditions, value, at))
        by_executor = {
            executor: MappingProxyType({metric: tuple(points) for metric, points in metrics.items()})
            for executor, metrics in found.items()
        }
        return cls(MappingProxyType(by_executor), (*_unusable(unusable), *_missing(by_executor, named)))

    def executor_for(self, family: str) -> str | None:
        """Return the executor that measured most of a model family, then most at all, then the first by name; none
        where nothing is measured."""

        def measured(executor: str) -> tuple[int, int]:
            points = [point for each in self.by_executor[executor].values() for point in each]
            return -sum(point.vector.model_family == family for point in points), -len(points)

        return min(self.by_executor, key=lambda executor: (*measured(executor), executor), default=None)

    def points(self, executor: str | None, metric: str) -> tuple[Point, ...]:
        """Return the points of one metric that one executor measured."""
        return self.by_executor.get(executor or "", {}).get(metric, ())


def _values(row: Mapping[str, Any], usd_per_hour: Mapping[str, float | None]) -> dict[str, float]:
    values = {metric: _positive(row.get(metric)) for metric in METRICS}
    if values[COST] is None:
        price = _positive(usd_per_hour.get(text_value(row.get("instance_type"))))
        rate = _positive(row.get("output_token_throughput_tps"))
        if price is not None and rate is not None:
            values[COST] = _positive(price / rate * _MILLION_TOKENS_PER_HOUR)
    return {metric: value for metric, value in values.items() if value is not None}


def _positive(value: Any) -> float | None:
    """Read a number above 0, also from a text, none from anything else."""
    if value is None or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _said(value: Any) -> bool:
    # a 0 is what some writers put for what they did not measure
    return not is_null(value) and value not in ("", 0)


def _unusable(counts: Mapping[str, int]) -> Iterator[str]:
    for name, count in counts.items():
        rows = "1 completed row has" if count == 1 else f"{count} completed rows have"
        yield f"{rows} a {name} that is no number above 0: it counts as absent"


def _missing(by_executor: Mapping[str, Mapping[str, tuple[Point, ...]]], named: Mapping[str, bool]) -> Iterator[str]:
    instead = f"{COST}, nor output_token_throughput_tps with an instance_type that has a price in the catalog"
    for metric, columns in {COST: instead, LATENCY: LATENCY}.items():
        if not any(metrics[metric] for metrics in by_executor.values()):
            yield f"no completed row has a usable {columns}: {METRICS[metric]} cannot be predicted"
    absent = [name for name, known in named.items() if not known]
    if by_executor and absent:
        yield f"no measured row has a usable {', '.join(absent)}: rows are compared as if these had been equal"
