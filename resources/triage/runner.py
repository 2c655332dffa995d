"""Running a matrix: trial after trial, everything written as it comes, interrupted and gone on with.

Belongs here: the loop, and what is written when. Not here: one trial (`trial_runner.py`), which comes next
(`core.triage.schedule`), the layout of the folder (`run_folders.py`). The runner starts no process.
"""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.records import utc_text
from mlcc_dagster.core.triage.adaptive import undecided_first
from mlcc_dagster.core.triage.delay_control import Control, delay_wanted, tried_enough
from mlcc_dagster.core.triage.matrix import Matrix
from mlcc_dagster.core.triage.minimal_sets import part_cell
from mlcc_dagster.core.triage.names import folder_name
from mlcc_dagster.core.triage.options import NO_OPTIONS, RunOptions, read_options
from mlcc_dagster.core.triage.recipe import Cell
from mlcc_dagster.core.triage.resolution import ConcreteCell
from mlcc_dagster.core.triage.schedule import cell_by_cell
from mlcc_dagster.core.triage.secrets import WITHHELD
from mlcc_dagster.core.triage.trials import TrialResult, read_trial
from resources.triage import run_folders
from resources.triage.documents import plain_document, recipe_text
from resources.triage.plans import Plan, checked, extended, resolved_cells
from resources.triage.recipe_files import read_sidecars
from resources.triage.run_folders import RunFolder
from resources.triage.snapshots import environment_snapshot, host_snapshot
from resources.triage.trial_runner import run_trial

Listener = Callable[[TrialResult, int], None]
"""Is told of every trial that ended, with how many the cell can have at most."""


def silent(result: TrialResult, most: int) -> None:
    """Listen to nothing."""


@dataclass(frozen=True)
class Ended:
    """A matrix as it was left: where it lies, what it says, and whether somebody interrupted it. `rerun` is the command that
    runs the same again, once the variables in `needed` are set."""

    folder: RunFolder
    matrix: Matrix
    interrupted: bool
    rerun: str
    needed: tuple[str, ...] = ()


def run(
    plan: Plan,
    output: Path,
    *,
    listen: Listener = silent,
    now: datetime | None = None,
) -> Ended:
    """Run a checked matrix in a folder of its own below `output`.

    Ctrl-C ends the trial that runs, keeps all others and returns. Raises `UsageError` where the folder cannot be made safely.
    """
    started = datetime.now(UTC) if now is None else now
    folder = RunFolder.claim(output, ticket=plan.recipe.ticket, workload=plan.recipe.workload, now=started)
    with folder.alone():
        for file in plan.sidecars:
            folder.write(run_folders.SIDECARS, file.name, content=file.content)
        folder.write(run_folders.RESOLVED, content=recipe_text(plan.recipe).encode("utf-8"))
        copies = read_sidecars([folder.path / run_folders.SIDECARS / file.name for file in plan.sidecars])
        plan = replace(plan, cells=resolved_cells(plan, copies))
        folder.write_json(run_folders.HOST, document=plan.scrubber.document(host_snapshot()))
        return _Run(plan, folder, utc_text(started), {}, {}, listen).to_end()


def resume(
    path: Path,
    *,
    command: Sequence[str] | None = None,
    listen: Listener = silent,
    options: RunOptions = NO_OPTIONS,
) -> Ended:
    """Go on with a run that was interrupted: trials that are there as a whole are not run again. What `options` ask for is done
    beside what the run was begun with, also where it had come to its end.

    Raises `UsageError` where the folder is none of a run, another process works in it, its command must be given again, or
    what is registered under a name of its recipe is no longer what it was; `InvalidInput` with all mistakes of its recipe.
    """
    folder = RunFolder.existing(path)
    with folder.alone():
        plan, before = _plan_of(folder, command, options)
        trials = {cell.name: _trials_of(folder, cell.name, run_folders.CELLS) for cell in plan.cells}
        controls = {cell.name: found for cell in plan.cells if (found := _control_of(folder, cell.name)) is not None}
        return _Run(plan, folder, str(before["started_at"]), trials, controls, listen).to_end()


def _trials_of(folder: RunFolder, cell: str, kind: str) -> list[TrialResult]:
    """Return the trials of a cell, or of its control, that are there as a whole."""
    return [
        trial
        for number in folder.trial_numbers(cell, kind)
        if (trial := read_trial(folder.read_trial(cell, number, kind), cell=cell, number=number)) is not None
    ]


