"""The compatible JSON form of catalog entries, which existing installations exchange: reading it and writing it.

Belongs here: the form's keys, step names and flags, and the checks between them. Not here: our own YAML form (`entries.py`),
where imported entries are kept, whether a configuration can exist. Source of the rules: "catalog entry, the compatible
JSON form" of the specification; the flags are those of the generator.

The form is `{"configs": [...]}`. Generation is no step of it, since `args` stand for it. It has no place for what an entry
measures, so an entry that benchmarks measures what is measured by default (`Catalog.default_workload`).
"""

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

from catalog.entries import ID_PATTERN, SHORTEST_TIMEOUT_SECONDS
from catalog.errors import CatalogError
from catalog.model import (
    DEFAULT_CONCURRENCY_LEVELS,
    FULL_PRECISION,
    LIFECYCLE_STEPS,
    TARGET_SYNONYMS,
    Catalog,
    Entry,
    EntryBenchmark,
    TuneConfig,
    nearest,
)
from catalog.reading import Fields, records

TIERS = ("ci", "nightly", "weekly")
TECHNIQUES = ("sft", "dpo", "rlaif", "rlvr")
TRAINING_TYPES = ("lora", "full-rank")

_SAME = ("stage", "generate", "validate", "build", "push", "deploy", "test", "benchmark", "register", "clean")

STEPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {step: (step,) for step in _SAME}
    | {f"tune-{technique}": ("tune",) for technique in TECHNIQUES}
    | {"submit": ("build", "push"), "adapter-add": ("adapter",), "test-adapter": ("test_adapter",)}
)
"""What each step of the form stands for. The domain owns the spellings; a test holds the two lists together."""

SWITCHES = frozenset({"enable-lora", "skip-prompts", "offline"})
"""Flags that need no value. The latter two say how the generator is started, not what it makes."""

FLAGS: Mapping[str, str] = MappingProxyType(
    {
        name: name
        for name in (
            "deployment-config",
            "model-name",
            "instance-type",
            "region",
            "deployment-target",
            "server-env",
            *sorted(SWITCHES),
        )
    }
    | {"backend": "deployment-config"}
)
"""The generator's flags that an entry can hold, other names included."""

FIELD_PARAMETERS: Mapping[str, str] = MappingProxyType(
    {"max_model_len": "max_model_len", "tensor_parallel_size": "tp_degree", "quantization": "quantization"}
)
"""Serving parameters that are a field of their own."""


def read_json_entries(text: str, catalog: Catalog, *, source: str = "the file") -> tuple[Entry, ...]:
    """Read a document of the JSON form into entries, in its order.

    An absent region is that of the paths (this machine's for its instances). Raises `CatalogError` carrying every mistake,
    each with a path such as `configs[3].tuneConfig.tuneId`; ids that the catalog has are none.
    """
    problems: list[str] = []
    document = _document(text, problems)
    found = [] if problems else _entries(document, catalog, problems)
    if problems:
        raise CatalogError(tuple(dict.fromkeys(problems)), source)
    return tuple(found)


