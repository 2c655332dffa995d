"""Homes with a past: results of many runs, published as runs publish them."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from command_calls import result_row

from mlcc_dagster.core.records import utc_text
from resources.result_store import ResultStore

FOREST, FOREST_NAME = "be73540b7a4eb590", "local-fastapi-forest-1cpu"
LATENCY = "e2e_latency_p90_ms"
BEGIN = datetime(2026, 9, 1, 6, tzinfo=UTC)


def wobble(values: Iterable[float]) -> list[float]:
    """Return values with a little noise that is always the same."""
    return [value * (1 + 0.01 * ((7 * n) % 5 - 2) / 2) for n, value in enumerate(values)]


def publish_runs(
    home: Path, latencies: Sequence[float], *, config_id: str = FOREST, first: int = 1, **values: Any
) -> None:
    """Publish a run a day with that request latency (p90, ms) at concurrency 1; `values` change every row."""
    store = ResultStore(home / "results")
    for number, latency in enumerate(latencies, start=first):
        run_id, at = f"{config_id}-g{number}", BEGIN + timedelta(days=number)
        measured = {
            LATENCY: latency,
            "e2e_latency_p99_ms": 2 * latency,
            "run_id": run_id,
            "run_timestamp": utc_text(at),
        }
        store.publish(run_id, [result_row(config_id, **measured | values)])
