"""What other distributions register: used, listed where broken, and never allowed to take a name."""

import importlib
from pathlib import Path

import pytest
from triage_runs import Module, plan, recipe

from mlcc_dagster.core.exceptions import InvalidInput, UsageError
from resources.triage.registries import all_registries
from resources.triage.runner import run
from resources.triage.workload_names import all_workloads

MODULE = """
FLAG = {"X": "1"}
NUMBER = {"X": 4321}
IMAGE = {"docker": "o/i:1"}
BOTH = {"docker": "o/i:1", "venv": "/v"}

def fine(trial):
    with trial.step():
        return True
"""


@pytest.fixture
def distribution(tmp_path: Path, module: Module, monkeypatch: pytest.MonkeyPatch):
    """Install a distribution with these entry points, as a package manager would leave it."""
    module("other_triage", MODULE)

    def install(text: str) -> None:
        info = tmp_path / "modules" / "other_triage-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-triage\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(text)
        importlib.invalidate_caches()

    return install


def test_a_distribution_adds_mitigations_environments_and_workloads(tmp_path: Path, distribution):
    distribution(
        "[mlcc.mitigations]\nflag = other_triage:FLAG\n[mlcc.environments]\nimg = other_triage:IMAGE\n"
        "[mlcc.workloads]\nfine = other_triage:fine\n"
    )
    registered = all_registries()
    assert dict(registered.mitigations["flag"].variables) == {"X": "1"}
    assert registered.mitigations["flag"].source == "entry point of other-triage"
    assert registered.environments["img"].docker == "o/i:1"
    assert next(each for each in all_workloads() if each.name == "fine").source == "entry point of other-triage"
    ended = run(plan(recipe({"mitigations": ["flag"]}, workload="fine")), tmp_path / "out")
    assert ended.matrix.statistics["c0"].passed == 2
    assert ended.matrix.to_json()["cells"][0]["variables"] == {"X": "1"}


def test_what_cannot_be_loaded_is_listed_with_the_reason_and_refused_where_it_is_named(distribution):
    distribution(
        "[mlcc.mitigations]\ngone = no_such_module:X\nnumber = other_triage:NUMBER\n"
        "[mlcc.environments]\nboth = other_triage:BOTH\n[mlcc.workloads]\nflagged = other_triage:FLAG\n"
    )
    registered = all_registries()
    assert registered.mitigations["gone"].broken == "no_such_module:X cannot be loaded: ModuleNotFoundError"
    assert registered.mitigations["number"].broken == "variables.X: must be a text, not a number; put it in quotes"
    assert "no mapping with docker or venv" in (registered.environments["both"].broken or "")
    cells = [{"mitigations": ["gone"]}, {"mitigations": ["number"], "environment": "both"}]
    with pytest.raises(InvalidInput) as refused:
        plan(recipe(*cells, workload="flagged", confound={"baseline_cell": "c0"}))
    assert [problem.split(" of ")[0] for problem in refused.value.problems] == [
        "cells[0].mitigations[0]: 'gone'",
        "cells[1].environment: 'both'",
        "cells[1].mitigations[0]: 'number'",
        "workload: 'flagged'",
    ]
    assert "4321" not in str(refused.value)
    # the rest is used as ever
    assert plan(recipe({})).cells


@pytest.mark.parametrize(
    ("points", "told"),
    [
        (
            "[mlcc.mitigations]\nnone = other_triage:FLAG\n",
            "mitigation 'none' is given by built-in and by entry point of other-triage; rename one of them",
        ),
        (
            "[mlcc.environments]\nlocal = other_triage:IMAGE\n",
            "environment 'local' is given by built-in and by entry point of other-triage; rename one of them",
        ),
    ],
)
def test_no_distribution_takes_a_name_that_is_given(distribution, points, told):
    distribution(points)
    with pytest.raises(UsageError) as refused:
        plan(recipe({}))
    assert str(refused.value) == told


def test_no_distribution_takes_the_name_of_a_workload(distribution):
    distribution("[mlcc.workloads]\nlost-update = other_triage:fine\n")
    with pytest.raises(
        UsageError, match="workload 'lost-update' is given by built-in and by entry point of other-triage"
    ):
        all_workloads()
