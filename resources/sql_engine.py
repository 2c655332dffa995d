"""SQL over the results, local engine: one SELECT in Athena's SQL, answered by DuckDB in memory.

Belongs here: checking a statement, translating it, running it within limits, saying where it is wrong. Not here:
finding the files (`result_store.py`), which tables there are beside the results (`sql_models.py`), Athena itself.

What keeps a statement from reaching anything but the tables: it must parse as one SELECT, for sqlglot and for DuckDB,
whose tables and table functions are known; DuckDB's access to files and network is turned off for good but for the very
files of the snapshot; its configuration is locked, and variables of this process are no tables.
"""

import difflib
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.records import COLUMNS
from resources.result_store import ResultStore, Snapshot

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    from sqlglot import exp

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

_BATCH_ROWS = 65_536
_LONGEST_SEQUENCE = 10_000
_LONGEST_PADDING = 1_000_000
# Names under which DuckDB reads files, other databases or itself; as scalar functions they would fail late and
# obscurely.
_REACHING_OUT = re.compile(
    r"read_\w+|\w+_scan|scan_\w+|glob|sniff_\w+|parquet_\w+|query|query_table|getenv|current_setting|getvariable|"
    r"duckdb_\w+|pragma_\w+|which_secret|load_\w+|write_\w+|\w*_metadata|arrow_\w+|(?:from|get)_substrait\w*",
    re.IGNORECASE,
)
_UNTRANSLATED = {
    "repeat": "repeat() makes an array in Athena and a text in DuckDB; write the array out",
    "reduce": "reduce() has no equal in DuckDB; use a sum or another aggregate",
    "format": "format() reads its pattern differently in DuckDB; use || and CAST",
}


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


