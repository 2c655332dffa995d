"""The lifecycle of one configuration as a Dagster graph: claim, the stages, clean, verdict.

Belongs here: the ops, their hand-offs, and the graph asset they make. Not here: what a stage does (executors) or the order of
writes (`resources.lifecycle`). Every op is a shell; the outcome that they hand on decides.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator

import dagster as dg

from assets.partitions import CONFIGURATIONS, configuration_table
from assets.reaping import owner_tag
from mlcc_dagster.core.exceptions import MlccError
from mlcc_dagster.core.outcome import Outcome, StageStatus
from mlcc_dagster.core.stages import CANONICAL_ORDER, Stage
from resources import processes
from resources.ci_table import Refused
from resources.dagster_resources import PlatformResource
from resources.lifecycle import (
    RunRequest,
    abandon,
    abandon_all,
    begin,
    conclude,
    find_configuration,
    perform,
    stage_lines,
)
from resources.progress import RunEnded, StageBegan, StageEnded

ROUND_TAG = "mlcc/round"
RUN_TYPE_TAG = "mlcc/run_type"
TIER_TAG = "mlcc/tier"
RESERVATION_TAG = "mlcc/reservation"
MEASURES_TAG = "mlcc/measures"
"""`<workload> x <levels>`, such as `local_chat x 1,4`: what a run measures in place of what its record says."""
NAME_TAG = "mlcc/configuration"

OWNER = "team:ml-platform"
HANDOFF = "handoff"


def request_of(context: dg.OpExecutionContext) -> RunRequest:
    """Read what was asked for from the run: its partition and tags. Without a round tag (a click in the UI) the run
    itself is the occasion."""
    tags = context.run.tags
    # A re-execution copies its parent's tags; joining the parent's round would refuse it as already done.
    inherited = context.run.parent_run_id is not None
    return RunRequest(
        config_id=context.partition_key,
        round=context.run.run_id if inherited else tags.get(ROUND_TAG, context.run.run_id),
        run_type=tags.get(RUN_TYPE_TAG, "manual"),
        tier=tags.get(TIER_TAG),
        measures=tags.get(MEASURES_TAG),
        reservation=None if inherited else tags.get(RESERVATION_TAG),
    )


@dg.op(
    out=dg.Out(Outcome, is_required=False, io_manager_key=HANDOFF, description="Absent when the claim is lost."),
    description="Take the configuration for this run by one conditional write. A lost claim ends the run quietly.",
    tags={"kind": "claim"},
)
def claim(context: dg.OpExecutionContext, platform: PlatformResource) -> Iterator[dg.Output[Outcome]]:
    """Claim the partition's configuration, or end the run with success and nothing materialized.

    Raises `dg.Failure` with one sentence for an unknown configuration or one that the executor cannot run.
    """
    owner = processes.this_process(context.run.run_id)
    context.instance.add_run_tags(context.run.run_id, owner_tag(owner))
    opened = platform.open()
    try:
        begun = begin(opened, request_of(context), owner)
        if isinstance(begun, Refused):
            sentence = f"nothing to do: {begun.reason} (by {begun.owner}, run {begun.run_id})"
            context.log.info(sentence)
            platform.listener(RunEnded(context.partition_key, "lost", sentence))
            return
        context.instance.add_run_tags(context.run.run_id, {NAME_TAG: str(begun.configuration)[:255]})
        yield dg.Output(begun, metadata={"run_id": begun.claim.run_id, "configuration": str(begun.configuration)})
    except BaseException as error:
        # Cancelled at any moment since the claim was written, also before it was handed to us: as long as this process
        # lives nobody else would free it.
        abandon_all(opened, context.run.run_id, f"stopped in its claim: {type(error).__name__}")
        if isinstance(error, MlccError):
            raise dg.Failure(str(error), allow_retries=False) from error
        raise


@contextlib.contextmanager
def plain_interrupts() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise `KeyboardInterrupt` in the block.

    Dagster raises an exception of its own there. Event loops let only `KeyboardInterrupt` through and take everything else
    for a broken connection: the interruption would be lost in the middle of a benchmark, and the benchmark go on.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stage_op(stage: Stage) -> dg.OpDefinition:
    """Make the op of one stage: it hands the outcome on with the stage's result, and raises only when cancelled."""

    @dg.op(
        name=stage.value,
        ins={"outcome": dg.In(Outcome)},
        out=dg.Out(Outcome, io_manager_key=HANDOFF),
        description=f"Perform {stage.value} and hand the outcome on; a failure is data here, never an exception.",
        tags={"kind": "stage"},
    )
    def perform_stage(
        context: dg.OpExecutionContext, platform: PlatformResource, outcome: Outcome
    ) -> dg.Output[Outcome]:
        opened = platform.open()
        platform.listener(StageBegan(outcome, stage))
        try:
            with plain_interrupts():
                done = perform(opened, stage, outcome, on_line=context.log.debug)
        except BaseException as error:
            # Cancelled (UI, Ctrl-C) or something worse than a failing stage: leave nothing behind, then let it through.
            why = f"cancelled during {stage.value}" if not isinstance(error, Exception) else f"crashed: {error}"
            abandon(opened, outcome.claim.run_id, why)
            cancelled = not isinstance(error, Exception)
            platform.listener(RunEnded(outcome.claim.config_id, "interrupted", why, outcome, cancelled))
            if isinstance(error, MlccError):
                raise dg.Failure(str(error), allow_retries=False) from error
            raise
        result = done.results[-1]
        platform.listener(StageEnded(done, result))
        say = context.log.error if result.status is StageStatus.FAIL else context.log.info
        say(f"{stage.value}: {result.status.value} in {result.seconds:.2f} s {result.error or ''}".rstrip())
        metadata: dict[str, dg.MetadataValue] = {
            "status": dg.MetadataValue.text(result.status.value),
            "seconds": dg.MetadataValue.float(round(result.seconds, 3)),
        }
        if result.log:
            metadata["log"] = dg.MetadataValue.path(str(opened.home.root / result.log))
        if result.error:
            metadata["said"] = dg.MetadataValue.text(result.error)
        if result.failure:
            metadata["category"] = dg.MetadataValue.text(result.failure.category)
            metadata["deciding line"] = dg.MetadataValue.text(result.failure.line or "")
        return dg.Output(done, metadata=metadata)

    return perform_stage


