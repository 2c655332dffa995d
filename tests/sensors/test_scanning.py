"""The scanner's sensor on the real graph: an hour from scan to scan, the oldest first, as many at once as are allowed."""

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from scripted_runs import Graph
from sensor_ticks import perform, queued, tick

from mlcc_dagster.core.outcome import Owner
from mlcc_dagster.core.stages import Stage
from resources import processes
from resources.lifecycle import RunRequest, begin, benchmark_plan, find_configuration
from resources.lifecycle import perform as perform_stage
from resources.scanner import look
from resources.sqlite_ci_table import SqliteCiTable
from sensors.scanning import UNFINISHED, decide_scan

NOW = datetime(2026, 11, 22, 6, 0, tzinfo=UTC)
HOUR = 3600.0
LOCAL = ["local-fastapi-forest-1cpu", "local-flask-forest-1cpu", "local-fastapi-logistic-1cpu"]


def register(graph: Graph, *names: str, days_ago: float = 2) -> list[str]:
    """Register entries of the catalog as of some days ago, a second after each other; returns their config ids."""
    began = datetime.now(UTC) - timedelta(days=days_ago)
    for place, name in enumerate(names):
        entry = next(entry for entry in graph.platform.catalog.entries if entry.id == name)
        configuration, _, _ = find_configuration(graph.platform, graph.ids[name])
        graph.platform.ci.register(
            configuration,
            benchmark=benchmark_plan(entry),
            tier=entry.tier,
            catalog_id=name,
            now=began.timestamp() + place,
        )
    return [graph.ids[name] for name in names]


def age(graph: Graph, key: str, **back: float) -> None:
    """Let the last test of a configuration be so long ago."""
    moment = datetime.now(UTC) - timedelta(**back)
    with SqliteCiTable(graph.platform.home.database)._database.writing() as connection:
        connection.execute(
            "UPDATE ci_record SET last_test_timestamp = ? WHERE config_id = ?",
            (moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), key),
        )


def allow(graph: Graph, **settings: float) -> None:
    """Change settings of the home."""
    lines = "".join(f"{name}: {value}\n" for name, value in settings.items())
    (graph.platform.home.root / "settings.yaml").write_text(lines)
    graph.platform.home.__dict__.pop("settings", None)


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    """The real graph with an instance on the disk, which tells run keys and creation times."""
    (tmp_path / "dagster").mkdir()
    instance = dg.DagsterInstance.local_temp(str(tmp_path / "dagster"), overrides={"telemetry": {"enabled": False}})
    return Graph.over(tmp_path / "home", instance=instance)


@pytest.mark.parametrize(
    ("cursor", "fresh", "waits"),
    [
        pytest.param(None, True, False, id="the first tick scans"),
        pytest.param({"began": "2026-11-22T05:30:00+00:00", "done": False}, False, False, id="goes on with its scan"),
        pytest.param({"began": "2026-11-22T05:30:00+00:00", "done": True}, False, True, id="done: waits for the next"),
        pytest.param({"began": "2026-11-22T05:00:00+00:00", "done": True}, True, False, id="an hour is over"),
        pytest.param({"began": "2026-11-22T04:00:00+00:00", "done": False}, True, False, id="over while it went on"),
        pytest.param({"began": "2026-11-23T04:00:00+00:00", "done": True}, True, False, id="the clock was set back"),
    ],
)
def test_a_scan_begins_every_interval_and_goes_on_until_nothing_of_it_is_left(
    cursor: dict[str, object] | None, fresh: bool, waits: bool
) -> None:
    found = decide_scan(json.dumps(cursor) if cursor else None, NOW, HOUR)
    assert (found.fresh, found.wait is not None) == (fresh, waits)
    assert found.began == (NOW if fresh else datetime(2026, 11, 22, 5, 30, tzinfo=UTC))
    again = json.loads(found.cursor(done=True))
    assert list(again) == sorted(again) == ["began", "done"]
    assert waits is False or "2026-11-22T06:30" in str(found.wait)


@pytest.mark.slow
def test_the_oldest_due_record_is_requested_with_its_due_time_as_the_round_and_the_rest_follows(graph: Graph) -> None:
    first, second, third = register(graph, *LOCAL)
    cursor, order = None, []
    for _ in range(6):
        result = tick(graph, "scanner_sensor", cursor)
        cursor = result.cursor
        requests = result.run_requests or []
        assert len(requests) <= 1, "one at once"
        for request in requests:
            assert request.tags["mlcc/round"].startswith("scan@")
            assert request.tags["mlcc/tier"] == "local"
            assert request.run_key == f"{request.tags['mlcc/round']}/{request.partition_key}/1"
            order.append(request.partition_key)
            assert perform(graph, request).success
    assert order == [first, second, third]
    assert json.loads(str(cursor))["done"], "nothing is left of this scan"
    assert {record.test_status for record in graph.platform.ci.records()} == {"pass"}
    assert {attempt.run_type for attempt in graph.platform.ci.attempts()} == {"ci"}


def test_what_was_requested_and_has_not_claimed_yet_takes_its_place_and_is_not_requested_again(graph: Graph) -> None:
    register(graph, *LOCAL)
    allow(graph, scan_max_concurrency=2)
    first = tick(graph, "scanner_sensor")
    runs = [queued(graph, request) for request in first.run_requests]
    assert len(runs) == 2
    assert all(runs)
    again = tick(graph, "scanner_sensor", first.cursor)
    assert not again.run_requests
    assert "2 requested" in again.skip_message
    assert "1 no room" in again.skip_message
    assert not json.loads(again.cursor)["done"]


