"""`mlcc run`: the estimate, a real run from the first byte of its JSON to the rows it leaves, and its report."""

import json
import re
from pathlib import Path

import pytest
from command_calls import Call, files_below

from catalog.loader import load_catalog
from mlcc_dagster.cli.rounds import Report, Target
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.outcome import Owner
from mlcc_dagster.core.resolution import configuration_of
from resources.ci_table import Attempt
from resources.platform import Platform
from resources.rounds import Round

CATALOG = load_catalog()
NAME = "local-fastapi-logistic-1cpu"
ENTRY = next(entry for entry in CATALOG.entries if entry.id == NAME)
CONFIGURATION = configuration_of(ENTRY, CATALOG)
KEY = config_id(CONFIGURATION)

# ---- dry run


def test_a_dry_run_says_what_would_run_and_what_it_takes_and_starts_nothing(mlcc: Call, home: Path):
    answer = mlcc("run", "--tier", "local", "--dry-run", "--json")
    assert answer.code == 0
    document = answer.document
    assert document["started"] is False
    assert {c["name"] for c in document["configurations"]} == {e.id for e in CATALOG.tier_entries("local")}
    assert all(c["runs_here"] and c["reason"] is None for c in document["configurations"])
    assert document["estimated_seconds"] > 0
    assert not [name for name in files_below(home) if name.startswith(("logs", "raw", "results", "workspaces"))]


def test_a_dry_run_of_what_cannot_run_here_exits_1_with_the_reasons(mlcc: Call):
    answer = mlcc("run", "--tier", "nightly", "--dry-run", "--json")
    assert answer.code == 1
    assert all(not c["runs_here"] and c["reason"] for c in answer.document["configurations"])
    text = mlcc("run", "--tier", "nightly", "--dry-run")
    assert text.code == 1
    assert "nothing was started" in text.out.splitlines()[0]


# ---- a real run


@pytest.mark.slow
def test_a_real_run_is_one_json_document_and_everything_it_proved_is_there(mlcc_process: Call, home: Path):
    answer = mlcc_process("run", "--config", NAME, "--json")
    assert (answer.code, answer.err) == (0, "")
    document = answer.document
    assert list(document) == [
        "round",
        "interrupted",
        "estimated_usd",
        "actual_usd",
        "cost_ceiling_usd",
        "configurations",
    ]
    (run,) = document["configurations"]
    assert document["round"].startswith(f"config:{KEY}@")
    assert document["interrupted"] is False
    assert run | {"seconds": 0, "cost_usd": 0, "dagster_run_id": ""} == {
        "config_id": KEY,
        "name": NAME,
        "verdict": "proven",
        "as_expected": True,
        "reason": None,
        "status": "completed",
        "run_id": f"{KEY}-g1",
        "seconds": 0,
        "cost_usd": 0,
        "dagster_run_id": "",
    }
    assert run["seconds"] > 0
    rows = mlcc_process(
        "sql", "--json", "SELECT run_id, status, concurrency, dagster_run_id FROM mlcc_ci.benchmark_results"
    ).document
    assert {row["run_id"] for row in rows} == {run["run_id"]}
    assert {row["status"] for row in rows} == {"completed"}
    assert {row["dagster_run_id"] for row in rows} == {run["dagster_run_id"]}
    assert mlcc_process("ledger", "--json").document["alive"] == []
    assert list((home / "workspaces").iterdir()) == []
    assert mlcc_process("coverage", "--json").document["counts"]["proven"] == 1


@pytest.mark.slow
def test_an_expected_failure_is_told_as_such_on_plain_lines_and_exits_0(mlcc_process: Call):
    answer = mlcc_process("run", "--config", "local-fastapi-forest-tight-memory")
    assert answer.code == 0
    assert "\x1b" not in answer.out + answer.err, "no colours off a terminal"
    assert re.search(r"^failed  local-fastapi-forest-tight-memory +\d+\.\d s  deploy failed \(oom\)", answer.err, re.M)
    (row,) = [line for line in answer.out.splitlines() if line.startswith("local-fastapi-forest-tight-memory ")]
    assert row.endswith("unfeasible (oom at deploy), as its entry expects")
    assert answer.out.splitlines()[-1].startswith("1 configuration | 0 proven | 0 not as expected | ")


