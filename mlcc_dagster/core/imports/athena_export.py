"""Rows of the results table itself: exported from existing installations (67 columns) or from another home (all of ours).

Belongs here: reading rows whose values may be texts (CSV), and what existing writers put for what they did not know. Not
here: making a configuration of a row (`completion.py`), CSV and Parquet themselves (`resources.result_imports`).
"""

import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from mlcc_dagster.core.configuration import text_value
from mlcc_dagster.core.imports.measured import Document, Measured, digest_of, refuse, shown
from mlcc_dagster.core.records import COLUMNS, Column, utc_text
from mlcc_dagster.core.result_columns import is_null, moment_of

NAME = "athena-export"
LOOKS_LIKE = (
    "rows of mlcc_ci.benchmark_results (CSV, Parquet or a JSON list) with model_name, instance_type, deployment_config"
)

_NEEDED = frozenset({"model_name", "instance_type", "deployment_config"})
_ALIASES: Mapping[str, str] = {"tp_degree": "tensor_parallel_degree"}
_PARTITION_KEYS = frozenset({"model", "instance", "target"})
_OWN = ("run_id", "config_id", "status", "schema_version")
_NEVER_ZERO = tuple(
    column.name
    for column in COLUMNS
    if column.name.startswith(("ttft_", "itl_", "e2e_latency_", "ttst_", "prefill_tps_", "output_token_tps_"))
)
"""Columns for which existing writers give 0.0 where nothing was recorded: no request takes no time."""


def recognizes(document: Document) -> bool:
    """Whether a document is rows of this table."""
    if document.kind == "lines" or isinstance(document.value, Mapping):
        return False
    # An export of nothing is an empty list in JSON.
    return document.value == [] or set(document.first) >= _NEEDED


def read(document: Document, *, source: str) -> tuple[Measured, ...]:
    """Read rows. A row of our own export (it has its run and configuration) keeps its identity; of any other what existing
    writers put for absent (0.0, an empty text) is absent. Raises `InvalidInput` with every mistake of every row."""
    problems: list[str] = []
    rows = [] if isinstance(document.value, Mapping) else list(document.objects)
    if not rows and document.value != []:
        problems.append(f"{source}: must hold {LOOKS_LIKE}")
    made = [
        _row(row, f"{source}: row {i}", problems)
        for i, row in enumerate(rows, start=1)
        if any(not is_null(value) for value in row.values())
    ]
    refuse(source, problems)
    return tuple(made)


def _row(row: Mapping[str, Any], where: str, problems: list[str]) -> Measured:
    values = {name: row[name] for name in row if not is_null(row[name])}
    for alias, name in _ALIASES.items():
        if alias in values:
            values.setdefault(name, values.pop(alias))
    own = all(values.get(name) not in (None, "") for name in _OWN)
    columns: dict[str, Any] = {}
    for column in COLUMNS:
        if column.name not in values:
            continue
        value = values.pop(column.name)
        try:
            columns[column.name] = _CONVERTED[column.type](value, column)
        except (ValueError, OverflowError, ArithmeticError):
            problems.append(f"{where}: {column.name} must be {_EXPECTED[column.type]}, not {shown(value)}")
    if "run_timestamp" in columns:
        try:
            moment = moment_of(columns["run_timestamp"])
            columns["run_timestamp"] = None if moment is None else utc_text(moment)
        except (ValueError, OverflowError, OSError):
            problems.append(f"{where}: run_timestamp must be a time, not {shown(columns['run_timestamp'])}")
    extra, left_out = _others(values)
    remarks: list[str] = []
    if not own:
        absent = [name for name in _NEVER_ZERO if columns.get(name) == 0]
        blank = [name for name, v in columns.items() if v is None or (isinstance(v, str) and not v.strip())]
        columns = {name: v for name, v in columns.items() if name not in absent and name not in blank}
        if absent:
            remarks.append("0.0 was read as absent where nothing takes no time")
    return Measured(
        where=where,
        format=NAME,
        # The rows of one run of an existing writer share these; the run keeps its name when it is exported again.
        identity=digest_of(
            [columns.get(n) for n in ("project_name", "benchmark_job_name", "run_timestamp", "run_type")]
        ),
        columns=MappingProxyType(columns),
        extra=extra,
        left_out=left_out,
        remarks=tuple(remarks),
        complete_row=own,
    )


def _others(values: Mapping[str, Any]) -> tuple[dict[str, float], tuple[str, ...]]:
    """Return the numbers of unknown columns, and the names of unknown columns that are none."""
    extra: dict[str, float] = {}
    left_out: list[str] = []
    for name, value in values.items():
        if name in _PARTITION_KEYS or value == "":
            continue
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number):
            extra[name] = number
        else:
            left_out.append(f"{name}: is no column of the table and no number")
    return extra, tuple(left_out)


def _text(value: Any, column: Column) -> str:
    if column.name == "run_timestamp":
        return value  # read as a time by its own rule
    if isinstance(value, (bool, int, float, Decimal)):
        return text_value(float(value) if isinstance(value, Decimal) else value)
    return str(value)


def _number(value: Any, column: Column) -> float | None:
    if value == "":
        return None
    if isinstance(value, bool):
        raise ValueError
    number = float(value)
    # Only GPU figures of an unknown kind could be below 0, and none is.
    if not math.isfinite(number) or number < 0:
        raise ValueError
    return number


def _whole(value: Any, column: Column) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    number = _number(value, column)
    if number is None:
        return None
    if column.name == "duration_seconds":
        return int(number)
    if not number.is_integer():
        raise ValueError
    return int(number)


def _flag(value: Any, column: Column) -> bool | None:
    if value == "":
        return None
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text not in ("true", "false"):
        raise ValueError
    return text == "true"


_CONVERTED: Mapping[str, Callable[[Any, Column], Any]] = {
    "string": _text,
    "double": _number,
    "int32": _whole,
    "bool": _flag,
}
_EXPECTED: Mapping[str, str] = {
    "string": "a text",
    "double": "a finite number of at least 0",
    "int32": "a whole number",
    "bool": "true or false",
}
