"""Configurations as existing installations write them, and the ids they kept them under."""

import hashlib
from typing import Any

import pytest

from catalog.loader import load_catalog
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.old_configurations import former_ids, old_configuration
from mlcc_dagster.core.resolution import configuration_of

CATALOG = load_catalog()
FIELDS = {
    "deploymentConfig": "transformers-vllm",
    "modelName": "Qwen/Qwen3-14B",
    "instanceType": "ml.g5.12xlarge",
    "awsRegion": "us-west-2",
    "deploymentTarget": "managed-inference",
}
GOLDEN = configuration_of(CATALOG.entry("rt-qwen3-14b"), CATALOG)


def read(**more: Any) -> Configuration:
    problems: list[str] = []
    found = old_configuration({**FIELDS, **more}, CATALOG, "configJson", problems)
    assert problems == []
    assert found is not None
    return found


def hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def test_what_is_not_said_is_what_the_entry_of_the_five_fields_declares():
    assert read() == GOLDEN
    assert read(quantization="", tpDegree=None, servingParams={}) == GOLDEN
    elsewhere = read(awsRegion="us-east-1")
    assert (elsewhere.enable_lora, elsewhere.tp_degree) == (False, 4), "no entry: the GPU count, no LoRA"


@pytest.mark.parametrize(
    ("more", "expected", "reason"),
    [
        ({"tensorParallelDegree": 4}, {"tp_degree": 4}, "one of its spellings"),
        ({"tpDegree": 1}, {"tp_degree": 1}, "another"),
        ({"maxModelLen": 2048}, {"max_model_len": 2048}, "length"),
        ({"enableLora": False}, {"enable_lora": False}, "said to be off"),
        ({"quantization": "FP8"}, {"quantization": "fp8"}, "normalised"),
        ({"servingParams": {"kv": "fp8", "n": 2}}, {"serving_params": {"kv": "fp8", "n": "2"}}, "texts"),
        (
            {"parameters": {"VLLM_TENSOR_PARALLEL_SIZE": "4", "SM_VLLM_MAX_MODEL_LEN": "512", "VLLM_X": "y"}},
            {"tp_degree": 4, "max_model_len": 512, "serving_params": {"x": "y"}},
            "the server's part of the environment, under its old prefix and that of today",
        ),
        (
            {
                "parameters": {
                    "HF_TOKEN": "***REDACTED***",
                    "HF_MODEL_ID": "m",
                    "VLLM_API_KEY": "***REDACTED***",
                    "A": "1",
                }
            },
            {"serving_params": {}},
            "the rest of the environment is no part of a configuration",
        ),
        ({"parameters": {"VLLM_TRUST": True}}, {"serving_params": {"trust": "true"}}, "booleans in lower case"),
    ],
)
def test_what_is_said_counts(more: dict[str, Any], expected: dict[str, Any], reason: str):
    found = read(**more)
    assert {name: getattr(found, name) for name in expected} == expected, reason


def test_the_environment_of_a_plain_http_server_is_no_part_of_its_configuration():
    found = read(deploymentConfig="http-flask", modelName="", parameters={"HOME": "/root", "WORKERS": "2"})
    assert (found.model_name, dict(found.serving_params)) == (None, {})


def test_names_that_the_catalog_does_not_know_are_still_a_configuration():
    found = read(
        deploymentConfig="triton-pytorch", modelName="org/mine", instanceType="ml.x9.large", parameters={"A": 1}
    )
    assert (found.tp_degree, found.model_family, found.instance_family) == (1, "other", "x9")


FIVE = "transformers-vllm:Qwen/Qwen3-14B:ml.g5.12xlarge:us-west-2"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"{FIVE}:realtime-inference", "the five fields"),
        (f"{FIVE}:managed-inference", "the target's old name"),
        (f"{FIVE}:realtime", "the track"),
        (f"{FIVE}:realtime-inference:ic1:adapt0", "with the count of components"),
        (f"{FIVE}:managed-inference:ic1:adapt0", "both"),
    ],
)
def test_every_id_that_a_configuration_had_is_known(text: str, reason: str):
    assert hashed(text) in former_ids(GOLDEN, CATALOG), reason
    longer = read(quantization="fp8")
    assert {hashed(text), config_id(longer), hashed(f"{FIVE}:managed-inference:quantization=fp8")} <= former_ids(
        longer, CATALOG
    ), reason


def test_ids_of_other_targets_and_of_several_components_are_not_its_own():
    ids = former_ids(GOLDEN, CATALOG)
    for text in (f"{FIVE}:async-inference", f"{FIVE}:realtime-inference:ic2:adapt0", f"{FIVE}:hyperpod"):
        assert hashed(text) not in ids
    batch = read(deploymentTarget="batch-transform")
    assert hashed(f"{FIVE}:batch") in former_ids(batch, CATALOG)
    assert hashed(f"{FIVE}:managed-inference") not in former_ids(batch, CATALOG)


def test_no_two_shipped_entries_claim_the_same_former_id_unless_their_five_fields_are_the_same():
    seen: dict[str, str] = {}
    for entry in CATALOG.all_entries:
        configuration = configuration_of(entry, CATALOG)
        five = (entry.deployment_config, entry.model_name, entry.instance_type, entry.region)
        for key in former_ids(configuration, CATALOG):
            assert seen.setdefault(key, str(five)) == str(five)
