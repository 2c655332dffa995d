"""The matrix as a document: `matrix.json` for programs, `matrix.md` for people.

Belongs here: what both say and how the table reads. Not here: numbers (`statistics.py`), tags (`confound.py`,
`delay_control.py`), parts of stacks (`minimal_sets.py`), writing files (`resources.triage.run_folders`). Source of columns and
contents: triage, schema version 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

from mlcc_dagster.core.triage.anytime import anytime_evidence
from mlcc_dagster.core.triage.confound import Assessment, Tag, assess, baseline_warnings
from mlcc_dagster.core.triage.delay_control import Control, control_evidence, controlled
from mlcc_dagster.core.triage.minimal_sets import Measured, Minimum, minima
from mlcc_dagster.core.triage.names import folder_name, trial_file
from mlcc_dagster.core.triage.options import NO_OPTIONS, RunOptions
from mlcc_dagster.core.triage.recipe import Recipe, plain
from mlcc_dagster.core.triage.resolution import ConcreteCell
from mlcc_dagster.core.triage.statistics import CellStatistics, statistics_of
from mlcc_dagster.core.triage.trials import TrialResult

SCHEMA_VERSION = 1
COLUMNS = ("Cell", "Mitigations", "Environment", "Failure rate", "Trials", "Mean step (ms)", "Confound")
_CONTROL_NOTES = (
    "- Delay control: the baseline, slowed in every step by as much as the cell is slower, tried again. `confounded` = its",
    "  failures go away too, so the delay explains the cure; `credited (beyond its delay)` = they are still there.",
)
_ADAPTIVE_NOTES = (
    "- Trials went to cells that were undecided. A cell without an effect is credited in at most 7 of 100 matrices: 5 by",
    "  Fisher's test of all trials, 2 by an e-value of 50 or more before; how often it was looked at changes nothing.",
)
_MINIMA_NOTES = (
    "- Smallest parts: that more mitigations never undo what fewer do is assumed; a part counts as enough only with evidence",
    "  at 5 % for all parts of a stack together.",
)
MOST_REASONS = 3
"""Reasons of failures that are told per cell; all of them are in `matrix.json`."""


@dataclass(frozen=True)
class Matrix:
    """A matrix as far as it was run. `trials` are those of every cell in their order; `started_at` is UTC text; `finished`
    says that no trial is missing; `command` are the words behind `--`, none for other workloads; `controls` are the delay
    controls by the cell that they were tried for."""

    recipe: Recipe
    cells: tuple[ConcreteCell, ...]
    trials: Mapping[str, Sequence[TrialResult]]
    baseline: str
    started_at: str
    finished: bool
    source: str
    sidecars: tuple[str, ...] = ()
    command: tuple[str, ...] | None = None
    options: RunOptions = NO_OPTIONS
    controls: Mapping[str, Control] = field(default_factory=lambda: MappingProxyType({}))

    @cached_property
    def statistics(self) -> Mapping[str, CellStatistics]:
        """The numbers of every cell by its name."""
        return {cell.name: statistics_of(self.trials.get(cell.name, ())) for cell in self.cells}

    @cached_property
    def assessments(self) -> Mapping[str, Assessment]:
        """What every cell shows beside the baseline and its delay control, by its name."""
        of_base = self.trials.get(self.baseline, ())
        evidence = {
            name: control_evidence(control, self.trials.get(name, ()), of_base, adaptive=self.options.adaptive)
            for name, control in self.controls.items()
        }
        return controlled(self.uncontrolled, evidence)

    @cached_property
    def uncontrolled(self) -> Mapping[str, Assessment]:
        """What every cell shows beside the baseline alone, by its name."""
        anytime = None
        if self.options.adaptive:
            most = {cell.name: self.recipe.most_trials(cell.cell) for cell in self.cells}
            of_base = self.trials.get(self.baseline, ())
            anytime = {
                name: anytime_evidence(
                    of_base, self.trials.get(name, ()), base_most=most[self.baseline], cell_most=most[name]
                )
                for name in most
            }
        return assess(self.statistics, self.baseline, self.recipe.confound.threshold, anytime)

    @cached_property
    def minima(self) -> tuple[Minimum, ...]:
        """What is known of the smallest parts of stacks that have an effect."""
        if not self.recipe.stacked:
            return ()
        measured = Measured(self.trials, self.statistics, self.assessments, self.baseline, self.options.adaptive)
        return minima(self.recipe, measured)

    @property
    def warnings(self) -> list[str]:
        """What stands above the table, one sentence each."""
        unfinished = [] if self.finished else ["this matrix is not finished: trials are missing; resume it"]
        return unfinished + baseline_warnings(self.baseline, self.statistics[self.baseline])

    @property
    def whole(self) -> bool:
        """Whether every cell ran and none was an error: what `--strict` asks for."""
        bad = (Tag.ERROR, Tag.NEVER_RAN)
        return self.finished and not any(each.tag in bad for each in self.assessments.values())

    def to_json(self) -> dict[str, Any]:
        """Return the document of `matrix.json`; no secret is in it, paths are relative to the run's folder."""
        recipe = self.recipe
        return {
            "schema_version": SCHEMA_VERSION,
            "ticket": recipe.ticket,
            "workload": recipe.workload,
            "command": None if self.command is None else list(self.command),
            "recipe": self.source,
            "sidecars": [f"sidecars/{name}" for name in self.sidecars],
            "started_at": self.started_at,
            "finished": self.finished,
            "trials_per_cell": recipe.trials,
            "steps_per_trial": recipe.steps,
            "stop_after": None
            if recipe.stop_after is None
            else {"events": recipe.stop_after.events, "max_trials": recipe.stop_after.max_trials},
            "baseline_cell": self.baseline,
            "confound_threshold": recipe.confound.threshold,
            "options": self.options.to_json(),
            "warnings": self.warnings,
            "minimal_sets": [each.to_json() for each in self.minima],
            "cells": [self._cell_json(cell) for cell in self.cells],
        }

    def _cell_json(self, concrete: ConcreteCell) -> dict[str, Any]:
        cell, environment = concrete.cell, concrete.environment
        return {
            "name": cell.name,
            "mitigations": list(cell.mitigations),
            "environment": {
                "name": environment.name,
                "source": environment.source,
                "docker": environment.docker,
                "venv": environment.venv,
                "snapshot": f"environments/{folder_name(environment.name)}/env.json",
            },
            "variables": concrete.variables.shown(),
            "workload_config": plain(cell.config),
            "trials_asked": self.recipe.most_trials(cell),
            "steps": cell.steps,
            "statistics": self.statistics[cell.name].to_json(),
            "confound": self.assessments[cell.name].to_json(),
            "trial_paths": [
                f"cells/{cell.name}/{trial_file(trial.number)}" for trial in self.trials.get(cell.name, ())
            ],
        }

    def rows(self) -> list[tuple[str, ...]]:
        """Return the table, one row per cell in the order of the recipe, columns as `COLUMNS`."""
        return [
            (
                cell.name,
                ", ".join(cell.cell.mitigations),
                cell.environment.name,
                failure_text(self.statistics[cell.name]),
                trials_text(self.statistics[cell.name], self.recipe.most_trials(cell.cell)),
                step_text(self.statistics[cell.name]),
                self.assessments[cell.name].text,
            )
            for cell in self.cells
        ]

    def markdown(self) -> str:
        """Return the text of `matrix.md`."""
        recipe = self.recipe
        lines = [f"# Triage matrix: {_prose(recipe.workload)}", ""]
        for warning in self.warnings:
            lines += [f"> **Warning:** {_prose(warning)}", ""]
        lines += [
            f"- ticket: {_prose(recipe.ticket or 'none')}",
            f"- recipe: {_prose(self.source)}",
            *([f"- command: `{_code(' '.join(self.command))}`"] if self.command is not None else []),
            f"- started: {self.started_at}",
            f"- baseline: {self.baseline}; slower than {recipe.confound.threshold:g} times its mean step is tagged as speed",
            "",
            *_table(self.rows()),
            "",
            *self._minima(),
            *self._evidence(),
            *self._failures(),
            *self._notes(),
        ]
        return "\n".join(lines) + "\n"

    def _evidence(self) -> list[str]:
        lines = [f"- {_prose(line)}" for line in self.evidence_lines()]
        return ["## Evidence", "", *lines, ""] if lines else []

    def evidence_lines(self) -> list[str]:
        """Return the evidence on every cell, each line with the cell that it is on."""
        return [f"{name}: {line}" for name, each in self.assessments.items() for line in each.lines()]

    def _minima(self) -> list[str]:
        lines = [f"- {each.cell}: {_prose(each.line())}" for each in self.minima]
        return ["## Smallest parts of stacks", "", *lines, ""] if lines else []

    def _failures(self) -> list[str]:
        lines = []
        for name, each in self.statistics.items():
            reasons = list(each.reasons.items())
            lines += [
                f"- {name}, {count} of {each.trials}: {_prose(reason)}" for reason, count in reasons[:MOST_REASONS]
            ]
            if len(reasons) > MOST_REASONS:
                lines.append(f"- {name}: {len(reasons) - MOST_REASONS} further reasons in matrix.json")
        return ["## What failed", "", *lines, ""] if lines else []

    def _notes(self) -> list[str]:
        apart = [cell.environment for cell in self.cells if not cell.environment.entered]
        names = ", ".join(dict.fromkeys(each.name for each in apart))
        return [
            "## Notes",
            "",
            "- Failure rate: failed trials of those that passed or failed. Trials that ended as errors say nothing of the cell",
            "  and are counted beside; from one error in ten on it reads unreliable.",
            "- Confound: `speed` = slower than the threshold, so that the slow-down alone may hide the failure;",
            "  `no effect` = fails no less often than the baseline; `credited` = fails less often at the same speed, and chance",
            "  does that in fewer than 1 of 20 matrices; `undecided` = fails less often, and chance would do that too;",
            "  `n/a` = cannot be compared.",
            *(_CONTROL_NOTES if self.controls else []),
            *(_ADAPTIVE_NOTES if self.options.adaptive else []),
            *(_MINIMA_NOTES if self.minima else []),
            "- Mitigations and environments that are named are not pinned: what is registered under a name may have changed when",
            "  `recipe.resolved.yaml` is run again. To compare two runs, compare `variables` and `environment` of the cells in",
            "  their `matrix.json`.",
            *([f"- Environments that the runner did not enter itself: {_prose(names)}."] if apart else []),
            "- Everything else (spread, percentiles, all step times, trials) is in `matrix.json`.",
        ]


