"""Reading prove.json: what a sound document says, and every mistake with its place and what would be right."""

import json
from typing import Any

import pytest

from catalog.loader import load_catalog
from mlcc_dagster.core.exceptions import InvalidInput
from mlcc_dagster.core.prove_documents import ProveDocument
from mlcc_dagster.core.prove_reading import BASE_FIELDS, read_prove_document
from mlcc_dagster.core.stages import CANONICAL_ORDER, Stage

CATALOG = load_catalog()
BASE = {
    "model_name": "Qwen/Qwen3-0.6B",
    "deployment_config": "transformers-vllm",
    "instance_type": "ml.g5.xlarge",
}
GATE = ["build", "deploy", "test"]
ABSENT = object()


def document(**changes: Any) -> dict[str, Any]:
    whole = {"schema_version": "1", "base": BASE, "sweep": {}, "stages": GATE} | changes
    return {name: value for name, value in whole.items() if value is not ABSENT}


def read(raw: Any, **overrides: Any) -> ProveDocument:
    text = raw if isinstance(raw, str) else json.dumps(raw)
    return read_prove_document(text, CATALOG, source="prove.json", overrides=overrides)


def problems(raw: Any, **overrides: Any) -> tuple[str, ...]:
    with pytest.raises(InvalidInput) as refused:
        read(raw, **overrides)
    assert refused.value.subject == "prove.json"
    assert refused.value.exit_code == 2
    return refused.value.problems


# ---- what is sound


def test_time_and_budget_have_defaults_and_full_precision_has_one_name():
    sound = read(document(base=BASE | {"quantization": "bf16"}, sweep={"quantization": ["fp16", None, "awq"]}))
    assert (sound.timeout_minutes, sound.budget_usd) == (90.0, 50.0)
    assert sound.base["quantization"] == "none"
    assert sound.sweep["quantization"] == ("none", "none", "awq")
    assert sound.written["quantization"] == ("fp16", None, "awq")


@pytest.mark.parametrize(
    ("named", "runs", "reason"),
    [
        (
            ["clean", "build", "generate"],
            "generate validate build push clean",
            "generate and clean wherever they stand",
        ),
        (["build", "stage"], "stage generate validate build push clean", "stage before generate"),
        (["generate"], "generate validate clean", "validate and clean go with it"),
        (["build", "push", "deploy", "test"], "generate validate build push deploy test clean", "push named"),
        (["submit", "deploy_test", "teardown"], "generate validate build push deploy test clean", "other words"),
        (
            ["build", "deploy", "test", "tune-sft", "adapter-add", "test-adapter"],
            "generate validate build push deploy test tune adapter test_adapter clean",
            "tuning with its technique",
        ),
        (
            ["build", "deploy", "test", "benchmark", "register"],
            "generate validate build push deploy test benchmark register clean",
            "what follows the gate",
        ),
    ],
)
def test_stages_run_in_their_order_with_what_belongs_to_them(named: list[str], runs: str, reason: str):
    stages = read(document(stages=named)).stages
    assert [stage.value for stage in stages] == runs.split(), reason
    assert list(stages) == sorted(stages, key=CANONICAL_ORDER.index)


def test_a_technique_is_kept_and_a_plain_tune_names_none():
    assert read(document(stages=[*GATE, "tune-dpo"])).technique == "dpo"
    assert read(document(stages=[*GATE, "tune"])).technique is None
    assert read(document(stages=[*GATE, "tune"])).tunes


@pytest.mark.parametrize("name", BASE_FIELDS)
def test_every_field_of_a_base_may_be_swept(name: str):
    values = {
        "max_model_len": [1024, None],
        "enable_lora": [True, False],
        "serving_params": [{"max_num_seqs": 4}, {}],
        "infra_params": [{"capacity_reservation_arn": "arn:aws:sagemaker:eu-west-1:1:x"}, {}],
        "quantization": ["awq", "none"],
    }
    swept = values.get(name, [BASE.get(name)])
    base = {key: value for key, value in BASE.items() if key != name}
    assert len(read(document(base=base, sweep={name: swept})).sweep[name]) == len(swept)


def test_a_model_of_a_known_family_needs_no_entry_in_the_list_of_models():
    assert "Qwen/Qwen3-0.6B-Base" not in CATALOG.models
    assert (
        read(document(base=BASE | {"model_name": "Qwen/Qwen3-0.6B-Base"})).base["model_name"] == "Qwen/Qwen3-0.6B-Base"
    )


def test_an_option_replaces_a_field_of_the_base_even_a_wrong_one():
    assert read(document(base=BASE | {"quantization": "nope"}), quantization="awq").base["quantization"] == "awq"
    base = {name: value for name, value in BASE.items() if name != "instance_type"}
    assert read(document(base=base), instance_type="ml.g5.2xlarge").base["instance_type"] == "ml.g5.2xlarge"


