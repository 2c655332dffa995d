"""Raw records of requests: what a load client keeps of each, in AIPerf's form.

Belongs here: the record and reading one line of it. Not here: sending requests (`resources.load_client`), metrics over
records (`metrics.py`), rows of results (`records.py`).
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from mlcc_dagster.core.exceptions import InvalidInput

PROFILING_PHASE = "profiling"

_MILLISECONDS: Mapping[str, float] = MappingProxyType(
    {"ns": 1e-6, "nanoseconds": 1e-6, "us": 1e-3, "µs": 1e-3, "microseconds": 1e-3, "ms": 1.0, "milliseconds": 1.0}
    | {"s": 1e3, "sec": 1e3, "seconds": 1e3}
)


@dataclass(frozen=True)
class RequestRecord:
    """One request of a benchmark. Times in ns since the epoch; `metrics` by AIPerf's names, times in ms, others as
    counted; `error` is none for a success; `cancelled` means that the client ended it; `phase` is `profiling` or
    `warmup`."""

    start_ns: int
    end_ns: int
    metrics: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    error: str | None = None
    cancelled: bool = False
    phase: str = PROFILING_PHASE


def parse_record(source: str | Mapping[str, Any]) -> RequestRecord:
    """Read one line of an AIPerf `profile_export.jsonl` (or the mapping it holds).

    Null and absent metrics are absent; metrics of unknown names are kept; time units become ms; lists (one value per
    chunk) are no scalar metric and stay in the raw file alone. Raises `InvalidInput` with every mistake of the line.
    """
    subject = "request record"
    document: Any = source
    if isinstance(source, str):
        try:
            document = json.loads(source)
        except json.JSONDecodeError as error:
            raise InvalidInput(subject, [f"not readable as JSON at column {error.colno} ({error.msg})"]) from error
    if not isinstance(document, Mapping):
        raise InvalidInput(subject, ["must be a JSON object with metadata and metrics"])
    problems: list[str] = []
    metadata = document.get("metadata")
    if not isinstance(metadata, Mapping):
        problems.append("metadata: must be an object with request_start_ns and request_end_ns")
        metadata = {}
    times: list[int] = []
    for name in ("request_start_ns", "request_end_ns"):
        value = metadata.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            times.append(value)
        elif metadata:
            problems.append(f"metadata.{name}: must be a whole number of nanoseconds, not {value!r}")
    if len(times) == 2 and times[1] < times[0]:
        problems.append("metadata.request_end_ns: lies before request_start_ns")
    metrics = _read_metrics(document.get("metrics"), problems)
    if problems:
        raise InvalidInput(subject, problems)
    return RequestRecord(
        start_ns=times[0],
        end_ns=times[1],
        metrics=MappingProxyType(metrics),
        error=_error_text(document.get("error")),
        cancelled=metadata.get("was_cancelled") is True,
        phase=str(metadata.get("benchmark_phase") or PROFILING_PHASE),
    )


def _read_metrics(document: Any, problems: list[str]) -> dict[str, float]:
    if document is not None and not isinstance(document, Mapping):
        problems.append("metrics: must be an object of metric names")
        return {}
    metrics: dict[str, float] = {}
    for name, entry in (document or {}).items():
        value, unit = (entry.get("value"), entry.get("unit")) if isinstance(entry, Mapping) else (entry, None)
        if value is None or isinstance(value, list):
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            problems.append(f"metrics.{name}: must be a finite number, not {value!r}")
            continue
        metrics[name] = float(value) * _MILLISECONDS.get(unit, 1.0) if isinstance(unit, str) else float(value)
    return metrics


def _error_text(error: Any) -> str | None:
    if not error:
        return None
    if isinstance(error, Mapping):
        return str(error.get("message") or error.get("type") or error.get("code") or "error without a text")
    return str(error)
