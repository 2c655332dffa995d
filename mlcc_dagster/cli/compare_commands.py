"""`mlcc compare`: the newest run against a baseline. `mlcc baselines`: what that is, and a person's word on it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlcc_dagster.cli.help_pages import examples, show_help

if TYPE_CHECKING:
    from mlcc_dagster.core.comparison import Comparison
    from resources.measured_histories import MeasuredHistories
    from resources.platform import Platform

Configuration = Annotated[str, typer.Argument(metavar="CONFIG", help="A catalog id, a config_id, or a beginning.")]
Config = Annotated[
    str | None, typer.Option(metavar="ID", help="One configuration: a catalog id, a config_id, or a beginning.")
]
Threshold = Annotated[
    list[str] | None,
    typer.Option(metavar="METRIC:PCT", help="How much worse a metric may be, such as throughput:5 (default: 10)."),
]
Executor = Annotated[
    str | None, typer.Option(help="Whose home is asked (default: the home's; replay has a home of its own).")
]
Reason = Annotated[str, typer.Option(help="Why; it is shown wherever the word is.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def add_to(app: typer.Typer) -> None:
    """Add `compare` and the `baselines` group to the command line."""
    app.command(
        epilog=examples(
            "mlcc compare --config local-fastapi-forest-1cpu",
            "mlcc compare --baseline median:5 --threshold throughput:5 --json",
        )
    )(compare)
    group = typer.Typer(rich_markup_mode=None)
    group.callback(
        invoke_without_command=True,
        epilog=examples("mlcc baselines list", 'mlcc baselines bless 68ce4c631fd38fb7-g3 --reason "release 1.2"'),
    )(overview)
    group.command("list", epilog=examples("mlcc baselines list", "mlcc baselines list --json"))(list_baselines)
    group.command("bless", epilog=examples('mlcc baselines bless 68ce4c631fd38fb7-g3 --reason "release 1.2"'))(bless)
    group.command(
        "unbless", epilog=examples('mlcc baselines unbless local-fastapi-forest-1cpu --reason "new hardware"')
    )(unbless)
    app.add_typer(group, name="baselines")


def compare(
    config: Config = None,
    baseline: Annotated[
        str, typer.Option(metavar="NAME", help="What to compare with: previous, best, median:N or blessed.")
    ] = "previous",
    threshold: Threshold = None,
    executor: Executor = None,
    json: Json = False,
) -> None:
    """Compare the newest runs with a baseline of earlier ones.

    Only like is compared with like: the same configuration, executor, hardware, target, quantization, tensor parallelism,
    workload and concurrency. A metric regressed when it is worse by strictly more than its threshold.

    Exit 0 when everything was compared and kept, 1 on a regression, 3 when there is no baseline or too little data.
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.core.compared_metrics import read_thresholds
    from mlcc_dagster.core.measured_baselines import baseline_named

    chosen = baseline_named(baseline)
    thresholds = read_thresholds(threshold or ())
    platform, histories = take_histories(executor)
    config_id = None if config is None else measured_config_id(platform, histories, config)
    found = histories.compare(chosen, thresholds, config_id=config_id)
    if json:
        console.print_json(found.to_json(histories.name_of))
    else:
        show(found, histories)
    raise typer.Exit(found.verdict.exit_code)


def show(found: "Comparison", histories: "MeasuredHistories") -> None:
    """Print a comparison: a line per metric, then what could not be compared and what the engine's signals advise."""
    from mlcc_dagster.cli import console
    from mlcc_dagster.core.efficiency import efficiency_hints

    rows, below = [], []
    for subject in found.configurations:
        name = histories.name_of(subject.config_id)
        if subject.reason is not None:
            below.append(f"{name}: {subject.reason}")
        for level in subject.buckets:
            for each in level.metrics:
                delta = None if each.delta_pct is None else f"{each.delta_pct:+.{each.delta_decimals}f} %"
                values = (number_text(value, each.value_digits) for value in (each.current, each.baseline))
                numbers = (*values, delta, f"{each.threshold_pct:.12g} %")
                rows.append([name, level.bucket.load, each.metric.alias, *numbers, each.verdict.value])
                if each.reason is not None:
                    below.append(f"{name}, {level.bucket.load}: {each.reason}")
            below += [
                f"{name}, {level.bucket.load}: {hint['signal']} is {hint['observed']:g}. {hint['recommendation']}"
                for hint in efficiency_hints(level.current.observed)
            ]
    if not found.configurations:
        below.append(_nothing(histories))
    console.print_table(
        f"{found.verdict.value} against the baseline {found.baseline}",
        ["configuration", "load", "metric", "newest", "baseline", "change", "allowed", "status"],
        rows,
        right=["newest", "baseline", "change", "allowed"],
        below=below,
    )


def _nothing(histories: "MeasuredHistories") -> str:
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.targets import SHOWN_MATCHES

    names = sorted({histories.name_of(config_id) for config_id, _ in histories.series.subjects})
    if not names:
        return "nothing was measured here yet; `mlcc run --tier local` measures the local tier"
    whose = ", ".join(sorted({executor for _, executor in histories.series.subjects}))
    shown = ", ".join(names[:SHOWN_MATCHES]) + (", ..." if len(names) > SHOWN_MATCHES else "")
    counted = console.counted(len(names), "configuration")
    return (
        f"the executor {histories.executor} measured nothing here, but there are results of {counted} by others "
        f"({whose}): {shown}; `mlcc compare --config ID` compares one"
    )


