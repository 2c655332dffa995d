"""Trials that were never run: drawn, or written down as letters, for the tests of everything that compares cells."""

import random
from collections.abc import Sequence

from mlcc_dagster.core.triage.trials import ExitStatus, TrialResult


def trial(cell: str, number: int, *, failed: bool, step_ms: float = 10.0, error: bool = False) -> TrialResult:
    """One trial of two steps."""
    status = ExitStatus.WORKLOAD_FAILED if failed else ExitStatus.OK
    return TrialResult(
        cell,
        number,
        ExitStatus.INFRASTRUCTURE_FAILED if error else status,
        "2026-06-09T14:30:22Z",
        1.0,
        2,
        () if error else (step_ms, step_ms),
    )


def written(cell: str, letters: str, step_ms: float = 10.0) -> list[TrialResult]:
    """One trial per letter: p passed, f failed, e an error."""
    return [
        trial(cell, number, failed=letter == "f", step_ms=step_ms, error=letter == "e")
        for number, letter in enumerate(letters)
    ]


def counted(cell: str, failed: int, trials: int, step_ms: float = 10.0) -> list[TrialResult]:
    """So many failed trials among so many, spread evenly."""
    letters = ["f" if (number + 1) * failed // trials > number * failed // trials else "p" for number in range(trials)]
    return written(cell, "".join(letters), step_ms)


def drawn(drawer: random.Random, cell: str, rate: float, trials: int) -> list[TrialResult]:
    """Trials that fail with a rate."""
    return [trial(cell, number, failed=drawer.random() < rate) for number in range(trials)]


def prefixes(streams: dict[str, Sequence[TrialResult]], counts: dict[str, int]) -> dict[str, Sequence[TrialResult]]:
    """The first trials of every stream."""
    return {name: stream[: counts[name]] for name, stream in streams.items()}
