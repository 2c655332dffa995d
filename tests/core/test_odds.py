"""Odds learn from what passed and failed: who is blamed, who is cleared, and what nobody has tried."""

import itertools
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from some_vectors import BASE, SETS, VECTORS, alone, vector

from mlcc_dagster.core.configuration import DIMENSIONS, Vector
from mlcc_dagster.core.odds import FIRST_BLOCK, MOMENTARY, Doubt, SuccessOdds, Trials
from mlcc_dagster.core.standing import Expiry, Standing

TRIED = st.lists(st.tuples(VECTORS, st.booleans()), max_size=30)
NOTHING = SuccessOdds(Trials.of([]))
PRIOR = float(NOTHING.of([BASE])[0])


def learned(*tried: tuple[Vector, bool], momentary: Sequence[int] = (), calibrated: bool = False) -> SuccessOdds:
    """Odds from (vector, passed); the trials at these places failed for a reason of the moment."""
    trials = Trials.of(tried)
    trials.momentary[list(momentary)] = True
    return SuccessOdds(trials, calibrated=calibrated)


def of(odds: SuccessOdds, each: Vector) -> float:
    return float(odds.of([each])[0])


@settings(max_examples=30, deadline=None)
@given(SETS)
def test_without_trials_every_vector_has_the_prior(vectors: list[Vector]) -> None:
    assert 0.5 < PRIOR < 0.7
    assert NOTHING.of(vectors).tolist() == pytest.approx([PRIOR] * len(vectors))
    assert NOTHING.doubts() == []
    assert (NOTHING.calibration.count, NOTHING.calibration.brier) == (0, None)


@settings(max_examples=40, deadline=None)
@given(TRIED, st.lists(st.booleans(), min_size=30, max_size=30), SETS)
def test_odds_are_between_0_and_1_whatever_was_tried(
    tried: list[tuple[Vector, bool]], momentary: list[bool], asked: list[Vector]
) -> None:
    passing = [place for place, (_, passed) in enumerate(tried) if not passed and momentary[place]]
    for calibrated in (False, True):
        odds = learned(*tried, momentary=passing, calibrated=calibrated)
        found = odds.of([*asked, *(each for each, _ in tried), BASE])
        assert ((found > 0) & (found < 1)).all()
        assert 0 < odds.luck < 1
        for each in asked:
            doubt = odds.doubt(each)
            assert 0 < doubt.passes < 1
            assert doubt.values == tuple(getattr(each, name) for name in doubt.dimensions)


@pytest.mark.parametrize("passed", [True, False])
@pytest.mark.parametrize("count", [1, 3, 100])
def test_extremes_of_evidence_stay_odds(count: int, passed: bool) -> None:
    odds = learned(*[(BASE, passed)] * count, calibrated=True)
    assert 0 < of(odds, BASE) < 1
    assert (of(odds, BASE) > PRIOR) is passed
    assert (of(odds, BASE) > of(odds, alone("x"))) is passed


def test_a_success_raises_the_odds_of_others_the_more_they_share() -> None:
    odds = learned((BASE, True))
    shared = [
        BASE,
        vector(tp_degree="2"),
        vector(tp_degree="2", quantization="fp8"),
        vector(tp_degree="2", quantization="fp8", model_family="llama3"),
        vector(tp_degree="2", quantization="fp8", model_family="llama3", instance_family="p5"),
    ]
    found = odds.of(shared).tolist()
    assert found == sorted(found, reverse=True)
    assert len(set(found)) == len(found)
    assert found[-1] > PRIOR
    assert of(odds, BASE) > 0.8


def test_more_successes_clear_more() -> None:
    found = [of(learned(*[(BASE, True)] * count), BASE) for count in range(6)]
    assert found == sorted(found)
    assert found[-1] > 0.9


def test_a_failure_lowers_the_odds_of_others_the_more_they_share() -> None:
    odds = learned((BASE, False))
    found = odds.of([BASE, vector(tp_degree="2"), vector(tp_degree="2", quantization="fp8"), alone("x")]).tolist()
    assert found == sorted(found)
    assert found[-1] < PRIOR


BROKEN = [
    ("a model that a server does not support", {"deployment_config": "sglang", "model_family": "llama3"}),
    ("a quantization that an accelerator lacks", {"instance_family": "g6", "quantization": "fp8"}),
    ("the first and the last dimension", {"deployment_config": "sglang", "deployment_target": "async-inference"}),
    ("a tensor parallel degree of a model", {"model_family": "llama3", "tp_degree": "8"}),
]


