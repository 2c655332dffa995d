"""The cover that grows vector by vector against a plain reading of its definition."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from some_vectors import BASE, SETS, VECTORS, alone, combinations, vector

from mlcc_dagster.core import coded_vectors, interaction_cover
from mlcc_dagster.core.coded_vectors import STRENGTHS, CodedVectors
from mlcc_dagster.core.configuration import Vector
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.interaction_cover import InteractionCover
from mlcc_dagster.core.interactions import Interaction, interaction_coverage


@pytest.fixture(params=["a weight per cell", "a weight per known combination"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of holding weights, whatever the size."""
    if request.param == "a weight per known combination":
        monkeypatch.setattr(coded_vectors, "_SMALL_CELLS", 0)
        monkeypatch.setattr(coded_vectors, "_CELLS_PER_VECTOR", 0)
        monkeypatch.setattr(interaction_cover, "_MOST_CELLS", 0)


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("strength", STRENGTHS)
def test_a_gain_is_what_the_vector_adds_to_the_covered_share(strength: int) -> None:
    @settings(max_examples=30, deadline=None)
    @given(SETS, SETS, st.lists(VECTORS, min_size=1, max_size=5))
    def check(possible: list[Vector], proven: list[Vector], added: list[Vector]) -> None:
        cover = InteractionCover(possible, proven, strength=strength)
        assert cover.strength == strength
        wanted, held = combinations(possible, strength), combinations(proven, strength)
        asked = [*possible, *proven, *added]
        for each in added:
            assert cover.share == (len(wanted & held), len(wanted))
            expected = [len((combinations([one], strength) & wanted) - held) for one in asked]
            assert cover.gains(cover.places(asked)).tolist() == expected
            assert gain(cover, each) == expected[asked.index(each)]
            cover.close(cover.places((each,)))
            assert gain(cover, each) == 0
            held |= combinations([each], strength)
        assert cover.share == interaction_coverage(possible, [*proven, *added], strength=strength).share

    check()


@settings(max_examples=40, deadline=None)
@given(SETS, SETS, SETS)
def test_vectors_added_together_cover_what_they_cover_one_by_one(
    possible: list[Vector], proven: list[Vector], added: list[Vector]
) -> None:
    together, singly = InteractionCover(possible, proven), InteractionCover(possible, proven)
    together.close(together.places(added))
    for each in added:
        singly.close(singly.places([each]))
    assert np.array_equal(together.weights, singly.weights)
    assert np.array_equal(together.weights, InteractionCover(possible, [*proven, *added]).weights)


@settings(max_examples=40, deadline=None)
@given(SETS, SETS, SETS, VECTORS)
def test_a_gain_never_grows_while_others_are_added(
    possible: list[Vector], few: list[Vector], more: list[Vector], asked: Vector
) -> None:
    assert gain(InteractionCover(possible, few), asked) >= gain(InteractionCover(possible, [*few, *more]), asked)


ATTEMPTS = st.lists(st.tuples(VECTORS, st.floats(0, 1)), max_size=6)


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("strength", STRENGTHS)
def test_an_attempt_leaves_each_of_its_combinations_open_as_likely_as_it_fails(strength: int) -> None:
    @settings(max_examples=30, deadline=None)
    @given(SETS, SETS, ATTEMPTS, SETS)
    def check(
        possible: list[Vector], proven: list[Vector], attempts: Sequence[tuple[Vector, float]], asked: list[Vector]
    ) -> None:
        cover = InteractionCover(possible, proven, strength=strength)
        every = combinations(possible, strength)
        weights = dict.fromkeys(every - combinations(proven, strength), 1.0)
        for each, odds in attempts:
            mine = combinations([each], strength) & weights.keys()
            expected = odds * sum(weights[one] for one in mine)
            assert cover.attempt(cover.places([each])[0], odds) == pytest.approx(expected)
            weights |= {one: weights[one] * (1 - odds) for one in mine}
        found = cover.gains(cover.places(asked))
        plain = [sum(weights.get(one, 0.0) for one in combinations([each], strength)) for each in asked]
        assert found.tolist() == pytest.approx(plain)
        assert cover.share == (len(every) - sum(weight > 0 for weight in weights.values()), len(every))

    check()


def gain(cover: InteractionCover, vector: Vector) -> float:
    """What proving a vector would newly cover."""
    return float(cover.gains(cover.places((vector,)))[0])


def test_an_attempt_that_is_sure_covers_and_one_without_odds_changes_nothing() -> None:
    cover = InteractionCover([BASE, alone("x")])
    places = cover.places([BASE, alone("x")])
    assert (cover.attempt(places[0], 0.0), cover.share) == (0.0, (0, 30))
    assert (cover.attempt(places[0], 1.0), cover.share) == (15.0, (15, 30))
    assert cover.attempt(places[0], 1.0) == 0.0


def test_a_copy_is_changed_alone() -> None:
    cover = InteractionCover([BASE])
    other = cover.copy()
    other.close(other.places([BASE]))
    assert (gain(cover, BASE), gain(other, BASE)) == (15, 0)
    cover.attempt(cover.places([BASE])[0], 0.5)
    assert (gain(cover, BASE), other.share) == (7.5, (15, 15))


@pytest.mark.usefixtures("form")
def test_combinations_that_no_possible_vector_has_are_worth_nothing() -> None:
    cover = InteractionCover([BASE])
    cover.attempt(cover.places([alone("x")])[0], 1.0)
    one_other = vector(tp_degree="16")
    assert (gain(cover, alone("x")), gain(cover, one_other), gain(cover, BASE)) == (0, 10, 15)
    nothing = InteractionCover([])
    assert (gain(nothing, BASE), nothing.share, nothing.gains(nothing.places([])).tolist()) == (0, (0, 0), [])


@pytest.mark.usefixtures("form")
def test_each_place_is_that_of_one_combination() -> None:
    vectors = [BASE, vector(tp_degree="2"), vector(quantization="fp8", tp_degree="2"), alone("x")]
    cover = InteractionCover(vectors)
    places = cover.places(vectors)
    found: dict[int, set[Interaction]] = {}
    for each, row in zip(vectors, places.tolist(), strict=True):
        for place, combination in zip(row, sorted_combinations(each), strict=True):
            found.setdefault(place, set()).add(combination)
    assert all(len(one) == 1 for one in found.values())
    assert len(found) == len(combinations(vectors))


def sorted_combinations(each: Vector) -> list[Interaction]:
    """The pairs of a vector in the order in which a space numbers its subsets."""
    return list(interaction_coverage([each], []).missing)


@settings(max_examples=20, deadline=None)
@given(SETS, SETS)
def test_coded_vectors_give_what_the_vectors_give(possible: list[Vector], proven: list[Vector]) -> None:
    cover = InteractionCover(CodedVectors.of(possible), CodedVectors.of(proven))
    assert cover.share == InteractionCover(possible, proven).share
    assert cover.gains(cover.places(CodedVectors.of(possible))).tolist() == [gain(cover, each) for each in possible]


@pytest.mark.parametrize("strength", [0, 4])
def test_another_strength_is_refused(strength: int) -> None:
    with pytest.raises(UsageError, match="use one of 1, 2, 3"):
        InteractionCover([BASE], [BASE], strength=strength)
