"""Any command as a workload: the only kind whose trial is a process of its own.

Belongs here: starting the command, what it is told and may report, ending it with all that it started. Not here: which words it is
(the command line, a run's folder), what the runner makes of a trial (`trial_runner.py`).

The command is told of its trial by environment variables (`MLCC_TRIAL_…`). It passes with exit code 0. It may write a JSON
object to the file `$MLCC_TRIAL_REPORT` with `passed`, `step_times_ms`, `reason`, `label` and `metrics`; without times of steps
nobody can tell a cure from a slow-down, and the matrix says so.
"""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mlcc_dagster.core.triage.resolution import ConcreteCell
from resources.triage.workloads import InfrastructureFailed, Report, SetupFailed, Trial, WorkloadFailed, report_of

REPORT_VARIABLE = "MLCC_TRIAL_REPORT"
GRACE_SECONDS = 5.0
"""How long a command has to end by itself after SIGTERM."""

_POLL_SECONDS = 0.2
_MOST_REPORT_BYTES = 16 << 20
_PR_SET_PDEATHSIG = 1
_NOT_STARTED = {126: "found no program that it may execute", 127: "did not find its program"}
"""Exit codes by which shells say that the work itself never began."""


@dataclass(frozen=True)
class CommandWorkload:
    """A command, as the words of a shell; it is started without one."""

    words: tuple[str, ...]

    @property
    def enters_environments(self) -> bool:
        """A command is told which image or virtual environment is meant, and enters it itself."""
        return True

    @property
    def can_be_slowed(self) -> bool:
        """A command is told by how much (`MLCC_TRIAL_DELAY_MS`); one that does not heed it does not become slower, and its
        control says so."""
        return True

    def mistakes(self, cell: ConcreteCell) -> list[str]:
        """See `Workload.mistakes`: the program must be there."""
        if cell.cell.config:
            return ["workload_config: a command has no configuration; give it by its words or by extra_env"]
        program = self.words[0]
        path = cell.variables.values.get("PATH", os.environ.get("PATH"))
        if shutil.which(program, path=path) is None:
            return [
                f"workload: the command's program {program} is not there or cannot be executed; correct the words behind --"
            ]
        return []

    def run(self, trial: Trial) -> Report:
        """Run the command to its end. See `Workload.run`."""
        report = trial.folder / "report.json"
        with _started(self.words, trial, report) as process:
            code = _ended(process, trial)
        said = _reported(report)
        if code in _NOT_STARTED:
            raise SetupFailed(f"the command {_NOT_STARTED[code]} (exit code {code})")
        if code == 0:
            return said
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return Report(
            False,
            step_times_ms=said.step_times_ms,
            reason=said.reason or f"the command ended with {how}",
            label=said.label or how,
            metrics=said.metrics,
        )


def told(trial: Trial, report: Path) -> dict[str, str]:
    """Return the variables that tell a command of its trial, beside those of its cell."""
    variables = {
        "MLCC_TRIAL_CELL": trial.cell,
        "MLCC_TRIAL_NUMBER": str(trial.number),
        "MLCC_TRIAL_STEPS": str(trial.steps),
        "MLCC_TRIAL_ENVIRONMENT": trial.environment.name,
        REPORT_VARIABLE: str(report),
    }
    if trial.delay_s:
        variables["MLCC_TRIAL_DELAY_MS"] = f"{1000 * trial.delay_s:.6f}"
    if trial.environment.docker is not None:
        variables["MLCC_TRIAL_DOCKER"] = trial.environment.docker
    if trial.environment.venv is not None:
        variables["MLCC_TRIAL_VENV"] = trial.environment.venv
    return variables


@contextlib.contextmanager
def _started(words: Sequence[str], trial: Trial, report: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start the command in a process group of its own, and leave nothing of the group behind."""
    try:
        process = subprocess.Popen(
            list(words),
            env={**os.environ, **told(trial, report)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
            preexec_fn=_ended_with_parent(),
        )
    except OSError as error:
        raise InfrastructureFailed(f"the command could not be started ({error.strerror or error})") from error
    assert process.stdout is not None, "its output is a pipe"
    reader = threading.Thread(target=_copy, args=(process.stdout, trial.log), name=f"output {process.pid}", daemon=True)
    reader.start()
    try:
        yield process
    finally:
        _end(process)
        # whoever of the group is left would hold the pipe open
        reader.join(GRACE_SECONDS)


def _ended_with_parent() -> Callable[[], None] | None:
    """Return what a new process does first, so that it does not outlive a runner that is killed; Linux alone knows that."""
    if sys.platform != "linux":
        return None
    # before the fork: loading takes locks that another thread may hold
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _copy(source: IO[bytes], log: Callable[[bytes], None]) -> None:
    # os.read takes what is there: what was printed must be known although the command hangs
    while piece := os.read(source.fileno(), 1 << 16):
        log(piece)


def _ended(process: subprocess.Popen[bytes], trial: Trial) -> int:
    while True:
        try:
            return process.wait(min(trial.remaining(), _POLL_SECONDS))
        except subprocess.TimeoutExpired:
            continue
        except WorkloadFailed as overdue:
            raise WorkloadFailed("the command did not end within the time of a trial", label="timeout") from overdue


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the whole group: also what the command started and left behind."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_SECONDS)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _reported(path: Path) -> Report:
    """Return what the command reported, a report of nothing where it wrote none. Raises `SetupFailed` for one that cannot be
    read: its numbers would be missing without a word."""
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_REPORT_BYTES + 1)
        document: Any = json.loads(content)
    except FileNotFoundError:
        return Report()
    except (OSError, ValueError) as error:
        raise SetupFailed(
            f"the command's report is no JSON ({error}); let it write one object to ${REPORT_VARIABLE}"
        ) from error
    if not isinstance(document, Mapping):
        raise SetupFailed(f"the command's report is no JSON object; let it write one to ${REPORT_VARIABLE}")
    return report_of(document)
