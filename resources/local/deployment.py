"""A deployment: one image, unpacked afresh and served under a supervisor; and its end.

Belongs here: starting it so that the ledger can always find it, waiting until it is ready, telling why it is not, cleaning up
after a run. Not here: the life of the server itself (`supervisor.py`), identity of processes (`resources.processes`).

Order matters. The ledger knows before the process exists; the process carries the run's tag from its first instruction; a
supervisor that finds its specification gone ends. So whoever cleans first takes the specification away and then ends
what carries the tag: a process between fork and exec, which carries no tag yet, finds nothing to run.
"""

import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, TextIO

import httpx

from mlcc_dagster.core.exceptions import StageFailed
from mlcc_dagster.core.stages import DEFAULT_LIMIT_SECONDS, Stage
from resources import processes
from resources.executor import StageRequest
from resources.home import Home
from resources.ledger import Ledger
from resources.local import images
from resources.local.registries import LocalStore, open_registry
from resources.local.serving import APP_FOLDER, MODEL_FOLDER, ServingKind, parameter
from resources.local.subprocesses import environment_for
from resources.local.supervisor import LOOPBACK, Specification, State
from resources.processes import Ending, ProcessIdentity

DEPLOYMENT_SECONDS = float(
    sum(seconds for stage, seconds in DEFAULT_LIMIT_SECONDS.items() if stage not in (Stage.STAGE, Stage.BUILD))
)
"""The hard deadline of a deployment: what all stages that may need it can take. It holds when nobody is left to reap."""

SERVER_GRACE_SECONDS = 5.0
"""How long a server has to end by itself before it is killed."""

_PREFIX = "deployment-"
_SPECIFICATION = "specification.json"
_STATE = "state.json"
_SERVER_LOG = "server.log"
_SUPERVISOR_LOG = "supervisor.log"
_POLL_SECONDS = 0.05
_PING_SECONDS = 2.0
_SWEEPS = 5
_PACKAGE_ROOT = Path(__file__).parents[2]


def deploy(request: StageRequest, kind: ServingKind, store: Path) -> dict[str, Any]:
    """Fetch the pushed image by digest, check it, unpack it and serve it; return when `/ping` answers 200.

    Raises `StageFailed` with the server's last words where it ends before it is ready, after its whole output went into
    the stage's log; what was started by then is in the ledger.
    """
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=request.workspace))
    root = _fetched(request, folder, store)
    port = parameter(request.configuration, "port") or 0
    specification = Specification(
        command=kind.command(model=root / MODEL_FOLDER, configuration=request.configuration),
        directory=str(root / APP_FOLDER),
        environment=environment_for(
            request, kind.environment(model=root / MODEL_FOLDER, configuration=request.configuration)
        ),
        port=port,
        state=str(folder / _STATE),
        log=str(folder / _SERVER_LOG),
        deadline=time.time() + DEPLOYMENT_SECONDS,
        grace_seconds=SERVER_GRACE_SECONDS,
        memory_limit_mb=parameter(request.configuration, "memory_limit_mb"),
    )
    specification.write(folder / _SPECIFICATION)
    lifetime = request.remaining() + DEFAULT_LIMIT_SECONDS[Stage.CLEAN]
    run_id, ledger = request.run_id, request.ledger
    process_entry = ledger.intend(
        run_id=run_id, kind="process", ref=f"supervisor of {run_id}", deadline_seconds=lifetime
    )
    port_entry = ledger.intend(run_id=run_id, kind="port", ref=f"{LOOPBACK}:{port or 'any'}", deadline_seconds=lifetime)
    began = time.monotonic()
    supervisor = _start_supervisor(request, folder)
    ledger.confirm(process_entry, supervisor.to_json() | {"folder": str(folder)})
    state = _wait_bound(request, folder, supervisor)
    assert state.port is not None and state.server is not None, "a running server has a port and an identity"
    ledger.confirm(port_entry, {"port": state.port})
    request.say(f"server {state.server.pid} listens on {LOOPBACK}:{state.port} under supervisor {supervisor.pid}")
    endpoint = f"http://{LOOPBACK}:{state.port}"
    _wait_ready(request, folder, supervisor, endpoint)
    ready = time.monotonic() - began
    _copy_log(folder / _SERVER_LOG, request.log)
    request.say(f"ready after {ready:.2f} s")
    return {
        "endpoint": endpoint,
        "port": state.port,
        "supervisor": supervisor.to_json(),
        "server": state.server.to_json(),
        "deployment": str(folder),
        "model_folder": str(root / MODEL_FOLDER),
        "ready_seconds": round(ready, 3),
    }


