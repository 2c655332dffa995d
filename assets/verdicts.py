"""The verdicts that keep a vector from being tried.

Belongs here: the asset and its table. Not here: when a verdict holds (`core.verdicts`), a person's word (`mlcc
unfeasible`).
"""

import dagster as dg

from assets.coverage import ALL_RESULTS, survey_of
from assets.lifecycle import OWNER
from resources.dagster_resources import PlatformResource

SHOWN_VERDICTS = 200
"""Verdicts in the metadata table; `mlcc unfeasible list` shows all."""


@dg.asset(
    deps=[ALL_RESULTS],
    group_name="coverage",
    owners=[OWNER],
    kinds={"python"},
    description=(
        "Vectors that are known bad, with the reason: live verdicts, and expired ones, whose vectors are gaps again because "
        "what the verdict depended on changed or a person lifted it."
    ),
)
def unfeasible_verdicts(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.MaterializeResult:
    """List the verdicts of the store's snapshot and of persons, live ones first."""
    found = survey_of(platform).unfeasible
    live = sum(verdict.live for verdict in found)
    records = [
        dg.TableRecord(
            {
                "vector": str(verdict.vector),
                "state": "live" if verdict.live else "expired",
                "why": verdict.why,
                "since": verdict.since.isoformat(timespec="seconds") if verdict.since is not None else "",
            }
        )
        for verdict in found[:SHOWN_VERDICTS]
    ]
    columns = [dg.TableColumn(name, "string") for name in ("vector", "state", "why", "since")]
    context.log.info(f"{live} live verdicts, {len(found) - live} expired")
    return dg.MaterializeResult(
        metadata={
            "live": dg.MetadataValue.int(live),
            "expired": dg.MetadataValue.int(len(found) - live),
            "verdicts": dg.MetadataValue.table(records, dg.TableSchema(columns)),
        }
    )
