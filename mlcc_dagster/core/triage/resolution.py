"""A recipe made concrete: what its names stand for, and the variables that each cell sets.

Belongs here: looking up names, joining the variables of stacked mitigations, and every mistake in doing so. Not here: what is
registered (`registries.py`), reading the recipe (`recipe_reading.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from catalog.model import nearest
from mlcc_dagster.core.triage.names import colliding, folder_name
from mlcc_dagster.core.triage.recipe import Cell, Recipe
from mlcc_dagster.core.triage.registries import Environment, Mitigation, Registries
from mlcc_dagster.core.triage.secrets import FromEnvironment, Setting, Variables, is_secret

CELL = "the cell itself"
"""The source of an environment that a cell gives as an image."""


@dataclass(frozen=True)
class ConcreteCell:
    """A cell with what its names stand for: the environment, and the variables that are set for its trials."""

    cell: Cell
    environment: Environment
    variables: Variables

    @property
    def name(self) -> str:
        """The name of the cell."""
        return self.cell.name


def resolve(
    recipe: Recipe, registries: Registries, *, host: Mapping[str, str], problems: list[str]
) -> tuple[ConcreteCell, ...]:
    """Return the cells of a recipe made concrete; every mistake goes to `problems` with its path.

    `host` are the environment variables of this process, where values come from that are written down nowhere. Mistakes:
    names that are not registered (with all that are), variables to which stacked mitigations give two values, values
    that the environment does not have, environments whose folders would be one. No value is ever named.
    """
    lookup = _Lookup(recipe, registries, host, problems)
    cells = tuple(lookup.cell(number, cell) for number, cell in enumerate(recipe.cells))
    lookup.environments_apart(cells)
    return cells


def unknown_hint(name: str, known: Sequence[str], *, listed: bool = True) -> str:
    """Return what a name could have been that is not registered, and, where `listed`, all that are."""
    clause = nearest(name, known)
    close = "" if clause.startswith("known are") else clause
    if not listed:
        return close or "it is not in the list above either"
    return f"{close} registered are {', '.join(known)}".lstrip()


class _Lookup:
    def __init__(self, recipe: Recipe, registries: Registries, host: Mapping[str, str], problems: list[str]) -> None:
        self._recipe = recipe
        self._registries = registries
        self._host = host
        self._problems = problems
        self._told: set[str] = set()

    def cell(self, number: int, cell: Cell) -> ConcreteCell:
        path = f"cells[{number}]"
        environment = self._environment(path, cell)
        mitigations = [
            found
            for position, name in enumerate(cell.mitigations)
            if (found := self._mitigation(f"{path}.mitigations[{position}]", name)) is not None
        ]
        return ConcreteCell(cell, environment, self._variables(path, cell, mitigations))

    def _mitigation(self, path: str, name: str) -> Mitigation | None:
        found = self._registries.mitigations.get(name)
        if found is None:
            self._unknown(path, "mitigation", name, list(self._registries.mitigations))
        elif found.broken is not None:
            self._problems.append(f"{path}: '{name}' of {found.source} cannot be used ({found.broken}); mend it there")
        return found

    def _environment(self, path: str, cell: Cell) -> Environment:
        choice = cell.environment
        if choice.docker is not None:
            return Environment(choice.name, CELL, docker=choice.docker)
        found = self._registries.environments.get(choice.name)
        if found is None:
            if choice.name:
                self._unknown(f"{path}.environment", "environment", choice.name, list(self._registries.environments))
            return Environment(choice.name, CELL)
        if found.broken is not None:
            self._problems.append(
                f"{path}.environment: '{choice.name}' of {found.source} cannot be used ({found.broken}); mend it there"
            )
        return found

    def _unknown(self, path: str, noun: str, name: str, known: Sequence[str]) -> None:
        """Note a name that nobody registered, the first of its kind with all that are."""
        hint = unknown_hint(name, known, listed=noun not in self._told)
        self._told.add(noun)
        self._problems.append(f"{path}: no {noun} '{name}' is registered; {hint}")

    def _variables(self, path: str, cell: Cell, mitigations: Sequence[Mitigation]) -> Variables:
        values: dict[str, str] = {}
        given: dict[str, Mitigation] = {}
        secret: set[str] = set()
        for mitigation in mitigations:
            for name, setting in mitigation.variables.items():
                if name in cell.extra_env:
                    # what the cell says on purpose comes before all of them, also where they contradict each other
                    continue
                value = self._value(f"{path}.mitigations", name, setting, f"mitigation '{mitigation.name}'")
                if value is None:
                    continue
                first = given.setdefault(name, mitigation)
                if values.setdefault(name, value) != value:
                    self._problems.append(
                        f"{path}.mitigations: '{first.name}' and '{mitigation.name}' give {name} two values; drop one of them "
                        "or set it in extra_env"
                    )
                if is_secret(name, setting, mitigation.secrets):
                    secret.add(name)
        for name, setting in cell.extra_env.items():
            value = self._value(f"{path}.extra_env.{name}", name, setting, "it")
            if value is not None:
                values[name] = value
            if is_secret(name, setting):
                secret.add(name)
        return Variables(values, frozenset(secret & values.keys()))

    def _value(self, path: str, name: str, setting: Setting, who: str) -> str | None:
        if not isinstance(setting, FromEnvironment):
            return setting
        value = self._host.get(setting.variable)
        if value is None:
            problem = (
                f"{path}: {who} takes the value of {name} from the environment variable {setting.variable}, which is not set; "
                "set it and try again"
            )
            if problem not in self._problems:
                self._problems.append(problem)
        return value

    def environments_apart(self, cells: Sequence[ConcreteCell]) -> None:
        """Note environments that cannot be told apart by their folders: a snapshot of one would stand under the other."""
        by_name: dict[str, Environment] = {}
        first: dict[str, int] = {}
        for number, cell in enumerate(cells):
            environment = cell.environment
            if not environment.name:
                continue
            other = by_name.setdefault(environment.name, environment)
            place = first.setdefault(environment.name, number)
            if other != environment:
                self._problems.append(
                    f"cells[{number}].environment: its image has the same short name {environment.name} as that of "
                    f"cells[{place}]; register one of them under a name"
                )
        for one, other in colliding(by_name):
            self._problems.append(
                f"cells[{first[other]}].environment: '{other}' and '{one}' of cells[{first[one]}] would share the folder "
                f"{folder_name(other)}; rename one of them"
            )
