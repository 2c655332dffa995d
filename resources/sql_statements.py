"""One SELECT in Athena's SQL: what it may read, whether it is allowed, and where in it a mistake stands.

Belongs here: parsing and checking a statement, naming the place of a mistake, the tables that a statement may read. Not here:
which functions and syntax there are (`sql_vocabulary.py`), translating it (`sql_translation.py`), running it (`sql_engine.py`).
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.records import COLUMNS
from resources.sql_vocabulary import FUNCTIONS, INSTEAD, SYNTAX, TYPES, UNKNOWN_SYNTAX

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlglot import exp

    from resources.result_store import Snapshot

SCHEMA = "mlcc_ci"
TABLE = "benchmark_results"

ALIAS_COLUMNS: tuple[tuple[str, str], ...] = (
    ("tp_degree", "tensor_parallel_degree"),
    ("model", "replace(model_name, '/', '_')"),
    ("instance", "instance_type"),
    ("target", "deployment_target"),
)
"""Columns beside the stored ones: the other name of one, and the partition keys."""

_SQL_TYPES = {"string": "varchar", "int32": "integer", "double": "double", "bool": "boolean"}

RESULT_COLUMNS: Mapping[str, str] = MappingProxyType(
    {column.name: _SQL_TYPES[column.type] for column in COLUMNS}
    | {name: "integer" if name == "tp_degree" else "varchar" for name, _ in ALIAS_COLUMNS}
)
"""The columns of `mlcc_ci.benchmark_results` by name, with Athena's name of their type."""

# Names under which DuckDB reads files, other databases or itself: never a slip of the pen.
_REACHING_OUT = re.compile(
    r"read_\w+|\w+_scan|scan_\w+|glob|sniff_\w+|parquet_\w+|query|query_table|getenv|current_setting|getvariable|"
    r"duckdb_\w+|pragma_\w+|which_secret|load_\w+|write_\w+|\w*_metadata|arrow_\w+|(?:from|get)_substrait\w*",
    re.IGNORECASE,
)
# Functions that are read as syntax of their own, so that the tree does not say where their name stands.
_SPELT = frozenset(
    {"ArgMax", "ArgMin", "Ceil", "Chr", "Floor", "GroupConcat", "If", "ParseJSON", "StrPosition", "Substring", "Trim"}
)
_JOINS = frozenset({"", "CROSS", "FULL", "INNER", "LEFT", "OUTER", "RIGHT", "NATURAL"})


LONGEST_STATEMENT = 262_144
"""Bytes of the longest statement, which are Athena's."""


class SqlError(UsageError):
    """The statement cannot be answered; the text says why in one sentence and quotes the place."""


@dataclass(frozen=True)
class Relation:
    """A table of `mlcc_ci` beside the results: its columns by name with Athena's name of their type, and either `sql`, the
    SELECT that it stands for (a view, over results and other relations), or `rows`, which reads it as of a snapshot."""

    name: str
    columns: Mapping[str, str]
    sql: str | None = None
    rows: "Callable[[Snapshot], pa.Table] | None" = None


Relations = Mapping[str, Relation]
NO_RELATIONS: Relations = MappingProxyType({})


def schema_of(relations: Relations) -> dict[str, object]:
    """Return what sqlglot calls a schema: database, table, column, Athena's name of its type."""
    tables = {TABLE: dict(RESULT_COLUMNS)} | {name: dict(each.columns) for name, each in relations.items()}
    return {SCHEMA: tables}


def relations_of(tree: "exp.Query", relations: Relations) -> list[str]:
    """Return the names of the relations that a checked statement reads, each once, in the order of the text."""
    from sqlglot import exp

    named = [table.name.lower() for table in tree.find_all(exp.Table) if table.db.lower() == SCHEMA]
    return [name for name in dict.fromkeys(named) if name in relations]


def checked(sql: str, relations: Relations = NO_RELATIONS) -> "exp.Query":
    """Parse a statement as Athena would and return its tree.

    Raises `SqlError` unless it is exactly one SELECT (with CTEs and set operations) over known tables, made of the syntax and
    the functions that are answered locally.
    """
    from sqlglot import exp

    tree = one_select(sql)
    for node in tree.walk():
        _check_node(node, sql)
    _check_words(sql)
    for table in tree.find_all(exp.Table):
        _check_table(table, sql, relations)
    return tree


