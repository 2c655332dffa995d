"""The results on disk: immutable Parquet files, one per run, and the snapshot that all reading goes through.

Belongs here: publishing a run's rows atomically, finding the files that count. Not here: what the rows say
(`core.records`), a single file (`result_files.py`), merging files (`compaction.py`), SQL over them (`sql_engine.py`), the order
of a commit (`commit.py`).

Publishing is create-only: a hidden temporary file, synced, then linked to its name. Whatever dies in between leaves no
visible file, and a file that is visible is whole. Reading never lists folders by a pattern of its own: it takes a snapshot,
a fixed tuple of files with a version.

Two views of one folder, both with every row exactly once:

- **visible**: every `*.parquet` below the root, for any reader. Files of runs (`run-<run_id>.parquet`), and merged ones
  (`merged-<days>-<digest>.parquet`) in whose folder the files that went into them are no more.
- **snapshot**: the visible files, but where the manifest names a merged file, that one in place of those that went into it,
  which stay visible until nobody can still hold a snapshot with them.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mlcc_dagster.core.exceptions import InvalidInput, MlccError
from mlcc_dagster.core.records import COLUMN_NAMES, partition_path, row_problems
from resources.read_cache import CachedRows, ReadCache
from resources.result_files import (
    IDENTITY_COLUMNS,
    FileKey,
    Look,
    arrow_schema,
    damage_of,
    first_line,
    look_at,
    write_synced,
)
from resources.result_manifest import MANIFEST, Manifest, Merged, fingerprint_of, read_manifest, sync_folder

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import dataset as pds

__all__ = [
    "IDENTITY_COLUMNS",
    "DamagedResults",
    "MovedResults",
    "ResultStore",
    "Snapshot",
    "arrow_schema",
    "check_rows",
    "publishing_lock",
]

Read = TypeVar("Read")

_LOGGER = logging.getLogger(__name__)
RUN_FILE = re.compile(r"run-(?P<run_id>[A-Za-z0-9][A-Za-z0-9_.-]*)\.parquet")
MERGED_FILE = re.compile(r"merged-\d{8}-\d{8}-[0-9a-f]{16}\.parquet")
INCOMING = ".incoming"
"""Folder of unfinished files: not beside their place, which a compaction may exchange meanwhile."""

MANY_FILES = 256
"""From so many small files on their rows are kept in the read cache too."""

_FOREIGN = "not a result file of this table (expected run-<run_id>.parquet)"
_ATTEMPTS = 3


class DamagedResults(MlccError):
    """Result files could not be read although they looked whole."""


class MovedResults(DamagedResults):
    """Files of a snapshot are no longer where they were: it is older than a compaction's grace, or a person moved them."""


# What was found out about a file, per process: a file never changes under the same size and time, so one look is
# enough.
_CHECKED: dict[FileKey, Look] = {}
# The last listing of each store with the snapshot made of it, per process: most snapshots find nothing new.
_LAST: dict["ResultStore", "tuple[_Listing, Snapshot]"] = {}


@dataclass(frozen=True)
class _Listing:
    """All that a snapshot is made of, as it was found."""

    manifest: Manifest
    fenced: frozenset[str]
    visible: tuple[FileKey, ...]
    merged: tuple[FileKey | None, ...]


