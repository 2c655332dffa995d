"""Process identity: which process is meant, whether it lives, and ending exactly that one.

Belongs here: pid plus kernel start time plus boot id, the lease tag in a process's environment, signals. Not here: what
a process is for (executors, supervisor) or who decides that it must end (ledger, reaper).

On Linux all of it is exact: /proc gives start times and environments, a pidfd keeps a signal from reaching a process
that took over the pid. macOS has neither: start times and environments come from psutil (environments only of the own
user's unprotected processes), and between the check and the signal a pid could in theory be reused.
"""

import contextlib
import functools
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from mlcc_dagster.core.outcome import Owner

TAG_VARIABLE = "MLCC_LEASE"
LEASE_HOME_VARIABLE = "MLCC_LEASE_HOME"
"""The environment variable by which a process says which run it belongs to; children inherit it."""

_PROC = Path("/proc")
_LINUX = sys.platform == "linux"
_DEAD_STATES = frozenset("ZXx")
_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class ProcessIdentity:
    """One process for ever: `start_ticks` is the kernel's start time of the pid (clock ticks since boot), `boot_id` the
    boot it belongs to. A pid alone may be another process by now."""

    pid: int
    start_ticks: int
    boot_id: str

    def to_json(self) -> dict[str, Any]:
        """Return the identity as JSON values, as ledger details hold it."""
        return {"pid": self.pid, "start_ticks": self.start_ticks, "boot_id": self.boot_id}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "ProcessIdentity | None":
        """Read what `to_json` wrote; none where any of the three is missing."""
        try:
            return cls(int(document["pid"]), int(document["start_ticks"]), str(document["boot_id"]))
        except (KeyError, TypeError, ValueError):
            return None


class Ending(StrEnum):
    """How `end` found or left a process. `SURVIVED`: not dead after SIGKILL within the grace (uninterruptible in the
    kernel) or not ours to signal."""

    GONE = "already gone"
    TERMINATED = "ended by SIGTERM"
    KILLED = "ended by SIGKILL"
    SURVIVED = "could not be ended"


@functools.cache
def boot_id() -> str:
    """Return the id of this boot of the machine; the boot time in seconds where the kernel has no id."""
    if _LINUX:
        return (_PROC / "sys/kernel/random/boot_id").read_text("ascii").strip()
    import psutil

    return str(int(psutil.boot_time()))


