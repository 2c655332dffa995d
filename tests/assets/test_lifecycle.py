"""The lifecycle graph: whatever a stage does, the record is right, what was proven is materialized, and nothing is left."""

import json
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
from scripted_runs import Graph, Script, fails, job_over

from assets.reaping import owner_of
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.constraints import refusals
from mlcc_dagster.core.exceptions import HomeError
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.outcome import BenchmarkPlan, Claim, Outcome, Owner, StageResult, StageStatus
from mlcc_dagster.core.resolution import resolve
from mlcc_dagster.core.stages import CANONICAL_ORDER, Stage
from mlcc_dagster.core.standing import Reason, Status
from resources import processes
from resources.executor import StageRequest
from resources.lifecycle import find_configuration, refused_by_preflight
from resources.progress import RunEnded
from resources.sqlite_ci_table import SqliteCiTable
from resources.survey import Survey

PERFORMED = [
    Stage.GENERATE,
    Stage.VALIDATE,
    Stage.BUILD,
    Stage.PUSH,
    Stage.DEPLOY,
    Stage.TEST,
    Stage.BENCHMARK,
    Stage.REGISTER,
]


def hold(graph: Graph, *, round_id: str, owner: Owner, lease_seconds: float = 90) -> Claim:
    """Claim the graph's configuration as somebody else."""
    configuration, _, plan = find_configuration(graph.platform, graph.config_id)
    claim = graph.platform.ci.claim(
        graph.config_id,
        configuration=configuration,
        round=round_id,
        owner=owner,
        lease_seconds=lease_seconds,
        run_type="ci",
        benchmark=plan,
    )
    assert isinstance(claim, Claim)
    return claim


def step_metadata(run: dg.ExecuteInProcessResult, op: str) -> dict[str, object]:
    """What an op put on its output."""
    (event,) = [e for e in run.all_events if e.is_successful_output and e.step_key == f"lifecycle.{op}"]
    return {name: value.value for name, value in event.step_output_data.metadata.items()}


def test_when_all_stages_pass_gate_and_benchmark_are_materialized_with_what_was_measured(graph: Graph) -> None:
    run = graph.run(round_id="r1", run_type="ci")
    assert run.success
    materialized = graph.materialized(run)
    assert set(materialized) == {"ci_test_results", "benchmark_results"}
    assert {m.partition for m in materialized.values()} == {graph.config_id}
    gate, benchmark = materialized["ci_test_results"].metadata, materialized["benchmark_results"].metadata
    run_id = f"{graph.config_id}-g1"
    assert gate["run_id"].value == benchmark["run_id"].value == run_id
    assert Path(str(gate["results"].value)).is_file()
    assert "| deploy | pass |" in str(gate["stages"].value)
    table = benchmark["measurements"].value
    assert [record.data["concurrency"] for record in table.records] == [1, 4]
    assert benchmark["best_latency_p99_ms"].value == pytest.approx(6.98), "latencies of 5, 6 and 7 ms"
    rows = graph.rows()
    assert {(row["status"], row["run_id"], row["executor"]) for row in rows} == {("completed", run_id, "scripted")}
    assert {row["dagster_run_id"] for row in rows} == {run.run_id}
    record = graph.platform.ci.record(graph.config_id)
    assert record is not None
    assert (record.test_status, record.last_benchmark_status, record.error_message) == ("pass", "completed", None)
    (attempt,) = graph.platform.ci.attempts()
    assert (attempt.state, attempt.round, attempt.run_type, attempt.tier) == ("finished", "r1", "ci", "local")
    assert (graph.platform.home.raw / run_id / "c1" / "profile_export.jsonl").is_file()
    graph.assert_nothing_alive()


def test_every_stage_of_the_canonical_order_is_an_op_and_skipped_ones_say_why(graph: Graph) -> None:
    run = graph.run()
    steps = [event.step_key.removeprefix("lifecycle.") for event in run.all_events if event.is_step_success]
    assert steps == ["claim", *(stage.value for stage in CANONICAL_ORDER), "verdict"]
    said = {stage: step_metadata(run, stage.value) for stage in CANONICAL_ORDER}
    skipped = {stage for stage, metadata in said.items() if metadata["status"] == "skip"}
    assert skipped == {Stage.STAGE, Stage.TUNE, Stage.ADAPTER, Stage.TEST_ADAPTER}
    assert {said[stage]["said"] for stage in skipped} == {"not asked for"}
    assert [stage for _, stage in graph.executor.performed] == PERFORMED


