"""Texts and documents: a resolved recipe comes back byte for byte, and no text hides a mistake."""

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings

from mlcc_dagster.core.triage.recipe import resolved
from mlcc_dagster.core.triage.recipe_reading import read_recipe
from resources.triage.documents import json_document, plain_document, recipe_text

sys.path.insert(0, str(Path(__file__).parents[2] / "core" / "triage"))

from recipe_documents import recipe_documents


@settings(max_examples=200)
@given(recipe_documents())
def test_a_resolved_recipe_loads_as_it_is_and_resolves_to_the_same_bytes(document):
    once = resolved(read_recipe(document, source="r"))
    text = recipe_text(once)
    problems: list[str] = []
    again = read_recipe(plain_document(text, problems), source="r")
    assert problems == []
    assert again == once
    assert recipe_text(resolved(again)).encode() == text.encode()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\na: 2\n", "line 2: key 'a' is given twice; keep one"),
        ('{"a": 1, "a": 2}', "key 'a' is given twice in one object; keep one"),
        ("a: [1\nb: 2\n", "line 2: is no YAML ("),
        ("? [a]\n: 1\n", "line 1: a key must be a text; correct the text there"),
        ("a: &x [*x]\n", "the document: is too large or refers to itself"),
        (
            "\n".join(["a0: &a0 [1]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 8))]),
            "the document: is too",
        ),
        ("[" * 500_000, "the document: is nested too deeply"),
        ("- " * 500_000, "the document: is nested too deeply"),
    ],
    ids=[
        "key twice",
        "key twice in JSON",
        "no YAML",
        "key of a list",
        "refers to itself",
        "grows without end",
        "too deep",
        "too deep without brackets",
    ],
)
def test_a_text_that_hides_a_mistake_is_refused(text, told):
    problems: list[str] = []
    plain_document(text, problems)
    assert problems
    assert problems[0].startswith(told)


@pytest.mark.parametrize(
    ("text", "document"),
    [
        ("a: yes\nb: 'yes'\nc: 1\nd: '1'\n", {"a": True, "b": "yes", "c": 1, "d": "1"}),
        ("a: 2026-06-09\nb: 1:30\nc: 0x10\n", {"a": "2026-06-09", "b": "1:30", "c": "0x10"}),
        ("a: 1.5\nb: .inf\n", {"a": 1.5, "b": float("inf")}),
        ("{a: 1}", {"a": 1}),
        ('\ufeff{"a": "\\ud83d\\ude00"}', {"a": "😀"}),
        ("", None),
    ],
    ids=["words and numbers", "dates stay texts", "numbers", "braces of YAML", "JSON with surrogates", "nothing"],
)
def test_values_are_what_they_read_as(text, document):
    problems: list[str] = []
    assert plain_document(text, problems) == document
    assert problems == []


def test_json_that_is_none_says_where_and_shows_no_value():
    problems: list[str] = []
    assert json_document('{"a":\n "hunter22", }', problems) is None
    (problem,) = problems
    assert problem.startswith("line 2: is no JSON (")
    assert "hunter22" not in problem
