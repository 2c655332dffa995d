"""Measuring in pairs: A B A B …, so that a ratio holds while the machine's speed drifts.

Belongs here: the harness. Not here: what is measured.
"""

import os
import platform
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median


@dataclass(frozen=True)
class Comparison:
    """Pairs of seconds (a, b), taken in turn. `bound` is the largest ratio a/b that is promised, none where none is."""

    name: str
    pairs: tuple[tuple[float, float], ...]
    bound: float | None = None

    @property
    def median_a(self) -> float:
        """Median seconds of what is measured."""
        return median(a for a, _ in self.pairs)

    @property
    def median_b(self) -> float:
        """Median seconds of the peer or floor."""
        return median(b for _, b in self.pairs)

    @property
    def ratio(self) -> float:
        """The median of the ratios pair by pair."""
        return median(a / b for a, b in self.pairs)

    @property
    def ratio_range(self) -> tuple[float, float]:
        """The smallest and the largest ratio of a pair."""
        ratios = [a / b for a, b in self.pairs]
        return min(ratios), max(ratios)

    @property
    def met(self) -> bool:
        """Whether the median ratio is within the bound."""
        return self.bound is None or self.ratio <= self.bound


def compare(
    name: str, a: Callable[[], object], b: Callable[[], object], *, runs: int = 5, bound: float | None = None
) -> Comparison:
    """Run both in turn, one warm-up each, and return the timed pairs."""
    a()
    b()
    return Comparison(name, tuple((seconds(a), seconds(b)) for _ in range(runs)), bound)


def seconds(work: Callable[[], object]) -> float:
    """Return the wall seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def command(words: Sequence[str], environment: dict[str, str] | None = None) -> Callable[[], None]:
    """Return a call that runs a command to its end, its output thrown away; raises when it fails."""

    def run() -> None:
        subprocess.run(
            words,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | (environment or {}),
        )

    return run


def machine() -> str:
    """Return one line on the machine and the moment: figures mean little without it."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    when = datetime.now(UTC)
    return (
        f"{when:%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, "
        f"load {load}"
    )
