"""The graph of the tests of the assets, with sensors evaluated against it."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "assets"))
sys.path.insert(0, str(Path(__file__).parent))

from scripted_runs import Graph


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    """The real graph over a home of its own, with an executor whose stages all pass."""
    return Graph.over(tmp_path / "home")
