"""How much of the interactions of values is proven: of all t-way combinations that some possible vector contains, the
share that proven vectors contain, and which ones are missing.

Belongs here: the share and the missing combinations for t = 1, 2, 3 (combinatorial coverage measurement as NIST defines
it). Not here: vectors as integers (`coded_vectors.py`), what a vector would add (`interaction_cover.py`), coverage of
whole vectors (`coverage.py`), the ranking of gaps (`gaps.py`).

No vector is compared with another: the combinations of a subset of dimensions are sets of numbers.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import overload

import numpy as np
from numpy.typing import NDArray

from mlcc_dagster.core.coded_vectors import CombinationSpace, Vectors, as_coded
from mlcc_dagster.core.configuration import DIMENSIONS
from mlcc_dagster.core.coverage import Fraction

_CHUNK = 16_384


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
    coded = as_coded(possible)
    space = CombinationSpace(coded, strength)
    possible_codes, proven_codes = space.codes(coded), space.codes(as_coded(proven))
    subsets, parts = [], []
    for axes in space.subsets:
        wanted = space.distinct(axes, possible_codes)
        missing = wanted[~np.isin(wanted, space.distinct(axes, proven_codes), assume_unique=True)]
        names = tuple(DIMENSIONS[axis] for axis in axes)
        subsets.append(SubsetCoverage(names, covered=len(wanted) - len(missing), possible=len(wanted)))
        parts.append((axes, missing))
    return InteractionCoverage(strength, tuple(subsets), MissingInteractions(space.values, parts))
