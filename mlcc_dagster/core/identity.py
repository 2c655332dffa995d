"""The identity of a configuration: the text that is hashed, the id, and the defaults that ids depend on.

Belongs here: everything an id depends on, frozen. Not here: the catalog's values of today. An id is written into
records, partitions, result rows and file names; were a default read from the catalog, editing one line of YAML would
rename what has been proven. Nothing in this module may change for `ID_VERSION` 1: a new rule is a new version beside
it.

The rule: the id is the first 16 hex digits of SHA-256 over
`deploymentConfig:modelName:instanceType:region:deploymentTarget` (an absent model name is `none`), followed by
`:key=value`, sorted, for whatever else makes the configuration run differently from what is declared for these five
fields.
"""

import hashlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from mlcc_dagster.core.configuration import Configuration, text_value
from mlcc_dagster.core.exceptions import UsageError

ID_VERSION = 1
"""The version of the rule and of the frozen defaults below; stored beside an id."""

LEGACY_TARGET = "managed-inference"
"""The old name of `realtime-inference`: records stored under its hash are found by `legacy_config_id`."""

GPU_COUNTS_V1: Mapping[str, int] = MappingProxyType(
    {
        "ml.g5.12xlarge": 4,
        "ml.g5.24xlarge": 4,
        "ml.g5.48xlarge": 8,
        "ml.g6.12xlarge": 4,
        "ml.g6.24xlarge": 4,
        "ml.g6.48xlarge": 8,
        "ml.g6e.12xlarge": 4,
        "ml.g6e.24xlarge": 4,
        "ml.g6e.48xlarge": 8,
        "ml.p4d.24xlarge": 8,
        "ml.p5.48xlarge": 8,
        "ml.p5e.48xlarge": 8,
        "ml.p6-b200.48xlarge": 8,
    }
)
"""The default tp_degree by instance type: its GPU count. Any other instance type has 1."""


def _golden(model_name: str, instance_type: str, **declared: Any) -> tuple[str, Mapping[str, Any]]:
    text = f"transformers-vllm:{model_name}:{instance_type}:us-west-2:realtime-inference"
    return text, MappingProxyType(declared)


DECLARED_V1: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    dict(
        (
            _golden("Qwen/Qwen3-0.6B", "ml.g5.xlarge", enable_lora=True),
            _golden("Qwen/Qwen3-1.7B", "ml.g5.xlarge", enable_lora=True),
            _golden("Qwen/Qwen3-4B", "ml.g5.xlarge", enable_lora=True, max_model_len=4096),
            _golden("meta-llama/Llama-3.2-1B-Instruct", "ml.g5.xlarge", enable_lora=True),
            _golden("meta-llama/Llama-3.2-3B-Instruct", "ml.g5.xlarge", enable_lora=True),
            _golden("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", "ml.g5.xlarge", enable_lora=True),
            _golden("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "ml.g5.12xlarge", enable_lora=True),
            _golden("Qwen/Qwen2.5-7B-Instruct", "ml.g5.12xlarge", enable_lora=True),
            _golden("deepseek-ai/DeepSeek-R1-Distill-Llama-8B", "ml.g5.12xlarge", enable_lora=True),
            _golden("Qwen/Qwen3-8B", "ml.g5.12xlarge", enable_lora=True),
            _golden("meta-llama/Llama-3.1-8B-Instruct", "ml.g5.12xlarge", enable_lora=True),
            _golden("Qwen/Qwen3-14B", "ml.g5.12xlarge", enable_lora=True, tp_degree=2),
            _golden("Qwen/Qwen2.5-14B-Instruct", "ml.g5.12xlarge", enable_lora=True, tp_degree=2),
            _golden("deepseek-ai/DeepSeek-R1-Distill-Qwen-14B", "ml.g5.12xlarge", enable_lora=True, tp_degree=2),
            _golden("openai/gpt-oss-20b", "ml.g5.12xlarge", enable_lora=True),
            _golden("Qwen/Qwen3-32B", "ml.g5.12xlarge", enable_lora=True),
            _golden("Qwen/Qwen2.5-32B-Instruct", "ml.g5.12xlarge", enable_lora=True),
            _golden("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", "ml.g5.12xlarge", enable_lora=True),
            _golden("meta-llama/Llama-3.3-70B-Instruct", "ml.g5.48xlarge", enable_lora=True),
            _golden("Qwen/Qwen2.5-72B-Instruct", "ml.g5.48xlarge", enable_lora=True),
            _golden("deepseek-ai/DeepSeek-R1-Distill-Llama-70B", "ml.g5.48xlarge", enable_lora=True),
            _golden("openai/gpt-oss-120b", "ml.g5.48xlarge", enable_lora=True),
            _golden("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", "ml.g5.48xlarge", tp_degree=4),
        )
    )
)
"""What the shipped entries declare beside their five fields, by the five-field text. A shipped entry that declares
nothing needs no row. Where two shipped entries share the five fields, the one without serving parameters owns the
plain id."""

