"""A plan never passes its bounds, ranks as its strategy says, waits for canaries, and gives every left-out gap a reason."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from some_vectors import BASE, SETS, VECTORS, alone, vector

from mlcc_dagster.core.budget import micros_ceiling, micros_promised
from mlcc_dagster.core.configuration import Configuration, Vector
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.gaps import Gap
from mlcc_dagster.core.odds import Trials
from mlcc_dagster.core.planning import (
    ALL_GAPS_FILLED,
    BUDGET_EXCEEDED,
    DEFAULT_STRATEGY,
    MAX_PROVES_REACHED,
    STRATEGIES,
    Candidate,
    Evidence,
    Plan,
    canaries,
    plan,
)
from mlcc_dagster.core.standing import Reason

every_strategy = pytest.mark.parametrize("strategy", list(STRATEGIES))


def candidate_of(
    each: Vector, *, neighbours: int = 0, usd: float = 1.0, expected: float | None = None, priority: int | None = None
) -> Candidate:
    configuration = Configuration("http-flask", "sklearn/any", "any", "local.1cpu", "local")
    return Candidate(
        Gap(each, neighbours, Reason.UNTESTED, "no run of it yet"),
        each.model_family,
        configuration,
        usd,
        usd if expected is None else expected,
        priority,
    )


def candidate(name: str, **more: Any) -> Candidate:
    """A candidate that shares every value but its model with the others."""
    return candidate_of(Vector("http-flask", name, "local", "none", "1", "realtime-inference"), **more)


def evidence_for(
    candidates: Sequence[Candidate], proven: Sequence[Vector] = (), tried: Sequence[tuple[Vector, bool]] = ()
) -> Evidence:
    """Evidence in which candidates and proven vectors are possible; what is tried is all that odds know of."""
    return Evidence([*(c.gap.vector for c in candidates), *proven], frozenset(proven), Trials.of(tried))


def planned(candidates: list[Candidate], strategy: str = DEFAULT_STRATEGY, **more: Any) -> Plan:
    bounds = {"max_proves": 10, "max_usd": 50.0, "evidence": evidence_for(candidates), **more}
    return plan(candidates, strategy=strategy, **bounds)


def names(made: Plan) -> list[str]:
    return [pick.candidate.config_id for pick in made.picks]


BOTH = [
    ("no gap is no pick", [], {}, [], ALL_GAPS_FILLED),
    ("no gap is no pick without count", [], {"max_proves": 0}, [], ALL_GAPS_FILLED),
    ("ties keep their order", [candidate("a"), candidate("b")], {}, ["a", "b"], ALL_GAPS_FILLED),
    ("the count bounds it", [candidate("a"), candidate("b")], {"max_proves": 1}, ["a"], MAX_PROVES_REACHED),
    ("the count comes before the money", [candidate("a"), candidate("b", usd=60)], {"max_proves": 1}, ["a"], MAX_PROVES_REACHED),
    ("the first pick has to fit like every other", [candidate("a", usd=60)], {}, [], BUDGET_EXCEEDED),
    ("a cheaper one behind a dear one is still picked",
     [candidate("a", neighbours=1, usd=60), candidate("b", usd=5)], {}, ["b"], BUDGET_EXCEEDED),
    ("exactly the budget fits", [candidate("a", usd=25), candidate("b", usd=25)], {}, ["a", "b"], ALL_GAPS_FILLED),
    ("also in tenths", [candidate(c, usd=0.1) for c in "abc"], {"max_usd": 0.3}, ["a", "b", "c"], ALL_GAPS_FILLED),
    ("nothing is left to prove with", [candidate("a")], {"max_proves": 0}, [], MAX_PROVES_REACHED),
    ("more was proven than is allowed", [candidate("a")], {"max_proves": -2}, [], MAX_PROVES_REACHED),
    ("no money", [candidate("a")], {"max_usd": 0}, [], BUDGET_EXCEEDED),
    ("more was used than there was", [candidate("a")], {"max_usd": -1.5}, [], BUDGET_EXCEEDED),
    ("what is promised counts and not what is expected",
     [candidate("a", usd=60, expected=0.01), candidate("b")], {}, ["b"], BUDGET_EXCEEDED),
    ("priority targets come first in their order",
     [candidate("a", neighbours=9), candidate("b", priority=2, usd=20), candidate("c", priority=1, usd=20)],
     {}, ["c", "b", "a"], ALL_GAPS_FILLED),
    ("also two of one place", [candidate("a"), candidate("b", priority=1), candidate("c", priority=1)],
     {}, ["b", "c", "a"], ALL_GAPS_FILLED),
    ("a priority target that is too dear holds nobody up",
     [candidate("a"), candidate("b", priority=1, usd=60)], {}, ["a"], BUDGET_EXCEEDED),
    ("priority targets use up the count",
     [candidate("a"), candidate("b", priority=1)], {"max_proves": 1}, ["b"], MAX_PROVES_REACHED),
]  # fmt: skip


@every_strategy
@pytest.mark.parametrize(
    ("candidates", "bounds", "expected", "ended_by"), [pytest.param(c, b, e, r, id=why) for why, c, b, e, r in BOTH]
)
def test_what_every_strategy_picks_and_why_it_ends(
    candidates: list[Candidate], bounds: dict[str, float], expected: list[str], ended_by: str, strategy: str
) -> None:
    made = planned(candidates, strategy, **bounds)
    assert (names(made), made.ended_by, made.strategy) == (expected, ended_by, strategy)
    assert [pick.rank for pick in made.picks] == list(range(1, len(expected) + 1))


def test_the_compatible_strategy_takes_the_most_neighbours_first_whatever_the_price() -> None:
    candidates = [
        candidate("a"),
        candidate("b", neighbours=2, usd=9),
        candidate("c", neighbours=2),
        candidate("d", neighbours=5),
    ]
    made = planned(candidates, "neighbours")
    assert names(made) == ["d", "b", "c", "a"]
    assert [pick.why for pick in made.picks] == [
        "5 proven neighbours, untested", "2 proven neighbours, untested", "2 proven neighbours, untested",
        "0 proven neighbours, untested",
    ]  # fmt: skip
    one = planned([candidate("a", neighbours=1, priority=3)], "neighbours")
    assert [pick.why for pick in one.picks] == ["priority target 3, 1 proven neighbour, untested"]


def apart(name: str, **more: Any) -> Candidate:
    """A candidate that shares no value with others: 15 new pairs."""
    return candidate_of(alone(name), **more)


CORNERS = [Vector(*values) for values in itertools.product("ab", repeat=6)]
PAIRWISE = [
    Vector(*values)
    for values in ("aaaaaa", "abbbbb", "baabbb", "bbbaaa", "ababab", "babaab", "abaaba", "bababa", "aabbaa", "bbabba")
]
"""Vectors that together have every pair of values of the corners."""

RANKED = [
    ("the expected price ranks",
     [apart("a", usd=1, expected=1), apart("b", usd=4, expected=0.25), apart("c", usd=1, expected=0.5)], {}, [1, 2, 0]),
    ("new pairs rank: five, then fifteen",
     [candidate_of(vector(model_family="a")), apart("b")], {"proven": [BASE]}, [1, 0]),
    ("odds rank: what failed before comes last",
     [apart("a"), apart("b"), apart("c")], {"tried": [(alone("a"), False), (alone("c"), True)]}, [2, 1, 0]),
    ("neighbours do not", [apart("a"), apart("b", neighbours=9)], {}, [0, 1]),
    ("what teaches nothing comes last, the cheapest of it first",
     [candidate_of(CORNERS[20], usd=0.02), candidate_of(CORNERS[22], usd=0.01), apart("x", usd=40)],
     {"proven": PAIRWISE}, [2, 1, 0]),
    ("what teaches comes before what does not after a best single too",
     [candidate_of(CORNERS[20], usd=0.008, expected=0.0001), apart("x", usd=9),
      candidate_of(vector(model_family="m"), usd=0.01), candidate_of(vector(quantization="g"), usd=0.008, expected=0.02)],
     {"proven": [*PAIRWISE, BASE], "max_usd": 9.008}, [1, 3]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("candidates", "known", "expected"), [pytest.param(c, k, e, id=why) for why, c, k, e in RANKED]
)
def test_the_default_strategy_takes_the_most_expected_gain_per_usd_first(
    candidates: list[Candidate], known: dict, expected: list[int]
) -> None:
    evidence = evidence_for(candidates, known.get("proven", ()), known.get("tried", ()))
    made = planned(candidates, evidence=evidence, max_usd=known.get("max_usd", 50.0))
    assert [candidates.index(pick.candidate) for pick in made.picks] == expected


@settings(max_examples=40, deadline=None)
@given(SETS, SETS, st.lists(st.sampled_from([0.5, 1.0, 2.0, 7.0]), min_size=12, max_size=12))
def test_gaps_that_teach_nothing_come_after_all_that_teach(
    gaps: list[Vector], proven: list[Vector], prices: list[float]
) -> None:
    candidates = [candidate_of(each, usd=usd) for each, usd in zip(dict.fromkeys(gaps), prices, strict=False)]
    made = planned(candidates, evidence=evidence_for(candidates, proven), max_proves=12, max_usd=1000)
    teaching = [pick.new > 0 for pick in made.picks]
    assert teaching == sorted(teaching, reverse=True)
    assert len(made.picks) == len(candidates)
    rest = [-pick.odds / pick.candidate.expected_usd for pick in made.picks if not pick.new]
    assert rest == sorted(rest)


def test_a_plan_is_measured_by_what_its_priority_targets_leave_to_choose() -> None:
    candidates = [candidate_of(vector(model_family="a"), priority=1), apart("b"), apart("c")]
    made = planned(candidates, evidence=evidence_for(candidates, [BASE]), max_proves=2)
    assert names(made) == ["a", "b1"]
    assert made.upper_bound == pytest.approx(made.objective)


CASES = st.lists(
    st.tuples(
        VECTORS,
        st.one_of(st.integers(1, 3000).map(lambda cents: cents / 100), st.sampled_from([1e-6, 1e-9, 1e8])),
        st.floats(0.01, 1),
        st.sampled_from([None, None, None, 1, 2, 3]),
        st.integers(0, 3),
    ),
    max_size=10,
    unique_by=lambda each: each[0],
)


@every_strategy
@settings(max_examples=60, deadline=None)
@given(
    drawn=CASES,
    proven=SETS,
    tried=st.lists(st.tuples(VECTORS, st.booleans()), max_size=12),
    in_flight=st.lists(VECTORS, max_size=2),
    max_proves=st.integers(-1, 12),
    max_usd=st.one_of(st.floats(-5, 120), st.just(0.0), st.just(1e9)),
)
def test_no_plan_passes_its_bounds_and_every_gap_is_picked_or_explained(
    strategy: str,
    drawn: list[tuple[Vector, float, float, int | None, int]],
    proven: list[Vector],
    tried: list[tuple[Vector, bool]],
    in_flight: list[Vector],
    max_proves: int,
    max_usd: float,
) -> None:
    candidates = [
        candidate_of(each, usd=usd, expected=usd * part, priority=place, neighbours=neighbours)
        for each, usd, part, place, neighbours in drawn
    ]
    evidence = replace(evidence_for(candidates, proven, tried), in_flight=frozenset(in_flight))
    made = plan(
        candidates, strategy=strategy, evidence=evidence, max_proves=max_proves, max_usd=max_usd,
        left_out={alone("x"): "said before"},
    )  # fmt: skip
    picked = [pick.candidate for pick in made.picks]
    assert len(picked) <= max(0, max_proves)
    assert sum(micros_promised(each.promised_usd) for each in picked) <= micros_ceiling(max(0.0, max_usd))
    assert {each.gap.vector for each in picked} | set(made.left_out) == {
        *(c.gap.vector for c in candidates),
        alone("x"),
    }
    assert not {each.gap.vector for each in picked} & set(made.left_out)
    assert all(made.left_out.values())
    priorities = [each.priority or 99 for each in picked]
    assert priorities == sorted(priorities)
    assert 0 <= made.proven_ratio <= 1
    assert -1e-9 <= made.objective <= made.upper_bound + 1e-9
    assert made.objective == pytest.approx(sum(pick.gain for pick in made.picks))
    for pick in made.picks:
        assert 0 < pick.odds < 1
        assert pick.gain == pytest.approx(pick.odds * pick.new)
        assert pick.why and pick.doubt
    assert made.ended_by in {ALL_GAPS_FILLED, MAX_PROVES_REACHED, BUDGET_EXCEEDED}
    assert (made.ended_by == ALL_GAPS_FILLED) is (len(picked) == len(candidates))
    told = json.loads(json.dumps(made.to_json(), allow_nan=False))
    assert (len(told["picks"]), len(told["left_out"])) == (len(picked), len(made.left_out))


@every_strategy
def test_ten_picks_of_nothing_are_an_empty_plan_that_misses_nothing(strategy: str) -> None:
    made = plan([], strategy=strategy, evidence=evidence_for([]), max_proves=10, max_usd=50)
    assert (made.picks, dict(made.left_out), made.ended_by) == ((), {}, ALL_GAPS_FILLED)
    assert (made.objective, made.upper_bound, made.proven_ratio) == (0, 0, 1)


@every_strategy
def test_what_is_left_out_has_its_reason(strategy: str) -> None:
    candidates = [candidate("a", usd=4), candidate("b", usd=5), candidate("c", usd=6.123456)]
    dear = planned(candidates, strategy, max_usd=4.5)
    assert (names(dear), dict(dear.left_out)) == (
        ["a"],
        {
            candidates[1].gap.vector: "may cost 5.0000 USD and 0.5000 USD are left",
            candidates[2].gap.vector: "may cost 6.1235 USD and 0.5000 USD are left",
        },
    )
    full = planned(candidates, strategy, max_proves=2, left_out={alone("x"): "it is running"})
    assert full.left_out[alone("x")] == "it is running"
    assert set(full.left_out.values()) == {"it is running", "no more than 2 may be picked, and others come before it"}
    over = planned(candidates, strategy, max_proves=-1)
    assert set(over.left_out.values()) == {"no more than 0 may be picked, and others come before it"}


@pytest.mark.parametrize(
    ("new", "priority", "why"),
    [
        pytest.param(alone("x"), None, "58 % likely to cover 15 new pairs for 0.5000 USD, untested", id="pairs"),
        pytest.param(alone("x"), 2, "priority target 2, 58 % likely to cover 15 new pairs for 0.5000 USD, untested", id="target"),
        pytest.param(CORNERS[20], None, "58 % likely to cover no new pair for 0.5000 USD, untested", id="none"),
    ],
)  # fmt: skip
def test_a_pick_says_its_odds_gain_and_price(new: Vector, priority: int | None, why: str) -> None:
    candidates = [candidate_of(new, usd=1, expected=0.5, priority=priority)]
    (pick,) = planned(candidates, evidence=evidence_for(candidates, PAIRWISE)).picks
    assert pick.why == why
    assert pick.doubt.endswith("(never tried)")


def test_a_second_try_of_the_same_pairs_counts_as_much_as_the_first_may_fail() -> None:
    shared = vector(model_family="x")
    candidates = [candidate_of(shared), candidate_of(replace(shared, tp_degree="8"))]
    first, second = planned(candidates, evidence=evidence_for(candidates, [BASE])).picks
    # Beside the four pairs of the new model that both have, the second has its own degree in five pairs.
    assert (first.candidate, second.candidate) == (candidates[1], candidates[0])
    assert first.new == pytest.approx(4 + 5)
    assert second.new == pytest.approx(1 + 4 * (1 - first.odds))


def test_the_default_strategy_is_worth_at_least_the_compatible_one_where_prices_are_equal() -> None:
    candidates = [candidate_of(each, neighbours=n % 4) for n, each in enumerate(CORNERS)]
    made = {name: planned(candidates, name, max_proves=6).objective for name in STRATEGIES}
    assert made["expected-gain"] > made["neighbours"]


def test_the_canonical_corners_hold_every_pair() -> None:
    candidates = [candidate_of(CORNERS[20])]
    assert planned(candidates, evidence=evidence_for([candidate_of(each) for each in CORNERS], PAIRWISE)).objective == 0


X, Y = vector(model_family="x"), vector(quantization="y")
XY, X2 = vector(model_family="x", quantization="y"), vector(model_family="x", tp_degree="2")
NEW_MODEL = "the canary of model_family=x"
CANARIES = [
    ("nobody waits where all values are proven", [BASE, vector(tp_degree="2")], [vector(tp_degree="2"), BASE], [], [None, None]),
    ("the first with a new value goes and the next waits", [X, X2], [BASE, vector(tp_degree="2")], [],
     [None, f"waits for pick 1, {NEW_MODEL}"]),
    ("all that share it wait for the first", [X, X2, XY], [BASE, vector(tp_degree="2", quantization="y")], [],
     [None, f"waits for pick 1, {NEW_MODEL}", f"waits for pick 1, {NEW_MODEL}"]),
    ("different new values do not wait for each other", [X, Y], [BASE], [], [None, None]),
    ("one that has both waits for the one of the earlier dimension", [Y, X, XY], [BASE], [],
     [None, None, f"waits for pick 2, {NEW_MODEL}"]),
    ("who waits is nobody's canary", [X, XY, Y], [BASE], [], [None, f"waits for pick 1, {NEW_MODEL}", None]),
    ("a run in flight is the canary", [X, Y], [BASE], [XY],
     [f"waits for the run in flight, {NEW_MODEL}", "waits for the run in flight, the canary of quantization=y"]),
    ("a run in flight with proven values holds nobody up", [X], [BASE], [BASE], [None]),
    ("a proven value is free, whoever proved it", [X, X2], [BASE, X, vector(tp_degree="2")], [], [None, None]),
    ("a value that is proven frees also beside a run in flight", [X2], [X, vector(tp_degree="2")], [X], [None]),
    ("where nothing is proven one goes", [X, Y, alone("z")], [], [],
     [None, "waits for pick 1, the canary of deployment_config=vllm", None]),
    ("the same vector twice", [X, X], [BASE], [], [None, f"waits for pick 1, {NEW_MODEL}"]),
    ("no pick", [], [BASE], [X], []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("vectors", "proven", "in_flight", "waits"), [pytest.param(v, p, f, w, id=why) for why, v, p, f, w in CANARIES]
)
def test_who_waits_for_which_canary(
    vectors: list[Vector], proven: list[Vector], in_flight: list[Vector], waits: list[str | None]
) -> None:
    evidence = Evidence([], frozenset(proven), Trials.of([]), frozenset(in_flight))
    assert canaries(vectors, evidence) == waits


@settings(max_examples=60, deadline=None)
@given(SETS, SETS, st.lists(VECTORS, max_size=3))
def test_no_two_that_may_start_share_a_value_that_nobody_has_proven(
    vectors: list[Vector], proven: list[Vector], in_flight: list[Vector]
) -> None:
    known = {(axis, text) for each in proven for axis, text in enumerate(each.values())}

    def unproven(each: Vector) -> set[tuple[int, str]]:
        return set(enumerate(each.values())) - known

    waits = canaries(vectors, Evidence([], frozenset(proven), Trials.of([]), frozenset(in_flight)))
    assert not any(wait for each, wait in zip(vectors, waits, strict=True) if each in in_flight), (
        "it is promised already"
    )
    new = [each for each, wait in zip(vectors, waits, strict=True) if wait is None and each not in in_flight]
    starting = [*set(in_flight), *new]
    for one, other in itertools.combinations(new, 2):
        assert not unproven(one) & unproven(other)
    for each, wait in zip(vectors, waits, strict=True):
        busy = [other for other in starting if unproven(other) & unproven(each) and other is not each]
        assert wait is None or busy, "whoever waits has something to wait for, so that no plan stands still"


def test_picks_say_what_they_wait_for() -> None:
    candidates = [candidate_of(X), candidate_of(X2, expected=5)]
    evidence = evidence_for(candidates, [BASE, vector(tp_degree="2")])
    assert [pick.waits for pick in planned(candidates, evidence=evidence).picks] == [
        None, f"waits for pick 1, {NEW_MODEL}",
    ]  # fmt: skip
    flying = planned(candidates, evidence=replace(evidence, in_flight=frozenset([XY])))
    assert [pick.waits for pick in flying.picks] == [f"waits for the run in flight, {NEW_MODEL}"] * 2


@every_strategy
@pytest.mark.parametrize(
    "candidates",
    [
        pytest.param([candidate("a"), candidate("a")], id="the same gap twice"),
        pytest.param([candidate_of(Vector("", "", "", "", "", ""))], id="no values at all"),
        pytest.param([candidate("a", usd=1e-9), candidate("b", usd=1e9), candidate("c", usd=1e-9)], id="prices apart"),
    ],
)
def test_odd_candidates_are_planned_like_any(candidates: list[Candidate], strategy: str) -> None:
    nobodys = Evidence([BASE], frozenset([BASE]), Trials.of([(BASE, True)] * 40))
    for evidence in (evidence_for(candidates), nobodys):
        made = planned(candidates, strategy, evidence=evidence)
        assert len(made.picks) == sum(each.promised_usd < 50 for each in candidates)
        assert 0 <= made.proven_ratio <= 1
        assert made.objective <= made.upper_bound
    assert made.objective == 0, "a value that no possible vector has is in no pair that counts"


def test_an_unknown_strategy_is_refused_naming_the_known_ones() -> None:
    with pytest.raises(UsageError, match="expected-gain, neighbours"):
        plan([], strategy="luck", evidence=evidence_for([]), max_proves=1, max_usd=1)
