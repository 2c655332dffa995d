"""The id of a configuration."""

import hashlib
import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.loader import load_catalog
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.identity import (
    DECLARED_V1,
    GPU_COUNTS_V1,
    config_id,
    five_field_text,
    identity_text,
    legacy_config_id,
)
from mlcc_dagster.core.resolution import configuration_of

CATALOG = load_catalog()
SHIPPED = (*CATALOG.entries, *(entry for entries in CATALOG.extensions.values() for entry in entries))


def configuration(
    deployment_config: str = "http-fastapi",
    model_name: str | None = "sklearn/random-forest-digits",
    instance_type: str = "local.1cpu",
    region: str = "local",
    deployment_target: str = "realtime-inference",
    **more,
) -> Configuration:
    return Configuration(
        deployment_config=deployment_config,
        model_name=model_name,
        model_family="irrelevant",
        instance_type=instance_type,
        region=region,
        deployment_target=deployment_target,
        **more,
    )


GOLDEN_4B = {
    "deployment_config": "transformers-vllm",
    "model_name": "Qwen/Qwen3-4B",
    "instance_type": "ml.g5.xlarge",
    "region": "us-west-2",
    "enable_lora": True,
    "max_model_len": 4096,
}
VECTORS = [
    (configuration(**GOLDEN_4B), "9586bf351b64c95f", "golden entry: LoRA and length are declared, so the plain id"),
    (configuration("http-flask", None, "ml.m5.large", "us-east-1"), "17fc935328f040c7", "no model name is none"),
    (configuration("http-flask", "", "ml.m5.large", "us-east-1"), "17fc935328f040c7", "an empty model name is none"),
    (
        configuration("http-flask", "none", "ml.m5.large", "us-east-1"),
        "17fc935328f040c7",
        "none is how absence is written",
    ),
    (
        configuration("diffusors-comfyui", "sdxl", "ml.g5.2xlarge", "us-east-1", "async-inference"),
        "a85312ea434fba6b",
        "another target",
    ),
    (configuration(**GOLDEN_4B, quantization="bf16"), "9586bf351b64c95f", "full precision is none"),
    (configuration(**GOLDEN_4B, quantization="FP16"), "9586bf351b64c95f", "full precision is none"),
]


@pytest.mark.parametrize(("given_configuration", "expected", "reason"), VECTORS)
def test_id_is_the_published_one(given_configuration: Configuration, expected: str, reason: str) -> None:
    assert config_id(given_configuration) == expected, reason


def test_old_target_name_has_the_id_of_the_new_one_and_its_old_id_is_found() -> None:
    fields = ("transformers-vllm", "meta-llama/Llama-2-7b-chat-hf", "ml.g5.xlarge", "us-east-1")
    old, new = configuration(*fields, "managed-inference"), configuration(*fields, "realtime-inference")
    assert config_id(old) == config_id(new)
    assert legacy_config_id(old) == legacy_config_id(new) == "27d99a90e91450da"


def test_old_id_keeps_what_is_appended() -> None:
    quantized = configuration(quantization="fp8")
    old_text = "http-fastapi:sklearn/random-forest-digits:local.1cpu:local:managed-inference:quantization=fp8"
    assert legacy_config_id(quantized) == hashlib.sha256(old_text.encode()).hexdigest()[:16]


def test_other_targets_never_had_an_old_name() -> None:
    assert legacy_config_id(configuration(deployment_target="async-inference")) is None


PLAIN = "http-fastapi:sklearn/random-forest-digits:local.1cpu:local:realtime-inference"
APPENDED = [
    ({}, "", "nothing differs"),
    ({"quantization": "Q8_0"}, ":quantization=q8_0", "quantization is never a default"),
    ({"tp_degree": 2}, ":tp_degree=2", "differs from the one of an instance without GPUs"),
    ({"enable_lora": True}, ":enable_lora=true", "booleans print lower case"),
    ({"max_model_len": 2048}, ":max_model_len=2048", "unset by default"),
    (
        {"serving_params": {"workers": "2", "memory_limit_mb": "256"}},
        ":memory_limit_mb=256:workers=2",
        "sorted whatever the order given",
    ),
    (
        {"quantization": "q4_0", "enable_lora": True, "serving_params": {"kv": "q8"}},
        ":enable_lora=true:kv=q8:quantization=q4_0",
        "fields and parameters sort together",
    ),
    (
        {"serving_params": {"tp_degree": "2"}},
        ":serving_params.tp_degree=2",
        "a parameter is not the field it is named like",
    ),
    ({"serving_params": {"serving_params.x": "1"}}, ":serving_params.serving_params.x=1", "nor the prefixed one"),
    ({"serving_params": {"a": "1:b=2"}}, ":a=1%3Ab%3D2", "a value cannot pass for another pair"),
    ({"serving_params": {"a": "100%"}}, ":a=100%25", "nor an escaped one for a plain one"),
    ({"serving_params": {"a": ""}}, ":a=", "an empty value is not the absence of the key"),
]


