"""Turning what the catalog declares and what a vector asks for into concrete configurations, or into the reason why
not.

Belongs here: evaluating the declared constraints, choosing model and instance for a vector, the catalog universe. Not
here: the id (`identity.py`), what evidence says of a vector, what a run would cost. Source of the rules: preflight's
declared constraints, and "from a gap to something that runs": the smallest model of the family that the constraints
admit, golden path first; the cheapest instance of the family with enough GPUs.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from catalog.model import OPEN_FAMILIES, Catalog, Constraint, DeploymentConfig, DeploymentTarget, Entry, Instance, Model
from mlcc_dagster.core.configuration import DIMENSIONS, Configuration, Vector, normal_quantization, normal_target


@dataclass(frozen=True)
class Refusal:
    """One declared constraint that a configuration breaks: `constraint` is `<id>@<version>`, which a verdict cites;
    `sentence` holds the numbers that refute it and what to do."""

    constraint: str
    sentence: str


@dataclass(frozen=True)
class Unresolved:
    """A vector that nothing makes concrete. `reason` is one sentence; `refusal` the constraint behind it, none where
    the catalog has nothing to offer or the executor cannot run what it has."""

    reason: str
    refusal: Refusal | None = None


CanRun = Callable[[Configuration], str | None]
"""An executor's `can_run`: the reason why it cannot run a configuration, none when it can."""


@dataclass(frozen=True, kw_only=True)
class _Facts:
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


def configuration_of(entry: Entry, catalog: Catalog) -> Configuration:
    """Return the configuration an entry declares; an unset tp_degree is the GPU count of its instance, 1 without
    GPUs."""
    return Configuration(
        deployment_config=entry.deployment_config,
        model_name=entry.model_name,
        model_family=catalog.family_of(entry.model_name),
        instance_type=entry.instance_type,
        region=entry.region,
        deployment_target=entry.deployment_target,
        quantization=entry.quantization,
        tp_degree=entry.tp_degree or max(catalog.instances[entry.instance_type].gpu_count, 1),
        max_model_len=entry.max_model_len,
        enable_lora=entry.enable_lora,
        serving_params=entry.serving_params,
    )


def refusals(configuration: Configuration, catalog: Catalog, *, tuning: bool = False) -> tuple[Refusal, ...]:
    """Return every declared constraint that the configuration breaks, in the catalog's order; empty when none refutes
    it.

    `tuning` says whether the lifecycle tunes, which constraints on tuning ask. A name that the catalog does not have
    breaks nothing: what is not known cannot refute.
    """
    return _Facts(
        catalog=catalog,
        config=catalog.deployment_configs.get(configuration.deployment_config),
        model=catalog.models.get(configuration.model_name or ""),
        model_name=configuration.model_name,
        instance=catalog.instances.get(configuration.instance_type),
        region=configuration.region,
        target=catalog.deployment_targets.get(configuration.deployment_target),
        quantization=configuration.quantization,
        tp_degree=configuration.tp_degree,
        tuning=tuning,
    ).refusals()


def resolve(vector: Vector, catalog: Catalog, can_run: CanRun) -> Configuration | Unresolved:
    """Return the configuration that would prove a vector, or why there is none.

    The first admitted pair of model (path models first, then by size) and instance (by price) decides; `can_run` is
    asked about that one alone, so that a vector means the same configuration to every executor that can run it. Where
    an entry declares the same five fields, its further declarations are taken over, so that the configuration has the
    entry's id.
    """
    if (unreadable := _unreadable(vector, catalog)) is not None:
        return Unresolved(unreadable)
    first_refuted: _Facts | None = None
    for model in catalog.models_by_family[vector.model_family]:
        for instance in _instances_for(vector, catalog):
            facts = _facts_of(vector, catalog, model, instance)
            if not facts.refuted():
                configuration = _concrete(vector, catalog, model, instance)
                reason = can_run(configuration)
                return configuration if reason is None else Unresolved(reason)
            first_refuted = first_refuted or facts
    if first_refuted is not None:
        refusal = first_refuted.refusals()[0]
        return Unresolved(refusal.sentence, refusal)
    family = vector.instance_family
    return Unresolved(f"no instance of family {family} has a price; enter usd_per_hour for one in instances.yaml")


Reaches = Callable[[Instance], bool]
"""An executor's `reaches`: whether it can run anything at all on an instance type."""


def possible_vectors(
    catalog: Catalog, can_run: CanRun, *, reaches: Reaches = lambda instance: True
) -> tuple[Vector, ...]:
    """Return the catalog universe: every vector that the constraints admit and the executor can run, in catalog order.

    Partial choices that are refuted already, and families of which the executor reaches no instance, are not multiplied
    out.
    """
    families = [
        family for family, instances in catalog.instances_by_family.items() if any(reaches(each) for each in instances)
    ]
    return tuple(
        vector
        for vector in _open_vectors(catalog, families)
        if isinstance(resolve(vector, catalog, can_run), Configuration)
    )


