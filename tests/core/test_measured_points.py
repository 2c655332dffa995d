"""Measured points: which cells of a row are measurements, which of several counts, whose they are, and what is missing."""

import itertools
import math
from typing import Any

import pytest

from mlcc_dagster.core.configuration import DIMENSIONS
from mlcc_dagster.core.exceptions import InvalidInput
from mlcc_dagster.core.measured_points import COST, LATENCY, Conditions, Measurements

VECTOR = dict(zip(DIMENSIONS, ("transformers-vllm", "qwen3", "g5", "none", 1, "realtime-inference"), strict=True))


def row(**changed: Any) -> dict[str, Any]:
    made = {
        **VECTOR,
        "status": "completed",
        "run_timestamp": "2026-01-01T00:00:00Z",
        "workload": "chat",
        "concurrency": 4,
        "input_tokens_mean": 550,
        "output_tokens_mean": 150,
        COST: 2.5,
        LATENCY: 800.0,
        "executor": "aws",
    }
    return {**made, **changed}


def values(*rows: dict[str, Any], metric: str = COST, executor: str = "aws") -> list[float]:
    prices = {"ml.g5.xlarge": 1.408, "ml.none.xlarge": None}
    return [point.value for point in Measurements.of(rows, usd_per_hour=prices).points(executor, metric)]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        pytest.param(2.5, [2.5], id="a number"),
        pytest.param("2.5", [2.5], id="a table of texts has the number as one"),
        pytest.param(3, [3.0], id="a whole number"),
        pytest.param(None, [], id="null is absent"),
        pytest.param(0.0, [], id="0 is what some writers put for what they did not measure"),
        pytest.param(-1.0, [], id="nothing costs less than nothing"),
        pytest.param(math.nan, [], id="a gap of a data frame"),
        pytest.param(math.inf, [], id="no throughput at all is no price"),
        pytest.param("fast", [], id="words are no measurement"),
        pytest.param(True, [], id="a flag is no number, though Python says 1"),
        pytest.param([2.5], [], id="a list is no number"),
    ],
)
@pytest.mark.parametrize("metric", [COST, LATENCY])
def test_only_finite_numbers_above_zero_are_measurements(metric: str, cell: Any, expected: list[float]):
    assert values(row(**{metric: cell}), metric=metric) == expected


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        pytest.param({}, 1.408 / (100 * 3600) * 1e6, id="price by throughput"),
        pytest.param({COST: 2.5}, 2.5, id="what the row says comes first"),
        pytest.param({"instance_type": "ml.none.xlarge"}, None, id="an instance without a price"),
        pytest.param({"instance_type": "ml.else.xlarge"}, None, id="an instance that the catalog does not know"),
        pytest.param({"output_token_throughput_tps": 0.0}, None, id="no throughput"),
    ],
)
def test_the_cost_is_derived_where_throughput_and_price_are_known(changed: dict[str, Any], expected: float | None):
    made = row(**{COST: None, "instance_type": "ml.g5.xlarge", "output_token_throughput_tps": 100.0, **changed})
    assert values(made) == ([] if expected is None else [pytest.approx(expected)])


@pytest.mark.parametrize("status", ["failed", "unfeasible", None, "COMPLETED"])
def test_rows_that_prove_nothing_measure_nothing(status: Any):
    assert values(row(status=status)) == []


def test_the_newest_of_the_same_vector_and_load_counts_and_a_row_without_time_is_oldest():
    rows = [
        row(**{COST: 1.0}, run_timestamp=None),
        row(**{COST: 2.0}, run_timestamp="2026-01-02T00:00:00Z"),
        row(**{COST: 3.0}, run_timestamp="2026-01-01T00:00:00Z"),
    ]
    for order in itertools.permutations(rows):
        assert values(*order) == [2.0]
    assert values(rows[0]) == [1.0]


def test_a_newer_row_without_the_metric_does_not_hide_an_older_one_with_it():
    newer = row(**{COST: None, LATENCY: 700.0}, run_timestamp="2026-01-02T00:00:00Z")
    assert values(row(), newer) == [2.5]
    assert values(row(), newer, metric=LATENCY) == [700.0]


