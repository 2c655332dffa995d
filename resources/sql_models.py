"""The models of `dbt_style_sql` as they are declared: SQL text, its YAML twin, what each reads, in an order that can run.

Belongs here: reading the package's files, resolving `ref()` and `source()`, finding every mistake before anything runs, the
tests that a YAML file declares. Not here: the rows of sources (`model_sources.py`), running models (`model_runs.py`),
answering SQL (`sql_engine.py`).

A folder of models has `sources.yml`, `staging/`, `intermediate/`, `marts/` with one `<model>.sql` and one `<model>.yml` each,
and `analyses/` with the named queries. Jinja is not run: `{{ ref('model') }}` and `{{ source('mlcc_ci', 'table') }}` are all
there is.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import yaml

from mlcc_dagster.core.exceptions import InvalidInput, UsageError
from resources.sql_engine import RESULT_COLUMNS, SCHEMA, TABLE, Relation, SqlError, checked, schema_of

if TYPE_CHECKING:
    from sqlglot import exp

LAYERS: tuple[str, ...] = ("staging", "intermediate", "marts")
"""The folders of models; a model reads those of its own folder and of earlier ones."""

DATA_TYPES: tuple[str, ...] = ("varchar", "integer", "bigint", "double", "boolean", "date")
"""The types that a column may have, as Athena names them."""

_CALL = re.compile(
    r"\{\{\s*(?:ref\(\s*'(?P<ref>\w+)'\s*\)|source\(\s*'(?P<schema>\w+)'\s*,\s*'(?P<source>\w+)'\s*\))\s*\}\}"
)
_REF = re.compile(r"ref\(\s*'(?P<ref>\w+)'\s*\)")


@dataclass(frozen=True)
class DataTest:
    """A claim on the rows of a model: `unique`, `not_null`, `accepted_values` (`values`), `relationships` (every value is in
    `field` of the model `to`), each on a `column` and passed by NULL but for `not_null`; or `grain`, on no column: no two
    rows have the same values in the model's grain, NULL being a value."""

    kind: str
    model: str
    column: str | None = None
    values: tuple[str, ...] = ()
    to: str | None = None
    field: str | None = None
    grain: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of its check: the kind and the column, such as `unique_config_id`."""
        return "one_row_per_grain" if self.kind == "grain" else f"{self.kind}_{self.column}"

    @property
    def claim(self) -> str:
        """What must hold, as one sentence."""
        column = self.column
        return {
            "grain": f"No two rows have the same {', '.join(self.grain)}.",
            "unique": f"No value of {column} is there twice.",
            "not_null": f"Every row has a {column}.",
            "accepted_values": f"Every {column} is one of {', '.join(self.values)}.",
            "relationships": f"Every {column} is a {self.field} of {self.to}.",
        }[self.kind]

    @property
    def sql(self) -> str:
        """The SELECT, in Athena's SQL, of what breaks the claim: no row means that it holds."""
        column, table = self.column, f"{SCHEMA}.{self.model}"
        if self.kind == "grain":
            names = ", ".join(self.grain)
            return f"SELECT {names}, count(*) AS rows_found FROM {table} GROUP BY {names} HAVING count(*) > 1"
        if self.kind == "unique":
            return (
                f"SELECT {column}, count(*) AS rows_found FROM {table} WHERE {column} IS NOT NULL "
                f"GROUP BY {column} HAVING count(*) > 1"
            )
        if self.kind == "not_null":
            return f"SELECT * FROM {table} WHERE {column} IS NULL"
        if self.kind == "accepted_values":
            listed = ", ".join("'{}'".format(value.replace("'", "''")) for value in self.values)
            return f"SELECT {column}, count(*) AS rows_found FROM {table} WHERE {column} NOT IN ({listed}) GROUP BY {column}"
        return (
            f"SELECT mine.{column}, count(*) AS rows_found FROM {table} AS mine "
            f"LEFT JOIN {SCHEMA}.{self.to} AS theirs ON mine.{column} = theirs.{self.field} "
            f"WHERE mine.{column} IS NOT NULL AND theirs.{self.field} IS NULL GROUP BY mine.{column}"
        )


