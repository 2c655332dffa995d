"""The CI table: one record per configuration, who runs it now, and the history of every attempt.

Belongs here: the record, the attempt, what a commit holds, and the contract of claims (lease and fencing) that every
table keeps. Not here: the table of a home (`sqlite_ci_table.py`), writing results (`commit.py` keeps the order), rounds
as such (`rounds.py`), ending what a dead owner left (`reaper.py`).

Every change is one conditional write on (config_id, generation, owner) or on an attempt's state, so that a table with
conditional updates but without wider transactions can keep the same contract. An attempt goes running -> committing ->
finished, or running -> interrupted; nothing leaves `finished` or `interrupted`, and `committing` only goes forward.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Protocol

from mlcc_dagster.core.ci_records import RECORD_VERSIONS, OldRecord, image_parts
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.outcome import BenchmarkPlan, Claim, Owner
from mlcc_dagster.core.record_settings import DEFAULT_BUILD_STRATEGY, RecordSettings
from mlcc_dagster.core.records import utc_text

RECORD_VERSION = RECORD_VERSIONS[-1]

TABLE_NAME = "mlcc-ci-table"
"""The name of the table; a home has this one."""

RUNNING_ELSEWHERE = "running"
ROUND_DONE = "round already completed"
COMMIT_PENDING = "commit pending"


@dataclass(frozen=True)
class CiRecord:
    """What is known of one configuration. `test_status` is untested, running, pass or fail-<stage>; the benchmark
    fields are none where it was never benchmarked; timestamps are ISO 8601 UTC text; `lease_until` is in Unix
    seconds."""

    config_id: str
    configuration: Configuration
    test_status: str
    previous_test_status: str | None
    last_test_timestamp: str | None
    last_test_duration: float | None
    tier: str | None
    e2e_catalog_id: str | None
    benchmark: BenchmarkPlan
    stage_results: Mapping[str, Any]
    error_message: str | None
    last_benchmark_run_id: str | None
    last_benchmark_timestamp: str | None
    last_benchmark_status: str | None
    generation: int
    lease_owner: Owner | None
    lease_until: float | None
    created_at: str
    image: str | None
    project_name: str | None
    build_strategy: str = DEFAULT_BUILD_STRATEGY
    schema_version: int = RECORD_VERSION

    @property
    def settings(self) -> RecordSettings:
        """What a person may change of it."""
        return RecordSettings(self.benchmark, self.build_strategy, self.tier)

    @property
    def run_id(self) -> str | None:
        """The newest attempt's run id, none where it was never claimed."""
        return f"{self.config_id}-g{self.generation}" if self.generation else None

    def to_json(self) -> dict[str, Any]:
        """Return the record under its published names; what is absent is left out, never empty or 0."""
        base, version = image_parts(self.image)
        document = {
            "configId": self.config_id,
            "schemaVersion": self.schema_version,
            "configJson": self.configuration.to_json(),
            "testStatus": self.test_status,
            "previousTestStatus": self.previous_test_status,
            "lastTestTimestamp": self.last_test_timestamp,
            "lastTestDuration": self.last_test_duration,
            "deploymentConfig": self.configuration.deployment_config,
            "baseImage": base,
            "baseImageVersion": version,
            "projectName": self.project_name,
            "e2eCatalogId": self.e2e_catalog_id,
            "tier": self.tier,
            "stageResults": dict(self.stage_results),
            "errorMessage": self.error_message,
            "createdAt": self.created_at,
            "buildStrategy": self.build_strategy,
            "benchmarkEnabled": self.benchmark.enabled,
            "benchmarkWorkload": self.benchmark.workload,
            "benchmarkConcurrencyLevels": list(self.benchmark.concurrency_levels),
            "lastBenchmarkRunId": self.last_benchmark_run_id,
            "lastBenchmarkTimestamp": self.last_benchmark_timestamp,
            "lastBenchmarkStatus": self.last_benchmark_status,
            "leaseOwner": None if self.lease_owner is None else asdict(self.lease_owner),
            "leaseUntil": None if self.lease_until is None else moment_text(self.lease_until),
            "generation": self.generation,
        }
        return {name: value for name, value in document.items() if value is not None}


