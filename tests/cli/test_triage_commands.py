"""`mlcc triage`: two ways of entry, what they refuse, what they print, and how they exit."""

import json
from pathlib import Path
from typing import Any

import pytest
from command_calls import Call, files_below

FLAGS = ("--workload", "lost-update", "--mitigation-axis", "none,example_lock", "--environment-axis", "local")
RECIPE: dict[str, Any] = {
    "schema_version": 1,
    "workload": "lost-update",
    "trials": 1,
    "steps": 1,
    "cells": [{"name": "a", "mitigations": ["none"], "environment": "local"}],
}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(RECIPE))
    return path


def test_a_matrix_by_options_runs_and_says_where_it_is(mlcc: Call, home: Path):
    answer = mlcc("triage", "run", *FLAGS, "--trials", "2", "--steps", "2", "--ticket", "T-1")
    assert answer.code == 0
    (folder,) = (home / "triage" / "T-1" / "lost-update").iterdir()
    assert f"matrix: {folder}/matrix.md" in answer.out
    assert f"to rerun: mlcc triage run --recipe {folder}/recipe.resolved.yaml" in answer.out
    assert len([line for line in answer.err.splitlines() if " of 2: " in line]) == 4
    assert [line.split()[0] for line in answer.out.splitlines()[3:5]] == ["none-local", "example_lock-local"]


def test_the_line_to_rerun_runs_the_same_again(mlcc: Call, recipe: Path, tmp_path: Path):
    import shlex

    sidecar = tmp_path / "flags.json"
    sidecar.write_text('{"version": 1, "mitigations": {"m": {"A": "1"}}}')
    document = RECIPE | {"cells": [*RECIPE["cells"], RECIPE["cells"][0] | {"name": "b", "mitigations": ["m"]}]}
    recipe.write_text(json.dumps(document | {"workload": "command"}))
    first = mlcc(
        "triage", "run", "--recipe", str(recipe), "--mitigations-file", str(sidecar), "--", "sh", "-c", "exit 0"
    )
    (line,) = [line for line in first.out.splitlines() if line.startswith("to rerun: ")]
    words = shlex.split(line.removeprefix("to rerun: "))
    assert words[0] == "mlcc"
    assert mlcc(*words[1:]).code == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--recipe", "RECIPE", "--trials", "3", "--ticket", "T"], "not by both; drop --recipe or --trials, --ticket"),
        (["--recipe", "RECIPE", *FLAGS], "drop --recipe or --workload, --mitigation-axis, --environment-axis"),
        (["--recipe", "RECIPE", "--baseline-cell", "a"], "drop --recipe or --baseline-cell"),
        (["--recipe", "RECIPE", "--confound-threshold", "1.2"], "drop --recipe or --confound-threshold"),
        ([], "missing: --workload, --mitigation-axis, --environment-axis, --trials"),
        (["--workload", "lost-update", "--trials", "1"], "missing: --mitigation-axis, --environment-axis"),
        ([*FLAGS, "--trials", "1", "--mode", "probe"], "unknown --mode 'probe'; use matrix"),
        ([*FLAGS, "--trials", "0"], "trials: must be at least 1, not 0"),
        ([*FLAGS, "--trials", "1", "--confound-threshold", "0"], "confound.threshold: must be above 0, not 0"),
        ([*FLAGS, "--trials", "1", "--trial-seconds", "0"], "--trial-seconds must be above 0"),
        ([*FLAGS, "--trials", "1", "--"], "no command stands behind --"),
        ([*FLAGS, "--trials", "1", "--", "true"], "workload: 'lost-update' takes no command"),
        (["RECIPE"], "unexpected extra argument"),
        (["--recipe", "no-such-file.yaml"], "is no file; name a recipe, YAML or JSON"),
        (["--recipe", "RECIPE", "--mitigations-file", "no.json"], "is no file; name a sidecar, JSON"),
        (
            ["--resume", "FOLDER", "--trials", "1", "--dry-run"],
            "a run's folder says; drop --dry-run, --trials",
        ),
        (["--resume", "FOLDER"], "is no folder of a run"),
        ([*FLAGS, "--trials", "1", "--plot", "plot.pdf"], "--plot must end in .svg or .png, not plot.pdf"),
        ([*FLAGS, "--trials", "1", "--plot", "none/plot.svg"], "none; make it first"),
        ([*FLAGS, "--trials", "1001", "--adaptive"], "--adaptive works with at most 1,000 trials per cell, not 1001"),
        (
            [
                "--workload",
                "benchmark:local-fastapi-logistic-1cpu",
                *FLAGS[2:],
                "--trials",
                "1",
                "--delay-control",
            ],
            "times its requests itself and cannot be slowed; drop --delay-control",
        ),
    ],
)
def test_an_unusable_request_is_one_sentence_and_starts_nothing(
    mlcc: Call, recipe: Path, home: Path, tmp_path: Path, words, told
):
    known = {"RECIPE": str(recipe), "FOLDER": str(tmp_path / "none")}
    answer = mlcc("triage", "run", *(known.get(word, word) for word in words))
    assert answer.code == 2
    assert told in answer.err
    assert answer.out == ""
    assert not home.exists()


