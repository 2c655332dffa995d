"""The gap lists: the observed universe against its plain reading, and the catalog universe with its reasons."""

import itertools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcc_dagster.core import gaps as gaps_module
from mlcc_dagster.core.configuration import DIMENSIONS, Vector, text_value
from mlcc_dagster.core.exceptions import InvalidInput, UsageError
from mlcc_dagster.core.gaps import GapList, catalog_gaps, observed_gaps
from mlcc_dagster.core.standing import Expiry, Reason, Standing

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def row(*values: Any, status: str | None = "completed", **more: Any) -> dict[str, Any]:
    """A row with the first dimensions given; the others have no key at all."""
    return {**dict(zip(DIMENSIONS, values, strict=False)), "status": status, **more}


def plain_gaps(rows: Sequence[Mapping[str, Any]]) -> list[tuple[dict[str, str], int]]:
    """The rules of the observed universe read word by word, every gap compared with every proven vector."""
    if not rows:
        return []

    def missing(value: Any) -> bool:
        return value is None or value != value

    values: dict[str, list[str]] = {}
    for name in DIMENSIONS:
        seen = list(dict.fromkeys(text_value(r[name]) for r in rows if not missing(r.get(name))))
        if seen:
            values[name] = seen
    proven = {tuple(text_value(r.get(name)) for name in DIMENSIONS) for r in rows if r.get("status") == "completed"}
    found = []
    for combination in itertools.product(*values.values()):
        gap = dict(zip(values, combination, strict=True))
        vector = tuple(gap.get(name, "") for name in DIMENSIONS)
        if vector not in proven:
            distances = (sum(a != b for a, b in zip(vector, each, strict=True)) for each in proven)
            found.append((gap, sum(1 for distance in distances if distance == 1)))
    return sorted(found, key=lambda item: -item[1])


def listed(gaps: GapList) -> list[tuple[dict[str, str], int]]:
    return list(zip(gaps.to_json(), gaps.neighbours.tolist(), strict=True))


VLLM = ("transformers-vllm", "qwen3", "g5", "none", 1, "realtime-inference")


def vllm(**changed: Any) -> dict[str, Any]:
    return {**dict(zip(DIMENSIONS, VLLM, strict=True)), "status": "completed", **changed}


def gap(**changed: str) -> dict[str, str]:
    return {**dict(zip(DIMENSIONS, map(str, VLLM), strict=True)), **changed}


CROSS = [
    vllm(),
    vllm(quantization="fp8"),
    vllm(instance_family="g6"),
    vllm(tp_degree=2, status="failed"),
    vllm(model_family="llama3", status="unfeasible"),
]

PUBLISHED = [
    pytest.param([], [], id="no rows have no gaps"),
    pytest.param([vllm()], [], id="one proven vector is its whole universe"),
    pytest.param(
        CROSS,
        [
            gap(instance_family="g6", quantization="fp8"),
            gap(tp_degree="2"),
            gap(quantization="fp8", tp_degree="2"),
            gap(instance_family="g6", tp_degree="2"),
            gap(model_family="llama3"),
            gap(model_family="llama3", quantization="fp8"),
            gap(model_family="llama3", instance_family="g6"),
            gap(instance_family="g6", quantization="fp8", tp_degree="2"),
            gap(model_family="llama3", tp_degree="2"),
            gap(model_family="llama3", quantization="fp8", tp_degree="2"),
            gap(model_family="llama3", instance_family="g6", tp_degree="2"),
            gap(model_family="llama3", instance_family="g6", quantization="fp8"),
            gap(model_family="llama3", instance_family="g6", quantization="fp8", tp_degree="2"),
        ],
        id="failed and unfeasible rows bring values and stay gaps; most proven neighbours first",
    ),
    pytest.param(
        [
            row("http-flask", "other", None, "none", 1),
            row("http-flask", "other", "m5", "none", 1, "realtime-inference"),
        ],
        [],
        id="a row with nulls brings no value for them",
    ),
    pytest.param(
        [vllm(status="failed"), vllm(instance_family="g6", status="failed")],
        [gap(), gap(instance_family="g6")],
        id="only failed rows make everything a gap in product order",
    ),
]


@pytest.mark.parametrize(("rows", "expected"), PUBLISHED)
def test_published_examples_come_out_element_for_element(
    rows: list[dict[str, Any]], expected: list[dict[str, str]]
) -> None:
    assert observed_gaps(rows).to_json() == expected


