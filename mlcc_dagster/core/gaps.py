"""What nobody has proven yet, ranked by how many proven neighbours stand around it.

Belongs here: the gap lists of the observed and of the catalog universe, their order and their neighbour counts. Not
here: what the evidence says of one vector (`standing.py`), which vectors exist (`resolution.py`), what is worth money
(`planning.py`).

Neighbours are never counted pair by pair. On the integer-coded tensor of the product, the proven vectors that differ
from a cell in exactly one dimension are those on the lines through it: per axis the proven count of the line less the
cell's own, which for a gap is nothing. Products too large to hold use the same lines in a sorted sparse form.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from mlcc_dagster.core.configuration import DIMENSIONS, Vector
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.result_columns import Cells, coded_texts, read_columns
from mlcc_dagster.core.standing import Reason, Standing

DENSE_CELLS = 50_000_000
"""Largest product that is held as a tensor (about 25 bytes a cell while it is ranked)."""

_LARGEST_PRODUCT = 2**62
_CHUNK = 16_384
_PROVEN = "completed"


@dataclass(frozen=True)
class Gap:
    """An unproven vector: the number of distinct proven vectors that differ from it in exactly one dimension, why it is
    a gap, and in one clause what that rests on."""

    vector: Vector
    neighbours: int
    reason: Reason
    detail: str


class GapList(Sequence[Vector]):
    """Gaps in rank order as integer codes; vectors are made when they are asked for.

    A list may stand for more gaps than fit into memory: those without any proven neighbour are the last, in product
    order, and are computed from their position. Slices (and `head`) share the codes and cost nothing; index, iteration,
    `neighbours` and `to_json` decode what they are asked for, so take the head of a large list first.
    """

    def __init__(
        self,
        values: Mapping[str, Sequence[str]],
        *,
        ranked: NDArray[np.integer],
        counts: NDArray[np.integer],
        settled: NDArray[np.integer] | None = None,
    ) -> None:
        """`values`: dimension -> its values in first-seen order, dimensions without value left out. `ranked`: product
        positions (first dimension slowest) of gaps in rank order, `counts` their neighbours. `settled`: sorted product
        positions that are proven or ranked, all others are gaps without neighbour; none where `ranked` holds every gap.
        """
        self._values = {name: np.array(texts, dtype=object) for name, texts in values.items()}
        self._shape = tuple(len(texts) for texts in values.values())
        self._ranked = ranked
        self._counts = counts
        # How many gaps without neighbour lie before each settled position.
        self._before = None if settled is None else settled - np.arange(len(settled))
        rest = 0 if settled is None else math.prod(self._shape) - len(settled)
        self._positions = range(len(ranked) + rest)

    def __len__(self) -> int:
        return len(self._positions)

    @overload
    def __getitem__(self, index: int) -> Vector: ...
    @overload
    def __getitem__(self, index: slice) -> "GapList": ...
    def __getitem__(self, index: int | slice) -> "Vector | GapList":
        if isinstance(index, slice):
            part = GapList.__new__(GapList)
            part.__dict__ = self.__dict__ | {"_positions": self._positions[index]}
            return part
        position = self._positions[index]
        return next(iter(self._vectors(range(position, position + 1))))

    def __iter__(self) -> Iterator[Vector]:
        return self._vectors(self._positions)

    def __repr__(self) -> str:
        return f"<GapList of {len(self)} gaps over {', '.join(self._values) or 'no dimension'}>"

    def head(self, count: int) -> "GapList":
        """Return the first `count` gaps (all where there are fewer) without decoding any. Raises `ValueError` below
        0."""
        if count < 0:
            raise ValueError(f"cannot take {count} gaps; ask for 0 or more")
        return self[:count]

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The dimensions that have a value at all, in their order."""
        return tuple(self._values)

    @property
    def neighbours(self) -> NDArray[np.int64]:
        """The neighbours of each gap, in rank order."""
        chunks = [self._located(chunk)[1] for chunk in _chunks(self._positions)]
        return np.concatenate(chunks) if chunks else np.empty(0, np.int64)

    def to_json(self, *, neighbours: bool = False) -> list[dict[str, Any]]:
        """Return one object per gap: its dimensions as texts (those without any value left out), and its `neighbours`
        where asked for."""
        names = [*self._values, *(["neighbours"] if neighbours else [])]
        return (
            [
                dict(zip(names, texts, strict=True))
                for chunk in _chunks(self._positions)
                for texts in zip(*self._columns(chunk, neighbours=neighbours), strict=True)
            ]
            if names
            else [{} for _ in self._positions]
        )

    def explained(self, standing: Standing, *, now: datetime) -> Iterator[Gap]:
        """Yield each gap with the reason that the evidence gives for it.

        A vector whose gap lacks a dimension is looked up with the empty text there, as its rows have it.
        """
        for chunk in _chunks(self._positions):
            for vector, neighbours in zip(self._vectors(chunk), self._located(chunk)[1].tolist(), strict=True):
                yield Gap(vector, neighbours, *standing.reason(vector, now=now))

    def _vectors(self, positions: range) -> Iterator[Vector]:
        for chunk in _chunks(positions):
            texts = dict(zip(self._values, self._columns(chunk, neighbours=False), strict=True))
            absent = [""] * len(chunk)
            yield from map(Vector, *(texts.get(name, absent) for name in DIMENSIONS))

    def _columns(self, chunk: range, *, neighbours: bool) -> list[list[Any]]:
        cells, counts = self._located(chunk)
        # A product over no dimension has one cell, which numpy refuses to unravel.
        codes = np.unravel_index(cells, self._shape) if self._shape else ()
        columns = [texts[code].tolist() for texts, code in zip(self._values.values(), codes, strict=True)]
        return [*columns, counts.tolist()] if neighbours else columns

    def _located(self, chunk: range) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the product positions and the neighbours of the gaps at these ranks."""
        ranks = np.arange(chunk.start, chunk.stop, chunk.step, dtype=np.int64)
        cells, counts = np.empty_like(ranks), np.zeros_like(ranks)
        listed = ranks < len(self._ranked)
        cells[listed] = self._ranked[ranks[listed]]
        counts[listed] = self._counts[ranks[listed]]
        if self._before is not None:
            # The k-th position outside a sorted set is k plus how many of the set have at most k others before them.
            later = ranks[~listed] - len(self._ranked)
            cells[~listed] = later + np.searchsorted(self._before, later, side="right")
        return cells, counts


def _chunks(positions: range) -> Iterator[range]:
    return (positions[start : start + _CHUNK] for start in range(0, len(positions), _CHUNK))


def observed_gaps(rows: Iterable[Mapping[str, Any]] | Mapping[str, Cells]) -> GapList:
    """Return the gaps of the observed universe, ranked: the compatible list, unfiltered.

    `rows` are result rows, or columns (name -> sequence or array). Per dimension the distinct non-null values of all
    rows, whatever their status, in first-seen order; their product (first dimension slowest) less the proven vectors;
    by neighbours descending, ties in product order. A dimension with no value at all is left out; no rows, no gaps. An
    empty text is a value like any other where a row has it; a null in a proven row is that empty text, and differs from
    every other value. The sixth dimension is read as `tp_degree`, else as `tensor_parallel_degree`.
    Raises `InvalidInput` for columns of unequal length or without `status`, `UsageError` for a product beyond 2^62.
    Source: the rules of the observed universe.
    """
    columns, status = read_columns(rows)
    if not status:
        return GapList({}, ranked=np.empty(0, np.int64), counts=np.empty(0, np.int64))
    coded = {name: coded_texts(column) for name, column in columns.items()}
    values = {name: texts for name, (texts, _) in coded.items() if texts}
    shape = tuple(len(texts) for texts in values.values())
    cells = math.prod(shape)
    if cells > _LARGEST_PRODUCT:
        raise UsageError(f"the product of all observed values has {cells:.1e} vectors; select fewer rows")
    completed = np.fromiter((each == _PROVEN for each in status), dtype=bool, count=len(status))
    if not values:
        # The product over no dimension is the one vector without values, which any completed row proves.
        only = np.zeros(0 if completed.any() else 1, np.int64)
        return GapList({}, ranked=only, counts=only)
    proven = [coded[name][1][completed] for name in values]
    held_by_lines = len(proven[0]) * sum(shape)
    ranked, counts, settled = (_dense if cells <= max(DENSE_CELLS, held_by_lines) else _sparse)(shape, proven)
    return GapList(values, ranked=ranked, counts=counts, settled=settled)


def catalog_gaps(possible: Sequence[Vector], standing: Standing, *, now: datetime) -> list[Gap]:
    """Return the possible vectors that are not proven, each with its neighbours and the reason why it is a gap.

    By neighbours descending, ties in the order of `possible`; every proven vector counts as a neighbour, also one that
    is no longer possible. Nothing is filtered: whoever spends money asks `Gap.reason.startable`.
    """
    proven = standing.proven
    lines: tuple[Counter[tuple[str, ...]], ...] = tuple(Counter() for _ in DIMENSIONS)
    for vector in proven:
        for line, key in zip(lines, _without_each(vector), strict=True):
            line[key] += 1
    gaps = [
        Gap(
            vector,
            sum(line[key] for line, key in zip(lines, _without_each(vector), strict=True)),
            *standing.reason(vector, now=now),
        )
        for vector in dict.fromkeys(possible)
        if vector not in proven
    ]
    return sorted(gaps, key=lambda gap: -gap.neighbours)


def _without_each(vector: Vector) -> Iterator[tuple[str, ...]]:
    values = vector.values()
    return (values[:axis] + values[axis + 1 :] for axis in range(len(values)))


_Ranking = tuple[NDArray[np.integer], NDArray[np.integer], NDArray[np.integer] | None]


def _dense(shape: tuple[int, ...], proven: Sequence[NDArray[np.int32]]) -> _Ranking:
    """Rank all gaps on the tensor of the product. `proven`: per dimension the code of each proven row; a missing value
    (code = size) gets a slot of its own, which counts on lines and is then cut off."""
    slots = tuple(size + int((codes == size).any()) for size, codes in zip(shape, proven, strict=True))
    inside = tuple(slice(0, size) for size in shape)
    held = np.zeros(slots, dtype=bool)
    held.reshape(-1)[np.ravel_multi_index(tuple(proven), slots)] = True
    # The narrow type is what makes the stable sort below a radix sort.
    counts = np.zeros(shape, dtype=np.uint16 if sum(slots) < 2**16 else np.int64)
    for axis in range(len(shape)):
        line = held.sum(axis=axis, keepdims=True, dtype=counts.dtype)
        counts += line[tuple(slice(0, 1) if each == axis else part for each, part in enumerate(inside))]
    gaps = np.flatnonzero(~held[inside]).astype(np.int32 if counts.size < 2**31 else np.int64)
    found = counts.reshape(-1)[gaps]
    order = np.argsort(found.max(initial=0) - found, kind="stable")
    return gaps[order], found[order], None


def _sparse(shape: tuple[int, ...], proven: Sequence[NDArray[np.int32]]) -> _Ranking:
    """Rank the gaps that have a neighbour, without the tensor: each line that holds proven vectors gives its count to
    the cells on it. Takes memory for proven vectors x sum of sizes; all other gaps follow from their position alone."""
    points = np.unique(np.stack(proven, axis=1).astype(np.int64), axis=0)
    sizes = np.array(shape, dtype=np.int64)
    strides = np.append(np.cumprod(sizes[:0:-1])[::-1], 1)
    missing = points == sizes
    held = points[~missing.any(axis=1)] @ strides
    touched: list[NDArray[np.int64]] = []
    weights: list[NDArray[np.int64]] = []
    for axis, (size, stride) in enumerate(zip(shape, strides, strict=True)):
        # A vector that misses another dimension too is on no line through the product.
        reaching = ~np.delete(missing, axis, axis=1).any(axis=1)
        starts = np.delete(points, axis, axis=1)[reaching] @ np.delete(strides, axis)
        lines, on_line = np.unique(starts, return_counts=True)
        touched.append((lines[:, None] + np.arange(size) * stride).reshape(-1))
        weights.append(np.repeat(on_line, size))
    cells, position = np.unique(np.concatenate(touched), return_inverse=True)
    counts = np.zeros(len(cells), np.int64)
    np.add.at(counts, position, np.concatenate(weights))
    unproven = ~np.isin(cells, held)
    gaps, found = cells[unproven], counts[unproven]
    order = np.argsort(-found, kind="stable")
    # Every proven vector lies on its own lines, so the touched cells are the proven ones and the ranked gaps together.
    return gaps[order], found[order], cells


def proven_neighbours(vector: Vector, proven: Iterable[Vector]) -> tuple[tuple[str, Vector], ...]:
    """Return the proven vectors that differ from a vector in exactly one dimension, with that dimension, in order: what
    a gap's rank rests on. Looks at every proven vector, so ask for the few gaps that are shown."""
    asked = vector.values()
    found = []
    for other in proven:
        differing = [name for name, a, b in zip(DIMENSIONS, asked, other.values(), strict=True) if a != b]
        if len(differing) == 1:
            found.append((differing[0], other))
    return tuple(sorted(found, key=lambda pair: (DIMENSIONS.index(pair[0]), pair[1])))
