"""Compaction: the files of closed days merged into sorted ones, while everybody reads and publishes.

Belongs here: what is merged, the two switches, sweeping. Not here: the manifest's form (`result_manifest.py`), what a snapshot
makes of it (`result_store.py`), when it runs (`assets.compaction`, `mlcc compact`).

A folder is one partition (model, instance, target). A file belongs to the day (UTC) in which it was published; today's stay as
they are. Merging goes in three steps, and whatever dies between two of them is gone on from by the next compaction:

1. **Write.** The rows go into a hidden file beside the run files, are read back and compared, and are synced. Nobody reads it.
2. **Switch for snapshots.** One rename replaces the manifest: new snapshots read the merged files and no longer what went into
   them. Nothing is taken away, so older snapshots and every other reader go on.
3. **Switch for all others**, once `grace_seconds` have passed and no snapshot can still need the run files: a second folder
   is made beside the store, with the merged file under its visible name and hard links to everything else, and the two
   folders are exchanged in one step (`renameat2` with `RENAME_EXCHANGE`). The old one is removed a further grace later.

What a reader that knows nothing of this sees, such as DuckDB over `results/**/*.parquet`: of every folder either all of before
or all of after, so each row once. Where it listed before and opens after the exchange it is told that a file is missing, never
given fewer or more rows; asked again it answers. It needs hidden names that do not end in .parquet, since DuckDB's `**`
looks into those too, and the second folder outside of the store. On a file system that cannot exchange folders step 3 is left
out: others go on reading the run files, snapshots the merged ones.

A run that is not finished is not merged: it could still be fenced out. Rows are moved, never changed: a file that is damaged,
foreign, has columns of its own or values that do not fit is left where it is.
"""

import contextlib
import ctypes
import fcntl
import hashlib
import os
import secrets
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mlcc_dagster.core.exceptions import MlccError
from resources.ci_table import CiTable
from resources.result_files import concatenated, conformed, first_line, more_columns, read_whole, write_synced
from resources.result_manifest import (
    MANIFEST,
    Manifest,
    Merged,
    fingerprint_of,
    read_manifest,
    replace_durably,
    switch_manifest,
    sync_folder,
)
from resources.result_store import INCOMING, MERGED_FILE, RUN_FILE, ResultStore, publishing_lock

if TYPE_CHECKING:
    import pyarrow as pa

GRACE_SECONDS = 3600.0
"""Longer than any command holds a snapshot. One that is held longer still reads what is there now (`Snapshot.read`)."""

MOST_FILES = 20_000
"""Files that go into one merge; the rest is left for the next one. It bounds the memory."""

_LOCK = ".compaction.lock"
_GROWTH = 4
_LOCK_SECONDS = 5.0
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_SORTED_BY = ("run_timestamp", "run_id", "config_id", "workload", "concurrency")


@dataclass(frozen=True)
class FolderMerge:
    """What is merged in one folder (relative to the store): run files and earlier merged ones."""

    folder: str
    files: tuple[Path, ...]
    merged: tuple[Merged, ...]


@dataclass(frozen=True)
class Compaction:
    """What one compaction did, or with `dry_run` would do.

    `merges` are those of this one, `rows` how many rows they hold (none in a dry run). `shown` are the folders in which others
    now see the merged file and `removed_files` how many files that took from their sight; `waiting_until` is when the next
    ones may follow (Unix seconds), none where none waits. `left_alone` says of a file or folder why it stays as it is. `busy`:
    another compaction is running, and nothing was done.
    """

    merges: tuple[FolderMerge, ...] = ()
    rows: int | None = None
    shown: tuple[str, ...] = ()
    removed_files: int = 0
    waiting_until: float | None = None
    left_alone: tuple[tuple[Path, str], ...] = ()
    dry_run: bool = False
    busy: bool = False

    @property
    def merged_files(self) -> int:
        """How many run files went into merged ones."""
        return sum(len(merge.files) for merge in self.merges)

    def to_json(self) -> dict[str, object]:
        """Return it as one document."""
        waiting = None if self.waiting_until is None else datetime.fromtimestamp(self.waiting_until, UTC).isoformat()
        return {
            "dry_run": self.dry_run,
            "busy": self.busy,
            "merged_files": self.merged_files,
            "rows": self.rows,
            "folders": [
                {"folder": merge.folder, "files": len(merge.files), "merged_before": len(merge.merged)}
                for merge in self.merges
            ],
            "shown": list(self.shown),
            "removed_files": self.removed_files,
            "waiting_until": waiting,
            "left_alone": [{"path": str(path), "why": why} for path, why in self.left_alone],
        }


