"""The Path Prover against the behaviour recorded from existing installations, group by group and vector by vector."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from catalog.loader import load_catalog
from mlcc_dagster.core.configuration import Vector
from mlcc_dagster.core.gaps import observed_gaps
from mlcc_dagster.core.path_proofs import compat_known_unfeasible, compat_record
from mlcc_dagster.core.stages import asks_for_tuning
from mlcc_dagster.core.substitution import SubstitutionIndex
from mlcc_dagster.core.targets import compat_successes, read_targets, selection_named

RECORDED = Path(__file__).parents[3] / "shared" / "data" / "golden_path_prover.json"
NOW = "2026-06-09T14:30:22.000000Z"

KEYS = {"substitutions": "substitutions", "no_match": "noMatch", "message": "message"}
"""The keys of our answers and how they are spelled in the recording."""

Recording = dict[str, Any]


def recording() -> Recording:
    if not RECORDED.exists():
        pytest.skip(f"no {RECORDED.name} at {RECORDED.parent}")
    return json.loads(RECORDED.read_text("utf-8"))


def gaps_agree(recorded: Recording) -> int:
    for case in recorded["gaps"]:
        assert observed_gaps(case["proven"]).to_json() == case["gaps"], case["name"]
    return len(recorded["gaps"])


def substitutions_agree(recorded: Recording) -> int:
    for case in recorded["substitutions"]:
        rows = case.get("proven", recorded["substitution_proven"])
        answer = SubstitutionIndex(rows).answer(Vector.of(case["request"])).to_json()
        assert {KEYS[key]: value for key, value in answer.items()} == case["result"], case["request"]
    return len(recorded["substitutions"])


def tune_gate_agrees(recorded: Recording) -> int:
    for case in recorded["tune_gate"]:
        assert asks_for_tuning(case["input"]) is case["result"], case["input"]
    return len(recorded["tune_gate"])


def records_agree(recorded: Recording) -> int:
    for case in recorded["records"]:
        record = compat_record(case["result_in"], case["classification"], run_timestamp=NOW)
        assert record.pop("run_timestamp") == NOW
        assert record == case["record_without_timestamp"], case["result_in"]
    return len(recorded["records"])


def unfeasible_agrees(recorded: Recording) -> int:
    for case in recorded["unfeasible"]:
        assert compat_known_unfeasible(case["config"], case["records"]) is case["found"], case["records"]
    return len(recorded["unfeasible"])


def priority_agrees(recorded: Recording) -> int:
    catalog, compat = load_catalog(), selection_named("compat")
    targets = read_targets(recorded["priority_input"], source="priority_input")
    for case in recorded["priority"]:
        if "status" in case:
            assert compat.counts(targets, catalog) == case["status"]
            continue
        proofs = compat_successes(case["event"].get("previousResults", []))
        assert compat.open_targets(targets, catalog, proofs=proofs)[0].to_json() == case["next"], case["event"]
    return len(recorded["priority"])


ASSERTED: dict[str, Callable[[Recording], int]] = {
    "gaps": gaps_agree,
    "substitutions": substitutions_agree,
    "tune_gate": tune_gate_agrees,
    "records": records_agree,
    "unfeasible": unfeasible_agrees,
    "priority": priority_agrees,
}
INPUTS = {"substitution_proven": "substitutions", "priority_input": "priority"}
"""Groups that are what another group is asked about."""
ELSEWHERE = {"classify": ("test_failures.py", "test_compat_answers_the_recorded_logs_as_recorded")}
"""Groups asserted beside the rules they are about: file and test."""


@pytest.mark.shared
@pytest.mark.parametrize("group", ASSERTED)
def test_every_recorded_answer_of_a_group_comes_out(group: str):
    assert ASSERTED[group](recording()) > 0


@pytest.mark.shared
def test_no_recorded_group_is_left_unasserted():
    assert set(recording()) == {*ASSERTED, *INPUTS, *ELSEWHERE}


@pytest.mark.parametrize("group", ELSEWHERE)
def test_a_group_asserted_elsewhere_really_is(group: str):
    file, test = ELSEWHERE[group]
    source = (Path(__file__).parent / file).read_text("utf-8")
    assert f"def {test}(" in source
    assert f'["{group}"]' in source.split(f"def {test}(", 1)[1].split("\ndef ", 1)[0]
