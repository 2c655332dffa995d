"""Delay controls, adaptive trials and parts of stacks in a run's folder: written down, resumed, and asked for afterwards."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from triage_runs import Module, plan, recipe

from mlcc_dagster.core.exceptions import InvalidInput
from mlcc_dagster.core.triage.confound import Tag
from mlcc_dagster.core.triage.options import NO_OPTIONS, RunOptions
from resources.triage import runner
from resources.triage.recipe_files import recipe_document
from resources.triage.runner import Ended, resume

PROBES = '''
import os, time
from resources.triage.workloads import Report

def racing(trial):
    """Fails in every other trial unless it is slow, or A and B are both set. Its times are what it would take: no machine under
    load makes it another one. With REAL being slow does not help."""
    took = 1.0 + float(os.environ.get("SLEEP_MS", "0")) + 1000 * trial.delay_s
    cured = os.environ.get("A") == os.environ.get("B") == "1" or os.environ.get("CURED") == "1"
    slow = took >= 5 and not os.environ.get("REAL")
    return Report(slow or cured or trial.number % 2 == 1, (took,))

def stepping(trial):
    """Is timed by the runner, and fails in every other trial unless it sleeps or is slowed."""
    for _ in range(trial.steps):
        with trial.step():
            time.sleep(float(os.environ.get("SLEEP_MS", "0")) / 1000)
    return bool(os.environ.get("SLEEP_MS") or trial.delay_s) or trial.number % 2 == 1

def deaf(trial):
    """Fails in every other trial, times its steps itself, and never pauses."""
    return Report(bool(os.environ.get("SLOW")) or trial.number % 2 == 1, (10.0 if os.environ.get("SLOW") else 1.0,))

stop_at = None
def stopping(trial):
    if (trial.delay_s > 0, trial.number) == stop_at:
        raise KeyboardInterrupt
    return racing(trial)
'''
TRIALS = 16


@pytest.fixture(autouse=True)
def probes(module: Module) -> None:
    module("option_probes", PROBES)


def document(*cells: dict[str, Any], workload: str = "racing", **changes: Any) -> dict[str, Any]:
    values = {"trials": TRIALS, "steps": 2} | changes
    return recipe({}, *cells, workload=f"python:option_probes:{workload}", **values)


def run(tmp_path: Path, asked: dict[str, Any], options: RunOptions = NO_OPTIONS) -> Ended:
    return runner.run(plan(asked, options=options), tmp_path / "out")


SLEEP = {"extra_env": {"SLEEP_MS": "8"}}
CURE_AND_SLEEP = {"extra_env": {"SLEEP_MS": "8", "CURED": "1"}}
CONTROLLED = RunOptions(delay_control=True)


def test_a_control_is_tried_and_written_down(tmp_path: Path):
    ended = run(tmp_path, document({"extra_env": {"SLEEP_MS": "30"}}, workload="stepping"), CONTROLLED)
    assert ended.matrix.assessments["c1"].tag is Tag.CONFOUNDED
    folder = ended.folder.path / "controls" / "c1"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["control.json", *(f"trial_{n}.json" for n in range(TRIALS))]
    )
    said = json.loads((folder / "control.json").read_text())
    assert said["delay_ms"] > 5
    times = json.loads((folder / "trial_3.json").read_text())["step_times_ms"]
    assert min(times) >= said["delay_ms"], "every step is slowed"
    cell = json.loads((ended.folder.path / "matrix.json").read_text())["cells"][1]
    assert cell["confound"]["delay_control"]["explains"] == "delay"
    assert cell["confound"]["delay_control"]["statistics"]["trials"] == TRIALS
    assert "`confounded` = its" in (ended.folder.path / "matrix.md").read_text()


def test_a_mitigation_that_cures_beyond_its_delay_is_credited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REAL", "1")
    ended = run(tmp_path, document(CURE_AND_SLEEP), CONTROLLED)
    found = ended.matrix.assessments["c1"]
    assert (found.tag, found.text.startswith("credited (beyond its delay, p = ")) == (Tag.CREDITED, True)
    assert found.control is not None
    assert found.control.statistics.failed == TRIALS // 2


def test_a_workload_that_does_not_pause_gets_three_control_trials_and_no_verdict(tmp_path: Path):
    ended = run(tmp_path, document({"extra_env": {"SLOW": "1"}}, workload="deaf"), CONTROLLED)
    found = ended.matrix.assessments["c1"]
    assert found.text == "speed (+900%; control n/a)"
    assert found.control is not None
    assert found.control.statistics.trials == 3
    assert "it became slower by 0 ms only" in found.lines()[-1]


def test_what_cannot_be_slowed_is_refused_with_a_control(tmp_path: Path):
    asked = recipe({}, workload="benchmark:local-fastapi-logistic-1cpu")
    with pytest.raises(InvalidInput, match="cannot be slowed; drop --delay-control"):
        plan(asked, options=CONTROLLED)
    assert plan(asked).options == NO_OPTIONS


def test_a_run_that_has_ended_can_be_asked_for_controls(tmp_path: Path):
    ended = run(tmp_path, document(SLEEP))
    assert ended.matrix.assessments["c1"].tag is Tag.SPEED
    more: list[str] = []
    again = resume(ended.folder.path, options=CONTROLLED, listen=lambda result, most: more.append(result.cell))
    assert again.matrix.assessments["c1"].tag is Tag.CONFOUNDED
    assert more == ["c1 (delay control)"] * TRIALS, "nothing else is tried again"
    assert again.rerun.endswith("--delay-control")
    assert resume(ended.folder.path).matrix.options == CONTROLLED, "what was once asked for stays"


def test_a_control_that_was_interrupted_goes_on_with_the_same_delay(tmp_path: Path):
    import option_probes  # pyright: ignore[reportMissingImports]

    option_probes.stop_at = (True, 4)
    ended = run(tmp_path, document(SLEEP, workload="stopping"), CONTROLLED)
    assert ended.interrupted
    assert not ended.matrix.finished
    before = (ended.folder.path / "controls/c1/control.json").read_text()
    option_probes.stop_at = None
    again = resume(ended.folder.path)
    assert again.matrix.finished
    assert (ended.folder.path / "controls/c1/control.json").read_text() == before
    assert len(again.matrix.controls["c1"].trials) == TRIALS


def test_adaptive_trials_leave_out_what_is_decided_and_resume_where_they_were(tmp_path: Path):
    import option_probes  # pyright: ignore[reportMissingImports]

    cells = [{"extra_env": {"CURED": "1"}}, {}]
    options = RunOptions(adaptive=True)
    option_probes.stop_at = (False, 3)
    ended = run(tmp_path, document(*cells, workload="stopping", trials=32), options)
    assert ended.interrupted
    option_probes.stop_at = None
    again = resume(ended.folder.path)
    assert again.matrix.finished
    counts = {name: each.trials for name, each in again.matrix.statistics.items()}
    straight = run(tmp_path, document(*cells, workload="stopping", trials=32), options)
    assert counts == {name: each.trials for name, each in straight.matrix.statistics.items()}
    assert max(counts.values()) < 32
    assert again.matrix.assessments["c1"].text.startswith("credited (e = ")
    assert "at most 7 of 100" in again.matrix.markdown()


def test_a_recipe_that_collects_failures_is_not_tried_adaptively(tmp_path: Path):
    with pytest.raises(InvalidInput, match="stop_after: says when a cell was tried enough, and so does --adaptive"):
        plan(document(stop_after={"events": 1, "max_trials": 4}), options=RunOptions(adaptive=True))


@pytest.fixture
def flags(tmp_path: Path) -> Path:
    path = tmp_path / "flags.json"
    mitigations = {"a": {"A": "1"}, "b": {"B": "1"}, "c": {"C": "1"}}
    path.write_text(json.dumps({"version": 1, "mitigations": mitigations}))
    return path


@pytest.mark.parametrize("options", [RunOptions(minimize=True), RunOptions(minimize=True, adaptive=True)])
def test_the_parts_of_a_stack_are_tried_as_cells_of_their_own(tmp_path: Path, flags: Path, options: RunOptions):
    asked = document({"mitigations": ["a", "c", "b"]}, trials=32)
    ended = runner.run(plan(asked, flags, options=options), tmp_path / "out")
    (minimum,) = ended.matrix.minima
    assert minimum.smallest == (frozenset("ab"),), minimum.line()
    names = ["c0", "c1", "c1.only-c.b", "c1.only-a.b", "c1.only-a.c"]
    assert [cell.name for cell in ended.matrix.cells] == names
    problems: list[str] = []
    resolved = recipe_document(ended.folder.path / "recipe.resolved.yaml", problems)
    assert problems == []
    assert [cell["name"] for cell in resolved["cells"]] == names
    assert "smallest part" in (ended.folder.path / "matrix.md").read_text()
    told: list[Any] = []
    again = resume(ended.folder.path, listen=lambda *event: told.append(event))
    assert (again.matrix.finished, told) == (True, [])


def test_a_part_that_was_added_just_before_the_end_came_is_tried_after_it(tmp_path: Path, flags: Path):
    asked = document({"mitigations": ["a", "b"]})
    ended = runner.run(plan(asked, flags), tmp_path / "out")
    killed = json.loads((ended.folder.path / "matrix.json").read_text())
    resume(ended.folder.path, options=RunOptions(minimize=True))
    # as if the process had been killed before it wrote the matrix again
    (ended.folder.path / "matrix.json").write_text(json.dumps(killed | {"finished": False}))
    again = resume(ended.folder.path, options=RunOptions(minimize=True))
    assert again.matrix.finished
    assert [part.cell for part in again.matrix.minima[0].parts] == ["c1.only-b", "c1.only-a"]


def test_a_pause_never_outlasts_the_time_of_a_trial(tmp_path: Path):
    began = time.monotonic()
    asked = document({"extra_env": {"SLEEP_MS": "30"}}, workload="stepping")
    ended = runner.run(plan(asked, options=CONTROLLED, seconds=30), tmp_path / "out")
    folder = ended.folder.path
    control = folder / "controls/c1/control.json"
    control.write_text(json.dumps(json.loads(control.read_text()) | {"delay_ms": 60_000.0}))
    for path in (folder / "controls/c1").glob("trial_*.json"):
        path.unlink()
    matrix = json.loads((folder / "matrix.json").read_text())
    (folder / "matrix.json").write_text(json.dumps(matrix | {"trial_seconds": 0.2}))
    again = resume(folder)
    assert again.matrix.controls["c1"].trials[0].label == "timeout"
    assert time.monotonic() - began < 60
