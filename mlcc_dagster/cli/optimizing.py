"""A search for a better setting in this process: one run after the other, then the best against the present one in turns.

Belongs here: the loop and its report. Not here: what is tried next (`resources.optimization_study`), when to stop and what is
better (`core.optimization`), what is promised (`resources.optimization`).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from mlcc_dagster.cli import console
from mlcc_dagster.cli.compare_commands import number_text
from mlcc_dagster.cli.instance import open_instance
from mlcc_dagster.cli.progress_view import ProgressView
from mlcc_dagster.cli.rounds import Target, run_what_is_left
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.loads import load_text
from mlcc_dagster.core.optimization import (
    FAILED,
    EndedBy,
    Improvement,
    Used,
    Verdict,
    best_of,
    comparison_ended,
    improvement_of,
    scores_of,
    search_ended,
    turn,
    untried,
    verdict_of,
)
from mlcc_dagster.core.optimization_space import Result, Setting
from mlcc_dagster.core.recommendation import LEVEL
from resources.ci_table import Attempt
from resources.optimization import (
    RUN_TYPE,
    Search,
    expected,
    history,
    promise,
    register,
    result_of_run,
    spent_usd,
    used,
)
from resources.optimization_study import SettingStudy
from resources.platform import Platform

if TYPE_CHECKING:
    from mlcc_dagster.cli.dagster_runs import DagsterRuns

Phase = Literal["present", "search", "compare"]


@dataclass(frozen=True)
class Trial:
    """One run of a search. `result` is none where no run of it finished; `attempt` is none where none began."""

    phase: Phase
    setting: Setting
    result: Result | None
    attempt: Attempt | None

    @property
    def value(self) -> float | None:
        """What it measured, none where it failed."""
        return None if self.result is None else self.result.value

    @property
    def reason(self) -> str | None:
        """Why it measured nothing; none where it did."""
        if self.value is not None:
            return None
        said = self.attempt.reason if self.attempt else "no run of it began"
        return said or (self.result.reason if self.result else None) or "no run of it finished"


@dataclass
class SearchReport:
    """What a search found: its trials, how it ended, and the comparison of the best setting with the present one."""

    platform: Platform
    search: Search
    known: tuple[Result, ...]
    trials: list[Trial] = field(default_factory=list)
    ended_by: EndedBy = EndedBy.ALL_TRIED
    comparison_ended: EndedBy | None = None
    best: Setting | None = None
    improvement: Improvement | None = None
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def results(self) -> list[Result]:
        """All that is known of settings: the history, then the trials that finished."""
        return [*self.known, *(trial.result for trial in self.trials if trial.result is not None)]

    @property
    def verdict(self) -> Verdict:
        """Whether the best setting is better than the present one."""
        others = any(result.setting != self.search.space.present for result in self.results)
        measured = others and any(
            result.setting == self.search.space.present and result.value is not None for result in self.results
        )
        return verdict_of(self.best, self.improvement, measured=measured)

    @property
    def exit_code(self) -> int:
        """0 the search ended in order, 1 nothing could be compared, 130 interrupted."""
        if self.interrupted:
            return 130
        return 1 if self.verdict is Verdict.NOT_COMPARED else 0

    @property
    def sentence(self) -> str:
        """What was found, in one sentence."""
        metric, space = self.search.metric, self.search.space
        if self.best is None:
            if self.verdict is Verdict.NOT_COMPARED:
                return "nothing could be compared: too little was measured"
            return f"no better setting was found: none scored a better {metric.column} than the present one"
        changed = ", ".join(f"{name}={value}" for name, value in space.changed(self.best).items())
        if self.improvement is None:
            why = f" ({self.comparison_ended.value.replace('_', ' ')})" if self.comparison_ended else ""
            return (
                f"{changed} scored best and was not compared with the present setting often enough{why}; run it again"
            )
        told = "{:+.1f} % ({:+.1f} to {:+.1f} %)".format(self.improvement.pct, *self.improvement.interval_pct)
        if self.improvement.better:
            return f"{changed} has a better {metric.column}: {told}"
        return f"no better setting was found: {changed} scored best, and in turns with the present one came to {told}"

    def to_json(self) -> dict[str, Any]:
        """Return the report as one JSON document."""
        space = self.search.space
        scores = scores_of(self.search.metric, self.results)
        return {
            "search": self.search.name,
            "verdict": self.verdict.value,
            "sentence": self.sentence,
            "ended_by": self.ended_by.value,
            "comparison_ended_by": self.comparison_ended.value if self.comparison_ended else None,
            "interrupted": self.interrupted,
            "metric": self.search.metric.column,
            "workload": self.search.load.workload,
            "concurrency": self.search.concurrency,
            "executor": self.platform.executor.name,
            "seed": self.search.seed,
            "present": {
                "config_id": config_id(space.configuration),
                "configuration": str(space.configuration),
                "setting": space.named(space.present),
            },
            "best": None
            if self.best is None
            else {
                "config_id": config_id(space.configured(self.best)),
                "configuration": str(space.configured(self.best)),
                "setting": space.named(self.best),
                "changed": space.changed(self.best),
            },
            "comparison": None if self.improvement is None else self.improvement.to_json(),
            "possible_settings": len(space.settings),
            "known_settings": len(scores_of(self.search.metric, self.known)),
            "failed_settings": sum(each == FAILED for each in scores.values()),
            "trials": [
                {
                    "phase": trial.phase,
                    "config_id": config_id(space.configured(trial.setting)),
                    "setting": space.named(trial.setting),
                    "run_id": trial.attempt.run_id if trial.attempt else None,
                    "value": trial.value,
                    "reason": trial.reason,
                    "seconds": trial.attempt.seconds if trial.attempt else None,
                    "cost_usd": trial.attempt.cost_usd if trial.attempt else None,
                }
                for trial in self.trials
            ],
            "budget_usd": self.search.bounds.max_usd,
            "spent_usd": spent_usd(self.platform, self.search),
            "seconds": round(self.seconds, 1),
        }

    def show(self) -> None:
        """Print the trials as a table, then what was found and what it took."""
        space, metric = self.search.space, self.search.metric
        below = [
            f"{config_id(space.configured(trial.setting))}: {trial.reason}" for trial in self.trials if trial.reason
        ]
        below.append(self.sentence)
        if self.improvement is not None:
            below.append(
                f"{len(self.improvement.present)} pairs in turns, {LEVEL:.0%} interval; present "
                f"{_values(self.improvement.present)}, best {_values(self.improvement.best)} {metric.unit}"
            )
        if self.verdict is Verdict.BETTER and self.best is not None:
            below.append(f"the best setting is {config_id(space.configured(self.best))}: {space.configured(self.best)}")
        tried = sum(trial.phase == "search" for trial in self.trials)
        below.append(
            f"{console.counted(tried, 'setting')} tried of {len(space.settings)}, "
            f"{len(scores_of(metric, self.known))} known before | {console.counted(len(self.trials), 'run')} | "
            f"{spent_usd(self.platform, self.search):.4f} of {self.search.bounds.max_usd:g} USD | {self.seconds:.0f} s | "
            f"{self.ended_by.value.replace('_', ' ')}"
        )
        if self.interrupted:
            below.append("interrupted: the unfinished run was cleaned; the same command goes on from what was measured")
        console.print_table(
            f"search {self.search.name} of {metric.column} ({load_text(self.search.load)})",
            ["for", *(axis.name for axis in space.axes), "run", metric.column, "seconds", "USD"],
            (
                [
                    trial.phase,
                    *trial.setting,
                    trial.attempt.run_id if trial.attempt else None,
                    number_text(trial.value) or "failed",
                    f"{trial.attempt.seconds:.1f}" if trial.attempt and trial.attempt.seconds is not None else None,
                    f"{trial.attempt.cost_usd:.4f}" if trial.attempt and trial.attempt.cost_usd is not None else None,
                ]
                for trial in self.trials
            ),
            right=[metric.column, "seconds", "USD"],
            below=below,
        )


def _values(values: Sequence[float]) -> str:
    return ", ".join(number_text(value) or "" for value in values)


def run_search(platform: Platform, search: Search, *, verbose: bool = False, show: bool = True) -> SearchReport:
    """Search until a bound is reached or nothing is left to try, compare the best with the present setting, and return what was
    found. Every run is a row; Ctrl-C ends the current one in order."""
    with open_instance(platform.home) as instance:
        from assets.partitions import add_missing_keys
        from assets.reaping import clear
        from mlcc_dagster.cli.dagster_runs import DagsterRuns

        clear(platform, instance)
        add_missing_keys(platform, instance)
        with ProgressView(platform, [], shown=show) as view:
            runs = DagsterRuns(platform, instance, view.listener, verbose=verbose)
            loop = _Loop(runs, view, SearchReport(platform, search, history(platform, search)))
            try:
                loop.run()
            except KeyboardInterrupt:
                loop.report.interrupted = True
            report = loop.report
            report.seconds = time.monotonic() - loop.began
            if report.interrupted:
                report.ended_by = EndedBy.INTERRUPTED
            elif report.trials:
                runs.refresh()
    return report


class _Loop:
    """The steps of one search: the present setting, others until a bound, then both in turns."""

    def __init__(self, runs: "DagsterRuns", view: ProgressView, report: SearchReport) -> None:
        self.runs, self.view, self.report = runs, view, report
        self.platform, self.search = report.platform, report.search
        self.began = time.monotonic()
        self.expected_usd = expected(self.platform, self.search)[1]
        self.unpaid = False

    def run(self) -> None:
        """Do all of it, or until it is interrupted."""
        space, metric = self.search.space, self.search.metric
        study = SettingStudy(space, seed=self.search.seed)
        scores = scores_of(metric, self.report.known)
        if scores:
            self.view.note(f"{console.counted(len(scores), 'setting')} of this search were measured before")
        if scores.get(space.present, FAILED) == FAILED:
            measured = self.measure("present", space.present)
            if measured.value is None:
                self.report.ended_by = EndedBy.PRESENT_FAILED
                return
        for setting, each in scores_of(metric, self.report.results).items():
            study.tell(setting, each)
        failed: set[Setting] = set()
        while not self.report.interrupted:
            left = untried(space.settings, self.report.results, failed)
            tried = sum(trial.phase == "search" for trial in self.report.trials)
            ended = search_ended(self.search.bounds, self.used(tried), len(left))
            if ended is not None:
                self.report.ended_by = ended
                break
            setting = study.propose(left)
            trial = self.measure("search", setting)
            if self.unpaid:
                self.report.ended_by = EndedBy.MONEY
                break
            if trial.value is None:
                failed.add(setting)
            if trial.result is not None:
                study.tell(setting, scores_of(metric, [trial.result])[setting])
        self.report.best = best_of(scores_of(metric, self.report.results), space.present)
        if not self.report.interrupted and self.report.best is not None:
            self.compare(self.report.best)

    def compare(self, best: Setting) -> None:
        """Measure the best and the present setting in turns, as many pairs as were asked for and can be afforded. A pair of which
        a run fails is made up for, as often as there are pairs."""
        pairs: list[tuple[float, float]] = []
        for number in range(2 * self.search.bounds.pairs):
            if len(pairs) == self.search.bounds.pairs:
                break
            pair = self.pair(best, number)
            if pair is not None:
                pairs.append(pair)
            elif self.report.interrupted or self.report.comparison_ended is not None:
                break
        self.report.improvement = improvement_of(self.search.metric, pairs)

    def pair(self, best: Setting, number: int) -> tuple[float, float] | None:
        """Measure both settings once and return (present, best); none where a run failed, was interrupted or could not be
        afforded, which the report then says."""
        values: dict[bool, float] = {}
        for is_best in turn(number):
            first = number == 0 and not values
            self.report.comparison_ended = comparison_ended(self.search.bounds, self.used(0), first=first)
            if self.report.comparison_ended is not None:
                return None
            trial = self.measure("compare", best if is_best else self.search.space.present)
            if trial.value is None or self.report.interrupted:
                return None
            values[is_best] = trial.value
        return values[False], values[True]

    def used(self, tried: int) -> Used:
        """Return what the search has used by now."""
        attempts = [trial.attempt for trial in self.report.trials if trial.attempt is not None]
        return used(
            self.platform,
            self.search,
            trials=tried,
            seconds=time.monotonic() - self.began,
            costs=[attempt.cost_usd or 0.0 for attempt in attempts],
            expected_usd=self.expected_usd,
        )

    def promise(self, configuration: Configuration) -> str | None:
        """Promise a run its money and return the reservation, none where the budget does not allow for it."""
        reservation = promise(self.platform, self.search, configuration)
        self.unpaid = reservation is None
        return reservation

    def measure(self, phase: Phase, setting: Setting) -> Trial:
        """Run one setting through the lifecycle in a round of its own and note it as a trial."""
        from assets.partitions import add_missing_keys

        configuration = self.search.space.configured(setting)
        key = register(self.platform, configuration, self.search.load)
        add_missing_keys(self.platform, self.runs.instance)
        changed = self.search.space.changed(setting)
        name = ", ".join(f"{each}={value}" for each, value in changed.items()) or "the present setting"
        target = Target(key, name, configuration)
        self.view.expect(target)
        joined = self.platform.rounds.join(self.search.name, [key], open_seconds=0.0)
        self.report.interrupted = run_what_is_left(
            self.runs,
            [target],
            joined,
            tier=None,
            note=self.view.note,
            run_type=RUN_TYPE,
            promise=lambda _: self.promise(configuration),
            measures=load_text(self.search.load),
        )
        attempts = self.platform.ci.attempts(key, round=joined.id)
        attempt = max(attempts, key=lambda each: each.generation, default=None)
        finished = attempt is not None and attempt.state == "finished"
        result = result_of_run(self.platform, self.search, setting, attempt.run_id) if attempt and finished else None
        trial = Trial(phase, setting, result, attempt)
        self.report.trials.append(trial)
        if trial.value is not None:
            self.view.note(f"  {self.search.metric.column} {number_text(trial.value)} {self.search.metric.unit}")
        return trial
