"""Result rows: the columns, one raw record, the rows of a run, and where their file lies."""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.evidence import Evidence
from mlcc_dagster.core.exceptions import InvalidInput, MlccError
from mlcc_dagster.core.failures import known
from mlcc_dagster.core.outcome import BenchmarkPlan, Claim, Outcome, Owner, StageResult, StageStatus
from mlcc_dagster.core.records import (
    COLUMN_NAMES,
    COLUMNS,
    SCHEMA_VERSION,
    partition_path,
    result_rows,
    row_problems,
    utc_text,
)
from mlcc_dagster.core.request_records import RequestRecord, parse_record
from mlcc_dagster.core.stages import Stage

ROOT = Path(__file__).parents[2]
NOW = "2026-06-09T14:30:22.000000Z"


@dataclass(frozen=True)
class FakeInstance:
    gpu_count: int = 1
    gpu_type: str | None = "NVIDIA A10G"
    gpu_memory_gb: float | None = 24.0


@dataclass(frozen=True)
class FakeWorkload:
    name: str = "multi_turn_chat"
    streaming: bool = True


CONFIGURATION = Configuration(
    deployment_config="transformers-vllm",
    model_name="Qwen/Qwen3-4B",
    model_family="qwen3",
    instance_type="ml.g5.xlarge",
    region="us-west-2",
    quantization="fp8",
    max_model_len=4096,
)


def stage(which: Stage, status: StageStatus = StageStatus.PASS, **values) -> StageResult:
    return StageResult(which, status, started_at=NOW, seconds=1.25, **values)


def outcome(*results: StageResult, configuration: Configuration = CONFIGURATION, enabled: bool = True) -> Outcome:
    owner = Owner("host", 1, 2, "boot", "dagster-run")
    return Outcome(
        claim=Claim("9586bf351b64c95f", 3, owner, "round", NOW),
        configuration=configuration,
        run_type="ci",
        stages=frozenset(Stage),
        benchmark=BenchmarkPlan(enabled, "multi_turn_chat", (4,)),
        results=results,
    )


PASSED = (
    stage(Stage.GENERATE, outputs={"project_name": "p1", "base_image": "vllm/vllm-openai:v0.25.1"}),
    stage(Stage.TUNE, StageStatus.SKIP),
    stage(Stage.TEST),
)


def line(start: int, end: int, latency: float, ttft: float, itl: float, tokens: int, inputs: int) -> str:
    return json.dumps(
        {
            "metadata": {"request_start_ns": start, "request_end_ns": end},
            "metrics": {
                "request_latency": {"value": latency, "unit": "ms"},
                "time_to_first_token": {"value": ttft},
                "inter_token_latency": {"value": itl},
                "output_token_count": {"value": tokens},
                "input_sequence_length": {"value": inputs},
            },
        }
    )


GOLDEN_LINES = (
    line(1_000_000_000, 1_500_000_000, 500, 50, 9.5, 50, 100),
    line(1_200_000_000, 1_900_000_000, 700, 70, 10.5, 60, 110),
    line(1_300_000_000, 2_600_000_000, 1300, 90, 11.5, 70, 90),
)

# An existing writer's row for these records, less what it gives as 0.0 or empty text for absent.
GOLDEN_ROW = {
    "project_name": "p1",
    "model_name": "Qwen/Qwen3-4B",
    "model_family": "qwen3",
    "instance_type": "ml.g5.xlarge",
    "deployment_config": "transformers-vllm",
    "deployment_target": "realtime-inference",
    "quantization": "fp8",
    "tensor_parallel_degree": 1,
    "instance_family": "g5",
    "gpu_count": 1,
    "gpu_type": "NVIDIA A10G",
    "gpu_memory_gb": 24,
    "max_model_len": 4096,
    "enable_lora": False,
    "workload": "multi_turn_chat",
    "concurrency": 4,
    "input_tokens_mean": 100,
    "output_tokens_mean": 60,
    "streaming": True,
    "duration_seconds": 1,
    "request_throughput_rps": 1.875,
    "total_token_throughput_tps": 300.0,
    "output_token_throughput_tps": 112.5,
    "request_count": 3,
    "ttft_avg_ms": 70.0,
    "ttft_p50_ms": 70,
    "ttft_p90_ms": 86.0,
    "ttft_p99_ms": 89.60000000000001,
    "itl_avg_ms": 10.5,
    "itl_p50_ms": 10.5,
    "itl_p90_ms": 11.3,
    "itl_p99_ms": 11.48,
    "e2e_latency_avg_ms": 833.3333333333334,
    "e2e_latency_p50_ms": 700,
    "e2e_latency_p90_ms": 1180.0,
    "e2e_latency_p99_ms": 1288.0,
    "output_sequence_length_avg": 60.0,
    "input_sequence_length_avg": 100.0,
    "error_rate": 0.0,
    "cost_per_1m_tokens": 3.4765,
    "benchmark_duration_sec": 1.6,
    "run_type": "ci",
    "run_timestamp": NOW,
    "region": "us-west-2",
    "gpu_utilization_avg": 71.5,
    "metrics_source": "cloudwatch",
}


