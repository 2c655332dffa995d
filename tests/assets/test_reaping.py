"""Reporting dead runs to Dagster: exactly those, and never one that ended in order."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from scripted_runs import Graph

from assets.reaping import clear, owner_of, owner_tag
from resources import processes


def run_of(graph: Graph, **tags: str) -> dg.DagsterRun:
    job = graph.defs.resolve_job_def("lifecycle_job")
    return graph.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=tags)


def test_the_owner_of_a_run_is_the_one_that_its_own_claim_named(graph: Graph) -> None:
    run = run_of(graph)
    assert owner_of(run) is None
    own, inherited = processes.this_process(run.run_id), processes.this_process("its-parent")
    assert owner_of(run.with_tags(owner_tag(own))) == own
    assert owner_of(run.with_tags(owner_tag(inherited))) is None


def test_a_run_that_ends_in_order_while_it_is_looked_at_stays_as_it_ended(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(graph)
    graph.instance.add_run_tags(run.run_id, owner_tag(processes.this_process(run.run_id)))

    def ends_then(owner: object) -> bool:
        graph.instance.handle_new_event(success_of(graph, run))
        return False

    monkeypatch.setattr(processes, "owner_alive", ends_then)
    assert clear(graph.platform, graph.instance).reported == ()
    found = graph.instance.get_run_by_id(run.run_id)
    assert found is not None
    assert found.status is dg.DagsterRunStatus.SUCCESS


def success_of(graph: Graph, run: dg.DagsterRun) -> dg.EventLogEntry:
    event = dg.DagsterEvent("PIPELINE_SUCCESS", run.job_name)
    return dg.EventLogEntry(
        error_info=None,
        level=20,
        user_message="",
        run_id=run.run_id,
        timestamp=0.0,
        job_name=run.job_name,
        dagster_event=event,
    )


def test_a_run_on_another_host_is_not_taken_for_dead(graph: Graph) -> None:
    run = run_of(graph)
    owner = replace(processes.this_process(run.run_id), host="another-host", pid=1)
    graph.instance.add_run_tags(run.run_id, owner_tag(owner))
    assert clear(graph.platform, graph.instance).nothing


def dead_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        return process.pid


@pytest.mark.parametrize(
    ("pid", "after_seconds", "reported"),
    [
        pytest.param(os.getpid, 0.0, False, id="a living worker is left alone"),
        pytest.param(dead_pid, 0.0, True, id="a worker that was killed before its claim"),
        pytest.param(os.getpid, -86_400.0, True, id="its pid is a later process's now"),
    ],
)
def test_a_launched_run_without_owner_is_told_by_its_worker(
    tmp_path: Path, pid: Callable[[], int], after_seconds: float, reported: bool
) -> None:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        graph = Graph.over(tmp_path / "home", instance=instance)
        run = run_of(graph)
        data = EngineEventData.in_process(pid())
        event = dg.DagsterEvent("ENGINE_EVENT", run.job_name, event_specific_data=data)
        entry = dg.EventLogEntry(
            error_info=None,
            level=10,
            user_message="",
            run_id=run.run_id,
            timestamp=time.time() + after_seconds,
            job_name=run.job_name,
            dagster_event=event,
        )
        instance.handle_new_event(entry)
        assert clear(graph.platform, instance).reported == ((run.run_id,) if reported else ())
        found = instance.get_run_by_id(run.run_id)
        assert found is not None
        assert found.is_finished is reported


def test_a_launched_run_whose_worker_has_not_said_anything_yet_is_left_alone(tmp_path: Path) -> None:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        graph = Graph.over(tmp_path / "home", instance=instance)
        run_of(graph)
        assert clear(graph.platform, instance).nothing


def test_what_was_done_is_told_in_sentences(graph: Graph) -> None:
    cleared = clear(graph.platform, graph.instance)
    assert cleared.nothing
    assert cleared.to_json() == {
        "recovered": [],
        "interrupted": [],
        "ended": [],
        "released_reservations": [],
        "dagster_runs_reported_failed": [],
        "problems": [],
    }
