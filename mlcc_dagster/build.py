"""Assembles the definitions from their parts.

Belongs here: the list of parts. Not here: any part.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from assets.coverage import ASSETS as COVERAGE_ASSETS
from assets.coverage import CHECKS as COVERAGE_CHECKS
from assets.interactions import interaction_coverage
from assets.lifecycle import HANDOFF, lifecycle
from assets.planning import prove_plan, success_odds
from assets.verdicts import unfeasible_verdicts
from mlcc_dagster.jobs import JOBS
from resources.dagster_resources import PlatformResource, handoff_io_manager
from sensors import path_proving, upkeep


def build_defs(*, resource_overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Return the platform's definitions.

    One run is one process (in-process executor): a step of its own would cost seconds of imports. `resource_overrides`
    replaces resources by key (`platform`, `handoff`), for commands that listen and tests that break things.
    """
    resources: dict[str, Any] = {"platform": PlatformResource(), HANDOFF: handoff_io_manager}
    return dg.Definitions(
        assets=[lifecycle, *COVERAGE_ASSETS, interaction_coverage, unfeasible_verdicts, success_odds, prove_plan],
        asset_checks=[*COVERAGE_CHECKS],
        jobs=[*JOBS],
        sensors=[*upkeep.SENSORS, *path_proving.SENSORS],
        schedules=[*path_proving.SCHEDULES],
        resources=resources | dict(resource_overrides or {}),
        executor=dg.in_process_executor,
    )
