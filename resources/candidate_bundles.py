"""Candidate bundles: the files of a model that may be deployed, known by their content.

Belongs here: what a bundle holds, its content digest, and fetching one from an MLflow run. Not here: registering it
(`registry.py`), evaluating it.

The digest is the SHA-256 of a list of the files: their names, sizes and own SHA-256. Times, owners and permissions are not
content. What could lead out of the bundle, or be different things on different machines, is refused: links, special files, odd
names.
"""

import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import file_digest, sha256
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from mlcc_dagster.core.exceptions import InvalidInput, MlccError, UsageError
from mlcc_dagster.core.registry_chain import canonical
from resources.home import Home
from resources.optional_packages import optional_package

RUN_ID = re.compile(r"[0-9a-f]{32}")
"""How MLflow names a run."""

_SQLITE = re.compile(r"sqlite(?:\+\w+)?:///([^?]*)(?:\?.*)?")
FINISHED = "FINISHED"
_SHOWN_PROBLEMS = 10

_MLFLOW = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
"""Set before MLflow is imported, unless a person has: it would report its use to its makers, draw bars into logs, and ask a
server that is not there for some four minutes (the timeout is in seconds, of each request)."""


@dataclass(frozen=True)
class BundleFile:
    """One file: its path within the bundle with `/`, its size in bytes and its SHA-256 (hexadecimal)."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Bundle:
    """What a folder (or a single file) holds, by the order of the paths."""

    files: tuple[BundleFile, ...]

    @cached_property
    def digest(self) -> str:
        """The content digest: SHA-256 of the list of files."""
        rows = [[file.path, file.size, file.sha256] for file in self.files]
        return sha256(canonical({"bundle": "1", "files": rows})).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True)
class FetchedRun:
    """A bundle that an MLflow run logged: where it lies now, what it holds, and where it comes from."""

    folder: Path
    bundle: Bundle
    run_id: str
    experiment: str
    artifact_path: str


def bundle_digest(path: Path) -> str:
    """Return the content digest of a folder or file. Raises as `read_bundle`."""
    return read_bundle(path).digest


def read_bundle(path: Path) -> Bundle:
    """Read all files of a bundle: those of a folder, or one file, which stands for a folder that holds it alone.

    Raises `UsageError` where it is not there or empty, `InvalidInput` naming what does not belong in a bundle.
    """
    if not path.exists():
        raise UsageError(f"{path} is not there; name the folder or file of a model, or the run id of MLflow")
    if path.is_file() and not path.is_symlink():
        found = [(path.name, path)]
    elif path.is_dir():
        found = list(_files_below(path))
    else:
        raise UsageError(f"{path} is no folder and no file; name the folder or file of a model")
    problems = [problem for name, place in found if (problem := _refusal(name, place)) is not None]
    if problems:
        more = len(problems) - _SHOWN_PROBLEMS
        raise InvalidInput(str(path), [*problems[:_SHOWN_PROBLEMS], *([f"and {more} more"] if more > 0 else [])])
    if not found:
        raise UsageError(f"{path} holds no file; a bundle without content cannot be told from another")
    try:
        return Bundle(tuple(sorted((_read(name, place) for name, place in found), key=lambda file: file.path)))
    except OSError as error:
        raise UsageError(f"cannot read {error.filename} ({error.strerror}); give yourself the permission") from error


def fetch_run(home: Home, run_id: str, *, artifact: str = "", tracking_uri: str | None = None) -> FetchedRun:
    """Download what a finished MLflow run logged below the path `artifact` (default: all) into the home's `candidates/<digest>`.

    The tracking store is `tracking_uri`, else `$MLFLOW_TRACKING_URI`. Raises `NotInstalled` without MLflow, `UsageError` for a
    run, path or store that cannot be had, `InvalidInput` as `read_bundle`.
    """
    if not RUN_ID.fullmatch(run_id):
        raise UsageError(f"{run_id!r} is no run id of MLflow; it has 32 hexadecimal digits")
    if artifact and not _stays_inside(artifact):
        raise UsageError(f"{artifact!r} leads out of the run's artifacts; name a path below them")
    place = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not place:
        raise UsageError("no tracking store is named; give --tracking-uri or set MLFLOW_TRACKING_URI")
    _check_local_store(place)
    for name, value in _MLFLOW.items():
        os.environ.setdefault(name, value)
    tracking = optional_package("mlflow.tracking", extra="gate", purpose="fetching a run of MLflow")
    errors: Any = optional_package("mlflow.exceptions", extra="gate", purpose="fetching a run of MLflow")
    candidates = home.root / "candidates"
    incoming = candidates / f".incoming-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        incoming.mkdir(parents=True)
    except OSError as error:
        raise MlccError(
            f"{candidates} cannot be written to ({error.strerror}); name another home with MLCC_HOME"
        ) from error
    try:
        client = tracking.MlflowClient(tracking_uri=place)
        run = client.get_run(run_id)
        if run.info.status != FINISHED:
            raise UsageError(f"run {run_id} is {run.info.status.lower()}; only a finished run has a whole bundle")
        experiment = client.get_experiment(run.info.experiment_id).name
        fetched = Path(client.download_artifacts(run_id, artifact, str(incoming)))
        bundle = read_bundle(fetched)
        folder = candidates / bundle.digest
        if not folder.exists():
            if fetched.is_file():
                kept = incoming / ".one" / fetched.name
                kept.parent.mkdir()
                fetched = fetched.rename(kept).parent
            fetched.rename(folder)
        elif bundle_digest(folder) != bundle.digest:
            raise MlccError(f"{folder} was changed since it was fetched; remove it and fetch the run again")
        return FetchedRun(folder, bundle, run_id, experiment, artifact)
    except errors.MlflowException as error:
        sentence = " ".join(str(error).split())[:300]
        if "Max retries exceeded" in sentence or "failed with exception" in sentence:
            raise UsageError(
                f"cannot reach the tracking store {_shown_place(place)}; start it, or name another with --tracking-uri"
            ) from error
        raise UsageError(
            f"MLflow has no such bundle ({sentence}); check the run id, the artifact and the store"
        ) from error
    except OSError as error:
        raise UsageError(
            f"the bundle of {run_id} cannot be fetched ({error}); check the artifact and the store"
        ) from error
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def _check_local_store(place: str) -> None:
    """Raise `UsageError` where a tracking store on this machine is not there: MLflow would make an empty one and say that the
    run is unknown."""
    database = _SQLITE.fullmatch(place)
    parts = urlsplit(place)
    path = database[1] if database else unquote(parts.path) if parts.scheme == "file" else place
    here = database or parts.scheme in ("", "file")
    if here and path not in ("", "databricks") and not Path(path).exists():
        raise UsageError(f"there is no tracking store {path}; name the one that has the run with --tracking-uri")


def _shown_place(place: str) -> str:
    """Return an address without the name and password that it may hold."""
    parts = urlsplit(place)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


def _files_below(folder: Path) -> Iterator[tuple[str, Path]]:
    for here, folders, files in os.walk(folder, onerror=_unreadable):
        # A link to a folder is among the folders and would not be gone into: it is refused as what it is.
        for name in (*files, *(name for name in folders if (Path(here) / name).is_symlink())):
            place = Path(here) / name
            yield place.relative_to(folder).as_posix(), place


def _unreadable(error: OSError) -> None:
    raise UsageError(f"cannot read {error.filename} ({error.strerror}); give yourself the permission") from error


def _refusal(name: str, place: Path) -> str | None:
    shown = name.encode("utf-8", "backslashreplace").decode("utf-8")
    kind = place.lstat().st_mode
    if stat.S_ISLNK(kind):
        return f"{shown}: is a link; put the file itself in its place"
    if not stat.S_ISREG(kind):
        return f"{shown}: is no ordinary file"
    if any("\ud800" <= character <= "\udfff" for character in name):
        return f"{shown}: its name is no UTF-8 text; rename it"
    if not name.isprintable() or "\\" in name:
        return f"{name!r}: its name means other things elsewhere (control characters, backslash); rename it"
    return None


def _read(name: str, place: Path) -> BundleFile:
    with place.open("rb") as file:
        digest = file_digest(file, "sha256").hexdigest()
        return BundleFile(name, file.tell(), digest)


def _stays_inside(path: str) -> bool:
    parts = PurePosixPath(path)
    return not parts.is_absolute() and ".." not in parts.parts and "\\" not in path and path.isprintable()
