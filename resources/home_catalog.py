"""The catalog of a home: what is shipped, and the entries that this home adds to it.

Belongs here: where a home keeps entries of its own (`catalog/*.yaml` below it), and taking imported ones in. Not here: what
an entry is (`catalog`), reading the JSON form (`catalog.json_entries`).

Imported entries lie in one file; a person may put further files of the same form beside it, and they are never written to.
"""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from catalog.errors import CatalogError
from catalog.loader import load_catalog, with_entries_of
from catalog.model import Catalog, Entry
from mlcc_dagster.core.exceptions import HomeError
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.resolution import configuration_of
from resources.home import Home

IMPORTED = "imported.yaml"
"""The file that imported entries are kept in."""

_HEAD = """# Entries that `mlcc catalog import` took in: import a changed file to change one, remove its lines to drop it.
# Other files in this folder are yours and are never written to.
"""


@dataclass(frozen=True)
class ImportedEntries:
    """What an import did, by entry id in the order of the file: `added` are new, `changed` replace what was imported before,
    `unchanged` were there as they are."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]


def catalog_of(home: Home) -> Catalog:
    """Return the shipped catalog with the entries of this home behind its own; the same object until a file changes.

    A home that is not there has none and is not made. The replay home has no entries of its own: ask for those of the home
    it lies in. Raises `CatalogError` carrying every mistake of the home's files, `HomeError` where they cannot be read.
    """
    return _extended(tuple(_files(home)))


def import_entries(home: Home, entries: Sequence[Entry], *, source: str = "the file") -> ImportedEntries:
    """Take entries into a home: all of them or, where it raises, none. The same entries again change nothing, and importing
    an entry that is shipped as it is adds nothing.

    Raises `CatalogError` naming every id that belongs to another entry already (a shipped one, or one of a person's own
    file) and every configuration that does: records and results are by configuration. `HomeError` where the home cannot be
    written. `source` is what the sentences call the entries' file.
    """
    _refuse_taken(home, entries, source)  # before anything is made
    with _alone(home):
        before = _refuse_taken(home, entries, source)
        now = dict(before)
        now.update((entry.id, entry) for entry in entries if not _shipped(entry))
        if now != before:
            _write(_folder(home) / IMPORTED, now.values())
    wanted = {entry.id: entry for entry in entries}
    return ImportedEntries(
        added=tuple(key for key, entry in wanted.items() if key not in before and not _shipped(entry)),
        changed=tuple(key for key, entry in wanted.items() if key in before and before[key] != entry),
        unchanged=tuple(key for key, entry in wanted.items() if _shipped(entry) or before.get(key) == entry),
    )


def _shipped(entry: Entry) -> bool:
    return any(each == entry for each in load_catalog().all_entries)


def _refuse_taken(home: Home, entries: Sequence[Entry], source: str) -> dict[str, Entry]:
    """Return what was imported before by id. Raises `CatalogError` naming ids that are taken."""
    shipped = {entry.id: entry for entry in load_catalog().all_entries}
    imported = _extended(tuple(file for file in _files(home) if file[0].name == IMPORTED))
    before = {entry.id: entry for entry in imported.entries if entry.id not in shipped}
    catalog = catalog_of(home)
    own = {entry.id for entry in catalog.entries} - set(shipped) - set(before)
    replaced = {entry.id for entry in entries}
    owners = {_key(entry, catalog): entry.id for entry in catalog.all_entries if entry.id not in replaced}
    problems = []
    for position, entry in enumerate(entries):
        path = f"configs[{position}]"
        if entry.id in shipped and shipped[entry.id] != entry:
            differing = [f.name for f in fields(Entry) if getattr(shipped[entry.id], f.name) != getattr(entry, f.name)]
            problems.append(
                f"{path}.id: '{entry.id}' is a shipped entry with another {', '.join(differing)}; choose another id"
            )
        elif entry.id in own:
            problems.append(
                f"{path}.id: '{entry.id}' is an entry of your own in {_folder(home)}; change it there or choose another id"
            )
        owner = owners.setdefault(_key(entry, catalog), entry.id)
        if owner != entry.id:
            problems.append(
                f"{path}.args: are the configuration of entry '{owner}'; a configuration has one entry, remove this one or that"
            )
    if problems:
        raise CatalogError(problems, source)
    return before


def _key(entry: Entry, catalog: Catalog) -> str:
    return config_id(configuration_of(entry, catalog))


def _folder(home: Home) -> Path:
    return home.root / "catalog"


_File = tuple[Path, int, int, int]
"""A file and what changes when it does: a new file has a new inode, an edited one a new time or size."""


def _files(home: Home) -> list[_File]:
    try:
        found = [(path, path.stat()) for path in sorted(_folder(home).glob("*.yaml")) if path.is_file()]
    except OSError as error:
        raise HomeError(f"cannot read {_folder(home)} ({error.strerror}); give yourself permission to") from error
    return [(path, state.st_ino, state.st_mtime_ns, state.st_size) for path, state in found]


@lru_cache(maxsize=8)
def _extended(files: tuple[_File, ...]) -> Catalog:
    return with_entries_of(load_catalog(), [path for path, *_ in files]) if files else load_catalog()


@contextmanager
def _alone(home: Home) -> Iterator[None]:
    """Hold the only right to write imported entries: two imports at once would lose one's entries."""
    folder = _folder(home)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise HomeError(
            f"cannot write {folder} ({error.strerror or error}); set MLCC_HOME to a folder you can write to"
        ) from error


def _write(path: Path, entries: Any) -> None:
    text = _HEAD + yaml.safe_dump({"entries": [_record(entry) for entry in entries]}, sort_keys=False, width=120)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with fresh.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # A reader sees the old file or the new one, never half of it.
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def _record(entry: Entry) -> dict[str, Any]:
    """Return an entry in our YAML form; what is at its default is left out."""
    record: dict[str, Any] = {
        "id": entry.id,
        "tier": entry.tier,
        "track": entry.track,
        "deployment_config": entry.deployment_config,
        "model_name": entry.model_name,
        "instance_type": entry.instance_type,
        "region": entry.region,
        "deployment_target": entry.deployment_target,
        "lifecycle": list(entry.lifecycle),
        "timeout": entry.timeout,
        "benchmark": {
            "enabled": entry.benchmark.enabled,
            "workload": entry.benchmark.workload,
            "concurrency_levels": list(entry.benchmark.concurrency_levels),
        },
        "quantization": None if entry.quantization == "none" else entry.quantization,
        "tp_degree": entry.tp_degree,
        "max_model_len": entry.max_model_len,
        "enable_lora": entry.enable_lora or None,
        "serving_params": dict(entry.serving_params) or None,
        "tune_timeout": entry.tune_timeout,
        "expected_failure": entry.expected_failure,
        "tune_config": None
        if entry.tune_config is None
        else {
            "tune_id": entry.tune_config.tune_id,
            "technique": entry.tune_config.technique,
            "training_type": entry.tune_config.training_type,
            "dataset": entry.tune_config.dataset,
        },
    }
    return {name: value for name, value in record.items() if value is not None or name == "model_name"}
