"""What was measured becomes rows: identity, families, evidence, and what must be said by a person."""

import json
from typing import Any

import pytest
from tool_files import (
    SAID,
    WORDS,
    aiperf_records,
    athena_row,
    guidellm_report,
    inferencex_result,
    llmperf_responses,
    llmperf_summary,
    vllm_result,
)

from catalog.loader import load_catalog
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.exceptions import InvalidInput
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.imports.completion import NEEDED, ImportedRun, imported_runs
from mlcc_dagster.core.imports.formats import paired, read_document
from mlcc_dagster.core.imports.measured import Document
from mlcc_dagster.core.imports.settings import read_settings
from mlcc_dagster.core.metrics import metric_columns
from mlcc_dagster.core.records import row_problems
from mlcc_dagster.core.resolution import configuration_of
from mlcc_dagster.core.standing import IMPORTED, Standing

CATALOG = load_catalog()


def runs(*documents: Any, kind: Any = "json", words: Any = WORDS) -> tuple[tuple[ImportedRun, ...], tuple[str, ...]]:
    measured = [each for d in documents for each in read_document(Document(kind, d), source="f")[1]]
    together, problems = paired(measured)
    assert problems == ()
    return imported_runs(together, settings=read_settings(words), catalog=CATALOG)


def row(*documents: Any, **more: Any) -> dict[str, Any]:
    (run,), problems = runs(*documents, **more)
    assert problems == ()
    (made,) = run.rows
    return made


def test_an_imported_row_is_a_whole_row_of_the_table():
    made = row(inferencex_result())
    assert row_problems(made) == []
    assert (made["run_type"], made["status"], made["executor"]) == ("manual", "completed", None)
    assert made["model_family"] == CATALOG.family_of("zai-org/GLM-5-FP8")
    assert (made["instance_family"], made["gpu_count"], made["gpu_type"]) == ("p5", 8, "NVIDIA H100")


def test_the_configuration_id_is_that_of_the_configuration():
    made = row(inferencex_result())
    expected = Configuration(
        deployment_config="transformers-vllm",
        model_name="zai-org/GLM-5-FP8",
        model_family="other",
        instance_type="ml.p5.48xlarge",
        region=CATALOG.path_region,
        quantization="fp8",
        tp_degree=8,
    )
    assert made["config_id"] == config_id(expected)


def test_a_row_of_a_catalog_entry_has_the_entrys_id_though_it_does_not_say_what_the_entry_declares():
    entry = next(e for e in CATALOG.entries if e.model_name == "Qwen/Qwen3-4B" and e.instance_type == "ml.g5.xlarge")
    silent = {name: value for name, value in athena_row(quantization="none").items() if name != "enable_lora"}
    assert row([silent], kind="table", words=())["config_id"] == config_id(configuration_of(entry, CATALOG))


def test_the_evidence_class_of_an_imported_proof_is_imported():
    (found,) = Standing.of([row(inferencex_result())]).evidence.values()
    assert found.executors == {IMPORTED}


def test_the_run_id_is_that_of_the_content_and_of_what_a_person_said():
    first = row(inferencex_result())["run_id"]
    assert row(dict(reversed(inferencex_result().items())))["run_id"] == first
    assert row(inferencex_result(duration=201.0))["run_id"] != first
    assert row(inferencex_result(), words=[*WORDS[:2], "quantization=int8", WORDS[3]])["run_id"] != first


def test_a_level_that_is_given_twice_counts_once():
    (run,), problems = runs(inferencex_result(), inferencex_result())
    assert (len(run.levels), problems) == (1, ())


def test_everything_that_is_missing_is_named_at_once_and_once_for_all_files():
    made, problems = runs(inferencex_result(), inferencex_result(max_concurrency=4), words=())
    assert made == ()
    (problem,) = problems
    assert problem.startswith("f and 1 more: do not say instance_type, deployment_config, quantization")
    assert all(f"--set {name}=..." in problem for name in SAID)


@pytest.mark.parametrize("name", NEEDED)
def test_no_needed_column_has_a_default(name: str):
    silent = {key: value for key, value in athena_row().items() if key != name}
    if name in ("model_name", "instance_type", "deployment_config"):
        silent[name] = None
    made, (problem,) = runs([silent], kind="table", words=())
    assert made == ()
    assert f"does not say {name};" in problem


