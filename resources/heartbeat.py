"""The heartbeat of a run: a thread that renews its claim and its slots while a stage blocks.

Belongs here: when to renew, when to give up. Not here: what a lease means (`ci_table.py`, `ledger.py`).
"""

import threading
import time
from types import TracebackType

from mlcc_dagster.core.exceptions import LeaseLost
from mlcc_dagster.core.outcome import Claim
from resources.ci_table import CiTable
from resources.ledger import Ledger

_RETRY_SECONDS = 1.0
"""How soon a failed beat is tried again; a table that cannot be reached for a moment must not cost a whole run."""


class Heartbeat:
    """Renews a claim and the run's slots every `beat_seconds` for as long as the block lasts; the first beat is made on
    entry.

    `stop` is set when the lease is lost (somebody else holds it, or it could not be renewed before it ran out) or a
    slot was; `lost` then says why in one sentence. Leaving the block ends the thread and never raises.
    """

    def __init__(self, ci: CiTable, ledger: Ledger, claim: Claim, *, lease_seconds: float, beat_seconds: float) -> None:
        self.stop = threading.Event()
        self.lost: str | None = None
        self._ci = ci
        self._ledger = ledger
        self._claim = claim
        self._lease_seconds = lease_seconds
        self._beat_seconds = beat_seconds
        self._left = threading.Event()
        self._wait = beat_seconds
        self._slots: frozenset[str] = frozenset()
        self._renewed = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=f"heartbeat {claim.run_id}", daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._renewed = time.monotonic()
        self._wait = self._beat()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()
        self._thread.join()

    def _run(self) -> None:
        while not self.stop.is_set() and not self._left.wait(self._wait):
            self._wait = self._beat()

    def _beat(self) -> float:
        """Renew once and return the seconds until the next beat."""
        began = time.monotonic()
        try:
            self._ci.beat(self._claim, self._lease_seconds)
            held = frozenset(self._ledger.beat_slots(self._claim.run_id, self._lease_seconds))
        except LeaseLost as error:
            self._give_up(str(error))
            return 0.0
        except Exception as error:
            # whatever it is, the thread goes on: ended without a word, it would let the lease run out under a live
            # stage
            now = time.monotonic()
            # a beat that hangs as long again would come back after the lease is over
            if now + (now - began) >= self._renewed + self._lease_seconds:
                self._give_up(f"the lease of {self._claim.run_id} could not be renewed in time ({error}); run it again")
            return min(_RETRY_SECONDS, self._beat_seconds)
        self._renewed = began
        if gone := self._slots - held:
            self._give_up(f"{self._claim.run_id} lost its slot of {', '.join(sorted(gone))}; run it again")
        self._slots = held
        return self._beat_seconds

    def _give_up(self, why: str) -> None:
        self.lost = why
        self.stop.set()
