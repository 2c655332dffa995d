"""The gate and what follows it, on the real graph with an entry that is tuned: which failure skips what, and what decides the
test status."""

import pytest
from scripted_runs import Graph, Script, fails

from mlcc_dagster.core.stages import Stage

TUNED = "rt-qwen3-06b"
"""An entry of the golden path whose lifecycle asks for tuning."""

SERVING = [Stage.GENERATE, Stage.VALIDATE, Stage.BUILD, Stage.PUSH, Stage.DEPLOY, Stage.TEST]
TUNING = [Stage.TUNE, Stage.ADAPTER, Stage.TEST_ADAPTER]
AFTER = [Stage.BENCHMARK, Stage.REGISTER]


@pytest.fixture
def graph(graph: Graph) -> Graph:
    """The real graph with an executor that runs everything."""
    graph.executor.can_run = lambda configuration: None  # type: ignore[method-assign]
    return graph


@pytest.mark.parametrize(
    ("scripts", "performed", "gate", "benchmarked", "run_status", "evidence", "assets"),
    [
        pytest.param(
            {},
            [*SERVING, *TUNING, *AFTER],
            "pass",
            "completed",
            "pass",
            "completed",
            {"ci_test_results", "benchmark_results"},
            id="all passes",
        ),
        pytest.param(
            {Stage.TUNE: fails("zork")},
            [*SERVING, Stage.TUNE, *AFTER],
            "fail-tune-sft",
            "completed",
            "fail-tune-sft",
            "completed",
            {"benchmark_results"},
            id="tune fails: the adapter steps are skipped, and nothing else",
        ),
        pytest.param(
            {Stage.ADAPTER: fails("zork")},
            [*SERVING, Stage.TUNE, Stage.ADAPTER, *AFTER],
            "fail-adapter-add",
            "completed",
            "fail-adapter-add",
            "completed",
            {"benchmark_results"},
            id="the adapter cannot be added: it is not tested",
        ),
        pytest.param(
            {Stage.TEST_ADAPTER: fails("zork")},
            [*SERVING, *TUNING, *AFTER],
            "fail-test-adapter",
            "completed",
            "fail-test-adapter",
            "completed",
            {"benchmark_results"},
            id="the adapter answers wrongly",
        ),
        pytest.param(
            {Stage.TEST: fails("zork")},
            SERVING,
            "fail-test",
            None,
            "fail-test",
            "failed",
            set(),
            id="a failure outside tuning skips the rest, tuning included",
        ),
        pytest.param(
            {Stage.BENCHMARK: fails("zork")},
            [*SERVING, *TUNING, Stage.BENCHMARK],
            "pass",
            "failed",
            "fail-benchmark",
            "failed",
            {"ci_test_results"},
            id="stage 2 fails: the test status stays what the gate said",
        ),
        pytest.param(
            {Stage.TUNE: fails("zork"), Stage.BENCHMARK: fails("zork")},
            [*SERVING, Stage.TUNE, Stage.BENCHMARK],
            "fail-tune-sft",
            "failed",
            "fail-tune-sft",
            "failed",
            set(),
            id="both fail: the first failure names the run",
        ),
    ],
)
def test_which_failure_skips_what_and_what_decides_the_test_status(
    graph: Graph,
    scripts: dict[Stage, Script],
    performed: list[Stage],
    gate: str,
    benchmarked: str | None,
    run_status: str,
    evidence: str,
    assets: set[str],
) -> None:
    graph.executor.scripts |= scripts
    key = graph.ids[TUNED]
    run = graph.run(key, round_id="r1")
    assert run.success is (run_status == "pass")
    assert [stage for _, stage in graph.executor.performed] == performed
    assert graph.executor.cleaned == [f"{key}-g1"], "cleaned, whatever failed"
    record = graph.platform.ci.record(key)
    assert record is not None
    assert (record.test_status, record.last_benchmark_status) == (gate, benchmarked)
    assert record.last_test_timestamp is not None, "the record is updated, whatever failed"
    assert record.stage_results["clean"]["status"] == "pass"
    (attempt,) = graph.platform.ci.attempts(key)
    assert (attempt.run_status, attempt.status) == (run_status, evidence)
    assert {row["status"] for row in graph.rows()} == {evidence}
    assert set(graph.materialized(run)) == assets
    graph.assert_nothing_alive()


def test_a_failing_benchmark_leaves_an_earlier_pass_a_pass_and_says_so_beside_it(graph: Graph) -> None:
    key = graph.ids["local-fastapi-logistic-1cpu"]
    assert graph.run(key, round_id="r1").success
    before = graph.platform.ci.record(key)
    graph.executor.scripts[Stage.BENCHMARK] = fails("no such table: bootstrap it")
    assert not graph.run(key, round_id="r2").success
    after = graph.platform.ci.record(key)
    assert before is not None
    assert after is not None
    assert (before.test_status, before.last_benchmark_status) == ("pass", "completed")
    assert (after.test_status, after.last_benchmark_status) == ("pass", "failed")
    assert str(after.last_benchmark_timestamp) > str(before.last_benchmark_timestamp)
    assert "benchmark failed" in str(after.error_message)