def compact(
    store: ResultStore,
    *,
    unfinished: Callable[[], frozenset[str]] = frozenset,
    now: float | None = None,
    grace_seconds: float = GRACE_SECONDS,
    dry_run: bool = False,
) -> Compaction:
    """Merge the closed days of a store, and show others what was merged at least `grace_seconds` ago.

    `unfinished` names the runs whose attempt is not over; `now` is in Unix seconds. Safe beside readers, publishers and other
    compactions (which then find it busy), and to be killed and repeated. Raises `OSError` where the disk refuses.
    """
    at = time.time() if now is None else now
    work = _Work(store, unfinished, at, grace_seconds)
    if dry_run:
        return work.planned()
    if not store.root.exists():
        return Compaction()
    with _only_one(store.root) as alone:
        return work.done() if alone else Compaction(busy=True)


@contextlib.contextmanager
def _only_one(root: Path) -> Iterator[bool]:
    with (root / _LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


class _Work:
    """One compaction of one store."""

    def __init__(
        self, store: ResultStore, unfinished: Callable[[], frozenset[str]], now: float, grace_seconds: float
    ) -> None:
        self._store = store
        self._root = store.root
        self._unfinished = unfinished
        self._now = now
        self._grace = grace_seconds
        self._left_alone: list[tuple[Path, str]] = []

    def planned(self) -> Compaction:
        """Return what would be done."""
        manifest = read_manifest(self._root)
        ready = [entry for entry in manifest.merged if self._may_be_shown(entry)]
        merges = self._merges(manifest)
        return Compaction(
            merges=tuple(merges),
            shown=tuple(entry.folder for entry in ready),
            removed_files=sum(self._still_visible(entry) for entry in ready),
            waiting_until=self._waiting_until(manifest),
            left_alone=tuple(self._left_alone),
            dry_run=True,
        )

    def done(self) -> Compaction:
        """Do it."""
        manifest = self._adopted(read_manifest(self._root))
        self._sweep()
        shown, removed = [], 0
        for entry in manifest.merged:
            if self._may_be_shown(entry):
                visible = self._still_visible(entry)
                if self._show(entry, manifest):
                    shown.append(entry)
                    removed += visible
        if shown:
            entries = [replace(entry, shown=True) if entry in shown else entry for entry in manifest.merged]
            manifest = switch_manifest(self._root, entries, after=manifest)
        made, merges = [], []
        for merge in self._merges(manifest):
            written = self._written(merge)
            if written is not None:
                entry, used = written
                made.append(entry)
                merges.append(used)
        if made:
            gone = {entry for merge in merges for entry in merge.merged}
            # From here on every new snapshot reads what was made, of all folders at once.
            kept = [entry for entry in manifest.merged if entry not in gone]
            manifest = switch_manifest(self._root, [*kept, *made], after=manifest)
        return Compaction(
            merges=tuple(merges),
            rows=sum(entry.rows for entry in made),
            shown=tuple(entry.folder for entry in shown),
            removed_files=removed,
            waiting_until=self._waiting_until(manifest),
            left_alone=tuple(self._left_alone),
        )

    # ---- what is merged

    def _merges(self, manifest: Manifest) -> list[FolderMerge]:
        snapshot = self._store.snapshot()
        # In this order: a run that was unfinished when its file was listed is now unfinished, fenced out, or finished for good.
        unfinished = self._unfinished()
        not_final = unfinished | self._store.fenced_out()
        self._left_alone += snapshot.skipped
        live = set(snapshot.files)
        by_folder: dict[str, list[tuple[float, Path]]] = defaultdict(list)
        for path in snapshot.files:
            match = RUN_FILE.fullmatch(path.name)
            if match is None or match["run_id"] in not_final:
                continue
            try:
                published = path.stat().st_mtime
            except FileNotFoundError:
                continue
            if _day(published) < _day(self._now):
                by_folder[path.parent.relative_to(self._root).as_posix()].append((published, path))
        merges = []
        for folder, found in sorted(by_folder.items()):
            entries = [entry for entry in manifest.in_folder(folder) if entry.path(self._root) in live]
            if any(not entry.shown and not self._may_be_shown(entry) for entry in entries):
                continue  # older snapshots still need what went into it
            files = tuple(path for _, path in sorted(found)[:MOST_FILES])
            # Small ones are merged again, large ones not: every row is written anew a few times at most.
            again: list[Merged] = []
            runs = len(files)
            for entry in sorted(entries, key=lambda entry: entry.runs):
                if entry.runs > _GROWTH * runs or runs + entry.runs > MOST_FILES * _GROWTH:
                    break
                again.append(entry)
                runs += entry.runs
            if len(files) + len(again) > 1:
                merges.append(FolderMerge(folder, files, tuple(again)))
        return merges

    def _written(self, merge: FolderMerge) -> tuple[Merged, FolderMerge] | None:
        """Write one merged file under its hidden name, read back and synced; none where fewer than two files can be merged."""
        import pyarrow as pa

        tables: list[pa.Table] = []
        files: list[Path] = []
        days: list[str] = [day for entry in merge.merged for day in entry.name.split("-")[1:3]]
        for path in merge.files:
            try:
                found = read_whole(path)
                foreign = more_columns(found)
                if foreign:
                    self._left_alone.append((path, f"has columns that the table has not: {', '.join(foreign)}"))
                    continue
                tables.append(conformed(found))
                days.append(_day(path.stat().st_mtime))
            except (pa.ArrowException, OSError) as error:
                self._left_alone.append((path, f"damaged: {first_line(error)}"))
                continue
            files.append(path)
        try:
            tables += [conformed(read_whole(entry.path(self._root))) for entry in merge.merged]
        except (pa.ArrowException, OSError) as error:
            self._left_alone.append((self._root / merge.folder, f"a merged file is damaged: {first_line(error)}"))
            return None
        if len(tables) < 2:
            return None
        rows = concatenated(tables).combine_chunks().sort_by([(name, "ascending") for name in _SORTED_BY])
        names = {path.name for path in files}
        for entry in merge.merged:
            names |= entry.replaced(self._root) | {entry.visible(self._root).name}
        runs = [name for name in names if RUN_FILE.fullmatch(name)]
        digest = hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:16]
        made = Merged(
            folder=merge.folder,
            name=f"merged-{min(days)}-{max(days)}-{digest}",
            runs=len(runs),
            rows=rows.num_rows,
            fingerprint=f"{fingerprint_of(f'{merge.folder}/{name}' for name in runs):x}",
            switched_at=self._now,
        )
        self._store_rows(rows, made)
        replace_durably(made.list_path(self._root), "\n".join(sorted(names)).encode())
        return made, replace(merge, files=tuple(files))

    def _store_rows(self, rows: "pa.Table", made: Merged) -> None:
        incoming = self._root / INCOMING
        incoming.mkdir(exist_ok=True)
        temporary = incoming / f"{made.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
        try:
            write_synced(rows, temporary)
            if not conformed(read_whole(temporary)).equals(rows):
                raise OSError(f"{temporary} does not read back as it was written; check the disk and try again")
            temporary.replace(made.path(self._root))
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(made.path(self._root).parent)

    # ---- the switch for readers that know no manifest

    def _may_be_shown(self, entry: Merged) -> bool:
        return not entry.shown and entry.switched_at + self._grace <= self._now

    def _waiting_until(self, manifest: Manifest) -> float | None:
        waiting = [entry.switched_at + self._grace for entry in manifest.merged if not entry.shown]
        return min((at for at in waiting if at > self._now), default=None)

    def _still_visible(self, entry: Merged) -> int:
        with contextlib.suppress(OSError):
            names = entry.replaced(self._root)
            return sum(name in names for name in _names(self._root / entry.folder))
        return 0

    def _show(self, entry: Merged, manifest: Manifest) -> bool:
        """Exchange a folder for one with the merged file in place of what went into it; whether others see it now."""
        leaf = self._root / entry.folder
        if entry.visible(self._root).exists() and not self._still_visible(entry):
            return True  # the one that did it died before it could note it
        prepared = self._aside / f"{int(self._now)}-{secrets.token_hex(4)}"
        exchanged = False
        try:
            if not _whole(entry.path(self._root), entry.rows):
                raise OSError("the merged file cannot be read; the run files stay")
            prepared.mkdir(parents=True)
            prepared.chmod(leaf.stat().st_mode)
            os.link(entry.path(self._root), prepared / entry.visible(self._root).name)
            self._carry_over(entry, manifest, prepared)
            with _exclusively(self._root):
                # What was published since the first look; nothing can come from here on.
                self._carry_over(entry, manifest, prepared)
                sync_folder(prepared)
                exchange(prepared, leaf)
                exchanged = True
            sync_folder(leaf.parent)
            sync_folder(self._aside)
        except OSError as error:
            if exchanged:
                raise
            shutil.rmtree(prepared, ignore_errors=True)
            self._left_alone.append((leaf, f"others still read its run files: {first_line(error)}"))
            return False
        return True

    def _carry_over(self, shown: Merged, manifest: Manifest, prepared: Path) -> None:
        leaf = self._root / shown.folder
        replaced = shown.replaced(self._root)
        known = {
            name
            for entry in manifest.in_folder(shown.folder)
            for name in (entry.path(self._root).name, entry.list_path(self._root).name)
        }
        there = _names(prepared)
        for name in _names(leaf):
            obsolete = name.startswith(".merged-") and name not in known
            if name in replaced or name in there or obsolete:
                continue
            # A folder cannot be linked: that is refused, and this one stays as it is.
            os.link(leaf / name, prepared / name, follow_symlinks=False)

    @property
    def _aside(self) -> Path:
        """Where folders wait before and after an exchange: beside the store, where no reader of it looks."""
        return self._root.with_name(f".{self._root.name}-aside")

    # ---- what earlier ones left

    def _adopted(self, manifest: Manifest) -> Manifest:
        """Return the manifest with the merged files that it has lost: one that was deleted is made anew from the folders."""
        if manifest.foreign:
            raise MlccError(f"{self._root / MANIFEST} {manifest.problem}; compact with the version that wrote it")
        if manifest.version:
            return manifest
        entries = []
        for visible in self._root.rglob("merged-*.parquet"):
            if not MERGED_FILE.fullmatch(visible.name):
                continue
            folder = visible.parent.relative_to(self._root).as_posix()
            with contextlib.suppress(OSError):
                lost = Merged(folder, visible.stem, 0, 0, "0", self._now, shown=True)
                runs = [name for name in lost.replaced(self._root) if RUN_FILE.fullmatch(name)]
                rows = _rows(lost.path(self._root))
                fingerprint = f"{fingerprint_of(f'{folder}/{name}' for name in runs):x}"
                entries.append(replace(lost, runs=len(runs), rows=rows, fingerprint=fingerprint))
        return switch_manifest(self._root, entries, after=manifest) if entries else manifest

    def _sweep(self) -> None:
        """Remove what dead publishers and compactions left, and folders that were exchanged, once their grace is over."""
        # What only compactions make, of which this is the only one.
        for path in (*self._root.glob(f"{MANIFEST}.*.tmp"), *(self._root / INCOMING).glob("merged-*.tmp")):
            path.unlink(missing_ok=True)
        for path in (self._root / INCOMING).glob("*.tmp"):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - GRACE_SECONDS:
                    path.unlink()
        if self._aside.is_dir():
            for folder in self._aside.iterdir():
                began = folder.name.partition("-")[0]
                if began.isdecimal() and int(began) + 1 + self._grace <= self._now:
                    shutil.rmtree(folder, ignore_errors=True)
        manifest = read_manifest(self._root)
        for name in {entry.folder for entry in manifest.merged}:
            entries = manifest.in_folder(name)
            # What a newer merged file replaced left the manifest when that one came.
            if max(entry.switched_at for entry in entries) + self._grace > self._now:
                continue
            known = {place(self._root) for entry in entries for place in (entry.path, entry.list_path)}
            for path in (self._root / name).glob(".merged-*"):
                if path not in known:
                    path.unlink(missing_ok=True)


