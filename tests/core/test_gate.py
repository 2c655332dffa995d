"""The gate promotes what the rule allows, blocks what cannot be compared, and says why."""

import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import pytest
from gate_documents import (
    HASH,
    baseline_document,
    baseline_of,
    candidate_document,
    candidate_of,
    items_of,
    scores_of_answers,
)
from hypothesis import given
from hypothesis import strategies as st

from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.gate import GateDecision, decide

BEFORE = {"tense": (0.90, 200), "person": (0.80, 50)}


def decided(
    candidate: Mapping[str, tuple[float, int]], before: Mapping[str, tuple[float, int]] = BEFORE, **options: Any
) -> GateDecision:
    return decide(baseline_of(baseline_document(before)), candidate_of(candidate_document(candidate)), **options)


@pytest.mark.parametrize(
    ("tense", "person", "verdict"),
    [
        pytest.param(0.90, 0.80, "promote", id="the same"),
        pytest.param(0.88, 0.78, "promote", id="exactly at the limit"),
        pytest.param(0.875, 0.80, "blocked", id="one bucket one item below the limit"),
        pytest.param(1.00, 0.76, "blocked", id="the aggregate rose and one bucket fell"),
        pytest.param(0.70, 0.60, "blocked", id="both fell"),
        pytest.param(1.00, 1.00, "promote", id="both rose"),
    ],
)
def test_the_fixed_rule_looks_at_every_bucket(tense: float, person: float, verdict: str):
    found = decided({"tense": (tense, 200), "person": (person, 50)})
    assert (found.verdict, found.rules["fixed"].verdict) == (verdict, verdict)
    assert found.exit_code == {"promote": 0, "blocked": 1}[verdict]
    assert bool(found.reasons) == (verdict == "blocked")


@pytest.mark.parametrize(("before", "after"), [(0.14, 0.12), (0.05, 0.03), (0.268, 0.248)])
def test_an_accuracy_at_the_limit_passes_though_binary_numbers_put_it_below(before: float, after: float):
    assert after < before - 0.02, "what a plain comparison would block"
    assert decided({"a": (after, 1000)}, {"a": (before, 1000)}).verdict == "promote"


def test_a_reason_names_the_bucket_what_it_lost_and_what_to_do():
    (reason,) = decided({"tense": (0.9, 200), "person": (0.76, 50)}).reasons
    assert reason == "bucket person fell from 0.8000 to 0.7600, 4.0 pp where 2.0 pp are tolerated; mend the candidate"


def test_the_aggregate_is_shown_and_decides_nothing():
    found = decided({"tense": (1.0, 200), "person": (0.76, 50)})
    aggregate = found.to_json()["aggregate"]
    assert aggregate["candidate"] > aggregate["baseline"]
    assert found.verdict == "blocked"


@given(st.integers(1, 2000), st.data(), st.integers(0, 100))
def test_the_fixed_rule_decides_as_exact_fractions_would(n: int, data: st.DataObject, per_mille: int):
    before, after = data.draw(st.integers(0, n)), data.draw(st.integers(0, n))
    exact = Fraction(after, n) >= Fraction(before, n) - Fraction(per_mille, 1000)
    found = decided({"a": (after / n, n)}, {"a": (before / n, n)}, tolerance=per_mille / 1000)
    assert (found.verdict == "promote") == exact


SOUND = candidate_document(BEFORE)
THREE = items_of({"a": [True, True, False], "b": [True]})


def spoilt(path: str, value: Any) -> dict[str, Any]:
    document = json.loads(json.dumps(SOUND))
    *folders, name = path.split("/")
    inner = document
    for folder in folders:
        inner = inner[folder]
    if value is None:
        del inner[name]
    else:
        inner[name] = value
    return document


@pytest.mark.parametrize(
    ("document", "words"),
    [
        pytest.param(spoilt("eval_set_dvc_hash", "f" * 32), "was evaluated on set ffff", id="another evaluation set"),
        pytest.param(spoilt("buckets/person", None), "has no bucket person", id="a missing bucket"),
        pytest.param(spoilt("buckets/verb", {"accuracy": 1.0, "n": 5}), "bucket verb of the candidate", id="one more"),
        pytest.param(spoilt("buckets/person/n", 49), "49 items in the candidate and 50", id="n changed"),
        pytest.param(spoilt("buckets/person/accuracy", float("nan")), "not nan", id="not a number"),
        pytest.param(spoilt("schema_version", 2), "schema_version is 2", id="another schema"),
        pytest.param(spoilt("buckets", {}), "at least one bucket", id="no buckets"),
    ],
)
@pytest.mark.parametrize("rule", ["fixed", "noninferiority"])
def test_what_cannot_be_compared_is_blocked_by_either_rule(document: dict[str, Any], words: str, rule: str):
    found = decide(baseline_of(baseline_document(BEFORE)), candidate_of(document), rule=rule)
    assert (found.verdict, found.exit_code, found.compared) == ("blocked", 1, False)
    assert any(words in reason for reason in found.reasons)
    assert {each.verdict for each in found.rules.values()} == {"blocked"}