@dataclass(frozen=True)
class ModelColumn:
    """One column of a model or source. `unit` is none where the value has none."""

    name: str
    data_type: str
    description: str
    unit: str | None = None


@dataclass(frozen=True)
class Source:
    """A table that models read and that is none of them: published by the platform itself."""

    name: str
    description: str
    columns: tuple[ModelColumn, ...]


@dataclass(frozen=True)
class Model:
    """One model: its SQL as it is written (`text`), what it reads, and what its YAML says. `grain` are the columns that tell
    its rows apart; `tests` has the one of the grain first."""

    name: str
    layer: str
    description: str
    grain: tuple[str, ...]
    columns: tuple[ModelColumn, ...]
    tests: tuple[DataTest, ...]
    text: str
    refs: tuple[str, ...]
    sources: tuple[str, ...]

    @property
    def sql(self) -> str:
        """Its SELECT in Athena's SQL over the tables of `mlcc_ci`."""
        return resolved(self.text)


@dataclass(frozen=True)
class NamedQuery:
    """A question that is ready to be asked: what it answers, and its SELECT in Athena's SQL."""

    name: str
    answers: str
    sql: str


@dataclass(frozen=True)
class SqlProject:
    """Everything that a folder of models declares. `models` come after all that they read."""

    models: tuple[Model, ...]
    sources: Mapping[str, Source]
    queries: tuple[NamedQuery, ...]

    def model(self, name: str) -> Model:
        """Return a model. Raises `UsageError` naming what there is."""
        return _named(name, self.models, "model")

    def views(self) -> dict[str, Relation]:
        """Return the models as relations of the SQL engine, each computed where it is read."""
        return {
            model.name: Relation(model.name, {c.name: c.data_type for c in model.columns}, sql=model.sql)
            for model in self.models
        }

    def relations(self) -> dict[str, Relation]:
        """Return every table that a statement may read beside the results, the sources without rows: for checking alone."""
        return self.views() | {name: _relation(source) for name, source in self.sources.items() if name != TABLE}

    def lineage(self, model: Model) -> Mapping[str, tuple[tuple[str, str], ...]]:
        """Return per column of a model the columns that its values come from: (model or source, column) pairs of what the
        model reads itself. Conditions and joins are no origin of a value."""
        return _lineage(model, MappingProxyType(self._schema()))

    def _schema(self) -> dict[str, object]:
        relations = self.views() | {name: _relation(source) for name, source in self.sources.items()}
        return schema_of(relations)


def resolved(text: str) -> str:
    """Return a model's SQL with every `ref()` and `source()` replaced by its table of `mlcc_ci`."""
    return _CALL.sub(lambda call: f"{SCHEMA}.{call['ref'] or call['source']}", text)


@cache
def shipped_project() -> SqlProject:
    """Return the models of the installed package `dbt_style_sql`, read once per process."""
    return load_project(files("dbt_style_sql"))


def shipped_query(name: str) -> NamedQuery:
    """Return a named query without reading the models. Raises `UsageError` naming what there is."""
    return _named(name, tuple(_read_queries(files("dbt_style_sql"), [])), "named query")


def load_project(root: Traversable) -> SqlProject:
    """Read a folder of models.

    Raises `InvalidInput` with every mistake of every file: a twin that is missing, a name or key that is not known, a ref or
    source that leads nowhere, a circle, SQL that cannot be read, columns that the SQL does not return or the YAML does not
    list.
    """
    problems: list[str] = []
    sources = _read_sources(root, problems)
    models = {model.name: model for model in _read_models(root, problems)}
    queries = tuple(_read_queries(root, problems))
    for model in models.values():
        problems += _reference_problems(model, models, sources)
    ordered = _in_order(models, problems)
    if not problems:
        problems += _column_problems(ordered, sources)
    if problems:
        raise InvalidInput("the SQL models", problems)
    return SqlProject(models=tuple(ordered), sources=MappingProxyType(sources), queries=queries)


