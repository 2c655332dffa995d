"""From what a file measured to rows of our table: the configuration it was measured on, its identity, its metrics.

Belongs here: what a row needs beyond the file, and putting levels of one run together. Not here: reading files of a tool,
which runs the store has already (`resources.result_imports`).

A value that a person set comes before what the file says, and the row's evidence keeps what the file said. A row that was
imported has no executor: its evidence class is `imported`. What neither says is NULL; for the identity the catalog entry of the
same five fields then speaks, as for records of existing installations.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from catalog.model import Catalog
from mlcc_dagster.core.exceptions import InvalidInput
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.imports.measured import Measured
from mlcc_dagster.core.imports.measured_configurations import measured_configuration
from mlcc_dagster.core.imports.settings import ImportSettings
from mlcc_dagster.core.metrics import NoSuccessfulRequest, metric_columns
from mlcc_dagster.core.records import COLUMN_NAMES, COLUMNS, SCHEMA_VERSION, partition_path, row_problems
from mlcc_dagster.core.request_records import RequestRecord

NEEDED: tuple[str, ...] = (
    "model_name",
    "instance_type",
    "deployment_config",
    "quantization",
    "tensor_parallel_degree",
    "run_timestamp",
)
"""What every imported row must know; a default would make another configuration or another time of it."""

DERIVED: frozenset[str] = frozenset(
    {
        "model_family",
        "instance_family",
        "gpu_count",
        "gpu_type",
        "gpu_memory_gb",
        "cost_per_1m_tokens",
        "serving_config",
    }
    | {"evidence", "raw_uri", "schema_version"}
)
"""Columns of an imported row that follow from the catalog of that day or from the file's name: they may differ when the same
result is imported again."""

_WINDOW: frozenset[str] = frozenset(
    {"duration_seconds", "benchmark_duration_sec", "request_throughput_rps", "total_token_throughput_tps"}
    | {"output_token_throughput_tps", "cost_per_1m_tokens"}
)
"""What cannot be computed of requests that have latencies but no times."""

_METRIC_NAMES: frozenset[str] = frozenset(
    column.name for column in COLUMNS if column.source.startswith("raw records") or column.source == "observed"
)
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Difference:
    """A value that a file summarises otherwise than its own raw requests give, and why."""

    where: str
    column: str
    reported: float
    recomputed: float | None
    why: str

    def to_json(self) -> dict[str, Any]:
        """Return the difference as JSON values."""
        return {
            "where": self.where,
            "column": self.column,
            "reported": self.reported,
            "recomputed": self.recomputed,
            "why": self.why,
        }


@dataclass(frozen=True)
class ImportedLevel:
    """One row and what belongs to it: its raw requests, the numbers kept beside the columns, differences and remarks."""

    row: Mapping[str, Any]
    configuration: str
    records: tuple[RequestRecord, ...]
    differences: tuple[Difference, ...]
    remarks: tuple[str, ...]
    measured: Measured


@dataclass(frozen=True)
class ImportedRun:
    """The rows of one run, ready to be published."""

    run_id: str
    levels: tuple[ImportedLevel, ...]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows, by workload and concurrency."""
        return [dict(level.row) for level in self.levels]

    @property
    def complete(self) -> bool:
        """Whether the rows kept the identity they had in another home."""
        return self.levels[0].measured.complete_row


def imported_runs(
    measured: Iterable[Measured], *, settings: ImportSettings, catalog: Catalog
) -> tuple[tuple[ImportedRun, ...], tuple[str, ...]]:
    """Make the runs of what was measured; the second part are all mistakes, and while there are any the first is not to be
    used.

    The same level given twice counts once. `run_id` is `<config_id>-i<digest of the file's content>`: the same file makes
    the same run, however it was packed or named.
    """
    problems: list[str] = []
    runs: dict[str, dict[tuple[Any, ...], ImportedLevel]] = {}
    silent: dict[tuple[str, ...], list[str]] = {}
    for each in measured:
        missing = _missing(each, settings)
        if missing:
            silent.setdefault(missing, []).append(each.where)
            continue
        level = _completed(each, settings, catalog, problems)
        if level is None:
            continue
        row = level.row
        key = (row["config_id"], row["workload"], row["concurrency"])
        known = runs.setdefault(row["run_id"], {}).setdefault(key, level)
        if known is not level and comparable(known.row, whole=each.complete_row) != comparable(
            row, whole=each.complete_row
        ):
            problems.append(
                f"{each.where}: says otherwise than {known.measured.where} of the same run, workload and concurrency; "
                "import one of them"
            )
    problems += [_silence(names, places) for names, places in silent.items()]
    made = []
    for run_id, levels in runs.items():
        ordered = sorted(levels.values(), key=lambda level: (str(level.row["workload"]), level.row["concurrency"] or 0))
        made.append(ImportedRun(run_id, tuple(ordered)))
        problems += _run_problems(made[-1])
    return tuple(made), tuple(dict.fromkeys(problems))


