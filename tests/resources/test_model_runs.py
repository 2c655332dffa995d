"""What the models say: every model against rows worked out by hand, tests that fail on wrong data, files that are whole."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

# test folders are no packages: what these tests share is imported by its own name
sys.path.insert(0, str(Path(__file__).parent))

from ci_histories import Histories

from mlcc_dagster.core.configuration import Vector
from mlcc_dagster.core.records import COLUMN_NAMES
from mlcc_dagster.core.verdicts import Say, Word
from resources.model_runs import ModelRun, marts_folder, publish_table, run_models
from resources.model_sources import PlatformSources, arrow_table, engine_of, model_engine
from resources.platform import Platform
from resources.result_store import ResultStore
from resources.sql_engine import SqlError
from resources.sql_models import load_project, shipped_project
from resources.survey import Survey

PROJECT = shipped_project()
FOREST, LOGISTIC = "local-fastapi-forest-1cpu", "local-fastapi-logistic-1cpu"
A, B, C = "aaaa", "bbbb", "cccc"


def row(config_id: str, generation: int = 1, **values: Any) -> dict[str, Any]:
    """A completed row of a measured level; the day is the generation's."""
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


def measured(tps: float, ttft: float, usd: float | None, **more: Any) -> dict[str, Any]:
    return {"output_token_throughput_tps": tps, "ttft_p99_ms": ttft, "cost_per_1m_tokens": usd, **more}


FAILED = {"status": "failed", "failure_category": "timeout", "failure_stage": "deploy", "concurrency": 0}
BAD = {
    "status": "unfeasible",
    "failure_category": "oom",
    "failure_stage": "deploy",
    "failure_reason": "OOM",
    "concurrency": 0,
}
G6 = {"instance_type": "ml.g6.xlarge", "instance_family": "g6"}


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Platform:
    for name in ("MLCC_EXECUTOR", "MLCC_REGISTRY"):
        monkeypatch.delenv(name, raising=False)
    return Platform.open(tmp_path / "home")


def publish(platform: Platform, *rows: dict[str, Any]) -> None:
    runs: dict[str, list[dict[str, Any]]] = {}
    for each in rows:
        runs.setdefault(each["run_id"], []).append(each)
    for run_id, found in runs.items():
        platform.store.publish(run_id, found)


def ask(platform: Platform, columns: str, model: str, order: str = "1, 2") -> list[tuple[Any, ...]]:
    table = model_engine(platform).query(f"SELECT {columns} FROM mlcc_ci.{model} ORDER BY {order}")
    return [tuple(found.values()) for found in table.to_pylist()]


# ---- the results


def test_results_keep_their_rows_and_get_a_day(platform: Platform):
    publish(platform, row(A), row(A, concurrency=4), row(B, 2, **FAILED))
    assert ask(platform, "run_id, concurrency, tp_degree, CAST(run_date AS varchar)", "stg_results") == [
        ("aaaa-g1", 1, 1, "2026-06-01"),
        ("aaaa-g1", 4, 1, "2026-06-01"),
        ("bbbb-g2", 0, 1, "2026-06-02"),
    ]


def test_a_run_is_its_levels_brought_together(platform: Platform):
    publish(
        platform,
        row(A, **measured(100.0, 20.0, 3.0), request_throughput_rps=2.0),
        row(A, concurrency=8, **measured(400.0, 90.0, 1.0), request_throughput_rps=5.0),
        row(B, **FAILED),
    )
    columns = (
        "run_id, measured_levels, best_request_throughput_rps, best_output_token_throughput_tps, lowest_ttft_p99_ms, "
        "lowest_cost_per_1m_tokens, failure_category"
    )
    assert ask(platform, columns, "int_run_results") == [
        ("aaaa-g1", 2, 5.0, 400.0, 20.0, 1.0, None),
        ("bbbb-g1", 0, None, None, None, None, "timeout"),
    ]


def test_measured_levels_are_numbered_within_their_bucket_newest_first(platform: Platform):
    publish(
        platform,
        row(A),
        row(A, 2),
        row(A, 3, concurrency=2),
        row(A, 4, executor="local"),
        row(A, 5, workload="other"),
        row(A, 6, **FAILED),
        row(B, concurrency=None, workload=None),
    )
    assert ask(platform, "run_id, recency", "int_measured_levels") == [
        ("aaaa-g1", 2),
        ("aaaa-g2", 1),
        ("aaaa-g3", 1),
        ("aaaa-g4", 1),
        ("aaaa-g5", 1),
    ]


