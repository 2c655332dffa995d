"""What an evaluation says: accuracy and items per bucket, of a candidate and of the committed baseline.

Belongs here: the two documents, and what keeps one from being compared with the other. Not here: reading them from JSON
(`evaluation_reading.py`), deciding (`gate.py`), making an evaluation (`resources.evaluations`).

`eval_baseline.json` has `eval_set_dvc_hash`, `baseline_sha`, `previous_baseline_sha`, `tolerance_pp` and
`buckets{name: {accuracy, n}}`; `candidate_eval.json` the same without what only a baseline has, and optionally
`candidate_sha`. Both may have `items[{id, buckets[], correct}]`. Names and shape are those of existing gates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

SCHEMA_VERSION = 1

_SHOWN = 5
"""Names that a sentence lists before it only counts the rest."""


@dataclass(frozen=True)
class BucketScore:
    """One bucket: the share of its `n` items that were answered right, 0 to 1."""

    accuracy: float
    n: int

    def to_json(self) -> dict[str, Any]:
        """Return both as JSON values."""
        return {"accuracy": self.accuracy, "n": self.n}


@dataclass(frozen=True)
class Item:
    """How one question of the evaluation set was answered; it counts in each of its buckets."""

    id: str
    buckets: tuple[str, ...]
    correct: bool

    def to_json(self) -> dict[str, Any]:
        """Return the item as JSON values."""
        return {"id": self.id, "buckets": list(self.buckets), "correct": self.correct}


@dataclass(frozen=True)
class CandidateEvaluation:
    """A candidate's results on one version of the evaluation set.

    `candidate_sha` is the digest of the bundle, none where nobody said what was evaluated. `evaluated` says how (engine,
    configuration, `seconds`, `cost_usd`); it is evidence and decides nothing.
    """

    eval_set_dvc_hash: str
    candidate_sha: str | None
    buckets: Mapping[str, BucketScore]
    items: tuple[Item, ...] = ()
    evaluated: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def to_json(self) -> dict[str, Any]:
        """Return the document `candidate_eval.json`."""
        return {
            "schema_version": SCHEMA_VERSION,
            "eval_set_dvc_hash": self.eval_set_dvc_hash,
            "candidate_sha": self.candidate_sha,
            **({"evaluated": dict(self.evaluated)} if self.evaluated else {}),
            **_results(self.buckets, self.items),
        }


@dataclass(frozen=True)
class EvalBaseline:
    """The committed baseline. `tolerance_pp` is a share of the items (0.02 = 2 percentage points); `baseline_sha` says what
    was evaluated, `previous_baseline_sha` what the baseline before it was of, none for the first."""

    eval_set_dvc_hash: str
    baseline_sha: str
    previous_baseline_sha: str | None
    tolerance_pp: float
    buckets: Mapping[str, BucketScore]
    items: tuple[Item, ...] = ()
    justification: str | None = None
    tolerance_before: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the document `eval_baseline.json`; `tolerance_before` is there only where this update changed it."""
        changed = {} if self.tolerance_before is None else {"tolerance_before": self.tolerance_before}
        return {
            "schema_version": SCHEMA_VERSION,
            "eval_set_dvc_hash": self.eval_set_dvc_hash,
            "baseline_sha": self.baseline_sha,
            "previous_baseline_sha": self.previous_baseline_sha,
            "tolerance_pp": self.tolerance_pp,
            **changed,
            "justification": self.justification,
            **_results(self.buckets, self.items),
        }


def _results(buckets: Mapping[str, BucketScore], items: Sequence[Item]) -> dict[str, Any]:
    scores = {name: score.to_json() for name, score in buckets.items()}
    return {"buckets": scores, "items": [item.to_json() for item in items]} if items else {"buckets": scores}


def scores_of(items: Sequence[Item]) -> dict[str, BucketScore]:
    """Return the buckets of items with their accuracies, in the order in which items name them first."""
    right: dict[str, list[bool]] = {}
    for item in items:
        for bucket in item.buckets:
            right.setdefault(bucket, []).append(item.correct)
    return {name: BucketScore(sum(answers) / len(answers), len(answers)) for name, answers in right.items()}


def aggregate(buckets: Mapping[str, BucketScore], items: Sequence[Item]) -> float:
    """Return the accuracy over everything: of the items, or of the buckets by their sizes. It is shown and decides
    nothing."""
    if items:
        return sum(item.correct for item in items) / len(items)
    return sum(score.accuracy * score.n for score in buckets.values()) / sum(score.n for score in buckets.values())


def mismatches(baseline: EvalBaseline, candidate: CandidateEvaluation) -> list[str]:
    """Return one sentence for everything that keeps a candidate from being compared with a baseline; empty where nothing
    does.

    What could not be read of either (an empty hash, no buckets, an `n` of 0) is not compared: its own document says so.
    """
    problems = []
    hashes = candidate.eval_set_dvc_hash, baseline.eval_set_dvc_hash
    if all(hashes) and hashes[0] != hashes[1]:
        problems.append(
            f"the candidate was evaluated on set {candidate.eval_set_dvc_hash}, the baseline on "
            f"{baseline.eval_set_dvc_hash}; pull the baseline's set and evaluate again"
        )
    missing = [name for name in baseline.buckets if name not in candidate.buckets]
    if missing and candidate.buckets:
        problems.append(f"the candidate has no {listed('bucket', missing)}; evaluate it on the whole set")
    extra = [name for name in candidate.buckets if name not in baseline.buckets]
    if extra and baseline.buckets:
        problems.append(
            f"the baseline has no {listed('bucket', extra)} of the candidate; evaluate on the baseline's set, or update the "
            "baseline first"
        )
    for name, score in baseline.buckets.items():
        other = candidate.buckets.get(name)
        if other is not None and other.n and score.n and other.n != score.n:
            problems.append(
                f"bucket {name} has {other.n} items in the candidate and {score.n} in the baseline; evaluate every item once"
            )
    if baseline.items and candidate.items:
        problems += _item_mismatches(baseline.items, candidate.items)
    return problems


def _item_mismatches(baseline: Sequence[Item], candidate: Sequence[Item]) -> list[str]:
    ours, theirs = {item.id: item for item in baseline}, {item.id: item for item in candidate}
    problems = []
    if missing := [name for name in ours if name not in theirs]:
        problems.append(f"the candidate did not answer {listed('item', missing)}; evaluate it on the whole set")
    if extra := [name for name in theirs if name not in ours]:
        problems.append(f"the baseline did not answer {listed('item', extra)}; evaluate on the baseline's set")
    moved = [name for name, item in ours.items() if name in theirs and set(theirs[name].buckets) != set(item.buckets)]
    if moved:
        problems.append(f"{listed('item', moved)} of other buckets than in the baseline; evaluate both on the same set")
    return problems


def listed(noun: str, names: Sequence[str]) -> str:
    """Return names with their noun, the first of them and how many more: `buckets a, b`."""
    shown = ", ".join(names[:_SHOWN])
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{noun}{'s' if len(names) > 1 else ''} {shown}{rest}"
