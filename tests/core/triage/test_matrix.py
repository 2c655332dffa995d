"""The matrix as documents: whole for programs, readable for people, and with warnings on top."""

import json
from typing import Any

import pytest

from mlcc_dagster.core.triage.built_in import ENVIRONMENTS, MITIGATIONS
from mlcc_dagster.core.triage.matrix import COLUMNS, Matrix, share_text
from mlcc_dagster.core.triage.recipe_reading import read_recipe
from mlcc_dagster.core.triage.registries import Mitigation, registries
from mlcc_dagster.core.triage.resolution import resolve
from mlcc_dagster.core.triage.schedule import cell_by_cell, tried_enough
from mlcc_dagster.core.triage.trials import ExitStatus, TrialResult, read_trial

REGISTERED = registries([MITIGATIONS, [Mitigation("a|b", "sidecar s.json")]], [ENVIRONMENTS])


def trials(cell: str, statuses: str, step_ms: float | None = 10.0, reason: str = "wrong") -> list[TrialResult]:
    """One trial per letter: p passed, f failed, s setup failed, i infrastructure failed."""
    named = dict(zip("pfsi", ExitStatus, strict=True))
    return [
        TrialResult(
            cell,
            number,
            named[letter],
            "2026-06-09T14:30:22Z",
            1.5,
            2,
            () if step_ms is None or letter in "si" else (step_ms, step_ms),
            None if letter == "p" else reason,
            "odd" if letter == "f" else None,
        )
        for number, letter in enumerate(statuses)
    ]


def matrix(found: dict[str, list[TrialResult]], *, finished: bool = True, **changes: Any) -> Matrix:
    document = {
        "schema_version": 1,
        "ticket": "T|1",
        "workload": "w",
        "trials": 4,
        "steps": 2,
        "cells": [{"name": name, "mitigations": ["none"], "environment": "local"} for name in found],
    } | changes
    recipe = read_recipe(document, source="r")
    problems: list[str] = []
    cells = resolve(recipe, REGISTERED, host={}, problems=problems)
    assert problems == []
    return Matrix(recipe, cells, found, recipe.cells[0].name, "2026-06-09T14:30:22Z", finished, "recipe.yaml")


def table(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if not line.startswith("|--")]


def test_the_table_has_the_columns_and_both_counts():
    made = matrix({"base": trials("base", "pfff"), "b": trials("b", "ppps"), "c": []}, finished=False)
    rows = table(made.markdown())
    assert rows[0] == list(COLUMNS)
    assert rows[1] == ["base", "none", "local", "75 % (3 of 4)", "4", "10.0", "baseline"]
    assert rows[2] == [
        "b",
        "none",
        "local",
        "0 % (0 of 3), unreliable",
        "4 (1 error)",
        "10.0",
        "undecided (too many of its trials were errors)",
    ]
    assert rows[3] == ["c", "none", "local", "-", "0 of 4", "-", "never ran"]


def test_warnings_stand_above_the_table():
    text = matrix({"base": trials("base", "ssss"), "b": trials("b", "pppp")}).markdown()
    assert text.index("> **Warning:** the baseline 'base' is unusable") < text.index("| Cell")
    assert "**Warning:** this matrix is not finished" in matrix({"base": []}, finished=False).markdown()


def test_a_note_says_that_names_are_not_pinned_and_how_to_compare():
    text = matrix({"base": trials("base", "pf")}).markdown()
    assert "not pinned" in text
    assert "compare `variables` and `environment`" in text


def test_no_text_of_a_workload_becomes_markdown():
    text = matrix({"base": trials("base", "f", reason="a | b <img src=x> [x](y) `c`\nd")}).markdown()
    (line,) = [line for line in text.splitlines() if line.startswith("- base, 1 of 1")]
    assert line == "- base, 1 of 1: a | b \\<img src=x> \\[x\\](y) \\`c\\` d"


def test_a_pipe_in_a_name_stays_in_its_cell():
    cell = {"name": "base", "mitigations": ["a|b"], "environment": "local"}
    text = matrix({"base": []}, finished=False, cells=[cell]).markdown()
    (row,) = [line for line in text.splitlines() if line.startswith("| base")]
    assert "| a\\|b " in row