READINGS = [
    ("a vector proven with a null is next to every value there", [row("a", None), row("b", "x", status="failed")],
     [({"deployment_config": "a", "model_family": "x"}, 1), ({"deployment_config": "b", "model_family": "x"}, 0)]),
    ("a vector proven with two nulls is next to nothing", [row("a", None, None), row("b", "x", "g", status="failed")],
     [({"deployment_config": d, "model_family": "x", "instance_family": "g"}, 0) for d in "ab"]),
    ("an empty text in a row is a value and equal to a null", [row("a", "", status="failed"), row("a", None)], []),
    ("an empty text keeps its place among the values", [row("a", "x"), row("b", "", status="failed")],
     [({"deployment_config": "a", "model_family": ""}, 1), ({"deployment_config": "b", "model_family": "x"}, 1),
      ({"deployment_config": "b", "model_family": ""}, 0)]),
    ("1, 1.0 and '1' are one value", [row("a", tp_degree=1), row("a", tp_degree=1.0, status="failed"),
                                      row("a", tp_degree="1", status="failed")], []),
    ("a boolean is neither 1 nor 0", [row("a", tp_degree=1), row("a", tp_degree=True, status="failed")],
     [({"deployment_config": "a", "tp_degree": "true"}, 1)]),
    ("a not-a-number is a null", [row("a", tp_degree=float("nan")), row("b", tp_degree=2, status="failed")],
     [({"deployment_config": "a", "tp_degree": "2"}, 1), ({"deployment_config": "b", "tp_degree": "2"}, 0)]),
    ("a proven vector counts once however often it was proven", [row("a")] * 3 + [row("b", status="failed")],
     [({"deployment_config": "b"}, 1)]),
    ("a failed row does not take a proof back", [row("a"), row("a", status="failed")], []),
    ("a status in other letters proves nothing", [row("a", status="Completed")], [({"deployment_config": "a"}, 0)]),
    ("rows without any value leave one empty vector, unproven", [row(status="failed")], [({}, 0)]),
    ("rows without any value leave one empty vector, proven", [row()], []),
    ("the stored name of the sixth dimension is read", [row("a", tensor_parallel_degree=4, status="failed")],
     [({"deployment_config": "a", "tp_degree": "4"}, 0)]),
    ("the sixth dimension's own name comes before the stored one",
     [row("a", tp_degree=2, tensor_parallel_degree=4, status="failed")],
     [({"deployment_config": "a", "tp_degree": "2"}, 0)]),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "expected"), [pytest.param(r, e, id=why) for why, r, e in READINGS])
def test_values_are_read_as_texts(rows: list[dict[str, Any]], expected: list[tuple[dict[str, str], int]]) -> None:
    assert listed(observed_gaps(rows)) == expected


VALUES = st.sampled_from([None, "", "a", "b", "c", 1, 1.0, "1", "1.0", 2, True, False, float("nan"), "a|b"])
ROWS = st.lists(
    st.fixed_dictionaries(
        {"status": st.sampled_from(["completed", "completed", "failed", "unfeasible", None])},
        optional=dict.fromkeys(DIMENSIONS, VALUES),
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(ROWS)
def test_both_forms_give_what_the_rules_say_pair_by_pair(rows: list[dict[str, Any]]) -> None:
    expected = plain_gaps(rows)
    assert listed(observed_gaps(rows)) == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gaps_module, "_dense", gaps_module._sparse)
        assert listed(observed_gaps(rows)) == expected


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(*(st.integers(0, 4) for _ in DIMENSIONS), st.sampled_from(["completed", "failed"])),
        min_size=1,
        max_size=14,
    )
)
def test_rows_and_columns_give_the_same_list(table: list[tuple[Any, ...]]) -> None:
    names = (*DIMENSIONS, "status")
    rows = [dict(zip(names, values, strict=True)) for values in table]
    columns = {name: [r[name] for r in rows] for name in names}
    arrays = {name: np.array(column) for name, column in columns.items()}
    assert listed(observed_gaps(columns)) == listed(observed_gaps(arrays)) == listed(observed_gaps(iter(rows)))


def test_a_product_too_large_to_hold_is_ranked_and_read_at_any_place() -> None:
    table = {name: [f"{name}{value}" for value in range(600)] for name in DIMENSIONS}
    gaps = observed_gaps({**table, "status": ["completed"] * 3 + ["failed"] * 597})
    assert len(gaps) == 600**6 - 3

    neighbouring = 3 * 6 * 599
    assert gaps.head(neighbouring + 1).neighbours.tolist() == [1] * neighbouring + [0]

    def codes(vector: Vector) -> tuple[int, ...]:
        return tuple(int(text.removeprefix(name)) for name, text in zip(DIMENSIONS, vector.values(), strict=True))

    # Product order: (0,0,0,0,0,0) is proven, all vectors with one other value are ranked, two others are in the rest.
    assert codes(gaps[0]) == (0, 0, 0, 0, 0, 1)
    assert codes(gaps[neighbouring]) == (0, 0, 0, 0, 1, 1)
    assert codes(gaps[neighbouring + 598]) == (0, 0, 0, 0, 1, 599)
    assert codes(gaps[neighbouring + 599]) == (0, 0, 0, 0, 2, 1)
    assert codes(gaps[-1]) == (599,) * 6