@pytest.mark.parametrize(
    "flag", ["--dry-run", "--strict", "--mode=matrix", "--output-dir=there", "--mitigations-file=flags.json"]
)
def test_flags_of_the_runner_go_with_both_ways_of_entry(mlcc: Call, recipe: Path, flag: str):
    Path("flags.json").write_text('{"version": 1}')
    assert mlcc("triage", "run", "--recipe", str(recipe), flag).code == 0
    assert mlcc("triage", "run", *FLAGS, "--trials", "1", flag).code == 0


def test_a_dry_run_makes_every_check_and_touches_no_file(mlcc: Call, recipe: Path, home: Path, tmp_path: Path):
    Path("probes_of_dry_run.py").write_text("def probe(trial):\n    raise AssertionError('started')\n")
    recipe.write_text(json.dumps(RECIPE | {"workload": "python:probes_of_dry_run:probe"}))
    before = files_below(tmp_path)
    answer = mlcc("triage", "run", "--recipe", str(recipe), "--dry-run")
    assert answer.code == 0
    assert "baseline: a" in answer.out
    recipe.write_text(json.dumps(RECIPE | {"confound": {"baseline_cell": "b"}}))
    assert (
        "confound.baseline_cell: no cell is called 'b'"
        in mlcc("triage", "run", "--recipe", str(recipe), "--dry-run").err
    )
    recipe.write_text(before["recipe.json"].decode())
    assert files_below(tmp_path) == before
    assert not home.exists()


def test_a_dry_run_refuses_a_place_that_a_run_would_refuse(mlcc: Call, recipe: Path, tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "_no_ticket_").symlink_to(tmp_path)
    for words in (("--dry-run",), ()):
        answer = mlcc("triage", "run", "--recipe", str(recipe), "--output-dir", str(tmp_path / "out"), *words)
        assert answer.code == 2
        assert "is a link" in answer.err


@pytest.mark.parametrize(("strict", "code"), [((), 0), (("--strict",), 1)])
def test_an_error_row_is_a_failure_only_where_that_was_asked_for(mlcc: Call, recipe: Path, strict, code):
    cells = [RECIPE["cells"][0] | {"extra_env": {"MLCC_EXAMPLE_SLEEP_MS": "x"}}]
    recipe.write_text(json.dumps(RECIPE | {"cells": cells}))
    answer = mlcc("triage", "run", "--recipe", str(recipe), *strict)
    assert answer.code == code
    assert "warning: the baseline 'a' is unusable" in answer.err


def test_a_failing_cell_is_no_failure_of_the_command(mlcc: Call, recipe: Path):
    recipe.write_text(json.dumps(RECIPE | {"workload": "command"}))
    assert mlcc("triage", "run", "--recipe", str(recipe), "--strict", "--", "false").code == 0


def test_a_run_that_has_ended_can_be_asked_for_more_and_drawn(mlcc: Call, home: Path, tmp_path: Path):
    Path("probes_of_more.py").write_text(
        "import os\nfrom resources.triage.workloads import Report\n\n"
        "def probe(trial):\n"
        "    slow = bool(trial.delay_s or os.environ.get('SLOW'))\n"
        "    return Report(slow or trial.number % 2 == 1, (9.0 if slow else 1.0,))\n"
    )
    cells = [RECIPE["cells"][0], RECIPE["cells"][0] | {"name": "slow", "extra_env": {"SLOW": "1"}}]
    path = tmp_path / "more.json"
    path.write_text(json.dumps(RECIPE | {"workload": "python:probes_of_more:probe", "trials": 16, "cells": cells}))
    first = mlcc("triage", "run", "--recipe", str(path), "--json").document
    assert first["matrix"]["cells"][1]["confound"]["text"] == "speed (+800%)"
    again = mlcc("triage", "run", "--resume", first["folder"], "--delay-control", "--plot", "plot.svg")
    assert again.code == 0
    assert "confounded (the delay alone does it, p = " in again.out
    assert "slow: delay control: the baseline slowed by 8 ms a step failed in 0 of 16 trials" in again.out
    assert "slow (delay control) 16 of 16: pass" in again.err
    assert Path("plot.svg").read_text().startswith("<svg")
    (rerun,) = [line for line in again.out.splitlines() if line.startswith("to rerun: ")]
    assert rerun.endswith("--delay-control")


