"""Changes are found where they are and not where they are not, whatever the series is like."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from mlcc_dagster.core.change_points import FEWEST_RUNS, SEARCHES, SIGNIFICANCE, change_points
from mlcc_dagster.core.exceptions import UsageError

EVERY_SEARCH = pytest.mark.parametrize("search", SEARCHES)


def noise(count: int, level: float = 100.0, seed: int = 1) -> list[float]:
    return list(level * (1 + 0.02 * np.random.default_rng(seed).normal(size=count)))


def places(values: list[float | None] | list[float], search: str = "permutation") -> list[int]:
    return [change.index for change in change_points(values, search=search)]


@EVERY_SEARCH
@pytest.mark.parametrize(
    ("values", "expected", "why"),
    [
        ([], [], "nothing"),
        ([5.0], [], "one"),
        ([5.0, 6.0, 5.0], [], "too few to tell"),
        ([5.0] * 40, [], "all the same"),
        ([0.0] * 40, [], "all nothing"),
        ([5.0, 6.0] * 20, [], "two values in turn"),
        ([5.0] * 10 + [6.0] * 10, [10], "a step without any noise"),
        (noise(40), [], "noise"),
        (noise(20) + noise(20, 90.0, 2), [20], "a step down"),
        (noise(15) + noise(15, 110.0, 2) + noise(15, 100.0, 3), [15, 30], "up and back"),
        ([-10.0 + 0.1 * (n % 3) for n in range(12)] + [-20.0 + 0.1 * (n % 3) for n in range(12)], [12], "below 0"),
    ],
)
def test_changes_are_where_they_are(search: str, values: list[float], expected: list[int], why: str) -> None:
    assert places(values, search) == expected, why


@EVERY_SEARCH
def test_one_value_far_off_is_no_change(search: str) -> None:
    values = noise(40)
    values[25] = 1000.0
    assert places(values, search) == []


def test_the_newest_value_alone_is_no_change_by_permutation() -> None:
    """At the end the outlier has nothing after it that could speak for it."""
    assert places([*noise(199), 130.0]) == []


@EVERY_SEARCH
def test_what_is_absent_or_not_finite_is_left_out_and_counts_in_the_place(search: str) -> None:
    values: list[float | None] = [*noise(20), *noise(20, 90.0, 2)]
    whole = change_points(values, search=search)
    for place in (33, 20, 20, 3, 0):
        values.insert(place, [None, float("nan"), float("inf")][place % 3])
    holed = change_points(values, search=search)
    (change,) = holed
    assert change.index == 24, "the first value after it, not the hole before that"
    assert (change.before, change.after, change.p_value) == (whole[0].before, whole[0].after, whole[0].p_value)


@EVERY_SEARCH
def test_nothing_but_holes_has_no_change(search: str) -> None:
    assert places([None, float("nan")] * 20, search) == []


def test_fewer_runs_than_are_needed_never_change_by_permutation() -> None:
    values = [1.0] * (FEWEST_RUNS // 2) + [9.0] * (FEWEST_RUNS - FEWEST_RUNS // 2 - 1)
    assert places(values) == []
    assert places([*values, 9.0]) == [FEWEST_RUNS // 2]


def test_the_size_of_a_change_is_that_of_the_levels_beside_it() -> None:
    values = [10.0] * 10 + [5.0] * 10 + [20.0] * 10
    first, second = change_points(values)
    assert (first.before, first.after, first.magnitude_pct) == (10.0, 5.0, -50.0)
    assert (second.before, second.after, second.magnitude_pct) == (5.0, 20.0, 300.0)
    assert first.to_json() == {
        "index": 10,
        "before": 10.0,
        "after": 5.0,
        "magnitude_pct": -50.0,
        "p_value": first.p_value,
    }


def test_a_change_from_0_has_no_size_in_percent() -> None:
    (change,) = change_points([0.0] * 10 + [5.0] * 10)
    assert change.magnitude_pct is None


@EVERY_SEARCH
def test_the_same_series_always_has_the_same_changes(search: str) -> None:
    values = noise(30) + noise(9, 97.0, 2)
    assert change_points(values, search=search) == change_points(values, search=search)


@settings(max_examples=25, deadline=None)
@given(st.floats(1e-3, 1e3), st.floats(-1e3, 1e3), st.integers(0, 5))
def test_the_unit_and_the_zero_of_a_metric_do_not_matter(factor: float, shift: float, seed: int) -> None:
    values = noise(15, 100.0, seed) + noise(12, 80.0, seed + 50)
    moved = [value * factor + shift * factor for value in values]
    for search in SEARCHES:
        assert places(moved, search) == places(values, search)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True)), max_size=40))
def test_no_series_breaks_a_search_and_every_change_is_at_a_value(values: list[float | None]) -> None:
    bounded = [None if value is None or not abs(value) < 1e100 else value for value in values]
    for search in SEARCHES:
        found = change_points(bounded, search=search)
        assert [change.index for change in found] == sorted({change.index for change in found})
        assert all(
            (bounded[change.index] is not None and 0 < change.p_value <= 1) or search == "t-test" for change in found
        )


def test_an_unknown_search_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="permutation, t-test"):
        change_points([1.0], search="guess")


STATIONARY = {
    "normal": lambda g, n: 100 + 3 * g.normal(size=n),
    "heavy tails": lambda g, n: 100 + 3 * g.standard_t(2, size=n),
    "skew": lambda g, n: 100 * np.exp(0.3 * g.normal(size=n)),
    "ties": lambda g, n: np.round(20 + g.normal(size=n)),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", STATIONARY)
def test_of_series_that_never_change_at_most_the_stated_share_has_a_change(kind: str) -> None:
    """200 series of each kind; the bound is what 200 draws exceed once in 1,000 times. A thousand of each are measured beside."""
    generator = np.random.default_rng(20261122)
    alarms = sum(bool(change_points(list(STATIONARY[kind](generator, 40)))) for _ in range(200))
    print(f"{kind}: {alarms} of 200")
    assert alarms <= binom.ppf(0.999, 200, SIGNIFICANCE)
