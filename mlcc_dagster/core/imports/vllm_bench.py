"""The result file of vLLM's serving benchmark (`vllm bench serve --save-result`, with or without `--save-detailed`).

Belongs here: its names, and its detailed lists as request records. Not here: the same names in seconds (`inferencex.py`).

Its TPOT is what our columns call inter-token latency: (latency - time to first token) / (output tokens - 1) of each request.
What it calls ITL pools the gaps of all requests, so that long answers count more; it is kept beside the columns.
"""

import re
from collections.abc import Mapping
from typing import Any

from mlcc_dagster.core.imports.measured import (
    Document,
    Measured,
    Numbers,
    digest_of,
    numeric_leaves,
    objects_of,
    refuse,
    shown,
    without_absent,
)
from mlcc_dagster.core.records import utc_text
from mlcc_dagster.core.request_records import RequestRecord

NAME = "vllm-bench"
LOOKS_LIKE = "a vLLM serving benchmark: model_id, completed, duration and latencies such as median_ttft_ms"

_STATISTIC_NAMES: Mapping[str, str] = {"avg": "mean", "p50": "median", "p90": "p90", "p99": "p99"}
_LATENCY_NAMES: Mapping[str, str] = {"ttft": "ttft", "itl": "tpot", "e2e_latency": "e2el"}

SERVING_COLUMNS: Mapping[str, str] = {
    f"{column}_{end}_ms": f"{statistic}_{name}"
    for column, name in _LATENCY_NAMES.items()
    for end, statistic in _STATISTIC_NAMES.items()
}
"""The name of each latency by our column, without its unit: the file of vLLM adds `_ms`."""

_USED = frozenset(
    {"num_prompts", "max_concurrency", "duration", "completed", "failed", "total_input_tokens", "total_output_tokens"}
    | {"request_throughput", "output_throughput", "total_token_throughput"}
    | {f"{name}_ms" for name in SERVING_COLUMNS.values()}
)
_DETAILED = ("input_lens", "output_lens", "ttfts", "itls")
_MS = re.compile(r"(mean|median|std|p\d+(\.\d+)?)_(ttft|tpot|itl|e2el)_ms")
DATE_FORM = "%Y%m%d-%H%M%S"


def recognizes(document: Document) -> bool:
    """Whether a document is such a file; runs that were appended to one file are a line each."""
    first = document.first
    named = {"model_id", "completed", "duration"} <= set(first)
    detailed = all(isinstance(first.get(name), list) for name in _DETAILED)
    return document.kind != "table" and named and (detailed or any(_MS.fullmatch(str(name)) for name in first))


def read(document: Document, *, source: str) -> tuple[Measured, ...]:
    """Read a result file: one level of load per object. Raises `InvalidInput` with every mistake."""
    problems: list[str] = []
    found = objects_of(document, source, LOOKS_LIKE)
    several = len(found) > 1
    made = [_level(each, f"{source}[{i}]" if several else source, problems) for i, each in enumerate(found)]
    refuse(source, problems)
    return tuple(made)


def _level(document: Mapping[str, Any], where: str, problems: list[str]) -> Measured:
    numbers = Numbers(document, where, problems)
    columns = served_columns(numbers) | load_columns(numbers, NAME)
    attempted = columns.pop("attempted", None)
    latencies = {column: numbers.number(f"{name}_ms") for column, name in SERVING_COLUMNS.items()}
    records, timed = _records(document, where, problems)
    failure = None
    if columns.get("request_count") == 0:
        failure = f"none of {int(attempted or 0)} requests was completed"
    left_out: list[str] = []
    lists = {name: value for name, value in document.items() if name not in _USED and not isinstance(value, list)}
    # What the file says of latencies is compared where the requests themselves are there, else it is all there is.
    summary = {**latencies, **{name: columns.get(name) for name in ("request_count", "error_rate")}} if records else {}
    return Measured(
        where=where,
        format=NAME,
        identity=digest_of(document),
        columns=without_absent(columns if records else columns | latencies),
        records=records,
        timed=timed,
        summary=without_absent(summary),
        explained=_EXPLAINED,
        extra=dict(numeric_leaves(lists, left_out=left_out)),
        left_out=tuple(left_out),
        failure=failure,
    )


_EXPLAINED: Mapping[str, str] = {
    "e2e_latency": "vLLM stops the clock at the last chunk; the records add the first token and the gaps",
    "error_rate": "vLLM counts what was not completed; the records count what has an error",
}


