"""The scanner's sensor: it looks for due configurations every hour and requests their runs, a few at once.

Belongs here: when to scan and what to ask for. Not here: what is due (`core.scanning`), reading the table (`resources.scanner`). It
spends money, so it is off until switched on.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from dagster._core.storage.tags import PARTITION_NAME_TAG

from assets.lifecycle import ROUND_TAG, RUN_TYPE_TAG, TIER_TAG
from assets.partitions import CONFIGURATIONS
from assets.reaping import clear
from mlcc_dagster.core.records import utc_text
from mlcc_dagster.core.scanning import Due, Omission, Scan
from resources.dagster_resources import PlatformResource
from resources.platform import Platform
from resources.scanner import RUN_TYPE, has_dead_owner, is_of_scan, look

REQUESTS_PER_TICK = 10
UNFINISHED = [status for status in dg.DagsterRunStatus if status not in FINISHED_STATUSES]
"""Runs that somebody asked for and that have not ended, queued ones included."""

LOGGED = 50
"""So many that are left out are told one by one, once per scan; the others are counted."""


@dataclass(frozen=True)
class ScanTime:
    """The scan that a tick works on: when it began, whether that is now, and why there is nothing to do (none where there is)."""

    began: datetime
    fresh: bool
    wait: str | None

    def cursor(self, *, done: bool) -> str:
        """Return the cursor for the next tick; `done` where nothing of the scan is left."""
        return json.dumps({"began": utc_text(self.began), "done": done}, sort_keys=True)


def decide_scan(cursor: str | None, now: datetime, interval_seconds: float) -> ScanTime:
    """Begin a scan when the interval is over, else go on with the one that began, until nothing of it is left.

    `cursor` is JSON `{"began", "done"}`. A beginning that lies in the future (the clock was set back) counts as none.
    """
    state = json.loads(cursor) if cursor else None
    began = datetime.fromisoformat(state["began"]) if state else None
    following = None if began is None else began + timedelta(seconds=interval_seconds)
    if state is None or began is None or following is None or not began <= now < following:
        return ScanTime(now, True, None)
    return ScanTime(began, False, f"the next scan is due at {utc_text(following)}" if state["done"] else None)


def requests_of(instance: dg.DagsterInstance, platform: Platform, began: datetime) -> tuple[Scan, list[dg.RunRequest]]:
    """Scan the table, and return the runs to request now.

    Each configuration is requested once in a scan: one whose run is cut off comes back with the next one. Runs that were
    requested and have not claimed yet are told by Dagster.
    """
    unfinished = [
        run
        for run in instance.get_runs(filters=dg.RunsFilter(statuses=UNFINISHED, tags={RUN_TYPE_TAG: RUN_TYPE}))
        if is_of_scan(run.tags.get(ROUND_TAG, ""))
    ]
    claimed = {attempt.owner.dagster_run_id for attempt in platform.ci.running()}
    recent = [
        run
        for run in instance.get_runs(filters=dg.RunsFilter(created_after=began, tags={RUN_TYPE_TAG: RUN_TYPE}))
        if is_of_scan(run.tags.get(ROUND_TAG, ""))
    ]
    requested = {
        run.tags.get(PARTITION_NAME_TAG, ""): f"requested by Dagster run {run.run_id}" for run in [*recent, *unfinished]
    }
    settings = platform.home.settings
    unclaimed = sum(run.run_id not in claimed for run in unfinished)
    found = look(
        platform,
        now=datetime.now(UTC),
        max_concurrency=min(settings.scan_max_concurrency, REQUESTS_PER_TICK + len(unfinished)),
        asked=unclaimed,
        requested=requested,
    )
    return found, [_request(instance, due) for due in found.start]


def _request(instance: dg.DagsterInstance, due: Due) -> dg.RunRequest:
    tags = {ROUND_TAG: due.round, RUN_TYPE_TAG: RUN_TYPE} | ({TIER_TAG: due.tier} if due.tier else {})
    # A run key is spent for ever, also when its run ended before it could claim: so it counts the runs of the occasion.
    earlier = instance.get_runs_count(dg.RunsFilter(tags={ROUND_TAG: due.round, PARTITION_NAME_TAG: due.config_id}))
    return dg.RunRequest(run_key=f"{due.round}/{due.config_id}/{earlier + 1}", partition_key=due.config_id, tags=tags)


@dg.sensor(
    job_name="lifecycle_job",
    description=(
        "Every hour (setting scan_interval_seconds) looks for registered configurations that are due: untested, tested too long "
        "ago, or left by a dead owner. Requests them oldest first, scan_max_concurrency at once. Off until you switch it on: "
        "it spends money."
    ),
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.STOPPED,
)
def scanner_sensor(context: dg.SensorEvaluationContext, platform: PlatformResource) -> dg.SensorResult:
    """Begin a scan when it is time, and go on with it as runs end and make room.

    What is due already runs or is refused by its claim when another scanner was faster.
    """
    opened = platform.open()
    scan_time = decide_scan(context.cursor, datetime.now(UTC), opened.home.settings.scan_interval_seconds)
    if scan_time.wait is not None:
        return dg.SensorResult(skip_reason=scan_time.wait, cursor=scan_time.cursor(done=True))
    found, requests = requests_of(context.instance, opened, scan_time.began)
    if has_dead_owner(found):
        # Its lease lives on: every claim would be refused until it is cleaned.
        clear(opened, context.instance)
        found, requests = requests_of(context.instance, opened, scan_time.began)
    context.log.info(found.sentence)
    if scan_time.fresh:
        for left in [each for each in found.left_out if each.omission is not Omission.FRESH][:LOGGED]:
            context.log.info(f"left out {left.config_id} ({left.omission.value}): {left.detail}")
    cursor = scan_time.cursor(done=not found.start and not found.waiting)
    if not requests:
        return dg.SensorResult(skip_reason=found.sentence, cursor=cursor)
    known = set(context.instance.get_dynamic_partitions("configuration"))
    missing = [due.config_id for due in found.start if due.config_id not in known]
    return dg.SensorResult(
        run_requests=requests,
        cursor=cursor,
        dynamic_partitions_requests=[CONFIGURATIONS.build_add_request(missing)] if missing else [],
    )


SENSORS: tuple[dg.SensorDefinition, ...] = (scanner_sensor,)
