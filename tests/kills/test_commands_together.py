"""Several commands, and several signals: every configuration is run once, and whoever is stopped leaves nothing."""

import signal
from collections import Counter
from pathlib import Path

import dagster as dg
import pytest
from mlcc_forks import Blow, Command, Forker, wait_until

from assets.reaping import LIVE
from mlcc_dagster.core.stages import Stage
from resources.home import Home
from resources.ledger import Ledger
from resources.result_store import ResultStore
from resources.sqlite_ci_table import SqliteCiTable

pytestmark = pytest.mark.slow

TIER = ("run", "--tier", "local", "--json")
ONE = ("run", "--config", "local-fastapi-logistic-1cpu", "--json")
HANDOFF = "resources.dagster_resources:HandoffIOManager"
SCRIPTED = "scripted_runs:Scripted"


def states(home: Home, round_id: str) -> Counter[str]:
    return Counter(attempt.state for attempt in SqliteCiTable(home.database).attempts(round=round_id))


def assert_nothing_is_left(home: Home) -> None:
    ledger, ci = Ledger(home.database), SqliteCiTable(home.database)
    assert (ledger.alive(), ledger.slots(), ci.running(), ci.pending()) == ([], [], (), ())
    assert list((home.root / "endpoints").glob("*")) == []
    assert list(home.workspaces.iterdir()) == []
    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        assert instance.get_runs(filters=dg.RunsFilter(statuses=LIVE)) == []


def lifecycle_runs(home: Home, round_id: str) -> int:
    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        return instance.get_runs_count(dg.RunsFilter(tags={"mlcc/round": round_id}))


def assert_each_has_one_result(home: Home, report: dict[str, object]) -> None:
    configurations: list[dict[str, str]] = report["configurations"]  # type: ignore[assignment]
    round_id = str(report["round"])
    assert states(home, round_id)["finished"] == len(configurations)
    rows = ResultStore(home.results, SqliteCiTable(home.database).fenced_out).snapshot().rows()
    runs = Counter(row["config_id"] for row in rows if row["concurrency"] in (0, 1))
    assert {key: runs[key] for key in runs} == {entry["config_id"]: 1 for entry in configurations}


@pytest.fixture
def fresh_home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").ensure()


def test_two_commands_of_one_tier_share_its_round_and_each_configuration_is_run_once(
    mlcc: Forker, fresh_home: Home
) -> None:
    commands = [mlcc.start(fresh_home, *TIER, scripted_seconds=0.0) for _ in range(2)]
    assert [command.wait() for command in commands] == [0, 0], [command.stderr for command in commands]
    reports = [command.document() for command in commands]
    assert reports[0]["round"] == reports[1]["round"]
    assert reports[0]["configurations"] == reports[1]["configurations"], "both tell of the whole round"
    verdicts = Counter(entry["verdict"].split(" ")[0] for entry in reports[0]["configurations"])
    assert verdicts["proven"] == len(reports[0]["configurations"]) - 1
    assert verdicts["unfeasible"] == 1, "the entry that is there to fail"
    assert_each_has_one_result(fresh_home, reports[0])
    owners = {attempt.owner.pid for attempt in SqliteCiTable(fresh_home.database).attempts()}
    assert owners == {command.pid for command in commands}, "both did some of the work"
    assert_nothing_is_left(fresh_home)


def in_stage(home: Home, command: Command, stage: Stage) -> str | None:
    """The run of that command, when it has come to a stage."""
    for attempt in SqliteCiTable(home.database).running():
        if attempt.owner.pid == command.pid and (home.logs / attempt.run_id / f"{stage.value}.log").exists():
            return attempt.run_id
    return None


def test_what_a_killed_command_had_begun_is_finished_by_the_other_at_once(mlcc: Forker, fresh_home: Home) -> None:
    doomed = mlcc.start(fresh_home, *TIER, scripted_seconds=30.0)
    wait_until(lambda: in_stage(fresh_home, doomed, Stage.GENERATE))
    other = mlcc.start(fresh_home, *TIER, scripted_seconds=0.0)
    wait_until(lambda: len({a.owner.pid for a in SqliteCiTable(fresh_home.database).attempts()}) == 2)
    doomed.send(signal.SIGKILL)
    assert doomed.wait() == -signal.SIGKILL
    assert other.wait() == 0, other.stderr
    report = other.document()
    assert_each_has_one_result(fresh_home, report)
    assert states(fresh_home, report["round"])["interrupted"] == 1
    # its lease lived on for more than a minute: whoever only asked again and again would have made a run each time
    assert lifecycle_runs(fresh_home, report["round"]) <= len(report["configurations"]) + 2
    assert_nothing_is_left(fresh_home)


