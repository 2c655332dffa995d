"""The rule on the outcomes of one real day of continuous integration: 19,199 jobs, 1,239 names."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from mlcc_dagster.core.flakiness import WINDOW, Course, Result, judge

OUTCOMES = Path(__file__).parents[3] / "shared" / "realdata" / "ci_job_outcomes"

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not OUTCOMES.exists(), reason="the shared real data is not beside this checkout"),
]

Histories = Mapping[str, Sequence[Result]]


@pytest.fixture(scope="module")
def histories() -> Histories:
    """Results by name in the order of their start. The jobs ran on many commits, and nobody noted which."""
    (path,) = OUTCOMES.glob("*.csv")
    with path.open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: (row["start_time"], int(row["job_id"])))
    found: dict[str, list[Result]] = {}
    for row in rows:
        assert row["conclusion"] in {"success", "failure"}
        found.setdefault(row["name"], []).append(Result(row["conclusion"] == "success"))
    return found


def test_every_outcome_is_judged_and_the_counts_add_up(histories: Histories) -> None:
    judged = {name: judge(results) for name, results in histories.items()}
    assert sum(map(len, histories.values())) == 19_199
    assert sum(not result.passed for results in histories.values() for result in results) == 713
    for name, found in judged.items():
        last = histories[name][-WINDOW:]
        assert found.confidence is not None
        assert found.confidence.passes == sum(result.passed for result in last)
        low, high = found.confidence.interval
        assert 0 <= low <= found.confidence.passes / found.confidence.runs <= high <= 1
    flaky = [name for name, found in judged.items() if found.flaky]
    courses = [found.course for found in judged.values()]
    print({course.value: courses.count(course) for course in Course}, f"{len(flaky)} known flaky of {len(judged)}")
    assert 0 < len(flaky) < len(judged) / 10


def test_what_is_called_flaky_goes_on_failing_more_often_than_the_rest(histories: Histories) -> None:
    """Judged by 20 results, then measured on the ten that followed."""
    after: dict[bool, list[bool]] = {True: [], False: []}
    for results in histories.values():
        for end in range(WINDOW, len(results) - 10, 10):
            after[judge(results[end - WINDOW : end]).flaky] += [not each.passed for each in results[end : end + 10]]
    rates = {flaky: sum(failures) / len(failures) for flaky, failures in after.items()}
    print(f"later failures: {rates[True]:.1%} of the flaky ({len(after[True])} runs), {rates[False]:.1%} of the others")
    assert rates[True] > 3 * rates[False]


def test_flakes_and_regressions_are_told_apart_no_better_than_their_ground_is_known(histories: Histories) -> None:
    """What a failure turns into is seen by the next run. Across commits most single failures pass then, whatever they are
    called, since the next run is of another commit: the plain definition is wrong for most, and the rule withdraws some."""
    passes_next: dict[Course, list[bool]] = {Course.FLAKE: [], Course.REGRESSION: []}
    for results in histories.values():
        for end in range(1, len(results)):
            found = judge(results[:end])
            if found.failed_after_pass:
                passes_next[found.course].append(results[end].passed)
    counts = {course.value: (sum(found), len(found)) for course, found in passes_next.items()}
    print(f"passed at the next run: {counts}")
    assert all(len(found) > 100 for found in passes_next.values())
    everything = [*passes_next[Course.FLAKE], *passes_next[Course.REGRESSION]]
    assert sum(everything) / len(everything) > 0.7, "one failure says little where nobody notes what was tested"
