"""Killed with SIGKILL at any moment, a run leaves nothing that a clean from another process does not find."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from local_runs import Run, StartRun

from mlcc_dagster.core.stages import Stage
from resources import processes
from resources.home import Home
from resources.ledger import Ledger
from resources.local import deployment

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent

DRIVER = """
import os, signal, subprocess, sys
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
from local_runs import Run, SmallWorkload, configuration
from mlcc_dagster.core.stages import Stage
from resources.home import Home

run = Run(Home(Path(sys.argv[3])), sys.argv[4], configuration(), SmallWorkload(requests=1_000_000))
die_stage, owner, function, count, side = sys.argv[5].split(":")


def dying(real):
    calls = 0

    def called(*arguments, **named):
        nonlocal calls
        calls += 1
        if calls == int(count) and side == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*arguments, **named)
        if calls == int(count) and side == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return called


for stage in sys.argv[6:]:
    if stage == die_stage:
        place = {"ledger": run.ledger, "subprocess": subprocess}[owner]
        setattr(place, function, dying(getattr(place, function)))
    run.perform(Stage(stage))
"""
CLEANER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from resources.home import Home
from resources.ledger import Ledger
from resources.local.executor import LocalExecutor

home = Home(Path(sys.argv[2]))
LocalExecutor(home).clean(sys.argv[3], Ledger(home.database), sys.stdout)
"""
STAGES = ("generate", "build", "push", "deploy", "benchmark")


NEVER = "never:ledger:intend:0:before"


def drive(run: Run, die: str = NEVER) -> subprocess.Popen[bytes]:
    """Perform the stages in another process; `die` is where it kills itself: stage, function, call, side."""
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(ROOT), str(HERE), str(run.home.root), run.run_id, die, *STAGES]
    )


def kill_when(process: subprocess.Popen[bytes], condition: Callable[[], object], after: float = 0.0) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, "the driver ended before it could be killed"
        assert time.monotonic() < deadline, "the moment did not come"
        time.sleep(0.002)
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.wait()


def clean_elsewhere(run: Run) -> str:
    return subprocess.run(
        [sys.executable, "-c", CLEANER, str(ROOT), str(run.home.root), run.run_id],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def assert_clean(run: Run) -> None:
    assert processes.tagged(run.run_id) == ()
    assert not run.workspace.exists()
    assert run.ledger.alive(run.run_id) == []
    assert not (run.home.registry / ".incoming" / run.run_id).exists()


def has(run: Run, kind: str, state: str) -> bool:
    return any((entry.kind, entry.state) == (kind, state) for entry in run.ledger.alive(run.run_id))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("die", "left"),
    [
        pytest.param("build:ledger:intend:1:after", ["process"], id="training is intended"),
        pytest.param("build:subprocess:Popen:1:after", ["process"], id="training runs, nobody knows its pid"),
        pytest.param("build:ledger:confirm:1:after", ["process"], id="training runs and is known"),
        pytest.param("build:ledger:release:1:before", ["process"], id="training is over, nobody has said so"),
        pytest.param("push:ledger:intend:1:after", ["image"], id="the image is intended"),
        pytest.param("push:ledger:confirm:1:before", ["image"], id="the image is published, nobody has said so"),
        pytest.param("deploy:ledger:intend:1:before", ["image"], id="deploy has fetched and intends nothing yet"),
        pytest.param("deploy:ledger:intend:1:after", ["image", "process"], id="the supervisor is intended"),
        pytest.param("deploy:subprocess:Popen:1:before", ["image", "process", "port"], id="about to start it"),
        pytest.param(
            "deploy:subprocess:Popen:1:after", ["image", "process", "port"], id="it runs, nobody knows its pid"
        ),
        pytest.param("deploy:ledger:confirm:1:before", ["image", "process", "port"], id="about to confirm it"),
        pytest.param("deploy:ledger:confirm:1:after", ["image", "process", "port"], id="it is known"),
        pytest.param("deploy:ledger:confirm:2:before", ["image", "process", "port"], id="the port is bound, not known"),
        pytest.param("deploy:ledger:confirm:2:after", ["image", "process", "port"], id="the port is known"),
    ],
)
def test_killed_at_a_boundary_one_clean_from_another_process_leaves_nothing(
    start_run: StartRun, die: str, left: list[str]
) -> None:
    run = start_run(fresh_cache=die.startswith("build"))
    assert drive(run, die).wait(60) == -signal.SIGKILL
    assert [entry.kind for entry in run.ledger.alive(run.run_id)] == left
    assert_one_clean_is_enough(run)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "after", "training"),
    [
        pytest.param(lambda run: processes.tagged(run.run_id), 0.5, True, id="in the middle of training"),
        pytest.param(lambda run: list(run.workspace.glob("deployment-*")), 0.0, False, id="deploy fetches the image"),
        pytest.param(lambda run: has(run, "port", "intended"), 0.01, False, id="the supervisor is being started"),
        pytest.param(lambda run: has(run, "port", "alive"), 0.7, False, id="the server loads its libraries"),
        pytest.param(lambda run: list(run.home.raw.glob("*/*/*.jsonl")), 0.1, False, id="in the middle of a benchmark"),
    ],
)
def test_killed_in_between_one_clean_from_another_process_leaves_nothing(
    start_run: StartRun, moment: Callable[[Run], object], after: float, training: bool
) -> None:
    run = start_run(fresh_cache=training)
    kill_when(drive(run), lambda: moment(run), after)
    assert_one_clean_is_enough(run)


