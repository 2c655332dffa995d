"""The ways of recommending by name.

Belongs here: their names. Not here: the ways (`recommendation.py`, `marginal_recommendation.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from mlcc_dagster.core.compared_metrics import ComparedMetric
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.marginal_recommendation import marginal
from mlcc_dagster.core.recommendation import Advice, matched
from mlcc_dagster.core.recommendation_rows import Sample, Subject

Strategy = Callable[[Subject, Sequence[Sample], ComparedMetric], Advice]

STRATEGIES: Mapping[str, Strategy] = MappingProxyType({"matched": matched, "marginal": marginal})
"""The ways of comparing by name, the default first."""


def strategy_named(name: str) -> Strategy:
    """Return a way of comparing by its name. Raises `UsageError` naming the known ones."""
    if name not in STRATEGIES:
        raise UsageError(f"no strategy '{name}'; use one of {', '.join(STRATEGIES)}")
    return STRATEGIES[name]