@dataclass(frozen=True)
class Attempt:
    """One run of one configuration, as the history keeps it. `state` is running, committing, finished or interrupted;
    `status` is the evidence (completed, failed, unfeasible), none until it is finished; `reason` says why it failed or was
    interrupted; `seconds` is how long it took, none until it ended."""

    run_id: str
    config_id: str
    generation: int
    round: str
    run_type: str
    tier: str | None
    owner: Owner
    state: str
    status: str | None
    test_status: str | None
    run_status: str | None
    stages: Mapping[str, Any]
    reason: str | None
    started_at: str
    ended_at: str | None
    seconds: float | None
    cost_usd: float | None
    failure_category: str | None
    failure_retryable: bool | None
    retry_due: str | None


@dataclass(frozen=True)
class Commit:
    """Everything a finished run writes, stored before any of it is published, so that another process can publish it.

    `test_status` is none where the gate was not asked to test: the record keeps what it had. `run_status` is `pass` or the
    first failure of the whole run, register and clean included.
    `rows` are result rows of JSON values (no NaN: absent is null); the benchmark fields are none where none ran.
    """

    rows: tuple[Mapping[str, Any], ...]
    status: str
    test_status: str | None
    run_status: str
    duration_seconds: float
    stage_results: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    error_message: str | None = None
    benchmark_run_id: str | None = None
    benchmark_timestamp: str | None = None
    benchmark_status: str | None = None
    image: str | None = None
    project_name: str | None = None
    cost_usd: float | None = None
    failure_category: str | None = None
    failure_retryable: bool | None = None
    retry_due: str | None = None

    def to_text(self) -> str:
        """Return the payload as JSON text.

        Raises `ValueError` or `TypeError` where a value is not JSON: found before anything is written.
        """
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values |= {"rows": [dict(row) for row in self.rows], "stage_results": dict(self.stage_results)}
        return json.dumps(values, allow_nan=False)

    @classmethod
    def from_text(cls, text: str) -> "Commit":
        """Read back what `to_text` wrote."""
        values = json.loads(text)
        return cls(**(values | {"rows": tuple(values["rows"])}))


@dataclass(frozen=True)
class Refused:
    """A claim that was not granted: why (running, round already completed, commit pending), who holds it, in which
    run."""

    reason: str
    owner: str
    run_id: str

    def __str__(self) -> str:
        return f"{self.reason}: {self.run_id} of {self.owner}"


@dataclass(frozen=True)
class TakenIn:
    """What became of an old record: `imported` where there was none of its configuration, `updated` where the recorded test
    was older, `unchanged` where that same test is recorded, `kept` where the record here stays, for the `reason`."""

    record: OldRecord
    action: str
    reason: str | None = None


