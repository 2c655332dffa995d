"""The logs of runs, by stage, as a home keeps them.

Belongs here: which logs a run left, and reading them piece by piece. Not here: writing them (`stage_runner.py`), what they
mean (`core.failures`).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlcc_dagster.core.stages import CANONICAL_ORDER
from resources.home import Home

RUN_ID = re.compile(r"[0-9a-f]{16}-g[1-9][0-9]*")
"""The only texts that become a folder's name here, so that none leads out of the home."""

LONGEST_LINE = 1 << 20
"""Characters; a progress bar may go on for ever without an end of line."""


@dataclass(frozen=True)
class StageLog:
    """One log of one run. `written_at` is when it was last written to, `size` in bytes."""

    run_id: str
    stage: str
    path: Path
    written_at: datetime
    size: int

    def lines(self) -> Iterator[str]:
        """Yield the lines without their ends, one at a time, so that a log of any length fits; one longer than
        `LONGEST_LINE` comes in parts. Bytes that are no text are escaped."""
        with self.path.open(encoding="utf-8", errors="backslashreplace", newline="\n") as log:
            while line := log.readline(LONGEST_LINE):
                yield line.rstrip("\r\n")


def stage_logs(home: Home, run_id: str) -> tuple[StageLog, ...]:
    """Return the logs of a run in the order of its stages, none for a run that kept none.

    Raises `ValueError` for a text that is no run id.
    """
    if not RUN_ID.fullmatch(run_id):
        raise ValueError(f"'{run_id}' is no run id; one is a config id, -g and a number")
    places = {stage.value: place for place, stage in enumerate(CANONICAL_ORDER)}
    found = []
    for path in sorted((home.logs / run_id).glob("*.log")):
        about = path.stat()
        written = datetime.fromtimestamp(about.st_mtime, UTC)
        found.append(StageLog(run_id, path.stem, path, written, about.st_size))
    return tuple(sorted(found, key=lambda log: places.get(log.stage, len(places))))
