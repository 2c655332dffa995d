"""`mlcc run`: a tier or one configuration through the lifecycle, each run a Dagster run of this home."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlcc_dagster.cli.help_pages import examples

if TYPE_CHECKING:
    from mlcc_dagster.cli.rounds import Forecast, Report, Target
    from resources.platform import Platform


def add_to(app: typer.Typer) -> None:
    """Add the run command to the command line."""
    app.command(
        epilog=examples(
            "mlcc run --tier local",
            "mlcc run --config local-fastapi-forest-1cpu --verbose",
            "mlcc run --tier ci --dry-run",
            "mlcc run --tier local --save-local ./artifacts",
        )
    )(run)


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
    save_local: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Also write the summary (one JSON, one Markdown file) into this folder."),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show Dagster's log of each run.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Run a tier or one configuration, and remember what it proved.

    Each configuration goes through generate, build, push, deploy, test, benchmark, register and clean, as a Dagster run of
    this home. Joins the open round of the tier: what another command or an earlier, interrupted one already finished is not
    run again. The summary of a tier's run is kept in the folder `summaries` of the home.

    Exit 0 when all went as expected, 1 when something failed, 2 when the request is unusable, 130 when interrupted.
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.opening import open_platform
    from mlcc_dagster.cli.rounds import estimate, run_round
    from mlcc_dagster.core.exceptions import UsageError
    from resources.tier_summaries import check_folder

    # All that can be wrong with the request is found before the home is opened, which would make it.
    scope, targets = requested(tier, config, executor)
    refused = [target for target in targets if target.refusal]
    if len(refused) == len(targets) and not dry_run:
        raise UsageError(
            f"none of them can run with this executor, so nothing was started: {refused[0].name} {refused[0].refusal}"
        )
    if save_local is not None:
        check_folder(save_local)
    platform = open_platform(executor, to_read=dry_run)
    forecast = estimate(platform, targets, tier)
    if dry_run:
        if json:
            console.print_json(forecast.to_json())
        else:
            console.print_table(
                f"dry run of {tier or config} with executor {platform.executor.name}: nothing was started",
                ["configuration", "config_id", "seconds", "runs here"],
                (
                    [t.name, t.config_id, _seconds(forecast.seconds.get(t.config_id)), t.refusal or t.refuted or "yes"]
                    for t in targets
                ),
                right=["seconds"],
                below=[forecast.sentence],
            )
        raise typer.Exit(0 if forecast.runnable else 1)
    if not json:
        for target in refused:
            console.warn(f"left out {target.name}: {target.refusal}")
        console.err().print(forecast.sentence, markup=False)
    report = run_round(platform, scope, targets, tier=tier, fresh=fresh, verbose=verbose, show=not json)
    report.estimated_usd = sum(forecast.usd.values())
    if json:
        console.print_json(report.to_json())
    else:
        report.show()
    for path in keep_summary(platform, scope, report, forecast, kept=tier is not None, save_local=save_local):
        if not json:
            console.err().print(f"summary: {path}", markup=False)
    raise typer.Exit(report.exit_code)


def keep_summary(
    platform: "Platform", scope: str, report: "Report", forecast: "Forecast", *, kept: bool, save_local: Path | None
) -> list[Path]:
    """Write the summary of a round into the home (where it is to be `kept`: a tier's) and into `save_local`, and return the
    paths of its files. What was run stays proven where a disk is full: that is one warning for each folder."""
    from mlcc_dagster.cli import console
    from resources.tier_summaries import summaries_folder, summarize, write_summary

    folders = [*([summaries_folder(platform.home)] if kept else []), *([save_local] if save_local is not None else [])]
    if not folders:
        return []
    summary = summarize(
        platform,
        report.round.id,
        scope=scope,
        members=[target.config_id for target in report.targets if target.refusal is None],
        estimated_usd=sum(forecast.usd.values()),
        estimated_seconds=sum(forecast.seconds.values()),
    )
    written: list[Path] = []
    for folder in folders:
        try:
            written += write_summary(folder, summary)
        except OSError as error:
            console.warn(f"the summary could not be written to {folder} ({error.strerror or error}); make room there")
    return written


def requested(tier: str | None, config: str | None, executor: str | None) -> "tuple[str, list[Target]]":
    """Return the scope of the round that was asked for and its configurations, without touching the home.

    Raises `UsageError` unless exactly one of tier and configuration is named, and exists.
    """
    from mlcc_dagster.cli.opening import executor_name, home_of
    from mlcc_dagster.cli.rounds import Target
    from mlcc_dagster.cli.targets import one_configuration, registered_configurations, tier_entries
    from mlcc_dagster.core.constraints import refusals
    from mlcc_dagster.core.exceptions import UsageError
    from mlcc_dagster.core.identity import config_id
    from mlcc_dagster.core.resolution import configuration_of
    from resources.home import Home
    from resources.home_catalog import catalog_of
    from resources.platform import open_executor

    if tier is None and config is None:
        raise UsageError("nothing was named to run; use --tier NAME or --config ID")
    if tier is not None and config is not None:
        raise UsageError("--tier and --config were both given; use one of them")
    catalog = catalog_of(Home.current())
    home = home_of(executor)
    entries = {config_id(configuration_of(entry, catalog)): entry for entry in catalog.entries}
    if tier is not None:
        scope = tier
        wanted = [configuration_of(entry, catalog) for entry in tier_entries(catalog, tier)]
    else:
        key, configuration = one_configuration(catalog, registered_configurations(home), config or "")
        scope = f"config:{key}"
        wanted = [configuration]
    performer = open_executor(executor_name(executor, home), home)
    targets = []
    for configuration in wanted:
        key = config_id(configuration)
        entry = entries.get(key)
        refuted = refusals(configuration, catalog)
        targets.append(
            Target(
                config_id=key,
                name=key if entry is None else entry.id,
                configuration=configuration,
                # What preflight refutes is run all the same: it ends at once with a verdict that costs nothing.
                refusal=None if refuted else performer.can_run(configuration),
                refuted=refuted[0].sentence if refuted else None,
                expected_failure=None if entry is None else entry.expected_failure,
            )
        )
    return scope, targets


def _seconds(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds:.0f}"
