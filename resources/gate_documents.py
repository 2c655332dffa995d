"""The files of a gate: a baseline as git has it committed, and the record of a decision in the model registry.

Belongs here: asking git for a file, and handing a decision to the registry. Not here: what the files say
(`core.evaluation_reading`), deciding (`core.gate`), the registry (`registry.py`).
"""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlcc_dagster.core.exceptions import MlccError, UsageError
from mlcc_dagster.core.model_registry import PROD, registration
from mlcc_dagster.core.registry_chain import DIGEST
from resources.registry import Registry

GIT_SECONDS = 30.0


@dataclass(frozen=True)
class Recorded:
    """What became of a decision: the registry's line, or why there is none. `refused` is whether it should have been recorded
    and could not be, which in production fails the gate."""

    line: int | None
    why_not: str | None = None
    refused: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return both as JSON values."""
        return {"line": self.line, "why_not": self.why_not}


def record(
    registry: Registry,
    decision: Mapping[str, Any],
    *,
    compared: bool,
    digest: str | None,
    baseline_digest: str,
    evaluated: Mapping[str, Any] | None,
) -> Recorded:
    """Record a decision where its candidate is registered; `evaluated` as `Registry.record_gate` takes it.

    A decision that compared nothing says nothing of the candidate and is not recorded.
    """
    if not compared:
        return Recorded(None, "nothing was compared")
    if digest is None or not DIGEST.fullmatch(digest):
        return Recorded(None, "the evaluation names no digest of a bundle")
    try:
        if registration(registry.sound(), digest, registry.env) is None:
            return Recorded(
                None,
                f"{digest[:12]} is not registered in {registry.env}; `mlcc registry register-pending` does that",
            )
        line = registry.record_gate(digest, decision, baseline_digest=baseline_digest, evaluated=evaluated)
    except MlccError as error:
        return Recorded(None, str(error), refused=registry.env == PROD)
    return Recorded(line.sequence)


def committed_file(path: Path, ref: str) -> str | None:
    """Return what a file holds in a commit of the repository that it lies in, none where it is not in that commit.

    Raises `UsageError` where git does not know the commit or there is no repository.
    """
    if not ref or ref.startswith("-"):
        raise UsageError(f"{ref!r} is no name of a commit; name one such as origin/main")
    folder = path.absolute().parent
    known = _git(folder, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
    if known.returncode != 0:
        raise UsageError(f"git knows no commit {ref} in {folder}; fetch it, or name the file with --last")
    found = _git(folder, "cat-file", "-e", f"{ref}:./{path.name}")
    if found.returncode != 0:
        return None
    shown = _git(folder, "show", f"{ref}:./{path.name}")
    if shown.returncode != 0:
        raise UsageError(
            f"git cannot show {path.name} of {ref} ({shown.stderr.decode(errors='replace').strip()}); look at it"
        )
    try:
        return shown.stdout.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path.name} of {ref} is no UTF-8 text; name the file with --last") from error


def _git(folder: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            ["git", *words], cwd=folder, capture_output=True, check=False, timeout=GIT_SECONDS, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"git cannot be asked in {folder} ({error}); name the file with --last") from error