def test_several_equally_new_ones_count_with_their_geometric_mean_in_any_order():
    rows = [row(**{COST: 2.0}), row(**{COST: 8.0}), row(**{COST: 0.1})]
    (mean,) = {value for order in itertools.permutations(rows) for value in values(*order)}
    assert mean == pytest.approx(1.6 ** (1 / 3))


@pytest.mark.parametrize(
    "changed",
    [
        {"concurrency": 8},
        {"workload": "rag"},
        {"input_tokens_mean": 2000},
        {"output_tokens_mean": None},
        {"quantization": "fp8"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_another_load_or_vector_is_another_point(changed: dict[str, Any]):
    assert len(values(row(), row(**changed))) == 2


def test_the_sixth_dimension_is_read_under_either_of_its_names():
    stored = {k: v for k, v in row().items() if k != "tp_degree"} | {"tensor_parallel_degree": 1}
    (point,) = Measurements.of([stored, row()]).points("aws", COST)
    assert point.vector.tp_degree == "1"


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param([], None, id="nobody"),
        pytest.param([row()], "aws", id="the only one"),
        pytest.param([row(executor=None)], "imported", id="a row that names none"),
        pytest.param([row(executor="local"), row(), row(concurrency=8)], "aws", id="who measured more"),
        pytest.param(
            [row(executor="local"), *(row(model_family="llama3", concurrency=n) for n in (1, 2, 3))],
            "local",
            id="who measured more of the family, though less at all",
        ),
        pytest.param([row(executor="local"), row()], "aws", id="the first by name of equal ones"),
    ],
)
def test_one_executor_is_chosen_by_what_it_measured_of_the_family(rows: list[dict[str, Any]], expected: str | None):
    for order in itertools.permutations(rows):
        assert Measurements.of(order).executor_for("qwen3") == expected


def test_points_of_executors_stand_apart():
    rows = [row(), row(executor="local", **{COST: 7.0})]
    assert (values(*rows), values(*rows, executor="local")) == ([2.5], [7.0])


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in row().items() if name not in names}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        pytest.param([row()], [], id="nothing"),
        pytest.param(
            [without(COST)], ["no completed row has a usable cost_per_1m_tokens, nor output_token"], id="the cost"
        ),
        pytest.param([without(LATENCY)], ["no completed row has a usable e2e_latency_p99_ms: p99"], id="the latency"),
        pytest.param(
            [without("workload", "input_tokens_mean")],
            ["no measured row has a usable workload, input_tokens_mean: rows are compared as if"],
            id="columns of the load",
        ),
        pytest.param([], ["no completed row has a usable cost", "no completed row has a usable e2e"], id="all of it"),
    ],
)
def test_what_no_row_has_is_said(rows: list[dict[str, Any]], said: list[str]):
    missing = Measurements.of(rows).missing
    assert len(missing) == len(said)
    for sentence, beginning in zip(missing, said, strict=True):
        assert sentence.startswith(beginning)


def test_every_time_that_cannot_be_read_is_named():
    with pytest.raises(InvalidInput) as refused:
        Measurements.of([row(run_timestamp="soon"), row(), row(run_timestamp="later")])
    assert [problem.split(":")[0] for problem in refused.value.problems] == ["row 0", "row 2"]


@pytest.mark.parametrize(
    ("conditions", "text", "document"),
    [
        (
            Conditions("chat", 4.0, 550.0, 150.5),
            "chat at concurrency 4",
            {"workload": "chat", "concurrency": 4, "input_tokens_mean": 550, "output_tokens_mean": 150.5},
        ),
        (
            Conditions(""),
            "an unnamed workload at an unknown concurrency",
            {"workload": None, "concurrency": None, "input_tokens_mean": None, "output_tokens_mean": None},
        ),
    ],
)
def test_a_load_is_shown_as_the_row_had_it(conditions: Conditions, text: str, document: dict[str, Any]):
    assert str(conditions) == text
    assert conditions.to_json() == document
    assert {type(value) for value in document.values()} == {type(value) for value in conditions.to_json().values()}