# ---- mistakes

ONE_MISTAKE = [
    ("[]", "the document: must be an object with base, sweep and stages, not []", "a list"),
    ("{", "line 1: is no JSON", "broken off"),
    ('{"base": {},\n "base": {}}', "key 'base' is given twice in one object; keep one", "a key twice"),
    ("[" * 100_000, "the document: is nested too deeply", "a bomb"),
    (json.dumps(document())[:-1] + ', "budget_usd": NaN}', "budget_usd: is no number of JSON; write a finite one", "no number"),
    (json.dumps(document())[:-1] + ', "timeout_minutes": 1e999}', "timeout_minutes: is no number of JSON", "beyond a float"),
    (document(schema_version=ABSENT), "schema_version: is missing", "no version"),
    (document(schema_version=1), 'schema_version: must be "1", not 1', "a number for the version"),
    (document(schema_version="2"), 'schema_version: must be "1", not 2; update mlcc', "a newer version"),
    (document(swep={}), "swep: unknown field; did you mean 'sweep'?", "a mistyped key"),
    (document(base=ABSENT), "base: is missing", "no base"),
    (document(base=[]), "base: must be a mapping", "a base that is a list"),
    (document(base=BASE | {"quantisation": "awq"}), "base.quantisation: unknown field; did you mean", "a mistyped field"),
    (document(base={k: v for k, v in BASE.items() if k != "model_name"}), "base.model_name: is missing; give it a value or "
     "sweep it", "no model anywhere"),
    (document(base=BASE | {"model_name": None}), "base.model_name: must be a text, not null", "no model"),
    (document(base=BASE | {"model_name": "nobody/nothing"}), "base.model_name: 'nobody/nothing' is in no model list",
     "an unknown model of no family"),
    (document(base=BASE | {"model_name": "Qwen/Qwen3\n"}), "base.model_name: must be one line of printable text", "two lines"),
    (document(base=BASE | {"deployment_config": "transformers-vlm"}), "base.deployment_config: 'transformers-vlm' is not "
     "known; did you mean 'transformers-vllm'?", "a mistyped server"),
    (document(base=BASE | {"instance_type": "ml.g5.xlarg"}), "base.instance_type: 'ml.g5.xlarg' is not known; did you mean "
     "'ml.g5.xlarge'?", "a mistyped instance"),
    (document(base=BASE | {"instance_type": 5}), "base.instance_type: must be a text, not 5", "a number for a name"),
    (document(base=BASE | {"quantization": "awqq"}), "base.quantization: 'awqq' is not known; did you mean 'awq'?", "a slip"),
    (document(base=BASE | {"max_model_len": "4096"}), "base.max_model_len: must be a whole number of at least 1 or null, not "
     "4096", "a text for a length"),
    (document(base=BASE | {"max_model_len": 0}), "base.max_model_len: must be a whole number", "no length"),
    (document(base=BASE | {"max_model_len": True}), "base.max_model_len: must be a whole number", "true is no number"),
    (document(base=BASE | {"enable_lora": "yes"}), "base.enable_lora: must be true or false, not yes", "a text for a switch"),
    (document(base=BASE | {"serving_params": []}), "base.serving_params: must be an object of names and values", "a list"),
    (document(base=BASE | {"serving_params": {"a-b": 1}}), "base.serving_params.a-b: cannot name an environment variable",
     "a dash"),
    (document(base=BASE | {"serving_params": {"x": [1]}}), "base.serving_params.x: must be one line of text, a number",
     "a list for a value"),
    (document(base=BASE | {"serving_params": {"quantization": "awq"}}), "base.serving_params.quantization: is a field of its "
     "own; write quantization beside serving_params", "a field among the parameters"),
    (document(base=BASE | {"serving_params": {"tensor_parallel_size": "two"}}), "base.serving_params.tensor_parallel_size: "
     "must be a whole number of at least 1", "no degree"),
    (document(base=BASE | {"serving_params": {"x": 1, "X": 2}}), "base.serving_params.X: x is the same parameter in other "
     "letters; keep one spelling", "one parameter in two spellings"),
    (document(base=BASE | {"infra_params": {"arn": "x"}}), "base.infra_params.arn: unknown field", "another infra parameter"),
    (document(base=BASE | {"infra_params": {"capacity_reservation_arn": "x"}}), "base.infra_params.capacity_reservation_arn: "
     "must be the ARN", "no ARN"),
    (document(sweep=[]), "sweep: must be an object of axes", "axes without names"),
    (document(sweep={"quantization": []}), "sweep.quantization: must be a list of at least one value, not []", "no value"),
    (document(sweep={"quantization": "awq"}), "sweep.quantization: must be a list of at least one value, not awq", "a value"),
    (document(sweep={"quantization": ["awq", "none", "nope"]}), "sweep.quantization[2]: 'nope' is not known", "the third"),
    (document(sweep={"tp_degree": [1]}), "sweep.tp_degree: unknown axis", "no field of a base"),
    (document(sweep={"serving_params.": [1]}), "sweep.serving_params.: unknown axis", "a dot and nothing"),
    (document(sweep={"serving_params.x": [1, {}]}), "sweep.serving_params.x[1]: must be one line of text", "a nested value"),
    (document(sweep={"serving_params": [{}], "serving_params.x": [1]}), "sweep.serving_params.x: serving_params is swept as "
     "a whole too; keep one of both axes", "the whole and a part"),
    (document(base=BASE | {"serving_params": {"x": 1}}, sweep={"serving_params.X": [2]}), "sweep.serving_params.X[0]: x is the "
     "same parameter", "two spellings, one of them swept"),
    (document(sweep={f"serving_params.p{n}": list(range(10)) for n in range(5)}), "sweep: makes 100,000 points; sweep less, "
     "at most 10,000", "too much"),
    (document(stages=ABSENT), "stages: is missing", "no stages"),
    (document(stages=[]), "stages: is empty; name at least build, deploy and test", "none"),
    (document(stages="build"), "stages: must be a list of texts", "a text"),
    (document(stages=["build", "deplox"]), "stages: 'deplox' is not known; did you mean 'deploy'?", "a slip"),
    (document(stages=["build", "build"]), "stages: names something twice", "the same word twice"),
    (document(stages=["submit", "push"]), "stages: names push twice in different words", "the same stage in two words"),
    (document(stages=["deploy", "build", "test"]), "stages: must be in this order: build, deploy, test", "out of order"),
    (document(stages=["deploy"]), "stages: has deploy without build; add build", "nothing to deploy"),
    (document(stages=["build", "deploy", "benchmark"]), "stages: has benchmark without test; add test", "untested figures"),
    (document(stages=[*GATE, "tune-sft", "adapter", "test-adapter", "tune-dpo"]), "stages: tunes by sft and dpo; keep one "
     "technique", "two techniques"),
    (document(stages=[*GATE, "test-adapter"]), "stages: has test_adapter without adapter; add adapter", "no adapter"),
    (document(stages=[*GATE, "tune"], base=BASE | {"enable_lora": False}), "base.enable_lora: must be true, since the stages "
     "tune an adapter", "tuning without LoRA"),
    (document(stages=[*GATE, "tune"], sweep={"enable_lora": [True, False]}), "sweep.enable_lora[1]: must be true", "and swept"),
    (document(timeout_minutes=0), "timeout_minutes: must be above 0, not 0", "no time"),
    (document(timeout_minutes=20_000), "timeout_minutes: must be at most 10080, not 20000", "more than a week"),
    (document(timeout_minutes="90"), "timeout_minutes: must be a number, not '90'", "a text for a number"),
    (document(budget_usd=-1), "budget_usd: must be above 0, not -1", "less than nothing"),
    (document(budget_usd=10**400), "budget_usd: is no number of JSON", "a number that no float holds"),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "mistake", "reason"), ONE_MISTAKE, ids=[reason for _, _, reason in ONE_MISTAKE])
