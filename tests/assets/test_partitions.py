"""Partitions follow the catalog and the store: every key once, in few calls."""

from pathlib import Path

import dagster as dg
import pytest
from scripted_runs import Graph

from assets.partitions import add_missing_keys, missing_keys, wanted_keys


def test_what_can_be_run_here_comes_first(graph: Graph) -> None:
    keys = wanted_keys(graph.platform)["configuration"]
    runs_here = [key for entry, key in graph.ids.items() if entry.startswith("local-")]
    assert keys[: len(runs_here)] == runs_here
    assert sorted(keys) == sorted(set(graph.ids.values()))


def test_every_key_is_added_once(graph: Graph) -> None:
    added = add_missing_keys(graph.platform, graph.instance)
    assert added == sum(len(keys) for keys in wanted_keys(graph.platform).values())
    assert add_missing_keys(graph.platform, graph.instance) == 0
    assert missing_keys(graph.platform, graph.instance) == {"configuration": [], "model_family": []}


def test_a_family_that_only_a_result_has_gets_its_partition(graph: Graph, tmp_path: Path) -> None:
    other = Graph.over(tmp_path / "other")
    assert other.run().success
    (path,) = other.platform.store.snapshot().files
    rows = [row | {"model_family": "imported-family", "run_id": "imported-g1"} for row in other.rows()]
    graph.platform.store.publish("imported-g1", rows)
    assert path.exists()
    assert "imported-family" in wanted_keys(graph.platform)["model_family"]


def test_dagster_is_asked_once_per_definition_however_many_keys_there_are(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = dg.DagsterInstance.get_dynamic_partitions

    def counted(instance: dg.DagsterInstance, name: str) -> object:
        asked.append(name)
        return real(instance, name)

    monkeypatch.setattr(dg.DagsterInstance, "get_dynamic_partitions", counted)
    missing_keys(graph.platform, graph.instance)
    assert sorted(asked) == ["configuration", "model_family"]
