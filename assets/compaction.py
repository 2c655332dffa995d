"""The results of closed days, merged: the asset, its job and its daily schedule.

Belongs here: the shell and its metadata. Not here: what compaction does (`resources.compaction`).
"""

import time
from functools import partial

import dagster as dg

from assets.coverage import ALL_RESULTS
from assets.lifecycle import OWNER
from resources.compaction import Compaction, compact, unfinished_runs
from resources.dagster_resources import PlatformResource

SHOWN_FILES = 50
"""Files that are named in the metadata as left alone."""


def compaction_metadata(done: Compaction) -> dict[str, dg.MetadataValue]:
    """Return what a compaction did as metadata."""
    left = "\n".join(f"- {path}: {why}" for path, why in done.left_alone[:SHOWN_FILES])
    metadata: dict[str, dg.MetadataValue] = {
        "files merged": dg.MetadataValue.int(done.merged_files),
        "merged files made": dg.MetadataValue.int(len(done.merges)),
        "rows in them": dg.MetadataValue.int(done.rows or 0),
        "files removed that were merged before": dg.MetadataValue.int(done.removed_files),
        "left alone": dg.MetadataValue.md(left or "none"),
        "another was running": dg.MetadataValue.bool(done.busy),
    }
    if done.waiting_until is not None:
        metadata["merged files take the others' place from"] = dg.MetadataValue.timestamp(done.waiting_until)
    return metadata


@dg.asset(
    deps=[ALL_RESULTS],
    group_name="evidence",
    owners=[OWNER],
    kinds={"python", "parquet"},
    description=(
        "The result files of closed days, merged into sorted ones: the same rows, read many times faster. Readers and publishers "
        "go on meanwhile."
    ),
)
def compacted_results(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.MaterializeResult:
    """Merge the closed days and show others what was merged before; another compaction at the same time is no failure."""
    opened = platform.open()
    done = compact(opened.store, unfinished=partial(unfinished_runs, opened.ci), now=time.time())
    context.log.info(f"{done.merged_files} files merged, {done.removed_files} removed that were merged before")
    return dg.MaterializeResult(metadata=compaction_metadata(done))


compaction_job = dg.define_asset_job(
    "compaction_job",
    selection=dg.AssetSelection.assets(compacted_results),
    description="The result files of closed days merged into sorted ones.",
    # Dagster's default launcher does not look after its runs' processes: one that was killed would stay started for ever.
    tags={"dagster/max_runtime": "3600"},
)

compaction_schedule = dg.ScheduleDefinition(
    name="compaction_schedule",
    job=compaction_job,
    cron_schedule="30 0 * * *",
    execution_timezone="UTC",
    description="Once a day, after midnight UTC: merges what the day before left. Spends nothing, so it is on.",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
