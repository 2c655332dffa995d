"""The heartbeat keeps a lease alive while a stage blocks, outlives a moment without its table, and never dies
silently."""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.outcome import BenchmarkPlan, Claim, Owner
from resources.ci_table import Refused
from resources.heartbeat import Heartbeat
from resources.ledger import Ledger
from resources.sqlite_ci_table import SqliteCiTable

KEY = "0123abcd"


class FlakyTable(SqliteCiTable):
    """A table that cannot be reached while `broken` says so."""

    broken: Callable[[], bool] = staticmethod(lambda: False)
    beats = 0

    def beat(self, claim: Claim, lease_seconds: float) -> None:
        self.beats += 1
        if self.broken():
            raise sqlite3.OperationalError("database is locked")
        super().beat(claim, lease_seconds)


@pytest.fixture
def ci(tmp_path: Path) -> FlakyTable:
    return FlakyTable(tmp_path / "state.sqlite")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "state.sqlite")


def ask(ci: SqliteCiTable, *, by: str, lease: float) -> Claim | Refused:
    return ci.claim(
        KEY,
        configuration=Configuration("http-fastapi", "iris", "sklearn", "local.1cpu", "local"),
        round=by,
        owner=Owner("here", 1, 1, "boot", by),
        lease_seconds=lease,
        run_type="ci",
        benchmark=BenchmarkPlan(False, "chat", (1,)),
    )


def claim(ci: SqliteCiTable, *, by: str = "a", lease: float = 90.0) -> Claim:
    granted = ask(ci, by=by, lease=lease)
    assert isinstance(granted, Claim)
    return granted


def eventually(condition: Callable[[], bool]) -> bool:
    """Wait up to 20 s for a condition."""
    give_up = time.monotonic() + 20
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.01)
    return True


def test_claim_and_slot_outlive_their_first_lease(ci: FlakyTable, ledger: Ledger) -> None:
    held = claim(ci, lease=5.0)
    ledger.acquire_slot("local", held.run_id, capacity=1, lease_seconds=0.0)
    before = ci.record(KEY)
    with Heartbeat(ci, ledger, held, lease_seconds=600.0, beat_seconds=0.02) as heartbeat:
        assert eventually(lambda: ci.beats >= 4)
        assert not heartbeat.stop.is_set()
    after = ci.record(KEY)
    assert before is not None
    assert after is not None
    assert (after.lease_until or 0) > (before.lease_until or 0) + 500
    assert not ledger.acquire_slot("local", "other-g1", capacity=1, lease_seconds=1.0)
    beats = ci.beats
    time.sleep(0.1)
    assert ci.beats == beats, "nobody beats after the block"


def test_a_lease_taken_over_stops_the_stage_and_says_so(ci: FlakyTable, ledger: Ledger) -> None:
    held = claim(ci, lease=0.0)
    claim(ci, by="b")
    with Heartbeat(ci, ledger, held, lease_seconds=600.0, beat_seconds=0.02) as heartbeat:
        assert heartbeat.stop.is_set(), "known on entry, before the stage does anything"
        assert held.run_id in (heartbeat.lost or "")


def test_a_lease_lost_on_the_way_stops_the_stage(ci: FlakyTable, ledger: Ledger) -> None:
    held = claim(ci)
    with Heartbeat(ci, ledger, held, lease_seconds=600.0, beat_seconds=0.02) as heartbeat:
        assert not heartbeat.stop.is_set()
        ci.interrupt(held.run_id, "reaped")
        assert heartbeat.stop.wait(20)


def test_a_table_that_cannot_be_reached_for_a_moment_costs_nothing(ci: FlakyTable, ledger: Ledger) -> None:
    held = claim(ci)
    ci.broken = lambda: ci.beats < 5
    with Heartbeat(ci, ledger, held, lease_seconds=600.0, beat_seconds=0.02) as heartbeat:
        assert eventually(lambda: ci.beats >= 8)
        assert not heartbeat.stop.is_set()


def test_a_table_that_stays_away_stops_the_stage_when_the_lease_is_over(ci: FlakyTable, ledger: Ledger) -> None:
    held = claim(ci)
    ci.broken = lambda: ci.beats > 1
    began = time.monotonic()
    with Heartbeat(ci, ledger, held, lease_seconds=0.5, beat_seconds=0.02) as heartbeat:
        assert heartbeat.stop.wait(20)
        assert time.monotonic() - began >= 0.4, "not before"
        assert "database is locked" in (heartbeat.lost or "")


def test_a_slot_taken_by_another_run_stops_the_stage(ci: FlakyTable, ledger: Ledger) -> None:
    held = claim(ci)
    with Heartbeat(ci, ledger, held, lease_seconds=600.0, beat_seconds=0.02) as heartbeat:
        ledger.acquire_slot("local", held.run_id, capacity=1, lease_seconds=600.0)
        beats = ci.beats
        assert eventually(lambda: ci.beats > beats + 2)
        assert not heartbeat.stop.is_set()
        ledger.release_slots(held.run_id)
        assert heartbeat.stop.wait(20)
        assert "slot of local" in (heartbeat.lost or "")


def test_a_stage_that_raises_still_ends_the_thread(ci: FlakyTable, ledger: Ledger) -> None:
    held = claim(ci)
    with (
        pytest.raises(KeyboardInterrupt),
        Heartbeat(ci, ledger, held, lease_seconds=600.0, beat_seconds=0.02),
    ):
        raise KeyboardInterrupt
    beats = ci.beats
    time.sleep(0.1)
    assert ci.beats == beats
