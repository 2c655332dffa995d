"""The compatible JSON form: what it says is what an entry holds, both ways, and every mistake is found at once."""

import json
import shlex
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import CatalogError
from catalog.json_entries import STEPS, TECHNIQUES, TIERS, json_document, read_json_entries
from catalog.loader import load_catalog
from catalog.model import LIFECYCLE_STEPS, Entry, EntryBenchmark, TuneConfig
from mlcc_dagster.core.stages import SPELLINGS
from mlcc_dagster.core.stages import TECHNIQUES as DOMAIN_TECHNIQUES

CATALOG = load_catalog()
GOLDEN = [entry for entry in CATALOG.entries if entry.tier != "local"]

# As the end-to-end catalog of existing installations writes an entry.
CONFIG: dict[str, Any] = {
    "id": "rt-qwen3-06b-east",
    "tier": "ci",
    "track": "realtime",
    "args": "--deployment-config=transformers-vllm --model-name=Qwen/Qwen3-0.6B --instance-type=ml.g5.xlarge "
    "--region=us-east-1 --enable-lora",
    "lifecycle": ["build", "push", "deploy", "test", "tune-sft", "adapter-add", "test-adapter", "clean"],
    "timeout": 1800,
    "tuneTimeout": 3600,
    "tuneConfig": {
        "tuneId": "huggingface-reasoning-qwen3-06b",
        "technique": "sft",
        "trainingType": "lora",
        "dataset": "s3://mlcc-e2e-datasets/sft-small/train.jsonl",
    },
}
PLAIN_STEPS = ["build", "push", "deploy", "test", "clean"]


def text_of(*configs: Any) -> str:
    return json.dumps({"configs": list(configs)})


def config(**changes: Any) -> dict[str, Any]:
    """Return the entry above with changes; a change to `...` takes the key away."""
    return {name: value for name, value in {**CONFIG, **changes}.items() if value is not ...}


def served(args: str, **changes: Any) -> dict[str, Any]:
    """Return an entry that serves without tuning."""
    return config(args=args, lifecycle=PLAIN_STEPS, tuneConfig=..., tuneTimeout=..., **changes)


def read_one(raw: dict[str, Any]) -> Entry:
    (entry,) = read_json_entries(text_of(raw), CATALOG)
    return entry


def problems_of(text: str) -> tuple[str, ...]:
    with pytest.raises(CatalogError) as refused:
        read_json_entries(text, CATALOG, source="e2e.json")
    assert str(refused.value).startswith("e2e.json has ")
    return refused.value.problems


def test_an_entry_is_read_as_existing_installations_mean_it():
    assert read_one(config()) == Entry(
        id="rt-qwen3-06b-east",
        tier="ci",
        track="realtime",
        deployment_config="transformers-vllm",
        model_name="Qwen/Qwen3-0.6B",
        instance_type="ml.g5.xlarge",
        region="us-east-1",
        deployment_target="realtime-inference",
        quantization="none",
        tp_degree=None,
        max_model_len=None,
        enable_lora=True,
        serving_params=MappingProxyType({}),
        # generation comes with args
        lifecycle=("generate", "build", "push", "deploy", "test", "tune", "adapter", "test_adapter", "clean"),
        timeout=1800,
        tune_timeout=3600,
        tune_config=TuneConfig(
            "huggingface-reasoning-qwen3-06b", "sft", "lora", "s3://mlcc-e2e-datasets/sft-small/train.jsonl"
        ),
        benchmark=EntryBenchmark(False, "multi_turn_chat", (1, 4, 8)),
        expected_failure=None,
    )


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (
            "--deployment-config transformers-vllm --model-name Qwen/Qwen3-4B --instance-type ml.g5.xlarge",
            "--key value",
        ),
        (
            "--backend=transformers-vllm --model-name='Qwen/Qwen3-4B' --instance-type \"ml.g5.xlarge\"",
            "alias and quotes",
        ),
        (
            "  --instance-type=ml.g5.xlarge\n --model-name=Qwen/Qwen3-4B\t--deployment-config=transformers-vllm ",
            "any white space, any order",
        ),
        (
            "--deployment-config=transformers-vllm --model-name=Qwen/Qwen3-4B --instance-type=ml.g5.xlarge "
            "--skip-prompts --offline --enable-lora=false --deployment-target=managed-inference",
            "how the generator is started, a switch that is off, the target's old name",
        ),
        (
            "--deployment-config=transformers-vllm --model-name=Qwen/Qwen3-4B --instance-type=ml.g5.xlarge "
            "--region us-west-2 --region=us-west-2",
            "the same twice is no contradiction",
        ),
    ],
)
def test_args_are_read_as_a_shell_reads_them(args: str, reason: str):
    entry = read_one(served(args))
    told = (entry.deployment_config, entry.model_name, entry.instance_type, entry.region, entry.enable_lora)
    assert told == ("transformers-vllm", "Qwen/Qwen3-4B", "ml.g5.xlarge", "us-west-2", False), reason
    assert entry.deployment_target == "realtime-inference"


