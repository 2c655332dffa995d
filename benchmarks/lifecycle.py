"""What the orchestration of a lifecycle costs beyond its stages' own work, against the smallest Dagster run there is."""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import dagster as dg

from assets.lifecycle import ROUND_TAG
from benchmarks.pairs import Comparison, compare
from catalog.model import Instance
from mlcc_dagster.build import build_defs
from mlcc_dagster.cli.dagster_runs import ListeningPlatform
from mlcc_dagster.cli.instance import open_instance
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.evidence import Evidence
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.prices import Billing
from mlcc_dagster.core.resolution import configuration_of
from mlcc_dagster.core.stages import Stage
from resources.executor import StageRequest
from resources.ledger import Ledger
from resources.platform import Platform
from resources.progress import silent

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
RECORD = (
    '{"metadata": {"request_start_ns": 1, "request_end_ns": 2000000, "benchmark_phase": "profiling"}, '
    '"metrics": {"request_latency": {"value": 2.0, "unit": "ms"}}, "error": null}\n'
)


class IdleExecutor:
    """Passes every stage without work, so that only the platform's own cost is left. Its benchmark keeps one record."""

    name = "local"
    billing = Billing.MACHINE

    def can_run(self, configuration: Configuration) -> str | None:
        """Run everything."""
        return None

    def reaches(self, instance: Instance) -> bool:
        """Reach every instance."""
        return True

    def digests(self, deployment_config: str) -> Mapping[str, str]:
        """Depend on nothing."""
        return {}

    def perform(self, request: StageRequest) -> Mapping[str, Any]:
        """Do nothing; write the one record where the benchmark is asked for."""
        if request.stage is not Stage.BENCHMARK:
            return {}
        request.raw.mkdir(parents=True, exist_ok=True)
        path = request.raw / "profile_export.jsonl"
        path.write_text(RECORD, "utf-8")
        return {"raw": {"1": str(path)}}

    def clean(self, run_id: str, ledger: Ledger, log: TextIO) -> None:
        """Made nothing, so ends nothing."""

    def evidence(self, configuration: Configuration, outputs: Mapping[str, Any]) -> Evidence:
        """Depend on nothing."""
        return Evidence("idle", "process")


@dg.op
def nothing() -> None:
    """The smallest op."""


@dg.job(executor_def=dg.in_process_executor)
def one_op() -> None:
    """The smallest run."""
    nothing()


def measure() -> Iterator[Comparison]:
    """Compare a whole lifecycle run (15 ops, claim, heartbeats, Parquet, commit) with a one-op run, in one process."""
    with tempfile.TemporaryDirectory() as folder:
        opened = Platform.open(Path(folder))
        platform = Platform(**{**vars(opened), "executor": IdleExecutor()})
        entry = platform.catalog.tier_entries("local")[0]
        key = config_id(configuration_of(entry, platform.catalog))
        resource = dg.ResourceDefinition.hardcoded_resource(ListeningPlatform(platform, silent))
        job = build_defs(resource_overrides={"platform": resource}).resolve_job_def("lifecycle_job")
        with open_instance(platform.home) as instance:
            instance.add_dynamic_partitions("configuration", [key])
            count = iter(range(1_000_000))

            def lifecycle() -> None:
                ended = job.execute_in_process(
                    instance=instance, partition_key=key, run_config=QUIET, tags={ROUND_TAG: f"bench-{next(count)}"}
                )
                assert ended.success

            def floor() -> None:
                assert one_op.execute_in_process(instance=instance, run_config=QUIET).success

            yield compare("lifecycle of idle stages / one-op run", lifecycle, floor, runs=10)
