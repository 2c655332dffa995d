"""`mlcc ci trigger`: what is due is run, oldest first, and everything else is named with its reason."""

import json
import re
import signal
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from command_calls import Call, files_below

sys.path.insert(0, str(Path(__file__).parents[1] / "assets"))

from scripted_runs import Scripted, fails

from catalog.loader import load_catalog
from mlcc_dagster.cli import scans
from mlcc_dagster.cli.dagster_runs import DagsterRuns
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.outcome import Claim
from mlcc_dagster.core.resolution import configuration_of
from mlcc_dagster.core.stages import Stage
from resources import platform, processes
from resources.home import Home
from resources.lifecycle import benchmark_plan
from resources.sqlite_ci_table import SqliteCiTable

ROOT = Path(__file__).parents[2]
CATALOG = load_catalog()
ENTRIES = {entry.id: entry for entry in CATALOG.entries}
IDS = {name: config_id(configuration_of(entry, CATALOG)) for name, entry in ENTRIES.items()}
FOREST, FLASK, LOGISTIC = "local-fastapi-forest-1cpu", "local-flask-forest-1cpu", "local-fastapi-logistic-1cpu"
GPU = "rt-qwen3-06b"


@pytest.fixture
def executor(home: Path, monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """The executor of every platform that is opened: its stages take no time."""
    made = Scripted(Home(home))
    monkeypatch.setattr(platform, "open_executor", lambda name, of: made)
    monkeypatch.setattr(DagsterRuns, "refresh", lambda self: None)
    return made


@pytest.fixture
def table(home: Path) -> SqliteCiTable:
    return SqliteCiTable(Home(home).ensure().database)


def register(table: SqliteCiTable, *names: str, minutes_ago: int = 60, **changes: str) -> None:
    """Register entries, a minute after each other."""
    began = datetime.now(UTC) - timedelta(minutes=minutes_ago)
    for place, name in enumerate(names):
        configuration = replace(configuration_of(ENTRIES[name], CATALOG), **changes)
        table.register(
            configuration,
            benchmark=benchmark_plan(ENTRIES[name]),
            tier=ENTRIES[name].tier,
            now=(began + timedelta(minutes=place)).timestamp(),
        )


def age(table: SqliteCiTable, name: str, hours: float) -> None:
    """Let the last test of an entry be so long ago."""
    moment = datetime.now(UTC) - timedelta(hours=hours)
    with table._database.writing() as connection:
        connection.execute(
            "UPDATE ci_record SET last_test_timestamp = ? WHERE config_id = ?",
            (moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), IDS[name]),
        )


def hold(table: SqliteCiTable, name: str, round_id: str) -> Claim:
    """Claim an entry as somebody else who lives."""
    claim = table.claim(
        IDS[name],
        configuration=configuration_of(ENTRIES[name], CATALOG),
        round=round_id,
        owner=processes.this_process("another-run"),
        lease_seconds=90,
        run_type="ci",
        benchmark=benchmark_plan(ENTRIES[name]),
    )
    assert isinstance(claim, Claim)
    return claim


def left_out(document: Any) -> dict[str, str]:
    return {each["name"]: each["reason"] for each in document["left_out"]}


@pytest.mark.slow
def test_in_an_empty_home_nothing_is_due_and_that_is_said(mlcc: Call, executor: Scripted) -> None:
    answer = mlcc("ci", "trigger")
    assert answer.code == 0
    assert answer.out.splitlines() == [
        "no configurations started",
        "no configuration is registered in this home; what `mlcc run` runs with this executor is",
    ]


@pytest.mark.slow
def test_what_is_due_is_run_oldest_first_each_in_the_round_of_its_due_time_and_then_no_more(
    mlcc: Call, executor: Scripted, table: SqliteCiTable
) -> None:
    register(table, FOREST, LOGISTIC, GPU)
    register(table, FLASK, minutes_ago=600)
    document = mlcc("ci", "trigger", "--json").document
    assert [each["name"] for each in document["due"]] == [FLASK, FOREST, LOGISTIC]
    assert [each["name"] for each in document["started"]] == [FLASK, FOREST, LOGISTIC]
    assert {each["verdict"] for each in document["started"]} == {"proven"}
    assert [each["round"] for each in document["started"]] == [each["round"] for each in document["due"]]
    assert left_out(document) == {GPU: "not runnable"}
    for each in document["started"]:
        (attempt,) = table.attempts(each["config_id"])
        assert (attempt.round, attempt.run_type, attempt.tier) == (each["round"], "ci", "local")
        assert attempt.round == f"scan@{next(d['due_since'] for d in document['due'] if d['name'] == each['name'])}"

    again = mlcc("ci", "trigger")
    assert again.code == 0
    assert again.out.splitlines()[0] == "no configurations started"
    assert f"left out {GPU} (not runnable): needs a GPU instance" in again.out
    assert "left out as tested recently enough: " in again.out

    age(table, LOGISTIC, 25)
    executor.scripts[Stage.TEST] = fails("zork")
    failed = mlcc("ci", "trigger")
    assert failed.code == 1
    assert re.search(
        rf"^{LOGISTIC} +{IDS[LOGISTIC]}-g2 +pass, tested at .* failed \(unknown at test\)$", failed.out, re.M
    )
    record = table.record(IDS[LOGISTIC])
    assert record is not None
    assert record.test_status == "fail-test"


