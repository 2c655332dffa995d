"""Any command: told of its trial, heard, ended with all that it started, and interrupted by a real signal."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from triage_runs import everything_below, plan, recipe

from mlcc_dagster.core.exceptions import InvalidInput
from mlcc_dagster.core.triage.confound import Tag
from mlcc_dagster.core.triage.options import RunOptions
from resources.triage import commands
from resources.triage.runner import Ended, run

MLCC = Path(sys.executable).with_name("mlcc")
PATIENCE_SECONDS = 60.0


def ran(tmp_path: Path, *command: str, seconds: float = 60.0, **values: Any) -> Ended:
    document = recipe(*values.pop("cells", [{}]), workload="command", trials=1, **values)
    return run(plan(document, command=command, seconds=seconds), tmp_path / "out")


def trial(ended: Ended, cell: str = "c0", number: int = 0) -> dict[str, Any]:
    return json.loads((ended.folder.path / "cells" / cell / f"trial_{number}.json").read_text())


@pytest.mark.parametrize(
    ("script", "status", "reason", "label"),
    [
        ("exit 0", "ok", None, None),
        ("exit 3", "workload_failed", "the command ended with exit code 3", "exit code 3"),
        ("kill -SEGV $$", "workload_failed", "the command ended with signal SIGSEGV", "signal SIGSEGV"),
        (
            "no-such-program-at-all",
            "workload_setup_failed",
            "the command did not find its program (exit code 127)",
            None,
        ),
        (
            'echo \'{"passed": false, "reason": "told", "label": "l"}\' > $MLCC_TRIAL_REPORT',
            "workload_failed",
            "told",
            "l",
        ),
        ('echo \'{"reason": "told"}\' > $MLCC_TRIAL_REPORT; exit 1', "workload_failed", "told", "exit code 1"),
        ('echo "{" > $MLCC_TRIAL_REPORT', "workload_setup_failed", None, None),
        ('echo "[]" > $MLCC_TRIAL_REPORT', "workload_setup_failed", None, None),
        ("echo '{\"step_times_ms\": [true]}' > $MLCC_TRIAL_REPORT", "workload_setup_failed", None, None),
    ],
)
def test_a_command_ends_as_its_exit_code_and_its_report_say(tmp_path: Path, script, status, reason, label):
    ended = trial(ran(tmp_path, "sh", "-c", script))
    assert (ended["exit_status"], ended["label"]) == (status, label)
    if reason is not None:
        assert ended["reason"] == reason


def test_a_command_is_told_of_its_trial_and_its_report_is_heard(tmp_path: Path):
    script = (
        'echo "$MLCC_TRIAL_CELL $MLCC_TRIAL_NUMBER $MLCC_TRIAL_STEPS $MLCC_TRIAL_ENVIRONMENT ${MLCC_TRIAL_DOCKER-none} $MINE";'
        'echo err >&2; echo \'{"step_times_ms": [1, 2], "metrics": {"m": 3}}\' > $MLCC_TRIAL_REPORT'
    )
    cells = [{"extra_env": {"MINE": "own"}}, {"environment": {"docker": "o/i:1"}}]
    ended = ran(tmp_path, "sh", "-c", script, cells=cells, steps=7, save_logs=True)
    first, second = trial(ended), trial(ended, "c1")
    assert first["output"] == "c0 0 7 local none own\nerr\n"
    assert (ended.folder.path / "cells/c0/trial_0.log").read_text() == first["output"]
    assert second["output"].startswith("c1 0 7 _inline_")
    assert " o/i:1 " in second["output"]
    assert (first["step_times_ms"], first["metrics"], second["exit_status"]) == ([1, 2], {"m": 3}, "ok")


def test_without_times_of_steps_the_matrix_says_that_it_cannot_tell(tmp_path: Path):
    ended = ran(tmp_path, "sh", "-c", 'test "$A" = 1', cells=[{}, {"extra_env": {"A": "1"}}])
    assert ended.matrix.assessments["c1"].text == "n/a (timing not per step)"
    assert any("has no times of single steps" in warning for warning in ended.matrix.warnings)


def test_a_program_that_is_not_there_is_refused_before_anything_runs(tmp_path: Path):
    with pytest.raises(InvalidInput, match="workload: the command's program no-such-program is not there") as refused:
        ran(tmp_path, "no-such-program", cells=[{}, {}])
    assert len(refused.value.problems) == 1
    assert not (tmp_path / "out").exists()


def gone(pid: int) -> bool:
    """Whether a process ends within the time that a test waits; one that is dead and not collected yet is gone."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < give_up:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


def test_a_command_that_does_not_end_is_ended_with_its_children_and_has_failed(tmp_path: Path):
    script = "sleep 600 & echo $!; wait"
    ended = trial(ran(tmp_path, "sh", "-c", script, seconds=1.0))
    assert (ended["exit_status"], ended["label"]) == ("workload_failed", "timeout")
    assert gone(int(ended["output"]))


def test_a_command_may_clean_up_before_it_is_ended(tmp_path: Path):
    script = "trap 'echo cleaned; exit 0' TERM; while :; do sleep 0.05; done"
    ended = trial(ran(tmp_path, "sh", "-c", script, seconds=1.0))
    assert ended["label"] == "timeout"
    assert ended["output"].endswith("cleaned\n")


