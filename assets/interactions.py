"""How much of the interactions of values is proven.

Belongs here: the asset and its tables. Not here: the measure (`core.interactions`), coverage of whole vectors
(`assets.coverage`).
"""

import dagster as dg

from assets.coverage import ALL_RESULTS, share_text, survey_of
from assets.lifecycle import OWNER
from mlcc_dagster.core.coded_vectors import STRENGTHS
from mlcc_dagster.core.coverage import percent_text
from mlcc_dagster.core.interactions import InteractionCoverage
from resources.dagster_resources import PlatformResource

SHOWN_MISSING = 50
"""Missing combinations in the metadata table; `mlcc coverage --interactions 2 --limit 0` lists all."""


def subsets_table(found: InteractionCoverage) -> dg.MetadataValue:
    """Return covered and possible combinations per subset of dimensions as a Dagster table."""
    records = [
        dg.TableRecord(
            {
                "dimensions": " x ".join(subset.dimensions),
                "covered": subset.covered,
                "possible": subset.possible,
                "share": percent_text(subset.share),
            }
        )
        for subset in found.subsets
    ]
    columns = [dg.TableColumn("dimensions", "string"), dg.TableColumn("covered", "int")]
    columns += [dg.TableColumn("possible", "int"), dg.TableColumn("share", "string")]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


def missing_table(found: InteractionCoverage) -> dg.MetadataValue:
    """Return the first missing combinations as a Dagster table."""
    records = [
        dg.TableRecord({"dimensions": " x ".join(each.dimensions), "values": " x ".join(each.values)})
        for each in found.missing[:SHOWN_MISSING]
    ]
    columns = [dg.TableColumn("dimensions", "string"), dg.TableColumn("values", "string")]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


@dg.asset(
    deps=[ALL_RESULTS],
    group_name="coverage",
    owners=[OWNER],
    kinds={"python"},
    description=(
        "Of all combinations of one, two and three values that some possible vector contains, the share that proven vectors "
        "contain, and which are missing."
    ),
)
def interaction_coverage(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.MaterializeResult:
    """Measure the store's snapshot for t = 1, 2, 3 over all families at once: an interaction belongs to none of them."""
    survey = survey_of(platform)
    metadata: dict[str, dg.MetadataValue] = {}
    for strength in STRENGTHS:
        found = survey.interactions(strength)
        metadata[f"{strength}-way covered"] = dg.MetadataValue.text(share_text(found.share))
        if strength == 2:
            metadata["2-way by dimensions"] = subsets_table(found)
            metadata["2-way missing"] = dg.MetadataValue.int(len(found.missing))
            metadata["first missing"] = missing_table(found)
    context.log.info(f"interactions of {len(survey.possible)} possible vectors")
    return dg.MaterializeResult(metadata=metadata)
