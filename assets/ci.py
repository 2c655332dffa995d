"""What continuous validation says of all configurations together.

Belongs here: the two assets, their tables, and the release gate as a check. Not here: what counts as a regression, a flake or
a release (`core`), reading the table (`resources.ci_lines`), one configuration's gate (`assets.lifecycle`).
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg

from assets.lifecycle import OWNER
from mlcc_dagster.core.ci_report import CiLine, Report, Row, by_configuration, by_deployment_config
from mlcc_dagster.core.flakiness import Course
from mlcc_dagster.core.stage_results import stage_results_problems
from resources.ci_lines import decide_release, read_lines
from resources.dagster_resources import PlatformResource
from resources.tier_summaries import keep_newest

ALL_GATES = dg.AssetDep("ci_test_results", partition_mapping=dg.AllPartitionMapping())
SHOWN_LINES = 200
"""Lines of a table in the metadata; `mlcc ci report` shows all."""
SHOWN_PROBLEMS = 20

WORST_FIRST = (Course.REGRESSION, Course.FAILS, Course.FLAKE, Course.PASSES, Course.UNTESTED)


def lines_table(rows: Sequence[Row]) -> dg.MetadataValue:
    """Return the lines of a report as a Dagster table, in the columns of `mlcc ci report`."""
    records = [
        dg.TableRecord(
            {
                "config": row.name,
                "status": row.status_text,
                "last test": row.last_test or "",
                "seconds": "" if row.duration_seconds is None else f"{row.duration_seconds:.1f}",
                "records": row.record_count,
                "last 20 runs": "" if row.confidence is None else str(row.confidence),
            }
        )
        for row in rows[:SHOWN_LINES]
    ]
    columns = [dg.TableColumn(name, "string") for name in ("config", "status", "last test", "seconds")]
    columns += [dg.TableColumn("records", "int"), dg.TableColumn("last 20 runs", "string")]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


def tiers_metadata(report: Report, tiers: Sequence[str]) -> dict[str, dg.MetadataValue]:
    """Return a table per tier that has records; what has no tier is in a table of its own."""
    found: dict[str, dg.MetadataValue] = {}
    for tier in (*tiers, *dict.fromkeys(row.tier for row in report.rows if row.tier not in tiers)):
        rows = [row for row in report.rows if row.tier == tier]
        if rows:
            passing = sum(row.status == "pass" for row in rows)
            found[f"{tier or 'no tier'}: {passing} of {len(rows)} passing"] = lines_table(rows)
    return found


@dg.asset(
    deps=[ALL_GATES],
    group_name="validation",
    owners=[OWNER],
    kinds={"python"},
    description=(
        "How the last test of every configuration ended, tier by tier, and over the known deployment configs; what regressed; and "
        "the summary files of each tier's newest run."
    ),
)
def tier_report(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.MaterializeResult:
    """Report the CI table as it is now, by both views."""
    opened = platform.open()
    catalog = opened.catalog
    lines = read_lines(opened.ci, catalog)
    report = by_configuration(lines, tiers=list(catalog.tiers))
    places = {c.name: c.report_order for c in catalog.deployment_configs.values() if c.report_order is not None}
    known = by_deployment_config(lines, sorted(places, key=lambda name: places[name]))
    regressed = "\n".join(f"- {line.name}: {line.test_status} ({', '.join(line.marks)})" for line in report.regressions)
    pages = keep_newest(opened)
    context.log.info(report.summary.text)
    return dg.MaterializeResult(
        metadata={
            "summary": dg.MetadataValue.text(report.summary.text),
            "passing": dg.MetadataValue.int(report.summary.passing),
            "failing": dg.MetadataValue.int(report.summary.failing),
            "regressions": dg.MetadataValue.int(len(report.regressions)),
            "regressed": dg.MetadataValue.md(regressed or "none"),
            **tiers_metadata(report, list(catalog.tiers)),
            "by deployment config": dg.MetadataValue.text(known.summary.text),
            "deployment configs": lines_table(known.rows),
            "summaries": dg.MetadataValue.md("\n".join(f"- `{page}`" for page in pages) or "none"),
        }
    )


@dg.asset_check(
    asset="tier_report",
    blocking=False,
    description="At least ceil(5/6 x N) of the N models of the ci tier pass, each by a test that is recent enough.",
)
def release_gate(platform: PlatformResource) -> dg.AssetCheckResult:
    """Fail unless enough models pass, naming everything that does not. It stops no run: it says what must not be released."""
    opened = platform.open()
    decision = decide_release(opened.ci, opened.catalog, now=datetime.now(UTC))
    return dg.AssetCheckResult(
        passed=decision.released,
        description=decision.sentence,
        metadata={
            "passing": dg.MetadataValue.int(decision.passing),
            "needed": dg.MetadataValue.int(decision.needed),
            "models": dg.MetadataValue.int(len(decision.models)),
            "reasons": dg.MetadataValue.md("\n".join(f"- {reason}" for reason in decision.reasons) or "none"),
        },
    )


@dg.asset_check(
    asset="tier_report",
    blocking=False,
    description="The stage results of every record are whole: known stages, a status, seconds, no more than 500 characters.",
)
def stage_results_are_sound(platform: PlatformResource) -> dg.AssetCheckResult:
    """Fail when a record's stage results cannot be true, naming each: records also come from elsewhere."""
    problems = [
        f"{record.config_id}: {problem}"
        for record in platform.open().ci.records()
        for problem in stage_results_problems(record.stage_results)
    ]
    shown = "\n".join(f"- {problem}" for problem in problems[:SHOWN_PROBLEMS]) or "none"
    return dg.AssetCheckResult(
        passed=not problems,
        metadata={"problems": dg.MetadataValue.int(len(problems)), "first": dg.MetadataValue.md(shown)},
    )


