"""The folder of a run: claimed once, written through no link, read again to go on.

Belongs here: its layout, claiming it atomically, writing and reading files in it. Not here: what the files say. Layout:
`<out>/<ticket or _no_ticket_>/<workload>/<UTC second>[-N]/` with `matrix.md`, `matrix.json`, `recipe.resolved.yaml`,
`host_env.json`, `environments/<name>/env.json`, `sidecars/`, `cells/<cell>/trial_N.json`, and of delay controls
`controls/<cell>/control.json` and `trial_N.json`.

Every part of a path is one name that can mean no other folder, and every folder is opened without following links: neither a
ticket nor a link that somebody put in the way leads outside.
"""

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.triage.names import NO_TICKET, folder_name, run_name, trial_file, trial_number

MATRIX_JSON = "matrix.json"
MATRIX_MD = "matrix.md"
RESOLVED = "recipe.resolved.yaml"
HOST = "host_env.json"
SIDECARS = "sidecars"
CELLS = "cells"
CONTROLS = "controls"
CONTROL = "control.json"
ENVIRONMENTS = "environments"

_MOST_RUNS_A_SECOND = 10_000
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_CLOEXEC


def run_parent(output: Path, *, ticket: str | None, workload: str) -> Path:
    """Return the folder that runs of a ticket and a workload are made in."""
    return output / (NO_TICKET if ticket is None else folder_name(ticket)) / folder_name(workload)


def place_problems(output: Path, *, ticket: str | None, workload: str) -> list[str]:
    """Return what would keep a run from being made there, touching nothing."""
    parent = run_parent(output, ticket=ticket, workload=workload)
    for place in (parent.parent, parent):
        if place.is_symlink():
            return [f"{place} is a link, and a run is written through none; remove it or name another --output-dir"]
    existing = next(place for place in (parent, *parent.absolute().parents) if place.exists())
    if not existing.is_dir():
        return [f"{existing} is no folder; name another --output-dir"]
    if not os.access(existing, os.W_OK | os.X_OK):
        return [f"{existing} cannot be written to; name another --output-dir"]
    return []


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run."""

    path: Path

    @classmethod
    def claim(cls, output: Path, *, ticket: str | None, workload: str, now: datetime | None = None) -> "RunFolder":
        """Make the folder of a new run and return it: never one that is there, however many begin in one second.

        Raises `UsageError` where a link is in the way.
        """
        moment = datetime.now(UTC) if now is None else now
        parent = run_parent(output, ticket=ticket, workload=workload)
        output.mkdir(parents=True, exist_ok=True)
        handle = os.open(output, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with _descended(handle, output, (parent.parent.name, parent.name), make=True) as folder:
            for number in range(1, _MOST_RUNS_A_SECOND):
                name = run_name(moment, number)
                try:
                    os.mkdir(name, dir_fd=folder)
                except FileExistsError:
                    continue
                return cls(parent / name)
        raise UsageError(f"{parent} has {_MOST_RUNS_A_SECOND} runs of one second; look at the clock of this machine")

    @classmethod
    def existing(cls, path: Path) -> "RunFolder":
        """Return the folder of a run that is there. Raises `UsageError` where it is none."""
        if path.is_symlink() or not (path / MATRIX_JSON).is_file() or not (path / RESOLVED).is_file():
            raise UsageError(f"{path} is no folder of a run; name one that has {MATRIX_JSON} and {RESOLVED}")
        return cls(path)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the folder for this process. Raises `UsageError` where another one works in it; the kernel lets it go when
        its holder dies."""
        handle = self._open()
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as error:
            raise UsageError(f"another process works on {self.path}; let it end first") from error
        finally:
            os.close(handle)

    def write(self, *parts: str, content: bytes) -> Path:
        """Write a file whole or not at all, in place of one that was there."""
        *folders, name = parts
        with _descended(self._open(), self.path, tuple(folders), make=True) as folder:
            new = f".{name}.new"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new, dir_fd=folder)
            handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FILE, 0o644, dir_fd=folder)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.rename(new, name, src_dir_fd=folder, dst_dir_fd=folder)
        return self.path.joinpath(*parts)

    def write_json(self, *parts: str, document: Any) -> Path:
        """Write a JSON document; see `write`."""
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
        return self.write(*parts, content=text.encode("utf-8", "backslashreplace") + b"\n")

    def read(self, *parts: str) -> bytes | None:
        """Return the content of a file, none where it is not there. Raises `UsageError` where a link is in the way."""
        *folders, name = parts
        try:
            with (
                _descended(self._open(), self.path, tuple(folders), make=False) as folder,
                os.fdopen(os.open(name, os.O_RDONLY | _FILE, dir_fd=folder), "rb") as file,
            ):
                return file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _link(self.path.joinpath(*parts), error) from error

    def read_json(self, *parts: str) -> Any:
        """Return a JSON document, none where it is not there or is no whole one."""
        content = self.read(*parts)
        try:
            return None if content is None else json.loads(content)
        except ValueError:
            return None

    def trial_numbers(self, cell: str, kind: str = CELLS) -> list[int]:
        """Return the numbers of the trials that have a file, in their order; `kind` is `CELLS`, or `CONTROLS` for those of the
        cell's delay control."""
        try:
            with (
                _descended(self._open(), self.path, (kind, cell), make=False) as folder,
                os.scandir(folder) as entries,
            ):
                numbers = [trial_number(entry.name) for entry in entries]
        except FileNotFoundError:
            return []
        return sorted(number for number in numbers if number is not None)

    def write_trial(self, cell: str, number: int, document: Any, kind: str = CELLS) -> Path:
        """Write the record of a trial."""
        return self.write_json(kind, cell, trial_file(number), document=document)

    def read_trial(self, cell: str, number: int, kind: str = CELLS) -> Any:
        """Return the record of a trial as it stands, none where there is no whole one."""
        return self.read_json(kind, cell, trial_file(number))

    def _open(self) -> int:
        try:
            return os.open(self.path, _FOLDER)
        except OSError as error:
            raise _link(self.path, error) from error


@contextlib.contextmanager
def _descended(handle: int, place: Path, names: tuple[str, ...], *, make: bool) -> Iterator[int]:
    """Give the folder below an open one, each part opened from its parent without following a link; closes `handle`."""
    try:
        for name in names:
            assert name == folder_name(name), "every part of a path was made one name"
            place /= name
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, dir_fd=handle)
            try:
                below = os.open(name, _FOLDER, dir_fd=handle)
            except FileNotFoundError:
                raise
            except OSError as error:
                raise _link(place, error) from error
            os.close(handle)
            handle = below
        yield handle
    finally:
        os.close(handle)


def _link(place: Path, error: OSError) -> Exception:
    """Return the refusal of a place that is a link or no folder; any other error of the system as it is."""
    if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EMLINK):
        return UsageError(f"{place} is a link or no folder, and a run is written through none; remove it")
    return error
