"""A prove document in this process: what is left of it is run, one Dagster run per configuration, and reported.

Belongs here: the loop, its helpers, the report and the forecast of a document. Not here: what is left and what it may cost
(`resources.prove_runs`), the options of the commands (`prove_commands.py`).
"""

import contextlib
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlcc_dagster.cli import console
from mlcc_dagster.cli.instance import open_instance
from mlcc_dagster.cli.progress_view import ProgressView
from mlcc_dagster.cli.rounds import WATCH_SECONDS, Target, run_what_is_left
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.prove_documents import Member
from resources.ci_table import Attempt
from resources.home import Home
from resources.platform import Platform
from resources.prove_documents import (
    RUN_TYPE,
    SETTLED,
    Progress,
    Remembered,
    Standing,
    progress,
    remember,
    remembered,
    spent_usd,
)
from resources.prove_runs import Prospect, end_kept, kept_deployments, promise, prospects, register, shortage

_HELPER = "import sys; from mlcc_dagster.cli.prove_rounds import help_with; sys.exit(help_with(*sys.argv[1:]))"


# ---- before anything is started


@dataclass(frozen=True)
class DocumentForecast:
    """What is left of a document and what it is expected to take here."""

    kept: Remembered
    prospects: Sequence[Prospect]

    @property
    def to_run(self) -> list[Prospect]:
        """What a command would run."""
        return [each for each in self.prospects if each.to_run]

    @property
    def seconds(self) -> float:
        """Seconds of all that would be run, one after the other."""
        return math.fsum(each.seconds or 0.0 for each in self.to_run)

    @property
    def usd(self) -> float:
        """Expected USD of all that would be run."""
        return math.fsum(each.usd or 0.0 for each in self.to_run)

    @property
    def most_usd(self) -> float:
        """The most that all of it can cost; the budget bounds it too."""
        return math.fsum(each.most_usd or 0.0 for each in self.to_run)

    @property
    def sentence(self) -> str:
        """Count, minutes and USD in one line."""
        document = self.kept.expansion.document
        settled = sum(each.settled for each in self.prospects)
        return (
            f"{len(self.to_run)} of {console.counted(len(self.prospects), 'configuration')} to run"
            f"{f' ({settled} settled before)' if settled else ''}, about {max(self.seconds / 60, 0.1):.1f} min and "
            f"{self.usd:.4f} USD, {self.most_usd:.4f} USD at most; the budget is {document.budget_usd:g} USD, a run has "
            f"{document.timeout_minutes:g} min"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the forecast as the JSON document of a dry run."""
        document = self.kept.expansion.document
        return {
            "started": False,
            "document": self.kept.digest,
            "points": self.kept.expansion.points,
            "count": len(self.prospects),
            "to_run": len(self.to_run),
            "stages": [stage.value for stage in document.stages],
            "timeout_minutes": document.timeout_minutes,
            "budget_usd": document.budget_usd,
            "estimated_minutes": self.seconds / 60,
            "estimated_usd": self.usd,
            "most_usd": self.most_usd,
            "configurations": [
                {
                    "config_id": each.member.config_id,
                    "configuration": str(each.member.configuration),
                    "values": dict(each.member.point),
                    "standing": each.progress.standing.value,
                    "runs_here": each.refusal is None and each.refuted is None,
                    "reason": each.refusal or each.refuted,
                    "estimated_seconds": each.seconds,
                    "estimated_usd": each.usd,
                    "most_usd": each.most_usd,
                }
                for each in self.prospects
            ],
            "repeated": self.kept.expansion.repeated,
        }

    def show(self, executor: str) -> None:
        """Print the expansion as a table, then count, minutes and USD."""
        console.print_table(
            f"dry run of {self.kept.source} ({self.kept.digest}) with executor {executor}: nothing was started",
            ["configuration", "values", "config_id", "seconds", "USD", "runs here"],
            (
                [
                    str(each.member.configuration),
                    each.member.name if each.member.point else None,
                    each.member.config_id,
                    None if each.seconds is None else f"{each.seconds:.0f}",
                    None if each.usd is None else f"{each.usd:.4f}",
                    each.refusal
                    or each.refuted
                    or (f"{each.progress.standing.value} before" if each.settled else "yes"),
                ]
                for each in self.prospects
            ),
            right=["seconds", "USD"],
            below=[*self.kept.expansion.repeated, self.sentence],
        )


# ---- afterwards


@dataclass
class DocumentReport:
    """How far a document came. `started` is how many runs this command asked for, none where it asked for none; `notes`
    why configurations of it were not started, `endpoints` where those that were kept answer, both by config_id."""

    kept: Remembered
    progress: Sequence[Progress]
    spent_usd: float
    notes: Mapping[str, str] = field(default_factory=dict)
    endpoints: Mapping[str, str] = field(default_factory=dict)
    started: int | None = None
    interrupted: bool = False

    @property
    def finished(self) -> bool:
        """Whether every configuration is settled: the same command would start nothing."""
        return all(each.standing in SETTLED for each in self.progress)

    @property
    def passed(self) -> int:
        """How many configurations passed every stage that was asked for."""
        return sum(each.standing is Standing.PASSED for each in self.progress)

    @property
    def exit_code(self) -> int:
        """0 all passed, 1 something did not, 130 interrupted."""
        return 130 if self.interrupted else 0 if self.passed == len(self.progress) else 1

    def reason(self, each: Progress) -> str | None:
        """Return the sentence behind a standing; none where it passed."""
        attempt = each.attempt
        return self.notes.get(each.member.config_id) or (attempt.reason if attempt else None)

    def to_json(self) -> dict[str, Any]:
        """Return the report as one JSON document."""
        document = self.kept.expansion.document
        return {
            "document": self.kept.digest,
            "source": self.kept.source,
            "finished": self.finished,
            "interrupted": self.interrupted,
            "started": self.started or 0,
            "passed": self.passed,
            "count": len(self.progress),
            "stages": [stage.value for stage in document.stages],
            "budget_usd": document.budget_usd,
            "spent_usd": self.spent_usd,
            "configurations": [
                {
                    "config_id": each.member.config_id,
                    "configuration": str(each.member.configuration),
                    "values": dict(each.member.point),
                    "standing": each.standing.value,
                    "reason": self.reason(each),
                    "run_id": each.attempt.run_id if each.attempt else None,
                    "seconds": each.attempt.seconds if each.attempt else None,
                    "cost_usd": each.cost_usd,
                    "endpoint": self.endpoints.get(each.member.config_id),
                    "attempts": len(each.attempts),
                    "stages": {
                        name: {"status": stage["status"], "seconds": stage["seconds"]}
                        for name, stage in (each.attempt.stages if each.attempt else {}).items()
                    },
                }
                for each in self.progress
            ],
            "repeated": self.kept.expansion.repeated,
        }

    def show(self) -> None:
        """Print the report as a table and one line of counts."""
        below = [
            f"{each.member.name}: {self.reason(each)}"
            for each in self.progress
            if each.standing is not Standing.PASSED and self.reason(each)
        ]
        below += [
            f"{each.member.name}: kept at {self.endpoints[each.member.config_id]}, until the same command ends it without "
            "--no-clean"
            for each in self.progress
            if each.member.config_id in self.endpoints
        ]
        counts = [
            f"{sum(each.standing is standing for each in self.progress)} {standing.value}" for standing in Standing
        ]
        counts = [count for count in counts if not count.startswith("0 ")]
        many = console.counted(len(self.progress), "configuration")
        below.append(
            f"{many} | {' | '.join(counts)} | {self.spent_usd:.4f} of {self.kept.expansion.document.budget_usd:g} USD"
        )
        if self.interrupted:
            below.append("interrupted: the same command goes on with what is left")
        elif self.finished and self.started == 0:
            below.append("every configuration of this document was settled before: nothing was started")
        console.print_table(
            f"{self.kept.source} ({self.kept.digest})",
            ["configuration", "run", "stages", "seconds", "USD", "standing"],
            (
                [
                    each.member.name,
                    each.attempt.run_id if each.attempt else None,
                    _stages_told(each.attempt),
                    f"{each.attempt.seconds:.1f}" if each.attempt and each.attempt.seconds is not None else None,
                    f"{each.cost_usd:.4f}" if each.attempts else None,
                    each.standing.value,
                ]
                for each in self.progress
            ),
            right=["seconds", "USD"],
            below=below,
        )


def _stages_told(attempt: Attempt | None) -> str | None:
    """Say how many stages of an attempt passed, and which failed."""
    if attempt is None:
        return None
    statuses = {name: stage["status"] for name, stage in attempt.stages.items()}
    failed = [f"{name} failed" for name, status in statuses.items() if status == "fail"]
    return ", ".join([f"{list(statuses.values()).count('pass')} passed", *failed])


def report_of(platform: Platform, kept: Remembered) -> DocumentReport:
    """Return how far a document came by now."""
    there = {each.run_id for each in kept_deployments(platform, kept)}
    found = progress(platform.ci, kept)
    endpoints = {
        each.member.config_id: str(attempt.stages["deploy"]["outputs"].get("endpoint"))
        for each in found
        for attempt in each.attempts
        if attempt.run_id in there
    }
    return DocumentReport(kept, found, spent_usd(platform.ledger, kept), endpoints=endpoints)


# ---- running


def run_document(
    platform: Platform, kept: Remembered, *, concurrency: int, verbose: bool = False, show: bool = True
) -> DocumentReport:
    """Run what is left of a document, so many configurations at a time, and return how far it came.

    What has settled is not run again. Ctrl-C ends the current run in order; the same call goes on. Raises `UsageError`
    where more deployments would have to be kept than the home has slots.
    """
    left = prospects(platform, kept)
    refused = [each for each in left if each.refusal is not None and not each.settled]
    to_run = [each for each in left if each.to_run]
    slots = platform.home.settings.slots
    there = kept_deployments(platform, kept)
    if kept.no_clean and len(to_run) + len(there) > slots:
        raise UsageError(
            f"with --no-clean every deployment keeps its slot: {len(to_run)} are to be made, {len(there)} are kept and this "
            f"home has {console.counted(slots, 'slot')}; sweep less, or raise slots in settings.yaml"
        )
    remember(platform.home, kept)
    notes = {each.member.config_id: each.refusal or "" for each in refused}
    if there and not kept.no_clean:
        end_kept(platform, there)
        if show:
            console.err().print(f"ended {console.counted(len(there), 'deployment')} kept by --no-clean", markup=False)
    started, interrupted = 0, False
    if to_run:
        with _helpers(min(concurrency, slots, len(to_run)) - 1, kept.digest, platform, show=show) as end_helpers:
            started, interrupted, unpaid = _run(platform, kept, to_run, verbose=verbose, show=show)
            end_helpers(interrupted)
        notes |= unpaid
    report = report_of(platform, kept)
    report.started, report.interrupted = started, interrupted
    waiting = {each.member.config_id for each in report.progress if each.standing not in SETTLED}
    report.notes = {key: why for key, why in notes.items() if key in waiting}
    return report


def _run(
    platform: Platform,
    kept: Remembered,
    to_run: Sequence[Prospect],
    *,
    verbose: bool,
    show: bool,
    refresh: bool = True,
) -> tuple[int, bool, dict[str, str]]:
    """Run what is left, one after the other; return how many runs were asked for, whether that was interrupted, and why
    configurations were promised nothing."""
    members = {each.member.config_id: each.member for each in to_run}
    targets = [
        Target(each.member.config_id, each.member.name, each.member.configuration, refuted=each.refuted)
        for each in to_run
    ]
    register(platform, members.values(), kept.asked)
    interrupted = False
    with open_instance(platform.home) as instance:
        from assets.partitions import add_missing_keys
        from assets.reaping import clear
        from mlcc_dagster.cli.dagster_runs import DagsterRuns

        purse = _Purse(platform, kept, members, clear=lambda: clear(platform, instance))
        purse.clear()
        add_missing_keys(platform, instance)
        joined = platform.rounds.join(kept.scope, list(members), open_seconds=math.inf)
        with ProgressView(platform, targets, shown=show) as view:
            if joined.joined:
                view.note(f"goes on with the open round {joined.id}")
            runs = DagsterRuns(platform, instance, view.listener, verbose=verbose)
            try:
                interrupted = run_what_is_left(
                    runs, targets, joined, tier=None, note=view.note, run_type=RUN_TYPE, promise=purse.promise
                )
            except KeyboardInterrupt:
                interrupted = True
            purse.close()
            if refresh and not interrupted and purse.given:
                runs.refresh()
    return purse.given, interrupted, purse.unpaid


@dataclass
class _Purse:
    """The money of a document in this process. `clear` ends what dead runs left, their promises included; `given` counts the
    promises that a run began with, `unpaid` says why configurations got none."""

    platform: Platform
    kept: Remembered
    members: Mapping[str, Member]
    clear: Callable[[], object]
    given: int = 0
    unpaid: dict[str, str] = field(default_factory=dict)
    _last: str | None = None

    def promise(self, target: Target) -> str | None:
        """Return the reservation of a run that begins now, none where the budget does not allow for it. While runs of other
        processes may still give money of it back, it waits for them."""
        self.close()
        member = self.members[target.config_id]
        while (key := promise(self.platform, self.kept, member)) is None:
            if not any(each.state == "active" for each in self.platform.ledger.living(self.kept.budget)):
                self.unpaid[target.config_id] = shortage(self.platform, self.kept, member)
                return None
            time.sleep(WATCH_SECONDS)
            self.clear()
        self._last = key
        return key

    def close(self) -> None:
        """Give the last promise back where no run has begun with it: its claim was lost to another process."""
        if self._last is not None and not self.platform.ledger.give_back(self._last):
            self.given += 1
        self._last = None


# ---- several at a time


@contextlib.contextmanager
def _helpers(number: int, digest: str, platform: Platform, *, show: bool) -> Iterator[Callable[[bool], None]]:
    """Have so many further processes take configurations of the document's round in the block, and yield what ends them:
    interrupted, or when they find nothing left. One that dies leaves what it ran to the others."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _HELPER, digest, platform.executor.name],
            env=os.environ | {"MLCC_HOME": str(platform.home.root)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=None if show else subprocess.DEVNULL,
        )
        for _ in range(number)
    ]

    def end(interrupted: bool) -> None:
        for process in processes:
            if interrupted and process.poll() is None:
                process.send_signal(signal.SIGINT)
        for process in processes:
            process.wait()

    try:
        yield end
    finally:
        end(True)


def help_with(digest: str, executor: str) -> int:
    """Be a helper: run what is left of a remembered document beside the command that started this process."""
    platform = Platform.open(executor=executor)
    kept = remembered(platform.home, digest)
    to_run = [] if kept is None else [each for each in prospects(platform, kept) if each.to_run]
    if kept is None or not to_run:
        return 0
    interrupted = _run(platform, kept, to_run, verbose=False, show=True, refresh=False)[1]
    return 130 if interrupted else 0


def document_named(home: Home, name: str) -> Remembered | None:
    """Return the remembered document whose digest begins with a name, none where there is none.

    Raises `UsageError` where several do.
    """
    from resources.prove_documents import all_remembered

    found = [each for each in all_remembered(home) if name and each.digest.startswith(name)]
    if len(found) > 1:
        raise UsageError(
            f"'{name}' names {len(found)} documents ({', '.join(each.digest for each in found)}); add digits"
        )
    return found[0] if found else None
