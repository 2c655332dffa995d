"""What would be proven next, and how likely runs are to prove anything.

Belongs here: the two assets and their tables. Not here: plans (`core.planning`), odds (`core.odds`), promising money and
requesting runs (`sensors.path_proving`).
"""

from datetime import UTC, datetime

import dagster as dg

from assets.coverage import ALL_RESULTS, survey_of
from assets.lifecycle import OWNER
from mlcc_dagster.core.odds import SuccessOdds, Trials
from mlcc_dagster.core.planning import Plan
from resources.dagster_resources import PlatformResource
from resources.prover import Execution, make_plan

SHOWN_DOUBTS = 50
"""Values and pairs in the metadata table of `success_odds`."""

_NUMBERS = {
    "rank": "int",
    "odds": "float",
    "new pairs": "float",
    "gain": "float",
    "USD": "float",
    "at most USD": "float",
}


def plan_table(planned: Plan) -> dg.MetadataValue:
    """Return the picks of a plan as a Dagster table, the reason of each rank included."""
    records = [
        dg.TableRecord(
            {
                "rank": pick.rank,
                "why": pick.why,
                "configuration": str(pick.candidate.configuration),
                "odds": round(pick.odds, 3),
                "new pairs": round(pick.new, 2),
                "gain": round(pick.gain, 2),
                "USD": round(pick.candidate.expected_usd, 4),
                "at most USD": round(pick.candidate.promised_usd, 4),
                "weakest": pick.doubt,
                "waits": pick.waits or "",
            }
        )
        for pick in planned.picks
    ]
    names = ("rank", "why", "configuration", "odds", "new pairs", "gain", "USD", "at most USD", "weakest", "waits")
    columns = [dg.TableColumn(name, _NUMBERS.get(name, "string")) for name in names]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


@dg.asset(
    deps=[dg.AssetDep("gap_list", partition_mapping=dg.AllPartitionMapping()), "success_odds"],
    group_name="planning",
    owners=[OWNER],
    kinds={"python"},
    description=(
        "What the Path Prover would prove next with what is left of today's bounds, ranked by expected new pairs of values per "
        "dollar, with the reason of every rank and how close to the best choice the plan is for certain."
    ),
)
def prove_plan(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.MaterializeResult:
    """Plan the rest of today's execution from one look at the store. Promises nothing."""
    opened = platform.open()
    execution = Execution.of_day(datetime.now(UTC))
    planned = make_plan(opened, survey_of(platform), execution)
    left_out = "\n".join(f"- {vector}: {why}" for vector, why in list(planned.left_out.items())[:SHOWN_DOUBTS])
    context.log.info(f"{len(planned.picks)} picks, {len(planned.left_out)} left out ({planned.ended_by})")
    return dg.MaterializeResult(
        metadata={
            "picks": dg.MetadataValue.int(len(planned.picks)),
            "expected new pairs": dg.MetadataValue.float(planned.objective),
            "no choice exceeds": dg.MetadataValue.float(planned.upper_bound),
            "share of the best for certain": dg.MetadataValue.float(planned.proven_ratio),
            "plan": plan_table(planned),
            "left out": dg.MetadataValue.md(left_out or "none"),
            "ends with": dg.MetadataValue.text(planned.ended_by),
            "strategy": dg.MetadataValue.text(planned.strategy),
            "execution": dg.MetadataValue.text(execution.name),
            "bounds": dg.MetadataValue.text(f"{execution.max_proves} proves, {execution.max_usd:g} USD a day"),
        }
    )


def doubts_table(odds: SuccessOdds) -> dg.MetadataValue:
    """Return the values and pairs that are least likely to pass as a Dagster table."""
    records = [
        dg.TableRecord(
            {
                "what": " with ".join(
                    f"{name}={value}" for name, value in zip(doubt.dimensions, doubt.values, strict=True)
                ),
                "passes": round(doubt.passes, 3),
                "passed": doubt.passed,
                "failed": doubt.failed,
            }
        )
        for doubt in odds.doubts()[:SHOWN_DOUBTS]
    ]
    columns = [dg.TableColumn("what", "string"), dg.TableColumn("passes", "float")]
    columns += [dg.TableColumn("passed", "int"), dg.TableColumn("failed", "int")]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


@dg.asset(
    deps=[ALL_RESULTS],
    group_name="planning",
    owners=[OWNER],
    kinds={"python"},
    description=(
        "How likely runs are to prove their configuration, learned from all trials: what is most in doubt, and how good the odds "
        "were so far (Brier score, predicted against observed)."
    ),
)
def success_odds(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.MaterializeResult:
    """Learn the odds from the store's snapshot and judge them by predictions made before each outcome was known."""
    from resources.plots import png_markdown, reliability_plot

    trials = Trials.from_standing(survey_of(platform).standing)
    odds = SuccessOdds(trials)
    judged = odds.calibration
    metadata: dict[str, dg.MetadataValue] = {
        "trials": dg.MetadataValue.int(len(trials)),
        "passed": dg.MetadataValue.int(int(trials.passed.sum())),
        "judged predictions": dg.MetadataValue.int(judged.count),
        "most in doubt": doubts_table(odds),
    }
    if judged.brier is not None and judged.reference is not None:
        metadata["Brier score"] = dg.MetadataValue.float(judged.brier)
        metadata["Brier score of the share so far"] = dg.MetadataValue.float(judged.reference)
        metadata["correction of log-odds"] = dg.MetadataValue.text(f"x {judged.slope:.2f} {judged.shift:+.2f}")
        picture = png_markdown(reliability_plot(judged.bins), "predicted odds against what was proven")
        metadata["reliability"] = dg.MetadataValue.md(picture)
    context.log.info(f"odds from {len(trials)} trials, {judged.count} of them predicted before")
    return dg.MaterializeResult(metadata=metadata)
