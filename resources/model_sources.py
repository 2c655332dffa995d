"""The rows of what models read beside the results: the CI table, coverage, the gap list, verdicts, as Arrow tables.

Belongs here: turning what the platform knows into tables with the columns of `sources.yml`, as of one snapshot of the results.
Not here: any rule of its own (`resources.survey`, `resources.ci_lines`), the models (`sql_models.py`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mlcc_dagster.core.configuration import DIMENSIONS, Vector
from mlcc_dagster.core.records import utc_text
from resources.ci_lines import read_lines
from resources.platform import Platform
from resources.result_store import Snapshot
from resources.sql_engine import TABLE, Relation, SqlEngine
from resources.sql_models import Source, SqlProject, shipped_project
from resources.survey import Survey
from resources.triage.kept_runs import cell_rows, kept_runs

if TYPE_CHECKING:
    import pyarrow as pa

Row = Mapping[str, Any]


@dataclass
class PlatformSources:
    """Reads the sources of one platform. What several of them are computed from is computed once per snapshot."""

    platform: Platform
    _surveys: dict[str, Survey] = field(default_factory=dict)

    def relations(self, sources: Mapping[str, Source]) -> dict[str, Relation]:
        """Return the sources beside the results as relations of the SQL engine.

        Raises `KeyError` for a declared source that nobody here knows how to read.
        """
        return {name: self._relation(source) for name, source in sources.items() if name != TABLE}

    def _relation(self, source: Source) -> Relation:
        reading = _READERS[source.name]

        def rows(snapshot: Snapshot) -> "pa.Table":
            return arrow_table(source, reading(self, snapshot))

        return Relation(source.name, {column.name: column.data_type for column in source.columns}, rows=rows)

    def survey(self, snapshot: Snapshot) -> Survey:
        """Return the survey of a snapshot, the same one for all sources that rest on it."""
        found = self._surveys.get(snapshot.version)
        if found is None:
            found = replace(Survey.take(self.platform), snapshot=snapshot)
            self._surveys = {snapshot.version: found}
        return found


def arrow_table(source: Source, rows: Iterable[Row]) -> "pa.Table":
    """Return rows as an Arrow table with the columns of a source; what a row has beyond them is left out.

    Raises `KeyError` where a row lacks a column, so that a column is never NULL by mistake.
    """
    import pyarrow as pa

    kinds = {
        "varchar": pa.string(),
        "integer": pa.int32(),
        "bigint": pa.int64(),
        "double": pa.float64(),
        "boolean": pa.bool_(),
        "date": pa.date32(),
    }
    schema = pa.schema([pa.field(column.name, kinds[column.data_type]) for column in source.columns])
    return pa.Table.from_pylist([{name: row[name] for name in schema.names} for row in rows], schema=schema)


def model_engine(platform: Platform, *, seconds: float | None = None, memory_mb: int | None = None) -> SqlEngine:
    """Return the SQL engine over the platform's results, its sources and every shipped model. The limits of one query are those
    of the home's settings unless given. Models are computed when they are asked, from the snapshot of that query."""
    return engine_of(platform, shipped_project(), seconds=seconds, memory_mb=memory_mb)


def engine_of(
    platform: Platform, project: SqlProject, *, seconds: float | None = None, memory_mb: int | None = None
) -> SqlEngine:
    """Return the SQL engine over the platform's results, its sources and the models of a project."""
    settings = platform.home.settings
    return SqlEngine(
        platform.store,
        seconds=seconds or settings.sql_seconds,
        memory_mb=memory_mb or settings.sql_memory_mb,
        relations=PlatformSources(platform).relations(project.sources) | project.views(),
    )


def _attempts(sources: PlatformSources, snapshot: Snapshot) -> Iterator[Row]:
    for attempt in sources.platform.ci.attempts():
        yield vars(attempt)


def _records(sources: PlatformSources, snapshot: Snapshot) -> Iterator[Row]:
    for record in sources.platform.ci.records():
        configuration = record.configuration
        yield {
            "config_id": record.config_id,
            "catalog_id": record.e2e_catalog_id,
            "tier": record.tier,
            "test_status": record.test_status,
            "deployment_config": configuration.deployment_config,
            "model_name": configuration.model_name,
            "model_family": configuration.model_family,
            "instance_type": configuration.instance_type,
            "instance_family": configuration.instance_family,
            "quantization": configuration.quantization,
            "tp_degree": configuration.tp_degree,
            "deployment_target": configuration.deployment_target,
        }


def _stability(sources: PlatformSources, snapshot: Snapshot) -> Iterator[Row]:
    for line in read_lines(sources.platform.ci, sources.platform.catalog):
        found = line.stability
        low, high = found.confidence.interval if found.confidence else (None, None)
        yield {
            "config_id": line.config_id,
            "course": found.course.value,
            "known_flaky": found.flaky,
            "runs": found.confidence.runs if found.confidence else 0,
            "passes": found.confidence.passes if found.confidence else 0,
            "pass_share_low": low,
            "pass_share_high": high,
            "flips": found.flips,
            "flip_rate": found.flip_rate,
            "recoveries": found.recoveries,
            "failing_streak": found.streak,
            "chance": found.chance,
        }


def _dimensions(vector: Vector) -> dict[str, str]:
    return dict(zip(DIMENSIONS, vector.values(), strict=True))


def _gaps(sources: PlatformSources, snapshot: Snapshot) -> Iterator[Row]:
    for rank, gap in enumerate(sources.survey(snapshot).gaps, start=1):
        yield _dimensions(gap.vector) | {
            "gap_rank": rank,
            "neighbours": gap.neighbours,
            "reason": gap.reason.value,
            "startable": gap.reason.startable,
            "detail": gap.detail,
        }


def _vectors(sources: PlatformSources, snapshot: Snapshot) -> Iterator[Row]:
    coverage = sources.survey(snapshot).coverage
    for status in ("proven", "failed", "unfeasible", "untested"):
        for vector in sorted(getattr(coverage, status)):
            yield _dimensions(vector) | {"status": status, "stale": vector in coverage.stale}


def _verdicts(sources: PlatformSources, snapshot: Snapshot) -> Iterator[Row]:
    for verdict in sources.survey(snapshot).unfeasible:
        since = None if verdict.since is None else utc_text(verdict.since)
        yield _dimensions(verdict.vector) | {"live": verdict.live, "why": verdict.why, "since": since}


def _triage_cells(sources: PlatformSources, snapshot: Snapshot) -> Iterator[Row]:
    for run in kept_runs(sources.platform.home):
        yield from cell_rows(run)


_READERS: Mapping[str, Callable[[PlatformSources, Snapshot], Iterator[Row]]] = {
    "ci_attempts": _attempts,
    "ci_records": _records,
    "ci_stability": _stability,
    "gap_list": _gaps,
    "possible_vectors": _vectors,
    "triage_cells": _triage_cells,
    "unfeasible_verdicts": _verdicts,
}