VLLM = "--deployment-config=transformers-vllm --model-name=Qwen/Qwen3-4B --instance-type=ml.g5.12xlarge"


@pytest.mark.parametrize(
    ("environment", "expected", "reason"),
    [
        ("--server-env SM_VLLM_MAX_MODEL_LEN=4096", {"max_model_len": 4096}, "a field of its own"),
        ("--server-env=SM_VLLM_TENSOR_PARALLEL_SIZE=2", {"tp_degree": 2}, "the value itself contains ="),
        ("--server-env=sm_vllm_quantization=fp8", {"quantization": "fp8"}, "names in any case"),
        ("--server-env=SM_VLLM_QUANTIZATION=bf16", {"quantization": "none"}, "full precision has one name"),
        (
            "--server-env SM_VLLM_KV_CACHE_DTYPE=fp8 --server-env='SM_VLLM_EXTRA=a=b c'",
            {"serving_params": {"kv_cache_dtype": "fp8", "extra": "a=b c"}},
            "several, one with = and a blank in its value",
        ),
    ],
)
def test_server_environment_becomes_fields_and_serving_parameters(environment: str, expected: dict, reason: str):
    entry = read_one(served(f"{VLLM} {environment}"))
    assert {name: getattr(entry, name) for name in expected} == expected, reason


def test_an_instance_of_this_machine_is_in_its_region_unasked():
    entry = read_one(served("--deployment-config=http-flask --instance-type=local.1cpu", tier="weekly"))
    assert (entry.region, entry.model_name) == ("local", None)


@pytest.mark.parametrize("track", ["realtime", "hyperpod", "async", "batch"])
def test_each_track_is_one_target(track: str):
    entry = read_one(served(VLLM, track=track))
    assert entry.deployment_target in CATALOG.deployment_targets
    assert CATALOG.deployment_targets[entry.deployment_target].track == track


def test_submit_stands_for_build_and_push():
    entry = read_one(served(VLLM) | {"lifecycle": ["submit", "deploy", "test", "clean"]})
    assert entry.lifecycle == ("generate", "build", "push", "deploy", "test", "clean")


def test_what_is_measured_without_being_said_is_the_default():
    entry = read_one(served(VLLM) | {"lifecycle": ["build", "push", "deploy", "test", "benchmark", "clean"]})
    assert entry.benchmark == EntryBenchmark(True, "multi_turn_chat", (1, 4, 8))


# ---- mistakes

