"""The walls around a query: it reaches nothing but its tables, writes nothing, and ends at its limits.

Every escape is tried twice: through the engine, whose checks come first, and past them on DuckDB alone. A canary lies beside the
results in every form that DuckDB reads; its text may never come back, and no file may change.
"""

import json
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlcc_dagster.core.exceptions import UsageError
from resources.result_store import ResultStore
from resources.sql_engine import SqlEngine, SqlError

# test folders are no packages: what these tests share is imported by its own name
sys.path.insert(0, str(Path(__file__).parent))

from result_rows import row

ROOT = Path(__file__).parents[2]
CANARY = "canary-3f9d1c"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with results, and beside them a canary in every form."""
    ResultStore(tmp_path / "results").publish("c1-g1", [row("c1-g1")])
    (tmp_path / "secret.csv").write_text(f"a,b\n{CANARY},1\n", "utf-8")
    (tmp_path / "secret.json").write_text(json.dumps({"a": CANARY}), "utf-8")
    pq.write_table(pa.table({"secret": [CANARY]}), tmp_path / "secret.parquet")
    with duckdb.connect(tmp_path / "secret.duckdb") as other:
        other.execute(f"CREATE TABLE secret AS SELECT '{CANARY}' AS a")
    return tmp_path


@pytest.fixture
def store(place: Path) -> ResultStore:
    return ResultStore(place / "results")


@pytest.fixture
def engine(store: ResultStore) -> SqlEngine:
    return SqlEngine(store, seconds=20, memory_mb=500)


ESCAPES: tuple[tuple[str, str], ...] = (
    # readers of files
    ("SELECT * FROM read_csv('{csv}')", "table function"),
    ("SELECT * FROM read_csv_auto('{csv}')", "its other name"),
    ("SELECT * FROM \"read_csv\"('{csv}')", "its name in quotes"),
    ("SELECT * FROM main.read_csv('{csv}')", "its name with a schema"),
    ("SELECT * FROM READ_CSV ( '{csv}' )", "its name in capitals, a space behind it"),
    ("SELECT * FROM read_csv/* hidden */('{csv}')", "a comment between"),
    ("SELECT * FROM read_parquet('{parquet}')", "table function"),
    ("SELECT * FROM parquet_scan('{parquet}')", "its other name"),
    ("SELECT * FROM parquet_metadata('{parquet}')", "what a file says of itself"),
    ("SELECT * FROM parquet_schema('{parquet}')", "its columns"),
    ("SELECT * FROM parquet_kv_metadata('{parquet}')", "its notes"),
    ("SELECT * FROM read_json('{json}')", "table function"),
    ("SELECT * FROM read_json_auto('{json}')", "its other name"),
    ("SELECT * FROM read_ndjson_objects('{json}')", "another form"),
    ("SELECT * FROM read_text('{csv}')", "a file as a text"),
    ("SELECT * FROM read_blob('{csv}')", "a file as bytes"),
    ("SELECT read_text('{csv}')", "as a value"),
    ("SELECT * FROM sniff_csv('{csv}')", "looks into a file"),
    ("SELECT * FROM glob('{folder}/*')", "lists files"),
    ("SELECT * FROM sqlite_scan('{folder}/x.sqlite', 't')", "another database"),
    ("SELECT * FROM postgres_scan('host=127.0.0.1', 'public', 't')", "another server"),
    ("SELECT * FROM st_read('{csv}')", "of an extension"),
    ("SELECT * FROM arrow_scan(1, 2, 3)", "memory by its address"),
    ("SELECT * FROM pandas_scan(1)", "objects of this process"),
    # paths as tables
    ("SELECT * FROM '{csv}'", "a path as a text"),
    ('SELECT * FROM "{csv}"', "a path as a name"),
    ('SELECT * FROM "{parquet}"', "a path as a name"),
    ('SELECT * FROM "{folder}/*.parquet"', "a pattern"),
    ('SELECT * FROM mlcc_ci."{csv}"', "a path in our schema"),
    ('SELECT * FROM "{folder}/results/../secret.csv"', "a way out"),
    ("SELECT * FROM \"file://{csv}\"", "an address"),
    ("SELECT * FROM 'http://127.0.0.1:9/x.csv'", "the network"),
    ("SELECT * FROM \"s3://bucket/x.parquet\"", "an object store"),
    ("SELECT * FROM read_csv('http://127.0.0.1:9/x.csv')", "the network"),
    ("SELECT * FROM ｒｅａｄ＿ｃｓｖ('{csv}')", "letters that look alike"),
    ("SELECT * FROM read\u200b_csv('{csv}')", "a space without width"),
    # where functions may hide
    ("SELECT (SELECT count(*) FROM read_csv('{csv}'))", "in a subquery"),
    ("WITH x AS (SELECT * FROM read_csv('{csv}')) SELECT * FROM x", "in a CTE"),
    ("WITH read_csv AS (SELECT 1) SELECT * FROM read_csv('{csv}')", "behind a CTE of that name"),
    ("WITH \"{csv}\" AS (SELECT 1 AS one) SELECT * FROM (SELECT * FROM read_text('{csv}')) AS t", "beside a CTE"),
    ("SELECT 1 FROM benchmark_results WHERE status IN (SELECT content FROM read_text('{csv}'))", "in a condition"),
    ("SELECT 1 FROM benchmark_results ORDER BY (SELECT content FROM read_text('{csv}'))", "in an order"),
    ("SELECT 1 UNION SELECT content FROM read_text('{csv}')", "in a set operation"),
    ("SELECT 1 FROM benchmark_results JOIN read_csv('{csv}') AS t ON true", "in a join"),
    ("SELECT * FROM LATERAL (SELECT * FROM read_csv('{csv}')) AS t", "in a LATERAL"),
    ("SELECT * FROM query('SELECT * FROM read_text(''{csv}'')')", "a text as a query"),
    ("SELECT * FROM query_table('{csv}')", "a text as a table"),
    ("SELECT * FROM json_execute_serialized_sql('{{}}')", "JSON as a query"),
    ("FROM read_csv('{csv}')", "without SELECT"),
    ("SELECT COLUMNS(*) FROM read_csv('{csv}')", "in DuckDB's own words"),
    # writing
    ("COPY (SELECT 1) TO '{folder}/out.csv'", "a file"),
    ("COPY benchmark_results TO '{folder}/out.csv'", "a table"),
    ("COPY (SELECT 1) TO '{result}'", "over a result"),
    ("EXPORT DATABASE '{folder}/out'", "everything"),
    ("IMPORT DATABASE '{folder}/out'", "from a folder"),
    ("ATTACH '{folder}/x.duckdb' AS x", "a new database"),
    ("ATTACH '{folder}/secret.duckdb' AS x", "another database"),
    ("SELECT * FROM secret.main.secret", "what would be attached"),
    ("INSERT INTO benchmark_results SELECT * FROM benchmark_results", "rows"),
    ("DELETE FROM mlcc_ci.benchmark_results", "rows"),
    ("UPDATE mlcc_ci.benchmark_results SET status = 'completed'", "rows"),
    ("MERGE INTO benchmark_results t USING benchmark_results s ON t.run_id = s.run_id WHEN MATCHED THEN DELETE", "rows"),
    ("TRUNCATE TABLE mlcc_ci.benchmark_results", "rows"),
    ("DROP VIEW mlcc_ci.benchmark_results", "a view"),
    ("ALTER VIEW mlcc_ci.benchmark_results RENAME TO x", "a view"),
    ("CREATE TABLE t AS SELECT 1", "a table"),
    ("CREATE VIEW v AS SELECT * FROM read_csv('{csv}')", "a view"),
    ("CREATE MACRO f() AS TABLE SELECT * FROM read_csv('{csv}')", "a macro"),
    ("CREATE FUNCTION f() AS (SELECT content FROM read_text('{csv}'))", "a function"),
    ("CREATE SECRET s (TYPE s3, KEY_ID 'x', SECRET 'y')", "a secret"),
    ("CREATE TEMP TABLE t AS SELECT 1", "for a while"),
    ("SELECT * INTO t FROM mlcc_ci.benchmark_results", "as a SELECT"),
    ("UNLOAD (SELECT 1) TO 's3://bucket/x' WITH (format = 'PARQUET')", "as Athena writes"),
    ("VACUUM", "the database"),
    ("CHECKPOINT", "the database"),
    # the configuration
    ("SET enable_external_access = true", "opens the wall"),
    ("SET SESSION lock_configuration = false", "unlocks"),
    ("RESET memory_limit", "a limit"),
    ("PRAGMA database_list", "a procedure"),
    ("PRAGMA enable_profiling", "a file of its own"),
    ("CALL pragma_version()", "a procedure"),
    ("INSTALL httpfs", "code"),
    ("LOAD httpfs", "code"),
    ("SELECT current_setting('allowed_paths')", "what is allowed"),
    ("SELECT getenv('HOME')", "the environment"),
    ("SELECT getvariable('x')", "a variable"),
    ("SET VARIABLE x = (SELECT content FROM read_text('{csv}'))", "a variable"),
    ("SELECT * FROM duckdb_settings()", "the configuration"),
    ("SELECT * FROM duckdb_secrets()", "secrets"),
    ("SELECT * FROM duckdb_functions()", "the catalog"),
    ("SELECT * FROM duckdb_extensions()", "the extensions"),
    ("SELECT which_secret('s3://x', 's3')", "a secret"),
    ("SELECT * FROM information_schema.tables", "a catalog; the tables are listed by --list"),
    ("SELECT * FROM pg_catalog.pg_class", "a catalog"),
    ("SELECT * FROM sqlite_master", "a catalog"),
    # more than one statement, or none
    ("SELECT 1; SELECT 2", "two"),
    ("SELECT 1; DROP VIEW mlcc_ci.benchmark_results", "two"),
    ("SELECT 1 /* ; */ ; COPY (SELECT 1) TO '{folder}/out.csv'", "two behind a comment"),
    ("SELECT 1 -- \n; COPY (SELECT 1) TO '{folder}/out.csv'", "two behind a line"),
    ("SELECT 1 --\r; COPY (SELECT 1) TO '{folder}/out.csv'", "two behind half an end of line"),
    ("SELECT '; --' ; ATTACH '{folder}/x.duckdb'", "two behind a text"),
    ("PREPARE p AS SELECT * FROM read_csv('{csv}')", "prepared"),
    ("EXECUTE p", "executed"),
    ("EXPLAIN ANALYZE SELECT 1", "explained"),
    ("EXPLAIN SELECT * FROM read_csv('{csv}')", "explained"),
    ("DESCRIBE mlcc_ci.benchmark_results", "described"),
    ("SUMMARIZE mlcc_ci.benchmark_results", "summed up"),
    ("SHOW TABLES", "shown"),
    ("BEGIN TRANSACTION", "a transaction"),
    ("USE memory", "another catalog"),
    # names inside
    ("SELECT * FROM complete_results", "an inner name"),
    ("SELECT * FROM older_results", "an inner name"),
    ("SELECT * FROM store", "a variable of this process"),
    ("SELECT * FROM other.benchmark_results", "another schema"),
    ("SELECT * FROM memory.mlcc_ci.benchmark_results", "a catalog"),
    ("SELECT * FROM range(10)", "a table function that Athena does not have"),
)  # fmt: skip

NO_STATEMENT = (("", "nothing"), (";;", "nothing"), ("hello", "a word"), ("SELECT (1", "broken"), ("\x00", "a zero"))


def filled(sql: str, place: Path, store: ResultStore) -> str:
    """Return an escape with the paths of this test."""
    return sql.format(
        csv=place / "secret.csv",
        json=place / "secret.json",
        parquet=place / "secret.parquet",
        folder=place,
        result=store.snapshot().files[0],
    )


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("sql", "reason"), [*ESCAPES, *NO_STATEMENT])
def test_nothing_but_the_tables_is_reached(engine: SqlEngine, store: ResultStore, place: Path, sql: str, reason: str):
    before = files(place)
    with pytest.raises(SqlError) as caught:
        engine.query(filled(sql, place, store))
    said = str(caught.value)
    assert CANARY not in said, reason
    assert "\n" not in said, "one sentence"
    assert isinstance(caught.value, UsageError)
    assert files(place) == before, reason


@pytest.mark.parametrize(("sql", "reason"), ESCAPES)
def test_the_inner_wall_holds_without_the_outer_one(
    engine: SqlEngine, store: ResultStore, place: Path, sql: str, reason: str
):
    """What DuckDB itself may answer of these is about itself; never the canary, never a file."""
    local_variable = pa.table({"secret": [CANARY]})
    assert local_variable.num_rows == 1
    before = files(place)
    with engine._connection(store.snapshot()) as connection:
        try:
            said = str(engine._fetch(connection, filled(sql, place, store)).to_pylist())
        except Exception as error:
            said = str(error)
    assert CANARY not in said, reason
    assert files(place) == before, reason


def test_the_canary_would_be_seen(place: Path):
    """Without the walls every reader finds it: what the tests above look for is there to be found."""
    for reader in ("read_csv('{}/secret.csv')", "read_json('{}/secret.json')", "read_parquet('{}/secret.parquet')"):
        assert CANARY in str(duckdb.sql(f"SELECT * FROM {reader.format(place)}").fetchall())


def test_variables_of_the_process_are_no_tables(engine: SqlEngine, store: ResultStore):
    local_variable = pa.table({"secret": [CANARY]})
    with engine._connection(store.snapshot()) as connection, pytest.raises(duckdb.CatalogException):
        engine._fetch(connection, "SELECT * FROM local_variable")
    assert local_variable.num_rows == 1


# ---- limits

BIG = "UNNEST(sequence(1, 10000)) AS a(x), UNNEST(sequence(1, 10000)) AS b(y), UNNEST(sequence(1, 10000)) AS c(z)"
DOUBLED = ", ".join(f"s{n + 1} AS (SELECT s || s AS s FROM s{n})" for n in range(30))
CROSSED = ", ".join(f"t{n + 1} AS (SELECT l.x FROM t{n} AS l CROSS JOIN t{n} AS r)" for n in range(20))

RUNAWAYS: tuple[tuple[str, str, str], ...] = (
    (f"SELECT count(*) FROM {BIG} WHERE x * y * z = 3", "ran longer than 0.5 s and was stopped", "a cross join, counted"),
    (f"SELECT x FROM {BIG} WHERE x * y * z % 99 = 3", "ran longer than 0.5 s and was stopped", "a cross join, streamed"),
    ("WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t",
     "ran longer than 0.5 s and was stopped", "a recursion without end"),
    (f"SELECT count(DISTINCT x * 10000 + y) FROM {BIG}", "0", "a table of all that was seen"),
    ("SELECT cardinality(transform(sequence(1, 10000), x -> cardinality(transform(sequence(1, 10000), "
     "y -> cardinality(sequence(1, 10000))))))", "0", "functions within functions"),
)  # fmt: skip


@pytest.mark.parametrize(("sql", "sentence", "reason"), RUNAWAYS)
def test_a_runaway_query_ends_at_a_limit_and_leaves_the_process_usable(
    store: ResultStore, sql: str, sentence: str, reason: str
):
    engine = SqlEngine(store, seconds=0.5, memory_mb=300)
    with pytest.raises(SqlError) as caught:
        engine.query(sql)
    said = str(caught.value)
    assert sentence in said, reason
    assert "was stopped; narrow it" in said or "needs more than 300 MB; narrow it" in said
    assert [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)] == []
    assert SqlEngine(store, seconds=20, memory_mb=300).query("SELECT count(*) FROM benchmark_results").num_rows == 1


@pytest.mark.parametrize(
    ("sql", "sentence", "reason"),
    [
        (f"SELECT x, y, z FROM {BIG}", "result is larger than 60 MB", "what leaves the engine counts too"),
        (f"SELECT array_agg(x * y) FROM {BIG}", "needs more than 60 MB", "what it holds inside"),
        (f"WITH s0 AS (SELECT '0123456789' AS s), {DOUBLED} SELECT length(s) FROM s30", "needs more than 60 MB",
         "a text that doubles"),
        ("WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n FROM t CROSS JOIN UNNEST(ARRAY[1, 2]) AS u(x)) "
         "SELECT count(*) FROM t", "needs more than 60 MB", "a recursion that doubles"),
        (f"WITH t0 AS (SELECT x FROM UNNEST(sequence(1, 100)) AS u(x)), {CROSSED} SELECT count(*) FROM t20",
         "needs more than 60 MB", "a plan that doubles"),
        ("SELECT * FROM UNNEST(sequence(1, 10001)) AS t(x)", "sequence() has more than 10000 entries", "as in Athena"),
        ("SELECT count(*) FROM UNNEST(sequence(1, 1000000000000)) AS t(x)", "more than 10000 entries", "10^12"),
        (
            "SELECT * FROM UNNEST(sequence(DATE '0001-01-01', DATE '2024-01-01', INTERVAL '1' DAY)) AS t(x)",
            "sequence() has more than 10000 entries",
            "of times",
        ),
        ("SELECT * FROM UNNEST(sequence(10000000000, 1, -1)) AS t(x)", "more than 10000 entries", "downward"),
        ("SELECT lpad('x', 2000000000, 'y')", "padding to more than 1000000 characters", "a long text"),
        ("SELECT levenshtein_distance(lpad('x', 1000000, 'a'), lpad('y', 1000000, 'b'))", "texts as long as these", "as in Athena"),
        ("SELECT " + "(" * 3000 + "1" + ")" * 3000, "nested too deeply", "brackets"),
        ("SELECT " + "NOT " * 5000 + "true", "nested too deeply", "words"),
        ("SELECT " + " + ".join(["1"] * 1500), "nested too deeply", "a long sum"),
        ("SELECT '" + "x" * 262_144 + "'", "longer than 262,144 bytes", "as in Athena"),
    ],
)  # fmt: skip
def test_a_greedy_query_ends_at_its_limit(store: ResultStore, sql: str, sentence: str, reason: str):
    with pytest.raises(SqlError) as caught:
        SqlEngine(store, seconds=60, memory_mb=60).query(sql)
    assert sentence in str(caught.value), reason
    assert "\n" not in str(caught.value)


# In processes of their own: they are ended.
HELD = """
import sys, time
from pathlib import Path
from resources.result_store import ResultStore
from resources.sql_engine import SqlEngine
import resources.sql_limits as limits

