"""What runs are expected to take and to cost here: past runs of this home, the catalog's declared times, and prices.

Belongs here: reading past runs once, and the seconds and USD of a list of stages. Not here: how an estimate is learned
(`core.durations`), what a second costs (`resources.platform`), the most that a run may cost (its limits, `prover.py`).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from catalog.model import Catalog, Entry
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.durations import Duration, Durations, StageRun, passed_seconds
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.resolution import configuration_of
from mlcc_dagster.core.stages import TUNING_STAGES, Stage
from resources.lifecycle import benchmark_plan, stages_of
from resources.platform import Platform

NEWEST_ATTEMPTS = 2_000
"""So many attempts are read, the newest of the home: some tenths of a second and some tens of megabytes, however many there
are. Of one configuration far fewer count (`durations.NEWEST_RUNS`)."""


@dataclass(frozen=True, eq=False)
class Estimates:
    """Expected seconds and USD of runs with the home's executor, as past runs stood when it was taken.

    `runs` counts the attempts by config_id that told anything; `scales` is by what the declared times of an entry are
    multiplied, for entries of a tier whose whole time is known.
    """

    platform: Platform
    durations: Durations
    runs: Mapping[str, int]
    scales: Mapping[str, float]
    _known: dict[tuple[Stage, str, float, str | None], Duration] = field(default_factory=dict, repr=False)

    @classmethod
    def take(cls, platform: Platform) -> "Estimates":
        """Read the newest attempts of the home, once, and return what they tell."""
        runs: Counter[str] = Counter()
        return cls(
            platform=platform,
            durations=Durations(_stage_runs(platform, runs)),
            runs=MappingProxyType(runs),
            scales=MappingProxyType(tier_scales(platform.catalog)),
        )

    def stage(self, configuration: Configuration, config_id: str, stage: Stage) -> Duration:
        """Return the expected seconds of one stage of a configuration, with the runs behind them."""
        name = configuration.deployment_config
        declared = self._declared(configuration, config_id, stage)
        own = self.durations.knows(stage, deployment_config=name, config_id=config_id)
        # A plan asks for thousands of configurations, most of which nobody ran: those share their estimates.
        key = (stage, name, declared, config_id if own else None)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self.durations.expected(
                stage, deployment_config=name, config_id=config_id, declared_seconds=declared
            )
        return known

    def seconds(self, configuration: Configuration, config_id: str, stages: Iterable[Stage]) -> float:
        """Return the expected seconds of a list of stages, each once, if all of them pass."""
        return sum(self.stage(configuration, config_id, stage).seconds for stage in stages)

    def usd(self, configuration: Configuration, config_id: str, stages: Iterable[Stage]) -> float:
        """Return the expected USD of a list of stages, each once, if all of them pass; 0 where nothing has a price."""
        seconds = [(stage, self.stage(configuration, config_id, stage).seconds) for stage in stages]
        return self.platform.prices(configuration).run_usd(seconds)

    def learned(self, config_id: str) -> int:
        """Return how many runs of exactly this configuration the estimate knows, 0 where it rests on others alone."""
        return self.runs.get(config_id, 0)

    def _declared(self, configuration: Configuration, config_id: str, stage: Stage) -> float:
        times = self.platform.catalog.stage_times[stage.value]
        seconds = times.local_seconds if configuration.instance_family == "local" else times.seconds
        return seconds if stage in TUNING_STAGES else seconds * self.scales.get(config_id, 1.0)


def tier_scales(catalog: Catalog) -> dict[str, float]:
    """Return by what the declared stage times of an entry are multiplied, by config_id: so that the runs of its tier come
    to the tier's `known_minutes` together. Entries of a tier without known minutes are left out.

    The known time is one of runs without tuning: the tier's known cost is less than its tuning jobs alone would take
    (`tuning_usd` each), so tuning is neither counted in it nor scaled by it.
    """
    scales: dict[str, float] = {}
    for tier in catalog.tiers.values():
        entries = catalog.tier_entries(tier.name)
        declared = sum(_declared_seconds(catalog, entry) for entry in entries)
        if tier.known_minutes is not None and declared > 0:
            scale = tier.known_minutes * 60 / declared
            scales |= {config_id(configuration_of(entry, catalog)): scale for entry in entries}
    return scales


def _declared_seconds(catalog: Catalog, entry: Entry) -> float:
    local = catalog.instances[entry.instance_type].local
    times = [catalog.stage_times[stage.value] for stage in stages_of(entry, benchmark_plan(entry)) - TUNING_STAGES]
    return sum(time.local_seconds if local else time.seconds for time in times)


def _stage_runs(platform: Platform, runs: Counter[str]) -> Iterator[StageRun]:
    """Yield what the newest attempts tell, the newest first, and count the attempts that tell anything in `runs`.

    Interrupted attempts and those that still run count too: what passed before, passed. The attempts of a home are those of
    one executor, since `replay` has a home of its own.
    """
    attempts = platform.ci.attempts(limit=NEWEST_ATTEMPTS)
    # Read after the attempts, so that none of them can be of a record that came later: records are never taken away.
    servers = {record.config_id: record.configuration.deployment_config for record in platform.ci.records()}
    for attempt in attempts:
        passed = passed_seconds(attempt.stages)
        runs[attempt.config_id] += bool(passed)
        for stage, seconds in passed.items():
            yield StageRun(stage, servers[attempt.config_id], attempt.config_id, seconds)
