"""The settings that a search may try: what may be changed of a configuration, and which combinations can run.

Belongs here: dimensions made concrete for one configuration, settings as configurations and back from result rows. Not here: which
dimensions there are (the catalog), what a search does with them (`optimization.py`), asking an executor.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

from catalog.model import VCPUS, Catalog, Model, SearchDimension, Workload
from mlcc_dagster.core.compared_metrics import ComparedMetric
from mlcc_dagster.core.configuration import Configuration, normal_quantization, normal_target, text_value
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.measured_series import usable_values
from mlcc_dagster.core.result_columns import moment_of
from mlcc_dagster.core.standing import IMPORTED

Value = str | int | None
"""A value of a dimension; none where the server decides."""

Setting = tuple[Value, ...]
"""One value for each axis of a space, in their order."""

Refusal = Callable[[Configuration], str | None]
"""Says why a configuration cannot run, none when it can."""

ROW_COLUMNS: tuple[str, ...] = (
    *("model_name", "instance_type", "deployment_config", "deployment_target", "region", "executor", "engine"),
    *("quantization", "tensor_parallel_degree", "max_model_len", "enable_lora", "adapter_name", "serving_config"),
    *("workload", "concurrency", "status", "run_id", "run_timestamp", "failure_reason"),
)
"""The columns that are read of a result row, beside that of the metric."""

_FIELDS = frozenset({"quantization", "tp_degree", "max_model_len"})
_NO_PARAMETERS = frozenset(
    {"quantization", "tensor_parallel_degree", "tensor_parallel_size", "enable_lora", "max_model_len"}
    | {"base_image", "adapter_name"}
)


@dataclass(frozen=True)
class Axis:
    """One dimension of a search: `values` in the order of the catalog, with that of the present configuration (`present`)
    among them. `default` is what a configuration runs with that does not set it, none where the server decides."""

    name: str
    sets: str
    values: tuple[Value, ...]
    present: Value
    default: Value

    @property
    def ordered(self) -> bool:
        """Whether the values are numbers, so that near ones are alike."""
        return all(isinstance(value, int) for value in self.values)

    def of(self, configuration: Configuration) -> Value:
        """Return the value that a configuration runs with."""
        parameters = configuration.serving_params
        value = getattr(configuration, self.sets) if self.sets in _FIELDS else parameters.get(self.sets)
        return _value(value, self.values, self.default)

    def put(self, configuration: Configuration, value: Value) -> Configuration:
        """Return the configuration with a value. What is the default is not written down, so that one setting has one id; what the
        configuration has already stays as it is written."""
        if self.of(configuration) == value:
            return configuration
        if self.sets in ("quantization", "tp_degree"):
            return replace(configuration, **{self.sets: value})
        written = None if value == self.default else value
        if self.sets in _FIELDS:
            return replace(configuration, **{self.sets: written})
        return replace(configuration, serving_params={**configuration.serving_params, self.sets: written})


@dataclass(frozen=True)
class Space:
    """What a search chooses from: `settings` are the combinations that can run, the present one among them. `left_out` says
    by dimension why nothing, or which value, of it can be tried."""

    configuration: Configuration
    axes: tuple[Axis, ...]
    settings: tuple[Setting, ...]
    left_out: Mapping[str, Mapping[str, str]]

    @property
    def present(self) -> Setting:
        """The setting of the present configuration, which the search has to beat."""
        return tuple(axis.present for axis in self.axes)

    def configured(self, setting: Setting) -> Configuration:
        """Return the configuration with a setting."""
        configuration = self.configuration
        for axis, value in zip(self.axes, setting, strict=True):
            configuration = axis.put(configuration, value)
        return configuration

    def named(self, setting: Setting) -> dict[str, Value]:
        """Return a setting by the names of its dimensions."""
        return {axis.name: value for axis, value in zip(self.axes, setting, strict=True)}

    def changed(self, setting: Setting) -> dict[str, Value]:
        """Return what a setting changes of the present one."""
        return {axis.name: value for axis, value in zip(self.axes, setting, strict=True) if value != axis.present}


def space_of(
    configuration: Configuration,
    catalog: Catalog,
    *,
    workload: Workload,
    refusal: Refusal,
    names: Collection[str] | None = None,
) -> Space:
    """Return the space around a configuration: the sweepable dimensions of its server, or those named.

    A combination is in it when `refusal` says nothing against it, and its context holds a request of the workload and is no longer
    than the model's; the present one is always. Raises
    `UsageError` naming dimensions that do not exist or are declared for later, and where no dimension is left with a choice.
    """
    declared = {each.name: each for each in catalog.search_space(configuration.deployment_config)}
    _check_names(declared, names)
    chosen = [each for each in declared.values() if each.sweepable and (names is None or each.name in names)]
    vcpus = catalog.instances[configuration.instance_type].vcpus
    axes = tuple(_axis(each, configuration, vcpus) for each in chosen)
    local = catalog.instances[configuration.instance_type].local
    model = catalog.models.get(configuration.model_name or "")

    def refused(each: Configuration) -> str | None:
        return _wrong_length(each, workload, model, local=local) or refusal(each)

    whole = Space(configuration, axes, (), MappingProxyType({}))
    possible = [
        setting
        for setting, each in _combinations(configuration, axes)
        if setting == whole.present or refused(each) is None
    ]
    left_out: dict[str, dict[str, str]] = {}
    kept: list[int] = []
    for place, axis in enumerate(axes):
        there = {setting[place] for setting in possible}
        for value in axis.values:
            if value not in there:
                alone = refused(axis.put(configuration, value))
                left_out.setdefault(axis.name, {})[str(value)] = alone or "no combination with it can run"
        if len(there) > 1:
            kept.append(place)
    if not kept:
        raise UsageError(_nothing_to_search(configuration, left_out))
    return Space(
        configuration,
        tuple(
            replace(axes[place], values=tuple(v for v in axes[place].values if any(v == s[place] for s in possible)))
            for place in kept
        ),
        # the dimensions that have no choice are at their present value in every combination
        tuple(dict.fromkeys(tuple(setting[place] for place in kept) for setting in possible)),
        MappingProxyType({name: MappingProxyType(values) for name, values in left_out.items()}),
    )


def _combinations(configuration: Configuration, axes: Sequence[Axis]) -> Iterator[tuple[Setting, Configuration]]:
    """Yield every combination of values with its configuration, the last axis changing fastest."""
    if not axes:
        yield (), configuration
        return
    for setting, each in _combinations(configuration, axes[:-1]):
        for value in axes[-1].values:
            yield (*setting, value), axes[-1].put(each, value)


def _check_names(declared: Mapping[str, SearchDimension], names: Collection[str] | None) -> None:
    for name in names or ():
        if name not in declared:
            known = ", ".join(each.name for each in declared.values() if each.sweepable) or "none that there are"
            raise UsageError(f"no parameter '{name}' can be searched; use some of {known}")
        if not declared[name].sweepable:
            raise UsageError(f"parameter {name} is declared for later and nothing here can set it yet; leave it out")


def _nothing_to_search(configuration: Configuration, left_out: Mapping[str, Mapping[str, str]]) -> str:
    reasons = [f"{name} {value}: {why}" for name, values in left_out.items() for value, why in values.items()]
    if not reasons:
        return (
            f"no parameter of {configuration} can be searched; add one of its server to catalog/optimization_space.yaml"
        )
    return f"no parameter of {configuration} has another value that can run ({reasons[0]}); name other parameters"


def _axis(dimension: SearchDimension, configuration: Configuration, vcpus: int) -> Axis:
    default = vcpus if dimension.default == VCPUS else dimension.default
    values: Iterable[Value] = dimension.values
    if dimension.sets == "quantization":
        values, default = map(str, values), str(default)
        values, default = map(normal_quantization, values), normal_quantization(default)
    axis = Axis(dimension.name, dimension.sets, tuple(dict.fromkeys(values)), None, default)
    present = axis.of(configuration)
    found = axis.values if present in axis.values else (*axis.values, present)
    ordered = all(isinstance(value, int) for value in found)
    return replace(axis, values=tuple(sorted(found)) if ordered else found, present=present)  # type: ignore[type-var]


def _value(written: Any, values: Collection[Value], default: Value) -> Value:
    if written is None or text_value(written) == "":
        return default
    text = text_value(written)
    return int(text) if all(isinstance(each, int) for each in values) and text.isdecimal() else text


def _wrong_length(configuration: Configuration, workload: Workload, model: Model | None, *, local: bool) -> str | None:
    scaled = workload.local if local and workload.local is not None else workload
    needed = (scaled.input_tokens_mean or 0) + (scaled.output_tokens_mean or 0)
    length = configuration.max_model_len
    longest = None if model is None else model.context_length
    if length is not None and longest is not None and length > longest:
        return f"{length} tokens are more than {configuration.model_name} was made for ({longest})"
    if length is None or length >= needed:
        return None
    return f"{length} tokens do not hold a request of {workload.name}, which takes {needed}"


# ---- what was measured before


@dataclass(frozen=True)
class Like:
    """What results must have in common with a search to count in it, beside the configuration outside its dimensions:
    executor, engine as it is now (none where unknown), workload and concurrency."""

    executor: str
    engine: str | None
    workload: str
    concurrency: int
    metric: ComparedMetric


@dataclass(frozen=True)
class Result:
    """What one run says of a setting: the metric's value, or none where it failed. `feasible` is false where no other try can
    succeed."""

    setting: Setting
    run_id: str
    at: datetime | None
    value: float | None
    feasible: bool = True
    reason: str | None = None


def results_of(space: Space, like: Like, rows: Iterable[Mapping[str, Any]]) -> tuple[Result, ...]:
    """Return what earlier rows say of the settings of a space, like with like alone, in the order of the rows.

    A failed row says no concurrency: it counts at each of its workload. Completed rows without the metric say nothing.
    """
    known = frozenset(space.settings)
    found = []
    for row in rows:
        completed = row.get("status") == "completed"
        if text_value(row.get("workload")) != like.workload or not _is_like(row, like):
            continue
        if completed and row.get("concurrency") != like.concurrency:
            continue
        setting = _setting_of(space, row)
        value = usable_values(row, [like.metric.column]).get(like.metric.column)
        if setting not in known or (completed and value is None):
            continue
        found.append(
            Result(
                setting,
                text_value(row.get("run_id")),
                _moment(row.get("run_timestamp")),
                value if completed else None,
                feasible=row.get("status") != "unfeasible",
                reason=None if completed else text_value(row.get("failure_reason")) or None,
            )
        )
    return tuple(found)


def _is_like(row: Mapping[str, Any], like: Like) -> bool:
    if (text_value(row.get("executor")) or IMPORTED) != like.executor or text_value(row.get("adapter_name")):
        return False
    engine = text_value(row.get("engine"))
    # what preflight refuted was never started, so that no engine answered
    return like.engine is None or engine in (like.engine, "")


def _setting_of(space: Space, row: Mapping[str, Any]) -> Setting | None:
    """Return the setting of a row, none where it is of another configuration."""
    written = _configuration_of(space.configuration, row)
    if written is None:
        return None
    same = _without(written, space.axes) == _without(space.configuration, space.axes)
    return tuple(axis.of(written) for axis in space.axes) if same else None


def _without(configuration: Configuration, axes: Collection[Axis]) -> dict[str, Any]:
    """Return what a configuration says beside the dimensions of the axes."""
    names = {axis.sets for axis in axes}
    document = configuration.to_json()
    others = {name: value for name, value in configuration.serving_params.items() if name not in names}
    return {name: value for name, value in document.items() if name not in names} | {"serving_params": others}


def _configuration_of(present: Configuration, row: Mapping[str, Any]) -> Configuration | None:
    """Return the configuration that a row was measured with, as far as rows say; none where the row is of another model, server,
    instance or target, or cannot be read."""
    same = {
        "instance_type": present.instance_type,
        "deployment_config": present.deployment_config,
        "region": present.region,
        "model_name": _as_in_rows(present.model_name),
    }
    if any(text_value(row.get(name)) != value for name, value in same.items()):
        return None
    if normal_target(text_value(row.get("deployment_target"))) != present.deployment_target:
        return None
    try:
        serving = json.loads(row.get("serving_config") or "{}")
        degree, length = row.get("tensor_parallel_degree"), row.get("max_model_len")
        parameters = {name: value for name, value in serving.items() if name not in _NO_PARAMETERS}
        if parameters.get("kv_cache_dtype") == "auto" and "kv_cache_dtype" not in present.serving_params:
            # every row of a language model says so where nothing was set
            del parameters["kv_cache_dtype"]
        return replace(
            present,
            quantization=text_value(row.get("quantization")),
            tp_degree=int(text_value(degree) or 1),
            max_model_len=int(text_value(length)) if text_value(length) else None,
            enable_lora=bool(row.get("enable_lora")),
            serving_params=parameters,
        )
    except (ValueError, TypeError, AttributeError):
        return None


def _as_in_rows(model_name: str | None) -> str:
    name = model_name or ""
    return name.rstrip("/").rsplit("/", 1)[-1] if name.startswith("s3://") else name


def _moment(value: Any) -> datetime | None:
    try:
        return moment_of(value)
    except ValueError:
        return None
