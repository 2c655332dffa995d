"""GuideLLM's report (JSON, versions 1 and 2): one level of load per benchmark.

Belongs here: its names in both versions, and its requests as records where it kept them. Not here: how metrics are computed.

An open load (constant, Poisson) has a rate and no level of requests in flight: the rate is then part of the workload's name.
"""

from collections.abc import Mapping
from typing import Any

from mlcc_dagster.core.exceptions import InvalidInput
from mlcc_dagster.core.imports.measured import (
    Document,
    Measured,
    Numbers,
    digest_of,
    milliseconds,
    numeric_leaves,
    refuse,
    shown,
    without_absent,
)
from mlcc_dagster.core.records import utc_text
from mlcc_dagster.core.request_records import RequestRecord

NAME = "guidellm"
LOOKS_LIKE = "a GuideLLM report: benchmarks, each with metrics such as requests_per_second"

_LATENCIES: Mapping[str, tuple[str, float]] = {
    "ttft": ("time_to_first_token_ms", 1.0),
    "itl": ("inter_token_latency_ms", 1.0),
    "e2e_latency": ("request_latency", 1000.0),
}
"""Metric and factor to milliseconds by the beginning of our columns."""

_MEANS: Mapping[str, str] = {
    "request_throughput_rps": "requests_per_second",
    "output_token_throughput_tps": "output_tokens_per_second",
    "total_token_throughput_tps": "tokens_per_second",
    "input_sequence_length_avg": "prompt_token_count",
    "output_sequence_length_avg": "output_token_count",
}
_KEPT = ("mean", "std_dev", "min", "max", "p50", "p90", "p95", "p99")
_EXPLAINED: Mapping[str, str] = {
    "itl": "GuideLLM weighs each request by its tokens; here every request counts once",
    "ttft": "GuideLLM takes a measured value as percentile; here it is interpolated between two",
    "e2e_latency": "GuideLLM takes a measured value as percentile; here it is interpolated between two",
    "request_throughput": "GuideLLM counts from its measuring window; here from the first start to the last end",
    "output_token_throughput": "GuideLLM counts from its measuring window; here from the first start to the last end",
    "total_token_throughput": "GuideLLM counts from its measuring window; here from the first start to the last end",
    "benchmark_duration": "GuideLLM counts its measuring window; here from the first start to the last end",
    "duration": "GuideLLM counts its measuring window; here from the first start to the last end",
}


def recognizes(document: Document) -> bool:
    """Whether a document is such a report."""
    if document.kind != "json" or not isinstance(document.value, Mapping):
        return False
    benchmarks = document.value.get("benchmarks")
    if not isinstance(benchmarks, list):
        return False
    metadata = document.value.get("metadata")
    if isinstance(metadata, Mapping) and "guidellm_version" in metadata:
        return True
    first = benchmarks[0] if benchmarks else None
    metrics = first.get("metrics") if isinstance(first, Mapping) else None
    return isinstance(metrics, Mapping) and "requests_per_second" in metrics


def read(document: Document, *, source: str) -> tuple[Measured, ...]:
    """Read a report. Raises `InvalidInput` with every mistake."""
    report = document.value if isinstance(document.value, Mapping) else {}
    benchmarks = report.get("benchmarks")
    if not isinstance(benchmarks, list) or not benchmarks:
        raise InvalidInput(source, [f"{source}: has no results; it must be {LOOKS_LIKE}"])
    problems: list[str] = []
    identity = digest_of(report)
    levels = [
        _level(each, report, f"{source}: benchmarks[{i}]", identity, problems) for i, each in enumerate(benchmarks)
    ]
    refuse(source, problems)
    return tuple(level for level in levels if level is not None)


def _level(
    benchmark: Any, report: Mapping[str, Any], where: str, identity: str, problems: list[str]
) -> Measured | None:
    numbers = Numbers(benchmark, where, problems)
    metrics = numbers.part("metrics")
    totals = _totals(numbers, metrics)
    completed, errors = totals.whole("successful", required=True), totals.whole("errored") or 0
    seconds = numbers.number("duration")
    window = {name: _statistic(metrics, metric, "mean") for name, metric in _MEANS.items()}
    latencies = {
        f"{column}_{end}_ms": None if (value := _statistic(metrics, metric, end)) is None else value * factor
        for column, (metric, factor) in _LATENCIES.items()
        for end in ("avg", "p50", "p90", "p99")
    }
    counted: dict[str, Any] = {
        "request_count": None if completed is None else float(completed),
        # What was cut off at the end says nothing about the server and is not counted.
        "error_rate": None if completed is None or completed + errors == 0 else errors / (completed + errors),
    }
    duration = {"benchmark_duration_sec": seconds, "duration_seconds": None if seconds is None else int(seconds)}
    for side, name in (("input", "input_sequence_length_avg"), ("output", "output_sequence_length_avg")):
        if window[name] is not None:
            counted[f"{side}_tokens_mean"] = int(window[name] or 0)
    end = numbers.moment("end_time")
    level, driven = _load(benchmark)
    columns: dict[str, Any] = {
        "model_name": _model(benchmark, report),
        "run_timestamp": None if end is None else utc_text(end),
        "concurrency": level,
        "workload": "-".join(filter(None, [NAME, _tokens(window), driven])),
        "streaming": _flag(benchmark, report, "stream"),
    }
    records = _records(numbers.document.get("requests"), where, problems)
    measured = {**window, **latencies, **counted, **duration}
    left_out: list[str] = []
    extra = dict(numeric_leaves(_unknown(metrics.document), left_out=left_out))
    failure = f"none of {errors} counted requests succeeded" if completed == 0 else None
    return Measured(
        where=where,
        format=NAME,
        identity=identity,
        columns=without_absent(columns if records else columns | measured),
        records=records,
        summary=without_absent(measured if records else {}),
        explained=_EXPLAINED,
        extra=extra,
        left_out=tuple(left_out),
        remarks=() if records else ("the report kept no requests: percentiles are GuideLLM's own, not interpolated",),
        failure=failure,
    )


