"""What the command line's tests share: an answer, and rows to ask about."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlcc_dagster.core.records import COLUMN_NAMES

MLCC = Path(sys.executable).with_name("mlcc")


@dataclass(frozen=True)
class Answer:
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """What standard output says as JSON: nothing may stand before or after the one document."""
        assert self.out[0] in "{[", f"no JSON document from the first byte: {self.out[:80]!r}"
        return json.loads(self.out)


Call = Callable[..., Answer]


def result_row(config_id: str, **values: Any) -> dict[str, Any]:
    """Return a row that says a forest behind FastAPI was proven here; `values` change it."""
    made = dict.fromkeys(COLUMN_NAMES) | {
        "model_name": "sklearn/random-forest-digits",
        "model_family": "random-forest",
        "instance_type": "local.1cpu",
        "instance_family": "local",
        "deployment_config": "http-fastapi",
        "deployment_target": "realtime-inference",
        "quantization": "none",
        "tensor_parallel_degree": 1,
        "run_type": "ci",
        "run_timestamp": "2026-06-09T14:30:22.000000Z",
        "run_id": f"{config_id}-g1",
        "config_id": config_id,
        "status": "completed",
        "workload": "local_predict",
        "concurrency": 1,
        "request_throughput_rps": 80.5,
        "executor": "local",
        "schema_version": 1,
    }
    return made | values


LOGISTIC = {"model_name": "sklearn/logistic-regression-digits", "model_family": "logistic-regression"}
TIMED_OUT = {"failure_category": "timeout", "failure_reason": "no answer", "failure_stage": "deploy"}


def files_below(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder with its content, for comparing before and after."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