def test_after_a_failure_the_rest_is_skipped_and_names_the_stage_that_failed(tmp_path: Path) -> None:
    graph = Graph.over(tmp_path / "home", {Stage.BUILD: fails("zork")})
    run = graph.run()
    assert {step_metadata(run, stage.value)["said"] for stage in PERFORMED[3:]} == {"build failed"}
    assert step_metadata(run, "clean")["status"] == "pass", "clean always runs"
    assert [stage for _, stage in graph.executor.performed] == PERFORMED[:3]


@pytest.mark.parametrize(
    ("stage", "said", "row", "gate", "benchmarked", "assets"),
    [
        pytest.param(
            Stage.GENERATE,
            "zork",
            ("failed", "generate"),
            "fail-generate",
            None,
            set(),
            id="nobody knows why: try again",
        ),
        pytest.param(
            Stage.BUILD,
            "OSError: [Errno 28] No space left on device",
            ("failed", "build"),
            "fail-build",
            None,
            set(),
            id="the machine's fault says nothing of the configuration",
        ),
        pytest.param(
            Stage.DEPLOY,
            "torch.OutOfMemoryError: CUDA out of memory",
            ("unfeasible", "deploy"),
            "fail-deploy",
            None,
            set(),
            id="deploy fails half way, for a reason that stays",
        ),
        pytest.param(
            Stage.DEPLOY,
            "InsufficientInstanceCapacity",
            ("failed", "deploy"),
            "fail-deploy",
            None,
            set(),
            id="deploy fails half way, for a reason that passes",
        ),
        pytest.param(
            Stage.TEST, "zork", ("failed", "test"), "fail-test", None, set(), id="it runs and answers wrongly"
        ),
        pytest.param(
            Stage.BENCHMARK,
            "CUDA out of memory",
            ("failed", "benchmark"),
            "pass",
            "failed",
            {"ci_test_results"},
            id="the gate passed: a benchmark never makes a configuration unfeasible",
        ),
        pytest.param(
            Stage.REGISTER,
            "zork",
            ("completed", None),
            "pass",
            "completed",
            {"ci_test_results", "benchmark_results"},
            id="all was proven before registering failed",
        ),
    ],
)
def test_a_failing_stage_gives_a_red_run_a_row_and_only_what_was_proven(
    tmp_path: Path,
    stage: Stage,
    said: str,
    row: tuple[str, str | None],
    gate: str,
    benchmarked: str | None,
    assets: set[str],
) -> None:
    graph = Graph.over(tmp_path / "home", {stage: fails(said)})
    run = graph.run(round_id="r1")
    assert not run.success
    assert set(graph.materialized(run)) == assets
    assert {(r["status"], r["failure_stage"]) for r in graph.rows()} == {row}
    assert f"{stage.value} failed" in graph.failure(run)
    record = graph.platform.ci.record(graph.config_id)
    assert record is not None
    assert (record.test_status, record.last_benchmark_status) == (gate, benchmarked)
    assert record.stage_results[stage.value]["status"] == "fail"
    (attempt,) = graph.platform.ci.attempts()
    assert (attempt.state, attempt.run_status) == ("finished", f"fail-{stage.value}")
    assert graph.executor.cleaned == [attempt.run_id]
    graph.assert_nothing_alive()


def test_a_crashing_executor_is_a_failed_stage_and_never_a_broken_graph(tmp_path: Path) -> None:
    def crash(request: object) -> None:
        raise RuntimeError("the executor has a defect")

    graph = Graph.over(tmp_path / "home", {Stage.TEST: crash})
    run = graph.run()
    assert "test failed" in graph.failure(run)
    assert "RuntimeError: the executor has a defect" in str(step_metadata(run, "test")["said"])
    graph.assert_nothing_alive()