def test_a_metric_series_leaves_out_runs_that_did_not_measure_it(platform: Platform):
    publish(platform, row(A, ttft_p90_ms=5.0), row(A, 2), row(A, 3, ttft_p90_ms=7.0, itl_p90_ms=1.0))
    assert ask(platform, "metric, recency, run_id, value, higher_is_better", "int_metric_series") == [
        ("itl_p90_ms", 1, "aaaa-g3", 1.0, False),
        ("ttft_p90_ms", 1, "aaaa-g3", 7.0, False),
        ("ttft_p90_ms", 2, "aaaa-g1", 5.0, False),
    ]


def test_proven_by_family_counts_configurations_runs_and_rows_apart(platform: Platform):
    publish(platform, row(A), row(A, concurrency=2), row(A, 3), row(B, 2), row(C, 4, **G6), row("dddd", 9, **FAILED))
    columns = "model_family, instance_family, proven_configurations, proven_runs, proven_rows, first_proven_at, last_proven_at"
    assert ask(platform, columns, "proven_by_family") == [
        ("qwen3", "g5", 2, 3, 4, "2026-06-01T10:00:00.000000Z", "2026-06-03T10:00:00.000000Z"),
        ("qwen3", "g6", 1, 1, 1, "2026-06-04T10:00:00.000000Z", "2026-06-04T10:00:00.000000Z"),
    ]


def test_the_latest_result_is_the_newest_run_whatever_became_of_it(platform: Platform):
    publish(platform, row(A, **measured(10.0, 5.0, 2.0)), row(A, 2, **FAILED), row(B), row(B, concurrency=4))
    columns = "config_id, run_id, status, runs, measured_levels, failure_stage, best_output_token_throughput_tps"
    assert ask(platform, columns, "latest_result") == [
        ("aaaa", "aaaa-g2", "failed", 2, 0, "deploy", None),
        ("bbbb", "bbbb-g1", "completed", 1, 2, None, None),
    ]


def test_the_pareto_front_keeps_what_nothing_else_beats(platform: Platform):
    publish(
        platform,
        row(A, concurrency=1, **measured(100.0, 10.0, 5.0)),
        row(A, concurrency=2, **measured(200.0, 20.0, 3.0)),
        row(A, concurrency=4, **measured(150.0, 25.0, 4.0)),  # beaten by 2 in everything
        row(A, concurrency=8, **measured(200.0, 20.0, 3.5)),  # as fast as 2, but dearer
        row(B, concurrency=16, quantization="fp8", **measured(200.0, 20.0, 3.0)),  # equal to 2: neither beats the other
        row(C, concurrency=1, **G6, **measured(90.0, 30.0, 4.0)),  # alone on its hardware, beaten by 2 of the other
        row(C, concurrency=2, **G6, **measured(500.0, 15.0, None)),  # no price: no place
        row("eeee", concurrency=1, model_name="m2", **measured(1.0, 99.0, 9.0)),  # another model
        row("ffff", concurrency=1, workload="other", **measured(1.0, 99.0, 9.0)),  # another workload
    )
    assert ask(platform, "config_id, concurrency, best_on_any_hardware", "pareto_front") == [
        ("aaaa", 1, True),
        ("aaaa", 2, True),
        ("bbbb", 16, True),
        ("cccc", 1, False),
        ("eeee", 1, True),
        ("ffff", 1, True),
    ]


def test_only_the_newest_run_of_a_bucket_has_a_place_on_the_front(platform: Platform):
    publish(platform, row(A, **measured(900.0, 1.0, 0.1)), row(A, 2, **measured(100.0, 10.0, 5.0)))
    assert ask(platform, "run_id, ttft_p99_ms", "pareto_front") == [("aaaa-g2", 10.0)]


def test_a_configuration_without_a_model_name_is_compared_too(platform: Platform):
    publish(
        platform,
        row(A, model_name=None, concurrency=1, **measured(100.0, 10.0, 5.0)),
        row(A, model_name=None, concurrency=2, **measured(90.0, 11.0, 6.0)),
    )
    assert ask(platform, "model_name, concurrency", "pareto_front") == [("", 1)]


