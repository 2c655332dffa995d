"""`mlcc catalog`: what the catalog declares, whether it is sound, and entries that come from elsewhere or go there."""

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
    group.command(
        "import", epilog=examples("mlcc catalog import e2e-catalog.json", "mlcc catalog import e2e-catalog.json --json")
    )(import_file)
    group.command("export", epilog=examples("mlcc catalog export --tier ci", "mlcc catalog export e2e-catalog.json"))(
        export
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

    Each with its tier, config_id and configuration; how many of its last 20 runs passed its gate, with the 95 % interval;
    where the executor cannot run it, the reason.
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.opening import executor_name, home_of
    from mlcc_dagster.cli.targets import tier_entries
    from mlcc_dagster.core.identity import config_id
    from mlcc_dagster.core.resolution import configuration_of
    from resources.ci_lines import confidences
    from resources.home import Home
    from resources.home_catalog import catalog_of
    from resources.platform import open_executor
    from resources.sqlite_ci_table import SqliteCiTable

    home = Home.current()
    catalog = catalog_of(home)
    entries = catalog.entries if tier is None else tier_entries(catalog, tier)
    performer = open_executor(executor_name(executor, home), home)
    asked = home_of(executor)
    known = confidences(SqliteCiTable(asked.database)) if asked.exists() else {}
    rows = []
    for entry in entries:
        configuration = configuration_of(entry, catalog)
        refusal = performer.can_run(configuration)
        key = config_id(configuration)
        rows.append(
            {
                "id": entry.id,
                "tier": entry.tier,
                "config_id": key,
                "configuration": str(configuration),
                "tp_degree": configuration.tp_degree,
                "expected_failure": entry.expected_failure,
                "confidence": known[key].to_json() if key in known else None,
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
        ["id", "tier", "config_id", "configuration", "last 20 runs", "runs here"],
        (
            [r["id"], r["tier"], r["config_id"], r["configuration"], known.get(r["config_id"]), r["reason"] or "yes"]
            for r in rows
        ),
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


def import_file(
    file: Annotated[Path, typer.Argument(help='A file of the JSON form: {"configs": [...]}.')],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Take catalog entries of the JSON form into this home.

    All are taken in or none: every mistake is reported at once. The same file again changes nothing; a changed entry
    replaces what was imported before. What is shipped is never changed.
    """
    from catalog.json_entries import read_json_entries
    from catalog.loader import load_catalog
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.input_files import text_of
    from resources.home import Home
    from resources.home_catalog import import_entries

    home = Home.current()
    text = text_of(file, "a catalog in the JSON form")
    done = import_entries(home, read_json_entries(text, load_catalog(), source=str(file)), source=str(file))
    if json:
        console.print_json(
            {
                "file": str(file),
                "home": str(home.root),
                "added": list(done.added),
                "changed": list(done.changed),
                "unchanged": list(done.unchanged),
            }
        )
        return
    for action, ids in (("added", done.added), ("changed", done.changed), ("unchanged", done.unchanged)):
        named = f": {', '.join(ids)}" if ids else ""
        console.say(f"{action} {console.counted(len(ids), 'entry', 'entries')}{named}")


def export(
    file: Annotated[Path | None, typer.Argument(help="Where to write (default: standard output).")] = None,
    tier: Annotated[str | None, typer.Option(help="Only the entries of this tier.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Say as one JSON document what was written.")] = False,
) -> None:
    """Write catalog entries in the JSON form.

    Those that the form cannot hold are left out, each with the reason; what is written reads back as it is. Exit 1 when
    nothing could be written.
    """
    from catalog.json_entries import json_document
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.targets import tier_entries
    from resources.home import Home
    from resources.home_catalog import catalog_of

    catalog = catalog_of(Home.current())
    document, left_out = json_document(catalog.entries if tier is None else tier_entries(catalog, tier), catalog)
    written = [config["id"] for config in document["configs"]]
    if file is not None and written:
        _write_json(file, document)
    if file is not None and json:
        console.print_json({"file": str(file), "written": written, "left_out": left_out})
    else:
        for entry_id, reason in left_out.items():
            console.warn(f"{entry_id} left out: {reason}")
        if file is None:
            console.print_json(document)
        elif written:
            console.say(f"{console.counted(len(written), 'entry', 'entries')} written to {file}")
    raise typer.Exit(0 if written else 1)


def _write_json(file: Path, document: object) -> None:
    import json

    from mlcc_dagster.core.exceptions import UsageError

    try:
        file.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {file} ({error.strerror}); name a file that you can write") from error