@pytest.mark.parametrize(("fields", "appended", "reason"), APPENDED)
def test_differences_from_the_defaults_are_appended(fields: dict, appended: str, reason: str) -> None:
    assert identity_text(configuration(**fields)) == PLAIN + appended, reason


def test_unset_tp_degree_default_is_the_gpu_count_of_the_instance() -> None:
    four = configuration("transformers-vllm", "m", "ml.g6.12xlarge", "us-west-2", tp_degree=4)
    assert identity_text(four) == five_field_text(four)
    assert identity_text(replace(four, tp_degree=1)).endswith(":tp_degree=1")


def test_frozen_gpu_counts_are_those_the_instances_had_at_version_1() -> None:
    declared = {i.instance_type: i.gpu_count for i in CATALOG.instances.values() if i.gpu_count > 1}
    assert declared == GPU_COUNTS_V1, "a new instance with several GPUs needs ids of a new version"


DECLARED_USER = {PLAIN: {"max_model_len": 512, "serving_params": {"workers": "2"}}}


@pytest.mark.parametrize(
    ("fields", "appended", "reason"),
    [
        ({"max_model_len": 512, "serving_params": {"workers": "2"}}, "", "exactly what was declared"),
        ({"serving_params": {"workers": "2"}}, ":max_model_len=%none", "unset where a length was declared"),
        ({"max_model_len": 512}, ":workers=%none", "a declared parameter left out"),
        ({"max_model_len": 512, "serving_params": {"workers": ""}}, ":workers=", "left out is not empty"),
        (
            {"max_model_len": 512, "serving_params": {"workers": "%none"}},
            ":workers=%25none",
            "no value passes for left out",
        ),
        (
            {"max_model_len": 512, "serving_params": {"workers": "2"}, "tp_degree": 2},
            ":tp_degree=2",
            "not declared: usual",
        ),
    ],
)
def test_defaults_declared_at_registration_are_what_counts(fields: dict, appended: str, reason: str) -> None:
    assert identity_text(configuration(**fields), DECLARED_USER) == PLAIN + appended, reason


def test_a_registration_cannot_take_the_plain_id_of_a_shipped_entry() -> None:
    golden = configuration(**GOLDEN_4B)
    other = {five_field_text(golden): {"enable_lora": False}}
    assert config_id(golden, other) == "9586bf351b64c95f"


APPENDED = {
    "local-fastapi-forest-tight-memory": ":memory_limit_mb=256",
    "local-llamacpp-smollm2-q4-1-2cpu": ":quantization=q4_1",
    "local-llamacpp-smollm2-q8-0-2cpu": ":quantization=q8_0",
}
"""Shipped entries without a plain id: one shares its five fields with the owner of it, two are quantized, which is never
a default."""


@pytest.mark.parametrize("entry", SHIPPED, ids=lambda entry: entry.id)
def test_shipped_entry_has_the_plain_five_field_id(entry) -> None:
    concrete = configuration_of(entry, CATALOG)
    appended = APPENDED.get(entry.id, "")
    assert identity_text(concrete) == five_field_text(concrete) + appended, "an edited catalog default must not rename"


def test_shipped_entries_have_distinct_ids() -> None:
    assert len({config_id(configuration_of(entry, CATALOG)) for entry in SHIPPED}) == len(SHIPPED)


def test_every_frozen_declaration_belongs_to_a_shipped_entry() -> None:
    texts = {five_field_text(configuration_of(entry, CATALOG)) for entry in SHIPPED}
    assert set(DECLARED_V1) <= texts


