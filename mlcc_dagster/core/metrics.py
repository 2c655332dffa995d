"""What is computed from raw request records: every metric is one small declaration.

Belongs here: the declarations, the statistics they use and the rule which requests count. Not here: reading raw records
or building rows (`records.py`).

Which requests count
    A *counted* request belongs to the profiling phase and was not cancelled by the client. A counted request with an
    error is an error, any other a success. Warm-up and cancelled requests are neither: their end says nothing about the
    server. Latencies, token counts, `request_count` and throughputs come from successes alone. `duration` runs from the
    earliest start to the latest end of all counted requests: a request that failed held its concurrency slot like any
    other, so leaving its time out would flatter a failing server. `error_rate` = errors / counted requests.

Recomputable bit for bit
    Values are sorted before percentiles, sums are `math.fsum`: the same records in any order give the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from mlcc_dagster.core.exceptions import MlccError
from mlcc_dagster.core.request_records import PROFILING_PHASE, RequestRecord


class NoSuccessfulRequest(MlccError):
    """A benchmark level without one successful request: it has no latency, so there is nothing to report."""


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean of at least one value, independent of their order."""
    return math.fsum(values) / len(values)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the percentile of at least one value by linear interpolation at rank percent/100 x (n - 1).

    The result never leaves the range of the two neighbours it lies between.
    """
    ordered = sorted(values)
    rank = percent / 100 * (len(ordered) - 1)
    below = math.floor(rank)
    above = min(below + 1, len(ordered) - 1)
    weight = rank - below
    low, high = ordered[below], ordered[above]
    return min(max(low * (1 - weight) + high * weight, low), high)


@dataclass(frozen=True)
class Window:
    """The records of one concurrency level, and the price of the instance they ran on (none where unknown)."""

    records: tuple[RequestRecord, ...]
    usd_per_hour: float | None = None

    @cached_property
    def counted(self) -> tuple[RequestRecord, ...]:
        """Profiling requests that ran to their end, well or badly."""
        return tuple(r for r in self.records if r.phase == PROFILING_PHASE and not r.cancelled)

    @cached_property
    def successes(self) -> tuple[RequestRecord, ...]:
        """Counted requests without an error."""
        return tuple(r for r in self.counted if r.error is None)

    @cached_property
    def duration_s(self) -> float:
        """Seconds from the earliest start to the latest end of all counted requests."""
        return (max(r.end_ns for r in self.counted) - min(r.start_ns for r in self.counted)) / 1e9

    def total(self, derive: Callable[[RequestRecord], float | None]) -> float | None:
        """Sum a value over the successes; absent when any of them lacks it, since a partial sum would understate."""
        values = [derive(record) for record in self.successes]
        present = [value for value in values if value is not None]
        return math.fsum(present) if present and len(present) == len(values) else None

    def per_second(self, amount: float | None) -> float | None:
        """Divide an amount by the duration; absent when either is."""
        return None if amount is None or self.duration_s <= 0 else amount / self.duration_s


def _recorded(*names: str) -> Callable[[RequestRecord], float | None]:
    return lambda record: next((record.metrics[name] for name in names if name in record.metrics), None)


input_tokens = _recorded("input_sequence_length", "input_token_count")
time_to_first_token = _recorded("time_to_first_token")


def output_tokens(record: RequestRecord) -> float | None:
    """Generated tokens of one request, those of its reasoning included, or none where they were not counted."""
    total = record.metrics.get("output_sequence_length")
    visible = record.metrics.get("output_token_count")
    if total is not None or visible is None:
        return total
    return visible + record.metrics.get("reasoning_token_count", 0.0)


def request_latency(record: RequestRecord) -> float:
    """Milliseconds of one request: as recorded, else from its two times."""
    return record.metrics.get("request_latency", (record.end_ns - record.start_ns) / 1e6)


def inter_token_latency(record: RequestRecord) -> float | None:
    """Milliseconds between tokens: as recorded, else (latency - TTFT) / (output tokens - 1); absent below two
    tokens."""
    if "inter_token_latency" in record.metrics:
        return record.metrics["inter_token_latency"]
    first, tokens = time_to_first_token(record), output_tokens(record)
    if first is None or tokens is None or tokens <= 1:
        return None
    return (request_latency(record) - first) / (tokens - 1)


Statistic = Callable[[Sequence[float]], float]


def _p(percent: float) -> Statistic:
    return lambda values: percentile(values, percent)


P50, P90, P99 = _p(50), _p(90), _p(99)


@dataclass(frozen=True)
class RecordMetric:
    """A value that every request may have, and the columns its statistics over the successes fill."""

    name: str
    unit: str
    derive: Callable[[RequestRecord], float | None]
    columns: Mapping[str, Statistic]

    def compute(self, window: Window) -> dict[str, float | None]:
        """Return the columns; all absent where no success has the value."""
        values = [value for record in window.successes if (value := self.derive(record)) is not None]
        return {column: statistic(values) if values else None for column, statistic in self.columns.items()}


@dataclass(frozen=True)
class AggregateMetric:
    """A value of the whole window, and the column it fills."""

    name: str
    unit: str
    derive: Callable[[Window], float | None]
    column: str

    def compute(self, window: Window) -> dict[str, float | None]:
        """Return the one column."""
        return {self.column: self.derive(window)}


def _cost_per_1m_tokens(window: Window) -> float | None:
    rate = window.per_second(window.total(output_tokens))
    if window.usd_per_hour is None or rate is None or rate <= 0:
        return None
    return round(window.usd_per_hour / (rate * 3600) * 1e6, 4)


def _total_tokens(window: Window) -> float | None:
    inputs, outputs = window.total(input_tokens), window.total(output_tokens)
    return None if inputs is None or outputs is None else inputs + outputs


def _truncated_mean(values: Sequence[float]) -> int:
    return int(mean(values))


def _latency_columns(prefix: str) -> Mapping[str, Statistic]:
    named = {"avg": mean, "p50": P50, "p90": P90, "p99": P99}
    return MappingProxyType({f"{prefix}_{name}_ms": statistic for name, statistic in named.items()})


METRICS: tuple[RecordMetric | AggregateMetric, ...] = (
    RecordMetric("time_to_first_token", "ms", time_to_first_token, _latency_columns("ttft")),
    RecordMetric("inter_token_latency", "ms", inter_token_latency, _latency_columns("itl")),
    RecordMetric("request_latency", "ms", request_latency, _latency_columns("e2e_latency")),
    RecordMetric(
        "time_to_second_token",
        "ms",
        _recorded("time_to_second_token"),
        MappingProxyType({"ttst_p50_ms": P50, "ttst_p90_ms": P90}),
    ),
    RecordMetric(
        "prefill_throughput",
        "tokens/s",
        _recorded("prefill_throughput_per_user", "prefill_throughput"),
        MappingProxyType({"prefill_tps_avg": mean, "prefill_tps_p50": P50}),
    ),
    RecordMetric(
        "output_token_throughput_per_user",
        "tokens/s",
        _recorded("output_token_throughput_per_user"),
        MappingProxyType({"output_token_tps_avg": mean, "output_token_tps_p50": P50, "output_token_tps_p90": P90}),
    ),
    RecordMetric(
        "input_sequence_length",
        "tokens",
        input_tokens,
        MappingProxyType({"input_sequence_length_avg": mean, "input_tokens_mean": _truncated_mean}),
    ),
    RecordMetric(
        "output_sequence_length",
        "tokens",
        output_tokens,
        MappingProxyType({"output_sequence_length_avg": mean, "output_tokens_mean": _truncated_mean}),
    ),
    AggregateMetric("request_count", "requests", lambda w: float(len(w.successes)), "request_count"),
    AggregateMetric(
        "error_rate", "ratio", lambda w: (len(w.counted) - len(w.successes)) / len(w.counted), "error_rate"
    ),
    AggregateMetric("benchmark_duration", "s", lambda w: w.duration_s, "benchmark_duration_sec"),
    AggregateMetric("benchmark_duration_whole", "s", lambda w: int(w.duration_s), "duration_seconds"),
    AggregateMetric(
        "request_throughput", "requests/s", lambda w: w.per_second(len(w.successes)), "request_throughput_rps"
    ),
    AggregateMetric(
        "output_token_throughput",
        "tokens/s",
        lambda w: w.per_second(w.total(output_tokens)),
        "output_token_throughput_tps",
    ),
    AggregateMetric(
        "total_token_throughput", "tokens/s", lambda w: w.per_second(_total_tokens(w)), "total_token_throughput_tps"
    ),
    AggregateMetric("cost_per_1m_tokens", "usd", _cost_per_1m_tokens, "cost_per_1m_tokens"),
)
"""Every metric there is. A new one is one more entry (and its column in `records.COLUMNS`)."""


def metric_columns(records: Sequence[RequestRecord], *, usd_per_hour: float | None) -> dict[str, float | None]:
    """Return all metric columns of one concurrency level; a value that the records cannot give is none, never 0.

    Raises `NoSuccessfulRequest` with the counts and the most frequent error.
    """
    window = Window(tuple(records), usd_per_hour)
    if not window.successes:
        errors = sorted(r.error for r in window.counted if r.error is not None)
        most = max(errors, key=errors.count) if errors else None
        raise NoSuccessfulRequest(
            f"none of {len(window.counted)} counted requests succeeded"
            + (f" (most often: {most})" if most else "")
            + "; read the stage's log, correct the cause and run the benchmark again"
        )
    return {column: value for metric in METRICS for column, value in metric.compute(window).items()}
