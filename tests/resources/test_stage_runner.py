"""Running one stage: whatever an executor does, there is a result, a full log and nothing left behind."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TextIO

import pytest

from catalog.model import Instance
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.evidence import Evidence
from mlcc_dagster.core.exceptions import StageFailed
from mlcc_dagster.core.outcome import BenchmarkPlan, Claim, Outcome, Owner, StageResult, StageStatus
from mlcc_dagster.core.prices import Billing
from mlcc_dagster.core.stages import Stage
from resources.executor import StageRequest
from resources.home import Home
from resources.ledger import Ledger
from resources.sqlite_ci_table import SqliteCiTable
from resources.stage_runner import ERROR_CHARACTERS, run_stage

CONFIGURATION = Configuration("http-fastapi", "iris", "sklearn", "local.1cpu", "local")
PLAN = BenchmarkPlan(False, "chat", (1,))
NO_OUTPUTS: Mapping[str, Any] = MappingProxyType({})


class Doing:
    """An executor whose stages do what a test says; its `clean` releases what is in the ledger."""

    name = "doing"
    billing = Billing.MACHINE

    def __init__(
        self,
        stage: Callable[[StageRequest], Mapping[str, Any]] = lambda request: NO_OUTPUTS,
        clean: Callable[[str, Ledger, TextIO], None] = lambda run_id, ledger, log: None,
    ) -> None:
        self._stage = stage
        self._clean = clean

    def digests(self, deployment_config: str) -> Mapping[str, str]:
        return {}

    def reaches(self, instance: Instance) -> bool:
        return instance.local

    def can_run(self, configuration: Configuration) -> str | None:
        return None

    def perform(self, request: StageRequest) -> Mapping[str, Any]:
        return self._stage(request)

    def clean(self, run_id: str, ledger: Ledger, log: TextIO) -> None:
        self._clean(run_id, ledger, log)

    def evidence(self, configuration: Configuration, outputs: Mapping[str, Any]) -> Evidence:
        return Evidence(engine="none", execution="process")


class Platform:
    """A home with a claimed run, and `run` for one stage of it."""

    def __init__(self, root: Path, **settings: float) -> None:
        root.mkdir(exist_ok=True)
        (root / "settings.yaml").write_text("".join(f"{name}: {value}\n" for name, value in settings.items()))
        self.home = Home(root).ensure()
        self.ci = SqliteCiTable(self.home.database)
        self.ledger = Ledger(self.home.database)
        claim = self.ci.claim(
            "0123abcd",
            configuration=CONFIGURATION,
            round="1",
            owner=Owner("here", 1, 1, "boot", "run"),
            lease_seconds=90,
            run_type="ci",
            benchmark=PLAN,
        )
        assert isinstance(claim, Claim)
        self.run_id = claim.run_id
        self.outcome = Outcome(claim, CONFIGURATION, "ci", frozenset(Stage), PLAN)

    def run(
        self,
        stage: Stage,
        executor: Doing,
        *,
        limit: float = 60.0,
        on_line: Callable[[str], None] | None = None,
    ) -> StageResult:
        result = run_stage(
            stage,
            self.outcome,
            executor=executor,
            home=self.home,
            ci=self.ci,
            ledger=self.ledger,
            limit_seconds=limit,
            on_line=on_line,
        )
        self.outcome = self.outcome.with_result(result)
        return result

    def log(self, stage: Stage) -> str:
        return (self.home.logs / self.run_id / f"{stage.value}.log").read_text()


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return Platform(tmp_path / "home")


def test_a_stage_that_works_hands_its_outputs_on(platform: Platform) -> None:
    def build(request: StageRequest) -> Mapping[str, Any]:
        request.say("building")
        (request.workspace / "made").write_text("x")
        assert request.raw.is_dir()
        return {"digest": "sha256:1", "layers": (1, 2)}

    def push(request: StageRequest) -> Mapping[str, Any]:
        assert (request.workspace / "made").read_text() == "x", "one workspace for the whole run"
        assert request.outputs == {"digest": "sha256:1", "layers": [1, 2]}
        return {}

    result = platform.run(Stage.BUILD, Doing(build))
    assert (result.status, result.error, result.failure) == (StageStatus.PASS, None, None)
    assert result.log == f"logs/{platform.run_id}/build.log"
    assert (platform.home.root / (result.log or "")).read_text() == "building\n"
    assert platform.run(Stage.PUSH, Doing(push)).status is StageStatus.PASS
    assert [(r.kind, r.state) for r in platform.ledger.history(platform.run_id)] == [("workspace", "alive")]


def test_the_workspace_is_in_the_ledger_before_it_is_on_the_disk(platform: Platform, monkeypatch) -> None:
    existed: list[bool] = []
    intend = Ledger.intend

    def spy(self: Ledger, **what: Any) -> int:
        existed.append((platform.home.workspaces / platform.run_id).exists())
        return intend(self, **what)

    monkeypatch.setattr(Ledger, "intend", spy)
    platform.run(Stage.GENERATE, Doing())
    assert existed == [False]


def _says_why(request: StageRequest) -> Mapping[str, Any]:
    request.say("loading weights")
    raise StageFailed("the model needs 3 GB and the limit is 2 GB", category="oom")


def _leaves_it_to_the_log(request: StageRequest) -> Mapping[str, Any]:
    request.say("RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB")
    raise StageFailed("the server ended with code 1")


def _crashes(request: StageRequest) -> Mapping[str, Any]:
    raise ZeroDivisionError("division by zero")


def _returns_what_is_not_json(request: StageRequest) -> Mapping[str, Any]:
    return {"process": object()}


def _misspells_its_category(request: StageRequest) -> Mapping[str, Any]:
    raise StageFailed("broke", category="out-of-everything")


def _waits_past_its_limit(request: StageRequest) -> Mapping[str, Any]:
    while True:
        time.sleep(min(0.02, request.remaining()))


@pytest.mark.parametrize(
    ("stage", "category", "says"),
    [
        pytest.param(_says_why, "oom", "needs 3 GB", id="the executor knows the cause for a fact"),
        pytest.param(_leaves_it_to_the_log, "oom", "ended with code 1", id="the log says it"),
        pytest.param(_crashes, None, "ZeroDivisionError: division by zero", id="a crash is a failed stage"),
        pytest.param(_returns_what_is_not_json, None, "not JSON serializable", id="outputs must survive a restart"),
        pytest.param(_misspells_its_category, None, "broke", id="an unknown category is no fact"),
        pytest.param(_waits_past_its_limit, "timeout", "its own time limit", id="the limit is kept"),
    ],
)
def test_a_failing_stage_is_a_result_with_its_reason(
    stage: Callable[[StageRequest], Mapping[str, Any]], category: str | None, says: str, platform: Platform
) -> None:
    result = platform.run(Stage.BUILD, Doing(stage), limit=0.2 if stage is _waits_past_its_limit else 60)
    assert result.status is StageStatus.FAIL
    assert result.failure is not None
    assert category is None or result.failure.category == category
    assert says in (result.error or "")
    assert says in platform.log(Stage.BUILD)


def test_a_crash_leaves_its_whole_traceback_in_the_log_and_500_characters_in_the_result(platform: Platform) -> None:
    def crash(request: StageRequest) -> Mapping[str, Any]:
        request.say("x" * 2000)
        raise ValueError("the last words")

    result = platform.run(Stage.TEST, Doing(crash))
    assert len(result.error or "") == ERROR_CHARACTERS
    assert (result.error or "").endswith("ValueError: the last words")
    log = platform.log(Stage.TEST)
    assert log.startswith("x" * 2000)
    assert "in crash" in log


def test_an_earlier_try_in_the_same_log_does_not_decide_the_later_one(platform: Platform) -> None:
    platform.run(Stage.BUILD, Doing(_leaves_it_to_the_log))

    def other(request: StageRequest) -> Mapping[str, Any]:
        raise StageFailed("InsufficientInstanceCapacity: no ml.g5.xlarge")

    result = platform.run(Stage.BUILD, Doing(other))
    assert result.failure is not None
    assert result.failure.category == "capacity"
    assert "CUDA" not in (result.error or "")
    assert "CUDA" in platform.log(Stage.BUILD), "the log itself is appended to"


def test_a_cancellation_passes_through_and_the_log_is_complete(platform: Platform) -> None:
    opened: list[TextIO] = []

    def cancelled(request: StageRequest) -> Mapping[str, Any]:
        opened.append(request.log)
        request.log.write("half a line")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        platform.run(Stage.BUILD, Doing(cancelled))
    assert opened[0].closed
    assert platform.log(Stage.BUILD) == "half a line"
    assert not [t for t in threading.enumerate() if platform.run_id in t.name]


def test_every_line_reaches_the_listener_also_those_of_a_child_process(platform: Platform) -> None:
    def talk(request: StageRequest) -> Mapping[str, Any]:
        request.say("from the stage")
        subprocess.run([sys.executable, "-c", "print('from a child')"], stdout=request.log, check=True)
        request.log.write("without an end")
        return {}

    lines: list[str] = []
    platform.run(Stage.BUILD, Doing(talk), on_line=lines.append)
    assert lines == ["from the stage", "from a child", "without an end"]


def test_a_listener_that_breaks_does_not_break_the_stage(platform: Platform) -> None:
    def broken(line: str) -> None:
        raise BrokenPipeError

    def talk(request: StageRequest) -> Mapping[str, Any]:
        request.say("hello")
        return {}

    assert platform.run(Stage.BUILD, Doing(talk), on_line=broken).status is StageStatus.PASS


def test_a_log_that_cannot_be_written_is_a_failed_stage(platform: Platform) -> None:
    platform.home.logs.rmdir()
    platform.home.logs.write_text("in the way")
    result = platform.run(Stage.BUILD, Doing())
    assert (result.status, result.log) == (StageStatus.FAIL, None)
    assert result.failure is not None
    assert result.failure.category == "infrastructure"


def test_a_stage_whose_lease_was_lost_did_not_pass_and_is_told_to_stop(tmp_path: Path) -> None:
    platform = Platform(tmp_path / "home", beat_seconds=0.05)

    def lose(request: StageRequest) -> Mapping[str, Any]:
        platform.ci.interrupt(platform.run_id, "reaped")
        assert request.stop.wait(20)
        return {}

    result = platform.run(Stage.BENCHMARK, Doing(lose))
    assert result.status is StageStatus.FAIL
    assert "no longer holds" in (result.error or "")
    assert result.failure is not None
    assert result.failure.category == "infrastructure"


def test_deploy_waits_for_the_slot_says_for_whom_and_does_not_count_the_wait(platform: Platform) -> None:
    platform.ledger.acquire_slot("doing", "another-g1", capacity=1, lease_seconds=60)
    waited: list[str] = []

    def give_back(line: str) -> None:
        waited.append(line)
        platform.ledger.release_slots("another-g1")

    def deploy(request: StageRequest) -> Mapping[str, Any]:
        assert [s.run_id for s in platform.ledger.slots("doing")] == [platform.run_id]
        assert request.deadline - 20 >= began + 0.5, "the limit begins after the wait"
        return {}

    began = time.monotonic()
    result = platform.run(Stage.DEPLOY, Doing(deploy), limit=20, on_line=give_back)
    assert result.status is StageStatus.PASS
    assert waited == ["waiting for one of 1 deployment slots of doing, held by another-g1"]
    assert result.seconds < time.monotonic() - began - 0.5
    assert [s.run_id for s in platform.ledger.slots("doing")] == [platform.run_id], "held until clean"


def test_deploy_that_never_gets_a_slot_fails_naming_the_holder(tmp_path: Path) -> None:
    platform = Platform(tmp_path / "home", slot_wait_seconds=0.1)
    platform.ledger.acquire_slot("doing", "another-g1", capacity=1, lease_seconds=60)
    result = platform.run(Stage.DEPLOY, Doing(_crashes))
    assert "held by another-g1" in (result.error or "")
    assert result.failure is not None
    assert (result.failure.category, result.failure.retryable) == ("capacity", True)


def test_clean_gives_everything_back(platform: Platform) -> None:
    def deploy(request: StageRequest) -> Mapping[str, Any]:
        (request.workspace / "made").write_text("x")
        alive = request.ledger.intend(run_id=request.run_id, kind="process", ref="server", deadline_seconds=60)
        request.ledger.confirm(alive, {"pid": 1})
        request.ledger.intend(run_id=request.run_id, kind="port", ref="8080", deadline_seconds=60)
        raise StageFailed("half way")

    def end_processes(run_id: str, ledger: Ledger, log: TextIO) -> None:
        for resource in ledger.alive(run_id):
            if resource.kind == "process":
                ledger.release(resource.id, "ended")

    platform.run(Stage.DEPLOY, Doing(deploy))
    assert platform.run(Stage.CLEAN, Doing(clean=end_processes)).status is StageStatus.PASS
    assert platform.ledger.alive() == []
    assert platform.ledger.slots() == []
    assert not (platform.home.workspaces / platform.run_id).exists()
    hows = {r.kind: r.how for r in platform.ledger.history(platform.run_id)}
    assert hows == {"workspace": "removed", "process": "ended", "port": "never came to exist"}
    assert platform.run(Stage.CLEAN, Doing(clean=end_processes)).status is StageStatus.PASS, "again changes nothing"


def _names_what_it_could_not_end(run_id: str, ledger: Ledger, log: TextIO) -> None:
    raise StageFailed("process 4711 could not be ended")


def _forgets(run_id: str, ledger: Ledger, log: TextIO) -> None:
    return None


def _crashes_in_clean(run_id: str, ledger: Ledger, log: TextIO) -> None:
    raise RuntimeError("no such endpoint")


@pytest.mark.parametrize(
    ("clean", "says"),
    [
        pytest.param(_names_what_it_could_not_end, "process 4711 could not be ended", id="the executor says it"),
        pytest.param(_forgets, "process server is still in the ledger", id="nothing is released by assumption"),
        pytest.param(_crashes_in_clean, "no such endpoint", id="a crash of clean"),
    ],
)
def test_a_clean_that_fails_says_what_is_left_and_gives_back_the_rest(
    clean: Callable[[str, Ledger, TextIO], None], says: str, platform: Platform
) -> None:
    def deploy(request: StageRequest) -> Mapping[str, Any]:
        number = request.ledger.intend(run_id=request.run_id, kind="process", ref="server", deadline_seconds=60)
        request.ledger.confirm(number, {})
        return {}

    platform.run(Stage.DEPLOY, Doing(deploy))
    result = platform.run(Stage.CLEAN, Doing(clean=clean))
    assert result.status is StageStatus.FAIL
    assert says in (result.error or "")
    assert [r.kind for r in platform.ledger.alive()] == ["process"], "it stays in the ledger, for the reaper"
    assert platform.ledger.slots() == []
    assert not (platform.home.workspaces / platform.run_id).exists()


def test_what_a_run_holds_is_not_due_while_its_next_stage_may_still_run(platform: Platform) -> None:
    def deploy(request: StageRequest) -> Mapping[str, Any]:
        request.ledger.intend(run_id=request.run_id, kind="process", ref="server", deadline_seconds=1)
        return {}

    platform.run(Stage.DEPLOY, Doing(deploy))
    platform.run(Stage.BENCHMARK, Doing(), limit=5000)
    assert all(r.deadline > time.time() + 5000 for r in platform.ledger.alive())
