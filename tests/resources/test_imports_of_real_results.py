"""Result files of real tools as they were published: taken in, with every value where it belongs."""

import json
from pathlib import Path
from typing import Any

import pytest

from catalog.loader import load_catalog
from mlcc_dagster.core.exceptions import InvalidInput
from mlcc_dagster.core.imports.settings import read_settings
from resources.home import Home
from resources.result_imports import ImportPlan, carry_out, plan_import
from resources.result_store import ResultStore

REAL = Path(__file__).parents[3] / "shared" / "realdata"
WORDS = ["instance_type=ml.p5.48xlarge", "deployment_config=transformers-vllm", "quantization=none", "tp_degree=8"]

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not REAL.exists(), reason="the shared real data is not beside this checkout"),
]


def take_in(home: Home, *paths: Path, words: Any = WORDS) -> ImportPlan:
    store = ResultStore(home.results)
    made = plan_import(paths, settings=read_settings(words), catalog=load_catalog(), store=store)
    carry_out(made, home=home, store=store, advance=lambda: None)
    return made


def rows(home: Home) -> list[dict[str, Any]]:
    return ResultStore(home.results).snapshot().rows()


@pytest.mark.slow
def test_every_inferencex_result_is_a_row_with_its_values_in_our_units(tmp_path: Path):
    files = sorted((REAL / "inferencex" / "results").rglob("*.json"))
    home = Home(tmp_path / "home")
    made = take_in(home, REAL / "inferencex" / "results")
    found = rows(home)
    assert len(found) == len(made.files) == len(files) > 50
    by_point = {(r["model_name"], r["run_timestamp"], r["workload"], r["concurrency"]): r for r in found}
    assert len(by_point) == len(files)
    for path in files:
        document = json.loads(path.read_text("utf-8"))
        (row,) = [r for r in found if r["e2e_latency_p99_ms"] == document["p99_e2el"] * 1000]
        assert row["ttft_p50_ms"] == document["median_ttft"] * 1000
        assert row["itl_p50_ms"] == document["median_tpot"] * 1000
        assert row["concurrency"] == document["max_concurrency"]
        assert row["output_token_throughput_tps"] == document["output_throughput"]
        assert json.loads(row["evidence"])["metrics"]["burstiness"] == document["burstiness"]
    assert take_in(home, REAL / "inferencex" / "results").new == ()


LLMPERF = sorted((REAL / "llmperf" / "summary").glob("*.json")) if REAL.exists() else []


@pytest.mark.parametrize("summary", LLMPERF, ids=lambda path: path.stem)
def test_llmperf_summaries_are_recomputed_from_their_raw_requests(tmp_path: Path, summary: Path):
    raw = REAL / "llmperf" / "individual" / summary.name
    document, requests = json.loads(summary.read_text("utf-8")), json.loads(raw.read_text("utf-8"))
    # One provider puts the version behind a colon, which names no folder.
    words = [*WORDS, *(["model_name=meta/llama-2-70b-chat"] if ":" in document["model"] else [])]
    home = Home(tmp_path / "home")
    made = take_in(home, summary, raw, words=words)
    (row,) = rows(home)
    # The percentile rule is the same, over the requests without an error: nothing else differs than what is explained.
    assert {d.column for d in made.differences} == {"itl_avg_ms", "itl_p50_ms", "itl_p90_ms", "itl_p99_ms"}
    assert all("first token included" in d.why for d in made.differences)
    for end, name in (("p50", "quantiles_p50"), ("p90", "quantiles_p90"), ("p99", "quantiles_p99"), ("avg", "mean")):
        assert row[f"ttft_{end}_ms"] == pytest.approx(document[f"results_ttft_s_{name}"] * 1000)
        assert row[f"e2e_latency_{end}_ms"] == pytest.approx(document[f"results_end_to_end_latency_s_{name}"] * 1000)
    errors = sum(each["error_code"] is not None for each in requests)
    assert row["error_rate"] == errors / len(requests) == pytest.approx(document["results_error_rate"])
    assert row["request_count"] == len(requests) - errors
    assert row["output_token_throughput_tps"] == document["results_mean_output_throughput_token_per_s"]


def test_all_llmperf_files_at_once_are_paired_and_the_one_name_that_names_no_folder_is_told(tmp_path: Path):
    with pytest.raises(InvalidInput) as refused:
        take_in(Home(tmp_path / "home"), REAL / "llmperf")
    (problem,) = refused.value.problems
    assert "replicate_70b.json" in problem
    named = take_in(Home(tmp_path / "home"), REAL / "llmperf", words=[*WORDS, "model_name=some/model"])
    assert named.new_rows == len(LLMPERF)


def test_a_guidellm_report_has_a_row_per_benchmark(tmp_path: Path):
    path = REAL / "guidellm" / "guidellm_report_v2.json"
    benchmarks = json.loads(path.read_text("utf-8"))["benchmarks"]
    home = Home(tmp_path / "home")
    made = take_in(home, path)
    found = rows(home)
    assert len(made.new) == 1
    assert len(found) == len(benchmarks)
    rates = [each["config"]["strategy"]["rate"] for each in benchmarks]
    for benchmark, rate in zip(benchmarks, rates, strict=True):
        (row,) = [r for r in found if r["workload"].endswith(f"constant-{rate:g}")]
        successful = benchmark["metrics"]["request_latency"]["successful"]
        assert row["e2e_latency_p50_ms"] == successful["percentiles"]["p50"] * 1000
        assert row["request_count"] == benchmark["metrics"]["request_totals"]["successful"]
        assert (row["concurrency"], row["streaming"]) == (None, True)
