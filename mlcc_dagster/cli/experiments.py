"""The cheapest experiment that would prove a vector, and what it may cost.

Belongs here: putting together what the catalog, the evidence and the limits of stages say of one vector. Not here: which
vectors are worth an experiment (`core.planning`), promising money and starting runs (`resources.prover`).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlcc_dagster.core.configuration import Configuration, Vector

if TYPE_CHECKING:
    from resources.survey import Survey


@dataclass(frozen=True)
class Experiment:
    """The run that would prove a vector: its configuration, and the most it can take (seconds, USD: price x the limits of
    its stages). All of it none where there is no such run, and then `why_not` says why."""

    configuration: Configuration | None = None
    config_id: str | None = None
    most_seconds: float | None = None
    most_usd: float | None = None
    why_not: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values; the configuration as it is written for people."""
        return {
            "configuration": None if self.configuration is None else str(self.configuration),
            "config_id": self.config_id,
            "most_seconds": self.most_seconds,
            "most_usd": None if self.most_usd is None else round(self.most_usd, 6),
            "why_not": self.why_not,
        }

    def __str__(self) -> str:
        if self.why_not is not None:
            return f"no experiment: {self.why_not}"
        return (
            f"cheapest experiment: {self.configuration} ({self.config_id}), at most {self.most_usd:.4f} USD "
            f"and {self.most_seconds:.0f} s"
        )


def cheapest_experiment(vector: Vector, survey: "Survey") -> Experiment:
    """Return the run that would prove a vector on the survey's executor, or why there is none: it is proven already, waits
    (unfeasible, retry not due, parked), or nothing makes it concrete.

    What the catalog makes of a vector is the cheapest there is: see `core.resolution.resolve`.
    """
    from mlcc_dagster.core.identity import config_id
    from mlcc_dagster.core.prices import Prices
    from mlcc_dagster.core.resolution import Unresolved, configuration_of, resolve
    from resources.lifecycle import limit_seconds, stages_of
    from resources.prover import benchmark_for

    if vector in survey.standing.proven:
        return Experiment(why_not="it is proven already")
    reason, detail = survey.standing.reason(vector, now=survey.taken_at)
    if not reason.startable:
        return Experiment(why_not=f"{reason.value}: {detail}")
    catalog = survey.catalog
    concrete = resolve(vector, catalog, survey.executor.can_run)
    if isinstance(concrete, Unresolved):
        return Experiment(why_not=concrete.reason)
    key = config_id(concrete)
    entry = next((each for each in catalog.entries if config_id(configuration_of(each, catalog)) == key), None)
    stages = stages_of(entry, benchmark_for(catalog, concrete))
    limits = [(stage, limit_seconds(entry, stage)) for stage in stages]
    # What is resolved has a price: an instance without one is never chosen for a vector.
    prices = Prices(survey.executor.billing, catalog.instances[concrete.instance_type].usd_per_hour, catalog.costs)
    return Experiment(concrete, key, sum(seconds for _, seconds in limits), prices.most_run_usd(limits))
