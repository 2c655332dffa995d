"""`mlcc logs`: what the stages of a run said. It does not import Dagster and makes no home by asking.

Belongs here: finding the run that is meant, and showing its logs as they are read. Not here: where logs lie
(`resources.stage_logs`), why one failed (`mlcc classify`).
"""

import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlcc_dagster.cli.help_pages import examples
from mlcc_dagster.core.exceptions import UsageError

if TYPE_CHECKING:
    from resources.ci_table import Attempt, CiTable
    from resources.home import Home
    from resources.stage_logs import StageLog

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
"""Seconds by the letter of a span such as `2h`."""


def add_to(app: typer.Typer) -> None:
    """Add the logs command to the command line."""
    app.command(
        epilog=examples(
            "mlcc logs local-fastapi-forest-1cpu",
            "mlcc logs 68ce4c631fd38fb7-g3 --stage deploy",
            "mlcc logs rt-qwen3-4b --since 2h --json",
        )
    )(logs)


def logs(
    what: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG|RUN", help="A catalog id, a config_id, a unique beginning of either, or a run id."
        ),
    ],
    stage: Annotated[str | None, typer.Option(help="Only this stage, in any of its spellings.")] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="T", help="Logs written to since then, of all its runs: 90s, 10m, 2h, 3d, 1w, or a time."),
    ] = None,
    executor: Annotated[
        str | None, typer.Option(help="Whose home is asked (default: the home's; replay has a home of its own).")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show what the stages of a run said.

    Of a configuration that is its newest run, stage by stage in their order. With --since all runs of the configuration
    that wrote a log since then, oldest first. A log is printed as it is read, whatever its length.
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.budget_commands import is_made
    from mlcc_dagster.cli.opening import home_of
    from mlcc_dagster.core.stages import stages_named
    from resources.sqlite_ci_table import SqliteCiTable

    stages = None if stage is None else {each.value for each in stages_named(stage)}
    moment = None if since is None else since_asked(since, datetime.now(UTC))
    home = home_of(executor)
    if not is_made(home):
        raise UsageError(f"there is no home {home.root} yet, so no logs; `mlcc run --tier local` makes it")
    runs = runs_asked(home, SqliteCiTable(home.database), what, newest=moment is None)
    chosen = [(run, chosen_logs(home, run, stages, moment)) for run in runs]
    chosen = [(run, found) for run, found in chosen if found or moment is None]
    if not any(found for _, found in chosen):
        refuse_or_explain(home, runs, stage, since)
    if json:
        write_json(chosen)
        return
    for run, found in chosen:
        for log in found:
            console.say(f"==> {run.run_id} {log.stage} <==")
            for line in log.lines():
                console.say(line)


def since_asked(text: str, now: datetime) -> datetime:
    """Read a span back from `now` (`90s`, `10m`, `2h`, `3d`, `1w`), or a day or a time, in UTC unless it says otherwise.

    Raises `UsageError`.
    """
    span = re.fullmatch(r"(\d{1,9})([smhdw])", text.strip())
    try:
        if span:
            return now - timedelta(seconds=int(span[1]) * UNITS[span[2]])
        moment = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise UsageError(
            f"--since takes a span (90s, 10m, 2h, 3d, 1w) or a time such as 2026-11-20T12:00, not '{text}'"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def runs_asked(home: "Home", table: "CiTable", what: str, *, newest: bool) -> "list[Attempt]":
    """Return the run that is named, or of the configuration that is named its newest run, else all of them, oldest first.

    Raises `UsageError` where there is no such run, no such configuration, or it never ran.
    """
    from mlcc_dagster.cli.targets import one_configuration, registered_configurations
    from resources.home import Home
    from resources.home_catalog import catalog_of
    from resources.stage_logs import RUN_ID

    if not what.strip():
        raise UsageError("neither a configuration nor a run was named; `mlcc catalog list` shows the configurations")
    if RUN_ID.fullmatch(what):
        run = table.attempt(what)
        if run is None:
            raise UsageError(f"no run '{what}' is known here; name its configuration to see the newest one")
        return [run]
    key, configuration = one_configuration(catalog_of(Home.current()), registered_configurations(home), what)
    runs = table.attempts(key, limit=1 if newest else None)
    if not runs:
        raise UsageError(f"{configuration} ({key}) never ran here; `mlcc run --config {key}` runs it")
    return sorted(runs, key=lambda run: run.generation)


def chosen_logs(home: "Home", run: "Attempt", stages: set[str] | None, moment: datetime | None) -> "list[StageLog]":
    """Return the logs of a run, only of these stages and written to since then where that is asked."""
    from resources.stage_logs import stage_logs

    return [
        log
        for log in stage_logs(home, run.run_id)
        if (stages is None or log.stage in stages) and (moment is None or last_written(run, log) >= moment)
    ]


def last_written(run: "Attempt", log: "StageLog") -> datetime:
    """Return when a stage ended, or where nobody noted that (it runs, it was cut off) when its file last changed: a home that
    is copied has all its files changed today."""
    from mlcc_dagster.core.outcome import StageResult
    from resources.lifecycle import ended_at

    document = run.stages.get(log.stage)
    return log.written_at if document is None else ended_at(StageResult.from_document(document))


def refuse_or_explain(home: "Home", runs: "Sequence[Attempt]", stage: str | None, since: str | None) -> None:
    """Say why there is nothing to show: on standard error where that is an answer, as `UsageError` where a stage was asked
    for that the run has no log of."""
    from mlcc_dagster.cli import console
    from resources.stage_logs import stage_logs

    last = runs[-1]
    kept = [log.stage for log in stage_logs(home, last.run_id)]
    if since is not None and kept:
        console.warn(f"nothing was logged since {since}; without --since the newest run {last.run_id} is shown")
    elif stage is not None and kept:
        raise UsageError(f"{last.run_id} has no log of stage {stage}; it has {', '.join(kept)}")
    else:
        why = f": {last.reason}" if last.reason else ""
        console.warn(f"{last.run_id} kept no log{why}")


def write_json(runs: "Sequence[tuple[Attempt, list[StageLog]]]") -> None:
    """Write one JSON document to standard output piece by piece, so that a long log never lies in memory."""
    import json

    from mlcc_dagster.core.records import utc_text

    write = sys.stdout.write
    write('{"runs": [')
    for number, (run, found) in enumerate(runs):
        write(f'{", " if number else ""}\n  {json.dumps(_about(run))[:-1]}, "logs": [')
        for place, log in enumerate(found):
            head = {"stage": log.stage, "path": str(log.path), "bytes": log.size}
            head |= {"written_at": utc_text(last_written(run, log))}
            write(f'{", " if place else ""}\n    {json.dumps(head)[:-1]}, "lines": [')
            for index, line in enumerate(log.lines()):
                write(f"{', ' if index else ''}\n      {json.dumps(line)}")
            write("]}")
        write("]}")
    write("]}\n")


def _about(run: "Attempt") -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "config_id": run.config_id,
        "state": run.state,
        "run_status": run.run_status,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "reason": run.reason,
    }
