"""Recommendations as an asset: what measured configurations could do better."""

import sys
from pathlib import Path

import dagster as dg
from scripted_runs import Graph

sys.path.insert(0, str(Path(__file__).parents[1] / "cli"))

from test_recommend import publish

from assets.recommendations import recommendations


def test_the_refresh_lists_what_measured_better(graph: Graph) -> None:
    publish(graph.platform.home.root, "q8_0", [26.0, 26.1], e2e_latency_p99_ms=900.0)
    publish(graph.platform.home.root, "q4_1", [50.0, 50.1], e2e_latency_p99_ms=500.0)
    run = dg.materialize([recommendations], resources={"platform": graph.resource}, instance=graph.instance)
    (found,) = run.asset_materializations_for_node("recommendations")
    assert int(found.metadata["configurations"].value) >= 2  # type: ignore[arg-type]
    assert found.metadata["throughput"].value == 1
    (record,) = found.metadata["better throughput"].value.records  # type: ignore[union-attr]
    assert (record.data["now"], record.data["better"], record.data["confidence"]) == ("q8_0", "q4_1", "medium")
    assert found.metadata["latency"].value == 0