@pytest.mark.slow
def test_what_is_replayed_lies_in_a_home_of_its_own_and_a_failure_exits_1_with_its_sentence(
    mlcc_process: Call, home: Path
):
    answer = mlcc_process("run", "--tier", "ci", "--executor", "replay", "--json")
    document = json.loads(answer.out)
    failed = [run for run in document["configurations"] if not run["as_expected"]]
    assert answer.code == (1 if failed else 0)
    for run in failed:
        assert re.fullmatch(r"(failed|unfeasible|completed) \([a-z_]+ at [a-z_-]+\)", run["verdict"])
        assert run["reason"]
    assert len(list((home / "replay" / "results").rglob("run-*.parquet"))) == len(document["configurations"])
    assert not (home / "results").exists()


# ---- the report


def attempt(**values) -> Attempt:
    made = {
        "run_id": f"{KEY}-g1",
        "config_id": KEY,
        "generation": 1,
        "round": "local@x",
        "run_type": "ci",
        "tier": "local",
        "owner": Owner("host", 1, 1, "boot", "dagster-run"),
        "state": "finished",
        "status": "completed",
        "test_status": "pass",
        "run_status": "pass",
        "stages": {},
        "reason": None,
        "started_at": "2026-01-01T00:00:00.000000Z",
        "ended_at": "2026-01-01T00:00:09.000000Z",
        "seconds": 9.0,
        "cost_usd": 0.0001,
        "failure_category": None,
        "failure_retryable": None,
        "retry_due": None,
    }
    return Attempt(**(made | values))


OOM = {
    "status": "unfeasible",
    "run_status": "fail-deploy",
    "failure_category": "oom",
    "reason": "deploy failed (oom): 515 MB",
}


@pytest.mark.parametrize(
    ("ended", "target", "verdict", "as_expected"),
    [
        ({}, {}, "proven", True),
        (OOM, {}, "unfeasible (oom at deploy)", False),
        (OOM, {"expected_failure": "oom"}, "unfeasible (oom at deploy), as its entry expects", True),
        (OOM, {"expected_failure": "timeout"}, "unfeasible (oom at deploy)", False),
        ({}, {"expected_failure": "oom"}, "proven, although its entry expects oom", False),
        (
            {"run_status": "fail-register", "failure_category": None, "reason": "register failed: no registry"},
            {},
            "completed (unknown at register)",
            False,
        ),
        ({"status": "partial", "test_status": None}, {}, "nothing tested", False),
        ({"state": "interrupted", "status": None}, {}, "not finished", False),
        (None, {}, "not finished", False),
        (None, {"refusal": "needs a GPU"}, "left out", True),
    ],
)
def test_a_verdict_is_a_few_words_and_whether_it_was_expected(ended, target, verdict, as_expected, home, capsys):
    wanted = Target(KEY, NAME, CONFIGURATION, **target)
    report = Report(Platform.open(), Round("local@x", "2026-01-01T00:00:00.000000Z", False), [wanted])
    if ended is not None:
        report.attempts[KEY] = attempt(**ended)
    assert report.verdict(wanted) == (verdict, as_expected)
    assert report.exit_code == (0 if as_expected else 1)

    report.show()
    lines = capsys.readouterr().out.splitlines()
    assert lines[3].startswith(NAME)
    assert lines[3].endswith(verdict)
    reason = report.attempts[KEY].reason if ended else None
    told = [line for line in lines[4:] if line.startswith(f"{NAME}: ")]
    assert told == ([] if as_expected else [f"{NAME}: {reason or verdict}"])


def test_an_interrupted_round_says_how_to_go_on_and_exits_130(home, capsys):
    wanted = Target(KEY, NAME, CONFIGURATION)
    report = Report(Platform.open(), Round("local@x", "", False), [wanted], interrupted=True)
    report.show()
    assert report.exit_code == 130
    assert capsys.readouterr().out.splitlines()[-1] == (
        "interrupted: the same command joins this round again and runs what is left"
    )
