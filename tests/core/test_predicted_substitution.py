"""The rank `predicted`: who comes first, whose measurements count, under which load, and what is said where they are missing."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcc_dagster.core.configuration import DIMENSIONS, Vector
from mlcc_dagster.core.exceptions import InvalidInput, UsageError
from mlcc_dagster.core.measured_points import COST, LATENCY
from mlcc_dagster.core.predicted_substitution import PredictedAnswer, mean_cost, predicted_answer
from mlcc_dagster.core.substitute_ranks import RANKS, rank_named
from mlcc_dagster.core.substitution import SubstitutionIndex
from mlcc_dagster.core.swap_costs import SwapCost, Unpredicted

BASE = dict(zip(DIMENSIONS, ("transformers-vllm", "qwen3", "g5", "none", "1", "realtime-inference"), strict=True))
SGLANG: dict[str, Any] = {"deployment_config": "transformers-sglang"}
G6: dict[str, Any] = {"instance_family": "g6"}
FP8: dict[str, Any] = {"quantization": "fp8"}


def row(cost: Any = None, latency: Any = None, **changed: Any) -> dict[str, Any]:
    made = {
        **BASE,
        "status": "completed",
        "run_timestamp": "2026-01-01T00:00:00Z",
        "workload": "chat",
        "concurrency": 4,
        "executor": "aws",
        COST: cost,
        LATENCY: latency,
    }
    return {**made, **changed}


def measured_world(**changed: Any) -> list[dict[str, Any]]:
    """Another server changes everything fourfold, another instance hardly, in two families; the two other servers on g6
    were never run."""
    rows = []
    for family in ("qwen3", "llama3"):
        for server, server_factor in (
            ("transformers-vllm", 1.0),
            ("transformers-sglang", 4.0),
            ("transformers-tgi", 0.25),
        ):
            for instance, factor in (("g5", 1.0), ("g6", 1.1), ("p5", 0.95)):
                if family == "qwen3" and instance == "g6" and server != "transformers-sglang":
                    continue
                for concurrency in (1, 4):
                    value = server_factor * factor * concurrency**0.5
                    rows.append(
                        row(
                            value,
                            value * 100,
                            model_family=family,
                            deployment_config=server,
                            instance_family=instance,
                            concurrency=concurrency,
                            **changed,
                        )
                    )
    return rows


def asked(rows: Sequence[Mapping[str, Any]], top: int = 3, **changed: Any) -> PredictedAnswer:
    return predicted_answer(rows, Vector.of({**BASE, **changed}), top=top)


def differing(answer: PredictedAnswer) -> list[list[str]]:
    return [[line.split(":")[0] for line in each.explanation] for each in answer.substitutions]


def test_a_cheap_swap_comes_before_a_dear_one_of_the_same_distance():
    rows = measured_world()
    # The dear swap was proven later, so that `hamming` prefers it.
    for each in rows:
        if each["deployment_config"] == "transformers-sglang":
            each["run_timestamp"] = "2026-02-01T00:00:00Z"
    nearest = SubstitutionIndex(rows).answer(Vector.of({**BASE, **G6})).substitutions[0]
    assert nearest.explanation == ("deployment_config: 'transformers-vllm' → 'transformers-sglang'",)
    answer = asked(rows, **G6)
    assert differing(answer) == [["instance_family"], ["instance_family"], ["deployment_config"]]
    costs = [each.swap_cost or 0.0 for each in answer.predicted]
    assert costs[0] == costs[1] < costs[2] / 3


def test_two_cheap_swaps_may_come_before_a_dear_one():
    rows = [each for each in measured_world() if each["model_family"] != "qwen3"]
    rows += [row(8.8, 880.0, **SGLANG, **G6), row(1.9, 190.0, instance_family="p5", **FP8)]
    rows += [row(2.0, 200.0, model_family="llama3", **FP8)]
    answer = asked(rows, **G6)
    assert differing(answer) == [["instance_family", "quantization"], ["deployment_config"]]
    assert [each.distance for each in answer.substitutions] == [2, 1]


def test_an_exact_match_is_first_and_costs_nothing():
    first, *_ = asked(measured_world()).predicted
    assert (first.substitution.distance, first.swap_cost, first.substitution.explanation) == (0, 0.0, ())
    comparison = first.comparisons[COST]
    assert not isinstance(comparison.predicted, Unpredicted)
    assert comparison.predicted.low <= (comparison.measured or 0) <= comparison.predicted.high


def test_the_prediction_is_of_the_request_and_the_difference_is_to_the_substitute():
    answer = asked(measured_world(), **G6)
    for each in answer.predicted:
        assert each.conditions is not None
        truth = 1.1 * (each.conditions.concurrency or 0) ** 0.5
        for metric, unit in ((COST, 1.0), (LATENCY, 100.0)):
            comparison = each.comparisons[metric]
            predicted, difference = comparison.predicted, comparison.difference
            assert not isinstance(predicted, Unpredicted)
            assert predicted.value == pytest.approx(truth * unit, rel=0.1)
            assert predicted.low < truth * unit < predicted.high
            assert difference is not None
            assert difference.value == pytest.approx(predicted.value - (comparison.measured or 0))
            assert difference.high - difference.low == pytest.approx(predicted.high - predicted.low)


def test_substitutes_are_compared_under_the_load_that_most_of_them_share():
    rows = [
        row(1.0, 10.0, concurrency=1),
        row(2.0, 20.0, concurrency=8, run_timestamp="2026-03-01T00:00:00Z"),
        row(1.0, 10.0, concurrency=1, **FP8),
        row(1.0, 10.0, concurrency=1, **SGLANG),
        row(1.5, 15.0, concurrency=4, **SGLANG),
        row(3.0, 30.0, concurrency=16, quantization="awq"),
        row(4.0, 40.0, concurrency=32, quantization="awq", run_timestamp="2026-02-01T00:00:00Z"),
    ]
    answer = asked(rows, top=9, **G6)
    loads = {each.substitution.proven.quantization: each.conditions for each in answer.predicted if each.conditions}
    assert {name: at.concurrency for name, at in loads.items()} == {"none": 1, "fp8": 1, "awq": 32}
    measured = {each.substitution.proven: each.comparisons[COST].measured for each in answer.predicted}
    assert measured[Vector.of(BASE)] == 1.0
    assert measured[Vector.of({**BASE, "quantization": "awq"})] == 4.0, "not measured there: the newest of its own"


def test_measurements_of_two_executors_are_never_compared():
    rows = measured_world()
    noise = [{**each, "executor": "local", COST: 1e6, LATENCY: 1e9} for each in rows[:5]]
    with_noise, without = asked([*rows, *noise], **G6), asked(rows, **G6)
    assert with_noise.executor == "aws"
    assert with_noise.to_json() == without.to_json()


def test_a_substitute_that_the_chosen_executor_did_not_measure_has_no_measurement():
    rows = [
        *measured_world(),
        row(5.0, 5.0, executor="local", quantization="awq", run_timestamp="2026-05-01T00:00:00Z"),
    ]
    (offered,) = [e for e in asked(rows, top=99, **G6).predicted if e.substitution.proven.quantization == "awq"]
    shown = offered.to_json()[COST]
    assert (shown["measured"], shown["difference"], shown["difference_low"]) == (None, None, None)
    assert shown["predicted"] == pytest.approx(1.1, rel=0.1), "under the load of the others"
    assert shown["why_not"] == "not measured at the substitute"


def test_while_nothing_is_measured_the_order_is_that_of_hamming_and_nothing_is_made_up():
    rows = [
        row(**G6),
        row(**FP8, run_timestamp="2026-02-01T00:00:00Z"),
        row(**SGLANG, **G6),
        row(model_family="llama3"),
    ]
    answer = asked(rows, **SGLANG)
    assert answer.substitutions == SubstitutionIndex(rows).answer(answer.answer.requested).substitutions
    assert answer.executor is None
    document = answer.to_json()
    assert document["points"] == {COST: 0, LATENCY: 0}
    assert document["swap_costs"] == {}
    for each in document["substitutions"]:
        assert (each["swap_cost"], each["conditions"]) == (None, None)
        for metric in (COST, LATENCY):
            assert {value for name, value in each[metric].items() if name != "why_not"} == {None}
            assert each[metric]["why_not"]
    assert len(document["notes"]) == 3
    assert "the order is that of rank hamming" in document["notes"][2]


@pytest.mark.parametrize(
    ("rows", "note"),
    [
        pytest.param([row(1.0, 1.0), row(2.0, 2.0, **FP8)], "2 points measured, 3 are needed", id="two points"),
        pytest.param(
            [row(1.0, 1.0, concurrency=n) for n in (1, 2, 4, 8)], "no two measured vectors differ", id="a single vector"
        ),
        pytest.param(
            [row(None, float(n), concurrency=n, quantization=q) for n in (1, 2) for q in ("none", "fp8")],
            "no completed row has a usable cost_per_1m_tokens",
            id="one metric alone",
        ),
        pytest.param(measured_world(), "nobody has measured instance_family 'p6'", id="a value that nobody has"),
    ],
)
def test_what_is_missing_or_assumed_is_said(rows: list[dict[str, Any]], note: str):
    assert any(note in each for each in asked(rows, instance_family="p6").notes)


def test_the_family_of_others_is_learned_from_but_never_offered():
    rows = [each for each in measured_world() if each["model_family"] == "llama3"]
    answer = asked(rows)
    assert answer.message == "no coverage — nearest proven config is 1 dimensions away"
    document = answer.to_json()
    assert (document["no_match"], document["message"]) == (True, answer.message)
    assert "substitutions" not in document
    offered = asked([*rows, row(1.0, 100.0, concurrency=1)], **SGLANG, **G6).predicted
    assert [each.substitution.proven for each in offered] == [Vector.of(BASE)]
    found = offered[0].comparisons[COST].predicted
    assert not isinstance(found, Unpredicted)
    assert found.value > 2.0, "the other family says that this server costs four times as much"


def test_prices_make_costs_of_throughputs():
    rows = [
        {**row(None, 1.0, **changed), "instance_type": "ml.g5.xlarge", "output_token_throughput_tps": rate}
        for rate, changed in ((100.0, {}), (200.0, SGLANG), (50.0, FP8))
    ]
    answer = predicted_answer(rows, Vector.of(BASE), top=1, usd_per_hour={"ml.g5.xlarge": 3.6})
    assert answer.predicted[0].comparisons[COST].measured == pytest.approx(10.0)
    assert predicted_answer(rows, Vector.of(BASE), top=1).predicted[0].comparisons[COST].measured is None


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(28)))
def test_the_order_of_the_rows_does_not_matter_where_their_times_differ(order: Sequence[int]):
    rows = [
        {**each, "run_timestamp": f"2026-01-01T00:00:{place:02}Z"} for place, each in enumerate(measured_world()[:28])
    ]
    assert asked([rows[place] for place in order], **G6).to_json() == asked(rows, **G6).to_json()


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param({}, id="twice the same row"),
        pytest.param({COST: math.nan, LATENCY: None}, id="not a number"),
        pytest.param({"concurrency": None, "workload": None}, id="no load"),
        pytest.param({"run_timestamp": None}, id="no time"),
        pytest.param({"tp_degree": None, "quantization": math.nan}, id="no value in a dimension"),
        pytest.param({"executor": math.nan}, id="no executor"),
        pytest.param({COST: "1,5"}, id="a number as some countries write it"),
    ],
)
@pytest.mark.parametrize("alone", [True, False])
def test_odd_rows_are_answered(odd: dict[str, Any], alone: bool):
    rows = [row(1.0, 10.0), {**row(1.0, 10.0), **odd}]
    answer = asked(rows if alone else [*measured_world(), *rows], **FP8)
    assert answer.substitutions
    assert set(answer.to_json()) >= {"substitutions", "executor", "level_pct", "points", "swap_costs", "notes"}


def test_no_row_at_all_is_answered():
    assert asked([]).message == "no coverage — no proven configs available"
    assert asked([]).predicted == ()


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        pytest.param([(0.2, 3), (0.6, 2)], 0.4, id="of both metrics"),
        pytest.param([(0.2, 3), (0.3, 1)], 0.2, id="what one metric only assumes does not count"),
        pytest.param([(0.3, 1), (0.3, 1)], 0.3, id="assumed where nothing is learned"),
    ],
)
def test_the_swap_cost_of_a_dimension_is_the_mean_of_what_is_learned(costs: list[tuple[float, int]], expected: float):
    assert mean_cost(SwapCost("quantization", cost, None, values, 0) for cost, values in costs) == pytest.approx(
        expected
    )


def test_ranks_are_known_by_name():
    assert tuple(RANKS) == ("hamming", "predicted")
    rows, vector = measured_world(), Vector.of({**BASE, **G6})
    plain = rank_named("hamming")(rows, vector, top=2, usd_per_hour={})
    assert plain == SubstitutionIndex(rows).answer(vector, top=2)
    learned = rank_named("predicted")(rows, vector, top=2, usd_per_hour={})
    assert isinstance(learned, PredictedAnswer)
    assert len(learned.substitutions) == 2
    with pytest.raises(UsageError, match="unknown rank 'best'; use one of hamming, predicted"):
        rank_named("best")


@pytest.mark.parametrize("rank", RANKS)
def test_every_rank_refuses_what_it_cannot_answer(rank: str):
    with pytest.raises(UsageError, match="cannot give 0 substitutions"):
        rank_named(rank)(measured_world(), Vector.of(BASE), top=0, usd_per_hour={})
    with pytest.raises(InvalidInput, match="row 0: run_timestamp 'soon'"):
        rank_named(rank)([row(1.0, run_timestamp="soon")], Vector.of(BASE), top=1, usd_per_hour={})
