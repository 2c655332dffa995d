"""`init`, `ledger`, `reap` and `ui`: the home, what is alive in it, and its page."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import yaml
from command_calls import MLCC, Call, files_below

from catalog.loader import load_catalog
from resources import processes
from resources.home import Home
from resources.ledger import Ledger


@pytest.fixture
def ledger(home: Path) -> Ledger:
    return Ledger(Home(home).ensure().database)


# ---- init


def test_init_makes_the_home_with_a_partition_for_every_entry_and_repeats_without_harm(mlcc: Call, home: Path):
    first = mlcc("init", "--json")
    assert (first.code, first.err) == (0, "")
    assert first.document["home"] == str(home)
    assert first.document["configurations"] == len(load_catalog().entries)
    assert first.document["partitions_added"] > first.document["configurations"]
    assert yaml.safe_load((home / "dagster" / "dagster.yaml").read_text("utf-8"))["telemetry"] == {"enabled": False}
    assert mlcc("init", "--json").document == first.document | {"partitions_added": 0}
    again = mlcc("init")
    assert (
        again.out == f"home {home} is ready: {len(load_catalog().entries)} configurations known, no partitions added\n"
    )


def test_init_leaves_an_instance_file_as_its_owner_wrote_it(mlcc: Call, home: Path):
    (home / "dagster").mkdir(parents=True)
    own = "telemetry:\n  enabled: false\n# mine\n"
    (home / "dagster" / "dagster.yaml").write_text(own, "utf-8")
    assert mlcc("init").code == 0
    assert (home / "dagster" / "dagster.yaml").read_text("utf-8") == own


def test_init_writes_nothing_outside_of_the_home(mlcc: Call, home: Path, tmp_path: Path):
    mlcc("init")
    assert {Path(name).parts[0] for name in files_below(tmp_path)} == {"home"}


def test_without_the_variable_the_home_is_below_the_working_folder(mlcc: Call, home: Path, monkeypatch):
    monkeypatch.delenv("MLCC_HOME")
    assert mlcc("init", "--json").document["home"] == str(Path.cwd() / ".mlcc")
    assert not home.exists()


# ---- ledger


def test_an_empty_ledger_says_that_nothing_is_alive(mlcc: Call, ledger: Ledger):
    answer = mlcc("ledger")
    assert answer.out.startswith("nothing is alive: ")
    assert mlcc("ledger", "--json").document == {"alive": [], "slots": [], "reservations": [], "released": []}


def test_the_ledger_shows_what_is_alive_held_and_promised_and_nothing_that_is_over(mlcc: Call, ledger: Ledger):
    alive = ledger.intend(run_id="aaaa-g1", kind="process", ref="server", deadline_seconds=60)
    ledger.confirm(alive, {"pid": 1})
    over = ledger.intend(run_id="bbbb-g1", kind="port", ref="127.0.0.1:9", deadline_seconds=60)
    ledger.release(over, "ended in order")
    ledger.acquire_slot("deploy", "aaaa-g1", capacity=1, lease_seconds=60)
    ledger.reserve("weekly", "kept", 1.5, ceiling_usd=10, deadline_seconds=60)
    ledger.reserve("weekly", "used", 2.0, ceiling_usd=10, deadline_seconds=60)
    ledger.settle("used", 1.0)

    document = mlcc("ledger", "--json").document
    assert [(r["kind"], r["state"], r["details"]) for r in document["alive"]] == [("process", "alive", {"pid": 1})]
    assert [slot["run_id"] for slot in document["slots"]] == ["aaaa-g1"]
    assert [promise["run_key"] for promise in document["reservations"]] == ["kept"]
    assert document["released"] == []

    text = mlcc("ledger", "--history", "5").out
    assert "nothing is alive" not in text
    for word in ("server", "deploy", "1.5000", "ended in order"):
        assert word in text


def test_a_history_has_as_many_released_resources_as_asked_for_newest_first(mlcc: Call, ledger: Ledger):
    ids = [ledger.intend(run_id="aaaa-g1", kind="port", ref=str(n), deadline_seconds=60) for n in range(4)]
    for number in ids[:3]:
        ledger.release(number, "ended")
    released = mlcc("ledger", "--json", "--history", "2").document["released"]
    assert [resource["ref"] for resource in released] == ["2", "1"]


# ---- reap


def test_reaping_a_quiet_home_finds_nothing_and_says_so(mlcc: Call, home: Path):
    assert mlcc("reap").out == "nothing outlived its owner\n"
    answer = mlcc("reap", "--json")
    assert (answer.code, answer.err) == (0, "")
    assert set(answer.document) == {
        "recovered",
        "interrupted",
        "ended",
        "released_reservations",
        "dagster_runs_reported_failed",
        "problems",
    }
    assert not any(answer.document.values())


def test_reap_ends_a_process_that_its_run_left_and_names_it(mlcc: Call, home: Path):
    Home(home).ensure()
    environment = os.environ | {processes.TAG_VARIABLE: "aaaa-g1", "MLCC_HOME": str(home)}
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], env=environment)
    try:
        answer = mlcc("reap")
        assert answer.code == 0
        assert f"ended: stray process {left.pid} of aaaa-g1" in answer.out
        assert left.wait(10) != 0
    finally:
        left.kill()
        left.wait()


# ---- ui


@pytest.mark.slow
def test_the_ui_serves_this_home_and_ends_with_everything_it_started(home: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = home.with_name("ui.log")
    with log.open("w") as output:
        page = subprocess.Popen(
            [MLCC, "ui", "--port", str(port)], stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        give_up = time.monotonic() + 180
        while True:
            assert page.poll() is None, log.read_text("utf-8")
            assert time.monotonic() < give_up, log.read_text("utf-8")
            try:
                sensors = httpx.post(
                    f"http://127.0.0.1:{port}/graphql",
                    json={
                        "query": '{ sensorsOrError(repositorySelector: {repositoryName: "__repository__", '
                        'repositoryLocationName: "mlcc_dagster.definitions"}) { ... on Sensors { results { name } } } }'
                    },
                    timeout=30,
                ).json()["data"]["sensorsOrError"]
                break
            except httpx.TransportError:
                time.sleep(0.5)
        assert "reaper_sensor" in {sensor["name"] for sensor in sensors["results"]}
        assert f"Dagster UI of {home}: http://127.0.0.1:{port}" in log.read_text("utf-8")
        page.send_signal(signal.SIGTERM)
        assert page.wait(60) == 0
        give_up = time.monotonic() + 30
        while left := processes_of_session(page.pid):
            assert time.monotonic() < give_up, left
            time.sleep(0.2)
    finally:
        if page.poll() is None or processes_of_session(page.pid):
            os.killpg(page.pid, signal.SIGKILL)
            page.wait()


def processes_of_session(session: int) -> list[int]:
    """Return the living processes of a session that a test started."""
    living = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text("utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            living.append(int(stat.parent.name))
    return living
