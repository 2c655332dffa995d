"""Running the SQL models: rows, previews, tests, and the marts as Parquet files in the home.

Belongs here: one run over one snapshot, and publishing a mart's file atomically. Not here: what models are (`sql_models.py`),
answering SQL (`sql_engine.py`), showing results (assets, commands).

The files below `marts/` are copies for readers without this engine (a notebook, a bare DuckDB, the dbt project): as of the last
refresh. `mlcc sql` never reads them; it computes a model from the results as they are when it is asked, so that the two cannot
be mistaken for each other: the files say when they were written, the answers are of now.
"""

import contextlib
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resources.model_sources import engine_of
from resources.platform import Platform
from resources.sql_engine import SCHEMA
from resources.sql_models import DataTest, Model, SqlProject

if TYPE_CHECKING:
    import pyarrow as pa

PREVIEW_ROWS = 20
SHOWN_FAILURES = 5


@dataclass(frozen=True)
class TestOutcome:
    """What a model's test found: how many rows (or values) break its claim, and the first of them."""

    test: DataTest
    failures: int
    first: tuple[Mapping[str, Any], ...]

    # not a class of tests, whatever its name begins with
    __test__ = False

    @property
    def passed(self) -> bool:
        """Whether nothing breaks the claim."""
        return self.failures == 0


@dataclass(frozen=True)
class ModelRun:
    """What one model is now: its rows counted, the first of them in the order of its grain, its tests, and the file of a mart
    (none for other layers, which are views)."""

    model: Model
    row_count: int
    preview: "pa.Table"
    tests: tuple[TestOutcome, ...]
    file: Path | None


def marts_folder(platform: Platform) -> Path:
    """Return where the marts' files lie: `marts` below the home."""
    return platform.home.root / "marts"


def run_models(platform: Platform, project: SqlProject, names: Iterable[str] | None = None) -> list[ModelRun]:
    """Compute models and their tests, all from one snapshot, and publish the files of the marts among them.

    `names` (default: all) are run in the order of the project. Nothing is published where any of them cannot be computed.
    Raises `UsageError` for an unknown name, `SqlError` where a limit is reached, `OSError` where the disk refuses.
    """
    wanted = None if names is None else {project.model(name).name for name in names}
    models = [model for model in project.models if wanted is None or model.name in wanted]
    statements = [statement for model in models for statement in _statements(model)]
    answers = iter(engine_of(platform, project).queries(statements))
    runs, tables = [], []
    for model in models:
        count, rows = next(answers).column(0)[0].as_py(), next(answers)
        tests = tuple(_outcome(test, next(answers)) for test in model.tests)
        mart = model.layer == "marts"
        file = marts_folder(platform) / f"{model.name}.parquet" if mart else None
        if file is not None:
            tables.append((file, rows))
        runs.append(ModelRun(model, count, rows.slice(0, PREVIEW_ROWS), tests, file))
    for file, rows in tables:
        publish_table(file, rows)
    return runs


def _statements(model: Model) -> list[str]:
    """Return what a run asks of a model: its rows counted, its rows (of a mart all, else a preview), and its tests."""
    table = f"{SCHEMA}.{model.name}"
    rows = f"SELECT * FROM {table} ORDER BY {', '.join(model.grain)}"
    limit = "" if model.layer == "marts" else f" LIMIT {PREVIEW_ROWS}"
    tests = [
        f"SELECT *, count(*) OVER () AS failures_found FROM ({test.sql}) LIMIT {SHOWN_FAILURES}" for test in model.tests
    ]
    return [f"SELECT count(*) FROM {table}", rows + limit, *tests]


def _outcome(test: DataTest, found: "pa.Table") -> TestOutcome:
    rows = found.to_pylist()
    failures = rows[0]["failures_found"] if rows else 0
    first = tuple({name: value for name, value in row.items() if name != "failures_found"} for row in rows)
    return TestOutcome(test, failures, first)


def publish_table(path: Path, table: "pa.Table") -> None:
    """Write a table as one Parquet file in the place of an older one: a reader sees the whole old or the whole new file."""
    from pyarrow import parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.stem}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        with temporary.open("xb") as file:
            pq.write_table(table, file, compression="snappy", write_page_checksum=True)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