@dataclass(frozen=True)
class SqlEngine:
    """Answers SELECT statements over a store's snapshot. `seconds` and `memory_mb` bound one query, its result
    included; `relations` are what there is beside the results, by name."""

    store: ResultStore
    seconds: float = field(kw_only=True)
    memory_mb: int = field(kw_only=True)
    relations: Relations = field(kw_only=True, default_factory=lambda: NO_RELATIONS)

    def query(self, sql: str) -> "pa.Table":
        """Answer one SELECT written in Athena's SQL and return its rows as an Arrow table.

        The table is `mlcc_ci.benchmark_results`, its columns those of the store plus `tp_degree` (the other name of
        `tensor_parallel_degree`) and the partition keys `model`, `instance`, `target`; beside it the relations, computed
        from the same snapshot. Raises `SqlError` for anything but one SELECT, for unknown names, for what translation
        cannot keep, and when a limit is reached.
        """
        return self.queries([sql])[0]

    def queries(self, statements: Sequence[str]) -> "list[pa.Table]":
        """Answer several SELECTs from one and the same snapshot, each within the limits. Raises as `query` does."""
        trees = [checked(sql, self.relations) for sql in statements]
        translated = [translate(tree, self.relations) for tree in trees]
        views = self._views(trees)
        return self.store.snapshot().read(
            lambda snapshot: self._answer(list(zip(statements, translated, strict=True)), snapshot, views)
        )

    def _views(self, trees: "Iterable[exp.Query]") -> dict[str, str]:
        """Return the relations that statements read, directly or not, each after those that it reads itself: its
        translated SELECT by name, empty where its rows are read."""
        found: dict[str, str] = {}

        def visit(tree: "exp.Query") -> None:
            for name in relations_of(tree, self.relations):
                if name in found:
                    continue
                sql = self.relations[name].sql
                if sql is None:
                    found[name] = ""
                    continue
                inner = checked(sql, self.relations)
                visit(inner)
                found[name] = translate(inner, self.relations)

        for tree in trees:
            visit(tree)
        return found

    def _answer(
        self, statements: Sequence[tuple[str, str]], snapshot: Snapshot, views: Mapping[str, str]
    ) -> "list[pa.Table]":
        with self._connection(snapshot, views) as connection:
            return [self._timed(connection, sql, translated, snapshot) for sql, translated in statements]

    def _timed(
        self, connection: "duckdb.DuckDBPyConnection", sql: str, translated: str, snapshot: Snapshot
    ) -> "pa.Table":
        import duckdb
        import pyarrow as pa

        ran_out = threading.Event()

        def stop() -> None:
            ran_out.set()
            connection.interrupt()

        timer = threading.Timer(self.seconds, stop)
        timer.daemon = True
        timer.start()
        try:
            return self._fetch(connection, translated)
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            # Once rows flow, what happens inside DuckDB arrives as an error of the Arrow reader.
            if ran_out.is_set():
                raise SqlError(
                    f"the query ran longer than {self.seconds:g} s and was stopped; narrow it or raise the limit"
                ) from error
            raise self._explained(error, sql, snapshot) from error
        finally:
            timer.cancel()

    @contextmanager
    def _connection(
        self, snapshot: Snapshot, views: Mapping[str, str] = MappingProxyType({})
    ) -> "Iterator[duckdb.DuckDBPyConnection]":
        import duckdb

        older = set(snapshot.older)
        files = [str(path) for path in snapshot.sources if path not in older]
        fewer_columns = [path for path in snapshot.sources if path in older]
        connection = duckdb.connect(":memory:", config={"memory_limit": f"{self.memory_mb}MB", "temp_directory": ""})
        try:
            # DuckDB's own reader is three to five times faster than an Arrow dataset, which reads what it cannot: files
            # without the later columns. Afterwards only these very files can be opened at all.
            sources = []
            # Footers are read when the view is made, bound and run; once is enough, files do not change.
            connection.execute("SET parquet_metadata_cache = true")
            if files:
                try:
                    connection.read_parquet(files, hive_partitioning=False).create_view("complete_results")
                except duckdb.Error as error:
                    raise snapshot.damage(error) from error
                sources.append("complete_results")
            if fewer_columns or not files:
                connection.register("older_results", snapshot.dataset(fewer_columns))
                sources.append("older_results")
            names = ", ".join(column.name for column in COLUMNS)
            rows = " UNION ALL ".join(f"SELECT {names} FROM {source}" for source in sources)
            extra = ", ".join(f"{expression} AS {name}" for name, expression in ALIAS_COLUMNS)
            connection.execute(f"CREATE SCHEMA {SCHEMA}")
            connection.execute(f"CREATE VIEW {SCHEMA}.{TABLE} AS SELECT *, {extra} FROM ({rows})")
            for name, sql in views.items():
                read = self.relations[name].rows
                if read is not None:
                    connection.register(f"rows_of_{name}", read(snapshot))
                    sql = f"SELECT * FROM rows_of_{name}"
                connection.execute(f"CREATE VIEW {SCHEMA}.{name} AS {sql}")
            connection.execute("SET allowed_paths = ?", [files])
            for setting in (
                "ieee_floating_point_ops = true",
                "autoinstall_known_extensions = false",
                "autoload_known_extensions = false",
                "python_enable_replacements = false",
                "enable_external_access = false",
                "lock_configuration = true",
            ):
                connection.execute(f"SET {setting}")
            yield connection
        finally:
            connection.close()

    def _fetch(self, connection: "duckdb.DuckDBPyConnection", sql: str) -> "pa.Table":
        """Fetch a result batch by batch: DuckDB's own limit does not count what has left it."""
        import duckdb
        import pyarrow as pa

        statements = connection.extract_statements(sql)
        if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
            raise SqlError("the statement is no single SELECT for DuckDB; results are read-only, write one SELECT")
        # A relation, not `execute`: that one would hold the whole result before handing out the first batch.
        relation = connection.sql(sql)
        reader = relation.to_arrow_reader(_BATCH_ROWS)
        batches, size = [], 0
        for batch in reader:
            size += batch.nbytes
            if size > self.memory_mb * 1_000_000:
                raise SqlError(f"the result is larger than {self.memory_mb} MB; add a LIMIT or aggregate")
            batches.append(batch)
        table = pa.Table.from_batches(batches, schema=reader.schema)
        for index, kind in enumerate(relation.types):
            # DuckDB sums whole numbers into 128 bits; Athena's bigint fails where they do not fit, and so does this.
            if str(kind) == "HUGEINT":
                table = table.set_column(index, table.column_names[index], table.column(index).cast(pa.int64()))
        return table

    def _explained(self, error: Exception, sql: str, snapshot: Snapshot) -> Exception:
        import duckdb

        text = str(error)
        if isinstance(error, duckdb.OutOfMemoryException):
            return SqlError(f"the query needs more than {self.memory_mb} MB; narrow it or raise the limit")
        damaged = (duckdb.IOException, duckdb.SerializationException, duckdb.InternalException)
        if (
            type(error) is duckdb.Error
            or isinstance(error, damaged)
            or re.search(r"parquet|snappy|tprotocol|thrift", text, re.IGNORECASE)
        ):
            return snapshot.damage(error)
        if "Division by zero" in text:
            return SqlError(
                "division by zero, which Athena refuses too; use nullif(..., 0) or a floating-point operand"
            )
        unknown = re.search(r'column (?:named )?"(?P<name>[^"]+)"', text)
        if unknown and isinstance(error, duckdb.BinderException):
            name = unknown["name"].rsplit(".", 1)[-1]
            read = relations_of(checked(sql, self.relations), self.relations)
            columns = [column for each in read for column in self.relations[each].columns]
            return SqlError(
                f"unknown column {name}{_place(sql, name)}; {_known_columns(name, columns or RESULT_COLUMNS)}"
            )
        first = text.splitlines()[0].partition(": ")[2] or text
        pointed = re.search(r"^LINE \d+: (?P<line>.*)\n(?P<caret> *)\^", text, re.MULTILINE)
        at = pointed["line"][max(0, len(pointed["caret"]) - 8 - 2) :][:40].strip() if pointed else ""
        return SqlError(f"{first.rstrip('.!')}{f' near `{at}`' if at else ''}; correct the statement and try again")


