"""Triage matrices in Dagster: run by configuration, noticed when a command ran them, shown again, and asked in SQL."""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from scripted_runs import Graph

from assets.triage import TriageConfig, run_configured, triage_job, triage_matrix
from mlcc_dagster.core.exceptions import InvalidInput, UsageError
from resources.home import Home
from resources.model_sources import model_engine
from resources.triage.kept_runs import KeptRun
from sensors.triage_runs import MOST_PER_TICK, decide_new, triage_runs_sensor

PROBE = """
import os
from resources.triage.workloads import Report

def racing(trial):
    slow = "SLOW" in os.environ or trial.delay_s > 0
    return Report(slow or "CURED" in os.environ or trial.number % 2 == 1, (1.0 + 9.0 * slow,))
"""
RECIPE = """
schema_version: 1
ticket: T-1
workload: python:dagster_probes:racing
trials: 16
steps: 1
cells:
  - {name: base, mitigations: [none], environment: local}
  - {name: cure, mitigations: [none], environment: local, extra_env: {CURED: "1"}}
  - {name: slow, mitigations: [none], environment: local, extra_env: {SLOW: "1"}}
"""


@pytest.fixture(autouse=True)
def probes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, graph: Graph) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "dagster_probes.py").write_text(PROBE)
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    monkeypatch.setenv("MLCC_HOME", str(graph.platform.home.root))


def kept(home: Home, **options: Any) -> KeptRun:
    """A run of the home, as a command makes it."""
    return run_configured(home, TriageConfig(recipe=RECIPE, **options))


def metadata(materialization: Any) -> dict[str, Any]:
    return {name: value.value for name, value in materialization.metadata.items()}


def materializations(instance: dg.DagsterInstance) -> list[dg.AssetMaterialization]:
    found = instance.fetch_materializations(triage_matrix.key, limit=100).records
    return [record.asset_materialization for record in found if record.asset_materialization is not None]


def test_a_matrix_is_run_from_the_ui_and_is_a_partition_of_its_own(graph: Graph):
    with dg.DagsterInstance.ephemeral() as instance:
        config = {"ops": {"run_triage": {"config": {"recipe": RECIPE, "delay_control": True}}}}
        done = triage_job.execute_in_process(
            run_config=config, instance=instance, resources={"platform": graph.resource}
        )
        assert done.success
        (key,) = instance.get_dynamic_partitions("triage_run")
        assert key.startswith("T-1~python_dagster_probes_racing~20")
        (event,) = materializations(instance)
        assert event.partition == key
        said = metadata(event)
        assert (said["credited"], said["confounded"], said["trials"], said["finished"]) == (1, 1, 48, True)
        texts = [record.data["confound"] for record in said["cells"].records]
        assert texts[0] == "baseline"
        assert texts[1].startswith("credited (p = ")
        assert texts[2].startswith("confounded (the delay alone does it, p = ")
        assert said["matrix"].startswith("# Triage matrix: python:dagster")
        assert "data:image/png;base64," in said["failure rate against step time"]


def test_a_partition_is_shown_again_and_runs_nothing(graph: Graph):
    run = kept(graph.platform.home)
    before = sorted(path.stat().st_mtime_ns for path in run.path.rglob("*"))
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("triage_run", [run.key])
        done = dg.materialize(
            [triage_matrix], partition_key=run.key, instance=instance, resources={"platform": graph.resource}
        )
        assert done.success
        assert metadata(materializations(instance)[0])["folder"] == str(run.path)
    assert sorted(path.stat().st_mtime_ns for path in run.path.rglob("*")) == before


def test_a_partition_whose_run_is_gone_is_red_with_a_sentence(graph: Graph):
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("triage_run", ["T-1~w~2026-01-01T00-00-00"])
        with pytest.raises(UsageError, match="keeps no triage run T-1~w~2026-01-01T00-00-00; run it again"):
            dg.materialize(
                [triage_matrix],
                partition_key="T-1~w~2026-01-01T00-00-00",
                instance=instance,
                resources={"platform": graph.resource},
            )


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        ("schema_version: 2\nworkload: w", "schema_version: must be 1"),
        ("/no/such/recipe.yaml", "is no file"),
    ],
)
def test_a_recipe_that_cannot_be_run_is_refused_with_its_mistakes(graph: Graph, recipe: str, told: str):
    with pytest.raises((InvalidInput, UsageError), match=told):
        run_configured(graph.platform.home, TriageConfig(recipe=recipe))
    assert not (graph.platform.home.root / "triage").exists()


