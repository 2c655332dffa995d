"""What a night of scanned runs costs beyond what they play: many configurations, one after the other, in virtual time.

The whole way of a scan: look at the table, run the oldest due configuration as a Dagster run with executor `replay`, look again.
`MLCC_NIGHT` says how many (default 100, some minutes; 1,000 take about 16 minutes on two cores). Memory is the resident set of
this process, the mean over the first and over the last hundred of the runs (of fewer than 300, over a third).
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean

import psutil

from benchmarks.lifecycle import QUIET, one_op
from benchmarks.pairs import Comparison, seconds
from mlcc_dagster.cli.dagster_runs import DagsterRuns
from mlcc_dagster.cli.instance import open_instance
from mlcc_dagster.cli.scans import target_of
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.outcome import BenchmarkPlan
from mlcc_dagster.core.resolution import configuration_of
from resources.lifecycle import seconds_of
from resources.platform import Platform
from resources.progress import Event, RunEnded
from resources.scanner import RUN_TYPE, look

CONFIGURATIONS = int(os.environ.get("MLCC_NIGHT", "100"))
MIB = 2**20
SLOWEST_GROWTH = 1.5
"""A run late in the night takes no longer than one early in it, but for what other work does to the machine."""


def measure() -> Iterator[Comparison]:
    """Play a night, each run timed together with the look before it, with a one-op Dagster run after every tenth part."""
    tenth = max(1, CONFIGURATIONS // 10)
    with tempfile.TemporaryDirectory() as folder:
        platform = Platform.open(Path(folder), executor="replay")
        register(platform, CONFIGURATIONS)
        virtual: list[float] = []

        def hear(event: Event) -> None:
            if isinstance(event, RunEnded) and event.outcome is not None:
                virtual.append(sum(map(seconds_of, event.outcome.results)))

        taken, resident, floors = [], [], []
        with open_instance(platform.home) as instance:
            instance.add_dynamic_partitions("configuration", [record.config_id for record in platform.ci.records()])
            runs = DagsterRuns(platform, instance, hear)
            for number in range(CONFIGURATIONS):
                taken.append(seconds(lambda: scan_once(platform, runs)))
                resident.append(psutil.Process().memory_info().rss / MIB)
                if number % tenth == tenth - 1:
                    floors.append(seconds(lambda: one_op.execute_in_process(instance=instance, run_config=QUIET)))
        unfinished = [f"{a.run_id} {a.state}: {a.reason}" for a in platform.ci.attempts() if a.state != "finished"]
        left = [record.config_id for record in platform.ci.records() if record.last_test_timestamp is None]
        assert not unfinished and not left, f"cut off: {unfinished}; without a result: {left}"
        window = max(1, min(100, CONFIGURATIONS // 3))
        first, last = mean(resident[:window]), mean(resident[-window:])
        night = f"{CONFIGURATIONS} played runs ({sum(virtual) / 3600:.0f} virtual hours)"
        yield Comparison(
            f"{night}, each with its scan / one-op run", tuple(zip(parts(taken, tenth), floors, strict=True))
        )
        yield Comparison(
            f"a run of the last {window} / of the first; resident {first:.0f} MiB first, {last:.0f} MiB last",
            tuple(zip(taken[-window:], taken[:window], strict=True)),
            bound=SLOWEST_GROWTH,
        )


def parts(taken: Sequence[float], size: int) -> list[float]:
    """Return the mean of each part of so many values; what is left over at the end is left out."""
    return [mean(taken[start : start + size]) for start in range(0, len(taken) - size + 1, size)]


def register(platform: Platform, count: int) -> None:
    """Register so many configurations: the catalog's entries with context lengths of their own."""
    plan = BenchmarkPlan(enabled=True, workload="multi_turn_chat", concurrency_levels=(1, 4, 8))
    entries = [entry for entry in platform.catalog.entries if entry.tier != "local"]
    for number in range(count):
        entry = entries[number % len(entries)]
        length = 1024 + number // len(entries)
        known = configuration_of(entry, platform.catalog)
        platform.ci.register(
            Configuration.from_json(known.to_json() | {"max_model_len": length}), benchmark=plan, tier=entry.tier
        )


def scan_once(platform: Platform, runs: DagsterRuns) -> None:
    """Look, and run the oldest due configuration."""
    due = look(platform, now=datetime.now(UTC), max_concurrency=1).start[0]
    runs.lifecycle(target_of(platform, due), round_id=due.round, tier=due.tier, run_type=RUN_TYPE)