def unfinished_runs(ci: CiTable) -> frozenset[str]:
    """Return the runs whose attempt is not over: it runs, or its commit has begun."""
    return frozenset(attempt.run_id for attempt in ci.running()) | {run_id for run_id, _ in ci.pending()}


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%d")


def _rows(path: Path) -> int:
    from pyarrow import parquet as pq

    return pq.ParquetFile(path).metadata.num_rows


def _whole(path: Path, rows: int) -> bool:
    import pyarrow as pa

    try:
        return read_whole(path).num_rows == rows
    except (pa.ArrowException, OSError):
        return False


@contextlib.contextmanager
def _exclusively(root: Path) -> Iterator[None]:
    """Hold the publishing lock alone. Publishers share it for microseconds each; waiting in line for them could starve, so it
    is tried again and again. Raises `BlockingIOError` after some seconds."""
    deadline = time.monotonic() + _LOCK_SECONDS
    with contextlib.ExitStack() as held:
        while True:
            try:
                held.enter_context(publishing_lock(root, fcntl.LOCK_EX | fcntl.LOCK_NB))
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.001)
        yield


def exchange(one: Path, other: Path) -> None:
    """Exchange two folders in one step. Raises `OSError` where the system or the file system cannot, and nothing is
    changed."""
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:
        raise OSError("this system cannot exchange two folders in one step")
    if function(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)} (exchanging two folders)", str(other))
