"""Swap costs on worlds whose truth is known: the costs' order, intervals that hold their level, and inputs that are odd."""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from mlcc_dagster.core import swap_costs
from mlcc_dagster.core.configuration import DIMENSIONS, Vector
from mlcc_dagster.core.gaussian_processes import COST, GaussianProcess, Inputs, _differences, _surprise
from mlcc_dagster.core.measured_points import Conditions, Point
from mlcc_dagster.core.swap_costs import LEVEL, MetricModel, Prediction, Unpredicted, learn

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
LOADS = (1.0, 4.0, 16.0)


def vector(*values: str) -> Vector:
    """A vector with these values in deployment_config, instance_family and quantization."""
    deployment, instance, quantization = values
    return Vector(deployment, "qwen3", instance, quantization, "1", "realtime-inference")


VECTORS = [vector(*values) for values in itertools.product("abc", "xyz", "uvw")]


def point(
    of: Vector, value: float, concurrency: float | None = 4.0, *, days: float = 0, workload: str = "chat"
) -> Point:
    return Point(of, Conditions(workload, concurrency, 500.0, 100.0), value, BEGAN + timedelta(days=days))


World = Callable[[np.random.Generator], dict[tuple[Vector, float], float]]

SCALES = (0.8, 0.25, 0.02)
"""By what factor (its logarithm) another deployment_config, instance_family and quantization change the metric."""


def additive(rng: np.random.Generator) -> dict[tuple[Vector, float], float]:
    """Effects that add up, each value's its own, and a power law of the load: no Gaussian process at all."""
    effects = [
        dict(zip(values, rng.normal(0, scale, 3), strict=True))
        for values, scale in zip(("abc", "xyz", "uvw"), SCALES, strict=True)
    ]
    slope = rng.uniform(0.1, 0.9)
    return {
        (each, load): math.exp(
            effects[0][each.deployment_config]
            + effects[1][each.instance_family]
            + effects[2][each.quantization]
            + slope * math.log(load)
            + rng.normal(0, 0.03)
        )
        for each in VECTORS
        for load in LOADS
    }


def interacting(rng: np.random.Generator) -> dict[tuple[Vector, float], float]:
    """Every vector a draw of its own beside the effects, so that no sum of effects explains it."""
    plain = additive(rng)
    own = {each: rng.normal(0, 0.15) for each in VECTORS}
    return {(each, load): value * math.exp(own[each]) for (each, load), value in plain.items()}


def points_of(world: dict[tuple[Vector, float], float], vectors: Iterable[Vector]) -> list[Point]:
    kept = set(vectors)
    return [point(each, value, load) for (each, load), value in world.items() if each in kept]


def model_of(points: Iterable[Point]) -> MetricModel:
    model = learn(points)
    assert isinstance(model, MetricModel)
    return model


def predicted(model: MetricModel, of: Vector, concurrency: float | None = 4.0, workload: str = "chat") -> Prediction:
    found = model.predict(of, Conditions(workload, concurrency, 500.0, 100.0))
    assert isinstance(found, Prediction)
    return found


# ---- what is learned


@pytest.mark.parametrize("seed", range(12))
def test_the_order_of_known_swap_costs_is_recovered(seed: int):
    rng = np.random.default_rng(seed)
    spread = [
        dict(zip(values, (-scale, 0.0, scale), strict=True))
        for values, scale in zip(("abc", "xyz", "uvw"), SCALES, strict=True)
    ]
    measured = [VECTORS[place] for place in rng.choice(len(VECTORS), 18, replace=False)]
    points = [
        point(
            each,
            math.exp(
                spread[0][each.deployment_config]
                + spread[1][each.instance_family]
                + spread[2][each.quantization]
                + 0.5 * math.log(load)
                + rng.normal(0, 0.02)
            ),
            load,
        )
        for each in measured
        for load in LOADS
    ]
    costs = model_of(points).swap_costs
    assert costs["deployment_config"].cost > costs["instance_family"].cost > costs["quantization"].cost
    factors = [costs[name].typical_factor for name in ("deployment_config", "instance_family", "quantization")]
    assert factors == sorted(factors, key=lambda factor: -(factor or 0))
    assert 1.5 < (factors[0] or 0) < 9, "the true one is a factor of 2.2 to 5"
    assert all(costs[name].learned for name in ("deployment_config", "instance_family", "quantization"))


