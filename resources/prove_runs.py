"""Runs of a prove document: which of its configurations are to be run, what each is promised, what was kept of them.

Belongs here: what `mlcc prove` decides and does before and after a run. Not here: what a home remembers of a document
(`prove_documents.py`), the run itself (`lifecycle.py`), the loop (the command).
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from catalog.model import Catalog
from mlcc_dagster.core.constraints import refusals
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.prove_documents import Expansion, Member
from mlcc_dagster.core.resolution import configuration_of
from mlcc_dagster.core.stages import Stage
from resources.estimates import Estimates
from resources.executor import Executor
from resources.ledger import Resource
from resources.lifecycle import end_resources, entry_of, limit_seconds
from resources.platform import Platform
from resources.prove_documents import SETTLED, Asked, Progress, Remembered, committed_elsewhere, progress
from resources.prover import START_SECONDS, benchmark_for
from resources.stage_runner import KEPT


@dataclass(frozen=True)
class Prospect:
    """One configuration of a document before a command runs what is left. `refusal` says why it cannot run here,
    `refuted` what preflight will end it with, at no cost. Seconds and USD are those of one more run: expected, none where
    none is left to do or it would not begin; `most_usd` is what has to be promised for it."""

    progress: Progress
    refusal: str | None
    refuted: str | None
    seconds: float | None = None
    usd: float | None = None
    most_usd: float | None = None

    @property
    def member(self) -> Member:
        """The configuration."""
        return self.progress.member

    @property
    def settled(self) -> bool:
        """Whether a run would end as the last one did."""
        return self.progress.standing in SETTLED

    @property
    def to_run(self) -> bool:
        """Whether a command would run it: it is not settled, and this executor can."""
        return not self.settled and self.refusal is None


def prospects(platform: Platform, kept: Remembered) -> list[Prospect]:
    """Return what is left of a document for this executor, in the document's order, with what it is expected to take."""
    estimates = Estimates.take(platform)
    return [_prospect(platform, kept, each, estimates) for each in progress(platform.ci, kept)]


def _prospect(platform: Platform, kept: Remembered, each: Progress, estimates: Estimates) -> Prospect:
    configuration, key = each.member.configuration, each.member.config_id
    refuted = refusals(configuration, platform.catalog)
    refusal = None if refuted else refusal_of(each.member, kept.asked.stages, platform.catalog, platform.executor)
    if refuted or refusal is not None or each.standing in SETTLED:
        most = 0.0 if refuted else None
        return Prospect(each, refusal, refuted[0].sentence if refuted else None, most_usd=most)
    stages = {*kept.asked.stages, Stage.CLEAN}
    return Prospect(
        each,
        None,
        None,
        seconds=estimates.seconds(configuration, key, stages),
        usd=estimates.usd(configuration, key, stages),
        most_usd=most_usd(platform, each.member, kept.asked),
    )


def refusal_of(member: Member, stages: Collection[Stage], catalog: Catalog, executor: Executor) -> str | None:
    """Say in one clause why a configuration of a document cannot be run by an executor, none when it can."""
    configuration = member.configuration
    if member.reservation is not None:
        return f"asks for a capacity reservation, into which executor {executor.name} does not deploy; leave infra_params out"
    if not catalog.instances[configuration.instance_type].usd_per_hour:
        return f"is on {configuration.instance_type}, which has no price in the catalog, so that no budget bounds it"
    if Stage.BENCHMARK in stages and not benchmark_for(catalog, configuration).enabled:
        return (
            f"has no workload in the catalog for {configuration.deployment_config}; leave benchmark out of the stages"
        )
    return executor.can_run(configuration)


def refuse_what_cannot_begin(expansion: Expansion, catalog: Catalog, executor: Executor) -> None:
    """Raise `UsageError` where no configuration of a document can be run by an executor, and preflight refutes none."""
    reasons = []
    for member in expansion.members:
        reason = refusal_of(member, expansion.document.stages, catalog, executor)
        if reason is None or refusals(member.configuration, catalog):
            return
        reasons.append(f"{member.name} {reason}")
    raise UsageError(f"none of them can run with this executor, so nothing was started: {reasons[0]}")


