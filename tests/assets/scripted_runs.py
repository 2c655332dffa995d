"""A fast executor that does what a test says, and a platform, a Dagster instance and the real graph around it."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import dagster as dg

from assets.lifecycle import ROUND_TAG
from assets.partitions import CONFIGURATIONS, MODEL_FAMILIES, wanted_keys
from catalog.loader import load_catalog
from catalog.model import Instance
from mlcc_dagster.build import build_defs
from mlcc_dagster.cli.dagster_runs import ListeningPlatform
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.evidence import Evidence
from mlcc_dagster.core.exceptions import StageFailed
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.prices import Billing
from mlcc_dagster.core.resolution import configuration_of
from mlcc_dagster.core.stages import Stage
from resources.executor import StageRequest
from resources.home import Home
from resources.ledger import Ledger
from resources.person_words import PersonWords
from resources.platform import Platform
from resources.progress import Event
from resources.result_store import ResultStore
from resources.rounds import Rounds
from resources.sqlite_ci_table import SqliteCiTable

KIND = "endpoint"
REQUESTS = 3
Script = Callable[[StageRequest], None]


def fails(message: str) -> Script:
    """A stage that prints what the rules read, and fails."""

    def script(request: StageRequest) -> None:
        request.say(message)
        raise StageFailed("the stage failed")

    return script


class Scripted:
    """Performs every stage at once. Deploy makes a real file below the home, named in the ledger, which clean ends;
    benchmark writes raw records. `scripts` are done by stage, deploy's half way through."""

    name = "scripted"
    billing = Billing.MACHINE

    def __init__(
        self, home: Home, scripts: Mapping[Stage, Script] | None = None, *, unclean: str | None = None
    ) -> None:
        self.home = home
        self.scripts = dict(scripts or {})
        self.unclean = unclean
        self.performed: list[tuple[str, Stage]] = []
        self.cleaned: list[str] = []

    def digests(self, deployment_config: str) -> Mapping[str, str]:
        return {}

    def reaches(self, instance: Instance) -> bool:
        return instance.local

    def can_run(self, configuration: Configuration) -> str | None:
        return None if configuration.instance_type.startswith("local.") else "needs a GPU instance"

    def perform(self, request: StageRequest) -> Mapping[str, Any]:
        self.performed.append((request.run_id, request.stage))
        request.say(f"{request.stage} of {request.run_id}")
        script = self.scripts.get(request.stage, lambda request: None)
        if request.stage is Stage.DEPLOY:
            return self._deploy(request, script)
        script(request)
        if request.stage is Stage.BENCHMARK:
            return {
                "raw": {str(level): self._measure(request, level) for level in request.benchmark.concurrency_levels}
            }
        return {"project_name": "scripted-project"} if request.stage is Stage.GENERATE else {}

    def _deploy(self, request: StageRequest, script: Script) -> dict[str, Any]:
        endpoint = self.endpoint(request.run_id)
        entry = request.ledger.intend(
            run_id=request.run_id, kind=KIND, ref=endpoint.name, deadline_seconds=request.remaining()
        )
        endpoint.parent.mkdir(exist_ok=True)
        endpoint.write_text(request.lease_tag)
        script(request)
        request.ledger.confirm(entry, {})
        return {"endpoint": str(endpoint)}

    def _measure(self, request: StageRequest, level: int) -> str:
        path = request.raw / f"c{level}" / "profile_export.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = []
        for index in range(REQUESTS):
            start = 1_700_000_000_000_000_000 + index * 10_000_000
            lines.append(
                {
                    "metadata": {"request_start_ns": start, "request_end_ns": start + 5_000_000},
                    "metrics": {"request_latency": {"value": 5.0 + index, "unit": "ms"}},
                }
            )
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return str(path.relative_to(self.home.root))

    def clean(self, run_id: str, ledger: Ledger, log: TextIO) -> None:
        self.cleaned.append(run_id)
        if self.unclean is not None:
            raise StageFailed(self.unclean)
        for resource in ledger.alive(run_id):
            if resource.kind == KIND:
                self.endpoint(run_id).unlink(missing_ok=True)
                ledger.release(resource.id, "removed")

    def evidence(self, configuration: Configuration, outputs: Mapping[str, Any]) -> Evidence:
        return Evidence(engine="scripted 1", execution="process")

    def endpoint(self, run_id: str) -> Path:
        return self.home.root / "endpoints" / run_id


