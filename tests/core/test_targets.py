"""Priority targets: reading them with all mistakes at once, which is next and why, and what a target runs as."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.loader import load_catalog
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.exceptions import InvalidInput, UsageError
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.resolution import Unresolved, configuration_of
from mlcc_dagster.core.stages import Stage
from mlcc_dagster.core.targets import (
    SELECTIONS,
    Target,
    TargetList,
    TargetStatus,
    compat_successes,
    declared_configuration,
    read_targets,
    resolve_target,
    selection_named,
    server_environment,
)

CATALOG = load_catalog()
SMALL, MIDDLE, LARGE = "Qwen/Qwen3-0.6B", "Qwen/Qwen3-8B", "Qwen/Qwen3-14B"
WHERE = {"deployment_config": "transformers-vllm", "instance_type": "ml.g5.xlarge"}
V1, COMPAT = SELECTIONS["v1"], SELECTIONS["compat"]


def read(*targets: Any, **document: Any) -> TargetList:
    return read_targets({"version": 1, "targets": list(targets), **document}, source="targets.yaml")


def one(**fields: Any) -> Target:
    return read({"model_name": SMALL, **fields}).targets[0]


def anything_runs(configuration: Configuration) -> str | None:
    return None


def row(target: Target, **changed: Any) -> dict[str, Any]:
    """The completed result row that proves a target."""
    configuration = declared_configuration(target, CATALOG)
    assert isinstance(configuration, Configuration)
    names = ("model_name", "model_family", "deployment_config", "instance_family", "quantization", "deployment_target")
    stored = {name: getattr(configuration, name) for name in names}
    return stored | {"tensor_parallel_degree": configuration.tp_degree, "status": "completed"} | changed


# ---- reading


def test_a_target_gets_the_defaults_and_its_own_word_replaces_them():
    first, second, third = read(
        {"model_name": "a/A"},
        {"model_name": "b/B", "tp_degree": 4, "serving_params": {"y": 2}},
        {"model_name": "c/C", "tp_degree": None, "infra_params": None},
        defaults={
            "tp_degree": 1,
            "workload": "sample",
            "serving_params": {"x": 1},
            "infra_params": {"capacity_reservation_arn": "arn:aws:sagemaker:eu-west-1:1:x"},
        },
    ).targets
    assert first.to_json() == {
        "model_name": "a/A",
        "tp_degree": 1,
        "workload": "sample",
        "serving_params": {"x": "1"},
        "infra_params": {"capacity_reservation_arn": "arn:aws:sagemaker:eu-west-1:1:x"},
    }
    assert (second.tp_degree, dict(second.serving_params)) == (4, {"y": "2"})
    assert (third.tp_degree, third.capacity_reservation_arn, third.workload) == (None, None, "sample")


def test_the_proven_ones_get_the_defaults_too():
    document = read(proven=[{"model_name": SMALL}], defaults=WHERE)
    assert document.proven[0].instance_type == "ml.g5.xlarge"


def test_stages_are_read_by_every_spelling_and_name_the_technique():
    target = one(stages=["stage", "deploy_test", "tune-dpo"])
    assert target.asked_stages == {Stage.STAGE, Stage.DEPLOY, Stage.TEST, Stage.TUNE}
    assert (target.technique, target.tunes) == ("dpo", True)
    assert (one().asked_stages, one().technique, one().tunes) == (frozenset(), None, False)


def test_what_a_target_says_survives_being_written_and_read_again():
    target = one(
        **WHERE,
        quantization="fp8",
        stages=["stage"],
        serving_params={"a": "1.0", "b": True, "c": 0.95},
        infra_params={"capacity_reservation_arn": "arn:aws:x"},
    )
    assert dict(target.serving_params) == {"a": "1.0", "b": "true", "c": "0.95"}
    assert read(target.to_json()).targets[0] == target
    assert len({target, read(target.to_json()).targets[0]}) == 1


MISTAKES = [
    ({"tp_degre": 2}, "tp_degre: unknown field; did you mean 'tp_degree'?", "a key nobody reads"),
    ({"model_name": None}, "model_name: must be a text, not null", "no model"),
    ({"status": "done"}, "status: 'done' is not known; known are pending, proven, failed, unfeasible", "a status"),
    ({"tp_degree": "4"}, "tp_degree: must be a whole number, not '4'", "a number as text"),
    ({"tp_degree": 0}, "tp_degree: must be at least 1, not 0", "no GPU at all"),
    ({"tp_degree": True}, "tp_degree: must be a whole number, not True", "true is no 1"),
    ({"stages": ["deplyo"]}, "stages: 'deplyo' is not known; did you mean 'deploy'?", "a mistyped stage"),
    ({"stages": ["tune-sft", "tune-dpo"]}, "stages: tunes by sft and dpo; keep one technique", "one tune stage"),
    ({"stages": "stage"}, "stages: must be a list of texts, not 'stage'", "a text for a list"),
    ({"serving_params": [1]}, "serving_params: must be a mapping of parameter names", "a list for a mapping"),
    ({"serving_params": {"a-b": 1}}, "serving_params: 'a-b' cannot name an environment variable", "a dash"),
    ({"serving_params": {"a": None}}, "serving_params: 'a' must be one line of text, a number", "no value"),
    ({"serving_params": {"a": "x\ny"}}, "serving_params: 'a' must be one line of text", "two lines"),
    ({"serving_params": {"a": float("inf")}}, "serving_params: 'a' must be one line of text", "no finite number"),
    ({"serving_params": {"a": 1, "A": 2}}, "serving_params: A is given 2 times in different letters", "one variable"),
    ({"serving_params": {"max_model_len": "long"}}, "max_model_len must be a whole number above 0", "no length"),
    (
        {"tp_degree": 1, "serving_params": {"tensor_parallel_size": 4}},
        "serving_params: tensor_parallel_size 4 contradicts tp_degree 1; keep tp_degree",
        "the server would run another degree than the row says",
    ),
    (
        {"quantization": "awq", "serving_params": {"QUANTIZATION": "fp8"}},
        "serving_params: quantization 'fp8' contradicts quantization 'awq'",
        "the same of the quantization",
    ),
    ({"infra_params": {"arn": "x"}}, "infra_params.arn: unknown field", "another key of infra_params"),
    ({"infra_params": {"capacity_reservation_arn": "x"}}, "capacity_reservation_arn: 'x' must match", "no ARN"),
]


@pytest.mark.parametrize(("fields", "mistake", "reason"), MISTAKES)
def test_a_mistake_is_named_with_its_place(fields: dict[str, Any], mistake: str, reason: str):
    with pytest.raises(InvalidInput) as refused:
        one(**fields)
    assert len(refused.value.problems) == 1, reason
    assert refused.value.problems[0].startswith("targets.yaml: targets[0]."), reason
    assert mistake in refused.value.problems[0], reason


DOCUMENTS = [
    ([], "must be a mapping of field names to values, not []", "a list"),
    ({}, "targets: must be a list, not nothing", "no targets"),
    ({"targets": {}}, "targets: must be a list, not {}", "targets by name"),
    ({"targets": ["a"]}, "targets[0]: must be a mapping", "a name alone"),
    ({"targets": [{}]}, "targets[0].model_name: is missing", "no model name"),
    ({"targets": [], "version": 2}, "version: must be 1, not 2; update mlcc", "a newer version"),
    ({"targets": [], "target": []}, "target: unknown field; did you mean 'targets'?", "a mistyped list"),
    ({"targets": [], "defaults": []}, "defaults: must be a mapping", "defaults as a list"),
    ({"targets": [], "defaults": {"model_name": "a"}}, "defaults.model_name: belongs to each target", "one model for all"),
    ({"targets": [], "defaults": {"status": "failed"}}, "defaults.status: belongs to each target", "one status for all"),
    ({"targets": [], "defaults": {"tp": 1}}, "defaults.tp: unknown field", "an unknown default"),
    ({"targets": [], "proven": [{"model_name": "a", "status": "failed"}]}, "known are proven", "a proven one that failed"),
]  # fmt: skip


@pytest.mark.parametrize(("document", "mistake", "reason"), DOCUMENTS)
def test_a_mistake_of_the_document_is_named(document: Any, mistake: str, reason: str):
    with pytest.raises(InvalidInput) as refused:
        read_targets(document, source="targets.yaml")
    assert len(refused.value.problems) == 1, reason
    assert mistake in refused.value.problems[0], reason


def test_all_mistakes_come_at_once_and_a_wrong_default_once():
    document = {
        "version": 9,
        "defaults": {"tp_degree": "x"},
        "targets": [{"status": "done"}, {"model_name": 5}, {"model_name": "a"}],
        "proven": [{"model_name": "b", "at": 1}],
    }
    with pytest.raises(InvalidInput) as refused:
        read_targets(document, source="p.json")
    places = [problem.split(": ")[1] for problem in refused.value.problems]
    assert places == [
        "version",
        "defaults.tp_degree",
        "targets[0].model_name",
        "targets[0].status",
        "targets[1].model_name",
        "proven[0].at",
    ]
    assert "has 6 mistakes" in str(refused.value)


@pytest.mark.parametrize("version", [None, 1, "1", 1.0, "1.0"])
def test_the_version_may_be_absent_or_written_as_text(version: Any):
    assert read_targets({"version": version, "targets": []}, source="p") == TargetList(())


# ---- what is next


def test_the_first_pending_target_goes_first_and_a_missing_status_is_pending():
    document = read(
        {"model_name": SMALL, "status": "failed"},
        {"model_name": MIDDLE, "status": "unfeasible"},
        {"model_name": SMALL, "quantization": "awq", "status": "proven"},
        {"model_name": LARGE},
        {"model_name": MIDDLE, "tp_degree": 2, "status": "pending"},
        defaults=WHERE,
    )
    assert [target.model_name for target in V1.open_targets(document, CATALOG)] == [LARGE, MIDDLE]
    assert V1.counts(document, CATALOG) == {"total": 5, "pending": 2, "proven": 1, "failed": 1, "unfeasible": 1}


SAME = {"model_name": SMALL, **WHERE}
IDENTITIES = [
    ({}, [], [], "the very same vector is proven"),
    ({"quantization": "awq"}, [0], [], "another quantization is another vector"),
    ({"tp_degree": 2}, [0], [], "another degree is another vector"),
    ({"deployment_target": "async-inference"}, [0], [], "another target is another vector"),
    ({"deployment_config": "transformers-sglang"}, [0], [], "another server is another vector"),
    ({"instance_type": "ml.g6.xlarge"}, [0], [], "another instance family is another vector"),
    ({"instance_type": "ml.g5.2xlarge"}, [], [], "another size of the family is the same vector"),
    ({"quantization": "bf16"}, [], [], "full precision has many names"),
    ({"deployment_target": "managed-inference"}, [], [], "and this target an old one"),
    ({"model_name": "Qwen/Qwen3-1.7B"}, [], [0], "a sibling of the family is the same vector"),
    ({"model_name": "meta-llama/Llama-3.1-8B-Instruct"}, [0], [0], "another family is another vector"),
]


@pytest.mark.parametrize(("changed", "v1", "compat", "reason"), IDENTITIES)
@pytest.mark.parametrize("by", ["a completed row", "the list of proven ones"])
def test_identity_is_the_whole_vector_and_for_existing_installations_the_name(
    by: str, changed: dict[str, Any], v1: list[int], compat: list[int], reason: str
):
    wanted = {**SAME, "status": "pending"} | changed
    proofs = [row(one(**SAME))] if by == "a completed row" else []
    document = read(wanted, proven=[] if proofs else [SAME])
    for selection, open_ones in ((V1, v1), (COMPAT, compat)):
        found = selection.open_targets(document, CATALOG, proofs=proofs)
        assert found == tuple(document.targets[index] for index in open_ones), reason


@pytest.mark.parametrize("status", ["failed", "unfeasible", None])
def test_a_row_that_is_not_completed_proves_nothing(status: str | None):
    document = read(SAME)
    assert V1.open_targets(document, CATALOG, proofs=[row(one(**SAME), status=status)]) == document.targets


def test_two_models_of_no_family_are_one_only_by_name():
    document = read({"model_name": "a/Nobodys-7B"}, {"model_name": "b/Nobodys-7B"}, defaults=WHERE)
    first, second = document.targets
    assert V1.open_targets(document, CATALOG, proofs=[row(first)]) == (second,)


def test_a_proven_target_says_what_proved_it():
    document = read({**SAME, "status": "pending"}, {**SAME, "status": "failed"}, proven=[{**SAME, "tp_degree": 8}])
    pending, failed, listed = V1.judged(document, CATALOG, proofs=[row(document.targets[0])])
    assert pending.status is TargetStatus.PROVEN
    assert pending.why == (
        "transformers-vllm · qwen3 · g5 · none · 1 · realtime-inference is proven by a completed run"
    )
    assert (failed.status, failed.why) == (TargetStatus.FAILED, None), "what the document decided is not overruled"
    assert (listed.status, listed.why) == (TargetStatus.PROVEN, None)


def test_a_target_that_nothing_makes_concrete_stays_open_and_is_never_proven_by_another():
    document = read({"model_name": SMALL}, proven=[{"model_name": SMALL}])
    assert V1.open_targets(document, CATALOG, proofs=[{"model_name": SMALL}, {}]) == document.targets
    assert COMPAT.open_targets(read({"model_name": SMALL, "status": "pending"}), CATALOG, proofs=[{}]) != ()


def test_for_existing_installations_a_missing_status_counts_as_nothing():
    document = read({"model_name": SMALL}, defaults=WHERE)
    assert COMPAT.open_targets(document, CATALOG) == ()
    assert COMPAT.counts(document, CATALOG) == {"total": 1, "pending": 0, "proven": 0, "failed": 0, "unfeasible": 0}


@given(st.lists(st.sampled_from([None, *(status.value for status in TargetStatus)]), max_size=6), st.integers(0, 3))
def test_every_target_is_counted_once(statuses: list[str | None], proven: int):
    document = read(*({**SAME, "status": status} for status in statuses), proven=[{**SAME, "tp_degree": 4}] * proven)
    counts = V1.counts(document, CATALOG)
    assert counts.pop("total") == len(statuses) + proven == sum(counts.values())
    assert (
        counts["pending"] == len(V1.open_targets(document, CATALOG)) == statuses.count(None) + statuses.count("pending")
    )


def test_selections_have_names_and_an_unknown_one_names_them():
    assert selection_named("v1") is V1
    with pytest.raises(UsageError, match="unknown selection 'v2'; use one of v1, compat"):
        selection_named("v2")


def test_only_results_that_succeeded_are_proofs():
    config = {"model_name": "B"}
    results = [
        {"success": True, "config": config},
        {"success": False, "config": {"model_name": "C"}},
        {"success": True},
    ]
    assert compat_successes(results) == [config]


# ---- configurations


@pytest.mark.parametrize("entry", [entry for entry in CATALOG.entries if entry.model_name], ids=lambda entry: entry.id)
def test_a_target_of_a_path_entry_has_the_id_of_the_entry(entry: Any):
    target = one(
        model_name=entry.model_name,
        deployment_config=entry.deployment_config,
        instance_type=entry.instance_type,
        quantization=entry.quantization,
        serving_params=dict(entry.serving_params),
    )
    configuration = resolve_target(target, CATALOG, anything_runs)
    assert isinstance(configuration, Configuration)
    assert config_id(configuration) == config_id(configuration_of(entry, CATALOG))


DEGREES = [
    ({"instance_type": "ml.g6.12xlarge"}, 4, "the GPU count of the instance"),
    ({"instance_type": "ml.g5.12xlarge", "model_name": LARGE}, 2, "what the entry of the five fields declares"),
    ({"instance_type": "ml.g5.12xlarge", "model_name": LARGE, "tp_degree": 4}, 4, "the target's own word"),
    ({"instance_type": "ml.g6.12xlarge", "serving_params": {"tensor_parallel_size": "2"}}, 2, "its serving parameter"),
    ({"instance_type": "local.1cpu", "deployment_config": "transformers-llamacpp"}, 1, "1 without GPUs"),
]


@pytest.mark.parametrize(("fields", "degree", "reason"), DEGREES)
def test_a_degree_that_is_not_set_is_resolved(fields: dict[str, Any], degree: int, reason: str):
    configuration = declared_configuration(one(**{**WHERE, **fields}), CATALOG)
    assert isinstance(configuration, Configuration)
    assert configuration.tp_degree == degree, reason
    assert "tensor_parallel_size" not in configuration.serving_params, reason


def test_parameters_that_are_fields_become_them_and_the_others_stay():
    target = one(**WHERE, serving_params={"max_model_len": 8192, "quantization": "awq", "max_num_seqs": 64})
    configuration = declared_configuration(target, CATALOG)
    assert isinstance(configuration, Configuration)
    assert (configuration.max_model_len, configuration.quantization) == (8192, "awq")
    assert dict(configuration.serving_params) == {"max_num_seqs": "64"}


def test_a_target_that_tunes_is_served_for_adapters():
    where = {"deployment_config": "transformers-sglang", "instance_type": "ml.g6.xlarge"}
    for stages, lora in (([], False), (["tune-sft"], True)):
        configuration = declared_configuration(one(**where, stages=stages), CATALOG)
        assert isinstance(configuration, Configuration)
        assert configuration.enable_lora is lora


UNRESOLVED = [
    ({}, "names no deployment_config and no instance_type; add it to the target or to the defaults", "says too little"),
    (
        {"deployment_config": "transformers-vlm", "instance_type": "ml.g5.xlarg"},
        "no deployment_config 'transformers-vlm' (did you mean 'transformers-vllm'?), no instance_type 'ml.g5.xlarg'",
        "both unknown names at once",
    ),
    ({**WHERE, "deployment_target": "edge"}, "the catalog has no deployment_target 'edge'", "an unknown target"),
    ({**WHERE, "model_name": "Qwen/Qwen3-0.7B"}, "the catalog has no model 'Qwen/Qwen3-0.7B' (did you", "no model"),
    ({**WHERE, "workload": "sampl"}, "the catalog has no workload 'sampl' (did you mean 'sample'?)", "no workload"),
    ({**WHERE, "tp_degree": 8}, "tp_degree 8", "a constraint refutes it"),
]


@pytest.mark.parametrize(("fields", "sentence", "reason"), UNRESOLVED)
def test_what_cannot_run_says_why(fields: dict[str, Any], sentence: str, reason: str):
    answer = resolve_target(one(**fields), CATALOG, anything_runs)
    assert isinstance(answer, Unresolved), reason
    assert sentence in answer.reason, reason


def test_a_constraint_is_cited_and_the_executor_has_the_last_word():
    refuted = resolve_target(one(**WHERE, tp_degree=8), CATALOG, anything_runs)
    assert isinstance(refuted, Unresolved) and refuted.refusal is not None
    assert refuted.refusal.constraint.startswith("tp")
    assert resolve_target(one(**WHERE), CATALOG, lambda _: "no GPUs here") == Unresolved("no GPUs here")


def test_constraints_on_tuning_are_asked_when_the_target_tunes():
    untuned = next(
        model.name
        for model in CATALOG.models.values()
        if model.kind == "language-model" and model.name not in {each.model_name for each in CATALOG.tune_models.values()}
        and isinstance(resolve_target(one(**WHERE, model_name=model.name), CATALOG, anything_runs), Configuration)
    )  # fmt: skip
    answer = resolve_target(one(**WHERE, model_name=untuned, stages=["tune-sft"]), CATALOG, anything_runs)
    assert isinstance(answer, Unresolved) and untuned in answer.reason


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        ("vllm", {"SM_VLLM_MAX_NUM_SEQS": "64", "SM_VLLM_ENFORCE_EAGER": "true"}),
        ("sglang", {"SGLANG_MAX_NUM_SEQS": "64", "SGLANG_ENFORCE_EAGER": "true"}),
    ],
)
def test_serving_parameters_reach_the_container_under_the_servers_prefix(server: str, expected: dict[str, str]):
    target = one(serving_params={"max_num_seqs": 64, "enforce_eager": True})
    assert server_environment(target.serving_params, CATALOG.servers[server]) == expected


def test_a_server_that_takes_no_parameters_from_its_environment_says_so():
    assert server_environment({}, CATALOG.servers["flask"]) == {}
    with pytest.raises(UsageError, match="server flask takes no serving parameters from its environment"):
        server_environment({"a": "1"}, CATALOG.servers["flask"])
