"""What to run instead of an unproven vector: the proven vectors of the same model family that differ in fewest dimensions.

Belongs here: the index over proven rows and the rank `hamming`. Not here: deriving a vector from a model and an instance
type (`resolution.py`), ranks that are learned from measurements, how an answer is shown.

No request is compared with one proven vector after another. The distinct vectors of a family stand in a row, newest
first, and every value of a dimension has a bitmap of the vectors that have it. Adding the five bitmaps of a request as
binary numbers, 64 vectors at a time, leaves one bitmap per distance, whose first set bits are the answer.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from operator import eq
from types import MappingProxyType
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from mlcc_dagster.core.configuration import DIMENSIONS, Vector
from mlcc_dagster.core.exceptions import InvalidInput, UsageError
from mlcc_dagster.core.result_columns import Cells, coded_texts, listed, moment_of, read_columns

TOP = 3
"""How many substitutions an answer has, unless the caller says otherwise."""

_PROVEN = "completed"
_FAMILY = DIMENSIONS.index("model_family")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NO_TIME = -(2**63 - 1)
_LARGEST_KEY = 2**62
_WORD_BITS = 64


@dataclass(frozen=True)
class Substitution:
    """A proven vector offered for a requested one. `config` is the newest row that proves it, as it was given."""

    requested: Vector
    proven: Vector
    distance: int
    config: Mapping[str, Any]

    @property
    def explanation(self) -> tuple[str, ...]:
        """Per differing dimension the requested and the proven value, empty for an exact match."""
        pairs = zip(DIMENSIONS, self.requested.values(), self.proven.values(), strict=True)
        return tuple(f"{name}: '{asked}' → '{found}'" for name, asked, found in pairs if asked != found)

    def to_json(self) -> dict[str, Any]:
        """Return `config`, `distance` and `explanation` as JSON values; times of the row as ISO 8601 texts."""
        config = {
            name: value.isoformat() if isinstance(value, datetime) else value for name, value in self.config.items()
        }
        return {"config": config, "distance": self.distance, "explanation": list(self.explanation)}


@dataclass(frozen=True)
class Answer:
    """The substitutions for one request, best first. Without any, `nearest` is the distance of the nearest proven vector
    of another family, none where nothing at all is proven."""

    requested: Vector
    substitutions: tuple[Substitution, ...]
    nearest: int | None

    @property
    def message(self) -> str | None:
        """Why there is no substitution, none where there is one."""
        if self.substitutions:
            return None
        if self.nearest is None:
            return "no coverage — no proven configs available"
        return f"no coverage — nearest proven config is {self.nearest} dimensions away"

    def to_json(self) -> dict[str, Any]:
        """Return `{"substitutions": [...]}`, or `{"no_match": true, "message": ...}`."""
        if self.substitutions:
            return {"substitutions": [each.to_json() for each in self.substitutions]}
        return {"no_match": True, "message": self.message}


class SubstitutionIndex:
    """All proven vectors, arranged so that a request needs no pass over the rows; built once, then only read.

    Rank `hamming`: among completed rows with exactly the requested `model_family` by Hamming distance over the six
    dimensions, then newest `run_timestamp`, then input order; one answer per distinct vector, given by its newest row. A
    row without time counts as older than every other. Source: the specification's rules for substitution.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]] | Mapping[str, Cells]) -> None:
        """Read result rows, or columns (name -> sequence or array): the six dimensions, `status`, `run_timestamp`; what
        else they have is handed back with an answer. Rows and columns are kept, not copied.

        Raises `InvalidInput` for columns of unequal length or without `status`, and naming every completed row whose
        time cannot be read.
        """
        self._rows: Mapping[str, Cells] | list[Mapping[str, Any]]
        if isinstance(rows, Mapping):
            self._rows = {name: _python_times(column) for name, column in cast(Mapping[str, Cells], rows).items()}
        else:
            self._rows = list(rows)
        columns, status = read_columns(self._rows)
        if not isinstance(self._rows, list):
            _refuse_uneven(self._rows, len(status))
        completed = np.flatnonzero(np.fromiter(map(partial(eq, _PROVEN), status), dtype=bool, count=len(status)))
        coded = [coded_texts(column) for column in columns.values()]
        # A null has the first code that no value has, and is the empty text.
        self._texts = [texts if "" in texts else [*texts, ""] for texts, _ in coded]
        codes = np.stack([each[completed] for _, each in coded])
        newest = np.argsort(-self._times(completed), kind="stable")
        first = newest[_first_of_each(codes[:, newest])]
        # One column per distinct vector: family after family, and newest first as are answers at equal distance.
        placed = first[np.argsort(codes[_FAMILY, first], kind="stable")]
        self._row_of, self._codes = completed[placed], codes[:, placed]
        self._code_of = [{text: code for code, text in enumerate(texts)} for texts in self._texts]
        families = np.arange(len(self._texts[_FAMILY]) + 1)
        ends = np.searchsorted(self._codes[_FAMILY], families).tolist()
        others = np.delete(self._codes, _FAMILY, axis=0)
        self._shelves = [_Shelf(others, began, ended) for began, ended in pairwise(ends)]
        self._everything = _Shelf(others, 0, len(self))
        self._offers: dict[int, tuple[Vector, Mapping[str, Any]]] = {}

    def __len__(self) -> int:
        """How many distinct vectors are proven."""
        return len(self._row_of)

    def answer(self, requested: Vector, *, top: int = TOP) -> Answer:
        """Return the best `top` substitutions for a vector. Raises `UsageError` for `top` below 1."""
        if top < 1:
            raise UsageError(f"cannot give {top} substitutions; ask for 1 or more")
        wanted = [lookup.get(text) for lookup, text in zip(self._code_of, requested.values(), strict=True)]
        family = wanted.pop(_FAMILY)
        found = [] if family is None else self._shelves[family].nearest(wanted, top)
        nearest = None
        if not found and len(self):
            # No proven vector has the requested family, so that dimension differs from all.
            nearest = 1 + self._everything.nearest(wanted, 1)[0][1]
        offers = ((distance, *self._offer(place)) for place, distance in found)
        return Answer(requested, tuple(Substitution(requested, v, d, row) for d, v, row in offers), nearest)

    def _offer(self, place: int) -> tuple[Vector, Mapping[str, Any]]:
        """Return a proven vector and its newest row. They are kept: the same few answer many requests."""
        if place not in self._offers:
            codes = self._codes[:, place].tolist()
            proven = Vector(*(texts[code] for texts, code in zip(self._texts, codes, strict=True)))
            row = int(self._row_of[place])
            if isinstance(self._rows, list):
                self._offers[place] = proven, self._rows[row]
            else:
                config = {name: _plain(column[row]) for name, column in self._rows.items()}
                self._offers[place] = proven, MappingProxyType(config)
        return self._offers[place]

    def _times(self, completed: NDArray[np.intp]) -> NDArray[np.int64]:
        """Return the times of the completed rows in microseconds since 1970."""
        values: Iterable[Any]
        if isinstance(self._rows, list):
            values = (self._rows[row].get("run_timestamp") for row in completed.tolist())
        elif "run_timestamp" not in self._rows:
            values = [None] * len(completed)
        else:
            column = listed(self._rows["run_timestamp"])
            values = map(column.__getitem__, completed.tolist())
        times, problems = np.empty(len(completed), dtype=np.int64), []
        for place, value in enumerate(values):
            try:
                moment = moment_of(value)
            except ValueError:
                problems.append(f"row {completed[place]}: run_timestamp {value!r} is no ISO 8601 time")
                continue
            times[place] = _NO_TIME if moment is None else (moment - _EPOCH) // _MICROSECOND
        if problems:
            raise InvalidInput("the proven rows", problems)
        return times


