"""The interface between a lifecycle and whatever really performs its stages.

Belongs here: the contract every executor keeps and the values that cross it. Not here: any executor, timing, logging,
classification (`stage_runner.py` does those for all of them alike).
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TextIO

from catalog.model import Instance
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.evidence import Evidence
from mlcc_dagster.core.exceptions import StageFailed
from mlcc_dagster.core.outcome import BenchmarkPlan
from mlcc_dagster.core.prices import Billing
from mlcc_dagster.core.stages import Stage
from resources.ledger import Ledger


@dataclass(frozen=True)
class StageRequest:
    """All that an executor is told for one stage of one run.

    `workspace` exists and belongs to this run alone; `raw` is where benchmark records go (kept after clean); `log` is
    open for text; `outputs` are the JSON outputs of earlier stages (newest wins); `deadline` is in `time.monotonic()`
    seconds; `stop` is set when the run lost its lease. `lease_tag` (= run_id) must be carried by every resource.
    """

    run_id: str
    configuration: Configuration
    stage: Stage
    workspace: Path
    raw: Path
    log: TextIO
    outputs: Mapping[str, Any]
    benchmark: BenchmarkPlan
    deadline: float
    ledger: Ledger
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def lease_tag(self) -> str:
        """The text by which a reaper finds what belongs to this run."""
        return self.run_id

    def remaining(self) -> float:
        """Seconds left of the stage's limit.

        Raises `StageFailed` (category `timeout`) when none are left and when the lease was lost: call it in every wait.
        """
        if self.stop.is_set():
            raise StageFailed("the run lost its lease to another owner and stopped", category="infrastructure")
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise StageFailed(f"stage {self.stage} passed its own time limit", category="timeout")
        return left

    def say(self, line: str) -> None:
        """Write one line to the stage's log at once."""
        self.log.write(line.rstrip("\n") + "\n")
        self.log.flush()


class Executor(Protocol):
    """Performs stages. One instance serves many runs; it keeps no state of a run in memory: what it made is in the
    ledger and in stage outputs, so that any process may go on or clean up. `billing` says how its stages are paid for."""

    name: str
    billing: Billing

    def can_run(self, configuration: Configuration) -> str | None:
        """Say in one clause why this executor cannot run the configuration, or none when it can. No I/O."""
        ...

    def reaches(self, instance: Instance) -> bool:
        """Whether it can run anything at all on an instance type: the universe of what it can prove is cut to these
        first. No I/O."""
        ...

    def perform(self, request: StageRequest) -> Mapping[str, Any]:
        """Do one stage and return its JSON outputs.

        Writes intent to `request.ledger` before creating a resource and confirms after. Raises `StageFailed` with one
        sentence for a failure of the configuration; any other exception is taken as a crash of the stage and classified
        from the log. Must honour `request.remaining()` in every wait and leave nothing running when interrupted,
        except what the ledger names. Never called for `clean`.
        """
        ...

    def clean(self, run_id: str, ledger: Ledger, log: TextIO) -> None:
        """End everything the ledger holds for the run; idempotent, safe from any process, also half way through a
        deploy. Raises `StageFailed` naming what could not be ended."""
        ...

    def digests(self, deployment_config: str) -> Mapping[str, str]:
        """Return what a run of a deployment configuration would depend on today, by the names that `evidence` and the
        column `engine` use, as far as it is known without running: what tells that a verdict no longer holds."""
        ...

    def evidence(self, configuration: Configuration, outputs: Mapping[str, Any]) -> Evidence:
        """Say what the run's result depended on, from the stage outputs."""
        ...