def test_a_dimension_that_never_varied_costs_what_is_assumed_and_says_so():
    model = model_of(points_of(additive(np.random.default_rng(0)), VECTORS[:9]))
    cost = model.swap_costs["model_family"]
    assert (cost.learned, cost.values, cost.pairs, cost.typical_factor) == (False, 1, 0, None)
    assert cost.cost == pytest.approx(COST.median)


def test_pairs_are_vectors_that_differ_in_one_dimension_alone():
    measured = [vector("a", "x", "u"), vector("b", "x", "u"), vector("c", "x", "u"), vector("a", "y", "v")]
    costs = model_of([point(each, place + 1.0) for place, each in enumerate(measured)]).swap_costs
    assert {name: cost.pairs for name, cost in costs.items() if cost.pairs} == {"deployment_config": 3}
    assert {name: cost.values for name, cost in costs.items() if cost.learned} == {
        "deployment_config": 3,
        "instance_family": 2,
        "quantization": 2,
    }


@pytest.mark.slow
def test_a_prediction_is_better_than_the_nearest_measured_vector():
    ours, nearest = [], []
    for seed in range(10):
        world = additive(np.random.default_rng(seed))
        for place in range(0, len(VECTORS), 9):
            asked = VECTORS[place]
            others = [each for each in VECTORS if each != asked and (VECTORS.index(each) + seed) % 2]
            truth = world[asked, 4.0]
            ours.append(abs(math.log(predicted(model_of(points_of(world, others)), asked).value / truth)))
            near = min(others, key=lambda each: sum(a != b for a, b in zip(each.values(), asked.values(), strict=True)))
            nearest.append(abs(math.log(world[near, 4.0] / truth)))
    assert np.median(ours) < np.median(nearest) / 2


# ---- intervals


@pytest.mark.slow
@pytest.mark.parametrize("world", [additive, interacting])
@pytest.mark.parametrize(
    "measured",
    [
        pytest.param(4, id="fewer vectors than have a quantile"),
        pytest.param(12, id="more than that"),
    ],
)
def test_intervals_of_vectors_that_nobody_measured_hold_their_level(world: World, measured: int):
    """Over many worlds, one held-out value each: a binomial band of 99.9 % below, and above only what is not absurd."""
    held = []
    worlds = 150
    for seed in range(worlds):
        rng = np.random.default_rng(1000 + seed)
        truth = world(rng)
        order = [VECTORS[place] for place in rng.permutation(len(VECTORS))]
        asked = order[measured]
        found = predicted(model_of(points_of(truth, order[:measured])), asked)
        held.append(found.low <= truth[asked, 4.0] <= found.high)
    lowest = binom.ppf(0.001, worlds, LEVEL) / worlds
    assert lowest < LEVEL
    assert np.mean(held) >= lowest
    assert np.mean(held) < 1.0 or measured < 9


@pytest.mark.slow
def test_intervals_of_measured_vectors_at_another_load_hold_their_level():
    held, worlds = [], 150
    for seed in range(worlds):
        truth = interacting(np.random.default_rng(2000 + seed))
        points = points_of(truth, VECTORS[::2])
        out = points.pop(seed % len(points))
        found = model_of(points).predict(out.vector, out.conditions)
        assert isinstance(found, Prediction)
        held.append(found.low <= out.value <= found.high)
    assert binom.ppf(0.001, worlds, LEVEL) <= sum(held) <= binom.ppf(0.999, worlds, LEVEL)


def width(found: Prediction) -> float:
    return math.log(found.high / found.low)


def test_intervals_narrow_with_what_is_known():
    truth = additive(np.random.default_rng(3))
    asked = VECTORS[0]
    widths = [width(predicted(model_of(points_of(truth, VECTORS[1:count])), asked)) for count in (3, 9, 27)]
    assert widths[0] > 2 * widths[1] > 2 * widths[2]


def test_a_value_that_nobody_has_is_less_certain_than_one_that_is_known():
    model = model_of(points_of(additive(np.random.default_rng(4)), VECTORS[1:]))
    known, unknown = VECTORS[0], replace(VECTORS[0], deployment_config="never")
    assert width(predicted(model, unknown)) > 2 * width(predicted(model, known))
    assert (model.unseen(known), model.unseen(unknown)) == ((), ("deployment_config",))


