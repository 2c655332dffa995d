"""What the evidence covers and what is missing, per model family.

Belongs here: the two assets, their metadata tables and their checks. Not here: the rules (`core`), reading the store
(`resources.survey`).
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg

from assets.lifecycle import OWNER
from assets.partitions import MODEL_FAMILIES
from mlcc_dagster.core.configuration import DIMENSIONS
from mlcc_dagster.core.coverage import Coverage, matrix, percent_text
from mlcc_dagster.core.gaps import Gap
from mlcc_dagster.core.plausibility import plausibility_problems
from mlcc_dagster.core.standing import Standing
from resources.dagster_resources import PlatformResource
from resources.survey import Survey

ALL_RESULTS = dg.AssetDep("benchmark_results", partition_mapping=dg.AllPartitionMapping())
SHOWN_GAPS = 50
"""Gaps in an asset's metadata table; `mlcc gaps --limit 0` lists all."""


NOTHING = Coverage.of((), {}, Standing.of(()), now=datetime.min.replace(tzinfo=UTC), stale_after=None)
"""The coverage of a family that has neither a possible vector nor evidence."""


def survey_of(platform: PlatformResource) -> Survey:
    """Take a survey with the platform of a run."""
    return Survey.take(platform.open())


def share_text(share: tuple[int, int]) -> str:
    """Return a share as counts first, then percent: `3/8 (37.5 %)`."""
    return f"{share[0]}/{share[1]} ({percent_text(share)})"


def matrix_table(coverage: Coverage, rows: str, columns: str) -> dg.MetadataValue:
    """Return two dimensions crossed as a Dagster table: `proven/possible` per cell, empty where nothing is possible."""
    crossed = matrix(coverage, rows, columns)
    records = []
    for row in crossed.rows:
        cells = {column: crossed.cell(row, column) for column in crossed.columns}
        shown = {column: f"{len(c.proven)}/{c.possible}" if c.possible else "" for column, c in cells.items()}
        records.append(dg.TableRecord({rows: row} | shown))
    schema = dg.TableSchema([dg.TableColumn(name, "string") for name in (rows, *crossed.columns)])
    return dg.MetadataValue.table(records, schema)


def coverage_metadata(coverage: Coverage, executor: str) -> dict[str, dg.MetadataValue]:
    """Return whose possibilities are counted, counts before percent, who proved it, and two crossings as tables (none where
    nothing is possible)."""
    proofs = ", ".join(f"{executor} {count}" for executor, count in coverage.proofs_by_executor.items())
    reach = (
        f"executor {executor}" if coverage.possible else f"executor {executor}, which can run nothing of this family"
    )
    metadata: dict[str, dg.MetadataValue] = {
        "counted for": dg.MetadataValue.text(reach),
        "possible": dg.MetadataValue.int(len(coverage.possible)),
        "proven": dg.MetadataValue.int(len(coverage.proven)),
        "failed": dg.MetadataValue.int(len(coverage.failed)),
        "unfeasible": dg.MetadataValue.int(len(coverage.unfeasible)),
        "untested": dg.MetadataValue.int(len(coverage.untested)),
        "stale": dg.MetadataValue.int(len(coverage.stale)),
        "tested": dg.MetadataValue.text(share_text(coverage.tested_share)),
        "passing": dg.MetadataValue.text(share_text(coverage.passing_share)),
        "proven share": dg.MetadataValue.text(share_text(coverage.proven_share)),
        "proven by": dg.MetadataValue.text(proofs or "nobody yet"),
    }
    if coverage.possible:
        for columns in ("instance_family", "quantization"):
            metadata[f"deployment_config x {columns}"] = matrix_table(coverage, "deployment_config", columns)
    return metadata


def plot_metadata(survey: Survey, coverage: Coverage, family: str) -> dict[str, dg.MetadataValue]:
    """Return the family's coverage, and its latency against throughput, as pictures; none of what has no data."""
    from resources.plots import coverage_plot, performance_plot, png_markdown

    metadata: dict[str, dg.MetadataValue] = {}
    if coverage.possible:
        picture = png_markdown(coverage_plot(coverage, "deployment_config", "quantization"), f"coverage of {family}")
        metadata["coverage plot"] = dg.MetadataValue.md(picture)
    performance = performance_plot(survey.measurements(family))
    if performance is not None:
        picture = png_markdown(performance, f"latency against throughput of {family}")
        metadata["latency against throughput"] = dg.MetadataValue.md(picture)
    return metadata