limits.GRACE_SECONDS = float(sys.argv[3])
engine = SqlEngine(ResultStore(Path(sys.argv[1])), seconds=1, memory_mb=100)
say = lambda sentence: print(sentence, file=sys.stderr, flush=True)
engine.query("SELECT 1")  # what a first query imports is not what is waited for
with limits.last_limits(1, 100, exit_code=2, say=say):
    if sys.argv[2] == "sleep":
        time.sleep(60)
    print(engine.query(sys.argv[2]).to_pylist())
time.sleep(2.5)
"""


@pytest.mark.parametrize(
    ("what", "grace", "said", "reason"),
    [
        ("sleep", 0.5, (2, "", "ran longer than 1 s, and nothing but the end of this process stops it"), "time"),
        (
            "SELECT length(array_join(transform(sequence(1, 10000), x -> lpad('x', 1000000, 'y')), ''))",
            30,
            (2, "", "needs more than 100 MB, and nothing but the end of this process stops it"),
            "ten thousand texts of a million characters, in one call of one function: 10 GB",
        ),
        ("SELECT count(*) AS n FROM benchmark_results", 1, (0, "[{'n': 1}]\n", ""), "what ends in time is let be"),
    ],
)
def test_a_process_for_one_query_ends_with_it_where_nothing_else_stops_it(
    store: ResultStore, what: str, grace: float, said: tuple[int, str, str], reason: str
):
    done = subprocess.run(
        [sys.executable, "-c", HELD, str(store.root), what, str(grace)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    code, out, sentence = said
    assert (done.returncode, done.stdout) == (code, out), reason
    assert sentence in done.stderr
    assert done.stderr.count("\n") == bool(sentence)
