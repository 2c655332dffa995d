"""The second gate: may a candidate be slower, or take more memory? Latency, throughput and memory per configuration.

Belongs here: its document, its two rules and its decision. Not here: accuracy (`gate.py`), collecting measurements
(`resources.benchmark_documents`), regressions in a history (`regressions.py`).

The document has `configurations{name: {metric: [value per run]}}`; a baseline may have `tolerance_pct{metric: percent}` (default
10). Of the same form as the gate of accuracy: every metric of every configuration is judged, both rules, what is missing or wrong
blocks. `fixed` compares medians; a value exactly at the tolerance passes. `noninferiority` compares runs: Welch's test of
the logarithms (B. L. Welch, The generalization of 'Student's' problem, Biometrika 34 (1947) 28-35), Holm over everything, since
speed varies by factors and not by amounts.
"""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from scipy import stats

from mlcc_dagster.core.compared_metrics import COMPARED, DEFAULT_THRESHOLD_PCT, ComparedMetric, delta_pct, digits_apart
from mlcc_dagster.core.evaluation_reading import Read, Twice, json_of
from mlcc_dagster.core.evaluations import listed
from mlcc_dagster.core.gate import BLOCKED, DEFAULT_RULE, EXIT_CODES, BucketVerdict, RuleVerdict, rule_named
from mlcc_dagster.core.noninferiority import ALPHA, MOST_ITEMS, POWER, Verdict, holm, required_shift

SCHEMA_VERSION = 1
KIND = "benchmarks"
LEAST_RUNS = 3
"""Runs on both sides that the spread is estimated from at least."""

GATED: Mapping[str, ComparedMetric] = MappingProxyType(
    {
        **COMPARED,
        "request_throughput_rps": ComparedMetric("request_throughput_rps", "requests", "requests/s", True),
        "gpu_memory_used_avg_gb": ComparedMetric("gpu_memory_used_avg_gb", "memory", "GB", False),
    }
)
"""The metrics of the gate by their columns: those that are compared everywhere, requests of predictors, and memory."""

_MEASURED = "measure it with `mlcc run` and collect it again"