def stability_table(lines: Sequence[CiLine]) -> dg.MetadataValue:
    """Return the configurations with their course as a Dagster table, what needs a person first."""
    ordered = sorted(
        lines, key=lambda line: (WORST_FIRST.index(line.stability.course), -line.stability.flips, line.name)
    )
    records = []
    for line in ordered[:SHOWN_LINES]:
        found = line.stability
        records.append(
            dg.TableRecord(
                {
                    "config": line.name,
                    "course": found.course.value,
                    "known flaky": found.flaky,
                    "last 20 runs": "" if found.confidence is None else str(found.confidence),
                    "flips": found.flips,
                    "recoveries": found.recoveries,
                    "failures in a row": found.streak,
                    "chance": "" if found.chance is None else f"{found.chance:.3f}",
                }
            )
        )
    columns = [dg.TableColumn("config", "string"), dg.TableColumn("course", "string")]
    columns += [dg.TableColumn("known flaky", "bool"), dg.TableColumn("last 20 runs", "string")]
    columns += [dg.TableColumn(name, "int") for name in ("flips", "recoveries", "failures in a row")]
    columns += [dg.TableColumn("chance", "string")]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


@dg.asset(
    deps=[ALL_GATES],
    group_name="validation",
    owners=[OWNER],
    kinds={"python"},
    description=(
        "Regression or flake, per configuration: how often its results flip, how often it failed and passed again without any "
        "change, and how likely its failures in a row are if nothing broke."
    ),
)
def flakiness(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.MaterializeResult:
    """Judge the history of every configuration."""
    opened = platform.open()
    lines = read_lines(opened.ci, opened.catalog)
    courses = [line.stability.course for line in lines]
    flaky = [line.name for line in lines if line.stability.flaky]
    context.log.info(f"{len(flaky)} of {len(lines)} configurations are known to be flaky")
    return dg.MaterializeResult(
        metadata={
            "configurations": dg.MetadataValue.int(len(lines)),
            "known flaky": dg.MetadataValue.int(len(flaky)),
            "regressions": dg.MetadataValue.int(courses.count(Course.REGRESSION)),
            "likely flakes": dg.MetadataValue.int(courses.count(Course.FLAKE)),
            "by configuration": stability_table(lines),
        }
    )


ASSETS: tuple[dg.AssetsDefinition, ...] = (tier_report, flakiness)
CHECKS: tuple[dg.AssetChecksDefinition, ...] = (release_gate, stage_results_are_sound)
