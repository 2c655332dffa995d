"""The home that a command works on: which one it is, opened only when the request is known to be sound.

Belongs here: what is checked before anything is made, and naming the files of a store that do not count. Not here: opening itself
(`resources.platform`).
"""

from mlcc_dagster.cli import console
from mlcc_dagster.core.exceptions import UsageError
from resources.home import Home
from resources.platform import EXECUTORS, Platform


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


def warn_of_skipped(platform: Platform) -> None:
    """Name every file in the store that does not count, on standard error."""
    for path, why in platform.store.snapshot().skipped:
        console.warn(f"{path} was left out ({why}); move it away or restore it")