# ---- files


def _files(folder: Traversable, ending: str) -> dict[str, Traversable]:
    if not folder.is_dir():
        return {}
    found = {each.name: each for each in folder.iterdir() if each.is_file() and each.name.endswith(ending)}
    return {name.removesuffix(ending): found[name] for name in sorted(found)}


def _read_yaml(path: Traversable, where: str, problems: list[str]) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        problems.append(f"{where}: there is no such file; every folder of models has one")
        return {}
    except yaml.YAMLError as error:
        problems.append(f"{where}: not readable as YAML ({str(error).splitlines()[0]})")
        return {}
    if not isinstance(document, dict):
        problems.append(f"{where}: must be a mapping")
        return {}
    return document


def _read_sources(root: Traversable, problems: list[str]) -> dict[str, Source]:
    document = _read_yaml(root / "sources.yml", "sources.yml", problems)
    found: dict[str, Source] = {}
    for source in document.get("sources", ()):
        if source.get("name") != SCHEMA:
            problems.append(f"sources.yml: source {source.get('name')!r}; there is only {SCHEMA}")
        for table in source.get("tables", ()):
            name = str(table.get("name"))
            where = f"sources.yml, {name}"
            if name == TABLE:
                # The columns of the results are declared once, beside what writes them.
                columns = tuple(ModelColumn(each, kind, "") for each, kind in RESULT_COLUMNS.items())
            else:
                columns, _ = _read_columns(table, name, where, problems)
            found[name] = Source(name, _description(table, where, problems), columns)
    return found


def _read_models(root: Traversable, problems: list[str]) -> Iterator[Model]:
    seen: dict[str, str] = {}
    for layer in LAYERS:
        texts, twins = _files(root / layer, ".sql"), _files(root / layer, ".yml")
        problems += [f"{layer}/{name}.sql: has no {name}.yml beside it" for name in texts if name not in twins]
        problems += [f"{layer}/{name}.yml: has no {name}.sql beside it" for name in twins if name not in texts]
        for name in texts:
            if name in seen:
                problems.append(f"{layer}/{name}.sql: another model of that name is in {seen[name]}")
            elif name in twins:
                seen[name] = layer
                document = _read_yaml(twins[name], f"{layer}/{name}.yml", problems)
                yield _model(name, layer, texts[name].read_text("utf-8"), document, problems)


def _model(name: str, layer: str, text: str, document: Mapping[str, Any], problems: list[str]) -> Model:
    where = f"{layer}/{name}.yml"
    listed = document.get("models") or [{}]
    said = listed[0]
    if len(listed) != 1 or said.get("name") != name:
        problems.append(f"{where}: must describe exactly the model {name}")
    _unknown_keys(said, {"name", "description", "meta", "columns"}, where, problems)
    columns, tests = _read_columns(said, name, where, problems)
    grain = tuple((said.get("meta") or {}).get("grain") or ())
    if not grain:
        problems.append(f"{where}: has no meta.grain; list the columns that tell its rows apart")
    names = [column.name for column in columns]
    problems += [f"{where}: grain column {each} is none of its columns" for each in grain if each not in names]
    description = _description(said, where, problems)
    if description and not description.startswith("One row per "):
        problems.append(f"{where}: the description must say the grain first, as `One row per ...`")
    rest = _CALL.sub("", text)
    if "{{" in rest or "{%" in rest:
        problems.append(f"{layer}/{name}.sql: only {{{{ ref('..') }}}} and {{{{ source('..', '..') }}}} are understood")
    calls = list(_CALL.finditer(text))
    problems += [
        f"{layer}/{name}.sql: source {call['schema']!r}; there is only {SCHEMA}"
        for call in calls
        if call["source"] and call["schema"] != SCHEMA
    ]
    return Model(
        name=name,
        layer=layer,
        description=description,
        grain=grain,
        columns=columns,
        tests=(DataTest("grain", name, grain=grain), *tests),
        text=text,
        refs=tuple(dict.fromkeys(call["ref"] for call in calls if call["ref"])),
        sources=tuple(dict.fromkeys(call["source"] for call in calls if call["source"])),
    )


