"""Prove documents: a base configuration, what is swept over it, and the stages that every point goes through.

Belongs here: a sound document and its expansion into configurations. Not here: the text of `prove.json` and its mistakes
(`prove_reading.py`), what a home remembers of a document (`resources.prove_documents`), running it. Source of the rules:
`mlcc prove` in the specification: the product with the first axis slowest, overlaid on the base.
"""

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from catalog.model import Catalog
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.resolution import Unresolved
from mlcc_dagster.core.stages import TUNING_STAGES, Stage
from mlcc_dagster.core.targets import Target, declared_configuration

DEFAULT_TIMEOUT_MINUTES = 90.0
DEFAULT_BUDGET_USD = 50.0

SERVING = "serving_params"
INFRA = "infra_params"
ARN = "capacity_reservation_arn"
"""The one infra parameter: the capacity reservation that a deployment goes into."""


@dataclass(frozen=True)
class ProveDocument:
    """A sound document. `base` and the values of `sweep` are normalised, `written` are the latter as they stand; `stages` are
    all that a run goes through, in canonical order; `technique` is that of a stage `tune-<technique>`, none where no stage
    names one."""

    base: Mapping[str, Any]
    sweep: Mapping[str, tuple[Any, ...]]
    written: Mapping[str, tuple[Any, ...]]
    stages: tuple[Stage, ...]
    technique: str | None = None
    timeout_minutes: float = DEFAULT_TIMEOUT_MINUTES
    budget_usd: float = DEFAULT_BUDGET_USD

    @property
    def tunes(self) -> bool:
        """Whether a tuning stage is among its stages."""
        return bool(TUNING_STAGES & set(self.stages))

    def points(self) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Yield the swept values of every point by axis, normalised and as written: the product, the first axis slowest."""
        normal, written = (itertools.product(*axes.values()) for axes in (self.sweep, self.written))
        for values, words in zip(normal, written, strict=True):
            yield dict(zip(self.sweep, values, strict=True)), dict(zip(self.written, words, strict=True))


@dataclass(frozen=True)
class Member:
    """One configuration of a document: `point` are the swept values that it is made of, as written, `repeats` those of
    further points that come to the same configuration. `reservation` is the capacity reservation that its deployment asks for."""

    config_id: str
    configuration: Configuration
    point: Mapping[str, Any]
    reservation: str | None = None
    repeats: tuple[Mapping[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """How people tell the members of one document apart: the swept values, without any the configuration itself."""
        return point_text(self.point) or str(self.configuration)


@dataclass(frozen=True)
class Expansion:
    """The configurations of a document, in the order of their points. `points` is how many there are before what is equal
    is counted once."""

    document: ProveDocument
    members: tuple[Member, ...]
    points: int

    @property
    def digest(self) -> str:
        """Twelve hex digits that name what the document proves: its configurations and stages. Notation, order, time and
        budget are no part of it, so that a document goes on where it was after its budget was raised."""
        proves = {
            "members": sorted((member.config_id, member.reservation or "") for member in self.members),
            "stages": [stage.value for stage in self.document.stages],
            "technique": self.document.technique,
        }
        return hashlib.sha256(json.dumps(proves, sort_keys=True).encode("utf-8")).hexdigest()[:12]

    @property
    def repeated(self) -> list[str]:
        """One sentence per configuration that several points come to."""
        return [
            f"{' and '.join([member.name, *map(point_text, member.repeats)])} are one configuration, which is run once"
            for member in self.members
            if member.repeats
        ]


def point_text(point: Mapping[str, Any]) -> str:
    """Return swept values as one line: `quantization=awq instance_type=ml.g5.xlarge`."""
    return " ".join(f"{axis.removeprefix(f'{SERVING}.')}={value_text(value)}" for axis, value in point.items())


def expand(document: ProveDocument, catalog: Catalog) -> Expansion:
    """Return the configurations of a document.

    What a catalog entry of the same five fields declares stands where the document says nothing, so that a configuration
    has the entry's id (`core.targets.declared_configuration`). Give the shipped catalog: were a home's own entries asked, the
    promotion of a result would change what the document means. LoRA is on where the document tunes and does not say.
    """
    found: dict[str, Member] = {}
    count = 0
    for point, written in document.points():
        count += 1
        member = replace(_member(document, point, catalog), point=MappingProxyType(written))
        first = found.setdefault(member.config_id, member)
        if first is not member:
            found[member.config_id] = replace(first, repeats=(*first.repeats, written))
    return Expansion(document, tuple(found.values()), count)


def _member(document: ProveDocument, point: Mapping[str, Any], catalog: Catalog) -> Member:
    values = {**document.base, **{axis: value for axis, value in point.items() if "." not in axis}}
    nested = {name: dict(values.get(name) or {}) for name in (SERVING, INFRA)}
    for axis, value in point.items():
        group, dot, key = axis.partition(".")
        if dot:
            nested[group][key] = value
    parameters = nested[SERVING]
    configuration = declared_configuration(
        Target(
            model_name=values["model_name"],
            deployment_config=values["deployment_config"],
            instance_type=values["instance_type"],
            quantization=values.get("quantization"),
            serving_params={name: value for name, value in parameters.items() if value is not None},
        ),
        catalog,
    )
    assert not isinstance(configuration, Unresolved), "every name was looked up when the document was read"
    lora = values.get("enable_lora")
    configuration = replace(
        configuration,
        # a null takes back what the catalog declares
        max_model_len=values.get("max_model_len", configuration.max_model_len),
        enable_lora=configuration.enable_lora or document.tunes if lora is None else lora,
        serving_params={
            name: value
            for name, value in configuration.serving_params.items()
            if parameters.get(name, value) is not None
        },
    )
    return Member(config_id(configuration), configuration, point, nested[INFRA].get(ARN))


def value_text(value: Any) -> str:
    """Return a value of a document as a person reads it: a plain word as it is, anything else as JSON, not too long."""
    if isinstance(value, str):
        return value if value.isprintable() and " " not in value else repr(value)
    if isinstance(value, Mapping):
        value = dict(value)
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