_DEFAULTS: Mapping[str, Any] = MappingProxyType({"max_model_len": None, "enable_lora": False, "serving_params": {}})
_FIELD_KEYS = frozenset({"quantization", "tp_degree", "max_model_len", "enable_lora"})
_PARAMETER_PREFIX = "serving_params."
_ABSENT = "%none"
"""Written for a value that the defaults have and the configuration has not. No escaped text contains it."""


def config_id(configuration: Configuration, declared: Mapping[str, Mapping[str, Any]] | None = None) -> str:
    """Return the configuration's id: 16 lower-case hex digits.

    `declared` are the defaults frozen at registration of entries that are not shipped: five-field text -> any of
    `tp_degree`, `max_model_len`, `enable_lora`, `serving_params`; a shipped entry's own come before them. Raises
    `UsageError` naming every field whose value would make the hashed text ambiguous.
    """
    return _hashed(identity_text(configuration, declared))


def legacy_config_id(
    configuration: Configuration, declared: Mapping[str, Mapping[str, Any]] | None = None
) -> str | None:
    """Return the id a record of this configuration had under the old target name `managed-inference`, none for other
    targets than `realtime-inference`, which never had an old name. Errors as `config_id`."""
    if configuration.deployment_target != "realtime-inference":
        return None
    current, text = five_field_text(configuration), identity_text(configuration, declared)
    old = current.removesuffix(configuration.deployment_target) + LEGACY_TARGET
    return _hashed(old + text.removeprefix(current))


def five_field_text(configuration: Configuration) -> str:
    """Return `deploymentConfig:modelName:instanceType:region:deploymentTarget` with an absent model name as `none`.

    Raises `UsageError` naming every field whose value would make the text ambiguous: only a model name may contain
    `:`, and the fields after it no `=` either, or the end of the text could be read in two ways.
    """
    after_model = {
        "instance_type": configuration.instance_type,
        "region": configuration.region,
        "deployment_target": configuration.deployment_target,
    }
    wrong = [f"{name} '{value}'" for name, value in after_model.items() if set(value) & set(":=")]
    if ":" in configuration.deployment_config:
        wrong.insert(0, f"deployment_config '{configuration.deployment_config}'")
    if wrong:
        raise UsageError(f"cannot make an id from {', '.join(wrong)}; use names without ':' and '='")
    return ":".join([configuration.deployment_config, configuration.model_name or "none", *after_model.values()])


def identity_text(configuration: Configuration, declared: Mapping[str, Mapping[str, Any]] | None = None) -> str:
    """Return the whole text that is hashed; no two different configurations share one under the same `declared`.

    A model called `none` is the absent one, since that is how its absence is written. Errors as `five_field_text`.
    """
    text = five_field_text(configuration)
    defaults = _defaults_of(text, configuration.instance_type, declared or {})
    return "".join([text, *sorted(f":{key}={value}" for key, value in _differences(configuration, defaults))])


def _defaults_of(text: str, instance_type: str, declared: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    own = DECLARED_V1.get(text) or declared.get(text) or {}
    return {**_DEFAULTS, "tp_degree": GPU_COUNTS_V1.get(instance_type, 1), **own}


def _differences(configuration: Configuration, defaults: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield key and value, escaped, of everything that differs from the defaults; full precision is always the default
    quantization."""
    if configuration.quantization != "none":
        yield "quantization", _escaped(configuration.quantization)
    for key in ("tp_degree", "max_model_len", "enable_lora"):
        value = getattr(configuration, key)
        if text_value(value) != text_value(defaults[key]):
            yield key, _ABSENT if value is None else _escaped(text_value(value))
    declared = {key: text_value(value) for key, value in defaults["serving_params"].items()}
    for key in declared.keys() | configuration.serving_params.keys():
        value = configuration.serving_params.get(key)
        if value != declared.get(key):
            yield _parameter_key(key), _ABSENT if value is None else _escaped(value)


def _parameter_key(key: str) -> str:
    """Return the key a serving parameter is written under: its own name, prefixed where that is a field's name (or
    begins with the prefix), or a parameter called `tp_degree` would pass for the field."""
    taken = key in _FIELD_KEYS or key.startswith(_PARAMETER_PREFIX)
    return _escaped(f"{_PARAMETER_PREFIX}{key}" if taken else key)


def _escaped(text: str) -> str:
    """Return the text with `%`, `:` and `=` percent-encoded, so that no value can be read as the next pair."""
    return text.replace("%", "%25").replace(":", "%3A").replace("=", "%3D")


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]
