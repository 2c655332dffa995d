"""Old records: read with the defaults that readers of existing installations apply, under the id of today, all or none."""

import json
from typing import Any

import pytest

from catalog.loader import load_catalog
from mlcc_dagster.core.ci_records import (
    NEVER,
    OldRecord,
    image_parts,
    is_test_status,
    read_old_records,
    with_defaults,
)
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.exceptions import InvalidInput
from mlcc_dagster.core.identity import config_id, legacy_config_id
from mlcc_dagster.core.outcome import BenchmarkPlan
from mlcc_dagster.core.resolution import configuration_of
from mlcc_dagster.core.stages import CANONICAL_ORDER, TECHNIQUES, ci_name

CATALOG = load_catalog()

# ---- vectors of existing installations

DEFAULTS = {
    "configId": "x",
    "schemaVersion": 1,
    "testStatus": "untested",
    "lastTestTimestamp": "1970-01-01T00:00:00Z",
    "buildStrategy": "codebuild-submit",
    "stageResults": {},
    "errorMessage": "",
    "deploymentConfig": "",
    "baseImage": "",
    "baseImageVersion": "",
    "projectName": "",
    "benchmarkEnabled": False,
    "benchmarkConcurrencyLevels": [1, 4, 8],
}

IMAGE_VERSIONS = [
    ("vllm/vllm-openai:v0.8.5", "v0.8.5"),
    ("nvcr.io/a/b:24.01-py3", "24.01-py3"),
    ("noversion", ""),
    ("", ""),
    ("host:5000/img", "5000/img"),
]

DIFFERENCES = {"host:5000/img": ""}
"""Where we read otherwise on purpose: the port of a registry is no version."""

CONFIG_IDS = [
    (("transformers-vllm", "Qwen/Qwen3-4B", "ml.g5.xlarge", "us-west-2", "realtime-inference"), "9586bf351b64c95f"),
    (("http-flask", "", "ml.m5.large", "us-east-1", "realtime-inference"), "17fc935328f040c7"),
    (("http-flask", None, "ml.m5.large", "us-east-1", "realtime-inference"), "17fc935328f040c7"),
    (
        ("transformers-vllm", "meta-llama/Llama-2-7b-chat-hf", "ml.g5.xlarge", "us-east-1", "managed-inference"),
        "27d99a90e91450da",
    ),
    (("diffusors-comfyui", "sdxl", "ml.g5.2xlarge", "us-east-1", "async-inference"), "a85312ea434fba6b"),
]


def test_an_almost_empty_record_has_the_defaults_of_existing_readers():
    assert with_defaults({"configId": "x"}) == DEFAULTS
    assert with_defaults({"configId": "x", "testStatus": "", "stageResults": None}) == DEFAULTS


def test_what_a_record_says_stays_and_never_benchmarked_stays_absent():
    said = {"configId": "x", "testStatus": "pass", "benchmarkEnabled": True, "lastBenchmarkRunId": "bmk-1", "ttl": 3}
    assert with_defaults(said) == DEFAULTS | said
    assert not {name for name in with_defaults({"configId": "x"}) if name.startswith("lastBenchmark")}


def test_defaults_are_no_ones_to_change():
    with_defaults({"configId": "x"})["stageResults"]["build"] = {}
    with_defaults({"configId": "x"})["benchmarkConcurrencyLevels"].append(16)
    assert with_defaults({"configId": "x"}) == DEFAULTS


@pytest.mark.parametrize(("image", "version"), IMAGE_VERSIONS)
def test_the_version_of_an_image_is_its_tag(image: str, version: str):
    assert (image_parts(image)[1] or "") == DIFFERENCES.get(image, version)


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        (None, (None, None)),
        ("host:5000/team/img:1.2", ("host:5000/team/img", "1.2")),
        ("host:5000/img@sha256:ab", ("host:5000/img", "sha256:ab")),
    ],
)
def test_an_image_has_a_name_and_a_version(image: str | None, parts: tuple):
    assert image_parts(image) == parts


@pytest.mark.parametrize(("values", "stored"), CONFIG_IDS)
def test_a_record_under_any_of_the_published_ids_is_found(values: tuple, stored: str):
    names = ("deploymentConfig", "modelName", "instanceType", "awsRegion", "deploymentTarget")
    record = one(item(stored, dict(zip(names, values, strict=True))))
    assert record.stored_id == stored
    migrated = values[-1] == "managed-inference"
    assert (record.config_id == stored) != migrated
    assert record.configuration.deployment_target == values[-1].replace("managed", "realtime")


# ---- reading

