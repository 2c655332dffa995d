"""Plots that a page shows: what has no data has no picture."""

from typing import Any

import pytest

from resources.plots import performance_plot

MEASURED: dict[str, Any] = {
    "config_id": "a" * 16,
    "deployment_config": "http-flask",
    "model_family": "random-forest",
    "quantization": "none",
    "instance_type": "local.1cpu",
    "concurrency": 1,
    "run_timestamp": "2026-11-22T08:00:00Z",
    "request_throughput_rps": 90.0,
    "e2e_latency_p99_ms": 14.0,
}


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([], "nothing was measured"),
        ([MEASURED | {"e2e_latency_p99_ms": None}], "an imported row without the percentile"),
        ([MEASURED | {"request_throughput_rps": None}], "an imported row without the throughput"),
    ],
)
def test_performance_without_a_row_that_has_both_metrics_has_no_plot(rows: list[dict[str, Any]], why: str):
    assert performance_plot(rows) is None, why


def test_the_newest_run_of_a_configuration_is_the_one_that_is_plotted():
    older = MEASURED | {"run_timestamp": "2026-11-21T08:00:00Z", "request_throughput_rps": 10.0}
    plot = performance_plot([older, MEASURED, MEASURED | {"concurrency": 4, "request_throughput_rps": None}])
    assert plot is not None
    assert [point["throughput"] for point in plot.to_dict()["data"]["values"]] == [90.0]