@pytest.mark.parametrize("asked", [{"concurrency": 64.0}, {"workload": "rag"}], ids=["concurrency", "workload"])
def test_a_load_that_nobody_measured_is_less_certain_than_one_that_is_known(asked: dict[str, float | str]):
    model = model_of(points_of(interacting(np.random.default_rng(5)), VECTORS[::2]))
    points = [
        *model.points,
        *(replace(p, conditions=replace(p.conditions, workload="tools"), value=p.value * 1.3) for p in model.points),
    ]
    both = model_of(points)
    assert width(predicted(both, VECTORS[0], **asked)) > 1.5 * width(predicted(both, VECTORS[0]))  # type: ignore[arg-type]


# ---- order, number and kind of points


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(24)))
def test_the_order_of_the_points_does_not_matter(order: Sequence[int]):
    points = points_of(additive(np.random.default_rng(6)), VECTORS[:8])
    one, other = model_of(points), model_of([points[place] for place in order])
    assert other.swap_costs == one.swap_costs
    assert predicted(other, VECTORS[20]) == predicted(one, VECTORS[20])


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        pytest.param([], "no points measured, 3 are needed", id="nothing"),
        pytest.param([point(VECTORS[0], 1.0)], "1 point measured, 3 are needed", id="one"),
        pytest.param([point(v, 1.0) for v in VECTORS[:2]], "2 points measured, 3 are needed", id="two"),
    ],
)
def test_of_too_few_points_nothing_is_said_but_why(points: list[Point], reason: str):
    assert learn(points) == Unpredicted(reason)


def test_one_vector_says_nothing_of_another_one_but_of_itself():
    model = model_of([point(VECTORS[0], value, load) for value, load in zip((1.0, 2.0, 4.0), LOADS, strict=True)])
    refused = model.predict(VECTORS[1], Conditions("chat", 4.0, 500.0, 100.0))
    assert refused == Unpredicted("one vector measured, 2 are needed to tell what another value changes")
    assert predicted(model, VECTORS[0], 8.0).value == pytest.approx(2.8, rel=0.3)
    assert not any(cost.learned for cost in model.swap_costs.values())


def test_a_constant_metric_is_predicted_as_it_is():
    found = predicted(model_of([point(each, 5.0) for each in VECTORS[:12]]), VECTORS[20])
    assert found.value == pytest.approx(5.0)
    assert found.low < 5.0 < found.high < 5.5


@pytest.mark.parametrize("value", [1e-300, 1e-9, 1e12, 1e300])
def test_values_of_any_size_give_finite_predictions(value: float):
    points = [point(each, value * (1 + place)) for place, each in enumerate(VECTORS[:5])]
    found = predicted(model_of(points), VECTORS[20])
    assert 0 <= found.low <= found.value <= found.high < math.inf


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 26),
            st.one_of(st.none(), st.sampled_from(LOADS)),
            st.floats(1e-6, 1e6),
            st.sampled_from(["", "chat", "rag"]),
        ),
        min_size=3,
        max_size=12,
        unique_by=lambda each: (each[0], each[1], each[3]),
    )
)
def test_whatever_was_measured_a_prediction_lies_within_its_interval_or_says_why_there_is_none(
    measured: list[tuple[int, float | None, float, str]],
):
    model = model_of([point(VECTORS[v], value, load, workload=workload) for v, load, value, workload in measured])
    for asked in (VECTORS[measured[0][0]], VECTORS[0], replace(VECTORS[0], tp_degree="8", model_family="other")):
        for conditions in (Conditions("chat", 4.0), Conditions("", None), Conditions("new", 1000.0, 1.0, 1e6)):
            found = model.predict(asked, conditions)
            if isinstance(found, Unpredicted):
                assert len(model.vectors) == 1
                assert asked not in model.vectors
            else:
                assert 0 <= found.low < found.value < found.high < math.inf
    assert all(0 < cost.cost < math.inf for cost in model.swap_costs.values())


def test_a_load_that_is_not_named_stands_in_the_middle_of_the_measured_ones_and_is_less_certain():
    model = model_of([point(each, load, load) for each in VECTORS[:4] for load in LOADS])
    unnamed, middle = predicted(model, VECTORS[0], None), predicted(model, VECTORS[0], 4.0)
    assert unnamed.value == middle.value
    assert width(unnamed) > width(middle)


# ---- more points than are kept


