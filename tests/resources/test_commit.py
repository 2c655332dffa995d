"""The commit of a run goes forward from wherever it was killed: one file, one finished attempt."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.exceptions import InvalidInput, LeaseLost, MlccError
from mlcc_dagster.core.outcome import BenchmarkPlan, Claim, Owner
from mlcc_dagster.core.records import COLUMN_NAMES
from resources.ci_table import Commit
from resources.commit import commit, recover
from resources.result_store import ResultStore
from resources.sqlite_ci_table import SqliteCiTable

ROOT = Path(__file__).parents[2]
KEY = "0123abcd0123abcd"
RUN = f"{KEY}-g1"


def result_row(run_id: str, concurrency: int) -> dict[str, Any]:
    """A row that the results table takes, all that is not known being none."""
    known = {
        "run_id": run_id,
        "config_id": run_id.rpartition("-")[0],
        "model_name": "team/iris",
        "model_family": "sklearn",
        "instance_type": "local.1cpu",
        "instance_family": "local",
        "deployment_config": "http-fastapi",
        "deployment_target": "realtime-inference",
        "quantization": "none",
        "tensor_parallel_degree": 1,
        "region": "local",
        "workload": "chat",
        "workload_name": "chat",
        "concurrency": concurrency,
        "run_type": "ci",
        "status": "completed",
        "run_timestamp": "2025-06-01T12:00:00.000000Z",
        "executor": "local",
        "engine": "sklearn",
        "execution": "process",
        "evidence": "{}",
        "stage_seconds": "{}",
        "schema_version": 1,
    }
    return {name: known.get(name) for name in COLUMN_NAMES}


def payload(run_id: str = RUN) -> Commit:
    """What a passed run at two concurrency levels commits."""
    rows = (result_row(run_id, 1), result_row(run_id, 4))
    return Commit(
        rows=rows, status="completed", test_status="pass", run_status="pass", duration_seconds=3.0, cost_usd=0.1
    )


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    (tmp_path / "results").mkdir()
    return ResultStore(tmp_path / "results")


@pytest.fixture
def ci(tmp_path: Path) -> SqliteCiTable:
    return SqliteCiTable(tmp_path / "state.sqlite")


def claim(ci: SqliteCiTable, key: str = KEY, *, lease: float = 90.0, round: str = "1") -> Claim:
    granted = ci.claim(
        key,
        configuration=Configuration("http-fastapi", "iris", "sklearn", "local.1cpu", "local"),
        round=round,
        owner=Owner("here", os.getpid(), 1, "boot", "run"),
        lease_seconds=lease,
        run_type="ci",
        benchmark=BenchmarkPlan(False, "chat", (1,)),
    )
    assert isinstance(granted, Claim)
    return granted


def published(store: ResultStore) -> list[tuple[str, int]]:
    """Run and concurrency of every row that a reader sees."""
    return sorted((row["run_id"], row["concurrency"]) for row in store.snapshot().rows(["run_id", "concurrency"]))


def test_a_commit_publishes_once_and_finishes_the_attempt(ci: SqliteCiTable, store: ResultStore) -> None:
    path = commit(ci, store, claim(ci), payload())
    assert store.snapshot().files == (path,)
    assert published(store) == [(RUN, 1), (RUN, 4)]
    assert [(a.state, a.status) for a in ci.attempts(KEY)] == [("finished", "completed")]
    assert recover(ci, store) == ()


def test_an_owner_that_was_fenced_out_publishes_nothing(ci: SqliteCiTable, store: ResultStore) -> None:
    old = claim(ci, lease=0.0)
    claim(ci)
    with pytest.raises(LeaseLost):
        commit(ci, store, old, payload())
    assert published(store) == []


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({"status": "splendid"}, id="a value outside the vocabulary"),
        pytest.param({"concurrency": "four"}, id="a text in a number's column"),
        pytest.param({"instance_type": "../../etc"}, id="a folder outside the store"),
    ],
)
def test_rows_that_no_store_takes_are_never_intended(
    broken: dict[str, Any], ci: SqliteCiTable, store: ResultStore
) -> None:
    held = claim(ci)
    with pytest.raises(InvalidInput):
        commit(ci, store, held, replace(payload(), rows=(result_row(RUN, 1) | broken,)))
    assert ci.pending() == ()
    commit(ci, store, held, payload())


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_commit import claim, payload
from resources.sqlite_ci_table import SqliteCiTable
from resources.commit import commit
from resources.result_store import ResultStore

where = sys.argv[2]
die = lambda: os.kill(os.getpid(), signal.SIGKILL)

class Store(ResultStore):
    def publish(self, run_id, rows):
        if where == "before publish":
            die()
        path = super().publish(run_id, rows)
        if where == "after publish":
            die()
        return path

class Table(SqliteCiTable):
    def intend(self, claim, payload):
        if where == "before intend":
            die()
        super().intend(claim, payload)

    def finish(self, run_id):
        finished = super().finish(run_id)
        die()
        return finished

home = Path(sys.argv[1])
ci = Table(home / "state.sqlite")
commit(ci, Store(home / "results"), claim(ci), payload())
"""


