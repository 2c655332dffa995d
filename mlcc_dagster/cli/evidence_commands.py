"""`mlcc coverage` and `gaps`: what is proven and what is missing. None of them imports Dagster.

Not here: questions in SQL (`sql_commands.py`), which are added beside them.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlcc_dagster.cli import sql_commands
from mlcc_dagster.cli.help_pages import examples

if TYPE_CHECKING:
    from mlcc_dagster.core.gaps import Gap
    from mlcc_dagster.core.interactions import InteractionCoverage
    from resources.survey import Survey

Results = Annotated[
    Path | None, typer.Option(help="Ask this .parquet, .csv or .json file of rows instead of the store.")
]
AsOf = Annotated[str | None, typer.Option(metavar="DATE", help="As it was at the end of that day, or at that time.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands on evidence to the command line."""
    app.command(
        epilog=examples(
            "mlcc coverage",
            "mlcc coverage --by model_family,deployment_target --json",
            "mlcc coverage --interactions 2 --as-of 2026-11-01",
        )
    )(coverage)
    app.command(
        epilog=examples(
            "mlcc gaps",
            "mlcc gaps --explain --limit 3",
            "mlcc gaps --universe observed --results results.csv --limit 0 --json",
        )
    )(gaps)
    sql_commands.add_to(app)


