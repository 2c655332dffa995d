"""The local SQL engine: Athena's SQL answered by DuckDB; its walls and limits are in `test_sql_sandbox.py`."""

import math
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlcc_dagster.core.records import COLUMN_NAMES
from resources.result_store import ResultStore, arrow_schema
from resources.sql_engine import SqlEngine, SqlError, checked, translate

ROOT = Path(__file__).parents[2]


def row(run_id: str, **values):
    made = dict.fromkeys(COLUMN_NAMES) | {
        "model_name": "Qwen/Qwen3-4B",
        "model_family": "qwen3",
        "instance_type": "ml.g5.xlarge",
        "instance_family": "g5",
        "deployment_config": "transformers-vllm",
        "deployment_target": "realtime-inference",
        "tensor_parallel_degree": 2,
        "run_type": "path_prove",
        "run_timestamp": "2026-06-09T14:30:22.000000Z",
        "run_id": run_id,
        "config_id": run_id.split("-")[0],
        "status": "completed",
        "workload": "sample",
        "concurrency": 7,
        "cost_usd": 1.5,
        "schema_version": 1,
    }
    return made | values


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    """Three runs in the store."""
    made = ResultStore(tmp_path / "results")
    made.publish("c1-g1", [row("c1-g1", run_timestamp="2026-06-01T00:00:00.000000Z")])
    made.publish("c2-g1", [row("c2-g1", instance_family="g6", run_timestamp="2026-06-02T00:00:00.000000Z")])
    made.publish(
        "c3-g1",
        [
            row(
                "c3-g1",
                status="unfeasible",
                failure_reason="CUDA out of memory",
                concurrency=0,
                run_timestamp="2026-06-03T00:00:00.000000Z",
            )
        ],
    )
    return made


@pytest.fixture
def engine(store: ResultStore) -> SqlEngine:
    return SqlEngine(store, seconds=20, memory_mb=500)


def values(engine: SqlEngine, sql: str) -> list[tuple]:
    return [tuple(found.values()) for found in engine.query(sql).to_pylist()]


# ---- what is answered


def test_the_three_documented_queries_run_unchanged(engine: SqlEngine):
    assert values(
        engine,
        """SELECT config_id, model_family, instance_family, deployment_config, status FROM mlcc_ci.benchmark_results
    WHERE run_type = 'path_prove' ORDER BY run_timestamp DESC LIMIT 20;""",
    ) == [
        ("c3", "qwen3", "g5", "transformers-vllm", "unfeasible"),
        ("c2", "qwen3", "g6", "transformers-vllm", "completed"),
        ("c1", "qwen3", "g5", "transformers-vllm", "completed"),
    ]
    assert values(
        engine,
        """SELECT config_id, model_family, instance_family, deployment_config, failure_reason FROM
    mlcc_ci.benchmark_results WHERE status = 'unfeasible' ORDER BY run_timestamp DESC;""",
    ) == [("c3", "qwen3", "g5", "transformers-vllm", "CUDA out of memory")]
    found = engine.query(
        """SELECT model_family, instance_family, COUNT(*) as proven_count FROM mlcc_ci.benchmark_results
    WHERE status = 'completed' GROUP BY model_family, instance_family ORDER BY proven_count DESC;"""
    )
    assert found.column_names == ["model_family", "instance_family", "proven_count"]
    assert sorted(tuple(line.values()) for line in found.to_pylist()) == [("qwen3", "g5", 1), ("qwen3", "g6", 1)]


def test_the_degree_is_readable_under_both_names_and_partition_keys_are_columns(engine: SqlEngine):
    found = engine.query(
        "SELECT DISTINCT tensor_parallel_degree, tp_degree, model, instance, target FROM benchmark_results"
    )
    assert found.to_pylist() == [
        {
            "tensor_parallel_degree": 2,
            "tp_degree": 2,
            "model": "Qwen_Qwen3-4B",
            "instance": "ml.g5.xlarge",
            "target": "realtime-inference",
        }
    ]


