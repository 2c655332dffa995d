"""Generated projects as they lie in a folder: which configuration one is of.

Belongs here: finding the declaration in a folder and reading it. Not here: writing projects (`local/projects.py`), what the
names of existing installations mean (`core.old_configurations`).

A project of ours declares its configuration in `config.json`; one of the generator in `do/config`, a shell script that is read
here and never run.
"""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from catalog.model import Catalog, nearest
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.exceptions import InvalidInput, UsageError
from mlcc_dagster.core.old_configurations import old_configuration

OWN_DECLARATION = "config.json"
GENERATORS_DECLARATION = "do/config"

_VARIABLES: Mapping[str, str] = MappingProxyType(
    {
        "DEPLOYMENT_CONFIG": "deploymentConfig",
        "MODEL_NAME": "modelName",
        "INSTANCE_TYPE": "instanceType",
        "AWS_REGION": "awsRegion",
        "DEPLOYMENT_TARGET": "deploymentTarget",
    }
)
_DEFAULTED = re.compile(r"\$\{(?P<name>\w+):-(?P<default>.*)\}", re.DOTALL)


@dataclass(frozen=True)
class ProjectFolder:
    """What a folder says of its project."""

    folder: Path
    name: str
    configuration: Configuration


def is_project(folder: Path) -> bool:
    """Whether a folder holds a generated project."""
    return any((folder / name).is_file() for name in (OWN_DECLARATION, GENERATORS_DECLARATION))


def read_project(folder: Path, catalog: Catalog) -> ProjectFolder:
    """Read which configuration a generated project is of.

    Raises `UsageError` where the folder holds none, `InvalidInput` carrying every mistake of its declaration.
    """
    problems: list[str] = []
    if (folder / OWN_DECLARATION).is_file():
        name, configuration = _own(_text(folder / OWN_DECLARATION), catalog, problems)
    elif (folder / GENERATORS_DECLARATION).is_file():
        name, configuration = _generators(_text(folder / GENERATORS_DECLARATION), catalog, problems)
    else:
        raise UsageError(
            f"{folder} holds no generated project (no {OWN_DECLARATION} and no {GENERATORS_DECLARATION}); name the folder of "
            "one, or a catalog id"
        )
    if configuration is not None:
        for label, value, known in (
            ("deployment configuration", configuration.deployment_config, catalog.deployment_configs),
            ("instance type", configuration.instance_type, catalog.instances),
        ):
            if value not in known:
                problems.append(f"{label} '{value}' is not in the catalog; {nearest(value, known)}")
    if problems or configuration is None:
        raise InvalidInput(f"the project in {folder}", problems)
    return ProjectFolder(folder, name, configuration)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path} ({error}); make it a readable UTF-8 file") from error


def _own(text: str, catalog: Catalog, problems: list[str]) -> tuple[str, Configuration | None]:
    try:
        document = json.loads(text)
    except ValueError as error:
        problems.append(f"{OWN_DECLARATION}: is no JSON ({error}); generate the project again")
        return "", None
    if not isinstance(document, dict) or document.get("schema_version") != 1:
        problems.append(f"{OWN_DECLARATION}: is of no project that this version knows; generate the project again")
        return "", None
    path = f"{OWN_DECLARATION}: configuration"
    return str(document.get("project_name") or ""), old_configuration(
        document.get("configuration"), catalog, path, problems
    )


def _generators(text: str, catalog: Catalog, problems: list[str]) -> tuple[str, Configuration | None]:
    variables = _exported(text)
    document: dict[str, Any] = {
        name: variables[variable] for variable, name in _VARIABLES.items() if variables.get(variable)
    }
    # Nothing of LoRA is written where it is off.
    document |= {"enableLora": variables.get("ENABLE_LORA") == "true", "parameters": variables}
    return variables.get("PROJECT_NAME", ""), old_configuration(document, catalog, GENERATORS_DECLARATION, problems)


def _exported(text: str) -> dict[str, str]:
    """Return what a script exports where its text alone says so: what it asks a command for is left out."""
    variables: dict[str, str] = {}
    for line in text.splitlines():
        if not line.startswith("export "):
            continue
        try:
            words = shlex.split(line, comments=True)[1:]
        except ValueError:  # a value over several lines, which none of those that count is
            continue
        for word in words:
            name, equals, value = word.partition("=")
            defaulted = _DEFAULTED.fullmatch(value)
            if defaulted is not None:
                value = variables.get(defaulted["name"], defaulted["default"])
            if equals and "$" not in value:
                variables[name] = value
    return variables
