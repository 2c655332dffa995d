"""Priority targets: what a person wants proven before the prover spends anything on gaps.

Belongs here: the targets document (its fields, its mistakes, its defaults), which target is next, and turning one into a
configuration. Not here: reading the file, what evidence there is (`standing.py`), choosing among gaps (`planning.py`).
Source of the rules: `{version, defaults, targets[], proven[]}`; the first pending target that is not proven goes first,
with the defaults overlaid; identity is the whole vector, not the model name alone.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from catalog.model import OPEN_FAMILIES, Catalog, Server, nearest
from catalog.reading import Fields, records
from mlcc_dagster.core.configuration import (
    Configuration,
    Vector,
    normal_quantization,
    normal_target,
    text_value,
)
from mlcc_dagster.core.constraints import refusals
from mlcc_dagster.core.exceptions import InvalidInput, UsageError
from mlcc_dagster.core.resolution import CanRun, Unresolved
from mlcc_dagster.core.stages import SPELLINGS, TECHNIQUES, TUNING_STAGES, Stage, stages_named
from mlcc_dagster.core.standing import row_vector

VERSION = 1
"""The version of the document that is read here; an absent one counts as this."""

_PARAMETER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_ARN = r"arn:[a-z0-9-]+:\S+"
_MAX_MODEL_LEN, _TENSOR_PARALLEL_SIZE, _QUANTIZATION = "max_model_len", "tensor_parallel_size", "quantization"


class TargetStatus(StrEnum):
    """What a targets document may say of a target."""

    PENDING = "pending"
    PROVEN = "proven"
    FAILED = "failed"
    UNFEASIBLE = "unfeasible"


@dataclass(frozen=True, kw_only=True)
class Target:
    """One target with the defaults overlaid; none where neither says anything. `status` is as written. `stages` are
    spellings of the stage table. `serving_params` are texts, `capacity_reservation_arn` goes to deploy."""

    model_name: str
    status: TargetStatus | None = None
    instance_type: str | None = None
    deployment_config: str | None = None
    deployment_target: str | None = None
    quantization: str | None = None
    tp_degree: int | None = None
    workload: str | None = None
    stages: tuple[str, ...] = ()
    serving_params: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    capacity_reservation_arn: str | None = None

    @property
    def asked_stages(self) -> frozenset[Stage]:
        """The stages that the target names, empty where it leaves them to the lifecycle."""
        return frozenset(stage for spelling in self.stages for stage in stages_named(spelling))

    @property
    def tunes(self) -> bool:
        """Whether the target names a tuning stage."""
        return bool(self.asked_stages & TUNING_STAGES)

    @property
    def technique(self) -> str | None:
        """The technique of a stage `tune-<technique>`, none where no stage names one."""
        return next(iter(_techniques(self.stages)), None)

    def to_json(self) -> dict[str, Any]:
        """Return what is set, under the names of the document. The status is left out: it is the list's, not the
        target's own."""
        plain = (*_TEXT_FIELDS, "tp_degree")
        given: dict[str, Any] = {"model_name": self.model_name} | {name: getattr(self, name) for name in plain}
        given |= {"stages": list(self.stages), "serving_params": dict(self.serving_params)}
        if self.capacity_reservation_arn:
            given["infra_params"] = {"capacity_reservation_arn": self.capacity_reservation_arn}
        return {name: value for name, value in given.items() if value not in (None, [], {})}

    def __str__(self) -> str:
        return " ".join(part for part in (self.deployment_config, self.model_name, self.instance_type) if part)


@dataclass(frozen=True)
class TargetList:
    """A targets document: what is wanted, in order, and what it names as proven already."""

    targets: tuple[Target, ...]
    proven: tuple[Target, ...] = ()


_TEXT_FIELDS = ("instance_type", "deployment_config", "deployment_target", "quantization", "workload")
_FIELD_OF = MappingProxyType({"infra_params": "capacity_reservation_arn"})


