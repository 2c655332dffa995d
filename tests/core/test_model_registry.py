"""Who may be given which version, and what a lookup answers: the rules alone, on lines made for them."""

from collections.abc import Mapping
from hashlib import sha256
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.model_registry import (
    Evaluated,
    env_of,
    evidence_of,
    full_digest,
    listing,
    newest_gate,
    promotion_refusals,
    resolve,
    rule_faults,
)
from mlcc_dagster.core.model_versions import Version
from mlcc_dagster.core.registry_chain import Chain, RegistryLine, RegistryRefused, appended

A, B, C = (sha256(text.encode()).hexdigest() for text in "ABC")
NOW, OLD = "1" * 64, "0" * 64
"""The baseline that is committed now, and the one before."""


def decision(digest: str, verdict: str = "promote") -> dict[str, Any]:
    return {
        "kind": "evaluation",
        "verdict": verdict,
        "rule": "fixed",
        "candidate_sha": digest,
        "tolerance": {"value": 0.02, "committed": 0.02, "loosened": False},
    }


class Lines:
    """A chain that grows by whatever a test says, whether the rules allow it or not."""

    def __init__(self) -> None:
        self.chain = Chain()

    def add(self, kind: str, digest: str, env: str, body: Mapping[str, Any]) -> RegistryLine:
        line = appended(
            self.chain,
            kind=kind,
            env=env,
            at="2026-11-22T10:00:00.000000Z",
            identity={"name": "ada"},
            digest=digest,
            body=body,
        )
        self.chain = Chain((*self.chain.lines, line))
        return line

    def pending(self, digest: str, env: str) -> "Lines":
        self.add("pending", digest, env, {"source": f"bundle {digest[:4]}"})
        return self

    def gate(
        self,
        digest: str,
        env: str,
        verdict: str = "promote",
        baseline: str | None = NOW,
        decided: Mapping[str, Any] = MappingProxyType({}),
        **evaluated: Any,
    ) -> "Lines":
        body = {
            "verdict": verdict,
            "rule": "fixed",
            "baseline_digest": baseline,
            "evaluated": evaluated or None,
            "decision": decision(digest, verdict) | decided,
        }
        self.add("gate", digest, env, body)
        return self

    def promotion(self, digest: str, env: str, version: str) -> "Lines":
        evidence = evidence_of(newest_gate(self.chain.lines, digest, env))
        self.add("promotion", digest, env, {"version": version, "evidence": evidence})
        return self

    @property
    def lines(self) -> tuple[RegistryLine, ...]:
        return self.chain.lines


def refusals(lines: Lines, version: str, env: str, digest: str = A, baseline: str | None = NOW) -> tuple[str, ...]:
    return promotion_refusals(
        lines.lines, digest=digest, version=Version.read(version), env=env, baseline_digest=baseline
    )


