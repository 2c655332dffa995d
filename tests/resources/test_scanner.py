"""The table in a scanner's eyes: what records alone do not say comes from attempts and pending commits."""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "assets"))

from scripted_runs import Scripted, platform_with

from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.outcome import Claim, Owner
from mlcc_dagster.core.resolution import configuration_of
from mlcc_dagster.core.scanning import Omission, Reason
from resources import processes
from resources.ci_table import Commit
from resources.home import Home
from resources.lifecycle import benchmark_plan
from resources.platform import Platform
from resources.scanner import has_dead_owner, look

NAME = "local-fastapi-logistic-1cpu"
ELSEWHERE = Owner("another-host", 1, 1, "another-boot", "a-run")


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    home = Home(tmp_path / "home")
    return platform_with(home, Scripted(home))


def registered(platform: Platform, name: str = NAME) -> str:
    entry = next(entry for entry in platform.catalog.entries if entry.id == name)
    configuration = configuration_of(entry, platform.catalog)
    platform.ci.register(configuration, benchmark=benchmark_plan(entry), tier=entry.tier)
    return config_id(configuration)


def claimed(platform: Platform, key: str, owner: Owner, *, round_id: str = "r", lease_seconds: float = 90) -> Claim:
    record = platform.ci.record(key)
    assert record is not None
    claim = platform.ci.claim(
        key,
        configuration=record.configuration,
        round=round_id,
        owner=owner,
        lease_seconds=lease_seconds,
        run_type="ci",
        benchmark=record.benchmark,
    )
    assert isinstance(claim, Claim)
    return claim


def commit(test_status: str | None) -> Commit:
    return Commit(rows=(), status="completed", test_status=test_status, run_status="pass", duration_seconds=1.0)


def later(**ahead: float) -> datetime:
    return datetime.now(UTC) + timedelta(**ahead)


def test_what_waits_to_be_published_is_left_alone_also_when_its_lease_is_over(platform: Platform) -> None:
    key = registered(platform)
    claim = claimed(platform, key, ELSEWHERE)
    platform.ci.intend(claim, commit("pass"))
    (left,) = look(platform, now=later(hours=1), max_concurrency=9).left_out
    assert left.omission is Omission.COMMITTING
    platform.ci.finish(claim.run_id)
    assert look(platform, now=later(hours=1), max_concurrency=9).left_out[0].omission is Omission.FRESH


def test_a_run_that_was_asked_to_test_nothing_comes_back_after_its_limit_and_not_with_every_scan(
    platform: Platform,
) -> None:
    key = registered(platform)
    claim = claimed(platform, key, ELSEWHERE)
    platform.ci.intend(claim, commit(None))
    platform.ci.finish(claim.run_id)
    record = platform.ci.record(key)
    assert record is not None
    assert record.test_status == "untested"
    assert look(platform, now=later(hours=1), max_concurrency=9).left_out[0].omission is Omission.FRESH
    assert look(platform, now=later(hours=25), max_concurrency=9).start[0].reason is Reason.STALE


def test_one_registered_anew_is_due_at_once_and_again_when_its_run_was_cut_off(platform: Platform) -> None:
    key = registered(platform)
    claim = claimed(platform, key, ELSEWHERE)
    platform.ci.intend(claim, commit("pass"))
    platform.ci.finish(claim.run_id)
    record = platform.ci.record(key)
    assert record is not None
    platform.ci.register(record.configuration, benchmark=record.benchmark, reset=True)
    (first,) = look(platform, now=later(minutes=1), max_concurrency=9).start
    assert first.reason is Reason.UNTESTED
    cut_off = claimed(platform, key, ELSEWHERE, round_id=first.round)
    platform.ci.interrupt(cut_off.run_id, "it was cut off")
    (again,) = look(platform, now=later(minutes=1), max_concurrency=9).start
    assert (again.reason, again.round) == (Reason.UNTESTED, first.round)
    done = claimed(platform, key, ELSEWHERE, round_id=again.round)
    platform.ci.intend(done, commit("fail-test"))
    platform.ci.finish(done.run_id)
    assert look(platform, now=later(minutes=1), max_concurrency=9).start == ()


def test_a_lease_of_another_host_is_believed_until_it_is_over(platform: Platform) -> None:
    key = registered(platform)
    claimed(platform, key, ELSEWHERE)
    (left,) = look(platform, now=later(), max_concurrency=9).left_out
    assert left.omission is Omission.RUNNING
    assert "another-host:1" in left.detail
    (due,) = look(platform, now=later(seconds=91), max_concurrency=9).start
    assert due.reason is Reason.LEASE_OVER


def test_an_owner_that_is_dead_on_this_machine_is_told_at_once_and_takes_no_room(platform: Platform) -> None:
    key = registered(platform)
    own = processes.this_process("x")
    dead = Owner(own.host, own.pid, own.start_ticks + 1, own.boot_id, "its-run")
    claimed(platform, key, dead, round_id="scan@x")
    found = look(platform, now=later(), max_concurrency=1)
    assert found.start[0].reason is Reason.OWNER_DEAD
    assert has_dead_owner(found)


@pytest.mark.parametrize(
    ("round_id", "asked", "room"),
    [
        pytest.param("scan@x", 0, 1, id="a run of another scan takes a place"),
        pytest.param("local@x", 0, 2, id="a run of a tier takes none"),
        pytest.param("local@x", 1, 1, id="what was asked for and has not claimed takes one"),
        pytest.param("scan@x", 1, 0, id="both together"),
    ],
)
def test_runs_of_scans_take_the_places_there_are(platform: Platform, round_id: str, asked: int, room: int) -> None:
    claimed(platform, registered(platform), processes.this_process("x"), round_id=round_id)
    others = [registered(platform, name) for name in ("local-fastapi-forest-1cpu", "local-flask-forest-1cpu")]
    found = look(platform, now=later(), max_concurrency=2, asked=asked)
    assert [due.config_id for due in found.start] == others[:room]
    assert list(found.waiting) == others[room:]


def test_records_of_an_old_table_whose_times_are_none_or_the_epoch_were_never_tested(platform: Platform) -> None:
    key = registered(platform)
    with platform.ci._database.writing() as connection:
        connection.execute(
            "UPDATE ci_record SET test_status = 'fail-unknown', last_test_timestamp = '1970-01-01T00:00:00.000000Z'"
        )
    (due,) = look(platform, now=later(), max_concurrency=9).start
    assert (due.config_id, due.reason) == (key, Reason.STALE)
    assert "nobody knows since when" in due.detail
