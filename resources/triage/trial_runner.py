"""Running one trial: its environment, its time, what it printed, and how it ended.

Belongs here: what is the same for all kinds of workloads. Not here: the kinds, which trial comes next (`runner.py`), where a
result is kept (`run_folders.py`).
"""

import contextlib
import errno
import io
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlcc_dagster.core.records import utc_text
from mlcc_dagster.core.triage.resolution import ConcreteCell
from mlcc_dagster.core.triage.secrets import ByteScrubber, Scrubber
from mlcc_dagster.core.triage.trials import ExitStatus, TrialResult
from resources.triage.workloads import InfrastructureFailed, Report, SetupFailed, Trial, Workload, WorkloadFailed

OUTPUT_CHARACTERS = 4000
"""The end of what a trial printed that its record keeps."""

REASON_CHARACTERS = 500
MOST_LOG_BYTES = 16 << 20
"""What a trial printed is kept up to this; then its log says that it was cut."""

_ENVIRONMENTAL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EROFS})


@dataclass(frozen=True)
class Ended:
    """How a trial ended, before it is written down: the result, and all that was printed where that was to be kept."""

    result: TrialResult
    log: bytes


def run_trial(
    workload: Workload,
    cell: ConcreteCell,
    number: int,
    *,
    seconds: float,
    scrubber: Scrubber,
    delay_ms: float = 0.0,
) -> Ended:
    """Try a workload once in a cell and return how it ended; never raises for anything that the workload does.

    `seconds` is what a trial may take, `delay_ms` what every step is slowed by. What it prints and says goes through
    `scrubber`. A cancellation (`BaseException`, such as Ctrl-C) passes through, after the environment of this process is
    again as it was.
    """
    output = _Output(scrubber)
    folder = Path(tempfile.mkdtemp(prefix="mlcc-trial-"))
    started_at, began = utc_text(datetime.now(UTC)), time.perf_counter()
    trial = Trial(
        cell=cell.name,
        number=number,
        steps=cell.cell.steps,
        environment=cell.environment,
        variables=dict(cell.variables.values),
        config=cell.cell.config,
        folder=folder,
        deadline=time.monotonic() + seconds,
        delay_s=delay_ms / 1000,
        log=output.write,
    )
    try:
        with _environment(cell.variables.values), _printed(output):
            status, report = _tried(workload, trial)
        wall_clock = time.perf_counter() - began
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    log = output.end()
    result = TrialResult(
        cell=cell.name,
        number=number,
        status=status,
        started_at=started_at,
        wall_clock_s=round(wall_clock, 6),
        steps=cell.cell.steps,
        step_times_ms=tuple(round(each, 6) for each in report.step_times_ms or trial.step_times_ms),
        # scrubbed before it is cut: half a secret would be found by nobody
        reason=None if report.reason is None else _one_line(scrubber.text(report.reason)),
        label=None if report.label is None else _one_line(scrubber.text(report.label)),
        metrics=_json_values(report.metrics, scrubber),
        output=log[-OUTPUT_CHARACTERS:].decode("utf-8", "replace") or None,
    )
    return Ended(result, log)


def _tried(workload: Workload, trial: Trial) -> tuple[ExitStatus, Report]:
    if not trial.environment.entered and not workload.enters_environments:
        where = "the image" if trial.environment.docker is not None else "the virtual environment"
        return ExitStatus.INFRASTRUCTURE_FAILED, Report(
            False,
            reason=f"the workload runs in this process and cannot enter {where} of environment '{trial.environment.name}'; "
            "use a command that enters it",
        )
    try:
        report = workload.run(trial)
    except (WorkloadFailed, AssertionError) as error:
        return ExitStatus.WORKLOAD_FAILED, _failed(error, getattr(error, "label", None))
    except SetupFailed as error:
        return ExitStatus.WORKLOAD_SETUP_FAILED, _failed(error)
    except (InfrastructureFailed, MemoryError) as error:
        return ExitStatus.INFRASTRUCTURE_FAILED, _failed(error)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _ENVIRONMENTAL:
            return ExitStatus.INFRASTRUCTURE_FAILED, _failed(error)
        begun = bool(trial.step_times_ms)
        return ExitStatus.WORKLOAD_FAILED if begun else ExitStatus.WORKLOAD_SETUP_FAILED, _failed(error)
    if report.passed:
        return ExitStatus.OK, report
    return ExitStatus.WORKLOAD_FAILED, report


def _failed(error: BaseException, label: str | None = None) -> Report:
    own = isinstance(error, (WorkloadFailed, SetupFailed, InfrastructureFailed))
    said = str(error) or type(error).__name__
    return Report(False, reason=said if own or not str(error) else f"{type(error).__name__}: {said}", label=label)


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= REASON_CHARACTERS else f"{line[: REASON_CHARACTERS - 1]}…"


def _json_values(metrics: Mapping[str, Any], scrubber: Scrubber) -> dict[str, Any]:
    """Return metrics as JSON knows them; what it does not know as text, since one odd value must not lose a trial."""
    try:
        document = json.loads(json.dumps(dict(metrics), allow_nan=False, default=str))
    except (TypeError, ValueError):
        document = {str(name): str(value) for name, value in metrics.items()}
    scrubbed = scrubber.document(document)
    assert isinstance(scrubbed, dict), "a mapping stays one"
    return scrubbed


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables, and afterwards make the environment what it was, whatever the workload did to it."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        for name, value in before.items():
            if os.environ.get(name) != value:
                os.environ[name] = value


class _Output:
    """What a trial prints, without secrets, up to a limit."""

    def __init__(self, scrubber: Scrubber) -> None:
        self._scrubber = ByteScrubber(scrubber)
        self._kept = bytearray()
        self._cut = False
        self._lock = threading.Lock()

    def write(self, piece: bytes) -> None:
        # the threads of a workload print at once
        with self._lock:
            self._keep(self._scrubber.piece(piece))

    def end(self) -> bytes:
        with self._lock:
            self._keep(self._scrubber.rest())
        return bytes(self._kept) + (b"\n(cut here: it printed more)\n" if self._cut else b"")

    def _keep(self, piece: bytes) -> None:
        room = MOST_LOG_BYTES - len(self._kept)
        self._cut = self._cut or len(piece) > room
        self._kept += piece[: max(0, room)]


@contextlib.contextmanager
def _printed(output: _Output) -> Iterator[None]:
    """Take what Python code prints: standard output may be promised to one JSON document."""

    class Into(io.TextIOBase):
        def write(self, text: str) -> int:
            output.write(text.encode("utf-8", "backslashreplace"))
            return len(text)

        def writable(self) -> bool:
            return True

    with contextlib.redirect_stdout(Into()), contextlib.redirect_stderr(Into()):
        yield