def test_a_word_of_a_person_comes_before_the_file_and_the_evidence_keeps_what_the_file_said():
    (run,), problems = runs(llmperf_summary(), words=[*WORDS, "model_name=meta-llama/Llama-2-7b"])
    assert problems == ()
    (level,) = run.levels
    assert level.row["model_family"] == CATALOG.family_of("meta-llama/Llama-2-7b")
    assert json.loads(level.row["evidence"])["reported"] == {"model_name": "org/tiny"}
    assert "model_name: the file says org/tiny, --set says meta-llama/Llama-2-7b" in level.remarks


def test_numbers_that_no_column_holds_are_kept_in_the_evidence():
    assert json.loads(row(inferencex_result())["evidence"])["metrics"]["burstiness"] == 1.0


def test_the_cost_follows_from_the_price_of_the_instance():
    price = CATALOG.instances["ml.p5.48xlarge"].usd_per_hour
    assert price is not None
    assert row(inferencex_result())["cost_per_1m_tokens"] == round(price / (100.0 * 3600) * 1e6, 4)


def test_an_instance_that_the_catalog_does_not_know_is_taken_with_a_remark():
    (run,), problems = runs(inferencex_result(), words=["instance_type=ml.p9.48xlarge", *WORDS[1:]])
    assert problems == ()
    assert (run.rows[0]["gpu_count"], run.rows[0]["cost_per_1m_tokens"]) == (None, None)
    assert "ml.p9.48xlarge is not in the catalog" in run.levels[0].remarks[0]


def test_what_looks_like_no_instance_type_is_refused():
    _, (problem,) = runs(inferencex_result(), words=["instance_type=h200", *WORDS[1:]])
    assert "instance_type must look like ml.g5.xlarge or local.1cpu, not 'h200'" in problem


def test_a_model_name_that_names_no_folder_is_refused_with_what_to_do():
    _, (problem,) = runs(inferencex_result(model_id="org/m:2"))
    assert "cannot name a folder" in problem
    assert problem.endswith("--set model_name=...")


def test_metrics_come_from_the_raw_requests_and_what_the_file_summarises_otherwise_is_told():
    (run,), _ = runs(vllm_result(detailed=True, median_ttft_ms=140.0))
    (level,) = run.levels
    assert level.row["ttft_p50_ms"] == pytest.approx(150.0)
    assert level.row["error_rate"] == pytest.approx(1 / 3)
    (difference,) = level.differences
    assert (difference.column, difference.reported) == ("ttft_p50_ms", 140.0)
    assert difference.recomputed == pytest.approx(150.0)


def test_recomputed_metrics_are_those_of_a_run_of_our_own():
    document = guidellm_report(requests=True)
    (run,), _ = runs(document)
    expected = metric_columns(run.levels[0].records, usd_per_hour=CATALOG.instances["ml.p5.48xlarge"].usd_per_hour)
    assert {name: run.rows[0][name] for name in expected} == expected


def test_llmperf_percentiles_agree_and_its_inter_token_latency_does_not_and_says_why():
    (run,), _ = runs(llmperf_summary(), llmperf_responses())
    (level,) = run.levels
    assert {d.column for d in level.differences} == {"itl_avg_ms", "itl_p50_ms"}
    assert all("first token included" in d.why for d in level.differences)
    assert level.row["itl_p50_ms"] == pytest.approx((3.0 - 0.5) / 10 * 1000)


def test_requests_without_times_take_duration_and_throughput_from_the_summary():
    made = row(llmperf_summary(), llmperf_responses())
    assert (made["benchmark_duration_sec"], made["request_throughput_rps"]) == (30.0, 0.1)
    assert made["output_token_throughput_tps"] == 1.1
    assert json.loads(made["evidence"])["request_times"] == "not recorded"


def test_raw_requests_alone_need_their_level_said_and_have_no_throughput():
    _, (problem,) = runs(llmperf_responses())
    assert "does not say model_name, run_timestamp, concurrency" in problem
    words = [*WORDS, "model_name=org/tiny", "concurrency=5", "run_timestamp=2026-06-09"]
    made = row(llmperf_responses(), words=words)
    assert (made["concurrency"], made["request_count"], made["error_rate"]) == (5, 3.0, 0.25)
    assert made["request_throughput_rps"] is None
    assert made["duration_seconds"] is None


