"""`mlcc run`: a tier or one configuration through the lifecycle, each run a Dagster run of this home."""

from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Add the run command to the command line."""
    app.command()(run)


def run(
    tier: Annotated[
        str | None, typer.Option(help="Run every configuration of this tier (local, ci, nightly, weekly).")
    ] = None,
    config: Annotated[
        str | None, typer.Option(help="Run one: a catalog id, a config_id, or a unique beginning.")
    ] = None,
    executor: Annotated[
        str | None, typer.Option(help="Executor (default: the home's; replay has a home of its own).")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, show the estimate, start nothing.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Open a new round instead of joining an unfinished one.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show Dagster's log of each run.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Run configurations through generate, build, deploy, test, benchmark and clean, and remember what they proved.

    Joins the open round of the tier: what another command or an earlier, interrupted one already finished is not run again.
    Exit 0 when all went as expected, 1 when something failed, 2 when the request is unusable.

    Examples: [bold]mlcc run --tier local[/bold], [bold]mlcc run --config local-fastapi-forest-1cpu --verbose[/bold],
    [bold]mlcc run --tier ci --dry-run[/bold]
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.rounds import Target, estimate, run_round
    from mlcc_dagster.cli.targets import one_configuration, tier_entries
    from mlcc_dagster.core.exceptions import UsageError
    from mlcc_dagster.core.identity import config_id
    from mlcc_dagster.core.resolution import configuration_of
    from resources.platform import Platform

    if (tier is None) == (config is None):
        raise UsageError("say what to run: either --tier NAME or --config ID")
    platform = Platform.open(executor=executor)
    if tier is not None:
        scope = tier
        entries = {config_id(configuration_of(e, platform.catalog)): e for e in tier_entries(platform.catalog, tier)}
        wanted = {key: configuration_of(entry, platform.catalog) for key, entry in entries.items()}
    else:
        key, configuration = one_configuration(platform, config or "")
        scope = f"config:{key}"
        entries = {}
        wanted = {key: configuration}
    names = {config_id(configuration_of(e, platform.catalog)): e for e in platform.catalog.entries}
    targets = [
        Target(
            config_id=key,
            name=names[key].id if key in names else key,
            configuration=configuration,
            refusal=platform.executor.can_run(configuration),
            expected_failure=names[key].expected_failure if key in names else None,
        )
        for key, configuration in wanted.items()
    ]
    forecast = estimate(platform, targets, tier)
    if dry_run:
        if json:
            console.print_json(forecast.to_json())
        else:
            console.print_table(
                f"Dry run of {tier or config} with executor {platform.executor.name}: nothing was started",
                ["configuration", "config_id", "what", "runs here", "about"],
                (
                    [
                        t.name,
                        t.config_id,
                        t.configuration,
                        t.refusal or "yes",
                        f"{forecast.seconds.get(t.config_id, 0):.0f} s",
                    ]
                    for t in targets
                ),
            )
            console.say(forecast.sentence)
        raise typer.Exit(0 if forecast.runnable else 1)
    refused = [target for target in targets if target.refusal]
    if len(refused) == len(targets):
        raise UsageError(
            f"executor {platform.executor.name} can run none of them: {refused[0].name}: {refused[0].refusal}"
        )
    if not json:
        for target in refused:
            console.warn(f"left out {target.name}: {target.refusal}")
        console.err().print(forecast.sentence, markup=False)
    report = run_round(platform, scope, targets, tier=tier, fresh=fresh, verbose=verbose, show=not json)
    if json:
        console.print_json(report.to_json())
    else:
        report.show()
    raise typer.Exit(report.exit_code)
