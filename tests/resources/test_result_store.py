"""The result store: publishing once and whole, snapshots that name what they leave out, one schema for all readers."""

import logging
import os
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import dataset as pds

from mlcc_dagster.core.exceptions import InvalidInput
from mlcc_dagster.core.records import COLUMN_NAMES
from resources.result_store import DamagedResults, ResultStore, arrow_schema

# test folders are no packages: what these tests share is imported by its own name
sys.path.insert(0, str(Path(__file__).parent))

from result_rows import row

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(tmp_path / "results")


def all_files(root: Path) -> list[str]:
    return sorted(path.name for path in root.rglob("*") if path.is_file())


# ---- publishing


def test_what_is_published_is_read_back_with_the_schema_of_the_table(store: ResultStore):
    rows = [row(concurrency=1, ttft_p50_ms=70, enable_lora=False), row(concurrency=4, ttft_p50_ms=89.60000000000001)]
    path = store.publish("c1-g1", rows)
    assert path.relative_to(store.root).as_posix() == (
        "model=Qwen_Qwen3-4B/instance=ml.g5.xlarge/target=realtime-inference/run-c1-g1.parquet"
    )
    assert store.snapshot().rows() == rows
    stored = pq.ParquetFile(path)
    assert stored.schema_arrow.equals(arrow_schema())
    assert stored.metadata.row_group(0).column(0).compression == "SNAPPY"


def test_publishing_again_changes_nothing(store: ResultStore):
    path = store.publish("c1-g1", [row()])
    before = (path.read_bytes(), path.stat().st_ino, store.snapshot().version)
    assert store.publish("c1-g1", [row(status="failed")]) == path
    assert (path.read_bytes(), path.stat().st_ino, store.snapshot().version) == before
    assert all_files(store.root) == ["run-c1-g1.parquet"]


def test_of_many_publishers_at_once_one_writes_and_all_succeed(store: ResultStore):
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(lambda level: store.publish("c1-g1", [row(concurrency=level)]), range(1, 17)))
    assert len(paths) == 1
    assert all_files(store.root) == ["run-c1-g1.parquet"]
    assert len(store.snapshot().rows()) == 1


@pytest.mark.parametrize(
    ("rows", "fragment", "reason"),
    [
        ([], "at least one row", "a run that proved nothing is not published"),
        ([row(status="done")], "row 0: status: must be one of", "checked against the columns"),
        ([row(), row(concurrency=2, ttft_p50_ms="x")], "row 1: ttft_p50_ms", "the row is named"),
        ([row("c2-g1")], "row 0: run_id is 'c2-g1', not 'c1-g1'", "one run per file"),
        ([row(), row()], "row 1: repeats config_id, workload and concurrency", "identity of a row"),
        ([row(), row(concurrency=2, config_id="c9")], "row 1: another config_id", "one configuration per run"),
    ],
)
def test_rows_that_do_not_fit_are_refused_and_nothing_is_written(store: ResultStore, rows, fragment: str, reason: str):
    with pytest.raises(InvalidInput) as caught:
        store.publish("c1-g1", rows)
    assert any(fragment in problem for problem in caught.value.problems), reason
    assert all_files(store.root.parent) == []


def test_a_name_that_leaves_the_store_is_refused(store: ResultStore):
    with pytest.raises(InvalidInput, match="cannot name a folder"):
        store.publish("c1-g1", [row(model_name="..")])
    assert all_files(store.root.parent) == []


