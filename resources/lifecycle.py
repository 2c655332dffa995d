"""One run of one configuration, without an orchestrator: begin, perform a stage, conclude, abandon.

Belongs here: the order in which claim, stages, clean and commit happen, and what each leaves behind. Not here: the graph
that calls it (`assets.lifecycle`), the stages themselves (executors), the rules of an outcome (`core.outcome`).
"""

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

from catalog.model import Entry
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.constraints import refusals
from mlcc_dagster.core.evidence import Evidence
from mlcc_dagster.core.exceptions import LeaseLost, MlccError, StageFailed, UsageError
from mlcc_dagster.core.failures import PREFLIGHT, known, retry_due
from mlcc_dagster.core.loads import read_load
from mlcc_dagster.core.outcome import BenchmarkPlan, Claim, Outcome, Owner, StageResult, StageStatus
from mlcc_dagster.core.records import result_rows, utc_text
from mlcc_dagster.core.request_records import RequestRecord, parse_record
from mlcc_dagster.core.resolution import configuration_of
from mlcc_dagster.core.stages import (
    CANONICAL_ORDER,
    DEFAULT_LIMIT_SECONDS,
    GATE_STAGES,
    TUNING_STAGES,
    Stage,
    stages_named,
)
from mlcc_dagster.core.verdicts import CONFIGURATION, CONSTRAINT
from resources.ci_table import Attempt, Commit, Refused
from resources.commit import commit, recover
from resources.platform import Platform
from resources.prove_documents import Asked, asked_in, project_digest, reused
from resources.stage_runner import KEPT, clean_run, run_stage
from resources.watchdog import WatchedExecutor

RUN_TYPES: tuple[str, ...] = ("ci", "path_prove", "optimization", "manual", "prove")

LAST_GATE_STAGE = max(GATE_STAGES, key=CANONICAL_ORDER.index)

DEFAULT_STAGES: frozenset[Stage] = frozenset(Stage) - TUNING_STAGES - {Stage.STAGE}
"""What a configuration without a declared lifecycle goes through."""


@dataclass(frozen=True)
class RunRequest:
    """What was asked for: a configuration on an occasion. `round` names the occasion, and a round of a prove document says
    through which stages its runs go (`resources.prove_documents.asked_in`). `measures` names the load that is measured in
    place of what the record says (`core.loads.load_text`); such a run never tunes."""

    config_id: str
    round: str
    run_type: str = "manual"
    tier: str | None = None
    measures: str | None = None
    reservation: str | None = None


@dataclass(frozen=True)
class StageLimit:
    """How many seconds a stage may take. `used_up` says that the run's reservation is used up then; none where the stage's
    own limit comes first."""

    seconds: float
    used_up: str | None = None


@dataclass(frozen=True)
class Conclusion:
    """What a finished run left: its rows, the file they are in, and the sentence that says how it ended."""

    outcome: Outcome
    rows: Sequence[Mapping[str, Any]]
    path: Path | None
    cost_usd: float
    sentence: str

    @property
    def succeeded(self) -> bool:
        """Whether everything that was asked for worked, clean included."""
        return self.outcome.run_status == "pass"


def find_configuration(platform: Platform, key: str) -> tuple[Configuration, Entry | None, BenchmarkPlan]:
    """Return the configuration behind a config id, its catalog entry if it has one, and what is to be measured.

    A record in the CI table comes before the catalog. Raises `UsageError` where neither knows the id.
    """
    entry = entry_of(platform, key)
    record = platform.ci.record(key)
    if record is not None:
        return record.configuration, entry, record.benchmark
    if entry is None:
        raise UsageError(f"no configuration {key} is registered or in the catalog; see `mlcc catalog list`")
    return configuration_of(entry, platform.catalog), entry, benchmark_plan(entry)


def benchmark_plan(entry: Entry) -> BenchmarkPlan:
    """Return what stage 2 of a catalog entry measures."""
    return BenchmarkPlan(
        enabled=entry.benchmark.enabled,
        workload=entry.benchmark.workload,
        concurrency_levels=tuple(entry.benchmark.concurrency_levels),
    )


def stages_of(entry: Entry | None, plan: BenchmarkPlan) -> frozenset[Stage]:
    """Return the stages a run goes through: what the entry declares (validate and clean always), with the
    benchmark only where it is enabled."""
    asked = DEFAULT_STAGES
    if entry is not None and entry.lifecycle:
        asked = frozenset(stage for step in entry.lifecycle for stage in stages_named(step))
        asked |= {Stage.VALIDATE, Stage.CLEAN, Stage.REGISTER}
    return asked if plan.enabled else asked - {Stage.BENCHMARK}


