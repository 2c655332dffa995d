"""How long gaps with neighbours take: the tensor against a pairwise count on the same rows in the same run, and the
bounds at both ends of the scale. Run `python benchmarks/bench_gaps.py`; it exits 1 when a bound is missed.

Times in seconds on this machine; what carries over to another one is the ratio.
"""

import itertools
import random
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mlcc_dagster.core.configuration import DIMENSIONS
from mlcc_dagster.core.gaps import GapList, observed_gaps

SMALL_ROWS, SMALL_SHAPE = 1_500, (8, 9, 7, 5, 3, 2)
LARGE_ROWS, LARGE_SHAPE = 1_000_000, (20, 25, 20, 10, 10, 10)
HUGE_ROWS, HUGE_SHAPE = 2_000, (200, 300, 100, 20, 10, 10)
PAIRWISE_SAMPLE = 300


def columns(count: int, shape: Sequence[int], seed: int) -> dict[str, list[str]]:
    """Return `count` random rows as columns, about nine of ten completed."""
    random_codes = np.random.default_rng(seed)
    table = {
        name: np.array([f"{name}-{value}" for value in range(size)], dtype=object)[
            random_codes.integers(0, size, count)
        ].tolist()
        for name, size in zip(DIMENSIONS, shape, strict=True)
    }
    status = np.where(random_codes.random(count) < 0.9, "completed", "failed")
    return {**table, "status": status.tolist()}


def pairwise_seconds(table: Mapping[str, Sequence[str]], gaps: GapList) -> float:
    """Return what comparing every gap with every proven vector takes, measured on a sample of the gaps, whose counts
    must agree with `gaps`."""
    rows = zip(*(table[name] for name in DIMENSIONS), table["status"], strict=True)
    proven = {row[:-1] for row in rows if row[-1] == "completed"}
    chosen = random.Random(1).sample(range(len(gaps)), PAIRWISE_SAMPLE)
    sample = [(gaps[index].values(), int(gaps[index : index + 1].neighbours[0])) for index in chosen]
    began = time.perf_counter()
    for gap, neighbours in sample:
        found = sum(1 for each in proven if sum(map(str.__ne__, gap, each)) == 1)
        if found != neighbours:
            sys.exit(f"{gap} has {found} neighbours pair by pair but {neighbours} in the list")
    return (time.perf_counter() - began) * len(gaps) / PAIRWISE_SAMPLE


def measured(work: Callable[[], Any], repeat: int) -> tuple[Any, float]:
    """Return the result and the best time of `repeat` runs, in seconds."""
    best, result = float("inf"), None
    for _ in itertools.repeat(None, repeat):
        began = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - began)
    return result, best


def peak_mib() -> float:
    """Return the largest resident size of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    """Measure and print one line per scale."""
    table = columns(SMALL_ROWS, SMALL_SHAPE, seed=1)
    rows = [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]
    gaps, small = measured(lambda: observed_gaps(rows), 5)
    _, written = measured(gaps.to_json, 5)
    reference = pairwise_seconds(table, gaps)
    print(f"small: {len(rows)} rows, {len(gaps)} gaps: {small:.4f} s, as JSON {written:.4f} s more (bound 0.05 s)")
    print(f"small: pairwise {reference:.1f} s, that is {reference / small:.0f} times as long")

    table = columns(LARGE_ROWS, LARGE_SHAPE, seed=2)
    before = peak_mib()
    gaps, large = measured(lambda: observed_gaps(table), 3)
    more = peak_mib() - before
    print(
        f"large: {LARGE_ROWS} rows, {np.prod(LARGE_SHAPE):.0e} cells, {len(gaps)} gaps: {large:.2f} s, "
        f"{more:.0f} MiB more than the rows (bounds 2 s, 1024 MiB)"
    )

    table = columns(HUGE_ROWS, HUGE_SHAPE, seed=3)
    gaps, huge = measured(lambda: observed_gaps(table), 3)
    _, first = measured(lambda: gaps.head(10).to_json(), 3)
    print(f"huge:  {HUGE_ROWS} rows, {len(gaps):.1e} gaps in the sparse form: {huge:.2f} s, first ten {first:.4f} s")
    sys.exit(0 if small + written <= 0.05 and large <= 2 and more <= 1024 else 1)


if __name__ == "__main__":
    main()
