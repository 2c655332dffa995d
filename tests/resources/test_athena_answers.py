"""The local engine answers Athena's SQL as Athena does: rows worked out by hand, single values, and what is refused instead."""

import math
import re
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from resources.result_store import ResultStore
from resources.sql_engine import SqlEngine, SqlError
from resources.sql_vocabulary import FUNCTIONS, INSTEAD

# test folders are no packages: what these tests share is imported by its own name
sys.path.insert(0, str(Path(__file__).parent))

from athena_questions import QUESTIONS, ROWS, Question
from athena_values import VALUES
from result_rows import row


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> SqlEngine:
    """The engine that `mlcc sql` asks, over the six rows."""
    store = ResultStore(tmp_path_factory.mktemp("answers") / "results")
    for run_id in dict.fromkeys(values["run_id"] for values in ROWS):
        store.publish(run_id, [row(**values) for values in ROWS if values["run_id"] == run_id])
    return SqlEngine(store, seconds=20, memory_mb=500)


def plain(value: Any) -> Any:
    """Return a value of Arrow as a test writes it: maps come as pairs, decimals compare as numbers."""
    if isinstance(value, list) and value and all(isinstance(each, tuple) and len(each) == 2 for each in value):
        return dict(value)
    return value


def answer(engine: SqlEngine, sql: str) -> list[tuple[Any, ...]]:
    table = engine.query(sql)
    return [tuple(map(plain, each)) for each in zip(*(column.to_pylist() for column in table.columns), strict=True)]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.reason[:40])
def test_a_question_is_answered_as_athena_answers_it(engine: SqlEngine, question: Question):
    found = answer(engine, question.sql)
    assert found == [
        tuple(pytest.approx(v) if isinstance(v, float) and math.isfinite(v) else v for v in r) for r in question.rows
    ]
    # 1 and 1.0 and True are equal, and yet not the same answer
    kinds = [[type(value) for value in each] for each in found]
    assert kinds == [[type(value) for value in each] for each in question.rows], question.reason


@pytest.mark.parametrize(("expression", "expected", "reason"), VALUES)
def test_a_value_is_what_it_is_in_athena(engine: SqlEngine, expression: str, expected: Any, reason: str):
    ((found,),) = answer(engine, f"SELECT {expression}")
    assert (type(found), found) == (type(expected), expected), reason


@pytest.mark.parametrize(
    ("values", "expression", "expected", "reason"),
    [
        ("('2.5'), ('x'), (NULL), ('7')", "TRY_CAST(v AS integer)", [None, None, None, 7], "a column of texts"),
        ("(2.5e0), (-2.5e0), (NULL), (0.4e0)", "CAST(v AS integer)", [3, -3, None, 0], "a column of numbers"),
        ("(ARRAY[2.5e0, -2.5e0, NULL])", "transform(v, x -> CAST(x AS integer))", [[3, -3, None]], "within a function"),
        ("(ARRAY['7', '2.5'])", "transform(v, x -> TRY_CAST(x AS integer))", [[7, None]], "texts within a function"),
        ("(ARRAY[7.5e0])", "transform(v, x -> x / 2e0)", [[3.75]], "a division within a function"),
        ("(7), (-7)", "approx_percentile(v, 0.5) OVER () / 2", [3, 3], "a percentile of whole numbers is one"),
        ("('{\"a\": 1}'), ('no'), (NULL)", "json_extract_scalar(v, '$.a')", ["1", None, None], "some of it no JSON"),
        ("(ARRAY[1, 2]), (NULL)", "v[2]", [2, None], "subscripts of NULL"),
        ("(1e0), (nan()), (NULL)", "v >= 1e0", [True, False, None], "NaN among numbers"),
        ("(DATE '2024-01-31')", "CAST(v + INTERVAL '1' MONTH AS varchar)", ["2024-02-29"], "a column of dates"),
        (
            "('2026-06-09T14:30:22.5Z'), (NULL)",
            "to_unixtime(from_iso8601_timestamp(v))",
            [1781015422.5, None],
            "ISO 8601",
        ),
    ],
)
def test_a_rule_holds_for_columns_as_for_what_is_written_out(
    engine: SqlEngine, values: str, expression: str, expected: list[Any], reason: str
):
    found = answer(engine, f"WITH t AS (SELECT * FROM (VALUES {values}) AS s(v)) SELECT {expression} AS r FROM t")
    assert [each[0] for each in found] == expected, reason


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("CAST(substr(run_timestamp, 1, 7) || '-01' AS date)", "a cast of a text"),
        ("split(instance_type, '.')[2]", "a subscript"),
        ("regexp_extract(instance_type, 'g[0-9]')", "a match"),
        ("date_trunc('week', from_iso8601_timestamp(run_timestamp))", "a time"),
        ("concurrency / 2", "a division"),
        ("cost_usd > 0.2e0", "a comparison"),
        ("json_extract_scalar(stage_seconds, '$.deploy')", "JSON"),
        ("lpad(status, 3, 'x')", "a text with a limit"),
    ],
)
def test_an_expression_may_be_selected_grouped_by_and_ordered_by(engine: SqlEngine, expression: str, reason: str):
    """A rule must make the same of it in every place, or DuckDB does not see that it is one."""
    asked = f"SELECT {expression} AS e, count(*) AS n FROM mlcc_ci.benchmark_results GROUP BY {expression}"
    found = answer(engine, f"{asked} ORDER BY {expression}")
    assert sum(n for _, n in found) == len(ROWS), reason
    assert found == answer(engine, f"{asked} ORDER BY 1")
    assert found == answer(engine, f"{asked} HAVING ({expression}) IS NOT NULL OR count(*) > 0 ORDER BY e")
    assert [e for e, _ in found] == [
        e for (e,) in answer(engine, f"SELECT DISTINCT {expression} AS e FROM benchmark_results ORDER BY e")
    ]


