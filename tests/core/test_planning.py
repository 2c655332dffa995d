"""A plan never passes its bounds, ranks as its strategy says, and gives every left-out gap a reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcc_dagster.core.configuration import Configuration, Vector
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.gaps import Gap
from mlcc_dagster.core.planning import ALL_GAPS_FILLED, BUDGET_EXCEEDED, MAX_PROVES_REACHED, Candidate, plan
from mlcc_dagster.core.standing import Reason


def candidate(name: str, *, neighbours: int = 0, usd: float = 1.0) -> Candidate:
    vector = Vector("http-flask", name, "local", "none", "1", "realtime-inference")
    configuration = Configuration("http-flask", f"sklearn/{name}", name, "local.1cpu", "local")
    return Candidate(Gap(vector, neighbours, Reason.UNTESTED, "no run of it yet"), name, configuration, usd)


def picked(candidates: list[Candidate], *, max_proves: int = 10, max_usd: float = 50.0) -> tuple[list[str], str]:
    made = plan(candidates, strategy="neighbours", max_proves=max_proves, max_usd=max_usd)
    return [pick.candidate.config_id for pick in made.picks], made.ended_by


@pytest.mark.parametrize(
    ("candidates", "bounds", "expected", "ended_by"),
    [
        pytest.param([], {}, [], ALL_GAPS_FILLED, id="no gap is no pick"),
        pytest.param(
            [candidate("a"), candidate("b", neighbours=2)], {}, ["b", "a"], ALL_GAPS_FILLED, id="neighbours come first"
        ),
        pytest.param([candidate("a"), candidate("b")], {}, ["a", "b"], ALL_GAPS_FILLED, id="ties keep their order"),
        pytest.param(
            [candidate("a"), candidate("b")], {"max_proves": 1}, ["a"], MAX_PROVES_REACHED, id="the count bounds it"
        ),
        pytest.param(
            [candidate("a", usd=60)], {}, [], BUDGET_EXCEEDED, id="the first pick has to fit like every other"
        ),
        pytest.param(
            [candidate("a", neighbours=1, usd=60), candidate("b", usd=5)],
            {},
            ["b"],
            BUDGET_EXCEEDED,
            id="a cheaper one behind a dear one is still picked",
        ),
        pytest.param(
            [candidate("a", usd=25), candidate("b", usd=25)],
            {},
            ["a", "b"],
            ALL_GAPS_FILLED,
            id="exactly the budget fits",
        ),
        pytest.param([candidate("a")], {"max_proves": 0}, [], MAX_PROVES_REACHED, id="nothing is left to prove with"),
    ],
)
def test_what_is_picked_and_why_it_ends(
    candidates: list[Candidate], bounds: dict[str, float], expected: list[str], ended_by: str
) -> None:
    assert picked(candidates, **bounds) == (expected, ended_by)  # type: ignore[arg-type]


prices = st.lists(st.floats(min_value=0.001, max_value=100, allow_nan=False), max_size=20)


@given(prices=prices, max_proves=st.integers(0, 12), max_usd=st.floats(0, 120))
def test_no_plan_passes_its_bounds_and_every_gap_is_picked_or_explained(
    prices: list[float], max_proves: int, max_usd: float
) -> None:
    candidates = [candidate(f"m{index}", usd=usd) for index, usd in enumerate(prices)]
    made = plan(candidates, strategy="neighbours", max_proves=max_proves, max_usd=max_usd)
    assert len(made.picks) <= max_proves
    assert sum(pick.candidate.promised_usd for pick in made.picks) <= max_usd
    assert {pick.candidate.gap.vector for pick in made.picks} | set(made.left_out) == {c.gap.vector for c in candidates}
    assert not {pick.candidate.gap.vector for pick in made.picks} & set(made.left_out)


def test_an_unknown_strategy_is_refused_naming_the_known_ones() -> None:
    with pytest.raises(UsageError, match="neighbours"):
        plan([], strategy="luck", max_proves=1, max_usd=1)