class _Shelf:
    """Distinct vectors in their order, with a bitmap per value that was ever asked for."""

    def __init__(self, codes: NDArray[np.int32], began: int, ended: int) -> None:
        """`codes`: a row per other dimension than the family, a column per vector of the index, of which those from
        `began` to before `ended` stand here."""
        self._began = began
        self._codes = codes[:, began:ended]
        self._bitmaps: dict[tuple[int, int], NDArray[np.uint64]] = {}

    def nearest(self, wanted: list[int | None], count: int) -> list[tuple[int, int]]:
        """Return (place in the index, distance) of the nearest vectors, for a code per other dimension than the family;
        none where no vector has the value."""
        found: list[tuple[int, int]] = []
        for distance, bitmap in enumerate(self._by_distance(wanted)):
            found += [(self._began + bit, distance) for bit in _first_bits(bitmap, count - len(found))]
            if len(found) >= count:
                break
        return found

    def _by_distance(self, wanted: list[int | None]) -> Iterator[NDArray[np.uint64]]:
        a, b, c, d, e = (self._having(axis, code) for axis, code in enumerate(wanted))
        # Two full adders and a half one: equal dimensions = ones + 2 twos + 4 fours.
        ab = a ^ b
        abc = ab ^ c
        carried = (a & b) | (ab & c)
        de = d ^ e
        ones = abc ^ de
        carried_too = (d & e) | (abc & de)
        fours = carried & carried_too
        twos = carried ^ carried_too
        yield fours & ones
        yield fours & ~ones
        yield twos & ones
        yield twos & ~ones
        low = ones & ~twos
        yield low & ~fours
        yield _bitmap(np.ones(self._codes.shape[1], dtype=bool)) & ~(ones | twos | fours)

    def _having(self, axis: int, code: int | None) -> NDArray[np.uint64]:
        known = -1 if code is None else code
        if (axis, known) not in self._bitmaps:
            self._bitmaps[axis, known] = _bitmap(self._codes[axis] == known)
        return self._bitmaps[axis, known]