OLD = {  # what `do/register --ci` of existing installations writes
    "projectName": "my-vllm",
    "deploymentConfig": "transformers-vllm",
    "architecture": "transformers",
    "backend": "vllm",
    "modelName": "Qwen/Qwen3-4B",
    "instanceType": "ml.g5.xlarge",
    "awsRegion": "us-west-2",
    "deploymentTarget": "realtime-inference",
    "buildTarget": "codebuild",
    "baseImage": "vllm/vllm-openai:v0.8.5",
}
GOLDEN_ID = "9586bf351b64c95f"


def typed(value: Any) -> dict[str, Any]:
    match value:
        case bool():
            return {"BOOL": value}
        case int() | float():
            return {"N": str(value)}
        case list():
            return {"L": [typed(each) for each in value]}
        case dict():
            return {"M": {name: typed(each) for name, each in value.items()}}
        case _:
            return {"S": value}


def item(stored: str, config: Any = ..., **attributes: Any) -> dict[str, Any]:
    """Return an item; its configJson is a JSON text, as existing installations store it."""
    document = OLD if config is ... else config
    base = {"configId": stored} | ({} if document is None else {"configJson": json.dumps(document)})
    return {name: typed(value) for name, value in {**base, **attributes}.items()}


def read(*items: dict[str, Any]) -> tuple[OldRecord, ...]:
    return read_old_records(json.dumps({"Items": items}), CATALOG)


def one(raw: dict[str, Any]) -> OldRecord:
    (record,) = read(raw)
    return record


def problems_of(*items: dict[str, Any]) -> tuple[str, ...]:
    with pytest.raises(InvalidInput) as refused:
        read(*items)
    return refused.value.problems


def test_a_record_of_version_1_is_read_whole():
    record = one(
        item(
            GOLDEN_ID,
            schemaVersion=1,
            testStatus="fail-deploy_test",
            previousTestStatus="pass",
            lastTestTimestamp="2025-03-01T06:00:00Z",
            lastTestDuration=91.5,
            buildStrategy="docker-in-docker",
            deploymentConfig="transformers-vllm",
            baseImage="vllm/vllm-openai:v0.8.5",
            baseImageVersion="v0.8.5",
            projectName="my-vllm",
            createdAt="2025-01-01T00:00:00Z",
            stageResults={"build": {"status": "pass", "durationSeconds": 3, "logPointer": "x", "errorSummary": ""}},
            errorMessage="no answer",
            benchmarkEnabled=True,
            benchmarkWorkload="rag_document_qa",
            benchmarkConcurrencyLevels=[2, 4],
            lastBenchmarkRunId="bmk-20250301T060000Z",
            lastBenchmarkTimestamp="2025-03-01T06:00:00.250Z",
            lastBenchmarkStatus="completed",
            tier="ci",
            e2eCatalogId="rt-qwen3-4b",
        )
    )
    assert record == OldRecord(
        config_id=GOLDEN_ID,
        stored_id=GOLDEN_ID,
        configuration=configuration_of(CATALOG.entry("rt-qwen3-4b"), CATALOG),
        test_status="fail-deploy_test",
        previous_test_status="pass",
        last_test_timestamp="2025-03-01T06:00:00.000000Z",
        last_test_duration=91.5,
        tier="ci",
        e2e_catalog_id="rt-qwen3-4b",
        build_strategy="docker-in-docker",
        benchmark=BenchmarkPlan(True, "rag_document_qa", (2, 4)),
        stage_results={"build": {"status": "pass", "durationSeconds": 3, "logPointer": "x", "errorSummary": ""}},
        error_message="no answer",
        last_benchmark_run_id="bmk-20250301T060000Z",
        last_benchmark_timestamp="2025-03-01T06:00:00.250000Z",
        last_benchmark_status="completed",
        image="vllm/vllm-openai:v0.8.5",
        project_name="my-vllm",
        created_at="2025-01-01T00:00:00.000000Z",
    )


@pytest.mark.parametrize("form", ["scan", "export"])
def test_missing_attributes_have_their_defaults_in_either_form_of_an_export(form: str):
    raw = item(GOLDEN_ID)
    text = json.dumps({"Items": [raw], "Count": 1}) if form == "scan" else json.dumps({"Item": raw})
    (record,) = read_old_records(text, CATALOG)
    assert (record.test_status, record.last_test_timestamp, record.created_at) == ("untested", None, None)
    assert record.benchmark == BenchmarkPlan(False, "multi_turn_chat", (1, 4, 8))
    assert (record.build_strategy, dict(record.stage_results), record.remarks) == ("codebuild-submit", {}, ())


def test_1970_is_never():
    assert one(item(GOLDEN_ID, lastTestTimestamp=NEVER)).last_test_timestamp is None


