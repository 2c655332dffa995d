"""What the result store costs: the documented queries against bare DuckDB on one file, many small files against the same
rows compacted, and appending one result against the promised seconds."""

import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.pairs import Comparison, compare, seconds
from mlcc_dagster.core.records import COLUMN_NAMES
from resources.compaction import GRACE_SECONDS, compact
from resources.result_store import ResultStore, arrow_schema
from resources.sql_engine import SqlEngine

QUERIES = {
    "latest path proofs": (
        "SELECT config_id, model_family, instance_family, deployment_config, status FROM mlcc_ci.benchmark_results "
        "WHERE run_type = 'path_prove' ORDER BY run_timestamp DESC LIMIT 20"
    ),
    "unfeasible": (
        "SELECT config_id, model_family, instance_family, deployment_config, failure_reason FROM "
        "mlcc_ci.benchmark_results WHERE status = 'unfeasible' ORDER BY run_timestamp DESC"
    ),
    "proven by family": (
        "SELECT model_family, instance_family, COUNT(*) as proven_count FROM mlcc_ci.benchmark_results "
        "WHERE status = 'completed' GROUP BY model_family, instance_family ORDER BY proven_count DESC"
    ),
}
ROWS, FILES, APPENDS = 1_000_000, 10_000, 50
DAY = 86_400.0
LIMITS: dict[str, Any] = {"seconds": 120, "memory_mb": 4000}


def measure() -> Iterator[Comparison]:
    """Measure the store's promises in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        yield from queries_on_many_rows(Path(folder) / "rows" / "results")
        yield from many_files(Path(folder) / "files" / "results")
        yield from appending(Path(folder) / "append" / "results")


def queries_on_many_rows(root: Path) -> Iterator[Comparison]:
    """The three documented queries on 10^6 rows: our engine, sandbox and translation included, against bare DuckDB."""
    root.mkdir(parents=True)
    file = root / "run-many-g1.parquet"
    pq.write_table(many_rows(ROWS), file, compression="snappy", write_page_checksum=True, row_group_size=122_880)
    engine = SqlEngine(ResultStore(root), **LIMITS)
    for name, sql in QUERIES.items():
        yield compare(f"{name}, 10^6 rows / bare DuckDB", ours(engine, sql), bare(file, sql), runs=9, bound=1.5)


def many_files(root: Path) -> Iterator[Comparison]:
    """The same queries over 10,000 files of one row each, not compacted and compacted, after the first read of each."""
    small, merged = ResultStore(root), ResultStore(root.with_name("merged") / "results")
    for store in (small, merged):
        for table, number in zip(itertools.cycle(many_rows(100).to_batches(1)), range(FILES), strict=False):
            lay_down(store, pa.Table.from_batches([table]), number)
    # A snapshot of many files first puts their rows into the read cache, once.
    yield Comparison(
        f"first snapshot of {FILES} files, rows cached / bare DuckDB over them",
        ((seconds(small.snapshot), seconds(bare(f"{small.root}/**/*.parquet", QUERIES["unfeasible"]))),),
    )
    now = time.time() + DAY
    yield Comparison(
        f"compaction of {FILES} files / first snapshot of them",
        ((seconds(lambda: compact(merged, now=now)), seconds(merged.snapshot)),),
    )
    compact(merged, now=now + GRACE_SECONDS)
    engines = [SqlEngine(store, **LIMITS) for store in (small, merged)]
    for name, sql in QUERIES.items():
        left, right = (ours(engine, sql) for engine in engines)
        yield compare(f"{name}, {FILES} files / compacted", left, right, runs=9, bound=2)
    yield compare(
        f"all rows of {FILES} files / compacted",
        lambda: small.snapshot().table(),
        lambda: merged.snapshot().table(),
        runs=9,
        bound=2,
    )


def appending(root: Path) -> Iterator[Comparison]:
    """Publishing one result less the seconds of as many syncs as it makes, against the promised 10 ms."""
    store = ResultStore(root)
    row = many_rows(1).to_pylist()[0] | {"schema_version": 1, "tensor_parallel_degree": 1}
    numbers = itertools.count()

    def append() -> None:
        number = next(numbers)
        store.publish(f"a{number}-g1", [row | {"run_id": f"a{number}-g1", "config_id": f"a{number}"}])

    append()
    pairs = []
    for _ in range(APPENDS):
        spent = [0.0]
        real = os.fsync

        def timed(descriptor: int, spent: list[float] = spent, real: Callable[[int], None] = real) -> None:
            spent[0] += seconds(lambda: real(descriptor))

        os.fsync = timed
        try:
            whole = seconds(append)
        finally:
            os.fsync = real
        pairs.append((whole - spent[0], 0.010))
    yield Comparison("append of one result less its syncs / promised seconds", tuple(pairs), bound=1)


def ours(engine: SqlEngine, sql: str) -> Callable[[], object]:
    """Return a call that answers a query by the platform's engine."""
    return lambda: engine.query(sql)


def bare(files: Path | str, sql: str) -> Callable[[], object]:
    """Return a call that answers a query by DuckDB alone, in a connection of its own."""

    def run() -> object:
        with duckdb.connect() as connection:
            return connection.sql(sql.replace("mlcc_ci.benchmark_results", f"read_parquet('{files}')")).to_arrow_table()

    return run


def lay_down(store: ResultStore, rows: pa.Table, number: int) -> None:
    """Write one run's file as publishing leaves it, without its syncs: ten thousand of them are minutes on some disks."""
    run = f"c{number}-g1"
    folder = store.root / f"model=m{number % 10}" / "instance=local.1cpu" / "target=realtime-inference"
    folder.mkdir(parents=True, exist_ok=True)
    rows = rows.set_column(COLUMN_NAMES.index("run_id"), "run_id", pa.array([run], pa.string()))
    pq.write_table(
        rows, folder / f"run-{run}.parquet", compression="snappy", use_dictionary=False, write_page_checksum=True
    )


def many_rows(count: int) -> pa.Table:
    """Return random rows of the table: numbers in every measured column, texts where the queries look."""
    chosen = np.random.default_rng(7)

    def among(*values: str | None) -> pa.Array:
        return pa.array(np.array(values, dtype=object)[chosen.integers(0, len(values), count)], pa.string())

    known = {
        "model_name": among(*(f"org/model-{n}" for n in range(30))),
        "model_family": among(*(f"family-{n}" for n in range(25))),
        "instance_type": among(*(f"ml.g{n}.xlarge" for n in range(20))),
        "instance_family": among(*(f"g{n}" for n in range(20))),
        "deployment_config": among("transformers-vllm", "transformers-sglang", "http-fastapi"),
        "deployment_target": among("realtime-inference", "async-inference"),
        "config_id": among(*(f"{n:016x}" for n in range(3000))),
        "status": among(*["completed"] * 8, "failed", "unfeasible"),
        "failure_reason": among("out of memory", "no answer in time", None),
        "run_type": among("ci", "path_prove", "manual"),
        "run_timestamp": pa.array([f"2026-{1 + n % 12:02d}-09T14:30:{n % 60:02d}.{n:06d}Z" for n in range(count)]),
        "run_id": pa.array([f"r{n}-g1" for n in range(count)]),
    }
    columns = [
        known[field.name]
        if field.name in known
        else pa.array(chosen.random(count))
        if field.type == pa.float64()
        else pa.nulls(count, field.type)
        for field in arrow_schema()
    ]
    return pa.table(columns, schema=arrow_schema())
