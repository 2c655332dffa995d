"""`mlcc coverage`, `gaps`, `sql`: what is proven, what is missing, and any question in SQL. None of them imports Dagster."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from resources.survey import Survey


def add_to(app: typer.Typer) -> None:
    """Add the commands on evidence to the command line."""
    for command in (coverage, gaps, sql):
        app.command()(command)


def coverage(
    by: Annotated[
        str, typer.Option(help="Two dimensions to cross, comma separated.")
    ] = "deployment_config,model_family",
    executor: Annotated[str | None, typer.Option(help="Whose reach is the universe (default: the home's).")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show what is proven of what the catalog and the executor make possible: counts first, then percent.

    Examples: [bold]mlcc coverage[/bold], [bold]mlcc coverage --by model_family,deployment_target --json[/bold]
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.core.coverage import matrix, percent_text
    from mlcc_dagster.core.exceptions import UsageError

    names = [name.strip() for name in by.split(",")]
    if len(names) != 2:
        raise UsageError(f"--by takes two dimensions separated by a comma, not '{by}'")
    survey = take_survey(executor)
    found = survey.coverage
    crossed = matrix(found, *names)
    shares = {"tested": found.tested_share, "passing": found.passing_share, "proven": found.proven_share}
    counts = {
        name: len(getattr(found, name)) for name in ("possible", "proven", "failed", "unfeasible", "untested", "stale")
    }
    if json:
        console.print_json(
            {
                "executor": survey.executor.name,
                "counts": counts | {"outside": len(found.outside)},
                "shares": {name: {"numerator": n, "denominator": d} for name, (n, d) in shares.items()},
                "proofs_by_executor": dict(found.proofs_by_executor),
                "matrix": {
                    "rows": names[0],
                    "columns": names[1],
                    "cells": [
                        {names[0]: row, names[1]: column, **cell.counts}
                        for (row, column), cell in crossed.cells.items()
                    ],
                },
            }
        )
        return
    console.print_table(
        f"Proven of possible, {names[0]} x {names[1]} (executor {survey.executor.name})",
        [names[0], *crossed.columns],
        (
            [
                row,
                *(
                    f"{len(c.proven)}/{c.possible}" if (c := crossed.cell(row, column)).possible else ""
                    for column in crossed.columns
                ),
            ]
            for row in crossed.rows
        ),
        right=crossed.columns,
    )
    console.say(" | ".join(f"{n} {name}" for name, n in counts.items()))
    console.say(" | ".join(f"{name} {n}/{d} = {percent_text((n, d))}" for name, (n, d) in shares.items()))
    if found.outside:
        console.say(f"{len(found.outside)} vectors with evidence lie outside of what is possible here")


def gaps(
    universe: Annotated[
        str,
        typer.Option(help="catalog: what the executor can run; observed: the product of all values in the results."),
    ] = "catalog",
    limit: Annotated[int, typer.Option(help="How many to list; 0 means all.")] = 20,
    executor: Annotated[
        str | None, typer.Option(help="Whose reach is the catalog universe (default: the home's).")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List what nobody has proven, best supported first: neighbours are proven configurations one value away.

    Examples: [bold]mlcc gaps[/bold], [bold]mlcc gaps --universe observed --limit 0 --json[/bold]
    """
    from itertools import islice

    from mlcc_dagster.cli import console
    from mlcc_dagster.core.configuration import DIMENSIONS
    from mlcc_dagster.core.exceptions import UsageError

    if universe not in {"catalog", "observed"}:
        raise UsageError(f"no universe '{universe}'; use catalog or observed")
    if limit < 0:
        raise UsageError(f"--limit must be 0 (all) or more, not {limit}")
    survey = take_survey(executor)
    if universe == "catalog":
        total, found = len(survey.gaps), iter(survey.gaps)
    else:
        total, found = len(survey.observed), survey.observed.explained(survey.standing, now=survey.taken_at)
    shown = list(found if limit == 0 else islice(found, limit))
    rows = [
        dict(zip(DIMENSIONS, gap.vector.values(), strict=True))
        | {"neighbours": gap.neighbours, "reason": gap.reason.value}
        for gap in shown
    ]
    if json:
        console.print_json({"universe": universe, "total": total, "gaps": rows})
        return
    columns = [*DIMENSIONS, "neighbours", "reason"]
    console.print_table(
        f"{total} gaps in the {universe} universe", columns, ([*row.values()] for row in rows), right=["neighbours"]
    )
    if len(rows) < total:
        console.say(f"{len(rows)} of {total} shown; --limit 0 lists all")


def take_survey(executor: str | None) -> "Survey":
    """Look at the store of the current home, warning of every file that had to be left out."""
    from mlcc_dagster.cli import console
    from resources.platform import Platform
    from resources.survey import Survey

    platform = Platform.open(executor=executor)
    survey = Survey.take(platform.store, platform.catalog, platform.executor)
    for path, why in survey.snapshot.skipped:
        console.warn(f"{path} was left out: {why}")
    return survey


def sql(
    query: Annotated[str, typer.Argument(help="One SELECT; the table is mlcc_ci.benchmark_results.")],
    format: Annotated[str, typer.Option(help="table, csv or json.")] = "table",
    json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Ask the results in SQL (Athena's dialect). Read-only: it reaches no file and no network.

    Example: [bold]mlcc sql "SELECT status, count(*) AS n FROM mlcc_ci.benchmark_results GROUP BY status"[/bold]
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.core.exceptions import UsageError
    from resources.ci_table import SqliteCiTable
    from resources.home import Home
    from resources.result_store import ResultStore
    from resources.sql_engine import SqlEngine

    form = "json" if json else format
    if form not in {"table", "csv", "json"}:
        raise UsageError(f"no format '{format}'; use table, csv or json")
    home = Home.current().ensure()
    store = ResultStore(home.results, SqliteCiTable(home.database).fenced_out)
    engine = SqlEngine(store, seconds=home.settings.sql_seconds, memory_mb=home.settings.sql_memory_mb)
    table = engine.query(query)
    for path, why in store.snapshot().skipped:
        console.warn(f"{path} was left out: {why}")
    rows = table.to_pylist()
    if form == "json":
        console.print_json(rows)
    elif form == "csv":
        import csv
        import sys

        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(table.column_names)
        writer.writerows(row.values() for row in rows)
    else:
        console.print_table(f"{len(rows)} rows", table.column_names, ([*row.values()] for row in rows))
