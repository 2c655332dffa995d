"""The rank `predicted`: substitutes by what it costs to take them, beside what the request itself would measure.

Belongs here: the order by learned swap costs, the load under which a substitute and the request are compared, the answer.
Not here: what is learned and how far it may be off (`swap_costs.py`), reading rows (`measured_points.py`), the experiment
that would settle the question (its price and limits are the outside world's).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from mlcc_dagster.core.configuration import DIMENSIONS, Vector
from mlcc_dagster.core.measured_points import METRICS, Conditions, Measurements, Point
from mlcc_dagster.core.substitution import Answer, Substitution, SubstitutionIndex
from mlcc_dagster.core.swap_costs import LEVEL, MetricModel, Prediction, SwapCost, Unpredicted, learn

_DIGITS = 6


@dataclass(frozen=True)
class Comparison:
    """One metric of a substitute as it was measured, none where it was not, and of the request as it is predicted under
    the same load, in the metric's unit."""

    measured: float | None
    predicted: Prediction | Unpredicted

    @property
    def difference(self) -> Prediction | None:
        """Predicted less measured, with its interval: above 0 where the request would have more of it than the substitute.
        The measured value is a fact, so that the interval is the prediction's."""
        if self.measured is None or isinstance(self.predicted, Unpredicted):
            return None
        found = self.predicted
        return Prediction(found.value - self.measured, found.low - self.measured, found.high - self.measured)

    def to_json(self) -> dict[str, Any]:
        """Return the measured value, the prediction and the difference, and in `why_not` why one of them is none."""
        known = None if isinstance(self.predicted, Unpredicted) else self.predicted
        why_not = self.predicted.reason if isinstance(self.predicted, Unpredicted) else None
        if why_not is None and self.measured is None:
            why_not = "not measured at the substitute"
        return {
            "measured": _rounded(self.measured),
            **_numbers("predicted", known),
            **_numbers("difference", self.difference),
            "why_not": why_not,
        }


@dataclass(frozen=True)
class PredictedSubstitution:
    """A substitution with its swap cost, none where no swap cost is learned, and its comparison with the request by metric,
    under `conditions`: none where the chosen executor measured neither it nor any other."""

    substitution: Substitution
    swap_cost: float | None
    conditions: Conditions | None
    comparisons: Mapping[str, Comparison]

    def to_json(self) -> dict[str, Any]:
        """Return what every substitution has, `swap_cost`, `conditions`, and each metric's comparison by its name."""
        at = self.conditions
        return {
            **self.substitution.to_json(),
            "swap_cost": _rounded(self.swap_cost),
            "conditions": None if at is None else at.to_json(),
            **{metric: comparison.to_json() for metric, comparison in self.comparisons.items()},
        }


@dataclass(frozen=True)
class PredictedAnswer:
    """The answer of rank `predicted`. `executor` is the one whose measurements count, none where there are none; `models`
    is what it taught, by metric; `notes` are sentences on what is missing or assumed."""

    answer: Answer
    predicted: tuple[PredictedSubstitution, ...]
    executor: str | None
    models: Mapping[str, MetricModel | Unpredicted]
    notes: tuple[str, ...]

    @property
    def substitutions(self) -> tuple[Substitution, ...]:
        """The substitutions, lowest swap cost first."""
        return self.answer.substitutions

    @property
    def message(self) -> str | None:
        """Why there is no substitution, none where there is one."""
        return self.answer.message

    @property
    def swap_costs(self) -> Mapping[str, Mapping[str, SwapCost]]:
        """The learned swap cost of every dimension, by metric; metrics that nothing was learned of are left out."""
        learned = {metric: model for metric, model in self.models.items() if isinstance(model, MetricModel)}
        return {
            name: {metric: model.swap_costs[name] for metric, model in learned.items()}
            for name in DIMENSIONS
            if learned
        }

    def to_json(self) -> dict[str, Any]:
        """Return the answer: `substitutions`, or `no_match` and `message`, then what all of it rests on."""
        found = (
            self.answer.to_json() if self.message else {"substitutions": [each.to_json() for each in self.predicted]}
        )
        return {
            **found,
            "executor": self.executor,
            "level_pct": LEVEL * 100,
            "points": {
                m: 0 if isinstance(model, Unpredicted) else len(model.points) for m, model in self.models.items()
            },
            "swap_costs": {
                name: {
                    "swap_cost": _rounded(mean_cost(costs.values())),
                    "learned": any(cost.learned for cost in costs.values()),
                    "values": max(cost.values for cost in costs.values()),
                    "pairs": max(cost.pairs for cost in costs.values()),
                    "typical_factor": {m: _rounded(costs[m].typical_factor) if m in costs else None for m in METRICS},
                }
                for name, costs in self.swap_costs.items()
            },
            "notes": list(self.notes),
        }


