"""Promotions by real commands that are killed at every step, and several at once: with evidence, or not at all."""

import signal
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from mlcc_forks import Blow, Command, Forker

# test folders are no packages: what these tests share is imported by its own name
sys.path.insert(0, str(Path(__file__).parents[1] / "resources"))

from ci_issuer import VARIABLES, Issuer, running_issuer, write_policy

from resources.home import Home
from resources.registry import Registry

pytestmark = pytest.mark.slow

A, B = (sha256(text.encode()).hexdigest() for text in "AB")
BASELINE_FILE = b'{"baseline": "of now"}'
BASELINE = sha256(BASELINE_FILE).hexdigest()
KILLED = -signal.SIGKILL
STEPS = (
    "resources.registry:read_chain",
    "resources.registry:promotion_refusals",
    "filelock:FileLock.acquire",
    "resources.registry:proven_identity",
    "resources.registry:appended",
    "resources.registry:replace_durably",
    "pathlib:Path.open",
    "os:fsync",
    "pathlib:Path.replace",
    "resources.result_manifest:sync_folder",
    "filelock:FileLock.release",
)
"""What a promotion goes through, in about this order: reading, rules, the lock, the token, the line, the file, its new name."""


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with running_issuer() as made:
        yield made


@pytest.fixture(scope="module")
def in_production(issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forker]:
    """Starts commands as jobs of the CI do, in production."""
    with pytest.MonkeyPatch.context() as patch:
        for name in VARIABLES:
            patch.delenv(name, raising=False)
        for name, value in (issuer.variables() | {"MLCC_ENV": "prod"}).items():
            patch.setenv(name, value)
        forker = Forker(tmp_path_factory.mktemp("commands"))
        yield forker
        forker.close()


def decision(digest: str) -> dict[str, Any]:
    return {
        "kind": "evaluation",
        "verdict": "promote",
        "rule": "fixed",
        "candidate_sha": digest,
        "tolerance": {"value": 0.02, "committed": 0.02, "loosened": False},
    }


@pytest.fixture
def home(in_production: Forker, issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home whose registry has two candidates that production's gate let through."""
    for name, value in issuer.variables().items():
        monkeypatch.setenv(name, value)
    made = Home(tmp_path / "home").ensure()
    (tmp_path / "eval_baseline.json").write_bytes(BASELINE_FILE)
    registry = Registry(made.root / "model_registry", "prod")
    write_policy(registry.root)
    for digest in (A, B):
        registry.register_pending(digest, {"source": digest[:4]})
        registry.record_gate(digest, decision(digest), baseline_digest=BASELINE)
    return made


def promote(home: Home, digest: str, version: str) -> tuple[str, ...]:
    baseline = home.root.parent / "eval_baseline.json"
    return ("registry", "promote", digest, version, "--baseline", str(baseline))


def promoted(home: Home) -> dict[str, str]:
    """Return the versions by what they name, having checked that the registry is whole and each rests on its evidence."""
    registry = Registry(home.root / "model_registry", "prod")
    assert registry.verify() == ()
    lines = registry.sound()
    given = [line for line in lines if line.kind == "promotion"]
    for line in given:
        evidence = line.body["evidence"]
        assert (evidence["verdict"], evidence["decision"]["candidate_sha"]) == ("promote", line.digest)
        assert lines[evidence["sequence"] - 1].hash == evidence["hash"]
    return {line.body["version"]: line.digest for line in given}


def test_a_promotion_that_is_killed_anywhere_happened_with_its_evidence_or_not_at_all(
    in_production: Forker, home: Home
):
    number, kills, happened = 0, 0, 0
    for step in STEPS:
        for side in ("before", "after"):
            for call in range(1, 40):
                number += 1
                version = f"v1.0.{number}"
                before = promoted(home)
                command = in_production.run(home, *promote(home, A, version), blows=[Blow(step, side, call)])
                code, after = command.wait(), promoted(home)
                assert code in (0, KILLED), command.stderr
                assert after in (before, before | {version: A})
                if code == 0:
                    assert version in after
                    break
                kills += 1
                happened += version in after
                # The next command finds no lock held and no half, and says what is true.
                again = in_production.run(home, *promote(home, A, version))
                assert again.wait() == (1 if version in after else 0), again.stderr
                assert "was given in prod already" in again.stderr or version not in after
                assert promoted(home)[version] == A
            else:
                pytest.fail(f"{step} is called without end")
    print(f"{kills} kills, {happened} of them after the version was given")
    assert kills >= 2 * len(STEPS) - 2, "every step was struck"
    assert 0 < happened < kills
    assert [path.name for path in (home.root / "model_registry").glob("*.tmp")] == []


def test_of_two_promotions_at_once_one_wins(in_production: Forker, home: Home):
    for number in range(6):
        version = f"v1.{number}.0"
        commands: list[Command] = [in_production.start(home, *promote(home, digest, version)) for digest in (A, B)]
        codes = [command.wait() for command in commands]
        assert sorted(codes) == [0, 1], [command.stderr for command in commands]
        assert promoted(home)[version] == (A, B)[codes.index(0)]
        assert "is bound to" in commands[codes.index(1)].stderr
    assert len(promoted(home)) == 6
