"""What is registered under a name: mitigations, environments, workloads.

Belongs here: the values, joining several sources into one registry, and the collisions of names. Not here: what is built in
(`built_in.py`), reading sidecars (`sidecars.py`), entry points of other distributions (`resources.triage.registries`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.triage.secrets import WITHHELD, Setting, is_secret

BUILT_IN = "built-in"


class Named(Protocol):
    """What can be registered: it has a name, and a `source` that says who registered it."""

    @property
    def name(self) -> str: ...
    @property
    def source(self) -> str: ...


@dataclass(frozen=True)
class Mitigation:
    """Environment variables that may make a failure go away. `secrets` are the variables that its source marked as such;
    `broken` says why it cannot be used."""

    name: str
    source: str
    variables: Mapping[str, Setting] = field(default_factory=lambda: MappingProxyType({}))
    summary: str = ""
    secrets: frozenset[str] = frozenset()
    broken: str | None = None

    def shown(self) -> dict[str, str]:
        """Return its variables as they may be written: secrets withheld."""
        return {
            name: WITHHELD if not isinstance(value, str) or is_secret(name, value, self.secrets) else value
            for name, value in self.variables.items()
        }

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values, secrets withheld."""
        return {
            "name": self.name,
            "source": self.source,
            "variables": self.shown(),
            "summary": self.summary,
            "broken": self.broken,
        }


@dataclass(frozen=True)
class Environment:
    """Where a cell runs: on this host, or (`docker`, `venv`) in an image or a virtual environment that the runner does not
    itself enter."""

    name: str
    source: str
    docker: str | None = None
    venv: str | None = None
    summary: str = ""
    broken: str | None = None

    @property
    def entered(self) -> bool:
        """Whether the process that runs the matrix is in this environment."""
        return self.docker is None and self.venv is None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "name": self.name,
            "source": self.source,
            "docker": self.docker,
            "venv": self.venv,
            "summary": self.summary,
            "broken": self.broken,
        }


@dataclass(frozen=True)
class WorkloadEntry:
    """A workload that can be named; `kind` is callable, stage, benchmark or command."""

    name: str
    kind: str
    source: str
    summary: str = ""
    broken: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "name": self.name,
            "kind": self.kind,
            "source": self.source,
            "summary": self.summary,
            "broken": self.broken,
        }


@dataclass(frozen=True)
class Registries:
    """All that is registered, by name."""

    mitigations: Mapping[str, Mitigation]
    environments: Mapping[str, Environment]


Entry = TypeVar("Entry", bound=Named)


def joined(noun: str, sources: Iterable[Sequence[Entry]], problems: list[str]) -> Mapping[str, Entry]:
    """Return the entries of all sources by name, in their order. A name that two give is noted in `problems` with both
    sources, whether or not they mean the same by it."""
    found: dict[str, Entry] = {}
    for entry in (entry for source in sources for entry in source):
        first = found.setdefault(entry.name, entry)
        if first is not entry:
            problems.append(
                f"{noun} '{entry.name}' is given by {first.source} and by {entry.source}; rename one of them"
            )
    return MappingProxyType(found)


def registries(
    mitigations: Iterable[Sequence[Mitigation]], environments: Iterable[Sequence[Environment]]
) -> Registries:
    """Join the sources of both registries. Raises `UsageError` naming every collision and both its sources."""
    problems: list[str] = []
    made = Registries(
        joined("mitigation", mitigations, problems),
        joined("environment", environments, problems),
    )
    refuse(problems)
    return made


def refuse(problems: Sequence[str]) -> None:
    """Raise `UsageError` with all collisions at once, where there are any."""
    if problems:
        raise UsageError("\n".join(problems))
