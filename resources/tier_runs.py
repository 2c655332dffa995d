"""A tier's runs and the money that is promised to them, so that no tier spends more than its ceiling.

Belongs here: what the tier schedules and `mlcc run --tier` do alike. Not here: what to start next (`core.tier_rounds`), asking
for runs. The budget in the ledger has the name of the round, so that all who run the same round spend from the same ceiling.
"""

import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from mlcc_dagster.core.budget import micros_ceiling, micros_promised, usd_of
from mlcc_dagster.core.constraints import refusals
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.resolution import configuration_of
from mlcc_dagster.core.stages import Stage
from mlcc_dagster.core.tier_rounds import Member, Standing, Step, next_step
from resources.estimates import Estimates
from resources.lifecycle import find_configuration, limit_seconds, most_usd, stages_of
from resources.platform import Platform
from resources.prover import START_SECONDS

PLAYED = "replay"
"""The executor that spends nothing: what a round of it comes to is worth knowing, and no ceiling cuts it short."""


@dataclass(frozen=True)
class Roster:
    """Who is in a tier here: the config ids that can run with this executor (what preflight refutes among them: its run
    costs nothing and says so), in the catalog's order, and the reason of each that cannot, by name."""

    members: tuple[str, ...]
    refusals: Mapping[str, str]


@dataclass(frozen=True)
class Asked:
    """The orchestrator's runs of one configuration in one round: how many there were, and whether one has not ended."""

    runs: int = 0
    unfinished: bool = False


NOBODY_ASKED = Asked()


def roster(platform: Platform, tier: str) -> Roster:
    """Return the members of a tier."""
    members, left_out = [], {}
    for entry in platform.catalog.tier_entries(tier):
        configuration = configuration_of(entry, platform.catalog)
        refuted = bool(refusals(configuration, platform.catalog))
        why = None if refuted else platform.executor.can_run(configuration)
        if why is None:
            members.append(config_id(configuration))
        else:
            left_out[entry.id] = why
    return Roster(tuple(members), MappingProxyType(left_out))


def ceiling_of(platform: Platform, tier: str | None) -> float | None:
    """Return the most that one run of a tier may spend, in USD; none where nothing bounds it: no tier of the catalog, or an
    executor that spends nothing."""
    declared = platform.catalog.tiers.get(tier or "")
    return None if declared is None or platform.executor.name == PLAYED else declared.cost_ceiling_usd


def left_of(platform: Platform, round_id: str, ceiling_usd: float) -> float:
    """Return what may still be promised in a round, in USD. A lower ceiling that somebody named before counts.

    In whole micro-dollars, as the ledger counts: a promise of all that is left would not fit for a rounding error.
    """
    known = [b.ceiling_usd for b in platform.ledger.budgets() if b.name == round_id and b.ceiling_usd is not None]
    totals = platform.ledger.totals(round_id)
    gone = micros_promised(totals.committed_usd) + micros_promised(totals.overrun_usd)
    return usd_of(max(0, micros_ceiling(min([ceiling_usd, *known])) - gone))


def plan_round(
    platform: Platform, tier: str, round_id: str, *, asked: Mapping[str, Asked], at_most: int
) -> tuple[tuple[Member, ...], Step]:
    """Return the members of an open round as they stand, and what to do next, without doing it.

    `asked` says what the orchestrator was asked for in this round, by config id. Raises `UsageError` for an unknown round.
    """
    done, remaining = platform.rounds.progress(round_id)
    running = {attempt.config_id for attempt in platform.ci.running()}
    estimates = Estimates.take(platform)
    members = []
    for key in (*done, *remaining):
        asked_for = asked.get(key, NOBODY_ASKED)
        in_flight = asked_for.unfinished or key in running
        standing = Standing.DONE if key in done else Standing.IN_FLIGHT if in_flight else Standing.WAITING
        members.append(_member(platform, estimates, key, standing=standing, attempts=asked_for.runs))
    ceiling = ceiling_of(platform, tier)
    left = None if ceiling is None else left_of(platform, round_id, ceiling)
    return tuple(members), next_step(members, left_usd=left, at_most=at_most)