def relations_of(tree: "exp.Query", relations: Relations) -> list[str]:
    """Return the names of the relations that a checked statement reads, each once, in the order of the text."""
    from sqlglot import exp

    named = [table.name.lower() for table in tree.find_all(exp.Table) if table.db.lower() == SCHEMA]
    return [name for name in dict.fromkeys(named) if name in relations]


def checked(sql: str, relations: Relations = NO_RELATIONS) -> "exp.Query":
    """Parse a statement as Athena would and return its tree.

    Raises `SqlError` unless it is exactly one SELECT (with CTEs and set operations) over known tables, without
    functions that reach out or that translation cannot keep.
    """
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    try:
        statements = [statement for statement in sqlglot.parse(sql, read="athena") if statement is not None]
    except SqlglotError as error:
        raise SqlError(_parse_sentence(sql, error)) from error
    if not statements:
        raise SqlError("there is no statement; write one SELECT over mlcc_ci.benchmark_results")
    if len(statements) > 1:
        raise SqlError(f"{len(statements)} statements where one SELECT is allowed; send them one by one")
    tree = statements[0]
    if not isinstance(tree, exp.Query):
        kind = sql.split(None, 1)[0].upper().rstrip(";")
        raise SqlError(f"{kind} is not allowed{_place(sql, kind)}; results are read-only, write one SELECT")
    for node in tree.walk():
        _check_node(node, sql)
    for table in tree.find_all(exp.Table):
        _check_table(table, sql, relations)
    return tree


def _check_node(node: "exp.Expr", sql: str) -> None:
    from sqlglot import exp

    if isinstance(node, (exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Create, exp.Into, exp.Command)):
        kind = node.key.upper()
        raise SqlError(f"{kind} is not allowed{_place(sql, kind)}; results are read-only, write one SELECT")
    if isinstance(node, exp.Unnest) and node.find(exp.Map, exp.MapFromEntries, exp.VarMap):
        place = _place(sql, "UNNEST")
        raise SqlError(f"a map in UNNEST cannot be translated{place}; unnest its keys and values instead")
    if isinstance(node, exp.Func):
        name = (node.name if isinstance(node, exp.Anonymous) else node.sql_name()).lower()
        if name in _UNTRANSLATED:
            raise SqlError(f"{_UNTRANSLATED[name]}{_place(sql, name)}, or ask Athena itself")
        if _REACHING_OUT.fullmatch(name):
            place = _place(sql, name)
            raise SqlError(f"{name}() is not allowed{place}; a query reads the tables of {SCHEMA} and nothing else")


def _check_table(table: "exp.Table", sql: str, relations: Relations) -> None:
    from sqlglot import exp

    if not isinstance(table.this, exp.Identifier):
        name = table.this.name or table.this.sql()
        raise SqlError(f"{name} is no table{_place(sql, name)}; a query reads the tables of {SCHEMA} and nothing else")
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
        raise SqlError(f"unknown table {written}{_place(sql, table.name)}; {there}")
    table.set("db", exp.to_identifier(SCHEMA))


