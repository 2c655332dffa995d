"""May a candidate replace the baseline? Two rules, one of which decides, and the evidence for it.

Belongs here: the rules and the decision with every reason. Not here: the statistics (`noninferiority.py`), reading the two
documents (`evaluation_reading.py`), promotion (the registry), what is measured of speed and memory (`benchmark_gate.py`).

The gate fails closed: documents that are wrong or do not belong together are blocked by both rules, with all reasons. The
accuracy over everything is shown and decides nothing. Sources: the specification of the deploy gate; of the rule `fixed`, the
gate that exists: every bucket at least at the baseline's accuracy less the tolerance.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

from mlcc_dagster.core.compared_metrics import digits_apart
from mlcc_dagster.core.evaluation_reading import Read
from mlcc_dagster.core.evaluations import CandidateEvaluation, EvalBaseline, Item, aggregate, mismatches
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.noninferiority import ALPHA, MOST_ITEMS, POWER, BucketJudgement, Verdict, judge
from mlcc_dagster.core.paired_scores import PairedCounts

SCHEMA_VERSION = 1

PROMOTE, BLOCKED, INCONCLUSIVE = "promote", "blocked", "inconclusive"
EXIT_CODES: Mapping[str, int] = MappingProxyType({PROMOTE: 0, BLOCKED: 1, INCONCLUSIVE: 3})
"""What `mlcc gate` exits with, by verdict. Source: the specification of the gate."""

SLACK = 1e-9
"""How far below its limit an accuracy still counts as at it: 0.14 - 0.02 is 0.12, which binary numbers miss by 1e-17. No two
different accuracies of a bucket lie so close."""


@dataclass(frozen=True)
class BucketVerdict:
    """What one rule says of one bucket, the numbers behind it by name, and why, where it is no PASS."""

    verdict: Verdict
    numbers: Mapping[str, Any]
    reason: str | None = None


@dataclass(frozen=True)
class RuleVerdict:
    """What one rule says: its verdict, its buckets by name (none of them where nothing could be compared), every reason."""

    rule: str
    verdict: str
    buckets: Mapping[str, BucketVerdict]
    reasons: tuple[str, ...]

    @classmethod
    def of(cls, rule: str, buckets: Mapping[str, BucketVerdict]) -> "RuleVerdict":
        """Put buckets together: one FAIL blocks, one INCONCLUSIVE leaves it open, otherwise all PASS."""
        found = {each.verdict for each in buckets.values()}
        verdict = BLOCKED if Verdict.FAIL in found else INCONCLUSIVE if Verdict.INCONCLUSIVE in found else PROMOTE
        reasons = tuple(each.reason for each in buckets.values() if each.reason is not None)
        return cls(rule, verdict, MappingProxyType(dict(buckets)), reasons)

    @classmethod
    def not_compared(cls, rule: str, reasons: tuple[str, ...]) -> "RuleVerdict":
        """Block without having compared anything."""
        return cls(rule, BLOCKED, MappingProxyType({}), reasons)

    def to_json(self) -> dict[str, Any]:
        """Return verdict, buckets and reasons."""
        buckets = {
            name: {"verdict": each.verdict.value, **each.numbers, "reason": each.reason}
            for name, each in self.buckets.items()
        }
        return {"verdict": self.verdict, "buckets": buckets, "reasons": list(self.reasons)}


@dataclass(frozen=True)
class Comparison:
    """Two documents that belong together, and how strictly they are compared: `tolerance` a share of the items, `alpha` the error
    rate of each direction, `power` what is planned for."""

    baseline: EvalBaseline
    candidate: CandidateEvaluation
    tolerance: float
    alpha: float = ALPHA
    power: float = POWER


class Rule(Protocol):
    """One way to decide."""

    name: str

    def judge(self, comparison: Comparison) -> RuleVerdict:
        """Judge every bucket. What the rule needs and the documents do not have blocks."""
        ...


class FixedRule:
    """Every bucket at least at the baseline's accuracy less the tolerance, as the numbers stand. Compatible with existing
    gates."""

    name = "fixed"

    def judge(self, comparison: Comparison) -> RuleVerdict:
        """See `Rule.judge`."""
        buckets = {}
        for name, score in comparison.baseline.buckets.items():
            accuracy = comparison.candidate.buckets[name].accuracy
            passes = accuracy >= score.accuracy - comparison.tolerance - SLACK
            fell = score.accuracy - accuracy
            digits = digits_apart(100 * fell, 100 * comparison.tolerance)
            shares = max(4, digits + 2)
            reason = (
                None
                if passes
                else (
                    f"bucket {name} fell from {score.accuracy:.{shares}f} to {accuracy:.{shares}f}, {points(fell, digits)} where "
                    f"{points(comparison.tolerance, digits)} are tolerated; mend the candidate"
                )
            )
            least = max(0.0, score.accuracy - comparison.tolerance)
            verdict = Verdict.PASS if passes else Verdict.FAIL
            buckets[name] = BucketVerdict(verdict, MappingProxyType({"least_accuracy": round(least, 12)}), reason)
        return RuleVerdict.of(self.name, buckets)


class NonInferiorityRule:
    """Every bucket shown to be worse by less than the tolerance, from the same items answered by both."""

    name = "noninferiority"

    def judge(self, comparison: Comparison) -> RuleVerdict:
        """See `Rule.judge`."""
        lacking = [
            f"the {what} has no results per item, which the rule {self.name} compares; {advice}"
            for what, items, advice in (
                ("candidate", comparison.candidate.items, "evaluate it with `mlcc evaluate`, or use --rule fixed"),
                (
                    "baseline",
                    comparison.baseline.items,
                    "update it from an evaluation that has them, or use --rule fixed",
                ),
            )
            if not items
        ]
        if lacking:
            return RuleVerdict.not_compared(self.name, tuple(lacking))
        tables = paired_tables(comparison.baseline.items, comparison.candidate.items, comparison.baseline.buckets)
        judged = judge(tables, margin=comparison.tolerance, alpha=comparison.alpha, power=comparison.power)
        return RuleVerdict.of(
            self.name,
            {
                name: BucketVerdict(
                    found.verdict, MappingProxyType(_numbers(found)), _reason(name, found, comparison.tolerance)
                )
                for name, found in judged.items()
            },
        )


RULES: Mapping[str, Rule] = MappingProxyType({rule.name: rule for rule in (FixedRule(), NonInferiorityRule())})
"""The rules by name; the first is the default."""

DEFAULT_RULE = FixedRule.name


def rule_named(name: str) -> Rule:
    """Return the rule of that name. Raises `UsageError` naming the known ones."""
    try:
        return RULES[name]
    except KeyError:
        raise UsageError(f"unknown rule '{name}'; use one of {', '.join(RULES)}") from None


@dataclass(frozen=True)
class Tolerance:
    """What drop is tolerated, a share of the items, and what the committed baseline says (none where it could not be read).

    Stricter than the baseline is always right. Looser is never silent: `loosened` is part of the evidence.
    """

    value: float
    committed: float | None

    @property
    def loosened(self) -> bool:
        """Whether more is tolerated than the baseline allows."""
        return self.committed is not None and self.value > self.committed

    def to_json(self) -> dict[str, Any]:
        """Return both and whether it was loosened."""
        return {"value": self.value, "committed": self.committed, "loosened": self.loosened}


@dataclass(frozen=True)
class GateDecision:
    """The decision: `verdict` is that of the rule that was chosen. `compared` is whether there was anything to compare: where not,
    the documents were wrong and `reasons` says how."""

    verdict: str
    rule: str
    tolerance: Tolerance
    alpha: float
    rules: Mapping[str, RuleVerdict]
    reasons: tuple[str, ...]
    compared: bool
    baseline: EvalBaseline | None = None
    candidate: CandidateEvaluation | None = None
    sources: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def exit_code(self) -> int:
        """What the command exits with."""
        return EXIT_CODES[self.verdict]

    @property
    def sentence(self) -> str:
        """The decision in one sentence."""
        if not self.compared:
            return f"blocked: the documents cannot be compared, for {len(self.reasons)} reason(s)"
        found = self.rules[self.rule].buckets
        passing = sum(each.verdict is Verdict.PASS for each in found.values())
        if not found:
            return f"{self.verdict} by rule {self.rule}: it cannot judge these documents"
        return f"{self.verdict} by rule {self.rule}: {passing} of {len(found)} buckets pass"

    def to_json(self) -> dict[str, Any]:
        """Return the evidence: everything that the decision rests on, as JSON values."""
        baseline, candidate = self.baseline, self.candidate
        return {
            "schema_version": SCHEMA_VERSION,
            "kind": "evaluation",
            "verdict": self.verdict,
            "rule": self.rule,
            "tolerance": self.tolerance.to_json(),
            "alpha": self.alpha,
            "compared": self.compared,
            "reasons": list(self.reasons),
            "eval_set_dvc_hash": None if baseline is None else baseline.eval_set_dvc_hash,
            "baseline_sha": None if baseline is None else baseline.baseline_sha,
            "candidate_sha": None if candidate is None else candidate.candidate_sha,
            "aggregate": {
                "baseline": None if baseline is None else aggregate(baseline.buckets, baseline.items),
                "candidate": None if candidate is None else aggregate(candidate.buckets, candidate.items),
            },
            "buckets": self._buckets(),
            "rules": {name: found.to_json() for name, found in self.rules.items()},
            **self.sources,
        }

    def _buckets(self) -> dict[str, Any]:
        """Return accuracies side by side, where they were compared."""
        if not self.compared or self.baseline is None or self.candidate is None:
            return {}
        return {
            name: {
                "n": score.n,
                "baseline": score.accuracy,
                "candidate": self.candidate.buckets[name].accuracy,
                "difference": round(self.candidate.buckets[name].accuracy - score.accuracy, 12),
            }
            for name, score in self.baseline.buckets.items()
        }


def decide(
    baseline: Read[EvalBaseline],
    candidate: Read[CandidateEvaluation],
    *,
    rule: str = DEFAULT_RULE,
    tolerance: float | None = None,
    alpha: float = ALPHA,
    sources: Mapping[str, Any] = MappingProxyType({}),
) -> GateDecision:
    """Decide, by every rule, and let the named one count. `tolerance`: in place of the baseline's; `sources` goes into the
    evidence as it is (digests of the files, who asked).

    Raises `UsageError` for an unknown rule and a tolerance that is no share from 0 to below 1.
    """
    chosen = rule_named(rule)
    if tolerance is not None and not 0 <= tolerance < 1:
        raise UsageError(f"--tolerance must be a share from 0 to below 1, such as 0.02, not {tolerance}")
    before, after = baseline.document, candidate.document
    faults = [*baseline.problems, *candidate.problems]
    if baseline.legible is not None and candidate.legible is not None:
        faults += mismatches(baseline.legible, candidate.legible)
    committed = None if before is None else before.tolerance_pp
    used = Tolerance((committed or 0.0) if tolerance is None else tolerance, committed)
    if faults or before is None or after is None:
        found = {name: RuleVerdict.not_compared(name, tuple(faults)) for name in RULES}
    else:
        comparison = Comparison(before, after, used.value, alpha)
        found = {name: each.judge(comparison) for name, each in RULES.items()}
    return GateDecision(
        verdict=found[chosen.name].verdict,
        rule=chosen.name,
        tolerance=used,
        alpha=alpha,
        rules=MappingProxyType(found),
        reasons=found[chosen.name].reasons,
        compared=not faults,
        baseline=before,
        candidate=after,
        sources=sources,
    )


def paired_tables(
    baseline: tuple[Item, ...], candidate: tuple[Item, ...], buckets: Mapping[str, Any]
) -> dict[str, PairedCounts]:
    """Return for each bucket how many of the same items the candidate gained and lost."""
    before = {item.id: item.correct for item in baseline}
    counts = {name: [0, 0, 0] for name in buckets}
    for item in candidate:
        for name in item.buckets:
            counts[name][0] += item.correct and not before[item.id]
            counts[name][1] += before[item.id] and not item.correct
            counts[name][2] += 1
    return {name: PairedCounts(*found) for name, found in counts.items()}


def points(share: float, digits: int = 1) -> str:
    """Return a share of the items as percentage points with so many digits behind the point: `2.0 pp`."""
    return f"{100 * share:.{digits}f} pp"


def _numbers(found: BucketJudgement) -> dict[str, Any]:
    return {
        "gained": found.table.gained,
        "lost": found.table.lost,
        "low": found.low,
        "high": found.high,
        "p_pass": found.p_pass,
        "p_fail": found.p_fail,
        "items_for_power": found.items_for_power,
        "items_needed": found.items_needed,
        "as_observed": found.as_observed,
    }


def _reason(name: str, found: BucketJudgement, margin: float) -> str | None:
    table = found.table
    digits = digits_apart(100 * table.difference, 100 * margin)
    seen = f"bucket {name}: {table.gained} gained and {table.lost} lost of {table.items}, {points(table.difference, digits)}"
    if found.verdict is Verdict.PASS:
        return None
    if found.verdict is Verdict.FAIL:
        return f"{seen}, is worse by more than {points(margin, digits)}; mend the candidate"
    if found.items_needed is None:
        if margin + table.difference <= 0 or margin == 0:
            return (
                f"{seen}, is open, and so near {points(margin, digits)} below that no number of items will tell; mend the "
                "candidate"
            )
        return (
            f"{seen}, is open, and more than {MOST_ITEMS} items would be needed; tolerate more, or mend the candidate"
        )
    supposed = "if the difference is the one seen" if found.as_observed else "if it is as good as the baseline"
    return f"{seen}, is open; {found.items_needed} more items decide it {supposed}"
