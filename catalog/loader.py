"""Reading the catalog's files into one `Catalog`, with all mistakes of all files at once.

Belongs here: what each file must contain, and the references between files. Not here: entries (`entries.py`), the
mechanics of reading (`reading.py`), and judgements about configurations (the constraints, evaluated by the domain).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from string import Formatter
from types import MappingProxyType
from typing import Any, TypeVar

from catalog.entries import ID_PATTERN, EntryReader
from catalog.errors import CatalogError
from catalog.model import (
    CONSTRAINT_CHECKS,
    LIFECYCLE_STEPS,
    MODEL_KINDS,
    MOST_CONCURRENCY,
    VCPUS,
    Accelerator,
    Architecture,
    Catalog,
    Constraint,
    Costs,
    DeploymentConfig,
    DeploymentTarget,
    Driver,
    Entry,
    FamilyRule,
    Instance,
    LocalScale,
    Model,
    SearchDimension,
    Server,
    StageTime,
    Tier,
    TuneModel,
    Workload,
    family_by,
)
from catalog.reading import Fields, read_yaml, records

DATA_ROOT = Path(__file__).parent

FILES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "accelerators.yaml": ("accelerators",),
        "architectures.yaml": ("architectures",),
        "constraints.yaml": ("constraints",),
        "costs.yaml": ("tuning_usd", "build_minute_usd"),
        "deployment_configs.yaml": ("deployment_configs",),
        "deployment_targets.yaml": ("deployment_targets",),
        "drivers.yaml": ("drivers",),
        "golden_path.yaml": ("defaults", "entries"),
        "golden_path_extensions.yaml": ("defaults", "extensions"),
        "instances.yaml": ("price_sources", "instances"),
        "local_path.yaml": ("defaults", "entries"),
        "model_families.yaml": ("model_families",),
        "models.yaml": ("models",),
        "optimization_space.yaml": ("optimization_space",),
        "regions.yaml": ("path_region", "local_region", "regions"),
        "servers.yaml": ("servers",),
        "stage_times.yaml": ("stage_times",),
        "tiers.yaml": ("tiers",),
        "tune_catalog.yaml": ("tune_models",),
        "workloads.yaml": ("workloads",),
    }
)
"""Every file of the catalog and its top-level keys."""

_VERSION = r"v\d+(\.\d+)*"
_CUDA = r"\d+\.\d+"

R = TypeVar("R")


def load_catalog(root: Path | None = None) -> Catalog:
    """Read and check all files of a catalog folder; without a folder the package's own, read once per process.

    Raises `CatalogError` carrying every mistake of every file, each with its path.
    """
    return _shipped_catalog() if root is None else _load(root)


@lru_cache(maxsize=1)
def _shipped_catalog() -> Catalog:
    return _load(DATA_ROOT)


def _load(root: Path) -> Catalog:
    problems: list[str] = []
    documents = {name: read_yaml(root / name, problems) for name in FILES}
    for name, document in documents.items():
        if document is not None:
            _check_top_level(name, document, problems)
    catalog = _Reader(documents, problems).catalog()
    if problems:
        raise CatalogError(tuple(dict.fromkeys(problems)))
    return catalog


def with_entries_of(catalog: Catalog, files: Iterable[Path]) -> Catalog:
    """Return the catalog with the entries of further files behind its own; each file has `entries` and may have `defaults`,
    as `local_path.yaml` does.

    Raises `CatalogError` carrying every mistake of every file, an id that the catalog already has among them.
    """
    problems: list[str] = []
    reader = EntryReader(
        problems=problems,
        regions=catalog.regions,
        local_region=catalog.local_region,
        quantizations=catalog.quantizations,
        targets=catalog.deployment_targets,
        instances=catalog.instances,
        models=catalog.models,
        workloads=catalog.workloads,
        tune_models=catalog.tune_models,
        known={
            "deployment_configs": catalog.deployment_configs,
            "deployment_targets": catalog.deployment_targets,
            "instances": catalog.instances,
            "models": catalog.models,
            "tiers": catalog.tiers,
            "tune_models": catalog.tune_models,
            "workloads": catalog.workloads,
        },
        seen={entry.id: "the shipped catalog" for entry in catalog.all_entries},
    )
    further: list[Entry] = []
    for path in files:
        document = read_yaml(path, problems)
        if document is not None:
            _check_top_level(path.name, document, problems, ("defaults", "entries"))
        further += reader.path(document, f"{path.name}: ")
    if problems:
        raise CatalogError(tuple(dict.fromkeys(problems)), "the catalog of this home")
    return replace(catalog, entries=(*catalog.entries, *further))


def _check_top_level(name: str, document: Any, problems: list[str], keys: Iterable[str] | None = None) -> None:
    fields = Fields(document, f"{name}: ", problems)
    for key in FILES[name] if keys is None else keys:
        fields.raw(key, required=False)
    fields.close()


@dataclass
class _Reader:
    """One pass over all documents. Records with a mistake are left out of what it builds, but their ids still count as
    known, so that one mistake is not reported again wherever the record is referred to."""

    documents: Mapping[str, Any]
    problems: list[str]
    known: dict[str, set[str]] = field(default_factory=dict)

    def catalog(self) -> Catalog:
        """Read the files in the order in which they refer to each other."""
        self.regions = self._regions()
        self.family_rules = tuple(self._all("model_families", self._family_rule))
        accelerators = self._keyed("accelerators", "name", self._accelerator)
        self.quantizations = {q for accelerator in accelerators.values() for q in accelerator.quantizations}
        drivers = self._keyed("drivers", "family", self._driver)
        architectures = self._keyed("architectures", "name", self._architecture)
        servers = self._keyed("servers", "name", self._server)
        self.targets = self._keyed("deployment_targets", "name", self._target)
        self.configs = self._keyed("deployment_configs", "name", self._deployment_config)
        self.price_sources = self._keyed(
            "price_sources", "name", lambda f: (f.text("source"), f.text("date")), file="instances.yaml"
        )
        self.instances = self._keyed("instances", "instance_type", self._instance)
        self.models = self._keyed("models", "name", self._model)
        self.workloads = self._keyed("workloads", "name", self._workload)
        tiers = self._keyed("tiers", "name", self._tier)
        self.tune_models = self._keyed("tune_models", "tune_id", self._tune_model, file="tune_catalog.yaml")
        constraints = self._keyed("constraints", "id", self._constraint)
        entries = EntryReader(
            problems=self.problems,
            regions=self.regions["regions"],
            local_region=self.regions["local_region"],
            quantizations=self.quantizations,
            targets=self.targets,
            instances=self.instances,
            models=self.models,
            workloads=self.workloads,
            tune_models=self.tune_models,
            known=self.known,
        )
        golden, local = (
            entries.path(self.documents[file], f"{file}: ") for file in ("golden_path.yaml", "local_path.yaml")
        )
        file = "golden_path_extensions.yaml"
        return Catalog(
            entries=(*golden, *local),
            extensions=entries.extensions(self.documents[file], f"{file}: "),
            instances=self.instances,
            models=self.models,
            deployment_configs=self.configs,
            deployment_targets=self.targets,
            servers=servers,
            accelerators=accelerators,
            drivers=drivers,
            architectures=architectures,
            workloads=self.workloads,
            tiers=tiers,
            tune_models=self.tune_models,
            constraints=constraints,
            costs=self._costs(),
            stage_times=self._stage_times(),
            search_dimensions=self._search_dimensions(),
            regions=self.regions["regions"],
            path_region=self.regions["path_region"],
            local_region=self.regions["local_region"],
            family_rules=self.family_rules,
        )

    def _top(self, file: str) -> Fields:
        document = self.documents[file]
        return Fields({} if document is None else document, f"{file}: ", [] if document is None else self.problems)

    def _records(self, key: str, file: str) -> Iterator[Fields]:
        document = self.documents[file]
        if document is None:  # the unreadable file is reported already
            return
        for path, raw in records(document, key, f"{file}: ", self.problems):
            yield Fields(raw, path, self.problems)

    def _all(self, key: str, read: Callable[[Fields], R], *, file: str | None = None) -> Iterator[R]:
        for fields in self._records(key, file or f"{key}.yaml"):
            record = read(fields)
            fields.close()
            if fields.sound:
                yield record

    def _keyed(
        self, key: str, identity: str, read: Callable[[Fields], R], *, file: str | None = None
    ) -> Mapping[str, R]:
        """Read the list under a key into a mapping by id; ids given twice are mistakes."""
        keyed: dict[str, R] = {}
        known = self.known.setdefault(key, set())
        for fields in self._records(key, file or f"{key}.yaml"):
            name = fields.text(identity)
            if name in known:
                fields.wrong(identity, f"'{name}' is given twice; ids must be unique")
            record = read(fields)
            fields.close()
            if name is not None:
                known.add(name)
                if fields.sound:
                    keyed[name] = record
        return MappingProxyType(keyed)

    def _names(self, key: str) -> set[str]:
        return self.known.get(key, set())

    def _regions(self) -> dict[str, Any]:
        fields = self._top("regions.yaml")
        regions = fields.texts("regions")
        return {
            "regions": regions,
            "path_region": fields.text("path_region", among=regions) or "",
            "local_region": fields.text("local_region") or "",
        }

    def _costs(self) -> Costs:
        fields = self._top("costs.yaml")
        return Costs(tuning_usd=fields.pair("tuning_usd"), build_minute_usd=fields.pair("build_minute_usd"))

    def _search_dimensions(self) -> tuple[SearchDimension, ...]:
        found: list[SearchDimension] = []
        for fields in self._records("optimization_space", "optimization_space.yaml"):
            dimension = self._search_dimension(fields)
            fields.close()
            if any((each.name, each.server) == (dimension.name, dimension.server) for each in found):
                fields.wrong("name", f"'{dimension.name}' is given twice for this server; keep one")
            if fields.sound:
                found.append(dimension)
        return tuple(found)

    def _search_dimension(self, f: Fields) -> SearchDimension:
        bounds, values = None, ()
        least = f.number("least", required=False, whole=True, at_least=1)
        most = f.number("most", required=least is not None, whole=True, at_least=least)
        if least is not None and most is not None:
            bounds = (least, most)
        if (f.raw("values", required=False) is None) == (bounds is None) and f.sound:
            f.wrong("values", "must be a list where there is no range, and absent where least and most give one")
        elif bounds is None:
            values = f.settings("values")
        default = f.setting("default")
        offered = default in (values if bounds is None else range(bounds[0], bounds[1] + 1))
        if f.sound and not offered and default not in (None, VCPUS):
            f.wrong("default", f"must be one of the values, {VCPUS} or null, not {default!r}")
        state = f.text("state", among=("sweepable", "future"))
        if state == "sweepable" and bounds is not None:
            f.wrong("values", "must list what a search tries; a range is for what is declared for later")
        return SearchDimension(
            name=f.text("name"),
            server=f.text("server", nullable=True, among=self._names("servers")),
            sets=f.text("sets"),
            sweepable=state == "sweepable",
            values=values,
            bounds=bounds,
            default=default,
        )

    def _stage_times(self) -> Mapping[str, StageTime]:
        times = self._keyed("stage_times", "stage", self._stage_time)
        document = self.documents["stage_times.yaml"]
        if isinstance(document, dict) and isinstance(document.get("stage_times"), list):  # else it is reported already
            for step in LIFECYCLE_STEPS:
                if step not in self._names("stage_times"):
                    self.problems.append(
                        f"stage_times.yaml: stage_times: '{step}' is missing; give every stage its times"
                    )
        return times

    def _stage_time(self, f: Fields) -> StageTime:
        return StageTime(
            stage=f.text("stage", among=LIFECYCLE_STEPS),
            seconds=f.number("seconds", above=0),
            local_seconds=f.number("local_seconds", above=0),
        )

    def _family_rule(self, f: Fields) -> FamilyRule:
        token, suffix = f.text("token"), f.text("suffix", required=False)
        if any(text is not None and text != text.lower() for text in (token, suffix)):
            f.wrong("token", "must be lower case, as the names it is compared with")
        return FamilyRule(token, f.text("separators", required=False) or "", suffix or "", f.text("family"))

    def _accelerator(self, f: Fields) -> Accelerator:
        quantizations = f.texts("quantizations")
        if f.sound and "none" not in quantizations:
            f.wrong("quantizations", "must contain none: every accelerator runs full precision")
        return Accelerator(f.text("name"), quantizations)

    def _driver(self, f: Fields) -> Driver:
        return Driver(f.text("family"), f.text("driver"), f.text("cuda", pattern=_CUDA))

    def _architecture(self, f: Fields) -> Architecture:
        eagle = f.number("eagle", nullable=True, whole=True, at_least=1)
        versions = f.text_mapping("min_versions")
        return Architecture(f.text("name"), eagle, MappingProxyType(versions))

    def _server(self, f: Fields) -> Server:
        return Server(
            name=f.text("name"),
            version=f.text("version", nullable=True, pattern=_VERSION),
            cuda_min=f.text("cuda_min", nullable=True, pattern=_CUDA),
            env_prefix=f.text("env_prefix", nullable=True, pattern=r"[A-Z0-9_]+_"),
        )

    def _target(self, f: Fields) -> DeploymentTarget:
        return DeploymentTarget(f.text("name"), f.text("track"), f.flag("local"))

    def _deployment_config(self, f: Fields) -> DeploymentConfig:
        formats = None if f.raw("model_formats") is None else f.texts("model_formats")
        return DeploymentConfig(
            name=f.text("name"),
            kind=f.text("kind", among=MODEL_KINDS),
            server=f.text("server", among=self._names("servers")),
            generator=f.flag("generator"),
            report_order=f.number("report_order", nullable=True, whole=True, at_least=1),
            local=f.flag("local"),
            needs_gpu=f.flag("needs_gpu"),
            quantizations=f.texts("quantizations", among=self.quantizations),
            model_formats=formats,
        )

    def _instance(self, f: Fields) -> Instance:
        gpu_count = f.number("gpu_count", whole=True, at_least=0)
        with_gpu = bool(gpu_count)
        gpu_type = f.text("gpu_type", required=with_gpu, among=self._names("accelerators"))
        gpu_memory = f.number("gpu_memory_gb", required=with_gpu, above=0)
        if gpu_count == 0 and (gpu_type or gpu_memory):
            f.wrong("gpu_count", "is 0 although a GPU is described; give the count or drop gpu_type and gpu_memory_gb")
        usd = f.number("usd_per_hour", nullable=True, above=0)
        source = f.text("price_source", required=usd is not None, among=self._names("price_sources"))
        note = f.text("price_note", required=False)
        if usd is None and note is None and f.sound:
            f.wrong("price_note", "must say why there is no price")
        named, date = self.price_sources.get(source, (None, None)) if source else (None, None)
        return Instance(
            instance_type=f.text("instance_type", pattern=r"(ml|local)(\.[a-z0-9]+(-[a-z0-9]+)*)+"),
            family=f.text("family"),
            gpu_count=gpu_count,
            gpu_type=gpu_type,
            gpu_memory_gb=gpu_memory,
            vcpus=f.number("vcpus", whole=True, at_least=1),
            ram_gb=f.number("ram_gb", above=0),
            usd_per_hour=usd,
            price_source=named,
            price_date=date,
            price_note=note,
        )

    def _model(self, f: Fields) -> Model:
        name, kind = f.text("name"), f.text("kind", among=MODEL_KINDS)
        weighed = kind == "language-model"  # the memory estimate needs these of every language model
        shape = f.raw("kv_shape", required=False)
        if shape is not None and not (
            isinstance(shape, list) and len(shape) == 3 and all(isinstance(v, int) and v > 0 for v in shape)
        ):
            f.wrong("kv_shape", "must be [layers, key-value heads, head dimension], three whole numbers above 0")
            shape = None
        return Model(
            name=name,
            family=family_by(self.family_rules, name),
            kind=kind,
            parameters=f.number("parameters", required=weighed, whole=True, above=0),
            architecture=f.text("architecture", required=weighed, among=self._names("architectures")),
            context_length=f.number("context_length", required=weighed, whole=True, above=0),
            gated=f.flag("gated"),
            dtype=f.text("dtype", required=weighed),
            bits=f.number("bits", required=weighed, whole=True, above=0),
            formats=f.texts("formats"),
            kv_shape=tuple(shape) if shape is not None else None,
        )

    def _workload(self, f: Fields) -> Workload:
        kind = f.text("kind", among=MODEL_KINDS)
        tokens = kind == "language-model"
        return Workload(
            name=f.text("name"),
            kind=kind,
            input_tokens_mean=f.number("input_tokens_mean", nullable=not tokens, whole=True, at_least=1),
            output_tokens_mean=f.number("output_tokens_mean", nullable=not tokens, whole=True, at_least=1),
            streaming=f.flag("streaming"),
            dataset=f.text("dataset"),
            concurrency_levels=f.whole_numbers("concurrency_levels", at_most=MOST_CONCURRENCY),
            requests=f.number("requests", whole=True, at_least=1),
            local=self._local_scale(f.inner("local", required=False)),
        )

    def _local_scale(self, f: Fields | None) -> LocalScale | None:
        if f is None:
            return None
        scale = LocalScale(
            input_tokens_mean=f.number("input_tokens_mean", whole=True, at_least=1),
            output_tokens_mean=f.number("output_tokens_mean", whole=True, at_least=1),
            requests=f.number("requests", whole=True, at_least=1),
        )
        f.close()
        return scale

    def _tier(self, f: Fields) -> Tier:
        hours = f.number("stale_after_hours", above=0)
        return Tier(
            name=f.text("name"),
            cost_ceiling_usd=f.number("cost_ceiling_usd", above=0),
            known_cost_usd=f.number("known_cost_usd", nullable=True, above=0),
            known_minutes=f.number("known_minutes", nullable=True, above=0),
            schedule=f.text("schedule", pattern=r"\S+( \S+){4}"),
            stale_after_seconds=int(hours * 3600) if hours is not None else 0,
        )

    def _tune_model(self, f: Fields) -> TuneModel:
        tune_id, model = f.text("tune_id"), f.text("model_name", nullable=True)
        techniques: dict[str, tuple[str, ...]] = {}
        inner = f.inner("techniques")
        if inner is not None:
            for technique in ("sft", "dpo", "rlaif", "rlvr"):
                offered = inner.texts(technique, required=False, among=("lora", "full-rank"))
                if offered:
                    techniques[technique] = offered
            inner.close()
        return TuneModel(tune_id, model, MappingProxyType(techniques))

    def _constraint(self, f: Fields) -> Constraint:
        check = f.text("check", among=CONSTRAINT_CHECKS)
        sentence = f.text("sentence")
        if check and sentence:
            try:
                used = {name for _, name, _, _ in Formatter().parse(sentence) if name is not None}
            except ValueError as error:
                used = set()
                f.wrong("sentence", f"is no template ({error}); write placeholders as {{name}}")
            for name in sorted(used - CONSTRAINT_CHECKS[check]):
                f.wrong(
                    "sentence",
                    f"'{{{name}}}' is not offered by {check}; it offers {', '.join(sorted(CONSTRAINT_CHECKS[check]))}",
                )
        return Constraint(
            f.text("id", pattern=ID_PATTERN), f.number("version", whole=True, at_least=1), check, sentence
        )
