"""The named jobs: what sensors, schedules and commands ask for by name.

Belongs here: selections of assets. Not here: when they run (`sensors`).
"""

import dagster as dg

from assets.coverage import CHECKS, coverage_matrix, gap_list
from assets.interactions import interaction_coverage
from assets.lifecycle import lifecycle
from assets.planning import prove_plan, success_odds
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
        coverage_matrix, gap_list, interaction_coverage, unfeasible_verdicts, success_odds, prove_plan
    )
    | dg.AssetSelection.checks(*CHECKS),
    description=(
        "Coverage and gaps of every model family, interactions, verdicts, odds, the plan, and the checks of the results, in one "
        "run."
    ),
    # Dagster's default launcher does not look after its runs' processes: one that was killed would stay started for ever.
    tags={"dagster/max_runtime": "1800"},
)

JOBS = (lifecycle_job, refresh_job)
