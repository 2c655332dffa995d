"""What a lifecycle did: stage results, and the outcome that is handed from stage to stage.

Belongs here: the frozen records and the rules that read them (what is skipped, what the gate says). Not here: running a
stage, writing results. Source of the rules: two stages per configuration, skip logic and statuses of continuous validation.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.failures import PREFLIGHT, Classification
from mlcc_dagster.core.stages import CANONICAL_ORDER, GATE_STAGES, TUNING_STAGES, Stage, ci_name


class StageStatus(StrEnum):
    """How a stage ended."""

    PASS = "pass"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True)
class StageResult:
    """One stage of one run. `seconds` is wall time; `log` is a path relative to the home; `error` the last 500
    characters of what it said; `outputs` are JSON values (paths, digests, endpoint) that later stages may use."""

    stage: Stage
    status: StageStatus
    started_at: str
    seconds: float
    log: str | None = None
    error: str | None = None
    failure: Classification | None = None
    outputs: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def to_json(self) -> dict[str, Any]:
        """Return the result in the compatible form that a record's `stageResults` holds."""
        return {
            "status": self.status.value,
            "durationSeconds": round(self.seconds, 3),
            "startedAt": self.started_at,
            "logPointer": self.log or "",
            "errorSummary": self.error or "",
        }

    def to_document(self) -> dict[str, Any]:
        """Return the whole result as JSON values, so that another process can go on from it."""
        return {
            "stage": self.stage.value,
            "status": self.status.value,
            "started_at": self.started_at,
            "seconds": self.seconds,
            "log": self.log,
            "error": self.error,
            "failure": asdict(self.failure) if self.failure else None,
            "outputs": dict(self.outputs),
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "StageResult":
        """Read back what `to_document` wrote."""
        failure = document["failure"]
        return cls(
            **{
                **document,
                "stage": Stage(document["stage"]),
                "status": StageStatus(document["status"]),
                "failure": Classification(**failure) if failure else None,
            }
        )


@dataclass(frozen=True)
class Owner:
    """The process that runs a lifecycle: enough to tell that it is dead, never by name.

    `start_ticks` is the kernel's start time of the pid, `boot_id` the boot it belongs to; a pid alone may be reused.
    """

    host: str
    pid: int
    start_ticks: int
    boot_id: str
    dagster_run_id: str

    def __str__(self) -> str:
        return f"{self.host}:{self.pid} (run {self.dagster_run_id[:8]})"


@dataclass(frozen=True)
class Claim:
    """A granted lease: the right to run one attempt of one configuration. Every later write is fenced by
    `owner` and `generation`."""

    config_id: str
    generation: int
    owner: Owner
    round: str
    claimed_at: str

    @property
    def run_id(self) -> str:
        """`<config_id>-g<generation>`: the identity of this attempt."""
        return f"{self.config_id}-g{self.generation}"


@dataclass(frozen=True)
class BenchmarkPlan:
    """What stage 2 measures: a workload at concurrency levels. `requests` is per level."""

    enabled: bool
    workload: str
    concurrency_levels: tuple[int, ...]


@dataclass(frozen=True)
class Outcome:
    """What is known of a run so far; stages hand it on and never raise across the graph."""

    claim: Claim
    configuration: Configuration
    run_type: str
    stages: frozenset[Stage]
    benchmark: BenchmarkPlan
    tier: str | None = None
    reservation: str | None = None
    technique: str | None = None
    results: tuple[StageResult, ...] = ()

    def with_result(self, result: StageResult) -> "Outcome":
        """Return the outcome with one more stage result."""
        return replace(self, results=(*self.results, result))

    def result(self, stage: Stage) -> StageResult | None:
        """Return the result of a stage, or none where it has not come yet."""
        return next((result for result in self.results if result.stage is stage), None)

    def output(self, name: str) -> Any:
        """Return the newest output of that name from any stage, or none."""
        return next((r.outputs[name] for r in reversed(self.results) if name in r.outputs), None)

    def skip_reason(self, stage: Stage) -> str | None:
        """Say why a stage must not run, or none when it must.

        A failure outside tuning skips the rest; a failing tune skips the adapter steps only; clean always runs, unless a
        request leaves it out to keep what was deployed, and nothing failed.
        """
        if stage is Stage.CLEAN:
            deployed = self.result(Stage.DEPLOY)
            kept = stage not in self.stages and deployed is not None and deployed.status is StageStatus.PASS
            return "what was deployed is kept, as asked" if kept and self.first_failure() is None else None
        if stage not in self.stages:
            return "not asked for"
        for result in self.results:
            if result.status is not StageStatus.FAIL:
                continue
            if result.stage not in TUNING_STAGES or stage in TUNING_STAGES:
                return f"{result.stage.value} failed"
        return None

    def first_failure(self, among: frozenset[Stage] | None = None) -> StageResult | None:
        """Return the first failed stage in canonical order, clean aside (it is reported beside the verdict)."""
        considered = (among if among is not None else frozenset(CANONICAL_ORDER)) - {Stage.CLEAN}
        return next((r for r in self.results if r.status is StageStatus.FAIL and r.stage in considered), None)

    @property
    def tested(self) -> bool:
        """Whether the server really answered its test: without it nothing is proven, whatever did not fail."""
        result = self.result(Stage.TEST)
        return result is not None and result.status is StageStatus.PASS

    @property
    def gate_passed(self) -> bool:
        """Whether stage 1 ran, its test passed and nothing of it failed (tuning included)."""
        return self.tested and self.first_failure(GATE_STAGES) is None

    @property
    def test_status(self) -> str | None:
        """`pass` or `fail-<stage>` of the record, set by the gate alone; none where the gate was not asked to test, so
        that the record keeps what it had."""
        failure = self.first_failure(GATE_STAGES)
        if failure is not None:
            return f"fail-{ci_name(failure.stage, self.technique)}"
        return "pass" if self.tested else None

    @property
    def run_status(self) -> str:
        """`pass`, or the first failure of the whole run as `fail-<stage>`; a failing clean is named when all else worked."""
        failure = self.first_failure()
        if failure is None:
            cleaned = self.result(Stage.CLEAN)
            failure = cleaned if cleaned is not None and cleaned.status is StageStatus.FAIL else None
        return "pass" if failure is None else f"fail-{ci_name(failure.stage, self.technique)}"

    @property
    def benchmark_status(self) -> str | None:
        """`completed` or `failed` for `lastBenchmarkStatus`, none where no benchmark ran."""
        result = self.result(Stage.BENCHMARK)
        if result is None or result.status is StageStatus.SKIP:
            return None
        return "completed" if result.status is StageStatus.PASS else "failed"

    @property
    def evidence_failure(self) -> StageResult | None:
        """The failure that speaks against the configuration itself: up to its test, or in its benchmark. Tuning and
        registration failing say nothing against what was deployed and tested."""
        return self.first_failure((GATE_STAGES - TUNING_STAGES) | {Stage.BENCHMARK})

    @property
    def refuted(self) -> bool:
        """Whether preflight refuted the configuration: no stage of it was started."""
        failure = self.evidence_failure
        return failure is not None and failure.failure is not None and failure.failure.category == PREFLIGHT

    @property
    def status(self) -> str:
        """The evidence of the run: `completed`, `failed` (worth another try), `unfeasible` (known bad), or `partial`:
        nothing failed but nothing was tested either, so no row is written."""
        failure = self.evidence_failure
        if failure is None:
            return "completed" if self.tested else "partial"
        verdict = failure.failure
        retryable = verdict is None or verdict.retryable or failure.stage is Stage.BENCHMARK
        return "failed" if retryable else "unfeasible"
