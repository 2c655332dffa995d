"""`mlcc optimize`: search a better setting of one configuration within a budget, every trial a run of this home."""

from typing import TYPE_CHECKING, Annotated

import typer

from mlcc_dagster.cli.help_pages import examples

if TYPE_CHECKING:
    from mlcc_dagster.core.optimization import Bounds
    from resources.optimization import Search
    from resources.platform import Platform


def add_to(app: typer.Typer) -> None:
    """Add `optimize` to the command line."""
    app.command(
        epilog=examples(
            "mlcc optimize local-llamacpp-smollm2-q4-1-2cpu --concurrency 4 --max-minutes 6",
            "mlcc optimize local-llamacpp-smollm2-q4-1-2cpu --parameters slots,threads --metric latency --dry-run",
            "mlcc optimize rt-qwen3-4b --executor replay --max-trials 10 --max-cost 100 --json",
        )
    )(optimize)


def optimize(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG", help="A catalog id, a config_id, or a unique beginning of either.")
    ],
    metric: Annotated[str, typer.Option(help="What is to get better: throughput, ttft, itl, latency.")] = "throughput",
    max_trials: Annotated[int, typer.Option(help="Most settings to try.")] = 20,
    max_cost: Annotated[float, typer.Option(help="Most USD to spend, promised money included.")] = 50.0,
    max_minutes: Annotated[float, typer.Option(help="Minutes after which nothing new is begun.")] = 30.0,
    pairs: Annotated[int, typer.Option(help="Pairs in which the best and the present setting are compared.")] = 5,
    parameters: Annotated[
        str | None, typer.Option(metavar="NAMES", help="What may change, such as slots,threads (default: all).")
    ] = None,
    workload: Annotated[
        str | None, typer.Option(metavar="NAME", help="The workload (default: that of the configuration).")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(metavar="N", help="The concurrency (default: the highest of the workload).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the proposals.")] = 0,
    executor: Annotated[
        str | None, typer.Option(help="Executor (default: the home's; replay has a home of its own).")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be searched and what is known; start nothing.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show Dagster's log of each run.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Search a better setting of a configuration.

    Bayesian search over what the catalog's optimization space lets change: settings that preflight does not refute and the
    executor can run. What was measured before under the same load counts; every trial is a lifecycle run with run_type
    optimization. At the end the best and the present setting are measured in turns, and better means that the whole interval of
    the improvement is above 0. The same command again goes on from what is known.

    Exit 0 when the search ended in order, whether or not something better was found, 1 when nothing could be compared, 2 when
    the request is unusable, 130 when interrupted.
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.optimizing import run_search

    platform, search = asked(
        config,
        metric=metric,
        bounds=bounds_of(max_trials, max_cost, max_minutes, pairs, seed),
        parameters=parameters,
        workload=workload,
        concurrency=concurrency,
        seed=seed,
        executor=executor,
        to_read=dry_run,
    )
    if dry_run:
        show_space(platform, search, json=json)
        return
    report = run_search(platform, search, verbose=verbose, show=not json)
    if json:
        console.print_json(report.to_json())
    else:
        report.show()
    raise typer.Exit(report.exit_code)


def bounds_of(max_trials: int, max_cost: float, max_minutes: float, pairs: int, seed: int) -> "Bounds":
    """Return the bounds that a command line asks for. Raises `InvalidInput` with all its mistakes."""
    from mlcc_dagster.core.budget import MOST_USD
    from mlcc_dagster.core.exceptions import InvalidInput
    from mlcc_dagster.core.optimization import LEAST_PAIRS, Bounds

    problems = []
    if max_trials < 1:
        problems.append(f"--max-trials must be 1 or more, not {max_trials}")
    if not 0 < max_cost <= MOST_USD:
        problems.append(f"--max-cost must be above 0 and at most {MOST_USD:.0f} USD, not {max_cost}")
    if not 0 < max_minutes < float("inf"):
        problems.append(f"--max-minutes must be a number above 0, not {max_minutes}")
    if pairs < LEAST_PAIRS:
        problems.append(f"--pairs must be {LEAST_PAIRS} or more, or nothing can be said of the difference, not {pairs}")
    if not 0 <= seed < 2**32:
        problems.append(f"--seed must be from 0 to {2**32 - 1}, not {seed}")
    if problems:
        raise InvalidInput("the request", problems)
    return Bounds(max_trials, max_cost, max_minutes * 60, pairs)


def asked(
    config: str,
    *,
    metric: str,
    bounds: "Bounds",
    parameters: str | None,
    workload: str | None,
    concurrency: int | None,
    seed: int,
    executor: str | None,
    to_read: bool,
) -> "tuple[Platform, Search]":
    """Return the search that a command line asks for and the platform it runs on. Raises `UsageError` before the home is touched
    where the request cannot be met."""
    from dataclasses import replace
    from datetime import UTC, datetime

    from mlcc_dagster.cli.opening import executor_name, home_of, open_platform
    from mlcc_dagster.cli.targets import one_configuration, registered_configurations
    from mlcc_dagster.core.compared_metrics import metric_named
    from mlcc_dagster.core.exceptions import UsageError
    from mlcc_dagster.core.loads import load_of
    from mlcc_dagster.core.record_settings import default_workload
    from resources.home import Home
    from resources.home_catalog import catalog_of
    from resources.optimization import Search, name_of_moment, space_on
    from resources.platform import open_executor

    wanted = metric_named(metric)
    names = None if parameters is None else [name.strip() for name in parameters.split(",") if name.strip()]
    if names == []:
        raise UsageError("--parameters is empty; name what may change with commas, such as slots,threads")
    catalog, home = catalog_of(Home.current()), home_of(executor)
    _, configuration = one_configuration(catalog, registered_configurations(home), config)
    named = default_workload(configuration, catalog) if workload is None else workload
    load = load_of(configuration, named, None if concurrency is None else [concurrency], catalog)
    load = replace(load, concurrency_levels=load.concurrency_levels[-1:])
    performer = open_executor(executor_name(executor, home), home)
    space = space_on(performer, configuration, catalog, workload=named, names=names)
    platform = open_platform(executor, to_read=to_read)
    return platform, Search(name_of_moment(datetime.now(UTC)), space, wanted, load, bounds, seed)


def show_space(platform: "Platform", search: "Search", *, json: bool) -> None:
    """Print what a search would choose from, what is known of it and what a run is expected to take."""
    from mlcc_dagster.cli import console
    from mlcc_dagster.core.identity import config_id
    from mlcc_dagster.core.loads import load_text
    from mlcc_dagster.core.optimization import scores_of
    from resources.optimization import expected, history, run_most_usd

    space = search.space
    seconds, usd = expected(platform, search)
    most = run_most_usd(platform, search)
    known = len(scores_of(search.metric, history(platform, search)))
    left_out = [(name, value, why) for name, values in space.left_out.items() for value, why in sorted(values.items())]
    if json:
        console.print_json(
            {
                "started": False,
                "config_id": config_id(space.configuration),
                "configuration": str(space.configuration),
                "metric": search.metric.column,
                "workload": search.load.workload,
                "concurrency": search.concurrency,
                "dimensions": [
                    {"name": axis.name, "sets": axis.sets, "values": list(axis.values), "present": axis.present}
                    for axis in space.axes
                ],
                "left_out": [{"name": name, "value": value, "reason": why} for name, value, why in left_out],
                "possible_settings": len(space.settings),
                "known_settings": known,
                "run_seconds": seconds,
                "run_usd": usd,
                "run_most_usd": most,
            }
        )
        return
    runs = search.bounds.max_trials + 2 * search.bounds.pairs
    console.print_table(
        f"what would be searched of {space.configuration} ({load_text(search.load)}); nothing was started",
        ["parameter", "present", "values"],
        ([axis.name, axis.present, ", ".join(map(str, axis.values))] for axis in space.axes),
        below=[
            *(f"left out {name} {value}: {why}" for name, value, why in left_out),
            f"{len(space.settings)} settings can run, {known} are known; {search.metric.column} is compared",
            f"a run takes about {seconds:.0f} s and {usd:.4f} USD, {most:.4f} USD at most; up to {runs} runs with the comparison",
        ],
    )
