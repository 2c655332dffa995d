"""The contract of every CI table: one winner per claim, fenced writes, a record that follows its attempts."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.exceptions import LeaseLost, UsageError
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.outcome import BenchmarkPlan, Claim, Owner
from resources.ci_table import CiTable, Commit, Refused
from resources.sqlite_ci_table import SqliteCiTable

ROOT = Path(__file__).parents[2]
LEASE = 90.0
PLAN = BenchmarkPlan(enabled=True, workload="chat", concurrency_levels=(1, 4, 8))
CONFIGURATION = Configuration(
    deployment_config="http-fastapi",
    model_name="iris",
    model_family="sklearn",
    instance_type="local.1cpu",
    region="local",
    serving_params={"workers": "2"},
)
KEY = config_id(CONFIGURATION)
COMMIT = Commit(
    rows=({"run_id": "x", "status": "completed", "latency_ms": 1.25, "error": None},),
    status="completed",
    test_status="pass",
    run_status="pass",
    duration_seconds=12.5,
    stage_results={"build": {"status": "pass"}},
    benchmark_run_id="bmk-20250101T000000Z",
    benchmark_timestamp="2025-01-01T00:00:00.000000Z",
    benchmark_status="completed",
    image="registry:5000/team/app@sha256:abc",
    project_name="iris-app",
    cost_usd=0.5,
)


@dataclass
class Clock:
    """A clock that tests move by hand."""

    now: float = 1_750_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite"])
def table(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> CiTable:
    """Every implementation of the contract, on storage of its own."""
    makers: dict[str, Callable[[], CiTable]] = {"sqlite": lambda: SqliteCiTable(tmp_path / "state.sqlite", clock=clock)}
    return makers[request.param]()


def owner(name: str = "a") -> Owner:
    return Owner(host="laptop", pid=ord(name), start_ticks=7, boot_id="boot", dagster_run_id=f"dagster-run-{name}")


def ask(table: CiTable, *, round: str = "manual@1", by: str = "a", lease: float = LEASE) -> Claim | Refused:
    return table.claim(
        KEY,
        configuration=CONFIGURATION,
        round=round,
        owner=owner(by),
        lease_seconds=lease,
        run_type="ci",
        benchmark=PLAN,
    )


def claim(table: CiTable, *, round: str = "manual@1", by: str = "a", lease: float = LEASE) -> Claim:
    granted = ask(table, round=round, by=by, lease=lease)
    assert isinstance(granted, Claim), granted
    return granted


def test_registering_twice_changes_nothing(table: CiTable, clock: Clock) -> None:
    first = table.register(CONFIGURATION, benchmark=PLAN, tier="ci", catalog_id="iris-1")
    clock.now += 100
    assert table.register(CONFIGURATION, benchmark=PLAN, tier="ci", catalog_id="iris-1") == first
    assert table.register(CONFIGURATION, benchmark=PLAN) == first, "a field left out keeps what is recorded"
    assert table.records() == (first,)
    assert (first.config_id, first.test_status, first.configuration) == (KEY, "untested", CONFIGURATION)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"tier": "weekly"}, id="another tier"),
        pytest.param({"benchmark": replace(PLAN, concurrency_levels=(1,))}, id="another measurement"),
        pytest.param({"build_strategy": "docker-in-docker"}, id="another way to build"),
        pytest.param({"catalog_id": "iris-2"}, id="another catalog entry"),
        pytest.param({"reset": True}, id="a person asks for a new test"),
    ],
)
def test_registering_anew_resets_the_status_and_keeps_the_history(table: CiTable, change: dict[str, Any]) -> None:
    table.register(CONFIGURATION, benchmark=PLAN, tier="ci")
    held = claim(table)
    table.intend(held, COMMIT)
    table.finish(held.run_id)
    unchanged: dict[str, Any] = {"benchmark": PLAN}
    record = table.register(CONFIGURATION, **(unchanged | change))
    assert (record.test_status, record.previous_test_status) == ("untested", "pass")
    assert [a.run_id for a in table.attempts(KEY)] == [held.run_id]


def test_registering_anew_is_refused_while_a_run_would_change_under_its_feet(table: CiTable, clock: Clock) -> None:
    held = claim(table)
    assert table.register(CONFIGURATION, benchmark=PLAN).test_status == "running", "the same registration is no change"
    with pytest.raises(UsageError, match=r"laptop:97 .*mlcc reap"):
        table.register(CONFIGURATION, benchmark=PLAN, tier="ci")
    clock.now += LEASE + 1
    assert table.register(CONFIGURATION, benchmark=PLAN, tier="ci").test_status == "untested"
    with pytest.raises(LeaseLost):
        table.beat(held, LEASE)


def test_an_unknown_build_strategy_is_refused_with_the_known_ones(table: CiTable) -> None:
    with pytest.raises(UsageError, match="codebuild-submit, docker-in-docker"):
        table.register(CONFIGURATION, benchmark=PLAN, build_strategy="by-hand")


def test_find_takes_a_prefix_literally(table: CiTable) -> None:
    record = table.register(CONFIGURATION, benchmark=PLAN)
    assert table.find(KEY[:4]) == (record,)
    assert table.find("%") == table.find("_") == table.find(KEY + "0") == ()


def test_a_claim_of_an_unregistered_configuration_makes_its_record(table: CiTable, clock: Clock) -> None:
    held = claim(table)
    record = table.record(KEY)
    assert record is not None
    assert held.run_id == f"{KEY}-g1" == record.run_id
    assert (record.test_status, record.previous_test_status) == ("running", "untested")
    assert (record.lease_owner, record.lease_until) == (owner(), clock.now + LEASE)
    assert [(a.run_id, a.state, a.owner, a.round) for a in table.running()] == [
        (held.run_id, "running", owner(), "manual@1")
    ]


def test_a_claim_is_refused_while_a_lease_lives_and_names_its_holder(table: CiTable, clock: Clock) -> None:
    held = claim(table)
    clock.now += LEASE - 1
    refused = ask(table, round="manual@2", by="b")
    assert refused == Refused(reason="running", owner=str(owner("a")), run_id=held.run_id)


@pytest.mark.parametrize("finished", [False, True], ids=["already when it is committing", "and when it is finished"])
def test_a_round_has_one_committed_attempt_of_a_configuration(table: CiTable, finished: bool) -> None:
    held = claim(table, round="ci@1")
    table.intend(held, COMMIT)
    if finished:
        table.finish(held.run_id)
    refused = ask(table, round="ci@1", by="b")
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.run_id) == ("round already completed", held.run_id)


def test_the_next_round_and_an_interrupted_one_may_be_run(table: CiTable) -> None:
    first = claim(table, round="ci@1")
    assert table.interrupt(first.run_id, "cancelled")
    second = claim(table, round="ci@1")
    table.intend(second, COMMIT)
    table.finish(second.run_id)
    third = claim(table, round="ci@2")
    assert [first.generation, second.generation, third.generation] == [1, 2, 3]


def test_taking_over_an_expired_lease_fences_the_old_owner_out(table: CiTable, clock: Clock) -> None:
    old = claim(table, by="a")
    clock.now += LEASE
    new = claim(table, by="b")
    assert new.generation == old.generation + 1
    left = table.attempt(old.run_id)
    assert left is not None
    assert left.state == "interrupted"
    assert "took it" in (left.reason or "")
    for write in (
        lambda: table.beat(old, LEASE),
        lambda: table.intend(old, COMMIT),
        lambda: table.benchmarking(old, benchmark_run_id="bmk-1"),
        lambda: table.finish(old.run_id),
    ):
        with pytest.raises(LeaseLost):
            write()
    assert not table.interrupt(old.run_id, "again")
    assert table.fenced_out() == {old.run_id}
    record = table.record(KEY)
    assert record is not None
    assert (record.lease_owner, record.test_status, record.previous_test_status) == (owner("b"), "running", "untested")
    table.beat(new, LEASE)


def test_an_owner_that_claims_again_does_not_get_its_old_claim_back(table: CiTable) -> None:
    old = claim(table, by="a")
    table.interrupt(old.run_id, "cancelled")
    claim(table, by="a")
    with pytest.raises(LeaseLost):
        table.beat(old, LEASE)
    with pytest.raises(LeaseLost):
        table.intend(old, COMMIT)


def test_a_taken_over_attempt_is_cleaned_up_after_once(table: CiTable, clock: Clock) -> None:
    old = claim(table, by="a")
    clock.now += LEASE
    claim(table, by="b")
    assert [a.run_id for a in table.taken_over()] == [old.run_id]
    assert [table.settle_taken_over(old.run_id, cost_usd=0.25) for _ in range(2)] == [True, False]
    assert table.taken_over() == ()
    left = table.attempt(old.run_id)
    assert left is not None
    assert left.cost_usd == 0.25


def test_an_expired_lease_nobody_took_can_still_be_renewed_and_committed(table: CiTable, clock: Clock) -> None:
    held = claim(table)
    clock.now += 10 * LEASE
    table.beat(held, LEASE)
    assert isinstance(ask(table, by="b", round="manual@2"), Refused)
    clock.now += 10 * LEASE
    table.intend(held, COMMIT)
    assert table.finish(held.run_id)


def test_a_dead_owners_commit_must_go_forward_before_anybody_claims(table: CiTable, clock: Clock) -> None:
    held = claim(table)
    table.intend(held, COMMIT)
    clock.now += LEASE
    refused = ask(table, by="b", round="manual@2")
    assert isinstance(refused, Refused)
    assert refused.reason == "commit pending"
    assert not table.interrupt(held.run_id, "dead"), "what is committing only goes forward"
    assert table.finish(held.run_id)
    assert isinstance(ask(table, by="b", round="manual@2"), Claim)


def test_finish_writes_the_stored_outcome_once(table: CiTable, clock: Clock) -> None:
    held = claim(table)
    table.benchmarking(held, benchmark_run_id="bmk-now")
    assert getattr(table.record(KEY), "last_benchmark_status") == "in-progress"  # noqa: B009
    clock.now += 12.5
    table.intend(held, COMMIT)
    assert table.pending() == ((held.run_id, COMMIT),)
    table.intend(held, COMMIT)
    with pytest.raises(LeaseLost):
        table.intend(held, replace(COMMIT, status="failed"))
    assert [table.finish(held.run_id) for _ in range(2)] == [True, False]
    assert table.pending() == () == table.running()
    record = table.record(KEY)
    assert record is not None
    assert (record.test_status, record.previous_test_status, record.last_test_duration) == ("pass", "untested", 12.5)
    assert (record.lease_owner, record.lease_until) == (None, None)
    assert (record.last_benchmark_run_id, record.last_benchmark_status) == ("bmk-20250101T000000Z", "completed")
    (attempt,) = table.attempts(KEY)
    assert (attempt.state, attempt.status, attempt.cost_usd, attempt.seconds) == ("finished", "completed", 0.5, 12.5)
    assert attempt.ended_at == record.last_test_timestamp
    assert (attempt.started_at < attempt.ended_at) if attempt.ended_at else False
    document = record.to_json()
    assert json.loads(json.dumps(document)) == document
    assert (document["baseImage"], document["baseImageVersion"]) == ("registry:5000/team/app", "sha256:abc")


def test_a_run_without_a_benchmark_keeps_what_is_known_of_the_last_one(table: CiTable) -> None:
    failed = Commit(
        rows=({},),
        status="failed",
        test_status="fail-build",
        run_status="fail-build",
        duration_seconds=1.0,
        error_message="no disk",
    )
    for round, commit in (("1", COMMIT), ("2", failed)):
        held = claim(table, round=round)
        table.intend(held, commit)
        table.finish(held.run_id)
    record = table.record(KEY)
    assert record is not None
    assert (record.test_status, record.previous_test_status) == ("fail-build", "pass")
    assert (record.last_benchmark_status, record.error_message) == ("completed", "no disk")
    assert [a.reason for a in table.attempts(KEY)] == ["no disk", None]


def test_an_interrupted_run_leaves_the_record_as_it_was(table: CiTable, clock: Clock) -> None:
    first = claim(table, round="1")
    table.intend(first, COMMIT)
    table.finish(first.run_id)
    second = claim(table, round="2")
    clock.now += 30
    table.benchmarking(second, benchmark_run_id="bmk-cut")
    assert [table.interrupt(second.run_id, "killed", cost_usd=0.1) for _ in range(2)] == [True, False]
    record = table.record(KEY)
    assert record is not None
    assert (record.test_status, record.lease_owner) == ("pass", None)
    assert record.last_benchmark_status == "failed", "a benchmark that was cut off is not in progress for ever"
    (attempt,) = table.attempts(KEY, limit=1)
    assert (attempt.state, attempt.reason, attempt.cost_usd) == ("interrupted", "killed", 0.1)
    assert attempt.seconds == pytest.approx(30)
    assert table.taken_over() == (), "whoever interrupts a run on purpose has cleaned up after it"


def test_what_is_not_json_is_refused_before_anything_is_written(table: CiTable) -> None:
    held = claim(table)
    with pytest.raises(ValueError, match="JSON"):
        table.intend(held, replace(COMMIT, rows=({"latency_ms": float("nan")},)))
    assert table.pending() == ()
    table.beat(held, LEASE)


def test_history_is_read_newest_first_by_configuration_round_and_number(table: CiTable) -> None:
    for round in ("1", "2", "3"):
        table.interrupt(claim(table, round=round).run_id, "cancelled")
    assert [a.round for a in table.attempts()] == ["3", "2", "1"]
    assert [a.round for a in table.attempts(KEY, limit=2)] == ["3", "2"]
    assert [a.generation for a in table.attempts(round="2")] == [2]
    assert table.attempts("other") == ()
    assert table.record("other") is None


def test_of_threads_that_claim_at_once_exactly_one_wins(table: CiTable) -> None:
    start = threading.Barrier(8)
    answers: list[Claim | Refused] = []

    def run(name: str) -> None:
        start.wait()
        answers.append(ask(table, by=name))

    threads = [threading.Thread(target=run, args=(name,)) for name in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [answer for answer in answers if isinstance(answer, Claim)]
    assert (len(winners), len(answers)) == (1, 8)
    assert all(a.owner == str(winners[0].owner) for a in answers if isinstance(a, Refused))


CLAIM = """
import json, sys
from pathlib import Path
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.outcome import BenchmarkPlan, Claim, Owner
from resources.sqlite_ci_table import SqliteCiTable
path, name, key, document = sys.argv[1:]
table = SqliteCiTable(Path(path))
configuration = Configuration.from_json(json.loads(document))
print("ready", flush=True)
sys.stdin.read(1)
wins = []
for number in range(5):
    answer = table.claim(
        key, configuration=configuration, round=f"{name}-{number}", owner=Owner("here", int(name), 1, "boot", name),
        lease_seconds=1000, run_type="ci", benchmark=BenchmarkPlan(False, "chat", (1,)),
    )
    if isinstance(answer, Claim):
        wins.append(answer.generation)
