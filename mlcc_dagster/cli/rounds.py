"""A round that a command runs: joining it, running what is left of it, watching what another process runs, reporting.

Belongs here: the loop over configurations and its report. Not here: what one run does (`resources.lifecycle`).
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlcc_dagster.cli import console
from mlcc_dagster.cli.instance import open_instance
from mlcc_dagster.cli.progress_view import ProgressView
from mlcc_dagster.cli.tier_money import money_of
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.outcome import Owner
from resources import processes
from resources.ci_table import Attempt
from resources.estimates import Estimates
from resources.lifecycle import find_configuration, stages_of
from resources.platform import Platform
from resources.rounds import Round
from resources.tier_runs import ceiling_of

if TYPE_CHECKING:
    from mlcc_dagster.cli.dagster_runs import DagsterRuns

WATCH_SECONDS = 1.0
MOST_LOSSES = 3
"""How often a command asks again for a configuration that nobody runs and that is refused all the same."""


@dataclass(frozen=True)
class Target:
    """One configuration of a round. `refusal` says why the executor cannot run it, `refuted` what preflight will end it
    with, at no cost; `expected_failure` is the failure category that its catalog entry exists to provoke."""

    config_id: str
    name: str
    configuration: Configuration
    refusal: str | None = None
    refuted: str | None = None
    expected_failure: str | None = None


@dataclass(frozen=True)
class Forecast:
    """What a round is expected to take if every stage passes, by config_id of the targets that run here: seconds, USD, and
    how many past runs of exactly this configuration that rests on (none: on others, and on declared times)."""

    seconds: Mapping[str, float]
    usd: Mapping[str, float]
    runs: Mapping[str, int]
    sentence: str
    targets: Sequence[Target]

    @property
    def runnable(self) -> int:
        """How many of the targets run here."""
        return len(self.seconds)

    def to_json(self) -> dict[str, Any]:
        """Return the forecast as the JSON document of a dry run."""
        return {
            "started": False,
            "configurations": [
                {
                    "config_id": t.config_id,
                    "name": t.name,
                    "configuration": str(t.configuration),
                    "runs_here": t.config_id in self.seconds,
                    "reason": t.refusal or t.refuted,
                    "estimated_seconds": self.seconds.get(t.config_id),
                    "estimated_usd": self.usd.get(t.config_id),
                    "learned_from_runs": self.runs.get(t.config_id),
                }
                for t in self.targets
            ],
            "estimated_seconds": sum(self.seconds.values()),
            "estimated_usd": sum(self.usd.values()),
        }


def estimate(platform: Platform, targets: Sequence[Target], tier: str | None) -> Forecast:
    """Estimate a round from past runs and the catalog's declared times, as a plan of the prover does (`Estimates`)."""
    estimates = Estimates.take(platform)
    seconds, usd, runs = {}, {}, {}
    for target in targets:
        if target.refusal is None and target.refuted is None:
            configuration, entry, plan = find_configuration(platform, target.config_id)
            stages = stages_of(entry, plan)
            seconds[target.config_id] = estimates.seconds(configuration, target.config_id, stages)
            usd[target.config_id] = estimates.usd(configuration, target.config_id, stages)
            runs[target.config_id] = estimates.learned(target.config_id)
    minutes = max(sum(seconds.values()) / 60, 0.1)
    sentence = (
        f"{len(seconds)} of {len(targets)} configurations run here, about {minutes:.1f} min and "
        f"{sum(usd.values()):.4f} USD ({sum(map(bool, runs.values()))} learned from past runs)"
    )
    if not seconds:
        sentence = f"none of {len(targets)} configurations runs here"
    declared = platform.catalog.tiers.get(tier) if tier else None
    if declared is not None:
        sentence += f"; the tier's ceiling is {declared.cost_ceiling_usd:g} USD"
        sentence += "" if ceiling_of(platform, tier) is not None else " of real money, and this is played"
    return Forecast(seconds, usd, runs, sentence, tuple(targets))