def test_a_dry_run_names_what_is_due_and_why_and_starts_nothing(
    mlcc: Call, executor: Scripted, table: SqliteCiTable, home: Path
) -> None:
    register(table, FOREST, FLASK, GPU)
    hold(table, FLASK, "another round")
    before = {name for name in files_below(home) if name.startswith(("logs", "raw", "results", "dagster"))}
    document = mlcc("ci", "trigger", "--dry-run", "--json").document
    assert document["dry_run"] is True
    assert [each["name"] for each in document["due"]] == [FOREST]
    assert document["started"] == []
    assert left_out(document) == {FLASK: "running", GPU: "not runnable"}
    text = mlcc("ci", "trigger", "--dry-run")
    assert text.code == 0
    assert text.out.splitlines()[0] == "1 configuration would be started (nothing was)"
    assert text.out.splitlines()[-1].startswith("1 of 1 configurations run here, about ")
    assert executor.performed == []
    assert {name for name in files_below(home) if name.startswith(("logs", "raw", "results", "dagster"))} == before


@pytest.mark.slow
def test_the_json_shape_is_the_documented_one(mlcc: Call, executor: Scripted, table: SqliteCiTable) -> None:
    register(table, FOREST, GPU)
    page = (ROOT / "docs" / "commands.md").read_text("utf-8")
    section = page.partition("## `mlcc ci trigger`")[2].partition("\n## ")[0]
    (block,) = re.findall(r"```json\n(.*?)```", section, re.S)
    documented, printed = json.loads(block), mlcc("ci", "trigger", "--json").document

    def shape(document: Any) -> Any:
        if isinstance(document, dict):
            return {key: shape(value) for key, value in document.items()}
        return [shape(document[0])] if isinstance(document, list) else None

    assert shape(printed) == shape(documented)


@pytest.mark.slow
def test_while_as_many_runs_of_scans_are_under_way_as_may_be_the_command_waits(
    mlcc: Call, executor: Scripted, table: SqliteCiTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(table, FOREST, FLASK)
    other = hold(table, FOREST, "scan@of another scanner")
    pauses: list[float] = []

    def ends(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            table.interrupt(other.run_id, "it was cut off")

    monkeypatch.setattr(scans, "time", type("Clock", (), {"sleep": staticmethod(ends), "time": time.time}))
    answer = mlcc("ci", "trigger", "--json")
    assert len(pauses) == 3
    assert [each["name"] for each in answer.document["started"]] == [FOREST, FLASK]


@pytest.mark.slow
def test_with_more_at_once_it_does_not_wait_and_leaves_the_others_to_their_scanner(
    mlcc: Call, executor: Scripted, table: SqliteCiTable
) -> None:
    register(table, FOREST, FLASK)
    hold(table, FOREST, "scan@of another scanner")
    document = mlcc("ci", "trigger", "--max-concurrency", "2", "--json").document
    assert [each["name"] for each in document["started"]] == [FLASK]
    assert left_out(document) == {FOREST: "running"}


@pytest.mark.slow
def test_a_run_of_another_kind_takes_no_room(mlcc: Call, executor: Scripted, table: SqliteCiTable) -> None:
    register(table, FOREST, FLASK)
    hold(table, FOREST, "local@20261122T050000Z")
    assert [e["name"] for e in mlcc("ci", "trigger", "--json").document["started"]] == [FLASK]


@pytest.mark.slow
def test_what_another_scanner_takes_first_is_left_to_it_and_named(
    mlcc: Call, executor: Scripted, table: SqliteCiTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(table, FOREST)
    real = DagsterRuns.lifecycle

    def too_late(self: DagsterRuns, target: Any, **named: Any) -> Any:
        hold(table, FOREST, named["round_id"])
        return real(self, target, **named)

    monkeypatch.setattr(DagsterRuns, "lifecycle", too_late)
    answer = mlcc("ci", "trigger", "--json")
    assert answer.code == 0
    (left,) = answer.document["left_out"]
    assert (left["reason"], answer.document["started"]) == ("running", [])
    assert left["detail"].startswith("taken by ")
    assert left["detail"].endswith(f" as {IDS[FOREST]}-g1")
    assert executor.performed == []


@pytest.mark.slow
def test_ctrl_c_ends_the_run_in_order_and_names_what_is_left(
    mlcc: Call, executor: Scripted, table: SqliteCiTable
) -> None:
    register(table, FOREST, FLASK)
    executor.scripts[Stage.BUILD] = lambda request: signal.raise_signal(signal.SIGINT)
    answer = mlcc("ci", "trigger", "--json")
    assert answer.code == 130
    document = answer.document
    assert document["interrupted"] is True
    assert [(each["name"], each["verdict"]) for each in document["started"]] == [(FOREST, "not finished")]
    assert left_out(document)[FLASK] == "no room"
    assert table.running() == ()
    (attempt,) = table.attempts()
    assert attempt.state == "interrupted"


def test_a_number_of_runs_that_cannot_be_is_refused_before_a_home_is_made(mlcc: Call, home: Path) -> None:
    answer = mlcc("ci", "trigger", "--max-concurrency", "0")
    assert (answer.code, answer.err) == (2, "mlcc: --max-concurrency must be 1 or more, not 0\n")
    assert not home.exists()
