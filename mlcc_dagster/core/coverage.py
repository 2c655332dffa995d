"""What the evidence covers: every possible vector is proven, failed, unfeasible or untested; the rest is counting.

Belongs here: the sets, their counts and shares, the crossing of two dimensions. Not here: what the evidence says of one
vector (`standing.py`), which vectors exist (`resolution.py`), the ranking of what is missing (`gaps.py`), interactions
of values (`interactions.py`).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TypeVar

from mlcc_dagster.core.configuration import DIMENSIONS, Vector, reading_order
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.standing import Standing, Status

_Value = TypeVar("_Value")

Fraction = tuple[int, int]
"""Numerator and denominator, before any rounding; a share of nothing has the denominator 0."""


@dataclass(frozen=True)
class Coverage:
    """The possible vectors by what is known of them. `proven`, `failed`, `unfeasible` and `untested` part `possible`
    without overlap.

    `excluded`: vectors that a constraint rules out, with the reason. `stale`: those of `proven` whose newest proof is
    older than the staleness limit; they stay proven. `outside`: vectors with evidence that are not possible (any more),
    with their status; they count nowhere, but are not lost. `executors`: who proved, per proven vector, outside ones
    included.
    """

    possible: frozenset[Vector]
    excluded: Mapping[Vector, str]
    proven: frozenset[Vector]
    failed: frozenset[Vector]
    unfeasible: frozenset[Vector]
    untested: frozenset[Vector]
    stale: frozenset[Vector]
    outside: Mapping[Vector, Status]
    executors: Mapping[Vector, frozenset[str]]

    @classmethod
    def of(
        cls,
        possible: Iterable[Vector],
        excluded: Mapping[Vector, str],
        standing: Standing,
        *,
        now: datetime,
        stale_after: timedelta | None,
    ) -> "Coverage":
        """Sort the possible vectors by their standing. `stale_after` none means that no proof grows old; a proof of
        unknown time is stale under any limit. Raises `ValueError` for a vector that is both possible and excluded."""
        known = frozenset(possible)
        torn = known & excluded.keys()
        if torn:
            example = min(torn)
            raise ValueError(f"{len(torn)} vectors are both possible and excluded, such as {example}; choose one")
        by_status: dict[Status, set[Vector]] = defaultdict(set)
        for vector in known:
            by_status[standing.status(vector)].add(vector)
        proven = frozenset(by_status[Status.PROVEN])
        return cls(
            possible=known,
            excluded=MappingProxyType(dict(excluded)),
            proven=proven,
            failed=frozenset(by_status[Status.FAILED]),
            unfeasible=frozenset(by_status[Status.UNFEASIBLE]),
            untested=frozenset(by_status[Status.UNTESTED]),
            stale=frozenset(
                vector
                for vector in proven
                if stale_after is not None and _older(standing.evidence[vector].proven_at, now - stale_after)
            ),
            outside=MappingProxyType(
                {vector: standing.status(vector) for vector in standing.evidence if vector not in known}
            ),
            executors=MappingProxyType(
                {vector: evidence.executors for vector, evidence in standing.evidence.items() if evidence.proven}
            ),
        )

    @property
    def tested_share(self) -> Fraction:
        """Possible vectors with a verdict of any kind, of all possible ones."""
        return (len(self.possible) - len(self.untested), len(self.possible))

    @property
    def passing_share(self) -> Fraction:
        """Proven vectors, of those with a verdict."""
        return (len(self.proven), self.tested_share[0])

    @property
    def proven_share(self) -> Fraction:
        """Proven vectors, of all possible ones."""
        return (len(self.proven), len(self.possible))

    @property
    def proofs_by_executor(self) -> Mapping[str, int]:
        """The evidence class: how many of the proven possible vectors each executor proved. One may count for
        several."""
        counts = Counter(executor for vector in self.proven for executor in self.executors[vector])
        return MappingProxyType(dict(sorted(counts.items())))

    @property
    def families(self) -> tuple[str, ...]:
        """Every model family that any of the vectors has, in order."""
        return tuple(sorted({vector.model_family for vector in (*self.possible, *self.excluded, *self.outside)}))

    def of_family(self, name: str) -> "Coverage":
        """Return the slice of one model family. Raises `UsageError` naming the known ones."""
        if name not in self.families:
            known = ", ".join(self.families) or "none yet"
            raise UsageError(f"no coverage of model family '{name}'; families with vectors are {known}")

        def within(vectors: frozenset[Vector]) -> frozenset[Vector]:
            return frozenset(vector for vector in vectors if vector.model_family == name)

        return Coverage(
            possible=within(self.possible),
            excluded=_family_of(self.excluded, name),
            proven=within(self.proven),
            failed=within(self.failed),
            unfeasible=within(self.unfeasible),
            untested=within(self.untested),
            stale=within(self.stale),
            outside=_family_of(self.outside, name),
            executors=_family_of(self.executors, name),
        )


@dataclass(frozen=True)
class Cell:
    """The vectors behind one crossing of two values, sorted, so that any count can be drilled into. `stale` are among
    `proven`; `excluded` are not possible."""

    proven: tuple[Vector, ...] = ()
    failed: tuple[Vector, ...] = ()
    unfeasible: tuple[Vector, ...] = ()
    untested: tuple[Vector, ...] = ()
    stale: tuple[Vector, ...] = ()
    excluded: tuple[Vector, ...] = ()

    @property
    def possible(self) -> int:
        """How many vectors of the cell are possible; 0 means that constraints leave none."""
        return len(self.proven) + len(self.failed) + len(self.unfeasible) + len(self.untested)

    @property
    def proven_share(self) -> Fraction:
        """Proven vectors, of the possible ones in the cell."""
        return (len(self.proven), self.possible)

    @property
    def counts(self) -> Mapping[str, int]:
        """The counts by name, `possible` included."""
        names = ("proven", "failed", "unfeasible", "untested", "stale", "excluded")
        return MappingProxyType({name: len(getattr(self, name)) for name in names} | {"possible": self.possible})


@dataclass(frozen=True)
class Matrix:
    """Two dimensions crossed. `rows` and `columns` are the values of the first and the second in order (numbers by
    size); `cells` has those (row, column) pairs that any possible or excluded vector has."""

    row_dimension: str
    column_dimension: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: Mapping[tuple[str, str], Cell]

    def cell(self, row: str, column: str) -> Cell:
        """Return the cell of two values, an empty one where no vector has both."""
        return self.cells.get((row, column), Cell())


def matrix(coverage: Coverage, row_dimension: str, column_dimension: str) -> Matrix:
    """Cross two different dimensions of a coverage. Raises `UsageError` naming the dimensions for any other request."""
    unknown = sorted({row_dimension, column_dimension} - set(DIMENSIONS))
    if unknown:
        raise UsageError(f"unknown dimension {', '.join(map(repr, unknown))}; use two of {', '.join(DIMENSIONS)}")
    if row_dimension == column_dimension:
        names = ", ".join(DIMENSIONS)
        raise UsageError(f"a matrix crosses two dimensions, not {row_dimension} with itself; use two of {names}")
    groups = {
        "proven": coverage.proven,
        "failed": coverage.failed,
        "unfeasible": coverage.unfeasible,
        "untested": coverage.untested,
        "stale": coverage.stale,
        "excluded": coverage.excluded.keys(),
    }
    found: dict[tuple[str, str], dict[str, list[Vector]]] = defaultdict(lambda: defaultdict(list))
    for group, vectors in groups.items():
        for vector in sorted(vectors):
            found[getattr(vector, row_dimension), getattr(vector, column_dimension)][group].append(vector)
    return Matrix(
        row_dimension=row_dimension,
        column_dimension=column_dimension,
        rows=reading_order({row for row, _ in found}),
        columns=reading_order({column for _, column in found}),
        cells=MappingProxyType(
            {key: Cell(**{name: tuple(vectors) for name, vectors in cell.items()}) for key, cell in found.items()}
        ),
    )


def percent_text(share: Fraction) -> str:
    """Return a share as a percentage with one decimal that never rounds into a claim: `0 %` and `100 %` are written
    only when true, otherwise `<0.1 %` and `>99.9 %`; a share of nothing is `n/a`.

    Raises `ValueError` for a numerator outside 0..denominator.
    """
    numerator, denominator = share
    if not 0 <= numerator <= denominator:
        raise ValueError(f"{numerator} of {denominator} is no share; the part must lie within the whole")
    if denominator == 0:
        return "n/a"
    if numerator in (0, denominator):
        return "100 %" if numerator else "0 %"
    tenths = (2000 * numerator + denominator) // (2 * denominator)
    if tenths == 0:
        return "<0.1 %"
    if tenths == 1000:
        return ">99.9 %"
    return f"{tenths // 10}.{tenths % 10} %"


def _older(at: datetime | None, limit: datetime) -> bool:
    return at is None or at < limit


def _family_of(vectors: Mapping[Vector, _Value], name: str) -> Mapping[Vector, _Value]:
    return MappingProxyType({vector: value for vector, value in vectors.items() if vector.model_family == name})
