"""Rules of Athena's SQL that have a structure, against the same rule written in Python."""

import datetime
from math import floor, trunc
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resources.result_store import ResultStore
from resources.sql_engine import SqlEngine

few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
texts = st.text(st.sampled_from("ab,é "), max_size=6)
places = st.integers(-8, 8)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> SqlEngine:
    return SqlEngine(ResultStore(tmp_path_factory.mktemp("rules") / "results"), seconds=20, memory_mb=500)


def asked(engine: SqlEngine, expression: str, columns: str, rows: list[tuple[Any, ...]]) -> list[Any]:
    """Return an expression of each row of some values, as columns of a table that nothing is known of beforehand."""
    values = ", ".join(f"({number}, {', '.join(map(literal, row))})" for number, row in enumerate(rows))
    table = engine.query(f"SELECT {expression} AS r FROM (VALUES {values}) AS t(n, {columns}) ORDER BY n")
    return table.column("r").to_pylist()


def literal(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, datetime.datetime):
        return f"TIMESTAMP '{value:%Y-%m-%d %H:%M:%S}'"
    if isinstance(value, list):
        return f"CAST(ARRAY[{', '.join(map(literal, value))}] AS array(integer))"
    # without an exponent it would be a decimal
    return f"{value!r}e0" if isinstance(value, float) and "e" not in repr(value) else repr(value)


@few
@given(st.lists(st.tuples(texts, places, places), min_size=1, max_size=20))
def test_substr_is_a_window_on_the_text(engine: SqlEngine, rows: list[tuple[str, int, int]]):
    def expected(text: str, start: int, length: int) -> str:
        first = start - 1 if start > 0 else len(text) + start
        return text[first : first + max(length, 0)] if start != 0 and first >= 0 else ""

    assert asked(engine, "substr(s, i, k)", "s, i, k", rows) == [expected(*row) for row in rows]


@few
@given(st.lists(st.tuples(texts, st.integers(1, 8)), min_size=1, max_size=20))
def test_split_part_is_a_part_or_null(engine: SqlEngine, rows: list[tuple[str, int]]):
    parts = [(text.split(","), place) for text, place in rows]
    assert asked(engine, "split_part(s, ',', i)", "s, i", rows) == [
        found[place - 1] if place <= len(found) else None for found, place in parts
    ]


@few
@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, 3), max_size=5), places.filter(bool), st.integers(0, 8)),
        min_size=1,
        max_size=10,
    )
)
def test_slice_takes_a_start_and_a_length(engine: SqlEngine, rows: list[tuple[list[int], int, int]]):
    def expected(array: list[int], start: int, length: int) -> list[int]:
        first = start - 1 if start > 0 else len(array) + start
        return array[first : first + length] if first >= 0 else []

    assert asked(engine, "slice(a, i, k)", "a, i, k", rows) == [expected(*row) for row in rows]


@few
@given(st.lists(st.tuples(st.integers(-50, 50), st.integers(-9, 9).filter(bool)), min_size=1, max_size=20))
def test_whole_numbers_divide_toward_zero(engine: SqlEngine, rows: list[tuple[int, int]]):
    assert asked(engine, "a / b", "a, b", rows) == [trunc(a / b) for a, b in rows]
    assert asked(engine, "a % b", "a, b", rows) == [a - b * trunc(a / b) for a, b in rows]


@few
@given(st.lists(st.floats(-100, 100).map(lambda value: round(value * 2) / 2), min_size=1, max_size=20))
def test_halves_round_away_from_zero(engine: SqlEngine, values: list[float]):
    def expected(value: float) -> int:
        return floor(abs(value) + 0.5) * (1 if value >= 0 else -1)

    assert asked(engine, "CAST(v AS bigint)", "v", [(value,) for value in values]) == list(map(expected, values))


moments = st.datetimes(datetime.datetime(1999, 1, 1), datetime.datetime(2031, 1, 1)).map(
    lambda at: at.replace(microsecond=0)
)


@few
@given(st.lists(st.tuples(moments, moments), min_size=1, max_size=20))
def test_date_diff_counts_whole_units(engine: SqlEngine, rows: list[tuple[datetime.datetime, datetime.datetime]]):
    lengths = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}
    for unit, seconds in lengths.items():
        expected = [trunc((later - earlier).total_seconds() / seconds) for earlier, later in rows]
        assert asked(engine, f"date_diff('{unit}', a, b)", "a, b", rows) == expected


@few
@given(
    st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=1, max_size=60),
    st.sampled_from([0, 0.01, 0.25, 0.29, 0.5, 0.9, 0.99, 1]),
)
def test_a_percentile_is_the_value_at_its_place(engine: SqlEngine, values: list[float | None], share: float):
    known = sorted(value for value in values if value is not None)
    expected = known[min(floor(share * len(known)), len(known) - 1)] if known else None
    rows = ", ".join(f"({literal(value)})" for value in [*values, None])
    table = engine.query(f"SELECT approx_percentile(CAST(v AS double), {share}) AS r FROM (VALUES {rows}) AS t(v)")
    assert table.column("r").to_pylist() == [expected]
