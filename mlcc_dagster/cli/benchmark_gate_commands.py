"""`mlcc gate benchmarks` and `mlcc gate collect`: the gate of latency, throughput and memory. It does not import Dagster."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlcc_dagster.cli.help_pages import examples

if TYPE_CHECKING:
    from mlcc_dagster.core.benchmark_gate import BenchmarkDecision, Benchmarks
    from mlcc_dagster.core.evaluation_reading import Read

BASELINE = Path("benchmark_baseline.json")
BENCHMARKS = "benchmarks such as `mlcc gate collect` writes"

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def add_to(group: typer.Typer) -> None:
    """Add the commands to the `gate` group."""
    group.command(
        epilog=examples(
            "mlcc gate benchmarks --candidate candidate_benchmarks.json --baseline benchmark_baseline.json",
            "mlcc gate benchmarks --candidate candidate_benchmarks.json --tolerance latency:5 --rule noninferiority",
        )
    )(benchmarks)
    group.command(
        epilog=examples(
            "mlcc gate collect --config local-fastapi-forest-1cpu --output benchmark_baseline.json",
            "mlcc gate collect --config 68ce4c631fd38fb7=tutor --runs 10 --output candidate_benchmarks.json",
        )
    )(collect)


def benchmarks(
    candidate: Annotated[Path, typer.Option(metavar="FILE", help="The candidate's measurements.")],
    baseline: Annotated[Path, typer.Option(metavar="FILE", help="The committed measurements.")] = BASELINE,
    tolerance: Annotated[
        list[str] | None,
        typer.Option(metavar="METRIC:PCT", help="Percent that a metric may get worse, in place of the baseline's."),
    ] = None,
    rule: Annotated[
        str, typer.Option(metavar="NAME", help="The rule that decides: fixed or noninferiority.")
    ] = "fixed",
    json: JsonOption = False,
) -> None:
    """Decide whether a candidate may be as fast as it is: every metric of every configuration against the baseline.

    Exit as `mlcc gate`. The decision is not recorded: what may be deployed is decided by `mlcc gate`.
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.input_files import both_read
    from mlcc_dagster.core.benchmark_gate import decide_benchmarks
    from mlcc_dagster.core.exceptions import UsageError
    from mlcc_dagster.core.model_registry import PROD
    from resources.home import Home
    from resources.registry import open_registry

    given = _tolerances(tolerance or [])
    before, after = both_read(lambda: _read(baseline), lambda: _read(candidate))
    decision = decide_benchmarks(before, after, rule=rule, tolerance_pct=given)
    if decision.loosened and open_registry(Home.current()).env == PROD:
        raise UsageError(
            f"--tolerance is looser than committed for {', '.join(decision.loosened)}, which in production nobody may; "
            "change tolerance_pct of the baseline"
        )
    if json:
        console.print_json(decision.to_json())
    else:
        _show(decision)
    raise typer.Exit(decision.exit_code)