def rows_of(given: Outcome, measurements=None, **overrides):
    arguments = {
        "measurements": measurements or {},
        "executor": "local",
        "evidence": Evidence("vllm 0.25.1", "container", {"image": "sha256:1"}),
        "instance": FakeInstance(),
        "workload": FakeWorkload(),
        "run_timestamp": NOW,
        "raw_uri": "raw/x",
        "cost_usd": 0.5,
        "usd_per_hour": 1.408,
    }
    return result_rows(given, **(arguments | overrides))


def measured() -> Outcome:
    return outcome(*PASSED, stage(Stage.BENCHMARK))


def golden_records() -> list[RequestRecord]:
    return [parse_record(text) for text in GOLDEN_LINES]


# ---- the columns


def test_the_columns_are_those_of_existing_installations_and_then_ours():
    assert len(COLUMN_NAMES) == 67 + 16 == len(set(COLUMN_NAMES))
    assert COLUMN_NAMES[0] == "project_name"
    assert COLUMN_NAMES[66] == "metrics_source"
    assert COLUMN_NAMES[67:70] == ("run_id", "config_id", "status")
    assert COLUMN_NAMES[-1] == "schema_version"


@pytest.mark.shared
def test_the_first_67_columns_match_the_published_list_by_name_order_and_type():
    published = ROOT.parent / "shared" / "data" / "benchmark_results_columns.csv"
    if not published.exists():
        pytest.skip(f"no published column list at {published}")
    lines = [text.split(",")[:3] for text in published.read_text("utf-8").splitlines()[1:]]
    expected = [(name, kind) for position, name, kind in lines if position.isdigit()]
    assert [(column.name, column.type) for column in COLUMNS[:67]] == expected


def test_the_documented_columns_are_the_columns():
    text = (ROOT / "docs" / "table.md").read_text("utf-8")
    documented = re.findall(r"^\| \d+ \| `(\w+)` \| (\w+) \| (.*?) \| (.*?) \| (.*?) \|$", text, re.MULTILINE)
    assert documented == [(c.name, c.type, c.unit or "", c.description, c.source) for c in COLUMNS]
    assert f"The schema version is {SCHEMA_VERSION} " in text


def test_names_that_end_in_a_unit_have_that_unit():
    suffixes = {"_ms": "ms", "_usd": "USD", "_gb": "GB", "_rps": "requests/s", "_tps": "tokens/s"}
    wrong = [
        column.name
        for column in COLUMNS
        for suffix, unit in suffixes.items()
        if column.name.endswith(suffix) and column.unit != unit
    ]
    assert wrong == []


# ---- one raw record


def test_a_record_of_an_export_is_read():
    record = parse_record(GOLDEN_LINES[0])
    assert (record.start_ns, record.end_ns, record.error, record.cancelled) == (
        1_000_000_000,
        1_500_000_000,
        None,
        False,
    )
    assert record.metrics == {
        "request_latency": 500.0,
        "time_to_first_token": 50.0,
        "inter_token_latency": 9.5,
        "output_token_count": 50.0,
        "input_sequence_length": 100.0,
    }