def assert_one_clean_is_enough(run: Run) -> None:
    ports = [entry.details["port"] for entry in run.ledger.alive(run.run_id) if "port" in entry.details]
    clean_elsewhere(run)
    assert_clean(run)
    assert not [port for port in ports if listens(port)]
    # a process that was between fork and exec when everything was cleaned would show itself only now
    time.sleep(0.2)
    clean_elsewhere(run)
    assert_clean(run)


@pytest.mark.slow
def test_after_the_supervisor_is_killed_too_nothing_is_left(start_run: StartRun) -> None:
    run = start_run(instance_type="local.2cpu", deployment_config="http-flask")
    run.perform(Stage.GENERATE, Stage.BUILD, Stage.PUSH, Stage.DEPLOY)
    deadline = time.monotonic() + 15
    while len(processes.tagged(run.run_id)) < 4:
        assert time.monotonic() < deadline, "supervisor, gunicorn and two workers"
        time.sleep(0.02)
    os.kill(run.outputs["supervisor"]["pid"], signal.SIGKILL)
    clean_elsewhere(run)
    assert_clean(run)
    assert not listens(run.outputs["port"])


@pytest.mark.slow
def test_a_deployment_outlives_the_process_that_made_it(start_run: StartRun) -> None:
    run = start_run()
    process = drive(run)
    kill_when(process, lambda: list(run.home.raw.glob("*/*/*.jsonl")))
    (port,) = (entry.details["port"] for entry in run.ledger.alive(run.run_id) if entry.kind == "port")
    assert httpx.get(f"http://127.0.0.1:{port}/ping", trust_env=False).status_code == 200
    clean_elsewhere(run)
    assert_clean(run)


def test_clean_of_a_run_that_made_nothing_is_quiet(start_run: StartRun) -> None:
    run = start_run()
    run.clean()
    run.clean()
    assert_clean(run)


def test_clean_finds_by_its_tag_what_the_ledger_knows_only_as_an_intent(start_run: StartRun) -> None:
    run = start_run()
    run.ledger.intend(run_id=run.run_id, kind="process", ref="supervisor", deadline_seconds=60)
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"],
        env=os.environ | {"MLCC_LEASE": run.run_id, "MLCC_LEASE_HOME": str(run.home.root)},
    )
    try:
        run.clean()
        assert process.wait(5) == -signal.SIGTERM
    finally:
        process.kill()
        process.wait()
    assert_clean(run)


def test_clean_never_ends_a_process_of_another_run_that_took_over_a_pid(start_run: StartRun) -> None:
    run = start_run()
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        found = processes.identify(process.pid)
        assert found is not None
        entry = run.ledger.intend(run_id=run.run_id, kind="process", ref="supervisor", deadline_seconds=60)
        run.ledger.confirm(entry, found.to_json() | {"start_ticks": found.start_ticks - 1})
        run.clean()
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
    assert_clean(run)


def test_what_cannot_be_ended_is_named_and_stays_in_the_ledger(
    start_run: StartRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start_run()
    run.ledger.intend(run_id=run.run_id, kind="process", ref="supervisor", deadline_seconds=60)
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"],
        env=os.environ | {"MLCC_LEASE": run.run_id, "MLCC_LEASE_HOME": str(run.home.root)},
    )
    try:
        monkeypatch.setattr(processes, "end", lambda found, grace: processes.Ending.SURVIVED)
        with pytest.raises(deployment.StageFailed, match=f"process {process.pid}.*mlcc reap"):
            run.clean()
        assert [entry.kind for entry in run.ledger.alive(run.run_id)] == ["process"]
    finally:
        process.kill()
        process.wait()
    monkeypatch.undo()
    run.clean()
    assert_clean(run)


def test_a_home_opened_by_nobody_can_be_cleaned(tmp_path: Path) -> None:
    home = Home(tmp_path).ensure()
    deployment.clean("nothing-g1", home, Ledger(home.database), sys.stdout)


def listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True
    except OSError:
        return False
