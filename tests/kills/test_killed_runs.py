"""Whenever a command's process is killed, one reap leaves nothing of it, and the same command then finishes its round."""

import signal
import socket

import dagster as dg
import pytest
from mlcc_forks import Blow, Command, Forker, wait_until

from assets.reaping import LIVE
from mlcc_dagster.core.outcome import Owner
from mlcc_dagster.core.stages import CANONICAL_ORDER
from resources import processes
from resources.ci_table import Attempt
from resources.home import Home
from resources.ledger import Ledger
from resources.result_store import INCOMING, ResultStore
from resources.sqlite_ci_table import SqliteCiTable

pytestmark = pytest.mark.slow

RUN = ("run", "--config", "local-fastapi-logistic-1cpu", "--json")
TABLE = "resources.sqlite_ci_table:SqliteCiTable"
CONFIRM = "resources.ledger:Ledger.confirm"
REQUEST = "resources.load_client:JsonExchange.send"
WARM_UPS = 1  # requests before the first that counts, at concurrency 1

PERFORMED = ("generate", "validate", "build", "push", "deploy", "test", "benchmark", "register")
NOTED = [stage.value for stage in CANONICAL_ORDER]


def begins(stage: str) -> Blow:
    """As the executor begins a stage."""
    return Blow("resources.local.executor:LocalExecutor.perform", "before", PERFORMED.index(stage) + 1)


def not_noted(stage: str) -> Blow:
    """When a stage is done and nobody has heard of it; skipped stages are noted too."""
    return Blow(f"{TABLE}.stage_ended", "before", NOTED.index(stage) + 1)


UNPROVEN = [
    pytest.param(
        Blow("dagster._core.execution.execute_in_process:ExecuteRunWithPlanIterable", "before"), id="not begun"
    ),
    pytest.param(Blow(f"{TABLE}.claim", "before"), id="before the claim"),
    pytest.param(Blow(f"{TABLE}.claim", "after"), id="the claim is written, nobody knows of it"),
    *(pytest.param(begins(stage), id=f"before {stage}") for stage in PERFORMED),
    *(
        pytest.param(not_noted(stage), id=f"after {stage}, not noted")
        for stage in ("build", "deploy", "test", "benchmark")
    ),
    # what a run writes down: its workspace, its image, its supervisor, its port
    pytest.param(Blow(CONFIRM, "before", 3), id="in deploy: the supervisor runs, nobody knows its pid"),
    pytest.param(Blow(CONFIRM, "after", 4), id="in deploy: the server loads"),
    pytest.param(Blow("resources.local.predictors:Predictor.try_out", "before"), id="in test: the server answers"),
    pytest.param(Blow(REQUEST, "after", WARM_UPS + 3), id="in benchmark: between requests"),
    pytest.param(Blow("resources.local.executor:LocalExecutor.clean", "before"), id="before clean"),
    pytest.param(Blow("resources.ledger:Ledger.release", "before"), id="in clean: all is ended, nothing released"),
    pytest.param(not_noted("clean"), id="after clean, not noted"),
    pytest.param(Blow(f"{TABLE}.intend", "before"), id="about to commit"),
]
PROVEN = [
    pytest.param(Blow(f"{TABLE}.intend", "after"), id="the intent is written"),
    pytest.param(Blow("resources.result_store:ResultStore.publish", "after"), id="the result is published"),
    pytest.param(Blow(f"{TABLE}.finish", "after"), id="the record is finished, the money not settled"),
    pytest.param(Blow("resources.ledger:Ledger.settle", "after"), id="all is written, Dagster's run not ended"),
]


