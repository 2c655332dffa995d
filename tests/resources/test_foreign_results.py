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
    rows = read_results(write(tmp_path / f"results{ending}", ROWS))
    assert [row["extra"] for row in rows] == [None, "x"]
    assert observed_gaps(rows).to_json(neighbours=True) == observed_gaps(ROWS).to_json(neighbours=True)


def test_no_rows_are_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "none.json").write_text("[]")
    assert read_results(tmp_path / "none.json") == []


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        pytest.param("absent.csv", None, "cannot be read (No such file or directory)", id="no file"),
        pytest.param("rows.xlsx", b"", "has no known ending; use one of .parquet, .csv, .json", id="another format"),
        pytest.param("rows.json", b"{}", "it must be a list of objects", id="no list"),
        pytest.param("rows.json", b"[1]", "it must be a list of objects", id="no objects"),
        pytest.param("rows.json", b"[", "is no json file of results", id="no JSON"),
        pytest.param("rows.json", b"\xff\xfe[", "is no json file of results", id="no UTF-8"),
        pytest.param("rows.parquet", b"PAR1", "is no parquet file of results", id="a cut off Parquet file"),
        pytest.param("rows.csv", b"status,tp_degree\na,b,c\n", "line 2 has more cells than the header", id="long line"),
        pytest.param("rows.csv", b"tp_degree\n1\n", "status: column is missing", id="no status"),
        pytest.param("rows.csv", b"status\ncompleted\n", "has none of the dimensions", id="no dimension"),
        pytest.param(
            "rows.csv",
            b"status,tp_degree,run_timestamp\ncompleted,1,yesterday\n",
            "row 0: run_timestamp 'yesterday' is no ISO 8601 time",
            id="a time that is none",
        ),
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
