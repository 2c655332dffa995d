"""Outcomes made up by a small model, for scale and planning studies: failures by rates, request times by a roofline.

Belongs here: the model, its assumptions and its seed. Not here: the executor that plays them (`replay.py`), outcomes
that really happened (`recorded_outcomes.py`). Nothing here was measured, except what the tables say is from a data
sheet.
"""

import hashlib
import heapq
import json
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from catalog.model import Catalog, Workload
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.exceptions import StageFailed, UsageError
from mlcc_dagster.core.failures import category_named
from mlcc_dagster.core.outcome import BenchmarkPlan
from mlcc_dagster.core.stages import Stage
from resources.played import Played


@dataclass(frozen=True)
class ModelledFailure:
    """A way to fail at a stage, at a rate between 0 and 1.

    What decides whether it happens: the dimensions `decided_by` (a model that a server does not support fails with it
    every time), or each run anew where there are none. `log` is what the stage prints; it goes through the normal
    classification, which must come to `category`. Without a log the stage only takes `slowdown` times as long.
    """

    category: str
    stage: Stage
    rate: float
    decided_by: tuple[str, ...] = ()
    log: str = ""
    slowdown: float = 1.0


FAILURES: tuple[ModelledFailure, ...] = (
    ModelledFailure(
        "infrastructure",
        Stage.BUILD,
        0.02,
        log="#7 [2/6] RUN pip install --no-cache-dir -r requirements.txt\n"
        "ERROR: Could not install packages due to an OSError: [Errno 104] Connection reset by peer",
    ),
    ModelledFailure("timeout", Stage.BUILD, 0.01, slowdown=30.0),
    ModelledFailure(
        "capacity",
        Stage.DEPLOY,
        0.05,
        log="Creating endpoint\nError hosting endpoint: Failed. Reason: InsufficientInstanceCapacity: "
        "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error.",
    ),
    ModelledFailure(
        "quota",
        Stage.DEPLOY,
        0.05,
        decided_by=("instance_family",),
        log="An error occurred (ResourceLimitExceeded) when calling the CreateEndpoint operation: The account-level "
        "service limit for endpoint usage is 0 Instances, with current utilization of 0 Instances.",
    ),
    ModelledFailure(
        "model_incompatibility",
        Stage.DEPLOY,
        0.08,
        decided_by=("deployment_config", "model_family"),
        log="Loading model\nValueError: Model architectures ['ForCausalLM'] are not supported for now.",
    ),
    ModelledFailure(
        "oom",
        Stage.DEPLOY,
        0.10,
        decided_by=("model_family", "instance_family", "quantization", "tp_degree"),
        log="Loading safetensors checkpoint shards: 100% Completed\n"
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.16 GiB. GPU 0 has 512.00 MiB free.",
    ),
    ModelledFailure(
        "unknown",
        Stage.TEST,
        0.01,
        log="POST /invocations\nthe answer was empty",
    ),
)
"""The failures of the model, in the order in which they are tried. Rates are assumptions, not measurements."""

STAGE_SECONDS: Mapping[Stage, float] = MappingProxyType(
    {
        Stage.STAGE: 300.0,
        Stage.GENERATE: 4.0,
        Stage.VALIDATE: 3.0,
        Stage.BUILD: 400.0,
        Stage.PUSH: 90.0,
        Stage.DEPLOY: 480.0,
        Stage.TEST: 8.0,
        Stage.TUNE: 2400.0,
        Stage.ADAPTER: 60.0,
        Stage.TEST_ADAPTER: 8.0,
        Stage.REGISTER: 3.0,
    }
)
"""Typical seconds of a stage in the model (assumptions). A benchmark takes what its requests take."""

ROOFLINE: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "cpu": (40.0, 1.0),
        "NVIDIA L4": (300.0, 121.0),
        "NVIDIA A10G": (600.0, 70.0),
        "NVIDIA L40S": (864.0, 362.0),
        "NVIDIA A100": (1555.0, 312.0),
        "NVIDIA H100": (3350.0, 989.0),
        "NVIDIA H200": (4800.0, 989.0),
        "NVIDIA B200": (8000.0, 2250.0),
    }
)
"""Memory bandwidth (GB/s) and dense half-precision rate (TFLOPS) per accelerator, from the makers' data sheets."""

