"""Loads: a workload at concurrency levels, as somebody asks for one in place of what a record says.

Belongs here: whether a configuration can be measured with a load, and its text form, which a run carries in a tag. Not here: what
a record or entry measures by itself (`record_settings.py`, the catalog), measuring.
"""

import re
from collections.abc import Sequence

from catalog.model import MOST_CONCURRENCY, Catalog
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.outcome import BenchmarkPlan
from mlcc_dagster.core.record_settings import workload_problem

_LOAD = re.compile(r"(?P<workload>\S+) x (?P<levels>\d+(,\d+)*)")


def load_of(
    configuration: Configuration, workload: str, levels: Sequence[int] | None, catalog: Catalog
) -> BenchmarkPlan:
    """Return the plan that measures a configuration with a workload at concurrency levels, in rising order; without any at
    those of the workload.

    Raises `UsageError` for a workload that the catalog does not have or that is of another kind of model, and for levels that
    are none.
    """
    problem = workload_problem(configuration, workload, catalog)
    if problem is not None:
        raise UsageError(f"workload {problem}")
    asked = catalog.workloads[workload].concurrency_levels if levels is None else levels
    wrong = [str(level) for level in asked if not 1 <= level <= MOST_CONCURRENCY]
    if wrong or not asked:
        raise UsageError(
            f"no concurrency level {', '.join(wrong) or 'was named'}; use whole numbers from 1 to {MOST_CONCURRENCY}"
        )
    return BenchmarkPlan(enabled=True, workload=workload, concurrency_levels=tuple(sorted(set(asked))))


def read_levels(text: str) -> tuple[int, ...]:
    """Read concurrency levels as a person writes them: `1,4`. Raises `UsageError` for anything else."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) <= 9 for part in parts):
        raise UsageError(f"'{text}' is no list of concurrency levels; write whole numbers with commas, such as 1,4")
    return tuple(int(part) for part in parts)


def load_text(plan: BenchmarkPlan) -> str:
    """Return a load as one text: `local_chat x 1,4`. `read_load` reads it back."""
    return f"{plan.workload} x {','.join(map(str, plan.concurrency_levels))}"


def read_load(text: str, configuration: Configuration, catalog: Catalog) -> BenchmarkPlan:
    """Read what `load_text` wrote, for one configuration. Raises `UsageError` for a text that is none, and as `load_of` does."""
    found = _LOAD.fullmatch(text)
    if found is None:
        raise UsageError(
            f"'{text}' is no load; write a workload and its concurrency levels, such as 'local_chat x 1,4'"
        )
    return load_of(configuration, found["workload"], read_levels(found["levels"]), catalog)
