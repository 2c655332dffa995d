"""Choosing which gaps to prove: a strategy picks what is affordable, and every pick says why.

Belongs here: candidates, strategies by name, the plan and why it ends, canaries. Not here: the arithmetic of gains
(`expected_gain.py`) and of odds (`odds.py`), money already promised (`budget.py`, `resources.ledger`), turning a gap into
a configuration (`resolution.py`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlcc_dagster.core.budget import usd_of
from mlcc_dagster.core.coded_vectors import CodedVectors, Vectors
from mlcc_dagster.core.configuration import DIMENSIONS, Configuration, Vector
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.expected_gain import Offers, affordable, appraise, choose, left_micros
from mlcc_dagster.core.gaps import Gap
from mlcc_dagster.core.interaction_cover import InteractionCover
from mlcc_dagster.core.odds import SuccessOdds, Trials

MAX_PROVES_PER_RUN = 10
MAX_COST_PER_RUN_USD = 50.0
"""Bounds of one execution, unless the caller says otherwise."""

STRENGTH = 2
"""How many values the interactions have that a plan counts."""

ALL_GAPS_FILLED = "all_gaps_filled"
MAX_PROVES_REACHED = "max_proves_reached"
BUDGET_EXCEEDED = "budget_exceeded"


@dataclass(frozen=True)
class Candidate:
    """A gap made concrete: what would run, the most it can cost (price x the limits of its stages) and what it is expected
    to cost, in USD, above 0. `priority` is its place among the priority targets, from 1, none for any other gap;
    `workload` the one that a target names."""

    gap: Gap
    config_id: str
    configuration: Configuration
    promised_usd: float
    expected_usd: float
    priority: int | None = None
    workload: str | None = None


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known when a plan is made: the possible vectors, those proven, all trials in order, and the vectors that
    runs of the same execution try at this moment."""

    possible: Vectors
    proven: frozenset[Vector]
    trials: Trials
    in_flight: frozenset[Vector] = field(default_factory=frozenset)


