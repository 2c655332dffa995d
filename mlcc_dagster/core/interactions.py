"""How much of the interactions of values is proven: of all t-way combinations that some possible vector contains, the
share that proven vectors contain, which ones are missing, and how many a vector would add.

Belongs here: vectors as integer codes, the share and the missing combinations for t = 1, 2, 3 (combinatorial coverage
measurement as NIST defines it), and the cover that grows while a plan is made. Not here: coverage of whole vectors
(`coverage.py`), the ranking of gaps (`gaps.py`), what a gain is worth in money (`planning.py`).

No vector is compared with another. Within a t-subset of the dimensions every combination is one number, its position in
the product of the values, so that sets of combinations are bitmaps, or sorted numbers where the product is much larger
than the vectors.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter, eq, itemgetter
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from mlcc_dagster.core.configuration import DIMENSIONS, Vector, reading_order
from mlcc_dagster.core.coverage import Fraction
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.result_columns import Cells, coded_texts, read_columns

STRENGTHS: tuple[int, ...] = (1, 2, 3)
"""The sizes t of the combinations that are measured."""

_LARGEST_PRODUCT = 2**62
_SMALL_CELLS = 2**16
_CELLS_PER_VECTOR = 16
_COVER_CELLS = 2**22
_CHUNK = 16_384
_PROVEN = "completed"
_values_of = attrgetter(*DIMENSIONS)


@dataclass(frozen=True)
class Interaction:
    """Some dimensions, in their order, and one value of each: what a t-way combination is."""

    dimensions: tuple[str, ...]
    values: tuple[str, ...]

    def to_json(self) -> dict[str, str]:
        """Return the values by dimension."""
        return dict(zip(self.dimensions, self.values, strict=True))

    def __str__(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.to_json().items())


@dataclass(frozen=True, eq=False)
class CodedVectors:
    """Vectors as integers: `codes` is n x 6, and `codes[i, d]` is an index into `values[d]`, the texts of dimension d.

    Raises `ValueError` for another shape or a code without text.
    """

    values: tuple[tuple[str, ...], ...]
    codes: NDArray[np.integer]

    def __post_init__(self) -> None:
        count = len(DIMENSIONS)
        if len(self.values) != count or self.codes.ndim != 2 or self.codes.shape[1] != count:
            shape = f"{len(self.values)} lists of values and codes of shape {self.codes.shape}"
            raise ValueError(f"{shape} are no vectors; give {count} lists and an array of n x {count}")
        if not len(self.codes):
            return
        for name, texts, codes in zip(DIMENSIONS, self.values, self.codes.T, strict=True):
            if codes.min() < 0 or codes.max() >= len(texts):
                raise ValueError(
                    f"{name} has codes {codes.min()} to {codes.max()} but {len(texts)} values; give each code a value"
                )

    def __len__(self) -> int:
        return len(self.codes)

    @classmethod
    def of(cls, vectors: Iterable[Vector]) -> "CodedVectors":
        """Code vectors, in their order."""
        columns = list(zip(*map(_values_of, vectors), strict=True))
        return cls._of([list(column) for column in columns] or [[] for _ in DIMENSIONS])

    @classmethod
    def of_columns(cls, columns: Mapping[str, Cells]) -> "CodedVectors":
        """Code the vectors of columns (dimension -> n values; a missing dimension is null everywhere), every row, in
        their order. Null is the empty text; the sixth dimension may have its stored name. Raises `InvalidInput` for
        columns of unequal length."""
        rows = max((len(column) for column in columns.values()), default=0)
        table, _ = read_columns({"status": [None] * rows, **{n: c for n, c in columns.items() if n != "status"}})
        return cls._of(list(table.values()))

    @classmethod
    def proven_in(cls, rows: Iterable[Mapping[str, Any]] | Mapping[str, Cells]) -> "CodedVectors":
        """Code the vectors of the completed among result rows, given as rows or as columns. Raises `InvalidInput` for
        columns of unequal length or without `status`."""
        table, status = read_columns(rows)
        completed = np.fromiter(map(partial(eq, _PROVEN), status), dtype=bool, count=len(status))
        every = cls._of(list(table.values()))
        return cls(every.values, every.codes.T.compress(completed, axis=1).T)

    @classmethod
    def _of(cls, columns: Sequence[list[Any]]) -> "CodedVectors":
        # Cells by column in memory: every later step reads one dimension of all vectors.
        codes = np.empty((len(columns[0]), len(columns)), dtype=np.int32, order="F")
        values = []
        for axis, column in enumerate(columns):
            texts, codes[:, axis] = coded_texts(column)
            # A null has the first code that no value has, and is the empty text.
            values.append((*texts, "") if "" not in texts else tuple(texts))
        return cls(tuple(values), codes)


Vectors = Iterable[Vector] | CodedVectors
"""Vectors as they are, or coded, which is what a million of them should be."""


@dataclass(frozen=True)
class SubsetCoverage:
    """Combinations of the values of some dimensions: how many possible vectors contain, and how many of those proven
    vectors contain too."""

    dimensions: tuple[str, ...]
    covered: int
    possible: int

    @property
    def share(self) -> Fraction:
        """Covered combinations, of the possible ones."""
        return (self.covered, self.possible)


class MissingInteractions(Sequence[Interaction]):
    """Possible combinations that no proven vector contains, made when they are asked for.

    By subset of dimensions (in the order of `itertools.combinations`), then by value (numbers by size, before texts), so
    that the order depends on nothing but the sets. Slices share the codes and cost nothing.
    """

    def __init__(
        self, values: Sequence[Sequence[str]], parts: Sequence[tuple[tuple[int, ...], NDArray[np.int64]]]
    ) -> None:
        """`values`: the texts of each dimension. `parts`: axes of a subset, and the sorted positions of its missing
        combinations in the product of the texts (a slot more than texts per axis, first axis slowest)."""
        self._values = [np.array(texts, dtype=object) for texts in values]
        self._parts = tuple(parts)
        self._ends = np.cumsum([len(positions) for _, positions in parts], dtype=np.int64)
        self._indices = range(int(self._ends[-1]) if len(parts) else 0)

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> Interaction: ...
    @overload
    def __getitem__(self, index: slice) -> "MissingInteractions": ...
    def __getitem__(self, index: int | slice) -> "Interaction | MissingInteractions":
        if isinstance(index, slice):
            part = MissingInteractions.__new__(MissingInteractions)
            part.__dict__ = self.__dict__ | {"_indices": self._indices[index]}
            return part
        place = self._indices[index]
        return next(self._decoded(range(place, place + 1)))

    def __iter__(self) -> Iterator[Interaction]:
        for start in range(0, len(self._indices), _CHUNK):
            yield from self._decoded(self._indices[start : start + _CHUNK])

    def __repr__(self) -> str:
        return f"<MissingInteractions: {len(self)}>"

    def _decoded(self, indices: range) -> Iterator[Interaction]:
        places = np.arange(indices.start, indices.stop, indices.step, dtype=np.int64)
        subset_of = np.searchsorted(self._ends, places, side="right").tolist()
        for subset, run in itertools.groupby(zip(subset_of, places.tolist(), strict=True), key=itemgetter(0)):
            axes, positions = self._parts[subset]
            began = int(self._ends[subset]) - len(positions)
            found = positions[[place - began for _, place in run]]
            codes = np.unravel_index(found, tuple(len(self._values[axis]) + 1 for axis in axes))
            names = tuple(DIMENSIONS[axis] for axis in axes)
            columns = [self._values[axis][code].tolist() for axis, code in zip(axes, codes, strict=True)]
            yield from (Interaction(names, values) for values in zip(*columns, strict=True))


@dataclass(frozen=True, eq=False)
class InteractionCoverage:
    """The t-way coverage for t = `strength`: one entry per subset of t dimensions, and the combinations missing."""

    strength: int
    subsets: tuple[SubsetCoverage, ...]
    missing: MissingInteractions

    @property
    def share(self) -> Fraction:
        """Covered combinations, of the possible ones, over all subsets."""
        return (sum(subset.covered for subset in self.subsets), sum(subset.possible for subset in self.subsets))


def interaction_coverage(possible: Vectors, proven: Vectors, *, strength: int = 2) -> InteractionCoverage:
    """Measure which t-way combinations (t = `strength`) of the possible vectors the proven ones contain.

    The possible vectors alone make the denominator. Every proven vector counts for the numerator, also one that is not
    possible (any more): those of its combinations that some possible vector contains were seen to work, the others count
    nowhere. Raises `UsageError` for another strength than 1, 2, 3, or more than 2^62 combinations of values in a subset.
    Source: NIST's combinatorial coverage measurement.
    """
    coded = _as_coded(possible)
    space = _Space(coded, strength)
    possible_codes, proven_codes = space.codes(coded), space.codes(_as_coded(proven))
    subsets, parts = [], []
    for axes in space.subsets:
        wanted = space.distinct(axes, possible_codes)
        missing = wanted[~np.isin(wanted, space.distinct(axes, proven_codes), assume_unique=True)]
        names = tuple(DIMENSIONS[axis] for axis in axes)
        subsets.append(SubsetCoverage(names, covered=len(wanted) - len(missing), possible=len(wanted)))
        parts.append((axes, missing))
    return InteractionCoverage(strength, tuple(subsets), MissingInteractions(space.values, parts))


class InteractionCover:
    """The t-way combinations of the possible vectors that are not covered yet; `add` covers those of a vector.

    What a planner asks: the gain of a set of vectors is monotone and submodular, so a gain never grows by an `add`.
    """

    def __init__(self, possible: Vectors, proven: Vectors = (), *, strength: int = 2) -> None:
        """Open all combinations of the possible vectors but those that a proven one contains; errors as in
        `interaction_coverage`."""
        coded = _as_coded(possible)
        self._space = _Space(coded, strength)
        possible_codes, proven_codes = self._space.codes(coded), self._space.codes(_as_coded(proven))
        self._open = tuple(_OpenSet.of(self._space, axes, possible_codes) for axes in self._space.subsets)
        self._possible = self._remaining()
        for axes, opened in zip(self._space.subsets, self._open, strict=True):
            opened.close(self._space.distinct(axes, proven_codes))
        self._covered = self._possible - self._remaining()

    @property
    def strength(self) -> int:
        """How many values a combination has."""
        return self._space.strength

    @property
    def share(self) -> Fraction:
        """Covered combinations, of the possible ones."""
        return (self._covered, self._possible)

    def codes(self, vectors: Vectors) -> NDArray[np.int64]:
        """Return vectors as this cover's codes, n x 6. A value that no possible vector has gets a code of its own, and
        no combination with it ever counts."""
        return self._space.codes(_as_coded(vectors))

    def gains(self, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return for each row of codes (n x 6, from `codes`) how many possible combinations it would newly cover."""
        gained = np.zeros(len(codes), dtype=np.int64)
        for axes, opened in zip(self._space.subsets, self._open, strict=True):
            gained += opened.holds(self._space.positions(axes, codes))
        return gained

    def gain(self, vector: Vector) -> int:
        """Return how many possible combinations of the vector are not covered yet."""
        return int(self.gains(self.codes((vector,)))[0])

    def add(self, vector: Vector) -> int:
        """Cover the combinations of the vector; return how many of them were possible and new."""
        codes = self.codes((vector,))
        gained = int(self.gains(codes)[0])
        for axes, opened in zip(self._space.subsets, self._open, strict=True):
            opened.close(self._space.positions(axes, codes))
        self._covered += gained
        return gained

    def _remaining(self) -> int:
        return sum(opened.remaining for opened in self._open)


