"""The SQL models as a dbt project that runs on DuckDB.

Belongs here: writing the project's files: settings, translated models, their properties and tests, the sources as Parquet.
Not here: what models are (`sql_models.py`), running them here (`model_runs.py`); dbt itself is no dependency.

The project is complete: `dbt build` in its folder, with dbt-duckdb, reads `data/*.parquet` and nothing else, and gives the rows
that the models have here as of the moment of writing.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mlcc_dagster.core.exceptions import UsageError
from resources.model_runs import publish_table
from resources.model_sources import engine_of
from resources.platform import Platform
from resources.sql_engine import SCHEMA, Relations, adapted, checked, written
from resources.sql_models import DataTest, Model, ModelColumn, Source, SqlProject

PROJECT_NAME = "mlcc_ci"
MARKER = "dbt_project.yml"
MATERIALIZED = {"staging": "view", "intermediate": "view", "marts": "table"}
MANAGED = ("models", "tests", "data")
"""Folders of the project that belong to this writer alone: what it does not write there is removed."""


def write_dbt_project(platform: Platform, project: SqlProject, target: Path) -> list[Path]:
    """Write the project into `target`, which is made where it is not there, and return its files in their order.

    The sources are read from one snapshot. A folder that holds a project of this writer is brought up to date; raises `UsageError`
    for one that holds anything else, `SqlError` where a model cannot be translated, `OSError` where the disk refuses.
    """
    _refuse_foreign(target)
    engine = engine_of(platform, project)
    texts = _texts(project, engine.relations)
    names = list(project.sources)
    tables = dict(zip(names, engine.queries([f"SELECT * FROM {SCHEMA}.{name}" for name in names]), strict=True))
    paths: list[Path] = []
    for name, text in texts.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        paths.append(path)
    for name, table in tables.items():
        path = target / "data" / f"{name}.parquet"
        publish_table(path, table)
        paths.append(path)
    kept = set(paths)
    for folder in MANAGED:
        for path in sorted((target / folder).rglob("*")):
            if path.is_file() and path not in kept:
                path.unlink()
    return paths


def _refuse_foreign(target: Path) -> None:
    if target.exists() and not target.is_dir():
        raise UsageError(f"{target} is a file; name a folder for the project")
    if target.is_dir() and any(target.iterdir()):
        marker = target / MARKER
        if not marker.is_file() or f"name: {PROJECT_NAME}" not in marker.read_text("utf-8").splitlines():
            raise UsageError(f"{target} holds something else than a project written here; name an empty or new folder")


def _texts(project: SqlProject, relations: Relations) -> dict[str, str]:
    """Return the text of every file by its path within the project."""
    texts = {MARKER: _yaml(_settings()), "profiles.yml": _yaml(_profile())}
    texts["models/sources.yml"] = _yaml({"sources": [_sources(project)]})
    for model in project.models:
        place = f"models/{model.layer}/{model.name}"
        texts[f"{place}.sql"] = model_text(model, project, relations)
        texts[f"{place}.yml"] = _yaml({"models": [_properties(model)]})
        for test in model.tests:
            if test.kind == "grain":
                texts[f"tests/{model.name}_{test.name}.sql"] = _grain_test(test)
    return texts


def model_text(model: Model, project: SqlProject, relations: Relations) -> str:
    """Return a model in DuckDB's SQL with dbt's `ref()` and `source()` in the place of tables."""
    from sqlglot import exp

    tree = adapted(checked(model.sql, relations), relations)
    for table in list(tree.find_all(exp.Table)):
        if table.db != SCHEMA:
            continue
        call = f"source('{SCHEMA}', '{table.name}')" if table.name in project.sources else f"ref('{table.name}')"
        named = exp.Table(this=exp.Identifier(this=f"{{{{ {call} }}}}", quoted=False), alias=table.args.get("alias"))
        table.replace(named)
    return written(tree, pretty=True) + "\n"


def _grain_test(test: DataTest) -> str:
    names = ", ".join(test.grain)
    table = f"{{{{ ref('{test.model}') }}}}"
    return f"SELECT {names}, count(*) AS rows_found FROM {table} GROUP BY {names} HAVING count(*) > 1\n"


def _settings() -> dict[str, Any]:
    return {
        "name": PROJECT_NAME,
        "version": "1.0.0",
        "config-version": 2,
        "profile": PROJECT_NAME,
        "model-paths": ["models"],
        "test-paths": ["tests"],
        "models": {PROJECT_NAME: {layer: {"+materialized": kind} for layer, kind in MATERIALIZED.items()}},
    }


def _profile() -> dict[str, Any]:
    output = {
        "type": "duckdb",
        # not of the schema's name, which would make every table ambiguous
        "path": "warehouse.duckdb",
        "schema": SCHEMA,
        "threads": 1,
        # a division of floating-point numbers by zero is infinity, as in Athena
        "settings": {"ieee_floating_point_ops": True},
    }
    return {PROJECT_NAME: {"target": "local", "outputs": {"local": output}}}


def _sources(project: SqlProject) -> dict[str, Any]:
    return {
        "name": SCHEMA,
        "config": {"meta": {"external_location": "data/{name}.parquet"}},
        "tables": [_source(source) for source in project.sources.values()],
    }


def _source(source: Source) -> dict[str, Any]:
    return {
        "name": source.name,
        "description": source.description,
        "columns": [_column(column) for column in source.columns],
    }


def _properties(model: Model) -> dict[str, Any]:
    columns = []
    for column in model.columns:
        tests = [_dbt_test(test) for test in model.tests if test.column == column.name]
        columns.append(_column(column) | ({"data_tests": tests} if tests else {}))
    return {
        "name": model.name,
        "description": model.description,
        "config": {"meta": {"grain": list(model.grain)}},
        "columns": columns,
    }


def _column(column: ModelColumn) -> dict[str, Any]:
    said: dict[str, Any] = {"name": column.name, "data_type": column.data_type}
    if column.description:
        said["description"] = column.description
    return said | ({"config": {"meta": {"unit": column.unit}}} if column.unit else {})


def _dbt_test(test: DataTest) -> str | dict[str, Any]:
    if test.kind == "accepted_values":
        return {test.kind: {"arguments": {"values": list(test.values)}}}
    if test.kind == "relationships":
        return {test.kind: {"arguments": {"to": f"ref('{test.to}')", "field": test.field}}}
    return test.kind


def _yaml(document: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True, width=120)
