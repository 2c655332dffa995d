"""Whether probabilities meant what they said, and how to correct them.

Belongs here: the Brier score, the reliability of predictions by their size, the correction (Platt's: a line through the
log-odds). Not here: any model that predicts (`odds.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

BINS = 5
"""Equal parts of 0 to 1 in which predictions are compared with what happened."""

_SPREAD_SLOPE, _SPREAD_SHIFT = 0.3, 0.7
"""How far the correction is thought to be from none, in log-odds: few outcomes must not bend it."""
_LEAST_SLOPE = 0.1
"""A negative slope would turn the order of all odds around."""
_STEPS = 100
_SAFE = 1e-6
"""No prediction is taken for surer than this, nor for its opposite."""


@dataclass(frozen=True)
class Bin:
    """Predictions between two probabilities: how many, their mean, and the share that came true."""

    low: float
    high: float
    count: int
    predicted: float
    observed: float


@dataclass(frozen=True)
class Calibration:
    """How good predictions were. `brier` is the mean squared difference between a prediction, corrected by what was known
    before it, and what happened (0 is perfect); `reference` is that of always predicting the share of successes so far.
    Both are none where nothing was predicted. `slope` and `shift` are the correction of log-odds that later predictions
    get."""

    count: int
    brier: float | None
    reference: float | None
    bins: tuple[Bin, ...]
    slope: float = 1.0
    shift: float = 0.0

    def corrected(self, odds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return corrected probabilities."""
        return _corrected(odds, self.slope, self.shift)


def brier_score(predicted: ArrayLike, happened: ArrayLike) -> float:
    """Return the mean squared difference between probabilities and what happened. Raises `ValueError` for none."""
    differences = np.asarray(predicted, dtype=np.float64) - np.asarray(happened, dtype=np.float64)
    if not differences.size:
        raise ValueError("no prediction has no Brier score; ask for one of at least one prediction")
    return float(np.mean(differences**2))


def calibrate(blocks: Sequence[NDArray[np.float64]], outcomes: NDArray[np.bool_]) -> Calibration:
    """Judge predictions that came in blocks, each made from the outcomes before its block, and learn their correction.
    `outcomes` ends with those predicted; any before them were not.

    Each block is judged after the correction that the blocks before it teach, so that nothing is judged by itself.
    """
    raw = np.concatenate([np.empty(0), *blocks])
    if not len(raw):
        return Calibration(0, None, None, ())
    earlier = len(outcomes) - len(raw)
    happened = outcomes[earlier:]
    judged, references = np.empty_like(raw), np.empty_like(raw)
    begin = 0
    for block in blocks:
        end = begin + len(block)
        judged[begin:end] = _corrected(block, *_correction(raw[:begin], happened[:begin]))
        references[begin:end] = (outcomes[: earlier + begin].sum() + 1) / (earlier + begin + 2)
        begin = end
    slope, shift = _correction(raw, happened)
    edges = np.linspace(0, 1, BINS + 1)
    which = np.minimum((judged * BINS).astype(int), BINS - 1)
    bins = tuple(
        Bin(
            float(edges[b]),
            float(edges[b + 1]),
            int(part.sum()),
            float(judged[part].mean()),
            float(happened[part].mean()),
        )
        for b in range(BINS)
        if (part := which == b).any()
    )
    return Calibration(len(raw), brier_score(judged, happened), brier_score(references, happened), bins, slope, shift)


def _correction(raw: NDArray[np.float64], happened: NDArray[np.bool_]) -> tuple[float, float]:
    """Return slope and shift of the log-odds that make what happened most likely, held near 1 and 0."""
    if not len(raw):
        return 1.0, 0.0
    logits = _log_odds(raw)
    line = np.stack([logits, np.ones_like(logits)])
    slope, shift = _likeliest(line, np.zeros_like(logits), happened, (1.0, 0.0), (_SPREAD_SLOPE, _SPREAD_SHIFT))
    if slope < _LEAST_SLOPE:
        slope, (shift,) = _LEAST_SLOPE, _likeliest(line[1:], _LEAST_SLOPE * logits, happened, (0.0,), (_SPREAD_SHIFT,))
    return float(slope), float(shift)


def _likeliest(
    directions: NDArray[np.float64],
    offset: NDArray[np.float64],
    happened: NDArray[np.bool_],
    thought: Sequence[float],
    spread: Sequence[float],
) -> NDArray[np.float64]:
    """Return the k factors for which the log-odds `offset` + factors x `directions` (k x n) make what happened most
    likely, given what is thought of the factors and how far each may be from that."""
    mean, pull = np.array(thought), 1 / np.array(spread) ** 2

    def unlikely(factors: NDArray[np.float64]) -> float:
        bent = offset + (factors[:, None] * directions).sum(axis=0)
        return float((np.logaddexp(0, bent) - bent * happened).sum() + (pull * (factors - mean) ** 2).sum() / 2)

    factors, loss = mean, unlikely(mean)
    for _ in range(_STEPS):
        now = expit(offset + (factors[:, None] * directions).sum(axis=0))
        gradient = (directions * (now - happened)).sum(axis=1) + pull * (factors - mean)
        curve = np.einsum("in,n,jn->ij", directions, now * (1 - now), directions) + np.diag(pull)
        step = np.linalg.solve(curve, gradient)
        # Whole steps overshoot on confident predictions, further each time: half of one as often as it takes to get better.
        while (better := unlikely(factors - step)) > loss and np.abs(step).max() > _SAFE:
            step = step / 2
        if np.abs(step).max() <= _SAFE:
            break
        factors, loss = factors - step, better
    return factors


def _log_odds(odds: NDArray[np.float64]) -> NDArray[np.float64]:
    safe = np.clip(odds, _SAFE, 1 - _SAFE)
    return np.log(safe / (1 - safe))


def _corrected(odds: NDArray[np.float64], slope: float, shift: float) -> NDArray[np.float64]:
    return expit(slope * _log_odds(odds) + shift)
