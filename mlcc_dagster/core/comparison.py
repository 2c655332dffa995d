"""The newest run of each configuration against a baseline: the verdict metric by metric.

Belongs here: comparing, the verdicts, and what a whole comparison ends with. Not here: baselines (`measured_baselines.py`),
which measurements are alike (`measured_series.py`), judging a whole history (`regressions.py`). Source: the rules of
benchmark regressions.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import fsum
from types import MappingProxyType
from typing import Any

from mlcc_dagster.core.compared_metrics import COMPARED, ComparedMetric, delta_pct
from mlcc_dagster.core.efficiency import efficiency_hints
from mlcc_dagster.core.measured_baselines import Baseline, BaselineValue, NoBaseline
from mlcc_dagster.core.measured_series import Bucket, FailedRun, MeasuredSeries, Measurement, Subject
from mlcc_dagster.core.records import utc_text


class Verdict(StrEnum):
    """What a comparison says, worst first."""

    REGRESSION = "regression"
    INSUFFICIENT = "insufficient_data"
    NO_BASELINE = "no_baseline"
    PASS = "pass"

    @property
    def exit_code(self) -> int:
        """0 compared and kept, 1 regressed, 3 no baseline or too little data."""
        return {Verdict.PASS: 0, Verdict.REGRESSION: 1}.get(self, 3)


_WORST_FIRST = tuple(Verdict)
_MOST_DECIMALS = 18
"""A number of double precision has no more digits."""


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the worst of some verdicts; of none that there is no baseline."""
    return min(verdicts, key=_WORST_FIRST.index, default=Verdict.NO_BASELINE)


@dataclass(frozen=True)
class MetricComparison:
    """One metric of one bucket. `current` is none where the newest run lacks what earlier ones have; `baseline` and
    `delta_pct` are none without a baseline, and `reason` says why; `history` are the earlier values, newest first."""

    metric: ComparedMetric
    current: float | None
    baseline: float | None
    baseline_run_ids: tuple[str, ...]
    delta_pct: float | None
    threshold_pct: float
    verdict: Verdict
    reason: str | None
    history: tuple[float, ...]

    @property
    def delta_decimals(self) -> int:
        """The decimals to write the difference in percent with: one, more where a rounded difference would contradict the
        verdict."""
        regressed = self.verdict is Verdict.REGRESSION
        for decimals in range(1, _MOST_DECIMALS):
            if self.delta_pct is None:
                break
            if (self.metric.worse_pct(round(self.delta_pct, decimals)) > self.threshold_pct) is regressed:
                return decimals
        return 1

    @property
    def value_digits(self) -> int:
        """The significant digits to write both values with: four, more where rounded values would contradict the verdict."""
        regressed = self.verdict is Verdict.REGRESSION
        for digits in range(4, _MOST_DECIMALS):
            if self.current is None or self.baseline is None:
                break
            # all digits before the point are always written
            current, base = (
                float(f"{value:.{max(digits, len(f'{abs(value):.0f}'))}g}") for value in (self.current, self.baseline)
            )
            if self.metric.regressed(current, base, self.threshold_pct) is regressed:
                return digits
        return 4

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as JSON values; the difference in percent with `delta_decimals`."""
        past = self.history
        return {
            "metric": self.metric.column,
            "current": self.current,
            "baseline": self.baseline,
            "baseline_run_ids": list(self.baseline_run_ids),
            "delta_pct": None if self.delta_pct is None else round(self.delta_pct, self.delta_decimals),
            "direction": self.metric.direction,
            "threshold_pct": self.threshold_pct,
            "status": self.verdict.value,
            "reason": self.reason,
            "historical": {
                "avg": fsum(past) / len(past) if past else None,
                "min": min(past, default=None),
                "max": max(past, default=None),
                "runs": list(past),
            },
        }


@dataclass(frozen=True)
class BucketComparison:
    """The newest measurement of one bucket, metric by metric."""

    bucket: Bucket
    current: Measurement
    earlier: int
    metrics: tuple[MetricComparison, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst of its metrics."""
        return worst(each.verdict for each in self.metrics)

    def to_json(self) -> dict[str, Any]:
        """Return what is held equal, the verdict and every metric as JSON values."""
        return {
            **self.bucket.to_json(),
            "status": self.verdict.value,
            "run_count": self.earlier,
            "comparisons": [each.to_json() for each in self.metrics],
            "efficiency": efficiency_hints(self.current.observed),
        }


@dataclass(frozen=True)
class ConfigurationComparison:
    """The newest run of one configuration on one executor. `run` is none where nothing was measured; `reason` says what
    keeps it from being compared, none where it is."""

    config_id: str
    executor: str
    run: Measurement | None
    buckets: tuple[BucketComparison, ...]
    reason: str | None = None

    @property
    def verdict(self) -> Verdict:
        """The worst of its buckets; too little data where the newest run measured nothing."""
        return Verdict.INSUFFICIENT if self.reason is not None else worst(each.verdict for each in self.buckets)

    def to_json(self, name: str) -> dict[str, Any]:
        """Return the configuration under its readable name as JSON values."""
        return {
            "config_id": self.config_id,
            "name": name,
            "executor": self.executor,
            "run_id": self.run.run_id if self.run else None,
            "run_timestamp": utc_text(self.run.at) if self.run else None,
            "status": self.verdict.value,
            "reason": self.reason,
            "levels": [each.to_json() for each in self.buckets],
        }


