"""The hash of an evaluation set, as DVC writes it into its `.dvc` file.

Belongs here: reading a `.dvc` file, computing the hash of what lies on the disk, and comparing the two. Not here: fetching the data
(DVC itself), comparing with a baseline's hash (the gate).

DVC 3 names a file by the MD5 of its bytes, and a folder by the MD5 of a JSON list of its files' MD5 and paths, with `.dir` after it
(`dvc_data.hashfile.tree`). MD5 finds what was mixed up or cut off; it does not keep out who wants a collision.
"""

import json
import os
from dataclasses import dataclass
from hashlib import file_digest, md5
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from mlcc_dagster.core.exceptions import InvalidInput, UsageError

DVC_SUFFIX = ".dvc"
_MD5_DIGITS = 32


@dataclass(frozen=True)
class DvcFile:
    """What a `.dvc` file says of its one output: `md5` (with `.dir` for a folder), and where the data lies."""

    md5: str
    data: Path


def read_dvc_file(path: Path) -> DvcFile:
    """Read a `.dvc` file with one output. Raises `UsageError` where it cannot be read, `InvalidInput` with every mistake."""
    try:
        document = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path} ({error.strerror}); name the .dvc file of the evaluation set") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidInput(str(path), ["is not readable as YAML; it must be a file that `dvc add` wrote"]) from error
    outputs = document.get("outs") if isinstance(document, dict) else None
    if not isinstance(outputs, list) or len(outputs) != 1 or not isinstance(outputs[0], dict):
        raise InvalidInput(str(path), ["outs: must have exactly one output; `dvc add` writes one"])
    output: dict[str, Any] = outputs[0]
    problems = []
    value, name = output.get("md5"), output.get("path")
    # DVC 2 left the field out and hashed text without its carriage returns: another hash under the same name.
    if output.get("hash") != "md5":
        problems.append(f"outs[0].hash: must be md5, not {output.get('hash')!r}; add the data again with DVC 3")
    digits = value.removesuffix(".dir") if isinstance(value, str) else ""
    if len(digits) != _MD5_DIGITS or not set(digits) <= set("0123456789abcdef"):
        problems.append(f"outs[0].md5: must be 32 hexadecimal digits, of a folder with .dir, not {value!r}")
    if not isinstance(name, str) or not name or len(PurePosixPath(name).parts) != 1 or name == "..":
        problems.append(f"outs[0].path: must name data beside the .dvc file, not {name!r}")
    if problems:
        raise InvalidInput(str(path), problems)
    return DvcFile(str(value), path.parent / str(name))


def content_hash(path: Path) -> str:
    """Return the hash that DVC 3 gives to a file or folder. Raises `UsageError` where it cannot be read or has links, which DVC
    would follow."""
    try:
        if path.is_file():
            return _md5_of(path)
        if not path.is_dir():
            raise UsageError(f"{path} is not there; fetch it with `dvc pull`")
        rows = []
        for here, folders, files in os.walk(path, onerror=_raise):
            for name in (*files, *folders):
                place = Path(here) / name
                if place.is_symlink():
                    raise UsageError(f"{place} is a link; put the file itself in its place")
            rows += [
                {"md5": _md5_of(Path(here) / name), "relpath": (Path(here) / name).relative_to(path).as_posix()}
                for name in files
            ]
    except OSError as error:
        raise UsageError(f"cannot read {error.filename} ({error.strerror}); give yourself the permission") from error
    rows.sort(key=lambda row: row["relpath"])
    return md5(json.dumps(rows, sort_keys=True).encode()).hexdigest() + ".dir"


def eval_set_hash(path: Path) -> str:
    """Return the hash of an evaluation set that lies here, given as the data or as its `.dvc` file.

    Where a `.dvc` file is beside the data the two must agree. Raises `UsageError` where they do not, and as `read_dvc_file` and
    `content_hash`.
    """
    if path.suffix == DVC_SUFFIX:
        pointer = path
    else:
        beside = path.with_name(path.name + DVC_SUFFIX)
        if not beside.exists():
            return content_hash(path)
        pointer = beside
    said = read_dvc_file(pointer)
    if path != pointer and said.data.name != path.name:
        raise UsageError(f"{pointer} speaks of {said.data.name}, not of {path.name}; add the data again with DVC")
    found = content_hash(said.data)
    if found != said.md5:
        raise UsageError(
            f"{said.data} is not the evaluation set of {pointer} (its hash is {found}, {said.md5} is committed); fetch it with "
            "`dvc pull`, or commit what was changed"
        )
    return found


def _md5_of(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "md5").hexdigest()


def _raise(error: OSError) -> None:
    raise error
