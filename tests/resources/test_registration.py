"""The contract of every CI table on registration: settings that change, and old records that are taken in."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from catalog.loader import load_catalog
from mlcc_dagster.core.ci_records import OldRecord, read_old_records
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.identity import config_id, legacy_config_id
from mlcc_dagster.core.outcome import BenchmarkPlan, Claim, Owner
from mlcc_dagster.core.record_settings import RecordSettings
from resources.ci_table import CiRecord, CiTable, Commit, moment_text
from resources.sqlite_ci_table import SqliteCiTable

CATALOG = load_catalog()
LEASE = 90.0
PLAN = BenchmarkPlan(enabled=False, workload="local_predict", concurrency_levels=(1, 4, 8))
CONFIGURATION = Configuration(
    deployment_config="http-fastapi",
    model_name="sklearn/random-forest-digits",
    model_family="random-forest",
    instance_type="local.1cpu",
    region="local",
)
KEY = config_id(CONFIGURATION)
OTHER = replace(CONFIGURATION, instance_type="local.2cpu")
COMMIT = Commit(rows=(), status="completed", test_status="pass", run_status="pass", duration_seconds=2.0)


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


def claim(table: CiTable) -> Claim:
    granted = table.claim(
        KEY,
        configuration=CONFIGURATION,
        round="manual@1",
        owner=Owner("laptop", 97, 7, "boot", "dagster-run"),
        lease_seconds=LEASE,
        run_type="ci",
        benchmark=PLAN,
    )
    assert isinstance(granted, Claim)
    return granted


def proven(table: CiTable) -> CiRecord:
    held = claim(table)
    table.intend(held, COMMIT)
    table.finish(held.run_id)
    return recorded(table)


def recorded(table: CiTable, key: str = KEY) -> CiRecord:
    record = table.record(key)
    assert record is not None
    return record


# ---- settings


def test_a_project_keeps_its_name_until_another_registers(table: CiTable) -> None:
    table.register(CONFIGURATION, benchmark=PLAN, project_name="mine")
    assert table.register(CONFIGURATION, benchmark=PLAN).project_name == "mine"
    assert table.register(CONFIGURATION, benchmark=PLAN, project_name="yours").project_name == "yours"


def test_changed_settings_leave_what_was_tested_as_it_is(table: CiTable) -> None:
    before = proven(table)
    wanted = replace(before.settings, benchmark=replace(PLAN, enabled=True), tier="weekly")
    after = table.change(KEY, wanted)
    assert after == replace(before, benchmark=wanted.benchmark, tier="weekly") == recorded(table)
    assert table.change(KEY, wanted) == after, "the same again changes nothing"
    assert [attempt.state for attempt in table.attempts(KEY)] == ["finished"]


def test_settings_do_not_change_under_a_running_run(table: CiTable, clock: Clock) -> None:
    table.register(CONFIGURATION, benchmark=PLAN)
    held = claim(table)
    before = recorded(table)
    assert table.change(KEY, before.settings) == before, "nothing would change"
    with pytest.raises(UsageError, match=rf"{held.run_id} of laptop:97 .*mlcc reap"):
        table.change(KEY, replace(before.settings, tier="ci"))
    assert recorded(table) == before
    clock.now += LEASE + 1
    after = table.change(KEY, replace(before.settings, tier="ci"))
    assert (after.tier, after.test_status, after.lease_owner) == ("ci", "untested", None)
    assert [attempt.state for attempt in table.attempts(KEY)] == ["interrupted"]


def test_settings_of_what_is_not_registered_cannot_change(table: CiTable) -> None:
    with pytest.raises(UsageError, match="mlcc register"):
        table.change(KEY, RecordSettings(PLAN, "codebuild-submit", None))


# ---- old records


def old(configuration: Configuration = CONFIGURATION, /, *, stored: str | None = None, **attributes: Any) -> OldRecord:
    """Read one record of an export."""
    document = {"configId": {"S": stored or config_id(configuration)}}
    document["configJson"] = {"S": json.dumps(configuration.to_json())}
    for name, value in attributes.items():
        document[name] = {"N": str(value)} if isinstance(value, (int, float)) else {"S": value}
    (record,) = read_old_records(json.dumps({"Items": [document]}), CATALOG)
    return record


OLD_PASS: dict[str, Any] = {"testStatus": "pass", "lastTestTimestamp": "2025-01-01T00:00:00Z", "lastTestDuration": 7.5}


def test_an_old_record_is_known_from_then_on_and_its_history_begins_here(table: CiTable, clock: Clock) -> None:
    (taken,) = table.take_in([old(**OLD_PASS, errorMessage="was slow", tier="ci", baseImage="a:1", projectName="p")])
    assert taken.action == "imported"
    record = recorded(table)
    assert (record.test_status, record.last_test_timestamp) == ("pass", "2025-01-01T00:00:00.000000Z")
    assert (record.last_test_duration, record.error_message, record.tier) == (7.5, "was slow", "ci")
    assert (record.image, record.project_name, record.generation) == ("a:1", "p", 0)
    assert record.created_at == record.last_test_timestamp, "it existed when it was tested"
    assert record.schema_version == 2
    assert table.attempts(KEY) == ()
    assert claim(table).generation == 1
    assert recorded(table).previous_test_status == "pass"


def test_a_record_that_was_never_tested_exists_from_now_on(table: CiTable, clock: Clock) -> None:
    table.take_in([old()])
    assert recorded(table).created_at == moment_text(clock.now)


def test_a_record_under_the_targets_old_name_is_found_under_its_id_of_today(table: CiTable) -> None:
    legacy = legacy_config_id(CONFIGURATION)
    assert legacy is not None
    (taken,) = table.take_in([old(stored=legacy, **OLD_PASS)])
    assert (taken.record.stored_id, taken.record.config_id) == (legacy, KEY)
    assert table.record(legacy) is None
    assert recorded(table).test_status == "pass"


def test_the_same_records_twice_are_the_same_as_once(table: CiTable, clock: Clock) -> None:
    records = [old(**OLD_PASS), old(OTHER)]
    table.take_in(records)
    once = table.records()
    clock.now += 1000
    assert [taken.action for taken in table.take_in(records)] == ["unchanged", "unchanged"]
    assert table.records() == once


def test_a_newer_record_here_stays_and_the_reason_is_said(table: CiTable) -> None:
    before = proven(table)
    (taken,) = table.take_in([old(**OLD_PASS | {"testStatus": "fail-build"})])
    assert (taken.action, taken.reason) == ("kept", f"the record here is newer, tested {before.last_test_timestamp}")
    (taken,) = table.take_in([old(testStatus="fail-build")])
    assert taken.action == "kept", "a record that says no time is not newer than one that does"
    assert recorded(table) == before


def test_an_older_record_here_gets_the_newer_outcome_and_keeps_its_settings(table: CiTable) -> None:
    plan = replace(PLAN, enabled=True, concurrency_levels=(1,))
    table.register(CONFIGURATION, benchmark=plan, tier="weekly", catalog_id="mine", project_name="mine")
    newer = old(
        **OLD_PASS,
        tier="ci",
        e2eCatalogId="theirs",
        projectName="theirs",
        lastBenchmarkRunId="bmk-1",
        lastBenchmarkStatus="completed",
        lastBenchmarkTimestamp="2025-01-01T00:00:00Z",
    )
    (taken,) = table.take_in([newer])
    assert taken.action == "updated"
    record = recorded(table)
    assert (record.test_status, record.last_benchmark_run_id) == ("pass", "bmk-1")
    assert (record.benchmark, record.tier, record.e2e_catalog_id, record.project_name) == (
        plan,
        "weekly",
        "mine",
        "mine",
    )


def test_the_later_benchmark_counts_whichever_record_was_tested_later(table: CiTable) -> None:
    times = {"lastBenchmarkRunId": "bmk-2", "lastBenchmarkStatus": "completed"}
    table.take_in([old(**OLD_PASS, **times, lastBenchmarkTimestamp="2025-01-05T00:00:00Z")])
    later = OLD_PASS | {"lastTestTimestamp": "2025-02-01T00:00:00Z"}
    earlier_benchmark = times | {"lastBenchmarkRunId": "bmk-1", "lastBenchmarkTimestamp": "2024-12-01T00:00:00Z"}
    (taken,) = table.take_in([old(**later, **earlier_benchmark)])
    assert (taken.action, recorded(table).last_benchmark_run_id) == ("updated", "bmk-2")


def test_a_record_that_runs_here_is_left_alone(table: CiTable) -> None:
    table.register(CONFIGURATION, benchmark=PLAN)
    held = claim(table)
    before = recorded(table)
    (taken,) = table.take_in([old(**OLD_PASS)])
    assert taken.action == "kept"
    assert held.run_id in (taken.reason or "")
    assert recorded(table) == before


def test_records_are_taken_in_all_or_none(table: CiTable) -> None:
    broken = replace(old(OTHER, **OLD_PASS), stage_results={"build": object()})
    with pytest.raises(TypeError):
        table.take_in([old(**OLD_PASS), broken])
    assert table.records() == ()