def share_text(part: int, whole: int) -> str:
    """Return a share in percent; only nothing is 0 % and only everything is 100 %."""
    percent = 100 * part / whole
    if 0 < part < whole:
        percent = min(max(percent, 0.1), 99.9)
    return f"{percent:.0f} %" if percent in (0, 100) or 1 <= percent <= 99 else f"{percent:.1f} %"


def failure_text(cell: CellStatistics) -> str:
    """Return what stands in the column Failure rate: the rate with its counts."""
    if not cell.verdicts:
        return "-"
    text = f"{share_text(cell.failed, cell.verdicts)} ({cell.failed} of {cell.verdicts})"
    return f"{text}, unreliable" if cell.unreliable else text


def trials_text(cell: CellStatistics, asked: int) -> str:
    """Return what stands in the column Trials: how many ended, how many of them as errors, and how many were asked for
    where they are not all there."""
    text = str(cell.trials) if cell.trials >= asked else f"{cell.trials} of {asked}"
    return f"{text} ({cell.errors} error{'s' if cell.errors != 1 else ''})" if cell.errors else text


def step_text(cell: CellStatistics) -> str:
    """Return what stands in the column Mean step (ms)."""
    mean = cell.mean_step
    return "-" if mean is None else f"{float(mean):.3g}" if mean < 1 else f"{float(mean):.1f}"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    texts = [list(COLUMNS), *([_prose(cell).replace("|", "\\|") for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in texts
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def _prose(text: str) -> str:
    """Return a text as one line of Markdown that cannot become anything else, such as a link, an image or HTML."""
    line = " ".join(text.split())
    return "".join(f"\\{character}" if character in "\\`*[]<" else character for character in line)


def _code(text: str) -> str:
    return " ".join(text.split()).replace("`", "'")
