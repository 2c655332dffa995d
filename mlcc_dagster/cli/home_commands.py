"""`mlcc init`, `ui`, `reap`, `ledger`: the home and what is alive in it."""

from dataclasses import fields
from typing import Annotated, Any

import typer

from mlcc_dagster.cli.help_pages import examples


def add_to(app: typer.Typer) -> None:
    """Add the home's commands to the command line."""
    app.command(epilog=examples("mlcc init", "MLCC_HOME=~/mlcc mlcc init"))(init)
    app.command(epilog=examples("mlcc ui", "mlcc ui --port 3001"))(ui)
    app.command(epilog=examples("mlcc reap"))(reap)
    app.command(epilog=examples("mlcc ledger", "mlcc ledger --history 20"))(ledger)


def init(json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False) -> None:
    """Make the home, or complete it; safe to repeat.

    Makes folders, tables, Dagster's instance file and a partition for every configuration below $MLCC_HOME (default:
    .mlcc in the current folder). `mlcc run` makes what is missing by itself.
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.instance import open_instance
    from mlcc_dagster.cli.opening import open_platform, warn_of_skipped

    platform = open_platform()
    with open_instance(platform.home) as instance:
        from assets.partitions import add_missing_keys

        added = add_missing_keys(platform, instance)
        keys = len(instance.get_dynamic_partitions("configuration"))
    warn_of_skipped(platform)
    if json:
        console.print_json({"home": str(platform.home.root), "configurations": keys, "partitions_added": added})
    else:
        partitions = console.counted(added, "partition")
        console.say(f"home {platform.home.root} is ready: {keys} configurations known, {partitions} added")


def ui(
    port: Annotated[int, typer.Option(help="Port of the web page.")] = 3000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Open the Dagster UI on this home.

    Its daemon (sensors and schedules) runs with it. Ctrl-C ends both.
    """
    import os
    import signal
    import socket
    import sys

    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.instance import open_instance
    from mlcc_dagster.cli.opening import open_platform, warn_of_skipped
    from mlcc_dagster.core.exceptions import UsageError

    if not 0 < port < 65536:
        raise UsageError(f"{port} is not a port; choose one from 1 to 65535")
    # Before anything is made: Dagster would say the same seconds later, in a traceback.
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UsageError(
                f"cannot listen on {host}:{port} ({error.strerror}); choose another with --port or --host"
            ) from error
    platform = open_platform()
    with open_instance(platform.home) as instance:
        from assets.partitions import add_missing_keys

        add_missing_keys(platform, instance)
    warn_of_skipped(platform)
    console.say(f"Dagster UI of {platform.home.root}: http://{host}:{port} in some seconds (Ctrl-C ends it)")
    sys.stdout.flush()
    # Its processes would print a page of notices on features in beta; an operator's own setting stays.
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    # A script that starts this in the background has SIGINT ignored, which is inherited; Dagster treats SIGTERM like
    # SIGINT, so without this nothing but SIGKILL would end it, and that leaves its processes behind.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    command = [sys.executable, "-m", "dagster", "dev", "-m", "mlcc_dagster.definitions", "-h", host, "-p", str(port)]
    os.execv(sys.executable, command)


def reap(json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False) -> None:
    """End what dead or overdue runs left behind.

    Processes, ports, workspaces, claims, slots and Dagster runs whose owner is dead or whose deadline has passed. Safe to
    repeat. Exit 1 when something could not be ended; the next reap tries again.
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.instance import open_instance
    from mlcc_dagster.cli.opening import open_platform

    platform = open_platform()
    with open_instance(platform.home) as instance:
        from assets.reaping import clear

        cleared = clear(platform, instance)
    document = cleared.to_json()
    if json:
        console.print_json(document)
    elif cleared.nothing:
        console.say("nothing outlived its owner")
    else:
        for kind, items in document.items():
            for item in items:
                console.say(f"{kind.replace('_', ' ')}: {item}")
    if document["problems"]:
        raise typer.Exit(1)


def ledger(
    history: Annotated[int, typer.Option(help="Also show this many released resources, newest first.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show what is alive outside, and what money is promised.

    Processes, ports and workspaces of runs, who holds a deployment slot, and budget reservations that are not settled.
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.opening import open_platform
    from mlcc_dagster.core.exceptions import UsageError

    if history < 0:
        raise UsageError(f"--history cannot be {history}; use 0 for none, or how many to show")
    books = open_platform(to_read=True).ledger
    alive, slots = books.alive(), books.slots()
    promised = books.living()
    newest = books.history(limit=history + len(alive)) if history else []
    past = [resource for resource in newest if resource.state == "released"][:history]
    if json:
        parts = {"alive": alive, "slots": slots, "reservations": promised, "released": past}
        console.print_json({name: [_fields(record) for record in records] for name, records in parts.items()})
        return
    if not (alive or slots or promised):
        console.say("nothing is alive: no process, no port, no workspace, no slot held, no money promised")
    if alive:
        console.print_table(
            "alive",
            ["run", "kind", "state", "since", "what"],
            ([r.run_id, r.kind, r.state, _to_the_second(r.created_at), r.ref] for r in alive),
        )
    if slots:
        console.print_table("slots held", ["pool", "run"], ([s.pool, s.run_id] for s in slots))
    if promised:
        console.print_table(
            "money promised",
            ["run key", "budget", "state", "USD"],
            ([r.run_key, r.budget, r.state, f"{r.usd:.4f}"] for r in promised),
            right=["USD"],
        )
    if past:
        console.print_table(
            "released, newest first",
            ["run", "kind", "from", "until", "how", "what"],
            (
                [r.run_id, r.kind, _to_the_second(r.created_at), _to_the_second(r.released_at), r.how, r.ref]
                for r in past
            ),
        )


def _fields(record: Any) -> dict[str, Any]:
    # Not `asdict`: that copies deeply, which a read-only mapping refuses.
    return {field.name: getattr(record, field.name) for field in fields(record)}


def _to_the_second(moment: str | None) -> str | None:
    """Cut the fraction of a second from an ISO 8601 UTC text."""
    return None if moment is None else f"{moment.partition('.')[0].removesuffix('Z')}Z"
