"""The CI table of a home, in its SQLite file.

Belongs here: the statements that keep the contract of `ci_table.py`, each change one conditional write. Not here: the
contract, the tables' definitions (`database.py`).
"""

import json
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mlcc_dagster.core.ci_records import OldRecord
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.exceptions import LeaseLost, UsageError
from mlcc_dagster.core.identity import config_id as id_of
from mlcc_dagster.core.outcome import BenchmarkPlan, Claim, Owner
from mlcc_dagster.core.record_settings import BUILD_STRATEGIES, DEFAULT_BUILD_STRATEGY, RecordSettings
from resources.ci_table import (
    COMMIT_PENDING,
    RECORD_VERSION,
    ROUND_DONE,
    RUNNING_ELSEWHERE,
    Attempt,
    CiRecord,
    CiTable,
    Commit,
    Refused,
    TakenIn,
    moment_text,
)
from resources.database import Database
from resources.old_records import take_in


class SqliteCiTable(CiTable):
    """The CI table in a home's SQLite file. `clock` gives Unix seconds."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._database = Database(path)
        self._clock = clock

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
        """See `CiTable.register`."""
        if build_strategy not in (None, *BUILD_STRATEGIES):
            raise UsageError(f"unknown build strategy '{build_strategy}'; use one of {', '.join(BUILD_STRATEGIES)}")
        moment = self._clock() if now is None else now
        key = id_of(configuration)
        with self._database.writing() as connection:
            row = _row(connection, key)
            if row is None:
                _create(connection, key, configuration, benchmark, tier, catalog_id, build_strategy, moment)
                row = _row(connection, key)
                reset = False  # a new record is untested already
            old = _record(row)
            wanted = replace(
                old,
                configuration=configuration,
                benchmark=benchmark,
                tier=tier or old.tier,
                e2e_catalog_id=catalog_id or old.e2e_catalog_id,
                build_strategy=build_strategy or old.build_strategy,
                project_name=project_name or old.project_name,
            )
            if not reset and wanted == old:
                return old
            refused = _end_expired(connection, row, moment, "registered anew")
            if refused is not None:
                raise UsageError(f"{key} cannot be registered anew now ({refused}); wait for that run or `mlcc reap`")
            connection.execute(
                """
                UPDATE ci_record SET configuration = :configuration, benchmark_enabled = :enabled,
                  benchmark_workload = :workload, benchmark_concurrency_levels = :levels, tier = :tier,
                  e2e_catalog_id = :catalog_id, build_strategy = :build_strategy, schema_version = :version,
                  project_name = :project_name,
                  previous_test_status = CASE test_status WHEN 'untested' THEN previous_test_status
                    ELSE test_status END,
                  test_status = 'untested'
                WHERE config_id = :config_id
                """,
                _declared(key, configuration, benchmark, wanted.tier, wanted.e2e_catalog_id, wanted.build_strategy)
                | {"project_name": wanted.project_name},
            )
            return _record(_row(connection, key))

    def change(self, config_id: str, settings: RecordSettings) -> CiRecord:
        """See `CiTable.change`."""
        with self._database.writing() as connection:
            row = _row(connection, config_id)
            if row is None:
                raise UsageError(f"{config_id} is not registered; `mlcc register` does that")
            if _record(row).settings == settings:
                return _record(row)
            refused = _end_expired(connection, row, self._clock(), "its record was changed")
            if refused is not None:
                raise UsageError(f"{config_id} cannot be changed now ({refused}); wait for that run or `mlcc reap`")
            connection.execute(
                """
                UPDATE ci_record SET benchmark_enabled = :enabled, benchmark_workload = :workload,
                  benchmark_concurrency_levels = :levels, build_strategy = :build_strategy, tier = :tier
                WHERE config_id = :config_id
                """,
                {
                    "config_id": config_id,
                    "enabled": settings.benchmark.enabled,
                    "workload": settings.benchmark.workload,
                    "levels": json.dumps(list(settings.benchmark.concurrency_levels)),
                    "build_strategy": settings.build_strategy,
                    "tier": settings.tier,
                },
            )
            return _record(_row(connection, config_id))

    def take_in(self, records: Sequence[OldRecord], *, now: float | None = None) -> tuple[TakenIn, ...]:
        """See `CiTable.take_in`."""
        at = moment_text(self._clock() if now is None else now)
        with self._database.writing() as connection:
            taken = []
            for record in records:
                row = _row(connection, record.config_id)
                taken.append(take_in(connection, record, None if row is None else _record(row), at=at))
            return tuple(taken)

    def record(self, config_id: str) -> CiRecord | None:
        """See `CiTable.record`."""
        with self._database.reading() as connection:
            row = _row(connection, config_id)
        return None if row is None else _record(row)

    def records(self) -> tuple[CiRecord, ...]:
        """See `CiTable.records`."""
        with self._database.reading() as connection:
            return tuple(map(_record, connection.execute("SELECT * FROM ci_record ORDER BY created_at, rowid")))

    def find(self, prefix: str) -> tuple[CiRecord, ...]:
        """See `CiTable.find`."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT * FROM ci_record WHERE substr(config_id, 1, length(:prefix)) = :prefix ORDER BY config_id",
                {"prefix": prefix},
            )
            return tuple(map(_record, rows))

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
        """See `CiTable.claim`."""
        with self._database.writing() as connection:
            now = self._clock()
            done = connection.execute(
                "SELECT * FROM test_history WHERE config_id = ? AND round = ? AND state IN ('committing', 'finished')",
                (config_id, round),
            ).fetchone()
            if done is not None:
                return Refused(reason=ROUND_DONE, owner=str(_owner(done["owner"])), run_id=done["run_id"])
            row = _row(connection, config_id)
            if row is None:
                _create(connection, config_id, configuration, benchmark, tier, None, None, now)
                row = _row(connection, config_id)
            refused = _end_expired(connection, row, now, f"its lease was over and {owner} took it")
            if refused is not None:
                return refused
            claim = Claim(config_id, row["generation"] + 1, owner, round, moment_text(now))
            connection.execute(
                """
                UPDATE ci_record SET test_status = 'running', previous_test_status = test_status,
                  generation = :generation, lease_owner = :owner, lease_until = :until
                WHERE config_id = :config_id
                """,
                {
                    "config_id": config_id,
                    "generation": claim.generation,
                    "owner": _owner_text(owner),
                    "until": now + lease_seconds,
                },
            )
            connection.execute(
                """
                INSERT INTO test_history
                  (run_id, config_id, generation, round, run_type, tier, owner, state, started_at)
                VALUES (?, ?, ?, ?, ?, ?, ?, 'running', ?)
                """,
                (
                    claim.run_id,
                    config_id,
                    claim.generation,
                    round,
                    run_type,
                    tier or row["tier"],
                    _owner_text(owner),
                    claim.claimed_at,
                ),
            )
            return claim

    def beat(self, claim: Claim, lease_seconds: float) -> None:
        """See `CiTable.beat`."""
        with self._database.writing() as connection:
            changed = connection.execute(
                f"UPDATE ci_record SET lease_until = :until WHERE {_FENCE}",
                _fence(claim) | {"until": self._clock() + lease_seconds},
            )
            if changed.rowcount != 1:
                raise _lost(claim)

    def benchmarking(self, claim: Claim, *, benchmark_run_id: str) -> None:
        """See `CiTable.benchmarking`."""
        with self._database.writing() as connection:
            changed = connection.execute(
                f"""
                UPDATE ci_record SET last_benchmark_run_id = :benchmark, last_benchmark_timestamp = :at,
                  last_benchmark_status = 'in-progress'
                WHERE {_FENCE}
                """,
                _fence(claim) | {"benchmark": benchmark_run_id, "at": moment_text(self._clock())},
            )
            if changed.rowcount != 1:
                raise _lost(claim)

    def stage_ended(
        self, claim: Claim, stage: str, document: Mapping[str, Any], *, test_status: str | None = None
    ) -> None:
        """See `CiTable.stage_ended`."""
        with self._database.writing() as connection:
            held = connection.execute(f"SELECT 1 FROM ci_record WHERE {_FENCE}", _fence(claim)).fetchone()
            changed = connection.execute(
                """
                UPDATE test_history SET stages = json_set(stages, '$.' || :stage, json(:document)),
                  test_status = coalesce(:test_status, test_status)
                WHERE run_id = :run_id AND state = 'running'
                """,
                {
                    "run_id": claim.run_id,
                    "stage": stage,
                    "document": json.dumps(dict(document)),
                    "test_status": test_status,
                },
            )
            if held is None or changed.rowcount != 1:
                raise _lost(claim)

    def intend(self, claim: Claim, commit: Commit) -> None:
        """See `CiTable.intend`."""
        payload = commit.to_text()
        with self._database.writing() as connection:
            held = connection.execute(f"SELECT 1 FROM ci_record WHERE {_FENCE}", _fence(claim)).fetchone()
            changed = connection.execute(
                """
                UPDATE test_history SET state = 'committing', payload = :payload, ended_at = coalesce(ended_at, :at)
                WHERE run_id = :run_id AND (state = 'running' OR (state = 'committing' AND payload = :payload))
                """,
                {"run_id": claim.run_id, "payload": payload, "at": moment_text(self._clock())},
            )
            if held is None or changed.rowcount != 1:
                raise _lost(claim)

    def finish(self, run_id: str) -> bool:
        """See `CiTable.finish`."""
        with self._database.writing() as connection:
            row = _attempt_row(connection, run_id)
            if row is not None and row["state"] == "finished":
                return False
            if row is None or row["state"] != "committing":
                state = "unknown" if row is None else row["state"]
                raise LeaseLost(f"{run_id} is {state}, so it has nothing to finish; start a new run of it")
            commit = Commit.from_text(row["payload"])
            connection.execute(
                """
                UPDATE test_history SET state = 'finished', payload = NULL, status = :status,
                  test_status = :test_status, run_status = :run_status, reason = :reason, seconds = :seconds,
                  cost_usd = :cost_usd,
                  failure_category = :category, failure_retryable = :retryable, retry_due = :retry_due
                WHERE run_id = :run_id AND state = 'committing'
                """,
                {
                    "run_id": run_id,
                    "status": commit.status,
                    "test_status": commit.test_status,
                    "run_status": commit.run_status,
                    "reason": commit.error_message or None,
                    "seconds": commit.duration_seconds,
                    "cost_usd": commit.cost_usd,
                    "category": commit.failure_category,
                    "retryable": commit.failure_retryable,
                    "retry_due": commit.retry_due,
                },
            )
            # a run without a benchmark says nothing about the last one
            connection.execute(
                """
                UPDATE ci_record SET test_status = coalesce(:test_status, previous_test_status), last_test_timestamp = :at,
                  last_test_duration_seconds = :seconds, stage_results = :stages, error_message = :error,
                  last_benchmark_run_id = coalesce(:benchmark_run_id, last_benchmark_run_id),
                  last_benchmark_timestamp = coalesce(:benchmark_timestamp, last_benchmark_timestamp),
                  last_benchmark_status = coalesce(:benchmark_status, last_benchmark_status),
                  image = coalesce(:image, image), project_name = coalesce(:project_name, project_name),
                  lease_owner = NULL, lease_until = NULL
                WHERE config_id = :config_id AND generation = :generation
                """,
                {
                    "config_id": row["config_id"],
                    "generation": row["generation"],
                    "test_status": commit.test_status,
                    "at": row["ended_at"],
                    "seconds": commit.duration_seconds,
                    "stages": json.dumps(dict(commit.stage_results)),
                    "error": commit.error_message or None,
                    "benchmark_run_id": commit.benchmark_run_id,
                    "benchmark_timestamp": commit.benchmark_timestamp,
                    "benchmark_status": commit.benchmark_status,
                    "image": commit.image,
                    "project_name": commit.project_name,
                },
            )
            return True

    def interrupt(self, run_id: str, reason: str, *, cost_usd: float | None = None) -> bool:
        """See `CiTable.interrupt`."""
        with self._database.writing() as connection:
            row = _attempt_row(connection, run_id)
            if row is None or row["state"] != "running":
                return False
            _interrupt(connection, row, reason, self._clock(), cost_usd=cost_usd, taken_over=False)
            return True

    def pending(self) -> tuple[tuple[str, Commit], ...]:
        """See `CiTable.pending`."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT run_id, payload FROM test_history WHERE state = 'committing' ORDER BY ended_at, rowid"
            ).fetchall()
        return tuple((row["run_id"], Commit.from_text(row["payload"])) for row in rows)

    def running(self) -> tuple[Attempt, ...]:
        """See `CiTable.running`."""
        with self._database.reading() as connection:
            return tuple(
                map(_attempt, connection.execute("SELECT * FROM test_history WHERE state = 'running' ORDER BY rowid"))
            )

    def attempts(
        self, config_id: str | None = None, round: str | None = None, *, limit: int | None = None
    ) -> tuple[Attempt, ...]:
        """See `CiTable.attempts`."""
        with self._database.reading() as connection:
            rows = connection.execute(
                """
                SELECT * FROM test_history
                WHERE (:config_id IS NULL OR config_id = :config_id) AND (:round IS NULL OR round = :round)
                ORDER BY rowid DESC LIMIT :limit
                """,
                {"config_id": config_id, "round": round, "limit": -1 if limit is None else limit},
            )
            return tuple(map(_attempt, rows))

    def attempt(self, run_id: str) -> Attempt | None:
        """See `CiTable.attempt`."""
        with self._database.reading() as connection:
            row = _attempt_row(connection, run_id)
        return None if row is None else _attempt(row)

    def fenced_out(self) -> frozenset[str]:
        """See `CiTable.fenced_out`."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT run_id FROM test_history WHERE state = 'interrupted'")
            return frozenset(row["run_id"] for row in rows)

    def taken_over(self) -> tuple[Attempt, ...]:
        """See `CiTable.taken_over`."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT * FROM test_history WHERE state = 'interrupted' AND taken_over = 1 ORDER BY rowid"
            )
            return tuple(map(_attempt, rows))

    def settle_taken_over(self, run_id: str, *, cost_usd: float | None) -> bool:
        """See `CiTable.settle_taken_over`."""
        with self._database.writing() as connection:
            changed = connection.execute(
                "UPDATE test_history SET taken_over = 0, cost_usd = ? WHERE run_id = ? AND taken_over = 1",
                (cost_usd, run_id),
            )
            return changed.rowcount == 1


_FENCE = "config_id = :config_id AND generation = :generation AND lease_owner = :owner"
"""What every write of an owner is conditional on."""


def _fence(claim: Claim) -> dict[str, Any]:
    return {"config_id": claim.config_id, "generation": claim.generation, "owner": _owner_text(claim.owner)}


def _lost(claim: Claim) -> LeaseLost:
    return LeaseLost(
        f"{claim.run_id} no longer holds {claim.config_id}, so its write was refused; "
        f"see `mlcc ledger {claim.run_id}` for who ended it, or run the configuration again"
    )


def _end_expired(connection: sqlite3.Connection, row: sqlite3.Row, now: float, why: str) -> Refused | None:
    """Free a record from the attempt that holds it, or say why that must not be. `row` is the record's."""
    if row["lease_owner"] is None:
        return None
    attempt = _attempt_row(connection, f"{row['config_id']}-g{row['generation']}")
    owner = str(_owner(row["lease_owner"]))
    if row["lease_until"] > now:
        return Refused(reason=RUNNING_ELSEWHERE, owner=owner, run_id=attempt["run_id"])
    if attempt["state"] == "committing":
        # its result may be published already: only forward leads out of here
        return Refused(reason=COMMIT_PENDING, owner=owner, run_id=attempt["run_id"])
    _interrupt(connection, attempt, why, now, cost_usd=None, taken_over=True)
    return None