WRONG = [
    (config(id="RT_1"), "configs[0].id", "must match [a-z0-9-]+", "characters of an id"),
    (config(id=...), "configs[0].id", "is missing", "required"),
    (config(tier="local"), "configs[0].tier", "known are ci, nightly, weekly", "tiers of the form"),
    (config(track="realtim"), "configs[0].track", "did you mean 'realtime'?", "a slip of the finger"),
    (config(timeout=59), "configs[0].timeout", "must be at least 60, not 59", "shortest timeout"),
    (config(timeout="1800"), "configs[0].timeout", "must be a whole number", "a text is no number"),
    (config(timeout=True), "configs[0].timeout", "must be a whole number", "a boolean neither"),
    (config(timeout=-(10**400)), "configs[0].timeout", "must be a whole number", "beyond any number of seconds"),
    (config(tuneTimeout=30), "configs[0].tuneTimeout", "must be at least 60", "shortest tune timeout"),
    (config(tune_timeout=90), "configs[0].tune_timeout", "did you mean 'tuneTimeout'?", "our own form's key"),
    (config(benchmark={}), "configs[0].benchmark", "unknown field", "our own form's addition"),
    (config(lifecycle=[]), "configs[0].lifecycle", "is empty", "no step"),
    (config(lifecycle="build"), "configs[0].lifecycle", "must be a list of texts", "no list"),
    (
        config(lifecycle=["build", "deploy", "test", "tune-sftt", "clean"]),
        "configs[0].lifecycle",
        "did you mean 'tune-sft'?",
        "unknown step",
    ),
    (
        config(lifecycle=["build", "push", "deploy", "tune-sft", "test", "clean"]),
        "configs[0].lifecycle",
        "'tune-sft' must lie after test and before clean",
        "tuning before the test",
    ),
    (
        config(lifecycle=["build", "push", "deploy", "test", "clean", "tune-sft"]),
        "configs[0].lifecycle",
        "'tune-sft' must lie after test and before clean",
        "tuning after clean",
    ),
    (
        config(lifecycle=["build", "push", "deploy", "tune-sft", "clean"]),
        "configs[0].lifecycle",
        "'tune-sft' must lie after test",
        "tuning without a test",
    ),
    (
        config(lifecycle=["push", "build", "deploy", "test", "tune-sft", "clean"]),
        "configs[0].lifecycle",
        "must be in this order: build, push, deploy, test, tune-sft, clean",
        "other disorder",
    ),
    (
        config(lifecycle=["build", "push", "deploy", "test", "tune-sft", "tune-dpo", "clean"]),
        "configs[0].lifecycle",
        "has tune twice",
        "one tuning per entry",
    ),
    (
        config(lifecycle=["build", "push", "deploy", "test", "tune-sft"]),
        "configs[0].lifecycle",
        "must end with clean",
        "no clean",
    ),
    (
        config(lifecycle=["build", "push", "deploy", "test", "adapter-add", "clean"]),
        "configs[0].lifecycle",
        "without a tune step",
        "no adapter was made",
    ),
    (config(tuneConfig=...), "configs[0].tuneConfig", "is missing although the lifecycle tunes", "tune needs it"),
    (
        config(args=CONFIG["args"].replace(" --enable-lora", "")),
        "configs[0].args",
        "must have --enable-lora",
        "tuning makes an adapter",
    ),
    (config(args="--region 'us"), "configs[0].args", "no closing quotation", "an open quote"),
    (config(args=""), "configs[0].args", "must be a text", "empty"),
    (config(args=CONFIG["args"] + " fast"), "configs[0].args", "'fast' belongs to no flag", "a word alone"),
    (config(args=CONFIG["args"] + " --model-format=pkl"), "configs[0].args", "no flag that an entry", "not held"),
    (
        config(args=CONFIG["args"] + " --modle-name x"),
        "configs[0].args",
        "did you mean '--model-name'?",
        "a slip, its value is no mistake of its own",
    ),
    (config(args=CONFIG["args"] + " --region"), "configs[0].args", "--region has no value", "nothing follows"),
    (config(args=CONFIG["args"] + " --region=us-west-2"), "configs[0].args", "given twice", "two regions"),
    (config(args=CONFIG["args"] + " --enable-lora=no"), "configs[0].args", "must be true or false", "a switch"),
    (config(args="--instance-type=ml.g5.xlarge --enable-lora"), "configs[0].args", "--deployment-config is", "missing"),
    (config(args=CONFIG["args"].replace("0.6B", "6B")), "configs[0].args", "--model-name 'Qwen/Qwen3-6B'", "unknown"),
    (config(args=CONFIG["args"].replace("east-1", "east-9")), "configs[0].args", "'us-east-9' is not", "unknown"),
    (config(args=CONFIG["args"].replace("us-east-1", "local")), "configs[0].args", "--region must be", "not there"),
    (
        config(args=CONFIG["args"] + " --deployment-target=batch-transform"),
        "configs[0].args",
        "must be realtime-inference for track realtime",
        "track and target contradict each other",
    ),
    (config(args=CONFIG["args"] + " --server-env X"), "configs[0].args", "must be KEY=VALUE", "no pair"),
    (config(args=CONFIG["args"] + " --server-env X=1"), "configs[0].args", "must begin with SM_VLLM_", "prefix"),
    (
        config(args=CONFIG["args"] + " --server-env SM_VLLM_MAX_MODEL_LEN=4k"),
        "configs[0].args",
        "must be a whole number above 0, not '4k'",
        "a length",
    ),
    (
        config(args=CONFIG["args"] + " --server-env SM_VLLM_QUANTIZATION=fp9"),
        "configs[0].args",
        "did you mean 'fp",
        "unknown quantization",
    ),
    (
        served("--deployment-config=http-flask --instance-type=ml.m5.large --server-env A=1"),
        "configs[0].args",
        "flask takes no parameters from its environment",
        "a server without a prefix",
    ),
    (
        served("--deployment-config=http-flask --instance-type=ml.m5.large")
        | {"lifecycle": ["build", "push", "deploy", "test", "benchmark", "clean"]},
        "configs[0].args",
        "has no workload; drop the step benchmark",
        "nothing to measure a predictor with elsewhere",
    ),
]