class Books:
    """What a home's tables and its Dagster instance say."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.ci = SqliteCiTable(home.database)
        self.ledger = Ledger(home.database)

    def newest(self) -> Attempt:
        return self.ci.attempts(limit=1)[0]

    def assert_nothing_is_left(self) -> None:
        assert self.ledger.alive() == []
        assert self.ledger.slots() == []
        assert self.ci.running() == ()
        assert self.ci.pending() == ()
        assert [record.config_id for record in self.ci.records() if record.lease_owner is not None] == []
        assert list(self.home.workspaces.iterdir()) == []
        assert list((self.home.registry / ".incoming").glob("*")) == []
        half_written = list((self.home.results / INCOMING).glob("*"))
        assert half_written == [], "no half-written result"
        assert [tag for tag, process in processes.tagged_all() if processes.lease_home(process) == self.home.root] == []
        for resource in self.ledger.history(limit=20):
            assert not listens(resource.details.get("port")), resource

    def assert_no_dagster_run_goes_on(self) -> None:
        with dg.DagsterInstance.from_config(str(self.home.dagster)) as instance:
            assert instance.get_runs(filters=dg.RunsFilter(statuses=LIVE)) == []

    def dagster_status(self, owner: Owner) -> str:
        with dg.DagsterInstance.from_config(str(self.home.dagster)) as instance:
            run = instance.get_run_by_id(owner.dagster_run_id)
        assert run is not None
        return run.status.value

    def assert_one_accepted_result(self, round_id: str) -> None:
        finished = [run for run in self.ci.attempts(round=round_id) if run.state == "finished"]
        assert [run.status for run in finished] == ["completed"]
        accepted = {row["run_id"] for row in ResultStore(self.home.results, self.ci.fenced_out).snapshot().rows()}
        of_round = {run.run_id for run in self.ci.attempts(round=round_id)}
        assert accepted & of_round == {finished[0].run_id}
        assert len(self.files(finished[0].run_id)) == 1

    def files(self, run_id: str) -> list[str]:
        return [path.name for path in self.home.results.rglob(f"run-{run_id}.parquet")]


def listens(port: object) -> bool:
    if not isinstance(port, int):
        return False
    try:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True
    except OSError:
        return False


def killed(mlcc: Forker, home: Home, blow: Blow) -> str:
    """Run a command that kills itself, with a promise of money; returns the promise's key."""
    key = f"key-{home.root.name}-{len(Ledger(home.database).reservations())}"
    Ledger(home.database).reserve("tests", key, 1.0, ceiling_usd=1000.0, deadline_seconds=600)
    command = mlcc.run(home, *RUN, "--fresh", blows=[blow], reservation=key)
    assert command.wait() == -signal.SIGKILL, command.stderr
    return key


def reaped(mlcc: Forker, home: Home) -> dict[str, list[str]]:
    """Reap, and make sure that it was enough."""
    command = mlcc.run(home, "reap", "--json")
    assert command.wait() == 0, command.stderr
    books = Books(home)
    books.assert_nothing_is_left()
    books.assert_no_dagster_run_goes_on()
    document = command.document()
    assert document["problems"] == []
    return document


@pytest.mark.parametrize("blow", UNPROVEN)
def test_killed_before_its_result_was_decided_a_run_leaves_nothing_and_is_made_again(
    mlcc: Forker, home: Home, blow: Blow
) -> None:
    books = Books(home)
    before = {attempt.run_id for attempt in books.ci.attempts()}
    key = killed(mlcc, home, blow)
    document = reaped(mlcc, home)
    attempts = [attempt for attempt in books.ci.attempts() if attempt.run_id not in before]
    for attempt in attempts:
        assert attempt.state == "interrupted"
        assert "is dead" in str(attempt.reason)
        assert books.files(attempt.run_id) == []
        assert books.dagster_status(attempt.owner) == "FAILURE"
    assert len(document["interrupted"]) == len(attempts)
    assert len(document["dagster_runs_reported_failed"]) == 1
    promise = books.ledger.reservation(key)
    assert promise is not None
    assert promise.state == ("settled" if promise.run_id else "reserved")

    # the claim, the round and the commit are the same with every executor, and this one takes no time
    again = mlcc.run(home, *RUN, scripted_seconds=0.0)
    assert again.wait() == 0, again.stderr
    books.assert_nothing_is_left()
    report = again.document()
    assert [entry["verdict"] for entry in report["configurations"]] == ["proven"]
    assert {attempt.round for attempt in attempts} <= {report["round"]}, "the same round goes on"
    books.assert_one_accepted_result(report["round"])