def test_a_baseline_compares_the_newest_run_with_those_before_it(platform: Platform):
    values = [10.0, 40.0, 20.0, 30.0, 60.0, 50.0, 44.0]
    publish(platform, *(row(A, n, ttft_p90_ms=value) for n, value in enumerate(values, start=1)))
    columns = "metric, run_id, value, earlier_runs, previous_value, best_value, median_value, change_pct"
    # the five before the newest are 40, 20, 30, 60, 50; the best of all six earlier ones is the lowest
    assert ask(platform, columns, "baseline") == [
        ("ttft_p90_ms", "aaaa-g7", 44.0, 6, 50.0, 10.0, 40.0, pytest.approx(10.0))
    ]


def test_a_baseline_of_an_even_number_of_runs_lies_between_the_middle_two(platform: Platform):
    publish(platform, *(row(A, n, output_token_throughput_tps=v) for n, v in enumerate([10.0, 20.0, 12.0], start=1)))
    columns = "metric, higher_is_better, earlier_runs, best_value, median_value, change_pct"
    assert ask(platform, columns, "baseline") == [
        ("output_token_throughput_tps", True, 2, 20.0, 15.0, pytest.approx(-20.0))
    ]


def test_the_first_run_has_no_baseline_and_no_change(platform: Platform):
    publish(platform, row(A, itl_p90_ms=2.0))
    columns = "metric, earlier_runs, previous_value, best_value, median_value, change_pct"
    assert ask(platform, columns, "baseline") == [("itl_p90_ms", 0, None, None, None, None)]


# ---- coverage, gaps, verdicts: one truth

PREDICTOR = {
    "model_name": "sklearn/random-forest-digits",
    "model_family": "random-forest",
    "instance_type": "local.1cpu",
    "instance_family": "local",
    "executor": "local",
}


def test_gap_candidates_are_the_startable_gaps_of_the_gap_list(platform: Platform):
    publish(platform, row(A, **PREDICTOR, deployment_config="http-fastapi"))
    publish(platform, row(B, **PREDICTOR, **BAD | {"deployment_config": "http-flask"}))
    survey = Survey.take(platform)
    ranked = list(enumerate(survey.gaps, start=1))
    wanted = [
        (n, *gap.vector.values(), gap.neighbours, gap.reason.value, gap.detail)
        for n, gap in ranked
        if gap.reason.startable
    ]
    columns = (
        "gap_rank, deployment_config, model_family, instance_family, quantization, tp_degree, deployment_target, neighbours, "
        "reason, detail"
    )
    assert ask(platform, columns, "gap_candidates", "1") == wanted
    assert 0 < len(wanted) == len(ranked) - 1, "the unfeasible one is a gap and no candidate"
    assert ask(platform, "gap_rank, startable", "stg_gaps", "1") == [(n, gap.reason.startable) for n, gap in ranked]


def test_the_coverage_summary_adds_up_to_the_coverage(platform: Platform):
    publish(platform, row(A, **PREDICTOR, deployment_config="http-fastapi"))
    publish(platform, row(B, **PREDICTOR, **BAD | {"deployment_config": "http-flask"}))
    coverage = Survey.take(platform).coverage
    ((*sums,),) = ask(
        platform,
        "sum(possible), sum(proven), sum(failed), sum(unfeasible), sum(untested), sum(stale)",
        "coverage_summary",
        "1",
    )
    counts = [len(getattr(coverage, n)) for n in ("possible", "proven", "failed", "unfeasible", "untested", "stale")]
    assert sums == counts
    cell = "deployment_config, model_family, possible, proven, unfeasible, proven_share"
    found = {(a, b): rest for a, b, *rest in ask(platform, cell, "coverage_summary")}
    assert found["http-fastapi", "random-forest"] == [1, 1, 0, 1.0]
    assert found["http-flask", "random-forest"] == [1, 0, 1, 0.0]
    assert found["http-flask", "logistic-regression"] == [1, 0, 0, 0.0]
    assert len(ask(platform, "status, stale", "stg_vectors")) == counts[0]


def test_unfeasible_names_the_newest_refuting_run_and_a_persons_word_has_none(platform: Platform):
    from datetime import UTC, datetime

    publish(platform, row(A, **BAD), row(A, 2, **BAD), row(B, **G6), row(C, 3, **G6, **BAD))
    marked = Vector("http-flask", "random-forest", "local", "none", "1", "realtime-inference")
    platform.words.say(Word(marked, Say.MARK, "flask is old", "ann", datetime(2026, 6, 9, tzinfo=UTC)))
    columns = "deployment_config, model_family, live, run_id, failure_category, since"
    assert ask(platform, columns, "unfeasible") == [
        ("http-flask", "random-forest", True, None, None, "2026-06-09T00:00:00.000000Z"),
        ("transformers-vllm", "qwen3", True, "aaaa-g2", "oom", "2026-06-02T10:00:00.000000Z"),
    ], "what was proven on g6 has no verdict"
    assert len(ask(platform, "live, why", "stg_verdicts")) == 2


