"""What a measurement is compared with: baselines by name.

Belongs here: how each named baseline takes its value from earlier measurements. Not here: which measurements are alike
(`measured_series.py`), the verdict (`comparison.py`), where a person's blessing is kept (`resources.regression_words`), the
committed baseline of an evaluation (`baselines.py`).

`previous` is the newest earlier run, `best` the best value of all earlier runs metric by metric, `median:N` the median of
the newest N earlier runs, `blessed` the run that a person named as what later ones are to keep.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from mlcc_dagster.core.compared_metrics import COMPARED, ComparedMetric
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.measured_series import Bucket, Measurement

NAMES: tuple[str, ...] = ("previous", "best", "median:N", "blessed")
_MEDIAN = re.compile(r"median:([1-9][0-9]{0,3})")


@dataclass(frozen=True)
class BaselineValue:
    """The value to compare with, and the runs it comes from, newest first."""

    value: float
    run_ids: tuple[str, ...]


@dataclass(frozen=True)
class NoBaseline:
    """That there is nothing to compare with: `too_few` where there are earlier runs, but not as many as the baseline needs.
    The reason is a clause."""

    reason: str
    too_few: bool = False


_Choice = Callable[[ComparedMetric, Sequence[Measurement], str | None], BaselineValue | NoBaseline]


@dataclass(frozen=True)
class Baseline:
    """A baseline by its name."""

    name: str
    _choose: _Choice

    def value(
        self, metric: ComparedMetric, earlier: Sequence[Measurement], *, blessed: str | None = None
    ) -> BaselineValue | NoBaseline:
        """Return the value of a metric among earlier measurements of one bucket, oldest first; `blessed` is the run id that
        a person named for the configuration. Runs that have no value of the metric do not count."""
        having = [each for each in earlier if metric.column in each.values]
        if not having:
            return NoBaseline(f"no earlier run has {metric.column}")
        return self._choose(metric, having, blessed)


def baseline_named(text: str) -> Baseline:
    """Return the baseline of a name. Raises `UsageError` naming all."""
    found = _MEDIAN.fullmatch(text)
    if found:
        count = int(found[1])
        return Baseline(text, lambda metric, earlier, _: _median(metric, earlier, count))
    if text not in _BY_NAME:
        raise UsageError(f"no baseline '{text}'; use one of {', '.join(NAMES)}, with a number above 0 for N")
    return Baseline(text, _BY_NAME[text])


def _previous(metric: ComparedMetric, earlier: Sequence[Measurement], _: str | None) -> BaselineValue | NoBaseline:
    return BaselineValue(earlier[-1].values[metric.column], (earlier[-1].run_id,))


def _best(metric: ComparedMetric, earlier: Sequence[Measurement], _: str | None) -> BaselineValue | NoBaseline:
    best = earlier[0]
    for each in earlier[1:]:
        # of equals the newest: nearer to what is compared
        if not metric.better(best.values[metric.column], each.values[metric.column]):
            best = each
    return BaselineValue(best.values[metric.column], (best.run_id,))


def _median(metric: ComparedMetric, earlier: Sequence[Measurement], count: int) -> BaselineValue | NoBaseline:
    if len(earlier) < count:
        runs = "run has" if len(earlier) == 1 else "runs have"
        return NoBaseline(f"{len(earlier)} earlier {runs} {metric.column}, median:{count} needs {count}", too_few=True)
    newest = earlier[-count:]
    return BaselineValue(
        median(each.values[metric.column] for each in newest), tuple(each.run_id for each in reversed(newest))
    )


def _blessed(metric: ComparedMetric, earlier: Sequence[Measurement], run_id: str | None) -> BaselineValue | NoBaseline:
    if run_id is None:
        return NoBaseline("no run is blessed; `mlcc baselines bless` names one")
    found = next((each for each in earlier if each.run_id == run_id), None)
    if found is None:
        return NoBaseline(f"the blessed run {run_id} has no earlier {metric.column} that is alike")
    return BaselineValue(found.values[metric.column], (run_id,))


_BY_NAME: Mapping[str, _Choice] = {"previous": _previous, "best": _best, "blessed": _blessed}


SHOWN: tuple[str, ...] = ("previous", "best", "median:5", "blessed")
"""The baselines that lists show."""


@dataclass(frozen=True)
class BaselineLine:
    """What the next run of a bucket would be compared with in one metric, by the names of `SHOWN`; `runs` have the
    metric."""

    bucket: Bucket
    metric: ComparedMetric
    runs: int
    values: Mapping[str, BaselineValue | NoBaseline]

    def value(self, name: str) -> float | None:
        """Return the value of a shown baseline, none where there is none."""
        found = self.values[name]
        return found.value if isinstance(found, BaselineValue) else None

    def to_json(self, name_of: Callable[[str], str]) -> dict[str, Any]:
        """Return the line as JSON values; `name_of` gives the readable name of a config id."""
        shown = {}
        for name, found in self.values.items():
            known = isinstance(found, BaselineValue)
            shown[name] = {
                "value": found.value if known else None,
                "run_ids": list(found.run_ids) if known else [],
                "reason": None if known else found.reason,
            }
        return {
            "config_id": self.bucket.config_id,
            "name": name_of(self.bucket.config_id),
            **self.bucket.to_json(),
            "metric": self.metric.column,
            "runs": self.runs,
            "baselines": shown,
        }


def baseline_lines(
    buckets: Mapping[Bucket, Sequence[Measurement]], blessed: Mapping[str, str]
) -> tuple[BaselineLine, ...]:
    """Return a line for every metric that a bucket has, in the order of the buckets; `blessed` are run ids by
    configuration."""
    return tuple(
        BaselineLine(
            bucket,
            metric,
            sum(metric.column in each.values for each in measured),
            {
                name: baseline_named(name).value(metric, measured, blessed=blessed.get(bucket.config_id))
                for name in SHOWN
            },
        )
        for bucket, measured in buckets.items()
        for metric in COMPARED.values()
        if any(metric.column in each.values for each in measured)
    )
