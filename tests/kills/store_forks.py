"""Processes that publish, compact and read one store, started at once and killed at any point.

Run as a script it is the process that has imported all they need and forks them; a request is one JSON line on standard input,
the exit code (negative for a signal) of what was asked for one line on standard output. What is published is noted before and
after, so that a reader knows what it must see and what it may.
"""

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DAY = 86_400.0
POINTS = (
    "os:fsync",
    "os:link",
    "pathlib:Path.replace",
    "pathlib:Path.unlink",
    "pathlib:Path.mkdir",
    "shutil:rmtree",
    "resources.compaction:exchange",
    "pyarrow.parquet:write_table",
)
"""Everything through which a process changes the disk."""


@dataclass(frozen=True)
class Books:
    """What was begun and done so far, one line per run; lines are appended in one write each."""

    folder: Path

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def note(self, what: str, line: str) -> None:
        descriptor = os.open(self.folder / what, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{line}\n".encode())
        os.close(descriptor)

    def lines(self, what: str) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / what).read_text().split("\n")[:-1]
        return []


class Forker:
    """Starts processes on the books of a folder."""

    def __init__(self, folder: Path) -> None:
        self.books = Books(folder)
        self._log = (folder / "log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def run(self, role: str, **named: Any) -> int:
        """Be asked once, to the end: the exit code, negative for a signal."""
        return self._ask({"role": role, "wait": True, **named})

    def start(self, role: str, **named: Any) -> int:
        """Begin something that goes on by itself; its pid."""
        return self._ask({"role": role, "wait": False, **named})

    def _ask(self, request: dict[str, Any]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, (self.books.folder / "log").read_text()[-2000:]
        return int(line)

    def close(self) -> None:
        """End what still runs and wait for it."""
        (self.books.folder / "stop").touch()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._log.close()


def arm(call: int, side: str) -> None:
    """Have this process kill itself before or after the call number `call` of anything that changes the disk."""
    calls = 0

    def struck(real: Callable[..., Any]) -> Callable[..., Any]:
        def strike(*arguments: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            mine = calls == call
            if mine and side == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*arguments, **named)
            if mine:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return strike

    for point in POINTS:
        module, _, qualified = point.partition(":")
        owner: Any = importlib.import_module(module)
        *path, name = qualified.split(".")
        for part in path:
            owner = getattr(owner, part)
        setattr(owner, name, struck(getattr(owner, name)))


def publish(books: Books, *, run: str, model: str) -> None:
    from result_rows import row  # type: ignore[import-not-found]

    from resources.result_store import ResultStore

    books.note("begun", run)
    rows = [row(run, model_name=model, concurrency=level) for level in (1, 2)]
    ResultStore(books.results).publish(run, rows)
    books.note("done", run)


def compact(books: Books, *, now: float, grace: float) -> None:
    from resources.compaction import compact
    from resources.result_store import ResultStore

    done = compact(ResultStore(books.results), now=now, grace_seconds=grace)
    assert not done.left_alone, done.left_alone


def write_on(books: Books, *, name: str) -> None:
    """Publish one run after the other until it is time to stop."""
    count = 0
    while not (books.folder / "stop").exists():
        publish(books, run=f"{name}x{count}-g1", model=f"m/{count % 3}")
        count += 1
        time.sleep(0.25)


def compact_on(books: Books, *, grace: float) -> None:
    """Compact again and again, each time as if a day had passed since what is there was published."""
    while not (books.folder / "stop").exists():
        compact(books, now=time.time() + DAY, grace=grace)
        books.note("compactions", str(time.time()))
        time.sleep(0.05)


def read_on(books: Books, *, bare: bool) -> None:
    """Read until it is time to stop, and note every reading in which a row is missing, double, or of nowhere."""
    import duckdb

    while not (books.folder / "stop").exists():
        time.sleep(0.2)  # the others need the processor too
        must = set(books.lines("done"))
        try:
            seen = read_bare(books) if bare else read_snapshot(books)
        except duckdb.IOException as error:
            # Files were listed before a folder was exchanged and opened after: said loudly, and right when repeated.
            books.note("told of missing files", str(error).split("\n", 1)[0])
            continue
        may = set(books.lines("begun"))
        double = {row: count for row, count in seen.items() if count != 1}
        runs = {run for run, _ in seen}
        halves = [run for run in runs if not {(run, 1), (run, 2)} <= seen.keys()]
        if double or halves or not must <= runs <= may:
            wrong = {"double": len(double), "halves": halves[:3], "lost": sorted(must - runs)[:3]}
            books.note("wrong", json.dumps({"bare": bare, **wrong, "of nowhere": sorted(runs - may)[:3]}))
        books.note("bare readings" if bare else "readings", str(len(runs)))


def read_snapshot(books: Books) -> Counter[tuple[str, int]]:
    from resources.result_store import ResultStore

    snapshot = ResultStore(books.results).snapshot()
    rows = snapshot.read(lambda taken: taken.rows(["run_id", "concurrency"]))
    return Counter((row["run_id"], row["concurrency"]) for row in rows)


def read_bare(books: Books) -> Counter[tuple[str, int]]:
    import duckdb

    with duckdb.connect(config={"threads": 1}) as connection:
        sql = "SELECT run_id, concurrency FROM read_parquet(?, hive_partitioning = true)"
        return Counter(connection.execute(sql, [f"{books.results}/**/*.parquet"]).fetchall())


ROLES: dict[str, Callable[..., None]] = {
    "publish": publish,
    "compact": compact,
    "write_on": write_on,
    "compact_on": compact_on,
    "read_on": read_on,
}


def fork(books: Books, request: dict[str, Any]) -> int:
    """Fork what is asked for and return its pid."""
    pid = os.fork()
    if pid != 0:
        return pid
    code = 1
    try:
        strike = request.pop("strike", None)
        role, _ = ROLES[request.pop("role")], request.pop("wait")
        if strike is not None:
            arm(*strike)
        role(books, **request)
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "resources")]
    import duckdb  # noqa: F401
    import pyarrow as pa
    import result_rows  # type: ignore[import-not-found]  # noqa: F401

    import resources.compaction  # noqa: F401

    # Threads do not survive a fork: none may have been started here.
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    books = Books(Path(sys.argv[1]))
    running: list[int] = []
    for line in sys.stdin:
        request = json.loads(line)
        wait = request["wait"]
        pid = fork(books, request)
        if wait:
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
        else:
            running.append(pid)
            print(pid, flush=True)
    for pid in running:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code:
            books.note("wrong", f"a process ended with {code}")


if __name__ == "__main__":
    main()