# ---- reading


def read_targets(document: Any, *, source: str) -> TargetList:
    """Read a targets document from plain values, as YAML or JSON gives them; `source` names it in the mistakes.

    What a target says replaces the default of that name as a whole, `serving_params` included; a null takes a default
    back. The entries of `proven` get the defaults too. Names are not looked up: that is `resolve_target`. Raises
    `InvalidInput` with every mistake: unknown keys, wrong types, a missing model name, an unknown status or stage.
    """
    problems: list[str] = []
    base = f"{source}: "
    top = Fields(document, base, problems)
    if not isinstance(document, dict):
        raise InvalidInput(source, problems)
    version = top.raw("version", required=False)
    if text_value(version) not in ("", str(VERSION)):
        top.wrong(
            "version", f"must be {VERSION}, not {version!r}; update mlcc, or write the document in version {VERSION}"
        )
    defaults = _read_defaults(top)
    for name in ("targets", "proven"):
        top.raw(name, required=False)
    top.close()
    targets = _read_list(document, "targets", base, defaults, problems)
    proven = _read_list(document, "proven", base, defaults, problems) if document.get("proven") is not None else ()
    if problems:
        raise InvalidInput(source, problems)
    return TargetList(targets, proven)


def _read_defaults(top: Fields) -> dict[str, Any]:
    fields = top.inner("defaults", required=False)
    if fields is None:
        return {}
    given = _read_optional(fields, top.raw("defaults"))
    for name in ("model_name", "status"):
        if fields.raw(name, required=False) is not None:
            fields.wrong(name, "belongs to each target; take it out of the defaults")
    fields.close()
    return given


def _read_list(
    document: Mapping[str, Any], key: str, base: str, defaults: Mapping[str, Any], problems: list[str]
) -> tuple[Target, ...]:
    targets = []
    for path, raw in records(document, key, base, problems):
        fields = Fields(raw, path, problems)
        among = list(TargetStatus) if key == "targets" else [TargetStatus.PROVEN]
        model_name = fields.text("model_name")
        status = fields.text("status", required=False, nullable=True, among=[each.value for each in among])
        values = {**defaults, **_read_optional(fields, raw)}
        fields.close()
        if fields.sound:
            target = Target(model_name=model_name, status=TargetStatus(status) if status else None, **values)
            problems += [f"{path}.serving_params: {problem}" for problem in _contradictions(target)]
            targets.append(target)
    return tuple(targets)


def _read_optional(fields: Fields, raw: Any) -> dict[str, Any]:
    """Return the fields that a mapping has, by the names of `Target`; what it does not have is left to the defaults."""
    read: dict[str, Any] = {name: fields.text(name, required=False, nullable=True) for name in _TEXT_FIELDS}
    read["tp_degree"] = fields.number("tp_degree", required=False, nullable=True, whole=True, at_least=1)
    read["stages"] = () if fields.raw("stages", required=False) is None else fields.texts("stages", among=SPELLINGS)
    if len(_techniques(read["stages"])) > 1:
        fields.wrong("stages", f"tunes by {' and '.join(_techniques(read['stages']))}; keep one technique")
    read["serving_params"] = _read_parameters(fields)
    infra = fields.inner("infra_params", required=False)
    read["infra_params"] = None
    if infra is not None:
        arn = infra.text("capacity_reservation_arn", required=False, nullable=True, pattern=_ARN)
        infra.close()
        read["infra_params"] = arn
    given = raw if isinstance(raw, dict) else {}
    return {_FIELD_OF.get(name, name): value for name, value in read.items() if name in given}


def _techniques(stages: Iterable[str]) -> list[str]:
    return [each for each in TECHNIQUES if f"tune-{each}" in stages]


