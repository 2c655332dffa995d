"""What the lines of the model registry mean: candidates, judgements, versions, and who may be given which.

Belongs here: the rules of promotion and lookup, pure. Not here: the chain (`registry_chain.py`), files, the clock, and proof of
identity (`resources.registry`).

The rules. A version is bound to one digest for ever, in every environment. Within an environment versions ascend and none is given
twice. Production takes only final versions, and only where the newest gate record of exactly that digest, made in production,
says promote against the baseline that is committed now. Everywhere else only `-dev` versions are given, which no production lookup
resolves. Nothing switches a rule off.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.model_versions import Version
from mlcc_dagster.core.registry_chain import DIGEST, ENV_NAME, Fault, RegistryLine, RegistryRefused

PROD = "prod"
DEFAULT_ENV = "dev"
SHORTEST_PREFIX = 8
"""Digits of a digest that may stand for it, when only one registered digest begins so."""

EVALUATION = "evaluation"
"""The kind of decision that lets a candidate through. A gate of speed and memory has the same form and says nothing of answers."""

PROMOTE = "promote"
VERDICTS: tuple[str, ...] = (PROMOTE, "blocked", "inconclusive")


@dataclass(frozen=True)
class Evaluated:
    """What judging a candidate took: answers asked for, those that were right, and what they cost in USD (none: not known)."""

    items: int
    correct: int
    cost_usd: float | None

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> "Evaluated":
        """Check the mapping `{items, correct, cost_usd}`. Raises `UsageError` with every mistake."""
        items, correct, cost = values.get("items"), values.get("correct"), values.get("cost_usd")
        wrong = []
        if type(items) is not int or items < 1:
            wrong.append(f"items must be a whole number of at least 1, not {items!r}")
        if type(correct) is not int or correct < 0 or (type(items) is int and correct > items):
            wrong.append(f"correct must be a whole number from 0 to items, not {correct!r}")
        if cost is not None and (
            isinstance(cost, bool) or not isinstance(cost, (int, float)) or not math.isfinite(cost) or cost < 0
        ):
            wrong.append(f"cost_usd must be an amount or absent, not {cost!r}")
        if wrong or type(items) is not int or type(correct) is not int:
            raise UsageError(f"what was evaluated cannot be so: {'; '.join(wrong)}; evaluate the candidate again")
        return cls(items, correct, None if cost is None else float(cost))

    @property
    def usd_per_quality_unit(self) -> float | None:
        """The cost per quality unit (CpQU): USD per right answer. None where no cost is known or nothing was right."""
        return None if self.cost_usd is None or not self.correct else self.cost_usd / self.correct

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"items": self.items, "correct": self.correct, "cost_usd": self.cost_usd}


@dataclass(frozen=True)
class Listed:
    """A version, or a candidate that has none (`version` is none), as `mlcc registry list` shows it. `gate` is the verdict
    that counted for the version; of a candidate the newest one of its environment, none where no gate judged it. `loosened`: that
    gate tolerated more than the committed baseline."""

    version: str | None
    digest: str
    env: str
    gate: str | None
    usd_per_quality_unit: float | None
    at: str
    identity: str
    source: str
    loosened: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "version": self.version,
            "digest": self.digest,
            "env": self.env,
            "gate": self.gate,
            "loosened": self.loosened,
            "cost_per_quality_unit_usd": self.usd_per_quality_unit,
            "at": self.at,
            "identity": self.identity,
            "source": self.source,
        }


def env_of(text: str | None) -> str:
    """Return the environment that a text names; absent or empty means `dev`.

    Raises `UsageError` for what is no name, and for near misses of `prod`: whoever writes PROD does not want dev.
    """
    if not text:
        return DEFAULT_ENV
    near = text.strip().lower()
    if text != PROD and (near.startswith(PROD) or near in ("live", "prd")):
        raise UsageError(f"environment {text!r}: production is written prod; set MLCC_ENV=prod, or another name")
    if not ENV_NAME.fullmatch(text):
        raise UsageError(f"{text!r} is no environment; set MLCC_ENV to prod, or a word of small letters such as dev")
    return text


def full_digest(lines: Sequence[RegistryLine], text: str) -> str | None:
    """Return the registered digest that `text` is or begins (at least `SHORTEST_PREFIX` digits), none where there is none.

    Raises `UsageError` for what is no digest and for a beginning that several have.
    """
    if not DIGEST.fullmatch(text) and (
        not SHORTEST_PREFIX <= len(text) < 64 or not set(text) <= set("0123456789abcdef")
    ):
        shown = text if len(text) <= 70 else f"{text[:70]}..."
        raise UsageError(
            f"{shown!r} is no digest; write its 64 hexadecimal digits, or the first {SHORTEST_PREFIX} or more of them"
        )
    found = sorted({line.digest for line in lines if line.kind == "pending" and line.digest.startswith(text)})
    if len(found) > 1:
        raise UsageError(f"{len(found)} candidates begin with {text} ({', '.join(found)}); write more digits")
    return found[0] if found else None


def registration(lines: Sequence[RegistryLine], digest: str, env: str) -> RegistryLine | None:
    """Return the newest line that registered a candidate in an environment."""
    return _newest(lines, "pending", digest, env)


def newest_gate(lines: Sequence[RegistryLine], digest: str, env: str) -> RegistryLine | None:
    """Return the newest judgement of a candidate in an environment: a later one overrules those before it."""
    return _newest(lines, "gate", digest, env)


def newest_candidate(lines: Sequence[RegistryLine], env: str) -> str | None:
    """Return the digest that the newest line of an environment speaks of: what is on its way, or went it last."""
    return next((line.digest for line in reversed(lines) if line.env == env), None)


def evidence_of(gate: RegistryLine | None) -> dict[str, Any] | None:
    """Return what a promotion keeps of the gate line that it rests on: the line's place and hash, and all that it says."""
    return None if gate is None else {"sequence": gate.sequence, "hash": gate.hash, **gate.body}


