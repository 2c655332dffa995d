"""Proposing the next setting of a search: a tree-structured Parzen estimator over what is known so far.

Belongs here: Optuna, which is imported when a study is made. Not here: what a setting is worth (`core.optimization`), which
settings there are (`core.optimization_space`), running one.
"""

import random
import warnings
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from mlcc_dagster.core.optimization_space import Axis, Setting, Space, Value

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

STARTUP_TRIALS = 8
"""So many settings are known before the estimator says anything; until then they are drawn at random."""

MOST_PROPOSALS = 50
"""So often another setting is proposed when one is known already or cannot run; then one is drawn at random."""


class SettingStudy:
    """Proposes settings of a space. The same seed and the same told scores give the same proposals.

    The study lives in memory: what it knows is in the store, and a later one is told it again.
    """

    def __init__(self, space: Space, *, seed: int, startup: int = STARTUP_TRIALS) -> None:
        import optuna

        self._optuna = optuna
        self._space = space
        self._draw = random.Random(seed)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup, multivariate=True)
        self._study = optuna.create_study(direction="minimize", sampler=sampler)
        self._distributions = {axis.name: self._distribution(axis) for axis in space.axes}

    def tell(self, setting: Setting, score: float) -> None:
        """Add what a setting scored; infinity for one that failed, which counts as worse than all."""
        parameters = {
            axis.name: axis.values.index(value) if axis.ordered else value
            for axis, value in zip(self._space.axes, setting, strict=True)
        }
        self._study.add_trial(
            self._optuna.trial.create_trial(params=parameters, distributions=self._distributions, value=score)
        )

    def propose(self, among: Collection[Setting]) -> Setting:
        """Return the setting to try next, one of those given (at least one)."""
        wanted = frozenset(among)
        for _ in range(MOST_PROPOSALS):
            trial = self._study.ask(self._distributions)
            setting = self._setting(trial.params)
            # what it scores is told when it is known; a trial that is left open would count as running
            self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
            if setting in wanted:
                return setting
        return self._draw.choice(sorted(wanted, key=str))

    def _distribution(self, axis: Axis) -> "BaseDistribution":
        if axis.ordered:
            # the place of a number among the values, since these grow by factors
            return self._optuna.distributions.IntDistribution(0, len(axis.values) - 1)
        return self._optuna.distributions.CategoricalDistribution(axis.values)

    def _setting(self, parameters: Mapping[str, Value]) -> Setting:
        return tuple(
            axis.values[int(str(parameters[axis.name]))] if axis.ordered else parameters[axis.name]
            for axis in self._space.axes
        )
