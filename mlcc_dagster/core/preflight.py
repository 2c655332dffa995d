"""What a model needs of GPU memory, estimated before anything is paid for.

Belongs here: the estimate and its sum as text. Not here: the constraints that refute a configuration, this one among
them (`constraints.py`), what a refuted run leaves (the lifecycle).

The estimate is the least that is needed, so that what it refutes cannot run: weights = parameters x bytes per parameter
x 1.1, and the key-value cache of one sequence of `max_model_len` tokens, against 0.9 of the memory of the GPUs that one
copy of the model is split over. Where no length is declared no cache is counted: the server then takes a length of its
own, and the golden path runs models whose full context would not fit beside their weights. A model whose cache is not
uniform over its layers is judged by its weights alone. GB are 10^9 bytes on both sides, as instance types print them.
Source: preflight's memory estimate.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from catalog.model import Instance, Model

WEIGHTS_FACTOR = 1.1
"""What a loaded model takes beside its weights, as a factor on them."""

USABLE_SHARE = 0.9
"""The share of a GPU's memory that a server may fill."""

BYTES_PER_PARAMETER: Mapping[str, float] = MappingProxyType(
    {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0, "fp8": 1.0, "int8": 1.0, "awq": 0.5, "gptq": 0.5, "int4": 0.5}
)
"""By quantization. `none` takes the width that the model is stored in; other names say nothing, since llama.cpp's
formats mix widths."""

KV_BYTES_PER_VALUE: Mapping[str, float] = MappingProxyType(
    {"auto": 2.0, "fp16": 2.0, "float16": 2.0, "bf16": 2.0, "bfloat16": 2.0}
    | {"fp8": 1.0, "fp8_e4m3": 1.0, "fp8_e5m2": 1.0, "int8": 1.0}
)
"""By the serving parameter `kv_cache_dtype`; with another type no cache is counted."""

MEMORY_ELSEWHERE: frozenset[str] = frozenset({"cpu_offload_gb", "pipeline_parallel_size"})
"""Serving parameters that put weights beyond the GPUs of `tp_degree`: with one of them there is no estimate."""


@dataclass(frozen=True, kw_only=True)
class KvCache:
    """The key-value cache of one sequence: a key and a value per layer, head, head dimension and token."""

    layers: int
    heads: int
    head_dimension: int
    bytes_per_value: float
    tokens: int

    @property
    def gb(self) -> float:
        """Its size in GB."""
        return 2 * self.layers * self.heads * self.head_dimension * self.bytes_per_value * self.tokens / 1e9

    def __str__(self) -> str:
        return (
            f"2 x {self.layers} layers x {self.heads} heads x {self.head_dimension} x {_bytes(self.bytes_per_value)} "
            f"x {self.tokens} tokens"
        )


@dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """What a model needs and what its GPUs have. `gpu_memory_gb` is per GPU; `kv_cache` is none where it is not
    counted."""

    parameters: int
    bytes_per_parameter: float
    kv_cache: KvCache | None
    gpu_memory_gb: float
    tp_degree: int

    @property
    def weights_gb(self) -> float:
        """GB of the loaded weights."""
        return self.parameters * self.bytes_per_parameter * WEIGHTS_FACTOR / 1e9

    @property
    def needed_gb(self) -> float:
        """GB that are needed at least."""
        return self.weights_gb + (self.kv_cache.gb if self.kv_cache is not None else 0.0)

    @property
    def room_gb(self) -> float:
        """GB that the GPUs of one copy may fill."""
        return USABLE_SHARE * self.gpu_memory_gb * self.tp_degree

    @property
    def fits(self) -> bool:
        """Whether the room is enough."""
        return self.needed_gb <= self.room_gb

    @property
    def need(self) -> str:
        """What is needed and how it came about: `8.80 GB (4 billion parameters x 2 bytes x 1.1)`, the cache added where
        it is counted."""
        weights = (
            f"{self.parameters / 1e9:.4g} billion parameters x {_bytes(self.bytes_per_parameter)} x {WEIGHTS_FACTOR}"
        )
        if self.kv_cache is None:
            return f"{self.needed_gb:.2f} GB ({weights})"
        return (
            f"{self.needed_gb:.2f} GB (weights {weights} = {self.weights_gb:.2f} GB, "
            f"KV cache {self.kv_cache} = {self.kv_cache.gb:.2f} GB)"
        )

    @property
    def room(self) -> str:
        """What there is and how it came about: `21.60 GB (0.9 x 24 GB x tp 1)`."""
        return f"{self.room_gb:.2f} GB ({USABLE_SHARE} x {self.gpu_memory_gb:g} GB x tp {self.tp_degree})"

    @property
    def remedies(self) -> str:
        """What would make it fit; a shorter length only where it can, since the weights alone fit."""
        known = ["GPUs with more memory", "a higher tp_degree", "fewer bits per weight"]
        if self.weights_gb <= self.room_gb:
            known.append("a shorter max_model_len")
        return f"{', '.join(known[:-1])} or {known[-1]}"

    def __str__(self) -> str:
        return f"{self.need} against {self.room}"


def memory_estimate(
    model: Model,
    instance: Instance,
    *,
    quantization: str,
    tp_degree: int,
    max_model_len: int | None = None,
    serving_params: Mapping[str, str] = MappingProxyType({}),
) -> MemoryEstimate | None:
    """Return what a model needs on the GPUs of an instance, none where a fact is missing: its parameters, the width of
    a weight, the memory of a GPU. `max_model_len` in tokens."""
    width = _bytes_per_parameter(model, quantization)
    if width is None or model.parameters is None or instance.gpu_memory_gb is None:
        return None
    if not MEMORY_ELSEWHERE.isdisjoint(serving_params):
        return None
    return MemoryEstimate(
        parameters=model.parameters,
        bytes_per_parameter=width,
        kv_cache=_kv_cache(model, max_model_len, serving_params.get("kv_cache_dtype", "auto")),
        gpu_memory_gb=instance.gpu_memory_gb,
        tp_degree=tp_degree,
    )


def _bytes(count: float) -> str:
    return f"{count:g} byte{'' if count == 1 else 's'}"


def _bytes_per_parameter(model: Model, quantization: str) -> float | None:
    if quantization == "none":
        return None if model.bits is None else model.bits / 8
    return BYTES_PER_PARAMETER.get(quantization)


def _kv_cache(model: Model, tokens: int | None, dtype: str) -> KvCache | None:
    bytes_per_value = KV_BYTES_PER_VALUE.get(dtype)
    if tokens is None or model.kv_shape is None or bytes_per_value is None:
        return None
    layers, heads, head_dimension = model.kv_shape
    return KvCache(
        layers=layers, heads=heads, head_dimension=head_dimension, bytes_per_value=bytes_per_value, tokens=tokens
    )
