"""A search for a better setting on one home: what it may try, what was measured before, what a run of it is promised.

Belongs here: what `mlcc optimize` does with store, ledger and CI table. Not here: the rules (`core.optimization`), proposing
settings (`optimization_study.py`), the loop (the command).
"""

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from catalog.model import Catalog
from mlcc_dagster.core.compared_metrics import ComparedMetric
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.constraints import refusals
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.optimization import Bounds, Used
from mlcc_dagster.core.optimization_space import ROW_COLUMNS, Like, Result, Setting, Space, results_of, space_of
from mlcc_dagster.core.outcome import BenchmarkPlan
from resources.estimates import Estimates
from resources.executor import Executor
from resources.lifecycle import entry_of, limit_seconds, measuring_stages
from resources.platform import Platform
from resources.prover import START_SECONDS

RUN_TYPE = "optimization"


@dataclass(frozen=True)
class Search:
    """One search: `name` is its budget in the ledger and the scope of its rounds, `load` the one level that it measures."""

    name: str
    space: Space
    metric: ComparedMetric
    load: BenchmarkPlan
    bounds: Bounds
    seed: int

    @property
    def concurrency(self) -> int:
        """The concurrency that it measures at."""
        return self.load.concurrency_levels[0]


def name_of_moment(now: datetime) -> str:
    """Return a name for a search that begins now; two of one second have different ones, since they are two budgets."""
    return f"{RUN_TYPE}@{now:%Y%m%dT%H%M%S}Z-{secrets.token_hex(2)}"


def space_on(
    executor: Executor,
    configuration: Configuration,
    catalog: Catalog,
    *,
    workload: str,
    names: Collection[str] | None = None,
) -> Space:
    """Return the settings around a configuration that preflight does not refute and the executor can run; raises `UsageError`
    as `space_of` does, for a configuration that cannot run itself and for one on an instance without a price."""

    def refusal(each: Configuration) -> str | None:
        refuted = refusals(each, catalog)
        return refuted[0].sentence if refuted else executor.can_run(each)

    if (refused := refusal(configuration)) is not None:
        raise UsageError(f"nothing was started: {configuration} {refused}")
    if not catalog.instances[configuration.instance_type].usd_per_hour:
        raise UsageError(
            f"{configuration.instance_type} has no price in the catalog, so that no budget bounds a search; enter one"
        )
    return space_of(configuration, catalog, workload=catalog.workloads[workload], refusal=refusal, names=names)


def history(platform: Platform, search: Search) -> tuple[Result, ...]:
    """Return what this home measured of the settings of a search before, like with like alone."""
    configuration = search.space.configuration
    like = Like(
        executor=platform.executor.name,
        engine=platform.executor.digests(configuration.deployment_config).get("engine"),
        workload=search.load.workload,
        concurrency=search.concurrency,
        metric=search.metric,
    )
    columns = [*ROW_COLUMNS, search.metric.column]
    rows = platform.store.snapshot().read(lambda snapshot: snapshot.rows(columns=columns))
    return results_of(search.space, like, rows)


def result_of_run(platform: Platform, search: Search, setting: Setting, run_id: str) -> Result:
    """Return what a finished run says of its setting, by its own row."""
    columns = ["run_id", "status", "concurrency", "failure_reason", search.metric.column]
    rows = platform.store.snapshot().read(lambda snapshot: snapshot.rows(columns=columns))
    found: list[Mapping[str, Any]] = [row for row in rows if row["run_id"] == run_id]
    for row in found:
        value = row[search.metric.column]
        if row["status"] == "completed" and row["concurrency"] == search.concurrency and value:
            return Result(setting, run_id, None, float(value))
    status = found[0]["status"] if found else None
    reason = found[0]["failure_reason"] if found and status != "completed" else None
    missing = f"its row has no {search.metric.column} at concurrency {search.concurrency}"
    return Result(setting, run_id, None, None, feasible=status != "unfeasible", reason=reason or missing)


def register(platform: Platform, configuration: Configuration, load: BenchmarkPlan) -> str:
    """Make a record of a setting that neither the catalog nor the table knows, so that a run of it can be asked for, and return
    its config id."""
    key = config_id(configuration)
    if entry_of(platform, key) is None and platform.ci.record(key) is None:
        platform.ci.register(configuration, benchmark=load)
    return key


def most_usd(platform: Platform, configuration: Configuration) -> float:
    """Return the most that a run of a setting can cost, in USD: all its stages up to their limits, which has to be promised."""
    entry = entry_of(platform, config_id(configuration))
    limits = [(stage, limit_seconds(entry, stage)) for stage in measuring_stages(entry)]
    return platform.prices(configuration).most_run_usd(limits)


def run_most_usd(platform: Platform, search: Search) -> float:
    """Return the most that a run of a search can cost, in USD: the present setting has the limits of its catalog entry, the others
    those that are the default."""
    other = next(each for each in search.space.settings if each != search.space.present)
    return max(most_usd(platform, search.space.configured(each)) for each in (search.space.present, other))


def promise(platform: Platform, search: Search, configuration: Configuration) -> str | None:
    """Promise a run what it can cost at most and return the reservation; none where that would pass the budget."""
    key = config_id(configuration)
    record = platform.ci.record(key)
    # the prover reads from such a key which configuration money is promised for
    run_key = f"{search.name}/{key}/{record.generation + 1 if record else 1}"
    reserved = platform.ledger.reserve(
        search.name,
        run_key,
        most_usd(platform, configuration),
        ceiling_usd=search.bounds.max_usd,
        deadline_seconds=START_SECONDS,
    )
    return run_key if reserved else None


def spent_usd(platform: Platform, search: Search) -> float:
    """Return what a search has cost by the ledger, in USD."""
    totals = platform.ledger.totals(search.name)
    return totals.committed_usd + totals.overrun_usd


def expected(platform: Platform, search: Search) -> tuple[float, float]:
    """Return the seconds and USD that one run of the present setting is expected to take, from past runs and declared times."""
    configuration = search.space.configuration
    key, estimates = config_id(configuration), Estimates.take(platform)
    stages = measuring_stages(entry_of(platform, key))
    return estimates.seconds(configuration, key, stages), estimates.usd(configuration, key, stages)


def used(
    platform: Platform, search: Search, *, trials: int, seconds: float, costs: Collection[float], expected_usd: float
) -> Used:
    """Return what a search has used after `trials` settings and `seconds`; `costs` are those of all its runs so far."""
    runs = len(costs)
    return Used(
        trials=trials,
        usd=spent_usd(platform, search),
        seconds=seconds,
        usd_per_run=sum(costs) / runs if runs else expected_usd,
        most_usd=run_most_usd(platform, search),
        seconds_per_run=seconds / runs if runs else None,
    )
