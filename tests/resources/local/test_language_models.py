"""The language model is really served, streams, counts its tokens, gives slots back, and fails for the reasons it says."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_runs import TO_PUSH, Run, SmallWorkload, StartRun, configuration

from catalog.loader import load_catalog
from mlcc_dagster.core import failures
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.exceptions import StageFailed
from mlcc_dagster.core.gaps import Vector
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.metrics import metric_columns
from mlcc_dagster.core.request_records import parse_record
from mlcc_dagster.core.resolution import configuration_of, resolve
from mlcc_dagster.core.stages import Stage
from mlcc_dagster.core.universe import Universe
from resources import processes
from resources.home import Home
from resources.load_client import event_data
from resources.local import images
from resources.local.executor import LocalExecutor, catalog_workload
from resources.local.language_models import LLAMACPP, engine_settings, prompts
from resources.local.weights import QUANTIZATIONS

ROOT, HERE = Path(__file__).parents[3], Path(__file__).parent
MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
CATALOG = load_catalog()
CHAT = SmallWorkload(name="chat", input_tokens_mean=24, output_tokens_mean=12, streaming=True, requests=4)
QUESTION = {"messages": [{"role": "user", "content": "What is the capital of France?"}], "temperature": 0}
FOREVER = QUESTION | {"max_tokens": 1900, "ignore_eos": True}
LLM: dict[str, Any] = {
    "deployment_config": "transformers-llamacpp",
    "model_name": MODEL,
    "model_family": "smollm2",
    "quantization": "q4_1",
}


def language_model(**changes: Any) -> Configuration:
    return configuration(**LLM | changes)


def assert_nothing_left(run: Run) -> None:
    assert processes.tagged(run.run_id) == ()
    assert not run.workspace.exists()
    assert run.ledger.alive(run.run_id) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({}, None, id="as shipped"),
        pytest.param({"quantization": "fp16"}, None, id="full precision is F16"),
        pytest.param({"quantization": "q8_0", "instance_type": "local.2cpu"}, None, id="requantized, two CPUs"),
        pytest.param({"max_model_len": 8192, "serving_params": {"slots": "8"}}, None, id="the longest, most slots"),
        pytest.param({"serving_params": {"kv_cache_type": "q8_0"}}, None, id="a smaller cache"),
        pytest.param({"quantization": "int8"}, "has no quantization int8 (it has none, q8_0, q4_1, q4_0)", id="int8"),
        pytest.param({"quantization": "q5_0"}, "has no quantization q5_0", id="one that llama.cpp knows, not offered"),
        pytest.param({"max_model_len": 16384}, "max_model_len must be from 256 to 8192, not 16384", id="too long"),
        pytest.param({"max_model_len": 64}, "max_model_len must be from 256", id="too short for the test"),
        pytest.param({"model_name": "Qwen/Qwen3-4B"}, "weights of these alone", id="weights that are not here"),
        pytest.param({"model_name": "sklearn/random-forest-digits"}, "is not supported", id="a predictor"),
        pytest.param({"tp_degree": 2}, "no tensor parallelism", id="tensor parallelism"),
        pytest.param({"enable_lora": True}, "no LoRA adapters", id="adapters"),
        pytest.param({"deployment_target": "batch-transform"}, "target batch-transform is not offered", id="target"),
        pytest.param({"instance_type": "local.4096cpu"}, "needs 4096 CPUs", id="more threads than cores"),
        pytest.param({"instance_type": "ml.g5.xlarge"}, "needs instance ml.g5.xlarge", id="elsewhere"),
        pytest.param({"serving_params": {"slots": "0"}}, "must be a whole number from 1 to 8", id="no slot"),
        pytest.param(
            {"serving_params": {"kv_cache_type": "f64"}},
            "kv_cache_type (number format of the key-value cache) must be one of f16, q8_0, q4_0, not 'f64'",
            id="an unknown cache format",
        ),
        pytest.param({"serving_params": {"ctx_size": "99"}}, "serving parameter ctx_size is unknown", id="unknown"),
        pytest.param({"serving_params": {"threads": "1"}}, None, id="a thread for its CPU"),
        pytest.param(
            {"serving_params": {"threads": "2"}}, "threads 2 is more than the CPUs of local.1cpu (1)", id="more threads"
        ),
        pytest.param({"serving_params": {"threads": "0"}}, "must be a whole number from 1 to 64", id="no thread"),
        pytest.param({"serving_params": {"threads": "all"}}, "must be a whole number from 1 to 64", id="no number"),
    ],
)
def test_it_says_what_it_cannot_run(tmp_path: Path, changes: dict[str, Any], words: str | None) -> None:
    reason = LocalExecutor(Home(tmp_path)).can_run(language_model(**changes))
    assert (reason is None) if words is None else (reason is not None and words in reason)
    assert list(tmp_path.iterdir()) == [], "asking touches nothing"


def test_a_predictor_given_to_it_is_incompatible(start_run: StartRun) -> None:
    run = start_run(**LLM | {"model_name": "sklearn/random-forest-digits"})
    with pytest.raises(StageFailed) as caught:
        run.perform(Stage.GENERATE)
    assert caught.value.category == "model_incompatibility"
    assert failures.classify("generate", caught.value.message).category == "model_incompatibility"


def test_the_catalog_offers_exactly_what_is_served_here() -> None:
    declared = CATALOG.deployment_configs[LLAMACPP.name]
    assert set(declared.quantizations) == set(QUANTIZATIONS)


def test_the_gaps_of_the_local_tier_are_two_quantizations_on_the_cheapest_instance(tmp_path: Path) -> None:
    can_run = LocalExecutor(Home(tmp_path)).can_run
    on_path = {configuration_of(entry, CATALOG).vector for entry in CATALOG.tier_entries("local")}
    possible = {v for v in Universe.of(CATALOG, can_run).possible if v.deployment_config == LLAMACPP.name}
    gaps = possible - on_path
    assert gaps == {
        Vector(LLAMACPP.name, "smollm2", "local", quantization, "1", "realtime-inference")
        for quantization in ("none", "q4_0")
    }
    concrete = [resolve(gap, CATALOG, can_run) for gap in sorted(gaps)]
    assert all(isinstance(each, Configuration) and each.instance_type == "local.1cpu" for each in concrete)
    assert len({config_id(each) for each in concrete if isinstance(each, Configuration)}) == 2


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, {"threads": 1, "slots": 2, "max_model_len": 2048, "kv_cache_type": "f16"}, id="defaults"),
        pytest.param({"instance_type": "local.2cpu"}, {"threads": 2}, id="threads are the CPUs of the instance"),
        pytest.param(
            {"instance_type": "local.2cpu", "serving_params": {"threads": "1"}}, {"threads": 1}, id="fewer threads"
        ),
        pytest.param({"max_model_len": 512}, {"max_model_len": 512}, id="context"),
        pytest.param(
            {"serving_params": {"slots": "3", "kv_cache_type": "q4_0"}},
            {"slots": 3, "kv_cache_type": "q4_0"},
            id="both",
        ),
    ],
)
def test_the_engine_runs_as_the_configuration_says(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    settings = engine_settings(language_model(**changes))
    assert {name: settings[name] for name in expected} == expected


@given(st.integers(1, 200), st.integers(1, 60), st.sampled_from(["local_chat", "sample"]))
def test_prompts_are_distinct_seeded_and_as_long_as_asked(tokens: int, count: int, name: str) -> None:
    drawn = list(prompts(name, tokens, count))
    assert len(set(drawn)) == len(drawn) == count
    assert drawn == list(prompts(name, tokens, count))
    lengths = {len(prompt.split()) for prompt in drawn}
    assert lengths <= ({tokens - 9} if tokens > 11 else {1, 2, 3})


def test_a_workload_is_scaled_to_this_machine_where_it_says_how() -> None:
    scaled, declared = catalog_workload("rag_document_qa"), CATALOG.workloads["rag_document_qa"]
    assert declared.local is not None
    assert (scaled.input_tokens_mean, scaled.requests) == (declared.local.input_tokens_mean, declared.local.requests)
    assert (scaled.name, scaled.streaming) == (declared.name, declared.streaming)
    assert catalog_workload("local_chat") == CATALOG.workloads["local_chat"]


def test_a_workload_for_predictors_cannot_be_measured(start_run: StartRun, tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match="workload small is for predictors") as caught:
        LLAMACPP.exchange(model=tmp_path, workload=SmallWorkload())
    assert caught.value.category == "service_limitation"


@pytest.mark.slow
def test_a_whole_lifecycle_streams_measures_and_leaves_nothing(start_run: StartRun) -> None:
    run = start_run(**LLM, instance_type="local.2cpu")
    run.workload = CHAT
    assert run.executor.can_run(run.configuration) is None
    run.perform(*TO_PUSH, Stage.DEPLOY)
    port = run.outputs["port"]
    assert [entry.kind for entry in run.ledger.alive(run.run_id)] == ["image", "process", "port"]

    tested = run.perform(Stage.TEST)
    assert "Paris" in tested["answer"] and tested["chunks"] > 1

    measured = run.perform(Stage.BENCHMARK)
    assert sorted(measured["raw"]) == ["1", "2"]
    for place in measured["raw"].values():
        lines = (run.home.root / place).read_text().splitlines()
        records = [parse_record(line) for line in lines]
        assert len(records) == CHAT.requests and all(record.error is None for record in records)
        for line, record in zip(lines, records, strict=True):
            value = record.metrics
            assert (value["input_sequence_length"], value["output_token_count"]) == (24, 12), "as the server counts"
            assert 0 < value["time_to_first_token"] < value["request_latency"]
            assert 0 < value["time_to_second_token"] < value["request_latency"]
            between = (value["request_latency"] - value["time_to_first_token"]) / 11
            assert value["inter_token_latency"] == pytest.approx(between, rel=0.05)
            gaps = json.loads(line)["metrics"]["inter_chunk_latency"]["value"]
            assert gaps[0] == value["time_to_second_token"] and 5 < len(gaps) < 12
        columns = metric_columns(records, usd_per_hour=0.1)
        filled = ("ttft_p50_ms", "itl_p50_ms", "ttst_p50_ms", "prefill_tps_avg", "output_token_tps_p50")
        assert all(columns[name] is not None for name in (*filled, "cost_per_1m_tokens"))

    registered = run.perform(Stage.REGISTER)["registration"]
    assert registered["engine"].startswith("llama.cpp (xllamacpp ")
    evidence = run.executor.evidence(run.configuration, run.outputs)
    assert evidence.execution == "process"
    assert set(evidence.digests) == {"image", "template", "model", "python", "weights"}, "nothing was derived"

    run.clean()
    assert_nothing_left(run)
    assert not listens(port)
    run.clean()


@pytest.mark.slow
@pytest.mark.parametrize("quantization", ["q8_0", "q4_0", "none"])
def test_derived_weights_serve_and_say_what_they_come_from(start_run: StartRun, quantization: str) -> None:
    run = start_run(**LLM | {"quantization": quantization})
    run.perform(*TO_PUSH, Stage.DEPLOY, Stage.TEST)
    digests = run.executor.evidence(run.configuration, run.outputs).digests
    assert digests["derived_from"].startswith("q4_1 sha256:") and digests["weights"] not in digests["derived_from"]
    manifest = json.loads(images.blob_path(run.home.registry, run.outputs["image_digest"]).read_bytes())
    assert manifest["annotations"]["mlcc.derived-from"] == digests["derived_from"]
    assert manifest["annotations"]["mlcc.quantization"] == quantization
    run.clean()
    assert_nothing_left(run)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"serving_params": {"kv_cache_type": "q8_0", "slots": "1"}}, id="an 8-bit cache, one slot"),
        pytest.param({"serving_params": {"kv_cache_type": "q4_0"}, "max_model_len": 256}, id="a 4-bit cache, short"),
        pytest.param({"serving_params": {"slots": "4"}, "instance_type": "local.2cpu"}, id="four slots, two threads"),
    ],
)
def test_what_can_be_set_is_what_the_engine_runs_with(start_run: StartRun, changes: dict[str, Any]) -> None:
    run = start_run(**LLM | changes)
    run.perform(*TO_PUSH, Stage.DEPLOY, Stage.TEST)
    wanted = engine_settings(run.configuration)
    with engine_of(run) as engine:
        slots = engine.get("/slots").json()
    assert [slot["n_ctx"] for slot in slots] == [wanted["max_model_len"]] * wanted["slots"]
    run.clean()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("quantization", "limit"),
    [
        pytest.param("q4_1", 64, id="below libraries and weights"),
        pytest.param("q4_1", 256, id="half of what it takes"),
        pytest.param("q4_1", 440, id="all but the last threads"),
        pytest.param("q8_0", 460, id="enough for smaller weights"),
    ],
)
def test_a_memory_limit_below_the_need_is_an_honest_oom(start_run: StartRun, quantization: str, limit: int) -> None:
    run = start_run(**LLM | {"quantization": quantization}, serving_params={"memory_limit_mb": str(limit)})
    with pytest.raises(StageFailed, match=rf"Cannot allocate memory: \d+ MB .* the limit is {limit} MB") as caught:
        run.perform(*TO_PUSH, Stage.DEPLOY)
    assert caught.value.category is None, "the log is what is read"
    for ruleset in ("v1", "compat"):
        assert failures.classify("deploy", run.log(), ruleset).category == "oom"
    run.clean()
    assert_nothing_left(run)


@pytest.mark.slow
def test_a_memory_limit_that_suffices_is_enforced_while_it_serves_long_prompts(start_run: StartRun) -> None:
    run = start_run(**LLM, serving_params={"memory_limit_mb": "640"}, max_model_len=512)
    run.workload = SmallWorkload("long", input_tokens_mean=200, output_tokens_mean=8, streaming=True, requests=2)
    run.perform(*TO_PUSH, Stage.DEPLOY, Stage.TEST, Stage.BENCHMARK)
    limits = Path(f"/proc/{run.outputs['server']['pid']}/limits")
    if limits.exists():
        assert limits.read_text().count(str(640 << 20)) == 2, "soft and hard"
    assert [level["errors"] for level in run.outputs["levels"]] == [0, 0]
    run.clean()


@pytest.mark.slow
def test_a_server_killed_in_the_middle_of_a_stream_is_an_error_record(start_run: StartRun) -> None:
    run = start_run(**LLM)
    run.workload = SmallWorkload("long", input_tokens_mean=24, output_tokens_mean=400, streaming=True, requests=3)
    run.perform(*TO_PUSH, Stage.DEPLOY)

    def kill() -> None:
        with engine_of(run) as engine:
            wait_until(lambda: busy(engine))
        os.kill(run.outputs["server"]["pid"], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(StageFailed, match=r"no request succeeded at concurrency 1 .*ended \(by signal 9\)"):
        run.perform(Stage.BENCHMARK)
    thread.join()
    raw = run.home.raw / run.run_id / "long-c1" / "profile_export.jsonl"
    assert all(parse_record(line).error is not None for line in raw.read_text().splitlines())
    run.clean()
    assert_nothing_left(run)


DRIVER = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
from local_runs import Run, SmallWorkload, configuration
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.stages import Stage
from resources.home import Home
import json

workload = SmallWorkload("chat", input_tokens_mean=24, output_tokens_mean=12, streaming=True, requests=1_000_000)
run = Run(Home(Path(sys.argv[3])), sys.argv[4], Configuration.from_json(json.loads(sys.argv[5])), workload)
run.perform(*(Stage(name) for name in ("generate", "build", "push", "deploy", "benchmark")))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "after", "fresh"),
    [
        pytest.param(lambda run: processes.tagged(run.run_id), 0.5, True, id="while it requantizes"),
        pytest.param(lambda run: "port" in kinds_of(run, "alive"), 0.5, False, id="while the engine loads"),
        pytest.param(lambda run: list(run.home.raw.glob("*/*/*.jsonl")), 0.3, False, id="in the middle of a stream"),
    ],
)
def test_killed_one_clean_from_another_process_leaves_nothing(
    start_run: StartRun, moment: Callable[[Run], object], after: float, fresh: bool
) -> None:
    run = start_run(fresh_cache=fresh, **LLM | {"quantization": "q8_0" if fresh else "q4_1"})
    arguments = [str(ROOT), str(HERE), str(run.home.root), run.run_id, json.dumps(run.configuration.to_json())]
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, *arguments])
    deadline = time.monotonic() + 120
    while not moment(run):
        assert driver.poll() is None and time.monotonic() < deadline, "the moment did not come"
        time.sleep(0.005)
    time.sleep(after)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    ports = [entry.details["port"] for entry in run.ledger.alive(run.run_id) if "port" in entry.details]
    run.clean()
    assert_nothing_left(run)
    assert not [port for port in ports if listens(port)]
    time.sleep(0.2)
    run.clean()
    assert_nothing_left(run)


@pytest.mark.slow
def test_the_scripts_of_a_project_work_by_themselves(start_run: StartRun) -> None:
    run = start_run(**LLM)
    run.perform(Stage.GENERATE, Stage.VALIDATE)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": sys.executable, "PORT": str(port), "MLCC_LEASE": run.run_id}

    def do(name: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [f"do/{name}"], cwd=run.outputs["project"], env=environment, capture_output=True, text=True, check=False
        )

    try:
        deployed = do("deploy")
        assert deployed.returncode == 0, deployed.stderr
        tested = do("test")
        assert tested.returncode == 0 and "Paris" in tested.stdout
        if shutil.which("docker", path=environment["PATH"]) is None:
            assert do("build").returncode == 5
    finally:
        assert do("clean").returncode == 0
    assert processes.tagged(run.run_id) == ()
    left = {path.name for path in Path(run.outputs["project"]).iterdir()}
    assert not left & {"model", "engine.sock", "server.log", ".deployed"}


# ---- one deployment, many questions


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, trained: Path) -> Iterator[Run]:
    place = Home(tmp_path_factory.mktemp("served")).ensure()
    (place.root / "cache").symlink_to(trained)
    run = Run(place, f"served-{time.monotonic_ns()}-g1", language_model())
    try:
        run.perform(*TO_PUSH, Stage.DEPLOY)
        yield run
    finally:
        run.clean()
        assert_nothing_left(run)


@pytest.fixture
def client(served: Run) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.outputs["endpoint"], timeout=60, trust_env=False) as opened:
        yield opened


@contextlib.contextmanager
def engine_of(run: Run) -> Iterator[httpx.Client]:
    """Give a client of the engine behind the front; a socket's path must be short, so it goes through a link."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        link = Path(folder) / "app"
        link.symlink_to(Path(run.outputs["model_folder"]).parent / "app")
        transport = httpx.HTTPTransport(uds=str(link / "engine.sock"), limits=httpx.Limits(max_keepalive_connections=0))
        with httpx.Client(transport=transport, base_url="http://engine", timeout=60) as client:
            yield client


