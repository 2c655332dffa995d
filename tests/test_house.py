"""The house as a whole: what is packaged, what is declared, how modules speak, and which way imports go."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import distributions, packages_distributions
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PACKAGES: list[str] = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
OWN = canonicalize_name(PROJECT["project"]["name"])


def modules() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


MODULES = {name_of(path): ast.parse(path.read_text("utf-8")) for path in modules()}


def tracked_files() -> list[Path]:
    """Every file of the project that is or would be under version control."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    return [ROOT / name for name in listed if (ROOT / name).is_file()]


# ---- packages


def test_no_other_installed_distribution_owns_a_name_of_ours():
    """Ours are ordinary top-level names: another distribution of such a name would shadow them, or be shadowed."""
    owners = packages_distributions()
    assert {name: owners[name] for name in PACKAGES if set(owners.get(name, [])) - {PROJECT["project"]["name"]}} == {}


def test_every_list_of_packages_names_those_that_are_on_disk():
    beside = {"benchmarks", "tests"}
    on_disk = {path.parent.name for path in ROOT.glob("*/__init__.py")} - beside
    assert set(PACKAGES) == on_disk
    assert set(PROJECT["tool"]["importlinter"]["root_packages"]) == on_disk
    assert set(PROJECT["tool"]["ruff"]["lint"]["isort"]["known-first-party"]) == on_disk
    assert on_disk - {"dbt_style_sql"} <= set(PROJECT["tool"]["pyright"]["include"])


def test_a_real_wheel_has_every_file_of_the_packages_and_nothing_else(tmp_path: Path):
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    on_disk = {
        name_of(path)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == on_disk
    assert "catalog/models.yaml" in packed
    assert any(name.endswith(".j2") for name in packed), "the templates of projects"
    assert not [name for name in packed if name.startswith(("tests/", "benchmarks/"))]


def test_the_test_folders_are_no_packages():
    """A package below tests would shadow the real one of its name, such as `assets`."""
    assert list((ROOT / "tests").rglob("__init__.py")) == []


# ---- dependencies

DECLARED = [Requirement(text) for text in PROJECT["project"]["dependencies"]]
DEVELOPMENT = [Requirement(text) for text in PROJECT["dependency-groups"]["dev"]]


def locked() -> dict[str, str]:
    """The versions that the lock names for this Python and machine; a universal lock has others for other ones."""
    lines = (ROOT / "requirements.lock").read_text("utf-8").splitlines()
    pins = [Requirement(line.rstrip(" \\")) for line in lines if re.match(r"[A-Za-z0-9].*==", line)]
    return {
        canonicalize_name(pin.name): next(iter(pin.specifier)).version
        for pin in pins
        if pin.marker is None or pin.marker.evaluate()
    }


@pytest.mark.parametrize("requirement", [*DECLARED, *DEVELOPMENT], ids=lambda r: r.name)
def test_the_lock_has_every_direct_dependency_at_a_version_that_is_allowed(requirement: Requirement):
    version = locked().get(canonicalize_name(requirement.name))
    assert version is not None, "run `make lock`"
    assert requirement.specifier.contains(version, prereleases=True), "run `make lock`"


def test_everything_in_the_lock_has_hashes():
    text = (ROOT / "requirements.lock").read_text("utf-8")
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.M)
    bare = [entry.splitlines()[0] for entry in entries if "==" in entry and "--hash=sha256:" not in entry]
    assert bare == []


def imported_names(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def test_every_outside_package_that_is_imported_is_a_direct_dependency():
    """What only comes along with another package may leave with it."""
    owners = packages_distributions()
    declared = {canonicalize_name(requirement.name) for requirement in DECLARED}
    missing = {
        (name, module)
        for module, tree in MODULES.items()
        for name in imported_names(tree) - set(PACKAGES) - set(sys.stdlib_module_names)
        if not {canonicalize_name(owner) for owner in owners.get(name, [])} & declared
    }
    assert missing == set()


def test_what_is_installed_is_what_the_lock_names():
    installed = {canonicalize_name(d.metadata["Name"]): d.version for d in distributions()}
    direct = {canonicalize_name(requirement.name) for requirement in DECLARED}
    pins = locked()
    assert {name: installed.get(name) for name in direct} == {name: pins[name] for name in direct}, "run `make setup`"


# ---- how modules speak


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_belongs_in_it(module: str):
    assert ast.get_docstring(MODULES[module])


def is_field(node: ast.stmt) -> bool:
    """Whether a method is a field of a protocol: a property without a body. The class's docstring speaks of it."""
    return (
        isinstance(node, ast.FunctionDef)
        and [ast.unparse(decorator) for decorator in node.decorator_list] == ["property"]
        and [ast.unparse(statement) for statement in node.body] == ["..."]
    )


def undocumented(tree: ast.Module) -> Iterator[str]:
    """Yield the public functions, classes and methods that have no docstring and inherit none within the module."""
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}

    def look(body: list[ast.stmt], inside: str, inherited: set[str]) -> Iterator[str]:
        for node in body:
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                continue
            if node.name.startswith("_") or is_field(node):
                continue
            if not ast.get_docstring(node) and node.name not in inherited:
                yield f"{inside}{node.name}"
            if isinstance(node, ast.ClassDef):
                bases = [classes[base.id] for base in node.bases if isinstance(base, ast.Name) and base.id in classes]
                said = {
                    method.name
                    for base in bases
                    for method in base.body
                    if isinstance(method, ast.FunctionDef) and ast.get_docstring(method)
                }
                yield from look(node.body, f"{inside}{node.name}.", said)

    yield from look(tree.body, "", set())


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_of_a_module_has_a_docstring(module: str):
    assert list(undocumented(MODULES[module])) == []


def prints(tree: ast.Module) -> list[int]:
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]


def test_nothing_prints_but_the_console_of_the_command_line():
    assert [module for module, tree in MODULES.items() if prints(tree)] == ["mlcc_dagster/cli/console.py"]


# Written in parts, so that this file is not what it looks for.
REGISTRIES = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("yarnpkg", "com"),
        ("crates", "io"),
        ("anaconda", "org"),
        ("rubygems", "org"),
        ("proxy.golang", "org"),
    )
]


def test_no_file_names_a_package_registry_host():
    """A lock or a page that did would send every installation there, whatever mirror it is set up with."""
    named = {
        (name_of(path), host)
        for path in tracked_files()
        for text in [path.read_bytes().decode("utf-8", "replace")]
        for host in REGISTRIES
        if host in text
    }
    assert named == set()


# ---- imports


def test_imports_go_down_the_floors():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("package", ["mlcc_dagster/core", "catalog"])
def test_the_floors_below_the_outside_world_import_no_dagster(package: str):
    importing = {
        module for module, tree in MODULES.items() if module.startswith(package) and "dagster" in imported_names(tree)
    }
    assert importing == set()


def test_in_resources_one_module_alone_imports_dagster():
    importing = {m for m, tree in MODULES.items() if m.startswith("resources/") and "dagster" in imported_names(tree)}
    assert importing == {"resources/dagster_resources.py"}
