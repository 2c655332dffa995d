"""An execution of the Path Prover in this process: one run after the other, the plan made anew after each result.

Belongs here: the loop and its report. Not here: what is chosen (`core.planning`) or promised (`resources.prover`).
"""

from dataclasses import dataclass, field
from typing import Any

from mlcc_dagster.cli import console
from mlcc_dagster.cli.instance import open_instance
from mlcc_dagster.cli.progress_view import ProgressView
from mlcc_dagster.cli.rounds import Target
from mlcc_dagster.core.coverage import Coverage, percent_text
from resources.ci_table import Attempt
from resources.platform import Platform
from resources.prover import Execution, Proof, make_plan, promise
from resources.survey import Survey

INTERRUPTED = "interrupted"
"""How an execution ended that a person ended."""


@dataclass
class ProofReport:
    """What an execution proved and what it cost, with coverage before and after."""

    execution: Execution
    before: Coverage
    after: Coverage
    ended_by: str
    spent_usd: float
    proofs: list[tuple[Proof, Attempt | None]] = field(default_factory=list)
    interrupted: bool = False

    @property
    def exit_code(self) -> int:
        """0 all proven, 1 something failed, 130 interrupted."""
        if self.interrupted:
            return 130
        return 0 if all(attempt is not None and attempt.status == "completed" for _, attempt in self.proofs) else 1

    def to_json(self) -> dict[str, Any]:
        """Return the report as one JSON document."""
        return {
            "execution": self.execution.name,
            "ended_by": self.ended_by,
            "interrupted": self.interrupted,
            "spent_usd": self.spent_usd,
            "proven_before": dict(zip(("numerator", "denominator"), self.before.proven_share, strict=True)),
            "proven_after": dict(zip(("numerator", "denominator"), self.after.proven_share, strict=True)),
            "proofs": [
                {
                    "config_id": proof.config_id,
                    "configuration": str(proof.pick.candidate.configuration),
                    "why": proof.pick.why,
                    "status": attempt.status if attempt else None,
                    "run_id": attempt.run_id if attempt else None,
                    "seconds": attempt.seconds if attempt else None,
                    "cost_usd": attempt.cost_usd if attempt else None,
                    "reason": attempt.reason if attempt else None,
                }
                for proof, attempt in self.proofs
            ],
        }

    def show(self) -> None:
        """Print the proofs as a table, then coverage before and after."""
        rows = [
            [
                str(proof.pick.candidate.configuration),
                proof.pick.why,
                f"{attempt.seconds:.1f}" if attempt and attempt.seconds is not None else None,
                f"{attempt.cost_usd:.4f}" if attempt and attempt.cost_usd is not None else None,
                "proven" if attempt and attempt.status == "completed" else (attempt.status if attempt else "not run"),
            ]
            for proof, attempt in self.proofs
        ]
        if rows:
            console.print_table(
                f"Path proofs of {self.execution.name}",
                ["configuration", "why it was chosen", "seconds", "USD", "result"],
                rows,
                right=["seconds", "USD"],
            )
        for proof, attempt in self.proofs:
            if attempt is not None and attempt.status != "completed":
                console.say(f"{proof.pick.candidate.configuration}: {attempt.reason}")
        was, now = self.before.proven_share, self.after.proven_share
        console.say(
            f"{console.counted(len(rows), 'gap')} tried | proven {was[0]}/{was[1]} = {percent_text(was)} before, "
            f"{now[0]}/{now[1]} = {percent_text(now)} after | {self.spent_usd:.4f} USD | {self.ended_by.replace('_', ' ')}"
        )
        if self.interrupted:
            console.say("interrupted: the unfinished run was cleaned and its money given back")


def look(platform: Platform) -> Survey:
    """Take a survey of the platform now."""
    return Survey.take(platform)


def run_execution(platform: Platform, execution: Execution, *, verbose: bool = False, show: bool = True) -> ProofReport:
    """Prove gaps until the execution's bounds are reached or no startable gap is left, and return what was learned.

    The plan is made anew after each result. Ctrl-C ends the current run in order and settles what it used.
    """
    survey = look(platform)
    report = ProofReport(execution, survey.coverage, survey.coverage, "all_gaps_filled", 0.0)
    with open_instance(platform.home) as instance:
        from assets.partitions import add_missing_keys
        from assets.reaping import clear
        from mlcc_dagster.cli.dagster_runs import DagsterRuns

        clear(platform, instance)
        add_missing_keys(platform, instance)
        with ProgressView(platform, [], shown=show) as view:
            runs = DagsterRuns(platform, instance, view.listener, verbose=verbose)
            while not report.interrupted:
                planned = make_plan(platform, look(platform), execution)
                report.ended_by = planned.ended_by
                proof = next(promise(platform, execution, planned, at_most=1), None)
                if proof is None:
                    break
                add_missing_keys(platform, instance)
                candidate = proof.pick.candidate
                view.note(f"{candidate.configuration}: {proof.pick.why}")
                target = Target(candidate.config_id, str(candidate.configuration), candidate.configuration)
                view.expect(target)
                end = runs.lifecycle(
                    target, round_id=execution.name, tier=None, run_type="path_prove", reservation=proof.run_key
                )
                report.interrupted = end.interrupted
                attempts = platform.ci.attempts(candidate.config_id, round=execution.name)
                report.proofs.append((proof, max(attempts, key=lambda a: a.generation, default=None)))
            if not report.interrupted:
                runs.refresh()
    if report.interrupted:
        report.ended_by = INTERRUPTED
    report.after = look(platform).coverage
    totals = platform.ledger.totals(execution.name)
    report.spent_usd = totals.spent_usd + totals.overrun_usd
    return report
