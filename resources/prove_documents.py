"""What a home remembers of prove documents: each by its digest, how far its configurations came, what can be used again.

Belongs here: the files below `prove/`, what a round of a document asks of its runs, the standing of each configuration, the
promise of money for one. Not here: what a document may hold (`core.prove_documents`), running anything, the lifecycle
(`lifecycle.py`, which asks here what a round wants).

How far a document came is read from the history of attempts alone: a round that belongs to a document carries its digest.
So nothing has to be written when a run ends, and nothing can be missing after a kill.
"""

import hashlib
import json
import os
import platform as machine
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mlcc_dagster.core.budget import Budget
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.exceptions import HomeError, StageFailed, UsageError
from mlcc_dagster.core.outcome import BenchmarkPlan, Outcome, StageResult, StageStatus
from mlcc_dagster.core.prove_documents import Expansion, Member, ProveDocument
from mlcc_dagster.core.records import utc_text
from mlcc_dagster.core.stages import Stage
from resources.ci_table import Attempt, CiTable
from resources.home import Home
from resources.ledger import Ledger

RUN_TYPE = "prove"
FORM_VERSION = 1
KEPT_MOST_SECONDS = 10_800.0
"""No deployment is kept longer: its supervisor ends it by itself some time after this."""

PROJECT_DIGEST = "project_digest"
REUSED = "reused_from"
_SCOPE = f"{RUN_TYPE}:"


@dataclass(frozen=True)
class Asked:
    """What a round of a document asks of each of its runs. `timeout_seconds` is what the stages of one may take together,
    clean aside; `kept_seconds` is how long a deployment that passed is kept instead of cleaned, 0 where it is cleaned."""

    stages: frozenset[Stage]
    technique: str | None
    timeout_seconds: float
    kept_seconds: float = 0.0

    def measures(self, plan: BenchmarkPlan) -> BenchmarkPlan:
        """Return a plan that measures exactly when the document asks for it."""
        return replace(plan, enabled=Stage.BENCHMARK in self.stages)


@dataclass(frozen=True)
class Remembered:
    """A document that was run in this home. `source` is the name of its file, `at` when it was last asked for."""

    expansion: Expansion
    source: str
    at: str
    no_clean: bool

    @property
    def digest(self) -> str:
        """Its name here."""
        return self.expansion.digest

    @property
    def scope(self) -> str:
        """The scope of its rounds."""
        return f"{_SCOPE}{self.digest}"

    @property
    def asked(self) -> Asked:
        """What it asks of each run."""
        document = self.expansion.document
        seconds = document.timeout_minutes * 60
        stages = frozenset(document.stages) - ({Stage.CLEAN} if self.no_clean else frozenset())
        kept = min(seconds, KEPT_MOST_SECONDS) if self.no_clean else 0.0
        return Asked(stages, document.technique, seconds, kept)

    @property
    def budget(self) -> str:
        """The name of its budget in the ledger: another ceiling is another budget, since the lowest that was named for one
        holds for ever."""
        return f"{self.scope}/{self.expansion.document.budget_usd:g}"


# ---- documents


def asked_for(expansion: Expansion, *, source: str, no_clean: bool) -> Remembered:
    """Return a document as it is asked for now; nothing is written."""
    return Remembered(expansion, source, utc_text(datetime.now(UTC)), no_clean)


def remember(home: Home, kept: Remembered) -> None:
    """Keep a document. One that is there already gets the time, budget and wish to clean of this call."""
    path = _path(home, kept.digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(_form(kept), indent=1, ensure_ascii=False), "utf-8")
    # A run that reads it sees the old one or the new one, never half of it.
    partial.replace(path)


def remembered(home: Home, digest: str) -> Remembered | None:
    """Return the document of that digest, none where it was never run here. Raises `HomeError` for a damaged file."""
    path = _path(home, digest)
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise HomeError(f"{path} cannot be read ({error}); give it back or move it away") from error
    try:
        return _read(json.loads(text))
    except (ValueError, KeyError, TypeError) as error:
        raise HomeError(f"{path} is no document that this version has written ({error!r}); move it away") from error


def all_remembered(home: Home) -> list[Remembered]:
    """Return every document that was run here, the last asked for first."""
    paths = sorted((home.root / RUN_TYPE).glob("[0-9a-f]*.json"))
    found = (remembered(home, path.stem) for path in paths)
    return sorted((each for each in found if each is not None), key=lambda each: each.at, reverse=True)


