"""Turning what the catalog declares and what a vector asks for into concrete configurations, or into the reason why
not.

Belongs here: choosing model and instance for a vector. Not here: evaluating constraints (`constraints.py`), all that
exists (`universe.py`), the id (`identity.py`), what evidence says of a vector, what a run would cost. Source of the
rules, "from a gap to something that runs": the smallest model of the family that the constraints admit, golden path
first; the cheapest instance of the family with enough GPUs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

from catalog.model import OPEN_FAMILIES, Catalog, Entry, Instance, Model
from mlcc_dagster.core.configuration import Configuration, Vector, normal_quantization, normal_target
from mlcc_dagster.core.constraints import Facts, Refusal


@dataclass(frozen=True)
class Unresolved:
    """A vector that nothing makes concrete. `reason` is one sentence; `refusal` the constraint behind it, none where
    the catalog has nothing to offer or the executor cannot run what it has."""

    reason: str
    refusal: Refusal | None = None


CanRun = Callable[[Configuration], str | None]
"""An executor's `can_run`: the reason why it cannot run a configuration, none when it can."""


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


def resolve(vector: Vector, catalog: Catalog, can_run: CanRun) -> Configuration | Unresolved:
    """Return the configuration that would prove a vector, or why there is none.

    The first admitted pair of model (path models first, then by size) and instance (by price) decides; `can_run` is
    asked about that one alone, so that a vector means the same configuration to every executor that can run it. Where
    an entry declares the same five fields, its further declarations are taken over, so that the configuration has the
    entry's id.
    """
    if (unreadable := _unreadable(vector, catalog)) is not None:
        return Unresolved(unreadable)
    first_refuted: Facts | None = None
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


def _facts_of(vector: Vector, catalog: Catalog, model: Model, instance: Instance) -> Facts:
    entry = _entry_of(vector, catalog, model, instance)
    return Facts(
        catalog=catalog,
        config=catalog.deployment_configs[vector.deployment_config],
        model=model,
        model_name=model.name,
        instance=instance,
        region=_region_of(catalog, instance),
        target=catalog.deployment_targets[vector.deployment_target],
        quantization=vector.quantization,
        tp_degree=int(vector.tp_degree),
        max_model_len=entry.max_model_len if entry else None,
        serving_params=entry.serving_params if entry else MappingProxyType({}),
    )


def _entry_of(vector: Vector, catalog: Catalog, model: Model, instance: Instance) -> Entry | None:
    """Return the entry whose further declarations a vector's configuration takes over, none where no entry has it."""
    region = _region_of(catalog, instance)
    return catalog.owner_of(
        vector.deployment_config, model.name, instance.instance_type, region, vector.deployment_target
    )


def _region_of(catalog: Catalog, instance: Instance) -> str:
    return catalog.local_region if instance.local else catalog.path_region


def _concrete(vector: Vector, catalog: Catalog, model: Model, instance: Instance) -> Configuration:
    entry = _entry_of(vector, catalog, model, instance)
    return Configuration(
        deployment_config=vector.deployment_config,
        model_name=model.name,
        model_family=model.family,
        instance_type=instance.instance_type,
        region=_region_of(catalog, instance),
        deployment_target=vector.deployment_target,
        quantization=vector.quantization,
        tp_degree=int(vector.tp_degree),
        max_model_len=entry.max_model_len if entry else None,
        enable_lora=entry.enable_lora if entry else False,
        serving_params=entry.serving_params if entry else {},
    )