def test_a_mistake_is_one_sentence_with_its_place(raw: Any, mistake: str, reason: str):
    (found,) = problems(raw)
    assert found.startswith(mistake), reason


def test_all_mistakes_of_all_parts_come_at_once():
    raw = document(
        schema_version="9",
        base={"model_name": 5, "quantization": "nope"},
        sweep={"instance_type": ["ml.g5.xlarge", "ml.g5.nope"], "colour": ["red"]},
        stages=["deploy"],
        budget_usd=0,
        extra=1,
    )
    places = [problem.partition(":")[0] for problem in problems(raw)]
    assert places == [
        "schema_version",
        "base.model_name",
        "base.quantization",
        "sweep.instance_type[1]",
        "sweep.colour",
        "base.deployment_config",
        "stages",
        "budget_usd",
        "extra",
    ]


@pytest.mark.parametrize(
    ("overrides", "sweep", "mistake"),
    [
        ({"instance_type": "ml.g5.nope"}, {}, "--instance-type: 'ml.g5.nope' is not known"),
        ({"max_model_len": 0}, {}, "--max-model-len: must be a whole number"),
        (
            {"quantization": "awq"},
            {"quantization": ["none"]},
            "--quantization: the document sweeps quantization; drop the",
        ),
    ],
)
def test_a_mistake_of_an_option_is_named_as_the_option(overrides: dict[str, Any], sweep: dict[str, Any], mistake: str):
    (found,) = problems(document(sweep=sweep), **overrides)
    assert found.startswith(mistake)


def test_a_byte_order_mark_before_the_document_is_no_mistake():
    assert read("\ufeff" + json.dumps(document())).stages[0] is Stage.GENERATE
