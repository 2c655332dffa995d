"""Evaluating a candidate: every question of a set asked of its real server, and the document that a gate reads.

Belongs here: asking, keeping answers so that an interrupted evaluation goes on, writing the result. Not here: serving the candidate
(`served_candidates.py`), what the questions are (`core.eval_sets`), deciding (`core.gate`).

A question is answered by the choice that the model finds most likely as the next token. The server is asked for one token at
temperature 0 with the same large bias on every choice: no other token can win then, and among them the most likely does. That
supposes that each choice is one token; the server is asked for each choice alone first, and one that comes back cut is refused.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx

from catalog.loader import load_catalog
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.eval_sets import EvalSet, Question, read_eval_set
from mlcc_dagster.core.evaluations import CandidateEvaluation, Item, scores_of
from mlcc_dagster.core.exceptions import MlccError, UsageError
from mlcc_dagster.core.prices import Billing, Prices
from mlcc_dagster.core.registry_chain import canonical
from mlcc_dagster.core.stages import Stage
from resources.candidate_bundles import bundle_digest
from resources.evaluation_sets import DVC_SUFFIX, eval_set_hash, read_dvc_file
from resources.home import Home
from resources.local.executor import LocalExecutor
from resources.result_manifest import replace_durably
from resources.served_candidates import Served, read_description, served

BIAS = 100.0
"""What is added to the logit of every choice: far more than logits differ."""

ANSWER_SECONDS = 60.0
"""How long one answer may take."""

_PROBE = "The"


@dataclass(frozen=True)
class Assignment:
    """One evaluation to be made: which candidate on which set. `bundle_digest` and `eval_set_hash` name both by content."""

    configuration: Configuration
    bundle_digest: str
    eval_set: EvalSet
    eval_set_hash: str
    engine: Mapping[str, str]

    @property
    def key(self) -> str:
        """What the answers depend on, as one digest: answers are only taken up again under the same."""
        return hashlib.sha256(
            canonical({"bundle": self.bundle_digest, "set": self.eval_set_hash, "engine": dict(self.engine)})
        ).hexdigest()


@dataclass(frozen=True)
class Answer:
    """The choice that was answered, and the seconds it took."""

    text: str
    seconds: float


def evaluations_folder(home: Home) -> Path:
    """Return where a home keeps evaluations: `<digest of the bundle>.json`, and answers below `answers/`."""
    return home.root / "evaluations"


def assignment(home: Home, bundle: Path, eval_set: Path) -> Assignment:
    """Read what is to be evaluated, and check that it can be. Touches no home.

    Raises `UsageError` and `InvalidInput` for a bundle, a set or a configuration that cannot be used.
    """
    executor = LocalExecutor(home)
    configuration = read_description(bundle, load_catalog())
    refusal = executor.can_run(configuration)
    if refusal is not None:
        raise UsageError(f"this candidate cannot be served here: {refusal}")
    data = read_dvc_file(eval_set).data if eval_set.suffix == DVC_SUFFIX else eval_set
    if data.is_dir():
        raise UsageError(f"{data} is a folder; an evaluation set is one file of questions")
    found = eval_set_hash(eval_set)
    try:
        text = data.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{data} is no UTF-8 text (byte {error.start}); make a set with `mlcc evaluate make-set`"
        ) from error
    questions = read_eval_set(text, source=data.name)
    engine = executor.digests(configuration.deployment_config)
    return Assignment(configuration, bundle_digest(bundle), questions, found, engine)


def answers_path(home: Home, asked: Assignment) -> Path:
    """Return where the answers of an evaluation are kept, as they come."""
    return evaluations_folder(home) / "answers" / f"{asked.key}.jsonl"


def read_answers(path: Path, questions: Sequence[Question]) -> dict[str, Answer]:
    """Return the answers of a file by question; what is cut off or answers another question is left out."""
    choices = {question.id: question.choices for question in questions}
    try:
        lines = path.read_text("utf-8").split("\n")
    except FileNotFoundError:
        return {}
    answers = {}
    for line in lines:
        try:
            document = json.loads(line)
            name, answer = document["id"], Answer(document["answer"], float(document["seconds"]))
        except (ValueError, KeyError, TypeError):
            continue  # the line that was being written when the process died
        if answer.text in choices.get(name, ()):
            answers[name] = answer
    return answers


def evaluate(
    home: Home,
    asked: Assignment,
    *,
    fresh: bool = False,
    say: Callable[[str], None] = lambda line: None,
    answered: Callable[[], None] = lambda: None,
) -> CandidateEvaluation:
    """Ask every question and return the evaluation, which is kept in the home too.

    Answers that an earlier evaluation of exactly this kept are taken up, unless `fresh`. `say` gets a sentence per step, `answered`
    is called once per question. Raises `MlccError` where the candidate cannot be served or does not answer: what was answered
    until then is kept.
    """
    home.ensure()
    path = answers_path(home, asked)
    questions = asked.eval_set.questions
    with _alone(path):
        if fresh:
            path.unlink(missing_ok=True)
        answers = read_answers(path, questions)
        if answers:
            say(f"{len(answers)} of {len(questions)} answers kept from before in {path}")
        for _ in answers:
            answered()
        missing = [question for question in questions if question.id not in answers]
        if missing:
            with served(home, asked.configuration, say) as server:
                say(f"asking {len(missing)} questions at {server.endpoint}")
                for name, answer in _asked(server, missing, path):
                    answers[name] = answer
                    answered()
    found = _evaluation(asked, answers)
    evaluations_folder(home).mkdir(parents=True, exist_ok=True)
    write_document(evaluations_folder(home) / f"{asked.bundle_digest}.json", found.to_json())
    return found


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON document, whole or not at all."""
    replace_durably(path, (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def answer_of(client: httpx.Client, prompt: str, choices: Sequence[str]) -> str:
    """Ask for the next token among the choices and return its text. Raises `MlccError` where the server refuses."""
    answer = client.post(
        "/invocations",
        json={
            "prompt": prompt,
            "max_tokens": 1,
            "temperature": 0,
            "seed": 0,
            "logit_bias": [[choice, BIAS] for choice in choices],
        },
    )
    if answer.status_code != 200:
        raise MlccError(
            f"the candidate answered {answer.status_code} to a question: {answer.text[:300]}; look at its server"
        )
    return answer.json()["choices"][0]["text"]


def _asked(server: Served, questions: Sequence[Question], path: Path) -> Iterator[tuple[str, Answer]]:
    """Yield the answers one after the other, each kept before the next is asked for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (
            httpx.Client(base_url=server.endpoint, timeout=ANSWER_SECONDS, trust_env=False) as client,
            path.open("a", encoding="utf-8") as file,
        ):
            # a line that was cut off must not run into the next one
            file.write("\n")
            _refuse_cut_choices(client, questions)
            for question in questions:
                if server.stopped.is_set():
                    raise MlccError("the evaluation lost its deployment to a reaper; run it again, it goes on")
                began = time.monotonic()
                text = answer_of(client, question.prompt, question.choices)
                if text not in question.choices:
                    raise MlccError(
                        f"question {question.id} was answered with {text!r}, none of its choices; look at the server"
                    )
                answer = Answer(text, time.monotonic() - began)
                line = {"id": question.id, "answer": answer.text, "seconds": round(answer.seconds, 6)}
                file.write(f"{json.dumps(line)}\n")
                file.flush()
                yield question.id, answer
    except httpx.HTTPError as error:
        why = server.ended() or f"{type(error).__name__}: {error}"
        raise MlccError(f"the candidate stopped answering ({why}); run it again, it goes on") from error


def _refuse_cut_choices(client: httpx.Client, questions: Sequence[Question]) -> None:
    """Raise `UsageError` naming the choices that are not one token of the model: only their beginning would be compared."""
    choices = dict.fromkeys(choice for question in questions for choice in question.choices)
    cut = [choice for choice in choices if answer_of(client, _PROBE, [choice]) != choice]
    if cut:
        raise UsageError(
            f"{len(cut)} choices are not one token of this model ({', '.join(map(repr, cut[:10]))}); use a set with other words"
        )


def _evaluation(asked: Assignment, answers: Mapping[str, Answer]) -> CandidateEvaluation:
    questions = asked.eval_set.questions
    items = tuple(
        Item(question.id, question.buckets, answers[question.id].text == question.answer) for question in questions
    )
    seconds = sum(answers[question.id].seconds for question in questions)
    instance = load_catalog().instances.get(asked.configuration.instance_type)
    prices = Prices(Billing.MACHINE, None if instance is None else instance.usd_per_hour, load_catalog().costs)
    known = instance is not None and instance.usd_per_hour is not None
    return CandidateEvaluation(
        asked.eval_set_hash,
        asked.bundle_digest,
        scores_of(items),
        items,
        MappingProxyType(
            {
                "eval_set": asked.eval_set.name,
                "questions": len(questions),
                "chance": round(asked.eval_set.chance, 6),
                "configuration": asked.configuration.to_json(),
                **asked.engine,
                "seconds": round(seconds, 3),
                "cost_usd": round(prices.usd(Stage.TEST, seconds), 9) if known else None,
            }
        ),
    )


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the lock of one evaluation. Raises `MlccError` where another process makes the same one."""
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path.with_suffix(".lock"), timeout=0):
            yield
    except Timeout:
        raise MlccError("another process is making exactly this evaluation; wait for it and run it again") from None
