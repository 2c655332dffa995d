"""Advice on configurations from what this home has measured.

Belongs here: reading the store once and handing it to the pure rules; which configuration a model and an instance mean. Not
here: the rules (`core.recommendation`), showing them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mlcc_dagster.core.compared_metrics import ComparedMetric
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.recommendation import Advice
from mlcc_dagster.core.recommendation_rows import ROW_COLUMNS, Sample, Subject, samples_of
from mlcc_dagster.core.recommendation_strategies import strategy_named
from resources.platform import Platform


@dataclass(frozen=True)
class Recommender:
    """What was measured, read once."""

    samples: tuple[Sample, ...]

    @classmethod
    def take(cls, platform: Platform) -> "Recommender":
        """Read the platform's store now."""
        rows = platform.store.snapshot().read(lambda snapshot: snapshot.rows(columns=ROW_COLUMNS))
        return cls(samples_of(rows))

    def advise(self, subject: Subject, metric: ComparedMetric, *, strategy: str = "matched") -> Advice:
        """Return the advice on a configuration. Raises `UsageError` for an unknown strategy."""
        return strategy_named(strategy)(subject, self._given(subject, strategy), metric)

    def measured(self, configurations: Iterable[Configuration]) -> tuple[Subject, ...]:
        """Return the configurations of which their model was measured on their instance type, each subject once."""
        known = {(each.model_name, each.instance_type, each.deployment_config) for each in self.samples}
        subjects = [Subject.of(each) for each in configurations]
        found: list[Subject] = []
        for each in subjects:
            if (each.model_name, each.instance_type, each.deployment_config) in known and each not in found:
                found.append(each)
        return tuple(found)

    @property
    def config_ids(self) -> frozenset[str]:
        """The ids of the configurations that were measured, also those that were only imported."""
        return frozenset(each.config_id for each in self.samples if each.config_id)

    def subject_measured(self, config_id: str) -> Subject:
        """Return a configuration of `config_ids` as its rows describe it, for one that this home has no record of."""
        return Subject.measured([each for each in self.samples if each.config_id == config_id])

    def _given(self, subject: Subject, strategy: str) -> tuple[Sample, ...]:
        if strategy != "marginal":
            return self.samples
        # It puts whatever it is given together: the model on this instance type, else its family there.
        there = [each for each in self.samples if each.instance_type == subject.instance_type]
        exact = tuple(each for each in there if each.model_name == subject.model_name)
        return exact or tuple(each for each in there if each.model_family == subject.model_family)


def subject_of(platform: Platform, samples: Sequence[Sample], model: str, instance: str) -> Subject:
    """Return the configuration that a model and an instance type mean: the one that is known; where none is, the model behind
    any server, with the settings that all of its `samples` there share, and the default of the others.

    Raises `UsageError` for an instance type that neither the catalog nor a sample has, and where several configurations are
    meant: it names them.
    """
    if instance not in platform.catalog.instances and all(each.instance_type != instance for each in samples):
        raise UsageError(f"no instance type '{instance}' in the catalog; `mlcc catalog list` shows those in use")
    known = {
        config_id: each
        for config_id, each in platform.configurations().items()
        if each.model_name == model and each.instance_type == instance
    }
    subjects = {config_id: Subject.of(each) for config_id, each in known.items()}
    different = {str(each.to_json()) for each in subjects.values()}
    if len(different) == 1:
        return next(iter(subjects.values()))
    if different:
        entries = platform.entries_by_id
        named = ", ".join(entries[key].id if key in entries else key for key in sorted(known))
        raise UsageError(
            f"{len(known)} configurations of {model} on {instance} are known ({named}); name the present one with --config"
        )
    default = Subject.of(
        Configuration(
            deployment_config="",
            model_name=model,
            model_family=platform.catalog.family_of(model),
            instance_type=instance,
            region="",
        )
    )
    there = [each for each in samples if each.model_name == model and each.instance_type == instance]
    return default.of_any_server().with_common(there)
