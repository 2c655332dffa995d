"""What a stage costs: which of them rent the instance, which are paid by the build minute or by the job.

Belongs here: the rule from a stage and its seconds to USD, expected and at most, and back. Not here: prices themselves
(the catalog), promised and spent money (`budget.py`), how long a stage takes. Source of the rule: a price is seconds of the
stage list x USD per hour of the instance, plus build minutes and tuning; a promise is price x the stage limits.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from catalog.model import Costs
from mlcc_dagster.core.stages import CANONICAL_ORDER, Stage

_SECONDS_PER_HOUR = 3600
_SECONDS_PER_MINUTE = 60

_End = Callable[[tuple[float, float]], float]
"""Which value of a catalog range (low, high) counts."""


def _mean(ends: tuple[float, float]) -> float:
    return (ends[0] + ends[1]) / 2


class Billing(StrEnum):
    """How an executor's stages are paid for. `MACHINE`: all of them run on the instance itself, which is taken from the
    first to the last. `MANAGED`: a build service by the minute, an endpoint's instance from deploy to clean, tuning by the
    job."""

    MACHINE = "machine"
    MANAGED = "managed"


BUILD_STAGES: frozenset[Stage] = frozenset({Stage.STAGE, Stage.BUILD, Stage.PUSH})
"""Done by the build service, where there is one."""

RENTED_STAGES: frozenset[Stage] = frozenset(CANONICAL_ORDER[CANONICAL_ORDER.index(Stage.DEPLOY) :])
"""The stages through which a deployment lives: its instance is paid in all of them, also in those that make no use of it
(a tuning job runs beside it, and registering takes place before it is cleaned away)."""


@dataclass(frozen=True)
class Prices:
    """What the stages of one configuration cost on one executor. `usd_per_hour` is the instance's, none where the catalog
    has no price: it then counts as 0, and whoever spends by it must refuse the configuration."""

    billing: Billing
    usd_per_hour: float | None
    costs: Costs

    def usd(self, stage: Stage, seconds: float) -> float:
        """Return what so many seconds of a stage are expected to have cost, in USD: catalog ranges count with their mean.

        Build minutes count in parts, though a build service may round the last one up (less than a build minute per stage).
        A stage of 0 seconds never began and costs nothing, a tuning job included.
        """
        return self._usd(stage, seconds, _mean)

    def most_usd(self, stage: Stage, seconds: float) -> float:
        """Return the most that so many seconds of a stage can cost, in USD: catalog ranges count with their high end."""
        return self._usd(stage, seconds, max)

    def seconds_for(self, stage: Stage, usd: float) -> float:
        """Return the seconds of a stage that so many USD pay for even when it costs the most, infinity where it costs
        nothing; 0 where they do not pay for its beginning."""
        left = usd - self._job_usd(stage, max)
        rate = self._usd_per_second(stage, max)
        if left < 0:
            return 0.0
        return left / rate if rate > 0 else math.inf

    def run_usd(self, stages: Iterable[tuple[Stage, float]]) -> float:
        """Return what the performed stages of a run, each with its seconds, are expected to have cost together.

        Skipped stages are not among them. Without a deploy nothing was rented: what comes after it costs nothing then,
        except on the machine itself.
        """
        return self._run_usd(stages, _mean)

    def most_run_usd(self, stages: Iterable[tuple[Stage, float]]) -> float:
        """Return the most that the performed stages of a run can have cost together."""
        return self._run_usd(stages, max)

    def _run_usd(self, stages: Iterable[tuple[Stage, float]], end: _End) -> float:
        done = list(stages)
        rented = self.billing is Billing.MACHINE or any(stage is Stage.DEPLOY for stage, _ in done)
        return sum(self._usd(stage, seconds, end) for stage, seconds in done if rented or stage not in RENTED_STAGES)

    def _usd(self, stage: Stage, seconds: float, end: _End) -> float:
        return 0.0 if seconds <= 0 else seconds * self._usd_per_second(stage, end) + self._job_usd(stage, end)

    def _usd_per_second(self, stage: Stage, end: _End) -> float:
        if self.billing is Billing.MACHINE or stage in RENTED_STAGES:
            return (self.usd_per_hour or 0.0) / _SECONDS_PER_HOUR
        return end(self.costs.build_minute_usd) / _SECONDS_PER_MINUTE if stage in BUILD_STAGES else 0.0

    def _job_usd(self, stage: Stage, end: _End) -> float:
        return end(self.costs.tuning_usd) if self.billing is Billing.MANAGED and stage is Stage.TUNE else 0.0
