"""`mlcc import` and `mlcc export`: results from elsewhere taken in, results of this home written out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlcc_dagster.cli.help_pages import examples

if TYPE_CHECKING:
    from resources.result_imports import ImportPlan

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def add_to(app: typer.Typer) -> None:
    """Add `import` and `export` to the command line."""
    app.command(
        "import",
        epilog=examples(
            "mlcc import athena.csv",
            "mlcc import results/ --set instance_type=ml.p5.48xlarge --set quantization=fp8 --dry-run",
            "mlcc import summary.json individual_responses.json --set tensor_parallel_degree=8 ...",
        ),
    )(import_results)
    app.command(
        "export",
        epilog=examples(
            "mlcc export results.csv",
            "mlcc export --format json --status completed",
            "mlcc export proven.parquet --run-type path_prove --family qwen3",
        ),
    )(export_results)


def import_results(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files or folders of results (also .gz).")],
    format: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Kind of the files: athena-export, aiperf, vllm-bench, guidellm, llmperf, inferencex (default: by content).",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="What the files do not say, such as quantization=fp8; repeatable."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be imported and change nothing.")] = False,
    json: AsJson = False,
) -> None:
    """Take in results that were measured elsewhere.

    Reads exports of the results table (CSV, Parquet, JSON), AIPerf, vLLM serving benchmarks, GuideLLM, LLMPerf and InferenceX,
    told apart by content. Metrics are computed again where a file has the raw requests. All is taken in or nothing: every
    mistake of every file is reported at once, and the same file again changes nothing.
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.opening import home_of, open_platform
    from mlcc_dagster.core.imports.settings import read_settings
    from resources.home import Home
    from resources.home_catalog import catalog_of
    from resources.result_imports import carry_out, plan_import
    from resources.result_store import ResultStore

    said = read_settings(settings or ())
    plan = plan_import(
        files,
        settings=said,
        catalog=catalog_of(Home.current()),
        # Not opened: a request with a mistake makes no home.
        store=ResultStore(home_of(None).results),
        format_name=format,
    )
    if not dry_run:
        platform = open_platform()
        with console.progress("runs imported", len(plan.new)) as advance:
            carry_out(plan, home=platform.home, store=platform.store, advance=advance)
    if json:
        console.print_json(document_of(plan, dry_run=dry_run))
    else:
        _show(plan, dry_run=dry_run)


def document_of(plan: "ImportPlan", *, dry_run: bool) -> dict[str, object]:
    """Return an import as one JSON document."""
    return {
        "dry_run": dry_run,
        "rows": plan.new_rows,
        "new_runs": len(plan.new),
        "unchanged_runs": len(plan.unchanged),
        "configurations": [{"config_id": key, "configuration": text} for key, text in plan.configurations.items()],
        "files": [each.to_json() for each in plan.files],
        "differences": [each.to_json() for each in plan.differences],
    }


def _show(plan: "ImportPlan", *, dry_run: bool) -> None:
    from mlcc_dagster.cli import console

    configurations = plan.configurations
    done = "would be imported" if dry_run else "imported"
    unchanged = f", {console.counted(len(plan.unchanged), 'run')} unchanged" if plan.unchanged else ""
    console.print_table(
        f"{console.counted(plan.new_rows, 'row')} {done} ({console.counted(len(plan.new), 'run')} of "
        f"{console.counted(len(configurations), 'configuration')}{unchanged})",
        ["file", "format", "rows", "configurations", "new runs", "kept", "left out"],
        (
            [
                each.path,
                each.format,
                each.rows,
                len(each.configurations),
                each.new_runs,
                console.counted(len(each.kept), "number"),
                "; ".join(each.left_out) or None,
            ]
            for each in plan.files
        ),
        right=["rows", "configurations", "new runs"],
    )
    for key, text in configurations.items():
        console.say(f"{key}  {text}")
    if plan.differences:
        console.say()
        console.print_table(
            f"{console.counted(len(plan.differences), 'number')} of a file's own summary that its raw requests do not give",
            ["where", "column", "reported", "recomputed", "why"],
            (
                [each.where, each.column, _short(each.reported), _short(each.recomputed), each.why]
                for each in plan.differences
            ),
            right=["reported", "recomputed"],
        )
    for remark in dict.fromkeys(f"{each.path}: {remark}" for each in plan.files for remark in each.remarks):
        console.say(remark)


def _short(value: float | None) -> str | None:
    return None if value is None else f"{value:.6g}"


def export_results(
    file: Annotated[Path | None, typer.Argument(help="Where to write (default: standard output).")] = None,
    format: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="csv, json, parquet or markdown (default: by the file's ending, else csv)."),
    ] = None,
    status: Annotated[str | None, typer.Option(help="Only completed, failed or unfeasible rows.")] = None,
    run_type: Annotated[str | None, typer.Option(help="Only rows of this run type.")] = None,
    family: Annotated[str | None, typer.Option(help="Only rows of this model family.")] = None,
) -> None:
    """Write the results of this home out, oldest first.

    A file is put in its place in one step; `mlcc import` takes CSV, JSON and Parquet in again as the same rows.
    """
    import sys

    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.opening import open_platform, warn_of_skipped
    from resources.result_exports import RowChoice, chosen_rows, content_of, format_for, write_file

    choice, form = RowChoice(status=status, run_type=run_type, family=family), format_for(format, file)
    platform = open_platform(to_read=True)
    table = platform.store.snapshot().read(lambda snapshot: chosen_rows(snapshot, choice))
    warn_of_skipped(platform)
    content = content_of(table, form)
    if file is None:
        sys.stdout.write(content.decode("utf-8"))
        return
    write_file(file, content)
    console.say(f"{console.counted(table.num_rows, 'row')} written to {file}")
