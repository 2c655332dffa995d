"""The SQL models as assets: what they depend on, what a refresh says of them, which claims fail."""

from pathlib import Path

import dagster as dg
import pytest
from scripted_runs import QUIET, Graph

from assets.sql_models import SOURCE_ASSETS, asset_key, models_asset, sql_models
from resources.model_runs import marts_folder
from resources.sql_models import SqlProject, load_project, shipped_project

PROJECT = shipped_project()


def refreshed(
    graph: Graph, *names: str, asset: dg.AssetsDefinition = sql_models, checks: bool = True
) -> dg.ExecuteInProcessResult:
    """Run the models (all, or those named) over the graph's platform."""
    chosen = dg.AssetSelection.assets(*map(asset_key, names)) if names else dg.AssetSelection.assets(asset)
    job = dg.define_asset_job("models", selection=chosen if checks else chosen.without_checks())
    defs = dg.Definitions(
        assets=[asset], jobs=[job], resources={"platform": graph.resource}, executor=dg.in_process_executor
    )
    return defs.resolve_job_def("models").execute_in_process(instance=graph.instance, run_config=QUIET)


def materialized(run: dg.ExecuteInProcessResult) -> dict[str, dg.AssetMaterialization]:
    found = (event.step_materialization_data.materialization for event in run.get_asset_materialization_events())
    return {each.asset_key.path[-1]: each for each in found}


def test_every_model_is_an_asset_of_its_layer_that_depends_on_what_it_reads():
    assert sql_models.keys == {asset_key(model.name) for model in PROJECT.models}
    for model in PROJECT.models:
        spec = sql_models.get_asset_spec(asset_key(model.name))
        expected = {asset_key(name) for name in model.refs} | {SOURCE_ASSETS[n].asset_key for n in model.sources}
        assert {dep.asset_key for dep in spec.deps} == expected, model.name
        assert spec.group_name == model.layer
        assert spec.description == model.description
        assert spec.owners
        assert spec.kinds


def test_every_source_is_published_by_an_asset():
    assert set(SOURCE_ASSETS) == set(PROJECT.sources)
    assert {each.asset_key.to_user_string() for each in SOURCE_ASSETS.values()} == {
        "benchmark_results",
        "ci_test_results",
        "coverage_matrix",
        "flakiness",
        "gap_list",
        "triage_matrix",
        "unfeasible_verdicts",
    }


def test_every_test_of_a_model_is_a_check_of_its_asset():
    wanted = {(model.name, test.name) for model in PROJECT.models for test in model.tests}
    assert {(key.asset_key.path[-1], key.name) for key in sql_models.check_keys} == wanted
    assert len(wanted) == sum(len(model.tests) for model in PROJECT.models), "no two checks of one name"


def test_one_run_refreshes_all_models_and_every_check_passes(graph: Graph):
    assert graph.run().success
    run = refreshed(graph)
    found = materialized(run)
    assert set(found) == {model.name for model in PROJECT.models}
    evaluations = run.get_asset_check_evaluations()
    assert len(evaluations) == sum(len(model.tests) for model in PROJECT.models)
    assert [(each.asset_key, each.check_name) for each in evaluations if not each.passed] == []
    latest = found["latest_result"].metadata
    assert latest["dagster/row_count"].value == 1
    (first,) = latest["first rows"].records  # type: ignore[attr-defined]
    assert (first.data["config_id"], first.data["status"]) == (graph.config_id, "completed")
    (spent,) = found["cost_by_day"].metadata["first rows"].records  # type: ignore[attr-defined]
    assert spent.data["runs"] == 1, "a day is shown as text and does not break the page"
    assert Path(str(latest["file"].value)).exists()
    assert "file" not in found["stg_results"].metadata, "a view has none"


def test_a_model_says_its_columns_and_where_their_values_come_from(graph: Graph):
    found = materialized(refreshed(graph, "stg_results", "coverage_summary", checks=False))
    schema = found["coverage_summary"].metadata["dagster/column_schema"].schema  # type: ignore[attr-defined]
    columns = {column.name: column for column in schema.columns}
    assert columns["possible"].type == "bigint"
    assert columns["possible"].description.endswith("(vectors)")
    assert columns["possible"].constraints.nullable is False
    assert columns["failed"].constraints.nullable is True
    assert schema.constraints.other == ["No two rows have the same deployment_config, model_family."]
    staged = found["stg_results"].metadata["dagster/column_lineage"].value  # type: ignore[attr-defined]
    assert staged.deps_by_column["tp_degree"] == [
        dg.TableColumnDep(dg.AssetKey("benchmark_results"), "tensor_parallel_degree")
    ]
    summary = found["coverage_summary"].metadata["dagster/column_lineage"].value  # type: ignore[attr-defined]
    assert summary.deps_by_column["stale"] == [dg.TableColumnDep(asset_key("stg_vectors"), "stale")]
    assert "possible" not in summary.deps_by_column, "a count of rows comes from no column"


def test_a_run_may_refresh_some_models_alone(graph: Graph):
    run = refreshed(graph, "flakiness")
    assert set(materialized(run)) == {"flakiness"}
    assert {each.asset_key for each in run.get_asset_check_evaluations()} == {asset_key("flakiness")}
    assert [path.name for path in marts_folder(graph.platform).iterdir()] == ["flakiness.parquet"]


def test_a_run_without_checks_evaluates_none(graph: Graph):
    assert refreshed(graph, "flakiness", checks=False).get_asset_check_evaluations() == []


@pytest.fixture
def wrong(tmp_path: Path) -> SqlProject:
    """A project of one model whose rows break what its YAML says."""
    folder = tmp_path / "wrong"
    (folder / "marts").mkdir(parents=True)
    (folder / "sources.yml").write_text("sources: []", "utf-8")
    (folder / "marts" / "twice.sql").write_text("SELECT 'x' AS name FROM (VALUES 1, 2) AS t(a)", "utf-8")
    (folder / "marts" / "twice.yml").write_text(
        "models:\n  - name: twice\n    description: One row per name.\n    meta: {grain: [name]}\n    columns:\n"
        "      - {name: name, data_type: varchar, description: Name, data_tests: [not_null, unique]}\n",
        "utf-8",
    )
    return load_project(folder)


def test_a_broken_claim_fails_its_check_with_the_rows_that_break_it_and_the_mart_is_still_there(
    graph: Graph, wrong: SqlProject
):
    run = refreshed(graph, asset=models_asset(wrong))
    assert run.success, "a check that fails is no failed run"
    checks = {each.check_name: each for each in run.get_asset_check_evaluations()}
    assert {name: each.passed for name, each in checks.items()} == {
        "one_row_per_grain": False,
        "not_null_name": True,
        "unique_name": False,
    }
    assert checks["unique_name"].metadata["failures"].value == 1
    assert checks["unique_name"].metadata["first"].value == "- name = x, rows_found = 2"
    assert materialized(run)["twice"].metadata["dagster/row_count"].value == 2


def test_the_models_stand_in_one_graph_with_the_assets_that_they_read():
    """As they are registered: nothing that a model reads is missing, and no name is there twice."""
    from mlcc_dagster.build import build_defs

    repository = build_defs().get_repository_def()
    others = {key for key in repository.asset_graph.get_all_asset_keys() if key.path[0] != "mlcc_ci"}
    assert {dep.asset_key for dep in SOURCE_ASSETS.values()} <= others
    assert others & sql_models.keys == set()