def universe_values(catalog: Catalog) -> Mapping[str, tuple[str, ...]]:
    """Return the values that the catalog has for each dimension, in catalog order, whether or not they fit together.

    Families that say nothing (`other`, `unknown`) are left out: no vector of theirs can be made concrete.
    """
    offered = (quantization for config in catalog.deployment_configs.values() for quantization in config.quantizations)
    values = {
        "deployment_config": tuple(catalog.deployment_configs),
        "model_family": tuple(family for family in catalog.models_by_family if family not in OPEN_FAMILIES),
        "instance_family": tuple(catalog.instances_by_family),
        "quantization": tuple(dict.fromkeys(offered)),
        "tp_degree": _degrees(catalog.instances.values()),
        "deployment_target": tuple(catalog.deployment_targets),
    }
    return MappingProxyType({dimension: values[dimension] for dimension in DIMENSIONS})


def _open_vectors(catalog: Catalog, instance_families: Sequence[str]) -> Iterator[Vector]:
    """Yield the vectors of which no part is refuted by itself: server with model, with instance, with quantization."""
    values = universe_values(catalog)
    for config in catalog.deployment_configs.values():
        families = [
            family
            for family in values["model_family"]
            if any(
                not _Facts(catalog=catalog, config=config, model=model).refuted()
                for model in catalog.models_by_family[family]
            )
        ]
        ways = [way for family in instance_families for way in _open_ways(catalog, config, family)]
        for family in families:
            for instance_family, quantization, tp_degree, target in ways:
                yield Vector(config.name, family, instance_family, quantization, tp_degree, target)


