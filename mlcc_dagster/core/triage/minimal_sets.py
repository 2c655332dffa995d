"""Which smallest part of a stack of mitigations does what the stack does.

Belongs here: what tried parts of a stack show, the smallest part that follows from them, and the part to be tried next. Not
here: trying (`resources.triage.runner`), the tag of a single cell (`confound.py`).

A stack that is credited is examined for the smallest part that cures too; one that fails more often than the baseline, for
the smallest part that triggers the failure. A part counts only with evidence: it is credited (or fails more often than the
baseline) at 5 % / (k (k + 1)), k being its place among the parts of its stack in the recipe. These add up to 5 %, so that
with a probability of 95 % no part without an effect is said to have one, however many are tried.

The search assumes that more mitigations never undo what fewer do. Then a part that is not enough excludes all below it, so one of
the mitigations that it lacks is needed: every part that is enough hits all of these lacks, and the smallest one that does is
tried next. When it is enough, no smaller one can be. First each mitigation is left out in turn, which at once shows all that are
needed in any case. Sources: R. Reiter, "A theory of diagnosis from first principles" (1987), for hitting sets; A. Zeller and R.
Hildebrandt, "Simplifying and isolating failure-inducing input" (2002), for the question.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from mlcc_dagster.core.triage.anytime import e_value, failures
from mlcc_dagster.core.triage.cell_evidence import SIGNIFICANCE, fisher_less
from mlcc_dagster.core.triage.confound import Assessment, Tag
from mlcc_dagster.core.triage.names import LONGEST_NAME, folder_name
from mlcc_dagster.core.triage.recipe import NO_MITIGATION, Cell, Recipe
from mlcc_dagster.core.triage.statistics import CellStatistics
from mlcc_dagster.core.triage.trials import TrialResult

MOST_STACKED = 12
"""Mitigations of a stack that is examined; beyond it there are too many parts."""

Part = frozenset[str]


class Effect(StrEnum):
    """What a stack does that its parts are asked for."""

    CURES = "cures"
    TRIGGERS = "triggers"


class Finding(StrEnum):
    """What a tried part shows. `LACKS`: it does less than the whole stack, with evidence. `UNDECIDED`: nothing is shown either
    way; the search goes on as if it were not enough, and says so."""

    ENOUGH = "enough"
    LACKS = "lacks"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class TriedPart:
    """A tried part of a stack, with the cell that it was tried in. `p_value` compares it with the baseline, `level` is what it
    is held to; `p_stack` compares it with the whole stack."""

    mitigations: Part
    cell: str
    finding: Finding
    p_value: float
    level: float
    p_stack: float

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "mitigations": sorted(self.mitigations),
            "cell": self.cell,
            "finding": self.finding.value,
            "p_value": self.p_value,
            "level": self.level,
            "p_value_against_stack": self.p_stack,
        }


@dataclass(frozen=True)
class Minimum:
    """What is known of a stack. `smallest` are the smallest parts that are known to be enough, the whole stack at
    worst; `proven` says that every smaller one is excluded, each by evidence; `needed` are the mitigations without which the
    stack is shown to do less; `following` is the part to be tried next, none when nothing is left to learn; `doubts` are
    clauses on what the answer rests on."""

    cell: str
    stack: tuple[str, ...]
    effect: Effect
    parts: tuple[TriedPart, ...]
    smallest: tuple[Part, ...]
    proven: bool
    needed: tuple[str, ...]
    following: tuple[str, ...] | None
    doubts: tuple[str, ...]

    def line(self) -> str:
        """Return the answer in one sentence."""
        found = " or ".join(", ".join(name for name in self.stack if name in part) for part in self.smallest)
        verb = self.effect.value.removesuffix("s")
        if self.proven:
            said = f"of {', '.join(self.stack)} the smallest part that {self.effect.value} is {found}"
        else:
            said = f"of {', '.join(self.stack)} the smallest part known to {verb} is {found}"
        tried = ", ".join(
            f"{'+'.join(name for name in self.stack if name in part.mitigations)} {part.finding.value}"
            for part in self.parts
        )
        needed = f"; without {' or '.join(self.needed)} it does less" if self.needed else ""
        following = "" if self.following is None else f"; to be tried next: {', '.join(self.following)}"
        doubts = "".join(f"; {doubt}" for doubt in self.doubts)
        return f"{said}{needed}{f' (tried: {tried})' if tried else ''}{following}{doubts}"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "cell": self.cell,
            "stack": list(self.stack),
            "effect": self.effect.value,
            "smallest": [[name for name in self.stack if name in part] for part in self.smallest],
            "proven": self.proven,
            "needed": list(self.needed),
            "next": None if self.following is None else list(self.following),
            "doubts": list(self.doubts),
            "parts": [part.to_json() for part in self.parts],
        }


@dataclass(frozen=True)
class Measured:
    """What was measured of a recipe's cells, by name, and which of them is the baseline. `adaptive` says that the numbers of
    trials depended on what they said."""

    trials: Mapping[str, Sequence[TrialResult]]
    statistics: Mapping[str, CellStatistics]
    assessments: Mapping[str, Assessment]
    baseline: str
    adaptive: bool = False

    def p_value(self, lower: str, higher: str) -> float:
        """Return how likely chance alone makes one cell fail so much less often than the other: Fisher's p-value, or, where
        trials were shared out adaptively, 1 over the e-value, which holds however they were."""
        less, more = self.statistics[lower], self.statistics[higher]
        if not less.verdicts or not more.verdicts:
            return 1.0
        if self.adaptive:
            return 1 / e_value(failures(self.trials[higher]), failures(self.trials[lower]))
        return fisher_less(less.failed, less.verdicts, more.failed, more.verdicts)

    def effect_p_value(self, cell: str, effect: Effect, beside: str) -> float:
        """Return how likely chance alone makes a cell show so much more of an effect than another one."""
        return self.p_value(cell, beside) if effect is Effect.CURES else self.p_value(beside, cell)


def minima(recipe: Recipe, measured: Measured) -> tuple[Minimum, ...]:
    """Return what is known of every stack that has an effect and is no part of another one that has it under otherwise equal
    conditions, in the order of the recipe."""
    effects = {
        cell.name: effect
        for cell in recipe.cells
        if 2 <= len(cell.mitigations) <= MOST_STACKED
        and cell.name != measured.baseline
        and (effect := _effect(cell.name, measured)) is not None
    }
    stacks = [cell for cell in recipe.cells if cell.name in effects]
    return tuple(
        _minimum(recipe, stack, effects[stack.name], measured)
        for stack in stacks
        if not any(
            _below(stack, other) and effects[stack.name] is effects[other.name]
            for other in stacks
            if other is not stack
        )
    )


def part_cell(stack: Cell, part: Sequence[str], taken: Sequence[str]) -> Cell:
    """Return the cell that tries a part of a stack: as the stack's cell is but for its mitigations, under a name that is not
    taken."""
    name = folder_name(f"{stack.name}.only-{'.'.join(part)}")[: LONGEST_NAME - 4]
    others = {each.casefold() for each in taken}
    numbered = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    free = next(each for each in numbered if each.casefold() not in others)
    return replace(stack, name=free, mitigations=tuple(part))


def strictest_level(recipe: Recipe, cell: Cell) -> float:
    """Return what a cell is held to at most, as a part of any stack of its recipe; `SIGNIFICANCE` where it is none of any."""
    places = [
        1 + sum(_below(other, stack) for other in recipe.cells[: recipe.cells.index(cell)])
        for stack in recipe.cells
        if _below(cell, stack)
    ]
    return min((_level(place) for place in places), default=SIGNIFICANCE)


def _level(place: int) -> float:
    """Return what the part at a place, from 1, is held to; over all places these add up to `SIGNIFICANCE`."""
    return SIGNIFICANCE / (place * (place + 1))


def _below(cell: Cell, stack: Cell) -> bool:
    """Whether a cell tries a part of a stack under otherwise equal conditions."""
    own = frozenset(cell.mitigations) - {NO_MITIGATION}
    whole = frozenset(stack.mitigations) - {NO_MITIGATION}
    alike = (cell.environment, cell.extra_env, cell.config, cell.steps) == (
        stack.environment,
        stack.extra_env,
        stack.config,
        stack.steps,
    )
    return alike and bool(own) and own < whole


def _effect(cell: str, measured: Measured) -> Effect | None:
    if measured.assessments[cell].tag is Tag.CREDITED:
        return Effect.CURES
    if measured.statistics[cell].unreliable or measured.statistics[measured.baseline].unreliable:
        return None
    triggers = measured.effect_p_value(cell, Effect.TRIGGERS, measured.baseline) <= SIGNIFICANCE
    return Effect.TRIGGERS if triggers else None


def _minimum(recipe: Recipe, stack: Cell, effect: Effect, measured: Measured) -> Minimum:
    names = tuple(name for name in stack.mitigations if name != NO_MITIGATION)
    tried_in = [cell for cell in recipe.cells if cell.name != measured.baseline and _below(cell, stack)]
    parts = [_tried(cell, stack, effect, measured, _level(place)) for place, cell in enumerate(tried_in, start=1)]
    whole = frozenset(names)
    enough = [part.mitigations for part in parts if part.finding is Finding.ENOUGH]
    # one direct finding counts for more than what follows from the assumption
    lacking = [
        part.mitigations
        for part in parts
        if part.finding is not Finding.ENOUGH and not any(each <= part.mitigations for each in enough)
    ]
    undone = [part for part in parts if part.finding is Finding.LACKS and any(e < part.mitigations for e in enough)]
    fewest = min((len(each) for each in enough), default=len(whole))
    smallest = tuple(dict.fromkeys(each for each in enough if len(each) == fewest)) or (whole,)
    candidate = _smallest_hitting(names, [whole, *(whole - each for each in lacking)])
    settled = len(candidate) >= fewest
    following = None
    if not settled:
        tried = {part.mitigations for part in parts}
        left_out = [whole - {name} for name in names]
        open_ones = [each for each in left_out if each not in tried and not any(e <= each for e in enough)]
        chosen = open_ones[0] if open_ones else candidate
        following = tuple(name for name in names if name in chosen)
    doubts = [
        f"{_named(names, part.mitigations)} is undecided and taken as not enough"
        for part in parts
        if part.finding is Finding.UNDECIDED and part.mitigations in lacking
    ]
    proven = settled and not doubts
    doubts += [
        f"{_named(names, part.mitigations)} does less than a part of it: more undoes what fewer do" for part in undone
    ]
    needed = tuple(
        name for name in names if any(p.mitigations == whole - {name} and p.finding is Finding.LACKS for p in parts)
    )
    return Minimum(stack.name, names, effect, tuple(parts), smallest, proven, needed, following, tuple(doubts))


def _tried(cell: Cell, stack: Cell, effect: Effect, measured: Measured, level: float) -> TriedPart:
    p_value = measured.effect_p_value(cell.name, effect, measured.baseline)
    p_stack = measured.effect_p_value(stack.name, effect, cell.name)
    shown = p_value <= level and not measured.statistics[cell.name].unreliable
    if effect is Effect.CURES:
        # a part that is only slower is no cure
        shown = shown and measured.assessments[cell.name].tag is Tag.CREDITED
    finding = Finding.ENOUGH if shown else Finding.LACKS if p_stack <= SIGNIFICANCE else Finding.UNDECIDED
    mitigations = frozenset(cell.mitigations) - {NO_MITIGATION}
    return TriedPart(mitigations, cell.name, finding, p_value, level, p_stack)


def _smallest_hitting(names: Sequence[str], sets: Sequence[Part]) -> Part:
    """Return the smallest part that has a member of every set, the first in the order of the names of several."""
    return next(
        frozenset(chosen)
        for size in range(1, len(names) + 1)
        for chosen in itertools.combinations(names, size)
        if all(each & frozenset(chosen) for each in sets)
    )


def _named(names: Sequence[str], part: Part) -> str:
    return "+".join(name for name in names if name in part)