@pytest.mark.parametrize(
    ("entry", "expected", "reason"),
    [
        ({"value": 2, "unit": "sec"}, 2000.0, "seconds become milliseconds"),
        ({"value": 3_000_000, "unit": "ns"}, 3.0, "nanoseconds become milliseconds"),
        ({"value": 7, "unit": "tokens"}, 7.0, "counts stay"),
        (8, 8.0, "a bare number is taken as it stands"),
        ({"value": None, "unit": "ms"}, None, "null is absent"),
        (None, None, "null is absent"),
        ({"value": [1.0, 2.0], "unit": "ms"}, None, "one value per chunk is no scalar"),
    ],
)
def test_metrics_of_any_name_are_kept_in_our_units(entry, expected, reason: str):
    document = json.loads(GOLDEN_LINES[0]) | {"metrics": {"something_new": entry}}
    assert parse_record(document).metrics.get("something_new") == expected, reason


@pytest.mark.parametrize(
    ("extra", "error", "cancelled", "phase"),
    [
        ({"error": {"code": 503, "type": "HTTPError", "message": "busy"}}, "busy", False, "profiling"),
        ({"error": {"code": 500}}, "500", False, "profiling"),
        ({"error": None}, None, False, "profiling"),
        ({"metadata": {"was_cancelled": True}}, None, True, "profiling"),
        ({"metadata": {"benchmark_phase": "warmup"}}, None, False, "warmup"),
    ],
)
def test_errors_cancellations_and_phases_are_read(extra, error, cancelled, phase):
    document = json.loads(GOLDEN_LINES[0])
    document = document | extra | {"metadata": document["metadata"] | extra.get("metadata", {})}
    record = parse_record(document)
    assert (record.error, record.cancelled, record.phase) == (error, cancelled, phase)


@pytest.mark.parametrize(
    ("source", "problems", "reason"),
    [
        ("{nope", ["not readable as JSON"], "broken JSON"),
        ("[1]", ["must be a JSON object"], "no object"),
        ({}, ["metadata: must be an object"], "no metadata"),
        (
            {"metadata": {"request_start_ns": 1.5}, "metrics": {"a": {"value": "x"}, "b": {"value": float("nan")}}},
            ["request_start_ns", "request_end_ns", "metrics.a", "metrics.b"],
            "all mistakes at once",
        ),
        ({"metadata": {"request_start_ns": True, "request_end_ns": 2}}, ["request_start_ns"], "a boolean is no time"),
        ({"metadata": {"request_start_ns": 9, "request_end_ns": 2}}, ["lies before"], "it ends before it starts"),
        ({"metadata": {"request_start_ns": 1, "request_end_ns": 2}, "metrics": 3}, ["metrics: must be"], "no object"),
    ],
)
def test_a_bad_record_is_refused_with_every_mistake(source, problems: list[str], reason: str):
    with pytest.raises(InvalidInput) as caught:
        parse_record(source)
    assert len(caught.value.problems) == len(problems), reason
    for fragment, problem in zip(problems, caught.value.problems, strict=True):
        assert fragment in problem


# ---- the rows of a run


def test_a_measured_run_gives_the_row_an_existing_writer_gives():
    (row,) = rows_of(
        measured(),
        {4: golden_records()},
        observed={"gpu_utilization_avg": 71.5},
        metrics_source="cloudwatch",
    )
    assert tuple(row) == COLUMN_NAMES
    theirs = {name: row[name] for name in COLUMN_NAMES[:67] if row[name] is not None}
    assert json.loads(theirs.pop("serving_config")) == {
        "quantization": "fp8",
        "tensor_parallel_degree": 1,
        "enable_lora": False,
        "base_image": "vllm/vllm-openai:v0.25.1",
        "kv_cache_dtype": "auto",
        "max_model_len": 4096,
    }
    assert theirs == GOLDEN_ROW
    assert row_problems(row) == []


