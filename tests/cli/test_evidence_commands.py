"""`coverage`, `gaps` and `sql` over a home with results: the shapes of their JSON, and files that cannot be read."""

import csv
import io
from pathlib import Path

import pytest
from command_calls import LOGISTIC, Call, files_below, result_row

from mlcc_dagster.core.configuration import DIMENSIONS
from resources.result_store import ResultStore

COUNT = "SELECT status, count(*) AS n FROM mlcc_ci.benchmark_results GROUP BY status ORDER BY status"


# ---- gaps


def test_gaps_as_json_have_the_documented_shape(mlcc: Call, proven_home: Path):
    answer = mlcc("gaps", "--json", "--limit", "0")
    assert (answer.code, answer.err) == (0, "")
    document = answer.document
    assert list(document) == ["universe", "total", "gaps"]
    assert document["universe"] == "catalog"
    assert document["total"] == len(document["gaps"]) > 0
    for gap in document["gaps"]:
        assert list(gap) == [*DIMENSIONS, "neighbours", "reason"]
        assert all(isinstance(gap[name], str) for name in DIMENSIONS)
        assert isinstance(gap["neighbours"], int)


def test_the_best_supported_gap_comes_first_and_proven_ones_are_none(mlcc: Call, proven_home: Path):
    gaps = mlcc("gaps", "--json", "--limit", "0").document["gaps"]
    assert [gap["neighbours"] for gap in gaps] == sorted((gap["neighbours"] for gap in gaps), reverse=True)
    pairs = [(gap["deployment_config"], gap["model_family"]) for gap in gaps]
    assert ("http-fastapi", "random-forest") not in pairs
    assert ("http-flask", "random-forest") not in pairs
    reasons = {gap["deployment_config"]: gap["reason"] for gap in gaps if gap["model_family"] == "logistic-regression"}
    assert reasons["http-flask"] == "untested"
    assert reasons["http-fastapi"] != "untested", "it was tried and failed"


def test_the_observed_universe_is_the_product_of_the_values_in_the_results(mlcc: Call, proven_home: Path):
    document = mlcc("gaps", "--universe", "observed", "--json").document
    pairs = {(gap["deployment_config"], gap["model_family"]) for gap in document["gaps"]}
    assert document["universe"] == "observed"
    assert document["total"] == 2
    assert pairs == {("http-fastapi", "logistic-regression"), ("http-flask", "logistic-regression")}


def test_a_limit_shortens_the_list_and_not_the_total(mlcc: Call, proven_home: Path):
    whole = mlcc("gaps", "--json", "--limit", "0").document
    short = mlcc("gaps", "--json", "--limit", "1").document
    assert short["total"] == whole["total"]
    assert short["gaps"] == whole["gaps"][:1]
    assert f"1 of {whole['total']} shown; --limit 0 lists all" in mlcc("gaps", "--limit", "1").out


def test_gaps_as_text_are_one_line_each(mlcc: Call, proven_home: Path):
    total = mlcc("gaps", "--json").document["total"]
    lines = mlcc("gaps", "--limit", "0").out.splitlines()
    assert lines[0].startswith(f"{total} gaps in the catalog universe")
    assert lines[1].split() == [*DIMENSIONS, "neighbours", "reason"]
    assert len(lines) == 3 + total


# ---- coverage


def test_coverage_as_json_has_the_documented_shape_and_adds_up(mlcc: Call, proven_home: Path):
    answer = mlcc("coverage", "--json")
    assert (answer.code, answer.err) == (0, "")
    document = answer.document
    counts = document["counts"]
    assert list(document) == ["executor", "counts", "excluded", "shares", "proofs_by_executor", "matrix"]
    assert document["executor"] == "local"
    assert (counts["proven"], counts["failed"], counts["unfeasible"]) == (2, 1, 0)
    assert counts["possible"] == sum(counts[name] for name in ("proven", "failed", "unfeasible", "untested"))
    assert document["shares"]["tested"] == {"numerator": 3, "denominator": counts["possible"]}
    assert document["shares"]["passing"] == {"numerator": 2, "denominator": 3}
    assert document["proofs_by_executor"] == {"local": 2}
    assert sum(cell["proven"] for cell in document["matrix"]["cells"]) == 2


def test_coverage_and_gaps_agree_on_what_is_not_proven(mlcc: Call, proven_home: Path):
    counts = mlcc("coverage", "--json").document["counts"]
    assert mlcc("gaps", "--json").document["total"] == counts["possible"] - counts["proven"]


def test_coverage_as_text_shows_counts_before_percent(mlcc: Call, proven_home: Path):
    answer = mlcc("coverage", "--by", "model_family, deployment_config")
    assert answer.code == 0
    title, header, _, *rows = answer.out.splitlines()
    assert title == "proven of possible, model_family x deployment_config (executor local)"
    assert header.split()[0] == "model_family"
    assert any(row.split() == ["random-forest", "1/1", "1/1"] for row in rows)
    assert "passing 2/3 = 66.7 %" in answer.out