def test_a_command_that_will_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(commands, "GRACE_SECONDS", 0.3)
    script = "trap '' TERM; echo $$; while :; do sleep 0.05; done"
    ended = trial(ran(tmp_path, "sh", "-c", script, seconds=1.0))
    assert ended["label"] == "timeout"
    assert gone(int(ended["output"]))


def test_what_a_command_leaves_behind_is_ended(tmp_path: Path):
    ended = trial(ran(tmp_path, "sh", "-c", "sleep 600 & echo $!"))
    assert ended["exit_status"] == "ok"
    assert gone(int(ended["output"]))


def test_a_secret_that_a_command_prints_stands_nowhere(tmp_path: Path):
    secret = "correct-horse-battery"
    script = 'printf correct-horse; sleep 0.2; echo -battery; env; echo "{\\"reason\\": \\"$API_TOKEN\\"}" > $MLCC_TRIAL_REPORT'
    cells = [{"extra_env": {"API_TOKEN": secret}}]
    ended = ran(tmp_path, "sh", "-c", f"{script}; echo {secret}; exit 1", cells=cells, save_logs=True)
    written = everything_below(tmp_path / "out")
    assert secret not in written
    assert "API_TOKEN=<withheld>" in written
    assert "echo <withheld>" in ended.rerun


def test_a_log_without_end_is_cut_and_says_so(tmp_path: Path):
    script = "dd if=/dev/zero bs=1M count=20 2>/dev/null | tr '\\0' x"
    ended = ran(tmp_path, "sh", "-c", script, save_logs=True)
    log = (ended.folder.path / "cells/c0/trial_0.log").read_bytes()
    assert len(log) < 17 << 20
    assert log.endswith(b"(cut here: it printed more)\n")


SCRIPT = """
import os, pathlib, sys, time
marks = pathlib.Path(sys.argv[1])
mark = marks / f"{os.environ['MLCC_TRIAL_CELL']}-{os.environ['MLCC_TRIAL_NUMBER']}"
held = (marks / "hold").exists() and mark.name == "c0-2"
mark.write_text(str(os.getpid()))
if held:
    time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "killed"])
def test_a_real_process_that_is_interrupted_keeps_what_is_done_and_goes_on(tmp_path: Path, home: Path, number: int):
    marks = tmp_path / "marks"
    marks.mkdir()
    (marks / "hold").touch()
    document = recipe({}, {}, workload="command", trials=3)
    (tmp_path / "recipe.json").write_text(json.dumps(document))
    (tmp_path / "probe.py").write_text(SCRIPT)
    words = [
        str(MLCC),
        "triage",
        "run",
        "--recipe",
        "recipe.json",
        "--output-dir",
        "out",
        "--",
        sys.executable,
        "probe.py",
    ]
    process = subprocess.Popen(
        [*words, str(marks)], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    )
    try:
        give_up = time.monotonic() + PATIENCE_SECONDS
        while not (marks / "c0-2").exists():
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            assert time.monotonic() < give_up
            time.sleep(0.05)
        time.sleep(0.2)
        os.kill(process.pid, number)
        out, _ = process.communicate(timeout=PATIENCE_SECONDS)
    finally:
        process.kill()
    (folder,) = (tmp_path / "out/_no_ticket_/command").iterdir()
    held = int((marks / "c0-2").read_text())
    assert gone(held)
    assert sorted(path.name for path in (folder / "cells/c0").iterdir()) == ["trial_0.json", "trial_1.json"]
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert f"to go on: mlcc triage run --resume {folder.relative_to(tmp_path)}" in out
        assert "2 of 3" in (folder / "matrix.md").read_text()
    else:
        assert process.returncode == -signal.SIGKILL
    kept = (folder / "cells/c0/trial_1.json").read_bytes()
    (marks / "hold").unlink()
    done = subprocess.run(
        [MLCC, "triage", "run", "--resume", str(folder), "--strict", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    matrix = json.loads(done.stdout)["matrix"]
    assert matrix["finished"]
    assert [cell["statistics"]["passed"] for cell in matrix["cells"]] == [3, 3]
    assert (folder / "cells/c0/trial_1.json").read_bytes() == kept
    assert {path.name for path in marks.iterdir()} == {f"c{cell}-{trial}" for cell in range(2) for trial in range(3)}


PAUSING = """
import json, os, sys
slower = float(os.environ.get("SLOW", 0)) + float(os.environ.get("MLCC_TRIAL_DELAY_MS", 0))
with open(os.environ["MLCC_TRIAL_REPORT"], "w") as file:
    json.dump({"step_times_ms": [1 + slower]}, file)
sys.exit(slower == 0)
"""


def test_a_command_is_told_by_how_much_it_shall_pause(tmp_path: Path):
    document = recipe({}, {"extra_env": {"SLOW": "20"}}, workload="command", trials=4, steps=1)
    made = plan(document, command=[sys.executable, "-c", PAUSING], options=RunOptions(delay_control=True))
    found = run(made, tmp_path / "out").matrix.assessments["c1"]
    assert found.tag is Tag.CONFOUNDED
    assert found.control is not None
    assert found.control.delay_ms == 20