def _read_parameters(fields: Fields) -> Mapping[str, str]:
    """Read serving parameters: names that can be environment variables, values that are written out as one line."""
    raw = fields.raw("serving_params", required=False)
    if raw is None:
        return MappingProxyType({})
    if not isinstance(raw, dict):
        fields.wrong("serving_params", f"must be a mapping of parameter names to values, not {raw!r}")
        return MappingProxyType({})
    for name, value in raw.items():
        if not isinstance(name, str) or not _PARAMETER.fullmatch(name):
            fields.wrong("serving_params", f"{name!r} cannot name an environment variable; use letters, digits and _")
        if not _is_parameter_value(value):
            fields.wrong("serving_params", f"'{name}' must be one line of text, a number, true or false, not {value!r}")
    for name, count in Counter(str(name).upper() for name in raw).items():
        if count > 1:
            fields.wrong("serving_params", f"{name} is given {count} times in different letters; keep one")
    # Texts stay as they are, as a configuration keeps them: a server may tell '1.0' from '1'.
    return MappingProxyType(
        {str(name): value if isinstance(value, str) else text_value(value) for name, value in raw.items()}
    )


def _is_parameter_value(value: Any) -> bool:
    if isinstance(value, str):
        return value.isprintable()
    return isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value))


def _own_parameter(target: Target, name: str) -> str | None:
    return next((value for key, value in target.serving_params.items() if key.lower() == name), None)


def _contradictions(target: Target) -> list[str]:
    """Say where serving parameters speak of what is a field of its own and say something else: the server would run
    what the parameter says, and the result would be filed under what the field says."""
    problems = []
    for name in (_MAX_MODEL_LEN, _TENSOR_PARALLEL_SIZE):
        value = _own_parameter(target, name)
        if value is not None and not (value.isdecimal() and int(value) > 0):
            problems.append(f"{name} must be a whole number above 0, not '{value}'")
    said = _own_parameter(target, _TENSOR_PARALLEL_SIZE)
    if said is not None and target.tp_degree is not None and said.isdecimal() and int(said) != target.tp_degree:
        problems.append(f"{_TENSOR_PARALLEL_SIZE} {said} contradicts tp_degree {target.tp_degree}; keep tp_degree")
    said = _own_parameter(target, _QUANTIZATION)
    wanted = target.quantization
    if said is not None and wanted is not None and normal_quantization(said) != normal_quantization(wanted):
        problems.append(f"{_QUANTIZATION} '{said}' contradicts quantization '{wanted}'; keep quantization")
    return problems


# ---- configurations


def declared_configuration(target: Target, catalog: Catalog) -> Configuration | Unresolved:
    """Return the configuration that a target declares, or why it declares none; whether it can exist is not asked.

    What the catalog entry of the same five fields declares stands where the target says nothing, so that the
    configuration has the entry's id; without such an entry an unset tp_degree is the GPU count of the instance, 1 without
    GPUs. LoRA is on where the target tunes: what is tuned is an adapter. Serving parameters that are a field of their
    own (`max_model_len`, `tensor_parallel_size`, `quantization`) become that field.
    """
    absent = [name for name in ("deployment_config", "instance_type") if getattr(target, name) is None]
    if absent:
        return Unresolved(
            f"target {target} names no {' and no '.join(absent)}; add it to the target or to the defaults"
        )
    config_name, instance_type = target.deployment_config or "", target.instance_type or ""
    deployment_target = normal_target(target.deployment_target)
    looked_up: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
        ("deployment_config", config_name, catalog.deployment_configs),
        ("instance_type", instance_type, catalog.instances),
        ("deployment_target", deployment_target, catalog.deployment_targets),
    )
    unknown = [f"{name} '{value}' ({nearest(value, known)})" for name, value, known in looked_up if value not in known]
    if unknown:
        return Unresolved(f"the catalog has no {', no '.join(unknown)}; correct the target or add it to the catalog")
    instance = catalog.instances[instance_type]
    region = catalog.local_region if instance.local else catalog.path_region
    entry = catalog.owner_of(config_name, target.model_name, instance_type, region, deployment_target)
    declared = entry.serving_params if entry else {}
    declared_degree = entry.tp_degree if entry else None
    own = {_MAX_MODEL_LEN, _TENSOR_PARALLEL_SIZE, _QUANTIZATION}
    length, degree = (_own_parameter(target, name) for name in (_MAX_MODEL_LEN, _TENSOR_PARALLEL_SIZE))
    return Configuration(
        deployment_config=config_name,
        model_name=target.model_name,
        model_family=catalog.family_of(target.model_name),
        instance_type=instance_type,
        region=region,
        deployment_target=deployment_target,
        quantization=target.quantization or _own_parameter(target, _QUANTIZATION) or "none",
        tp_degree=target.tp_degree or int(degree or declared_degree or max(instance.gpu_count, 1)),
        max_model_len=int(length) if length else entry.max_model_len if entry else None,
        enable_lora=bool(entry and entry.enable_lora) or target.tunes,
        serving_params={
            **declared,
            **{key: value for key, value in target.serving_params.items() if key.lower() not in own},
        },
    )


