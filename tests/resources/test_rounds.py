"""Rounds: askers of one occasion share it, it ends when all of its members are done, and no two open at once."""

import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.outcome import BenchmarkPlan, Claim, Owner
from resources.ci_table import Commit
from resources.rounds import Round, Rounds
from resources.sqlite_ci_table import SqliteCiTable

DAY = 86_400.0
NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)


@dataclass
class Clock:
    """A clock that tests move by hand."""

    now: float = NOON.timestamp()

    def __call__(self) -> float:
        return self.now


class Platform:
    """Rounds and a CI table on one file, and a way to finish a configuration in a round."""

    def __init__(self, path: Path) -> None:
        self.clock = Clock()
        self.rounds = Rounds(path, clock=self.clock)
        self.ci = SqliteCiTable(path, clock=self.clock)

    def run(self, key: str, round: Round, *, status: str = "completed", finished: bool = True) -> None:
        """Run a configuration in a round to its end, or leave it interrupted."""
        claim = self.ci.claim(
            key,
            configuration=Configuration("http-fastapi", "iris", "sklearn", "local.1cpu", "local"),
            round=round.id,
            owner=Owner("here", 1, 1, "boot", "run"),
            lease_seconds=90,
            run_type="ci",
            benchmark=BenchmarkPlan(False, "chat", (1,)),
        )
        assert isinstance(claim, Claim)
        if finished:
            self.ci.intend(
                claim, Commit(rows=({},), status=status, test_status="pass", run_status="pass", duration_seconds=1)
            )
            self.ci.finish(claim.run_id)
        else:
            self.ci.interrupt(claim.run_id, "killed")


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return Platform(tmp_path / "state.sqlite")


def test_an_unfinished_round_is_joined_with_its_members_added(platform: Platform) -> None:
    first = platform.rounds.join("ci", ["a", "b"], open_seconds=DAY)
    platform.clock.now += 60
    second = platform.rounds.join("ci", ["b", "c"], open_seconds=DAY)
    assert first == Round(id="ci@20250601T120000Z", opened_at="2025-06-01T12:00:00.000000Z", joined=False)
    assert (second.id, second.opened_at, second.joined) == (first.id, first.opened_at, True)
    assert platform.rounds.progress(first.id) == ((), ("a", "b", "c"))
    assert platform.rounds.join("weekly", ["a"], open_seconds=DAY).id.startswith("weekly@"), "scopes are apart"


def test_a_round_is_over_when_every_member_has_finished_whatever_came_out(platform: Platform) -> None:
    first = platform.rounds.join("ci", ["a", "b"], open_seconds=DAY)
    platform.run("b", first, status="failed")
    assert platform.rounds.progress(first.id) == (("b",), ("a",))
    platform.run("a", first, finished=False)
    same = platform.rounds.join("ci", ["a", "b"], open_seconds=DAY)
    assert same.id == first.id, "an interrupted run finished nothing"
    platform.run("a", first)
    assert platform.rounds.progress(first.id) == (("a", "b"), ())
    fresh = platform.rounds.join("ci", ["a", "b"], open_seconds=DAY)
    assert (fresh.id, fresh.joined) == ("ci@20250601T120000Z.2", False), "the same second, and still another id"


def test_a_round_that_was_open_too_long_is_not_joined(platform: Platform) -> None:
    old = platform.rounds.join("ci", ["a"], open_seconds=DAY)
    platform.clock.now += DAY
    fresh = platform.rounds.join("ci", ["a"], open_seconds=DAY)
    assert (fresh.id, fresh.joined) == ("ci@20250602T120000Z", False)
    assert platform.rounds.progress(old.id) == ((), ("a",))


def test_a_tick_opens_its_round_once_and_commands_join_it(platform: Platform) -> None:
    stale = platform.rounds.join("ci", ["a"], open_seconds=DAY)
    platform.clock.now += 60
    tick = datetime.fromtimestamp(platform.clock.now, UTC)
    opened = [platform.rounds.open("ci", ["a", "b"], at=tick) for _ in range(2)]
    assert [r.joined for r in opened] == [False, True]
    assert opened[0].id == opened[1].id == "ci@20250601T120100Z" != stale.id
    assert platform.rounds.join("ci", ["a"], open_seconds=DAY).id == opened[0].id


def test_a_round_of_nothing_and_an_unknown_round_are_refused(platform: Platform) -> None:
    with pytest.raises(UsageError, match="at least one configuration"):
        platform.rounds.join("ci", [], open_seconds=DAY)
    with pytest.raises(UsageError, match="no round 'ci@never'"):
        platform.rounds.progress("ci@never")


def test_askers_at_once_get_the_same_round(platform: Platform) -> None:
    start = threading.Barrier(6)
    got: list[Round] = []

    def ask() -> None:
        start.wait()
        got.append(platform.rounds.join("config:a", ["a"], open_seconds=DAY))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({r.id for r in got}) == 1
    assert sorted(r.joined for r in got) == [False] + [True] * 5