def test_our_columns_say_what_the_run_was():
    (row,) = rows_of(measured(), {4: golden_records()})
    assert {name: row[name] for name in COLUMN_NAMES[67:]} == {
        "run_id": "9586bf351b64c95f-g3",
        "config_id": "9586bf351b64c95f",
        "status": "completed",
        "failure_reason": None,
        "failure_stage": None,
        "failure_category": None,
        "failure_retryable": None,
        "executor": "local",
        "engine": "vllm 0.25.1",
        "execution": "container",
        "dagster_run_id": "dagster-run",
        "cost_usd": 0.5,
        "stage_seconds": '{"generate": 1.25, "test": 1.25, "benchmark": 1.25}',
        "evidence": '{"image": "sha256:1"}',
        "raw_uri": "raw/x",
        "schema_version": SCHEMA_VERSION,
    }


def test_a_run_has_one_row_per_level_in_the_order_of_levels():
    rows = rows_of(measured(), {8: golden_records(), 1: golden_records()})
    assert [row["concurrency"] for row in rows] == [1, 8]
    assert rows[0] | {"concurrency": 8} == rows[1]


def test_a_passed_gate_without_benchmark_has_one_row_without_metrics():
    (row,) = rows_of(outcome(*PASSED, enabled=False))
    assert row["status"] == "completed"
    empty = ("workload", "concurrency", "streaming", "request_count", "ttft_p50_ms", "error_rate", "cost_per_1m_tokens")
    assert {name: row[name] for name in empty} == dict.fromkeys(empty)
    assert row_problems(row) == []


@pytest.mark.parametrize(
    ("result", "expected", "reason"),
    [
        (
            stage(Stage.DEPLOY, StageStatus.FAIL, failure=known("deploy", "oom", "CUDA out of memory")),
            ("unfeasible", "deploy", "oom", False, "CUDA out of memory"),
            "known bad",
        ),
        (
            stage(Stage.DEPLOY, StageStatus.FAIL, error="a\nlast words\n", failure=known("deploy", "timeout", None)),
            ("failed", "deploy", "timeout", True, "last words"),
            "worth another try; no deciding line, so what it said last",
        ),
        (
            stage(Stage.TEST, StageStatus.FAIL),
            ("failed", "test", "unknown", True, "test failed silently"),
            "nothing known is never unfeasible",
        ),
    ],
)
def test_a_failed_run_has_one_row_with_the_planned_workload(result, expected, reason: str):
    (row,) = rows_of(outcome(stage(Stage.GENERATE), result))
    found = tuple(
        row[f"failure_{n}" if n != "status" else n] for n in ("status", "stage", "category", "retryable", "reason")
    )
    assert found == expected, reason
    assert (row["concurrency"], row["workload"], row["request_count"]) == (0, "multi_turn_chat", None)
    assert row_problems(row) == []


def test_a_failed_benchmark_after_a_passed_gate_is_a_failed_row_whatever_was_measured():
    failed = stage(Stage.BENCHMARK, StageStatus.FAIL, failure=known("benchmark", "oom", "killed"))
    (row,) = rows_of(outcome(*PASSED, failed), {1: golden_records()})
    assert (row["status"], row["failure_stage"], row["concurrency"]) == ("failed", "benchmark", 0)


def test_a_run_that_neither_tested_nor_failed_has_no_row():
    assert rows_of(outcome(stage(Stage.GENERATE))) == []


def test_a_passed_benchmark_without_records_is_an_error():
    with pytest.raises(MlccError, match="brought no request records"):
        rows_of(measured())


def test_an_observed_metric_must_be_a_column():
    with pytest.raises(ValueError, match="no observed column named gpu_temperature"):
        rows_of(measured(), {4: golden_records()}, observed={"gpu_temperature": 80.0})


def test_a_predictor_has_no_model_and_no_cache():
    predictor = Configuration("http-flask", None, "random-forest", "local.1cpu", "local")
    (row,) = rows_of(outcome(*PASSED, configuration=predictor), instance=FakeInstance(0, "", None))
    assert (row["model_name"], row["gpu_count"], row["gpu_type"], row["gpu_memory_gb"]) == (None, 0, None, None)
    assert "kv_cache_dtype" not in json.loads(row["serving_config"])