@pytest.mark.parametrize(
    ("lines", "version", "baseline", "why"),
    [
        (Lines().pending(A, "prod").gate(A, "prod"), "v1.0.0", NOW, None),
        (Lines().pending(A, "prod"), "v1.0.0", NOW, "no gate has judged"),
        (Lines().gate(A, "prod"), "v1.0.0", NOW, "is not registered in prod"),
        (Lines().pending(A, "dev").gate(A, "prod"), "v1.0.0", NOW, "is not registered in prod"),
        (Lines().pending(A, "prod").gate(A, "dev"), "v1.0.0", NOW, "no gate has judged"),
        (Lines().pending(A, "prod").gate(A, "staging"), "v1.0.0", NOW, "no gate has judged"),
        (Lines().pending(A, "prod").pending(B, "prod").gate(B, "prod"), "v1.0.0", NOW, "no gate has judged"),
        (Lines().pending(A, "prod").gate(A, "prod", "blocked"), "v1.0.0", NOW, "says blocked"),
        (Lines().pending(A, "prod").gate(A, "prod", "inconclusive"), "v1.0.0", NOW, "says inconclusive"),
        (Lines().pending(A, "prod").gate(A, "prod").gate(A, "prod", "blocked"), "v1.0.0", NOW, "says blocked"),
        (Lines().pending(A, "prod").gate(A, "prod", "blocked").gate(A, "prod"), "v1.0.0", NOW, None),
        (Lines().pending(A, "prod").gate(A, "prod").gate(A, "dev", "blocked"), "v1.0.0", NOW, None),
        (Lines().pending(A, "prod").gate(A, "prod", baseline=OLD), "v1.0.0", NOW, "is against the baseline 0000"),
        (Lines().pending(A, "prod").gate(A, "prod", baseline=None), "v1.0.0", NOW, "names no baseline"),
        (Lines().pending(A, "prod").gate(A, "prod"), "v1.0.0", None, "no committed baseline"),
        (
            Lines().pending(A, "prod").gate(A, "prod", decided={"tolerance": {"loosened": True}}),
            "v1.0.0",
            NOW,
            "tolerates more than the committed",
        ),
        (Lines().pending(A, "prod").gate(A, "prod", decided={"tolerance": {}}), "v1.0.0", NOW, "tolerates more"),
        (
            Lines().pending(A, "prod").gate(A, "prod", decided={"candidate_sha": None}),
            "v1.0.0",
            NOW,
            "judged None, not",
        ),
        (Lines().pending(A, "prod").gate(A, "prod", decided={"candidate_sha": B}), "v1.0.0", NOW, "not this content"),
        (
            Lines().pending(A, "prod").gate(A, "prod"),
            "v1.0.0-dev",
            NOW,
            "production takes final versions such as v1.0.0",
        ),
    ],
    ids=[
        "registered, judged, against the baseline of now",
        "never judged",
        "judged without being registered",
        "registered elsewhere",
        "judged in dev",
        "judged in staging",
        "another one was judged",
        "blocked",
        "nobody knows",
        "a later judgement overrules a pass",
        "and a block",
        "a judgement elsewhere overrules nothing",
        "the baseline moved on",
        "judged against nobody knows what",
        "nothing is committed",
        "judged with a looser tolerance",
        "judged with nobody knows what tolerance",
        "nobody knows what was judged",
        "another content was judged",
        "a version for trying",
    ],
)
def test_production_takes_a_candidate_only_on_its_newest_judgement_there(lines, version, baseline, why):
    found = refusals(lines, version, "prod", baseline=baseline)
    assert (why is None) == (found == ())
    assert why is None or why in "; ".join(found)


def test_elsewhere_only_versions_for_trying_are_given_and_no_judgement_is_asked_for():
    lines = Lines().pending(A, "dev")
    assert refusals(lines, "v1.0.0-dev", "dev", baseline=None) == ()
    assert "only MLCC_ENV=prod gives" in refusals(lines, "v1.0.0", "dev")[0]
    assert "is not registered in staging" in refusals(lines, "v1.0.0-dev", "staging")[0]


@pytest.mark.parametrize(
    ("digest", "version", "env", "why"),
    [
        (A, "v1.0.0", "prod", "given in prod already"),
        (B, "v1.0.0", "prod", "bound to"),
        (B, "v0.9.9", "prod", "versions ascend"),
        (A, "v0.9.9", "prod", "versions ascend"),
        (A, "v1.0.1", "prod", None),
        (B, "v1.0.1", "prod", None),
        (B, "v0.1.0-dev", "dev", "bound to"),
        (A, "v0.1.0-dev", "staging", None),
        (B, "v0.1.0-dev", "staging", "bound to"),
        (B, "v0.0.9-dev", "dev", "versions ascend"),
        (B, "v0.1.0-dev.1", "dev", None),
        (B, "v0.0.1-dev", "staging", None),
    ],
    ids=[
        "again",
        "for another model",
        "below the highest",
        "below it for the same model",
        "a second name for a model, as for going back to it",
        "the next one",
        "a version for trying is bound too",
        "the same model may have its version in two environments",
        "and no other model may have it in a second one",
        "below the highest for trying",
        "the next try",
        "versions ascend within an environment",
    ],
)
def test_a_version_is_one_models_for_ever_and_versions_ascend(digest: str, version: str, env: str, why: str | None):
    lines = Lines()
    for each in (A, B):
        for where in ("prod", "dev", "staging"):
            lines.pending(each, where).gate(each, where)
    lines.promotion(A, "prod", "v1.0.0").promotion(A, "dev", "v0.1.0-dev")
    found = refusals(lines, version, env, digest)
    assert (why is None) == (found == ())
    assert why is None or why in found[0]


def test_every_reason_is_named_at_once():
    lines = Lines().pending(B, "prod").gate(B, "prod").promotion(B, "prod", "v2.0.0")
    lines.gate(A, "prod", "blocked", OLD)
    said = refusals(lines, "v1.0.0-dev", "prod")
    parts = ("final versions", "not registered", "versions ascend", "says blocked", "is against the baseline")
    assert [part for part in parts if part not in "; ".join(said)] == []


