"""The lines of the model registry and the hash chain that holds them together.

Belongs here: what a line is, how it is written as bytes, and finding every line that was changed, dropped, moved or made up. Not
here: what lines mean (`model_registry.py`), files and locks (`resources.registry`), who wrote one (`resources.registry_identity`).

A line is canonical JSON (sorted keys, no spaces, ASCII) with a newline. Its hash covers all its other fields, the hash of the
line before among them, so that a change anywhere changes every hash after it. A chain cannot know what was cut off its end, nor
that all of it was written anew: for that its head must be kept elsewhere (`Chain.misses`).
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from types import MappingProxyType
from typing import Any

from mlcc_dagster.core.exceptions import UsageError

SCHEMA_VERSION = "1"
KINDS: tuple[str, ...] = ("pending", "gate", "promotion")
"""What a line may say: a candidate was registered, a gate judged it, it was given a version."""

NO_LINE = "0" * 64
"""What the first line names as the one before it."""

DIGEST = re.compile(r"[0-9a-f]{64}")
ENV_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")


class RegistryRefused(UsageError):
    """The registry's rules forbid what was asked for; nothing was written. Exit code 1, as of a gate that says no."""

    exit_code = 1


@dataclass(frozen=True)
class RegistryLine:
    """One line. `sequence` counts from 1; `at` is ISO 8601 text in UTC; `identity` says who wrote it (`kind`, `name`, and in
    production the signed `token`); `digest` is the content digest of a candidate; `previous` and `hash` are SHA-256 in
    hexadecimal."""

    sequence: int
    kind: str
    env: str
    at: str
    identity: Mapping[str, Any]
    digest: str
    body: Mapping[str, Any]
    previous: str
    hash: str

    def to_json(self) -> dict[str, Any]:
        """Return the line as JSON values, as it is written."""
        return self._hashed() | {"hash": self.hash}

    def to_bytes(self) -> bytes:
        """Return the line as it stands in the file, with its newline."""
        return canonical(self.to_json()) + b"\n"

    def computed_hash(self) -> str:
        """Return the hash that the line must carry."""
        return sha256(canonical(self._hashed())).hexdigest()

    def binding(self) -> str:
        """Return what a signature of this line must be for: a hash of what it says, whatever its place and time."""
        return binding_of(self.kind, self.env, self.digest, self.body)

    def _hashed(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "sequence": self.sequence,
            "kind": self.kind,
            "env": self.env,
            "at": self.at,
            "identity": plain(self.identity),
            "digest": self.digest,
            "body": plain(self.body),
            "previous": self.previous,
        }


@dataclass(frozen=True)
class Fault:
    """What is wrong with line number `line` (from 1; 0 where it is the file as a whole)."""

    line: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}" if self.line else self.reason


@dataclass(frozen=True)
class Chain:
    """The lines that could be read, in their order, and every fault. With a fault nothing in it may be relied on."""

    lines: tuple[RegistryLine, ...] = ()
    faults: tuple[Fault, ...] = ()

    @property
    def head(self) -> str:
        """The hash of the last line; `NO_LINE` of an empty chain."""
        return self.lines[-1].hash if self.lines else NO_LINE

    def misses(self, head: str) -> Fault | None:
        """Return the fault of a chain that does not hold the line whose hash was kept elsewhere: its end was cut off, or all
        of it was written anew. None where everything up to that line is as it was."""
        if head == NO_LINE or any(line.hash == head for line in self.lines):
            return None
        return Fault(
            0, f"no line has the hash {head} that was kept: the end was cut off, or the chain was written anew"
        )


def binding_of(kind: str, env: str, digest: str, body: Mapping[str, Any]) -> str:
    """Return the SHA-256 (hexadecimal) of what a line says. See `RegistryLine.binding`."""
    return sha256(canonical({"kind": kind, "env": env, "digest": digest, "body": plain(body)})).hexdigest()