STAGE_OPS: dict[Stage, dg.OpDefinition] = {stage: stage_op(stage) for stage in CANONICAL_ORDER}


@dg.op(
    ins={"outcome": dg.In(Outcome)},
    out={
        "ci_test_results": dg.Out(dg.Nothing, is_required=False, io_manager_key=HANDOFF),
        "benchmark_results": dg.Out(dg.Nothing, is_required=False, io_manager_key=HANDOFF),
    },
    description="Commit what the run proved and say how it ended; the only op that fails the run.",
    tags={"kind": "verdict"},
)
def verdict(context: dg.OpExecutionContext, platform: PlatformResource, outcome: Outcome) -> Iterator[dg.Output[None]]:
    """Write the rows, yield what was proven, then raise `dg.Failure` unless everything asked for worked.

    A passed gate yields `ci_test_results`, a completed benchmark `benchmark_results`; a failed benchmark after a passed
    gate yields the first and fails the run.
    """
    opened = platform.open()
    try:
        conclusion = conclude(opened, outcome)
    except BaseException as error:
        why = f"could not be committed: {error}"
        # Before the intent nothing was written and the claim is freed; after it the next recovery replays it forward.
        abandon(opened, outcome.claim.run_id, why)
        cancelled = not isinstance(error, Exception)
        platform.listener(RunEnded(outcome.claim.config_id, "interrupted", why, outcome, cancelled))
        if isinstance(error, MlccError):
            raise dg.Failure(str(error), allow_retries=False) from error
        raise
    _, entry, _ = find_configuration(opened, outcome.claim.config_id)
    named: dict[str, dg.MetadataValue] = {
        "name": dg.MetadataValue.text(entry.id if entry else "not in the catalog"),
        "configuration": dg.MetadataValue.text(str(outcome.configuration)),
        "verdict": dg.MetadataValue.text(conclusion.sentence),
    }
    shared: dict[str, dg.MetadataValue] = {
        "stages": dg.MetadataValue.md(stage_lines(outcome)),
        "cost_usd": dg.MetadataValue.float(shown(conclusion.cost_usd)),
        "run_id": dg.MetadataValue.text(outcome.claim.run_id),
    }
    if conclusion.path is not None:
        shared["results"] = dg.MetadataValue.path(str(conclusion.path))
    if outcome.gate_passed:
        yield dg.Output(None, "ci_test_results", metadata=named | shared)
    if outcome.benchmark_status == "completed":
        measured = measurement_metadata(conclusion.rows)
        yield dg.Output(None, "benchmark_results", metadata=named | measured | shared)
    platform.listener(RunEnded(outcome.claim.config_id, "concluded", conclusion.sentence, outcome))
    if not conclusion.succeeded:
        raise dg.Failure(
            conclusion.sentence, metadata={"stages": shared["stages"], "run_id": shared["run_id"]}, allow_retries=False
        )
    context.log.info(conclusion.sentence)


