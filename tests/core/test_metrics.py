"""Metrics: golden values of an existing writer, invariances, and which requests count."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcc_dagster.core.metrics import (
    METRICS,
    AggregateMetric,
    NoSuccessfulRequest,
    RecordMetric,
    mean,
    metric_columns,
    percentile,
)
from mlcc_dagster.core.records import COLUMN_NAMES
from mlcc_dagster.core.request_records import RequestRecord


def request(start_ms: int, latency_ms: int, **metrics: float) -> RequestRecord:
    start = 1_000_000_000 + start_ms * 1_000_000
    return RequestRecord(start, start + latency_ms * 1_000_000, {"request_latency": float(latency_ms), **metrics})


GOLDEN = [
    request(0, 500, time_to_first_token=50, inter_token_latency=9.5, output_token_count=50, input_sequence_length=100),
    request(
        200, 700, time_to_first_token=70, inter_token_latency=10.5, output_token_count=60, input_sequence_length=110
    ),
    request(
        300, 1300, time_to_first_token=90, inter_token_latency=11.5, output_token_count=70, input_sequence_length=90
    ),
]

GOLDEN_COLUMNS = {
    "input_tokens_mean": 100,
    "output_tokens_mean": 60,
    "duration_seconds": 1,  # the writer hands on 1.6; its column is whole seconds, truncated
    "request_throughput_rps": 1.875,
    "total_token_throughput_tps": 300.0,
    "output_token_throughput_tps": 112.5,
    "request_count": 3,
    "ttft_avg_ms": 70.0,
    "ttft_p50_ms": 70,
    "ttft_p90_ms": 86.0,
    "ttft_p99_ms": 89.60000000000001,
    "itl_avg_ms": 10.5,
    "itl_p50_ms": 10.5,
    "itl_p90_ms": 11.3,
    "itl_p99_ms": 11.48,
    "e2e_latency_avg_ms": 833.3333333333334,
    "e2e_latency_p50_ms": 700,
    "e2e_latency_p90_ms": 1180.0,
    "e2e_latency_p99_ms": 1288.0,
    "output_sequence_length_avg": 60.0,
    "input_sequence_length_avg": 100.0,
    "error_rate": 0.0,
    "cost_per_1m_tokens": 3.4765,
    "benchmark_duration_sec": 1.6,
}
# The writer gives 0.0 for these although nothing was recorded; here absent is none.
ABSENT_IN_GOLDEN = {
    "prefill_tps_avg",
    "prefill_tps_p50",
    "output_token_tps_avg",
    "output_token_tps_p50",
    "output_token_tps_p90",
    "ttst_p50_ms",
    "ttst_p90_ms",
}


def test_the_values_of_an_existing_writer_are_kept_bit_for_bit_and_only_absent_ones_differ():
    computed = metric_columns(GOLDEN, usd_per_hour=1.408)
    assert {name: value for name, value in computed.items() if value is not None} == GOLDEN_COLUMNS
    assert {name for name, value in computed.items() if value is None} == ABSENT_IN_GOLDEN


def _columns_of(metric: RecordMetric | AggregateMetric) -> list[str]:
    return list(metric.columns) if isinstance(metric, RecordMetric) else [metric.column]


def test_every_metric_fills_columns_of_the_table_and_no_column_twice():
    filled = [column for metric in METRICS for column in _columns_of(metric)]
    assert len(filled) == len(set(filled))
    assert set(filled) <= set(COLUMN_NAMES)


@given(st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_the_order_of_records_changes_no_bit(latencies: list[float], shuffler: random.Random):
    records = [
        RequestRecord(index, index + 10**9, {"request_latency": value, "time_to_first_token": value / 3})
        for index, value in enumerate(latencies)
    ]
    shuffled = records[:]
    shuffler.shuffle(shuffled)
    assert metric_columns(shuffled, usd_per_hour=1.0) == metric_columns(records, usd_per_hour=1.0)


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=30), st.floats(0, 100), st.floats(0, 100))
def test_percentiles_stay_in_range_and_never_fall_with_the_rank(values: list[float], first: float, second: float):
    low, high = sorted((first, second))
    assert min(values) <= percentile(values, low) <= percentile(values, high) <= max(values)


@pytest.mark.parametrize(
    ("percent", "expected", "reason"),
    [
        (0, 10.0, "the smallest at rank 0"),
        (50, 25.0, "half way between the two in the middle"),
        (100, 40.0, "the largest at rank n - 1"),
        (90, 37.0, "rank 2.7 lies 0.7 between 30 and 40"),
    ],
)
def test_percentiles_interpolate_linearly(percent: float, expected: float, reason: str):
    assert percentile([40.0, 10.0, 30.0, 20.0], percent) == pytest.approx(expected, abs=1e-12), reason


def test_the_mean_keeps_what_plain_summation_loses():
    assert mean([1e16, 1.0, -1e16]) == 1.0 / 3


def test_errors_count_in_the_rate_and_the_duration_but_not_in_latencies():
    failed = replace(request(0, 5000), error="503")
    columns = metric_columns([*GOLDEN, failed], usd_per_hour=None)
    assert columns["error_rate"] == 0.25
    assert columns["request_count"] == 3
    assert columns["benchmark_duration_sec"] == 5.0
    assert columns["request_throughput_rps"] == 3 / 5.0
    assert columns["e2e_latency_p99_ms"] == GOLDEN_COLUMNS["e2e_latency_p99_ms"]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (replace(request(90_000, 9), phase="warmup"), "warm-up is not measured"),
        (replace(request(90_000, 9), cancelled=True, error="cancelled"), "the client ended it, not the server"),
    ],
)
def test_requests_that_do_not_count_change_nothing(record: RequestRecord, reason: str):
    assert metric_columns([*GOLDEN, record], usd_per_hour=1.0) == metric_columns(GOLDEN, usd_per_hour=1.0), reason


def test_inter_token_latency_is_derived_where_it_was_not_recorded():
    record = request(0, 500, time_to_first_token=50, output_token_count=46)
    assert metric_columns([record], usd_per_hour=None)["itl_avg_ms"] == (500 - 50) / 45


@pytest.mark.parametrize(
    ("metrics", "reason"),
    [
        ({"time_to_first_token": 50.0, "output_token_count": 1.0}, "one token has no gap"),
        ({"output_token_count": 9.0}, "not streamed: no first token"),
        ({"time_to_first_token": 50.0}, "tokens not counted"),
    ],
)
def test_an_undefined_inter_token_latency_is_absent(metrics: dict[str, float], reason: str):
    assert metric_columns([request(0, 500, **metrics)], usd_per_hour=None)["itl_avg_ms"] is None, reason


def test_token_rates_are_absent_when_one_success_did_not_count_its_tokens():
    columns = metric_columns([*GOLDEN, request(0, 500)], usd_per_hour=1.0)
    assert columns["output_token_throughput_tps"] is None
    assert columns["cost_per_1m_tokens"] is None
    assert columns["request_count"] == 4


def test_reasoning_tokens_are_generated_tokens():
    told_apart = metric_columns([request(0, 1000, output_token_count=10, reasoning_token_count=5)], usd_per_hour=None)
    whole = metric_columns([request(0, 1000, output_token_count=10, output_sequence_length=15)], usd_per_hour=None)
    assert told_apart["output_tokens_mean"] == whole["output_tokens_mean"] == 15


def test_latency_comes_from_the_times_where_it_was_not_recorded():
    assert metric_columns([RequestRecord(0, 250_000_000)], usd_per_hour=None)["e2e_latency_avg_ms"] == 250.0


def test_a_price_that_is_not_known_gives_no_cost():
    assert metric_columns(GOLDEN, usd_per_hour=None)["cost_per_1m_tokens"] is None


def test_no_success_is_an_error_that_names_the_most_frequent_cause():
    records = [replace(request(i, 10), error=text) for i, text in enumerate(["refused", "503", "refused"])]
    with pytest.raises(NoSuccessfulRequest, match=r"none of 3 counted requests succeeded \(most often: refused\)"):
        metric_columns(records, usd_per_hour=1.0)


def test_no_record_at_all_is_the_same_error():
    with pytest.raises(NoSuccessfulRequest, match="none of 0"):
        metric_columns([], usd_per_hour=1.0)