@pytest.mark.parametrize(
    ("sql", "expected", "reason"),
    [
        ("WITH x AS (SELECT config_id AS c FROM benchmark_results) SELECT count(*) FROM x", [(3,)], "CTE"),
        ("SELECT 1 UNION ALL SELECT 1", [(1,), (1,)], "set operation"),
        ("(SELECT 1)", [(1,)], "in brackets"),
        ("SELECT x FROM UNNEST(sequence(1, 3)) AS t(x)", [(1,), (2,), (3,)], "UNNEST of an array"),
        ("SELECT * FROM (VALUES (1, 'a')) AS t(n, s)", [(1, "a")], "VALUES"),
        ("SELECT json_extract_scalar('{\"a\": \"b\"}', '$.a')", [("b",)], "JSON as Athena spells it"),
        ("SELECT approx_distinct(config_id) > 0 FROM mlcc_ci.benchmark_results", [(True,)], "Trino's name"),
        ("SELECT max_by(config_id, run_timestamp) FROM benchmark_results", [("c3",)], "Trino's name"),
        ("SELECT count(*) FROM MLCC_CI.Benchmark_Results", [(3,)], "names without case"),
        ("SELECT r.status FROM benchmark_results r JOIN benchmark_results s ON r.run_id = s.run_id WHERE r.run_id = 'c1-g1'",
         [("completed",)], "join with itself"),
    ],
)  # fmt: skip
def test_one_select_of_any_shape_is_answered(engine: SqlEngine, sql: str, expected, reason: str):
    assert values(engine, sql) == expected, reason


@pytest.mark.parametrize(
    ("expression", "expected", "reason"),
    [
        ("7 / 2", 3, "whole numbers truncate"),
        ("-7 / 2", -3, "toward zero"),
        ("concurrency / 2", 3, "so do whole columns"),
        ("sum(concurrency) / count(*)", 7, "and aggregates, as bigint"),
        ("7e0 / 2", 3.5, "floating point divides"),
        ("cost_usd / 2", 0.75, "so do floating-point columns"),
        ("1e0 / 0", math.inf, "IEEE: infinity"),
        ("-cost_usd / 0", -math.inf, "with its sign"),
        ("avg(cost_usd) / 0", math.inf, "an aggregate of them"),
        ("10.0 / 3", 3.3, "a decimal keeps the larger scale"),
        ("100.0 * count(*) / 7", 14.3, "the usual percentage, one digit as Athena gives it"),
        ("1.00 / 3.0", 0.33, "larger of both scales"),
    ],
)
def test_division_agrees_with_athena(engine: SqlEngine, expression: str, expected: float, reason: str):
    sql = f"SELECT {expression} AS v FROM benchmark_results WHERE run_id = 'c1-g1' GROUP BY concurrency, cost_usd"
    ((found,),) = values(engine, sql)
    assert found == expected, reason
    assert type(found) is type(expected)


@pytest.mark.parametrize("expression", ["1 / 0", "1 % 0", "1.0 / 0", "concurrency / 0"])
def test_exact_division_by_zero_fails_as_in_athena(engine: SqlEngine, expression: str):
    with pytest.raises(SqlError, match="division by zero"):
        engine.query(f"SELECT {expression} FROM benchmark_results")


def test_division_keeps_its_meaning_under_another_name(engine: SqlEngine):
    sql = "WITH t AS (SELECT concurrency AS cost_usd, cost_usd AS c FROM benchmark_results) SELECT cost_usd / 2, c / 0 FROM t"
    assert values(engine, sql)[0] == (3, math.inf)


def test_columns_without_a_name_are_named_as_athena_names_them(engine: SqlEngine):
    assert engine.query("SELECT status, count(*), 1 AS one FROM benchmark_results GROUP BY 1").column_names == [
        "status",
        "_col1",
        "one",
    ]


def test_nulls_come_last_in_either_direction(engine: SqlEngine):
    for direction in ("ASC", "DESC"):
        found = values(engine, f"SELECT failure_reason FROM benchmark_results ORDER BY failure_reason {direction}")
        assert [value is None for (value,) in found] == [False, True, True]


def test_an_empty_store_answers_with_no_rows(tmp_path: Path):
    empty = SqlEngine(ResultStore(tmp_path / "none"), seconds=5, memory_mb=200)
    assert values(empty, "SELECT * FROM mlcc_ci.benchmark_results") == []
    assert values(empty, "SELECT count(*) FROM mlcc_ci.benchmark_results") == [(0,)]


def test_files_of_existing_installations_are_answered_beside_ours(engine: SqlEngine, store: ResultStore):
    theirs = {name: value for name, value in row("x-g1").items() if name in COLUMN_NAMES[:67]}
    folder = store.snapshot().files[0].parent
    schema = pa.schema(list(arrow_schema())[:67])
    pq.write_table(pa.Table.from_pylist([theirs], schema=schema), folder / "run-p1-20260609T143022Z.parquet")
    assert sorted(values(engine, "SELECT status, count(*) FROM benchmark_results GROUP BY 1"), key=str) == [
        ("completed", 2),
        ("unfeasible", 1),
        (None, 1),
    ]


