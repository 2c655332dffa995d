"""The results on disk: immutable Parquet files, one per run, and the snapshot that all reading goes through.

Belongs here: publishing a run's rows atomically, finding the files that count, reading them with one schema. Not here:
what the rows say (`core.records`), SQL over them (`sql_engine.py`), the order of a commit (`commit.py`).

Publishing is create-only: a hidden temporary file in the same folder, synced, then linked to its name. Whatever dies in
between leaves no visible file, and a file that is visible is whole. Reading never lists folders by a pattern of its
own: it takes a snapshot, a fixed tuple of files with a version.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mlcc_dagster.core.exceptions import InvalidInput, MlccError
from mlcc_dagster.core.records import COLUMN_NAMES, COLUMNS, partition_path, row_problems

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import dataset as pds

Read = TypeVar("Read")

_LOGGER = logging.getLogger(__name__)
_RUN_FILE = re.compile(r"run-(?P<run_id>[A-Za-z0-9][A-Za-z0-9_.-]*)\.parquet")
_FOREIGN = "not a result file of this table (expected run-<run_id>.parquet)"

IDENTITY_COLUMNS: tuple[str, ...] = ("model_name", "instance_type", "deployment_config", "deployment_target")
"""What a Parquet file must have to be a result file: files of existing installations lack our later columns."""


def arrow_schema() -> "pa.Schema":
    """Return the Arrow schema of the table, in the order of `COLUMNS`."""
    import pyarrow as pa

    types = {"string": pa.string(), "int32": pa.int32(), "double": pa.float64(), "bool": pa.bool_()}
    return pa.schema([pa.field(column.name, types[column.type]) for column in COLUMNS])


class DamagedResults(MlccError):
    """Result files could not be read although they looked whole."""


# What was found out about a file, per process: a file never changes under the same size and time, so one look is
# enough.
_Key = tuple[str, int, int]
_CHECKED: dict[_Key, "_Look"] = {}


@dataclass(frozen=True)
class _Look:
    """What one look at a file's footer found: why it does not count, or else whether it has every column as it
    should."""

    why_not: str | None
    complete: bool = False


@dataclass(frozen=True)
class Snapshot:
    """The result files at one moment: `files` sorted by path, `version` a hash of their names, `skipped` what was found
    beside them and why it does not count, `older` those of `files` that lack columns or have them in another width."""

    root: Path
    files: tuple[Path, ...]
    version: str
    skipped: tuple[tuple[Path, str], ...] = ()
    older: tuple[Path, ...] = ()
    _keys: Mapping[Path, _Key] = field(default_factory=dict, repr=False, compare=False)

    def dataset(self, files: Sequence[Path] | None = None) -> "pds.Dataset":
        """Return the files (or some of them) as one Arrow dataset with the schema of the table; columns that a file
        lacks are NULL."""
        import pyarrow as pa
        from pyarrow import dataset as pds

        chosen = self.files if files is None else files
        if not chosen:
            return pds.dataset(pa.Table.from_pylist([], schema=arrow_schema()))
        verified = pds.ParquetFragmentScanOptions(page_checksum_verification=True)
        parquet = pds.ParquetFileFormat(default_fragment_scan_options=verified)
        return pds.dataset([str(path) for path in chosen], schema=arrow_schema(), format=parquet)

    def table(self, columns: Sequence[str] | None = None, filter: Any = None) -> "pa.Table":
        """Read the files into one table, rows in the order of `files`; `filter` is a `pyarrow.dataset` expression.

        Raises `InvalidInput` for an unknown column, `DamagedResults` naming the files whose data cannot be read: the
        next snapshot leaves them out and names them in `skipped`.
        """
        import pyarrow as pa

        unknown = [name for name in columns or () if name not in COLUMN_NAMES]
        if unknown:
            raise InvalidInput("column list", [f"{name}: no such column; docs/table.md lists all" for name in unknown])
        names = list(columns) if columns is not None else list(COLUMN_NAMES)
        try:
            if filter is not None or self.older:
                return self.dataset().to_table(columns=names, filter=filter)
            # File by file, since importing pyarrow.dataset imports pandas: 0.4 s that a small command must not pay.
            from pyarrow import parquet as pq

            parts = [pq.ParquetFile(path, page_checksum_verification=True).read(columns=names) for path in self.files]
            return pa.concat_tables(part.select(names) for part in parts or [arrow_schema().empty_table()])
        except (pa.ArrowException, OSError) as error:
            raise self.damage(error) from error

    def read(self, reading: Callable[["Snapshot"], Read]) -> Read:
        """Read this snapshot, once more without the files that turn out damaged behind a sound footer.

        Every command and every launched run is a new process that has found no damage yet; without the second look one
        bad file would stop them all. Raises `DamagedResults` where leaving files out does not help.
        """
        try:
            return reading(self)
        except DamagedResults:
            return reading(self.without_damaged())

    def without_damaged(self) -> "Snapshot":
        """Return this snapshot less the files that were found damaged meanwhile, which `skipped` then names."""
        looks = {path: _CHECKED[key] for path, key in self._keys.items()}
        sound = tuple(path for path in self.files if looks[path].why_not is None)
        found = tuple((path, why) for path in self.files if (why := looks[path].why_not) is not None)
        return replace(
            self,
            files=sound,
            version=_version(self.root, sound),
            skipped=tuple(sorted((*self.skipped, *found))),
            older=tuple(path for path in self.older if path in set(sound)),
        )

    def rows(self, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Read the files into rows, absent values none. Raises as `table` does."""
        return self.table(columns).to_pylist()

    def damage(self, error: Exception) -> MlccError:
        """Read every file alone to find which one an error came from; remember those, so that they are left out from
        the next snapshot on, and return the error that names them."""
        import pyarrow as pa
        from pyarrow import parquet as pq

        damaged: list[str] = []
        for path in self.files:
            try:
                pq.ParquetFile(path, page_checksum_verification=True).read()
            except (pa.ArrowException, OSError) as found:
                damaged.append(str(path))
                if path in self._keys:
                    _CHECKED[self._keys[path]] = _Look(f"damaged: {_first_line(found)}")
        if not damaged:
            return DamagedResults(f"the results could not be read ({_first_line(error)}); try again")
        return DamagedResults(f"damaged result files {', '.join(damaged)} are left out from now on; try again")


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
        if not path.exists():
            _make_folder(path.parent, self.root)
            temporary = path.parent / f".{path.stem}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
            try:
                _write(temporary, rows)
                # Between the check and here another process may have published, or swept our temporary file away after
                # it did: either way its file is the one.
                with contextlib.suppress(FileExistsError):
                    try:
                        os.link(temporary, path)
                    except FileNotFoundError:
                        if not path.exists():
                            raise
            finally:
                temporary.unlink(missing_ok=True)
        # Also when the file was there: its writer may have died between link and sync.
        _sync_folder(path.parent)
        for leftover in path.parent.glob(f".{path.stem}.*.tmp"):
            leftover.unlink(missing_ok=True)
        return path

    def snapshot(self) -> Snapshot:
        """Return the files that count now.

        Hidden names (unfinished files) are ignored, fenced-out runs left out; damaged and foreign files are named in
        `skipped` and warned about once. A file is looked into only once per process.
        """
        fenced = self.fenced_out()
        files: list[Path] = []
        keys: dict[Path, _Key] = {}
        skipped: list[tuple[Path, str]] = []
        for path, size, changed in sorted(_visible_files(self.root)):
            match = _RUN_FILE.fullmatch(path.name)
            if match and match["run_id"] in fenced:
                continue
            key = (str(path), size, changed)
            if key not in _CHECKED:
                _CHECKED[key] = _look(path) if match else _Look(_FOREIGN)
                if _CHECKED[key].why_not:
                    _LOGGER.warning("left out %s: %s; move it away or restore it", path, _CHECKED[key].why_not)
            look = _CHECKED[key]
            if look.why_not is None:
                files.append(path)
                keys[path] = key
            else:
                skipped.append((path, look.why_not))
        older = tuple(path for path in files if not _CHECKED[keys[path]].complete)
        return Snapshot(
            root=self.root,
            files=tuple(files),
            version=_version(self.root, files),
            skipped=tuple(skipped),
            older=older,
            _keys=keys,
        )