def _missing(measured: Measured, settings: ImportSettings) -> tuple[str, ...]:
    """Return what neither a file nor a person says and no row can do without."""
    if measured.complete_row:
        return ()
    # Raw requests alone do not say under which load they were sent.
    needed = (*NEEDED, "concurrency") if measured.half == "records" else NEEDED
    return tuple(name for name in needed if measured.columns.get(name) is None and settings.columns.get(name) is None)


def _silence(names: tuple[str, ...], places: list[str]) -> str:
    """Say once for all places what is missing."""
    more = f" and {len(places) - 1} more" if len(places) > 1 else ""
    words = " ".join(f"--set {name}=..." for name in names)
    return f"{places[0]}{more}: {'do' if more else 'does'} not say {', '.join(names)}; add {words}"


def comparable(row: Mapping[str, Any], *, whole: bool) -> tuple[Any, ...]:
    """Return the part of a row by which two readings of one result are compared; `whole` rows in every column."""
    return tuple(row.get(name) for name in COLUMN_NAMES if whole or name not in DERIVED)


def _run_problems(run: ImportedRun) -> list[str]:
    """Say why the rows of a run cannot be in one file."""
    places = set()
    for level in run.levels:
        try:
            places.add(partition_path(level.row, run.run_id))
        except InvalidInput as error:
            hint = "" if run.complete else "; import it by itself and name it with --set model_name=..."
            return [f"{level.measured.where}: {problem}{hint}" for problem in error.problems]
    if len(places) > 1:
        return [f"{run.levels[0].measured.where}: run {run.run_id} is of several models, instances or targets"]
    return []


def _completed(
    measured: Measured, settings: ImportSettings, catalog: Catalog, problems: list[str]
) -> ImportedLevel | None:
    if measured.complete_row:
        return _kept(measured, settings, problems)
    given = {**measured.columns, **settings.columns}
    configuration = measured_configuration(given, settings, catalog, measured.where, problems)
    if configuration is None:
        return None
    instance = catalog.instances.get(configuration.instance_type)
    price = instance.usd_per_hour if instance else None
    reported = {
        name: measured.columns[name]
        for name, value in settings.columns.items()
        if measured.columns.get(name) not in (None, value)
    }
    metrics, differences, failure = _metrics(measured, price)
    key = config_id(configuration)
    row: dict[str, Any] = dict.fromkeys(COLUMN_NAMES)
    row |= {name: given.get(name) for name in COLUMN_NAMES if name not in _METRIC_NAMES}
    row |= metrics
    row |= {
        "model_name": configuration.model_name,
        "model_family": configuration.model_family,
        "instance_type": configuration.instance_type,
        "deployment_config": configuration.deployment_config,
        "deployment_target": configuration.deployment_target,
        "quantization": configuration.quantization,
        "tensor_parallel_degree": configuration.tp_degree,
        "instance_family": configuration.instance_family,
        "gpu_count": instance.gpu_count if instance else given.get("gpu_count"),
        "gpu_type": (instance.gpu_type or None) if instance else given.get("gpu_type"),
        "gpu_memory_gb": _memory(instance.gpu_memory_gb if instance else given.get("gpu_memory_gb")),
        "region": configuration.region,
        "serving_config": given.get("serving_config") or _serving_config(given, settings),
        "run_type": given.get("run_type") or "manual",
        "metrics_source": given.get("metrics_source") or "none",
        "run_id": f"{key}-i{hashlib.sha256(measured.identity.encode()).hexdigest()[:12]}",
        "config_id": key,
        "status": given.get("status") or "completed",
        "schema_version": SCHEMA_VERSION,
        "evidence": _evidence(measured, reported, price),
    }
    if failure is not None and row["status"] == "completed":
        row |= {
            "status": "failed",
            "concurrency": 0,
            "failure_reason": failure,
            "failure_stage": "benchmark",
            "failure_category": "unknown",
            "failure_retryable": True,
        }
    wrong = row_problems(row)
    if wrong:
        problems += [f"{measured.where}: {problem}" for problem in wrong]
        return None
    remarks = [*measured.remarks]
    if instance is None:
        remarks.append(
            f"instance type {configuration.instance_type} is not in the catalog: its GPUs and price are unknown"
        )
    if configuration.deployment_config not in catalog.deployment_configs:
        remarks.append(f"deployment configuration {configuration.deployment_config} is not in the catalog")
    remarks += [
        f"{name}: the file says {value}, --set says {settings.columns[name]}" for name, value in reported.items()
    ]
    return ImportedLevel(
        MappingProxyType(row),
        str(configuration),
        measured.records,
        tuple(differences),
        tuple(remarks),
        measured,
    )


