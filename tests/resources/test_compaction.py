"""Compaction: whatever happens, in whatever order, every reader sees every row once."""

import contextlib
import os
import sys
import time
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mlcc_dagster.core.exceptions import MlccError
from mlcc_dagster.core.records import COLUMN_NAMES
from resources import compaction, read_cache, result_manifest, result_store
from resources.compaction import GRACE_SECONDS, Compaction, compact
from resources.result_manifest import read_manifest
from resources.result_store import MovedResults, ResultStore, Snapshot, arrow_schema

# test folders are no packages: what these tests share is imported by its own name
sys.path.insert(0, str(Path(__file__).parent))

from result_rows import row

DAY = 86_400.0
MODELS = ("a/one", "b/two")


def publish(store: ResultStore, run: str, *, model: str = MODELS[0], rows: int = 1) -> Path:
    return store.publish(run, [row(run, model_name=model, concurrency=level) for level in range(1, rows + 1)])


def identities(store: ResultStore) -> list[tuple[str, int]]:
    return rows_of(store.snapshot())


def rows_of(snapshot: Snapshot) -> list[tuple[str, int]]:
    return sorted((found["run_id"], found["concurrency"]) for found in snapshot.rows(["run_id", "concurrency"]))


def bare(store: ResultStore) -> list[tuple[str, int]]:
    """What DuckDB sees in the folder without knowing of us."""
    if not any(store.root.rglob("*.parquet")):
        return []
    with duckdb.connect() as connection:
        sql = "SELECT run_id, concurrency FROM read_parquet(?, hive_partitioning = true)"
        return sorted(connection.execute(sql, [f"{store.root}/**/*.parquet"]).fetchall())


def visible(store: ResultStore) -> list[str]:
    return sorted(path.name for path in store.root.rglob("*.parquet"))


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(tmp_path / "results")


@pytest.fixture
def tomorrow() -> float:
    return time.time() + DAY


def both_steps(store: ResultStore, now: float) -> tuple[Compaction, Compaction]:
    return compact(store, now=now), compact(store, now=now + GRACE_SECONDS)


# ---- what happens when


def test_snapshots_read_the_merged_file_at_once_and_others_after_the_grace(store: ResultStore, tomorrow: float):
    for number in range(3):
        publish(store, f"c{number}-g1", rows=2)
    before = store.snapshot()
    first = compact(store, now=tomorrow)
    assert (first.merged_files, first.rows, first.shown) == (3, 6, ())
    assert first.waiting_until == tomorrow + GRACE_SECONDS
    assert len(store.snapshot().files) == 1
    assert len(visible(store)) == 3, "nothing is taken from older snapshots and other readers"
    assert rows_of(before) == identities(store) == bare(store)
    second = compact(store, now=tomorrow + GRACE_SECONDS)
    assert (second.merged_files, second.removed_files, second.waiting_until) == (0, 3, None)
    (name,) = visible(store)
    assert name.startswith("merged-")
    assert bare(store) == identities(store) == [(f"c{n}-g1", level) for n in range(3) for level in (1, 2)]


def test_rows_are_sorted_and_unchanged_and_partition_keys_stay(store: ResultStore, tomorrow: float):
    late = row("c1-g1", run_timestamp="2026-06-10T00:00:00.000000Z", ttft_p50_ms=89.60000000000001, enable_lora=False)
    early = row("c2-g1", run_timestamp="2026-06-09T00:00:00.000000Z", quantization=None)
    store.publish("c1-g1", [late])
    store.publish("c2-g1", [early])
    both_steps(store, tomorrow)
    assert store.snapshot().rows() == [early, late]
    with duckdb.connect() as connection:
        found = connection.sql(f"SELECT DISTINCT model, instance FROM read_parquet('{store.root}/**/*.parquet')")
        assert found.fetchall() == [("Qwen_Qwen3-4B", "ml.g5.xlarge")]
    (merged,) = store.snapshot().files
    assert pq.ParquetFile(merged).schema_arrow.equals(arrow_schema())


