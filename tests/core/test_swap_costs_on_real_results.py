"""Predictions on measured grids of a serving engine (concurrency x input length x parallelism x model), each held out in turn.

Nothing is fitted to these files: the same model with the same priors predicts whatever rows there are. Beside it stands what
the plain rank would say: the value of the nearest measured point by the number of differing features, the newest of several.
"""

import json
import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from mlcc_dagster.core.measured_points import LATENCY, METRICS, Measurements, Point
from mlcc_dagster.core.swap_costs import LEVEL, MetricModel, Prediction, learn

RESULTS = Path(__file__).parents[3] / "shared" / "realdata" / "inferencex" / "results"

pytestmark = [
    pytest.mark.shared,
    pytest.mark.slow,
    pytest.mark.skipif(not RESULTS.exists(), reason="the shared real data is not beside this checkout"),
]

USD_PER_HOUR = 98.32
"""Of the instance that the points are taken to be measured on; as a constant factor it changes no relative error."""

_NAME = re.compile(r"_(?P<parallelism>[a-z]+)(?P<tp>\d+)_isl(?P<isl>\d+)_osl(?P<osl>\d+)_conc(?P<conc>\d+)$")
_DATE = re.compile(r"(\d{4})(\d\d)(\d\d)-(\d\d)(\d\d)(\d\d)")


def result_row(path: Path) -> dict[str, Any]:
    """Return one result file as a row of our table: the parallelism belongs to the deployment configuration."""
    found, name = json.loads(path.read_text("utf-8")), _NAME.search(path.stem)
    assert name is not None
    return {
        "deployment_config": f"transformers-vllm-{name['parallelism']}",
        "model_family": path.parent.name,
        "instance_family": "p5",
        "quantization": "fp8" if "_fp8_" in path.stem else "none",
        "tp_degree": int(name["tp"]),
        "deployment_target": "realtime-inference",
        "status": "completed",
        "run_timestamp": _DATE.sub(r"\1-\2-\3T\4:\5:\6Z", found["date"]),
        "workload": f"random-{name['isl']}-{name['osl']}",
        "concurrency": int(name["conc"]),
        "input_tokens_mean": int(name["isl"]),
        "output_tokens_mean": int(name["osl"]),
        "instance_type": "ml.p5.48xlarge",
        "output_token_throughput_tps": found["output_throughput"],
        LATENCY: found["p99_e2el"] * 1000,
    }


@pytest.fixture(scope="module")
def points() -> dict[str, tuple[Point, ...]]:
    """All points by metric; their costs are derived from throughput and price."""
    rows = [result_row(path) for path in sorted(RESULTS.rglob("*.json"))]
    found = Measurements.of(rows, usd_per_hour={"ml.p5.48xlarge": USD_PER_HOUR})
    assert all(len(found.points("imported", metric)) == len(rows) > 100 for metric in METRICS)
    return {metric: found.points("imported", metric) for metric in METRICS}


@dataclass(frozen=True)
class Score:
    """How held-out points were predicted: median relative errors, and how many intervals held how many points."""

    ours: float
    hamming: float
    held: int
    asked: int

    @property
    def coverage(self) -> float:
        return self.held / self.asked

    def __str__(self) -> str:
        return (
            f"error {self.ours:.3f}, hamming {self.hamming:.3f}, held {self.held} of {self.asked} = {self.coverage:.3f}"
        )


def features(point: Point) -> tuple[Any, ...]:
    return (*point.vector.values(), *point.conditions.loads)


def nearest_value(measured: Sequence[Point], asked: Point) -> float:
    """The value of the nearest point by the number of differing features, then the newest, then the first."""
    wanted = features(asked)

    def distance(point: Point) -> tuple[float, ...]:
        return sum(a != b for a, b in zip(features(point), wanted, strict=True)), -point.at.timestamp()

    return min(measured, key=distance).value


def held_out(points: Sequence[Point], together: Callable[[Point], Hashable]) -> Score:
    """Predict the points of every group from all others; groups that leave nothing to predict from are left out."""
    ours, hamming, held = [], [], 0
    for group in dict.fromkeys(map(together, points)):
        measured = [point for point in points if together(point) != group]
        model = learn(measured)
        assert isinstance(model, MetricModel)
        for asked in (point for point in points if together(point) == group):
            found = model.predict(asked.vector, asked.conditions)
            if isinstance(found, Prediction):
                ours.append(abs(found.value / asked.value - 1))
                hamming.append(abs(nearest_value(measured, asked) / asked.value - 1))
                held += found.low <= asked.value <= found.high
    return Score(float(np.median(ours)), float(np.median(hamming)), held, len(ours))


@pytest.mark.parametrize("metric", METRICS)
def test_every_point_held_out_alone_is_predicted_better_than_by_the_nearest_and_intervals_hold_their_level(
    metric: str, points: dict[str, tuple[Point, ...]]
):
    score = held_out(points[metric], lambda point: point)
    print(f"{metric}, each point: {score}")
    assert score.ours < 0.1
    assert score.ours < score.hamming / 2
    # the band that holds 99 % of all counts of independent points at exactly the level
    assert binom.ppf(0.005, score.asked, LEVEL) <= score.held <= binom.ppf(0.995, score.asked, LEVEL)


HARDER: dict[str, tuple[Callable[[Point], Hashable], float]] = {
    "input length": (lambda point: point.conditions.input_tokens_mean, 1.0),
    "concurrency": (lambda point: point.conditions.concurrency, 1.0),
    "parallelism": (lambda point: point.vector, 1.0),
    "model": (lambda point: point.vector.model_family, 1.1),
}
"""What is left out together, and how our error may compare with that of the nearest. Of a model that was never measured
there is nothing to know but how other models differ, of which there are two: no better than the nearest is good there."""


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("left_out", HARDER)
def test_whole_lines_of_the_grid_held_out_are_predicted_no_worse_than_by_the_nearest_and_intervals_are_honest(
    left_out: str, metric: str, points: dict[str, tuple[Point, ...]]
):
    together, bound = HARDER[left_out]
    score = held_out(points[metric], together)
    print(f"{metric}, each {left_out}: {score}")
    assert score.ours < score.hamming * bound
    # Points of a group miss together, so that there are fewer independent ones: only too few held are a failure.
    assert score.coverage >= 0.8
