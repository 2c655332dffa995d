"""The models as they are declared: every file has its twin, every mistake is named at once, what the YAML says is what the SQL
returns."""

import re
from importlib.resources import files
from pathlib import Path

import pytest

from mlcc_dagster.core.exceptions import InvalidInput, UsageError
from resources.model_sources import _READERS
from resources.sql_engine import TABLE
from resources.sql_models import DATA_TYPES, LAYERS, load_project, shipped_project, shipped_query

ROOT = Path(str(files("dbt_style_sql")))
PROJECT = shipped_project()
MODELS = {model.name: model for model in PROJECT.models}

SPECIFIED = {
    "recent_path_proves": """SELECT config_id, model_family, instance_family, deployment_config, status FROM
        mlcc_ci.benchmark_results WHERE run_type = 'path_prove' ORDER BY run_timestamp DESC LIMIT 20;""",
    "unfeasible_configurations": """SELECT config_id, model_family, instance_family, deployment_config, failure_reason FROM
        mlcc_ci.benchmark_results WHERE status = 'unfeasible' ORDER BY run_timestamp DESC;""",
    "proven_counts": """SELECT model_family, instance_family, COUNT(*) as proven_count FROM mlcc_ci.benchmark_results
        WHERE status = 'completed' GROUP BY model_family, instance_family ORDER BY proven_count DESC;""",
}


# ---- what is shipped


def test_the_marts_that_are_promised_are_there():
    promised = {
        "coverage_summary",
        "proven_by_family",
        "unfeasible",
        "gap_candidates",
        "latest_result",
        "test_history",
        "flakiness",
        "cost_by_day",
        "pareto_front",
        "baseline",
    }
    assert {model.name for model in PROJECT.models if model.layer == "marts"} == promised


def test_every_model_has_exactly_one_twin_and_every_file_has_a_place():
    found = {path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if path.is_file()}
    found = {name for name in found if "__pycache__" not in name}
    models = {f"{model.layer}/{model.name}.{ending}" for model in PROJECT.models for ending in ("sql", "yml")}
    queries = {f"analyses/{query.name}.sql" for query in PROJECT.queries}
    assert found == models | queries | {"sources.yml", "__init__.py"}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_imports_first_and_ends_by_selecting_its_last_cte(name: str):
    text = MODELS[name].text
    ctes = re.findall(r"^(?:WITH )?(\w+) AS \($", text, re.M)
    imports = re.findall(r"^(?:WITH )?(\w+) AS \(\n    SELECT \* FROM \{\{ .* \}\}\n\)", text, re.M)
    assert imports == ctes[: len(imports)], "imports come first"
    assert len(imports) == len(MODELS[name].refs) + len(MODELS[name].sources), "what is read is imported, once"
    assert text.splitlines()[-1] == f"SELECT * FROM {ctes[-1]}"


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_named_after_its_layer(name: str):
    prefix = {"staging": "stg_", "intermediate": "int_", "marts": ""}[MODELS[name].layer]
    assert name.startswith(prefix)
    assert MODELS[name].layer != "marts" or not name.startswith(("stg_", "int_"))


@pytest.mark.parametrize("name", MODELS)
def test_a_column_with_a_unit_in_its_name_says_it(name: str):
    endings = {"_ms": "ms", "_usd": "USD", "_pct": "%", "_rps": "requests/s", "_tps": "tokens/s"}
    for column in MODELS[name].columns:
        for ending, unit in endings.items():
            if column.name.endswith(ending):
                assert column.unit == unit, f"{name}.{column.name}"


def test_models_come_after_all_that_they_read():
    seen: set[str] = set()
    for model in PROJECT.models:
        assert set(model.refs) <= seen
        seen.add(model.name)


def test_every_declared_source_can_be_read_and_every_reader_is_declared():
    assert set(PROJECT.sources) == {TABLE, *_READERS}
    used = {source for model in PROJECT.models for source in model.sources}
    assert used == set(PROJECT.sources), "a source that nobody reads is no source"


@pytest.mark.parametrize("name", SPECIFIED)
def test_the_three_specified_queries_are_shipped_unchanged(name: str):
    assert shipped_query(name).sql.split() == SPECIFIED[name].split()
    assert shipped_query(name).answers


def test_an_unknown_named_query_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match=r"no named query 'best_gap'; nearest are best_gaps"):
        shipped_query("best_gap")
    with pytest.raises(UsageError, match=r"no model 'xyzzy'; there are stg_attempts, "):
        PROJECT.model("xyzzy")


# ---- lineage


