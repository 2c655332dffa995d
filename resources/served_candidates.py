"""A candidate served by the local executor for as long as it is asked: from its bundle to an address, and back to nothing.

Belongs here: what a bundle says of its candidate, deploying that as any run is deployed, and its end. Not here: asking
(`evaluations.py`), the stages (`local/`), digests of bundles (`candidate_bundles.py`).

It is no run of the CI table: nothing is proven, and no configuration is claimed. So that the reaper still knows it, the ledger
holds a word that it is kept for one lease, renewed while the process lives; whoever finds that lease over ends it.
"""

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from catalog.model import Catalog
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.exceptions import InvalidInput, MlccError, StageFailed, UsageError
from mlcc_dagster.core.outcome import BenchmarkPlan
from mlcc_dagster.core.stages import DEFAULT_LIMIT_SECONDS, Stage
from resources.executor import StageRequest
from resources.home import Home
from resources.ledger import Ledger
from resources.local.executor import LocalExecutor
from resources.stage_runner import KEPT, clean_run

DESCRIPTION = "bundle.json"
SCHEMA_VERSION = 1
PREFIX = "evaluate-"
"""How the runs of evaluations are named in ledger, logs and workspaces."""

STAGES: tuple[Stage, ...] = (Stage.GENERATE, Stage.VALIDATE, Stage.BUILD, Stage.PUSH, Stage.DEPLOY)
DEFAULT_DEPLOYMENT, DEFAULT_INSTANCE, REGION = "transformers-llamacpp", "local.1cpu", "local"

_KNOWN = (
    "schema_version",
    "model_name",
    "quantization",
    "adapter",
    "deployment_config",
    "instance_type",
    "max_model_len",
    "serving_params",
)
_NO_BENCHMARK = BenchmarkPlan(enabled=False, workload="none", concurrency_levels=())
_SLOT_POLL_SECONDS = 0.5


def read_description(bundle: Path, catalog: Catalog) -> Configuration:
    """Return the configuration that a bundle's `bundle.json` describes.

    Raises `UsageError` where there is none that can be read, `InvalidInput` with every mistake of it.
    """
    path = bundle / DESCRIPTION
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"cannot read {path} ({reason}); a candidate is a folder with a {DESCRIPTION} that names model_name and quantization"
        ) from error
    if not isinstance(document, dict):
        raise InvalidInput(str(path), ["must be an object that names model_name and quantization"])
    problems = [
        f"{name}: unknown; known are {', '.join(_KNOWN)}" for name in sorted(document.keys() - frozenset(_KNOWN))
    ]
    if document.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
        problems.append(f"schema_version: is {document['schema_version']!r} and this version reads {SCHEMA_VERSION}")
    texts = {}
    for name, default in (
        ("model_name", None),
        ("quantization", None),
        ("deployment_config", DEFAULT_DEPLOYMENT),
        ("instance_type", DEFAULT_INSTANCE),
    ):
        value = document.get(name, default)
        if not isinstance(value, str) or not value:
            problems.append(f"{name}: must be a text, not {value!r}")
        texts[name] = str(value)
    if document.get("adapter") is not None:
        problems.append("adapter: is not served on this machine; leave it null, or evaluate where adapters are served")
    length, parameters = document.get("max_model_len"), document.get("serving_params") or {}
    if length is not None and type(length) is not int:
        problems.append(f"max_model_len: must be a whole number or absent, not {length!r}")
    if not isinstance(parameters, dict) or not all(isinstance(value, (str, int)) for value in parameters.values()):
        problems.append("serving_params: must be an object of texts")
    if problems:
        raise InvalidInput(str(path), problems)
    return Configuration(
        deployment_config=texts["deployment_config"],
        model_name=texts["model_name"],
        model_family=catalog.family_of(texts["model_name"]),
        instance_type=texts["instance_type"],
        region=REGION,
        quantization=texts["quantization"],
        max_model_len=length,
        serving_params={name: str(value) for name, value in parameters.items()},
    )


@dataclass(frozen=True)
class Served:
    """A candidate that answers at `endpoint`. `stopped` is set when its lease was lost; `ended` says why its server does not run
    any more, none while it runs."""

    endpoint: str
    stopped: threading.Event
    ended: Callable[[], str | None]


@contextmanager
def served(home: Home, configuration: Configuration, say: Callable[[str], None]) -> Iterator[Served]:
    """Deploy a configuration, yield where it answers, and leave nothing of it behind. `say` gets a sentence per step.

    Raises `UsageError` where the local executor cannot run it, `MlccError` where a stage fails.
    """
    executor = LocalExecutor(home)
    refusal = executor.can_run(configuration)
    if refusal is not None:
        raise UsageError(f"this candidate cannot be served here: {refusal}")
    ledger = Ledger(home.database)
    _end_dead(home, executor, ledger)
    run_id = f"{PREFIX}{secrets.token_hex(6)}"
    ledger.intend(run_id=run_id, kind=KEPT, ref="an evaluation that runs", deadline_seconds=home.settings.lease_seconds)
    (home.logs / run_id).mkdir(parents=True, exist_ok=True)
    try:
        with _Lease(ledger, run_id, home) as lease:
            outputs = _deployed(home, executor, ledger, run_id, configuration, lease, say)
            yield Served(outputs["endpoint"], lease.lost, lambda: _ended(home, run_id, configuration, outputs, ledger))
    finally:
        with (home.logs / run_id / "clean.log").open("a", encoding="utf-8", buffering=1) as log:
            try:
                clean_run(run_id, executor=executor, home=home, ledger=ledger, log=log)
            except StageFailed as error:
                raise MlccError(error.message) from error


