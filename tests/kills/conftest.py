"""Homes in which real commands are killed, and the process that starts them."""

import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# test folders are no packages: what these tests share is imported by its own name, here and in the processes they start
sys.path.insert(0, str(Path(__file__).parent))

from mlcc_forks import Forker

from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.outcome import BenchmarkPlan
from resources import processes
from resources.ci_table import SqliteCiTable
from resources.home import Home


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
        register_own_configuration(home.ensure())
        return home

    return make


def register_own_configuration(home: Home) -> None:
    """Register a configuration that no other home has: run ids are made of configuration ids, and processes are found by
    run ids on the whole machine. A memory limit that is never reached tells it apart."""
    limit = 500_000 + int.from_bytes(hashlib.sha256(str(home.root).encode()).digest()[:4]) % 500_000
    SqliteCiTable(home.database).register(
        Configuration(
            deployment_config="http-fastapi",
            model_name="sklearn/logistic-regression-digits",
            model_family="logistic-regression",
            instance_type="local.1cpu",
            region="local",
            serving_params={"memory_limit_mb": str(limit)},
        ),
        benchmark=BenchmarkPlan(enabled=True, workload="local_predict", concurrency_levels=(1, 4)),
    )


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
    left = [run for run in SqliteCiTable(home.database).attempts() if processes.tagged(run.run_id)]
    for run in left:
        for process in processes.tagged(run.run_id):
            processes.end(process, 0)
    if left or SqliteCiTable(home.database).running() or any(home.workspaces.iterdir()):
        homes.clear()