def collect(
    output: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the measurements.")],
    config: Annotated[
        list[str],
        typer.Option(
            metavar="ID[=NAME]",
            help="A configuration: a catalog id, a config_id or a unique beginning; NAME in place of its id. Repeatable.",
        ),
    ],
    runs: Annotated[int, typer.Option(metavar="N", help="The newest runs that count, of each load.")] = 5,
    candidate_sha: Annotated[str | None, typer.Option(metavar="SHA", help="What was measured.")] = None,
    json: JsonOption = False,
) -> None:
    """Collect what this home has measured of configurations into a file for `mlcc gate benchmarks`.

    To compare two configurations (another quantization, another instance) give both the same NAME, each in a file of its own.
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.evaluate_commands import refuse_output
    from mlcc_dagster.cli.opening import open_platform
    from mlcc_dagster.cli.targets import one_configuration, registered_configurations
    from mlcc_dagster.core.exceptions import InvalidInput, UsageError
    from resources.benchmark_documents import collect, measured_ids
    from resources.evaluations import write_document

    refuse_output(output)
    pairs = [text.partition("=") for text in config]
    problems = [
        f"--config {text}: write ID or ID=NAME" for text in config if text.startswith("=") or text.endswith("=")
    ]
    problems += [f"--config {name}: a NAME is one word" for _, _, name in pairs if " " in name]
    names = [name or text for text, _, name in pairs]
    problems += [f"--config: {name} stands for two configurations" for name in {*names} if names.count(name) > 1]
    if runs < 1:
        problems.append(f"--runs must be 1 or more, not {runs}")
    if problems:
        raise InvalidInput("the request", problems)
    platform = open_platform(to_read=True)
    wanted: dict[str, str] = {}
    measured, registered = measured_ids(platform), registered_configurations(platform.home)
    for text, _, name in pairs:
        # imported rows may be of configurations that nothing here is registered for
        found = text if text in measured else one_configuration(platform.catalog, registered, text)[0]
        if found in wanted:
            raise UsageError(f"--config {text}: {found} is named already; name each configuration once")
        wanted[found] = name or found
    document = collect(platform, wanted, runs=runs, sha=candidate_sha)
    write_document(output, document.to_json())
    if json:
        console.print_json(document.to_json() | {"output": str(output)})
        return
    console.print_table(
        f"{console.counted(len(document.configurations), 'measured load')} written to {output}",
        ["configuration", "metric", "runs"],
        (
            [name, metric, len(values)]
            for name, metrics in document.configurations.items()
            for metric, values in metrics.items()
        ),
        right=["runs"],
    )


def _read(path: Path) -> "Read[Benchmarks]":
    from mlcc_dagster.cli.input_files import text_of
    from mlcc_dagster.core.benchmark_gate import read_benchmarks

    return read_benchmarks(text_of(path, BENCHMARKS), source=path.name)


def _tolerances(texts: list[str]) -> dict[str, float]:
    from mlcc_dagster.core.benchmark_gate import GATED
    from mlcc_dagster.core.exceptions import InvalidInput

    names = {name: metric.column for metric in GATED.values() for name in (metric.column, metric.alias)}
    found, problems = {}, []
    for text in texts:
        name, _, number = text.rpartition(":")
        try:
            percent = float(number)
        except ValueError:
            percent = -1.0
        if name not in names:
            problems.append(f"--tolerance {text}: write METRIC:PCT with a metric of {', '.join(names)}")
        elif not 0 <= percent < 100:
            problems.append(f"--tolerance {text}: must be from 0 to below 100 percent")
        else:
            found[names[name]] = percent
    if problems:
        raise InvalidInput("the request", problems)
    return found


def _show(decision: "BenchmarkDecision") -> None:
    from mlcc_dagster.cli import console
    from mlcc_dagster.core.compared_metrics import digits_apart

    if decision.loosened:
        console.warn(f"LOOSENED for {', '.join(decision.loosened)}: more is tolerated than the baseline does")
    if decision.compared:
        fixed, paired = (decision.rules[name].buckets for name in ("fixed", "noninferiority"))
        console.print_table(
            console.counted(len(decision.cells), "measurement"),
            [
                "measurement",
                "baseline",
                "candidate",
                "worse",
                "tolerated",
                "fixed",
                "noninferiority",
                "90 % interval",
                "needed",
            ],
            (
                [
                    cell.name,
                    *(f"{value:.4g} {cell.metric.unit}" for value in cell.medians),
                    f"{cell.worse_pct:+.{digits_apart(cell.worse_pct, cell.tolerance_pct)}f} %",
                    f"{cell.tolerance_pct:g} %",
                    fixed[cell.name].verdict,
                    paired[cell.name].verdict,
                    *_paired_cells(paired[cell.name].numbers),
                ]
                for cell in decision.cells
            ),
            right=["baseline", "candidate", "worse", "tolerated", "needed"],
            below=[f"rule {name}: {found.verdict}" for name, found in decision.rules.items()],
        )
    for reason in decision.reasons:
        console.say(f"- {console.cell_text(reason)}")
    console.say(decision.sentence)


def _paired_cells(numbers: Any) -> list[Any]:
    if numbers["low_pct"] is None:
        return [None, numbers["runs_needed"]]
    return [f"{numbers['low_pct']:+.1f} to {numbers['high_pct']:+.1f} %", numbers["runs_needed"] or None]
