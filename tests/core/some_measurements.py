"""What the tests of measurements share: rows, runs and series of noise."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from mlcc_dagster.core.measured_series import Bucket, Measurement
from mlcc_dagster.core.records import utc_text

BEGIN = datetime(2026, 9, 1, 6, tzinfo=UTC)

BUCKET = Bucket(
    config_id="c1",
    executor="local",
    model_name="Q/q",
    deployment_config="transformers-vllm",
    deployment_target="realtime-inference",
    quantization="none",
    tp_degree="1",
    instance_type="ml.g5.xlarge",
    gpu_type="A10G",
    adapter_name="",
    workload="chat",
    concurrency=1,
)

THROUGHPUT, TTFT, ITL, LATENCY = "output_token_throughput_tps", "ttft_p90_ms", "itl_p90_ms", "e2e_latency_p90_ms"


def run(number: int, *, ground: Mapping[str, str] | None = None, **values: float) -> Measurement:
    """Return the measurement of the run with that number, a day after the one before."""
    return Measurement(f"c1-g{number}", BEGIN + timedelta(days=number), values, ground or {})


def history(values: Sequence[float], metric: str = LATENCY) -> list[Measurement]:
    """Return a run for every value of one metric."""
    return [run(number, **{metric: value}) for number, value in enumerate(values, start=1)]


def row(number: int = 1, **values: Any) -> dict[str, Any]:
    """Return a completed result row of that run; `values` change it."""
    made = {
        "config_id": "c1",
        "executor": "local",
        "model_name": "Q/q",
        "deployment_config": "transformers-vllm",
        "deployment_target": "realtime-inference",
        "quantization": "none",
        "tensor_parallel_degree": 1,
        "instance_type": "ml.g5.xlarge",
        "gpu_type": "A10G",
        "workload": "chat",
        "concurrency": 1,
        "run_id": f"c1-g{number}",
        "run_timestamp": utc_text(BEGIN + timedelta(days=number)),
        "status": "completed",
        "engine": "vllm 1",
        "evidence": '{"template": "t1", "image": "i1"}',
        LATENCY: 500.0,
    }
    return made | values
