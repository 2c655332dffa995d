"""Files on disk: every kind taken in, every mistake told at once, nothing half imported, and the way out and back again."""

import csv
import gzip
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1] / "core" / "imports"))

from tool_files import (
    DOCUMENTS,
    WORDS,
    athena_row,
    guidellm_report,
    inferencex_result,
    llmperf_responses,
    llmperf_summary,
    vllm_result,
)

from catalog.loader import load_catalog
from mlcc_dagster.core.exceptions import InvalidInput
from mlcc_dagster.core.imports.measured import Document
from mlcc_dagster.core.imports.settings import read_settings
from mlcc_dagster.core.metrics import metric_columns
from mlcc_dagster.core.records import COLUMN_NAMES, COLUMNS
from mlcc_dagster.core.request_records import parse_record
from resources import result_imports
from resources.compaction import GRACE_SECONDS, compact
from resources.home import Home
from resources.result_exports import RowChoice, chosen_rows, content_of
from resources.result_imports import ImportPlan, carry_out, plan_import, read_file
from resources.result_store import ResultStore

CATALOG = load_catalog()
COMPLETE = [*WORDS, "model_name=org/tiny", "concurrency=4", "run_timestamp=2026-06-09"]


def written(path: Path, document: Any) -> Path:
    """Write a document as the file it would be."""
    if isinstance(document, Document) and document.kind == "table":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, document.value[0])
            writer.writeheader()
            writer.writerows(document.value)
        return path
    if isinstance(document, Document):
        lines = document.kind == "lines"
        document = document.value
        if lines:
            path.write_text("".join(json.dumps(each) + "\n" for each in document), "utf-8")
            return path
    path.write_text(json.dumps(document), "utf-8")
    return path


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def plan(home: Home, *paths: Path, words: Any = WORDS, **more: Any) -> ImportPlan:
    store = ResultStore(home.results)
    return plan_import(paths, settings=read_settings(words), catalog=CATALOG, store=store, **more)


def take_in(home: Home, *paths: Path, **more: Any) -> ImportPlan:
    made = plan(home, *paths, **more)
    carry_out(made, home=home, store=ResultStore(home.results), advance=lambda: None)
    return made


def rows(home: Home) -> list[dict[str, Any]]:
    return ResultStore(home.results).snapshot().rows()


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
def test_every_kind_of_file_is_taken_in(home: Home, tmp_path: Path, name: str, packed: bool):
    path = written(tmp_path / "file.dat", DOCUMENTS[name][1])
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    words = COMPLETE if "ecords" in name or "responses" in name or "aggregate" in name else WORDS
    made = take_in(home, path, words=words if name != "Athena export" else ())
    (report,) = made.files
    assert report.format == DOCUMENTS[name][0]
    assert len(rows(home)) == report.rows >= 1
    assert {row["run_id"] for row in rows(home)} == {run.run_id for run in made.new}


def test_the_same_result_again_changes_nothing_however_it_is_named_and_packed(home: Home, tmp_path: Path):
    take_in(home, written(tmp_path / "a.json", inferencex_result()))
    before = {path: path.stat().st_mtime_ns for path in home.results.rglob("*.parquet")}
    again = tmp_path / "b.json.gz"
    again.write_bytes(gzip.compress(json.dumps(inferencex_result(), indent=3).encode()))
    made = take_in(home, again)
    assert (len(made.new), len(made.unchanged), made.new_rows) == (0, 1, 0)
    assert {path: path.stat().st_mtime_ns for path in home.results.rglob("*.parquet")} == before


def test_the_same_file_twice_in_one_import_counts_once_and_says_so(home: Home, tmp_path: Path):
    first = written(tmp_path / "a.json", inferencex_result())
    second = written(tmp_path / "b.json", inferencex_result())
    made = take_in(home, first, first, second)
    assert len(rows(home)) == 1
    assert [report.rows for report in made.files] == [1, 0]
    assert "it counts once" in made.files[1].remarks[0]


def test_a_run_that_is_there_with_other_values_is_refused_and_stays(home: Home, tmp_path: Path):
    path = written(tmp_path / "a.json", inferencex_result())
    take_in(home, path)
    before = rows(home)
    with pytest.raises(InvalidInput, match="is in the store with other values"):
        plan(home, path, words=[*WORDS, "workload=chat"])
    assert rows(home) == before


def test_a_longer_export_of_a_run_that_is_there_is_refused_and_not_half_taken(home: Home, tmp_path: Path):
    levels = [athena_row(concurrency=str(n)) for n in (1, 4)]
    take_in(home, written(tmp_path / "part.csv", Document("table", levels[:1])), words=())
    with pytest.raises(InvalidInput, match="1 rows there, 2 here"):
        plan(home, written(tmp_path / "whole.csv", Document("table", levels)), words=())


