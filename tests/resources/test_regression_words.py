"""A person's words on measurements are kept for good; the latest of its kind holds."""

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mlcc_dagster.core.regressions import Acknowledgement
from resources.database import MIGRATIONS, SCHEMA, SCHEMA_VERSION, Database
from resources.regression_words import EVERY, Blessing, RegressionWords

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


def words_in(folder: Path) -> RegressionWords:
    return RegressionWords(folder / "state.sqlite")


def test_the_latest_blessing_of_a_configuration_holds_until_it_is_taken_back(tmp_path: Path) -> None:
    words = words_in(tmp_path)
    assert words.blessings() == {}
    first, second = Blessing("a", "a-g1", "release", "ann", NOW), Blessing("b", "b-g1", "release", "bob", NOW)
    later = Blessing("a", "a-g7", "better", "bob", NOW + timedelta(days=1))
    for each in (first, second, later):
        words.bless(each)
    assert words.blessings() == {"a": later, "b": second}
    words.unbless("a", reason="hardware", who="ann", at=NOW)
    assert words.blessings() == {"b": second}
    words.bless(first)
    assert words.blessings()["a"] == first


def test_acknowledgements_are_kept_whole_also_those_that_are_over(tmp_path: Path) -> None:
    words = words_in(tmp_path)
    said = [
        Acknowledgement("a", "ttft_p90_ms", NOW + timedelta(days=7), "known", "ann", NOW),
        Acknowledgement("a", None, NOW - timedelta(days=7), "was known", "bob", NOW - timedelta(days=9)),
    ]
    for word in said:
        words.acknowledge(word)
    assert words.acknowledgements() == tuple(said)


def test_nothing_is_armed_until_a_person_says_so_and_the_latest_word_holds(tmp_path: Path) -> None:
    words = words_in(tmp_path)

    def say(config_id: str, armed: bool) -> dict[str, bool]:
        words.arm(config_id, armed, reason="r", who="ann", at=NOW)
        return dict(words.armed(("a", "b")))

    assert dict(words.armed(("a", "b"))) == {"a": False, "b": False}
    assert say("a", True) == {"a": True, "b": False}
    assert say(EVERY, True) == {"a": True, "b": True}
    assert say("b", False) == {"a": True, "b": False}
    assert dict(words.armed(["new"])) == {"new": True}, "a word on all is also about those to come"
    assert say(EVERY, False) == {"a": False, "b": False}


def test_every_word_is_counted(tmp_path: Path) -> None:
    words = words_in(tmp_path)
    assert words.count() == 0
    words.arm("a", True, reason="r", who="ann", at=NOW)
    words.bless(Blessing("a", "a-g1", "r", "ann", NOW))
    assert words.count() == 2


def test_a_home_of_the_version_before_gains_the_table_and_keeps_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    later = {statement for version in MIGRATIONS if version >= 3 for statement in MIGRATIONS[version]}
    with sqlite3.connect(path) as connection:
        for statement in SCHEMA:
            if statement not in later:
                connection.execute(statement)
        connection.execute("INSERT INTO round (id, scope, opened) VALUES ('r', 's', 0)")
        connection.execute("PRAGMA user_version = 3")
    RegressionWords(path).arm("a", True, reason="r", who="ann", at=NOW)
    with Database(path).reading() as connection:
        assert connection.execute("SELECT id FROM round").fetchone()[0] == "r"
        assert connection.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION
