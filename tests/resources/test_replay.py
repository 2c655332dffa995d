"""The executor `replay`: stages at once in virtual time, into a home of its own, through the real runner and tables."""

import io
import json
import math
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from catalog.loader import load_catalog
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.exceptions import StageFailed, UsageError
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.outcome import BenchmarkPlan, Outcome, Owner, StageStatus
from mlcc_dagster.core.request_records import parse_record
from mlcc_dagster.core.stages import CANONICAL_ORDER, Stage
from resources.executor import StageRequest
from resources.home import Home
from resources.ledger import Ledger
from resources.lifecycle import RunRequest, begin, conclude, perform
from resources.modelled_outcomes import ModelledOutcomes, Script
from resources.platform import Platform
from resources.recorded_outcomes import RecordedOutcomes
from resources.replay import ENDPOINT, RECORDED_FILE, ReplayExecutor

CATALOG = load_catalog()
QWEN = Configuration("transformers-vllm", "Qwen/Qwen3-4B", "qwen3", "ml.g5.xlarge", "us-west-2")
KEY = config_id(QWEN)
RUN = f"{KEY}-g1"
PLAN = BenchmarkPlan(enabled=True, workload="multi_turn_chat", concurrency_levels=(1, 4))
CERTAIN = ModelledOutcomes(CATALOG, failures=())


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "replay").ensure()


def executor(home: Home, outcomes: Any = CERTAIN) -> ReplayExecutor:
    return ReplayExecutor(outcomes, home=home, catalog=CATALOG)


def request(home: Home, stage: Stage, *, limit: float = 3600.0, configuration: Configuration = QWEN) -> StageRequest:
    raw = home.raw / RUN
    raw.mkdir(parents=True, exist_ok=True)
    return StageRequest(
        run_id=RUN,
        configuration=configuration,
        stage=stage,
        workspace=home.workspaces / RUN,
        raw=raw,
        log=io.StringIO(),
        outputs={},
        benchmark=PLAN,
        deadline=time.monotonic() + limit,
        ledger=Ledger(home.database),
    )


def said(of: StageRequest) -> str:
    assert isinstance(of.log, io.StringIO)
    return of.log.getvalue()


def test_a_home_with_real_results_is_refused_with_the_home_to_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"use {tmp_path}/real/replay$"):
        executor(Home(tmp_path / "real"))


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.CLEAN])
def test_every_stage_says_how_long_it_would_have_taken(home: Home, stage: Stage) -> None:
    asked = request(home, stage)
    outputs = executor(home).perform(asked)
    assert outputs["virtual_seconds"] > 1
    assert f"replaying {outputs['virtual_seconds']:.3f} virtual seconds" in said(asked)


def test_a_stage_longer_than_its_limit_in_virtual_time_is_a_timeout(home: Home) -> None:
    seconds = executor(home).perform(request(home, Stage.BUILD))["virtual_seconds"]
    executor(home).perform(request(home, Stage.BUILD, limit=seconds + 1))
    short = request(home, Stage.BUILD, limit=seconds - 1)
    with pytest.raises(StageFailed, match="passed its own time limit") as caught:
        executor(home).perform(short)
    assert caught.value.category == "timeout"
    assert caught.value.outputs["virtual_seconds"] == math.ceil(seconds - 1), "all of its limit"
    assert "stopped at its limit" in said(short)


def test_a_run_that_lost_its_lease_plays_nothing(home: Home) -> None:
    asked = request(home, Stage.DEPLOY)
    asked.stop.set()
    with pytest.raises(StageFailed, match="lost its lease"):
        executor(home).perform(asked)
    assert asked.ledger.alive() == []


def test_a_deployment_is_a_ledger_entry_and_clean_releases_it_once(home: Home) -> None:
    asked = request(home, Stage.DEPLOY)
    player = executor(home)
    assert player.perform(asked)["endpoint"] == f"replay://{RUN}"
    (entry,) = asked.ledger.alive(RUN)
    assert (entry.kind, entry.state, entry.details) == (ENDPOINT, "alive", {"lease_tag": RUN})

    other = asked.ledger.intend(run_id="other-g1", kind=ENDPOINT, ref="replay://other-g1", deadline_seconds=60)
    log = io.StringIO()
    player.clean(RUN, asked.ledger, log)
    player.clean(RUN, asked.ledger, log)
    assert [each.id for each in asked.ledger.alive()] == [other]
    assert log.getvalue() == f"released replay://{RUN}\n"


def test_a_benchmark_keeps_raw_records_of_every_level_below_the_home(home: Home) -> None:
    outputs = executor(home).perform(request(home, Stage.BENCHMARK))
    assert set(outputs["raw"]) == {"1", "4"}
    for level, path in outputs["raw"].items():
        records = [parse_record(line) for line in (home.root / path).read_text("utf-8").splitlines()]
        assert len(records) == CATALOG.workloads["multi_turn_chat"].requests
        in_flight = max(sum(r.start_ns <= one.start_ns < r.end_ns for r in records) for one in records)
        assert in_flight == int(level)


