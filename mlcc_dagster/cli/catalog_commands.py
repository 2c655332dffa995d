"""`mlcc catalog`: what the catalog declares, and whether it is sound."""

from pathlib import Path
from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Add the `catalog` group to the command line."""
    group = typer.Typer(help="What the catalog declares.", no_args_is_help=True)
    group.command("list")(list_entries)
    group.command("validate")(validate)
    app.add_typer(group, name="catalog")


def list_entries(
    tier: Annotated[str | None, typer.Option(help="Only the entries of this tier.")] = None,
    executor: Annotated[str | None, typer.Option(help="Executor to ask (default: the home's).")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List catalog entries with their ids, and whether the executor can run them.

    Examples: [bold]mlcc catalog list --tier local[/bold], [bold]mlcc catalog list --json[/bold]
    """
    from catalog.loader import load_catalog
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.targets import tier_entries
    from mlcc_dagster.core.identity import config_id
    from mlcc_dagster.core.resolution import configuration_of
    from resources.home import Home
    from resources.platform import open_executor

    catalog = load_catalog()
    home = Home.current()
    performer = open_executor(executor or home.settings.executor, home)
    entries = catalog.entries if tier is None else tier_entries(catalog, tier)
    rows = []
    for entry in entries:
        configuration = configuration_of(entry, catalog)
        rows.append(
            {
                "id": entry.id,
                "tier": entry.tier,
                "config_id": config_id(configuration),
                "configuration": str(configuration),
                "tp_degree": configuration.tp_degree,
                "runs_here": performer.can_run(configuration) or "yes",
            }
        )
    if json:
        console.print_json({"executor": performer.name, "entries": rows})
        return
    console.print_table(
        f"{len(rows)} catalog entries",
        ["id", "tier", "config_id", "configuration", "runs here"],
        ([r["id"], r["tier"], r["config_id"], r["configuration"], r["runs_here"]] for r in rows),
    )


def validate(
    path: Annotated[
        Path | None, typer.Argument(help="Folder with catalog files (default: the installed catalog).")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check a catalog and report every mistake at once; exit 2 when there is one.

    Examples: [bold]mlcc catalog validate[/bold], [bold]mlcc catalog validate ./my-catalog --json[/bold]
    """
    from catalog.errors import CatalogError
    from catalog.loader import load_catalog
    from mlcc_dagster.cli import console

    try:
        catalog = load_catalog(path)
    except CatalogError as error:
        if not json:
            raise
        console.print_json({"valid": False, "problems": list(error.problems)})
        raise typer.Exit(2) from None
    counts = {
        "entries": len(catalog.entries),
        "deployment_configs": len(catalog.deployment_configs),
        "instances": len(catalog.instances),
        "models": len(catalog.models),
        "workloads": len(catalog.workloads),
        "constraints": len(catalog.constraints),
    }
    if json:
        console.print_json({"valid": True, "problems": [], "counts": counts})
    else:
        console.say("the catalog is sound: " + ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in counts.items()))
