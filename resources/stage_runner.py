"""Runs one stage of one run with any executor: log, workspace, heartbeat, slot, time, failure; and cleans up after a
run.

Belongs here: what is the same for all executors. Not here: performing a stage (executors), the order of stages
(`lifecycle.py`), the rules that read a failing log (`core.failures`).
"""

import contextlib
import json
import shutil
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, TextIO

from mlcc_dagster.core import failures
from mlcc_dagster.core.exceptions import StageFailed
from mlcc_dagster.core.failures import Classification
from mlcc_dagster.core.outcome import Outcome, StageResult, StageStatus
from mlcc_dagster.core.records import utc_text
from mlcc_dagster.core.stages import DEFAULT_LIMIT_SECONDS, Stage
from resources.ci_table import CiTable
from resources.executor import Executor, StageRequest
from resources.heartbeat import Heartbeat
from resources.home import Home
from resources.ledger import Ledger

WORKSPACE = "workspace"
"""The ledger's kind of a run's scratch folder, the one resource that this module makes and ends itself."""

KEPT = "kept"
"""The ledger's kind of a word that a run's deployment is to outlive the run, until the entry's deadline."""

ERROR_CHARACTERS = 500
_SLOT_POLL_SECONDS = 0.5
_FOLLOW_SECONDS = 0.2


def run_stage(
    stage: Stage,
    outcome: Outcome,
    *,
    executor: Executor,
    home: Home,
    ci: CiTable,
    ledger: Ledger,
    limit_seconds: float,
    on_line: Callable[[str], None] | None = None,
) -> StageResult:
    """Run one stage and return its result; a failing or crashing stage is a result, never an exception.

    The log `logs/<run_id>/<stage>.log` is appended to; `on_line` gets each of its lines, from another thread, as they
    come. Deploy first waits for a slot of the executor's pool; neither its limit nor its seconds count that wait.
    `limit_seconds` is in wall seconds. A cancellation (`BaseException`) passes through after the log was closed.
    """
    clock = _Stopwatch()
    try:
        return _run_logged(
            stage,
            outcome,
            executor=executor,
            home=home,
            ci=ci,
            ledger=ledger,
            limit_seconds=limit_seconds,
            on_line=on_line,
            clock=clock,
        )
    except OSError as error:
        # the log itself could not be kept (disk full, folder gone): there is no text to classify
        message = f"the log of stage {stage} could not be written ({error.strerror or error})"
        return StageResult(
            stage,
            StageStatus.FAIL,
            clock.started_at,
            clock.seconds(),
            error=message,
            failure=failures.known(stage.value, "infrastructure", message),
        )


def _run_logged(
    stage: Stage,
    outcome: Outcome,
    *,
    executor: Executor,
    home: Home,
    ci: CiTable,
    ledger: Ledger,
    limit_seconds: float,
    on_line: Callable[[str], None] | None,
    clock: "_Stopwatch",
) -> StageResult:
    run_id = outcome.claim.run_id
    settings = home.settings
    path = home.logs / run_id / f"{stage.value}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    offset = path.stat().st_size
    outputs: Mapping[str, Any] = MappingProxyType({})
    failed: StageFailed | None = None
    crashed = False
    with (
        _following(path, offset, on_line),
        path.open("a", encoding="utf-8", errors="backslashreplace", buffering=1) as log,
        Heartbeat(
            ci,
            ledger,
            outcome.claim,
            lease_seconds=settings.lease_seconds,
            beat_seconds=settings.beat_seconds,
        ) as heartbeat,
    ):
        try:
            if stage is Stage.CLEAN:
                clean_run(run_id, executor=executor, home=home, ledger=ledger, log=log)
            else:
                if stage is Stage.DEPLOY:
                    # what the run holds already must outlive the wait
                    ledger.prolong(run_id, settings.slot_wait_seconds + DEFAULT_LIMIT_SECONDS[Stage.CLEAN])
                    try:
                        _wait_for_slot(executor.name, run_id, home=home, ledger=ledger, log=log, stop=heartbeat.stop)
                    finally:
                        clock.restart()
                outputs = _perform(
                    stage,
                    outcome,
                    executor=executor,
                    home=home,
                    ledger=ledger,
                    limit_seconds=limit_seconds,
                    log=log,
                    stop=heartbeat.stop,
                )
                if heartbeat.stop.is_set():
                    raise StageFailed(str(heartbeat.lost), category="infrastructure")
        except StageFailed as error:
            failed = error
            outputs = MappingProxyType(dict(error.outputs))
            log.write(f"{error.message}\n")
        except Exception:
            crashed = True
            log.write(traceback.format_exc())
        seconds = clock.seconds()
    pointer = str(path.relative_to(home.root))
    if failed is None and not crashed:
        return StageResult(stage, StageStatus.PASS, clock.started_at, seconds, log=pointer, outputs=outputs)
    said = _read_from(path, offset)
    return StageResult(
        stage,
        StageStatus.FAIL,
        clock.started_at,
        seconds,
        log=pointer,
        error=said.strip()[-ERROR_CHARACTERS:],
        failure=_classified(stage, failed, said),
        outputs=outputs,
    )


