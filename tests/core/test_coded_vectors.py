"""Vectors are coded as they are read, wrong codes are refused, and every combination has a position of its own."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from some_vectors import BASE, SETS, VECTORS, combinations, vector

from mlcc_dagster.core import coded_vectors
from mlcc_dagster.core.coded_vectors import STRENGTHS, CodedVectors, CombinationSpace, as_coded
from mlcc_dagster.core.configuration import Vector
from mlcc_dagster.core.exceptions import InvalidInput, UsageError

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
    assert decoded(CodedVectors.of_columns(TABLE)) == decoded(CodedVectors.of_columns(arrays)) == READ
    assert decoded(CodedVectors.of_columns({n: c for n, c in TABLE.items() if n != "status"})) == READ
    proven = [READ[0], READ[2]]
    assert [decoded(CodedVectors.proven_in(each)) for each in (rows, TABLE, arrays)] == [proven] * 3


@settings(max_examples=40, deadline=None)
@given(SETS)
def test_what_is_coded_is_what_was_given(vectors: list[Vector]) -> None:
    coded = CodedVectors.of(iter(vectors))
    assert (decoded(coded), len(coded)) == (vectors, len(vectors))
    assert as_coded(coded) is coded
    assert decoded(as_coded(vectors)) == vectors


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


@pytest.mark.parametrize("form", ["bitmaps", "sorted numbers"])
@pytest.mark.parametrize("strength", STRENGTHS)
def test_positions_are_equal_exactly_where_combinations_are(
    strength: int, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if form == "sorted numbers":
        monkeypatch.setattr(coded_vectors, "_SMALL_CELLS", 0)
        monkeypatch.setattr(coded_vectors, "_CELLS_PER_VECTOR", 0)

    @settings(max_examples=30, deadline=None)
    @given(SETS)
    def check(vectors: list[Vector]) -> None:
        coded = CodedVectors.of(vectors)
        space = CombinationSpace(coded, strength)
        codes = space.codes(coded)
        wanted = combinations(vectors, strength)
        assert sum(len(space.distinct(axes, codes)) for axes in space.subsets) == len(wanted)
        for axes in space.subsets:
            positions = space.positions(axes, codes)
            texts = [tuple(each.values()[axis] for axis in axes) for each in vectors]
            assert (
                len(set(zip(positions.tolist(), texts, strict=True))) == len(set(texts)) == len(set(positions.tolist()))
            )
            assert space.distinct(axes, codes).tolist() == sorted(set(positions.tolist()))
            assert all(0 <= each < space.cells(axes) for each in positions.tolist())

    check()


@settings(max_examples=40, deadline=None)
@given(SETS, VECTORS)
def test_a_value_that_no_possible_vector_has_gets_the_slot_behind_all_values(
    vectors: list[Vector], asked: Vector
) -> None:
    space = CombinationSpace(CodedVectors.of(vectors), 2)
    codes = space.codes(CodedVectors.of((asked,)))[0].tolist()
    for axis, (code, text) in enumerate(zip(codes, asked.values(), strict=True)):
        own = {each.values()[axis] for each in vectors}
        assert set(space.values[axis]) == own
        assert (space.values[axis][code] == text) if text in own else (code == len(own))


def test_values_stand_as_a_person_reads_them_whatever_the_order_of_the_vectors() -> None:
    vectors = [vector(tp_degree=each) for each in ("16", "none", "2", "1")]
    for order in (vectors, vectors[::-1]):
        assert CombinationSpace(CodedVectors.of(order), 2).values[4] == ("1", "2", "16", "none")


@pytest.mark.parametrize("strength", [-1, 0, 4])
def test_another_strength_is_refused(strength: int) -> None:
    with pytest.raises(UsageError, match="use one of 1, 2, 3"):
        CombinationSpace(CodedVectors.of([BASE]), strength)


def test_combinations_beyond_counting_are_refused_with_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coded_vectors, "_LARGEST_PRODUCT", 26)
    coded = CodedVectors.of(Vector(*values) for values in itertools.product("ab", repeat=6))
    assert CombinationSpace(coded, 2).cells((0, 5)) == 9
    with pytest.raises(UsageError, match=r"3 dimensions have 2\.7e\+01 combinations; select fewer rows"):
        CombinationSpace(coded, 3)
