"""The decisions of a search for a better setting: scores, what to go on with, when to stop, and whether the best is better.

Belongs here: rules over settings and numbers. Not here: the settings (`optimization_space.py`), proposing the next one
(`resources.optimization_study`), running them. Source of the rules: `mlcc optimize` of the specification.

The best of many noisy measurements looks better than it is. So whether it is better is told by measurements made for that alone:
the present and the best setting in turns, as pairs.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean, stdev
from typing import Any

from scipy.special import stdtrit

from mlcc_dagster.core.compared_metrics import ComparedMetric
from mlcc_dagster.core.optimization_space import Result, Setting
from mlcc_dagster.core.recommendation import LEVEL, improvement_pct_of

LEAST_PAIRS, PAIRS = 3, 5
"""The pairs that a comparison needs, and takes unless asked otherwise."""

FAILED = math.inf
"""The score of a setting that failed: worse than any other."""


def score(metric: ComparedMetric, value: float) -> float:
    """Return what a search makes small: the logarithm of a metric's value (above 0), negative where higher is better."""
    return -math.log(value) if metric.higher_is_better else math.log(value)


def scores_of(metric: ComparedMetric, results: Iterable[Result]) -> dict[Setting, float]:
    """Return the score of each setting that has a result: the mean of what was measured, `FAILED` where every run failed."""
    measured: dict[Setting, list[float]] = {}
    for each in results:
        values = measured.setdefault(each.setting, [])
        if each.value is not None:
            values.append(score(metric, each.value))
    return {setting: fmean(values) if values else FAILED for setting, values in measured.items()}


def untried(
    settings: Sequence[Setting], results: Iterable[Result], failed_now: Collection[Setting]
) -> tuple[Setting, ...]:
    """Return the settings that are still worth a run, in their order: not measured, not known to be unfeasible, and not failed
    in this search. One that failed in an earlier search may have failed for reasons that passed."""
    over = {each.setting for each in results if each.value is not None or not each.feasible} | set(failed_now)
    return tuple(each for each in settings if each not in over)


def best_of(scores: Mapping[Setting, float], present: Setting) -> Setting | None:
    """Return the setting with the best score, none where none scores better than the present one."""
    better = {
        setting: each for setting, each in scores.items() if setting != present and each < scores.get(present, FAILED)
    }
    return min(better, key=lambda setting: (better[setting], str(setting)), default=None)


class EndedBy(StrEnum):
    """Why a search asked for no further setting."""

    ALL_TRIED = "all_settings_tried"
    TRIALS = "max_trials"
    MONEY = "max_cost"
    TIME = "max_minutes"
    INTERRUPTED = "interrupted"
    PRESENT_FAILED = "present_setting_failed"


@dataclass(frozen=True)
class Bounds:
    """How far a search may go: settings to try, USD with promised money included, seconds; and the pairs that a comparison takes
    at its end, for which money and time are kept back."""

    max_trials: int
    max_usd: float
    max_seconds: float
    pairs: int = PAIRS


@dataclass(frozen=True)
class Used:
    """What a search has used: settings tried, USD spent, seconds gone; `usd_per_run` and `seconds_per_run` are expected of one
    more run (seconds none before the first), `most_usd` what has to be promised for it."""

    trials: int
    usd: float
    seconds: float
    usd_per_run: float
    most_usd: float
    seconds_per_run: float | None


def search_ended(bounds: Bounds, used: Used, left: int) -> EndedBy | None:
    """Say why no further setting may be tried with so many settings `left`, none when one may: then the comparison can still be
    afforded after it."""
    if left == 0:
        return EndedBy.ALL_TRIED
    if used.trials >= bounds.max_trials:
        return EndedBy.TRIALS
    return _ended(bounds, used, runs_after=2 * bounds.pairs)


def comparison_ended(bounds: Bounds, used: Used, *, first: bool) -> EndedBy | None:
    """Say why no pair may be measured any more, none when one may: it fits into what is left. The `first` one may begin as
    long as there is time, since without any nothing can be said."""
    ended = _ended(bounds, used, runs_after=1)
    return None if first and ended is EndedBy.TIME and used.seconds < bounds.max_seconds else ended


def _ended(bounds: Bounds, used: Used, *, runs_after: int) -> EndedBy | None:
    if used.usd + runs_after * used.usd_per_run + used.most_usd > bounds.max_usd:
        return EndedBy.MONEY
    if used.seconds + (runs_after + 1) * (used.seconds_per_run or 0.0) > bounds.max_seconds:
        return EndedBy.TIME
    return None


def turn(pair: int) -> tuple[bool, bool]:
    """Return the order of a pair, counted from 0: whether the best setting is measured, first and second. Every other pair is the
    other way round, so that a machine that gets slower or faster favours neither."""
    return (False, True) if pair % 2 == 0 else (True, False)


class Verdict(StrEnum):
    """What a search found."""

    BETTER = "better"
    NO_BETTER = "no_better"
    NOT_COMPARED = "not_compared"


@dataclass(frozen=True)
class Improvement:
    """By how many percent the best setting is better than the present one, from measurements in pairs; `interval_pct` holds it
    at `LEVEL`."""

    present: tuple[float, ...]
    best: tuple[float, ...]
    pct: float
    interval_pct: tuple[float, float]

    @property
    def better(self) -> bool:
        """Whether the whole interval is above 0."""
        return self.interval_pct[0] > 0

    def to_json(self) -> dict[str, Any]:
        """Return both sides, the improvement and its interval as JSON values; percents with one decimal."""
        return {
            "present_values": list(self.present),
            "best_values": list(self.best),
            "improvement_pct": round(self.pct, 1),
            "interval_pct": [round(end, 1) for end in self.interval_pct],
        }


def improvement_of(metric: ComparedMetric, pairs: Sequence[tuple[float, float]]) -> Improvement | None:
    """Return the improvement from pairs (present, best) of values above 0, none from fewer than `LEAST_PAIRS`.

    Student's t on the logarithms of the ratios: what slows the machine down for the length of a pair falls out of its ratio.
    """
    if len(pairs) < LEAST_PAIRS:
        return None
    ratios = [math.log(best / present) for present, best in pairs]
    middle, spread = fmean(ratios), stdev(ratios)
    reach = float(stdtrit(len(ratios) - 1, (1 + LEVEL) / 2)) * spread / math.sqrt(len(ratios))
    low, high = sorted(improvement_pct_of(metric, math.exp(middle + side * reach)) for side in (-1, 1))
    return Improvement(
        present=tuple(present for present, _ in pairs),
        best=tuple(best for _, best in pairs),
        pct=improvement_pct_of(metric, math.exp(middle)),
        interval_pct=(low, high),
    )


def verdict_of(best: Setting | None, improvement: Improvement | None, *, measured: bool) -> Verdict:
    """Return the verdict: without a setting that scored better nothing is better, once the present one was `measured` beside
    others; with one its comparison decides, where it could be made."""
    if best is None:
        return Verdict.NO_BETTER if measured else Verdict.NOT_COMPARED
    if improvement is None:
        return Verdict.NOT_COMPARED
    return Verdict.BETTER if improvement.better else Verdict.NO_BETTER
