"""What existing installations write and look up when they prove a path.

Belongs here: the compatible form of a path-prove record and its question for known-bad configurations, both as recorded
from existing installations. Not here: the rows that this platform writes (`records.py`), its verdicts from all evidence
(`standing.py`), reading logs (`failures.py`).
"""

from collections.abc import Iterable, Mapping
from typing import Any

from mlcc_dagster.core.configuration import DIMENSIONS
from mlcc_dagster.core.standing import row_vector

RUN_TYPE = "path_prove"
"""The run type of what the Path Prover runs."""

_KEPT = (*DIMENSIONS, "config_id", "model_name", "instance_type")


def compat_record(
    result: Mapping[str, Any], classification: Mapping[str, Any] | None, *, run_timestamp: str
) -> dict[str, Any]:
    """Return the record that existing installations keep of one proof.

    `result` is `{success, config, metrics, error}`, of which all but `success` may be absent; `classification` is
    `{stage, category, retryable}`, none where nobody classified. A success is `completed`, a failure that cannot be
    retried `unfeasible`, every other `failed`. Two peculiarities are kept: the metrics of a success come last, so that
    one called `status` replaces the status, and a failure without a text is an `Unknown failure`.
    """
    config = result.get("config") or {}
    record: dict[str, Any] = {"run_type": RUN_TYPE, "run_timestamp": run_timestamp}
    record |= {name: config[name] for name in _KEPT if name in config}
    if result.get("success"):
        return record | {"status": "completed"} | dict(result.get("metrics") or {})
    final = classification is not None and not classification["retryable"]
    record |= {
        "status": "unfeasible" if final else "failed",
        "failure_reason": result.get("error") or "Unknown failure",
    }
    if classification is not None:
        record |= {f"failure_{name}": classification[name] for name in ("stage", "category", "retryable")}
    return record


def compat_known_unfeasible(config: Mapping[str, Any], records: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a path-prove record says that a configuration is known bad, as existing installations ask before a run.

    The six dimensions are compared as texts. Records of other run types say nothing here, and neither a proof nor an
    expiry takes the verdict back: `Standing.status` is the platform's own answer, from all evidence.
    """
    vector = row_vector(config)
    return any(
        record.get("run_type") == RUN_TYPE and record.get("status") == "unfeasible" and row_vector(record) == vector
        for record in records
    )
