"""Telling people of failed runs.

Belongs here: when a notice is given, and what of a failed run goes into it. Not here: bringing it anywhere (`resources.notifiers`).
It spends nothing, so it is on from the start.
"""

from datetime import UTC, datetime

import dagster as dg
from dagster._core.storage.tags import PARTITION_NAME_TAG

from assets.lifecycle import ROUND_TAG, TIER_TAG
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.outcome import StageResult, StageStatus
from mlcc_dagster.core.records import utc_text
from mlcc_dagster.core.stages import CANONICAL_ORDER
from resources.ci_table import Attempt
from resources.dagster_resources import PlatformResource
from resources.lifecycle import find_configuration
from resources.notifiers import FailureNotice, notifiers_of, tell
from resources.platform import Platform

NOTIFIED_TAG = "mlcc/notified"
"""Set on a run once its failure was told, so that nobody tells it again."""

NEWEST_ATTEMPTS = 50
LIFECYCLE_JOB = "lifecycle_job"


def attempt_of(platform: Platform, run: dg.DagsterRun) -> Attempt | None:
    """Return the attempt that a Dagster run made, none where it failed before its claim or is no run of a lifecycle."""
    key = run.tags.get(PARTITION_NAME_TAG)
    attempts = platform.ci.attempts(key, limit=NEWEST_ATTEMPTS) if key else ()
    return next((attempt for attempt in attempts if attempt.owner.dagster_run_id == run.run_id), None)


def notice_of(platform: Platform, run: dg.DagsterRun, message: str, now: datetime) -> FailureNotice | None:
    """Return what there is to tell of a failed run, none where it is no run of a configuration. `message` is what Dagster
    knows, for runs that failed before anything of them was recorded."""
    key = run.tags.get(PARTITION_NAME_TAG)
    attempt = attempt_of(platform, run)
    if key is None or (attempt is None and run.job_name != LIFECYCLE_JOB):
        return None
    try:
        configuration, entry, _ = find_configuration(platform, key)
    except UsageError:
        configuration, entry = None, None
    stages = {
        name: StageResult.from_document(document) for name, document in (attempt.stages if attempt else {}).items()
    }
    failed = next(
        (stages[stage.value] for stage in CANONICAL_ORDER if stage.value in stages and _failed(stages[stage.value])),
        None,
    )
    category = attempt.failure_category if attempt else None
    if category is None and failed is not None and failed.failure is not None:
        category = failed.failure.category
    if attempt is not None and attempt.state == "interrupted":
        category = "interrupted"
    expected = entry is not None and entry.expected_failure is not None and entry.expected_failure == category
    page = platform.home.settings.ui_url
    return FailureNotice(
        config_id=key,
        name=key if entry is None else entry.id,
        configuration="unknown" if configuration is None else str(configuration),
        run_id=None if attempt is None else attempt.run_id,
        stage=None if failed is None else failed.stage.value,
        category=category,
        line=failed.failure.line if failed is not None and failed.failure is not None else None,
        sentence=(attempt.reason if attempt is not None else None) or message,
        expected=expected,
        round=run.tags.get(ROUND_TAG) if attempt is None else attempt.round,
        tier=run.tags.get(TIER_TAG) if attempt is None else attempt.tier,
        dagster_run_id=run.run_id,
        url=None if page is None else f"{page.rstrip('/')}/runs/{run.run_id}",
        failed_at=utc_text(now) if attempt is None or attempt.ended_at is None else attempt.ended_at,
    )


def said_by(context: dg.RunFailureSensorContext) -> str:
    """Return what the failed step said to a person, else Dagster's message."""
    for event in context.get_step_failure_events():
        said = event.step_failure_data.user_failure_data
        if said is not None and said.description:
            return said.description
    return context.failure_event.message or "it failed without a word"


def _failed(result: StageResult) -> bool:
    return result.status is StageStatus.FAIL


@dg.run_failure_sensor(
    description=(
        "Tells of a failed run once: a line in the log, and a message to the web hook where the setting notify_webhook names one."
    ),
    monitor_all_code_locations=True,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def failure_notice_sensor(context: dg.RunFailureSensorContext, platform: PlatformResource) -> None:
    """Tell of the run, and note on it that it was told. A web hook that fails is a line in the log and breaks nothing.

    The first tick only notes the newest event, so runs that failed before it was switched on are not told.
    """
    run = context.instance.get_run_by_id(context.dagster_run.run_id) or context.dagster_run
    if NOTIFIED_TAG in run.tags:
        return
    opened = platform.open()
    now = datetime.now(UTC)
    notice = notice_of(opened, run, said_by(context), now)
    if notice is None:
        return
    # Noted first: told once, or not at all when this process dies in between, but never again and again.
    context.instance.add_run_tags(run.run_id, {NOTIFIED_TAG: utc_text(now)})
    for problem in tell(notifiers_of(opened.home.settings, context.log), notice):
        context.log.error(f"the failure of {notice.name} could not be told to {problem}")


SENSORS: tuple[dg.SensorDefinition, ...] = (failure_notice_sensor,)