# ---- lines that nobody may have written


def sound() -> Lines:
    return Lines().pending(A, "prod").gate(A, "prod").promotion(A, "prod", "v1.0.0")


def test_lines_that_the_rules_let_in_have_no_fault():
    assert rule_faults(sound().lines) == ()


@pytest.mark.parametrize(
    ("kind", "digest", "body", "why"),
    [
        ("promotion", A, {"version": "v1.0.0", "evidence": None}, "its evidence is not the gate record"),
        (
            "promotion",
            A,
            {"version": "v1.0.1", "evidence": {"baseline_digest": NOW}},
            "its evidence is not the gate record",
        ),
        ("promotion", B, {"version": "v1.0.1", "evidence": None}, "is not registered"),
        ("promotion", A, {"version": "v1.0.1;rm", "evidence": None}, "is no version"),
        ("promotion", A, {"version": 7, "evidence": None}, "cannot be read"),
        ("promotion", A, {}, "cannot be read"),
        ("gate", B, {"verdict": "promote", "evaluated": None, "decision": decision(B)}, "was not registered"),
        ("gate", A, {"verdict": "fine", "evaluated": None, "decision": decision(A)}, "unknown verdict"),
        ("gate", A, {"verdict": "promote", "evaluated": None, "decision": decision(A, "blocked")}, "not that of its"),
        ("gate", A, {"verdict": "promote", "evaluated": None, "decision": decision(A) | {"kind": "x"}}, "another kind"),
        ("gate", A, {"verdict": "promote", "evaluated": {"items": 1}, "decision": decision(A)}, "correct must be"),
        ("gate", A, {"verdict": "promote", "evaluated": 3, "decision": decision(A)}, "cannot be read"),
        ("gate", A, {"verdict": "promote"}, "cannot be read"),
    ],
)
def test_a_line_that_is_well_chained_and_against_the_rules_is_found(kind: str, digest: str, body: Any, why: str):
    lines = sound()
    lines.add(kind, digest, "prod", body)
    (*_, last) = rule_faults(lines.lines)
    assert last.line == 4
    assert why in "; ".join(fault.reason for fault in rule_faults(lines.lines))


# ---- looking up


@pytest.fixture
def promoted() -> Lines:
    lines = Lines()
    for each in (A, B, C):
        for where in ("prod", "dev"):
            lines.pending(each, where).gate(each, where)
    lines.promotion(A, "prod", "v1.9.0").promotion(B, "prod", "v1.10.0").promotion(C, "dev", "v2.0.0-dev")
    assert rule_faults(lines.lines) == ()
    return lines


@pytest.mark.parametrize(
    ("version", "env", "expected"),
    [
        (None, "prod", B),
        ("v1.9.0", "prod", A),
        (None, "dev", C),
        ("v2.0.0-dev", "dev", C),
        ("v1.9.0", "dev", A),
    ],
    ids=[
        "the highest, not the last by text",
        "an older one",
        "the environment's own",
        "by name",
        "production's from dev",
    ],
)
def test_a_lookup_finds_the_digest(promoted: Lines, version: str | None, env: str, expected: str):
    assert resolve(promoted.lines, version, env=env).digest == expected


@pytest.mark.parametrize(
    ("version", "env", "why"),
    [
        ("v2.0.0-dev", "prod", "never resolved in production"),
        ("v2.0.0", "prod", "was not promoted in prod"),
        ("v2.0.0-dev", "staging", "was not promoted in staging"),
        (None, "staging", "no version was promoted in staging"),
    ],
)
def test_a_lookup_that_finds_nothing_says_so(promoted: Lines, version: str | None, env: str, why: str):
    with pytest.raises(RegistryRefused, match=why):
        resolve(promoted.lines, version, env=env)


@given(st.lists(st.tuples(st.sampled_from([A, B, C]), st.integers(0, 3), st.booleans()), max_size=12))
def test_whatever_is_promoted_production_resolves_no_version_for_trying_and_no_version_ever_changes(tries):
    lines, bound = Lines(), {}
    for each in (A, B, C):
        for where in ("prod", "dev"):
            lines.pending(each, where).gate(each, where)
    for digest, number, dev in tries:
        version, env = f"v1.{number}.0{'-dev' if dev else ''}", "dev" if dev else "prod"
        if not refusals(lines, version, env, digest):
            lines.promotion(digest, env, version)
            bound.setdefault(version, digest)
        for known, model in bound.items():
            if not known.endswith("-dev"):
                assert resolve(lines.lines, known, env="prod").digest == model
            else:
                assert resolve(lines.lines, known, env="dev").digest == model
                with pytest.raises(RegistryRefused):
                    resolve(lines.lines, known, env="prod")
    assert rule_faults(lines.lines) == ()


