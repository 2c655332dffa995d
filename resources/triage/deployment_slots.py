"""The deployment slot of a trial: one of those that all runs of the home share.

Belongs here: waiting for it, keeping it while a trial serves, giving it back. Not here: what a slot is (`resources.ledger`), how
runs of a lifecycle hold theirs (`resources.stage_runner`, `resources.heartbeat`: theirs goes with a claim, and a trial has none).
The lease of a trial that was killed runs out by itself.
"""

import threading
import time
from typing import TextIO

from mlcc_dagster.core.exceptions import StageFailed
from resources.home import Home
from resources.ledger import Ledger
from resources.triage.workloads import Trial

_POLL_SECONDS = 0.5


class DeploymentSlot:
    """One slot of a pool for one trial, renewed by a thread until it is given back."""

    def __init__(self, home: Home, pool: str, run_id: str) -> None:
        self._home = home
        self._ledger = Ledger(home.database)
        self._pool = pool
        self._run_id = run_id
        self._left = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self, trial: Trial, log: TextIO) -> None:
        """Wait until a slot is free and hold it; the wait is no part of the trial's time.

        Raises `StageFailed` (category capacity) where none becomes free within the home's `slot_wait_seconds`.
        """
        if self._thread is not None:
            return
        settings = self._home.settings
        began = time.monotonic()
        told: tuple[str, ...] | None = None
        while not self._ledger.acquire_slot(
            self._pool, self._run_id, capacity=settings.slots, lease_seconds=settings.lease_seconds
        ):
            holders = tuple(slot.run_id for slot in self._ledger.slots(self._pool))
            if holders != told:
                told = holders
                log.write(f"waiting for a deployment slot of {self._pool}, held by {', '.join(holders)}\n")
            if time.monotonic() - began >= settings.slot_wait_seconds:
                raise StageFailed(
                    f"no deployment slot of {self._pool} became free in {settings.slot_wait_seconds:g} s, held by "
                    f"{', '.join(holders)}; let it end and resume the run",
                    category="capacity",
                )
            time.sleep(_POLL_SECONDS)
        trial.deadline += time.monotonic() - began
        self._thread = threading.Thread(target=self._keep, name=f"slot {self._run_id}", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Give the slot back, where one is held."""
        self._left.set()
        if self._thread is not None:
            self._thread.join()
        self._ledger.release_slots(self._run_id)

    def _keep(self) -> None:
        settings = self._home.settings
        while not self._left.wait(settings.beat_seconds):
            try:
                self._ledger.beat_slots(self._run_id, settings.lease_seconds)
            except Exception:
                # a table that cannot be reached for a moment is tried again: ended, the thread would let the lease run out
                self._left.wait(1.0)