def test_of_too_many_points_every_vector_keeps_its_newest_and_the_family_comes_first(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(swap_costs, "MOST_POINTS", 64)
    families = [replace(each, model_family=family) for family in ("qwen3", "llama3") for each in VECTORS]
    loads = [1.0, 2.0, 4.0]
    points = [point(each, 1.0 + day, load, days=day) for each in families for day, load in enumerate(loads)]
    kept = MetricModel(points, family="llama3").points
    assert len(points) > len(kept) == 64
    assert {each.vector.model_family for each in kept} == {"llama3"}
    newest = {each: max(p.at for p in kept if p.vector == each) for each in families[len(VECTORS) :]}
    assert set(newest.values()) == {BEGAN + timedelta(days=2)}
    counts = [sum(p.vector == each for p in kept) for each in newest]
    assert max(counts) - min(counts) <= 1
    assert MetricModel(reversed(points), family="llama3").points == kept


# ---- the process itself, against plain readings of the same formulas


def some_inputs(seed: int) -> tuple[Inputs, np.ndarray]:
    rng = np.random.default_rng(seed)
    inputs = Inputs(rng.integers(0, 3, (12, 2)), rng.normal(size=(12, 1)), rng.integers(0, 5, 12))
    return inputs, rng.normal(size=12)


def plain_covariance(process: GaussianProcess, inputs: Inputs) -> np.ndarray:
    found = np.empty((12, 12))
    for i, j in itertools.product(range(12), repeat=2):
        differing = sum(c for c, a, b in zip(process.costs, inputs.names[i], inputs.names[j], strict=True) if a != b)
        far = math.sqrt(5) * abs(inputs.numbers[i, 0] - inputs.numbers[j, 0]) / process.lengths[0]
        found[i, j] = 25 + process.variance * math.exp(-differing) * (1 + far + far**2 / 3) * math.exp(-far)
        found[i, j] += process.own * (inputs.things[i] == inputs.things[j]) + process.noise * (i == j)
    return found


def test_left_out_misses_are_those_of_a_prediction_from_the_others():
    inputs, targets = some_inputs(7)
    process = GaussianProcess(inputs, targets)
    covariance, centred = plain_covariance(process, inputs), targets - targets.mean()
    out, rest = np.array([1, 5, 8]), np.array([0, 2, 3, 4, 6, 7, 9, 10, 11])
    weights = np.linalg.solve(covariance[np.ix_(rest, rest)], covariance[np.ix_(rest, out)])
    means = weights.T @ centred[rest]
    variances = np.diag(covariance[np.ix_(out, out)] - weights.T @ covariance[np.ix_(rest, out)])
    (found,) = process.left_out([out])
    assert found == pytest.approx((centred[out] - means) / np.sqrt(variances))


def test_the_gradient_is_that_of_the_surprise():
    inputs, targets = some_inputs(8)
    medians, spreads = np.zeros(6), np.ones(6)
    at = np.array([-0.3, 0.2, -0.7, 0.4, -1.0, -2.0])
    rest = (*_differences(inputs, inputs), targets, medians, spreads)
    steps = 1e-6 * np.eye(6)
    plain = [(_surprise(at + step, *rest)[0] - _surprise(at - step, *rest)[0]) / 2e-6 for step in steps]
    assert _surprise(at, *rest)[1] == pytest.approx(np.array(plain), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        pytest.param([[0.6 + n] for n in range(9)], 8.6, id="nine of ten equal weights: the largest"),
        pytest.param([[0.6 + n] for n in range(19)], 17.6, id="eighteen of twenty"),
        pytest.param([[0.1]] * 30, 0.5, id="misses that were all tiny: never less than half a deviation"),
        pytest.param([[1.0], [2.0]], 2.92, id="two groups: Student's t with two degrees of freedom"),
        pytest.param([[1.0], [9.0]], 9.0, id="a miss that is more than that"),
        pytest.param([[5.0, *[0.6] * 19]] * 18, 0.6, id="one of twenty in every group lies beyond the level"),
        pytest.param([[5.0] * 50, *[[0.6]] * 18], 0.6, id="a large group weighs no more than a small one"),
    ],
)
def test_an_interval_reaches_as_far_as_the_misses_of_whole_groups_ask_for(sizes: list[list[float]], expected: float):
    misses = [np.array(group) * (-1) ** place for place, group in enumerate(sizes)]
    assert swap_costs._scale(misses) == pytest.approx(expected, abs=0.001)


def test_every_dimension_has_a_cost():
    model = model_of(points_of(additive(np.random.default_rng(9)), VECTORS[:3]))
    assert tuple(model.swap_costs) == DIMENSIONS