@pytest.mark.parametrize("failures", [1, 2, 3, 8])
@pytest.mark.parametrize("broken", [pytest.param(pair, id=why) for why, pair in BROKEN])
def test_failures_blame_the_pair_that_they_have_in_common_and_not_what_has_passed(
    broken: dict[str, str], failures: int
) -> None:
    names = tuple(broken)
    free = [name for name in DIMENSIONS if name not in broken]
    halves = [{name: broken[name]} for name in names]
    tried: list[tuple[Vector, bool]] = []
    for number in range(failures):
        others = {free[0]: f"x{number}", free[1]: f"y{number}"}
        tried.append((vector(**others, **broken), False))
        # each value of the pair has passed without the other, with everything else that failed
        tried += [(vector(**others, **half), True) for half in halves]
    odds = learned(*tried)
    asked = vector(**broken)
    doubt = odds.doubt(asked)
    assert (doubt.dimensions, doubt.values) == (names, tuple(broken.values()))
    assert (doubt.passed, doubt.failed) == (0, failures)
    assert doubt.passes < 0.4
    assert odds.doubts()[0] == doubt
    assert all(each.passes > 0.95 for each in odds.doubts()[1:])
    assert of(odds, asked) < 0.35 < PRIOR < min(of(odds, vector(**half)) for half in halves)
    assert str(doubt) == f"{names[0]}={broken[names[0]]} with {names[1]}={broken[names[1]]} (0 of {failures} passed)"


def test_more_failures_of_a_pair_doubt_it_more() -> None:
    def after(failures: int) -> float:
        tried = [(vector(model_family=f"m{n}", quantization="fp8"), False) for n in range(failures)]
        return of(learned(*tried, (BASE, True)), vector(quantization="fp8"))

    found = [after(count) for count in range(6)]
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.25


def test_a_value_that_fails_with_everything_makes_every_vector_with_it_doubtful() -> None:
    families = ("a", "b", "c", "d", "e")
    bad = [(Vector(f"s{n}", "llama3", family, f"q{n}", str(n), f"t{n}"), False) for n, family in enumerate(families)]
    good = [(Vector(f"s{n}", "qwen3", family, f"q{n}", str(n), f"t{n}"), True) for n, family in enumerate(families)]
    odds = learned(*bad, *good)
    assert of(odds, alone("x")) > 2 * of(odds, Vector("s0", "llama3", "b", "q2", "3", "t4"))
    assert "model_family" in odds.doubt(Vector("s0", "llama3", "b", "q2", "3", "t4")).dimensions


@pytest.mark.parametrize("count", [1, 5, 30])
def test_failures_of_the_moment_blame_luck_and_nothing_of_the_vector(count: int) -> None:
    odds = learned(*[(BASE, False)] * count, momentary=range(count))
    assert odds.luck < NOTHING.luck
    assert of(odds, BASE) == pytest.approx(PRIOR * odds.luck / NOTHING.luck, rel=1e-3)
    assert of(odds, BASE) == pytest.approx(of(odds, alone("x")), rel=1e-3)
    assert of(odds, BASE) > of(learned(*[(BASE, False)] * count), BASE)
    assert odds.doubts() == []
    assert odds.doubt(BASE).failed == 0


def test_a_lasting_failure_is_counted_beside_those_of_the_moment() -> None:
    odds = learned((BASE, False), (BASE, False), (vector(tp_degree="2"), True), momentary=[0])
    assert {(each.passed, each.failed) for each in odds.doubts()} == {(0, 1), (1, 1)}
    assert "tp_degree" in odds.doubt(BASE).dimensions


@settings(max_examples=30, deadline=None)
@given(TRIED, st.randoms(use_true_random=False), SETS)
def test_the_order_of_trials_does_not_matter_to_what_is_learned(
    tried: list[tuple[Vector, bool]], shuffler: random.Random, asked: list[Vector]
) -> None:
    shuffled = list(tried)
    shuffler.shuffle(shuffled)
    one, other = learned(*tried), learned(*shuffled)
    assert one.of([*asked, BASE]) == pytest.approx(other.of([*asked, BASE]), abs=1e-6)
    assert one.luck == pytest.approx(other.luck, abs=1e-6)

    def known(doubt: Doubt) -> tuple:
        return doubt.dimensions, doubt.values, doubt.passed, doubt.failed

    assert sorted(map(known, one.doubts())) == sorted(map(known, other.doubts()))


