"""An evaluation asks every question once, keeps what was answered, goes on where it was, and leaves no server behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from catalog.loader import load_catalog
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.evaluation_reading import read_candidate
from mlcc_dagster.core.exceptions import InvalidInput, MlccError, UsageError
from mlcc_dagster.core.verb_questions import verb_questions
from resources import evaluations, processes
from resources.candidate_bundles import bundle_digest
from resources.evaluation_sets import content_hash
from resources.evaluations import answers_path, assignment, evaluate, evaluations_folder
from resources.home import Home
from resources.ledger import Ledger
from resources.served_candidates import PREFIX, Served, read_description, served

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
SMALL = replace(verb_questions(per_cell=1), questions=verb_questions(per_cell=1).questions[::3])
"""42 questions of all buckets."""

MLCC = Path(sys.executable).with_name("mlcc")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    describe(folder)
    return folder


def describe(folder: Path, **changes: Any) -> None:
    document = {"schema_version": 1, "model_name": MODEL, "quantization": "q4_1"} | changes
    (folder / "bundle.json").write_text(json.dumps(document))


@pytest.fixture
def eval_set(tmp_path: Path) -> Path:
    path = tmp_path / "set.jsonl"
    path.write_text(SMALL.to_text())
    return path


# ---- what is to be evaluated


def test_a_bundle_says_which_configuration_it_is(bundle: Path):
    describe(bundle, quantization="q8_0", instance_type="local.2cpu", serving_params={"slots": 1}, max_model_len=512)
    assert read_description(bundle, load_catalog()) == Configuration(
        deployment_config="transformers-llamacpp",
        model_name=MODEL,
        model_family="smollm2",
        instance_type="local.2cpu",
        region="local",
        quantization="q8_0",
        max_model_len=512,
        serving_params={"slots": "1"},
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_name": None}, "model_name: must be a text"),
        ({"quantization": 4}, "quantization: must be a text"),
        ({"schema_version": 9}, "schema_version: is 9"),
        ({"adapter": "lora"}, "adapter: is not served on this machine"),
        ({"max_model_len": "512"}, "max_model_len: must be a whole number"),
        ({"serving_params": [1]}, "serving_params: must be an object"),
        ({"modle_name": "x"}, "modle_name: unknown"),
    ],
)
def test_every_mistake_of_a_bundle_is_named(bundle: Path, changes: dict[str, Any], words: str):
    describe(bundle, **changes)
    with pytest.raises(InvalidInput, match=words):
        read_description(bundle, load_catalog())


@pytest.mark.parametrize("content", [None, "{", "[]"], ids=["absent", "cut", "a list"])
def test_a_folder_that_describes_nothing_is_refused(bundle: Path, content: str | None):
    (bundle / "bundle.json").unlink()
    if content is not None:
        (bundle / "bundle.json").write_text(content)
    with pytest.raises(UsageError, match=r"bundle\.json"):
        read_description(bundle, load_catalog())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"quantization": "q5_0"}, "has no quantization q5_0"),
        ({"model_name": "Qwen/Qwen3-4B"}, "weights of these alone"),
        ({"instance_type": "ml.g5.xlarge"}, "needs instance ml.g5.xlarge"),
    ],
)
def test_what_cannot_be_served_here_is_refused_before_anything_is_made(
    home: Home, bundle: Path, eval_set: Path, changes: dict[str, Any], words: str
):
    describe(bundle, **changes)
    with pytest.raises(UsageError, match=words):
        assignment(home, bundle, eval_set)
    assert not home.root.exists()


def test_the_set_is_known_by_the_hash_that_dvc_gives_it_and_must_be_the_committed_one(
    home: Home, bundle: Path, eval_set: Path
):
    found = content_hash(eval_set)
    assert assignment(home, bundle, eval_set).eval_set_hash == found
    pointer = eval_set.with_name("set.jsonl.dvc")
    pointer.write_text(f"outs:\n- md5: {found}\n  hash: md5\n  path: set.jsonl\n")
    assert assignment(home, bundle, pointer).eval_set == assignment(home, bundle, eval_set).eval_set
    pointer.write_text(f"outs:\n- md5: {'f' * 32}\n  hash: md5\n  path: set.jsonl\n")
    for path in (pointer, eval_set):
        with pytest.raises(UsageError, match="is not the evaluation set"):
            assignment(home, bundle, path)


# ---- asking


@dataclass
class Scripted:
    """A real HTTP server in the place of the model: it answers with the alphabetically first choice it was given a bias for,
    or as `says` tells; after `dies_after` answers it refuses."""

    says: Callable[[Mapping[str, Any]], str] = lambda body: sorted(choice for choice, _ in body["logit_bias"])[0]
    dies_after: int | None = None
    asked: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def questions(self) -> list[Mapping[str, Any]]:
        """What was asked of the set, without the probes of single choices."""
        return [body for body in self.asked if len(body["logit_bias"]) > 1]

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        script = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                script.asked.append(body)
                dead = script.dies_after is not None and len(script.questions) > script.dies_after
                content = json.dumps({"error": "gone"} if dead else {"choices": [{"text": script.says(body)}]}).encode()
                self.send_response(503 if dead else 200)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[[Scripted], Scripted]:
    """Let a scripted server answer in the candidate's place."""

    def use(script: Scripted) -> Scripted:
        @contextlib.contextmanager
        def stand_in(home: Home, configuration: Configuration, say: Callable[[str], None]) -> Iterator[Served]:
            with script.serving() as endpoint:
                yield Served(endpoint, threading.Event(), lambda: None)

        monkeypatch.setattr(evaluations, "served", stand_in)
        return script

    return use


