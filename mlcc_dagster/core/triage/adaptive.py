"""Trials for the cells that are undecided.

Belongs here: when a cell is decided, and which cell is tried next. Not here: the evidence (`anytime.py`), what the matrix says of a
cell (`confound.py`).

A cell is credited early when its e-value reaches `EARLY`; it is dead when its chance of a credit falls below `HOPELESS`; tried
to its end it is judged by Fisher's test exactly as in a matrix of fixed trials. So a cell that fails as often as the
baseline is credited with a probability of at most `SIGNIFICANCE` + `LOOKING` (7 %), per cell, however the trials were shared
out: a credit is one of two events, an e-value that ever reaches `EARLY` or Fisher's test of all trials, and their
probabilities add up to that. Giving up can only take credits away. A part of a stack is tried on until its e-value is
what parts are held to (`minimal_sets.py`).
"""

from collections.abc import Sequence

from mlcc_dagster.core.triage.anytime import EARLY, MOST_ADAPTIVE_TRIALS, anytime_evidence
from mlcc_dagster.core.triage.minimal_sets import strictest_level
from mlcc_dagster.core.triage.recipe import Cell, Recipe, baseline_of
from mlcc_dagster.core.triage.schedule import Trials, cell_by_cell
from mlcc_dagster.core.triage.trials import TrialResult, Verdict

HOPELESS = 0.04
"""The chance of a credit below which a cell is given up."""

ERRORS_AT_FIRST = 5
"""A cell whose first trials are all errors is given up after so many."""


def adaptive_mistakes(recipe: Recipe) -> list[str]:
    """Return what keeps a recipe from being tried adaptively, one clause with a path each."""
    problems = []
    if recipe.stop_after is not None:
        problems.append("stop_after: says when a cell was tried enough, and so does --adaptive; drop one of them")
    most = max((recipe.most_trials(cell) for cell in recipe.cells), default=0)
    if most > MOST_ADAPTIVE_TRIALS:
        problems.append(
            f"trials: --adaptive works with at most {MOST_ADAPTIVE_TRIALS:,} trials per cell, not {most}; ask for fewer"
        )
    return problems


def undecided_first(recipe: Recipe, trials: Trials) -> Cell | None:
    """Return the cell that is tried next, none when all are decided: of the baseline and the undecided cells the one with the
    fewest trials, the baseline before others. A `Schedule`."""
    base = baseline_of(recipe)
    others = [cell for cell in recipe.cells if cell is not base]
    if base is None or not others:
        return cell_by_cell(recipe, trials)
    of_base = trials.get(base.name, ())
    if errors_alone(of_base):
        return None
    undecided = [cell for cell in others if is_undecided(recipe, base, cell, of_base, trials.get(cell.name, ()))]
    if not undecided:
        return None
    left = [
        cell for cell in (base, *undecided) if len(trials.get(cell.name, ())) < recipe.most_trials(cell)
    ]  # not empty: an undecided cell has trials left, or waits for those of the baseline
    return min(left, key=lambda cell: len(trials.get(cell.name, ())))


def is_undecided(
    recipe: Recipe, base: Cell, cell: Cell, of_base: Sequence[TrialResult], of_cell: Sequence[TrialResult]
) -> bool:
    """Whether further trials can still change what is said of a cell."""
    if errors_alone(of_cell):
        return False
    found = anytime_evidence(of_base, of_cell, base_most=recipe.most_trials(base), cell_most=recipe.most_trials(cell))
    enough = max(EARLY, 1 / strictest_level(recipe, cell))
    return not found.ended and found.e_value < enough and found.chance >= HOPELESS


def errors_alone(trials: Sequence[TrialResult]) -> bool:
    """Whether a cell is not worth another trial, since all it had were errors."""
    return len(trials) >= ERRORS_AT_FIRST and all(trial.verdict is Verdict.ERROR for trial in trials)
