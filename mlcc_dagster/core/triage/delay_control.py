"""Whether a mitigation cures, or only its slow-down does: the baseline is slowed by as much and tried again.

Belongs here: which cells need such a control, by how much it is slowed, when it has been tried enough, and what it says. Not
here: slowing a step (`resources.triage.workloads`), tags without controls (`confound.py`).

The control is the baseline with a pause in every step, as long as the difference of both mean step times. What it says
follows from two one-sided comparisons, each at 5 % (`Shown`): failures that are gone under the delay alone are explained by
it, failures that are still there are not. A control that did not become as slow as it was meant to says nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from typing import Any

import numpy as np
from scipy import special

from mlcc_dagster.core.triage.anytime import ALONE, e_value, failures
from mlcc_dagster.core.triage.cell_evidence import SIGNIFICANCE, fisher_less
from mlcc_dagster.core.triage.confound import Assessment, Tag
from mlcc_dagster.core.triage.recipe import Cell, Recipe
from mlcc_dagster.core.triage.statistics import CellStatistics, statistics_of
from mlcc_dagster.core.triage.trials import TrialResult

SLOWED_SHARE = Fraction(8, 10)
"""How much of the delay the control must really have become slower by."""

LOOK_AFTER = 3
"""Trials after which a control that does not become slower is given up."""

_DECIMALS = 6


class Explains(StrEnum):
    """What a control says. `DELAY`: the delay alone makes the failures go away. `MITIGATION`: they are still there."""

    DELAY = "delay"
    MITIGATION = "mitigation"
    UNDECIDED = "undecided"
    NOT_COMPARABLE = "n/a"


@dataclass(frozen=True)
class Control:
    """The baseline slowed by `delay_ms` per step for the sake of `cell`, and its trials so far."""

    cell: str
    delay_ms: float
    trials: Sequence[TrialResult]


@dataclass(frozen=True)
class Shown:
    """One comparison: `lower` failed less often than `higher`, each (failed, verdicts). `p_value` is Fisher's, one-sided.
    Where trials were shared out adaptively their number depends on what they said: Fisher's test does not hold, and the
    `e_value` decides."""

    lower: tuple[int, int]
    higher: tuple[int, int]
    p_value: float
    e_value: float | None

    @property
    def holds(self) -> bool:
        """Whether the difference is shown, at 5 %."""
        return self.p_value <= SIGNIFICANCE if self.e_value is None else self.e_value >= ALONE

    @property
    def text(self) -> str:
        """The number that decides, as a person reads it."""
        if self.e_value is not None:
            return f"e = {self.e_value:.3g}"
        return "p < 0.0001" if self.p_value < 0.0001 else f"p = {self.p_value:.2g}"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"fisher_p_one_sided": self.p_value, "e_value": self.e_value, "shown": self.holds}


@dataclass(frozen=True)
class ControlEvidence:
    """What a control says of its cell. `of_delay` compares the control with the baseline, `beyond_delay` the cell with the
    control; absent where a side has no verdict."""

    cell: str
    delay_ms: float
    statistics: CellStatistics
    explains: Explains
    why: str | None = None
    of_delay: Shown | None = None
    beyond_delay: Shown | None = None

    def line(self) -> str:
        """Return it in one sentence."""
        slowed = f"the baseline slowed by {self.delay_ms:.3g} ms a step"
        if self.of_delay is None or self.beyond_delay is None or self.explains is Explains.NOT_COMPARABLE:
            return f"{slowed}: {self.why}"
        failed, verdicts = self.of_delay.lower
        base_failed, base_verdicts = self.of_delay.higher
        said = {
            Explains.DELAY: "so the delay alone explains what the cell seems to cure",
            Explains.MITIGATION: "so the mitigation cures beyond its delay",
            Explains.UNDECIDED: "which says neither; try both more often",
        }[self.explains]
        return (
            f"{slowed} failed in {failed} of {verdicts} trials; fewer than the baseline's {base_failed} of {base_verdicts}: "
            f"{self.of_delay.text}; the cell's {self.beyond_delay.lower[0]} of {self.beyond_delay.lower[1]} fewer than that: "
            f"{self.beyond_delay.text}; {said}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "delay_ms": self.delay_ms,
            "explains": self.explains.value,
            "why": self.why,
            "control_against_baseline": None if self.of_delay is None else self.of_delay.to_json(),
            "cell_against_control": None if self.beyond_delay is None else self.beyond_delay.to_json(),
            "statistics": self.statistics.to_json(),
        }


def delay_wanted(assessment: Assessment, cell: Sequence[TrialResult], base: Sequence[TrialResult]) -> float | None:
    """Return by how many ms per step the baseline must be slowed to be the control of a cell, none where the cell needs no
    control: it does not fail less often, or is not slower. One that is credited counts as slower when the mean step times of its
    trials are, by Welch's test at 5 %; one that is tagged `speed` always does."""
    evidence = assessment.evidence
    if evidence is None or evidence.failed * evidence.baseline_verdicts >= evidence.baseline_failed * evidence.verdicts:
        return None
    if not (assessment.tag is Tag.SPEED or (assessment.tag is Tag.CREDITED and is_slower(cell, base))):
        return None
    own, other = statistics_of(cell).mean_step, statistics_of(base).mean_step
    if own is None or other is None:
        return None
    delay = round(float(own - other), _DECIMALS)
    return delay if delay > 0 else None