REFUSED: tuple[tuple[str, str, str], ...] = (
    # functions that have no equal
    ("format('%s', 1)", "format() reads its pattern differently in DuckDB", "another answer"),
    ("reduce(ARRAY[1], 0, (s, x) -> s + x, s -> s)", "reduce() has no equal in DuckDB", "no equal"),
    ("repeat('a', 3)", "repeat() makes an array in Athena", "another answer"),
    ("typeof(1)", "typeof() names types as Athena does", "another answer"),
    ("md5(run_id)", "md5() gives bytes in Athena", "another answer"),
    ("format_datetime(now(), 'yyyy')", "format_datetime() reads the patterns of Joda", "no equal"),
    ("at_timezone(now(), 'UTC')", "a time that keeps its zone", "no equal"),
    ("now() AT TIME ZONE 'UTC'", "AT TIME ZONE gives a time that keeps its zone", "no equal"),
    ("zip(ARRAY[1], ARRAY[2])", "zip() makes rows whose fields have no names", "no equal"),
    ("split('a,b', ',', 1)", "split() with a limit has no equal", "the limit would be left out"),
    ("strpos('aa', 'a', 2)", "ask Athena itself", "the occurrence would be left out"),
    ("array_sort(ARRAY[1], (x, y) -> 0)", "does not support a comparator", "the comparator would be left out"),
    ("approx_percentile(cost_usd, 1, 0.5)", "leave weights, accuracy and DISTINCT out", "the weight would be left out"),
    ("approx_percentile(cost_usd, 1.5)", "shares from 0 to 1", "no share"),
    ("avg(CAST(cost_usd AS decimal(10, 2)))", "Athena rounds avg() of decimals", "another answer"),
    ("word_stem('running')", "word_stem() is no function that is answered locally", "unknown here"),
    # functions of DuckDB alone
    ("list_value(1, 2)", "list_value() is no function that is answered locally", "would fail on AWS"),
    ("strftime(now(), '%Y')", "strftime() is no function that is answered locally", "would fail on AWS"),
    ("array_has(ARRAY[1], 1)", "array_has() is no function", "another name of a function that there is"),
    # casts and texts
    ("CAST(cost_usd AS varchar)", "a floating-point number as text has other digits", "1.5E0 there"),
    ("CAST(CAST('2026-06-01' AS timestamp) AS varchar)", "a timestamp as text shows its precision", "another text"),
    ("CAST('x' AS char(3))", "CHAR is no type that is answered locally", "it is filled with spaces there"),
    ("CAST(5 AS varchar(2))", "varchar of a length is answered for texts alone", "it may fail there"),
    ("CAST(ROW(1, 2) AS json)", "a row as JSON is an array in Athena", "another answer"),
    ("1::integer", ":: is no part of Athena's SQL", "would fail on AWS"),
    ("CAST('2.5' AS integer)", "'2.5' cannot be cast to integer", "as there"),
    ("CAST(run_id AS integer)", "a text cannot be cast to integer", "as there, of a column"),
    # comparisons and arithmetic between kinds
    ("concurrency = '1'", "Athena compares no number with a varchar", "as there"),
    ("run_timestamp > DATE '2026-06-01'", "Athena compares no varchar with a date", "as there"),
    ("concurrency IN ('1', '2')", "Athena compares no number with a varchar", "as there"),
    ("transform(ARRAY[7.5e0], x -> x / 2)", "it cannot be told whether `x / 2` divides whole numbers", "3.75 or 3"),
    ("concurrency + '1'", "Athena does not calculate with a varchar", "as there"),
    ("run_id || 1", "Athena joins texts alone", "as there"),
    ("DATE '2026-06-02' - DATE '2026-06-01'", "use date_diff", "an interval there, a number here"),
    ("DATE '2026-06-02' + INTERVAL '1' HOUR", "Athena adds no hours to a date", "as there"),
    ("date_diff('day', run_timestamp, run_timestamp)", "date_diff() takes no varchar", "as there"),
    ("date_diff('fortnight', now(), now())", "date_diff() knows no unit 'fortnight'", "as there"),
    ("date_format(now(), '%v')", "date_format() has %v in its format", "no equal"),
    ("date_format(now(), run_id)", "with a text as its format", "cannot be translated"),
    ("regexp_replace('a', 'a', '${name}')", "names a group in no way that DuckDB knows", "cannot be translated"),
    ("regexp_extract('ab', '(?<=a)b')", "invalid perl operator", "DuckDB's patterns look around nothing"),
    (
        "from_iso8601_timestamp('2026-06-09T14:30:22+02:00')",
        "is answered for ISO 8601 in UTC",
        "its hour would be another",
    ),
    ("json_extract_scalar('{}', run_id)", "a path into JSON is answered where it is written out", "cannot be checked"),
    ("json_extract('{}', '$.a[*]')", "JSON PATH WILDCARD is not answered", "several values"),
    ("json_format(json_parse('{}'))", "sorts the keys in Athena", "another text"),
    ("'{}' -> 'a'", "the operator ->", "would fail on AWS"),
    ("INTERVAL '1' DAY AS pause", "pause is an interval", "its text is Athena's own"),
    # arrays and maps
    ("ARRAY[1, 2][3]", "an array subscript lies outside of its array", "as there; NULL in DuckDB"),
    ("ARRAY[1, 2][-1]", "an array subscript lies outside of its array", "as there; the last in DuckDB"),
    ("MAP(ARRAY['a'], ARRAY[1])['b']", "a key is not there in its map", "as there; NULL in DuckDB"),
    ("map_agg(status, run_id)", "Map keys must be unique", "one of several there"),
    ("ARRAY[1, 2][1:2]", "SLICE is not answered locally", "would fail on AWS"),
    ("ROW(1, 2)[1]", "a field of a row has no place by number", "no equal"),
    ("sum(x) FROM (VALUES 9223372036854775807, 1) AS t(x)", "out of bounds", "more than a bigint, as there"),
)