def test_what_nobody_has_tried_gets_what_its_dimensions_turned_out_to_be() -> None:
    # Every model fails on one instance family of its own and passes on all others: such pairs are bad more often.
    tried = [
        (vector(model_family=f"m{m}", instance_family=f"i{i}"), m != i)
        for m, i in itertools.product(range(6), repeat=2)
    ]
    odds = learned(*tried)
    doubt = odds.doubt(alone("new"))
    assert doubt.dimensions == ("model_family", "instance_family")
    assert (doubt.passed, doubt.failed) == (0, 0)
    assert str(doubt) == "model_family=new1 with instance_family=new2 (never tried)"
    other = odds.doubt(vector(model_family="m0", instance_family="i1", quantization="fp8"))
    assert doubt.passes < 0.95 < other.passes
    assert of(odds, alone("new")) == pytest.approx(of(odds, alone("newer")))
    # A pair of known values that nobody has tried is as good as one of unknown values.
    fresh = learned(*[each for each in tried if each[0] != vector(model_family="m1", instance_family="i2")])
    unseen = vector(model_family="m1", instance_family="i2")
    assert fresh.doubt(unseen).passes == pytest.approx(fresh.doubt(alone("new")).passes)


def test_doubts_name_what_failed_the_most_doubtful_first() -> None:
    odds = learned(
        (BASE, True), (vector(quantization="fp8"), False), (vector(quantization="fp8", tp_degree="2"), False),
        (vector(quantization="fp8", instance_family="p5"), True),
    )  # fmt: skip
    found = odds.doubts()
    assert [each.passes for each in found] == sorted(each.passes for each in found)
    assert found[0].values in (("g5", "fp8"), ("fp8", "1"))
    seen = {
        names: {
            tuple(getattr(each, name) for name in names)
            for each in (vector(quantization="fp8"), vector(quantization="fp8", tp_degree="2"))
        }
        for size in (1, 2)
        for names in itertools.combinations(DIMENSIONS, size)
    }
    assert {(each.dimensions, each.values) for each in found} == {
        (names, values) for names, every in seen.items() for values in every
    }
    assert all(each.failed > 0 for each in found)


NOW = datetime(2026, 3, 1, tzinfo=UTC)


def row(each: Vector, status: str, day: int | None, **more: Any) -> Mapping[str, Any]:
    at = None if day is None else datetime(2026, 2, day, tzinfo=UTC)
    return {**dict(zip(DIMENSIONS, each.values(), strict=True)), "status": status, "run_timestamp": at, **more}


def read(trials: Trials) -> list[tuple[str, bool, bool]]:
    """Model, passed, momentary."""
    models = [trials.vectors.values[1][code] for code in trials.vectors.codes[:, 1].tolist()]
    return list(zip(models, trials.passed.tolist(), trials.momentary.tolist(), strict=True))


A, B, C = (vector(model_family=name) for name in "abc")
EVIDENCE = [
    ("nothing was tried", [], {}, []),
    ("a proof and a failure, oldest first", [row(A, "completed", 5), row(B, "failed", 3, run_id="1")], {},
     [("b", False, False), ("a", True, False)]),
    ("all proofs of a vector are one, at the first", [row(A, "completed", 1), row(B, "failed", 3), row(A, "completed", 5)],
     {}, [("a", True, False), ("b", False, False)]),
    ("each failed run counts", [row(A, "failed", 1, run_id="1"), row(A, "unfeasible", 2, run_id="2")], {},
     [("a", False, False)] * 2),
    ("a failure counts beside a proof of the same vector", [row(A, "completed", 5), row(A, "failed", 1)], {},
     [("a", False, False), ("a", True, False)]),
    ("what preflight refuted was not tried", [row(A, "unfeasible", 1, failure_category="preflight")], {}, []),
    ("a verdict that expired was of another image", [row(A, "unfeasible", 1, run_id="1"), row(A, "failed", 9, run_id="2")],
     {A: Expiry(datetime(2026, 2, 5, tzinfo=UTC), "the image changed")}, [("a", False, False)]),
    ("an expiry takes no proof away", [row(A, "completed", 1)],
     {A: Expiry(datetime(2026, 2, 5, tzinfo=UTC), "the image changed")}, [("a", True, False)]),
    *((f"{each} is of the moment", [row(A, "failed", 1, failure_category=each)], {}, [("a", False, True)])
      for each in sorted(MOMENTARY)),
    *((f"{each} lasts", [row(A, "failed", 1, failure_category=each)], {}, [("a", False, False)])
      for each in ("oom", "timeout", "code_bug", "unknown", "quota")),
    ("what has no time is older than all", [row(A, "failed", 1), row(C, "failed", None), row(B, "completed", None)], {},
     [("b", True, False), ("c", False, False), ("a", False, False)]),
    ("other rows say nothing", [row(A, "running", 1)], {}, []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "expiries", "expected"), [pytest.param(rows, ends, found, id=why) for why, rows, ends, found in EVIDENCE]
)
def test_trials_are_what_the_evidence_tells(rows: list, expiries: dict, expected: list) -> None:
    assert read(Trials.from_standing(Standing.of(rows, expiries=expiries))) == expected


