"""Measurements that may be compared: like with like, in the order in which they were made.

Belongs here: reading result rows into buckets of measurements. Not here: what is compared (`compared_metrics.py`), with what
(`measured_baselines.py`), predictions across buckets (`measured_points.py`).
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from mlcc_dagster.core.compared_metrics import COMPARED
from mlcc_dagster.core.configuration import normal_quantization, normal_target, text_value
from mlcc_dagster.core.efficiency import SIGNALS
from mlcc_dagster.core.result_columns import is_null, moment_of
from mlcc_dagster.core.standing import IMPORTED

GROUND_NAMES: tuple[str, ...] = ("template", "model", "weights", "base_image", "python")
"""The digests of a row's evidence that say what was measured. Not the image: it is another one after every build that is not
reproducible."""

ROW_COLUMNS: tuple[str, ...] = (
    "config_id",
    "executor",
    "model_name",
    "deployment_config",
    "deployment_target",
    "quantization",
    "tensor_parallel_degree",
    "instance_type",
    "gpu_type",
    "adapter_name",
    "workload",
    "concurrency",
    "run_id",
    "run_timestamp",
    "status",
    "failure_stage",
    "engine",
    "evidence",
    "metrics_source",
    *SIGNALS,
    *COMPARED,
)
"""The columns that are read of a result row."""


Subject = tuple[str, str]
"""A configuration's id, and the executor that ran it: what runs one after the other."""


@dataclass(frozen=True, order=True)
class Bucket:
    """What two measurements have in common when they may be compared: configuration, executor, model and server, target,
    quantization, tensor parallelism, hardware (instance type and GPU), adapter, workload and concurrency. Source: the rules
    of benchmark regressions. All texts, empty where a row does not say; concurrency 0 where it does not."""

    config_id: str
    executor: str
    model_name: str
    deployment_config: str
    deployment_target: str
    quantization: str
    tp_degree: str
    instance_type: str
    gpu_type: str
    adapter_name: str
    workload: str
    concurrency: int

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Bucket":
        """Read the bucket of a result row; tensor parallelism under either of its names."""
        texts = {each.name: text_value(row.get(each.name)) for each in fields(cls) if each.name != "concurrency"}
        degree = row.get("tensor_parallel_degree")
        return cls(
            **texts
            | {
                "executor": texts["executor"] or IMPORTED,
                "deployment_target": normal_target(texts["deployment_target"]),
                "quantization": normal_quantization(texts["quantization"]),
                "tp_degree": texts["tp_degree"] if is_null(degree) else text_value(degree),
            },
            concurrency=int(row.get("concurrency") or 0),
        )

    @property
    def subject(self) -> Subject:
        """The configuration and the executor that ran it."""
        return self.config_id, self.executor

    @property
    def load(self) -> str:
        """The workload and concurrency in words."""
        return f"{self.workload or 'an unnamed workload'} x {self.concurrency}"

    def to_json(self) -> dict[str, Any]:
        """Return what is held equal as JSON values; absent is null."""
        return {
            "workload": self.workload or None,
            "concurrency": self.concurrency or None,
            "deployment_target": self.deployment_target,
            "quantization": self.quantization,
            "tp_degree": self.tp_degree or None,
            "instance_type": self.instance_type or None,
            "gpu_type": self.gpu_type or None,
            "adapter_name": self.adapter_name or None,
            "executor": self.executor,
        }


@dataclass(frozen=True)
class Measurement:
    """What one run measured in one bucket: the compared metrics it has, by column, each finite and above 0; `ground` what
    was measured (digests and engine by name); `observed` the engine's own signals, by column. `at` in UTC."""

    run_id: str
    at: datetime
    values: Mapping[str, float]
    ground: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    observed: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class FailedRun:
    """The newest run of a configuration, where it failed after its newest measurement."""

    run_id: str
    at: datetime
    stage: str


@dataclass(frozen=True)
class MeasuredSeries:
    """All measurements by bucket, oldest first; `failed` by configuration and executor, where the newest run failed and
    nothing was measured since."""

    buckets: Mapping[Bucket, tuple[Measurement, ...]]
    failed: Mapping[Subject, FailedRun]

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> "MeasuredSeries":
        """Read result rows in any order. Completed ones with a concurrency and at least one usable metric are measurements:
        a value that is not finite or not above 0 was not recorded. A row whose time cannot be read counts as older than
        all."""
        found: dict[Bucket, list[Measurement]] = {}
        newest: dict[Subject, datetime] = {}
        failures: dict[Subject, FailedRun] = {}
        for row in rows:
            at = _time(row.get("run_timestamp"))
            who = text_value(row.get("config_id")), text_value(row.get("executor")) or IMPORTED
            if row.get("status") != "completed":
                if who not in failures or failures[who].at < at:
                    stage = text_value(row.get("failure_stage")) or "an unknown stage"
                    failures[who] = FailedRun(text_value(row.get("run_id")), at, stage)
                continue
            values = usable_values(row, COMPARED)
            if values and row.get("concurrency"):
                newest[who] = max(at, newest.get(who, at))
                measured = Measurement(
                    text_value(row.get("run_id")), at, values, _ground(row), usable_values(row, SIGNALS, zero=True)
                )
                found.setdefault(Bucket.of(row), []).append(measured)
        buckets = {key: tuple(sorted(found[key], key=lambda each: (each.at, each.run_id))) for key in sorted(found)}
        failed = {who: each for who, each in failures.items() if who in newest and newest[who] < each.at}
        return cls(MappingProxyType(buckets), MappingProxyType(failed))

    @property
    def subjects(self) -> tuple[Subject, ...]:
        """What was measured, sorted."""
        return tuple(sorted({bucket.subject for bucket in self.buckets}))


_NO_TIME = datetime.min.replace(tzinfo=UTC)


def _time(value: Any) -> datetime:
    try:
        return moment_of(value) or _NO_TIME
    except ValueError:
        return _NO_TIME


def usable_values(row: Mapping[str, Any], names: Iterable[str], *, zero: bool = False) -> Mapping[str, float]:
    """Return the values of some columns that were really recorded: finite numbers above 0, with `zero` also 0."""
    found: dict[str, float] = {}
    for name in names:
        value = row.get(name)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
            continue
        if value > 0 or (zero and value == 0):
            found[name] = float(value)
    return MappingProxyType(found)


def _ground(row: Mapping[str, Any]) -> Mapping[str, str]:
    try:
        document = json.loads(row.get("evidence") or "{}")
    except (TypeError, ValueError):
        document = {}
    digests = document if isinstance(document, dict) else {}
    ground = {name: str(digests[name]) for name in GROUND_NAMES if digests.get(name) is not None}
    if row.get("engine"):
        ground["engine"] = str(row["engine"])
    return MappingProxyType(ground)