def test_every_question_is_asked_once_at_temperature_0_among_its_choices(home, bundle, eval_set, serve):
    script = serve(Scripted())
    found = evaluate(home, assignment(home, bundle, eval_set))
    assert [body["prompt"] for body in script.questions] == [question.prompt for question in SMALL.questions]
    assert {(body["temperature"], body["max_tokens"]) for body in script.asked} == {(0, 1)}
    assert [item.id for item in found.items] == [question.id for question in SMALL.questions]
    expected = {question.id: sorted(question.choices)[0] == question.answer for question in SMALL.questions}
    assert {item.id: item.correct for item in found.items} == expected
    assert found.candidate_sha == bundle_digest(bundle)
    assert found.eval_set_dvc_hash == content_hash(eval_set)


def test_the_evaluation_is_kept_in_the_home_and_is_what_the_gate_reads(home, bundle, eval_set, serve):
    serve(Scripted())
    found = evaluate(home, assignment(home, bundle, eval_set))
    kept = evaluations_folder(home) / f"{found.candidate_sha}.json"
    read = read_candidate(kept.read_text(), source=kept.name)
    assert read.problems == () and read.document is not None
    assert read.document.to_json() == found.to_json()
    assert found.evaluated["seconds"] > 0 and found.evaluated["cost_usd"] > 0


def test_an_interrupted_evaluation_keeps_its_answers_and_goes_on(home, bundle, eval_set, serve):
    asked = assignment(home, bundle, eval_set)
    serve(Scripted(dies_after=20))
    with pytest.raises(MlccError, match="503"):
        evaluate(home, asked)
    assert not list(evaluations_folder(home).glob("*.json")), "half an evaluation is none"
    path = answers_path(home, asked)
    assert len(evaluations.read_answers(path, SMALL.questions)) == 20
    with path.open("a") as file:
        file.write('{"id": "present/first-sing')
    second = serve(Scripted())
    found = evaluate(home, asked)
    assert len(second.questions) == len(SMALL.questions) - 20
    assert len(found.items) == len(SMALL.questions)
    third = serve(Scripted())
    assert evaluate(home, asked).items == found.items
    assert third.asked == [], "a whole evaluation is not asked again"
    fourth = serve(Scripted())
    assert evaluate(home, asked, fresh=True).items == found.items
    assert len(fourth.questions) == len(SMALL.questions)


def test_answers_of_another_candidate_or_set_are_not_taken_up(home, bundle, eval_set, serve):
    serve(Scripted())
    evaluate(home, assignment(home, bundle, eval_set))
    describe(bundle, quantization="q8_0")
    other = serve(Scripted())
    evaluate(home, assignment(home, bundle, eval_set))
    assert len(other.questions) == len(SMALL.questions)
    eval_set.write_text(replace(SMALL, name="another").to_text())
    another = serve(Scripted())
    evaluate(home, assignment(home, bundle, eval_set))
    assert len(another.questions) == len(SMALL.questions)


def test_choices_that_the_model_cuts_are_refused_by_name(home, bundle, eval_set, serve):
    script = serve(Scripted(says=lambda body: " a" if body["logit_bias"][0][0] == " ate" else body["logit_bias"][0][0]))
    with pytest.raises(UsageError, match=r"1 choices are not one token of this model \(' ate'\)"):
        evaluate(home, assignment(home, bundle, eval_set))
    assert script.questions == []


