"""One run of the local executor, stage by stage, with the real ledger."""

import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.outcome import BenchmarkPlan
from mlcc_dagster.core.stages import Stage
from resources.executor import StageRequest
from resources.home import Home
from resources.ledger import Ledger
from resources.local.executor import LocalExecutor


@dataclass(frozen=True)
class SmallWorkload:
    """A workload that takes a moment."""

    name: str = "small"
    input_tokens_mean: int | None = None
    output_tokens_mean: int | None = None
    streaming: bool = False
    requests: int = 8


def configuration(**changes: Any) -> Configuration:
    """A configuration that runs here: the forest behind FastAPI on one CPU."""
    values = {
        "deployment_config": "http-fastapi",
        "model_name": "sklearn/random-forest-digits",
        "model_family": "random-forest",
        "instance_type": "local.1cpu",
        "region": "local",
    }
    return Configuration(**values | changes)


@dataclass
class Run:
    """A run in a home of its own; `outputs` are those of all stages so far."""

    home: Home
    run_id: str
    configuration: Configuration
    workload: SmallWorkload = field(default_factory=SmallWorkload)
    outputs: dict[str, Any] = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.home.database)
        self.executor = LocalExecutor(self.home, workload=lambda name: self.workload)
        self.workspace.mkdir(parents=True, exist_ok=True)
        self.log_path.parent.mkdir(parents=True, exist_ok=True)

    @property
    def workspace(self) -> Path:
        return self.home.workspaces / self.run_id

    @property
    def log_path(self) -> Path:
        return self.home.logs / f"{self.run_id}.log"

    def perform(self, *stages: Stage, seconds: float = 120.0) -> Mapping[str, Any]:
        """Perform stages one after the other as a runner does, outputs through JSON; return those of the last."""
        last: Mapping[str, Any] = {}
        for stage in stages:
            with self.log_path.open("a", buffering=1) as log:
                request = StageRequest(
                    run_id=self.run_id,
                    configuration=self.configuration,
                    stage=stage,
                    workspace=self.workspace,
                    raw=self.home.raw / self.run_id,
                    log=log,
                    outputs=dict(self.outputs),
                    benchmark=BenchmarkPlan(enabled=True, workload="small", concurrency_levels=(1, 2)),
                    deadline=time.monotonic() + seconds,
                    ledger=self.ledger,
                    stop=self.stop,
                )
                last = json.loads(json.dumps(dict(self.executor.perform(request))))
            self.outputs |= last
        return last

    def clean(self) -> None:
        self.executor.clean(self.run_id, self.ledger, sys.stdout)

    def log(self) -> str:
        return self.log_path.read_text()


TO_PUSH = (Stage.GENERATE, Stage.VALIDATE, Stage.BUILD, Stage.PUSH)
StartRun = Callable[..., Run]