def appended(
    chain: Chain,
    *,
    kind: str,
    env: str,
    at: str,
    identity: Mapping[str, Any],
    digest: str,
    body: Mapping[str, Any],
) -> RegistryLine:
    """Return the line that comes after a chain. Raises `RegistryRefused` where the chain has a fault: what is built on it
    would look sound."""
    if chain.faults:
        raise broken(chain.faults)
    line = RegistryLine(
        sequence=len(chain.lines) + 1,
        kind=kind,
        env=env,
        at=at,
        identity=MappingProxyType(plain(identity)),
        digest=digest,
        body=MappingProxyType(plain(body)),
        previous=chain.head,
        hash="",
    )
    return replace(line, hash=line.computed_hash())


def broken(faults: Sequence[Fault]) -> RegistryRefused:
    """Return the error for a registry that cannot be relied on."""
    more = f" and {len(faults) - 1} more" if len(faults) > 1 else ""
    return RegistryRefused(
        f"the registry cannot be relied on ({faults[0]}{more}); `mlcc registry verify` lists all, then restore index.jsonl "
        "from the copy that is under version control"
    )


def read_chain(content: bytes) -> Chain:
    """Return the lines of a file and its faults; never raises, whatever the bytes are."""
    lines: list[RegistryLine] = []
    faults: list[Fault] = []
    previous: str | None = NO_LINE
    rows = content.split(b"\n")
    if rows[-1]:
        faults.append(Fault(len(rows), "does not end with a newline: it was cut off"))
    else:
        rows.pop()
    for number, row in enumerate(rows, start=1):
        read = _line_of(row)
        if isinstance(read, str):
            faults.append(Fault(number, read))
            # What the next line calls the one before it cannot be compared with anything.
            previous = None
            continue
        lines.append(read)
        if read.sequence != number:
            faults.append(Fault(number, f"says that it is line {read.sequence}: lines were dropped, added or moved"))
        if previous is not None and read.previous != previous:
            faults.append(Fault(number, "does not follow the line before it: lines were dropped, changed or moved"))
        if read.hash != read.computed_hash():
            faults.append(Fault(number, "was changed: its hash is not that of what it says"))
        previous = read.hash
    return Chain(tuple(lines), tuple(faults))


FIELDS: Mapping[str, type] = MappingProxyType(
    {
        "schema_version": str,
        "sequence": int,
        "kind": str,
        "env": str,
        "at": str,
        "identity": dict,
        "digest": str,
        "body": dict,
        "previous": str,
        "hash": str,
    }
)


def _line_of(row: bytes) -> RegistryLine | str:
    """Return the line that bytes hold, or why they hold none."""
    try:
        document = json.loads(row.decode("ascii"))
    except (ValueError, RecursionError):
        return "is not readable as JSON"
    if not isinstance(document, dict) or document.keys() != FIELDS.keys():
        return f"is no registry line: it must have exactly the fields {', '.join(FIELDS)}"
    wrong = [name for name, type_ in FIELDS.items() if type(document[name]) is not type_]
    if wrong:
        return f"has values of a wrong type: {', '.join(wrong)}"
    if document["schema_version"] != SCHEMA_VERSION:
        return f"has schema version {document['schema_version']!r}, known is {SCHEMA_VERSION}; update mlcc"
    if document["kind"] not in KINDS:
        return f"has the unknown kind {document['kind']!r}; known are {', '.join(KINDS)}"
    if not DIGEST.fullmatch(document["digest"]) or not ENV_NAME.fullmatch(document["env"]):
        return "has no digest or no environment that could be one"
    try:
        same = canonical(document) == row
    except (ValueError, RecursionError):
        same = False
    if not same:
        return "is not written as the registry writes: it was changed"
    values = {name: value for name, value in document.items() if name != "schema_version"}
    values |= {name: MappingProxyType(values[name]) for name in ("identity", "body")}
    return RegistryLine(**values)


def canonical(document: Mapping[str, Any]) -> bytes:
    """Return JSON values as the one text that they have. Raises `ValueError` for numbers that are not finite."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode(
        "ascii"
    )


def plain(value: Any) -> Any:
    """Return a value as what JSON reads back: dicts with text keys and lists; numbers that are not finite become the texts
    `NaN`, `Infinity`, `-Infinity`. Raises `TypeError` for what JSON has no word for."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise TypeError(f"{type(value).__name__} cannot stand in a line of the registry")
