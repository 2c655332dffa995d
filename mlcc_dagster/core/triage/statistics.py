"""What the trials of a cell come to: counts, failure rate, step times.

Belongs here: numbers over the trials of one cell. Not here: comparing cells (`confound.py`), one trial (`trials.py`). Source:
triage, schema version 1; the failure rate counts verdicts alone, `fail / (pass + fail)`, where others count crashes of the
infrastructure as failures.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np

from mlcc_dagster.core.triage.trials import ExitStatus, TrialResult, Verdict

UNRELIABLE_SHARE = Fraction(1, 10)
"""From this share of errors on what a cell says is unreliable: who knows what the lost trials would have said."""


@dataclass(frozen=True)
class CellStatistics:
    """Numbers over the trials of one cell, in their order. Step times are those of trials with a verdict, in ms; they and
    what is made of them are absent where the workload does not time its steps. `labels` are those of all trials, `reasons` of
    those that did not pass, the most frequent first."""

    passed: int
    failed: int
    errors: int
    exit_status_counts: Mapping[str, int]
    labels: Mapping[str, int]
    step_times_ms: tuple[float, ...]
    wall_clocks_s: tuple[float, ...]
    reasons: Mapping[str, int]

    @property
    def trials(self) -> int:
        """How many trials ended, errors included."""
        return self.passed + self.failed + self.errors

    @property
    def verdicts(self) -> int:
        """How many trials said something of the cell."""
        return self.passed + self.failed

    @property
    def failure_rate(self) -> float | None:
        """Failed trials of those with a verdict; none without any."""
        return self.failed / self.verdicts if self.verdicts else None

    @property
    def unreliable(self) -> bool:
        """Whether so many trials were errors that the rest says little."""
        return self.trials > 0 and Fraction(self.errors, self.trials) >= UNRELIABLE_SHARE

    @property
    def mean_step(self) -> Fraction | None:
        """The mean step time in ms, exactly that of the times as they are written; none where steps are not timed.

        A mean in floating point could fall on the other side of a threshold that it exactly meets.
        """
        times = self.step_times_ms
        return sum((Fraction(Decimal(repr(each))) for each in times), Fraction(0)) / len(times) if times else None

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        times = np.asarray(self.step_times_ms, dtype=float)
        some = times.size > 0
        p50, p90, p99 = (float(each) for each in np.percentile(times, [50, 90, 99])) if some else (None, None, None)
        mean = self.mean_step
        return {
            "trials": self.trials,
            "passed": self.passed,
            "failed": self.failed,
            "errors": self.errors,
            "failure_rate": self.failure_rate,
            "unreliable": self.unreliable,
            "exit_status_counts": dict(self.exit_status_counts),
            "labels": dict(self.labels),
            "reasons": dict(self.reasons),
            "mean_step_time_ms": None if mean is None else float(mean),
            "std_step_time_ms": float(times.std(ddof=1)) if times.size > 1 else None,
            "median_step_time_ms": p50,
            "p90_step_time_ms": p90,
            "p99_step_time_ms": p99,
            "min_step_time_ms": float(times.min()) if some else None,
            "max_step_time_ms": float(times.max()) if some else None,
            "step_time_source": "per_step" if some else "none",
            "mean_wall_clock_s": float(np.mean(self.wall_clocks_s)) if self.wall_clocks_s else None,
            "step_times_ms": list(self.step_times_ms),
        }


def statistics_of(trials: Sequence[TrialResult]) -> CellStatistics:
    """Return the numbers over the trials of one cell."""
    verdicts = Counter(trial.verdict for trial in trials)
    said = [trial for trial in trials if trial.verdict is not Verdict.ERROR]
    statuses = Counter(trial.status for trial in trials)
    # a cell of which some trials are timed step by step and some are not has no step times that can be compared
    timed = bool(said) and all(trial.step_times_ms for trial in said)
    return CellStatistics(
        passed=verdicts[Verdict.PASS],
        failed=verdicts[Verdict.FAIL],
        errors=verdicts[Verdict.ERROR],
        exit_status_counts={status.value: statuses[status] for status in ExitStatus},
        labels=dict(Counter(trial.label for trial in trials if trial.label).most_common()),
        step_times_ms=tuple(each for trial in said for each in trial.step_times_ms) if timed else (),
        wall_clocks_s=tuple(trial.wall_clock_s for trial in said),
        reasons=dict(
            Counter(
                trial.reason for trial in trials if trial.reason and trial.verdict is not Verdict.PASS
            ).most_common()
        ),
    )
