"""What persons said of measurements: a run to keep, a regression that is known, a configuration that is watched.

Belongs here: keeping words for good and reading those that hold. Not here: what a word does to a verdict
(`core.measured_baselines`, `core.regressions`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlcc_dagster.core.records import utc_text
from mlcc_dagster.core.regressions import Acknowledgement
from mlcc_dagster.core.result_columns import moment_of
from resources.database import Database

EVERY = "*"
"""The configuration of a word that is about all of them, also those to come."""


@dataclass(frozen=True)
class Blessing:
    """The run that later ones of a configuration are to keep. `at` in UTC."""

    config_id: str
    run_id: str
    reason: str
    who: str
    at: datetime


@dataclass(frozen=True)
class RegressionWords:
    """The words in a home's SQLite file. None is ever changed or removed: the latest of its kind counts."""

    path: Path

    def bless(self, blessing: Blessing) -> None:
        """Keep which run is a configuration's blessed one from now on. Raises `HomeError` where the file cannot be used."""
        self._say("bless", blessing.config_id, blessing.reason, blessing.who, blessing.at, run_id=blessing.run_id)

    def unbless(self, config_id: str, *, reason: str, who: str, at: datetime) -> None:
        """Keep that a configuration has no blessed run any more. Raises `HomeError` where the file cannot be used."""
        self._say("unbless", config_id, reason, who, at)

    def acknowledge(self, word: Acknowledgement) -> None:
        """Keep that regressions are known until a moment. Raises `HomeError` where the file cannot be used."""
        self._say("acknowledge", word.config_id, word.reason, word.who, word.at, metric=word.metric, until=word.until)

    def arm(self, config_id: str, armed: bool, *, reason: str, who: str, at: datetime) -> None:
        """Keep whether regressions of a configuration (`EVERY`: of all) count from now on. Raises `HomeError` where the file
        cannot be used."""
        self._say("arm" if armed else "disarm", config_id, reason, who, at)

    def count(self) -> int:
        """Return how many words were ever said: what tells that there is a new one."""
        with Database(self.path).reading() as connection:
            return connection.execute("SELECT count(*) FROM regression_word").fetchone()[0]

    def blessings(self) -> Mapping[str, Blessing]:
        """Return the blessed run of each configuration that has one."""
        found: dict[str, Blessing] = {}
        with Database(self.path).reading() as connection:
            rows = connection.execute(
                "SELECT * FROM regression_word WHERE say IN ('bless', 'unbless') ORDER BY id"
            ).fetchall()
        for row in rows:
            found.pop(row["config_id"], None)
            if row["say"] == "bless":
                said = Blessing(row["config_id"], row["run_id"], row["reason"], row["who"], _moment(row["at"]))
                found[said.config_id] = said
        return found

    def acknowledgements(self) -> tuple[Acknowledgement, ...]:
        """Return every acknowledgement, also those that are over, oldest first."""
        with Database(self.path).reading() as connection:
            rows = connection.execute("SELECT * FROM regression_word WHERE say = 'acknowledge' ORDER BY id").fetchall()
        return tuple(
            Acknowledgement(
                row["config_id"], row["metric"], _moment(row["until"]), row["reason"], row["who"], _moment(row["at"])
            )
            for row in rows
        )

    def armed(self, config_ids: Iterable[str]) -> Mapping[str, bool]:
        """Return whether regressions of each configuration count: by the latest word on it or on all, no without one."""
        with Database(self.path).reading() as connection:
            rows = connection.execute(
                "SELECT say, config_id FROM regression_word WHERE say IN ('arm', 'disarm') ORDER BY id"
            ).fetchall()
        found: dict[str, bool] = {}
        for config_id in config_ids:
            said = [row["say"] == "arm" for row in rows if row["config_id"] in (EVERY, config_id)]
            found[config_id] = bool(said) and said[-1]
        return found

    def _say(
        self,
        say: str,
        config_id: str,
        reason: str,
        who: str,
        at: datetime,
        *,
        metric: str | None = None,
        run_id: str | None = None,
        until: datetime | None = None,
    ) -> None:
        with Database(self.path).writing() as connection:
            connection.execute(
                "INSERT INTO regression_word (say, config_id, metric, run_id, until, reason, who, at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (say, config_id, metric, run_id, utc_text(until) if until else None, reason, who, utc_text(at)),
            )


def _moment(text: str) -> datetime:
    moment = moment_of(text)
    assert moment is not None, "every word has its time"
    return moment.astimezone(UTC)
