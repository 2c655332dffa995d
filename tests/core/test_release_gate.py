"""The release gate: how many models must pass, and that whatever is not a recent pass counts as none."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.loader import load_catalog
from mlcc_dagster.core.records import utc_text
from mlcc_dagster.core.release_gate import Candidate, ReleaseDecision, decide, needed_of

NOW = datetime(2026, 6, 9, 12, tzinfo=UTC)
DAY = 86_400.0


def candidate(name: str, status: str | None = "pass", *, hours: float = 1.0, model: str | None = None) -> Candidate:
    return Candidate(name, model or f"model of {name}", status, utc_text(NOW - timedelta(hours=hours)))


def decision(*candidates: Candidate) -> ReleaseDecision:
    return decide(candidates, now=NOW, stale_after_seconds=DAY)


@given(st.integers(0, 10_000))
def test_needed_is_five_sixths_rounded_up(models: int) -> None:
    assert needed_of(models) == ceil(Fraction(5, 6) * models)


@pytest.mark.parametrize(
    ("models", "failing", "released"),
    [
        (6, 1, True),
        (6, 2, False),
        (11, 1, True),
        (11, 2, False),
        (12, 2, True),
        (1, 0, True),
        (1, 1, False),
        (5, 1, False),
    ],
)
def test_it_releases_at_exactly_as_many_as_are_needed(models: int, failing: int, released: bool) -> None:
    found = decision(*(candidate(str(n), "fail-test" if n < failing else "pass") for n in range(models)))
    assert (found.released, found.passing) == (released, models - failing)
    assert len(found.reasons) == failing, "what fails is named also where enough passes"
    word = "may be released" if released else "must not be released"
    assert found.sentence.startswith(f"{word}: {models - failing} of {models} models of tier ci pass, ")


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        pytest.param(candidate("a", None), "a: not registered, so never tested", id="nobody registered it"),
        pytest.param(candidate("a", "untested"), "a: untested", id="registered and never run"),
        pytest.param(candidate("a", "running"), "a: its test is running; wait for it to end", id="running is no pass"),
        pytest.param(candidate("a", "fail-deploy"), "a: fail-deploy", id="it fails"),
        pytest.param(candidate("a", "PASS"), "a: PASS", id="a status that nobody knows"),
        pytest.param(
            candidate("a", hours=24.1),
            "a: stale: it passed 24.1 h ago, 24 h are allowed; test it again",
            id="too old to say anything of today",
        ),
        pytest.param(
            Candidate("a", "m", "pass", None),
            "a: passes, but nobody knows since when (last test: none); test it again",
            id="a pass without a time",
        ),
        pytest.param(
            Candidate("a", "m", "pass", "yesterday"),
            "a: passes, but nobody knows since when (last test: yesterday); test it again",
            id="a time that is none",
        ),
        pytest.param(
            Candidate("a", "m", "pass", "2026-06-10T00:00:00Z"),
            "a: its last test lies in the future (2026-06-10T00:00:00Z); set the clocks and test it again",
            id="a clock that is wrong must not keep it fresh for ever",
        ),
    ],
)
def test_whatever_is_not_a_recent_pass_is_none_and_says_why(broken: Candidate, reason: str) -> None:
    assert decision(broken).reasons == (reason,)
    assert not decision(broken).released
    assert not decision(*(candidate(str(n)) for n in range(4)), broken).released, "one of five is one too many"


@pytest.mark.parametrize("hours", [0.0, 24.0, -0.05])
def test_a_pass_counts_to_the_end_of_its_time_and_clocks_may_differ_a_little(hours: float) -> None:
    assert decision(candidate("a", hours=hours)).released


def test_a_model_passes_when_all_its_entries_do() -> None:
    twice = (candidate("small", model="m"), candidate("large", "fail-deploy", model="m"))
    found = decision(*twice, candidate("b"))
    assert [(model.model, model.entries, model.passes) for model in found.models] == [
        ("m", ("small", "large"), False),
        ("model of b", ("b",), True),
    ]
    assert (found.passing, found.needed, found.reasons) == (1, 2, ("large: fail-deploy",))


def test_entries_without_a_model_of_their_own_are_counted_one_by_one() -> None:
    entries = [Candidate(name, None, "pass", utc_text(NOW)) for name in "abc"]
    assert len(decision(*entries).models) == 3


def test_a_tier_without_models_releases_nothing() -> None:
    found = decision()
    assert not found.released
    assert found.reasons == ("tier ci has no model; `mlcc catalog list --tier ci` shows its entries",)


@given(st.lists(st.sampled_from(["pass", "fail-test", "running", "untested", None]), max_size=30))
def test_a_worse_result_never_releases_more(statuses: list[str | None]) -> None:
    found = decision(*(candidate(str(n), status) for n, status in enumerate(statuses)))
    for n, status in enumerate(statuses):
        if status == "pass":
            worse = [*statuses[:n], "fail-test", *statuses[n + 1 :]]
            after = decision(*(candidate(str(m), each) for m, each in enumerate(worse)))
            assert after.passing == found.passing - 1
            assert found.released or not after.released


def test_the_shipped_ci_tier_has_eleven_models_of_which_ten_must_pass() -> None:
    models = {entry.model_name for entry in load_catalog().tier_entries("ci")}
    assert (len(models), needed_of(len(models))) == (11, 10)