def asked_in(home: Home, round_id: str) -> Asked | None:
    """Return what a round's document asks of a run, none where the round belongs to no document.

    Raises `UsageError` where the document is gone: without it nobody knows what the run may do.
    """
    if not round_id.startswith(_SCOPE):
        return None
    digest = round_id.removeprefix(_SCOPE).partition("@")[0]
    kept = remembered(home, digest)
    if kept is None:
        raise UsageError(
            f"{_path(home, digest)} is gone, so what {round_id} asks for is unknown; run `mlcc prove` again"
        )
    return kept.asked


def _path(home: Home, digest: str) -> Path:
    return home.root / RUN_TYPE / f"{digest}.json"


def _form(kept: Remembered) -> dict[str, Any]:
    document = kept.expansion.document
    return {
        "schema_version": FORM_VERSION,
        "source": kept.source,
        "at": kept.at,
        "no_clean": kept.no_clean,
        "base": _plain(document.base),
        "sweep": {axis: [_plain(value) for value in values] for axis, values in document.sweep.items()},
        "written": {axis: list(values) for axis, values in document.written.items()},
        "stages": [stage.value for stage in document.stages],
        "technique": document.technique,
        "timeout_minutes": document.timeout_minutes,
        "budget_usd": document.budget_usd,
        "points": kept.expansion.points,
        "members": [
            {
                "config_id": member.config_id,
                "configuration": member.configuration.to_json(),
                "point": _plain(member.point),
                "reservation": member.reservation,
                "repeats": [_plain(point) for point in member.repeats],
            }
            for member in kept.expansion.members
        ],
    }


def _plain(value: Any) -> Any:
    return {key: _plain(each) for key, each in value.items()} if isinstance(value, Mapping) else value


def _read(form: Mapping[str, Any]) -> Remembered:
    if form["schema_version"] != FORM_VERSION:
        raise ValueError(f"schema version {form['schema_version']}")
    document = ProveDocument(
        base=form["base"],
        sweep={axis: tuple(values) for axis, values in form["sweep"].items()},
        written={axis: tuple(values) for axis, values in form["written"].items()},
        stages=tuple(Stage(name) for name in form["stages"]),
        technique=form["technique"],
        timeout_minutes=form["timeout_minutes"],
        budget_usd=form["budget_usd"],
    )
    members = tuple(
        Member(
            config_id=member["config_id"],
            configuration=Configuration.from_json(member["configuration"]),
            point=member["point"],
            reservation=member["reservation"],
            repeats=tuple(member["repeats"]),
        )
        for member in form["members"]
    )
    return Remembered(Expansion(document, members, form["points"]), form["source"], form["at"], form["no_clean"])


# ---- how far a document came


class Standing(StrEnum):
    """How far one configuration of a document came. `PASSED` and `UNFEASIBLE` are settled: a run would end alike."""

    PASSED = "passed"
    UNFEASIBLE = "unfeasible"
    FAILED = "failed"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    WAITING = "waiting"


SETTLED = frozenset({Standing.PASSED, Standing.UNFEASIBLE})


@dataclass(frozen=True)
class Progress:
    """One configuration of a document: its standing, and its attempts in the document's rounds, newest first. `attempt` is
    the one that decides, none before the first."""

    member: Member
    standing: Standing
    attempts: tuple[Attempt, ...]

    @property
    def attempt(self) -> Attempt | None:
        """The attempt that the standing rests on."""
        finished = (each for each in self.attempts if each.state == "finished")
        if self.standing in (Standing.RUNNING, Standing.INTERRUPTED):
            return self.attempts[0]
        return next(finished, None)

    @property
    def cost_usd(self) -> float:
        """What all its attempts cost, in USD."""
        return sum(each.cost_usd or 0.0 for each in self.attempts)


def progress(ci: CiTable, kept: Remembered) -> list[Progress]:
    """Return how far each configuration of a document came, in the document's order."""
    return [_progress(member, attempts_of(ci, kept.scope, member.config_id)) for member in kept.expansion.members]


def attempts_of(ci: CiTable, scope: str, config_id: str) -> tuple[Attempt, ...]:
    """Return the attempts of a configuration in the rounds of a scope, newest first."""
    return tuple(each for each in ci.attempts(config_id) if each.round.startswith(f"{scope}@"))