def compare_values(
    current: Measurement,
    earlier: Sequence[Measurement],
    baseline: Baseline,
    thresholds: Mapping[str, float],
    *,
    blessed: str | None = None,
) -> tuple[MetricComparison, ...]:
    """Compare a measurement with earlier ones of its bucket, oldest first, metric by metric.

    Metrics that neither the run nor any earlier one has are not of this kind of model and are left out. One that earlier
    runs have and this one lacks is too little data: what is not measured any more has not passed.
    """
    return tuple(
        _compared(metric, current, earlier, baseline, thresholds[metric.column], blessed)
        for metric in COMPARED.values()
        if metric.column in current.values or any(metric.column in each.values for each in earlier)
    )


def _compared(
    metric: ComparedMetric,
    current: Measurement,
    earlier: Sequence[Measurement],
    baseline: Baseline,
    threshold: float,
    blessed: str | None,
) -> MetricComparison:
    value = current.values.get(metric.column)
    history = tuple(each.values[metric.column] for each in reversed(earlier) if metric.column in each.values)
    base = baseline.value(metric, earlier, blessed=blessed)
    verdict, reason, delta = Verdict.PASS, None, None
    if isinstance(base, NoBaseline):
        verdict, reason = Verdict.INSUFFICIENT if base.too_few else Verdict.NO_BASELINE, base.reason
    elif value is None:
        verdict, reason = Verdict.INSUFFICIENT, f"the newest run has no {metric.column}"
    else:
        delta = delta_pct(value, base.value)
        if metric.regressed(value, base.value, threshold):
            verdict = Verdict.REGRESSION
    known = base if isinstance(base, BaselineValue) else None
    return MetricComparison(
        metric=metric,
        current=value,
        baseline=known.value if known else None,
        baseline_run_ids=known.run_ids if known else (),
        delta_pct=delta,
        threshold_pct=threshold,
        verdict=verdict,
        reason=reason,
        history=history,
    )


def compare_newest(
    series: MeasuredSeries,
    baseline: Baseline,
    thresholds: Mapping[str, float],
    *,
    subjects: Iterable[Subject],
    blessed: Mapping[str, str] = MappingProxyType({}),
) -> tuple[ConfigurationComparison, ...]:
    """Compare the newest run of each subject in every bucket that it measured; `blessed` are run ids by configuration.

    A configuration whose newest run failed is not compared: what it measured before says nothing of now. Nor is one whose newest
    run is the blessed baseline itself: it would always pass.
    """
    of_subject: dict[Subject, dict[Bucket, tuple[Measurement, ...]]] = {}
    for bucket, measured in series.buckets.items():
        of_subject.setdefault(bucket.subject, {})[bucket] = measured
    return tuple(
        _configuration(subject, of_subject.get(subject, {}), series.failed.get(subject), baseline, thresholds, blessed)
        for subject in subjects
    )


def _configuration(
    subject: Subject,
    buckets: Mapping[Bucket, tuple[Measurement, ...]],
    failed: FailedRun | None,
    baseline: Baseline,
    thresholds: Mapping[str, float],
    blessed: Mapping[str, str],
) -> ConfigurationComparison:
    if not buckets:
        return ConfigurationComparison(*subject, None, (), "nothing was measured yet; run it with a benchmark")
    newest = max((measured[-1] for measured in buckets.values()), key=lambda each: (each.at, each.run_id))
    if failed is not None:
        reason = f"its newest run {failed.run_id} failed at {failed.stage}; what was measured before says nothing of it"
        return ConfigurationComparison(*subject, newest, (), reason)
    if baseline.name == "blessed" and blessed.get(subject[0]) == newest.run_id:
        reason = f"its newest run {newest.run_id} is the blessed one; there is nothing to compare until it runs again"
        return ConfigurationComparison(*subject, newest, (), reason)
    compared = tuple(
        BucketComparison(
            bucket,
            measured[-1],
            len(measured) - 1,
            compare_values(measured[-1], measured[:-1], baseline, thresholds, blessed=blessed.get(subject[0])),
        )
        for bucket, measured in buckets.items()
        if measured[-1].run_id == newest.run_id
    )
    return ConfigurationComparison(*subject, newest, compared)


@dataclass(frozen=True)
class Comparison:
    """All that was asked for, against one baseline."""

    baseline: str
    thresholds: Mapping[str, float]
    configurations: tuple[ConfigurationComparison, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst of all: passed only where everything was compared."""
        return worst(each.verdict for each in self.configurations)

    def to_json(self, name_of: Callable[[str], str]) -> dict[str, Any]:
        """Return everything as one JSON document; `name_of` gives the readable name of a config id."""
        return {
            "status": self.verdict.value,
            "baseline": self.baseline,
            "thresholds_pct": dict(self.thresholds),
            "configurations": [each.to_json(name_of(each.config_id)) for each in self.configurations],
        }
