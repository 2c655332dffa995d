"""Sensors that keep the platform true: partitions follow the catalog, coverage follows the store, nothing leaks.

Belongs here: decisions that cost nothing and so are on by default. Not here: whatever spends money.
"""

import json
from dataclasses import dataclass

import dagster as dg

from assets.partitions import CONFIGURATIONS, MODEL_FAMILIES, missing_keys
from assets.reaping import clear
from resources.dagster_resources import PlatformResource
from resources.lifecycle import abandon_all
from resources.regression_words import RegressionWords

PARTITION_DEFINITIONS = {"configuration": CONFIGURATIONS, "model_family": MODEL_FAMILIES}


@dg.sensor(
    description="Adds a partition for every configuration of the catalog and every model family that has none yet.",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def catalog_sync_sensor(context: dg.SensorEvaluationContext, platform: PlatformResource) -> dg.SensorResult:
    """Request the missing partition keys, one request per definition."""
    missing = {name: keys for name, keys in missing_keys(platform.open(), context.instance).items() if keys}
    if not missing:
        return dg.SensorResult(skip_reason="every configuration and model family has its partition")
    return dg.SensorResult(
        dynamic_partitions_requests=[
            PARTITION_DEFINITIONS[name].build_add_request(keys) for name, keys in missing.items()
        ]
    )


@dataclass(frozen=True)
class RefreshDecision:
    """What one tick decides: the next cursor, and why coverage is not refreshed now (none where it is)."""

    cursor: str
    wait: str | None


def decide_refresh(cursor: str | None, version: str) -> RefreshDecision:
    """Ask for a refresh when the store's version has changed and then stood still for one tick (debounce).

    `cursor` is JSON `{"refreshed", "seen"}`; `version` is the snapshot's version text.
    """
    state = json.loads(cursor) if cursor else {"refreshed": None, "seen": None}

    def then(refreshed: str | None, wait: str | None) -> RefreshDecision:
        return RefreshDecision(json.dumps({"refreshed": refreshed, "seen": version}, sort_keys=True), wait)

    if version == state["refreshed"]:
        return then(version, "coverage is up to date with the store")
    if version != state["seen"]:
        return then(state["refreshed"], "the store has changed; waiting one tick for more results")
    return then(version, None)


def all_partitions_range(keys: list[str]) -> dict[str, str]:
    """Return the run tags that cover all keys of a dynamic partitions definition in one run."""
    return {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}


@dg.sensor(
    job_name="refresh_job",
    description="Refreshes coverage and gaps of all model families in one run when new results have settled.",
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def store_refresh_sensor(context: dg.SensorEvaluationContext, platform: PlatformResource) -> dg.SensorResult:
    """Request one refresh run per settled version of the result store."""
    families = context.instance.get_dynamic_partitions("model_family")
    if not families:
        return dg.SensorResult(skip_reason="no model family has a partition yet", cursor=context.cursor)
    opened = platform.open()
    # a person's word changes coverage, gaps and what counts as a regression as a result does
    words = opened.words.count() + RegressionWords(opened.home.database).count()
    decision = decide_refresh(context.cursor, f"{opened.store.snapshot().version}-{words}")
    if decision.wait is not None:
        return dg.SensorResult(skip_reason=decision.wait, cursor=decision.cursor)
    # No run key: it would be spent for ever, and a version comes back when a file that was moved away is restored.
    request = dg.RunRequest(tags=all_partitions_range(list(families)))
    return dg.SensorResult(run_requests=[request], cursor=decision.cursor)


@dg.run_failure_sensor(
    description="Cleans what a failed run left: processes, ports, workspace, claim, slot.",
    monitor_all_code_locations=True,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def clean_after_failure_sensor(context: dg.RunFailureSensorContext, platform: PlatformResource) -> None:
    """Clean by the ledger; a run that ended in order left nothing, so this finds nothing.

    The first tick only notes the newest event, so a run that failed before is the reaper's. Returns nothing: with a skip
    reason Dagster would look at one run a tick.
    """
    ended = abandon_all(platform.open(), context.dagster_run.run_id, "its Dagster run failed")
    context.log.info(f"cleaned {', '.join(ended) or 'nothing: the run had ended in order'}")


@dg.run_status_sensor(
    run_status=dg.DagsterRunStatus.CANCELED,
    description="Cleans what a cancelled run left: processes, ports, workspace, claim, slot.",
    monitor_all_code_locations=True,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def clean_after_cancel_sensor(context: dg.RunStatusSensorContext, platform: PlatformResource) -> None:
    """Clean by the ledger, as after a failure."""
    ended = abandon_all(platform.open(), context.dagster_run.run_id, "its Dagster run was cancelled")
    context.log.info(f"cleaned {', '.join(ended) or 'nothing: the run had ended in order'}")


@dg.sensor(
    description="Ends what outlived its owner or its deadline, and reports the Dagster runs of dead processes failed.",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def reaper_sensor(context: dg.SensorEvaluationContext, platform: PlatformResource) -> dg.SkipReason:
    """Reap once; the reason says what was ended."""
    cleared = clear(platform.open(), context.instance)
    if cleared.nothing:
        return dg.SkipReason("nothing outlived its owner")
    context.log.warning("reaped %s", cleared)
    return dg.SkipReason(f"ended {len(cleared.reaped.interrupted) + len(cleared.abandoned)} attempt(s)")


SENSORS = (
    catalog_sync_sensor,
    store_refresh_sensor,
    clean_after_failure_sensor,
    clean_after_cancel_sensor,
    reaper_sensor,
)
