"""Continuous validation against the behaviour recorded from existing installations, group by group; what differs on purpose is
named where it is asserted."""

import json
from pathlib import Path
from typing import Any

import pytest

from catalog.loader import load_catalog
from mlcc_dagster.core.ci_report import CiLine, Report, by_configuration, by_deployment_config
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.outcome import BenchmarkPlan, Claim, Outcome, Owner, StageResult, StageStatus
from mlcc_dagster.core.stage_results import COMPAT_STAGES, stage_results_problems
from mlcc_dagster.core.stages import CANONICAL_ORDER, Stage, stages_named

RECORDED = json.loads(Path(__file__).with_name("golden_ci_reports.json").read_text("utf-8"))
CONFIGURATIONS = load_catalog().deployment_configs.values()
KNOWN = [c.name for c in sorted(CONFIGURATIONS, key=lambda c: c.report_order or 0) if c.report_order is not None]
NEVER = "1970-01-01T00:00:00Z"
"""The recorded form of a time that is not there; ours is none."""


def line(record: dict[str, Any]) -> CiLine:
    tested = record["lastTestTimestamp"]
    return CiLine(
        config_id=record["configId"],
        name=record["configId"],
        deployment_config=record["deploymentConfig"],
        test_status=record["testStatus"],
        previous_test_status=record.get("previousTestStatus"),
        last_test=None if tested == NEVER else tested,
    )


def recorded_counts(report: Report) -> dict[str, Any]:
    document = report.to_json()
    return document["summary"] | {"untestedConfigs": document["untestedConfigs"]}


@pytest.mark.parametrize("name", ["report", "empty_report"])
def test_the_report_over_the_known_deployment_configs_counts_as_recorded(name: str) -> None:
    recorded = RECORDED[name]
    lines = [line(record) for record in RECORDED["report_input"]] if name == "report" else []
    report = by_deployment_config(lines, KNOWN)
    names = ("total", "tested", "passing", "failing", "untested", "coveragePercent", "untestedConfigs")
    assert recorded_counts(report) == {key: recorded[key] for key in names}
    for row in recorded.get("configurations", []):
        ours = report.to_json()["configurations"][row["deploymentConfig"]]
        assert (ours["status"], ours["recordCount"]) == (row["status"], row["recordCount"])
    assert list(report.to_json()["configurations"]) == KNOWN


def test_the_regressions_are_the_recorded_ones_under_the_recorded_names() -> None:
    report = by_deployment_config([line(record) for record in RECORDED["report_input"]], KNOWN)
    ours = report.to_json()["regressions"]
    recorded = RECORDED["report"]["regressions"]
    assert [{key: each[key] for key in first} for each, first in zip(ours, recorded, strict=True)] == recorded
    assert [each["likely"] for each in ours] == ["regression", "regression"]


def test_what_the_recorded_counts_do_not_show_is_said_beside_them() -> None:
    """A record that was never run counts as tested there, and one of an unknown deployment config is passed over."""
    report = by_deployment_config([line(record) for record in RECORDED["report_input"]], KNOWN)
    assert report.notes == (
        "registered and never run, counted as tested: http-flask",
        "records of other deployment configs, not counted: not-known (1)",
        "1 running now, counted neither as passing nor as failing",
    )


# ---- statuses and what is skipped

OURS: dict[str, tuple[Stage, ...]] = {
    "generate": (Stage.GENERATE,),
    "validate": (Stage.VALIDATE,),
    "build": (Stage.BUILD, Stage.PUSH),
    "deploy_test": (Stage.DEPLOY, Stage.TEST),
    "register": (Stage.REGISTER,),
    "teardown": (Stage.CLEAN,),
}
"""Recorded stages and ours. `update` is none of ours: a record that cannot be updated has no result to hold, its attempt waits
to be committed again."""

CONFIGURATION = Configuration("http-flask", "m", "other", "ml.m5.large", "us-east-1")


def outcome(*results: StageResult) -> Outcome:
    claim = Claim("0" * 16, 1, Owner("host", 1, 1, "boot", "run"), "round", "2026-01-01T00:00:00Z")
    asked = frozenset(stage for stages in OURS.values() for stage in stages)
    return Outcome(claim, CONFIGURATION, "ci", asked, BenchmarkPlan(False, "none", (1,)), results=results)


def result(stage: Stage, status: str) -> StageResult:
    return StageResult(stage, StageStatus(status), "2026-01-01T00:00:00Z", 1.0)


OUR_STATUS = {
    "pass": "pass",
    "fail-build": "fail-build",
    "fail-deploy_test": "fail-deploy",
    "fail-teardown": "fail-clean",
    "fail-update": "pass",
}
"""Recorded status of a run and ours: stages are told apart, teardown is clean, and `update` is no stage."""


@pytest.mark.parametrize("recorded", RECORDED["stage_status"], ids=lambda each: each["status"] + str(each["overrides"]))
def test_the_status_of_a_run_is_the_recorded_one_in_our_names(recorded: dict[str, Any]) -> None:
    made = outcome(
        *(
            result(stage, recorded["overrides"].get(name, "pass"))
            for name, stages in OURS.items()
            for stage in stages
            if stage not in (Stage.PUSH,)
        )
    )
    assert made.run_status == OUR_STATUS[recorded["status"]]
    # What the gate proved is told apart from what came after it.
    gate_failed = bool({"build", "deploy_test"} & set(recorded["overrides"]))
    assert made.test_status == (OUR_STATUS[recorded["status"]] if gate_failed else "pass")


@pytest.mark.parametrize(
    "status", ["fail-deploy_test", "fail-teardown", "fail-adapter_test", "fail-unknown", "fail-update", "gone wrong"]
)
def test_older_and_unknown_statuses_of_records_count_as_failures(status: str) -> None:
    report = by_configuration([CiLine("0" * 16, "old", "http-flask", status)])
    assert (report.summary.failing, report.failed) == (1, True)


@pytest.mark.parametrize("recorded", RECORDED["skip_logic"], ids=lambda each: each["failed"])
def test_what_is_skipped_after_a_failure_is_as_recorded(recorded: dict[str, Any]) -> None:
    failed = recorded["failed"]
    if failed == "bogus":
        with pytest.raises(UsageError, match="unknown stage 'bogus'"):
            stages_named(failed)
    made = outcome()
    fails = OURS.get(failed, (None,))[0]
    for stage in CANONICAL_ORDER:
        if stage in made.stages:
            status = "skip" if made.skip_reason(stage) else "fail" if stage is fails else "pass"
            made = made.with_result(result(stage, status))
    for name, stages in OURS.items():
        ours = [found.status.value for stage in stages if (found := made.result(stage))]
        expected = recorded["result"][name]["status"]
        # the first of two stages that are one there fails, the other is skipped
        assert ours == ([expected, "skip"][: len(stages)] if name == failed else [expected] * len(stages)), name


@pytest.mark.parametrize(("number", "recorded"), enumerate(RECORDED["stage_validation"]))
def test_stage_results_are_judged_in_the_recorded_sentences(number: int, recorded: dict[str, Any]) -> None:
    problems = stage_results_problems(recorded["input"], required=COMPAT_STAGES)
    assert {"valid": not problems, "errors": problems} == recorded["result"]