def test_a_recipe_of_a_file_is_run_as_well(graph: Graph, tmp_path: Path):
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    run = run_configured(graph.platform.home, TriageConfig(recipe=str(tmp_path / "recipe.yaml"), adaptive=True))
    assert run.document["recipe"] == str(tmp_path / "recipe.yaml")
    assert run.document["options"]["adaptive"] is True


def tick(graph: Graph, instance: dg.DagsterInstance, cursor: str | None) -> dg.SensorResult:
    context = dg.build_sensor_context(instance=instance, cursor=cursor, resources={"platform": graph.resource})
    found = triage_runs_sensor(context)
    assert isinstance(found, dg.SensorResult)
    return found


def test_a_run_of_a_command_is_noticed_once_and_again_when_it_was_asked_for_more(graph: Graph):
    from mlcc_dagster.core.triage.options import RunOptions
    from resources.triage.runner import resume

    with dg.DagsterInstance.ephemeral() as instance:
        assert tick(graph, instance, None).asset_events == []
        run = kept(graph.platform.home)
        first = tick(graph, instance, "{}")
        (event,) = first.asset_events
        assert (event.asset_key, event.partition) == (triage_matrix.key, run.key)
        assert [list(each.partition_keys) for each in first.dynamic_partitions_requests or []] == [[run.key]]
        instance.add_dynamic_partitions("triage_run", [run.key])
        second = tick(graph, instance, first.cursor)
        assert second.asset_events == []
        assert second.skip_reason is not None
        resume(run.path, options=RunOptions(delay_control=True))
        third = tick(graph, instance, second.cursor)
        (event,) = third.asset_events
        assert metadata(event)["confounded"] == 1
        assert not third.dynamic_partitions_requests, "the partition is there"


def test_a_run_that_is_not_over_or_is_damaged_is_not_reported(graph: Graph):
    run = kept(graph.platform.home)
    place = run.path / "matrix.json"
    with dg.DagsterInstance.ephemeral() as instance:
        place.write_text(json.dumps({**run.document, "finished": False}))
        waiting = tick(graph, instance, None)
        assert waiting.asset_events == []
        place.write_text("{")
        assert tick(graph, instance, waiting.cursor).asset_events == []
        place.write_text(json.dumps(dict(run.document)))
        assert len(tick(graph, instance, waiting.cursor).asset_events) == 1


def test_a_tick_looks_at_a_few_runs_and_the_next_one_goes_on():
    states = {f"k{n}": n for n in range(MOST_PER_TICK + 2)}
    first = decide_new(None, states)
    assert first == [f"k{n}" for n in range(MOST_PER_TICK)]
    assert decide_new(json.dumps({key: states[key] for key in first}), states) == ["k5", "k6"]
    assert decide_new(json.dumps(states | {"k0": 9}), states) == ["k0"]


def test_the_cells_of_all_runs_are_a_table(graph: Graph):
    first, second = kept(graph.platform.home, delay_control=True), kept(graph.platform.home, adaptive=True)
    engine = model_engine(graph.platform)
    rows = engine.query(
        "SELECT triage_run, cell, tag, failed, trials, failure_rate, step_time_ratio, e_value, control_delay_ms, "
        "control_explains FROM mlcc_ci.triage_cells ORDER BY triage_run, cell"
    ).to_pylist()
    assert [(row["triage_run"], row["cell"]) for row in rows] == [
        (run.key, cell) for run in sorted((first, second), key=lambda run: run.key) for cell in ("base", "cure", "slow")
    ]
    slow = next(row for row in rows if (row["triage_run"], row["cell"]) == (first.key, "slow"))
    assert (slow["tag"], slow["step_time_ratio"], slow["control_explains"]) == ("confounded", 10.0, "delay")
    assert slow["control_delay_ms"] == 9.0
    cure = next(row for row in rows if (row["triage_run"], row["cell"]) == (second.key, "cure"))
    assert cure["e_value"] >= 50
    assert engine.query("SELECT count(*) AS n FROM stg_triage_cells").to_pylist() == [{"n": 6}]


def test_a_damaged_run_is_no_empty_answer(graph: Graph):
    run = kept(graph.platform.home)
    (run.path / "matrix.json").write_text('{"schema_version": 99}')
    with pytest.raises(UsageError, match="is of another version or damaged; resume the run, or remove its folder"):
        model_engine(graph.platform).query("SELECT * FROM mlcc_ci.triage_cells")
