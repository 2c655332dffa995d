"""Recipes and sidecars of another tool: they load as far as their form is ours, and what is not is told well."""

from pathlib import Path

import pytest
from triage_runs import plan, recipe

from mlcc_dagster.core.exceptions import InvalidInput
from resources.triage.plans import checked
from resources.triage.recipe_files import read_sidecars, recipe_document

FOLDER = Path(__file__).parents[4] / "shared" / "realdata" / "triage"

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not FOLDER.is_dir(), reason="the data sets do not lie beside the checkout"),
]

RECIPES = sorted((FOLDER / "recipes").glob("*.yaml"))


def problems_of(path: Path) -> tuple[str, ...]:
    found: list[str] = []
    document = recipe_document(path, found)
    with pytest.raises(InvalidInput) as refused:
        checked(document, source=path.name, problems=found)
    return refused.value.problems


def is_matrix(path: Path) -> bool:
    return "mode: probe" not in path.read_text()


@pytest.mark.parametrize("path", [path for path in RECIPES if is_matrix(path)], ids=lambda path: path.stem)
def test_of_a_matrix_recipe_nothing_is_wrong_but_names_that_are_registered_elsewhere(path: Path):
    problems = problems_of(path)
    assert problems
    assert all(": no workload '" in each or ": no mitigation '" in each for each in problems), problems
    assert any(
        each.startswith("workload: no workload '") and "registered are lost-update, " in each for each in problems
    )


def test_every_name_that_is_registered_elsewhere_is_told_with_its_path():
    problems = {path.stem: [each.split(";")[0] for each in problems_of(path)] for path in RECIPES if is_matrix(path)}
    assert problems["example-fsdp-smoke"] == [
        "cells[2].mitigations[0]: no mitigation 'xnack' is registered",
        "workload: no workload 'race' is registered",
    ]
    assert problems["ainic-sdc-stress-reproducer"] == [
        "cells[2].mitigations[0]: no mitigation 'gpu_max_hw_queues_2' is registered",
        "workload: no workload 'race' is registered",
    ]


@pytest.mark.parametrize("path", [path for path in RECIPES if is_matrix(path)], ids=lambda path: path.stem)
def test_with_its_names_registered_a_matrix_recipe_resolves(path: Path):
    found: list[str] = []
    document = recipe_document(path, found) | {"workload": "lost-update"}
    foreign = {"xnack": ["none"], "gpu_max_hw_queues_2": ["none"]}
    for cell in document["cells"]:
        cell["mitigations"] = foreign.get(cell["mitigations"][0], cell["mitigations"])
    made = checked(document, source=path.name, problems=found)
    assert [cell.name for cell in made.cells] == [cell["name"] for cell in document["cells"]]
    assert made.baseline.name == document.get("confound", {}).get("baseline_cell", document["cells"][0]["name"])
    for cell, raw in zip(made.cells, document["cells"], strict=True):
        assert cell.variables.values.items() >= raw.get("extra_env", {}).items()
        assert dict(cell.cell.config) == document.get("workload_config", {}) | raw.get("workload_config", {})


@pytest.mark.parametrize("path", [path for path in RECIPES if not is_matrix(path)], ids=lambda path: path.stem)
def test_a_recipe_of_the_other_mode_is_told_so_and_every_key_of_it_that_is_not_ours(path: Path):
    problems = problems_of(path)
    told = {problem.split(":")[0] for problem in problems}
    assert told >= {"mode", "mitigation_axis", "diagnostic_axis", "workload", "steps", "cells"}
    assert "mode: is of another kind of recipe; list cells instead, and give the command behind --" in problems


def test_the_sidecars_load_and_their_names_can_be_used():
    paths = sorted((FOLDER / "examples").glob("*.json"))
    assert len(read_sidecars(paths)) == 2
    made = plan(recipe({}, {"mitigations": ["my_flag", "fbgemm_no_jk"], "environment": "host_venv_3_12"}), *paths)
    assert made.cells[1].variables.values == {"MY_ENV_VAR": "1", "FBGEMM_NO_JK": "1"}
    assert made.cells[1].environment.venv == "/home/me/.venvs/aorta-3.12"