def overview(context: typer.Context) -> None:
    """What later runs are compared with, and a person's word on it."""
    show_help(context)


def list_baselines(config: Config = None, executor: Executor = None, json: Json = False) -> None:
    """Show the baselines of the next run: previous, best, the median of the newest five, and the blessed run."""
    from mlcc_dagster.cli import console
    from mlcc_dagster.core.measured_baselines import SHOWN
    from mlcc_dagster.core.records import utc_text

    platform, histories = take_histories(executor)
    config_id = None if config is None else measured_config_id(platform, histories, config)
    rows = histories.baselines(config_id=config_id)
    if json:
        blessings = [
            {
                "config_id": each.config_id,
                "name": histories.name_of(each.config_id),
                "run_id": each.run_id,
                "reason": each.reason,
                "who": each.who,
                "at": utc_text(each.at),
            }
            for each in histories.blessings.values()
            if config_id in (None, each.config_id)
        ]
        console.print_json({"baselines": [row.to_json(histories.name_of) for row in rows], "blessed": blessings})
        return
    console.print_table(
        f"{console.counted(len(rows), 'metric')} with baselines for the next run",
        ["configuration", "load", "metric", "runs", *SHOWN],
        (
            [
                histories.name_of(row.bucket.config_id),
                row.bucket.load,
                row.metric.alias,
                row.runs,
                *(number_text(row.value(name)) for name in SHOWN),
            ]
            for row in rows
        ),
        right=["runs", *SHOWN],
        below=[
            f"blessed {each.run_id} of {histories.name_of(each.config_id)}: {each.reason} ({each.who})"
            for each in histories.blessings.values()
            if config_id in (None, each.config_id)
        ],
    )


def bless(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run that measured something: <config_id>-g<number>.")],
    reason: Reason,
    executor: Executor = None,
) -> None:
    """Name the run that later ones of its configuration are to keep.

    It is the baseline `blessed`, and the level that histories are judged by from then on: what was worse before is accepted.
    """
    from datetime import UTC, datetime

    from mlcc_dagster.cli import console
    from mlcc_dagster.core.exceptions import InvalidInput
    from resources.regression_words import Blessing, RegressionWords

    problems = [] if reason.strip() else ["--reason is empty; say why, others will read it"]
    platform, histories = take_histories(executor)
    found = next(
        (key for key, measured in histories.series.buckets.items() for each in measured if each.run_id == run), None
    )
    if found is None:
        problems.append(f"no run '{run}' measured anything here; `mlcc baselines list --json` names the newest ones")
    if problems or found is None:
        raise InvalidInput("the request", problems)
    words = RegressionWords(platform.home.database)
    words.bless(Blessing(found.config_id, run, reason.strip(), who(), datetime.now(UTC)))
    console.say(f"{run} is the blessed run of {histories.name_of(found.config_id)} now")


def unbless(config: Configuration, reason: Reason, executor: Executor = None) -> None:
    """Say that a configuration has no blessed run any more."""
    from datetime import UTC, datetime

    from mlcc_dagster.cli import console
    from mlcc_dagster.core.exceptions import InvalidInput, UsageError
    from resources.regression_words import RegressionWords

    if not reason.strip():
        raise InvalidInput("the request", ["--reason is empty; say why, others will read it"])
    platform, histories = take_histories(executor)
    config_id = measured_config_id(platform, histories, config)
    if config_id not in histories.blessings:
        raise UsageError(
            f"{histories.name_of(config_id)} has no blessed run; `mlcc baselines list` shows those there are"
        )
    words = RegressionWords(platform.home.database)
    words.unbless(config_id, reason=reason.strip(), who=who(), at=datetime.now(UTC))
    console.say(f"{histories.name_of(config_id)} has no blessed run now")


# ---- shared with the other commands on measurements


def take_histories(executor: str | None) -> "tuple[Platform, MeasuredHistories]":
    """Open the home of a command and look at what was measured, warning of every file that had to be left out."""
    from mlcc_dagster.cli.opening import open_platform, warn_of_skipped
    from resources.measured_histories import MeasuredHistories

    platform = open_platform(executor, to_read=True)
    histories = MeasuredHistories.take(platform)
    warn_of_skipped(platform)
    return platform, histories


def measured_config_id(platform: "Platform", histories: "MeasuredHistories", text: str) -> str:
    """Return the config id that a text names: of the catalog, registered, or only measured (imported rows). Raises
    `UsageError` as `targets.one_configuration` does."""
    from mlcc_dagster.cli.targets import named_config_id, registered_configurations

    measured = {config_id for config_id, _ in histories.series.subjects}
    return named_config_id(platform.catalog, registered_configurations(platform.home), text, measured=measured)


def number_text(value: float | None, digits: int = 4) -> str | None:
    """Return a measured value with as many digits as tell something (from 1,000 on all before the point), none where it is
    absent."""
    if value is None:
        return None
    whole = len(f"{abs(value):.0f}")
    return f"{value:.{digits}g}" if abs(value) < 1000 else f"{value:.{max(0, digits - whole)}f}"


def who() -> str:
    """Return the name that a word is kept under: that of the account."""
    import getpass

    return getpass.getuser()


def picture_path(path: Path) -> Path:
    """Return where a plot is to be written. Raises `UsageError` for another form than .svg and .png."""
    from mlcc_dagster.core.exceptions import UsageError

    if path.suffix.lower() not in (".svg", ".png"):
        raise UsageError(f"{path}: plots are written as .svg or .png; give the file such an ending")
    return path
