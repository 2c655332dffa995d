"""Choosing which gaps to prove: a strategy picks in rank order what is affordable, and every pick says why.

Belongs here: candidates, strategies by name, the plan and why it ends. Not here: money already promised (`budget.py`,
`resources.ledger`), turning a gap into a configuration (`resolution.py`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from mlcc_dagster.core.configuration import Configuration, Vector
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.gaps import Gap

MAX_PROVES_PER_RUN = 10
MAX_COST_PER_RUN_USD = 50.0
"""Bounds of one execution, unless the caller says otherwise."""

ALL_GAPS_FILLED = "all_gaps_filled"
MAX_PROVES_REACHED = "max_proves_reached"
BUDGET_EXCEEDED = "budget_exceeded"


@dataclass(frozen=True)
class Candidate:
    """A gap made concrete: what would run, and the most it can cost (USD): price x the limits of its stages. `priority`
    is its place among the priority targets, from 1, none for any other gap; `workload` the one that a target names."""

    gap: Gap
    config_id: str
    configuration: Configuration
    promised_usd: float
    priority: int | None = None
    workload: str | None = None


@dataclass(frozen=True)
class Pick:
    """A chosen candidate with its rank, from 1, and in one clause why it has it."""

    rank: int
    candidate: Candidate
    why: str


@dataclass(frozen=True)
class Plan:
    """What to prove next. `left_out` says per vector why not; `ended_by` is the termination reason once nothing more
    can be picked, none while picks remain to be made in a later plan."""

    strategy: str
    picks: tuple[Pick, ...]
    left_out: Mapping[Vector, str]
    ended_by: str


Strategy = Callable[[Sequence[Candidate]], list[tuple[Candidate, str]]]
"""Orders candidates, best first, each with the clause that explains its place."""


def by_neighbours(candidates: Sequence[Candidate]) -> list[tuple[Candidate, str]]:
    """Order as the gap list does: most proven neighbours first, ties as they come."""
    ordered = sorted(candidates, key=lambda candidate: -candidate.gap.neighbours)
    return [(c, f"{_neighbours(c.gap.neighbours)}, {c.gap.reason.value}") for c in ordered]


def _neighbours(count: int) -> str:
    return "1 proven neighbour" if count == 1 else f"{count} proven neighbours"


STRATEGIES: Mapping[str, Strategy] = MappingProxyType({"neighbours": by_neighbours})


def strategy_named(name: str) -> Strategy:
    """Return the strategy of that name. Raises `UsageError` naming the known ones."""
    try:
        return STRATEGIES[name]
    except KeyError:
        raise UsageError(f"unknown strategy '{name}'; use one of {', '.join(STRATEGIES)}") from None


def _priority_first(ranked: list[tuple[Candidate, str]]) -> list[tuple[Candidate, str]]:
    targets = sorted((each for each in ranked if each[0].priority is not None), key=lambda each: each[0].priority or 0)
    others = [each for each in ranked if each[0].priority is None]
    return [*((c, f"priority target {c.priority}, {why}") for c, why in targets), *others]


def plan(
    candidates: Iterable[Candidate],
    *,
    strategy: str,
    max_proves: int,
    max_usd: float,
    left_out: Mapping[Vector, str] = MappingProxyType({}),
) -> Plan:
    """Pick what a budget affords: priority targets in their order, then best first. `max_proves` and `max_usd` are what
    is left of the execution's bounds.

    A candidate that is too dear is left out and cheaper ones behind it may still be picked: the first pick has to fit as
    every other one does.
    """
    picks: list[Pick] = []
    reasons = dict(left_out)
    spent = 0.0
    ended_by = ALL_GAPS_FILLED
    for candidate, why in _priority_first(strategy_named(strategy)(list(candidates))):
        if len(picks) >= max_proves:
            reasons[candidate.gap.vector] = f"{max_proves} more proves are allowed and all are taken"
            ended_by = MAX_PROVES_REACHED
        elif spent + candidate.promised_usd > max_usd:
            left = max_usd - spent
            reasons[candidate.gap.vector] = f"may cost {candidate.promised_usd:.4f} USD and {left:.4f} USD are left"
            if ended_by == ALL_GAPS_FILLED:
                ended_by = BUDGET_EXCEEDED
        else:
            spent += candidate.promised_usd
            picks.append(Pick(len(picks) + 1, candidate, why))
    return Plan(strategy, tuple(picks), MappingProxyType(reasons), ended_by)
