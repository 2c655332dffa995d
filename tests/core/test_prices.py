"""What a stage costs: the instance only while it is rented, builds by the minute, tuning by the job, and never less at
most than expected."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.model import Costs
from mlcc_dagster.core.prices import Billing, Prices
from mlcc_dagster.core.stages import CANONICAL_ORDER, Stage

COSTS = Costs(tuning_usd=(5.0, 50.0), build_minute_usd=(0.01, 0.06))
MACHINE = Prices(Billing.MACHINE, 3.6, COSTS)
MANAGED = Prices(Billing.MANAGED, 3.6, COSTS)

STAGES = st.sampled_from(CANONICAL_ORDER)
SECONDS = st.floats(min_value=0, max_value=100_000)
PRICES = st.builds(
    Prices, st.sampled_from(Billing), st.none() | st.floats(min_value=0.01, max_value=100), st.just(COSTS)
)


@pytest.mark.parametrize("stage", CANONICAL_ORDER)
def test_on_the_machine_itself_every_second_of_every_stage_costs_the_instance(stage: Stage) -> None:
    assert MACHINE.usd(stage, 1000) == MACHINE.most_usd(stage, 1000) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("stage", "expected", "most", "why"),
    [
        (Stage.STAGE, 0.35, 0.60, "weights are moved by the build service"),
        (Stage.GENERATE, 0.0, 0.0, "done where the lifecycle runs"),
        (Stage.VALIDATE, 0.0, 0.0, "done where the lifecycle runs"),
        (Stage.BUILD, 0.35, 0.60, "ten build minutes"),
        (Stage.PUSH, 0.35, 0.60, "ten build minutes"),
        (Stage.DEPLOY, 0.60, 0.60, "the instance is rented from here on"),
        (Stage.TEST, 0.60, 0.60, "rented"),
        (Stage.TUNE, 28.10, 50.60, "a tuning job beside the endpoint, which stays rented"),
        (Stage.ADAPTER, 0.60, 0.60, "rented"),
        (Stage.TEST_ADAPTER, 0.60, 0.60, "rented"),
        (Stage.BENCHMARK, 0.60, 0.60, "rented"),
        (Stage.REGISTER, 0.60, 0.60, "uses no instance, but the endpoint still stands"),
        (Stage.CLEAN, 0.60, 0.60, "rented until it is gone"),
    ],
)
def test_with_managed_services_each_stage_costs_what_it_uses(
    stage: Stage, expected: float, most: float, why: str
) -> None:
    assert MANAGED.usd(stage, 600) == pytest.approx(expected), why
    assert MANAGED.most_usd(stage, 600) == pytest.approx(most), why


def test_a_run_that_never_deployed_rented_nothing() -> None:
    built = [(Stage.GENERATE, 4.0), (Stage.BUILD, 600.0), (Stage.REGISTER, 60.0), (Stage.CLEAN, 60.0)]
    assert MANAGED.run_usd(built) == pytest.approx(0.35)
    assert MANAGED.most_run_usd(built) == pytest.approx(0.60)
    assert MANAGED.run_usd([*built, (Stage.DEPLOY, 480.0)]) == pytest.approx(0.35 + 0.60)
    assert MACHINE.run_usd(built) == pytest.approx(0.724), "the machine is there in any case"


@pytest.mark.parametrize("prices", [MACHINE, MANAGED], ids=lambda prices: prices.billing.value)
@pytest.mark.parametrize("stage", CANONICAL_ORDER)
def test_a_stage_that_never_began_costs_nothing(prices: Prices, stage: Stage) -> None:
    assert prices.usd(stage, 0.0) == prices.most_usd(stage, 0.0) == 0.0


def test_an_instance_without_a_price_leaves_what_is_paid_beside_it() -> None:
    unpriced = Prices(Billing.MANAGED, None, COSTS)
    assert unpriced.usd(Stage.DEPLOY, 600) == 0.0
    assert unpriced.usd(Stage.BUILD, 600) == pytest.approx(0.35)
    assert unpriced.seconds_for(Stage.DEPLOY, 0.0) == math.inf


@given(PRICES, STAGES, SECONDS)
def test_what_is_expected_is_never_more_than_the_most(prices: Prices, stage: Stage, seconds: float) -> None:
    assert 0.0 <= prices.usd(stage, seconds) <= prices.most_usd(stage, seconds)


@given(PRICES, STAGES, st.sampled_from([0.0, 50.0]) | st.floats(min_value=1e-6, max_value=1000))
def test_the_seconds_that_money_pays_for_never_cost_more_than_it(prices: Prices, stage: Stage, usd: float) -> None:
    seconds = prices.seconds_for(stage, usd)
    if math.isinf(seconds):
        assert prices.most_usd(stage, 1e9) <= usd, "any time at all is paid"
    else:
        assert prices.most_usd(stage, seconds) <= usd * (1 + 1e-9)
        assert seconds == 0.0 or prices.most_usd(stage, seconds * 1.001) > usd * (1 - 1e-9), "and they are all of them"


@given(PRICES, st.lists(st.tuples(STAGES, SECONDS), unique_by=lambda each: each[0]))
def test_a_run_costs_no_more_than_its_stages_one_by_one(prices: Prices, stages: list[tuple[Stage, float]]) -> None:
    alone = sum(prices.usd(stage, seconds) for stage, seconds in stages)
    assert prices.run_usd(stages) <= alone * (1 + 1e-9)
    assert prices.run_usd(stages) <= prices.most_run_usd(stages) * (1 + 1e-9)
    deployed = any(stage is Stage.DEPLOY for stage, _ in stages)
    assert prices.run_usd(stages) == pytest.approx(alone) or not (deployed or prices.billing is Billing.MACHINE)
