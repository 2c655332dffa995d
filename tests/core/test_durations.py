"""Expected seconds: what a past run tells, the levels against a plain reading of the rule, and what an outlier may do."""

import math
from statistics import median
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcc_dagster.core.durations import NEWEST_RUNS, PSEUDO_VOTES, Durations, StageRun, passed_seconds
from mlcc_dagster.core.stages import Stage

OWN, SIBLING, STRANGER = "a" * 16, "b" * 16, "c" * 16


def run(seconds: float, config: str = OWN, *, server: str = "vllm", stage: Stage = Stage.BUILD) -> StageRun:
    return StageRun(stage, server, config, seconds)


def expected(
    runs: list[StageRun],
    *,
    declared: float = 100.0,
    server: str = "vllm",
    config: str = OWN,
    stage: Stage = Stage.BUILD,
) -> float:
    asked = Durations(runs).expected(stage, deployment_config=server, config_id=config, declared_seconds=declared)
    return asked.seconds


# ---- what a run tells


def document(status: str = "pass", seconds: float = 4.0, **outputs: Any) -> dict[str, Any]:
    return {"status": status, "seconds": seconds, "outputs": outputs}


@pytest.mark.parametrize(
    ("stages", "told", "reason"),
    [
        ({"build": document()}, {Stage.BUILD: 4.0}, "it passed"),
        ({"build": document("fail")}, {}, "it ended early, or at its limit"),
        ({"tune": document("skip", 0.0)}, {}, "it never ran"),
        ({"build": document(seconds=0.01, virtual_seconds=410.0)}, {Stage.BUILD: 410.0}, "played time is virtual"),
        ({"test": document(seconds=0.0)}, {Stage.TEST: 0.0}, "a stage may take no time"),
        ({"build": document(seconds=math.nan)}, {}, "no number"),
        ({"build": document(seconds=math.inf)}, {}, "no finite number"),
        ({"build": document(seconds=-1.0)}, {}, "a clock that was set back"),
        ({"warm_up": document()}, {}, "a stage of a later version"),
        ({"build": document("fail"), "clean": document()}, {}, "nothing was deployed, so nothing was cleaned"),
        ({"deploy": document("fail"), "clean": document()}, {}, "half a deployment tells nothing of a whole one"),
        ({"deploy": document(), "clean": document()}, {Stage.DEPLOY: 4.0, Stage.CLEAN: 4.0}, "a whole one was cleaned"),
        ({}, {}, "a run that was interrupted at once"),
    ],
)
def test_only_stages_that_passed_tell_how_long_they_take(stages: dict, told: dict, reason: str) -> None:
    assert passed_seconds(stages) == told, reason


# ---- the levels

OTHER = run(900.0, STRANGER, server="sglang")


@pytest.mark.parametrize(
    ("runs", "by_hand", "reason"),
    [
        ([], 100.0, "nobody ran: the declared time stands alone"),
        ([run(800.0, stage=Stage.DEPLOY)], 100.0, "another stage says nothing of this one"),
        ([run(800.0)], 100 ** (2 / 3) * 800 ** (1 / 3), "one run of its own: a third of the way, in factors"),
        ([run(800.0)] * 2, math.sqrt(100 * 800), "two of its own: half way"),
        ([run(800.0)] * 8, 100**0.2 * 800**0.8, "eight of its own: four fifths"),
        (
            [run(800.0, SIBLING)],
            100 ** (2 / 3) * 800 ** (1 / 3),
            "another configuration of the same server has one vote",
        ),
        ([run(800.0, SIBLING)] * 20, 100 ** (2 / 3) * 800 ** (1 / 3), "and one vote however often it ran"),
        ([OTHER], 100 ** (2 / 3) * 900 ** (1 / 3), "another server has one vote"),
        (
            [run(800.0), run(400.0, SIBLING), OTHER],
            ((100 ** (2 / 3) * 900 ** (1 / 3)) ** (2 / 3) * 400 ** (1 / 3)) ** (2 / 3) * 800 ** (1 / 3),
            "level after level, the particular last",
        ),
        ([run(0.0)], 100 ** (2 / 3) * 0.001 ** (1 / 3), "no time counts as a millisecond"),
    ],
)
def test_the_estimate_goes_from_the_declared_time_to_the_configuration_itself(runs, by_hand, reason: str) -> None:
    assert expected(runs) == pytest.approx(by_hand), reason


def test_an_estimate_says_how_many_runs_stand_behind_it() -> None:
    durations = Durations([run(1.0)] * 2 + [run(1.0, SIBLING)] * 3 + [OTHER] * 4)
    asked = durations.expected(Stage.BUILD, deployment_config="vllm", config_id=OWN, declared_seconds=1.0)
    assert (asked.own_runs, asked.related_runs, asked.other_runs, asked.assumed) == (2, 3, 4, False)
    new = durations.expected(Stage.BUILD, deployment_config="tgi", config_id="d" * 16, declared_seconds=1.0)
    assert (new.own_runs, new.related_runs, new.other_runs) == (0, 0, 9)
    assert durations.expected(Stage.PUSH, deployment_config="vllm", config_id=OWN, declared_seconds=7.0).assumed


