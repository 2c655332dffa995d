"""One home opened: its settings, catalog, tables, store and executor together.

Belongs here: putting the parts together, once, for commands, ops and sensors alike. Not here: what the parts do.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from catalog.model import Catalog, Entry
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.prices import Prices
from mlcc_dagster.core.resolution import configuration_of
from mlcc_dagster.core.stages import Stage
from resources.executor import Executor
from resources.home import Home
from resources.home_catalog import catalog_of
from resources.ledger import Ledger
from resources.person_words import PersonWords
from resources.result_store import ResultStore
from resources.rounds import Rounds
from resources.sqlite_ci_table import SqliteCiTable

EXECUTORS: tuple[str, ...] = ("local", "replay")
"""Executors by name, the default first; each is imported when asked for."""


def open_executor(name: str, home: Home) -> Executor:
    """Return the executor of that name, working in `home`.

    Raises `UsageError` naming the known ones.
    """
    if name == "local":
        from resources.local.executor import LocalExecutor

        return LocalExecutor(home)
    if name == "replay":
        from resources.replay import ReplayExecutor

        return ReplayExecutor.of_home(home)
    raise UsageError(f"unknown executor '{name}'; use one of {', '.join(EXECUTORS)}")


@dataclass(frozen=True)
class Platform:
    """The opened parts of one home. Cheap to open; nothing runs and no page of results is read by opening it."""

    home: Home
    catalog: Catalog
    ci: SqliteCiTable
    ledger: Ledger
    rounds: Rounds
    store: ResultStore
    words: PersonWords
    executor: Executor

    @classmethod
    def open(cls, root: Path | None = None, *, executor: str | None = None) -> "Platform":
        """Open the home at `root` (default: `$MLCC_HOME`), making it where it is not there yet.

        With the executor `replay` the home is the replay home below it, so that played outcomes never mix with real ones.
        Raises `HomeError`, `UsageError` (executor), `InvalidInput` (settings) or `CatalogError`.
        """
        home = Home(root.resolve()) if root is not None else Home.current()
        # The replay home plays the configurations of the home that it lies in.
        catalog = catalog_of(home)
        name = executor or home.settings.executor
        if name == "replay":
            home = home.replay()
        performer = open_executor(name, home.ensure())
        ci = SqliteCiTable(home.database)
        return cls(
            home=home,
            catalog=catalog,
            ci=ci,
            ledger=Ledger(home.database),
            rounds=Rounds(home.database),
            store=ResultStore(home.results, ci.fenced_out),
            words=PersonWords(home.database),
            executor=performer,
        )

    def configurations(self) -> dict[str, Configuration]:
        """Every known configuration by its id: the catalog's entries in their order, then registered ones."""
        known = {}
        for entry in self.catalog.entries:
            configuration = configuration_of(entry, self.catalog)
            known[config_id(configuration)] = configuration
        for record in self.ci.records():
            known.setdefault(record.config_id, record.configuration)
        return known

    def prices(self, configuration: Configuration) -> Prices:
        """Return what the configuration's stages cost on this executor."""
        instance = self.catalog.instances.get(configuration.instance_type)
        hourly = None if instance is None else instance.usd_per_hour
        return Prices(self.executor.billing, hourly, self.catalog.costs)

    def stage_usd(self, configuration: Configuration, stage: Stage, seconds: float) -> float:
        """Return what `seconds` of a stage are expected to cost on this executor, in USD (see `Prices.usd`); the instance
        counts as 0 where the catalog has no price for it."""
        return self.prices(configuration).usd(stage, seconds)

    @cached_property
    def entries_by_id(self) -> Mapping[str, Entry]:
        """The catalog's entries by the config id that they declare, the first of several."""
        found: dict[str, Entry] = {}
        for entry in self.catalog.entries:
            found.setdefault(config_id(configuration_of(entry, self.catalog)), entry)
        return MappingProxyType(found)

    def usd_per_second(self, configuration: Configuration) -> float:
        """The price of the configuration's instance; 0 where the catalog has none."""
        instance = self.catalog.instances.get(configuration.instance_type)
        return 0.0 if instance is None or instance.usd_per_hour is None else instance.usd_per_hour / 3600
