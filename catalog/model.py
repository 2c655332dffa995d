"""What the catalog's files are read into: frozen records, and the `Catalog` that holds them by id.

Belongs here: the shape of declared knowledge, its fixed vocabularies, and questions that need nothing but the records.
Not here: reading files (`loader.py`), judging a configuration (the domain's `constraints.py` does).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from catalog.errors import UnknownNameError

MODEL_KINDS = ("language-model", "predictor", "diffusion")

LIFECYCLE_STEPS = (
    "stage",
    "generate",
    "validate",
    "build",
    "push",
    "deploy",
    "test",
    "tune",
    "adapter",
    "test_adapter",
    "benchmark",
    "register",
    "clean",
)
"""The stages of a lifecycle in canonical order. The domain owns them; a test holds the two lists together."""

FAILURE_CATEGORIES = (
    "capacity",
    "timeout",
    "oom",
    "code_bug",
    "model_incompatibility",
    "service_limitation",
    "quota",
    "infrastructure",
    "preflight",
    "unknown",
)

FULL_PRECISION = frozenset({"fp16", "bf16"})
"""Other names of the quantization `none`, which is full precision. The domain normalises by the same names."""

TARGET_SYNONYMS: Mapping[str, str] = MappingProxyType({"managed-inference": "realtime-inference"})
"""Accepted old names of deployment targets."""

CONSTRAINT_CHECKS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "kind_match": frozenset({"deployment_config", "served_kind", "model_name", "model_kind"}),
        "model_format": frozenset({"deployment_config", "served_formats", "model_name", "model_formats"}),
        "tp_within_gpus": frozenset({"tp_degree", "instance_type", "gpu_count"}),
        "gpu_needed": frozenset({"deployment_config", "instance_type"}),
        "server_quantization": frozenset({"deployment_config", "quantization", "offered"}),
        "accelerator_quantization": frozenset({"accelerator", "instance_type", "quantization", "offered"}),
        "engine_version": frozenset({"server", "version", "architecture", "min_version", "model_name"}),
        "driver_cuda": frozenset({"server", "cuda_min", "instance_type", "driver", "driver_cuda"}),
        "local_only": frozenset({"deployment_config", "instance_type"}),
        "local_target": frozenset({"deployment_target", "instance_type"}),
        "known_region": frozenset({"region", "instance_type", "expected"}),
        "memory_fit": frozenset({"model_name", "need", "instance_type", "room", "remedies"}),
        "tuning_managed": frozenset({"model_name"}),
    }
)
"""Every check a constraint may name, with the placeholders its sentence may use. A new check is written in the domain's
`constraints.py` and named here; a constraint that uses an existing one is data alone."""

DEFAULT_CONCURRENCY_LEVELS = (1, 4, 8)
"""What is measured where nothing says at which concurrency levels. Source: the rules of continuous validation."""

MOST_CONCURRENCY = 1024
"""No workload is measured with more requests at a time: each is a connection of one load generator."""

_DEFAULT_WORKLOADS: Mapping[tuple[str, bool], str] = MappingProxyType(
    {
        ("language-model", False): "multi_turn_chat",
        ("language-model", True): "local_chat",
        ("predictor", True): "local_predict",
    }
)

VCPUS = "vcpus"
"""The default of a search dimension that is as many as the instance has CPUs."""

OPEN_FAMILIES = frozenset({"other", "unknown"})
"""Families that say nothing: two models of one of them are the same family only if their names are the same."""


@dataclass(frozen=True)
class FamilyRule:
    """One ordered rule: the lower-case name holds `token`, at most one of `separators`, then `suffix`."""

    token: str
    separators: str
    suffix: str
    family: str

    def matches(self, name: str) -> bool:
        """Whether the rule matches a lower-case name anywhere in it."""
        return any(f"{self.token}{separator}{self.suffix}" in name for separator in ("", *self.separators))


@dataclass(frozen=True)
class Accelerator:
    """What a kind of GPU (or `cpu`) computes in; `quantizations` always contains `none`."""

    name: str
    quantizations: tuple[str, ...]


@dataclass(frozen=True)
class Driver:
    """What the fleet runs on an instance family. `cuda` is the newest CUDA it serves natively, such as `12.4`."""

    family: str
    driver: str
    cuda: str


@dataclass(frozen=True)
class Architecture:
    """A class of model code. `eagle` is the EAGLE generation it supports (2 or 3), none where it has no support;
    `min_versions` maps an engine to the first version that knows the class."""

    name: str
    eagle: int | None
    min_versions: Mapping[str, str]


@dataclass(frozen=True)
class Server:
    """A serving engine. `version` and `cuda_min` are of the newest known image, none for what runs as a plain process;
    `env_prefix` is put before a serving parameter's upper-case key to make it an environment variable."""

    name: str
    version: str | None
    cuda_min: str | None
    env_prefix: str | None


