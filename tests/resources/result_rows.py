"""A whole result row for tests of the store."""

from typing import Any

from mlcc_dagster.core.records import COLUMN_NAMES


def row(run_id: str = "c1-g1", **values: Any) -> dict[str, Any]:
    """Return a row of a run of the configuration that its id begins with; `values` change it."""
    made = dict.fromkeys(COLUMN_NAMES) | {
        "model_name": "Qwen/Qwen3-4B",
        "model_family": "qwen3",
        "instance_type": "ml.g5.xlarge",
        "instance_family": "g5",
        "deployment_config": "transformers-vllm",
        "deployment_target": "realtime-inference",
        "tensor_parallel_degree": 1,
        "run_type": "ci",
        "run_timestamp": "2026-06-09T14:30:22.000000Z",
        "run_id": run_id,
        "config_id": run_id.split("-")[0],
        "status": "completed",
        "workload": "sample",
        "concurrency": 1,
        "schema_version": 1,
    }
    return made | values