# ---- the CI table


@pytest.fixture
def histories(platform: Platform) -> Histories:
    """A history written through the CI table of the platform, from 2026-05-28T20:26:40Z on."""
    return Histories(platform.home.database)


def test_the_test_history_has_every_attempt_that_ended(platform: Platform, histories: Histories):
    forest = histories.key(FOREST)
    histories.run(FOREST, ".F.", failure_category="timeout")
    histories.finish(histories.claim(FOREST), None)  # ended without a test
    histories.run(FOREST, "F")
    logistic = histories.key(LOGISTIC)
    histories.run(LOGISTIC, "F")
    histories.claim(LOGISTIC)  # runs: it has not ended
    columns = "generation, run_id, name, passed, failed_after_pass, recency, state"
    assert ask(platform, columns, "test_history", "name, generation") == [
        (1, f"{forest}-g1", FOREST, True, False, 4, "finished"),
        (2, f"{forest}-g2", FOREST, False, True, 3, "finished"),
        (3, f"{forest}-g3", FOREST, True, False, 2, "finished"),
        (4, f"{forest}-g4", FOREST, None, None, None, "finished"),
        (5, f"{forest}-g5", FOREST, False, True, 1, "finished"),
        (1, f"{logistic}-g1", LOGISTIC, False, None, 1, "finished"),
    ]
    assert len(ask(platform, "run_id, state", "stg_attempts")) == 7
    assert ask(platform, "count(*)", "int_ended_attempts", "1") == [(6,)]


def test_flakiness_is_the_judgement_of_the_ci_report(platform: Platform, histories: Histories):
    histories.run(FOREST, ".F.F.F.")
    histories.register(LOGISTIC)
    columns = "name, course, known_flaky, passes, runs, flips, flip_rate, recoveries, failing_streak, chance"
    assert ask(platform, columns, "flakiness") == [
        (FOREST, "passes", True, 4, 7, 6, 1.0, 3, 0, None),
        (LOGISTIC, "untested", False, 0, 0, 0, None, 0, 0, None),
    ]
    assert (
        len(ask(platform, "config_id, name", "stg_records"))
        == len(ask(platform, "config_id, course", "stg_stability"))
        == 2
    )


def test_cost_by_day_counts_what_ended_that_day_whatever_became_of_it(platform: Platform, histories: Histories):
    histories.run(FOREST, ".F", cost_usd=0.5)
    assert histories.table.interrupt(histories.claim(LOGISTIC).run_id, "killed")
    histories.now += 86_400
    histories.run(LOGISTIC, "F", cost_usd=2.0)
    days = "CAST(day AS varchar), run_type, runs, completed, failed, unfeasible, interrupted, without_cost"
    assert ask(platform, f"{days}, cost_usd, usd_per_completed", "cost_by_day") == [
        ("2026-05-28", "ci", 3, 1, 1, 0, 1, 1, 1.0, 1.0),
        ("2026-05-29", "ci", 1, 0, 1, 0, 0, 0, 2.0, None),
    ], "a day without a completed attempt has no price of one"


# ---- every model at once


def run_all(platform: Platform) -> dict[str, ModelRun]:
    return {run.model.name: run for run in run_models(platform, PROJECT)}


KINDS = {
    "string": "varchar",
    "int32": "integer",
    "int64": "bigint",
    "double": "double",
    "bool": "boolean",
    "date32[day]": "date",
}


def test_the_yaml_lists_the_columns_and_types_that_each_model_returns(platform: Platform, histories: Histories):
    publish(platform, row(A, **measured(10.0, 5.0, 2.0)), row(B, **BAD))
    histories.run(FOREST, ".F")
    runs = run_all(platform)
    assert set(runs) == {model.name for model in PROJECT.models}
    for run in runs.values():
        returned = [(field.name, KINDS[str(field.type)]) for field in run.preview.schema]
        assert returned == [(column.name, column.data_type) for column in run.model.columns], run.model.name


