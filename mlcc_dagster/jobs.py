"""The named jobs: what sensors, schedules and commands ask for by name.

Belongs here: selections of assets. Not here: when they run (`sensors`).
"""

import dagster as dg

from assets.coverage import coverage_matrix, gap_list
from assets.lifecycle import lifecycle

lifecycle_job = dg.define_asset_job(
    "lifecycle_job",
    selection=dg.AssetSelection.assets(lifecycle),
    description="One configuration through its whole lifecycle; a partition is a configuration.",
)

refresh_job = dg.define_asset_job(
    "refresh_job",
    selection=dg.AssetSelection.assets(coverage_matrix, gap_list),
    description="Coverage and gaps of every model family, in one run.",
)

JOBS = (lifecycle_job, refresh_job)
