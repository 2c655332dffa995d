"""What the gate's tests share: documents that are sound, to be spoilt one by one."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mlcc_dagster.core.evaluation_reading import Read, read_baseline, read_candidate
from mlcc_dagster.core.evaluations import CandidateEvaluation, EvalBaseline

HASH = "1702aa59fec75db3edad1d1a0bb8ceda"


def candidate_document(buckets: Mapping[str, tuple[float, int]], **changes: Any) -> dict[str, Any]:
    """A candidate without items, as existing gates write it."""
    scores = {name: {"accuracy": accuracy, "n": n} for name, (accuracy, n) in buckets.items()}
    return {"eval_set_dvc_hash": HASH, "buckets": scores} | changes


def baseline_document(buckets: Mapping[str, tuple[float, int]], **changes: Any) -> dict[str, Any]:
    """A baseline without items, as existing gates have it committed."""
    head = {"baseline_sha": "b" * 40, "previous_baseline_sha": "a" * 40, "tolerance_pp": 0.02}
    return candidate_document(buckets) | head | changes


def items_of(answers: Mapping[str, Sequence[bool]]) -> list[dict[str, Any]]:
    """Items in one bucket each, numbered."""
    return [
        {"id": f"{name}-{number}", "buckets": [name], "correct": bool(correct)}
        for name, given in answers.items()
        for number, correct in enumerate(given)
    ]


def scores_of_answers(answers: Mapping[str, Sequence[bool]]) -> dict[str, tuple[float, int]]:
    """The accuracy and number of each bucket."""
    return {name: (sum(given) / len(given), len(given)) for name, given in answers.items()}


def candidate_of(document: Any) -> Read[CandidateEvaluation]:
    """Read a document as a candidate's."""
    return read_candidate(json.dumps(document), source="candidate_eval.json")


def baseline_of(document: Any) -> Read[EvalBaseline]:
    """Read a document as a baseline."""
    return read_baseline(json.dumps(document), source="eval_baseline.json")
