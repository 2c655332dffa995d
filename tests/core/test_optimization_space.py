"""What a search may try: dimensions of one configuration, settings as configurations, and what rows say of them."""

import itertools
import json
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.loader import load_catalog
from mlcc_dagster.core.compared_metrics import COMPARED, metric_named
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.constraints import refusals
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.optimization_space import Like, Space, results_of, space_of
from mlcc_dagster.core.resolution import configuration_of

CATALOG = load_catalog()
SMOL = configuration_of(CATALOG.entry("local-llamacpp-smollm2-q4-1-2cpu"), CATALOG)
QWEN = configuration_of(CATALOG.entry("rt-qwen3-4b"), CATALOG)
FOREST = configuration_of(CATALOG.entry("local-fastapi-forest-1cpu"), CATALOG)
CHAT = CATALOG.workloads["local_chat"]
LIKE = Like("local", "llama 1", "local_chat", 2, metric_named("throughput"))


def anything(configuration: Configuration) -> None:
    """An executor that runs everything."""


def runs(configuration: Configuration) -> str | None:
    refuted = refusals(configuration, CATALOG)
    return refuted[0].sentence if refuted else None


@cache
def space(configuration: Configuration = SMOL, *names: str, **kinds: Any) -> Space:
    return space_of(
        configuration,
        CATALOG,
        workload=kinds.get("workload", CHAT),
        refusal=kinds.get("refusal", runs),
        names=names or None,
    )


def values(of: Space) -> dict[str, tuple[Any, ...]]:
    return {axis.name: axis.values for axis in of.axes}


def test_the_shipped_space_has_every_dimension_of_the_specification_with_its_state() -> None:
    general = {each.name: each for each in CATALOG.search_dimensions if each.server is None}
    assert {name: each.sweepable for name, each in general.items()} == {
        "quantization": True,
        "tensor_parallelism": True,
        "max_model_len": True,
        "kv_cache_dtype": True,
        "batching": False,
        "max_batch_size": False,
        "speculative_decoding": False,
    }
    assert general["tensor_parallelism"].values == (1, 2, 4, 8)
    assert general["max_batch_size"].bounds == (1, 256)


def test_a_server_has_its_own_dimensions_in_the_place_of_the_general_ones() -> None:
    own = space(refusal=anything)
    assert set(values(own)) == {
        *("quantization", "tensor_parallelism", "max_model_len", "kv_cache_dtype", "slots", "threads")
    }
    assert values(own)["quantization"] == ("none", "q8_0", "q4_1", "q4_0")
    assert values(space(QWEN))["quantization"] == ("none", "int8", "int4", "awq", "gptq"), "fp16 and bf16 are none"


@pytest.mark.parametrize(
    ("configuration", "present"),
    [
        pytest.param(SMOL, {"slots": 2, "threads": 2, "max_model_len": 2048, "kv_cache_dtype": "f16"}, id="defaults"),
        pytest.param(replace(SMOL, instance_type="local.1cpu"), {"threads": 1}, id="as many threads as CPUs"),
        pytest.param(replace(SMOL, serving_params={"slots": "5"}), {"slots": 5}, id="a value of its own"),
        pytest.param(QWEN, {"max_model_len": 4096, "kv_cache_dtype": "auto"}, id="what the entry declares"),
        pytest.param(replace(QWEN, max_model_len=None), {"max_model_len": None}, id="what the server decides"),
    ],
)
def test_the_present_setting_is_what_the_configuration_runs_with_and_can_be_chosen(configuration, present) -> None:
    made = space(configuration, refusal=anything)
    named = made.named(made.present)
    assert {name: named[name] for name in present} == present
    assert made.present in made.settings
    assert made.configured(made.present) == configuration


def test_only_what_nothing_speaks_against_can_be_chosen_and_what_is_left_out_says_why() -> None:
    made = space(QWEN)
    assert "tensor_parallelism" not in values(made), "one GPU leaves no choice"
    assert set(made.left_out["tensor_parallelism"]) == {"2", "4", "8"}
    assert "does not compute in fp8" in made.left_out["quantization"]["fp8"]
    assert "more than Qwen/Qwen3-4B was made for" in made.left_out["max_model_len"]["131072"]
    assert all(runs(made.configured(setting)) is None for setting in made.settings)


def too_many_slots(configuration: Configuration) -> str | None:
    many = configuration.serving_params.get("slots") == "8"
    return "too much" if many and configuration.serving_params.get("kv_cache_type") != "q4_0" else runs(configuration)


def test_a_value_that_can_run_in_some_combination_is_kept_for_those_alone() -> None:
    made = space(SMOL, "slots", "kv_cache_dtype", refusal=too_many_slots)
    assert values(made) == {"kv_cache_dtype": ("f16", "q8_0", "q4_0"), "slots": (1, 2, 3, 4, 6, 8)}
    everything = set(itertools.product(*(axis.values for axis in made.axes)))
    assert everything - set(made.settings) == {("f16", 8), ("q8_0", 8)}
    assert made.left_out == {}


def test_a_context_that_does_not_hold_a_request_of_the_workload_is_left_out() -> None:
    elsewhere = CATALOG.workloads["long_context_scaling"]
    assert set(values(space(QWEN, "max_model_len", workload=elsewhere))["max_model_len"]) >= {4096, 16384}
    assert 8192 not in values(space(QWEN, "max_model_len", workload=elsewhere))["max_model_len"]
    here = values(space(SMOL, "max_model_len", workload=elsewhere))["max_model_len"]
    assert here[0] == 256, "on this machine the workload is scaled"


