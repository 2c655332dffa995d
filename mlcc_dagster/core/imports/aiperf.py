"""AIPerf's two files: the export of a run (`profile_export_aiperf.json`) and its records (`profile_export.jsonl`).

Belongs here: the export's names. Not here: one record (`core.request_records`, whose form ours is).
"""

from collections.abc import Mapping
from typing import Any

from mlcc_dagster.core.exceptions import InvalidInput
from mlcc_dagster.core.imports.measured import (
    STATISTICS,
    Document,
    Measured,
    Numbers,
    digest_of,
    numeric_leaves,
    objects_of,
    refuse,
    without_absent,
)
from mlcc_dagster.core.metrics import request_latency
from mlcc_dagster.core.records import utc_text
from mlcc_dagster.core.request_records import RequestRecord, parse_record

NAME = "aiperf"
LOOKS_LIKE = "AIPerf's export (request_latency with unit and avg) or its records, one JSON object per line"

_MILLISECONDS: Mapping[str, float] = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3, "sec": 1e3, "seconds": 1e3}
_LATENCIES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "time_to_first_token": ("ttft", STATISTICS),
    "inter_token_latency": ("itl", STATISTICS),
    "request_latency": ("e2e_latency", STATISTICS),
    "time_to_second_token": ("ttst", ("p50", "p90")),
}
_RATES: Mapping[str, Mapping[str, str]] = {
    "request_throughput": {"avg": "request_throughput_rps"},
    "output_token_throughput": {"avg": "output_token_throughput_tps"},
    "total_token_throughput": {"avg": "total_token_throughput_tps"},
    "prefill_throughput_per_user": {"avg": "prefill_tps_avg", "p50": "prefill_tps_p50"},
    "output_token_throughput_per_user": {
        "avg": "output_token_tps_avg",
        "p50": "output_token_tps_p50",
        "p90": "output_token_tps_p90",
    },
    "output_sequence_length": {"avg": "output_sequence_length_avg"},
    "input_sequence_length": {"avg": "input_sequence_length_avg"},
    "request_count": {"avg": "request_count"},
}
_WITHOUT_METRICS = frozenset({"input_config", "telemetry_data", "error_summary", "start_time", "end_time"})
_EXPLAINED: Mapping[str, str] = {
    "": "the records that were given are not all of the requests that the export counts, or have other units",
}


def recognizes(document: Document) -> bool:
    """Whether a document is one of the two files."""
    if document.kind == "table":
        return False
    first = document.first
    if _is_record(first):
        return True
    if document.kind != "json" or not isinstance(document.value, Mapping):
        return False
    metrics = _metrics(first)
    return any(isinstance(metrics.get(name), Mapping) and "unit" in metrics[name] for name in (*_LATENCIES, *_RATES))


def read(document: Document, *, source: str) -> tuple[Measured, ...]:
    """Read either file; the two of a run are put together by `formats.paired`. Raises `InvalidInput` with every mistake."""
    found = objects_of(document, source, LOOKS_LIKE)
    problems: list[str] = []
    made = _records(found, source, problems) if _is_record(found[0]) else _export(found[0], source, problems)
    refuse(source, problems)
    return (made,)


def _is_record(document: Mapping[str, Any]) -> bool:
    metadata = document.get("metadata")
    return isinstance(metadata, Mapping) and "request_start_ns" in metadata


