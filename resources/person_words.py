"""What persons said of vectors: unfeasible, or no longer so.

Belongs here: keeping words for good and reading the latest of each vector. Not here: what a word does to a verdict
(`core.verdicts`).
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlcc_dagster.core.configuration import DIMENSIONS, Vector
from mlcc_dagster.core.result_columns import moment_of
from mlcc_dagster.core.verdicts import Say, Word
from resources.database import Database


@dataclass(frozen=True)
class PersonWords:
    """The words in a home's SQLite file. None is ever changed or removed: the latest of a vector counts."""

    path: Path

    def say(self, word: Word) -> None:
        """Keep a word. Raises `HomeError` where the file cannot be used."""
        with Database(self.path).writing() as connection:
            connection.execute(
                "INSERT INTO person_word (deployment_config, model_family, instance_family, quantization, tp_degree, "
                "deployment_target, say, reason, who, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*word.vector.values(), word.say.value, word.reason, word.who, word.at.astimezone(UTC).isoformat()),
            )

    def count(self) -> int:
        """Return how many words were ever said: what tells that there is a new one."""
        with Database(self.path).reading() as connection:
            return connection.execute("SELECT count(*) FROM person_word").fetchone()[0]

    def latest(self, *, until: datetime | None = None) -> tuple[Word, ...]:
        """Return the latest word of each vector, oldest first; with `until` only those said up to then."""
        with Database(self.path).reading() as connection:
            rows = connection.execute("SELECT * FROM person_word ORDER BY id").fetchall()
        found: dict[Vector, Word] = {}
        for row in rows:
            at = moment_of(row["at"])
            assert at is not None, "every word has its time"
            if until is None or at <= until:
                vector = Vector(*(row[name] for name in DIMENSIONS))
                found.pop(vector, None)
                found[vector] = Word(vector, Say(row["say"]), row["reason"], row["who"], at)
        return tuple(found.values())
