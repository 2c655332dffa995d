"""Fixtures of the local executor's tests: runs that are ended whatever happens, and a real registry."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from resources import processes
from resources.home import Home

# test folders are no packages: what these tests share is imported by its own name, here and in processes they start
sys.path.insert(0, str(Path(__file__).parent))

from local_runs import Run, StartRun, configuration

REGISTRY_CONFIG = """
version: 0.1
log: {{level: warn}}
storage: {{filesystem: {{rootdirectory: {folder}/data}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""
BINARIES = ("docker-registry", "skopeo")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that keeps trained models for all tests that do not test training."""
    return tmp_path_factory.mktemp("trained")


@pytest.fixture
def start_run(tmp_path: Path, trained: Path) -> Iterator[StartRun]:
    """Start runs in the test's home; whatever a test leaves alive is ended by its tag."""
    started: list[Run] = []

    def begin(*, fresh_cache: bool = False, home: Path | None = None, **changes: Any) -> Run:
        place = Home(home or tmp_path / "home").ensure()
        if not fresh_cache and not (place.root / "cache").exists():
            (place.root / "cache").symlink_to(trained)
        run_id = f"{tmp_path.name}-{time.monotonic_ns()}-g{len(started) + 1}"
        started.append(Run(place, run_id, configuration(**changes)))
        return started[-1]

    yield begin
    for run in started:
        for left in processes.tagged(run.run_id):
            processes.end(left, 0)


@pytest.fixture(scope="session")
def binaries() -> None:
    missing = [name for name in BINARIES if shutil.which(name) is None]
    if missing and os.environ.get("CI") == "true":
        pytest.fail(f"{', '.join(missing)} must be installed in CI: push is proven against a real registry there")
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed (Debian packages of these names)")


@pytest.fixture
def distribution(tmp_path: Path, binaries: None) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    config = tmp_path / "registry.yml"
    config.write_text(REGISTRY_CONFIG.format(folder=tmp_path, port=port))
    with (tmp_path / "registry.log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while True:
            assert process.poll() is None, (tmp_path / "registry.log").read_text()
            try:
                httpx.get(f"http://127.0.0.1:{port}/v2/", trust_env=False).raise_for_status()
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline, "the registry did not answer in time"
                time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)
