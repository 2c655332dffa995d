"""What a kind of server must say of itself so that the local executor can generate, build, deploy, test and measure it.

Belongs here: the interface, and the values that cross it. Not here: any kind (`predictors.py`), performing a stage
(`executor.py`).
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from mlcc_dagster.core.configuration import Configuration
from resources.executor import StageRequest

if TYPE_CHECKING:
    # Asking what can be served must not cost the import of an HTTP client.
    import httpx

    from resources.load_client import Exchange

EXECUTION = "process"
"""How images run here: they carry no operating system, so as a process of the host's Python."""

TARGETS: tuple[str, ...] = ("realtime-inference",)
"""The deployment targets that any kind can be served for here."""

APP_FOLDER = "opt/ml/app"
MODEL_FOLDER = "opt/ml/model"
"""Where app and model lie in an image, below its root."""

BASE_IMAGE = f"python:{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}-slim"
"""The base of the container form: the Python that the process form runs on."""


@dataclass(frozen=True)
class Parameter:
    """A serving parameter that a kind understands: what it does, and its least and greatest value; one with `choices` is
    no number but one of these texts."""

    name: str
    meaning: str
    least: int = 0
    most: int = 0
    choices: tuple[str, ...] = ()


PORT = Parameter("port", "loopback port to listen on", 1024, 65535)
MEMORY_LIMIT = Parameter("memory_limit_mb", "address space of each server process, MB", 16, 1_048_576)
"""What every kind understands, since supervisor and deployment do it for all."""


class WorkloadProfile(Protocol):
    """What a benchmark takes from a workload of the catalog. Token means are none for predictors."""

    @property
    def name(self) -> str: ...
    @property
    def input_tokens_mean(self) -> int | None: ...
    @property
    def output_tokens_mean(self) -> int | None: ...
    @property
    def streaming(self) -> bool: ...
    @property
    def requests(self) -> int: ...


class ServingKind(Protocol):
    """One deployment configuration that the local executor can serve.

    `templates` are folders below `templates/`, later ones over earlier ones; `app_files` go into the app layer and must be
    in a complete project; `parameters` are the serving parameters it understands beside none.
    """

    @property
    def name(self) -> str: ...
    @property
    def templates(self) -> tuple[str, ...]: ...
    @property
    def app_files(self) -> tuple[str, ...]: ...
    @property
    def parameters(self) -> tuple[Parameter, ...]: ...
    @property
    def requirements(self) -> tuple[str, ...]:
        """Names of the distributions that app and training import; the lock file pins them and what they need."""
        ...

    def refusal(self, configuration: Configuration) -> str | None:
        """Say in one sentence why this kind cannot serve the configuration's model, or none. No I/O."""
        ...

    def problems(self, configuration: Configuration) -> list[str]:
        """Return one clause for everything beside model and serving parameters that this kind cannot do. No I/O."""
        ...

    def context(self, configuration: Configuration) -> Mapping[str, Any]:
        """Return what the templates need beside the values that every project has."""
        ...

    def make_model(self, request: StageRequest, project: Path, cache: Path) -> "MadeModel":
        """Make the files of the model layer, or take them from the cache; say in the log which."""
        ...

    def command(self, *, model: Path, configuration: Configuration) -> tuple[str, ...]:
        """Return the command that serves from the app folder; `{fd}` in it stands for the listening descriptor."""
        ...

    def environment(self, *, model: Path, configuration: Configuration) -> Mapping[str, str]:
        """Return what the server's environment has beside the host's basics."""
        ...

    def try_out(self, client: "httpx.Client", *, model: Path, say: Callable[[str], None]) -> Mapping[str, Any]:
        """Send real requests to a ready server and return what was seen. Raises `StageFailed` for a wrong answer."""
        ...

    def exchange(self, *, model: Path, workload: WorkloadProfile) -> "Exchange":
        """Return what one request of a benchmark is."""
        ...

    def engine(self) -> str:
        """Return the servers and libraries that answer, with versions: `uvicorn 0.34 / scikit-learn 1.6`."""
        ...


@dataclass(frozen=True)
class MadeModel:
    """The files of a model layer, and whether they were taken from the cache instead of made now.

    `annotations` are put on the image, `outputs` among those of the build stage.
    """

    folder: Path
    from_cache: bool
    annotations: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    outputs: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


def cpus(configuration: Configuration) -> int:
    """Return the CPUs of a local instance type: `local.2cpu` has 2. Raises `ValueError` for any other form."""
    text = configuration.instance_type.removeprefix("local.").removesuffix("cpu")
    if configuration.instance_type != f"local.{text}cpu" or not text.isdigit() or int(text) < 1:
        raise ValueError(f"'{configuration.instance_type}' is no local instance; use local.1cpu or local.2cpu")
    return int(text)


def parameter_problems(configuration: Configuration, parameters: Sequence[Parameter]) -> list[str]:
    """Return one clause for every serving parameter that is unknown or out of its range."""
    known = {parameter.name: parameter for parameter in parameters}
    problems = []
    for name, value in configuration.serving_params.items():
        parameter = known.get(name)
        if parameter is None:
            problems.append(f"serving parameter {name} is unknown here (known: {', '.join(known) or 'none'})")
        elif parameter.choices:
            if value not in parameter.choices:
                problems.append(
                    f"serving parameter {name} ({parameter.meaning}) must be one of {', '.join(parameter.choices)}, "
                    f"not '{value}'"
                )
        elif not value.isdigit() or not parameter.least <= int(value) <= parameter.most:
            problems.append(
                f"serving parameter {name} ({parameter.meaning}) must be a whole number from {parameter.least} to "
                f"{parameter.most}, not '{value}'"
            )
    return problems


def parameter(configuration: Configuration, name: str) -> int | None:
    """Return a checked serving parameter as a number, or none where it is not set."""
    value = configuration.serving_params.get(name)
    return None if value is None else int(value)


def problems_of(kind: ServingKind, configuration: Configuration) -> list[str]:
    """Return one clause for everything but the model that keeps a kind from serving the configuration here."""
    problems: list[str] = []
    try:
        needed, there = cpus(configuration), os.cpu_count() or 1
        if needed > there:
            problems.append(f"{configuration.instance_type} needs {needed} CPUs and this machine has {there}")
    except ValueError as error:
        problems.append(str(error))
    if configuration.deployment_target not in TARGETS:
        problems.append(f"target {configuration.deployment_target} is not offered (only {', '.join(TARGETS)})")
    problems += kind.problems(configuration)
    if configuration.tp_degree != 1:
        problems.append(f"{kind.name} has no tensor parallelism (tp_degree {configuration.tp_degree})")
    if configuration.enable_lora:
        problems.append(f"{kind.name} has no LoRA adapters")
    return problems + parameter_problems(configuration, kind.parameters)
