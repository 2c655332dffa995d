"""Delay controls: which cells need one, what it says, and that it says nothing where it did not become slower."""

from typing import Any

import pytest
from simulated_cells import counted, trial, written

from mlcc_dagster.core.triage.confound import Tag, assess
from mlcc_dagster.core.triage.delay_control import (
    Control,
    Explains,
    control_evidence,
    controlled,
    delay_wanted,
    is_slower,
    tried_enough,
)
from mlcc_dagster.core.triage.recipe_reading import read_recipe
from mlcc_dagster.core.triage.statistics import statistics_of
from mlcc_dagster.core.triage.trials import TrialResult

BASE = counted("base", 10, 20, 10.0)
ALONE = "confounded (the delay alone does it, p ="
RECIPE = read_recipe(
    {
        "schema_version": 1,
        "workload": "w",
        "trials": 20,
        "steps": 2,
        "cells": [{"name": name, "mitigations": ["none"], "environment": "local"} for name in ("base", "c")],
    },
    source="r",
)


def assessed(cell: list[TrialResult], control: Control | None = None, *, adaptive: bool = False) -> Any:
    found = assess({"base": statistics_of(BASE), "c": statistics_of(cell)}, "base", 1.15)
    evidence = {} if control is None else {"c": control_evidence(control, cell, BASE, adaptive=adaptive)}
    return controlled(found, evidence)["c"]


def jittered(failed: int, trials: int, mean: float) -> list[TrialResult]:
    """Trials whose step times spread by a tenth of a millisecond around their mean."""
    return [trial("c", n, failed=n < failed, step_ms=mean + 0.1 * (-1) ** n) for n in range(trials)]


@pytest.mark.parametrize(
    ("cell", "delay", "why"),
    [
        (counted("c", 0, 20, 30.0), 20.0, "tagged speed and failing less often"),
        (counted("c", 3, 20, 12.0), 2.0, "also where chance would do that"),
        (counted("c", 0, 20, 11.0), 1.0, "credited and measurably slower"),
        (counted("c", 0, 20, 10.0), None, "credited at the same speed"),
        (counted("c", 0, 20, 8.0), None, "credited and faster"),
        (counted("c", 10, 20, 30.0), None, "slower, and nothing is to be explained"),
        (counted("c", 8, 20, 11.0), None, "neither credited nor tagged"),
        (written("c", "eeee"), None, "an error row"),
    ],
)
def test_a_control_is_wanted_where_a_delay_could_explain_the_cure(cell, delay, why):
    assert delay_wanted(assessed(cell), cell, BASE) == delay, why


def test_slower_by_less_than_the_noise_is_not_slower():
    noisy = [trial("base", n, failed=False, step_ms=10 + n % 5) for n in range(20)]
    assert not is_slower([trial("c", n, failed=False, step_ms=10.1 + n % 5) for n in range(20)], noisy)
    assert is_slower(jittered(0, 20, 10.2), jittered(0, 20, 10.0))
    assert not is_slower(jittered(0, 1, 99.0), jittered(0, 20, 10.0)), "one trial says nothing of its spread"


@pytest.mark.parametrize(
    ("cell", "control", "explains", "tag", "text", "why"),
    [
        ((0, 30.0), (0, 30.0), Explains.DELAY, Tag.CONFOUNDED, f"{ALONE} 0.00022)", "gone too"),
        ((0, 30.0), (10, 30.0), Explains.MITIGATION, Tag.CREDITED, "credited (beyond its delay, p = 0.00022)", "still there"),
        ((0, 30.0), (4, 30.0), Explains.DELAY, Tag.CONFOUNDED, f"{ALONE} 0.048)", "mostly gone"),
        ((0, 30.0), (14, 30.0), Explains.MITIGATION, Tag.CREDITED, "credited (beyond its delay, p < 0.0001)", "even more"),
        ((6, 30.0), (7, 30.0), Explains.UNDECIDED, Tag.SPEED, "speed (+200%; control undecided)", "no difference is shown"),
        ((9, 30.0), (16, 30.0), Explains.UNDECIDED, Tag.SPEED, "speed (+200%; control undecided)", "no cure to be credited"),
        ((0, 11.0), (0, 11.0), Explains.DELAY, Tag.CONFOUNDED, f"{ALONE} 0.00022)", "below the threshold"),
    ],
)  # fmt: skip
def test_a_control_says_whether_the_delay_or_the_mitigation_does_it(cell, control, explains, tag, text, why):
    made = Control("c", cell[1] - 10.0, counted("c", control[0], 20, control[1]))
    found = assessed(counted("c", cell[0], 20, cell[1]), made)
    assert (found.control.explains, found.tag, found.text) == (explains, tag, text), why


@pytest.mark.parametrize(
    ("trials", "told"),
    [
        ([], "it was not tried"),
        (written("c", "eee"), "all its trials were errors"),
        (written("c", "ppppppppe", 30.0), "1 of its 9 trials were errors"),
        (counted("c", 0, 20, 25.9), "it became slower by 15.9 ms only"),
    ],
)
def test_a_control_that_is_none_says_so_and_changes_no_tag(trials, told):
    found = assessed(counted("c", 0, 20, 30.0), Control("c", 20.0, trials))
    assert found.tag is Tag.SPEED
    assert found.text == "speed (+200%; control n/a)"
    assert told in found.lines()[-1]
    assert found.to_json()["delay_control"]["explains"] == "n/a"


def test_eighty_percent_of_the_delay_is_enough():
    found = assessed(counted("c", 0, 20, 30.0), Control("c", 20.0, counted("c", 0, 20, 26.0)))
    assert found.tag is Tag.CONFOUNDED


def test_where_trials_were_shared_out_the_e_value_decides():
    cell, control = counted("c", 0, 20, 30.0), Control("c", 20.0, counted("c", 4, 20, 30.0))
    assert assessed(cell, control).tag is Tag.CONFOUNDED
    adaptive = assessed(cell, control, adaptive=True)
    assert adaptive.tag is Tag.SPEED, "4 of 20 to 10 of 20 is too little for whoever may stop at will"
    assert adaptive.control.of_delay.e_value < 20
    clear = assessed(cell, Control("c", 20.0, counted("c", 0, 20, 30.0)), adaptive=True)
    assert clear.text.startswith("confounded (the delay alone does it, e = ")


@pytest.mark.parametrize(
    ("trials", "enough", "why"),
    [
        (counted("c", 0, 19, 30.0), False, "one is missing"),
        (counted("c", 0, 20, 30.0), True, "as many as the baseline"),
        (counted("c", 0, 3, 10.0), True, "it does not become slower"),
        (counted("c", 0, 2, 10.0), False, "too early to say"),
        (written("c", "eee"), True, "errors alone"),
    ],
)
def test_a_control_has_as_many_trials_as_the_baseline_unless_it_is_none(trials, enough, why):
    control = Control("c", 20.0, trials)
    assert tried_enough(control, RECIPE, RECIPE.cells[0], BASE, counted("c", 0, 5, 30.0)) is enough, why
