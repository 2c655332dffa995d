"""Result rows as settings and what they measured, for recommendations.

Belongs here: reading settings from rows and configurations, and what else two rows must have in common to be compared. Not
here: comparing (`recommendation.py`).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from mlcc_dagster.core.compared_metrics import COMPARED
from mlcc_dagster.core.configuration import (
    Configuration,
    instance_family,
    normal_quantization,
    normal_target,
    text_value,
)
from mlcc_dagster.core.measured_series import usable_values
from mlcc_dagster.core.result_columns import is_null
from mlcc_dagster.core.standing import IMPORTED

DIMENSIONS: tuple[str, ...] = ("quantization", "tensor_parallel_degree", "max_model_len", "kv_cache_dtype")
"""What is advised on, in the order of reports. Source: the rules of recommendations."""

ROW_COLUMNS: tuple[str, ...] = (
    "config_id",
    "model_name",
    "model_family",
    "instance_type",
    "deployment_config",
    "deployment_target",
    "executor",
    "adapter_name",
    "workload",
    "concurrency",
    "benchmark_job_name",
    "run_id",
    "status",
    "serving_config",
    *DIMENSIONS,
    *COMPARED,
)
"""The columns that are read of a result row."""

_NOT_OTHERWISE = frozenset({*DIMENSIONS, "tensor_parallel_size", "base_image", "adapter_name"})
"""Keys of a serving configuration that are dimensions, or say nothing of how it serves."""

Setting = str | int | None
"""A value of a dimension; none where it is not known."""


@dataclass(frozen=True)
class Subject:
    """The configuration that is to be improved. `deployment_config` is none where any server will do; a setting is none where it
    is not known."""

    model_name: str
    model_family: str
    instance_type: str
    deployment_config: str | None
    deployment_target: str
    settings: Mapping[str, Setting]

    @classmethod
    def of(cls, configuration: Configuration) -> "Subject":
        """Return a configuration as the subject. What it does not set is the server's default: full precision and an automatic
        type of the key-value cache are known, a context length is not."""
        return cls(
            model_name=configuration.model_name or "",
            model_family=configuration.model_family,
            instance_type=configuration.instance_type,
            deployment_config=configuration.deployment_config,
            deployment_target=configuration.deployment_target,
            settings=MappingProxyType(
                {
                    "quantization": configuration.quantization,
                    "tensor_parallel_degree": configuration.tp_degree,
                    "max_model_len": configuration.max_model_len,
                    "kv_cache_dtype": configuration.serving_params.get("kv_cache_dtype", "auto"),
                }
            ),
        )

    @classmethod
    def measured(cls, samples: Sequence["Sample"]) -> "Subject":
        """Return what all samples (one or more) of one configuration say: a setting on which they do not agree, or of which
        none speaks, is not known."""
        first = samples[0]
        return cls(
            model_name=first.model_name,
            model_family=first.model_family,
            instance_type=first.instance_type,
            deployment_config=first.deployment_config,
            deployment_target=first.deployment_target,
            settings=MappingProxyType({name: common_setting(samples, name) for name in DIMENSIONS}),
        )

    def with_common(self, samples: Sequence["Sample"]) -> "Subject":
        """Return the subject with every setting in which all samples that speak of it agree; the others stay."""
        common = {name: common_setting(samples, name) for name in DIMENSIONS}
        known = {name: value for name, value in common.items() if value is not None}
        return replace(self, settings=MappingProxyType({**self.settings, **known}))

    def of_any_server(self) -> "Subject":
        """Return the subject behind any server."""
        return replace(self, deployment_config=None)

    @property
    def instance_family(self) -> str:
        """The family of the instance type."""
        return instance_family(self.instance_type)

    def to_json(self) -> dict[str, Any]:
        """Return the subject as JSON values."""
        return {
            "model_name": self.model_name,
            "instance_type": self.instance_type,
            "deployment_config": self.deployment_config,
            "deployment_target": self.deployment_target,
            "current": dict(self.settings),
        }


@dataclass(frozen=True)
class Sample:
    """What one run measured under one load with one setting. `otherwise` is whatever else shaped serving."""

    config_id: str
    model_name: str
    model_family: str
    instance_type: str
    deployment_config: str
    deployment_target: str
    executor: str
    adapter_name: str
    workload: str
    concurrency: int
    otherwise: tuple[tuple[str, str], ...]
    settings: Mapping[str, Setting]
    run_id: str
    job: str | None
    values: Mapping[str, float]

    @property
    def instance_family(self) -> str:
        """The family of the instance type."""
        return instance_family(self.instance_type)

    def all_but(self, dimension: str) -> tuple[Any, ...]:
        """Return everything that two samples must have in common when only `dimension` may differ."""
        return (
            self.model_name,
            self.instance_type,
            self.deployment_config,
            self.deployment_target,
            self.executor,
            self.adapter_name,
            self.workload,
            self.concurrency,
            self.otherwise,
            *(self.settings[name] for name in DIMENSIONS if name != dimension),
        )

    def load_json(self) -> dict[str, Any]:
        """Return what it was measured on and under which load as JSON values."""
        return {
            "model_name": self.model_name,
            "instance_type": self.instance_type,
            "workload": self.workload or None,
            "concurrency": self.concurrency or None,
            "executor": self.executor,
        }


def samples_of(rows: Iterable[Mapping[str, Any]]) -> tuple[Sample, ...]:
    """Read completed rows with at least one usable metric, in their order. A row that does not say its status counts as
    completed."""
    return tuple(
        _sample(row, values)
        for row in rows
        if row.get("status", "completed") == "completed" and (values := usable_values(row, COMPARED))
    )


def common_setting(samples: Iterable[Sample], dimension: str) -> Setting:
    """Return the value of a dimension that all samples which say it have; none where they differ or none says it."""
    values = {each.settings[dimension] for each in samples} - {None}
    return values.pop() if len(values) == 1 else None


def _sample(row: Mapping[str, Any], values: Mapping[str, float]) -> Sample:
    serving = _serving(row.get("serving_config"))
    model = text_value(row.get("model_name"))
    return Sample(
        config_id=text_value(row.get("config_id")),
        model_name=model,
        model_family=text_value(row.get("model_family")),
        instance_type=text_value(row.get("instance_type")),
        deployment_config=text_value(row.get("deployment_config")),
        deployment_target=normal_target(text_value(row.get("deployment_target"))),
        executor=text_value(row.get("executor")) or IMPORTED,
        adapter_name=text_value(row.get("adapter_name")),
        workload=text_value(row.get("workload")),
        concurrency=int(row.get("concurrency") or 0),
        otherwise=tuple(
            sorted((name, text_value(value)) for name, value in serving.items() if name not in _NOT_OTHERWISE)
        ),
        settings=MappingProxyType(
            {
                "quantization": normal_quantization(text_value(row.get("quantization"))),
                "tensor_parallel_degree": _whole(row.get("tensor_parallel_degree")),
                "max_model_len": _whole(row.get("max_model_len")),
                "kv_cache_dtype": text_value(row.get("kv_cache_dtype"))
                or text_value(serving.get("kv_cache_dtype"))
                or None,
            }
        ),
        run_id=text_value(row.get("run_id")),
        job=text_value(row.get("benchmark_job_name")) or None,
        values=values,
    )


def _serving(text: Any) -> Mapping[str, Any]:
    try:
        document = json.loads(text or "{}")
    except (TypeError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _whole(value: Any) -> int | None:
    return None if is_null(value) or not text_value(value).isdecimal() else int(text_value(value))
