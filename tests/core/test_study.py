"""Worlds hide what they promise to hide, strategies see no more than a planner sees, and figures are those of the walks."""

import itertools
from types import MappingProxyType

import numpy as np
import pytest

from mlcc_dagster.core import study
from mlcc_dagster.core.configuration import DIMENSIONS
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.study import (
    KINDS,
    Comparison,
    Mean,
    Studied,
    Walk,
    World,
    WorldKind,
    kind_named,
    kind_with,
    play,
    studied_named,
    walk,
)

SMALL = WorldKind("small", shape=(3, 4, 3, 2, 3, 2), golden=3)


def drawn(kind: WorldKind = SMALL, seed: int = 1) -> World:
    return World.draw(kind, np.random.default_rng(seed), hours=1.5)


def walked(name: str, world: World, budget_usd: float = 100, seed: int = 1) -> Walk:
    (studied,) = studied_named([name])
    return walk(world, studied, budget_usd=budget_usd, chance=np.random.default_rng(seed))


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_world_has_what_it_is_named_for(name: str) -> None:
    kind = kind_with(KINDS[name], shape=(3, 4, 3, 2, 3, 2), golden=3)
    for seed in range(5):
        world = drawn(kind, seed)
        assert world.works[world.golden].all()
        assert len(set(world.golden.tolist())) == kind.golden
        assert world.admitted[world.works].all(), "preflight underestimates; it never refuses what works"
        assert len(world.usd) == 3 * 4 * 3 * 2 * 3 * 2
        dearest, cheapest = world.usd.max(), world.usd.min()
        low, high = kind.usd_per_gpu_hour
        assert cheapest == pytest.approx(low * 1.5)
        assert dearest == pytest.approx(high * 4 * 1.5)


def test_the_golden_path_of_a_cluster_lies_in_a_small_box_and_a_scattered_one_does_not() -> None:
    def spans(kind: WorldKind) -> list[int]:
        codes = [drawn(kind, seed) for seed in range(10)]
        return [len(set(w.vectors.codes[w.golden, 1].tolist())) for w in codes]

    assert max(spans(KINDS["standard"])) <= 3
    assert max(spans(KINDS["scattered"])) > 3


def test_the_pairs_that_count_are_those_of_working_configurations() -> None:
    world = drawn()
    working = world.vectors.codes[world.works].tolist()
    axes = list(itertools.combinations(range(len(DIMENSIONS)), 2))
    pairs = {(a, b, row[a], row[b]) for row in working for a, b in axes}
    golden = {(a, b, row[a], row[b]) for row in world.vectors.codes[world.golden].tolist() for a, b in axes}
    assert world.pairs.share == (len(golden), len(pairs))


@pytest.mark.parametrize("name", study.STUDIED)
def test_a_walk_never_spends_more_than_its_budget_and_pays_for_failures(name: str) -> None:
    world = drawn()
    found = walked(name, world)
    assert found.usd[-1] <= 100
    steps = np.diff(found.usd)
    assert (steps > 0).all()
    assert (np.diff(found.covered) >= 0).all()
    assert found.proven <= found.runs
    cheapest = world.usd[world.admitted].min()
    assert cheapest <= 100
    assert found.runs > 0


def test_a_strategy_with_preflight_never_pays_for_what_preflight_refutes() -> None:
    world = drawn(kind_with(SMALL, shape=(2, 8, 3, 2, 2, 2)))
    refuted = ~world.admitted
    assert refuted.any()
    paid: list[int] = []

    def spy(board: study.Board) -> list[int]:
        paid.append(len(board.offers))
        return board.fitting(np.arange(len(board.offers)))

    every = Studied("spy", lambda chance: spy, preflight=False)
    walk(world, every, budget_usd=1e6, chance=np.random.default_rng(1))
    unfiltered = paid[0]
    paid.clear()
    walk(world, Studied("spy", lambda chance: spy), budget_usd=1e6, chance=np.random.default_rng(1))
    assert paid[0] == unfiltered - int(refuted.sum())


def test_with_money_for_everything_every_working_pair_is_covered() -> None:
    for name in ("expected-gain", "random", "neighbours"):
        assert walked(name, drawn(), budget_usd=1e6).share == 1