def gap_metadata(gaps: Sequence[Gap]) -> dict[str, dg.MetadataValue]:
    """Return the number of gaps, how many may be started, and the first of them as a table with reasons.

    What tells gaps apart comes first: the page cuts off a wide table at its right edge.
    """
    records = [
        dg.TableRecord(
            {"reason": gap.reason.value, "neighbours": gap.neighbours}
            | dict(zip(DIMENSIONS, gap.vector.values(), strict=True))
            | {"detail": gap.detail}
        )
        for gap in gaps[:SHOWN_GAPS]
    ]
    columns = [dg.TableColumn("reason", "string"), dg.TableColumn("neighbours", "int")]
    columns += [dg.TableColumn(name, "string") for name in (*DIMENSIONS, "detail")]
    return {
        "gaps": dg.MetadataValue.int(len(gaps)),
        "startable": dg.MetadataValue.int(sum(gap.reason.startable for gap in gaps)),
        "first gaps": dg.MetadataValue.table(records, dg.TableSchema(columns)),
    }


@dg.asset(
    partitions_def=MODEL_FAMILIES,
    deps=[ALL_RESULTS],
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name="coverage",
    owners=[OWNER],
    kinds={"python"},
    description=(
        "Per model family: which possible vectors (combinations of server, model, instance, quantization, tensor parallelism "
        "and target) are proven, failed, unfeasible or untested."
    ),
)
def coverage_matrix(context: dg.AssetExecutionContext, platform: PlatformResource) -> None:
    """Count what the store's snapshot covers, for every family of the run, from one look at the store.

    A family without any possible vector for this executor (and no evidence) is materialized with zeros.
    """
    survey = survey_of(platform)
    executor = platform.open().executor.name
    families = set(survey.coverage.families)
    for family in context.partition_keys:
        coverage = survey.coverage.of_family(family) if family in families else NOTHING
        metadata = coverage_metadata(coverage, executor) | plot_metadata(survey, coverage, family)
        context.add_asset_metadata(metadata, asset_key="coverage_matrix", partition_key=family)
    context.log.info(f"coverage of {len(context.partition_keys)} families from {len(survey.rows)} rows")


@dg.asset(
    partitions_def=MODEL_FAMILIES,
    deps=[ALL_RESULTS],
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name="coverage",
    owners=[OWNER],
    kinds={"python"},
    description="Per model family: its slice of the ranked list of what nobody has proven, each with the reason.",
)
def gap_list(context: dg.AssetExecutionContext, platform: PlatformResource) -> None:
    """List the gaps of the catalog universe that the executor can run, one slice of the global list per family."""
    survey = survey_of(platform)
    for family in context.partition_keys:
        gaps = [gap for gap in survey.gaps if gap.vector.model_family == family]
        context.add_asset_metadata(gap_metadata(gaps), asset_key="gap_list", partition_key=family)
    context.log.info(f"{len(survey.gaps)} gaps in {len(context.partition_keys)} families")


@dg.asset_check(asset="benchmark_results", description="Every result file is readable to its end and of this table.")
def results_are_readable(platform: PlatformResource) -> dg.AssetCheckResult:
    """Fail when a file in the store is damaged or foreign, naming each; the others are read all the same."""
    store = platform.open().store
    store.snapshot().read(lambda snapshot: snapshot.table())
    snapshot = store.snapshot()
    return dg.AssetCheckResult(
        passed=not snapshot.skipped,
        metadata={
            "files": dg.MetadataValue.int(len(snapshot.files)),
            "left out": dg.MetadataValue.md("\n".join(f"- {path}: {why}" for path, why in snapshot.skipped) or "none"),
            "with fewer columns": dg.MetadataValue.int(len(snapshot.older)),
        },
    )


@dg.asset_check(asset="benchmark_results", description="One row per run, configuration, workload and concurrency.")
def results_are_unique(platform: PlatformResource) -> dg.AssetCheckResult:
    """Fail when two rows have one identity (run_id, config_id, workload, concurrency)."""
    identity = ["run_id", "config_id", "workload", "concurrency"]
    table = platform.open().store.snapshot().read(lambda snapshot: snapshot.table(columns=identity))
    distinct = table.group_by(identity).aggregate([]).num_rows
    return dg.AssetCheckResult(
        passed=distinct == table.num_rows,
        metadata={"rows": dg.MetadataValue.int(table.num_rows), "distinct": dg.MetadataValue.int(distinct)},
    )


@dg.asset_check(asset="benchmark_results", description="No measured value lies outside what is possible.")
def results_are_plausible(platform: PlatformResource) -> dg.AssetCheckResult:
    """Fail when a value is negative, an error rate above 1, or percentiles are out of order; names the rows."""
    problems = [
        f"{row['run_id']} at {row['concurrency']}: {problem}"
        for row in platform.open().store.snapshot().read(lambda snapshot: snapshot.rows())
        for problem in plausibility_problems(row)
    ]
    shown = "\n".join(f"- {problem}" for problem in problems[:20]) or "none"
    return dg.AssetCheckResult(
        passed=not problems,
        metadata={"problems": dg.MetadataValue.int(len(problems)), "first": dg.MetadataValue.md(shown)},
    )


ASSETS: tuple[dg.AssetsDefinition, ...] = (coverage_matrix, gap_list)
CHECKS: tuple[dg.AssetChecksDefinition, ...] = (results_are_readable, results_are_unique, results_are_plausible)