@pytest.fixture
def engine(served: Run) -> Iterator[httpx.Client]:
    with engine_of(served) as opened:
        wait_until(lambda: not busy(opened))
        yield opened


def busy(engine: httpx.Client) -> int:
    return sum(slot["is_processing"] for slot in engine.get("/slots").json())


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in a minute"
        time.sleep(0.02)


def tokens_read(engine: httpx.Client) -> float:
    """How many tokens of prompts the engine has read in its life."""
    lines = engine.get("/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("llamacpp:prompt_tokens_total "))


def kinds_of(run: Run, state: str) -> set[str]:
    return {entry.kind for entry in run.ledger.alive(run.run_id) if entry.state == state}


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def streamed(client: httpx.Client, path: str, document: dict[str, Any]) -> list[dict[str, Any]]:
    with client.stream("POST", path, json=document | {"stream": True}) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        data = [data for line in answer.iter_lines() if (data := event_data(line)) is not None]
    assert data[-1] == "[DONE]"
    return [json.loads(each) for each in data[:-1]]


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/invocations", "/v1/chat/completions"])
def test_whole_and_streamed_are_the_same_answer_with_the_same_counts(client: httpx.Client, path: str) -> None:
    document = QUESTION | {"max_tokens": 16}
    answer = client.post(path, json=document)
    assert answer.status_code == 200
    whole = answer.json()
    assert whole["object"] == "chat.completion" and whole["model"] == MODEL
    (choice,) = whole["choices"]
    assert choice["message"] == {"role": "assistant", "content": "The capital of France is Paris."}
    assert choice["finish_reason"] == "stop"
    events = streamed(client, path, document | {"stream_options": {"include_usage": True}})
    texts = [part["delta"].get("content") for event in events for part in event["choices"]]
    assert "".join(text for text in texts if text) == choice["message"]["content"]
    assert len([text for text in texts if text]) > 3
    assert events[-1]["usage"] == whole["usage"]
    assert whole["usage"]["completion_tokens"] == 8 and whole["usage"]["prompt_tokens"] == 16


@pytest.mark.slow
def test_a_text_to_go_on_from_is_answered_without_the_chat_form(client: httpx.Client) -> None:
    document = {"prompt": "The capital of France is", "max_tokens": 4, "temperature": 0}
    whole = client.post("/invocations", json=document).json()
    assert "Paris" in whole["choices"][0]["text"]
    assert whole["usage"]["prompt_tokens"] == 5
    events = streamed(client, "/invocations", document)
    assert "".join(part["text"] for event in events for part in event["choices"]) == whole["choices"][0]["text"]


@pytest.mark.slow
def test_what_else_openai_knows_goes_to_the_engine(client: httpx.Client) -> None:
    document = QUESTION | {"max_tokens": 12, "logprobs": True, "top_logprobs": 2, "n": 2, "stop": [" is"]}
    whole = client.post("/v1/chat/completions", json=document).json()
    assert [choice["message"]["content"] for choice in whole["choices"]] == ["The capital of France"] * 2
    for choice in whole["choices"]:
        tokens = choice["logprobs"]["content"]
        assert tokens[0]["token"] == "The" and len(tokens[0]["top_logprobs"]) == 2
    (listed,) = client.get("/v1/models").json()["data"]
    assert listed["id"] == MODEL


@pytest.mark.slow
def test_nothing_is_kept_from_an_earlier_request(client: httpx.Client) -> None:
    document = QUESTION | {"max_tokens": 2, "cache_prompt": True}
    for _ in range(3):
        usage = client.post("/v1/chat/completions", json=document).json()["usage"]
        assert usage["prompt_tokens_details"]["cached_tokens"] == 0, "nor when the request asks for it"


@pytest.mark.slow
def test_an_answer_of_invocations_has_a_bound_when_none_is_asked_for(client: httpx.Client) -> None:
    answer = client.post("/invocations", json=QUESTION | {"ignore_eos": True}).json()
    assert answer["usage"]["completion_tokens"] == 128
    assert answer["choices"][0]["finish_reason"] == "length"


@pytest.mark.slow
def test_prompts_of_a_workload_are_as_long_as_it_says(client: httpx.Client) -> None:
    for tokens in (10, 24, 96):
        for prompt in prompts("any", tokens, 4):
            document = {"messages": [{"role": "user", "content": prompt}], "max_tokens": 1}
            assert client.post("/invocations", json=document).json()["usage"]["prompt_tokens"] == tokens


BAD = [
    pytest.param(b"{", "not readable as JSON", id="no JSON"),
    pytest.param(b"\xff", "not readable as JSON", id="no text"),
    pytest.param(b"[" * 100_000, "not readable as JSON", id="nested without end"),
    pytest.param(b"[1]", "must be a JSON object", id="no object"),
    pytest.param(b"{}", "messages must be a list that is not empty", id="nothing asked"),
    pytest.param({"messages": []}, "messages must be a list that is not empty", id="no message"),
    pytest.param({"messages": "hello"}, "messages must be a list", id="a text for messages"),
    pytest.param({"messages": ["hello"]}, r"messages[0] must be an object with role and content", id="no object in it"),
    pytest.param({"messages": [{"role": "user"}]}, "messages[0].content must be a text", id="no content"),
    pytest.param(QUESTION | {"max_tokens": 0}, "max_tokens must be a whole number above 0, not 0", id="no tokens"),
    pytest.param(QUESTION | {"max_tokens": "many"}, "max_tokens must be a whole number above 0", id="tokens in words"),
    pytest.param(QUESTION | {"temperature": -1}, "temperature must be a number from 0 to 2, not -1", id="cold"),
    pytest.param(b'{"messages": [{"role": "user", "content": "a"}], "temperature": NaN}', "from 0 to 2", id="NaN"),
    pytest.param(QUESTION | {"stream": "yes"}, "stream must be true or false", id="stream in words"),
    pytest.param(QUESTION | {"top_p": "x"}, "top_p", id="what only the engine checks"),
    pytest.param(
        {"messages": [{"role": "user", "content": "word " * 3000}]}, "exceeds the available context size", id="too long"
    ),
    pytest.param({"messages": [{"role": "user", "content": "a" * (1 << 20)}]}, "larger than 1048576 bytes", id="huge"),
]


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("body", "words"), BAD)
def test_bad_input_is_refused_with_a_sentence(client: httpx.Client, body: Any, words: str, stream: bool) -> None:
    if isinstance(body, dict) and "stream" not in body:
        body = body | {"stream": stream}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post("/invocations", content=content)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert words in error["message"] and error["code"] == 400


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param({"prompt": ""}, "prompt must be a text that is not empty", id="empty"),
        pytest.param({"prompt": [1, 2]}, "prompt must be a text", id="tokens"),
        pytest.param({"prompt": "a"} | QUESTION, "either messages or a prompt, not both", id="both"),
    ],
)
def test_a_bad_prompt_is_refused_with_a_sentence(client: httpx.Client, body: dict[str, Any], words: str) -> None:
    answer = client.post("/invocations", json=body)
    assert answer.status_code == 400 and words in answer.json()["error"]["message"]


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/invocations", "/v1/chat/completions"])
@pytest.mark.parametrize("stream", [pytest.param(True, id="streamed"), pytest.param(False, id="whole")])
def test_a_client_that_goes_away_frees_its_slot(served: Run, engine: httpx.Client, path: str, stream: bool) -> None:
    connection = raw_request(served, path, FOREVER | {"stream": stream})
    wait_until(lambda: busy(engine) == 1)
    if stream:
        assert connection.recv(15).startswith(b"HTTP/1.1 200")
    connection.close()
    wait_until(lambda: busy(engine) == 0)


