"""`mlcc compact`: what it says, and that every command answers the same before and after."""

import os
import time
from pathlib import Path

import pytest
from command_calls import Call, files_below, result_row

from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.outcome import BenchmarkPlan, Claim, Owner
from resources import compaction
from resources.home import Home
from resources.result_store import ResultStore
from resources.sqlite_ci_table import SqliteCiTable

DAY = 86_400
QUESTION = ("sql", "SELECT config_id, concurrency, status FROM benchmark_results ORDER BY 1, 2", "--format", "json")


@pytest.fixture
def old_home(home: Path) -> Path:
    """A home whose results, five runs of one configuration, were published two days ago."""
    store = ResultStore(home / "results")
    for number in range(1, 6):
        path = store.publish(f"aaaa-g{number}", [result_row("aaaa", run_id=f"aaaa-g{number}")])
        age(path)
    return home


def age(path: Path) -> None:
    before = time.time() - 2 * DAY
    os.utime(path, (before, before))


def test_it_merges_and_everything_answers_as_before(mlcc: Call, old_home: Path):
    before = mlcc(*QUESTION).out
    merged = mlcc("compact")
    assert (merged.code, merged.err) == (0, "")
    assert merged.out.startswith("5 files of closed days merged in 1 folder (5 rows)\n")
    assert "stays for those who still read it" in merged.out
    assert mlcc(*QUESTION).out == before
    assert mlcc("compact").out.startswith("nothing to merge")


def test_the_next_one_after_the_grace_removes_what_was_merged(mlcc: Call, old_home: Path, monkeypatch):
    before = mlcc(*QUESTION).out
    mlcc("compact")
    now = time.time() + compaction.GRACE_SECONDS + 1
    monkeypatch.setattr(compaction.time, "time", lambda: now)
    assert "5 files would be removed" in mlcc("compact", "--dry-run").out
    assert "5 files removed" in mlcc("compact").out
    assert [path.name for path in (old_home / "results").rglob("run-*.parquet")] == []
    assert mlcc(*QUESTION).out == before


def test_a_dry_run_changes_no_result(mlcc: Call, old_home: Path):
    before = files_below(old_home / "results")
    document = mlcc("compact", "--dry-run", "--json").document
    assert (document["dry_run"], document["merged_files"], document["rows"]) == (True, 5, None)
    assert [folder["files"] for folder in document["folders"]] == [5]
    assert files_below(old_home / "results") == before


def test_a_damaged_file_is_named_and_stays(mlcc: Call, old_home: Path):
    bad = next(old_home.rglob("run-aaaa-g1.parquet"))
    bad.write_bytes(b"PAR1 cut off")
    age(bad)
    answer = mlcc("compact")
    assert answer.code == 0
    assert answer.err.count(str(bad)) == 1
    assert "4 files of closed days merged" in answer.out
    assert bad.read_bytes() == b"PAR1 cut off"


def test_a_run_that_is_not_over_is_not_merged(mlcc: Call, old_home: Path):
    ci = SqliteCiTable(Home(old_home).ensure().database)
    made = Configuration("http-fastapi", None, "random-forest", "local.1cpu", "local")
    plan = BenchmarkPlan(False, "local_predict", (1,))
    key = config_id(made)
    owner = Owner("host", 1, 0, "boot", "dagster")
    claim = ci.claim(key, configuration=made, round="r", owner=owner, lease_seconds=60, run_type="ci", benchmark=plan)
    assert isinstance(claim, Claim)
    store = ResultStore(old_home / "results")
    age(store.publish(claim.run_id, [result_row(key, run_id=claim.run_id)]))
    mlcc("compact")
    names = {path.name for path in store.snapshot().files}
    assert f"run-{claim.run_id}.parquet" in names
    assert len(names) == 2
