"""Interaction coverage against a plain reading of its definition."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from some_vectors import BASE, SETS, combinations, vector

from mlcc_dagster.core import coded_vectors
from mlcc_dagster.core.coded_vectors import STRENGTHS, CodedVectors
from mlcc_dagster.core.configuration import DIMENSIONS, Vector
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.interactions import Interaction, interaction_coverage


@pytest.fixture(params=["bitmaps", "sorted numbers"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of holding combinations, whatever the size."""
    if request.param == "sorted numbers":
        monkeypatch.setattr(coded_vectors, "_SMALL_CELLS", 0)
        monkeypatch.setattr(coded_vectors, "_CELLS_PER_VECTOR", 0)


def check_coverage(possible: list[Vector], proven: list[Vector], strength: int) -> None:
    found = interaction_coverage(possible, proven, strength=strength)
    wanted, held = combinations(possible, strength), combinations(proven, strength)
    assert found.share == (len(wanted & held), len(wanted))
    assert [subset.dimensions for subset in found.subsets] == list(itertools.combinations(DIMENSIONS, strength))
    for subset in found.subsets:
        of_subset = {each for each in wanted if each.dimensions == subset.dimensions}
        assert subset.share == (len(of_subset & held), len(of_subset))
    listed = list(found.missing)
    assert len(listed) == len(found.missing)
    assert set(listed) == wanted - held
    assert len(set(listed)) == len(listed)


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("strength", STRENGTHS)
def test_shares_and_missing_combinations_are_what_the_definition_says(strength: int) -> None:
    @settings(max_examples=40, deadline=None)
    @given(SETS, SETS)
    def check(possible: list[Vector], proven: list[Vector]) -> None:
        check_coverage(possible, proven, strength)

    check()


SHARES = [
    ("nothing is possible", [], [], (0, 0)),
    ("what is proven but not possible makes no denominator", [], [BASE], (0, 0)),
    ("one vector has a pair per two dimensions", [BASE], [], (0, 15)),
    ("a proven vector covers its own pairs", [BASE], [BASE], (15, 15)),
    ("one other value is in five pairs", [BASE, vector(tp_degree="2")], [BASE], (15, 20)),
    ("pairs are covered by different vectors", [BASE, vector(tp_degree="2", quantization="fp8")],
     [vector(tp_degree="2"), vector(quantization="fp8")], (22, 24)),
]  # fmt: skip


@pytest.mark.parametrize(("possible", "proven", "share"), [pytest.param(p, q, s, id=why) for why, p, q, s in SHARES])
def test_pairs_are_counted_over_possible_vectors(
    possible: list[Vector], proven: list[Vector], share: tuple[int, int]
) -> None:
    assert interaction_coverage(possible, proven).share == share


def test_a_proven_vector_that_is_not_possible_counts_by_its_possible_combinations_alone() -> None:
    possible = [BASE, vector(instance_family="g6", quantization="fp8")]
    outside = vector(quantization="fp8", tp_degree="16")
    found = interaction_coverage(possible, [outside])
    # Four values are the first vector's and make 6 pairs; fp8 stands with three of them in the second, 16 in none.
    assert found.share == (6 + 3, 24)
    assert Interaction(("quantization", "tp_degree"), ("fp8", "16")) not in set(found.missing)


def test_missing_combinations_stand_by_subset_and_then_by_value_whatever_the_order_of_the_input() -> None:
    possible = [
        vector(tp_degree=degree, instance_family=family) for degree in ("16", "2", "none", "1") for family in "ba"
    ]
    pairs = [each for each in interaction_coverage(possible, []).missing if len(set(each.dimensions) & VARIED) == 2]
    assert [each.values for each in pairs] == list(itertools.product("ab", ("1", "2", "16", "none")))
    shuffled = [possible[place] for place in (5, 2, 7, 0, 3, 6, 1, 4)]
    assert list(interaction_coverage(possible, []).missing) == list(interaction_coverage(shuffled, []).missing)


VARIED = {"instance_family", "tp_degree"}


def test_missing_combinations_are_read_at_any_place() -> None:
    possible = [Vector(*values) for values in itertools.product("ab", "cd", "ef", "gh", "ij", "kl")]
    missing = interaction_coverage(possible, possible[:1], strength=3).missing
    everything = list(missing)
    assert len(everything) == 20 * 7
    for part in (slice(5, 9), slice(None, None, -1), slice(-3, None), slice(1, None, 13), slice(9, 5)):
        assert list(missing[part]) == everything[part]
        assert len(missing[part]) == len(everything[part])
    assert [missing[index] for index in (0, 77, -1)] == [everything[index] for index in (0, 77, -1)]
    assert missing[2:][3:][0] == everything[5]
    with pytest.raises(IndexError):
        missing[len(everything)]


def test_a_combination_says_its_values_by_dimension() -> None:
    (one,) = interaction_coverage([BASE], [], strength=1).missing[4:5]
    assert (str(one), one.to_json()) == ("tp_degree='1'", {"tp_degree": "1"})


@settings(max_examples=20, deadline=None)
@given(SETS, SETS)
def test_coded_vectors_give_what_the_vectors_give(possible: list[Vector], proven: list[Vector]) -> None:
    coded = interaction_coverage(CodedVectors.of(possible), CodedVectors.of(proven))
    given_ones = interaction_coverage(possible, proven)
    assert coded.subsets == given_ones.subsets
    assert list(coded.missing) == list(given_ones.missing)


def test_values_that_no_vector_has_and_values_given_twice_change_nothing() -> None:
    values = (("x", "a", "b", "a"), *(("v", "unused"),) * 5)
    codes = np.array([[1, 0, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0], [2, 0, 0, 0, 0, 0]])
    found = interaction_coverage(CodedVectors(values, codes), [])
    assert found.share == (0, 5 * 2 + 10)


@pytest.mark.parametrize("strength", [0, 4])
def test_another_strength_is_refused(strength: int) -> None:
    with pytest.raises(UsageError, match="use one of 1, 2, 3"):
        interaction_coverage([BASE], [BASE], strength=strength)


def test_combinations_beyond_counting_are_refused_with_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coded_vectors, "_LARGEST_PRODUCT", 26)
    possible = [Vector(*values) for values in itertools.product("ab", repeat=6)]
    assert interaction_coverage(possible, []).share == (0, 60)
    with pytest.raises(UsageError, match=r"3 dimensions have 2\.7e\+01 combinations; select fewer rows"):
        interaction_coverage(possible, [], strength=3)
