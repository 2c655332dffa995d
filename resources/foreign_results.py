"""A table of results from elsewhere: read from one file, asked in place of the store, never written into it.

Belongs here: the file's formats and what is wrong with one. Not here: what rows mean (`core.result_columns`,
`core.standing`), importing results for good.
"""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlcc_dagster.core.configuration import DIMENSIONS
from mlcc_dagster.core.exceptions import InvalidInput
from mlcc_dagster.core.result_columns import moment_of


@dataclass(frozen=True)
class ForeignResults:
    """The rows of a file. `unreadable_times` counts those whose `run_timestamp` is none of a run: it is none in `rows`,
    which counts as older than every other."""

    rows: list[dict[str, Any]]
    unreadable_times: int


def read_results(path: Path) -> ForeignResults:
    """Read a file of result rows by its ending: Parquet, CSV with a header (an empty cell is null), or a JSON list of
    objects.

    Columns: the six dimensions (`tensor_parallel_degree` for `tp_degree`), `status`, `run_timestamp`, `run_type`; more
    are kept. Raises `InvalidInput` for a file that cannot be read, without `status` or any dimension, or with two columns
    of one name.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InvalidInput(str(path), [f"has no known ending; use one of {', '.join(_READERS)}"])
    kind = path.suffix.lower()[1:]
    try:
        names, rows = reader(path)
    except UnicodeDecodeError as error:
        raise InvalidInput(str(path), [f"is not UTF-8 text (byte {error.start}); save it as UTF-8"]) from error
    except OSError as error:
        raise InvalidInput(
            str(path), [f"cannot be read ({error.strerror or error}); name a file of results"]
        ) from error
    except (ValueError, OverflowError, RecursionError, csv.Error) as error:
        first = (str(error).splitlines() or ["nothing said"])[0]
        raise InvalidInput(str(path), [f"is no {kind} file of results ({first})"]) from error
    problems = _problems(names) if names is not None else []
    if problems:
        raise InvalidInput(str(path), problems)
    return ForeignResults(rows, sum(not _timed(row) for row in rows))


def _problems(names: Sequence[str]) -> list[str]:
    repeated = sorted({name for name in names if names.count(name) > 1})
    problems = [f"{name}: two columns have this name" for name in repeated]
    if "status" not in names:
        problems.append("status: column is missing")
    if not {*names} & {*DIMENSIONS, "tensor_parallel_degree"}:
        problems.append(f"has none of the dimensions {', '.join(DIMENSIONS)}")
    return problems


def _timed(row: dict[str, Any]) -> bool:
    """Whether a row's time can be read; one that cannot is taken out."""
    try:
        moment_of(row.get("run_timestamp"))
    except (ValueError, OverflowError):
        row["run_timestamp"] = None
        return False
    return True


_Table = tuple[list[str] | None, list[dict[str, Any]]]


def _parquet(path: Path) -> _Table:
    import pyarrow as pa
    from pyarrow import parquet as pq

    file = pq.ParquetFile(path)
    names = list(file.schema_arrow.names)
    if len(set(names)) < len(names):
        return names, []
    table = file.read()
    for index, name in enumerate(names):
        # some writers mark no text as text
        if pa.types.is_binary(table.schema.field(index).type):
            table = table.set_column(index, name, table.column(index).cast(pa.string()))
    return names, table.to_pylist()


def _csv(path: Path) -> _Table:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        names = next(reader, [])
        rows = []
        for cells in reader:
            if cells and len(cells) != len(names):
                said = "more" if len(cells) > len(names) else "fewer"
                raise ValueError(f"line {reader.line_num} has {said} cells than the header")
            if cells:
                rows.append({name: cell or None for name, cell in zip(names, cells, strict=True)})
        return names, rows


def _json(path: Path) -> _Table:
    document = json.loads(path.read_text("utf-8-sig"))
    if not isinstance(document, list) or not all(isinstance(row, Mapping) for row in document):
        raise ValueError("it must be a list of objects, one per row")
    names = list(dict.fromkeys(name for row in document for name in row))
    return names if document else None, [dict(row) for row in document]


_READERS: dict[str, Callable[[Path], _Table]] = {".parquet": _parquet, ".csv": _csv, ".json": _json}