def coverage(
    by: Annotated[
        str, typer.Option(help="Two dimensions to cross, comma separated.")
    ] = "deployment_config,model_family",
    interactions: Annotated[
        int | None,
        typer.Option(metavar="T", help="Also the t-way combinations of values that proven vectors contain: 1, 2 or 3."),
    ] = None,
    limit: Annotated[int, typer.Option(help="How many missing combinations to list; 0 means all.")] = 20,
    results: Results = None,
    as_of: AsOf = None,
    executor: Annotated[str | None, typer.Option(help="Whose reach is the universe (default: the home's).")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show what is proven of what is possible.

    Possible is what the catalog's constraints admit and the executor can run. Each cell is proven/possible; a vector is
    proven when a run of it has completed.
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.surveys import take_survey
    from mlcc_dagster.core.configuration import DIMENSIONS
    from mlcc_dagster.core.coverage import matrix, percent_text
    from mlcc_dagster.core.exceptions import InvalidInput, UsageError

    names = [name.strip() for name in by.split(",")]
    problems = []
    if len(names) != 2 or len(set(names) & set(DIMENSIONS)) != 2:
        problems.append(
            f"--by takes two different dimensions and a comma, not '{by}'; use two of {', '.join(DIMENSIONS)}"
        )
    if interactions not in (None, 1, 2, 3):
        problems.append(f"--interactions takes 1, 2 or 3, not {interactions}")
    if limit < 0:
        problems.append(f"--limit cannot be {limit}; use 0 for all, or how many to list")
    if problems:
        raise UsageError(problems[0]) if len(problems) == 1 else InvalidInput("the request", problems)
    survey = take_survey(executor, results=results, as_of=as_of)
    found = survey.coverage
    crossed = matrix(found, *names)
    shares = {"tested": found.tested_share, "passing": found.passing_share, "proven": found.proven_share}
    counts = {
        name: len(getattr(found, name)) for name in ("possible", "proven", "failed", "unfeasible", "untested", "stale")
    }
    excluded = survey.universe.excluded
    crossing = survey.universe.size(*names)
    combined = survey.interactions(interactions) if interactions is not None else None
    if json:
        document = {
            "executor": survey.executor.name,
            "counts": counts | {"excluded": sum(excluded.values()), "outside": len(found.outside)},
            "excluded": [{"by": name, "vectors": number} for name, number in excluded.items()],
            "shares": {name: {"numerator": n, "denominator": d} for name, (n, d) in shares.items()},
            "proofs_by_executor": dict(found.proofs_by_executor),
            "matrix": {
                "rows": names[0],
                "columns": names[1],
                "cells": [
                    {names[0]: row, names[1]: column, **cell.counts, "excluded": crossing - cell.possible}
                    for (row, column), cell in crossed.cells.items()
                ],
            },
        }
        if combined is not None:
            document["interactions"] = interaction_document(combined, limit)
        console.print_json(document)
        return
    below = [
        " | ".join(f"{n} {name}" for name, n in counts.items()),
        " | ".join(f"{name} {n}/{d} = {percent_text((n, d))}" for name, (n, d) in shares.items()),
        f"{sum(excluded.values())} excluded: " + ", ".join(f"{n} by {name}" for name, n in excluded.items()),
    ]
    if found.outside:
        outside = console.counted(len(found.outside), "vector")
        below.append(f"{outside} with evidence, but outside of what this executor makes possible")
    console.print_table(
        f"proven of possible, {names[0]} x {names[1]} (executor {survey.executor.name})",
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
        below=below,
    )
    if combined is not None:
        show_interactions(combined, limit)


def interaction_document(found: "InteractionCoverage", limit: int) -> dict[str, Any]:
    """Return interaction coverage as JSON: the share, one per subset of dimensions, and the first missing ones."""
    covered, possible = found.share
    shown = found.missing[: limit or None]
    return {
        "strength": found.strength,
        "covered": covered,
        "possible": possible,
        "subsets": [
            {"dimensions": list(each.dimensions), "covered": each.covered, "possible": each.possible}
            for each in found.subsets
        ],
        "missing_total": len(found.missing),
        "missing": [each.to_json() for each in shown],
    }


def show_interactions(found: "InteractionCoverage", limit: int) -> None:
    """Print interaction coverage as a table of subsets, then the first missing combinations."""
    from mlcc_dagster.cli import console
    from mlcc_dagster.core.coverage import percent_text

    covered, possible = found.share
    console.print_table(
        f"{found.strength}-way combinations that proven vectors contain: {covered}/{possible} = "
        f"{percent_text(found.share)}",
        ["dimensions", "covered", "possible", "share"],
        ([" x ".join(e.dimensions), e.covered, e.possible, percent_text(e.share)] for e in found.subsets),
        right=["covered", "possible", "share"],
    )
    shown = found.missing[: limit or None]
    for each in shown:
        console.say(f"missing {each}")
    if len(shown) < len(found.missing):
        console.say(f"{len(shown)} of {len(found.missing)} missing ones shown; --limit 0 lists all")


def gaps(
    universe: Annotated[
        str,
        typer.Option(help="catalog: what the executor can run; observed: the product of all values in the results."),
    ] = "catalog",
    limit: Annotated[int, typer.Option(help="How many to list; 0 means all.")] = 20,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say what each reason rests on and which proven neighbours rank it.")
    ] = False,
    results: Results = None,
    as_of: AsOf = None,
    executor: Annotated[
        str | None, typer.Option(help="Whose reach is the catalog universe (default: the home's).")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List what nobody has proven, best supported first.

    Neighbours are proven vectors that differ in exactly one value; the reason says whether a run may be started.
    """
    from itertools import islice

    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.surveys import take_survey
    from mlcc_dagster.core.configuration import DIMENSIONS
    from mlcc_dagster.core.exceptions import UsageError

    if universe not in {"catalog", "observed"}:
        raise UsageError(f"no universe '{universe}'; use catalog or observed")
    if limit < 0:
        raise UsageError(f"--limit cannot be {limit}; use 0 for all, or how many to list")
    survey = take_survey(executor, results=results, as_of=as_of)
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
    explanations = [explanation(survey, gap) for gap in shown] if explain else []
    if json:
        if explain:
            rows = [row | more for row, more in zip(rows, explanations, strict=True)]
        console.print_json({"universe": universe, "total": total, "gaps": rows})
        return
    columns = [*DIMENSIONS, "neighbours", "reason"]
    console.print_table(
        f"{console.counted(total, 'gap')} in the {universe} universe (executor {survey.executor.name})",
        columns,
        ([*row.values()] for row in rows),
        right=["neighbours"],
        below=[f"{len(rows)} of {total} shown; --limit 0 lists all"] if len(rows) < total else [],
    )
    for rank, (gap, more) in enumerate(zip(shown, explanations, strict=False), start=1):
        console.say(f"{rank}. {gap.vector}: {gap.reason.value}, {gap.detail}")
        for neighbour in more["proven_neighbours"]:
            console.say(f"     proven with {neighbour['dimension']} {neighbour['proven']!r}")


def explanation(survey: "Survey", gap: "Gap") -> dict[str, Any]:
    """Return what a gap's reason rests on, and the proven vectors that its rank counts."""
    from mlcc_dagster.core.gaps import proven_neighbours

    return {
        "detail": gap.detail,
        "proven_neighbours": [
            {"dimension": name, "proven": getattr(vector, name)}
            for name, vector in proven_neighbours(gap.vector, survey.standing.proven)
        ],
    }