@pytest.mark.parametrize(
    ("scripts", "status", "assets", "said"),
    [
        pytest.param(
            {},
            "completed",
            {"ci_test_results", "benchmark_results"},
            "completed; clean failed: ",
            id="all worked but clean",
        ),
        pytest.param(
            {Stage.DEPLOY: fails("CUDA out of memory")},
            "unfeasible",
            set(),
            "deploy failed (oom): CUDA out of memory; clean failed: ",
            id="deploy failed and clean too",
        ),
    ],
)
def test_a_failing_clean_is_reported_beside_the_verdict_and_hides_nothing(
    tmp_path: Path, scripts: dict[Stage, Script], status: str, assets: set[str], said: str
) -> None:
    graph = Graph.over(tmp_path / "home", scripts, unclean="the endpoint would not go")
    run = graph.run()
    assert not run.success
    assert said in graph.failure(run)
    assert "the endpoint would not go" in graph.failure(run)
    assert set(graph.materialized(run)) == assets
    assert {row["status"] for row in graph.rows()} == {status}
    assert [resource.kind for resource in graph.platform.ledger.alive()] == ["endpoint"], "kept for the reaper"
    assert graph.platform.ledger.slots() == []


def test_a_run_whose_configuration_runs_elsewhere_ends_green_and_names_the_owner(graph: Graph) -> None:
    owner = processes.this_process("another-run")
    claim = hold(graph, round_id="another round", owner=owner)
    run = graph.run(round_id="r1")
    assert run.success
    assert graph.materialized(run) == {}
    assert graph.executor.performed == []
    (event,) = graph.events
    assert isinstance(event, RunEnded)
    assert event.how == "lost"
    assert str(owner) in event.sentence
    assert claim.run_id in event.sentence
    logged = [entry.user_message for entry in graph.instance.all_logs(run.run_id) if entry.dagster_event is None]
    assert event.sentence in logged
    assert [attempt.run_id for attempt in graph.platform.ci.running()] == [claim.run_id]
    assert graph.rows() == []


def test_a_configuration_is_run_once_in_a_round_and_again_in_the_next(graph: Graph) -> None:
    assert graph.materialized(graph.run(round_id="r1"))
    again = graph.run(round_id="r1")
    assert again.success
    assert graph.materialized(again) == {}
    assert isinstance(graph.events[-1], RunEnded)
    assert "round already completed" in graph.events[-1].sentence
    assert len(graph.platform.ci.attempts()) == 1
    assert graph.materialized(graph.run(round_id="r2"))
    assert [attempt.round for attempt in graph.platform.ci.attempts()] == ["r2", "r1"]


def test_a_run_without_a_round_is_an_occasion_of_its_own(graph: Graph) -> None:
    first, second = graph.run(), graph.run()
    assert {attempt.round for attempt in graph.platform.ci.attempts()} == {first.run_id, second.run_id}


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        pytest.param(
            "0000000000000000",
            "no configuration 0000000000000000 is registered or in the catalog; see `mlcc catalog list`",
            id="unknown",
        ),
        pytest.param(
            "rt-qwen3-06b",
            "executor scripted cannot run transformers-vllm Qwen/Qwen3-0.6B ml.g5.xlarge: needs a GPU instance",
            id="not runnable here",
        ),
    ],
)
def test_what_cannot_be_run_is_one_sentence_and_nothing_is_written(graph: Graph, key: str, sentence: str) -> None:
    run = graph.run(graph.ids.get(key, key))
    assert not run.success
    assert graph.failure(run, "lifecycle.claim") == sentence
    assert graph.platform.ci.records() == ()
    assert graph.platform.ci.attempts() == ()
    assert graph.rows() == []
    assert graph.executor.performed == []


def test_a_promise_of_money_is_activated_and_settled_with_what_the_run_used(graph: Graph) -> None:
    graph.platform.ledger.reserve("tier", "key-1", 5.0, ceiling_usd=10.0, deadline_seconds=600)
    seen: list[str] = []

    def look(request: object) -> None:
        reservation = graph.platform.ledger.reservation("key-1")
        seen.append("none" if reservation is None else reservation.state)

    graph.executor.scripts[Stage.DEPLOY] = look
    assert graph.run(round_id="r1", reservation="key-1").success
    assert seen == ["active"]
    settled = graph.platform.ledger.reservation("key-1")
    assert settled is not None
    assert (settled.state, settled.run_id) == ("settled", f"{graph.config_id}-g1")
    assert 0 < settled.spent_usd < 0.01
    assert graph.platform.ledger.totals("tier").active_usd == 0


def test_a_run_whose_promise_was_released_ends_quietly_and_leaves_the_configuration_free(graph: Graph) -> None:
    ledger = graph.platform.ledger
    ledger.reserve("tier", "key-1", 5.0, ceiling_usd=10.0, deadline_seconds=1)
    assert ledger.release_overdue(now=2e9 * 2) == ("key-1",)
    run = graph.run(round_id="r1", reservation="key-1")
    assert run.success
    assert graph.materialized(run) == {}
    assert graph.executor.performed == []
    assert isinstance(graph.events[-1], RunEnded)
    assert "reservation released" in graph.events[-1].sentence
    graph.assert_nothing_alive()
    assert graph.materialized(graph.run(round_id="r1")), "the round is still open for it"


