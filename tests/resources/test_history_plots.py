"""A plot of a history shows its runs, levels, changes and cold starts."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "core"))

from some_measurements import BUCKET, history

from mlcc_dagster.core.compared_metrics import metric_named
from mlcc_dagster.core.regressions import History, judge_history
from resources.history_plots import BETTER, WORSE, history_plot
from resources.plots import save, svg


def judged(values: list[float]) -> History:
    return judge_history(BUCKET, metric_named("latency"), history(values), threshold_pct=10.0)


STEP = [200.0, *[100.0 + n % 3 for n in range(20)], *[120.0 + n % 3 for n in range(12)]]


def texts(document: dict[str, Any]) -> str:
    return json.dumps(document)


def test_changes_are_labelled_with_their_size_and_coloured_by_what_they_mean() -> None:
    worse = history_plot([judged(STEP)], ["forest"]).to_dict()
    better = history_plot([judged(STEP[1:][::-1])], ["forest"]).to_dict()
    assert "+19.9 %" in texts(worse)
    assert WORSE in texts(worse)
    assert BETTER not in texts(worse)
    assert BETTER in texts(better)
    assert WORSE not in texts(better)


def test_the_title_says_the_state_and_what_would_have_been_caught() -> None:
    found = history_plot([judged(STEP)], ["forest"]).to_dict()
    assert "forest: regression +19.9 %; would have caught" in texts(found)


def test_every_run_is_drawn_and_the_cold_one_is_marked() -> None:
    found = history_plot([judged(STEP)], ["forest"]).to_dict()
    runs = [value for data in found["layer"] for value in data.get("data", {}).get("values", ()) if "cold" in value]
    assert {value["run"] for value in runs} == set(range(1, len(STEP) + 1))
    assert {value["run"] for value in runs if value["cold"]} == {1}


@pytest.mark.parametrize("values", [[5.0], [5.0] * 30, [1.0, 2.0], STEP], ids=["one", "constant", "two", "step"])
def test_every_history_can_be_drawn(values: list[float], tmp_path: Path) -> None:
    chart = history_plot([judged(values)] * 2, ["a", "b"])
    assert svg(chart).startswith("<svg")
    save(chart, tmp_path / "h.png")
    assert (tmp_path / "h.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="no history"):
        history_plot([], [])