def test_a_failure_of_the_moment_is_tried_again_and_one_that_lasts_is_not() -> None:
    steady, flaky = (
        walked("neighbours", drawn(kind), budget_usd=1e6) for kind in (SMALL, study.replace(SMALL, flaky=0.5))
    )
    assert steady.runs <= int(drawn().admitted.sum())
    assert flaky.runs > steady.runs


def test_the_same_seed_gives_the_same_walks_whatever_else_is_compared() -> None:
    def played(names: list[str], worlds: int) -> dict[str, list[Walk]]:
        return play(SMALL, studied_named(names), budget_usd=60, hours=1.5, worlds=worlds, seed=4)

    alone, together = played(["random"], 2), played(["expected-gain", "random"], 3)
    for mine, other in zip(alone["random"], together["random"][:2], strict=True):
        assert mine.usd.tolist() == other.usd.tolist()
        assert mine.covered.tolist() == other.covered.tolist()


def test_planning_covers_more_than_chance_in_every_kind_of_small_world() -> None:
    for name in ("standard", "many-faults", "flat-prices"):
        kind = kind_with(KINDS[name], shape=(3, 6, 4, 3, 3, 2), golden=6)
        walks = play(kind, studied_named(["expected-gain", "random"]), budget_usd=150, hours=1.5, worlds=6, seed=11)
        assert Comparison(kind, 150, walks).advantage("expected-gain", "random").mean > 0


def test_figures_of_a_comparison_are_those_of_its_walks() -> None:
    def a_walk(*covered: int) -> Walk:
        return Walk(np.arange(len(covered)) * 10.0, np.array(covered), 10, 1)

    found = Comparison(
        SMALL, 20, MappingProxyType({"a": [a_walk(1, 3, 6), a_walk(1, 3, 8)], "b": [a_walk(1), a_walk(1, 2)]})
    )
    assert found.share("a").mean == pytest.approx(0.7)
    assert found.share("a").high == 1, "Student's t with one degree of freedom reaches beyond every share"
    assert found.advantage("a", "b").mean == pytest.approx((0.5 + 0.6) / 2)
    # 12.706 times the standard error 0.05
    assert found.advantage("a", "b").high == pytest.approx(0.55 + 12.706 * 0.05, abs=1e-3)
    curve = dict(found.curve("a"))
    assert [curve[usd].mean for usd in (0, 10, 20)] == pytest.approx([0.1, 0.3, 0.7])
    document = found.to_json()["strategies"][0]
    assert document["lowest_share"] == 0.6
    assert document["new_pairs_per_usd"] == pytest.approx((5 / 20 + 7 / 20) / 2)


def test_one_world_has_no_interval() -> None:
    assert Mean.of([0.4]) == Mean(0.4, None, None)
    assert str(Mean.of([0.4])) == "0.400"


def test_the_interval_of_a_share_is_a_share() -> None:
    found = Mean.of([0.02, 0.98], within=(0, 1))
    assert (found.low, found.high) == (0, 1)


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda: kind_named("easy"), "unknown kind of world 'easy'; use one of standard"),
        (lambda: studied_named(["luck", "random", "hope"]), "luck, hope; use some of expected-gain"),
        (lambda: studied_named([]), "none given"),
        (lambda: kind_with(SMALL, shape=(1, 2, 3)), "a shape has 6 numbers"),
        (lambda: kind_with(SMALL, shape=(100, 100, 100, 1, 1, 1)), "at most 200000 vectors"),
        (lambda: kind_with(SMALL, incompatible=5000), "0 to 1000 incompatible pairs"),
        (lambda: kind_with(SMALL, shape=(2**16, 2**16, 2**16, 2**16, 1, 1)), "at most 200000 vectors"),
        (lambda: kind_with(SMALL, golden=0, incompatible=-1), "golden configurations are 1 or more, not 0"),
        (lambda: drawn(kind_with(SMALL, golden=200)), "ask for fewer golden or fewer faults"),
    ],
)
def test_what_cannot_be_studied_is_one_sentence(ask, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence.replace("(", r"\(")):
        ask()