MEASUREMENT_COLUMNS: tuple[str, ...] = (
    "concurrency",
    "request_count",
    "error_rate",
    "request_throughput_rps",
    "output_token_throughput_tps",
    "ttft_p50_ms",
    "e2e_latency_p50_ms",
    "e2e_latency_p90_ms",
    "e2e_latency_p99_ms",
)


COUNTS = frozenset({"concurrency", "request_count"})


def shown(value: float) -> float:
    """Return a measured value to four significant digits, as pages show it; the results keep every digit."""
    return float(f"{value:.4g}")


def measurement_metadata(rows: object) -> dict[str, dg.MetadataValue]:
    """Return the measured rows as a Dagster table and the best throughput and latency as numbers over time."""
    measured = [row for row in rows if row["concurrency"]]  # type: ignore[attr-defined]
    columns = [c for c in MEASUREMENT_COLUMNS if any(row[c] is not None for row in measured)]
    records = [
        dg.TableRecord(
            {c: "" if row[c] is None else row[c] if c in COUNTS else shown(row[c]) for c in columns},
        )
        for row in measured
    ]
    schema = dg.TableSchema([dg.TableColumn(c, "int" if c in COUNTS else "float") for c in columns])
    metadata: dict[str, dg.MetadataValue] = {"measurements": dg.MetadataValue.table(records, schema)}
    throughput = [row["request_throughput_rps"] for row in measured if row["request_throughput_rps"] is not None]
    latency = [row["e2e_latency_p99_ms"] for row in measured if row["e2e_latency_p99_ms"] is not None]
    if throughput:
        metadata["best_throughput_rps"] = dg.MetadataValue.float(shown(max(throughput)))
    if latency:
        metadata["best_latency_p99_ms"] = dg.MetadataValue.float(shown(min(latency)))
    return metadata


WHICH_IS_WHICH = {"which partition is which": configuration_table()}
PARTITIONS_EXPLAINED = "A partition is a config_id; the table `which partition is which` names those of the catalog."


@dg.graph_multi_asset(
    name="lifecycle",
    outs={
        "ci_test_results": dg.AssetOut(
            is_required=False,
            description=(
                "The gate of a configuration: generated, built, pushed, deployed and tested for real. "
                f"{PARTITIONS_EXPLAINED}"
            ),
            owners=[OWNER],
            kinds={"python"},
            tags={"mlcc/evidence": "gate"},
            metadata=WHICH_IS_WHICH,
        ),
        "benchmark_results": dg.AssetOut(
            is_required=False,
            description=(
                "What a configuration does under load, from raw request records: the rows of "
                f"`mlcc_ci.benchmark_results`, one per concurrency level. {PARTITIONS_EXPLAINED}"
            ),
            owners=[OWNER],
            kinds={"parquet"},
            tags={"mlcc/evidence": "benchmark"},
            metadata=WHICH_IS_WHICH,
        ),
    },
    partitions_def=CONFIGURATIONS,
    group_name="evidence",
)
def lifecycle() -> dict[str, object]:
    """The whole lifecycle as one chain; ops exist for every stage and skip themselves when not asked for."""
    outcome = claim()
    for stage in CANONICAL_ORDER:
        outcome = STAGE_OPS[stage](outcome)
    proven = verdict(outcome)
    return {"ci_test_results": proven.ci_test_results, "benchmark_results": proven.benchmark_results}
