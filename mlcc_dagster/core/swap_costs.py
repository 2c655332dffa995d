"""What it costs to have another value in a dimension: learned from measurements, with predictions that know how far they
may be off.

Belongs here: learning one metric from measured points, the cost of a swap per dimension, predictions and their intervals.
Not here: reading rows (`measured_points.py`), the process behind it (`gaussian_processes.py`), ranking and answers
(`substitute_ranks.py`).

The logarithm of a metric is a Gaussian process over the six dimensions, the workload's name and the logarithms of
concurrency and token means. Beside what every vector has of its own, two vectors correlate by exp(-the sum of the swap
costs of the dimensions they differ in): a swap cost of 0 means that the value of the dimension does not matter, 0.7 halves
what one tells about the other.

Intervals hold their level by what the process missed, not by what it believes: every observation is predicted from
others, and the quantile of these misses, in standard deviations of their prediction, scales the interval (hierarchical
conformal prediction). What is left out together is what the question has nothing of: whole vectors where it asks for one
that nobody has measured, all of a workload or a concurrency where that is new, else single points. Fewer than nine groups
have no such quantile: there it is Student's t with as many degrees of freedom as groups, or the largest miss where that
is more (on worlds drawn from the priors of the process this holds the level, one degree less is needlessly wide).
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import combinations
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from mlcc_dagster.core.configuration import DIMENSIONS, Vector
from mlcc_dagster.core.gaussian_processes import GaussianProcess, Inputs
from mlcc_dagster.core.measured_points import LOADS, Conditions, Point

LEVEL = 0.9
"""The share of intervals that hold what is then measured."""

MOST_POINTS = 256
"""More points than these teach little and cost the cube of their number."""

FEWEST_POINTS = 3
FEWEST_VECTORS = 2
"""With less than this nothing is predicted: points at all, and vectors to predict another one from."""

_LEAST_SCALE = 0.5  # that all misses were tiny by chance is no licence to claim half of what the process itself claims


@dataclass(frozen=True)
class Unpredicted:
    """That nothing can be predicted, and in one clause why."""

    reason: str


@dataclass(frozen=True)
class Prediction:
    """What would be measured, in the unit of the metric, and the interval that holds it at `LEVEL`."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class SwapCost:
    """What another value in one dimension costs. `typical_factor` is by which factor the metric then typically (one
    standard deviation) goes up or down; `values` counts the measured values of the dimension, `pairs` the pairs of
    measured vectors that differ in it alone. With one value nothing is learned: `cost` is then what is assumed, and
    `typical_factor` is none."""

    dimension: str
    cost: float
    typical_factor: float | None
    values: int
    pairs: int

    @property
    def learned(self) -> bool:
        """Whether any two measured vectors differ in the dimension."""
        return self.values > 1


class MetricModel:
    """What one metric's points say about vectors and loads that were not measured. Built once, then only read."""

    def __init__(self, points: Iterable[Point], *, family: str | None = None) -> None:
        """Learn from the points of one executor and one metric, in any order. Of more than `MOST_POINTS` those of the
        family come first, then those newest of their vector. Raises `ValueError` without any point: ask `learn`."""
        kept = _kept(points, family)
        if not kept:
            raise ValueError("there is no point to learn from; use learn(), which says so")
        self.points: tuple[Point, ...] = kept
        columns = zip(*((*point.vector.values(), point.conditions.workload) for point in kept), strict=True)
        self._codes = [{text: code for code, text in enumerate(sorted(set(column)))} for column in columns]
        self._things = {vector: code for code, vector in enumerate(sorted({point.vector for point in kept}))}
        self._middles = [_middle(point.conditions.loads[place] for point in kept) for place in range(len(LOADS))]
        self._groups: dict[_Name, Mapping[Any, NDArray[np.intp]]] = {}
        self._scales: dict[_Name, float] = {}
        logs = np.log([point.value for point in kept])
        self._process = GaussianProcess(self._inputs([(p.vector, p.conditions) for p in kept]), logs)

    def predict(self, vector: Vector, conditions: Conditions) -> Prediction | Unpredicted:
        """Return what would be measured of a vector under a load, or why that cannot be said.

        Of a vector that was measured there, it is what another measurement would give. A load that the conditions do not
        name stands in the middle of the measured ones.
        """
        if len(self.points) < FEWEST_POINTS:
            return Unpredicted(f"{_counted(len(self.points), 'point')} measured, {FEWEST_POINTS} are needed")
        if vector not in self.vectors and len(self.vectors) < FEWEST_VECTORS:
            return Unpredicted(f"one vector measured, {FEWEST_VECTORS} are needed to tell what another value changes")
        means, deviations = self._process.predict(self._inputs([(vector, conditions)]))
        reach = self._scale(vector, conditions) * float(deviations[0])
        middle = float(means[0])
        return Prediction(_exp(middle), _exp(middle - reach), _exp(middle + reach))

    @cached_property
    def vectors(self) -> Mapping[Vector, NDArray[np.intp]]:
        """The measured vectors, with the places of their points."""
        return self._grouped(_vector)

    @cached_property
    def swap_costs(self) -> Mapping[str, SwapCost]:
        """The cost of another value, by dimension."""
        pairs = _pairs(self.vectors)
        costs = self._process.costs[: len(DIMENSIONS)].tolist()
        return MappingProxyType(
            {
                name: SwapCost(
                    name,
                    cost,
                    # The difference of two values that correlate by exp(-cost) has the variance 2 (1 - exp(-cost)).
                    math.exp(math.sqrt(2 * self._process.variance * -math.expm1(-cost))) if values > 1 else None,
                    values,
                    pairs[name],
                )
                for name, cost, values in zip(DIMENSIONS, costs, map(len, self._codes), strict=False)
            }
        )

    def unseen(self, vector: Vector) -> tuple[str, ...]:
        """Return the dimensions in which nobody has measured the vector's value."""
        known = zip(DIMENSIONS, vector.values(), self._codes, strict=False)
        return tuple(name for name, value, codes in known if value not in codes)

    def _scale(self, vector: Vector, conditions: Conditions) -> float:
        asked = Point(vector, conditions, math.nan, datetime.max)
        for named in (_vector, _traffic, _concurrency):
            groups = self._grouped(named)
            # With a single group nothing would be left to predict it from.
            if named(asked) not in groups and len(groups) > 1:
                return self._scale_of(named)
        return self._scale_of(_itself)

    def _scale_of(self, named: "_Name") -> float:
        if named not in self._scales:
            self._scales[named] = _scale(self._process.left_out(self._grouped(named).values()))
        return self._scales[named]

    def _grouped(self, named: "_Name") -> Mapping[Any, NDArray[np.intp]]:
        if named not in self._groups:
            places: dict[Any, list[int]] = defaultdict(list)
            for place, point in enumerate(self.points):
                places[named(point)].append(place)
            self._groups[named] = MappingProxyType({name: np.array(each) for name, each in places.items()})
        return self._groups[named]

    def _inputs(self, asked: Sequence[tuple[Vector, Conditions]]) -> Inputs:
        names = [
            [codes.get(text, -1) for text, codes in zip((*v.values(), c.workload), self._codes, strict=True)]
            for v, c in asked
        ]
        numbers = [
            [middle if load is None else math.log(load) for load, middle in zip(c.loads, self._middles, strict=True)]
            for _, c in asked
        ]
        return Inputs(np.array(names), np.array(numbers), np.array([self._things.get(v, -1) for v, _ in asked]))