_BITS = MappingProxyType(
    {"fp8": 8.0, "int8": 8.0, "q8_0": 8.5, "q4_1": 5.0, "q4_0": 4.5, "awq": 4.0, "gptq": 4.0, "int4": 4.0}
)
_FULL_PRECISION_BITS = 16.0
_ASSUMED_PARAMETERS = 7e9
_ASSUMED_ACCELERATOR = "NVIDIA A10G"
_BANDWIDTH_USED, _RATE_USED = 0.6, 0.4
_OVERHEAD_MS = 15.0
_PREDICTOR_MS = 2.0
_WARM_UP_SECONDS = 10.0
_SPREAD = 0.12
_MODEL_VERSION = 1


@dataclass(frozen=True)
class Script:
    """A failure that is certain: the stage that fails and what it prints."""

    stage: Stage
    log: str


@dataclass(frozen=True)
class ModelledOutcomes:
    """Outcomes made up by a small model, the same for the same seed: nothing of it was ever measured.

    Failures by `failures`; a config_id in `script` fails as that says and in no other way. Request times follow the
    roofline of the accelerator (prefill by its rate, decoding by its bandwidth) and grow with concurrency; each request
    fails with `request_error_rate`. A model or accelerator that the catalog does not know is taken as 7e9 parameters on
    an A10G.
    """

    catalog: Catalog
    seed: int = 0
    failures: tuple[ModelledFailure, ...] = FAILURES
    script: Mapping[str, Script] = field(default_factory=lambda: MappingProxyType({}))
    request_error_rate: float = 0.002

    def __post_init__(self) -> None:
        """Raises `UsageError` for an unknown failure category or a rate outside 0..1."""
        for failure in self.failures:
            category_named(failure.category)
        rates = {failure.category: failure.rate for failure in self.failures} | {"request": self.request_error_rate}
        wrong = [f"{name} {rate:g}" for name, rate in rates.items() if not 0 <= rate <= 1]
        if wrong:
            raise UsageError(f"failure rates lie between 0 and 1, not {', '.join(wrong)}; correct them")

    @property
    def digest(self) -> str:
        """SHA-256 over version, seed, failures, script and rate; of the catalog nothing."""
        script = sorted((key, each.stage.value, each.log) for key, each in self.script.items())
        return _sha256(_MODEL_VERSION, self.seed, self.failures, script, self.request_error_rate).hex()

    def refusal(self, configuration: Configuration) -> str | None:
        """The model has an outcome for everything."""
        return None

    def play(self, run_id: str, configuration: Configuration, stage: Stage, plan: BenchmarkPlan) -> Played:
        """Return the modelled outcome. Raises `StageFailed` for a workload that the catalog does not have."""
        if stage is Stage.BENCHMARK:
            played = self._benchmark(run_id, configuration, plan)
        else:
            played = Played(self._seconds(run_id, stage), f"{stage.value} of {configuration}")
        scripted = self.script.get(run_id.rpartition("-g")[0])
        if scripted is not None:
            return Played(played.seconds, scripted.log, failed=True) if scripted.stage is stage else played
        for failure in self.failures:
            if failure.stage is stage and self._happens(failure, run_id, configuration):
                if failure.log:
                    return Played(played.seconds, failure.log, failed=True)
                played = replace(played, seconds=round(played.seconds * failure.slowdown, 3))
        return played

    def _happens(self, failure: ModelledFailure, run_id: str, configuration: Configuration) -> bool:
        deciding = [getattr(configuration.vector, name) for name in failure.decided_by] or [run_id]
        return _uniform(self.seed, failure.category, failure.stage.value, *deciding) < failure.rate

    def _seconds(self, run_id: str, stage: Stage) -> float:
        draw = _uniform(self.seed, run_id, stage.value, "seconds")
        return round(STAGE_SECONDS.get(stage, 1.0) * (0.8 + 0.5 * draw), 3)

    def _benchmark(self, run_id: str, configuration: Configuration, plan: BenchmarkPlan) -> Played:
        workload = self.catalog.workloads.get(plan.workload)
        if workload is None:
            raise StageFailed(f"the catalog has no workload {plan.workload!r} to model", category="code_bug")
        records, log, seconds = {}, [], _WARM_UP_SECONDS
        for level in plan.concurrency_levels:
            lines = [*self._requests(run_id, configuration, workload, level)]
            if all(line["error"] for line in lines):
                return Played(round(seconds, 3), "no request succeeded: HTTP 503 from the server", failed=True)
            records[level] = "".join(json.dumps(line) + "\n" for line in lines)
            seconds += max(line["metadata"]["request_end_ns"] for line in lines) / 1e9
            log.append(f"{workload.name}: {len(lines)} requests at concurrency {level}")
        return Played(round(seconds, 3), "\n".join(log), records=records)

    def _requests(
        self, run_id: str, configuration: Configuration, workload: Workload, level: int
    ) -> Iterator[dict[str, Any]]:
        """Yield request records in AIPerf's form: `level` users, each sending its next request when the last one
        ended."""
        draws = random.Random(int.from_bytes(_sha256(self.seed, run_id, workload.name, level)))
        prefill_ms, decode_ms = self._roofline(configuration, workload, level)
        users = [0] * level
        for number in range(workload.requests):
            start = heapq.heappop(users)
            spread = math.exp(draws.gauss(0.0, _SPREAD))
            tokens = _around(workload.output_tokens_mean, draws)
            asked = _around(workload.input_tokens_mean, draws)
            if tokens is None:
                first_ns, between_ns, latency_ns = 0, 0, round(_PREDICTOR_MS * spread * (0.7 + 0.3 * level) * 1e6)
            else:
                first_ns = round(prefill_ms * spread * 1e6)
                between_ns = round(decode_ms * math.exp(draws.gauss(0.0, _SPREAD)) * 1e6)
                latency_ns = first_ns + between_ns * (tokens - 1)
            failed = draws.random() < self.request_error_rate
            end = start + (first_ns or latency_ns if failed else latency_ns)
            heapq.heappush(users, end)
            metrics: dict[str, Any] = {}
            if not failed:
                metrics["request_latency"] = {"value": latency_ns / 1e6, "unit": "ms"}
                if tokens is not None:
                    metrics["output_sequence_length"] = {"value": tokens, "unit": "tokens"}
                    metrics["output_token_count"] = {"value": tokens, "unit": "tokens"}
                    metrics["input_sequence_length"] = {"value": asked, "unit": "tokens"}
                if workload.streaming and tokens is not None:
                    metrics["time_to_first_token"] = {"value": first_ns / 1e6, "unit": "ms"}
                    metrics["inter_token_latency"] = {"value": between_ns / 1e6, "unit": "ms"}
            yield {
                "metadata": {
                    "session_num": number,
                    "request_start_ns": start,
                    "request_end_ns": end,
                    "benchmark_phase": "profiling",
                    "was_cancelled": False,
                },
                "metrics": metrics,
                "error": {"code": 503, "type": "HTTPError", "message": "modelled failure"} if failed else None,
            }

    def _roofline(self, configuration: Configuration, workload: Workload, level: int) -> tuple[float, float]:
        """Return milliseconds to the first token and between tokens, at a concurrency."""
        model = self.catalog.models.get(configuration.model_name or "")
        instance = self.catalog.instances.get(configuration.instance_type)
        accelerator = instance.accelerator if instance is not None else _ASSUMED_ACCELERATOR
        bandwidth, rate = ROOFLINE.get(accelerator, ROOFLINE[_ASSUMED_ACCELERATOR])
        parameters = (model.parameters if model is not None else None) or _ASSUMED_PARAMETERS
        bits = _BITS.get(configuration.quantization, _FULL_PRECISION_BITS)
        shards = max(1, configuration.tp_degree)
        decode = parameters * bits / 8 / (bandwidth * 1e9 * _BANDWIDTH_USED * shards) * 1e3
        prefill = 2 * parameters * (workload.input_tokens_mean or 1) / (rate * 1e12 * _RATE_USED * shards) * 1e3
        return _OVERHEAD_MS + prefill * (1 + 0.5 * (level - 1)), decode * (1 + 0.03 * (level - 1))


def _sha256(*parts: Any) -> bytes:
    # The texts are length-prefixed, so that no two lists of parts give the same bytes.
    texts = [str(part) for part in parts]
    return hashlib.sha256("".join(f"{len(text)}:{text}" for text in texts).encode()).digest()


def _uniform(*parts: Any) -> float:
    """Return a number in [0, 1) that the parts alone decide."""
    return int.from_bytes(_sha256(*parts)[:7]) / 2**56


def _around(mean: int | None, draws: random.Random) -> int | None:
    return None if mean is None else max(2, round(mean * (0.8 + 0.4 * draws.random())))