def test_a_result_that_was_merged_into_another_file_is_still_there(home: Home, tmp_path: Path):
    path = written(tmp_path / "a.json", inferencex_result())
    take_in(home, path, written(tmp_path / "b.json", inferencex_result(max_concurrency=4)))
    store, later = ResultStore(home.results), time.time() + 2 * 86_400
    for now in (later, later + GRACE_SECONDS):
        compact(store, now=now)
    assert [place.name for place in home.results.rglob("run-*.parquet")] == []
    made = take_in(home, path)
    assert (len(made.new), len(made.unchanged), len(rows(home))) == (0, 1, 2)


def test_a_damaged_file_of_the_same_run_is_told(home: Home, tmp_path: Path):
    path = written(tmp_path / "a.json", inferencex_result())
    take_in(home, path)
    (place,) = home.results.rglob("run-*.parquet")
    place.write_bytes(place.read_bytes()[:100])
    with pytest.raises(InvalidInput, match="does not count"):
        plan(home, path)


def test_nothing_is_taken_in_where_one_file_has_a_mistake(home: Home, tmp_path: Path):
    good = written(tmp_path / "good.json", inferencex_result())
    bad = written(tmp_path / "bad.json", inferencex_result(duration=-1))
    worse = tmp_path / "worse.json"
    worse.write_text("{")
    with pytest.raises(InvalidInput) as refused:
        take_in(home, good, bad, worse, tmp_path / "absent.json")
    assert [
        str(tmp_path / name) in problem
        for name, problem in zip(("bad.json", "worse.json", "absent.json"), refused.value.problems, strict=True)
    ] == [True] * 3
    assert not home.root.exists()


def test_a_plan_changes_nothing(home: Home, tmp_path: Path):
    assert plan(home, written(tmp_path / "a.json", inferencex_result())).new_rows == 1
    assert not home.root.exists()


def test_a_folder_is_read_with_everything_below_it_and_what_is_no_result_is_named(home: Home, tmp_path: Path):
    folder = tmp_path / "results"
    (folder / "deep").mkdir(parents=True)
    written(folder / "deep" / "one.json", inferencex_result())
    written(folder / "two.json", inferencex_result(max_concurrency=4))
    written(folder / "settings.json", {"a": 1})
    (folder / "notes.txt").write_text("nothing")
    (folder / ".hidden.json").write_text("{")
    made = take_in(home, folder)
    assert made.new_rows == 2
    (left,) = [each for each in made.files if each.format is None]
    assert left.path.endswith("settings.json")
    assert left.left_out == ("is no file of results that is read here",)


def test_a_damaged_file_in_a_folder_is_a_mistake_and_not_left_out(home: Home, tmp_path: Path):
    folder = tmp_path / "results"
    folder.mkdir()
    written(folder / "one.json", inferencex_result())
    (folder / "cut.json").write_text('{"model_id": "x", ')
    with pytest.raises(InvalidInput, match=r"cut\.json: is no whole JSON"):
        plan(home, folder)


def test_a_folder_without_results_is_refused(home: Home, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match="hold no file of results"):
        plan(home, tmp_path / "empty")


def test_the_two_files_of_a_run_become_one_run_with_its_raw_requests(home: Home, tmp_path: Path):
    summary = written(tmp_path / "x_summary.json", llmperf_summary())
    raw = written(tmp_path / "x_individual_responses.json", llmperf_responses())
    made = take_in(home, raw, summary)
    (row,) = rows(home)
    assert (row["request_count"], row["error_rate"], row["raw_uri"]) == (3.0, 0.25, f"raw/{row['run_id']}")
    (kept,) = (home.root / row["raw_uri"]).rglob("profile_export.jsonl")
    assert len(kept.read_text().splitlines()) == 4
    assert made.files[0].remarks == (f"holds the raw requests of {summary}",)


@pytest.mark.parametrize(
    "document", [vllm_result(detailed=True), guidellm_report(requests=True)], ids=["vllm", "guidellm"]
)
def test_every_number_can_be_computed_again_from_the_kept_requests(home: Home, tmp_path: Path, document: Any):
    take_in(home, written(tmp_path / "a.json", document))
    (row,) = rows(home)
    (kept,) = (home.root / row["raw_uri"]).rglob("profile_export.jsonl")
    again = metric_columns(
        [parse_record(line) for line in kept.read_text().splitlines()],
        usd_per_hour=CATALOG.instances["ml.p5.48xlarge"].usd_per_hour,
    )
    assert {name: row[name] for name in again} == again


