"""A matrix that was checked and can begin: everything that can be wrong with it was found, and nothing was written.

Belongs here: putting together recipe, registries, sidecars and workload, and all their mistakes. Not here: the checks themselves
(`core.triage`), running (`runner.py`).
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mlcc_dagster.core.exceptions import InvalidInput
from mlcc_dagster.core.triage.adaptive import adaptive_mistakes
from mlcc_dagster.core.triage.options import NO_OPTIONS, RunOptions
from mlcc_dagster.core.triage.recipe import Cell, Recipe, baseline_of, resolved, secrets_of
from mlcc_dagster.core.triage.recipe_reading import examined
from mlcc_dagster.core.triage.resolution import ConcreteCell, resolve
from mlcc_dagster.core.triage.secrets import FromEnvironment, Scrubber, Secret, references
from resources.triage.recipe_files import SidecarFile
from resources.triage.registries import all_registries
from resources.triage.workload_names import workload_named
from resources.triage.workloads import Workload

TRIAL_SECONDS = 1800.0
"""What a trial may take unless somebody says otherwise."""


@dataclass(frozen=True)
class Plan:
    """A checked matrix. `recipe` is resolved: its baseline is named and no secret stands in it; `host` are the environment
    variables that values come from, with those that were taken out of recipe and sidecars; `source` names the recipe in the
    matrix; `command` are the words behind `--`."""

    recipe: Recipe
    cells: tuple[ConcreteCell, ...]
    baseline: Cell
    workload: Workload
    source: str
    sidecars: tuple[SidecarFile, ...] = ()
    command: tuple[str, ...] | None = None
    trial_seconds: float = TRIAL_SECONDS
    host: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    options: RunOptions = NO_OPTIONS

    @property
    def scrubber(self) -> Scrubber:
        """Takes the secrets of all cells out of texts."""
        return Scrubber(value for cell in self.cells for value in cell.variables.secret_values())

    @property
    def needed(self) -> tuple[str, ...]:
        """The environment variables that must be set to run the same again."""
        own = {
            value.variable
            for cell in self.recipe.cells
            for value in cell.extra_env.values()
            if isinstance(value, FromEnvironment)
        }
        used = {name for cell in self.cells for name in cell.cell.mitigations}
        for file in self.sidecars:
            instead = references(file.sidecar.written_secrets)
            for mitigation in file.sidecar.mitigations:
                if mitigation.name not in used:
                    continue
                for name, value in mitigation.variables.items():
                    written = instead.get((mitigation.name, name), value)
                    if isinstance(written, FromEnvironment):
                        own.add(written.variable)
        return tuple(sorted(own))


def checked(
    document: Any,
    *,
    source: str,
    sidecars: Sequence[SidecarFile] = (),
    command: Sequence[str] | None = None,
    trial_seconds: float = TRIAL_SECONDS,
    problems: Sequence[str] = (),
    write: bool = True,
    options: RunOptions = NO_OPTIONS,
) -> Plan:
    """Check a recipe document with everything that it names, and return what can be run.

    `problems` are those that reading its text found; without `write` nothing at all is written, compiled files included.
    Raises `InvalidInput` (of `source`) with every mistake of all checks, `UsageError` naming both sources of colliding names.
    """
    found = list(problems)
    registered = all_registries([file.sidecar for file in sidecars])
    recipe = None if found else examined(document, found)
    if recipe is None:
        raise InvalidInput(source, found)
    host = MappingProxyType({**os.environ, **_taken_out(recipe, sidecars, found)})
    cells = resolve(recipe, registered, host=host, problems=found)
    workload = None
    if recipe.workload:
        workload = workload_named(recipe.workload, command, found, write=write)
    if workload is not None:
        found += [
            # what concerns the workload as a whole is said once, whatever the cell
            mistake if mistake.startswith("workload: ") else f"cells[{number}].{mistake}"
            for number, cell in enumerate(cells)
            for mistake in workload.mistakes(cell)
        ]
    if options.adaptive:
        found += adaptive_mistakes(recipe)
    if options.delay_control and workload is not None and not workload.can_be_slowed:
        found.append(
            f"workload: {recipe.workload} times its requests itself and cannot be slowed; drop --delay-control"
        )
    baseline = baseline_of(recipe)
    if found or workload is None or baseline is None:
        raise InvalidInput(source, list(dict.fromkeys(found)))
    return Plan(
        recipe=resolved(recipe),
        cells=cells,
        baseline=baseline,
        workload=workload,
        source=source,
        sidecars=tuple(sidecars),
        command=None if command is None else tuple(command),
        trial_seconds=trial_seconds,
        host=host,
        options=options,
    )


def extended(plan: Plan, added: Cell, sidecars: Sequence[SidecarFile]) -> Plan:
    """Return a plan with one more cell, whose names the plan's own cells have already: a part of a stack."""
    recipe = replace(plan.recipe, cells=(*plan.recipe.cells, added))
    found: list[str] = []
    registered = all_registries([file.sidecar for file in sidecars])
    cells = resolve(recipe, registered, host=plan.host, problems=found)
    if found:
        raise InvalidInput(plan.source, found)
    return replace(plan, recipe=recipe, cells=cells)


def resolved_cells(plan: Plan, sidecars: Sequence[SidecarFile]) -> tuple[ConcreteCell, ...]:
    """Return the cells of a plan made concrete from copies of its sidecars: what is run is what lies in the run's folder.
    Raises `InvalidInput` where they do not say what the originals said."""
    found: list[str] = []
    registered = all_registries([file.sidecar for file in sidecars])
    cells = resolve(plan.recipe, registered, host=plan.host, problems=found)
    if found or [cell.variables.values for cell in cells] != [cell.variables.values for cell in plan.cells]:
        raise InvalidInput("the copies of the sidecars", found or ["they differ from the files that were checked"])
    return cells


def _taken_out(recipe: Recipe, sidecars: Sequence[SidecarFile], problems: list[str]) -> dict[str, str]:
    """Return the secrets of a recipe and its sidecars by the variables that are referred to in their place. Two values under
    one reference are a mistake: run again, both would be the same."""
    values: dict[str, tuple[str, Path | str]] = {}
    groups: list[tuple[Path | str, tuple[Secret, ...]]] = [("the recipe", secrets_of(recipe))]
    groups += [(file.path, file.sidecar.written_secrets) for file in sidecars]
    for where, secrets in groups:
        instead = references(secrets)
        for secret in secrets:
            reference = instead[(secret.owner, secret.name)].variable
            value, first = values.setdefault(reference, (secret.value, where))
            if value != secret.value:
                problems.append(
                    f"{where} and {first} give {secret.name} two values, and it looks like a secret, which is not written down; "
                    f"give one as {{from_environment: NAME}}"
                )
    return {reference: value for reference, (value, _) in values.items()}
