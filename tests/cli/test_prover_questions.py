"""`gaps`, `coverage`, `substitute` and `unfeasible`: foreign tables, the past, explanations, a person's word."""

import json
from pathlib import Path

import pytest
from command_calls import LOGISTIC, Call, result_row

from mlcc_dagster.core.configuration import DIMENSIONS
from resources.result_store import ResultStore

FLASK = "http-flask/logistic-regression/local/none/1/realtime-inference"


def foreign(tmp_path: Path, rows: list[dict[str, object]]) -> str:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows), "utf-8")
    return str(path)


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
        "run_type": "ci",
    } | values


def test_a_foreign_table_is_asked_and_no_home_is_made(mlcc: Call, home: Path, tmp_path: Path):
    path = foreign(tmp_path, [vllm(), vllm(quantization="fp8"), vllm(instance_family="g6")])
    document = mlcc("gaps", "--universe", "observed", "--results", path, "--json").document
    assert document["total"] == 1
    assert document["gaps"][0] == {
        **dict.fromkeys(DIMENSIONS),
        "deployment_config": "transformers-vllm",
        "model_family": "qwen3",
        "instance_family": "g6",
        "quantization": "fp8",
        "tp_degree": "1",
        "deployment_target": "realtime-inference",
        "neighbours": 2,
        "reason": "untested",
    }
    assert not home.exists()


def test_an_explanation_names_the_neighbours_and_what_the_reason_rests_on(mlcc: Call, tmp_path: Path):
    path = foreign(
        tmp_path, [vllm(), vllm(quantization="fp8", status="failed", failure_category="capacity", run_id="r1")]
    )
    words = ["gaps", "--universe", "observed", "--results", path, "--explain"]
    (gap,) = mlcc(*words, "--json").document["gaps"]
    assert gap["proven_neighbours"] == [{"dimension": "quantization", "proven": "none"}]
    assert gap["reason"] == "failed_retry_due"
    assert gap["detail"].startswith("capacity (attempt 1, retry due 2026-01-01 01:00 UTC")
    assert "     proven with quantization 'none'" in mlcc(*words).out.splitlines()


def test_the_past_is_what_was_known_then(mlcc: Call, proven_home: Path):
    proven = mlcc("coverage", "--json").document["counts"]["proven"]
    assert proven > 0
    assert mlcc("coverage", "--as-of", "2026-06-08", "--json").document["counts"]["proven"] == 0
    assert mlcc("coverage", "--as-of", "2026-06-09", "--json").document["counts"]["proven"] == proven
    assert mlcc("coverage", "--as-of", "2026-06-09T14:00", "--json").document["counts"]["proven"] == 0


def test_interactions_are_counted_and_missing_ones_listed(mlcc: Call, proven_home: Path):
    found = mlcc("coverage", "--interactions", "2", "--limit", "2", "--json").document["interactions"]
    assert found["strength"] == 2
    assert len(found["subsets"]) == 15
    assert found["covered"] == sum(subset["covered"] for subset in found["subsets"])
    assert found["missing_total"] == found["possible"] - found["covered"] > 2
    assert len(found["missing"]) == 2
    text = mlcc("coverage", "--interactions", "2", "--limit", "2").out
    assert f"2 of {found['missing_total']} missing ones shown" in text


def test_excluded_vectors_are_counted_by_what_rules_them_out(mlcc: Call, proven_home: Path):
    document = mlcc("coverage", "--json").document
    assert document["counts"]["excluded"] == sum(each["vectors"] for each in document["excluded"]) > 0
    assert "kind-match" in {each["by"] for each in document["excluded"]}
    cells = document["matrix"]["cells"]
    assert len({cell["possible"] + cell["excluded"] for cell in cells}) == 1, "every crossing is as large"
    assert all(cell["excluded"] > 0 for cell in cells)


