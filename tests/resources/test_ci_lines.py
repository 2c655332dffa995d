"""The CI table read for reports, gate and flakiness: what a line takes from the record, its history and the catalog."""

import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from ci_histories import CATALOG, ENTRIES, PLAN, Histories

from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.flakiness import Confidence, Course
from mlcc_dagster.core.stages import Stage
from resources.ci_lines import confidences, decide_release, moment_of, read_lines, read_status
from resources.ci_table import CiTable

FOREST = "local-fastapi-forest-1cpu"
TIGHT = "local-fastapi-forest-tight-memory"


@pytest.fixture
def histories(tmp_path: Path) -> Histories:
    return Histories(tmp_path / "state.sqlite")


def lines_of(table: CiTable):
    return {line.name: line for line in read_lines(table, CATALOG)}


def now_of(histories: Histories) -> datetime:
    return datetime.fromtimestamp(histories.now, UTC)


def test_a_line_has_the_record_under_its_catalog_name_with_the_results_of_its_history(histories: Histories) -> None:
    histories.run(FOREST, "..F")
    line = lines_of(histories.table)[FOREST]
    assert (line.test_status, line.previous_test_status, line.tier) == ("fail-test", "pass", "local")
    assert (line.deployment_config, line.project, line.duration_seconds) == ("http-fastapi", "the-project", 12.5)
    assert [result.passed for result in line.results] == [True, True, False]
    assert line.regressed
    record = histories.table.record(line.config_id)
    assert record is not None
    assert line.last_test == record.last_test_timestamp


def test_attempts_without_a_verdict_are_no_results(histories: Histories) -> None:
    histories.run(FOREST, ".")
    untested = histories.claim(FOREST)
    histories.finish(untested, None, run_status="fail-register", status="partial")
    cut_off = histories.claim(FOREST)
    assert histories.table.interrupt(cut_off.run_id, "power")
    histories.claim(FOREST)  # runs now
    line = lines_of(histories.table)[FOREST]
    assert [result.passed for result in line.results] == [True]
    assert line.test_status == "running"
    assert not line.regressed


def test_a_run_that_was_cut_off_in_its_benchmark_has_the_result_of_its_gate(histories: Histories) -> None:
    histories.run(FOREST, ".")
    claim = histories.claim(FOREST)
    histories.table.stage_ended(claim, "test", {"outputs": {}}, test_status="fail-test")
    assert [result.passed for result in lines_of(histories.table)[FOREST].results] == [True], "it still runs"
    assert histories.table.interrupt(claim.run_id, "power")
    line = lines_of(histories.table)[FOREST]
    assert [result.passed for result in line.results] == [True, False]
    assert (line.test_status, line.regressed) == ("fail-test", True)


@pytest.mark.parametrize(
    ("changed", "flaky"),
    [
        pytest.param({}, True, id="nothing changed between failing and passing"),
        pytest.param({"image_digest": "other"}, True, id="another image of the same parts is no change"),
        pytest.param({"template_digest": "sha256:b"}, False, id="another template is one"),
        pytest.param({"base_image": "python:3.12"}, False, id="another base image is one"),
    ],
)
def test_what_was_tested_is_known_by_the_parts_that_the_stages_noted(
    changed: dict[str, str], flaky: bool, histories: Histories
) -> None:
    ground = {"template_digest": "sha256:a", "base_image": "python:3.11", "image_digest": "one"}
    for _ in range(3):
        histories.run(FOREST, ".", ground=ground)
        histories.run(FOREST, "F", ground=ground | changed)
    histories.run(FOREST, ".", ground=ground)
    assert lines_of(histories.table)[FOREST].stability.flaky is flaky


def test_a_failure_that_its_entry_exists_to_show_is_expected_and_another_one_is_not(histories: Histories) -> None:
    histories.run(TIGHT, "F", failure_category="oom", run_status="fail-deploy")
    assert lines_of(histories.table)[TIGHT].expected
    histories.run(TIGHT, "F", failure_category="timeout")
    assert not lines_of(histories.table)[TIGHT].expected


def test_what_no_entry_declares_is_named_by_its_config_id(histories: Histories) -> None:
    odd = Configuration("http-flask", "mine", "other", "local.1cpu", "local")
    record = histories.table.register(odd, benchmark=PLAN)
    line = lines_of(histories.table)[record.config_id]
    assert (line.tier, line.last_test, line.stability.course) == (None, None, Course.UNTESTED)


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("2026-06-01T00:00:00Z", True),
        ("2026-06-01T00:00:00", True),
        ("1970-01-01T00:00:00Z", False),
        ("", False),
        (None, False),
        ("soon", False),
    ],
)
def test_a_time_that_is_none_or_the_epoch_of_old_records_is_no_time(text: str | None, known: bool) -> None:
    assert (moment_of(text) is not None) is known


