"""Smallest parts of stacks: found among all parts, with evidence, and with few further cells."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_cells import counted

from mlcc_dagster.core.triage.confound import assess
from mlcc_dagster.core.triage.minimal_sets import Effect, Finding, Measured, Minimum, minima, part_cell, strictest_level
from mlcc_dagster.core.triage.recipe import Recipe
from mlcc_dagster.core.triage.recipe_reading import read_recipe
from mlcc_dagster.core.triage.statistics import statistics_of

TRIALS = 32
Rate = Callable[[frozenset[str]], float]


def recipe(*stacks: str, **changes: Any) -> Recipe:
    """A baseline, and a cell for each stack, whose mitigations are its letters."""
    cells = [{"name": "base", "mitigations": ["none"], "environment": "local"}]
    cells += [{"name": f"c{n}", "mitigations": list(stack), "environment": "local"} for n, stack in enumerate(stacks)]
    document = {"schema_version": 1, "workload": "w", "trials": TRIALS, "steps": 1, "cells": cells} | changes
    return read_recipe(document, source="r")


def measured(asked: Recipe, rate: Rate, *, adaptive: bool = False, untried: frozenset[str] = frozenset()) -> Measured:
    trials = {}
    for cell in asked.cells:
        failed = round(TRIALS * rate(frozenset(cell.mitigations) - {"none"}))
        trials[cell.name] = counted(cell.name, failed, 0 if cell.name in untried else TRIALS)
    statistics = {name: statistics_of(found) for name, found in trials.items()}
    return Measured(trials, statistics, assess(statistics, "base", 1.15), "base", adaptive)


def minimized(asked: Recipe, rate: Rate, *, adaptive: bool = False) -> tuple[Recipe, Minimum]:
    """Add the part that is to be tried next until there is none."""
    while True:
        (minimum,) = minima(asked, measured(asked, rate, adaptive=adaptive))
        if minimum.following is None:
            return asked, minimum
        stack = next(cell for cell in asked.cells if cell.name == minimum.cell)
        added = part_cell(stack, minimum.following, [cell.name for cell in asked.cells])
        asked = Recipe(**{**vars(asked), "cells": (*asked.cells, added)})


def curing(*sets: str) -> Rate:
    """Half of the trials fail unless all letters of one of the sets are there."""
    return lambda part: 0.0 if any(frozenset(each) <= part for each in sets) else 0.5


@pytest.mark.parametrize(
    ("stack", "sets", "smallest", "most_cells", "why"),
    [
        ("ab", ["ab"], ["ab"], 2, "both are needed: each is left out once, and that is all"),
        ("abc", ["ac"], ["ac"], 3, "one is not"),
        ("abc", ["b"], ["b"], 4, "one alone does it"),
        ("abcd", ["abcd"], ["abcd"], 4, "all are needed"),
        ("abcdef", ["be"], ["be"], 7, "a pair among six"),
        ("abcd", ["ab", "c"], ["c"], 7, "of two cures the smaller"),
    ],
)
def test_the_smallest_part_is_found_with_few_further_cells(stack, sets, smallest, most_cells, why):
    asked, minimum = minimized(recipe(stack), curing(*sets))
    assert minimum.proven, minimum.line()
    assert set(minimum.smallest) == {frozenset(each) for each in smallest}, why
    assert len(asked.cells) - 2 <= most_cells


@settings(max_examples=60, deadline=None)
@given(
    stack=st.sampled_from(["ab", "abc", "abcd", "abcde"]),
    sets=st.lists(st.text("abcde", min_size=1, max_size=3), min_size=0, max_size=3),
)
def test_no_smaller_part_cures_than_the_one_that_is_found(stack: str, sets: list[str]):
    rate = curing(stack, *sets)
    _, minimum = minimized(recipe(stack), rate)
    sizes = [
        size
        for size in range(1, len(stack) + 1)
        for part in itertools.combinations(stack, size)
        if rate(frozenset(part)) == 0
    ]
    assert minimum.proven
    assert {len(each) for each in minimum.smallest} == {min(sizes)}
    assert all(rate(each) == 0 for each in minimum.smallest)


def test_what_triggers_a_failure_is_found_alike():
    rate: Rate = lambda part: 0.6 if {"a", "c"} <= part else 0.0  # noqa: E731
    _, minimum = minimized(recipe("abc"), rate)
    assert (minimum.effect, minimum.smallest, minimum.proven) == (Effect.TRIGGERS, (frozenset("ac"),), True)
    assert minimum.needed == ("a", "c")


def test_cells_of_the_recipe_count_as_tried():
    asked = recipe("ab", "a", "b")
    (minimum,) = minima(asked, measured(asked, curing("ab")))
    assert minimum.following is None
    assert [part.finding for part in minimum.parts] == [Finding.LACKS, Finding.LACKS]
    assert minimum.line().startswith("of a, b the smallest part that cures is a, b; without a or b it does less")


def test_a_part_is_enough_only_with_the_evidence_that_its_place_asks_for():
    asked = recipe("abc", "ab", "ac", "bc")
    levels = [strictest_level(asked, cell) for cell in asked.cells]
    assert levels == pytest.approx([0.05, 0.05, 0.025, 0.05 / 6, 0.05 / 12])
    # 9 of 32 beside 16 of 32: p = 0.06, and nothing of it is a cure
    (minimum,) = minima(asked, measured(asked, lambda part: {3: 0.0, 0: 0.5}.get(len(part), 9 / 32)))
    assert Finding.ENOUGH not in {part.finding for part in minimum.parts}


def test_what_is_taken_as_not_enough_without_evidence_is_said():
    asked = recipe("ab", "a", "b")
    (minimum,) = minima(asked, measured(asked, curing("ab"), untried=frozenset({"c1"})))
    assert not minimum.proven
    assert "the smallest part known to cure is a, b" in minimum.line()
    assert "a is undecided and taken as not enough" in minimum.line()


def test_a_part_that_was_added_but_not_tried_is_not_asked_for_again():
    """A cell that adaptive trials gave up at once would be added for ever."""
    asked = recipe("ab", "b")
    (minimum,) = minima(asked, measured(asked, curing("ab"), untried=frozenset({"c1"})))
    assert minimum.following == ("a",)


def test_where_more_undoes_what_fewer_do_it_is_said():
    rate: Rate = lambda part: 0.0 if part in (frozenset("abc"), frozenset("a")) else 0.5  # noqa: E731
    asked = recipe("abc", "ab", "a")
    (minimum,) = minima(asked, measured(asked, rate))
    assert minimum.smallest == (frozenset("a"),)
    assert "a+b does less than a part of it: more undoes what fewer do" in minimum.line()


def test_where_trials_were_shared_out_the_e_value_decides():
    asked = recipe("ab", "a", "b")
    (minimum,) = minima(asked, measured(asked, curing("ab"), adaptive=True))
    (fixed,) = minima(asked, measured(asked, curing("ab")))
    assert [part.finding for part in minimum.parts] == [part.finding for part in fixed.parts]
    assert minimum.parts[0].p_stack > fixed.parts[0].p_stack


@pytest.mark.parametrize(
    ("stacks", "rate", "examined", "why"),
    [
        (["a", "b"], curing("a"), [], "single mitigations are no stack"),
        (["ab"], curing("x"), [], "it has no effect"),
        (["abc", "ab"], curing("ab"), ["c0"], "a stack within a stack is one of its parts"),
        (["ab", "cd"], curing("a", "d"), ["c0", "c1"], "each of several"),
        (["abcdefghijklm"], curing("a"), [], "too many parts"),
    ],
)
def test_only_stacks_with_an_effect_are_examined(stacks, rate, examined, why):
    asked = recipe(*stacks)
    assert [each.cell for each in minima(asked, measured(asked, rate))] == examined, why


def test_the_environment_and_everything_else_must_be_alike():
    other = {"name": "c1", "mitigations": ["a"], "environment": "default"}
    asked = recipe("ab")
    document_cells = [
        {"name": "base", "mitigations": ["none"], "environment": "local"},
        {"name": "c0", "mitigations": ["a", "b"], "environment": "local"},
        other,
    ]
    asked = recipe(cells=document_cells)
    (minimum,) = minima(asked, measured(asked, curing("ab")))
    assert minimum.parts == ()


def test_the_cell_of_a_part_is_the_stack_but_for_its_mitigations_and_has_a_free_name():
    (_, stack) = recipe("ab").cells
    made = part_cell(stack, ("a",), ["base", "C0.ONLY-A"])
    assert (made.name, made.mitigations) == ("c0.only-a-2", ("a",))
    assert (made.trials, made.environment) == (stack.trials, stack.environment)
    assert len(part_cell(stack, ("m" * 300,), []).name) <= 200