def one_select(sql: str) -> "exp.Query":
    """Parse a statement as Athena would and return its tree. Raises `SqlError` unless it is exactly one SELECT that writes
    nothing; tables and functions are not looked at."""
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    if len(sql.encode()) > LONGEST_STATEMENT:
        raise SqlError(f"the statement is longer than {LONGEST_STATEMENT:,} bytes, Athena's limit; shorten it")
    try:
        statements = [statement for statement in sqlglot.parse(sql, read="athena") if statement is not None]
    except SqlglotError as error:
        raise SqlError(_parse_sentence(sql, error)) from error
    except RecursionError as error:
        raise too_deep() from error
    if not statements:
        raise SqlError("there is no statement; write one SELECT over mlcc_ci.benchmark_results")
    if len(statements) > 1:
        raise SqlError(f"{len(statements)} statements where one SELECT is allowed; send them one by one")
    tree = statements[0]
    if not isinstance(tree, exp.Query):
        kind = sql.split(None, 1)[0].upper().rstrip(";")
        raise SqlError(f"{kind} is not allowed{place_of(sql, kind)}; results are read-only, write one SELECT")
    for node in tree.walk():
        _check_reads_only(node, sql)
    return tree


def too_deep() -> SqlError:
    """Return the error of a statement whose parts are nested too deeply to be read."""
    return SqlError("the statement is nested too deeply to be read; break it up with WITH")


def _check_reads_only(node: "exp.Expr", sql: str) -> None:
    from sqlglot import exp

    if isinstance(node, (exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Create, exp.Into, exp.Command)):
        name = node.key.upper()
        raise SqlError(f"{name} is not allowed{place_of(sql, name)}; results are read-only, write one SELECT")


def _check_node(node: "exp.Expr", sql: str) -> None:
    from sqlglot import exp

    kind = type(node).__name__
    if isinstance(node, (exp.Func, exp.Binary)) and "start" in node.meta:
        _check_function(node, sql)
    elif isinstance(node, (exp.JSONExtract, exp.JSONExtractScalar)):
        raise SqlError(
            f"the operator -> between values is no part of Athena's SQL{place_of(sql, '->')}; use json_extract"
        )
    elif kind in UNKNOWN_SYNTAX:
        what, _, instead = UNKNOWN_SYNTAX[kind].partition("; ")
        raise SqlError(f"{what}{place_of(sql, what.split()[0])}; {instead}")
    elif kind not in SYNTAX and kind not in _SPELT:
        word = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=JSON)", " ", kind).upper()
        raise SqlError(
            f"{word} is not answered locally{place_of(sql, word)}; write it another way, or ask Athena itself"
        )
    _check_details(node, sql)


def _check_function(node: "exp.Expr", sql: str) -> None:
    start, end = node.meta["start"], node.meta["end"]
    name = sql[start : end + 1].strip('"`').lower()
    if name in FUNCTIONS:
        return
    place = quoted_place(sql, start)
    if _REACHING_OUT.fullmatch(name):
        raise SqlError(f"{name}() is not allowed{place}; a query reads the tables of {SCHEMA} and nothing else")
    if name in INSTEAD:
        what, _, instead = INSTEAD[name].partition("; ")
        raise SqlError(f"{name}() {what}{place}; {instead}, or ask Athena itself")
    near = difflib.get_close_matches(name, FUNCTIONS, n=3)
    other = f"nearest are {', '.join(near)}" if near else "write it another way, or ask Athena itself"
    raise SqlError(f"{name}() is no function that is answered locally{place}; {other}")


def _check_details(node: "exp.Expr", sql: str) -> None:
    """Refuse what hides in the arguments of allowed syntax: DuckDB's own additions, and what it would leave out silently."""
    from sqlglot import exp

    refused: tuple[str, str] | None = None
    if isinstance(node, exp.DataType) and node.this.name not in TYPES:
        refused = (
            node.this.name,
            "is no type that is answered locally; use varchar, bigint, double, decimal, date or timestamp",
        )
    elif isinstance(node, exp.Star) and any(node.args.values()):
        refused = "*", "with additions is no part of Athena's SQL; name the columns"
    elif isinstance(node, exp.Group) and node.args.get("all") is not None:
        refused = "ALL", "in GROUP BY is no part of Athena's SQL; name the columns"
    elif isinstance(node, exp.Group) and not any(node.args.values()):
        refused = "GROUP", "BY is followed by nothing; name the columns"
    elif isinstance(node, exp.Distinct) and node.args.get("on") is not None:
        refused = "ON", "behind DISTINCT is no part of Athena's SQL; use row_number() in a subquery"
    elif isinstance(node, exp.Fetch) and node.args.get("limit_options") is not None:
        options = node.args["limit_options"]
        if options.args.get("with_ties") or options.args.get("percent"):
            refused = "FETCH", "WITH TIES has no equal in DuckDB; filter by rank() in an outer SELECT"
    elif isinstance(node, exp.Join):
        kinds = {str(node.args.get(part) or "").upper() for part in ("kind", "side", "method")}
        if kinds - _JOINS:
            refused = min(kinds - _JOINS), "JOIN is no part of Athena's SQL; use a LEFT JOIN or EXISTS"
    elif isinstance(node, exp.Unnest) and node.find(exp.Map, exp.MapFromEntries, exp.VarMap):
        refused = "a map", "in UNNEST cannot be translated; unnest its keys and values instead"
    if refused is not None:
        word, why = refused
        what, _, instead = why.partition("; ")
        raise SqlError(f"{word} {what}{place_of(sql, word)}; {instead}")


