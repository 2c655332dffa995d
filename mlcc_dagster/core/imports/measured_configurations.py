"""The configuration that a result of another tool was measured on.

Belongs here: making it of columns, of what a person set and of the catalog. Not here: which columns a result must have and the
rest of its row (`completion.py`).
"""

import json
from collections.abc import Mapping
from typing import Any

from catalog.model import Catalog
from mlcc_dagster.core.configuration import Configuration, instance_family, normal_quantization, normal_target
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.imports.settings import ImportSettings

_NO_PARAMETER = frozenset(
    {"quantization", "tensor_parallel_degree", "enable_lora", "base_image", "kv_cache_dtype", "max_model_len"}
    | {"vllm_version", "ic_gpu_count", "ic_copy_count", "adapter_name"}
)
"""What existing writers put into `serving_config` beside serving parameters."""


def measured_configuration(
    given: Mapping[str, Any], settings: ImportSettings, catalog: Catalog, where: str, problems: list[str]
) -> Configuration | None:
    """Return the configuration of a result's columns and of what was set, none with its mistakes added to `problems`.

    `given` has the needed columns. What it does not say of length, LoRA and parameters is what the catalog entry of the same
    five fields declares, else the default.
    """
    instance_type = str(given["instance_type"])
    if instance_family(instance_type) == "unknown":
        problems.append(f"{where}: instance_type must look like ml.g5.xlarge or local.1cpu, not '{instance_type}'")
        return None
    instance = catalog.instances.get(instance_type)
    local = instance.local if instance else instance_type.startswith("local.")
    region = given.get("region") or (catalog.local_region if local else catalog.path_region)
    target = normal_target(given.get("deployment_target"))
    name = _model_text(str(given["model_name"]))
    entry = catalog.owner_of(str(given["deployment_config"]), name, instance_type, region, target)
    parameters = _parameters(given, where, problems)
    if parameters is None:
        return None
    parameters |= dict(settings.serving_params)
    if not parameters and entry is not None and given.get("serving_config") is None:
        parameters = dict(entry.serving_params)
    length, lora = given.get("max_model_len"), given.get("enable_lora")
    if given["tensor_parallel_degree"] < 1:
        problems.append(f"{where}: tensor_parallel_degree must be at least 1, not {given['tensor_parallel_degree']}")
        return None
    configuration = Configuration(
        deployment_config=str(given["deployment_config"]),
        model_name=name,
        model_family=catalog.family_of(name),
        instance_type=instance_type,
        region=region,
        deployment_target=target,
        quantization=normal_quantization(given["quantization"]),
        tp_degree=given["tensor_parallel_degree"],
        max_model_len=length or (entry.max_model_len if entry else None),
        enable_lora=(entry.enable_lora if entry else False) if lora is None else lora,
        serving_params=parameters,
    )
    try:
        config_id(configuration)
    except UsageError as error:
        problems.append(f"{where}: {error}")
        return None
    return configuration


def _model_text(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1] if name.startswith("s3://") else name


def _parameters(given: Mapping[str, Any], where: str, problems: list[str]) -> dict[str, str] | None:
    """Return the serving parameters that a row of an existing writer names."""
    found: dict[str, str] = {}
    if given.get("serving_config"):
        try:
            document = json.loads(given["serving_config"])
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            problems.append(f"{where}: serving_config must be a JSON object, not {given['serving_config'][:40]!r}")
            return None
        found = {name: _parameter_text(value) for name, value in document.items() if name not in _NO_PARAMETER}
    if given.get("kv_cache_dtype"):
        found["kv_cache_dtype"] = str(given["kv_cache_dtype"])
    return found


def _parameter_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
