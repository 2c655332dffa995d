"""Failed runs are told once, to the log and to a real web hook, and a web hook that fails breaks nothing."""

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dagster as dg
import pytest
from scripted_runs import Graph, fails
from sensor_ticks import tick

from mlcc_dagster.core.stages import Stage
from resources import processes
from resources.lifecycle import RunRequest, abandon, begin
from sensors.notifying import NOTIFIED_TAG

SENSOR = "failure_notice_sensor"
SECRET = "T0K3N-of-the-team"
TIGHT = "local-fastapi-forest-tight-memory"


class Hook:
    """A web hook on this machine."""

    def __init__(self) -> None:
        self.answer = 200
        self.got: list[dict[str, Any]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                hook.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(hook.answer)
                self.end_headers()

            def log_message(self, *arguments: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/{SECRET}"


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    made = Hook()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def settings(graph: Graph, **values: str) -> None:
    lines = "".join(f"{name}: {value}\n" for name, value in values.items())
    (graph.platform.home.root / "settings.yaml").write_text(lines)
    graph.platform.home.__dict__.pop("settings", None)


@pytest.fixture
def watching(graph: Graph, hook: Hook) -> str:
    """The cursor of a sensor that watches from now on, with the web hook set."""
    settings(graph, notify_webhook=hook.url)
    return str(tick(graph, SENSOR).cursor)


def test_a_failed_run_is_told_with_stage_category_and_the_line_that_decided(
    graph: Graph, hook: Hook, watching: str
) -> None:
    settings(graph, notify_webhook=hook.url, ui_url="http://127.0.0.1:3000/")
    graph.executor.scripts[Stage.DEPLOY] = fails("loading\ntorch.OutOfMemoryError: CUDA out of memory\nbye")
    run = graph.run(round_id="r1", tier="local")
    tick(graph, SENSOR, watching)
    (notice,) = hook.got
    assert notice | {"failed_at": "", "text": "", "sentence": ""} == {
        "schema_version": "1",
        "event": "run_failed",
        "text": "",
        "config_id": graph.config_id,
        "name": "local-fastapi-logistic-1cpu",
        "configuration": "http-fastapi sklearn/logistic-regression-digits local.1cpu",
        "run_id": f"{graph.config_id}-g1",
        "stage": "deploy",
        "category": "oom",
        "line": "torch.OutOfMemoryError: CUDA out of memory",
        "sentence": "",
        "expected": False,
        "round": "r1",
        "tier": "local",
        "dagster_run_id": run.run_id,
        "url": f"http://127.0.0.1:3000/runs/{run.run_id}",
        "failed_at": "",
    }
    assert notice["sentence"] == "deploy failed (oom): torch.OutOfMemoryError: CUDA out of memory"


def test_it_is_told_once_however_often_the_sensor_looks(graph: Graph, hook: Hook, watching: str) -> None:
    graph.executor.scripts[Stage.TEST] = fails("zork")
    run = graph.run()
    after = tick(graph, SENSOR, watching).cursor
    tick(graph, SENSOR, after)
    tick(graph, SENSOR, watching)  # a second daemon, or a cursor that was set back
    assert len(hook.got) == 1
    noted = graph.instance.get_run_by_id(run.run_id)
    assert noted is not None
    assert NOTIFIED_TAG in noted.tags


def test_several_runs_that_failed_are_each_told(graph: Graph, hook: Hook, watching: str) -> None:
    graph.executor.scripts[Stage.BUILD] = fails("zork")
    for _ in range(3):
        graph.run()
    tick(graph, SENSOR, watching)
    assert [notice["run_id"] for notice in hook.got] == [f"{graph.config_id}-g{number}" for number in (1, 2, 3)]


def test_what_passed_and_what_is_no_run_of_a_configuration_is_not_told(graph: Graph, hook: Hook, watching: str) -> None:
    assert graph.run().success
    job = graph.defs.resolve_job_def("refresh_job")
    other = graph.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags={})
    graph.instance.report_run_failed(other)
    tick(graph, SENSOR, watching)
    assert hook.got == []


def test_a_failure_that_its_entry_exists_to_show_is_told_as_such(graph: Graph, hook: Hook, watching: str) -> None:
    graph.executor.scripts[Stage.DEPLOY] = fails("MemoryError: Cannot allocate memory")
    graph.run(graph.ids[TIGHT])
    tick(graph, SENSOR, watching)
    (notice,) = hook.got
    assert notice["expected"] is True
    assert ", as its entry expects" in notice["text"]


def test_a_failed_benchmark_and_a_failed_clean_are_told_although_the_gate_passed(
    graph: Graph, hook: Hook, watching: str
) -> None:
    graph.executor.scripts[Stage.BENCHMARK] = fails("CUDA out of memory")
    graph.run()
    graph.executor.scripts.clear()
    graph.executor.unclean = "the endpoint would not go"
    graph.run()
    tick(graph, SENSOR, watching)
    assert [notice["stage"] for notice in hook.got] == ["benchmark", "clean"]
    assert "the endpoint would not go" in hook.got[1]["sentence"]


def test_a_run_that_was_killed_is_told_as_interrupted_with_who_it_was(graph: Graph, hook: Hook, watching: str) -> None:
    job = graph.defs.resolve_job_def("lifecycle_job")
    run = graph.instance.create_run_for_job(
        job, status=dg.DagsterRunStatus.STARTED, tags={"dagster/partition": graph.config_id}
    )
    begun = begin(graph.platform, RunRequest(graph.config_id, "r1"), processes.this_process(run.run_id))
    abandon(graph.platform, begun.claim.run_id, "its process host:4711 is dead")  # type: ignore[union-attr]
    graph.instance.report_run_failed(run)
    tick(graph, SENSOR, watching)
    (notice,) = hook.got
    assert (notice["category"], notice["run_id"]) == ("interrupted", f"{graph.config_id}-g1")
    assert notice["sentence"] == "its process host:4711 is dead"


def test_a_run_that_failed_before_its_claim_is_told_with_what_it_said(graph: Graph, hook: Hook, watching: str) -> None:
    graph.run("0000000000000000")
    tick(graph, SENSOR, watching)
    (notice,) = hook.got
    assert (notice["config_id"], notice["run_id"], notice["configuration"]) == ("0000000000000000", None, "unknown")
    assert notice["sentence"].startswith("no configuration 0000000000000000 is registered or in the catalog")


@pytest.mark.parametrize("answer", [500, 404], ids=["busy", "nobody there"])
def test_a_web_hook_that_fails_is_a_line_in_the_log_and_the_run_stays_as_it_ended(
    graph: Graph, hook: Hook, watching: str, answer: int, capfd: pytest.CaptureFixture[str]
) -> None:
    hook.answer = answer
    graph.executor.scripts[Stage.TEST] = fails("zork")
    run = graph.run()
    before = graph.platform.ci.records()
    after = tick(graph, SENSOR, watching)
    assert str(after.cursor) != watching, "the sensor goes on"
    logged = capfd.readouterr().err
    assert f"could not be told to http://127.0.0.1:{hook.server.server_address[1]}/...: it answered {answer}" in logged
    assert "failed at test" in logged
    assert SECRET not in logged
    assert graph.platform.ci.records() == before
    ended = graph.instance.get_run_by_id(run.run_id)
    assert ended is not None
    assert ended.status is dg.DagsterRunStatus.FAILURE


def test_without_a_web_hook_the_log_alone_is_told(graph: Graph, capfd: pytest.CaptureFixture[str]) -> None:
    cursor = tick(graph, SENSOR).cursor
    graph.executor.scripts[Stage.TEST] = fails("CUDA out of memory")
    run = graph.run()
    tick(graph, SENSOR, cursor)
    logged = capfd.readouterr().err
    assert f"local-fastapi-logistic-1cpu failed at test (oom): CUDA out of memory (run {graph.config_id}-g1" in logged
    assert run.run_id in logged
    assert logging.getLevelName(logging.WARNING) in logged


def test_the_sensor_is_on_from_the_start(graph: Graph) -> None:
    sensor = graph.defs.resolve_sensor_def(SENSOR)
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    assert sensor.description
