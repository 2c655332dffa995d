"""Documents of benchmarks for the gate, collected from what a home has measured.

Belongs here: which rows are of which configuration, and the newest runs of each. Not here: judging them
(`core.benchmark_gate`), measuring.
"""

from collections.abc import Mapping
from types import MappingProxyType

from mlcc_dagster.core.benchmark_gate import GATED, Benchmarks
from mlcc_dagster.core.exceptions import InvalidInput
from resources.platform import Platform

_COLUMNS = ("config_id", "run_id", "run_timestamp", "workload", "concurrency", "status", "executor", *GATED)


def measured_ids(platform: Platform) -> frozenset[str]:
    """Return the config ids of which there are rows."""
    rows = platform.store.snapshot().read(lambda snapshot: snapshot.rows(columns=("config_id",)))
    return frozenset(str(row["config_id"]) for row in rows if row.get("config_id"))


def collect(platform: Platform, wanted: Mapping[str, str], *, runs: int, sha: str | None = None) -> Benchmarks:
    """Return the newest `runs` runs of configurations, by `<name> <workload> x <concurrency>`; `wanted` gives the name by
    config_id. Only what the home's executor measured counts.

    Raises `InvalidInput` naming the configurations of which there is no measurement.
    """
    rows = platform.store.snapshot().read(lambda snapshot: snapshot.rows(columns=_COLUMNS))
    found: dict[str, dict[str, list[tuple[str, str, float]]]] = {}
    for row in rows:
        name = wanted.get(str(row.get("config_id")))
        if name is None or row.get("status") != "completed" or row.get("executor") != platform.executor.name:
            continue
        if not row.get("concurrency"):
            continue
        cell = found.setdefault(f"{name} {row.get('workload') or 'unnamed'} x {row['concurrency']}", {})
        for metric in GATED:
            value = row.get(metric)
            if isinstance(value, (int, float)) and 0 < value < 1e300:
                cell.setdefault(metric, []).append((str(row["run_timestamp"]), str(row["run_id"]), float(value)))
    names = {key.partition(" ")[0] for key, metrics in found.items() if metrics}
    missing = [name for name in wanted.values() if name not in names]
    if missing:
        raise InvalidInput(
            "the request",
            [
                f"{name}: no completed measurement by executor {platform.executor.name}; run it first"
                for name in missing
            ],
        )
    configurations = {
        key: {
            metric: tuple(value for _, _, value in sorted(values)[-runs:]) for metric, values in sorted(metrics.items())
        }
        for key, metrics in sorted(found.items())
        if metrics
    }
    return Benchmarks(configurations, MappingProxyType({}), sha)
