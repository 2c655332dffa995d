"""What a history says: every state, what ends it, and whose word covers it."""

from datetime import timedelta

import numpy as np
import pytest
from some_measurements import BUCKET, LATENCY, THROUGHPUT, history

from mlcc_dagster.core.compared_metrics import metric_named
from mlcc_dagster.core.flakiness import Result, judge
from mlcc_dagster.core.regressions import (
    CONSECUTIVE,
    HISTORY_RUNS,
    Acknowledgement,
    History,
    State,
    covering,
    judge_history,
    status_state,
)

LATENCIES, THROUGHPUTS = metric_named("latency"), metric_named("throughput")


def noise(count: int, level: float = 100.0, seed: int = 1, size: float = 0.01) -> list[float]:
    return list(level * (1 + size * np.random.default_rng(seed).normal(size=count)))


def judged(values: list[float], **options: object) -> History:
    return judge_history(BUCKET, LATENCIES, history(values), **{"threshold_pct": 10.0} | options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "state", "why"),
    [
        (noise(9), State.INSUFFICIENT, "nine runs"),
        (noise(30), State.STABLE, "noise"),
        (noise(20) + noise(10, 120.0, 2), State.REGRESSION, "20 % slower"),
        (noise(20) + noise(10, 108.0, 2), State.STABLE, "8 % slower is within the threshold"),
        (noise(20) + noise(10, 80.0, 2), State.IMPROVEMENT, "20 % faster"),
        (noise(20) + noise(10, 120.0, 2) + noise(10, 100.0, 3), State.STABLE, "it went away"),
        ([*noise(20), 130.0], State.SUSPICIOUS, "one slow run"),
        ([*noise(20), 130.0, 131.0], State.SUSPICIOUS, "two slow runs: not yet three in a row"),
        ([*noise(20), 130.0, 131.0, 129.0], State.REGRESSION, "three in a row, and a change of level"),
        ([*noise(20), 130.0, 100.0], State.STABLE, "a slow run, and then none"),
        (noise(15) + noise(10, 106.0, 2) + noise(10, 112.5, 3), State.REGRESSION, "two small steps add up"),
        (
            noise(15) + noise(10, 80.0, 2) + noise(10, 100.0, 3),
            State.REGRESSION,
            "back where it was, but it was better",
        ),
        ([*noise(15), 60.0, 61.0, 60.5, *noise(15, 100.0, 2)], State.STABLE, "three fast runs are no reference"),
        (noise(30, size=0.15, seed=4), State.STABLE, "loud: single runs are further off than 10 % all the time"),
    ],
)
def test_a_history_says_what_it_is(values: list[float], state: State, why: str) -> None:
    found = judged(values)
    assert found.state is state, f"{why}: {found.reason}"


def test_a_regression_names_its_size_and_the_run_it_began_with() -> None:
    found = judged(noise(20) + noise(10, 120.0, 2))
    assert found.since is not None
    assert found.since.run_id == "c1-g21"
    assert found.changed_pct == pytest.approx(20, abs=1)
    assert found.reason == "10 runs in a row violate the threshold"


def test_small_steps_began_where_they_first_lay_beyond_the_threshold() -> None:
    found = judged(noise(15) + noise(10, 106.0, 2) + noise(10, 113.0, 3) + noise(10, 120.0, 4))
    assert found.since is not None
    assert found.since.run_id == "c1-g26"
    assert found.changed_pct == pytest.approx(20, abs=1)


def test_a_throughput_regresses_downward() -> None:
    values = noise(20) + noise(10, 80.0, 2)
    found = judge_history(BUCKET, THROUGHPUTS, history(values, THROUGHPUT), threshold_pct=10.0)
    assert found.state is State.REGRESSION
    assert found.changed_pct == pytest.approx(-20, abs=1)


def test_a_blessed_run_sets_the_reference_anew() -> None:
    values = noise(20) + noise(10, 120.0, 2)
    assert judged(values, blessed="c1-g25").state is State.STABLE
    assert judged(values, blessed="c1-g5").state is State.REGRESSION
    assert judged(values, blessed="elsewhere").state is State.REGRESSION
    assert judged(values + noise(10, 140.0, 3), blessed="c1-g25").state is State.REGRESSION


def test_the_threshold_is_the_caller_s() -> None:
    values = noise(20) + noise(10, 108.0, 2)
    assert judged(values, threshold_pct=5.0).state is State.REGRESSION


