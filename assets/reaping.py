"""Ending what a dead run left, in the platform and in Dagster.

Belongs here: bringing the Dagster instance and the platform's reaper together. Not here: what the reaper does
(`resources.reaper`), who calls it (a sensor, `mlcc reap`, every command that starts a run).
"""

import json
from dataclasses import asdict, dataclass
from functools import partial

import dagster as dg
from dagster._core.launcher import DefaultRunLauncher
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES

from mlcc_dagster.core.outcome import Owner
from resources import processes
from resources.lifecycle import abandon, interrupted_usd
from resources.platform import Platform
from resources.reaper import Reaped, reap

OWNER_TAG = "mlcc/owner"


def owner_tag(owner: Owner) -> dict[str, str]:
    """Return the run tag that names the process a run lives in, so that a reaper can tell it is dead."""
    # Host and pid come first: the list of runs shows only the beginning.
    return {OWNER_TAG: json.dumps(asdict(owner))}


def owner_of(run: dg.DagsterRun) -> Owner | None:
    """Read the owner tag of a run; none where it has none. A re-execution carries its parent's tag and so counts as
    having none until its own claim has set it: its parent's process may well be dead."""
    text = run.tags.get(OWNER_TAG)
    owner = Owner(**json.loads(text)) if text else None
    return owner if owner is not None and owner.dagster_run_id == run.run_id else None


LIVE = [*IN_PROGRESS_RUN_STATUSES, dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.NOT_STARTED]
"""The statuses in which a Dagster run still expects a process behind it; a command's run is not started for a moment."""


@dataclass(frozen=True)
class Cleared:
    """What one reaping did: the platform's part, the attempts of ended Dagster runs, the Dagster runs reported failed."""

    reaped: Reaped
    abandoned: tuple[str, ...]
    reported: tuple[str, ...]

    @property
    def nothing(self) -> bool:
        """Whether there was nothing to do."""
        return not any(self.to_json().values())

    def to_json(self) -> dict[str, list[str]]:
        """Return what was done as lists of sentences, by kind."""
        reaped = self.reaped
        return {
            "recovered": [
                f"{run_id}: its result was already decided and is published now" for run_id in reaped.recovered
            ],
            "interrupted": [
                *(f"{i.run_id}: {i.why}" for i in reaped.interrupted),
                *(f"{run_id}: its Dagster run had ended without it" for run_id in self.abandoned),
            ],
            "ended": [f"{e.kind} {e.ref} of {e.run_id}: {e.how}" for e in reaped.ended],
            "released_reservations": list(reaped.released_reservations),
            "dagster_runs_reported_failed": list(self.reported),
            "problems": list(reaped.problems),
        }


def clear(platform: Platform, instance: dg.DagsterInstance) -> Cleared:
    """End what dead runs left and report their Dagster runs failed. Idempotent; two at once do no harm.

    First attempts whose Dagster run has already ended without them, then the reaper (dead owners, overdue resources,
    strays), and only then, with nothing left of them, Dagster runs whose process is dead.
    """
    abandoned = []
    for attempt in platform.ci.running():
        run = instance.get_run_by_id(attempt.owner.dagster_run_id)
        if (
            run is not None
            and run.is_finished
            and abandon(platform, attempt.run_id, f"its Dagster run ended {run.status.value}")
        ):
            abandoned.append(attempt.run_id)
    reaped = reap(
        home=platform.home,
        ci=platform.ci,
        ledger=platform.ledger,
        store=platform.store,
        executor=platform.executor,
        interrupted_usd=partial(interrupted_usd, platform),
    )
    reported = []
    for run in instance.get_runs(filters=dg.RunsFilter(statuses=LIVE)):
        owner = owner_of(run)
        gone = process_gone(owner) if owner is not None else worker_gone(instance, run)
        if gone is None:
            continue
        # Read again now that nobody can change it: it may have ended in order after the list was made.
        run = instance.get_run_by_id(run.run_id)
        if run is None or run.is_finished:
            continue
        instance.report_run_failed(run, f"Its process ({gone}) is gone; what it left was cleaned.")
        reported.append(run.run_id)
    return Cleared(reaped=reaped, abandoned=tuple(abandoned), reported=tuple(reported))


def process_gone(owner: Owner) -> str | None:
    """Return the owner of a run as `host:pid` where its process is certainly dead, none where it lives or cannot be
    looked at from here."""
    return f"{owner.host}:{owner.pid}" if processes.owner_alive(owner) is False else None


def worker_gone(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str | None:
    """Return the worker of a launched run that has no owner yet as `pid N`, where it is certainly dead; else none.

    Dagster's default launcher starts workers on its own machine, which report their pid as their first event and are
    watched by nobody: one that is killed before its claim would stay `STARTED` for ever. A pid that another, later
    process has now is a dead worker too.
    """
    if not isinstance(instance.run_launcher, DefaultRunLauncher):
        return None
    for entry in reversed(instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)):
        text = entry.get_dagster_event().engine_event_data.metadata.get("pid")
        if text is not None and str(text.value).isdecimal():
            pid = int(str(text.value))
            began = processes.began_at(pid)
            return None if began is not None and began <= entry.timestamp else f"pid {pid}"
    return None
