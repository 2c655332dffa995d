"""The two things that must not be confused: a vector of families, and a concrete configuration.

A `Vector` is what coverage and gaps speak of; a `Configuration` is what runs, has an id and a price. Belongs here: the two
types, their normalisation and their text forms. Not here: the id (`identity.py`), turning one into the other (`resolution.py`).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

from mlcc_dagster.core.exceptions import InvalidInput

DIMENSIONS: tuple[str, ...] = (
    "deployment_config",
    "model_family",
    "instance_family",
    "quantization",
    "tp_degree",
    "deployment_target",
)
"""The six ordered dimensions of the configuration vector."""

_FULL_PRECISION = frozenset({"", "none", "null", "fp16", "bf16", "float16", "bfloat16"})
_TARGET_SYNONYMS = MappingProxyType({"managed-inference": "realtime-inference"})
_INSTANCE_TYPE = re.compile(r"^ml\.(?P<family>[a-z0-9]+(?:-[a-z0-9]+)*)\.[a-z0-9]+$")


def normal_quantization(value: str | None) -> str:
    """Return the quantization in lower case; `fp16`, `bf16`, null and empty are `none`."""
    text = (value or "").strip().lower()
    return "none" if text in _FULL_PRECISION else text


def normal_target(value: str | None) -> str:
    """Return the deployment target; the old name `managed-inference` and an absent one are `realtime-inference`."""
    text = (value or "").strip() or "realtime-inference"
    return _TARGET_SYNONYMS.get(text, text)


def instance_family(instance_type: str) -> str:
    """Return the middle part of `ml.<family>.<size>`, `local` for `local.*`, else `unknown`."""
    if instance_type.startswith("local."):
        return "local"
    match = _INSTANCE_TYPE.match(instance_type)
    return match["family"] if match else "unknown"


def text_value(value: Any) -> str:
    """Return the text by which values of a dimension are compared: null is empty, `1`, `1.0` and `'1'` are equal,
    booleans print lower case."""
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = str(value)
    return text[:-2] if re.fullmatch(r"-?\d+\.0", text) else text


def reading_order(values: Iterable[str]) -> tuple[str, ...]:
    """Return the values of a dimension as a person expects them: numbers by size, then texts."""
    return tuple(sorted(values, key=lambda text: (not text.isdecimal(), int(text) if text.isdecimal() else 0, text)))


@dataclass(frozen=True, order=True)
class Vector:
    """A point of the six-dimensional space of families, all values as text."""

    deployment_config: str
    model_family: str
    instance_family: str
    quantization: str
    tp_degree: str
    deployment_target: str

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Vector":
        """Read a vector from a row with the six dimensions as columns; other columns are ignored, absent ones are empty."""
        return cls(**{name: text_value(row.get(name)) for name in DIMENSIONS})

    def values(self) -> tuple[str, ...]:
        """Return the six values in the order of `DIMENSIONS`."""
        return tuple(getattr(self, name) for name in DIMENSIONS)

    def __str__(self) -> str:
        return " · ".join(self.values())


@dataclass(frozen=True)
class Configuration:
    """A concrete configuration: everything that changes what runs, normalised on the way in.

    `model_family` is derived once, by the catalog's ordered rules; `tp_degree` is resolved (never unset); `serving_params`
    are texts. Workload and tiers are not part of it: they change what is measured, not what runs.
    """

    deployment_config: str
    model_name: str | None
    model_family: str
    instance_type: str
    region: str
    deployment_target: str = "realtime-inference"
    quantization: str = "none"
    tp_degree: int = 1
    max_model_len: int | None = None
    enable_lora: bool = False
    serving_params: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        # Equal configurations must hash alike and different ones must stay different, so every field gets one form here.
        name = (self.model_name or "").strip()
        object.__setattr__(self, "model_name", None if name in {"", "none"} else name)
        object.__setattr__(self, "deployment_target", normal_target(self.deployment_target))
        object.__setattr__(self, "quantization", normal_quantization(self.quantization))
        object.__setattr__(self, "tp_degree", int(self.tp_degree))
        object.__setattr__(self, "max_model_len", None if self.max_model_len is None else int(self.max_model_len))
        given = {key: value for key, value in sorted(self.serving_params.items()) if value is not None}
        # Texts stay as they are: a server may tell '1.0' from '1'.
        texts = {key: value if isinstance(value, str) else text_value(value) for key, value in given.items()}
        object.__setattr__(self, "serving_params", MappingProxyType(texts))

    def __hash__(self) -> int:
        return hash(tuple(str(value) for value in self.to_json().values()))

    def __reduce__(self) -> tuple[Any, ...]:
        return (Configuration.from_json, (self.to_json(),))

    @property
    def instance_family(self) -> str:
        """The family of the instance type."""
        return instance_family(self.instance_type)

    @property
    def vector(self) -> Vector:
        """The vector this configuration is evidence for."""
        return Vector.of({name: getattr(self, name) for name in DIMENSIONS})

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values: the `configJson` of a record."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return values | {"serving_params": dict(self.serving_params)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Configuration":
        """Read back what `to_json` wrote.

        Raises `InvalidInput` on a key this version does not know: running without it would be another configuration.
        """
        unknown = sorted(set(document) - {f.name for f in fields(cls)})
        if unknown:
            raise InvalidInput(
                "stored configuration", [f"{key}: written by a newer version; update mlcc" for key in unknown]
            )
        return cls(**document)

    def __str__(self) -> str:
        parts = [self.deployment_config, self.model_name or "none", self.instance_type]
        if self.quantization != "none":
            parts.append(self.quantization)
        parts += [f"{key}={value}" for key, value in self.serving_params.items()]
        if self.deployment_target != "realtime-inference":
            parts.append(self.deployment_target)
        return " ".join(parts)
