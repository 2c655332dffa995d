"""`sql` on the command line: statements, named queries, models, formats, limits, and the models as a dbt project."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from command_calls import Call, files_below

from resources.sql_models import shipped_project

STATUS = "SELECT config_id, status FROM mlcc_ci.latest_result ORDER BY config_id"


def test_a_model_is_asked_like_any_table(mlcc: Call, proven_home: Path):
    assert mlcc("sql", STATUS, "--json").document == [
        {"config_id": "aaaa", "status": "completed"},
        {"config_id": "bbbb", "status": "completed"},
        {"config_id": "cccc", "status": "failed"},
    ]
    assert not (proven_home / "marts").exists(), "asking writes nothing"


def test_the_word_ask_may_be_left_out_wherever_the_options_stand(mlcc: Call, proven_home: Path):
    answers = [
        mlcc("sql", STATUS, "--format", "csv"),
        mlcc("sql", "--format", "csv", STATUS),
        mlcc("sql", "ask", "--format", "csv", STATUS),
        mlcc("sql", "ask", STATUS, "--format=csv"),
    ]
    assert {(answer.code, answer.out) for answer in answers} == {
        (0, "config_id,status\naaaa,completed\nbbbb,completed\ncccc,failed\n")
    }


def test_gaps_are_the_same_in_sql_and_in_their_own_command(mlcc: Call, proven_home: Path):
    gaps = mlcc("gaps", "--limit", "0", "--json").document["gaps"]
    columns = ", ".join(gaps[0])
    assert mlcc("sql", f"SELECT {columns} FROM mlcc_ci.gap_list ORDER BY gap_rank", "--json").document == gaps


@pytest.mark.parametrize("name", [query.name for query in shipped_project().queries])
def test_every_named_query_is_answered(name: str, mlcc: Call, proven_home: Path):
    answer = mlcc("sql", "--named", name, "--json")
    assert (answer.code, answer.err) == (0, "")
    assert isinstance(answer.document, list)


def test_a_named_query_is_its_statement(mlcc: Call, proven_home: Path):
    (query,) = [query for query in shipped_project().queries if query.name == "proven_counts"]
    assert mlcc("sql", "--named", "proven_counts").out == mlcc("sql", query.sql).out
    assert "random-forest" in mlcc("sql", "--named", "proven_counts").out


def test_the_list_names_every_query_and_table_and_opens_no_home(mlcc: Call, home: Path):
    document = mlcc("sql", "--list", "--json").document
    project = shipped_project()
    assert [each["name"] for each in document["queries"]] == [query.name for query in project.queries]
    names = {f"mlcc_ci.{each.name}" for each in (*project.sources.values(), *project.models)}
    assert {each["name"] for each in document["tables"]} == names
    text = mlcc("sql", "--list").out
    assert all(name in text for name in names)
    assert not home.exists()


def test_arrays_maps_and_rows_are_json_in_every_format(mlcc: Call, proven_home: Path):
    asked = "SELECT ARRAY[1.5, NULL] AS a, MAP(ARRAY['k'], ARRAY[DATE '2026-06-01']) AS m, CAST(ROW(1) AS ROW(n integer)) AS r"
    row = {"a": ["1.5", None], "m": {"k": "2026-06-01"}, "r": {"n": 1}}
    assert mlcc("sql", asked, "--json").document == [row]
    header, values = mlcc("sql", asked, "--format", "csv").out.splitlines()
    assert header == "a,m,r"
    assert [json.loads(cell) for cell in next(csv.reader([values]))] == list(row.values())
    assert '{"k": "2026-06-01"}' in mlcc("sql", asked).out


def test_parquet_goes_to_its_file(mlcc: Call, proven_home: Path, tmp_path: Path):
    path = tmp_path / "out" / "latest.parquet"
    answer = mlcc("sql", STATUS, "--format", "parquet", "--output", str(path))
    assert (answer.code, answer.out) == (0, f"3 rows in {path}\n")
    assert pq.read_table(path).column("status").to_pylist() == ["completed", "completed", "failed"]


def test_a_limit_shortens_every_format(mlcc: Call, proven_home: Path):
    assert len(mlcc("sql", STATUS, "--limit", "2", "--json").document) == 2
    assert mlcc("sql", STATUS, "--limit", "1").out.splitlines()[0] == "1 row"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "give one of a SELECT, --named NAME and --list"),
        (("SELECT 1", "--named", "spend"), "give one of a SELECT, --named NAME and --list"),
        (("--named", "spent"), "no named query 'spent'; nearest are spend"),
        (("SELECT 1", "--format", "xml"), "no format 'xml'; use table, csv, json or parquet"),
        (("SELECT 1", "--format", "parquet"), "--format parquet and --output FILE go together"),
        (("SELECT 1", "--output", "x"), "--format parquet and --output FILE go together"),
        (("--list", "--format", "csv"), "--list has no format 'csv'"),
        (("SELECT 1", "--limit", "-1"), "--limit cannot be -1"),
        (("SELECT 1", "--seconds", "0"), "--seconds cannot be 0"),
        (("SELECT 1", "--memory", "0"), "--memory cannot be 0"),
        (("SELECT 1", "--engine", "presto"), "no engine 'presto'; use duckdb or athena"),
        (("SELECT 1", "--engine", "athena", "--memory", "9"), "--memory is a limit of duckdb"),
        (("SELECT 1 FROM mlcc_ci.latest_results",), "nearest are mlcc_ci.latest_result"),
        (("SELECT 1", "--limit", "-1", "--memory", "0"), "--memory cannot be 0"),
    ],
)
def test_a_request_that_cannot_be_met_is_a_sentence_and_makes_no_home(
    words: tuple[str, ...], sentence: str, mlcc: Call, home: Path
):
    answer = mlcc("sql", *words)
    assert (answer.code, answer.out) == (2, "")
    assert sentence in answer.err
    assert not home.exists()


def test_the_limits_of_one_query_can_be_given(mlcc: Call, proven_home: Path):
    big = "UNNEST(sequence(1, 10000)) AS a(x), UNNEST(sequence(1, 10000)) AS b(y), UNNEST(sequence(1, 10000)) AS c(z)"
    slow = mlcc("sql", f"SELECT count(*) FROM {big} WHERE x * y * z = 3", "--seconds", "0.3")
    assert (slow.code, slow.out) == (2, "")
    assert "ran longer than 0.3 s" in slow.err
    greedy = mlcc("sql", f"SELECT x, y, z FROM {big}", "--memory", "60")
    assert "larger than 60 MB" in greedy.err


def test_a_question_about_the_results_reads_no_model(proven_home: Path):
    code = (
        "import sys; from mlcc_dagster.cli import main\n"
        "try: main(['sql', 'SELECT count(*) FROM mlcc_ci.benchmark_results', '--json'])\n"
        "except SystemExit as ended: assert not ended.code\n"
        "found = {'dagster', 'resources.model_sources', 'resources.ci_lines'} & set(sys.modules)\n"
        "print(sorted(found), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, timeout=120, check=True
    )
    assert json.loads(done.stdout) == [{"_col0": 4}]
    assert done.stderr == "[]\n"


def test_compile_writes_a_project_and_nothing_into_the_home(mlcc: Call, proven_home: Path, tmp_path: Path):
    mlcc("sql", STATUS)
    before = files_below(proven_home / "results")
    target = tmp_path / "dbt"
    document = mlcc("sql", "compile", "--target", str(target), "--json").document
    assert document["target"] == str(target)
    assert document["models"] == [model.name for model in shipped_project().models]
    assert {Path(name) for name in document["files"]} == {path for path in target.rglob("*") if path.is_file()}
    assert files_below(proven_home / "results") == before
    assert mlcc("sql", "compile", "--target", str(target)).out == (
        f"{len(document['models'])} models in {target}; build them there with `dbt build --profiles-dir .`\n"
    )


def test_compile_refuses_a_folder_of_something_else(mlcc: Call, proven_home: Path, tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine", "utf-8")
    answer = mlcc("sql", "compile", "--target", str(tmp_path / "mine"))
    assert (answer.code, answer.out) == (2, "")
    assert "holds something else than a project written here" in answer.err