@pytest.mark.parametrize(
    ("configuration", "names", "words"),
    [
        pytest.param(SMOL, ("slot",), "no parameter 'slot' can be searched; use some of quantization", id="unknown"),
        pytest.param(QWEN, ("slots",), "no parameter 'slots'", id="of another server"),
        pytest.param(SMOL, ("batching",), "declared for later", id="declared for later"),
        pytest.param(QWEN, ("tensor_parallelism",), "has another value that can run", id="no choice"),
        pytest.param(FOREST, (), "can be searched; add one of its server", id="a predictor"),
        pytest.param(FOREST, ("slots",), "use some of none that there are", id="a predictor's slots"),
    ],
)
def test_names_that_leave_nothing_to_search_are_refused(configuration, names, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        space(configuration, *names)


@settings(deadline=None)
@given(st.data())
def test_every_setting_is_a_configuration_of_its_own_that_reads_back(data: st.DataObject) -> None:
    made = space(data.draw(st.sampled_from([SMOL, QWEN, replace(SMOL, serving_params={"slots": "2", "threads": "1"})])))
    setting = data.draw(st.sampled_from(made.settings))
    written = made.configured(setting)
    assert tuple(axis.of(written) for axis in made.axes) == setting
    other = data.draw(st.sampled_from(made.settings))
    assert (config_id(written) == config_id(made.configured(other))) == (setting == other)


# ---- what rows say


def row(configuration: Configuration = SMOL, **changes: Any) -> dict[str, Any]:
    """A row as a run of the configuration writes it."""
    serving = {"quantization": configuration.quantization, "tensor_parallel_degree": configuration.tp_degree}
    serving |= {"enable_lora": False, "kv_cache_dtype": "auto", "base_image": "python"}
    serving |= dict(configuration.serving_params)
    made = {
        "model_name": configuration.model_name,
        "instance_type": configuration.instance_type,
        "deployment_config": configuration.deployment_config,
        "deployment_target": configuration.deployment_target,
        "region": configuration.region,
        "executor": "local",
        "engine": "llama 1",
        "quantization": configuration.quantization,
        "tensor_parallel_degree": configuration.tp_degree,
        "max_model_len": configuration.max_model_len,
        "enable_lora": configuration.enable_lora,
        "adapter_name": None,
        "serving_config": json.dumps(serving),
        "workload": "local_chat",
        "concurrency": 2,
        "status": "completed",
        "run_id": "r",
        "run_timestamp": "2026-11-22T12:00:00.000000Z",
        "failure_reason": None,
        **dict.fromkeys(COMPARED, 10.0),
    }
    return made | changes


@settings(deadline=None)
@given(st.data())
def test_a_row_of_a_setting_is_read_as_that_setting(data: st.DataObject) -> None:
    made = space(data.draw(st.sampled_from([SMOL, QWEN])))
    setting = data.draw(st.sampled_from(made.settings))
    (found,) = results_of(made, LIKE, [row(made.configured(setting))])
    assert (found.setting, found.value, found.run_id) == (setting, 10.0, "r")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"executor": "replay"}, id="played"),
        pytest.param({"executor": None}, id="imported"),
        pytest.param({"engine": "llama 2"}, id="another engine"),
        pytest.param({"workload": "sample"}, id="another workload"),
        pytest.param({"concurrency": 4}, id="another concurrency"),
        pytest.param({"instance_type": "local.1cpu"}, id="another instance"),
        pytest.param({"model_name": "other/model"}, id="another model"),
        pytest.param({"deployment_target": "async-inference"}, id="another target"),
        pytest.param({"region": "us-west-2"}, id="another region"),
        pytest.param({"adapter_name": "tutor"}, id="with an adapter"),
        pytest.param({"enable_lora": True}, id="with LoRA"),
        pytest.param({"serving_config": '{"memory_limit_mb": "900"}'}, id="another parameter"),
        pytest.param({"serving_config": '{"slots": "7"}'}, id="a value that is not in the space"),
        pytest.param({"serving_config": "{"}, id="a damaged document"),
        pytest.param({"serving_config": "[]"}, id="no document"),
        pytest.param({"output_token_throughput_tps": None}, id="nothing measured"),
        pytest.param({"output_token_throughput_tps": float("nan")}, id="no number"),
        pytest.param({"output_token_throughput_tps": 0.0}, id="no throughput"),
    ],
)
def test_what_is_not_alike_says_nothing(changes: dict[str, Any]) -> None:
    assert results_of(space(), LIKE, [row(**changes)]) == ()


@pytest.mark.parametrize(("status", "feasible"), [("failed", True), ("unfeasible", False)])
def test_a_failed_row_is_a_result_without_a_value(status: str, feasible: bool) -> None:
    (found,) = results_of(space(), LIKE, [row(status=status, concurrency=0, failure_reason="no memory")])
    assert (found.value, found.feasible, found.reason) == (None, feasible, "no memory")


def test_what_preflight_refuted_names_no_engine_and_counts() -> None:
    assert len(results_of(space(), LIKE, [row(status="unfeasible", concurrency=0, engine=None)])) == 1
