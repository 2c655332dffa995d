"""An evaluation set is read back as it was written, and its questions have one right answer each."""

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcc_dagster.core.eval_sets import Question, read_eval_set
from mlcc_dagster.core.exceptions import InvalidInput, UsageError
from mlcc_dagster.core.verb_questions import (
    PERSONS,
    TENSES,
    VERBS,
    Verb,
    every_form,
    forms_of,
    most_per_cell,
    right_form,
    verb_questions,
)

SET = verb_questions()


def test_the_set_has_more_than_ten_buckets_of_enough_questions():
    assert len(SET.questions) == 1250
    assert len(SET.buckets) == 15
    assert set(SET.buckets.values()) == {250}
    assert 0.2 < SET.chance < 0.3


@settings(max_examples=10)
@given(st.integers(0, 10**6), st.integers(1, 3))
def test_the_same_seed_writes_the_same_bytes_and_another_seed_others(seed: int, per_cell: int):
    made = verb_questions(seed=seed, per_cell=per_cell)
    assert made.to_text() == verb_questions(seed=seed, per_cell=per_cell).to_text()
    assert made.to_text() != verb_questions(seed=seed + 1, per_cell=per_cell).to_text()
    assert read_eval_set(made.to_text(), source="set") == made


def test_every_question_has_one_right_form_among_different_ones():
    for question in SET.questions:
        assert question.choices.count(question.answer) == 1
        assert len(set(question.choices)) == len(question.choices) >= 3
        assert list(question.choices) == sorted(question.choices), "the place of a choice says nothing"
        assert all(choice.startswith(" ") and choice.strip().isalpha() for choice in question.choices)
        assert "{" not in question.prompt and not question.prompt.endswith(" ")
    assert len({(question.prompt, question.choices) for question in SET.questions}) == len(SET.questions)


def test_every_question_is_in_one_bucket_of_each_family():
    families = Counter(name.partition(":")[0] for question in SET.questions for name in question.buckets)
    assert families == {"tense": 1250, "person": 1250, "verb": 1250}


@pytest.mark.parametrize(
    ("verb", "tense", "person", "form"),
    [
        ("ask", "present", "third-singular", "asks"),
        ("ask", "present", "first-plural", "ask"),
        ("close", "past", "second", "closed"),
        ("close", "progressive", "second", "closing"),
        ("go goes went gone going", "past", "third-plural", "went"),
        ("go goes went gone going", "perfect", "first-singular", "gone"),
        ("go goes went gone going", "future", "third-singular", "go"),
        ("put puts put put putting", "past", "third-singular", "put"),
        ("be is was been being", "present", "first-singular", "am"),
        ("be is was been being", "present", "third-singular", "is"),
        ("be is was been being", "present", "second", "are"),
        ("be is was been being", "past", "first-singular", "was"),
        ("be is was been being", "past", "third-plural", "were"),
        ("be is was been being", "perfect", "second", "been"),
        ("have has had had having", "present", "third-singular", "has"),
        ("do does did done doing", "perfect", "second", "done"),
    ],
)
def test_the_right_form_is_the_one_of_the_grammar(verb: str, tense: str, person: str, form: str):
    assert right_form(Verb.read(verb), tense, person) == form
    assert form in forms_of(Verb.read(verb))


def test_all_forms_of_be_are_choices():
    assert set(forms_of(Verb.read("be is was been being"))) == {"am", "are", "be", "been", "being", "is", "was", "were"}


def test_the_verbs_of_a_class_are_of_that_class():
    assert all(verb.past == verb.participle == verb.base.removesuffix("e") + "ed" for verb in VERBS["regular"])
    assert all(len({verb.base, verb.past, verb.participle}) == 3 for verb in VERBS["vowel-change"])
    assert all(verb.past == verb.participle != verb.base for verb in VERBS["two-form"])
    assert all(verb.past == verb.participle == verb.base for verb in VERBS["unchanged"])
    bases = [verb.base for verbs in VERBS.values() for verb in verbs]
    assert len(set(bases)) == len(bases)


@pytest.mark.slow
def test_every_choice_is_one_token_of_the_embedded_model():
    """What the server refuses an evaluation for; here told from the vocabulary of the weights themselves."""
    import gguf

    from resources.local.weights import SOURCES

    fields = gguf.GGUFReader(SOURCES["HuggingFaceTB/SmolLM2-135M-Instruct"].path()).fields
    tokens = set(fields["tokenizer.ggml.tokens"].contents())
    assert [form for form in every_form() if form.replace(" ", "Ġ") not in tokens] == []


@pytest.mark.parametrize("per_cell", [0, -1, most_per_cell() + 1])
def test_more_questions_than_there_are_cannot_be_drawn(per_cell: int):
    with pytest.raises(UsageError, match=f"--per-cell must be from 1 to {most_per_cell()}"):
        verb_questions(per_cell=per_cell)


def test_as_many_as_there_are_can_be_drawn():
    assert len(verb_questions(per_cell=most_per_cell()).questions) == len(TENSES) * len(PERSONS) * 5 * most_per_cell()


def lines(*changes: dict[str, Any], head: dict[str, Any] | None = None) -> str:
    good = Question("a", "Yesterday she", (" go", " went"), " went", ("tense:past",)).to_json()
    documents = [good | change for change in changes] or [good]
    first = {"schema_version": 1, "name": "some", "questions": len(documents)} | (head or {})
    return "\n".join(json.dumps(each) for each in [first, *documents])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("", "must say what the file is", id="nothing"),
        pytest.param("\n\n", "must say what the file is", id="empty lines"),
        pytest.param(lines(head={"schema_version": 2}), "schema_version is 2", id="a newer schema"),
        pytest.param(lines(head={"schema_version": True}), "schema_version is True", id="a version that is true"),
        pytest.param(lines(head={"name": ""}), "name must be a text", id="no name"),
        pytest.param(lines(head={"questions": 5}), "says 5 questions and 1 follow", id="cut"),
        pytest.param(lines() + '\n{"id": "b", "pro', "is not readable as JSON", id="a cut line"),
        pytest.param(lines() + "\n[1]", "must be an object", id="a list"),
        pytest.param(lines({"id": ""}), "id must be a text", id="no id"),
        pytest.param(lines({"prompt": 5}), "prompt must be a text", id="a number as prompt"),
        pytest.param(lines({"answer": " gone"}), "is none of the choices", id="no right answer"),
        pytest.param(lines({"choices": [" went"]}), "two or more", id="no choice"),
        pytest.param(lines({"choices": [" went", " went", " go"]}), "choices has one twice", id="a choice twice"),
        pytest.param(lines({"buckets": []}), "buckets must be a list of texts", id="of no bucket"),
        pytest.param(lines({}, {}), "question a is there twice", id="a question twice"),
    ],
)
def test_what_is_wrong_with_a_set_is_said(text: str, words: str):
    with pytest.raises(InvalidInput) as caught:
        read_eval_set(text, source="set.jsonl")
    assert words in str(caught.value)


def test_many_mistakes_are_listed_up_to_a_number():
    with pytest.raises(InvalidInput) as caught:
        read_eval_set(lines(*({"id": "", "prompt": ""} for _ in range(50))), source="set.jsonl")
    assert len(caught.value.problems) == 21 and caught.value.problems[-1].startswith("and ")