def test_the_version_of_a_snapshot_is_of_what_was_published_and_not_of_its_files(store: ResultStore, tomorrow: float):
    for number in range(3):
        publish(store, f"c{number}-g1", model=MODELS[number % 2])
    version = store.snapshot().version
    for result in both_steps(store, tomorrow):
        assert not result.busy
        assert store.snapshot().version == version
    publish(store, "c9-g1")
    assert store.snapshot().version != version


def test_todays_files_are_left_as_they_are(store: ResultStore):
    for number in range(3):
        publish(store, f"c{number}-g1")
    assert compact(store) == Compaction(rows=0)
    assert len(store.snapshot().files) == 3


def test_runs_that_are_not_over_or_fenced_out_are_not_merged(tmp_path: Path, tomorrow: float):
    store = ResultStore(tmp_path / "results", lambda: frozenset({"c1-g1"}))
    for number in range(5):
        publish(store, f"c{number}-g1")
    result = compact(store, unfinished=lambda: frozenset({"c2-g1"}), now=tomorrow)
    assert result.merged_files == 3
    compact(store, unfinished=lambda: frozenset({"c2-g1"}), now=tomorrow + GRACE_SECONDS)
    assert [name for name in visible(store) if name.startswith("run-")] == ["run-c1-g1.parquet", "run-c2-g1.parquet"]
    assert identities(store) == [(f"c{n}-g1", 1) for n in (0, 2, 3, 4)]


def test_a_run_that_was_merged_is_not_published_again(store: ResultStore, tomorrow: float):
    for number in range(2):
        publish(store, f"c{number}-g1")
    for now in (tomorrow, tomorrow + GRACE_SECONDS):
        compact(store, now=now)
        path = publish(store, "c1-g1", rows=4)
        assert path.exists()
        assert identities(store) == bare(store) == [("c0-g1", 1), ("c1-g1", 1)]


def test_later_days_are_merged_into_what_was_merged_before(store: ResultStore, tomorrow: float):
    made = []
    for day in range(4):
        publish(store, f"c{day}a-g1")
        publish(store, f"c{day}b-g1")
        made.append(compact(store, now=tomorrow + day * DAY))
        assert identities(store) == bare(store)
    assert [len(merge.merged) for result in made for merge in result.merges] == [0, 1, 1, 1]
    compact(store, now=tomorrow + 5 * DAY)
    assert len(visible(store)) == 1
    compact(store, now=tomorrow + 6 * DAY)
    hidden = [path.name for path in store.root.rglob(".merged-*")]
    assert len(hidden) == 2, "what the newest replaced is swept"
    assert not list(store.root.parent.glob(".results-aside/*"))


def test_a_dry_run_says_the_same_and_touches_nothing(store: ResultStore, tomorrow: float):
    for number in range(3):
        publish(store, f"c{number}-g1")
    before = sorted(store.root.parent.rglob("*"))
    said = compact(store, now=tomorrow, dry_run=True)
    assert sorted(store.root.parent.rglob("*")) == before
    assert said.dry_run
    assert said.merges == compact(store, now=tomorrow).merges


def test_a_second_compaction_at_the_same_time_finds_it_busy(store: ResultStore, tomorrow: float):
    publish(store, "c1-g1")
    with compaction._only_one(store.root):
        assert compact(store, now=tomorrow) == Compaction(busy=True)


# ---- what is left alone


def write(path: Path, **columns: object) -> None:
    base = {name: ["x"] for name in ("model_name", "instance_type", "deployment_config", "deployment_target")}
    pq.write_table(pa.table(base | {name: [value] for name, value in columns.items()}), path)