def test_the_newest_runs_alone_count() -> None:
    code_got_faster = [run(10.0)] * NEWEST_RUNS + [run(1000.0)] * 500
    assert expected(code_got_faster) == pytest.approx(expected([run(10.0)] * NEWEST_RUNS))
    asked = Durations(iter(code_got_faster)).expected(
        Stage.BUILD, deployment_config="vllm", config_id=OWN, declared_seconds=1.0
    )
    assert asked.own_runs == NEWEST_RUNS


def test_what_is_known_of_exactly_this_configuration_is_told_from_what_is_known_of_others() -> None:
    durations = Durations([run(1.0)])
    assert durations.knows(Stage.BUILD, deployment_config="vllm", config_id=OWN)
    assert not durations.knows(Stage.BUILD, deployment_config="vllm", config_id=SIBLING)
    assert not durations.knows(Stage.PUSH, deployment_config="vllm", config_id=OWN)


# ---- outliers


@pytest.mark.parametrize("factor", [10.0, 0.1])
@pytest.mark.parametrize(
    ("others", "most", "reason"),
    [
        (0, 10 ** (1 / 3), "a single run is held by all that is known of others"),
        (1, 10 ** (1 / 4), "of two the middle between them, at half the weight"),
        (2, 1.0, "of three it is not the median, so it does nothing"),
        (9, 1.0, "of ten neither"),
    ],
)
def test_a_run_that_took_ten_times_too_long_or_short_never_decides(factor, others, most, reason: str) -> None:
    usual = 60.0
    moved = expected([run(usual * factor)] + [run(usual)] * others, declared=usual) / usual
    assert max(moved, 1 / moved) == pytest.approx(most), reason


SECONDS = st.floats(0.01, 1e5)


@given(
    usual=st.lists(SECONDS, min_size=2, max_size=12), wild=st.lists(st.floats(0, 1e12), max_size=11), declared=SECONDS
)
def test_fewer_than_half_of_the_runs_cannot_take_the_estimate_beyond_the_others(usual, wild, declared) -> None:
    wild = wild[: len(usual) - 1]
    bounds = [declared, *usual]
    found = expected([run(seconds) for seconds in (*wild, *usual)], declared=declared)
    assert min(bounds) * 0.999999 <= found <= max(bounds) * 1.000001


RUNS = st.lists(
    st.builds(
        StageRun,
        stage=st.sampled_from([Stage.BUILD, Stage.DEPLOY]),
        deployment_config=st.sampled_from(["vllm", "sglang", "tgi"]),
        config_id=st.sampled_from(["p", "q", "r", "s"]),
        seconds=SECONDS,
    ),
    max_size=40,
)


def plain_reading(runs: list[StageRun], server: str, config: str, declared: float) -> float:
    """The rule as it is written, without any shortcut."""
    runs = [each for each in runs if each.stage is Stage.BUILD]
    by_server: dict[str, dict[str, list[float]]] = {}
    for each in runs:
        kept = by_server.setdefault(each.deployment_config, {}).setdefault(each.config_id, [])
        kept.extend([math.log(each.seconds)] * (len(kept) < NEWEST_RUNS))
    votes = {name: {key: median(logs) for key, logs in members.items()} for name, members in by_server.items()}
    levels = [
        [median(members.values()) for name, members in votes.items() if name != server],
        [vote for key, vote in votes.get(server, {}).items() if key != config],
        by_server.get(server, {}).get(config, []),
    ]
    estimate = math.log(declared)
    for level in levels:
        if level:
            estimate = (PSEUDO_VOTES * estimate + len(level) * median(level)) / (PSEUDO_VOTES + len(level))
    return math.exp(estimate)


@given(
    runs=RUNS,
    server=st.sampled_from(["vllm", "tgi", "new"]),
    config=st.sampled_from(["p", "q", "new"]),
    declared=SECONDS,
)
def test_the_estimate_is_the_rule_read_plainly(runs, server, config, declared) -> None:
    found = expected(runs, server=server, config=config, declared=declared)
    assert found == pytest.approx(plain_reading(runs, server, config, declared))


@given(runs=RUNS, declared=SECONDS, factor=st.floats(0.5, 100))
def test_a_machine_that_is_slower_by_a_factor_is_expected_to_be_slower_by_it(runs, declared, factor) -> None:
    slower = [StageRun(each.stage, each.deployment_config, each.config_id, each.seconds * factor) for each in runs]
    assert expected(slower, config="p", declared=declared * factor) == pytest.approx(
        expected(runs, config="p", declared=declared) * factor
    )
