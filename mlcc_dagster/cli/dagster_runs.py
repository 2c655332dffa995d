"""Dagster runs that a command starts in its own process, seen in the UI like any other.

Belongs here: running a job of ours in process. Import only where a command runs something: it imports Dagster.
"""

import contextlib
import signal
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from assets.lifecycle import MEASURES_TAG, RESERVATION_TAG, ROUND_TAG, RUN_TYPE_TAG, TIER_TAG
from assets.partitions import add_missing_keys
from assets.reaping import owner_tag
from mlcc_dagster.build import build_defs
from resources import processes
from resources.lifecycle import abandon_all
from resources.platform import Platform
from resources.progress import Event, Listener, RunEnded
from sensors.upkeep import all_partitions_range


@dataclass(frozen=True)
class ListeningPlatform:
    """What the ops of a command get for `PlatformResource`: the platform it has opened, and its listener.

    A plain object, handed over as it is: Dagster rebuilds a `ConfigurableResource` from its config and would lose both.
    """

    opened: Platform
    listener: Listener

    def open(self) -> Platform:
        """Return the command's platform."""
        return self.opened


@dataclass(frozen=True)
class RunEnd:
    """How a run that a command started ended: `interrupted` by Ctrl-C or SIGTERM, `lost` to another owner's claim."""

    dagster_run_id: str
    succeeded: bool
    interrupted: bool
    lost: bool


@contextlib.contextmanager
def interruptions() -> Iterator[Callable[[], bool]]:
    """Give a question for the block: has SIGINT or SIGTERM come since it began?

    While it executes, Dagster takes both over, raises them where it sees fit and forgets one that comes after the last
    step. The interpreter writes every signal to the wake-up descriptor first, whoever handles it then.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    received = bytearray()
    reading, writing = socket.socketpair()
    with reading, writing:
        reading.setblocking(False)
        writing.setblocking(False)

        def came() -> bool:
            with contextlib.suppress(BlockingIOError):
                received.extend(reading.recv(4096))
            return signal.SIGINT in received or signal.SIGTERM in received

        before = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        try:
            yield came
        finally:
            signal.set_wakeup_fd(before)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Let SIGINT and SIGTERM change nothing in the block but be noted by `interruptions`: an impatient second Ctrl-C must
    not keep the first from being cleaned up after."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # Not SIG_IGN: a signal that the kernel drops is noted by nobody.
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass
class DagsterRuns:
    """Runs the platform's jobs in this process on one instance."""

    platform: Platform
    instance: dg.DagsterInstance
    listener: Listener
    verbose: bool = False
    _events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        resource = dg.ResourceDefinition.hardcoded_resource(ListeningPlatform(self.platform, self._hear))
        self._definitions = build_defs(resource_overrides={"platform": resource})

    def _hear(self, event: Event) -> None:
        self._events.append(event)
        self.listener(event)

    def _run_config(self) -> dict[str, Any]:
        level = "INFO" if self.verbose else "CRITICAL"
        return {"loggers": {"console": {"config": {"log_level": level}}}}

    def _execute(self, job_name: str, *, tags: dict[str, str], partition_key: str | None = None) -> RunEnd:
        self._events.clear()
        run_id = str(uuid.uuid4())
        job = self._definitions.resolve_job_def(job_name)
        succeeded = False
        with interruptions() as interrupted:
            try:
                succeeded = job.execute_in_process(
                    run_id=run_id,
                    instance=self.instance,
                    partition_key=partition_key,
                    tags=tags | owner_tag(processes.this_process(run_id)),
                    run_config=self._run_config(),
                    raise_on_error=False,
                ).success
            except KeyboardInterrupt:
                # It came just before or after the part that Dagster guards; `interrupted` knows of it.
                pass
            finally:
                with uninterrupted():
                    self._leave_nothing(run_id, partition_key)
            lost = any(isinstance(event, RunEnded) and event.how == "lost" for event in self._events)
            return RunEnd(run_id, succeeded, interrupted(), lost)

    def _leave_nothing(self, run_id: str, config_id: str | None) -> None:
        """End what an interruption between two ops left: there no op's own handler is called."""
        left = abandon_all(self.platform, run_id, "interrupted")
        if left and not any(isinstance(event, RunEnded) for event in self._events):
            self._hear(RunEnded(config_id or "", "interrupted", "interrupted", cancelled=True))
        run = self.instance.get_run_by_id(run_id)
        if run is not None and not run.is_finished:
            self.instance.report_run_failed(run, "Interrupted before Dagster had it begin or end.")

    def lifecycle(
        self,
        target: Any,
        *,
        round_id: str,
        tier: str | None,
        run_type: str,
        reservation: str | None = None,
        measures: str | None = None,
    ) -> RunEnd:
        """Run one configuration's lifecycle and return how it ended; failures are in the table, not raised. `measures` names a
        load that is measured in place of what the record says."""
        tags = {ROUND_TAG: round_id, RUN_TYPE_TAG: run_type} | ({TIER_TAG: tier} if tier else {})
        tags |= {RESERVATION_TAG: reservation} if reservation else {}
        tags |= {MEASURES_TAG: measures} if measures else {}
        return self._execute("lifecycle_job", tags=tags, partition_key=target.config_id)

    def refresh(self) -> RunEnd:
        """Refresh coverage and gaps of every model family in one run."""
        add_missing_keys(self.platform, self.instance)
        families = list(self.instance.get_dynamic_partitions("model_family"))
        return self._execute("refresh_job", tags=all_partitions_range(families))