@pytest.mark.parametrize(
    ("name", "content", "why", "reason"),
    [
        ("run-c9-g1.parquet", b"PAR1 cut off", "damaged", "no footer"),
        ("notes.txt", b"hello", "not a result file", "another kind of file"),
        ("run-c9-g1.parquet", {"mood": "good"}, "columns that the table has not: mood", "its data would be lost"),
        ("run-c9-g1.parquet", {"concurrency": 2**40}, "damaged", "a value that the column cannot hold"),
    ],
)
def test_what_cannot_be_merged_is_named_and_stays(store: ResultStore, tomorrow: float, name, content, why, reason):
    folder = publish(store, "c1-g1").parent
    publish(store, "c2-g1")
    odd = folder / name
    odd.write_bytes(content) if isinstance(content, bytes) else write(odd, **content)
    before = odd.read_bytes()
    first, _ = both_steps(store, tomorrow)
    assert first.merged_files == 2
    assert any(path == odd and why in said for path, said in first.left_alone), reason
    assert odd.read_bytes() == before
    assert {path.name for path in folder.iterdir() if not path.name.startswith(".")} >= {name}


def test_files_of_existing_installations_are_merged_with_our_columns_absent(store: ResultStore, tomorrow: float):
    folder = publish(store, "c1-g1").parent
    write(folder / "run-p1-20260609T143022Z.parquet", concurrency=4)
    both_steps(store, tomorrow)
    assert len(visible(store)) == 1
    assert store.snapshot().older == ()
    found = {values["concurrency"]: values for values in store.snapshot().rows()}
    assert found[4]["model_name"] == "x"
    assert found[4]["run_id"] is None


def test_where_folders_cannot_be_exchanged_others_go_on_with_the_run_files(
    store: ResultStore, tomorrow: float, monkeypatch: pytest.MonkeyPatch
):
    def refused(one: Path, other: Path) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(compaction, "exchange", refused)
    for day in range(3):
        for letter in "ab":
            publish(store, f"c{day}{letter}-g1")
        result = compact(store, now=tomorrow + day * DAY)
        assert bool(result.left_alone) == (day > 0)
        assert len(store.snapshot().files) == 1
        assert identities(store) == bare(store)
    assert len(visible(store)) == 6


def test_a_folder_with_a_folder_in_it_is_not_exchanged(store: ResultStore, tomorrow: float):
    folder = publish(store, "c1-g1").parent
    publish(store, "c2-g1")
    (folder / "mine").mkdir()
    (folder / "mine" / "note.txt").write_text("keep")
    _, second = both_steps(store, tomorrow)
    assert [path for path, _ in second.left_alone if path == folder] == [folder]
    assert (folder / "mine" / "note.txt").read_text() == "keep"
    assert identities(store) == bare(store) == [("c1-g1", 1), ("c2-g1", 1)]


# ---- the manifest is only an overlay


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize(
    "content", [None, b"", b"{", b'{"schema_version": 1, "version": 1, "merged": [{}]}', b'{"schema_version": 99}']
)
def test_without_a_readable_manifest_no_row_is_lost_or_doubled(store: ResultStore, tomorrow, steps: int, content):
    for number in range(4):
        publish(store, f"c{number}-g1", model=MODELS[number % 2])
    wanted = identities(store)
    for step in range(steps):
        compact(store, now=tomorrow + step * GRACE_SECONDS)
    manifest = store.root / result_manifest.MANIFEST
    manifest.unlink() if content is None else manifest.write_bytes(content)
    assert identities(store) == bare(store) == wanted
    assert bool(store.snapshot().skipped) == (content is not None)
    if content == b'{"schema_version": 99}':
        with pytest.raises(MlccError, match="compact with the version that wrote it"):
            compact(store, now=tomorrow + 2 * DAY)
        return
    compact(store, now=tomorrow + 2 * DAY)
    assert len(read_manifest(store.root).merged) == 2
    publish(store, "c1-g1", model=MODELS[1], rows=3)
    assert identities(store) == bare(store) == wanted, "what was merged is known again"