def measuring_stages(entry: Entry | None) -> frozenset[Stage]:
    """Return the stages of a run that was asked to measure a load: those of its entry with the benchmark, whatever the entry
    says of that, and without tuning, which would measure another model."""
    plan = BenchmarkPlan(enabled=True, workload="", concurrency_levels=())
    return (stages_of(entry, plan) | {Stage.BENCHMARK}) - TUNING_STAGES


def begin(platform: Platform, request: RunRequest, owner: Owner, *, now: datetime | None = None) -> Outcome | Refused:
    """Claim the configuration for this run: one conditional write, and the outcome that stages hand on.

    Commits that a dead process left between intent and end are replayed first. Returns `Refused` when another lease
    lives, the round already has this configuration, or the run's reservation is gone. Raises `UsageError` when the
    configuration is unknown, the executor cannot run it or it cannot be measured with the load that was asked for:
    nothing is claimed or written then. What preflight refutes no executor can run, and it needs none to get its verdict.
    """
    configuration, entry, plan = find_configuration(platform, request.config_id)
    refuted = refusals(configuration, platform.catalog)
    reason = None if refuted else platform.executor.can_run(configuration)
    if reason is not None:
        raise UsageError(f"executor {platform.executor.name} cannot run {configuration}: {reason}")
    asked = asked_in(platform.home, request.round)
    measured = None if request.measures is None else read_load(request.measures, configuration, platform.catalog)
    with contextlib.suppress(MlccError):
        # A result of another configuration that cannot be published (disk full) must not stop this one; where it is
        # this one's, the claim below says that its commit is pending. `reap` reports it.
        recover(platform.ci, platform.store)
    settings = platform.home.settings
    claim = platform.ci.claim(
        request.config_id,
        configuration=configuration,
        round=request.round,
        owner=owner,
        lease_seconds=settings.lease_seconds,
        run_type=request.run_type,
        tier=request.tier or (entry.tier if entry else None),
        # a record that is made now keeps what it measures by itself
        benchmark=plan,
    )
    if isinstance(claim, Refused):
        if request.reservation:
            # no run begins for it: it would hold money, and a place in its budget, until its deadline
            platform.ledger.give_back(request.reservation)
        return claim
    if request.reservation and not platform.ledger.activate(request.reservation, claim.run_id):
        platform.ci.interrupt(claim.run_id, "its reservation was released before the run began")
        return Refused(reason="reservation released", owner="the budget ledger", run_id=claim.run_id)
    return Outcome(
        claim=claim,
        configuration=configuration,
        run_type=request.run_type,
        stages=asked.stages if asked else measuring_stages(entry) if measured else stages_of(entry, plan),
        benchmark=asked.measures(plan) if asked else measured or plan,
        tier=request.tier or (entry.tier if entry else None),
        reservation=request.reservation,
        technique=technique_of(entry) if asked is None else asked.technique,
    )


def technique_of(entry: Entry | None) -> str | None:
    """Return the tuning technique that a catalog entry declares, none where it declares none."""
    return entry.tune_config.technique if entry and entry.tune_config else None


def entry_of(platform: Platform, key: str) -> Entry | None:
    """Return the catalog entry that declares a config id, none where no entry does."""
    return platform.entries_by_id.get(key)


def limit_seconds(entry: Entry | None, stage: Stage) -> float:
    """Return a stage's time limit: the entry's `tuneTimeout` for tune, its `timeout` for the others, else the default."""
    declared = None if entry is None else (entry.tune_timeout if stage is Stage.TUNE else entry.timeout)
    return float(declared or DEFAULT_LIMIT_SECONDS[stage])


def most_usd(platform: Platform, configuration: Configuration, key: str, benchmark: BenchmarkPlan) -> float:
    """Return the most that a run of a configuration can cost on this executor, in USD: all its stages up to their limits.
    This is what has to be promised for it."""
    entry = entry_of(platform, key)
    limits = [(stage, limit_seconds(entry, stage)) for stage in stages_of(entry, benchmark)]
    return platform.prices(configuration).most_run_usd(limits)


