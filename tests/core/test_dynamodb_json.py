"""DynamoDB's JSON: both forms of an export, every type, and every mistake at its path."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcc_dagster.core.dynamodb_json import read_items


def items_of(text: str) -> list[dict[str, Any]]:
    problems: list[str] = []
    items = read_items(text, problems)
    assert problems == []
    return [item for _, item in items]


def problems_of(text: str) -> list[str]:
    problems: list[str] = []
    read_items(text, problems)
    return problems


TYPED = [
    ({"S": "text"}, "text", "text"),
    ({"S": ""}, "", "an empty text stays one; its reader decides"),
    ({"N": "3"}, 3, "whole number"),
    ({"N": "3.0"}, 3, "whole whatever its spelling"),
    ({"N": "12.5"}, 12.5, "number"),
    ({"N": "1E+2"}, 100, "as DynamoDB writes large ones"),
    ({"BOOL": False}, False, "boolean"),
    ({"NULL": True}, None, "null"),
    ({"B": "aGk="}, "aGk=", "bytes stay as they are written"),
    ({"SS": ["b", "a"]}, ["a", "b"], "a set has no order"),
    ({"NS": ["8", "1", "4"]}, [1, 4, 8], "numbers by size"),
    ({"L": [{"N": "1"}, {"S": "x"}, {"NULL": True}]}, [1, "x", None], "a list keeps its order"),
    ({"M": {"build": {"M": {"status": {"S": "pass"}}}}}, {"build": {"status": "pass"}}, "maps within maps"),
]


@pytest.mark.parametrize(("typed", "plain", "reason"), TYPED)
def test_each_type_is_read(typed: dict, plain: Any, reason: str):
    assert items_of(json.dumps({"Items": [{"a": typed}], "Count": 1, "ScannedCount": 1})) == [{"a": plain}], reason
    assert items_of(json.dumps({"Item": {"a": typed}}) + "\n") == [{"a": plain}], reason


def test_the_lines_of_an_export_to_s3_are_read_in_their_order_and_empty_ones_passed_over():
    lines = [json.dumps({"Item": {"configId": {"S": key}}}) for key in "abc"]
    assert [item["configId"] for item in items_of("\ufeff" + "\n\n".join(lines) + "\r\n")] == ["a", "b", "c"]


@pytest.mark.parametrize("separator", ["\u2028", "\u0085", "\u2029"])
def test_a_separator_of_lines_within_a_text_does_not_end_a_line_of_an_export(separator: str):
    text = f'{{"Item": {{"a": {{"S": "one{separator}two"}}}}}}\n'
    assert read_items(text, []) == [("line 1: Item", {"a": f"one{separator}two"})]


def test_an_export_without_items_has_none():
    assert items_of('{"Items": []}') == []


BROKEN = [
    ("", "the document: is empty", "nothing at all"),
    ("{", "line 1: is no JSON", "broken document"),
    ("[]", 'must be {"Items": [...]}', "another document"),
    ('{"Items": {}}', 'must be {"Items": [...]}', "items are a list"),
    ('{"Items": [7]}', "Items[0]: must be an object", "no item"),
    ('{"Items": [{"a": "plain"}]}', 'Items[0].a: must be a value with its type, such as {"S": "text"}', "no type"),
    ('{"Items": [{"a": {"S": "x", "N": "1"}}]}', "Items[0].a: must be a value with its type", "two types"),
    ('{"Items": [{"a": {"T": "x"}}]}', "Items[0].a: 'T' with 'x' is no type", "unknown type"),
    ('{"Items": [{"a": {"N": "x"}}]}', "Items[0].a: 'x' is no value of type N", "no number"),
    ('{"Items": [{"a": {"N": "NaN"}}]}', "Items[0].a: 'NaN' is no value of type N", "DynamoDB has none"),
    ('{"Items": [{"a": {"N": 1}}]}', "Items[0].a: 1 is no value of type N", "its numbers are texts"),
    ('{"Items": [{"a": {"BOOL": "true"}}]}', "Items[0].a: 'true' is no value of type BOOL", "no boolean"),
    ('{"Items": [{"a": {"M": {"b": {"L": [{"S": 1}]}}}}]}', "Items[0].a.b[0]: 1 is no value of type S", "deep within"),
    ('{"Items": [{"a": {"N": "1_000"}}]}', "Items[0].a: '1_000' is no value of type N", "Python's own spelling"),
    ('{"Items": [{"a": {"S": "\\ud800"}}]}', "Items[0].a: '\\ud800' is no value of type S", "half a character"),
    ('{"Item": {"a": {"S": "x"}}}\n{"Item": ', "line 2: is no JSON", "a cut line"),
    ('{"Item": {"a"\n{"Item": {"a": {"S": "x"}}}', "line 1: is no JSON", "a cut first line"),
    ('{"Item": {"a": {"S": "x"}}}\n{"Keys": {}}', "line 2: must be", "a line of an incremental export"),
    ('{"Item": {"a": {"S": 1}}}', "line 1: Item.a: 1 is no value of type S", "path of a line"),
]


@pytest.mark.parametrize(("text", "said", "reason"), BROKEN)
def test_a_mistake_is_reported_at_its_path(text: str, said: str, reason: str):
    (problem,) = problems_of(text)
    assert said in problem, reason


def test_all_mistakes_are_reported_and_what_is_sound_is_still_read():
    problems: list[str] = []
    text = '{"Items": [{"a": {"N": "x"}, "b": {"S": "kept"}}, {"a": {"S": 2}}]}'
    assert read_items(text, problems) == [("Items[0]", {"b": "kept"}), ("Items[1]", {})]
    assert [problem.partition(":")[0] for problem in problems] == ["Items[0].a", "Items[1].a"]


def test_a_document_nested_beyond_any_use_is_refused_not_crashed_on():
    depth = 100_000
    assert "nested too deeply" in problems_of('{"Items": [{"a": ' + '{"L": [' * depth + "]}" * depth + "}]}")[0]


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def typed(value: Any) -> dict[str, Any]:
    match value:
        case None:
            return {"NULL": True}
        case bool():
            return {"BOOL": value}
        case int():
            return {"N": str(value)}
        case str():
            return {"S": value}
        case list():
            return {"L": [typed(each) for each in value]}
        case _:
            return {"M": {name: typed(each) for name, each in value.items()}}


@given(st.lists(st.dictionaries(st.text(max_size=4), plain_values, max_size=3), max_size=3))
def test_what_is_typed_is_read_back_from_either_form(items: list[dict[str, Any]]):
    whole = [{name: typed(value) for name, value in item.items()} for item in items]
    assert items_of(json.dumps({"Items": whole})) == items
    if whole:
        assert items_of("\n".join(json.dumps({"Item": item}) for item in whole)) == items
