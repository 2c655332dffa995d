"""The partitions of the platform's assets.

Belongs here: the definitions and how their keys follow the catalog and the store. Not here: who asks for a partition.
"""

import dagster as dg

from catalog.loader import load_catalog
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.resolution import configuration_of
from resources.platform import Platform

CONFIGURATIONS = dg.DynamicPartitionsDefinition(name="configuration")
"""One key per configuration: its config_id. Names are in metadata and tags: a key must stay valid in paths and URLs."""

MODEL_FAMILIES = dg.DynamicPartitionsDefinition(name="model_family")
"""One key per model family of the catalog or the store; dynamic, since imports bring new ones."""


def wanted_keys(platform: Platform) -> dict[str, list[str]]:
    """Return the keys that should exist, by definition name: configurations the executor can run come first."""
    known = platform.configurations()
    runnable = [key for key, configuration in known.items() if platform.executor.can_run(configuration) is None]
    others = [key for key in known if key not in set(runnable)]
    families = {configuration.model_family for configuration in known.values()}
    families |= {model.family for model in platform.catalog.models.values()}
    table = platform.store.snapshot().read(lambda snapshot: snapshot.table(columns=["model_family"]))
    stored = table.column("model_family").unique().to_pylist()
    return {
        "configuration": [*runnable, *others],
        "model_family": sorted(families | {family for family in stored if family}),
    }


def missing_keys(platform: Platform, instance: dg.DagsterInstance) -> dict[str, list[str]]:
    """Return the wanted keys that the instance does not have yet, by definition name."""
    wanted = wanted_keys(platform)
    there = {name: frozenset(instance.get_dynamic_partitions(name)) for name in wanted}
    return {name: [key for key in keys if key not in there[name]] for name, keys in wanted.items()}


def add_missing_keys(platform: Platform, instance: dg.DagsterInstance) -> int:
    """Add the missing keys in one call per definition (singly it is hundreds of times slower) and return how many."""
    added = 0
    for name, keys in missing_keys(platform, instance).items():
        if keys:
            instance.add_dynamic_partitions(name, keys)
            added += len(keys)
    return added


def configuration_table() -> dg.TableMetadataValue:
    """Return which partition key is which configuration, from the catalog: local path first, then the golden path."""
    catalog = load_catalog()
    rows = []
    for entry in sorted(catalog.entries, key=lambda entry: entry.tier != "local"):
        configuration = configuration_of(entry, catalog)
        rows.append(
            dg.TableRecord(
                {
                    "partition": config_id(configuration),
                    "name": entry.id,
                    "tier": entry.tier,
                    "configuration": str(configuration),
                }
            )
        )
    columns = [dg.TableColumn(name, "string") for name in ("partition", "name", "tier", "configuration")]
    return dg.MetadataValue.table(rows, dg.TableSchema(columns))