def test_a_result_that_cannot_be_published_fails_the_run_and_the_next_one_publishes_it(graph: Graph) -> None:
    results = graph.platform.home.results
    results.rmdir()
    results.write_text("a file where the folder belongs")
    run = graph.run(round_id="r1")
    assert not run.success
    assert graph.materialized(run) == {}
    assert [run_id for run_id, _ in graph.platform.ci.pending()] == [f"{graph.config_id}-g1"]
    results.unlink()
    results.mkdir()
    again = graph.run(round_id="r1")
    assert again.success
    assert "round already completed" in str(getattr(graph.events[-1], "sentence", ""))
    assert {row["run_id"] for row in graph.rows()} == {f"{graph.config_id}-g1"}
    graph.assert_nothing_alive()


@pytest.mark.parametrize("stage", [Stage.BUILD, Stage.DEPLOY, Stage.BENCHMARK])
def test_a_cancelled_stage_is_cleaned_after_at_once_and_the_round_stays_open(tmp_path: Path, stage: Stage) -> None:
    def cancel(request: object) -> None:
        raise KeyboardInterrupt

    graph = Graph.over(tmp_path / "home", {stage: cancel})
    run = graph.run(round_id="r1")
    assert not run.success
    assert graph.materialized(run) == {}
    event = graph.events[-1]
    assert isinstance(event, RunEnded)
    assert (event.how, event.cancelled) == ("interrupted", True)
    (attempt,) = graph.platform.ci.attempts()
    assert (attempt.state, attempt.reason) == ("interrupted", f"cancelled during {stage.value}")
    assert graph.rows() == []
    graph.assert_nothing_alive()
    graph.executor.scripts.clear()
    assert graph.materialized(graph.run(round_id="r1"))


def test_what_the_gate_proved_stays_in_the_record_when_the_benchmark_is_cancelled(tmp_path: Path) -> None:
    def cancel(request: object) -> None:
        raise KeyboardInterrupt

    graph = Graph.over(tmp_path / "home", {Stage.BENCHMARK: cancel})
    graph.run()
    record = graph.platform.ci.record(graph.config_id)
    assert record is not None
    assert (record.test_status, record.last_benchmark_status) == ("pass", "failed")


def test_a_fault_of_the_platform_itself_ends_the_run_with_its_sentence_and_frees_the_configuration(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: object, claim: object, *, benchmark_run_id: str) -> None:
        raise HomeError("cannot use the home (the disk is full); free some space")

    monkeypatch.setattr(SqliteCiTable, "benchmarking", full)
    run = graph.run(round_id="r1")
    assert graph.failure(run, "lifecycle.benchmark") == "cannot use the home (the disk is full); free some space"
    (attempt,) = graph.platform.ci.attempts()
    assert attempt.state == "interrupted"
    assert "the disk is full" in str(attempt.reason)
    graph.assert_nothing_alive()


@pytest.mark.parametrize(
    "stage", [Stage.REGISTER, Stage.TEST], ids=["before its verdict", "just before its benchmark is noted"]
)
def test_a_run_that_lost_its_lease_on_the_way_publishes_nothing(tmp_path: Path, stage: Stage) -> None:
    def taken(request: StageRequest) -> None:
        graph.platform.ci.interrupt(request.run_id, "another owner took it")

    graph = Graph.over(tmp_path / "home", {stage: taken})
    run = graph.run(round_id="r1")
    assert not run.success
    assert [event.step_key for event in run.all_events if event.is_step_failure] == ["lifecycle.verdict"]
    assert "no longer holds" in graph.failure(run)
    assert graph.materialized(run) == {}
    assert graph.rows() == []
    graph.assert_nothing_alive()


def test_a_re_execution_from_a_failed_step_is_refused_with_a_sentence(tmp_path: Path) -> None:
    graph = Graph.over(tmp_path / "home", {Stage.DEPLOY: fails("zork")}, instance=dagster_home(tmp_path))
    parent = graph.run(round_id="r1")
    with re_execution(graph, parent, from_failure=True) as again:
        assert not again.success
        (failed,) = [event for event in again.all_events if event.is_step_failure]
    said = str(failed.step_failure_data.error) + str(failed.step_failure_data.user_failure_data)
    assert "A lifecycle run cannot be re-executed from a step" in said
    assert "materialize the partition again" in said
    assert len(graph.platform.ci.attempts()) == 1
    graph.assert_nothing_alive()


