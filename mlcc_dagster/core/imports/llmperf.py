"""LLMPerf's two files: the individual responses of a run, and their summary.

Belongs here: their names, and that the two are one run. Not here: how metrics are computed (`core.metrics`).

The individual responses say when nothing began, so durations and throughputs are those of the summary. Its percentiles
interpolate linearly over the requests without an error, as ours do: they agree to the last bits. Its inter-token latency does
not: it divides what passed up to the last token, the first one included, by all tokens.
"""

import math
from collections.abc import Mapping
from typing import Any

from mlcc_dagster.core.imports.measured import (
    Document,
    Measured,
    Numbers,
    digest_of,
    milliseconds,
    numeric_leaves,
    objects_of,
    refuse,
    without_absent,
)
from mlcc_dagster.core.records import utc_text
from mlcc_dagster.core.request_records import RequestRecord

NAME = "llmperf"
LOOKS_LIKE = (
    "LLMPerf's summary (num_concurrent_requests, results_...) or its individual responses (end_to_end_latency_s)"
)

_ENDS: Mapping[str, str] = {"avg": "mean", "p50": "quantiles_p50", "p90": "quantiles_p90", "p99": "quantiles_p99"}
_LATENCIES: Mapping[str, str] = {"ttft": "ttft_s", "e2e_latency": "end_to_end_latency_s"}
_EXPLAINED: Mapping[str, str] = {
    "itl": "LLMPerf divides all that passed, the first token included, by all tokens; here it is (latency - TTFT) / "
    "(tokens - 1) of requests with two tokens or more",
}

_USED = frozenset(
    {"timestamp", "num_concurrent_requests", "results_error_rate", "results_num_completed_requests"}
    | {"results_num_completed_requests_per_min", "results_mean_output_throughput_token_per_s"}
    | {"results_number_input_tokens_mean", "results_number_output_tokens_mean"}
)
"""Numbers that columns hold, beside the latencies."""


def recognizes(document: Document) -> bool:
    """Whether a document is one of the two files."""
    first = document.first
    if document.kind == "table":
        return False
    individual = {"end_to_end_latency_s", "error_code"} <= set(first)
    return individual or ("num_concurrent_requests" in first and any(str(n).startswith("results") for n in first))


def read(document: Document, *, source: str) -> tuple[Measured, ...]:
    """Read either file. The halves of a run are put together by `formats.paired`. Raises `InvalidInput` with every
    mistake."""
    problems: list[str] = []
    found = objects_of(document, source, LOOKS_LIKE)
    if "num_concurrent_requests" in found[0]:
        made = tuple(_summary(each, source, problems) for each in found)
    else:
        made = (_responses(found, source, problems),)
    refuse(source, problems)
    return made


