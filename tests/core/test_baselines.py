"""A baseline chains to the last one, keeps its tolerance, and says why it was made."""

from dataclasses import replace

import pytest
from gate_documents import baseline_document, baseline_of, candidate_document, candidate_of

from mlcc_dagster.core.baselines import DEFAULT_TOLERANCE, chain_faults, fallen, first_baseline, next_baseline
from mlcc_dagster.core.evaluations import CandidateEvaluation, EvalBaseline
from mlcc_dagster.core.exceptions import UsageError

URL, OTHER_URL = "https://example.com/decisions/1", "https://example.com/decisions/2"


def baseline() -> EvalBaseline:
    found = baseline_of(baseline_document({"a": (0.9, 100), "b": (0.8, 50)}, justification=URL)).document
    assert found is not None
    return found


def candidate(sha: str | None = "c" * 64) -> CandidateEvaluation:
    found = candidate_of(candidate_document({"a": (0.95, 100), "b": (0.7, 50)}, candidate_sha=sha)).document
    assert found is not None
    return found


def test_the_next_baseline_is_of_the_candidate_and_names_the_last_one():
    made = next_baseline(baseline(), candidate(), justification=OTHER_URL)
    assert (made.baseline_sha, made.previous_baseline_sha) == ("c" * 64, "b" * 40)
    assert (made.tolerance_pp, made.tolerance_before, made.justification) == (0.02, None, OTHER_URL)
    assert made.buckets == candidate().buckets
    assert chain_faults(made, baseline()) == ()


def test_the_first_baseline_names_none_before_it():
    made = first_baseline(candidate(), justification=URL)
    assert (made.previous_baseline_sha, made.tolerance_pp) == (None, DEFAULT_TOLERANCE)
    assert chain_faults(made, None) == ()


def test_a_changed_tolerance_says_so_in_the_file():
    made = next_baseline(baseline(), candidate(), justification=OTHER_URL, tolerance=0.05)
    assert (made.tolerance_pp, made.tolerance_before) == (0.05, 0.02)
    assert chain_faults(made, baseline()) == ()


def test_nothing_can_chain_to_what_has_no_sha():
    for make in (
        lambda: next_baseline(baseline(), candidate(None), justification=URL),
        lambda: first_baseline(candidate(None), justification=URL),
    ):
        with pytest.raises(UsageError, match="no candidate_sha"):
            make()


def test_the_same_candidate_on_the_same_set_is_no_update():
    last = next_baseline(baseline(), candidate(), justification=OTHER_URL)
    with pytest.raises(UsageError, match="nothing to update"):
        next_baseline(last, candidate(), justification=URL)
    other_set = replace(candidate(), eval_set_dvc_hash="e" * 32)
    assert next_baseline(last, other_set, justification=URL).previous_baseline_sha == last.baseline_sha


def test_a_changed_tolerance_keeps_the_results_of_the_same_bundle():
    last = baseline()
    again = replace(candidate(last.baseline_sha), buckets=last.buckets)
    made = next_baseline(last, again, justification=OTHER_URL, tolerance=0.05)
    assert chain_faults(made, last) == ()
    with pytest.raises(UsageError, match="with other results"):
        next_baseline(last, candidate(last.baseline_sha), justification=OTHER_URL, tolerance=0.05)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"previous_baseline_sha": "x" * 40}, "the last baseline is of " + "b" * 40, id="of another chain"),
        pytest.param({"previous_baseline_sha": None}, "previous_baseline_sha is absent", id="of no chain"),
        pytest.param({"justification": None}, "justification is absent", id="without a reason"),
        pytest.param({"justification": "because"}, "is no web address", id="with a word for a reason"),
        pytest.param({"justification": "https://"}, "is no web address", id="with an address of no host"),
        pytest.param({"tolerance_before": 0.02}, "no update wrote that", id="a tolerance said to have changed"),
        pytest.param(
            {"tolerance_pp": 0.01, "tolerance_before": 0.05}, "no update wrote that", id="stricter than what never was"
        ),
        pytest.param({"baseline_sha": "b" * 40}, "has other results", id="other results of the same bundle"),
        pytest.param(
            {"baseline_sha": "b" * 40, "buckets": baseline().buckets}, "cannot follow itself", id="itself once more"
        ),
        pytest.param({"justification": URL}, "that of the last baseline", id="with the last one's reason"),
        pytest.param({"tolerance_pp": 0.1}, "rose from 0.02 to 0.1 by hand", id="loosened by hand"),
        pytest.param({"tolerance_pp": 0.1, "tolerance_before": 0.09}, "by hand", id="loosened by hand, badly covered"),
    ],
)
def test_what_does_not_follow_the_last_baseline_is_a_fault(changes: dict, words: str):
    made = replace(next_baseline(baseline(), candidate(), justification=OTHER_URL), **changes)
    faults = chain_faults(made, baseline())
    assert len(faults) == 1 and words in faults[0]


def test_an_unchanged_baseline_has_no_fault_and_a_stricter_one_by_hand_neither_needs_a_word():
    assert chain_faults(baseline(), baseline()) == ()
    made = replace(next_baseline(baseline(), candidate(), justification=OTHER_URL), tolerance_pp=0.01)
    assert chain_faults(made, baseline()) == ()


def test_a_baseline_edited_in_place_does_not_follow_itself():
    softer = replace(baseline(), buckets=candidate().buckets)
    faults = chain_faults(softer, baseline())
    assert len(faults) == 3, "neither its sha nor its reason changed, and its results did"
    assert "other results than the last baseline" in faults[-1]


def test_a_first_baseline_may_not_name_one_before_it():
    made = replace(first_baseline(candidate(), justification=URL), previous_baseline_sha="x" * 40)
    assert len(chain_faults(made, None)) == 1


def test_buckets_that_fell_are_named_with_what_they_lost():
    made = next_baseline(baseline(), candidate(), justification=OTHER_URL)
    assert fallen(made, baseline()) == pytest.approx({"b": 0.1})
