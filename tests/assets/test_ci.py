"""Continuous validation as assets: what their pages show is what the commands say."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import pytest
from scripted_runs import QUIET, Graph, fails

from assets.ci import ASSETS, CHECKS
from assets.lifecycle import HANDOFF, lifecycle
from mlcc_dagster.core.ci_report import by_configuration
from mlcc_dagster.core.outcome import BenchmarkPlan, Claim, Owner
from mlcc_dagster.core.stages import Stage
from resources.ci_lines import read_lines
from resources.ci_table import Commit
from resources.dagster_resources import handoff_io_manager

FOREST = "local-fastapi-forest-1cpu"


def materialize(graph: Graph) -> dg.ExecuteInProcessResult:
    """Materialize the assets with their checks over the graph's platform, beside the real lifecycle that they depend on."""
    definitions = dg.Definitions(
        assets=[lifecycle, *ASSETS],
        asset_checks=[*CHECKS],
        jobs=[dg.define_asset_job("report_job", selection=dg.AssetSelection.assets(*ASSETS))],
        resources={"platform": graph.resource, HANDOFF: handoff_io_manager},
        executor=dg.in_process_executor,
    )
    return definitions.resolve_job_def("report_job").execute_in_process(instance=graph.instance, run_config=QUIET)


def metadata_of(run: dg.ExecuteInProcessResult, asset: str) -> Mapping[str, Any]:
    (event,) = [e for e in run.get_asset_materialization_events() if e.asset_key == dg.AssetKey(asset)]
    return event.materialization.metadata


def checks_of(run: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {check.check_name: check for check in run.get_asset_check_evaluations()}


def test_the_report_has_a_table_per_tier_and_says_what_regressed(graph: Graph) -> None:
    assert graph.run(graph.ids[FOREST], tier="local").success
    graph.executor.scripts[Stage.TEST] = fails("Connection refused")
    assert not graph.run(graph.ids[FOREST], tier="local").success
    shown = metadata_of(materialize(graph), "tier_report")
    report = by_configuration(read_lines(graph.platform.ci, graph.platform.catalog))
    assert shown["summary"].value == report.summary.text == "1 total | 0 passing | 1 failing | 0 untested | 0% coverage"
    records = [record.data for record in shown["local: 0 of 1 passing"].records]
    assert [(record["config"], record["status"]) for record in records] == [(FOREST, "fail-test ⚠️ REGRESSION")]
    assert shown["regressions"].value == 1
    assert shown["regressed"].value == f"- {FOREST}: fail-test (⚠️ REGRESSION)"
    known = [record.data["config"] for record in shown["deployment configs"].records]
    assert (len(known), known[0]) == (15, "transformers-vllm")


def test_an_empty_table_is_reported_as_such_and_releases_nothing(graph: Graph) -> None:
    run = materialize(graph)
    assert run.success, "a check that fails here stops nothing"
    assert metadata_of(run, "tier_report")["summary"].value.startswith("0 total")
    gate = checks_of(run)["release_gate"]
    assert not gate.passed
    assert gate.description == "must not be released: 0 of 11 models of tier ci pass, 10 are needed"
    assert gate.metadata["reasons"].value.count("not registered, so never tested") == 11
    assert not gate.blocking


@pytest.mark.slow
def test_the_gate_releases_once_enough_models_of_the_ci_tier_pass(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph.executor, "can_run", lambda configuration: None)
    entries = graph.platform.catalog.tier_entries("ci")
    for entry in entries[:9]:
        assert graph.run(graph.ids[entry.id], round_id="ci@20260101T060000Z", tier="ci").success
    assert not checks_of(materialize(graph))["release_gate"].passed
    assert graph.run(graph.ids[entries[9].id], round_id="ci@20260101T060000Z", tier="ci").success
    gate = checks_of(materialize(graph))["release_gate"]
    assert gate.passed
    assert gate.metadata["passing"].value == gate.metadata["needed"].value == 10
    assert gate.metadata["reasons"].value == f"- {entries[10].id}: not registered, so never tested"
    assert not (graph.platform.home.root / "summaries").exists(), "its round is not finished"
    assert graph.run(graph.ids[entries[10].id], round_id="ci@20260101T060000Z", tier="ci").success
    shown = metadata_of(materialize(graph), "tier_report")
    page = graph.platform.home.root / "summaries" / "ci-20260101T060000Z.md"
    assert shown["summaries"].value == f"- `{page}`"
    assert page.read_text("utf-8").startswith("# ci: 11 of 11 passed")


def test_flakiness_lists_what_needs_a_person_first(graph: Graph) -> None:
    steady, alternating = graph.ids["local-flask-forest-1cpu"], graph.ids[FOREST]
    assert graph.run(steady).success
    for text in ".F.F.F":
        graph.executor.scripts[Stage.TEST] = fails("Connection refused") if text == "F" else lambda request: None
        assert graph.run(alternating).success == (text == ".")
    shown = metadata_of(materialize(graph), "flakiness")
    assert (shown["configurations"].value, shown["known flaky"].value, shown["likely flakes"].value) == (2, 1, 1)
    records = [record.data for record in shown["by configuration"].records]
    assert [(r["config"], r["course"], r["flips"], r["recoveries"]) for r in records] == [
        (FOREST, "flake", 5, 2),
        ("local-flask-forest-1cpu", "passes", 0, 0),
    ]


def test_what_our_own_runs_write_into_a_record_is_sound_and_what_is_not_is_named(graph: Graph) -> None:
    graph.executor.scripts[Stage.BUILD] = fails("no space left on device " * 100)
    assert not graph.run(graph.ids[FOREST]).success
    assert checks_of(materialize(graph))["stage_results_are_sound"].passed
    claim = graph.platform.ci.claim(
        graph.ids[FOREST],
        configuration=graph.platform.configurations()[graph.ids[FOREST]],
        round="elsewhere",
        owner=Owner("host", 1, 1, "boot", "run"),
        lease_seconds=60,
        run_type="ci",
        benchmark=BenchmarkPlan(False, "local_predict", (1,)),
    )
    assert isinstance(claim, Claim)
    commit = Commit((), "failed", "fail-test", "fail-test", 1.0, {"bogus": {}})
    graph.platform.ci.intend(claim, commit)
    graph.platform.ci.finish(claim.run_id)
    check = checks_of(materialize(graph))["stage_results_are_sound"]
    assert not check.passed
    assert check.metadata["first"].value == f"- {graph.ids[FOREST]}: Unexpected stage: bogus"