def test_every_test_of_every_model_passes_on_sound_data_and_on_none(platform: Platform, histories: Histories):
    def failing() -> list[tuple[str, str]]:
        return [(name, t.test.name) for name, run in run_all(platform).items() for t in run.tests if not t.passed]

    assert failing() == []
    publish(platform, row(A, **measured(10.0, 5.0, 2.0)), row(A, concurrency=2), row(B, **BAD), row(C, **FAILED))
    histories.run(FOREST, ".F.")
    assert failing() == []


def test_marts_are_files_with_all_their_rows_in_the_order_of_their_grain(platform: Platform):
    publish(platform, *(row(f"c{n:03}") for n in range(30)))
    run = run_all(platform)["latest_result"]
    assert (run.row_count, run.preview.num_rows) == (30, 20)
    assert run.file == marts_folder(platform) / "latest_result.parquet"
    found = pq.read_table(run.file)
    assert found.column("config_id").to_pylist() == [f"c{n:03}" for n in range(30)]
    written = {path.name for path in marts_folder(platform).iterdir()}
    assert written == {f"{model.name}.parquet" for model in PROJECT.models if model.layer == "marts"}


def test_a_subset_of_models_writes_its_files_alone(platform: Platform):
    (run,) = run_models(platform, PROJECT, ["proven_by_family"])
    assert run.file is not None
    assert [path.name for path in marts_folder(platform).iterdir()] == ["proven_by_family.parquet"]


def test_a_mart_that_cannot_be_written_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "marts" / "m.parquet"
    publish_table(path, pa.table({"a": [1]}))

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(pq, "write_table", refuse)
    with pytest.raises(OSError, match="no space"):
        publish_table(path, pa.table({"a": [2]}))
    monkeypatch.undo()
    assert pq.read_table(path).to_pylist() == [{"a": 1}]
    assert list(path.parent.iterdir()) == [path], "nothing hidden is left"


def test_sql_answers_from_the_results_of_now_and_not_from_the_files(platform: Platform):
    run_all(platform)
    publish(platform, row(A))
    assert ask(platform, "config_id, status", "latest_result") == [("aaaa", "completed")]
    assert pq.read_table(marts_folder(platform) / "latest_result.parquet").num_rows == 0


def test_all_models_of_a_run_are_of_one_moment(platform: Platform, monkeypatch: pytest.MonkeyPatch):
    """A result that is published while models run is in none of them or in all."""
    taken: list[str] = []
    snapshot = ResultStore.snapshot

    def counted(store: ResultStore) -> Any:
        found = snapshot(store)
        taken.append(found.version)
        publish(platform, row(f"d{len(taken)}", **PREDICTOR, deployment_config="http-flask"))
        return found

    publish(platform, row(A, **PREDICTOR, deployment_config="http-fastapi"))
    monkeypatch.setattr(ResultStore, "snapshot", counted)
    runs = {run.model.name: run for run in run_models(platform, PROJECT, ["latest_result", "coverage_summary"])}
    proven = sum(line["proven"] for line in pq.read_table(runs["coverage_summary"].file).to_pylist())
    assert runs["latest_result"].row_count == proven == 1


def test_a_damaged_file_is_left_out_of_every_model(platform: Platform):
    publish(platform, row(A), row(B))
    path = next(path for path in platform.store.snapshot().files if "bbbb" in path.name)
    start = pq.ParquetFile(path).metadata.row_group(0).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    for offset in range(start, start + 300):
        content[offset] ^= 0xFF
    path.write_bytes(bytes(content))
    assert ask(platform, "config_id, status", "latest_result") == [("aaaa", "completed")]


@pytest.mark.parametrize(
    ("sql", "sentence"),
    [
        ("SELECT nam FROM mlcc_ci.flakiness", "unknown column nam (line 1, column 8"),
        ("SELECT nam FROM mlcc_ci.flakiness", "nearest are name"),
        ("SELECT 1 FROM mlcc_ci.flakines", "nearest are mlcc_ci.flakiness"),
        ("SELECT 1 FROM rows_of_gap_list", "unknown table rows_of_gap_list"),
        ("SELECT 1 FROM other.flakiness", "unknown table other.flakiness"),
        ("SELECT 1 FROM mlcc_ci.flakiness, read_csv('/etc/passwd')", "reads the tables of mlcc_ci and nothing else"),
    ],
)
def test_a_question_about_models_is_held_to_the_same_rules(platform: Platform, sql: str, sentence: str):
    with pytest.raises(SqlError) as caught:
        model_engine(platform).query(sql)
    assert sentence in str(caught.value)


