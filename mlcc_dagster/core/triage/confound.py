"""Whether a mitigation works, does nothing, only slows everything down, or shows too little to tell.

Belongs here: the tag of a cell beside its baseline, in the order of the rule. Not here: the numbers of a cell
(`statistics.py`), how strong the difference is (`cell_evidence.py`, `anytime.py`), what a control adds (`delay_control.py`), which
cell is the baseline (`recipe.py`). Source of the
order: triage, schema version 1: error, baseline, n/a, speed, no effect, else credited. That a lower failure rate which chance
explains is called undecided instead of credited is ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from mlcc_dagster.core.triage.anytime import EARLY, AnytimeEvidence
from mlcc_dagster.core.triage.cell_evidence import SIGNIFICANCE, Evidence, evidence_of
from mlcc_dagster.core.triage.statistics import CellStatistics

if TYPE_CHECKING:
    from mlcc_dagster.core.triage.delay_control import ControlEvidence


class Tag(StrEnum):
    """What a row of the matrix says. `UNDECIDED`: it failed less often, and chance would do that too. `CONFOUNDED`: a delay
    control shows that its slow-down alone does what it does."""

    ERROR = "error"
    NEVER_RAN = "never ran"
    BASELINE = "baseline"
    NOT_COMPARABLE = "n/a"
    SPEED = "speed"
    CONFOUNDED = "confounded"
    NO_EFFECT = "no effect"
    CREDITED = "credited"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Assessment:
    """A cell beside its baseline. `ratio` is its mean step time over the baseline's, `why` says what keeps it from being
    compared or believed, `evidence` is none where there are no verdicts on both sides, `anytime` where trials were fixed, `control`
    where no delay control was tried."""

    tag: Tag
    ratio: Fraction | None = None
    why: str | None = None
    evidence: Evidence | None = None
    anytime: AnytimeEvidence | None = None
    control: "ControlEvidence | None" = None

    @property
    def text(self) -> str:
        """What stands in the column Confound."""
        if self.tag is Tag.CONFOUNDED and self.control is not None and self.control.of_delay is not None:
            return f"confounded (the delay alone does it, {self.control.of_delay.text})"
        if self.tag is Tag.CREDITED and self.control is not None and self.control.explains == "mitigation":
            beyond = self.control.beyond_delay
            return f"credited (beyond its delay, {beyond.text if beyond else ''})"
        said = "" if self.control is None else f"; control {self.control.explains}"
        if self.tag is Tag.SPEED and self.ratio is not None:
            return f"speed ({percent_more(self.ratio)}{said})"
        if self.evidence is not None and self.tag is Tag.CREDITED:
            early = self.anytime is not None and self.anytime.early
            shown = self.anytime.text if self.anytime is not None and early else self.evidence.p_text
            return f"credited ({shown}{said})"
        if self.evidence is not None and self.tag is Tag.UNDECIDED:
            return f"undecided ({self.why or self.evidence.p_text})"
        return f"n/a ({self.why})" if self.tag is Tag.NOT_COMPARABLE else self.tag.value

    def lines(self) -> list[str]:
        """Return the evidence, a line for each kind of it."""
        lines = [] if self.evidence is None else [self.evidence.line()]
        if self.evidence is not None and self.anytime is not None:
            counted = f"{self.anytime.text} over {self.anytime.pairs} pairs of trials (credited from {EARLY:g} on)"
            left = "" if self.anytime.ended or self.anytime.early else f"; chance of a credit {self.anytime.chance:.1%}"
            lines = [f"{self.evidence.line()}; {counted}{left}"]
        return lines if self.control is None else [*lines, f"delay control: {self.control.line()}"]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "tag": self.tag.value,
            "text": self.text,
            "step_time_ratio": None if self.ratio is None else float(self.ratio),
            "why": self.why,
            "evidence": None if self.evidence is None else self.evidence.to_json(),
            "anytime": None if self.anytime is None else self.anytime.to_json(),
            "delay_control": None if self.control is None else self.control.to_json(),
        }


def percent_more(ratio: Fraction) -> str:
    """Return how much slower a ratio is in whole percent, at least 1 where it is above 1: `+15%`."""
    percent = round((ratio - 1) * 100)
    return f"{max(percent, 1) if ratio > 1 else percent:+d}%"


def assess(
    cells: Mapping[str, CellStatistics],
    baseline: str,
    threshold: float,
    anytime: Mapping[str, AnytimeEvidence] | None = None,
) -> dict[str, Assessment]:
    """Return the assessment of every cell by its name. `anytime` is the evidence of cells whose trials were shared out
    adaptively, which then decides what is credited; none where trials were fixed.

    A cell is `speed` when its mean step time is above `threshold` times the baseline's, strictly; both are compared as
    they are written, not as they are rounded in binary.
    """
    base, limit = cells[baseline], Fraction(Decimal(repr(threshold)))
    found = anytime or {}
    return {
        name: _baseline(cell) if name == baseline else _assessed(cell, base, limit, found.get(name))
        for name, cell in cells.items()
    }


def _baseline(cell: CellStatistics) -> Assessment:
    if not cell.trials:
        return Assessment(Tag.NEVER_RAN)
    return Assessment(Tag.BASELINE if cell.verdicts else Tag.ERROR)


def _assessed(
    cell: CellStatistics, base: CellStatistics, threshold: Fraction, anytime: AnytimeEvidence | None
) -> Assessment:
    if not cell.trials:
        return Assessment(Tag.NEVER_RAN)
    if not cell.verdicts:
        return Assessment(Tag.ERROR)
    if not base.verdicts:
        return Assessment(Tag.NOT_COMPARABLE, why="baseline unusable")
    evidence = evidence_of(cell, base)
    own, other = cell.mean_step, base.mean_step
    if own is None or other is None or other == 0:
        return Assessment(Tag.NOT_COMPARABLE, why="timing not per step", evidence=evidence, anytime=anytime)
    ratio = own / other
    if ratio > threshold:
        return Assessment(Tag.SPEED, ratio, None, evidence, anytime)
    if Fraction(cell.failed, cell.verdicts) >= Fraction(base.failed, base.verdicts):
        return Assessment(Tag.NO_EFFECT, ratio, None, evidence, anytime)
    if cell.unreliable or base.unreliable:
        whose = "its" if cell.unreliable else "the baseline's"
        return Assessment(Tag.UNDECIDED, ratio, f"too many of {whose} trials were errors", evidence, anytime)
    if anytime is None:
        credited = evidence.p_value <= SIGNIFICANCE
    else:
        # Fisher's test holds at the end alone: looking at it after every trial would credit far more than one in twenty
        credited = anytime.early or (anytime.ended and evidence.p_value <= SIGNIFICANCE)
    why = None if credited or anytime is None or anytime.ended else f"stopped, chance of a credit {anytime.chance:.1%}"
    return Assessment(Tag.CREDITED if credited else Tag.UNDECIDED, ratio, why, evidence, anytime)


def baseline_warnings(name: str, base: CellStatistics) -> list[str]:
    """Return what must stand above a matrix whose baseline cannot carry it, one sentence each; nothing where it can."""
    if not base.trials:
        return [f"the baseline '{name}' never ran: nothing below is compared with anything; run the matrix to its end"]
    if not base.verdicts:
        return [f"the baseline '{name}' is unusable: all its trials were errors; mend it before reading on"]
    warnings = []
    if base.unreliable:
        warnings.append(
            f"the baseline '{name}' is unreliable: {base.errors} of its {base.trials} trials were errors; mend what ends them"
        )
    if not base.failed:
        warnings.append(
            f"the baseline '{name}' never failed in {base.verdicts} trials: no mitigation can be credited; try it more often or "
            "make it fail"
        )
    if base.mean_step is None:
        warnings.append(
            f"the baseline '{name}' has no times of single steps: nobody can tell a cure from a slow-down; let the workload time "
            "its steps"
        )
    return warnings
