"""`mlcc gate collect` takes what a home measured, and `mlcc gate benchmarks` judges two such files."""

import json
from pathlib import Path

import pytest
from command_calls import Call, result_row

from resources.result_store import ResultStore


@pytest.fixture
def measured(home: Path) -> Path:
    """A home with three runs of one configuration at two loads, and one run that failed."""
    store = ResultStore(home / "results")
    for number, latency in enumerate((20.0, 21.0, 22.0), start=1):
        common = {
            "run_id": f"aaaa-g{number}",
            "run_timestamp": f"2026-06-0{number}T10:00:00.000000Z",
            "e2e_latency_p90_ms": latency,
        }
        store.publish(
            f"aaaa-g{number}", [result_row("aaaa", **common), result_row("aaaa", **common | {"concurrency": 4})]
        )
    return home


def test_what_was_measured_is_collected_and_judged(mlcc: Call, measured: Path, tmp_path: Path):
    path = tmp_path / "benchmarks.json"
    words = ("gate", "collect", "--config", "aaaa=tutor", "--output", str(path), "--runs", "2", "--json")
    document = mlcc(*words).document
    cells = document["configurations"]
    assert list(cells) == ["tutor local_predict x 1", "tutor local_predict x 4"]
    assert cells["tutor local_predict x 1"]["e2e_latency_p90_ms"] == [21.0, 22.0], "the newest runs, oldest first"
    assert cells["tutor local_predict x 1"]["request_throughput_rps"] == [80.5, 80.5]
    judge = ("gate", "benchmarks", "--candidate", str(path), "--baseline", str(path))
    assert mlcc(*judge).code == 0
    assert mlcc(*judge, "--rule", "noninferiority").code == 3
    slower = json.loads(path.read_text())
    slower["configurations"]["tutor local_predict x 4"]["e2e_latency_p90_ms"] = [40.0]
    worse = tmp_path / "worse.json"
    worse.write_text(json.dumps(slower))
    judge = ("gate", "benchmarks", "--candidate", str(worse), "--baseline", str(path))
    blocked = mlcc(*judge)
    assert blocked.code == 1 and "tutor local_predict x 4 latency is 86.0 % worse" in blocked.out
    loose = mlcc(*judge, "--tolerance", "latency:90")
    assert loose.code == 0 and "LOOSENED" in loose.err


def test_loosening_is_refused_in_production(
    mlcc: Call, measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "benchmarks.json"
    assert mlcc("gate", "collect", "--config", "aaaa", "--output", str(path)).code == 0
    monkeypatch.setenv("MLCC_ENV", "prod")
    words = ("gate", "benchmarks", "--candidate", str(path), "--baseline", str(path))
    assert mlcc(*words, "--tolerance", "latency:50").code == 2
    assert mlcc(*words, "--tolerance", "latency:5").code == 0


def test_a_configuration_without_measurements_is_named_and_nothing_written(mlcc: Call, home: Path, tmp_path: Path):
    path = tmp_path / "benchmarks.json"
    answer = mlcc("gate", "collect", "--config", "local-fastapi-forest-1cpu", "--output", str(path))
    assert answer.code == 2 and "no completed measurement" in answer.err
    assert not path.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--config", "x", "--output", "nowhere/x.json"), "there is no folder"),
        (("--config", "=tutor", "--output", "x.json"), "write ID or ID=NAME"),
        (("--config", "a=two words", "--output", "x.json"), "a NAME is one word"),
        (("--config", "no-such-thing", "--output", "x.json"), "no configuration 'no-such-thing'"),
        (
            ("--config", "local-fastapi-forest-1cpu", "--config", "local-fastapi-forest-1cpu=b", "--output", "x.json"),
            "once",
        ),
        (("--config", "a=tutor", "--config", "b=tutor", "--output", "x.json"), "tutor stands for two configurations"),
        (("--config", "a", "--runs", "0", "--output", "x.json"), "--runs must be 1 or more"),
    ],
)
def test_an_unusable_request_is_refused(mlcc: Call, words: tuple[str, ...], said: str):
    answer = mlcc("gate", "collect", *words)
    assert answer.code == 2 and said in answer.err


@pytest.mark.parametrize("tolerance", ["latency", "latency:-1", "latency:100", "speed:5", "latency:nan"])
def test_a_tolerance_that_is_none_is_refused(mlcc: Call, tolerance: str):
    answer = mlcc("gate", "benchmarks", "--candidate", "x", "--tolerance", tolerance)
    assert answer.code == 2 and "--tolerance" in answer.err