def _bitmap(flags: NDArray[np.bool_]) -> NDArray[np.uint64]:
    words = np.zeros(-(-len(flags) // _WORD_BITS), dtype=np.uint64)
    packed = np.packbits(flags, bitorder="little")
    words.view(np.uint8)[: len(packed)] = packed
    return words


def _first_bits(bitmap: NDArray[np.uint64], count: int) -> list[int]:
    """Return the positions of the first set bits, at most `count`."""
    words = np.flatnonzero(bitmap != 0)[:count]
    if not len(words):
        return []
    # Every one of these words has a bit, so that no later word is needed.
    bits = np.flatnonzero(np.unpackbits(bitmap[words].view(np.uint8), bitorder="little"))[:count]
    return (words[bits // _WORD_BITS] * _WORD_BITS + bits % _WORD_BITS).tolist()


def _first_of_each(codes: NDArray[np.int32]) -> NDArray[np.intp]:
    """Return where each distinct column of codes stands first, in order."""
    key, size = np.zeros(codes.shape[1], dtype=np.int64), 1
    for row in codes:
        slots = int(row.max(initial=0)) + 1
        if size * slots > _LARGEST_KEY:
            distinct, key = np.unique(key, return_inverse=True)
            size = len(distinct)
        key, size = key * slots + row, size * slots
    return np.sort(np.unique(key, return_index=True)[1])


def _refuse_uneven(columns: Mapping[str, Cells], rows: int) -> None:
    problems = [f"{name}: {len(column)} rows, status {rows}" for name, column in columns.items() if len(column) != rows]
    if problems:
        raise InvalidInput("the result columns", problems)


def _python_times(column: Cells) -> Cells:
    # Times of a finer unit than microseconds would come out of an array as integers.
    if isinstance(column, np.ndarray) and column.dtype.kind == "M":
        return column.astype("datetime64[us]")
    return column


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