def test_every_reason_of_both_documents_comes_at_once():
    broken = candidate_document({"tense": (0.9, 1), "verb": (0.9, 1)}, eval_set_dvc_hash="f" * 32)
    found = decide(baseline_of(baseline_document(BEFORE)), candidate_of(broken))
    assert len(found.reasons) == 4, found.reasons
    worse = decide(baseline_of({"buckets": 3}), candidate_of({"buckets": 3}))
    assert {reason.partition(":")[0] for reason in worse.reasons} == {"eval_baseline.json", "candidate_eval.json"}
    assert len(worse.reasons) == 6, worse.reasons


def test_what_is_wrong_in_a_document_hides_nothing_of_the_comparison():
    broken = candidate_document({"tense": (float("nan"), 200), "person": (0.8, 5)}, eval_set_dvc_hash="f" * 32)
    found = decide(baseline_of(baseline_document({**BEFORE, "verb": (0.9, 10)})), candidate_of(broken))
    expected = ("not nan", "was evaluated on set", "has no bucket verb", "person has 5 items")
    assert len(found.reasons) == len(expected), found.reasons
    assert all(words in reason for words, reason in zip(expected, found.reasons, strict=True))
    assert (found.verdict, found.compared, found.candidate) == ("blocked", False, None)


def test_what_could_not_be_read_is_not_compared_once_more():
    broken = candidate_document({"tense": (0.9, "200"), "person": (0.8, 50)}, eval_set_dvc_hash="", items=[7])
    found = decide(baseline_of(baseline_document(BEFORE)), candidate_of(broken))
    assert len(found.reasons) == 3, found.reasons


@pytest.mark.parametrize(
    ("after", "words"),
    [
        pytest.param(0.8796, "2.04 pp where 2.00 pp are tolerated", id="hidden by one digit"),
        pytest.param(0.8799999, "2.00001 pp where 2.00000 pp are tolerated", id="hidden by four"),
        pytest.param(0.85, "5.0 pp where 2.0 pp are tolerated", id="one digit tells"),
    ],
)
def test_a_reason_has_as_many_digits_as_tell_the_drop_from_what_is_tolerated(after: float, words: str):
    (reason,) = decided({"a": (after, 10_000_000)}, {"a": (0.9, 10_000_000)}).reasons
    assert words in reason


def both(before: Mapping[str, Sequence[bool]], after: Mapping[str, Sequence[bool]], **options: Any) -> GateDecision:
    """Decide on answers, item by item."""
    return decide(
        baseline_of(baseline_document(scores_of_answers(before), items=items_of(before))),
        candidate_of(candidate_document(scores_of_answers(after), items=items_of(after))),
        **options,
    )


def answers(n: int, right: int) -> list[bool]:
    return [index < right for index in range(n)]


def flipped(given: Sequence[bool], gained: int, lost: int) -> list[bool]:
    """Turn `lost` right answers wrong and `gained` wrong ones right."""
    changed = list(given)
    right = [index for index, each in enumerate(given) if each][:lost]
    wrong = [index for index, each in enumerate(given) if not each][:gained]
    for index in (*right, *wrong):
        changed[index] = not changed[index]
    return changed