def test_serving_parameters_reach_the_row():
    tuned = Configuration(
        "transformers-vllm",
        "s3://bucket/models/Qwen3-4B/",
        "qwen3",
        "ml.g5.xlarge",
        "us-west-2",
        serving_params={"kv_cache_dtype": "fp8", "max_num_seqs": "8"},
    )
    (row,) = rows_of(outcome(*PASSED, configuration=tuned))
    assert row["kv_cache_dtype"] == "fp8"
    assert {"kv_cache_dtype": "fp8", "max_num_seqs": "8"}.items() <= json.loads(row["serving_config"]).items()
    assert row["model_name"] == "Qwen3-4B"


# ---- validation


@pytest.mark.parametrize(
    ("change", "fragment", "reason"),
    [
        ({"status": "done"}, "status: must be one of", "vocabulary"),
        ({"run_type": "nightly"}, "run_type: must be one of", "vocabulary"),
        ({"run_timestamp": "2026-06-09T14:30:22+00:00"}, "run_timestamp: must look like", "one form of time"),
        ({"concurrency": 4.0}, "concurrency: must be a whole number", "a float is no int32"),
        ({"concurrency": 2**31}, "concurrency: must be a whole number", "32 bits"),
        ({"gpu_count": True}, "gpu_count: must be a whole number", "a boolean is no number"),
        ({"ttft_p50_ms": float("nan")}, "ttft_p50_ms: must be a finite number", "absent is none, not NaN"),
        ({"enable_lora": "false"}, "enable_lora: must be true or false", "a text is no boolean"),
        ({"config_id": None}, "config_id: must not be none", "identity"),
        ({"extra": 1}, "extra: unknown column", "nothing is dropped silently"),
    ],
)
def test_a_row_that_does_not_fit_is_described(change, fragment: str, reason: str):
    (row,) = rows_of(measured(), {4: golden_records()})
    (problem,) = row_problems(row | change)
    assert problem.startswith(fragment), reason


def test_a_missing_column_is_not_an_absent_value():
    (row,) = rows_of(measured(), {4: golden_records()})
    del row["region"]
    assert row_problems(row) == ["region: column is missing; absent values are written as none"]


# ---- time and place


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (datetime(2026, 6, 9, 14, 30, 22, tzinfo=UTC), "2026-06-09T14:30:22.000000Z"),
        (datetime(2026, 6, 9, 14, 30, 22, 7, tzinfo=timezone(timedelta(hours=2))), "2026-06-09T12:30:22.000007Z"),
    ],
)
def test_a_time_has_one_text(moment: datetime, expected: str):
    assert utc_text(moment) == expected
    assert datetime.fromisoformat(expected) == moment


def test_a_time_without_zone_has_no_text():
    with pytest.raises(ValueError, match="without zone"):
        utc_text(datetime(2026, 6, 9))


def test_the_partition_path_is_that_of_existing_installations():
    (row,) = rows_of(measured(), {4: golden_records()})
    assert str(partition_path(row, "p1-20260609T143022Z")) == (
        "results/model=Qwen_Qwen3-4B/instance=ml.g5.xlarge/target=realtime-inference/run-p1-20260609T143022Z.parquet"
    )


def test_an_absent_model_takes_the_hive_name_of_null():
    assert partition_path({"instance_type": "local.1cpu", "deployment_target": "x"}, "r").parts[1] == (
        "model=__HIVE_DEFAULT_PARTITION__"
    )


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("model_name", "..", "leaves its folder"),
        ("model_name", ".hidden", "hidden names are not read"),
        ("model_name", "a=b", "would split the key"),
        ("model_name", "a%2Fb", "readers decode percent"),
        ("model_name", "a\nb", "control character"),
        ("model_name", "x" * 300, "longer than a name may be"),
        ("instance_type", "ml.g5/../x", "separator"),
        ("deployment_target", "a\0b", "NUL"),
        ("run_id", "../x", "leaves its folder"),
        ("run_id", "", "empty"),
        ("run_id", "a/b", "separator"),
        ("run_id", ".x", "hidden"),
    ],
)
def test_a_part_that_could_leave_its_folder_is_refused(field: str, value: str, reason: str):
    row = {"model_name": "m", "instance_type": "i", "deployment_target": "t", "run_id": "r"} | {field: value}
    with pytest.raises(InvalidInput, match="cannot name a"):
        partition_path(row, row["run_id"])