def test_a_file_damaged_inside_is_left_out_at_once_and_named_by_the_next_snapshot(
    engine: SqlEngine, store: ResultStore
):
    bad = store.snapshot().files[0]
    column = pq.ParquetFile(bad).metadata.row_group(0).column(COLUMN_NAMES.index("run_timestamp"))
    content = bytearray(bad.read_bytes())
    for offset in range(column.data_page_offset, column.data_page_offset + column.total_compressed_size):
        content[offset] ^= 0xFF
    bad.write_bytes(content)
    assert values(engine, "SELECT count(run_timestamp) FROM benchmark_results") == [(2,)]
    assert [path for path, _ in store.snapshot().skipped] == [bad]
    assert values(engine, "SELECT count(run_timestamp) FROM benchmark_results") == [(2,)]


# ---- what is refused


@pytest.mark.parametrize(
    ("sql", "sentence", "reason"),
    [
        ("SELECT statu FROM benchmark_results", "unknown column statu (line 1, column 8: `SELECT statu FROM", "place"),
        ("SELECT statu FROM benchmark_results", "nearest are status", "what exists"),
        ("SELECT r.statu FROM benchmark_results r", "unknown column statu", "behind an alias"),
        ("SELECT xyzzy FROM benchmark_results", "there are project_name, model_name", "nothing near: all of them"),
        ("SELECT parquet FROM benchmark_results", "unknown column parquet", "words of files are words like others"),
        ("SELECT 1\nFROM nowhere", "unknown table nowhere (line 2, column 6: `FROM nowhere`)", "place"),
        ("SELECT 1 FROM nowhere", "there is mlcc_ci.benchmark_results", "what exists"),
        ("SELECT status FRM benchmark_results", "(line 1, column 19: `SELECT status FRM benchmark_results`)", "place"),
        ("SELECT no_such_function(1)", "no_such_function", "an unknown function is named"),
        ("SELECT CAST('x' AS integer)", "x", "a failing cast quotes the value"),
        ("INSERT INTO t VALUES (1)", "INSERT is not allowed (line 1, column 1", "place"),
        ("SELECT 1; SELECT 2", "2 statements where one SELECT is allowed", "count"),
        ("SELECT format('%s', 1)", "format() reads its pattern differently in DuckDB", "not another answer"),
        ("SELECT reduce(ARRAY[1], 0, (s, x) -> s + x, s -> s)", "reduce() has no equal", "not another answer"),
        ("SELECT repeat('a', 3)", "repeat() makes an array in Athena", "not another answer"),
        (
            "SELECT k FROM (VALUES 1) t(a) CROSS JOIN UNNEST(map(ARRAY['a'], ARRAY[1])) AS u(k, v)",
            "a map in UNNEST cannot be translated",
            "not another answer",
        ),
    ],
)
def test_a_mistake_is_explained_in_one_sentence_with_its_place(engine: SqlEngine, sql: str, sentence: str, reason: str):
    with pytest.raises(SqlError) as caught:
        engine.query(sql)
    assert sentence in str(caught.value), reason
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_an_error_in_the_middle_of_the_rows_is_explained_like_any_other(engine: SqlEngine):
    with pytest.raises(SqlError, match="division by zero"):
        engine.query(
            "SELECT 1 / (x * y - 3000000) FROM UNNEST(sequence(1, 10000)) AS a(x), UNNEST(sequence(1, 300)) AS b(y)"
        )


# ---- limits


def test_the_longest_sequences_of_athena_are_answered(engine: SqlEngine):
    for arguments in ("1, 10000", "10000, 1, -1", "1, 20000, 2"):
        assert values(engine, f"SELECT count(*) FROM UNNEST(sequence({arguments})) AS t(x)") == [(10_000,)]
    days = "DATE '2024-01-01', DATE '2024-01-31', INTERVAL '1' DAY"
    assert values(engine, f"SELECT count(*) FROM UNNEST(sequence({days})) AS t(x)") == [(31,)]


def test_queries_run_beside_each_other(engine: SqlEngine):
    answers: list[list[tuple]] = []
    threads = [
        threading.Thread(target=lambda: answers.append(values(engine, "SELECT count(*) FROM benchmark_results")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [[(3,)]] * 4


# ---- house rules


def test_a_checked_tree_is_not_changed_by_translating_it():
    tree = checked("SELECT 7 / 2, count(*) FROM benchmark_results")
    before = tree.sql()
    assert translate(tree) == translate(tree)
    assert tree.sql() == before


def test_no_temporary_folder_is_left_in_the_working_directory(engine: SqlEngine, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    engine.query("SELECT * FROM benchmark_results ORDER BY run_timestamp")
    assert set(tmp_path.iterdir()) == before


def test_importing_the_engine_imports_neither_pyarrow_nor_duckdb_nor_sqlglot():
    code = "import sys, resources.sql_engine; print(sorted({'pyarrow', 'duckdb', 'sqlglot', 'dagster'} & set(sys.modules)))"
    child = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert child.stdout.strip() == "[]"
