"""`mlcc benchmark`: one configuration measured with a workload, through the whole lifecycle as a Dagster run of this home."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlcc_dagster.cli.help_pages import examples

if TYPE_CHECKING:
    from mlcc_dagster.cli.rounds import Report
    from mlcc_dagster.core.outcome import BenchmarkPlan
    from resources.platform import Platform

RUN_TYPE = "manual"

SHOWN: tuple[tuple[str, str], ...] = (
    ("request_count", "requests"),
    ("error_rate", "errors"),
    ("request_throughput_rps", "requests/s"),
    ("output_token_throughput_tps", "tokens/s"),
    ("ttft_p50_ms", "ttft p50 ms"),
    ("ttft_p90_ms", "ttft p90 ms"),
    ("itl_p90_ms", "itl p90 ms"),
    ("e2e_latency_p50_ms", "latency p50 ms"),
    ("e2e_latency_p90_ms", "latency p90 ms"),
    ("e2e_latency_p99_ms", "latency p99 ms"),
)
"""The columns of a measurement that are shown, with their headings; those that a kind of model has not are left out."""


def add_to(app: typer.Typer) -> None:
    """Add `benchmark` to the command line."""
    app.command(
        epilog=examples(
            "mlcc benchmark local-llamacpp-smollm2-q4-1-2cpu --workload local_chat --concurrency 1,4",
            "mlcc benchmark local-fastapi-forest-1cpu --workload local_predict --dry-run",
        )
    )(benchmark)


def benchmark(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG", help="A catalog id, a config_id, or a unique beginning of either.")
    ],
    workload: Annotated[str, typer.Option(metavar="NAME", help="The workload to measure.")],
    concurrency: Annotated[
        str | None,
        typer.Option(metavar="LEVELS", help="Concurrency levels, such as 1,4 (default: those of the workload)."),
    ] = None,
    executor: Annotated[
        str | None, typer.Option(help="Executor (default: the home's; replay has a home of its own).")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, show the estimate, start nothing.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show Dagster's log of the run.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Measure one configuration with a workload.

    The configuration is generated, built, deployed, tested, measured and cleaned as a Dagster run of this home with run_type
    manual; its rows are results like any other. Tuning stages are left out. What its record says of its own benchmark stays.

    Exit 0 when it was measured, 1 when something failed, 2 when the request is unusable, 130 when interrupted.
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.opening import open_platform
    from mlcc_dagster.cli.rounds import run_round
    from mlcc_dagster.cli.run_commands import requested
    from mlcc_dagster.core.exceptions import UsageError
    from mlcc_dagster.core.loads import load_of, load_text, read_levels
    from resources.estimates import Estimates
    from resources.home import Home
    from resources.home_catalog import catalog_of
    from resources.lifecycle import entry_of, measuring_stages

    # All that can be wrong with the request is found before the home is opened, which would make it.
    _, (target,) = requested(None, config, executor)
    levels = None if concurrency is None else read_levels(concurrency)
    plan = load_of(target.configuration, workload, levels, catalog_of(Home.current()))
    if target.refusal and not dry_run:
        raise UsageError(f"nothing was started: {target.name} {target.refusal}")
    platform = open_platform(executor, to_read=dry_run)
    estimates, stages = Estimates.take(platform), measuring_stages(entry_of(platform, target.config_id))
    runs_here = target.refusal is None and target.refuted is None
    seconds = estimates.seconds(target.configuration, target.config_id, stages) if runs_here else None
    usd = estimates.usd(target.configuration, target.config_id, stages) if runs_here else None
    if dry_run:
        document = {
            "started": False,
            "config_id": target.config_id,
            "name": target.name,
            "configuration": str(target.configuration),
            "workload": plan.workload,
            "concurrency_levels": list(plan.concurrency_levels),
            "runs_here": runs_here,
            "reason": target.refusal or target.refuted,
            "estimated_seconds": seconds,
            "estimated_usd": usd,
        }
        if json:
            console.print_json(document)
        else:
            console.say(f"{target.name} would be measured with {load_text(plan)}; nothing was started")
            console.say(
                f"about {seconds:.0f} s and {usd:.4f} USD with executor {platform.executor.name}"
                if seconds is not None
                else f"it does not run here: {document['reason']}"
            )
        raise typer.Exit(0 if runs_here else 1)
    report = run_round(
        platform,
        f"benchmark:{target.config_id}:{load_text(plan)}",
        [target],
        tier=None,
        verbose=verbose,
        show=not json,
        run_type=RUN_TYPE,
        measures=load_text(plan),
    )
    report.estimated_usd = usd
    rows = measured_rows(platform, report)
    if json:
        console.print_json(document_of(report, plan, rows))
    else:
        show_levels(target.name, plan, rows)
        report.show()
    raise typer.Exit(report.exit_code)


def measured_rows(platform: "Platform", report: "Report") -> list[dict[str, Any]]:
    """Return the rows of the report's run that measured something, by concurrency; empty where it ended before that."""
    ids = {attempt.run_id for attempt in report.attempts.values()}
    columns = ["run_id", "status", "concurrency", *(column for column, _ in SHOWN)]
    rows = platform.store.snapshot().read(lambda snapshot: snapshot.rows(columns=columns))
    found = [row for row in rows if row["run_id"] in ids and row["status"] == "completed" and row["concurrency"]]
    return sorted(found, key=lambda row: row["concurrency"])


def document_of(report: "Report", plan: "BenchmarkPlan", rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the report as one JSON document: how the run ended, and a measurement per concurrency level."""
    whole = report.to_json()
    (run,) = whole["configurations"]
    return {
        "round": whole["round"],
        "interrupted": whole["interrupted"],
        "workload": plan.workload,
        "concurrency_levels": list(plan.concurrency_levels),
        "estimated_usd": whole["estimated_usd"],
        "actual_usd": whole["actual_usd"],
        **{key: value for key, value in run.items() if key != "as_expected"},
        "levels": [{"concurrency": row["concurrency"]} | {column: row[column] for column, _ in SHOWN} for row in rows],
    }


def show_levels(name: str, plan: "BenchmarkPlan", rows: Sequence[dict[str, Any]]) -> None:
    """Print a line per concurrency level; nothing where nothing was measured, since the report says why."""
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.compare_commands import number_text

    if not rows:
        return
    columns = [(column, heading) for column, heading in SHOWN if any(row[column] is not None for row in rows)]
    headings = ["concurrency", *(heading for _, heading in columns)]
    console.print_table(
        f"{name} with {plan.workload}",
        headings,
        ([row["concurrency"], *(number_text(row[column]) for column, _ in columns)] for row in rows),
        right=headings,
    )
    console.say()