@pytest.mark.parametrize(
    ("model", "column", "origins", "reason"),
    [
        ("stg_results", "tp_degree", [(TABLE, "tensor_parallel_degree")], "a renamed column"),
        ("stg_results", "run_date", [(TABLE, "run_timestamp")], "through functions"),
        ("gap_candidates", "gap_rank", [("stg_gaps", "gap_rank")], "through a star"),
        ("cost_by_day", "usd_per_completed", [("stg_attempts", "cost_usd"), ("stg_attempts", "status")], "two"),
        ("test_history", "name", [("stg_records", "name")], "from the joined side"),
        ("coverage_summary", "possible", [], "a count of rows comes from no column"),
        (
            "int_metric_series",
            "value",
            [
                ("int_measured_levels", "e2e_latency_p90_ms"),
                ("int_measured_levels", "itl_p90_ms"),
                ("int_measured_levels", "output_token_throughput_tps"),
                ("int_measured_levels", "ttft_p90_ms"),
            ],
            "from every branch of a union",
        ),
    ],
)
def test_the_lineage_of_a_column_names_what_its_values_come_from(model: str, column: str, origins: list, reason: str):
    assert list(PROJECT.lineage(MODELS[model])[column]) == origins, reason


@pytest.mark.parametrize("name", MODELS)
def test_lineage_leads_to_real_columns_of_what_the_model_reads(name: str):
    model = MODELS[name]
    known = {each: {c.name for c in MODELS[each].columns} for each in model.refs}
    known |= {each: {c.name for c in PROJECT.sources[each].columns} for each in model.sources}
    found = PROJECT.lineage(model)
    assert list(found) == [column.name for column in model.columns]
    assert [pair for pairs in found.values() for pair in pairs if pair[1] not in known.get(pair[0], set())] == []
    assert any(found.values())


# ---- mistakes

SOURCES = """
sources:
  - name: mlcc_ci
    tables:
      - name: benchmark_results
        description: Results.
"""