def promise_step(platform: Platform, tier: str, round_id: str, step: Step) -> list[tuple[Member, str, str | None]]:
    """Promise the money of a step and return what to ask for: member, run key, and the reservation that pays (none where
    nothing has to).

    The run key is round + attempt: a step that was decided again after a crash makes the same promise under the same key. What
    the ledger refuses (somebody else was faster) is left to the next step.
    """
    ceiling = ceiling_of(platform, tier)
    granted: list[tuple[Member, str, str | None]] = []
    for start in step.start:
        key = run_key(round_id, start.member.config_id, start.member.attempts + 1)
        if start.usd is None or ceiling is None:
            granted.append((start.member, key, None))
        elif platform.ledger.reserve(
            round_id,
            key,
            start.usd,
            ceiling_usd=ceiling,
            # Runs wait in a queue for a deployment slot, and nobody else wants this round's money.
            deadline_seconds=platform.home.settings.round_open_seconds,
        ):
            granted.append((start.member, key, key))
    return granted


def give_back_unbegun(platform: Platform, round_id: str, asked: Mapping[str, Asked]) -> tuple[str, ...]:
    """Take back the promises of runs that ended before their claim, which would be waited for until their deadline, and
    return their keys."""
    ended = {
        run_key(round_id, key, number)
        for key, each in asked.items()
        if not each.unfinished
        for number in range(1, each.runs + 1)
    }
    waiting = [r for r in platform.ledger.reservations(state="reserved") if r.budget == round_id]
    return tuple(r.run_key for r in waiting if r.run_key in ended and platform.ledger.settle(r.run_key, 0.0))


def run_key(round_id: str, key: str, attempt: int) -> str:
    """Return what the orchestrator tells runs of a round apart by."""
    return f"{round_id}/{key}/{attempt}"


@dataclass
class Purse:
    """The money of a round that a command runs: promised to one run after the other, before each.

    Every promise has a key of its own, so that of two commands that want the same configuration at once the one that loses the
    claim gives back its own money and not the other's.
    """

    platform: Platform
    round_id: str
    ceiling_usd: float
    _estimates: Estimates = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._estimates = Estimates.take(self.platform)

    @classmethod
    def of(cls, platform: Platform, tier: str | None, round_id: str) -> "Purse | None":
        """Return the purse of a tier's round, none where nothing bounds it."""
        ceiling = ceiling_of(platform, tier)
        return None if ceiling is None else cls(platform, round_id, ceiling)

    def promise(self, key: str) -> str | None:
        """Promise money to a run of a configuration and return the reservation; none where that cannot be (`refusal`)."""
        reservation = f"{run_key(self.round_id, key, os.getpid())}-{uuid.uuid4().hex[:8]}"
        granted = (
            self.platform.ledger.reserve(
                self.round_id,
                reservation,
                start.usd or 0.0,
                ceiling_usd=self.ceiling_usd,
                deadline_seconds=START_SECONDS,
            )
            for start in self._step(key).start
        )
        return reservation if any(granted) else None

    def refusal(self, key: str) -> str:
        """Say why no money can be promised to a configuration now."""
        return self._step(key).left_out.get(key, "somebody else was promised the money first; run it again")

    def give_back(self, reservation: str | None) -> None:
        """Take back a promise that no run has begun; one that was activated or settled stays as it is."""
        kept = None if reservation is None else self.platform.ledger.reservation(reservation)
        if kept is not None and kept.state == "reserved":
            self.platform.ledger.settle(kept.run_key, 0.0)

    def others_at_work(self) -> bool:
        """Whether a run of this round is under way, which gives back what it does not use."""
        return any(each.budget == self.round_id for each in self.platform.ledger.reservations(state="active"))

    def _step(self, key: str) -> Step:
        left = left_of(self.platform, self.round_id, self.ceiling_usd)
        return next_step([_member(self.platform, self._estimates, key)], left_usd=left, at_most=1)


def _member(
    platform: Platform,
    estimates: Estimates,
    key: str,
    *,
    standing: Standing = Standing.WAITING,
    attempts: int = 0,
) -> Member:
    configuration, entry, plan = find_configuration(platform, key)
    stages = stages_of(entry, plan)
    # as `stage_limit` keeps it back: the other stages count 0 s, they only say whether anything is deployed
    cleaning = [(stage, limit_seconds(entry, stage) if stage is Stage.CLEAN else 0.0) for stage in stages]
    return Member(
        config_id=key,
        name=key if entry is None else entry.id,
        expected_usd=estimates.usd(configuration, key, stages),
        most_usd=most_usd(platform, configuration, key, plan),
        cleaning_usd=platform.prices(configuration).most_run_usd(cleaning),
        standing=standing,
        attempts=attempts,
        free=bool(refusals(configuration, platform.catalog)),
        unpriced=platform.usd_per_second(configuration) <= 0,
    )
