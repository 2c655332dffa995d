"""Result rows: what one finished run writes.

Belongs here: the columns of `mlcc_ci.benchmark_results`, the rows of a finished run and where their file lies. Not here:
the raw records they are computed from (`request_records.py`), how a metric is computed (`metrics.py`), writing and
reading files (the result store).
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, Literal, Protocol

from mlcc_dagster.core.evidence import Evidence
from mlcc_dagster.core.exceptions import InvalidInput, MlccError
from mlcc_dagster.core.metrics import metric_columns
from mlcc_dagster.core.outcome import Outcome, StageResult
from mlcc_dagster.core.request_records import RequestRecord

SCHEMA_VERSION = 1
"""Version of a result row; raised when a column changes its meaning, not when one is added."""

ColumnType = Literal["string", "int32", "double", "bool"]


@dataclass(frozen=True)
class Column:
    """One column of the results table. `unit` is none where the value has none; `source` says where the value comes
    from."""

    name: str
    type: ColumnType
    unit: str | None
    description: str
    source: str


def _columns(*rows: tuple[str, ColumnType, str | None, str, str]) -> tuple[Column, ...]:
    return tuple(Column(*row) for row in rows)


COLUMNS: tuple[Column, ...] = _columns(
    # The 67 columns of existing installations: names, order and types are theirs and must not change.
    ("project_name", "string", None, "Name of the generated project", "stage output project_name"),
    ("model_name", "string", None, "Model as it is served; an S3 address reduced to its last part", "configuration"),
    ("model_family", "string", None, "Family derived from the model name by the ordered family rules", "configuration"),
    ("instance_type", "string", None, "Instance the run was made on", "configuration"),
    ("deployment_config", "string", None, "Architecture and server, such as transformers-vllm", "configuration"),
    ("deployment_target", "string", None, "realtime-inference, async-inference or batch-transform", "configuration"),
    ("quantization", "string", None, "Quantization in lower case; none for full precision", "configuration"),
    (
        "tensor_parallel_degree",
        "int32",
        "GPUs",
        "GPUs that one model copy is split over; also tp_degree",
        "configuration",
    ),
    ("instance_family", "string", None, "Middle part of the instance type, or local", "configuration"),
    ("gpu_count", "int32", "GPUs", "GPUs of the instance", "instance catalog"),
    ("gpu_type", "string", None, "Kind of each GPU", "instance catalog"),
    ("gpu_memory_gb", "double", "GB", "Memory of each GPU", "instance catalog"),
    ("max_model_len", "int32", "tokens", "Context length the server was limited to", "configuration"),
    ("enable_lora", "bool", None, "Whether the server was started for LoRA adapters", "configuration"),
    ("kv_cache_dtype", "string", None, "Type of the key-value cache where one was set", "serving parameter"),
    ("serving_config", "string", "JSON", "All that shaped serving, in one document", "configuration, stage outputs"),
    ("workload", "string", None, "Workload measured, or planned where the run failed", "benchmark plan"),
    ("concurrency", "int32", "requests", "In flight; 0 in failed rows, absent without benchmark", "benchmark plan"),
    ("input_tokens_mean", "int32", "tokens", "Mean input tokens of a request, truncated", "raw records"),
    ("output_tokens_mean", "int32", "tokens", "Mean generated tokens of a request, truncated", "raw records"),
    ("streaming", "bool", None, "Whether answers were streamed", "workload"),
    ("duration_seconds", "int32", "s", "benchmark_duration_sec truncated toward zero", "raw records"),
    ("request_throughput_rps", "double", "requests/s", "Successful requests per second of duration", "raw records"),
    ("total_token_throughput_tps", "double", "tokens/s", "Input and generated tokens per second", "raw records"),
    ("output_token_throughput_tps", "double", "tokens/s", "Generated tokens per second of duration", "raw records"),
    ("request_count", "double", "requests", "Successful requests of the profiling phase", "raw records"),
    ("ttft_avg_ms", "double", "ms", "Time to first token, mean", "raw records"),
    ("ttft_p50_ms", "double", "ms", "Time to first token, median", "raw records"),
    ("ttft_p90_ms", "double", "ms", "Time to first token, 90th percentile", "raw records"),
    ("ttft_p99_ms", "double", "ms", "Time to first token, 99th percentile", "raw records"),
    ("itl_avg_ms", "double", "ms", "Inter-token latency, mean", "raw records"),
    ("itl_p50_ms", "double", "ms", "Inter-token latency, median", "raw records"),
    ("itl_p90_ms", "double", "ms", "Inter-token latency, 90th percentile", "raw records"),
    ("itl_p99_ms", "double", "ms", "Inter-token latency, 99th percentile", "raw records"),
    ("e2e_latency_avg_ms", "double", "ms", "Request latency, mean", "raw records"),
    ("e2e_latency_p50_ms", "double", "ms", "Request latency, median", "raw records"),
    ("e2e_latency_p90_ms", "double", "ms", "Request latency, 90th percentile", "raw records"),
    ("e2e_latency_p99_ms", "double", "ms", "Request latency, 99th percentile", "raw records"),
    ("prefill_tps_avg", "double", "tokens/s", "Prefill throughput per user, mean", "raw records"),
    ("prefill_tps_p50", "double", "tokens/s", "Prefill throughput per user, median", "raw records"),
    ("output_token_tps_avg", "double", "tokens/s", "Output token throughput per user, mean", "raw records"),
    ("output_token_tps_p50", "double", "tokens/s", "Output token throughput per user, median", "raw records"),
    ("output_token_tps_p90", "double", "tokens/s", "Output token throughput per user, 90th percentile", "raw records"),
    ("ttst_p50_ms", "double", "ms", "Time to second token, median", "raw records"),
    ("ttst_p90_ms", "double", "ms", "Time to second token, 90th percentile", "raw records"),
    ("output_sequence_length_avg", "double", "tokens", "Mean generated tokens of a request", "raw records"),
    ("input_sequence_length_avg", "double", "tokens", "Mean input tokens of a request", "raw records"),
    ("error_rate", "double", "ratio", "Failed requests over all counted requests", "raw records"),
    ("cost_per_1m_tokens", "double", "USD", "Per 10^6 generated tokens, 4 decimals", "raw records, price"),
    ("benchmark_duration_sec", "double", "s", "Earliest start to latest end of all counted requests", "raw records"),
    ("run_type", "string", None, "ci, path_prove, optimization, manual or prove", "run"),
    ("benchmark_job_name", "string", None, "Job that measured, where it has a name", "stage output benchmark_job_name"),
    ("mcc_version", "string", None, "Version of the generator that made the project", "stage output mcc_version"),
    ("run_timestamp", "string", "UTC", "When the result was reached: YYYY-MM-DDTHH:MM:SS.ffffffZ", "run"),
    ("region", "string", None, "Region of the run", "configuration"),
    ("adapter_name", "string", None, "LoRA adapter that was measured", "stage output adapter_name"),
    ("gpu_utilization_avg", "double", "%", "GPU utilization, mean", "observed"),
    ("gpu_utilization_max", "double", "%", "GPU utilization, maximum", "observed"),
    ("gpu_memory_used_avg_gb", "double", "GB", "GPU memory in use, mean", "observed"),
    ("gpu_memory_util_avg", "double", "%", "GPU memory utilization, mean", "observed"),
    ("kv_cache_util_avg", "double", "%", "Key-value cache in use, mean", "observed"),
    ("kv_cache_util_max", "double", "%", "Key-value cache in use, maximum", "observed"),
    ("prefix_cache_hit_rate", "double", "ratio", "Prefix cache hits over look-ups", "observed"),
    ("queue_depth_running_avg", "double", "requests", "Requests running in the engine, mean", "observed"),
    ("queue_depth_waiting_avg", "double", "requests", "Requests waiting in the engine, mean", "observed"),
    ("queue_depth_waiting_max", "double", "requests", "Requests waiting in the engine, maximum", "observed"),
    (
        "metrics_source",
        "string",
        None,
        "Source of observed metrics: none, cloudwatch, engine_metrics, both",
        "observed",
    ),
    # Ours.
    ("run_id", "string", None, "One attempt: <config_id>-g<generation>", "claim"),
    ("config_id", "string", None, "Identity of the configuration", "claim"),
    ("status", "string", None, "completed, failed (worth another try) or unfeasible (known bad)", "run"),
    ("failure_reason", "string", None, "The line that decided, or what the stage said last", "failure classification"),
    ("failure_stage", "string", None, "Stage that failed first", "run"),
    ("failure_category", "string", None, "Category of the failure", "failure classification"),
    ("failure_retryable", "bool", None, "Whether another try can succeed", "failure classification"),
    ("executor", "string", None, "Executor that performed the stages", "run"),
    ("engine", "string", None, "Server and version that answered", "evidence"),
    ("execution", "string", None, "process, container or endpoint", "evidence"),
    ("dagster_run_id", "string", None, "Dagster run of this attempt", "claim"),
    ("cost_usd", "double", "USD", "What the whole run cost, the same in each of its rows", "run"),
    ("stage_seconds", "string", "JSON", "Wall seconds by stage, skipped stages left out", "run"),
    ("evidence", "string", "JSON", "Digests and versions the result depended on", "evidence"),
    ("raw_uri", "string", None, "Where the raw request records lie", "run"),
    ("schema_version", "int32", None, "Version of the row's schema", "run"),
)
"""The columns of `mlcc_ci.benchmark_results` in order."""

COLUMN_NAMES: tuple[str, ...] = tuple(column.name for column in COLUMNS)
OBSERVED_COLUMNS: tuple[str, ...] = tuple(c.name for c in COLUMNS if c.source == "observed" and c.type == "double")
RUN_TYPES: tuple[str, ...] = ("ci", "path_prove", "optimization", "manual", "prove")
STATUSES: tuple[str, ...] = ("completed", "failed", "unfeasible")
REQUIRED_COLUMNS: tuple[str, ...] = (
    "model_family",
    "instance_type",
    "deployment_config",
    "deployment_target",
    "run_type",
    "run_timestamp",
    "run_id",
    "config_id",
    "status",
    "schema_version",
)
"""Columns that every row which we write must fill."""

_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
# What a path part may hold: no separator, no percent (readers decode it), no equals sign (it would split the key).
_PATH_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@~ -]{0,199}")
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


def utc_text(moment: datetime) -> str:
    """Return the one text form of a time: `YYYY-MM-DDTHH:MM:SS.ffffffZ`. Raises `ValueError` for a time without
    zone."""
    if moment.tzinfo is None:
        raise ValueError(
            "a time without zone has no UTC text; pass datetime.now(UTC) or attach the zone it was read in"
        )
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class InstanceFacts(Protocol):
    """What a row takes from the instance catalog. Memory in GB per GPU, price in USD per hour."""

    @property
    def gpu_count(self) -> int: ...
    @property
    def gpu_type(self) -> str | None: ...
    @property
    def gpu_memory_gb(self) -> float | None: ...


class WorkloadFacts(Protocol):
    """What a row takes from a workload profile."""

    @property
    def name(self) -> str: ...
    @property
    def streaming(self) -> bool: ...


def result_rows(
    outcome: Outcome,
    *,
    measurements: Mapping[int, Sequence[RequestRecord]],
    executor: str,
    evidence: Evidence,
    instance: InstanceFacts | None,
    workload: WorkloadFacts | None,
    run_timestamp: str,
    raw_uri: str | None,
    cost_usd: float,
    usd_per_hour: float | None,
    observed: Mapping[str, float] = MappingProxyType({}),
    metrics_source: str = "none",
) -> list[dict[str, Any]]:
    """Return the rows of a finished run; every row has every column, absent values are none.

    A partial run (nothing failed, nothing tested) has no row. A completed run has one row per measured concurrency
    level (`measurements`: level -> its request records), or without a benchmark one row whose metrics, workload and
    concurrency are none. A failed or unfeasible run has one row with concurrency 0 and the planned workload; what it
    measured before stays in the raw records. `observed` fills the columns of engine and GPU metrics by name. Raises
    `MlccError` where a passed benchmark brought no measurements or a level has no success, `ValueError` for an observed
    name that is no column.
    """
    unknown = sorted(set(observed) - set(OBSERVED_COLUMNS))
    if unknown:
        raise ValueError(f"no observed column named {', '.join(unknown)}; add it to records.COLUMNS")
    if outcome.status == "partial":
        return []
    common = _common(outcome, executor, evidence, instance, run_timestamp, raw_uri, cost_usd)
    failure = outcome.evidence_failure
    if failure is not None:
        return [common | _failure_columns(failure) | {"workload": outcome.benchmark.workload or None, "concurrency": 0}]
    if not measurements:
        if outcome.benchmark_status == "completed":
            raise MlccError(
                f"run {outcome.claim.run_id} passed its benchmark but brought no request records; "
                "look at the benchmark's log and run it again"
            )
        return [common]
    measured: dict[str, Any] = {
        "workload": workload.name if workload else outcome.benchmark.workload or None,
        "streaming": workload.streaming if workload else None,
        "metrics_source": metrics_source,
        **observed,
    }
    return [
        common | measured | {"concurrency": level} | metric_columns(measurements[level], usd_per_hour=usd_per_hour)
        for level in sorted(measurements)
    ]


def _common(
    outcome: Outcome,
    executor: str,
    evidence: Evidence,
    instance: InstanceFacts | None,
    run_timestamp: str,
    raw_uri: str | None,
    cost_usd: float,
) -> dict[str, Any]:
    configuration = outcome.configuration
    row: dict[str, Any] = dict.fromkeys(COLUMN_NAMES)
    for name in ("project_name", "benchmark_job_name", "mcc_version", "adapter_name"):
        row[name] = outcome.output(name)
    return row | {
        "model_name": _model_text(configuration.model_name),
        "model_family": configuration.model_family,
        "instance_type": configuration.instance_type,
        "deployment_config": configuration.deployment_config,
        "deployment_target": configuration.deployment_target,
        "quantization": configuration.quantization,
        "tensor_parallel_degree": configuration.tp_degree,
        "instance_family": configuration.instance_family,
        "gpu_count": instance.gpu_count if instance else None,
        "gpu_type": (instance.gpu_type or None) if instance else None,
        "gpu_memory_gb": float(instance.gpu_memory_gb) if instance and instance.gpu_memory_gb else None,
        "max_model_len": configuration.max_model_len,
        "enable_lora": configuration.enable_lora,
        "kv_cache_dtype": configuration.serving_params.get("kv_cache_dtype"),
        "serving_config": _serving_config(outcome),
        "run_type": outcome.run_type,
        "run_timestamp": run_timestamp,
        "region": configuration.region,
        "metrics_source": "none",
        "run_id": outcome.claim.run_id,
        "config_id": outcome.claim.config_id,
        "status": outcome.status,
        "executor": executor,
        # empty where nothing was started
        "engine": evidence.engine or None,
        "execution": evidence.execution or None,
        "dagster_run_id": outcome.claim.owner.dagster_run_id,
        "cost_usd": float(cost_usd),
        "stage_seconds": json.dumps(
            {r.stage.value: round(r.seconds, 3) for r in outcome.results if r.status != "skip"}
        ),
        "evidence": json.dumps(dict(evidence.digests), sort_keys=True),
        "raw_uri": raw_uri,
        "schema_version": SCHEMA_VERSION,
    }


def _model_text(model_name: str | None) -> str | None:
    if model_name and model_name.startswith("s3://"):
        return model_name.rstrip("/").rsplit("/", 1)[-1]
    return model_name


def _serving_config(outcome: Outcome) -> str:
    configuration = outcome.configuration
    document = {
        "quantization": configuration.quantization,
        "tensor_parallel_degree": configuration.tp_degree,
        "enable_lora": configuration.enable_lora,
        "base_image": outcome.output("base_image"),
        "kv_cache_dtype": "auto" if configuration.model_name else None,
        "max_model_len": configuration.max_model_len,
    } | dict(configuration.serving_params)
    document["adapter_name"] = outcome.output("adapter_name")
    return json.dumps({key: value for key, value in document.items() if value not in (None, "")})


def _failure_columns(failure: StageResult) -> dict[str, Any]:
    reading = failure.failure
    said = [line.strip() for line in (failure.error or "").splitlines() if line.strip()]
    return {
        "failure_reason": (reading.line if reading else None)
        or (said[-1] if said else f"{failure.stage} failed silently"),
        "failure_stage": failure.stage.value,
        "failure_category": reading.category if reading else "unknown",
        "failure_retryable": reading.retryable if reading else True,
    }


def row_problems(row: Mapping[str, Any]) -> list[str]:
    """Return one sentence per mistake of a row against `COLUMNS`; empty when it may be written."""
    missing = [name for name in COLUMN_NAMES if name not in row]
    unknown = [name for name in row if name not in _BY_NAME]
    problems = [f"{name}: column is missing; absent values are written as none" for name in missing]
    problems += [f"{name}: unknown column; add it to records.COLUMNS or leave it out" for name in unknown]
    for column in COLUMNS:
        value = row.get(column.name)
        if value is None:
            if column.name in REQUIRED_COLUMNS and column.name in row:
                problems.append(f"{column.name}: must not be none")
        elif not _fits(column.type, value):
            problems.append(f"{column.name}: must be {_EXPECTED[column.type]}, not {value!r}")
    for name, allowed in (("status", STATUSES), ("run_type", RUN_TYPES)):
        if isinstance(row.get(name), str) and row[name] not in allowed:
            problems.append(f"{name}: must be one of {', '.join(allowed)}, not {row[name]!r}")
    timestamp = row.get("run_timestamp")
    if isinstance(timestamp, str) and not _TIMESTAMP.fullmatch(timestamp):
        problems.append(f"run_timestamp: must look like 2026-06-09T14:30:22.000000Z, not {timestamp!r}")
    return problems


def _fits(kind: ColumnType, value: Any) -> bool:
    if kind == "bool":
        return isinstance(value, bool)
    if kind == "string":
        return isinstance(value, str)
    if isinstance(value, bool):
        return False
    if kind == "int32":
        return isinstance(value, int) and -(2**31) <= value < 2**31
    return isinstance(value, (int, float)) and math.isfinite(value)


_BY_NAME: Mapping[str, Column] = MappingProxyType({column.name: column for column in COLUMNS})
_EXPECTED: Mapping[ColumnType, str] = MappingProxyType(
    {
        "bool": "true or false",
        "string": "a text",
        "int32": "a whole number of 32 bits",
        "double": "a finite number (absent is none)",
    }
)


def partition_path(row: Mapping[str, Any], run_id: str) -> PurePosixPath:
    """Return where the file of a run lies: `results/model=../instance=../target=../run-<run_id>.parquet`.

    `/` in the model becomes `_`; an absent value takes the Hive name for NULL. Raises `InvalidInput` where a part could
    leave its folder or be read back as something else.
    """
    parts = {
        "model": (row.get("model_name") or "").replace("/", "_"),
        "instance": row.get("instance_type") or "",
        "target": row.get("deployment_target") or "",
    }
    problems = [
        f"{name}: {value!r} cannot name a folder (letters, digits and _ . + @ ~ - only, not starting with a dot)"
        for name, value in parts.items()
        if value and not _PATH_PART.fullmatch(value)
    ]
    if not _RUN_ID.fullmatch(run_id):
        problems.append(f"run_id: {run_id!r} cannot name a file (letters, digits and _ . - only)")
    if problems:
        raise InvalidInput("result path", problems)
    folders = [f"{name}={value or _NULL_PARTITION}" for name, value in parts.items()]
    return PurePosixPath("results", *folders, f"run-{run_id}.parquet")
