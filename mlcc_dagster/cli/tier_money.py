"""The money of a tier's round that a command runs: who gets a promise, who waits for one, who is left out.

Belongs here: waiting and telling. Not here: how much is promised (`core.tier_rounds`), promising it (`resources.tier_runs`).
"""

import time
from collections.abc import Callable
from typing import Protocol

from resources.platform import Platform
from resources.tier_runs import Purse

WATCH_SECONDS = 1.0


class Named(Protocol):
    """What is needed of a target."""

    @property
    def config_id(self) -> str: ...
    @property
    def name(self) -> str: ...


class TierMoney:
    """Promises each run of a round its money. `note` tells a person, `clear` ends what dead runs left, their promises
    included."""

    def __init__(self, purse: Purse, *, note: Callable[..., None], clear: Callable[[], object]) -> None:
        self.left_out: dict[str, str] = {}
        """Why targets got no promise, by config id."""
        self._purse = purse
        self._note = note
        self._clear = clear
        self._given: str | None = None

    def promise(self, target: Named) -> str | None:
        """Return the reservation of a run that is to begin now, none where the round's ceiling does not allow for it.

        While runs of other processes may still give money back, it waits for them. The promise before, if its run lost its
        claim, is given back first.
        """
        self.close()
        while (given := self._purse.promise(target.config_id)) is None:
            if not self._purse.others_at_work():
                self.left_out[target.config_id] = self._purse.refusal(target.config_id)
                self._note(f"left out {target.name}: {self.left_out[target.config_id]}")
                return None
            self._note(f"{target.name} waits for money of what other processes run", once=True)
            time.sleep(WATCH_SECONDS)
            self._clear()
        self._given = given
        return given

    def close(self) -> None:
        """Give back the last promise, where no run has begun with it."""
        self._purse.give_back(self._given)
        self._given = None


def money_of(
    platform: Platform, tier: str | None, round_id: str, *, note: Callable[..., None], clear: Callable[[], object]
) -> TierMoney | None:
    """Return the money of a round, none where nothing bounds it: no tier, or an executor that spends nothing."""
    purse = Purse.of(platform, tier, round_id)
    return None if purse is None else TierMoney(purse, note=note, clear=clear)
