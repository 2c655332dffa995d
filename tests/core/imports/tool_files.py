"""Small files of every tool, made by hand: what the tests of readers and of `mlcc import` read."""

from typing import Any

from mlcc_dagster.core.imports.measured import Document

SAID = {
    "instance_type": "ml.p5.48xlarge",
    "deployment_config": "transformers-vllm",
    "quantization": "fp8",
    "tensor_parallel_degree": "8",
}
"""What no file of a tool says."""

WORDS = [f"{name}={value}" for name, value in SAID.items()]


def athena_row(**values: Any) -> dict[str, Any]:
    """A row of an existing installation as its CSV has it: 0.0 and empty texts for what it does not know."""
    return {
        "project_name": "p1",
        "model_name": "Qwen/Qwen3-4B",
        "model_family": "qwen3",
        "instance_type": "ml.g5.xlarge",
        "deployment_config": "transformers-vllm",
        "deployment_target": "managed-inference",
        "quantization": "fp8",
        "tensor_parallel_degree": "1",
        "enable_lora": "false",
        "workload": "multi_turn_chat",
        "concurrency": "4",
        "duration_seconds": "1.6",
        "request_count": "3",
        "ttft_p50_ms": "70",
        "ttst_p50_ms": "0.0",
        "error_rate": "0.0",
        "run_type": "ci",
        "benchmark_job_name": "",
        "run_timestamp": "2026-06-09T14:30:22+00:00",
        "region": "us-west-2",
        "model": "Qwen_Qwen3-4B",
    } | values


def statistics(mean: float, **values: float) -> dict[str, Any]:
    """A metric of GuideLLM."""
    percentiles = {name: values.get(name, mean) for name in ("p50", "p90", "p95", "p99")}
    return {"successful": {"mean": mean, "count": 2, "std_dev": 0.5, "percentiles": percentiles}}


def guidellm_report(*, requests: bool = False, strategy: dict[str, Any] | None = None) -> dict[str, Any]:
    """A report with one level; `requests` keeps the raw ones."""
    raw = [
        {
            "request_start_time": 100.0 + i,
            "request_end_time": 102.0 + i,
            "request_latency": 2.0,
            "time_to_first_token_ms": 500.0,
            "inter_token_latency_ms": 100.0 + i,
            "prompt_tokens": 32,
            "output_tokens": 16,
        }
        for i in range(2)
    ]
    benchmark = {
        "config": {
            "backend": {"model": "org/tiny", "stream": True},
            "strategy": strategy or {"type_": "concurrent", "streams": 2},
        },
        "start_time": 1786678148.25,
        "end_time": 1786678153.25,
        "duration": 5.0,
        "requests": {"successful": raw if requests else [], "errored": [], "incomplete": []},
        "metrics": {
            "request_totals": {"successful": 2, "errored": 1, "incomplete": 4},
            "requests_per_second": statistics(0.4),
            "output_tokens_per_second": statistics(6.4),
            "tokens_per_second": statistics(19.2),
            "prompt_token_count": statistics(32.0),
            "output_token_count": statistics(16.0),
            "request_latency": statistics(2.0),
            "time_to_first_token_ms": statistics(500.0),
            "inter_token_latency_ms": statistics(100.0, p90=101.0),
            "time_per_output_token_ms": statistics(125.0),
        },
    }
    return {"metadata": {"version": 2, "guidellm_version": "0.8.0"}, "config": {}, "benchmarks": [benchmark]}


def vllm_result(*, detailed: bool = False, **values: Any) -> dict[str, Any]:
    """A result of vLLM's serving benchmark: two of three requests completed."""
    lists = {
        "input_lens": [100, 100, 100],
        "output_lens": [3, 5, 0],
        "ttfts": [0.1, 0.2, 0.0],
        "itls": [[0.05, 0.05], [0.1, 0.1, 0.1, 0.1], []],
        "errors": ["", "", "connection reset"],
        "start_times": [10.0, 10.0, 10.0],
    }
    return {
        "date": "20260213-135636",
        "backend": "vllm",
        "model_id": "org/tiny",
        "tokenizer_id": "org/tiny",
        "num_prompts": 3,
        "request_rate": "inf",
        "burstiness": 1.0,
        "max_concurrency": 2,
        "duration": 0.6,
        "completed": 2,
        "total_input_tokens": 200,
        "total_output_tokens": 8,
        "request_throughput": 3.0,
        "output_throughput": 13.0,
        "total_token_throughput": 346.0,
        "mean_ttft_ms": 150.0,
        "median_ttft_ms": 150.0,
        "p99_ttft_ms": 199.0,
        "median_tpot_ms": 75.0,
        "median_itl_ms": 100.0,
        **(lists if detailed else {}),
    } | values


def inferencex_result(**values: Any) -> dict[str, Any]:
    """The same in the InferenceX form: seconds."""
    return {
        "date": "20260213-135636",
        "model_id": "zai-org/GLM-5-FP8",
        "num_prompts": 160,
        "request_rate": "inf",
        "burstiness": 1.0,
        "max_concurrency": 16,
        "duration": 200.5,
        "completed": 160,
        "total_input_tokens": 163840,
        "total_output_tokens": 20480,
        "request_throughput": 0.8,
        "input_throughput": 800.0,
        "output_throughput": 100.0,
        "median_ttft": 3.125,
        "p99_ttft": 16.5,
        "median_e2el": 21.5,
        "p99_e2el": 30.25,
        "median_tpot": 0.125,
        "p99_tpot": 0.25,
    } | values


