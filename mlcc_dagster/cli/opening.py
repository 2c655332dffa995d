"""The home that a command works on: which one it is, opened only when the request is known to be sound.

Belongs here: what is checked before anything is made, and reading a store that has damaged files. Not here: opening itself
(`resources.platform`).
"""

import logging
from collections.abc import Callable
from typing import TypeVar

from mlcc_dagster.cli import console
from mlcc_dagster.core.exceptions import UsageError
from resources.home import Home
from resources.platform import EXECUTORS, Platform
from resources.result_store import DamagedResults

_Answer = TypeVar("_Answer")


def executor_name(executor: str | None, home: Home) -> str:
    """Return the executor asked for, or the home's own.

    Raises `UsageError` for an unknown one, `InvalidInput` for settings with mistakes.
    """
    name = home.settings.executor if executor is None else executor
    if name not in EXECUTORS:
        source = " of settings.yaml or MLCC_EXECUTOR" if executor is None else ""
        raise UsageError(f"unknown executor '{name}'{source}; use one of {', '.join(EXECUTORS)}")
    return name


def home_of(executor: str | None) -> Home:
    """Return the home of a command without touching it: the current one, for `replay` the one below it. Raises as
    `executor_name` does."""
    home = Home.current()
    return home.replay() if executor_name(executor, home) == "replay" else home


def open_platform(executor: str | None = None, *, to_read: bool = False) -> Platform:
    """Open the home of a command. One that is only read and was not there is said to be new, since it is seldom the
    one that was meant. Raises as `executor_name` and `Platform.open` do."""
    home = home_of(executor)
    new = not home.root.exists()
    platform = Platform.open(executor=executor)
    if to_read and new:
        console.warn(f"{home.root} is a new, empty home; `mlcc run --tier local` fills it, MLCC_HOME names another")
    return platform


def without_damaged(read: Callable[[], _Answer]) -> _Answer:
    """Read the store; where that finds damaged files, read once more: the next snapshot leaves them out and names them.

    The store's own log lines on what it leaves out are held back: the caller says it once, in the command's words. Raises
    `DamagedResults` where reading again does not help.
    """
    logger = logging.getLogger("resources.result_store")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        try:
            return read()
        except DamagedResults:
            return read()
    finally:
        logger.setLevel(level)


def warn_of_skipped(platform: Platform) -> None:
    """Name every file in the store that does not count, on standard error."""
    for path, why in without_damaged(platform.store.snapshot).skipped:
        console.warn(f"{path} was left out ({why}); move it away or restore it")
