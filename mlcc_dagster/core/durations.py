"""How long a stage is expected to take: learned from past runs, and from a declared time where there are none.

Belongs here: what a past run tells, and the estimate. Not here: declared times (the catalog), reading past runs and prices
(`resources.estimates`), the limits of stages (`stages.py`). Source of the rule: expected seconds of a stage list on an
executor are learned from past runs, with a prior from the catalog.

The estimate goes from the general to the particular, on the logarithm of the seconds: the declared time, then the other
deployment configurations on this executor, then the other configurations of this deployment configuration, then the runs of
this configuration. Each level moves what the one before it says towards the median of its own votes, by the weight
votes / (votes + `PSEUDO_VOTES`). It is robust in three ways:

- The logarithm, since times differ by factors: a run ten times too long counts as much as one ten times too short.
- The median and not the mean: as long as fewer than half of the votes of a level are outliers, how far out they lie does not
  matter. A single run has no median to hide behind, so there the pseudo-votes hold it: ten times too long moves the estimate
  by no more than 10 ** (1 / 3), about 2.2.
- One vote per group: a configuration that ran a thousand times has one vote among its deployment configuration, and a
  deployment configuration one on the executor. Nor is a run counted on two levels.
"""

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from types import MappingProxyType
from typing import Any

from mlcc_dagster.core.outcome import StageStatus
from mlcc_dagster.core.stages import Stage

PSEUDO_VOTES = 2.0
"""As many votes as the level before counts for: two runs of a configuration weigh as much as all that is known of others."""

NEWEST_RUNS = 25
"""So many of the newest runs of a configuration tell how long a stage takes: code and images change, and older runs are
those of another time. It bounds the memory, too."""

SHORTEST_SECONDS = 0.001
"""What is shorter counts as this, since 0 has no logarithm."""


@dataclass(frozen=True)
class StageRun:
    """That a stage of a configuration passed, and the seconds that took: virtual ones where the run was played."""

    stage: Stage
    deployment_config: str
    config_id: str
    seconds: float


@dataclass(frozen=True)
class Duration:
    """The expected seconds of a stage, and how many runs stand behind them: of the configuration itself, of others of its
    deployment configuration, of others on the executor. No run at all: the declared time stands alone."""

    seconds: float
    own_runs: int
    related_runs: int
    other_runs: int

    @property
    def assumed(self) -> bool:
        """Whether no run at all stands behind it."""
        return not (self.own_runs or self.related_runs or self.other_runs)


def passed_seconds(stages: Mapping[str, Any]) -> dict[Stage, float]:
    """Return the seconds of the stages that passed, from a run's stage results (`StageResult.to_document`, by stage).

    Only they tell how long a stage takes: a failed one ended early, or at its limit. Nor does `clean` tell anything where
    nothing was deployed. Seconds that are none (not finite, negative) are left out, as are stages of a later version.
    """
    found: dict[Stage, float] = {}
    for stage in Stage:
        document = stages.get(stage.value)
        if document is None or document["status"] != StageStatus.PASS.value:
            continue
        seconds = float(document["outputs"].get("virtual_seconds", document["seconds"]))
        if math.isfinite(seconds) and seconds >= 0:
            found[stage] = seconds
    if Stage.DEPLOY not in found:
        found.pop(Stage.CLEAN, None)
    return found


class _Group:
    """What the members of a group say of a stage: a vote (a logarithm) and a number of runs of each."""

    def __init__(self, votes: Mapping[str, float], runs: Mapping[str, int]) -> None:
        self.votes = votes
        self.runs = runs
        self.all_runs = sum(runs.values())
        self._ordered = sorted(votes.values())

    @property
    def vote(self) -> float:
        """The vote of the whole group, one level up."""
        return median(self._ordered)

    def without(self, member: str) -> tuple[float, int]:
        """Return the median of the other members' votes and their number; (0, 0) where there is no other."""
        if member not in self.votes:
            return (self.vote, len(self.votes)) if self.votes else (0.0, 0)
        others = len(self.votes) - 1
        if others == 0:
            return 0.0, 0
        # Not a new sorted list: for a plan over all members that would cost the square of their number.
        left_out = bisect_left(self._ordered, self.votes[member])
        low, high = (place + (place >= left_out) for place in ((others - 1) // 2, others // 2))
        return (self._ordered[low] + self._ordered[high]) / 2, others


_NOBODY = _Group({}, {})


class Durations:
    """What past runs on one executor tell about the seconds of stages. Never changes once made."""

    def __init__(self, runs: Iterable[StageRun]) -> None:
        """Learn from stages that passed, the newest first: of each configuration the first `NEWEST_RUNS` count. `runs` is
        read once and not kept: memory grows with the configurations, not with the runs."""
        logs: dict[tuple[Stage, str, str], list[float]] = defaultdict(list)
        for run in runs:
            kept = logs[run.stage, run.deployment_config, run.config_id]
            if len(kept) < NEWEST_RUNS:
                kept.append(math.log(max(run.seconds, SHORTEST_SECONDS)))
        votes: dict[tuple[Stage, str], dict[str, float]] = defaultdict(dict)
        counts: dict[tuple[Stage, str], dict[str, int]] = defaultdict(dict)
        for (stage, deployment_config, config_id), kept in logs.items():
            votes[stage, deployment_config][config_id] = median(kept)
            counts[stage, deployment_config][config_id] = len(kept)
        self._related = MappingProxyType({key: _Group(votes[key], counts[key]) for key in votes})
        self._others = MappingProxyType(
            {
                stage: _Group(
                    {name: group.vote for (of, name), group in self._related.items() if of is stage},
                    {name: group.all_runs for (of, name), group in self._related.items() if of is stage},
                )
                for stage in {of for of, _ in self._related}
            }
        )

    def expected(self, stage: Stage, *, deployment_config: str, config_id: str, declared_seconds: float) -> Duration:
        """Return the expected seconds of a stage of a configuration, as the head of this module says.

        `declared_seconds` (above 0) stand for what is known before any run.
        """
        others = self._others.get(stage, _NOBODY)
        related = self._related.get((stage, deployment_config), _NOBODY)
        own_runs = related.runs.get(config_id, 0)
        estimate = math.log(max(declared_seconds, SHORTEST_SECONDS))
        estimate = _moved(estimate, *others.without(deployment_config))
        estimate = _moved(estimate, *related.without(config_id))
        estimate = _moved(estimate, related.votes.get(config_id, 0.0), own_runs)
        return Duration(
            seconds=math.exp(estimate),
            own_runs=own_runs,
            related_runs=related.all_runs - own_runs,
            other_runs=others.all_runs - others.runs.get(deployment_config, 0),
        )

    def knows(self, stage: Stage, *, deployment_config: str, config_id: str) -> bool:
        """Whether a run of exactly this configuration tells about the stage: else all configurations of its deployment
        configuration with the same declared time have the same expected seconds."""
        return config_id in self._related.get((stage, deployment_config), _NOBODY).votes


def _moved(estimate: float, vote: float, votes: int) -> float:
    return (PSEUDO_VOTES * estimate + votes * vote) / (PSEUDO_VOTES + votes)
