"""`mlcc compare` and `mlcc baselines`: exit codes in every form, what is said, and what is refused."""

from pathlib import Path

import pytest
from command_calls import Call, result_row
from measured_homes import BEGIN, FOREST, FOREST_NAME, LATENCY, publish_runs

from mlcc_dagster.core.records import utc_text
from resources.result_store import ResultStore


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["table", "json"])
@pytest.mark.parametrize(
    ("latencies", "words", "code", "why"),
    [
        ([20.0, 22.0], (), 0, "+10.0 % passes"),
        ([20.0, 22.1], (), 1, "+10.5 % does not"),
        ([20.0, 22.1], ("--threshold", "latency:11"), 0, "the threshold is the caller's"),
        ([20.0], (), 3, "no earlier run"),
        ([20.0, 20.0], ("--baseline", "median:2"), 3, "one earlier run is too few"),
        ([20.0, 40.0, 21.0], ("--baseline", "best"), 0, "the best of two"),
        ([20.0, 40.0, 23.0], ("--baseline", "best"), 1, "worse than the best"),
        ([20.0, 40.0, 23.0], (), 0, "better than the previous"),
        ([20.0, 20.0], ("--baseline", "blessed"), 3, "nothing is blessed"),
    ],
)
def test_the_exit_code_is_the_verdict_in_every_form(
    mlcc: Call, home: Path, form: tuple[str, ...], latencies: list[float], words: tuple[str, ...], code: int, why: str
) -> None:
    publish_runs(home, latencies)
    for named in ((), ("--config", FOREST_NAME), ("--config", FOREST[:6])):
        answer = mlcc("compare", *named, *words, *form)
        assert answer.code == code, why
    assert answer.err == ""


def test_the_document_says_what_was_compared_with_what(mlcc: Call, home: Path) -> None:
    publish_runs(home, [20.0, 30.0, 25.0])
    found = mlcc("compare", "--json").document
    assert (found["status"], found["baseline"]) == ("pass", "previous")
    (subject,) = found["configurations"]
    assert (subject["name"], subject["run_id"]) == (FOREST_NAME, f"{FOREST}-g3")
    (compared,) = subject["levels"][0]["comparisons"]
    assert compared["metric"] == LATENCY
    assert (compared["current"], compared["baseline"], compared["delta_pct"]) == (25.0, 30.0, -16.7)
    assert compared["baseline_run_ids"] == [f"{FOREST}-g2"]
    assert compared["historical"] == {"avg": 25.0, "min": 20.0, "max": 30.0, "runs": [30.0, 20.0]}


def test_what_was_imported_is_compared_when_it_is_named(mlcc: Call, home: Path) -> None:
    publish_runs(home, [20.0, 30.0], config_id="feed", executor=None)
    assert mlcc("compare").code == 3, "this executor measured nothing"
    assert mlcc("compare", "--config", "feed").code == 1


def test_a_home_that_only_imported_says_what_there_is_and_how_to_ask(mlcc: Call, home: Path) -> None:
    publish_runs(home, [20.0, 30.0], config_id="feed", executor=None)
    said = " ".join(mlcc("compare").out.split())
    assert "the executor local measured nothing here" in said
    assert "1 configuration by others (imported): feed; `mlcc compare --config ID`" in said
    assert "mlcc run" not in said


def test_a_beginning_that_several_have_names_what_was_imported_too(mlcc: Call, home: Path) -> None:
    publish_runs(home, [20.0, 30.0], config_id="6zz", executor=None)
    answer = mlcc("compare", "--config", "6")
    assert (answer.code, answer.out) == (2, "")
    assert "(6zz, " in answer.err
    assert mlcc("compare", "--config", "6z").code == 1, "a beginning that it alone has"


def test_the_table_does_not_contradict_its_status(mlcc: Call, home: Path) -> None:
    publish_runs(home, [100.0, 110.0001])
    answer = mlcc("compare")
    assert answer.code == 1
    assert "110.0001" in answer.out
    assert "+10.0001 %" in answer.out


def test_the_blessed_run_is_not_compared_with_itself(mlcc: Call, home: Path) -> None:
    publish_runs(home, [20.0, 90.0])
    mlcc("baselines", "bless", f"{FOREST}-g2", "--reason", "accepted")
    answer = mlcc("compare", "--baseline", "blessed")
    assert answer.code == 3
    assert f"{FOREST}-g2 is the blessed one" in answer.out


def test_a_newest_run_that_failed_is_said(mlcc: Call, home: Path) -> None:
    publish_runs(home, [20.0, 20.0])
    failed = {"status": "failed", "concurrency": 0, "failure_stage": "benchmark", "failure_reason": "no answer"}
    late = {
        "run_id": f"{FOREST}-g9",
        "run_timestamp": utc_text(BEGIN.replace(year=2027)),
        "failure_category": "timeout",
    }
    ResultStore(home / "results").publish(f"{FOREST}-g9", [result_row(FOREST, **failed, **late)])
    answer = mlcc("compare")
    assert answer.code == 3
    assert f"{FOREST}-g9 failed at benchmark" in answer.out


def test_an_empty_home_has_nothing_to_compare(mlcc: Call, home: Path) -> None:
    answer = mlcc("compare")
    assert answer.code == 3
    assert "nothing was measured here yet" in answer.out
    assert "is a new, empty home" in answer.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--baseline", "newest"], "use one of previous, best, median:N, blessed"),
        (["--baseline", "median:0"], "number above 0"),
        (["--baseline", "median:1\N{FULLWIDTH DIGIT FIVE}"], "number above 0"),
        (["--threshold", "speed:5", "--threshold", "latency"], "has 2 mistakes"),
        (["--config", "nothing-like-it"], "nothing-like-it"),
        (["--executor", "moon"], "unknown executor 'moon'"),
    ],
)
def test_an_unusable_request_is_refused_with_a_sentence(mlcc: Call, home: Path, words: list[str], said: str) -> None:
    publish_runs(home, [20.0])
    answer = mlcc("compare", *words)
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err


# ---- baselines


def test_a_blessed_run_is_the_baseline_until_it_is_taken_back(mlcc: Call, home: Path) -> None:
    publish_runs(home, [20.0, 30.0, 31.0])
    blessed = mlcc("baselines", "bless", f"{FOREST}-g1", "--reason", "release 1.2")
    assert (blessed.code, blessed.err) == (0, "")
    assert mlcc("compare", "--baseline", "blessed").code == 1
    found = mlcc("baselines", "list", "--json").document
    assert found["baselines"][0]["baselines"]["blessed"] == {"value": 20.0, "run_ids": [f"{FOREST}-g1"], "reason": None}
    assert found["blessed"][0]["reason"] == "release 1.2"
    assert "release 1.2" in mlcc("baselines", "list").out
    mlcc("baselines", "bless", f"{FOREST}-g2", "--reason", "accepted")
    assert mlcc("compare", "--baseline", "blessed").code == 0
    assert mlcc("baselines", "unbless", FOREST_NAME, "--reason", "new machine").code == 0
    assert mlcc("compare", "--baseline", "blessed").code == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bless", "no-such-run", "--reason", " "], "has 2 mistakes"),
        (["bless", f"{FOREST}-g1", "--reason", ""], "--reason is empty"),
        (["bless", f"{FOREST}-g1"], "missing option '--reason'"),
        (["unbless", FOREST_NAME, "--reason", "r"], "has no blessed run"),
    ],
)
def test_a_word_that_cannot_hold_is_refused(mlcc: Call, home: Path, words: list[str], said: str) -> None:
    publish_runs(home, [20.0])
    answer = mlcc("baselines", *words)
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