@pytest.mark.parametrize(("raw", "path", "said", "reason"), WRONG)
def test_a_mistake_is_reported_once_at_its_path_with_what_would_be_right(raw: Any, path: str, said: str, reason: str):
    (problem,) = problems_of(text_of(raw))
    assert problem.startswith(f"{path}: "), reason
    assert said in problem, reason


TUNE_WRONG = [
    (
        {"tuneId": "huggingface-reasoning-qwen3-6b"},
        "tuneId",
        "did you mean 'huggingface-reasoning-qwen3-06b'?",
        "unknown",
    ),
    ({"technique": "qlora"}, "technique", "known are sft, dpo, rlaif, rlvr", "unknown technique"),
    ({"technique": "dpo"}, "technique", "is dpo although the lifecycle has tune-sft", "another one than the step"),
    ({"trainingType": "full"}, "trainingType", "did you mean 'full-rank'?", "unknown type"),
    ({"trainingType": "full-rank"}, "trainingType", "offers no full-rank for sft; use lora", "not offered"),
    ({"dataset": "train.jsonl"}, "dataset", "must match", "no URI"),
    ({"tuneid": "x"}, "tuneid", "did you mean 'tuneId'?", "unknown key"),
    (
        {"tuneId": "huggingface-reasoning-qwen3-8b"},
        "tuneId",
        "tunes Qwen/Qwen3-8B, not Qwen/Qwen3-0.6B",
        "another model's tuning",
    ),
]


@pytest.mark.parametrize(("change", "key", "said", "reason"), TUNE_WRONG)
def test_a_mistake_of_the_tuning_has_its_own_path(change: dict[str, Any], key: str, said: str, reason: str):
    raws = [config(id=f"rt-{n}") for n in range(3)] + [config(tuneConfig=CONFIG["tuneConfig"] | change)]
    (problem,) = problems_of(text_of(*raws))
    assert problem.startswith(f"configs[3].tuneConfig.{key}: "), reason
    assert said in problem, reason


def test_a_technique_that_the_tune_catalog_does_not_offer_is_a_mistake():
    tune_id = next(t.tune_id for t in CATALOG.tune_models.values() if "dpo" not in t.techniques and not t.model_name)
    raw = config(
        lifecycle=[step.replace("sft", "dpo") for step in CONFIG["lifecycle"]],
        tuneConfig=CONFIG["tuneConfig"] | {"tuneId": tune_id, "technique": "dpo"},
    )
    (problem,) = problems_of(text_of(raw))
    assert problem.startswith(f"configs[0].tuneConfig.technique: {tune_id} offers no dpo; use one of sft")


