"""`mlcc recommend`: what it says, from what, and what is refused."""

from pathlib import Path

import pytest
from command_calls import Call, result_row

from resources.result_store import ResultStore

MODEL, INSTANCE = "HuggingFaceTB/SmolLM2-135M-Instruct", "local.2cpu"


def publish(home: Path, quantization: str, values: list[float], **changed: object) -> None:
    store = ResultStore(home / "results")
    for number, value in enumerate(values, start=1):
        run_id = f"{quantization}{changed.get('instance_type', '')}-g{number}"
        row = result_row(
            run_id.rpartition("-")[0],
            run_id=run_id,
            model_name=MODEL,
            model_family="smollm2",
            instance_type=INSTANCE,
            deployment_config="transformers-llamacpp",
            quantization=quantization,
            workload="local_chat",
            serving_config='{"kv_cache_dtype": "auto"}',
            output_token_throughput_tps=value,
            ttft_p90_ms=1000 / value,
        )
        store.publish(run_id, [row | changed])


def entry_of(mlcc: Call, quantization: str) -> str:
    """The catalog's entry of the model on the instance with that quantization."""
    wanted = f"{MODEL} {INSTANCE} {quantization}"
    entries = mlcc("catalog", "list", "--json").document["entries"]
    (found,) = (each["id"] for each in entries if each["configuration"].endswith(wanted))
    return found


def test_what_measured_better_is_recommended_in_every_form(mlcc: Call, home: Path) -> None:
    publish(home, "q8_0", [26.0, 26.4, 25.8])
    publish(home, "q4_1", [50.0, 51.0, 50.5])
    entry = entry_of(mlcc, "q8_0")
    document = mlcc("recommend", "--config", entry, "--json").document
    (found,) = document["recommendations"]
    assert (found["dimension"], found["current_value"], found["recommended_value"]) == ("quantization", "q8_0", "q4_1")
    assert found["improvement_pct"] == pytest.approx(93.7, abs=0.2)
    assert found["interval_pct"][0] > 85
    assert (found["confidence"], found["basis"], found["num_runs"]) == ("medium", "exact", 3)
    table = mlcc("recommend", "--config", entry)
    assert (table.code, table.err) == (0, "")
    assert "q4_1" in table.out
    assert "tensor_parallel_degree: nobody measured another value" in table.out
    assert mlcc("recommend", "--config", entry, "--metric", "ttft", "--json").document["recommendations"]


def test_the_better_one_is_told_to_stay(mlcc: Call, home: Path) -> None:
    publish(home, "q8_0", [26.0])
    publish(home, "q4_1", [50.0])
    answer = mlcc("recommend", "--config", entry_of(mlcc, "q4_1"))
    assert "no recommendations" in answer.out
    assert "quantization stays: q4_1 is the best measured" in answer.out


def test_what_was_measured_elsewhere_is_said_to_be(mlcc: Call, home: Path) -> None:
    publish(home, "q8_0", [26.0], instance_type="local.1cpu")
    publish(home, "q4_1", [50.0], instance_type="local.1cpu")
    answer = mlcc("recommend", "--config", entry_of(mlcc, "q8_0"))
    assert "instance family" in answer.out
    assert "measured on models of the family smollm2 on instances of the family local" in answer.out


def test_a_model_that_is_configured_several_times_is_not_guessed(mlcc: Call, home: Path) -> None:
    publish(home, "q8_0", [26.0])
    answer = mlcc("recommend", "--model", MODEL, "--instance", INSTANCE)
    assert answer.code == 2
    assert "name the present one with --config" in answer.err
    assert entry_of(mlcc, "q8_0") in answer.err


def test_a_model_that_nobody_configured_has_the_default_settings(mlcc: Call, home: Path) -> None:
    publish(home, "none", [26.0], instance_type="ml.g5.xlarge")
    publish(home, "fp8", [50.0], instance_type="ml.g5.xlarge")
    found = mlcc("recommend", "--model", MODEL, "--instance", "ml.g5.xlarge", "--json").document
    assert found["deployment_config"] is None
    assert found["current"]["quantization"] == "none"
    assert found["recommendations"][0]["recommended_value"] == "fp8"


def test_what_was_only_imported_is_its_own_present_configuration(mlcc: Call, home: Path) -> None:
    imported = {"instance_type": "ml.g5.xlarge", "executor": None, "max_model_len": 4096}
    publish(home, "none", [100.0, 101.0], **imported)
    publish(home, "fp8", [150.0, 151.0], **imported)
    publish(home, "gptq", [300.0], **imported)
    named = mlcc("recommend", "--config", "noneml.g5.xlarge", "--json").document
    present = {"quantization": "none", "tensor_parallel_degree": 1, "max_model_len": 4096, "kv_cache_dtype": "auto"}
    assert named["current"] == present
    (found,) = named["recommendations"]
    assert found["recommended_value"] == "fp8"
    assert [(each["recommended_value"], each["confidence"]) for each in found["alternatives"]] == [("gptq", "low")]
    table = " ".join(mlcc("recommend", "--config", "noneml").out.split())
    assert "quantization, instead of fp8: gptq +198.5 % (low confidence, 1 run)" in table
    words = ("recommend", "--model", MODEL, "--instance", "ml.g5.xlarge", "--json")
    assert mlcc(*words).document["current"] == present, "every row says 4096"
    publish(home, "int8", [90.0], **{**imported, "max_model_len": 2048})
    assert mlcc(*words).document["current"]["max_model_len"] is None, "rows that differ do not tell"


def test_the_way_of_existing_installations_can_be_asked_for(mlcc: Call, home: Path) -> None:
    publish(home, "q8_0", [26.0])
    publish(home, "q4_1", [50.0, 52.0], workload="other")
    words = ("recommend", "--config", entry_of(mlcc, "q8_0"), "--json")
    assert mlcc(*words).document["recommendations"] == []
    (found,) = mlcc(*words, "--strategy", "marginal").document["recommendations"]
    assert found["confidence_score"] == 0.25


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--config, or both --model and --instance"),
        (["--model", MODEL], "--config, or both"),
        (["--config", "rt-qwen3-4b", "--model", MODEL], "--config, or both"),
        (["--config", "rt-qwen3-4b", "--metric", "speed"], "no metric 'speed'"),
        (["--config", "rt-qwen3-4b", "--strategy", "best"], "matched, marginal"),
        (["--config", "no-such-entry"], "no-such-entry"),
        (["--model", MODEL, "--instance", "moon.1"], "no instance type 'moon.1'"),
    ],
)
def test_an_unusable_request_is_refused(mlcc: Call, home: Path, words: list[str], said: str) -> None:
    answer = mlcc("recommend", *words)
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
