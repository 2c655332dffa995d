"""Configurations as existing installations write them, and the ids under which they keep records.

Belongs here: their names of fields and parameters, and every rule their ids followed. Not here: our own form
(`configuration.py`) and our id (`identity.py`), records (`ci_records.py`).
"""

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from catalog.json_entries import FIELD_PARAMETERS
from catalog.model import Catalog, Entry
from catalog.reading import Fields
from mlcc_dagster.core.configuration import Configuration, normal_target
from mlcc_dagster.core.identity import LEGACY_TARGET, config_id, five_field_text, legacy_config_id

REDACTED = "***REDACTED***"

_SPELLINGS: Mapping[str, str] = MappingProxyType(
    {"region": "awsRegion", "tensorParallelDegree": "tpDegree", "tensor_parallel_degree": "tpDegree"}
)

_PREFIXES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "vllm": ("VLLM_",),
        "vllm-omni": ("VLLM_",),
        "sglang": ("SGLANG_",),
        "tensorrt-llm": ("TRTLLM_",),
        "lmi": ("LMI_",),
        "djl": ("DJL_",),
    }
)
"""What begins the name of a server's parameter among the recorded environment, beside the prefix of the catalog."""

_COMPONENTS = ":ic1:adapt0"
"""What later generators append to the hashed text: one inference component, no adapter, which is what runs here."""


def old_configuration(document: Any, catalog: Catalog, path: str, problems: list[str]) -> Configuration | None:
    """Read the `configJson` of a record, in our own form or that of existing installations; none with its mistakes added to
    `problems`.

    What it does not say is what the catalog entry of its five fields declares, else the default. Of its `parameters`, the
    recorded environment, those of the server are serving parameters and the rest is no part of a configuration.
    """
    if isinstance(document, dict) and "deployment_config" in document:
        return _own_form(document, catalog, path, problems)
    named = document
    if isinstance(document, dict):
        # An absent value is written as an empty text there.
        named = {_SPELLINGS.get(name, name): value for name, value in document.items() if value not in (None, "")}
    before = len(problems)
    f = Fields(named, path, problems)
    config_name, instance_type = f.text("deploymentConfig"), f.text("instanceType")
    model_name = f.text("modelName", required=False)
    instance = catalog.instances.get(instance_type or "")
    region = f.text("awsRegion", required=False) or (
        catalog.local_region if instance and instance.local else catalog.path_region
    )
    target = normal_target(f.text("deploymentTarget", required=False))
    quantization = f.text("quantization", required=False)
    length = f.number("maxModelLen", required=False, whole=True, at_least=1)
    degree = f.number("tpDegree", required=False, whole=True, at_least=1)
    lora = f.flag("enableLora", default=False) if isinstance(named, dict) and "enableLora" in named else None
    given = f.text_mapping("servingParams") if isinstance(named, dict) and "servingParams" in named else None
    parameters = _parameters(f, catalog, config_name)
    if len(problems) > before:
        return None
    entry = catalog.owner_of(config_name, model_name, instance_type, region, target)
    own = {**(parameters or {}), **(given or {})}
    if parameters is None and given is None:
        own = {} if entry is None else dict(entry.serving_params)
    fields = {FIELD_PARAMETERS[name]: own.pop(name) for name in FIELD_PARAMETERS if name in own}
    for name in ("max_model_len", "tp_degree"):
        if name in fields and not _is_count(fields[name]):
            problems.append(f"{path}.parameters: {name} must be a whole number above 0, not '{fields[name][:60]}'")
            return None
    return Configuration(
        deployment_config=config_name,
        model_name=model_name,
        model_family=catalog.family_of(model_name),
        instance_type=instance_type,
        region=region,
        deployment_target=target,
        quantization=quantization or fields.get("quantization") or _declared(entry, "quantization", "none"),
        tp_degree=degree
        or int(fields.get("tp_degree", 0))
        or _declared(entry, "tp_degree", None)
        or max(instance.gpu_count if instance else 0, 1),
        max_model_len=length or int(fields.get("max_model_len", 0)) or _declared(entry, "max_model_len", None),
        enable_lora=_declared(entry, "enable_lora", False) if lora is None else lora,
        serving_params=own,
    )


def _is_count(text: str) -> bool:
    # the length first: Python refuses to read thousands of digits
    return text.isascii() and text.isdecimal() and len(text) < 16 and int(text) > 0


def former_ids(configuration: Configuration, catalog: Catalog) -> frozenset[str]:
    """Return every id under which a record of a configuration may have been stored, its own included: the hash of its five
    fields alone, with the target's old name or its track in the place of the target, and with the count of components that
    later generators append."""
    text = five_field_text(configuration)
    target = configuration.deployment_target
    names = [target]
    if target == normal_target(LEGACY_TARGET):
        names.append(LEGACY_TARGET)
    if target in catalog.deployment_targets:
        names.append(catalog.deployment_targets[target].track)
    texts = [text.removesuffix(target) + name + more for name in names for more in ("", _COMPONENTS)]
    hashed = {hashlib.sha256(each.encode("utf-8")).hexdigest()[:16] for each in texts}
    legacy = legacy_config_id(configuration)
    return frozenset(hashed | {config_id(configuration)} | ({legacy} if legacy else set()))


def _own_form(document: Mapping[str, Any], catalog: Catalog, path: str, problems: list[str]) -> Configuration | None:
    before = len(problems)
    f = Fields(document, path, problems)
    for name in ("deployment_config", "instance_type", "region"):
        f.text(name)
    for name in ("model_name", "model_family", "deployment_target", "quantization"):
        f.text(name, required=False, nullable=True)
    f.number("tp_degree", required=False, whole=True, at_least=1)
    f.number("max_model_len", required=False, nullable=True, whole=True, at_least=1)
    f.flag("enable_lora", default=False)
    f.text_mapping("serving_params")
    f.close()
    if len(problems) > before:
        return None
    # The family is derived once, by the rules of today.
    family = catalog.family_of(document.get("model_name"))
    return Configuration.from_json({**document, "model_family": family})


def _parameters(f: Fields, catalog: Catalog, config_name: str | None) -> dict[str, str] | None:
    """Return the server's parameters among the recorded environment, none where none is recorded."""
    recorded = f.raw("parameters", required=False)
    if not isinstance(recorded, dict):
        if recorded is not None:
            f.wrong("parameters", "must be an object of names and texts")
        return None
    config = catalog.deployment_configs.get(config_name or "")
    if config is None:
        return None
    prefix = catalog.servers[config.server].env_prefix
    prefixes = (*((prefix,) if prefix else ()), *_PREFIXES.get(config.server, ()))
    found: dict[str, str] = {}
    for name, value in recorded.items():
        begun = next((each for each in prefixes if name.upper().startswith(each) and len(name) > len(each)), None)
        if begun is not None and isinstance(value, (str, int, float)) and value != REDACTED:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            found[name[len(begun) :].lower()] = text
    return found


def _declared(entry: Entry | None, name: str, default: Any) -> Any:
    return default if entry is None else getattr(entry, name)
