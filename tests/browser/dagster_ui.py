"""What the browser tests share: `mlcc ui` as a process, what its GraphQL says, and what the platform's books say."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from catalog.loader import load_catalog
from mlcc_dagster.core.outcome import BenchmarkPlan
from mlcc_dagster.core.resolution import configuration_of
from resources import processes
from resources.ci_table import Attempt
from resources.home import Home
from resources.ledger import Ledger, Resource
from resources.processes import ProcessIdentity
from resources.settings import HOME_VARIABLE
from resources.sqlite_ci_table import SqliteCiTable

MLCC = Path(sys.executable).with_name("mlcc")
PATIENCE_SECONDS = 240.0
"""How long anything may take that is waited for: a machine that does other things too is slow."""

FOREIGN = frozenset({"DAGSTER_HOME", "MLCC_EXECUTOR", "MLCC_REGISTRY", "PYTHONWARNINGS"})
"""Settings of whoever runs the tests that would change what a visitor sees."""

FINISHED = frozenset({"SUCCESS", "FAILURE", "CANCELED"})


def wait_until(
    what: str, condition: Callable[[], Any], *, every: float = 0.2, seconds: float = PATIENCE_SECONDS
) -> Any:
    """Wait for something to become true and return it; fails with what did not come."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(every)
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@dataclass(frozen=True)
class Run:
    """A Dagster run as the page knows it; `steps` are step keys by status, in the order they began."""

    run_id: str
    job: str
    status: str
    tags: Mapping[str, str]
    steps: Mapping[str, str]


