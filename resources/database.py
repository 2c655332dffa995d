"""The one SQLite file of a home: its schema, its version, and how it is opened.

Belongs here: table definitions and transactions. Not here: what any table means (`ci_table.py`, `rounds.py`,
`ledger.py`).

Several processes and their threads share the file: WAL lets readers go on while one writes; a writer takes the lock at
the start of its transaction (`BEGIN IMMEDIATE`), so that what it read cannot change before it writes. Connections live
for one call: none crosses a thread or a fork, and a killed process leaves nothing behind but a rolled-back transaction.
"""

import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from mlcc_dagster.core.exceptions import HomeError

SCHEMA_VERSION = 4

BUSY_SECONDS = 30.0
"""How long a call waits for another writer; every transaction here takes milliseconds."""

PERSON_WORD = """
    CREATE TABLE person_word (
      id INTEGER PRIMARY KEY AUTOINCREMENT,
      deployment_config TEXT NOT NULL,
      model_family TEXT NOT NULL,
      instance_family TEXT NOT NULL,
      quantization TEXT NOT NULL,
      tp_degree TEXT NOT NULL,
      deployment_target TEXT NOT NULL,
      say TEXT NOT NULL CHECK (say IN ('mark', 'lift')),
      reason TEXT NOT NULL,
      who TEXT NOT NULL,
      at TEXT NOT NULL
    ) STRICT
    """

BUDGET = """
    CREATE TABLE budget (
      name TEXT PRIMARY KEY,
      ceiling_micros INTEGER,
      created_at TEXT NOT NULL
    ) STRICT
    """

BUDGETS_OF_OLD = """
    INSERT INTO budget (name, created_at)
    SELECT budget, min(created_at) FROM reservation GROUP BY budget ORDER BY min(created_at)
    """

REGRESSION_WORD = """
    CREATE TABLE regression_word (
      id INTEGER PRIMARY KEY AUTOINCREMENT,
      say TEXT NOT NULL CHECK (say IN ('bless', 'unbless', 'acknowledge', 'arm', 'disarm')),
      config_id TEXT NOT NULL,
      metric TEXT,
      run_id TEXT,
      until TEXT,
      reason TEXT NOT NULL,
      who TEXT NOT NULL,
      at TEXT NOT NULL
    ) STRICT
    """

MIGRATIONS: Mapping[int, tuple[str, ...]] = MappingProxyType(
    {1: (PERSON_WORD,), 2: (BUDGET, BUDGETS_OF_OLD), 3: (REGRESSION_WORD,)}
)
"""What brings the tables of a version to the next one, so that a home of an older version goes on as it is."""

SCHEMA: tuple[str, ...] = (
    """
    CREATE TABLE ci_record (
      config_id TEXT PRIMARY KEY,
      schema_version INTEGER NOT NULL,
      configuration TEXT NOT NULL,
      test_status TEXT NOT NULL,
      previous_test_status TEXT,
      last_test_timestamp TEXT,
      last_test_duration_seconds REAL,
      tier TEXT,
      e2e_catalog_id TEXT,
      build_strategy TEXT NOT NULL,
      benchmark_enabled INTEGER NOT NULL,
      benchmark_workload TEXT NOT NULL,
      benchmark_concurrency_levels TEXT NOT NULL,
      stage_results TEXT NOT NULL,
      error_message TEXT,
      last_benchmark_run_id TEXT,
      last_benchmark_timestamp TEXT,
      last_benchmark_status TEXT,
      image TEXT,
      project_name TEXT,
      generation INTEGER NOT NULL,
      lease_owner TEXT,
      lease_until REAL,
      created_at TEXT NOT NULL
    ) STRICT
    """,
    "CREATE INDEX ci_record_by_status ON ci_record (test_status, last_test_timestamp)",
    """
    CREATE TABLE test_history (
      run_id TEXT PRIMARY KEY,
      config_id TEXT NOT NULL REFERENCES ci_record (config_id),
      generation INTEGER NOT NULL,
      round TEXT NOT NULL,
      run_type TEXT NOT NULL,
      tier TEXT,
      owner TEXT NOT NULL,
      state TEXT NOT NULL CHECK (state IN ('running', 'committing', 'finished', 'interrupted')),
      status TEXT,
      test_status TEXT,
      run_status TEXT,
      stages TEXT NOT NULL DEFAULT '{}',
      reason TEXT,
      started_at TEXT NOT NULL,
      ended_at TEXT,
      seconds REAL,
      cost_usd REAL,
      failure_category TEXT,
      failure_retryable INTEGER,
      retry_due TEXT,
      payload TEXT,
      taken_over INTEGER NOT NULL DEFAULT 0,
      UNIQUE (config_id, generation)
    ) STRICT
    """,
    "CREATE INDEX test_history_by_round ON test_history (config_id, round)",
    "CREATE INDEX test_history_by_state ON test_history (state) WHERE state <> 'finished'",
    """
    CREATE TABLE round (
      id TEXT PRIMARY KEY,
      scope TEXT NOT NULL,
      opened REAL NOT NULL,
      closed REAL
    ) STRICT
    """,
    "CREATE UNIQUE INDEX round_open ON round (scope) WHERE closed IS NULL",
    """
    CREATE TABLE round_member (
      round_id TEXT NOT NULL REFERENCES round (id),
      position INTEGER NOT NULL,
      config_id TEXT NOT NULL,
      PRIMARY KEY (round_id, config_id)
    ) STRICT
    """,
    """
    CREATE TABLE resource (
      id INTEGER PRIMARY KEY AUTOINCREMENT,
      run_id TEXT NOT NULL,
      kind TEXT NOT NULL,
      ref TEXT NOT NULL,
      state TEXT NOT NULL CHECK (state IN ('intended', 'alive', 'released')),
      details TEXT NOT NULL,
      deadline REAL NOT NULL,
      created_at TEXT NOT NULL,
      released_at TEXT,
      how TEXT
    ) STRICT
    """,
    "CREATE INDEX resource_by_run ON resource (run_id)",
    "CREATE INDEX resource_living ON resource (run_id) WHERE state <> 'released'",
    """
    CREATE TABLE slot (
      pool TEXT NOT NULL,
      run_id TEXT NOT NULL,
      acquired_at TEXT NOT NULL,
      lease_until REAL NOT NULL,
      PRIMARY KEY (pool, run_id)
    ) STRICT
    """,
    """
    CREATE TABLE reservation (
      run_key TEXT PRIMARY KEY,
      budget TEXT NOT NULL,
      run_id TEXT UNIQUE,
      state TEXT NOT NULL CHECK (state IN ('reserved', 'active', 'settled', 'released')),
      promised_micros INTEGER NOT NULL,
      spent_micros INTEGER NOT NULL DEFAULT 0,
      overrun_micros INTEGER NOT NULL DEFAULT 0,
      deadline REAL NOT NULL,
      created_at TEXT NOT NULL,
      ended_at TEXT
    ) STRICT
    """,
    "CREATE INDEX reservation_by_budget ON reservation (budget, state)",
    PERSON_WORD,
    BUDGET,
    REGRESSION_WORD,
)
"""Money is whole micro-dollars, so that sums are exact; `lease_until`, `deadline`, `opened` are Unix seconds."""