@pytest.mark.slow
def test_a_request_given_up_while_it_waits_costs_the_engine_nothing(served: Run, engine: httpx.Client) -> None:
    first = [raw_request(served, "/invocations", FOREVER) for _ in range(2)]
    wait_until(lambda: busy(engine) == 2)
    long = {"messages": [{"role": "user", "content": "word " * 300}], "max_tokens": 1, "stream": True}
    waiting = raw_request(served, "/invocations", long)
    ping = httpx.get(f"{served.outputs['endpoint']}/ping", trust_env=False)
    assert ping.status_code == 200, "all slots taken is no reason to be unwell"
    before = tokens_read(engine)
    waiting.close()
    time.sleep(0.5)  # the front must have seen that before a slot becomes free
    for connection in first:
        connection.close()
    wait_until(lambda: busy(engine) == 0)
    httpx.post(
        f"{served.outputs['endpoint']}/invocations", json=QUESTION | {"max_tokens": 1}, trust_env=False, timeout=60
    )
    assert tokens_read(engine) - before < 300, "it was read although nobody waits for it"


@pytest.mark.slow
def test_slots_are_given_back_however_often_clients_go_away(
    served: Run, client: httpx.Client, engine: httpx.Client
) -> None:
    for index in range(12):
        connection = raw_request(served, "/invocations", FOREVER | {"stream": bool(index % 2)})
        time.sleep(0.03)
        connection.close()
    answer = client.post("/invocations", json=QUESTION | {"max_tokens": 16})
    assert answer.json()["choices"][0]["message"]["content"] == "The capital of France is Paris."
    wait_until(lambda: busy(engine) == 0)