CRASH = """
    import os, signal, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[4])
    from resources.result_store import ResultStore
    from test_rows import row

    point, root = sys.argv[1], Path(sys.argv[2])
    real_fsync, real_link, syncs = os.fsync, os.link, []

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def fsync(descriptor):
        is_folder = os.path.isdir(f"/proc/self/fd/{descriptor}")
        published = any(root.rglob("run-*.parquet"))
        if point == "before file sync" and not is_folder:
            die()
        if point == "before folder sync" and is_folder and published:
            die()
        real_fsync(descriptor)
        if point == "after file sync" and not is_folder:
            die()

    def link(source, target):
        if point == "before link":
            die()
        real_link(source, target)
        if point == "after link":
            die()

    os.fsync, os.link = fsync, link
    if point == "half written":
        import pyarrow.parquet as pq
        def write_table(table, file, **options):
            file.write(b"PAR1 half a file")
            file.flush()
            die()
        pq.write_table = write_table
    ResultStore(root).publish("c1-g1", [row()])
    print("published")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "visible", "reason"),
    [
        ("half written", 0, "a hidden half file is no result"),
        ("before file sync", 0, "what may be lost has no name yet"),
        ("after file sync", 0, "whole, but not published"),
        ("before link", 0, "whole, but not published"),
        ("after link", 1, "published: the file is whole"),
        ("before folder sync", 1, "published: the next try makes the name last"),
    ],
)
def test_a_publisher_killed_at_any_point_leaves_no_half_row_and_a_repeat_publishes_once(
    tmp_path: Path, point: str, visible: int, reason: str
):
    root = tmp_path / "results"
    script = tmp_path / "publish.py"
    script.write_text(textwrap.dedent(CRASH), "utf-8")
    (tmp_path / "test_rows.py").write_text(f"def row():\n    return {row()!r}\n", "utf-8")
    child = subprocess.run(
        [sys.executable, str(script), point, str(root), "", str(ROOT)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    store = ResultStore(root)
    snapshot = store.snapshot()
    assert len(snapshot.files) == visible, reason
    assert snapshot.skipped == ()
    assert snapshot.rows() == [row()] * visible
    store.publish("c1-g1", [row()])
    assert store.snapshot().rows() == [row()]
    assert all_files(root) == ["run-c1-g1.parquet"], "what the dead one left is swept"


def test_a_disk_that_refuses_leaves_nothing_visible(store: ResultStore, monkeypatch: pytest.MonkeyPatch):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        store.publish("c1-g1", [row()])
    monkeypatch.undo()
    assert [name for name in all_files(store.root) if not name.startswith(".")] == []
    assert store.snapshot().files == ()


# ---- snapshots


def test_an_empty_store_has_a_table_of_the_full_schema(store: ResultStore):
    snapshot = store.snapshot()
    assert (snapshot.files, snapshot.skipped) == ((), ())
    assert snapshot.table().schema.equals(arrow_schema())
    assert snapshot.rows() == []


def test_a_snapshot_does_not_change_when_the_store_does(store: ResultStore):
    store.publish("c1-g1", [row()])
    before = store.snapshot()
    store.publish("c2-g1", [row("c2-g1")])
    after = store.snapshot()
    assert len(before.rows()) == 1
    assert len(after.rows()) == 2
    assert before.version != after.version
    assert after.version == store.snapshot().version
    assert list(after.files) == sorted(after.files)


def test_the_version_is_of_the_names_and_not_of_the_place(tmp_path: Path):
    here, there = ResultStore(tmp_path / "here"), ResultStore(tmp_path / "there")
    for store in (here, there):
        store.publish("c1-g1", [row()])
    assert here.snapshot().version == there.snapshot().version


def test_columns_and_filters_are_read_alone(store: ResultStore):
    for run in ("c1-g1", "c2-g1"):
        store.publish(run, [row(run)])
    snapshot = store.snapshot()
    assert snapshot.table(["config_id"], filter=pds.field("config_id") == "c2").to_pylist() == [{"config_id": "c2"}]
    assert snapshot.rows(["status", "run_id"]) == [
        {"status": "completed", "run_id": "c1-g1"},
        {"status": "completed", "run_id": "c2-g1"},
    ]
    with pytest.raises(InvalidInput, match="nope: no such column"):
        snapshot.table(["nope"])


def test_late_files_of_fenced_out_runs_do_not_count(tmp_path: Path):
    fenced: set[str] = set()
    store = ResultStore(tmp_path / "results", lambda: frozenset(fenced))
    store.publish("c1-g1", [row()])
    store.publish("c1-g2", [row("c1-g2")])
    fenced.add("c1-g1")
    snapshot = store.snapshot()
    assert [found["run_id"] for found in snapshot.rows()] == ["c1-g2"]
    assert snapshot.skipped == ()


def test_hidden_names_are_ignored(store: ResultStore):
    path = store.publish("c1-g1", [row()])
    (path.parent / ".run-c2-g1.1-ab.tmp").write_bytes(b"half")
    (store.root / ".trash").mkdir()
    (store.root / ".trash" / "run-c3-g1.parquet").write_bytes(b"old")
    snapshot = store.snapshot()
    assert snapshot.files == (path,)
    assert snapshot.skipped == ()


def write_foreign(path: Path, table: pa.Table) -> None:
    pq.write_table(table, path)


@pytest.mark.parametrize(
    ("name", "content", "why", "reason"),
    [
        ("notes.txt", b"hello", "not a result file of this table", "another kind of file"),
        ("data.parquet", b"PAR1", "not a result file of this table", "another name"),
        ("run-c9-g1.parquet", b"", "damaged: ", "empty"),
        ("run-c9-g1.parquet", b"PAR1 cut off", "damaged: ", "no footer"),
        ("run-c9-g1.parquet", pa.table({"a": [1]}), "foreign: has no column model_name", "another table"),
        (
            "run-c9-g1.parquet",
            pa.table(
                {n: ["x"] for n in ("model_name", "instance_type", "deployment_config", "deployment_target")}
                | {"ttft_p50_ms": ["fast"]}
            ),
            "foreign: column ttft_p50_ms is string, not double",
            "another type",
        ),
    ],
)
def test_damaged_and_foreign_files_are_named_and_warned_about_once(
    store: ResultStore, caplog: pytest.LogCaptureFixture, name: str, content, why: str, reason: str
):
    good = store.publish("c1-g1", [row()])
    bad = good.parent / name
    bad.write_bytes(content) if isinstance(content, bytes) else write_foreign(bad, content)
    with caplog.at_level(logging.WARNING):
        first, second = store.snapshot(), store.snapshot()
    assert first.files == second.files == (good,)
    assert first.skipped == second.skipped
    ((skipped, said),) = first.skipped
    assert skipped == bad
    assert said.startswith(why), reason
    assert len([record for record in caplog.records if str(bad) in record.getMessage()]) == 1
    assert first.rows() == [row()]


def test_a_symbolic_link_is_not_followed(store: ResultStore, tmp_path: Path):
    good = store.publish("c1-g1", [row()])
    outside = tmp_path / "outside.parquet"
    outside.write_bytes(good.read_bytes())
    link = good.parent / "run-c2-g1.parquet"
    link.symlink_to(outside)
    assert store.snapshot().skipped == ((link, "a symbolic link, not a file"),)


def test_a_file_that_is_replaced_is_looked_at_again(store: ResultStore):
    path = store.publish("c1-g1", [row()])
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    assert store.snapshot().files == ()
    path.write_bytes(whole)
    assert store.snapshot().files == (path,)


def test_repeated_snapshots_look_into_no_file_again(store: ResultStore, monkeypatch: pytest.MonkeyPatch):
    store.publish("c1-g1", [row()])
    store.snapshot()

    def forbidden(*_args, **_options):
        raise AssertionError("opened a file that was already looked at")

    monkeypatch.setattr(pq, "ParquetFile", forbidden)
    assert len(store.snapshot().files) == 1


def test_damage_behind_a_whole_footer_is_named_and_then_left_out(store: ResultStore):
    good = store.publish("c1-g1", [row()])
    bad = store.publish("c2-g1", [row("c2-g1")])
    column = pq.ParquetFile(bad).metadata.row_group(0).column(COLUMN_NAMES.index("run_timestamp"))
    content = bytearray(bad.read_bytes())
    last = column.data_page_offset + column.total_compressed_size - 3
    content[last] ^= 0xFF
    bad.write_bytes(content)
    with pytest.raises(DamagedResults, match=r"damaged result files .*run-c2-g1.*left out from now on"):
        store.snapshot().rows()
    again = store.snapshot()
    assert again.files == (good,)
    assert [path for path, _ in again.skipped] == [bad]
    assert again.rows() == [row()]


def test_files_of_existing_installations_are_read_with_our_columns_absent(store: ResultStore):
    folder = store.publish("c1-g1", [row()]).parent
    theirs = {name: value for name, value in row().items() if name in COLUMN_NAMES[:67]}
    wider = pa.schema(
        [field.with_type(pa.int64()) if field.name == "concurrency" else field for field in list(arrow_schema())[:67]]
    )
    older = folder / "run-p1-20260609T143022Z.parquet"
    pq.write_table(pa.Table.from_pylist([theirs], schema=wider), older)
    snapshot = store.snapshot()
    assert snapshot.older == (older,)
    assert snapshot.rows()[1] == theirs | dict.fromkeys(COLUMN_NAMES[67:])


# ---- other readers


def test_a_bare_duckdb_reads_the_folder_and_partition_keys_clash_with_no_column(store: ResultStore):
    store.publish("c1-g1", [row(ttft_p50_ms=70.5)])
    store.publish("c2-g1", [row("c2-g1", model_name=None)])
    # A publisher that died leaves a hidden name, which the pattern of other readers does not match either.
    (store.root / ".run-c3-g1.1-ab.tmp").write_bytes(b"half")
    pattern = f"{store.root}/**/*.parquet"
    with duckdb.connect() as connection:
        found = connection.execute(
            "SELECT model, instance, target, model_name, ttft_p50_ms FROM "
            "read_parquet(?, hive_partitioning = true) ORDER BY run_id",
            [pattern],
        ).fetchall()
        width = len(
            connection.execute("SELECT * FROM read_parquet(?, hive_partitioning = true)", [pattern]).description or ()
        )
    assert found == [
        ("Qwen_Qwen3-4B", "ml.g5.xlarge", "realtime-inference", "Qwen/Qwen3-4B", 70.5),
        (None, "ml.g5.xlarge", "realtime-inference", None, None),
    ]
    assert width == len(COLUMN_NAMES) + 3


def test_importing_the_store_imports_neither_pyarrow_nor_duckdb_nor_dagster():
    code = "import sys, resources.result_store as s; print(sorted({'pyarrow', 'duckdb', 'dagster'} & set(sys.modules)))"
    child = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert child.stdout.strip() == "[]"
