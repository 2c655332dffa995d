"""`mlcc import` and `mlcc export` as a person calls them."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "core" / "imports"))

from command_calls import Call, files_below
from tool_files import WORDS, inferencex_result, llmperf_responses, llmperf_summary

DOCS = Path(__file__).parents[2] / "docs" / "commands.md"
SET = [part for word in WORDS for part in ("--set", word)]


@pytest.fixture
def result(tmp_path: Path) -> str:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(inferencex_result()), "utf-8")
    return str(path)


def shape(document: Any) -> Any:
    if isinstance(document, dict):
        return {key: shape(value) for key, value in document.items()}
    return [shape(document[0])] if isinstance(document, list) and document else None


def test_an_import_says_what_it_did_and_the_results_are_there(mlcc: Call, result: str):
    answer = mlcc("import", result, *SET)
    assert answer.code == 0
    assert answer.out.startswith("1 row imported (1 run of 1 configuration)\n")
    assert "transformers-vllm zai-org/GLM-5-FP8 ml.p5.48xlarge fp8" in answer.out
    (row,) = mlcc("sql", "--json", "SELECT status, ttft_p50_ms, executor FROM mlcc_ci.benchmark_results").document
    assert row == {"status": "completed", "ttft_p50_ms": 3125.0, "executor": None}


def test_the_same_import_again_changes_nothing(mlcc: Call, home: Path, result: str):
    mlcc("import", result, *SET)
    before = files_below(home / "results")
    answer = mlcc("import", result, *SET)
    assert answer.out.startswith("no rows imported (no runs of 1 configuration, 1 run unchanged)")
    assert files_below(home / "results") == before


def test_a_dry_run_says_the_same_and_makes_no_home(mlcc: Call, home: Path, result: str):
    answer = mlcc("import", result, *SET, "--dry-run")
    assert answer.out.startswith("1 row would be imported")
    assert not home.exists()


def test_what_is_missing_is_one_list_and_makes_no_home(mlcc: Call, home: Path, result: str):
    answer = mlcc("import", result, str(home / "absent.json"))
    assert answer.code == 2
    assert answer.err.startswith("mlcc: the import has 2 mistakes; correct them and try again:")
    assert "--set instance_type=... --set deployment_config=... --set quantization=..." in answer.err
    assert "there is no such file" in answer.err
    assert not home.exists()


def test_differences_to_a_files_own_summary_are_a_table_with_reasons(mlcc: Call, tmp_path: Path):
    for name, document in (("summary", llmperf_summary()), ("raw", llmperf_responses())):
        (tmp_path / f"{name}.json").write_text(json.dumps(document), "utf-8")
    answer = mlcc("import", str(tmp_path / "summary.json"), str(tmp_path / "raw.json"), *SET)
    assert answer.code == 0
    assert "2 numbers of a file's own summary that its raw requests do not give" in answer.out
    (line,) = [line for line in answer.out.splitlines() if "itl_p50_ms" in line]
    assert "110" in line
    assert "250" in line
    assert "first token included" in line


def test_the_json_document_of_an_import_is_the_one_that_is_documented(mlcc: Call, tmp_path: Path):
    for name, document in (("summary", llmperf_summary()), ("raw", llmperf_responses())):
        (tmp_path / f"{name}.json").write_text(json.dumps(document), "utf-8")
    answer = mlcc("import", str(tmp_path / "summary.json"), str(tmp_path / "raw.json"), *SET, "--json")
    section = re.split(r"^## `mlcc import`$", DOCS.read_text("utf-8"), flags=re.M)[1].partition("\n## ")[0]
    (documented,) = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", section, re.S)]
    assert shape(answer.document) == shape(documented)


def test_a_setting_with_a_mistake_is_refused_before_any_file_is_read(mlcc: Call):
    answer = mlcc("import", "absent.json", "--set", "quantisation=fp8")
    assert answer.code == 2
    assert "did you mean 'quantization'?" in answer.err


def test_an_unknown_format_names_the_known_ones(mlcc: Call, result: str):
    answer = mlcc("import", result, "--format", "genai")
    assert (answer.code, "no format 'genai'; use one of athena-export" in answer.err) == (2, True)


@pytest.mark.parametrize("name", ["rows.csv", "rows.json", "rows.parquet"])
def test_an_export_is_imported_into_another_home_as_the_same_rows(
    mlcc: Call, proven_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    answer = mlcc("export", str(tmp_path / name))
    assert (answer.code, answer.out) == (0, f"4 rows written to {tmp_path / name}\n")
    everything = mlcc("export", "--format", "json").out
    monkeypatch.setenv("MLCC_HOME", str(tmp_path / "other"))
    assert mlcc("import", str(tmp_path / name)).code == 0
    assert mlcc("export", "--format", "json").out == everything


def test_an_export_to_standard_output_is_the_rows_and_nothing_else(mlcc: Call, proven_home: Path):
    lines = mlcc("export", "--status", "failed").out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("project_name,model_name")
    assert len(mlcc("export", "--format", "markdown").out.splitlines()) == 2 + 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["--format", "xlsx"], "no format 'xlsx'", id="form"),
        pytest.param(["--status", "done"], "no status 'done'", id="status"),
        pytest.param(["--run-type", "test"], "no run type 'test'", id="run type"),
        pytest.param(["--format", "parquet"], "name a file", id="Parquet without a file"),
        pytest.param(["rows.xlsx"], "has no known ending", id="ending"),
    ],
)
def test_an_export_that_cannot_be_is_refused_and_makes_no_home(mlcc: Call, home: Path, words: list[str], said: str):
    answer = mlcc("export", *words)
    assert (answer.code, said in answer.err) == (2, True)
    assert not home.exists()
