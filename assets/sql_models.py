"""The SQL models as assets: one run refreshes them all.

Belongs here: assets, dependencies and checks made from what `dbt_style_sql` declares, and their metadata. Not here: the models
themselves, reading them (`resources.sql_models`), running them (`resources.model_runs`).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from assets.ci import ALL_GATES, flakiness
from assets.coverage import ALL_RESULTS, coverage_matrix, gap_list
from assets.lifecycle import OWNER
from assets.triage import triage_matrix
from assets.verdicts import unfeasible_verdicts
from resources.dagster_resources import PlatformResource
from resources.model_runs import ModelRun, TestOutcome, run_models
from resources.sql_engine import SCHEMA, TABLE
from resources.sql_models import DataTest, Model, ModelColumn, SqlProject, shipped_project

SOURCE_ASSETS: dict[str, dg.AssetDep] = {
    TABLE: ALL_RESULTS,
    "ci_attempts": ALL_GATES,
    "ci_records": ALL_GATES,
    "ci_stability": dg.AssetDep(flakiness.key),
    "gap_list": dg.AssetDep(gap_list.key, partition_mapping=dg.AllPartitionMapping()),
    "possible_vectors": dg.AssetDep(coverage_matrix.key, partition_mapping=dg.AllPartitionMapping()),
    "unfeasible_verdicts": dg.AssetDep(unfeasible_verdicts.key),
    "triage_cells": dg.AssetDep(triage_matrix.key, partition_mapping=dg.AllPartitionMapping()),
}
"""The asset that each source of the models is published by."""


def asset_key(name: str) -> dg.AssetKey:
    """Return the asset of a model, under the name of its table: `mlcc_ci/<model>`."""
    return dg.AssetKey([SCHEMA, name])


def origin_key(name: str) -> dg.AssetKey:
    """Return the asset that a model's column comes from: of another model, or of a source's publisher."""
    return SOURCE_ASSETS[name].asset_key if name in SOURCE_ASSETS else asset_key(name)


def column_schema(model: Model) -> dg.TableSchema:
    """Return a model's columns with descriptions, units and what its tests claim of them."""

    def column(each: ModelColumn) -> dg.TableColumn:
        tests = {test.kind: test for test in model.tests if test.column == each.name}
        others = [test.claim for kind, test in tests.items() if kind in ("accepted_values", "relationships")]
        return dg.TableColumn(
            each.name,
            each.data_type,
            description=f"{each.description} ({each.unit})" if each.unit else each.description,
            constraints=dg.TableColumnConstraints(
                nullable="not_null" not in tests, unique="unique" in tests, other=others
            ),
        )

    claims = dg.TableConstraints([test.claim for test in model.tests if test.column is None])
    return dg.TableSchema([column(each) for each in model.columns], constraints=claims)


def column_lineage(project: SqlProject, model: Model) -> dg.TableColumnLineage:
    """Return where the values of each of a model's columns come from; a column of counts alone comes from none."""
    return dg.TableColumnLineage(
        {
            column: [dg.TableColumnDep(origin_key(table), name) for table, name in origins]
            for column, origins in project.lineage(model).items()
            if origins
        }
    )


def spec_of(model: Model) -> dg.AssetSpec:
    """Return the asset of a model: it depends on what its SQL reads."""
    return dg.AssetSpec(
        asset_key(model.name),
        deps=[*map(asset_key, model.refs), *(SOURCE_ASSETS[name] for name in model.sources)],
        description=model.description,
        group_name=model.layer,
        owners=[OWNER],
        kinds={"sql", "parquet" if model.layer == "marts" else "view"},
        # may be left out of a run: that is what makes the run subsettable
        skippable=True,
        metadata={
            "dagster/column_schema": column_schema(model),
            "dagster/table_name": f"{SCHEMA}.{model.name}",
            "grain": dg.MetadataValue.text(", ".join(model.grain)),
            "SQL": dg.MetadataValue.md(f"```sql\n{model.text.strip()}\n```"),
        },
    )


def check_specs(model: Model) -> list[dg.AssetCheckSpec]:
    """Return a model's tests as checks; none of them blocks, since a mart that is wrong must be seen."""
    return [dg.AssetCheckSpec(test.name, asset=asset_key(model.name), description=test.claim) for test in model.tests]


def preview_table(run: ModelRun) -> dg.MetadataValue:
    """Return a model's first rows as a Dagster table; dates are texts."""
    plain = (str, int, float, bool)
    records = [
        dg.TableRecord({name: value if isinstance(value, plain) else _text(value) for name, value in row.items()})
        for row in run.preview.to_pylist()
    ]
    return dg.MetadataValue.table(
        records, dg.TableSchema([dg.TableColumn(c.name, c.data_type) for c in run.model.columns])
    )


def _text(value: object) -> str:
    return "" if value is None else str(value)


def run_metadata(project: SqlProject, run: ModelRun) -> dict[str, Any]:
    """Return what a refresh says of a model: rows, columns with their lineage, the first rows, the file of a mart."""
    metadata: dict[str, Any] = {
        "dagster/row_count": run.row_count,
        "dagster/column_schema": column_schema(run.model),
        "dagster/column_lineage": column_lineage(project, run.model),
        "first rows": preview_table(run),
    }
    if run.file is not None:
        metadata["file"] = dg.MetadataValue.path(str(run.file))
    return metadata


def check_result(outcome: TestOutcome) -> dg.AssetCheckResult:
    """Return a test's outcome as the result of its check, with the first rows that break its claim."""
    test: DataTest = outcome.test
    shown = "\n".join(f"- {', '.join(f'{name} = {value}' for name, value in row.items())}" for row in outcome.first)
    return dg.AssetCheckResult(
        passed=outcome.passed,
        asset_key=asset_key(test.model),
        check_name=test.name,
        metadata={"failures": dg.MetadataValue.int(outcome.failures), "first": dg.MetadataValue.md(shown or "none")},
    )


def models_asset(project: SqlProject) -> dg.AssetsDefinition:
    """Return the asset definition of a project's models: one op, any selection of them, one look at the results."""
    models: Sequence[Model] = project.models

    @dg.multi_asset(
        name="sql_models",
        specs=[spec_of(model) for model in models],
        check_specs=[check for model in models for check in check_specs(model)],
        can_subset=True,
    )
    def sql_models(
        context: dg.AssetExecutionContext, platform: PlatformResource
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        """Compute the chosen models from one snapshot of the results, publish the marts, test every claim."""
        keys, checks = context.selected_asset_keys, context.selected_asset_check_keys
        asked = keys | {check.asset_key for check in checks}
        names = [model.name for model in models if asset_key(model.name) in asked]
        for run in run_models(platform.open(), project, names):
            key = asset_key(run.model.name)
            if key in keys:
                yield dg.MaterializeResult(asset_key=key, metadata=run_metadata(project, run))
            for outcome in run.tests:
                if dg.AssetCheckKey(key, outcome.test.name) in checks:
                    yield check_result(outcome)
        context.log.info(f"{len(names)} models from one snapshot of the results")

    return sql_models


sql_models = models_asset(shipped_project())