def predicted_answer(
    rows: Sequence[Mapping[str, Any]],
    requested: Vector,
    *,
    top: int,
    usd_per_hour: Mapping[str, float | None] = MappingProxyType({}),
) -> PredictedAnswer:
    """Return the best `top` substitutes for a vector: the proven vectors of its family, as rank `hamming` knows them, in the
    order of their swap cost (the sum over the dimensions that differ), then newest, then input order.

    One executor's measurements count (`Measurements.executor_for`). All substitutes are compared with the request under one
    load where they were measured under it, else under the newest of their own. While no swap cost is learned the order
    is that of rank `hamming`. Raises `UsageError` for `top` below 1, `InvalidInput` naming every time that cannot be read.
    """
    index = SubstitutionIndex(rows)
    index.answer(requested, top=top)  # refuses a `top` below 1
    near = index.answer(requested, top=max(len(index), 1))
    measured = Measurements.of(rows, usd_per_hour=usd_per_hour)
    executor = measured.executor_for(requested.model_family)
    points = {metric: measured.points(executor, metric) for metric in METRICS}
    models = {metric: learn(each, family=requested.model_family) for metric, each in points.items()}
    learned = [model for model in models.values() if isinstance(model, MetricModel)]
    costs = _costs(learned)
    # Stable: what costs alike stays in the order of `hamming`, which is newest first, then input order.
    ranked = sorted(near.substitutions, key=lambda each: _cost(each, costs) or 0.0)[:top]
    places = _places(ranked, points)
    shared = _shared(places.values())
    return PredictedAnswer(
        answer=Answer(requested, tuple(ranked), near.nearest),
        predicted=tuple(_compared(each, _cost(each, costs), places[each.proven], shared, models) for each in ranked),
        executor=executor,
        models=MappingProxyType(models),
        notes=tuple(_notes(requested, measured, models, learned, executor)),
    )


def mean_cost(costs: Iterable[SwapCost]) -> float:
    """Return the swap cost of a dimension over the metrics that it was learned from, what is assumed where it was from
    none."""
    given = list(costs)
    each = [cost.cost for cost in given if cost.learned] or [cost.cost for cost in given]
    return sum(each) / len(each)


def _costs(models: Sequence[MetricModel]) -> Mapping[str, float] | None:
    """Return the swap cost by dimension, none where nothing measured differs in any."""
    if not any(cost.learned for model in models for cost in model.swap_costs.values()):
        return None
    return {name: mean_cost(model.swap_costs[name] for model in models) for name in DIMENSIONS}


def _cost(offered: Substitution, costs: Mapping[str, float] | None) -> float | None:
    pairs = zip(DIMENSIONS, offered.requested.values(), offered.proven.values(), strict=True)
    differing = [name for name, asked, found in pairs if asked != found]
    return None if costs is None else sum((costs[name] for name in differing), 0.0)


