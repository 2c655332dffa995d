"""The two reports of continuous validation: by configuration, and over the known deployment configs.

Belongs here: what the reports count, which configuration regressed, their text and their JSON shape. Not here: reading the
table (`resources.ci_lines`), flake or regression (`flakiness.py`), the release gate (`release_gate.py`). Source: the reports
of continuous validation.

By deployment config a known one counts as tested once it has a record, whatever that says, as existing reports count it;
records that were never run are told apart in a note. Percentages never round into 0 or 100.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import Any

from mlcc_dagster.core.flakiness import Confidence, Course, Result, Stability, confidence_of, judge

PASSING, RUNNING, UNTESTED = "pass", "running", "untested"
REGRESSION_MARK = "⚠️ REGRESSION"


class By(StrEnum):
    """What a line of a report stands for."""

    CONFIGURATION = "configuration"
    DEPLOYMENT_CONFIG = "deployment-config"


@dataclass(frozen=True)
class CiLine:
    """What the table says of one configuration. `name` is its catalog id where it has one; `results` are its finished tests,
    oldest first; `last_test` is ISO 8601 text, none where it was never tested; `duration_seconds` of the last test;
    `expected` says that it fails as its catalog entry exists to show."""

    config_id: str
    name: str
    deployment_config: str
    test_status: str
    previous_test_status: str | None = None
    tier: str | None = None
    project: str | None = None
    last_test: str | None = None
    duration_seconds: float | None = None
    results: tuple[Result, ...] = ()
    expected: bool = False

    @property
    def passing(self) -> bool:
        """Whether its last test passed and none runs now."""
        return self.test_status == PASSING

    @property
    def failing(self) -> bool:
        """Whether its last test failed; a status that is none of the known ones counts as a failure."""
        return self.test_status not in (PASSING, RUNNING, UNTESTED)

    @cached_property
    def stability(self) -> Stability:
        """What its results say together. A record may know more than its history: one that was brought from elsewhere has
        its last status and the one before it, and no attempt."""
        before, status = self.previous_test_status, self.test_status
        if status == RUNNING:
            before, status = None, before  # the last result is the one before this run
        found = list(self.results)
        if status not in (None, UNTESTED, RUNNING) and (not found or found[-1].passed != (status == PASSING)):
            if not found and before not in (None, UNTESTED, RUNNING):
                found.append(Result(before == PASSING))
            found.append(Result(status == PASSING))
        judged = judge(found, passed_before=before == PASSING)
        # a status that came from elsewhere is known, but no run here: passes are counted over runs
        return replace(judged, confidence=confidence_of(self.results))

    @property
    def regressed(self) -> bool:
        """Whether its latest result fails after a pass, and not as expected. One that is registered anew starts anew."""
        return not self.expected and self.test_status not in (UNTESTED, PASSING) and self.stability.failed_after_pass

    @property
    def marks(self) -> tuple[str, ...]:
        """What stands beside the status: the regression, whether it is likely a flake, that it is known to be flaky, and
        that it fails as expected."""
        found = [REGRESSION_MARK] if self.regressed else []
        if self.stability.flaky:
            found.append("known flaky" + (", likely a flake" if self.regressed and self._likely_flake else ""))
        if self.expected and self.failing:
            found.append("as expected")
        return tuple(found)

    @property
    def _likely_flake(self) -> bool:
        return self.stability.course is Course.FLAKE

    def regression_json(self) -> dict[str, Any]:
        """Return the record of a regression: its published names, then what its history says."""
        return {
            "configId": self.config_id,
            "name": self.name,
            "deploymentConfig": self.deployment_config,
            "tier": self.tier,
            "testStatus": self.test_status,
            "previousTestStatus": self.previous_test_status,
            "lastTestTimestamp": self.last_test,
            "failuresInARow": self.stability.streak,
            "knownFlaky": self.stability.flaky,
            "likely": (Course.FLAKE if self._likely_flake else Course.REGRESSION).value,
        }


@dataclass(frozen=True)
class Row:
    """One line of a report. `record_count` is how many records it stands for; `duration_seconds` of the last test."""

    name: str
    status: str
    marks: tuple[str, ...]
    last_test: str | None
    duration_seconds: float | None
    record_count: int
    project: str | None = None
    tier: str | None = None
    config_id: str | None = None
    confidence: Confidence | None = None

    @property
    def status_text(self) -> str:
        """The status with its marks: a regression stands out, the others in brackets."""
        regressed = REGRESSION_MARK in self.marks
        others = _in_brackets([mark for mark in self.marks if mark != REGRESSION_MARK])
        return f"{self.status}{f' {REGRESSION_MARK}' if regressed else ''}{others}"


@dataclass(frozen=True)
class Summary:
    """The counts of a report. `covered` is what its percentage counts: passing, or tested by deployment config."""

    by: By
    total: int
    tested: int
    passing: int
    failing: int
    untested: int

    @property
    def covered(self) -> int:
        """The numerator of the coverage."""
        return self.tested if self.by is By.DEPLOYMENT_CONFIG else self.passing

    @property
    def coverage_pct(self) -> float:
        """Coverage in percent: whole, by deployment config with one decimal; 0 of nothing. Short of all it stays below 100,
        above none above 0, since a rounded 100 would be a claim that is not true."""
        step = 0.1 if self.by is By.DEPLOYMENT_CONFIG else 1.0
        if self.covered in (0, self.total):
            return 100.0 if self.covered else 0.0
        share = round(100 * self.covered / self.total / step) * step
        return round(min(max(share, step), 100 - step), 1)

    @property
    def text(self) -> str:
        """The summary line."""
        tested = f"{self.tested} tested | " if self.by is By.DEPLOYMENT_CONFIG else ""
        coverage = f"{self.coverage_pct:.{1 if self.by is By.DEPLOYMENT_CONFIG else 0}f}% coverage"
        counts = f"{self.passing} passing | {self.failing} failing | {self.untested} untested"
        return f"{self.total} total | {tested}{counts} | {coverage}"


@dataclass(frozen=True)
class Report:
    """One report: its lines, counts, and what regressed, of all configurations whatever the lines stand for. `notes` are
    sentences on what the counts do not show."""

    summary: Summary
    rows: tuple[Row, ...]
    regressions: tuple[CiLine, ...]
    unexpected: tuple[CiLine, ...]
    untested: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def failed(self) -> bool:
        """Whether a configuration regressed, or fails and not as expected. The same by either view."""
        return bool(self.regressions or self.unexpected)

    def to_json(self) -> dict[str, Any]:
        """Return the report as one JSON document; a percentage without a fraction is a whole number."""
        summary = self.summary
        coverage = summary.coverage_pct
        return {
            "by": summary.by.value,
            "summary": {
                "total": summary.total,
                "tested": summary.tested,
                "passing": summary.passing,
                "failing": summary.failing,
                "untested": summary.untested,
                "coveragePercent": int(coverage) if coverage.is_integer() else coverage,
            },
            "configurations": {row.name: _row_json(row, summary.by) for row in self.rows},
            "regressions": [line.regression_json() for line in self.regressions],
            "untestedConfigs": list(self.untested),
            "notes": list(self.notes),
        }


def by_configuration(lines: Sequence[CiLine], *, tiers: Sequence[str] = ()) -> Report:
    """Report every record on a line of its own, by tier (in the order of `tiers`, others after them), then by name.

    Names that two records share are followed by the config id.
    """
    places = {tier: place for place, tier in enumerate(tiers)}
    ordered = sorted(
        lines, key=lambda line: (places.get(line.tier or "", len(places)), line.tier or "~", line.name, line.config_id)
    )
    names = Counter(line.name for line in lines)
    rows = tuple(
        Row(
            name=line.name if names[line.name] == 1 else f"{line.name} {line.config_id}",
            status=line.test_status,
            marks=line.marks,
            last_test=line.last_test,
            duration_seconds=line.duration_seconds,
            record_count=1,
            project=line.project,
            tier=line.tier,
            config_id=line.config_id,
            confidence=line.stability.confidence,
        )
        for line in ordered
    )
    untested = tuple(row.name for row in rows if row.status == UNTESTED)
    running = sum(line.test_status == RUNNING for line in lines)
    summary = Summary(
        by=By.CONFIGURATION,
        total=len(lines),
        tested=len(lines) - len(untested),
        passing=sum(line.passing for line in lines),
        failing=sum(line.failing for line in lines),
        untested=len(untested),
    )
    return _report(summary, rows, ordered, untested, _running_note(running))


def by_deployment_config(lines: Sequence[CiLine], known: Sequence[str]) -> Report:
    """Report the known deployment configs in their order; of several records of one the latest decides."""
    groups: Mapping[str, list[CiLine]] = MappingProxyType({name: [] for name in known})
    elsewhere: dict[str, int] = {}
    for line in lines:
        if line.deployment_config in groups:
            groups[line.deployment_config].append(line)
        else:
            elsewhere[line.deployment_config] = elsewhere.get(line.deployment_config, 0) + 1
    latest = {name: max(group, key=_moment, default=None) for name, group in groups.items()}
    rows = tuple(
        Row(
            name=name,
            status=UNTESTED if line is None else line.test_status,
            marks=_marks_of_group(groups[name], line),
            last_test=None if line is None else line.last_test,
            duration_seconds=None if line is None else line.duration_seconds,
            record_count=len(groups[name]),
            project=None if line is None else line.project,
        )
        for name, line in latest.items()
    )
    untested = tuple(row.name for row in rows if row.record_count == 0)
    decided = [line for line in latest.values() if line is not None]
    summary = Summary(
        by=By.DEPLOYMENT_CONFIG,
        total=len(rows),
        tested=len(decided),
        passing=sum(line.passing for line in decided),
        failing=sum(line.failing for line in decided),
        untested=len(untested),
    )
    never_run = [line.deployment_config for line in decided if line.test_status == UNTESTED]
    notes = [f"registered and never run, counted as tested: {', '.join(never_run)}"] if never_run else []
    if elsewhere:
        shown = ", ".join(f"{name or 'none'} ({count})" for name, count in elsewhere.items())
        notes.append(f"records of other deployment configs, not counted: {shown}")
    running = sum(line.test_status == RUNNING for line in decided)
    return _report(summary, rows, lines, untested, (*notes, *_running_note(running)))


def _report(
    summary: Summary, rows: tuple[Row, ...], lines: Sequence[CiLine], untested: tuple[str, ...], notes: tuple[str, ...]
) -> Report:
    return Report(
        summary=summary,
        rows=rows,
        regressions=tuple(line for line in lines if line.regressed),
        unexpected=tuple(line for line in lines if line.failing and not line.expected),
        untested=untested,
        notes=notes,
    )


def _marks_of_group(group: Sequence[CiLine], latest: CiLine | None) -> tuple[str, ...]:
    """Return the marks of the latest record, and the regression of any of the others with its name."""
    others = [line for line in group if line.regressed and line is not latest]
    marks = latest.marks if latest is not None else ()
    if not others:
        return marks
    named = ", ".join(f"{line.name} {line.test_status}{_in_brackets(line.marks[1:])}" for line in others)
    return (*(marks if latest and latest.regressed else (REGRESSION_MARK, *marks)), f"of {named}")


def _in_brackets(marks: Sequence[str]) -> str:
    return f" ({'; '.join(marks)})" if marks else ""


def _running_note(running: int) -> tuple[str, ...]:
    return (f"{running} running now, counted neither as passing nor as failing",) if running else ()


def _moment(line: CiLine) -> datetime:
    """Return when a record was last tested; one that never was is older than all others."""
    if line.last_test is None:
        return datetime.min.replace(tzinfo=UTC)
    moment = datetime.fromisoformat(line.last_test)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _row_json(row: Row, by: By) -> dict[str, Any]:
    document: dict[str, Any] = {
        "status": row.status,
        "project": row.project,
        "lastTest": row.last_test,
        "duration": row.duration_seconds,
        "recordCount": row.record_count,
        "marks": list(row.marks),
    }
    if by is By.CONFIGURATION:
        confidence = row.confidence
        document |= {"configId": row.config_id, "tier": row.tier}
        document["confidence"] = None if confidence is None else confidence.to_json()
    return document
