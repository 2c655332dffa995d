"""`mlcc init`, `ui`, `reap`, `ledger`: the home and what is alive in it."""

from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Add the home's commands to the command line."""
    for command in (init, ui, reap, ledger):
        app.command()(command)


def init(json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False) -> None:
    """Make the home: folders, tables, Dagster's instance file, a partition for every configuration. Safe to repeat.

    The home is $MLCC_HOME, by default .mlcc in the current folder.

    Example: [bold]MLCC_HOME=~/mlcc mlcc init[/bold]
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.instance import open_instance
    from resources.platform import Platform

    platform = Platform.open()
    with open_instance(platform.home) as instance:
        from assets.partitions import add_missing_keys

        added = add_missing_keys(platform, instance)
        keys = len(instance.get_dynamic_partitions("configuration"))
    if json:
        console.print_json({"home": str(platform.home.root), "configurations": keys, "partitions_added": added})
    else:
        console.say(f"home {platform.home.root} is ready: {keys} configurations known ({added} partitions added)")


def ui(
    port: Annotated[int, typer.Option(help="Port of the web page.")] = 3000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Open the Dagster UI on this home, with its daemon (sensors and schedules). Ctrl-C ends it.

    Example: [bold]mlcc ui --port 3001[/bold]
    """
    import os
    import socket
    import sys

    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.instance import open_instance
    from mlcc_dagster.core.exceptions import UsageError
    from resources.platform import Platform

    if not 0 < port < 65536:
        raise UsageError(f"{port} is not a port; choose one from 1 to 65535")
    platform = Platform.open()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UsageError(
                f"cannot listen on {host}:{port} ({error.strerror}); choose another with --port"
            ) from error
    with open_instance(platform.home) as instance:
        from assets.partitions import add_missing_keys

        add_missing_keys(platform, instance)
    console.say(f"Dagster UI of {platform.home.root}: http://{host}:{port} (Ctrl-C ends it)")
    sys.stdout.flush()
    command = [sys.executable, "-m", "dagster", "dev", "-m", "mlcc_dagster.definitions", "-h", host, "-p", str(port)]
    os.execv(sys.executable, command)


def reap(json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False) -> None:
    """End what outlived its owner or its deadline: processes, ports, workspaces, claims, slots, Dagster runs.

    Example: [bold]mlcc reap[/bold]
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.instance import open_instance
    from resources.platform import Platform

    platform = Platform.open()
    with open_instance(platform.home) as instance:
        from assets.reaping import clear

        cleared = clear(platform, instance)
    document = cleared.to_json()
    if json:
        console.print_json(document)
        return
    if cleared.nothing:
        console.say("nothing outlived its owner")
    for kind, items in document.items():
        for item in items:
            console.say(f"{kind.replace('_', ' ')}: {item}")


def ledger(
    history: Annotated[int, typer.Option(help="Also show this many released resources, newest first.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show what is alive outside (processes, ports, workspaces), who holds a deployment slot, and what money is promised.

    Example: [bold]mlcc ledger --history 20[/bold]
    """
    from dataclasses import asdict

    from mlcc_dagster.cli import console
    from resources.platform import Platform

    platform = Platform.open()
    alive = platform.ledger.alive()
    past = platform.ledger.history(limit=history) if history > 0 else []
    slots = platform.ledger.slots()
    reservations = platform.ledger.reservations()
    if json:
        console.print_json(
            {
                "alive": [asdict(r) for r in alive],
                "slots": [asdict(s) for s in slots],
                "reservations": [asdict(r) for r in reservations],
                "history": [asdict(r) for r in past],
            }
        )
        return
    if not (alive or slots or reservations):
        console.say("nothing is alive: no process, no port, no workspace, no slot held, no money promised")
    columns = ["run", "kind", "what", "state", "since"]
    if alive:
        console.print_table("Alive", columns, ([r.run_id, r.kind, r.ref, r.state, r.created_at] for r in alive))
    if slots:
        console.print_table("Slots held", ["pool", "run"], ([s.pool, s.run_id] for s in slots))
    if reservations:
        console.print_table(
            "Reservations",
            ["run key", "state", "USD"],
            ([r.run_key, r.state, r.usd] for r in reservations),
            right=["USD"],
        )
    if past:
        console.print_table(
            "Released", [*columns, "how"], ([r.run_id, r.kind, r.ref, r.state, r.created_at, r.how] for r in past)
        )
