"""Workloads that serve a model on this machine: a stage of a lifecycle, and a benchmark.

Belongs here: running stages of the local executor for one trial, under the variables of a cell, and ending what they made. Not
here: the stages (`resources.local`), whether answers stay the same (`served_answers.py`), names (`workload_names.py`).

Every trial is a run of its own in a home apart (`triage-servers` in the home), so that neither its ledger nor its registry
meets those of validated runs; what a killed trial left there is ended before the next one begins. No stage writes results. Only the
deployment slot is the home's own: a trial that deploys waits for one as every run does, and nothing is measured beside it.
"""

import contextlib
import errno
import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.exceptions import StageFailed
from mlcc_dagster.core.outcome import BenchmarkPlan
from mlcc_dagster.core.stages import Stage
from mlcc_dagster.core.triage.resolution import ConcreteCell
from resources import processes
from resources.executor import StageRequest
from resources.home import Home
from resources.local.executor import KINDS, LocalExecutor, catalog_workload
from resources.local.serving import ServingKind, WorkloadProfile
from resources.triage.deployment_slots import DeploymentSlot
from resources.triage.workloads import InfrastructureFailed, Report, SetupFailed, Trial, WorkloadFailed

if TYPE_CHECKING:
    from resources.local.stages import LocalStages

STAGES: tuple[Stage, ...] = (
    Stage.GENERATE,
    Stage.VALIDATE,
    Stage.BUILD,
    Stage.PUSH,
    Stage.DEPLOY,
    Stage.TEST,
    Stage.BENCHMARK,
)
"""Stages that can be tried, in the order in which they need each other."""

THREADS, SLOTS, CACHE_TYPE = "LLAMA_ARG_THREADS", "LLAMA_ARG_N_PARALLEL", "LLAMA_ARG_CACHE_TYPE_K"
"""Variables by which llama.cpp's own server is set, and which set the server here as well."""

_AROUND = frozenset({"infrastructure", "capacity"})
"""Categories of failures that say nothing of what was tried."""

_SERIAL = itertools.count(1)


def servers_home() -> Home:
    """Return the home that trials serve their models in."""
    return Home(Home.current().root / "triage-servers")


@dataclass(frozen=True)
class VariedKind:
    """A kind of server under the variables of a cell: it is what `kind` is, its process has the variables, and llama.cpp
    takes its threads from them."""

    kind: ServingKind
    variables: Mapping[str, str]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.kind, name)

    def environment(self, *, model: Path, configuration: Configuration) -> Mapping[str, str]:
        """See `ServingKind.environment`."""
        return {**self.kind.environment(model=model, configuration=configuration), **self.variables}

    def context(self, configuration: Configuration) -> Mapping[str, Any]:
        """See `ServingKind.context`."""
        context = self.kind.context(configuration)
        threads = self.variables.get(THREADS)
        if threads is None or "engine" not in context:
            return context
        return {**context, "engine": {**context["engine"], "threads": int(threads)}}


def varied(configuration: Configuration, variables: Mapping[str, str]) -> Configuration:
    """Return a configuration under the variables of a cell: slots and cache of llama.cpp."""
    names = {"slots": SLOTS, "kv_cache_type": CACHE_TYPE}
    own = {name: variables[variable] for name, variable in names.items() if variable in variables}
    if configuration.deployment_config != "transformers-llamacpp" or not own:
        return configuration
    return replace(configuration, serving_params={**configuration.serving_params, **own})


def refusals(configuration: Configuration, variables: Mapping[str, str]) -> list[str]:
    """Return what keeps a configuration from being served here under the variables of a cell."""
    reason = LocalExecutor(servers_home()).can_run(varied(configuration, variables))
    problems = [] if reason is None else [f"workload: it cannot be served here: {reason}"]
    threads = variables.get(THREADS)
    there = os.cpu_count() or 1
    if threads is not None and not (re.fullmatch("[1-9][0-9]{0,3}", threads) and int(threads) <= there):
        problems.append(f"mitigations: {THREADS} must be from 1 to {there}, the CPUs of this machine")
    return problems


