"""Adaptive trials of triage in simulated matrices: how many they need, and whether they decide as fixed ones do.

Belongs here: drawing matrices and playing both on the same outcomes. Not here: the rule (`core.triage.adaptive`), a smaller run
that holds it in the tests. `python -m benchmarks.triage_trials` prints a line per kind of matrices; `make bench` measures what a
decision costs.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.pairs import Comparison, compare
from mlcc_dagster.core.triage.adaptive import undecided_first
from mlcc_dagster.core.triage.anytime import anytime_evidence
from mlcc_dagster.core.triage.confound import Tag, assess
from mlcc_dagster.core.triage.recipe import Recipe
from mlcc_dagster.core.triage.recipe_reading import read_recipe
from mlcc_dagster.core.triage.schedule import Trials, cell_by_cell
from mlcc_dagster.core.triage.statistics import statistics_of
from mlcc_dagster.core.triage.trials import ExitStatus, TrialResult

MATRICES = 200
TRIALS = 32
SEED = 20261122


@dataclass(frozen=True)
class Kind:
    """A kind of matrices: the range of the baseline's failure rate, and the shares of cells that cure (0 to 10 % of the failures
    are left) and that help by halves (20 to 80 % are left); the others do nothing."""

    name: str
    rates: tuple[float, float]
    cures: float
    halves: float
    cells: int = 4


KINDS = (
    Kind("a few cures among many that do nothing", (0.3, 0.9), 0.3, 0.0),
    Kind("the same, some that help by halves", (0.3, 0.9), 0.3, 0.1),
    Kind("many that help by halves", (0.3, 0.9), 0.3, 0.3),
    Kind("rare failures", (0.1, 0.3), 0.3, 0.1),
    Kind("eight cells", (0.3, 0.9), 0.2, 0.1, 8),
    Kind("nothing does anything", (0.1, 0.9), 0.0, 0.0),
)


@dataclass
class Counts:
    """What was seen: trials that were used and that fixed ones need, decisions, those that differ, cells without an effect,
    those of them that each way credits."""

    used: int = 0
    fixed: int = 0
    decisions: int = 0
    differing: int = 0
    without_effect: int = 0
    false_adaptive: int = 0
    false_fixed: int = 0

    def line(self, kind: Kind) -> str:
        """Return it as a line."""
        return (
            f"{kind.name:<40} trials {self.used / self.fixed:.3f} of fixed; {self.differing} of {self.decisions} decisions "
            f"differ; credited without effect: {self.false_adaptive} adaptive, {self.false_fixed} fixed, of {self.without_effect}"
        )


def recipe(cells: int) -> Recipe:
    """Return the recipe of a matrix: a baseline and so many cells."""
    names = ["base", *(f"c{number}" for number in range(cells))]
    listed = [{"name": name, "mitigations": ["none"], "environment": "local"} for name in names]
    document = {"schema_version": 1, "workload": "simulated", "trials": TRIALS, "steps": 1, "cells": listed}
    return read_recipe(document, source="simulated")


def drawn(kind: Kind, drawer: random.Random, asked: Recipe) -> tuple[dict[str, list[TrialResult]], set[str]]:
    """Draw a matrix: the outcomes of all trials that it may have, and which of its cells do nothing."""
    base = drawer.uniform(*kind.rates)
    streams, without = {}, set()
    for cell in asked.cells:
        luck, rate = drawer.random(), base
        if cell.name != "base" and luck < kind.cures:
            rate = base * drawer.uniform(0.0, 0.1)
        elif cell.name != "base" and luck < kind.cures + kind.halves:
            rate = base * drawer.uniform(0.2, 0.8)
        elif cell.name != "base":
            without.add(cell.name)
        streams[cell.name] = [_trial(cell.name, number, drawer.random() < rate) for number in range(TRIALS)]
    return streams, without


def _trial(cell: str, number: int, failed: bool) -> TrialResult:
    status = ExitStatus.WORKLOAD_FAILED if failed else ExitStatus.OK
    return TrialResult(cell, number, status, "", 1.0, 1, (1.0,))


def played(asked: Recipe, streams: dict[str, list[TrialResult]]) -> dict[str, Sequence[TrialResult]]:
    """Return the trials that an adaptive run makes."""
    counts = dict.fromkeys(streams, 0)

    def so_far() -> dict[str, Sequence[TrialResult]]:
        return {name: stream[: counts[name]] for name, stream in streams.items()}

    while (cell := undecided_first(asked, so_far())) is not None:
        counts[cell.name] += 1
    return so_far()


def credited(trials: Trials, *, adaptive: bool) -> set[str]:
    """Return the cells that a matrix credits."""
    anytime = {
        name: anytime_evidence(trials["base"], found, base_most=TRIALS, cell_most=TRIALS)
        for name, found in trials.items()
    }
    cells = {name: statistics_of(found) for name, found in trials.items()}
    tags = assess(cells, "base", 1.15, anytime if adaptive else None)
    return {name for name, each in tags.items() if each.tag is Tag.CREDITED}


def simulate(kind: Kind, matrices: int = MATRICES, seed: int = SEED) -> Counts:
    """Play matrices of a kind both ways on the same outcomes."""
    drawer, asked, counts = random.Random(seed), recipe(kind.cells), Counts()
    for _ in range(matrices):
        streams, without = drawn(kind, drawer, asked)
        found = played(asked, streams)
        early, late = credited(found, adaptive=True), credited(streams, adaptive=False)
        counts.used += sum(map(len, found.values()))
        counts.fixed += sum(map(len, streams.values()))
        counts.decisions += kind.cells
        counts.differing += len(early ^ late)
        counts.without_effect += len(without)
        counts.false_adaptive += len(early & without)
        counts.false_fixed += len(late & without)
    return counts


def measure() -> list[Comparison]:
    """Compare deciding what comes next with the schedule of fixed trials, for one matrix of 32 trials a cell."""
    asked = recipe(4)
    streams, _ = drawn(KINDS[1], random.Random(SEED), asked)
    half: Trials = {name: stream[:16] for name, stream in streams.items()}

    def adaptive() -> None:
        for _ in range(100):
            undecided_first(asked, half)

    def fixed() -> None:
        for _ in range(100):
            cell_by_cell(asked, half)

    return [compare("what is tried next, adaptively / cell by cell (100 times)", adaptive, fixed)]


if __name__ == "__main__":
    for each in KINDS:
        print(simulate(each).line(each), flush=True)