AMBIGUOUS = [
    ({"deployment_config": "a:b"}, "deployment_config 'a:b'"),
    ({"instance_type": "ml:x"}, "instance_type 'ml:x'"),
    ({"region": "us=1"}, "region 'us=1'"),
    ({"deployment_target": "x:k=v"}, "deployment_target 'x:k=v'"),
    ({"deployment_config": "a:b", "region": "c:d"}, "deployment_config 'a:b', region 'c:d'"),
]


@pytest.mark.parametrize(("fields", "named"), AMBIGUOUS)
def test_a_field_that_would_make_the_text_ambiguous_is_refused(fields: dict, named: str) -> None:
    with pytest.raises(UsageError, match=f"cannot make an id from {named}; use names without ':' and '='"):
        config_id(configuration(**fields))


def test_a_model_name_may_hold_a_colon() -> None:
    jumpstart = configuration("transformers-lmi", "jumpstart://huggingface-llm-falcon-7b", "ml.g5.xlarge", "us-east-1")
    text = "transformers-lmi:jumpstart://huggingface-llm-falcon-7b:ml.g5.xlarge:us-east-1:realtime-inference"
    assert five_field_text(jumpstart) == text


# Few, confusable values: what matters is that they are built from the separators.
NAMES = st.sampled_from(["a", "b", "none"])
MODELS = st.sampled_from([None, "a", "a:b", "b:a:a", "m=1", ":", "a:k=v"])
TEXTS = st.text(alphabet="ab:=%2", max_size=4)
KEYS = st.one_of(TEXTS, st.sampled_from(["tp_degree", "quantization", "serving_params.a", "serving_params.tp_degree"]))
CONFIGURATIONS = st.builds(
    Configuration,
    deployment_config=NAMES,
    model_name=MODELS,
    model_family=st.just("f"),
    instance_type=NAMES,
    region=NAMES,
    deployment_target=st.sampled_from(["a", "realtime-inference", "managed-inference"]),
    quantization=st.sampled_from(["none", "fp16", "fp8", "a:b=c"]),
    tp_degree=st.sampled_from([1, 2, 8]),
    max_model_len=st.sampled_from([None, 0, 1, 2048]),
    enable_lora=st.booleans(),
    serving_params=st.dictionaries(KEYS, TEXTS, max_size=3),
)


@given(CONFIGURATIONS, CONFIGURATIONS)
def test_two_different_configurations_never_share_the_hashed_text(one: Configuration, other: Configuration) -> None:
    assert (identity_text(one) == identity_text(other)) == (one == other)


def test_confusable_configurations_all_have_texts_of_their_own() -> None:
    """Every pair of a set built to collide: values that spell separators, pairs, escapes and field names."""
    keys = ("a", "a=b", "b:a", "tp_degree", "serving_params.tp_degree", "serving_params.a")
    values = (None, "", "b", "b:a=b", "%none", "%25none", "2")
    configurations = [
        configuration(
            model_name=model, tp_degree=tp_degree, serving_params={k: v for k, v in params.items() if v is not None}
        )
        for model in ("a", "a:a=b", None)
        for tp_degree in (1, 2)
        for params in (
            {one: first, two: second}
            for one, two in itertools.combinations(keys, 2)
            for first, second in itertools.product(values, repeat=2)
        )
    ]
    distinct = {str(each.to_json()) for each in configurations}
    assert len({identity_text(each) for each in configurations}) == len(distinct)


@given(CONFIGURATIONS, st.dictionaries(KEYS, TEXTS, max_size=2), st.sampled_from([None, 1, 2048]))
def test_dropping_or_changing_a_declared_parameter_changes_the_text(
    one: Configuration, parameters: dict[str, str], length: int | None
) -> None:
    declared = {five_field_text(one): {"serving_params": parameters, "max_model_len": length}}
    as_declared = replace(one, serving_params=parameters, max_model_len=length)
    assert (identity_text(one, declared) == identity_text(as_declared, declared)) == (one == as_declared)


@given(CONFIGURATIONS, st.randoms(use_true_random=False))
def test_id_does_not_depend_on_the_order_of_keys(one: Configuration, random) -> None:
    items = list(one.serving_params.items())
    random.shuffle(items)
    assert config_id(replace(one, serving_params=dict(items))) == config_id(one)
