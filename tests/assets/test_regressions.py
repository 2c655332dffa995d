"""Baselines and regressions as assets: refreshed with the store, and a check that fails only on what counts."""

import sys
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from scripted_runs import Graph

sys.path.insert(0, str(Path(__file__).parents[1] / "cli"))

from measured_homes import FOREST, FOREST_NAME, publish_runs, wobble

from resources.regression_words import EVERY, Blessing, RegressionWords

STEP = wobble([20.0] * 20 + [24.0] * 10)
NOW = datetime(2026, 11, 1, tzinfo=UTC)


def metadata_of(run: dg.ExecuteInProcessResult, asset: str) -> dict[str, object]:
    """What a refresh says of an asset: values by name."""
    (found,) = (
        event.step_materialization_data.materialization
        for event in run.get_asset_materialization_events()
        if event.asset_key == dg.AssetKey(asset)
    )
    return {name: value.value for name, value in found.metadata.items()}


def check_of(run: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    (found,) = (each for each in run.get_asset_check_evaluations() if each.check_name == "no_regression_counts")
    return found


def test_one_refresh_shows_what_is_compared_and_what_got_worse(graph: Graph) -> None:
    publish_runs(graph.platform.home.root, STEP, executor=graph.platform.executor.name)
    RegressionWords(graph.platform.home.database).bless(Blessing(FOREST, f"{FOREST}-g3", "release", "ann", NOW))
    run = graph.refresh()
    baselines, report = metadata_of(run, "baselines"), metadata_of(run, "regression_report")
    (line,) = baselines["baselines"].records  # type: ignore[attr-defined]
    assert line.data["configuration"] == FOREST_NAME
    assert line.data["blessed"] == STEP[2]
    assert line.data["previous"] == STEP[-1]
    assert f"{FOREST}-g3 (release, ann)" in str(baselines["blessed"])
    assert (report["regression"], report["counting"]) == (1, 0)
    (judged,) = report["by metric"].records  # type: ignore[attr-defined]
    assert (judged.data["state"], judged.data["since"]) == ("regression", f"{FOREST}-g21")
    assert judged.data["word"] == "recorded only"
    assert "data:image/png;base64," in str(report["history plots"])


@pytest.mark.slow
def test_the_check_fails_only_on_what_counts(graph: Graph) -> None:
    publish_runs(graph.platform.home.root, STEP, executor=graph.platform.executor.name)
    recorded = check_of(graph.refresh())
    assert recorded.passed
    assert recorded.metadata["recorded only or acknowledged"].value == 1
    RegressionWords(graph.platform.home.database).arm(EVERY, True, reason="r", who="ann", at=NOW)
    counting = check_of(graph.refresh())
    assert not counting.passed
    assert f"since {FOREST}-g21" in str(counting.metadata["regressions"].value)


def test_an_empty_store_has_no_history_and_nothing_to_fail(graph: Graph) -> None:
    run = graph.refresh()
    assert metadata_of(run, "regression_report")["histories"] == 0
    assert "history plots" not in metadata_of(run, "regression_report")
    assert metadata_of(run, "baselines")["metrics"] == 0
    assert check_of(run).passed
