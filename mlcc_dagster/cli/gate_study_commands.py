"""`mlcc gate study`: what the rules of the gate would do with an evaluation set of some size. It does not import Dagster."""

from typing import Annotated

import typer

from mlcc_dagster.cli.help_pages import examples


def add_to(group: typer.Typer) -> None:
    """Add the command to the `gate` group."""
    group.command(
        epilog=examples(
            "mlcc gate study --buckets 15 --families 3 --items 250 --flips 0.1",
            "mlcc gate study --buckets 10 --items 2000 --flips 0.05 --json",
        )
    )(study)


def study(
    buckets: Annotated[int, typer.Option(metavar="N", help="Buckets of the set.")] = 10,
    items: Annotated[int, typer.Option(metavar="N", help="Items of each bucket.")] = 240,
    flips: Annotated[float, typer.Option(help="Share of the answers that change from one model to the other.")] = 0.1,
    tolerance: Annotated[float, typer.Option(help="Share of the items that a bucket may lose.")] = 0.02,
    families: Annotated[
        int, typer.Option(metavar="N", help="Families of buckets; every item is in one bucket of each.")
    ] = 1,
    simulations: Annotated[int, typer.Option(metavar="N", help="Evaluations drawn for each truth.")] = 2000,
    seed: Annotated[int, typer.Option(help="Number that they are drawn from.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Simulate both rules on evaluations whose truth is known: how often each promotes and blocks.

    The last line has as many items as an equal candidate needs to pass the rule noninferiority with power 0.8. Needs no home and
    writes nothing.
    """
    from dataclasses import replace

    from mlcc_dagster.cli import console
    from mlcc_dagster.core.exceptions import UsageError
    from mlcc_dagster.core.gate_study import MOST_CELLS, Design, bounds, planned_items, scenarios, simulate

    if seed < 0:
        raise UsageError(f"--seed must be 0 or more, not {seed}")
    design = Design(buckets, items, flips, tolerance, families)
    truths = scenarios(design)
    found = [simulate(design, name, truth, simulations=simulations, seed=seed) for name, truth in truths.items()]
    planned = planned_items(design)
    if planned is not None:
        larger = replace(design, items=planned)
        possible = min(simulations, MOST_CELLS // larger.total)
        if possible:
            found.append(simulate(larger, "equal, planned items", truths["equal"], simulations=possible, seed=seed))
    if json:
        console.print_json(
            {
                "buckets": buckets,
                "families": families,
                "flips": flips,
                "tolerance": tolerance,
                "alpha": design.alpha,
                "planned_items": planned,
                "scenarios": [each.to_json() for each in found],
            }
        )
        return

    def text(rate: float, drawn: int) -> str:
        low, high = bounds(rate, drawn)
        return f"{rate:.3f} ({low:.3f}-{high:.3f})"

    console.print_table(
        f"{console.counted(buckets, 'bucket')}, {100 * flips:g} % of the answers change, {100 * tolerance:g} pp tolerated",
        ["truth", "items", "fixed blocks", "noninferiority promotes", "blocks", "is open", "a bad bucket passes"],
        (
            [
                each.scenario,
                each.items,
                text(1 - each.fixed_promoted, each.simulations),
                text(each.promoted, each.simulations),
                text(each.blocked, each.simulations),
                text(each.inconclusive, each.simulations),
                text(each.worst_passed, each.simulations),
            ]
            for each in found
        ),
        right=["items"],
        below=[
            "no number of items would do"
            if planned is None
            else f"an equal candidate needs {planned} items in each bucket",
            f"shares of {simulations} simulations, with their 95 % intervals",
        ],
    )