def _kept(measured: Measured, settings: ImportSettings, problems: list[str]) -> ImportedLevel | None:
    """Return a row of another home as it stands."""
    if settings:
        problems.append(
            f"{measured.where}: is a row of another home with an identity of its own; import it without --set"
        )
        return None
    row = {name: measured.columns.get(name) for name in COLUMN_NAMES}
    wrong = row_problems(row)
    if wrong:
        problems += [f"{measured.where}: {problem}" for problem in wrong]
        return None
    named = " ".join(str(row[name]) for name in ("deployment_config", "model_name", "instance_type") if row[name])
    return ImportedLevel(MappingProxyType(row), named, (), (), measured.remarks, measured)


def _serving_config(given: Mapping[str, Any], settings: ImportSettings) -> str:
    names = ("quantization", "tensor_parallel_degree", "enable_lora", "kv_cache_dtype", "max_model_len", "adapter_name")
    document = {name: given.get(name) for name in names} | dict(settings.serving_params)
    return json.dumps({name: value for name, value in document.items() if value not in (None, "")})


def _memory(value: Any) -> float | None:
    return None if not value else float(value)


def _evidence(measured: Measured, reported: Mapping[str, Any], price: float | None) -> str:
    document: dict[str, Any] = {
        "imported_from": measured.format,
        "source_digest": f"sha256:{measured.identity}",
        "reported": dict(reported) or None,
        "usd_per_hour": price,
        "metrics": dict(measured.extra) or None,
    }
    if measured.records and not measured.timed:
        document["request_times"] = "not recorded"
    return json.dumps({name: value for name, value in document.items() if value is not None}, sort_keys=True)


def _metrics(measured: Measured, price: float | None) -> tuple[dict[str, Any], list[Difference], str | None]:
    """Return the metric columns, what a file summarises otherwise, and why there is no result where nothing succeeded."""
    given = {name: value for name, value in measured.columns.items() if name in _METRIC_NAMES}
    if measured.failure is not None:
        return {}, [], measured.failure
    if not measured.records:
        given.setdefault("cost_per_1m_tokens", _cost(given.get("output_token_throughput_tps"), price))
        return given, [], None
    try:
        computed = metric_columns(measured.records, usd_per_hour=price)
    except NoSuccessfulRequest as error:
        return {}, [], str(error).partition(";")[0]
    if not measured.timed:
        computed = {name: value for name, value in computed.items() if name not in _WINDOW}
        computed |= {name: given.get(name) for name in _WINDOW}
        computed["cost_per_1m_tokens"] = _cost(given.get("output_token_throughput_tps"), price)
    differences = [
        Difference(measured.where, name, value, computed.get(name), _why(measured, name))
        for name, value in measured.summary.items()
        if name in computed and not _alike(value, computed[name])
    ]
    return given | computed, differences, None


def _cost(tokens_per_second: float | None, price: float | None) -> float | None:
    if price is None or not tokens_per_second:
        return None
    return round(price / (tokens_per_second * 3600) * 1e6, 4)


def _alike(reported: float, computed: float | None) -> bool:
    return computed is not None and abs(reported - computed) <= _TOLERANCE * max(abs(reported), abs(computed), 1e-12)


def _why(measured: Measured, column: str) -> str:
    begun = [start for start in measured.explained if column.startswith(start)]
    return measured.explained[max(begun, key=len)] if begun else "not explained by a rule that is known of this tool"