@dataclass(frozen=True)
class Benchmarks:
    """Values per run, by configuration and metric column. `tolerance_pct` by column is a baseline's; `sha` says what was
    measured, none where nobody said."""

    configurations: Mapping[str, Mapping[str, tuple[float, ...]]]
    tolerance_pct: Mapping[str, float]
    sha: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the document."""
        return {
            "schema_version": SCHEMA_VERSION,
            "kind": KIND,
            "candidate_sha": self.sha,
            "configurations": {
                name: {metric: list(values) for metric, values in metrics.items()}
                for name, metrics in self.configurations.items()
            },
        }


@dataclass(frozen=True)
class Cell:
    """One metric of one configuration on both sides, and by how many percent it may get worse."""

    name: str
    metric: ComparedMetric
    before: tuple[float, ...]
    after: tuple[float, ...]
    tolerance_pct: float

    @property
    def medians(self) -> tuple[float, float]:
        """The medians of baseline and candidate."""
        return statistics.median(self.before), statistics.median(self.after)

    @property
    def worse_pct(self) -> float:
        """By how many percent the candidate's median is worse; negative where it is better."""
        before, after = self.medians
        return self.metric.worse_pct(delta_pct(after, before) or 0.0)

    @property
    def margin(self) -> float:
        """The tolerance as a difference of logarithms, above 0."""
        share = self.tolerance_pct / 100
        return -math.log1p(-share) if self.metric.higher_is_better else math.log1p(share)

    def worse_logs(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the logarithms of both sides, larger for worse."""
        sign = -1.0 if self.metric.higher_is_better else 1.0
        return sign * np.log(self.before), sign * np.log(self.after)


@dataclass(frozen=True)
class BenchmarkDecision:
    """The decision on benchmarks, of the same form as `gate.GateDecision`."""

    verdict: str
    rule: str
    alpha: float
    cells: tuple[Cell, ...]
    rules: Mapping[str, RuleVerdict]
    reasons: tuple[str, ...]
    loosened: tuple[str, ...]
    compared: bool

    @property
    def exit_code(self) -> int:
        """What the command exits with."""
        return EXIT_CODES[self.verdict]

    @property
    def sentence(self) -> str:
        """The decision in one sentence."""
        if not self.compared:
            return f"blocked: the documents cannot be compared, for {len(self.reasons)} reason(s)"
        found = self.rules[self.rule].buckets.values()
        passing = sum(each.verdict is Verdict.PASS for each in found)
        return f"{self.verdict} by rule {self.rule}: {passing} of {len(found)} measurements pass"

    def to_json(self) -> dict[str, Any]:
        """Return the evidence as JSON values."""
        return {
            "schema_version": SCHEMA_VERSION,
            "kind": KIND,
            "verdict": self.verdict,
            "rule": self.rule,
            "alpha": self.alpha,
            "compared": self.compared,
            "loosened": list(self.loosened),
            "reasons": list(self.reasons),
            "buckets": {
                cell.name: {
                    "baseline": cell.medians[0],
                    "candidate": cell.medians[1],
                    "worse_pct": round(cell.worse_pct, 6),
                    "tolerance_pct": cell.tolerance_pct,
                    "runs": [len(cell.before), len(cell.after)],
                    "unit": cell.metric.unit,
                }
                for cell in self.cells
            },
            "rules": {name: found.to_json() for name, found in self.rules.items()},
        }


def read_benchmarks(text: str, *, source: str) -> Read[Benchmarks]:
    """Read a document of benchmarks. Raises `UsageError` where the text is no JSON; what is wrong with its content is a
    problem."""
    document = json_of(text, source=source, what="benchmarks such as `mlcc gate collect` writes")
    problems: list[str] = []
    if not isinstance(document, dict):
        return Read(None, (f"{source}: must be an object with configurations; collect it again",))
    version = document.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        problems.append(
            f"{source}: schema_version is {version!r} and this version reads {SCHEMA_VERSION}; collect it again"
        )
    if document.get("kind") != KIND:
        problems.append(
            f"{source}: kind is {document.get('kind')!r}, not {KIND}; name a file that `mlcc gate collect` wrote"
        )
    problems += [f"{source}: {path} stands there twice; keep one of them" for path in _twice("", document)]
    configurations = document.get("configurations")
    found: dict[str, Mapping[str, tuple[float, ...]]] = {}
    if not isinstance(configurations, dict) or not configurations:
        problems.append(f"{source}: configurations must be an object with at least one; {_MEASURED}")
        configurations = {}
    for name, metrics in configurations.items():
        if not isinstance(metrics, dict) or not metrics:
            problems.append(f"{source}: configurations.{name} must be an object with at least one metric; {_MEASURED}")
            found[name] = {}
            continue
        found[name] = {
            metric: _values(values, metric, f"{source}: configurations.{name}.{metric}", problems)
            for metric, values in metrics.items()
        }
    sha = document.get("candidate_sha")
    if sha is not None and not isinstance(sha, str):
        problems.append(f"{source}: candidate_sha must be a text or null, not {sha!r}; correct it")
    tolerance = _tolerances(document.get("tolerance_pct"), source, problems)
    made = Benchmarks(found, tolerance, sha if isinstance(sha, str) else None)
    return Read(None if problems else made, tuple(problems), made)


def decide_benchmarks(
    baseline: Read[Benchmarks],
    candidate: Read[Benchmarks],
    *,
    rule: str = DEFAULT_RULE,
    tolerance_pct: Mapping[str, float] = MappingProxyType({}),
    alpha: float = ALPHA,
) -> BenchmarkDecision:
    """Decide by both rules and let the named one count; `tolerance_pct`, by column, is used in place of the baseline's.

    Raises `UsageError` for an unknown rule.
    """
    chosen = rule_named(rule).name
    before, after = baseline.document, candidate.document
    reasons = (*baseline.problems, *candidate.problems)
    if baseline.legible is not None and candidate.legible is not None:
        reasons = (*reasons, *_mismatches(baseline.legible, candidate.legible))
    if reasons or before is None or after is None:
        rules = {name: RuleVerdict.not_compared(name, reasons) for name in _JUDGES}
        return BenchmarkDecision(BLOCKED, chosen, alpha, (), rules, reasons, (), compared=False)
    used = {name: tolerance_pct.get(name, before.tolerance_pct[name]) for name in GATED}
    cells = tuple(
        Cell(f"{name} {GATED[metric].alias}", GATED[metric], values, after.configurations[name][metric], used[metric])
        for name, metrics in before.configurations.items()
        for metric, values in metrics.items()
    )
    rules = {name: RuleVerdict.of(name, judged(cells, alpha)) for name, judged in _JUDGES.items()}
    looser = tuple(name for name in GATED if used[name] > before.tolerance_pct[name])
    found = rules[chosen]
    return BenchmarkDecision(
        found.verdict, chosen, alpha, cells, MappingProxyType(rules), found.reasons, looser, compared=True
    )


def _fixed(cells: Sequence[Cell], alpha: float) -> dict[str, BucketVerdict]:
    found = {}
    for cell in cells:
        before, after = cell.medians
        worse = cell.metric.regressed(after, before, cell.tolerance_pct)
        digits = digits_apart(cell.worse_pct, cell.tolerance_pct)
        reason = (
            f"{cell.name} is {cell.worse_pct:.{digits}f} % worse ({before:g} -> {after:g} {cell.metric.unit}), "
            f"{cell.tolerance_pct:g} % are tolerated; mend the candidate"
        )
        found[cell.name] = BucketVerdict(
            Verdict.FAIL if worse else Verdict.PASS, MappingProxyType({}), reason if worse else None
        )
    return found


def _paired(cells: Sequence[Cell], alpha: float) -> dict[str, BucketVerdict]:
    measured = {cell.name: _welch(cell, alpha) for cell in cells}
    passed = holm([each.p_pass for each in measured.values()], alpha)
    failed = holm([each.p_fail for each in measured.values()], alpha)
    found = {}
    for index, cell in enumerate(cells):
        numbers: dict[str, Any] = asdict(measured[cell.name])
        verdict = Verdict.PASS if passed[index] else Verdict.FAIL if failed[index] else Verdict.INCONCLUSIVE
        needed = _runs_needed(cell, len(cells), alpha) if verdict is Verdict.INCONCLUSIVE else 0
        numbers["runs_needed"] = needed
        digits = digits_apart(cell.worse_pct, cell.tolerance_pct)
        seen = f"{cell.name} is {cell.worse_pct:.{digits}f} % worse in the median of {len(cell.after)} runs"
        reason = None
        if verdict is Verdict.FAIL:
            reason = f"{seen}, more than {cell.tolerance_pct:g} %; mend the candidate"
        elif verdict is Verdict.INCONCLUSIVE:
            more = "more runs of both" if needed is None else f"{needed} more runs of each"
            reason = (
                f"{seen} and {len(cell.before)} before, and open; {more} decide it if it is as fast as the baseline"
            )
        found[cell.name] = BucketVerdict(verdict, MappingProxyType(numbers), reason)
    return found


_JUDGES = MappingProxyType({"fixed": _fixed, "noninferiority": _paired})


@dataclass(frozen=True)
class _Tested:
    """Both p-values, and the interval of the change in percent (larger is worse) at 1 - 2 alpha, none where there is none."""

    p_pass: float = 1.0
    p_fail: float = 1.0
    low_pct: float | None = None
    high_pct: float | None = None


def _welch(cell: Cell, alpha: float) -> _Tested:
    """Test one cell; nothing is shown where there are too few runs, or none of them differs from another."""
    before, after = cell.worse_logs()
    if min(len(before), len(after)) < LEAST_RUNS:
        return _Tested()
    parts = after.var(ddof=1) / len(after), before.var(ddof=1) / len(before)
    error = math.sqrt(sum(parts))
    if error == 0:
        return _Tested()
    difference = float(after.mean() - before.mean())
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / (len(after) - 1) + parts[1] ** 2 / (len(before) - 1))
    above = (difference - cell.margin) / error
    half = float(stats.t.isf(alpha, freedom)) * error
    low, high = (_percent(cell, difference + side * half) for side in (-1, 1))
    return _Tested(float(stats.t.cdf(above, freedom)), float(stats.t.sf(above, freedom)), low, high)


def _percent(cell: Cell, difference: float) -> float:
    return 100 * (-math.expm1(-difference) if cell.metric.higher_is_better else math.expm1(difference))


def _runs_needed(cell: Cell, cells: int, alpha: float) -> int | None:
    """Return how many more runs of each side let an equal candidate pass with the planned power; none where nobody knows."""
    before, after = cell.worse_logs()
    if min(len(before), len(after)) < LEAST_RUNS:
        return LEAST_RUNS - min(len(before), len(after))
    spread = before.var(ddof=1) + after.var(ddof=1)
    if cell.margin == 0 or spread == 0:
        return None
    # one more than the normal scores say, since the spread is estimated too
    total = math.ceil((required_shift(cells, alpha=alpha, power=POWER) / cell.margin) ** 2 * spread) + 1
    return None if total > MOST_ITEMS else max(1, total - min(len(before), len(after)))


def _values(values: Any, metric: str, path: str, problems: list[str]) -> tuple[float, ...]:
    if metric not in GATED:
        problems.append(f"{path}: no such metric is gated; use {', '.join(GATED)}")
    if not isinstance(values, list) or not values:
        problems.append(f"{path}: must be a list with a value per run, not {values!r}; {_MEASURED}")
        return ()
    wrong = [
        value
        for value in values
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e300
    ]
    if wrong:
        problems.append(f"{path}: must be finite numbers above 0, not {wrong[0]!r}; {_MEASURED}")
        return ()
    return tuple(float(value) for value in values)


def _tolerances(value: Any, source: str, problems: list[str]) -> Mapping[str, float]:
    found = dict.fromkeys(GATED, DEFAULT_THRESHOLD_PCT)
    if value is None:
        return found
    if not isinstance(value, dict):
        problems.append(f"{source}: tolerance_pct must be an object of percents by metric, not {value!r}; correct it")
        return found
    for name, percent in value.items():
        number = not isinstance(percent, bool) and isinstance(percent, (int, float))
        if name not in GATED:
            problems.append(f"{source}: tolerance_pct.{name}: no such metric is gated; use {', '.join(GATED)}")
        elif not number or not 0 <= percent < 100:
            problems.append(f"{source}: tolerance_pct.{name} must be from 0 to below 100, not {percent!r}; correct it")
        else:
            found[name] = float(percent)
    return found


def _twice(path: str, value: Any) -> Iterator[str]:
    if isinstance(value, Twice):
        yield from (f"{path}{name}" for name in value.names)
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _twice(f"{path}{name}.", part)


def _mismatches(before: Benchmarks, after: Benchmarks) -> list[str]:
    """Return what either side lacks; a side or configuration of which nothing could be read says so itself."""
    if not before.configurations or not after.configurations:
        return []
    problems = []
    for what, ours, theirs in (("candidate", before, after), ("baseline", after, before)):
        missing = [name for name in ours.configurations if name not in theirs.configurations]
        if missing:
            problems.append(f"the {what} has no {listed('configuration', missing)}; {_MEASURED}")
        for name in ours.configurations.keys() & theirs.configurations.keys():
            metrics = [each for each in ours.configurations[name] if each not in theirs.configurations[name]]
            if metrics and theirs.configurations[name]:
                problems.append(f"the {what} has no {listed('metric', metrics)} of {name}; {_MEASURED}")
    return sorted(problems)
