"""From entries and vectors to configurations, and the constraints that refute them."""

import itertools
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import catalog
from catalog.loader import FILES, load_catalog
from catalog.model import CONSTRAINT_CHECKS
from mlcc_dagster.core.configuration import DIMENSIONS, Configuration, Vector
from mlcc_dagster.core.constraints import CHECKS, refusals
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.resolution import (
    Unresolved,
    configuration_of,
    resolve,
)
from mlcc_dagster.core.universe import Universe, universe_values

CATALOG = load_catalog()
SHIPPED = (*CATALOG.entries, *(entry for entries in CATALOG.extensions.values() for entry in entries))


def runs_all(configuration: Configuration) -> str | None:
    return None


def runs_local_http(configuration: Configuration) -> str | None:
    if configuration.region != "local" or not configuration.deployment_config.startswith(
        ("http-fastapi", "http-flask")
    ):
        return "this executor runs http-fastapi and http-flask on this machine"
    return None


def configuration(
    deployment_config: str = "transformers-vllm",
    model_name: str | None = "Qwen/Qwen3-4B",
    instance_type: str = "ml.g5.xlarge",
    region: str = "us-west-2",
    **more,
) -> Configuration:
    return Configuration(
        deployment_config=deployment_config,
        model_name=model_name,
        model_family=CATALOG.family_of(model_name),
        instance_type=instance_type,
        region=region,
        **more,
    )


@pytest.mark.parametrize("entry", SHIPPED, ids=lambda entry: entry.id)
def test_no_constraint_refutes_a_shipped_entry(entry) -> None:
    assert refusals(configuration_of(entry, CATALOG), CATALOG, tuning="tune" in entry.lifecycle) == ()


@pytest.mark.parametrize(
    ("entry_id", "tp_degree", "reason"),
    [
        ("rt-qwen3-06b", 1, "one GPU"),
        ("rt-qwen3-8b", 4, "unset: all four GPUs"),
        ("rt-qwen3-14b", 2, "declared"),
        ("rt-llama-33-70b", 8, "unset: all eight GPUs"),
        ("local-fastapi-forest-1cpu", 1, "no GPU counts as one"),
        ("rt-nemotron3-nano-30b-weekly", 4, "declared below the eight GPUs"),
    ],
)
def test_unset_tp_degree_is_the_gpu_count(entry_id: str, tp_degree: int, reason: str) -> None:
    assert configuration_of(CATALOG.entry(entry_id), CATALOG).tp_degree == tp_degree, reason


REFUTED = [
    (
        configuration("http-flask"),
        "kind-match@1",
        "http-flask serves a predictor and Qwen/Qwen3-4B is a language-model; choose a server of that kind",
    ),
    (
        configuration("triton-fil", "sklearn/random-forest-digits"),
        "model-format@1",
        "triton-fil loads xgboost_json, xgboost_ubj, lightgbm_txt and sklearn/random-forest-digits comes as "
        "joblib, onnx; choose a server that loads it",
    ),
    (
        configuration(tp_degree=4),
        "tp-within-gpus@1",
        "tp_degree 4 splits over 4 GPUs and ml.g5.xlarge has 1; choose an instance with more, or a smaller degree",
    ),
    (
        configuration("http-fastapi", "sklearn/random-forest-digits", "local.2cpu", "local", tp_degree=2),
        "tp-within-gpus@1",
        "tp_degree 2 splits over 2 GPUs and local.2cpu has 0; choose an instance with more, or a smaller degree",
    ),
    (
        configuration(instance_type="ml.m5.large"),
        "gpu-needed@1",
        "transformers-vllm needs a GPU and ml.m5.large has 0; choose an instance with one",
    ),
    (
        configuration("transformers-djl", instance_type="ml.g6e.xlarge", quantization="fp8"),
        "server-quantization@1",
        "transformers-djl does not offer fp8 (it offers none, int8, int4); choose one of these",
    ),
    (
        configuration(quantization="fp8"),
        "accelerator-quantization@1",
        "NVIDIA A10G of ml.g5.xlarge does not compute in fp8 (it offers none, int8, int4, awq, gptq); "
        "choose one of these",
    ),
    (
        configuration("transformers-llamacpp", "HuggingFaceTB/SmolLM2-135M-Instruct", "ml.m5.large"),
        "local-only@1",
        "transformers-llamacpp exists on this machine alone and ml.m5.large is elsewhere; choose a local instance",
    ),
    (
        configuration(
            "http-flask", "sklearn/random-forest-digits", "local.1cpu", "local", deployment_target="hyperpod-eks"
        ),
        "local-target@1",
        "hyperpod-eks is not offered on this machine (local.1cpu); choose another target or instance",
    ),
    (
        configuration(region="mars-north-1"),
        "known-region@1",
        "ml.g5.xlarge is not to be had in region mars-north-1; choose one of the 22 of regions.yaml",
    ),
    (
        configuration("http-flask", "sklearn/random-forest-digits", "local.1cpu", "us-west-2"),
        "known-region@1",
        "local.1cpu is not to be had in region us-west-2; choose local",
    ),
]


