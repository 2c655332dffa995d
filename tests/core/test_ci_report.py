"""The reports: what counts as what, which mark stands where, and what no rounding may claim."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcc_dagster.core.ci_report import (
    REGRESSION_MARK,
    By,
    CiLine,
    Report,
    Summary,
    by_configuration,
    by_deployment_config,
)
from mlcc_dagster.core.flakiness import Result

LINE = CiLine("0" * 16, "a", "http-flask", "pass", tier="ci", last_test="2026-01-01T00:00:00Z")


def results(text: str) -> tuple[Result, ...]:
    return tuple(Result(character == ".", {"template": "a"}) for character in text)


def line(**values: Any) -> CiLine:
    return replace(LINE, **values)


# ---- regressions


@pytest.mark.parametrize(
    ("values", "regressed", "text"),
    [
        pytest.param({"results": results("...")}, False, "pass", id="it passes"),
        pytest.param(
            {"test_status": "fail-test", "results": results("..F")},
            True,
            "fail-test ⚠️ REGRESSION",
            id="it failed after a pass",
        ),
        pytest.param(
            {"test_status": "fail-test", "previous_test_status": "fail-test", "results": results("..FFF")},
            True,
            "fail-test ⚠️ REGRESSION",
            id="it goes on failing: it is no better than yesterday",
        ),
        pytest.param({"test_status": "fail-test", "results": results("FFF")}, False, "fail-test", id="it never passed"),
        pytest.param(
            {"test_status": "running", "results": results("..F")},
            True,
            "running ⚠️ REGRESSION",
            id="a run that goes on does not take the last result back",
        ),
        pytest.param(
            {"test_status": "untested", "results": results("..F")},
            False,
            "untested",
            id="registered anew, it starts anew",
        ),
        pytest.param(
            {"test_status": "fail-test", "previous_test_status": "pass"},
            True,
            "fail-test ⚠️ REGRESSION",
            id="a record without a history says what was before it",
        ),
        pytest.param({"test_status": "fail-test"}, False, "fail-test", id="nothing is known before it"),
        pytest.param(
            {"test_status": "fail-test", "previous_test_status": "pass", "results": results("F")},
            True,
            "fail-test ⚠️ REGRESSION",
            id="it passed before its known history",
        ),
        pytest.param(
            {"test_status": "fail-test", "previous_test_status": "fail-build", "results": results("..")},
            True,
            "fail-test ⚠️ REGRESSION",
            id="a newer record was brought from elsewhere, and here it passed before",
        ),
        pytest.param(
            {"test_status": "running", "previous_test_status": "fail-test", "results": results("..")},
            True,
            "running ⚠️ REGRESSION",
            id="and runs again now",
        ),
        pytest.param(
            {"test_status": "running", "previous_test_status": "pass"},
            False,
            "running",
            id="one that passed is tried again",
        ),
        pytest.param(
            {"test_status": "fail-deploy", "results": results("..F"), "expected": True},
            False,
            "fail-deploy (as expected)",
            id="its entry exists to show this failure",
        ),
        pytest.param(
            {"test_status": "fail-test", "results": results("..F..F..F")},
            True,
            "fail-test ⚠️ REGRESSION (known flaky, likely a flake)",
            id="a known flaky one is marked as such and stays a regression",
        ),
        pytest.param(
            {"test_status": "fail-test", "results": results("..F..F..FFFF")},
            True,
            "fail-test ⚠️ REGRESSION (known flaky)",
            id="so many failures in a row are no flake",
        ),
        pytest.param({"results": results("..F..F..")}, False, "pass (known flaky)", id="it passes now and alternates"),
    ],
)
def test_a_regression_fails_after_a_pass_and_stays_one_until_it_passes(
    values: dict[str, Any], regressed: bool, text: str
) -> None:
    report = by_configuration([line(**values)])
    assert report.rows[0].status_text == text
    assert [each.config_id for each in report.regressions] == (["0" * 16] if regressed else [])
    assert (REGRESSION_MARK in report.rows[0].marks) == regressed


def test_a_regression_tells_its_history_in_the_json() -> None:
    report = by_configuration(
        [line(test_status="fail-test", previous_test_status="pass", results=results("..F..F..F"))]
    )
    (told,) = report.to_json()["regressions"]
    assert told == {
        "configId": "0" * 16,
        "name": "a",
        "deploymentConfig": "http-flask",
        "tier": "ci",
        "testStatus": "fail-test",
        "previousTestStatus": "pass",
        "lastTestTimestamp": "2026-01-01T00:00:00Z",
        "failuresInARow": 1,
        "knownFlaky": True,
        "likely": "flake",
    }


# ---- by configuration


def several(*statuses: str) -> list[CiLine]:
    return [line(config_id=f"{n:016x}", name=f"c{n}", test_status=status) for n, status in enumerate(statuses)]


def test_the_summary_line_counts_what_the_status_says() -> None:
    report = by_configuration(several("pass", "pass", "fail-build", "untested", "running"))
    assert report.summary.text == "5 total | 2 passing | 1 failing | 1 untested | 40% coverage"
    assert report.notes == ("1 running now, counted neither as passing nor as failing",)
    assert report.to_json()["untestedConfigs"] == ["c3"]
    assert by_configuration([]).summary.text == "0 total | 0 passing | 0 failing | 0 untested | 0% coverage"


@pytest.mark.parametrize(
    ("lines", "failed"),
    [
        (several("pass", "untested", "running"), False),
        (several("pass", "fail-test"), True),
        ([line(test_status="fail-deploy", expected=True)], False),
        ([line(test_status="running", results=results(".F"))], True),
        ([], False),
    ],
    ids=["nothing failed", "one fails", "as its entry expects", "a regression that is tried again", "nothing there"],
)
def test_a_report_failed_when_something_regressed_or_fails_unexpectedly(lines: list[CiLine], failed: bool) -> None:
    assert by_configuration(lines).failed == failed
    assert by_deployment_config(lines, ["http-flask"]).failed == failed
    assert by_deployment_config(lines, []).failed == failed, "also where no known one is concerned"


def test_lines_come_by_tier_and_names_that_two_share_are_told_apart() -> None:
    lines = [
        line(config_id="1" * 16, name="b", tier="nightly"),
        line(config_id="2" * 16, name="b", tier=None),
        line(config_id="3" * 16, name="z", tier="ci"),
        line(config_id="4" * 16, name="a", tier="mine"),
    ]
    rows = by_configuration(lines, tiers=["ci", "nightly"]).rows
    assert [row.name for row in rows] == ["z", f"b {'1' * 16}", "a", f"b {'2' * 16}"]


def test_confidence_stands_on_the_line_of_what_was_tested() -> None:
    document = by_configuration([line(results=results("...F"), test_status="fail-test"), line(name="b")]).to_json()
    told = document["configurations"]
    assert told["a"]["confidence"] == {"passes": 3, "runs": 4, "low": 0.3006, "high": 0.9544}
    assert told["b"]["confidence"] is None, "its status came from elsewhere: no run here is made up"
    untested = by_configuration([line(test_status="untested", last_test=None)]).to_json()
    assert untested["configurations"]["a"]["confidence"] is None


# ---- by deployment config


def test_the_latest_record_of_a_deployment_config_decides_whatever_its_time_is_written_like() -> None:
    older = line(config_id="1" * 16, test_status="fail-test", last_test="2026-01-01T12:00:00.500000Z", project="old")
    newer = line(config_id="2" * 16, last_test="2026-01-01T14:00:00+01:00", project="new", duration_seconds=3.0)
    never = line(config_id="3" * 16, test_status="untested", last_test=None)
    for lines in ([older, newer, never], [never, newer, older]):
        (row,) = by_deployment_config(lines, ["http-flask"]).rows
        assert (row.status, row.project, row.duration_seconds, row.record_count) == ("pass", "new", 3.0, 3)


def test_a_regression_of_any_of_its_configurations_marks_a_deployment_config() -> None:
    passing = line(config_id="2" * 16, last_test="2026-01-02T00:00:00Z")
    broken = line(config_id="1" * 16, name="old", test_status="fail-build", results=results("..F"))
    report = by_deployment_config([broken, passing], ["http-flask"])
    assert report.rows[0].status_text == "pass ⚠️ REGRESSION (of old fail-build)"
    assert report.failed
    both = by_deployment_config(
        [broken, replace(passing, test_status="fail-test", results=results(".F"))], ["http-flask"]
    )
    assert both.rows[0].status_text == "fail-test ⚠️ REGRESSION (of old fail-build)"
    assert len(both.regressions) == 2


def test_by_deployment_config_coverage_is_tested_of_all_with_one_decimal() -> None:
    report = by_deployment_config([LINE], ["http-flask", "x", "y"])
    assert report.summary.text == "3 total | 1 tested | 1 passing | 0 failing | 2 untested | 33.3% coverage"
    assert report.to_json()["untestedConfigs"] == ["x", "y"]


@given(st.integers(0, 3000), st.integers(0, 3000), st.sampled_from(list(By)))
def test_a_percentage_claims_all_or_nothing_only_when_it_is_true(first: int, second: int, by: By) -> None:
    covered, total = sorted((first, second))
    summary = Summary(by, total, covered, covered, 0, total - covered)
    percent = summary.coverage_pct
    assert (percent == 100) == (covered == total > 0)
    assert (percent == 0) == (covered == 0)
    if total:
        step = 0.1 if by is By.DEPLOYMENT_CONFIG else 1.0
        assert abs(percent - 100 * covered / total) < step
    assert summary.text.endswith(f"| {percent:.{1 if by is By.DEPLOYMENT_CONFIG else 0}f}% coverage")


STATUSES = st.sampled_from(["pass", "running", "untested", "fail-test", "fail-deploy_test"])


@given(st.lists(st.tuples(STATUSES, st.sampled_from("abcx"))))
def test_no_record_is_lost_between_the_counts(drawn: list[tuple[str, str]]) -> None:
    lines = [
        line(config_id=f"{n:016x}", name=str(n), test_status=status, deployment_config=config)
        for n, (status, config) in enumerate(drawn)
    ]

    def running(report: Report) -> int:
        return sum(row.status == "running" for row in report.rows)

    report = by_configuration(lines)
    counts = report.summary
    assert counts.passing + counts.failing + counts.untested + running(report) == counts.total == len(lines)
    known = by_deployment_config(lines, "abc")
    assert known.summary.tested + known.summary.untested == known.summary.total == 3
    elsewhere = sum(config == "x" for _, config in drawn)
    assert sum(row.record_count for row in known.rows) + elsewhere == len(lines)
    assert any("x (" in note for note in known.notes) == (elsewhere > 0)
    assert known.failed == report.failed
