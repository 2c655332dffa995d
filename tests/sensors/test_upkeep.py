"""The sensors that keep the platform true: evaluated as the daemon does, on a real instance."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from typing import Any

import dagster as dg
import pytest
from scripted_runs import Graph

from assets.reaping import owner_tag
from mlcc_dagster.core.outcome import Outcome, Owner
from mlcc_dagster.core.stages import Stage
from resources import processes
from resources.lifecycle import RunRequest, begin, perform
from sensors.upkeep import SENSORS, decide_refresh

NAMES = {
    "catalog_sync_sensor",
    "store_refresh_sensor",
    "clean_after_failure_sensor",
    "clean_after_cancel_sensor",
    "reaper_sensor",
}


@pytest.fixture
def dead_owner() -> Owner:
    """The owner that a process which has ended was."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    found = processes.identify(process.pid)
    assert found is not None
    owner = replace(processes.this_process("dead"), pid=found.pid, start_ticks=found.start_ticks)
    process.communicate(b"\n")
    return owner


def tick(graph: Graph, name: str, cursor: str | None = None) -> Any:
    """Evaluate a sensor of the real definitions once."""
    context = dg.build_sensor_context(
        instance=graph.instance,
        cursor=cursor,
        repository_def=graph.defs.get_repository_def(),
        resources={"platform": graph.resource},
    )
    with context:
        return graph.defs.resolve_sensor_def(name).evaluate_tick(context)


def half_way(graph: Graph, owner: Owner, *, to: Stage = Stage.DEPLOY) -> str:
    """A run that got as far as a stage and was left there by its owner; returns its run id."""
    outcome = begin(graph.platform, RunRequest(graph.config_id, f"round of {owner}"), owner)
    assert isinstance(outcome, Outcome)
    for stage in Stage:
        outcome = perform(graph.platform, stage, outcome)
        if stage is to:
            break
    assert graph.platform.ledger.alive(outcome.claim.run_id)
    return outcome.claim.run_id


def started_run(graph: Graph, owner: Owner | None = None, *, status: str = "STARTED") -> dg.DagsterRun:
    """A Dagster run that somebody began, as the instance knows it."""
    job = graph.defs.resolve_job_def("lifecycle_job")
    run = graph.instance.create_run_for_job(job, status=dg.DagsterRunStatus(status), tags={})
    if owner is not None:
        graph.instance.add_run_tags(run.run_id, owner_tag(replace(owner, dagster_run_id=run.run_id)))
    return run


def test_every_sensor_says_what_it_is_for_and_runs_by_default() -> None:
    assert {sensor.name for sensor in SENSORS} == NAMES
    assert {sensor.default_status for sensor in SENSORS} == {dg.DefaultSensorStatus.RUNNING}
    assert all(len(sensor.description or "") > 30 for sensor in SENSORS)


def test_the_catalog_sensor_adds_every_key_once(graph: Graph) -> None:
    first = tick(graph, "catalog_sync_sensor")
    requested = {r.partitions_def_name: list(r.partition_keys) for r in first.dynamic_partitions_requests}
    assert set(requested) == {"configuration", "model_family"}
    assert set(graph.ids.values()) == set(requested["configuration"])
    runs_here = [graph.ids[entry] for entry in graph.ids if entry.startswith("local-")]
    assert requested["configuration"][: len(runs_here)] == runs_here, "what can be run here comes first"
    for name, keys in requested.items():
        graph.instance.add_dynamic_partitions(name, keys)
    again = tick(graph, "catalog_sync_sensor")
    assert not again.dynamic_partitions_requests
    assert again.skip_message == "every configuration and model family has its partition"


def test_the_catalog_sensor_asks_only_for_what_is_missing(graph: Graph) -> None:
    first, *others = graph.ids.values()
    graph.instance.add_dynamic_partitions("configuration", others)
    (requested,) = [
        r
        for r in tick(graph, "catalog_sync_sensor").dynamic_partitions_requests
        if r.partitions_def_name == "configuration"
    ]
    assert list(requested.partition_keys) == [first]


