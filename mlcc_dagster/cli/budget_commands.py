"""`mlcc budget`: what money is promised, spent and left. It does not import Dagster and makes no home by asking.

Belongs here: reading the ledger's reservations into one answer and showing it. Not here: the rules of money (`core.budget`),
promising it (`resources.prover`), what else is alive (`mlcc ledger`).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlcc_dagster.cli.help_pages import examples

if TYPE_CHECKING:
    from mlcc_dagster.core.budget import Budget, Reservation
    from resources.home import Home
    from resources.prover import Execution


def add_to(app: typer.Typer) -> None:
    """Add the budget command to the command line."""
    app.command(epilog=examples("mlcc budget", "mlcc budget --limit 0 --json"))(budget)


def budget(
    limit: Annotated[int, typer.Option(help="How many budgets to list; 0 means all.")] = 20,
    executor: Annotated[
        str | None, typer.Option(help="Whose home is asked (default: the home's; replay has a home of its own).")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show what money is promised, spent and left.

    Each execution of the prover is a budget of its own; the sensor and the daily schedule share one per UTC day. The most
    that a run may cost is promised before it starts, and what it used is charged when it ends.
    """
    from datetime import UTC, datetime

    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.opening import home_of
    from mlcc_dagster.core.exceptions import UsageError
    from resources.ledger import Ledger
    from resources.prover import Execution
    from resources.sqlite_ci_table import SqliteCiTable

    if limit < 0:
        raise UsageError(f"--limit cannot be {limit}; use 0 for all, or how many to list")
    home = home_of(executor)
    today = Execution.of_day(datetime.now(UTC))
    budgets, living, known = [], [], {}
    if is_made(home):
        ledger = Ledger(home.database)
        budgets = ledger.budgets()
        living = ledger.living()
        records = SqliteCiTable(home.database).records() if living else ()
        known = {record.config_id: str(record.configuration) for record in records}
    else:
        console.warn(f"there is no home {home.root} yet; `mlcc run --tier local` makes it, MLCC_HOME names another")
    document = budget_document(budgets, living, known, today=today, limit=limit)
    if json:
        console.print_json(document)
    else:
        show(document)


def is_made(home: "Home") -> bool:
    """Whether a home is there to be asked. Raises `HomeError` where its place can hold none: a file, or a folder that must
    not be read."""
    import os

    from mlcc_dagster.core.exceptions import HomeError

    try:
        with os.scandir(home.root):
            return home.exists()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise HomeError(
            f"cannot use {home.root} as the home ({error.strerror}); set MLCC_HOME to a folder you can write to"
        ) from error


def budget_document(
    budgets: Sequence["Budget"],
    living: Sequence["Reservation"],
    known: Mapping[str, str],
    *,
    today: "Execution",
    limit: int,
) -> dict[str, Any]:
    """Return what the ledger says, at most `limit` of the budgets (0: all), newest first as they come.

    `living` are the reservations that are neither settled nor released; `known` are configurations as texts, by config_id.
    """
    return {
        "today": today_document(today, next((each for each in budgets if each.name == today.name), None)),
        "total": len(budgets),
        "budgets": [
            {
                "budget": each.name,
                "created_at": each.created_at,
                "runs": each.totals.runs,
                "ceiling_usd": each.ceiling_usd,
                "promised_usd": each.totals.reserved_usd,
                "active_usd": each.totals.active_usd,
                "spent_usd": each.totals.spent_usd,
                "overrun_usd": each.totals.overrun_usd,
                "left_usd": each.left_usd,
            }
            for each in budgets[: limit or None]
        ],
        "reservations": [_reservation(each, known) for each in living],
    }


def today_document(today: "Execution", budget: "Budget | None") -> dict[str, Any]:
    """Return the bounds of the execution that the sensor and the schedule share today, and what is left of them; nothing
    is taken where it has no `budget` yet. A lower ceiling that somebody named for it counts instead of its own."""
    from mlcc_dagster.core.budget import Budget, Totals

    totals = budget.totals if budget else Totals(0.0, 0.0, 0.0, 0.0)
    named = budget.ceiling_usd if budget else None
    ceiling = today.max_usd if named is None else min(named, today.max_usd)
    return {
        "execution": today.name,
        "max_proves": today.max_proves,
        "max_usd": ceiling,
        "left_proves": max(0, today.max_proves - totals.runs),
        "left_usd": Budget(today.name, ceiling, totals, "").left_usd,
    }


def _reservation(reservation: "Reservation", known: Mapping[str, str]) -> dict[str, Any]:
    from resources.ci_table import moment_text
    from resources.prover import key_config

    config_id = key_config(reservation.run_key)
    # Once the run began the promise ends with the run, and its deadline says nothing any more.
    waits = reservation.state == "reserved"
    return {
        "run_key": reservation.run_key,
        "budget": reservation.budget,
        "run_id": reservation.run_id,
        "config_id": config_id if config_id in known else None,
        "configuration": known.get(config_id),
        "state": reservation.state,
        "usd": reservation.usd,
        "deadline": moment_text(reservation.deadline) if waits else None,
    }


def show(document: dict[str, Any]) -> None:
    """Print the document: budgets, living reservations, and what is left of today's bounds."""
    from mlcc_dagster.cli import console

    budgets, reservations, today = document["budgets"], document["reservations"], document["today"]
    amounts = ["ceiling_usd", "promised_usd", "active_usd", "spent_usd", "overrun_usd", "left_usd"]
    if budgets:
        columns = [f"{name.removesuffix('_usd')} USD" for name in amounts]
        total = document["total"]
        console.print_table(
            "budgets, newest first",
            ["budget", "runs", *columns],
            ([row["budget"], row["runs"], *(_usd(row[name]) for name in amounts)] for row in budgets),
            right=["runs", *columns],
            below=[f"{len(budgets)} of {total} shown; --limit 0 lists all"] if len(budgets) < total else [],
        )
    else:
        console.say("no money was promised yet; `mlcc path-prove` does that")
    if reservations:
        console.print_table(
            "money promised",
            ["run key", "configuration", "state", "USD", "begins before"],
            ([r["run_key"], r["configuration"], r["state"], _usd(r["usd"]), r["deadline"]] for r in reservations),
            right=["USD"],
        )
    console.say(
        f"left of today's execution {today['execution']}: {today['left_proves']} of {today['max_proves']} proves, "
        f"{_usd(today['left_usd'])} of {_usd(today['max_usd'])} USD"
    )


def _usd(amount: float | None) -> str | None:
    return None if amount is None else f"{amount:.4f}"