def test_evidence_outside_of_what_is_possible_is_named_and_counts_nowhere(mlcc: Call, proven_home: Path):
    before = mlcc("coverage", "--json").document["counts"]
    row = result_row("dddd", deployment_config="never-heard-of")
    ResultStore(proven_home / "results").publish("dddd-g1", [row])
    after = mlcc("coverage", "--json").document["counts"]
    assert after == before | {"outside": 1}
    assert "1 vector with evidence, but outside" in mlcc("coverage").out


# ---- sql


def test_sql_answers_as_table_csv_and_json_alike(mlcc: Call, proven_home: Path):
    table = mlcc("sql", COUNT)
    assert table.out.splitlines() == [
        "2 rows",
        "status     n",
        "---------  -",
        "completed  3",
        "failed     1",
    ]
    assert mlcc("sql", COUNT, "--json").document == [{"status": "completed", "n": 3}, {"status": "failed", "n": 1}]
    assert mlcc("sql", COUNT, "--format", "json").out == mlcc("sql", COUNT, "--json").out
    assert mlcc("sql", COUNT, "--format", "csv").out == "status,n\ncompleted,3\nfailed,1\n"


def test_every_column_of_the_table_comes_out_of_select_star(mlcc: Call, proven_home: Path):
    query = "SELECT * FROM mlcc_ci.benchmark_results ORDER BY run_id, concurrency"
    rows = mlcc("sql", query, "--json").document
    assert len(rows) == 4
    assert rows[0]["request_throughput_rps"] == 80.5
    assert rows[0]["ttft_p50_ms"] is None, "absent is null and never 0"
    names = next(csv.reader(io.StringIO(mlcc("sql", query, "--format", "csv").out)))
    assert names == list(rows[0])


def test_no_rows_are_an_empty_list_and_no_error(mlcc: Call, proven_home: Path):
    query = "SELECT run_id FROM mlcc_ci.benchmark_results WHERE status = 'unheard'"
    assert mlcc("sql", query, "--json").document == []
    assert mlcc("sql", query).out == "no rows\n"
    assert mlcc("sql", query, "--format", "csv").out == "run_id\n"


def test_two_columns_of_one_name_are_kept_in_a_table_and_refused_in_json(mlcc: Call, proven_home: Path):
    assert mlcc("sql", "SELECT 1 AS a, 2 AS a").out.splitlines()[-1].split() == ["1", "2"]
    answer = mlcc("sql", "SELECT 1 AS a, 2 AS a", "--json")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == "mlcc: several columns are named a; give each its own name with AS\n"


# ---- files that cannot be read


def damage_footer(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def damage_pages(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for index in range(8, 400):
        content[index] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [damage_footer, damage_pages], ids=["footer", "pages behind a sound footer"])
@pytest.mark.parametrize("words", [("gaps",), ("coverage",), ("sql", "SELECT * FROM mlcc_ci.benchmark_results")])
def test_a_damaged_file_is_named_in_a_warning_and_the_others_are_still_read(
    words: tuple[str, ...], damage, mlcc_process: Call, proven_home: Path
):
    """In a process of its own: what was found out about a file is remembered per process."""
    (path,) = proven_home.rglob("run-bbbb-g1.parquet")
    damage(path)
    answer = mlcc_process(*words, "--json")
    assert answer.code == 0
    (line,) = answer.err.splitlines()
    assert line.startswith(f"warning: {path} was left out (damaged: ")
    assert line.endswith("; move it away or restore it")
    document = answer.document
    if words[0] == "gaps":
        gaps = {(gap["deployment_config"], gap["model_family"]) for gap in document["gaps"]}
        assert ("http-flask", "random-forest") in gaps, "its only proof cannot be read"
        assert ("http-fastapi", "random-forest") not in gaps
    elif words[0] == "coverage":
        assert document["counts"]["proven"] == 1
    else:
        assert {row["run_id"] for row in document} == {"aaaa-g1", "cccc-g1"}


def test_a_foreign_file_is_named_and_nothing_in_the_store_is_touched(mlcc_process: Call, proven_home: Path):
    (proven_home / "results" / "notes.txt").write_text("mine", "utf-8")
    before = files_below(proven_home / "results")
    answer = mlcc_process("gaps", "--json")
    assert answer.code == 0
    assert "notes.txt was left out (not a result file" in answer.err
    assert files_below(proven_home / "results") == before


# ---- a home that was not there


def test_a_home_that_was_not_there_is_said_to_be_new(mlcc: Call, home: Path):
    answer = mlcc("gaps", "--json")
    assert answer.code == 0
    assert answer.err == (
        f"warning: {home} is a new, empty home; `mlcc run --tier local` fills it, MLCC_HOME names another\n"
    )
    assert all(gap["reason"] == "untested" for gap in answer.document["gaps"])
    assert mlcc("gaps").err == "", "said once: now it is there"


def test_results_of_the_real_home_are_none_of_the_replay_home(mlcc: Call, proven_home: Path):
    assert mlcc("coverage", "--executor", "replay", "--json").document["counts"]["proven"] == 0


def test_a_completed_row_beside_a_failed_one_proves_the_vector(mlcc: Call, proven_home: Path):
    ResultStore(proven_home / "results").publish("cccc-g2", [result_row("cccc", run_id="cccc-g2", **LOGISTIC)])
    assert mlcc("coverage", "--json").document["counts"]["failed"] == 0
