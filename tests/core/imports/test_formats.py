"""Files of every tool: told apart by content, read in our units, mistakes told with their place."""

from typing import Any

import pytest
from tool_files import (
    DOCUMENTS,
    aiperf_export,
    aiperf_records,
    athena_row,
    guidellm_report,
    inferencex_aggregate,
    inferencex_result,
    llmperf_responses,
    llmperf_summary,
    vllm_result,
)

from mlcc_dagster.core.exceptions import InvalidInput, UsageError
from mlcc_dagster.core.imports.formats import FORMATS, format_of, paired, read_document
from mlcc_dagster.core.imports.measured import Document, Measured


def read(document: Any, kind: Any = "json", **more: Any) -> tuple[Measured, ...]:
    return read_document(Document(kind, document), source="f", **more)[1]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_exactly_one_format_recognises_a_document(name: str):
    expected, document = DOCUMENTS[name]
    assert [each.name for each in FORMATS.values() if each.recognizes(document)] == [expected]


def test_every_format_has_a_document_in_these_tests():
    assert {name for name, _ in DOCUMENTS.values()} == set(FORMATS)


@pytest.mark.parametrize(
    ("document", "column", "value", "reason"),
    [
        pytest.param(inferencex_result(), "ttft_p50_ms", 3125.0, "seconds become milliseconds", id="inferencex ttft"),
        pytest.param(inferencex_result(), "itl_p99_ms", 250.0, "TPOT is our inter-token latency", id="inferencex tpot"),
        pytest.param(inferencex_result(), "total_token_throughput_tps", 900.0, "input + output", id="inferencex total"),
        pytest.param(inferencex_result(), "run_timestamp", "2026-02-13T13:56:36.000000Z", "date", id="inferencex date"),
        pytest.param(inferencex_result(), "workload", "inferencex-1024-128", "mean tokens", id="inferencex workload"),
        pytest.param(inferencex_result(completed=120), "error_rate", 0.25, "40 of 160 missing", id="inferencex errors"),
        pytest.param(inferencex_aggregate(), "output_token_throughput_tps", 100.0, "per GPU x GPUs", id="aggregate"),
        pytest.param(inferencex_aggregate(), "tensor_parallel_degree", 8, "tp", id="aggregate tp"),
        pytest.param(inferencex_aggregate(), "quantization", "fp8", "precision", id="aggregate precision"),
        pytest.param(vllm_result(), "ttft_p50_ms", 150.0, "milliseconds stay", id="vllm ttft"),
        pytest.param(vllm_result(), "itl_p50_ms", 75.0, "TPOT, not the pooled ITL", id="vllm tpot"),
        pytest.param(vllm_result(), "concurrency", 2, "max_concurrency", id="vllm level"),
        pytest.param(vllm_result(max_concurrency=None), "concurrency", 3, "all at once", id="vllm without a limit"),
        pytest.param(
            vllm_result(request_rate=2.5), "workload", "vllm-bench-100-4-rate2.5", "a rate drove it", id="vllm rate"
        ),
        pytest.param(guidellm_report(), "e2e_latency_p50_ms", 2000.0, "seconds", id="guidellm latency"),
        pytest.param(guidellm_report(), "ttft_avg_ms", 500.0, "already ms", id="guidellm ttft"),
        pytest.param(guidellm_report(), "error_rate", 1 / 3, "incomplete requests do not count", id="guidellm errors"),
        pytest.param(guidellm_report(), "concurrency", 2, "streams", id="guidellm streams"),
        pytest.param(
            guidellm_report(strategy={"type_": "synchronous"}),
            "concurrency",
            1,
            "one by one",
            id="guidellm synchronous",
        ),
        pytest.param(
            guidellm_report(strategy={"type_": "constant", "rate": 2.0, "max_concurrency": 10240}),
            "workload",
            "guidellm-32-16-constant-2",
            "an open load has a rate",
            id="guidellm rate",
        ),
        pytest.param(llmperf_summary(), "benchmark_duration_sec", 30.0, "3 at 6 a minute", id="llmperf duration"),
        pytest.param(llmperf_summary(), "request_throughput_rps", 0.1, "per minute", id="llmperf throughput"),
        pytest.param(llmperf_summary(), "ttft_p50_ms", 500.0, "seconds", id="llmperf ttft"),
        pytest.param(aiperf_export(), "ttft_p99_ms", 69.8, "its own unit", id="aiperf ttft"),
        pytest.param(aiperf_export(), "model_name", "org/tiny", "input_config", id="aiperf model"),
        pytest.param(aiperf_export(), "concurrency", 4, "input_config", id="aiperf level"),
        pytest.param({"records": aiperf_export()}, "e2e_latency_p90_ms", 680.0, "older exports", id="aiperf older"),
    ],
)
def test_values_are_read_in_our_units(document: dict[str, Any], column: str, value: Any, reason: str):
    (level,) = read(document)
    found = level.columns[column]
    assert found == pytest.approx(value) if isinstance(value, float) else found == value, reason