@pytest.mark.parametrize(
    ("deployment_config", "reason"),
    [
        pytest.param("transformers-vllm", None, id="known"),
        pytest.param("http-flask", None, id="whether it fits the model is for preflight to say"),
        pytest.param("transformers-x", "the catalog has no deployment configuration transformers-x", id="unknown"),
    ],
)
def test_it_can_run_what_the_catalog_knows(home: Home, deployment_config: str, reason: str | None) -> None:
    configuration = Configuration(deployment_config, "Qwen/Qwen3-4B", "qwen3", "ml.g5.xlarge", "us-west-2")
    assert executor(home).can_run(configuration) == reason


def test_its_evidence_claims_no_execution(home: Home) -> None:
    evidence = executor(home).evidence(QWEN, {})
    assert (evidence.engine, evidence.execution) == ("replay", "virtual")
    assert evidence.digests == {"outcomes": CERTAIN.digest}


def test_a_home_with_a_recording_plays_it_and_another_one_is_modelled(home: Home) -> None:
    assert ReplayExecutor.of_home(home).evidence(QWEN, {}).digests["outcomes"] == ModelledOutcomes(CATALOG).digest
    recording = home.root / RECORDED_FILE
    recording.write_text(json.dumps({KEY: {"stages": {"generate": {"seconds": 7.5, "status": "pass"}}}}))
    recorded = ReplayExecutor.of_home(home)
    assert recorded.evidence(QWEN, {}).digests["outcomes"] == RecordedOutcomes.read(recording).digest
    assert recorded.can_run(QWEN) is None
    assert recorded.perform(request(home, Stage.GENERATE))["virtual_seconds"] == 7.5


def owner() -> Owner:
    return Owner(host="here", pid=os.getpid(), start_ticks=1, boot_id="boot", dagster_run_id="0" * 32)


def played(platform: Platform, key: str) -> Any:
    outcome = begin(platform, RunRequest(key, round="study"), owner())
    assert isinstance(outcome, Outcome)
    for stage in CANONICAL_ORDER:
        outcome = perform(platform, stage, outcome)
    return conclude(platform, outcome)


def opened(root: Path, outcomes: ModelledOutcomes) -> Platform:
    platform = Platform.open(root, executor="replay")
    return replace(platform, executor=executor(platform.home, outcomes))


def test_a_played_lifecycle_is_proven_in_the_replay_home_alone(tmp_path: Path) -> None:
    platform = opened(tmp_path / "home", CERTAIN)
    key = next(iter(platform.configurations()))
    threads = threading.active_count()
    conclusion = played(platform, key)
    assert conclusion.succeeded, conclusion.sentence
    assert [row["concurrency"] for row in conclusion.rows] == [1, 4, 8]
    for row in conclusion.rows:
        assert (row["executor"], row["engine"], row["execution"], row["status"]) == (
            "replay",
            "replay",
            "virtual",
            "completed",
        )
        assert 0 < row["ttft_p50_ms"] < row["e2e_latency_p50_ms"]
    instance = platform.catalog.instances[conclusion.outcome.configuration.instance_type]
    virtual = {r.stage: r.outputs["virtual_seconds"] for r in conclusion.outcome.results if r.outputs}
    built = sum(seconds for stage, seconds in virtual.items() if stage in (Stage.BUILD, Stage.PUSH))
    deployed = CANONICAL_ORDER.index(Stage.DEPLOY)
    rented = sum(seconds for stage, seconds in virtual.items() if CANONICAL_ORDER.index(stage) >= deployed)
    costs = platform.catalog.costs
    assert Stage.TUNE in virtual
    assert conclusion.cost_usd == pytest.approx(
        rented * (instance.usd_per_hour or 0) / 3600
        + built * sum(costs.build_minute_usd) / 2 / 60
        + sum(costs.tuning_usd) / 2,
        rel=1e-4,
    )
    assert conclusion.path is not None
    assert conclusion.path.is_relative_to(tmp_path / "home" / "replay")
    assert not (tmp_path / "home" / "results").exists()
    assert platform.ledger.alive() == []
    assert threading.active_count() == threads


def test_a_played_failure_goes_through_the_normal_classification(tmp_path: Path) -> None:
    root = tmp_path / "home"
    key = next(iter(Platform.open(root, executor="replay").configurations()))
    log = "INFO loading weights\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n"
    conclusion = played(opened(root, ModelledOutcomes(CATALOG, script={key: Script(Stage.DEPLOY, log)})), key)
    deploy = conclusion.outcome.result(Stage.DEPLOY)
    assert deploy.status is StageStatus.FAIL
    instance = CATALOG.instances[conclusion.outcome.configuration.instance_type]
    lasted = deploy.outputs["virtual_seconds"]
    assert lasted > 100, "it took its time before it failed"
    assert conclusion.cost_usd > lasted * (instance.usd_per_hour or 0) / 3600, "which was rented"
    (row,) = conclusion.rows
    assert (row["status"], row["failure_stage"], row["failure_category"]) == ("unfeasible", "deploy", "oom")
    assert row["failure_reason"].startswith("torch.OutOfMemoryError")
