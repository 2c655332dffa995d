"""What a person does and sees in the Dagster UI, in a real browser on real runs, and what is left when they go wrong."""

import os
import re
import signal
from collections.abc import Callable
from typing import Any

import pytest
from dagster_ui import DagsterUi, Run, wait_until
from playwright.sync_api import Page, expect

from catalog.loader import load_catalog
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.resolution import configuration_of
from mlcc_dagster.core.stages import CANONICAL_ORDER
from resources.ci_table import Attempt

pytestmark = [pytest.mark.browser, pytest.mark.slow]

NAME = "local-fastapi-logistic-1cpu"
FAMILY = "logistic-regression"
GROUPS = {
    "ci_test_results": "evidence",
    "benchmark_results": "evidence",
    "coverage_matrix": "coverage",
    "gap_list": "coverage",
}
ENDLESS = (1,) * 5000
"""Concurrency levels of a benchmark that is still measuring when somebody gets round to stopping it."""


def key_of(name: str) -> str:
    catalog = load_catalog()
    return next(config_id(configuration_of(entry, catalog)) for entry in catalog.entries if entry.id == name)


KEY = key_of(NAME)


# ---- what a person does


def open_partition(page: Page, asset: str, partition: str) -> None:
    page.goto(f"/assets/{asset}")
    page.get_by_role("tab", name="Partitions").or_(page.get_by_text("Partitions", exact=True)).first.click()
    page.get_by_text(partition, exact=True).first.click()
    expect(page).to_have_url(re.compile(f"partition={partition}"))


def materialize(page: Page) -> str:
    """Materialize the partition by clicks alone, go to the run's page, and return the run's id."""
    open_partition(page, "benchmark_results", KEY)
    page.get_by_role("button", name="Materialize").first.click()
    # both outputs of the lifecycle come from one run
    page.get_by_role("button", name="Confirm").click()
    page.get_by_role("button", name="Launch 1 run").click()
    page.get_by_role("button", name="View", exact=True).or_(page.get_by_role("link", name="View", exact=True)).click()
    page.wait_for_url("**/runs/*")
    return page.url.rpartition("/")[2].partition("?")[0]


def execute_again(page: Page) -> str:
    """Run the whole of the run that the page shows again, and return the new run's id."""
    before = page.url
    page.get_by_role("button", name="Re-execute all").click()
    page.wait_for_url(lambda url: "/runs/" in url and url != before)
    return page.url.rpartition("/")[2].partition("?")[0]


def terminate(page: Page) -> None:
    page.get_by_role("button", name="Terminate").click()
    page.get_by_role("dialog").get_by_role("button", name=re.compile("Terminate")).click()


# ---- what is the case


def begun(ui: DagsterUi, dagster_run_id: str) -> Attempt:
    return wait_until("the claim of the run", lambda: ui.attempt_of(dagster_run_id), every=0.02)


def deploying(ui: DagsterUi, attempt: Attempt) -> bool:
    """Whether the server has a port and nobody has found it ready yet."""
    return bool(ui.alive(attempt.run_id, "port")) and not deployed(ui, attempt)


def deployed(ui: DagsterUi, attempt: Attempt) -> bool:
    now = ui.ci.attempt(attempt.run_id)
    return now is not None and "deploy" in now.stages


def measuring(ui: DagsterUi, attempt: Attempt) -> bool:
    return any(path.stat().st_size for path in (ui.home.raw / attempt.run_id).glob("*/*.jsonl"))


MOMENTS = {"deploy": deploying, "benchmark": measuring}


def run_until(ui: DagsterUi, page: Page, stage: str) -> Attempt:
    """Launch a run that does not end by itself and wait until it is in the middle of a stage."""
    ui.measure(NAME, ENDLESS)
    attempt = begun(ui, materialize(page))
    wait_until(f"{attempt.run_id} in {stage}", lambda: MOMENTS[stage](ui, attempt), every=0.01)
    return attempt


def wait_left_nothing(ui: DagsterUi) -> None:
    left: list[str] = []

    def nothing() -> bool:
        left[:] = ui.left_over()
        return not left

    try:
        wait_until("nothing left", nothing)
    except AssertionError:
        pytest.fail(f"left behind: {left}")


