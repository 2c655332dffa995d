"""Names of triage and the file names that are made of them.

Belongs here: what a cell, a variable and an environment may be called, and how a name becomes one harmless part of a path.
Not here: making folders (`resources.triage.run_folders`), what is registered under a name (`registries.py`). Source of the
rules: triage recipes, schema version 1.
"""

import hashlib
import re
from collections.abc import Iterable
from datetime import UTC, datetime

CELL_PATTERN = r"[A-Za-z0-9_][A-Za-z0-9_.\-]*"
RESERVED_CELLS = frozenset({".", "..", "matrix.md", "matrix.json"})
VARIABLE_PATTERN = r"[A-Za-z_][A-Za-z0-9_]*"

LONGEST_NAME = 200
"""Characters: a file name of one byte each, with room for a suffix below the 255 bytes that file systems take."""

NO_TICKET = "_no_ticket_"
INLINE_PREFIX = "_inline_"
"""How environments are named that a cell gives as an image instead of a registered name; nobody may register such a name."""

_UNSAFE = re.compile(r"[^A-Za-z0-9_.\-]")


def cell_name_mistake(name: str) -> str | None:
    """Say what is wrong with a cell's name, none where it may be one: it is a folder name and a row of the matrix."""
    if name in RESERVED_CELLS:
        return f"'{name}' is reserved; choose another name"
    if not re.fullmatch(CELL_PATTERN, name):
        return f"{name!r} must match ^{CELL_PATTERN}$; use letters, digits, _, . and -, the first of them no . or -"
    return too_long(name)


def too_long(name: str) -> str | None:
    """Say that a name is longer than a file name may be, none where it is not."""
    return f"has {len(name)} characters; use at most {LONGEST_NAME}" if len(name) > LONGEST_NAME else None


def variable_name_mistake(name: str) -> str | None:
    """Say that no environment variable can be called so, none where one can."""
    if re.fullmatch(VARIABLE_PATTERN, name):
        return None
    return f"{name!r} cannot name an environment variable; use letters, digits and _, the first no digit"


def inline_environment(docker: str) -> str:
    """Return the name of the environment that an image reference stands for: the same reference, the same name."""
    return f"{INLINE_PREFIX}{hashlib.blake2b(docker.encode('utf-8')).hexdigest()[:8]}"


def folder_name(name: str) -> str:
    """Return a name as one part of a path: what is no letter, digit, `_`, `.` or `-` becomes `_`, so that it can never
    mean another folder."""
    safe = _UNSAFE.sub("_", name)
    return "_" if safe in ("", ".", "..") else safe


def run_name(moment: datetime, number: int = 1) -> str:
    """Return what the folder of a run is called: its UTC second, and `-2`, `-3` for further runs of that second."""
    text = f"{moment.astimezone(UTC):%Y-%m-%dT%H-%M-%S}"
    return text if number == 1 else f"{text}-{number}"


def trial_file(number: int) -> str:
    """Return the file name of a cell's trial, counted from 0."""
    return f"trial_{number}.json"


def trial_number(file_name: str) -> int | None:
    """Return the number of a trial from its file name, none for any other file. Numbers sort as numbers: trial 2 comes
    before trial 10."""
    found = re.fullmatch(r"trial_(0|[1-9][0-9]{0,8})\.json", file_name)
    return None if found is None else int(found[1])


def colliding(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return pairs of distinct names that become one folder name on some file system (letter case aside)."""
    first: dict[str, str] = {}
    pairs = []
    for name in names:
        other = first.setdefault(folder_name(name).casefold(), name)
        if other != name:
            pairs.append((other, name))
    return list(dict.fromkeys(pairs))
