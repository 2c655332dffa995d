"""`mlcc gate`: may a candidate replace the baseline, and how a baseline follows another. It does not import Dagster.

Belongs here: reading the request, showing the decision. Not here: the rules (`core.gate`), the chain of baselines
(`core.baselines`), benchmark metrics (`benchmark_gate_commands`).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlcc_dagster.cli import benchmark_gate_commands, gate_study_commands
from mlcc_dagster.cli.help_pages import examples, show_help

if TYPE_CHECKING:
    from mlcc_dagster.core.evaluation_reading import Read
    from mlcc_dagster.core.evaluations import CandidateEvaluation, EvalBaseline
    from mlcc_dagster.core.gate import BucketVerdict, GateDecision
    from resources.gate_documents import Recorded

BASELINE = Path("eval_baseline.json")
AN_EVALUATION = "an evaluation such as `mlcc evaluate` writes"
A_BASELINE = "a baseline such as eval_baseline.json"

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
BaselineOption = Annotated[Path, typer.Option(metavar="FILE", help="The committed baseline.")]


def add_to(app: typer.Typer) -> None:
    """Add the `gate` group to the command line."""
    group = typer.Typer(rich_markup_mode=None)
    group.callback(
        invoke_without_command=True,
        epilog=examples(
            "mlcc gate --candidate candidate_eval.json --baseline eval_baseline.json",
            "mlcc gate --candidate candidate_eval.json --rule noninferiority --json",
        ),
    )(gate)
    group.command(
        "update-baseline",
        epilog=examples(
            "mlcc gate update-baseline --from candidate_eval.json --justification https://example.com/decisions/12"
        ),
    )(update_baseline)
    group.command("check-baseline", epilog=examples("mlcc gate check-baseline --ref origin/main"))(check_baseline)
    benchmark_gate_commands.add_to(group)
    gate_study_commands.add_to(group)
    app.add_typer(group, name="gate")


def gate(
    context: typer.Context,
    candidate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The candidate's evaluation (candidate_eval.json).")
    ] = None,
    baseline: BaselineOption = BASELINE,
    tolerance: Annotated[
        float | None,
        typer.Option(help="Share of the items that a bucket may lose, in place of the baseline's (0.02 = 2 points)."),
    ] = None,
    rule: Annotated[
        str | None, typer.Option(metavar="NAME", help="The rule that decides: fixed (default) or noninferiority.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Decide bucket by bucket whether a candidate may go on.

    Both rules are shown, one decides.

    Exit 0 promote, 1 blocked (documents that do not belong together included), 3 inconclusive, 2 a file that cannot be read.
    Where the candidate is registered the decision is recorded in the model registry.
    """
    from mlcc_dagster.core.exceptions import UsageError

    if context.invoked_subcommand is not None:
        if candidate is not None or tolerance is not None or rule is not None or baseline != BASELINE:
            raise UsageError(f"options of the gate must stand behind `{context.invoked_subcommand}`, where it has them")
        return
    if candidate is None:
        if tolerance is None and rule is None and baseline == BASELINE and not json:
            show_help(context)
            raise typer.Exit(2)  # a line of the CI whose variables are all empty has judged nothing
        raise UsageError("--candidate is missing; name the evaluation that `mlcc evaluate` wrote")
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.input_files import both_read
    from mlcc_dagster.core.gate import DEFAULT_RULE, decide
    from mlcc_dagster.core.model_registry import PROD
    from resources.gate_documents import record
    from resources.home import Home
    from resources.registry import open_registry

    registry = open_registry(Home.current())
    (read_candidate, candidate_file), (read_baseline, baseline_file) = both_read(
        lambda: _candidate(candidate), lambda: _baseline(baseline)
    )
    decision = decide(
        read_baseline,
        read_candidate,
        rule=DEFAULT_RULE if rule is None else rule,
        tolerance=tolerance,
        sources={"env": registry.env, "candidate_file": candidate_file, "baseline_file": baseline_file},
    )
    if decision.tolerance.loosened and registry.env == PROD:
        raise UsageError(
            f"--tolerance {decision.tolerance.value} is looser than the committed {decision.tolerance.committed}, which in "
            "production nobody may; change the baseline with `mlcc gate update-baseline --tolerance`"
        )
    recorded = record(
        registry,
        decision.to_json(),
        compared=decision.compared,
        digest=None if decision.candidate is None else decision.candidate.candidate_sha,
        baseline_digest=baseline_file["sha256"],
        evaluated=_evaluated(decision.candidate),
    )
    if json:
        console.print_json(decision.to_json() | {"recorded": recorded.to_json()})
    else:
        _show(decision, recorded)
    raise typer.Exit(1 if recorded.refused else decision.exit_code)


