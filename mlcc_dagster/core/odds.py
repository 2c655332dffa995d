"""How likely a vector is to be proven, learned from everything that was ever tried.

Belongs here: trials, the model of odds, what weighs on a vector, how good the odds were so far. Not here: what a proof is
worth (`expected_gain.py`), what a declared constraint rules out at no cost (`constraints.py`).

The model: a run passes when luck, every value of its vector and every pair of its values pass. Each pair (and each value)
has a Beta prior that its pair of dimensions shares, learned with it: where many pairs of two dimensions were bad, an
unseen one is doubted more. A success clears all of a vector's pairs; the blame for a failure is divided over them by how
doubtful each is given everything else (expectation maximisation), so that it settles on what the failures have in common.
What has nothing to do with the vector (no capacity, a broken network) is blamed on luck alone.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mlcc_dagster.core.calibration import Calibration, calibrate
from mlcc_dagster.core.coded_vectors import CodedVectors, CombinationSpace, Vectors, as_coded
from mlcc_dagster.core.configuration import DIMENSIONS, Vector
from mlcc_dagster.core.failures import PREFLIGHT
from mlcc_dagster.core.standing import Standing

MOMENTARY: frozenset[str] = frozenset({"capacity", "infrastructure"})
"""Failure categories that say nothing of the vector."""

FIRST_BLOCK = 8
"""Trials before the first that is predicted to measure the model; every later block is as long as all before it."""

_PRIOR_TRIALS = 0.5
"""Weight of a pair's prior, in trials: one success nearly clears a pair, since configurations fail for reasons that last."""
_PRIOR_LUCK, _PRIOR_VALUE, _PRIOR_PAIR = 0.97, 0.99, 0.97
"""Prior means. The product of all 22 is 0.58: what nobody knows anything of is about as likely to work as not."""
_LUCK_TRIALS = 20.0
_SHARED_TRIALS = 4.0
"""Weight of the prior means above against what the pairs of two dimensions turned out to be, in pairs."""
_LOWEST, _HIGHEST = 1e-4, 1 - 1e-6
_STEPS, _SETTLED = 60, 1e-4


@dataclass(frozen=True, eq=False)
class Trials:
    """Attempts in the order in which they ended: n coded vectors, whether each passed, and whether a failure was of the
    moment (see `MOMENTARY`)."""

    vectors: CodedVectors
    passed: NDArray[np.bool_]
    momentary: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.passed)

    @classmethod
    def of(cls, tried: Sequence[tuple[Vector, bool]]) -> "Trials":
        """Return trials of (vector, passed), none of whose failures was of the moment."""
        passed = np.array([each for _, each in tried], dtype=bool)
        return cls(CodedVectors.of(vector for vector, _ in tried), passed, np.zeros(len(passed), dtype=bool))

    @classmethod
    def from_standing(cls, standing: Standing) -> "Trials":
        """Return what the evidence tells: each proven vector passed once, at its first proof; each failed run failed.

        Left out: failures whose verdict expired (they were of another image or engine), and what preflight refuted
        (nothing was tried). Evidence without time counts as older than all other.
        """
        tried: list[tuple[float, Vector, bool, bool]] = []
        for vector, findings in standing.evidence.items():
            if findings.proven:
                at = findings.first_proven_at
                tried.append((at.timestamp() if at else float("-inf"), vector, True, False))
            for failure in standing.live_failures(vector):
                if failure.category != PREFLIGHT:
                    at = failure.at.timestamp() if failure.at else float("-inf")
                    tried.append((at, vector, False, failure.category in MOMENTARY))
        tried.sort(key=lambda each: (each[0], each[1]))
        return cls(
            CodedVectors.of(vector for _, vector, _, _ in tried),
            np.array([passed for *_, passed, _ in tried], dtype=bool),
            np.array([momentary for *_, momentary in tried], dtype=bool),
        )

    def first(self, count: int) -> "Trials":
        """Return the first `count` trials."""
        vectors = CodedVectors(self.vectors.values, self.vectors.codes[:count])
        return Trials(vectors, self.passed[:count], self.momentary[:count])


@dataclass(frozen=True)
class Doubt:
    """What weighs most on a vector: one value or a pair of values, the probability that it passes, and how many of the
    trials that contain it passed and failed."""

    dimensions: tuple[str, ...]
    values: tuple[str, ...]
    passes: float
    passed: int
    failed: int

    def __str__(self) -> str:
        what = " with ".join(f"{name}={value}" for name, value in zip(self.dimensions, self.values, strict=True))
        tried = self.passed + self.failed
        return f"{what} ({f'{self.passed} of {tried} passed' if tried else 'never tried'})"


