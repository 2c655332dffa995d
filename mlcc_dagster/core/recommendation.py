"""Which setting of a configuration measured better than its present one.

Belongs here: how settings are compared, and how much a recommendation rests on. Not here: reading rows
(`recommendation_rows.py`), the way of existing installations (`marginal_recommendation.py`), searching for settings that
nobody measured, substitutes for what cannot run (`substitution.py`). Source: the rules of recommendations.

Compared is within one load, model, server and instance, all other settings equal; such pairs are put together as the geometric
mean of their ratios. Where the model was not measured so on this instance type, other models of its family there tell, then
the family on the instance family.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import fmean, stdev
from types import MappingProxyType
from typing import Any

from scipy.special import stdtrit

from mlcc_dagster.core.compared_metrics import ComparedMetric
from mlcc_dagster.core.recommendation_rows import DIMENSIONS, Sample, Setting, Subject

LEVEL = 0.95
"""The share of intervals that hold the true improvement."""

MANY_RUNS = 5
STEADY_CV = 0.15
"""So many runs of so little variation (coefficient of variation) make a recommendation sure."""

CONFIG_KEYS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "vllm": MappingProxyType(
            {
                "quantization": "IC_ENV_VLLM_QUANTIZATION",
                "tensor_parallel_degree": "IC_ENV_VLLM_TENSOR_PARALLEL_SIZE",
                "max_model_len": "IC_ENV_VLLM_MAX_MODEL_LEN",
                "kv_cache_dtype": "IC_ENV_VLLM_KV_CACHE_DTYPE",
            }
        )
    }
)
"""The variable of a project's settings that holds a dimension, by server; other servers have none that is known."""


class Confidence(StrEnum):
    """How much a recommendation rests on: high with at least `MANY_RUNS` runs below `STEADY_CV`, low with one run or with other
    models or instance types alone, else medium."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


_SUREST_FIRST = tuple(Confidence)


class Basis(StrEnum):
    """What was compared, nearest first."""

    EXACT = "exact"
    FAMILY = "family"
    INSTANCE_FAMILY = "instance_family"


@dataclass(frozen=True)
class Pair:
    """The present value and another one under one load, all else equal: the means of their runs, and the runs."""

    where: Sample
    baseline: tuple[float, ...]
    recommended: tuple[float, ...]
    run_ids: tuple[str, ...]

    @property
    def log_ratio(self) -> float:
        """The logarithm of recommended over baseline."""
        return math.log(fmean(self.recommended) / fmean(self.baseline))

    def to_json(self, metric: ComparedMetric) -> dict[str, Any]:
        """Return the load, both means and the improvement as JSON values."""
        return {
            **self.where.load_json(),
            "baseline_metric_value": fmean(self.baseline),
            "recommended_metric_value": fmean(self.recommended),
            "baseline_runs": len(self.baseline),
            "recommended_runs": len(self.recommended),
            "improvement_pct": round(improvement_pct_of(metric, math.exp(self.log_ratio)), 1),
        }


@dataclass(frozen=True)
class Recommendation:
    """Another value of one dimension that measured better. `interval_pct` holds the improvement at `LEVEL`; none where a side
    has one run. The metric's values are geometric means over the loads. `run_ids` are those of the recommended value. `score`
    is that of existing installations, which `marginal` alone gives. `alternatives` are the other values of the dimension that
    measured better, best supported first."""

    dimension: str
    config_key: str | None
    current_value: Setting
    recommended_value: Setting
    improvement_pct: float
    interval_pct: tuple[float, float] | None
    confidence: Confidence
    basis: Basis
    num_runs: int
    baseline_metric_value: float
    recommended_metric_value: float
    metric: ComparedMetric
    run_ids: tuple[str, ...]
    source_job: str | None
    pairs: tuple[Pair, ...] = ()
    score: float | None = None
    alternatives: tuple["Recommendation", ...] = ()

    @property
    def support(self) -> tuple[bool, int, float]:
        """Where it stands among the values of its dimension, best supported first: an interval above 0 before none, then
        confidence, then the improvement. One lucky run must not hide what many runs agree on."""
        above = self.interval_pct is not None and self.interval_pct[0] > 0
        return not above, _SUREST_FIRST.index(self.confidence), -self.improvement_pct

    def to_json(self) -> dict[str, Any]:
        """Return the recommendation as JSON values, percents with one decimal; its alternatives in the same keys."""
        return {**self._own_json(), "alternatives": [each._own_json() for each in self.alternatives]}

    def _own_json(self) -> dict[str, Any]:
        interval = self.interval_pct
        return {
            "dimension": self.dimension,
            "config_key": self.config_key,
            "current_value": self.current_value,
            "recommended_value": self.recommended_value,
            "improvement_pct": round(self.improvement_pct, 1),
            "interval_pct": None if interval is None else [round(end, 1) for end in interval],
            "confidence": self.confidence.value,
            "confidence_score": self.score,
            "basis": self.basis.value,
            "num_runs": self.num_runs,
            "baseline_metric_value": self.baseline_metric_value,
            "recommended_metric_value": self.recommended_metric_value,
            "metric": self.metric.column,
            "source_job": self.source_job,
            "run_ids": list(self.run_ids),
            "loads": [pair.to_json(self.metric) for pair in self.pairs],
        }


@dataclass(frozen=True)
class Advice:
    """What is recommended, most improvement first; the dimensions whose present value is the best measured; and why others say
    nothing."""

    subject: Subject
    metric: ComparedMetric
    strategy: str
    recommendations: tuple[Recommendation, ...]
    no_change: tuple[str, ...]
    not_compared: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return everything as one JSON document."""
        return {
            **self.subject.to_json(),
            "metric": self.metric.column,
            "strategy": self.strategy,
            "recommendations": [each.to_json() for each in self.recommendations],
            "no_change": list(self.no_change),
            "not_compared": dict(self.not_compared),
        }