@pytest.mark.parametrize(
    ("document", "column", "reason"),
    [
        pytest.param(inferencex_result(), "ttft_p90_ms", "the file has no such percentile", id="no percentile"),
        pytest.param(llmperf_summary(), "itl_p50_ms", "LLMPerf's is another quantity", id="another quantity"),
        pytest.param(
            guidellm_report(strategy={"type_": "constant", "rate": 2.0}), "concurrency", "no level", id="rate"
        ),
        pytest.param(vllm_result(request_rate=2.5, max_concurrency=None), "concurrency", "no level", id="vllm rate"),
    ],
)
def test_what_a_file_does_not_say_is_absent(document: dict[str, Any], column: str, reason: str):
    assert column not in read(document)[0].columns, reason


def test_a_metric_of_no_request_is_absent_although_the_report_has_0():
    report = guidellm_report()
    empty = report["benchmarks"][0]["metrics"]["time_to_first_token_ms"]["successful"]
    empty |= {"count": 0, "mean": 0.0, "percentiles": dict.fromkeys(("p50", "p90", "p99"), 0.0)}
    assert "ttft_p50_ms" not in read(report)[0].columns


@pytest.mark.parametrize(
    ("document", "name"),
    [
        pytest.param(inferencex_result(), "burstiness", id="inferencex"),
        pytest.param(inferencex_aggregate(), "median_intvty", id="aggregate"),
        pytest.param(vllm_result(), "median_itl_ms", id="vllm"),
        pytest.param(guidellm_report(), "time_per_output_token_ms.p95", id="guidellm"),
        pytest.param(llmperf_summary(), "results_number_errors", id="llmperf"),
        pytest.param(aiperf_export(), "goodput.avg", id="aiperf"),
        pytest.param(aiperf_export(new_metric={"unit": "x", "avg": 7}), "new_metric.avg", id="a metric of tomorrow"),
    ],
)
def test_numbers_that_no_column_holds_are_kept(document: dict[str, Any], name: str):
    assert name in read(document)[0].extra


def test_an_unknown_number_that_is_not_finite_is_left_out_and_named():
    (level,) = read(inferencex_result(stray=float("nan")))
    assert level.left_out == ("stray: is not finite",)
    assert "stray" not in level.extra


def test_raw_requests_are_read_with_their_errors():
    (vllm,), (guide,) = read(vllm_result(detailed=True)), read(guidellm_report(requests=True))
    assert [r.error for r in vllm.records] == [None, None, "connection reset"]
    assert vllm.records[1].metrics["request_latency"] == pytest.approx(600.0)
    assert len(guide.records) == 2
    assert guide.timed


def test_the_two_files_of_a_run_are_put_together_by_what_they_measured():
    summary, raw = read(llmperf_summary())[0], read(llmperf_responses())[0]
    (both,), problems = paired([raw, summary])
    assert problems == ()
    assert len(both.records) == 4
    assert both.identity == summary.identity
    assert both.sources == ("f", "f")


def test_files_of_two_runs_are_not_put_together():
    other = read(llmperf_summary(results_end_to_end_latency_s_max=9.0))[0]
    assert len(paired([other, read(llmperf_responses())[0]])[0]) == 2


def test_several_candidates_for_one_run_are_refused():
    raw = read(llmperf_responses())[0]
    summaries = [read(llmperf_summary(timestamp=at))[0] for at in (1703136016, 1703136017)]
    _, (problem,) = paired([raw, *summaries])
    assert "one run at a time" in problem


def test_the_export_and_the_records_of_aiperf_are_one_run():
    (both,), problems = paired([read(aiperf_export())[0], read(aiperf_records(), "lines")[0]])
    assert problems == ()
    assert len(both.records) == 2


# ---- mistakes

NAN = float("nan")


