"""`mlcc study`: strategies compared in worlds whose truth is hidden from them."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlcc_dagster.cli.help_pages import examples

if TYPE_CHECKING:
    from mlcc_dagster.core.study import Comparison

PICTURES = (".svg", ".png")
SHORTEST_HOURS, LONGEST_HOURS = 0.001, 10_000.0


def add_to(app: typer.Typer) -> None:
    """Add the study to the command line."""
    app.command(
        epilog=examples(
            "mlcc study --worlds 30 --seed 7",
            "mlcc study --kind all --strategies expected-gain,random --worlds 10 --plot study.svg",
            "mlcc study --shape 3x4x3x2x3x2 --golden 3 --budget 100 --json",
        )
    )(study)


def study(
    strategies: Annotated[
        str,
        typer.Option(
            help="Strategies to compare, separated by commas: expected-gain, neighbours, random; the last two also with "
            "-without-preflight."
        ),
    ] = "expected-gain,neighbours,random",
    budget: Annotated[float, typer.Option(help="USD that a strategy may spend in each world.")] = 400.0,
    hours: Annotated[float, typer.Option(help="Hours that a run takes, whether it proves anything or not.")] = 1.5,
    worlds: Annotated[int, typer.Option(help="Worlds of each kind.")] = 30,
    seed: Annotated[int, typer.Option(help="Number that the worlds are drawn from.")] = 1,
    kind: Annotated[
        str,
        typer.Option(
            help="Kind of worlds: standard, few-faults, many-faults, flat-prices, steep-prices, wide, narrow, scattered, "
            "flaky, blind, or all."
        ),
    ] = "standard",
    shape: Annotated[
        str | None, typer.Option(help="Values per dimension in place of the kind's, such as 5x8x6x4x4x3.")
    ] = None,
    faults: Annotated[int | None, typer.Option(help="Incompatible pairs of values in place of the kind's.")] = None,
    golden: Annotated[int | None, typer.Option(help="Configurations proven at the start.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Write a plot of what is covered for how much money to this .svg or .png file.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Compare planning strategies in simulated worlds.

    Each world hides a memory rule, incompatible pairs of values and the place of its golden path; a failing run costs as much
    as a good one. Reported is the share of the working pairs that each strategy covered. Needs no home and writes
    nothing but the plot.
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.core.budget import MOST_USD
    from mlcc_dagster.core.exceptions import InvalidInput, UsageError
    from mlcc_dagster.core.study import KINDS, Comparison, kind_named, kind_with, play, studied_named

    problems = []
    if not 0 < budget <= MOST_USD:
        problems.append(f"--budget must be above 0 and at most {MOST_USD:.0f} USD, not {budget}")
    if not SHORTEST_HOURS <= hours <= LONGEST_HOURS:
        problems.append(f"--hours must be {SHORTEST_HOURS:g} to {LONGEST_HOURS:g}, not {hours}")
    if worlds < 1:
        problems.append(f"--worlds must be 1 or more, not {worlds}")
    if seed < 0:
        problems.append(f"--seed must be 0 or more, not {seed}")
    if plot is not None and plot.suffix.lower() not in PICTURES:
        problems.append(f"--plot must end with .svg or .png, not '{plot}'")
    if plot is not None and not plot.absolute().parent.is_dir():
        problems.append(f"--plot: there is no folder {plot.absolute().parent}; make it first")
    elif plot is not None and (plot.is_dir() or not os.access(plot.absolute().parent, os.W_OK)):
        problems.append(f"--plot: {plot} cannot be written; name a file in a folder that you may write to")
    chosen, kinds = [], []
    try:
        chosen = studied_named([name.strip() for name in strategies.split(",") if name.strip()])
    except UsageError as error:
        problems.append(f"--strategies: {error}")
    try:
        asked = list(KINDS.values()) if kind == "all" else [kind_named(kind)]
        sizes = None if shape is None else _sizes(shape)
        kinds = [kind_with(each, shape=sizes, incompatible=faults, golden=golden) for each in asked]
    except UsageError as error:
        problems.append(f"--kind, --shape, --faults, --golden: {error}")
    if problems:
        raise InvalidInput("the request", problems)
    comparisons = []
    for each in kinds:
        with console.progress(f"worlds of kind {each.name}", worlds) as advance:
            walks = play(each, chosen, budget_usd=budget, hours=hours, worlds=worlds, seed=seed, played=advance)
        comparisons.append(Comparison(each, budget, walks))
        if not json:
            _show(comparisons[-1], worlds)
    if plot is not None:
        from resources.plots import save, study_plot

        try:
            save(study_plot(comparisons), plot)
        except OSError as error:
            raise UsageError(f"--plot: {plot} cannot be written ({error.strerror}); name another file") from None
        if not json:
            console.say(f"plot written to {plot}")
    if json:
        studied = [comparison.to_json() for comparison in comparisons]
        console.print_json({"worlds": worlds, "seed": seed, "hours": hours, "kinds": studied})


def _sizes(shape: str) -> tuple[int, ...]:
    from mlcc_dagster.core.exceptions import UsageError

    try:
        return tuple(int(part) for part in shape.lower().split("x"))
    except ValueError:
        raise UsageError(f"a shape is six numbers such as 5x8x6x4x4x3, not '{shape}'") from None


def _show(comparison: "Comparison", worlds: int) -> None:
    from mlcc_dagster.cli import console
    from mlcc_dagster.core.study import LEVEL

    rows = []
    for entry in comparison.to_json()["strategies"]:
        share = entry["covered_share"]
        rows.append(
            [
                entry["strategy"],
                f"{share['mean']:.3f}",
                comparison.share(entry["strategy"]).interval,
                f"{entry['lowest_share']:.3f}",
                f"{entry['runs']:.1f}",
                f"{entry['proven']:.1f}",
                f"{entry['new_pairs_per_usd']:.3f}",
            ]
        )
    first, *others = comparison.walks
    sizes = " x ".join(map(str, comparison.kind.shape))
    console.print_table(
        f"{comparison.kind.name}: {sizes} values, {comparison.budget_usd:g} USD, {console.counted(worlds, 'world')}",
        ["strategy", "share covered", f"{LEVEL:.0%} interval", "lowest", "runs", "proven", "new pairs per USD"],
        rows,
        right=["share covered", "lowest", "runs", "proven", "new pairs per USD"],
        below=[
            f"{first} covers {comparison.advantage(first, other)} more than {other}, world by world" for other in others
        ],
    )
