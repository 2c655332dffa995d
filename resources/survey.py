"""One look at the store: what is proven, what that covers, what is missing.

Belongs here: reading a snapshot once and handing it to the pure rules, for assets, commands and pages alike, so that none
keeps its own truth. Not here: the rules (`core.coverage`, `core.gaps`, `core.standing`).
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from catalog.model import Catalog
from mlcc_dagster.core.configuration import Vector
from mlcc_dagster.core.coverage import Coverage
from mlcc_dagster.core.gaps import Gap, GapList, catalog_gaps, observed_gaps
from mlcc_dagster.core.resolution import possible_vectors
from mlcc_dagster.core.standing import Standing
from resources.executor import Executor
from resources.result_store import ResultStore, Snapshot

EVIDENCE_COLUMNS: tuple[str, ...] = (
    "deployment_config",
    "model_family",
    "instance_family",
    "quantization",
    "tensor_parallel_degree",
    "deployment_target",
    "status",
    "run_timestamp",
    "run_id",
    "executor",
    "failure_category",
    "failure_reason",
)


MEASURED_COLUMNS: tuple[str, ...] = (
    "config_id",
    "deployment_config",
    "model_family",
    "quantization",
    "instance_type",
    "executor",
    "status",
    "run_timestamp",
    "concurrency",
    "request_throughput_rps",
    "output_token_throughput_tps",
    "ttft_p50_ms",
    "e2e_latency_p99_ms",
)


@dataclass(frozen=True)
class Survey:
    """What one snapshot says, against what the catalog and the executor make possible. `taken_at` is UTC."""

    snapshot: Snapshot
    catalog: Catalog
    executor: Executor
    taken_at: datetime
    stale_after: timedelta

    @classmethod
    def take(cls, store: ResultStore, catalog: Catalog, executor: Executor, *, now: datetime | None = None) -> "Survey":
        """Look at the store now. A proof is stale when it is older than the shortest limit of the tiers."""
        limits = [tier.stale_after_seconds for tier in catalog.tiers.values()]
        return cls(
            snapshot=store.snapshot(),
            catalog=catalog,
            executor=executor,
            taken_at=now or datetime.now(UTC),
            stale_after=timedelta(seconds=min(limits)),
        )

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The evidence of all rows: the six dimensions, status, time, run and failure."""
        return self.snapshot.read(lambda snapshot: snapshot.rows(columns=EVIDENCE_COLUMNS))

    def measurements(self, family: str) -> list[dict[str, Any]]:
        """The completed rows of one model family that this executor measured, with what a plot of performance needs."""
        return [row for row in self._measured if row["model_family"] == family]

    @cached_property
    def _measured(self) -> list[dict[str, Any]]:
        rows = self.snapshot.read(lambda snapshot: snapshot.rows(columns=MEASURED_COLUMNS))
        kept = {"status": "completed", "executor": self.executor.name}
        return [row for row in rows if row["concurrency"] and all(row[name] == value for name, value in kept.items())]

    @cached_property
    def standing(self) -> Standing:
        """The verdict on every vector with evidence."""
        return Standing.of(self.rows)

    @cached_property
    def possible(self) -> tuple[Vector, ...]:
        """The vectors that the catalog's constraints admit and the executor can run."""
        return possible_vectors(self.catalog, self.executor.can_run, reaches=self.executor.reaches)

    @cached_property
    def coverage(self) -> Coverage:
        """The possible vectors by what is known of them."""
        return Coverage.of(self.possible, {}, self.standing, now=self.taken_at, stale_after=self.stale_after)

    @cached_property
    def gaps(self) -> list[Gap]:
        """The possible vectors that are not proven, in rank order with their reasons (catalog universe)."""
        return catalog_gaps(self.possible, self.standing, now=self.taken_at)

    @cached_property
    def observed(self) -> GapList:
        """The gaps among the values that any row has (observed universe)."""
        return observed_gaps(self.rows)