def learn(points: Iterable[Point], *, family: str | None = None) -> MetricModel | Unpredicted:
    """Return what one metric's points teach, see `MetricModel`, or why they teach nothing."""
    given = list(points)
    if len(given) < FEWEST_POINTS:
        return Unpredicted(f"{_counted(len(given), 'point')} measured, {FEWEST_POINTS} are needed")
    return MetricModel(given, family=family)


_Name = Callable[[Point], Any]
"""What points are grouped by, to leave out together."""


def _vector(point: Point) -> Vector:
    return point.vector


def _traffic(point: Point) -> tuple[Any, ...]:
    return point.conditions.workload, *point.conditions.loads[1:]


def _concurrency(point: Point) -> float | None:
    return point.conditions.concurrency


def _itself(point: Point) -> Point:
    return point


def _kept(points: Iterable[Point], family: str | None) -> tuple[Point, ...]:
    """Return at most `MOST_POINTS` points in an order that does not depend on the one they came in."""
    given = list(points)
    own = [point for point in given if point.vector.model_family == family]
    # Other families come last: where none of theirs would be kept they need not be put in order, which takes longest.
    by_vector: dict[Vector, list[tuple[float, bytes, Point]]] = defaultdict(list)
    for point in own if len(own) >= MOST_POINTS else given:
        # A digest parts points of one run: by their loads, the lowest ones would always be preferred.
        by_vector[point.vector].append((-point.at.timestamp(), _digest(point), point))
    turns = []
    for vector, each in by_vector.items():
        newest_first = sorted(each, key=lambda key: key[:2])
        turns += [(vector.model_family != family, turn, *key) for turn, key in enumerate(newest_first)]
    turns.sort(key=lambda key: key[:-1])
    return tuple(key[-1] for key in turns[:MOST_POINTS])


def _digest(point: Point) -> bytes:
    return hashlib.sha256(repr((point.vector.values(), point.conditions, point.value)).encode()).digest()


def _middle(loads: Iterable[float | None]) -> float:
    """Return the logarithm of the middle one of those that are given, 0 where none is."""
    logs = [math.log(load) for load in loads if load is not None]
    return float(np.median(logs)) if logs else 0.0


def _pairs(vectors: Iterable[Vector]) -> Mapping[str, int]:
    """Count per dimension the pairs of vectors that differ in it alone."""
    counts = dict.fromkeys(DIMENSIONS, 0)
    for one, other in combinations(vectors, 2):
        differing = [name for name, a, b in zip(DIMENSIONS, one.values(), other.values(), strict=True) if a != b]
        if len(differing) == 1:
            counts[differing[0]] += 1
    return counts


def _scale(misses: Sequence[NDArray[np.float64]]) -> float:
    """Return by how many standard deviations an interval has to reach, from the misses of each group: the weight of a group
    is one, whatever its size, and one more group, the one that is asked about, is taken to miss by any amount."""
    sizes = np.abs(np.concatenate(misses))
    weights = np.concatenate([np.full(len(group), 1 / len(group)) for group in misses])
    order = np.argsort(sizes, kind="stable")
    # A little less than the level: nine whole weights of ten must reach it in floating point too.
    enough = np.flatnonzero(np.cumsum(weights[order]) / (len(misses) + 1) >= LEVEL - 1e-9)
    if len(enough):
        return max(float(sizes[order][enough[0]]), _LEAST_SCALE)
    return max(float(stdtrit(len(misses), (1 + LEVEL) / 2)), float(sizes.max()))


def _exp(logarithm: float) -> float:
    """Return e to the power of a logarithm, the largest float where that is beyond it."""
    return math.exp(min(logarithm, 709.0))


def _counted(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"
