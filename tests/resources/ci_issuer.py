"""An identity provider like the one of a CI: a real server that signs tokens for jobs, and what can be wrong with those."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from jwt.algorithms import RSAAlgorithm

ISSUER = "https://issuer.example"
REPOSITORY = "acme/tutor"
WORKFLOW = "acme/tutor/.github/workflows/deploy-candidate.yml@refs/heads/main"
KEY_ID = "key-1"


@cache
def signing_key(name: str = KEY_ID) -> RSAPrivateKey:
    """A key of its own for each name; making one takes a moment, so they are kept."""
    return generate_private_key(public_exponent=65537, key_size=2048)


def public_key(name: str = KEY_ID) -> dict[str, Any]:
    made = json.loads(RSAAlgorithm.to_jwk(signing_key(name).public_key()))
    return {"kty": "RSA", "kid": name, "n": made["n"], "e": made["e"], "use": "sig", "alg": "RS256"}


def policy_document(**changes: Any) -> dict[str, Any]:
    return {
        "schema_version": "1",
        "issuer": ISSUER,
        "claims": {"repository": REPOSITORY, "workflow_ref": WORKFLOW},
        "jwks": {"keys": [public_key()]},
    } | changes


def write_policy(registry: Path, **changes: Any) -> None:
    registry.mkdir(parents=True, exist_ok=True)
    (registry / "policy.json").write_text(json.dumps(policy_document(**changes)), "utf-8")


def claims_for(audience: str, **changes: Any) -> dict[str, Any]:
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": audience,
        "sub": f"repo:{REPOSITORY}:ref:refs/heads/main",
        "repository": REPOSITORY,
        "workflow_ref": WORKFLOW,
        "run_id": "4711",
        "actor": "ada",
        "iat": now,
        "nbf": now - 5,
        "exp": now + 300,
    } | changes
    return {name: value for name, value in claims.items() if value is not None}


def good_token(audience: str) -> str:
    return signed(claims_for(audience))


def signed(claims: Mapping[str, Any], *, key: str = KEY_ID, key_id: str = KEY_ID) -> str:
    return jwt.encode(dict(claims), signing_key(key), algorithm="RS256", headers={"kid": key_id})


@dataclass
class Issuer:
    """The running server. `make` makes the token for an audience; `status` and `answer` replace what it says."""

    url: str
    make: Callable[[str], Any] = good_token
    status: int = 200
    answer: bytes | None = None
    asked: list[str] = field(default_factory=list)

    def variables(self) -> dict[str, str]:
        """What a job of the CI finds in its environment."""
        return {
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_RUN_ID": "4711",
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.url}/token?api-version=2.0",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "secret-of-the-job",
        }


@contextmanager
def running_issuer() -> Any:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            right = self.headers.get("Authorization") == "Bearer secret-of-the-job" and query["api-version"] == ["2.0"]
            issuer.asked.append(query["audience"][0])
            body = issuer.answer
            if body is None:
                body = json.dumps({"value": issuer.make(query["audience"][0])}).encode()
            self.send_response(issuer.status if right else 401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer = Issuer(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


VARIABLES = (
    "MLCC_ENV",
    "MLCC_MODEL_REGISTRY",
    "CI",
    "GITHUB_ACTIONS",
    "GITHUB_REPOSITORY",
    "GITHUB_RUN_ID",
    "ACTIONS_ID_TOKEN_REQUEST_URL",
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
)
"""What a test must not inherit from the machine that it runs on, which may be a CI."""