def clean_run(run_id: str, *, executor: Executor, home: Home, ledger: Ledger, log: TextIO) -> None:
    """End everything the ledger holds for a run: what the executor made, the workspace, the slots.

    Idempotent and safe from any process. An intent that never became a resource is released as such; raises
    `StageFailed` naming everything that could not be ended, after all the rest was.
    """
    problems: list[str] = []
    ended = False
    try:
        executor.clean(run_id, ledger, log)
        ended = True
    except StageFailed as error:
        problems.append(error.message)
    except Exception as error:
        # a crash of one part of cleaning must not keep the workspace and the slot from being given back
        log.write(traceback.format_exc())
        problems.append(f"the executor's clean crashed ({error})")
    workspace = home.workspaces / run_id
    for resource in ledger.alive(run_id):
        if resource.kind == WORKSPACE:
            try:
                if workspace.exists():
                    shutil.rmtree(workspace)
            except OSError as error:
                problems.append(f"workspace {workspace} ({error.strerror})")
            else:
                ledger.release(resource.id, "removed")
        elif ended and resource.state == "intended":
            ledger.release(resource.id, "over" if resource.kind == KEPT else "never came to exist")
        elif ended:
            problems.append(f"{resource.kind} {resource.ref} is still in the ledger")
    ledger.release_slots(run_id)
    if problems:
        raise StageFailed(f"clean of {run_id} left something behind: {'; '.join(problems)}; run `mlcc reap`")


def _perform(
    stage: Stage,
    outcome: Outcome,
    *,
    executor: Executor,
    home: Home,
    ledger: Ledger,
    limit_seconds: float,
    log: TextIO,
    stop: threading.Event,
) -> Mapping[str, Any]:
    run_id = outcome.claim.run_id
    # whatever the run holds must outlive this stage and the clean after it, and a run that hangs longer is reaped
    lifetime = limit_seconds + DEFAULT_LIMIT_SECONDS[Stage.CLEAN]
    workspace = _workspace(run_id, home=home, ledger=ledger, deadline_seconds=lifetime)
    # a wait for a slot had put it off for longer than the stage may take now
    ledger.put_off(run_id, lifetime)
    raw = home.raw / run_id
    raw.mkdir(parents=True, exist_ok=True)
    outputs = executor.perform(
        StageRequest(
            run_id=run_id,
            configuration=outcome.configuration,
            stage=stage,
            workspace=workspace,
            raw=raw,
            log=log,
            outputs={name: value for result in outcome.results for name, value in result.outputs.items()},
            benchmark=outcome.benchmark,
            deadline=time.monotonic() + limit_seconds,
            ledger=ledger,
            stop=stop,
        )
    )
    # what the stage made with its own limit as deadline must not be due before the next one begins
    ledger.prolong(run_id, DEFAULT_LIMIT_SECONDS[Stage.CLEAN])
    # outputs cross processes and restarts as JSON: what is not JSON fails here and not in a later stage
    return MappingProxyType(json.loads(json.dumps(dict(outputs), allow_nan=False)))


def _workspace(run_id: str, *, home: Home, ledger: Ledger, deadline_seconds: float) -> Path:
    workspace = home.workspaces / run_id
    if not any(resource.kind == WORKSPACE for resource in ledger.alive(run_id)):
        resource_id = ledger.intend(
            run_id=run_id, kind=WORKSPACE, ref=str(workspace.relative_to(home.root)), deadline_seconds=deadline_seconds
        )
        workspace.mkdir(parents=True, exist_ok=True)
        ledger.confirm(resource_id, {})
    workspace.mkdir(parents=True, exist_ok=True)
    return workspace


def _wait_for_slot(pool: str, run_id: str, *, home: Home, ledger: Ledger, log: TextIO, stop: threading.Event) -> None:
    settings = home.settings
    give_up = time.monotonic() + settings.slot_wait_seconds
    told: tuple[str, ...] | None = None
    while not ledger.acquire_slot(pool, run_id, capacity=settings.slots, lease_seconds=settings.lease_seconds):
        holders = tuple(slot.run_id for slot in ledger.slots(pool))
        if holders != told:
            told = holders
            log.write(f"waiting for one of {settings.slots} deployment slots of {pool}, held by {', '.join(holders)}\n")
        if time.monotonic() >= give_up:
            raise StageFailed(
                f"no deployment slot of {pool} became free in {settings.slot_wait_seconds:g} s, "
                f"held by {', '.join(holders)}",
                category="capacity",
            )
        if stop.wait(_SLOT_POLL_SECONDS):
            raise StageFailed("the run lost its lease while it waited for a slot", category="infrastructure")


def _classified(stage: Stage, failed: StageFailed | None, said: str) -> Classification:
    category = None if failed is None else failed.category
    if failed is not None and category is not None and category in failures.CATEGORIES:
        return failures.known(stage.value, category, failed.message)
    return failures.classify(stage.value, said)


class _Stopwatch:
    """When something started, and the wall seconds since."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.started_at = utc_text(datetime.now(UTC))
        self._began = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self._began


@contextlib.contextmanager
def _following(path: Path, offset: int, on_line: Callable[[str], None] | None) -> Iterator[None]:
    """Hand on the lines that come to a log from now on. It reads the file, since a stage's processes write there
    too."""
    if on_line is None:
        yield
        return
    ended = threading.Event()
    thread = threading.Thread(
        target=_follow, args=(path, offset, on_line, ended), name=f"follow {path.name}", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _follow(path: Path, offset: int, on_line: Callable[[str], None], ended: threading.Event) -> None:
    with path.open("rb") as log:
        log.seek(offset)
        rest = b""
        while True:
            last = ended.wait(_FOLLOW_SECONDS)
            *lines, rest = (rest + log.read()).split(b"\n")
            if last and rest:
                lines.append(rest)
            try:
                for line in lines:
                    on_line(line.decode("utf-8", "replace").rstrip("\r"))
            except Exception:
                # a listener that broke must not break the stage; what it missed is in the log
                return
            if last:
                return


def _read_from(path: Path, offset: int) -> str:
    with path.open("rb") as log:
        log.seek(offset)
        return log.read().decode("utf-8", "replace")