def tell_if_ended(request: StageRequest) -> str | None:
    """Say why the run's deployment does not run any more, its output into the log; none while it runs."""
    folder = Path(request.outputs["deployment"])
    supervisor = ProcessIdentity.from_json(request.outputs["supervisor"])
    server = ProcessIdentity.from_json(request.outputs["server"])
    assert supervisor is not None and server is not None, "deploy handed both identities on"
    if processes.lives(server) and processes.lives(supervisor):
        return None
    # the server's death is seen before its supervisor has told of it
    processes.wait_dead(supervisor, SERVER_GRACE_SECONDS * 2)
    return _ending(request, folder, State.read(folder / _STATE))


def clean(run_id: str, home: Home, ledger: Ledger, log: TextIO) -> None:
    """End everything that the ledger or the tag says is of this run, remove its workspace, and release it all.

    Idempotent, from any process, in any state of a deploy. Raises `StageFailed` naming what could not be ended; that
    stays in the ledger.
    """
    workspace = home.workspaces / run_id
    for specification in workspace.glob(f"{_PREFIX}*/{_SPECIFICATION}"):
        specification.unlink(missing_ok=True)
    entries = ledger.alive(run_id)
    for entry in entries:
        identity = ProcessIdentity.from_json(entry.details) if entry.kind == "process" else None
        if identity is not None:
            # a supervisor ends its server first, which may take the server's grace
            _end(identity, entry.ref, SERVER_GRACE_SECONDS * 2, log)
    problems = _end_tagged(run_id, workspace.parent.parent, log)
    if not problems:
        problems += _remove_workspace(workspace, run_id, log)
    LocalStore(home.registry).forget_unfinished(run_id)
    for entry in entries:
        how = _released(entry.kind, entry.state, problems)
        if how is not None:
            ledger.release(entry.id, how)
    if problems:
        raise StageFailed(f"clean of {run_id} could not end {'; '.join(problems)}; run `mlcc reap` again")


def _released(kind: str, state: str, problems: list[str]) -> str | None:
    """Return how an entry is released, none where it is not ours to release or something of the run still lives."""
    if kind == "image":
        return "kept in the registry under its digest" if state == "alive" else "not published"
    if problems:
        return None
    return {"process": "ended", "port": "freed with its process", "workspace": "removed"}.get(kind)


def _end(process: ProcessIdentity, what: str, grace_seconds: float, log: TextIO) -> bool:
    ending = processes.end(process, grace_seconds)
    log.write(f"{what} (pid {process.pid}): {ending}\n")
    return ending is not Ending.SURVIVED


def _end_tagged(run_id: str, home: Path, log: TextIO) -> list[str]:
    """End all that carries the run's tag in this home, again until nothing does; return what survived."""
    for _ in range(_SWEEPS):
        found = processes.tagged(run_id, home=home)
        if not found:
            return []
        for process in found:
            _end(process, "tagged process", SERVER_GRACE_SECONDS, log)
    return [f"process {process.pid}" for process in processes.tagged(run_id, home=home)]


def _remove_workspace(workspace: Path, run_id: str, log: TextIO) -> list[str]:
    """Remove the workspace, then look once more for a process that had not begun when the first look was taken."""
    for attempt in range(_SWEEPS):
        try:
            shutil.rmtree(workspace)
            log.write(f"workspace {workspace} removed\n")
        except FileNotFoundError:
            if not workspace.exists():
                return _end_tagged(run_id, workspace.parent.parent, log)
        except OSError as error:
            # something still writes there, or another process cleans the same run
            if attempt == _SWEEPS - 1:
                return [f"workspace {workspace} ({error.strerror or error})"]
            _end_tagged(run_id, workspace.parent.parent, log)
            time.sleep(_POLL_SECONDS)
        else:
            return _end_tagged(run_id, workspace.parent.parent, log)
    return [f"workspace {workspace}"] if workspace.exists() else []


