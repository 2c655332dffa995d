"""What of a tier's round may be started now, so that the tier's cost ceiling holds.

Belongs here: the decision and its reasons. Not here: promising the money (`resources.tier_runs`, the ledger), asking for the
runs (a schedule, a sensor, `mlcc run`). Source: each tier has a cost ceiling; budgets are a hard invariant.

A promise bounds its run: a stage gets no more time than is promised for it. So the ceiling holds whatever is promised, and the
question is only how much a run has to be promised not to be ended for want of money, which would look like a failure of its
configuration. Where the ceiling allows for it that is all its stages up to their limits; else everything that is left, and at
least what is kept back for cleaning and `HEADROOM` times what the run is expected to cost. What a run does not use comes back when
it is settled. So the members are started in their order, and the first that does not fit makes the others wait while anything
runs; with nothing running it is left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from mlcc_dagster.core.budget import micros_ceiling, micros_promised, usd_of

HEADROOM = 2.0
"""A run that takes twice as long as expected is nothing unusual."""

MOST_ATTEMPTS = 3
"""A configuration whose runs are cut off so often in one round is left to the next."""


class Standing(StrEnum):
    """Where a member stands in the round: not begun, asked for or running, or with a result."""

    WAITING = "waiting"
    IN_FLIGHT = "in flight"
    DONE = "done"


@dataclass(frozen=True)
class Member:
    """One configuration of a tier's round. `expected_usd` if every stage passes, `most_usd` with all stages up to their limits,
    `cleaning_usd` what of a promise is kept back for cleaning; `attempts` were asked for in this round so far. `free`: preflight
    refutes it, so that its run costs nothing. `unpriced`: the catalog has no price for its instance."""

    config_id: str
    name: str
    expected_usd: float
    most_usd: float
    cleaning_usd: float = 0.0
    standing: Standing = Standing.WAITING
    attempts: int = 0
    free: bool = False
    unpriced: bool = False

    @property
    def needed_usd(self) -> float:
        """The least that has to be left to begin a run, and never more than the most that it can cost."""
        return min(self.most_usd, self.cleaning_usd + HEADROOM * self.expected_usd)

    def promise_of(self, left_usd: float) -> float | None:
        """Return what to promise to a run of what is left, none where that is too little to begin it.

        In whole micro-dollars, as the ledger counts: a promise of all that is left must not pass it by a rounding error.
        """
        if left_usd < self.needed_usd:
            return None
        return usd_of(min(micros_promised(self.most_usd), micros_ceiling(max(0.0, left_usd))))

    def short_of(self, left_usd: float) -> str:
        """Say why what is left does not pay for a run."""
        return (
            f"it is expected to cost {self.expected_usd:.4f} USD and needs {self.needed_usd:.4f} USD to begin, of the tier's "
            f"ceiling {max(0.0, left_usd):.4f} USD are left"
        )


@dataclass(frozen=True)
class Start:
    """A member to start now and what is promised to it, none where its run costs nothing or nothing bounds the round."""

    member: Member
    usd: float | None


@dataclass(frozen=True)
class Step:
    """What is to be done in a round now. `waits` says what the rest waits for, none where it waits for nothing; `left_out` are
    the sentences of what is not started in this round any more, by config id."""

    start: tuple[Start, ...]
    waits: str | None
    left_out: Mapping[str, str]


def next_step(members: Sequence[Member], *, left_usd: float | None, at_most: int) -> Step:
    """Decide what to start now: in the order of the members, at most `at_most`.

    `left_usd` is what may still be promised of the round's ceiling, none where nothing bounds it.
    """
    start: list[Start] = []
    left_out: dict[str, str] = {}
    busy = any(member.standing is Standing.IN_FLIGHT for member in members)
    for member in members:
        if member.standing is not Standing.WAITING:
            continue
        why = _refusal(member, bounded=left_usd is not None)
        if why is not None:
            left_out[member.config_id] = why
        elif len(start) >= at_most:
            return Step(tuple(start), f"{member.name} waits for one that runs to end", MappingProxyType(left_out))
        elif left_usd is None or member.free:
            start.append(Start(member, None))
        elif (usd := member.promise_of(left_usd)) is not None:
            start.append(Start(member, usd))
            left_usd -= usd
        elif busy or start:
            waits = f"{member.name} waits for money of what runs: {member.short_of(left_usd)}"
            return Step(tuple(start), waits, MappingProxyType(left_out))
        else:
            left_out[member.config_id] = member.short_of(left_usd)
    return Step(tuple(start), None, MappingProxyType(left_out))


def _refusal(member: Member, *, bounded: bool) -> str | None:
    if member.attempts >= MOST_ATTEMPTS:
        return f"its runs were cut off {member.attempts} times in this round; see `mlcc logs {member.config_id}`"
    if bounded and member.unpriced and not member.free:
        return "its instance has no price in the catalog, so no ceiling bounds it; give it one"
    return None
