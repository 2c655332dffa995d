"""What our front costs beside llama.cpp's own endpoint, and what each quantization costs beside full precision.

Belongs here: deploying the real server through the local executor and asking it. The engine listens on a Unix socket in
the workspace of its run, so the same engine is asked with and without the front.
"""

import io
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.pairs import Comparison, compare
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.outcome import BenchmarkPlan
from mlcc_dagster.core.stages import Stage
from resources.executor import StageRequest
from resources.home import Home
from resources.ledger import Ledger
from resources.local.executor import LocalExecutor

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
QUANTIZATIONS = ("q8_0", "q4_1", "q4_0")
FULL = "none"


def measure() -> Iterator[Comparison]:
    """Compare the front with the engine's own endpoint, then each quantization with F16, on the same requests."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        home = Home(Path(folder)).ensure()
        front, engine = stack.enter_context(deployed(home, "q4_1"))
        for name, asked in (
            ("1 token, whole", question(tokens=1)),
            ("32 tokens, whole", question(tokens=32)),
            ("32 tokens, streamed", question(tokens=32, stream=True)),
        ):
            through = asking(front, "/invocations", asked)
            yield compare(f"front / engine: {name}", through, asking(engine, "/v1/chat/completions", asked), runs=15)
        whole, _ = stack.enter_context(deployed(home, FULL))
        work = question(tokens=32)
        for quantization in QUANTIZATIONS:
            with ExitStack() as one:
                client = front if quantization == "q4_1" else one.enter_context(deployed(home, quantization))[0]
                yield compare(
                    f"{quantization} / F16: 32 tokens, 1 thread",
                    asking(client, "/invocations", work),
                    asking(whole, "/invocations", work),
                    runs=8,
                )


def question(*, tokens: int, stream: bool = False) -> dict[str, Any]:
    """Return one request that is answered with exactly so many tokens."""
    messages = [{"role": "user", "content": "Tell me about the history of the city of Paris."}]
    return {"messages": messages, "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "stream": stream}


def asking(client: httpx.Client, path: str, document: Mapping[str, Any]) -> Callable[[], None]:
    """Return a call that sends a request and reads the whole answer; raises where it is no success."""

    def ask() -> None:
        with client.stream("POST", path, json=document) as answer:
            answer.read()
            answer.raise_for_status()

    return ask


@contextmanager
def deployed(home: Home, quantization: str) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Build and deploy one quantization on one CPU, and yield a client of its front and one of its engine."""
    configuration = Configuration(
        deployment_config="transformers-llamacpp",
        model_name=MODEL,
        model_family="smollm2",
        instance_type="local.1cpu",
        region="local",
        quantization=quantization,
    )
    run_id, ledger = f"bench-{quantization.replace('_', '-')}-g1", Ledger(home.database)
    executor = LocalExecutor(home)
    workspace, log_path = home.workspaces / run_id, home.logs / f"{run_id}.log"
    workspace.mkdir(parents=True)
    log_path.parent.mkdir(parents=True, exist_ok=True)
    outputs: dict[str, Any] = {}
    try:
        for stage in (Stage.GENERATE, Stage.VALIDATE, Stage.BUILD, Stage.PUSH, Stage.DEPLOY):
            with log_path.open("a", buffering=1) as log:
                request = StageRequest(
                    run_id=run_id,
                    configuration=configuration,
                    stage=stage,
                    workspace=workspace,
                    raw=home.raw / run_id,
                    log=log,
                    outputs=dict(outputs),
                    benchmark=BenchmarkPlan(enabled=False, workload="none", concurrency_levels=()),
                    deadline=time.monotonic() + 300,
                    ledger=ledger,
                    stop=threading.Event(),
                )
                outputs |= json.loads(json.dumps(dict(executor.perform(request))))
        (socket,) = workspace.rglob("engine.sock")
        transport = httpx.HTTPTransport(uds=str(socket))
        with (
            httpx.Client(base_url=outputs["endpoint"], timeout=120) as front,
            httpx.Client(transport=transport, base_url="http://engine", timeout=120) as engine,
        ):
            yield front, engine
    finally:
        executor.clean(run_id, ledger, io.StringIO())
