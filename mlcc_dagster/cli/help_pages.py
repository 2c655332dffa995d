"""Help pages: what commands share of them.

Belongs here: the examples at the end of a page, and showing a group's page. Not here: what a page says (docstrings).
"""

import typer


def examples(*commands: str) -> str:
    """Return the end of a help page: each example on a line of its own."""
    # \b keeps the lines apart, which would be joined into a paragraph otherwise.
    return "\n".join(["\b", "Examples:", *(f"  {command}" for command in commands)])


def show_help(context: typer.Context) -> None:
    """Print the page of a group when it was called without a command."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
