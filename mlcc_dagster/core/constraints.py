"""The declared constraints evaluated: what refutes a configuration, or a part of one, without spending.

Belongs here: what is known of a configuration, and the code behind the checks that the catalog's constraints name. Not
here: the memory estimate (`preflight.py`), choosing what to run (`resolution.py`). Source of the rules: preflight's
declared constraints.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType

from catalog.model import Catalog, Constraint, DeploymentConfig, DeploymentTarget, Instance, Model
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.preflight import memory_estimate


@dataclass(frozen=True)
class Refusal:
    """One declared constraint that a configuration breaks: `constraint` is `<id>@<version>`, which a verdict cites;
    `sentence` holds the numbers that refute it and what to do."""

    constraint: str
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a configuration: none for what the catalog does not have, or what is left open. A check that
    lacks a fact says nothing, so that what refutes some facts refutes every configuration that has them."""

    catalog: Catalog
    config: DeploymentConfig | None = None
    model: Model | None = None
    model_name: str | None = None
    instance: Instance | None = None
    region: str | None = None
    target: DeploymentTarget | None = None
    quantization: str | None = None
    tp_degree: int | None = None
    max_model_len: int | None = None
    serving_params: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    tuning: bool = False

    def refuted(self) -> bool:
        """Whether some constraint is broken."""
        return next(self.broken(), None) is not None

    def broken(self) -> Iterator[tuple[Constraint, Mapping[str, object]]]:
        """Yield each broken constraint with the values of its sentence, in the catalog's order."""
        for constraint in self.catalog.constraints.values():
            numbers = CHECKS[constraint.check](self)
            if numbers is not None:
                yield constraint, numbers

    def refusals(self) -> tuple[Refusal, ...]:
        """Return each broken constraint as a person reads it."""
        return tuple(Refusal(each.reference, each.sentence.format(**numbers)) for each, numbers in self.broken())


def refusals(configuration: Configuration, catalog: Catalog, *, tuning: bool = False) -> tuple[Refusal, ...]:
    """Return every declared constraint that the configuration breaks, in the catalog's order; empty when none refutes
    it.

    `tuning` says whether the lifecycle tunes, which constraints on tuning ask. A name that the catalog does not have
    breaks nothing: what is not known cannot refute.
    """
    return Facts(
        catalog=catalog,
        config=catalog.deployment_configs.get(configuration.deployment_config),
        model=catalog.models.get(configuration.model_name or ""),
        model_name=configuration.model_name,
        instance=catalog.instances.get(configuration.instance_type),
        region=configuration.region,
        target=catalog.deployment_targets.get(configuration.deployment_target),
        quantization=configuration.quantization,
        tp_degree=configuration.tp_degree,
        max_model_len=configuration.max_model_len,
        serving_params=configuration.serving_params,
        tuning=tuning,
    ).refusals()


def _kind_match(facts: Facts) -> Mapping[str, object] | None:
    config, model = facts.config, facts.model
    if config is None or model is None or config.kind == model.kind:
        return None
    return {
        "deployment_config": config.name,
        "served_kind": config.kind,
        "model_name": model.name,
        "model_kind": model.kind,
    }


def _model_format(facts: Facts) -> Mapping[str, object] | None:
    config, model = facts.config, facts.model
    if config is None or model is None or config.model_formats is None or config.kind != model.kind:
        return None
    if set(config.model_formats) & set(model.formats):
        return None
    return {
        "deployment_config": config.name,
        "served_formats": ", ".join(config.model_formats),
        "model_name": model.name,
        "model_formats": ", ".join(model.formats),
    }


def _tp_within_gpus(facts: Facts) -> Mapping[str, object] | None:
    tp_degree, instance = facts.tp_degree, facts.instance
    if instance is None or tp_degree is None or tp_degree <= max(instance.gpu_count, 1):
        return None
    return {"tp_degree": tp_degree, "instance_type": instance.instance_type, "gpu_count": instance.gpu_count}


def _gpu_needed(facts: Facts) -> Mapping[str, object] | None:
    config, instance = facts.config, facts.instance
    if config is None or instance is None or not config.needs_gpu or instance.gpu_count > 0:
        return None
    return {"deployment_config": config.name, "instance_type": instance.instance_type}


def _server_quantization(facts: Facts) -> Mapping[str, object] | None:
    config, quantization = facts.config, facts.quantization
    if config is None or quantization is None or quantization in config.quantizations:
        return None
    offered = ", ".join(config.quantizations)
    return {"deployment_config": config.name, "quantization": quantization, "offered": offered}