def test_all_mistakes_of_all_entries_are_reported_at_once():
    problems = problems_of(text_of(config(timeout=1, extra=1), config(tier="x"), 7, config(track="y")))
    assert [problem.partition(":")[0] for problem in problems] == [
        "configs[0].timeout",
        "configs[0].extra",
        "configs[1].id",
        "configs[1].tier",
        "configs[2]",
        "configs[3].id",
        "configs[3].track",
    ]
    assert "'rt-qwen3-06b-east' is given twice, first at configs[0]" in problems[2]


@pytest.mark.parametrize(
    ("text", "said", "reason"),
    [
        ("", "line 1: is no JSON", "empty file"),
        ('{"configs": [\n{"id": }', "line 2: is no JSON", "broken text"),
        ("[]", 'must be an object {"configs": [...]}', "no object"),
        ("{}", "configs: must be a list", "no list"),
        ('{"config": [], "configs": []}', "config: unknown field; did you mean 'configs'?", "a further key"),
        ('{"configs": [], "configs": []}', "key 'configs' is given twice", "one would hide the other"),
        ('{"configs": [{"id": "\\ud800"}]}', "half a character (\\ud800)", "no text can be written of it"),
        ("[" * 100_000, "nested too deeply", "not a crash"),
    ],
)
def test_a_document_that_is_none_is_said_to_be_none(text: str, said: str, reason: str):
    assert any(said in problem for problem in problems_of(text)), reason


def test_an_empty_list_is_sound_and_a_byte_order_mark_too():
    assert read_json_entries('\ufeff{"configs": []}', CATALOG) == ()


@settings(deadline=None)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=8)
        | st.sampled_from(CONFIG["args"].split()),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*CONFIG, "x"]), inner, max_size=9),
        max_leaves=12,
    )
)
def test_nothing_but_the_one_error_comes_of_any_document(junk: Any):
    for document in (junk, {"configs": junk}, {"configs": [junk]}, {"configs": [CONFIG | {"args": junk}]}):
        try:
            entries = read_json_entries(json.dumps(document), CATALOG)
        except CatalogError as error:
            assert error.problems
        else:
            assert all(isinstance(entry, Entry) for entry in entries)


# ---- the way back


def test_the_shipped_golden_path_is_written_whole_and_reads_back_as_it_is():
    document, left_out = json_document(GOLDEN, CATALOG)
    assert left_out == {}
    assert [c["id"] for c in document["configs"]] == [entry.id for entry in GOLDEN]
    assert read_json_entries(json.dumps(document), CATALOG) == tuple(GOLDEN)


def test_what_is_written_has_the_keys_and_spellings_of_the_form():
    (written,) = json_document([CATALOG.entry("rt-qwen3-4b")], CATALOG)[0]["configs"]
    assert list(written) == ["id", "tier", "track", "args", "lifecycle", "timeout", "tuneTimeout", "tuneConfig"]
    assert shlex.split(written["args"]) == [
        "--deployment-config=transformers-vllm",
        "--model-name=Qwen/Qwen3-4B",
        "--instance-type=ml.g5.xlarge",
        "--region=us-west-2",
        "--enable-lora",
        "--server-env=SM_VLLM_MAX_MODEL_LEN=4096",
    ]
    assert written["lifecycle"][5:8] == ["tune-sft", "adapter-add", "test-adapter"]
    assert "generate" not in written["lifecycle"]


