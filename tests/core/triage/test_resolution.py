"""Cells made concrete: every unknown name at once, stacked variables, values from the environment."""

from typing import Any

import pytest

from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.triage.built_in import ENVIRONMENTS, MITIGATIONS
from mlcc_dagster.core.triage.recipe_reading import read_recipe
from mlcc_dagster.core.triage.registries import Environment, Mitigation, Registries, registries
from mlcc_dagster.core.triage.resolution import ConcreteCell, resolve
from mlcc_dagster.core.triage.secrets import WITHHELD, FromEnvironment

OWN = (
    Mitigation("x1", "sidecar a.json", {"X": "1"}),
    Mitigation("x2", "sidecar a.json", {"X": "2", "Y": "hidden-value"}),
    Mitigation("x1-again", "sidecar a.json", {"X": "1", "Z": "3"}),
    Mitigation("asks", "sidecar a.json", {"HF_TOKEN": FromEnvironment("WHERE")}),
    Mitigation("marked", "sidecar a.json", {"PLAIN": "quiet"}, "", frozenset({"PLAIN"})),
    Mitigation("broken", "entry point of other", broken="other:x cannot be loaded: ImportError"),
)
PLACES = (
    Environment("img", "sidecar a.json", docker="org/img:1"),
    Environment("a/b", "sidecar a.json", venv="/v"),
    Environment("a_b", "sidecar a.json", venv="/w"),
)
ALL: Registries = registries([MITIGATIONS, OWN], [ENVIRONMENTS, PLACES])


def concrete(*cells: dict[str, Any], host: dict[str, str] | None = None) -> tuple[tuple[ConcreteCell, ...], list[str]]:
    document = {
        "schema_version": 1,
        "workload": "w",
        "trials": 1,
        "steps": 1,
        "confound": {"baseline_cell": "c0"},
        "cells": [
            {"name": f"c{n}", "mitigations": ["none"], "environment": "local"} | cell for n, cell in enumerate(cells)
        ],
    }
    problems: list[str] = []
    return resolve(read_recipe(document, source="r"), ALL, host=host or {}, problems=problems), problems


def test_every_unknown_name_is_told_at_once_with_its_path_and_what_is_registered():
    _, problems = concrete(
        {"mitigations": ["none", "nop"]},
        {"mitigations": ["x1", "tf32_of"]},
        {"environment": "lokal"},
        {"mitigations": ["q"]},
    )
    assert [problem.split(";")[0] for problem in problems] == [
        "cells[0].mitigations[1]: no mitigation 'nop' is registered",
        "cells[1].mitigations[1]: no mitigation 'tf32_of' is registered",
        "cells[2].environment: no environment 'lokal' is registered",
        "cells[3].mitigations[0]: no mitigation 'q' is registered",
    ]
    listed = problems[0].partition("registered are ")[2].split(", ")
    assert listed == list(ALL.mitigations)
    assert problems[1].endswith("did you mean 'tf32_off'?")
    assert problems[2].endswith("registered are local, default, img, a/b, a_b")
    assert problems[3].endswith("it is not in the list above either")


def test_stacked_mitigations_are_joined_and_what_the_cell_says_comes_last():
    ((cell,), problems) = concrete({"mitigations": ["x1", "x1-again"], "extra_env": {"Z": "9", "W": "0"}})
    assert problems == []
    assert cell.variables.values == {"X": "1", "Z": "9", "W": "0"}


def test_stacked_mitigations_that_contradict_each_other_are_refused_without_their_values():
    _, problems = concrete({"mitigations": ["x1", "x2"]})
    assert problems == [
        "cells[0].mitigations: 'x1' and 'x2' give X two values; drop one of them or set it in extra_env"
    ]


def test_a_cell_may_decide_between_them_on_purpose():
    ((cell,), problems) = concrete({"mitigations": ["x1", "x2"], "extra_env": {"X": "7"}})
    assert problems == []
    assert cell.variables.values == {"X": "7", "Y": "hidden-value"}


def test_a_value_from_the_environment_must_be_there():
    _, problems = concrete({"mitigations": ["asks"], "extra_env": {"A": {"from_environment": "B"}}})
    assert problems == [
        "cells[0].mitigations: mitigation 'asks' takes the value of HF_TOKEN from the environment variable WHERE, which is not "
        "set; set it and try again",
        "cells[0].extra_env.A: it takes the value of A from the environment variable B, which is not set; set it and try again",
    ]
    ((cell,), problems) = concrete({"mitigations": ["asks"]}, host={"WHERE": "there"})
    assert problems == []
    assert cell.variables.values == {"HF_TOKEN": "there"}
    assert cell.variables.shown() == {"HF_TOKEN": WITHHELD}


def test_what_a_sidecar_marks_is_withheld():
    ((cell,), _) = concrete({"mitigations": ["marked", "x1"]})
    assert cell.variables.shown() == {"PLAIN": WITHHELD, "X": "1"}


def test_what_cannot_be_loaded_is_refused_where_it_is_named():
    _, problems = concrete({"mitigations": ["broken"]})
    assert problems == [
        "cells[0].mitigations[0]: 'broken' of entry point of other cannot be used (other:x cannot be loaded: ImportError); mend "
        "it there"
    ]


def test_environments_that_would_share_a_folder_are_refused_before_anything_runs():
    _, problems = concrete({"environment": "a/b"}, {"environment": "a_b"}, {"environment": "a/b"})
    assert problems == [
        "cells[1].environment: 'a_b' and 'a/b' of cells[0] would share the folder a_b; rename one of them"
    ]


def test_an_image_of_a_cells_own_is_one_environment_for_all_cells_that_give_it():
    cells, problems = concrete({"environment": {"docker": "o/i:1"}}, {"environment": {"docker": "o/i:1"}})
    assert problems == []
    assert cells[0].environment == cells[1].environment
    assert not cells[0].environment.entered


def test_a_name_given_by_two_sources_is_refused_with_both_and_all_collisions_at_once():
    with pytest.raises(UsageError) as refused:
        registries(
            [MITIGATIONS, OWN, [Mitigation("none", "sidecar b.json"), Mitigation("x1", "sidecar b.json", {"X": "1"})]],
            [ENVIRONMENTS, [Environment("local", "entry point of other")]],
        )
    assert str(refused.value).splitlines() == [
        "mitigation 'none' is given by built-in and by sidecar b.json; rename one of them",
        "mitigation 'x1' is given by sidecar a.json and by sidecar b.json; rename one of them",
        "environment 'local' is given by built-in and by entry point of other; rename one of them",
    ]