def test_aiperf_records_alone_say_when_they_were_made():
    made = row(aiperf_records(), kind="lines", words=[*WORDS, "model_name=org/tiny", "concurrency=4"])
    assert made["run_timestamp"] == "2026-08-14T03:29:08.900000Z"
    assert made["request_throughput_rps"] == pytest.approx(2 / 0.9)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        pytest.param(inferencex_result(completed=0), "none of 160 requests was completed", id="summary"),
        pytest.param(vllm_result(completed=0), "none of 3 requests was completed", id="vllm"),
        pytest.param(
            llmperf_summary(results_num_completed_requests=0), "none of 4 requests was completed", id="llmperf"
        ),
    ],
)
def test_a_level_without_a_success_is_a_failed_row(document: dict[str, Any], reason: str):
    made = row(document)
    assert (made["status"], made["concurrency"], made["failure_stage"]) == ("failed", 0, "benchmark")
    assert made["failure_reason"] == reason
    assert made["request_throughput_rps"] is None


def test_raw_requests_that_all_failed_are_a_failed_row_with_the_most_frequent_error():
    failed = [each | {"error_code": 429, "error_msg": "slow down"} for each in llmperf_responses()]
    words = [*WORDS, "model_name=org/tiny", "concurrency=5", "run_timestamp=2026-06-09"]
    made = row(failed, words=words)
    assert made["status"] == "failed"
    assert "none of 4 counted requests succeeded (most often: error 429: slow down)" in made["failure_reason"]


def test_what_existing_writers_put_for_absent_is_absent_and_old_names_are_read():
    made = row([athena_row()], kind="table", words=())
    assert made["ttst_p50_ms"] is None
    assert made["benchmark_job_name"] is None
    assert made["error_rate"] == 0.0
    assert made["deployment_target"] == "realtime-inference"
    assert (made["duration_seconds"], made["concurrency"], made["enable_lora"]) == (1, 4, False)
    assert made["run_timestamp"] == "2026-06-09T14:30:22.000000Z"
    assert (made["status"], made["run_type"]) == ("completed", "ci")


def test_rows_of_one_job_are_one_run():
    levels = [athena_row(concurrency=str(n)) for n in (1, 4, 8)]
    (run,), problems = runs(levels, kind="table", words=())
    assert problems == ()
    assert [each["concurrency"] for each in run.rows] == [1, 4, 8]


def test_two_rows_of_one_level_that_differ_are_refused():
    _, (problem,) = runs([athena_row(), athena_row(ttft_p50_ms="71")], kind="table", words=())
    assert "says otherwise than f: row 1 of the same run, workload and concurrency" in problem


def test_serving_parameters_belong_to_the_identity():
    plain = row([athena_row()], kind="table", words=())
    served = athena_row(serving_config=json.dumps({"quantization": "fp8", "gpu_memory_utilization": 0.9}))
    assert row([served], kind="table", words=())["config_id"] != plain["config_id"]
    said = row([athena_row()], kind="table", words=["serving_params.gpu_memory_utilization=0.9"])
    assert said["config_id"] == row([served], kind="table", words=())["config_id"]


def test_a_serving_config_that_is_no_json_is_refused():
    _, (problem,) = runs([athena_row(serving_config="{")], kind="table", words=())
    assert "serving_config must be a JSON object" in problem


@pytest.mark.parametrize(
    ("word", "said"),
    [
        pytest.param("quantization", "must be NAME=VALUE", id="no value"),
        pytest.param("quantization=", "must be NAME=VALUE", id="an empty value"),
        pytest.param("quantisation=fp8", "did you mean 'quantization'?", id="a misspelled name"),
        pytest.param("tp_degree=many", "must be a whole number above 0", id="a word"),
        pytest.param("tp_degree=0", "must be a whole number above 0", id="none"),
        pytest.param("enable_lora=perhaps", "must be true or false", id="neither"),
        pytest.param("run_type=test", "must be one of ci, path_prove", id="a run type"),
        pytest.param("run_timestamp=noon", "must be a time such as", id="no time"),
    ],
)
def test_a_setting_with_a_mistake_is_refused(word: str, said: str):
    with pytest.raises(InvalidInput) as refused:
        read_settings([word])
    assert said in str(refused.value)


def test_a_setting_is_said_once():
    with pytest.raises(InvalidInput, match="tensor_parallel_degree is set twice"):
        read_settings(["tp_degree=1", "tensor_parallel_degree=2"])