@pytest.mark.parametrize(
    ("blows", "state"),
    [
        pytest.param(
            [Blow("resources.sqlite_ci_table:SqliteCiTable.claim", "after", signal=signal.SIGINT)],
            "interrupted",
            id="in the claim, which is written",
        ),
        pytest.param(
            [Blow(f"{HANDOFF}.load_input", "before", 1, signal.SIGINT)],
            "interrupted",
            id="between the claim and the first stage",
        ),
        pytest.param(
            [Blow(f"{HANDOFF}.load_input", "before", 8, signal.SIGINT)], "interrupted", id="between deploy and test"
        ),
        pytest.param(
            [Blow(f"{HANDOFF}.handle_output", "before", 7, signal.SIGINT)],
            "interrupted",
            id="as deploy hands its outcome on",
        ),
        pytest.param(
            [
                Blow("resources.stage_runner:_perform", "after", 5, signal.SIGINT),
                Blow(f"{SCRIPTED}.clean", "before", 1, signal.SIGINT),
            ],
            "interrupted",
            id="twice: in deploy, and in the cleaning after it",
        ),
        pytest.param(
            [Blow("resources.sqlite_ci_table:SqliteCiTable.intend", "before", signal=signal.SIGINT)],
            "interrupted",
            id="about to commit",
        ),
        pytest.param(
            [Blow("resources.sqlite_ci_table:SqliteCiTable.intend", "after", signal=signal.SIGINT)],
            "committing",
            id="the result is decided",
        ),
        pytest.param(
            [Blow("mlcc_dagster.cli.dagster_runs:DagsterRuns._leave_nothing", "before", signal=signal.SIGINT)],
            "finished",
            id="after the last step, where Dagster forgets it",
        ),
    ],
)
def test_ctrl_c_at_any_moment_ends_the_command_and_leaves_nothing_of_its_run(
    mlcc: Forker, home: Home, blows: list[Blow], state: str
) -> None:
    ci = SqliteCiTable(home.database)
    command = mlcc.run(home, *ONE, "--fresh", blows=blows, scripted_seconds=0.0)
    assert command.wait() == 130, command.stderr
    (attempt,) = ci.attempts(limit=1)
    assert attempt.state == state
    assert Ledger(home.database).alive() == []
    assert (ci.running(), Ledger(home.database).slots()) == ((), [])
    assert list(home.workspaces.iterdir()) == []
    if state == "finished":
        return
    again = mlcc.run(home, *ONE, scripted_seconds=0.0)
    assert again.wait() == 0, again.stderr
    assert_nothing_is_left(home)
    assert states(home, attempt.round)["finished"] == 1


def test_ctrl_c_between_two_configurations_stops_before_the_next(mlcc: Forker, fresh_home: Home) -> None:
    last = Blow("mlcc_dagster.cli.dagster_runs:DagsterRuns._leave_nothing", "before", 2, signal.SIGINT)
    command = mlcc.run(fresh_home, *TIER, blows=[last], scripted_seconds=0.0)
    assert command.wait() == 130, command.stderr
    assert states(fresh_home, command.document()["round"]) == {"finished": 2}
    assert_nothing_is_left(fresh_home)


def test_a_result_that_cannot_be_published_ends_the_command_and_is_published_by_the_next(
    mlcc: Forker, fresh_home: Home
) -> None:
    in_the_way = fresh_home.results / "model=sklearn_logistic-regression-digits"
    in_the_way.write_text("a file where a folder belongs")
    command = mlcc.run(fresh_home, *ONE, scripted_seconds=0.0)
    assert command.wait() == 1, command.stderr
    report = command.document()
    assert report["configurations"][0]["verdict"] == "not finished"
    assert states(fresh_home, report["round"]) == {"committing": 1}, "it was not run again and again"
    in_the_way.unlink()
    reaped = mlcc.run(fresh_home, "reap", "--json").document()
    assert len(reaped["recovered"]) == 1
    assert_each_has_one_result(fresh_home, report)
    assert_nothing_is_left(fresh_home)


def test_a_command_refreshes_coverage_when_its_round_is_done(mlcc: Forker, fresh_home: Home) -> None:
    command = mlcc.run(fresh_home, *ONE, scripted_seconds=0.0, refresh=True)
    assert command.wait() == 0, command.stderr
    with dg.DagsterInstance.from_config(str(fresh_home.dagster)) as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey("coverage_matrix"))
        families = instance.get_materialized_partitions(dg.AssetKey("coverage_matrix"))
    assert event is not None
    assert "logistic-regression" in families
