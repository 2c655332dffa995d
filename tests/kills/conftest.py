"""Homes in which real commands are killed, and the process that starts them."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# test folders are no packages: what these tests share is imported by its own name, here and in the processes they start
sys.path.insert(0, str(Path(__file__).parent))

from mlcc_forks import Forker

from resources import processes
from resources.home import Home
from resources.sqlite_ci_table import SqliteCiTable


@pytest.fixture(scope="session")
def mlcc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forker]:
    """Starts commands."""
    forker = Forker(tmp_path_factory.mktemp("commands"))
    yield forker
    forker.close()


@pytest.fixture(scope="session")
def make_home(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Home]:
    """Makes homes that share one cache of trained models."""
    cache = tmp_path_factory.mktemp("cache")

    def make() -> Home:
        home = Home(tmp_path_factory.mktemp("home"))
        (home.root / "cache").symlink_to(cache)
        return home.ensure()

    return make


@pytest.fixture(scope="session")
def homes() -> list[Home]:
    """The home in use, if any: making one for each test costs more than most of them."""
    return []


@pytest.fixture
def home(homes: list[Home], make_home: Callable[[], Home]) -> Iterator[Home]:
    """A home in which nothing is alive. One that a test leaves otherwise is not used again, and what still lives there
    is ended by its tag."""
    if not homes:
        homes.append(make_home())
    home = homes[0]
    yield home
    ci = SqliteCiTable(home.database)
    left = [process for _, process in processes.tagged_all() if processes.lease_home(process) == home.root]
    for process in left:
        processes.end(process, 0)
    if left or ci.running() or ci.pending() or any(home.workspaces.iterdir()):
        homes.clear()