def stage_limit(platform: Platform, outcome: Outcome, stage: Stage) -> StageLimit:
    """Return how long a stage of this run may take: its limit, and no longer than the run's reservation pays for.

    What the stages before it can have cost and what clean can cost by its own limit are no longer there to spend, so that
    the reservation pays for cleaning whatever happens. Time that the reservation bounds is in whole seconds, which is what
    stages in virtual time count in. A reservation that is not this run's any more pays for nothing but cleaning.
    """
    entry = entry_of(platform, outcome.claim.config_id)
    if stage is Stage.CLEAN:
        return StageLimit(limit_seconds(entry, stage))
    own = run_limit(platform, outcome, limit_seconds(entry, stage))
    if outcome.reservation is None:
        return own
    promise = platform.ledger.reservation(outcome.reservation)
    if promise is None or promise.state != "active" or promise.run_id != outcome.claim.run_id:
        return StageLimit(
            0.0, f"the reservation '{outcome.reservation}' was settled under this run; run it again with another one"
        )
    prices = platform.prices(outcome.configuration)
    used = prices.most_run_usd(performed(outcome.results))
    # the other stages count 0 s: they only say whether anything is deployed that cleaning has to end
    stages = outcome.stages | {Stage.CLEAN}
    cleaning = [(each, limit_seconds(entry, each) if each is Stage.CLEAN else 0.0) for each in stages]
    kept = prices.most_run_usd(cleaning)
    # a millionth of a second is what the promise of exactly all limits may lose in floating point
    paid = prices.seconds_for(stage, promise.usd - used - kept) + 1e-6
    if paid >= own.seconds:
        return own
    seconds = float(math.floor(paid))
    return StageLimit(
        seconds,
        f"the reservation of the run is used up: of {promise.usd:.6g} USD promised, {used:.6g} USD went before {stage} and "
        f"{kept:.6g} USD are kept for clean, which left {seconds:g} s of it; promise more or shorten the limits of its stages",
    )


def run_limit(platform: Platform, outcome: Outcome, own: float) -> StageLimit:
    """Return a stage's own limit, or what is left of the time of the whole run where a prove document bounds that and it is
    less. A wait for a deployment slot uses nothing of it up."""
    asked = asked_in(platform.home, outcome.claim.round)
    left = math.inf if asked is None else asked.timeout_seconds - sum(map(seconds_of, outcome.results))
    if asked is None or left >= own:
        return StageLimit(own)
    minutes = asked.timeout_seconds / 60
    return StageLimit(
        max(0.0, float(math.floor(left))),
        f"the {minutes:g} minutes of the run are used up; raise timeout_minutes of the document",
    )


def seconds_of(result: StageResult) -> float:
    """Return the seconds that a stage took: virtual ones where it was played."""
    return float(result.outputs.get("virtual_seconds", result.seconds))


def performed(results: Iterable[StageResult]) -> list[tuple[Stage, float]]:
    """Return the stages that were not skipped, each with its seconds: what a run pays for."""
    return [(result.stage, seconds_of(result)) for result in results if result.status is not StageStatus.SKIP]


def perform(
    platform: Platform, stage: Stage, outcome: Outcome, *, on_line: Callable[[str], None] | None = None
) -> Outcome:
    """Run one stage, or skip it with the reason, and return the outcome with its result.

    What preflight refutes fails here and the executor is not asked, nor is it for a stage that the run's reservation no
    longer pays for. A stage that outstays its time is ended (`resources.watchdog`). Never raises for a failing stage; a
    cancellation (`BaseException`) passes through.
    """
    skipped = outcome.skip_reason(stage)
    if skipped is not None:
        result = StageResult(
            stage, StageStatus.SKIP, started_at=utc_text(datetime.now(UTC)), seconds=0.0, error=skipped
        )
        if stage is Stage.CLEAN:
            keep(platform, outcome)
        return note(platform, outcome.with_result(result), result)
    refused = refused_by_preflight(platform, stage, outcome)
    if refused is not None:
        return note(platform, outcome.with_result(refused), refused)
    again = reused(platform.home, platform.ci, outcome, stage)
    if again is not None:
        return note(platform, outcome.with_result(again), again)
    limit = stage_limit(platform, outcome, stage)
    if limit.used_up is not None and limit.seconds <= 0:
        unpaid = StageResult(
            stage,
            StageStatus.FAIL,
            started_at=utc_text(datetime.now(UTC)),
            seconds=0.0,
            error=limit.used_up,
            failure=known(stage.value, "timeout", limit.used_up),
        )
        return note(platform, outcome.with_result(unpaid), unpaid)
    if stage is Stage.BENCHMARK:
        run_id = f"bmk-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        # a claim that is lost by now is met by the stage's own first beat, which ends it as any other stage's does
        with contextlib.suppress(LeaseLost):
            platform.ci.benchmarking(outcome.claim, benchmark_run_id=run_id)
    result = run_stage(
        stage,
        outcome,
        executor=WatchedExecutor(
            platform.executor,
            used_up=limit.used_up,
            clean=lambda why: end_resources(platform, outcome.claim.run_id, why),
            abandon=lambda why: abandon(platform, outcome.claim.run_id, why),
        ),
        home=platform.home,
        ci=platform.ci,
        ledger=platform.ledger,
        limit_seconds=limit.seconds,
        on_line=on_line,
    )
    if stage is Stage.GENERATE:
        result = project_digest(result)
    return note(platform, outcome.with_result(result), result)