@dataclass(frozen=True)
class DeploymentTarget:
    """A way of being served; `track` is its name in the compatible entry form, `local` whether this machine has it."""

    name: str
    track: str
    local: bool


@dataclass(frozen=True)
class DeploymentConfig:
    """A server in its packaging. `kind` is the kind of model it serves; `generator` says whether the installed
    generator can generate it; `report_order` is its place among the 15 of the coverage report, none outside of it;
    `local` marks what exists on this machine alone; `model_formats` is none where it takes any."""

    name: str
    kind: str
    server: str
    generator: bool
    report_order: int | None
    local: bool
    needs_gpu: bool
    quantizations: tuple[str, ...]
    model_formats: tuple[str, ...] | None


@dataclass(frozen=True)
class Instance:
    """An instance type. Memory in GB, `gpu_memory_gb` per GPU and none without GPUs. `usd_per_hour` is none where no
    source prices the type; `price_note` then says why, and where sources disagree why this price was chosen."""

    instance_type: str
    family: str
    gpu_count: int
    gpu_type: str | None
    gpu_memory_gb: float | None
    vcpus: int
    ram_gb: float
    usd_per_hour: float | None
    price_source: str | None
    price_date: str | None
    price_note: str | None

    @property
    def accelerator(self) -> str:
        """The accelerator's name: the GPU type, `cpu` without one."""
        return self.gpu_type or "cpu"

    @property
    def local(self) -> bool:
        """Whether it stands for this machine."""
        return self.family == "local"


@dataclass(frozen=True)
class Model:
    """A model. `family` follows the ordered rules; `bits` is the width of a stored weight; `context_length` in
    tokens; `kv_shape` is (layers, key-value heads, head dimension), what one token of KV cache is made of. None where
    it does not apply (predictors) or is not known."""

    name: str
    family: str
    kind: str
    parameters: int | None
    architecture: str | None
    context_length: int | None
    gated: bool
    dtype: str | None
    bits: int | None
    formats: tuple[str, ...]
    kv_shape: tuple[int, ...] | None


@dataclass(frozen=True)
class LocalScale:
    """What a workload is scaled to on this machine: the same traffic, shorter and fewer requests per concurrency
    level."""

    input_tokens_mean: int
    output_tokens_mean: int
    requests: int


@dataclass(frozen=True)
class Workload:
    """A traffic profile. Token means are none for predictors; `requests` is per concurrency level. `local` is how it is
    scaled on this machine, none where it is run as it stands."""

    name: str
    kind: str
    input_tokens_mean: int | None
    output_tokens_mean: int | None
    streaming: bool
    dataset: str
    concurrency_levels: tuple[int, ...]
    requests: int
    local: LocalScale | None = None


@dataclass(frozen=True)
class TuneModel:
    """A model that managed tuning offers: technique -> training types. `model_name` is its hub id, none where the
    tuning service names none."""

    tune_id: str
    model_name: str | None
    techniques: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Tier:
    """A group of entries with one schedule (cron, UTC) and one cost ceiling. Known cost and minutes are of a whole
    tier run, none where nobody measured; a result older than `stale_after_seconds` is due again."""

    name: str
    cost_ceiling_usd: float
    known_cost_usd: float | None
    known_minutes: float | None
    schedule: str
    stale_after_seconds: int


@dataclass(frozen=True)
class Costs:
    """What is paid beside the instance: USD of one tuning job, and of one build minute, each as (low, high)."""

    tuning_usd: tuple[float, float]
    build_minute_usd: tuple[float, float]


@dataclass(frozen=True)
class StageTime:
    """How long a stage is expected to take before any run of it was seen, in seconds: elsewhere, and on this machine."""

    stage: str
    seconds: float
    local_seconds: float


