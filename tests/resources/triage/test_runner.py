"""Running a matrix: what every trial leaves, that nothing else is touched, and going on after an interruption."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from triage_runs import Module, everything_below, plan, recipe

from mlcc_dagster.core.exceptions import InvalidInput, UsageError
from mlcc_dagster.core.triage.confound import Tag
from mlcc_dagster.core.triage.secrets import WITHHELD
from resources.triage import runner
from resources.triage.runner import Ended, resume
from resources.triage.workload_names import workload_named

WORKLOADS = '''
import os
from resources.triage.workloads import InfrastructureFailed, Report, SetupFailed, WorkloadFailed

def by_variable(trial):
    """Ends as the variable HOW says."""
    how = os.environ.get("HOW", "pass")
    if how == "early":
        raise RuntimeError("before any step")
    with trial.step():
        pass
    match how:
        case "fail": return False
        case "report": return Report(False, reason="told", label="kind", metrics={"n": 1})
        case "mapping": return {"passed": False, "step_times_ms": [1, 2.5], "reason": "mapped"}
        case "assert": assert 1 == 2, "not equal"
        case "failed": raise WorkloadFailed("wrong sum", label="sum")
        case "late": raise RuntimeError("after a step")
        case "setup": raise SetupFailed("no weights")
        case "around": raise InfrastructureFailed("no network")
        case "disk": raise OSError(28, "No space left on device")
        case "memory": raise MemoryError
        case "odd": return 7
        case "unknown": return {"pased": False}

def leaves(trial):
    os.environ["LEFT"] = "behind"
    os.environ.pop("PATH", None)
    print("said", os.environ["GIVEN"])
    (trial.folder / "scratch").write_text("x")
    return Report(True, metrics={"folder": str(trial.folder)})

seen = []
def counting(trial):
    seen.append((trial.cell, trial.number))
    if len(seen) == 4:
        raise KeyboardInterrupt
    return True

def telling(trial):
    print("token is", os.environ["API_TOKEN"])
    raise WorkloadFailed("refused " + os.environ["API_TOKEN"], label=os.environ["API_TOKEN"])
'''


@pytest.fixture(autouse=True)
def workloads(module: Module) -> None:
    module("triage_probes", WORKLOADS)


def run(tmp_path: Path, document: dict[str, Any], *sidecars: Path) -> Ended:
    return runner.run(plan(document, *sidecars), tmp_path / "out")


def how(*words: str) -> list[dict[str, Any]]:
    return [{"extra_env": {"HOW": word}} for word in words]


@pytest.mark.parametrize(
    ("word", "status", "verdict", "reason"),
    [
        ("pass", "ok", "pass", None),
        ("fail", "workload_failed", "fail", None),
        ("report", "workload_failed", "fail", "told"),
        ("mapping", "workload_failed", "fail", "mapped"),
        ("assert", "workload_failed", "fail", "AssertionError: not equal"),
        ("failed", "workload_failed", "fail", "wrong sum"),
        ("late", "workload_failed", "fail", "RuntimeError: after a step"),
        ("early", "workload_setup_failed", "error", "RuntimeError: before any step"),
        ("setup", "workload_setup_failed", "error", "no weights"),
        (
            "odd",
            "workload_setup_failed",
            "error",
            "the workload answered with a int; let it return a truth value or a report",
        ),
        ("unknown", "workload_setup_failed", "error", None),
        ("around", "infrastructure_failed", "error", "no network"),
        ("disk", "infrastructure_failed", "error", "OSError: [Errno 28] No space left on device"),
        ("memory", "infrastructure_failed", "error", "MemoryError"),
    ],
)
def test_a_trial_ends_as_its_workload_says(tmp_path: Path, word, status, verdict, reason):
    ended = run(tmp_path, recipe(*how(word), workload="python:triage_probes:by_variable", trials=1))
    trial = json.loads((ended.folder.path / "cells/c0/trial_0.json").read_text())
    assert (trial["exit_status"], trial["verdict"]) == (status, verdict)
    if reason is not None:
        assert trial["reason"] == reason
    if word == "mapping":
        assert trial["step_times_ms"] == [1, 2.5]


def test_one_failing_cell_is_an_error_row_and_the_rest_goes_on(tmp_path: Path):
    ended = run(tmp_path, recipe(*how("fail", "early", "pass"), workload="python:triage_probes:by_variable", trials=3))
    tags = {name: each.tag for name, each in ended.matrix.assessments.items()}
    assert tags["c1"] is Tag.ERROR
    assert [each.trials for each in ended.matrix.statistics.values()] == [3, 3, 3]
    assert ended.matrix.finished
    assert not ended.matrix.whole


def test_the_environment_of_the_process_is_afterwards_as_it_was(tmp_path: Path):
    before = dict(os.environ)
    ended = run(
        tmp_path, recipe({"extra_env": {"GIVEN": "value"}}, workload="python:triage_probes:leaves", save_logs=True)
    )
    assert dict(os.environ) == before
    trial = json.loads((ended.folder.path / "cells/c0/trial_1.json").read_text())
    assert trial["output"] == "said value\n"
    assert (ended.folder.path / "cells/c0/trial_1.log").read_text() == "said value\n"
    assert not Path(trial["metrics"]["folder"]).exists()


def test_the_folder_of_a_run_has_everything_that_is_promised(tmp_path: Path):
    sidecar = tmp_path / "flags.json"
    sidecar.write_text(
        '{"version": 1,  "mitigations": {"m": {"A": "1"}}, "environments": {"img": {"docker": "o/i:1"}}}'
    )
    document = recipe({}, {"mitigations": ["m"]}, {"environment": "img"}, ticket="T-1", trials=1)
    path = run(tmp_path, document, sidecar).folder.path
    files = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
    assert files == {
        "matrix.md",
        "matrix.json",
        "recipe.resolved.yaml",
        "host_env.json",
        "environments/local/env.json",
        "environments/img/env.json",
        "sidecars/flags.json",
        "cells/c0/trial_0.json",
        "cells/c1/trial_0.json",
        "cells/c2/trial_0.json",
    }
    assert (path / "sidecars/flags.json").read_bytes() == sidecar.read_bytes()
    host = json.loads((path / "host_env.json").read_text())
    placeholder = json.loads((path / "environments/img/env.json").read_text())
    assert placeholder["entered"] is False
    assert "does not enter this image" in placeholder["note"]
    assert not {"python", "kernel", "packages", "variables"} & placeholder.keys()
    assert host["python"] == json.loads((path / "environments/local/env.json").read_text())["python"]


def test_a_workload_that_cannot_enter_an_image_says_nothing_of_it(tmp_path: Path):
    ended = run(tmp_path, recipe({}, {"environment": {"docker": "o/i:1"}}, trials=1))
    assert ended.matrix.statistics["c1"].exit_status_counts["infrastructure_failed"] == 1
    assert "cannot enter the image" in next(iter(ended.matrix.statistics["c1"].reasons))


def test_the_resolved_recipe_runs_as_it_is_and_resolves_to_the_same_bytes(tmp_path: Path):
    from resources.triage.documents import plain_document

    first = run(tmp_path, recipe({}, {"mitigations": ["example_lock"], "trials": 1}, workload_config={"x": 1})).folder
    text = (first.path / "recipe.resolved.yaml").read_text()
    again = run(tmp_path, plain_document(text, [])).folder
    assert (again.path / "recipe.resolved.yaml").read_text() == text
    documents = [json.loads((folder.path / "matrix.json").read_text()) for folder in (first, again)]
    cells = [
        [(cell["name"], cell["variables"], cell["workload_config"], cell["trials_asked"]) for cell in document["cells"]]
        for document in documents
    ]
    assert cells[0] == cells[1]


def test_ctrl_c_keeps_what_is_done_and_the_run_goes_on_where_it_was(tmp_path: Path):
    document = recipe({}, {}, workload="python:triage_probes:counting", trials=3)
    ended = run(tmp_path, document)
    assert ended.interrupted
    assert not ended.matrix.finished
    assert [each.trials for each in ended.matrix.statistics.values()] == [3, 0]
    assert "is not finished" in (ended.folder.path / "matrix.md").read_text()
    kept = (ended.folder.path / "cells/c0/trial_2.json").read_bytes()
    went_on = resume(ended.folder.path)
    assert went_on.matrix.finished
    assert [each.trials for each in went_on.matrix.statistics.values()] == [3, 3]
    assert (ended.folder.path / "cells/c0/trial_2.json").read_bytes() == kept
    import triage_probes  # pyright: ignore[reportMissingImports]

    assert triage_probes.seen[3:] == [("c1", 0)] + [("c1", number) for number in range(3)]


def test_a_record_that_was_cut_off_is_tried_again(tmp_path: Path):
    folder = run(tmp_path, recipe({}, trials=12, steps=1)).folder
    (folder.path / "cells/c0/trial_4.json").write_text('{"schema_version": 1, "cell"')
    (folder.path / "cells/c0/trial_10.json").unlink()
    ended = resume(folder.path)
    assert ended.matrix.finished
    assert [trial.number for trial in ended.matrix.trials["c0"]] == list(range(12))
    paths = json.loads((folder.path / "matrix.json").read_text())["cells"][0]["trial_paths"]
    assert paths == [f"cells/c0/trial_{number}.json" for number in range(12)]


def test_a_finished_run_that_is_resumed_runs_nothing(tmp_path: Path):
    folder = run(tmp_path, recipe({})).folder
    told: list[Any] = []
    assert resume(folder.path, listen=lambda *event: told.append(event)).matrix.finished
    assert told == []


def test_a_run_is_not_resumed_when_its_names_mean_something_else_by_now(tmp_path: Path):
    sidecar = tmp_path / "flags.json"
    sidecar.write_text('{"version": 1, "mitigations": {"m": {"A": "1"}}}')
    folder = run(tmp_path, recipe({}, {"mitigations": ["m"]}), sidecar).folder
    (folder.path / "sidecars/flags.json").write_text('{"version": 1, "mitigations": {"m": {"A": "2"}}}')
    with pytest.raises(UsageError, match="what is registered for c1 is not what it was when this run began"):
        resume(folder.path)


def test_a_folder_that_is_none_of_a_run_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="is no folder of a run"):
        resume(tmp_path)
    folder = run(tmp_path, recipe({})).folder
    (folder.path / "matrix.json").write_text("{")
    with pytest.raises(UsageError, match="is damaged; start a new run"):
        resume(folder.path)


SECRET = "correct-horse-battery"


def test_a_secret_of_a_sidecar_or_a_recipe_stands_in_no_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    sidecar = tmp_path / "login.json"
    sidecar.write_text(json.dumps({"version": 1, "mitigations": {"login": {"API_TOKEN": SECRET, "A": "1"}}}))
    document = recipe(
        {"mitigations": ["login"]},
        {"extra_env": {"API_TOKEN": SECRET}},
        workload="python:triage_probes:telling",
        save_logs=True,
    )
    ended = run(tmp_path, document, sidecar)
    written = everything_below(tmp_path / "out")
    assert SECRET not in written
    assert f"token is {WITHHELD}" in written
    assert SECRET not in capfd.readouterr().out + ended.rerun + repr(ended.matrix.to_json()) + ended.matrix.markdown()
    assert ended.needed == ("API_TOKEN",)
    trial = json.loads((ended.folder.path / "cells/c0/trial_0.json").read_text())
    assert (trial["reason"], trial["label"]) == (f"refused {WITHHELD}", WITHHELD)
    assert json.loads((ended.folder.path / "matrix.json").read_text())["cells"][0]["variables"] == {
        "API_TOKEN": WITHHELD,
        "A": "1",
    }


def test_a_run_with_secrets_goes_on_once_they_are_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sidecar = tmp_path / "login.json"
    sidecar.write_text(json.dumps({"version": 1, "mitigations": {"login": {"API_TOKEN": SECRET}}}))
    document = recipe({"mitigations": ["login"]}, workload="python:triage_probes:telling")
    folder = run(tmp_path, document, sidecar).folder
    (folder.path / "cells/c0/trial_1.json").unlink()
    with pytest.raises(InvalidInput, match="from the environment variable API_TOKEN, which is not set"):
        resume(folder.path)
    monkeypatch.setenv("API_TOKEN", SECRET)
    assert resume(folder.path).matrix.finished
    assert SECRET not in everything_below(tmp_path / "out")


def test_two_secrets_that_would_be_given_again_under_one_name_are_refused(tmp_path: Path):
    for name, value in (("a", SECRET), ("b", f"{SECRET}-2")):
        (tmp_path / f"{name}.json").write_text(json.dumps({"version": 1, "mitigations": {name: {"API_TOKEN": value}}}))
    with pytest.raises(InvalidInput, match="give API_TOKEN two values") as refused:
        plan(recipe({}), tmp_path / "a.json", tmp_path / "b.json")
    assert SECRET not in str(refused.value)


def test_a_cell_that_collects_failures_ends_early(tmp_path: Path):
    document = recipe(
        *how("fail", "pass"), workload="python:triage_probes:by_variable", stop_after={"events": 2, "max_trials": 5}
    )
    assert [each.trials for each in run(tmp_path, document).matrix.statistics.values()] == [2, 5]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nothing", "workload: no workload 'nothing' is registered; registered are lost-update, llamacpp-answers, "),
        ("command", "workload: command needs the command itself; write it behind --"),
        ("python:triage_probes", "workload: a Python function is named python:MODULE:FUNCTION; give both"),
        ("python:triage_probes:no", "workload: module triage_probes has no no; correct the name"),
        ("python:triage_probes:seen", "workload: seen of triage_probes cannot be called; "),
        ("python:no.such:x", "workload: no.such cannot be imported (ModuleNotFoundError: "),
        ("stage:fly:x", "workload: a stage is named stage:STAGE:ENTRY with one of generate, "),
        ("stage:test", "workload: a stage is named stage:STAGE:ENTRY; give the catalog entry"),
        ("stage:test:local-fastapi-forest", "workload: the catalog has no entry 'local-fastapi-forest'; did you mean"),
        ("benchmark:nothing-like-it", "workload: the catalog has no entry 'nothing-like-it'; "),
    ],
)
def test_a_workload_that_there_is_not_is_told_with_what_there_is(name, told):
    problems: list[str] = []
    assert workload_named(name, None, problems) is None
    (problem,) = problems
    assert problem.startswith(told)


def test_a_command_goes_with_the_workload_command_alone():
    problems: list[str] = []
    assert workload_named("lost-update", ["true"], problems) is None
    assert problems == ["workload: 'lost-update' takes no command; write command, or drop the words behind --"]