def keep(platform: Platform, outcome: Outcome) -> None:
    """Keep what a run deployed instead of cleaning it, for as long as its prove document says: the ledger knows until when,
    the deployment slot stays taken, and the reaper ends it then."""
    run_id, seconds = outcome.claim.run_id, kept_seconds(platform, outcome)
    platform.ledger.intend(run_id=run_id, kind=KEPT, ref="its deployment, not cleaned", deadline_seconds=seconds)
    platform.ledger.put_off(run_id, seconds)
    platform.ledger.beat_slots(run_id, seconds)


def kept_seconds(platform: Platform, outcome: Outcome) -> float:
    """Return how long a run's deployment is kept after its last stage, 0 where it was cleaned."""
    cleaned = outcome.result(Stage.CLEAN)
    if cleaned is not None and cleaned.status is not StageStatus.SKIP:
        return 0.0
    asked = asked_in(platform.home, outcome.claim.round)
    return 0.0 if asked is None else asked.kept_seconds


def refused_by_preflight(platform: Platform, stage: Stage, outcome: Outcome) -> StageResult | None:
    """Return the failure of a stage that preflight does not let begin, none where it may.

    The configuration is judged before its first stage and then no more: a catalog edited meanwhile must not turn a run
    that was paid for into one that cost nothing. Tuning is judged before its own first stage, and refutes tuning alone.
    The output `constraint` names what refuted, of several the first: when that one changes, the others refute anew at no
    cost.
    """
    first = all(result.status is StageStatus.SKIP for result in outcome.results)
    if stage is Stage.CLEAN or not (first or stage is Stage.TUNE):
        return None
    refuted = refusals(outcome.configuration, platform.catalog, tuning=stage in TUNING_STAGES)
    if not refuted:
        return None
    sentence = "; ".join(refusal.sentence for refusal in refuted)
    return StageResult(
        stage,
        StageStatus.FAIL,
        started_at=utc_text(datetime.now(UTC)),
        seconds=0.0,
        error=sentence,
        failure=known(stage.value, PREFLIGHT, sentence),
        outputs=MappingProxyType({CONSTRAINT: refuted[0].constraint}),
    )


def note(platform: Platform, done: Outcome, result: StageResult) -> Outcome:
    """Keep a stage's result in the attempt, with the gate's verdict once it is known, and return the outcome."""
    last_of_gate = result.stage is LAST_GATE_STAGE or (
        result.stage in GATE_STAGES and result.status is StageStatus.FAIL
    )
    with contextlib.suppress(LeaseLost):
        # A lost lease stops the run where it would write: in the commit, after everything was cleaned.
        platform.ci.stage_ended(
            done.claim, result.stage.value, result.to_document(), test_status=done.test_status if last_of_gate else None
        )
    return done


def read_measurements(platform: Platform, outcome: Outcome) -> dict[int, list[RequestRecord]]:
    """Read the raw records that the benchmark kept, by concurrency level; empty where none ran or it failed."""
    if outcome.benchmark_status != "completed":
        return {}
    paths = outcome.output("raw") or {}
    return {
        int(level): [parse_record(line) for line in (platform.home.root / path).read_text("utf-8").splitlines() if line]
        for level, path in paths.items()
    }