class SuccessOdds:
    """The odds that a vector is proven by its next run, from trials."""

    def __init__(self, trials: Trials, *, calibrated: bool = True) -> None:
        """Learn from trials, none at all included; with `calibrated` also how far the odds were off so far (see
        `calibration`), by which they are then corrected."""
        self._trials = trials
        self._calibrated = calibrated
        self._spaces = [CombinationSpace(trials.vectors, strength) for strength in (1, 2)]
        self._subsets = list(itertools.chain.from_iterable(space.subsets for space in self._spaces))
        self._learn()

    def of(self, vectors: Vectors) -> NDArray[np.float64]:
        """Return the odds of each vector, between 0 and 1."""
        raw = self.uncalibrated(vectors)
        return self.calibration.corrected(raw) if self._calibrated else raw

    def uncalibrated(self, vectors: Vectors) -> NDArray[np.float64]:
        """Return the odds as the model itself has them."""
        return np.exp(self._log_passes[self._places(as_coded(vectors))].sum(axis=1) + np.log(self.luck))

    def doubt(self, vector: Vector) -> Doubt:
        """Return what weighs most on a vector."""
        places = self._places(CodedVectors.of((vector,)))[0]
        weakest = int(np.argmin(self._log_passes[places]))
        place, axes = int(places[weakest]), self._subsets[weakest]
        texts = vector.values()
        return Doubt(
            tuple(DIMENSIONS[axis] for axis in axes),
            tuple(texts[axis] for axis in axes),
            passes=float(np.exp(self._log_passes[place])),
            passed=int(self._passed[place]),
            failed=int(self._failed[place]),
        )

    def doubts(self) -> list[Doubt]:
        """Return every value and pair that some failed trial contains, the least likely to pass first."""
        found = []
        for axes, known, begin in zip(self._subsets, self._known, self._starts, strict=True):
            space = self._spaces[len(axes) - 1]
            shape = tuple(len(space.values[axis]) + 1 for axis in axes)
            for place, position in enumerate(known.tolist(), start=begin):
                if self._failed[place]:
                    codes = np.unravel_index(position, shape)
                    values = tuple(space.values[axis][code] for axis, code in zip(axes, codes, strict=True))
                    names = tuple(DIMENSIONS[axis] for axis in axes)
                    passes = float(np.exp(self._log_passes[place]))
                    found.append(Doubt(names, values, passes, int(self._passed[place]), int(self._failed[place])))
        return sorted(found, key=lambda doubt: (doubt.passes, doubt.dimensions, doubt.values))

    @cached_property
    def calibration(self) -> Calibration:
        """How good the odds were: each block of trials predicted from all trials before it, as a plan would have had to."""
        predicted: list[NDArray[np.float64]] = []
        begin = FIRST_BLOCK
        while begin < len(self._trials):
            end = min(2 * begin, len(self._trials))
            block = CodedVectors(self._trials.vectors.values, self._trials.vectors.codes[begin:end])
            predicted.append(SuccessOdds(self._trials.first(begin), calibrated=False).uncalibrated(block))
            begin = end
        return calibrate(predicted, self._trials.passed)

    def _places(self, vectors: CodedVectors) -> NDArray[np.int64]:
        """Return where the values and pairs of vectors stand, n x 21; the last place of a subset is for unseen ones."""
        columns = []
        codes = self._spaces[0].codes(vectors)
        for axes, known, begin in zip(self._subsets, self._known, self._starts, strict=True):
            positions = self._spaces[len(axes) - 1].positions(axes, codes)
            places = np.searchsorted(known, positions)
            inside = places < len(known)
            inside[inside] = known[places[inside]] == positions[inside]
            columns.append(begin + np.where(inside, places, len(known)))
        return np.stack(columns, axis=1)

    def _learn(self) -> None:
        trials = self._trials
        codes = self._spaces[0].codes(trials.vectors)
        self._known = [self._spaces[len(axes) - 1].distinct(axes, codes) for axes in self._subsets]
        sizes = [len(known) + 1 for known in self._known]
        self._starts = [0, *itertools.accumulate(sizes[:-1])]
        subset_of = np.repeat(np.arange(len(sizes)), sizes)
        cells = len(subset_of)
        seen = np.ones(cells, dtype=bool)
        seen[np.cumsum(sizes) - 1] = False
        places = self._places(trials.vectors)
        lasting = ~trials.passed & ~trials.momentary
        self._passed = np.bincount(places[trials.passed].ravel(), minlength=cells)
        self._failed = np.bincount(places[lasting].ravel(), minlength=cells)
        tried = self._passed + self._failed
        blamed = places[lasting]
        unlucky = int(np.count_nonzero(trials.momentary & ~trials.passed))
        priors = np.array([_PRIOR_VALUE if len(axes) == 1 else _PRIOR_PAIR for axes in self._subsets])
        means, luck = priors, _PRIOR_LUCK
        passes = means[subset_of]
        seen_pairs = np.bincount(subset_of[seen], minlength=len(sizes))
        for _ in range(_STEPS):
            before = passes
            # the probability that this value or pair did not pass, given that something did not
            failed = 1 - np.exp(np.log(passes[blamed]).sum(axis=1) + np.log(luck))
            share = (1 - passes[blamed]) / failed[:, None]
            blame = np.bincount(blamed.ravel(), weights=share.ravel(), minlength=cells)
            bad_luck = unlucky + float(((1 - luck) / failed).sum())
            found = (_PRIOR_TRIALS * means[subset_of] + tried - blame) / (_PRIOR_TRIALS + tried)
            passes = np.clip(found, _LOWEST, _HIGHEST)
            luck = (_LUCK_TRIALS * _PRIOR_LUCK + len(trials) - bad_luck) / (_LUCK_TRIALS + len(trials))
            turned_out = np.bincount(subset_of[seen], weights=passes[seen], minlength=len(sizes))
            means = (_SHARED_TRIALS * priors + turned_out) / (_SHARED_TRIALS + seen_pairs)
            passes = np.where(seen, passes, means[subset_of])
            if np.abs(passes - before).max() < _SETTLED:
                break
        self.luck = float(luck)
        self._log_passes = np.log(passes)
