"""Result rows as anyone hands them in, row by row or column by column.

Belongs here: reading the dimensions, status and time of rows that need not be ours, and coding texts as integers. Not
here: the columns of our own table (`records.py`), what rows say of a vector (`standing.py`).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from types import NoneType
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from mlcc_dagster.core.configuration import DIMENSIONS, text_value
from mlcc_dagster.core.exceptions import InvalidInput

_EPOCH_NUMBER = re.compile(r"\d{9,14}(\.\d*)?")
_LAST_SECOND = 32_503_680_000.0  # the year 3000: what is larger counts milliseconds
_PLAIN = frozenset({str, int, float, NoneType})

Cells = Sequence[Any] | NDArray[Any]
"""One column of result rows: Python values, none for null, or an array of them."""


def read_columns(
    rows: Iterable[Mapping[str, Any]] | Mapping[str, Cells],
) -> tuple[dict[str, list[Any]], list[Any]]:
    """Return the six dimensions by name and the status of every row, from rows or from columns.

    What is absent is none. The sixth dimension is read as `tp_degree`, else as `tensor_parallel_degree`. Raises
    `InvalidInput` for columns of unequal length or without `status`.
    """
    names = (*DIMENSIONS, "tensor_parallel_degree", "status")
    if isinstance(rows, Mapping):
        given = cast(Mapping[str, Cells], rows)
        columns = {name: listed(given[name]) for name in names if name in given}
        lengths = {name: len(column) for name, column in columns.items()}
        problems = [] if "status" in columns or not columns else ["status: column is missing"]
        if len(set(lengths.values())) > 1:
            problems.append(f"columns differ in length: {', '.join(f'{n} {length}' for n, length in lengths.items())}")
        if problems:
            raise InvalidInput("the result columns", problems)
        nulls = [None] * max(lengths.values(), default=0)
        columns = {name: columns.get(name, nulls) for name in names}
    else:
        every = list(rows)
        columns = {name: [row.get(name) for row in every] for name in names}
    stored = columns.pop("tensor_parallel_degree")
    status = columns.pop("status")
    if any(not is_null(value) for value in stored):
        degrees = zip(columns["tp_degree"], stored, strict=True)
        columns["tp_degree"] = [other if is_null(value) else value for value, other in degrees]
    return columns, status


def listed(column: Cells) -> list[Any]:
    """Return a column as a list of Python values."""
    # Arrays give Python values in one call; their own scalars would neither be plain nor compare as such.
    to_list = getattr(column, "tolist", None)
    return to_list() if to_list is not None else list(column)


def is_null(value: Any) -> bool:
    """Whether a cell has no value: none, or not a number (also pandas' missing time)."""
    return value is None or (isinstance(value, (float, datetime)) and value != value)


def coded_texts(column: list[Any]) -> tuple[list[str], NDArray[np.int32]]:
    """Return the distinct non-null texts in first-seen order and the code of each row; a null has the code of the empty
    text where that is a value, else the first code that no value has."""
    if not _PLAIN.issuperset(map(type, column)):
        # As a key `True` is equal to 1 but as a text it is not, and what is no plain value may not even be a key.
        column = [None if is_null(value) else text_value(value) for value in column]
    code_of_text: dict[str, int] = {}
    code_of_value: dict[Any, int] = {}
    for value in dict.fromkeys(column):
        code_of_value[value] = -1 if is_null(value) else code_of_text.setdefault(text_value(value), len(code_of_text))
    codes = np.fromiter(map(code_of_value.__getitem__, column), dtype=np.int32, count=len(column))
    codes[codes < 0] = code_of_text.get("", len(code_of_text))
    return list(code_of_text), codes


def moment_of(value: Any) -> datetime | None:
    """Read the time of a row: a datetime or ISO 8601 text (without zone it is UTC, as existing installations write it;
    Athena ends one with ` UTC`), or seconds or milliseconds since 1970. None where there is none.

    The answer is in UTC. Raises `ValueError` for anything else.
    """
    if value is None or value == "" or is_null(value):
        return None
    if isinstance(value, datetime):
        moment = value
    else:
        text = str(value).strip().removesuffix(" UTC")
        number = _EPOCH_NUMBER.fullmatch(text)
        if number is None:
            moment = datetime.fromisoformat(text)
        else:
            seconds = float(text)
            moment = datetime.fromtimestamp(seconds / 1000 if seconds >= _LAST_SECOND else seconds, UTC)
    try:
        return (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment).astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{value!r} lies outside of the years 1 to 9999 in UTC") from None