class CiTable(Protocol):
    """The contract every CI table keeps; `now` is in Unix seconds and defaults to the table's clock."""

    def register(
        self,
        configuration: Configuration,
        *,
        benchmark: BenchmarkPlan,
        tier: str | None = None,
        catalog_id: str | None = None,
        build_strategy: str | None = None,
        project_name: str | None = None,
        reset: bool = False,
        now: float | None = None,
    ) -> CiRecord:
        """Make or update the record of a configuration and return it.

        The same registration twice changes nothing, unless `reset` asks for a new test; changed fields (or `reset`)
        set `test_status` to untested and keep the history. A field given as none keeps what is recorded. Raises
        `UsageError` naming the owner while a run would have to be changed under its feet.
        """
        ...

    def change(self, config_id: str, settings: RecordSettings) -> CiRecord:
        """Give a record other settings and return it; its test status stays, since nothing that was tested changes.

        The same settings again change nothing. Raises `UsageError` where there is no such record, and naming the owner while
        a run would have to be changed under its feet.
        """
        ...

    def take_in(self, records: Sequence[OldRecord], *, now: float | None = None) -> tuple[TakenIn, ...]:
        """Take old records in, all at once or none, and return what became of each.

        A record here that was tested at the same time or later stays as it is, and so does one that is running; of any
        other the outcome of the last test and benchmark is replaced, its settings stay. Attempts are not made up: the
        history begins with the first run here. The same records again change nothing.
        """
        ...

    def record(self, config_id: str) -> CiRecord | None:
        """Return the record, none where there is none."""
        ...

    def records(self) -> tuple[CiRecord, ...]:
        """Return all records, oldest registration first."""
        ...

    def find(self, prefix: str) -> tuple[CiRecord, ...]:
        """Return the records whose id begins with `prefix`, by id."""
        ...

    def claim(
        self,
        config_id: str,
        *,
        configuration: Configuration,
        round: str,
        owner: Owner,
        lease_seconds: float,
        run_type: str,
        benchmark: BenchmarkPlan,
        tier: str | None = None,
    ) -> Claim | Refused:
        """Take the right to run a configuration in a round: one conditional write, exactly one winner.

        Creates the record of an unregistered configuration. Refused while another lease lives, when this round already
        has a committed attempt of it, and while a dead owner's commit waits to be replayed (`commit.recover`). An
        attempt whose lease is over becomes interrupted by the same write: its owner's later writes raise `LeaseLost`.
        """
        ...

    def beat(self, claim: Claim, lease_seconds: float) -> None:
        """Let the lease end `lease_seconds` from now. Raises `LeaseLost` when the claim is no longer the record's."""
        ...

    def benchmarking(self, claim: Claim, *, benchmark_run_id: str) -> None:
        """Note that stage 2 began (`lastBenchmarkStatus` in-progress). Raises `LeaseLost`."""
        ...

    def stage_ended(
        self, claim: Claim, stage: str, document: Mapping[str, Any], *, test_status: str | None = None
    ) -> None:
        """Note a stage's result in the attempt, so that pages show progress and nothing a stage made is known to one
        process alone. `test_status` is the gate's, given once it is known: a run that is interrupted later, in its
        benchmark, leaves it in the record. Raises `LeaseLost`."""
        ...

    def intend(self, claim: Claim, commit: Commit) -> None:
        """Store what the run will publish; from now on it can only go forward. The same intent twice is one.

        Raises `LeaseLost` when the claim is no longer the record's or another payload was intended before.
        """
        ...

    def finish(self, run_id: str) -> bool:
        """Write the intended outcome into record and history and free the lease; false when that was done before.

        Raises `LeaseLost` when the attempt is not committing (interrupted, never intended, unknown).
        """
        ...

    def interrupt(self, run_id: str, reason: str, *, cost_usd: float | None = None) -> bool:
        """End a running attempt without a result: the record goes back to its previous status, the lease is free.

        False when the attempt is not running (it committed, or somebody else ended it).
        """
        ...

    def pending(self) -> tuple[tuple[str, Commit], ...]:
        """Return run id and payload of every attempt between intent and finish, oldest first."""
        ...

    def running(self) -> tuple[Attempt, ...]:
        """Return the attempts that run, oldest first; their leases may be over."""
        ...

    def attempts(
        self, config_id: str | None = None, round: str | None = None, *, limit: int | None = None
    ) -> tuple[Attempt, ...]:
        """Return attempts, newest first, of one configuration or round where given."""
        ...

    def attempt(self, run_id: str) -> Attempt | None:
        """Return one attempt, none where there is none."""
        ...

    def fenced_out(self) -> frozenset[str]:
        """Return the run ids that were interrupted: what they publish late must not be read."""
        ...

    def taken_over(self) -> tuple[Attempt, ...]:
        """Return attempts that another claimant's write interrupted and nobody has cleaned up after yet, oldest
        first."""
        ...

    def settle_taken_over(self, run_id: str, *, cost_usd: float | None) -> bool:
        """Note that a taken-over attempt has been cleaned up after; false when it was noted before."""
        ...


def moment_text(moment: float) -> str:
    """Return a moment in Unix seconds as the tables write it: ISO 8601 UTC text."""
    return utc_text(datetime.fromtimestamp(moment, UTC))
