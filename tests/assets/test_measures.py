"""A run that is asked to measure a load: it measures that one, never tunes, and changes nothing of what its record says."""

from pathlib import Path

import pytest
from scripted_runs import Graph

from catalog.loader import load_catalog
from mlcc_dagster.core.stages import TUNING_STAGES, Stage
from resources.lifecycle import measuring_stages

CATALOG = load_catalog()


@pytest.mark.slow
def test_the_load_of_the_tag_is_measured_in_place_of_that_of_the_entry(tmp_path: Path) -> None:
    graph = Graph.over(tmp_path)
    assert graph.run(measures="local_predict x 3,2").success
    assert [(row["workload"], row["concurrency"]) for row in graph.rows()] == [
        ("local_predict", 2),
        ("local_predict", 3),
    ]
    record = graph.platform.ci.record(graph.config_id)
    assert record is not None
    assert record.benchmark.concurrency_levels == CATALOG.workloads["local_predict"].concurrency_levels
    assert graph.run().success, "the next run measures what the record says again"
    assert {row["concurrency"] for row in graph.rows()} == {2, 3, *record.benchmark.concurrency_levels}


@pytest.mark.parametrize(
    ("measures", "words"),
    [
        pytest.param("local_chat x 1", "is for a language-model", id="another kind of model"),
        pytest.param("much", "'much' is no load", id="no load"),
    ],
)
def test_a_load_that_does_not_fit_ends_the_run_before_anything_is_claimed(
    tmp_path: Path, measures: str, words: str
) -> None:
    graph = Graph.over(tmp_path)
    run = graph.run(measures=measures)
    assert not run.success
    assert words in graph.failure(run, "lifecycle.claim")
    assert graph.platform.ci.attempts() == ()
    assert graph.executor.performed == []


@pytest.mark.parametrize("name", ["rt-qwen3-06b", "local-fastapi-forest-1cpu", None])
def test_a_measuring_run_deploys_and_measures_and_does_not_tune(name: str | None) -> None:
    stages = measuring_stages(None if name is None else CATALOG.entry(name))
    assert stages >= {Stage.GENERATE, Stage.DEPLOY, Stage.TEST, Stage.BENCHMARK, Stage.CLEAN}
    assert not stages & TUNING_STAGES
