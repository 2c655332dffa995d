"""The ledger: what exists outside (resources), who may deploy (slots), what money is promised (reservations).

Belongs here: the three books and their conditional writes. Not here: creating or ending anything (executors,
`reaper.py`), the arithmetic of money (`core.budget`), who runs what (`ci_table.py`).

A resource is written down before it is made, so that a crash at any moment leaves a line to find it by; whoever
releases it first has released it, and everybody else is told so.
"""

import json
import math
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mlcc_dagster.core.budget import (
    Budget,
    Reservation,
    Totals,
    charge,
    fits,
    micros_ceiling,
    micros_promised,
    usd_of,
)
from mlcc_dagster.core.exceptions import LeaseLost, UsageError
from mlcc_dagster.core.records import utc_text
from resources.database import Database


@dataclass(frozen=True)
class Resource:
    """Something outside that a run makes: a process, workspace, endpoint, image tag. `state` is intended (may exist),
    alive (exists) or released (ended, `how` says by what); `deadline` in Unix seconds; `details` are JSON values."""

    id: int
    run_id: str
    kind: str
    ref: str
    state: str
    details: Mapping[str, Any]
    deadline: float
    created_at: str
    released_at: str | None
    how: str | None


@dataclass(frozen=True)
class Slot:
    """A place in a pool of deployments that a run holds until `lease_until` (Unix seconds)."""

    pool: str
    run_id: str
    acquired_at: str
    lease_until: float


