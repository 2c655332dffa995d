"""Snapshots: what may explain a difference, and no secret."""

import json

from mlcc_dagster.core.triage.registries import Environment
from mlcc_dagster.core.triage.secrets import WITHHELD
from resources.triage.snapshots import environment_snapshot, host_snapshot


def test_the_host_is_known_by_what_may_explain_a_difference(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "correct-horse-battery")
    monkeypatch.setenv("NCCL_DEBUG", "INFO")
    monkeypatch.setenv("UNRELATED", "private")
    snapshot = host_snapshot()
    assert snapshot["variables"]["HF_TOKEN"] == WITHHELD
    assert snapshot["variables"]["NCCL_DEBUG"] == "INFO"
    assert "UNRELATED" not in snapshot["variables"]
    assert snapshot["packages"]["numpy"]
    assert snapshot["cpus"] >= 1
    assert "correct-horse" not in json.dumps(snapshot)


def test_an_environment_that_is_not_entered_has_nothing_of_the_host():
    snapshot = environment_snapshot(Environment("py", "sidecar a.json", venv="/v"))
    assert snapshot["note"].startswith("the runner does not enter this virtual environment")
    assert snapshot.keys() == {"name", "source", "docker", "venv", "entered", "note", "schema_version"}


def test_an_environment_that_is_this_process_is_the_host():
    snapshot = environment_snapshot(Environment("local", "built-in"))
    assert snapshot["entered"] is True
    assert snapshot["python"] == host_snapshot()["python"]
