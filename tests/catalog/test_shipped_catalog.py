"""What the shipped catalog declares."""

import ast
import sys
from collections import Counter
from pathlib import Path

import pytest

import catalog
from catalog.errors import UnknownNameError
from catalog.loader import FILES, load_catalog
from mlcc_dagster.core.configuration import instance_family
from mlcc_dagster.core.failures import CATEGORIES
from mlcc_dagster.core.stages import CANONICAL_ORDER

DECLARED = load_catalog()
PACKAGE = Path(catalog.__file__).parent
EXTENSION = DECLARED.extensions["newer-models"]

END_TO_END = {  # id: (tier, model, instance) as the end-to-end catalog lists them
    "rt-qwen3-06b": ("ci", "Qwen/Qwen3-0.6B", "ml.g5.xlarge"),
    "rt-qwen3-17b": ("ci", "Qwen/Qwen3-1.7B", "ml.g5.xlarge"),
    "rt-qwen3-4b": ("ci", "Qwen/Qwen3-4B", "ml.g5.xlarge"),
    "rt-llama-32-1b": ("ci", "meta-llama/Llama-3.2-1B", "ml.g5.xlarge"),
    "rt-llama-32-3b": ("ci", "meta-llama/Llama-3.2-3B", "ml.g5.xlarge"),
    "rt-dsr1-qwen-15b": ("ci", "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", "ml.g5.xlarge"),
    "rt-dsr1-qwen-7b": ("ci", "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "ml.g5.xlarge"),
    "rt-qwen25-7b": ("ci", "Qwen/Qwen2.5-7B", "ml.g5.xlarge"),
    "rt-dsr1-llama-8b": ("ci", "deepseek-ai/DeepSeek-R1-Distill-Llama-8B", "ml.g5.xlarge"),
    "rt-qwen3-8b": ("ci", "Qwen/Qwen3-8B", "ml.g5.xlarge"),
    "rt-llama-31-8b": ("ci", "meta-llama/Llama-3.1-8B", "ml.g5.xlarge"),
    "rt-qwen3-14b": ("nightly", "Qwen/Qwen3-14B", "ml.g5.2xlarge"),
    "rt-qwen25-14b": ("nightly", "Qwen/Qwen2.5-14B-Instruct", "ml.g5.2xlarge"),
    "rt-dsr1-qwen-14b": ("nightly", "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B", "ml.g5.2xlarge"),
    "rt-gpt-oss-20b": ("nightly", "gpt-oss/GPT-OSS-20B", "ml.g5.12xlarge"),
    "rt-qwen3-32b": ("nightly", "Qwen/Qwen3-32B", "ml.g5.12xlarge"),
    "rt-qwen25-32b": ("nightly", "Qwen/Qwen2.5-32B-Instruct", "ml.g5.12xlarge"),
    "rt-dsr1-qwen-32b": ("nightly", "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", "ml.g5.12xlarge"),
    "rt-llama-33-70b": ("weekly", "meta-llama/Llama-3.3-70B", "ml.g5.48xlarge"),
    "rt-qwen25-72b": ("weekly", "Qwen/Qwen2.5-72B", "ml.g5.48xlarge"),
    "rt-dsr1-llama-70b": ("weekly", "deepseek-ai/DeepSeek-R1-Distill-Llama-70B", "ml.g5.48xlarge"),
    "rt-gpt-oss-120b": ("weekly", "gpt-oss/GPT-OSS-120B", "ml.g5.48xlarge"),
}
SEED = {  # model: (tier, instance, max_model_len) as the seed's tier list has them
    "Qwen/Qwen3-0.6B": ("ci", "ml.g5.xlarge", None),
    "Qwen/Qwen3-1.7B": ("ci", "ml.g5.xlarge", None),
    "Qwen/Qwen3-4B": ("ci", "ml.g5.xlarge", 4096),
    "meta-llama/Llama-3.2-1B-Instruct": ("ci", "ml.g5.xlarge", None),
    "meta-llama/Llama-3.2-3B-Instruct": ("ci", "ml.g5.xlarge", None),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": ("ci", "ml.g5.xlarge", None),
    "Qwen/Qwen2.5-7B-Instruct": ("nightly", "ml.g5.12xlarge", None),
    "Qwen/Qwen3-8B": ("nightly", "ml.g5.12xlarge", None),
    "meta-llama/Llama-3.1-8B-Instruct": ("nightly", "ml.g5.12xlarge", None),
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": ("nightly", "ml.g5.12xlarge", None),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": ("nightly", "ml.g5.12xlarge", None),
    "Qwen/Qwen3-14B": ("nightly", "ml.g5.12xlarge", None),
    "Qwen/Qwen2.5-14B-Instruct": ("nightly", "ml.g5.12xlarge", None),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B": ("nightly", "ml.g5.12xlarge", None),
    "openai/gpt-oss-20b": ("nightly", "ml.g5.12xlarge", None),
    "Qwen/Qwen3-32B": ("nightly", "ml.g5.12xlarge", None),
    "Qwen/Qwen2.5-32B-Instruct": ("nightly", "ml.g5.12xlarge", None),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B": ("nightly", "ml.g5.12xlarge", None),
    "Qwen/Qwen2.5-72B-Instruct": ("weekly", "ml.g5.48xlarge", None),
    "meta-llama/Llama-3.3-70B-Instruct": ("weekly", "ml.g5.48xlarge", None),
    "deepseek-ai/DeepSeek-R1-Distill-Llama-70B": ("weekly", "ml.g5.48xlarge", None),
    "openai/gpt-oss-120b": ("weekly", "ml.g5.48xlarge", None),
}

FAMILIES = [
    ("", "unknown", "no name"),
    (None, "unknown", "no name at all"),
    ("Qwen/Qwen3-0.6B", "qwen3", "token"),
    ("Qwen/Qwen2.5-7B-Instruct", "qwen2", "token before the point"),
    ("Qwen/Qwen3.5-4B", "qwen3", "token before the point"),
    ("Qwen/Qwen3-Coder-30B-A3B", "qwen3", "first rule wins"),
    ("meta-llama/Llama-3.3-70B-Instruct", "llama3", "separator"),
    ("meta-llama/Llama-4-Scout", "llama", "no rule for 4"),
    ("codellama/CodeLlama-7b", "codellama", "no separator"),
    ("Code-Llama-13b", "codellama", "separator, no owner"),
    ("deepseek-ai/DeepSeek-R1-Distill-Llama-8B", "deepseek-r1", "before llama"),
    ("deepseek-ai/DeepSeek_V3", "deepseek-v3", "underscore"),
    ("deepseek-ai/deepseek-coder-6.7b", "deepseek-coder", "suffix"),
    ("deepseek-llm", "deepseek", "bare token"),
    ("nvidia/Nemotron-3-Nano-A3B-BF16-30B", "other", "no rule"),
    ("openai/gpt-oss-20b", "gpt-oss", "separator"),
    ("microsoft/Phi-4", "other", "no bare phi rule"),
    ("microsoft/Phi-3-mini", "phi3", "separator"),
    ("google/gemma-4-31B-it", "gemma", "bare token"),
    ("google/gemma-2-9b-it", "gemma2", "separator"),
    ("mistralai/Mixtral-8x7B", "mixtral", "before mistral"),
    ("mistralai/Mistral-7B", "mistral", "the owner does not count"),
    ("tiiuae/falcon-7b", "falcon", "bare token"),
    ("bigcode/starcoder2-7b", "starcoder", "bare token"),
    ("dolphin-2.5", "other", "phi inside needs its number next to it"),
    ("llama--3", "llama", "at most one separator"),
    ("qwen3/notes", "other", "only the part after the last slash counts"),
    ("HuggingFaceTB/SmolLM2-135M-Instruct", "smollm2", "ours"),
    ("sklearn/random-forest-digits", "random-forest", "ours"),
    ("sklearn/logistic-regression-digits", "logistic-regression", "ours"),
]


@pytest.mark.parametrize(("name", "family", "reason"), FAMILIES)
def test_family_follows_the_ordered_rules(name: str | None, family: str, reason: str) -> None:
    assert DECLARED.family_of(name) == family, reason


def test_golden_path_has_22_entries_in_tiers_of_11_7_and_4() -> None:
    golden = [entry for entry in DECLARED.entries if entry.tier != "local"]
    assert Counter(entry.tier for entry in golden) == {"ci": 11, "nightly": 7, "weekly": 4}
    assert {entry.id: entry.tier for entry in golden} == {key: tier for key, (tier, _, _) in END_TO_END.items()}
    assert {entry.track for entry in golden} == {"realtime"}


@pytest.mark.parametrize("entry_id", END_TO_END)
def test_golden_entry_takes_instance_length_and_hub_id_from_the_seed(entry_id: str) -> None:
    entry = DECLARED.entry(entry_id)
    assert entry.model_name in SEED
    assert (entry.instance_type, entry.max_model_len) == SEED[entry.model_name][1:]
    assert entry.tp_degree == (2 if "14B" in entry.model_name else None)
    assert entry.enable_lora, "its tune and adapter steps need it"


def test_docs_list_every_difference_between_the_two_sources() -> None:
    text = (PACKAGE.parent / "docs" / "catalog.md").read_text("utf-8")
    rows = {
        tuple(cell.strip() for cell in line.strip("| \n").split("|"))[:5]
        for line in text.splitlines()
        if line[:1] == "|"
    }
    expected = set()
    for entry_id, (tier, model, instance) in END_TO_END.items():
        entry = DECLARED.entry(entry_id)
        assert entry.model_name is not None
        seed_tier, seed_instance, seed_length = SEED[entry.model_name]
        for name, listed, seeded in (
            ("model_name", model, entry.model_name),
            ("tier", tier, seed_tier),
            ("instance_type", instance, seed_instance),
            ("max_model_len", None, seed_length),
        ):
            if listed != seeded:
                here = getattr(entry, name)
                expected.add((entry_id, name, str(listed or "unset"), str(seeded), str(here)))
    listed_rows = {row for row in rows if row[0] in END_TO_END}
    assert len(expected) == 22
    assert listed_rows == expected
    assert {row[0] for row in rows if row[0].startswith("rt-")} == set(END_TO_END) & {r[0] for r in expected} | {
        entry.id for entry in EXTENSION
    }


def test_docs_describe_every_file_and_only_existing_files() -> None:
    text = (PACKAGE.parent / "docs" / "catalog.md").read_text("utf-8")
    documented = {line.split("`")[1] for line in text.splitlines() if line.startswith("| `") and ".yaml`" in line}
    on_disk = {path.name for path in PACKAGE.glob("*.yaml")}
    assert documented == on_disk == set(FILES)


def test_extension_is_switched_on_by_name() -> None:
    plain = {entry.id for entry in DECLARED.tier_entries("nightly")}
    extended = {entry.id for entry in DECLARED.tier_entries("nightly", extensions=["newer-models"])}
    assert extended - plain == {
        "rt-qwen35-4b",
        "rt-qwen35-9b",
        "rt-qwen35-27b",
        "rt-qwen36-27b",
        "rt-nemotron3-nano-30b",
    }
    weekly = DECLARED.tier_entries("weekly", extensions=["newer-models"])[-1]
    assert (weekly.model_name, weekly.tp_degree) == ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", 4)


def test_local_tier_leaves_flask_with_logistic_regression_and_two_quantizations_out() -> None:
    local = DECLARED.tier_entries("local")
    points = {(entry.deployment_config, DECLARED.family_of(entry.model_name), entry.quantization) for entry in local}
    assert points == {
        ("http-fastapi", "random-forest", "none"),
        ("http-flask", "random-forest", "none"),
        ("http-fastapi", "logistic-regression", "none"),
        ("transformers-llamacpp", "smollm2", "q4_1"),
        ("transformers-llamacpp", "smollm2", "q8_0"),
    }
    assert {entry.region for entry in local} == {"local"}


def test_one_local_entry_is_expected_to_run_out_of_memory() -> None:
    expected = {entry.id: entry.expected_failure for entry in DECLARED.entries if entry.expected_failure}
    assert expected == {"local-fastapi-forest-tight-memory": "oom"}
    assert DECLARED.entry("local-fastapi-forest-tight-memory").serving_params == {"memory_limit_mb": "256"}


def test_report_has_15_deployment_configs_and_llamacpp_is_outside() -> None:
    assert DECLARED.report_order == (
        "transformers-vllm",
        "transformers-sglang",
        "transformers-lmi",
        "transformers-djl",
        "transformers-tensorrt-llm",
        "http-flask",
        "http-fastapi",
        "http-nginx",
        "triton-fil",
        "triton-python",
        "triton-onnx",
        "triton-tensorrt",
        "diffusors-vllm",
        "diffusors-sglang",
        "diffusors-comfyui",
    )
    assert [c.name for c in DECLARED.deployment_configs.values() if c.local] == ["transformers-llamacpp"]


def test_generator_cannot_generate_exactly_these() -> None:
    beyond = {c.name for c in DECLARED.deployment_configs.values() if not c.generator and not c.local}
    assert beyond == {
        "http-nginx",
        "triton-onnx",
        "triton-tensorrt",
        "diffusors-vllm",
        "diffusors-sglang",
        "diffusors-comfyui",
    }


@pytest.mark.parametrize("instance", DECLARED.instances.values(), ids=lambda instance: instance.instance_type)
def test_each_instance_has_one_price_with_source_and_date_or_the_reason_for_none(instance) -> None:
    if instance.usd_per_hour is None:
        assert instance.price_note
        assert instance.price_source is None
    else:
        assert instance.usd_per_hour > 0
        assert instance.price_source
        assert instance.price_date


@pytest.mark.parametrize(
    ("instance_type", "usd", "reason"),
    [
        ("ml.g5.xlarge", 1.408, "two prices for the type: the higher"),
        ("ml.g5.4xlarge", 2.03, "a family's price is not this size's"),
        ("ml.g5.48xlarge", 20.36, "two prices for the type: the higher"),
        ("ml.p5.48xlarge", 65.85, "the type's own"),
        ("ml.g6e.24xlarge", None, "only a fallback prices it"),
        ("ml.p6-b200.48xlarge", None, "only a fallback prices it"),
    ],
)
def test_price_chosen_where_sources_disagree(instance_type: str, usd: float | None, reason: str) -> None:
    assert DECLARED.instances[instance_type].usd_per_hour == usd, reason


@pytest.mark.parametrize("instance", DECLARED.instances.values(), ids=lambda instance: instance.instance_type)
def test_declared_instance_family_is_the_derived_one(instance) -> None:
    assert instance.family == instance_family(instance.instance_type)


@pytest.mark.parametrize("name", ["openai/gpt-oss-20b", "openai/gpt-oss-120b"])
def test_gpt_oss_weights_count_4_bits_and_their_class_is_its_own(name: str) -> None:
    model = DECLARED.models[name]
    assert (model.bits, model.architecture) == (4, "GptOssForCausalLM")


def test_eagle_support_follows_the_class() -> None:
    supported = {a.name: a.eagle for a in DECLARED.architectures.values() if a.eagle is not None}
    assert supported == {
        "LlamaForCausalLM": 3,
        "Qwen3ForCausalLM": 3,
        "Qwen3MoeForCausalLM": 3,
        "Qwen2ForCausalLM": 3,
        "GptOssForCausalLM": 3,
        "Qwen3NextForCausalLM": 2,
    }


@pytest.mark.parametrize(
    ("name", "tokens", "levels"),
    [
        ("sample", (100, 100), (2,)),
        ("multi_turn_chat", (550, 150), (1, 4, 8, 16)),
        ("rag_document_qa", (2000, 500), (1, 4, 8)),
        ("agent_tool_calling", (200, 100), (1, 4, 8, 16, 32)),
        ("long_context_scaling", (8000, 1000), (1, 2, 4)),
        ("production_traffic_mix", (1000, 300), (4, 8, 16, 32)),
        ("shared_system_prompt", (1000, 200), (4, 8, 16, 32)),
    ],
)
def test_workloads_have_the_values_of_the_workload_catalog(
    name: str, tokens: tuple[int, int], levels: tuple[int, ...]
) -> None:
    workload = DECLARED.workloads[name]
    assert (workload.input_tokens_mean, workload.output_tokens_mean) == tokens
    assert workload.concurrency_levels == levels
    assert workload.requests == 100
    assert workload.streaming is (name != "agent_tool_calling")
    assert workload.local is not None, "as it stands it would take this machine hours"
    assert workload.local.input_tokens_mean < tokens[0] and 16 <= workload.local.output_tokens_mean <= 32


@pytest.mark.parametrize(
    ("tier", "ceiling", "schedule", "stale_hours"),
    [
        ("ci", 10, "0 6 * * *", 24),
        ("nightly", 45, "0 2 * * *", 24),
        ("weekly", 180, "0 2 * * 0", 168),
    ],
)
def test_tiers_have_their_schedule_and_ceiling(tier: str, ceiling: float, schedule: str, stale_hours: int) -> None:
    declared = DECLARED.tiers[tier]
    assert (declared.cost_ceiling_usd, declared.schedule) == (ceiling, schedule)
    assert declared.stale_after_seconds == stale_hours * 3600


def test_lifecycle_steps_are_the_stages_of_the_domain() -> None:
    from catalog.model import LIFECYCLE_STEPS

    assert tuple(stage.value for stage in CANONICAL_ORDER) == LIFECYCLE_STEPS


def test_failure_categories_are_those_of_the_domain() -> None:
    from catalog.model import FAILURE_CATEGORIES

    assert set(FAILURE_CATEGORIES) == set(CATEGORIES)


def test_unknown_entry_says_what_is_near() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'rt-qwen3-4b'"):
        DECLARED.entry("rt-qwen3-4bb")


def test_unknown_tier_says_what_is_known() -> None:
    with pytest.raises(UnknownNameError, match="known are ci, nightly, weekly, local"):
        DECLARED.tier_entries("xyz")


def test_catalog_imports_nothing_above_its_floor() -> None:
    allowed = {"catalog", "yaml"}
    for path in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            third_party = {name.split(".")[0] for name in names} - allowed
            assert all(name in sys.stdlib_module_names for name in third_party), path.name
