"""Interaction coverage against a plain reading of its definition, and the cover that grows vector by vector."""

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcc_dagster.core import interactions as interactions_module
from mlcc_dagster.core.configuration import DIMENSIONS, Vector
from mlcc_dagster.core.exceptions import InvalidInput, UsageError
from mlcc_dagster.core.interactions import (
    STRENGTHS,
    CodedVectors,
    Interaction,
    InteractionCover,
    interaction_coverage,
)

BASE = Vector("vllm", "qwen3", "g5", "none", "1", "realtime-inference")


def vector(**changed: Any) -> Vector:
    return Vector(**{**dict(zip(DIMENSIONS, BASE.values(), strict=True)), **changed})


def plain(vectors: Iterable[Vector], strength: int) -> set[Interaction]:
    """Every t-way combination that one of the vectors contains."""
    return {
        Interaction(names, tuple(getattr(each, name) for name in names))
        for each in vectors
        for names in itertools.combinations(DIMENSIONS, strength)
    }


VECTORS = st.tuples(*(st.sampled_from(["", "a", "b", "1", "2", "10"][: 2 + axis]) for axis in range(6))).map(
    lambda values: Vector(*values)
)
SETS = st.lists(VECTORS, max_size=12)


@pytest.fixture(params=["bitmaps", "sorted numbers"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of holding combinations, whatever the size."""
    if request.param == "sorted numbers":
        monkeypatch.setattr(interactions_module, "_SMALL_CELLS", 0)
        monkeypatch.setattr(interactions_module, "_CELLS_PER_VECTOR", 0)
        monkeypatch.setattr(interactions_module, "_COVER_CELLS", 0)


def check_coverage(possible: list[Vector], proven: list[Vector], strength: int) -> None:
    found = interaction_coverage(possible, proven, strength=strength)
    wanted, held = plain(possible, strength), plain(proven, strength)
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


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("strength", STRENGTHS)
def test_a_gain_is_what_the_vector_adds_to_the_covered_share(strength: int) -> None:
    @settings(max_examples=30, deadline=None)
    @given(SETS, SETS, st.lists(VECTORS, min_size=1, max_size=5))
    def check(possible: list[Vector], proven: list[Vector], added: list[Vector]) -> None:
        cover = InteractionCover(possible, proven, strength=strength)
        wanted, held = plain(possible, strength), plain(proven, strength)
        asked = [*possible, *proven, *added]
        for each in added:
            assert cover.share == (len(wanted & held), len(wanted))
            expected = [len((plain([one], strength) & wanted) - held) for one in asked]
            assert cover.gains(cover.codes(asked)).tolist() == expected
            gain = cover.gain(each)
            assert gain == expected[asked.index(each)]
            assert cover.add(each) == gain
            assert cover.gain(each) == 0
            held |= plain([each], strength)
        assert cover.share == interaction_coverage(possible, [*proven, *added], strength=strength).share

    check()


@settings(max_examples=40, deadline=None)
@given(SETS, SETS, SETS, VECTORS)
def test_a_gain_never_grows_while_others_are_added(
    possible: list[Vector], few: list[Vector], more: list[Vector], asked: Vector
) -> None:
    assert InteractionCover(possible, few).gain(asked) >= InteractionCover(possible, [*few, *more]).gain(asked)


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


TABLE = {
    "deployment_config": ["vllm", "vllm", "sglang"],
    "quantization": ["fp8", None, ""],
    "tp_degree": [None, 1.0, "1"],
    "tensor_parallel_degree": [2, None, None],
    "status": ["completed", "failed", "completed"],
}
READ = [
    Vector("vllm", "", "", "fp8", "2", ""),
    Vector("vllm", "", "", "", "1", ""),
    Vector("sglang", "", "", "", "1", ""),
]


def decoded(coded: CodedVectors) -> list[Vector]:
    return [
        Vector(*(texts[code] for texts, code in zip(coded.values, codes, strict=True)))
        for codes in coded.codes.tolist()
    ]


def test_rows_and_columns_are_read_as_the_vectors_they_hold() -> None:
    rows = [dict(zip(TABLE, values, strict=True)) for values in zip(*TABLE.values(), strict=True)]
    arrays = {name: np.array(column, dtype=object) for name, column in TABLE.items()}
    assert decoded(CodedVectors.of(READ)) == READ
    assert decoded(CodedVectors.of_columns(TABLE)) == decoded(CodedVectors.of_columns(arrays)) == READ
    assert decoded(CodedVectors.of_columns({n: c for n, c in TABLE.items() if n != "status"})) == READ
    proven = [READ[0], READ[2]]
    assert [decoded(CodedVectors.proven_in(each)) for each in (rows, TABLE, arrays)] == [proven] * 3


@settings(max_examples=20, deadline=None)
@given(SETS, SETS)
def test_coded_vectors_give_what_the_vectors_give(possible: list[Vector], proven: list[Vector]) -> None:
    coded = interaction_coverage(CodedVectors.of(possible), CodedVectors.of(proven))
    given_ones = interaction_coverage(possible, proven)
    assert coded.subsets == given_ones.subsets
    assert list(coded.missing) == list(given_ones.missing)
    cover = InteractionCover(CodedVectors.of(possible), CodedVectors.of(proven))
    assert cover.share == given_ones.share
    assert cover.gains(cover.codes(CodedVectors.of(possible))).tolist() == [cover.gain(each) for each in possible]


def test_values_that_no_vector_has_and_values_given_twice_change_nothing() -> None:
    values = (("x", "a", "b", "a"), *(("v", "unused"),) * 5)
    codes = np.array([[1, 0, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0], [2, 0, 0, 0, 0, 0]])
    found = interaction_coverage(CodedVectors(values, codes), [])
    assert found.share == (0, 5 * 2 + 10)


def six(*values: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    return (values * 6)[:6]


@pytest.mark.parametrize(
    ("values", "codes", "said"),
    [
        pytest.param(six(("a",)), np.zeros((2, 5), int), "n x 6", id="five columns"),
        pytest.param(six(("a",)), np.zeros(6, int), "n x 6", id="one vector without its row"),
        pytest.param(six(("a",))[:5], np.zeros((2, 6), int), "give 6 lists", id="five lists of values"),
        pytest.param(six(("a",)), np.ones((1, 6), int), "give each code a value", id="a code beyond the values"),
        pytest.param(six(("a",)), -np.ones((1, 6), int), "give each code a value", id="a code below 0"),
    ],
)
def test_codes_that_are_no_vectors_are_refused(values: Any, codes: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CodedVectors(values, codes)


def test_columns_of_unequal_length_are_refused() -> None:
    with pytest.raises(InvalidInput, match="differ in length"):
        CodedVectors.of_columns({"model_family": ["a"], "tp_degree": [1, 2]})


@pytest.mark.parametrize("strength", [0, 4])
def test_another_strength_is_refused(strength: int) -> None:
    for measured in (interaction_coverage, InteractionCover):
        with pytest.raises(UsageError, match="use one of 1, 2, 3"):
            measured([BASE], [BASE], strength=strength)


def test_combinations_beyond_counting_are_refused_with_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interactions_module, "_LARGEST_PRODUCT", 26)
    possible = [Vector(*values) for values in itertools.product("ab", repeat=6)]
    assert interaction_coverage(possible, []).share == (0, 60)
    with pytest.raises(UsageError, match=r"3 dimensions have 2\.7e\+01 combinations; select fewer rows"):
        interaction_coverage(possible, [], strength=3)
