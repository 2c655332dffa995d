"""The models as a dbt project: complete, safe to write again, and built by dbt itself it gives the rows of the models here."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))

from ci_histories import Histories

from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.records import COLUMN_NAMES
from resources.dbt_project import write_dbt_project
from resources.model_sources import model_engine
from resources.platform import Platform
from resources.sql_models import shipped_project

PROJECT = shipped_project()
DBT = ("dbt-core==1.10.23", "dbt-duckdb==1.10.1", f"duckdb=={duckdb.__version__}")
"""What builds the project: versions that install from wheels alone, and the DuckDB that reads here what dbt made."""


def row(config_id: str, generation: int, **values: Any) -> dict[str, Any]:
    made = dict.fromkeys(COLUMN_NAMES) | {
        "model_name": "Qwen/Qwen3-4B",
        "model_family": "qwen3",
        "instance_type": "ml.g5.xlarge",
        "instance_family": "g5",
        "deployment_config": "transformers-vllm",
        "deployment_target": "realtime-inference",
        "quantization": "none",
        "tensor_parallel_degree": 1,
        "run_type": "path_prove",
        "run_timestamp": f"2026-06-{generation:02d}T10:00:00.000000Z",
        "run_id": f"{config_id}-g{generation}",
        "config_id": config_id,
        "status": "completed",
        "workload": "sample",
        "concurrency": 1,
        "executor": "aws",
        "cost_usd": 1.5,
        "schema_version": 1,
    }
    return made | values


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """A home with measured, failed and unfeasible results and a history of tests: no mart is empty."""
    for name in ("MLCC_EXECUTOR", "MLCC_REGISTRY"):
        monkeypatch.delenv(name, raising=False)
    opened = Platform.open(tmp_path / "home")
    for generation, (tps, ttft, usd) in enumerate([(10.0, 5.0, 2.0), (12.0, 4.0, 1.0), (7.0, 9.0, 3.0)], start=1):
        metrics = {
            "output_token_throughput_tps": tps,
            "ttft_p99_ms": ttft,
            "ttft_p90_ms": ttft,
            "cost_per_1m_tokens": usd,
        }
        levels = [row("aaaa", generation, concurrency=level, **metrics) for level in (1, 4)]
        opened.store.publish(f"aaaa-g{generation}", levels)
    bad = {"status": "unfeasible", "failure_category": "oom", "failure_reason": "it's too large", "concurrency": 0}
    opened.store.publish("bbbb-g4", [row("bbbb", 4, quantization="fp8", **bad)])
    histories = Histories(opened.home.database)
    histories.run("local-fastapi-forest-1cpu", ".F.F.")
    return opened


def test_every_model_is_there_with_its_references_properties_and_tests(platform: Platform, tmp_path: Path):
    target = tmp_path / "made" / "target"
    files = {path.relative_to(target).as_posix() for path in write_dbt_project(platform, PROJECT, target)}
    assert files == {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    for model in PROJECT.models:
        text = (target / "models" / model.layer / f"{model.name}.sql").read_text("utf-8")
        for name in model.refs:
            assert f"{{{{ ref('{name}') }}}}" in text
        for name in model.sources:
            assert f"{{{{ source('mlcc_ci', '{name}') }}}}" in text
        assert "mlcc_ci." not in text, "no table behind dbt's back"
        (said,) = yaml.safe_load((target / "models" / model.layer / f"{model.name}.yml").read_text("utf-8"))["models"]
        assert [column["name"] for column in said["columns"]] == [column.name for column in model.columns]
        listed = sum(len(column.get("data_tests", ())) for column in said["columns"])
        assert listed == len(model.tests) - 1
        assert f"tests/{model.name}_one_row_per_grain.sql" in files
    assert {f"data/{name}.parquet" for name in PROJECT.sources} <= files


def test_a_model_is_written_in_duckdbs_own_sql(platform: Platform, tmp_path: Path):
    write_dbt_project(platform, PROJECT, tmp_path / "target")
    text = (tmp_path / "target" / "models" / "staging" / "stg_results.sql").read_text("utf-8")
    assert "REGEXP_FULL_MATCH(SUBSTRING(run_timestamp, 1, 10), " in text
    assert "TEXT" not in text, "what is known to be a text is not made one"


def test_writing_again_brings_the_folder_up_to_date(platform: Platform, tmp_path: Path):
    target = tmp_path / "target"
    write_dbt_project(platform, PROJECT, target)
    old = target / "models" / "marts" / "gone.sql"
    old.write_text("SELECT 1", "utf-8")
    (target / "warehouse.duckdb").write_bytes(b"dbt's own")
    platform.store.publish("cccc-g5", [row("cccc", 5)])
    write_dbt_project(platform, PROJECT, target)
    assert not old.exists(), "dbt would go on building it"
    assert (target / "warehouse.duckdb").exists(), "what is not ours stays"
    table = duckdb.sql(f"SELECT count(*) FROM '{target}/data/benchmark_results.parquet'").fetchall()
    assert table == [(8,)]


@pytest.mark.parametrize("foreign", ["notes.txt", "dbt_project.yml"])
def test_a_folder_that_holds_something_else_is_not_touched(platform: Platform, tmp_path: Path, foreign: str):
    target = tmp_path / "target"
    target.mkdir()
    (target / foreign).write_text("name: somebody_elses", "utf-8")
    (target / "models").mkdir()
    (target / "models" / "theirs.sql").write_text("SELECT 1", "utf-8")
    with pytest.raises(UsageError, match="holds something else than a project written here"):
        write_dbt_project(platform, PROJECT, target)
    assert sorted(path.name for path in target.rglob("*")) == sorted([foreign, "models", "theirs.sql"])


def test_a_file_in_the_place_of_the_folder_is_refused(platform: Platform, tmp_path: Path):
    (tmp_path / "target").write_text("mine", "utf-8")
    with pytest.raises(UsageError, match="is a file; name a folder"):
        write_dbt_project(platform, PROJECT, tmp_path / "target")


@pytest.fixture(scope="module")
def dbt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """dbt in an environment of its own: it pins libraries that ours has newer. Skips where it cannot be installed; in continuous
    integration that is a failure."""
    folder = tmp_path_factory.mktemp("dbt") / "venv"
    quiet = ["--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]
    uv = Path(sys.executable).with_name("uv")
    if uv.exists():
        steps = [
            [uv, "venv", "--quiet", "--python", sys.executable, folder],
            [uv, "pip", "install", "--quiet", "--python", folder / "bin" / "python", *DBT],
        ]
    else:
        steps = [
            [sys.executable, "-m", "venv", folder],
            [folder / "bin" / "python", "-m", "pip", "install", *quiet, *DBT],
        ]
    for step in steps:
        done = subprocess.run([str(word) for word in step], capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            why = f"dbt cannot be installed here: {(done.stderr.strip().splitlines() or ['no word'])[-1]}"
            if os.environ.get("CI") == "true":
                pytest.fail(why)
            pytest.skip(why)
    return folder / "bin" / "dbt"


def comparable(columns: list[str], rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted((tuple(zip(columns, line, strict=True)) for line in rows), key=repr)


@pytest.mark.slow
def test_dbt_itself_builds_the_project_and_gives_the_same_rows(platform: Platform, tmp_path: Path, dbt: Path):
    target = tmp_path / "target"
    write_dbt_project(platform, PROJECT, target)
    statements = [f"SELECT * FROM mlcc_ci.{model.name}" for model in PROJECT.models]
    here = dict(zip(PROJECT.models, model_engine(platform).queries(statements), strict=True))
    done = subprocess.run(
        [dbt, "--no-use-colors", "build", "--profiles-dir", "."],
        cwd=target,
        env=os.environ | {"DBT_SEND_ANONYMOUS_USAGE_STATS": "false"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    tests = sum(len(model.tests) for model in PROJECT.models)
    assert f"PASS={len(PROJECT.models) + tests} " in done.stdout, "every model and every test was run"
    # its views name the sources by paths that begin in its folder
    there = target / "warehouse.duckdb"
    for model, table in here.items():
        if model.layer != "marts":
            continue
        with duckdb.connect(str(there), read_only=True) as connection:
            found = connection.execute(f"SELECT * FROM mlcc_ci.{model.name}")
            columns = [each[0] for each in found.description or ()]
            rows = found.fetchall()
        assert columns == table.column_names, model.name
        wanted = [tuple(line.values()) for line in table.to_pylist()]
        assert comparable(columns, rows) == comparable(columns, wanted), model.name
        assert rows, f"{model.name}: comparing nothing with nothing proves nothing"