def test_levels_of_one_report_are_one_run(home: Home, tmp_path: Path):
    report = guidellm_report()
    second = json.loads(json.dumps(report["benchmarks"][0]))
    second["config"]["strategy"]["streams"] = 8
    report["benchmarks"].append(second)
    made = take_in(home, written(tmp_path / "a.json", report))
    assert (len(made.new), [row["concurrency"] for row in rows(home)]) == (1, [2, 8])


def test_an_export_of_an_older_parquet_is_read_as_its_csv_is(home: Home, tmp_path: Path):
    typed = athena_row(concurrency=4, duration_seconds=1, request_count=3.0, ttft_p50_ms=70.0, ttst_p50_ms=0.0)
    typed |= {"error_rate": 0.0, "enable_lora": False, "tensor_parallel_degree": 1}
    pq.write_table(pa.Table.from_pylist([typed]), tmp_path / "a.parquet")
    take_in(home, tmp_path / "a.parquet", words=())
    made = take_in(home, written(tmp_path / "a.csv", Document("table", [athena_row()])), words=())
    assert (len(made.new), len(made.unchanged)) == (0, 1)


# ---- bad files


def unreadable(path: Path) -> None:
    os.mkfifo(path)


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(result_imports.LARGEST_BYTES + 1)


def folder(path: Path) -> None:
    path.mkdir()
    (path / "broken.csv").write_bytes(b'model_name,instance_type\n"a')


CUT = json.dumps(inferencex_result())[:-20].encode()
ROWS = pa.Table.from_pylist([athena_row()])


def parquet_bytes() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(ROWS, sink)
    return sink.getvalue().to_pybytes()


HEAD = b"model_name,instance_type,deployment_config\n"

BAD: list[tuple[str, bytes | Callable[[Path], None] | None, str]] = [
    ("no such file", None, "there is no such file"),
    ("a pipe", unreadable, "is no file and no folder"),
    ("a folder with a broken file", folder, "broken.csv: is no CSV"),
    ("an empty file", b"", "is empty"),
    ("white space alone", b" \n\t ", "is empty"),
    ("a huge file", sparse, "holds more than 1024 MiB"),
    ("binary content", bytes(range(256)), "is neither Parquet nor UTF-8 text (byte"),
    ("UTF-16", '{"a": 1}'.encode("utf-16"), "is neither Parquet nor UTF-8 text (byte 0)"),
    ("an image", b"\x89PNG\r\n\x1a\n", "is neither Parquet nor UTF-8 text (byte 0)"),
    ("truncated JSON", CUT, "is no whole JSON (line 1, column"),
    ("an open brace", b"{", "is no whole JSON"),
    ("two documents", b'{"a": 1} {"b": 2}', "is no whole JSON"),
    ("lines of JSON with a broken one", b'{"a": 1}\n{"a": \n', "line 2 is no whole JSON"),
    ("deep JSON", b"[" * 100_000, "is nested too deeply"),
    ("an endless number", b'{"model_id": ' + b"9" * 5000 + b"}", "Exceeds the limit"),
    ("a JSON number", b"[1, 2]", "is no file of results that is read here"),
    ("another tool's JSON", b'{"results": [1]}', "is no file of results that is read here"),
    ("a page of HTML", b"<html></html>", "is no file of results that is read here"),
    ("prose", b"all was well\n", "is no file of results that is read here"),
    ("another table", b"a,b\n1,2\n", "is no file of results that is read here"),
    ("a long line", HEAD + b"a,b,c,d\n", "line 2 has more cells than the header"),
    ("a short line", HEAD + b"a,b\n", "line 2 has fewer cells than the header"),
    ("two columns of one name", b"model_name,model_name\na,b\n", "has two columns named model_name"),
    ("an open quote", HEAD + b'"a,b,c\n', "is no CSV"),
    ("a cut Parquet file", parquet_bytes()[:-30], "is no whole Parquet file"),
    ("the beginning of one", b"PAR1", "is no whole Parquet file"),
    ("damaged gzip", gzip.compress(CUT)[:-12], "cannot be unpacked"),
    ("gzip of nothing", gzip.compress(b""), "is empty"),
    ("not a number", json.dumps(inferencex_result(median_ttft=float("nan"))).encode(), "median_ttft: must be a finite"),
    (
        "a negative number",
        json.dumps(inferencex_result(duration=-3)).encode(),
        "duration: must be a finite number of at",
    ),
    ("a missing field", json.dumps(inferencex_result(completed=None)).encode(), "completed: is missing"),
    ("a wrong kind", json.dumps(inferencex_result(completed=[160])).encode(), "completed: must be a number, not [160]"),
]


@pytest.mark.parametrize(("content", "said"), [pytest.param(c, s, id=name) for name, c, s in BAD])
def test_a_bad_file_is_one_sentence_and_makes_nothing(home: Home, tmp_path: Path, content: Any, said: str):
    path = tmp_path / "bad"
    if callable(content):
        content(path)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInput) as refused:
        plan(home, path)
    (problem,) = refused.value.problems
    assert problem.startswith(str(path))
    assert said in problem
    assert not home.root.exists()


