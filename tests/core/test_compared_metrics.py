"""Thresholds are strict, differences are decimal, and every mistake of a request is named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcc_dagster.core.compared_metrics import COMPARED, DEFAULT_THRESHOLD_PCT, delta_pct, metric_named, read_thresholds
from mlcc_dagster.core.exceptions import InvalidInput, UsageError

THROUGHPUT, LATENCY = metric_named("throughput"), metric_named("latency")


@pytest.mark.parametrize(
    ("current", "base", "threshold", "regressed", "why"),
    [
        (90.0, 100.0, 10.0, False, "-10.0 % is not beyond 10 %"),
        (89.9, 100.0, 10.0, True, "-10.1 % is"),
        (89.99, 100.0, 10.0, True, "any bit beyond is beyond, whatever it rounds to"),
        (110.0, 100.0, 10.0, False, "better is never a regression"),
        (0.9, 1.0, 10.0, False, "in binary 0.9 lies a hair nearer"),
        (0.33, 0.3, 0.0, False, "better by a little"),
        (99.9, 100.0, 0.0, True, "a threshold of 0 allows nothing"),
        (100.0, 100.0, 0.0, False, "the same is not worse"),
    ],
)
def test_throughput_regresses_strictly_beyond_its_threshold(
    current: float, base: float, threshold: float, regressed: bool, why: str
) -> None:
    assert THROUGHPUT.regressed(current, base, threshold) is regressed, why


@pytest.mark.parametrize(
    ("current", "base", "regressed", "why"),
    [
        (55.0, 50.0, False, "+10.0 %"),
        (55.1, 50.0, True, "+10.2 %"),
        (1.1, 1.0, False, "(1.1 - 1.0) / 1.0 is 0.10000000000000009 in binary"),
        (45.0, 50.0, False, "lower is better"),
        (10.0, 0.0, False, "nothing can be said in percent of 0"),
    ],
)
def test_a_latency_regresses_upward(current: float, base: float, regressed: bool, why: str) -> None:
    assert LATENCY.regressed(current, base, 10.0) is regressed, why


@given(st.integers(1, 10**6), st.integers(-(10**6), 10**6).filter(bool))
def test_the_difference_is_in_percent_of_the_size_of_the_base(current: int, base: int) -> None:
    delta = delta_pct(float(current), float(base))
    assert delta == pytest.approx((current - base) / abs(base) * 100)
    assert delta is not None
    assert (delta > 0) is (current > base)


def test_of_a_base_of_0_there_is_no_difference() -> None:
    assert delta_pct(10.0, 0.0) is None


@pytest.mark.parametrize("metric", COMPARED.values(), ids=lambda metric: metric.alias)
def test_every_metric_is_known_by_its_column_and_its_alias(metric) -> None:
    assert metric_named(metric.column) is metric_named(metric.alias) is metric


def test_an_unknown_metric_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"no metric 'speed'.*throughput \(output_token_throughput_tps\).*latency"):
        metric_named("speed")


def test_a_given_threshold_stands_beside_the_default_of_the_others() -> None:
    found = read_thresholds(["throughput:5", "ttft_p90_ms:0"])
    assert found["output_token_throughput_tps"] == 5
    assert found["ttft_p90_ms"] == 0
    assert {found["itl_p90_ms"], found["e2e_latency_p90_ms"]} == {DEFAULT_THRESHOLD_PCT}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("throughput", "write METRIC:PERCENT"),
        ("speed:5", "no metric 'speed'"),
        ("throughput:", "'' is no number of percent"),
        ("throughput:-1", "'-1' is no number of percent, 0 or more"),
        ("throughput:nan", "'nan' is no number"),
        ("throughput:inf", "'inf' is no number"),
        ("latency:5%", "'5%' is no number"),
        ("throughput:\N{FULLWIDTH DIGIT FIVE}", "is no number"),
        ("throughput:1_0", "'1_0' is no number"),
    ],
)
def test_a_threshold_that_is_none_is_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        read_thresholds([text])


def test_all_mistakes_of_thresholds_are_named_at_once() -> None:
    with pytest.raises(InvalidInput) as refused:
        read_thresholds(["speed:5", "ttft:x", "itl:5", "itl_p90_ms:6"])
    assert len(refused.value.problems) == 3
    assert "has a threshold already" in refused.value.problems[-1]
