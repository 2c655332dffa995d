"""Progress: one line per run off a terminal, that says proven or failed and why; silence when asked for."""

from dataclasses import replace

import pytest

from catalog.loader import load_catalog
from mlcc_dagster.cli.progress_view import ProgressView
from mlcc_dagster.cli.rounds import Target
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.outcome import BenchmarkPlan, Claim, Outcome, Owner, StageResult, StageStatus
from mlcc_dagster.core.resolution import configuration_of
from mlcc_dagster.core.stages import Stage
from resources.platform import Platform
from resources.progress import RunEnded, StageBegan, StageEnded

CATALOG = load_catalog()
ENTRY = next(entry for entry in CATALOG.entries if entry.id == "local-fastapi-logistic-1cpu")
CONFIGURATION = configuration_of(ENTRY, CATALOG)
KEY = config_id(CONFIGURATION)
TARGET = Target(KEY, ENTRY.id, CONFIGURATION)

AT = "2026-01-01T00:00:00.000000Z"
STARTED = Outcome(
    claim=Claim(config_id=KEY, generation=1, owner=Owner("host", 1, 1, "boot", "run"), round="r", claimed_at=AT),
    configuration=CONFIGURATION,
    run_type="ci",
    stages=frozenset({Stage.DEPLOY, Stage.TEST}),
    benchmark=BenchmarkPlan(False, "local_predict", ()),
)


def ended(stage: Stage, status: StageStatus, **outputs) -> StageResult:
    return StageResult(stage, status, started_at=AT, seconds=1.25, outputs=outputs)


PASSED = STARTED.with_result(ended(Stage.DEPLOY, StageStatus.PASS)).with_result(ended(Stage.TEST, StageStatus.PASS))
FAILED = STARTED.with_result(ended(Stage.DEPLOY, StageStatus.FAIL))
REPLAYED = STARTED.with_result(ended(Stage.TEST, StageStatus.PASS, virtual_seconds=300))


def lines(events, capsys, home, *, shown: bool = True, target: Target = TARGET) -> list[str]:
    with ProgressView(Platform.open(), [target], shown=shown) as view:
        for event in events:
            view.listener(event)
    written = capsys.readouterr()
    assert written.out == "", "progress never mixes with results"
    return written.err.splitlines()


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            RunEnded(KEY, "concluded", "completed", PASSED),
            "proven  local-fastapi-logistic-1cpu    2.5 s  http-fastapi sklearn/logistic-regression-digits local.1cpu",
        ),
        (
            RunEnded(KEY, "concluded", "deploy failed (timeout): no answer", FAILED),
            "failed  local-fastapi-logistic-1cpu    1.2 s  deploy failed (timeout): no answer",
        ),
        (
            RunEnded(KEY, "lost", "nothing to do: done in this round"),
            "skipped local-fastapi-logistic-1cpu    0.0 s  nothing to do: done in this round",
        ),
        (
            RunEnded(KEY, "interrupted", "cancelled during deploy", STARTED, True),
            "stopped local-fastapi-logistic-1cpu    0.0 s  cancelled during deploy",
        ),
        (
            RunEnded(KEY, "concluded", "completed", REPLAYED),
            "proven  local-fastapi-logistic-1cpu  300.0 s  http-fastapi sklearn/logistic-regression-digits local.1cpu",
        ),
        (
            RunEnded(KEY, "concluded", "nothing was tested", replace(STARTED, results=())),
            "failed  local-fastapi-logistic-1cpu    0.0 s  nothing was tested",
        ),
        (RunEnded("feedbeef", "lost", "taken"), "skipped feedbeef                       0.0 s  taken"),
    ],
)
def test_the_end_of_a_run_is_one_line(event, line, capsys, home):
    assert lines([event], capsys, home) == [line]


def test_a_failure_that_its_entry_is_there_to_show_is_said_to_be_expected(capsys, home):
    event = RunEnded(KEY, "concluded", "deploy failed (oom): 515 MB", FAILED)
    (line,) = lines([event], capsys, home, target=replace(TARGET, expected_failure="oom"))
    assert line.endswith("deploy failed (oom): 515 MB (its entry expects oom)")


def test_off_a_terminal_stages_are_not_told_one_by_one(capsys, home):
    result = ended(Stage.DEPLOY, StageStatus.FAIL)
    assert lines([StageBegan(STARTED, Stage.DEPLOY), StageEnded(FAILED, result)], capsys, home) == []


def test_a_view_that_is_not_shown_is_silent(capsys, home):
    assert lines([RunEnded(KEY, "concluded", "failed", FAILED)], capsys, home, shown=False) == []


def test_a_note_that_is_wanted_once_is_told_once(capsys, home):
    with ProgressView(Platform.open(), [TARGET], shown=True) as view:
        for _ in range(3):
            view.note("waiting for host:1", once=True)
    assert capsys.readouterr().err == "waiting for host:1\n"