def test_the_document_for_programs_has_all_statistics():
    document = json.loads(
        json.dumps(matrix({"base": trials("base", "pffi"), "b": trials("b", "pppp", 12.0)}).to_json())
    )
    base, other = document["cells"]
    assert base["statistics"] == {
        "trials": 4,
        "passed": 1,
        "failed": 2,
        "errors": 1,
        "failure_rate": 2 / 3,
        "unreliable": True,
        "exit_status_counts": {"ok": 1, "workload_failed": 2, "workload_setup_failed": 0, "infrastructure_failed": 1},
        "labels": {"odd": 2},
        "reasons": {"wrong": 3},
        "mean_step_time_ms": 10.0,
        "std_step_time_ms": 0.0,
        "median_step_time_ms": 10.0,
        "p90_step_time_ms": 10.0,
        "p99_step_time_ms": 10.0,
        "min_step_time_ms": 10.0,
        "max_step_time_ms": 10.0,
        "step_time_source": "per_step",
        "mean_wall_clock_s": 1.5,
        "step_times_ms": [10.0] * 6,
    }
    assert base["trial_paths"] == [f"cells/base/trial_{number}.json" for number in range(4)]
    assert base["environment"]["snapshot"] == "environments/local/env.json"
    assert (other["confound"]["tag"], other["confound"]["step_time_ratio"]) == ("speed", 1.2)


def test_what_is_absent_is_null_and_never_nothing():
    cell = matrix({"base": trials("base", "pf", step_ms=None)}).to_json()["cells"][0]["statistics"]
    assert {name for name, value in cell.items() if value is None} == {
        "mean_step_time_ms",
        "std_step_time_ms",
        "median_step_time_ms",
        "p90_step_time_ms",
        "p99_step_time_ms",
        "min_step_time_ms",
        "max_step_time_ms",
    }
    assert cell["step_time_source"] == "none"


@pytest.mark.parametrize(
    ("found", "finished", "whole"),
    [
        ({"base": "pf", "b": "pp"}, True, True),
        ({"base": "pf", "b": "ss"}, True, False),
        ({"base": "pf", "b": "ps"}, True, True),
        ({"base": "pf", "b": ""}, True, False),
        ({"base": "pf", "b": "pp"}, False, False),
    ],
    ids=["all ran", "an error row", "one error among verdicts", "never ran", "unfinished"],
)
def test_strict_asks_that_every_cell_ran_and_none_was_an_error(found, finished, whole):
    assert matrix({name: trials(name, text) for name, text in found.items()}, finished=finished).whole is whole


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 8, "0 %"),
        (8, 8, "100 %"),
        (3, 8, "38 %"),
        (1, 1000, "0.1 %"),
        (1, 10**6, "0.1 %"),
        (999_999, 10**6, "99.9 %"),
    ],
)
def test_a_share_is_never_rounded_to_nothing_or_everything(part, whole, text):
    assert share_text(part, whole) == text


def test_every_record_of_a_trial_reads_as_itself_and_a_broken_one_as_none():
    (trial,) = trials("base", "f")
    document = json.loads(json.dumps(trial.to_json()))
    assert read_trial(document, cell="base", number=0) == trial
    broken: list[Any] = [
        None,
        [],
        {},
        document | {"schema_version": 2},
        document | {"cell": "b"},
        document | {"trial": 1},
    ]
    broken += [document | {"exit_status": "fine"}, document | {"verdict": "pass"}, document | {"step_times_ms": ["x"]}]
    broken += [document | {"wall_clock_s": float("nan")}, {key: document[key] for key in document if key != "steps"}]
    assert [read_trial(each, cell="base", number=0) for each in broken] == [None] * len(broken)


def test_trials_come_cell_by_cell_and_end_where_enough_was_seen():
    recipe = matrix({"base": [], "b": []}, finished=False).recipe
    done: dict[str, list[TrialResult]] = {"base": [], "b": []}
    order = []
    while (cell := cell_by_cell(recipe, done)) is not None:
        order.append(cell.name)
        done[cell.name] += trials(cell.name, "p")
    assert order == ["base"] * 4 + ["b"] * 4


def test_a_cell_that_collects_failures_ends_with_enough_of_them_or_at_its_most():
    recipe = matrix({"base": []}, finished=False, stop_after={"events": 2, "max_trials": 6}).recipe
    (cell,) = recipe.cells
    for statuses, enough in (
        ("pfp", False),
        ("pfpf", True),
        ("ppppp", False),
        ("pppppp", True),
        ("ffs", True),
        ("ssss", False),
    ):
        assert tried_enough(recipe, cell, trials("base", statuses)) is enough, statuses