def test_a_packed_file_that_unpacks_to_too_much_is_refused(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(result_imports, "LARGEST_BYTES", 1000)
    path = tmp_path / "bomb.json.gz"
    path.write_bytes(gzip.compress(b" " * 100_000))
    assert path.stat().st_size < 1000
    with pytest.raises(InvalidInput, match="holds more than"):
        plan(home, path)


def test_a_table_of_many_mistakes_is_told_in_part(home: Home, tmp_path: Path):
    bad = Document("table", [athena_row(concurrency="x", ttft_p50_ms=str(n)) for n in range(100)])
    with pytest.raises(InvalidInput) as refused:
        plan(home, written(tmp_path / "a.csv", bad), words=())
    assert len(refused.value.problems) == 21
    assert refused.value.problems[-1].endswith("80 more of this file")


def test_a_named_format_is_kept_to(home: Home, tmp_path: Path):
    path = written(tmp_path / "a.json", inferencex_result())
    with pytest.raises(InvalidInput, match="has no results; it must be a GuideLLM report"):
        plan(home, path, format_name="guidellm")


def test_what_a_reader_died_on_halfway_is_completed_by_the_same_import(home: Home, tmp_path: Path):
    files = [written(tmp_path / f"{n}.json", inferencex_result(max_concurrency=n)) for n in (1, 2, 3)]
    made, published = plan(home, *files), []

    def full() -> None:
        published.append(1)
        if len(published) == 2:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        carry_out(made, home=home, store=ResultStore(home.results), advance=full)
    assert len(rows(home)) == 2
    again = take_in(home, *files)
    assert (len(again.new), len(again.unchanged), len(rows(home))) == (1, 2, 3)


# ---- out and in again

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), min_size=1, max_size=20)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "string": TEXTS,
    "double": st.floats(min_value=0, allow_nan=False, allow_infinity=False),
    "int32": st.integers(0, 2**31 - 1),
    "bool": st.booleans(),
}
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True)


@st.composite
def stored_rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rows as the store may hold them: one run each."""
    made = []
    for run_id in draw(st.lists(NAMES, max_size=3, unique=True)):
        row: dict[str, Any] = {
            column.name: draw(st.none() | VALUES[column.type], label=column.name) for column in COLUMNS
        }
        row |= {
            "model_name": draw(st.none() | NAMES),
            "model_family": draw(NAMES),
            "instance_type": "local.1cpu",
            "deployment_config": draw(TEXTS),
            "deployment_target": "realtime-inference",
            "run_type": draw(st.sampled_from(["ci", "manual"])),
            "run_timestamp": "2026-06-09T14:30:22.000000Z",
            "run_id": run_id,
            "config_id": draw(NAMES),
            "status": draw(st.sampled_from(["completed", "failed", "unfeasible"])),
            "schema_version": 1,
        }
        made.append(row)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
@given(given_rows=stored_rows())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_an_export_is_the_same_rows_in_another_home(
    form: str, given_rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
):
    place = tmp_path_factory.mktemp("homes")
    store = ResultStore(place / "one" / "results")
    for row in given_rows:
        store.publish(row["run_id"], [row])
    table = chosen_rows(store.snapshot(), RowChoice())
    exported = place / "export.dat"
    exported.write_bytes(content_of(table, form))
    other = Home(place / "two")
    made = take_in(other, exported, words=())
    found = chosen_rows(ResultStore(other.results).snapshot(), RowChoice())
    assert found.to_pylist() == table.to_pylist()
    assert len(made.new) == len(given_rows)
    assert take_in(other, exported, words=()).new == ()


def test_rows_of_another_home_keep_their_identity_and_take_no_words(home: Home, tmp_path: Path):
    take_in(home, written(tmp_path / "a.json", inferencex_result()))
    exported = tmp_path / "rows.json"
    exported.write_bytes(content_of(chosen_rows(ResultStore(home.results).snapshot(), RowChoice()), "json"))
    with pytest.raises(InvalidInput, match="import it without --set"):
        plan(Home(tmp_path / "two"), exported)
    take_in(Home(tmp_path / "two"), exported, words=())
    assert rows(Home(tmp_path / "two")) == rows(home)


def test_a_file_is_parsed_by_its_content_and_not_by_its_name(tmp_path: Path):
    pq.write_table(ROWS, tmp_path / "rows.txt")
    assert read_file(tmp_path / "rows.txt").kind == "table"
    assert set(read_file(tmp_path / "rows.txt").first) <= {*COLUMN_NAMES, "model"}
