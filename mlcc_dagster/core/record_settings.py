"""What a record says of how its configuration is validated, and a person's changes of it.

Belongs here: the attributes that may be changed, their vocabularies, and reading a change. Not here: the other attributes
(`ci_records.py`), writing a change (`ci_table.py`). Source of the rules: "the CI record" and registration of the specification.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from catalog.model import MOST_CONCURRENCY, Catalog, nearest
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.exceptions import InvalidInput
from mlcc_dagster.core.outcome import BenchmarkPlan

DEFAULT_BUILD_STRATEGY = "codebuild-submit"
BUILD_STRATEGIES = (DEFAULT_BUILD_STRATEGY, "docker-in-docker")

NO_WORKLOAD = "none"
"""The workload of a configuration for whose kind the catalog has none."""

SETTABLE = ("benchmarkEnabled", "benchmarkWorkload", "benchmarkConcurrencyLevels", "buildStrategy", "tier")
"""What `mlcc ci set` changes."""


def default_workload(configuration: Configuration, catalog: Catalog) -> str:
    """Return the workload that a configuration is measured with where nothing names one, `NO_WORKLOAD` where the catalog has
    none of its kind."""
    return catalog.default_workload(configuration.deployment_config, configuration.instance_type) or NO_WORKLOAD


def workload_problem(configuration: Configuration, workload: str, catalog: Catalog) -> str | None:
    """Say why a configuration cannot be measured with a workload, none when it can."""
    declared = catalog.workloads.get(workload)
    if declared is None:
        return f"'{workload}' is not known; {nearest(workload, catalog.workloads)}"
    config = catalog.deployment_configs.get(configuration.deployment_config)
    if config is not None and config.kind != declared.kind:
        return f"'{workload}' is for a {declared.kind} and {config.name} serves a {config.kind}; choose another"
    return None


@dataclass(frozen=True)
class RecordSettings:
    """The attributes of a record that a person may change."""

    benchmark: BenchmarkPlan
    build_strategy: str
    tier: str | None

    def to_json(self) -> dict[str, Any]:
        """Return them under their published names."""
        return {
            "benchmarkEnabled": self.benchmark.enabled,
            "benchmarkWorkload": self.benchmark.workload,
            "benchmarkConcurrencyLevels": list(self.benchmark.concurrency_levels),
            "buildStrategy": self.build_strategy,
            "tier": self.tier,
        }


def changed_settings(
    words: Sequence[str], settings: RecordSettings, configuration: Configuration, catalog: Catalog
) -> RecordSettings:
    """Return the settings with what `words` say, each `key=value`.

    Raises `InvalidInput` carrying every mistake of every word.
    """
    problems: list[str] = []
    said: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if name not in SETTABLE:
            problems.append(f"{name}: cannot be set; {nearest(name, SETTABLE)}")
        elif not equals:
            problems.append(f"{name}: has no value; write {name}=VALUE")
        elif said.setdefault(name, value) != value:
            problems.append(f"{name}: is given twice with different values; keep one")
    benchmark = settings.benchmark
    if (flag := said.get("benchmarkEnabled")) is not None:
        if flag not in ("true", "false"):
            problems.append(f"benchmarkEnabled: must be true or false, not '{flag}'")
        benchmark = replace(benchmark, enabled=flag == "true")
    if (levels := said.get("benchmarkConcurrencyLevels")) is not None:
        numbers = [each.strip() for each in levels.split(",")]
        if not all(_is_level(each) for each in numbers):
            shown = levels if len(levels) <= 60 else f"{levels[:57]}..."
            problems.append(
                f"benchmarkConcurrencyLevels: must be whole numbers from 1 to {MOST_CONCURRENCY}, such as 1,4,8, not '{shown}'"
            )
        else:
            benchmark = replace(benchmark, concurrency_levels=tuple(dict.fromkeys(int(each) for each in numbers)))
    if (workload := said.get("benchmarkWorkload")) is not None:
        benchmark = replace(benchmark, workload=workload)
    if benchmark.enabled or workload is not None:
        problem = workload_problem(configuration, benchmark.workload, catalog)
        problems += [f"benchmarkWorkload: {problem}"] if problem else []
    strategy = said.get("buildStrategy", settings.build_strategy)
    if strategy not in BUILD_STRATEGIES:
        problems.append(f"buildStrategy: '{strategy}' is not known; use one of {', '.join(BUILD_STRATEGIES)}")
    tier = said.get("tier", settings.tier)
    if "tier" in said and tier not in catalog.tiers:
        problems.append(f"tier: '{tier}' is not known; use one of {', '.join(catalog.tiers)}")
    if problems:
        raise InvalidInput("the request", problems)
    return RecordSettings(benchmark, strategy, tier)


def _is_level(text: str) -> bool:
    # the length first: Python refuses to read thousands of digits
    return text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= MOST_CONCURRENCY