_Bucket = tuple[str, float | None]
_Place = Mapping[_Bucket, Mapping[str, Point]]
"""What was measured of one vector: by workload and concurrency, then by metric."""


def _places(offered: Sequence[Substitution], points: Mapping[str, Sequence[Point]]) -> Mapping[Vector, _Place]:
    places: dict[Vector, dict[_Bucket, dict[str, Point]]] = {each.proven: defaultdict(dict) for each in offered}
    for metric, each in points.items():
        # Oldest first, so that the newest stays; equally new ones in an order of their own.
        wanted = (point for point in each if point.vector in places)
        for point in sorted(wanted, key=lambda point: (point.at, repr(point.conditions))):
            places[point.vector][point.conditions.bucket][metric] = point
    return places


def _shared(places: Iterable[_Place]) -> Conditions | None:
    """Return the load under which most of the offered vectors were measured, of several the newest, then that of lowest
    concurrency; none where nothing was measured."""
    found: dict[_Bucket, list[Mapping[str, Point]]] = defaultdict(list)
    for place in places:
        for bucket, points in place.items():
            found[bucket].append(points)

    def worth(bucket: _Bucket) -> tuple[Any, ...]:
        return -len(found[bucket]), -max(map(_newest, found[bucket])), *_low_first(bucket)

    best = min(found, key=worth, default=None)
    return None if best is None else _conditions(max(found[best], key=_newest))


def _low_first(bucket: _Bucket) -> tuple[float, str]:
    return bucket[1] or 0.0, bucket[0]


def _conditions(found: Mapping[str, Point]) -> Conditions:
    return next(found[metric] for metric in METRICS if metric in found).conditions


def _newest(found: Mapping[str, Point]) -> float:
    return max(point.at.timestamp() for point in found.values())


def _compared(
    offered: Substitution,
    swap_cost: float | None,
    place: _Place,
    shared: Conditions | None,
    models: Mapping[str, MetricModel | Unpredicted],
) -> PredictedSubstitution:
    bucket = None if shared is None else shared.bucket
    if place and bucket not in place:
        bucket = min(place, key=lambda each: (-_newest(place[each]), *_low_first(each)))
    found = {} if bucket is None else place.get(bucket, {})
    conditions = _conditions(found) if found else shared
    comparisons = {}
    for metric, model in models.items():
        point = found.get(metric)
        at = conditions if point is None else point.conditions
        if at is None:
            predicted = Unpredicted("none of the substitutes was measured, so there is no load to compare under")
        else:
            predicted = model if isinstance(model, Unpredicted) else model.predict(offered.requested, at)
        comparisons[metric] = Comparison(None if point is None else point.value, predicted)
    return PredictedSubstitution(offered, swap_cost, conditions, MappingProxyType(comparisons))


def _notes(
    requested: Vector,
    measured: Measurements,
    models: Mapping[str, MetricModel | Unpredicted],
    learned: Sequence[MetricModel],
    executor: str | None,
) -> Iterable[str]:
    yield from measured.missing
    for metric, model in models.items():
        if isinstance(model, Unpredicted) and measured.points(executor, metric):
            yield f"{METRICS[metric]} is not predicted: {model.reason}"
    if _costs(learned) is None:
        yield "no swap cost is learned yet (no two measured vectors differ): the order is that of rank hamming"
    for name in dict.fromkeys(name for model in learned for name in model.unseen(requested)):
        yield f"nobody has measured {name} '{getattr(requested, name)}': what it changes is taken from other values' swaps"


def _numbers(name: str, found: Prediction | None) -> dict[str, float | None]:
    values = (None, None, None) if found is None else (found.value, found.low, found.high)
    return dict(zip((name, f"{name}_low", f"{name}_high"), map(_rounded, values), strict=True))


def _rounded(value: float | None) -> float | None:
    """Return a number as it is worth showing: what is learned has no more digits than these."""
    return None if value is None else float(f"{value:.{_DIGITS}g}")
