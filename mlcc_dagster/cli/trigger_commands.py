"""`mlcc ci trigger`: look for due configurations now, and run them."""

from typing import Annotated

import typer

from mlcc_dagster.cli.help_pages import examples


def add_to(group: typer.Typer) -> None:
    """Add the command to the `ci` group."""
    group.command(epilog=examples("mlcc ci trigger", "mlcc ci trigger --dry-run", "mlcc ci trigger --json"))(trigger)


def trigger(
    max_concurrency: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Runs of scans at once in this home (default: setting scan_max_concurrency, 1)."
        ),
    ] = None,
    executor: Annotated[str | None, typer.Option(help="Executor (default: the home's).")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what is due and why, start nothing.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show Dagster's log of each run.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Scan the registered configurations and run what is due, oldest first.

    Due is what was never tested, what was tested too long ago (24 hours, the weekly tier 7 days), and what a dead owner left. This
    command runs one after the other; with N above 1 several commands and the scanner's sensor may work at the same time.

    Exit 0 when all went as expected or nothing was due, 1 when something failed, 2 when the request is unusable, 130 when
    interrupted.
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.opening import open_platform
    from mlcc_dagster.cli.scans import dry_scan, run_scan
    from mlcc_dagster.core.exceptions import UsageError

    if max_concurrency is not None and max_concurrency < 1:
        raise UsageError(f"--max-concurrency must be 1 or more, not {max_concurrency}")
    platform = open_platform(executor, to_read=dry_run)
    most = max_concurrency or platform.home.settings.scan_max_concurrency
    if dry_run:
        report = dry_scan(platform, max_concurrency=most)
    else:
        report = run_scan(platform, max_concurrency=most, verbose=verbose, show=not json)
    if json:
        console.print_json(report.to_json())
    else:
        report.show()
    raise typer.Exit(report.exit_code)
