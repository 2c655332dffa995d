"""What the history of a metric says of it now: regression, suspicion, improvement, or nothing.

Belongs here: judging one series by its changes of level, the reading of test outcomes in the same words, and which
acknowledgement covers what. Not here: finding changes (`change_points.py`), flakes (`flakiness.py`), keeping words
(`resources.regression_words`).

The reference of a series is its best level so far; a blessed run sets it anew. What is worse than the reference by more than
the threshold is a violation. A *regression* is a level that violates, as a mean and by `CONSECUTIVE` of its runs in a row;
small steps add up, since the reference does not follow them down. *Suspicious* is what is not sure yet: fewer violations in
a row, or newest runs that violate (and lie beyond twice the noise) without a change of level that is significant. It holds
until the level is back, or a person acknowledges it for a time or blesses a run of the new level.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import pairwise
from typing import Any

from mlcc_dagster.core.change_points import FEWEST_RUNS, ChangePoint, change_points
from mlcc_dagster.core.cold_starts import cold_starts
from mlcc_dagster.core.compared_metrics import ComparedMetric, delta_pct
from mlcc_dagster.core.detectability import minimum_detectable_effect_pct, noise_floor_pct
from mlcc_dagster.core.flakiness import Course, Stability
from mlcc_dagster.core.measured_series import Bucket, Measurement
from mlcc_dagster.core.records import utc_text

CONSECUTIVE = 3
"""Violations in a row that make a level a regression."""

SETTLED_RUNS = 5
"""Runs that a level needs to become the reference of later ones."""

HISTORY_RUNS = 200
"""The newest runs of a series that are judged; what is older says little of now, and the search costs their square."""

_NOISES = 2.0  # one run in forty lies further off by noise alone


class State(StrEnum):
    """What a history says of now, worst first."""

    REGRESSION = "regression"
    SUSPICIOUS = "suspicious"
    INSUFFICIENT = "insufficient_data"
    IMPROVEMENT = "improvement"
    STABLE = "stable"


@dataclass(frozen=True)
class Level:
    """Runs between two changes: places `begin` to before `end` among the runs of a series, and their mean. A cold start lies
    within a level and is not counted in its mean."""

    begin: int
    end: int
    mean: float


@dataclass(frozen=True)
class History:
    """One metric of one bucket over its runs, oldest first. `changes` and `cold` are places among `runs`; `changed_pct` is
    how far the newest level is from the reference (or the newest runs, where they are only suspicious), positive where the
    value is larger; `since` the run with which the state began."""

    bucket: Bucket
    metric: ComparedMetric
    runs: tuple[Measurement, ...]
    changes: tuple[ChangePoint, ...]
    levels: tuple[Level, ...]
    cold: tuple[int, ...]
    noise_pct: float | None
    detectable_pct: float | None
    state: State
    reason: str
    changed_pct: float | None = None
    since: Measurement | None = None

    @property
    def values(self) -> tuple[float, ...]:
        """The metric of every run."""
        return tuple(run.values[self.metric.column] for run in self.runs)

    def to_json(self) -> dict[str, Any]:
        """Return the history's judgement as JSON values; times in UTC, percents with one decimal."""
        return {
            **self.bucket.to_json(),
            "metric": self.metric.column,
            "state": self.state.value,
            "reason": self.reason,
            "changed_pct": _rounded(self.changed_pct),
            "since_run_id": self.since.run_id if self.since else None,
            "since": utc_text(self.since.at) if self.since else None,
            "runs": len(self.runs),
            "newest": self.values[-1],
            "level": self.levels[-1].mean if self.levels else None,
            "noise_floor_pct": _rounded(self.noise_pct),
            "minimum_detectable_effect_pct": _rounded(self.detectable_pct),
            "change_points": [
                each.to_json() | {"run_id": self.runs[each.index].run_id, "at": utc_text(self.runs[each.index].at)}
                for each in self.changes
            ],
            "cold_starts": [self.runs[place].run_id for place in self.cold],
        }