def _read_columns(
    said: Mapping[str, Any], model: str, where: str, problems: list[str]
) -> tuple[tuple[ModelColumn, ...], tuple[DataTest, ...]]:
    columns: list[ModelColumn] = []
    tests: list[DataTest] = []
    for column in said.get("columns") or ():
        name = str(column.get("name"))
        place = f"{where}, {name}"
        _unknown_keys(column, {"name", "data_type", "description", "meta", "data_tests"}, place, problems)
        if any(name == other.name for other in columns):
            problems.append(f"{place}: is listed twice")
        if column.get("data_type") not in DATA_TYPES:
            problems.append(f"{place}: data_type {column.get('data_type')!r}; use one of {', '.join(DATA_TYPES)}")
        meta = column.get("meta") or {}
        _unknown_keys(meta, {"unit"}, place, problems)
        described = _description(column, place, problems)
        columns.append(ModelColumn(name, str(column.get("data_type")), described, meta.get("unit")))
        tests += [
            test for each in column.get("data_tests") or () if (test := _test(each, model, name, place, problems))
        ]
    if not columns:
        problems.append(f"{where}: lists no columns")
    return tuple(columns), tuple(tests)


def _test(said: Any, model: str, column: str, where: str, problems: list[str]) -> DataTest | None:
    kind, details = next(iter(said.items())) if isinstance(said, dict) and len(said) == 1 else (str(said), {})
    if kind in ("unique", "not_null") and not details:
        return DataTest(kind, model, column)
    if kind == "accepted_values" and details.get("values"):
        return DataTest(kind, model, column, values=tuple(map(str, details["values"])))
    if kind == "relationships" and "field" in details:
        call = _REF.fullmatch(str(details.get("to")))
        if call is not None:
            return DataTest(kind, model, column, to=call["ref"], field=str(details["field"]))
    problems.append(
        f"{where}: test {said!r}; use unique, not_null, accepted_values with values, or relationships with "
        "to: ref('..') and field"
    )
    return None


def _description(said: Mapping[str, Any], where: str, problems: list[str]) -> str:
    text = str(said.get("description") or "").strip()
    if not text:
        problems.append(f"{where}: has no description")
    return text


def _unknown_keys(said: Mapping[str, Any], known: set[str], where: str, problems: list[str]) -> None:
    problems += [
        f"{where}: unknown key {key}; known are {', '.join(sorted(known))}" for key in said if key not in known
    ]


def _read_queries(root: Traversable, problems: list[str]) -> Iterator[NamedQuery]:
    for name, path in _files(root / "analyses", ".sql").items():
        first, _, rest = path.read_text("utf-8").partition("\n")
        if not first.startswith("-- "):
            problems.append(f"analyses/{name}.sql: must begin with `-- ` and what it answers")
        yield NamedQuery(name, first.removeprefix("-- ").strip(), rest.strip())


# ---- what leads where


def _reference_problems(model: Model, models: Mapping[str, Model], sources: Mapping[str, Source]) -> Iterator[str]:
    where = f"{model.layer}/{model.name}.sql"
    for name in model.refs:
        if name not in models:
            yield f"{where}: ref('{name}') leads nowhere{_nearest(name, models)}"
        elif LAYERS.index(models[name].layer) > LAYERS.index(model.layer):
            yield f"{where}: ref('{name}') reads {models[name].layer} from {model.layer}; models read earlier layers"
    for name in model.sources:
        if name not in sources:
            yield f"{where}: source('{SCHEMA}', '{name}') leads nowhere{_nearest(name, sources)}"
        if model.layer != LAYERS[0]:
            yield f"{where}: source('{SCHEMA}', '{name}') outside of {LAYERS[0]}; read the staging model of it"
    for test in model.tests:
        if test.to is None:
            continue
        place = f"{model.layer}/{model.name}.yml, {test.column}"
        if test.to not in models:
            yield f"{place}: relationships to ref('{test.to}') leads nowhere{_nearest(test.to, models)}"
        elif test.field not in {column.name for column in models[test.to].columns}:
            yield f"{place}: relationships to a column {test.field} that {test.to} does not have"


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=3)
    return f"; nearest are {', '.join(near)}" if near else ""