class _Space:
    """The values of the possible vectors in a fixed order, and the position of every t-way combination of them. Each
    dimension has one slot more than values, for all that no possible vector has."""

    def __init__(self, possible: CodedVectors, strength: int) -> None:
        if strength not in STRENGTHS:
            raise UsageError(f"no interactions of {strength} values are measured; use one of 1, 2, 3")
        self.strength = strength
        self.values = tuple(
            reading_order({texts[code] for code in np.flatnonzero(_marked(codes, len(texts))).tolist()})
            for texts, codes in zip(possible.values, possible.codes.T, strict=True)
        )
        self.subsets = tuple(itertools.combinations(range(len(DIMENSIONS)), strength))
        largest = max(self.cells(axes) for axes in self.subsets)
        if largest > _LARGEST_PRODUCT:
            raise UsageError(f"the values of {strength} dimensions have {largest:.1e} combinations; select fewer rows")

    def codes(self, vectors: CodedVectors) -> NDArray[np.int64]:
        """Return the codes of vectors in this space, n x 6."""
        found = np.empty(vectors.codes.shape, dtype=np.int64, order="F")
        for axis, (own, theirs) in enumerate(zip(self.values, vectors.values, strict=True)):
            code_of = {text: code for code, text in enumerate(own)}
            table = np.array([code_of.get(text, len(own)) for text in theirs], dtype=np.int64)
            found[:, axis] = table[vectors.codes[:, axis]]
        return found

    def positions(self, axes: tuple[int, ...], codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the position of each row's combination in the product of the slots, first axis slowest."""
        found = codes[:, axes[0]]
        for axis in axes[1:]:
            found = found * (len(self.values[axis]) + 1) + codes[:, axis]
        return found

    def distinct(self, axes: tuple[int, ...], codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the positions that occur, sorted."""
        positions, cells = self.positions(axes, codes), self.cells(axes)
        if cells > max(_SMALL_CELLS, _CELLS_PER_VECTOR * len(positions)):
            return np.unique(positions)
        return np.flatnonzero(_marked(positions, cells))

    def cells(self, axes: tuple[int, ...]) -> int:
        """Return how many positions the product of the slots has."""
        return math.prod(len(self.values[axis]) + 1 for axis in axes)


@dataclass(frozen=True, eq=False)
class _OpenSet:
    """The open combinations of one subset of dimensions: `flags` by position, or, where the product is too large to hold,
    by the place among the sorted `known` positions, with a last flag that stands for all others and is never set."""

    flags: NDArray[np.bool_]
    known: NDArray[np.int64] | None

    @classmethod
    def of(cls, space: _Space, axes: tuple[int, ...], codes: NDArray[np.int64]) -> "_OpenSet":
        cells = space.cells(axes)
        if cells <= _COVER_CELLS:
            return cls(_marked(space.positions(axes, codes), cells), None)
        known = space.distinct(axes, codes)
        return cls(np.append(np.ones(len(known), dtype=bool), False), known)

    @property
    def remaining(self) -> int:
        return int(np.count_nonzero(self.flags))

    def holds(self, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
        return self.flags[self._places(positions)]

    def close(self, positions: NDArray[np.int64]) -> None:
        self.flags[self._places(positions)] = False

    def _places(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        if self.known is None:
            return positions
        places = np.searchsorted(self.known, positions)
        inside = places < len(self.known)
        inside[inside] = self.known[places[inside]] == positions[inside]
        return np.where(inside, places, len(self.known))


def _marked(positions: NDArray[np.integer], cells: int) -> NDArray[np.bool_]:
    marks = np.zeros(cells, dtype=bool)
    marks[positions] = True
    return marks


def _as_coded(vectors: Vectors) -> CodedVectors:
    return vectors if isinstance(vectors, CodedVectors) else CodedVectors.of(vectors)
