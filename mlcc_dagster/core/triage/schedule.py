"""Which trial comes next.

Belongs here: the decision, from the recipe and the trials that ended. Not here: running it (`resources.triage.runner`). A
schedule sees only what is written down, so that a run that was interrupted goes on as if it had not been.
"""

from collections.abc import Callable, Mapping, Sequence

from mlcc_dagster.core.triage.recipe import Cell, Recipe
from mlcc_dagster.core.triage.trials import TrialResult, Verdict

Trials = Mapping[str, Sequence[TrialResult]]
"""The trials that ended, by cell, in their order."""

Schedule = Callable[[Recipe, Trials], Cell | None]
"""Returns the cell to be tried next, none when nothing is left to try."""


def cell_by_cell(recipe: Recipe, trials: Trials) -> Cell | None:
    """Return the first cell, in the order of the recipe, that is not tried enough."""
    return next((cell for cell in recipe.cells if not tried_enough(recipe, cell, trials.get(cell.name, ()))), None)


def tried_enough(recipe: Recipe, cell: Cell, trials: Sequence[TrialResult]) -> bool:
    """Whether a cell has all its trials: as many as it asks for, or, where the recipe collects failures (`stop_after`), enough
    of them, and never more than the most it allows."""
    if len(trials) >= recipe.most_trials(cell):
        return True
    failed = sum(trial.verdict is Verdict.FAIL for trial in trials)
    return recipe.stop_after is not None and failed >= recipe.stop_after.events