def _fetched(request: StageRequest, folder: Path, store: Path) -> Path:
    """Pull the image by digest, check every blob and unpack it; return its root folder."""
    digest, registry = request.outputs.get("image_digest"), request.outputs.get("registry")
    if digest is None or registry is None:
        raise StageFailed("there is no pushed image to deploy; run the stages build and push before")
    layout, root = folder / "image", folder / "root"
    open_registry(registry, store=store).pull(
        request.outputs["repository"], digest, layout, remaining=request.remaining
    )
    images.unpack(layout, digest, root)
    request.say(f"image {digest} fetched from {registry}, every blob checked, unpacked")
    return root


def _start_supervisor(request: StageRequest, folder: Path) -> ProcessIdentity:
    with (folder / _SUPERVISOR_LOG).open("ab") as log:
        process = subprocess.Popen(
            # -P: nothing in the working folder can stand in for the package
            [sys.executable, "-P", "-m", "resources.local.supervisor", str(folder / _SPECIFICATION)],
            env=environment_for(request, {"PYTHONPATH": str(_PACKAGE_ROOT)}),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    identity = processes.identify(process.pid)
    # collects the supervisor when it ends, so that a long-lived parent keeps no zombie
    threading.Thread(target=process.wait, name=f"supervisor {process.pid}", daemon=True).start()
    if identity is None:
        raise StageFailed(_ending(request, folder, State.read(folder / _STATE)))
    return identity


def _wait_bound(request: StageRequest, folder: Path, supervisor: ProcessIdentity) -> State:
    while True:
        left = request.remaining()
        alive, state = _look(folder, supervisor)
        if state is not None and state.phase == "running":
            return state
        if state is not None or not alive:
            raise _not_started(request, folder, state)
        time.sleep(min(left, _POLL_SECONDS))


def _look(folder: Path, supervisor: ProcessIdentity) -> tuple[bool, State | None]:
    """Return whether the supervisor lives and what it said last, in this order: a dead one has said its last."""
    return processes.lives(supervisor), State.read(folder / _STATE)


def _not_started(request: StageRequest, folder: Path, state: State | None) -> StageFailed:
    if state is not None and state.server is None and state.reason is not None:
        # nothing of the configuration has run yet: a port or a program of this machine is in the way
        return StageFailed(state.reason, category="infrastructure")
    return StageFailed(_ending(request, folder, state))


def _wait_ready(request: StageRequest, folder: Path, supervisor: ProcessIdentity, endpoint: str) -> None:
    with httpx.Client(base_url=endpoint, trust_env=False) as client:
        while True:
            left = request.remaining()
            try:
                if client.get("/ping", timeout=min(left, _PING_SECONDS)).status_code == 200:
                    return
            except httpx.HTTPError:
                # not ready yet, or never: the supervisor knows which
                pass
            alive, state = _look(folder, supervisor)
            if not alive or state is None or state.phase != "running":
                raise StageFailed(_ending(request, folder, state))
            time.sleep(min(left, _POLL_SECONDS))


def _ending(request: StageRequest, folder: Path, state: State | None) -> str:
    """Put all that the server said into the stage's log and return how it ended with its last words."""
    log = folder / _SERVER_LOG
    if not log.exists():
        log = folder / _SUPERVISOR_LOG
    _copy_log(log, request.log)
    text = log.read_text("utf-8", "replace") if log.exists() else ""
    words = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it said nothing")
    if state is None:
        how = "its supervisor ended before it"
    elif state.exit_signal is not None:
        how = f"by signal {state.exit_signal}"
    elif state.exit_code is not None:
        how = f"with exit code {state.exit_code}"
    else:
        how = state.reason or "its supervisor was killed"
    return f"the server ended ({how}); its last words: {words[:300]}"


def _copy_log(source: Path, log: TextIO) -> None:
    if source.exists():
        for line in source.read_text("utf-8", "replace").splitlines():
            log.write(f"{line}\n")
        log.flush()
