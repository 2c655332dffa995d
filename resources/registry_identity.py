"""Who writes into the model registry: what the environment says, and in production what an issuer has signed.

Belongs here: asking the CI for a signed token, and checking one against the registry's committed policy. Not here: what a
line may say (`core.model_registry`), files (`registry.py`).

Environment variables prove nothing: anybody can set them. They are written down as what was said (`proven` is false). A
production line instead carries a token (OpenID Connect, as GitHub Actions gives to a job with `id-token: write`) whose audience
is the hash of exactly what that line says. Variables only lead to the place that hands tokens out; what comes back counts when
its signature is by a key of the policy and its claims are those that the policy names. So it can be checked again at any time,
without the issuer, and a token for one promotion is good for no other.
"""

import getpass
import json
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx

from mlcc_dagster.core.exceptions import InvalidInput
from mlcc_dagster.core.registry_chain import RegistryLine, RegistryRefused
from resources.optional_packages import optional_package

POLICY_FILE = "policy.json"
POLICY_VERSION = "1"
NEEDED_CLAIMS: tuple[str, ...] = ("repository", "workflow_ref")
"""Claims that a policy must fix. Without them any job of anybody who uses the same issuer would be the CI."""

ALGORITHM = "RS256"
AUDIENCE = "mlcc-registry:"
CLOCKS_APART_SECONDS = 60.0
TOKEN_SECONDS = 10.0
"""How long asking for a token may take."""

REQUEST_URL = "ACTIONS_ID_TOKEN_REQUEST_URL"
REQUEST_TOKEN = "ACTIONS_ID_TOKEN_REQUEST_TOKEN"
_SHOWN_CLAIMS = ("sub", "repository", "workflow_ref", "run_id", "sha", "actor")


@dataclass(frozen=True)
class Policy:
    """Who may write production lines: the issuer, its public keys (JWK set), and claims with the values that they must have.
    `digest` is the SHA-256 of the file."""

    issuer: str
    keys: tuple[Mapping[str, Any], ...]
    claims: Mapping[str, str]
    digest: str


def read_policy(root: Path) -> Policy:
    """Read the policy of a registry. Raises `RegistryRefused` where there is none, `InvalidInput` with every mistake."""
    path = root / POLICY_FILE
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RegistryRefused(
            f"{path} cannot be read ({error.strerror}): without a policy nobody is known to be the CI, so production takes "
            "nothing; commit one as docs/registry.md shows"
        ) from error
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(str(path), [f"is not readable as JSON ({error})"]) from error
    if not isinstance(document, dict):
        raise InvalidInput(str(path), ["must be a JSON object"])
    problems = []
    unknown = sorted(document.keys() - {"schema_version", "issuer", "jwks", "claims"})
    if unknown:
        problems.append(f"unknown: {', '.join(unknown)}; known are schema_version, issuer, jwks, claims")
    if document.get("schema_version") != POLICY_VERSION:
        problems.append(f"schema_version must be {POLICY_VERSION!r}, not {document.get('schema_version')!r}")
    issuer, claims, jwks = document.get("issuer"), document.get("claims"), document.get("jwks")
    if not isinstance(issuer, str) or not issuer:
        problems.append("issuer: must be the address that the CI's tokens name as theirs")
    if not isinstance(claims, dict) or not all(isinstance(value, str) and value for value in claims.values()):
        problems.append("claims: must name claims and the one text that each must have")
        claims = {}
    problems += [f"claims.{name}: is missing; it must fix the CI's own" for name in NEEDED_CLAIMS if name not in claims]
    keys = jwks.get("keys") if isinstance(jwks, dict) else None
    if not isinstance(keys, list) or not keys or not all(_is_public_key(key) for key in keys):
        problems.append(
            "jwks.keys: must hold the issuer's public RSA keys, each with kty, kid, n and e, and nothing secret"
        )
    if problems:
        raise InvalidInput(str(path), problems)
    return Policy(str(issuer), tuple(keys or ()), claims, sha256(content).hexdigest())


def _is_public_key(key: object) -> bool:
    return (
        isinstance(key, dict)
        and key.get("kty") == "RSA"
        and all(isinstance(key.get(name), str) and key[name] for name in ("kid", "n", "e"))
        and "d" not in key
    )


def said_identity() -> dict[str, Any]:
    """Return who the environment says is writing, unproven: a job of GitHub Actions, or a person on a machine."""
    repository, run = os.environ.get("GITHUB_REPOSITORY"), os.environ.get("GITHUB_RUN_ID")
    if os.environ.get("GITHUB_ACTIONS") == "true" and repository and run:
        return {"kind": "github-actions", "name": f"{_text(repository)} run {_text(run)}", "proven": False}
    try:
        person = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        person = f"uid {os.getuid()}"
    return {"kind": "person", "name": f"{_text(person)}@{_text(socket.gethostname())}", "proven": False}