def _accelerator_quantization(facts: Facts) -> Mapping[str, object] | None:
    instance, quantization = facts.instance, facts.quantization
    if instance is None or quantization is None:
        return None
    accelerator = facts.catalog.accelerators[instance.accelerator]
    if quantization in accelerator.quantizations:
        return None
    return {
        "accelerator": accelerator.name,
        "instance_type": instance.instance_type,
        "quantization": quantization,
        "offered": ", ".join(accelerator.quantizations),
    }


def _engine_version(facts: Facts) -> Mapping[str, object] | None:
    if facts.config is None or facts.model is None or facts.model.architecture is None:
        return None
    server = facts.catalog.servers[facts.config.server]
    minimum = facts.catalog.architectures[facts.model.architecture].min_versions.get(server.name)
    if minimum is None or server.version is None or _numbers(server.version) >= _numbers(minimum):
        return None
    return {
        "server": server.name,
        "version": server.version,
        "architecture": facts.model.architecture,
        "min_version": minimum,
        "model_name": facts.model.name,
    }


def _driver_cuda(facts: Facts) -> Mapping[str, object] | None:
    if facts.config is None or facts.instance is None or not facts.config.needs_gpu:
        return None
    server, driver = facts.catalog.servers[facts.config.server], facts.catalog.drivers.get(facts.instance.family)
    if server.cuda_min is None or driver is None or _numbers(server.cuda_min) <= _numbers(driver.cuda):
        return None
    return {
        "server": server.name,
        "cuda_min": server.cuda_min,
        "instance_type": facts.instance.instance_type,
        "driver": driver.driver,
        "driver_cuda": driver.cuda,
    }


def _local_only(facts: Facts) -> Mapping[str, object] | None:
    config, instance = facts.config, facts.instance
    if config is None or instance is None or not config.local or instance.local:
        return None
    return {"deployment_config": config.name, "instance_type": instance.instance_type}


def _local_target(facts: Facts) -> Mapping[str, object] | None:
    target, instance = facts.target, facts.instance
    if target is None or instance is None or target.local or not instance.local:
        return None
    return {"deployment_target": target.name, "instance_type": instance.instance_type}


def _known_region(facts: Facts) -> Mapping[str, object] | None:
    region, instance, catalog = facts.region, facts.instance, facts.catalog
    if instance is None or region is None or region in ((catalog.local_region,) if instance.local else catalog.regions):
        return None
    expected = catalog.local_region if instance.local else f"one of the {len(catalog.regions)} of regions.yaml"
    return {"region": region, "instance_type": instance.instance_type, "expected": expected}


def _tuning_managed(facts: Facts) -> Mapping[str, object] | None:
    if not facts.tuning or (facts.instance is not None and facts.instance.local):
        return None  # on this machine tuning is our own and needs no managed offer
    if facts.model_name is None or facts.model_name in {each.model_name for each in facts.catalog.tune_models.values()}:
        return None
    return {"model_name": facts.model_name}


def _memory_fit(facts: Facts) -> Mapping[str, object] | None:
    config, model, instance = facts.config, facts.model, facts.instance
    if config is None or model is None or instance is None or not config.needs_gpu:
        return None  # a server that needs no GPU does not keep the model in its memory
    if facts.quantization is None or facts.tp_degree is None:
        return None
    estimate = memory_estimate(
        model,
        instance,
        quantization=facts.quantization,
        tp_degree=facts.tp_degree,
        max_model_len=facts.max_model_len,
        serving_params=facts.serving_params,
    )
    if estimate is None or estimate.fits:
        return None
    return {
        "model_name": model.name,
        "need": estimate.need,
        "instance_type": instance.instance_type,
        "room": estimate.room,
        "remedies": estimate.remedies,
    }


@cache  # a handful of versions, asked for at every vector of the universe
def _numbers(version: str) -> tuple[int, ...]:
    """Return the parts of `v0.25.1` or `12.4` as numbers: as texts, 12.10 would come before 12.9."""
    return tuple(int(part) for part in version.removeprefix("v").split("."))


CHECKS: Mapping[str, Callable[[Facts], Mapping[str, object] | None]] = MappingProxyType(
    {
        "kind_match": _kind_match,
        "model_format": _model_format,
        "tp_within_gpus": _tp_within_gpus,
        "gpu_needed": _gpu_needed,
        "server_quantization": _server_quantization,
        "accelerator_quantization": _accelerator_quantization,
        "engine_version": _engine_version,
        "driver_cuda": _driver_cuda,
        "local_only": _local_only,
        "local_target": _local_target,
        "known_region": _known_region,
        "memory_fit": _memory_fit,
        "tuning_managed": _tuning_managed,
    }
)
"""The code behind the checks that constraints name (`catalog.model.CONSTRAINT_CHECKS`): each returns the values of the
sentence when it refutes, none when it does not or when the catalog lacks a fact."""
