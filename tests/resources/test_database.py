"""The SQLite file: made once, versioned, refused with a sentence where it cannot be used."""

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mlcc_dagster.core.exceptions import HomeError
from resources.database import SCHEMA_VERSION, Database

ROOT = Path(__file__).parents[2]

OPEN = """
import sys
from pathlib import Path
from resources.database import Database
sys.stdin.read(1)
with Database(Path(sys.argv[1])).writing() as connection:
    connection.execute("INSERT INTO round (id, scope, opened) VALUES (?, ?, 0)", (sys.argv[2], sys.argv[2]))
"""


def test_a_block_that_raises_leaves_nothing(tmp_path: Path) -> None:
    database = Database(tmp_path / "state.sqlite")
    with pytest.raises(RuntimeError), database.writing() as connection:
        connection.execute("INSERT INTO round (id, scope, opened) VALUES ('a', 'a', 0)")
        raise RuntimeError
    with database.reading() as connection:
        assert connection.execute("SELECT count(*) FROM round").fetchone()[0] == 0


def test_making_the_value_touches_nothing_and_using_it_makes_the_folder(tmp_path: Path) -> None:
    database = Database(tmp_path / "deep" / "home" / "state.sqlite")
    assert not (tmp_path / "deep").exists()
    with database.reading() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert connection.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION


def _newer(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()


def _foreign(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()


def _text_file(path: Path) -> None:
    path.write_text("this is a letter to my grandmother " * 50)


def _folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("prepare", "sentence"),
    [
        pytest.param(_newer, "newer version", id="a newer version may mean other things by the same columns"),
        pytest.param(_foreign, "not this platform's", id="another program's tables must not be mixed with ours"),
        pytest.param(_text_file, "not an SQLite file", id="any file may be named by mistake"),
        pytest.param(_folder, "cannot be opened", id="a folder in the way"),
    ],
)
def test_a_file_that_is_not_ours_is_refused_untouched_with_what_to_do(prepare, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    prepare(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(HomeError, match=sentence) as refusal, Database(path).writing():
        pass
    assert "MLCC_HOME" in str(refusal.value)
    assert (path.read_bytes() if path.is_file() else None) == before


def test_processes_that_open_a_fresh_file_at_once_all_get_their_write(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    children = [
        subprocess.Popen([sys.executable, "-c", OPEN, str(path), f"r{n}"], stdin=subprocess.PIPE, cwd=ROOT)
        for n in range(4)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.write(b"!")
        child.stdin.flush()
    assert [child.wait(60) for child in children] == [0, 0, 0, 0]
    with Database(path).reading() as connection:
        assert connection.execute("SELECT count(*) FROM round").fetchone()[0] == 4


def test_writers_of_many_threads_lose_no_update(tmp_path: Path) -> None:
    database = Database(tmp_path / "state.sqlite")
    with database.writing() as connection:
        connection.execute("INSERT INTO round (id, scope, opened) VALUES ('a', 'a', 0)")

    def add() -> None:
        for _ in range(10):
            with database.writing() as connection:
                value = connection.execute("SELECT opened FROM round").fetchone()[0]
                connection.execute("UPDATE round SET opened = ?", (value + 1,))

    threads = [threading.Thread(target=add) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.reading() as connection:
        assert connection.execute("SELECT opened FROM round").fetchone()[0] == 60
