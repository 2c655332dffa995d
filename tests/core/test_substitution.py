"""Substitution: the published answers element for element, the rank against a plain reading, and rows as they come."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcc_dagster.core import substitution as substitution_module
from mlcc_dagster.core.configuration import DIMENSIONS, Vector, text_value
from mlcc_dagster.core.exceptions import InvalidInput, UsageError
from mlcc_dagster.core.substitution import SubstitutionIndex

VLLM = ("transformers-vllm", "qwen3", "g5", "none", 1, "async-inference")


def config(**changed: Any) -> dict[str, Any]:
    """The six values of a vector, in the order of the dimensions."""
    return {**dict(zip(DIMENSIONS, VLLM, strict=True)), **changed}


def row(at: Any = None, status: str = "completed", **changed: Any) -> dict[str, Any]:
    """A result row; without a time it has no such key at all."""
    return {**config(**changed), "status": status, **({} if at is None else {"run_timestamp": at})}


def asked(*rows: Mapping[str, Any], top: int = 3, **changed: Any) -> dict[str, Any]:
    return SubstitutionIndex(rows).answer(Vector.of(config(**changed)), top=top).to_json()


PROVEN = [
    row("2026-06-01T00:00:00Z"),
    row("2026-06-03T00:00:00Z", deployment_config="transformers-sglang", deployment_target="realtime-inference"),
    row("2026-06-02T00:00:00Z", deployment_target="realtime-inference"),
    row(instance_family="g6"),
    row(deployment_config="transformers-sglang", model_family="llama3"),
]
SGLANG = config(deployment_config="transformers-sglang")
DEPLOYMENT = "deployment_config: 'transformers-sglang' → 'transformers-vllm'"
TARGET = "deployment_target: 'async-inference' → 'realtime-inference'"
FAR = ["instance_family: 'p5' → 'g5'", "quantization: 'fp8' → 'none'", "tp_degree: '8' → '1'"]


def offered(place: int, distance: int, *explanation: str) -> dict[str, Any]:
    return {"config": PROVEN[place], "distance": distance, "explanation": list(explanation)}


PUBLISHED = [
    pytest.param(
        PROVEN,
        SGLANG,
        {"substitutions": [offered(1, 1, TARGET), offered(0, 1, DEPLOYMENT), offered(2, 2, DEPLOYMENT, TARGET)]},
        id="nearest first and among those the newest",
    ),
    pytest.param(
        PROVEN,
        {**SGLANG, "model_family": "mistral", "tp_degree": "1"},
        {"no_match": True, "message": "no coverage — nearest proven config is 1 dimensions away"},
        id="a family without proof is told how far the nearest one is",
    ),
    pytest.param(
        PROVEN,
        config(tp_degree="1"),
        {"substitutions": [offered(0, 0), offered(2, 1, TARGET), offered(3, 1, "instance_family: 'g5' → 'g6'")]},
        id="an exact match has distance 0 and nothing to explain; a row without time comes last",
    ),
    pytest.param(
        PROVEN,
        config(instance_family="p5", quantization="fp8", tp_degree=8, deployment_target="batch-transform"),
        {
            "substitutions": [
                offered(2, 4, *FAR, "deployment_target: 'batch-transform' → 'realtime-inference'"),
                offered(0, 4, *FAR, "deployment_target: 'batch-transform' → 'async-inference'"),
                offered(
                    3,
                    4,
                    "instance_family: 'p5' → 'g6'",
                    *FAR[1:],
                    "deployment_target: 'batch-transform' → 'async-inference'",
                ),
            ]
        },
        id="far away the newest still comes first",
    ),
    pytest.param(
        [],
        SGLANG,
        {"no_match": True, "message": "no coverage — no proven configs available"},
        id="no rows are no proof",
    ),
    pytest.param(
        [row("2026-06-01T00:00:00Z", status="failed")],
        SGLANG,
        {"no_match": True, "message": "no coverage — no proven configs available"},
        id="a failed row is no proof",
    ),
]


@pytest.mark.parametrize(("rows", "request_", "expected"), PUBLISHED)
def test_published_answers_come_out_exactly(
    rows: list[dict[str, Any]], request_: dict[str, Any], expected: dict[str, Any]
) -> None:
    answer = SubstitutionIndex(rows).answer(Vector.of(request_))
    assert answer.to_json() == expected
    assert json.loads(json.dumps(answer.to_json())) == expected


def order(*rows: Mapping[str, Any], top: int = 9) -> list[str]:
    """The instance families of the answers to a request that differs from every row in the instance family."""
    found = asked(*rows, instance_family="p5", top=top)
    return [each["config"]["instance_family"] for each in found["substitutions"]]


def at(family: str, moment: Any) -> dict[str, Any]:
    return {**row(instance_family=family), "run_timestamp": moment}


NEW = datetime(2026, 6, 2, tzinfo=UTC)
ORDERS = [
    ("newest first", [at("a", "2026-06-01T00:00:00Z"), at("b", "2026-06-02T00:00:00Z")], ["b", "a"]),
    ("equal times keep the input order", [at("b", "2026-06-01"), at("a", "2026-06-01"), at("c", "2026-06-01")], ["b", "a", "c"]),
    ("null, empty and absent times are older than all and keep the input order",
     [at("a", None), at("b", ""), row(instance_family="c"), at("d", "1950-01-01")], ["d", "a", "b", "c"]),
    ("not-a-time and not-a-number are absent times",
     [at("a", float("nan")), at("b", "2026-06-01")], ["b", "a"]),
    ("a time without zone is UTC", [at("a", "2026-06-01T12:00:00"), at("b", "2026-06-01T12:30:00Z")], ["b", "a"]),
    ("times are compared as moments, not as texts",
     [at("a", "2026-06-01T10:00:00+09:00"), at("b", "2026-06-01T02:00:00Z")], ["b", "a"]),
    ("texts and datetimes stand together",
     [at("a", "2026-06-01T23:59:59Z"), at("b", NEW), at("c", "2026-06-02T00:00:00.000001Z")], ["c", "b", "a"]),
    ("a datetime of another zone is its moment",
     [at("a", datetime(2026, 6, 2, 5, tzinfo=timezone(timedelta(hours=9)))), at("b", "2026-06-01T21:00:00Z")], ["b", "a"]),
    ("a microsecond decides", [at("a", "2026-06-01T00:00:00.000001Z"), at("b", "2026-06-01T00:00:00.000002Z")], ["b", "a"]),
    ("times far away keep their microseconds",
     [at("a", "9999-12-30T00:00:00.000001Z"), at("b", "9999-12-30T00:00:00.000002Z"), at("c", "0001-01-01")], ["b", "a", "c"]),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "expected"), [pytest.param(r, e, id=why) for why, r, e in ORDERS])
def test_at_equal_distance_time_decides_and_then_the_input(rows: list[dict[str, Any]], expected: list[str]) -> None:
    assert order(*rows) == expected


def test_a_vector_is_offered_once_by_its_newest_row() -> None:
    rows = [at("g5", "2026-06-01"), at("g6", "2026-06-02"), at("g5", "2026-06-03"), at("g5", "2026-06-03")]
    found = asked(*(dict(each, run_id=index) for index, each in enumerate(rows)))["substitutions"]
    assert [each["config"]["run_id"] for each in found] == [2, 1]


VALUES = [
    ("1, 1.0 and '1' are one degree", [row(tp_degree="1"), row(tp_degree=1.0)], {"tp_degree": 1}, [0]),
    ("a missing value is the empty text", [row(quantization=None)], {"quantization": ""}, [0]),
    ("a missing value differs from every other", [row(quantization=None)], {}, [1]),
    ("the stored name of the sixth dimension is read",
     [{**row(tp_degree=None), "tensor_parallel_degree": 4}], {"tp_degree": 4}, [0]),
    ("only the very same family counts", [row(model_family="qwen"), row(model_family="qwen3", tp_degree=2)], {}, [1]),
    ("an unfeasible row proves nothing", [row(status="unfeasible"), row(tp_degree=2)], {}, [1]),
    ("a failed row does not take a proof back", [row(), row(status="failed")], {}, [0]),
    ("a value that nobody proved differs from all", [row()], {"tp_degree": "16"}, [1]),
    ("all five other dimensions may differ",
     [row()], {name: "x" for name in DIMENSIONS if name != "model_family"}, [5]),
    ("an empty family is a family like any other", [row(model_family=None)], {"model_family": ""}, [0]),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "changed", "distances"), [pytest.param(r, c, d, id=why) for why, r, c, d in VALUES])
def test_values_are_compared_as_texts(
    rows: list[dict[str, Any]], changed: dict[str, Any], distances: list[int]
) -> None:
    assert [each["distance"] for each in asked(*rows, **changed)["substitutions"]] == distances


def test_a_family_whose_rows_all_failed_is_told_how_far_the_nearest_proof_is() -> None:
    rows = [row(status="failed"), row(model_family="llama3", tp_degree=2), row(model_family="llama3", tp_degree=4)]
    assert asked(*rows) == {"no_match": True, "message": "no coverage — nearest proven config is 2 dimensions away"}


def test_the_top_bounds_the_answer() -> None:
    rows = [row(tp_degree=degree) for degree in range(100)]
    assert len(asked(*rows, tp_degree="x", top=70)["substitutions"]) == 70
    assert len(asked(*rows, tp_degree="x")["substitutions"]) == 3
    assert len(asked(*rows, tp_degree="x", top=1000)["substitutions"]) == 100
    with pytest.raises(UsageError, match="ask for 1 or more"):
        asked(*rows, top=0)


def plain_answer(rows: Sequence[Mapping[str, Any]], requested: Vector, top: int) -> list[tuple[int, int]]:
    """The rules read word by word, every row compared with the request: (row, distance) of the best ones."""
    least = datetime.min.replace(tzinfo=UTC)
    proven = [
        (index, Vector.of(each), each["run_timestamp"] or least)
        for index, each in enumerate(rows)
        if each["status"] == "completed" and text_value(each["model_family"]) == requested.model_family
    ]

    def distance(vector: Vector) -> int:
        return sum(a != b for a, b in zip(vector.values(), requested.values(), strict=True))

    ranked = sorted(proven, key=lambda item: (distance(item[1]), least - item[2], item[0]))
    seen: dict[Vector, tuple[int, int]] = {}
    for index, vector, _ in ranked:
        seen.setdefault(vector, (index, distance(vector)))
    return list(seen.values())[:top]


VALUE = st.sampled_from([None, "", "a", "b", 1, 1.0, "1", True])
ROW = st.fixed_dictionaries(
    {
        **dict.fromkeys(DIMENSIONS, VALUE),
        "model_family": st.sampled_from(["a", "b", None]),
        "status": st.sampled_from(["completed", "completed", "completed", "failed", None]),
        "run_timestamp": st.sampled_from([None, *(NEW + timedelta(hours=hours) for hours in range(4))]),
    }
)
REQUEST = st.fixed_dictionaries({**dict.fromkeys(DIMENSIONS, VALUE), "model_family": st.sampled_from(["a", "b", "c"])})


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(ROW, max_size=150), request_=REQUEST, top=st.integers(1, 5))
def test_the_index_answers_what_the_rules_say_row_by_row(
    rows: list[dict[str, Any]], request_: dict[str, Any], top: int
) -> None:
    requested = Vector.of(request_)
    expected = plain_answer(rows, requested, top)
    for given_rows in (rows, {name: [each[name] for each in rows] for name in ROW_NAMES}):
        answer = SubstitutionIndex(given_rows).answer(requested, top=top)
        assert [(dict(each.config), each.distance) for each in answer.substitutions] == [
            (rows[index], distance) for index, distance in expected
        ]
        assert all(each.proven == Vector.of(each.config) for each in answer.substitutions)
        if not expected:
            others = [Vector.of(each) for each in rows if each["status"] == "completed"]
            distances = [sum(map(str.__ne__, v.values(), requested.values())) for v in others]
            assert answer.nearest == min(distances, default=None)


ROW_NAMES = (*DIMENSIONS, "status", "run_timestamp")


def test_many_vectors_of_one_family_are_found_wherever_they_stand() -> None:
    """More vectors than a machine word has bits: the answers lie in the first, a middle and the last word."""
    rows = [row(f"2026-06-01T00:{minute:02}:00Z", tp_degree=degree, quantization=f"q{minute}")
            for degree in range(8) for minute in range(60)]  # fmt: skip
    index = SubstitutionIndex(rows)
    for place in (0, 63, 64, 200, 479):
        (best, *_) = index.answer(Vector.of(rows[place])).substitutions
        assert (best.distance, dict(best.config)) == (0, rows[place])


def test_vectors_are_told_apart_when_their_values_have_more_products_than_a_number_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(substitution_module, "_LARGEST_KEY", 1)
    rows = [row(tp_degree=degree, quantization=q, instance_family=f) for degree in "12" for q in "ab" for f in "xyz"]
    index = SubstitutionIndex([*rows, *rows])
    assert len(index) == 12
    assert [index.answer(Vector.of(each)).substitutions[0].config for each in rows] == rows


def test_arrays_with_times_of_nanoseconds_are_columns_too() -> None:
    times = np.array(["2026-06-01", "NaT", "2026-06-02"], dtype="datetime64[ns]")
    columns = {
        **{name: np.array([value] * 3) for name, value in config().items()},
        "tp_degree": np.array([1, 2, 4]),
        "status": ["completed"] * 3,
        "run_timestamp": times,
    }
    found = SubstitutionIndex(columns).answer(Vector.of(config(tp_degree=8))).to_json()["substitutions"]
    assert [(each["config"]["tp_degree"], each["config"]["run_timestamp"]) for each in found] == [
        (4, "2026-06-02T00:00:00"),
        (1, "2026-06-01T00:00:00"),
        (2, None),
    ]
    json.dumps(found)


def test_what_else_a_row_has_comes_back_with_the_answer() -> None:
    (found,) = asked({**row(NEW), "ttft_p50_ms": 12.5})["substitutions"]
    assert found["config"] == {**row(), "run_timestamp": "2026-06-02T00:00:00+00:00", "ttft_p50_ms": 12.5}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        pytest.param(
            [row("yesterday"), row("soon"), row("never", status="failed")],
            r"2 mistakes.*\n.*row 0: run_timestamp 'yesterday'.*\n.*row 1: run_timestamp 'soon'",
            id="every unreadable time of a proof, and none of other rows",
        ),
        pytest.param({"model_family": ["a"]}, "status: column is missing", id="nothing says what is proven"),
        pytest.param(
            {"model_family": ["a"], "status": ["completed"], "run_timestamp": [], "run_id": []},
            r"run_timestamp: 0 rows, status 1\n.*run_id: 0 rows",
            id="columns of unequal length",
        ),
    ],
)
def test_rows_that_cannot_be_ranked_are_refused_naming_every_mistake(rows: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        SubstitutionIndex(rows)