def write_model(root: Path, name: str, sql: str, *, layer: str = "staging", columns: str = "", **said: object) -> None:
    folder = root / layer
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.sql").write_text(sql, "utf-8")
    description = said.get("description", "One row per run.")
    grain = said.get("grain", "run_id")
    listed = columns or "      - {name: run_id, data_type: varchar, description: Run}"
    (folder / f"{name}.yml").write_text(
        f"models:\n  - name: {said.get('named', name)}\n    description: {description}\n"
        f"    meta: {{grain: [{grain}]}}\n    columns:\n{listed}\n",
        "utf-8",
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of models with one sound model."""
    (tmp_path / "sources.yml").write_text(SOURCES, "utf-8")
    write_model(tmp_path, "stg_runs", "SELECT run_id FROM {{ source('mlcc_ci', 'benchmark_results') }}")
    return tmp_path


def test_a_sound_folder_is_read(folder: Path):
    (model,) = load_project(folder).models
    assert (model.name, model.sources, model.grain) == ("stg_runs", (TABLE,), ("run_id",))
    assert model.sql == "SELECT run_id FROM mlcc_ci.benchmark_results"


RESULTS = "{{ source('mlcc_ci', 'benchmark_results') }}"
TESTED = "      - name: run_id\n        data_type: varchar\n        description: Run\n        data_tests: [{test}]"


@pytest.mark.parametrize(
    ("name", "sql", "said", "problem"),
    [
        ("a", "SELECT run_id FROM {{ ref('stg_rums') }}", {}, "ref('stg_rums') leads nowhere; nearest are stg_runs"),
        ("a", "SELECT run_id FROM {{ source('mlcc_ci', 'benchmark') }}", {}, "source('mlcc_ci', 'benchmark') leads nowhere"),
        ("a", "SELECT run_id FROM {{ source('raw', 'benchmark_results') }}", {}, "source 'raw'; there is only mlcc_ci"),
        ("a", f"SELECT run_id FROM {RESULTS}", {"layer": "marts"}, "outside of staging; read the staging model"),
        ("a", "SELECT run_id FROM {{ ref('a') }}", {}, "models read each other in a circle: a -> a"),
        ("a", "{% set x = 1 %} SELECT run_id FROM {{ ref('stg_runs') }}", {}, "are understood"),
        ("a", f"SELECT run_id, status FROM {RESULTS}", {}, "returns status, which a.yml does not list"),
        ("a", f"SELECT status FROM {RESULTS}", {}, "does not return run_id, which a.yml lists"),
        ("a", f"SELECT run_id, statu AS run_id FROM {RESULTS}", {}, "statu"),
        ("a", "SELECT run_id FROM {{ ref('stg_runs') }}, nowhere", {}, "unknown table nowhere"),
        ("a", "SELECT run_id FRM x y", {}, "not readable as Athena SQL"),
        ("a", "DELETE FROM {{ ref('stg_runs') }}", {}, "DELETE is not allowed"),
        ("a", f"SELECT run_id FROM {RESULTS}", {"named": "b"}, "must describe exactly the model a"),
        ("a", f"SELECT run_id FROM {RESULTS}", {"grain": "rum_id"}, "grain column rum_id is none of its columns"),
        ("a", f"SELECT run_id FROM {RESULTS}", {"grain": ""}, "has no meta.grain"),
        ("a", f"SELECT run_id FROM {RESULTS}", {"description": "Runs."}, "must say the grain first"),
        ("a", f"SELECT run_id FROM {RESULTS}", {"columns": TESTED.format(test="uniqe")}, "test 'uniqe'; use unique"),
        (
            "a",
            f"SELECT run_id FROM {RESULTS}",
            {"columns": TESTED.format(test="{relationships: {to: ref('x'), field: run_id}}").replace("'", '"')},
            "use unique, not_null",
        ),
        (
            "a",
            f"SELECT run_id FROM {RESULTS}",
            {"columns": TESTED.format(test="{relationships: {to: \"ref('stg_runs')\", field: run}}")},
            "relationships to a column run that stg_runs does not have",
        ),
        (
            "a",
            f"SELECT run_id FROM {RESULTS}",
            {"columns": TESTED.format(test="{relationships: {to: \"ref('runs')\", field: run}}")},
            "relationships to ref('runs') leads nowhere",
        ),
        (
            "a",
            f"SELECT run_id FROM {RESULTS}",
            {"columns": "      - {name: run_id, data_type: text, description: Run}"},
            f"data_type 'text'; use one of {', '.join(DATA_TYPES)}",
        ),
    ],
)  # fmt: skip
def test_a_mistake_in_a_model_is_named_with_its_file(folder: Path, name: str, sql: str, said: dict, problem: str):
    write_model(folder, name, sql, **said)
    with pytest.raises(InvalidInput) as caught:
        load_project(folder)
    assert problem in str(caught.value)
    assert re.search(r"\b(staging|marts)/a\.(sql|yml)|circle", str(caught.value))


def test_all_broken_references_of_all_models_are_named_at_once(folder: Path):
    write_model(folder, "a", "SELECT run_id FROM {{ ref('one') }}, {{ ref('two') }}")
    write_model(folder, "b", "SELECT run_id FROM {{ source('mlcc_ci', 'three') }}")
    with pytest.raises(InvalidInput) as caught:
        load_project(folder)
    for name in ("ref('one')", "ref('two')", "source('mlcc_ci', 'three')"):
        assert f"{name} leads nowhere" in str(caught.value)


def test_all_wrong_columns_of_all_models_are_named_at_once(folder: Path):
    write_model(folder, "a", f"SELECT run_id, status, executor FROM {RESULTS}")
    write_model(folder, "b", f"SELECT config_id FROM {RESULTS}")
    with pytest.raises(InvalidInput) as caught:
        load_project(folder)
    assert "a.sql: returns status, executor, which a.yml does not list" in str(caught.value)
    assert "b.sql: returns config_id, which b.yml does not list" in str(caught.value)
    assert "b.sql: does not return run_id, which b.yml lists" in str(caught.value)


@pytest.mark.parametrize(("kept", "gone"), [("sql", "yml"), ("yml", "sql")])
def test_a_file_without_its_twin_is_named(folder: Path, kept: str, gone: str):
    (folder / "staging" / f"stg_runs.{gone}").unlink()
    with pytest.raises(InvalidInput, match=rf"staging/stg_runs\.{kept}: has no stg_runs\.{gone} beside it"):
        load_project(folder)


def test_two_models_of_one_name_are_named(folder: Path):
    write_model(folder, "stg_runs", "SELECT run_id FROM {{ ref('stg_runs') }}", layer="marts")
    with pytest.raises(InvalidInput, match=r"marts/stg_runs\.sql: another model of that name is in staging"):
        load_project(folder)


def test_an_earlier_layer_does_not_read_a_later_one(folder: Path):
    write_model(folder, "front", "SELECT run_id FROM {{ ref('stg_runs') }}", layer=LAYERS[-1])
    write_model(folder, "stg_more", "SELECT run_id FROM {{ ref('front') }}")
    with pytest.raises(InvalidInput, match=r"ref\('front'\) reads marts from staging"):
        load_project(folder)