def test_the_list_shows_versions_newest_first_and_then_who_has_none():
    lines = Lines().pending(A, "prod").pending(B, "prod").pending(C, "prod")
    lines.gate(A, "prod", items=100, correct=80, cost_usd=0.4).promotion(A, "prod", "v1.0.0")
    lines.gate(A, "prod", "blocked", items=100, correct=10, cost_usd=9.0)
    lines.gate(B, "prod", "blocked", items=100, correct=50, cost_usd=None)
    rows = listing(lines.lines)
    assert [(row.version, row.digest, row.gate) for row in rows] == [
        ("v1.0.0", A, "promote"),
        (None, C, None),
        (None, B, "blocked"),
    ]
    assert [row.usd_per_quality_unit for row in rows] == [pytest.approx(0.005), None, None]
    assert rows[0].source == f"bundle {A[:4]}"


# ---- words


@pytest.mark.parametrize(
    ("items", "correct", "cost", "expected"),
    [(100, 80, 0.4, 0.005), (100, 0, 0.4, None), (100, 80, None, None), (1, 1, 0, 0.0)],
    ids=["USD per right answer", "nothing right is no price at all", "no cost known is not free", "free is free"],
)
def test_the_cost_per_quality_unit_is_usd_per_right_answer(items: int, correct: int, cost: Any, expected: float | None):
    found = Evaluated.read({"items": items, "correct": correct, "cost_usd": cost}).usd_per_quality_unit
    assert found == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    "values",
    [
        {"items": 0, "correct": 0},
        {"items": 3, "correct": 4},
        {"items": 3, "correct": -1},
        {"items": True, "correct": 1},
        {"items": 3.0, "correct": 1},
        {"items": 3, "correct": 1, "cost_usd": float("nan")},
        {"items": 3, "correct": 1, "cost_usd": -1},
        {"items": 3, "correct": 1, "cost_usd": "free"},
        {},
    ],
)
def test_numbers_that_cannot_be_are_refused(values: dict[str, Any]):
    with pytest.raises(UsageError, match=r"cannot be so: .*evaluate the candidate again"):
        Evaluated.read(values)


@pytest.mark.parametrize(
    ("text", "env"), [(None, "dev"), ("", "dev"), ("prod", "prod"), ("staging", "staging"), ("team-a", "team-a")]
)
def test_an_environment_is_a_word(text: str | None, env: str):
    assert env_of(text) == env


@pytest.mark.parametrize(
    "text",
    ["PROD", "Prod", "production", " prod", "prod ", "prd", "live", "prod\n", "a b", "../prod", "dev;rm", "é", "1"],
)
def test_near_misses_of_production_and_what_is_no_word_are_refused(text: str):
    with pytest.raises(UsageError, match="prod"):
        env_of(text)


def test_the_beginning_of_a_digest_stands_for_it_when_it_is_long_enough_and_one_alone_has_it():
    twins = [f"{'ab' * 6}{digit * 52}" for digit in "01"]
    lines = Lines()
    for digest in (*twins, C):
        lines.pending(digest, "dev")
    lines.pending(C, "prod")
    assert full_digest(lines.lines, C[:8]) == C
    assert full_digest(lines.lines, twins[0][:13]) == twins[0]
    assert full_digest(lines.lines, "f" * 64) is None
    with pytest.raises(UsageError, match=r"2 candidates begin with ababab.*write more digits"):
        full_digest(lines.lines, twins[0][:12])


@pytest.mark.parametrize(
    "text",
    ["", C[:7], C.upper(), f"{C}0", f"{C[:12]} ", "../" + C, f"{C[:20]}/../..", "*" * 64, f"{C[:10]}\n", "g" * 64],
    ids=[
        "nothing",
        "too short",
        "large letters",
        "too long",
        "a blank",
        "a path",
        "a path behind it",
        "a pattern",
        "a newline",
        "no digit",
    ],
)
def test_what_is_no_digest_is_refused(text: str):
    with pytest.raises(UsageError, match="is no digest"):
        full_digest(Lines().pending(C, "dev").lines, text)
