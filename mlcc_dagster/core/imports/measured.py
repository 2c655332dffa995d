"""What a reader makes of a file of another tool, and what the readers share to get there.

Belongs here: the parsed document, one measured level, and reading numbers out of documents that nobody checked. Not here:
what a tool calls its numbers (one module per tool), making rows of what was read (`completion.py`).
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal

from mlcc_dagster.core.exceptions import InvalidInput
from mlcc_dagster.core.request_records import RequestRecord
from mlcc_dagster.core.result_columns import moment_of

STATISTICS: tuple[str, ...] = ("avg", "p50", "p90", "p99")
"""The statistics of a latency that have a column, by the end of the column's name."""


@dataclass(frozen=True)
class Document:
    """A file's content, parsed. `kind` says how: `json` one JSON value, `lines` a list of JSON objects (one per line),
    `table` a list of rows (CSV, whose values are texts, or Parquet)."""

    kind: Literal["json", "lines", "table"]
    value: Any

    @property
    def objects(self) -> tuple[Mapping[str, Any], ...]:
        """The objects that it consists of: the one, or those of its list; empty where it is anything else."""
        if isinstance(self.value, Mapping):
            return (self.value,)
        if isinstance(self.value, Sequence) and not isinstance(self.value, str):
            return tuple(self.value) if all(isinstance(each, Mapping) for each in self.value) else ()
        return ()

    @property
    def first(self) -> Mapping[str, Any]:
        """The first object, empty where there is none."""
        return next(iter(self.objects), MappingProxyType({}))


@dataclass(frozen=True)
class Measured:
    """One level of load that a file reports.

    `columns` are columns of our table in our units, absent ones left out. `records` are the raw requests where the file has
    them; `timed` says whether they have their real start and end, or latencies alone. `summary` are the tool's own values of
    columns that are computed from the records here, for comparison alone; `explained` says by the beginning of a column's
    name why the two may differ. `extra` are numbers that no column holds, by the tool's names. `identity` is what the levels
    of one run share, the same whenever they are read again. `complete_row` marks a row of our own export, which keeps its
    identity. `failure` says why there is no result where nothing succeeded. `half` marks one of the two files of a run, which
    belong together where their `pairing` is equal. `where` is the place in the file, `sources` are the files.
    """

    where: str
    format: str
    identity: str
    columns: Mapping[str, Any]
    records: tuple[RequestRecord, ...] = ()
    timed: bool = True
    summary: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    explained: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    extra: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    left_out: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    complete_row: bool = False
    failure: str | None = None
    sources: tuple[str, ...] = ()
    pairing: tuple[Any, ...] | None = None
    half: Literal["summary", "records"] | None = None


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a JSON value, the same however it was formatted or packed."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class Numbers:
    """Reads values of one object and collects what is wrong with them, each with its place.

    An absent or null value is none. Numbers must be finite and not below 0: no metric of a benchmark is.
    """

    def __init__(self, document: Any, where: str, problems: list[str]) -> None:
        self.where = where
        self.problems = problems
        self.document: Mapping[str, Any] = document if isinstance(document, Mapping) else {}
        if not isinstance(document, Mapping):
            problems.append(f"{where}: must be an object, not {shown(document)}")

    def number(self, name: str, *, required: bool = False) -> float | None:
        """Read a finite number of at least 0."""
        value = self.document.get(name)
        if value is None:
            if required:
                self.problems.append(f"{self.where}.{name}: is missing")
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.problems.append(f"{self.where}.{name}: must be a number, not {shown(value)}")
            return None
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number) or number < 0:
            self.problems.append(f"{self.where}.{name}: must be a finite number of at least 0, not {shown(value)}")
            return None
        return number

    def whole(self, name: str, *, required: bool = False) -> int | None:
        """Read a whole number of at least 0."""
        value = self.number(name, required=required)
        if value is not None and not value.is_integer():
            self.problems.append(f"{self.where}.{name}: must be a whole number, not {shown(value)}")
            return None
        return None if value is None else int(value)

    def text(self, name: str, *, required: bool = False) -> str | None:
        """Read a text; an empty one is none."""
        value = self.document.get(name)
        if value is not None and not isinstance(value, str):
            self.problems.append(f"{self.where}.{name}: must be a text, not {shown(value)}")
            return None
        if required and not value:
            self.problems.append(f"{self.where}.{name}: is missing")
        return value or None

    def part(self, name: str) -> "Numbers":
        """Read an object within; an absent one is empty."""
        value = self.document.get(name)
        return Numbers({} if value is None else value, f"{self.where}.{name}", self.problems)

    def moment(self, name: str, *, form: str | None = None) -> datetime | None:
        """Read a time: ISO 8601, seconds or milliseconds since 1970, or text of the `strptime` form. Without a zone it is
        UTC."""
        value = self.document.get(name)
        if value is None or value == "":
            return None
        try:
            if form is not None:
                return datetime.strptime(str(value), form).replace(tzinfo=UTC)
            return moment_of(value)
        except (ValueError, OverflowError, OSError):
            self.problems.append(f"{self.where}.{name}: is no time, but {shown(value)}")
            return None


def refuse(where: str, problems: Iterable[str]) -> None:
    """Raise `InvalidInput` where there are problems, each told once."""
    found = list(dict.fromkeys(problems))
    if found:
        raise InvalidInput(where, found)


def objects_of(document: Document, source: str, what: str) -> tuple[Mapping[str, Any], ...]:
    """Return the objects of a document. Raises `InvalidInput` where it has none: `what` says what was expected."""
    found = document.objects
    if not found:
        raise InvalidInput(source, [f"{source}: has no results; it must hold {what}"])
    return found


def numeric_leaves(value: Any, *, left_out: list[str], path: str = "") -> Iterator[tuple[str, float]]:
    """Yield every number of a document with its dotted path; of lists only those of objects, since a list of numbers is raw
    data. What is not finite is named in `left_out`."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from numeric_leaves(each, left_out=left_out, path=f"{path}.{name}" if path else str(name))
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            yield path, number
        else:
            left_out.append(f"{path}: is not finite")


def without_absent(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns that have a value."""
    return {name: value for name, value in columns.items() if value is not None}


def milliseconds(seconds: float | None) -> float | None:
    """Return seconds as milliseconds."""
    return None if seconds is None else seconds * 1000


def shown(value: Any) -> str:
    """Return a value as a mistake quotes it: short, on one line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