@pytest.mark.parametrize(("refuted", "constraint", "sentence"), REFUTED)
def test_a_refusal_cites_the_constraint_and_the_numbers(refuted: Configuration, constraint: str, sentence: str) -> None:
    assert [(r.constraint, r.sentence) for r in refusals(refuted, CATALOG)] == [(constraint, sentence)]


def test_every_broken_constraint_is_named_not_the_first() -> None:
    broken = refusals(configuration(quantization="fp8", tp_degree=2, region="nowhere"), CATALOG)
    assert [refusal.constraint for refusal in broken] == [
        "tp-within-gpus@1",
        "accelerator-quantization@1",
        "known-region@1",
    ]


@pytest.mark.parametrize(
    ("model_name", "instance_type", "region", "tuning", "refuted", "reason"),
    [
        ("mistralai/Mistral-7B-Instruct-v0.2", "ml.g5.2xlarge", "us-west-2", True, True, "no offer for Mistral"),
        ("mistralai/Mistral-7B-Instruct-v0.2", "ml.g5.2xlarge", "us-west-2", False, False, "serving is not tuning"),
        ("microsoft/Phi-4", "ml.g5.2xlarge", "us-west-2", True, True, "no offer for a model the catalog lacks either"),
        ("Qwen/Qwen3-4B", "ml.g5.xlarge", "us-west-2", True, False, "offered"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "local.1cpu", "local", True, False, "our own tuning on this machine"),
    ],
)
def test_tuning_is_managed_where_the_tune_catalog_has_the_model(
    model_name: str, instance_type: str, region: str, tuning: bool, refuted: bool, reason: str
) -> None:
    server = "transformers-llamacpp" if region == "local" else "transformers-vllm"
    broken = refusals(configuration(server, model_name, instance_type, region), CATALOG, tuning=tuning)
    assert [refusal.constraint for refusal in broken] == (["tuning-managed@1"] if refuted else []), reason


def test_a_name_the_catalog_does_not_have_refutes_nothing() -> None:
    foreign = configuration(
        "their-server", "their/model", "ml.x9.large", "us-west-2", quantization="theirs", tp_degree=64
    )
    assert refusals(foreign, CATALOG) == ()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in FILES:
        shutil.copy(Path(catalog.__file__).parent / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "old", "new", "constraint"),
    [
        ("servers.yaml", "name: vllm, version: v0.25.1", "name: vllm, version: v0.9.0", "engine-version@1"),
        ("servers.yaml", 'v0.25.1, cuda_min: "12.4"', 'v0.25.1, cuda_min: "12.10"', "driver-cuda@1"),
        ("drivers.yaml", 'g5, driver: "550.163", cuda: "12.4"', 'g5, driver: "470.1", cuda: "11.4"', "driver-cuda@1"),
        ("constraints.yaml", "id: tp-within-gpus\n  version: 1", "id: tp-within-gpus\n  version: 2", None),
    ],
)
def test_editing_data_alone_changes_what_is_refuted(
    folder: Path, file: str, old: str, new: str, constraint: str | None
) -> None:
    text = (folder / file).read_text("utf-8")
    assert old in text
    (folder / file).write_text(text.replace(old, new), "utf-8")
    broken = [refusal.constraint for refusal in refusals(configuration(), load_catalog(folder))]
    assert broken == ([constraint] if constraint else []), (
        "versions compare as numbers: 12.10 is above 12.4, 0.9 below 0.20"
    )


