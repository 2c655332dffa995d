"""Adaptive trials: the decisions of fixed ones with half the trials, and no more false credits than is said."""

import random
from typing import Any

import pytest
from simulated_cells import drawn, prefixes, written

from mlcc_dagster.core.triage.adaptive import ERRORS_AT_FIRST, HOPELESS, adaptive_mistakes, undecided_first
from mlcc_dagster.core.triage.anytime import anytime_evidence
from mlcc_dagster.core.triage.confound import Tag, assess
from mlcc_dagster.core.triage.recipe import Recipe
from mlcc_dagster.core.triage.recipe_reading import read_recipe
from mlcc_dagster.core.triage.statistics import statistics_of
from mlcc_dagster.core.triage.trials import TrialResult

MOST = 32


def recipe(*names: str, trials: int = MOST, **changes: Any) -> Recipe:
    cells = [{"name": name, "mitigations": ["none"], "environment": "local"} for name in ("base", *names)]
    document = {"schema_version": 1, "workload": "w", "trials": trials, "steps": 2, "cells": cells} | changes
    return read_recipe(document, source="r")


def tried(asked: Recipe, streams: dict[str, list[TrialResult]]) -> dict[str, int]:
    """Play a run: what is tried next has the next outcome of its stream. Return how often each cell was tried."""
    counts = dict.fromkeys(streams, 0)
    while (cell := undecided_first(asked, prefixes(dict(streams), counts))) is not None:
        counts[cell.name] += 1
        assert counts[cell.name] <= asked.most_trials(cell)
    return counts


def credited(asked: Recipe, found: dict[str, list[TrialResult]], *, adaptive: bool) -> set[str]:
    anytime = None
    if adaptive:
        anytime = {
            name: anytime_evidence(found["base"], trials, base_most=MOST, cell_most=MOST)
            for name, trials in found.items()
        }
    tags = assess({name: statistics_of(trials) for name, trials in found.items()}, "base", 1.15, anytime)
    return {name for name, each in tags.items() if each.tag is Tag.CREDITED}


def test_adaptive_trials_decide_as_fixed_ones_with_half_the_trials():
    """60 matrices; `python -m benchmarks triage_trials` plays 200 of several kinds."""
    drawer = random.Random(20261122)
    used = fixed = differing = false = 0
    asked = recipe("cure", "nothing", "hides", "none-either")
    for _ in range(60):
        base = drawer.uniform(0.3, 0.9)
        rates = {"base": base, "cure": 0.03 * base, "nothing": base, "hides": 0.0, "none-either": base}
        streams = {name: drawn(drawer, name, rate, MOST) for name, rate in rates.items()}
        counts = tried(asked, streams)
        found = {name: stream[: counts[name]] for name, stream in streams.items()}
        used += sum(counts.values())
        fixed += MOST * len(streams)
        early, late = credited(asked, found, adaptive=True), credited(asked, streams, adaptive=False)
        differing += len(early ^ late)
        false += len(early & {"nothing", "none-either"})
    assert used <= 0.5 * fixed
    # giving up takes 4 in 100 credits away at most; 240 decisions
    assert differing <= 0.02 * 240
    assert false <= 0.07 * 120 + 4 * (120 * 0.07 * 0.93) ** 0.5


def test_trials_go_to_what_is_undecided_and_the_baseline_keeps_pace():
    streams = {"base": written("base", "f" * MOST), "a": written("a", "p" * MOST), "b": written("b", "f" * MOST)}
    counts = tried(recipe("a", "b"), streams)
    assert counts["a"] <= 10, "a clear cure is soon credited"
    assert counts["b"] < MOST / 2, "a dead cell is soon given up"
    assert max(counts.values()) - counts["base"] <= 1, "no cell is tried ahead of the baseline"


def test_a_baseline_that_never_fails_ends_all():
    streams = {"base": written("base", "p" * MOST), "a": written("a", "p" * MOST)}
    assert sum(tried(recipe("a"), streams).values()) < MOST


@pytest.mark.parametrize("which", ["base", "a"])
def test_a_cell_of_errors_alone_is_given_up(which: str):
    letters = {"base": "fp" * 16, "a": "p" * MOST} | {which: "e" * MOST}
    counts = tried(recipe("a"), {name: written(name, text) for name, text in letters.items()})
    assert counts[which] == ERRORS_AT_FIRST


def test_a_borderline_cell_is_tried_to_its_end_and_judged_as_ever():
    streams = {"base": written("base", "fpfp" * 8), "a": written("a", "pppf" * 8)}
    counts = tried(recipe("a"), streams)
    assert counts == {"base": MOST, "a": MOST}
    assert credited(recipe("a"), streams, adaptive=True) == credited(recipe("a"), streams, adaptive=False)


def test_looking_at_fisher_before_the_end_credits_nothing():
    found = {"base": written("base", "fpfpfpfp"), "a": written("a", "pppppppp")}
    (cell,) = [each for name, each in assess_adaptively(found).items() if name == "a"]
    assert cell.evidence is not None
    assert cell.evidence.p_value <= 0.05
    assert cell.anytime is not None
    assert not cell.anytime.early
    assert cell.tag is Tag.UNDECIDED


def assess_adaptively(found: dict[str, list[TrialResult]]) -> Any:
    anytime = {
        name: anytime_evidence(found["base"], trials, base_most=MOST, cell_most=MOST) for name, trials in found.items()
    }
    return assess({name: statistics_of(trials) for name, trials in found.items()}, "base", 1.15, anytime)


def test_a_cell_that_is_given_up_says_what_its_chance_was():
    found = {"base": written("base", "fpfpfpfpfp"), "a": written("a", "ffpfpfpppf" + "p")}
    text = assess_adaptively(found)["a"].text
    assert text.startswith("undecided (stopped, chance of a credit ")
    assert HOPELESS < 0.05


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"stop_after": {"events": 1, "max_trials": 5}}, "stop_after: says when a cell was tried enough"),
        ({"trials": 1001}, "trials: --adaptive works with at most 1,000 trials per cell, not 1001"),
    ],
)
def test_what_cannot_be_tried_adaptively_is_refused(changes: dict[str, Any], told: str):
    (problem,) = adaptive_mistakes(recipe("a", **changes))
    assert problem.startswith(told)


def test_a_recipe_of_the_baseline_alone_has_all_its_trials():
    assert tried(recipe(trials=4), {"base": written("base", "ppff")}) == {"base": 4}