def test_three_violations_in_a_row_are_what_a_regression_needs() -> None:
    """A worse level whose runs come down within the threshold again and again is not sure."""
    worse = [115.0, 116.0, 109.0, 118.0, 117.0, 108.5, 116.0, 117.0, 109.0, 118.0]
    found = judged(noise(20) + worse)
    assert found.state is State.SUSPICIOUS
    assert f"2 of {CONSECUTIVE} runs" in found.reason


def test_a_cold_start_is_flagged_and_spoils_neither_level_nor_noise() -> None:
    warm = noise(20)
    found = judged([300.0, *warm])
    assert found.cold == (0,)
    assert found.noise_pct == pytest.approx(1, abs=0.5)
    assert found.levels[0].mean == pytest.approx(sum(warm) / 20)
    assert found.to_json()["cold_starts"] == ["c1-g1"]


def test_a_quiet_history_says_how_small_a_change_it_would_have_shown() -> None:
    found = judged(noise(30, seed=4))
    assert found.noise_pct is not None
    assert found.detectable_pct is not None
    assert found.noise_pct < found.detectable_pct < 5


def test_only_the_newest_runs_are_judged() -> None:
    found = judged([1.0] * 50 + noise(HISTORY_RUNS))
    assert len(found.runs) == HISTORY_RUNS
    assert found.state is State.STABLE


def test_a_history_without_the_metric_is_not_asked_for() -> None:
    with pytest.raises(ValueError, match="throughput"):
        judge_history(BUCKET, THROUGHPUTS, history([1.0]), threshold_pct=10.0)


# ---- tests by flake memory

FLAKY = [True, False, True, True, False, True, True, True]
OTHER = {"template": "t2"}


@pytest.mark.parametrize(
    ("results", "state", "why"),
    [
        ([], State.INSUFFICIENT, "never tested"),
        ([Result(False)], State.INSUFFICIENT, "no pass is known"),
        ([Result(True)] * 5, State.STABLE, "passes"),
        ([*[Result(True)] * 10, Result(False)], State.REGRESSION, "one red after greens, of one that never flipped"),
        ([*map(Result, FLAKY), Result(False)], State.SUSPICIOUS, "one red after greens, of a known flaky one"),
        ([*map(Result, FLAKY), *[Result(False)] * 6], State.REGRESSION, "six in a row are too many for a flake"),
        (
            [*(Result(passed, {"template": "t1"}) for passed in FLAKY), Result(False, OTHER)],
            State.REGRESSION,
            "flaky, but something changed with the failure",
        ),
    ],
)
def test_outcomes_of_tests_are_read_in_the_same_words(results: list[Result], state: State, why: str) -> None:
    assert status_state(judge(results))[0] is state, why


# ---- acknowledgements


def test_an_acknowledgement_covers_what_began_before_it_until_its_day() -> None:
    found = judged(noise(20) + noise(10, 120.0, 2))
    assert found.since is not None
    said = found.since.at + timedelta(days=3)
    word = Acknowledgement("c1", None, said + timedelta(days=7), "known", "ann", said)
    now = said + timedelta(days=1)
    assert covering(found, [word], now=now) is word
    assert covering(found, [word], now=word.until) is None, "its day has come"
    assert covering(found, [], now=now) is None
    assert covering(judged(noise(20)), [word], now=now) is None, "there is nothing to cover"


@pytest.mark.parametrize(
    ("values", "covers"),
    [
        ({"config_id": "c2"}, False),
        ({"metric": LATENCY}, True),
        ({"metric": THROUGHPUT}, False),
        ({"at": -1}, False),
        ({"at": 0}, True),
    ],
    ids=["another configuration", "this metric", "another metric", "said before it began", "said as it began"],
)
def test_an_acknowledgement_covers_only_what_it_names(values: dict[str, object], covers: bool) -> None:
    found = judged(noise(20) + noise(10, 120.0, 2))
    assert found.since is not None
    offset = values.pop("at", 1)
    assert isinstance(offset, int)
    said = found.since.at + timedelta(days=offset)
    named = {"config_id": "c1", "metric": None} | values
    word = Acknowledgement(until=said + timedelta(days=30), reason="known", who="ann", at=said, **named)  # type: ignore[arg-type]
    assert (covering(found, [word], now=said + timedelta(days=2)) is word) is covers


def test_of_several_acknowledgements_the_longest_counts() -> None:
    found = judged(noise(20) + noise(10, 120.0, 2))
    assert found.since is not None
    at = found.since.at
    words = [Acknowledgement("c1", None, at + timedelta(days=n), "r", "w", at) for n in (5, 9, 7)]
    assert covering(found, words, now=at + timedelta(days=1)) is words[1]
