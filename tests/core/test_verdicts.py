"""Verdicts end exactly when what they depended on changed, or when a person says so."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcc_dagster.core.configuration import Vector
from mlcc_dagster.core.gaps import catalog_gaps
from mlcc_dagster.core.standing import Reason, Standing, Status
from mlcc_dagster.core.verdicts import Say, Word, changes, expiries, marks, verdicts

NOW = datetime(2026, 11, 1, tzinfo=UTC)
CONSTRAINTS = {"memory-fit": 1}


def vector(server: str) -> Vector:
    return Vector(server, "qwen3", "g5", "none", "1", "realtime-inference")


def row(server: str, **values: Any) -> dict[str, Any]:
    return {
        "deployment_config": server,
        "model_family": "qwen3",
        "instance_family": "g5",
        "quantization": "none",
        "tp_degree": 1,
        "deployment_target": "realtime-inference",
        "status": "unfeasible",
        "failure_category": "oom",
        "failure_reason": "CUDA out of memory",
        "run_timestamp": (NOW - timedelta(days=1)).isoformat(),
        "run_id": f"{server}-g1",
        "engine": "vllm 0.9",
        "evidence": json.dumps({"template": "t1"}),
    } | values


def standing_of(rows: list[dict[str, Any]], today: dict[str, str], words: tuple[Word, ...] = ()) -> Standing:
    found = Standing.of(rows)
    ends = expiries(found.evidence, words, lambda _: today, CONSTRAINTS)
    return Standing(found.evidence, marks(words), ends)


def word(server: str, say: Say, at: datetime = NOW) -> Word:
    return Word(vector(server), say, "driver", "ann", at)


@pytest.mark.parametrize(
    ("recorded", "today", "said"),
    [
        pytest.param({"engine": "a"}, {"engine": "a"}, [], id="the same"),
        pytest.param({"engine": "a"}, {"engine": "b"}, ["engine changed from a to b"], id="another engine"),
        pytest.param({"image": "a"}, {"engine": "b"}, [], id="what is not known today has not changed"),
        pytest.param({}, {"engine": "b"}, [], id="what it did not depend on does not matter"),
        pytest.param({"constraint": "memory-fit@1"}, {}, [], id="the constraint as it was"),
        pytest.param(
            {"constraint": "memory-fit@2"}, {}, ["constraint changed from memory-fit@2 to memory-fit@1"], id="version"
        ),
        pytest.param({"constraint": "old@1"}, {}, ["constraint changed from old@1 to gone"], id="constraint removed"),
        pytest.param(
            {"template": "x", "engine": "a"},
            {"template": "y", "engine": "b"},
            ["engine changed from a to b", "template changed from x to y"],
            id="all changes at once",
        ),
    ],
)
def test_what_changed_is_named(recorded: dict[str, str], today: dict[str, str], said: list[str]) -> None:
    assert list(changes(recorded, today, CONSTRAINTS)) == said


SERVERS = ["a", "b", "c", "d"]


@given(
    engines=st.lists(st.sampled_from(["one", "two"]), min_size=4, max_size=4),
    statuses=st.lists(st.sampled_from(["unfeasible", "failed", "completed"]), min_size=4, max_size=4),
)
def test_exactly_the_verdicts_that_depended_on_the_engine_become_gaps_again(
    engines: list[str], statuses: list[str]
) -> None:
    rows = [row(s, engine=e, status=status) for s, e, status in zip(SERVERS, engines, statuses, strict=True)]
    before = standing_of(rows, {"engine": "one"})
    after = standing_of(rows, {"engine": "new"})
    for server, engine, status in zip(SERVERS, engines, statuses, strict=True):
        live = status == "unfeasible" and engine == "one"
        assert (before.status(vector(server)) is Status.UNFEASIBLE) is live
        assert after.status(vector(server)) is not Status.UNFEASIBLE
        if status != "unfeasible":
            assert after.status(vector(server)) is before.status(vector(server)), "only unfeasible verdicts expire"


def test_an_expired_verdict_is_a_gap_that_may_be_started_and_says_why() -> None:
    (gap,) = catalog_gaps([vector("a")], standing_of([row("a")], {"engine": "vllm 1.0"}), now=NOW)
    assert gap.reason is Reason.UNFEASIBLE_EXPIRED
    assert gap.reason.startable
    assert "engine changed from vllm 0.9 to vllm 1.0" in gap.detail


def test_a_failure_after_the_expiry_counts_anew() -> None:
    again = row("a", run_id="a-g2", run_timestamp=NOW.isoformat(), engine="vllm 1.0")
    assert standing_of([row("a"), again], {"engine": "vllm 1.0"}).status(vector("a")) is Status.UNFEASIBLE


def test_a_person_marks_and_lifts() -> None:
    nothing: list[dict[str, Any]] = []
    assert standing_of(nothing, {}, (word("a", Say.MARK),)).status(vector("a")) is Status.UNFEASIBLE
    lifted = standing_of([row("a")], {}, (word("a", Say.LIFT),))
    assert lifted.reason(vector("a"), now=NOW)[0] is Reason.UNFEASIBLE_EXPIRED
    assert "lifted by ann: driver" in lifted.reason(vector("a"), now=NOW)[1]


def test_a_lift_does_not_touch_what_failed_after_it() -> None:
    early = word("a", Say.LIFT, NOW - timedelta(days=2))
    assert standing_of([row("a")], {}, (early,)).status(vector("a")) is Status.UNFEASIBLE


def test_verdicts_are_listed_once_per_vector_live_ones_first() -> None:
    rows = [row("a", engine="old"), row("b"), row("c", status="failed"), row("d"), row("d", status="completed")]
    words = (word("e", Say.MARK),)
    found = verdicts(standing_of(rows, {"engine": "vllm 0.9"}, words), words)
    assert [(each.vector.deployment_config, each.live) for each in found] == [("e", True), ("b", True), ("a", False)]
    assert found[0].why == "marked: driver (ann)"
    assert found[2].why == "oom: CUDA out of memory; engine changed from old to vllm 0.9"


@pytest.mark.parametrize("evidence", [None, "", "no json", "[1]", "3"])
def test_rows_of_others_need_no_evidence(evidence: str | None) -> None:
    assert standing_of([row("a", evidence=evidence, engine=None)], {"engine": "x"}).status(vector("a")) is (
        Status.UNFEASIBLE
    )
