"""`mlcc evaluate`: a candidate bundle asked every question of an evaluation set, and making such a set. It does not import
Dagster."""

import os
from pathlib import Path
from typing import Annotated

import typer

from mlcc_dagster.cli.help_pages import examples, show_help

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def add_to(app: typer.Typer) -> None:
    """Add the `evaluate` group to the command line."""
    group = typer.Typer(rich_markup_mode=None)
    group.callback(
        invoke_without_command=True,
        epilog=examples(
            "mlcc evaluate --bundle ./candidate --eval-set eval_set.jsonl --output candidate_eval.json",
            "mlcc evaluate make-set --output eval_set.jsonl",
        ),
    )(evaluate)
    group.command("make-set", epilog=examples("mlcc evaluate make-set --output eval_set.jsonl --seed 7"))(make_set)
    app.add_typer(group, name="evaluate")


def evaluate(
    context: typer.Context,
    bundle: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the candidate, with a bundle.json.")
    ] = None,
    eval_set: Annotated[Path | None, typer.Option(metavar="FILE", help="The evaluation set, or its .dvc file.")] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write the evaluation (candidate_eval.json).")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Ask every question again, also those that were answered before.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Ask a served candidate every question of an evaluation set.

    bundle.json names model_name and quantization, and optionally instance_type, max_model_len and serving_params. The same
    candidate and set give the same answers; an evaluation that was interrupted goes on where it was.
    """
    given = {"--bundle": bundle, "--eval-set": eval_set, "--output": output}
    from mlcc_dagster.core.exceptions import UsageError

    if context.invoked_subcommand is not None:
        named = [name for name, value in given.items() if value is not None]
        if named:
            raise UsageError(f"{', '.join(named)} must stand behind `{context.invoked_subcommand}`, where it has them")
        return
    if all(value is None for value in given.values()):
        show_help(context)
        raise typer.Exit(2)  # a line of the CI whose variables are all empty has evaluated nothing
    if bundle is None or eval_set is None or output is None:
        missing = [name for name, value in given.items() if value is None]
        raise UsageError(f"{', '.join(missing)} is missing; an evaluation needs {', '.join(given)}")
    from mlcc_dagster.cli import console
    from resources.evaluations import assignment, evaluate, write_document
    from resources.home import Home

    refuse_output(output)
    home = Home.current()
    asked = assignment(home, bundle, eval_set)
    with console.progress("questions", len(asked.eval_set.questions)) as advance:
        found = evaluate(
            home, asked, fresh=fresh, say=lambda line: console.err().print(line, markup=False), answered=advance
        )
    document = found.to_json()
    write_document(output, document)
    if json:
        console.print_json(
            {name: value for name, value in document.items() if name != "items"} | {"output": str(output)}
        )
        return
    right = sum(item.correct for item in found.items)
    console.print_table(
        f"{right} of {len(found.items)} answers right ({right / len(found.items):.4f}; guessing {asked.eval_set.chance:.4f})",
        ["bucket", "accuracy", "n"],
        ([name, f"{score.accuracy:.4f}", score.n] for name, score in found.buckets.items()),
        right=["accuracy", "n"],
        below=[
            f"{found.evaluated['seconds']:.1f} s of answers by {asked.configuration} on set {found.eval_set_dvc_hash}",
            f"candidate {found.candidate_sha}, written to {output}",
        ],
    )


def make_set(
    output: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the set (JSON lines).")],
    seed: Annotated[int, typer.Option(help="Number that the questions are drawn from.")] = 1,
    per_cell: Annotated[
        int,
        typer.Option(metavar="N", help="Questions for each tense, person and class of verb; there are 125 of those."),
    ] = 10,
    json: JsonOption = False,
) -> None:
    """Write an evaluation set of English verb forms, made by rules so that the right answers are known.

    Each question is the beginning of a sentence and all forms of one verb. The same seed writes the same file.
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.core.exceptions import UsageError
    from mlcc_dagster.core.verb_questions import verb_questions
    from resources.evaluation_sets import content_hash
    from resources.result_manifest import replace_durably

    if seed < 0:
        raise UsageError(f"--seed must be 0 or more, not {seed}")
    refuse_output(output)
    made = verb_questions(seed=seed, per_cell=per_cell)
    replace_durably(output, made.to_text().encode())
    found = content_hash(output)
    if json:
        console.print_json(
            {
                "output": str(output),
                "eval_set_dvc_hash": found,
                "name": made.name,
                "seed": seed,
                "questions": len(made.questions),
                "chance": round(made.chance, 6),
                "buckets": made.buckets,
            }
        )
        return
    console.say(
        f"{len(made.questions)} questions in {len(made.buckets)} buckets written to {output}; guessing answers "
        f"{made.chance:.4f} right"
    )
    console.say(f"hash {found}; `dvc add {output.name}` writes the same")


def refuse_output(path: Path) -> None:
    """Raise `UsageError` where a file cannot be written, before anything is done for it."""
    from mlcc_dagster.core.exceptions import UsageError

    folder = path.absolute().parent
    if not folder.is_dir():
        raise UsageError(f"--output: there is no folder {folder}; make it first")
    if path.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"--output: {path} cannot be written; name a file in a folder that you may write to")
