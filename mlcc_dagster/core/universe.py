"""The catalog universe: every vector that could exist, which of them are possible, and what rules the others out.

Belongs here: the product of the catalog's values, cut without multiplying it out. Not here: making one vector concrete
(`resolution.py`), what is proven of the universe (`coverage.py`).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from types import MappingProxyType

from catalog.model import OPEN_FAMILIES, Catalog, DeploymentConfig, Instance, Model
from mlcc_dagster.core.configuration import DIMENSIONS, Vector
from mlcc_dagster.core.constraints import Facts
from mlcc_dagster.core.resolution import CanRun, Unresolved, resolve

EXECUTOR = "executor"
"""What rules out a vector that every constraint admits and the executor cannot run."""

NOTHING = "catalog"
"""What rules out a family of which the catalog has no model or instance."""

Reaches = Callable[[Instance], bool]
"""An executor's `reaches`: whether it can run anything at all on an instance type."""


@dataclass(frozen=True)
class Universe:
    """What could exist within an executor's reach. `possible`: every vector that the constraints admit and the executor
    can run, in catalog order. `excluded`: of the product of all values, how many vectors each constraint rules out (the
    first that does, by id), and how many the executor alone (`EXECUTOR`). `values`: what that product is made of, by
    dimension."""

    possible: tuple[Vector, ...]
    excluded: Mapping[str, int]
    values: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, catalog: Catalog, can_run: CanRun, *, reaches: Reaches = lambda instance: True) -> "Universe":
        """Sort the product of the catalog's values, cut to the instance families of which the executor reaches one.

        Partial choices that are refuted already (server with model, server with instance) are counted, not multiplied
        out.
        """
        reached = {
            family: instances
            for family, instances in catalog.instances_by_family.items()
            if any(reaches(each) for each in instances)
        }
        degrees = _degrees(each for instances in reached.values() for each in instances)
        values = {**universe_values(catalog), "instance_family": tuple(reached), "tp_degree": degrees}
        ways = list(product(*(values[name] for name in ("instance_family", *DIMENSIONS[3:]))))
        possible: list[Vector] = []
        excluded: Counter[str] = Counter()
        for config in catalog.deployment_configs.values():
            open_families = []
            for family in values["model_family"]:
                refuting = _refuting_model(catalog, config, catalog.models_by_family[family])
                if refuting is None:
                    open_families.append(family)
                else:
                    excluded[refuting] += len(ways)
            open_ways = []
            # A server that serves no family at all needs no look at its instances.
            for way in ways if open_families else ():
                refuting = _refuting_instance(catalog, config, way)
                if refuting is None:
                    open_ways.append(way)
                else:
                    excluded[refuting] += len(open_families)
            for family in open_families:
                for way in open_ways:
                    vector = Vector(config.name, family, *way)
                    resolved = resolve(vector, catalog, can_run)
                    if isinstance(resolved, Unresolved):
                        excluded[_constraint(resolved)] += 1
                    else:
                        possible.append(vector)
        return cls(tuple(possible), MappingProxyType(dict(excluded.most_common())), MappingProxyType(values))

    def size(self, *fixed: str) -> int:
        """Return how many vectors of the product share one value in each of the `fixed` dimensions; without any, how many
        there are."""
        return prod(len(values) for name, values in self.values.items() if name not in fixed)


def _refuting_model(catalog: Catalog, config: DeploymentConfig, models: Sequence[Model]) -> str | None:
    """Return the constraint that rules a server out for the first of a family's models, none where it admits one."""
    first = None
    for model in models:
        broken = next(Facts(catalog=catalog, config=config, model=model).broken(), None)
        if broken is None:
            return None
        first = first or broken[0].id
    return first or NOTHING


def _refuting_instance(catalog: Catalog, config: DeploymentConfig, way: tuple[str, ...]) -> str | None:
    """Return the constraint that rules a way out for the first instance of its family, none where it admits one."""
    family, quantization, tp_degree, target = way
    first = None
    for instance in catalog.instances_by_family[family]:
        facts = Facts(
            catalog=catalog,
            config=config,
            instance=instance,
            target=catalog.deployment_targets[target],
            quantization=quantization,
            tp_degree=int(tp_degree),
        )
        broken = next(facts.broken(), None)
        if broken is None:
            return None
        first = first or broken[0].id
    return first or NOTHING


def _constraint(unresolved: Unresolved) -> str:
    return EXECUTOR if unresolved.refusal is None else unresolved.refusal.constraint.rpartition("@")[0]


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


def _degrees(instances: Iterable[Instance]) -> tuple[str, ...]:
    """Return the powers of two up to the largest GPU count: attention heads divide by them, and by little else."""
    largest = max((instance.gpu_count for instance in instances), default=0)
    return ("1", *(str(2**power) for power in range(1, largest.bit_length()) if 2**power <= largest))