def _control_of(folder: RunFolder, cell: str) -> Control | None:
    """Return the delay control of a cell, as slow as it was begun; none where none was."""
    said = folder.read_json(run_folders.CONTROLS, cell, run_folders.CONTROL)
    delay = said.get("delay_ms") if isinstance(said, dict) else None
    if not isinstance(delay, (int, float)) or not 0 < delay < float("inf"):
        return None
    return Control(cell, float(delay), _trials_of(folder, cell, run_folders.CONTROLS))


def _plan_of(folder: RunFolder, command: Sequence[str] | None, options: RunOptions) -> tuple[Plan, Mapping[str, Any]]:
    before = folder.read_json(run_folders.MATRIX_JSON)
    content = folder.read(run_folders.RESOLVED)
    if not isinstance(before, dict) or content is None or "cells" not in before:
        raise UsageError(f"{folder.path / run_folders.MATRIX_JSON} is damaged; start a new run")
    problems: list[str] = []
    document = plain_document(content.decode("utf-8", "replace"), problems)
    words = before.get("command")
    if words is not None and command is None:
        if any(WITHHELD in word for word in words):
            raise UsageError("a secret was withheld from the command of this run; give the command again behind --")
        command = words
    elif words is not None and command is not None and len(words) != len(command):
        raise UsageError(f"this run's command is {shlex.join(words)}; resume it with the same one, or start a new run")
    plan = checked(
        document,
        source=str(before.get("recipe")),
        sidecars=read_sidecars([folder.path / str(name) for name in before.get("sidecars", ())]),
        command=command,
        trial_seconds=float(before.get("trial_seconds", 0)),
        problems=problems,
        options=read_options(before.get("options")).joined(options),
    )
    if words is not None and [plan.scrubber.text(word) for word in plan.command or ()] != words:
        raise UsageError(f"this run's command is {shlex.join(words)}; resume it with the same one, or start a new run")
    _refuse_changed(before["cells"], plan.cells)
    return plan, before


def _refuse_changed(before: Sequence[Mapping[str, Any]], cells: Sequence[ConcreteCell]) -> None:
    """Raise `UsageError` where cells no longer mean what they meant: half of their trials would be of something else."""
    now = {cell.name: (cell.variables.shown(), cell.environment.docker, cell.environment.venv) for cell in cells}
    then = {
        each["name"]: (each["variables"], each["environment"]["docker"], each["environment"]["venv"]) for each in before
    }
    # a cell that the matrix does not know yet is a part of a stack that was written down just before the end came
    changed = [name for name in now if name in then and now[name] != then[name]]
    if changed:
        raise UsageError(
            f"what is registered for {', '.join(changed)} is not what it was when this run began; start a new run"
        )


