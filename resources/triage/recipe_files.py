"""Recipes and sidecars as files that a person named.

Belongs here: their bytes, with limits, and what they are called in messages. Not here: what they hold (`core.triage`), the copies
in a run's folder (`run_folders.py`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlcc_dagster.core.exceptions import InvalidInput, UsageError
from mlcc_dagster.core.triage.sidecars import Sidecar, read_sidecar
from resources.triage.documents import json_document, plain_document

MOST_BYTES = 4 << 20


@dataclass(frozen=True)
class SidecarFile:
    """A sidecar that a person named: `name` is the file name of its copy, `content` the bytes of the copy: its own, or, where
    secrets stand in it, a document without them."""

    path: Path
    name: str
    sidecar: Sidecar
    content: bytes


def recipe_document(path: Path, problems: list[str]) -> Any:
    """Return the plain document of a recipe file. Raises `UsageError` where the file cannot be read."""
    return plain_document(_text(path, "a recipe, YAML or JSON"), problems)


def read_sidecars(paths: Sequence[Path]) -> tuple[SidecarFile, ...]:
    """Read sidecars. Raises `UsageError` where one cannot be read or two would have one name in the run's folder, and
    `InvalidInput` with all mistakes of a file."""
    files = [_read(path) for path in paths]
    first: dict[str, Path] = {}
    for file in files:
        other = first.setdefault(file.name.casefold(), file.path)
        if other is not file.path:
            raise UsageError(
                f"{other} and {file.path} have the same file name, and both are copied into the folder of the run; rename one"
            )
    return tuple(files)


def _read(path: Path) -> SidecarFile:
    text = _text(path, "a sidecar, JSON")
    problems: list[str] = []
    document = json_document(text, problems)
    if problems:
        raise InvalidInput(str(path), problems)
    sidecar = read_sidecar(document, source=f"sidecar {path.name}", file=str(path))
    if not sidecar.written_secrets:
        return SidecarFile(path, path.name, sidecar, text.encode("utf-8"))
    return SidecarFile(
        path, path.name, sidecar, (json.dumps(sidecar.without_secrets(), indent=2) + "\n").encode("utf-8")
    )


def _text(path: Path, what: str) -> str:
    try:
        if not path.is_file():
            raise UsageError(f"{path} is {'a folder' if path.is_dir() else 'no file'}; name {what}")
        if path.stat().st_size > MOST_BYTES:
            raise UsageError(f"{path} has more than {MOST_BYTES >> 20} MB; name {what}")
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no UTF-8 text (byte {error.start}); name {what}") from error
    except OSError as error:
        raise UsageError(f"cannot read {path} ({error.strerror or error}); name {what}") from error