_UNUSABLE = {
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
    sqlite3.SQLITE_NOTADB: "it is not an SQLite file",
    sqlite3.SQLITE_CORRUPT: "it is damaged",
    sqlite3.SQLITE_READONLY: "it is not writable",
    sqlite3.SQLITE_PERM: "access is not permitted",
    sqlite3.SQLITE_FULL: "the disk is full",
}


@dataclass(frozen=True)
class Database:
    """The file at `path`; making the value touches nothing, the first transaction makes file and tables."""

    path: Path

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One consistent snapshot for the block; rows are `sqlite3.Row`.

        Raises `HomeError` where the file cannot be used, `sqlite3.OperationalError` where it stayed locked.
        """
        with self._transaction("BEGIN DEFERRED") as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One writer transaction for the block: committed (and on the disk) when it ends, undone when it raises.

        Raises `HomeError` where the file cannot be used, `sqlite3.OperationalError` where it stayed locked.
        """
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        try:
            with closing(self._connect()) as connection:
                connection.execute(begin)
                try:
                    yield connection
                    connection.execute("COMMIT")
                finally:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
        except sqlite3.DatabaseError as error:
            # extended codes carry the primary one in their low byte
            why = _UNUSABLE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
            if why is None:
                raise
            raise HomeError(f"cannot use {self.path} ({why}: {error}); repair it or set MLCC_HOME elsewhere") from error

    def _connect(self) -> sqlite3.Connection:
        if not self.path.parent.exists():
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise HomeError(
                    f"cannot make {self.path.parent} ({error.strerror}); set MLCC_HOME to a folder you can write to"
                ) from error
        connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            connection.row_factory = sqlite3.Row
            # FULL: money that was promised must still be promised after a power cut
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            version, tables = _identity(connection)
            if version != SCHEMA_VERSION:
                self._refuse_foreign(version, tables)
                _turn_on_wal(connection)
                self._make_tables(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _refuse_foreign(self, version: int, tables: int) -> None:
        if version > SCHEMA_VERSION:
            raise HomeError(
                f"{self.path} was written by a newer version (schema {version}, this one knows {SCHEMA_VERSION}); "
                "update mlcc-dagster or set MLCC_HOME to another folder"
            )
        if tables and version not in MIGRATIONS:
            raise HomeError(
                f"{self.path} holds tables that are not this platform's; "
                "move it away or set MLCC_HOME to another folder"
            )

    def _make_tables(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            version, tables = _identity(connection)
            if version != SCHEMA_VERSION:  # else another process made them while this one waited
                self._refuse_foreign(version, tables)
                for statement in SCHEMA if not tables else _steps_from(version):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


def _steps_from(version: int) -> Iterator[str]:
    return (statement for step in range(version, SCHEMA_VERSION) for statement in MIGRATIONS[step])


def _identity(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return schema version and number of tables, read in one statement and so of one snapshot."""
    row = connection.execute(
        "SELECT (SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_master)"
    ).fetchone()
    return row[0], row[1]


def _turn_on_wal(connection: sqlite3.Connection) -> None:
    """Turn the journal to WAL. SQLite does not wait for other openers here as it does elsewhere, so this does."""
    give_up = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            locked = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            if not locked or time.monotonic() > give_up:
                raise
            time.sleep(0.01)