# ---- matched


def matched(subject: Subject, samples: Sequence[Sample], metric: ComparedMetric) -> Advice:
    """Return the advice on a configuration from pairs of samples that differ in one dimension alone."""
    found: list[Recommendation] = []
    no_change: list[str] = []
    silent: dict[str, str] = {}
    usable = [
        each
        for each in samples
        if metric.column in each.values
        and subject.deployment_config in (None, each.deployment_config)
        and subject.deployment_target == each.deployment_target
    ]
    for dimension in DIMENSIONS:
        present = subject.settings[dimension]
        if present is None:
            silent[dimension] = "what the present configuration has is not known"
            continue
        compared = _nearest(subject, usable, metric, dimension, present)
        if compared is None:
            silent[dimension] = "nobody measured another value beside this one under the same load, all else equal"
            continue
        basis, pairs = compared
        candidates = [
            _recommended(subject, metric, dimension, present, value, basis, each) for value, each in pairs.items()
        ]
        better = sorted((each for each in candidates if each.improvement_pct > 0), key=lambda each: each.support)
        if better:
            found.append(replace(better[0], alternatives=tuple(better[1:])))
        else:
            no_change.append(dimension)
    return advice_of(subject, metric, "matched", found, no_change, silent)


def _nearest(
    subject: Subject, samples: Sequence[Sample], metric: ComparedMetric, dimension: str, present: Setting
) -> tuple[Basis, dict[Setting, list[Pair]]] | None:
    """Return the nearest basis that has the present value beside another one, and those pairs by the other value."""
    for basis, belongs in _BASES.items():
        strata: dict[Any, dict[Setting, list[Sample]]] = defaultdict(lambda: defaultdict(list))
        for each in samples:
            value = each.settings[dimension]
            if value is not None and belongs(subject, each, dimension):
                strata[each.all_but(dimension)][value].append(each)
        pairs: dict[Setting, list[Pair]] = defaultdict(list)
        for by_value in strata.values():
            for value, others in by_value.items():
                if value != present and present in by_value:
                    pairs[value].append(_pair(by_value[present], others, metric))
        if pairs:
            return basis, pairs
    return None


def _is_exact(subject: Subject, sample: Sample, dimension: str) -> bool:
    # what one of them does not say cannot be held against it: the two of a pair have it in common in any case
    others_equal = all(
        None in (value, sample.settings[name]) or sample.settings[name] == value
        for name, value in subject.settings.items()
        if name != dimension
    )
    return others_equal and subject.model_name == sample.model_name and subject.instance_type == sample.instance_type


def _is_family(subject: Subject, sample: Sample, _: str) -> bool:
    other = subject.model_name != sample.model_name
    return other and subject.model_family == sample.model_family and subject.instance_type == sample.instance_type


def _is_instance_family(subject: Subject, sample: Sample, _: str) -> bool:
    # the model here with other settings beside is no evidence from elsewhere
    other = (subject.model_name, subject.instance_type) != (sample.model_name, sample.instance_type)
    return other and subject.model_family == sample.model_family and subject.instance_family == sample.instance_family


