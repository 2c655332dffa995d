"""A person's words are kept for good; the latest of a vector counts, and the past can be asked."""

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mlcc_dagster.core.configuration import Vector
from mlcc_dagster.core.verdicts import Say, Word
from resources.database import MIGRATIONS, SCHEMA, SCHEMA_VERSION, Database
from resources.person_words import PersonWords

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
A = Vector("a", "qwen3", "g5", "none", "1", "realtime-inference")
B = Vector("b", "qwen3", "g5", "none", "1", "realtime-inference")


def test_the_latest_word_of_each_vector_counts(tmp_path: Path) -> None:
    words = PersonWords(tmp_path / "state.sqlite")
    assert words.latest() == ()
    marked = Word(A, Say.MARK, "driver", "ann", NOW)
    other = Word(B, Say.MARK, "quota", "bob", NOW)
    lifted = Word(A, Say.LIFT, "new driver", "bob", NOW + timedelta(hours=1))
    for word in (marked, other, lifted):
        words.say(word)
    assert words.latest() == (other, lifted)
    assert words.latest(until=NOW) == (marked, other)


def test_a_home_of_the_first_version_gains_the_table_and_keeps_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    later = {statement for step in MIGRATIONS.values() for statement in step}
    with sqlite3.connect(path) as connection:
        for statement in SCHEMA:
            if statement not in later:
                connection.execute(statement)
        connection.execute("INSERT INTO round (id, scope, opened) VALUES ('r', 's', 0)")
        connection.execute("PRAGMA user_version = 1")
    PersonWords(path).say(Word(A, Say.MARK, "driver", "ann", NOW))
    with Database(path).reading() as connection:
        assert connection.execute("SELECT id FROM round").fetchone()[0] == "r"
        assert connection.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION
    assert len(PersonWords(path).latest()) == 1
