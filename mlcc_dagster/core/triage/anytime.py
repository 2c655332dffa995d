"""Comparing two cells while their trials come in, as often as one likes.

Belongs here: the evidence that may be looked at after every trial, and how likely a cell is to be credited in the end. Not here:
which trial comes next (`adaptive.py`), tags (`confound.py`).

The evidence is an e-value over pairs of trials, the n-th of the baseline with the n-th of the cell. For fixed failure rates a of
the baseline and b < a of the cell, m = (a + b) / 2, each pair multiplies it by a(x) b(y) / (m(x) m(y)), x and y being what
the two trials did and r(fail) = r, r(pass) = 1 - r. Where both cells fail alike, with any rate t, the mean of a factor is at
most 1: it is A B with A = t a / m + (1 - t)(1 - a) / (1 - m), B the same with b, and A + B = 2. A weighted mean of such products
over several (a, b), with weights that were fixed before any trial, keeps that. So by Ville's inequality it ever reaches 1 / q
with probability q at most, however often one looks and for whatever reason one stops. Sources: R. J. Turner, A. Ly and P. D.
Grünwald, "Generic E-variables for exact sequential k-sample tests that allow for optional stopping", Journal of Statistical
Planning and Inference 230 (2024), theorem 1; J. Ville, "Étude critique de la notion de collectif" (1939).

What is assumed: the trials of a cell are independent of each other and of other cells', and its failure rate does not change.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import special

from mlcc_dagster.core.triage.cell_evidence import SIGNIFICANCE, fisher_less
from mlcc_dagster.core.triage.trials import TrialResult, Verdict

LOOKING = 0.02
"""The share of false credits that looking after every trial may add to `SIGNIFICANCE`, which the test at the end has."""

EARLY = 1 / LOOKING
"""The e-value from which on a cell is credited before its last trial."""

ALONE = 1 / SIGNIFICANCE
"""The e-value that shows a difference where there is no test at the end."""

MOST_ADAPTIVE_TRIALS = 1000
"""Trials of a cell, above which how likely a credit is takes too long to work out after every trial."""

_RATES = np.arange(0.05, 1.0, 0.05)
_REMAINING = ((0.01, 0.7), (0.1, 0.2), (0.3, 0.1))
"""What a mitigation may leave of the baseline's failures, and its weight: cures weigh most. Fixed for good: weights that are
chosen after trials were seen would void the bound."""

_BASE = np.repeat(_RATES, len(_REMAINING))
_CELL = _BASE * np.tile([left for left, _ in _REMAINING], len(_RATES))
_BOTH = (_BASE + _CELL) / 2
_LOG_WEIGHTS = np.log(np.tile([weight for _, weight in _REMAINING], len(_RATES)) / len(_RATES))


@dataclass(frozen=True)
class AnytimeEvidence:
    """What two cells show so far. `e_value` is the largest over `pairs` pairs; `chance` is how likely the cell is to be credited
    by its last trial; `ended` says that neither has a trial left."""

    e_value: float
    pairs: int
    chance: float
    ended: bool

    @property
    def early(self) -> bool:
        """Whether the pairs alone credit the cell."""
        return self.e_value >= EARLY

    @property
    def text(self) -> str:
        """The e-value as a person reads it."""
        return f"e = {self.e_value:.3g}" if self.e_value < 10_000 else "e > 10,000"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "e_value": self.e_value,
            "credited_from": EARLY,
            "pairs": self.pairs,
            "chance_of_credit": self.chance,
            "ended": self.ended,
        }


def failures(trials: Sequence[TrialResult]) -> list[bool]:
    """Return which trials failed, of those with a verdict, in their order."""
    return [trial.verdict is Verdict.FAIL for trial in trials if trial.verdict is not Verdict.ERROR]


def e_value(base: Sequence[bool], cell: Sequence[bool]) -> float:
    """Return the largest e-value over the pairs of two cells' trials (true: it failed); 1 without any."""
    pairs = min(len(base), len(cell))
    if not pairs:
        return 1.0
    number = np.arange(1, pairs + 1)[:, None]
    of_base = np.cumsum(np.asarray(base[:pairs], dtype=float))[:, None]
    of_cell = np.cumsum(np.asarray(cell[:pairs], dtype=float))[:, None]
    logs = (
        of_base * np.log(_BASE)
        + (number - of_base) * np.log1p(-_BASE)
        + of_cell * np.log(_CELL)
        + (number - of_cell) * np.log1p(-_CELL)
        - (of_base + of_cell) * np.log(_BOTH)
        - (2 * number - of_base - of_cell) * np.log1p(-_BOTH)
    )
    largest = float(np.max(np.logaddexp.reduce(logs + _LOG_WEIGHTS, axis=1)))
    return math.exp(min(max(largest, 0.0), 700.0))


def anytime_evidence(
    base: Sequence[TrialResult], cell: Sequence[TrialResult], *, base_most: int, cell_most: int
) -> AnytimeEvidence:
    """Return what a cell shows beside the baseline so far, of at most so many trials each."""
    of_base, of_cell = failures(base), failures(cell)
    base_left, cell_left = max(0, base_most - len(base)), max(0, cell_most - len(cell))
    return AnytimeEvidence(
        e_value=e_value(of_base, of_cell),
        pairs=min(len(of_base), len(of_cell)),
        chance=chance_of_credit(
            sum(of_base), len(of_base), sum(of_cell), len(of_cell), base_left=base_left, cell_left=cell_left
        ),
        ended=not base_left and not cell_left,
    )


def chance_of_credit(
    base_failed: int, base_trials: int, failed: int, trials: int, *, base_left: int, cell_left: int
) -> float:
    """Return how likely Fisher's test is to credit the cell when the trials that are left have been made, the rates of both
    cells being what Jeffreys' prior and the trials so far make of them. 0 or 1 where nothing is left to chance."""
    most = _most_failures(base_trials + base_left, trials + cell_left)
    of_base = _predicted(base_left, base_failed, base_trials)
    up_to = np.cumsum(_predicted(cell_left, failed, trials))
    allowed = most[base_failed : base_failed + base_left + 1] - failed
    reached = np.where(allowed < 0, 0.0, up_to[np.clip(allowed, 0, cell_left)])
    return float(min(1.0, max(0.0, of_base @ reached)))


@lru_cache(maxsize=64)
def _most_failures(base_trials: int, trials: int) -> Any:
    """Return, for every number of failures of the baseline, how often the cell may fail and still be credited; -1 for never."""
    most = []
    allowed = -1
    for base_failed in range(base_trials + 1):
        while allowed < trials and fisher_less(allowed + 1, trials, base_failed, base_trials) <= SIGNIFICANCE:
            allowed += 1
        most.append(allowed)
    return np.asarray(most)


def _predicted(left: int, failed: int, trials: int) -> Any:
    """Return the probabilities of 0, 1, … `left` further failures: the beta-binomial distribution."""
    a, b = failed + 0.5, trials - failed + 0.5
    more = np.arange(left + 1)
    choose = special.gammaln(left + 1) - special.gammaln(more + 1) - special.gammaln(left - more + 1)
    return np.exp(choose + special.betaln(a + more, b + left - more) - special.betaln(a, b))
