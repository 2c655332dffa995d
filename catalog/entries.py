"""Reading the entries of a path, with the checks that hold within one entry and against the rest of the catalog.

Belongs here: what makes an entry sound. Not here: whether its configuration can exist (the constraints say that).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from catalog.model import (
    FAILURE_CATEGORIES,
    FULL_PRECISION,
    LIFECYCLE_STEPS,
    MOST_CONCURRENCY,
    TARGET_SYNONYMS,
    DeploymentTarget,
    Entry,
    EntryBenchmark,
    Instance,
    Model,
    TuneConfig,
    TuneModel,
    Workload,
)
from catalog.reading import Fields, records

ID_PATTERN = r"[a-z0-9-]+"
SHORTEST_TIMEOUT_SECONDS = 60


@dataclass
class EntryReader:
    """Reads entries against the facts already read. `known` holds the ids of every list, those of records with a
    mistake included; the mappings hold sound records only."""

    problems: list[str]
    regions: tuple[str, ...]
    local_region: str
    quantizations: Collection[str]
    targets: Mapping[str, DeploymentTarget]
    instances: Mapping[str, Instance]
    models: Mapping[str, Model]
    workloads: Mapping[str, Workload]
    tune_models: Mapping[str, TuneModel]
    known: Mapping[str, Collection[str]]
    seen: dict[str, str] = field(default_factory=dict)

    def path(self, document: Any, base: str, *, defaults: Any = None, defaults_path: str = "") -> tuple[Entry, ...]:
        """Read the list `entries` of a document, whose `defaults` stand for what an entry does not say."""
        if document is None:  # the unreadable file is reported already
            return ()
        if not defaults_path:
            defaults, defaults_path = self._defaults(document, base), f"{base}defaults"
        entries = []
        for path, raw in records(document, "entries", base, self.problems):
            fields = Fields(raw, path, self.problems, defaults=defaults, defaults_path=defaults_path)
            entry = self._entry(fields, path)
            fields.close()
            if fields.sound:
                entries.append(entry)
        return tuple(entries)

    def extensions(self, document: Any, base: str) -> Mapping[str, tuple[Entry, ...]]:
        """Read the list `extensions` of a document into entries by the extension's name."""
        if document is None:
            return MappingProxyType({})
        extensions: dict[str, tuple[Entry, ...]] = {}
        defaults = self._defaults(document, base)
        for path, raw in records(document, "extensions", base, self.problems):
            fields = Fields(raw, path, self.problems)
            name = fields.text("name", pattern=ID_PATTERN)
            if name in extensions:
                fields.wrong("name", f"'{name}' is given twice; ids must be unique")
            fields.raw("entries", required=False)
            fields.close()
            if isinstance(raw, dict):
                entries = self.path(raw, f"{path}.", defaults=defaults, defaults_path=f"{base}defaults")
                extensions[name or path] = entries
        return MappingProxyType(extensions)

    def _defaults(self, document: Any, base: str) -> Mapping[str, Any]:
        defaults = document.get("defaults") if isinstance(document, dict) else None
        if isinstance(defaults, dict):
            unknown = Fields(defaults, f"{base}defaults", self.problems)
            for name in Entry.__dataclass_fields__:
                unknown.raw(name, required=False)
            unknown.close()
            return defaults
        if defaults is not None:
            self.problems.append(f"{base}defaults: must be a mapping of field names to values")
        return {}

    def _entry(self, f: Fields, path: str) -> Entry:
        entry_id = f.text("id", pattern=ID_PATTERN)
        if entry_id in self.seen:
            f.wrong("id", f"'{entry_id}' is given twice, first at {self.seen[entry_id]}; ids must be unique")
        elif entry_id:
            self.seen[entry_id] = path
        target = f.text("deployment_target", among=(*self.known["deployment_targets"], *TARGET_SYNONYMS))
        target = TARGET_SYNONYMS.get(target, target)
        track = f.text("track", among={each.track for each in self.targets.values()})
        if target in self.targets and track and self.targets[target].track != track:
            f.wrong("track", f"must be {self.targets[target].track} for {target}, not {track}")
        instance_type = f.text("instance_type", among=self.known["instances"])
        entry = Entry(
            id=entry_id,
            tier=f.text("tier", among=self.known["tiers"]),
            track=track,
            deployment_config=f.text("deployment_config", among=self.known["deployment_configs"]),
            model_name=f.text("model_name", nullable=True, among=self.known["models"]),
            instance_type=instance_type,
            region=self._entry_region(f, instance_type),
            deployment_target=target,
            quantization=self._quantization(f),
            tp_degree=f.number("tp_degree", required=False, nullable=True, whole=True, at_least=1),
            max_model_len=f.number("max_model_len", required=False, nullable=True, whole=True, at_least=1),
            enable_lora=f.flag("enable_lora", default=False),
            serving_params=MappingProxyType(f.text_mapping("serving_params")),
            lifecycle=f.texts("lifecycle", among=LIFECYCLE_STEPS),
            timeout=f.number("timeout", whole=True, at_least=SHORTEST_TIMEOUT_SECONDS),
            tune_timeout=f.number(
                "tune_timeout", required=False, nullable=True, whole=True, at_least=SHORTEST_TIMEOUT_SECONDS
            ),
            tune_config=self._tune_config(f),
            benchmark=self._benchmark(f),
            expected_failure=f.text("expected_failure", required=False, nullable=True, among=FAILURE_CATEGORIES),
        )
        self._check_lifecycle(f, entry)
        return entry

    def _quantization(self, f: Fields) -> str:
        known = (*self.quantizations, *FULL_PRECISION)
        quantization = f.text("quantization", required=False, nullable=True, among=known)
        return "none" if quantization is None or quantization in FULL_PRECISION else quantization

    def _entry_region(self, f: Fields, instance_type: str | None) -> str:
        local = self.local_region
        region = f.text("region", among=(*self.regions, local))
        instance = self.instances.get(instance_type or "")
        if region and instance and instance.local != (region == local):
            right = local if instance.local else "a region of regions.yaml"
            f.wrong("region", f"must be {right} for {instance_type}, not {region}")
        return region

    def _tune_config(self, f: Fields) -> TuneConfig | None:
        inner = f.inner("tune_config", required=False)
        if inner is None:
            return None
        tune_id = inner.text("tune_id", among=self.known["tune_models"])
        offer = self.tune_models.get(tune_id or "")
        technique = inner.text("technique", among=offer.techniques if offer else None)
        offered = offer.techniques.get(technique, ()) if offer and technique else None
        training_type = inner.text("training_type", among=offered)
        dataset = inner.text("dataset", pattern=r"[a-z0-9]+://\S+")
        inner.close()
        return TuneConfig(tune_id, technique, training_type, dataset)

    def _benchmark(self, f: Fields) -> EntryBenchmark:
        inner = f.inner("benchmark")
        if inner is None:
            return EntryBenchmark(False, "", ())
        enabled = inner.flag("enabled")
        workload = inner.text("workload", among=self.known["workloads"])
        levels = inner.whole_numbers("concurrency_levels", required=False, at_most=MOST_CONCURRENCY)
        inner.close()
        declared = self.workloads.get(workload or "")
        return EntryBenchmark(enabled, workload, levels or (declared.concurrency_levels if declared else ()))

    def _check_lifecycle(self, f: Fields, entry: Entry) -> None:
        steps = entry.lifecycle
        canonical = tuple(step for step in LIFECYCLE_STEPS if step in steps)
        if steps != canonical:
            f.wrong("lifecycle", f"must be in canonical order: {', '.join(canonical)}")
        if steps and "clean" not in steps:
            f.wrong("lifecycle", "must end with clean, or what it deploys stays")
        if "tune" in steps and entry.tune_config is None:
            f.wrong("tune_config", "is missing although the lifecycle tunes; add it or drop the tune step")
        if "tune" in steps and not entry.enable_lora:
            f.wrong("enable_lora", "must be true, since the lifecycle tunes an adapter")
        for step in ("adapter", "test_adapter"):
            if step in steps and "tune" not in steps:
                f.wrong("lifecycle", f"has {step} without tune; add the tune step that makes the adapter")
        if ("benchmark" in steps) != entry.benchmark.enabled:
            f.wrong("benchmark", "must be enabled exactly when the lifecycle has the benchmark step")
        model, workload = self.models.get(entry.model_name or ""), self.workloads.get(entry.benchmark.workload or "")
        if model and workload and entry.benchmark.enabled and model.kind != workload.kind:
            f.wrong(
                "benchmark", f"workload {workload.name} is for a {workload.kind} and {model.name} is a {model.kind}"
            )
        offer = self.tune_models.get(entry.tune_config.tune_id) if entry.tune_config else None
        if offer and offer.model_name and entry.model_name and offer.model_name != entry.model_name:
            f.wrong("tune_config", f"tune_id {offer.tune_id} tunes {offer.model_name}, not {entry.model_name}")
