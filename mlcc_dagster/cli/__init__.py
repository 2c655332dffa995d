"""The `mlcc` command.

Belongs here: putting the commands together and the one place where an error becomes a sentence and an exit code. Not here:
any command. Command modules import only typer at the top; what a command needs is imported when it runs, so that `mlcc --help`
costs little more than typer itself.
"""

import errno
import logging
import os
import re
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from mlcc_dagster.cli import (
    benchmark_commands,
    budget_commands,
    catalog_commands,
    ci_group,
    ci_report_commands,
    classify_commands,
    compact_commands,
    compare_commands,
    evaluate_commands,
    evidence_commands,
    gate_commands,
    home_commands,
    import_commands,
    log_commands,
    optimize_commands,
    prove_commands,
    prover_commands,
    recommend_commands,
    registration_commands,
    registry_commands,
    regression_commands,
    run_commands,
    study_commands,
    substitution_commands,
    triage_commands,
    trigger_commands,
    unfeasible_commands,
)
from mlcc_dagster.cli.help_pages import examples, show_help
from mlcc_dagster.core.exceptions import UsageError


class Commands(TyperGroup):
    """All commands; one that is interrupted before it took care of that itself ends with a sentence."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.stderr.write("mlcc: interrupted; the same command again goes on or starts anew\n")
            raise typer.Exit(130) from None


app = typer.Typer(
    name="mlcc",
    cls=Commands,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Plain help pages and one-sentence errors: the same on a terminal, in a pipe and in a log.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(
    invoke_without_command=True,
    epilog=examples("mlcc run --tier local", "mlcc coverage", "mlcc gaps", "mlcc ui"),
)
def mlcc(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Prove which ML-serving configurations work, remember every result, and spend a bounded budget on the rest.

    Everything lies in one folder, $MLCC_HOME (default: .mlcc in the current folder).
    """
    if version:
        from importlib.metadata import version as version_of

        typer.echo(f"mlcc-dagster {version_of('mlcc-dagster')}")
        raise typer.Exit
    show_help(context)


home_commands.add_to(app)
run_commands.add_to(app)
benchmark_commands.add_to(app)
registration_commands.add_to(app)
prove_commands.add_to(app)
prover_commands.add_to(app)
budget_commands.add_to(app)
evidence_commands.add_to(app)
catalog_commands.add_to(app)
substitution_commands.add_to(app)
unfeasible_commands.add_to(app)
classify_commands.add_to(app)
study_commands.add_to(app)
log_commands.add_to(app)
ci_report_commands.add_to(ci_group.ci_app)
trigger_commands.add_to(ci_group.ci_app)
ci_group.add_to(app)
import_commands.add_to(app)
triage_commands.add_to(app)
compact_commands.add_to(app)
compare_commands.add_to(app)
regression_commands.add_to(app)
recommend_commands.add_to(app)
optimize_commands.add_to(app)
evaluate_commands.add_to(app)
gate_commands.add_to(app)
registry_commands.add_to(app)

ENVIRONMENTAL = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT})
"""Refusals of the machine that a person can mend; any other `OSError` that nobody explained is a defect of ours."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line (`arguments`, default those of the process) and exit.

    0 all good, 1 something failed, 2 unusable request, 130 interrupted. A mistake of the user's is one sentence on standard
    error and never a traceback; a defect of ours shows one, since only that helps to mend it.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    # The store logs each file that it leaves out; a command says that once, in its own words (`opening.warn_of_skipped`).
    store_log = logging.getLogger("resources.result_store")
    level = store_log.level
    store_log.setLevel(logging.ERROR)
    try:
        refuse_undecodable(words)
        code = app(words, prog_name="mlcc", standalone_mode=False) or 0
        # What is still buffered may meet a reader (head, less) that went away; at exit nobody could catch that.
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception as error:
        from mlcc_dagster.cli.console import harmless  # a sentence may name what a file from elsewhere says

        sentence, code = explained(error, words)
        sys.stderr.write(f"mlcc: {harmless(sentence)}\n")
    finally:
        store_log.setLevel(level)
    sys.exit(code)


def refuse_undecodable(words: Sequence[str]) -> None:
    """Raise `UsageError` naming the words of a command line that are no text in the terminal's encoding."""
    broken = [word for word in words if any("\ud800" <= character <= "\udfff" for character in word)]
    if broken:
        shown = ", ".join(word.encode("utf-8", "backslashreplace").decode("utf-8") for word in broken)
        raise UsageError(f"{shown}: no text in the encoding of this terminal; write it in UTF-8")


def explained(error: Exception, words: Sequence[str]) -> tuple[str, int]:
    """Return the sentence and the exit code of an error; raises it again where it is none that a person can act on."""
    exit_code = getattr(error, "exit_code", None)
    if isinstance(error, OSError) and error.errno in ENVIRONMENTAL:
        return f"{error.strerror}: {error.filename}; make room or permission there, or set MLCC_HOME elsewhere", 1
    if not isinstance(exit_code, int):
        raise error
    wording = getattr(error, "format_message", None)
    if wording is None:
        return str(error), exit_code
    # The command line itself could not be read: typer's own words, and the page that lists what can be written.
    what = re.sub(r"\.? Did you mean", ", did you mean", " ".join(wording().split())).rstrip(".?")
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else " ".join(["mlcc", *words[:1]])
    return f"{what[:1].lower()}{what[1:]}; see `{command} --help`", exit_code
