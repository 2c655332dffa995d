"""Everything that is wrong with an evaluation is said, all at once; what is right is read as it stands."""

import json
from typing import Any

import pytest
from gate_documents import HASH, baseline_document, baseline_of, candidate_document, candidate_of, items_of
from hypothesis import given
from hypothesis import strategies as st

from mlcc_dagster.core.evaluation_reading import read_baseline, read_candidate
from mlcc_dagster.core.evaluations import BucketScore, CandidateEvaluation, EvalBaseline, Item, scores_of
from mlcc_dagster.core.exceptions import UsageError

TWO = {"tense": (0.9, 240), "person": (0.5, 10)}
ITEMS = items_of({"tense": [True] * 9 + [False], "person": [True, False]})
WITH_ITEMS = candidate_document({"tense": (0.9, 10), "person": (0.5, 2)}, items=ITEMS)


def spoilt(**changes: Any) -> dict[str, Any]:
    return candidate_document(TWO) | changes


@pytest.mark.parametrize(
    ("document", "words"),
    [
        pytest.param([1], "must be an object", id="a list"),
        pytest.param("text", "must be an object", id="a text"),
        pytest.param(spoilt(schema_version=2), "schema_version is 2", id="a newer schema"),
        pytest.param(spoilt(schema_version="1"), "schema_version is '1'", id="a version as text"),
        pytest.param(spoilt(schema_version=True), "schema_version is true", id="a version that is true"),
        pytest.param(spoilt(eval_set_dvc_hash=None), "eval_set_dvc_hash must be", id="no hash"),
        pytest.param(spoilt(eval_set_dvc_hash="  "), "eval_set_dvc_hash must be", id="an empty hash"),
        pytest.param(spoilt(eval_set_dvc_hash=7), "eval_set_dvc_hash must be", id="a number as hash"),
        pytest.param(spoilt(candidate_sha=7), "candidate_sha must be", id="a number as sha"),
        pytest.param(spoilt(buckets={}), "at least one bucket", id="no buckets"),
        pytest.param(spoilt(buckets=[]), "buckets must be", id="a list of buckets"),
        pytest.param(spoilt(buckets=None), "buckets must be", id="absent buckets"),
        pytest.param(candidate_document({"a": (1.01, 5)}), "buckets.a.accuracy must be", id="above 1"),
        pytest.param(candidate_document({"a": (-0.01, 5)}), "buckets.a.accuracy must be", id="below 0"),
        pytest.param(candidate_document({"a": (float("nan"), 5)}), "not nan", id="not a number"),
        pytest.param(candidate_document({"a": (float("inf"), 5)}), "not inf", id="infinite"),
        pytest.param(candidate_document({"a": (True, 5)}), "not true", id="an accuracy that is true"),
        pytest.param(candidate_document({"a": ("0.9", 5)}), "not '0.9'", id="an accuracy as text"),
        pytest.param(candidate_document({"a": (10**400, 5)}), "buckets.a.accuracy must be", id="no float holds it"),
        pytest.param(candidate_document({"a": (0.9, 0)}), "buckets.a.n must be", id="an empty bucket"),
        pytest.param(candidate_document({"a": (0.9, -3)}), "buckets.a.n must be", id="fewer than none"),
        pytest.param(candidate_document({"a": (0.9, 2.0)}), "buckets.a.n must be", id="a broken number of items"),
        pytest.param(candidate_document({"a": (0.9, True)}), "buckets.a.n must be", id="a number that is true"),
        pytest.param(
            candidate_document({"a": (0.9, 10**12)}), "buckets.a.n must be", id="more items than there can be"
        ),
        pytest.param(spoilt(buckets={"a": 0.9}), "buckets.a must be an object", id="an accuracy alone"),
        pytest.param(spoilt(items={}), "items must be a list", id="items as an object"),
        pytest.param(spoilt(items=[5]), "items[0] must be an object", id="an item as a number"),
        pytest.param(spoilt(items=[{"id": "", "buckets": ["tense"], "correct": True}]), "items[0].id", id="no id"),
        pytest.param(
            spoilt(items=[{"id": "a", "buckets": [], "correct": True}]), "items[0].buckets", id="of no bucket"
        ),
        pytest.param(
            spoilt(items=[{"id": "a", "buckets": "tense", "correct": True}]), "items[0].buckets", id="one text"
        ),
        pytest.param(spoilt(items=[{"id": "a", "buckets": ["x", "x"], "correct": True}]), "bucket twice", id="twice"),
        pytest.param(
            spoilt(items=[{"id": "a", "buckets": ["tense"], "correct": 1}]), "items[0].correct", id="1 for true"
        ),
        pytest.param(
            WITH_ITEMS | {"items": [ITEMS[0], ITEMS[0], *ITEMS[2:]]}, "have item tense-0 twice", id="an item twice"
        ),
        pytest.param(WITH_ITEMS | {"items": ITEMS[1:]}, "is 10 and 9 of the items", id="an item missing"),
        pytest.param(WITH_ITEMS | {"items": [*ITEMS[1:], ITEMS[0] | {"correct": False}]}, "8 of 10 items", id="a lie"),
        pytest.param(
            WITH_ITEMS | {"items": [*ITEMS, {"id": "z", "buckets": ["verb"], "correct": True}]},
            "name bucket verb",
            id="an item of another bucket",
        ),
        pytest.param(spoilt(evaluated={"cost_usd": -1}), "evaluated.cost_usd", id="a negative cost"),
        pytest.param(spoilt(evaluated=3), "evaluated must be", id="evaluated as a number"),
    ],
)
def test_what_is_wrong_is_a_problem_that_says_what_to_do(document: Any, words: str):
    read = candidate_of(document)
    assert read.document is None
    assert len(read.problems) == 1, read.problems
    assert words in read.problems[0]
    assert read.problems[0].startswith("candidate_eval.json: ")
    assert ";" in read.problems[0], "what to do next"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"baseline_sha": None}, "baseline_sha must be"),
        ({"previous_baseline_sha": 5}, "previous_baseline_sha must be"),
        ({"tolerance_pp": None}, "tolerance_pp must be a share"),
        ({"tolerance_pp": 2}, "tolerance_pp must be a share"),
        ({"tolerance_pp": -0.01}, "tolerance_pp must be a share"),
        ({"tolerance_pp": float("nan")}, "tolerance_pp must be a share"),
        ({"tolerance_pp": True}, "tolerance_pp must be a share"),
        ({"tolerance_before": "0.02"}, "tolerance_before must be a share"),
    ],
    ids=lambda value: str(value),
)
def test_a_baseline_needs_what_a_gate_goes_by(changes: dict[str, Any], words: str):
    read = baseline_of(baseline_document(TWO, **changes))
    assert read.document is None and len(read.problems) == 1
    assert words in read.problems[0]