def test_a_slice_shares_the_order_of_the_list() -> None:
    gaps = observed_gaps(CROSS)
    everything = list(gaps)
    for part in (slice(2, 5), slice(None, None, -1), slice(-3, None), slice(1, None, 4), slice(5, 2)):
        assert list(gaps[part]) == everything[part]
        assert len(gaps[part]) == len(everything[part])
    assert gaps[1:][1:][0] == everything[2]
    assert gaps[-1] == everything[-1]
    with pytest.raises(IndexError):
        gaps[len(everything)]
    assert list(gaps.head(100)) == everything
    with pytest.raises(ValueError, match="0 or more"):
        gaps.head(-1)


def test_a_gap_without_a_dimension_has_the_empty_text_there() -> None:
    gaps = observed_gaps([row("a", "x", status="failed")])
    assert list(gaps) == [Vector("a", "x", "", "", "", "")]
    assert gaps.dimensions == ("deployment_config", "model_family")
    assert gaps.to_json(neighbours=True) == [{"deployment_config": "a", "model_family": "x", "neighbours": 0}]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        pytest.param({"model_family": ["a"]}, "status: column is missing", id="nothing says what is proven"),
        pytest.param(
            {"model_family": ["a"], "status": ["failed", "failed"]}, "model_family 1, status 2", id="unequal lengths"
        ),
    ],
)
def test_columns_that_do_not_fit_together_are_refused(columns: dict[str, list[str]], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        observed_gaps(columns)


def test_a_product_beyond_counting_is_refused_with_its_size() -> None:
    many = [str(value) for value in range(2000)]
    with pytest.raises(UsageError, match=r"6\.4e\+19 vectors; select fewer rows"):
        observed_gaps({**dict.fromkeys(DIMENSIONS, many), "status": ["failed"] * 2000})


def vector(**changed: Any) -> Vector:
    return Vector.of(vllm(**changed))


def failed(category: str, ago: timedelta, run: int = 1, status: str = "failed", **changed: Any) -> dict[str, Any]:
    at = (NOW - ago).isoformat()
    return vllm(
        status=status, run_id=f"run-{run}", run_timestamp=at, failure_category=category, failure_reason="why", **changed
    )


HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)

REASONS = [
    ("nothing was tried", [], {}, Reason.UNTESTED, "no run of it yet"),
    ("capacity waits an hour", [failed("capacity", 59 * MINUTE)], {}, Reason.RETRY_NOT_DUE, "2026-03-01 12:01 UTC"),
    ("capacity is due after an hour", [failed("capacity", HOUR)], {}, Reason.FAILED_RETRY_DUE, "attempt 1"),
    (
        "the third failure of a category parks",
        [failed("capacity", (4 - n) * HOUR, run=n) for n in (1, 2, 3)],
        {},
        Reason.PARKED,
        "attempt 3",
    ),
    (
        "rows of one run are one attempt",
        [failed("capacity", HOUR, run=1)] * 5,
        {},
        Reason.FAILED_RETRY_DUE,
        "attempt 1",
    ),
    (
        "another category counts anew",
        [failed("capacity", 5 * HOUR, run=1), failed("capacity", 4 * HOUR, run=2), failed("timeout", HOUR, run=3)],
        {},
        Reason.FAILED_RETRY_DUE,
        "timeout: why (attempt 1",
    ),
    ("a verdict stands", [failed("oom", HOUR, status="unfeasible")], {}, Reason.UNFEASIBLE, "oom: why"),
    (
        "the newest row decides: unfeasible",
        [failed("oom", HOUR, run=2, status="unfeasible"), failed("capacity", 2 * HOUR)],
        {},
        Reason.UNFEASIBLE,
        "oom",
    ),
    (
        "the newest row decides: failed",
        [failed("oom", 3 * HOUR, run=2, status="unfeasible"), failed("capacity", 2 * HOUR)],
        {},
        Reason.FAILED_RETRY_DUE,
        "capacity",
    ),
    (
        "a verdict ends when what it depended on changes",
        [failed("oom", 2 * HOUR, status="unfeasible")],
        {"expiries": {vector(): Expiry(NOW - HOUR, "image changed")}},
        Reason.UNFEASIBLE_EXPIRED,
        "image changed (was oom: why)",
    ),
    (
        "a verdict newer than the change stands",
        [failed("oom", HOUR, status="unfeasible")],
        {"expiries": {vector(): Expiry(NOW - 2 * HOUR, "image changed")}},
        Reason.UNFEASIBLE,
        "oom",
    ),
    (
        "a verdict of the moment of the change ends with it",
        [failed("oom", HOUR, status="unfeasible")],
        {"expiries": {vector(): Expiry(NOW - HOUR, "image changed")}},
        Reason.UNFEASIBLE_EXPIRED,
        "image changed",
    ),
    (
        "of several rows of one run the newest speaks",
        [failed("unknown", 3 * HOUR), failed("capacity", HOUR), failed("timeout", 2 * HOUR)],
        {},
        Reason.FAILED_RETRY_DUE,
        "capacity: why (attempt 1",
    ),
    (
        "lifting frees a parked vector",
        [failed("unknown", (4 - n) * HOUR, run=n) for n in (1, 2)],
        {"expiries": {vector(): Expiry(NOW, "lifted: cluster repaired")}},
        Reason.FAILED_RETRY_DUE,
        "cluster repaired",
    ),
    (
        "attempts before a lift are forgotten",
        [failed("unknown", (5 - n) * HOUR, run=n) for n in (1, 2, 3)],
        {"expiries": {vector(): Expiry(NOW - 2.5 * HOUR, "lifted: cluster repaired")}},
        Reason.FAILED_RETRY_DUE,
        "attempt 1",
    ),
    ("a person's mark holds", [], {"marks": {vector(): "too slow"}}, Reason.UNFEASIBLE, "by a person: too slow"),
    (
        "a category of a later version is retried like an unknown one",
        [failed("cosmic_rays", 2 * HOUR)],
        {},
        Reason.FAILED_RETRY_DUE,
        "cosmic_rays: why",
    ),
    (
        "a failure of unknown time is due",
        [vllm(status="failed", failure_category="capacity")],
        {},
        Reason.FAILED_RETRY_DUE,
        "capacity",
    ),
]


