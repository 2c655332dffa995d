"""Reading a catalog folder: what is refused, and that all of it is refused at once."""

import shutil
from pathlib import Path

import pytest

import catalog
from catalog.errors import CatalogError
from catalog.loader import FILES, load_catalog
from catalog.model import LIFECYCLE_STEPS
from mlcc_dagster.core.configuration import normal_quantization, normal_target

SHIPPED = Path(catalog.__file__).parent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped data that a test may break."""
    for name in FILES:
        shutil.copy(SHIPPED / name, tmp_path / name)
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text, f"the test edits text that {path.name} no longer has"
    path.write_text(text.replace(old, new, 1), "utf-8")


def problems_of(folder: Path) -> tuple[str, ...]:
    with pytest.raises(CatalogError) as caught:
        load_catalog(folder)
    return caught.value.problems


def test_a_copy_of_the_shipped_folder_loads_as_the_shipped_catalog(folder: Path) -> None:
    assert load_catalog(folder).entries == load_catalog().entries


def test_the_shipped_catalog_is_read_once() -> None:
    assert load_catalog() is load_catalog()


def test_five_mistakes_in_five_files_are_reported_together_with_their_paths(folder: Path) -> None:
    edit(folder / "instances.yaml", "vcpus: 4, ram_gb: 16", "vcpus: many, ram_gb: 16")
    edit(folder / "models.yaml", "architecture: LlamaForCausalLM", "architecture: LlamaForCasualLM")
    edit(folder / "tiers.yaml", "cost_ceiling_usd: 10,", "cost_ceiling_usd: -1,")
    edit(
        folder / "local_path.yaml",
        "model_name: sklearn/random-forest-digits",
        "modelname: sklearn/random-forest-digits",
    )
    edit(folder / "workloads.yaml", "name: rag_document_qa", "name: multi_turn_chat")
    problems = problems_of(folder)
    assert problems == (
        "instances.yaml: instances[0].vcpus: must be a whole number, not 'many'",
        "models.yaml: models[0].architecture: 'LlamaForCasualLM' is not known; did you mean 'LlamaForCausalLM'?",
        "workloads.yaml: workloads[2].name: 'multi_turn_chat' is given twice; ids must be unique",
        "tiers.yaml: tiers[0].cost_ceiling_usd: must be above 0, not -1",
        "local_path.yaml: entries[0].model_name: is missing; give it a value",
        "local_path.yaml: entries[0].modelname: unknown field; did you mean 'model_name'?",
    ), "the misspelt field is one mistake with two sides: missing and unknown"


def test_a_list_of_stage_times_that_is_empty_lacks_every_stage(folder: Path) -> None:
    (folder / "stage_times.yaml").write_text("stage_times: []\n", "utf-8")
    assert len(problems_of(folder)) == len(LIFECYCLE_STEPS)


def test_the_error_counts_and_lists_and_exits_2(folder: Path) -> None:
    (folder / "costs.yaml").write_text("tuning_usd: [50, 5]\nbuild_minute_usd: [0.01, 0.06]\n", "utf-8")
    with pytest.raises(CatalogError) as caught:
        load_catalog(folder)
    assert str(caught.value) == (
        "the catalog has 1 mistake; correct it and try again:\n"
        "  - costs.yaml: tuning_usd: must be two numbers above 0, low and high, not [50, 5]"
    )
    assert caught.value.exit_code == 2


LOCAL_FIRST = "- {id: local-fastapi-forest-1cpu, deployment_config: http-fastapi,"
MISTAKES = [
    pytest.param(
        "optimization_space.yaml",
        "name: slots, server: llamacpp,",
        "name: threads, server: llamacpp,",
        "optimization_space[11].name: 'threads' is given twice for this server",
        id="a search dimension given twice",
    ),
    pytest.param(
        "optimization_space.yaml",
        "values: [1, 2, 4, 8]",
        "values: [1, two]",
        "optimization_space[1].values: must be a list of texts or of whole numbers",
        id="numbers and texts",
    ),
    pytest.param(
        "optimization_space.yaml",
        "values: [auto, fp16, fp8, int8]",
        "values: [fp16, fp8, int8]",
        "optimization_space[3].default: must be one of the values, vcpus or null, not 'auto'",
        id="a default that is no value",
    ),
    pytest.param(
        "optimization_space.yaml",
        "default: 32, least",
        "default: 300, least",
        "optimization_space[5].default: must be one of the values",
        id="a default beyond the range",
    ),
    pytest.param(
        "optimization_space.yaml",
        "least: 1, most: 256",
        "least: 1, most: 256, values: [1]",
        "optimization_space[5].values: must be a list where there is no range",
        id="a range and values",
    ),
    pytest.param(
        "optimization_space.yaml",
        "sets: max_batch_size, state: future",
        "sets: max_batch_size, state: sweepable",
        "optimization_space[5].values: must list what a search tries",
        id="a range to sweep",
    ),
    pytest.param(
        "optimization_space.yaml",
        "name: slots, server: llamacpp",
        "name: slots, server: llamacp",
        "optimization_space[10].server: 'llamacp' is not known; did you mean 'llamacpp'?",
        id="a server that is not there",
    ),
    pytest.param(
        "golden_path.yaml", "id: rt-qwen3-06b", "id: RT_1", "entries[0].id: 'RT_1' must match", id="id pattern"
    ),
    pytest.param(
        "golden_path.yaml",
        "id: rt-qwen3-17b",
        "id: rt-qwen3-06b",
        "entries[1].id: 'rt-qwen3-06b' is given twice, first at golden_path.yaml: entries[0]",
        id="an id given twice",
    ),
    pytest.param(
        "local_path.yaml",
        "id: local-fastapi-forest-1cpu",
        "id: rt-qwen3-06b",
        "entries[0].id: 'rt-qwen3-06b' is given twice, first at golden_path.yaml: entries[0]",
        id="an id given twice across files",
    ),
    pytest.param(
        "golden_path.yaml",
        "  track: realtime",
        "  track: async",
        "defaults.track: must be realtime",
        id="track of target",
    ),
    pytest.param(
        "golden_path.yaml",
        "timeout: 1800",
        "timeout: 59",
        "entries[0].timeout: must be at least 60",
        id="short timeout",
    ),
    pytest.param(
        "golden_path.yaml",
        "technique: sft",
        "technique: sfd",
        "entries[0].tune_config.technique: 'sfd' is not known; did you mean 'sft'?",
        id="technique the tune catalog lacks",
    ),
    pytest.param(
        "golden_path.yaml",
        "training_type: lora",
        "training_type: full-rank",
        "entries[0].tune_config.training_type: 'full-rank' is not known",
        id="training type the technique lacks",
    ),
    pytest.param(
        "golden_path.yaml",
        "tune_id: huggingface-reasoning-qwen3-06b",
        "tune_id: huggingface-reasoning-qwen3-4b",
        "entries[0].tune_config: tune_id huggingface-reasoning-qwen3-4b tunes Qwen/Qwen3-4B, not Qwen/Qwen3-0.6B",
        id="tunes another model",
    ),
    pytest.param(
        "golden_path.yaml",
        "enable_lora: true",
        "enable_lora: false",
        "enable_lora: must be true",
        id="tune without LoRA",
    ),
    pytest.param(
        "golden_path.yaml",
        "deploy, test, tune,",
        "deploy, tune, test,",
        "defaults.lifecycle: must be in canonical order",
        id="tune before test",
    ),
    pytest.param(
        "local_path.yaml", "register, clean]", "register]", "defaults.lifecycle: must end with clean", id="no clean"
    ),
    pytest.param(
        "local_path.yaml",
        "test, benchmark, register",
        "test, register",
        "defaults.benchmark: must be enabled exactly when",
        id="benchmark enabled without its step",
    ),
    pytest.param(
        "local_path.yaml",
        "workload: local_predict",
        "workload: local_chat",
        "workload local_chat is for a language-model and sklearn/random-forest-digits is a predictor",
        id="workload of another kind",
    ),
    pytest.param(
        "local_path.yaml",
        "region: local",
        "region: us-west-2",
        "defaults.region: must be local for",
        id="local elsewhere",
    ),
    pytest.param(
        "local_path.yaml",
        LOCAL_FIRST,
        LOCAL_FIRST + " quantization: fp7,",
        "entries[0].quantization: 'fp7' is not known; did you mean 'fp8'?",
        id="unknown quantization",
    ),
    pytest.param(
        "local_path.yaml",
        'memory_limit_mb: "256"',
        "memory_limit_mb: 2.5",
        "serving_params: 'memory_limit_mb' must be a text, not 2.5; put it in quotes",
        id="a parameter whose text would be a guess",
    ),
    pytest.param(
        "local_path.yaml",
        "expected_failure: oom",
        "expected_failure: ooom",
        "expected_failure: 'ooom' is not known; did you mean 'oom'?",
        id="failure category",
    ),
    pytest.param(
        "instances.yaml",
        "price_source: by-type,",
        "price_source: by-tipe,",
        "price_source: 'by-tipe' is not known; did you mean 'by-type'?",
        id="price source",
    ),
    pytest.param(
        "instances.yaml",
        "usd_per_hour: 1.52, price_source: by-type",
        "usd_per_hour: null",
        "instances[1].price_note: must say why there is no price",
        id="no price and no reason",
    ),
    pytest.param(
        "instances.yaml",
        "usd_per_hour: 1.408",
        "usd_per_hour: 0",
        "instances[0].usd_per_hour: must be above 0",
        id="free instance",
    ),
    pytest.param(
        "instances.yaml",
        "gpu_count: 1, gpu_type: NVIDIA A10G, gpu_memory_gb: 24, vcpus: 4",
        "gpu_count: 0, gpu_type: NVIDIA A10G, gpu_memory_gb: 24, vcpus: 4",
        "instances[0].gpu_count: is 0 although a GPU is described",
        id="GPU without count",
    ),
    pytest.param(
        "constraints.yaml",
        "check: kind_match",
        "check: kind_matsch",
        "constraints[0].check: 'kind_matsch' is not known; did you mean 'kind_match'?",
        id="check without code",
    ),
    pytest.param(
        "constraints.yaml",
        "a {served_kind} and",
        "a {serverd_kind} and",
        "constraints[0].sentence: '{serverd_kind}' is not offered by kind_match",
        id="placeholder the check does not fill",
    ),
    pytest.param(
        "constraints.yaml",
        "a {served_kind} and",
        "a {served_kind and",
        "constraints[0].sentence: is no template",
        id="broken template",
    ),
    pytest.param(
        "models.yaml",
        "kv_shape: [16, 8, 64]",
        "kv_shape: [16, 8]",
        "models[0].kv_shape: must be [layers, key-value heads, head dimension]",
        id="cache shape",
    ),
    pytest.param("models.yaml", "gated: true", "gated: maybe", "models[0].gated: must be true or false", id="flag"),
    pytest.param(
        "accelerators.yaml",
        "[none, int8",
        "[int8",
        "accelerators[0].quantizations: must contain none",
        id="full precision",
    ),
    pytest.param(
        "workloads.yaml",
        "concurrency_levels: [2]",
        "concurrency_levels: [2, 0]",
        "workloads[0].concurrency_levels: must hold numbers from 1 to 1024 only",
        id="level zero",
    ),
    pytest.param(
        "workloads.yaml",
        "concurrency_levels: [2]",
        "concurrency_levels: [2, 2]",
        "workloads[0].concurrency_levels: names something twice",
        id="level twice",
    ),
    pytest.param(
        "workloads.yaml",
        "input_tokens_mean: 100",
        "input_tokens_mean: null",
        "workloads[0].input_tokens_mean: must be a number, not null",
        id="language workload without tokens",
    ),
    pytest.param(
        "workloads.yaml",
        "local: {input_tokens_mean: 24, output_tokens_mean: 24, requests: 8}",
        "local: {input_tokens_mean: 24, requests: 8}",
        "workloads[0].local.output_tokens_mean: is missing; give it a value",
        id="local scale without answers",
    ),
    pytest.param(
        "workloads.yaml",
        "local: {input_tokens_mean: 24, output_tokens_mean: 24, requests: 8}",
        "local: {input_tokens_mean: 24, output_tokens_mean: 24, requests: 8, streaming: true}",
        "workloads[0].local.streaming: unknown field",
        id="local scale of what is no size",
    ),
    pytest.param(
        "regions.yaml",
        "path_region: us-west-2",
        "path_region: us-west-9",
        "path_region: 'us-west-9' is not known",
        id="path region",
    ),
    pytest.param(
        "tiers.yaml", "tiers:", "tirs:", "tiers.yaml: tirs: unknown field; did you mean 'tiers'?", id="top key"
    ),
    pytest.param("tiers.yaml", "tiers:", "tirs:", "tiers.yaml: tiers: must be a list, not nothing", id="list missing"),
    pytest.param(
        "stage_times.yaml",
        "- {stage: push, seconds: 90, local_seconds: 0.2}\n",
        "",
        "stage_times.yaml: stage_times: 'push' is missing; give every stage its times",
        id="a stage without times",
    ),
    pytest.param(
        "stage_times.yaml",
        "stage: push,",
        "stage: pusch,",
        "stage_times.yaml: stage_times[4].stage: 'pusch' is not known; did you mean 'push'?",
        id="times of no stage",
    ),
    pytest.param(
        "stage_times.yaml",
        "local_seconds: 0.2}",
        "local_seconds: 0}",
        "stage_times.yaml: stage_times[1].local_seconds: must be above 0, not 0",
        id="a stage that takes no time",
    ),
    pytest.param("costs.yaml", "tuning_usd: [5", "tuning_usd: [5\n: [", "costs.yaml: is no YAML at line", id="no YAML"),
    pytest.param(
        "model_families.yaml",
        "token: smollm",
        "token: SmolLM",
        "model_families[0].token: must be lower case",
        id="case",
    ),
    pytest.param(
        "tiers.yaml",
        "cost_ceiling_usd: 10,",
        "cost_ceiling_usd: 10, cost_ceiling_usd: 11,",
        "tiers.yaml: key 'cost_ceiling_usd' is given twice",
        id="a key given twice, which YAML readers forgive",
    ),
    pytest.param(
        "golden_path_extensions.yaml",
        "tier: nightly, model_name: Qwen/Qwen3.5-4B",
        "tier: daily, model_name: Qwen/Qwen3.5-4B",
        "golden_path_extensions.yaml: extensions[0].entries[0].tier: 'daily' is not known",
        id="path inside an extension",
    ),
    pytest.param(
        "golden_path.yaml",
        "  track: realtime",
        "  track: realtime\n  trak: realtime",
        "golden_path.yaml: defaults.trak: unknown field; did you mean 'track'?",
        id="unknown default",
    ),
]


@pytest.mark.parametrize(("file", "old", "new", "expected"), MISTAKES)
def test_a_mistake_is_named_with_its_path(folder: Path, file: str, old: str, new: str, expected: str) -> None:
    edit(folder / file, old, new)
    problems = problems_of(folder)
    assert any(expected in problem for problem in problems), problems
    assert all(".yaml: " in problem for problem in problems)


def test_a_wrong_default_is_one_mistake_however_many_entries_inherit_it(folder: Path) -> None:
    edit(folder / "golden_path.yaml", "deployment_config: transformers-vllm", "deployment_config: transformers-vlm")
    problems = problems_of(folder)
    assert len(problems) == 1
    assert problems[0].startswith("golden_path.yaml: defaults.deployment_config: 'transformers-vlm' is not known")


def test_a_record_with_a_mistake_is_not_reported_again_where_it_is_referred_to(folder: Path) -> None:
    edit(folder / "instances.yaml", "gpu_count: 1, gpu_type: NVIDIA A10G", "gpu_count: one, gpu_type: NVIDIA A10G")
    assert len(problems_of(folder)) == 1, "six entries run on ml.g5.xlarge"


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert f"{name}: the file is missing; put it back" in problems_of(folder)


@pytest.mark.parametrize("text", ["- a list\n", "just text\n", "defaults: 3\nentries: [3, [], {}]\n"])
def test_a_document_of_another_shape_is_a_mistake_and_no_crash(folder: Path, text: str) -> None:
    for name in FILES:
        (folder / name).write_text(text, "utf-8")
    assert problems_of(folder)


@pytest.mark.parametrize("written", ["fp16", "bf16", "null", "none"])
def test_full_precision_is_none_however_it_is_written(folder: Path, written: str) -> None:
    edit(folder / "local_path.yaml", LOCAL_FIRST, f"{LOCAL_FIRST} quantization: {written},")
    assert (
        load_catalog(folder).entry("local-fastapi-forest-1cpu").quantization == normal_quantization(written) == "none"
    )


def test_the_old_target_name_is_read_as_the_new_one(folder: Path) -> None:
    edit(folder / "local_path.yaml", "deployment_target: realtime-inference", "deployment_target: managed-inference")
    read = load_catalog(folder).entry("local-fastapi-forest-1cpu").deployment_target
    assert read == normal_target("managed-inference") == "realtime-inference"
