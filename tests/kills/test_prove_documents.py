"""A document that is run by real commands which are killed, interrupted and several: what passed is not done again, what is
gone is, and nothing is left."""

import json
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from mlcc_forks import Blow, Command, Forker

from assets.reaping import LIVE
from resources.ci_table import Attempt
from resources.home import Home
from resources.ledger import Ledger
from resources.sqlite_ci_table import SqliteCiTable

pytestmark = pytest.mark.slow

LOGISTIC = "sklearn/logistic-regression-digits"
PERFORM = "resources.stage_runner:_perform"
GATE = ["generate", "validate", "build", "push", "deploy", "test"]


@pytest.fixture
def fresh_home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").ensure()


def written(home: Home, **sweep: list[Any]) -> str:
    """Write a document of the gate's stages beside a home and return its path."""
    document = {
        "schema_version": "1",
        "base": {"model_name": LOGISTIC, "deployment_config": "http-fastapi", "instance_type": "local.1cpu"},
        "sweep": {axis.replace("__", "."): values for axis, values in sweep.items()},
        "stages": ["build", "deploy", "test"],
        "timeout_minutes": 10,
        "budget_usd": 1,
    }
    path = home.root.parent / "prove.json"
    path.write_text(json.dumps(document))
    return str(path)


def attempts(home: Home) -> list[Attempt]:
    return list(reversed(SqliteCiTable(home.database).attempts()))


def statuses(attempt: Attempt) -> dict[str, str]:
    return {stage: attempt.stages[stage]["status"] for stage in GATE if stage in attempt.stages}


def assert_nothing_is_left(home: Home) -> None:
    ledger, ci = Ledger(home.database), SqliteCiTable(home.database)
    assert (ledger.alive(), ledger.slots(), ci.running(), ci.pending()) == ([], [], (), ())
    assert ledger.reservations(state="active") == ledger.reservations(state="reserved") == []
    assert list(home.workspaces.iterdir()) == []
    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        assert instance.get_runs(filters=dg.RunsFilter(statuses=LIVE)) == []


def test_killed_in_the_third_of_six_a_document_goes_on_with_what_had_not_ended(mlcc: Forker, fresh_home: Home) -> None:
    path = written(
        fresh_home, deployment_config=["http-fastapi", "http-flask"], serving_params__memory_limit_mb=[None, 600, 700]
    )
    killed = mlcc.run(
        fresh_home, "prove", path, "--json", blows=[Blow(PERFORM, "after", 2 * len(GATE) + 5)], scripted_seconds=0.0
    )
    assert killed.wait() == -signal.SIGKILL, killed.stderr
    before = attempts(fresh_home)
    assert [attempt.state for attempt in before] == ["finished", "finished", "running"]
    assert statuses(before[2])["push"] == "pass"
    again = mlcc.run(fresh_home, "prove", path, "--json", scripted_seconds=0.0)
    assert again.wait() == 0, again.stderr
    document = again.document()
    assert (document["started"], document["passed"], document["finished"]) == (4, 6, True)
    by_state = Counter((attempt.config_id, attempt.state) for attempt in attempts(fresh_home))
    assert [state for _, state in by_state].count("finished") == 6
    assert set(by_state.values()) == {1}, "each has ended once"
    assert by_state[before[2].config_id, "interrupted"] == 1
    assert_nothing_is_left(fresh_home)
    third = mlcc.run(fresh_home, "prove", path, "--json", scripted_seconds=0.0)
    assert (third.wait(), third.document()["started"], third.document()["finished"]) == (0, 0, True)
    assert len(attempts(fresh_home)) == 7


@pytest.mark.parametrize("image", ["whole", "damaged"])
def test_killed_with_its_image_pushed_a_configuration_is_built_again_only_where_the_image_is_gone(
    mlcc: Forker, home: Home, tmp_path: Path, image: str
) -> None:
    shutil.rmtree(home.root / "prove", ignore_errors=True)
    # a limit that the other case has not: both use one home
    path = written(
        Home(tmp_path / "x"),
        deployment_config=["http-fastapi", "http-flask"],
        serving_params__memory_limit_mb=[3000 if image == "whole" else 3100],
    )
    killed = mlcc.run(home, "prove", path, "--json", blows=[Blow(PERFORM, "before", 2 * len(GATE))])
    assert killed.wait() == -signal.SIGKILL, killed.stderr
    mine = [attempt for attempt in attempts(home) if attempt.run_type == "prove"][-2:]
    assert [attempt.state for attempt in mine] == ["finished", "running"]
    digest = mine[1].stages["build"]["outputs"]["image_digest"]
    blob = home.registry / "blobs" / "sha256" / digest.removeprefix("sha256:")
    if image == "damaged":
        blob.unlink()
    again = mlcc.run(home, "prove", path, "--json")
    assert again.wait() == 0, again.stderr
    document = again.document()
    assert (document["started"], document["passed"]) == (1, 2)
    ci = SqliteCiTable(home.database)
    assert [each.run_id for each in ci.attempts(mine[0].config_id, round=mine[0].round)] == [mine[0].run_id]
    resumed = ci.attempts(mine[1].config_id, round=mine[1].round)[0]
    assert resumed.generation == mine[1].generation + 1
    done = "skip" if image == "whole" else "pass"
    expected = dict.fromkeys(GATE, "pass") | {"build": done, "push": done}
    assert statuses(resumed) == expected
    if image == "whole":
        said = resumed.stages["build"]["error"]
        assert said == f"passed in {mine[1].run_id}: image {digest} of the same project is in the registry"
        assert (
            resumed.stages["push"]["outputs"]["image_reference"] == mine[1].stages["push"]["outputs"]["image_reference"]
        )
    assert blob.exists()
    assert ci.attempt(mine[1].run_id).state == "interrupted"  # type: ignore[union-attr]
    assert_nothing_is_left(home)


def test_ctrl_c_ends_a_document_in_order_and_the_same_command_goes_on(mlcc: Forker, fresh_home: Home) -> None:
    path = written(fresh_home, deployment_config=["http-fastapi", "http-flask"])
    stopped = mlcc.run(
        fresh_home,
        "prove",
        path,
        "--json",
        blows=[Blow(PERFORM, "after", len(GATE) + 5, signal.SIGINT)],
        scripted_seconds=0.0,
    )
    assert stopped.wait() == 130, stopped.stderr
    document = stopped.document()
    assert (document["interrupted"], document["finished"]) == (True, False)
    assert [entry["standing"] for entry in document["configurations"]] == ["passed", "interrupted"]
    assert_nothing_is_left(fresh_home)
    again = mlcc.run(fresh_home, "prove", path, "--json", scripted_seconds=0.0)
    assert (again.wait(), again.document()["started"]) == (0, 1)


def test_several_at_a_time_are_several_processes_of_one_round(mlcc: Forker, fresh_home: Home) -> None:
    (fresh_home.root / "settings.yaml").write_text("slots: 2\n")
    path = written(
        fresh_home, deployment_config=["http-fastapi", "http-flask"], serving_params__memory_limit_mb=[3000, 3100]
    )
    command: Command = mlcc.run(fresh_home, "prove", "--concurrency", "2", path, "--json")
    assert command.wait() == 0, command.stderr
    assert command.document()["passed"] == 4
    made = attempts(fresh_home)
    assert Counter(attempt.state for attempt in made) == {"finished": 4}
    assert len({attempt.round for attempt in made}) == 1
    assert len({attempt.owner.pid for attempt in made}) == 2, "the helper did some of the work"
    assert_nothing_is_left(fresh_home)