def judge_history(
    bucket: Bucket,
    metric: ComparedMetric,
    measured: Sequence[Measurement],
    *,
    threshold_pct: float,
    blessed: str | None = None,
    search: str = "permutation",
) -> History:
    """Judge one metric of the measurements of one bucket, oldest first; `blessed` is the run id that a person named.

    Cold starts are flagged and take no part in levels and noise. Raises `UsageError` for an unknown search and `ValueError`
    where no measurement has the metric.
    """
    runs = tuple(each for each in measured if metric.column in each.values)[-HISTORY_RUNS:]
    if not runs:
        raise ValueError(f"no measurement of {bucket} has {metric.column}; ask for what is there")
    values = [run.values[metric.column] for run in runs]
    cold = cold_starts(values, [run.ground for run in runs], higher_is_better=metric.higher_is_better)
    warm = [None if place in cold else value for place, value in enumerate(values)]
    changes = change_points(warm, search=search)
    levels = _levels(warm, changes)
    newest = [value for value in warm[levels[-1].begin :] if value is not None]
    state, reason, changed, since = _state(metric, warm, levels, threshold_pct, _place(runs, blessed))
    return History(
        bucket=bucket,
        metric=metric,
        runs=runs,
        changes=changes,
        levels=levels,
        cold=cold,
        noise_pct=noise_floor_pct(newest),
        detectable_pct=minimum_detectable_effect_pct(newest),
        state=state,
        reason=reason,
        changed_pct=changed,
        since=None if since is None else runs[since],
    )


Warm = Sequence[float | None]
_Judgement = tuple[State, str, float | None, int | None]


def _levels(warm: Warm, changes: Sequence[ChangePoint]) -> tuple[Level, ...]:
    found = []
    for begin, end in pairwise([0, *(change.index for change in changes), len(warm)]):
        present = [value for value in warm[begin:end] if value is not None]
        if present:
            found.append(Level(begin, end, sum(present) / len(present)))
    return tuple(found)


def _place(runs: Sequence[Measurement], run_id: str | None) -> int | None:
    return next((place for place, run in enumerate(runs) if run.run_id == run_id), None)


def _state(
    metric: ComparedMetric,
    warm: Warm,
    levels: Sequence[Level],
    threshold: float,
    blessed: int | None,
) -> _Judgement:
    counted = sum(value is not None for value in warm)
    if counted < FEWEST_RUNS:
        return State.INSUFFICIENT, f"{counted} runs, {FEWEST_RUNS} are needed", None, None
    walked = [level for level in levels if blessed is None or level.end > blessed]
    current = walked[-1]
    before, reference = _references(metric, walked)
    changed = delta_pct(current.mean, reference)
    if metric.regressed(current.mean, reference, threshold):
        return _violating_level(metric, warm, walked, reference, threshold, changed)
    suspicion = _newest_violations(metric, warm, levels, reference, threshold)
    if suspicion is not None:
        return suspicion
    gained = delta_pct(current.mean, before)
    if gained is not None and metric.worse_pct(gained) < -threshold:
        return State.IMPROVEMENT, "a better level than any before", gained, current.begin
    return State.STABLE, "within the threshold of its best level", changed, None


def _references(metric: ComparedMetric, walked: Sequence[Level]) -> tuple[float, float]:
    """Return the best level before the newest one, and with it. Fewer than `SETTLED_RUNS` runs are a level that came and
    went, and no reference, but for the first and the newest."""
    before = walked[0].mean
    for level in walked[1:-1]:
        if level.end - level.begin >= SETTLED_RUNS and metric.better(level.mean, before):
            before = level.mean
    newest = walked[-1].mean
    return before, newest if metric.better(newest, before) else before