@pytest.mark.parametrize(
    ("asked", "distances"),
    [
        pytest.param(["--quantization", "none"], [0, 1], id="what is proven is distance 0"),
        pytest.param(["--quantization", "awq"], [1, 1], id="another quantization"),
        pytest.param(["--quantization", "awq", "--top", "1"], [1], id="only the best"),
    ],
)
def test_substitutes_are_offered_nearest_first(mlcc: Call, tmp_path: Path, asked: list[str], distances: list[int]):
    path = foreign(tmp_path, [vllm(), vllm(quantization="fp8", run_timestamp="2026-02-01T00:00:00Z")])
    base = ["substitute", "--deployment-config", "transformers-vllm", "--results", path]
    named = [*base, "--model-family", "qwen3", "--instance-family", "g5", "--tp-degree", "1", *asked]
    document = mlcc(*named, "--json").document
    assert [each["distance"] for each in document["substitutions"]] == distances
    if distances[0] == 1:
        first = document["substitutions"][0]
        assert first["explanation"] == ["quantization: 'awq' → 'fp8'"], "the newest of equally near ones"
        assert first["config"]["run_timestamp"] == "2026-02-01T00:00:00Z"
    derived = mlcc(*base, "--model", "Qwen/Qwen3-4B", "--instance", "ml.g5.xlarge", *asked, "--json").document
    assert derived == document


def test_without_a_substitute_the_answer_says_how_far(mlcc: Call, tmp_path: Path):
    path = foreign(tmp_path, [vllm()])
    words = ["substitute", "--deployment-config", "transformers-vllm", "--model-family", "llama3"]
    answer = mlcc(*words, "--instance-family", "g5", "--results", path, "--json")
    assert answer.code == 0
    assert answer.document == {
        "no_match": True,
        "message": "no coverage — nearest proven config is 1 dimensions away",
    }
    nothing = mlcc(*words, "--instance-family", "g5", "--results", foreign(tmp_path, []))
    assert (nothing.code, nothing.out) == (0, "no coverage — no proven configs available\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gaps", "--as-of", "soon"], ["--as-of takes a day or a time"]),
        (["coverage", "--interactions", "4", "--by", "x"], ["--by takes two", "--interactions takes 1, 2 or 3, not 4"]),
        (["gaps", "--results", "absent.csv"], ["absent.csv has 1 mistake", "cannot be read"]),
        (
            ["substitute", "--model", "m", "--model-family", "f", "--top", "0"],
            ["--deployment-config is missing", "one of --model and", "one of --instance and", "--top must be 1"],
        ),
        (["unfeasible", "mark", "a/b", "--reason", " "], ["--reason is empty", "a vector has 6 values"]),
        (["unfeasible", "lift", FLASK.replace("flask", "flusk"), "--reason", "x"], ["'http-flusk' is not in the"]),
    ],
)
def test_every_mistake_of_a_request_is_said_at_once(mlcc: Call, home: Path, words: list[str], said: list[str]):
    answer = mlcc(*words)
    assert (answer.code, answer.out) == (2, "")
    for part in said:
        assert part in answer.err
    assert not home.exists()


def test_a_marked_vector_is_no_longer_started_until_it_is_lifted(mlcc: Call, proven_home: Path):
    def reason() -> str:
        found = mlcc("gaps", "--limit", "0", "--json").document["gaps"]
        (gap,) = [g for g in found if g["deployment_config"] == "http-flask"]
        return gap["reason"]

    assert reason() == "untested"
    marked = mlcc("unfeasible", "mark", FLASK, "--reason", "flask is old")
    assert (marked.code, marked.err) == (0, "")
    assert marked.out.endswith("untested before, unfeasible now\n")
    assert reason() == "unfeasible"
    (verdict,) = [v for v in mlcc("unfeasible", "list", "--json").document["verdicts"] if v["live"]]
    assert verdict["why"].startswith("marked: flask is old (")
    assert FLASK.replace("/", " · ") == verdict["vector"]
    mlcc("unfeasible", "lift", FLASK, "--reason", "it is not")
    assert reason() == "unfeasible_expired"
    (ended,) = [v for v in mlcc("unfeasible", "list", "--json").document["verdicts"] if not v["live"]]
    assert "it is not" in ended["why"]


def test_there_is_nothing_to_lift_where_nothing_was_said_or_found(mlcc: Call, proven_home: Path):
    answer = mlcc("unfeasible", "lift", FLASK, "--reason", "it works")
    assert (answer.code, answer.out) == (2, "")
    assert "is untested: there is no verdict to lift" in answer.err


