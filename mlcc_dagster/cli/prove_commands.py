"""`mlcc prove`: a document of configurations run through its stages, its reports, and promotion into the catalog."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from mlcc_dagster.cli.help_pages import examples, show_help

if TYPE_CHECKING:
    from mlcc_dagster.core.prove_documents import Expansion
    from resources.home import Home
    from resources.prove_documents import Remembered

RUN = "run"
HELP = frozenset({"-h", "--help"})


class AnyOrder(TyperGroup):
    """A group whose commands may stand anywhere among their options, and whose command `run` needs not be named: so that
    `--dry-run` works in any position and `mlcc prove FILE` is enough."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command in front before the words are read as usual."""
        return super().parse_args(ctx, self._in_order(args))

    def _in_order(self, args: list[str]) -> list[str]:
        if not args or args[0] in HELP:
            return args
        with_value = {
            name
            for command in self.commands.values()
            for option in command.params
            for name in (*option.opts, *option.secondary_opts)
            if name.startswith("-") and not getattr(option, "is_flag", False)
        }
        position, words = 0, []
        while position < len(args) and args[position] != "--":
            words.append(position)
            position += 2 if args[position] in with_value else 1
        named = next((at for at in words if args[at] in self.commands), None)
        return [RUN, *args] if named is None else [args[named], *args[:named], *args[named + 1 :]]


def add_to(app: typer.Typer) -> None:
    """Add the `prove` group to the command line."""
    group = typer.Typer(rich_markup_mode=None, cls=AnyOrder)
    group.callback(
        invoke_without_command=True, epilog=examples("mlcc prove prove.json --dry-run", "mlcc prove prove.json")
    )(overview)
    group.command(
        RUN,
        epilog=examples(
            "mlcc prove run prove.json --dry-run", "mlcc prove run prove.json --instance-type ml.g5.2xlarge --json"
        ),
    )(run)
    group.command("report", epilog=examples("mlcc prove report", "mlcc prove report prove.json --json"))(report)
    group.command("status", epilog=examples("mlcc prove status", "mlcc prove status --json"))(status)
    group.command("sync", epilog=examples("mlcc prove sync --dry-run", "mlcc prove sync"))(sync)
    app.add_typer(group, name="prove")


def overview(context: typer.Context) -> None:
    """Run the configurations of a prove.json.

    `mlcc prove FILE` is short for `mlcc prove run FILE`; options may stand anywhere.
    """
    show_help(context)


