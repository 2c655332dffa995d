"""Generated projects: writing one from the templates, and telling what is wrong with one.

Belongs here: rendering, the lock file, the digest of the templates, the checks of the validate stage. Not here: what a kind puts
into its templates (kinds) or building (`building.py`).
"""

import ast
import hashlib
import json
import re
import stat
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jinja2
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.exceptions import StageFailed
from resources.local.serving import BASE_IMAGE, ServingKind

TEMPLATES = Path(__file__).parent / "templates"
CONFIG_VERSION = 1
DO_SCRIPTS: tuple[str, ...] = ("config", "build", "run", "deploy", "test", "clean")
"""The scripts that every project has in `do/`, beside the one that makes its model; all but config are executable."""

_SUFFIX = ".j2"
_FROM = re.compile(r"^FROM\s+(\S+)", re.MULTILINE)


def project_name(configuration: Configuration) -> str:
    """Return the project's name, which is also its image repository: server, model and instance in lower case."""
    model = (configuration.model_name or "none").rsplit("/", 1)[-1]
    text = f"{configuration.deployment_config}-{model}-{configuration.instance_type}"
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def write_project(folder: Path, kind: ServingKind, configuration: Configuration) -> list[str]:
    """Write a project into the new folder `folder` and return the names of its files, sorted."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        # these are programs, not web pages
        autoescape=False,
    )
    context = {
        "project_name": project_name(configuration),
        "deployment_config": configuration.deployment_config,
        "model_name": configuration.model_name,
        "base_image": BASE_IMAGE,
        **kind.context(configuration),
    }
    folder.mkdir(parents=True)
    for name, source in _sources(kind).items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(environment.from_string(source.read_text("utf-8")).render(context), "utf-8")
        if name.startswith("do/") and name != "do/config":
            target.chmod(target.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    (folder / "config.json").write_text(json.dumps(config_document(configuration), indent=2) + "\n", "utf-8")
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in locked(kind.requirements)), "utf-8")
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def project_problems(folder: Path, kind: ServingKind, configuration: Configuration) -> list[str]:
    """Return one sentence for everything that keeps the project from being built; empty when it is complete."""
    expected = {*_sources(kind), *kind.app_files, "config.json", "requirements.txt", "Dockerfile"}
    expected |= {f"do/{name}" for name in DO_SCRIPTS}
    problems = [
        f"{name} is missing; generate the project again" for name in sorted(expected) if not (folder / name).is_file()
    ]
    problems += _config_problems(folder / "config.json", configuration)
    for path in sorted(folder.rglob("*.py")):
        try:
            ast.parse(path.read_text("utf-8"), str(path.relative_to(folder)))
        except SyntaxError as error:
            problems.append(f"{path.relative_to(folder)}:{error.lineno} does not compile ({error.msg}); correct it")
    problems += _dockerfile_problems(folder / "Dockerfile")
    for name in sorted(name for name in expected if name.startswith("do/") and name != "do/config"):
        script = folder / name
        if script.is_file():
            if not script.read_bytes().startswith(b"#!"):
                problems.append(f"{name} has no interpreter line; begin it with #!/usr/bin/env bash")
            if not script.stat().st_mode & stat.S_IXUSR:
                problems.append(f"{name} is not executable; chmod +x it")
    return problems + _lock_problems(folder / "requirements.txt", kind)


def config_document(configuration: Configuration) -> dict[str, Any]:
    """Return what `config.json` of a project holds."""
    return {
        "schema_version": CONFIG_VERSION,
        "project_name": project_name(configuration),
        "configuration": configuration.to_json(),
    }


def template_digest(kind: ServingKind) -> str:
    """Return the digest of all template files of a kind, names and contents: it changes when generation would."""
    seen = hashlib.sha256()
    for name, source in sorted(_sources(kind).items()):
        seen.update(f"{name}\0".encode())
        seen.update(hashlib.sha256(source.read_bytes()).digest())
    return f"sha256:{seen.hexdigest()}"


def locked(names: tuple[str, ...]) -> list[str]:
    """Return `name==version` of the named distributions and all that they need, as installed here, sorted.

    Raises `StageFailed` naming what is not installed.
    """
    versions: dict[str, str] = {}
    missing: list[str] = []
    todo = list(names)
    while todo:
        name = canonicalize_name(todo.pop())
        if name in versions or name in missing:
            continue
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
            continue
        versions[name] = distribution.version
        needed = (Requirement(text) for text in distribution.requires or [])
        todo += [need.name for need in needed if need.marker is None or need.marker.evaluate({"extra": ""})]
    if missing:
        raise StageFailed(f"not installed here: {', '.join(sorted(missing))}; install the project's requirements")
    return [f"{name}=={versions[name]}" for name in sorted(versions)]


def _sources(kind: ServingKind) -> Mapping[str, Path]:
    """Return the template of every file by the file's name; later folders replace files of earlier ones."""
    return {name: path for folder in kind.templates for name, path in _templates_in(TEMPLATES / folder)}


def _templates_in(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob(f"*{_SUFFIX}")):
        yield str(path.relative_to(folder)).removesuffix(_SUFFIX), path


def _config_problems(path: Path, configuration: Configuration) -> list[str]:
    if not path.is_file():
        return []
    try:
        document = json.loads(path.read_text("utf-8"))
    except json.JSONDecodeError as error:
        return [f"config.json:{error.lineno} is not readable as JSON ({error.msg}); correct it"]
    expected = config_document(configuration)
    if document == expected:
        return []
    found = document.get("configuration") if isinstance(document, dict) else None
    wanted = expected["configuration"]
    differing = [key for key in wanted if not isinstance(found, dict) or found.get(key) != wanted[key]]
    return [
        f"config.json is of another configuration ({', '.join(differing) or 'other keys'} differ); generate it again"
    ]


def _dockerfile_problems(path: Path) -> list[str]:
    if not path.is_file():
        return []
    bases = _FROM.findall(path.read_text("utf-8"))
    if bases == [BASE_IMAGE]:
        return []
    return [f"Dockerfile starts from {', '.join(bases) or 'nothing'}; it must start from {BASE_IMAGE}"]


def _lock_problems(path: Path, kind: ServingKind) -> list[str]:
    if not path.is_file():
        return []
    pinned = {line.partition("==")[0] for line in path.read_text("utf-8").splitlines() if "==" in line}
    return [
        f"requirements.txt does not pin {name}; generate it again"
        for name in kind.requirements
        if canonicalize_name(name) not in pinned
    ]
