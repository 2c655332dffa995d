"""The model registry of a home: an append-only file of hash-chained lines, and the one way to add to it.

Belongs here: reading the file, and adding a line durably under a lock. Not here: the chain and the rules (`core.registry_chain`,
`core.model_registry`), proof of identity (`registry_identity.py`), content of candidates (`candidate_bundles.py`).

A line is added by writing the whole file anew beside the old one and renaming it: the file holds either all lines of before or one
more, whoever is killed and whenever the power goes. Nothing is ever added to a file that has a fault, and a file with a fault
resolves nothing.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlcc_dagster.core.exceptions import MlccError, UsageError
from mlcc_dagster.core.model_registry import (
    EVALUATION,
    PROD,
    VERDICTS,
    Evaluated,
    Listed,
    env_of,
    evidence_of,
    full_digest,
    listing,
    newest_gate,
    promotion_refusals,
    registration,
    resolve,
    rule_faults,
)
from mlcc_dagster.core.model_versions import Version
from mlcc_dagster.core.records import utc_text
from mlcc_dagster.core.registry_chain import (
    DIGEST,
    Chain,
    Fault,
    RegistryLine,
    RegistryRefused,
    appended,
    binding_of,
    broken,
    plain,
    read_chain,
)
from resources.home import Home
from resources.registry_identity import (
    Policy,
    identity_refusal,
    no_token_here,
    proven_identity,
    read_policy,
    said_identity,
)
from resources.result_manifest import replace_durably

INDEX = "index.jsonl"
LOCK = ".index.lock"
LOCK_SECONDS = 30.0
ENV_VARIABLE = "MLCC_ENV"
PLACE_VARIABLE = "MLCC_MODEL_REGISTRY"
PROVEN_KINDS = frozenset({"gate", "promotion"})
"""Lines that in production must be proven to be by the CI; a candidate is its content, whoever registers it."""


@dataclass(frozen=True)
class Registry:
    """The registry in the folder `root`, asked and written in the environment `env`. Making the value touches nothing."""

    root: Path
    env: str

    @property
    def index(self) -> Path:
        """The file of lines."""
        return self.root / INDEX

    def read(self) -> Chain:
        """Return the lines and every fault: of the chain, of the rules, and in production of who wrote them. No file is an
        empty registry. Raises `MlccError` where the file cannot be read."""
        try:
            content = self.index.read_bytes()
        except FileNotFoundError:
            return Chain()
        except OSError as error:
            raise MlccError(f"cannot read {self.index} ({error.strerror}); {_advice(error)}") from error
        chain = read_chain(content)
        if chain.faults:
            return chain
        return Chain(chain.lines, (*rule_faults(chain.lines), *self._identity_faults(chain.lines)))

    def verify(self, head: str | None = None) -> tuple[Fault, ...]:
        """Return every fault; with `head`, a hash that was kept elsewhere, also whether its line is still there. Raises
        `UsageError` for what is no hash."""
        if head is not None and not DIGEST.fullmatch(head):
            raise UsageError(f"{head!r} is no hash; give the 64 hexadecimal digits that `mlcc registry verify` printed")
        chain = self.read()
        missing = None if head is None else chain.misses(head)
        return chain.faults if missing is None else (*chain.faults, missing)

    def digest_of(self, text: str) -> str | None:
        """Return the registered digest that `text` is or begins. Raises as `full_digest`, and `RegistryRefused` where the
        registry has a fault."""
        return full_digest(self.sound(), text)

    def listing(self) -> tuple[Listed, ...]:
        """Return versions and candidates. Raises `RegistryRefused` where the registry has a fault."""
        return listing(self.sound())

    def resolve(self, version: str | None = None) -> RegistryLine:
        """Return the promotion that a version names here; without one the highest. Raises as `core.model_registry.resolve`,
        and `RegistryRefused` where the registry has a fault."""
        return resolve(self.sound(), version, env=self.env)

    def register_pending(self, digest: str, body: Mapping[str, Any]) -> tuple[RegistryLine, bool]:
        """Register a candidate by the digest of its content, and return its line and whether that is new: content that is
        registered here keeps its line. `body` says where it comes from (`source`, text) and what it holds.

        Raises `UsageError` for what is no digest.
        """
        if not DIGEST.fullmatch(digest):
            raise UsageError(f"{digest!r} is no digest of a bundle; register the bundle itself")
        with self._writing() as chain:
            present = registration(chain.lines, digest, self.env)
            if present is not None:
                return present, False
            return self._add(chain, "pending", digest, body), True

    def record_gate(
        self,
        digest: str,
        decision: Mapping[str, Any],
        *,
        baseline_digest: str | None = None,
        evaluated: Mapping[str, Any] | None = None,
    ) -> RegistryLine:
        """Add what a gate decided on a registered candidate. `decision` is the gate's document (with `kind`,
        `verdict`, `rule`, `candidate_sha`);
        `baseline_digest` the SHA-256 of the baseline file; `evaluated` has `items`, `correct` and `cost_usd`.

        Raises `UsageError` for what is not registered or no decision, `RegistryRefused` in production outside the CI.
        """
        kind, verdict, rule = decision.get("kind"), decision.get("verdict"), decision.get("rule")
        if kind != EVALUATION or verdict not in VERDICTS or not isinstance(rule, str):
            raise UsageError(
                f"this is no decision on an evaluation (kind {kind!r}, verdict {verdict!r}, rule {rule!r}); pass what `mlcc gate` "
                "decided"
            )
        if decision.get("candidate_sha") not in (None, digest):
            raise UsageError(f"the decision is on {decision['candidate_sha']}, not on {digest}; record it for that one")
        if baseline_digest is not None and not DIGEST.fullmatch(baseline_digest):
            raise UsageError(f"{baseline_digest!r} is no SHA-256 of a baseline; pass 64 hexadecimal digits")
        body = {
            "verdict": verdict,
            "rule": rule,
            "baseline_digest": baseline_digest,
            "evaluated": None if evaluated is None else Evaluated.read(evaluated).to_json(),
            "decision": decision,
        }
        with self._writing() as chain:
            if registration(chain.lines, digest, self.env) is None:
                raise UsageError(
                    f"{digest[:12]} is not registered in {self.env}; run `mlcc registry register-pending` on its bundle"
                )
            return self._add(chain, "gate", digest, body)

    def promote(self, digest: str, version: Version, *, baseline_digest: str | None = None) -> RegistryLine:
        """Give a registered candidate a version, with the gate's evidence in the same line. `digest` is whole;
        `baseline_digest` the SHA-256 of the baseline that is committed now.

        Raises `RegistryRefused` with every reason; then nothing was written.
        """
        with self._writing() as chain:
            refusals = promotion_refusals(
                chain.lines, digest=digest, version=version, env=self.env, baseline_digest=baseline_digest
            )
            not_ci = no_token_here() if self.env == PROD else None
            if not_ci is not None:
                refusals = (*refusals, not_ci)
            if refusals:
                raise RegistryRefused(
                    "\n".join([f"{version} was not promoted:", *(f"  - {reason}" for reason in refusals)])
                )
            evidence = evidence_of(newest_gate(chain.lines, digest, self.env))
            return self._add(chain, "promotion", digest, {"version": version.text, "evidence": evidence})

    def sound(self) -> tuple[RegistryLine, ...]:
        """Return the lines. Raises `RegistryRefused` where there is any fault."""
        chain = self.read()
        if chain.faults:
            raise broken(chain.faults)
        return chain.lines

    def _identity_faults(self, lines: tuple[RegistryLine, ...]) -> Iterator[Fault]:
        policy: Policy | None = None
        for line in lines:
            if line.env == PROD and line.kind in PROVEN_KINDS:
                policy = policy or read_policy(self.root)
                refusal = identity_refusal(policy, line)
                if refusal is not None:
                    yield Fault(line.sequence, f"is not proven to be by the CI: {refusal}")

    @contextmanager
    def _writing(self) -> Iterator[Chain]:
        """Hold the lock and yield the chain, which has no fault."""
        from filelock import FileLock, Timeout  # imported here: reading needs no lock

        try:
            try:
                self.root.mkdir(parents=True, exist_ok=True)
                lock = FileLock(self.root / LOCK, timeout=LOCK_SECONDS).acquire()
            except Timeout:
                raise
            except OSError as error:
                raise MlccError(
                    f"the folder {self.root} of the registry cannot be written to ({error.strerror}); {_advice(error)}"
                ) from error
            with lock:
                # Killed before its rename, a writer leaves its half; nobody else writes while the lock is held.
                target = Path(os.path.realpath(self.index))
                for left in target.parent.glob(f"{target.name}.*.tmp"):
                    left.unlink(missing_ok=True)
                chain = self.read()
                if chain.faults:
                    raise broken(chain.faults)
                yield chain
        except Timeout:
            raise MlccError(
                f"another command has been writing {self.index} for {LOCK_SECONDS:g} s; let it finish and try again"
            ) from None

    def _add(self, chain: Chain, kind: str, digest: str, body: Mapping[str, Any]) -> RegistryLine:
        body = plain(body)
        now = datetime.now(UTC)
        identity = said_identity()
        if self.env == PROD and kind in PROVEN_KINDS:
            binding = binding_of(kind, self.env, digest, body)
            identity = proven_identity(read_policy(self.root), binding, now=now)
        line = appended(chain, kind=kind, env=self.env, at=utc_text(now), identity=identity, digest=digest, body=body)
        before = b"".join(known.to_bytes() for known in chain.lines)
        replace_durably(self.index, before + line.to_bytes())
        return line


def _advice(error: OSError) -> str:
    """Return what to do where the folder of the registry cannot be used."""
    if isinstance(error, PermissionError):
        return f"give yourself the permission, or name another folder with {PLACE_VARIABLE}"
    return f"name a folder that can be made with {PLACE_VARIABLE} or MLCC_HOME"


def open_registry(home: Home, *, env: str | None = None) -> Registry:
    """Return the registry of a home: below it, or where `MLCC_MODEL_REGISTRY` says; its environment is `MLCC_ENV` (default
    `dev`) unless `env` names one. Raises `UsageError` where that is no environment. Makes nothing."""
    place = os.environ.get(PLACE_VARIABLE)
    root = Path(place).expanduser().resolve() if place else home.root / "model_registry"
    return Registry(root, env_of(os.environ.get(ENV_VARIABLE) if env is None else env))
