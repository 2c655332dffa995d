"""Assembles the definitions from their parts.

Belongs here: the list of parts. Not here: any part.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from assets.ci import ASSETS as CI_ASSETS
from assets.ci import CHECKS as CI_CHECKS
from assets.compaction import compacted_results, compaction_job, compaction_schedule
from assets.coverage import ASSETS as COVERAGE_ASSETS
from assets.coverage import CHECKS as COVERAGE_CHECKS
from assets.gate import ASSETS as GATE_ASSETS
from assets.gate import CHECKS as GATE_CHECKS
from assets.gate import gate_job
from assets.interactions import interaction_coverage
from assets.lifecycle import HANDOFF, lifecycle
from assets.planning import prove_plan, success_odds
from assets.recommendations import recommendations
from assets.regressions import ASSETS as REGRESSION_ASSETS
from assets.regressions import CHECKS as REGRESSION_CHECKS
from assets.sql_models import sql_models
from assets.triage import triage_job, triage_matrix
from assets.verdicts import unfeasible_verdicts
from mlcc_dagster.jobs import JOBS
from resources.dagster_resources import PlatformResource, handoff_io_manager
from sensors import notifying, path_proving, scanning, tier_schedules, triage_runs, upkeep


def build_defs(*, resource_overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Return the platform's definitions.

    One run is one process (in-process executor): a step of its own would cost seconds of imports. `resource_overrides`
    replaces resources by key (`platform`, `handoff`), for commands that listen and tests that break things.
    """
    resources: dict[str, Any] = {"platform": PlatformResource(), HANDOFF: handoff_io_manager}
    return dg.Definitions(
        assets=[
            lifecycle,
            *COVERAGE_ASSETS,
            interaction_coverage,
            unfeasible_verdicts,
            success_odds,
            prove_plan,
            *CI_ASSETS,
            *REGRESSION_ASSETS,
            recommendations,
            *GATE_ASSETS,
            triage_matrix,
            compacted_results,
            sql_models,
        ],
        asset_checks=[*COVERAGE_CHECKS, *CI_CHECKS, *REGRESSION_CHECKS, *GATE_CHECKS],
        jobs=[*JOBS, compaction_job, gate_job, triage_job],
        sensors=[
            *upkeep.SENSORS,
            *notifying.SENSORS,
            *tier_schedules.SENSORS,
            *scanning.SENSORS,
            *path_proving.SENSORS,
            *triage_runs.SENSORS,
        ],
        schedules=[compaction_schedule, *tier_schedules.SCHEDULES, *path_proving.SCHEDULES],
        resources=resources | dict(resource_overrides or {}),
        executor=dg.in_process_executor,
    )