def _open_ways(catalog: Catalog, config: DeploymentConfig, instance_family: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield (instance family, quantization, tp_degree, target) that some instance of the family could do for a
    server."""
    instances = catalog.instances_by_family[instance_family]
    for quantization in config.quantizations:
        for tp_degree in _degrees(instances):
            for target in catalog.deployment_targets.values():
                if any(
                    not _Facts(
                        catalog=catalog,
                        config=config,
                        instance=instance,
                        target=target,
                        quantization=quantization,
                        tp_degree=int(tp_degree),
                    ).refuted()
                    for instance in instances
                ):
                    yield instance_family, quantization, tp_degree, target.name


def _degrees(instances: Iterable[Instance]) -> tuple[str, ...]:
    """Return the powers of two up to the largest GPU count: attention heads divide by them, and by little else."""
    largest = max((instance.gpu_count for instance in instances), default=0)
    return ("1", *(str(2**power) for power in range(1, largest.bit_length()) if 2**power <= largest))


def _unreadable(vector: Vector, catalog: Catalog) -> str | None:
    """Say why a vector cannot even be looked up, none when it can."""
    if vector.model_family in OPEN_FAMILIES:
        return f"family '{vector.model_family}' is no one family; name a model instead"
    looked_up = (
        ("deployment_config", catalog.deployment_configs, "deployment_configs.yaml"),
        ("model_family", catalog.models_by_family, "models.yaml"),
        ("instance_family", catalog.instances_by_family, "instances.yaml"),
        ("deployment_target", catalog.deployment_targets, "deployment_targets.yaml"),
    )
    for dimension, known, file in looked_up:
        value = getattr(vector, dimension)
        if value not in known:
            return f"the catalog has nothing for {dimension} '{value}'; add it to {file}"
    for dimension, normal in (("quantization", normal_quantization), ("deployment_target", normal_target)):
        value = getattr(vector, dimension)
        if normal(value) != value:
            return f"{dimension} '{value}' is written '{normal(value)}' here; ask for that vector"
    if not vector.tp_degree.isdecimal() or int(vector.tp_degree) < 1:
        return f"tp_degree '{vector.tp_degree}' is no whole number above 0; ask for 1, 2, 4 or 8"
    return None


def _instances_for(vector: Vector, catalog: Catalog) -> tuple[Instance, ...]:
    """Return the family's priced instances with enough GPUs, cheapest first; where none has enough the largest alone,
    so that a refusal speaks of the most the family offers."""
    priced = [each for each in catalog.instances_by_family[vector.instance_family] if each.usd_per_hour is not None]
    enough = tuple(each for each in priced if max(each.gpu_count, 1) >= int(vector.tp_degree))
    return enough or tuple(sorted(priced, key=lambda each: -each.gpu_count)[:1])


def _facts_of(vector: Vector, catalog: Catalog, model: Model, instance: Instance) -> _Facts:
    return _Facts(
        catalog=catalog,
        config=catalog.deployment_configs[vector.deployment_config],
        model=model,
        model_name=model.name,
        instance=instance,
        region=_region_of(catalog, instance),
        target=catalog.deployment_targets[vector.deployment_target],
        quantization=vector.quantization,
        tp_degree=int(vector.tp_degree),
    )


def _region_of(catalog: Catalog, instance: Instance) -> str:
    return catalog.local_region if instance.local else catalog.path_region


def _concrete(vector: Vector, catalog: Catalog, model: Model, instance: Instance) -> Configuration:
    region = _region_of(catalog, instance)
    entry = catalog.owner_of(
        vector.deployment_config, model.name, instance.instance_type, region, vector.deployment_target
    )
    return Configuration(
        deployment_config=vector.deployment_config,
        model_name=model.name,
        model_family=model.family,
        instance_type=instance.instance_type,
        region=region,
        deployment_target=vector.deployment_target,
        quantization=vector.quantization,
        tp_degree=int(vector.tp_degree),
        max_model_len=entry.max_model_len if entry else None,
        enable_lora=entry.enable_lora if entry else False,
        serving_params=entry.serving_params if entry else {},
    )


def _kind_match(facts: _Facts) -> Mapping[str, object] | None:
    config, model = facts.config, facts.model
    if config is None or model is None or config.kind == model.kind:
        return None
    return {
        "deployment_config": config.name,
        "served_kind": config.kind,
        "model_name": model.name,
        "model_kind": model.kind,
    }


def _model_format(facts: _Facts) -> Mapping[str, object] | None:
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


def _tp_within_gpus(facts: _Facts) -> Mapping[str, object] | None:
    tp_degree, instance = facts.tp_degree, facts.instance
    if instance is None or tp_degree is None or tp_degree <= max(instance.gpu_count, 1):
        return None
    return {"tp_degree": tp_degree, "instance_type": instance.instance_type, "gpu_count": instance.gpu_count}


def _gpu_needed(facts: _Facts) -> Mapping[str, object] | None:
    config, instance = facts.config, facts.instance
    if config is None or instance is None or not config.needs_gpu or instance.gpu_count > 0:
        return None
    return {"deployment_config": config.name, "instance_type": instance.instance_type}


def _server_quantization(facts: _Facts) -> Mapping[str, object] | None:
    config, quantization = facts.config, facts.quantization
    if config is None or quantization is None or quantization in config.quantizations:
        return None
    offered = ", ".join(config.quantizations)
    return {"deployment_config": config.name, "quantization": quantization, "offered": offered}


def _accelerator_quantization(facts: _Facts) -> Mapping[str, object] | None:
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


def _engine_version(facts: _Facts) -> Mapping[str, object] | None:
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


def _driver_cuda(facts: _Facts) -> Mapping[str, object] | None:
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


def _local_only(facts: _Facts) -> Mapping[str, object] | None:
    config, instance = facts.config, facts.instance
    if config is None or instance is None or not config.local or instance.local:
        return None
    return {"deployment_config": config.name, "instance_type": instance.instance_type}


def _local_target(facts: _Facts) -> Mapping[str, object] | None:
    target, instance = facts.target, facts.instance
    if target is None or instance is None or target.local or not instance.local:
        return None
    return {"deployment_target": target.name, "instance_type": instance.instance_type}


def _known_region(facts: _Facts) -> Mapping[str, object] | None:
    region, instance, catalog = facts.region, facts.instance, facts.catalog
    if instance is None or region is None or region in ((catalog.local_region,) if instance.local else catalog.regions):
        return None
    expected = catalog.local_region if instance.local else f"one of the {len(catalog.regions)} of regions.yaml"
    return {"region": region, "instance_type": instance.instance_type, "expected": expected}


def _tuning_managed(facts: _Facts) -> Mapping[str, object] | None:
    if not facts.tuning or (facts.instance is not None and facts.instance.local):
        return None  # on this machine tuning is our own and needs no managed offer
    if facts.model_name is None or facts.model_name in {each.model_name for each in facts.catalog.tune_models.values()}:
        return None
    return {"model_name": facts.model_name}


def _numbers(version: str) -> tuple[int, ...]:
    """Return the parts of `v0.25.1` or `12.4` as numbers: as texts, 12.10 would come before 12.9."""
    return tuple(int(part) for part in version.removeprefix("v").split("."))


CHECKS: Mapping[str, Callable[[_Facts], Mapping[str, object] | None]] = MappingProxyType(
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
        "tuning_managed": _tuning_managed,
    }
)
"""The code behind the checks that constraints name (`catalog.model.CONSTRAINT_CHECKS`): each returns the values of the
sentence when it refutes, none when it does not or when the catalog lacks a fact."""