ModelName = Annotated[str | None, typer.Option(metavar="NAME", help="Model in place of the base's.")]
DeploymentConfig = Annotated[
    str | None, typer.Option(metavar="NAME", help="Deployment configuration in place of the base's.")
]
InstanceType = Annotated[str | None, typer.Option(metavar="NAME", help="Instance type in place of the base's.")]
Quantization = Annotated[str | None, typer.Option(metavar="NAME", help="Quantization in place of the base's.")]
MaxModelLen = Annotated[int | None, typer.Option(metavar="N", help="Context length in place of the base's.")]
EnableLora = Annotated[
    bool | None, typer.Option("--enable-lora/--no-enable-lora", help="LoRA on or off in place of the base's.")
]
ExecutorName = Annotated[str | None, typer.Option(help="Executor (default: the home's; replay has a home of its own).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
OnlyTold = Annotated[bool, typer.Option("--dry-run", help="Accepted in any position; this command starts nothing.")]


def run(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The document, such as prove.json.")],
    model_name: ModelName = None,
    deployment_config: DeploymentConfig = None,
    instance_type: InstanceType = None,
    quantization: Quantization = None,
    max_model_len: MaxModelLen = None,
    enable_lora: EnableLora = None,
    concurrency: Annotated[int, typer.Option(metavar="N", help="How many configurations at a time.")] = 1,
    no_clean: Annotated[
        bool, typer.Option("--no-clean", help="Keep what passed deployed, at most for timeout_minutes.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the expansion with count, minutes and USD; start nothing.")
    ] = False,
    executor: ExecutorName = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show Dagster's log of each run.")] = False,
    json: AsJson = False,
) -> None:
    """Run every configuration of a document through its stages, as far as they are not proven yet.

    The same command again goes on: what passed is not run again, what failed is tried again, what preflight or a fact
    refutes is not. Options replace fields of the document's base. Exit 0 when every configuration passed, 1 when one did
    not, 2 when the request is unusable, 130 when interrupted.
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.opening import executor_name, home_of, open_platform
    from mlcc_dagster.cli.prove_rounds import DocumentForecast, run_document
    from mlcc_dagster.core.exceptions import UsageError
    from resources.home_catalog import catalog_of
    from resources.platform import open_executor
    from resources.prove_documents import asked_for
    from resources.prove_runs import prospects, refuse_what_cannot_begin

    if concurrency < 1:
        raise UsageError(f"--concurrency cannot be {concurrency}; use 1 or more")
    overrides = {
        "model_name": model_name,
        "deployment_config": deployment_config,
        "instance_type": instance_type,
        "quantization": quantization,
        "max_model_len": max_model_len,
        "enable_lora": enable_lora,
    }
    # All that can be wrong with the request is found before the home is opened, which would make it.
    expansion = expansion_of(file, {name: value for name, value in overrides.items() if value is not None})
    home = home_of(executor)
    slots = home.settings.slots
    if not dry_run:
        performer = open_executor(executor_name(executor, home), home)
        refuse_what_cannot_begin(expansion, catalog_of(home), performer)
    platform = open_platform(executor, to_read=dry_run)
    kept = asked_for(expansion, source=file.name, no_clean=no_clean)
    if dry_run:
        forecast = DocumentForecast(kept, prospects(platform, kept))
        if json:
            console.print_json(forecast.to_json())
        else:
            forecast.show(platform.executor.name)
        raise typer.Exit(0 if any(each.settled or each.to_run for each in forecast.prospects) else 1)
    if not json:
        for sentence in expansion.repeated:
            console.warn(sentence)
        if concurrency > slots:
            console.warn(
                f"this home has {console.counted(slots, 'deployment slot')}, so {slots} at a time instead of {concurrency}; "
                "raise slots in settings.yaml"
            )
    ended = run_document(platform, kept, concurrency=concurrency, verbose=verbose, show=not json)
    if json:
        console.print_json(ended.to_json())
    else:
        ended.show()
    raise typer.Exit(ended.exit_code)


def expansion_of(file: Path, overrides: Mapping[str, Any]) -> "Expansion":
    """Read a document and expand it, touching no home. Raises `InvalidInput` with all its mistakes, `UsageError` where it
    cannot be read."""
    from catalog.loader import load_catalog
    from mlcc_dagster.cli.input_files import text_of
    from mlcc_dagster.core.prove_documents import expand
    from mlcc_dagster.core.prove_reading import read_prove_document

    # Not a home's own catalog: what a document means must not change when a result of it is promoted.
    catalog = load_catalog()
    text = text_of(file, "a document such as prove.json")
    return expand(read_prove_document(text, catalog, source=str(file), overrides=overrides), catalog)


def report(
    file: Annotated[
        str | None, typer.Argument(metavar="FILE|NAME", help="A document or its name here (default: the last one run).")
    ] = None,
    executor: ExecutorName = None,
    dry_run: OnlyTold = False,
    json: AsJson = False,
) -> None:
    """Show how far the configurations of a document came.

    Exit 0 when every configuration passed, 1 when one did not or has not ended yet.
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.opening import home_of, open_platform
    from mlcc_dagster.cli.prove_rounds import report_of

    # A name that is none must not make a home.
    kept = _named(home_of(executor), file)
    told = report_of(open_platform(executor, to_read=True), kept)
    if json:
        console.print_json(told.to_json())
    else:
        told.show()
    raise typer.Exit(told.exit_code)


def _named(home: "Home", file: str | None) -> "Remembered":
    """Return the document that a person named: a file, a name of this home, or the last one that was run."""
    from mlcc_dagster.cli.prove_rounds import document_named
    from mlcc_dagster.core.exceptions import UsageError
    from resources.prove_documents import all_remembered, asked_for, remembered

    if file is None:
        known = all_remembered(home)
        if not known:
            raise UsageError("no document was run here yet; run one with `mlcc prove FILE`")
        return known[0]
    path = Path(file)
    if not path.exists() and (found := document_named(home, file)) is not None:
        return found
    expansion = expansion_of(path, {})
    # One that was never run has a report too: everything waits.
    return remembered(home, expansion.digest) or asked_for(expansion, source=path.name, no_clean=False)


def status(executor: ExecutorName = None, dry_run: OnlyTold = False, json: AsJson = False) -> None:
    """Show every document that was run here, and how many of its configurations passed, failed, run and wait."""
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.opening import open_platform
    from mlcc_dagster.cli.prove_rounds import report_of
    from resources.prove_documents import Standing, all_remembered

    platform = open_platform(executor, to_read=True)
    rows = []
    for kept in all_remembered(platform.home):
        told = report_of(platform, kept)
        counts = {each.value: sum(one.standing is each for one in told.progress) for each in Standing}
        rows.append(
            {
                "document": kept.digest,
                "source": kept.source,
                "last_asked_at": kept.at,
                "finished": told.finished,
                "count": len(told.progress),
                **counts,
                "spent_usd": told.spent_usd,
                "budget_usd": kept.expansion.document.budget_usd,
            }
        )
    if json:
        console.print_json({"documents": rows})
        return
    names = [each.value for each in Standing]
    console.print_table(
        f"{console.counted(len(rows), 'document')} run here",
        ["document", "source", "configurations", *names, "USD", "of USD"],
        (
            [
                row["document"],
                row["source"],
                row["count"],
                *(row[name] for name in names),
                f"{row['spent_usd']:.4f}",
                f"{row['budget_usd']:g}",
            ]
            for row in rows
        ),
        right=["configurations", *names, "USD", "of USD"],
    )


def sync(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be added.")] = False,
    json: AsJson = False,
) -> None:
    """Add the configurations that passed to this home's catalog, as entries of tier local or weekly.

    Of all documents that were run here. What the catalog has already stays as it is.
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.opening import executor_name
    from mlcc_dagster.core.exceptions import UsageError
    from resources.home import Home
    from resources.promotion import promote, promotion

    home = Home.current()
    if executor_name(None, home) == "replay":
        raise UsageError("what replay plays is no evidence for a catalog; unset MLCC_EXECUTOR or name another executor")
    found = promotion(home)
    if not dry_run:
        promote(home, found)
    if json:
        console.print_json({"home": str(home.root), "dry_run": dry_run, **found.to_json()})
        return
    for line in found.diff():
        console.say(line)
    for name, why in found.left_out.items():
        console.warn(f"{name} left out: {why}")
    console.say(
        f"{console.counted(len(found.entries), 'entry', 'entries')} {'would be ' if dry_run else ''}added, "
        f"{len(found.present)} there before, {len(found.left_out)} left out"
    )
