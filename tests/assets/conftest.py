"""What the tests of the graph share; test folders are no packages, so it is imported by its own name."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from scripted_runs import Graph


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    """The real graph over a home of its own, with an executor whose stages all pass."""
    return Graph.over(tmp_path / "home")