def assert_next_run_proves(ui: DagsterUi, page: Page, launch: Callable[[Page], str]) -> None:
    ui.measure(NAME, (1, 4))
    run = ui.wait_run(launch(page))
    assert run.status == "SUCCESS"
    assert ui.materializations("benchmark_results", KEY)[0]["dagster_run_id"] == run.run_id
    assert ui.left_over() == []


def ended(ui: DagsterUi, attempt: Attempt) -> Attempt:
    now = ui.ci.attempt(attempt.run_id)
    assert now is not None
    return now


# ---- tests


def test_a_first_visit_finds_every_configuration_and_what_the_assets_are(ui: DagsterUi, page: Page) -> None:
    page.goto("/")
    page.get_by_role("link", name="Lineage").click()
    for group in sorted(set(GROUPS.values())):
        expect(page.get_by_text(group, exact=True).first).to_be_visible()
    expect(page.get_by_role("dialog")).to_have_count(0)

    page.goto("/assets")
    for asset, group in GROUPS.items():
        expect(page.locator(f'a[href="/assets/{asset}"]')).to_be_visible()
        expect(page.locator(f'a[href^="/asset-groups"][href*="{group}"][href$="/{asset}"]')).to_be_visible()

    page.goto("/assets/benchmark_results")
    for said in (
        "What a configuration does under load",
        "ml-platform",
        "Parquet",
        "evidence",
        "A partition is a config_id",
        "which partition is which",
    ):
        expect(page.get_by_text(said).first).to_be_visible()
    table = page.get_by_role("row", name=re.compile(f"{KEY}.*{NAME}"))
    expect(table.last).to_be_visible()

    page.get_by_text("Partitions", exact=True).first.click()
    catalog = load_catalog()
    keys = {config_id(configuration_of(entry, catalog)) for entry in catalog.entries}
    assert set(ui.partitions("benchmark_results")) >= keys
    expect(page.get_by_text(KEY, exact=True).first).to_be_visible()
    expect(page.get_by_text(f"{len(keys)} Partitions Selected")).to_be_visible()


def test_one_click_proves_a_configuration_and_coverage_follows(ui: DagsterUi, page: Page) -> None:
    run = ui.wait_run(materialize(page))
    assert run.status == "SUCCESS"
    stages = ["claim", *(stage.value for stage in CANONICAL_ORDER), "verdict"]
    assert [step for step in run.steps if step in stages] == stages
    assert set(run.steps.values()) == {"SUCCESS"}
    assert run.tags["dagster/partition"] == KEY
    assert "logistic-regression" in run.tags["mlcc/configuration"]
    expect(page.get_by_text("Success", exact=True).first).to_be_visible()
    for stage in ("build", "deploy", "benchmark"):
        expect(page.get_by_text(f"lifecycle.{stage}").first).to_be_visible()

    attempt = begun(ui, run.run_id)
    (proof, *_) = ui.materializations("benchmark_results", KEY)
    assert proof["dagster_run_id"] == run.run_id
    assert proof["run_id"] == attempt.run_id
    open_partition(page, "benchmark_results", KEY)
    for said in (attempt.run_id, NAME, "measurements", "request_throughput_rps", "completed"):
        expect(page.get_by_text(said).first).to_be_visible()
    assert [level["concurrency"] for level in proof["measurements"]] == [1, 4]

    def newest(asset: str) -> dict[str, Any]:
        return next(iter(ui.materializations(asset, FAMILY)), {})

    # a refresh that was under way when the result came does not know it: the next one does
    covered = wait_until(
        "coverage with the result", lambda: (found := newest("coverage_matrix")).get("proven") and found
    )
    refresh = covered["dagster_run_id"]
    gaps = wait_until(
        "gaps of the same refresh", lambda: (g := newest("gap_list")).get("dagster_run_id") == refresh and g
    )
    assert covered["proven"] == 1
    assert gaps["gaps"] == covered["possible"] - covered["proven"] == len(gaps["first gaps"])
    assert ui.wait_run(refresh).status == "SUCCESS"
    open_partition(page, "coverage_matrix", FAMILY)
    expect(page.get_by_text(covered["proven share"]).first).to_be_visible()
    open_partition(page, "gap_list", FAMILY)
    expect(page.get_by_text("http-flask").first).to_be_visible()
    assert ui.left_over() == []


