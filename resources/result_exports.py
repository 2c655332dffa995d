"""Result rows written out: CSV, JSON, Parquet or Markdown, for other tools and for another home.

Belongs here: choosing rows, the four forms, and putting a file in its place in one step. Not here: reading them back
(`result_imports.py`), SQL (`sql_engine.py`).
"""

import csv
import io
import json
import math
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.records import COLUMN_NAMES, RUN_TYPES, STATUSES
from resources.result_store import Snapshot

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS: tuple[str, ...] = ("csv", "json", "parquet", "markdown")
ENDINGS: Mapping[str, str] = {".csv": "csv", ".json": "json", ".parquet": "parquet", ".md": "markdown"}
_ORDER = ("run_timestamp", "run_id", "workload", "concurrency")


@dataclass(frozen=True)
class RowChoice:
    """Which rows are exported; none means all."""

    status: str | None = None
    run_type: str | None = None
    family: str | None = None

    def __post_init__(self) -> None:
        wrong = [
            f"no {name} '{value}'; use one of {', '.join(known)}"
            for name, value, known in (("status", self.status, STATUSES), ("run type", self.run_type, RUN_TYPES))
            if value is not None and value not in known
        ]
        if wrong:
            raise UsageError("; ".join(wrong))


def format_for(name: str | None, file: Path | None) -> str:
    """Return the form that was asked for, else the one of the file's ending, else CSV.

    Raises `UsageError` for an unknown one, and for Parquet without a file.
    """
    if name is not None and name not in FORMATS:
        raise UsageError(f"no format '{name}'; use one of {', '.join(FORMATS)}")
    if name is None and file is not None and file.suffix.lower() not in ENDINGS:
        raise UsageError(f"{file} has no known ending ({', '.join(ENDINGS)}); say the form with --format")
    form = name or (ENDINGS[file.suffix.lower()] if file is not None else "csv")
    if form == "parquet" and file is None:
        raise UsageError("Parquet is no text for standard output; name a file to write it to")
    return form


def chosen_rows(snapshot: Snapshot, choice: RowChoice) -> "pa.Table":
    """Return the rows that were chosen, oldest first, with every column. Raises as `Snapshot.table` does."""
    table = snapshot.table()
    wanted = {"status": choice.status, "run_type": choice.run_type, "model_family": choice.family}
    for column, value in wanted.items():
        if value is not None:
            table = table.filter([cell == value for cell in table[column].to_pylist()])
    return table.sort_by([(name, "ascending") for name in _ORDER])


def content_of(table: "pa.Table", form: str) -> bytes:
    """Return rows in one of the text forms, or as a Parquet file.

    CSV writes NULL as an empty cell, so that an empty text becomes NULL when it is read back. Markdown has only the columns
    that have a value.
    """
    if form == "parquet":
        return _parquet(table)
    rows = table.to_pylist()
    write = {"csv": _csv, "json": _json, "markdown": _markdown}[form]
    return write(rows).encode("utf-8", "backslashreplace")


def write_file(path: Path, content: bytes) -> None:
    """Put a file in its place in one step: a reader sees what was there before or all of this.

    Raises `UsageError` where it cannot be written; what was there then stays.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file to write to")
    fresh = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with fresh.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        raise UsageError(
            f"cannot write {path} ({error.strerror or error}); name a file in a folder that you may write"
        ) from error
    finally:
        fresh.unlink(missing_ok=True)


def _parquet(table: "pa.Table") -> bytes:
    from pyarrow import parquet as pq

    sink = io.BytesIO()
    pq.write_table(table, sink, compression="snappy")
    return sink.getvalue()


def _csv(rows: list[dict[str, Any]]) -> str:
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(COLUMN_NAMES)
    writer.writerows([_cell(row[name]) for name in COLUMN_NAMES] for row in rows)
    return sink.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _json(rows: list[dict[str, Any]]) -> str:
    # JSON has no word for numbers that are not finite; a row of an older installation may hold one.
    plain = [
        {name: str(v) if isinstance(v, float) and not math.isfinite(v) else v for name, v in row.items()}
        for row in rows
    ]
    return json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _markdown(rows: list[dict[str, Any]]) -> str:
    names = [name for name in COLUMN_NAMES if any(row[name] is not None for row in rows)]
    if not names:
        return "No results.\n"
    lines = [names, ["---"] * len(names), *([_cell_text(row[name]) for name in names] for row in rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _cell_text(value: Any) -> str:
    return " ".join(_cell(value).replace("\\", "\\\\").replace("|", "\\|").splitlines())
