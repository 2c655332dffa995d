"""How often the two rules of the gate are right and wrong, in simulated evaluations whose truth is known.

Belongs here: drawing evaluations of a design, and the rates of each verdict. Not here: the rules themselves (`gate.py`,
`noninferiority.py`), showing the rates.

Both rules look at differences alone, so no accuracy is drawn: each item is gained, lost or unchanged. An item may be in one
bucket of each of several families (a tense, a person, a verb), which makes buckets depend on each other as in a real set.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from mlcc_dagster.core.exceptions import InvalidInput
from mlcc_dagster.core.gate import SLACK
from mlcc_dagster.core.noninferiority import ALPHA, POWER, critical_score, items_for_power
from mlcc_dagster.core.paired_scores import score

MOST_CELLS = 200_000_000
"""Simulated answers of one scenario: more would take minutes and gigabytes."""

_CHUNK = 20_000_000
"""Answers that are drawn at a time."""


@dataclass(frozen=True)
class Design:
    """An evaluation to be simulated: `buckets` of `items` each in `families`; a share `flips` of the answers changes (more where
    the true difference needs it); `tolerance` is what may be lost. Raises `InvalidInput` with every mistake."""

    buckets: int
    items: int
    flips: float
    tolerance: float
    families: int = 1
    alpha: float = ALPHA

    def __post_init__(self) -> None:
        problems = []
        if not 1 <= self.buckets <= 200:
            problems.append(f"--buckets must be from 1 to 200, not {self.buckets}")
        if not 1 <= self.items <= 1_000_000:
            problems.append(f"--items must be from 1 to 1000000, not {self.items}")
        if not 0 < self.tolerance <= 0.2:
            problems.append(f"--tolerance must be above 0 and at most 0.2, not {self.tolerance}")
        if not 0 < self.flips <= 1:
            problems.append(f"--flips must be above 0 and at most 1, not {self.flips}")
        if self.families < 1 or self.buckets % max(1, self.families):
            problems.append(f"--families must divide the {self.buckets} buckets, and {self.families} does not")
        if problems:
            raise InvalidInput("the design", problems)

    @property
    def total(self) -> int:
        """Different items of the set."""
        return self.items * (self.buckets // self.families)


@dataclass(frozen=True)
class Rates:
    """How often each rule gave each verdict in `simulations` of a scenario; `worst_passed` how often some bucket that is worse by
    the tolerance or more got PASS (rule noninferiority)."""

    scenario: str
    items: int
    simulations: int
    fixed_promoted: float
    promoted: float
    blocked: float
    inconclusive: float
    worst_passed: float

    def to_json(self) -> dict[str, Any]:
        """Return the rates by rule."""
        return {
            "scenario": self.scenario,
            "items": self.items,
            "simulations": self.simulations,
            "fixed": {"promote": self.fixed_promoted, "blocked": 1 - self.fixed_promoted},
            "noninferiority": {
                "promote": self.promoted,
                "blocked": self.blocked,
                "inconclusive": self.inconclusive,
                "worst_bucket_passes": self.worst_passed,
            },
        }


def bounds(rate: float, simulations: int) -> tuple[float, float]:
    """Return where a true rate may lie when `rate` was seen, at 95 % (Clopper and Pearson's exact interval)."""
    seen = round(rate * simulations)
    low = 0.0 if seen == 0 else float(stats.beta.ppf(0.025, seen, simulations - seen + 1))
    high = 1.0 if seen == simulations else float(stats.beta.ppf(0.975, seen + 1, simulations - seen))
    return low, high


def planned_items(design: Design, power: float = POWER) -> int | None:
    """Return the items per bucket that the gate would ask for in this design (see `items_for_power`)."""
    return items_for_power(
        design.flips, margin=design.tolerance, buckets=design.buckets, alpha=design.alpha, power=power
    )


def scenarios(design: Design) -> dict[str, list[float]]:
    """Return the true difference of each bucket by scenario: equal; one bucket worse by the tolerance, by twice that; all
    worse by the tolerance."""
    others = [0.0] * (design.buckets - 1)
    return {
        "equal": [0.0, *others],
        "one bucket at the tolerance": [-design.tolerance, *others],
        "one bucket twice as bad": [-2 * design.tolerance, *others],
        "all buckets at the tolerance": [-design.tolerance] * design.buckets,
    }


def simulate(design: Design, scenario: str, differences: Sequence[float], *, simulations: int, seed: int) -> Rates:
    """Simulate evaluations of one scenario; the same seed gives the same rates.

    Only the differences of the first family are as given; the buckets of others get what their items bring with them. Raises
    `InvalidInput` where it would be too much.
    """
    if simulations < 1 or simulations * design.total > MOST_CELLS:
        raise InvalidInput(
            "the design",
            [
                f"{simulations} simulations of {design.total} items cannot be made; use from 1 to "
                f"{MOST_CELLS // design.total}"
            ],
        )
    chance = np.random.default_rng([seed, *scenario.encode()])
    per_family = design.buckets // design.families
    memberships = _memberships(design, np.random.default_rng([seed, design.total]))
    difference = np.array(differences)[memberships[0]]
    # a bucket cannot lose more than it changes
    changing = np.maximum(design.flips, np.abs(difference))
    gaining = (changing + difference) / 2
    inside = np.zeros((design.total, design.buckets), dtype=np.float32)
    for family, buckets in enumerate(memberships):
        inside[np.arange(design.total), family * per_family + buckets] = 1
    true = difference @ inside / design.items
    gained, lost = [], []
    step = max(1, _CHUNK // design.total)
    for start in range(0, simulations, step):
        drawn = chance.random((min(step, simulations - start), design.total), dtype=np.float32)
        gained.append((drawn < gaining).astype(np.float32) @ inside)
        lost.append((drawn >= 1 - (changing - gaining)).astype(np.float32) @ inside)
    return _rates(design, scenario, np.rint(np.vstack(gained)), np.rint(np.vstack(lost)), true)


def _memberships(design: Design, chance: np.random.Generator) -> list[NDArray[np.int64]]:
    """Return for each family the bucket (within it) of each item: all buckets of `items`, families independent of each other."""
    per_family = design.buckets // design.families
    first = np.repeat(np.arange(per_family), design.items)
    return [first, *(chance.permutation(first) for _ in range(design.families - 1))]


def _rates(
    design: Design, scenario: str, gained: NDArray[np.float64], lost: NDArray[np.float64], true: NDArray[np.float64]
) -> Rates:
    kept = gained - lost >= -(design.tolerance + SLACK) * design.items
    scores = score(gained, lost, design.items, -design.tolerance)
    levels = [design.alpha / (design.buckets - rank) for rank in range(design.buckets)]
    passing = _rejected(-scores, [-critical_score(design.items, design.tolerance, level) for level in levels])
    failing = _rejected(
        scores, [critical_score(design.items, design.tolerance, level, upper=False) for level in levels]
    )
    blocked, promoted = failing.any(axis=1), passing.all(axis=1)
    bad = true <= -design.tolerance + SLACK
    return Rates(
        scenario=scenario,
        items=design.items,
        simulations=len(scores),
        fixed_promoted=float(kept.all(axis=1).mean()),
        promoted=float(promoted.mean()),
        blocked=float(blocked.mean()),
        inconclusive=float((~promoted & ~blocked).mean()),
        worst_passed=float(passing[:, bad].any(axis=1).mean()) if bad.any() else 0.0,
    )


def _rejected(scores: NDArray[np.float64], limits: Sequence[float]) -> NDArray[np.bool_]:
    """Return what Holm rejects: the lowest score against the first limit, the next against the second, until one is above."""
    order = np.argsort(scores, axis=1)
    ordered = np.take_along_axis(scores, order, axis=1) <= np.array(limits)
    rejected = np.zeros_like(ordered)
    np.put_along_axis(rejected, order, np.logical_and.accumulate(ordered, axis=1), axis=1)
    return rejected
