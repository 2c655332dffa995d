"""`mlcc classify`: why a log failed, whether another try is worth it, and what to do next. It needs no home."""

from typing import Annotated

import typer

from mlcc_dagster.cli.help_pages import examples

STANDARD_INPUT = "-"


def add_to(app: typer.Typer) -> None:
    """Add the command on failure logs to the command line."""
    app.command(
        epilog=examples(
            "mlcc classify build.log", "mlcc classify deploy.log --stage deploy --json", "mlcc classify - < ci.log"
        )
    )(classify)


def classify(
    files: Annotated[list[str], typer.Argument(metavar="FILE", help="Logs to read; - is standard input.")],
    stage: Annotated[
        str | None, typer.Option(help="Stage that failed, e.g. deploy (default: read from each log).")
    ] = None,
    ruleset: Annotated[str, typer.Option(help="v1, or compat: the ordered rules of existing installations.")] = "v1",
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document: an object, or a list of them.")
    ] = False,
) -> None:
    """Say why a log failed, and what to do next.

    The category unknown means that no rule knows the failure: it is never called unfeasible.
    """
    from dataclasses import asdict

    from mlcc_dagster.cli import console
    from mlcc_dagster.core import failures
    from mlcc_dagster.core.exceptions import InvalidInput, UsageError

    named = _stage(stage)
    reader = failures.ruleset_named(ruleset)
    logs, problems = _read(files)
    if problems:
        raise UsageError(problems[0]) if len(problems) == 1 else InvalidInput("the list of logs", problems)
    readings = [(name, reader.classify(named, log)) for name, log in logs]
    if json:
        documents = [asdict(reading) for _, reading in readings]
        console.print_json(documents[0] if len(documents) == 1 else documents)
        return
    for number, (name, reading) in enumerate(readings):
        if number:
            console.say()
        category = failures.category_named(reading.category)
        console.say("standard input" if name == STANDARD_INPUT else name)
        for label, value in (
            ("stage", reading.stage),
            ("category", reading.category),
            ("retryable", "yes" if reading.retryable else "no"),
            ("line", reading.line),
            ("rule", reading.rule),
            ("next", category.next_step),
        ):
            console.say(f"  {label:<9}  {console.cell_text(value)}")


def _stage(spelling: str | None) -> str:
    from mlcc_dagster.core.exceptions import UsageError
    from mlcc_dagster.core.stages import stages_named

    if spelling is None:
        return ""
    stages = stages_named(spelling)
    if len(stages) != 1:
        raise UsageError(f"'{spelling}' stands for {' and '.join(stages)}; name the one that failed")
    return stages[0].value


def _read(files: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Return each log with its name, and a sentence for each that cannot be read. Bytes that are no text are replaced."""
    import sys
    from pathlib import Path

    logs: list[tuple[str, str]] = []
    problems: list[str] = []
    for name in files:
        path = Path(name)
        if name == STANDARD_INPUT and files.count(name) > 1:
            problems.append("standard input can be read once; name - once")
            break
        if name == STANDARD_INPUT:
            logs.append((name, sys.stdin.buffer.read().decode("utf-8", errors="replace")))
        elif path.is_dir():
            problems.append(f"{name} is a folder; name the log files in it")
        else:
            try:
                logs.append((name, path.read_bytes().decode("utf-8", errors="replace")))
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else str(error)
                problems.append(f"cannot read {name}: {reason}; name a log file, or - for standard input")
    return logs, problems
