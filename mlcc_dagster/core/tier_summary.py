"""What one tier run left, as a document and as a page for people.

Belongs here: the summary, its JSON and Markdown forms. Not here: reading it from a home and writing the files
(`resources.tier_summaries`). Source: the artifacts of a tier run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlcc_dagster.core.flakiness import Confidence
from mlcc_dagster.core.release_gate import ReleaseDecision

SUMMARY_VERSION = "1"


@dataclass(frozen=True)
class SummaryRow:
    """One configuration of the run. What its attempt found is none where none finished; `cost_usd` is of all its attempts in
    the run; `expected_failure` is what its catalog entry exists to show."""

    config_id: str
    name: str
    configuration: str
    run_id: str | None = None
    status: str | None = None
    test_status: str | None = None
    run_status: str | None = None
    seconds: float | None = None
    cost_usd: float | None = None
    failure_category: str | None = None
    reason: str | None = None
    expected_failure: str | None = None
    regressed: bool = False
    confidence: Confidence | None = None

    @property
    def finished(self) -> bool:
        """Whether it has a result in this run."""
        return self.run_status is not None

    @property
    def passed(self) -> bool:
        """Whether everything that was asked for worked, and something was tested."""
        return self.run_status == "pass" and self.status == "completed"

    @property
    def as_expected(self) -> bool:
        """Whether it ended as its entry says: passed, or with the failure that it exists to show."""
        if self.expected_failure is None:
            return self.passed
        return self.finished and self.failure_category == self.expected_failure

    @property
    def verdict(self) -> str:
        """The result in a few words."""
        if not self.finished:
            return "not finished"
        if self.passed:
            return "passed" if self.as_expected else f"passed, although its entry expects {self.expected_failure}"
        if self.run_status == "pass":
            return "nothing tested"
        category = f" ({self.failure_category})" if self.failure_category else ""
        regression = ", ⚠️ REGRESSION" if self.regressed else ""
        return f"{self.run_status}{category}{', as expected' if self.as_expected else regression}"

    def to_json(self) -> dict[str, Any]:
        """Return the row with its verdict; absent is null."""
        return {
            "config_id": self.config_id,
            "name": self.name,
            "configuration": self.configuration,
            "verdict": self.verdict,
            "as_expected": self.as_expected,
            "regressed": self.regressed,
            "run_id": self.run_id,
            "status": self.status,
            "test_status": self.test_status,
            "run_status": self.run_status,
            "seconds": self.seconds,
            "cost_usd": self.cost_usd,
            "failure_category": self.failure_category,
            "reason": self.reason,
            "confidence": None if self.confidence is None else self.confidence.to_json(),
        }


@dataclass(frozen=True)
class TierSummary:
    """One tier run. `round` names it, `scope` is its tier (or `config:<id>`); the estimates are what was said before it
    began, none where nobody estimated; `gate` is none for tiers that release nothing."""

    scope: str
    round: str
    executor: str
    written_at: str
    rows: tuple[SummaryRow, ...]
    estimated_usd: float | None = None
    estimated_seconds: float | None = None
    cost_ceiling_usd: float | None = None
    gate: ReleaseDecision | None = None

    @property
    def finished(self) -> bool:
        """Whether every configuration has a result."""
        return all(row.finished for row in self.rows)

    @property
    def actual_usd(self) -> float:
        """What the finished runs cost."""
        return sum(row.cost_usd or 0.0 for row in self.rows)

    @property
    def actual_seconds(self) -> float:
        """How long the finished runs took, one after the other."""
        return sum(row.seconds or 0.0 for row in self.rows)

    @property
    def counts(self) -> Mapping[str, int]:
        """How many there are, and how they ended."""
        return {
            "total": len(self.rows),
            "passed": sum(row.passed for row in self.rows),
            "failed": sum(row.finished and not row.passed for row in self.rows),
            "not_finished": sum(not row.finished for row in self.rows),
            "not_as_expected": sum(not row.as_expected for row in self.rows),
        }

    def to_json(self) -> dict[str, Any]:
        """Return the summary as a JSON document."""
        return {
            "schema_version": SUMMARY_VERSION,
            "scope": self.scope,
            "round": self.round,
            "executor": self.executor,
            "written_at": self.written_at,
            "finished": self.finished,
            "counts": dict(self.counts),
            "estimated_usd": self.estimated_usd,
            "actual_usd": self.actual_usd,
            "cost_ceiling_usd": self.cost_ceiling_usd,
            "estimated_seconds": self.estimated_seconds,
            "actual_seconds": self.actual_seconds,
            "release_gate": None if self.gate is None else self.gate.to_json(),
            "configurations": [row.to_json() for row in self.rows],
        }

    def to_markdown(self) -> str:
        """Return the summary as a page: counts and money, the table, then the reason of everything that is not as expected."""
        counts = self.counts
        ceiling = f", ceiling {self.cost_ceiling_usd:g} USD" if self.cost_ceiling_usd is not None else ""
        estimated = f"estimated {self.estimated_usd:.4f} USD, " if self.estimated_usd is not None else ""
        lines = [
            f"# {self.scope}: {counts['passed']} of {counts['total']} passed",
            "",
            f"Round `{self.round}` with executor {self.executor}, written {self.written_at}"
            f"{'' if self.finished else '; **not finished**'}.",
            "",
            f"{counts['total']} total | {counts['passed']} passed | {counts['failed']} failed | "
            f"{counts['not_finished']} not finished | {counts['not_as_expected']} not as expected",
            "",
            f"Cost: {estimated}actual {self.actual_usd:.4f} USD{ceiling}. Time: {self.actual_seconds:.0f} s.",
            "",
            "| configuration | verdict | run | seconds | USD | last 20 runs |",
            "|---|---|---|---:|---:|---|",
            *(_markdown_row(row) for row in self.rows),
        ]
        reasons = [
            f"- {_cell(row.name)}: {_cell(row.reason or row.verdict)}" for row in self.rows if not row.as_expected
        ]
        if reasons:
            lines += ["", "## Not as expected", "", *reasons]
        if self.gate is not None:
            lines += ["", "## Release gate", "", f"{self.gate.sentence[:1].upper()}{self.gate.sentence[1:]}."]
            lines += ["", *(f"- {_cell(reason)}" for reason in self.gate.reasons)] if self.gate.reasons else []
        return "\n".join(lines) + "\n"


def _markdown_row(row: SummaryRow) -> str:
    seconds = "" if row.seconds is None else f"{row.seconds:.1f}"
    usd = "" if row.cost_usd is None else f"{row.cost_usd:.4f}"
    confidence = "" if row.confidence is None else str(row.confidence)
    cells = (row.name, row.verdict, row.run_id or "", seconds, usd, confidence)
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    """Return a text on one line that cannot end a cell: what a log said may hold anything."""
    return " ".join(text.split()).replace("|", "\\|")
