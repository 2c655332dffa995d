"""The registry on a real disk, with a real issuer of tokens: what is written, what is refused, and what is found afterwards."""

import errno
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import jwt
import pytest

# test folders are no packages: what these tests share is imported by its own name
sys.path.insert(0, str(Path(__file__).parent))

from ci_issuer import (
    ISSUER,
    VARIABLES,
    Issuer,
    claims_for,
    policy_document,
    public_key,
    running_issuer,
    signed,
    signing_key,
    write_policy,
)

from mlcc_dagster.core.exceptions import InvalidInput, UsageError
from mlcc_dagster.core.model_versions import Version
from mlcc_dagster.core.registry_chain import NO_LINE, RegistryRefused, appended, read_chain
from resources import result_manifest
from resources.home import Home
from resources.registry import Registry, open_registry

A, B = (sha256(text.encode()).hexdigest() for text in "AB")
BASELINE = sha256(b"baseline").hexdigest()
DECISION: dict[str, Any] = {
    "kind": "evaluation",
    "verdict": "promote",
    "rule": "fixed",
    "candidate_sha": A,
    "tolerance": {"value": 0.02, "committed": 0.02, "loosened": False},
}
BLOCKED = DECISION | {"verdict": "blocked", "buckets": {"tense": {"accuracy": float("nan")}}}
V1 = Version.read("v1.0.0")
TRY = Version.read("v1.0.0-dev")


@pytest.fixture(scope="module")
def server() -> Iterator[Issuer]:
    with running_issuer() as issuer:
        yield issuer


@pytest.fixture
def issuer(server: Issuer) -> Issuer:
    """The issuer as it should be; a test may spoil it."""
    fresh = Issuer(server.url)
    server.make, server.status, server.answer = fresh.make, fresh.status, fresh.answer
    server.asked.clear()
    return server