@dataclass
class Report:
    """How a round ended, from the table's own records. `unpaid` says what its ceiling did not allow for, by config id."""

    platform: Platform
    round: Round
    targets: Sequence[Target]
    attempts: dict[str, Attempt] = field(default_factory=dict)
    interrupted: bool = False
    estimated_usd: float | None = None
    ceiling_usd: float | None = None
    unpaid: Mapping[str, str] = field(default_factory=dict)

    def verdict(self, target: Target) -> tuple[str, bool]:
        """Return the verdict on one configuration in a few words, and whether it went as expected."""
        attempt = self.attempts.get(target.config_id)
        if target.refusal:
            return "left out", True
        if attempt is None or attempt.state != "finished":
            return ("left out, no money" if target.config_id in self.unpaid else "not finished"), False
        if attempt.status == "completed" and attempt.run_status == "pass":
            if target.expected_failure:
                return f"proven, although its entry expects {target.expected_failure}", False
            return "proven", True
        if attempt.run_status == "pass":
            return "nothing tested", False
        stage = (attempt.run_status or "").removeprefix("fail-")
        text = f"{attempt.status} ({attempt.failure_category or 'unknown'} at {stage})"
        if target.expected_failure and attempt.failure_category == target.expected_failure:
            return f"{text}, as its entry expects", True
        return text, False

    def reason(self, target: Target) -> str | None:
        """Return the sentence behind a verdict: why it is left out, failed, or was not finished; none where proven."""
        attempt = self.attempts.get(target.config_id)
        if attempt is not None and attempt.state == "finished":
            return target.refusal or attempt.reason
        return target.refusal or self.unpaid.get(target.config_id) or (attempt.reason if attempt else None)

    @property
    def actual_usd(self) -> float:
        """What the runs of the round cost, those included that were cut off and made again."""
        return sum(attempt.cost_usd or 0.0 for attempt in self.platform.ci.attempts(round=self.round.id))

    @property
    def exit_code(self) -> int:
        """0 all as expected, 1 something failed, 130 interrupted."""
        if self.interrupted:
            return 130
        return 0 if all(self.verdict(target)[1] for target in self.targets) else 1

    def to_json(self) -> dict[str, Any]:
        """Return the report as the JSON document of a run."""
        return {
            "round": self.round.id,
            "interrupted": self.interrupted,
            "estimated_usd": self.estimated_usd,
            "actual_usd": self.actual_usd,
            "cost_ceiling_usd": self.ceiling_usd,
            "configurations": [
                {
                    "config_id": target.config_id,
                    "name": target.name,
                    "verdict": self.verdict(target)[0],
                    "as_expected": self.verdict(target)[1],
                    "reason": self.reason(target),
                    "status": attempt.status if (attempt := self.attempts.get(target.config_id)) else None,
                    "run_id": attempt.run_id if attempt else None,
                    "seconds": attempt.seconds if attempt else None,
                    "cost_usd": attempt.cost_usd if attempt else None,
                    "dagster_run_id": attempt.owner.dagster_run_id if attempt else None,
                }
                for target in self.targets
            ],
        }

    def show(self) -> None:
        """Print the report as a table and one line of counts."""
        rows = []
        for target in self.targets:
            attempt = self.attempts.get(target.config_id)
            rows.append(
                [
                    target.name,
                    attempt.run_id if attempt else None,
                    f"{attempt.seconds:.1f}" if attempt and attempt.seconds is not None else None,
                    f"{attempt.cost_usd:.4f}" if attempt and attempt.cost_usd is not None else None,
                    self.verdict(target)[0],
                ]
            )
        surprises = [target for target in self.targets if not self.verdict(target)[1]]
        proven = sum(self.verdict(target)[0] == "proven" for target in self.targets)
        many = console.counted(len(self.targets), "configuration")
        counts = f"{many} | {proven} proven | {len(surprises)} not as expected | {self.actual_usd:.4f} USD"
        below = [f"{target.name}: {self.reason(target) or self.verdict(target)[0]}" for target in surprises]
        if self.estimated_usd is not None:
            ceiling = "" if self.ceiling_usd is None else f", ceiling {self.ceiling_usd:g} USD"
            below.append(f"cost: estimated {self.estimated_usd:.4f} USD, actual {self.actual_usd:.4f} USD{ceiling}")
        below.append(counts)
        if self.interrupted:
            below.append("interrupted: the same command joins this round again and runs what is left")
        console.print_table(
            f"round {self.round.id}",
            ["configuration", "run", "seconds", "USD", "verdict"],
            rows,
            right=["seconds", "USD"],
            below=below,
        )