@pytest.mark.parametrize(
    ("refreshed", "seen", "version", "asks", "then"),
    [
        pytest.param(None, None, "v1", False, (None, "v1"), id="first look: wait one tick"),
        pytest.param(None, "v1", "v1", True, ("v1", "v1"), id="it stood still: refresh"),
        pytest.param("v1", "v1", "v1", False, ("v1", "v1"), id="nothing new"),
        pytest.param("v1", "v1", "v2", False, ("v1", "v2"), id="changed: wait one tick"),
        pytest.param("v1", "v2", "v3", False, ("v1", "v3"), id="still changing: wait on"),
        pytest.param("v1", "v3", "v3", True, ("v3", "v3"), id="settled: refresh"),
        pytest.param("v1", "v2", "v1", False, ("v1", "v1"), id="changed back before it settled: nothing new"),
    ],
)
def test_a_refresh_is_asked_for_once_the_store_has_changed_and_stood_still(
    refreshed: str | None, seen: str | None, version: str, asks: bool, then: tuple[str | None, str]
) -> None:
    cursor = None if refreshed is None and seen is None else json.dumps({"refreshed": refreshed, "seen": seen})
    decision = decide_refresh(cursor, version)
    assert (decision.wait is None) is asks
    state = json.loads(decision.cursor)
    assert (state["refreshed"], state["seen"]) == then


def test_the_refresh_sensor_asks_for_one_run_over_all_families_per_settled_version(graph: Graph) -> None:
    families = ["random-forest", "logistic-regression", "qwen3"]
    graph.instance.add_dynamic_partitions("model_family", families)
    cursor, asked = None, []
    for number, happens in enumerate(("nothing", "nothing", "nothing", "a result", "nothing", "nothing")):
        if happens == "a result":
            assert graph.run().success
        result = tick(graph, "store_refresh_sensor", cursor)
        cursor = result.cursor
        for request in result.run_requests or []:
            asked.append(number)
            assert request.tags["dagster/asset_partition_range_start"] == "random-forest"
            assert request.tags["dagster/asset_partition_range_end"] == "qwen3"
    assert asked == [1, 4], "one tick after each change"


def test_the_refresh_sensor_does_not_spend_a_version_before_there_is_a_partition(graph: Graph) -> None:
    cursor, asked = None, []
    for number in range(5):
        if number == 2:
            graph.instance.add_dynamic_partitions("model_family", ["qwen3"])
        result = tick(graph, "store_refresh_sensor", cursor)
        cursor = result.cursor
        asked += [number for _ in result.run_requests or []]
    assert asked == [3], "the one that stood still was not taken for refreshed while there was nothing to refresh"


def test_a_requested_refresh_is_a_run_that_the_job_takes(graph: Graph) -> None:
    graph.instance.add_dynamic_partitions("model_family", ["random-forest", "qwen3"])
    result = tick(graph, "store_refresh_sensor", tick(graph, "store_refresh_sensor").cursor)
    (request,) = result.run_requests
    run = graph.defs.resolve_job_def("refresh_job").execute_in_process(instance=graph.instance, tags=request.tags)
    keys = [event.asset_key for event in run.get_asset_materialization_events() if event.asset_key is not None]
    models = {key.path[1] for key in keys if key.path[0] == "mlcc_ci"}
    assert "gap_candidates" in models
    made = Counter(key.to_user_string() for key in keys if key.path[0] != "mlcc_ci")
    once = ("interaction_coverage", "unfeasible_verdicts", "success_odds", "prove_plan", "tier_report", "flakiness")
    once += ("baselines", "regression_report", "recommendations")
    assert made == {"coverage_matrix": 2, "gap_list": 2, **dict.fromkeys(once, 1)}


STATUS_SENSORS = ["clean_after_failure_sensor", "clean_after_cancel_sensor"]


def end_run(graph: Graph, run: dg.DagsterRun, sensor: str) -> None:
    """End a Dagster run and let its sensor see that, as the daemon does: the first tick only takes its place."""
    cursor = tick(graph, sensor).cursor
    if sensor == "clean_after_failure_sensor":
        graph.instance.report_run_failed(run)
    else:
        graph.instance.report_run_canceled(run)
    tick(graph, sensor, cursor)


@pytest.mark.parametrize("sensor", STATUS_SENSORS)
def test_what_a_run_left_is_cleaned_when_dagster_says_that_it_ended(graph: Graph, sensor: str) -> None:
    run = started_run(graph)
    run_id = half_way(graph, processes.this_process(run.run_id))
    end_run(graph, run, sensor)
    graph.assert_nothing_alive()
    attempt = graph.platform.ci.attempt(run_id)
    assert attempt is not None
    assert attempt.state == "interrupted"
    assert "its Dagster run" in str(attempt.reason)
    assert graph.rows() == []