def test_a_constraint_cites_its_version(folder: Path) -> None:
    path = folder / "constraints.yaml"
    path.write_text(
        path.read_text("utf-8").replace("id: tp-within-gpus\n  version: 1", "id: tp-within-gpus\n  version: 2")
    )
    broken = refusals(configuration(tp_degree=2), load_catalog(folder))
    assert [refusal.constraint for refusal in broken] == ["tp-within-gpus@2"]


def test_every_declared_check_has_code_and_every_code_a_name() -> None:
    assert set(CHECKS) == set(CONSTRAINT_CHECKS)
    assert {constraint.check for constraint in CATALOG.constraints.values()} == set(CHECKS), "no check without use"


RESOLVED = [
    (
        ("transformers-vllm", "qwen3", "g5", "none", "1", "realtime-inference"),
        ("Qwen/Qwen3-0.6B", "ml.g5.xlarge", "us-west-2"),
        "smallest of the golden path, cheapest with a GPU",
    ),
    (
        ("transformers-vllm", "qwen3", "g5", "none", "4", "realtime-inference"),
        ("Qwen/Qwen3-0.6B", "ml.g5.12xlarge", "us-west-2"),
        "cheapest with four GPUs",
    ),
    (
        ("transformers-vllm", "qwen3", "g5", "awq", "2", "batch-transform"),
        ("Qwen/Qwen3-0.6B", "ml.g5.12xlarge", "us-west-2"),
        "two GPUs fit into four",
    ),
    (
        ("transformers-sglang", "llama3", "g6e", "fp8", "8", "async-inference"),
        ("meta-llama/Llama-3.2-1B-Instruct", "ml.g6e.48xlarge", "us-west-2"),
        "the family's largest",
    ),
    (
        ("transformers-vllm", "mistral", "g5", "none", "1", "realtime-inference"),
        ("mistralai/Mistral-7B-Instruct-v0.1", "ml.g5.xlarge", "us-west-2"),
        "no path has the family: the smallest",
    ),
    (
        ("http-flask", "logistic-regression", "local", "none", "1", "realtime-inference"),
        ("sklearn/logistic-regression-digits", "local.1cpu", "local"),
        "the gap left on purpose",
    ),
    (
        ("transformers-llamacpp", "smollm2", "local", "q8_0", "1", "realtime-inference"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "local.1cpu", "local"),
        "the language model of this machine",
    ),
]


@pytest.mark.parametrize(("values", "expected", "reason"), RESOLVED)
def test_a_vector_becomes_the_smallest_model_on_the_cheapest_instance(
    values: tuple[str, ...], expected: tuple[str, str, str], reason: str
) -> None:
    resolved = resolve(Vector(*values), CATALOG, runs_all)
    assert isinstance(resolved, Configuration)
    assert (resolved.model_name, resolved.instance_type, resolved.region) == expected, reason
    assert resolved.vector == Vector(*values), "its run is evidence for exactly this vector"