@dataclass(frozen=True)
class Served:
    """What a trial holds while its stages run: the request of every stage comes from it."""

    home: Home
    run_id: str
    kind: ServingKind
    configuration: Configuration
    stages: "LocalStages"
    log: TextIO
    outputs: dict[str, Any]
    plan: BenchmarkPlan
    trial: Trial
    slot: DeploymentSlot

    def perform(self, stage: Stage) -> Mapping[str, Any]:
        """Perform one stage and keep its outputs. Raises `StageFailed` as a stage does."""
        import time

        from resources.ledger import Ledger

        if stage is Stage.DEPLOY:
            self.slot.take(self.trial, self.log)
        request = StageRequest(
            run_id=self.run_id,
            configuration=self.configuration,
            stage=stage,
            workspace=self.home.workspaces / self.run_id,
            raw=self.home.raw / self.run_id,
            log=self.log,
            outputs=dict(self.outputs),
            benchmark=self.plan,
            deadline=time.monotonic() + self.trial.remaining(),
            ledger=Ledger(self.home.database),
        )
        outputs = self.stages.by_name[stage](request, self.kind)
        self.outputs.update(outputs)
        return outputs

    def prepare(self, *stages: Stage) -> None:
        """Perform stages that must work before anything is tried. Raises `SetupFailed` where one does not."""
        for stage in stages:
            try:
                self.perform(stage)
            except StageFailed as failed:
                if failed.category in _AROUND:
                    raise InfrastructureFailed(failed.message) from failed
                raise SetupFailed(f"stage {stage} before the trial failed: {failed.message}") from failed

    def attempt(self, stage: Stage) -> Mapping[str, Any]:
        """Perform a stage that is tried itself. Raises `WorkloadFailed` where it fails, `InfrastructureFailed` where that is
        not its own fault."""
        try:
            return self.perform(stage)
        except StageFailed as failed:
            if failed.category in _AROUND:
                raise InfrastructureFailed(failed.message) from failed
            raise WorkloadFailed(failed.message, label=failed.category or f"{stage} failed") from failed


@contextlib.contextmanager
def served(
    configuration: Configuration, trial: Trial, plan: BenchmarkPlan, profile: WorkloadProfile
) -> Iterator[Served]:
    """Give a trial a run of its own, and end everything of it afterwards; what dead trials left is ended before."""
    from resources.ledger import Ledger
    from resources.local.stages import LocalStages

    home = servers_home().ensure()
    ledger = Ledger(home.database)
    identity = processes.identify(os.getpid())
    assert identity is not None, "this process runs"
    run_id = f"triage-{identity.pid}-{identity.start_ticks}-{next(_SERIAL)}"
    executor = LocalExecutor(home)
    configuration = varied(configuration, trial.variables)
    kind = cast(ServingKind, VariedKind(KINDS[configuration.deployment_config], trial.variables))
    slot = DeploymentSlot(Home.current().ensure(), executor.name, run_id)
    (home.workspaces / run_id).mkdir(parents=True)
    with (trial.folder / "stages.log").open("a+", encoding="utf-8", errors="backslashreplace", buffering=1) as log:
        try:
            _end_left_over(executor, ledger, log)
            stages = LocalStages(home, lambda name: profile)
            yield Served(home, run_id, kind, configuration, stages, log, {}, plan, trial, slot)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise InfrastructureFailed(f"no space left on the disk of {home.root}; free some") from error
            raise
        finally:
            _end(executor, ledger, run_id, log)
            slot.release()
            log.flush()
            log.seek(0)
            trial.log(log.read().encode("utf-8"))


def _end(executor: LocalExecutor, ledger: Any, run_id: str, log: TextIO) -> None:
    """End everything of a run; what cannot be ended stays in the ledger for the next trial."""
    try:
        executor.clean(run_id, ledger, log)
    except StageFailed as failed:
        log.write(f"{failed.message}\n")


def _end_left_over(executor: LocalExecutor, ledger: Any, log: TextIO) -> None:
    """End what trials of dead processes left: a run's name says whose it is."""
    for run_id in {resource.run_id for resource in ledger.alive()}:
        named = re.fullmatch(r"triage-(\d+)-(\d+)-\d+", run_id)
        if named is None or not processes.is_alive(int(named[1]), int(named[2]), processes.boot_id()):
            _end(executor, ledger, run_id, log)