def test_queued_runs_count_as_asked_for() -> None:
    assert dg.DagsterRunStatus.QUEUED in UNFINISHED
    ended = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}
    assert set(UNFINISHED) == set(dg.DagsterRunStatus) - ended


def test_a_run_that_ended_before_its_claim_is_asked_for_again_by_the_next_scan_under_another_key(graph: Graph) -> None:
    (key,) = register(graph, LOCAL[0])
    first = tick(graph, "scanner_sensor")
    run = queued(graph, first.run_requests[0])
    assert run is not None
    graph.instance.report_run_failed(run)
    same_scan = tick(graph, "scanner_sensor", first.cursor)
    assert not same_scan.run_requests, "once in a scan: whatever made it fail would do so again at once"
    later = json.dumps({"began": (datetime.now(UTC) - timedelta(hours=2)).isoformat(), "done": True})
    (request,) = tick(graph, "scanner_sensor", later).run_requests
    assert request.tags["mlcc/round"] == first.run_requests[0].tags["mlcc/round"]
    assert request.run_key == f"{request.tags['mlcc/round']}/{key}/2"
    assert perform(graph, request).success


def test_what_is_fresh_runs_or_cannot_run_here_is_left_out_and_the_log_says_why(graph: Graph) -> None:
    fresh, held, due = register(graph, *LOCAL)
    register(graph, "rt-qwen3-06b")
    assert graph.run(fresh).success
    begin(graph.platform, RunRequest(held, "another round"), processes.this_process("another"))
    allow(graph, scan_max_concurrency=9)
    result = tick(graph, "scanner_sensor")
    assert [request.partition_key for request in result.run_requests] == [due]
    found = look(graph.platform, now=datetime.now(UTC), max_concurrency=9)
    assert found.sentence == "1 to start; left out: 1 fresh, 1 running, 1 not runnable"


@pytest.mark.slow
def test_every_due_record_is_requested_once_it_is_a_day_old_whatever_it_said(graph: Graph) -> None:
    passing, failing = register(graph, *LOCAL[:2])
    assert graph.run(passing).success
    graph.executor.scripts[Stage.BUILD] = lambda request: (_ for _ in ()).throw(RuntimeError("no compiler"))
    assert not graph.run(failing).success
    allow(graph, scan_max_concurrency=9)
    assert not tick(graph, "scanner_sensor").run_requests
    age(graph, passing, hours=25)
    age(graph, failing, hours=26)
    requests = tick(graph, "scanner_sensor").run_requests
    assert [request.partition_key for request in requests] == [failing, passing]


@pytest.fixture
def dead_owner() -> Owner:
    """The owner that a process which has ended was."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    found = processes.identify(process.pid)
    assert found is not None
    owner = replace(processes.this_process("dead"), pid=found.pid, start_ticks=found.start_ticks)
    process.communicate(b"\n")
    return owner


def test_what_a_dead_owner_left_is_cleaned_and_requested_at_once(graph: Graph, dead_owner: Owner) -> None:
    (key,) = register(graph, LOCAL[0])
    outcome = begin(graph.platform, RunRequest(key, "its round"), dead_owner)
    for stage in (Stage.GENERATE, Stage.VALIDATE, Stage.BUILD, Stage.PUSH, Stage.DEPLOY):
        outcome = perform_stage(graph.platform, stage, outcome)  # type: ignore[arg-type]
    (request,) = tick(graph, "scanner_sensor").run_requests
    assert request.partition_key == key
    graph.assert_nothing_alive()
    assert perform(graph, request).success
    assert [attempt.state for attempt in graph.platform.ci.attempts(key)] == ["finished", "interrupted"]


def test_two_scanners_that_ask_for_the_same_due_record_meet_in_its_claim(graph: Graph) -> None:
    (key,) = register(graph, LOCAL[0])
    first, second = tick(graph, "scanner_sensor"), tick(graph, "scanner_sensor")
    for result in (first, second):
        assert perform(graph, result.run_requests[0]).success
    assert [attempt.state for attempt in graph.platform.ci.attempts(key)] == ["finished"]


def test_a_partition_that_is_not_there_yet_is_asked_for_with_the_run(graph: Graph) -> None:
    (key,) = register(graph, LOCAL[0])
    (added,) = tick(graph, "scanner_sensor").dynamic_partitions_requests
    assert list(added.partition_keys) == [key]


def test_no_more_than_ten_are_requested_in_a_tick(graph: Graph) -> None:
    configuration, _, plan = find_configuration(graph.platform, graph.ids[LOCAL[0]])
    for number in range(12):
        varied = replace(configuration, serving_params={"number": str(number)})
        graph.platform.ci.register(varied, benchmark=plan, tier="local")
    allow(graph, scan_max_concurrency=40)
    result = tick(graph, "scanner_sensor")
    assert len(result.run_requests) == 10
    for request in result.run_requests:
        queued(graph, request)
    assert len(tick(graph, "scanner_sensor", result.cursor).run_requests) == 2


def test_the_scanner_is_off_until_it_is_switched_on(graph: Graph) -> None:
    sensor = graph.defs.resolve_sensor_def("scanner_sensor")
    assert sensor.default_status is dg.DefaultSensorStatus.STOPPED
    assert sensor.minimum_interval_seconds == 30
