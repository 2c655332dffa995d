"""Real `mlcc` processes that start at once and can be made to kill themselves anywhere.

Importing Dagster takes seconds; a process that has done it once and forks a new one for each command takes none. Run as a
script it is that process: a request is one JSON line on standard input, what came of it lies in the request's folder.
"""

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resources.home import Home

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Blow:
    """A signal that a process sends itself `side` (before or after) the call number `call` of a function,
    named `module:qualified.name`."""

    function: str
    side: str
    call: int = 1
    signal: int = signal.SIGKILL

    def arm(self) -> None:
        """Put the blow in place, in this process."""
        module, _, qualified = self.function.partition(":")
        *path, name = qualified.split(".")
        owner: Any = importlib.import_module(module)
        for part in path:
            owner = getattr(owner, part)
        real, calls = getattr(owner, name), 0

        def struck(*arguments: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            mine = calls == self.call
            if mine and self.side == "before":
                os.kill(os.getpid(), self.signal)
            result = real(*arguments, **named)
            if mine and self.side == "after":
                os.kill(os.getpid(), self.signal)
            return result

        setattr(owner, name, struck)


@dataclass(frozen=True)
class Command:
    """A started `mlcc` command."""

    folder: Path

    @property
    def pid(self) -> int:
        return int(read_when_there(self.folder / "pid"))

    @property
    def stdout(self) -> str:
        return (self.folder / "stdout").read_text()

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr").read_text()

    def wait(self) -> int:
        """Return the exit code, negative for a signal."""
        return int(read_when_there(self.folder / "exit"))

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def document(self) -> Any:
        """The JSON document it printed."""
        assert self.wait() in (0, 1, 130), self.stderr
        return json.loads(self.stdout)


class Forker:
    """Starts commands in a home."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        with (folder / "forker.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(folder / "ready")],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=folder,
                text=True,
            )
        wait_until(lambda: (folder / "ready").exists() or self._process.poll() is not None)
        assert self._process.poll() is None, (folder / "forker.log").read_text()

    def start(
        self,
        home: "Home",
        *arguments: str,
        blows: Sequence[Blow] = (),
        requests: int = 4,
        scripted_seconds: float | None = None,
        reservation: str | None = None,
        refresh: bool = False,
    ) -> Command:
        """Start a command whose benchmark sends so many requests per level.

        With `scripted_seconds` its executor only sleeps so long in every stage; without `refresh` it leaves out the
        refresh of coverage after its last configuration.
        """
        self._count += 1
        folder = self._folder / f"command-{self._count}"
        folder.mkdir()
        request = {
            "folder": str(folder),
            "home": str(home.root),
            "arguments": arguments,
            "blows": [asdict(blow) for blow in blows],
            "requests": requests,
            "scripted_seconds": scripted_seconds,
            "reservation": reservation,
            "refresh": refresh,
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return Command(folder)

    def run(self, home: "Home", *arguments: str, **named: Any) -> Command:
        """Run a command to its end."""
        command = self.start(home, *arguments, **named)
        command.wait()
        return command

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


def read_when_there(path: Path) -> str:
    """Wait for a file that is written whole, and read it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not come: {(path.parent / 'stderr').read_text()[-2000:]}"
        time.sleep(0.01)
    return path.read_text()


def wait_until(condition: Callable[[], Any]) -> Any:
    """Wait for something to become true and return it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, "the moment did not come"
        time.sleep(0.005)
    return found


def write(path: Path, text: str) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    partial.replace(path)


def fork_for(request: dict[str, Any]) -> None:
    """Fork a process that forks the command's and waits for it: the one that reads requests never waits."""
    if os.fork() != 0:
        return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    folder = Path(request["folder"])
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = be_command(request, folder)
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    stream.flush()
            os._exit(code)
    write(folder / "pid", str(child))
    _, status = os.waitpid(child, 0)
    write(folder / "exit", str(os.waitstatus_to_exitcode(status)))
    os._exit(0)


def be_command(request: dict[str, Any], folder: Path) -> int:
    """Be `mlcc` with what the request asks for put in place, and return the exit code."""
    import traceback

    for number, name in ((1, "stdout"), (2, "stderr")):
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
        os.close(descriptor)
    # a shell that runs the tests in the background has SIGINT ignored, which is inherited
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["MLCC_HOME"] = request["home"]
    sys.argv = ["mlcc", *request["arguments"]]
    try:
        put_in_place(request)
        from mlcc_dagster.cli import main

        main()
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return 99
    return 0


def put_in_place(request: dict[str, Any]) -> None:
    """Give the command a small benchmark (or a scripted executor), a reservation, and its blows."""
    from mlcc_dagster.cli import dagster_runs
    from resources import platform
    from resources.executor import StageRequest
    from resources.home import Home
    from resources.local.executor import LocalExecutor, catalog_workload

    if request["scripted_seconds"] is None:
        from dataclasses import replace

        def small(name: str) -> Any:
            return replace(catalog_workload(name), requests=request["requests"])  # type: ignore[type-var]

        platform.open_executor = lambda name, home: LocalExecutor(home, workload=small)
    else:
        from scripted_runs import Scripted

        from mlcc_dagster.core.exceptions import StageFailed
        from mlcc_dagster.core.stages import Stage

        def script(stage_request: StageRequest) -> None:
            time.sleep(request["scripted_seconds"])
            tight = stage_request.configuration.serving_params.get("memory_limit_mb") == "256"
            if tight and stage_request.stage is Stage.DEPLOY:
                raise StageFailed("MemoryError", category="oom")

        def scripted(name: str, home: Home) -> Any:
            return Scripted(home, dict.fromkeys(Stage, script))

        platform.open_executor = scripted
    if request["reservation"]:
        real = dagster_runs.DagsterRuns.lifecycle

        def reserved(*arguments: Any, **named: Any) -> Any:
            return real(*arguments, **named | {"reservation": request["reservation"]})

        dagster_runs.DagsterRuns.lifecycle = reserved  # type: ignore[method-assign]
    if not request["refresh"]:
        dagster_runs.DagsterRuns.refresh = lambda self: None  # type: ignore[method-assign,assignment,return-value]
    for blow in request["blows"]:
        Blow(**blow).arm()


def warm_up() -> None:
    """Import all that a command imports late, by running one, so that the forks find it there."""
    from scripted_runs import Graph

    import resources.local.executor  # noqa: F401
    from mlcc_dagster.cli import dagster_runs, rounds, targets  # noqa: F401
    from mlcc_dagster.cli.instance import open_instance
    from resources.home import Home

    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home").ensure()
        with open_instance(home) as instance:
            assert Graph.over(home.root, instance=instance).run().success


def main() -> None:
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "assets")]
    warm_up()
    Path(sys.argv[1]).touch()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        fork_for(json.loads(line))


if __name__ == "__main__":
    main()