def test_one_tick_looks_at_several_runs_that_ended(graph: Graph) -> None:
    cursor = tick(graph, "clean_after_failure_sensor").cursor
    ended_in_order, killed = started_run(graph), started_run(graph)
    half_way(graph, processes.this_process(killed.run_id))
    for run in (ended_in_order, killed):
        graph.instance.report_run_failed(run)
    tick(graph, "clean_after_failure_sensor", cursor)
    graph.assert_nothing_alive()


def test_the_first_tick_of_a_status_sensor_leaves_earlier_failures_to_the_reaper(graph: Graph) -> None:
    run = started_run(graph)
    half_way(graph, processes.this_process(run.run_id))
    graph.instance.report_run_failed(run)
    cursor = tick(graph, "clean_after_failure_sensor").cursor
    tick(graph, "clean_after_failure_sensor", cursor)
    assert len(graph.platform.ci.running()) == 1
    tick(graph, "reaper_sensor")
    graph.assert_nothing_alive()


@pytest.mark.parametrize("sensor", STATUS_SENSORS)
def test_a_run_of_another_is_left_alone_when_a_run_ends(graph: Graph, sensor: str) -> None:
    run_id = half_way(graph, processes.this_process("a-run-that-goes-on"))
    alive = graph.platform.ledger.alive()
    end_run(graph, started_run(graph), sensor)
    assert graph.platform.ledger.alive() == alive
    assert [attempt.run_id for attempt in graph.platform.ci.running()] == [run_id]


def test_the_reaper_sensor_ends_what_a_dead_process_left_and_reports_its_run_failed(
    graph: Graph, dead_owner: Owner
) -> None:
    run = started_run(graph, dead_owner)
    run_id = half_way(graph, replace(dead_owner, dagster_run_id=run.run_id))
    result = tick(graph, "reaper_sensor")
    assert "ended 1 attempt" in str(result.skip_message)
    graph.assert_nothing_alive()
    attempt = graph.platform.ci.attempt(run_id)
    assert attempt is not None
    assert attempt.state == "interrupted"
    ended = graph.instance.get_run_by_id(run.run_id)
    assert ended is not None
    assert ended.status is dg.DagsterRunStatus.FAILURE
    again = tick(graph, "reaper_sensor")
    assert again.skip_message == "nothing outlived its owner"


def test_the_reaper_sensor_leaves_a_living_owner_alone(graph: Graph) -> None:
    owner = processes.this_process("x")
    run = started_run(graph, owner)
    run_id = half_way(graph, replace(owner, dagster_run_id=run.run_id))
    assert tick(graph, "reaper_sensor").skip_message == "nothing outlived its owner"
    assert [attempt.run_id for attempt in graph.platform.ci.running()] == [run_id]
    found = graph.instance.get_run_by_id(run.run_id)
    assert found is not None
    assert found.status is dg.DagsterRunStatus.STARTED


@pytest.mark.parametrize(
    ("status", "ended"),
    [
        pytest.param("NOT_STARTED", True, id="killed between its creation and its start"),
        pytest.param("STARTED", True, id="killed at work"),
        pytest.param("CANCELING", True, id="killed while it was being cancelled"),
        pytest.param("SUCCESS", False, id="ended in order before its process did"),
    ],
)
def test_the_reaper_sensor_reports_exactly_the_runs_that_lost_their_process(
    graph: Graph, dead_owner: Owner, status: str, ended: bool
) -> None:
    run = started_run(graph, dead_owner, status=status)
    tick(graph, "reaper_sensor")
    found = graph.instance.get_run_by_id(run.run_id)
    assert found is not None
    assert found.status is dg.DagsterRunStatus("FAILURE" if ended else status)


def test_a_re_execution_is_not_taken_for_dead_because_its_parent_is(graph: Graph, dead_owner: Owner) -> None:
    parent = started_run(graph, dead_owner)
    child = started_run(graph)
    graph.instance.add_run_tags(child.run_id, graph.instance.get_run_by_id(parent.run_id).tags)  # type: ignore[union-attr]
    tick(graph, "reaper_sensor")
    statuses = [graph.instance.get_run_by_id(run.run_id).status.value for run in (parent, child)]  # type: ignore[union-attr]
    assert statuses == ["FAILURE", "STARTED"]


def test_the_reaper_sensor_ends_an_attempt_whose_dagster_run_ended_without_it(graph: Graph) -> None:
    run = started_run(graph)
    half_way(graph, processes.this_process(run.run_id))
    graph.instance.report_run_canceled(run)
    assert "ended 1 attempt" in str(tick(graph, "reaper_sensor").skip_message)
    graph.assert_nothing_alive()
