"""Fixtures of the tests of triage: a home of the test's own, and modules with workloads."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# test folders are no packages: what these tests share is imported by its own name
sys.path.insert(0, str(Path(__file__).parent))

from triage_runs import Module


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of a home that is not there yet."""
    monkeypatch.setenv("MLCC_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Module]:
    """Write modules that can be imported for as long as the test runs."""
    folder = tmp_path / "modules"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    names = []

    def write(name: str, text: str) -> None:
        (folder / f"{name}.py").write_text(text)
        names.append(name)

    yield write
    for name in names:
        sys.modules.pop(name, None)