def test_path_models_come_before_smaller_others(folder: Path) -> None:
    path = folder / "models.yaml"
    row = (
        "- {name: Qwen/Qwen3-0.1B, kind: language-model, parameters: 100000000, architecture: Qwen3ForCausalLM,\n"
        "   context_length: 32768, gated: false, dtype: bfloat16, bits: 16, formats: [safetensors]}\n"
    )
    path.write_text(path.read_text("utf-8") + row)
    vector = Vector("transformers-vllm", "qwen3", "g5", "none", "1", "realtime-inference")
    resolved = resolve(vector, load_catalog(folder), runs_all)
    assert isinstance(resolved, Configuration)
    assert resolved.model_name == "Qwen/Qwen3-0.6B"


@pytest.mark.parametrize("entry_id", ["rt-qwen3-06b", "rt-gpt-oss-20b", "local-fastapi-forest-1cpu"])
def test_the_vector_of_an_entry_that_is_the_first_choice_gets_the_entrys_id(entry_id: str) -> None:
    declared = configuration_of(CATALOG.entry(entry_id), CATALOG)
    resolved = resolve(declared.vector, CATALOG, runs_all)
    assert isinstance(resolved, Configuration)
    assert config_id(resolved) == config_id(declared), "LoRA and the like are taken over from the entry"


UNRESOLVED = [
    ({"model_family": "other"}, None, "family 'other' is no one family; name a model instead"),
    ({"model_family": "unknown"}, None, "family 'unknown' is no one family; name a model instead"),
    ({"model_family": "glm"}, None, "the catalog has nothing for model_family 'glm'; add it to models.yaml"),
    ({"instance_family": "x9"}, None, "the catalog has nothing for instance_family 'x9'; add it to instances.yaml"),
    (
        {"deployment_config": "triton-vllm"},
        None,
        "the catalog has nothing for deployment_config 'triton-vllm'; add it to deployment_configs.yaml",
    ),
    (
        {"deployment_target": "managed-inference"},
        None,
        "the catalog has nothing for deployment_target 'managed-inference'; add it to deployment_targets.yaml",
    ),
    ({"quantization": "fp16"}, None, "quantization 'fp16' is written 'none' here; ask for that vector"),
    ({"quantization": ""}, None, "quantization '' is written 'none' here; ask for that vector"),
    ({"tp_degree": ""}, None, "tp_degree '' is no whole number above 0; ask for 1, 2, 4 or 8"),
    ({"tp_degree": "0"}, None, "tp_degree '0' is no whole number above 0; ask for 1, 2, 4 or 8"),
    (
        {"instance_family": "p5e"},
        None,
        "no instance of family p5e has a price; enter usd_per_hour for one in instances.yaml",
    ),
    (
        {"tp_degree": "16"},
        "tp-within-gpus@1",
        "tp_degree 16 splits over 16 GPUs and ml.g5.48xlarge has 8; choose an instance with more, or a smaller degree",
    ),
    (
        {"deployment_config": "http-fastapi"},
        "kind-match@1",
        "http-fastapi serves a predictor and Qwen/Qwen3-0.6B is a language-model; choose a server of that kind",
    ),
]


@pytest.mark.parametrize(("change", "constraint", "reason"), UNRESOLVED)
def test_a_vector_that_nothing_makes_concrete_has_a_reason(
    change: dict[str, str], constraint: str | None, reason: str
) -> None:
    vector = replace(Vector("transformers-vllm", "qwen3", "g5", "none", "1", "realtime-inference"), **change)
    unresolved = resolve(vector, CATALOG, runs_all)
    assert isinstance(unresolved, Unresolved)
    assert unresolved.reason == reason
    assert (unresolved.refusal.constraint if unresolved.refusal else None) == constraint


def test_an_executor_that_cannot_run_it_gives_its_reason() -> None:
    vector = Vector("transformers-vllm", "qwen3", "g5", "none", "1", "realtime-inference")
    assert resolve(vector, CATALOG, runs_local_http) == Unresolved(
        "this executor runs http-fastapi and http-flask on this machine"
    )


