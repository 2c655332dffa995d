"""The named jobs: what sensors, schedules and commands ask for by name.

Belongs here: selections of assets. Not here: when they run (`sensors`).
"""

import dagster as dg

from assets.ci import ASSETS as CI_ASSETS
from assets.ci import CHECKS as CI_CHECKS
from assets.coverage import CHECKS, coverage_matrix, gap_list
from assets.interactions import interaction_coverage
from assets.lifecycle import lifecycle
from assets.planning import prove_plan, success_odds
from assets.recommendations import recommendations
from assets.regressions import ASSETS as REGRESSION_ASSETS
from assets.regressions import CHECKS as REGRESSION_CHECKS
from assets.sql_models import sql_models
from assets.verdicts import unfeasible_verdicts

lifecycle_job = dg.define_asset_job(
    "lifecycle_job",
    # The checks read the whole store: a run must neither pay for that nor turn red for another run's damaged file.
    selection=dg.AssetSelection.assets(lifecycle).without_checks(),
    description="One configuration through its whole lifecycle; a partition is a configuration.",
)

refresh_job = dg.define_asset_job(
    "refresh_job",
    selection=dg.AssetSelection.assets(
        coverage_matrix,
        gap_list,
        interaction_coverage,
        unfeasible_verdicts,
        success_odds,
        prove_plan,
        *CI_ASSETS,
        *REGRESSION_ASSETS,
        recommendations,
    )
    | dg.AssetSelection.assets(sql_models)
    | dg.AssetSelection.checks(*CHECKS, *CI_CHECKS, *REGRESSION_CHECKS),
    description=(
        "Coverage and gaps of every model family, interactions, verdicts, odds, the plan, the reports of validation, "
        "baselines, regressions and recommendations, the SQL models, and the checks, in one run."
    ),
    # Dagster's default launcher does not look after its runs' processes: one that was killed would stay started for ever.
    tags={"dagster/max_runtime": "1800"},
)

JOBS = (lifecycle_job, refresh_job)
