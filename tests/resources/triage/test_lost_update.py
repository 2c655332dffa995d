"""The example that comes along: it fails in a known share, the lock cures it, a slow-down only hides it."""

from pathlib import Path

import pytest
from triage_runs import plan, recipe

from mlcc_dagster.core.triage.confound import Tag
from mlcc_dagster.core.triage.options import RunOptions
from resources.triage.examples.lost_update import STEP_SECONDS, expected_failure_rate
from resources.triage.runner import run

TRIALS = 24
STEPS = 20
THRESHOLD = {"threshold": 2.0}
"""A machine under load wakes threads late in one cell and not in another; the sleep makes steps three times as long."""

FAILED_UNDER_LOAD = 2
"""A thread that is not woken for three steps loses an addition under any sleep, as can happen under load."""


@pytest.mark.slow
def test_the_lock_is_credited_and_the_mere_slow_down_is_tagged_as_speed(tmp_path: Path):
    cells = [{}, {"mitigations": ["example_lock"]}, {"mitigations": ["example_sleep"]}]
    ended = run(plan(recipe(*cells, trials=TRIALS, steps=STEPS, confound=THRESHOLD)), tmp_path)
    base, lock, sleep = ended.matrix.statistics.values()
    # four standard deviations of the share, and as much again for a machine whose threads wait longer than they ask to
    expected = expected_failure_rate(STEPS)
    spread = 4 * (expected * (1 - expected) / TRIALS) ** 0.5
    assert expected == pytest.approx(0.49, abs=0.01)
    assert base.failure_rate is not None
    assert base.mean_step is not None
    assert expected - spread <= base.failure_rate
    if base.mean_step < 1.2 * 1000 * STEP_SECONDS:
        assert base.failure_rate <= expected + 1.2 * spread
    assert lock.failed == 0, "a lock cures whatever the machine does"
    assert sleep.failed <= FAILED_UNDER_LOAD
    assert set(base.labels) == {"lost update"}
    tags = [each.tag for each in ended.matrix.assessments.values()]
    assert tags == [Tag.BASELINE, Tag.CREDITED, Tag.SPEED]


@pytest.mark.slow
def test_the_delay_control_says_that_the_slow_down_is_no_cure(tmp_path: Path):
    cells = [{}, {"mitigations": ["example_sleep"]}]
    document = recipe(*cells, trials=TRIALS, steps=STEPS)
    ended = run(plan(document, options=RunOptions(delay_control=True)), tmp_path)
    sleep = ended.matrix.assessments["c1"]
    assert sleep.tag is Tag.CONFOUNDED
    assert sleep.control is not None
    assert sleep.control.statistics.failed <= FAILED_UNDER_LOAD
    assert sleep.control.delay_ms > 10
    assert "so the delay alone explains what the cell seems to cure" in ended.matrix.markdown()


@pytest.mark.slow
def test_of_three_flags_the_two_that_are_needed_are_found(tmp_path: Path):
    """A lock that one of both threads does not take is none; the third flag does nothing."""
    stack = ["example_lock_first", "omp_one_thread", "example_lock_second"]
    cells = [{}, {"name": "all", "mitigations": stack}]
    document = recipe(*cells, trials=TRIALS, steps=STEPS + 10, confound=THRESHOLD)
    ended = run(plan(document, options=RunOptions(minimize=True)), tmp_path)
    assert ended.matrix.minima, ended.matrix.markdown()
    (minimum,) = ended.matrix.minima
    assert minimum.smallest == (frozenset({"example_lock_first", "example_lock_second"}),), minimum.line()
    assert set(minimum.needed) == {"example_lock_first", "example_lock_second"}


def test_a_length_of_sleep_that_is_no_number_is_no_failure_of_the_example(tmp_path: Path):
    ended = run(plan(recipe({"extra_env": {"MLCC_EXAMPLE_SLEEP_MS": "long"}}, trials=1)), tmp_path)
    (cell,) = ended.matrix.statistics.values()
    assert cell.exit_status_counts["workload_setup_failed"] == 1


def test_the_share_that_is_expected_grows_with_the_steps():
    assert expected_failure_rate(1) == 0
    assert expected_failure_rate(2) == pytest.approx(0.035)
    assert expected_failure_rate(100) == pytest.approx(0.97, abs=0.01)
