"""The plot of a matrix: what stands in it, and that it can be drawn."""

from pathlib import Path
from typing import Any

import pytest

from resources.plots import save
from resources.triage.plots import COLOURS, CONTROL, failure_plot


def cell(name: str, failed: int, step: float | None, tag: str = "credited", control: Any = None) -> dict[str, Any]:
    statistics = {
        "failed": failed,
        "passed": 10 - failed,
        "failure_rate": failed / 10,
        "mean_step_time_ms": step,
    }
    return {"name": name, "statistics": statistics, "confound": {"tag": tag, "text": tag, "delay_control": control}}


def matrix(*cells: dict[str, Any]) -> dict[str, Any]:
    return {"workload": "w", "baseline_cell": cells[0]["name"], "confound_threshold": 1.5, "cells": list(cells)}


def values(document: Any) -> list[Any]:
    """All rows of data in a chart's document."""
    found = [row for data in document.get("datasets", {}).values() for row in data]
    return found + [row for layer in document.get("layer", []) for row in layer.get("data", {}).get("values", [])]


CONTROLLED = {"delay_ms": 9.0, "statistics": cell("x", 1, 19.0)["statistics"]}


def test_every_cell_stands_at_its_step_time_and_failure_rate_with_its_control():
    document = failure_plot(
        matrix(cell("base", 5, 10.0, "baseline"), cell("slow", 0, 19.5, "confounded", CONTROLLED), cell("odd", 3, None))
    ).to_dict()
    rows = values(document)
    points = {(row["cell"], row["tag"], row["step_ms"], row["rate"]) for row in rows if "cell" in row}
    assert points == {
        ("base", "baseline", 10.0, 50.0),
        ("slow", "confounded", 19.5, 0.0),
        ("its control", CONTROL, 19.0, 10.0),
    }
    assert all(row["low"] <= row["rate"] <= row["high"] for row in rows if "cell" in row)
    assert {row["step_ms"] for row in rows if "cell" not in row} == {15.0}, "the threshold"


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_it_can_be_drawn(tmp_path: Path, suffix: str):
    path = tmp_path / f"plot{suffix}"
    save(failure_plot(matrix(cell("base", 5, 10.0, "baseline"), cell("slow", 0, 19.5, "confounded", CONTROLLED))), path)
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG" if suffix == ".png" else b"<svg")
    if suffix == ".svg":
        assert b"its control" in content


def test_without_anything_to_draw_it_says_so():
    with pytest.raises(ValueError, match="no cell has failures and step times"):
        failure_plot(matrix(cell("base", 5, None)))


def test_every_tag_that_can_be_drawn_has_a_colour_of_its_own():
    assert len(set(COLOURS.values())) == len(COLOURS)