def test_all_problems_come_at_once():
    document = baseline_document(
        {"a": (2.0, 0), "b": (float("nan"), 5)}, baseline_sha="", tolerance_pp=5, schema_version=9, eval_set_dvc_hash=""
    )
    assert len(baseline_of(document).problems) == 7


def test_a_name_that_stands_twice_is_a_problem_and_not_the_last_one_taken():
    text = (
        f'{{"eval_set_dvc_hash": "{HASH}", "buckets": {{"a": {{"accuracy": 0.1, "n": 5}}, '
        '"a": {"accuracy": 0.99, "n": 5, "n": 6}}}'
    )
    problems = read_candidate(text, source="c.json").problems
    assert [problem.partition(";")[0] for problem in problems] == [
        "c.json: buckets.a stands there twice",
        "c.json: buckets.a.n stands there twice",
    ]


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"buckets": {"a": {"accuracy": 0.9', "not json", "[" * 100_000, '{"a": 1} trailing'],
    ids=["empty", "cut", "cut in a bucket", "no json", "nested without end", "something behind"],
)
def test_what_is_no_json_is_an_unusable_request(text: str):
    for read in (read_candidate, read_baseline):
        with pytest.raises(UsageError, match="not readable as JSON") as caught:
            read(text, source="file.json")
        assert caught.value.exit_code == 2


def test_a_document_of_an_existing_gate_is_read_without_a_schema_version():
    read = baseline_of(baseline_document(TWO))
    assert read.document == EvalBaseline(
        HASH, "b" * 40, "a" * 40, 0.02, {"tense": BucketScore(0.9, 240), "person": BucketScore(0.5, 10)}
    )


@pytest.mark.parametrize("accuracy", [0.8667, 0.86667, 0.8666666666666667])
def test_a_rounded_accuracy_agrees_with_its_items(accuracy: float):
    items = items_of({"a": [True] * 13 + [False] * 2})
    assert candidate_of(candidate_document({"a": (accuracy, 15)}, items=items)).problems == ()


answers = st.lists(st.tuples(st.lists(st.sampled_from("abc"), min_size=1, unique=True), st.booleans()), min_size=1)


@given(answers)
def test_what_was_written_is_read_back(given_answers: list[tuple[list[str], bool]]):
    items = tuple(Item(f"q{n}", tuple(buckets), right) for n, (buckets, right) in enumerate(given_answers))
    made = CandidateEvaluation(HASH, "c" * 64, scores_of(items), items, {"cost_usd": 0.5})
    assert candidate_of(made.to_json()).document == made
    baseline = EvalBaseline(HASH, "c" * 64, None, 0.02, scores_of(items), items, "https://example.com/1", 0.01)
    assert baseline_of(baseline.to_json()).document == baseline


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["buckets", "items", "accuracy", "n", "id", "correct", "eval_set_dvc_hash", "a"]), inner
            )
        ),
    )
)
def test_whatever_the_json_is_reading_answers_and_never_crashes(document: Any):
    read = read_candidate(json.dumps(document), source="c")
    assert (read.document is None) == bool(read.problems)
