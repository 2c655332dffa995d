"""`mlcc catalog`: what the catalog declares, and whether it is sound."""

from pathlib import Path
from typing import Annotated

import typer

from mlcc_dagster.cli.help_pages import examples, show_help


def add_to(app: typer.Typer) -> None:
    """Add the `catalog` group to the command line."""
    group = typer.Typer(rich_markup_mode=None)
    group.callback(invoke_without_command=True, epilog=examples("mlcc catalog list", "mlcc catalog validate"))(overview)
    group.command("list", epilog=examples("mlcc catalog list --tier local", "mlcc catalog list --json"))(list_entries)
    group.command("validate", epilog=examples("mlcc catalog validate", "mlcc catalog validate ./my-catalog --json"))(
        validate
    )
    app.add_typer(group, name="catalog")


def overview(context: typer.Context) -> None:
    """What the catalog declares, and whether it is sound."""
    show_help(context)


def list_entries(
    tier: Annotated[str | None, typer.Option(help="Only the entries of this tier.")] = None,
    executor: Annotated[str | None, typer.Option(help="Executor to ask (default: the home's).")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List catalog entries, and whether they run here.

    Each with its tier, config_id and configuration; where the executor cannot run it, the reason.
    """
    from catalog.loader import load_catalog
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.opening import executor_name
    from mlcc_dagster.cli.targets import tier_entries
    from mlcc_dagster.core.identity import config_id
    from mlcc_dagster.core.resolution import configuration_of
    from resources.home import Home
    from resources.platform import open_executor

    catalog = load_catalog()
    entries = catalog.entries if tier is None else tier_entries(catalog, tier)
    home = Home.current()
    performer = open_executor(executor_name(executor, home), home)
    rows = []
    for entry in entries:
        configuration = configuration_of(entry, catalog)
        refusal = performer.can_run(configuration)
        rows.append(
            {
                "id": entry.id,
                "tier": entry.tier,
                "config_id": config_id(configuration),
                "configuration": str(configuration),
                "tp_degree": configuration.tp_degree,
                "expected_failure": entry.expected_failure,
                "runs_here": refusal is None,
                "reason": refusal,
            }
        )
    if json:
        console.print_json({"executor": performer.name, "entries": rows})
        return
    here = sum(row["runs_here"] for row in rows)
    console.print_table(
        f"{console.counted(len(rows), 'catalog entry', 'catalog entries')}, {here} of them run with executor {performer.name}",
        ["id", "tier", "config_id", "configuration", "runs here"],
        ([r["id"], r["tier"], r["config_id"], r["configuration"], r["reason"] or "yes"] for r in rows),
    )


def validate(
    path: Annotated[
        Path | None, typer.Argument(help="Folder with catalog files (default: the installed catalog).")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check a catalog and report every mistake at once.

    Exit 0 when it is sound, 2 when there is a mistake. Nothing is run and nothing is written.
    """
    from catalog.errors import CatalogError
    from catalog.loader import load_catalog
    from mlcc_dagster.cli import console
    from mlcc_dagster.core.exceptions import UsageError

    if path is not None and not path.is_dir():
        raise UsageError(f"there is no folder {path}; name one with the files that docs/catalog.md lists")
    try:
        catalog = load_catalog(path)
    except CatalogError as error:
        if not json:
            raise
        console.print_json({"valid": False, "problems": list(error.problems), "counts": None})
        raise typer.Exit(error.exit_code) from None
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