@dataclass(frozen=True)
class Constraint:
    """A rule that refutes configurations without spending: `check` names the code that evaluates it, `sentence` is the
    template of what it says. `version` goes up when its meaning changes, so that verdicts that cite it expire."""

    id: str
    version: int
    check: str
    sentence: str

    @property
    def reference(self) -> str:
        """`<id>@<version>`: what a verdict cites."""
        return f"{self.id}@{self.version}"


@dataclass(frozen=True)
class SearchDimension:
    """What a search for a better setting may change. `sets` is the field of a configuration or the serving parameter that
    holds it; `server` none where it is of every server of language models. `values` are in the order of the file; a range has
    `bounds` (least, most) and none of them. `default` is what a configuration runs with that does not set it: `VCPUS` as many
    as its instance has, none what the server decides. `sweepable` is false for what is declared for later."""

    name: str
    server: str | None
    sets: str
    sweepable: bool
    values: tuple[str | int, ...]
    bounds: tuple[int, int] | None
    default: str | int | None


@dataclass(frozen=True)
class EntryBenchmark:
    """Whether an entry is benchmarked after its gate, on which workload and at which concurrency levels."""

    enabled: bool
    workload: str
    concurrency_levels: tuple[int, ...]


@dataclass(frozen=True)
class TuneConfig:
    """What an entry's tune step trains: an offer of the tune catalog and a data set URI."""

    tune_id: str
    technique: str
    training_type: str
    dataset: str


@dataclass(frozen=True)
class Entry:
    """A configuration that a path declares, with the lifecycle it runs. Timeouts in seconds. `model_name` is none
    where the server brings a model of its own; `tp_degree` none means the GPU count of the instance;
    `expected_failure` is the failure category an entry is there to show."""

    id: str
    tier: str
    track: str
    deployment_config: str
    model_name: str | None
    instance_type: str
    region: str
    deployment_target: str
    quantization: str
    tp_degree: int | None
    max_model_len: int | None
    enable_lora: bool
    serving_params: Mapping[str, str]
    lifecycle: tuple[str, ...]
    timeout: int
    tune_timeout: int | None
    tune_config: TuneConfig | None
    benchmark: EntryBenchmark
    expected_failure: str | None

    def __hash__(self) -> int:
        return hash(self.id)