def test_an_answer_that_is_no_choice_ends_the_evaluation(home, bundle, eval_set, serve):
    serve(Scripted(says=lambda body: body["logit_bias"][0][0] if len(body["logit_bias"]) == 1 else " banana"))
    with pytest.raises(MlccError, match="none of its choices"):
        evaluate(home, assignment(home, bundle, eval_set))


def test_the_same_evaluation_is_not_made_twice_at_once(home, bundle, eval_set, serve):
    asked = assignment(home, bundle, eval_set)
    second: list[str] = []

    def says(body: Mapping[str, Any]) -> str:
        if not second:
            second.append("")
            with pytest.raises(MlccError, match="another process is making exactly this evaluation") as caught:
                evaluate(home, asked)
            second.append(str(caught.value))
        return body["logit_bias"][0][0]

    serve(Scripted(says=says))
    evaluate(home, asked)
    assert len(second) == 2


# ---- the real server


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@pytest.fixture
def real_home(home: Home, weights: Path) -> Home:
    home.ensure()
    (home.root / "cache").symlink_to(weights)
    (home.root / "settings.yaml").write_text("lease_seconds: 4\nbeat_seconds: 0.5\n")
    return home


def left_of(home: Home) -> list[str]:
    """The runs of this home that some process still carries the tag of."""
    return [run_id for run_id, process in processes.tagged_all() if processes.lease_home(process) == home.root]


def assert_nothing_left(home: Home) -> None:
    assert left_of(home) == []
    assert Ledger(home.database).alive() == []
    assert Ledger(home.database).slots() == []
    assert list(home.workspaces.iterdir()) == []


@pytest.mark.slow
def test_the_embedded_model_is_evaluated_twice_alike_and_far_above_chance(real_home, bundle, eval_set):
    asked = assignment(real_home, bundle, eval_set)
    first = evaluate(real_home, asked)
    assert_nothing_left(real_home)
    second = evaluate(real_home, asked, fresh=True)
    assert second.items == first.items
    right = sum(item.correct for item in first.items)
    assert right > 0.75 * len(first.items) > 3 * SMALL.chance * len(first.items)
    assert_nothing_left(real_home)


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_and_nothing_of_it_is_left(real_home, bundle, eval_set, tmp_path):
    output = tmp_path / "candidate_eval.json"
    words = ["evaluate", "--bundle", str(bundle), "--eval-set", str(eval_set), "--output", str(output)]
    environment = os.environ | {"MLCC_HOME": str(real_home.root)}
    killed = subprocess.Popen([MLCC, *words], env=environment, stderr=subprocess.DEVNULL)
    asked = assignment(real_home, bundle, eval_set)
    path = answers_path(real_home, asked)
    deadline = time.monotonic() + 60
    while len(evaluations.read_answers(path, SMALL.questions)) < 8:
        assert killed.poll() is None and time.monotonic() < deadline, "it did not get so far"
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not output.exists()
    kept = len(evaluations.read_answers(path, SMALL.questions))
    assert all(run_id.startswith(PREFIX) for run_id in left_of(real_home)) and left_of(real_home)
    # its lease must be over: until then nobody can know that it is dead
    time.sleep(4.5)
    done = subprocess.run([MLCC, *words, "--json"], env=environment, capture_output=True, text=True, check=True)
    assert f"{kept} of 42 answers kept from before" in done.stderr
    assert json.loads(done.stdout)["candidate_sha"] == asked.bundle_digest
    assert read_candidate(output.read_text(), source="x").problems == ()
    assert_nothing_left(real_home)


@pytest.mark.slow
def test_a_reaper_leaves_a_living_evaluation_alone_and_a_lost_lease_ends_it(real_home, bundle):
    from resources.platform import Platform
    from resources.reaper import reap

    platform = Platform.open(real_home.root)
    with served(real_home, read_description(bundle, load_catalog()), lambda line: None) as server:
        reaped = reap(
            home=real_home,
            ci=platform.ci,
            ledger=platform.ledger,
            store=platform.store,
            executor=platform.executor,
            interrupted_usd=lambda attempt, now: 0.0,
        )
        assert reaped.ended == () and server.ended() is None
        for resource in platform.ledger.alive():
            if resource.kind == "kept":
                platform.ledger.release(resource.id, "ended by somebody else")
        assert server.stopped.wait(5)
    assert_nothing_left(real_home)