def test_a_full_re_execution_is_a_fresh_occasion(tmp_path: Path) -> None:
    graph = Graph.over(tmp_path / "home", {Stage.DEPLOY: fails("zork")}, instance=dagster_home(tmp_path))
    graph.platform.ledger.reserve("tier", "key-1", 5.0, ceiling_usd=10.0, deadline_seconds=600)
    parent = graph.run(round_id="r1", reservation="key-1")
    graph.executor.scripts.clear()
    with re_execution(graph, parent, from_failure=False) as again:
        assert again.success, [event.step_failure_data for event in again.all_events if event.is_step_failure]
        run = graph.instance.get_run_by_id(again.run_id)
    assert run is not None
    assert run.parent_run_id == parent.run_id
    assert (run.tags["mlcc/round"], run.tags["mlcc/reservation"]) == ("r1", "key-1"), "copied, as the UI does"
    owner = owner_of(run)
    assert owner is not None
    assert owner.dagster_run_id == again.run_id
    rounds = [attempt.round for attempt in graph.platform.ci.attempts()]
    assert rounds == [again.run_id, "r1"], "the parent's round was not joined, nor its spent money asked for"
    assert {row["status"] for row in graph.rows()} == {"failed", "completed"}


def dagster_home(tmp_path: Path) -> dg.DagsterInstance:
    """A Dagster instance on the disk: a re-execution reads its parent from there."""
    return dg.DagsterInstance.local_temp(str(tmp_path), overrides={"telemetry": {"enabled": False}})


def re_execution(graph: Graph, parent: dg.ExecuteInProcessResult, *, from_failure: bool) -> dg.JobExecutionResult:
    """Execute a run again with its parent's tags, as the UI asks for it."""
    options = (
        dg.ReexecutionOptions.from_failure(parent.run_id, graph.instance)
        if from_failure
        else dg.ReexecutionOptions(parent_run_id=parent.run_id)
    )
    run = graph.instance.get_run_by_id(parent.run_id)
    assert run is not None
    return dg.execute_job(
        job_over(graph),
        instance=graph.instance,
        reexecution_options=options,
        tags=dict(run.tags),
        raise_on_error=False,
    )


TOO_LARGE = Configuration(
    deployment_config="transformers-vllm",
    model_name="Qwen/Qwen3-32B",
    model_family="qwen3",
    instance_type="ml.g5.xlarge",
    region="us-west-2",
)
TOO_LARGE_SENTENCE = (
    "Qwen/Qwen3-32B needs 70.40 GB (32 billion parameters x 2 bytes x 1.1) and ml.g5.xlarge gives 21.60 GB "
    "(0.9 x 24 GB x tp 1); choose GPUs with more memory, a higher tp_degree or fewer bits per weight"
)


def registered(graph: Graph, configuration: Configuration) -> str:
    """Register a configuration that the catalog has no entry for; return its id."""
    plan = BenchmarkPlan(enabled=True, workload="multi_turn_chat", concurrency_levels=(1, 4))
    return graph.platform.ci.register(configuration, benchmark=plan).config_id


def test_what_preflight_refutes_is_never_started_and_its_row_says_why_at_no_cost(graph: Graph) -> None:
    graph.platform.ledger.reserve("tier", "key-1", 5.0, ceiling_usd=10.0, deadline_seconds=600)
    run = graph.run(registered(graph, TOO_LARGE), round_id="r1", reservation="key-1")
    assert not run.success
    assert graph.materialized(run) == {}
    assert graph.executor.performed == []
    (row,) = graph.rows()
    assert (
        row
        | {
            "status": "unfeasible",
            "failure_stage": "generate",
            "failure_category": "preflight",
            "failure_retryable": False,
            "failure_reason": TOO_LARGE_SENTENCE,
            "cost_usd": 0.0,
            "evidence": json.dumps({"configuration": row["config_id"], "constraint": "memory-fit@1"}),
            "engine": None,
            "execution": None,
            "raw_uri": None,
            "concurrency": 0,
        }
        == row
    )
    sentence = graph.failure(run)
    assert sentence == (
        f"transformers-vllm Qwen/Qwen3-32B ml.g5.xlarge was not started, preflight refutes it: {TOO_LARGE_SENTENCE}"
    )
    assert isinstance(graph.events[-1], RunEnded)
    assert graph.events[-1].sentence == sentence
    assert step_metadata(run, "generate")["category"] == "preflight"
    assert {step_metadata(run, stage.value)["said"] for stage in PERFORMED[1:]} == {"generate failed"}
    (attempt,) = graph.platform.ci.attempts()
    assert (attempt.state, attempt.status, attempt.cost_usd) == ("finished", "unfeasible", 0.0)
    assert (attempt.failure_category, attempt.retry_due) == ("preflight", None)
    settled = graph.platform.ledger.reservation("key-1")
    assert settled is not None
    assert (settled.state, settled.spent_usd) == ("settled", 0.0)
    graph.assert_nothing_alive()