@dataclass(frozen=True, eq=False)
class Catalog:
    """All declared knowledge. Mappings are by id and keep the order of their file; `entries` are the golden path and
    the local path, `extensions` further entries of named extensions that a person switches on."""

    entries: tuple[Entry, ...]
    extensions: Mapping[str, tuple[Entry, ...]]
    instances: Mapping[str, Instance]
    models: Mapping[str, Model]
    deployment_configs: Mapping[str, DeploymentConfig]
    deployment_targets: Mapping[str, DeploymentTarget]
    servers: Mapping[str, Server]
    accelerators: Mapping[str, Accelerator]
    drivers: Mapping[str, Driver]
    architectures: Mapping[str, Architecture]
    workloads: Mapping[str, Workload]
    tiers: Mapping[str, Tier]
    tune_models: Mapping[str, TuneModel]
    constraints: Mapping[str, Constraint]
    costs: Costs
    stage_times: Mapping[str, StageTime]
    search_dimensions: tuple[SearchDimension, ...]
    regions: tuple[str, ...]
    path_region: str
    local_region: str
    family_rules: tuple[FamilyRule, ...]

    @cached_property
    def all_entries(self) -> tuple[Entry, ...]:
        """The entries and those of every extension."""
        return (*self.entries, *(entry for entries in self.extensions.values() for entry in entries))

    @cached_property
    def _entries_by_id(self) -> Mapping[str, Entry]:
        return {entry.id: entry for entry in self.all_entries}

    @cached_property
    def quantizations(self) -> frozenset[str]:
        """The quantizations that some accelerator computes in."""
        return frozenset(each for accelerator in self.accelerators.values() for each in accelerator.quantizations)

    def entry(self, entry_id: str) -> Entry:
        """Return the entry of that id, extensions included.

        Raises `UnknownNameError` saying which ids are near.
        """
        try:
            return self._entries_by_id[entry_id]
        except KeyError:
            raise UnknownNameError(f"no catalog entry '{entry_id}'; {nearest(entry_id, self._entries_by_id)}") from None

    def tier_entries(self, tier: str, *, extensions: Iterable[str] = ()) -> tuple[Entry, ...]:
        """Return the entries of a tier in file order, followed by those of the extensions switched on.

        Raises `UnknownNameError` for a tier or an extension that does not exist.
        """
        if tier not in self.tiers:
            raise UnknownNameError(f"no tier '{tier}'; {nearest(tier, self.tiers)}")
        chosen = list(self.entries)
        for name in extensions:
            if name not in self.extensions:
                raise UnknownNameError(f"no tier extension '{name}'; {nearest(name, self.extensions)}")
            chosen += self.extensions[name]
        return tuple(entry for entry in chosen if entry.tier == tier)

    @cached_property
    def models_by_family(self) -> Mapping[str, tuple[Model, ...]]:
        """The models of each family in the order of choice: those of a path first, then by number of parameters."""
        on_path = {entry.model_name for entry in self.entries}
        ordered = sorted(self.models.values(), key=lambda m: (m.name not in on_path, m.parameters or 0, m.name))
        families = dict.fromkeys(model.family for model in self.models.values())
        return {family: tuple(model for model in ordered if model.family == family) for family in families}

    @cached_property
    def instances_by_family(self) -> Mapping[str, tuple[Instance, ...]]:
        """The instances of each family, the cheapest first, those without a price last."""
        ordered = sorted(self.instances.values(), key=lambda i: (i.usd_per_hour is None, i.usd_per_hour or 0.0))
        families = dict.fromkeys(instance.family for instance in self.instances.values())
        return {family: tuple(each for each in ordered if each.family == family) for family in families}

    @cached_property
    def _owners(self) -> Mapping[tuple[str, str | None, str, str, str], Entry]:
        owners: dict[tuple[str, str | None, str, str, str], Entry] = {}
        for e in sorted(self._entries_by_id.values(), key=lambda e: len(e.serving_params)):
            five_fields = (e.deployment_config, e.model_name, e.instance_type, e.region, e.deployment_target)
            owners.setdefault(five_fields, e)
        return owners

    def owner_of(
        self, deployment_config: str, model_name: str | None, instance_type: str, region: str, deployment_target: str
    ) -> Entry | None:
        """Return the entry whose declarations are the defaults of these five fields, none where no entry has them.

        Of several it is the one with the fewest serving parameters, the first of the file among equals.
        """
        return self._owners.get((deployment_config, model_name, instance_type, region, deployment_target))

    def default_workload(self, deployment_config: str, instance_type: str) -> str | None:
        """Return the workload that is measured where nothing names one, none where the catalog has no workload of that
        kind of model there, or does not know the deployment configuration."""
        config, instance = self.deployment_configs.get(deployment_config), self.instances.get(instance_type)
        local = instance is not None and instance.local
        return None if config is None else _DEFAULT_WORKLOADS.get((config.kind, local))

    def search_space(self, deployment_config: str) -> tuple[SearchDimension, ...]:
        """Return what may be changed of a deployment configuration: the general dimensions where it serves language models, those
        of its server in the place of those of the same name, then those of its server of other names."""
        config = self.deployment_configs[deployment_config]
        generative = config.kind == "language-model"
        own = {each.name: each for each in self.search_dimensions if each.server == config.server}
        general = {each.name: each for each in self.search_dimensions if each.server is None and generative}
        return tuple((general | own).values())

    def family_of(self, model_name: str | None) -> str:
        """Return the model family by the ordered rules, on the part of the name after the last `/`.

        No rule matches: `other`; no name: `unknown`. The one derivation, used everywhere.
        """
        return family_by(self.family_rules, model_name)

    @property
    def report_order(self) -> tuple[str, ...]:
        """The deployment configurations of the coverage report, in its order."""
        listed = [c for c in self.deployment_configs.values() if c.report_order is not None]
        return tuple(c.name for c in sorted(listed, key=lambda c: c.report_order or 0))


def family_by(rules: Iterable[FamilyRule], model_name: str | None) -> str:
    """Return the family of the first rule that matches the part after the last `/`; `other`, or `unknown` without a
    name."""
    tail = (model_name or "").rsplit("/", 1)[-1].strip().lower()
    if not tail:
        return "unknown"
    return next((rule.family for rule in rules if rule.matches(tail)), "other")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the clause that tells what a mistyped name could have been: `did you mean 'x'?` or `known are x, y, z`."""
    from difflib import get_close_matches  # only mistakes pay for the import

    names = [str(each) for each in known]
    close = get_close_matches(str(name), names, n=1)
    return f"did you mean '{close[0]}'?" if close else f"known are {', '.join(names) or 'none'}"