def resolve_target(target: Target, catalog: Catalog, can_run: CanRun) -> Configuration | Unresolved:
    """Return the configuration that would prove a target, or why there is none.

    Beyond `declared_configuration`: the model and the workload are in the catalog, no declared constraint refutes the
    configuration (those on tuning where the target tunes), and the executor can run it.
    """
    configuration = declared_configuration(target, catalog)
    if isinstance(configuration, Unresolved):
        return configuration
    if target.model_name not in catalog.models:
        near = nearest(target.model_name, catalog.models) if "/" in target.model_name else "use its hub id"
        return Unresolved(f"the catalog has no model '{target.model_name}' ({near}); add it to models.yaml")
    if target.workload is not None and target.workload not in catalog.workloads:
        near = nearest(target.workload, catalog.workloads)
        return Unresolved(f"the catalog has no workload '{target.workload}' ({near}); add it to workloads.yaml")
    broken = refusals(configuration, catalog, tuning=target.tunes)
    if broken:
        return Unresolved(broken[0].sentence, broken[0])
    reason = can_run(configuration)
    return configuration if reason is None else Unresolved(reason)


def server_environment(parameters: Mapping[str, str], server: Server) -> dict[str, str]:
    """Return serving parameters as environment variables of the container: `<prefix><KEY>`, which is
    `SM_VLLM_<KEY>=<value>` for vLLM; keys in upper case, other servers by their own prefix in the catalog.

    Raises `UsageError` where there are parameters and the server takes none this way.
    """
    if parameters and server.env_prefix is None:
        raise UsageError(
            f"server {server.name} takes no serving parameters from its environment ({', '.join(parameters)}); "
            "leave them out or give it an env_prefix in servers.yaml"
        )
    return {f"{server.env_prefix}{key.upper()}": value for key, value in parameters.items()}


# ---- what is next


@dataclass(frozen=True)
class Judged:
    """A target and what holds of it: `status` none where a selection counts it as nothing; `why` is set where evidence
    and not the document decided."""

    target: Target
    status: TargetStatus | None
    why: str | None = None


TargetIdentity = Callable[[Target, Catalog], Hashable | None]
"""What makes two targets one; none where that cannot be told, and then it equals no other."""
ProofIdentity = Callable[[Mapping[str, Any]], Hashable | None]
"""The same of a proof: a result row, or the configuration of a run that succeeded; none where it proves nothing."""