def test_what_the_tier_runner_of_existing_installations_writes_is_read():
    """It knows the catalog id alone, counts milliseconds, and names steps as the catalog does."""
    record = one(
        item(
            GOLDEN_ID,
            None,
            schemaVersion=2,
            testStatus="fail-tune-sft",
            lastTestTimestamp="2025-03-01T06:00:00.123Z",
            stageResults={"build": {"status": "pass", "duration": 1500, "error": ""}},
            e2eCatalogId="rt-qwen3-4b",
            tier="ci",
            duration=61_500,
        )
    )
    assert record.configuration == configuration_of(CATALOG.entry("rt-qwen3-4b"), CATALOG)
    assert (record.last_test_duration, record.last_test_timestamp) == (61.5, "2025-03-01T06:00:00.123000Z")
    assert dict(record.stage_results) == {
        "build": {"status": "pass", "durationSeconds": 1.5, "logPointer": "", "errorSummary": ""}
    }
    assert record.remarks == ()


def test_our_own_records_are_read_back():
    configuration = Configuration(
        deployment_config="http-fastapi",
        model_name="sklearn/random-forest-digits",
        model_family="what it was called then",
        instance_type="local.2cpu",
        region="local",
        serving_params={"workers": "2"},
    )
    raw = {
        "configId": config_id(configuration),
        "configJson": configuration.to_json() | {"max_model_len": 7},
        "leaseUntil": "2025-01-01T00:00:00Z",
        "generation": 3,
        "baseImage": "registry:5000/team/app",
        "baseImageVersion": "sha256:abc",
    }
    record = one({name: typed(value) for name, value in raw.items()} | {"configId": {"S": legacy_id(configuration)}})
    assert record.configuration.serving_params == {"workers": "2"}
    assert record.configuration.model_family == "random-forest"
    assert record.image == "registry:5000/team/app@sha256:abc"
    assert record.remarks == (f"was stored as {legacy_id(configuration)}",)


def legacy_id(configuration: Configuration) -> str:
    """The id under the target's old name of the configuration with a length of 7."""
    longer = Configuration.from_json(configuration.to_json() | {"max_model_len": 7})
    key = legacy_config_id(longer)
    assert key is not None
    return key


@pytest.mark.parametrize(
    ("status", "previous", "now"),
    [("running", None, "untested"), ("running", "pass", "pass"), ("running", "running", "untested")],
)
def test_what_runs_elsewhere_does_not_run_here(status: str, previous: str | None, now: str):
    attributes = {"testStatus": status} | ({"previousTestStatus": previous} if previous else {})
    record = one(item(GOLDEN_ID, **attributes, lastBenchmarkStatus="in-progress"))
    assert (record.test_status, record.last_benchmark_status) == (now, "failed")
    assert record.remarks == (
        f"was running elsewhere, so it is {now} here",
        "its benchmark was in progress elsewhere, so it is failed here",
    )


def test_attributes_that_no_record_has_are_named():
    assert one(item(GOLDEN_ID, ttl=5, owner="x")).remarks == ("owner, ttl left out: no attribute of a record",)


def test_of_two_records_of_one_configuration_the_one_that_was_tested_last_counts():
    old = OLD | {"deploymentTarget": "managed-inference"}
    stored = legacy_config_id(configuration_of(CATALOG.entry("rt-qwen3-4b"), CATALOG))
    assert stored is not None
    earlier = item(GOLDEN_ID, testStatus="pass", lastTestTimestamp="2025-01-01T00:00:00Z")
    later = item(stored, old, testStatus="fail-build", lastTestTimestamp="2025-02-01T00:00:00Z")
    for both in ((earlier, later), (later, earlier)):
        (record,) = read(*both)
        assert (record.config_id, record.test_status) == (GOLDEN_ID, "fail-build")
        assert record.remarks == (
            f"was stored as {stored}",
            f"the record stored as {GOLDEN_ID} is an older one of the same configuration",
        )


# ---- statuses


@pytest.mark.parametrize(
    "status",
    [
        *("untested", "running", "pass"),
        *("fail-deploy_test", "fail-teardown", "fail-adapter_test", "fail-unknown", "fail-update"),
        *sorted({f"fail-{ci_name(stage, technique)}" for stage in CANONICAL_ORDER for technique in TECHNIQUES}),
    ],
)
def test_every_status_of_today_and_of_older_records_is_known(status: str):
    assert is_test_status(status)
    assert one(item(GOLDEN_ID, testStatus=status)).test_status in (status, "untested")