def _deployed(
    home: Home,
    executor: LocalExecutor,
    ledger: Ledger,
    run_id: str,
    configuration: Configuration,
    lease: "_Lease",
    say: Callable[[str], None],
) -> dict[str, Any]:
    outputs: dict[str, Any] = {}
    for stage in STAGES:
        if stage is Stage.DEPLOY:
            _wait_for_slot(home, executor, ledger, run_id, lease, say)
        say(f"{stage.value} {configuration}")
        path = home.logs / run_id / f"{stage.value}.log"
        with path.open("a", encoding="utf-8", errors="backslashreplace", buffering=1) as log:
            request = _request(home, run_id, configuration, stage, outputs, ledger, log, lease.lost)
            try:
                outputs |= json.loads(json.dumps(dict(executor.perform(request))))
            except StageFailed as error:
                raise MlccError(f"stage {stage.value} of the candidate failed: {error.message}; see {path}") from error
    return outputs


def _request(
    home: Home,
    run_id: str,
    configuration: Configuration,
    stage: Stage,
    outputs: Mapping[str, Any],
    ledger: Ledger,
    log: TextIO,
    stop: threading.Event,
) -> StageRequest:
    workspace = home.workspaces / run_id
    workspace.mkdir(parents=True, exist_ok=True)
    return StageRequest(
        run_id=run_id,
        configuration=configuration,
        stage=stage,
        workspace=workspace,
        raw=home.raw / run_id,
        log=log,
        outputs=dict(outputs),
        benchmark=_NO_BENCHMARK,
        deadline=time.monotonic() + DEFAULT_LIMIT_SECONDS[stage],
        ledger=ledger,
        stop=stop,
    )


def _ended(
    home: Home, run_id: str, configuration: Configuration, outputs: Mapping[str, Any], ledger: Ledger
) -> str | None:
    from resources.local import deployment

    with (home.logs / run_id / "asking.log").open("a", encoding="utf-8", buffering=1) as log:
        return deployment.tell_if_ended(
            _request(home, run_id, configuration, Stage.TEST, outputs, ledger, log, threading.Event())
        )


def _wait_for_slot(
    home: Home, executor: LocalExecutor, ledger: Ledger, run_id: str, lease: "_Lease", say: Callable[[str], None]
) -> None:
    """Take a deployment slot, as every run does before it deploys. Raises `MlccError` where none becomes free in time."""
    settings = home.settings
    give_up, told = time.monotonic() + settings.slot_wait_seconds, False
    while not ledger.acquire_slot(executor.name, run_id, capacity=settings.slots, lease_seconds=settings.lease_seconds):
        holders = ", ".join(slot.run_id for slot in ledger.slots(executor.name))
        if not told:
            say(f"waiting for a deployment slot, held by {holders}")
            told = True
        if time.monotonic() >= give_up or lease.lost.wait(_SLOT_POLL_SECONDS):
            raise MlccError(f"no deployment slot became free, held by {holders}; let them end, or run `mlcc reap`")


def _end_dead(home: Home, executor: LocalExecutor, ledger: Ledger) -> None:
    """End evaluations whose process died: their lease is over."""
    now = time.time()
    for resource in ledger.alive():
        if resource.kind == KEPT and resource.run_id.startswith(PREFIX) and resource.deadline <= now:
            with (home.logs / resource.run_id / "clean.log").open("a", encoding="utf-8", buffering=1) as log:
                try:
                    clean_run(resource.run_id, executor=executor, home=home, ledger=ledger, log=log)
                except StageFailed as error:
                    log.write(f"{error.message}\n")


class _Lease:
    """Renews what an evaluation holds for as long as the block lasts; `lost` is set when somebody ended it."""

    def __init__(self, ledger: Ledger, run_id: str, home: Home) -> None:
        self.lost = threading.Event()
        self._left = threading.Event()
        self._ledger, self._run_id, self._settings = ledger, run_id, home.settings
        self._thread = threading.Thread(target=self._run, name=f"lease {run_id}", daemon=True)

    def __enter__(self) -> "_Lease":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._thread.join()

    def _run(self) -> None:
        renewed = time.monotonic()
        while not self._left.wait(self._settings.beat_seconds):
            try:
                if not any(each.kind == KEPT for each in self._ledger.alive(self._run_id)):
                    self.lost.set()
                    return
                self._ledger.prolong(self._run_id, self._settings.lease_seconds)
                self._ledger.beat_slots(self._run_id, self._settings.lease_seconds)
                renewed = time.monotonic()
            except Exception:
                # a ledger that cannot be reached for a moment must not end an evaluation; for a lease, it must
                if time.monotonic() - renewed >= self._settings.lease_seconds:
                    self.lost.set()
                    return
