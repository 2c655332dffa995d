"""Many scanners at once, some of them killed or put to sleep: every due record gets one accepted result, whoever asks for it."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mlcc_forks import ROOT, Blow, Forker, wait_until

from catalog.loader import load_catalog
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.outcome import BenchmarkPlan
from mlcc_dagster.core.records import utc_text
from mlcc_dagster.core.resolution import configuration_of
from resources.ci_table import Attempt
from resources.home import Home
from resources.ledger import Ledger
from resources.lifecycle import benchmark_plan
from resources.platform import Platform
from resources.reaper import reap
from resources.result_store import ResultStore
from resources.sqlite_ci_table import SqliteCiTable

pytestmark = pytest.mark.slow

SCANNERS, RECORDS = 8, 200
KILLS, SLEEPS = 3, 1
STATUSES = ("untested", "pass", "fail-deploy", "fail-tune-sft", "fail-unknown", "fail-register")
CATALOG = load_catalog()


@pytest.fixture
def crowded(tmp_path: Path) -> Home:
    """A home with 200 due records of every kind, whose leases are short."""
    home = Home(tmp_path / "home").ensure()
    (home.root / "settings.yaml").write_text("lease_seconds: 6\nbeat_seconds: 0.5\nslots: 100\n")
    table = SqliteCiTable(home.database)
    entry = next(entry for entry in CATALOG.entries if entry.id == "local-fastapi-logistic-1cpu")
    plan = BenchmarkPlan(enabled=True, workload="local_predict", concurrency_levels=(1,))
    began = datetime.now(UTC) - timedelta(days=12)
    for number in range(RECORDS):
        configuration = replace(configuration_of(entry, CATALOG), serving_params={"number": str(number)})
        moment = (began + timedelta(minutes=number)).timestamp()
        key = table.register(configuration, benchmark=plan, tier="local", now=moment).config_id
        status = STATUSES[number % len(STATUSES)]
        if status != "untested":
            with table._database.writing() as connection:
                connection.execute(
                    "UPDATE ci_record SET test_status = ?, last_test_timestamp = ? WHERE config_id = ?",
                    (status, utc_text(began + timedelta(hours=number)), key),
                )
    return home


class Scanners:
    """Running scanners of one home."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.table = SqliteCiTable(home.database)
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("scanner_forks.py")), str(home.root), str(SCANNERS), "0.01"],
            stdout=subprocess.PIPE,
            stderr=(home.root / "scanners.log").open("wb"),
            cwd=ROOT,
            text=True,
        )
        self.pids: list[int] = json.loads(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, (self.home.root / "scanners.log").read_text()[-3000:]
        return line

    def finished(self) -> int:
        return sum(attempt.state == "finished" for attempt in self.table.attempts())

    def stop_at_work(self, chance: random.Random, spared: set[int]) -> Attempt:
        """Put a scanner to sleep in the middle of a run, for certain; returns that run."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            at_work = [a for a in self.table.running() if a.owner.pid in self.pids and a.owner.pid not in spared]
            if not at_work:
                continue
            chosen = chance.choice(at_work)
            os.kill(chosen.owner.pid, signal.SIGSTOP)
            now = self.table.attempt(chosen.run_id)
            if now is not None and now.state == "running" and self._can_be_written():
                return now
            os.kill(chosen.owner.pid, signal.SIGCONT)
        raise AssertionError("no scanner was met at work")

    def _can_be_written(self) -> bool:
        """Whether nobody sleeps in the middle of a write: the whole table would wait for it."""
        connection = sqlite3.connect(self.home.database, timeout=2)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
        except sqlite3.OperationalError:
            return False
        finally:
            connection.close()
        return True

    def ends(self) -> list[int]:
        """Wait for all of them and return their exit codes, negative for signals."""
        codes: list[int] = json.loads(self._line())
        self._process.wait(30)
        return codes

    def end(self) -> None:
        for pid in self.pids:
            if self._process.poll() is None:
                for number in (signal.SIGKILL, signal.SIGCONT):
                    try:
                        os.kill(pid, number)
                    except ProcessLookupError:
                        break
        self._process.wait(30)

    def said(self) -> list[dict[str, Any]]:
        """What the scanners said of their runs."""
        lines = [path.read_text().splitlines() for path in self.home.root.glob("said-*.jsonl")]
        return [json.loads(line) for each in lines for line in each]


@pytest.fixture
def scanners(crowded: Home) -> Iterator[Scanners]:
    made = Scanners(crowded)
    yield made
    made.end()


def test_eight_scanners_of_which_some_are_killed_or_sleep_give_every_due_record_one_accepted_result(
    scanners: Scanners,
) -> None:
    chance, table = random.Random(20261122), scanners.table
    killed: list[Attempt] = []
    slept: list[Attempt] = []
    gone: set[int] = set()
    for number in range(KILLS + SLEEPS):
        wait_until(lambda least=20 * (number + 1): scanners.finished() >= least)
        hit = scanners.stop_at_work(chance, gone)
        gone.add(hit.owner.pid)
        if number < KILLS:
            os.kill(hit.owner.pid, signal.SIGKILL)
            killed.append(hit)
        else:
            slept.append(hit)
    for hit in slept:
        # it lives and says nothing: its lease runs out, and another scanner's claim takes the record over
        wait_until(lambda run_id=hit.run_id: state_of(table, run_id) == "interrupted")
        os.kill(hit.owner.pid, signal.SIGCONT)

    codes = dict(zip(scanners.pids, scanners.ends(), strict=True))
    log = (scanners.home.root / "scanners.log").read_text()
    assert {codes[hit.owner.pid] for hit in killed} == {-signal.SIGKILL}, log
    assert {code for pid, code in codes.items() if pid not in {hit.owner.pid for hit in killed}} == {0}, log

    attempts = table.attempts()
    finished = [attempt for attempt in attempts if attempt.state == "finished"]
    assert Counter(attempt.config_id for attempt in finished) == {r.config_id: 1 for r in table.records()}
    assert len(finished) == RECORDS
    assert {attempt.status for attempt in finished} == {"completed"}
    assert max(Counter((a.config_id, a.round) for a in finished).values()) == 1, "one result per record and round"
    assert all(attempt.round.startswith("scan@") for attempt in attempts)

    interrupted = {attempt.run_id: attempt for attempt in attempts if attempt.state == "interrupted"}
    assert interrupted.keys() == {hit.run_id for hit in [*killed, *slept]}, "those that were hit, and no other"
    for hit in killed:
        assert "is dead" in str(interrupted[hit.run_id].reason)
    for hit in slept:
        assert "its lease was over and" in str(interrupted[hit.run_id].reason)
    for hit in interrupted.values():
        (again,) = [a for a in finished if a.config_id == hit.config_id]
        assert (again.round, again.generation) == (hit.round, hit.generation + 1), "made again on the same occasion"
        assert again.owner.pid != hit.owner.pid or hit in slept

    said = scanners.said()
    refused = [each["run_id"] for each in said if each["what"] == "refused"]
    assert refused == [hit.run_id for hit in slept], "the old owner came back, and nothing of it was written"
    accepted = Counter(row["run_id"] for row in ResultStore(scanners.home.results, table.fenced_out).snapshot().rows())
    assert accepted == {attempt.run_id: 1 for attempt in finished}
    for run_id in interrupted:
        assert list(scanners.home.results.rglob(f"run-{run_id}.parquet")) == []
    workers = Counter(attempt.owner.pid for attempt in finished)
    assert set(workers) == set(scanners.pids), "all of them did some of the work"

    left = sweep(scanners.home)
    assert left.problems == ()
    assert Ledger(scanners.home.database).alive() == []
    assert Ledger(scanners.home.database).slots() == []
    assert {record.lease_owner for record in table.records()} == {None}


def state_of(table: SqliteCiTable, run_id: str) -> str | None:
    attempt = table.attempt(run_id)
    return None if attempt is None else attempt.state


def sweep(home: Home) -> Any:
    """Clean up once, as every command does when it begins."""
    sys.path.insert(0, str(ROOT / "tests" / "assets"))
    from scripted_runs import Scripted, platform_with

    from resources.lifecycle import interrupted_usd

    executor = Scripted(home)
    made: Platform = platform_with(home, executor)
    return reap(
        home=home,
        ci=made.ci,
        ledger=made.ledger,
        store=made.store,
        executor=executor,
        interrupted_usd=partial(interrupted_usd, made),
    )


LOCAL = [entry for entry in CATALOG.entries if entry.tier == "local" and entry.expected_failure is None][:4]


def test_commands_that_scan_together_run_every_due_record_once_also_when_one_is_killed(
    mlcc: Forker, make_home: Callable[[], Home]
) -> None:
    home = make_home()
    table = SqliteCiTable(home.database)
    configurations: list[Configuration] = [configuration_of(entry, CATALOG) for entry in LOCAL]
    for entry, configuration in zip(LOCAL, configurations, strict=True):
        table.register(configuration, benchmark=benchmark_plan(entry), tier="local")
    dies = Blow("resources.sqlite_ci_table:SqliteCiTable.stage_ended", "before", 5)
    words = ("ci", "trigger", "--max-concurrency", "3", "--json")
    doomed = mlcc.start(home, *words, blows=[dies], scripted_seconds=0.05)
    others = [mlcc.start(home, *words, scripted_seconds=0.05) for _ in range(2)]
    assert doomed.wait() == -signal.SIGKILL, doomed.stderr
    assert [other.wait() for other in others] == [0, 0], [other.stderr for other in others]
    attempts = table.attempts()
    finished = Counter(attempt.config_id for attempt in attempts if attempt.state == "finished")
    assert finished == {record.config_id: 1 for record in table.records()}
    assert Counter(attempt.state for attempt in attempts)["interrupted"] == 1
    started = Counter(entry["config_id"] for other in others for entry in other.document()["started"])
    mine = {attempt.config_id for attempt in attempts if attempt.state == "finished"} - set(started)
    assert max(started.values()) == 1, "none was started twice"
    assert len(mine) <= 1, "what the killed one had finished before"
    again = mlcc.run(home, *words, scripted_seconds=0.0)
    assert again.wait() == 0
    assert again.document()["started"] == []
