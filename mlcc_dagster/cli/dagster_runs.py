"""Dagster runs that a command starts in its own process, seen in the UI like any other.

Belongs here: running a job of ours in process. Import only where a command runs something: it imports Dagster.
"""

from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from assets.lifecycle import ROUND_TAG, RUN_TYPE_TAG, TIER_TAG
from assets.partitions import add_missing_keys
from assets.reaping import owner_tag
from mlcc_dagster.build import build_defs
from resources import processes
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
    """How a run that a command started ended."""

    dagster_run_id: str
    succeeded: bool
    interrupted: bool


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
        owner = processes.this_process("")
        result = self._definitions.resolve_job_def(job_name).execute_in_process(
            instance=self.instance,
            partition_key=partition_key,
            tags=tags | owner_tag(owner),
            run_config=self._run_config(),
            raise_on_error=False,
        )
        # Dagster turns Ctrl-C into a failed run and returns: whether it was one is known from our own event.
        interrupted = any(isinstance(e, RunEnded) and e.how == "interrupted" and e.cancelled for e in self._events)
        return RunEnd(result.run_id, result.success, interrupted)

    def lifecycle(self, target: Any, *, round_id: str, tier: str | None, run_type: str) -> RunEnd:
        """Run one configuration's lifecycle and return how it ended; failures are in the table, not raised."""
        tags = {ROUND_TAG: round_id, RUN_TYPE_TAG: run_type} | ({TIER_TAG: tier} if tier else {})
        return self._execute("lifecycle_job", tags=tags, partition_key=target.config_id)

    def refresh(self) -> RunEnd:
        """Refresh coverage and gaps of every model family in one run."""
        add_missing_keys(self.platform, self.instance)
        families = list(self.instance.get_dynamic_partitions("model_family"))
        return self._execute("refresh_job", tags=all_partitions_range(families))
