"""The record that existing installations keep of a proof, and their question for what is known to be bad."""

from mlcc_dagster.core.path_proofs import compat_known_unfeasible, compat_record

PROVED = {
    "success": True,
    "config": {"deployment_config": "a", "model_name": "m", "x": 1},
    "metrics": {"ttft_p90_ms": 5},
}
FINAL = {"stage": "deploy", "category": "oom", "retryable": False}


def test_a_failure_in_the_compatible_record_is_final_only_when_it_cannot_be_retried():
    for classification, status in ((FINAL, "unfeasible"), (FINAL | {"retryable": True}, "failed"), (None, "failed")):
        record = compat_record({"success": False}, classification, run_timestamp="t")
        assert (record["status"], record["failure_reason"]) == (status, "Unknown failure")
        assert ("failure_stage" in record) is (classification is not None)


def test_the_compatible_record_keeps_the_dimensions_and_names_alone():
    assert compat_record(PROVED, None, run_timestamp="t") == {
        "run_type": "path_prove",
        "run_timestamp": "t",
        "deployment_config": "a",
        "model_name": "m",
        "status": "completed",
        "ttft_p90_ms": 5,
    }


def test_the_compatible_question_for_known_bad_ones_reads_both_names_of_the_degree():
    stored = {"deployment_config": "a", "tensor_parallel_degree": 4, "status": "unfeasible", "run_type": "path_prove"}
    assert compat_known_unfeasible({"deployment_config": "a", "tp_degree": "4"}, [stored])
    assert not compat_known_unfeasible({"deployment_config": "a", "tp_degree": "2"}, [stored])
    assert not compat_known_unfeasible({"deployment_config": "a", "tp_degree": "4"}, [])