def _version(root: Path, files: Sequence[Path]) -> str:
    names = json.dumps([path.relative_to(root).as_posix() for path in files])
    return hashlib.sha256(names.encode()).hexdigest()[:16]


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


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    import pyarrow as pa
    from pyarrow import parquet as pq

    table = pa.Table.from_pylist([dict(row) for row in rows], schema=arrow_schema())
    with path.open("xb") as file:
        # Dictionaries only pay from many rows on; checksums let a reader tell a damaged page from data.
        pq.write_table(table, file, compression="snappy", use_dictionary=len(rows) > 100, write_page_checksum=True)
        file.flush()
        os.fsync(file.fileno())


def _make_folder(folder: Path, root: Path) -> None:
    """Make a folder below the root, and make it last: a new folder's name lies in its parent."""
    missing = [place for place in (folder, *folder.parents) if place.is_relative_to(root) and not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for place in reversed(missing):
        _sync_folder(place.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _visible_files(root: Path) -> Iterator[tuple[Path, int, int]]:
    """Yield every visible file below a folder with its size in bytes and its time in ns; symbolic links are not
    followed."""
    try:
        entries = os.scandir(root)
    except FileNotFoundError:
        return
    with entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _visible_files(Path(entry.path))
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            yield Path(entry.path), status.st_size, status.st_mtime_ns


def _look(path: Path) -> _Look:
    """Look at a file's footer alone."""
    import pyarrow as pa
    from pyarrow import parquet as pq

    if path.is_symlink():
        return _Look("a symbolic link, not a file")
    try:
        schema = pq.ParquetFile(path).schema_arrow
    except (pa.ArrowException, OSError) as error:
        return _Look(f"damaged: {_first_line(error)}")
    missing = [name for name in IDENTITY_COLUMNS if name not in schema.names]
    if missing:
        return _Look(f"foreign: has no column {', '.join(missing)}")
    wrong = [
        f"{column.name} is {found}, not {column.type}"
        for column in COLUMNS
        if column.name in schema.names and not _readable(found := schema.field(column.name).type, column.type)
    ]
    if wrong:
        return _Look(f"foreign: column {'; '.join(wrong)}")
    return _Look(None, complete=schema.equals(arrow_schema()))


def _readable(found: "pa.DataType", expected: str) -> bool:
    """Whether a column of the type found is read as the expected one without loss (or a loud error)."""
    import pyarrow.types as kinds

    if kinds.is_null(found):
        return True
    if expected == "string":
        return kinds.is_string(found) or kinds.is_large_string(found)
    if expected == "bool":
        return kinds.is_boolean(found)
    return kinds.is_integer(found) or (expected == "double" and kinds.is_floating(found))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
