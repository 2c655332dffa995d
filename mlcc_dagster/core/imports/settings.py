"""What a person says of results whose files do not say it: `--set NAME=VALUE`.

Belongs here: the names, and reading their values. Not here: which of them a result needs (`completion.py`).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from catalog.model import nearest
from mlcc_dagster.core.configuration import normal_quantization, normal_target
from mlcc_dagster.core.exceptions import InvalidInput
from mlcc_dagster.core.records import RUN_TYPES, utc_text
from mlcc_dagster.core.result_columns import moment_of

PARAMETER_PREFIX = "serving_params."


@dataclass(frozen=True)
class ImportSettings:
    """What was said: `columns` by their names, `serving_params` by the server's names."""

    columns: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    serving_params: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def __bool__(self) -> bool:
        return bool(self.columns or self.serving_params)


def read_settings(words: Iterable[str]) -> ImportSettings:
    """Read `NAME=VALUE` words. Raises `InvalidInput` with every mistake."""
    columns: dict[str, Any] = {}
    parameters: dict[str, str] = {}
    problems: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        name, value = name.strip(), value.strip()
        name = "tensor_parallel_degree" if name == "tp_degree" else name
        parameter = name.removeprefix(PARAMETER_PREFIX)
        if not equals or not name or not value:
            problems.append(f"--set {word}: must be NAME=VALUE")
        elif name in columns or (parameter != name and parameter in parameters):
            problems.append(f"--set {word}: {name} is set twice")
        elif parameter != name and parameter:
            parameters[parameter] = value
        elif name not in _READERS:
            problems.append(
                f"--set {word}: no '{name}' to set; {nearest(name, [*_READERS, f'{PARAMETER_PREFIX}NAME'])}"
            )
        else:
            try:
                columns[name] = _READERS[name](value)
            except (ValueError, OverflowError) as error:
                problems.append(f"--set {word}: {error}")
    if problems:
        raise InvalidInput("the request", problems)
    return ImportSettings(MappingProxyType(columns), MappingProxyType(parameters))


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or not 0 < int(text) < 2**31:
        raise ValueError("must be a whole number above 0")
    return int(text)


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("must be true or false")
    return text.lower() == "true"


def _run_type(text: str) -> str:
    if text not in RUN_TYPES:
        raise ValueError(f"must be one of {', '.join(RUN_TYPES)}")
    return text


def _time(text: str) -> str:
    try:
        moment = moment_of(text)
    except (ValueError, OverflowError, OSError):
        moment = None
    if moment is None:
        raise ValueError("must be a time such as 2026-06-09T14:30:22Z")
    return utc_text(moment)


_READERS: Mapping[str, Callable[[str], Any]] = MappingProxyType(
    {
        "model_name": str,
        "instance_type": str,
        "deployment_config": str,
        "quantization": normal_quantization,
        "tensor_parallel_degree": _whole,
        "deployment_target": normal_target,
        "region": str,
        "max_model_len": _whole,
        "enable_lora": _flag,
        "kv_cache_dtype": str,
        "workload": str,
        "concurrency": _whole,
        "streaming": _flag,
        "run_type": _run_type,
        "run_timestamp": _time,
        "project_name": str,
        "benchmark_job_name": str,
        "mcc_version": str,
        "adapter_name": str,
        "engine": str,
        "execution": str,
    }
)
SETTABLE: tuple[str, ...] = tuple(_READERS)
"""What may be set by name; `serving_params.NAME` beside it."""
