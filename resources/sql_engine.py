"""SQL over the results, local engine: one SELECT in Athena's SQL, answered by DuckDB in memory.

Belongs here: checking a statement, translating it, running it within limits, saying where it is wrong. Not here:
finding the files (`result_store.py`), which tables there are beside the results (`sql_models.py`), Athena itself.

What keeps a statement from reaching anything but the tables: it must parse as one SELECT, for sqlglot and for DuckDB,
whose tables and table functions are known; DuckDB's access to files and network is turned off for good but for the very
files of the snapshot; its configuration is locked, and variables of this process are no tables.
"""

import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from mlcc_dagster.core.records import COLUMNS
from resources.result_store import ResultStore, Snapshot
from resources.sql_statements import (
    ALIAS_COLUMNS,
    NO_RELATIONS,
    RESULT_COLUMNS,
    SCHEMA,
    TABLE,
    Relation,
    Relations,
    SqlError,
    checked,
    known_columns,
    place_of,
    relations_of,
    schema_of,
    too_deep,
)
from resources.sql_translation import adapted, translate, written

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    from sqlglot import exp

__all__ = [
    "ALIAS_COLUMNS",
    "NO_RELATIONS",
    "RESULT_COLUMNS",
    "SCHEMA",
    "TABLE",
    "Relation",
    "Relations",
    "SqlEngine",
    "SqlError",
    "adapted",
    "checked",
    "relations_of",
    "schema_of",
    "translate",
    "written",
]

_BATCH_ROWS = 65_536


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
            if fewer_columns:
                connection.register("older_results", snapshot.dataset(fewer_columns))
                sources.append("older_results")
            names = ", ".join(column.name for column in COLUMNS)
            # Without files no dataset of none: importing what makes one takes half a second.
            nothing = ", ".join(f"CAST(NULL AS {RESULT_COLUMNS[column.name]}) AS {column.name}" for column in COLUMNS)
            rows = " UNION ALL ".join(f"SELECT {names} FROM {source}" for source in sources)
            rows = rows or f"SELECT {nothing} WHERE false"
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
                "TimeZone = 'UTC'",
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
        for name, kind in zip(relation.columns, relation.types, strict=True):
            if "INTERVAL" in str(kind):
                raise SqlError(f"{name} is an interval, whose text is Athena's own; use date_diff, or add it to a time")
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
        # of the statement itself, whatever words it uses
        mistaken = (duckdb.BinderException, duckdb.CatalogException, duckdb.ConversionException, duckdb.ParserException)
        if (
            type(error) is duckdb.Error
            or isinstance(error, damaged)
            or (not isinstance(error, mistaken) and re.search(r"parquet|snappy|tprotocol|thrift", text, re.IGNORECASE))
        ):
            return snapshot.damage(error)
        if "expression depth limit" in text:
            return too_deep()
        if "Division by zero" in text:
            return SqlError(
                "division by zero, which Athena refuses too; use nullif(..., 0) or a floating-point operand"
            )
        unknown = re.search(r'column (?:named )?"(?P<name>[^"]+)"', text)
        if (
            unknown
            and re.search("not found|does not have a column", text)
            and isinstance(error, duckdb.BinderException)
        ):
            name = unknown["name"].rsplit(".", 1)[-1]
            read = relations_of(checked(sql, self.relations), self.relations)
            columns = [column for each in read for column in self.relations[each].columns]
            return SqlError(
                f"unknown column {name}{place_of(sql, name)}; {known_columns(name, columns or RESULT_COLUMNS)}"
            )
        first = text.splitlines()[0].partition(": ")[2] or text
        pointed = re.search(r"^LINE \d+: (?P<line>.*)\n(?P<caret> *)\^", text, re.MULTILINE)
        at = pointed["line"][max(0, len(pointed["caret"]) - 8 - 2) :][:40].strip() if pointed else ""
        return SqlError(f"{first.rstrip('.!')}{f' near `{at}`' if at else ''}; correct the statement and try again")