@pytest.mark.parametrize("what", ["rows", "runs"])
def test_a_merged_file_that_is_lost_before_it_is_shown_costs_nothing(store: ResultStore, tomorrow: float, what: str):
    for number in range(3):
        publish(store, f"c{number}-g1")
    wanted = identities(store)
    compact(store, now=tomorrow)
    (lost,) = store.root.rglob(f".merged-*.{what}")
    lost.unlink()
    result_manifest._lines.cache_clear()
    assert identities(store) == bare(store) == wanted
    assert [path.suffix for path, _ in store.snapshot().skipped] == [".rows"]


def test_a_snapshot_that_is_older_than_the_grace_says_so_or_reads_what_is_there_now(store, tomorrow: float):
    for number in range(3):
        publish(store, f"c{number}-g1")
    held = store.snapshot()
    both_steps(store, tomorrow)
    with pytest.raises(MovedResults, match="take a new snapshot"):
        held.rows()
    assert len(held.read(lambda snapshot: snapshot.rows())) == 3
    assert store.snapshot().skipped == ()


# ---- the read cache


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_store, "MANY_FILES", 4)


def test_many_small_files_are_read_from_one_and_the_next_process_opens_none(store, few, monkeypatch):
    for number in range(6):
        publish(store, f"c{number}-g1", rows=2)
    first = store.snapshot()
    assert (len(first.files), len(first.sources)) == (6, 1)
    monkeypatch.setattr(result_store, "_CHECKED", {})
    monkeypatch.setattr(result_store, "_LAST", {})
    opened = []
    real = pq.ParquetFile
    monkeypatch.setattr(pq, "ParquetFile", lambda path, **named: opened.append(path) or real(path, **named))
    assert len(identities(store)) == 12
    assert opened == list(first.sources)


def test_the_cache_follows_files_that_come_and_go_and_are_damaged(store, few):
    paths = [publish(store, f"c{number}-g1") for number in range(6)]
    store.snapshot()
    publish(store, "c6-g1")
    added = store.snapshot()
    assert len(added.sources) == 2, "one new file is read by itself"
    assert len(rows_of(added)) == 7
    paths[0].unlink()
    paths[1].write_bytes(paths[1].read_bytes()[:100])
    found = store.snapshot()
    assert rows_of(found) == [(f"c{n}-g1", 1) for n in range(2, 7)]
    assert [path for path, _ in found.skipped] == [paths[1]]
    assert len(found.sources) == 1


@pytest.mark.parametrize("harm", ["deleted", "damaged", "folder gone", "not writable"])
def test_a_cache_that_is_harmed_costs_time_and_no_row(store, few, monkeypatch, harm: str):
    for number in range(6):
        publish(store, f"c{number}-g1")
    (cached,) = store.snapshot().sources
    if harm == "deleted":
        cached.unlink()
    elif harm == "damaged":
        content = bytearray(cached.read_bytes())
        content[4:400] = bytes(396)
        cached.write_bytes(content)
    else:
        for path in cached.parent.iterdir():
            path.unlink()
        cached.parent.rmdir()
        if harm == "not writable":
            cached.parent.write_text("a file in the way")
            monkeypatch.setattr(result_store, "_LAST", {})
    assert len(store.snapshot().read(lambda snapshot: snapshot.rows())) == 6


def test_a_cache_that_was_replaced_stays_for_those_who_still_read_it(store, few):
    for number in range(6):
        publish(store, f"c{number}-g1")
    held = store.snapshot()
    for number in range(6, 12):
        publish(store, f"c{number}-g1")
    assert store.snapshot().sources != held.sources
    assert len(rows_of(held)) == 6
    old = held.sources[0]
    os.utime(old, (0, 0))
    os.utime(old.with_suffix(".keys"), (0, 0))
    for number in range(12, 18):
        publish(store, f"c{number}-g1")
    assert len(identities(store)) == 18
    assert not old.exists(), f"after {read_cache.KEPT_SECONDS:.0f} s it is swept"