def test_the_first_trials_are_trials() -> None:
    trials = Trials.of([(A, True), (B, False), (C, True)])
    assert (len(trials), read(trials.first(2)), read(trials.first(0))) == (3, read(trials)[:2], [])


def world(count: int, seed: int) -> list[tuple[Vector, bool]]:
    """Trials of a world where some pairs never work, and 3 of 100 runs fail by bad luck."""
    chance = random.Random(seed)
    found = []
    for _ in range(count):
        server, model, instance, quantization, degree, target = (chance.randrange(size) for size in (3, 5, 4, 3, 3, 2))
        broken = (
            (server, model) in {(0, 1), (1, 2), (2, 4)}
            or (instance, quantization) in {(0, 1), (3, 2)}
            or (model == 3 and degree == 0)
        )
        each = Vector(f"s{server}", f"m{model}", f"i{instance}", f"q{quantization}", f"{degree}", f"t{target}")
        found.append((each, not broken and chance.random() > 0.03))
    return found


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_odds_predict_better_than_the_share_of_successes_so_far(seed: int) -> None:
    measured = SuccessOdds(Trials.of(world(250, seed))).calibration
    assert measured.brier is not None and measured.reference is not None
    assert measured.brier < 0.75 * measured.reference
    later = world(400, seed + 100)
    happened = np.array([passed for _, passed in later])
    odds = SuccessOdds(Trials.of(world(250, seed))).of([each for each, _ in later])
    assert np.mean((odds - happened) ** 2) < 0.5 * np.mean((happened.mean() - happened) ** 2)
    assert odds.mean() == pytest.approx(happened.mean(), abs=0.08)


@pytest.mark.parametrize(
    ("count", "judged"),
    [
        pytest.param(FIRST_BLOCK, 0, id="nothing is left to predict"),
        pytest.param(FIRST_BLOCK + 1, 1, id="one"),
        pytest.param(2 * FIRST_BLOCK, FIRST_BLOCK, id="a whole block"),
        pytest.param(5 * FIRST_BLOCK, 4 * FIRST_BLOCK, id="blocks and a part of one"),
    ],
)
def test_all_trials_but_the_first_are_predicted(count: int, judged: int) -> None:
    found = SuccessOdds(Trials.of(world(count, 5))).calibration
    assert (found.count, found.brier is None) == (judged, judged == 0)


def test_no_trial_changes_how_those_before_its_block_were_judged() -> None:
    tried = world(4 * FIRST_BLOCK, 6)
    earlier = SuccessOdds(Trials.of(tried[: 2 * FIRST_BLOCK])).calibration
    flipped = [*tried[: 2 * FIRST_BLOCK], *((each, not passed) for each, passed in tried[2 * FIRST_BLOCK :])]
    one, other = (SuccessOdds(Trials.of(each)).calibration for each in (tried, flipped))
    assert [(b.low, b.count, b.predicted) for b in one.bins] == [(b.low, b.count, b.predicted) for b in other.bins]
    later = SuccessOdds(Trials.of(tried[: 2 * FIRST_BLOCK]), calibrated=False)
    raw = later.of([each for each, _ in tried[2 * FIRST_BLOCK :]])
    happened = np.array([passed for _, passed in tried[2 * FIRST_BLOCK :]])
    assert earlier.brier is not None and one.brier is not None
    own = float(((earlier.corrected(raw) - happened) ** 2).sum())
    assert one.count * one.brier == pytest.approx(earlier.count * earlier.brier + own)


def test_odds_are_corrected_by_how_far_they_were_off() -> None:
    trials = Trials.of(world(200, 8))
    raw, corrected = SuccessOdds(trials, calibrated=False), SuccessOdds(trials)
    asked = [each for each, _ in world(50, 9)]
    assert corrected.uncalibrated(asked).tolist() == raw.of(asked).tolist()
    assert corrected.of(asked).tolist() == corrected.calibration.corrected(raw.of(asked)).tolist()
    assert corrected.of(asked).tolist() != raw.of(asked).tolist()