def _progress(member: Member, attempts: tuple[Attempt, ...]) -> Progress:
    finished = next((each for each in attempts if each.state == "finished"), None)
    if attempts and attempts[0].state in ("running", "committing"):
        standing = Standing.RUNNING
    elif finished is not None and finished.run_status == "pass":
        standing = Standing.PASSED
    elif finished is not None:
        standing = Standing.UNFEASIBLE if finished.status == "unfeasible" else Standing.FAILED
    else:
        standing = Standing.INTERRUPTED if attempts else Standing.WAITING
    return Progress(member, standing, attempts)


# ---- what an attempt made that is still there


def project_digest(result: StageResult) -> StageResult:
    """Return the result of generate with the digest of the project that it made: names and contents of its files, and the
    Python that builds it here. As it is where the stage failed or names no folder."""
    folder = Path(str(result.outputs.get("project", "")))
    if result.status is not StageStatus.PASS or "project" not in result.outputs or not folder.is_dir():
        return result
    seen = hashlib.sha256(f"python {machine.python_version()}\0".encode())
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        seen.update(f"{path.relative_to(folder)}\0".encode())
        seen.update(hashlib.sha256(path.read_bytes()).digest())
    outputs = {**result.outputs, PROJECT_DIGEST: f"sha256:{seen.hexdigest()}"}
    return replace(result, outputs=MappingProxyType(outputs))


def reused(home: Home, ci: CiTable, outcome: Outcome, stage: Stage) -> StageResult | None:
    """Return the skipped result of build or push in a document's round, where an earlier attempt of the same configuration
    built the same project and its image is still whole in the home's registry; else none, and the stage has to be done.

    The image is the one thing that outlives a run: workspaces, deployments and what depends on them are gone with it, so
    every other stage is done again. The outputs are those of the earlier attempt.
    """
    if stage not in (Stage.BUILD, Stage.PUSH) or not outcome.claim.round.startswith(_SCOPE):
        return None
    built = outcome.result(Stage.BUILD)
    if stage is Stage.PUSH and (built is None or REUSED not in built.outputs):
        return None
    scope = outcome.claim.round.partition("@")[0]
    wanted = outcome.output(PROJECT_DIGEST)
    for attempt in attempts_of(ci, scope, outcome.claim.config_id):
        outputs = _published(attempt, wanted)
        if outputs is None or outputs["push"].get("registry") != (home.settings.registry or "local"):
            continue
        digest = outputs["build"]["image_digest"]
        if _in_registry(home, digest):
            # where the layout lay in the workspace of that attempt, there is nothing any more
            made = {name: value for name, value in outputs[stage.value].items() if name != "image_layout"}
            return StageResult(
                stage,
                StageStatus.SKIP,
                started_at=utc_text(datetime.now(UTC)),
                seconds=0.0,
                error=f"passed in {attempt.run_id}: image {digest} of the same project is in the registry",
                outputs=MappingProxyType(made | {REUSED: attempt.run_id}),
            )
    return None


def _published(attempt: Attempt, project: Any) -> dict[str, Mapping[str, Any]] | None:
    """Return the outputs of build and push of an attempt that published an image of that project, else none."""
    outputs = {
        stage: attempt.stages[stage]["outputs"]
        for stage in ("generate", "build", "push")
        if stage in attempt.stages and attempt.stages[stage]["status"] != StageStatus.FAIL.value
    }
    sound = (
        project is not None
        and outputs.get("generate", {}).get(PROJECT_DIGEST) == project
        and "image_digest" in outputs.get("build", {})
        and "image_reference" in outputs.get("push", {})
    )
    return outputs if sound else None


def _in_registry(home: Home, digest: str) -> bool:
    from resources.local import images

    try:
        images.verify(home.registry, digest)
    except StageFailed:
        return False
    return True


# ---- money


def committed_elsewhere(ledger: Ledger, kept: Remembered) -> float:
    """Return what is promised, spent and overrun under other ceilings of the same document, in USD: it counts against
    this one, so that raising a budget adds the difference and no more."""
    return sum(
        budget.totals.committed_usd + budget.totals.overrun_usd
        for budget in _budgets(ledger, kept)
        if budget.name != kept.budget
    )


def spent_usd(ledger: Ledger, kept: Remembered) -> float:
    """Return what a document has cost so far by the ledger, in USD."""
    return sum(budget.totals.spent_usd + budget.totals.overrun_usd for budget in _budgets(ledger, kept))


def _budgets(ledger: Ledger, kept: Remembered) -> Iterator[Budget]:
    return (budget for budget in ledger.budgets() if budget.name.startswith(f"{kept.scope}/"))
