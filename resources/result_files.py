"""One result file: what one look at it finds, its rows with the schema of the table, how rows are written.

Belongs here: everything that opens a single Parquet file. Not here: which files count (`result_store.py`), merging
(`compaction.py`).
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mlcc_dagster.core.records import COLUMN_NAMES, COLUMNS

if TYPE_CHECKING:
    import pyarrow as pa

IDENTITY_COLUMNS: tuple[str, ...] = ("model_name", "instance_type", "deployment_config", "deployment_target")
"""What a Parquet file must have to be a result file: files of existing installations lack our later columns."""

FileKey = tuple[str, int, int]
"""A file as it was found: its path, its size in bytes, its time in ns. Under one key it never changes."""

_ROW_GROUP = 122_880
"""Rows that a reader takes at a time: DuckDB's own unit, so that its threads share a large file evenly."""


@cache
def arrow_schema() -> "pa.Schema":
    """Return the Arrow schema of the table, in the order of `COLUMNS`."""
    import pyarrow as pa

    types = {"string": pa.string(), "int32": pa.int32(), "double": pa.float64(), "bool": pa.bool_()}
    return pa.schema([pa.field(column.name, types[column.type]) for column in COLUMNS])


@dataclass(frozen=True)
class Look:
    """What one look at a file's footer found: why it does not count, or else whether it has every column as it
    should."""

    why_not: str | None
    complete: bool = False


def look_at(path: Path) -> Look:
    """Look at a file's footer alone."""
    import pyarrow as pa
    from pyarrow import parquet as pq

    if path.is_symlink():
        return Look("a symbolic link, not a file")
    try:
        return _judged(pq.ParquetFile(path).schema_arrow)
    except (pa.ArrowException, OSError) as error:
        return damage_of(error)


def look_and_read(path: Path) -> "tuple[Look, pa.Table | None]":
    """Look at a file and read it to its end at once, its rows with the schema of the table; none where it does not count."""
    import pyarrow as pa

    if path.is_symlink():
        return Look("a symbolic link, not a file"), None
    try:
        table = read_whole(path)
        look = _judged(table.schema)
        return look, conformed(table) if look.why_not is None else None
    except (pa.ArrowException, OSError) as error:
        return damage_of(error), None


def damage_of(error: Exception) -> Look:
    """Return what an error at reading a file says of it."""
    return Look(f"damaged: {first_line(error)}")


def _judged(schema: "pa.Schema") -> Look:
    # First, since nearly all are so, and there may be many.
    if schema.equals(arrow_schema()):
        return Look(None, complete=True)
    names = set(schema.names)
    missing = [name for name in IDENTITY_COLUMNS if name not in names]
    if missing:
        return Look(f"foreign: has no column {', '.join(missing)}")
    wrong = [
        f"{column.name} is {found}, not {column.type}"
        for column in COLUMNS
        if column.name in names and not _readable(found := schema.field(column.name).type, column.type)
    ]
    return Look(f"foreign: column {'; '.join(wrong)}" if wrong else None)


def read_whole(path: Path) -> "pa.Table":
    """Read a file to its end, checksums verified, with the columns that it has. Raises `pa.ArrowException` or `OSError`
    where it is damaged."""
    from pyarrow import parquet as pq

    # Threads and reading ahead cost a small file more than they bring, and most are small.
    with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file:
        return file.read(use_threads=file.metadata.num_rows > _ROW_GROUP)


def conformed(table: "pa.Table") -> "pa.Table":
    """Return rows with the schema of the table: missing columns NULL, narrower types widened, other columns left out.
    Raises `pa.ArrowException` for a value that the wanted type cannot hold."""
    import pyarrow as pa

    schema = arrow_schema()
    if table.schema.equals(schema):
        return table.replace_schema_metadata(None)
    columns = [
        table.column(field.name).cast(field.type)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def more_columns(table: "pa.Table") -> list[str]:
    """Return the columns of a file that the table does not have."""
    return [name for name in table.column_names if name not in COLUMN_NAMES]


def write_synced(table: "pa.Table", path: Path) -> None:
    """Write rows into a new file and make its content last; its name is the caller's to make last. Raises `OSError` where
    the disk refuses or the file is there."""
    from pyarrow import parquet as pq

    many = table.num_rows > 100
    with path.open("xb") as file:
        # Dictionaries only pay from many rows on; checksums let a reader tell a damaged page from data.
        pq.write_table(
            table,
            file,
            compression="snappy",
            use_dictionary=many,
            write_page_checksum=True,
            row_group_size=_ROW_GROUP,
        )
        file.flush()
        os.fsync(file.fileno())


def concatenated(tables: Sequence["pa.Table"]) -> "pa.Table":
    """Return the rows of tables of the full schema one after the other."""
    import pyarrow as pa

    return pa.concat_tables(tables) if tables else arrow_schema().empty_table()


def first_line(error: Exception) -> str:
    """Return the first line of an error, or its kind where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _readable(found: "pa.DataType", expected: str) -> bool:
    """Whether a column of the type found is read as the expected one without loss (or a loud error)."""
    import pyarrow.types as kinds

    if kinds.is_null(found):
        return True
    if expected == "string":
        return kinds.is_string(found) or kinds.is_large_string(found)
    if expected == "bool":
        return kinds.is_boolean(found)
    return kinds.is_integer(found) or (expected == "double" and kinds.is_floating(found))