class DagsterUi:
    """A started `mlcc ui` on a home: its pages, and its GraphQL for waiting."""

    def __init__(self, home: Home, log: Path) -> None:
        self.home = home
        self.port = free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self._log = log
        self._client = httpx.Client(base_url=self.base_url, timeout=60, trust_env=False)
        self._environment = {name: value for name, value in os.environ.items() if name not in FOREIGN}
        self._environment[HOME_VARIABLE] = str(home.root)
        with log.open("wb") as written:
            self._process = subprocess.Popen(
                # as a script starts it in the background: such a process has SIGINT ignored, and Ctrl-C must end it all the same
                ["sh", "-c", 'trap "" INT; exec "$@"', "sh", MLCC, "ui", "--port", str(self.port)],
                cwd=home.root.parent,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    # ---- its life

    def wait_ready(self) -> None:
        """Wait until the page answers and has loaded the definitions."""
        wait_until("the UI with its definitions", self._ready)

    def _ready(self) -> bool:
        assert self._process.poll() is None, f"mlcc ui ended: {self.log_text()[-3000:]}"
        try:
            found = self.ask("{ assetNodes { id } }")["assetNodes"]
        except httpx.TransportError:
            return False
        return bool(found)

    def log_text(self) -> str:
        return self._log.read_text("utf-8", "replace")

    def stop(self) -> list[str]:
        """End it as Ctrl-C does, and return the command lines of processes of its home that outlived it."""
        self._client.close()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(60)
        with contextlib.suppress(AssertionError):
            wait_until("its processes to end", lambda: not self._living(), seconds=60)
        left = self._living()
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait(30)
        return [f"{process.pid} {process.name()}" for process in left]

    def _living(self) -> list[psutil.Process]:
        """Every process that was started for this home, servers of its runs included: their environments say so."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                environment = process.environ()
                homes = {environment.get(name) for name in (HOME_VARIABLE, processes.LEASE_HOME_VARIABLE)}
                if str(self.home.root) in homes and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    # ---- asking

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """Ask the GraphQL and return its data; an error there is a failure here."""
        answer = self._client.post("/graphql", json={"query": query, "variables": variables})
        document = answer.json()
        assert "errors" not in document, document["errors"]
        return document["data"]

    def runs(self, job: str | None = None) -> list[Run]:
        """Return the runs, newest first."""
        data = self.ask(
            """
            query ($filter: RunsFilter) { runsOrError(filter: $filter, limit: 50) { ... on Runs { results {
              runId jobName status tags { key value } stepStats { stepKey status startTime }
            } } } }
            """,
            filter={"pipelineName": job} if job else {},
        )
        return [_run(document) for document in data["runsOrError"]["results"]]

    def run(self, run_id: str) -> Run:
        return next(run for run in self.runs() if run.run_id == run_id)

    def wait_run(self, run_id: str) -> Run:
        """Wait for the end of a run."""
        return wait_until(f"the end of run {run_id}", lambda: (run := self.run(run_id)).status in FINISHED and run)

    def partitions(self, asset: str) -> list[str]:
        data = self.ask(
            "query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode { partitionKeys } } }",
            key={"path": [asset]},
        )
        return data["assetNodeOrError"]["partitionKeys"]

    def materializations(self, asset: str, partition: str) -> list[dict[str, Any]]:
        """Return the materializations of a partition, newest first: Dagster run, Unix seconds, metadata by label."""
        data = self.ask(
            """
            query ($key: AssetKeyInput!, $partitions: [String!]) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
              assetMaterializations(partitions: $partitions, limit: 20) { runId timestamp metadataEntries {
                label
                ... on TextMetadataEntry { text }
                ... on IntMetadataEntry { intValue }
                ... on FloatMetadataEntry { floatValue }
                ... on TableMetadataEntry { table { records } }
                ... on MarkdownMetadataEntry { mdStr }
              } }
            } } }
            """,
            key={"path": [asset]},
            partitions=[partition],
        )
        return [
            {"dagster_run_id": found["runId"], "at": float(found["timestamp"]) / 1000}
            | {entry["label"]: _value(entry) for entry in found["metadataEntries"]}
            for found in data["assetNodeOrError"]["assetMaterializations"]
        ]

    def sensors(self) -> dict[str, dict[str, Any]]:
        """Return every sensor's status and ticks, newest first, by name."""
        data = self.ask(
            """
            { repositoriesOrError { ... on RepositoryConnection { nodes { sensors { name sensorState {
              status ticks(limit: 200) { status skipReason error { message } }
            } } } } } }
            """
        )
        (repository,) = data["repositoriesOrError"]["nodes"]
        return {sensor["name"]: sensor["sensorState"] for sensor in repository["sensors"]}

    # ---- what the platform's own books say

    @property
    def ci(self) -> SqliteCiTable:
        return SqliteCiTable(self.home.database)

    def attempt_of(self, dagster_run_id: str) -> Attempt | None:
        """Return the attempt that a Dagster run made, none before its claim."""
        return next((a for a in self.ci.attempts(limit=20) if a.owner.dagster_run_id == dagster_run_id), None)

    def alive(self, run_id: str, kind: str) -> list[Resource]:
        """Return what the ledger knows to exist of an attempt."""
        return [
            entry for entry in Ledger(self.home.database).alive(run_id) if (entry.kind, entry.state) == (kind, "alive")
        ]

    def measure(self, name: str, levels: tuple[int, ...]) -> str:
        """Register a catalog entry's configuration with other concurrency levels; returns its config id."""
        catalog = load_catalog()
        entry = next(entry for entry in catalog.entries if entry.id == name)
        plan = BenchmarkPlan(enabled=True, workload=entry.benchmark.workload, concurrency_levels=levels)
        return self.ci.register(configuration_of(entry, catalog), benchmark=plan, tier=entry.tier).config_id

    def mlcc(self, *words: str) -> str:
        """Run a command on this home beside the UI and return what it printed."""
        return subprocess.run(
            [MLCC, *words],
            env=self._environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=PATIENCE_SECONDS,
        ).stdout

    def stop_runs(self) -> None:
        """End every run that still has a claim, by its owner, and clean up after it."""
        running = self.ci.running()
        for attempt in running:
            owner = attempt.owner
            processes.end(ProcessIdentity(owner.pid, owner.start_ticks, owner.boot_id), 0)
        if running:
            self.mlcc("reap")

    def left_over(self) -> list[str]:
        """Name everything of ended runs that is still there: processes, workspaces, ports, claims, slots, intents."""
        ci, ledger = self.ci, Ledger(self.home.database)
        left = [
            f"process {p.pid} of {a.run_id}"
            for a in ci.attempts()
            for p in processes.tagged(a.run_id, home=self.home.root)
        ]
        left += [f"workspace {path.name}" for path in self.home.workspaces.iterdir()]
        left += [f"{resource.kind} {resource.ref} of {resource.run_id}" for resource in ledger.alive()]
        left += [f"port {r.details['port']} of {r.run_id}" for r in ledger.history() if _listens(r.details.get("port"))]
        left += [f"slot of {slot.run_id}" for slot in ledger.slots()]
        left += [f"claim of {record.config_id}" for record in ci.records() if record.lease_owner is not None]
        left += [f"running attempt {attempt.run_id}" for attempt in ci.running()]
        left += [f"pending commit of {run_id}" for run_id, _ in ci.pending()]
        return left


def _run(document: Mapping[str, Any]) -> Run:
    steps = sorted(document["stepStats"], key=lambda step: step["startTime"] or 0.0)
    return Run(
        run_id=document["runId"],
        job=document["jobName"],
        status=document["status"],
        tags={tag["key"]: tag["value"] for tag in document["tags"]},
        steps={step["stepKey"].removeprefix("lifecycle."): step["status"] for step in steps},
    )


def _value(entry: Mapping[str, Any]) -> Any:
    if "table" in entry:
        return [json.loads(record) for record in entry["table"]["records"]]
    return next((entry[name] for name in ("text", "intValue", "floatValue", "mdStr") if name in entry), None)


def _listens(port: object) -> bool:
    if not isinstance(port, int):
        return False
    try:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True
    except OSError:
        return False
