"""Settings that measured better than those in use.

Belongs here: the asset and its tables. Not here: the rules (`core.recommendation`), reading the store
(`resources.recommendations`).
"""

from collections.abc import Iterable

import dagster as dg

from assets.coverage import ALL_RESULTS
from assets.lifecycle import OWNER
from mlcc_dagster.core.compared_metrics import metric_named
from mlcc_dagster.core.recommendation import Recommendation
from mlcc_dagster.core.recommendation_rows import Subject
from resources.dagster_resources import PlatformResource
from resources.recommendations import Recommender

METRICS = ("throughput", "latency")
"""What is to get better, by alias; predictors have the latter alone. `mlcc recommend --metric` asks for the others too."""

SHOWN_ROWS = 200
"""Recommendations in a metadata table, most improvement first."""

_NUMBERS = {"improvement %": "float", "runs": "int", "from": "float", "to": "float"}


def recommendations_table(found: Iterable[tuple[Subject, Recommendation]]) -> dg.MetadataValue:
    """Return recommendations as a Dagster table, in the columns of `mlcc recommend`."""
    records = []
    for subject, each in sorted(found, key=lambda pair: -pair[1].improvement_pct)[:SHOWN_ROWS]:
        interval = "" if each.interval_pct is None else "{:+.1f} to {:+.1f}".format(*each.interval_pct)
        records.append(
            dg.TableRecord(
                {
                    "model": subject.model_name,
                    "instance": subject.instance_type,
                    "server": subject.deployment_config or "",
                    "dimension": each.dimension,
                    "now": str(each.current_value),
                    "better": str(each.recommended_value),
                    "improvement %": round(each.improvement_pct, 1),
                    "interval": interval,
                    "confidence": each.confidence.value,
                    "basis": each.basis.value,
                    "runs": each.num_runs,
                    "from": each.baseline_metric_value,
                    "to": each.recommended_metric_value,
                }
            )
        )
    names = ("model", "instance", "server", "dimension", "now", "better", "improvement %", "interval", "confidence")
    columns = [dg.TableColumn(name, _NUMBERS.get(name, "string")) for name in (*names, "basis", "runs", "from", "to")]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


@dg.asset(
    deps=[ALL_RESULTS],
    group_name="performance",
    owners=[OWNER],
    kinds={"python"},
    description=(
        "Per configuration whose model was measured on its instance type: another quantization, tensor parallelism, context "
        "length or cache type that measured better under the same load, all else equal, with the interval of the improvement."
    ),
)
def recommendations(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.MaterializeResult:
    """Advise on every known configuration that was measured, from one look at the store."""
    opened = platform.open()
    recommender = Recommender.take(opened)
    subjects = recommender.measured(opened.configurations().values())
    metadata: dict[str, dg.MetadataValue] = {"configurations": dg.MetadataValue.int(len(subjects))}
    for alias in METRICS:
        metric = metric_named(alias)
        found = [(each, one) for each in subjects for one in recommender.advise(each, metric).recommendations]
        metadata[alias] = dg.MetadataValue.int(len(found))
        metadata[f"better {alias}"] = recommendations_table(found)
    context.log.info(f"advice on {len(subjects)} configurations")
    return dg.MaterializeResult(metadata=metadata)
