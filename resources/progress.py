"""Progress of runs, told to whoever listens: a command's progress bar, or nobody.

Belongs here: the events and the listener's form. Not here: showing them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from mlcc_dagster.core.outcome import Outcome, StageResult
from mlcc_dagster.core.stages import Stage


@dataclass(frozen=True)
class StageBegan:
    """A stage begins; `outcome` is what was known before it."""

    outcome: Outcome
    stage: Stage


@dataclass(frozen=True)
class StageEnded:
    """A stage ended with a result, skips included."""

    outcome: Outcome
    result: StageResult


@dataclass(frozen=True)
class RunEnded:
    """A run ended: `concluded` with rows, `lost` its claim to another, or was `interrupted`
    (`cancelled` where a person or the orchestrator stopped it)."""

    config_id: str
    how: Literal["concluded", "lost", "interrupted"]
    sentence: str
    outcome: Outcome | None = None
    cancelled: bool = False


Event = StageBegan | StageEnded | RunEnded
Listener = Callable[[Event], None]


def silent(event: Event) -> None:
    """Listen to nothing."""
