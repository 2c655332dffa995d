"""The supervisor ends everything it started, whatever that tries, and tells what happened."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from resources import processes
from resources.local.supervisor import Specification, State

ROOT = Path(__file__).parents[3]

ANSWERS = """
import socket, sys, time
listener = socket.socket(fileno=int(sys.argv[1]))
print("serving", flush=True)
while True:
    connection, _ = listener.accept()
    connection.sendall(b"hello")
    connection.close()
"""
DETACHES_TWICE = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open(sys.argv[2], "w").write(str(os.getpid()))
        time.sleep(120)
    os._exit(0)
time.sleep(120)
"""
IGNORES_SIGTERM = """
import os, signal, time, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.fork()
open(sys.argv[2] + str(os.getpid()), "w").close()
time.sleep(120)
"""
LEAVES_A_CHILD = """
import os, sys, time
if os.fork() == 0:
    time.sleep(120)
print("last words", flush=True)
os._exit(7)
"""


@dataclass
class Supervised:
    process: subprocess.Popen[bytes]
    specification: Path
    folder: Path
    tag: str

    def state(self) -> State | None:
        return State.read(self.folder / "state.json")

    def wait_for(self, phase: str, seconds: float = 15) -> State:
        return wait_until(lambda: (state := self.state()) is not None and state.phase == phase and state, seconds)


def wait_until(condition: Callable[[], Any], seconds: float = 15) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)
    return value


Run = Callable[..., Supervised]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    started: list[Supervised] = []

    def begin(program: str, **changes: object) -> Supervised:
        tag = f"test-{uuid.uuid4()}"
        specification = Specification(
            command=(sys.executable, "-c", program, "{fd}", str(tmp_path / "child-")),
            directory=str(tmp_path),
            environment={"PATH": os.environ["PATH"], "MLCC_LEASE": tag},
            port=0,
            state=str(tmp_path / "state.json"),
            log=str(tmp_path / "server.log"),
            deadline=time.time() + 60,
            grace_seconds=1.0,
        )
        path = tmp_path / "specification.json"
        replace(specification, **changes).write(path)
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "resources.local.supervisor", str(path)],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "MLCC_LEASE": tag},
            start_new_session=True,
        )
        started.append(Supervised(process, path, tmp_path, tag))
        return started[-1]

    yield begin
    for supervised in started:
        for left in processes.tagged(supervised.tag):
            processes.end(left, 0)
        supervised.process.wait()


def connects(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def test_a_server_answers_on_the_port_that_was_bound_for_it_and_is_gone_after_sigterm(run: Run) -> None:
    supervised = run(ANSWERS)
    state = supervised.wait_for("running")
    assert state.port is not None and state.server is not None
    with socket.create_connection(("127.0.0.1", state.port), 5) as connection:
        assert connection.recv(5) == b"hello"
    assert state.supervisor is not None and state.supervisor.pid == supervised.process.pid
    assert os.getsid(supervised.process.pid) == supervised.process.pid, "a session of its own"
    supervised.process.terminate()
    assert supervised.process.wait(15) == 0
    ended = supervised.state()
    assert ended is not None
    assert (ended.phase, ended.exit_signal, ended.reason) == ("ended", signal.SIGTERM, "it was asked to end")
    assert not connects(state.port)
    assert processes.tagged(supervised.tag) == ()


def test_a_process_that_detached_itself_twice_does_not_escape(run: Run) -> None:
    supervised = run(DETACHES_TWICE)
    marker = supervised.folder / "child-"
    pid = int(wait_until(lambda: marker.exists() and marker.read_text()))
    detached = processes.identify(pid)
    assert detached is not None
    supervised.process.terminate()
    assert supervised.process.wait(15) == 0
    assert not processes.lives(detached)


def test_what_ignores_sigterm_is_killed_after_the_grace_with_its_children(run: Run) -> None:
    supervised = run(IGNORES_SIGTERM)
    wait_until(lambda: len(list(supervised.folder.glob("child-*"))) == 2)
    supervised.process.terminate()
    assert supervised.process.wait(15) == 0
    assert processes.tagged(supervised.tag) == ()
    ended = supervised.state()
    assert ended is not None and ended.exit_signal == signal.SIGKILL


def test_when_the_server_exits_its_children_end_too_and_its_words_stay(run: Run) -> None:
    supervised = run(LEAVES_A_CHILD)
    ended = supervised.wait_for("ended")
    assert (ended.exit_code, ended.exit_signal, ended.reason) == (7, None, "the server exited")
    assert supervised.process.wait(15) == 0
    assert processes.tagged(supervised.tag) == ()
    assert (supervised.folder / "server.log").read_text() == "last words\n"


def test_the_hard_deadline_ends_a_deployment_that_nobody_ends(run: Run) -> None:
    supervised = run(ANSWERS, deadline=time.time() + 1.0)
    ended = supervised.wait_for("ended")
    assert ended.reason == "the deployment reached its deadline"
    assert supervised.process.wait(15) == 0
    assert processes.tagged(supervised.tag) == ()


def test_a_supervisor_whose_specification_is_taken_away_ends(run: Run) -> None:
    supervised = run(ANSWERS)
    supervised.wait_for("running")
    supervised.specification.unlink()
    assert supervised.process.wait(15) == 0
    ended = supervised.state()
    assert ended is not None and ended.reason == "the run was cleaned"
    assert processes.tagged(supervised.tag) == ()


def test_a_supervisor_that_starts_after_the_clean_runs_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "resources.local.supervisor", str(tmp_path / "specification.json")],
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_a_server_whose_supervisor_is_killed_dies_with_it(run: Run) -> None:
    supervised = run(ANSWERS)
    state = supervised.wait_for("running")
    assert state.server is not None
    supervised.process.kill()
    assert processes.wait_dead(state.server, 15)


def test_a_taken_port_is_said_and_nothing_is_started(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        supervised = run(ANSWERS, port=port)
        ended = supervised.wait_for("ended")
    assert ended.reason == f"port {port} is taken by another process; choose another or free it"
    assert ended.server is None
    assert supervised.process.wait(15) == 1


def test_an_asked_port_is_used(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    supervised = run(ANSWERS, port=port)
    assert supervised.wait_for("running").port == port
    assert connects(port)


def test_a_program_that_is_not_there_is_said(run: Run) -> None:
    supervised = run(ANSWERS, command=("/nowhere/at/all",))
    ended = supervised.wait_for("ended")
    assert ended.reason is not None and "could not be started" in ended.reason and "/nowhere/at/all" in ended.reason


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel enforces address space limits on Linux alone")
def test_the_memory_limit_holds_in_the_server_and_its_children_and_not_in_the_supervisor(run: Run) -> None:
    program = (
        "import os, resource, sys; os.fork();"
        "open(sys.argv[2] + str(os.getpid()), 'w').write(str(resource.getrlimit(resource.RLIMIT_AS)[0]));"
        "import time; time.sleep(60)"
    )
    supervised = run(program, memory_limit_mb=512)
    files = wait_until(
        lambda: len(found := [p for p in supervised.folder.glob("child-*") if p.read_text()]) == 2 and found
    )
    assert {file.read_text() for file in files} == {str(512 << 20)}
    limits = Path(f"/proc/{supervised.process.pid}/limits").read_text()
    assert "536870912" not in limits
