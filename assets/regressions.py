"""What later runs are compared with, and what got worse.

Belongs here: the assets, their tables and plots, and the check. Not here: the rules (`core.regressions`,
`core.measured_baselines`), reading the store (`resources.measured_histories`), regressions of test outcomes (`assets.ci`).
"""

from collections.abc import Mapping, Sequence

import dagster as dg

from assets.coverage import ALL_RESULTS
from assets.lifecycle import OWNER
from mlcc_dagster.core.compared_metrics import read_thresholds
from mlcc_dagster.core.measured_baselines import SHOWN, BaselineLine
from mlcc_dagster.core.regressions import History, State
from resources.dagster_resources import PlatformResource
from resources.measured_histories import MeasuredHistories, RegressionReport

SHOWN_ROWS = 200
"""Rows of a table in the metadata; `mlcc baselines list` and `mlcc regressions list --all` show all."""

SHOWN_PLOTS = 6
"""Histories in the asset's picture, what needs a person first."""

_NUMBERS = {"runs": "int", "change %": "float", "noise %": "float", "would catch %": "float"} | dict.fromkeys(
    SHOWN, "float"
)


def _table(records: Sequence[Mapping[str, str | int | float | None]], names: Sequence[str]) -> dg.MetadataValue:
    columns = [dg.TableColumn(name, _NUMBERS.get(name, "string")) for name in names]
    return dg.MetadataValue.table([dg.TableRecord(record) for record in records], dg.TableSchema(columns))


def baselines_table(lines: Sequence[BaselineLine], histories: MeasuredHistories) -> dg.MetadataValue:
    """Return the baselines of the next runs as a Dagster table, in the columns of `mlcc baselines list`."""
    names = ("configuration", "load", "metric", "runs", *SHOWN)
    records = [
        {
            "configuration": histories.name_of(line.bucket.config_id),
            "load": line.bucket.load,
            "metric": line.metric.column,
            "runs": line.runs,
            **{name: line.value(name) for name in SHOWN},
        }
        for line in lines[:SHOWN_ROWS]
    ]
    return _table(records, names)


def histories_table(
    found: Sequence[History], report: RegressionReport, histories: MeasuredHistories
) -> dg.MetadataValue:
    """Return judged histories as a Dagster table, in the columns of `mlcc regressions list`."""
    names = ("configuration", "load", "metric", "state", "change %", "since", "noise %", "would catch %", "runs")
    records = [
        {
            "configuration": histories.name_of(each.bucket.config_id),
            "load": each.bucket.load,
            "metric": each.metric.column,
            "state": each.state.value,
            "change %": _rounded(each.changed_pct),
            "since": each.since.run_id if each.since else "",
            "noise %": _rounded(each.noise_pct),
            "would catch %": _rounded(each.detectable_pct),
            "runs": len(each.runs),
            "word": report.word_on(each) or "",
            "why": each.reason,
        }
        for each in found[:SHOWN_ROWS]
    ]
    return _table(records, (*names, "word", "why"))


@dg.asset(
    deps=[ALL_RESULTS],
    group_name="performance",
    owners=[OWNER],
    kinds={"python"},
    description=(
        "What the next run of each configuration is compared with, per workload, concurrency and metric: the previous run, the "
        "best, the median of five, and the run that a person blessed."
    ),
)
def baselines(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.MaterializeResult:
    """Take the baselines from the store's snapshot and a person's words."""
    histories = MeasuredHistories.take(platform.open())
    lines = histories.baselines()
    blessed = "\n".join(
        f"- {histories.name_of(each.config_id)}: {each.run_id} ({each.reason}, {each.who})"
        for each in histories.blessings.values()
    )
    context.log.info(f"baselines of {len(lines)} metrics")
    return dg.MaterializeResult(
        metadata={
            "metrics": dg.MetadataValue.int(len(lines)),
            "baselines": baselines_table(lines, histories),
            "blessed": dg.MetadataValue.md(blessed or "none"),
        }
    )


@dg.asset(
    deps=[ALL_RESULTS, "baselines"],
    group_name="performance",
    owners=[OWNER],
    kinds={"python"},
    description=(
        "Per configuration, workload, concurrency and metric: whether its level changed for the worse, when and by how much; "
        "what is suspicious; how small a change would have been found; and whose tests regressed."
    ),
)
def regression_report(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.MaterializeResult:
    """Judge every history of the store's snapshot, with the default thresholds."""
    from resources.history_plots import history_plot
    from resources.plots import png_markdown

    histories = MeasuredHistories.take(platform.open())
    report = histories.regression_report(read_thresholds(()))
    telling = [each for each in report.found if each.state not in (State.STABLE, State.INSUFFICIENT)]
    tests = "\n".join(f"- {each.line.name}: {each.state.value}, {each.reason}" for each in report.tests)
    metadata: dict[str, dg.MetadataValue] = {
        "histories": dg.MetadataValue.int(len(report.found)),
        **{state.value: dg.MetadataValue.int(len(report.of(state))) for state in State},
        "counting": dg.MetadataValue.int(len(report.counting)),
        "by metric": histories_table(report.found, report, histories),
        "tests": dg.MetadataValue.md(tests or "none"),
    }
    # A quiet platform shows its longest histories: what would have been found is told there too.
    drawn = (telling or sorted(report.found, key=lambda each: -len(each.runs)))[:SHOWN_PLOTS]
    if drawn:
        titles = [f"{histories.name_of(each.bucket.config_id)}, {each.bucket.load}" for each in drawn]
        picture = png_markdown(history_plot(drawn, titles), "histories with their changes of level")
        metadata["history plots"] = dg.MetadataValue.md(picture)
    context.log.info(f"{len(report.found)} histories, {len(report.of(State.REGRESSION))} regressions")
    return dg.MaterializeResult(metadata=metadata)


@dg.asset_check(
    asset="regression_report",
    blocking=False,
    description="No regression of an armed configuration is without an acknowledgement that still holds.",
)
def no_regression_counts(platform: PlatformResource) -> dg.AssetCheckResult:
    """Fail when a regression counts, naming each; what is not armed or acknowledged is only recorded."""
    histories = MeasuredHistories.take(platform.open())
    report = histories.regression_report(read_thresholds(()))
    told = "\n".join(
        f"- {histories.name_of(each.bucket.config_id)}, {each.bucket.load}: {each.metric.column} {each.changed_pct:+.1f} %, "
        f"since {each.since.run_id if each.since else 'its first run'}"
        for each in report.counting
    )
    return dg.AssetCheckResult(
        passed=not report.counting,
        metadata={
            "counting": dg.MetadataValue.int(len(report.counting)),
            "recorded only or acknowledged": dg.MetadataValue.int(
                len(report.of(State.REGRESSION)) - len(report.counting)
            ),
            "regressions": dg.MetadataValue.md(told or "none"),
        },
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


ASSETS: tuple[dg.AssetsDefinition, ...] = (baselines, regression_report)
CHECKS: tuple[dg.AssetChecksDefinition, ...] = (no_regression_counts,)
