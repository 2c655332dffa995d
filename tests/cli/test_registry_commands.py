"""`mlcc registry` as a person calls it: what it says, what it refuses, and that in production nothing but the CI promotes."""

import json
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from command_calls import Call

# test folders are no packages: what these tests share is imported by its own name
sys.path.insert(0, str(Path(__file__).parents[1] / "resources"))

from ci_issuer import VARIABLES, Issuer, claims_for, running_issuer, signed, write_policy

from resources.candidate_bundles import bundle_digest
from resources.registry import Registry

BASELINE = b'{"a": "baseline"}'
UNKNOWN = "f" * 64


@pytest.fixture(autouse=True)
def outside_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with running_issuer() as made:
        yield made


@pytest.fixture
def bundle(home: Path) -> Path:
    """A bundle in the folder that commands are called in, with a committed baseline beside it."""
    folder = Path("model")
    folder.mkdir()
    (folder / "model.bin").write_bytes(b"weights")
    Path("eval_baseline.json").write_bytes(BASELINE)
    return folder


def decision(digest: str, verdict: str = "promote") -> dict[str, Any]:
    return {
        "kind": "evaluation",
        "verdict": verdict,
        "rule": "fixed",
        "candidate_sha": digest,
        "tolerance": {"value": 0.02, "committed": 0.02, "loosened": False},
    }


