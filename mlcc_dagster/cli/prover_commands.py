"""`mlcc path-prove` and `mlcc plan`: fill the gaps that a budget affords, re-planning after each result; or only say which."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlcc_dagster.cli.help_pages import examples

if TYPE_CHECKING:
    from mlcc_dagster.core.targets import TargetList
    from resources.platform import Platform
    from resources.prover import Execution


def add_to(app: typer.Typer) -> None:
    """Add the prover's commands to the command line."""
    app.command(
        "path-prove", epilog=examples("mlcc path-prove --dry-run", "mlcc path-prove --max-proves 2 --max-cost 0.5")
    )(path_prove)
    app.command(epilog=examples("mlcc plan", "mlcc plan --strategy neighbours --max-cost 5 --json"))(plan)


MaxProves = Annotated[int, typer.Option(help="Most configurations to prove.")]
MaxCost = Annotated[float, typer.Option(help="Most USD to spend, promised money included.")]
Targets = Annotated[
    Path | None, typer.Option(help="YAML or JSON file of priority targets, which are proven before any other gap.")
]
StrategyName = Annotated[str, typer.Option(help="How gaps are chosen: expected-gain or neighbours.")]
ExecutorName = Annotated[str | None, typer.Option(help="Executor (default: the home's).")]
Limit = Annotated[int, typer.Option(help="Gaps that are left out to show with their reasons; 0 shows all.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def path_prove(
    max_proves: MaxProves = 10,
    max_cost: MaxCost = 50.0,
    targets: Targets = None,
    strategy: StrategyName = "expected-gain",
    executor: ExecutorName = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, start nothing, promise nothing.")] = False,
    limit: Limit = 20,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show Dagster's log of each run.")] = False,
    json: AsJson = False,
) -> None:
    """Prove the gaps that teach most within a budget.

    Each is a whole lifecycle run with run_type path_prove; the plan is made anew after each result. Exit 0 when every proof
    succeeded (or there was no gap), 1 when one failed, 2 when the request is unusable.
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.opening import open_platform
    from mlcc_dagster.cli.proving import run_execution

    execution = execution_asked(max_proves, max_cost, targets, strategy, limit)
    platform = open_platform(executor, to_read=dry_run)
    if dry_run:
        show_plan(platform, execution, limit=limit, json=json)
        return
    warn_of_targets(platform, execution)
    report = run_execution(platform, execution, verbose=verbose, show=not json)
    if json:
        console.print_json(report.to_json())
    else:
        report.show()
    raise typer.Exit(report.exit_code)


def plan(
    max_proves: MaxProves = 10,
    max_cost: MaxCost = 50.0,
    targets: Targets = None,
    strategy: StrategyName = "expected-gain",
    executor: ExecutorName = None,
    limit: Limit = 20,
    json: AsJson = False,
) -> None:
    """Show which gaps would be proven within a budget, and why.

    Per pick the odds that its run proves it, the pairs of values it would newly cover, what it is expected to cost and the most
    it can cost. Starts nothing and promises nothing.
    """
    from mlcc_dagster.cli.opening import open_platform

    execution = execution_asked(max_proves, max_cost, targets, strategy, limit)
    show_plan(open_platform(executor, to_read=True), execution, limit=limit, json=json)


def execution_asked(max_proves: int, max_cost: float, targets: Path | None, strategy: str, limit: int) -> "Execution":
    """Return the execution that a command line asks for. Raises `InvalidInput` with all mistakes of its bounds or of the
    targets' file, `UsageError` for an unknown strategy."""
    from datetime import UTC, datetime

    from mlcc_dagster.core.budget import MOST_USD
    from mlcc_dagster.core.exceptions import InvalidInput
    from mlcc_dagster.core.planning import strategy_named
    from resources.prover import Execution

    problems = []
    if max_proves < 1:
        problems.append(f"--max-proves must be 1 or more, not {max_proves}")
    if not 0 < max_cost <= MOST_USD:
        problems.append(f"--max-cost must be above 0 and at most {MOST_USD:.0f} USD, not {max_cost}")
    if limit < 0:
        problems.append(f"--limit must be 0 or more, not {limit}")
    if problems:
        raise InvalidInput("the request", problems)
    strategy_named(strategy)
    wanted = targets_in(targets)
    now = datetime.now(UTC)
    return Execution.of_moment(now, max_proves=max_proves, max_usd=max_cost, strategy=strategy, targets=wanted)


def warn_of_targets(platform: "Platform", execution: "Execution") -> None:
    """Warn of every priority target that cannot run here."""
    from mlcc_dagster.cli import console
    from mlcc_dagster.core.resolution import Unresolved
    from resources.prover import open_targets
    from resources.survey import Survey

    for target, configuration in open_targets(platform, Survey.take(platform), execution.targets):
        if isinstance(configuration, Unresolved):
            console.warn(f"priority target {target} is left out: {configuration.reason}")


def show_plan(platform: "Platform", execution: "Execution", *, limit: int, json: bool) -> None:
    """Print the plan of an execution that has not begun, with the first `limit` gaps that are left out (0: all)."""
    from mlcc_dagster.cli import console
    from mlcc_dagster.core.coverage import percent_text
    from resources.prover import make_plan
    from resources.survey import Survey

    warn_of_targets(platform, execution)
    survey = Survey.take(platform)
    planned = make_plan(platform, survey, execution)
    if json:
        bounds = {"max_proves": execution.max_proves, "max_usd": execution.max_usd}
        document = planned.to_json()
        document["left_out"] = document["left_out"][: limit or None]
        total = {"gaps": len(survey.gaps), "left_out_total": len(planned.left_out)}
        console.print_json({"started": False, **bounds, **total, **document})
        return
    covered = survey.interactions(2).share
    picks = planned.picks
    expected, most = (sum(getattr(p.candidate, name) for p in picks) for name in ("expected_usd", "promised_usd"))
    below = []
    if picks:
        below = [
            f"{planned.objective:.2f} new pairs expected for {expected:.4f} USD, {most:.4f} USD at most "
            f"(pairs covered now {covered[0]}/{covered[1]} = {percent_text(covered)})",
            f"no affordable choice is expected to cover more than {planned.upper_bound:.2f}: "
            f"this one reaches at least {math.floor(100 * planned.proven_ratio)} % of the best",
        ]
    below += [f"pick {pick.rank} {pick.waits}" for pick in picks if pick.waits]
    left_out = list(planned.left_out.items())
    below += [f"left out {vector}: {why}" for vector, why in left_out[: limit or None]]
    if 0 < limit < len(left_out):
        below.append(f"{len(left_out) - limit} more are left out; --limit 0 shows all")
    console.print_table(
        f"{len(picks)} of {len(survey.gaps)} gaps would be proven (nothing was started)",
        ["rank", "configuration", "odds", "new pairs", "USD", "at most USD", "why", "weakest"],
        (
            [
                pick.rank,
                str(pick.candidate.configuration),
                f"{pick.odds:.2f}",
                f"{pick.new:.1f}",
                f"{pick.candidate.expected_usd:.4f}",
                f"{pick.candidate.promised_usd:.4f}",
                pick.why,
                pick.doubt,
            ]
            for pick in picks
        ),
        right=["rank", "odds", "new pairs", "USD", "at most USD"],
        below=below,
    )


def targets_in(path: Path | None) -> "TargetList | None":
    """Read a file of priority targets, none where none is named; raises `InvalidInput` with all its mistakes."""
    if path is None:
        return None
    from catalog.reading import read_yaml
    from mlcc_dagster.core.exceptions import InvalidInput, UsageError
    from mlcc_dagster.core.targets import read_targets

    if not path.is_file():
        raise UsageError(f"--targets: there is no file {path}; name an existing one")
    problems: list[str] = []
    document = read_yaml(path, problems)
    if problems:
        raise InvalidInput(str(path), problems)
    return read_targets(document, source=str(path))