def translate(tree: "exp.Query", relations: Relations = NO_RELATIONS) -> str:
    """Return the DuckDB text of a checked Athena statement. Raises `SqlError` where translation cannot keep it."""
    return written(adapted(tree, relations))


def adapted(tree: "exp.Query", relations: Relations = NO_RELATIONS) -> "exp.Query":
    """Return a copy of a checked Athena statement that keeps its meaning when it is written in DuckDB's SQL.

    Division keeps Athena's meaning: between whole numbers it truncates and fails on zero, between floating-point
    numbers it gives infinity, between decimals it rounds to the larger scale. A column without a name is
    `_col<position>`. `sequence` keeps Athena's limit of 10,000 entries: DuckDB would build any length, past its own
    memory limit.
    """
    return _with_limits(_with_divisions(_with_names(tree.copy()), relations))


def written(tree: "exp.Query", *, pretty: bool = False) -> str:
    """Return the DuckDB text of an adapted statement. Raises `SqlError` for what DuckDB has no word for."""
    from sqlglot.errors import ErrorLevel, SqlglotError

    try:
        return tree.sql(dialect="duckdb", unsupported_level=ErrorLevel.RAISE, pretty=pretty)
    except SqlglotError as error:
        why = str(error).splitlines()[0]
        raise SqlError(f"this cannot be translated to DuckDB ({why}); ask Athena itself") from error


def _with_names(tree: "exp.Query") -> "exp.Query":
    from sqlglot import exp

    first: exp.Expr = tree
    while isinstance(first, (exp.SetOperation, exp.Subquery)):
        first = first.this
    if isinstance(first, exp.Select):
        for position, projection in enumerate(first.expressions):
            if not isinstance(projection, (exp.Alias, exp.Column, exp.Star)):
                projection.replace(exp.alias_(projection.copy(), f"_col{position}"))
    return tree


def _with_limits(tree: "exp.Query") -> "exp.Query":
    from sqlglot import exp

    for series in list(tree.find_all(exp.GenerateSeries)):
        start, stop, step = series.args["start"], series.args["end"], series.args.get("step")
        if isinstance(step, exp.Interval):
            start, stop = exp.cast(start, "TIMESTAMP"), exp.cast(stop, "TIMESTAMP")
        step = step or exp.Literal.number(1)
        # The larger of both directions: a step of the wrong sign is an error in Athena too.
        up = exp.GTE(this=exp.Sub(this=stop, expression=start), expression=_times(step, _LONGEST_SEQUENCE))
        down = exp.GTE(this=exp.Sub(this=start, expression=stop), expression=_times(step, -_LONGEST_SEQUENCE))
        rising = exp.and_(exp.GTE(this=stop, expression=start), up)
        falling = exp.and_(exp.GT(this=start, expression=stop), down)
        message = f"sequence() has more than {_LONGEST_SEQUENCE} entries"
        series.set("end", _unless(exp.or_(rising, falling), message, stop))
    for padding in list(tree.find_all(exp.Pad)):
        length = padding.expression
        too_long = exp.GT(this=length.copy(), expression=exp.Literal.number(_LONGEST_PADDING))
        padding.set("expression", _unless(too_long, f"padding to more than {_LONGEST_PADDING} characters", length))
    return tree


def _times(step: "exp.Expr", factor: int) -> "exp.Expr":
    from sqlglot import exp

    return exp.Mul(this=exp.paren(step.copy()), expression=exp.convert(factor))


def _unless(condition: "exp.Expr", message: str, value: "exp.Expr") -> "exp.Expr":
    from sqlglot import exp

    return exp.Case().when(condition, _call("ERROR", exp.Literal.string(message))).else_(value.copy())


def _with_divisions(tree: "exp.Query", relations: Relations) -> "exp.Query":
    from sqlglot import exp

    divisions = list(tree.find_all(exp.Div))
    kinds = _operand_kinds(tree, divisions, relations) if divisions else {}
    # Innermost last in walking order: replaced from the inside out, so that no replaced node is looked for again.
    for index, division in reversed(list(enumerate(divisions))):
        left, right = kinds.get(index, ("unknown", "unknown"))
        if "float" in (left, right):
            continue
        whole = exp.IntDiv(this=division.this.copy(), expression=division.expression.copy())
        if "decimal" in (left, right):
            scales = [_scale(operand.copy()) for operand in (division.this, division.expression)]
            division.replace(_call("ROUND", whole, _call("GREATEST", *scales)))
        else:
            division.replace(whole)
    return tree


