"""Vectors as integers: the codes of their values, and the position of every combination of values.

Belongs here: coding many vectors at once, and numbering the t-way combinations of their values. Not here: what is done with
the combinations (`interactions.py` measures them, `interaction_cover.py` plans with them, `odds.py` learns from them).

Within a t-subset of the dimensions every combination is one number, its position in the product of the values, so that
sets of combinations are bitmaps, or sorted numbers where the product is much larger than the vectors.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter, eq
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlcc_dagster.core.configuration import DIMENSIONS, Vector, reading_order
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.result_columns import Cells, coded_texts, read_columns

STRENGTHS: tuple[int, ...] = (1, 2, 3)
"""The sizes t of the combinations that are measured."""

_LARGEST_PRODUCT = 2**62
_SMALL_CELLS = 2**16
_CELLS_PER_VECTOR = 16
_PROVEN = "completed"
_VALUES_OF = tuple(map(attrgetter, DIMENSIONS))


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
        every = list(vectors)
        return cls._of([list(map(value_of, every)) for value_of in _VALUES_OF])

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


class CombinationSpace:
    """The values of the possible vectors in a fixed order, and the position of every t-way combination of them. Each
    dimension has one slot more than values, for all that no possible vector has."""

    def __init__(self, possible: CodedVectors, strength: int) -> None:
        """Number the combinations of `strength` values of these vectors. Raises `UsageError` for another strength than 1, 2
        or 3, and for more than 2^62 combinations in a subset."""
        if strength not in STRENGTHS:
            raise UsageError(f"no interactions of {strength} values are measured; use one of 1, 2, 3")
        self.strength = strength
        self.values = tuple(
            reading_order({texts[code] for code in np.flatnonzero(marked(codes, len(texts))).tolist()})
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
        return np.flatnonzero(marked(positions, cells))

    def cells(self, axes: tuple[int, ...]) -> int:
        """Return how many positions the product of the slots has."""
        return math.prod(len(self.values[axis]) + 1 for axis in axes)


def marked(positions: NDArray[np.integer], cells: int) -> NDArray[np.bool_]:
    """Return a bitmap of `cells` flags that is set at the positions."""
    marks = np.zeros(cells, dtype=bool)
    marks[positions] = True
    return marks


def as_coded(vectors: Vectors) -> CodedVectors:
    """Return vectors coded, as they are where they are so already."""
    return vectors if isinstance(vectors, CodedVectors) else CodedVectors.of(vectors)
