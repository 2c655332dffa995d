"""What the CI table says, in the form that reports, gate and flakiness read.

Belongs here: turning records and their history into lines, candidates of the release gate, confidences. Not here: the rules
(`core.ci_report`, `core.flakiness`, `core.release_gate`), showing them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from catalog.model import Catalog, Entry
from mlcc_dagster.core.ci_report import RUNNING, CiLine
from mlcc_dagster.core.flakiness import Confidence, Result, confidence_of
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.release_gate import RELEASE_TIER, Candidate, ReleaseDecision, decide
from mlcc_dagster.core.resolution import configuration_of
from resources.ci_table import Attempt, CiRecord, CiTable

GROUND_OUTPUTS: tuple[str, ...] = ("template_digest", "model_digest", "weights_digest", "base_image", "python")
"""Stage outputs that say what was tested. Not the image's own digest: where builds are not reproducible every run has
another one, and nothing would ever have failed and passed unchanged."""


def entries_by_config(catalog: Catalog) -> dict[str, Entry]:
    """Return the catalog's entries by config id."""
    return {config_id(configuration_of(entry, catalog)): entry for entry in catalog.entries}


def read_lines(ci: CiTable, catalog: Catalog) -> tuple[CiLine, ...]:
    """Return a line for every record, with the results of its history, oldest registration first."""
    entries = entries_by_config(catalog)
    histories = _histories(ci.attempts())
    return tuple(_line(record, entries.get(record.config_id), histories) for record in ci.records())


def confidences(ci: CiTable) -> Mapping[str, Confidence]:
    """Return by config id how many of the last runs passed; what was never tested is not in it."""
    found = {key: confidence_of(results_of(history)) for key, history in _histories(ci.attempts()).items()}
    return MappingProxyType({key: each for key, each in found.items() if each is not None})


def results_of(history: Iterable[Attempt]) -> tuple[Result, ...]:
    """Return the results of attempts that ended, in their order. One whose gate did not come to its end has none; one that was
    cut off later, in its benchmark, has one."""
    return tuple(Result(attempt.test_status == "pass", ground_of(attempt)) for attempt in history if _tested(attempt))


def ground_of(attempt: Attempt) -> Mapping[str, str]:
    """Return what an attempt tested, as far as its stages came to know it."""
    outputs: dict[str, Any] = {}
    for document in attempt.stages.values():
        outputs |= document.get("outputs") or {}
    return MappingProxyType({name: str(outputs[name]) for name in GROUND_OUTPUTS if outputs.get(name) is not None})


@dataclass(frozen=True)
class CiStatus:
    """The table in a few numbers; the four kinds add up to `total`. `leases_over` are running ones whose lease is over, so
    that probably nobody runs them any more; `last_completed` is none where no test ever ended."""

    total: int
    running: int
    passing: int
    failing: int
    untested: int
    leases_over: tuple[str, ...]
    last_completed: Mapping[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        """Return the status as one JSON document."""
        return {
            "total": self.total,
            "running": self.running,
            "passing": self.passing,
            "failing": self.failing,
            "untested": self.untested,
            "leasesOver": list(self.leases_over),
            "lastCompleted": None if self.last_completed is None else dict(self.last_completed),
        }


def read_status(ci: CiTable, catalog: Catalog, *, now: datetime) -> CiStatus:
    """Count the records by what their status says, and name the newest test that ended."""
    entries = entries_by_config(catalog)
    records = ci.records()
    lines = [_line(record, entries.get(record.config_id), {}) for record in records]
    tested = [line for line in lines if line.last_test is not None]
    newest = max(tested, key=lambda line: moment_of(line.last_test) or datetime.min.replace(tzinfo=UTC), default=None)
    completed = None
    if newest is not None:
        done = next((a for a in ci.attempts(newest.config_id) if a.state == "finished" and a.test_status), None)
        completed = {
            "configId": newest.config_id,
            "name": newest.name,
            "runId": done.run_id if done else None,
            # a running record's status is of now; what its last test said is in the history
            "testStatus": done.test_status if done else newest.test_status,
            "at": newest.last_test,
        }
    return CiStatus(
        total=len(lines),
        running=sum(line.test_status == RUNNING for line in lines),
        passing=sum(line.passing for line in lines),
        failing=sum(line.failing for line in lines),
        untested=sum(line.test_status == "untested" for line in lines),
        leases_over=tuple(
            line.name
            for line, record in zip(lines, records, strict=True)
            if line.test_status == RUNNING and (record.lease_until or 0) <= now.timestamp()
        ),
        last_completed=completed,
    )


def decide_release(ci: CiTable, catalog: Catalog, *, now: datetime, tier: str = RELEASE_TIER) -> ReleaseDecision:
    """Decide whether the models of a tier of the catalog pass. Raises `KeyError` for a tier that the catalog does not have."""
    records = {record.config_id: record for record in ci.records()}
    candidates = []
    for entry in catalog.tier_entries(tier):
        record = records.get(config_id(configuration_of(entry, catalog)))
        candidates.append(
            Candidate(
                name=entry.id,
                model=entry.model_name,
                test_status=None if record is None else record.test_status,
                last_test=None if record is None else record.last_test_timestamp,
            )
        )
    return decide(candidates, now=now, stale_after_seconds=catalog.tiers[tier].stale_after_seconds, tier=tier)


def moment_of(text: str | None) -> datetime | None:
    """Read a record's time, none where it has none or one that is no time. Old records of what was never tested have the
    epoch."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment if moment.timestamp() > 0 else None


def _tested(attempt: Attempt) -> bool:
    return attempt.state in ("finished", "interrupted") and attempt.test_status is not None


def _histories(attempts: Sequence[Attempt]) -> dict[str, list[Attempt]]:
    """Return the attempts with a test result by config id, oldest first."""
    histories: dict[str, list[Attempt]] = {}
    for attempt in sorted(attempts, key=lambda attempt: attempt.generation):
        if _tested(attempt):
            histories.setdefault(attempt.config_id, []).append(attempt)
    return histories


def _line(record: CiRecord, entry: Entry | None, histories: Mapping[str, Sequence[Attempt]]) -> CiLine:
    history = histories.get(record.config_id, ())
    wanted = entry.expected_failure if entry else None
    return CiLine(
        config_id=record.config_id,
        name=record.e2e_catalog_id or (entry.id if entry else record.config_id),
        deployment_config=record.configuration.deployment_config,
        test_status=record.test_status,
        previous_test_status=record.previous_test_status,
        tier=record.tier or (entry.tier if entry else None),
        project=record.project_name,
        last_test=record.last_test_timestamp if moment_of(record.last_test_timestamp) else None,
        duration_seconds=record.last_test_duration,
        results=results_of(history),
        expected=bool(wanted and history and history[-1].failure_category == wanted),
    )
