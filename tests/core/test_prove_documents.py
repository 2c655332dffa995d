"""The expansion of a prove document: the product and its order, what each point overlays, what is one configuration."""

import itertools
import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from catalog.loader import load_catalog
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.prove_documents import Expansion, expand
from mlcc_dagster.core.prove_reading import read_prove_document
from mlcc_dagster.core.resolution import configuration_of

CATALOG = load_catalog()
BASE = {
    "model_name": "Qwen/Qwen3-4B",
    "deployment_config": "transformers-vllm",
    "instance_type": "ml.g5.xlarge",
}


def expanded(
    *, base: Any = BASE, sweep: Any = None, stages: Any = ("build", "deploy", "test"), **more: Any
) -> Expansion:
    raw = {"schema_version": "1", "base": base, "sweep": sweep or {}, "stages": list(stages), **more}
    return expand(read_prove_document(json.dumps(raw), CATALOG, source="prove.json"), CATALOG)


AXES = {
    "serving_params.max_num_seqs": st.lists(st.integers(1, 99), min_size=1, max_size=4, unique=True),
    "serving_params.dtype": st.lists(st.sampled_from(["auto", "half", "float32"]), min_size=1, max_size=3, unique=True),
    "max_model_len": st.lists(st.integers(1, 9999), min_size=1, max_size=3, unique=True),
    "instance_type": st.lists(
        st.sampled_from(["ml.g5.xlarge", "ml.g5.2xlarge", "ml.g6.xlarge"]), min_size=1, max_size=3, unique=True
    ),
    "quantization": st.lists(st.sampled_from(["none", "awq", "gptq"]), min_size=1, max_size=3, unique=True),
}
SWEEPS = st.lists(st.sampled_from(sorted(AXES)), unique=True, max_size=4).flatmap(
    lambda names: st.tuples(*(AXES[name] for name in names)).map(lambda lists: dict(zip(names, lists, strict=True)))
)


@given(SWEEPS)
def test_points_are_the_product_with_the_first_axis_slowest(sweep: dict[str, list[Any]]):
    found = expanded(sweep=sweep)
    product = [dict(zip(sweep, values, strict=True)) for values in itertools.product(*sweep.values())]
    assert [dict(member.point) for member in found.members] == product
    assert found.points == len(found.members) == math.prod(len(values) for values in sweep.values())
    if sweep:
        first, values = next(iter(sweep.items()))
        seen = [member.point[first] for member in found.members]
        assert [value for value, _ in itertools.groupby(seen)] == values, "each value of the first axis in one stretch"


@given(SWEEPS)
def test_every_point_is_laid_over_the_base(sweep: dict[str, list[Any]]):
    for member in expanded(base=BASE | {"serving_params": {"seed": 7}}, sweep=sweep).members:
        made = member.configuration
        for axis, value in member.point.items():
            key = axis.removeprefix("serving_params.")
            assert (made.serving_params[key] == str(value)) if key != axis else (getattr(made, axis) == value)
        assert made.serving_params["seed"] == "7"
        assert made.model_name == BASE["model_name"]
        assert member.config_id == config_id(made)


@given(SWEEPS, st.randoms(use_true_random=False))
def test_the_digest_is_what_is_proven_and_neither_notation_nor_order(sweep: dict[str, list[Any]], chance: Any):
    mixed = {
        name: chance.sample(values, len(values)) for name, values in chance.sample(list(sweep.items()), len(sweep))
    }
    assert expanded(sweep=sweep).digest == expanded(sweep=mixed, budget_usd=7, timeout_minutes=1).digest
    assert expanded(sweep=sweep).digest != expanded(sweep=sweep, stages=["build"]).digest


def test_what_is_equal_once_normalised_is_one_configuration_and_that_is_said():
    found = expanded(sweep={"quantization": ["fp16", "awq", None, "none"]})
    assert [str(member.configuration) for member in found.members] == [
        "transformers-vllm Qwen/Qwen3-4B ml.g5.xlarge",
        "transformers-vllm Qwen/Qwen3-4B ml.g5.xlarge awq",
    ]
    assert found.points == 4
    assert found.repeated == [
        "quantization=fp16 and quantization=null and quantization=none are one configuration, which is run once"
    ]


def test_what_the_catalog_declares_stands_where_the_document_says_nothing():
    entry = next(e for e in CATALOG.entries if e.model_name == "Qwen/Qwen3-4B" and e.instance_type == "ml.g5.xlarge")
    (plain,) = expanded().members
    assert plain.config_id == config_id(configuration_of(entry, CATALOG))
    assert (plain.configuration.max_model_len, plain.configuration.enable_lora) == (entry.max_model_len, True)
    (without,) = expanded(base=BASE | {"max_model_len": None, "enable_lora": False}).members
    assert (without.configuration.max_model_len, without.configuration.enable_lora) == (None, False)


def test_a_null_takes_a_parameter_of_the_base_or_of_the_catalog_back():
    base = {
        "model_name": "sklearn/random-forest-digits",
        "deployment_config": "http-fastapi",
        "instance_type": "local.1cpu",
    }
    limited = base | {"serving_params": {"memory_limit_mb": 256}}
    found = expanded(base=limited, sweep={"serving_params.memory_limit_mb": [None, 512]})
    assert [dict(member.configuration.serving_params) for member in found.members] == [{}, {"memory_limit_mb": "512"}]


def test_a_swept_whole_replaces_the_parameters_of_the_base():
    found = expanded(base=BASE | {"serving_params": {"seed": 7}}, sweep={"serving_params": [{"dtype": "half"}, {}]})
    assert [dict(member.configuration.serving_params) for member in found.members] == [{"dtype": "half"}, {}]


def test_tensor_parallelism_is_swept_as_the_parameter_of_the_server():
    found = expanded(
        base=BASE | {"instance_type": "ml.g5.12xlarge"}, sweep={"serving_params.tensor_parallel_size": [1, 2, "4"]}
    )
    assert [member.configuration.tp_degree for member in found.members] == [1, 2, 4]
    assert all("tensor_parallel_size" not in member.configuration.serving_params for member in found.members)


def test_stages_that_tune_switch_lora_on_where_the_document_does_not_say():
    base = BASE | {"instance_type": "ml.g5.2xlarge"}
    assert not expanded(base=base).members[0].configuration.enable_lora
    assert expanded(base=base, stages=["build", "deploy", "test", "tune"]).members[0].configuration.enable_lora


def test_a_capacity_reservation_goes_with_the_configuration_and_is_no_part_of_its_id():
    arn = "arn:aws:sagemaker:eu-west-1:1:training-plan/x"
    (plain,), (reserved,) = (
        expanded().members,
        expanded(base=BASE | {"infra_params": {"capacity_reservation_arn": arn}}).members,
    )
    assert (plain.reservation, reserved.reservation) == (None, arn)
    assert plain.config_id == reserved.config_id


def test_a_member_is_called_by_what_sets_it_apart():
    assert expanded().members[0].name == "transformers-vllm Qwen/Qwen3-4B ml.g5.xlarge"
    found = expanded(sweep={"serving_params.max_num_seqs": [8], "enable_lora": [True]})
    assert found.members[0].name == "max_num_seqs=8 enable_lora=true"
