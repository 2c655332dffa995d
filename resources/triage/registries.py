"""What is registered here: built in, by other distributions, and by sidecars.

Belongs here: entry points, and joining them with the rest. Not here: collisions (`core.triage.registries`), sidecars as files
(`recipe_files.py`), what a workload's name stands for (`workload_names.py`).

A distribution registers with entry points of the groups `mlcc.mitigations` (a mapping of variables to texts),
`mlcc.environments` (a mapping with `docker` or `venv`) and `mlcc.workloads` (a callable). One that cannot be loaded is listed as
broken, and refused only where a recipe names it.
"""

from collections.abc import Mapping, Sequence
from importlib import metadata
from types import MappingProxyType
from typing import Any

from mlcc_dagster.core.triage.built_in import ENVIRONMENTS, MITIGATIONS
from mlcc_dagster.core.triage.names import INLINE_PREFIX
from mlcc_dagster.core.triage.recipe_reading import is_reference, settings
from mlcc_dagster.core.triage.registries import Environment, Mitigation, Registries, registries
from mlcc_dagster.core.triage.sidecars import Sidecar

MITIGATION_GROUP = "mlcc.mitigations"
ENVIRONMENT_GROUP = "mlcc.environments"
WORKLOAD_GROUP = "mlcc.workloads"


def all_registries(sidecars: Sequence[Sidecar] = ()) -> Registries:
    """Return everything registered under a name. Raises `UsageError` naming both sources of every collision."""
    return registries(
        [
            MITIGATIONS,
            [_mitigation(point) for point in points(MITIGATION_GROUP)],
            *(each.mitigations for each in sidecars),
        ],
        [
            ENVIRONMENTS,
            [_environment(point) for point in points(ENVIRONMENT_GROUP)],
            *(each.environments for each in sidecars),
        ],
    )


def points(group: str) -> list[metadata.EntryPoint]:
    """Return the entry points of a group, by name."""
    return sorted(metadata.entry_points(group=group), key=lambda point: (point.name, point.value))


def source_of(point: metadata.EntryPoint) -> str:
    """Return who registered an entry point."""
    distribution = point.dist.metadata["Name"] if point.dist is not None else "an unknown distribution"
    return f"entry point of {distribution}"


def loaded(point: metadata.EntryPoint) -> tuple[Any, str | None]:
    """Return what an entry point stands for, or why it cannot be loaded. Values are not shown."""
    try:
        return point.load(), None
    except Exception as error:
        # whatever another distribution does at import must not keep the rest from being used
        return None, f"{point.value} cannot be loaded: {type(error).__name__}"


def _mitigation(point: metadata.EntryPoint) -> Mitigation:
    value, broken = loaded(point)
    problems: list[str] = []
    variables = settings(value, "variables", problems) if isinstance(value, Mapping) else {}
    if broken is None and not isinstance(value, Mapping):
        broken = f"{point.value} is no mapping of variables to texts"
    return Mitigation(
        point.name, source_of(point), MappingProxyType(variables), broken=broken or (problems[0] if problems else None)
    )


def _environment(point: metadata.EntryPoint) -> Environment:
    value, broken = loaded(point)
    given = dict(value) if isinstance(value, Mapping) else {}
    docker, venv = given.get("docker"), given.get("venv")
    sound = (len(given) == 1 and is_reference(docker)) or (len(given) == 1 and isinstance(venv, str) and bool(venv))
    if broken is None and (not sound or point.name.startswith(INLINE_PREFIX)):
        broken = f"{point.value} is no mapping with docker or venv, or its name is reserved"
    return Environment(
        point.name,
        source_of(point),
        docker=docker if sound and broken is None else None,
        venv=venv if sound and broken is None else None,
        broken=broken,
    )
