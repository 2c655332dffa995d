"""The local executor really serves, really fails for the reasons it says, and says what it cannot do."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from local_runs import TO_PUSH, Run, SmallWorkload, StartRun, configuration

from mlcc_dagster.core import failures
from mlcc_dagster.core.exceptions import StageFailed
from mlcc_dagster.core.request_records import parse_record
from mlcc_dagster.core.stages import Stage
from resources import processes
from resources.home import Home
from resources.local import images
from resources.local.executor import LocalExecutor, catalog_workload
from resources.processes import ProcessIdentity

PREDICTORS = ("http-fastapi", "http-flask")
LANGUAGE_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"


def assert_nothing_left(run: Run, port: int | None = None) -> None:
    assert processes.tagged(run.run_id) == ()
    assert not run.workspace.exists()
    assert run.ledger.alive(run.run_id) == []
    if port is not None:
        with pytest.raises(OSError), socket.create_connection(("127.0.0.1", port), 1):
            pass


@pytest.mark.slow
@pytest.mark.parametrize(
    ("server", "model", "instance", "engine"),
    [
        pytest.param("http-fastapi", "random-forest", "local.1cpu", "uvicorn", id="one process of uvicorn"),
        pytest.param("http-fastapi", "logistic-regression", "local.2cpu", "uvicorn", id="uvicorn forked for two CPUs"),
        pytest.param("http-flask", "logistic-regression", "local.1cpu", "gunicorn", id="one worker of gunicorn"),
        pytest.param("http-flask", "random-forest", "local.2cpu", "gunicorn", id="two workers of gunicorn"),
    ],
)
def test_a_whole_lifecycle_serves_measures_and_leaves_nothing(
    start_run: StartRun, server: str, model: str, instance: str, engine: str
) -> None:
    run = start_run(deployment_config=server, model_name=f"sklearn/{model}-digits", instance_type=instance)
    assert run.executor.can_run(run.configuration) is None
    run.perform(*TO_PUSH, Stage.DEPLOY)
    port = run.outputs["port"]
    assert httpx.get(f"{run.outputs['endpoint']}/ping", trust_env=False).status_code == 200
    kinds = sorted(entry.kind for entry in run.ledger.alive(run.run_id))
    assert kinds == ["image", "port", "process"]
    server_process = ProcessIdentity.from_json(run.outputs["server"])
    assert server_process is not None and processes.lives(server_process)

    assert run.perform(Stage.TEST)["accuracy"] >= 0.85

    measured = run.perform(Stage.BENCHMARK)
    assert sorted(measured["raw"]) == ["1", "2"]
    for level, place in measured["raw"].items():
        read = [parse_record(line) for line in (run.home.root / place).read_text().splitlines()]
        assert len(read) == run.workload.requests
        assert all(record.error is None and set(record.metrics) == {"request_latency"} for record in read)
        assert place == f"raw/{run.run_id}/small-c{level}/profile_export.jsonl"

    registered = run.perform(Stage.REGISTER)["registration"]
    assert registered["digest"] == run.outputs["image_digest"] and registered["engine"].startswith(engine)
    evidence = run.executor.evidence(run.configuration, run.outputs)
    assert (evidence.engine.split()[0], evidence.execution) == (engine, "process")
    assert set(evidence.digests) == {"image", "template", "model", "python"}

    run.clean()
    assert_nothing_left(run, port)
    assert all((run.home.root / place).exists() for place in measured["raw"].values()), "raw records outlive clean"
    run.clean()
    assert all(entry.state == "released" for entry in run.ledger.history(run.run_id))


@pytest.mark.slow
def test_an_image_built_twice_in_different_homes_has_one_digest(start_run: StartRun, tmp_path: Path) -> None:
    first = start_run(fresh_cache=True, home=tmp_path / "one")
    second = start_run(fresh_cache=True, home=tmp_path / "a" / "second" / "place")
    for run in (first, second):
        run.perform(Stage.GENERATE, Stage.VALIDATE, Stage.BUILD)
        assert run.outputs["model_from_cache"] is False, "both were really trained"
    for name in ("image_digest", "model_digest", "app_digest", "template_digest"):
        assert first.outputs[name] == second.outputs[name]
    third = start_run(home=tmp_path / "one")
    third.perform(Stage.GENERATE, Stage.BUILD)
    assert third.outputs["model_from_cache"] is True
    assert "model reused from cache" in third.log()
    assert third.outputs["image_digest"] == first.outputs["image_digest"]
    assert processes.tagged(first.run_id) == ()
    assert first.ledger.alive(first.run_id) == [], "training is over and released"


def test_a_cached_model_that_rotted_is_trained_again(start_run: StartRun, tmp_path: Path) -> None:
    run = start_run(fresh_cache=True, model_name="sklearn/logistic-regression-digits")
    run.perform(Stage.GENERATE, Stage.BUILD)
    (kept,) = (run.home.root / "cache" / "models").glob("*/model.joblib")
    kept.write_bytes(b"rot")
    digest = run.outputs["image_digest"]
    run.perform(Stage.BUILD)
    assert run.outputs["model_from_cache"] is False
    assert run.outputs["image_digest"] == digest


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({}, None, id="the forest runs"),
        pytest.param({"deployment_config": "http-flask"}, None, id="also behind flask"),
        pytest.param(
            {"serving_params": {"memory_limit_mb": "256"}}, None, id="a limit that will fail is its own matter"
        ),
        pytest.param(
            {"instance_type": "ml.m5.large"}, "needs instance ml.m5.large: run it with executor mcc", id="aws"
        ),
        pytest.param(
            {"deployment_config": "transformers-vllm", "instance_type": "ml.g5.xlarge"},
            "needs a GPU instance: run it with executor mcc or codebuild",
            id="needs a GPU",
        ),
        pytest.param({"deployment_config": "triton-fil"}, "serves no triton-fil", id="a server that is not here"),
        pytest.param({"model_name": LANGUAGE_MODEL}, "not supported by http-fastapi", id="a language model"),
        pytest.param({"model_name": None}, "not supported by http-fastapi", id="no model at all"),
        pytest.param({"instance_type": "local.gpu"}, "is no local instance", id="an instance of another form"),
        pytest.param({"instance_type": "local.4096cpu"}, "needs 4096 CPUs", id="more CPUs than there are"),
        pytest.param({"deployment_target": "batch-transform"}, "target batch-transform is not offered", id="target"),
        pytest.param({"quantization": "int8"}, "has no quantization int8", id="quantization"),
        pytest.param({"tp_degree": 2}, "no tensor parallelism", id="tensor parallelism"),
        pytest.param({"enable_lora": True}, "no LoRA adapters", id="adapters"),
        pytest.param({"serving_params": {"threads": "2"}}, "serving parameter threads is unknown", id="parameter"),
        pytest.param({"serving_params": {"port": "80"}}, "must be a whole number from 1024", id="a system port"),
        pytest.param({"serving_params": {"memory_limit_mb": "lots"}}, "not 'lots'", id="no number"),
    ],
)
def test_it_says_what_it_cannot_run(tmp_path: Path, changes: dict[str, Any], words: str | None) -> None:
    reason = LocalExecutor(Home(tmp_path)).can_run(configuration(**changes))
    assert (reason is None) if words is None else (reason is not None and words in reason)
    assert list(tmp_path.iterdir()) == [], "asking touches nothing"


def test_all_reasons_are_said_at_once(tmp_path: Path) -> None:
    reason = LocalExecutor(Home(tmp_path)).can_run(
        configuration(model_name=LANGUAGE_MODEL, tp_degree=2, enable_lora=True)
    )
    assert reason is not None and reason.count("; ") >= 2


@pytest.mark.parametrize("server", PREDICTORS)
def test_a_predictor_given_a_language_model_fails_as_incompatible(start_run: StartRun, server: str) -> None:
    run = start_run(deployment_config=server, model_name=LANGUAGE_MODEL, model_family="smollm2")
    with pytest.raises(StageFailed, match=f"architecture of {LANGUAGE_MODEL} is not supported by {server}") as caught:
        run.perform(Stage.GENERATE)
    assert caught.value.category == "model_incompatibility"
    for ruleset in ("v1", "compat"):
        assert failures.classify("generate", caught.value.message, ruleset).category == "model_incompatibility"


@pytest.mark.parametrize("stage", [Stage.STAGE, Stage.TUNE, Stage.ADAPTER, Stage.TEST_ADAPTER])
def test_stages_that_are_not_offered_say_so(start_run: StartRun, stage: Stage) -> None:
    with pytest.raises(StageFailed, match=f"offers no stage {stage} for http-fastapi; leave it out"):
        start_run().perform(stage)


@pytest.mark.parametrize(
    ("stage", "needs"),
    [
        (Stage.PUSH, "build"),
        (Stage.DEPLOY, "build and push"),
        (Stage.TEST, "deploy"),
        (Stage.BENCHMARK, "deploy"),
        (Stage.REGISTER, "build and push"),
    ],
)
def test_a_stage_without_what_it_needs_says_which_stage_is_missing(
    start_run: StartRun, stage: Stage, needs: str
) -> None:
    with pytest.raises(StageFailed, match=f"run the stages? {needs} before"):
        start_run().perform(stage)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel enforces address space limits on Linux alone")
@pytest.mark.parametrize("server", PREDICTORS)
def test_a_memory_limit_below_the_need_is_an_honest_oom(start_run: StartRun, server: str) -> None:
    run = start_run(deployment_config=server, serving_params={"memory_limit_mb": "256"})
    with pytest.raises(StageFailed, match=r"the server ended .* Cannot allocate memory") as caught:
        run.perform(*TO_PUSH, Stage.DEPLOY)
    assert caught.value.category is None, "the log is what is read"
    reading = failures.classify("deploy", run.log())
    assert (reading.category, reading.retryable) == ("oom", False)
    run.clean()
    assert_nothing_left(run)


@pytest.mark.slow
@pytest.mark.parametrize("server", PREDICTORS)
def test_an_ample_memory_limit_serves(start_run: StartRun, server: str) -> None:
    run = start_run(deployment_config=server, serving_params={"memory_limit_mb": "1024"}, instance_type="local.2cpu")
    run.perform(*TO_PUSH, Stage.DEPLOY, Stage.TEST, Stage.BENCHMARK)
    limits = Path(f"/proc/{run.outputs['server']['pid']}/limits")
    if limits.exists():
        assert str(1024 << 20) in limits.read_text()
    assert [level["errors"] for level in run.outputs["levels"]] == [0, 0]
    run.clean()


@pytest.mark.slow
def test_a_taken_port_is_an_infrastructure_failure_with_a_way_out(start_run: StartRun) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = start_run(serving_params={"port": str(port)})
        with pytest.raises(StageFailed, match=f"port {port} is taken by another process; choose another") as caught:
            run.perform(*TO_PUSH, Stage.DEPLOY)
        assert caught.value.category == "infrastructure"
        run.clean()
        assert_nothing_left(run)
        with socket.create_connection(("127.0.0.1", port), 5):
            pass  # whose it was still has it


@pytest.mark.slow
def test_a_damaged_image_is_not_deployed(start_run: StartRun) -> None:
    run = start_run()
    run.perform(*TO_PUSH)
    images.blob_path(run.home.registry, run.outputs["model_digest"]).write_bytes(b"rot")
    with pytest.raises(StageFailed, match="arrived as"):
        run.perform(Stage.DEPLOY)
    assert processes.tagged(run.run_id) == ()


@pytest.mark.slow
def test_a_deploy_that_may_take_no_longer_ends_and_cleans(start_run: StartRun) -> None:
    run = start_run()
    run.perform(*TO_PUSH)
    with pytest.raises(StageFailed, match="time limit") as caught:
        run.perform(Stage.DEPLOY, seconds=0.4)
    assert caught.value.category == "timeout"
    run.clean()
    assert_nothing_left(run)


@pytest.mark.slow
def test_a_server_killed_in_the_middle_of_a_benchmark_is_counted_then_said(start_run: StartRun) -> None:
    run = start_run()
    run.perform(*TO_PUSH, Stage.DEPLOY)
    run.workload = SmallWorkload(requests=3000)
    raw = run.home.raw / run.run_id / "small-c1" / "profile_export.jsonl"

    def kill() -> None:
        while not raw.exists() or raw.stat().st_size < 2000:
            time.sleep(0.01)
        os.kill(run.outputs["server"]["pid"], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(StageFailed, match=r"no request succeeded at concurrency 2 .*ended \(by signal 9\)"):
        run.perform(Stage.BENCHMARK)
    thread.join()
    read = [parse_record(line) for line in raw.read_text().splitlines()]
    assert len(read) == 3000
    assert read[0].error is None and read[-1].error is not None
    run.clean()
    assert_nothing_left(run, run.outputs["port"])


@pytest.mark.slow
def test_a_test_of_a_dead_server_says_how_it_ended(start_run: StartRun) -> None:
    run = start_run()
    run.perform(*TO_PUSH, Stage.DEPLOY)
    os.kill(run.outputs["server"]["pid"], signal.SIGKILL)
    with pytest.raises(StageFailed, match=r"the server ended \(by signal 9\)"):
        run.perform(Stage.TEST)
    run.clean()


@pytest.mark.slow
def test_a_push_to_a_real_registry_is_deployed_from_there(
    start_run: StartRun, distribution: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLCC_REGISTRY", distribution)
    run = start_run(model_name="sklearn/logistic-regression-digits")
    run.perform(*TO_PUSH)
    assert run.outputs["image_reference"].startswith(f"{distribution}/mlcc/http-fastapi-logistic-regression-digits")
    assert not (run.home.registry / "index.json").exists()
    shutil.rmtree(run.workspace / "image")
    run.perform(Stage.DEPLOY, Stage.TEST)
    run.clean()
    assert_nothing_left(run)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [Stage.BUILD, Stage.DEPLOY, Stage.BENCHMARK])
def test_an_interrupted_stage_leaves_nothing_that_clean_does_not_end(start_run: StartRun, stage: Stage) -> None:
    run = start_run(fresh_cache=True, model_name="sklearn/logistic-regression-digits")
    run.workload = SmallWorkload(requests=1_000_000)
    order = [Stage.GENERATE, Stage.BUILD, Stage.PUSH, Stage.DEPLOY, Stage.BENCHMARK]
    run.perform(*order[: order.index(stage)])
    begun = {
        Stage.BUILD: lambda: processes.tagged(run.run_id),
        Stage.DEPLOY: lambda: processes.tagged(run.run_id),
        Stage.BENCHMARK: lambda: list(run.home.raw.glob("*/*/*.jsonl")),
    }[stage]

    def interrupt() -> None:
        while not begun():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run.perform(stage)
    thread.join()
    if stage is Stage.BUILD:
        assert processes.tagged(run.run_id) == (), "training ends with its stage"
        assert run.ledger.alive(run.run_id) == []
    else:
        assert "process" in {entry.kind for entry in run.ledger.alive(run.run_id)}
    run.clean()
    assert_nothing_left(run)


@pytest.mark.slow
def test_a_run_that_lost_its_lease_stops_in_the_middle_of_training(start_run: StartRun) -> None:
    run = start_run(fresh_cache=True)
    run.perform(Stage.GENERATE)

    def lose() -> None:
        while not processes.tagged(run.run_id):
            time.sleep(0.01)
        run.stop.set()

    thread = threading.Thread(target=lose)
    thread.start()
    with pytest.raises(StageFailed, match="lost its lease") as caught:
        run.perform(Stage.BUILD)
    thread.join()
    assert caught.value.category == "infrastructure"
    assert processes.tagged(run.run_id) == ()


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        pytest.param(lambda p: (p / "serve.py").unlink(), "serve.py is missing", id="a file is gone"),
        pytest.param(lambda p: (p / "train.py").write_text("def ("), "train.py:1 does not compile", id="syntax"),
        pytest.param(lambda p: (p / "config.json").write_text("{"), "not readable as JSON", id="broken config"),
        pytest.param(
            lambda p: (p / "config.json").write_text((p / "config.json").read_text().replace("1cpu", "2cpu")),
            "another configuration (instance_type differ)",
            id="config of another configuration",
        ),
        pytest.param(lambda p: (p / "Dockerfile").write_text("FROM scratch\n"), "must start from python:", id="base"),
        pytest.param(lambda p: (p / "do/test").chmod(0o644), "do/test is not executable", id="script mode"),
        pytest.param(lambda p: (p / "do/build").write_text("echo\n"), "no interpreter line", id="script head"),
        pytest.param(lambda p: (p / "requirements.txt").write_text(""), "does not pin fastapi", id="lock"),
    ],
)
def test_validate_finds_what_is_wrong_with_a_project(start_run: StartRun, break_it: Any, words: str) -> None:
    run = start_run()
    run.perform(Stage.GENERATE, Stage.VALIDATE)
    break_it(Path(run.outputs["project"]))
    with pytest.raises(StageFailed) as caught:
        run.perform(Stage.VALIDATE)
    assert words in run.log() and words in caught.value.message


def test_a_lock_pins_what_the_app_imports_and_what_that_needs(start_run: StartRun) -> None:
    run = start_run()
    run.perform(Stage.GENERATE)
    lines = (Path(run.outputs["project"]) / "requirements.txt").read_text().splitlines()
    names = [line.partition("==")[0] for line in lines]
    assert {"fastapi", "uvicorn", "starlette", "pydantic-core", "scikit-learn", "threadpoolctl"} <= set(names)
    assert names == sorted(names) and all("==" in line for line in lines)
    assert not {"pytest", "dagster"} & set(names)


@pytest.mark.slow
@pytest.mark.parametrize("server", PREDICTORS)
def test_the_scripts_of_a_project_work_by_themselves(start_run: StartRun, tmp_path: Path, server: str) -> None:
    run = start_run(deployment_config=server, model_name="sklearn/logistic-regression-digits")
    run.perform(Stage.GENERATE)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": sys.executable, "PORT": str(port), "MLCC_LEASE": run.run_id}

    def do(name: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [f"do/{name}"], cwd=run.outputs["project"], env=environment, capture_output=True, text=True, check=False
        )

    try:
        assert do("train").returncode == 0
        deployed = do("deploy")
        assert deployed.returncode == 0, deployed.stderr
        assert do("deploy").returncode == 1, "a second deploy is refused"
        tested = do("test")
        assert tested.returncode == 0 and "held-out rows are right" in tested.stdout
        if shutil.which("docker", path=environment["PATH"]) is None:
            assert do("build").returncode == 5
    finally:
        assert do("clean").returncode == 0
    assert do("clean").returncode == 0
    assert processes.tagged(run.run_id) == ()
    assert not (Path(run.outputs["project"]) / "model").exists()


BAD_BODIES = [
    pytest.param(b"{", "not readable as JSON", id="no JSON"),
    pytest.param(b"[1]", "must be JSON with rows", id="no object"),
    pytest.param(b"{}", "must be JSON with rows", id="nothing to predict"),
    pytest.param(b'{"instances": []}', "must be JSON with rows", id="no rows"),
    pytest.param(b'{"instances": [[1, 2]]}', r"instances\[0\] must be a list of 64 numbers", id="a short row"),
    pytest.param(json.dumps({"instances": [["a"] * 64]}).encode(), "finite numbers alone, not 'a'", id="text"),
    pytest.param(json.dumps({"instances": [[True] * 64]}).encode(), "finite numbers alone, not True", id="booleans"),
    pytest.param(('{"instances": [[' + ",".join(["NaN"] * 64) + "]]}").encode(), "finite numbers", id="not a number"),
    pytest.param(json.dumps({"instances": [[0] * 64] * 1001}).encode(), "1001 rows are more than 1000", id="too many"),
]


@pytest.fixture(scope="module", params=PREDICTORS)
def deployed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, trained: Path) -> Any:
    place = Home(tmp_path_factory.mktemp("deployed")).ensure()
    (place.root / "cache").symlink_to(trained)
    run = Run(place, f"bad-input-{time.monotonic_ns()}-g1", configuration(deployment_config=request.param))
    try:
        run.perform(*TO_PUSH, Stage.DEPLOY)
        yield run
    finally:
        run.clean()


@pytest.mark.slow
@pytest.mark.parametrize(("body", "words"), BAD_BODIES)
def test_bad_input_is_refused_with_a_sentence(deployed: Run, body: bytes, words: str) -> None:
    answer = httpx.post(f"{deployed.outputs['endpoint']}/invocations", content=body, trust_env=False)
    assert answer.status_code == 400
    assert re.search(words, answer.json()["error"])


def test_the_catalogs_workload_is_found_by_name() -> None:
    assert catalog_workload("local_predict").requests > 0
    with pytest.raises(StageFailed, match="unknown workload 'nonesuch'; use one of"):
        catalog_workload("nonesuch")
