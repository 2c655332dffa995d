"""Sidecars: mitigations and environments of one investigation, in a JSON file beside the recipe.

Belongs here: what such a file must hold, all its mistakes at once, and the form of it that holds no secret. Not here: reading
and copying files (`resources.triage.sidecar_files`). No mistake shows a value: it may be a secret.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from catalog.model import nearest
from mlcc_dagster.core.exceptions import InvalidInput
from mlcc_dagster.core.triage.names import INLINE_PREFIX, variable_name_mistake
from mlcc_dagster.core.triage.recipe_reading import is_reference, kind, settings
from mlcc_dagster.core.triage.registries import Environment, Mitigation
from mlcc_dagster.core.triage.secrets import FromEnvironment, Secret, is_secret, references

VERSION = 1
KEYS = ("version", "mitigations", "environments", "secrets")


@dataclass(frozen=True)
class Sidecar:
    """A sound sidecar. `source` names it in messages and lists; `secrets` are the variables that it marks as secret."""

    source: str
    mitigations: tuple[Mitigation, ...]
    environments: tuple[Environment, ...]
    secrets: frozenset[str]

    @property
    def written_secrets(self) -> tuple[Secret, ...]:
        """The secrets that stand in it, which must not be copied."""
        return tuple(
            Secret(mitigation.name, name, value)
            for mitigation in self.mitigations
            for name, value in mitigation.variables.items()
            if isinstance(value, str) and is_secret(name, value, self.secrets)
        )

    def without_secrets(self) -> dict[str, Any]:
        """Return the document of a sidecar that means the same, once the secrets are in the environment under the names that
        it refers to."""
        instead = references(self.written_secrets)
        document: dict[str, Any] = {"version": VERSION}
        if self.secrets:
            document["secrets"] = sorted(self.secrets)
        document["mitigations"] = {
            mitigation.name: {
                name: written.to_json() if isinstance(written, FromEnvironment) else written
                for name, value in mitigation.variables.items()
                for written in [instead.get((mitigation.name, name), value)]
            }
            for mitigation in self.mitigations
        }
        document["environments"] = {
            each.name: {"docker": each.docker} if each.docker is not None else {"venv": each.venv}
            for each in self.environments
        }
        return document


def read_sidecar(document: Any, *, source: str, file: str) -> Sidecar:
    """Read a sidecar from its JSON document; `file` names it in mistakes.

    Raises `InvalidInput` carrying every mistake with its path, such as `mitigations.my_flag.MY_VAR`.
    """
    problems: list[str] = []
    sidecar = _read(document, source, problems)
    if problems:
        raise InvalidInput(file, list(dict.fromkeys(problems)))
    return sidecar


def _read(document: Any, source: str, problems: list[str]) -> Sidecar:
    if not isinstance(document, dict):
        problems.append(
            f"the sidecar: must be an object with version, mitigations and environments, not a {kind(document)}"
        )
        return Sidecar(source, (), (), frozenset())
    problems += [f"{key}: unknown key; {nearest(key, KEYS)}" for key in document if key not in KEYS]
    version = document.get("version")
    if isinstance(version, bool) or not isinstance(version, int) or version != VERSION:
        said = "is missing; write" if "version" not in document else "is not known here; only version"
        problems.append(f"version: {said} {VERSION}")
    secrets = _secrets(document.get("secrets", []), problems)
    mitigations = [
        Mitigation(name, source, MappingProxyType(variables), "", secrets)
        for name, variables in _named(document, "mitigations", problems)
    ]
    environments = _environments(document, source, problems)
    return Sidecar(source, tuple(mitigations), tuple(environments), secrets)


def _secrets(raw: Any, problems: list[str]) -> frozenset[str]:
    if not isinstance(raw, list) or not all(isinstance(name, str) for name in raw):
        problems.append("secrets: must be a list of the variables whose values are secret")
        return frozenset()
    problems += [
        f"secrets[{number}]: {mistake}"
        for number, name in enumerate(raw)
        if (mistake := variable_name_mistake(name)) is not None
    ]
    return frozenset(raw)


def _named(document: Mapping[str, Any], key: str, problems: list[str]) -> list[tuple[str, dict[str, Any]]]:
    raw = document.get(key, {})
    if not isinstance(raw, dict):
        problems.append(f"{key}: must be an object of names, not a {kind(raw)}")
        return []
    found = []
    for name, values in raw.items():
        place = f"{key}.{name}"
        if not name.strip() or not name.isprintable() or "," in name or name != name.strip():
            problems.append(f"{key}: {name!r} cannot be a name; use one line of printable text without commas")
        elif not isinstance(values, dict):
            problems.append(f"{place}: must be an object of variables and texts, not a {kind(values)}")
        else:
            found.append((name, settings(values, place, problems)))
    return found


def _environments(document: Mapping[str, Any], source: str, problems: list[str]) -> list[Environment]:
    raw = document.get("environments", {})
    if not isinstance(raw, dict):
        problems.append(f"environments: must be an object of names, not a {kind(raw)}")
        return []
    found = []
    for name, values in raw.items():
        place = f"environments.{name}"
        if not name.strip() or not name.isprintable() or "," in name or name != name.strip():
            problems.append(f"environments: {name!r} cannot be a name; use one line of printable text without commas")
        elif name.startswith(INLINE_PREFIX):
            problems.append(f"{place}: {INLINE_PREFIX}… names images that cells give themselves; choose another name")
        elif not isinstance(values, dict) or len(values) != 1 or next(iter(values)) not in ("docker", "venv"):
            problems.append(f"{place}: must be {{docker: IMAGE}} or {{venv: FOLDER}}, one of both")
        elif "docker" in values and not is_reference(values["docker"]):
            problems.append(f"{place}.docker: must be an image reference")
        elif "venv" in values and not (isinstance(values["venv"], str) and values["venv"].strip()):
            problems.append(f"{place}.venv: must be a folder")
        else:
            found.append(Environment(name, source, values.get("docker"), values.get("venv")))
    return found
