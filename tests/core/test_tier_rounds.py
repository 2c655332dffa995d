"""What of a tier's round is started: its ceiling holds whatever runs really cost, and nobody waits for nothing."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcc_dagster.core.budget import micros_promised
from mlcc_dagster.core.tier_rounds import HEADROOM, MOST_ATTEMPTS, Member, Standing, next_step


def member(name: str, expected: float = 1.0, most: float = 9.0, **values: object) -> Member:
    return Member(name, name, expected, most, **values)  # type: ignore[arg-type]


RUNS = {"standing": Standing.IN_FLIGHT}


@pytest.mark.parametrize(
    ("expected", "most", "left", "promised"),
    [
        pytest.param(1.0, 9.0, 10.0, 9.0, id="there is enough for everything that it can cost"),
        pytest.param(1.0, 9.0, 5.0, 5.0, id="not for everything: then all that is left"),
        pytest.param(1.0, 9.0, 2.0, 2.0, id="twice what is expected is the least"),
        pytest.param(1.0, 9.0, 1.99, None, id="with less it would be ended for want of money"),
        pytest.param(1.0, 1.5, 1.6, 1.5, id="never more than it can cost"),
        pytest.param(0.0, 0.0, 0.0, 0.0, id="what costs nothing needs nothing"),
    ],
)
def test_a_run_is_promised_all_that_it_can_cost_or_what_is_left_if_that_is_plenty(
    expected: float, most: float, left: float, promised: float | None
) -> None:
    assert member("a", expected, most).promise_of(left) == promised


def test_what_is_kept_back_for_cleaning_is_needed_beside_what_is_expected() -> None:
    each = member("a", 1.0, 9.0, cleaning_usd=0.5)
    assert (each.promise_of(2.49), each.promise_of(2.5)) == (None, 2.5)
    assert member("a", 1.0, 2.0, cleaning_usd=0.5).promise_of(2.0) == 2.0, "all that it can cost includes it"


def test_promises_of_all_that_is_left_are_whole_micro_dollars_that_fit_together() -> None:
    step = next_step([member(str(n), 0.0, 1 / 30) for n in range(4)], left_usd=0.1, at_most=9)
    promised = [start.usd or 0.0 for start in step.start]
    assert sum(micros_promised(usd) for usd in promised) <= 100_000
    assert promised[0] == 0.033334


@pytest.mark.parametrize(
    ("members", "left", "at_most", "started", "waits", "left_out"),
    [
        pytest.param(
            [member("a"), member("b"), member("c")], 20.0, 10, {"a": 9.0, "b": 9.0, "c": 2.0}, None, {}, id="in order"
        ),
        pytest.param(
            [member("a"), member("b")], 10.0, 10, {"a": 9.0}, "b waits for money", {}, id="the next waits for change"
        ),
        pytest.param([member("a"), member("b")], 99.0, 1, {"a": 9.0}, "b waits for one that runs", {}, id="at most"),
        pytest.param(
            [member("a", **RUNS), member("b"), member("cheap", 0.1, 0.1)],
            1.0,
            10,
            {},
            "b waits for money",
            {},
            id="nobody overtakes",
        ),
        pytest.param(
            [member("dear", 8.0, 90.0), member("b")],
            10.0,
            10,
            {"b": 9.0},
            None,
            {"dear": "needs 16.0000 USD to begin, of the tier's ceiling 10.0000 USD are left"},
            id="what will never fit stops nobody",
        ),
        pytest.param(
            [member("a", standing=Standing.DONE), member("b")], 10.0, 10, {"b": 9.0}, None, {}, id="done is done"
        ),
        pytest.param(
            [member("a", attempts=MOST_ATTEMPTS), member("b")],
            10.0,
            10,
            {"b": 9.0},
            None,
            {"a": "cut off 3 times in this round"},
            id="cut off again and again: left to the next round",
        ),
        pytest.param(
            [member("refuted", free=True, unpriced=True)], 0.0, 10, {"refuted": None}, None, {}, id="a verdict is free"
        ),
        pytest.param(
            [member("a", 0.0, 0.0, unpriced=True)], 10.0, 10, {}, None, {"a": "no price in the catalog"}, id="unbounded"
        ),
        pytest.param(
            [member("a", 50.0, 99.0), member("b", unpriced=True)],
            None,
            10,
            {"a": None, "b": None},
            None,
            {},
            id="played: nothing bounds it",
        ),
    ],
)
def test_the_next_step_of_a_round(
    members: list[Member],
    left: float | None,
    at_most: int,
    started: dict[str, float | None],
    waits: str | None,
    left_out: dict[str, str],
) -> None:
    step = next_step(members, left_usd=left, at_most=at_most)
    assert {start.member.config_id: start.usd for start in step.start} == started
    assert (step.waits is None) if waits is None else waits in str(step.waits)
    assert step.left_out.keys() == left_out.keys()
    for key, said in left_out.items():
        assert said in step.left_out[key]


COSTS = st.floats(0, 20).map(lambda usd: round(usd, 4))
MEMBERS = st.lists(st.tuples(COSTS, st.floats(1, 8), st.floats(0, 1.5)), min_size=1, max_size=9)


@given(MEMBERS, st.floats(0, 60).map(lambda usd: round(usd, 4)), st.integers(1, 4))
def test_a_round_played_to_its_end_never_passes_its_ceiling_and_leaves_out_only_what_did_not_fit(
    costs: list[tuple[float, float, float]], ceiling: float, at_most: int
) -> None:
    """Runs use some share of what they are expected to cost, more than that too, and never more than they are promised."""
    members = [member(str(n), expected, expected * factor) for n, (expected, factor, _) in enumerate(costs)]
    uses = {str(n): expected * share for n, (expected, _, share) in enumerate(costs)}
    promised: dict[str, float] = {}
    spent, tried = 0.0, 0
    while True:
        left = ceiling - spent - sum(promised.values())
        step = next_step(members, left_usd=left, at_most=at_most)
        for start in step.start:
            assert start.usd is not None
            promised[start.member.config_id] = start.usd
            members = [
                replace(each, standing=Standing.IN_FLIGHT) if each.config_id == start.member.config_id else each
                for each in members
            ]
        assert spent + sum(promised.values()) <= ceiling + 1e-9, "the ceiling holds at every moment"
        if not promised:
            break
        # the oldest run ends, is charged what it used and gives back the rest
        key, usd = next(iter(promised.items()))
        del promised[key]
        spent += min(uses[key], usd)
        tried += 1
        members = [replace(each, standing=Standing.DONE) if each.config_id == key else each for each in members]
    assert step.waits is None, "nothing runs, so nothing can be waited for"
    left_over = [each for each in members if each.standing is Standing.WAITING]
    assert {each.config_id for each in left_over} == set(step.left_out)
    assert all(each.needed_usd > ceiling - spent - 1e-9 for each in left_over)
    assert tried + len(left_over) == len(members)
    assert HEADROOM >= 1