def update_baseline(
    candidate: Annotated[
        Path,
        typer.Option("--from", metavar="FILE", help="The evaluation that becomes the baseline (candidate_eval.json)."),
    ],
    justification: Annotated[str, typer.Option(metavar="URL", help="Where it was decided, such as a pull request.")],
    baseline: BaselineOption = BASELINE,
    tolerance: Annotated[
        float | None, typer.Option(help="Share of the items that a bucket may lose from now on (default: as before).")
    ] = None,
    first: Annotated[bool, typer.Option("--first", help="There is no baseline yet.")] = False,
    json: JsonOption = False,
) -> None:
    """Make an evaluation the baseline, chained to the last one.

    The file is replaced whole or not at all. Without a baseline to chain to it is refused, unless --first says so.
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.core.baselines import fallen, first_baseline, next_baseline
    from mlcc_dagster.core.exceptions import InvalidInput, UsageError
    from resources.evaluations import write_document
    from resources.settings import web_address_refusal

    problems = []
    refused = web_address_refusal(justification)
    if refused is not None:
        problems.append(f"--justification: {refused}")
    if tolerance is not None and not 0 <= tolerance < 1:
        problems.append(f"--tolerance must be a share from 0 to below 1, such as 0.02, not {tolerance}")
    if first and baseline.exists():
        problems.append(f"--first: {baseline} is there; leave --first out, so that the new one chains to it")
    if not first and not baseline.exists():
        problems.append(
            f"{baseline} is not there, so nothing to chain to; name it with --baseline, or make it with --first"
        )
    read, _ = _candidate(candidate)
    problems += read.problems
    last = None if first or not baseline.exists() else _baseline(baseline)[0]
    problems += () if last is None else last.problems
    if problems or read.document is None:
        raise InvalidInput("the update", problems)
    before = None if last is None else last.document
    if before is None:
        made = first_baseline(read.document, justification=justification, tolerance=tolerance)
    else:
        made = next_baseline(before, read.document, justification=justification, tolerance=tolerance)
    try:
        write_document(baseline, made.to_json())
    except OSError as error:
        raise UsageError(f"{baseline} cannot be written ({error.strerror}); name a file that you may write") from error
    lower = {} if before is None else fallen(made, before)
    other_set = before is not None and before.eval_set_dvc_hash != made.eval_set_dvc_hash
    if not json:
        if other_set and before is not None:
            console.warn(f"another evaluation set than before ({before.eval_set_dvc_hash}): accuracies do not compare")
        for name, drop in lower.items():
            console.warn(
                f"bucket {console.cell_text(name)} is {100 * drop:.1f} pp lower than in the last baseline; the gate follows it down"
            )
        if made.tolerance_before is not None:
            console.warn(f"the tolerance changes from {made.tolerance_before} to {made.tolerance_pp}")
        if not made.items:
            console.warn("the evaluation has no results per item: the rule noninferiority cannot compare with it")
        console.say(f"{baseline} is of {made.baseline_sha} now, after {made.previous_baseline_sha or 'none'}")
        return
    console.print_json(
        {
            "baseline": str(baseline),
            "baseline_sha": made.baseline_sha,
            "previous_baseline_sha": made.previous_baseline_sha,
            "eval_set_dvc_hash": made.eval_set_dvc_hash,
            "tolerance_pp": made.tolerance_pp,
            "buckets": len(made.buckets),
            "items": len(made.items),
            "other_set": other_set,
            "fallen": lower,
        }
    )


def check_baseline(
    baseline: BaselineOption = BASELINE,
    last: Annotated[Path | None, typer.Option(metavar="FILE", help="The last committed baseline, as a file.")] = None,
    ref: Annotated[
        str | None, typer.Option(metavar="REF", help="The commit that has the last baseline, such as origin/main.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Check that a baseline chains to the last committed one: for the CI.

    Exit 0 when it does or is unchanged, 1 when it does not.
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.core.baselines import chain_faults
    from mlcc_dagster.core.evaluation_reading import read_baseline
    from mlcc_dagster.core.exceptions import UsageError
    from resources.gate_documents import committed_file

    if (last is None) == (ref is None):
        raise UsageError("name the last baseline with either --last FILE or --ref REF")
    new, _ = _baseline(baseline)
    before: Read[EvalBaseline] | None = None
    if last is not None:
        before = _baseline(last)[0]
    elif ref is not None:
        text = committed_file(baseline, ref)
        before = None if text is None else read_baseline(text, source=f"{ref}:{baseline.name}")
    faults = [*new.problems, *(() if before is None else before.problems)]
    if not faults and new.document is not None:
        faults += chain_faults(new.document, None if before is None else before.document)
    known = None if before is None or before.document is None else before.document.baseline_sha
    if json:
        console.print_json(
            {
                "chains": not faults,
                "baseline_sha": None if new.document is None else new.document.baseline_sha,
                "last_baseline_sha": known,
                "faults": faults,
            }
        )
    elif faults:
        console.print_table(f"{baseline} does not follow the last baseline", ["fault"], ([fault] for fault in faults))
    elif new.document is not None:
        console.say(f"{baseline} of {new.document.baseline_sha} follows {known or 'no baseline: it is the first'}")
    raise typer.Exit(1 if faults else 0)


def _candidate(path: Path) -> "tuple[Read[CandidateEvaluation], dict[str, str]]":
    from mlcc_dagster.core.evaluation_reading import read_candidate

    text, file = _text_of(path, AN_EVALUATION)
    return read_candidate(text, source=path.name), file


def _baseline(path: Path) -> "tuple[Read[EvalBaseline], dict[str, str]]":
    from mlcc_dagster.core.evaluation_reading import read_baseline

    text, file = _text_of(path, A_BASELINE)
    return read_baseline(text, source=path.name), file


def _text_of(path: Path, what: str) -> tuple[str, dict[str, str]]:
    """Return the text of a file, and what says exactly which file it was."""
    from hashlib import sha256

    from mlcc_dagster.cli.input_files import text_of
    from mlcc_dagster.core.exceptions import UsageError

    text = text_of(path, what)
    digest = sha256(path.read_bytes()).hexdigest()
    if text_of(path, what) != text:
        raise UsageError(f"{path} changed while it was read; try again when nobody writes it")
    return text, {"name": path.name, "sha256": digest}


def _evaluated(candidate: "CandidateEvaluation | None") -> dict[str, Any] | None:
    """Return what the evaluation took, as the registry keeps it: only known where there are items."""
    if candidate is None or not candidate.items:
        return None
    right = sum(item.correct for item in candidate.items)
    return {"items": len(candidate.items), "correct": right, "cost_usd": candidate.evaluated.get("cost_usd")}


def _show(decision: "GateDecision", recorded: "Recorded") -> None:
    from mlcc_dagster.cli import console
    from mlcc_dagster.core.compared_metrics import digits_apart
    from mlcc_dagster.core.gate import points

    tolerance = decision.tolerance
    allowed = 100 * tolerance.value
    if tolerance.loosened:
        committed = tolerance.committed or 0.0
        digits = digits_apart(allowed, 100 * committed)
        console.warn(
            f"LOOSENED: judged with {points(tolerance.value, digits)} where the baseline tolerates "
            f"{points(committed, digits)}; the evidence says so"
        )
    if decision.compared:
        document = decision.to_json()
        fixed, paired = (decision.rules[name].buckets for name in ("fixed", "noninferiority"))
        apart = [digits_apart(100 * row["difference"], allowed) for row in document["buckets"].values()]
        digits = max(apart, default=1)
        console.print_table(
            f"{len(document['buckets'])} buckets, tolerated {points(tolerance.value, digits)}",
            [
                "bucket",
                "n",
                "baseline",
                "candidate",
                "difference",
                "fixed",
                "noninferiority",
                "90 % interval",
                "needed",
            ],
            (
                [
                    name,
                    row["n"],
                    f"{row['baseline']:.4f}",
                    f"{row['candidate']:.4f}",
                    f"{100 * row['difference']:+.{digits}f} pp",
                    fixed[name].verdict,
                    *_paired_cells(paired.get(name)),
                ]
                for name, row in document["buckets"].items()
            ),
            right=["n", "baseline", "candidate", "difference", "needed"],
            below=[
                f"over everything {document['aggregate']['baseline']:.4f} -> {document['aggregate']['candidate']:.4f} "
                "(it decides nothing)",
                *(f"rule {name}: {found.verdict}" for name, found in decision.rules.items()),
            ],
        )
    for reason in decision.reasons:
        console.say(f"- {console.cell_text(reason)}")
    console.say(decision.sentence)
    if recorded.line is not None:
        console.say(f"recorded in the model registry, line {recorded.line}")
    elif recorded.refused:
        console.warn(f"NOT RECORDED, so nothing can be promoted: {recorded.why_not}")
    else:
        console.say(f"not recorded in the model registry: {recorded.why_not}")


def _paired_cells(found: "BucketVerdict | None") -> list[Any]:
    if found is None:
        return [None, None, None]
    numbers = found.numbers
    needed = numbers["items_needed"]
    interval = f"{100 * numbers['low']:+.1f} to {100 * numbers['high']:+.1f}"
    return [found.verdict, interval, "no number" if needed is None else needed or None]