def test_a_matrix_without_step_times_is_not_drawn_and_says_why(mlcc: Call, recipe: Path):
    recipe.write_text(json.dumps(RECIPE | {"workload": "command"}))
    answer = mlcc("triage", "run", "--recipe", str(recipe), "--plot", "plot.svg", "--", "true")
    assert answer.code == 0
    assert "nothing was drawn: no cell has failures and step times" in answer.err
    assert not Path("plot.svg").exists()


OPEN_ENDED = {"labels", "reasons", "warnings"}
"""Parts that are empty in a quiet run, or whose keys are data."""


def test_what_is_documented_as_json_is_what_is_printed(mlcc: Call, recipe: Path):
    page = (Path(__file__).parents[2] / "docs" / "commands.md").read_text("utf-8")
    section = page.partition("## `mlcc triage run`")[2].partition("\n## ")[0]
    dry, ran = (json.loads(block.partition("```")[0]) for block in section.split("```json\n")[1:])

    def shape(document: Any) -> Any:
        if isinstance(document, dict):
            return {key: shape(value) for key, value in document.items() if key not in OPEN_ENDED}
        return [shape(document[0])] if isinstance(document, list) and document else None

    words = ("triage", "run", "--recipe", str(recipe), "--json")
    assert shape(mlcc(*words, "--dry-run").document) == shape(dry)
    assert shape(mlcc(*words).document) == shape(ran)


def test_output_of_a_workload_never_stands_in_the_document(mlcc: Call, recipe: Path):
    Path("probes_that_print.py").write_text("def probe(trial):\n    print('noise')\n")
    recipe.write_text(json.dumps(RECIPE | {"workload": "python:probes_that_print:probe"}))
    assert mlcc("triage", "run", "--recipe", str(recipe), "--json").document["matrix"]["finished"] is True


SIDECAR = {
    "version": 1,
    "mitigations": {"flag": {"MY_VAR": "1"}, "login": {"HF_TOKEN": "correct-horse"}},
    "environments": {"img": {"docker": "o/i:1"}, "py": {"venv": "/v"}},
}


@pytest.fixture
def sidecar(tmp_path: Path) -> Path:
    path = tmp_path / "flags.json"
    path.write_text(json.dumps(SIDECAR))
    return path


def test_mitigations_are_listed_with_source_and_variables_and_no_secret(mlcc: Call, sidecar: Path):
    answer = mlcc("triage", "list-mitigations", "--mitigations-file", str(sidecar))
    rows = {line.split()[0]: line for line in answer.out.splitlines()[3:]}
    assert "sidecar flags.json" in rows["flag"]
    assert "MY_VAR=1" in rows["flag"]
    assert "HF_TOKEN=<withheld>" in rows["login"]
    assert "CUDA_LAUNCH_BLOCKING=1" in rows["cuda_launch_blocking"]
    listed = mlcc("triage", "list-mitigations", "--mitigations-file", str(sidecar), "--json")
    assert "correct-horse" not in answer.out + listed.out
    assert all(each["summary"] for each in listed.document["mitigations"] if each["source"] == "built-in")


def test_environments_are_listed_with_image_and_virtual_environment(mlcc: Call, sidecar: Path):
    document = mlcc("triage", "list-environments", "--mitigations-file", str(sidecar), "--json").document
    found = {each["name"]: (each["source"], each["docker"], each["venv"]) for each in document["environments"]}
    assert found == {
        "local": ("built-in", None, None),
        "default": ("built-in", None, None),
        "img": ("sidecar flags.json", "o/i:1", None),
        "py": ("sidecar flags.json", None, "/v"),
    }


def test_workloads_are_listed_with_their_kinds(mlcc: Call):
    document = mlcc("triage", "list-workloads", "--json").document
    assert {each["kind"] for each in document["workloads"]} == {"callable", "benchmark", "stage", "command"}
    assert "lost-update" in mlcc("triage", "list-workloads").out


def test_two_sidecars_of_one_file_name_are_refused(mlcc: Call, sidecar: Path, tmp_path: Path, recipe: Path):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "flags.json").write_text('{"version": 1}')
    words = ("--mitigations-file", str(sidecar), "--mitigations-file", str(tmp_path / "more" / "flags.json"))
    answer = mlcc("triage", "run", "--recipe", str(recipe), *words)
    assert answer.code == 2
    assert "have the same file name" in answer.err


def test_a_name_that_two_sidecars_give_is_refused_with_both_and_without_values(
    mlcc: Call, sidecar: Path, tmp_path: Path
):
    (tmp_path / "more.json").write_text(json.dumps(SIDECAR | {"environments": {}}))
    answer = mlcc(
        "triage",
        "list-mitigations",
        "--mitigations-file",
        str(sidecar),
        "--mitigations-file",
        str(tmp_path / "more.json"),
    )
    assert answer.code == 2
    assert "mitigation 'flag' is given by sidecar flags.json and by sidecar more.json" in answer.err
    assert "correct-horse" not in answer.err
