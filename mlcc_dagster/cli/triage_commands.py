"""`mlcc triage`: matrices of mitigations and environments, and what can be named in them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from mlcc_dagster.cli.help_pages import examples, show_help

if TYPE_CHECKING:
    from mlcc_dagster.core.triage.options import RunOptions
    from mlcc_dagster.core.triage.trials import TrialResult
    from resources.triage.plans import Plan
    from resources.triage.runner import Ended

MODE = "matrix"
LONGEST_TRIAL_SECONDS = 604_800.0
"""A week: longer than any trial that is meant to end."""

_COMMAND_WORDS = "mlcc.triage.command"


class WithCommand(TyperCommand):
    """A command that takes another command behind `--`: a word before that is a mistake, as anywhere else."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Set the words behind the first `--` apart before the rest is read as usual."""
        if "--" in args:
            at = args.index("--")
            ctx.meta[_COMMAND_WORDS] = args[at + 1 :]
            args = args[:at]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Show on the help page where the command stands."""
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND...]"]


def add_to(app: typer.Typer) -> None:
    """Add the `triage` group to the command line."""
    group = typer.Typer(rich_markup_mode=None)
    group.callback(
        invoke_without_command=True,
        epilog=examples(
            "mlcc triage run --workload lost-update --mitigation-axis none,example_lock,example_sleep "
            "--environment-axis local --trials 20 --steps 20",
            "mlcc triage run --recipe recipe.yaml --dry-run",
        ),
    )(overview)
    group.command(
        "run",
        cls=WithCommand,
        epilog=examples(
            "mlcc triage run --recipe recipe.yaml --mitigations-file flags.json --dry-run",
            "mlcc triage run --workload lost-update --mitigation-axis none,example_lock,example_sleep "
            "--environment-axis local --trials 20 --steps 20",
            "mlcc triage run --workload command --mitigation-axis none,omp_one_thread --environment-axis local --trials 8 "
            "-- python check.py",
            "mlcc triage run --resume .mlcc/triage/T-1/lost-update/2026-06-09T14-30-22 --delay-control",
        ),
    )(run)
    for name, command in (
        ("list-mitigations", list_mitigations),
        ("list-environments", list_environments),
        ("list-workloads", list_workloads),
    ):
        words = [f"mlcc triage {name}", f"mlcc triage {name} --json"]
        group.command(name, epilog=examples(*words))(command)
    app.add_typer(group, name="triage")


def overview(context: typer.Context) -> None:
    """Tell mitigations that cure a failure from mere slow-downs.

    A matrix of mitigations and environments, each cell compared with a baseline.
    """
    show_help(context)


SidecarFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--mitigations-file", metavar="FILE", help="Sidecar with further mitigations and environments; again for more."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def run(
    context: typer.Context,
    recipe: Annotated[Path | None, typer.Option(metavar="FILE", help="Recipe, YAML or JSON.")] = None,
    workload: Annotated[str | None, typer.Option(metavar="NAME", help="What is tried; see list-workloads.")] = None,
    mitigation_axis: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Mitigations, separated by commas; see list-mitigations.")
    ] = None,
    environment_axis: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Environments, separated by commas; image:REF is an image of its own."),
    ] = None,
    trials: Annotated[int | None, typer.Option(metavar="N", help="Trials per cell.")] = None,
    steps: Annotated[int | None, typer.Option(metavar="N", help="Steps per trial (default 1).")] = None,
    ticket: Annotated[str | None, typer.Option(metavar="TEXT", help="What the matrix belongs to.")] = None,
    baseline_cell: Annotated[
        str | None, typer.Option(metavar="NAME", help="Cell that all others are compared with.")
    ] = None,
    confound_threshold: Annotated[
        float | None,
        typer.Option(metavar="RATIO", help="Times the baseline's mean step that read as speed (default 1.15)."),
    ] = None,
    mode: Annotated[str, typer.Option(help="What is run: matrix.")] = MODE,
    output_dir: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where runs are kept (default: triage in the home).")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and touch no file.")] = False,
    mitigations_file: SidecarFiles = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 when a cell errored or never ran.")] = False,
    trial_seconds: Annotated[
        float | None, typer.Option(metavar="S", help="How long a trial may take (default 1800).")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Go on with an interrupted run instead of beginning one.")
    ] = None,
    delay_control: Annotated[
        bool,
        typer.Option("--delay-control", help="Slow the baseline as much as a slower cell is, and try it too."),
    ] = False,
    adaptive: Annotated[
        bool, typer.Option("--adaptive", help="Give trials to undecided cells; N is the most that a cell gets.")
    ] = False,
    minimize: Annotated[
        bool, typer.Option("--minimize", help="Try parts of a stack until the smallest that does the same is known.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw failure rates against step times, as .svg or .png."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Run a matrix: each of its cells, as often as it says, compared with the baseline.

    What is run is given by a recipe, or by options, never by both. Behind -- stands the command that the workload `command`
    runs. With --resume a run that had come to its end can be asked for more: --delay-control, --minimize, --plot. Exit 0 when
    the matrix is complete, whatever it found; 1 with --strict when a cell errored or never ran; 2 when the request is
    unusable; 130 when interrupted: what was done is kept and can be gone on with.
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.core.exceptions import UsageError
    from mlcc_dagster.core.triage.options import RunOptions
    from resources.triage import runner

    if plot is not None:
        _refuse_picture(plot)
    options = RunOptions(delay_control=delay_control, adaptive=adaptive, minimize=minimize)
    command = context.meta.get(_COMMAND_WORDS)
    flags = {
        "--workload": workload,
        "--mitigation-axis": mitigation_axis,
        "--environment-axis": environment_axis,
        "--trials": trials,
        "--steps": steps,
        "--ticket": ticket,
        "--baseline-cell": baseline_cell,
        "--confound-threshold": confound_threshold,
    }
    given = [name for name, value in flags.items() if value is not None]
    if mode != MODE:
        raise UsageError(f"unknown --mode '{mode}'; use {MODE}")
    if trial_seconds is not None and not 0 < trial_seconds <= LONGEST_TRIAL_SECONDS:
        raise UsageError(
            f"--trial-seconds must be above 0 and at most {LONGEST_TRIAL_SECONDS:g}, not {trial_seconds:g}"
        )
    if command == []:
        raise UsageError("no command stands behind --; write it, or drop the --")
    if resume is not None:
        _refuse_beside_resume(given, recipe, mitigations_file, output_dir, trial_seconds, dry_run)
        ended = runner.resume(resume, command=command, listen=_tell, options=options)
    else:
        document, source, problems = _document(recipe, flags, given, command)
        plan = _checked(
            document, source, problems, mitigations_file or (), command, trial_seconds, options, write=not dry_run
        )
        output = _output(output_dir)
        _refuse_place(plan, output)
        if dry_run:
            _told(plan, output, json=json)
            return
        ended = runner.run(plan, output, listen=_tell)
    if plot is not None:
        _draw(ended, plot)
    if json:
        console.print_json(
            {
                "folder": str(ended.folder.path),
                "interrupted": ended.interrupted,
                "rerun": ended.rerun,
                "needed_variables": list(ended.needed),
                "matrix": ended.matrix.to_json(),
            }
        )
    else:
        _show(ended)
    if ended.interrupted:
        raise typer.Exit(130)
    raise typer.Exit(1 if strict and not ended.matrix.whole else 0)


def _refuse_beside_resume(
    given: Sequence[str],
    recipe: Path | None,
    sidecars: Sequence[Path] | None,
    output: Path | None,
    seconds: float | None,
    dry_run: bool,
) -> None:
    from mlcc_dagster.core.exceptions import UsageError

    others = {
        "--recipe": recipe,
        "--mitigations-file": sidecars or None,
        "--output-dir": output,
        "--trial-seconds": seconds,
        "--dry-run": dry_run or None,
    }
    beside = [*(name for name, value in others.items() if value is not None), *given]
    if beside:
        raise UsageError(f"--resume goes on with what a run's folder says; drop {', '.join(beside)}")


def _document(
    recipe: Path | None, flags: dict[str, Any], given: Sequence[str], command: Sequence[str] | None
) -> tuple[Any, str, list[str]]:
    """Return the recipe as a plain document, from a file or from options, what it is called, and the mistakes of its text."""
    from mlcc_dagster.core.exceptions import UsageError
    from mlcc_dagster.core.triage.recipe import COMMAND, DEFAULT_THRESHOLD
    from mlcc_dagster.core.triage.recipe_flags import Flags, document_of
    from resources.triage.recipe_files import recipe_document

    problems: list[str] = []
    if recipe is not None:
        if given:
            raise UsageError(
                f"a matrix is given by --recipe or by options, not by both; drop --recipe or {', '.join(given)}"
            )
        return recipe_document(recipe, problems), str(recipe), problems
    if command is not None:
        flags = {**flags, "--workload": flags["--workload"] or COMMAND}
    needed = ("--workload", "--mitigation-axis", "--environment-axis", "--trials")
    missing = [name for name in needed if flags[name] is None]
    if missing:
        raise UsageError(f"give --recipe FILE, or {', '.join(needed)}; missing: {', '.join(missing)}")
    document = document_of(
        Flags(
            workload=str(flags["--workload"]),
            mitigation_axis=_axis(flags["--mitigation-axis"]),
            environment_axis=_axis(flags["--environment-axis"]),
            trials=flags["--trials"],
            steps=1 if flags["--steps"] is None else flags["--steps"],
            ticket=flags["--ticket"],
            baseline_cell=flags["--baseline-cell"],
            confound_threshold=DEFAULT_THRESHOLD
            if flags["--confound-threshold"] is None
            else flags["--confound-threshold"],
        )
    )
    return document, "the options", problems


def _axis(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _checked(
    document: Any,
    source: str,
    problems: Sequence[str],
    sidecars: Sequence[Path],
    command: Sequence[str] | None,
    seconds: float | None,
    options: "RunOptions",
    *,
    write: bool,
) -> "Plan":
    from resources.triage.plans import TRIAL_SECONDS, checked
    from resources.triage.recipe_files import read_sidecars

    return checked(
        document,
        source=source,
        sidecars=read_sidecars(sidecars),
        command=command,
        trial_seconds=TRIAL_SECONDS if seconds is None else seconds,
        problems=problems,
        write=write,
        options=options,
    )


def _output(output: Path | None) -> Path:
    from resources.home import Home

    return Home.current().root / "triage" if output is None else output


def _refuse_place(plan: "Plan", output: Path) -> None:
    from mlcc_dagster.core.exceptions import UsageError
    from resources.triage.run_folders import place_problems

    problems = place_problems(output, ticket=plan.recipe.ticket, workload=plan.recipe.workload)
    if problems:
        raise UsageError("\n".join(problems))


def _tell(result: "TrialResult", most: int) -> None:
    """Say on standard error how a trial ended."""
    from mlcc_dagster.cli import console

    reason = f": {result.reason}" if result.reason else ""
    console.err().print(
        f"{result.cell} {result.number + 1} of {most}: {result.verdict.value}, {result.wall_clock_s:.1f} s{reason}",
        markup=False,
    )


def _told(plan: "Plan", output: Path, *, json: bool) -> None:
    """Say what a run would do."""
    from mlcc_dagster.cli import console
    from resources.triage.run_folders import run_parent

    recipe = plan.recipe
    cells = [
        {
            "name": cell.name,
            "mitigations": list(cell.cell.mitigations),
            "environment": cell.environment.name,
            "variables": cell.variables.shown(),
            "trials": recipe.most_trials(cell.cell),
            "steps": cell.cell.steps,
        }
        for cell in plan.cells
    ]
    folder = run_parent(output, ticket=recipe.ticket, workload=recipe.workload)
    if json:
        console.print_json(
            {
                "dry_run": True,
                "ticket": recipe.ticket,
                "workload": recipe.workload,
                "baseline_cell": plan.baseline.name,
                "confound_threshold": recipe.confound.threshold,
                "options": plan.options.to_json(),
                "runs_in": str(folder),
                "cells": cells,
            }
        )
        return
    console.print_table(
        f"{console.counted(len(cells), 'cell')} of {recipe.workload}; nothing was started",
        ["cell", "mitigations", "environment", "trials", "steps", "variables"],
        [
            (
                cell["name"],
                ", ".join(cell["mitigations"]),
                cell["environment"],
                cell["trials"],
                cell["steps"],
                _variables(cell["variables"]),
            )
            for cell in cells
        ],
        right=["trials", "steps"],
        below=[f"baseline: {plan.baseline.name}", f"runs are kept in {folder}"],
    )


def _show(ended: "Ended") -> None:
    """Print a matrix that ended, and how to go on."""
    import shlex

    from mlcc_dagster.cli import console
    from mlcc_dagster.core.triage.matrix import COLUMNS

    matrix = ended.matrix
    for warning in matrix.warnings:
        console.warn(warning)
    path = ended.folder.path
    with_set = f" (with {', '.join(ended.needed)} set)" if ended.needed else ""
    resume = f"mlcc triage run --resume {shlex.quote(str(path))}"
    console.print_table(
        f"Triage matrix of {matrix.recipe.workload}, baseline {matrix.baseline}",
        list(COLUMNS),
        matrix.rows(),
        below=[
            *matrix.evidence_lines(),
            *(f"{each.cell}: {each.line()}" for each in matrix.minima),
            f"matrix: {path / 'matrix.md'}",
            *([f"to go on: {resume}"] if not matrix.finished else []),
            f"to rerun{with_set}: {ended.rerun}",
        ],
    )


def _refuse_picture(path: Path) -> None:
    """Refuse a place for the plot before hours of trials, not after them."""
    import os

    from mlcc_dagster.core.exceptions import UsageError

    folder = path.absolute().parent
    if path.suffix.lower() not in (".svg", ".png"):
        raise UsageError(f"--plot must end in .svg or .png, not {path.name}")
    if not folder.is_dir():
        raise UsageError(f"--plot: there is no folder {folder}; make it first")
    if path.is_dir() or not os.access(folder, os.W_OK):
        raise UsageError(f"--plot: {path} cannot be written; choose another place")


def _draw(ended: "Ended", path: Path) -> None:
    from mlcc_dagster.cli import console
    from resources.plots import save
    from resources.triage.plots import failure_plot

    document = ended.matrix.to_json()
    if not any(cell["statistics"]["mean_step_time_ms"] is not None for cell in document["cells"]):
        console.warn("nothing was drawn: no cell has failures and step times; let the workload time its steps")
        return
    try:
        save(failure_plot(document), path)
    except OSError as error:
        console.warn(f"the plot was not written ({error.strerror or error}); the matrix is complete without it")


def _variables(variables: dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in variables.items())


def list_mitigations(mitigations_file: SidecarFiles = None, json: AsJson = False) -> None:
    """List the mitigations that can be named, with their variables and who registered them.

    Secrets among the values are withheld.
    """
    from mlcc_dagster.cli import console
    from resources.triage.recipe_files import read_sidecars
    from resources.triage.registries import all_registries

    found = all_registries([file.sidecar for file in read_sidecars(mitigations_file or ())]).mitigations.values()
    if json:
        console.print_json({"mitigations": [each.to_json() for each in found]})
        return
    console.print_table(
        console.counted(len(found), "mitigation"),
        ["name", "source", "variables", "what it does"],
        [(each.name, each.source, _variables(each.shown()), each.broken or each.summary) for each in found],
    )


def list_environments(mitigations_file: SidecarFiles = None, json: AsJson = False) -> None:
    """List the environments that can be named: where they are, and who registered them."""
    from mlcc_dagster.cli import console
    from resources.triage.recipe_files import read_sidecars
    from resources.triage.registries import all_registries

    found = all_registries([file.sidecar for file in read_sidecars(mitigations_file or ())]).environments.values()
    if json:
        console.print_json({"environments": [each.to_json() for each in found]})
        return
    console.print_table(
        console.counted(len(found), "environment"),
        ["name", "source", "docker", "venv", "what it is"],
        [(each.name, each.source, each.docker, each.venv, each.broken or each.summary) for each in found],
    )


def list_workloads(json: AsJson = False) -> None:
    """List what can be tried, and the forms of names that have something to fill in."""
    from mlcc_dagster.cli import console
    from resources.triage.workload_names import all_workloads

    found = all_workloads()
    if json:
        console.print_json({"workloads": [each.to_json() for each in found]})
        return
    console.print_table(
        console.counted(len(found), "workload"),
        ["name", "kind", "source", "what it is"],
        [(each.name, each.kind, each.source, each.broken or each.summary) for each in found],
    )
