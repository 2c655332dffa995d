"""`mlcc regressions`: what counts and what is only recorded, words, plots, and what is refused."""

from pathlib import Path

import pytest
from command_calls import Call
from measured_homes import FOREST, FOREST_NAME, publish_runs, wobble

STEP = wobble([20.0] * 20 + [24.0] * 10)
QUIET = wobble([20.0] * 30)


def test_a_regression_is_recorded_and_counts_only_when_it_is_armed(mlcc: Call, home: Path) -> None:
    publish_runs(home, STEP)
    recorded = mlcc("regressions", "list")
    assert recorded.code == 0
    assert "recorded only" in recorded.out
    assert mlcc("regressions", "arm", FOREST_NAME, "--reason", "quiet until now").code == 0
    counting = mlcc("regressions", "list")
    assert counting.code == 1
    assert "1 of 1 regressions count" in counting.out
    assert mlcc("regressions", "list", "--json").code == 1
    assert mlcc("regressions", "disarm", "--all", "--reason", "moving").code == 0
    assert mlcc("regressions", "list").code == 0


def test_an_acknowledged_regression_does_not_count(mlcc: Call, home: Path) -> None:
    publish_runs(home, STEP)
    mlcc("regressions", "arm", "--all", "--reason", "release")
    assert mlcc("regressions", "list").code == 1
    words = ("regressions", "acknowledge", FOREST_NAME, "--reason", "fix in 1.3")
    assert mlcc(*words, "--metric", "latency", "--until", "2999-01-01").code == 0
    answer = mlcc("regressions", "list", "--json")
    assert answer.code == 0
    (found,) = answer.document["histories"]
    assert found["state"] == "regression"
    assert found["acknowledged"]["reason"] == "fix in 1.3"
    assert found["acknowledged"]["until"].startswith("2999-01-01")
    assert "acknowledged until 2999-01-01" in mlcc("regressions", "list").out


def test_a_level_is_accepted_for_good_by_blessing_a_run_of_it(mlcc: Call, home: Path) -> None:
    publish_runs(home, STEP)
    mlcc("regressions", "arm", "--all", "--reason", "release")
    mlcc("baselines", "bless", f"{FOREST}-g25", "--reason", "the new model is larger")
    assert mlcc("regressions", "list").code == 0
    assert mlcc("regressions", "list", "--json").document["states"]["stable"] == 1


def test_the_document_says_when_how_much_and_how_small_a_change_would_be_seen(mlcc: Call, home: Path) -> None:
    publish_runs(home, STEP)
    (found,) = mlcc("regressions", "list", "--json").document["histories"]
    assert (found["since_run_id"], found["changed_pct"]) == (f"{FOREST}-g21", 20.0)
    assert found["change_points"][0]["run_id"] == f"{FOREST}-g21"
    assert found["change_points"][0]["p_value"] <= 0.02
    assert 0 < found["noise_floor_pct"] < found["minimum_detectable_effect_pct"] < 5


@pytest.mark.parametrize("search", ["permutation", "t-test"])
def test_both_searches_find_it(mlcc: Call, home: Path, search: str) -> None:
    publish_runs(home, STEP)
    found = mlcc("regressions", "list", "--search", search, "--json").document
    assert (found["search"], found["states"]["regression"]) == (search, 1)


def test_what_is_quiet_is_shown_when_it_is_asked_for(mlcc: Call, home: Path) -> None:
    publish_runs(home, QUIET)
    assert FOREST_NAME not in mlcc("regressions", "list").out
    assert FOREST_NAME in mlcc("regressions", "list", "--all").out
    assert "1 stable" in mlcc("regressions", "list").out


def test_a_threshold_makes_a_smaller_change_a_regression(mlcc: Call, home: Path) -> None:
    publish_runs(home, wobble([20.0] * 20 + [21.4] * 10))
    assert mlcc("regressions", "list", "--json").document["states"]["regression"] == 0
    found = mlcc("regressions", "list", "--threshold", "latency:5", "--json").document
    assert found["states"]["regression"] == 1


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_a_history_is_drawn(mlcc: Call, home: Path, tmp_path: Path, ending: str) -> None:
    publish_runs(home, STEP)
    target = tmp_path / f"history.{ending}"
    assert mlcc("regressions", "plot", FOREST_NAME, "--output", str(target)).code == 0
    assert target.read_bytes()[:4] in (b"<svg", b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["list", "--search", "guess"], "permutation, t-test"),
        (["list", "--threshold", "latency:x"], "no number of percent"),
        (["list", "--config", "no-such-entry"], "no-such-entry"),
        (["plot", FOREST_NAME, "--output", "h.gif"], ".svg or .png"),
        (["plot", FOREST_NAME, "--output", "/nowhere/h.png"], "cannot be written"),
        (["plot", FOREST_NAME, "--output", "h.png", "--metric", "ttft"], "no measurement of ttft"),
        (["plot", FOREST_NAME, "--output", "h.png", "--metric", "speed"], "no metric 'speed'"),
        (["acknowledge", FOREST_NAME, "--reason", "", "--until", "soon", "--metric", "speed"], "has 3 mistakes"),
        (["acknowledge", FOREST_NAME, "--reason", "r", "--until", "2020-01-01"], "is over already"),
        (["acknowledge", FOREST_NAME, "--reason", "r", "--until", "2999-01-01"], "no such regression to acknowledge"),
        (["arm", "--reason", "r"], "name one configuration, or --all and none"),
        (["arm", FOREST_NAME, "--all", "--reason", "r"], "name one configuration, or --all and none"),
        (["disarm", "--all", "--reason", " "], "--reason is empty"),
    ],
)
def test_an_unusable_request_changes_nothing(mlcc: Call, home: Path, words: list[str], said: str) -> None:
    publish_runs(home, QUIET[:12])
    answer = mlcc("regressions", *words)
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert mlcc("regressions", "list", "--json").document["histories"][0]["armed"] is False
