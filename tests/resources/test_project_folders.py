"""Generated projects in a folder: which configuration each is of, read without running anything of it."""

import json
from pathlib import Path

import pytest

from catalog.loader import load_catalog
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.exceptions import InvalidInput, UsageError
from mlcc_dagster.core.resolution import configuration_of
from resources.local.executor import KINDS
from resources.local.projects import project_name, write_project
from resources.project_folders import is_project, read_project

CATALOG = load_catalog()
LOCAL = [entry for entry in CATALOG.entries if entry.deployment_config.startswith("http-")]

GENERATED = """\
#!/bin/bash
# do-framework configuration
export PROJECT_NAME="my-vllm"
export DEPLOYMENT_CONFIG="transformers-vllm"
export ENABLE_LORA=true
export ADAPTER_S3_BUCKET="adapters-$(aws sts get-caller-identity --query Account --output text)-${AWS_REGION}"
export AWS_REGION="us-west-2"
export DEPLOYMENT_TARGET="realtime-inference"
export INSTANCE_TYPE="ml.g5.xlarge"
export IC_GPU_COUNT="${IC_GPU_COUNT:-1}"
export SM_VLLM_MAX_MODEL_LEN=${SM_VLLM_MAX_MODEL_LEN:-4096}
export MODEL_NAME="Qwen/Qwen3-4B"
export HF_TOKEN="secret"
export AWS_REGION=${AWS_REGION:-us-east-1}  # allow overrides
export INSTANCE_TYPE=${INSTANCE_TYPE:-ml.g5.xlarge}
touch "$HOME/it-was-run"
echo "Configuration loaded"
"""


def generated(folder: Path, text: str = GENERATED) -> Path:
    (folder / "do").mkdir(parents=True)
    (folder / "do" / "config").write_text(text, "utf-8")
    return folder


@pytest.mark.parametrize("entry", LOCAL, ids=lambda entry: entry.id)
def test_a_project_of_ours_says_its_configuration(entry, tmp_path: Path):
    configuration = configuration_of(entry, CATALOG)
    write_project(tmp_path / "project", KINDS[entry.deployment_config], configuration)
    found = read_project(tmp_path / "project", CATALOG)
    assert found.configuration == configuration
    assert found.name == project_name(configuration)
    assert is_project(tmp_path / "project")
    assert not is_project(tmp_path)


def test_a_project_of_the_generator_is_read_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    found = read_project(generated(tmp_path / "project"), CATALOG)
    assert found.configuration == configuration_of(CATALOG.entry("rt-qwen3-4b"), CATALOG)
    assert found.name == "my-vllm"
    assert not (tmp_path / "it-was-run").exists()


@pytest.mark.parametrize(
    ("old", "new", "expected", "reason"),
    [
        ("export ENABLE_LORA=true\n", "", {"enable_lora": False}, "nothing of it is written where it is off"),
        ("4096}", "512}", {"max_model_len": 512}, "another length"),
        ('"Qwen/Qwen3-4B"', '""', {"model_name": None}, "no model"),
        (
            'TARGET="realtime-inference"',
            'TARGET="managed-inference"',
            {"deployment_target": "realtime-inference"},
            "old",
        ),
        (
            "export HF_TOKEN",
            "export SM_VLLM_KV='a b'\nexport HF_TOKEN",
            {"serving_params": {"kv": "a b"}},
            "a parameter",
        ),
    ],
)
def test_what_a_project_of_the_generator_says_counts(tmp_path: Path, old: str, new: str, expected: dict, reason: str):
    assert old in GENERATED
    found = read_project(generated(tmp_path / "project", GENERATED.replace(old, new)), CATALOG).configuration
    assert {name: getattr(found, name) for name in expected} == expected, reason


def test_a_folder_without_a_project_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match=r"holds no generated project \(no config.json and no do/config\)"):
        read_project(tmp_path, CATALOG)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "config.json: is no JSON"),
        ("[]", "config.json: is of no project that this version knows"),
        ('{"schema_version": 2}', "config.json: is of no project that this version knows"),
        ('{"schema_version": 1}', "config.json: configuration: must be a mapping"),
        (
            json.dumps({"schema_version": 1, "configuration": {"deployment_config": "x", "region": "local"}}),
            "config.json: configuration.instance_type: is missing",
        ),
        (
            json.dumps(
                {
                    "schema_version": 1,
                    "configuration": Configuration("http-flsk", None, "unknown", "local.1cpu", "local").to_json(),
                }
            ),
            "deployment configuration 'http-flsk' is not in the catalog; did you mean 'http-flask'?",
        ),
    ],
)
def test_a_declaration_with_a_mistake_says_what_would_be_right(tmp_path: Path, text: str, said: str):
    (tmp_path / "config.json").write_text(text, "utf-8")
    with pytest.raises(InvalidInput) as refused:
        read_project(tmp_path, CATALOG)
    assert any(problem.startswith(said) for problem in refused.value.problems)


def test_all_mistakes_of_a_generators_project_are_reported_at_once(tmp_path: Path):
    text = GENERATED.replace("transformers-vllm", "transformers-vlm").replace("ml.g5.xlarge", "ml.g5.small")
    with pytest.raises(InvalidInput) as refused:
        read_project(generated(tmp_path / "project", text), CATALOG)
    assert len(refused.value.problems) == 2


def test_a_declaration_that_is_no_text_is_refused(tmp_path: Path):
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="make it a readable UTF-8 file"):
        read_project(tmp_path, CATALOG)