def conclude(platform: Platform, outcome: Outcome) -> Conclusion:
    """Write what the run proved and return it: rows, then the commit in its fixed order, then the budget settled.

    Raises `LeaseLost` when another owner took the configuration over meanwhile: nothing is written then.
    """
    now = datetime.now(UTC)
    seconds = sum(map(seconds_of, outcome.results))
    # cleaning after a run that never began is no use of an instance
    used = [] if outcome.refuted else performed(outcome.results)
    cost_usd = platform.prices(outcome.configuration).run_usd(used)
    failure = outcome.evidence_failure
    instance = platform.catalog.instances.get(outcome.configuration.instance_type)
    rows = (
        []
        if outcome.status == "partial"
        else result_rows(
            outcome,
            measurements=read_measurements(platform, outcome),
            executor=platform.executor.name,
            evidence=evidence_of(platform, outcome),
            instance=instance,
            workload=platform.catalog.workloads.get(outcome.benchmark.workload),
            run_timestamp=utc_text(now),
            raw_uri=raw_place(platform, outcome),
            cost_usd=cost_usd,
            usd_per_hour=None if instance is None else instance.usd_per_hour,
        )
    )
    category = failure.failure.category if failure and failure.failure else None
    due = None
    if category is not None:
        earlier = [a for a in platform.ci.attempts(outcome.claim.config_id) if a.state == "finished"]
        due = retry_due(category, 1 + failures_in_a_row(earlier, category), now)
    benchmarked = outcome.benchmark_status is not None
    noted = platform.ci.record(outcome.claim.config_id)
    payload = Commit(
        rows=tuple(rows),
        status=outcome.status,
        test_status=outcome.test_status,
        run_status=outcome.run_status,
        duration_seconds=seconds,
        stage_results={r.stage.value: r.to_json() for r in outcome.results},
        error_message=sentence_of(outcome) if outcome.run_status != "pass" else None,
        benchmark_run_id=noted.last_benchmark_run_id if noted and benchmarked else None,
        benchmark_timestamp=utc_text(now) if benchmarked else None,
        benchmark_status=outcome.benchmark_status,
        image=outcome.output("image_ref"),
        project_name=outcome.output("project_name"),
        cost_usd=cost_usd,
        failure_category=category,
        failure_retryable=failure.failure.retryable if failure and failure.failure else None,
        retry_due=utc_text(due) if due else None,
    )
    path = commit(platform.ci, platform.store, outcome.claim, payload)
    if outcome.reservation:
        # nobody settles again when what is kept ends: all the time that it may be kept is charged now
        kept_usd = platform.prices(outcome.configuration).usd(Stage.DEPLOY, kept_seconds(platform, outcome))
        platform.ledger.settle(outcome.reservation, cost_usd + kept_usd)
    return Conclusion(outcome=outcome, rows=rows, path=path, cost_usd=cost_usd, sentence=sentence_of(outcome))


def evidence_of(platform: Platform, outcome: Outcome) -> Evidence:
    """Return what the result depended on: as the executor says, or where preflight refuted it the constraint and the
    configuration alone."""
    if outcome.refuted:
        digests = {CONSTRAINT: str(outcome.output(CONSTRAINT)), CONFIGURATION: outcome.claim.config_id}
        return Evidence(engine="", execution="", digests=digests)
    outputs = {name: value for result in outcome.results for name, value in result.outputs.items()}
    return platform.executor.evidence(outcome.configuration, outputs)


def raw_place(platform: Platform, outcome: Outcome) -> str | None:
    """Return where the run's raw records lie, relative to the home, or none where it kept none."""
    place = platform.home.raw / outcome.claim.run_id
    return str(place.relative_to(platform.home.root)) if place.exists() else None


def failures_in_a_row(attempts: Sequence[Attempt], category: str) -> int:
    """Count how many of the newest attempts ended with this failure category, up to the first that did not."""
    count = 0
    for attempt in sorted(attempts, key=lambda a: a.generation, reverse=True):
        if attempt.failure_category != category:
            break
        count += 1
    return count


def sentence_of(outcome: Outcome) -> str:
    """Say in one sentence how the run ended: the stage, the category and the deciding line of a failure."""
    failure = outcome.first_failure()
    cleaned = outcome.result(Stage.CLEAN)
    beside = f"; clean failed: {cleaned.error}" if cleaned and cleaned.status is StageStatus.FAIL else ""
    if failure is None:
        return f"{outcome.configuration} completed{beside}"
    category = failure.failure.category if failure.failure else "unknown"
    line = (failure.failure.line if failure.failure else None) or failure.error or "no output"
    if outcome.refuted:
        return f"{outcome.configuration} was not started, preflight refutes it: {line}{beside}"
    return f"{failure.stage.value} failed ({category}): {line.strip()[:300]}{beside}"


