"""Changes in histories of real benchmarks: a sample with a known one, and 365 commits of a database."""

import csv
import json
from pathlib import Path

import pytest

from mlcc_dagster.core.change_points import change_points
from mlcc_dagster.core.detectability import minimum_detectable_effect_pct

SERIES = Path(__file__).parents[3] / "shared" / "realdata" / "timeseries"

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not SERIES.exists(), reason="the shared real data is not beside this checkout"),
]


@pytest.mark.parametrize("search", ["permutation", "t-test"])
def test_the_known_change_of_the_sample_is_found_at_its_commit(search: str) -> None:
    with (SERIES / "otava" / "sample.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    (change,) = change_points([float(row["metric2"]) for row in rows], search=search)
    assert rows[change.index]["commit"] == "aaa6"
    assert change.magnitude_pct == pytest.approx(-12.9, abs=0.05)
    assert change.p_value < 0.02
    assert change_points([float(row["metric1"]) for row in rows], search=search) == ()


@pytest.fixture(scope="module")
def commits() -> list[dict[str, float]]:
    """The metrics of every commit by name, oldest first."""
    rows = json.loads((SERIES / "tigerbeetle.json").read_text("utf-8"))
    rows.sort(key=lambda row: row["timestamp"])
    return [{metric["name"]: float(metric["value"]) for metric in row["metrics"]} for row in rows]


PUBLISHED = {
    "load_accepted": [15, 61, 71, 95, 117, 131, 192, 212],
    "batch_p50": [10, 61, 91, 95, 103, 136, 157, 188, 192, 271, 347, 350],
    "batch_p90": [10, 11, 14, 61, 71, 95, 124, 136, 157, 192, 227],
    "transfer_p50": [10, 11, 15, 61, 71, 135, 143, 147, 192],
    "transfer_p90": [15, 61, 71, 95, 114, 131, 192, 212, 260],
    "duration": [71, 95, 117, 131, 192, 212],
}
"""What Apache Otava 0.8.0 finds in these series with its own settings (window 50, p 0.001)."""


@pytest.mark.parametrize("metric", PUBLISHED)
def test_the_t_test_search_finds_what_the_published_one_finds(metric: str, commits: list[dict[str, float]]) -> None:
    found = change_points([commit[metric] for commit in commits], search="t-test")
    assert [change.index for change in found] == PUBLISHED[metric]


@pytest.mark.slow
@pytest.mark.parametrize("metric", PUBLISHED)
def test_permutation_misses_no_large_change_that_the_t_test_finds(metric: str, commits: list[dict[str, float]]) -> None:
    """The newest 200 commits, as histories are judged. It may find more: three commits of 5 % that windows of 50 smooth away."""
    values = [commit[metric] for commit in commits][-200:]
    searched = {search: change_points(values, search=search) for search in ("permutation", "t-test")}
    large = [change for change in searched["t-test"] if abs(change.magnitude_pct or 0) > 3]
    missed = [c for c in large if not any(abs(c.index - each.index) <= 3 for each in searched["permutation"])]
    assert missed == []
    newest = values[searched["permutation"][-1].index if searched["permutation"] else 0 :]
    assert 0 < (minimum_detectable_effect_pct(newest) or 0) < 10
