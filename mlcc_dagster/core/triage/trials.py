"""Trials: one try of a cell, how it ended, and how long its steps took.

Belongs here: the record of a trial, its JSON form and what its status means. Not here: running one (`resources.triage`),
numbers over several (`statistics.py`). Source of the statuses: triage, schema version 1; that a crash of the infrastructure is
no failure of the workload is ours.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

SCHEMA_VERSION = 1


class ExitStatus(StrEnum):
    """How a trial ended. Setup: before the workload got to its work; infrastructure: what lies around it gave way."""

    OK = "ok"
    WORKLOAD_FAILED = "workload_failed"
    WORKLOAD_SETUP_FAILED = "workload_setup_failed"
    INFRASTRUCTURE_FAILED = "infrastructure_failed"


class Verdict(StrEnum):
    """What a trial says of its cell: nothing, where it is an error."""

    PASS = "pass"
    FAIL = "fail"
    ERROR = "error"


VERDICTS: Mapping[ExitStatus, Verdict] = MappingProxyType(
    {
        ExitStatus.OK: Verdict.PASS,
        ExitStatus.WORKLOAD_FAILED: Verdict.FAIL,
        ExitStatus.WORKLOAD_SETUP_FAILED: Verdict.ERROR,
        ExitStatus.INFRASTRUCTURE_FAILED: Verdict.ERROR,
    }
)


@dataclass(frozen=True)
class TrialResult:
    """What one trial left. `step_times_ms` are those of single steps, empty where the workload does not time them;
    `wall_clock_s` is all of it; `reason` says in one sentence how it failed; `label` names the kind of failure in a word or
    two; `metrics` are JSON values of the workload's own; `output` is the end of what it printed."""

    cell: str
    number: int
    status: ExitStatus
    started_at: str
    wall_clock_s: float
    steps: int
    step_times_ms: tuple[float, ...] = ()
    reason: str | None = None
    label: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    output: str | None = None

    @property
    def verdict(self) -> Verdict:
        """What the trial says of its cell."""
        return VERDICTS[self.status]

    def to_json(self) -> dict[str, Any]:
        """Return the document that lies in the cell's folder."""
        return {
            "schema_version": SCHEMA_VERSION,
            "cell": self.cell,
            "trial": self.number,
            "exit_status": self.status.value,
            "verdict": self.verdict.value,
            "started_at": self.started_at,
            "wall_clock_s": self.wall_clock_s,
            "steps": self.steps,
            "step_times_ms": list(self.step_times_ms),
            "reason": self.reason,
            "label": self.label,
            "metrics": dict(self.metrics),
            "output": self.output,
        }


def read_trial(document: Any, *, cell: str, number: int) -> TrialResult | None:
    """Read back what `TrialResult.to_json` wrote for a cell's trial; none where it is no whole record of that trial, such as
    one that was cut off, so that the trial is run again."""
    if not isinstance(document, dict):
        return None
    if (document.get("schema_version"), document.get("cell"), document.get("trial")) != (SCHEMA_VERSION, cell, number):
        return None
    try:
        times = tuple(float(each) for each in document["step_times_ms"])
        result = TrialResult(
            cell=cell,
            number=number,
            status=ExitStatus(document["exit_status"]),
            started_at=str(document["started_at"]),
            wall_clock_s=float(document["wall_clock_s"]),
            steps=int(document["steps"]),
            step_times_ms=times,
            reason=_text(document["reason"]),
            label=_text(document["label"]),
            metrics=MappingProxyType(dict(document["metrics"])),
            output=_text(document["output"]),
        )
    except (KeyError, TypeError, ValueError):
        return None
    whole = all(map(math.isfinite, (*times, result.wall_clock_s)))
    return result if whole and document.get("verdict") == result.verdict.value else None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
