"""A Gaussian process over names and numbers: what a measurement tells about another one that differs from it in some of
them.

Belongs here: the kernel, its hyper-parameters by marginal likelihood, predictions and left-out residuals, all on plain
arrays. Not here: what the names and numbers mean and which intervals are claimed (`swap_costs.py`).

The kernel of two inputs is `variance` x exp(-sum of `costs` over the names that differ) x a Matern 5/2 correlation of every
number, plus a constant mean of wide variance, plus `own` where both are of the same thing: what its names do not explain.
Without that term a world in which every combination has something of its own is taken for one that its names explain, and
predictions of new combinations claim too much. Each observation adds `noise`. Matern and not the squared exponential, whose
endless smoothness promises too much beyond the measured range: on measured grids of concurrency and input length, with
one line of the grid left out, intervals of the one kept their level and those of the other did not.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

Floats = NDArray[np.float64]

_MEAN_VARIANCE = 25.0  # targets are centred logarithms: a factor of e^5 either way is no news
_SQRT5 = 5**0.5


@dataclass(frozen=True)
class Prior:
    """A log-normal prior of one hyper-parameter: its median, the standard deviation of its logarithm, and the bounds
    within which it is looked for (they keep the matrices sound, they do not inform)."""

    median: float
    spread: float
    low: float
    high: float


VARIANCE = Prior(0.5, 1.5, 1e-4, 100.0)
COST = Prior(0.3, 1.0, 1e-4, 20.0)
LENGTH = Prior(1.5, 1.0, 0.05, 50.0)
OWN = Prior(0.1**2, 1.5, 1e-6, 10.0)
NOISE = Prior(0.03**2, 1.5, 1e-6, 1.0)
"""What is assumed before anything is measured, for logarithms of metrics: they spread by a factor of two, a name that
differs changes one by a half, a number has to grow several times over to change it, what a combination has of its own is
10 %, a repetition differs by 3 %."""


@dataclass(frozen=True)
class Inputs:
    """Where something was or would be measured, a row each: codes of names (n, c) and of `things` (n,), what the names
    together describe and measured under different numbers; of both, one that nobody has is negative. Numbers (n, m)."""

    names: NDArray[np.int64]
    numbers: Floats
    things: NDArray[np.int64]


class GaussianProcess:
    """A process that has seen its observations. Built once, then only read."""

    def __init__(self, inputs: Inputs, targets: Floats) -> None:
        """Learn the hyper-parameters from at least one target (n,): the most probable ones under the priors.

        Always the same for the same observations in the same order. A name or number that never varies keeps the median
        of its prior.
        """
        self._inputs = inputs
        self._centre = float(np.mean(targets))
        self._centred = targets - self._centre
        differing, gaps, same = _differences(inputs, inputs)
        priors = [VARIANCE, *[COST] * len(differing), *[LENGTH] * len(gaps), OWN, NOISE]
        medians = np.log([prior.median for prior in priors])
        spreads = np.array([prior.spread for prior in priors])
        found = minimize(
            _surprise,
            medians,
            args=(differing, gaps, same, self._centred, medians, spreads),
            jac=True,
            method="L-BFGS-B",
            bounds=[(np.log(prior.low), np.log(prior.high)) for prior in priors],
        )
        settled = np.exp(found.x)
        self.variance: float = float(settled[0])
        self.costs: Floats = settled[1 : 1 + len(differing)]
        self.lengths: Floats = settled[1 + len(differing) : -2]
        self.own: float = float(settled[-2])
        self.noise: float = float(settled[-1])
        covariance = self._covariance(inputs, inputs) + self.noise * np.eye(len(targets))
        self._precision = cho_solve(cho_factor(covariance, lower=True), np.eye(len(targets)))
        self._weights = self._precision @ self._centred

    def predict(self, inputs: Inputs) -> tuple[Floats, Floats]:
        """Return the mean and the standard deviation (k,) of what would be observed, noise included."""
        shared = self._covariance(inputs, self._inputs)
        explained = np.einsum("ij,jk,ik->i", shared, self._precision, shared)
        left = np.maximum(self.variance + self.own + _MEAN_VARIANCE - explained, 0.0)
        return self._centre + shared @ self._weights, np.sqrt(left + self.noise)

    def left_out(self, groups: Iterable[NDArray[np.intp]]) -> list[Floats]:
        """Return for each group of observations how far the others' prediction of it is off, in standard deviations of that
        prediction; in closed form, with the hyper-parameters of all."""
        found = []
        for group in groups:
            covariance = np.linalg.inv(self._precision[np.ix_(group, group)])
            found.append(covariance @ self._weights[group] / np.sqrt(np.diag(covariance)))
        return found

    def _covariance(self, some: Inputs, others: Inputs) -> Floats:
        differing, gaps, same = _differences(some, others)
        signal, _ = _kernel(differing, gaps, self.variance, self.costs, self.lengths)
        return _MEAN_VARIANCE + signal + self.own * same


def _differences(some: Inputs, others: Inputs) -> tuple[Floats, Floats, Floats]:
    """Return per name whether it differs (c, n, k), as 0 and 1, per number by how much (m, n, k), and whether both are of
    the same thing (n, k), as 0 and 1."""
    differing = some.names.T[:, :, None] != others.names.T[:, None, :]
    gaps = np.abs(some.numbers.T[:, :, None] - others.numbers.T[:, None, :])
    same = some.things[:, None] == others.things[None, :]
    return differing.astype(float), gaps, same.astype(float)


def _kernel(
    differing: Floats, gaps: Floats, variance: float, costs: Floats, lengths: Floats
) -> tuple[Floats, list[Floats]]:
    """Return the covariance (n, k), and by which factor it grows with the logarithm of each length."""
    exponent = -np.tensordot(costs, differing, axes=1)
    shape, growths = np.ones(exponent.shape), []
    for gap, length in zip(gaps, lengths, strict=True):
        far = _SQRT5 * gap / length
        squared = far * far / 3
        polynomial = 1 + far + squared
        shape *= polynomial
        exponent -= far
        growths.append(squared * (1 + far) / polynomial)
    return variance * shape * np.exp(exponent), growths


def _surprise(
    logs: Floats, differing: Floats, gaps: Floats, same: Floats, targets: Floats, medians: Floats, spreads: Floats
) -> tuple[float, Floats]:
    """Return the negative logarithm of the posterior of hyper-parameters, given by their logarithms, and its gradient."""
    variance, own, noise = np.exp(logs[[0, -2, -1]]).tolist()
    costs, lengths = np.exp(logs[1 : 1 + len(differing)]), np.exp(logs[1 + len(differing) : -2])
    signal, growths = _kernel(differing, gaps, variance, costs, lengths)
    factor = cho_factor(signal + _MEAN_VARIANCE + own * same + noise * np.eye(len(targets)), lower=True)
    weights = cho_solve(factor, targets)
    slope = cho_solve(factor, np.eye(len(targets))) - np.outer(weights, weights)
    by_signal = slope * signal
    off = (logs - medians) / spreads
    surprise = targets @ weights / 2 + np.log(np.diag(factor[0])).sum() + off @ off / 2
    gradient = [
        by_signal.sum(),
        *(-costs * np.tensordot(differing, by_signal, axes=2)),
        *(np.sum(by_signal * growth) for growth in growths),
        own * np.sum(slope * same),
        noise * np.trace(slope),
    ]
    return float(surprise), np.array(gradient) / 2 + off / spreads