def inferencex_aggregate(**values: Any) -> dict[str, Any]:
    """The aggregate that InferenceX makes of one."""
    return {
        "hw": "h200",
        "tp": 8,
        "ep": 1,
        "conc": 16,
        "model": "zai-org/GLM-5-FP8",
        "framework": "vllm",
        "precision": "fp8",
        "tput_per_gpu": 112.5,
        "output_tput_per_gpu": 12.5,
        "mean_ttft": 3.5,
        "median_ttft": 3.125,
        "median_intvty": 8.0,
    } | values


def llmperf_responses(count: int = 4) -> list[dict[str, Any]]:
    """Individual responses: the last one failed."""
    made = [
        {
            "error_code": None,
            "error_msg": "",
            "inter_token_latency_s": 0.1 + i / 100,
            "ttft_s": 0.5,
            "end_to_end_latency_s": 2.0 + i,
            "number_total_tokens": 120,
            "number_output_tokens": 11,
            "number_input_tokens": 109,
        }
        for i in range(count)
    ]
    made[-1] |= {
        "error_code": 429,
        "error_msg": "too many",
        "ttft_s": 0,
        "end_to_end_latency_s": 0,
        "number_output_tokens": 0,
    }
    return made


def llmperf_summary(**values: Any) -> dict[str, Any]:
    """Their summary: three of four in 30 s."""
    return {
        "version": "2023-08-31",
        "model": "org/tiny",
        "mean_input_tokens": 109,
        "mean_output_tokens": 11,
        "num_concurrent_requests": 5,
        "results_inter_token_latency_s_quantiles_p50": 0.11,
        "results_inter_token_latency_s_mean": 0.11,
        "results_ttft_s_quantiles_p50": 0.5,
        "results_ttft_s_mean": 0.5,
        "results_end_to_end_latency_s_quantiles_p50": 3.0,
        "results_end_to_end_latency_s_mean": 3.0,
        "results_end_to_end_latency_s_min": 2.0,
        "results_end_to_end_latency_s_max": 4.0,
        "results_number_input_tokens_mean": 109.0,
        "results_number_input_tokens_min": "109",
        "results_number_output_tokens_mean": 11.0,
        "results_num_requests_started": 4,
        "results_error_rate": 0.25,
        "results_number_errors": 1,
        "results_mean_output_throughput_token_per_s": 1.1,
        "results_num_completed_requests": 3,
        "results_num_completed_requests_per_min": 6.0,
        "framework": "anyscale",
        "timestamp": 1703136016,
    } | values


def aiperf_export(**values: Any) -> dict[str, Any]:
    """An export of AIPerf of the requests below."""
    return {
        "aiperf_version": "0.3.0",
        "request_throughput": {"unit": "requests/sec", "avg": 2.0},
        "request_latency": {
            "unit": "ms",
            "avg": 600.0,
            "p50": 600.0,
            "p90": 680.0,
            "p99": 698.0,
            "min": 500.0,
            "max": 700.0,
        },
        "request_count": {"unit": "requests", "avg": 2.0},
        "error_request_count": {"unit": "requests", "avg": 0.0},
        "time_to_first_token": {"unit": "s", "avg": 0.06, "p50": 0.06, "p90": 0.068, "p99": 0.0698, "p95": 0.069},
        "goodput": {"unit": "requests/sec", "avg": 1.5},
        "output_sequence_length": {"unit": "tokens", "avg": 55.0},
        "input_sequence_length": {"unit": "tokens", "avg": 105.0},
        "benchmark_duration": {"unit": "sec", "avg": 0.9},
        "input_config": {"endpoint": {"model_names": ["org/tiny"], "streaming": True}, "loadgen": {"concurrency": 4}},
        "was_cancelled": False,
        "end_time": "2026-06-09T14:30:22",
    } | values


def aiperf_records() -> list[dict[str, Any]]:
    """The records of two requests."""
    return [
        {
            "metadata": {"request_start_ns": 1786678148000000000 + start, "request_end_ns": 1786678148000000000 + end},
            "metrics": {
                "request_latency": {"value": latency, "unit": "ms"},
                "time_to_first_token": {"value": first, "unit": "ms"},
                "output_sequence_length": {"value": 50 + first / 10, "unit": "tokens"},
                "input_sequence_length": {"value": 105, "unit": "tokens"},
            },
            "error": None,
        }
        for start, end, latency, first in ((0, 500_000_000, 500, 50), (200_000_000, 900_000_000, 700, 70))
    ]


DOCUMENTS: dict[str, tuple[str, Document]] = {
    "Athena export": ("athena-export", Document("table", [athena_row()])),
    "AIPerf export": ("aiperf", Document("json", aiperf_export())),
    "AIPerf records": ("aiperf", Document("lines", aiperf_records())),
    "vLLM result": ("vllm-bench", Document("json", vllm_result())),
    "vLLM results, appended": ("vllm-bench", Document("lines", [vllm_result(), vllm_result(max_concurrency=4)])),
    "vLLM result, detailed": ("vllm-bench", Document("json", vllm_result(detailed=True))),
    "GuideLLM report": ("guidellm", Document("json", guidellm_report())),
    "GuideLLM report with requests": ("guidellm", Document("json", guidellm_report(requests=True))),
    "LLMPerf summary": ("llmperf", Document("json", llmperf_summary())),
    "LLMPerf responses": ("llmperf", Document("json", llmperf_responses())),
    "InferenceX result": ("inferencex", Document("json", inferencex_result())),
    "InferenceX aggregate": ("inferencex", Document("json", inferencex_aggregate())),
}
"""A document of every kind: (format, document) by name."""