def platform_with(home: Home, executor: Any) -> Platform:
    """A platform of the shipped catalog in a home, with an executor of the test's."""
    home.ensure()
    ci = SqliteCiTable(home.database)
    return Platform(
        home=home,
        catalog=load_catalog(),
        ci=ci,
        ledger=Ledger(home.database),
        rounds=Rounds(home.database),
        store=ResultStore(home.results, ci.fenced_out),
        words=PersonWords(home.database),
        executor=executor,
    )


@dataclass
class Graph:
    """The real definitions on an instance, over a home with a scripted executor."""

    platform: Platform
    executor: Scripted
    instance: dg.DagsterInstance
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.defs = build_defs(resource_overrides={"platform": self.resource})

    @classmethod
    def over(
        cls,
        root: Path,
        scripts: Mapping[Stage, Script] | None = None,
        *,
        instance: dg.DagsterInstance | None = None,
        **named: Any,
    ) -> "Graph":
        executor = Scripted(Home(root), scripts, **named)
        return cls(platform_with(executor.home, executor), executor, instance or dg.DagsterInstance.ephemeral())

    @property
    def resource(self) -> dg.ResourceDefinition:
        return dg.ResourceDefinition.hardcoded_resource(ListeningPlatform(self.platform, self.events.append))

    @property
    def ids(self) -> dict[str, str]:
        """Config ids by catalog id."""
        catalog = self.platform.catalog
        return {entry.id: config_id(configuration_of(entry, catalog)) for entry in catalog.entries}

    @property
    def config_id(self) -> str:
        return self.ids["local-fastapi-logistic-1cpu"]

    def run(self, key: str | None = None, *, round_id: str | None = None, **tags: str) -> dg.ExecuteInProcessResult:
        key = key or self.config_id
        self.instance.add_dynamic_partitions(str(CONFIGURATIONS.name), [key])
        return self.defs.resolve_job_def("lifecycle_job").execute_in_process(
            instance=self.instance,
            partition_key=key,
            tags=({ROUND_TAG: round_id} if round_id else {}) | {f"mlcc/{name}": value for name, value in tags.items()},
            run_config=QUIET,
            raise_on_error=False,
        )

    def refresh(self, families: list[str] | None = None) -> dg.ExecuteInProcessResult:
        families = families or wanted_keys(self.platform)["model_family"]
        self.instance.add_dynamic_partitions(str(MODEL_FAMILIES.name), families)
        return self.defs.resolve_job_def("refresh_job").execute_in_process(
            instance=self.instance,
            tags={
                "dagster/asset_partition_range_start": families[0],
                "dagster/asset_partition_range_end": families[-1],
            },
            run_config=QUIET,
        )

    def materialized(self, run: dg.ExecuteInProcessResult) -> dict[str, dg.AssetMaterialization]:
        """What a run materialized, by asset."""
        found = (event.step_materialization_data.materialization for event in run.get_asset_materialization_events())
        return {materialization.asset_key.to_user_string(): materialization for materialization in found}

    def rows(self) -> list[dict[str, Any]]:
        return self.platform.store.snapshot().rows()

    def failure(self, run: dg.ExecuteInProcessResult, step: str = "lifecycle.verdict") -> str:
        """What a failed step said to a person."""
        (event,) = [event for event in run.all_events if event.is_step_failure and event.step_key == step]
        data = event.step_failure_data
        assert data.user_failure_data is not None, data.error
        return str(data.user_failure_data.description)

    def assert_nothing_alive(self) -> None:
        assert self.platform.ledger.alive() == []
        assert self.platform.ledger.slots() == []
        assert self.platform.ci.running() == ()
        assert [record.lease_owner for record in self.platform.ci.records() if record.lease_owner] == []
        assert list(self.platform.home.workspaces.iterdir()) == []
        assert list((self.platform.home.root / "endpoints").glob("*")) == []


GRAPHS: dict[str, Graph] = {}


def job_over(graph: Graph) -> Any:
    """The graph's job in the form that a re-execution takes: built again by name, here on the same platform."""
    root = str(graph.platform.home.root)
    GRAPHS[root] = graph
    return dg.build_reconstructable_job("scripted_runs", "job_of", reconstructable_args=(root,))


def job_of(root: str) -> dg.JobDefinition:
    """The job of a graph that this process has made."""
    return GRAPHS[root].defs.resolve_job_def("lifecycle_job")


QUIET: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def wait_until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait for something to become true and return it."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "the moment did not come"
        time.sleep(0.01)
    return found
