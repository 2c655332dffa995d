"""What an outcome that is played, and not performed, consists of, and where such outcomes come from.

Belongs here: the two types that the executor `replay` and its sources share. Not here: the sources
(`modelled_outcomes.py`, `recorded_outcomes.py`) and the executor (`replay.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.outcome import BenchmarkPlan
from mlcc_dagster.core.stages import Stage


@dataclass(frozen=True)
class Played:
    """What a stage comes to: virtual seconds, what it prints, whether it fails by itself, and for a benchmark the raw
    records (JSON lines) per concurrency level."""

    seconds: float
    log: str
    failed: bool = False
    records: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))


class Outcomes(Protocol):
    """Where played outcomes come from. The same question always gets the same answer."""

    @property
    def digest(self) -> str:
        """SHA-256 of all that the outcomes depend on."""
        ...

    def refusal(self, configuration: Configuration) -> str | None:
        """Say in one clause why there is no outcome for a configuration, or none where there is one."""
        ...

    def play(self, run_id: str, configuration: Configuration, stage: Stage, plan: BenchmarkPlan) -> Played:
        """Return what a stage of a run comes to. Raises `StageFailed` where nothing is known of it."""
        ...