class Ledger:
    """The ledger in a home's SQLite file. `clock` gives Unix seconds."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._database = Database(path)
        self._clock = clock

    def intend(self, *, run_id: str, kind: str, ref: str, deadline_seconds: float) -> int:
        """Write down that a resource is about to be made and return its id; call it before making anything.

        `ref` is what it can be found by (path, name, pid once known); after `deadline_seconds` a reaper may end it.
        """
        with self._database.writing() as connection:
            now = self._clock()
            cursor = connection.execute(
                """
                INSERT INTO resource (run_id, kind, ref, state, details, deadline, created_at)
                VALUES (?, ?, ?, 'intended', '{}', ?, ?)
                """,
                (run_id, kind, ref, now + deadline_seconds, _text(now)),
            )
            return int(cursor.lastrowid or 0)

    def confirm(self, resource_id: int, details: Mapping[str, Any]) -> None:
        """Note that an intended resource exists now; `details` are added to those it has.

        Raises `LeaseLost` when a reaper released it meanwhile: then end at once what was made. Raises `UsageError` for
        an unknown id.
        """
        with self._database.writing() as connection:
            row = connection.execute("SELECT * FROM resource WHERE id = ?", (resource_id,)).fetchone()
            if row is None:
                raise UsageError(f"the ledger has no resource {resource_id}; write its intent first")
            if row["state"] == "released":
                raise LeaseLost(
                    f"{row['kind']} {row['ref']} of {row['run_id']} was released already ({row['how']}); end it"
                )
            merged = json.loads(row["details"]) | dict(details)
            connection.execute(
                "UPDATE resource SET state = 'alive', details = ? WHERE id = ? AND state <> 'released'",
                (json.dumps(merged), resource_id),
            )

    def release(self, resource_id: int, how: str) -> bool:
        """Note that a resource is gone and by what; true for the one call that released it, false for later ones."""
        with self._database.writing() as connection:
            changed = connection.execute(
                "UPDATE resource SET state = 'released', released_at = ?, how = ? WHERE id = ? AND state <> 'released'",
                (_text(self._clock()), how, resource_id),
            )
            return changed.rowcount == 1

    def prolong(self, run_id: str, seconds: float) -> None:
        """Let no living resource of a run be due before `seconds` from now; deadlines that are later stay."""
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE resource SET deadline = max(deadline, ?) WHERE run_id = ? AND state <> 'released'",
                (self._clock() + seconds, run_id),
            )

    def put_off(self, run_id: str, seconds: float) -> None:
        """Let every living resource of a run be due `seconds` from now, whatever was its deadline before."""
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE resource SET deadline = ? WHERE run_id = ? AND state <> 'released'",
                (self._clock() + seconds, run_id),
            )

    def alive(self, run_id: str | None = None) -> list[Resource]:
        """Return what exists or may exist (intended and alive), oldest first, of one run where given."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT * FROM resource WHERE state <> 'released' AND (:run IS NULL OR run_id = :run) ORDER BY id",
                {"run": run_id},
            )
            return [_resource(row) for row in rows]

    def history(self, run_id: str | None = None, *, limit: int | None = None) -> list[Resource]:
        """Return resources of every state, newest first, of one run where given."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT * FROM resource WHERE :run IS NULL OR run_id = :run ORDER BY id DESC LIMIT :limit",
                {"run": run_id, "limit": -1 if limit is None else limit},
            )
            return [_resource(row) for row in rows]

    def acquire_slot(self, pool: str, run_id: str, *, capacity: int, lease_seconds: float) -> bool:
        """Take a place in a pool of `capacity`, or renew the run's own; false when all are taken.

        A lease that ran out is no place taken.
        """
        with self._database.writing() as connection:
            now = self._clock()
            connection.execute(
                "DELETE FROM slot WHERE pool = ? AND run_id <> ? AND lease_until <= ?", (pool, run_id, now)
            )
            others = connection.execute(
                "SELECT count(*) FROM slot WHERE pool = ? AND run_id <> ?", (pool, run_id)
            ).fetchone()[0]
            if others >= capacity:
                return False
            connection.execute(
                """
                INSERT INTO slot (pool, run_id, acquired_at, lease_until) VALUES (?, ?, ?, ?)
                ON CONFLICT (pool, run_id) DO UPDATE SET lease_until = excluded.lease_until
                """,
                (pool, run_id, _text(now), now + lease_seconds),
            )
            return True

    def beat_slots(self, run_id: str, lease_seconds: float) -> tuple[str, ...]:
        """Let the run's slots last `lease_seconds` from now and return the pools it still holds one of."""
        with self._database.writing() as connection:
            rows = connection.execute(
                "UPDATE slot SET lease_until = ? WHERE run_id = ? RETURNING pool",
                (self._clock() + lease_seconds, run_id),
            )
            return tuple(sorted(row["pool"] for row in rows.fetchall()))

    def release_slots(self, run_id: str) -> tuple[str, ...]:
        """Give back the run's slots and return the pools they were of."""
        with self._database.writing() as connection:
            rows = connection.execute("DELETE FROM slot WHERE run_id = ? RETURNING pool", (run_id,))
            return tuple(sorted(row["pool"] for row in rows.fetchall()))

    def slots(self, pool: str | None = None) -> list[Slot]:
        """Return the slots that are held, oldest first; their leases may be over."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT * FROM slot WHERE :pool IS NULL OR pool = :pool ORDER BY acquired_at, rowid", {"pool": pool}
            )
            return [Slot(row["pool"], row["run_id"], row["acquired_at"], row["lease_until"]) for row in rows]

    def reserve(
        self,
        budget: str,
        run_key: str,
        usd: float,
        *,
        ceiling_usd: float,
        deadline_seconds: float,
        max_runs: int | None = None,
    ) -> bool:
        """Promise `usd` of a budget to a run to be started; false when that would pass the ceiling or, with `max_runs`,
        when the budget already has that many runs promised, active or settled.

        The ceiling is kept with the budget, and the lowest that anybody named counts for all from then on: of two that
        share a budget and disagree, neither may pass the lower one. Asked again for a living promise it is the same promise,
        with its first amount. A released one may be promised anew; a settled key is spent (false). Raises `UsageError` for
        amounts that are none, a deadline that is no time to come, and a key of another budget.
        """
        amount, ceiling = micros_promised(usd), micros_ceiling(ceiling_usd)
        if not 0 <= deadline_seconds < math.inf:
            raise UsageError(
                f"{deadline_seconds} is no deadline; give the seconds until then as a number of at least 0"
            )
        with self._database.writing() as connection:
            now = self._clock()
            row = _reservation_row(connection, run_key)
            if row is not None and row["budget"] != budget:
                raise UsageError(f"'{run_key}' is promised from budget '{row['budget']}'; use another run key")
            ceiling = _lowest_ceiling(connection, budget, ceiling, now)
            if row is not None and row["state"] != "released":
                return row["state"] != "settled"
            sums = _sums(connection, budget)
            committed = sums["reserved"] + sums["active"] + sums["spent"]
            if not fits(committed=committed, overrun=sums["overrun"], amount=amount, ceiling=ceiling):
                return False
            if max_runs is not None and sums["runs"] >= max_runs:
                return False
            connection.execute(
                """
                INSERT INTO reservation (run_key, budget, state, promised_micros, deadline, created_at)
                VALUES (?, ?, 'reserved', ?, ?, ?)
                ON CONFLICT (run_key) DO UPDATE SET state = 'reserved', promised_micros = excluded.promised_micros,
                  deadline = excluded.deadline, ended_at = NULL
                """,
                (run_key, budget, amount, now + deadline_seconds, _text(now)),
            )
            return True

    def activate(self, run_key: str, run_id: str) -> bool:
        """Bind a promise to the run that began; false when it was released, ran out, is another run's or unknown: then
        the run has no money and must end."""
        with self._database.writing() as connection:
            changed = connection.execute(
                """
                UPDATE reservation SET state = 'active', run_id = :run
                WHERE run_key = :key
                  AND ((state = 'reserved' AND deadline > :now) OR (state = 'active' AND run_id = :run))
                  AND NOT EXISTS (SELECT 1 FROM reservation WHERE run_id = :run AND run_key <> :key)
                """,
                {"run": run_id, "key": run_key, "now": self._clock()},
            )
            return changed.rowcount == 1

    def settle(self, run_key_or_id: str, usd: float) -> bool:
        """Charge what a run really used and give back the rest of its promise; false when there is nothing to settle
        (settled or released before, or never promised).

        What goes beyond the promise is kept apart as overrun (see `core.budget.charge`). Raises `UsageError` for an
        amount that is none.
        """
        used = micros_promised(usd)
        with self._database.writing() as connection:
            row = connection.execute(
                """
                SELECT * FROM reservation WHERE (run_key = :key OR run_id = :key) AND state IN ('reserved', 'active')
                """,
                {"key": run_key_or_id},
            ).fetchone()
            if row is None:
                return False
            spent, overrun = charge(promised=row["promised_micros"], used=used)
            connection.execute(
                """
                UPDATE reservation SET state = 'settled', spent_micros = ?, overrun_micros = ?, ended_at = ?
                WHERE run_key = ?
                """,
                (spent, overrun, _text(self._clock()), row["run_key"]),
            )
            return True

    def release_overdue(self, now: float | None = None) -> tuple[str, ...]:
        """Release the promises whose run did not start before their deadline and return their run keys."""
        with self._database.writing() as connection:
            moment = self._clock() if now is None else now
            rows = connection.execute(
                """
                UPDATE reservation SET state = 'released', ended_at = ? WHERE state = 'reserved' AND deadline <= ?
                RETURNING run_key
                """,
                (_text(moment), moment),
            )
            return tuple(sorted(row["run_key"] for row in rows.fetchall()))

    def reservation(self, run_key_or_id: str) -> Reservation | None:
        """Return the promise of a run key or run id, none where there is none."""
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT * FROM reservation WHERE run_key = :key OR run_id = :key", {"key": run_key_or_id}
            ).fetchone()
            return None if row is None else _reservation(row)

    def reservations(self, *, state: str | None = None) -> list[Reservation]:
        """Return the promises, oldest first, of one state where given."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT * FROM reservation WHERE :state IS NULL OR state = :state ORDER BY rowid", {"state": state}
            )
            return [_reservation(row) for row in rows]

    def living(self, budget: str | None = None) -> list[Reservation]:
        """Return the promises that hold money now (reserved or active), oldest first, of one budget where given."""
        with self._database.reading() as connection:
            rows = connection.execute(
                """
                SELECT * FROM reservation
                WHERE state IN ('reserved', 'active') AND (:budget IS NULL OR budget = :budget) ORDER BY rowid
                """,
                {"budget": budget},
            )
            return [_reservation(row) for row in rows]

    def give_back(self, run_key: str) -> bool:
        """Release a promise whose run will not begin; false where it has begun, is over or was never made."""
        with self._database.writing() as connection:
            changed = connection.execute(
                "UPDATE reservation SET state = 'released', ended_at = ? WHERE run_key = ? AND state = 'reserved'",
                (_text(self._clock()), run_key),
            )
            return changed.rowcount == 1

    def totals(self, budget: str) -> Totals:
        """Return the sums of a budget; all zero for one that was never used."""
        with self._database.reading() as connection:
            return _totals(_sums(connection, budget))

    def budgets(self) -> list[Budget]:
        """Return every budget that anything was ever asked of, newest first, all of one moment."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT * FROM budget ORDER BY rowid DESC").fetchall()
            return [_budget(row, _totals(_sums(connection, row["name"]))) for row in rows]


def _lowest_ceiling(connection: sqlite3.Connection, budget: str, ceiling: int, now: float) -> int:
    """Keep a ceiling that somebody named, in micro-dollars, and return the lowest so far."""
    row = connection.execute(
        """
        INSERT INTO budget (name, ceiling_micros, created_at) VALUES (?, ?, ?)
        ON CONFLICT (name) DO UPDATE
          SET ceiling_micros = min(coalesce(ceiling_micros, excluded.ceiling_micros), excluded.ceiling_micros)
        RETURNING ceiling_micros
        """,
        (budget, ceiling, _text(now)),
    ).fetchone()
    return int(row["ceiling_micros"])


def _sums(connection: sqlite3.Connection, budget: str) -> dict[str, int]:
    row = connection.execute(
        """
        SELECT coalesce(sum(promised_micros) FILTER (WHERE state = 'reserved'), 0) AS reserved,
               coalesce(sum(promised_micros) FILTER (WHERE state = 'active'), 0) AS active,
               coalesce(sum(spent_micros), 0) AS spent,
               coalesce(sum(overrun_micros), 0) AS overrun,
               count(*) FILTER (WHERE state <> 'released') AS runs
        FROM reservation WHERE budget = ?
        """,
        (budget,),
    ).fetchone()
    return dict(row)


def _totals(sums: Mapping[str, int]) -> Totals:
    return Totals(
        reserved_usd=usd_of(sums["reserved"]),
        active_usd=usd_of(sums["active"]),
        spent_usd=usd_of(sums["spent"]),
        overrun_usd=usd_of(sums["overrun"]),
        runs=sums["runs"],
    )


def _budget(row: sqlite3.Row, totals: Totals) -> Budget:
    ceiling = row["ceiling_micros"]
    return Budget(row["name"], None if ceiling is None else usd_of(ceiling), totals, row["created_at"])


def _reservation_row(connection: sqlite3.Connection, run_key: str) -> Any:
    return connection.execute("SELECT * FROM reservation WHERE run_key = ?", (run_key,)).fetchone()


def _reservation(row: sqlite3.Row) -> Reservation:
    return Reservation(
        run_key=row["run_key"],
        budget=row["budget"],
        run_id=row["run_id"],
        state=row["state"],
        usd=usd_of(row["promised_micros"]),
        spent_usd=usd_of(row["spent_micros"]),
        overrun_usd=usd_of(row["overrun_micros"]),
        deadline=row["deadline"],
    )


def _resource(row: sqlite3.Row) -> Resource:
    return Resource(
        id=row["id"],
        run_id=row["run_id"],
        kind=row["kind"],
        ref=row["ref"],
        state=row["state"],
        details=MappingProxyType(json.loads(row["details"])),
        deadline=row["deadline"],
        created_at=row["created_at"],
        released_at=row["released_at"],
        how=row["how"],
    )


def _text(moment: float) -> str:
    return utc_text(datetime.fromtimestamp(moment, UTC))
