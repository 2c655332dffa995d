"""The example that comes along: it fails in a known share, the lock cures it, a slow-down only hides it."""

from pathlib import Path

import pytest
from triage_runs import plan, recipe

from mlcc_dagster.core.triage.confound import Tag
from resources.triage.examples.lost_update import expected_failure_rate
from resources.triage.runner import run

TRIALS = 24
STEPS = 20


@pytest.mark.slow
def test_the_lock_is_credited_and_the_mere_slow_down_is_tagged_as_speed(tmp_path: Path):
    cells = [{}, {"mitigations": ["example_lock"]}, {"mitigations": ["example_sleep"]}]
    ended = run(plan(recipe(*cells, trials=TRIALS, steps=STEPS)), tmp_path)
    base, lock, sleep = ended.matrix.statistics.values()
    # four standard deviations of the share, and as much again for a machine whose threads wait longer than they ask to
    expected = expected_failure_rate(STEPS)
    spread = 4 * (expected * (1 - expected) / TRIALS) ** 0.5
    assert expected == pytest.approx(0.49, abs=0.01)
    assert base.failure_rate is not None
    assert expected - spread <= base.failure_rate <= expected + 1.2 * spread
    assert (lock.failed, sleep.failed) == (0, 0)
    assert set(base.labels) == {"lost update"}
    tags = [each.tag for each in ended.matrix.assessments.values()]
    assert tags == [Tag.BASELINE, Tag.CREDITED, Tag.SPEED]


def test_a_length_of_sleep_that_is_no_number_is_no_failure_of_the_example(tmp_path: Path):
    ended = run(plan(recipe({"extra_env": {"MLCC_EXAMPLE_SLEEP_MS": "long"}}, trials=1)), tmp_path)
    (cell,) = ended.matrix.statistics.values()
    assert cell.exit_status_counts["workload_setup_failed"] == 1


def test_the_share_that_is_expected_grows_with_the_steps():
    assert expected_failure_rate(1) == 0
    assert expected_failure_rate(2) == pytest.approx(0.035)
    assert expected_failure_rate(100) == pytest.approx(0.97, abs=0.01)
