"""The Path Prover's hands: gaps made concrete, money promised, runs ready to be requested.

Belongs here: what the sensor, the schedule and `mlcc path-prove` do alike. Not here: which gaps to choose (`core.planning`),
starting runs (Dagster does).
"""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from catalog.model import Catalog
from mlcc_dagster.core.configuration import Configuration, Vector
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.odds import Trials
from mlcc_dagster.core.outcome import BenchmarkPlan
from mlcc_dagster.core.planning import (
    DEFAULT_STRATEGY,
    MAX_COST_PER_RUN_USD,
    MAX_PROVES_PER_RUN,
    Candidate,
    Evidence,
    Pick,
    Plan,
    plan,
)
from mlcc_dagster.core.resolution import Unresolved, resolve
from mlcc_dagster.core.targets import SELECTIONS, Target, TargetList, resolve_target
from resources.estimates import Estimates
from resources.lifecycle import DEFAULT_STAGES, entry_of, most_usd, stages_of
from resources.platform import Platform
from resources.survey import Survey

START_SECONDS = 900.0
"""A promised run that has not begun after this long gives its money back."""

RUN_TYPE = "path_prove"

Wanted = Configuration | Unresolved
"""What a priority target comes to on this executor."""


@dataclass(frozen=True)
class Execution:
    """One bounded execution of the prover: its name is both the budget in the ledger and the round of its runs."""

    name: str
    max_proves: int = MAX_PROVES_PER_RUN
    max_usd: float = MAX_COST_PER_RUN_USD
    strategy: str = DEFAULT_STRATEGY
    targets: TargetList | None = None

    @classmethod
    def of_day(cls, now: datetime) -> "Execution":
        """The execution that the sensor and the daily schedule share on a UTC day."""
        return cls(f"{RUN_TYPE}@{now:%Y%m%d}")

    @classmethod
    def of_moment(
        cls,
        now: datetime,
        *,
        max_proves: int,
        max_usd: float,
        strategy: str = DEFAULT_STRATEGY,
        targets: TargetList | None = None,
    ) -> "Execution":
        """An execution of its own, as a command starts it."""
        # Two that begin in the same second are two budgets, and must not share a name.
        name = f"{RUN_TYPE}@{now:%Y%m%dT%H%M%S}Z-{secrets.token_hex(2)}"
        return cls(name, max_proves, max_usd, strategy, targets)


@dataclass(frozen=True)
class Proof:
    """A run to request: money is promised for it under `run_key`, which is also what Dagster tells runs apart by."""

    run_key: str
    pick: Pick

    @property
    def config_id(self) -> str:
        """The configuration, that is the partition."""
        return self.pick.candidate.config_id


def benchmark_for(catalog: Catalog, configuration: Configuration, workload: str | None = None) -> BenchmarkPlan:
    """Return what a gap's run measures: the `workload` that its target names, else the local profile of its kind on this
    machine, `multi_turn_chat` for language models elsewhere, nothing where the catalog has no workload of the kind."""
    wanted = workload or catalog.default_workload(configuration.deployment_config, configuration.instance_type)
    if wanted is None:
        return BenchmarkPlan(enabled=False, workload="none", concurrency_levels=())
    return BenchmarkPlan(
        enabled=True, workload=wanted, concurrency_levels=tuple(catalog.workloads[wanted].concurrency_levels)
    )


def open_targets(platform: Platform, survey: Survey, targets: TargetList | None) -> list[tuple[Target, Wanted]]:
    """Return the priority targets that are still to be proven, in their order, each with its configuration or the reason
    why it has none here."""
    if targets is None:
        return []
    pending = SELECTIONS["v1"].open_targets(targets, platform.catalog, proofs=survey.rows)
    return [(target, _wanted(platform, target)) for target in pending]


def _wanted(platform: Platform, target: Target) -> Wanted:
    more = target.asked_stages - DEFAULT_STAGES
    if more:
        names = ", ".join(sorted(stage.value for stage in more))
        return Unresolved(f"it asks for {names}, which a path proof does not run; leave these stages out of the target")
    return resolve_target(target, platform.catalog, platform.executor.can_run)


