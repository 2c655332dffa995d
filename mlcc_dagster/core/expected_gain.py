"""What a set of attempts is expected to teach, the best set that a budget affords, and how far from the best it can be.

Belongs here: the objective, lazy greedy choice, the upper bound. Arrays in, row numbers out. Not here: candidates and
strategies by name (`planning.py`), the weights of combinations (`interaction_cover.py`), odds (`odds.py`).

The objective is the expected number of newly covered t-way combinations, each attempt succeeding with its odds whatever
the others do. It is monotone and submodular, so greedy choice by odds x gain / price, compared with the best single
attempt, keeps at least (1 - 1/e) / 2 of the optimum where only the budget binds and what is expected to be paid is in
proportion to what must be promised; elsewhere nothing is known beforehand. And for any set S, the optimum is at most what S
is worth plus the best that a budget could buy of the gains that the rows outside S have after it, as if they did not overlap.
That is the bound given with every choice.

What is affordable is reckoned as the ledger does it, in whole micro-dollars, every promise rounded up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, minimize_scalar

from mlcc_dagster.core.budget import micros_ceiling, micros_promised, usd_of
from mlcc_dagster.core.interaction_cover import InteractionCover, Places

_BLOCK = 1024
_BOUNDS_TAKEN = 6
_ROUNDING = 1e-9
_NEAR_NOTHING = np.log(1e-4)
_MICROS = 1e6
_LAST_BITS = 2.0**-50


@dataclass(frozen=True, eq=False)
class Offers:
    """What may be attempted, a row each: the places of its combinations in the cover, its odds, what it is expected to
    cost (above 0) and what must be promised for it, in USD."""

    places: Places
    odds: NDArray[np.float64]
    expected_usd: NDArray[np.float64]
    promised_usd: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.odds)

    @cached_property
    def promised_micros(self) -> NDArray[np.int64]:
        """What must be promised in micro-dollars, rounded up as `budget.micros_promised` does it. Raises `UsageError` for
        what is no amount of money."""
        if not len(self):
            return np.empty(0, dtype=np.int64)
        for extreme in (self.promised_usd.min(), self.promised_usd.max()):
            micros_promised(float(extreme))
        # A decimal of whole micro-dollars has a product that is whole but for the last bits of a float.
        return np.ceil(self.promised_usd * _MICROS * (1 - _LAST_BITS)).astype(np.int64)


@dataclass(frozen=True)
class Appraisal:
    """What attempts in their order are worth: per attempt the combinations it would cover if it succeeded, weighted by how
    likely they are still uncovered then, and its expected gain (that x its odds). `objective` is the sum of the
    gains, `upper_bound` what no affordable set can pass."""

    rows: tuple[int, ...]
    new: tuple[float, ...]
    gains: tuple[float, ...]
    objective: float
    upper_bound: float

    @property
    def proven_ratio(self) -> float:
        """The share of the optimum that is reached for certain, 1 where there is nothing to gain."""
        return 1.0 if self.upper_bound <= 0 else min(1.0, self.objective / self.upper_bound)


def choose(
    cover: InteractionCover, offers: Offers, *, max_proves: int, max_usd: float, first: Sequence[int] = ()
) -> list[int]:
    """Return the rows to attempt, in order: `first` as given, then greedily by odds x gain / expected price whatever is
    affordable and covers anything new; or, where the money ends before `max_proves` and the single best row alone is
    expected to cover more, that row and then what the rest of the money affords.

    At most `max_proves` rows, at most `max_usd` promised; rows of `first` that do not fit are left out.
    """
    weights = cover.copy()
    chosen = affordable(offers, first, max_proves=max_proves, max_usd=max_usd)
    for row in chosen:
        weights.attempt(offers.places[row], float(offers.odds[row]))
    left = left_micros(offers, chosen, max_usd)
    taken = np.zeros(len(offers), dtype=bool)
    taken[chosen] = True
    greedy, worth = _greedily(weights.copy(), offers, taken, max_proves - len(chosen), left)
    # Where the count ended the choice, money was left over on purpose: the single best would spend it for little.
    if len(chosen) + len(greedy) < max_proves:
        alone = np.where(taken | (offers.promised_micros > left), -1.0, offers.odds * weights.gains(offers.places))
        if alone.max(initial=0.0) > worth * (1 + _ROUNDING):
            best = int(np.argmax(alone))
            weights.attempt(offers.places[best], float(offers.odds[best]))
            taken[best] = True
            left -= int(offers.promised_micros[best])
            greedy = [best, *_greedily(weights, offers, taken, max_proves - len(chosen) - 1, left)[0]]
    return [*chosen, *greedy]


def affordable(
    offers: Offers, order: Sequence[int] | NDArray[np.integer], *, max_proves: int, max_usd: float
) -> list[int]:
    """Return the rows of an order that fit, one after the other; what is too dear is passed over."""
    waiting = np.asarray(order, dtype=np.int64)
    chosen: list[int] = []
    left = left_micros(offers, (), max_usd)
    while len(chosen) < max_proves:
        waiting = waiting[offers.promised_micros[waiting] <= left]
        if not len(waiting):
            break
        chosen.append(int(waiting[0]))
        left -= int(offers.promised_micros[chosen[-1]])
        waiting = waiting[1:]
    return chosen


def left_micros(offers: Offers, rows: Sequence[int], max_usd: float) -> int:
    """Return the micro-dollars that are left of `max_usd` after rows were promised; a negative `max_usd` counts as 0."""
    # What is left of a budget may come from a subtraction of floats, which misses the micro-dollar that it means.
    return micros_ceiling(max(0.0, round(max_usd, 9))) - int(offers.promised_micros[list(rows)].sum())


def appraise(
    cover: InteractionCover, offers: Offers, rows: Sequence[int], *, max_proves: int, max_usd: float, fixed: int = 0
) -> Appraisal:
    """Return what attempts are worth and the bound on what any other could be: at most `max_proves` rows and `max_usd`
    promised, the first `fixed` rows being given."""
    weights = cover.copy()
    new, gains = [], []
    bound = np.inf
    # A bound can be taken after any part of the choice; few of them are enough, and the last is mostly the best.
    stops = set(np.linspace(fixed, len(rows), _BOUNDS_TAKEN).astype(int).tolist())
    left = left_micros(offers, rows[:fixed], max_usd)
    free = offers.promised_micros <= left
    for count in range(len(rows) + 1):
        if count in stops:
            beyond = offers.odds[free] * weights.gains(offers.places[free])
            bound = min(bound, sum(gains) + _most(beyond, offers.promised_micros[free], max_proves - fixed, left))
        if count < len(rows):
            row = rows[count]
            new.append(float(weights.gains(offers.places[row])))
            gains.append(weights.attempt(offers.places[row], float(offers.odds[row])))
            free[row] = False
    objective = float(sum(gains))
    return Appraisal(tuple(rows), tuple(new), tuple(gains), objective, max(objective, float(bound)))


def _greedily(
    weights: InteractionCover, offers: Offers, taken: NDArray[np.bool_], count: int, left: int
) -> tuple[list[int], float]:
    """Choose up to `count` rows lazily: a gain never grows, so one computed earlier bounds it from above, and only rows
    whose bound reaches the best found so far are computed anew. `left` are micro-dollars; changes the weights."""
    bounds = np.where(taken, -1.0, offers.odds * weights.gains(offers.places) / offers.expected_usd)
    chosen: list[int] = []
    worth = 0.0
    while len(chosen) < count:
        bounds[offers.promised_micros > left] = -1.0
        best = _next_best(weights, offers, bounds)
        if best is None:
            break
        chosen.append(best)
        bounds[best] = -1.0
        left -= int(offers.promised_micros[best])
        worth += weights.attempt(offers.places[best], float(offers.odds[best]))
    return chosen, worth


def _next_best(weights: InteractionCover, offers: Offers, bounds: NDArray[np.float64]) -> int | None:
    """Return the row with the highest odds x gain / price, the first of equals, none where nothing is gained; brings the
    bounds that it looks at up to date."""
    size = _BLOCK
    fresh = np.zeros(len(bounds), dtype=bool)
    while True:
        top = np.arange(len(bounds)) if size >= len(bounds) else np.argpartition(-bounds, size - 1)[:size]
        stale = top[~fresh[top] & (bounds[top] > 0)]
        gains = weights.gains(offers.places[stale])
        bounds[stale] = offers.odds[stale] * gains / offers.expected_usd[stale]
        fresh[stale] = True
        highest = bounds.max(initial=0.0)
        if highest <= 0:
            return None
        if not len(stale) or size >= len(bounds):
            return int(np.argmax(bounds))
        reaching = np.flatnonzero(bounds >= highest)
        if fresh[reaching].all():
            return int(reaching[0])
        size *= 4


def _most(gains: NDArray[np.float64], micros: NDArray[np.int64], count: int, left: int) -> float:
    """Return a bound on the gains that at most `count` rows of at most `left` micro-dollars together can add up to: the
    Lagrangian dual, which every price of money bounds and the best one bounds closest."""
    gaining = gains > 0
    gains, usd, budget = gains[gaining], micros[gaining] / _MICROS, usd_of(left)
    if count <= 0 or not len(gains):
        return 0.0

    def dual(price: float) -> float:
        worth = np.maximum(gains - price * usd, 0)
        top = worth if count >= len(worth) else np.partition(worth, -count)[-count:]
        return price * budget + float(top.sum())

    found = dual(0.0)
    paid = usd > 0
    if paid.any():
        # The best price is at most the highest rate, and rates may be many powers of ten apart; one far below the lowest
        # rate is as good as none.
        rates = np.log(gains[paid] / usd[paid])
        powers = (float(rates.min()) + _NEAR_NOTHING, float(rates.max()))

        def dual_of_power(power: float) -> float:
            return dual(float(np.exp(power)))

        options = {"maxiter": 40, "xatol": 1e-6}
        tried = minimize_scalar(dual_of_power, bounds=powers, method="bounded", options=options)
        found = min(found, cast("OptimizeResult", tried).fun)
    return found * (1 + _ROUNDING)