def most_usd(platform: Platform, member: Member, asked: Asked) -> float:
    """Return the most that a run can cost on this executor, in USD: every stage up to its limit, all together up to the
    time of the run, which then went to the costliest; clean by its own limit, and the time that a deployment is kept."""
    entry = entry_of(platform, member.config_id)
    prices = platform.prices(member.configuration)
    rates = {stage: prices.most_usd(stage, 2.0) - prices.most_usd(stage, 1.0) for stage in asked.stages}
    left = asked.timeout_seconds
    spent = [(Stage.CLEAN, limit_seconds(entry, Stage.CLEAN))]
    for stage in sorted(asked.stages - {Stage.CLEAN}, key=lambda stage: -rates[stage]):
        # a stage that began at all may cost its job, however little time was left for it
        seconds = max(1.0, min(limit_seconds(entry, stage), left))
        left -= seconds
        spent.append((stage, seconds))
    return prices.most_run_usd(spent) + prices.most_usd(Stage.DEPLOY, asked.kept_seconds)


def register(platform: Platform, members: Iterable[Member], asked: Asked) -> None:
    """Make a record of every configuration that is neither registered nor in the catalog, so that a run of it can be asked
    for. Records that are there stay as they are: a document says what its own runs do and changes nobody else's."""
    listed = {config_id(configuration_of(entry, platform.catalog)) for entry in platform.catalog.entries}
    for member in members:
        if member.config_id not in listed and platform.ci.record(member.config_id) is None:
            plan = benchmark_for(platform.catalog, member.configuration)
            platform.ci.register(member.configuration, benchmark=asked.measures(plan) if plan.enabled else plan)


def promise(platform: Platform, kept: Remembered, member: Member) -> str | None:
    """Promise a run what it can cost at most and return the reservation; none where that would pass the budget.

    A promise that led to no run (a command that was killed before its claim) is the same promise again.
    """
    budget = kept.expansion.document.budget_usd
    record = platform.ci.record(member.config_id)
    run_key = f"{kept.budget}/{member.config_id}/{record.generation + 1 if record else 1}"
    reserved = platform.ledger.reserve(
        kept.budget,
        run_key,
        most_usd(platform, member, kept.asked),
        ceiling_usd=max(0.0, budget - committed_elsewhere(platform.ledger, kept)),
        deadline_seconds=START_SECONDS,
    )
    return run_key if reserved else None


def shortage(platform: Platform, kept: Remembered, member: Member) -> str:
    """Say why a run was promised nothing."""
    budget = kept.expansion.document.budget_usd
    totals = platform.ledger.totals(kept.budget)
    left = budget - totals.committed_usd - totals.overrun_usd - committed_elsewhere(platform.ledger, kept)
    needed = most_usd(platform, member, kept.asked)
    return (
        f"not started: a run can cost {needed:.4f} USD at most and {max(0.0, left):.4f} USD are left of {budget:g}; raise "
        "budget_usd, or lower timeout_minutes"
    )


def kept_deployments(platform: Platform, kept: Remembered) -> list[Resource]:
    """Return the deployments of a document that were kept instead of cleaned and are still there."""
    runs = {attempt.run_id for each in progress(platform.ci, kept) for attempt in each.attempts}
    return [resource for resource in platform.ledger.alive() if resource.kind == KEPT and resource.run_id in runs]


def end_kept(platform: Platform, deployments: Sequence[Resource]) -> None:
    """End deployments that were kept. Raises `StageFailed` naming what could not be ended."""
    for each in deployments:
        platform.ledger.release(each.id, "cleaned by a later mlcc prove")
        end_resources(platform, each.run_id, "the document was run again without --no-clean")
