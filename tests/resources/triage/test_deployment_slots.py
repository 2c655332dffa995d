"""The slot of a trial: waited for, kept beyond its lease while it serves, and given back."""

import io
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlcc_dagster.core.exceptions import StageFailed
from mlcc_dagster.core.triage.built_in import ENVIRONMENTS
from resources.home import Home
from resources.ledger import Ledger
from resources.triage.deployment_slots import DeploymentSlot
from resources.triage.workloads import Trial

PATIENCE_SECONDS = 30.0


@pytest.fixture
def own(home: Path) -> Home:
    Home(home).ensure()
    (home / "settings.yaml").write_text("lease_seconds: 1.0\nbeat_seconds: 0.2\nslot_wait_seconds: 60\n")
    return Home(home)


@pytest.fixture
def slot(own: Home) -> Iterator[DeploymentSlot]:
    made = DeploymentSlot(own, "local", "triage-1-1-1")
    yield made
    made.release()


def a_trial(folder: Path) -> Trial:
    return Trial("c", 0, 1, ENVIRONMENTS[0], {}, {}, folder, time.monotonic() + 5)


def until(holds: Callable[[], bool], what: str) -> None:
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < give_up, what
        time.sleep(0.02)


def test_a_trial_waits_for_the_slot_of_another_run_and_loses_no_time_of_its_own(
    own: Home, slot: DeploymentSlot, tmp_path: Path
):
    ledger = Ledger(own.database)
    assert ledger.acquire_slot("local", "another-run", capacity=1, lease_seconds=600)
    trial, log = a_trial(tmp_path), io.StringIO()
    deadline = trial.deadline
    waiting = threading.Thread(target=slot.take, args=(trial, log))
    waiting.start()
    until(lambda: "waiting for a deployment slot of local, held by another-run" in log.getvalue(), "it does not wait")
    ledger.release_slots("another-run")
    waiting.join(PATIENCE_SECONDS)
    assert [each.run_id for each in ledger.slots()] == ["triage-1-1-1"]
    assert trial.deadline > deadline


def test_a_slot_is_kept_beyond_its_lease_and_given_back(own: Home, slot: DeploymentSlot, tmp_path: Path):
    ledger = Ledger(own.database)
    slot.take(a_trial(tmp_path), io.StringIO())
    slot.take(a_trial(tmp_path), io.StringIO())  # a stage that is tried again holds it already
    (first,) = ledger.slots()
    until(lambda: ledger.slots()[0].lease_until > first.lease_until, "the lease is not renewed")
    assert not ledger.acquire_slot("local", "another-run", capacity=1, lease_seconds=1)
    slot.release()
    assert ledger.slots() == []


def test_a_slot_that_does_not_become_free_is_told_with_its_holder(own: Home, home: Path, tmp_path: Path):
    (home / "settings.yaml").write_text("slot_wait_seconds: 0.2\n")
    assert Ledger(own.database).acquire_slot("local", "another-run", capacity=1, lease_seconds=600)
    with pytest.raises(StageFailed, match=r"became free in 0\.2 s, held by another-run; let it end") as refused:
        DeploymentSlot(Home(home), "local", "triage-1-1-2").take(a_trial(tmp_path), io.StringIO())
    assert refused.value.category == "capacity"