def test_damage_behind_a_whole_footer_keeps_one_file_out_of_the_cache_and_no_more(store, few):
    paths = [publish(store, f"c{number}-g1") for number in range(6)]
    column = pq.ParquetFile(paths[2]).metadata.row_group(0).column(COLUMN_NAMES.index("run_timestamp"))
    content = bytearray(paths[2].read_bytes())
    content[column.data_page_offset + column.total_compressed_size - 3] ^= 0xFF
    paths[2].write_bytes(content)
    found = store.snapshot()
    assert [path for path, _ in found.skipped] == [paths[2]]
    assert len(rows_of(found)) == 5


# ---- any order of events


class Killed(BaseException):
    """Stands for a process that ended there: nothing after it happens."""


POINTS = (
    "resources.compaction:write_synced",
    "resources.compaction:replace_durably",
    "resources.compaction:switch_manifest",
    "resources.compaction:exchange",
    "resources.compaction:sync_folder",
    "resources.result_manifest:replace_durably",
)


class Store(RuleBasedStateMachine):
    """A store and the list of rows that were published; time only goes on when a rule says so."""

    @initialize()
    def begin(self) -> None:
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.store = ResultStore(Path(self.folder.name) / "results")
        self.now = time.time() + DAY
        self.published: dict[str, str] = {}
        self.held: list[tuple[float, Snapshot, list[tuple[str, int]]]] = []

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()

    @property
    def wanted(self) -> list[tuple[str, int]]:
        return sorted((run, level) for run in self.published for level in (1, 2))

    @rule(model=st.sampled_from(MODELS), count=st.integers(1, 4))
    def publish(self, model: str, count: int) -> None:
        for _ in range(count):
            run = f"c{len(self.published)}-g1"
            publish(self.store, run, model=model, rows=2)
            self.published[run] = model

    @precondition(lambda self: self.published)
    @rule(data=st.data())
    def publish_again(self, data: st.DataObject) -> None:
        run = data.draw(st.sampled_from(sorted(self.published)))
        publish(self.store, run, model=self.published[run], rows=3)

    @rule(seconds=st.sampled_from([1.0, GRACE_SECONDS, DAY]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def compact(self) -> None:
        compact(self.store, now=self.now)

    @rule()
    def compact_to_the_end(self) -> None:
        for _ in range(2):
            compact(self.store, now=self.now)
            self.now += GRACE_SECONDS

    @rule(point=st.sampled_from(POINTS), after=st.booleans(), call=st.integers(1, 3))
    def compact_and_die(self, point: str, after: bool, call: int) -> None:
        module, _, name = point.partition(":")
        with pytest.MonkeyPatch.context() as patch:
            import importlib

            owner = importlib.import_module(module)
            real, calls = getattr(owner, name), 0

            def struck(*arguments: object, **named: object) -> object:
                nonlocal calls
                calls += 1
                if calls == call and not after:
                    raise Killed
                result = real(*arguments, **named)
                if calls == call:
                    raise Killed
                return result

            patch.setattr(owner, name, struck)
            # A process that is killed removes nothing that it made.
            patch.setattr(compaction.shutil, "rmtree", lambda *_, **__: None)
            with contextlib.suppress(Killed):
                compact(self.store, now=self.now)

    @rule()
    def hold(self) -> None:
        self.held.append((self.now, self.store.snapshot(), self.wanted))

    @rule()
    def look_from_a_new_process(self) -> None:
        result_store._CHECKED.clear()
        result_store._LAST.clear()

    @invariant()
    def everybody_sees_every_row_once(self) -> None:
        if not hasattr(self, "store"):
            return
        assert identities(self.store) == self.wanted
        assert bare(self.store) == self.wanted
        assert self.store.snapshot().skipped == ()

    @invariant()
    def held_snapshots_read_what_they_were_taken_of(self) -> None:
        for taken, snapshot, wanted in getattr(self, "held", ()):
            if self.now < taken + GRACE_SECONDS:
                assert rows_of(snapshot) == wanted
            else:
                with contextlib.suppress(MovedResults):
                    assert rows_of(snapshot) == wanted


TestAnyOrderOfEvents = pytest.mark.slow(Store.TestCase)
TestAnyOrderOfEvents.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
