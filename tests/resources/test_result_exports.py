"""Rows written out: chosen, in four forms, put in place in one step."""

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.records import COLUMN_NAMES
from resources import result_exports
from resources.result_exports import RowChoice, chosen_rows, content_of, format_for, write_file
from resources.result_store import ResultStore


def row(run_id: str, **values: Any) -> dict[str, Any]:
    return (
        dict.fromkeys(COLUMN_NAMES)
        | {
            "model_name": "a/b",
            "model_family": "qwen3",
            "instance_type": "local.1cpu",
            "deployment_config": "http-fastapi",
            "deployment_target": "realtime-inference",
            "run_type": "ci",
            "run_timestamp": "2026-06-09T14:30:22.000000Z",
            "run_id": run_id,
            "config_id": "aaaa",
            "status": "completed",
            "concurrency": 1,
            "ttft_p50_ms": 0.1 + 0.2,
            "schema_version": 1,
        }
        | values
    )


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    made = ResultStore(tmp_path / "results")
    made.publish("aaaa-g2", [row("aaaa-g2", run_timestamp="2026-06-10T00:00:00.000000Z", run_type="path_prove")])
    made.publish("aaaa-g1", [row("aaaa-g1", failure_reason="a | b\nc", status="failed", concurrency=0)])
    made.publish("bbbb-g1", [row("bbbb-g1", model_family="llama3")])
    return made


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        pytest.param(RowChoice(), ["aaaa-g1", "bbbb-g1", "aaaa-g2"], id="all, oldest first"),
        pytest.param(RowChoice(status="failed"), ["aaaa-g1"], id="by status"),
        pytest.param(RowChoice(run_type="path_prove"), ["aaaa-g2"], id="by run type"),
        pytest.param(RowChoice(family="llama3"), ["bbbb-g1"], id="by family"),
        pytest.param(RowChoice(status="failed", family="llama3"), [], id="by both"),
    ],
)
def test_rows_are_chosen(store: ResultStore, choice: RowChoice, expected: list[str]):
    assert chosen_rows(store.snapshot(), choice)["run_id"].to_pylist() == expected


def test_a_choice_that_is_none_names_what_there_is():
    with pytest.raises(UsageError, match="no status 'done'; use one of completed, failed, unfeasible; no run type 'x'"):
        RowChoice(status="done", run_type="x")


def test_csv_has_every_column_and_numbers_to_the_last_bit(store: ResultStore):
    text = content_of(chosen_rows(store.snapshot(), RowChoice()), "csv").decode()
    names, first, *_ = csv.reader(io.StringIO(text, newline=""))
    assert names == list(COLUMN_NAMES)
    assert float(dict(zip(names, first, strict=True))["ttft_p50_ms"]) == 0.1 + 0.2
    assert dict(zip(names, first, strict=True))["failure_reason"] == "a | b\nc"


def test_json_says_null_for_what_is_absent(store: ResultStore):
    first = json.loads(content_of(chosen_rows(store.snapshot(), RowChoice()), "json"))[0]
    assert list(first) == list(COLUMN_NAMES)
    assert first["project_name"] is None


def test_markdown_has_the_columns_with_a_value_and_one_line_per_row(store: ResultStore):
    lines = content_of(chosen_rows(store.snapshot(), RowChoice()), "markdown").decode().splitlines()
    assert len(lines) == 2 + 3
    assert "project_name" not in lines[0]
    assert "a \\| b c" in lines[2]


def test_no_rows_are_a_sentence_in_markdown(store: ResultStore):
    assert content_of(chosen_rows(store.snapshot(), RowChoice(family="none")), "markdown") == b"No results.\n"


@pytest.mark.parametrize(
    ("name", "file", "expected"),
    [
        pytest.param(None, None, "csv", id="nothing said"),
        pytest.param(None, "a.JSON", "json", id="by the ending"),
        pytest.param(None, "a.md", "markdown", id="markdown"),
        pytest.param("csv", "a.json", "csv", id="a word comes before the ending"),
    ],
)
def test_the_form_follows_from_the_word_or_the_ending(name: str | None, file: str | None, expected: str):
    assert format_for(name, Path(file) if file else None) == expected


@pytest.mark.parametrize(
    ("name", "file", "said"),
    [
        pytest.param("xlsx", None, "no format 'xlsx'; use one of csv", id="unknown"),
        pytest.param(None, "a.xlsx", "has no known ending", id="unknown ending"),
        pytest.param("parquet", None, "name a file to write it to", id="Parquet on standard output"),
    ],
)
def test_a_form_that_cannot_be_is_refused(name: str | None, file: str | None, said: str):
    with pytest.raises(UsageError, match=said):
        format_for(name, Path(file) if file else None)


def test_a_file_that_cannot_be_finished_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "rows.csv"
    path.write_text("before")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(result_exports.os, "fsync", full)
    with pytest.raises(UsageError, match="No space left on device"):
        write_file(path, b"after")
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["rows.csv"]  # noqa: PTH208


@pytest.mark.parametrize("name", ["absent/rows.csv", "."])
def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path, name: str):
    with pytest.raises(UsageError, match=r"cannot write|is a folder"):
        write_file(tmp_path / name, b"x")