class _Run:
    """One run of a matrix, in its folder, by this process alone."""

    def __init__(
        self,
        plan: Plan,
        folder: RunFolder,
        started_at: str,
        trials: Mapping[str, list[TrialResult]],
        controls: Mapping[str, Control],
        listen: Listener,
    ) -> None:
        self._plan = plan
        self._folder = folder
        self._started_at = started_at
        self._trials = {cell.name: list(trials.get(cell.name, ())) for cell in plan.cells}
        self._controls = dict(controls)
        self._listen = listen
        self._schedule = undecided_first if plan.options.adaptive else cell_by_cell
        self._scrubber = plan.scrubber

    def to_end(self) -> Ended:
        # from the first moment there is a matrix that says what is missing, and a run that can be resumed
        self._write(finished=False)
        interrupted = finished = False
        try:
            while self._one_more():
                pass
            finished = True
        except KeyboardInterrupt:
            interrupted = True
        matrix = self._write(finished=finished)
        return Ended(self._folder, matrix, interrupted, self._rerun(), self._plan.needed)

    def _one_more(self) -> bool:
        """Try whatever comes next, and say whether there was anything: cells, then controls, then a further part of a stack."""
        cell = self._schedule(self._plan.recipe, self._trials)
        if cell is not None:
            self._try(cell)
            return True
        options = self._plan.options
        return (options.delay_control and self._control()) or (options.minimize and self._further_part())

    def _try(self, cell: Cell) -> None:
        done = self._trials[cell.name]
        if not done:
            # its cell is about to be another one: what was done so far can be looked at
            self._write(finished=False)
        done.append(self._tried(cell, done, run_folders.CELLS, self._plan.recipe.most_trials(cell)))
        done.sort(key=lambda trial: trial.number)

    def _tried(
        self, cell: Cell, done: Sequence[TrialResult], kind: str, most: int, *, name: str = "", delay_ms: float = 0.0
    ) -> TrialResult:
        """Try a cell once, under the name of another where it is its control, and write down how it ended."""
        concrete = next(each for each in self._plan.cells if each.name == cell.name)
        name = name or cell.name
        self._snapshot(concrete)
        taken = {trial.number for trial in done}
        # the first number without a whole record: one that was cut off is run again
        number = next(number for number in range(len(taken) + 1) if number not in taken)
        ended = run_trial(
            self._plan.workload,
            concrete,
            number,
            seconds=self._plan.trial_seconds,
            scrubber=self._scrubber,
            delay_ms=delay_ms,
        )
        result = replace(ended.result, cell=name)
        if self._plan.recipe.save_logs and ended.log:
            self._folder.write(kind, name, f"trial_{number}.log", content=ended.log)
        self._folder.write_trial(name, number, result.to_json(), kind)
        shown = result if kind == run_folders.CELLS else replace(result, cell=f"{name} (delay control)")
        self._listen(shown, most)
        return result

    def _control(self) -> bool:
        """Try the first delay control that is not tried enough, and say whether there is one."""
        matrix = self._matrix(finished=False)
        base, of_base = self._plan.baseline, self._trials[self._plan.baseline.name]
        for name, assessment in matrix.uncontrolled.items():
            control = self._controls.get(name) or self._new_control(
                name, delay_wanted(assessment, self._trials[name], of_base)
            )
            if control is None or tried_enough(control, self._plan.recipe, base, of_base, self._trials[name]):
                continue
            most = min(max(len(of_base), len(self._trials[name])), self._plan.recipe.most_trials(base))
            result = self._tried(base, control.trials, run_folders.CONTROLS, most, name=name, delay_ms=control.delay_ms)
            trials = sorted((*control.trials, result), key=lambda trial: trial.number)
            self._controls[name] = replace(control, trials=trials)
            return True
        return False

    def _new_control(self, name: str, delay_ms: float | None) -> Control | None:
        """Begin the control of a cell: its delay is written down, so that all its trials have the same."""
        if delay_ms is None:
            return None
        document = {"schema_version": 1, "cell": name, "baseline": self._plan.baseline.name, "delay_ms": delay_ms}
        self._folder.write_json(run_folders.CONTROLS, name, run_folders.CONTROL, document=document)
        self._controls[name] = Control(name, delay_ms, ())
        return self._controls[name]

    def _further_part(self) -> bool:
        """Add the cell that tries the next part of a stack, and say whether there is one."""
        recipe = self._plan.recipe
        minimum = next((each for each in self._matrix(finished=False).minima if each.following is not None), None)
        if minimum is None or minimum.following is None:
            return False
        stack = next(cell for cell in recipe.cells if cell.name == minimum.cell)
        cell = part_cell(stack, minimum.following, [each.name for each in recipe.cells])
        paths = [self._folder.path / run_folders.SIDECARS / file.name for file in self._plan.sidecars]
        self._plan = extended(self._plan, cell, read_sidecars(paths))
        self._trials[cell.name] = []
        self._folder.write(run_folders.RESOLVED, content=recipe_text(self._plan.recipe).encode("utf-8"))
        return True

    def _snapshot(self, cell: ConcreteCell) -> None:
        place = (run_folders.ENVIRONMENTS, folder_name(cell.environment.name), "env.json")
        if self._folder.read(*place) is None:
            document = self._scrubber.document(environment_snapshot(cell.environment))
            self._folder.write_json(*place, document=document)

    def _matrix(self, *, finished: bool) -> Matrix:
        plan = self._plan
        words = None if plan.command is None else tuple(self._scrubber.text(word) for word in plan.command)
        return Matrix(
            recipe=plan.recipe,
            cells=plan.cells,
            trials=self._trials,
            baseline=plan.baseline.name,
            started_at=self._started_at,
            finished=finished,
            source=plan.source,
            sidecars=tuple(file.name for file in plan.sidecars),
            command=words,
            options=plan.options,
            controls=dict(self._controls),
        )

    def _write(self, *, finished: bool) -> Matrix:
        plan, matrix = self._plan, self._matrix(finished=finished)
        document = matrix.to_json() | {"trial_seconds": plan.trial_seconds}
        self._folder.write_json(run_folders.MATRIX_JSON, document=document)
        self._folder.write(run_folders.MATRIX_MD, content=matrix.markdown().encode("utf-8", "backslashreplace"))
        return matrix

    def _rerun(self) -> str:
        """Return the line that runs the same again."""
        # it may be run from another folder
        path = self._folder.path.absolute()
        words = ["mlcc", "triage", "run", "--recipe", str(path / run_folders.RESOLVED)]
        for file in self._plan.sidecars:
            words += ["--mitigations-file", str(path / run_folders.SIDECARS / file.name)]
        words += self._plan.options.flags()
        if self._plan.command is not None:
            words += ["--", *(self._scrubber.text(word) for word in self._plan.command)]
        return shlex.join(words)