def run_round(
    platform: Platform,
    scope: str,
    targets: Sequence[Target],
    *,
    tier: str | None,
    fresh: bool = False,
    verbose: bool = False,
    show: bool = True,
    run_type: str = "ci",
    measures: str | None = None,
) -> Report:
    """Run what is left of a round, one Dagster run per configuration in this process, and return how it ended.

    Configurations that another live process runs are waited for, and taken over when that process dies. Ctrl-C ends the
    current run in order (cleaned, claim freed) and leaves the round open.
    """
    runnable = [target for target in targets if target.refusal is None]
    open_seconds = 0.0 if fresh else platform.home.settings.round_open_seconds
    with open_instance(platform.home) as instance:
        from assets.partitions import add_missing_keys
        from assets.reaping import clear
        from mlcc_dagster.cli.dagster_runs import DagsterRuns

        clear(platform, instance)
        add_missing_keys(platform, instance)
        joined = platform.rounds.join(scope, [t.config_id for t in runnable], open_seconds=open_seconds)
        report = Report(platform, joined, targets, ceiling_usd=ceiling_of(platform, tier))
        with ProgressView(platform, runnable, shown=show) as view:
            if joined.joined:
                view.note(f"joins the open round {joined.id}")
            runs = DagsterRuns(platform, instance, view.listener, verbose=verbose)
            money = money_of(platform, tier, joined.id, note=view.note, clear=lambda: clear(platform, instance))
            promise = None if money is None else money.promise
            try:
                report.interrupted = run_what_is_left(
                    runs,
                    runnable,
                    joined,
                    tier=tier,
                    note=view.note,
                    run_type=run_type,
                    promise=promise,
                    measures=measures,
                )
            except KeyboardInterrupt:
                report.interrupted = True
            if money is not None:
                money.close()
                report.unpaid = money.left_out
            if not report.interrupted:
                runs.refresh()
    for target in targets:
        mine_attempts = platform.ci.attempts(target.config_id, round=joined.id)
        if mine_attempts:
            report.attempts[target.config_id] = max(mine_attempts, key=lambda a: a.generation)
    return report


def run_what_is_left(
    runs: "DagsterRuns",
    targets: Sequence[Target],
    joined: Round,
    *,
    tier: str | None,
    note: Callable[..., None],
    run_type: str = "ci",
    promise: Callable[[Target], str | None] | None = None,
    measures: str | None = None,
) -> bool:
    """Run the targets that are not finished in the round, each once, and return whether that was interrupted.

    `promise` promises a run its money and returns the reservation; a target that gets none is left. `measures` names a load
    that is measured in place of what the records say.

    What another live process runs is waited for; what a dead one left is cleaned and run here. A configuration whose run
    ended without a result (it could not be committed, the platform itself failed) is left: trying again at once would
    fail alike, for ever.
    """
    from assets.reaping import clear

    platform, instance = runs.platform, runs.instance
    given_up: set[str] = set()
    losses: Counter[str] = Counter()
    while True:
        _, remaining = platform.rounds.progress(joined.id)
        mine = [target for target in targets if target.config_id in remaining and target.config_id not in given_up]
        if not mine:
            return False
        owners = owners_at_work(platform)
        if any(processes.owner_alive(owners[t.config_id]) is False for t in mine if t.config_id in owners):
            # Its lease lives on for a while; until it is cleaned, every claim would be refused.
            clear(platform, instance)
            owners = owners_at_work(platform)
        free = next((target for target in mine if target.config_id not in owners), None)
        if free is None:
            note(f"waiting for {', '.join(dict.fromkeys(str(owners[t.config_id]) for t in mine))}", once=True)
            time.sleep(WATCH_SECONDS)
            clear(platform, instance)
            continue
        reservation = None if promise is None else promise(free)
        if promise is not None and reservation is None:
            given_up.add(free.config_id)
            continue
        ended = runs.lifecycle(
            free, round_id=joined.id, tier=tier, run_type=run_type, reservation=reservation, measures=measures
        )
        if ended.interrupted:
            return True
        if not ended.lost:
            given_up.add(free.config_id)
        elif free.config_id not in owners_at_work(platform):
            # Finished by the winner meanwhile, or a result that is decided and cannot be published.
            losses[free.config_id] += 1
            if losses[free.config_id] >= MOST_LOSSES:
                given_up.add(free.config_id)
            time.sleep(WATCH_SECONDS)
            clear(platform, instance)


def owners_at_work(platform: Platform) -> dict[str, Owner]:
    """Return who runs what now, by config id; an owner may be dead."""
    return {attempt.config_id: attempt.owner for attempt in platform.ci.running()}
