"""The scanner's eyes: the CI table in the form that a scan decides on.

Belongs here: reading records, running attempts and pending commits together. Not here: what is due (`core.scanning`), asking for
the runs (a sensor, `mlcc ci trigger`).
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from mlcc_dagster.core.outcome import Owner
from mlcc_dagster.core.scanning import ROUND_SCOPE, RUNNING, UNTESTED, Reason, Scan, Scanned, scan
from resources import processes
from resources.ci_lines import entries_by_config, moment_of
from resources.ci_table import CiRecord
from resources.platform import Platform

RUN_TYPE = "ci"


def look(
    platform: Platform,
    *,
    now: datetime,
    max_concurrency: int,
    asked: int = 0,
    requested: Mapping[str, str] | None = None,
) -> Scan:
    """Scan the home's records once and return what to start now and what is left out.

    `asked` counts runs that scans have asked for and that have not claimed yet, which no table knows of; `requested` says why
    a configuration is not to be asked for again, by config id.
    """
    reasons = requested or {}
    records = platform.ci.records()
    # Read after the records: a run that claims in between is then missing here and due there, so that the claim refuses whoever
    # asks for it; the other way round it would be counted nowhere, and another one be started beside it.
    running = platform.ci.running()
    committing = {run_id for run_id, _ in platform.ci.pending()}
    entries = entries_by_config(platform.catalog)
    seen = []
    for record in records:
        entry = entries.get(record.config_id)
        seen.append(
            Scanned(
                config_id=record.config_id,
                test_status=record.test_status,
                registered_at=moment_of(record.created_at) or datetime.fromtimestamp(0, UTC),
                last_test=moment_of(record.last_test_timestamp),
                tier=record.tier or (entry.tier if entry else None),
                status_before=record.previous_test_status,
                lease_until=None if record.lease_until is None else datetime.fromtimestamp(record.lease_until, UTC),
                owner=None if record.lease_owner is None else str(record.lease_owner),
                owner_alive=_alive(record.lease_owner),
                committing=record.run_id in committing,
                tested_nothing=_tested_nothing(platform, record),
                refusal=platform.executor.can_run(record.configuration),
                requested=reasons.get(record.config_id),
            )
        )
    held = {each.config_id for each in seen if each.test_status == RUNNING and _held(each, now)}
    scanned = sum(attempt.config_id in held and is_of_scan(attempt.round) for attempt in running)
    return scan(
        seen,
        now=now,
        stale_after_seconds={tier.name: float(tier.stale_after_seconds) for tier in platform.catalog.tiers.values()},
        max_concurrency=max_concurrency,
        in_flight=scanned + asked,
    )


def is_of_scan(round_id: str) -> bool:
    """Whether a round is one that scans ask for."""
    return round_id.startswith(f"{ROUND_SCOPE}@")


def has_dead_owner(found: Scan) -> bool:
    """Whether something is due because its owner is dead: its lease lives on until somebody has reaped it."""
    return any(each.reason is Reason.OWNER_DEAD for each in found.start)


def _alive(owner: Owner | None) -> bool | None:
    return None if owner is None else processes.owner_alive(owner)


def _held(record: Scanned, now: datetime) -> bool:
    return record.lease_until is not None and record.lease_until > now and record.owner_alive is not False


def _tested_nothing(platform: Platform, record: CiRecord) -> bool:
    """Whether the last run of an untested record finished without a test. What the history does not know is untested."""
    if record.test_status != UNTESTED or record.last_test_timestamp is None:
        return False
    newest = platform.ci.attempts(record.config_id, limit=1)
    return bool(newest) and newest[0].state == "finished" and newest[0].test_status is None
