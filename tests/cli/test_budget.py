"""`mlcc budget`: the ledger's books in one answer, what is left of today, and a home that is not there stays away."""

import json
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from command_calls import Call, files_below

from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.outcome import BenchmarkPlan
from resources.ledger import Ledger
from resources.prover import Execution
from resources.sqlite_ci_table import SqliteCiTable

ROOT = Path(__file__).parents[2]
LOGISTIC = Configuration(
    "http-flask", "sklearn/logistic-regression-digits", "logistic-regression", "local.1cpu", "local"
)
PLAN = BenchmarkPlan(enabled=True, workload="local_predict", concurrency_levels=(1,))


def reserve(ledger: Ledger, budget: str, key: str, usd: float, *, ceiling: float = 50.0) -> str:
    run_key = f"{budget}/{key}/1"
    assert ledger.reserve(budget, run_key, usd, ceiling_usd=ceiling, deadline_seconds=900)
    return run_key


@pytest.fixture
def spent_home(home: Path) -> Path:
    """A home with three executions: one that is over and went beyond a promise, one that has a run at work and a promise
    that waits, one whose only promise was released."""
    database = home / "state.sqlite"
    ledger = Ledger(database)
    over = "path_prove@20260101T000000Z"
    for key, promised, used in (("a", 1.0, 0.4), ("b", 0.5, 0.7)):
        run_key = reserve(ledger, over, key * 16, promised, ceiling=2.0)
        assert ledger.activate(run_key, f"{key * 16}-g1")
        assert ledger.settle(run_key, used)
    record = SqliteCiTable(database).register(LOGISTIC, benchmark=PLAN)
    working = "path_prove@20260102T000000Z"
    assert ledger.activate(reserve(ledger, working, "c" * 16, 0.25), "c" * 16 + "-g1")
    reserve(ledger, working, record.config_id, 0.5)
    given_back = reserve(ledger, "path_prove@20260103T000000Z", "d" * 16, 3.0)
    assert ledger.release_overdue(now=time.time() + 1000) == (f"{working}/{record.config_id}/1", given_back)
    reserve(ledger, working, record.config_id, 0.5)
    return home


def test_each_budget_is_told_with_what_is_promised_active_spent_overrun_and_left(mlcc: Call, spent_home: Path):
    before = files_below(spent_home / "results")
    answer = mlcc("budget", "--json")
    assert (answer.code, answer.err) == (0, "")
    told = {row.pop("budget"): row for row in answer.document["budgets"]}
    assert list(told) == [f"path_prove@2026010{day}T000000Z" for day in (3, 2, 1)], "newest first"
    assert all(datetime.fromisoformat(row.pop("created_at")).tzinfo for row in told.values())
    names = ("runs", "ceiling_usd", "promised_usd", "active_usd", "spent_usd", "overrun_usd", "left_usd")
    assert [
        dict(zip(names, figures, strict=True))
        for figures in (
            (0, 50.0, 0.0, 0.0, 0.0, 0.0, 50.0),
            (2, 50.0, 0.5, 0.25, 0.0, 0.0, 49.25),
            (2, 2.0, 0.0, 0.0, 0.9, 0.2, 0.9),
        )
    ] == list(told.values())
    assert files_below(spent_home / "results") == before


def test_promises_that_live_are_told_with_their_configuration_and_the_time_by_which_they_begin(
    mlcc: Call, spent_home: Path
):
    waiting, working = sorted(mlcc("budget", "--json").document["reservations"], key=lambda r: -r["usd"])
    key = config_id(LOGISTIC)
    deadline = datetime.fromisoformat(waiting.pop("deadline"))
    assert 0 < (deadline - datetime.now(UTC)).total_seconds() <= 900
    assert waiting == {
        "run_key": f"path_prove@20260102T000000Z/{key}/1",
        "budget": "path_prove@20260102T000000Z",
        "run_id": None,
        "config_id": key,
        "configuration": str(LOGISTIC),
        "state": "reserved",
        "usd": 0.5,
    }
    assert (working["state"], working["run_id"]) == ("active", "c" * 16 + "-g1")
    assert working["deadline"] is None, "a run that began keeps its money until it ends"
    assert (working["config_id"], working["configuration"]) == (None, None), "the table has no such configuration"


@pytest.mark.parametrize(("limit", "listed"), [(1, 1), (2, 2), (3, 3), (20, 3), (0, 3)])
def test_the_limit_shortens_the_list_and_not_the_count(limit: int, listed: int, mlcc: Call, spent_home: Path):
    document = mlcc("budget", "--json", "--limit", str(limit)).document
    assert (len(document["budgets"]), document["total"]) == (listed, 3)
    assert len(document["reservations"]) == 2, "money that is promised is never left out"
    below = f"{listed} of 3 shown; --limit 0 lists all"
    assert (below in mlcc("budget", "--limit", str(limit)).out.splitlines()) == (listed < 3)


def today() -> Execution:
    return Execution.of_day(datetime.now(UTC))


def test_what_is_left_of_the_bounds_that_sensor_and_schedule_share_today(mlcc: Call, home: Path):
    execution = today()
    ledger = Ledger(home / "state.sqlite")
    for key in "ab":
        reserve(ledger, execution.name, key * 16, 0.1)
    assert ledger.activate(f"{execution.name}/{'a' * 16}/1", "a" * 16 + "-g1")
    assert ledger.settle("a" * 16 + "-g1", 0.3)
    document = mlcc("budget", "--json").document
    if today().name != execution.name:
        pytest.skip("midnight came between")
    assert document["today"] == {
        "execution": execution.name,
        "max_proves": execution.max_proves,
        "max_usd": execution.max_usd,
        "left_proves": execution.max_proves - 2,
        "left_usd": pytest.approx(execution.max_usd - 0.1 - 0.1 - 0.2),
    }
    assert document["budgets"][0]["left_usd"] == document["today"]["left_usd"]
    last = mlcc("budget").out.splitlines()[-1]
    assert last == f"left of today's execution {execution.name}: 8 of 10 proves, 49.6000 of 50.0000 USD"


