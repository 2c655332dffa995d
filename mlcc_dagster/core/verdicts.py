"""When a verdict stops to hold: what it depended on changed, or a person said so.

Belongs here: comparing recorded digests with today's, and a person's words on vectors. Not here: what rows say
(`standing.py`), collecting today's digests (executors), keeping words (`resources.person_words`).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from mlcc_dagster.core.configuration import DIMENSIONS, Vector
from mlcc_dagster.core.standing import Expiry, Failure, Findings, Standing, Status

CONSTRAINT = "constraint"
"""The digest of a preflight verdict: `<id>@<version>` of the constraint that refuted."""


CONFIGURATION = "configuration"
"""The other digest of a preflight verdict: the config_id that was refuted. Its vector may mean another one today."""


class Say(StrEnum):
    """What a person can say of a vector."""

    MARK = "mark"
    LIFT = "lift"


@dataclass(frozen=True)
class Word:
    """A person's word on a vector: it is unfeasible (`mark`), or what was said and found until now no longer holds
    (`lift`). `at` in UTC."""

    vector: Vector
    say: Say
    reason: str
    who: str
    at: datetime


Today = Callable[[Vector], Mapping[str, str]]
"""Today's digests of what a run of a vector would depend on, by the names that evidence uses, as far as they are known
without running."""


def changes(recorded: Mapping[str, str], today: Mapping[str, str], constraints: Mapping[str, int]) -> tuple[str, ...]:
    """Return a clause per recorded digest that is another one today; what is not known today has not changed.

    `constraints`: the versions of the catalog's constraints by id. A constraint that is gone has changed.
    """
    found = []
    for name, value in sorted(recorded.items()):
        if name == CONSTRAINT:
            constraint = value.rpartition("@")[0]
            now = f"{constraint}@{constraints[constraint]}" if constraint in constraints else "gone"
        else:
            now = today.get(name, value)
        if now != value:
            found.append(f"{name} changed from {_short(value)} to {_short(now)}")
    return tuple(found)


def expired(failure: Failure, today: Mapping[str, str], constraints: Mapping[str, int]) -> str | None:
    """Say why an unfeasible verdict no longer holds, none while it does. A `failed` one never expires: it is retried."""
    if failure.status != "unfeasible":
        return None
    return "; ".join(changes(failure.digests, today, constraints)) or None


def expiries(
    findings: Mapping[Vector, Findings], words: Iterable[Word], today: Today, constraints: Mapping[str, int]
) -> dict[Vector, Expiry]:
    """Return the end of verdicts per vector: the latest of a person's lifting and a change of what the newest verdict
    depended on. Exactly the verdicts whose recorded digests changed end; a newer failure counts anew."""
    ends = {word.vector: Expiry(word.at, _lifted(word)) for word in words if word.say is Say.LIFT}
    for vector, found in findings.items():
        if found.proven or not found.failures:
            continue
        newest = found.failures[-1]
        why = expired(newest, today(vector), constraints) if newest.at is not None else None
        if why is not None and newest.at is not None and (vector not in ends or ends[vector].at < newest.at):
            ends[vector] = Expiry(newest.at, why)
    return ends


def marks(words: Iterable[Word]) -> dict[Vector, str]:
    """Return the vectors whose latest word is a mark, with its reason and who gave it."""
    return {word.vector: f"{word.reason} ({word.who})" for word in words if word.say is Say.MARK}


@dataclass(frozen=True)
class Verdict:
    """That a vector is unfeasible: `live` while it holds, else `why` says what ended it too. `since` is none where its
    row has no time."""

    vector: Vector
    live: bool
    why: str
    since: datetime | None

    def to_json(self) -> dict[str, object]:
        """Return the verdict as JSON values."""
        since = self.since.isoformat(timespec="seconds") if self.since is not None else None
        values = dict(zip(DIMENSIONS, self.vector.values(), strict=True))
        return {"vector": str(self.vector), **values, "live": self.live, "why": self.why, "since": since}


def verdicts(standing: Standing, words: Iterable[Word]) -> list[Verdict]:
    """Return every unfeasible verdict on an unproven vector, live ones first, newest first within; one per vector."""
    marked = {word.vector: word for word in words if word.say is Say.MARK}
    found = [
        Verdict(vector, True, f"marked: {standing.marks[vector]}", word.at)
        for vector, word in marked.items()
        if standing.status(vector) is Status.UNFEASIBLE
    ]
    for vector, findings in standing.evidence.items():
        newest = next((each for each in reversed(findings.failures) if each.status == "unfeasible"), None)
        if findings.proven or vector in marked or newest is None:
            continue
        live = standing.status(vector) is Status.UNFEASIBLE
        expiry = standing.expiries.get(vector)
        if not live and expiry is None:
            continue  # a later try failed in a way that is retried
        ended = f"; {expiry.why}" if expiry is not None and not live else ""
        found.append(Verdict(vector, live, f"{newest}{ended}", newest.at))
    found += [
        Verdict(word.vector, False, _lifted(word), word.at)
        for word in words
        if word.say is Say.LIFT and word.vector not in standing.evidence
    ]
    floor = datetime.min.replace(tzinfo=UTC)
    return sorted(found, key=lambda each: (each.live, each.since or floor), reverse=True)


def _lifted(word: Word) -> str:
    return f"lifted by {word.who}: {word.reason}"


def _short(value: str) -> str:
    return value[:26] + "…" if len(value) > 27 else value