def end_resources(platform: Platform, run_id: str, why: str) -> None:
    """End everything the ledger holds for a run, with the reason in its log `clean.log`. Idempotent and safe from any
    process. Raises `StageFailed` naming what could not be ended."""
    log_path = platform.home.logs / run_id / "clean.log"
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("a", encoding="utf-8", buffering=1) as log:
        log.write(f"{utc_text(datetime.now(UTC))} cleaning after: {why}\n")
        clean_run(run_id, executor=platform.executor, home=platform.home, ledger=platform.ledger, log=log)


def abandon(platform: Platform, run_id: str, why: str) -> bool:
    """End a run that was cancelled or crashed: clean by the ledger, then free the claim and settle the budget.

    Idempotent and safe from any process. Returns whether this call was the one that ended it. A run that had already
    written its intent is left to recovery, which replays it forward.
    """
    running = next((a for a in platform.ci.running() if a.run_id == run_id), None)
    try:
        end_resources(platform, run_id, why)
    except StageFailed as unclean:
        # What could not be ended stays in the ledger, so the reaper tries again; the claim must not wait for it.
        why = f"{why}; {unclean.message}"
    finally:
        platform.ledger.release_slots(run_id)
        cost = None if running is None else interrupted_usd(platform, running, datetime.now(UTC))
        ended = platform.ci.interrupt(run_id, why, cost_usd=cost)
        if ended and cost is not None:
            platform.ledger.settle(run_id, cost)
    return ended


def interrupted_usd(platform: Platform, attempt: Attempt, now: datetime) -> float:
    """Return what a run that did not end in order is charged until `now`, in USD: the stages it noted, and the one it was
    in from the end of the last one until now, since what it deployed lived on after its process.

    A wait for a slot in that stage is charged too: nobody noted when it ended. A clock that was set back in between makes
    the open stage free, and never those that were noted.
    """
    record = platform.ci.record(attempt.config_id)
    if record is None:
        return 0.0
    noted = [StageResult.from_document(document) for document in attempt.stages.values()]
    asked: Asked | None = None
    with contextlib.suppress(MlccError):
        # a document that is gone must not keep its run from being ended and charged
        asked = asked_in(platform.home, attempt.round)
    plan = record.benchmark if asked is None else asked.measures(record.benchmark)
    outcome = Outcome(
        claim=Claim(attempt.config_id, attempt.generation, attempt.owner, attempt.round, attempt.started_at),
        configuration=record.configuration,
        run_type=attempt.run_type,
        stages=stages_of(entry_of(platform, attempt.config_id), plan) if asked is None else asked.stages,
        benchmark=plan,
        results=tuple(noted),
    )
    used = performed(noted)
    began = max((ended_at(result) for result in noted), default=datetime.fromisoformat(attempt.started_at))
    for stage in CANONICAL_ORDER:
        if outcome.result(stage) is None and outcome.skip_reason(stage) is None:
            used.append((stage, max(0.0, (now - began).total_seconds())))
            break
    return platform.prices(record.configuration).run_usd(used)


def ended_at(result: StageResult) -> datetime:
    """Return when a stage ended, by its start and its wall seconds."""
    return datetime.fromisoformat(result.started_at) + timedelta(seconds=result.seconds)


def abandon_all(platform: Platform, dagster_run_id: str, why: str) -> tuple[str, ...]:
    """Abandon what is left of one orchestrator run: attempts that still run, and interrupted ones whose cleaning was
    itself cut off. Returns their run ids."""
    running = [attempt.run_id for attempt in platform.ci.running() if attempt.owner.dagster_run_id == dagster_run_id]
    cut_off = []
    for run_id in {resource.run_id for resource in platform.ledger.alive()} - set(running):
        attempt = platform.ci.attempt(run_id)
        if attempt and attempt.state == "interrupted" and attempt.owner.dagster_run_id == dagster_run_id:
            cut_off.append(run_id)
    for run_id in (*running, *cut_off):
        abandon(platform, run_id, why)
    return (*running, *cut_off)


def stage_lines(outcome: Outcome) -> str:
    """Return the stages of a run as a Markdown table: stage, status, seconds, what it said."""
    rows = ["| stage | status | seconds | |", "|---|---|---:|---|"]
    for result in outcome.results:
        said = (result.error or "").strip().splitlines()
        rows.append(
            f"| {result.stage.value} | {result.status.value} | {result.seconds:.2f} | {said[-1] if said else ''} |"
        )
    return "\n".join(rows)