def test_words_that_are_no_text_are_refused_in_one_sentence(mlcc: Call, home: Path):
    answer = mlcc("unfeasible", "mark", FLASK, "--reason", "bad\udcff")
    assert (answer.code, answer.out) == (2, "")
    assert "no text in the encoding of this terminal" in answer.err
    assert not home.exists()


def test_what_a_foreign_table_cannot_print_is_escaped_and_times_that_are_none_are_counted(mlcc: Call, tmp_path: Path):
    rows = [vllm(run_timestamp="soon"), vllm(quantization="\ud800", status="failed", run_id=["a"])]
    answer = mlcc("gaps", "--universe", "observed", "--results", foreign(tmp_path, rows), "--json")
    assert answer.code == 0
    assert answer.document["gaps"][0]["quantization"] == "\ud800"
    assert "1 row of" in answer.err


def test_a_verdict_of_another_engine_has_expired(mlcc: Call, proven_home: Path):
    row = result_row(
        "c0ffee",
        **LOGISTIC,
        deployment_config="http-flask",
        status="unfeasible",
        failure_category="code_bug",
        failure_reason="it crashed",
        failure_stage="deploy",
        engine="flask 0.1",
        evidence="{}",
    )
    ResultStore(proven_home / "results").publish("c0ffee-g1", [row])
    (verdict,) = mlcc("unfeasible", "list", "--json").document["verdicts"]
    assert verdict["live"] is False
    assert "engine changed from flask 0.1 to " in verdict["why"]
    reasons = {g["deployment_config"]: g["reason"] for g in mlcc("gaps", "--limit", "0", "--json").document["gaps"]}
    assert reasons["http-flask"] == "unfeasible_expired"


TARGETS = """
version: 1
defaults: {instance_type: local.1cpu, deployment_config: http-flask}
targets:
- {model_name: sklearn/logistic-regression-digits}
- {model_name: Qwen/Qwen3-32B, instance_type: ml.g5.xlarge, deployment_config: transformers-vllm}
- {model_name: sklearn/random-forest-digits}
- {model_name: HuggingFaceTB/SmolLM2-135M-Instruct, deployment_config: transformers-llamacpp, stages: [tune-sft]}
"""


def test_priority_targets_come_before_any_gap_and_proven_ones_are_done(mlcc: Call, proven_home: Path, tmp_path: Path):
    (tmp_path / "targets.yaml").write_text(TARGETS, "utf-8")
    words = ["path-prove", "--dry-run", "--json"]
    plain = mlcc(*words).document["picks"]
    answer = mlcc(*words, "--targets", str(tmp_path / "targets.yaml"))
    first, *others = answer.document["picks"]
    assert first["configuration"] == "http-flask sklearn/logistic-regression-digits local.1cpu"
    assert first["why"].startswith("priority target 1, ")
    assert not any("priority" in pick["why"] for pick in others), "the third is proven, the others cannot run here"
    assert {pick["config_id"] for pick in plain} == {pick["config_id"] for pick in answer.document["picks"]}
    left_out = [line for line in answer.err.splitlines() if "is left out" in line]
    assert len(left_out) == 2
    assert "70.40 GB" in left_out[0]
    assert "it asks for tune, which a path proof does not run" in left_out[1]


def test_every_mistake_of_a_targets_file_is_said_at_once_and_no_home_is_made(mlcc: Call, home: Path, tmp_path: Path):
    path = tmp_path / "targets.yaml"
    path.write_text("version: 2\ntargets: [{modelname: x}, {model_name: y, tp_degree: many}]", "utf-8")
    answer = mlcc("path-prove", "--targets", str(path), "--dry-run")
    assert (answer.code, answer.out) == (2, "")
    for said in ("version", "modelname", "tp_degree"):
        assert said in answer.err
    absent = mlcc("path-prove", "--targets", str(tmp_path / "absent.yaml"))
    assert (absent.code, absent.out) == (2, "")
    assert "there is no file" in absent.err
    assert absent.err.endswith("name an existing one\n")
    assert not home.exists()
