"""What is tried: the form of a workload, and what it is told of a trial.

Belongs here: the contract between the runner and whatever it runs, and Python callables, the simplest workload. Not here: the
other kinds (`commands.py`, `serving.py`), finding a workload by its name (`workload_names.py`), timing and recording a
trial (`trial_runner.py`).

A callable is given a `Trial` and returns whether it passed: a truth value or nothing (passed), a `Report`, or a mapping with
the fields of one. It wraps each step in `trial.step()`. What it raises says how it failed: `AssertionError` and
`WorkloadFailed` are failures; `SetupFailed` and everything else before its first step say nothing of the cell, nor do
`InfrastructureFailed`, `MemoryError` and `OSError`; any other exception after the first step is a failure.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from mlcc_dagster.core.triage.registries import Environment
from mlcc_dagster.core.triage.resolution import ConcreteCell


class WorkloadFailed(Exception):
    """The workload did its work and the result is wrong. `label` names the kind of failure in a word or two."""

    def __init__(self, reason: str, *, label: str | None = None) -> None:
        super().__init__(reason)
        self.label = label


class SetupFailed(Exception):
    """The workload did not get to its work: the trial says nothing of its cell."""


class InfrastructureFailed(Exception):
    """What lies around the workload gave way: the trial says nothing of its cell."""


@dataclass(frozen=True)
class Report:
    """What a trial came to. `step_times_ms` replace those that were timed with `Trial.step`; `output` is what it printed."""

    passed: bool = True
    step_times_ms: tuple[float, ...] = ()
    reason: str | None = None
    label: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass
class Trial:
    """One trial as its workload sees it. `variables` are set in the environment of this process for as long as it runs;
    `folder` is empty and removed after it; `deadline` is in `time.monotonic()` seconds; `delay_s` is what every step is slowed
    by, for a delay control; `log` gets what it prints."""

    cell: str
    number: int
    steps: int
    environment: Environment
    variables: Mapping[str, str]
    config: Mapping[str, Any]
    folder: Path
    deadline: float
    delay_s: float = 0.0
    log: Callable[[bytes], None] = lambda piece: None
    step_times_ms: list[float] = field(default_factory=list)

    @contextmanager
    def step(self) -> Iterator[None]:
        """Time one step, the pause of a delay control included; one that raises is counted too."""
        began = time.perf_counter_ns()
        try:
            yield
            self.pause()
        finally:
            self.step_times_ms.append((time.perf_counter_ns() - began) / 1e6)

    def pause(self) -> None:
        """Slow a step down as a delay control asks for; `step` does so itself. Raises `WorkloadFailed` as `remaining` does."""
        if self.delay_s:
            time.sleep(min(self.delay_s, self.remaining()))

    def remaining(self) -> float:
        """Return the seconds left of the trial's time. Raises `WorkloadFailed` (label `timeout`) when none are left."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise WorkloadFailed("it did not end within the time of a trial", label="timeout")
        return left


class Workload(Protocol):
    """What the runner tries in every cell."""

    @property
    def enters_environments(self) -> bool:
        """Whether it can be run for an environment that the runner does not enter (docker, venv): it enters itself."""
        ...

    @property
    def can_be_slowed(self) -> bool:
        """Whether its steps can be slowed by `Trial.delay_s`, as part of what is timed."""
        ...

    def mistakes(self, cell: ConcreteCell) -> list[str]:
        """Return what keeps it from being tried in a cell, one clause with a path below the cell each, such as
        `workload_config.concurrency: must be …`. Writes nothing."""
        ...

    def run(self, trial: Trial) -> Report:
        """Try it once. Raises as the module says."""
        ...


@dataclass(frozen=True)
class CallableWorkload:
    """A Python callable, run in this process. Where it has an attribute `enters_environments` that is true, it is trusted
    to enter the environment of a cell itself."""

    function: Callable[[Trial], Any]

    @property
    def enters_environments(self) -> bool:
        """See `Workload.enters_environments`."""
        return getattr(self.function, "enters_environments", False) is True

    @property
    def can_be_slowed(self) -> bool:
        """Yes, in `Trial.step`; a callable that never calls it does not become slower, and its control says so."""
        return True

    def mistakes(self, cell: ConcreteCell) -> list[str]:
        """See `Workload.mistakes`: what a callable makes of its configuration it must say itself."""
        return []

    def run(self, trial: Trial) -> Report:
        """See `Workload.run`."""
        return report_of(self.function(trial))


def report_of(answer: Any) -> Report:
    """Return what a workload answered as a report. Raises `SetupFailed` for an answer that is none."""
    if answer is None:
        return Report()
    if isinstance(answer, Report):
        return answer
    if isinstance(answer, bool):
        return Report(answer)
    if not isinstance(answer, Mapping):
        raise SetupFailed(
            f"the workload answered with a {type(answer).__name__}; let it return a truth value or a report"
        )
    known = ("passed", "step_times_ms", "reason", "label", "metrics")
    unknown = [str(key) for key in answer if key not in known]
    times, passed, metrics = answer.get("step_times_ms") or [], answer.get("passed", True), answer.get("metrics") or {}
    numbers = isinstance(times, (list, tuple)) and all(
        isinstance(each, (int, float)) and not isinstance(each, bool) and 0 <= each < float("inf") for each in times
    )
    if unknown or not isinstance(passed, bool) or not numbers or not isinstance(metrics, Mapping):
        raise SetupFailed(
            "the workload's report is not as it must be; give passed (true or false), step_times_ms (a list of numbers), reason, "
            f"label and metrics{', not ' + ', '.join(unknown) if unknown else ''}"
        )
    reason, label = answer.get("reason"), answer.get("label")
    return Report(
        passed=passed,
        step_times_ms=tuple(float(each) for each in times),
        reason=None if reason is None else str(reason),
        label=None if label is None else str(label),
        metrics=MappingProxyType(dict(metrics)),
    )
