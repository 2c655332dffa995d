"""Evaluating sensors and schedules of the real definitions as the daemon does, and running what they request."""

from datetime import datetime
from typing import Any

import dagster as dg
from dagster._core.instance.types import CachingDynamicPartitionsLoader
from scripted_runs import Graph


def tick(graph: Graph, name: str, cursor: str | None = None) -> Any:
    """Evaluate a sensor once."""
    context = dg.build_sensor_context(
        instance=graph.instance,
        cursor=cursor,
        repository_def=graph.defs.get_repository_def(),
        resources={"platform": graph.resource},
    )
    # A context for tests has no reference to its instance, by which the daemon's one checks partition keys.
    vars(context)["caching_dynamic_partitions_loader"] = CachingDynamicPartitionsLoader(graph.instance)
    with context:
        return graph.defs.resolve_sensor_def(name).evaluate_tick(context)


def schedule_tick(graph: Graph, name: str, at: datetime) -> Any:
    """Evaluate a schedule as of a moment."""
    context = dg.build_schedule_context(
        instance=graph.instance,
        scheduled_execution_time=at,
        repository_def=graph.defs.get_repository_def(),
        resources={"platform": graph.resource},
    )
    with context:
        return graph.defs.resolve_schedule_def(name).evaluate_tick(context)


def queued(graph: Graph, request: dg.RunRequest) -> dg.DagsterRun | None:
    """Do what the daemon does with a request: a run of its tags that has not begun, none where its run key was asked for
    before."""
    assert request.run_key is not None
    tags = dict(request.tags) | {"dagster/run_key": request.run_key, "dagster/partition": str(request.partition_key)}
    if graph.instance.get_runs(filters=dg.RunsFilter(tags={"dagster/run_key": request.run_key})):
        return None
    job = graph.defs.resolve_job_def("lifecycle_job")
    return graph.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTING, tags=tags)


def perform(graph: Graph, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
    """Run a request to its end, with its tags, as the daemon's run would."""
    key = str(request.partition_key)
    tags = {name.removeprefix("mlcc/"): value for name, value in request.tags.items() if name.startswith("mlcc/")}
    return graph.run(key, round_id=tags.pop("round"), **tags)