@pytest.mark.parametrize(
    ("document", "said"),
    [
        pytest.param(
            inferencex_result(duration=-1), "f.duration: must be a finite number of at least 0", id="negative"
        ),
        pytest.param(inferencex_result(median_ttft=NAN), "f.median_ttft: must be a finite number", id="NaN"),
        pytest.param(inferencex_result(p99_e2el=float("inf")), "f.p99_e2el: must be a finite number", id="infinite"),
        pytest.param(inferencex_result(duration="12"), "f.duration: must be a number, not '12'", id="a text"),
        pytest.param(inferencex_result(completed=True), "f.completed: must be a number, not True", id="a truth value"),
        pytest.param(inferencex_result(completed=1.5), "f.completed: must be a whole number", id="half a request"),
        pytest.param(inferencex_result(completed=161), "161 of 160 requests cannot be", id="more than were sent"),
        pytest.param(inferencex_result(date="yesterday"), "f.date: is no time", id="no time"),
        pytest.param(inferencex_result(duration=10**400), "f.duration: must be a finite number", id="a huge number"),
        pytest.param(inferencex_aggregate(tp=None), "f.tp: is missing", id="no GPUs"),
        pytest.param(vllm_result(completed=None), "f.completed: is missing", id="vllm without a count"),
        pytest.param(
            vllm_result(detailed=True, ttfts=[0.1]), "differ in length; they must be of one run", id="lists of two runs"
        ),
        pytest.param(
            vllm_result(detailed=True, itls=[[0.1], [-1], []]), "f.itls[1]: must be a list of seconds", id="gap"
        ),
        pytest.param(vllm_result(detailed=True, errors="none"), "f.errors: must be a list", id="errors no list"),
        pytest.param({"metadata": {"guidellm_version": "1"}, "benchmarks": []}, "has no results", id="empty report"),
        pytest.param(
            {"metadata": {"guidellm_version": "1"}, "benchmarks": [3]},
            "benchmarks[0]: must be an object",
            id="a number",
        ),
        pytest.param(
            {"metadata": {"guidellm_version": "1"}, "benchmarks": [{"metrics": {}}]},
            "request_totals.successful: is missing",
            id="no counts",
        ),
        pytest.param(
            [*llmperf_responses(), {"error_code": None}], "f[4].end_to_end_latency_s: is missing", id="no latency"
        ),
        pytest.param(llmperf_summary(num_concurrent_requests="5"), "must be a number, not '5'", id="llmperf level"),
        pytest.param(
            aiperf_export(request_latency={"unit": "fortnights", "avg": 1}),
            "request_latency.unit: must be one of",
            id="unit",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place(document: Any, said: str):
    with pytest.raises(InvalidInput) as refused:
        read(document)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        pytest.param(athena_row(concurrency="4.5"), "row 1: concurrency must be a whole number, not '4.5'", id="half"),
        pytest.param(athena_row(ttft_p50_ms="fast"), "ttft_p50_ms must be a finite number", id="a word"),
        pytest.param(athena_row(ttft_p50_ms="-1"), "ttft_p50_ms must be a finite number of at least 0", id="negative"),
        pytest.param(athena_row(request_count="NaN"), "request_count must be a finite number", id="NaN"),
        pytest.param(athena_row(enable_lora="maybe"), "enable_lora must be true or false", id="maybe"),
        pytest.param(athena_row(run_timestamp="noon"), "run_timestamp must be a time, not 'noon'", id="no time"),
    ],
)
def test_a_mistake_of_a_row_names_the_row(row: dict[str, Any], said: str):
    with pytest.raises(InvalidInput) as refused:
        read([row], "table")
    assert said in str(refused.value)


def test_all_mistakes_of_a_document_are_told_at_once():
    with pytest.raises(InvalidInput) as refused:
        read(inferencex_result(duration=-1, median_ttft=NAN, completed=None))
    assert len(refused.value.problems) == 3


def test_a_record_with_a_mistake_names_its_line():
    records = aiperf_records()
    records[1]["metadata"]["request_end_ns"] = 0
    with pytest.raises(InvalidInput, match=r"line 2: metadata\.request_end_ns: lies before"):
        read(records, "lines")


def test_an_unknown_document_is_one_sentence_with_everything_that_was_tried():
    with pytest.raises(InvalidInput) as refused:
        format_of(Document("json", {"a": 1}), source="x.json")
    (problem,) = refused.value.problems
    assert problem.startswith("x.json: is no file of results")
    assert all(name in problem for name in FORMATS)


def test_a_document_that_could_be_several_is_refused_until_a_person_says():
    both = vllm_result() | {"median_ttft": 0.15}
    with pytest.raises(InvalidInput, match="could be vllm-bench or inferencex; say which with --format"):
        read(both)
    assert read(both, name="vllm-bench")[0].columns["ttft_p50_ms"] == 150.0


def test_an_unknown_format_names_the_known_ones():
    with pytest.raises(UsageError, match="no format 'genai'; use one of athena-export"):
        read({}, name="genai")


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("value", [None, 3, "text", [], [1], {}, {"benchmarks": 1}, [{}], {"metadata": 7}])
def test_a_forced_format_refuses_whatever_it_is_given_in_sentences(name: str, value: Any):
    try:
        levels = read(value, name=name)
    except InvalidInput as refused:
        assert refused.problems
    else:
        # Rows without a value are no rows.
        assert levels == ()