def test_a_lower_ceiling_that_somebody_named_for_today_is_the_one_that_counts(mlcc: Call, home: Path):
    execution = today()
    reserve(Ledger(home / "state.sqlite"), execution.name, "a" * 16, 0.5, ceiling=2.0)
    found = mlcc("budget", "--json").document["today"]
    if today().name != execution.name:
        pytest.skip("midnight came between")
    assert (found["max_usd"], found["left_usd"]) == (2.0, 1.5)


def test_a_table_off_a_terminal_is_one_line_per_budget_and_per_promise(mlcc: Call, spent_home: Path):
    lines = mlcc("budget").out.splitlines()
    (over,) = [line for line in lines if line.startswith("path_prove@20260101T000000Z ")]
    assert over.split()[1:] == ["2", "2.0000", "0.0000", "0.0000", "0.9000", "0.2000", "0.9000"]
    promises = [line for line in lines if re.match(r"path_prove@20260102T000000Z/", line)]
    assert [re.search(r" (reserved|active) +(\S+)", line).groups() for line in promises] == [  # type: ignore[union-attr]
        ("active", "0.2500"),
        ("reserved", "0.5000"),
    ]
    assert str(LOGISTIC) in promises[1]


def test_a_budget_of_a_time_when_ceilings_were_not_kept_has_nothing_that_is_left(mlcc: Call, spent_home: Path):
    import sqlite3

    with sqlite3.connect(spent_home / "state.sqlite") as connection:
        connection.execute("UPDATE budget SET ceiling_micros = NULL")
    assert {(row["ceiling_usd"], row["left_usd"]) for row in mlcc("budget", "--json").document["budgets"]} == {
        (None, None)
    }
    assert mlcc("budget").code == 0


# ---- homes


def test_a_home_that_is_not_there_is_not_made_by_asking(mlcc: Call, home: Path):
    answer = mlcc("budget", "--json")
    assert answer.code == 0
    assert answer.document["budgets"] == answer.document["reservations"] == []
    assert answer.document["today"]["left_usd"] == answer.document["today"]["max_usd"]
    assert answer.err == (
        f"warning: there is no home {home} yet; `mlcc run --tier local` makes it, MLCC_HOME names another\n"
    )
    assert not home.exists()
    text = mlcc("budget")
    assert text.out.splitlines()[0] == "no money was promised yet; `mlcc path-prove` does that"
    assert not home.exists()


def test_what_was_promised_to_played_runs_is_asked_of_their_own_home(mlcc: Call, spent_home: Path):
    played = Ledger(spent_home / "replay" / "state.sqlite")
    reserve(played, "path_prove@20260201T000000Z", "e" * 16, 1.0)
    names = [row["budget"] for row in mlcc("budget", "--executor", "replay", "--json").document["budgets"]]
    assert names == ["path_prove@20260201T000000Z"]
    assert mlcc("budget", "--json").document["total"] == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--limit", "-1"], "--limit cannot be -1; use 0 for all, or how many to list"),
        (["--executor", "nope"], "unknown executor 'nope'; use one of local"),
        (["--limit", "x"], "invalid value for '--limit'"),
        (["extra"], "got unexpected extra argument(s) (extra); see `mlcc budget --help`"),
    ],
)
def test_a_request_that_cannot_be_met_is_one_sentence_and_makes_nothing(words, said: str, mlcc: Call, home: Path):
    answer = mlcc("budget", *words)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"mlcc: {said}")
    assert answer.err.count("\n") == 1
    assert not home.exists()


@pytest.mark.parametrize("below", [False, True], ids=["a file in its place", "a path below a file"])
def test_a_place_that_can_hold_no_home_is_one_sentence(below: bool, mlcc: Call, home: Path, monkeypatch):
    home.write_text("not a folder", "utf-8")
    place = home / "deeper" if below else home
    monkeypatch.setenv("MLCC_HOME", str(place))
    answer = mlcc("budget")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == (
        f"mlcc: cannot use {place} as the home (Not a directory); set MLCC_HOME to a folder you can write to\n"
    )
    assert home.read_text("utf-8") == "not a folder"


# ---- the documentation, and what it costs to ask


def keys(document: Any) -> Any:
    if isinstance(document, dict):
        return {name: keys(value) for name, value in document.items()}
    return [keys(document[0])] if isinstance(document, list) else None


def test_the_json_shape_that_is_documented_is_the_one_that_is_printed(mlcc: Call, spent_home: Path):
    page = (ROOT / "docs" / "commands.md").read_text("utf-8").partition("## `mlcc budget`")[2]
    documented = json.loads(re.findall(r"```json\n(.*?)```", page, re.S)[0])
    assert keys(mlcc("budget", "--json").document) == keys(documented)


def test_asking_for_the_budget_imports_no_dagster(spent_home: Path):
    asked = (
        "import sys\nfrom mlcc_dagster.cli import main\ntry:\n    main(['budget'])\nfinally:\n"
        "    print('dagster' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, timeout=120, check=True)
    assert done.stderr.splitlines()[-1] == "False"
