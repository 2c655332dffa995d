"""Notices the triage runs of commands: their partitions and what they found.

Belongs here: the sensor and its decision. Not here: what is shown of a matrix (`assets.triage`). It costs nothing and is on.
"""

import json
from collections.abc import Mapping, Sequence

import dagster as dg

from assets.triage import TRIAGE_RUNS, matrix_metadata, triage_matrix
from mlcc_dagster.core.exceptions import UsageError
from resources.dagster_resources import PlatformResource
from resources.triage.kept_runs import key_of, read_run, run_paths
from resources.triage.run_folders import MATRIX_JSON

MOST_PER_TICK = 5


def decide_new(cursor: str | None, states: Mapping[str, int]) -> Sequence[str]:
    """Return the runs that changed since they were last looked at, at most `MOST_PER_TICK`, in their order. `states` are the
    times of their matrices in ns by key, the cursor the same as JSON."""
    seen = json.loads(cursor) if cursor else {}
    return [key for key, state in states.items() if seen.get(key) != state][:MOST_PER_TICK]


@dg.sensor(
    description="Materializes the partition of every triage run that a command finished in this home.",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def triage_runs_sensor(context: dg.SensorEvaluationContext, platform: PlatformResource) -> dg.SensorResult:
    """Report runs that ended since the last tick; one that cannot be read is logged and looked at again when it changes."""
    paths = {key_of(path): path for path in run_paths(platform.open().home)}
    states = {key: (path / MATRIX_JSON).stat().st_mtime_ns for key, path in paths.items()}
    seen = {key: state for key, state in json.loads(context.cursor or "{}").items() if key in states}
    events: list[dg.AssetMaterialization] = []
    there = frozenset(context.instance.get_dynamic_partitions("triage_run"))
    keys = []
    for key in decide_new(context.cursor, states):
        seen[key] = states[key]
        try:
            run = read_run(paths[key])
        except UsageError as error:
            context.log.warning(str(error))
            continue
        if run.finished:
            keys.append(key)
            events.append(dg.AssetMaterialization(triage_matrix.key, partition=key, metadata=matrix_metadata(run)))
    new = [key for key in keys if key not in there]
    return dg.SensorResult(
        skip_reason=None if events else "no triage run has ended since",
        asset_events=events,
        dynamic_partitions_requests=[TRIAGE_RUNS.build_add_request(new)] if new else [],
        cursor=json.dumps(seen, sort_keys=True),
    )


SENSORS = (triage_runs_sensor,)