def start_ticks(pid: int) -> int | None:
    """Return the kernel's start time of a living pid, none where it is dead, a zombie or never was."""
    if not _LINUX:
        return _psutil_ticks(pid)
    try:
        text = (_PROC / str(pid) / "stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # the name in parentheses may hold spaces and parentheses: fields are counted from the last one
    fields = text[text.rindex(b")") + 2 :].split()
    return None if fields[0].decode("ascii") in _DEAD_STATES else int(fields[19])


def began_at(pid: int) -> float | None:
    """Return when a living pid began, in Unix seconds; none where it is dead, a zombie or never was."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None


def identify(pid: int) -> ProcessIdentity | None:
    """Return the identity of a living pid, or none."""
    ticks = start_ticks(pid)
    return None if ticks is None else ProcessIdentity(pid, ticks, boot_id())


def this_process(dagster_run_id: str) -> Owner:
    """Return the running process as the owner of a lifecycle."""
    ticks = start_ticks(os.getpid())
    assert ticks is not None, "the running process has a start time"
    return Owner(socket.gethostname(), os.getpid(), ticks, boot_id(), dagster_run_id)


def is_alive(pid: int, start_ticks: int, boot_id: str) -> bool:
    """Whether exactly that process still runs. A zombie is dead; another process under the same pid is not it."""
    return lives(ProcessIdentity(pid, start_ticks, boot_id))


def lives(process: ProcessIdentity) -> bool:
    """Whether exactly that process still runs (see `is_alive`)."""
    return process.boot_id == boot_id() and start_ticks(process.pid) == process.start_ticks


def owner_alive(owner: Owner) -> bool | None:
    """Whether the owner of a lifecycle still runs; none when it is on another host, which cannot be told from here."""
    if owner.host != socket.gethostname():
        return None
    return is_alive(owner.pid, owner.start_ticks, owner.boot_id)


def tagged(tag: str, *, home: Path | None = None) -> tuple[ProcessIdentity, ...]:
    """Return the living processes of this user that carry `MLCC_LEASE=<tag>`, by pid; never the caller itself.

    With `home` only those that a platform of that home started: run ids repeat in every home that runs the same
    configuration, and one home must never end another's servers.
    """
    mine = (process for found, process in tagged_all() if found == tag)
    return tuple(process for process in mine if home is None or lease_home(process) == home)


def lease_home(process: ProcessIdentity) -> Path | None:
    """Return the home whose run a tagged process belongs to, none where it does not say."""
    text = _start_environment(process.pid).get(LEASE_HOME_VARIABLE)
    return Path(text) if text else None


def tagged_all() -> tuple[tuple[str, ProcessIdentity], ...]:
    """Return every living process of this user that carries a lease tag, with the tag, by pid; never the caller.

    The tag is read from the environment that the process was started with: it holds from the first instruction of the
    program and for all children. Processes that a user may not look into are passed over.
    """
    own = os.getpid()
    found = []
    for pid in _pids_of_user():
        # identified before and checked after its environment is read: else the pid could be another process's by then
        identity = identify(pid) if pid != own else None
        tag = _start_environment(pid).get(TAG_VARIABLE) if identity is not None else None
        if identity is not None and tag and lives(identity):
            found.append((tag, identity))
    return tuple(sorted(found, key=lambda pair: pair[1].pid))


def end(process: ProcessIdentity, grace_seconds: float) -> Ending:
    """End exactly that process: SIGTERM, then after `grace_seconds` SIGKILL and the same wait again.

    The identity is checked before each signal, and the signal goes through a pidfd where the kernel has them, so that a
    process which took over the pid is never hit. Raises `ValueError` for the calling process itself.
    """
    if process.pid == os.getpid():
        raise ValueError("a process does not end itself; call end from another one")
    with _handle(process) as handle:
        for number, ending in ((signal.SIGTERM, Ending.TERMINATED), (signal.SIGKILL, Ending.KILLED)):
            try:
                if not _send(process, handle, number):
                    return Ending.GONE if number is signal.SIGTERM else Ending.TERMINATED
            except PermissionError:
                return Ending.SURVIVED
            if _wait_dead(process, handle, grace_seconds):
                return ending
    return Ending.SURVIVED


def send(process: ProcessIdentity, number: int) -> bool:
    """Send a signal to exactly that process; false when it is dead. Raises `PermissionError` where it is not ours."""
    with _handle(process) as handle:
        return _send(process, handle, number)


def wait_dead(process: ProcessIdentity, seconds: float) -> bool:
    """Wait until the process is dead, at most `seconds`; whether it is."""
    with _handle(process) as handle:
        return _wait_dead(process, handle, seconds)


@contextlib.contextmanager
def _handle(process: ProcessIdentity) -> Iterator[int | None]:
    """Give a pidfd of the process, or none where there is none. Opened first and checked by identity afterwards: once
    the check holds, the descriptor can only mean the right process."""
    try:
        descriptor = os.pidfd_open(process.pid) if hasattr(os, "pidfd_open") else None
    except OSError:
        descriptor = None
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _send(process: ProcessIdentity, handle: int | None, number: int) -> bool:
    if not lives(process):
        return False
    try:
        if handle is None:
            os.kill(process.pid, number)
        else:
            signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    return True


def _wait_dead(process: ProcessIdentity, handle: int | None, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while lives(process):
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        if handle is not None:
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            poll.poll(min(left, 1.0) * 1000)
        else:
            time.sleep(min(left, _POLL_SECONDS))
    return True


def _pids_of_user() -> Iterator[int]:
    user = os.geteuid()
    if not _LINUX:
        import psutil

        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.uids().effective == user:
                    yield process.pid
        return
    for entry in os.scandir(_PROC):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if entry.stat().st_uid == user:
                    yield int(entry.name)


def _start_environment(pid: int) -> Mapping[str, str]:
    """Return the environment a process was started with; empty where it ended or the kernel protects it."""
    if not _LINUX:
        import psutil

        try:
            return psutil.Process(pid).environ()
        except (psutil.Error, OSError):
            return {}
    try:
        block = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return {}
    pairs = (item.partition(b"=") for item in block.split(b"\0") if item)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def _psutil_ticks(pid: int) -> int | None:
    began = began_at(pid)
    return None if began is None else int(began * 1000)
