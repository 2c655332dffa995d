"""`mlcc regressions`: what the whole history of each metric says, and a person's word on it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlcc_dagster.cli.compare_commands import Config, Configuration, Executor, Json, Reason, Threshold
from mlcc_dagster.cli.help_pages import examples, show_help

if TYPE_CHECKING:
    from datetime import datetime

    from resources.measured_histories import MeasuredHistories, RegressionReport

Metric = Annotated[str | None, typer.Option(help="One metric: throughput, ttft, itl, latency, or its column.")]
Search = Annotated[str, typer.Option(metavar="NAME", help="How changes of level are searched: permutation or t-test.")]
MaybeConfiguration = Annotated[
    str | None, typer.Argument(metavar="[CONFIG]", help="A catalog id, a config_id, or a beginning.")
]
Every = Annotated[bool, typer.Option("--all", help="All configurations, also those to come.")]

MOST_PANELS = 12
"""Histories in one picture."""


def add_to(app: typer.Typer) -> None:
    """Add the `regressions` group to the command line."""
    group = typer.Typer(rich_markup_mode=None)
    entry = "local-fastapi-forest-1cpu"
    group.callback(
        invoke_without_command=True,
        epilog=examples("mlcc regressions list", f"mlcc regressions plot {entry} --output history.png"),
    )(overview)
    group.command("list", epilog=examples("mlcc regressions list", "mlcc regressions list --search t-test --json"))(
        list_regressions
    )
    group.command("plot", epilog=examples(f"mlcc regressions plot {entry} --metric latency --output history.svg"))(plot)
    group.command(
        "acknowledge",
        epilog=examples(f'mlcc regressions acknowledge {entry} --until 2027-01-15 --reason "known, fix in 1.3"'),
    )(acknowledge)
    group.command("arm", epilog=examples(f'mlcc regressions arm {entry} --reason "quiet for a month"'))(arm)
    group.command("disarm", epilog=examples('mlcc regressions disarm --all --reason "machine is being replaced"'))(
        disarm
    )
    app.add_typer(group, name="regressions")


def overview(context: typer.Context) -> None:
    """What each metric's history says, and a person's word on it."""
    show_help(context)


def list_regressions(
    config: Config = None,
    threshold: Threshold = None,
    search: Search = "permutation",
    all_states: Annotated[bool, typer.Option("--all", help="Also what is stable or has too few runs.")] = False,
    executor: Executor = None,
    json: Json = False,
) -> None:
    """Judge the history of every metric: regression, suspicious, improvement, or nothing.

    Also told are the configurations whose tests regressed. Everything is only recorded until a person arms a configuration;
    what is acknowledged does not count until its day.

    Exit 0 when nothing counts, 1 when a regression of an armed configuration does.
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.compare_commands import measured_config_id, take_histories
    from mlcc_dagster.core.change_points import search_named
    from mlcc_dagster.core.compared_metrics import read_thresholds

    thresholds = read_thresholds(threshold or ())
    search_named(search)
    platform, histories = take_histories(executor)
    config_id = None if config is None else measured_config_id(platform, histories, config)
    report = histories.regression_report(thresholds, config_id=config_id, search=search)
    if json:
        console.print_json(report.to_json(histories.name_of))
    else:
        show(report, histories, everything=all_states)
    raise typer.Exit(report.exit_code)


def show(report: "RegressionReport", histories: "MeasuredHistories", *, everything: bool) -> None:
    """Print a line per history that needs a person (with `everything` per history), how many there are of each state, and
    whose tests failed."""
    from mlcc_dagster.cli import console
    from mlcc_dagster.core.regressions import State

    quiet = (State.STABLE, State.INSUFFICIENT)
    shown = [each for each in report.found if everything or each.state not in quiet]
    counts = {state: len(report.of(state)) for state in State}
    told = ", ".join(f"{count} {state.value}" for state, count in counts.items() if count) or "nothing was measured"
    below = [
        f"{histories.name_of(each.bucket.config_id)}, {each.bucket.load}, {each.metric.alias}: {each.reason}"
        for each in shown
        if each.state not in quiet
    ]
    below += [f"{each.line.name}: tests {each.state.value}: {each.reason}" for each in report.tests]
    if report.counting:
        below.append(
            f"{len(report.counting)} of {counts[State.REGRESSION]} regressions count: armed and not acknowledged"
        )
    console.print_table(
        f"{console.counted(len(report.found), 'history', 'histories')}: {told}",
        ["configuration", "load", "metric", "state", "change", "since", "noise", "would catch", "runs", "word"],
        (
            [
                histories.name_of(each.bucket.config_id),
                each.bucket.load,
                each.metric.alias,
                each.state.value,
                _percent(each.changed_pct, "+.1f"),
                each.since.run_id if each.since else None,
                _percent(each.noise_pct, ".1f"),
                _percent(each.detectable_pct, ".1f"),
                len(each.runs),
                report.word_on(each),
            ]
            for each in shown
        ),
        right=["change", "noise", "would catch", "runs"],
        below=below,
    )


