"""The read cache of a store: the rows of many small files in one, for readers alone.

Belongs here: finding, making and throwing away that one file. Not here: which files count (`result_store.py`), merging for
good (`compaction.py`).

It is only an accelerator: every part of it can be deleted at any time. A cached file is used only for files whose path, size and
time are those that it was made from, never changes under its name, and is replaced as a whole, so many processes can read
and make it at once.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import time
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from resources.result_files import FileKey, Look, concatenated, look_and_read, read_whole, write_synced

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER = ".read-cache"
KEPT_SECONDS = 3600.0
"""How long a replaced cache file stays for those that still read it; whoever is later looks again."""


@dataclass(frozen=True)
class CachedRows:
    """One cache file: the files whose rows lie in it, in that order, each with its count of rows and whether it has every
    column of the table."""

    path: Path
    files: Mapping[FileKey, tuple[int, bool]]


@dataclass(frozen=True)
class ReadCache:
    """The cache of the store at `root`. Reading and making never raise for what the disk refuses: without it everything is
    only slower."""

    root: Path

    @property
    def folder(self) -> Path:
        """Where it lies; its files do not end in .parquet, so that no other reader takes their rows a second time."""
        return self.root / FOLDER

    def newest(self) -> CachedRows | None:
        """Return the newest cache file, none where there is none that is whole."""
        with contextlib.suppress(OSError, ValueError):
            lists = sorted(self.folder.glob("*.keys"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
            for path in lists:
                if path.with_suffix(".rows").exists():
                    return _listed(self.root, path)
        return None

    def renew(
        self, old: CachedRows | None, files: Sequence[FileKey], looks: MutableMapping[FileKey, Look]
    ) -> CachedRows | None:
        """Make and return a cache file of those of these files that count; none where another process makes one just now or
        the disk refuses.

        Rows that the old one has are taken from there; every other file is read to its end, and what that found is put into
        `looks`.
        """
        with contextlib.suppress(OSError):
            self.folder.mkdir(exist_ok=True)
            with (self.folder / "lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return self._made(old, files, looks)
        return None

    def forget(self, path: Path) -> None:
        """Throw a cache file away: it cannot be read."""
        with contextlib.suppress(OSError):
            path.with_suffix(".keys").unlink(missing_ok=True)
            path.unlink(missing_ok=True)

    def _made(
        self, old: CachedRows | None, files: Sequence[FileKey], looks: MutableMapping[FileKey, Look]
    ) -> CachedRows | None:
        import pyarrow as pa

        wanted = set(files)
        parts: list[pa.Table] = []
        kept: dict[FileKey, tuple[int, bool]] = {}
        if old is not None:
            try:
                rows = read_whole(old.path)
            except (pa.ArrowException, OSError):
                self.forget(old.path)
                return None
            start = 0
            for key, (count, complete) in old.files.items():
                if key in wanted:
                    parts.append(rows.slice(start, count))
                    kept[key] = (count, complete)
                start += count
        for key in files:
            if key not in kept:
                looks[key], table = look_and_read(Path(key[0]))
                if table is not None:
                    parts.append(table)
                    kept[key] = (table.num_rows, looks[key].complete)
        return self._write(concatenated(parts).combine_chunks(), kept)

    def _write(self, rows: "pa.Table", files: Mapping[FileKey, tuple[int, bool]]) -> CachedRows:
        start = len(str(self.root)) + 1
        lines = json.dumps([[path[start:], *rest, *found] for (path, *rest), found in files.items()])
        name = hashlib.sha256(lines.encode()).hexdigest()[:24]
        made = CachedRows(self.folder / f"{name}.rows", MappingProxyType(dict(files)))
        temporary = self.folder / f"{name}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
        try:
            write_synced(rows, temporary)
            temporary.replace(made.path)
            temporary.write_text(lines, "utf-8")
            temporary.replace(made.path.with_suffix(".keys"))
        finally:
            temporary.unlink(missing_ok=True)
        self._sweep(name)
        return made

    def _sweep(self, kept: str) -> None:
        over = time.time() - KEPT_SECONDS
        for path in self.folder.iterdir():
            if path.stem != kept and path.name != "lock" and path.stat().st_mtime < over:
                path.unlink(missing_ok=True)


@lru_cache(maxsize=4)
def _listed(root: Path, path: Path) -> CachedRows:
    # A list never changes under its name, which is a digest of it.
    entries = json.loads(path.read_text("utf-8"))
    files = {(f"{root}/{name}", size, changed): (count, complete) for name, size, changed, count, complete in entries}
    return CachedRows(path.with_suffix(".rows"), MappingProxyType(files))
