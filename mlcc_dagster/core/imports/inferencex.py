"""Results in the InferenceX form: a vLLM serving benchmark whose times are seconds, or the aggregate made of one.

Belongs here: the names and units of that form. Not here: vLLM's own file, whose times are milliseconds (`vllm_bench.py`).

The aggregate speaks of throughput per GPU; `tp` is the number of its GPUs, so the two multiply to what the server did.
"""

import re
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
from mlcc_dagster.core.imports.vllm_bench import SERVING_COLUMNS, load_columns, served_columns
from mlcc_dagster.core.records import utc_text

NAME = "inferencex"
LOOKS_LIKE = "an InferenceX result: model_id or model, and latencies such as median_ttft in seconds"

_LATENCY = re.compile(r"(mean|median|std|p\d+(\.\d+)?)_(ttft|tpot|itl|e2el|intvty)")
_AGGREGATE_USED = frozenset({"tp", "conc", "isl", "osl", "output_tput_per_gpu", "tput_per_gpu"})


def recognizes(document: Document) -> bool:
    """Whether a document is of this form: an object, or a list of them."""
    first = document.first
    named = "model_id" in first or {"hw", "model", "conc"} <= set(first)
    return document.kind != "table" and named and any(_LATENCY.fullmatch(str(name)) for name in first)


def read(document: Document, *, source: str) -> tuple[Measured, ...]:
    """Read a document of this form: one level of load per object. Raises `InvalidInput` with every mistake."""
    problems: list[str] = []
    found = objects_of(document, source, LOOKS_LIKE)
    several = len(found) > 1
    made = [_level(each, f"{source}[{i}]" if several else source, problems) for i, each in enumerate(found)]
    refuse(source, problems)
    return tuple(made)


def _level(document: Mapping[str, Any], where: str, problems: list[str]) -> Measured:
    numbers = Numbers(document, where, problems)
    columns: dict[str, Any] = {}
    for column, name in SERVING_COLUMNS.items():
        columns[column] = milliseconds(numbers.number(name))
    if "hw" in document and "model_id" not in document:
        columns |= _aggregate(numbers)
        used = {*_AGGREGATE_USED, *SERVING_COLUMNS.values()}
    else:
        columns |= served_columns(numbers)
        columns |= load_columns(numbers, NAME)
        used = {*numbers_used(), *SERVING_COLUMNS.values()}
    left_out: list[str] = []
    rest = {name: value for name, value in document.items() if name not in used}
    failure = None
    if columns.get("request_count") == 0:
        failure = f"none of {int(columns.pop('attempted', 0) or 0)} requests was completed"
    columns.pop("attempted", None)
    return Measured(
        where=where,
        format=NAME,
        identity=digest_of(document),
        columns=without_absent(columns),
        extra=dict(numeric_leaves(rest, left_out=left_out)),
        left_out=tuple(left_out),
        failure=failure,
    )


def numbers_used() -> frozenset[str]:
    """Return the names whose numbers columns hold, or follow from what columns hold."""
    return frozenset(
        {"num_prompts", "max_concurrency", "duration", "completed", "failed", "total_input_tokens"}
        | {"total_output_tokens", "request_throughput", "output_throughput", "total_token_throughput"}
    )


def _aggregate(numbers: Numbers) -> dict[str, Any]:
    document = numbers.document
    gpus, level = numbers.whole("tp", required=True), numbers.whole("conc", required=True)
    inputs, outputs = numbers.whole("isl"), numbers.whole("osl")
    total, output = numbers.number("tput_per_gpu"), numbers.number("output_tput_per_gpu")
    date = numbers.moment("date", form=None) if "date" in document else None
    workload = None if inputs is None or outputs is None else f"{NAME}-{inputs}-{outputs}"
    return {
        "model_name": numbers.text("model", required=True),
        "quantization": numbers.text("precision"),
        "tensor_parallel_degree": gpus,
        "concurrency": level,
        "workload": workload,
        "input_tokens_mean": inputs,
        "output_tokens_mean": outputs,
        "total_token_throughput_tps": None if total is None or not gpus else total * gpus,
        "output_token_throughput_tps": None if output is None or not gpus else output * gpus,
        "run_timestamp": None if date is None else utc_text(date),
    }
