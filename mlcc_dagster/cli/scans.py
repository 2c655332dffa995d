"""A scan that a command makes: what is due is run in this process, one after the other, oldest first.

Belongs here: the loop and its report. Not here: what is due (`core.scanning`), what one run does (`resources.lifecycle`).
"""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from mlcc_dagster.cli import console
from mlcc_dagster.cli.instance import open_instance
from mlcc_dagster.cli.progress_view import ProgressView
from mlcc_dagster.cli.rounds import Forecast, Report, Target, estimate
from mlcc_dagster.core.records import utc_text
from mlcc_dagster.core.scanning import Due, LeftOut, Omission, Scan
from resources.ci_lines import entries_by_config
from resources.lifecycle import find_configuration
from resources.platform import Platform
from resources.rounds import Round
from resources.scanner import RUN_TYPE, has_dead_owner, look

WATCH_SECONDS = 1.0
SHOWN_FRESH = 5
EVERYTHING = 2**31
"""More than any table has."""


@dataclass
class ScanReport:
    """What a scan found due, in its order, what of it was started here and how that ended, and what was left out; what it is
    expected to take where nothing is started."""

    platform: Platform
    at: datetime
    max_concurrency: int
    due: tuple[Due, ...]
    left_out: tuple[LeftOut, ...]
    started: list[Due] = field(default_factory=list)
    interrupted: bool = False
    dry_run: bool = False
    forecast: Forecast | None = None

    @property
    def exit_code(self) -> int:
        """0 all as expected (nothing due as well), 1 something failed, 130 interrupted."""
        if self.interrupted:
            return 130
        report = self._runs()
        return 0 if all(report.verdict(target)[1] for target in report.targets) else 1

    def _runs(self) -> Report:
        """How the started runs ended, by the rules of every round."""
        targets = [target_of(self.platform, due) for due in self.started]
        report = Report(self.platform, Round("scan", utc_text(self.at), False), targets)
        for due in self.started:
            attempts = self.platform.ci.attempts(due.config_id, round=due.round)
            report.attempts |= {due.config_id: max(attempts, key=lambda a: a.generation)} if attempts else {}
        return report

    def to_json(self) -> dict[str, Any]:
        """Return the report as one JSON document."""
        report = self._runs()
        runs = {entry["config_id"]: entry for entry in report.to_json()["configurations"]}
        names = {key: entry.id for key, entry in entries_by_config(self.platform.catalog).items()}
        return {
            "at": utc_text(self.at),
            "dry_run": self.dry_run,
            "max_concurrency": self.max_concurrency,
            "interrupted": self.interrupted,
            "estimated_seconds": None if self.forecast is None else sum(self.forecast.seconds.values()),
            "estimated_usd": None if self.forecast is None else sum(self.forecast.usd.values()),
            "due": [{"name": names.get(due.config_id, due.config_id)} | due.to_json() for due in self.due],
            "started": [runs[due.config_id] | {"round": due.round} for due in self.started],
            "left_out": [
                {"name": names.get(left.config_id, left.config_id)} | left.to_json() for left in self.left_out
            ],
        }

    def show(self) -> None:
        """Print what was started and how it ended, then what was left out and why."""
        document = self.to_json()
        listed = document["due"] if self.dry_run else document["started"]
        reasons = {entry["config_id"]: entry for entry in document["due"]}
        if self.dry_run:
            title = f"{console.counted(len(listed), 'configuration')} would be started (nothing was)"
            columns = ["configuration", "tier", "due because", "since"]
            rows = [[e["name"], e["tier"], e["detail"], e["due_since"]] for e in listed]
        else:
            title = f"{console.counted(len(listed), 'configuration')} started"
            columns = ["configuration", "run", "due because", "seconds", "verdict"]
            rows = [
                [
                    entry["name"],
                    entry["run_id"],
                    reasons[entry["config_id"]]["detail"] if entry["config_id"] in reasons else None,
                    None if entry["seconds"] is None else f"{entry['seconds']:.1f}",
                    entry["verdict"],
                ]
                for entry in listed
            ]
        below = [f"{e['name']}: {e['reason'] or e['verdict']}" for e in document["started"] if not e["as_expected"]]
        fresh = [e for e in document["left_out"] if e["reason"] == Omission.FRESH.value]
        others = [e for e in document["left_out"] if e["reason"] != Omission.FRESH.value]
        below += [f"left out {e['name']} ({e['reason']}): {e['detail']}" for e in others]
        if fresh:
            # All of them with their times are in the JSON document.
            shown = ", ".join(e["name"] for e in fresh[:SHOWN_FRESH])
            more = f" and {len(fresh) - SHOWN_FRESH} more" if len(fresh) > SHOWN_FRESH else ""
            below.append(f"left out as tested recently enough: {shown}{more}")
        if self.interrupted:
            below.append("interrupted: the next scan takes up what is left")
        if not listed and not below:
            below = ["no configuration is registered in this home; what `mlcc run` runs with this executor is"]
        if self.forecast is not None and self.due:
            below.append(self.forecast.sentence)
        console.print_table(title, columns, rows, right=["seconds"], below=below)