@dataclass(frozen=True)
class Selection:
    """One way to choose among targets, by name. `unstated` is what a target without status counts as, none where it
    counts as nothing."""

    name: str
    of_target: TargetIdentity
    of_proof: ProofIdentity
    unstated: TargetStatus | None

    def judged(
        self, document: TargetList, catalog: Catalog, *, proofs: Iterable[Mapping[str, Any]] = ()
    ) -> tuple[Judged, ...]:
        """Return every target in order, then the proven ones of the document, with what holds of each.

        A pending target that `proofs` or the document's proven ones have is proven. For `v1` proofs are result rows,
        of which only completed ones count; for `compat` they are configurations that succeeded.
        """
        known = {identity: "a completed run" for identity in map(self.of_proof, proofs) if identity is not None}
        listed = (self.of_target(target, catalog) for target in document.proven)
        known |= {identity: "the list of proven ones" for identity in listed if identity is not None}
        judged = [self._judge(target, self.of_target(target, catalog), known) for target in document.targets]
        return (*judged, *(Judged(target, TargetStatus.PROVEN) for target in document.proven))

    def open_targets(
        self, document: TargetList, catalog: Catalog, *, proofs: Iterable[Mapping[str, Any]] = ()
    ) -> tuple[Target, ...]:
        """Return the pending targets that are not proven, in the order of the document: the first is the next.

        One that nothing can make concrete stays in (`resolve_target` says why), so that it is reported and not lost.
        """
        judged = self.judged(document, catalog, proofs=proofs)
        return tuple(each.target for each in judged if each.status is TargetStatus.PENDING)

    def counts(
        self, document: TargetList, catalog: Catalog, *, proofs: Iterable[Mapping[str, Any]] = ()
    ) -> dict[str, int]:
        """Return `total` (targets and the document's proven ones) and how many are pending, proven, failed and
        unfeasible."""
        judged = self.judged(document, catalog, proofs=proofs)
        by_status = Counter(each.status for each in judged)
        return {"total": len(judged)} | {status.value: by_status[status] for status in TargetStatus}

    def _judge(self, target: Target, identity: Hashable | None, known: Mapping[Hashable, str]) -> Judged:
        status = target.status or self.unstated
        if status is TargetStatus.PENDING and identity in known:  # none is never known
            return Judged(target, TargetStatus.PROVEN, f"{_shown(identity)} is proven by {known[identity]}")
        return Judged(target, status)


def _shown(identity: Hashable) -> str:
    return " · ".join(map(str, identity)) if isinstance(identity, tuple) else str(identity)


def _with_open_name(vector: Vector, model_name: str | None) -> Hashable:
    """Two models of a family that says nothing are one only if their names are."""
    return (vector, model_name or "none") if vector.model_family in OPEN_FAMILIES else vector


def _target_vector(target: Target, catalog: Catalog) -> Hashable | None:
    configuration = declared_configuration(target, catalog)
    if isinstance(configuration, Unresolved):
        return None
    return _with_open_name(configuration.vector, configuration.model_name)


def _row_vector(row: Mapping[str, Any]) -> Hashable | None:
    if row.get("status") != "completed":  # all rows of a store may be passed; a failed one proves nothing
        return None
    return _with_open_name(row_vector(row), row.get("model_name"))


def _target_name(target: Target, catalog: Catalog) -> str:
    return target.model_name


def _row_name(row: Mapping[str, Any]) -> str | None:
    return row.get("model_name")


SELECTIONS: Mapping[str, Selection] = MappingProxyType(
    {
        each.name: each
        for each in (
            Selection("v1", _target_vector, _row_vector, TargetStatus.PENDING),
            Selection("compat", _target_name, _row_name, None),
        )
    }
)
"""Selections by name. `v1`: identity is the whole vector, a missing status is pending. `compat`, as existing
installations choose: identity is the model name, and a target without status is never chosen nor counted as pending."""


def selection_named(name: str) -> Selection:
    """Return the selection of that name. Raises `UsageError` naming the known ones."""
    try:
        return SELECTIONS[name]
    except KeyError:
        raise UsageError(f"unknown selection '{name}'; use one of {', '.join(SELECTIONS)}") from None


def compat_successes(results: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the configurations of the results that succeeded, from the `previousResults` of an event: `{success,
    config}` each. They are proofs for the selection `compat`."""
    return [result["config"] for result in results if result.get("success") is True and result.get("config")]