def plot(
    config: Configuration,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write, .svg or .png.")],
    metric: Metric = None,
    search: Search = "permutation",
    executor: Executor = None,
) -> None:
    """Draw the histories of a configuration with their changes of level."""
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.compare_commands import measured_config_id, picture_path, take_histories
    from mlcc_dagster.core.change_points import search_named
    from mlcc_dagster.core.compared_metrics import metric_named, read_thresholds
    from mlcc_dagster.core.exceptions import UsageError
    from resources.history_plots import history_plot
    from resources.plots import save

    picture_path(output)
    search_named(search)
    wanted = None if metric is None else metric_named(metric)
    platform, histories = take_histories(executor)
    config_id = measured_config_id(platform, histories, config)
    name = histories.name_of(config_id)
    judged = histories.histories(read_thresholds(()), config_id=config_id, search=search)
    found = [each for each in judged if wanted in (None, each.metric)]
    if not found:
        raise UsageError(
            f"{name} has no measurement of {metric or 'any metric'}; `mlcc regressions list --all` shows all"
        )
    if len(found) > MOST_PANELS:
        console.warn(f"{len(found)} histories; the first {MOST_PANELS} are drawn, --metric draws one metric's")
    drawn = found[:MOST_PANELS]
    try:
        save(history_plot(drawn, [f"{name}, {each.bucket.load}" for each in drawn]), output)
    except OSError as error:
        raise UsageError(f"--output: {output} cannot be written ({error.strerror}); name another file") from None
    console.say(f"plot written to {output}")


def acknowledge(
    config: Configuration,
    reason: Reason,
    until: Annotated[str, typer.Option(metavar="DAY", help="The day or time (UTC) when it counts again.")],
    metric: Metric = None,
    executor: Executor = None,
) -> None:
    """Say that the regressions of a configuration are known until a day.

    It covers those that began before now. A new one counts, and this one too when its day has come.
    """
    from datetime import UTC, datetime

    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.compare_commands import measured_config_id, take_histories, who
    from mlcc_dagster.core.compared_metrics import metric_named, read_thresholds
    from mlcc_dagster.core.exceptions import InvalidInput, UsageError
    from mlcc_dagster.core.regressions import Acknowledgement, State
    from resources.regression_words import RegressionWords

    now = datetime.now(UTC)
    problems = [] if reason.strip() else ["--reason is empty; say why, others will read it"]
    try:
        ends = moment_of_day(until)
        if ends <= now:
            problems.append(f"--until {until} is over already; name a day to come")
    except UsageError as error:
        problems.append(str(error))
        ends = now
    wanted = None
    try:
        wanted = None if metric is None else metric_named(metric).column
    except UsageError as error:
        problems.append(f"--metric: {error}")
    if problems:
        raise InvalidInput("the request", problems)
    platform, histories = take_histories(executor)
    config_id = measured_config_id(platform, histories, config)
    report = histories.regression_report(read_thresholds(()), config_id=config_id)
    known = [each for each in report.of(State.REGRESSION) if wanted in (None, each.metric.column)]
    if not known:
        name = histories.name_of(config_id)
        raise UsageError(f"{name} has no such regression to acknowledge; `mlcc regressions list` shows those there are")
    words = RegressionWords(platform.home.database)
    words.acknowledge(Acknowledgement(config_id, wanted, ends, reason.strip(), who(), now))
    console.say(
        f"{console.counted(len(known), 'regression')} of {histories.name_of(config_id)} acknowledged until "
        f"{ends:%Y-%m-%d %H:%M} UTC"
    )


def arm(config: MaybeConfiguration = None, *, reason: Reason, every: Every = False, executor: Executor = None) -> None:
    """Let the regressions of a configuration count from now on: `mlcc regressions list` exits with 1, its check fails."""
    _arm(config, every=every, reason=reason, executor=executor, armed=True)


def disarm(
    config: MaybeConfiguration = None, *, reason: Reason, every: Every = False, executor: Executor = None
) -> None:
    """Only record the regressions of a configuration from now on."""
    _arm(config, every=every, reason=reason, executor=executor, armed=False)


def _arm(config: str | None, *, every: bool, reason: str, executor: str | None, armed: bool) -> None:
    from datetime import UTC, datetime

    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.compare_commands import measured_config_id, take_histories, who
    from mlcc_dagster.core.exceptions import InvalidInput
    from resources.regression_words import EVERY, RegressionWords

    problems = [] if reason.strip() else ["--reason is empty; say why, others will read it"]
    if every == (config is not None):
        problems.append("name one configuration, or --all and none")
    if problems:
        raise InvalidInput("the request", problems)
    platform, histories = take_histories(executor)
    config_id = EVERY if config is None else measured_config_id(platform, histories, config)
    words = RegressionWords(platform.home.database)
    words.arm(config_id, armed, reason=reason.strip(), who=who(), at=datetime.now(UTC))
    whose = "all configurations" if config is None else histories.name_of(config_id)
    console.say(f"regressions of {whose} {'count' if armed else 'are only recorded'} from now on")


def moment_of_day(text: str) -> "datetime":
    """Read `--until`: a day (its beginning) or a moment, in UTC unless it says otherwise. Raises `UsageError`."""
    from datetime import UTC, datetime

    from mlcc_dagster.core.exceptions import UsageError

    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"--until takes a day or a time such as 2027-01-15 or 2027-01-15T12:00, not '{text}'"
        ) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _percent(value: float | None, form: str) -> str | None:
    return None if value is None else f"{value:{form}} %"