@pytest.fixture(autouse=True)
def outside_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def in_ci(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> Issuer:
    for name, value in issuer.variables().items():
        monkeypatch.setenv(name, value)
    return issuer


@pytest.fixture
def dev(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry", "dev")


@pytest.fixture
def prod(tmp_path: Path) -> Registry:
    registry = Registry(tmp_path / "registry", "prod")
    write_policy(registry.root)
    return registry


@pytest.fixture
def judged(prod: Registry, in_ci: Issuer) -> Registry:
    """Production with a candidate that its CI judged: nothing is missing for its promotion."""
    prod.register_pending(A, {"source": "a"})
    prod.record_gate(A, DECISION, baseline_digest=BASELINE)
    return prod


def content(registry: Registry) -> bytes:
    return registry.index.read_bytes() if registry.index.exists() else b""


# ---- writing


def test_a_candidate_goes_from_pending_to_a_version_and_every_line_says_who_when_and_on_what(dev: Registry):
    assert dev.read().head == NO_LINE
    line, new = dev.register_pending(A, {"source": "a", "files": 1})
    assert (new, line.sequence, line.identity["proven"]) == (True, 1, False)
    gate = dev.record_gate(
        A, DECISION, baseline_digest=BASELINE, evaluated={"items": 10, "correct": 9, "cost_usd": 0.9}
    )
    promoted = dev.promote(A, TRY)
    assert promoted.body["evidence"] == {"sequence": 2, "hash": gate.hash, **gate.to_json()["body"]}
    assert dev.verify() == ()
    assert [line.kind for line in dev.sound()] == ["pending", "gate", "promotion"]
    assert dev.resolve().digest == dev.resolve("v1.0.0-dev").digest == A
    (row,) = dev.listing()
    assert (row.version, row.gate, row.env, row.usd_per_quality_unit) == ("v1.0.0-dev", "promote", "dev", 0.1)
    assert all(line.at.endswith("Z") and line.identity["name"] for line in dev.sound())


def test_the_same_content_is_registered_once_in_an_environment(dev: Registry):
    first, _ = dev.register_pending(A, {"source": "a"})
    again, new = dev.register_pending(A, {"source": "elsewhere"})
    assert (again, new) == (first, False)
    other, new = Registry(dev.root, "staging").register_pending(A, {"source": "a"})
    assert (other.sequence, new) == (2, True)


def test_asking_makes_nothing(tmp_path: Path):
    registry = Registry(tmp_path / "registry", "dev")
    assert (registry.verify(), registry.listing(), registry.digest_of(A)) == ((), (), None)
    assert not registry.root.exists()


def test_a_decision_with_numbers_that_are_none_can_be_written_down(dev: Registry):
    dev.register_pending(A, {"source": "a"})
    dev.record_gate(A, BLOCKED)
    assert dev.sound()[1].body["decision"]["buckets"] == {"tense": {"accuracy": "NaN"}}


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (lambda r: r.record_gate(B, DECISION | {"candidate_sha": B}), "is not registered in dev"),
        (lambda r: r.record_gate(B, DECISION), "the decision is on"),
        (lambda r: r.record_gate(A, DECISION | {"verdict": "fine"}), "no decision on an evaluation"),
        (lambda r: r.record_gate(A, DECISION | {"rule": None}), "no decision on an evaluation"),
        (lambda r: r.record_gate(A, DECISION | {"kind": "benchmark"}), "no decision on an evaluation"),
        (lambda r: r.record_gate(A, {}), "no decision on an evaluation"),
        (lambda r: r.record_gate(A, DECISION, baseline_digest="abc"), "no SHA-256 of a baseline"),
        (lambda r: r.record_gate(A, DECISION, evaluated={"items": 0, "correct": 0}), "items must be"),
        (lambda r: r.register_pending("../../x", {"source": "a"}), "no digest of a bundle"),
        (lambda r: r.promote(B, TRY), "is not registered"),
        (lambda r: r.promote(A, V1), "only MLCC_ENV=prod gives"),
        (lambda r: r.verify("../x"), "is no hash"),
        (lambda r: r.resolve("v9.0.0-dev"), "was not promoted"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(dev: Registry, asked: Callable[[Registry], Any], why: str):
    dev.register_pending(A, {"source": "a"})
    before = content(dev)
    with pytest.raises(UsageError, match=why):
        asked(dev)
    assert content(dev) == before


def test_a_disk_that_refuses_leaves_the_registry_as_it_was(dev: Registry, monkeypatch: pytest.MonkeyPatch):
    dev.register_pending(A, {"source": "a"})
    before = content(dev)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "index.jsonl")

    with monkeypatch.context() as patched:
        patched.setattr(result_manifest.os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            dev.promote(A, TRY)
    assert content(dev) == before
    assert dev.promote(A, TRY).sequence == 2


def test_what_a_killed_writer_left_is_swept_by_the_next_one(dev: Registry):
    dev.register_pending(A, {"source": "a"})
    half = dev.root / "index.jsonl.4711-abcd.tmp"
    half.write_bytes(content(dev) + b'{"half":')
    assert dev.promote(A, TRY).sequence == 2
    assert not half.exists()
    assert dev.verify() == ()


@pytest.mark.parametrize("same_version", [True, False])
def test_of_many_promotions_at_once_each_version_is_given_once(dev: Registry, same_version: bool):
    for digest in (A, B):
        dev.register_pending(digest, {"source": digest[:4]})
    outcomes: list[str] = []
    barrier = threading.Barrier(8)

    def go(number: int) -> None:
        version = TRY if same_version else Version.read(f"v1.0.{number}-dev")
        barrier.wait()
        try:
            Registry(dev.root, "dev").promote((A, B)[number % 2], version)
            outcomes.append("promoted")
        except RegistryRefused as refused:
            outcomes.append(str(refused))

    threads = [threading.Thread(target=go, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    given = [line for line in dev.sound() if line.kind == "promotion"]
    assert outcomes.count("promoted") == len(given) == (1 if same_version else len(given))
    assert given
    assert all("bound to" in said or "already" in said or "ascend" in said for said in outcomes if said != "promoted")


# ---- damage


def test_a_registry_with_a_fault_answers_nothing_and_takes_nothing(dev: Registry):
    dev.register_pending(A, {"source": "a"})
    dev.promote(A, TRY)
    broken = content(dev).replace(b"v1.0.0-dev", b"v1.0.1-dev")
    dev.index.write_bytes(broken)
    for asked in (
        dev.listing,
        dev.resolve,
        lambda: dev.digest_of(A),
        lambda: dev.promote(A, Version.read("v2.0.0-dev")),
        lambda: dev.record_gate(A, DECISION),
        lambda: dev.register_pending(B, {"source": "b"}),
    ):
        with pytest.raises(RegistryRefused, match="cannot be relied on"):
            asked()
    assert content(dev) == broken
    assert [fault.line for fault in dev.verify()] == [2]


def test_a_torn_last_line_is_not_built_upon_and_the_lines_before_it_are_kept(dev: Registry):
    dev.register_pending(A, {"source": "a"})
    whole = content(dev)
    dev.promote(A, TRY)
    for length in range(len(whole) + 1, len(content(dev))):
        torn = read_chain(content(dev)[:length])
        assert torn.faults
        assert torn.lines[:1] == read_chain(whole).lines


def test_the_head_that_was_kept_finds_an_end_that_was_cut_off(dev: Registry):
    dev.register_pending(A, {"source": "a"})
    before = content(dev)
    head = dev.promote(A, TRY).hash
    assert dev.verify(head) == ()
    dev.index.write_bytes(before)
    assert dev.verify() == ()
    (fault,) = dev.verify(head)
    assert "was kept" in fault.reason


# ---- production


def test_in_the_ci_a_judged_candidate_gets_its_version_and_the_line_proves_by_whom(judged: Registry, in_ci: Issuer):
    line = judged.promote(A, V1, baseline_digest=BASELINE)
    assert line.identity["proven"] is True
    assert line.identity["claims"]["actor"] == "ada"
    assert line.identity["name"] == "acme/tutor run 4711"
    assert in_ci.asked[-1] == f"mlcc-registry:{line.binding()}"
    assert judged.verify() == ()
    assert judged.resolve().digest == A


def test_a_line_is_checked_again_long_after_its_token_ended(
    judged: Registry, in_ci: Issuer, monkeypatch: pytest.MonkeyPatch
):
    judged.promote(A, V1, baseline_digest=BASELINE)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(time, "time", lambda: 4_000_000_000.0)
    assert judged.verify() == ()


def unsigned(audience: str) -> str:
    return jwt.encode(claims_for(audience), None, algorithm="none", headers={"kid": "key-1"})


def signed_with_the_public_key(audience: str) -> str:
    """The old trick: the public key as the secret of a symmetric signature."""
    import base64
    import hmac

    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    def part(value: bytes) -> bytes:
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    secret = signing_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head = part(json.dumps({"alg": "HS256", "typ": "JWT", "kid": "key-1"}).encode())
    text = head + b"." + part(json.dumps(claims_for(audience)).encode())
    return (text + b"." + part(hmac.new(secret, text, "sha256").digest())).decode()


def claiming(**claims: Any) -> Callable[[str], str]:
    return lambda audience: signed(claims_for(audience, **claims))


def living(begin: int, end: int) -> Callable[[str], str]:
    """Seconds from the moment at which the token is asked for."""
    return lambda a: signed(claims_for(a, iat=int(time.time()) + begin, nbf=None, exp=int(time.time()) + end))


BAD_TOKENS: dict[str, tuple[Callable[[str], Any], str]] = {
    "signed by a key of somebody's own": (lambda a: signed(claims_for(a), key="mine"), "Signature verification failed"),
    "signed by a key that the policy lacks": (
        lambda a: signed(claims_for(a), key="mine", key_id="mine"),
        "does not have",
    ),
    "signed by nobody": (unsigned, "token of the CI is not good"),
    "signed with the public key as a secret": (signed_with_the_public_key, "token of the CI is not good"),
    "by another issuer": (claiming(iss="https://mine.example"), "Invalid issuer"),
    "for another line": (lambda a: signed(claims_for(f"{a[:-1]}{'0' if a[-1] != '0' else '1'}")), "Audience"),
    "for everything": (claiming(aud="mlcc-registry:"), "Audience"),
    "for this line and others": (lambda a: signed(claims_for(a, aud=[a, "x"])), "strict"),
    "for nothing": (claiming(aud=None), "aud"),
    "of another repository": (claiming(repository="mallory/tutor"), "repository is 'mallory/tutor'"),
    "of another workflow": (
        claiming(workflow_ref="acme/tutor/.github/workflows/x.yml@refs/heads/main"),
        "workflow_ref is",
    ),
    "of the workflow on another branch": (
        claiming(workflow_ref="acme/tutor/.github/workflows/deploy-candidate.yml@refs/heads/mine"),
        "workflow_ref is",
    ),
    "without the claim": (claiming(workflow_ref=None), "workflow_ref is None"),
    "ended an hour ago": (living(-7200, -3600), "not living"),
    "not begun": (living(3600, 7200), "not living"),
    "without an end": (claiming(exp=None), "exp"),
    "with an end that is no time": (claiming(exp="tomorrow"), "token of the CI"),
    "no token at all": (lambda a: "abc", "token of the CI is not good"),
    "a number": (lambda a: 7, "its answer holds none"),
    "nothing": (lambda a: None, "its answer holds none"),
}


@pytest.mark.parametrize("what", BAD_TOKENS)
def test_production_takes_no_token_that_is_not_exactly_right(judged: Registry, in_ci: Issuer, what: str):
    before = content(judged)
    in_ci.make, why = BAD_TOKENS[what]
    with pytest.raises(RegistryRefused, match=why):
        judged.promote(A, V1, baseline_digest=BASELINE)
    with pytest.raises(RegistryRefused, match=why):
        judged.record_gate(A, DECISION, baseline_digest=BASELINE)
    assert content(judged) == before


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda i, m: m.delenv("ACTIONS_ID_TOKEN_REQUEST_URL"), "this is not the CI"),
        (lambda i, m: m.delenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN"), "this is not the CI"),
        (lambda i, m: m.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", ""), "this is not the CI"),
        (lambda i, m: m.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "guessed"), "it answered 401"),
        (lambda i, m: m.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "a\nb"), "gave no token"),
        (lambda i, m: m.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", "http://127.0.0.1:1/"), "ConnectError"),
        (lambda i, m: m.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", "file:///etc/passwd"), "gave no token"),
        (lambda i, m: m.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", "http://[x"), "gave no token"),
        (lambda i, m: setattr(i, "status", 403), "it answered 403"),
        (lambda i, m: setattr(i, "answer", b"<html>"), "gave no token"),
        (lambda i, m: setattr(i, "answer", b"[]"), "gave no token"),
        (lambda i, m: setattr(i, "answer", b"{}"), "gave no token"),
    ],
)
def test_production_takes_nothing_where_no_token_is_to_be_had_and_shows_no_secret(
    judged: Registry, in_ci: Issuer, monkeypatch: pytest.MonkeyPatch, spoil: Any, why: str
):
    before = content(judged)
    spoil(in_ci, monkeypatch)
    with pytest.raises(RegistryRefused, match=why) as refused:
        judged.promote(A, V1, baseline_digest=BASELINE)
    assert "secret-of-the-job" not in str(refused.value)
    assert in_ci.url not in str(refused.value)
    assert content(judged) == before


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        (None, "without a policy nobody is known to be the CI"),
        ("{", "not readable as JSON"),
        ("[]", "must be a JSON object"),
        (policy_document(schema_version="2"), "schema_version must be"),
        (policy_document(claims={}), "claims.repository: is missing"),
        (policy_document(claims={"repository": "acme/tutor"}), "claims.workflow_ref: is missing"),
        (policy_document(claims={"repository": "", "workflow_ref": "x"}), "the one text that each must have"),
        (policy_document(claims={"repository": ["a", "b"], "workflow_ref": "x"}), "the one text"),
        (policy_document(issuer=""), "issuer: must be"),
        (policy_document(jwks={"keys": []}), "jwks.keys: must hold"),
        (policy_document(jwks={"keys": [{"kty": "oct", "kid": "key-1", "k": "secret"}]}), "jwks.keys: must hold"),
        (policy_document(jwks={"keys": [public_key() | {"d": "secret"}]}), "nothing secret"),
        (policy_document(more=1), "unknown: more"),
        (policy_document(jwks={"keys": [public_key("other")]}), "which policy.json does not have"),
        (policy_document(issuer=f"{ISSUER}/"), "Invalid issuer"),
        (policy_document(claims={"repository": "acme/tutor", "workflow_ref": "acme/.*"}), "workflow_ref is"),
    ],
)
def test_without_a_policy_that_names_this_ci_production_takes_and_tells_nothing(
    judged: Registry, policy: dict[str, Any] | str | None, why: str
):
    before = content(judged)
    path = judged.root / "policy.json"
    if policy is None:
        path.unlink()
    else:
        path.write_text(policy if isinstance(policy, str) else json.dumps(policy), "utf-8")
    with pytest.raises((RegistryRefused, InvalidInput), match=why):
        judged.promote(A, V1, baseline_digest=BASELINE)
    with pytest.raises((RegistryRefused, InvalidInput)):
        judged.resolve()
    assert content(judged) == before


def test_a_new_key_of_the_issuer_is_added_and_lines_under_the_old_one_still_count(judged: Registry, in_ci: Issuer):
    write_policy(judged.root, jwks={"keys": [public_key("key-1"), public_key("key-2")]})
    in_ci.make = lambda audience: signed(claims_for(audience), key="key-2", key_id="key-2")
    judged.promote(A, V1, baseline_digest=BASELINE)
    assert judged.verify() == ()
    write_policy(judged.root, jwks={"keys": [public_key("key-2")]})
    (fault,) = judged.verify()
    assert fault.line == 2
    assert "does not have" in fault.reason


# ---- lines of production that were written by hand


def forge(registry: Registry, **values: Any) -> None:
    """Add a line past the registry, well chained."""
    chain = read_chain(content(registry))
    line = appended(chain, **{"at": chain.lines[-1].at, "env": "prod", "digest": A, **values})
    registry.index.write_bytes(content(registry) + line.to_bytes())


def promoted_by_hand(registry: Registry, identity: dict[str, Any]) -> None:
    from mlcc_dagster.core.model_registry import evidence_of, newest_gate

    evidence = evidence_of(newest_gate(registry.sound(), A, "prod"))
    forge(registry, kind="promotion", identity=identity, body={"version": "v1.0.0", "evidence": evidence})


@pytest.mark.parametrize(
    ("identity", "why"),
    [
        ({"kind": "github-actions", "name": "acme/tutor run 1", "proven": True}, "no token of the CI is with it"),
        ({"kind": "github-actions", "name": "me", "proven": True, "token": "abc"}, "token of the CI is not good"),
        ("of another line", "Audience"),
    ],
    ids=["says that it is proven", "a token of its own", "the token of the gate's line"],
)
def test_a_promotion_that_was_written_into_the_file_is_found_and_resolves_nothing(
    judged: Registry, identity: Any, why: str
):
    if identity == "of another line":
        identity = dict(judged.sound()[1].identity)
    promoted_by_hand(judged, identity)
    assert read_chain(content(judged)).faults == ()
    (fault,) = judged.verify()
    assert (fault.line, why in fault.reason) == (3, True)
    with pytest.raises(RegistryRefused, match="cannot be relied on"):
        judged.resolve()


def test_a_gate_record_of_production_needs_the_ci_too(judged: Registry, monkeypatch: pytest.MonkeyPatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    judged.register_pending(B, {"source": "b"})
    with pytest.raises(RegistryRefused, match="this is not the CI"):
        judged.record_gate(B, DECISION | {"candidate_sha": B}, baseline_digest=BASELINE)
    body = dict(judged.sound()[1].body)
    forge(judged, kind="gate", digest=B, identity={"kind": "person", "name": "me", "proven": True}, body=body)
    assert [fault.line for fault in judged.verify()] == [4]


def test_what_was_recorded_in_dev_does_not_count_in_production(prod: Registry, in_ci: Issuer):
    trial = Registry(prod.root, "dev")
    trial.register_pending(A, {"source": "a"})
    trial.record_gate(A, DECISION, baseline_digest=BASELINE)
    trial.promote(A, TRY)
    with pytest.raises(RegistryRefused) as refused:
        prod.promote(A, V1, baseline_digest=BASELINE)
    assert "is not registered in prod" in str(refused.value)
    assert "no gate has judged" in str(refused.value)
    with pytest.raises(RegistryRefused):
        prod.resolve()


# ---- where it lies


def test_the_place_and_the_environment_come_from_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    home = Home(tmp_path / "home")
    assert open_registry(home) == Registry(tmp_path / "home" / "model_registry", "dev")
    monkeypatch.setenv("MLCC_MODEL_REGISTRY", str(tmp_path / "committed"))
    monkeypatch.setenv("MLCC_ENV", "prod")
    assert open_registry(home) == Registry(tmp_path / "committed", "prod")
    assert open_registry(home, env="dev").env == "dev"
    monkeypatch.setenv("MLCC_ENV", "Prod")
    with pytest.raises(UsageError, match="MLCC_ENV=prod"):
        open_registry(home)


def test_the_images_of_the_home_lie_elsewhere(tmp_path: Path):
    home = Home(tmp_path / "home")
    assert home.registry not in (open_registry(home).root, *open_registry(home).root.parents)
