"""The tiers on their schedules: each opens a round of its tier, and a sensor goes on with it until it is done.

Belongs here: asking for the runs, in the tick's few seconds. Not here: who is in a tier and what its ceiling allows for
(`core.tier_rounds`, `resources.tier_runs`), what a run does.

A schedule spends money, so it is off until switched on. A tick can neither ask for a whole tier (submitting costs about 0.4 s a
run, and runs wait for a deployment slot no longer than it is worth) nor know what money the first runs will give back. So it asks
for as many as can make use of the slots, and `tier_sensor` for the others as those end. The sensor is on from the start and opens
no round by itself: it only goes on with the newest round of a schedule that is switched on, and stops when that is switched off.
"""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import InstigatorStatus
from dagster._core.storage.tags import PARTITION_NAME_TAG
from dagster._utils.schedules import reverse_cron_string_iterator

from assets.lifecycle import NAME_TAG, RESERVATION_TAG, ROUND_TAG, RUN_TYPE_TAG, TIER_TAG
from catalog.loader import load_catalog
from catalog.model import Tier
from mlcc_dagster.core.exceptions import UsageError
from resources.dagster_resources import PlatformResource
from resources.platform import Platform
from resources.tier_runs import Asked, ceiling_of, give_back_unbegun, plan_round, promise_step, roster

REQUESTS_PER_TICK = 10
RUN_TYPE = "ci"


@dataclass(frozen=True)
class TierTick:
    """What a tick asks for, and the sentence that says what was decided."""

    requests: tuple[dg.RunRequest, ...]
    sentence: str


def schedule_name(tier: str) -> str:
    """Return the name of a tier's schedule."""
    return f"{tier}_tier_schedule"


def asked_in(instance: dg.DagsterInstance, round_id: str) -> dict[str, Asked]:
    """Return what Dagster was asked for in a round, by config id, whoever asked."""
    found: dict[str, Asked] = {}
    for run in instance.get_runs(filters=dg.RunsFilter(tags={ROUND_TAG: round_id})):
        key = run.tags.get(PARTITION_NAME_TAG, "")
        before = found.get(key, Asked())
        found[key] = Asked(before.runs + 1, before.unfinished or not run.is_finished)
    return found


def go_on(
    instance: dg.DagsterInstance, platform: Platform, tier: str, round_id: str, *, at_most: int = REQUESTS_PER_TICK
) -> TierTick:
    """Promise the money of what may start now in a tier's open round, and return its requests.

    At most one run more than there are deployment slots is under way: a run that waits for a slot longer than the home allows
    for would fail for nothing.
    """
    asked = asked_in(instance, round_id)
    give_back_unbegun(platform, round_id, asked)
    under_way = sum(each.unfinished for each in asked.values())
    free = max(0, platform.home.settings.slots + 1 - under_way)
    members, step = plan_round(platform, tier, round_id, asked=asked, at_most=min(at_most, free))
    granted = promise_step(platform, tier, round_id, step)
    requests = tuple(
        dg.RunRequest(
            run_key=key,
            partition_key=member.config_id,
            tags={ROUND_TAG: round_id, RUN_TYPE_TAG: RUN_TYPE, TIER_TAG: tier, NAME_TAG: member.name}
            | ({RESERVATION_TAG: reservation} if reservation else {}),
        )
        for member, key, reservation in granted
    )
    ceiling = ceiling_of(platform, tier)
    committed = platform.ledger.totals(round_id).committed_usd
    bound = "nothing bounds it" if ceiling is None else f"ceiling {ceiling:g} USD, {committed:.4f} USD of it taken"
    names = {member.config_id: member.name for member in members}
    said = [
        f"{round_id}: {len(members)} configurations, expected {sum(m.expected_usd for m in members):.4f} USD, {bound}",
        f"{len(requests)} requested{_named(member.name for member, _, _ in granted)}",
        *([step.waits] if step.waits else []),
        *(f"left out {names[key]}: {why}" for key, why in step.left_out.items()),
    ]
    return TierTick(requests, "; ".join(said))