def is_loosened(judged: Mapping[str, Any]) -> bool:
    """Whether a judgement (the body of a gate line, or a promotion's evidence) tolerated more than the committed baseline."""
    decision = judged.get("decision")
    tolerance = decision.get("tolerance") if isinstance(decision, Mapping) else None
    return isinstance(tolerance, Mapping) and tolerance.get("loosened") is True


def promotion_refusals(
    lines: Sequence[RegistryLine], *, digest: str, version: Version, env: str, baseline_digest: str | None
) -> tuple[str, ...]:
    """Return every reason why a candidate may not be given a version; none where it may.

    `baseline_digest` is the SHA-256 of the baseline that is committed now, which only production asks for.
    """
    reasons: list[str] = []
    if env == PROD and version.dev:
        reasons.append(f"{version} is for trying; production takes final versions such as {version.text.split('-')[0]}")
    if env != PROD and not version.dev:
        reasons.append(f"{version} is a final version, which only MLCC_ENV=prod gives; here write {version}-dev")
    if registration(lines, digest, env) is None:
        reasons.append(f"{digest[:12]} is not registered in {env}; run `mlcc registry register-pending` first")
    given = [line for line in lines if line.kind == "promotion"]
    reasons += _version_refusals(given, digest=digest, version=version, env=env)
    if env == PROD:
        gate = newest_gate(lines, digest, env)
        reasons += judgement_refusals(gate, digest=digest, env=env)
        reasons += () if gate is None else _baseline_refusals(gate, baseline_digest)
    return tuple(reasons)


def _version_refusals(given: Sequence[RegistryLine], *, digest: str, version: Version, env: str) -> list[str]:
    same = next((line for line in given if line.body["version"] == version.text), None)
    if same is not None and same.digest != digest:
        return [f"{version} is bound to {same.digest[:12]} for ever (line {same.sequence}); choose a higher version"]
    here = [Version.read(line.body["version"]) for line in given if line.env == env]
    highest = max(here, default=None)
    if version in here:
        return [f"{version} was given in {env} already; choose a higher version"]
    if highest is not None and version <= highest:
        return [f"{version} is below {highest}, the highest in {env}; versions ascend: choose a higher one"]
    return []


def judgement_refusals(gate: RegistryLine | None, *, digest: str, env: str) -> tuple[str, ...]:
    """Return every reason why the newest judgement of a candidate lets it not through; none where it does. It must be of exactly
    this content, with no more tolerance than the baseline of then allowed."""
    if gate is None:
        return (f"no gate has judged {digest[:12]} in {env}; evaluate it and run `mlcc gate` there",)
    reasons = []
    if gate.body["verdict"] != PROMOTE:
        reasons.append(f"the newest gate record of {digest[:12]} (line {gate.sequence}) says {gate.body['verdict']}")
    decision = gate.body["decision"]
    if decision.get("candidate_sha") != digest:
        reasons.append(
            f"the gate record (line {gate.sequence}) judged {decision.get('candidate_sha')}, not this content"
        )
    if decision.get("tolerance", {}).get("loosened") is not False:
        reasons.append(
            f"the gate record (line {gate.sequence}) tolerates more than the committed baseline; run `mlcc gate` again "
            "without --tolerance"
        )
    return tuple(reasons)


def _baseline_refusals(gate: RegistryLine, baseline_digest: str | None) -> tuple[str, ...]:
    judged_by = gate.body["baseline_digest"]
    if baseline_digest is None:
        return ("there is no committed baseline to compare the gate record with; name it with --baseline FILE",)
    if judged_by is None:
        return (f"the gate record (line {gate.sequence}) names no baseline; run `mlcc gate` again",)
    if judged_by != baseline_digest:
        return (
            f"the gate record (line {gate.sequence}) is against the baseline {judged_by[:12]}, the committed one is "
            f"{baseline_digest[:12]}; run `mlcc gate` again",
        )
    return ()