def _flat(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a summary with nested results under the names of the flat form."""
    flat: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, Mapping) and name.startswith("results"):
            flat |= _flat({f"{name}_{inner}": each for inner, each in value.items()})
        else:
            flat[name] = value
    return flat


def _summary(document: Mapping[str, Any], where: str, problems: list[str]) -> Measured:
    flat = _flat(document)
    numbers = Numbers(flat, where, problems)
    completed = numbers.whole("results_num_completed_requests", required=True)
    started = numbers.whole("results_num_requests_started")
    errors = numbers.whole("results_number_errors")
    per_minute = numbers.number("results_num_completed_requests_per_min")
    seconds = completed / per_minute * 60 if completed and per_minute else None
    inputs = numbers.number("results_number_input_tokens_mean")
    outputs = numbers.number("results_number_output_tokens_mean")
    output_rate = numbers.number("results_mean_output_throughput_token_per_s")
    wanted = [numbers.number(f"mean_{side}_tokens") for side in ("input", "output")]
    named = "-".join("x" if each is None else f"{each:g}" for each in wanted)
    when = numbers.moment("timestamp")
    columns: dict[str, Any] = {
        "model_name": numbers.text("model"),
        "workload": f"{NAME}-{named}",
        "concurrency": numbers.whole("num_concurrent_requests", required=True),
        "run_timestamp": None if when is None else utc_text(when),
        "request_count": None if completed is None else float(completed),
        "error_rate": numbers.number("results_error_rate"),
        "benchmark_duration_sec": seconds,
        "duration_seconds": None if seconds is None else int(seconds),
        "request_throughput_rps": None if per_minute is None else per_minute / 60,
        "output_token_throughput_tps": output_rate,
        "input_sequence_length_avg": inputs,
        "output_sequence_length_avg": outputs,
        "input_tokens_mean": None if inputs is None else int(inputs),
        "output_tokens_mean": None if outputs is None else int(outputs),
    }
    if inputs is not None and output_rate is not None and completed and seconds:
        columns["total_token_throughput_tps"] = output_rate + inputs * completed / seconds
    for column, name in _LATENCIES.items():
        for end, statistic in _ENDS.items():
            columns[f"{column}_{end}_ms"] = milliseconds(numbers.number(f"results_{name}_{statistic}"))
    itl = {
        f"itl_{end}_ms": milliseconds(numbers.number(f"results_inter_token_latency_s_{statistic}"))
        for end, statistic in _ENDS.items()
    }
    left_out: list[str] = []
    extra = dict(numeric_leaves(flat, left_out=left_out))
    used = _USED | {f"results_{n}_{s}" for n in _LATENCIES.values() for s in _ENDS.values()}
    failure = f"none of {started or errors or 0} requests was completed" if completed == 0 else None
    return Measured(
        where=where,
        format=NAME,
        identity=digest_of(document),
        columns=without_absent(columns),
        summary=without_absent(itl),
        explained=_EXPLAINED,
        extra={name: value for name, value in extra.items() if name not in used},
        left_out=tuple(left_out),
        failure=failure,
        half="summary",
        pairing=_pairing(
            completed,
            numbers.number("results_end_to_end_latency_s_min"),
            numbers.number("results_end_to_end_latency_s_max"),
        ),
    )


def _responses(found: tuple[Mapping[str, Any], ...], where: str, problems: list[str]) -> Measured:
    records = []
    for i, document in enumerate(found):
        numbers = Numbers(document, f"{where}[{i}]", problems)
        latency = numbers.number("end_to_end_latency_s", required=True)
        first = numbers.number("ttft_s")
        tokens = {
            "input_sequence_length": numbers.number("number_input_tokens"),
            "output_sequence_length": numbers.number("number_output_tokens"),
        }
        if latency is None:
            continue
        code, said = document.get("error_code"), document.get("error_msg")
        error = None if code is None else f"error {code}" + (f": {said}" if said else "")
        metrics = without_absent(
            {"request_latency": latency * 1000, "time_to_first_token": milliseconds(first or None), **tokens}
        )
        records.append(RequestRecord(0, round(latency * 1e9), metrics, error=error))
    means = [
        "x" if not counts else f"{sum(counts) / len(counts):.0f}"
        for name in ("input_sequence_length", "output_sequence_length")
        for counts in [[r.metrics[name] for r in records if r.error is None and name in r.metrics]]
    ]
    seconds = [record.metrics["request_latency"] / 1000 for record in records if record.error is None]
    return Measured(
        where=where,
        format=NAME,
        identity=digest_of(list(found)),
        columns={"workload": "-".join([NAME, *means])},
        records=tuple(records),
        timed=False,
        explained=_EXPLAINED,
        half="records",
        pairing=_pairing(len(seconds), min(seconds, default=None), max(seconds, default=None)),
    )


def _pairing(completed: int | None, least: float | None, most: float | None) -> tuple[Any, ...] | None:
    """Return what the two files of a run have in common: how many succeeded, the shortest and the longest latency."""
    if not completed or least is None or most is None or not math.isfinite(most):
        return None
    return completed, f"{least:.6g}", f"{most:.6g}"
