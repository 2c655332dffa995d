"""Rounds: the occasions on which configurations are run, so that several askers share one answer.

Belongs here: opening, joining and closing rounds and who is left in one. Not here: what a run in a round may do (the
claim in `ci_table.py` refuses a second committed attempt of a configuration in one round).
"""

import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.records import utc_text
from resources.database import Database


@dataclass(frozen=True)
class Round:
    """One occasion. `id` is `<scope>@<UTC time>`; `opened_at` ISO 8601 UTC text; `joined` whether it was open
    before."""

    id: str
    opened_at: str
    joined: bool


class Rounds:
    """The rounds in a home's SQLite file. A scope (a tier's name, or `config:<id>`) has at most one open round.
    `clock` gives Unix seconds."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._database = Database(path)
        self._clock = clock

    def join(self, scope: str, members: Sequence[str], *, open_seconds: float) -> Round:
        """Join the open round of a scope, or open a fresh one; of several askers at once all get the same.

        A round is over when every member has a finished attempt in it, and is not joined any more when it is older than
        `open_seconds`. Members that a joined round does not have yet are added. Raises `UsageError` without members.
        """
        _refuse_empty(scope, members)
        with self._database.writing() as connection:
            now = self._clock()
            row = connection.execute("SELECT * FROM round WHERE scope = ? AND closed IS NULL", (scope,)).fetchone()
            if row is not None and row["opened"] + open_seconds > now and _remaining(connection, row["id"]):
                _add_members(connection, row["id"], members)
                return _round(row, joined=True)
            return _open(connection, scope, members, now)

    def open(self, scope: str, members: Sequence[str], *, at: datetime) -> Round:
        """Open the round of a schedule's tick, the same one however often it is asked for; an older open one is closed.

        Raises `UsageError` without members.
        """
        _refuse_empty(scope, members)
        with self._database.writing() as connection:
            moment = at.timestamp()
            row = connection.execute("SELECT * FROM round WHERE id = ?", (_id(scope, moment),)).fetchone()
            return _round(row, joined=True) if row is not None else _open(connection, scope, members, moment)

    def progress(self, round_id: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the members with a finished attempt in the round, and the others, each in the order they were named.

        Raises `UsageError` for an unknown round.
        """
        with self._database.reading() as connection:
            if connection.execute("SELECT 1 FROM round WHERE id = ?", (round_id,)).fetchone() is None:
                raise UsageError(f"no round '{round_id}' was opened here; name one that a command or schedule printed")
            remaining = _remaining(connection, round_id)
            members = connection.execute(
                "SELECT config_id FROM round_member WHERE round_id = ? ORDER BY position", (round_id,)
            )
            return tuple(m["config_id"] for m in members if m["config_id"] not in remaining), remaining


def _refuse_empty(scope: str, members: Sequence[str]) -> None:
    if not members:
        raise UsageError(f"a round of '{scope}' needs at least one configuration; see `mlcc catalog list`")


def _remaining(connection: sqlite3.Connection, round_id: str) -> tuple[str, ...]:
    rows = connection.execute(
        """
        SELECT member.config_id FROM round_member AS member
        WHERE member.round_id = :round AND NOT EXISTS (
          SELECT 1 FROM test_history AS attempt
          WHERE attempt.config_id = member.config_id AND attempt.round = :round AND attempt.state = 'finished'
        )
        ORDER BY member.position
        """,
        {"round": round_id},
    )
    return tuple(row["config_id"] for row in rows)


def _open(connection: sqlite3.Connection, scope: str, members: Sequence[str], moment: float) -> Round:
    connection.execute("UPDATE round SET closed = ? WHERE scope = ? AND closed IS NULL", (moment, scope))
    plain, number = _id(scope, moment), 1
    round_id = plain
    while connection.execute("SELECT 1 FROM round WHERE id = ?", (round_id,)).fetchone() is not None:
        number += 1
        round_id = f"{plain}.{number}"
    connection.execute("INSERT INTO round (id, scope, opened) VALUES (?, ?, ?)", (round_id, scope, moment))
    _add_members(connection, round_id, members)
    return Round(id=round_id, opened_at=_text(moment), joined=False)


def _add_members(connection: sqlite3.Connection, round_id: str, members: Sequence[str]) -> None:
    start = connection.execute("SELECT count(*) FROM round_member WHERE round_id = ?", (round_id,)).fetchone()[0]
    connection.executemany(
        "INSERT INTO round_member (round_id, position, config_id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        [(round_id, start + offset, member) for offset, member in enumerate(members)],
    )


def _round(row: sqlite3.Row, *, joined: bool) -> Round:
    return Round(id=row["id"], opened_at=_text(row["opened"]), joined=joined)


def _id(scope: str, moment: float) -> str:
    return f"{scope}@{datetime.fromtimestamp(moment, UTC):%Y%m%dT%H%M%SZ}"


def _text(moment: float) -> str:
    return utc_text(datetime.fromtimestamp(moment, UTC))