@pytest.mark.parametrize(("expression", "sentence", "reason"), REFUSED)
def test_what_cannot_be_kept_is_refused_in_one_sentence(engine: SqlEngine, expression: str, sentence: str, reason: str):
    source = "" if " FROM " in expression else " FROM mlcc_ci.benchmark_results"
    with pytest.raises(SqlError) as caught:
        engine.query(f"SELECT {expression}{source}")
    assert sentence in str(caught.value), reason
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("sql", "sentence"),
    [
        ("SELECT status FROM benchmark_results QUALIFY row_number() OVER (ORDER BY run_id) = 1", "not readable as Athena SQL"),
        ("SELECT * EXCLUDE (status) FROM benchmark_results", "no part of Athena's SQL"),
        ("SELECT DISTINCT ON (status) run_id FROM benchmark_results", "ON behind DISTINCT is no part of Athena's SQL"),
        ("SELECT status, count(*) FROM benchmark_results GROUP BY ALL", "ALL in GROUP BY is no part of Athena's SQL"),
        ("SELECT a.run_id FROM benchmark_results a SEMI JOIN benchmark_results b ON true", "JOIN is no part of Athena's SQL"),
        ("SELECT run_id FROM benchmark_results WHERE status ILIKE 'F%'", "ILIKE is no part of Athena's SQL"),
        ("SELECT run_id FROM benchmark_results FETCH FIRST 1 ROW WITH TIES", "FETCH WITH TIES has no equal"),
        ("SELECT run_id FROM benchmark_results TABLESAMPLE BERNOULLI (50)", "a sample has other rows every time"),
        ("SELECT run_id FROM benchmark_results WHERE status = ?", "cannot have parameters"),
        ("SELECT k FROM (SELECT histogram(status) AS m FROM benchmark_results) AS t CROSS JOIN UNNEST(m) AS u(k, v)", "UNNEST"),
        ("SELECT x FROM UNNEST(ARRAY[1], ARRAY[2]) WITH ORDINALITY AS t(x, y, n)", "WITH ORDINALITY is not answered locally"),
        ("SELECT x FROM benchmark_results PIVOT (count(*) FOR status IN ('failed'))", "PIVOT is no part of Athena's SQL"),
    ],
)  # fmt: skip
def test_a_statement_of_another_dialect_is_refused(engine: SqlEngine, sql: str, sentence: str):
    with pytest.raises(SqlError) as caught:
        engine.query(sql)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_answers_do_not_depend_on_where_the_machine_stands(engine: SqlEngine, monkeypatch: pytest.MonkeyPatch):
    """DuckDB takes the zone of the process; Athena's is UTC."""
    monkeypatch.setenv("TZ", "America/New_York")
    assert answer(engine, "SELECT hour(from_iso8601_timestamp('2026-06-09T14:30:22Z'))") == [(14,)]
    assert answer(engine, "SELECT current_date = CAST(now() AS date)") == [(True,)]


def test_every_function_that_is_answered_is_asked_here():
    asked = " ".join([*(question.sql for question in QUESTIONS), *(expression for expression, _, _ in VALUES)]).lower()
    assert [name for name in sorted(FUNCTIONS) if not re.search(rf"\b{name}\b", asked)] == []
    assert not FUNCTIONS & INSTEAD.keys()


def test_a_decimal_is_one_in_the_answer(engine: SqlEngine):
    assert answer(engine, "SELECT 1.10 + 2.20") == [(Decimal("3.30"),)]
