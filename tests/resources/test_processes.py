"""What a process is, whether it lives, and that only the right one is ever signalled."""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from resources import processes
from resources.processes import Ending, ProcessIdentity

SLEEP = "import time; time.sleep(60)"
IGNORES_SIGTERM = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
)

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def begin(program: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def identity(process: subprocess.Popen[str]) -> ProcessIdentity:
    found = processes.identify(process.pid)
    assert found is not None
    return found


def test_the_running_process_is_an_owner_that_lives() -> None:
    owner = processes.this_process("run-1")
    assert (owner.pid, owner.dagster_run_id) == (os.getpid(), "run-1")
    assert processes.owner_alive(owner) is True


def owner_cases() -> list[object]:
    owner = processes.this_process("run")
    return [
        pytest.param(replace(owner, start_ticks=owner.start_ticks + 1), False, id="another process took over the pid"),
        pytest.param(replace(owner, boot_id="another"), False, id="the machine was started again"),
        pytest.param(replace(owner, host="elsewhere.example"), None, id="another host cannot be looked into"),
    ]


@pytest.mark.parametrize(("owner", "alive"), owner_cases())
def test_an_owner_is_told_apart_from_whoever_has_its_pid(owner: processes.Owner, alive: bool | None) -> None:
    assert processes.owner_alive(owner) is alive


def test_a_zombie_is_dead(start: Start) -> None:
    process = start("input()")
    assert process.stdin is not None
    born = identity(process)
    process.stdin.close()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    os.kill(process.pid, 0)  # not collected yet: the pid is still there, as a zombie
    assert processes.start_ticks(process.pid) is None
    assert processes.identify(process.pid) is None
    assert not processes.is_alive(born.pid, born.start_ticks, born.boot_id)


def test_tagged_finds_children_and_children_of_children_and_nothing_else(start: Start) -> None:
    tag = f"test-{uuid.uuid4()}"
    child = (
        "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "print(p.pid, flush=True); time.sleep(60)"
    )
    parent = start(child, MLCC_LEASE=tag)
    other = start(SLEEP, MLCC_LEASE=f"{tag}-other")
    assert parent.stdout is not None
    grandchild = int(parent.stdout.readline())
    try:
        assert {process.pid for process in processes.tagged(tag)} == {parent.pid, grandchild}
        everything = {(found, process.pid) for found, process in processes.tagged_all()}
        assert {(tag, parent.pid), (tag, grandchild), (f"{tag}-other", other.pid)} <= everything
    finally:
        found = processes.identify(grandchild)
        if found is not None:
            processes.end(found, 2)


def test_tagged_never_names_the_caller() -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); from resources import processes;"
        "print(processes.tagged('own-tag-of-the-caller'), processes.start_ticks(1) is not None)"
    )
    root = str(Path(processes.__file__).resolve().parents[1])
    said = subprocess.run(
        [sys.executable, "-c", program, root],
        env=os.environ | {"MLCC_LEASE": "own-tag-of-the-caller"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == "() True"


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        pytest.param(SLEEP, Ending.TERMINATED, id="asked to end, it ends"),
        pytest.param(IGNORES_SIGTERM, Ending.KILLED, id="it ignores SIGTERM: killed after the grace"),
    ],
)
def test_end_ends_a_process_and_says_how(start: Start, program: str, expected: Ending) -> None:
    process = start(program)
    if program is IGNORES_SIGTERM:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
    meant = identity(process)
    assert processes.end(meant, 0.5) is expected
    assert not processes.lives(meant)
    assert processes.end(meant, 0.5) is Ending.GONE


def test_end_never_touches_a_process_that_took_over_the_pid(start: Start) -> None:
    process = start(SLEEP)
    earlier = replace(identity(process), start_ticks=identity(process).start_ticks - 1)
    assert processes.end(earlier, 0.1) is Ending.GONE
    assert not processes.send(earlier, 9)
    time.sleep(0.1)
    assert process.poll() is None


def test_without_pidfd_the_identity_is_still_checked(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    process = start(SLEEP)
    meant = identity(process)
    assert processes.end(replace(meant, start_ticks=meant.start_ticks - 1), 0.1) is Ending.GONE
    assert process.poll() is None
    assert processes.end(meant, 2) is Ending.TERMINATED


def test_a_process_does_not_end_itself() -> None:
    me = processes.identify(os.getpid())
    assert me is not None
    with pytest.raises(ValueError, match="does not end itself"):
        processes.end(me, 1)


@pytest.mark.parametrize(
    "document",
    [
        pytest.param({}, id="an intent without details"),
        pytest.param({"pid": 1, "start_ticks": 2}, id="the boot is missing"),
        pytest.param({"pid": None, "start_ticks": 2, "boot_id": "b"}, id="a value is null"),
    ],
)
def test_details_that_are_no_identity_are_none(document: dict[str, object]) -> None:
    assert ProcessIdentity.from_json(document) is None


def test_an_identity_survives_json() -> None:
    me = processes.identify(os.getpid())
    assert me is not None
    assert ProcessIdentity.from_json(me.to_json()) == me


def test_two_homes_with_the_same_run_id_tell_their_processes_apart(start: Start, tmp_path: Path) -> None:
    tag = f"same-{uuid.uuid4().hex}"
    mine = start(SLEEP, MLCC_LEASE=tag, MLCC_LEASE_HOME=str(tmp_path / "a"))
    start(SLEEP, MLCC_LEASE=tag, MLCC_LEASE_HOME=str(tmp_path / "b"))
    assert [process.pid for process in processes.tagged(tag, home=tmp_path / "a")] == [mine.pid]
    assert len(processes.tagged(tag)) == 2
