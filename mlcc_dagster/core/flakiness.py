"""Regression or flake: what the results of one configuration, in their order, say about its latest one.

Belongs here: the confidence in a configuration, and the rule that tells what broke from what only sometimes fails. Not
here: reading results from a table (`resources.ci_lines`), reports (`ci_report.py`), whether measured values got worse.

A failing streak that ends with a pass although nothing changed in between is a *recovery*: what is broken stays broken until
something changes, so a recovery speaks of a flake. A configuration is *flaky* with two recoveries among the 20 results before
its current streak; one alone may be an outage that somebody else ended. Its current streak of k failures after a pass is
likely a *flake* while k failures in a row are likely enough for it: p to the power of k of at least 5 %, p the rate of
failures that recovered, with half a failure and half a pass added. Else, and always when something changed with the first
failure, it is a *regression*. Flips and their rate are those of "Modeling and Ranking Flaky Tests at Apple" (Kowalczyk et
al., ICSE-SEIP 2020).

Measured on 4,000 histories of 20 results each (tests hold it): of configurations that fail once in 100 runs for outside
reasons 1 % are called flaky, of those that fail in 10 % of their runs 55 %, in 20 % 90 %, in 30 % 98 %. One that fails in 30 %
of its runs is wrongly said to have regressed by 4 % of its results (the plain definition: by 30 %); when it really breaks,
that is seen after three failures in 82 % of cases, after four in 96 %.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from math import sqrt
from types import MappingProxyType
from typing import Any

WINDOW = 20
"""Results that count: the last 20 runs. Source: the confidence of continuous validation."""

RECOVERIES = 2
"""Recoveries that make a configuration flaky: it alternates, it did not fail once."""

CHANCE = 0.05
"""A streak less likely than this is no flake."""

_NORMAL_95 = 1.959963984540054


@dataclass(frozen=True)
class Result:
    """One finished test. `ground` is what was tested, digests and versions by name; a name that is absent is not known, as
    after a build that failed."""

    passed: bool
    ground: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class Confidence:
    """Passes of the last runs, at most `WINDOW` and at least one, and the 95 % interval of the true share."""

    passes: int
    runs: int

    @property
    def interval(self) -> tuple[float, float]:
        """The Wilson score interval, as shares within 0..1: of the usual intervals the one that keeps its word for few runs
        and shares near 0 and 1. Source: Brown, Cai and DasGupta, Interval Estimation for a Binomial Proportion (2001)."""
        share, z2 = self.passes / self.runs, _NORMAL_95**2
        centre = (share + z2 / (2 * self.runs)) / (1 + z2 / self.runs)
        half = _NORMAL_95 * sqrt(share * (1 - share) / self.runs + z2 / (4 * self.runs**2)) / (1 + z2 / self.runs)
        # at the ends the sums of floats miss 0 and 1 by a hair
        low = 0.0 if self.passes == 0 else max(0.0, centre - half)
        return low, 1.0 if self.passes == self.runs else min(1.0, centre + half)

    def to_json(self) -> dict[str, Any]:
        """Return counts first, then the interval as shares."""
        low, high = self.interval
        return {"passes": self.passes, "runs": self.runs, "low": round(low, 4), "high": round(high, 4)}

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.passes}/{self.runs} ({100 * low:.0f}-{100 * high:.0f} %)"


class Course(StrEnum):
    """What the latest result is, seen from those before it. `FAILS` is a failure that no pass is known before."""

    UNTESTED = "untested"
    PASSES = "passes"
    FAILS = "fails"
    FLAKE = "flake"
    REGRESSION = "regression"


@dataclass(frozen=True)
class Stability:
    """What the results of one configuration say together. `confidence` is none without a result; `flips` are changes between
    pass and fail among the last `WINDOW` results; `streak` is how many of the latest results failed in a row; `chance` how
    likely so many are if nothing broke, none where the latest passed; `failed_after_pass` is the plain definition of a
    regression, `course` what it likely is."""

    confidence: Confidence | None
    flips: int
    recoveries: int
    streak: int
    chance: float | None
    failed_after_pass: bool
    course: Course

    @property
    def flaky(self) -> bool:
        """Whether it is known to alternate without a change."""
        return self.recoveries >= RECOVERIES

    @property
    def flip_rate(self) -> float | None:
        """Flips over the steps between the last results; none where there is no step."""
        runs = self.confidence.runs if self.confidence else 0
        return self.flips / (runs - 1) if runs > 1 else None


def confidence_of(results: Sequence[Result]) -> Confidence | None:
    """Return passes over runs of the last `WINDOW` results (oldest first), none without any."""
    last = results[-WINDOW:]
    return Confidence(sum(result.passed for result in last), len(last)) if last else None


def judge(results: Sequence[Result], *, passed_before: bool = False) -> Stability:
    """Judge the results of one configuration, oldest first, by the rule above. `passed_before` says that it passed before
    the first of them."""
    last = results[-WINDOW:]
    streak = next((k for k, result in enumerate(reversed(results)) if result.passed), len(results))
    settled, failing = results[: len(results) - streak], results[len(results) - streak :]
    before = settled[-WINDOW:]
    recoveries, recovered = _recoveries(before)
    after_pass = streak > 0 and (bool(settled) or passed_before)
    chance = ((recovered + 0.5) / (len(before) + 1)) ** streak if streak else None
    if not results:
        course = Course.UNTESTED
    elif not streak:
        course = Course.PASSES
    elif not after_pass:
        course = Course.FAILS
    elif (
        chance is not None and chance >= CHANCE and recoveries >= RECOVERIES and not _changed([*before[-1:], *failing])
    ):
        course = Course.FLAKE
    else:
        course = Course.REGRESSION
    return Stability(
        confidence=confidence_of(results),
        flips=sum(a.passed is not b.passed for a, b in pairwise(last)),
        recoveries=recoveries,
        streak=streak,
        chance=chance,
        failed_after_pass=after_pass,
        course=course,
    )


def _recoveries(results: Sequence[Result]) -> tuple[int, int]:
    """Return how many failing streaks ended with a pass and no change, and how many failures they had together."""
    count = failures = 0
    failing: list[Result] = []
    passed: list[Result] = []
    for result in results:
        if not result.passed:
            failing.append(result)
            continue
        if failing and not _changed([*passed, *failing, result]):
            count, failures = count + 1, failures + len(failing)
        failing, passed = [], [result]
    return count, failures


def _changed(results: Sequence[Result]) -> bool:
    """Whether any two of the results are known to have been of something else."""
    seen: dict[str, str] = {}
    return any(seen.setdefault(name, value) != value for result in results for name, value in result.ground.items())