def _check_words(sql: str) -> None:
    """Refuse what sqlglot reads and Athena does not, where the tree no longer shows it."""
    from sqlglot import tokenize

    words = tokenize(sql, read="trino")
    kinds = [word.token_type.name for word in words] + ["END"]
    for index, word in enumerate(words):
        place = quoted_place(sql, word.start)
        following = kinds[index + 1 : index + 3]
        if kinds[index] == "DCOLON":
            raise SqlError(f":: is no part of Athena's SQL{place}; use CAST")
        if kinds[index] == "COMMA" and following[0] in ("FROM", "R_PAREN", "END"):
            raise SqlError(f"nothing stands behind a comma{place}; leave the comma out")
        if kinds[index] == "LIMIT" and following[1:] == ["OFFSET"]:
            raise SqlError(f"OFFSET stands before LIMIT in Athena{place}; write OFFSET first")


def _check_table(table: "exp.Table", sql: str, relations: Relations) -> None:
    from sqlglot import exp

    if not isinstance(table.this, exp.Identifier):
        name = table.this.name or table.this.sql()
        raise SqlError(
            f"{name} is no table{place_of(sql, name)}; a query reads the tables of {SCHEMA} and nothing else"
        )
    name = table.name.lower()
    if not table.db and not table.catalog:
        scope: exp.Expr | None = table
        while scope is not None:
            if any(cte.alias.lower() == name for cte in getattr(scope, "ctes", ())):
                return
            scope = scope.parent
    known = name == TABLE or name in relations
    if not known or table.db.lower() not in ("", SCHEMA) or table.catalog:
        written = ".".join(part for part in (table.catalog, table.db, table.name) if part)
        near = difflib.get_close_matches(name, relations, n=5)
        there = f"there is {SCHEMA}.{TABLE}"
        if near:
            there += f", and nearest are {', '.join(f'{SCHEMA}.{each}' for each in near)}"
        elif relations:
            there += f", and beside it {', '.join(sorted(relations))}"
        raise SqlError(f"unknown table {written}{place_of(sql, table.name)}; {there}")
    table.set("db", exp.to_identifier(SCHEMA))


def place_of(sql: str, word: str) -> str:
    """Quote where a word stands in a statement: line, column and the line itself; empty where it is not found."""
    match = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", sql, re.IGNORECASE) if word else None
    if match is None:
        return ""
    return quoted_place(sql, match.start())


def quoted_place(sql: str, position: int) -> str:
    """Quote the place of a position in a statement: line, column and the line itself."""
    line = sql.count("\n", 0, position) + 1
    start = sql.rfind("\n", 0, position) + 1
    column = position - start + 1
    text = sql[max(start, position - 20) : position + 40].splitlines()[0].strip()
    return f" (line {line}, column {column}: `{text}`)"


def known_columns(name: str, columns: Iterable[str]) -> str:
    """Say which columns there are: those near to a name, or else all."""
    names = list(dict.fromkeys(columns))
    near = difflib.get_close_matches(name.lower(), names, n=5)
    return f"nearest are {', '.join(near)}" if near else f"there are {', '.join(names)}"


def _parse_sentence(sql: str, error: Exception) -> str:
    details = (getattr(error, "errors", None) or [{}])[0]
    what = (details.get("description") or str(error).splitlines()[0]).rstrip(".")
    highlight = details.get("highlight") or ""
    context = details.get("start_context") or ""
    position = sql.find(context + highlight) + len(context) if context + highlight in sql else -1
    place = quoted_place(sql, position) if highlight and position >= 0 else f" (in `{sql.strip()[:60]}`)"
    return f"not readable as Athena SQL: {what}{place}; correct the statement and try again"
