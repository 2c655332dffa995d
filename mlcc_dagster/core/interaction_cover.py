"""The t-way combinations that are not covered yet, and what trying a vector would add to those that are.

Belongs here: the cover that grows while a plan is made. Not here: measuring what is covered (`interactions.py`), how likely
a vector is to be proven (`odds.py`), what its gain is worth in money (`expected_gain.py`).

Every combination has a weight: the probability that it stays uncovered after all that was added and attempted. Adding a
vector for sure sets the weights of its combinations to 0; attempting it with odds p multiplies them by 1 - p. The gain of
a set of vectors is monotone and submodular, so a gain never grows by what is added.
"""

from typing import cast

import numpy as np
from numpy.typing import NDArray

from mlcc_dagster.core.coded_vectors import CombinationSpace, Vectors, as_coded, marked
from mlcc_dagster.core.coverage import Fraction

_MOST_CELLS = 2**20

Places = NDArray[np.int64]
"""Where the combinations of vectors stand among a cover's weights: n x the subsets of t dimensions."""


class InteractionCover:
    """The t-way combinations of the possible vectors with their weights, 1 for open, 0 for covered."""

    def __init__(self, possible: Vectors, proven: Vectors = (), *, strength: int = 2) -> None:
        """Open all combinations of the possible vectors but those that a proven one contains. Raises `UsageError` for
        another strength than 1, 2, 3, or more than 2^62 combinations in a subset."""
        coded = as_coded(possible)
        self._space = CombinationSpace(coded, strength)
        codes = self._space.codes(coded)
        self._known: list[NDArray[np.int64] | None] = []
        self._starts, weights = [], []
        begin = 0
        for axes in self._space.subsets:
            cells = self._space.cells(axes)
            if cells <= _MOST_CELLS:
                known, held = None, marked(self._space.positions(axes, codes), cells)
            else:
                # The last weight stands for all combinations that no possible vector contains.
                known = self._space.distinct(axes, codes)
                held = np.append(np.ones(len(known), dtype=bool), False)
            self._known.append(known)
            self._starts.append(begin)
            weights.append(held.astype(np.float64))
            begin += len(held)
        self.weights: NDArray[np.float64] = np.concatenate(weights)
        self._possible = int(np.count_nonzero(self.weights))
        self.close(self.places(proven))

    @property
    def strength(self) -> int:
        """How many values a combination has."""
        return self._space.strength

    @property
    def share(self) -> Fraction:
        """Combinations covered for sure, of the possible ones."""
        return (self._possible - int(np.count_nonzero(self.weights)), self._possible)

    def places(self, vectors: Vectors) -> Places:
        """Return where the combinations of vectors stand. One with a value that no possible vector has stands where the
        weight is always 0."""
        codes = self._space.codes(as_coded(vectors))
        found = np.empty((len(codes), len(self._starts)), dtype=np.int64)
        for column, (axes, known, begin) in enumerate(zip(self._space.subsets, self._known, self._starts, strict=True)):
            positions = self._space.positions(axes, codes)
            if known is not None:
                places = np.searchsorted(known, positions)
                inside = places < len(known)
                inside[inside] = known[places[inside]] == positions[inside]
                positions = np.where(inside, places, len(known))
            found[:, column] = begin + positions
        return found

    def gains(self, places: Places) -> NDArray[np.float64]:
        """Return for each row of places how many combinations it would newly cover, each counted with its weight."""
        return cast("NDArray[np.float64]", self.weights[places].sum(axis=-1))

    def attempt(self, places: Places, odds: float) -> float:
        """Attempt a vector (its row of places) with probability `odds` of proving it, and return how many combinations
        that is expected to cover newly."""
        gained = odds * float(self.gains(places))
        self.weights[places] *= 1 - odds
        return gained

    def close(self, places: Places) -> None:
        """Cover the combinations at these places for sure."""
        self.weights[places] = 0

    def copy(self) -> "InteractionCover":
        """Return a cover with weights of its own, for attempts that are only thought of."""
        other = InteractionCover.__new__(InteractionCover)
        other.__dict__ = self.__dict__ | {"weights": self.weights.copy()}
        return other
