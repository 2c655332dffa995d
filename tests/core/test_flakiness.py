"""Regression or flake: the rule case by case, what it guarantees, and how often it is wrong where the truth is known."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from mlcc_dagster.core.flakiness import (
    CHANCE,
    RECOVERIES,
    WINDOW,
    Confidence,
    Course,
    Result,
    confidence_of,
    judge,
)


def history(text: str) -> list[Result]:
    """Read `.` as a pass and `F` as a failure; a letter before them names what is tested from there on."""
    ground: dict[str, str] = {}
    results = []
    for character in text:
        if character in ".F":
            results.append(Result(character == ".", dict(ground)))
        elif character == "?":
            ground = {}
        else:
            ground = {"template": character}
    return results


@pytest.mark.parametrize(
    ("text", "course", "flaky"),
    [
        pytest.param("", Course.UNTESTED, False, id="nothing is known"),
        pytest.param("a....", Course.PASSES, False, id="it always passed"),
        pytest.param("aFFF", Course.FAILS, False, id="it never passed, so it cannot have regressed"),
        pytest.param("a.....F", Course.REGRESSION, False, id="the first failure after passes"),
        pytest.param("a..F..F", Course.REGRESSION, False, id="one recovery may be an outage"),
        pytest.param("a..F..F..F", Course.FLAKE, True, id="it alternates without a change"),
        pytest.param("a..F..F..FFFF", Course.REGRESSION, True, id="so many in a row are no flake"),
        pytest.param("a..F..F..bF", Course.REGRESSION, True, id="it failed with the change"),
        pytest.param("a.bF.cF.dF", Course.REGRESSION, False, id="every failure came with a change"),
        pytest.param("a.Fb.Fc.F", Course.REGRESSION, False, id="every recovery came with a change: it was mended"),
        pytest.param("?..F..F..F", Course.FLAKE, True, id="what is not known to have changed did not"),
        pytest.param("a.?F?a.?F?a.", Course.PASSES, True, id="failed builds know of no model, and nothing changed"),
        pytest.param("a.?F?b.?F?c.", Course.PASSES, False, id="builds failed until something changed"),
        pytest.param("aF.F.", Course.PASSES, True, id="a history that begins with a failure"),
        pytest.param("a.F.F" + "." * WINDOW, Course.PASSES, False, id="long ago; it has been quiet since"),
        pytest.param("a.F.F" + "." * (WINDOW - 5) + "F", Course.FLAKE, True, id="still within the window"),
        pytest.param("a.F.F." + "F" * WINDOW, Course.REGRESSION, True, id="failures do not push its past away"),
    ],
)
def test_the_rule_tells_what_the_latest_result_is(text: str, course: Course, flaky: bool) -> None:
    found = judge(history(text))
    assert (found.course, found.flaky) == (course, flaky)


def test_a_pass_before_the_first_known_result_makes_its_failure_a_regression() -> None:
    assert judge(history("F"), passed_before=True).course is Course.REGRESSION
    assert judge(history("F"), passed_before=True).failed_after_pass
    assert not judge(history("F")).failed_after_pass


def test_one_known_difference_is_a_change_whatever_else_stayed() -> None:
    before = {"template": "a", "python": "3.11.7"}
    after = before | {"python": "3.11.8"}
    upgraded = [Result(True, before), Result(False, after)] * 3
    assert not judge([*upgraded, Result(True, before)]).flaky
    same = [Result(True, before), Result(False, {"template": "a"})] * 3
    assert judge([*same, Result(True, before)]).flaky


RESULTS = st.lists(st.builds(Result, st.booleans(), st.fixed_dictionaries({"template": st.sampled_from("ab")})))


@given(RESULTS)
def test_what_is_counted_is_consistent(results: list[Result]) -> None:
    found = judge(results)
    passes = [result.passed for result in results]
    assert found.flips <= max(0, min(len(results), WINDOW) - 1)
    assert found.recoveries <= WINDOW // 2
    assert found.streak == len(passes) - 1 - max((i for i, passed in enumerate(passes) if passed), default=-1)
    assert found.failed_after_pass == (bool(passes) and not passes[-1] and any(passes))
    assert (found.course in (Course.FLAKE, Course.REGRESSION)) == found.failed_after_pass
    assert (found.chance is None) == (found.streak == 0)
    assert found.chance is None or 0 < found.chance < 1
    if found.course is Course.FLAKE:
        assert found.flaky
        assert found.chance is not None
        assert found.chance >= CHANCE
    if found.confidence:
        assert found.confidence.runs == min(len(results), WINDOW)
        assert found.confidence.passes == sum(passes[-WINDOW:])


@given(RESULTS, st.integers(1, WINDOW))
def test_once_a_streak_is_no_flake_further_failures_never_make_it_one(results: list[Result], more: int) -> None:
    failing = [*results, Result(False, {"template": "a"})]
    if judge(failing).course is Course.REGRESSION:
        assert judge([*failing, *[Result(False, {"template": "a"})] * more]).course is Course.REGRESSION


# ---- confidence


@pytest.mark.parametrize(("passes", "runs"), [(0, 1), (1, 1), (3, 4), (0, 20), (10, 20), (19, 20), (20, 20)])
def test_the_interval_is_wilsons(passes: int, runs: int) -> None:
    expected = binomtest(passes, runs).proportion_ci(0.95, method="wilson")
    assert Confidence(passes, runs).interval == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("runs", [5, 10, 20])
def test_the_interval_holds_the_true_share_as_often_as_it_says(runs: int) -> None:
    """Exact, over all outcomes and a grid of true shares: 95 % in the mean, and nowhere far below."""
    intervals = [Confidence(passes, runs).interval for passes in range(runs + 1)]
    held = []
    for share in np.linspace(0.01, 0.99, 99):
        within = [low <= share <= high for low, high in intervals]
        held.append(float(binom.pmf(np.arange(runs + 1), runs, share)[within].sum()))
    assert np.mean(held) >= 0.945
    assert min(held) > 0.82


def test_only_the_last_runs_count_and_no_run_has_no_confidence() -> None:
    assert confidence_of(history("F" * 30 + "." * WINDOW)) == Confidence(WINDOW, WINDOW)
    assert confidence_of([]) is None
    assert str(Confidence(3, 4)) == "3/4 (30-95 %)"


# ---- how often it is wrong, on histories whose truth is known


def drawn(rate: float, runs: int, count: int, seed: int = 1) -> Iterator[list[Result]]:
    """Draw histories of something that fails by chance in this share of its runs, and never changes."""
    ground = {"template": "a"}
    passed = np.random.default_rng(seed).random((count, runs)) >= rate
    for row in passed:
        yield [Result(bool(each), ground) for each in row]


def chance_of_recoveries(rate: float, runs: int) -> float:
    """Return exactly how likely at least `RECOVERIES` changes from fail to pass are among `runs` results."""
    # by (recoveries so far, whether the last result failed)
    state = {(0, False): 1.0}
    for _ in range(runs):
        following: dict[tuple[int, bool], float] = {}
        for (count, failing), weight in state.items():
            for fails, share in ((True, rate), (False, 1 - rate)):
                key = (min(RECOVERIES, count + (failing and not fails)), fails)
                following[key] = following.get(key, 0.0) + weight * share
        state = following
    return sum(weight for (count, failing), weight in state.items() if count >= RECOVERIES)


@pytest.mark.parametrize(
    ("rate", "called_flaky"),
    [
        pytest.param(0.0, 0.0, id="what never fails is never called flaky"),
        pytest.param(0.01, 0.01, id="false alarms of what fails once in 100 runs for outside reasons"),
        pytest.param(0.1, 0.55, id="half of the misses at 10 %: 20 results say little yet"),
        pytest.param(0.2, 0.90, id="at 20 %"),
        pytest.param(0.3, 0.98, id="at 30 %"),
    ],
)
def test_how_many_are_called_flaky_after_20_results_is_as_stated(rate: float, called_flaky: float) -> None:
    measured = float(np.mean([judge(results).flaky for results in drawn(rate, WINDOW, 2000)]))
    assert measured == pytest.approx(called_flaky, abs=0.025)


def test_what_breaks_and_is_mended_by_changes_is_never_called_flaky() -> None:
    generator = np.random.default_rng(2)
    for _ in range(300):
        results: list[Result] = []
        version = 0
        while len(results) < WINDOW:
            for passed in (True, False):
                results += [Result(passed, {"template": str(version)})] * int(generator.integers(1, 4))
                version += 1
        assert not judge(results).flaky


@pytest.mark.parametrize(
    ("rate", "plain", "by_rule"),
    [
        pytest.param(0.1, 0.10, 0.05, id="10 %"),
        pytest.param(0.2, 0.20, 0.045, id="20 %"),
        pytest.param(0.3, 0.30, 0.04, id="30 %"),
        pytest.param(0.5, 0.50, 0.055, id="50 %"),
    ],
)
def test_a_flaky_one_is_wrongly_said_to_have_regressed_far_less_often_than_by_the_plain_definition(
    rate: float, plain: float, by_rule: float
) -> None:
    """Shares of all results, after 30 to warm up."""
    judged = [judge(results[:end]) for results in drawn(rate, 60, 120) for end in range(31, 61)]
    wrong = float(np.mean([found.course is Course.REGRESSION for found in judged]))
    assert float(np.mean([found.failed_after_pass for found in judged])) == pytest.approx(plain, abs=0.03)
    assert wrong == pytest.approx(by_rule, abs=0.02)


@pytest.mark.parametrize(
    ("rate", "failures", "seen"),
    [
        pytest.param(0.0, 1, 1.0, id="what never failed is seen at once"),
        pytest.param(0.1, 2, 0.95, id="10 %: the second failure"),
        pytest.param(0.3, 3, 0.82, id="30 %: the third"),
        pytest.param(0.3, 4, 0.96, id="30 %: the fourth"),
        pytest.param(0.5, 6, 0.91, id="half of its runs fail: it takes six"),
    ],
)
def test_a_flaky_one_that_really_broke_is_seen_after_as_many_failures_as_stated(
    rate: float, failures: int, seen: float
) -> None:
    ground = {"template": "a"}
    broke = [Result(True, ground), *[Result(False, ground)] * failures]
    courses = [judge([*results, *broke]).course for results in drawn(rate, 40, 1000)]
    assert float(np.mean([course is Course.REGRESSION for course in courses])) == pytest.approx(seen, abs=0.04)


def test_the_simulation_agrees_with_the_exact_chance() -> None:
    for rate in (0.01, 0.1, 0.3):
        measured = float(np.mean([judge(results).flaky for results in drawn(rate, WINDOW, 2000, seed=3)]))
        assert measured == pytest.approx(chance_of_recoveries(rate, WINDOW), abs=0.03)