def test_a_run_terminated_in_the_page_leaves_nothing_and_the_next_one_proves(ui: DagsterUi, page: Page) -> None:
    attempt = run_until(ui, page, "benchmark")
    terminate(page)
    assert ui.wait_run(attempt.owner.dagster_run_id).status == "CANCELED"
    wait_left_nothing(ui)
    expect(page.get_by_text("Canceled", exact=True).first).to_be_visible()
    after = ended(ui, attempt)
    assert after.state == "interrupted"
    assert "cancelled" in str(after.reason)
    assert_next_run_proves(ui, page, materialize)


def by_command(ui: DagsterUi) -> None:
    ui.mlcc("reap")
    assert ui.left_over() == [], "one reap is enough"


@pytest.mark.parametrize(
    ("stage", "clean"),
    [
        pytest.param("deploy", by_command, id="in deploy, then mlcc reap"),
        pytest.param("benchmark", wait_left_nothing, id="in benchmark, then the sensors"),
    ],
)
def test_a_killed_run_worker_leaves_a_failed_run_and_nothing_else(
    ui: DagsterUi, page: Page, stage: str, clean: Callable[[DagsterUi], None]
) -> None:
    attempt = run_until(ui, page, stage)
    os.kill(attempt.owner.pid, signal.SIGKILL)
    killed = ui.ci.attempt(attempt.run_id)
    assert killed is not None and stage not in killed.stages, "it was killed in the middle of the stage"
    clean(ui)
    assert ui.wait_run(attempt.owner.dagster_run_id).status == "FAILURE"
    assert ended(ui, attempt).state == "interrupted"
    expect(page.get_by_text("Failure", exact=True).first).to_be_visible()
    assert_next_run_proves(ui, page, execute_again)


def test_a_killed_supervisor_is_an_honest_failure_of_the_benchmark(ui: DagsterUi, page: Page) -> None:
    attempt = run_until(ui, page, "benchmark")
    (supervisor,) = ui.alive(attempt.run_id, "process")
    os.kill(supervisor.details["pid"], signal.SIGKILL)
    run: Run = ui.wait_run(attempt.owner.dagster_run_id)
    assert run.status == "FAILURE"
    assert run.steps["verdict"] == "FAILURE"
    assert [step for step, status in run.steps.items() if status == "FAILURE"] == ["verdict"]
    after = ended(ui, attempt)
    assert (after.state, after.status, after.run_status) == ("finished", "failed", "fail-benchmark")
    assert "benchmark failed" in str(after.reason)
    expect(page.get_by_text(re.compile("benchmark failed")).first).to_be_visible()
    # what the gate proved stands, what the benchmark did not prove is not there
    assert ui.materializations("ci_test_results", KEY)[0]["dagster_run_id"] == run.run_id
    assert run.run_id not in [proof["dagster_run_id"] for proof in ui.materializations("benchmark_results", KEY)]
    assert ui.left_over() == []


def test_sensors_that_spend_nothing_tick_without_failures(ui: DagsterUi, page: Page) -> None:
    on = {name: sensor for name, sensor in ui.sensors().items() if sensor["status"] == "RUNNING"}
    assert set(on) == {
        "catalog_sync_sensor",
        "store_refresh_sensor",
        "clean_after_failure_sensor",
        "clean_after_cancel_sensor",
        "failure_notice_sensor",
        "reaper_sensor",
        "triage_runs_sensor",
        "tier_sensor",  # goes on with rounds that somebody began
    }
    wait_until("a tick of every sensor", lambda: all(ui.sensors()[name]["ticks"] for name in on))
    failed = [
        (name, tick["error"]) for name in on for tick in ui.sensors()[name]["ticks"] if tick["status"] == "FAILURE"
    ]
    assert failed == []
    page.goto("/automation")
    for name in on:
        expect(page.get_by_text(name, exact=True).first).to_be_visible()