@pytest.mark.parametrize(
    ("rows", "words", "reason", "detail"), [pytest.param(r, w, e, d, id=why) for why, r, w, e, d in REASONS]
)
def test_each_gap_says_why_it_is_one(
    rows: list[dict[str, Any]], words: dict[str, Any], reason: Reason, detail: str
) -> None:
    standing = Standing.of(rows, **words)
    (found,) = catalog_gaps([vector()], standing, now=NOW)
    assert found.reason is reason
    assert detail in found.detail
    assert found.reason.startable is (reason in {"untested", "failed_retry_due", "unfeasible_expired"})


def test_catalog_gaps_are_the_possible_vectors_less_the_proven_ones_by_neighbours() -> None:
    possible = [vector(tp_degree=2, quantization="fp8"), vector(), vector(tp_degree=2), vector(tp_degree=4)]
    gone = vector(tp_degree=4, instance_family="retired")
    standing = Standing.of([vllm(), vllm(tp_degree=4, instance_family="retired"), vllm(tp_degree=4, status="failed")])
    found = catalog_gaps([*possible, possible[0]], standing, now=NOW)
    assert [(each.vector, each.neighbours) for each in found] == [
        (possible[3], 2),
        (possible[2], 1),
        (possible[0], 0),
    ]
    assert gone in standing.proven


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_catalog_neighbours_are_those_at_distance_one(data: st.DataObject) -> None:
    vectors = st.tuples(*(st.sampled_from("ab") for _ in DIMENSIONS)).map(lambda values: Vector(*values))
    possible = data.draw(st.lists(vectors, unique=True))
    proven = data.draw(st.lists(vectors, unique=True))
    standing = Standing.of([{**dict(zip(DIMENSIONS, v.values(), strict=True)), "status": "completed"} for v in proven])
    for found in catalog_gaps(possible, standing, now=NOW):
        distances = [sum(a != b for a, b in zip(found.vector.values(), v.values(), strict=True)) for v in proven]
        assert found.neighbours == distances.count(1)


def test_observed_gaps_are_explained_by_the_same_evidence() -> None:
    rows = [*CROSS, failed("capacity", MINUTE, tp_degree=8)]
    gaps = observed_gaps(rows)
    explained = list(gaps.explained(Standing.of(rows), now=NOW))
    assert [(each.vector, each.neighbours) for each in explained] == list(zip(gaps, gaps.neighbours, strict=True))
    reasons = {each.vector: each.reason for each in explained}
    assert reasons[vector(tp_degree=8)] is Reason.RETRY_NOT_DUE
    assert reasons[vector(model_family="llama3")] is Reason.UNFEASIBLE
    assert reasons[vector(model_family="llama3", tp_degree=8)] is Reason.UNTESTED


def test_times_that_cannot_be_read_are_all_named() -> None:
    rows = [vllm(status="failed", run_timestamp="yesterday"), vllm(), vllm(run_timestamp="soon")]
    with pytest.raises(InvalidInput) as caught:
        Standing.of(rows)
    assert len(caught.value.problems) == 2


def test_a_proven_vector_is_never_asked_for_a_reason() -> None:
    with pytest.raises(ValueError, match="is proven and no gap"):
        Standing.of([vllm()]).reason(vector(), now=NOW)
