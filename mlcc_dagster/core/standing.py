"""What the evidence says about each vector: proven, failed, unfeasible or untested, and when another try is due.

Belongs here: reading the verdict of a vector from its result rows, a person's marks and expired verdicts. Not here:
which vectors exist (`resolution.py`), counting them (`coverage.py`), ranking them (`gaps.py`), categories
(`failures.py`).
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from mlcc_dagster.core.configuration import Vector
from mlcc_dagster.core.exceptions import InvalidInput
from mlcc_dagster.core.failures import CATEGORIES, retry_due
from mlcc_dagster.core.result_columns import is_null, moment_of

IMPORTED = "imported"
"""The evidence class of a proof whose row names no executor: every run of ours writes one, imported rows need not."""

_NO_TIME = datetime.min.replace(tzinfo=UTC)
_PROVEN, _FAILED, _UNFEASIBLE = "completed", "failed", "unfeasible"


class Status(StrEnum):
    """What is known of a vector; exactly one holds."""

    PROVEN = "proven"
    FAILED = "failed"
    UNFEASIBLE = "unfeasible"
    UNTESTED = "untested"


class Reason(StrEnum):
    """Why a vector is a gap. The planner may start the first, second and last; the others wait for something."""

    UNTESTED = "untested"
    FAILED_RETRY_DUE = "failed_retry_due"
    RETRY_NOT_DUE = "retry_not_due"
    PARKED = "parked"
    UNFEASIBLE = "unfeasible"
    UNFEASIBLE_EXPIRED = "unfeasible_expired"

    @property
    def startable(self) -> bool:
        """Whether a planner may start a gap that has this reason."""
        return self in (Reason.UNTESTED, Reason.FAILED_RETRY_DUE, Reason.UNFEASIBLE_EXPIRED)


@dataclass(frozen=True)
class Failure:
    """One attempt that did not prove its vector. `status` is `failed` or `unfeasible`; `at` is none where the row has
    no time (then it counts as older than every other); `digests` is what an unfeasible verdict depended on, by name."""

    run_id: str
    at: datetime | None
    status: str
    category: str
    line: str | None
    digests: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def __str__(self) -> str:
        return f"{self.category}: {self.line}" if self.line else self.category


@dataclass(frozen=True)
class Expiry:
    """The end of every verdict that a vector had until `at`, and why: what it depended on changed, or a person lifted
    it. Later failures count anew."""

    at: datetime
    why: str


@dataclass(frozen=True)
class Findings:
    """All that result rows say of one vector: the newest and the first proof (none where no row has a time), the executors
    of all proofs, and the failed attempts, oldest first, one per run."""

    proven: bool
    proven_at: datetime | None
    first_proven_at: datetime | None
    executors: frozenset[str]
    failures: tuple[Failure, ...]


def row_vector(row: Mapping[str, Any]) -> Vector:
    """Read the vector of a result row; the sixth dimension is stored as `tensor_parallel_degree` and also read under
    `tp_degree`, which comes first where both have a value."""
    if is_null(row.get("tp_degree")) and not is_null(row.get("tensor_parallel_degree")):
        row = {**row, "tp_degree": row["tensor_parallel_degree"]}
    return Vector.of(row)


@dataclass(frozen=True)
class Standing:
    """The verdict on every vector that has evidence, a person's mark or an expiry; all others are untested.

    A vector is proven by any completed row, whatever failed before or after. Else the newest row decides between failed
    and unfeasible. `marks` are a person's word (vector -> reason) that it is unfeasible; `expiries` end older verdicts.
    """

    evidence: Mapping[Vector, Findings]
    marks: Mapping[Vector, str] = field(default_factory=lambda: MappingProxyType({}))
    expiries: Mapping[Vector, Expiry] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(
        cls,
        rows: Iterable[Mapping[str, Any]],
        *,
        marks: Mapping[Vector, str] = MappingProxyType({}),
        expiries: Mapping[Vector, Expiry] = MappingProxyType({}),
    ) -> "Standing":
        """Build the standing from result rows: the six dimensions, `status`, `run_timestamp`, `run_id`, `executor`,
        `failure_category`, `failure_reason`, `engine`, `evidence` (JSON).

        Rows of any other status say nothing. Raises `InvalidInput` naming every time that cannot be read.
        """
        problems: list[str] = []
        proofs: dict[Vector, list[tuple[datetime | None, str]]] = defaultdict(list)
        failures: dict[Vector, dict[str, Failure]] = defaultdict(dict)
        for index, row in enumerate(rows):
            status = row.get("status")
            if status not in (_PROVEN, _FAILED, _UNFEASIBLE):
                continue
            try:
                at = moment_of(row.get("run_timestamp"))
            except ValueError:
                problems.append(f"row {index}: run_timestamp {row.get('run_timestamp')!r} is no ISO 8601 time")
                continue
            vector = row_vector(row)
            if status == _PROVEN:
                proofs[vector].append((at, str(row.get("executor") or IMPORTED)))
                continue
            # A row without a run id cannot be told from another attempt, so it is one.
            run_id = str(row.get("run_id") or f"row {index}")
            failure = Failure(
                run_id=run_id,
                at=at,
                status=status,
                category=str(row.get("failure_category") or "unknown"),
                line=row.get("failure_reason"),
                digests=_digests(row) if status == _UNFEASIBLE else MappingProxyType({}),
            )
            known = failures[vector].get(run_id)
            if known is None or _time(known.at) <= _time(at):
                failures[vector][run_id] = failure
        if problems:
            raise InvalidInput("the result rows", problems)
        return cls(
            evidence=MappingProxyType(
                {
                    vector: Findings(
                        proven=vector in proofs,
                        proven_at=max((at for at, _ in proofs.get(vector, ()) if at is not None), default=None),
                        first_proven_at=min((at for at, _ in proofs.get(vector, ()) if at is not None), default=None),
                        executors=frozenset(executor for _, executor in proofs.get(vector, ())),
                        failures=tuple(sorted(failures.get(vector, {}).values(), key=lambda f: _time(f.at))),
                    )
                    for vector in dict.fromkeys([*proofs, *failures])
                }
            ),
            marks=MappingProxyType(dict(marks)),
            expiries=MappingProxyType(dict(expiries)),
        )

    @property
    def proven(self) -> frozenset[Vector]:
        """All proven vectors."""
        return frozenset(vector for vector, evidence in self.evidence.items() if evidence.proven)

    def status(self, vector: Vector) -> Status:
        """Return what is known of a vector now. A verdict that expired leaves it untested."""
        evidence = self.evidence.get(vector)
        if evidence is not None and evidence.proven:
            return Status.PROVEN
        if vector in self.marks:
            return Status.UNFEASIBLE
        failures = self.live_failures(vector)
        return Status(failures[-1].status) if failures else Status.UNTESTED

    def attempts(self, vector: Vector) -> int:
        """Return how many runs failed with the category of the newest live failure, 0 where there is none."""
        failures = self.live_failures(vector)
        return sum(1 for failure in failures if failure.category == failures[-1].category)

    def reason(self, vector: Vector, *, now: datetime) -> tuple[Reason, str]:
        """Say why an unproven vector is a gap, and in one clause what that rests on.

        Retry times follow `failures.retry_due`; a category outside the vocabulary (a row written by a later version) is
        retried like `unknown`. Raises `ValueError` for a proven vector: it is no gap.
        """
        status = self.status(vector)
        if status is Status.PROVEN:
            raise ValueError(f"{vector} is proven and no gap; ask for unproven vectors only")
        if vector in self.marks:
            return Reason.UNFEASIBLE, f"marked by a person: {self.marks[vector]}"
        failures = self.live_failures(vector)
        if not failures:
            return self._reason_without_verdict(vector)
        newest = failures[-1]
        if status is Status.UNFEASIBLE:
            return Reason.UNFEASIBLE, str(newest)
        attempts = self.attempts(vector)
        category = newest.category if newest.category in CATEGORIES else "unknown"
        due = retry_due(category, attempts, newest.at or datetime.fromtimestamp(0, UTC))
        if due is None:
            return Reason.PARKED, f"{newest} (attempt {attempts}, no further one without a person)"
        text = due.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
        reason = Reason.FAILED_RETRY_DUE if due <= now else Reason.RETRY_NOT_DUE
        return reason, f"{newest} (attempt {attempts}, retry due {text})"

    def live_failures(self, vector: Vector) -> tuple[Failure, ...]:
        """Return the failed runs of a vector that no expiry has ended, oldest first."""
        evidence, expiry = self.evidence.get(vector), self.expiries.get(vector)
        failures = evidence.failures if evidence is not None else ()
        if expiry is None:
            return failures
        return tuple(failure for failure in failures if _time(failure.at) > expiry.at)

    def _reason_without_verdict(self, vector: Vector) -> tuple[Reason, str]:
        evidence, expiry = self.evidence.get(vector), self.expiries.get(vector)
        if evidence is None or not evidence.failures:
            if expiry is not None:
                return Reason.UNFEASIBLE_EXPIRED, f"{expiry.why} (was marked by a person)"
            return Reason.UNTESTED, "no run of it yet"
        last, why = evidence.failures[-1], self.expiries[vector].why
        reason = Reason.UNFEASIBLE_EXPIRED if last.status == _UNFEASIBLE else Reason.FAILED_RETRY_DUE
        return reason, f"{why} (was {last})"


def _digests(row: Mapping[str, Any]) -> Mapping[str, str]:
    """Read what a row's verdict depended on; rows of others may have no evidence, or another kind."""
    try:
        recorded = json.loads(row.get("evidence") or "{}")
    except (TypeError, ValueError):
        recorded = {}
    digests = {str(name): str(value) for name, value in recorded.items()} if isinstance(recorded, dict) else {}
    if row.get("engine"):
        digests["engine"] = str(row["engine"])
    return MappingProxyType(digests)


def _time(at: datetime | None) -> datetime:
    return _NO_TIME if at is None else at