def test_every_constraint_that_refutes_is_told_and_the_first_is_what_the_verdict_depends_on(graph: Graph) -> None:
    run = graph.run(registered(graph, replace(TOO_LARGE, quantization="fp8", tp_degree=2)))
    (row,) = graph.rows()
    assert json.loads(row["evidence"])["constraint"] == "tp-within-gpus@1"
    for said in (row["failure_reason"], graph.failure(run)):
        assert "ml.g5.xlarge has 1" in said
        assert "does not compute in fp8" in said
    assert graph.executor.performed == []


def test_a_catalog_that_refutes_a_run_already_begun_does_not_make_it_one_that_cost_nothing(graph: Graph) -> None:
    catalog = graph.platform.catalog

    def edit(request: StageRequest) -> None:
        # from now on the run's region is unknown
        object.__setattr__(graph.platform, "catalog", replace(catalog, local_region="elsewhere"))

    graph.executor.scripts[Stage.BUILD] = edit
    run = graph.run()
    assert run.success
    assert [stage for _, stage in graph.executor.performed] == PERFORMED
    assert all(row["cost_usd"] > 0 for row in graph.rows())
    configuration, _, _ = find_configuration(graph.platform, graph.config_id)
    assert refusals(configuration, graph.platform.catalog), "a run begun now would be refuted"


def test_tuning_that_is_not_managed_is_refused_before_it_begins_and_says_nothing_against_serving(graph: Graph) -> None:
    mistral = replace(
        TOO_LARGE, model_name="mistralai/Mistral-7B-Instruct-v0.2", model_family="mistral", enable_lora=True
    )
    owner = processes.this_process("a run")
    begun = Outcome(
        claim=Claim("0" * 16, 1, owner, "r1", "2026-06-09T14:30:22.000000Z"),
        configuration=mistral,
        run_type="ci",
        stages=frozenset(Stage),
        benchmark=BenchmarkPlan(enabled=False, workload="none", concurrency_levels=()),
        technique="sft",
    )
    passed = (StageResult(stage, StageStatus.PASS, "", 1.0) for stage in (Stage.GENERATE, Stage.DEPLOY, Stage.TEST))
    for result in passed:
        begun = begun.with_result(result)
    refused = refused_by_preflight(graph.platform, Stage.TUNE, begun)
    assert refused is not None
    assert refused.outputs == {"constraint": "tuning-managed@1"}
    assert refused_by_preflight(graph.platform, Stage.BENCHMARK, begun) is None
    done = begun.with_result(refused)
    assert (done.status, done.refuted, done.run_status) == ("completed", False, "fail-tune-sft")
    assert done.skip_reason(Stage.ADAPTER) == "tune failed"
    assert done.skip_reason(Stage.BENCHMARK) is None


def test_what_is_refuted_says_nothing_of_a_smaller_model_that_means_the_same_vector(graph: Graph) -> None:
    graph.run(registered(graph, TOO_LARGE), round_id="r1")
    survey = Survey.take(graph.platform)
    vector = TOO_LARGE.vector
    concrete = resolve(vector, graph.platform.catalog, lambda configuration: None)
    assert isinstance(concrete, Configuration)
    assert config_id(concrete) != config_id(TOO_LARGE)
    # this executor makes nothing of the vector concrete, so the verdict stands for it
    assert survey.standing.status(vector) is Status.UNFEASIBLE
    graph.executor.can_run = lambda configuration: None  # type: ignore[method-assign]
    assert Survey.take(graph.platform).standing.reason(vector, now=survey.taken_at)[0] is Reason.UNFEASIBLE_EXPIRED
