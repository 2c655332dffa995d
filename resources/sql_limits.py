"""The last limits of a query, for a process that answers nothing else.

Belongs here: what ends a query that DuckDB does not end by itself. Not here: its own limits, which end nearly all of them with
a sentence and leave the process as it was (`sql_engine.py`).

DuckDB looks at its limits between pieces of work. One call of one function on long texts or arrays is one piece: it can take hours,
and its memory is counted when it is done. A limit of the system instead of this watch was tried: an allocation that it refuses
in the wrong place ends the process without a word.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator

GRACE_SECONDS = 5.0
"""How long a query may go on after its own time limit before the process is ended."""

ALLOWANCE_MB = 1024
"""What a query may hold beyond its own memory limit before the process is ended: pieces of work under way."""

_LOOK_SECONDS = 0.05


@contextlib.contextmanager
def last_limits(seconds: float, memory_mb: int, *, exit_code: int, say: Callable[[str], object]) -> Iterator[None]:
    """End this process with `exit_code`, and one sentence that `say` is given, when the query within goes on `GRACE_SECONDS` after
    its time, or the process holds `ALLOWANCE_MB` more than it holds now and the query may."""
    ended = threading.Event()
    latest = time.monotonic() + seconds + GRACE_SECONDS
    most = _held_bytes() + (memory_mb + ALLOWANCE_MB) * 1_000_000

    def watch() -> None:
        while not ended.wait(_LOOK_SECONDS):
            if time.monotonic() > latest:
                say(
                    f"the query ran longer than {seconds:g} s, and nothing but the end of this process stops it; narrow it"
                )
                os._exit(exit_code)
            if _held_bytes() > most:
                say(
                    f"the query needs more than {memory_mb} MB, and nothing but the end of this process stops it; narrow it"
                )
                os._exit(exit_code)

    watcher = threading.Thread(target=watch, name="last limits of a query", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _held_bytes() -> int:
    import psutil

    return psutil.Process().memory_info().rss
