"""Stage results of any origin: what is sound, and every mistake named at once."""

from typing import Any

import pytest

from mlcc_dagster.core.outcome import StageResult, StageStatus
from mlcc_dagster.core.stage_results import ERROR_CHARACTERS, stage_results_problems
from mlcc_dagster.core.stages import Stage

SOUND = {"status": "pass", "durationSeconds": 1.5, "logPointer": "", "errorSummary": ""}


@pytest.mark.parametrize("stage", list(Stage))
def test_what_our_own_stages_write_is_sound(stage: Stage) -> None:
    made = StageResult(stage, StageStatus.FAIL, "2026-01-01T00:00:00Z", 0.25, error="e" * ERROR_CHARACTERS)
    assert stage_results_problems({stage.value: made.to_json()}) == []


def test_a_record_has_the_stages_it_was_asked_for_and_may_have_none() -> None:
    assert stage_results_problems({}) == []
    assert stage_results_problems({"tune-sft": SOUND, "deploy_test": SOUND, "update": SOUND}) == []
    assert stage_results_problems({}, required=("build",)) == [
        "Expected 1 stage entries, found 0",
        "Missing required stage: build",
    ]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"status": None}, "Stage 'build' has invalid status: none"),
        ({"status": "PASS"}, "Stage 'build' has invalid status: 'PASS'"),
        ({"durationSeconds": True}, "Stage 'build' has invalid durationSeconds: True"),
        ({"durationSeconds": "1"}, "Stage 'build' has invalid durationSeconds: '1'"),
        ({"durationSeconds": float("nan")}, "Stage 'build' has invalid durationSeconds: nan"),
        ({"durationSeconds": float("inf")}, "Stage 'build' has invalid durationSeconds: inf"),
        ({"durationSeconds": None}, "Stage 'build' has invalid durationSeconds: none"),
    ],
)
def test_a_value_that_cannot_be_is_named(change: dict[str, Any], problem: str) -> None:
    assert stage_results_problems({"build": SOUND | change}) == [problem]


def test_all_mistakes_of_all_stages_are_told_at_once() -> None:
    document = {"build": "broken", "test": SOUND | {"status": "x", "durationSeconds": -2}, "bogus": {}}
    assert stage_results_problems(document) == [
        "Stage 'build' is no object: 'broken'",
        "Stage 'test' has invalid status: 'x'",
        "Stage 'test' has invalid durationSeconds: -2",
        "Unexpected stage: bogus",
    ]