@dataclass(frozen=True)
class Pick:
    """A chosen candidate with its rank, from 1, and in one clause why it has it.

    `odds` are those of its next run, `new` how many pairs of values it would cover that nothing proven and no pick before
    it covers (weighted by how likely those fail), `gain` the expected number (odds x new), `doubt` what weighs most on
    it, `waits` why it is not started yet.
    """

    rank: int
    candidate: Candidate
    why: str
    odds: float
    new: float
    gain: float
    doubt: str
    waits: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the pick as JSON values."""
        return {
            "rank": self.rank,
            "configuration": str(self.candidate.configuration),
            "config_id": self.candidate.config_id,
            "vector": dict(zip(DIMENSIONS, self.candidate.gap.vector.values(), strict=True)),
            "promised_usd": self.candidate.promised_usd,
            "expected_usd": self.candidate.expected_usd,
            "odds": self.odds,
            "new_pairs": self.new,
            "expected_gain": self.gain,
            "doubt": self.doubt,
            "why": self.why,
            "waits": self.waits,
        }


@dataclass(frozen=True)
class Plan:
    """What to prove next. `left_out` says per vector why not; `ended_by` is the termination reason that holds once the
    picks are made.

    `objective` is the expected number of pairs that the picks newly cover, `upper_bound` what no affordable set of
    candidates can pass, and so `proven_ratio` the share of the optimum that is certain.
    """

    strategy: str
    picks: tuple[Pick, ...]
    left_out: Mapping[Vector, str]
    ended_by: str
    objective: float
    upper_bound: float
    proven_ratio: float

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        return {
            "strategy": self.strategy,
            "ended_by": self.ended_by,
            "objective": self.objective,
            "upper_bound": self.upper_bound,
            "proven_ratio": self.proven_ratio,
            "picks": [pick.to_json() for pick in self.picks],
            "left_out": [{"vector": str(vector), "why": why} for vector, why in self.left_out.items()],
        }


@dataclass(frozen=True, eq=False)
class Board:
    """What a strategy chooses from: candidates as n rows of offers, the proven neighbours of each, the cover they are
    measured by, the rows of priority targets in their order, which come first, and the bounds of the choice."""

    offers: Offers
    neighbours: NDArray[np.int64]
    cover: InteractionCover
    max_proves: int
    max_usd: float
    first: Sequence[int] = ()

    def fitting(self, order: Sequence[int] | NDArray[np.integer]) -> list[int]:
        """Return the rows of an order that the bounds admit, each once, priority targets before all others."""
        first = np.asarray(self.first, dtype=np.int64)
        others = np.asarray(order, dtype=np.int64)
        every = np.concatenate((first, others[~np.isin(others, first)]))
        return affordable(self.offers, every, max_proves=self.max_proves, max_usd=self.max_usd)


@dataclass(frozen=True)
class Strategy:
    """A way to choose: `choose` returns the rows of a board in rank order, `explain` the clause for a pick from its
    candidate, odds and new pairs."""

    name: str
    choose: Callable[[Board], list[int]]
    explain: Callable[[Candidate, float, float], str]


def _most_neighbours(board: Board) -> list[int]:
    return board.fitting(np.argsort(-board.neighbours, kind="stable"))


def _explain_neighbours(candidate: Candidate, odds: float, new: float) -> str:
    count = candidate.gap.neighbours
    return f"{'1 proven neighbour' if count == 1 else f'{count} proven neighbours'}, {candidate.gap.reason.value}"


def _most_gain_per_usd(board: Board) -> list[int]:
    """Choose by expected gain per expected dollar; gaps that cover no new pair come after all that do, likeliest per dollar
    first: each is still a configuration that nobody has proven."""
    gaining = choose(board.cover, board.offers, max_proves=board.max_proves, max_usd=board.max_usd, first=board.first)
    if len(gaining) >= board.max_proves:
        return gaining
    rest = np.argsort(-board.offers.odds / board.offers.expected_usd, kind="stable")
    return replace(board, first=gaining).fitting(rest)


def _percent(share: float) -> str:
    """Return a share as whole percent; `<1 %` and `>99 %` where 0 or 100 would not be true."""
    if 0 < share < 0.01:
        return "<1 %"
    return ">99 %" if 0.99 < share < 1 else f"{share:.0%}".replace("%", " %")


def _explain_gain(candidate: Candidate, odds: float, new: float) -> str:
    pairs = "no new pair" if new < 0.05 else f"{new:.3g} new pair{'' if f'{new:.3g}' == '1' else 's'}"
    return (
        f"{_percent(odds)} likely to cover {pairs} for {candidate.expected_usd:.4f} USD, {candidate.gap.reason.value}"
    )


DEFAULT_STRATEGY = "expected-gain"

STRATEGIES: Mapping[str, Strategy] = MappingProxyType(
    {
        each.name: each
        for each in (
            Strategy("expected-gain", _most_gain_per_usd, _explain_gain),
            Strategy("neighbours", _most_neighbours, _explain_neighbours),
        )
    }
)


def strategy_named(name: str) -> Strategy:
    """Return the strategy of that name. Raises `UsageError` naming the known ones."""
    try:
        return STRATEGIES[name]
    except KeyError:
        raise UsageError(f"unknown strategy '{name}'; use one of {', '.join(STRATEGIES)}") from None


def plan(
    candidates: Iterable[Candidate],
    *,
    strategy: str,
    evidence: Evidence,
    max_proves: int,
    max_usd: float,
    left_out: Mapping[Vector, str] = MappingProxyType({}),
) -> Plan:
    """Pick what a budget affords: priority targets in their order, then as the strategy chooses. `max_proves` and `max_usd`
    are what is left of the execution's bounds.

    A candidate that is too dear is left out and cheaper ones behind it may still be picked: the first pick has to fit as
    every other one does. Every plan is measured by the same objective, whatever its strategy.
    """
    chooser = strategy_named(strategy)
    found = list(candidates)
    coded = CodedVectors.of(candidate.gap.vector for candidate in found)
    odds = SuccessOdds(evidence.trials)
    cover = InteractionCover(evidence.possible, evidence.proven, strength=STRENGTH)
    offers = Offers(
        cover.places(coded),
        odds.of(coded),
        np.array([candidate.expected_usd for candidate in found]),
        np.array([candidate.promised_usd for candidate in found]),
    )
    neighbours = np.array([candidate.gap.neighbours for candidate in found], dtype=np.int64)
    first = [row for _, row in sorted((c.priority, row) for row, c in enumerate(found) if c.priority is not None)]
    board = Board(offers, neighbours, cover, max_proves, max_usd, first)
    rows = chooser.choose(board)
    fixed = sum(found[row].priority is not None for row in rows)
    worth = appraise(cover, offers, rows, max_proves=max_proves, max_usd=max_usd, fixed=fixed)
    if chooser.name != DEFAULT_STRATEGY:
        # A bound found on the way of a better choice is one for every choice, and says more of a bad one.
        better = STRATEGIES[DEFAULT_STRATEGY].choose(board)
        other = appraise(cover, offers, better, max_proves=max_proves, max_usd=max_usd, fixed=fixed)
        worth = replace(worth, upper_bound=min(worth.upper_bound, other.upper_bound))
    waits = canaries([found[row].gap.vector for row in rows], evidence)
    picks = []
    for place, row in enumerate(rows):
        candidate, likely, new = found[row], float(offers.odds[row]), worth.new[place]
        target = "" if candidate.priority is None else f"priority target {candidate.priority}, "
        picks.append(
            Pick(
                rank=place + 1,
                candidate=candidate,
                why=target + chooser.explain(candidate, likely, new),
                odds=likely,
                new=new,
                gain=worth.gains[place],
                doubt=str(odds.doubt(candidate.gap.vector)),
                waits=waits[place],
            )
        )
    left_usd = usd_of(left_micros(offers, rows, max_usd))
    reasons, ended_by = _left_behind(found, rows, max_proves=max_proves, left_usd=left_usd)
    return Plan(
        chooser.name,
        tuple(picks),
        MappingProxyType({**left_out, **reasons}),
        ended_by,
        worth.objective,
        worth.upper_bound,
        worth.proven_ratio,
    )


def canaries(vectors: Sequence[Vector], evidence: Evidence) -> list[str | None]:
    """Say for each vector of a plan, in order, what it waits for, none where it may start at once.

    A value that nothing proven has may be broken as such. So the first vector that has it goes alone, as the canary, and
    the others that have it wait for its result: what one run can tell is not paid for several times.
    """
    proven_values = [set(column) for column in zip(*(each.values() for each in evidence.proven), strict=True)]
    proven_values = proven_values or [set() for _ in DIMENSIONS]
    tried: dict[tuple[int, str], str] = {}
    for each in evidence.in_flight:
        tried |= dict.fromkeys(_unproven(each, proven_values), "the run in flight")
    found: list[str | None] = []
    for rank, vector in enumerate(vectors, start=1):
        mine = _unproven(vector, proven_values)
        # What is promised already and has not begun is in flight itself, and waits for nobody.
        promised = vector in evidence.in_flight
        waiting = None if promised else next((value for value in mine if value in tried), None)
        if waiting is None:
            found.append(None)
            tried = dict.fromkeys(mine, f"pick {rank}") | tried
        else:
            axis, text = waiting
            found.append(f"waits for {tried[waiting]}, the canary of {DIMENSIONS[axis]}={text}")
    return found


def _unproven(vector: Vector, proven_values: Sequence[set[str]]) -> list[tuple[int, str]]:
    return [(axis, text) for axis, text in enumerate(vector.values()) if text not in proven_values[axis]]


def _left_behind(
    found: Sequence[Candidate], rows: Sequence[int], *, max_proves: int, left_usd: float
) -> tuple[dict[Vector, str], str]:
    """Say why the candidates that were not picked are left, and what ended the plan."""
    others = set(range(len(found))) - set(rows)
    if not others:
        return {}, ALL_GAPS_FILLED
    if len(rows) >= max_proves:
        taken = f"no more than {max(0, max_proves)} may be picked, and others come before it"
        return {found[row].gap.vector: taken for row in sorted(others)}, MAX_PROVES_REACHED
    dear = {
        found[row].gap.vector: f"may cost {found[row].promised_usd:.4f} USD and {left_usd:.4f} USD are left"
        for row in sorted(others)
    }
    return dear, BUDGET_EXCEEDED
