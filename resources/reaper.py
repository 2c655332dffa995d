"""The reaper: ends what outlived its owner or its deadline, and settles what it owed.

Belongs here: deciding what is left over and the order of ending it. Not here: ending a particular resource (executors),
knowing processes (`processes.py`), telling the orchestrator that a run is dead (the caller: it gets the run ids).

Reaping again changes nothing. Only one reaper works in a home at a time (a file lock, which the kernel drops when its
holder dies), and every end is a conditional write, so that nothing is ended or charged twice.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import psutil

from mlcc_dagster.core.exceptions import MlccError, StageFailed
from mlcc_dagster.core.outcome import Owner
from mlcc_dagster.core.records import utc_text
from resources import processes as machine
from resources.ci_table import Attempt, CiTable
from resources.commit import Publisher, recover
from resources.executor import Executor
from resources.home import Home
from resources.ledger import Ledger
from resources.processes import Ending, ProcessIdentity
from resources.settings import HOME_VARIABLE
from resources.stage_runner import KEPT, clean_run

GRACE_SECONDS = 5.0
"""How long a stray process gets to end by itself after SIGTERM."""


class Processes(Protocol):
    """What the reaper must know of this machine; `resources.processes` is it."""

    def owner_alive(self, owner: Owner) -> bool | None:
        """Whether the owner still runs; none when it is on another host."""
        ...

    def tagged_all(self) -> tuple[tuple[str, ProcessIdentity], ...]:
        """Return every living process that carries a lease tag, with the tag."""
        ...

    def end(self, process: ProcessIdentity, grace_seconds: float) -> Ending:
        """End exactly that process."""
        ...


@dataclass(frozen=True)
class Interrupted:
    """A run whose owner is gone, ended by this reap; the caller reports `dagster_run_id` as failed, with `why`."""

    run_id: str
    dagster_run_id: str
    why: str


@dataclass(frozen=True)
class Ended:
    """A resource or stray process that this reap ended."""

    run_id: str
    kind: str
    ref: str
    how: str


@dataclass(frozen=True)
class Reaped:
    """What one reap did. `recovered` are runs whose commit it replayed; `dead_dagster_runs` all orchestrator runs
    without a living process behind them (interrupted or recovered); `problems` what it could not end, to be tried again
    by the next reap."""

    recovered: tuple[str, ...] = ()
    interrupted: tuple[Interrupted, ...] = ()
    ended: tuple[Ended, ...] = ()
    released_reservations: tuple[str, ...] = ()
    dead_dagster_runs: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def reap(
    *,
    home: Home,
    ci: CiTable,
    ledger: Ledger,
    store: Publisher,
    executor: Executor,
    interrupted_usd: Callable[[Attempt, datetime], float],
    processes: Processes = machine,
    now: float | None = None,
    wait_seconds: float = 60.0,
) -> Reaped:
    """End what outlived its owner or its deadline and say what that was; `now` is in Unix seconds, `interrupted_usd` says
    what a run that did not end in order is charged until a moment (`lifecycle.interrupted_usd`).

    In this order: begun commits go forward; runs whose owner is dead are cleaned and interrupted; resources
    past their deadline or of no running run are cleaned; stray processes of this home are ended; reservations that no
    run uses are settled or released. A living owner is left alone until the deadline of what it holds. What fails is in
    `problems` and holds up nothing else. Raises `MlccError` when another reap is not done within `wait_seconds`.
    """
    from filelock import FileLock, Timeout  # imported here: no other part of a small command needs it

    try:
        with FileLock(home.root / "reap.lock", timeout=wait_seconds):
            return _Reap(
                home=home,
                ci=ci,
                ledger=ledger,
                store=store,
                executor=executor,
                interrupted_usd=interrupted_usd,
                processes=processes,
                now=datetime.now(UTC).timestamp() if now is None else now,
            ).run()
    except Timeout:
        raise MlccError(
            f"another reap of {home.root} is not done after {wait_seconds:g} s; let it finish and try again"
        ) from None


class _Reap:
    """One reap, collecting what it did."""

    def __init__(
        self,
        *,
        home: Home,
        ci: CiTable,
        ledger: Ledger,
        store: Publisher,
        executor: Executor,
        interrupted_usd: Callable[[Attempt, datetime], float],
        processes: Processes,
        now: float,
    ) -> None:
        self._home = home
        self._ci = ci
        self._ledger = ledger
        self._store = store
        self._executor = executor
        self._interrupted_usd = interrupted_usd
        self._processes = processes
        self._now = now
        self._cleaned: set[str] = set()
        self._interrupted: list[Interrupted] = []
        self._ended: list[Ended] = []
        self._dead: list[str] = []
        self._problems: list[str] = []

    def run(self) -> Reaped:
        recovered = self._recover()
        self._end_dead_runs()
        self._clean_left_over()
        self._end_strays()
        self._settle_left_over()
        return Reaped(
            recovered=recovered,
            interrupted=tuple(self._interrupted),
            ended=tuple(self._ended),
            released_reservations=self._ledger.release_overdue(self._now),
            dead_dagster_runs=tuple(self._dead),
            problems=tuple(self._problems),
        )

    def _recover(self) -> tuple[str, ...]:
        before = [run_id for run_id, _ in self._ci.pending()]
        try:
            recover(self._ci, self._store)
        except MlccError as error:
            self._problems.append(str(error))
        still = {run_id for run_id, _ in self._ci.pending()}
        recovered = tuple(run_id for run_id in before if run_id not in still)
        for run_id in recovered:
            attempt = self._ci.attempt(run_id)
            if attempt is not None and self._processes.owner_alive(attempt.owner) is False:
                self._dead.append(attempt.owner.dagster_run_id)
        return recovered

    def _end_dead_runs(self) -> None:
        for attempt in self._ci.running():
            why = self._why_dead(attempt)
            if why is None:
                continue
            self._clean(attempt.run_id, why)
            if self._ci.interrupt(attempt.run_id, why, cost_usd=self._cost(attempt)):
                self._note_interrupted(attempt, why)
        for attempt in self._ci.taken_over():
            if self._processes.owner_alive(attempt.owner):
                continue  # it will see that its lease is lost and end by itself
            why = attempt.reason or "taken over"
            self._clean(attempt.run_id, why)
            if self._ci.settle_taken_over(attempt.run_id, cost_usd=self._cost(attempt)):
                self._note_interrupted(attempt, why)

    def _note_interrupted(self, attempt: Attempt, why: str) -> None:
        self._interrupted.append(Interrupted(attempt.run_id, attempt.owner.dagster_run_id, why))
        self._dead.append(attempt.owner.dagster_run_id)

    def _why_dead(self, attempt: Attempt) -> str | None:
        """Say why a running attempt has to be ended, or none when it must be left alone."""
        alive = self._processes.owner_alive(attempt.owner)
        if alive is False:
            return f"its process {attempt.owner} is dead"
        record = self._ci.record(attempt.config_id)
        lease_until = self._now if record is None or record.lease_until is None else record.lease_until
        if alive is None:
            # another host cannot be looked at: a whole lease more than the one it missed
            over = lease_until + self._home.settings.lease_seconds <= self._now
            return f"its lease from host {attempt.owner.host} ran out" if over else None
        # of what it held, too: cleaned away at its deadline, it would be nothing that could be overdue any more
        deadlines = [resource.deadline for resource in self._ledger.history(attempt.run_id)]
        if lease_until <= self._now and deadlines and max(deadlines) <= self._now:
            return f"its process {attempt.owner} lives but let its lease and its deadline pass"
        return None

    def _clean_left_over(self) -> None:
        living = self._ledger.alive()  # read before the runs: whoever claims after this is not in it
        at_work = self._at_work()
        for resource in living:
            if resource.run_id not in at_work:
                self._clean(resource.run_id, "its run is over")
            elif resource.deadline <= self._now:
                self._clean(resource.run_id, f"{resource.kind} {resource.ref} outlived its deadline")

    def _end_strays(self) -> None:
        tagged = self._processes.tagged_all()  # read before the runs, for the same reason
        at_work = self._at_work()
        for run_id, process in tagged:
            if run_id in at_work or not _belongs(process, self._home.root):
                continue
            ending = self._processes.end(process, GRACE_SECONDS)
            if ending is Ending.SURVIVED:
                self._problems.append(f"stray process {process.pid} of {run_id} could not be ended")
            elif ending is not Ending.GONE:
                self._ended.append(Ended(run_id, "stray process", str(process.pid), ending.value))

    def _settle_left_over(self) -> None:
        """Settle promises whose run ended without doing so itself, those that this reap interrupted included."""
        active = self._ledger.reservations(state="active")
        at_work = self._at_work()
        for reservation in active:
            if reservation.run_id in at_work or reservation.run_id is None:
                continue
            attempt = self._ci.attempt(reservation.run_id)
            if attempt is None:
                # nothing says what it used: the whole promise is the one amount that is never too little
                self._ledger.settle(reservation.run_key, reservation.usd)
            else:
                used = self._cost(attempt) if attempt.cost_usd is None else attempt.cost_usd
                self._ledger.settle(reservation.run_key, used)

    def _at_work(self) -> frozenset[str]:
        pending = (run_id for run_id, _ in self._ci.pending())
        # a run that is over may have been asked to leave its deployment there for a while
        kept = (each.run_id for each in self._ledger.alive() if each.kind == KEPT and each.deadline > self._now)
        return frozenset([*(attempt.run_id for attempt in self._ci.running()), *pending, *kept])

    def _cost(self, attempt: Attempt) -> float:
        """Return what a run that cannot say so itself used in USD: it is charged until now, since what it had deployed
        lived on after its process."""
        return self._interrupted_usd(attempt, datetime.fromtimestamp(self._now, UTC))

    def _clean(self, run_id: str, why: str) -> None:
        if run_id in self._cleaned:
            return
        self._cleaned.add(run_id)
        before = self._ledger.alive(run_id)
        path = self._home.logs / run_id / "reap.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8", buffering=1) as log:
            log.write(f"{utc_text(datetime.now(UTC))} reaping {run_id}: {why}\n")
            try:
                clean_run(run_id, executor=self._executor, home=self._home, ledger=self._ledger, log=log)
            except StageFailed as error:
                log.write(f"{error.message}\n")
                self._problems.append(error.message)
        now = {resource.id: resource for resource in self._ledger.history(run_id)}
        self._ended += [
            Ended(run_id, resource.kind, resource.ref, now[resource.id].how or "")
            for resource in before
            if now[resource.id].state == "released"
        ]


def _belongs(process: ProcessIdentity, root: Path) -> bool:
    """Whether a tagged process was started for this home and not for another one on the same machine.

    Run ids are made of configuration ids, so two homes that run one configuration have the same tags. A process is this
    home's when its environment names the home, or it works in it, or its command line names something in it.
    """
    named = machine.lease_home(process)
    if named is not None:
        return named == root
    try:
        found = psutil.Process(process.pid)
        return (
            found.environ().get(HOME_VARIABLE) == str(root)
            or Path(found.cwd()).is_relative_to(root)
            or any(Path(argument).is_relative_to(root) for argument in found.cmdline())
        )
    except psutil.Error:
        return False
