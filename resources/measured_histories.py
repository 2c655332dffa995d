"""One look at what was measured: comparisons, histories and their judgement, for assets, commands and pages alike.

Belongs here: reading the store and a person's words once, and handing them to the pure rules. Not here: the rules
(`core.comparison`, `core.regressions`), showing what they say.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from types import MappingProxyType
from typing import Any

from mlcc_dagster.core.ci_report import CiLine
from mlcc_dagster.core.compared_metrics import COMPARED
from mlcc_dagster.core.comparison import Comparison, compare_newest
from mlcc_dagster.core.measured_baselines import Baseline, BaselineLine, baseline_lines
from mlcc_dagster.core.measured_series import ROW_COLUMNS, MeasuredSeries
from mlcc_dagster.core.regressions import (
    Acknowledgement,
    History,
    State,
    covering,
    judge_history,
    status_state,
)
from resources.ci_lines import read_lines
from resources.platform import Platform
from resources.regression_words import Blessing, RegressionWords


@dataclass(frozen=True)
class JudgedTests:
    """What the outcomes of one configuration's tests say, in the words of histories."""

    line: CiLine
    state: State
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Return the judgement as JSON values."""
        return {
            "config_id": self.line.config_id,
            "name": self.line.name,
            "state": self.state.value,
            "reason": self.reason,
            "failures_in_a_row": self.line.stability.streak,
            "known_flaky": self.line.stability.flaky,
        }


@dataclass(frozen=True)
class RegressionReport:
    """Every history, what needs a person first, with the acknowledgement that covers it and whether its configuration is
    armed, in the same order; `tests` are the configurations whose tests regressed or may have."""

    thresholds: Mapping[str, float]
    search: str
    found: tuple[History, ...]
    words: tuple[Acknowledgement | None, ...]
    armed: tuple[bool, ...]
    tests: tuple[JudgedTests, ...]

    @property
    def counting(self) -> tuple[History, ...]:
        """The regressions that count: of armed configurations, and not acknowledged."""
        return tuple(each for each, word, armed in self._rows if each.state is State.REGRESSION and armed and not word)

    @property
    def exit_code(self) -> int:
        """1 where a regression counts, else 0."""
        return 1 if self.counting else 0

    def word_on(self, found: History) -> str | None:
        """Say how far a regression counts: it counts, is acknowledged until a day, or is recorded only; none for other
        states."""
        if found.state is not State.REGRESSION:
            return None
        place = self.found.index(found)
        word = self.words[place]
        if word is not None:
            return f"acknowledged until {word.until:%Y-%m-%d}"
        return "counts" if self.armed[place] else "recorded only"

    def of(self, state: State) -> tuple[History, ...]:
        """Return the histories of one state."""
        return tuple(each for each in self.found if each.state is state)

    def to_json(self, name_of: Callable[[str], str]) -> dict[str, Any]:
        """Return the report as one JSON document; `name_of` gives the readable name of a config id."""
        return {
            "search": self.search,
            "thresholds_pct": dict(self.thresholds),
            "counting": len(self.counting),
            "states": {state.value: len(self.of(state)) for state in State},
            "histories": [
                {
                    "config_id": each.bucket.config_id,
                    "name": name_of(each.bucket.config_id),
                    **each.to_json(),
                    "armed": armed,
                    "acknowledged": word.to_json() if word else None,
                }
                for each, word, armed in self._rows
            ],
            "tests": [each.to_json() for each in self.tests],
        }

    @property
    def _rows(self) -> Iterator[tuple[History, Acknowledgement | None, bool]]:
        return zip(self.found, self.words, self.armed, strict=True)


@dataclass(frozen=True)
class MeasuredHistories:
    """What was measured, by bucket, and what persons said of it. `executor` is the home's; `taken_at` is UTC; `names` are
    readable names by config id."""

    taken_at: datetime
    executor: str
    series: MeasuredSeries
    blessings: Mapping[str, Blessing]
    acknowledgements: tuple[Acknowledgement, ...]
    armed: Mapping[str, bool]
    names: Mapping[str, str]
    tests: tuple[JudgedTests, ...]

    @classmethod
    def take(cls, platform: Platform) -> "MeasuredHistories":
        """Look at the platform's store, its CI table and a person's words now."""
        rows = platform.store.snapshot().read(lambda snapshot: snapshot.rows(columns=ROW_COLUMNS))
        series = MeasuredSeries.of(rows)
        words = RegressionWords(platform.home.database)
        lines = read_lines(platform.ci, platform.catalog)
        names = {line.config_id: line.name for line in lines}
        names |= {key: entry.id for key, entry in platform.entries_by_id.items()}
        return cls(
            taken_at=datetime.now(UTC),
            executor=platform.executor.name,
            series=series,
            blessings=words.blessings(),
            acknowledgements=words.acknowledgements(),
            armed=words.armed({*(config_id for config_id, _ in series.subjects), *(line.config_id for line in lines)}),
            names=MappingProxyType(names),
            tests=tuple(JudgedTests(line, *status_state(line.stability)) for line in lines if not line.expected),
        )

    def name_of(self, config_id: str) -> str:
        """Return the readable name of a configuration, its id where it has none."""
        return self.names.get(config_id, config_id)

    @property
    def blessed_runs(self) -> Mapping[str, str]:
        """The blessed run ids by config id."""
        return {key: each.run_id for key, each in self.blessings.items()}

    def compare(
        self, baseline: Baseline, thresholds: Mapping[str, float], *, config_id: str | None = None
    ) -> Comparison:
        """Compare the newest runs of one configuration, whoever ran it, or of all that this executor measured with a
        baseline."""
        if config_id is None:
            subjects = [subject for subject in self.series.subjects if subject[1] == self.executor]
        else:
            subjects = [subject for subject in self.series.subjects if subject[0] == config_id]
            subjects = subjects or [(config_id, self.executor)]
        found = compare_newest(self.series, baseline, thresholds, subjects=subjects, blessed=self.blessed_runs)
        return Comparison(baseline.name, thresholds, found)

    def baselines(self, *, config_id: str | None = None) -> tuple[BaselineLine, ...]:
        """Return what the next runs of one configuration, or of all, would be compared with."""
        buckets = {key: each for key, each in self.series.buckets.items() if config_id in (None, key.config_id)}
        return baseline_lines(buckets, self.blessed_runs)

    def histories(
        self, thresholds: Mapping[str, float], *, config_id: str | None = None, search: str = "permutation"
    ) -> tuple[History, ...]:
        """Judge every metric of every bucket, of one configuration or of all; what needs a person first. Raises `UsageError`
        for an unknown search."""
        found = [
            judge_history(
                bucket,
                metric,
                measured,
                threshold_pct=thresholds[metric.column],
                blessed=self.blessed_runs.get(bucket.config_id),
                search=search,
            )
            for bucket, measured in self.series.buckets.items()
            if config_id in (None, bucket.config_id)
            for metric in COMPARED.values()
            if any(metric.column in each.values for each in measured)
        ]
        worst_first = tuple(State)
        return tuple(sorted(found, key=lambda each: worst_first.index(each.state)))

    def regression_report(
        self, thresholds: Mapping[str, float], *, config_id: str | None = None, search: str = "permutation"
    ) -> "RegressionReport":
        """Judge the histories and the tests of one configuration, or of all. Raises `UsageError` for an unknown search."""
        found = self.histories(thresholds, config_id=config_id, search=search)
        tests = tuple(each for each in self.failing_tests if config_id in (None, each.line.config_id))
        return RegressionReport(
            thresholds=thresholds,
            search=search,
            found=found,
            words=tuple(self.acknowledged(each) for each in found),
            armed=tuple(self.armed.get(each.bucket.config_id, False) for each in found),
            tests=tests,
        )

    def acknowledged(self, found: History) -> Acknowledgement | None:
        """Return the acknowledgement that covers a history now, none where none does."""
        return covering(found, self.acknowledgements, now=self.taken_at)

    @cached_property
    def failing_tests(self) -> tuple[JudgedTests, ...]:
        """The configurations whose tests regressed or are suspicious, the former first."""
        worst_first = tuple(State)
        found = [each for each in self.tests if each.state in (State.REGRESSION, State.SUSPICIOUS)]
        return tuple(sorted(found, key=lambda each: worst_first.index(each.state)))
