"""`mlcc ci report` and `mlcc ci status`: what the CI table says. Neither imports Dagster, and neither makes a home by asking.

Belongs here: asking and showing. Not here: what is counted (`core.ci_report`), reading the table (`resources.ci_lines`),
changing records (`registration_commands.py`).
"""

from typing import TYPE_CHECKING, Annotated

import typer

from mlcc_dagster.cli.help_pages import examples

if TYPE_CHECKING:
    from mlcc_dagster.core.ci_report import Report
    from resources.ci_table import CiTable

Executor = Annotated[
    str | None, typer.Option(help="Whose home is asked (default: the home's; replay has a home of its own).")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def add_to(group: typer.Typer) -> None:
    """Add the two commands to the `ci` group."""
    group.command(epilog=examples("mlcc ci report", "mlcc ci report --by deployment-config", "mlcc ci report --json"))(
        report
    )
    group.command(epilog=examples("mlcc ci status", "mlcc ci status --json"))(status)


def report(
    by: Annotated[
        str, typer.Option(metavar="WHAT", help="A line per configuration, or per known deployment-config.")
    ] = "configuration",
    executor: Executor = None,
    json: Json = False,
) -> None:
    """Show how the last tests ended, and what regressed.

    A line for every configuration, or for every known deployment config. A configuration regressed when its latest result
    fails after a pass. One that fails and passes again without any change is known to be flaky, and its failure likely a
    flake while that many failures in a row are likely for it.

    Exit 0 when all is well, 1 when a configuration regressed, or fails and not as its catalog entry expects.
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.core.ci_report import By, by_configuration, by_deployment_config
    from mlcc_dagster.core.exceptions import UsageError
    from resources.ci_lines import read_lines
    from resources.home import Home
    from resources.home_catalog import catalog_of

    if by not in list(By):
        raise UsageError(f"--by cannot be '{by}'; use one of {', '.join(By)}")
    table = table_of(executor)
    catalog = catalog_of(Home.current())
    lines = () if table is None else read_lines(table, catalog)
    if by == By.DEPLOYMENT_CONFIG:
        places = {c.name: c.report_order for c in catalog.deployment_configs.values() if c.report_order is not None}
        found = by_deployment_config(lines, sorted(places, key=lambda name: places[name]))
    else:
        found = by_configuration(lines, tiers=list(catalog.tiers))
    if json:
        console.print_json(found.to_json())
    else:
        show(found)
    raise typer.Exit(1 if found.failed else 0)


def status(executor: Executor = None, json: Json = False) -> None:
    """Count configurations by how their last test ended.

    Also named are the test that ended last, and what runs with a lease that is over.
    """
    from datetime import UTC, datetime

    from mlcc_dagster.cli import console
    from resources.ci_lines import CiStatus, read_status
    from resources.home import Home
    from resources.home_catalog import catalog_of

    table = table_of(executor)
    found = (
        CiStatus(0, 0, 0, 0, 0, (), None)
        if table is None
        else read_status(table, catalog_of(Home.current()), now=datetime.now(UTC))
    )
    if json:
        console.print_json(found.to_json())
        return
    console.say(
        f"{found.total} total | {found.running} running | {found.passing} passing | {found.failing} failing | "
        f"{found.untested} untested"
    )
    last = found.last_completed
    console.say(
        f"last completed: {last['name']} {last['testStatus']} at {last['at']}" if last else "none completed yet"
    )
    if found.leases_over:
        console.say(f"running with a lease that is over: {', '.join(found.leases_over)}; `mlcc reap` frees them")


def table_of(executor: str | None) -> "CiTable | None":
    """Return the CI table of the command's home, none (and a warning) where there is no home yet."""
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.budget_commands import is_made
    from mlcc_dagster.cli.opening import home_of
    from resources.sqlite_ci_table import SqliteCiTable

    home = home_of(executor)
    if is_made(home):
        return SqliteCiTable(home.database)
    console.warn(f"there is no home {home.root} yet; `mlcc run --tier local` makes it, MLCC_HOME names another")
    return None


def show(found: "Report") -> None:
    """Print a report: its table, the notes, and the summary line last."""
    from mlcc_dagster.cli import console
    from mlcc_dagster.core.ci_report import By

    below = [*found.notes, found.summary.text]
    if found.summary.by is By.DEPLOYMENT_CONFIG:
        columns = ["Config", "Status", "Project", "Last Test", "Duration"]
        rows = [[r.name, r.status_text, r.project, r.last_test, _seconds(r.duration_seconds)] for r in found.rows]
        console.print_table("by deployment config", columns, rows, right=["Duration"], below=below)
        return
    columns = ["Tier", "Config", "Status", "Last Test", "Duration", "Last 20 Runs"]
    rows = [
        [r.tier, r.name, r.status_text, r.last_test, _seconds(r.duration_seconds), r.confidence] for r in found.rows
    ]
    title = "by configuration" if rows else "no configuration is registered; `mlcc run` registers what it runs"
    console.print_table(title, columns, rows, right=["Duration"], below=below)


def _seconds(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds:.1f} s"
