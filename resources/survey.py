"""One look at the store: what is proven, what that covers, what is missing.

Belongs here: reading a snapshot once and handing it to the pure rules, for assets, commands and pages alike, so that none
keeps its own truth. Not here: the rules (`core.coverage`, `core.gaps`, `core.standing`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from types import MappingProxyType
from typing import Any

from catalog.model import Catalog
from mlcc_dagster.core.budget import Reservation
from mlcc_dagster.core.configuration import Vector
from mlcc_dagster.core.coverage import Coverage
from mlcc_dagster.core.gaps import Gap, GapList, catalog_gaps, observed_gaps, proven_neighbours
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.interactions import InteractionCoverage, interaction_coverage
from mlcc_dagster.core.resolution import Unresolved, resolve
from mlcc_dagster.core.result_columns import moment_of
from mlcc_dagster.core.standing import Standing
from mlcc_dagster.core.universe import Universe
from mlcc_dagster.core.verdicts import CONFIGURATION, Verdict, Word, expiries, marks, verdicts
from resources.executor import Executor
from resources.platform import Platform
from resources.result_store import Snapshot

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
    "engine",
    "evidence",
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
    """What the results say, against what the catalog and the executor make possible. `taken_at` is UTC.

    `snapshot` is the store's, none where `given` rows of another origin are asked; `as_of` leaves out what came later;
    `words` are a person's. `running` are the config ids that ran, and `living` the promises that held money,
    just before it was taken.
    """

    catalog: Catalog
    executor: Executor
    taken_at: datetime
    snapshot: Snapshot | None = None
    given: Sequence[Mapping[str, Any]] = ()
    words: tuple[Word, ...] = ()
    as_of: datetime | None = None
    running: frozenset[str] = frozenset()
    living: tuple[Reservation, ...] = ()

    @classmethod
    def take(cls, platform: Platform, *, as_of: datetime | None = None) -> "Survey":
        """Look at the platform's store and a person's words now; with `as_of` as they were then."""
        # Before the results: a run that ends in between is then known to have been there, and is not taken for a gap.
        running = frozenset(attempt.config_id for attempt in platform.ci.running())
        living = tuple(platform.ledger.living())
        return cls(
            catalog=platform.catalog,
            executor=platform.executor,
            running=running,
            living=living,
            taken_at=as_of or datetime.now(UTC),
            snapshot=platform.store.snapshot(),
            words=platform.words.latest(until=as_of),
            as_of=as_of,
        )

    @classmethod
    def of_rows(
        cls, rows: Sequence[Mapping[str, Any]], catalog: Catalog, executor: Executor, *, as_of: datetime | None = None
    ) -> "Survey":
        """Look at rows of another origin. A person's words are about a home's vectors and do not touch them."""
        return cls(catalog=catalog, executor=executor, taken_at=as_of or datetime.now(UTC), given=rows, as_of=as_of)

    @property
    def stale_after(self) -> timedelta:
        """How old a proof may be: the shortest limit of the tiers."""
        return timedelta(seconds=min(tier.stale_after_seconds for tier in self.catalog.tiers.values()))

    @cached_property
    def rows(self) -> Sequence[Mapping[str, Any]]:
        """The evidence of all rows: the six dimensions, status, time, run, failure and what a verdict depended on."""
        rows: Sequence[Mapping[str, Any]] = self.given
        if self.snapshot is not None:
            rows = self.snapshot.read(lambda snapshot: snapshot.rows(columns=EVIDENCE_COLUMNS))
        if self.as_of is None:
            return rows
        return [row for row in rows if self._known_then(row)]

    @property
    def whole_rows(self) -> Sequence[Mapping[str, Any]]:
        """The same rows with every column they have; the store's also under the name `tp_degree`."""
        if self.snapshot is None:
            return self.rows
        rows = self.snapshot.read(lambda snapshot: snapshot.rows())
        found = [row | {"tp_degree": row["tensor_parallel_degree"]} for row in rows]
        return found if self.as_of is None else [row for row in found if self._known_then(row)]

    def _known_then(self, row: Mapping[str, Any]) -> bool:
        at = moment_of(row.get("run_timestamp"))
        return at is None or self.as_of is None or at <= self.as_of

    def measurements(self, family: str) -> list[dict[str, Any]]:
        """The completed rows of one model family that this executor measured, with what a plot of performance needs."""
        return [row for row in self._measured if row["model_family"] == family]

    @cached_property
    def _measured(self) -> list[dict[str, Any]]:
        if self.snapshot is None:
            return []
        rows = self.snapshot.read(lambda snapshot: snapshot.rows(columns=MEASURED_COLUMNS))
        kept = {"status": "completed", "executor": self.executor.name}
        return [row for row in rows if row["concurrency"] and all(row[name] == value for name, value in kept.items())]

    @cached_property
    def standing(self) -> Standing:
        """The verdict on every vector with evidence or a person's mark; verdicts whose ground has changed are over."""
        found = Standing.of(self.rows)
        constraints = {each.id: each.version for each in self.catalog.constraints.values()}
        ends = expiries(found.evidence, self.words, self._today, constraints)
        return replace(found, marks=MappingProxyType(marks(self.words)), expiries=MappingProxyType(ends))

    @property
    def unfeasible(self) -> list[Verdict]:
        """The verdicts that a vector is unfeasible, live and expired."""
        return verdicts(self.standing, self.words)

    def _today(self, vector: Vector) -> Mapping[str, str]:
        known = self._digests.get(vector.deployment_config)
        if known is None:
            known = self._digests[vector.deployment_config] = self.executor.digests(vector.deployment_config)
        concrete = resolve(vector, self.catalog, self.executor.can_run)
        # What preflight refuted says nothing of another, smaller model that makes the same vector concrete.
        return known if isinstance(concrete, Unresolved) else {**known, CONFIGURATION: config_id(concrete)}

    @cached_property
    def _digests(self) -> dict[str, Mapping[str, str]]:
        return {}

    @cached_property
    def universe(self) -> Universe:
        """What could exist within the executor's reach: what is possible, and how much each constraint rules out."""
        return Universe.of(self.catalog, self.executor.can_run, reaches=self.executor.reaches)

    @property
    def possible(self) -> tuple[Vector, ...]:
        """The vectors that the catalog's constraints admit and the executor can run."""
        return self.universe.possible

    @cached_property
    def coverage(self) -> Coverage:
        """The possible vectors by what is known of them."""
        return Coverage.of(self.possible, {}, self.standing, now=self.taken_at, stale_after=self.stale_after)

    def interactions(self, strength: int) -> InteractionCoverage:
        """The t-way combinations of the possible vectors, and which of them proven vectors contain. Raises `UsageError`
        for another strength than 1, 2 or 3."""
        return interaction_coverage(self.possible, self.standing.proven, strength=strength)

    @cached_property
    def gaps(self) -> list[Gap]:
        """The possible vectors that are not proven, in rank order with their reasons (catalog universe)."""
        return catalog_gaps(self.possible, self.standing, now=self.taken_at)

    def gap(self, vector: Vector) -> Gap:
        """Return an unproven vector as a gap, also one that is not among the possible ones. Raises `ValueError` for a
        proven one."""
        neighbours = len(proven_neighbours(vector, self.standing.proven))
        return Gap(vector, neighbours, *self.standing.reason(vector, now=self.taken_at))

    @cached_property
    def observed(self) -> GapList:
        """The gaps among the values that any row has (observed universe)."""
        return observed_gaps(self.rows)