def json_document(entries: Iterable[Entry], catalog: Catalog) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the document of those entries that read back from it as they are, and of the others why they are left out,
    by id. Never half an entry: what is written is read back and compared."""
    configs: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    for entry in entries:
        config = _config(entry, catalog)
        problems: list[str] = []
        again = _entries({"configs": [config]}, catalog, problems)
        if problems:
            left_out[entry.id] = "; ".join(problem.removeprefix("configs[0].") for problem in problems)
        elif again != [entry]:
            changed = [f.name for f in fields(Entry) if getattr(again[0], f.name) != getattr(entry, f.name)]
            left_out[entry.id] = f"the form cannot say its {', '.join(changed)}"
        else:
            configs.append(config)
    return {"configs": configs}, left_out


# ---- reading


def _document(text: str, problems: list[str]) -> Any:
    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        # the last of two equal keys would win without a word
        names = [name for name, _ in pairs]
        for name in sorted({name for name in names if names.count(name) > 1}):
            problems.append(f"key '{name}' is given twice in one object; keep one")
        return dict(pairs)

    def number(digits: str) -> int | float:
        # Python refuses to read thousands of digits as a whole number; none of the form's numbers has 16.
        return int(digits) if len(digits) < 16 else float(digits)

    try:
        document = json.loads(text.removeprefix("\ufeff"), object_pairs_hook=distinct, parse_int=number)
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError as error:
        problems.append(f"line {error.lineno}: is no JSON ({error.msg}); correct the text there")
    except UnicodeEncodeError as error:
        half = error.object[error.start].encode("unicode_escape").decode("ascii")
        problems.append(f"the document: holds half a character ({half}); write it whole")
    except RecursionError:
        problems.append("the document: is nested too deeply to be a catalog; keep objects within configs flat")
    else:
        return document
    return None


def _entries(document: Any, catalog: Catalog, problems: list[str]) -> list[Entry]:
    if not isinstance(document, dict):
        problems.append('the document: must be an object {"configs": [...]}')
        return []
    problems += [f"{key}: unknown field; {nearest(key, ['configs'])}" for key in document if key != "configs"]
    reader = _Reader(catalog, problems)
    return [entry for path, raw in records(document, "configs", "", problems) if (entry := reader.entry(raw, path))]


@dataclass
class _Flags:
    """The flags of `args`: values by name, and what was wrong with them."""

    values: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    switches: dict[str, bool] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    readable: bool = True


def _flags(text: str) -> _Flags:
    """Read `args` as a shell would: `--key=value`, `--key value`, quotes, values that contain `=`."""
    flags = _Flags()
    try:
        tokens = shlex.split(text)
    except ValueError as error:
        flags.problems.append(f"cannot be read as a shell would ({str(error).lower()}); close the quotation")
        flags.readable = False
        return flags
    position = 0
    while position < len(tokens):
        token = tokens[position]
        position += 1
        given, equals, value = token.removeprefix("--").partition("=")
        name = FLAGS.get(given)
        following = tokens[position] if position < len(tokens) else None
        if not token.startswith("--"):
            flags.problems.append(f"'{token}' belongs to no flag; write --key=value")
            continue
        if name is None:
            known = nearest(token.partition("=")[0], [f"--{each}" for each in FLAGS])
            flags.problems.append(f"--{given} is no flag that an entry can hold; {known}")
            position += not equals and following is not None and not following.startswith("--")
            continue
        if name in SWITCHES:
            if not equals and following in ("true", "false"):
                value, position = following, position + 1
            _switch(flags, name, value or ("" if equals else "true"))
            continue
        if not equals:
            if following is None or following.startswith("--"):
                flags.problems.append(f"--{given} has no value; write --{given}=VALUE")
                continue
            value, position = following, position + 1
        _value(flags, name, value)
    return flags


def _switch(flags: _Flags, name: str, value: str) -> None:
    if value not in ("true", "false"):
        flags.problems.append(f"--{name} must be true or false, not '{value}'")
    elif flags.switches.setdefault(name, value == "true") != (value == "true"):
        flags.problems.append(f"--{name} is given twice with different values; keep one")


def _value(flags: _Flags, name: str, value: str) -> None:
    if name != "server-env":
        if flags.values.setdefault(name, value) != value:
            flags.problems.append(f"--{name} is given twice with different values; keep one")
        return
    key, equals, setting = value.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key):
        flags.problems.append(f"--server-env '{value}' must be KEY=VALUE, a name and its value")
    elif flags.environment.setdefault(key, setting) != setting:
        flags.problems.append(f"--server-env {key} is given twice with different values; keep one")


@dataclass
class _Parameters:
    """What `--server-env` says, by field of an entry."""

    quantization: str = "none"
    tp_degree: int | None = None
    max_model_len: int | None = None
    serving_params: dict[str, str] = field(default_factory=dict)


@dataclass
class _Reader:
    """Reads the members of `configs` one after the other; ids must differ among them."""

    catalog: Catalog
    problems: list[str]
    seen: dict[str, str] = field(default_factory=dict)

    def entry(self, raw: Any, path: str) -> Entry | None:
        """Read one member, none where it has a mistake: that is among the problems then."""
        f = Fields(raw, path, self.problems)
        entry_id = f.text("id", pattern=ID_PATTERN)
        if entry_id in self.seen:
            f.wrong("id", f"'{entry_id}' is given twice, first at {self.seen[entry_id]}; ids must be unique")
        elif entry_id:
            self.seen[entry_id] = path
        tier = f.text("tier", among=TIERS)
        targets = {target.track: target.name for target in self.catalog.deployment_targets.values()}
        track = f.text("track", among=targets)
        steps, spelled = self._lifecycle(f)
        timeout = f.number("timeout", whole=True, at_least=SHORTEST_TIMEOUT_SECONDS)
        tune_timeout = f.number("tuneTimeout", required=False, whole=True, at_least=SHORTEST_TIMEOUT_SECONDS)
        tune_config = self._tune_config(f, spelled)
        text = f.text("args")
        f.close()
        if text is None:
            return None
        flags = _flags(text)
        if not flags.readable:
            f.wrong("args", flags.problems[0])
            return None
        config_name, model_name, instance_type, region = self._placed(flags, steps)
        self._check_target(flags, track, targets)
        parameters = self._parameters(flags, config_name)
        lora = flags.switches.get("enable-lora", False)
        if "tune" in steps and not lora:
            flags.problems.append("must have --enable-lora, since the lifecycle tunes an adapter")
        for problem in flags.problems:
            f.wrong("args", problem)
        self._check_tuning(f, steps, tune_config, model_name)
        if not f.sound:
            return None
        workload = self.catalog.default_workload(config_name, instance_type)
        return Entry(
            id=entry_id,
            tier=tier,
            track=track,
            deployment_config=config_name,
            model_name=model_name,
            instance_type=instance_type,
            region=region,
            deployment_target=targets[track],
            quantization=parameters.quantization,
            tp_degree=parameters.tp_degree,
            max_model_len=parameters.max_model_len,
            enable_lora=lora,
            serving_params=MappingProxyType(parameters.serving_params),
            lifecycle=steps,
            timeout=timeout,
            tune_timeout=tune_timeout,
            tune_config=tune_config,
            # An entry without a benchmark needs a workload all the same; nothing measures it.
            benchmark=EntryBenchmark(
                "benchmark" in steps, workload or next(iter(self.catalog.workloads)), DEFAULT_CONCURRENCY_LEVELS
            ),
            expected_failure=None,
        )

    def _lifecycle(self, f: Fields) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return our steps in order, generate always among them, and the steps as they are spelled."""
        spelled = f.texts("lifecycle", among=STEPS)
        given = [step for name in spelled for step in STEPS[name]]
        raw = f.raw("lifecycle", required=False)
        if raw == []:
            f.wrong("lifecycle", "is empty; name at least build, deploy, test and clean")
        if not spelled or len(spelled) < len(raw):  # what follows from a mistake that is reported is none of its own
            return (), spelled
        positions = {name: position for position, name in enumerate(spelled)}
        before, after = positions.get("test"), positions.get("clean")
        misplaced = [
            name
            for name in spelled
            if {"tune", "adapter", "test_adapter"} & set(STEPS[name])
            and (before is None or positions[name] < before or (after is not None and positions[name] > after))
        ]
        for name in misplaced:
            f.wrong("lifecycle", f"'{name}' must lie after test and before clean")
        twice = sorted({step for step in given if given.count(step) > 1})
        if twice:
            f.wrong("lifecycle", f"has {' and '.join(twice)} twice; keep one step for each")
        canonical = [step for step in LIFECYCLE_STEPS if step in given]
        if given != canonical and not misplaced and not twice:
            names = {step: name for name in spelled for step in STEPS[name]}
            order = dict.fromkeys(names[step] for step in canonical)
            f.wrong("lifecycle", f"must be in this order: {', '.join(order)}")
        if "clean" not in given:
            f.wrong("lifecycle", "must end with clean, or what it deploys stays")
        for step, name in (("adapter", "adapter-add"), ("test_adapter", "test-adapter")):
            if step in given and "tune" not in given:
                f.wrong("lifecycle", f"has {name} without a tune step; add the one that makes the adapter")
        return tuple(step for step in LIFECYCLE_STEPS if step in given or step == "generate"), spelled

    def _tune_config(self, f: Fields, spelled: tuple[str, ...]) -> TuneConfig | None:
        inner = f.inner("tuneConfig", required=False)
        if inner is None:
            return None
        tune_id = inner.text("tuneId", among=self.catalog.tune_models)
        technique = inner.text("technique", among=TECHNIQUES)
        training_type = inner.text("trainingType", among=TRAINING_TYPES)
        dataset = inner.text("dataset", pattern=r"[a-z0-9]+://\S+")
        inner.close()
        offer = self.catalog.tune_models.get(tune_id or "")
        if offer and technique:
            if technique not in offer.techniques:
                inner.wrong("technique", f"{tune_id} offers no {technique}; use one of {', '.join(offer.techniques)}")
            elif training_type and training_type not in offer.techniques[technique]:
                offered = ", ".join(offer.techniques[technique])
                inner.wrong("trainingType", f"{tune_id} offers no {training_type} for {technique}; use {offered}")
        tuning = [name for name in spelled if STEPS[name] == ("tune",)]
        if technique and tuning and f"tune-{technique}" not in tuning:
            inner.wrong("technique", f"is {technique} although the lifecycle has {tuning[0]}; make them the same")
        return TuneConfig(tune_id, technique, training_type, dataset)

    def _placed(self, flags: _Flags, steps: tuple[str, ...]) -> tuple[str, str | None, str, str]:
        """Return deployment configuration, model, instance and region, and note what is wrong with them."""
        catalog = self.catalog
        config_name = _known(flags, "deployment-config", catalog.deployment_configs)
        instance_type = _known(flags, "instance-type", catalog.instances)
        model_name = flags.values.get("model-name") or None
        if model_name is not None and model_name not in catalog.models:
            flags.problems.append(f"--model-name '{model_name}' is not known; {nearest(model_name, catalog.models)}")
        instance = catalog.instances.get(instance_type)
        home_region = catalog.local_region if instance and instance.local else catalog.path_region
        region = flags.values.get("region", home_region)
        if region not in (*catalog.regions, catalog.local_region):
            known = nearest(region, [*catalog.regions, catalog.local_region])
            flags.problems.append(f"--region '{region}' is not known; {known}")
        elif instance and instance.local != (region == catalog.local_region):
            right = catalog.local_region if instance.local else "a region of regions.yaml"
            flags.problems.append(f"--region must be {right} for {instance_type}, not {region}")
        model = catalog.models.get(model_name or "")
        if "benchmark" in steps and config_name and instance:
            workload = catalog.default_workload(config_name, instance_type)
            if workload is None:
                flags.problems.append(f"{config_name} on {instance_type} has no workload; drop the step benchmark")
            elif model and model.kind != catalog.workloads[workload].kind:
                kind = catalog.workloads[workload].kind
                flags.problems.append(f"{config_name} serves a {kind} and {model_name} is a {model.kind}; name another")
        return config_name, model_name, instance_type, region

    def _check_target(self, flags: _Flags, track: str | None, targets: Mapping[str, str]) -> None:
        named = flags.values.get("deployment-target")
        if named is None or track is None:
            return
        target = TARGET_SYNONYMS.get(named, named)
        if target != targets[track]:
            flags.problems.append(f"--deployment-target must be {targets[track]} for track {track}, not {named}")

    def _parameters(self, flags: _Flags, config_name: str) -> _Parameters:
        read = _Parameters()
        config = self.catalog.deployment_configs.get(config_name)
        if config is None or not flags.environment:
            return read
        prefix = self.catalog.servers[config.server].env_prefix
        if prefix is None:
            flags.problems.append(
                f"--server-env: {config.server} takes no parameters from its environment; leave it out"
            )
            return read
        for key, value in flags.environment.items():
            name = key.upper().removeprefix(prefix).lower()
            if not key.upper().startswith(prefix) or not name:
                flags.problems.append(
                    f"--server-env {key} must begin with {prefix}, as every parameter of {config.server}"
                )
            elif name == "quantization":
                known = (*sorted(self.catalog.quantizations), *FULL_PRECISION)
                if value not in known:
                    flags.problems.append(f"--server-env {key} '{value}' is not known; {nearest(value, known)}")
                read.quantization = "none" if value in FULL_PRECISION else value
            elif name in FIELD_PARAMETERS:
                if not (value.isdecimal() and value.isascii() and int(value) > 0):
                    flags.problems.append(f"--server-env {key} must be a whole number above 0, not '{value}'")
                else:
                    setattr(read, FIELD_PARAMETERS[name], int(value))
            else:
                read.serving_params[name] = value
        return read

    def _check_tuning(
        self, f: Fields, steps: tuple[str, ...], tune_config: TuneConfig | None, model_name: str | None
    ) -> None:
        if "tune" in steps and tune_config is None:
            f.wrong("tuneConfig", "is missing although the lifecycle tunes; add it or drop the tune step")
        offer = self.catalog.tune_models.get(tune_config.tune_id or "") if tune_config else None
        if offer and offer.model_name and model_name in self.catalog.models and offer.model_name != model_name:
            f.wrong("tuneConfig.tuneId", f"'{offer.tune_id}' tunes {offer.model_name}, not {model_name}")


