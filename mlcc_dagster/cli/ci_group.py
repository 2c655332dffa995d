"""The `mlcc ci` group: continuous validation's records.

Belongs here: the group and its page. Not here: its commands, which modules of their own add to `ci_app`
(`registration_commands.py` changes records and reads old ones).
"""

import typer

from mlcc_dagster.cli.help_pages import examples, show_help

ci_app = typer.Typer(rich_markup_mode=None)
"""The group; every module that has commands of it adds them here before the group is added to the command line."""


@ci_app.callback(
    invoke_without_command=True,
    epilog=examples("mlcc ci set rt-qwen3-4b benchmarkEnabled=true", "mlcc ci import old-records.json"),
)
def ci(context: typer.Context) -> None:
    """The records of continuous validation, and what they say."""
    show_help(context)


def add_to(app: typer.Typer) -> None:
    """Add the `ci` group to the command line, with what has been added to it."""
    app.add_typer(ci_app, name="ci")