def test_confidences_are_by_config_id_and_only_of_what_was_tested(histories: Histories) -> None:
    histories.run(FOREST, "..F")
    histories.register(TIGHT)
    assert confidences(histories.table) == {histories.key(FOREST): Confidence(2, 3)}


# ---- status


def test_the_status_counts_every_record_once_and_names_the_newest_test(histories: Histories) -> None:
    histories.register("rt-qwen3-4b")
    histories.run(TIGHT, "F")
    newest = histories.run(FOREST, ".")
    histories.claim("local-flask-forest-1cpu", lease_seconds=3600)
    found = read_status(histories.table, CATALOG, now=now_of(histories))
    assert (found.total, found.running, found.passing, found.failing, found.untested) == (4, 1, 1, 1, 1)
    assert found.leases_over == ()
    assert found.last_completed is not None
    record = histories.table.record(histories.key(FOREST))
    assert record is not None
    assert found.last_completed == {
        "configId": histories.key(FOREST),
        "name": FOREST,
        "runId": newest,
        "testStatus": "pass",
        "at": record.last_test_timestamp,
    }


def test_a_running_one_whose_lease_is_over_is_named_and_its_last_test_stays_told(histories: Histories) -> None:
    histories.run(FOREST, "F")
    histories.claim(FOREST, lease_seconds=1)
    found = read_status(histories.table, CATALOG, now=datetime.fromtimestamp(histories.now + 3600, UTC))
    assert (found.running, found.failing, found.leases_over) == (1, 0, (FOREST,))
    assert found.last_completed is not None
    assert found.last_completed["testStatus"] == "fail-test"


def test_the_status_of_an_empty_table_has_no_last_test(histories: Histories) -> None:
    found = read_status(histories.table, CATALOG, now=now_of(histories)).to_json()
    assert (found["total"], found["lastCompleted"]) == (0, None)


# ---- release


def ci_names() -> list[str]:
    return [entry.id for entry in CATALOG.tier_entries("ci")]


def test_the_release_gate_reads_the_tier_of_the_catalog_and_fails_closed(histories: Histories) -> None:
    names = ci_names()
    for name in names[:-1]:
        histories.run(name, ".")
    decision = decide_release(histories.table, CATALOG, now=now_of(histories))
    assert decision.released
    assert decision.reasons == (f"{names[-1]}: not registered, so never tested",)
    running = histories.claim(names[0])
    again = decide_release(histories.table, CATALOG, now=now_of(histories))
    assert not again.released, "one that is tested again does not count until it passed"
    histories.finish(running, "pass")
    assert decide_release(histories.table, CATALOG, now=now_of(histories)).released
    a_day_later = datetime.fromtimestamp(histories.now + 25 * 3600, UTC)
    stale = decide_release(histories.table, CATALOG, now=a_day_later)
    assert (stale.released, stale.passing) == (False, 0)
    assert sum("stale" in reason for reason in stale.reasons) == len(names) - 1


def test_the_tiers_own_time_says_when_a_pass_is_stale(histories: Histories) -> None:
    weekly = [entry.id for entry in CATALOG.tier_entries("weekly")]
    for name in weekly:
        histories.run(name, ".")
    six_days_later = datetime.fromtimestamp(histories.now + 6 * 86_400, UTC)
    assert decide_release(histories.table, CATALOG, now=six_days_later, tier="weekly").released


def test_only_what_a_record_says_of_this_very_configuration_counts(histories: Histories) -> None:
    """Another configuration of the same model passed; the entry's own was never tested."""
    from mlcc_dagster.core.resolution import configuration_of

    entry = next(entry for entry in CATALOG.tier_entries("ci"))
    other = replace(configuration_of(ENTRIES[entry.id], CATALOG), max_model_len=128)
    histories.table.register(other, benchmark=PLAN, tier="ci", catalog_id=entry.id)
    decision = decide_release(histories.table, CATALOG, now=now_of(histories))
    assert f"{entry.id}: not registered, so never tested" in decision.reasons


def test_a_stage_that_noted_nothing_knows_of_no_ground(histories: Histories) -> None:
    claim = histories.claim(FOREST)
    histories.note(claim, Stage.GENERATE, {"template_digest": None, "project": "x"})
    histories.finish(claim, "fail-build")
    assert lines_of(histories.table)[FOREST].results[0].ground == {}