@pytest.fixture
def judged(home: Path, bundle: Path, issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> str:
    """The digest of a candidate that production's CI has judged: nothing is missing for its promotion but the CI."""
    digest = bundle_digest(bundle)
    registry = Registry(home / "model_registry", "prod")
    write_policy(registry.root)
    with monkeypatch.context() as ci:
        for name, value in issuer.variables().items():
            ci.setenv(name, value)
        registry.register_pending(digest, {"source": "model"})
        registry.record_gate(digest, decision(digest), baseline_digest=sha256(BASELINE).hexdigest())
    return digest


def index(home: Path) -> bytes:
    path = home / "model_registry" / "index.jsonl"
    return path.read_bytes() if path.exists() else b""


# ---- a person's way


def test_the_way_of_a_version_for_trying_and_every_warning_on_it(mlcc: Call, bundle: Path):
    registered = mlcc("registry", "register-pending", "model", "--json")
    digest = registered.document["digest"]
    assert digest == bundle_digest(bundle)
    assert "not the CI path" in registered.err
    promoted = mlcc("registry", "promote", digest[:8], "v1.0.0-dev")
    assert promoted.code == 0
    assert promoted.out.startswith(f"promoted v1.0.0-dev: {digest} in dev\nhead ")
    assert "NOT A PRODUCTION VERSION" in promoted.err
    assert "no gate judged it" in promoted.err
    listed = mlcc("registry", "list")
    assert [word in listed.out for word in ("v1.0.0-dev", digest[:12], "dev")] == [True] * 3
    assert mlcc("registry", "resolve").out == f"{digest}\n"
    shown = mlcc("registry", "show", "v1.0.0-dev")
    assert [line.split()[1] for line in shown.out.splitlines()[3:]] == ["pending", "promotion"]
    assert mlcc("registry", "show", digest[:10], "--json").document["digest"] == digest
    head = promoted.out.split("head ")[1].strip()
    assert mlcc("registry", "verify", "--head", head).code == 0


def test_in_the_ci_nobody_is_warned_of_not_being_it(mlcc: Call, bundle: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert mlcc("registry", "register-pending", "model").err == ""


def test_the_list_shows_version_digest_gate_cpqu_and_environment(mlcc: Call, home: Path, bundle: Path):
    digest = bundle_digest(bundle)
    registry = Registry(home / "model_registry", "dev")
    registry.register_pending(digest, {"source": "model"})
    registry.record_gate(digest, decision(digest), evaluated={"items": 4, "correct": 2, "cost_usd": 0.001})
    (row,) = mlcc("registry", "list", "--json").document["versions"]
    assert (row["version"], row["gate"], row["cost_per_quality_unit_usd"]) == (None, "promote", 0.0005)
    lines = mlcc("registry", "list").out.splitlines()
    assert lines[1].split()[:3] == ["version", "digest", "gate"]
    assert "CpQU USD" in lines[1]
    assert "0.0005" in lines[3]
    assert mlcc("registry", "list", "--env", "staging", "--json").document["versions"] == []


def test_a_loosened_gate_is_said_wherever_it_is_shown(mlcc: Call, home: Path, bundle: Path):
    digest = bundle_digest(bundle)
    registry = Registry(home / "model_registry", "dev")
    registry.register_pending(digest, {"source": "model"})
    loose = {"value": 0.9, "committed": 0.02, "loosened": True}
    registry.record_gate(digest, decision(digest) | {"tolerance": loose})
    for promoted in (False, True):
        if promoted:
            assert mlcc("registry", "promote", digest, "v1.0.0-dev").code == 0
        assert "promote, loosened" in mlcc("registry", "list").out
        assert mlcc("registry", "list", "--json").document["versions"][0]["loosened"] is True
        shown = mlcc("registry", "show", digest).out
        assert shown.count("loosened") == 1 + promoted


@pytest.mark.parametrize("place", ["a file", "below a file", "below /proc", "a folder below a home that is a file"])
def test_a_registry_that_cannot_be_made_is_one_sentence(
    mlcc: Call, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
):
    file = tmp_path / "file"
    file.write_text("")
    places = {"a file": file, "below a file": file / "x", "below /proc": Path("/proc/mlcc-no-such")}
    if place in places:
        monkeypatch.setenv("MLCC_MODEL_REGISTRY", str(places[place]))
    else:
        monkeypatch.setenv("MLCC_HOME", str(file))
    answer = mlcc("registry", "register-pending", "model")
    assert answer.code != 0 and answer.out == ""
    said = [line for line in answer.err.splitlines() if not line.startswith("warning: ")]
    assert len(said) == 1 and "MLCC_HOME" in said[0] and "permission" not in said[0]


def test_an_index_that_is_a_link_stays_one(mlcc: Call, home: Path, bundle: Path, tmp_path: Path):
    kept = tmp_path / "kept.jsonl"
    root = home / "model_registry"
    root.mkdir(parents=True)
    (root / "index.jsonl").symlink_to(kept)
    assert mlcc("registry", "register-pending", "model").code == 0
    assert mlcc("registry", "promote", bundle_digest(bundle), "v1.0.0-dev").code == 0
    assert (root / "index.jsonl").is_symlink() and kept.read_bytes().count(b"\n") == 2


def test_a_changed_byte_is_found_and_named_and_nothing_goes_on(mlcc: Call, home: Path, bundle: Path):
    mlcc("registry", "register-pending", "model")
    mlcc("registry", "promote", bundle_digest(bundle)[:8], "v1.0.0-dev")
    path = home / "model_registry" / "index.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"source":"model"', b'"source":"Model"'))
    found = mlcc("registry", "verify")
    assert found.code == 1
    assert found.out.startswith("line 1: was changed")
    assert [fault["line"] for fault in mlcc("registry", "verify", "--json").document["faults"]] == [1]
    for words in (("list",), ("resolve",), ("promote", bundle_digest(bundle), "v2.0.0-dev")):
        refused = mlcc("registry", *words)
        assert refused.code == 1
        assert "mlcc registry verify" in refused.err


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (("promote", "{digest}", "v1.0.0;rm -rf ."), 2, "is no version"),
        (("promote", "{digest}", "v1.0.0\n"), 2, "is no version"),
        (("promote", "{digest}", "../v1.0.0"), 2, "is no version"),
        (("promote", "{digest}", "v1.0.0-rc1"), 2, "is no version"),
        (("promote", "{digest}", "v1.0.0"), 1, "only MLCC_ENV=prod gives"),
        (("promote", "../../etc/passwd", "v1.0.0-dev"), 2, "is no digest"),
        (("promote", "{short}", "v1.0.0-dev"), 2, "is no digest"),
        (("promote", UNKNOWN, "v1.0.0-dev"), 2, "no candidate ffff"),
        (("promote", "{digest}", "v1.0.0-dev", "--force"), 2, "no such option"),
        (("register-pending", "../nowhere"), 2, "is not there"),
        (("register-pending", "0" * 32), 2, "no tracking store is named"),
        (("register-pending", "model", "--artifact", "x"), 2, "are for runs of MLflow"),
        (("register-pending", "0" * 32, "--artifact", "../.."), 2, "leads out of"),
        (("register-pending", "/dev/null"), 2, "is no folder and no file"),
        (("register-pending", ""), 2, "name the folder"),
        (("resolve", "v1;2"), 2, "is no version"),
        (("resolve",), 1, "no version was promoted in dev"),
        (("show", "v9.9.9"), 2, "the registry has no v9.9.9"),
        (("show", "vX"), 2, "is no version"),
        (("show", "*"), 2, "is no digest"),
        (("verify", "--head", "abc"), 2, "is no hash"),
        (("verify", "--head", UNKNOWN), 1, ""),
        (("list", "--env", "Production"), 2, "production is written prod"),
        (("eval-set", "nowhere.jsonl"), 2, "is not there"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_request_that_cannot_be_met_is_one_sentence_and_changes_nothing(
    mlcc: Call, home: Path, bundle: Path, words: tuple[str, ...], code: int, why: str
):
    digest = bundle_digest(bundle)
    mlcc("registry", "register-pending", "model")
    before = index(home)
    answer = mlcc("registry", *(word.format(digest=digest, short=digest[:7]) for word in words))
    assert (answer.code, index(home)) == (code, before)
    assert why in answer.err
    assert "Traceback" not in answer.err


def test_a_source_with_control_characters_reaches_no_terminal(mlcc: Call, bundle: Path):
    folder = Path("\x1b[31mred")
    bundle.rename(folder)
    mlcc("registry", "register-pending", str(folder))
    digest = bundle_digest(folder)
    assert "\x1b" not in mlcc("registry", "show", digest).out


def test_the_hash_of_an_evaluation_set_is_printed_and_compared(mlcc: Call, home: Path):
    Path("set.jsonl").write_bytes(b"one")
    found = mlcc("registry", "eval-set", "set.jsonl").out.strip()
    assert found == "f97c5d29941bfb1b2fdab0874906ab82"
    assert mlcc("registry", "eval-set", "set.jsonl", "--expect", found).code == 0
    other = mlcc("registry", "eval-set", "set.jsonl", "--expect", "0" * 32)
    assert other.code == 1
    assert "is expected" in other.out


def test_the_documents_have_the_fields_that_the_page_shows(mlcc: Call, home: Path, bundle: Path):
    page = (Path(__file__).parents[2] / "docs" / "commands.md").read_text("utf-8")

    def documented(name: str) -> dict[str, Any]:
        return json.loads(page.split(f"\n## `mlcc registry {name}`\n")[1].split("```json\n")[1].split("```")[0])

    printed = mlcc("registry", "register-pending", "model", "--json").document
    assert list(printed) == list(documented("register-pending"))
    listed, shown = mlcc("registry", "list", "--json").document, documented("list")
    assert (list(listed), list(listed["versions"][0])) == (list(shown), list(shown["versions"][0]))
    (home / "model_registry" / "index.jsonl").write_bytes(index(home)[:-1])
    verified, shown = mlcc("registry", "verify", "--json").document, documented("verify")
    assert (list(verified), list(verified["faults"][0])) == (list(shown), list(shown["faults"][0]))
    Path("set.jsonl").write_bytes(b"one")
    assert list(mlcc("registry", "eval-set", "set.jsonl", "--json").document) == list(documented("eval-set"))


# ---- production


def test_the_ci_promotes_what_its_gate_let_through(
    mlcc: Call, home: Path, judged: str, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
):
    for name, value in (issuer.variables() | {"MLCC_ENV": "prod"}).items():
        monkeypatch.setenv(name, value)
    answer = mlcc("registry", "promote", judged[:12], "v1.0.0", "--json")
    assert answer.code == 0, answer.err
    assert answer.document["identity"]["proven"] is True
    assert "token" not in answer.document["identity"], "a log is no place for it"
    assert b'"token"' in index(home)
    assert mlcc("registry", "resolve", "v1.0.0").out == f"{judged}\n"
    monkeypatch.setenv("MLCC_ENV", "dev")
    assert mlcc("registry", "resolve", "v1.0.0").out == f"{judged}\n"


def test_a_baseline_that_changed_since_the_gate_or_is_gone_stops_the_ci(
    mlcc: Call, home: Path, judged: str, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
):
    for name, value in (issuer.variables() | {"MLCC_ENV": "prod"}).items():
        monkeypatch.setenv(name, value)
    before = index(home)
    Path("eval_baseline.json").write_bytes(BASELINE + b" ")
    assert "is against the baseline" in mlcc("registry", "promote", judged, "v1.0.0").err
    Path("eval_baseline.json").unlink()
    assert "there is no committed baseline" in mlcc("registry", "promote", judged, "v1.0.0").err
    assert index(home) == before


CI_WORDS = {
    "CI": ("true",),
    "GITHUB_ACTIONS": ("true",),
    "GITHUB_REPOSITORY": ("acme/tutor",),
    "GITHUB_RUN_ID": ("4711",),
    "GITHUB_WORKFLOW_REF": ("acme/tutor/.github/workflows/deploy-candidate.yml@refs/heads/main",),
    "MLCC_FORCE": ("1",),
}
"""What anybody can set."""

ISSUERS = ("none", "url alone", "secret alone", "unreachable", "one of their own")
OPTIONS: tuple[tuple[str, ...], ...] = (
    (),
    ("--json",),
    ("--baseline", "eval_baseline.json"),
    ("--baseline", "/dev/null"),
)
FORCING: tuple[tuple[str, ...], ...] = (
    ("--force",),
    ("-f",),
    ("--yes",),
    ("--env", "prod"),
    ("--ci",),
    ("--token", "x"),
)


@pytest.mark.parametrize("words", [(), ("CI", "GITHUB_ACTIONS"), tuple(CI_WORDS)], ids="+".join)
@pytest.mark.parametrize("provider", ISSUERS)
def test_outside_the_ci_no_variables_and_options_promote_in_production(
    mlcc: Call,
    home: Path,
    judged: str,
    issuer: Issuer,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    provider: str,
):
    monkeypatch.setenv("MLCC_ENV", "prod")
    for name in words:
        monkeypatch.setenv(name, CI_WORDS[name][0])
    url, secret = "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"
    theirs = issuer.variables()
    monkeypatch.setattr(issuer, "make", lambda audience: signed(claims_for(audience), key="mallory"))
    if provider in ("url alone", "one of their own"):
        monkeypatch.setenv(url, theirs[url])
    if provider in ("secret alone", "one of their own", "unreachable"):
        monkeypatch.setenv(secret, theirs[secret])
    if provider == "unreachable":
        monkeypatch.setenv(url, "http://127.0.0.1:1/")
    before = index(home)
    for options in (*OPTIONS, *FORCING):
        for version in ("v1.0.0", "v1.0.0-dev"):
            answer = mlcc("registry", "promote", judged, version, *options)
            assert answer.code in (1, 2), (options, answer)
            assert answer.err
    assert index(home) == before
    assert mlcc("registry", "resolve", "v1.0.0").code == 1


@pytest.mark.parametrize("env", ["", "dev", "staging", "test", "PROD", "Prod", " prod", "production", "prod\n", "live"])
def test_no_other_environment_gives_a_version_that_production_resolves(
    mlcc: Call, home: Path, judged: str, issuer: Issuer, monkeypatch: pytest.MonkeyPatch, env: str
):
    for name, value in (issuer.variables() | {"MLCC_ENV": env}).items():
        monkeypatch.setenv(name, value)
    mlcc("registry", "register-pending", "model")
    for version in ("v1.0.0", "v1.0.0-dev"):
        mlcc("registry", "promote", judged, version)
    monkeypatch.setenv("MLCC_ENV", "prod")
    for name in ("v1.0.0", "v1.0.0-dev"):
        assert mlcc("registry", "resolve", name).code == 1
    assert mlcc("registry", "resolve").code == 1
    lines = [json.loads(line) for line in index(home).splitlines()]
    given = [line["body"]["version"] for line in lines if line["kind"] == "promotion"]
    assert all(version.endswith("-dev") for version in given)
    assert json.loads(mlcc("registry", "verify", "--json").out)["sound"]