def open_round(instance: dg.DagsterInstance, platform: Platform, tier: str, at: datetime) -> TierTick:
    """Open the round of a schedule's tick (the same one however often it is asked for) and return its first requests.

    What the executor cannot run is left out, saying so.
    """
    if tier not in platform.catalog.tiers:
        return TierTick((), f"the catalog of this home has no tier {tier}; switch its schedule off")
    found = roster(platform, tier)
    others = "; ".join(f"left out {name}: {why}" for name, why in found.refusals.items())
    if not found.members:
        sentence = f"nothing of tier {tier} runs with executor {platform.executor.name}"
        return TierTick((), f"{sentence}; {others}" if others else sentence)
    opened = platform.rounds.open(tier, found.members, at=at)
    known = set(instance.get_dynamic_partitions("configuration"))
    missing = [key for key in found.members if key not in known]
    if missing:
        instance.add_dynamic_partitions("configuration", missing)
    tick = go_on(instance, platform, tier, opened.id)
    return TierTick(tick.requests, f"{tick.sentence}; {others}" if others else tick.sentence)


def tier_schedule(tier: Tier) -> dg.ScheduleDefinition:
    """Make the schedule of a tier, as the catalog declares it."""

    @dg.schedule(
        name=schedule_name(tier.name),
        cron_schedule=tier.schedule,
        execution_timezone="UTC",
        job_name="lifecycle_job",
        description=(
            f"Opens a round of tier {tier.name} and requests its configurations, within the tier's cost ceiling of "
            f"{tier.cost_ceiling_usd:g} USD; `tier_sensor` requests the rest. Off until you switch it on: it spends money."
        ),
        default_status=dg.DefaultScheduleStatus.STOPPED,
    )
    def request_tier(
        context: dg.ScheduleEvaluationContext, platform: PlatformResource
    ) -> list[dg.RunRequest] | dg.SkipReason:
        tick = open_round(context.instance, platform.open(), tier.name, context.scheduled_execution_time)
        context.log.info(tick.sentence)
        return list(tick.requests) or dg.SkipReason(tick.sentence)

    return request_tier


def switched_on(instance: dg.DagsterInstance) -> set[str]:
    """Return the names of the schedules that somebody has switched on."""
    states = instance.all_instigator_state(
        instigator_type=InstigatorType.SCHEDULE, instigator_statuses={InstigatorStatus.RUNNING}
    )
    return {state.instigator_name for state in states}


def rounds_to_go_on_with(
    instance: dg.DagsterInstance, platform: Platform, tiers: Iterable[Tier], now: datetime
) -> Mapping[str, str]:
    """Return the open round of each tier whose schedule is switched on, by tier: that of the schedule's newest tick, while it is
    young enough to be joined and something of it is left."""
    found: dict[str, str] = {}
    on = switched_on(instance)
    for tier in tiers:
        if schedule_name(tier.name) not in on:
            continue
        ticked = next(reverse_cron_string_iterator(now.timestamp(), tier.schedule, "UTC"))
        if (now - ticked).total_seconds() > platform.home.settings.round_open_seconds:
            continue
        round_id = f"{tier.name}@{ticked:%Y%m%dT%H%M%SZ}"
        # a round that no tick opened is none: the schedule was switched on later
        with contextlib.suppress(UsageError):
            if platform.rounds.progress(round_id)[1]:
                found[tier.name] = round_id
    return found


@dg.sensor(
    job_name="lifecycle_job",
    description=(
        "Goes on with the rounds that tier schedules opened: requests the next configurations as the runs before them end, "
        "within the tier's cost ceiling. Does nothing for a tier whose schedule is off."
    ),
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def tier_sensor(context: dg.SensorEvaluationContext, platform: PlatformResource) -> dg.SensorResult:
    """Request what may start now in each open round; it keeps no cursor, the tables say where a round stands."""
    opened = platform.open()
    rounds = rounds_to_go_on_with(context.instance, opened, opened.catalog.tiers.values(), datetime.now(UTC))
    if not rounds:
        return dg.SensorResult(skip_reason="no tier that is switched on has an open round")
    requests: list[dg.RunRequest] = []
    said = []
    for tier, round_id in rounds.items():
        tick = go_on(context.instance, opened, tier, round_id, at_most=REQUESTS_PER_TICK - len(requests))
        requests += tick.requests
        said.append(tick.sentence)
        context.log.info(tick.sentence)
    return dg.SensorResult(run_requests=requests) if requests else dg.SensorResult(skip_reason="; ".join(said))


def _named(names: Iterable[str]) -> str:
    listed = ", ".join(names)
    return f" ({listed})" if listed else ""


SENSORS: tuple[dg.SensorDefinition, ...] = (tier_sensor,)
SCHEDULES: tuple[dg.ScheduleDefinition, ...] = tuple(tier_schedule(tier) for tier in load_catalog().tiers.values())