@pytest.mark.parametrize("status", ["passed", "fail-", "fail", "build", "fail-Build", "PASS"])
def test_any_other_status_is_a_mistake(status: str):
    assert not is_test_status(status)
    (problem,) = problems_of(item(GOLDEN_ID, testStatus=status))
    assert problem.startswith(f"Items[0].testStatus: '{status}' is not known; ")


# ---- mistakes

WRONG = [
    ({"schemaVersion": 3}, "schemaVersion", "3 is not known, 1 and 2 are", "a later version"),
    ({"lastTestTimestamp": "yesterday"}, "lastTestTimestamp", "is no time", "no time"),
    ({"lastTestDuration": -1}, "lastTestDuration", "at least 0", "before it began"),
    ({"tier": "hourly"}, "tier", "is not known", "no tier"),
    ({"buildStrategy": "by-hand"}, "buildStrategy", "codebuild-submit, docker-in-docker", "no strategy"),
    ({"benchmarkEnabled": "yes"}, "benchmarkEnabled", "must be true or false", "no boolean"),
    ({"benchmarkWorkload": "chat"}, "benchmarkWorkload", "known are sample", "no workload"),
    ({"benchmarkWorkload": "local_predict"}, "benchmarkWorkload", "is for a predictor", "of another kind"),
    ({"benchmarkConcurrencyLevels": [0]}, "benchmarkConcurrencyLevels", "numbers from 1 to 1024", "no level"),
    ({"lastBenchmarkStatus": "done"}, "lastBenchmarkStatus", "completed, failed, in-progress", "no status"),
    ({"stageResults": "{"}, "stageResults", "is no JSON", "broken text"),
    ({"stageResults": "[" * 100_000}, "stageResults", "is nested too deeply", "a bomb"),
    ({"stageResults": '{"build": {"error": "\\ud800"}}'}, "stageResults", "holds half a character", "half a character"),
    ({"configJson": "[" * 100_000}, "configJson", "is nested too deeply", "a bomb"),
    (
        {"benchmarkConcurrencyLevels": [2**40]},
        "benchmarkConcurrencyLevels",
        "must hold numbers from 1 to 1024",
        "too many",
    ),
    ({"lastTestDuration": 1e300}, "lastTestDuration", "must be at most", "no duration of a test"),
    ({"stageResults": {"build": "pass"}}, "stageResults", "one object for each stage", "another form"),
    ({"configJson": "{"}, "configJson", "is no JSON", "broken text"),
    ({"configJson": "7"}, "configJson", "must be a mapping", "no object"),
    (
        {"configJson": json.dumps(OLD | {"instanceType": ""})},
        "configJson.instanceType",
        "is missing",
        "empty is absent",
    ),
    (
        {"configJson": json.dumps(OLD | {"instanceType": "a:b"})},
        "configJson",
        "cannot make an id from instance_type 'a:b'",
        "no id can be made of it",
    ),
    (
        {"configJson": json.dumps(OLD | {"awsRegion": "us-east-1"})},
        "configId",
        "is no id that the configuration of its configJson has or had",
        "another configuration's id",
    ),
    (
        {"configJson": json.dumps(OLD | {"parameters": {"VLLM_MAX_MODEL_LEN": "4k"}})},
        "configJson.parameters",
        "must be a whole number above 0, not '4k'",
        "no length",
    ),
    (
        {"configJson": {"deployment_config": "http-flask", "instance_type": 1, "region": "local", "new": 1}},
        "configJson.instance_type",
        "must be a text",
        "our own form with a mistake",
    ),
]


@pytest.mark.parametrize(("attributes", "path", "said", "reason"), WRONG)
def test_a_mistake_is_reported_at_its_path(attributes: dict[str, Any], path: str, said: str, reason: str):
    problems = problems_of(item(GOLDEN_ID), item(GOLDEN_ID, **attributes))
    assert problems[0].startswith(f"Items[1].{path}: "), reason
    assert said in problems[0], reason


def test_a_record_that_says_no_configuration_and_whose_id_no_entry_has_is_a_mistake():
    (problem,) = problems_of(item("27d99a90e91450da", None, e2eCatalogId="rt-qwen3-4b"))
    assert problem.startswith("Items[0].configJson: is missing, and no catalog entry has the id 27d99a90e91450da")


def test_all_mistakes_of_all_records_are_reported_at_once():
    problems = problems_of(item(GOLDEN_ID, testStatus="x", tier="y"), item(GOLDEN_ID), {"a": {"N": "b"}})
    assert [problem.partition(":")[0] for problem in problems] == [
        "Items[2].a",
        "Items[0].testStatus",
        "Items[0].tier",
        "Items[2].configId",
    ]