def _interrupt(
    connection: sqlite3.Connection,
    attempt: sqlite3.Row,
    reason: str,
    now: float,
    *,
    cost_usd: float | None,
    taken_over: bool,
) -> None:
    started = datetime.fromisoformat(attempt["started_at"]).timestamp()
    connection.execute(
        """
        UPDATE test_history SET state = 'interrupted', reason = ?, ended_at = ?, seconds = ?, cost_usd = ?, taken_over = ?
        WHERE run_id = ? AND state = 'running'
        """,
        (reason, moment_text(now), max(0.0, now - started), cost_usd, taken_over, attempt["run_id"]),
    )
    # a benchmark that was cut off did not complete, and would stay in progress for ever
    connection.execute(
        """
        UPDATE ci_record SET test_status = coalesce(
            (SELECT test_status FROM test_history WHERE run_id = ?), previous_test_status
          ), lease_owner = NULL, lease_until = NULL,
          last_benchmark_status = CASE last_benchmark_status WHEN 'in-progress' THEN 'failed'
            ELSE last_benchmark_status END
        WHERE config_id = ? AND generation = ?
        """,
        (attempt["run_id"], attempt["config_id"], attempt["generation"]),
    )


def _create(
    connection: sqlite3.Connection,
    key: str,
    configuration: Configuration,
    benchmark: BenchmarkPlan,
    tier: str | None,
    catalog_id: str | None,
    build_strategy: str | None,
    now: float,
) -> None:
    connection.execute(
        """
        INSERT INTO ci_record (config_id, schema_version, configuration, test_status, tier, e2e_catalog_id,
          build_strategy, benchmark_enabled, benchmark_workload, benchmark_concurrency_levels, stage_results,
          generation, created_at)
        VALUES (:config_id, :version, :configuration, 'untested', :tier, :catalog_id, :build_strategy, :enabled,
          :workload, :levels, '{}', 0, :created_at)
        """,
        _declared(key, configuration, benchmark, tier, catalog_id, build_strategy or DEFAULT_BUILD_STRATEGY)
        | {"created_at": moment_text(now)},
    )


