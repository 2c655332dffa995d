"""`substitute --rank predicted`: the documented shape, what is shown, and the experiment that would prove the request."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from command_calls import LOGISTIC, TIMED_OUT, Call, result_row

from resources.result_store import ResultStore

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
FLASK = ["substitute", "--deployment-config", "http-flask", "--instance", "local.1cpu"]
PREDICTED = [*FLASK, "--model", "sklearn/logistic-regression-digits", "--rank", "predicted"]


def shape(document: Any) -> Any:
    """Return the keys of a document, level by level; of a list its first item, of a value nothing."""
    if isinstance(document, dict):
        return {key: shape(value) for key, value in document.items()}
    if isinstance(document, list):
        return [shape(document[0])] if document else []
    return None


@pytest.fixture
def measured_home(home: Path) -> Path:
    """A home in which three of the four predictors were measured at two levels; flask takes 1.5 times as long."""
    store = ResultStore(home / "results")
    forest = {"model_name": "sklearn/random-forest-digits", "model_family": "random-forest"}
    proven = [
        ("aaaa", forest | {"deployment_config": "http-fastapi"}, 20.0),
        ("bbbb", forest | {"deployment_config": "http-flask"}, 30.0),
        ("cccc", LOGISTIC | {"deployment_config": "http-fastapi"}, 10.0),
    ]
    for key, changed, latency in proven:
        levels = [result_row(key, **changed, concurrency=n, e2e_latency_p99_ms=latency * n) for n in (1, 4)]
        store.publish(f"{key}-g1", levels)
    return home


def test_the_request_is_predicted_beside_its_substitute_and_the_experiment_is_priced(mlcc: Call, measured_home: Path):
    document = mlcc(*PREDICTED, "--json").document
    (offered,) = document["substitutions"]
    assert offered["explanation"] == ["deployment_config: 'http-flask' → 'http-fastapi'"]
    assert offered["config"]["model_family"] == "logistic-regression"
    assert (offered["conditions"]["workload"], offered["conditions"]["concurrency"]) == ("local_predict", 1)
    latency = offered["e2e_latency_p99_ms"]
    assert latency["measured"] == 10.0
    assert latency["predicted_low"] < 15.0 < latency["predicted_high"]
    assert 10.0 < latency["predicted"] < 20.0
    assert latency["difference"] == pytest.approx(latency["predicted"] - 10.0, abs=0.001)
    assert latency["why_not"] is None
    cost = offered["cost_per_1m_tokens"]
    assert {value for name, value in cost.items() if name != "why_not"} == {None}, "predictors have no tokens"
    assert document["executor"] == "local"
    assert offered["swap_cost"] == document["swap_costs"]["deployment_config"]["swap_cost"] > 0
    assert [name for name, cost in document["swap_costs"].items() if cost["learned"]] == [
        "deployment_config",
        "model_family",
    ]
    planned = mlcc("path-prove", "--dry-run", "--json").document["picks"]
    (pick,) = [each for each in planned if each["config_id"] == document["experiment"]["config_id"]]
    assert document["experiment"]["configuration"] == pick["configuration"]
    assert document["experiment"]["most_usd"] == pytest.approx(pick["promised_usd"], rel=1e-3)
    assert document["experiment"]["most_seconds"] > 0


def test_the_documented_shape_is_the_one_that_is_printed(mlcc: Call, measured_home: Path):
    section = PAGE.read_text("utf-8").split("## `mlcc substitute`\n")[1].split("\n## ")[0]
    (block,) = re.findall(r"```json\n(.*?)```", section, re.S)
    documented = json.loads(block)
    assert documented["substitutions"][0].pop("config"), "the row that proves it, whatever columns it has"
    printed = mlcc(*PREDICTED, "--json").document
    printed["substitutions"][0].pop("config")
    one_dimension = {"deployment_config": printed["swap_costs"]["deployment_config"]}
    assert shape(printed | {"swap_costs": one_dimension}) == shape(documented)


def test_on_paper_it_says_the_same(mlcc: Call, measured_home: Path):
    answer = mlcc(*PREDICTED)
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[0].startswith("proven instead of http-flask · logistic-regression")
    assert "swap cost" in lines[1]
    (latency,) = [line for line in lines if "p99 request latency in ms  " in line and "local_predict at" in line]
    assert re.search(r"10 +1\d(\.\d+)? \(\d.* to \d.*\)", latency)
    (cost,) = [line for line in lines if "USD per 1M generated tokens  " in line and "local_predict at" in line]
    assert "no points measured, 3 are needed" in cost
    assert any(re.match(r"instance_family +0\.3 .* no, assumed$", line) for line in lines)
    assert lines[-1].startswith("cheapest experiment: http-flask sklearn/logistic-regression-digits local.1cpu (")
    assert any(line.startswith("note: no completed row has a usable cost_per_1m_tokens") for line in lines)


@pytest.mark.parametrize(
    ("words", "why_not"),
    [
        pytest.param(["--model-family", "random-forest"], "it is proven already", id="proven"),
        pytest.param(
            ["--model-family", "logistic-regression", "--tp-degree", "2"], "GPU", id="refuted by a constraint"
        ),
        pytest.param(
            ["--model-family", "linear"], "the catalog has nothing for model_family 'linear'", id="not in the catalog"
        ),
    ],
)
def test_why_there_is_no_experiment_is_said(mlcc: Call, measured_home: Path, words: list[str], why_not: str):
    experiment = mlcc(*FLASK, *words, "--rank", "predicted", "--json").document["experiment"]
    assert why_not in experiment.pop("why_not")
    assert set(experiment.values()) == {None}
    assert why_not in mlcc(*FLASK, *words, "--rank", "predicted").out.splitlines()[-1]


def test_what_waits_is_no_experiment(mlcc: Call, measured_home: Path):
    failed = result_row(
        "dddd", **LOGISTIC, deployment_config="http-flask", status="unfeasible", concurrency=0, **TIMED_OUT
    )
    ResultStore(measured_home / "results").publish("dddd-g1", [failed])
    experiment = mlcc(*PREDICTED, "--json").document["experiment"]
    assert experiment["why_not"] == "unfeasible: timeout: no answer"


def foreign(tmp_path: Path, rows: list[dict[str, object]]) -> list[str]:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows), "utf-8")
    return ["--results", str(path), "--rank", "predicted"]


def vllm(**values: object) -> dict[str, object]:
    return {
        "deployment_config": "transformers-vllm",
        "model_family": "qwen3",
        "instance_family": "g5",
        "quantization": "none",
        "tp_degree": 1,
        "deployment_target": "realtime-inference",
        "status": "completed",
        "run_timestamp": "2026-01-01T00:00:00Z",
    } | values


ASKED = [
    "substitute",
    "--deployment-config",
    "transformers-sglang",
    "--model-family",
    "qwen3",
    "--instance-family",
    "g5",
]


def test_a_foreign_table_is_asked_whatever_it_lacks_and_no_home_is_made(mlcc: Call, home: Path, tmp_path: Path):
    answer = mlcc(*ASKED, *foreign(tmp_path, [vllm(), vllm(instance_family="g6")]), "--json")
    document = answer.document
    assert [each["distance"] for each in document["substitutions"]] == [1, 2]
    assert document["executor"] is None
    assert [note.split(":")[0] for note in document["notes"]][:2] == [
        "no completed row has a usable cost_per_1m_tokens, nor output_token_throughput_tps with an instance_type that has a "
        "price in the catalog",
        "no completed row has a usable e2e_latency_p99_ms",
    ]
    assert document["experiment"]["why_not"], "this machine has no GPU instance"
    assert not home.exists()


def test_a_foreign_table_with_throughputs_alone_is_priced_by_the_catalog(mlcc: Call, tmp_path: Path):
    rows = [
        vllm(
            instance_type=f"ml.{family}.xlarge",
            instance_family=family,
            concurrency=n,
            output_token_throughput_tps=100.0 * n,
        )
        for family in ("g5", "g6")
        for n in (1, 2)
    ]
    first, _ = mlcc(*ASKED, *foreign(tmp_path, rows), "--json").document["substitutions"]
    assert first["cost_per_1m_tokens"]["measured"] == pytest.approx(1.408 / (100 * 3600) * 1e6, rel=1e-4)
    assert first["cost_per_1m_tokens"]["predicted"] > 0
    assert first["e2e_latency_p99_ms"]["why_not"] == "no points measured, 3 are needed"


def test_without_a_substitute_there_is_still_the_experiment(mlcc: Call, measured_home: Path):
    words = [
        "substitute",
        "--deployment-config",
        "transformers-llamacpp",
        "--instance",
        "local.1cpu",
        "--rank",
        "predicted",
    ]
    answer = mlcc(*words, "--model", "HuggingFaceTB/SmolLM2-135M-Instruct", "--quantization", "q4_0", "--json")
    assert answer.code == 0
    document = answer.document
    assert document["no_match"] is True
    assert document["message"].startswith("no coverage — nearest proven config is ")
    assert set(document["experiment"]) == {"configuration", "config_id", "most_seconds", "most_usd", "why_not"}


def test_an_unknown_rank_is_one_sentence_and_no_home_is_made(mlcc: Call, home: Path):
    answer = mlcc(*ASKED, "--rank", "best")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.strip().endswith("unknown rank 'best'; use one of hamming, predicted")
    assert not home.exists()


def test_without_a_rank_the_answer_is_that_of_hamming(mlcc: Call, measured_home: Path):
    words = [word for word in PREDICTED if word not in {"--rank", "predicted"}]
    plain = mlcc(*words, "--json").document
    assert plain == mlcc(*words, "--rank", "hamming", "--json").document
    assert set(plain) == {"substitutions"}
    assert set(plain["substitutions"][0]) == {"config", "distance", "explanation"}