def test_models_divide_as_athena_does(platform: Platform):
    publish(platform, row(A), row(B))
    assert ask(platform, "proven_rows / 3, proven_rows / 2e0", "proven_by_family", "1") == [(0, 1.0)]


def test_a_source_row_without_a_declared_column_is_refused():
    with pytest.raises(KeyError):
        arrow_table(PROJECT.sources["gap_list"], [{"gap_rank": 1}])


# ---- tests that must fail

SOURCES = """
sources:
  - name: mlcc_ci
    tables: [{name: benchmark_results, description: Results}]
"""
LISTED = """
models:
  - name: stg_runs
    description: One row per run.
    meta: {grain: [run_id]}
    columns:
      - {name: run_id, data_type: varchar, description: Run, data_tests: [not_null, unique]}
      - name: config_id
        data_type: varchar
        description: Configuration
        data_tests:
          - relationships: {to: ref('stg_known'), field: config_id}
      - name: status
        data_type: varchar
        description: Status
        data_tests:
          - accepted_values: {values: [completed, "it's"]}
"""
KNOWN = """
models:
  - name: stg_known
    description: One row per known configuration.
    meta: {grain: [config_id]}
    columns:
      - {name: config_id, data_type: varchar, description: Configuration}
"""


@pytest.mark.parametrize(
    ("values", "broken", "first"),
    [
        pytest.param("('r1', 'known', 'completed'), ('r2', NULL, NULL)", {}, {}, id="sound: NULL is no value"),
        pytest.param(
            "('r1', 'known', 'it''s'), (NULL, 'known', 'completed')",
            {"not_null_run_id": 1},
            {"run_id": None},
            id="not_null",
        ),
        pytest.param(
            "('r1', 'known', 'completed'), ('r1', 'known', 'completed'), ('r1', 'known', NULL)",
            {"unique_run_id": 1, "one_row_per_grain": 1},
            {"run_id": "r1", "rows_found": 3},
            id="unique, and the grain",
        ),
        pytest.param(
            "(NULL, 'known', NULL), (NULL, 'known', NULL)",
            {"not_null_run_id": 2, "one_row_per_grain": 1},
            {"run_id": None, "rows_found": 2},
            id="the grain counts NULL as a value",
        ),
        pytest.param(
            "('r1', 'known', 'done'), ('r2', 'known', 'done'), ('r3', 'known', 'lost')",
            {"accepted_values_status": 2},
            {"status": "done", "rows_found": 2},
            id="accepted_values: two other values",
        ),
        pytest.param(
            "('r1', 'stranger', 'completed')",
            {"relationships_config_id": 1},
            {"config_id": "stranger", "rows_found": 1},
            id="relationships",
        ),
    ],
)
def test_a_test_fails_on_data_that_breaks_its_claim(
    platform: Platform, tmp_path: Path, values: str, broken: dict[str, int], first: dict[str, Any]
):
    folder = tmp_path / "project"
    (folder / "staging").mkdir(parents=True)
    (folder / "sources.yml").write_text(SOURCES, "utf-8")
    (folder / "staging" / "stg_runs.yml").write_text(LISTED, "utf-8")
    (folder / "staging" / "stg_runs.sql").write_text(
        f"SELECT run_id, config_id, status FROM (VALUES {values}) AS t(run_id, config_id, status)", "utf-8"
    )
    (folder / "staging" / "stg_known.yml").write_text(KNOWN, "utf-8")
    (folder / "staging" / "stg_known.sql").write_text("SELECT 'known' AS config_id", "utf-8")
    project = load_project(folder)
    run = next(run for run in run_models(platform, project) if run.model.name == "stg_runs")
    assert {each.test.name: each.failures for each in run.tests if not each.passed} == broken
    if broken:
        shown = [dict(row) for each in run.tests if not each.passed for row in each.first]
        assert any(first.items() <= row.items() for row in shown)


def test_sources_that_rest_on_one_survey_take_it_once(platform: Platform, monkeypatch: pytest.MonkeyPatch):
    taken: list[int] = []
    take: Callable[..., Survey] = Survey.take
    monkeypatch.setattr(Survey, "take", lambda *given, **named: taken.append(1) or take(*given, **named))
    engine = engine_of(platform, PROJECT)
    engine.queries(["SELECT * FROM mlcc_ci.gap_list", "SELECT * FROM possible_vectors", "SELECT * FROM unfeasible"])
    assert len(taken) == 1
    assert PlatformSources(platform).survey(platform.store.snapshot()) is not None