def _totals(numbers: Numbers, metrics: Numbers) -> Numbers:
    """Return the counts of requests, which versions keep in different places."""
    places = (
        metrics.part("request_totals"),
        numbers.part("request_totals"),
        numbers.part("run_stats").part("requests_made"),
    )
    return next((each for each in places if each.document), places[0])


def _statistic(metrics: Numbers, metric: str, statistic: str) -> float | None:
    """Return a statistic over the successful requests; none where no request had the value, for which the report has 0."""
    successful = metrics.part(metric).part("successful")
    if successful.number("count") == 0:
        return None
    return (
        successful.number("mean") if statistic in ("avg", "mean") else successful.part("percentiles").number(statistic)
    )


def _unknown(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the statistics of successful requests that no column holds. The rest of a metric repeats them in other words
    (median, mode, variance) or counts nothing."""
    kept: dict[str, Any] = {}
    held = {metric: {"mean"} for metric in _MEANS.values()}
    held |= {metric: {"mean", "p50", "p90", "p99"} for metric, _ in _LATENCIES.values()}
    for name, value in metrics.items():
        successful = value.get("successful") if isinstance(value, Mapping) else None
        if isinstance(successful, Mapping) and successful.get("count"):
            percentiles = successful.get("percentiles")
            found = {**successful, **(percentiles if isinstance(percentiles, Mapping) else {})}
            kept[name] = {each: found[each] for each in _KEPT if each in found and each not in held.get(name, ())}
        elif not isinstance(value, Mapping):
            kept[name] = value
    return kept


def _places(benchmark: Any, report: Mapping[str, Any], *paths: tuple[str, ...]) -> Any:
    for root in (benchmark, report):
        for path in paths:
            value: Any = root
            for name in path:
                value = value.get(name) if isinstance(value, Mapping) else None
            if value is not None:
                return value
    return None


def _model(benchmark: Any, report: Mapping[str, Any]) -> str | None:
    found = _places(
        benchmark,
        report,
        ("config", "backend", "model"),
        ("config", "spec", "backend", "model"),
        ("worker", "backend_model"),
        ("backend", "model"),
        ("args", "model"),
    )
    return found if isinstance(found, str) and found else None


def _flag(benchmark: Any, report: Mapping[str, Any], name: str) -> bool | None:
    found = _places(benchmark, report, ("config", "backend", name), ("config", "spec", "backend", name))
    return found if isinstance(found, bool) else None


def _load(benchmark: Any) -> tuple[int | None, str | None]:
    """Return the level of requests in flight, none for an open load, and what tells loads without one apart."""
    strategy = _places(benchmark, {}, ("config", "strategy"), ("scheduler", "strategy"), ("args", "strategy"))
    if not isinstance(strategy, Mapping):
        return None, None
    kind = str(strategy.get("type_") or strategy.get("kind") or "")
    if kind == "synchronous":
        return 1, None
    if kind in ("concurrent", "throughput"):
        level = strategy.get("streams") if kind == "concurrent" else strategy.get("max_concurrency")
        whole = isinstance(level, int) and not isinstance(level, bool) and level > 0
        return (level if whole else None), None if kind == "concurrent" else kind
    rate = strategy.get("rate")
    return None, f"{kind}-{rate:g}" if isinstance(rate, (int, float)) else kind or None


def _tokens(window: Mapping[str, float | None]) -> str:
    means = (window["input_sequence_length_avg"], window["output_sequence_length_avg"])
    return "-".join("x" if mean is None else f"{mean:.0f}" for mean in means)


def _records(requests: Any, where: str, problems: list[str]) -> tuple[RequestRecord, ...]:
    if requests is None:
        return ()
    if not isinstance(requests, Mapping):
        problems.append(f"{where}.requests: must be an object, not {shown(requests)}")
        return ()
    records = []
    for group in ("successful", "errored", "incomplete"):
        found = requests.get(group) or []
        if not isinstance(found, list):
            problems.append(f"{where}.requests.{group}: must be a list, not {shown(found)}")
            continue
        for i, each in enumerate(found):
            record = _record(Numbers(each, f"{where}.requests.{group}[{i}]", problems), group)
            if record is not None:
                records.append(record)
    return tuple(records)


def _record(numbers: Numbers, group: str) -> RequestRecord | None:
    timings = numbers.part("info").part("timings")
    start = numbers.number("request_start_time") or numbers.number("start_time") or timings.number("request_start")
    end = numbers.number("request_end_time") or numbers.number("end_time") or timings.number("request_end")
    if start is None or end is None or end < start:
        if group == "successful":
            numbers.problems.append(f"{numbers.where}: has no start before its end; export the report again")
        # What never began or ended has no time to count.
        return None
    metrics = without_absent(
        {
            "request_latency": milliseconds(numbers.number("request_latency")),
            "time_to_first_token": numbers.number("time_to_first_token_ms"),
            "inter_token_latency": numbers.number("inter_token_latency_ms"),
            "input_sequence_length": numbers.number("prompt_tokens"),
            "output_sequence_length": numbers.number("output_tokens"),
        }
    )
    error = None
    if group == "errored":
        error = str(numbers.document.get("error") or numbers.part("info").document.get("error") or "failed")
    return RequestRecord(round(start * 1e9), round(end * 1e9), metrics, error=error, cancelled=group == "incomplete")
