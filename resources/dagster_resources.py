"""The thin Dagster wrappers of the plain classes in this folder; the only module here that imports Dagster.

Belongs here: config fields, and handing out the plain object. Not here: behaviour.
"""

from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from resources.platform import Platform
from resources.progress import Listener, silent


@cache
def _open(root: str, executor: str) -> Platform:
    return Platform.open(Path(root) if root else None, executor=executor or None)


class PlatformResource(dg.ConfigurableResource):
    """The opened platform: CI table, ledger, result store, catalog and executor of one home.

    Opened at first use, never at import. Raises what `Platform.open` raises, as one sentence.
    """

    home: str = Field(
        default="", description="Home folder; empty means $MLCC_HOME, else .mlcc below the current folder."
    )
    executor: str = Field(default="", description="Executor name; empty means the one in the home's settings (local).")

    def open(self) -> Platform:
        """Return the opened platform, one per home and executor in this process."""
        return _open(self.home, self.executor)

    @property
    def listener(self) -> Listener:
        """Who is told of the progress of stages; nobody unless a command listens."""
        return silent


class HandoffIOManager(dg.IOManager):
    """Hands values from op to op in memory, within one run in one process.

    A lifecycle cannot go on from the middle: its claim's generation is spent, and what it deployed is gone. So a value that
    is not there means a re-execution from a failed step, which is refused with a sentence.
    """

    def __init__(self) -> None:
        self._values: dict[tuple[Any, ...], Any] = {}

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Keep the value of one op output of this run."""
        self._values[tuple(context.get_identifier())] = obj

    def load_input(self, context: dg.InputContext) -> Any:
        """Return the value; raises `dg.Failure` where the run was started from a later step."""
        upstream = context.upstream_output
        key = tuple(upstream.get_identifier()) if upstream is not None else ()
        if key not in self._values:
            raise dg.Failure(
                "A lifecycle run cannot be re-executed from a step: the claim it ran under is spent and its deployment "
                "cleaned. Use 'Re-execute all' or materialize the partition again.",
                allow_retries=False,
            )
        return self._values[key]


@dg.io_manager(description="In memory, one run, one process; refuses re-execution from a step with a sentence.")
def handoff_io_manager(_: dg.InitResourceContext) -> HandoffIOManager:
    """Return a fresh in-memory hand-off for one run."""
    return HandoffIOManager()