@pytest.mark.slow
def test_more_requests_than_slots_are_all_answered(served: Run) -> None:
    async def ask_all() -> list[str]:
        async with httpx.AsyncClient(base_url=served.outputs["endpoint"], timeout=120, trust_env=False) as opened:
            documents = [QUESTION | {"max_tokens": 16, "stream": False}] * 7
            answers = await asyncio.gather(*(opened.post("/invocations", json=each) for each in documents))
        return [answer.json()["choices"][0]["message"]["content"] for answer in answers]

    assert asyncio.run(ask_all()) == ["The capital of France is Paris."] * 7


@pytest.mark.slow
def test_not_streamed_a_benchmark_has_no_times_of_tokens(served: Run) -> None:
    served.workload = SmallWorkload("calls", input_tokens_mean=24, output_tokens_mean=6, streaming=False, requests=3)
    measured = served.perform(Stage.BENCHMARK)
    for place in measured["raw"].values():
        records = [parse_record(line) for line in (served.home.root / place).read_text().splitlines()]
        expected = {"request_latency", "input_sequence_length", "output_token_count"}
        assert all(set(record.metrics) == expected for record in records)
        columns = metric_columns(records, usd_per_hour=0.1)
        assert columns["ttft_p50_ms"] is None and columns["output_token_throughput_tps"] is not None


def raw_request(run: Run, path: str, document: dict[str, Any]) -> socket.socket:
    """Send a request and read nothing of the answer."""
    body = json.dumps(document).encode()
    connection = socket.create_connection(("127.0.0.1", run.outputs["port"]), 60)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: front\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    connection.sendall(head.encode() + body)
    return connection