def target_of(platform: Platform, due: Due) -> Target:
    """Return a due record as a target of a run."""
    configuration, entry, _ = find_configuration(platform, due.config_id)
    expected = None if entry is None else entry.expected_failure
    name = due.config_id if entry is None else entry.id
    return Target(due.config_id, name, configuration, expected_failure=expected)


def dry_scan(platform: Platform, *, max_concurrency: int) -> ScanReport:
    """Look once and start nothing."""
    now = datetime.now(UTC)
    found = look(platform, now=now, max_concurrency=EVERYTHING)
    forecast = estimate(platform, [target_of(platform, due) for due in found.start], None)
    return ScanReport(platform, now, max_concurrency, found.start, found.left_out, dry_run=True, forecast=forecast)


def run_scan(platform: Platform, *, max_concurrency: int, verbose: bool = False, show: bool = True) -> ScanReport:
    """Run what is due, each once, and return how it ended.

    The table is looked at anew before each run: what another scanner took meanwhile is left to it, and no run is begun while
    `max_concurrency` runs of scans are under way in this home, whoever made them. Ctrl-C ends the current run in order.
    """
    with open_instance(platform.home) as instance:
        from assets.partitions import add_missing_keys
        from assets.reaping import clear
        from mlcc_dagster.cli.dagster_runs import DagsterRuns

        clear(platform, instance)
        add_missing_keys(platform, instance)
        at = datetime.now(UTC)
        first = look(platform, now=at, max_concurrency=EVERYTHING)
        report = ScanReport(platform, at, max_concurrency, first.start, ())
        asked: dict[str, str] = {}
        lost: dict[str, LeftOut] = {}
        found = first
        with ProgressView(platform, [target_of(platform, due) for due in first.start], shown=show) as view:
            runs = DagsterRuns(platform, instance, view.listener, verbose=verbose)
            try:
                while not report.interrupted:
                    found = _look(platform, max_concurrency, asked)
                    if has_dead_owner(found):
                        # Its lease lives on: its claim would be refused until it is cleaned.
                        clear(platform, instance)
                        found = _look(platform, max_concurrency, asked)
                    if not found.start:
                        if not found.waiting:
                            break
                        view.note(f"waiting: no more than {max_concurrency} at once, others run", once=True)
                        time.sleep(WATCH_SECONDS)
                        clear(platform, instance)
                        continue
                    due = found.start[0]
                    target = target_of(platform, due)
                    view.expect(target)
                    ended = runs.lifecycle(target, round_id=due.round, tier=due.tier, run_type=RUN_TYPE)
                    asked[due.config_id] = "asked for by this command"
                    report.interrupted = ended.interrupted
                    if ended.lost:
                        lost[due.config_id] = taken_by_another(platform, due)
                    else:
                        report.started.append(due)
            except KeyboardInterrupt:
                report.interrupted = True
            if report.started and not report.interrupted:
                runs.refresh()
    started = {due.config_id for due in report.started}
    others = (left for left in found.left_out if left.config_id not in started and left.config_id not in lost)
    not_begun = (
        LeftOut(due.config_id, Omission.NO_ROOM, f"due ({due.detail}), and the scan was interrupted")
        for due in found.start
        if report.interrupted and due.config_id not in started
    )
    report.left_out = (*lost.values(), *not_begun, *others)
    return report


def _look(platform: Platform, max_concurrency: int, asked: dict[str, str]) -> Scan:
    return look(platform, now=datetime.now(UTC), max_concurrency=max_concurrency, requested=asked)


def taken_by_another(platform: Platform, due: Due) -> LeftOut:
    """Say who has a due record whose claim this command lost."""
    newest = next(iter(platform.ci.attempts(due.config_id, limit=1)), None)
    who = "another scanner" if newest is None else f"{newest.owner} as {newest.run_id}"
    return LeftOut(due.config_id, Omission.RUNNING, f"taken by {who}")
