"""Recommendations as existing installations make them: one value against another, whatever else differs.

Belongs here: that way alone. Not here: the one that compares like with like, confidence (`recommendation.py`).

All given rows of a value are put together and their mean is held against that of the present value: of a model that was
measured with one quantization on four GPUs and with another on one, the quantization gets the praise of the GPUs.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, pstdev

from mlcc_dagster.core.compared_metrics import ComparedMetric
from mlcc_dagster.core.recommendation import (
    Advice,
    Basis,
    Confidence,
    Recommendation,
    advice_of,
    confidence_of,
    config_key_of,
    improvement_pct_of,
)
from mlcc_dagster.core.recommendation_rows import DIMENSIONS, Sample, Setting, Subject


def marginal(subject: Subject, samples: Sequence[Sample], metric: ComparedMetric) -> Advice:
    """Return the advice on a configuration from all samples that are given."""
    usable = [each for each in samples if metric.column in each.values]
    if not usable:
        return advice_of(subject, metric, "marginal", [], list(DIMENSIONS), {})
    found: list[Recommendation] = []
    no_change: list[str] = []
    silent: dict[str, str] = {}
    for dimension in DIMENSIONS:
        groups: dict[Setting, list[Sample]] = defaultdict(list)
        for each in usable:
            if each.settings[dimension] is not None:
                groups[each.settings[dimension]].append(each)
        present = subject.settings[dimension]
        if present not in groups:
            silent[dimension] = "nobody measured the present value"
            continue
        means = {value: fmean(_values(group, metric)) for value, group in groups.items()}
        others = [value for value in means if value != present and metric.better(means[value], means[present])]
        if not others:
            no_change.append(dimension)
            continue
        best = others[0]
        for value in others[1:]:
            if metric.better(means[value], means[best]):
                best = value
        found.append(_marginal_one(subject, metric, dimension, present, best, groups, means))
    return advice_of(subject, metric, "marginal", found, no_change, silent)


def _marginal_one(
    subject: Subject,
    metric: ComparedMetric,
    dimension: str,
    present: Setting,
    best: Setting,
    groups: Mapping[Setting, Sequence[Sample]],
    means: Mapping[Setting, float],
) -> Recommendation:
    group = groups[best]
    values = _values(group, metric)
    variation = pstdev(values) / means[best]
    others_only = any(each.model_name != subject.model_name for each in group)
    confidence = confidence_of(len(group), variation, others_only=others_only)
    return Recommendation(
        dimension=dimension,
        config_key=config_key_of(subject, dimension),
        current_value=present,
        recommended_value=best,
        improvement_pct=improvement_pct_of(metric, means[best] / means[present]),
        interval_pct=None,
        confidence=confidence,
        basis=Basis.FAMILY if others_only else Basis.EXACT,
        num_runs=len(group),
        baseline_metric_value=means[present],
        recommended_metric_value=means[best],
        metric=metric,
        run_ids=tuple(dict.fromkeys(each.run_id for each in group)),
        source_job=group[0].job,
        score=_compat_score(confidence, len(group), variation, others_only=others_only),
    )


def _compat_score(confidence: Confidence, runs: int, variation: float, *, others_only: bool) -> float:
    """Return the score that existing installations write beside the word, as far as their records show it."""
    if others_only:
        return 0.3
    if confidence is Confidence.LOW:
        return 0.4
    runs_that_are_enough = 10 if confidence is Confidence.HIGH else 8
    return round(min(1.0, runs / runs_that_are_enough) * max(0.0, 1 - variation), 2)


def _values(group: Iterable[Sample], metric: ComparedMetric) -> list[float]:
    return [each.values[metric.column] for each in group]
