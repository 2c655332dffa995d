"""A table of results from elsewhere: read from one file, asked in place of the store, never written into it.

Belongs here: the file's formats and what is wrong with one. Not here: what rows mean (`core.result_columns`,
`core.standing`), importing results for good.
"""

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlcc_dagster.core.configuration import DIMENSIONS
from mlcc_dagster.core.exceptions import InvalidInput
from mlcc_dagster.core.result_columns import moment_of

_SHOWN_PROBLEMS = 10


def read_results(path: Path) -> list[dict[str, Any]]:
    """Read a file of result rows by its ending: Parquet, CSV with a header (an empty cell is null), or a JSON list of
    objects.

    Columns: the six dimensions (`tensor_parallel_degree` for `tp_degree`), `status`, `run_timestamp`, `run_type`; more
    are kept. Raises `InvalidInput` for a file that cannot be read, without `status` or any dimension, or naming times
    that are none.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InvalidInput(str(path), [f"has no known ending; use one of {', '.join(_READERS)}"])
    try:
        rows = reader(path)
    except OSError as error:
        raise InvalidInput(
            str(path), [f"cannot be read ({error.strerror or error}); name a file of results"]
        ) from error
    except (ValueError, csv.Error) as error:
        first = (str(error).splitlines() or ["nothing said"])[0]
        raise InvalidInput(str(path), [f"is no {path.suffix.lower()[1:]} file of results ({first})"]) from error
    problems = _problems(rows)
    if problems:
        raise InvalidInput(str(path), problems)
    return rows


def _problems(rows: list[dict[str, Any]]) -> list[str]:
    names = {name for row in rows[:1000] for name in row}
    if not rows:
        return []
    problems = [] if "status" in names else ["status: column is missing"]
    if not names & {*DIMENSIONS, "tensor_parallel_degree"}:
        problems.append(f"has none of the dimensions {', '.join(DIMENSIONS)}")
    wrong = []
    for index, row in enumerate(rows):
        try:
            moment_of(row.get("run_timestamp"))
        except ValueError:
            wrong.append(f"row {index}: run_timestamp {row['run_timestamp']!r} is no ISO 8601 time")
    more = [f"and {len(wrong) - _SHOWN_PROBLEMS} more rows like these"] if len(wrong) > _SHOWN_PROBLEMS else []
    return [*problems, *wrong[:_SHOWN_PROBLEMS], *more]


def _parquet(path: Path) -> list[dict[str, Any]]:
    from pyarrow import parquet as pq

    return pq.ParquetFile(path).read().to_pylist()


def _csv(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        rows = []
        for row in reader:
            if None in row:
                raise ValueError(f"line {reader.line_num} has more cells than the header")
            rows.append({name: value or None for name, value in row.items()})
        return rows


def _json(path: Path) -> list[dict[str, Any]]:
    document = json.loads(path.read_text("utf-8"))
    if not isinstance(document, list) or not all(isinstance(row, Mapping) for row in document):
        raise ValueError("it must be a list of objects, one per row")
    return [dict(row) for row in document]


_READERS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {".parquet": _parquet, ".csv": _csv, ".json": _json}
