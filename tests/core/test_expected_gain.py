"""What a set of attempts is worth, the greedy choice and its bound, each against counting every case."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from some_vectors import BASE, alone, combinations, vector

from mlcc_dagster.core import expected_gain
from mlcc_dagster.core.budget import micros_ceiling, micros_promised
from mlcc_dagster.core.configuration import Vector
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.expected_gain import Appraisal, Offers, affordable, appraise, choose
from mlcc_dagster.core.interaction_cover import InteractionCover
from mlcc_dagster.core.interactions import Interaction

GUARANTEE = (1 - 1 / np.e) / 2
"""Of greedy choice with the best single one, where only the budget binds and prices are what is promised."""


@dataclass(frozen=True)
class Case:
    """A small choice: rows of (vector, odds, expected USD, promised USD), what is proven, the bounds, the given rows."""

    rows: tuple[tuple[Vector, float, float, float], ...]
    proven: tuple[Vector, ...] = ()
    max_proves: int = 10
    max_usd: float = 50.0
    first: tuple[int, ...] = ()

    @property
    def vectors(self) -> list[Vector]:
        return [row[0] for row in self.rows]

    @property
    def cover(self) -> InteractionCover:
        return InteractionCover([*self.vectors, *self.proven], self.proven)

    @property
    def offers(self) -> Offers:
        odds, expected, promised = (np.array([row[axis] for row in self.rows], dtype=float) for axis in (1, 2, 3))
        return Offers(self.cover.places(self.vectors), odds, expected, promised)

    def chosen(self) -> list[int]:
        return choose(self.cover, self.offers, max_proves=self.max_proves, max_usd=self.max_usd, first=self.first)

    def appraised(self, rows: Sequence[int], *, fixed: int = 0) -> Appraisal:
        return appraise(self.cover, self.offers, rows, max_proves=self.max_proves, max_usd=self.max_usd, fixed=fixed)

    @cached_property
    def open(self) -> list[set[Interaction]]:
        """Per row the combinations that nothing proven covers."""
        covered = combinations(self.proven)
        return [combinations([each]) - covered for each in self.vectors]

    def worth(self, rows: Sequence[int]) -> float:
        """The expected number of combinations that attempts cover, summed over combinations."""
        uncovered: dict[Interaction, float] = {}
        for row in rows:
            for one in self.open[row]:
                uncovered[one] = uncovered.get(one, 1.0) * (1 - self.rows[row][1])
        return sum(1 - likely for likely in uncovered.values())

    def fits(self, rows: Sequence[int]) -> bool:
        """Whether the ledger would promise all of these."""
        promised = sum(micros_promised(self.rows[row][3]) for row in rows)
        return len(rows) <= self.max_proves and promised <= micros_ceiling(round(self.max_usd, 9))

    def optimum(self, given: Sequence[int] = ()) -> float:
        """The most that any affordable set with the given rows is worth."""
        others = [row for row in range(len(self.rows)) if row not in given]
        return max(
            (
                self.worth([*given, *more])
                for count in range(len(others) + 1)
                for more in itertools.combinations(others, count)
                if self.fits([*given, *more])
            ),
            default=0.0,
        )


SHAPES = st.lists(st.sampled_from([1, 1, 2, 3]), min_size=6, max_size=6)
WHOLE = st.sampled_from([1.0, 2.0, 4.0, 0.5, 0.25])
"""Odds and prices of which all sums, products and ratios are exact."""
CENTS = st.integers(1, 500).map(lambda cents: cents / 100)
ANY_USD = st.one_of(CENTS, st.sampled_from([1e-6, 1e-9, 0.1, 0.2, 0.3, 1e6]), st.floats(1e-4, 9, allow_subnormal=False))
ANY_ODDS = st.one_of(st.sampled_from([0.0, 1.0, 0.5]), st.floats(0, 1, allow_subnormal=False))


@st.composite
def cases(
    draw: st.DrawFn,
    *,
    odds: st.SearchStrategy[float],
    usd: st.SearchStrategy[float],
    most: int = 6,
    only_budget: bool = False,
) -> Case:
    shape = draw(SHAPES)
    vectors = st.tuples(*(st.sampled_from([f"{axis}{n}" for n in range(size)]) for axis, size in enumerate(shape)))
    drawn = draw(st.lists(st.tuples(vectors, odds, usd, usd), max_size=most))
    # the same vector twice is a case too: a second attempt may pass where the first failed
    rows = tuple(
        (Vector(*values), p, promised if only_budget else expected, promised) for values, p, expected, promised in drawn
    )
    total = sum(promised for *_, promised in rows)
    case = Case(
        rows,
        tuple(Vector(*values) for values in draw(st.lists(vectors, max_size=2))),
        len(rows) if only_budget else draw(st.integers(0, most + 1)),
        draw(st.one_of(st.floats(0, 1).map(lambda part: part * total), usd, st.just(0.0))),
    )
    if only_budget or not rows:
        return case
    return replace(case, first=tuple(draw(st.lists(st.sampled_from(range(len(rows))), max_size=2, unique=True))))


@settings(max_examples=60, deadline=None)
@given(cases(odds=ANY_ODDS, usd=CENTS, most=5))
def test_the_objective_is_the_expectation_over_every_pattern_of_successes(case: Case) -> None:
    rows = range(len(case.rows))
    expectation = 0.0
    for passed in itertools.product((False, True), repeat=len(rows)):
        likely = math.prod(odds if ok else 1 - odds for (_, odds, _, _), ok in zip(case.rows, passed, strict=True))
        covered: set[Interaction] = set().union(*(mine for mine, ok in zip(case.open, passed, strict=True) if ok))
        expectation += likely * len(covered)
    found = case.appraised(rows)
    assert found.objective == pytest.approx(expectation, abs=1e-9)
    assert found.objective == pytest.approx(case.worth(rows), abs=1e-9)
    assert found.rows == tuple(rows)
    for place, (new, gain) in enumerate(zip(found.new, found.gains, strict=True)):
        assert gain == pytest.approx(case.worth(rows[: place + 1]) - case.worth(rows[:place]), abs=1e-9)
        assert gain == pytest.approx(case.rows[place][1] * new, abs=1e-9)


def plain_greedy(case: Case, chosen: Sequence[int]) -> list[int]:
    """Every row anew at every step: the highest odds x gain / expected price, the first of equals."""
    found = list(chosen)
    while True:
        now = case.worth(found)
        rates = {
            row: (case.worth([*found, row]) - now) / case.rows[row][2]
            for row in range(len(case.rows))
            if row not in found and case.fits([*found, row])
        }
        if max(rates.values(), default=0.0) <= 0:
            return found
        found.append(max(rates, key=lambda row: rates[row]))


def plain_choice(case: Case) -> list[int]:
    """The rule of choice in its own words."""
    given: list[int] = []
    for row in case.first:
        if case.fits([*given, row]):
            given.append(row)
    greedy = plain_greedy(case, given)
    now = case.worth(given)
    alone = {
        row: case.worth([*given, row]) for row in range(len(case.rows)) if row not in given and case.fits([*given, row])
    }
    if len(greedy) < case.max_proves and max(alone.values(), default=now) > case.worth(greedy):
        return plain_greedy(case, [*given, max(alone, key=lambda row: alone[row])])
    return greedy


@pytest.mark.parametrize("block", [1, 2, 3, 1024])
def test_lazy_greedy_choice_is_plain_greedy_choice_with_ties_to_the_first_row(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expected_gain, "_BLOCK", block)

    @settings(max_examples=60, deadline=None)
    @given(cases(odds=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), usd=WHOLE, most=9))
    def check(case: Case) -> None:
        assert case.chosen() == plain_choice(case)

    check()


@pytest.mark.parametrize("block", [1, 2, 3, 4, 7])
def test_equal_rows_are_taken_in_their_order_whatever_is_looked_at_first(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expected_gain, "_BLOCK", block)
    twins = tuple((alone(f"v{n // 2}"), 0.5, 1.0, 1.0) for n in range(24))
    # First one of each pair of twins, then their second attempts, which have half as much to gain.
    assert Case(twins, max_proves=24).chosen() == [*range(0, 24, 2), *range(1, 24, 2)]


@settings(max_examples=250, deadline=None)
@given(cases(odds=ANY_ODDS, usd=ANY_USD))
def test_the_bound_is_never_below_the_best_affordable_set(case: Case) -> None:
    rows = case.chosen()
    fixed = [row for row in rows if row in case.first]
    found = case.appraised(rows, fixed=len(fixed))
    best = case.optimum(fixed)
    assert found.objective <= best + 1e-9
    assert found.upper_bound >= best - 1e-9
    assert 0 <= found.proven_ratio <= 1
    assert found.objective >= found.proven_ratio * best - 1e-9


@settings(max_examples=60, deadline=None)
@given(cases(odds=ANY_ODDS, usd=ANY_USD, most=5), st.data())
def test_the_bound_holds_for_any_choice_not_only_the_greedy_one(case: Case, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(case.rows))))
    rows = affordable(case.offers, order, max_proves=case.max_proves, max_usd=case.max_usd)
    found = case.appraised(rows)
    assert found.objective - 1e-9 <= case.optimum() <= found.upper_bound + 1e-9


@settings(max_examples=100, deadline=None)
@given(cases(odds=ANY_ODDS, usd=CENTS, only_budget=True))
def test_a_choice_that_only_the_budget_binds_keeps_its_guaranteed_share_of_the_optimum(case: Case) -> None:
    rows = case.chosen()
    assert case.worth(rows) >= GUARANTEE * case.optimum() - 1e-9


@settings(max_examples=100, deadline=None)
@given(cases(odds=ANY_ODDS, usd=ANY_USD, most=9))
def test_no_choice_passes_its_bounds_and_given_rows_come_first(case: Case) -> None:
    rows = case.chosen()
    assert case.fits(rows)
    assert len(set(rows)) == len(rows)
    given = affordable(case.offers, case.first, max_proves=case.max_proves, max_usd=case.max_usd)
    assert rows[: len(given)] == given
    gains = case.appraised(rows, fixed=len(given)).gains
    assert all(gain > 0 for gain in gains[len(given) :])


def row(
    name: str, usd: float, *, odds: float = 1.0, expected: float | None = None
) -> tuple[Vector, float, float, float]:
    """An attempt that shares no value with others: 15 combinations."""
    return alone(name), odds, usd if expected is None else expected, usd


def pairs(many: int) -> list[tuple[Vector, float, float, float]]:
    """Attempts of which each adds five pairs to a proven base."""
    return [(vector(tp_degree=str(100 + n)), 1.0, 0.01, 0.01) for n in range(many)]


CHOICES = [
    ("the best rate first", [row("a", 2), row("b", 1), row("c", 4)], {}, [1, 0, 2]),
    ("odds count as gain does", [row("a", 1, odds=0.4), row("b", 2, odds=1), row("c", 1, odds=0.6)], {}, [2, 1, 0]),
    ("the expected price ranks and not the promised one", [row("a", 1, expected=1), row("b", 9, expected=0.5)], {}, [1, 0]),
    ("ties keep their order", [row("a", 1), row("b", 1), row("c", 1)], {}, [0, 1, 2]),
    ("what teaches nothing is not chosen", [(BASE, 1.0, 1.0, 1.0), row("a", 1)], {"proven": (BASE,)}, [1]),
    ("what cannot pass is not chosen", [row("a", 1, odds=0), row("b", 1)], {}, [1]),
    ("a sure attempt is not made twice", [row("a", 1), row("a", 1)], {}, [0]),
    ("an unsure one may be", [row("a", 1, odds=0.5), row("a", 1, odds=0.5)], {}, [0, 1]),
    ("what is too dear is passed over", [row("a", 6, expected=0.1), row("b", 5)], {"max_usd": 5}, [1]),
    ("the first pick has to fit too", [row("a", 6)], {"max_usd": 5}, []),
    ("exactly the budget fits", [row("a", 0.1), row("b", 0.1), row("c", 0.1)], {"max_usd": 0.3}, [0, 1, 2]),
    ("so it does after a subtraction", [row("a", 0.1)], {"max_usd": 1 - 0.9}, [0]),
    ("a micro-dollar above does not", [row("a", 0.300001)], {"max_usd": 0.3}, []),
    ("part of a micro-dollar is promised as a whole one", [row("a", 0.2999991)], {"max_usd": 0.299999}, []),
    ("no money", [row("a", 1)], {"max_usd": 0}, []),
    ("more was used than there was", [row("a", 1)], {"max_usd": -3.5}, []),
    ("no count", [row("a", 1)], {"max_proves": 0}, []),
    ("more was tried than is allowed", [row("a", 1)], {"max_proves": -1}, []),
    ("nothing to choose from", [], {}, []),
    ("given rows come first whatever they teach", [row("a", 1), (BASE, 1.0, 9.0, 9.0)], {"first": (1,), "proven": (BASE,)}, [1, 0]),
    ("given rows keep their order", [row("a", 1), row("b", 2), row("c", 3)], {"first": (2, 1)}, [2, 1, 0]),
    ("a given row that does not fit is left out", [row("a", 1), row("b", 60)], {"first": (1,)}, [0]),
    ("given rows use up the count", [row("a", 1), row("b", 2)], {"first": (1,), "max_proves": 1}, [1]),
    ("given rows use up the money", [row("a", 1), row("b", 2)], {"first": (1,), "max_usd": 2}, [1]),
    ("the best single where cheap rates would spoil the money",
     [*pairs(1), row("a", 10)], {"proven": (BASE,), "max_usd": 10}, [1]),
    ("and then what the rest of the money affords",
     [*pairs(1), row("a", 10), row("b", 0.005, odds=0.1)], {"proven": (BASE,), "max_usd": 10.005}, [1, 2]),
    ("not where the count ends the choice",
     [*pairs(1), row("a", 10)], {"proven": (BASE,), "max_usd": 10, "max_proves": 1}, [0]),
    ("not where many cheap ones are worth more",
     [*pairs(4), row("a", 10)], {"proven": (BASE,), "max_usd": 10}, [0, 1, 2, 3]),
    ("a price next to nothing and a huge one", [row("a", 1e6, expected=1e-9), row("b", 1e-9)], {"max_usd": 1e6}, [0]),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "bounds", "expected"), [pytest.param(r, b, e, id=why) for why, r, b, e in CHOICES])
def test_what_is_chosen(rows: list, bounds: dict, expected: list[int]) -> None:
    assert Case(tuple(rows), **bounds).chosen() == expected


BOUNDS = [
    ("nothing to gain is the whole of it", [], {}, 0, 0),
    ("no money is nothing to gain", [row("a", 1)], {"max_usd": 0}, 0, 0),
    ("no count is nothing to gain", [row("a", 1)], {"max_proves": 0}, 0, 0),
    ("all that there is", [row("a", 1, odds=0.5), row("b", 1, odds=0.5)], {}, 15, 15),
    ("all that there is, twice over", [row("a", 1, odds=0.5), row("a", 1, odds=0.5)], {}, 11.25, 11.25),
    ("the best of equals", [row(str(n), 1, odds=0.5) for n in range(8)], {"max_proves": 2}, 15, 15),
    ("the money for two of them", [row(str(n), 1, odds=0.5) for n in range(8)], {"max_usd": 2}, 15, 15),
    ("prices ten powers of ten apart", [*(row(str(n), 1000, odds=0.5) for n in range(8)), row("x", 1e-6)],
     {"max_usd": 2000.000001}, 30, 30),
    ("low rates beside high ones",
     [row(str(n), 1, odds=odds) for n, odds in enumerate([1.0] * 8 + [0.1] * 8)], {"max_usd": 2}, 30, 30),
    ("count and money bind together", [row(str(n), 10) for n in range(3)] + [row(f"x{n}", 1, odds=0.8) for n in range(3)],
     {"max_proves": 2, "max_usd": 11}, 24, 27),
    ("a part of the dear one is counted", [row("a", 1), row("b", 1.5)], {"max_usd": 2}, 15, 15 + 15 / 1.5),
    ("what is too dear for all the money is not counted", [row("a", 1), row("b", 3)], {"max_usd": 2}, 15, 15),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "bounds", "objective", "bound"), [pytest.param(r, b, o, u, id=why) for why, r, b, o, u in BOUNDS]
)
def test_how_close_the_bound_is(rows: list, bounds: dict, objective: float, bound: float) -> None:
    case = Case(tuple(rows), **bounds)
    found = case.appraised(case.chosen())
    assert found.objective == pytest.approx(objective)
    assert found.upper_bound == pytest.approx(bound, rel=1e-4)
    assert found.proven_ratio == pytest.approx(objective / bound if bound else 1.0, rel=1e-4)


def test_what_a_choice_covers_is_not_counted_again_in_the_bound() -> None:
    case = Case((row("a", 1), row("a", 1), row("b", 1, odds=0.5)), max_proves=2)
    found = case.appraised([0])
    assert (found.objective, case.optimum()) == (15, 22.5)
    assert found.upper_bound == pytest.approx(22.5)


def test_the_bound_speaks_of_what_is_free_to_choose() -> None:
    case = Case((row("a", 1), row("b", 1, odds=0.2), row("c", 1)), max_proves=2)
    assert case.appraised([1, 0]).upper_bound == pytest.approx(30)
    assert case.appraised([1, 0], fixed=1).upper_bound == pytest.approx(3 + 15)
    assert case.appraised([1, 0], fixed=1).proven_ratio == pytest.approx(1)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(CENTS, st.integers(0, 10**12).map(lambda micros: micros / 1e6), st.just(0.0)), max_size=8))
def test_promises_are_counted_as_the_ledger_counts_them(promised: list[float]) -> None:
    nothing = np.zeros(len(promised))
    offers = Offers(np.zeros((len(promised), 15), np.int64), nothing, nothing + 1, np.array(promised, dtype=float))
    assert offers.promised_micros.tolist() == [micros_promised(usd) for usd in promised]


@pytest.mark.parametrize("usd", [-0.01, math.nan, math.inf])
def test_a_promise_that_is_no_amount_of_money_is_refused(usd: float) -> None:
    with pytest.raises(UsageError, match="no amount of money"):
        Case((row("a", 1), row("b", usd, expected=1))).chosen()
