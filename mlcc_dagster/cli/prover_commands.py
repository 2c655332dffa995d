"""`mlcc path-prove`: fill the gaps that a budget affords, re-planning after each result."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlcc_dagster.cli.help_pages import examples

if TYPE_CHECKING:
    from mlcc_dagster.core.targets import TargetList


def add_to(app: typer.Typer) -> None:
    """Add the prover's command to the command line."""
    app.command(
        "path-prove", epilog=examples("mlcc path-prove --dry-run", "mlcc path-prove --max-proves 2 --max-cost 0.5")
    )(path_prove)


def path_prove(
    max_proves: Annotated[int, typer.Option(help="Most configurations to prove.")] = 10,
    max_cost: Annotated[float, typer.Option(help="Most USD to spend, promised money included.")] = 50.0,
    targets: Annotated[
        Path | None, typer.Option(help="YAML or JSON file of priority targets, which are proven before any other gap.")
    ] = None,
    strategy: Annotated[str, typer.Option(help="How gaps are ranked: neighbours.")] = "neighbours",
    executor: Annotated[str | None, typer.Option(help="Executor (default: the home's).")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, start nothing, promise nothing.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show Dagster's log of each run.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Prove the gaps that teach most within a budget.

    Each is a whole lifecycle run with run_type path_prove. Exit 0 when every proof succeeded (or there was no gap), 1 when
    one failed, 2 when the request is unusable.
    """
    from datetime import UTC, datetime

    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.opening import open_platform
    from mlcc_dagster.cli.proving import run_execution
    from mlcc_dagster.core.exceptions import InvalidInput
    from mlcc_dagster.core.planning import strategy_named
    from mlcc_dagster.core.resolution import Unresolved
    from resources.prover import Execution, make_plan, open_targets
    from resources.survey import Survey

    problems = []
    if max_proves < 1:
        problems.append(f"--max-proves must be 1 or more, not {max_proves}")
    if not 0 < max_cost < float("inf"):
        problems.append(f"--max-cost must be above 0 USD, not {max_cost}")
    if problems:
        raise InvalidInput("the request", problems)
    strategy_named(strategy)
    wanted = targets_in(targets)
    platform = open_platform(executor, to_read=dry_run)
    execution = Execution.of_moment(
        datetime.now(UTC), max_proves=max_proves, max_usd=max_cost, strategy=strategy, targets=wanted
    )
    for target, configuration in open_targets(platform, Survey.take(platform), wanted):
        if isinstance(configuration, Unresolved):
            console.warn(f"priority target {target} is left out: {configuration.reason}")
    if not dry_run:
        report = run_execution(platform, execution, verbose=verbose, show=not json)
        if json:
            console.print_json(report.to_json())
        else:
            report.show()
        raise typer.Exit(report.exit_code)
    survey = Survey.take(platform)
    planned = make_plan(platform, survey, execution)
    rows = [
        {
            "rank": pick.rank,
            "configuration": str(pick.candidate.configuration),
            "config_id": pick.candidate.config_id,
            "promised_usd": pick.candidate.promised_usd,
            "why": pick.why,
        }
        for pick in planned.picks
    ]
    left_out = [{"vector": str(vector), "why": why} for vector, why in planned.left_out.items()]
    if json:
        console.print_json(
            {"started": False, "strategy": strategy, "ended_by": planned.ended_by, "picks": rows, "left_out": left_out}
        )
        return
    console.print_table(
        f"{len(rows)} of {len(survey.gaps)} gaps would be proven (nothing was started)",
        ["rank", "configuration", "at most USD", "why"],
        ([row["rank"], row["configuration"], f"{row['promised_usd']:.4f}", row["why"]] for row in rows),
        right=["rank", "at most USD"],
    )
    for row in left_out:
        console.say(f"left out {row['vector']}: {row['why']}")


def targets_in(path: Path | None) -> "TargetList | None":
    """Read a file of priority targets, none where none is named; raises `InvalidInput` with all its mistakes."""
    if path is None:
        return None
    from catalog.reading import read_yaml
    from mlcc_dagster.core.exceptions import InvalidInput
    from mlcc_dagster.core.targets import read_targets

    problems: list[str] = []
    document = read_yaml(path, problems)
    if problems:
        raise InvalidInput(str(path), problems)
    return read_targets(document, source=str(path))