def says_that_it_is_ci() -> bool:
    """Whether the environment says that this is a job of the CI. Good for a warning, and for nothing else."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def no_token_here() -> str | None:
    """Return why no token can be asked for here, none where one can: only then is this known not to be the CI."""
    if os.environ.get(REQUEST_URL) and os.environ.get(REQUEST_TOKEN):
        return None
    return (
        "this is not the CI (no token can be asked for here): production takes lines from its workflow alone; run it there, "
        "with the permission id-token: write"
    )


def proven_identity(policy: Policy, binding: str, *, now: datetime) -> dict[str, Any]:
    """Return the CI's identity with a token that is signed for `binding` (see `RegistryLine.binding`).

    Raises `RegistryRefused` where no token can be had here, or the one that came is not good.
    """
    token = _request_token(AUDIENCE + binding)
    claims = checked_claims(policy, token, binding, at=now)
    return {
        "kind": "github-actions",
        "name": f"{claims.get('repository')} run {claims.get('run_id', 'unknown')}",
        "proven": True,
        "claims": {name: str(claims[name]) for name in _SHOWN_CLAIMS if name in claims},
        "policy": policy.digest,
        "token": token,
    }


def identity_refusal(policy: Policy, line: RegistryLine) -> str | None:
    """Return why a line of production is not by the CI, none where its token proves that it is."""
    token = line.identity.get("token")
    if not isinstance(token, str):
        return "no token of the CI is with it"
    try:
        moment = datetime.fromisoformat(line.at)
    except ValueError:
        return "its time cannot be read"
    if moment.tzinfo is None:
        return "its time has no zone"
    try:
        checked_claims(policy, token, line.binding(), at=moment)
    except RegistryRefused as refused:
        return str(refused)
    return None


def checked_claims(policy: Policy, token: str, binding: str, *, at: datetime) -> Mapping[str, Any]:
    """Return the claims of a token that is good: signed by a key of the policy, by its issuer, for `binding`, living at the
    time `at`, with the claims that the policy fixes. Raises `RegistryRefused` with the reason."""
    jwt = optional_package("jwt", extra="gate", purpose="checking the CI's identity")
    try:
        key_id = jwt.get_unverified_header(token).get("kid")
        key = next((key for key in policy.keys if key["kid"] == key_id), None)
        if key is None:
            raise RegistryRefused(f"the token is signed by the key {key_id!r}, which {POLICY_FILE} does not have")
        claims = jwt.decode(
            token,
            jwt.PyJWK(dict(key), algorithm=ALGORITHM).key,
            # Named here and never taken from the token: it could ask for none, or for a secret made of the public key.
            algorithms=[ALGORITHM],
            audience=AUDIENCE + binding,
            issuer=policy.issuer,
            # Times are compared below with the line's own: a token is checked again long after it ended.
            options={
                "require": ["exp", "iat", "aud", "iss"],
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
                "strict_aud": True,
            },
        )
    except jwt.PyJWTError as error:
        raise RegistryRefused(f"the token of the CI is not good: {error}; ask for a new one in the CI") from error
    moment = at.timestamp()
    try:
        begins, ends = max(float(claims["iat"]), float(claims.get("nbf", claims["iat"]))), float(claims["exp"])
    except (TypeError, ValueError) as error:
        raise RegistryRefused("the token of the CI says no time of its own; ask for a new one in the CI") from error
    if not begins - CLOCKS_APART_SECONDS <= moment <= ends + CLOCKS_APART_SECONDS:
        raise RegistryRefused("the token of the CI was not living at that time; set the clock, or ask for a new one")
    other = [name for name, value in policy.claims.items() if claims.get(name) != value]
    if other:
        told = ", ".join(f"{name} is {claims.get(name)!r}, not {policy.claims[name]!r}" for name in other)
        raise RegistryRefused(f"the token is not of the CI that {POLICY_FILE} names: {told}")
    return claims


def _request_token(audience: str) -> str:
    refused = no_token_here()
    if refused is not None:
        raise RegistryRefused(refused)
    url, secret = os.environ[REQUEST_URL], os.environ[REQUEST_TOKEN]
    try:
        answer = httpx.get(
            httpx.URL(url).copy_merge_params({"audience": audience}),
            headers={"Authorization": f"Bearer {secret}"},
            timeout=TOKEN_SECONDS,
        )
        token = answer.raise_for_status().json()["value"]
    # Not the error's own words: they hold the address, which is a secret of the job.
    except httpx.HTTPStatusError as error:
        raise RegistryRefused(
            f"the CI gave no token (it answered {error.response.status_code}); check the permission id-token: write"
        ) from None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError, UnicodeError) as error:
        raise RegistryRefused(f"the CI gave no token ({type(error).__name__}); try the job again") from None
    if not isinstance(token, str):
        raise RegistryRefused("the CI gave no token (its answer holds none); try the job again")
    return token


def _text(value: str) -> str:
    return re.sub(r"[^\x20-\x7e]", "?", value)[:120]