def rule_faults(lines: Sequence[RegistryLine]) -> tuple[Fault, ...]:
    """Return every line that the rules would never have let in: a chain can be sound and hold what was written by hand."""
    faults: list[Fault] = []
    for place, line in enumerate(lines):
        try:
            reasons = _line_refusals(line, lines[:place])
        except (UsageError, KeyError, TypeError, AttributeError) as error:
            reasons = (f"its body cannot be read ({type(error).__name__}: {error})",)
        faults += [Fault(line.sequence, f"the rules do not allow it: {reason}") for reason in reasons]
    return tuple(faults)


def _line_refusals(line: RegistryLine, before: Sequence[RegistryLine]) -> tuple[str, ...]:
    if line.kind == "promotion":
        evidence = line.body["evidence"]
        gate = newest_gate(before, line.digest, line.env)
        found = promotion_refusals(
            before,
            digest=line.digest,
            version=Version.read(line.body["version"]),
            env=line.env,
            baseline_digest=None if evidence is None else evidence["baseline_digest"],
        )
        forged = () if evidence == evidence_of(gate) else ("its evidence is not the gate record of that candidate",)
        return (*found, *forged)
    if line.kind == "gate":
        if line.body["verdict"] not in VERDICTS or line.body["decision"]["verdict"] != line.body["verdict"]:
            return (f"unknown verdict {line.body['verdict']!r}, or not that of its decision",)
        if line.body["decision"]["kind"] != EVALUATION:
            return ("its decision is of another kind of gate",)
        if line.body["evaluated"] is not None:
            Evaluated.read(line.body["evaluated"])
        if registration(before, line.digest, line.env) is None:
            return (f"{line.digest[:12]} was not registered in {line.env}",)
    return ()


def resolve(lines: Sequence[RegistryLine], version: str | None, *, env: str) -> RegistryLine:
    """Return the promotion that a version names in an environment; without a version the highest one of that environment.

    Production resolves what production gave, and never a `-dev` version. Elsewhere the environment's own versions and
    production's can be named. Raises `RegistryRefused` where there is none, `UsageError` for what is no version.
    """
    given = [line for line in lines if line.kind == "promotion" and line.env == env]
    if version is None:
        candidates = [line for line in given if env != PROD or not Version.read(line.body["version"]).dev]
        if not candidates:
            raise RegistryRefused(f"no version was promoted in {env} yet; `mlcc registry list` shows what there is")
        return max(candidates, key=lambda line: Version.read(line.body["version"]))
    wanted = Version.read(version)
    if env == PROD and wanted.dev:
        raise RegistryRefused(f"{wanted} is for trying and is never resolved in production; name a final version")
    if env != PROD:
        given = [line for line in lines if line.kind == "promotion" and line.env in (env, PROD)]
    found = next((line for line in reversed(given) if line.body["version"] == wanted.text), None)
    if found is None:
        raise RegistryRefused(f"{wanted} was not promoted in {env}; `mlcc registry list` shows what was")
    return found


def listing(lines: Sequence[RegistryLine]) -> tuple[Listed, ...]:
    """Return every version, newest first, then the candidates without one in their environment, newest first."""
    given = [line for line in lines if line.kind == "promotion"]
    having = {(line.digest, line.env) for line in given}
    waiting = {
        (line.digest, line.env): line
        for line in lines
        if line.kind == "pending" and (line.digest, line.env) not in having
    }
    rows = []
    for line in (*reversed(given), *sorted(waiting.values(), key=lambda line: -line.sequence)):
        if line.kind == "promotion":
            judged, origin = line.body["evidence"], registration(lines, line.digest, line.env)
        else:
            judged, origin = evidence_of(newest_gate(lines, line.digest, line.env)), line
        evaluated = None if judged is None else judged["evaluated"]
        rows.append(
            Listed(
                version=line.body.get("version"),
                digest=line.digest,
                env=line.env,
                gate=None if judged is None else judged["verdict"],
                usd_per_quality_unit=None if evaluated is None else Evaluated.read(evaluated).usd_per_quality_unit,
                at=line.at,
                identity=str(line.identity.get("name", "unknown")),
                source=str(origin.body.get("source", "unknown")) if origin is not None else "unknown",
                loosened=judged is not None and is_loosened(judged),
            )
        )
    return tuple(rows)


def _newest(lines: Sequence[RegistryLine], kind: str, digest: str, env: str) -> RegistryLine | None:
    return next(
        (line for line in reversed(lines) if line.kind == kind and line.digest == digest and line.env == env), None
    )