def _declared(
    key: str,
    configuration: Configuration,
    benchmark: BenchmarkPlan,
    tier: str | None,
    catalog_id: str | None,
    build_strategy: str,
) -> dict[str, Any]:
    return {
        "config_id": key,
        "version": RECORD_VERSION,
        "configuration": json.dumps(configuration.to_json()),
        "tier": tier,
        "catalog_id": catalog_id,
        "build_strategy": build_strategy,
        "enabled": benchmark.enabled,
        "workload": benchmark.workload,
        "levels": json.dumps(list(benchmark.concurrency_levels)),
    }


def _row(connection: sqlite3.Connection, config_id: str) -> Any:
    return connection.execute("SELECT * FROM ci_record WHERE config_id = ?", (config_id,)).fetchone()


def _attempt_row(connection: sqlite3.Connection, run_id: str) -> Any:
    return connection.execute("SELECT * FROM test_history WHERE run_id = ?", (run_id,)).fetchone()


def _record(row: sqlite3.Row) -> CiRecord:
    return CiRecord(
        config_id=row["config_id"],
        configuration=Configuration.from_json(json.loads(row["configuration"])),
        test_status=row["test_status"],
        previous_test_status=row["previous_test_status"],
        last_test_timestamp=row["last_test_timestamp"],
        last_test_duration=row["last_test_duration_seconds"],
        tier=row["tier"],
        e2e_catalog_id=row["e2e_catalog_id"],
        benchmark=BenchmarkPlan(
            enabled=bool(row["benchmark_enabled"]),
            workload=row["benchmark_workload"],
            concurrency_levels=tuple(json.loads(row["benchmark_concurrency_levels"])),
        ),
        stage_results=MappingProxyType(json.loads(row["stage_results"])),
        error_message=row["error_message"],
        last_benchmark_run_id=row["last_benchmark_run_id"],
        last_benchmark_timestamp=row["last_benchmark_timestamp"],
        last_benchmark_status=row["last_benchmark_status"],
        generation=row["generation"],
        lease_owner=None if row["lease_owner"] is None else _owner(row["lease_owner"]),
        lease_until=row["lease_until"],
        created_at=row["created_at"],
        image=row["image"],
        project_name=row["project_name"],
        build_strategy=row["build_strategy"],
        schema_version=row["schema_version"],
    )


def _attempt(row: sqlite3.Row) -> Attempt:
    kept: dict[str, Any] = {name: row[name] for name in (f.name for f in fields(Attempt))}
    retryable = row["failure_retryable"]
    kept["owner"] = _owner(row["owner"])
    kept["stages"] = json.loads(row["stages"])
    kept["failure_retryable"] = None if retryable is None else bool(retryable)
    return Attempt(**kept)


def _owner_text(owner: Owner) -> str:
    return json.dumps(asdict(owner), sort_keys=True)


def _owner(text: str) -> Owner:
    return Owner(**json.loads(text))
