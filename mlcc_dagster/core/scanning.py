"""Which registered configurations are due for another test, in which order, and why the others are left out.

Belongs here: the decision, its order and its reasons, as data. Not here: reading the table (`resources.scanner`), asking for
runs (a sensor, `mlcc ci trigger`), the claim that two askers of one due record meet in. Source: the scanning rules of continuous
validation. Due is everything untested, everything whatever its status whose last test is older than its limit (any test counts, a
tier's too), and every lease that ran out or whose owner is dead. A running one whose lease lives is never due.

First comes what was never tested, in the order of registration, then the oldest test. The order is the same for everybody who
looks, so that scanners which start no more than a number at once do not pass it together: they ask for the same record, and
one of them gets it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from mlcc_dagster.core.records import utc_text

STALE_AFTER_SECONDS = 86_400.0
"""The limit of what is of no tier, or of one that the catalog does not know: 24 hours."""

ROUND_SCOPE = "scan"

UNTESTED, RUNNING = "untested", "running"

_CLOCKS_APART = timedelta(minutes=5)
"""Clocks of machines differ; what lies further ahead is no time of a test."""


class Reason(StrEnum):
    """Why a record is due."""

    UNTESTED = "untested"
    STALE = "stale"
    LEASE_OVER = "lease over"
    OWNER_DEAD = "owner dead"


class Omission(StrEnum):
    """Why a record is left out of what is started now."""

    NO_ROOM = "no room"
    FRESH = "fresh"
    RUNNING = "running"
    COMMITTING = "committing"
    NOT_RUNNABLE = "not runnable"
    REQUESTED = "requested"


@dataclass(frozen=True)
class Scanned:
    """One record as a scan sees it. Moments are aware.

    `last_test` is when its last run ended, none where that is unknown; `status_before` is what a running one goes back to when
    it is interrupted; `lease_until` and `owner` are of a running one. `owner_alive` is none where it cannot be told.
    `committing`: its result is decided and waits to be published. `tested_nothing`: its last run finished and its gate was not
    asked to test, so that it stays untested. `refusal` says why the executor cannot run it, `requested` why it is not to be
    asked for again now.
    """

    config_id: str
    test_status: str
    registered_at: datetime
    last_test: datetime | None = None
    tier: str | None = None
    status_before: str | None = None
    lease_until: datetime | None = None
    owner: str | None = None
    owner_alive: bool | None = None
    committing: bool = False
    tested_nothing: bool = False
    refusal: str | None = None
    requested: str | None = None

    @property
    def status(self) -> str:
        """Its status, of a running one that before the run."""
        return (self.status_before or UNTESTED) if self.test_status == RUNNING else self.test_status


@dataclass(frozen=True)
class Due:
    """A record that is due: why, since when, and the sentence for people."""

    config_id: str
    reason: Reason
    since: datetime
    tier: str | None
    detail: str
    place: tuple[bool, datetime, str]

    @property
    def round(self) -> str:
        """The occasion of its run, `scan@<due time>`: whoever asks for the same due record names the same one."""
        return f"{ROUND_SCOPE}@{utc_text(self.since)}"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "config_id": self.config_id,
            "tier": self.tier,
            "reason": self.reason.value,
            "due_since": utc_text(self.since),
            "round": self.round,
            "detail": self.detail,
        }


@dataclass(frozen=True)
class LeftOut:
    """A record that is not started now, and why: the kind and one sentence."""

    config_id: str
    omission: Omission
    detail: str

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"config_id": self.config_id, "reason": self.omission.value, "detail": self.detail}


@dataclass(frozen=True)
class Scan:
    """What one look at the table came to: every record is in exactly one of the two, what is due in its order."""

    at: datetime
    start: tuple[Due, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def waiting(self) -> tuple[str, ...]:
        """The config ids that are due and have no room yet, in their order."""
        return tuple(left.config_id for left in self.left_out if left.omission is Omission.NO_ROOM)

    @property
    def sentence(self) -> str:
        """The scan in a few words: how many are started, and how many are left out by kind."""
        counts = Counter(left.omission for left in self.left_out)
        others = ", ".join(f"{counts[kind]} {kind.value}" for kind in Omission if counts[kind])
        return f"{len(self.start)} to start; left out: {others or 'none'}"


def scan(
    records: Iterable[Scanned],
    *,
    now: datetime,
    stale_after_seconds: Mapping[str, float],
    max_concurrency: int,
    in_flight: int = 0,
) -> Scan:
    """Decide what to start now: the oldest due records, as many as may run at once beside the `in_flight` ones.

    `stale_after_seconds` are the limits by tier. `in_flight` counts the runs that scans have started or asked for and that
    have not ended.
    """
    due: list[Due] = []
    left_out: list[LeftOut] = []
    for record in records:
        limit = stale_after_seconds.get(record.tier or "", STALE_AFTER_SECONDS)
        found = _judge(record, now, timedelta(seconds=limit))
        if isinstance(found, Due):
            due.append(found)
        else:
            left_out.append(found)
    due.sort(key=lambda each: each.place)
    room = max(0, max_concurrency - in_flight)
    busy = f"{in_flight} of {max_concurrency} run already" if in_flight else f"{max_concurrency} at once"
    waiting = [
        LeftOut(each.config_id, Omission.NO_ROOM, f"due ({each.detail}), but no more than {busy}")
        for each in due[room:]
    ]
    return Scan(now, tuple(due[:room]), (*waiting, *left_out))


def _judge(record: Scanned, now: datetime, limit: timedelta) -> Due | LeftOut:
    since, reason, detail = _due_time(record, now, limit)
    stale = reason is not Reason.STALE or since < now or _unknown(record.last_test, now)
    if record.test_status == RUNNING:
        if record.committing:
            sentence = "its result is decided and not yet published; `mlcc reap` does that"
            return LeftOut(record.config_id, Omission.COMMITTING, sentence)
        held = record.lease_until is not None and record.lease_until > now
        if held and record.owner_alive is not False:
            until = utc_text(record.lease_until or now)
            return LeftOut(record.config_id, Omission.RUNNING, f"runs at {record.owner}, lease until {until}")
        # A test that was cut off says nothing: what stood before it decides since when the record is due, so that it is the
        # same occasion before and after somebody has cleaned up.
        if not stale:
            since = record.lease_until or record.last_test or record.registered_at
        reason = Reason.OWNER_DEAD if held else Reason.LEASE_OVER
        detail = _said_of_lease(record, held)
    elif not stale:
        return LeftOut(record.config_id, Omission.FRESH, f"{detail}, due at {utc_text(since)}")
    if record.refusal is not None:
        return LeftOut(record.config_id, Omission.NOT_RUNNABLE, record.refusal)
    if record.requested is not None:
        return LeftOut(record.config_id, Omission.REQUESTED, record.requested)
    known = record.status != UNTESTED and record.last_test is not None
    place = (known, record.last_test or record.registered_at, record.config_id)
    return Due(record.config_id, reason, since, record.tier, detail, place)


def _due_time(record: Scanned, now: datetime, limit: timedelta) -> tuple[datetime, Reason, str]:
    """Return since or from when a record that nobody runs is due, why, and the sentence.

    Every test moves the time on, so that a round that is named after it is never one that is done.
    """
    tested = record.last_test
    if tested is None:
        if record.status == UNTESTED:
            return record.registered_at, Reason.UNTESTED, "never tested"
        return record.registered_at, Reason.STALE, f"{record.status}, and nobody knows since when"
    if record.status == UNTESTED and not record.tested_nothing:
        return tested, Reason.UNTESTED, f"registered anew after its test of {utc_text(tested)}"
    if _unknown(tested, now):
        return tested, Reason.STALE, f"its last test lies in the future ({utc_text(tested)})"
    said = "its last run, which tested nothing, ended" if record.tested_nothing else f"{record.status}, tested"
    return tested + limit, Reason.STALE, f"{said} at {utc_text(tested)}"


def _unknown(tested: datetime | None, now: datetime) -> bool:
    return tested is None or tested > now + _CLOCKS_APART


def _said_of_lease(record: Scanned, held: bool) -> str:
    if record.lease_until is None:
        return "it is said to be running, and nobody holds it"
    if held:
        return f"its owner {record.owner} is dead"
    return f"the lease of {record.owner} ran out at {utc_text(record.lease_until)}"
