"""Triage recipes: which cells a matrix has, how often each is tried, and what they are compared with.

Belongs here: a sound recipe and the document that it is written back as. Not here: documents and their mistakes
(`recipe_reading.py`), what its names stand for (`resolution.py`). Source of the form: triage recipes, schema version 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from mlcc_dagster.core.triage.names import inline_environment
from mlcc_dagster.core.triage.secrets import FromEnvironment, Secret, Setting, is_secret, references

SCHEMA_VERSION = 1
DEFAULT_THRESHOLD = 1.15
NO_MITIGATION = "none"
BASELINE_PREFIX = "baseline-"
COMMAND = "command"
"""The workload that is a command of the caller's, given behind `--`."""


@dataclass(frozen=True)
class EnvironmentChoice:
    """What a cell says of its environment: the name of a registered one, or an image of its own (`docker`)."""

    name: str
    docker: str | None = None

    @classmethod
    def inline(cls, docker: str) -> "EnvironmentChoice":
        """The environment of an image reference, named after it."""
        return cls(inline_environment(docker), docker)

    def to_json(self) -> Any:
        """Return it as recipes write it."""
        return self.name if self.docker is None else {"docker": self.docker}


@dataclass(frozen=True)
class Confound:
    """When a cell is so much slower than the baseline that its speed alone may explain what it cures: above `threshold`
    times the baseline's mean step time. `baseline_cell` names the baseline, none where the rule chooses one."""

    threshold: float = DEFAULT_THRESHOLD
    baseline_cell: str | None = None


@dataclass(frozen=True)
class StopAfter:
    """Collecting until enough was seen: a cell is tried until `events` trials failed, at most `max_trials` times."""

    events: int
    max_trials: int


@dataclass(frozen=True)
class Cell:
    """One row of the matrix. `trials`, `steps` and `config` are what holds for it, the recipe's where it says nothing;
    `extra_env` overrides what its mitigations set."""

    name: str
    mitigations: tuple[str, ...]
    environment: EnvironmentChoice
    trials: int
    steps: int
    extra_env: Mapping[str, Setting] = field(default_factory=lambda: MappingProxyType({}))
    config: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class Recipe:
    """A sound recipe. `trials` and `steps` are those of cells that say nothing; `save_logs` keeps what every trial printed.
    Whether its names are registered is another question (`resolution.resolve`)."""

    workload: str
    trials: int
    steps: int
    cells: tuple[Cell, ...]
    ticket: str | None = None
    confound: Confound = Confound()
    stop_after: StopAfter | None = None
    save_logs: bool = False

    def most_trials(self, cell: Cell) -> int:
        """Return how often a cell is tried at most."""
        return cell.trials if self.stop_after is None else self.stop_after.max_trials

    @property
    def stacked(self) -> bool:
        """Whether any cell has several mitigations."""
        return any(len(cell.mitigations) > 1 for cell in self.cells)


def baseline_of(recipe: Recipe) -> Cell | None:
    """Return the cell that all others are compared with, none where nothing says which one it is.

    The one that the recipe names; else the first called `baseline-…`; else the first whose mitigations are `[none]`; else,
    in a recipe of one cell, that one.
    """
    cells = recipe.cells
    named = recipe.confound.baseline_cell
    if named is not None:
        return next((cell for cell in cells if cell.name == named), None)
    prefixed = next((cell for cell in cells if cell.name.startswith(BASELINE_PREFIX)), None)
    bare = next((cell for cell in cells if cell.mitigations == (NO_MITIGATION,)), None)
    return prefixed or bare or (cells[0] if len(cells) == 1 else None)


def secrets_of(recipe: Recipe) -> tuple[Secret, ...]:
    """Return the secrets that stand in the recipe itself."""
    return tuple(
        Secret(cell.name, name, value)
        for cell in recipe.cells
        for name, value in cell.extra_env.items()
        if isinstance(value, str) and is_secret(name, value)
    )


def resolved(recipe: Recipe) -> Recipe:
    """Return the recipe with its baseline named, and without a secret: one that stood in `extra_env` comes from the
    environment from now on. Resolved again it stays as it is."""
    baseline = baseline_of(recipe)
    instead = references(secrets_of(recipe))
    cells = tuple(
        replace(
            cell,
            extra_env=MappingProxyType(
                {name: instead.get((cell.name, name), value) for name, value in cell.extra_env.items()}
            ),
        )
        for cell in recipe.cells
    )
    name = None if baseline is None else baseline.name
    return replace(recipe, cells=cells, confound=replace(recipe.confound, baseline_cell=name))


def to_document(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as the plain document of schema version 1 that reads as the same recipe: everything that holds for a
    cell stands at the cell."""
    document: dict[str, Any] = {"schema_version": SCHEMA_VERSION}
    if recipe.ticket is not None:
        document["ticket"] = recipe.ticket
    document |= {"workload": recipe.workload, "trials": recipe.trials, "steps": recipe.steps}
    if recipe.save_logs:
        document["save_logs"] = True
    confound: dict[str, Any] = {"threshold": recipe.confound.threshold}
    if recipe.confound.baseline_cell is not None:
        confound["baseline_cell"] = recipe.confound.baseline_cell
    document["confound"] = confound
    if recipe.stop_after is not None:
        document["stop_after"] = {"events": recipe.stop_after.events, "max_trials": recipe.stop_after.max_trials}
    document["cells"] = [_cell_document(cell) for cell in recipe.cells]
    return document


def _cell_document(cell: Cell) -> dict[str, Any]:
    document: dict[str, Any] = {
        "name": cell.name,
        "mitigations": list(cell.mitigations),
        "environment": cell.environment.to_json(),
        "trials": cell.trials,
        "steps": cell.steps,
    }
    if cell.extra_env:
        document["extra_env"] = {
            name: value.to_json() if isinstance(value, FromEnvironment) else value
            for name, value in cell.extra_env.items()
        }
    if cell.config:
        document["workload_config"] = plain(cell.config)
    return document


def plain(value: Any) -> Any:
    """Return JSON values with mappings as dicts and sequences as lists, as writers of YAML and JSON take them."""
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, (list, tuple)) else value
