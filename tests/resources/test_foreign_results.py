"""Tables of results from elsewhere: three formats say the same, and a bad file is one plain refusal."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from mlcc_dagster.core.exceptions import InvalidInput
from mlcc_dagster.core.gaps import observed_gaps
from mlcc_dagster.core.result_columns import moment_of
from resources.foreign_results import read_results

ROWS: list[dict[str, Any]] = [
    {"deployment_config": "http-flask", "model_family": "qwen3", "tp_degree": 1, "status": "completed", "extra": None},
    {"deployment_config": "http-fastapi", "model_family": "llama3", "tp_degree": 2, "status": "failed", "extra": "x"},
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".json":
        path.write_text(json.dumps(rows), "utf-8")
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.mark.parametrize("ending", [".json", ".parquet", ".csv", ".CSV"])
def test_every_format_says_the_same(tmp_path: Path, ending: str) -> None:
    rows = read_results(write(tmp_path / f"results{ending}", ROWS)).rows
    assert [row["extra"] for row in rows] == [None, "x"]
    assert observed_gaps(rows).to_json(neighbours=True) == observed_gaps(ROWS).to_json(neighbours=True)


def test_no_rows_are_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "none.json").write_text("[]")
    assert read_results(tmp_path / "none.json").rows == []


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        pytest.param("absent.csv", None, "cannot be read (No such file or directory)", id="no file"),
        pytest.param("rows.xlsx", b"", "has no known ending; use one of .parquet, .csv, .json", id="another format"),
        pytest.param("rows.json", b"{}", "it must be a list of objects", id="no list"),
        pytest.param("rows.json", b"[1]", "it must be a list of objects", id="no objects"),
        pytest.param("rows.json", b"[", "is no json file of results", id="no JSON"),
        pytest.param("rows.json", b"\xff\xfe[", "is not UTF-8 text (byte 0)", id="UTF-16"),
        pytest.param("rows.parquet", b"PAR1", "is no parquet file of results", id="a cut off Parquet file"),
        pytest.param("rows.csv", b"status,tp_degree\na,b,c\n", "line 2 has more cells than the header", id="long line"),
        pytest.param("rows.csv", b"tp_degree\n1\n", "status: column is missing", id="no status"),
        pytest.param("rows.csv", b"status\ncompleted\n", "has none of the dimensions", id="no dimension"),
        pytest.param("rows.csv", b"status,tp_degree\na\n", "line 2 has fewer cells than the header", id="short line"),
        pytest.param("rows.csv", b"", "status: column is missing", id="an empty file"),
        pytest.param("rows.csv", b"status,tp_degree,status\n", "status: two columns have this name", id="twice"),
        pytest.param("rows.csv", b"status,tp_degree\n\xe9,1\n", "is not UTF-8 text (byte 17)", id="latin-1"),
        pytest.param("rows.json", b"[" * 200_000, "is no json file of results", id="nested without end"),
    ],
)
def test_a_bad_file_is_refused_in_plain_words(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInput) as caught:
        read_results(tmp_path / name)
    assert said in str(caught.value)


def test_a_folder_is_refused_in_plain_words(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").mkdir()
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_results(tmp_path / "rows.csv")


@pytest.mark.parametrize(
    ("given", "year"),
    [
        pytest.param("2026-01-01T00:00:00Z", 2026, id="ISO 8601"),
        pytest.param("2026-01-01 00:00:00.000 UTC", 2026, id="as Athena writes it"),
        pytest.param(1767225600, 2026, id="seconds since 1970"),
        pytest.param(1767225600000, 2026, id="milliseconds since 1970"),
        pytest.param("1767225600.5", 2026, id="seconds as text"),
        pytest.param(float("nan"), None, id="not a number"),
        pytest.param(None, None, id="nothing"),
    ],
)
def test_times_come_in_many_forms(given: object, year: int | None) -> None:
    moment = moment_of(given)
    assert (moment.year if moment is not None else None) == year


@pytest.mark.parametrize("given", ["yesterday", "0001-01-01T00:00:00+05:00", [], 12])
def test_a_time_that_is_none_is_counted_and_stops_nothing(tmp_path: Path, given: object) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([ROWS[0] | {"run_timestamp": given}, ROWS[1]]))
    found = read_results(path)
    assert found.unreadable_times == 1
    assert [row.get("run_timestamp") for row in found.rows] == [None, None]


def test_a_degree_that_is_not_a_number_is_read_under_its_other_name() -> None:
    nan = float("nan")
    rows = [
        {"deployment_config": "a", "tp_degree": nan, "tensor_parallel_degree": 2.0, "status": "completed"},
        {"deployment_config": "b", "tp_degree": 1.0, "tensor_parallel_degree": nan, "status": "failed"},
    ]
    assert [gap.values()[4] for gap in observed_gaps(rows)] == ["1", "2", "1"]