print(json.dumps(wins))
"""


def test_of_processes_that_claim_at_once_exactly_one_wins(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    arguments = (KEY, json.dumps(CONFIGURATION.to_json()))
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIM, str(path), str(n), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        for n in range(4)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
    wins = []
    for child in children:
        assert child.stdin is not None
        child.stdin.write(b"!")
        child.stdin.flush()
    for child in children:
        out, _ = child.communicate(timeout=60)
        assert child.returncode == 0
        wins += json.loads(out)
    assert wins == [1], "20 tries of 4 processes on one free record"


def test_a_gate_that_was_known_before_the_kill_stays_in_the_record(table: CiTable) -> None:
    held = claim(table)
    table.stage_ended(held, "test", {"stage": "test", "status": "pass"}, test_status="pass")
    table.interrupt(held.run_id, "killed in its benchmark")
    record = table.record(KEY)
    assert record is not None
    assert record.test_status == "pass"
    assert table.attempts(KEY)[0].stages == {"test": {"stage": "test", "status": "pass"}}


def test_an_old_owner_cannot_note_a_stage(table: CiTable) -> None:
    held = claim(table)
    table.interrupt(held.run_id, "taken over")
    with pytest.raises(LeaseLost):
        table.stage_ended(held, "test", {"stage": "test"})


def test_a_run_that_tested_nothing_leaves_the_record_as_it_was(table: CiTable) -> None:
    first = claim(table)
    table.intend(first, COMMIT)
    table.finish(first.run_id)
    second = claim(table, round="another")
    table.intend(second, replace(COMMIT, rows=(), status="partial", test_status=None))
    table.finish(second.run_id)
    record = table.record(KEY)
    assert record is not None
    assert record.test_status == "pass"