@dataclass(frozen=True)
class StageWorkload:
    """A stage of a lifecycle on this machine. The stages before it must work; each step performs it once."""

    configuration: Configuration
    stage: Stage

    @property
    def enters_environments(self) -> bool:
        """No: the server is one of this host."""
        return False

    @property
    def can_be_slowed(self) -> bool:
        """Yes: a step is timed here."""
        return True

    def mistakes(self, cell: ConcreteCell) -> list[str]:
        """See `Workload.mistakes`."""
        config = ["workload_config: a stage has no configuration of its own; remove it"] if cell.cell.config else []
        return config + refusals(self.configuration, cell.variables.values)

    def run(self, trial: Trial) -> Report:
        """See `Workload.run`."""
        profile = replace_requests(default_workload(self.configuration), trial.steps)
        plan = BenchmarkPlan(enabled=True, workload=profile.name, concurrency_levels=(1,))
        with served(self.configuration, trial, plan, profile) as run:
            run.prepare(*STAGES[: STAGES.index(self.stage)])
            for _ in range(trial.steps):
                with trial.step():
                    run.attempt(self.stage)
        return Report()


@dataclass(frozen=True)
class BenchmarkWorkload:
    """A benchmark of a configuration on this machine: its server is deployed afresh and must answer its test rightly; then
    each step is one request. `workload_config.concurrency` is how many are sent at a time."""

    configuration: Configuration
    workload: str
    concurrency: int

    @property
    def enters_environments(self) -> bool:
        """No: the server is one of this host."""
        return False

    @property
    def can_be_slowed(self) -> bool:
        """No: the load client times its requests itself, and a pause between them is in none of their times."""
        return False

    def mistakes(self, cell: ConcreteCell) -> list[str]:
        """See `Workload.mistakes`."""
        return whole_numbers(cell.cell.config, {"concurrency": 64}) + refusals(
            self.configuration, cell.variables.values
        )

    def run(self, trial: Trial) -> Report:
        """See `Workload.run`."""
        profile = replace_requests(catalog_workload(self.workload), trial.steps)
        concurrency = int(trial.config.get("concurrency", self.concurrency))
        plan = BenchmarkPlan(enabled=True, workload=self.workload, concurrency_levels=(concurrency,))
        with served(self.configuration, trial, plan, profile) as run:
            run.prepare(*STAGES[: STAGES.index(Stage.TEST)])
            run.attempt(Stage.TEST)
            outputs = run.attempt(Stage.BENCHMARK)
            times, errors = _latencies(run.home.root / outputs["raw"][str(concurrency)])
        return Report(
            passed=not errors,
            step_times_ms=tuple(times),
            reason=f"{len(errors)} of {trial.steps} requests failed, the first with {errors[0]}" if errors else None,
            label="request failed" if errors else None,
            metrics={"concurrency": concurrency, "requests": trial.steps, "errors": len(errors)},
        )


def whole_numbers(config: Mapping[str, Any], most: Mapping[str, int]) -> list[str]:
    """Return the mistakes of a workload's configuration that knows whole numbers alone, each from 1 to its `most`."""
    problems = [
        f"workload_config.{name}: unknown key; known are {', '.join(most)}" for name in config if name not in most
    ]
    for name, limit in most.items():
        value = config.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= limit:
            problems.append(f"workload_config.{name}: must be a whole number from 1 to {limit}")
    return problems


def default_workload(configuration: Configuration) -> WorkloadProfile:
    """Return the traffic that a configuration is measured with on this machine."""
    return catalog_workload(
        "local_chat" if configuration.deployment_config == "transformers-llamacpp" else "local_predict"
    )


def replace_requests(profile: WorkloadProfile, requests: int) -> WorkloadProfile:
    """Return a workload with so many requests."""
    return cast(WorkloadProfile, replace(cast(Any, profile), requests=requests))


def _latencies(path: Path) -> tuple[list[float], list[str]]:
    """Return the request latencies of a file of raw records, in ms, and the kinds of errors in it."""
    times, errors = [], []
    for line in path.read_text("utf-8").splitlines():
        record = json.loads(line)
        if record["error"] is None:
            times.append(float(record["metrics"]["request_latency"]["value"]))
        else:
            errors.append(f"{record['error']['type']}: {record['error']['message']}")
    return times, errors
