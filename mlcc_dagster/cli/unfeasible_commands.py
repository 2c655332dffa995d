"""`mlcc unfeasible`: verdicts that keep a vector from being tried, and a person's word on them."""

from typing import TYPE_CHECKING, Annotated

import typer

from mlcc_dagster.cli.help_pages import examples, show_help

if TYPE_CHECKING:
    from mlcc_dagster.core.configuration import Vector
    from mlcc_dagster.core.verdicts import Say

VectorWords = Annotated[
    str,
    typer.Argument(metavar="VECTOR", help="The six values of a vector in their order, with / or , between them."),
]
Reason = Annotated[str, typer.Option(help="Why; it is shown wherever the verdict is.")]
EXAMPLE = "transformers-vllm/qwen3/g5/none/1/realtime-inference"


def add_to(app: typer.Typer) -> None:
    """Add the `unfeasible` group to the command line."""
    group = typer.Typer(rich_markup_mode=None)
    group.callback(
        invoke_without_command=True,
        epilog=examples("mlcc unfeasible list", f'mlcc unfeasible mark {EXAMPLE} --reason "driver too old"'),
    )(overview)
    group.command("list", epilog=examples("mlcc unfeasible list", "mlcc unfeasible list --json"))(list_verdicts)
    group.command("mark", epilog=examples(f'mlcc unfeasible mark {EXAMPLE} --reason "driver too old"'))(mark)
    group.command("lift", epilog=examples(f'mlcc unfeasible lift {EXAMPLE} --reason "new driver"'))(lift)
    app.add_typer(group, name="unfeasible")


def overview(context: typer.Context) -> None:
    """What is known not to work, and a person's word on it."""
    show_help(context)


def list_verdicts(
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List unfeasible vectors, live and expired.

    A verdict expires when what it depended on changed (engine, template, constraint) or a person lifts it; its vector is
    a gap again then.
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.surveys import take_survey

    found = take_survey(None).unfeasible
    rows = [verdict.to_json() for verdict in found]
    if json:
        console.print_json({"verdicts": rows})
        return
    live = sum(verdict.live for verdict in found)
    console.print_table(
        f"{console.counted(live, 'live verdict')}, {len(rows) - live} expired",
        ["vector", "state", "why", "since"],
        ([row["vector"], "live" if row["live"] else "expired", row["why"], row["since"]] for row in rows),
    )


def mark(vector: VectorWords, reason: Reason) -> None:
    """Say that a vector is unfeasible: no plan starts it until that is lifted."""
    from mlcc_dagster.core.verdicts import Say

    _say(Say.MARK, vector, reason)


def lift(vector: VectorWords, reason: Reason) -> None:
    """Say that a vector may be tried again, whatever was said or found until now.

    A failed one may be tried at once, also where its attempts were used up.
    """
    from mlcc_dagster.core.verdicts import Say

    _say(Say.LIFT, vector, reason)


def _say(say: "Say", text: str, reason: str) -> None:
    import getpass
    from datetime import UTC, datetime

    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.opening import open_platform
    from mlcc_dagster.core.exceptions import UsageError
    from mlcc_dagster.core.standing import Status
    from mlcc_dagster.core.verdicts import Say, Word
    from resources.survey import Survey

    vector = named_vector(text, reason)
    platform = open_platform(to_read=True)  # a mistyped home is said to be new
    survey = Survey.take(platform)
    before = survey.standing.status(vector)
    if say is Say.MARK and before is Status.PROVEN:
        console.warn(f"{vector} is proven; it stays so, and the mark is kept beside it")
    if say is Say.LIFT and before not in (Status.UNFEASIBLE, Status.FAILED):
        raise UsageError(f"{vector} is {before.value}: there is no verdict to lift; `mlcc unfeasible list` shows them")
    platform.words.say(Word(vector, say, reason.strip(), getpass.getuser(), datetime.now(UTC)))
    now = Survey.take(platform).standing.status(vector)
    console.say(f"{vector}: {before.value} before, {now.value} now")


def named_vector(text: str, reason: str) -> "Vector":
    """Read the six values of a vector whose dimensions the catalog knows; raises `InvalidInput` with all mistakes."""
    import re

    from catalog.loader import load_catalog
    from mlcc_dagster.core.configuration import DIMENSIONS, Vector
    from mlcc_dagster.core.exceptions import InvalidInput
    from mlcc_dagster.core.universe import universe_values

    values = [part.strip() for part in re.split(r"[/,·]", text)]
    problems = [] if reason.strip() else ["--reason is empty; say why, others will read it"]
    if len(values) != len(DIMENSIONS):
        problems.append(f"a vector has {len(DIMENSIONS)} values ({'/'.join(DIMENSIONS)}), not {len(values)}: '{text}'")
    else:
        for name, value in zip(DIMENSIONS, values, strict=True):
            known = universe_values(load_catalog())[name]
            if value not in known:
                problems.append(f"{name}: '{value}' is not in the catalog; use one of {', '.join(known)}")
    if problems:
        raise InvalidInput("the request", problems)
    return Vector(*values)
