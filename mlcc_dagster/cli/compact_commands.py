"""`mlcc compact`: merge the result files of closed days."""

from typing import TYPE_CHECKING, Annotated

import typer

from mlcc_dagster.cli.help_pages import examples

if TYPE_CHECKING:
    from resources.compaction import Compaction


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(epilog=examples("mlcc compact --dry-run", "mlcc compact"))(compact)


def compact(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be merged, change nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Merge the result files of closed days into sorted ones.

    The same rows, read many times faster. Readers and runs go on meanwhile; what was merged is removed an hour later at the
    earliest, by the next compaction. A schedule does this once a day.
    """
    from functools import partial

    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.opening import open_platform
    from resources import compaction

    platform = open_platform(to_read=True)
    done = compaction.compact(
        platform.store, unfinished=partial(compaction.unfinished_runs, platform.ci), dry_run=dry_run
    )
    for path, why in done.left_alone:
        console.warn(f"{path} is left as it is ({why})")
    if json:
        console.print_json(done.to_json())
    else:
        show(done)


def show(done: "Compaction") -> None:
    """Print what a compaction did in some lines."""
    from datetime import UTC, datetime

    from mlcc_dagster.cli import console

    if done.busy:
        console.say("another compaction is running; nothing was done")
        return
    would = "would be " if done.dry_run else ""
    if done.merges:
        files, folders = console.counted(done.merged_files, "file"), console.counted(len(done.merges), "folder")
        rows = "" if done.rows is None else f" ({console.counted(done.rows, 'row')})"
        console.say(f"{files} of closed days {would}merged in {folders}{rows}")
    else:
        console.say("nothing to merge: no folder has two files of closed days")
    if done.removed_files:
        console.say(f"{console.counted(done.removed_files, 'file')} {would}removed that were merged before")
    if done.waiting_until is not None:
        when = datetime.fromtimestamp(done.waiting_until, UTC)
        console.say(
            f"what was merged stays for those who still read it; from {when:%Y-%m-%d %H:%M} UTC on it can be removed"
        )