@pytest.mark.parametrize("blow", PROVEN)
def test_killed_after_its_result_was_decided_a_run_is_brought_to_its_end_and_not_made_again(
    mlcc: Forker, home: Home, blow: Blow
) -> None:
    books = Books(home)
    key = killed(mlcc, home, blow)
    was = books.newest()
    document = reaped(mlcc, home)
    attempt = books.newest()
    assert attempt.run_id == was.run_id
    assert attempt.state == "finished"
    assert len(document["recovered"]) == (1 if was.state == "committing" else 0)
    assert document["interrupted"] == []
    assert len(document["dagster_runs_reported_failed"]) == 1
    books.assert_one_accepted_result(attempt.round)
    promise = books.ledger.reservation(key)
    assert promise is not None
    assert promise.state == "settled"
    assert promise.spent_usd == pytest.approx(attempt.cost_usd, abs=2e-6)
    again = reaped(mlcc, home)
    assert not any(again.values()), "reaping again changes nothing"


@pytest.mark.parametrize(
    "blow",
    [
        pytest.param(Blow(CONFIRM, "before", 3), id="in deploy"),
        pytest.param(Blow(REQUEST, "after", WARM_UPS + 3), id="in benchmark"),
    ],
)
def test_the_same_command_cleans_after_a_killed_one_by_itself_and_really_runs_again(
    mlcc: Forker, home: Home, blow: Blow
) -> None:
    books = Books(home)
    killed(mlcc, home, blow)
    attempt = books.newest()
    assert processes.tagged(attempt.run_id, home=home.root), "its server lives on"
    again = mlcc.run(home, *RUN)
    assert again.wait() == 0, again.stderr
    books.assert_nothing_is_left()
    books.assert_no_dagster_run_goes_on()
    books.assert_one_accepted_result(attempt.round)


def interrupt(command: Command, number: int) -> None:
    """Send a signal to a command and wait until it has ended in order."""
    command.send(number)
    assert command.wait() == 130, command.stderr


@pytest.mark.parametrize(
    ("stage", "number"),
    [
        pytest.param("deploy", signal.SIGINT, id="Ctrl-C while the server loads"),
        pytest.param("benchmark", signal.SIGINT, id="Ctrl-C in an endless benchmark"),
        pytest.param("benchmark", signal.SIGTERM, id="the machine shuts down"),
    ],
)
def test_interrupted_a_command_ends_in_order_and_leaves_its_round_open(
    mlcc: Forker, home: Home, stage: str, number: int
) -> None:
    books = Books(home)
    before = {attempt.run_id for attempt in books.ci.attempts()}
    command = mlcc.start(home, *RUN, "--fresh", requests=1_000_000)

    def reached() -> bool:
        found = [attempt.run_id for attempt in books.ci.running() if attempt.run_id not in before]
        if stage == "deploy":
            return any(
                entry.kind == "port" and entry.state == "alive" for run in found for entry in books.ledger.alive(run)
            )
        return any(path.stat().st_size for run in found for path in (home.raw / run).glob("*/*.jsonl"))

    wait_until(reached)
    interrupt(command, number)
    books.assert_nothing_is_left()
    books.assert_no_dagster_run_goes_on()
    attempt = books.newest()
    assert (attempt.state, attempt.reason) == ("interrupted", f"cancelled during {stage}")
    assert books.files(attempt.run_id) == []
    report = command.document()
    assert report["interrupted"]
    assert report["configurations"][0]["verdict"] == "not finished"

    again = mlcc.run(home, *RUN, scripted_seconds=0.0)
    assert again.wait() == 0, again.stderr
    assert again.document()["round"] == attempt.round
    books.assert_one_accepted_result(attempt.round)
