"""Promotion: configurations that passed in a prove document become entries of a home's catalog.

Belongs here: which ones, and the entry that each becomes. Not here: writing entries (`home_catalog.py`), what passed
(`prove_documents.py`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from catalog.model import Catalog, Entry, EntryBenchmark
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.resolution import configuration_of
from mlcc_dagster.core.stages import CANONICAL_ORDER, TUNING_STAGES, Stage
from resources.home import Home
from resources.home_catalog import catalog_of, import_entries
from resources.prove_documents import Remembered, Standing, all_remembered, progress
from resources.prover import benchmark_for
from resources.sqlite_ci_table import SqliteCiTable

LOCAL_TIER = "local"
OTHER_TIER = "weekly"
"""What does not run on this machine is promoted to the tier that costs least: it is run once a week."""

SOURCE = "what passed"


@dataclass(frozen=True)
class Promotion:
    """What a promotion adds: `entries`; `present` are config ids that the catalog has; `left_out` says why what passed
    becomes no entry, by config_id."""

    entries: tuple[Entry, ...]
    present: tuple[str, ...]
    left_out: Mapping[str, str]

    def diff(self) -> list[str]:
        """Return the added entries as lines of a diff of the catalog."""
        return [line for entry in self.entries for line in _added(entry)]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "added": [_told(entry) for entry in self.entries],
            "present": list(self.present),
            "left_out": dict(self.left_out),
        }


def promotion(home: Home) -> Promotion:
    """Return what promoting everything that passed in this home would add; nothing is written, and no home is made.

    A configuration that several documents proved is promoted as the one asked for last ran it.
    """
    catalog = catalog_of(home)
    listed = {config_id(configuration_of(entry, catalog)) for entry in catalog.entries}
    entries: dict[str, Entry] = {}
    present: dict[str, None] = {}
    left_out: dict[str, str] = {}
    kept_documents = all_remembered(home)
    ci = SqliteCiTable(home.database) if kept_documents else None
    for kept in kept_documents:
        for each in progress(ci, kept) if ci is not None else ():
            key = each.member.config_id
            if each.standing is not Standing.PASSED:
                continue
            if key in listed:
                present[key] = None
            elif key not in entries:
                made = entry_for(each.member.configuration, kept, catalog)
                if isinstance(made, str):
                    left_out[key] = made
                else:
                    entries[key] = made
    return Promotion(
        tuple(entries.values()),
        tuple(present),
        MappingProxyType({key: why for key, why in left_out.items() if key not in entries}),
    )


def promote(home: Home, found: Promotion) -> None:
    """Write what a promotion adds into the home's catalog. Raises `CatalogError` where an id is taken by an entry of a
    person's own."""
    if found.entries:
        import_entries(home, found.entries, source=SOURCE)


def entry_for(configuration: Configuration, kept: Remembered, catalog: Catalog) -> Entry | str:
    """Return the entry that declares a configuration with the stages of its document, or why there can be none.

    Tuning stages are left out: an entry that tunes has to name its data set, which a document does not.
    """
    instance = catalog.instances[configuration.instance_type]
    if Stage.TEST not in kept.asked.stages:
        return "it was not tested, so nothing is proven; add deploy and test to the stages"
    if configuration.model_name is not None and configuration.model_name not in catalog.models:
        return f"{configuration.model_name} is not in models.yaml; add it there first"
    measured = Stage.BENCHMARK in kept.asked.stages
    plan = benchmark_for(catalog, configuration)
    stages = {*kept.asked.stages, Stage.CLEAN} - TUNING_STAGES
    own_degree = configuration.tp_degree != max(instance.gpu_count, 1)
    return Entry(
        id=_id(configuration),
        tier=LOCAL_TIER if instance.local else OTHER_TIER,
        track=catalog.deployment_targets[configuration.deployment_target].track,
        deployment_config=configuration.deployment_config,
        model_name=configuration.model_name,
        instance_type=configuration.instance_type,
        region=configuration.region,
        deployment_target=configuration.deployment_target,
        quantization=configuration.quantization,
        tp_degree=configuration.tp_degree if own_degree else None,
        max_model_len=configuration.max_model_len,
        enable_lora=configuration.enable_lora,
        serving_params=MappingProxyType(dict(configuration.serving_params)),
        lifecycle=tuple(stage.value for stage in CANONICAL_ORDER if stage in stages),
        timeout=max(60, int(kept.asked.timeout_seconds)),
        tune_timeout=None,
        tune_config=None,
        benchmark=EntryBenchmark(
            measured, plan.workload if plan.enabled else next(iter(catalog.workloads)), plan.concurrency_levels or (1,)
        ),
        expected_failure=None,
    )


def _id(configuration: Configuration) -> str:
    """Return an id that says what it is and that nothing else has: the words of the configuration and digits of its own."""
    model = (configuration.model_name or "none").rsplit("/", 1)[-1]
    words = f"{configuration.deployment_config} {model} {configuration.instance_type}"
    return f"proven-{re.sub(r'[^a-z0-9]+', '-', words.lower()).strip('-')}-{config_id(configuration)[:8]}"


def _told(entry: Entry) -> dict[str, Any]:
    values = {name: getattr(entry, name) for name in Entry.__dataclass_fields__}
    values |= {
        "serving_params": dict(entry.serving_params),
        "lifecycle": list(entry.lifecycle),
        "benchmark": {
            "enabled": entry.benchmark.enabled,
            "workload": entry.benchmark.workload,
            "concurrency_levels": list(entry.benchmark.concurrency_levels),
        },
    }
    return {name: value for name, value in values.items() if value not in (None, {}, False)}


def _added(entry: Entry) -> list[str]:
    first, *others = (f"{name}: {value}" for name, value in _told(entry).items())
    return [f"+ - {first}", *(f"+   {line}" for line in others)]