def test_what_the_local_executor_can_prove_holds_the_gap_left_on_purpose() -> None:
    possible = Universe.of(CATALOG, runs_local_http).possible
    realtime = {(v.deployment_config, v.model_family) for v in possible if v.deployment_target == "realtime-inference"}
    assert realtime == {
        ("http-flask", "random-forest"),
        ("http-flask", "logistic-regression"),
        ("http-fastapi", "random-forest"),
        ("http-fastapi", "logistic-regression"),
    }
    on_path = {configuration_of(entry, CATALOG).vector for entry in CATALOG.tier_entries("local")}
    gaps = {vector for vector in possible if vector.deployment_target == "realtime-inference"} - on_path
    assert gaps == {Vector("http-flask", "logistic-regression", "local", "none", "1", "realtime-inference")}


@pytest.fixture(scope="module")
def universe() -> tuple[Vector, ...]:
    return Universe.of(CATALOG, runs_all).possible


def test_the_universe_holds_the_vector_of_every_entry_with_a_family(universe: tuple[Vector, ...]) -> None:
    vectors = {configuration_of(entry, CATALOG).vector for entry in SHIPPED}
    assert {vector for vector in vectors if vector.model_family != "other"} <= set(universe)


def test_the_universe_has_no_vector_twice_and_none_that_does_not_resolve(universe: tuple[Vector, ...]) -> None:
    assert len(set(universe)) == len(universe)
    for vector in universe[::97]:
        resolved = resolve(vector, CATALOG, runs_all)
        assert isinstance(resolved, Configuration)
        assert refusals(resolved, CATALOG) == ()


def test_the_universe_leaves_nothing_out_that_resolves() -> None:
    """Against the plain product of all values, on a catalog cut small enough to walk through."""
    small = replace(
        CATALOG,
        instances={name: CATALOG.instances[name] for name in ("ml.g5.12xlarge", "ml.g6.xlarge", "local.1cpu")},
        models={
            name: CATALOG.models[name]
            for name in ("Qwen/Qwen3-0.6B", "HuggingFaceTB/SmolLM2-135M-Instruct", "sklearn/random-forest-digits")
        },
    )
    values = universe_values(small)
    product = [Vector(*point) for point in itertools.product(*values.values())]
    expected = {vector for vector in product if isinstance(resolve(vector, small, runs_all), Configuration)}
    assert set(Universe.of(small, runs_all).possible) == expected
    assert 0 < len(expected) < len(product)


def test_a_new_instance_family_is_a_gap_on_the_day_it_is_added(folder: Path) -> None:
    path = folder / "instances.yaml"
    row = (
        "- {instance_type: ml.g7.xlarge, family: g7, gpu_count: 1, gpu_type: NVIDIA L40S, gpu_memory_gb: 48,\n"
        "   vcpus: 4, ram_gb: 32, usd_per_hour: 2.0, price_source: by-type}\n"
    )
    path.write_text(path.read_text("utf-8") + row)
    vector = Vector("transformers-vllm", "qwen3", "g7", "fp8", "1", "realtime-inference")
    assert isinstance(resolve(vector, load_catalog(folder), runs_all), Configuration)
    assert "g7" in universe_values(load_catalog(folder))["instance_family"]


def test_universe_values_cover_the_dimensions_in_order() -> None:
    values = universe_values(CATALOG)
    assert tuple(values) == DIMENSIONS
    assert values["tp_degree"] == ("1", "2", "4", "8")
    assert "other" not in values["model_family"]


def test_families_that_the_executor_does_not_reach_are_not_even_tried() -> None:
    asked: list[str] = []

    def can_run(configuration: Configuration) -> str | None:
        asked.append(configuration.instance_type)
        return None if configuration.instance_type.startswith("local.") else "elsewhere"

    everything = Universe.of(CATALOG, can_run).possible
    assert any(not each.startswith("local.") for each in asked)
    asked.clear()
    assert Universe.of(CATALOG, can_run, reaches=lambda instance: instance.local).possible == everything
    assert all(each.startswith("local.") for each in asked)
