"""The memory estimate against sums done by hand, its direction, and configurations that no money is needed to refute."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import catalog
from catalog.loader import FILES, load_catalog
from mlcc_dagster.core.configuration import Configuration, Vector
from mlcc_dagster.core.constraints import refusals
from mlcc_dagster.core.preflight import memory_estimate
from mlcc_dagster.core.resolution import configuration_of, resolve

CATALOG = load_catalog()
GOLDEN = [entry for entry in CATALOG.entries if entry.id.startswith("rt-")]
QWEN_4B, QWEN_32B, OSS_120B = (CATALOG.models[n] for n in ("Qwen/Qwen3-4B", "Qwen/Qwen3-32B", "openai/gpt-oss-120b"))
QWEN35_9B = CATALOG.models["Qwen/Qwen3.5-9B"]
A10G, H100 = CATALOG.instances["ml.g5.12xlarge"], CATALOG.instances["ml.p5.48xlarge"]


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


@pytest.mark.parametrize(
    ("model", "instance", "options", "needed", "room", "reason"),
    [
        (QWEN_4B, A10G, {}, 8.8, 21.6, "16 bits stored: 4e9 x 2 x 1.1"),
        (QWEN_4B, A10G, {"quantization": "fp32"}, 17.6, 21.6, "4 bytes"),
        (QWEN_4B, A10G, {"quantization": "int8"}, 4.4, 21.6, "1 byte"),
        (QWEN_4B, H100, {"quantization": "fp8"}, 4.4, 72.0, "1 byte; 0.9 x 80"),
        (QWEN_4B, A10G, {"quantization": "awq"}, 2.2, 21.6, "half a byte"),
        (QWEN_4B, A10G, {"quantization": "gptq"}, 2.2, 21.6, "half a byte"),
        (QWEN_4B, A10G, {"quantization": "int4"}, 2.2, 21.6, "half a byte"),
        (QWEN_32B, A10G, {"tp_degree": 4}, 70.4, 86.4, "0.9 x 24 x 4, whatever the instance has"),
        (OSS_120B, A10G, {"tp_degree": 4}, 66.0, 86.4, "MXFP4 is stored in 4 bits: 120e9 x 0.5 x 1.1"),
        (
            QWEN_4B,
            A10G,
            {"max_model_len": 4096},
            9.403979776,
            21.6,
            "and the cache, 2 x 36 x 8 x 128 x 2 x 4096 = 603,979,776 bytes",
        ),
        (
            QWEN_4B,
            A10G,
            {"max_model_len": 4096, "serving_params": {"kv_cache_dtype": "fp8"}},
            9.101989888,
            21.6,
            "half the cache: 301,989,888 bytes",
        ),
        (
            QWEN_4B,
            A10G,
            {"max_model_len": 4096, "serving_params": {"kv_cache_dtype": "theirs"}},
            8.8,
            21.6,
            "a cache of unknown width is not counted",
        ),
        (QWEN35_9B, A10G, {"max_model_len": 262144}, 19.8, 21.6, "no cache shape: the weights alone"),
    ],
)
def test_the_sum_is_the_one_done_by_hand(
    model, instance, options: dict, needed: float, room: float, reason: str
) -> None:
    estimate = memory_estimate(model, instance, **({"quantization": "none", "tp_degree": 1} | options))
    assert estimate is not None
    assert (estimate.needed_gb, estimate.room_gb) == (pytest.approx(needed), pytest.approx(room)), reason


@pytest.mark.parametrize(
    ("model", "instance", "options", "reason"),
    [
        (QWEN_4B, CATALOG.instances["local.2cpu"], {}, "no GPU"),
        (QWEN_4B, A10G, {"quantization": "q8_0"}, "llama.cpp's formats mix widths"),
        (QWEN_4B, A10G, {"quantization": "q4_1"}, "llama.cpp's formats mix widths"),
        (QWEN_4B, A10G, {"quantization": "theirs"}, "unknown"),
        (replace(QWEN_4B, parameters=None), A10G, {}, "a model of unknown size"),
        (replace(QWEN_4B, bits=None), A10G, {}, "stored in an unknown width"),
        (CATALOG.models["sklearn/random-forest-digits"], A10G, {}, "a predictor has no parameters"),
        (QWEN_32B, A10G, {"serving_params": {"cpu_offload_gb": "60"}}, "weights in the memory of the host"),
        (QWEN_32B, A10G, {"serving_params": {"pipeline_parallel_size": "4"}}, "weights on further GPUs"),
    ],
)
def test_a_missing_fact_gives_no_estimate_rather_than_a_small_one(model, instance, options: dict, reason: str) -> None:
    assert memory_estimate(model, instance, **({"quantization": "none", "tp_degree": 1} | options)) is None, reason


def test_a_width_that_is_named_needs_no_stored_one() -> None:
    estimate = memory_estimate(replace(QWEN_4B, bits=None), A10G, quantization="int8", tp_degree=1)
    assert estimate is not None
    assert estimate.needed_gb == pytest.approx(4.4)


def test_the_sum_is_told_with_every_number_of_it() -> None:
    estimate = memory_estimate(QWEN_4B, A10G, quantization="none", tp_degree=2, max_model_len=4096)
    assert str(estimate) == (
        "9.40 GB (weights 4 billion parameters x 2 bytes x 1.1 = 8.80 GB, "
        "KV cache 2 x 36 layers x 8 heads x 128 x 2 bytes x 4096 tokens = 0.60 GB) "
        "against 43.20 GB (0.9 x 24 GB x tp 2)"
    )


def test_what_just_fits_fits() -> None:
    fitting, beyond = (
        memory_estimate(replace(QWEN_4B, parameters=parameters), A10G, quantization="int8", tp_degree=1)
        for parameters in (19_636_363_636, 19_636_363_637)
    )
    assert fitting is not None and beyond is not None
    assert (fitting.fits, beyond.fits) == (True, False), "19,636,363,636 x 1.1 is the last below 21.6e9"


SIZES = st.integers(1, 2_000_000_000_000)
DEGREES = st.integers(1, 64)
LENGTHS = st.none() | st.integers(1, 10_000_000)
WIDTHS = st.sampled_from(["none", "fp32", "fp8", "int8", "int4", "awq", "gptq"])


@given(SIZES, SIZES, WIDTHS, LENGTHS)
def test_more_parameters_never_need_less(one: int, other: int, quantization: str, tokens: int | None) -> None:
    small, large = (
        memory_estimate(
            replace(QWEN_4B, parameters=parameters),
            A10G,
            quantization=quantization,
            tp_degree=1,
            max_model_len=tokens,
        )
        for parameters in sorted((one, other))
    )
    assert small is not None and large is not None
    assert small.needed_gb <= large.needed_gb
    assert small.fits or not large.fits


@given(SIZES, DEGREES, DEGREES, WIDTHS, LENGTHS)
def test_a_higher_degree_never_gives_less_room(
    parameters: int, one: int, other: int, quantization: str, tokens: int | None
) -> None:
    low, high = (
        memory_estimate(
            replace(QWEN_4B, parameters=parameters),
            A10G,
            quantization=quantization,
            tp_degree=degree,
            max_model_len=tokens,
        )
        for degree in sorted((one, other))
    )
    assert low is not None and high is not None
    assert low.room_gb <= high.room_gb
    assert high.fits or not low.fits


@given(st.integers(1, 10_000_000), st.integers(1, 10_000_000))
def test_a_longer_context_never_needs_less_and_any_needs_more_than_none(one: int, other: int) -> None:
    none, short, long = (
        memory_estimate(QWEN_4B, A10G, quantization="none", tp_degree=1, max_model_len=tokens)
        for tokens in (None, *sorted((one, other)))
    )
    assert none is not None and short is not None and long is not None
    assert none.needed_gb < short.needed_gb <= long.needed_gb


def test_the_golden_path_has_its_22_entries() -> None:
    assert len(GOLDEN) == 22


@pytest.mark.parametrize("entry", GOLDEN, ids=lambda entry: entry.id)
def test_every_golden_path_entry_passes_with_a_sum_that_was_really_made(entry) -> None:
    declared = configuration_of(entry, CATALOG)
    assert refusals(declared, CATALOG, tuning="tune" in entry.lifecycle) == ()
    estimate = memory_estimate(
        CATALOG.models[declared.model_name or ""],
        CATALOG.instances[declared.instance_type],
        quantization=declared.quantization,
        tp_degree=declared.tp_degree,
        max_model_len=declared.max_model_len,
    )
    assert estimate is not None, "it passes by its sum and not for lack of a fact"
    assert estimate.fits


FOREST, SMOLLM = "sklearn/random-forest-digits", "HuggingFaceTB/SmolLM2-135M-Instruct"
LLAMA_70B, QWEN_72B = "meta-llama/Llama-3.3-70B-Instruct", "Qwen/Qwen2.5-72B-Instruct"
MIXTRAL = "mistralai/Mixtral-8x7B-Instruct-v0.1"

IMPOSSIBLE = [
    (configuration(model_name="Qwen/Qwen3-14B"), "memory-fit", "30.80 GB", "14B on one A10G"),
    (configuration(model_name="Qwen/Qwen3-32B"), "memory-fit", "70.40 GB", "32B on one A10G"),
    (
        configuration(model_name="Qwen/Qwen3-32B", instance_type="ml.g5.12xlarge", tp_degree=2),
        "memory-fit",
        "43.20 GB (0.9 x 24 GB x tp 2)",
        "two of four GPUs: the others do not count",
    ),
    (
        configuration(model_name=LLAMA_70B, instance_type="ml.g5.48xlarge", tp_degree=4),
        "memory-fit",
        "155.22 GB",
        "70B over four A10G",
    ),
    (
        configuration(model_name=LLAMA_70B, instance_type="ml.p5.48xlarge", tp_degree=2),
        "memory-fit",
        "144.00 GB (0.9 x 80 GB x tp 2)",
        "70B over two H100",
    ),
    (
        configuration(model_name=QWEN_72B, instance_type="ml.g6e.xlarge", quantization="fp8"),
        "memory-fit",
        "43.20 GB (0.9 x 48 GB x tp 1)",
        "72B in fp8 on one L40S",
    ),
    (
        configuration(model_name="openai/gpt-oss-120b", instance_type="ml.g5.12xlarge", tp_degree=2),
        "memory-fit",
        "66.00 GB (120 billion parameters x 0.5 bytes x 1.1)",
        "4-bit weights, still too many",
    ),
    (
        configuration(model_name="openai/gpt-oss-20b", quantization="int8"),
        "memory-fit",
        "22.00 GB (20 billion parameters x 1 byte x 1.1)",
        "wider than it is stored",
    ),
    (configuration(model_name=MIXTRAL, quantization="awq"), "memory-fit", "25.69 GB", "4-bit Mixtral on 24 GB"),
    (
        configuration(model_name="meta-llama/Llama-3.1-8B-Instruct", max_model_len=131072),
        "memory-fit",
        "KV cache 2 x 32 layers x 8 heads x 128 x 2 bytes x 131072 tokens = 17.18 GB",
        "the cache of the whole context, where the weights alone fit",
    ),
    (configuration("http-flask"), "kind-match", "serves a predictor", "an HTTP predictor serves no language model"),
    (configuration("http-fastapi"), "kind-match", "serves a predictor", "nor does this one"),
    (
        configuration("transformers-vllm", FOREST),
        "kind-match",
        "serves a language-model",
        "a language-model server serves no forest",
    ),
    (configuration("diffusors-vllm"), "kind-match", "serves a diffusion", "a text model makes no pictures"),
    (configuration("triton-fil", FOREST), "model-format", "joblib, onnx", "FIL loads no joblib"),
    (configuration(tp_degree=2), "tp-within-gpus", "has 1", "two parts on one GPU"),
    (
        configuration(instance_type="ml.g5.12xlarge", tp_degree=8),
        "tp-within-gpus",
        "has 4",
        "eight parts on four GPUs",
    ),
    (
        configuration("http-flask", FOREST, "local.2cpu", "local", tp_degree=2),
        "tp-within-gpus",
        "has 0",
        "cores are no GPUs",
    ),
    (configuration(instance_type="ml.m5.large"), "gpu-needed", "has 0", "vLLM without a GPU"),
    (configuration(quantization="q8_0"), "server-quantization", "does not offer q8_0", "a llama.cpp format in vLLM"),
    (
        configuration("transformers-djl", instance_type="ml.g6e.xlarge", quantization="awq"),
        "server-quantization",
        "does not offer awq",
        "DJL has bitsandbytes alone",
    ),
    (configuration(quantization="fp8"), "accelerator-quantization", "NVIDIA A10G", "no fp8 on an A10G"),
    (
        configuration(instance_type="ml.p4d.24xlarge", quantization="fp8"),
        "accelerator-quantization",
        "NVIDIA A100",
        "nor on an A100",
    ),
    (
        configuration("transformers-llamacpp", SMOLLM, "ml.m5.large"),
        "local-only",
        "on this machine alone",
        "the local server in the cloud",
    ),
    (
        configuration("http-flask", FOREST, "local.1cpu", "local", deployment_target="hyperpod-eks"),
        "local-target",
        "hyperpod-eks",
        "a managed target on this machine",
    ),
    (configuration(region="mars-north-1"), "known-region", "mars-north-1", "no such region"),
    (
        configuration("http-flask", FOREST, "local.1cpu", "us-west-2"),
        "known-region",
        "choose local",
        "here is not there",
    ),
]


def test_at_least_20_impossible_configurations_break_every_constraint_that_one_alone_can_break() -> None:
    assert len({each for each, _, _, _ in IMPOSSIBLE}) >= 20
    by_others = {
        "engine-version",
        "driver-cuda",
        "tuning-managed",
    }  # newer images, older drivers, a lifecycle that tunes
    assert {constraint for _, constraint, _, _ in IMPOSSIBLE} == set(CATALOG.constraints) - by_others


@pytest.mark.parametrize(("impossible", "constraint", "numbers", "reason"), IMPOSSIBLE)
def test_an_impossible_configuration_is_refuted_by_name_and_numbers(
    impossible: Configuration, constraint: str, numbers: str, reason: str
) -> None:
    refuted = {refusal.constraint: refusal.sentence for refusal in refusals(impossible, CATALOG)}
    assert f"{constraint}@{CATALOG.constraints[constraint].version}" in refuted, reason
    sentence = refuted[f"{constraint}@{CATALOG.constraints[constraint].version}"]
    assert numbers in sentence
    assert "; choose " in sentence, "it says what to do"


@pytest.mark.parametrize(
    ("possible", "reason"),
    [
        (configuration(model_name="meta-llama/Llama-3.1-8B-Instruct"), "8B weights fit 24 GB where no length is set"),
        (configuration(model_name="openai/gpt-oss-20b"), "11 GB as it is stored"),
        (
            configuration(model_name=QWEN_72B, instance_type="ml.g6e.12xlarge", tp_degree=2, quantization="fp8"),
            "79.98 GB in 86.40 GB",
        ),
        (
            configuration(model_name="Qwen/Qwen3-32B", serving_params={"cpu_offload_gb": "60"}),
            "its weights lie elsewhere",
        ),
        (
            configuration("their-server", "Qwen/Qwen3-32B"),
            "a server that the catalog does not have may keep them elsewhere",
        ),
    ],
)
def test_what_may_fit_is_not_refuted(possible: Configuration, reason: str) -> None:
    assert refusals(possible, CATALOG) == (), reason


def test_a_shorter_context_is_advised_only_where_it_can_help() -> None:
    by_cache = configuration(model_name="meta-llama/Llama-3.1-8B-Instruct", max_model_len=131072)
    by_weights = configuration(model_name="Qwen/Qwen3-32B", max_model_len=131072)
    (cache,), (weights,) = refusals(by_cache, CATALOG), refusals(by_weights, CATALOG)
    assert cache.sentence.endswith("fewer bits per weight or a shorter max_model_len")
    assert weights.sentence.endswith("a higher tp_degree or fewer bits per weight")


def test_a_vector_gets_the_cheapest_instance_that_its_model_fits(tmp_path: Path) -> None:
    for name in FILES:
        shutil.copy(Path(catalog.__file__).parent / name, tmp_path / name)
    instances = tmp_path / "instances.yaml"
    rows = "".join(
        f"- {{instance_type: ml.g7.{size}, family: g7, gpu_count: 1, gpu_type: NVIDIA L40S, gpu_memory_gb: {memory},\n"
        f"   vcpus: 4, ram_gb: 32, usd_per_hour: {price}, price_source: by-type}}\n"
        for size, memory, price in (("4xlarge", 96, 3.0), ("xlarge", 24, 1.0), ("2xlarge", 48, 2.0))
    )
    instances.write_text(instances.read_text("utf-8") + rows, "utf-8")
    several = load_catalog(tmp_path)
    found = {
        (family, quantization): resolve(
            Vector("transformers-vllm", family, "g7", quantization, "1", "realtime-inference"), several, lambda _: None
        )
        for family, quantization in (("qwen3", "none"), ("mixtral", "awq"), ("mixtral", "int8"), ("mixtral", "none"))
    }
    chosen = {key: each.instance_type for key, each in found.items() if isinstance(each, Configuration)}
    assert chosen == {
        ("qwen3", "none"): "ml.g7.xlarge",
        ("mixtral", "awq"): "ml.g7.2xlarge",
        ("mixtral", "int8"): "ml.g7.4xlarge",
    }
    unresolved = found["mixtral", "none"]
    assert not isinstance(unresolved, Configuration)
    assert unresolved.refusal is not None
    assert unresolved.refusal.constraint == "memory-fit@1"


def test_the_length_that_an_entry_declares_counts_for_its_vector() -> None:
    """Else a vector would be admitted whose configuration preflight then refutes."""
    entries = tuple(
        replace(entry, max_model_len=1_000_000) if entry.id == "rt-qwen3-06b" else entry for entry in CATALOG.entries
    )
    declared = replace(CATALOG, entries=entries)
    vector = Vector("transformers-vllm", "qwen3", "g5", "none", "1", "realtime-inference")
    resolved = resolve(vector, declared, lambda _: None)
    assert isinstance(resolved, Configuration)
    assert (resolved.model_name, resolved.instance_type) == ("Qwen/Qwen3-0.6B", "ml.g5.2xlarge"), (
        "the entry's length is for its own instance"
    )
    assert refusals(resolved, declared) == ()