def _metrics(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the metrics by name: of a recent export its own members, of an older one those below `records`."""
    below = document.get("records")
    return below if isinstance(below, Mapping) else document


def _records(found: tuple[Mapping[str, Any], ...], where: str, problems: list[str]) -> Measured:
    records: list[RequestRecord] = []
    for i, each in enumerate(found, start=1):
        try:
            records.append(parse_record(each))
        except InvalidInput as error:
            problems += [f"{where}: line {i}: {problem}" for problem in error.problems]
    negative = [i for i, r in enumerate(records, start=1) if any(value < 0 for value in r.metrics.values())]
    problems += [f"{where}: line {i}: a metric is below 0" for i in negative]
    ends = [r.end_ns for r in records]
    when = Numbers({"end": max(ends) / 1e9}, where, []).moment("end") if ends and max(ends) > 1e18 else None
    successes = [request_latency(r) for r in records if r.error is None and not r.cancelled and r.phase == "profiling"]
    return Measured(
        where=where,
        format=NAME,
        identity=digest_of(list(found)),
        columns=without_absent({"workload": NAME, "run_timestamp": None if when is None else utc_text(when)}),
        records=tuple(records),
        explained=_EXPLAINED,
        half="records",
        pairing=_pairing(len(successes), min(successes, default=None), max(successes, default=None)),
    )


def _export(document: Mapping[str, Any], where: str, problems: list[str]) -> Measured:
    metrics = Numbers(_metrics(document), where, problems)
    if not {*_LATENCIES, *_RATES} & set(metrics.document):
        problems.append(f"{where}: has no results; it must be {LOOKS_LIKE}")
    columns: dict[str, Any] = {}
    used: dict[str, set[str]] = {}
    for name, (column, statistics) in _LATENCIES.items():
        metric = metrics.part(name)
        factor = _factor(metric)
        for statistic in statistics:
            value = metric.number(statistic)
            columns[f"{column}_{statistic}_ms"] = None if value is None else value * factor
        used[name] = set(statistics)
    for name, targets in _RATES.items():
        metric = metrics.part(name)
        columns |= {column: metric.number(statistic) for statistic, column in targets.items()}
        used[name] = set(targets)
    seconds = metrics.part("benchmark_duration").number("avg")
    if seconds is not None:
        seconds = seconds * _factor(metrics.part("benchmark_duration"), default="sec") / 1000
        columns |= {"benchmark_duration_sec": seconds, "duration_seconds": int(seconds)}
        used["benchmark_duration"] = {"avg"}
    for side in ("input", "output"):
        mean = columns.get(f"{side}_sequence_length_avg")
        columns[f"{side}_tokens_mean"] = None if mean is None else int(mean)
    completed, errors = columns.get("request_count"), _errors(document, metrics)
    if completed is not None and completed + errors > 0:
        columns["error_rate"] = errors / (completed + errors)
    config = document.get("input_config")
    facts = Numbers(document, where, problems)
    end = facts.moment("end_time")
    means = [columns.get(f"{side}_tokens_mean") for side in ("input", "output")]
    columns |= {
        "model_name": _model(config),
        "concurrency": _found(config, "concurrency"),
        "streaming": _found(config, "streaming", bool),
        "workload": "-".join([NAME, *("x" if mean is None else str(mean) for mean in means)]),
        "run_timestamp": None if end is None else utc_text(end),
    }
    left_out: list[str] = []
    rest = {
        name: {k: v for k, v in value.items() if k not in used.get(name, ())} if isinstance(value, Mapping) else value
        for name, value in metrics.document.items()
        if name not in _WITHOUT_METRICS
    }
    extra = dict(numeric_leaves(rest, left_out=left_out))
    telemetry = document.get("telemetry_data")
    if isinstance(telemetry, Mapping):
        extra |= dict(numeric_leaves({"telemetry_data": telemetry}, left_out=left_out))
    latency = metrics.part("request_latency")
    factor = _factor(latency)
    least, most = latency.number("min"), latency.number("max")
    return Measured(
        where=where,
        format=NAME,
        identity=digest_of(document),
        columns=without_absent(columns),
        explained=_EXPLAINED,
        extra=extra,
        left_out=tuple(left_out),
        remarks=("the run was cancelled before its end",) if document.get("was_cancelled") is True else (),
        failure=f"none of {errors:g} counted requests succeeded" if completed == 0 else None,
        half="summary",
        pairing=_pairing(
            None if completed is None else int(completed),
            None if least is None else least * factor,
            None if most is None else most * factor,
        ),
    )


def _factor(metric: Numbers, default: str = "ms") -> float:
    unit = metric.document.get("unit", default)
    if metric.document and unit not in _MILLISECONDS:
        metric.problems.append(f"{metric.where}.unit: must be one of {', '.join(_MILLISECONDS)}, not {unit!r}")
    return _MILLISECONDS.get(unit, 1.0)


def _errors(document: Mapping[str, Any], metrics: Numbers) -> float:
    counted = metrics.part("error_request_count").number("avg")
    if counted is not None:
        return counted
    summary = document.get("error_summary")
    counts = [each.get("count") for each in summary if isinstance(each, Mapping)] if isinstance(summary, list) else []
    return float(sum(count for count in counts if isinstance(count, int) and count > 0))


def _model(config: Any) -> str | None:
    names = _found(config, "model_names", list)
    return names[0] if isinstance(names, list) and names and isinstance(names[0], str) else _found(config, "model", str)


def _found(config: Any, name: str, kind: type = int) -> Any:
    """Return the first value of a name anywhere in the run's configuration, whose sections differ between versions."""
    if isinstance(config, Mapping):
        value = config.get(name)
        if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
            return value
        return next((found for each in config.values() if (found := _found(each, name, kind)) is not None), None)
    return None


def _pairing(completed: int | None, least: float | None, most: float | None) -> tuple[Any, ...] | None:
    """Return what the two files of a run have in common: how many succeeded, the shortest and the longest latency."""
    if not completed or least is None or most is None:
        return None
    return completed, f"{least:.6g}", f"{most:.6g}"