def _violating_level(
    metric: ComparedMetric,
    warm: Warm,
    walked: Sequence[Level],
    reference: float,
    threshold: float,
    changed: float | None,
) -> _Judgement:
    begin = walked[-1].begin
    for level in reversed(walked):
        if not metric.regressed(level.mean, reference, threshold):
            break
        begin = level.begin
    violations = [
        metric.regressed(value, reference, threshold) for value in warm[walked[-1].begin :] if value is not None
    ]
    streak = _longest(violations)
    if streak >= CONSECUTIVE:
        return State.REGRESSION, f"{streak} runs in a row violate the threshold", changed, begin
    return (
        State.SUSPICIOUS,
        f"a worse level, but only {streak} of {CONSECUTIVE} runs in a row violate the threshold",
        changed,
        begin,
    )


def _newest_violations(
    metric: ComparedMetric, warm: Warm, levels: Sequence[Level], reference: float, threshold: float
) -> _Judgement | None:
    beyond_noise, level = _NOISES * _spread_pct(warm, levels), levels[-1].mean
    streak, begin, newest = 0, None, 0.0
    for place in range(len(warm) - 1, -1, -1):
        value = warm[place]
        if value is None:
            continue
        if not (metric.regressed(value, reference, threshold) and metric.regressed(value, level, beyond_noise)):
            break
        newest = newest if streak else value
        streak, begin = streak + 1, place
    if begin is None:
        return None
    runs = "the newest run violates" if streak == 1 else f"the newest {streak} runs violate"
    return (
        State.SUSPICIOUS,
        f"{runs} the threshold; no change of level is sure yet",
        delta_pct(newest, reference),
        begin,
    )


def _spread_pct(warm: Warm, levels: Sequence[Level]) -> float:
    """Return how far runs are from their levels, all levels together, in percent: the newest level may be too short to say."""
    squares = [
        ((value - level.mean) / level.mean) ** 2
        for level in levels
        for value in warm[level.begin : level.end]
        if value is not None
    ]
    free = len(squares) - len(levels)
    return 100 * math.sqrt(math.fsum(squares) / free) if free > 0 else 0.0


def _longest(flags: Iterable[bool]) -> int:
    longest = run = 0
    for flag in flags:
        run = run + 1 if flag else 0
        longest = max(longest, run)
    return longest


def status_state(stability: Stability) -> tuple[State, str]:
    """Read the outcomes of a configuration's tests in the same words, by flake memory: a failure after passes is suspicious
    where the configuration is known to be flaky, and a regression where it is not."""
    course = stability.course
    if course is Course.REGRESSION:
        runs = "its newest test" if stability.streak == 1 else f"its newest {stability.streak} tests"
        return State.REGRESSION, f"{runs} failed after a pass"
    if course is Course.FLAKE:
        chance = f"{stability.chance:.0%}" if stability.chance is not None else "some"
        return State.SUSPICIOUS, f"known to be flaky: so many failures in a row have a chance of {chance}"
    if course is Course.PASSES:
        return State.STABLE, "its newest test passed"
    return State.INSUFFICIENT, "no test passed yet" if course is Course.FAILS else "never tested"


@dataclass(frozen=True)
class Acknowledgement:
    """A person's word that the regressions of a configuration, of one metric or of all, are known until a moment. It covers
    those that began before it was said. Times in UTC."""

    config_id: str
    metric: str | None
    until: datetime
    reason: str
    who: str
    at: datetime

    def covers(self, config_id: str, metric: str, since: datetime, *, now: datetime) -> bool:
        """Whether it covers what began at `since` in a metric of a configuration, and is not over."""
        named = config_id == self.config_id and self.metric in (None, metric)
        return named and since <= self.at and now < self.until

    def to_json(self) -> dict[str, Any]:
        """Return the word as JSON values."""
        return {
            "reason": self.reason,
            "who": self.who,
            "at": utc_text(self.at),
            "until": utc_text(self.until),
        }


def covering(found: History, acknowledgements: Iterable[Acknowledgement], *, now: datetime) -> Acknowledgement | None:
    """Return the acknowledgement that covers a history's regression, the longest of several; none where none does."""
    if found.since is None:
        return None
    covers = [
        each
        for each in acknowledgements
        if each.covers(found.bucket.config_id, found.metric.column, found.since.at, now=now)
    ]
    return max(covers, key=lambda each: each.until, default=None)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