@dataclass(frozen=True)
class Snapshot:
    """The result files at one moment: `files` sorted by path, `version` a hash of the names of the files that were
    published (merging them changes nothing), `skipped` what was found beside them and why it does not count, `older` those
    of `files` that lack columns or have them in another width.

    `sources` are the files to open for the rows of `files`: those themselves, or a cached one in place of many.
    """

    root: Path
    files: tuple[Path, ...]
    version: str
    sources: tuple[Path, ...]
    skipped: tuple[tuple[Path, str], ...] = ()
    older: tuple[Path, ...] = ()
    _keys: Mapping[Path, FileKey] = field(default_factory=dict, repr=False, compare=False)
    _again: "Callable[[], Snapshot] | None" = field(default=None, repr=False, compare=False)

    def dataset(self, files: Sequence[Path] | None = None) -> "pds.Dataset":
        """Return the rows (or those of some files) as one Arrow dataset with the schema of the table; columns that a file
        lacks are NULL."""
        import pyarrow as pa
        from pyarrow import dataset as pds

        chosen = self.sources if files is None else files
        if not chosen:
            return pds.dataset(pa.Table.from_pylist([], schema=arrow_schema()))
        verified = pds.ParquetFragmentScanOptions(page_checksum_verification=True)
        parquet = pds.ParquetFileFormat(default_fragment_scan_options=verified)
        return pds.dataset([str(path) for path in chosen], schema=arrow_schema(), format=parquet)

    def table(self, columns: Sequence[str] | None = None, filter: Any = None) -> "pa.Table":
        """Read the files into one table, rows in the order of `sources`; `filter` is a `pyarrow.dataset` expression.

        Raises `InvalidInput` for an unknown column, `DamagedResults` naming the files whose data cannot be read: the
        next snapshot leaves them out and names them in `skipped`.
        """
        import pyarrow as pa

        unknown = [name for name in columns or () if name not in COLUMN_NAMES]
        if unknown:
            raise InvalidInput("column list", [f"{name}: no such column; docs/table.md lists all" for name in unknown])
        names = list(columns) if columns is not None else list(COLUMN_NAMES)
        try:
            if filter is not None or set(self.older) & set(self.sources):
                return self.dataset().to_table(columns=names, filter=filter)
            # File by file, since importing pyarrow.dataset imports pandas: 0.4 s that a small command must not pay.
            from pyarrow import parquet as pq

            parts = [pq.ParquetFile(path, page_checksum_verification=True).read(columns=names) for path in self.sources]
            return pa.concat_tables(part.select(names) for part in parts or [arrow_schema().empty_table()])
        except (pa.ArrowException, OSError) as error:
            raise self.damage(error) from error

    def read(self, reading: Callable[["Snapshot"], Read]) -> Read:
        """Read this snapshot; where a file turns out damaged behind a sound footer, or has moved, a fresh one that leaves it
        out or finds it where it is now.

        Every command and every launched run is a new process that has found no damage yet; without the second look one
        bad file would stop them all. Raises `DamagedResults` where that does not help.
        """
        snapshot = self
        for _ in range(_ATTEMPTS - 1):
            try:
                return reading(snapshot)
            except DamagedResults:
                if snapshot._again is None:
                    raise
                snapshot = snapshot._again()
        return reading(snapshot)

    def rows(self, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Read the files into rows, absent values none. Raises as `table` does."""
        return self.table(columns).to_pylist()

    def damage(self, error: Exception) -> MlccError:
        """Read every file alone to find which one an error came from; remember those, so that they are left out from
        the next snapshot on, and return the error that names them: `MovedResults` where files are only gone."""
        import pyarrow as pa
        from pyarrow import parquet as pq

        damaged: list[str] = []
        moved: list[str] = []
        for path in self.sources:
            try:
                pq.ParquetFile(path, page_checksum_verification=True).read()
            except FileNotFoundError:
                moved.append(str(path))
            except (pa.ArrowException, OSError) as found:
                damaged.append(str(path))
                if path in self._keys:
                    _CHECKED[self._keys[path]] = damage_of(found)
                else:
                    ReadCache(self.root).forget(path)
        _LAST.clear()
        if damaged:
            return DamagedResults(f"damaged result files {', '.join(damaged)} are left out from now on; try again")
        if moved:
            return MovedResults(f"result files {', '.join(moved[:3])} are no longer there; take a new snapshot")
        return DamagedResults(f"the results could not be read ({first_line(error)}); try again")


@dataclass(frozen=True)
class ResultStore:
    """The store below `root` (the folder `results` of a home). `fenced_out` names the runs whose late files do not
    count: their owner had lost its lease."""

    root: Path
    fenced_out: Callable[[], frozenset[str]] = frozenset

    def publish(self, run_id: str, rows: Sequence[Mapping[str, Any]]) -> Path:
        """Publish the rows of a run as one file and return it.

        Create-only and idempotent: a file of that run that is already there stays as it is and is returned, whoever
        wrote it. Raises `InvalidInput` with every mistake of the rows, `OSError` where the disk refuses; nothing is
        visible then.
        """
        check_rows(run_id, rows)
        path = self.root / partition_path(rows[0], run_id).relative_to("results")
        incoming = self.root / INCOMING
        published = self._published(path)
        if published is None:
            _make_folder(path.parent, self.root)
            incoming.mkdir(exist_ok=True)
            temporary = incoming / f"{path.stem}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
            try:
                write_synced(_table(rows), temporary)
                published = self._link(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
        # Also when the file was there: its writer may have died between link and sync.
        sync_folder(path.parent)
        for leftover in incoming.glob(f"{path.stem}.*.tmp"):
            leftover.unlink(missing_ok=True)
        return published

    def _published(self, path: Path) -> Path | None:
        """Return the file that holds a run's rows: its own or the merged one that it went into; none where there is none."""
        if path.exists():
            return path
        folder = path.parent.relative_to(self.root).as_posix()
        for entry in read_manifest(self.root).in_folder(folder):
            with contextlib.suppress(OSError):
                if path.name in entry.replaced(self.root):
                    return entry.path(self.root)
        return None

    def _link(self, temporary: Path, path: Path) -> Path:
        # While a compaction exchanges a folder nothing may be added to it: what is linked into the old one would be gone.
        with publishing_lock(self.root, fcntl.LOCK_SH):
            published = self._published(path)
            if published is not None:
                return published
            # Between the check and here another process may have published, or swept our temporary file away after
            # it did: either way its file is the one.
            with contextlib.suppress(FileExistsError):
                try:
                    os.link(temporary, path)
                except FileNotFoundError:
                    if not path.exists():
                        raise
            return path

    def snapshot(self) -> Snapshot:
        """Return the files that count now.

        Hidden names (unfinished files) are ignored, fenced-out runs left out; damaged and foreign files are named in
        `skipped` and warned about once. A file is looked into only once per process.
        """
        while True:
            listing = self._listing()
            # A compaction that switched meanwhile may have taken away what was listed before.
            if read_manifest(self.root) == listing.manifest:
                break
        last = _LAST.get(self)
        if last is None or last[0] != listing:
            last = _LAST[self] = (listing, self._taken(listing))
        return last[1]

    def _listing(self) -> _Listing:
        manifest = read_manifest(self.root)
        return _Listing(
            manifest=manifest,
            fenced=self.fenced_out(),
            visible=_visible_files(str(self.root)),
            merged=tuple(_key(entry.path(self.root)) for entry in manifest.merged),
        )

    def _taken(self, listing: _Listing) -> Snapshot:
        merged: dict[FileKey, Merged] = {}
        skipped: list[tuple[Path, str]] = []
        if listing.manifest.problem:
            self._skip(skipped, self.root / MANIFEST, listing.manifest.problem)
        replaced: dict[str, set[str]] = {}
        for entry, key in zip(listing.manifest.merged, listing.merged, strict=True):
            why = "is gone" if key is None else self._looked(key).why_not
            try:
                names = entry.replaced(self.root)
            except OSError as error:
                names, why = frozenset(), why or f"has lost its list of runs ({first_line(error)})"
            if key is None or why is not None:
                # What went into it counts again where it is still there, and so does its visible name.
                self._skip(skipped, entry.path(self.root), why or "is gone")
                continue
            merged[key] = entry
            replaced.setdefault(str(self.root / entry.folder), set()).update(names, [entry.visible(self.root).name])
        candidates: list[FileKey] = []
        nothing: set[str] = set()
        for key in sorted(listing.visible):
            folder, _, name = key[0].rpartition("/")
            if name in replaced.get(folder, nothing):
                continue
            match = RUN_FILE.fullmatch(name)
            if match is None and MERGED_FILE.fullmatch(name) is None:
                self._skip(skipped, Path(key[0]), _FOREIGN)
            elif match is None or match["run_id"] not in listing.fenced:
                candidates.append(key)
        cached = self._cached(candidates) if len(candidates) >= MANY_FILES else None
        sound = [key for key in candidates if self._sound(key, skipped)]
        files = sorted([*sound, *merged])
        paths = {key: Path(key[0]) for key in files}
        small = [paths[key] for key in files if cached is None or key not in cached.files]
        names = (key[0][len(str(self.root)) + 1 :] for key in sound)
        fingerprint = fingerprint_of(names) + sum(int(entry.fingerprint, 16) for entry in merged.values())
        return Snapshot(
            root=self.root,
            files=tuple(paths.values()),
            version=hashlib.sha256(f"{fingerprint % 2**128:x}".encode()).hexdigest()[:16],
            sources=tuple([cached.path, *small] if cached else small),
            skipped=tuple(sorted(skipped)),
            older=tuple(paths[key] for key in files if not _CHECKED[key].complete),
            _keys={path: key for key, path in paths.items()},
            _again=self.snapshot,
        )

    def _cached(self, candidates: Sequence[FileKey]) -> CachedRows | None:
        """Return the read cache of these files, renewed where it holds others or lacks many."""
        cache = ReadCache(self.root)
        found = cache.newest()
        for key, (_, complete) in found.files.items() if found else ():
            _CHECKED.setdefault(key, Look(None, complete))
        there = [key for key in candidates if key not in _CHECKED or _CHECKED[key].why_not is None]
        covered = found.files.keys() if found else set[FileKey]()
        if len(there) - len(covered) >= MANY_FILES or not covered <= set(there):
            found = cache.renew(found, there, _CHECKED)
        return found

    def _looked(self, key: FileKey) -> Look:
        look = _CHECKED.get(key)
        if look is None:
            look = _CHECKED[key] = look_at(Path(key[0]))
        return look

    def _sound(self, key: FileKey, skipped: list[tuple[Path, str]]) -> bool:
        why = self._looked(key).why_not
        if why is not None:
            self._skip(skipped, Path(key[0]), why)
        return why is None

    def _skip(self, skipped: list[tuple[Path, str]], path: Path, why: str) -> None:
        skipped.append((path, why))
        if (path, why) not in _WARNED:
            _WARNED.add((path, why))
            _LOGGER.warning("left out %s: %s; move it away or restore it", path, why)


_WARNED: set[tuple[Path, str]] = set()
"""What this process has warned about: once is enough."""


@contextlib.contextmanager
def publishing_lock(root: Path, kind: int) -> Iterator[None]:
    """Hold the lock that keeps linking a result (`fcntl.LOCK_SH`) and exchanging a folder (`fcntl.LOCK_EX`) apart. A process
    that dies lets go of it. Raises `BlockingIOError` with `LOCK_NB` where another holds it."""
    descriptor = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)


