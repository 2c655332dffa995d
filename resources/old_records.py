"""Writing old records into the CI table of a home.

Belongs here: whether an old record says more than what is recorded, and the statements. Not here: reading old records
(`core.ci_records`), the transaction (`sqlite_ci_table.py`).
"""

import json
import sqlite3
from datetime import datetime

from mlcc_dagster.core.ci_records import OldRecord
from resources.ci_table import RECORD_VERSION, CiRecord, TakenIn


def take_in(connection: sqlite3.Connection, record: OldRecord, here: CiRecord | None, *, at: str) -> TakenIn:
    """Write one old record, unless what is recorded of its configuration (`here`) is as new; `at` is the UTC text of now.

    Keeps the contract of `CiTable.take_in`.
    """
    if here is None:
        connection.execute(
            """
            INSERT INTO ci_record (config_id, schema_version, configuration, test_status, previous_test_status,
              last_test_timestamp, last_test_duration_seconds, tier, e2e_catalog_id, build_strategy, benchmark_enabled,
              benchmark_workload, benchmark_concurrency_levels, stage_results, error_message, last_benchmark_run_id,
              last_benchmark_timestamp, last_benchmark_status, image, project_name, generation, created_at)
            VALUES (:config_id, :version, :configuration, :test_status, :previous, :tested, :seconds, :tier, :catalog_id,
              :build_strategy, :enabled, :workload, :levels, :stages, :error, :benchmark_run, :benchmark_at,
              :benchmark_status, :image, :project_name, 0, :created_at)
            """,
            _values(record) | {"created_at": record.created_at or record.last_test_timestamp or at},
        )
        return TakenIn(record, "imported")
    if here.lease_owner is not None:
        return TakenIn(record, "kept", f"{here.run_id} of {here.lease_owner} runs it now")
    mine, other = here.last_test_timestamp, record.last_test_timestamp
    if mine == other:
        return TakenIn(record, "unchanged")
    if other is None or (mine is not None and _moment(mine) > _moment(other)):
        return TakenIn(record, "kept", f"the record here is newer, tested {mine}")
    values = _values(record)
    measured, before = record.last_benchmark_timestamp, here.last_benchmark_timestamp
    if measured is None or (before is not None and _moment(before) > _moment(measured)):
        values |= {"benchmark_run": None, "benchmark_at": None, "benchmark_status": None}
    connection.execute(
        """
        UPDATE ci_record SET test_status = :test_status, previous_test_status = coalesce(:previous, previous_test_status),
          last_test_timestamp = :tested, last_test_duration_seconds = :seconds, stage_results = :stages,
          error_message = :error, image = coalesce(:image, image), project_name = coalesce(project_name, :project_name),
          tier = coalesce(tier, :tier), e2e_catalog_id = coalesce(e2e_catalog_id, :catalog_id),
          last_benchmark_run_id = coalesce(:benchmark_run, last_benchmark_run_id),
          last_benchmark_timestamp = coalesce(:benchmark_at, last_benchmark_timestamp),
          last_benchmark_status = coalesce(:benchmark_status, last_benchmark_status)
        WHERE config_id = :config_id AND lease_owner IS NULL
        """,
        values,
    )
    return TakenIn(record, "updated")


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _values(record: OldRecord) -> dict[str, object]:
    return {
        "config_id": record.config_id,
        "version": RECORD_VERSION,
        "configuration": json.dumps(record.configuration.to_json()),
        "test_status": record.test_status,
        "previous": record.previous_test_status,
        "tested": record.last_test_timestamp,
        "seconds": record.last_test_duration,
        "tier": record.tier,
        "catalog_id": record.e2e_catalog_id,
        "build_strategy": record.build_strategy,
        "enabled": record.benchmark.enabled,
        "workload": record.benchmark.workload,
        "levels": json.dumps(list(record.benchmark.concurrency_levels)),
        "stages": json.dumps(dict(record.stage_results)),
        "error": record.error_message,
        "benchmark_run": record.last_benchmark_run_id,
        "benchmark_at": record.last_benchmark_timestamp,
        "benchmark_status": record.last_benchmark_status,
        "image": record.image,
        "project_name": record.project_name,
    }