_BASES: Mapping[Basis, Callable[[Subject, Sample, str], bool]] = MappingProxyType(
    {Basis.EXACT: _is_exact, Basis.FAMILY: _is_family, Basis.INSTANCE_FAMILY: _is_instance_family}
)


def _pair(baseline: Sequence[Sample], recommended: Sequence[Sample], metric: ComparedMetric) -> Pair:
    return Pair(
        recommended[0],
        tuple(each.values[metric.column] for each in baseline),
        tuple(each.values[metric.column] for each in recommended),
        tuple(each.run_id for each in recommended),
    )


def _recommended(
    subject: Subject,
    metric: ComparedMetric,
    dimension: str,
    present: Setting,
    value: Setting,
    basis: Basis,
    pairs: Sequence[Pair],
) -> Recommendation:
    run_ids = tuple(dict.fromkeys(run_id for pair in pairs for run_id in pair.run_ids))
    ratio = fmean(pair.log_ratio for pair in pairs)
    variations = [stdev(pair.recommended) / fmean(pair.recommended) for pair in pairs if len(pair.recommended) > 1]
    alone = basis is not Basis.EXACT
    return Recommendation(
        dimension=dimension,
        config_key=config_key_of(subject, dimension),
        current_value=present,
        recommended_value=value,
        improvement_pct=improvement_pct_of(metric, math.exp(ratio)),
        interval_pct=_interval(metric, ratio, pairs),
        confidence=confidence_of(len(run_ids), max(variations, default=0.0), others_only=alone),
        basis=basis,
        num_runs=len(run_ids),
        baseline_metric_value=_middle([fmean(pair.baseline) for pair in pairs]),
        recommended_metric_value=_middle([fmean(pair.recommended) for pair in pairs]),
        metric=metric,
        run_ids=run_ids,
        source_job=next((pair.where.job for pair in pairs if pair.where.job), None),
        pairs=tuple(pairs),
    )


def _middle(means: Sequence[float]) -> float:
    # a logarithm and back would cost the last digit of the only one
    return means[0] if len(means) == 1 else math.exp(fmean(math.log(mean) for mean in means))


def confidence_of(runs: int, variation: float, *, others_only: bool) -> Confidence:
    """Return how much a value measured by so many runs of that coefficient of variation rests on; `others_only` where they are of
    other models or instance types."""
    if runs < 2 or others_only:
        return Confidence.LOW
    return Confidence.HIGH if runs >= MANY_RUNS and variation < STEADY_CV else Confidence.MEDIUM


def _interval(metric: ComparedMetric, ratio: float, pairs: Sequence[Pair]) -> tuple[float, float] | None:
    """Return the interval of the mean log-ratio as improvements: Welch's t, the spread of each side as its coefficient of
    variation (the delta method). None where a side of a pair has one run."""
    terms = []
    for pair in pairs:
        for side in (pair.baseline, pair.recommended):
            if len(side) < 2:
                return None
            terms.append(((stdev(side) / fmean(side)) ** 2 / len(side), len(side) - 1))
    variance = math.fsum(term for term, _ in terms)
    if variance == 0:
        same = improvement_pct_of(metric, math.exp(ratio))
        return same, same
    freedom = variance**2 / math.fsum(term**2 / free for term, free in terms)
    reach = float(stdtrit(freedom, (1 + LEVEL) / 2)) * math.sqrt(variance) / len(pairs)
    ends = sorted(improvement_pct_of(metric, math.exp(ratio + side * reach)) for side in (-1, 1))
    return ends[0], ends[1]


# ---- shared with the other way


def advice_of(
    subject: Subject,
    metric: ComparedMetric,
    strategy: str,
    found: Iterable[Recommendation],
    no_change: Sequence[str],
    silent: Mapping[str, str],
) -> Advice:
    """Return the advice with its recommendations in the order of their improvement."""
    ranked = tuple(sorted(found, key=lambda each: -each.improvement_pct))
    return Advice(subject, metric, strategy, ranked, tuple(no_change), MappingProxyType(dict(silent)))


def improvement_pct_of(metric: ComparedMetric, ratio: float) -> float:
    """Return by how many percent a metric gets better that becomes `ratio` times what it was."""
    return (ratio - 1 if metric.higher_is_better else 1 - ratio) * 100


def config_key_of(subject: Subject, dimension: str) -> str | None:
    """Return the variable of the subject's server that holds a dimension, none where none is known."""
    server = (subject.deployment_config or "").rpartition("-")[2]
    return CONFIG_KEYS.get(server, {}).get(dimension)