def check_rows(run_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Check that rows are those of one run and fit the table.

    Raises `InvalidInput` with every mistake, each with its row.
    """
    problems = [f"row {index}: {problem}" for index, row in enumerate(rows) for problem in row_problems(row)]
    if not rows:
        problems.append("a run has at least one row; a run that proved nothing is not published")
    identities = [(row.get("config_id"), row.get("workload"), row.get("concurrency")) for row in rows]
    for index, row in enumerate(rows):
        if row.get("run_id") not in (None, run_id):
            problems.append(f"row {index}: run_id is {row['run_id']!r}, not {run_id!r}")
        if identities[index] in identities[:index]:
            problems.append(f"row {index}: repeats config_id, workload and concurrency of an earlier row")
        if row.get("config_id") != rows[0].get("config_id"):
            problems.append(f"row {index}: another config_id than row 0")
    if problems:
        raise InvalidInput(f"result of run {run_id}", problems)


def _table(rows: Sequence[Mapping[str, Any]]) -> "pa.Table":
    import pyarrow as pa

    return pa.Table.from_pylist([dict(row) for row in rows], schema=arrow_schema())


def _make_folder(folder: Path, root: Path) -> None:
    """Make a folder below the root, and make it last: a new folder's name lies in its parent."""
    missing = [place for place in (folder, *folder.parents) if place.is_relative_to(root) and not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for place in reversed(missing):
        sync_folder(place.parent)


def _key(path: Path) -> FileKey | None:
    """Return a file as it is found now, none where it is gone."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return str(path), status.st_size, status.st_mtime_ns


def _visible_files(root: str) -> tuple[FileKey, ...]:
    """Return every visible file below a folder, as it is listed; symbolic links are not followed."""
    found: list[FileKey] = []
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        try:
            # By its descriptor: faster than by paths, and a folder that is exchanged meanwhile is listed as it was.
            with os.scandir(opened) as entries:
                for entry in entries:
                    name = entry.name
                    if name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(f"{folder}/{name}")
                        continue
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    found.append((f"{folder}/{name}", status.st_size, status.st_mtime_ns))
        finally:
            os.close(opened)
    return tuple(found)
