"""Runs one server: binds its port, starts it, ends it with all that it started.

Belongs here: the life of one deployed process tree, on the standard library alone (and this house's process identity),
since it outlives the step that started it. Not here: what is served, waiting for it, the ledger (`deployment.py`).

`python -m resources.local.supervisor SPECIFICATION` tells what happens in a state file, replaced atomically. It ends when
the server ends, at SIGTERM, at its hard deadline, and when its specification file is gone (the run was cleaned): then no
descendant is left, not even one that detached itself twice, for the supervisor is a child subreaper and waits until the
kernel knows of no children any more. Without the kernel's help (macOS) only the server's process group is ended.
"""

import contextlib
import ctypes
import errno
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from resources import processes
from resources.processes import ProcessIdentity

STATE_VERSION = 1
LOOPBACK = "127.0.0.1"
FD = "{fd}"
"""Stands in a command for the number of the listening descriptor."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_BACKLOG = 128
_TICK_SECONDS = 1.0
_SWEEP_SECONDS = 0.02
_LINUX = sys.platform == "linux"


@dataclass(frozen=True)
class Specification:
    """What to run. `command` holds `{fd}` where the listening descriptor belongs; `port` 0 means any free one;
    `deadline` in Unix seconds; `memory_limit_mb` limits the address space of each process of the server, none is no
    limit."""

    command: tuple[str, ...]
    directory: str
    environment: Mapping[str, str]
    port: int
    state: str
    log: str
    deadline: float
    grace_seconds: float
    memory_limit_mb: int | None = None

    def write(self, path: Path) -> None:
        """Write the specification so that a reader sees all of it or nothing."""
        _replace(path, asdict(self) | {"environment": dict(self.environment)})

    @classmethod
    def read(cls, path: Path) -> "Specification":
        """Read what `write` wrote. Raises `FileNotFoundError` where the run was cleaned meanwhile."""
        document = json.loads(path.read_text("utf-8"))
        return cls(**document | {"command": tuple(document["command"])})


@dataclass(frozen=True)
class State:
    """What a supervisor says of itself. `phase` is running or ended; `exit_code` and `exit_signal` are the server's;
    `reason` says why it ended, as one sentence."""

    phase: str
    supervisor: ProcessIdentity | None
    server: ProcessIdentity | None = None
    port: int | None = None
    exit_code: int | None = None
    exit_signal: int | None = None
    reason: str | None = None

    def write(self, path: Path) -> None:
        """Replace the state file atomically."""
        _replace(path, {"version": STATE_VERSION} | asdict(self))

    @classmethod
    def read(cls, path: Path) -> "State | None":
        """Read a state file; none before the supervisor wrote one."""
        try:
            document = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            return None
        document.pop("version")
        for name in ("supervisor", "server"):
            document[name] = ProcessIdentity.from_json(document[name]) if document[name] else None
        return cls(**document)


def main(arguments: list[str]) -> int:
    """Supervise what the specification file names; the exit code is 0 unless the server could not be started at all."""
    path = Path(arguments[0])
    try:
        specification = Specification.read(path)
    except FileNotFoundError:
        # cleaned between being started and reading: there is nothing to do and nobody to tell
        return 0
    state_path = Path(specification.state)
    with _signals() as arrived:
        _become_subreaper()
        state = State("running", processes.identify(os.getpid()))
        try:
            listener = _listen(specification.port)
        except OSError as error:
            replace(state, phase="ended", reason=_bind_refusal(specification.port, error)).write(state_path)
            return 1
        tree = _Tree()
        reason = "the supervisor failed"
        try:
            with listener:
                tree.start(specification, listener)
                state = replace(state, server=processes.identify(tree.pid), port=listener.getsockname()[1])
            # the listener is closed from here on, so that the port is free as soon as the server is gone
            state.write(state_path)
            reason = _supervise(tree, specification, path, arrived)
        except OSError as error:
            reason = f"the server could not be started ({error})"
        finally:
            tree.end(specification.grace_seconds)
        # the folder may be gone already: then nobody waits for the last state
        with contextlib.suppress(OSError):
            replace(state, phase="ended", exit_code=tree.exit_code, exit_signal=tree.exit_signal, reason=reason).write(
                state_path
            )
    return 0


def _supervise(tree: "_Tree", specification: Specification, path: Path, arrived: Callable[[float], set[int]]) -> str:
    """Wait until there is a reason to end, and return it."""
    due = time.monotonic() + specification.deadline - time.time()
    while True:
        tree.reap()
        if tree.status is not None:
            return "the server exited"
        left = due - time.monotonic()
        if left <= 0:
            return "the deployment reached its deadline"
        if not path.exists():
            return "the run was cleaned"
        if arrived(min(left, _TICK_SECONDS)) & {signal.SIGTERM, signal.SIGINT}:
            return "it was asked to end"


class _Tree:
    """The server and every process that came of it. `status` is the server's wait status once it is dead."""

    def __init__(self) -> None:
        self.pid = 0
        self.status: int | None = None

    @property
    def exit_code(self) -> int | None:
        """The server's exit code, none while it runs and where a signal ended it."""
        return os.WEXITSTATUS(self.status) if self.status is not None and os.WIFEXITED(self.status) else None

    @property
    def exit_signal(self) -> int | None:
        """The signal that ended the server, or none."""
        return os.WTERMSIG(self.status) if self.status is not None and os.WIFSIGNALED(self.status) else None

    def start(self, specification: Specification, listener: socket.socket) -> None:
        """Start the server with the listening descriptor. Raises `OSError` where it cannot be executed."""
        descriptor = listener.fileno()
        libc = ctypes.CDLL(None, use_errno=True) if _LINUX else None
        parent = os.getpid()

        def prepare() -> None:
            if libc is not None:
                # Only shortens the life of a server whose supervisor was killed: nothing relies on it, since the signal
                # does not reach grandchildren; they are found by their tag.
                libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                if os.getppid() != parent:
                    os._exit(1)
            if specification.memory_limit_mb is not None:
                # The soft limit: importing numerical libraries below their need spins or crashes without a word, so
                # the app may lift it for its imports and then makes it hard.
                hard = resource.getrlimit(resource.RLIMIT_AS)[1]
                resource.setrlimit(resource.RLIMIT_AS, (specification.memory_limit_mb << 20, hard))

        with Path(specification.log).open("ab") as log:
            process = subprocess.Popen(
                [part.replace(FD, str(descriptor)) for part in specification.command],
                cwd=specification.directory,
                env=dict(specification.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(descriptor,),
                preexec_fn=prepare,
                process_group=0,
            )
        self.pid = process.pid
        # reaped below together with adopted orphans; without this the object would warn when it is collected
        process.returncode = 0

    def reap(self) -> bool:
        """Collect the dead, adopted orphans included; whether children remain."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.pid:
                self.status = status

    def end(self, grace_seconds: float) -> None:
        """End every descendant, by SIGTERM and after the grace by SIGKILL, and return when the kernel knows of none."""
        kill_at = time.monotonic() + grace_seconds
        if self.reap():
            self._signal(signal.SIGTERM)
        while self.reap():
            if time.monotonic() >= kill_at:
                self._signal(signal.SIGKILL)
            time.sleep(_SWEEP_SECONDS)

    def _signal(self, number: int) -> None:
        if not _LINUX:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)
            return
        for process in _descendants():
            with contextlib.suppress(PermissionError):
                processes.send(process, number)


def _descendants() -> list[ProcessIdentity]:
    """Return every living process below this one."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                text = Path(entry.path, "stat").read_bytes()
                parent = int(text[text.rindex(b")") + 2 :].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    below, todo = [], [os.getpid()]
    while todo:
        found = children.get(todo.pop(), [])
        below += found
        todo += found
    return [identity for identity in map(processes.identify, below) if identity is not None]


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))
        # bound alone, the address would not be held against another socket that sets SO_REUSEADDR
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _bind_refusal(port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is taken by another process; choose another or free it"
    return f"port {port} cannot be used ({error.strerror}); choose another"


def _become_subreaper() -> None:
    if os.getpid() != os.getsid(0):
        os.setsid()
    if _LINUX:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "the kernel refused to make the supervisor a child subreaper")


@contextlib.contextmanager
def _signals() -> Iterator[Callable[[float], set[int]]]:
    """Collect signals in a socket; the value waits up to so many seconds and returns the numbers that arrived."""
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    with reader, writer:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            # the wake-up descriptor is written for signals with a Python handler alone
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)

        def arrived(seconds: float) -> set[int]:
            if not select.select([reader], [], [], seconds)[0]:
                return set()
            return set(reader.recv(4096))

        yield arrived


def _replace(path: Path, document: Mapping[str, Any]) -> None:
    new = path.with_name(f".{path.name}.new")
    new.write_text(json.dumps(document), "utf-8")
    new.replace(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
