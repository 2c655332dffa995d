"""Fixtures of the command line's tests: a home of the test's own, and commands called in this process or a new one."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlcc_dagster.cli import main
from resources.result_store import ResultStore

# test folders are no packages: what these tests share is imported by its own name
sys.path.insert(0, str(Path(__file__).parent))

from command_calls import LOGISTIC, MLCC, TIMED_OUT, Answer, Call, result_row


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of a home that is not there yet, named by MLCC_HOME; the working folder is elsewhere and empty."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("MLCC_HOME", str(tmp_path / "home"))
    # A command that opens Dagster's instance sets this for the processes it starts: undone with the test.
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home" / "dagster"))
    for name in ("MLCC_EXECUTOR", "MLCC_REGISTRY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


@pytest.fixture
def mlcc(home: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Call]:
    """Call the command line in this process."""

    def call(*words: str) -> Answer:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(words)
        written = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Answer(ended.value.code, written.out, written.err)

    yield call


@pytest.fixture
def mlcc_process(home: Path) -> Call:
    """Call the installed command in a process of its own, standard streams piped."""

    def call(*words: str, **environment: str) -> Answer:
        done = subprocess.run(
            [MLCC, *words], capture_output=True, text=True, env=os.environ | environment, timeout=240, check=False
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture
def proven_home(home: Path) -> Path:
    """A home with three results: two vectors proven, a third failed, the fourth possible one untested."""
    store = ResultStore(home / "results")
    store.publish("aaaa-g1", [result_row("aaaa"), result_row("aaaa", concurrency=4, request_throughput_rps=120.25)])
    store.publish("bbbb-g1", [result_row("bbbb", deployment_config="http-flask")])
    store.publish("cccc-g1", [result_row("cccc", **LOGISTIC, status="failed", concurrency=0, **TIMED_OUT)])
    return home
