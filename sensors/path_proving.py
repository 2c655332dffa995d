"""The Path Prover's sensor and schedule: they turn affordable gaps into requested runs.

Belongs here: decisions that spend money, so they are off until switched on. Not here: choosing gaps (`core.planning`), promising
money (`resources.prover`).
"""

from datetime import UTC, datetime

import dagster as dg

from assets.lifecycle import NAME_TAG, RESERVATION_TAG, ROUND_TAG, RUN_TYPE_TAG
from assets.partitions import CONFIGURATIONS
from resources.dagster_resources import PlatformResource
from resources.platform import Platform
from resources.prover import RUN_TYPE, Execution, Proof, in_flight, make_plan, promise
from resources.survey import Survey

REQUESTS_PER_TICK = 10
"""A tick must end well inside 60 s, and submitting costs about 0.4 s a run."""


def run_request(execution: Execution, proof: Proof) -> dg.RunRequest:
    """Return the request of one proof: its configuration's partition, with the promise it is paid from."""
    return dg.RunRequest(
        run_key=proof.run_key,
        partition_key=proof.config_id,
        tags={
            ROUND_TAG: execution.name,
            RUN_TYPE_TAG: RUN_TYPE,
            RESERVATION_TAG: proof.run_key,
            NAME_TAG: str(proof.pick.candidate.configuration)[:255],
        },
    )


def next_proofs(platform: Platform, execution: Execution, *, abreast: int) -> tuple[list[Proof], str]:
    """Promise what may be started now, at most `abreast` runs at a time, and say in a sentence what was decided."""
    planned = make_plan(platform, Survey.take(platform), execution)
    free = max(0, abreast - in_flight(platform, execution))
    proofs = list(promise(platform, execution, planned, at_most=min(free, REQUESTS_PER_TICK)))
    totals = platform.ledger.totals(execution.name)
    sentence = (
        f"{len(proofs)} requested; {len(planned.picks)} affordable, {sum(bool(p.waits) for p in planned.picks)} of them wait "
        f"for a canary, {len(planned.left_out)} left out ({planned.ended_by}); "
        f"{totals.runs} of {execution.max_proves} proves and {totals.committed_usd:.4f} of {execution.max_usd:.2f} USD taken"
    )
    return proofs, sentence


@dg.sensor(
    job_name="lifecycle_job",
    description=(
        "Watches coverage and proves the gaps that teach most per dollar within the day's bounds of proves and USD. Off "
        "until you switch it on: it spends money."
    ),
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.STOPPED,
)
def coverage_sensor(context: dg.SensorEvaluationContext, platform: PlatformResource) -> dg.SensorResult:
    """Request the next affordable gaps; runs wait for a deployment slot, so one more than there are slots is enough."""
    opened = platform.open()
    execution = Execution.of_day(datetime.now(UTC))
    proofs, sentence = next_proofs(opened, execution, abreast=opened.home.settings.slots + 1)
    context.log.info(sentence)
    if not proofs:
        return dg.SensorResult(skip_reason=sentence)
    known = set(context.instance.get_dynamic_partitions("configuration"))
    missing = [proof.config_id for proof in proofs if proof.config_id not in known]
    return dg.SensorResult(
        run_requests=[run_request(execution, proof) for proof in proofs],
        dynamic_partitions_requests=[CONFIGURATIONS.build_add_request(missing)] if missing else [],
    )


@dg.schedule(
    cron_schedule="0 4 * * *",
    execution_timezone="UTC",
    job_name="lifecycle_job",
    name="path_prove_schedule",
    description=(
        "Once a day: requests the best affordable gaps at once, within the day's bounds; what waits for a canary is left to the "
        "next tick. Off until you switch it on."
    ),
    default_status=dg.DefaultScheduleStatus.STOPPED,
)
def path_prove_schedule(
    context: dg.ScheduleEvaluationContext, platform: PlatformResource
) -> list[dg.RunRequest] | dg.SkipReason:
    """Request up to a tick's worth of proofs; it shares the day's budget with the sensor."""
    opened = platform.open()
    execution = Execution.of_day(context.scheduled_execution_time)
    proofs, sentence = next_proofs(opened, execution, abreast=REQUESTS_PER_TICK)
    known = set(context.instance.get_dynamic_partitions("configuration"))
    missing = [proof.config_id for proof in proofs if proof.config_id not in known]
    if missing:
        context.instance.add_dynamic_partitions("configuration", missing)
    return [run_request(execution, proof) for proof in proofs] or dg.SkipReason(sentence)


SENSORS: tuple[dg.SensorDefinition, ...] = (coverage_sensor,)
SCHEDULES: tuple[dg.ScheduleDefinition, ...] = (path_prove_schedule,)