def _operand_kinds(tree: "exp.Query", divisions: list["exp.Div"], relations: Relations) -> dict[int, tuple[str, str]]:
    """Return the kinds of both operands of each division (whole, float, decimal, unknown) by its index."""
    from sqlglot import exp
    from sqlglot.errors import SqlglotError
    from sqlglot.optimizer.annotate_types import annotate_types
    from sqlglot.optimizer.qualify import qualify

    for index, division in enumerate(divisions):
        division.meta["division"] = index
    typed = tree.copy()
    for literal in list(typed.find_all(exp.Literal)):
        if not literal.is_string and re.fullmatch(r"\d*\.\d*", literal.this):
            # In Athena 100.0 is a decimal and only 1e2 is floating point; sqlglot takes both for floating point.
            digits = literal.this.partition(".")[2]
            literal.replace(exp.cast(literal.copy(), f"DECIMAL(38, {len(digits)})"))
    schema = schema_of(relations)
    try:
        typed = annotate_types(
            qualify(typed, schema=schema, dialect="athena", validate_qualify_columns=False, expand_stars=False),
            schema=schema,
            dialect="athena",
        )
    except SqlglotError:
        return {}
    return {
        node.meta["division"]: (_kind(node.this), _kind(node.expression))
        for node in typed.find_all(exp.Div)
        if "division" in node.meta
    }


def schema_of(relations: Relations) -> dict[str, object]:
    """Return what sqlglot calls a schema: database, table, column, Athena's name of its type."""
    tables = {TABLE: dict(RESULT_COLUMNS)} | {name: dict(each.columns) for name, each in relations.items()}
    return {SCHEMA: tables}


def _kind(node: "exp.Expr") -> str:
    from sqlglot import exp

    if node.is_type(*exp.DataType.INTEGER_TYPES):
        return "whole"
    if node.is_type(*exp.DataType.FLOAT_TYPES):
        return "float"
    return "decimal" if node.is_type(exp.DataType.Type.DECIMAL) else "unknown"


def _scale(operand: "exp.Expr") -> "exp.Expr":
    """Return an expression for the digits after the point of an operand's type, `DECIMAL(4,1)`; 0 for whole numbers."""
    from sqlglot import exp

    text: exp.Expr = _call("TYPEOF", operand)
    for separator, part in ((",", 2), (")", 1)):
        text = _call("SPLIT_PART", text, exp.Literal.string(separator), exp.Literal.number(part))
    return _call("COALESCE", exp.TryCast(this=text, to=exp.DataType.build("INT")), exp.Literal.number(0))


def _call(name: str, *arguments: "exp.Expr") -> "exp.Anonymous":
    """Return a call of a DuckDB function by its own name, which no dialect rewrites."""
    from sqlglot import exp

    return exp.Anonymous(this=name, expressions=list(arguments))


def _place(sql: str, word: str) -> str:
    """Quote where a word stands in a statement: line, column and the line itself; empty where it is not found."""
    match = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", sql, re.IGNORECASE) if word else None
    if match is None:
        return ""
    return _quoted(sql, match.start())


def _quoted(sql: str, position: int) -> str:
    line = sql.count("\n", 0, position) + 1
    start = sql.rfind("\n", 0, position) + 1
    column = position - start + 1
    text = sql[max(start, position - 20) : position + 40].splitlines()[0].strip()
    return f" (line {line}, column {column}: `{text}`)"


def _parse_sentence(sql: str, error: Exception) -> str:
    details = (getattr(error, "errors", None) or [{}])[0]
    what = (details.get("description") or str(error).splitlines()[0]).rstrip(".")
    highlight = details.get("highlight") or ""
    context = details.get("start_context") or ""
    position = sql.find(context + highlight) + len(context) if context + highlight in sql else -1
    place = _quoted(sql, position) if highlight and position >= 0 else f" (in `{sql.strip()[:60]}`)"
    return f"not readable as Athena SQL: {what}{place}; correct the statement and try again"


def _known_columns(name: str, columns: Iterable[str]) -> str:
    names = list(dict.fromkeys(columns))
    near = difflib.get_close_matches(name.lower(), names, n=5)
    return f"nearest are {', '.join(near)}" if near else f"there are {', '.join(names)}"