def _known(flags: _Flags, name: str, known: Iterable[str]) -> str:
    value = flags.values.get(name)
    if not value:
        flags.problems.append(f"--{name} is missing; add --{name}=VALUE")
        return ""
    if value not in known:
        flags.problems.append(f"--{name} '{value}' is not known; {nearest(value, known)}")
    return value


# ---- writing


def _config(entry: Entry, catalog: Catalog) -> dict[str, Any]:
    technique = entry.tune_config.technique if entry.tune_config else ""
    spelled = {"tune": f"tune-{technique}", "adapter": "adapter-add", "test_adapter": "test-adapter"}
    config: dict[str, Any] = {
        "id": entry.id,
        "tier": entry.tier,
        "track": entry.track,
        "args": shlex.join(_words(entry, catalog)),
        "lifecycle": [spelled.get(step, step) for step in entry.lifecycle if step != "generate"],
        "timeout": entry.timeout,
    }
    if entry.tune_timeout is not None:
        config["tuneTimeout"] = entry.tune_timeout
    if entry.tune_config is not None:
        config["tuneConfig"] = {
            "tuneId": entry.tune_config.tune_id,
            "technique": entry.tune_config.technique,
            "trainingType": entry.tune_config.training_type,
            "dataset": entry.tune_config.dataset,
        }
    return config


def _words(entry: Entry, catalog: Catalog) -> list[str]:
    words = [f"--deployment-config={entry.deployment_config}"]
    if entry.model_name is not None:
        words.append(f"--model-name={entry.model_name}")
    words += [f"--instance-type={entry.instance_type}", f"--region={entry.region}"]
    if entry.enable_lora:
        words.append("--enable-lora")
    parameters: dict[str, Any] = {
        name: getattr(entry, attribute)
        for name, attribute in FIELD_PARAMETERS.items()
        if getattr(entry, attribute) not in (None, "none")
    }
    prefix = catalog.servers[catalog.deployment_configs[entry.deployment_config].server].env_prefix or ""
    for name, value in {**parameters, **entry.serving_params}.items():
        words.append(f"--server-env={prefix}{name.upper()}={value}")
    return words