def candidates(platform: Platform, survey: Survey, execution: Execution) -> tuple[list[Candidate], dict[Vector, str]]:
    """Return the gaps that may be started now, made concrete with their price, and why the others may not. Priority
    targets come first and stand for the gap of their vector.

    Left out: gaps that wait (unfeasible, retry not due, parked), that nothing makes concrete, that have no price, whose
    configuration runs or is promised already (but for promises of this execution that no run has begun).
    """
    found: list[Candidate] = []
    left_out: dict[Vector, str] = {}
    living = platform.ledger.living()
    own = {key_config(r.run_key) for r in living if r.budget == execution.name and r.state == "reserved"}
    running = survey.running | {attempt.config_id for attempt in platform.ci.running()}
    # What was promised when the results were read may have run since, and its result is not among them.
    promised = {key_config(r.run_key) for r in (*survey.living, *living)} - own
    estimates = Estimates.take(platform)
    wanted: dict[Vector, tuple[int, Target, Configuration]] = {}
    for place, (target, configuration) in enumerate(open_targets(platform, survey, execution.targets), start=1):
        if not isinstance(configuration, Unresolved):
            wanted.setdefault(configuration.vector, (place, target, configuration))
    listed = {gap.vector for gap in survey.gaps}
    others = [survey.gap(vector) for vector in wanted if vector not in listed]
    for gap in (*others, *survey.gaps):
        if not gap.reason.startable:
            left_out[gap.vector] = f"{gap.reason.value}: {gap.detail}"
            continue
        place, target, configuration = wanted.get(gap.vector, (None, None, None))
        configuration = configuration or resolve(gap.vector, platform.catalog, platform.executor.can_run)
        if isinstance(configuration, Unresolved):
            left_out[gap.vector] = configuration.reason
            continue
        price = platform.usd_per_second(configuration)
        key = config_id(configuration)
        if price <= 0:
            left_out[gap.vector] = f"{configuration.instance_type} has no price in the catalog, so no budget bounds it"
        elif key in running:
            left_out[gap.vector] = "its configuration is running"
        elif key in promised:
            left_out[gap.vector] = "money is promised to a run of it"
        else:
            workload = target.workload if target is not None else None
            benchmark = benchmark_for(platform.catalog, configuration, workload)
            stages = stages_of(entry_of(platform, key), benchmark)
            found.append(
                Candidate(
                    gap,
                    key,
                    configuration,
                    promised_usd=most_usd(platform, configuration, key, benchmark),
                    expected_usd=estimates.usd(configuration, key, stages),
                    priority=place,
                    workload=workload,
                )
            )
    return found, left_out


def make_plan(platform: Platform, survey: Survey, execution: Execution) -> Plan:
    """Plan what is left of an execution. Promises of it that no run has begun count as free: they are picked again."""
    found, left_out = candidates(platform, survey, execution)
    totals = platform.ledger.totals(execution.name)
    waiting = [r for r in platform.ledger.living(execution.name) if r.state == "reserved"]
    # another prover may have named a lower ceiling for the same budget, which the ledger then holds
    named = [b.ceiling_usd for b in platform.ledger.budgets() if b.name == execution.name and b.ceiling_usd is not None]
    ceiling = min([execution.max_usd, *named])
    return plan(
        found,
        strategy=execution.strategy,
        evidence=evidence_of(platform, survey, execution),
        max_proves=execution.max_proves - totals.runs + len(waiting),
        max_usd=ceiling - totals.committed_usd - totals.overrun_usd + sum(r.usd for r in waiting),
        left_out=left_out,
    )


def evidence_of(platform: Platform, survey: Survey, execution: Execution) -> Evidence:
    """Return what a plan of an execution knows: the survey's evidence, and what the execution's own runs try now."""
    records = [platform.ci.record(key_config(promise.run_key)) for promise in platform.ledger.living(execution.name)]
    in_flight = frozenset(record.configuration.vector for record in records if record is not None)
    return Evidence(survey.possible, survey.standing.proven, Trials.from_standing(survey.standing), in_flight)


def promise(platform: Platform, execution: Execution, planned: Plan, *, at_most: int) -> Iterator[Proof]:
    """Promise money for the plan's picks, in order, and yield the runs to request.

    The ledger decides: what another prover took meanwhile is refused there. A promise that was made before and never
    led to a run (a tick that was killed) is the same promise under the same key, so it neither costs twice nor runs twice;
    such are yielded again beside `at_most` new ones. A pick that waits for its canary is passed over.
    """
    given = 0
    waiting = {r.run_key for r in platform.ledger.reservations(state="reserved")}
    for pick in planned.picks:
        candidate = pick.candidate
        record = platform.ci.record(candidate.config_id)
        run_key = f"{execution.name}/{candidate.config_id}/{record.generation + 1 if record else 1}"
        if run_key in waiting:
            yield Proof(run_key, pick)
            continue
        if (
            pick.waits is None
            and given < at_most
            and platform.ledger.reserve(
                execution.name,
                run_key,
                candidate.promised_usd,
                ceiling_usd=execution.max_usd,
                deadline_seconds=START_SECONDS,
                max_runs=execution.max_proves,
            )
        ):
            given += 1
            benchmark = benchmark_for(platform.catalog, candidate.configuration, candidate.workload)
            platform.ci.register(candidate.configuration, benchmark=benchmark)
            yield Proof(run_key, pick)


def in_flight(platform: Platform, execution: Execution) -> int:
    """Return how many runs of an execution are promised or active."""
    return len(platform.ledger.living(execution.name))


def key_config(run_key: str) -> str:
    """Return the config id within a run key of the prover, the key itself where it is another's."""
    parts = run_key.rsplit("/", 2)
    return parts[1] if len(parts) == 3 else run_key