def is_slower(cell: Sequence[TrialResult], base: Sequence[TrialResult]) -> bool:
    """Whether the trials of a cell have larger mean step times than those of the baseline, by Welch's one-sided test at 5 %."""
    own, other = _trial_means(cell), _trial_means(base)
    if len(own) < 2 or len(other) < 2:
        return False
    variances = own.var(ddof=1) / len(own), other.var(ddof=1) / len(other)
    difference = float(own.mean() - other.mean())
    spread = float(sum(variances))
    if spread == 0:
        return difference > 0
    freedom = spread**2 / (variances[0] ** 2 / (len(own) - 1) + variances[1] ** 2 / (len(other) - 1))
    return float(special.stdtr(freedom, -difference / math.sqrt(spread))) <= SIGNIFICANCE


def _trial_means(trials: Sequence[TrialResult]) -> Any:
    return np.asarray([np.mean(trial.step_times_ms) for trial in trials if trial.step_times_ms])


def tried_enough(
    control: Control, recipe: Recipe, base: Cell, of_base: Sequence[TrialResult], of_cell: Sequence[TrialResult]
) -> bool:
    """Whether a control has all its trials: as many as the baseline or the cell had, whichever is more; fewer where it does not
    become slower, or, where trials are errors alone, none more."""
    tried = len(control.trials)
    if tried >= min(max(len(of_base), len(of_cell)), recipe.most_trials(base)):
        return True
    return tried >= LOOK_AFTER and not_comparable(control, statistics_of(of_base)) is not None


def not_comparable(control: Control, base: CellStatistics) -> str | None:
    """Return why a control says nothing, none where it says something."""
    own = statistics_of(control.trials)
    if not own.trials:
        return "it was not tried; resume the run"
    if not own.verdicts:
        return "all its trials were errors; mend what ends them"
    if own.unreliable:
        return f"{own.errors} of its {own.trials} trials were errors; mend what ends them"
    if own.mean_step is None or base.mean_step is None:
        return "its steps are not timed; let the workload time them"
    gained = float(own.mean_step - base.mean_step)
    if gained < float(SLOWED_SHARE) * control.delay_ms:
        return (
            f"it became slower by {gained:.3g} ms only: the workload does not pause in its steps; wrap them in trial.step(), or "
            "let the command sleep $MLCC_TRIAL_DELAY_MS in each"
        )
    return None


def control_evidence(
    control: Control, cell: Sequence[TrialResult], base: Sequence[TrialResult], *, adaptive: bool
) -> ControlEvidence:
    """Return what a control says of its cell; both and the baseline must have verdicts. `adaptive` says that the numbers of
    trials depended on what trials said."""
    own = statistics_of(control.trials)
    why = not_comparable(control, statistics_of(base))
    if why is not None:
        return ControlEvidence(control.cell, control.delay_ms, own, Explains.NOT_COMPARABLE, why)
    of_delay = _shown(control.trials, base, adaptive=adaptive)
    beyond = _shown(cell, control.trials, adaptive=adaptive)
    cured = _shown(cell, base, adaptive=adaptive)
    explains = Explains.DELAY if of_delay.holds else Explains.UNDECIDED
    if beyond.holds and cured.holds:
        explains = Explains.MITIGATION
    return ControlEvidence(control.cell, control.delay_ms, own, explains, None, of_delay, beyond)


def _shown(lower: Sequence[TrialResult], higher: Sequence[TrialResult], *, adaptive: bool) -> Shown:
    of_lower, of_higher = failures(lower), failures(higher)
    return Shown(
        lower=(sum(of_lower), len(of_lower)),
        higher=(sum(of_higher), len(of_higher)),
        p_value=fisher_less(sum(of_lower), len(of_lower), sum(of_higher), len(of_higher)),
        e_value=e_value(of_higher, of_lower) if adaptive else None,
    )


def controlled(assessments: Mapping[str, Assessment], evidence: Mapping[str, ControlEvidence]) -> dict[str, Assessment]:
    """Return the assessments with what the controls say of them: a cell whose cure the delay explains is `confounded`, one
    that cures beyond it is `credited`, any other stays what it was."""
    tags = {Explains.DELAY: Tag.CONFOUNDED, Explains.MITIGATION: Tag.CREDITED}
    return {
        name: replace(each, tag=tags.get(evidence[name].explains, each.tag), control=evidence[name])
        if name in evidence
        else each
        for name, each in assessments.items()
    }