def _in_order(models: Mapping[str, Model], problems: list[str]) -> list[Model]:
    """Return the models after all that they read; names a circle among them."""
    ordered: dict[str, Model] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in ordered or name not in models:
            return
        if name in path:
            problems.append(f"models read each other in a circle: {' -> '.join((*path[path.index(name) :], name))}")
            return
        for each in models[name].refs:
            visit(each, (*path, name))
        ordered[name] = models[name]

    for name in models:
        visit(name, ())
    return list(ordered.values())


# ---- columns


def _relation(source: Source) -> Relation:
    return Relation(source.name, {column.name: column.data_type for column in source.columns})


def _qualified(model: Model, schema: Mapping[str, object]) -> "exp.Query":
    """Return a model's SELECT with every column named with its table and every star written out. Raises `SqlglotError`."""
    import sqlglot
    from sqlglot.optimizer.qualify import qualify

    tree = sqlglot.parse_one(model.sql, read="athena")
    return qualify(tree, schema=dict(schema), dialect="athena")  # type: ignore[return-value]


def _column_problems(models: Sequence[Model], sources: Mapping[str, Source]) -> Iterator[str]:
    """Compare what each model returns with what its YAML lists, given what the models before it list."""
    from sqlglot.errors import SqlglotError

    relations = {name: _relation(source) for name, source in sources.items()}
    for model in models:
        where = f"{model.layer}/{model.name}.sql"
        listed = [column.name for column in model.columns]
        try:
            checked(model.sql, relations)
            returned = _qualified(model, schema_of(relations)).named_selects
        except SqlError as error:
            yield f"{where}: {error}"
        except SqlglotError as error:
            yield f"{where}: {str(error).splitlines()[0]}"
        else:
            unlisted = [name for name in returned if name not in listed]
            missing = [name for name in listed if name not in returned]
            if unlisted:
                yield f"{where}: returns {', '.join(unlisted)}, which {model.name}.yml does not list"
            if missing:
                yield f"{where}: does not return {', '.join(missing)}, which {model.name}.yml lists"
            if not unlisted and not missing and list(returned) != listed:
                yield f"{where}: returns its columns in another order than {model.name}.yml lists them"
        relations[model.name] = Relation(model.name, {column.name: column.data_type for column in model.columns})


def _lineage(model: Model, schema: Mapping[str, object]) -> Mapping[str, tuple[tuple[str, str], ...]]:
    from sqlglot import exp
    from sqlglot.lineage import lineage
    from sqlglot.optimizer.scope import build_scope

    tree = _qualified(model, schema)
    scope = build_scope(tree)
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    for column in model.columns:
        origin = lineage(column.name, tree, schema=dict(schema), dialect="athena", scope=scope, copy=False)
        pairs = [
            (node.source.name, node.name.rpartition(".")[2].strip('"'))
            for node in origin.walk()
            if isinstance(node.source, exp.Table) and not node.downstream
        ]
        found[column.name] = tuple(sorted(set(pairs)))
    return MappingProxyType(found)


def _named(name: str, known: Sequence[Any], what: str) -> Any:
    for each in known:
        if each.name == name:
            return each
    names = [each.name for each in known]
    near = difflib.get_close_matches(name, names, n=3)
    there = f"nearest are {', '.join(near)}" if near else f"there are {', '.join(names)}"
    raise UsageError(f"no {what} '{name}'; {there}")