def served_columns(numbers: Numbers) -> dict[str, Any]:
    """Return the columns of counts and throughputs, and what is needed to say how many failed as `attempted`."""
    completed = numbers.whole("completed", required=True)
    prompts = numbers.whole("num_prompts")
    failed = numbers.whole("failed")
    attempted = completed + failed if completed is not None and failed is not None else prompts
    seconds = numbers.number("duration", required=True)
    output = numbers.number("output_throughput")
    total = numbers.number("total_token_throughput")
    inputs = numbers.number("input_throughput")
    if total is None and inputs is not None and output is not None:
        total = inputs + output
    columns: dict[str, Any] = {
        "request_count": None if completed is None else float(completed),
        "benchmark_duration_sec": seconds,
        "duration_seconds": None if seconds is None else int(seconds),
        "request_throughput_rps": numbers.number("request_throughput"),
        "output_token_throughput_tps": output,
        "total_token_throughput_tps": total,
        "attempted": attempted,
    }
    if completed is not None and attempted:
        if completed > attempted:
            numbers.problems.append(f"{numbers.where}.completed: {completed} of {attempted} requests cannot be")
        columns["error_rate"] = (attempted - completed) / attempted
    for side in ("input", "output"):
        tokens = numbers.number(f"total_{side}_tokens")
        if tokens is not None and completed:
            columns[f"{side}_sequence_length_avg"] = tokens / completed
            columns[f"{side}_tokens_mean"] = int(tokens / completed)
    return columns


def load_columns(numbers: Numbers, tool: str) -> dict[str, Any]:
    """Return model, time, level and workload.

    The level is the limit of requests in flight; without one all were sent at once where the rate is `inf`, else the rate
    drove the load: it then belongs to the workload's name and there is no level.
    """
    rate = numbers.document.get("request_rate")
    level = numbers.whole("max_concurrency")
    completed = numbers.whole("completed")
    tokens = [numbers.number(f"total_{side}_tokens") for side in ("input", "output")]
    means = ["x" if not completed or each is None else str(int(each / completed)) for each in tokens]
    driven = isinstance(rate, (int, float)) and not isinstance(rate, bool) and rate != float("inf")
    if level is None and not driven:
        level = numbers.whole("num_prompts")
    date = numbers.moment("date", form=DATE_FORM)
    return {
        "model_name": numbers.text("model_id", required=True),
        "run_timestamp": None if date is None else utc_text(date),
        "concurrency": level,
        "workload": "-".join([tool, *means, *([f"rate{rate:g}"] if driven else [])]),
    }


def _records(document: Mapping[str, Any], where: str, problems: list[str]) -> tuple[tuple[RequestRecord, ...], bool]:
    """Return the requests of a detailed file and whether they have their times; a plain file has none."""
    lists = [document.get(name) for name in _DETAILED]
    if not all(isinstance(each, list) for each in lists):
        return (), True
    inputs, outputs, firsts, gaps = (list(each) for each in lists if isinstance(each, list))
    errors = document.get("errors") or [""] * len(inputs)
    if not isinstance(errors, list):
        problems.append(f"{where}.errors: must be a list of texts, not {shown(errors)}")
        return (), True
    starts = document.get("start_times")
    timed = isinstance(starts, list) and bool(starts)
    begins = list(starts) if isinstance(starts, list) and starts else [0.0] * len(inputs)
    lengths = {len(each) for each in (inputs, outputs, firsts, gaps, errors, begins)}
    if len(lengths) > 1:
        problems.append(f"{where}: the lists {', '.join(_DETAILED)}, errors differ in length; they must be of one run")
        return (), True
    records = []
    for i, (n_in, n_out, first, between, error, begin) in enumerate(
        zip(inputs, outputs, firsts, gaps, errors, begins, strict=True)
    ):
        values = Numbers(
            {"input_lens": n_in, "output_lens": n_out, "ttfts": first, "start_times": begin}, f"{where}[{i}]", problems
        )
        n_in, n_out = values.number("input_lens"), values.number("output_lens")
        first, begin = values.number("ttfts"), values.number("start_times")
        if not isinstance(between, list) or any(
            isinstance(g, bool) or not isinstance(g, (int, float)) or not 0 <= g < 1e9 for g in between
        ):
            problems.append(f"{where}.itls[{i}]: must be a list of seconds, not {shown(between)}")
            continue
        if n_in is None or n_out is None or first is None or begin is None:
            continue
        latency = first + sum(between)
        failed = str(error) if error else ("no output" if not n_out and not first else None)
        metrics = {"input_sequence_length": n_in, "output_sequence_length": n_out, "request_latency": latency * 1000}
        if first:
            metrics["time_to_first_token"] = first * 1000
        begun = round(begin * 1e9)
        records.append(RequestRecord(begun, begun + round(latency * 1e9), metrics, error=failed))
    return tuple(records), timed
