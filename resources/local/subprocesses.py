"""Programs that one stage runs to their end: tagged, named in the ledger, ended with the stage.

Belongs here: starting, waiting, ending. Not here: servers, which outlive their stage (`deployment.py`).
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from resources import processes
from resources.executor import StageRequest

_POLL_SECONDS = 0.5
_GRACE_SECONDS = 5.0
_INHERITED = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TMPDIR",
    "TZ",
    "LD_LIBRARY_PATH",
    "VIRTUAL_ENV",
    "SSL_CERT_FILE",
)
_INHERITED_PREFIXES = ("OPENBLAS_", "NVPL_")


def environment_for(request: StageRequest, more: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process that belongs to a run: the host's basics, the tag with its home, and `more`.

    Credentials and settings of the parent do not reach it, as they would not reach a container.
    """
    basics = {
        name: value for name, value in os.environ.items() if name in _INHERITED or name.startswith(_INHERITED_PREFIXES)
    }
    # SPT_NOENV: process titles are else written over the environment, and the tag with it
    tags = {
        processes.TAG_VARIABLE: request.lease_tag,
        processes.LEASE_HOME_VARIABLE: str(request.workspace.parent.parent),
    }
    return basics | {"PYTHONUNBUFFERED": "1", "SPT_NOENV": "1"} | dict(more) | tags


def run_tagged(
    request: StageRequest, command: Sequence[str], *, directory: Path, environment: Mapping[str, str]
) -> int:
    """Run a program to its end, its output in the stage's log, and return its exit code (negative: the signal).

    It is in the ledger before it starts and ended when the stage's time is over or the stage is interrupted. Raises what
    `StageRequest.remaining` raises.
    """
    name = Path(command[1] if len(command) > 1 else command[0]).name
    entry = request.ledger.intend(
        run_id=request.run_id, kind="process", ref=f"{name} of {request.run_id}", deadline_seconds=request.remaining()
    )
    request.log.flush()
    process = subprocess.Popen(
        list(command),
        cwd=directory,
        env=environment_for(request, environment),
        stdin=subprocess.DEVNULL,
        stdout=request.log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        identity = processes.identify(process.pid)
        if identity is not None:
            request.ledger.confirm(entry, identity.to_json())
        while True:
            try:
                code = process.wait(min(request.remaining(), _POLL_SECONDS))
                break
            except subprocess.TimeoutExpired:
                continue
    except BaseException:
        process.terminate()
        try:
            process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        request.ledger.release(entry, "ended with its stage")
        raise
    request.ledger.release(entry, f"ended with exit code {code}")
    return code