@pytest.mark.parametrize(
    ("change", "said", "reason"),
    [
        ({"tier": "local"}, "tier: 'local' is not known", "a tier of ours"),
        ({"expected_failure": "oom"}, "the form cannot say its expected_failure", "no key for it"),
        (
            {"benchmark": EntryBenchmark(True, "rag_document_qa", (1, 4, 8))},
            "the form cannot say its benchmark",
            "another workload than the default",
        ),
        ({"benchmark": EntryBenchmark(True, "multi_turn_chat", (1, 2))}, "its benchmark", "other levels"),
        ({"serving_params": MappingProxyType({"Case": "1"})}, "its serving_params", "names lose their case"),
        (
            {"serving_params": MappingProxyType({"max_model_len": "5"})},
            "max_model_len, serving_params",
            "it is a field",
        ),
        ({"serving_params": MappingProxyType({"a.b": "1"})}, "must be KEY=VALUE", "no name of a variable"),
        ({"lifecycle": ("build", "push", "deploy", "test", "benchmark", "clean")}, "its lifecycle", "no generation"),
    ],
)
def test_an_entry_that_would_not_read_back_as_it_is_is_left_out_with_the_reason(change: dict, said: str, reason: str):
    entry = replace(CATALOG.entry("rt-qwen35-4b"), **change)
    document, left_out = json_document([CATALOG.entry("rt-qwen3-06b"), entry], CATALOG)
    assert [c["id"] for c in document["configs"]] == ["rt-qwen3-06b"]
    assert said in left_out["rt-qwen35-4b"], reason


TUNED = [offer for offer in CATALOG.tune_models.values() if offer.model_name in CATALOG.models]
VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    """Entries that the form can hold."""
    base = CATALOG.entry("rt-qwen3-8b")
    steps = draw(st.sets(st.sampled_from(["stage", "validate", "push", "benchmark", "register"])))
    steps |= {"generate", "build", "deploy", "test", "clean"}
    tuning = draw(st.sampled_from([set(), {"tune"}, {"tune", "adapter"}, {"tune", "adapter", "test_adapter"}]))
    offer = draw(st.sampled_from(TUNED))
    technique = draw(st.sampled_from(sorted(offer.techniques)))
    measured = "benchmark" in steps
    return replace(
        base,
        id=draw(st.from_regex(r"[a-z0-9-]+", fullmatch=True)),
        tier=draw(st.sampled_from(TIERS)),
        model_name=offer.model_name,
        region=draw(st.sampled_from(CATALOG.regions)),
        quantization=draw(st.sampled_from(["none", "fp8", "awq"])),
        tp_degree=draw(st.none() | st.integers(1, 8)),
        max_model_len=draw(st.none() | st.integers(1, 10**6)),
        enable_lora=bool(tuning) or draw(st.booleans()),
        serving_params=MappingProxyType(
            draw(st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]*", fullmatch=True).filter(is_free), VALUES, max_size=3))
        ),
        lifecycle=tuple(step for step in LIFECYCLE_STEPS if step in steps | tuning),
        timeout=draw(st.integers(60, 10**6)),
        tune_timeout=draw(st.none() | st.integers(60, 10**6)),
        tune_config=TuneConfig(offer.tune_id, technique, offer.techniques[technique][0], "s3://a/b")
        if tuning
        else None,
        benchmark=EntryBenchmark(measured, "multi_turn_chat", (1, 4, 8)),
    )


def is_free(name: str) -> bool:
    return name not in ("max_model_len", "tensor_parallel_size", "quantization")


@settings(deadline=None, max_examples=60)
@given(st.lists(entries(), max_size=3, unique_by=lambda entry: entry.id))
def test_what_is_exported_is_imported_as_it_was(some: list[Entry]):
    document, left_out = json_document(some, CATALOG)
    assert left_out == {}
    assert read_json_entries(json.dumps(document), CATALOG) == tuple(some)


# ---- vocabularies that have their owner elsewhere


def test_the_steps_of_the_form_stand_for_what_the_domain_says():
    for name, steps in STEPS.items():
        assert tuple(stage.value for stage in SPELLINGS[name]) == steps
    assert {step for steps in STEPS.values() for step in steps} == set(LIFECYCLE_STEPS)
    assert TECHNIQUES == DOMAIN_TECHNIQUES
    assert set(TIERS) < set(CATALOG.tiers)
    assert {target.track for target in CATALOG.deployment_targets.values()} == {
        "realtime",
        "hyperpod",
        "async",
        "batch",
    }
