"""Which merged files stand for which run files: the manifest of a store, and the names of what belongs to it.

Belongs here: the manifest's form, reading it, switching it in one step. Not here: what is merged and when it is shown
(`compaction.py`), what a snapshot makes of it (`result_store.py`).

The manifest is an overlay. Whatever it says, the visible `*.parquet` files alone are every row exactly once; so a manifest that
is missing or unreadable costs speed and no row.
"""

import hashlib
import json
import logging
import os
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path

MANIFEST = ".manifest.json"
SCHEMA_VERSION = 1

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Merged:
    """A file in which the rows of many runs lie sorted.

    `folder` is relative to the store, `name` its stem. `runs` and `rows` are counts, `fingerprint` that of the run files' names
    (`fingerprint_of`), `switched_at` Unix seconds from which on snapshots read it, `shown` whether it has taken the place of
    the run files in the visible folder too.
    """

    folder: str
    name: str
    runs: int
    rows: int
    fingerprint: str
    switched_at: float
    shown: bool = False

    # The hidden names do not end in .parquet: DuckDB's `**/*.parquet` looks into hidden names too.
    def path(self, root: Path) -> Path:
        """Where snapshots read it: a hidden name that is there before and after it is shown."""
        return root / self.folder / f".{self.name}.rows"

    def list_path(self, root: Path) -> Path:
        """Where the names of the files lie that it stands for, one a line."""
        return root / self.folder / f".{self.name}.runs"

    def visible(self, root: Path) -> Path:
        """Where any other reader finds it once it is shown."""
        return root / self.folder / f"{self.name}.parquet"

    def replaced(self, root: Path) -> frozenset[str]:
        """Return the names of the files in its folder that it stands for, merged ones that went into it included.

        Raises `OSError` where the list is gone: such an entry counts for nothing.
        """
        return _lines(self.list_path(root))


@dataclass(frozen=True)
class Manifest:
    """The merged files that snapshots read. `version` goes up with every switch; 0 where there never was one or it cannot be
    read: `problem` says why then, and `foreign` whether another version of the platform wrote it."""

    version: int = 0
    merged: tuple[Merged, ...] = ()
    problem: str | None = None
    foreign: bool = False

    def in_folder(self, folder: str) -> tuple[Merged, ...]:
        """Return the entries of one folder."""
        return tuple(entry for entry in self.merged if entry.folder == folder)


@lru_cache(maxsize=4096)
def _lines(path: Path) -> frozenset[str]:
    # A list never changes under its name, which holds a digest of it.
    return frozenset(path.read_text("utf-8").split("\n")) - {""}


def read_manifest(root: Path) -> Manifest:
    """Return the manifest of a store, an empty one where there is none or none that can be read (`problem` says why)."""
    try:
        content = (root / MANIFEST).read_bytes()
    except FileNotFoundError:
        return Manifest()
    return _parsed(content)


@lru_cache(maxsize=8)
def _parsed(content: bytes) -> Manifest:
    try:
        document = json.loads(content)
        if document["schema_version"] != SCHEMA_VERSION:
            why = f"has schema version {document['schema_version']}, not {SCHEMA_VERSION}"
            return Manifest(problem=why, foreign=True)
        names = [field.name for field in fields(Merged)]
        entries = [Merged(**{name: entry[name] for name in names}) for entry in document["merged"]]
        return Manifest(int(document["version"]), tuple(entries))
    except (ValueError, KeyError, TypeError) as error:
        return Manifest(problem=f"damaged: {type(error).__name__} {error}")


def switch_manifest(root: Path, entries: Iterable[Merged], *, after: Manifest) -> Manifest:
    """Replace the manifest in one step and make it last; what it names must be synced already. Returns the new one."""
    made = Manifest(after.version + 1, tuple(sorted(entries, key=lambda entry: (entry.folder, entry.name))))
    document = {
        "schema_version": SCHEMA_VERSION,
        "version": made.version,
        "merged": [asdict(entry) for entry in made.merged],
    }
    replace_durably(root / MANIFEST, json.dumps(document, indent=1).encode())
    return made


def replace_durably(path: Path, content: bytes) -> None:
    """Write a file so that its name holds either what it held before or all of the new content, also after a power cut. A name
    that is a link stays one: the file that it leads to is written."""
    path = Path(os.path.realpath(path))
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fingerprint_of(names: Iterable[str]) -> int:
    """Return the fingerprint of names (paths relative to the store, with /): a sum of hashes, so that it is the same however
    the files are grouped and ordered."""
    digest = hashlib.sha256
    return sum(int.from_bytes(digest(name.encode()).digest()[:16]) for name in names) % 2**128
