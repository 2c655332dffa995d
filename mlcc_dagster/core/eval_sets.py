"""An evaluation set of questions with choices, as the file of it says.

Belongs here: a question, the file's form (JSON lines), and everything that can be wrong with one. Not here: making up
questions (`verb_questions.py`), asking them (`resources.evaluations`), the hash of the file (`resources.evaluation_sets`).

The first line says what the file is: `{"schema_version": 1, "name": ..., "questions": N}`, with whatever else made it. Every
other line is one question: `id`, `prompt`, `choices`, `answer` (one of the choices) and `buckets`. A question asks which of
the choices goes on from the prompt most likely, as the next token: so every choice must be one token of the model.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from mlcc_dagster.core.exceptions import InvalidInput

SCHEMA_VERSION = 1

_SHOWN_PROBLEMS = 20
"""Mistakes that are listed before the rest is only counted."""


@dataclass(frozen=True)
class Question:
    """One question. `choices` go on from `prompt` as they are, spaces included; `answer` is the right one of them."""

    id: str
    prompt: str
    choices: tuple[str, ...]
    answer: str
    buckets: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the line of the question as JSON values."""
        return {
            "id": self.id,
            "prompt": self.prompt,
            "choices": list(self.choices),
            "answer": self.answer,
            "buckets": list(self.buckets),
        }


@dataclass(frozen=True)
class EvalSet:
    """A whole set; `made` is what its first line says beside the number of questions."""

    name: str
    questions: tuple[Question, ...]
    made: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def chance(self) -> float:
        """The accuracy of guessing."""
        return sum(1 / len(question.choices) for question in self.questions) / len(self.questions)

    @property
    def buckets(self) -> dict[str, int]:
        """How many questions each bucket has."""
        counts: dict[str, int] = {}
        for question in self.questions:
            for name in question.buckets:
                counts[name] = counts.get(name, 0) + 1
        return counts

    def to_text(self) -> str:
        """Return the file: the same set always gives the same text."""
        head = {"schema_version": SCHEMA_VERSION, "name": self.name, **self.made, "questions": len(self.questions)}
        lines = [head, *(question.to_json() for question in self.questions)]
        return "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines)


def read_eval_set(text: str, *, source: str) -> EvalSet:
    """Read a set. Raises `InvalidInput` with every mistake."""
    lines = [line for line in enumerate(text.split("\n"), start=1) if line[1].strip()]
    problems: list[str] = []
    documents = [(number, _object(line, f"{source}:{number}", problems)) for number, line in lines]
    head = documents[0][1] if documents else None
    if head is None:
        problems.append(f"{source}:1: must say what the file is; make one with `mlcc evaluate make-set`")
        raise InvalidInput(source, problems)
    if head.get("schema_version") != SCHEMA_VERSION or isinstance(head.get("schema_version"), bool):
        problems.append(f"{source}:1: schema_version is {head.get('schema_version')!r} and this version reads 1")
    if not isinstance(head.get("name"), str) or not head["name"]:
        problems.append(f"{source}:1: name must be a text")
    questions = [_question(document, f"{source}:{number}", problems) for number, document in documents[1:] if document]
    if head.get("questions") != len(documents) - 1:
        problems.append(
            f"{source}:1: says {head.get('questions')!r} questions and {len(documents) - 1} follow; the file is cut or was added to"
        )
    if not questions:
        problems.append(f"{source}: has no question")
    seen: set[str] = set()
    twice = [each.id for each in questions if each.id in seen or seen.add(each.id)]
    problems += [f"{source}: question {name} is there twice" for name in dict.fromkeys(twice)]
    if problems:
        more = len(problems) - _SHOWN_PROBLEMS
        raise InvalidInput(source, [*problems[:_SHOWN_PROBLEMS], *([f"and {more} more"] if more > 0 else [])])
    made = {key: value for key, value in head.items() if key not in ("schema_version", "name", "questions")}
    return EvalSet(head["name"], tuple(questions), MappingProxyType(made))


def _object(line: str, path: str, problems: list[str]) -> dict[str, Any] | None:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as error:
        problems.append(f"{path}: is not readable as JSON ({error})")
        return None
    if not isinstance(document, dict):
        problems.append(f"{path}: must be an object")
        return None
    return document


def _question(document: Mapping[str, Any], path: str, problems: list[str]) -> Question:
    texts = {}
    for name in ("id", "prompt", "answer"):
        value = document.get(name)
        if not isinstance(value, str) or not value.strip():
            problems.append(f"{path}: {name} must be a text, not {value!r}")
        texts[name] = str(value)
    choices, buckets = _names(document, "choices", path, problems), _names(document, "buckets", path, problems)
    if len(choices) < 2:
        problems.append(f"{path}: choices must be two or more")
    if texts["answer"] not in choices:
        problems.append(f"{path}: answer {texts['answer']!r} is none of the choices")
    return Question(texts["id"], texts["prompt"], choices, texts["answer"], buckets)


def _names(document: Mapping[str, Any], name: str, path: str, problems: list[str]) -> tuple[str, ...]:
    value = document.get(name)
    if not isinstance(value, list) or not value or not all(isinstance(each, str) and each for each in value):
        problems.append(f"{path}: {name} must be a list of texts that is not empty, not {value!r}")
        return ()
    if len(set(value)) < len(value):
        problems.append(f"{path}: {name} has one twice")
    return tuple(dict.fromkeys(value))