@pytest.mark.parametrize(
    ("gained", "lost", "n", "fixed", "paired", "code"),
    [
        pytest.param(12, 18, 240, "blocked", "inconclusive", 3, id="6 of 240 lost: blocked, though it may be equal"),
        pytest.param(12, 12, 240, "promote", "inconclusive", 3, id="equal by count, too few items to know"),
        pytest.param(150, 150, 3000, "promote", "promote", 0, id="equal, and known to be"),
        pytest.param(30, 90, 3000, "promote", "inconclusive", 3, id="at the tolerance: passed, and not shown"),
        pytest.param(0, 100, 2000, "blocked", "blocked", 1, id="worse by far"),
    ],
)
def test_both_rules_side_by_side_and_the_chosen_one_decides(gained, lost, n, fixed, paired, code):
    before = {"a": answers(n, n // 2)}
    after = {"a": flipped(before["a"], gained, lost)}
    found = both(before, after, rule="noninferiority")
    assert (found.rules["fixed"].verdict, found.rules["noninferiority"].verdict) == (fixed, paired)
    assert (found.verdict, found.exit_code) == (paired, code)
    assert both(before, after, rule="fixed").verdict == fixed


def test_an_open_bucket_says_how_many_items_it_still_needs():
    before = {"a": answers(240, 120)}
    found = both(before, {"a": flipped(before["a"], 12, 12)}, rule="noninferiority")
    needed = found.rules["noninferiority"].buckets["a"].numbers["items_needed"]
    assert found.reasons == (
        f"bucket a: 12 gained and 12 lost of 240, 0.0 pp, is open; {needed} more items decide it if it is as good as the baseline",
    )


def test_one_failing_bucket_blocks_and_one_open_bucket_leaves_it_open():
    before = {"good": answers(3000, 1500), "open": answers(100, 50), "bad": answers(2000, 1000)}
    good = flipped(before["good"], 80, 80)
    found = both(before, before | {"good": good, "bad": flipped(before["bad"], 0, 200)}, rule="noninferiority")
    assert [each.verdict for each in found.rules["noninferiority"].buckets.values()] == ["PASS", "INCONCLUSIVE", "FAIL"]
    assert found.verdict == "blocked"
    assert both(before, before | {"good": good}, rule="noninferiority").verdict == "inconclusive"


def test_items_count_in_each_of_their_buckets():
    def item(name: str, correct: bool) -> dict[str, Any]:
        return {"id": name, "buckets": ["a", "b"], "correct": correct}

    scores = {"a": (0.5, 2), "b": (0.5, 2)}
    found = decide(
        baseline_of(baseline_document(scores, items=[item("1", True), item("2", False)])),
        candidate_of(candidate_document(scores, items=[item("1", False), item("2", True)])),
        rule="noninferiority",
    )
    buckets = found.rules["noninferiority"].buckets
    assert [(each.numbers["gained"], each.numbers["lost"]) for each in buckets.values()] == [(1, 1), (1, 1)]


@pytest.mark.parametrize(
    ("with_items", "words"),
    [("candidate", "the baseline has no results per item"), ("baseline", "the candidate has no results per item")],
)
def test_without_items_on_both_sides_the_paired_rule_blocks_and_the_fixed_one_decides(with_items: str, words: str):
    scores, items = {"a": (0.75, 4)}, items_of({"a": answers(4, 3)})
    documents = {"candidate": candidate_document(scores), "baseline": baseline_document(scores)}
    documents[with_items]["items"] = items
    read = baseline_of(documents["baseline"]), candidate_of(documents["candidate"])
    assert decide(*read).verdict == "promote"
    found = decide(*read, rule="noninferiority")
    assert found.verdict == "blocked" and words in found.reasons[0]


@pytest.mark.parametrize(
    ("items", "words"),
    [
        (items_of({"a": [True, True, False], "c": [True]}), "name bucket c"),
        ([*THREE[:2], {"id": "other", "buckets": ["a"], "correct": False}, THREE[3]], "did not answer item a-2"),
        (
            [
                THREE[0],
                THREE[1],
                {"id": "b-0", "buckets": ["a"], "correct": False},
                {"id": "a-2", "buckets": ["b"], "correct": True},
            ],
            "other buckets than in the baseline",
        ),
    ],
    ids=["another bucket", "another item", "items that changed places"],
)
def test_items_that_are_not_those_of_the_baseline_block(items: list[dict[str, Any]], words: str):
    scores = scores_of_answers({"a": [True, True, False], "b": [True]})
    found = decide(
        baseline_of(baseline_document(scores, items=THREE)), candidate_of(candidate_document(scores, items=items))
    )
    assert found.verdict == "blocked"
    assert any(words in reason for reason in found.reasons), found.reasons


@pytest.mark.parametrize(
    ("tolerance", "verdict", "loosened"),
    [
        pytest.param(None, "blocked", False, id="the committed one"),
        pytest.param(0.01, "blocked", False, id="stricter"),
        pytest.param(0.05, "promote", True, id="looser, which the evidence says"),
    ],
)
def test_a_tolerance_of_ones_own(tolerance: float | None, verdict: str, loosened: bool):
    found = decided({"tense": (0.9, 200), "person": (0.76, 50)}, tolerance=tolerance)
    assert (found.verdict, found.tolerance.loosened) == (verdict, loosened)
    assert found.to_json()["tolerance"]["loosened"] is loosened


@pytest.mark.parametrize("tolerance", [-0.01, 1.0, 2, float("nan")])
def test_a_tolerance_that_is_none_is_refused(tolerance: float):
    with pytest.raises(UsageError, match="--tolerance must be"):
        decided(BEFORE, tolerance=tolerance)


def test_an_unknown_rule_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match="use one of fixed, noninferiority"):
        decided(BEFORE, rule="strict")


def test_the_evidence_is_json_and_has_what_was_judged():
    before = {"a": answers(50, 25)}
    found = both(before, {"a": flipped(before["a"], 3, 1)}, sources={"env": "dev"})
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert document["eval_set_dvc_hash"] == HASH
    assert (document["verdict"], document["rule"], document["env"]) == ("promote", "fixed", "dev")
    assert document["buckets"]["a"] == {"n": 50, "baseline": 0.5, "candidate": 0.54, "difference": 0.04}
    assert set(document["rules"]) == {"fixed", "noninferiority"}
