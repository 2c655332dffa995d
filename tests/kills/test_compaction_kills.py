"""A store whose publishers and compactions are killed anywhere, and one that everybody uses at once: no row twice, none lost."""

import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

# test folders are no packages: what these tests share is imported by its own name
sys.path.insert(0, str(Path(__file__).parent))

from store_forks import DAY, Books, Forker, read_bare, read_snapshot

pytestmark = pytest.mark.slow
SIDES = ("before", "after")
KILLED = -signal.SIGKILL


@pytest.fixture
def forker(tmp_path: Path) -> Iterator[Forker]:
    made = Forker(tmp_path)
    yield made
    made.close()


def sees_everything_once(books: Books) -> None:
    """What is done is there, what was only begun may be, nothing twice; for both kinds of readers."""
    seen = read_snapshot(books)
    assert seen == read_bare(books)
    runs = {run for run, _ in seen}
    assert set(books.lines("done")) <= runs <= set(books.lines("begun"))
    assert set(seen.values()) <= {1}
    assert len(seen) == 2 * len(runs)


def published(forker: Forker, number: int, letters: str = "a") -> None:
    for letter in letters:
        assert forker.run("publish", run=f"{letter}{number}-g1", model=f"m/{letter}") == 0


@pytest.mark.parametrize("side", SIDES)
def test_a_publisher_that_is_killed_anywhere_and_repeated_publishes_once(forker: Forker, side: str):
    published(forker, 0)
    kills = 0
    while True:
        named = {"run": f"k{kills}-g1", "model": "m/a"}
        code = forker.run("publish", strike=[kills + 1, side], **named)
        sees_everything_once(forker.books)
        if code != KILLED:
            break
        kills += 1
        assert forker.run("publish", **named) == 0
        sees_everything_once(forker.books)
    assert code == 0
    assert kills >= 5, "synced, written, linked, removed"
    assert not list((forker.books.results / ".incoming").iterdir()), "what the dead ones left is swept"


def test_a_compaction_that_is_killed_anywhere_loses_and_doubles_nothing_while_others_read(forker: Forker):
    # What lies on the disk after one change is what lies there before the next: one side is all.
    published(forker, 0, "ab")
    published(forker, 1, "ab")
    for bare in (False, True):
        forker.start("read_on", bare=bare)
    now, grace, kills, counted = time.time() + DAY, 3600.0, 0, 0
    for call in range(1, 200):
        codes = []
        # In each a day is merged, the last one is shown and the one before swept; the second meets what the first one left.
        for step in range(2):
            published(forker, 2 * call + step)
            now += grace + 2
            codes.append(forker.run("compact", now=now, grace=grace, strike=[call, "before"]))
            sees_everything_once(forker.books)
            counted += 1
        kills += codes.count(KILLED)
        assert set(codes) <= {0, KILLED}
        if KILLED not in codes:
            break
    now += grace + 2
    for _ in range(3):
        assert forker.run("compact", now=now, grace=grace) == 0
        now += grace + 2
    forker.close()
    sees_everything_once(forker.books)
    print(f"{kills} kills, {counted} looks, {len(forker.books.lines('readings'))} readings beside them")
    assert forker.books.lines("wrong") == []
    assert kills >= 20
    assert len(forker.books.lines("readings")) > 5
    visible = [path.name for path in forker.books.results.rglob("*.parquet")]
    assert len([name for name in visible if name.startswith("merged-")]) == len(visible), visible
    assert not list((forker.books.results / ".incoming").iterdir()), "and their unfinished files"
    left = list(forker.books.results.parent.glob(".results-aside/*"))
    assert len(left) <= 2, "dead compactions' folders are swept"


def test_eight_writers_four_readers_and_a_compactor_for_twenty_seconds(forker: Forker):
    for number in range(8):
        forker.start("write_on", name=f"w{number}")
    published(forker, 0)
    for bare in (False, False, False, True):
        forker.start("read_on", bare=bare)
    forker.start("compact_on", grace=2.0)
    time.sleep(20)
    forker.close()
    books = forker.books
    sees_everything_once(books)
    assert books.lines("wrong") == []
    assert set(books.lines("done")) == set(books.lines("begun"))
    counts = {what: len(books.lines(what)) for what in ("done", "readings", "bare readings", "compactions")}
    print(counts, len(books.lines("told of missing files")), "times told of missing files")
    assert all(count > 3 for count in counts.values()), counts
    assert list(books.results.rglob("merged-*.parquet")), "it did compact"