@pytest.mark.parametrize(
    ("where", "recovered", "proven"),
    [
        pytest.param("before intend", False, False, id="nothing was promised: the run must be made again"),
        pytest.param("before publish", True, True, id="intended, not published"),
        pytest.param("after publish", True, True, id="published, not finished: the same file again changes nothing"),
        pytest.param("after finish", False, True, id="finished, only the process did not come to its end"),
    ],
)
def test_a_commit_killed_at_any_step_is_replayed_to_one_file_and_one_end(
    where: str, recovered: bool, proven: bool, tmp_path: Path, ci: SqliteCiTable, store: ResultStore
) -> None:
    child = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), where, str(Path(__file__).parent)], cwd=ROOT, check=False
    )
    assert child.returncode == -signal.SIGKILL
    assert recover(ci, store) == ((RUN,) if recovered else ())
    assert recover(ci, store) == ()
    assert published(store) == ([(RUN, 1), (RUN, 4)] if proven else [])
    assert len(store.snapshot().files) == proven
    (attempt,) = ci.attempts(KEY)
    assert attempt.state == ("finished" if proven else "running")
    record = ci.record(KEY)
    assert record is not None
    assert record.test_status == ("pass" if proven else "running")


@dataclass(frozen=True)
class Full(ResultStore):
    """A store whose disk is full for one configuration."""

    key: str = "f" * 16

    def publish(self, run_id: str, rows: Sequence[Mapping[str, Any]]) -> Path:
        if run_id.startswith(self.key):
            raise OSError("no space left on device")
        return super().publish(run_id, rows)


def test_one_commit_that_cannot_be_published_does_not_hold_up_the_others(ci: SqliteCiTable, store: ResultStore) -> None:
    stuck = f"{'f' * 16}-g1"
    for run_id in (stuck, RUN):
        ci.intend(claim(ci, run_id.rpartition("-")[0]), payload(run_id))
    with pytest.raises(MlccError, match=rf"(?s)mlcc reap.*{stuck}: no space left"):
        recover(ci, Full(store.root))
    assert [run_id for run_id, _ in ci.pending()] == [stuck]
    assert recover(ci, store) == (stuck,)
    assert len(published(store)) == 4


def test_a_recovery_beside_the_owner_does_no_harm(ci: SqliteCiTable, store: ResultStore) -> None:
    class Beside(ResultStore):
        def publish(self, run_id: str, rows: Sequence[Mapping[str, Any]]) -> Path:
            path = super().publish(run_id, rows)
            assert recover(ci, store) == (run_id,)
            return path

    commit(ci, Beside(store.root), claim(ci), payload())
    assert [a.state for a in ci.attempts(KEY)] == ["finished"]
    assert published(store) == [(RUN, 1), (RUN, 4)]
