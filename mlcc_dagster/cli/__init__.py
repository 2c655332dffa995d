"""The `mlcc` command.

Belongs here: putting the commands together and the one place where an error becomes a sentence and an exit code. Not here:
any command. Command modules import only typer at the top; what a command needs is imported when it runs, so that `mlcc --help`
costs little more than typer itself.
"""

import sys

import typer

from mlcc_dagster.cli import catalog_commands, evidence_commands, home_commands, run_commands

app = typer.Typer(
    name="mlcc",
    help=(
        "Prove which ML-serving configurations work, remember every result, and spend a bounded budget on the rest.\n\n"
        "Examples: [bold]mlcc run --tier local[/bold], [bold]mlcc gaps[/bold], [bold]mlcc ui[/bold]"
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
home_commands.add_to(app)
run_commands.add_to(app)
evidence_commands.add_to(app)
catalog_commands.add_to(app)


def main() -> None:
    """Run the command line and exit: 0 all good, 1 something failed, 2 unusable request, 130 interrupted.

    A mistake of the user's never shows a traceback; a defect of ours does, since only that helps to mend it.
    """
    try:
        app()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    except BrokenPipeError:
        # The reader (head, less) went away: not an error, but Python would complain when it flushes at exit.
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        exit_code = getattr(error, "exit_code", None)
        if not isinstance(exit_code, int):
            raise
        sys.stderr.write(f"mlcc: {error}\n")
        sys.exit(exit_code)
