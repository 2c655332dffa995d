"""Reading `prove.json`: what it must hold, and all its mistakes at once.

Belongs here: the keys, the checks of their values against the catalog, the rules of a list of stages. Not here: reading the
file, what a sound document comes to (`prove_documents.py`). Source of the rules: `mlcc prove` in the specification: generate
is first (after `stage`) and clean last wherever they stand, push is implied by build.
"""

import json
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from catalog.model import FULL_PRECISION, OPEN_FAMILIES, Catalog, nearest
from catalog.reading import Fields
from mlcc_dagster.core.budget import MOST_USD
from mlcc_dagster.core.configuration import normal_quantization, text_value
from mlcc_dagster.core.exceptions import InvalidInput
from mlcc_dagster.core.prove_documents import (
    ARN,
    DEFAULT_BUDGET_USD,
    DEFAULT_TIMEOUT_MINUTES,
    INFRA,
    SERVING,
    ProveDocument,
    value_text,
)
from mlcc_dagster.core.stages import CANONICAL_ORDER, SPELLINGS, TECHNIQUES, Stage, stages_named

SCHEMA_VERSION = "1"

MOST_POINTS = 10_000
"""No document has more points: what is run one after the other would take years, and all of them are held at once."""

MOST_TIMEOUT_MINUTES = 10_080.0
"""A week: longer than any run that is meant to end."""

_REQUIRED = ("model_name", "deployment_config", "instance_type")
_ANYWHERE = frozenset({Stage.STAGE, Stage.GENERATE, Stage.VALIDATE, Stage.CLEAN})
"""Stages whose place is fixed, so that it does not matter where a document names them."""

_NEEDS: Mapping[Stage, Stage] = MappingProxyType(
    {
        Stage.PUSH: Stage.BUILD,
        Stage.DEPLOY: Stage.BUILD,
        Stage.TEST: Stage.DEPLOY,
        Stage.TUNE: Stage.TEST,
        Stage.ADAPTER: Stage.TUNE,
        Stage.TEST_ADAPTER: Stage.ADAPTER,
        # what was not tested is not proven, however fast it answers
        Stage.BENCHMARK: Stage.TEST,
        Stage.REGISTER: Stage.BUILD,
    }
)


def read_prove_document(
    text: str, catalog: Catalog, *, source: str, overrides: Mapping[str, Any] = MappingProxyType({})
) -> ProveDocument:
    """Read a document from JSON text; `overrides` replace base fields and are written as options (`--instance-type`).

    Raises `InvalidInput` (of `source`) carrying every mistake, each with a path such as `sweep.quantization[2]`: unknown
    keys, wrong types, names that the catalog does not have, stages that cannot follow each other, too many points.
    """
    problems: list[str] = []
    document = _json(text, problems)
    if not problems and not isinstance(document, dict):
        problems.append(f"the document: must be an object with base, sweep and stages, not {value_text(document)}")
    if problems:
        raise InvalidInput(source, problems)
    document = _finite(document, "", problems)
    read = _Reader(catalog, problems, overrides).document(document)
    if problems:
        raise InvalidInput(source, [problem.removeprefix(".") for problem in dict.fromkeys(problems)])
    return read


def _json(text: str, problems: list[str]) -> Any:
    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        # the last of two equal keys would win without a word
        names = [name for name, _ in pairs]
        for name in sorted({name for name in names if names.count(name) > 1}):
            problems.append(f"key '{name}' is given twice in one object; keep one")
        return dict(pairs)

    try:
        return json.loads(text.removeprefix("\ufeff"), object_pairs_hook=distinct, parse_int=_whole)
    except json.JSONDecodeError as error:
        problems.append(f"line {error.lineno}: is no JSON ({error.msg}); correct the text there")
    except RecursionError:
        problems.append("the document: is nested too deeply; write base, sweep and stages flat")
    return None


def _finite(value: Any, path: str, problems: list[str]) -> Any:
    """Return a value without what is no finite number, each noted with its path, so that the rest is still checked."""
    if isinstance(value, dict):
        read = {name: _finite(each, f"{path}.{name}".lstrip("."), problems) for name, each in value.items()}
        return {name: each for name, each in read.items() if each is not _NOT_FINITE}
    if isinstance(value, list):
        found = [_finite(each, f"{path}[{position}]", problems) for position, each in enumerate(value)]
        return [each for each in found if each is not _NOT_FINITE]
    if isinstance(value, float) and not math.isfinite(value):
        problems.append(f"{path or 'the document'}: is no number of JSON; write a finite one")
        return _NOT_FINITE
    return value


_NOT_FINITE = object()


def _whole(digits: str) -> int | float:
    # Python refuses to read thousands of digits as a whole number; none of the document's numbers has 16.
    return int(digits) if len(digits) < 16 else float(digits)


class _Mistake(Exception):
    """What is wrong with a value, and what would be right."""


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _Mistake(f"must be a text, not {value_text(value)}")
    if not value.isprintable():
        raise _Mistake(f"must be one line of printable text, not {value_text(value)}")
    return value


def _among(value: Any, known: Collection[str]) -> str:
    if _text(value) not in known:
        raise _Mistake(f"'{value}' is not known; {nearest(value, known)}")
    return value


def _model_name(value: Any, catalog: Catalog) -> str:
    if _text(value) in catalog.models or catalog.family_of(value) not in OPEN_FAMILIES:
        return value
    raise _Mistake(f"'{value}' is in no model list and of no known family; {nearest(value, catalog.models)}")


def _quantization(value: Any, catalog: Catalog) -> str:
    if value is None:
        return "none"
    return normal_quantization(_among(value, (*sorted(catalog.quantizations), *sorted(FULL_PRECISION))))


def _length(value: Any, catalog: Catalog) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise _Mistake(f"must be a whole number of at least 1 or null, not {value_text(value)}")
    return value


def _flag(value: Any, catalog: Catalog) -> bool:
    if not isinstance(value, bool):
        raise _Mistake(f"must be true or false, not {value_text(value)}")
    return value


_CHECKS: Mapping[str, Callable[[Any, Catalog], Any]] = MappingProxyType(
    {
        "model_name": _model_name,
        "deployment_config": lambda value, catalog: _among(value, catalog.deployment_configs),
        "instance_type": lambda value, catalog: _among(value, catalog.instances),
        "max_model_len": _length,
        "quantization": _quantization,
        "enable_lora": _flag,
    }
)

BASE_FIELDS: tuple[str, ...] = (*_CHECKS, SERVING, INFRA)
"""Every field of a base, each of which may be an axis of the sweep."""


def _serving_parameter(name: str, value: Any) -> str | None:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise _Mistake("cannot name an environment variable; use letters, digits and _")
    if name.lower() in _CHECKS:
        raise _Mistake(f"is a field of its own; write {name.lower()} beside serving_params")
    if value is None:
        return None
    if name.lower() == "tensor_parallel_size" and not re.fullmatch("[1-9][0-9]{0,3}", text_value(value)):
        raise _Mistake(f"must be a whole number of at least 1 or null, not {value_text(value)}")
    if isinstance(value, str):
        return _text(value)
    if not isinstance(value, (bool, int, float)) or not math.isfinite(value):
        raise _Mistake(f"must be one line of text, a number, true, false or null, not {value_text(value)}")
    return text_value(value)


def _infra_parameter(name: str, value: Any) -> str | None:
    if name != ARN:
        raise _Mistake(f"unknown field; {nearest(name, [ARN])}")
    if value is not None and not (isinstance(value, str) and re.fullmatch(r"arn:[a-z0-9-]+:\S+", value)):
        raise _Mistake(f"must be the ARN of a capacity reservation (arn:aws:…) or null, not {value_text(value)}")
    return value


@dataclass
class _Reader:
    """One pass over a document, noting every mistake instead of raising."""

    catalog: Catalog
    problems: list[str]
    overrides: Mapping[str, Any]
    spelled: dict[str, str] = field(default_factory=dict)

    def document(self, raw: Mapping[str, Any]) -> ProveDocument:
        top = Fields(raw, "", self.problems)
        version = top.raw("schema_version")
        if "schema_version" in raw and version != SCHEMA_VERSION:
            top.wrong(
                "schema_version", f'must be "{SCHEMA_VERSION}", not {value_text(version)}; update mlcc or the document'
            )
        base, sweep = self._base(top), self._sweep(top)
        for name in _REQUIRED:
            if isinstance(raw.get("base"), dict) and name not in {*raw["base"], *self.overrides, *sweep}:
                self.problems.append(f"base.{name}: is missing; give it a value or sweep it")
        stages, technique = self._stages(top)
        timeout = self._number(top, "timeout_minutes", DEFAULT_TIMEOUT_MINUTES, MOST_TIMEOUT_MINUTES)
        budget = self._number(top, "budget_usd", DEFAULT_BUDGET_USD, MOST_USD)
        top.close()
        points = math.prod(map(len, sweep.values()))
        if points > MOST_POINTS:
            self.problems.append(f"sweep: makes {points:,} points; sweep less, at most {MOST_POINTS:,}")
        written = {axis: tuple(raw["sweep"][axis]) for axis in sweep}
        document = ProveDocument(
            MappingProxyType(base),
            MappingProxyType(sweep),
            MappingProxyType(written),
            stages,
            technique,
            timeout,
            budget,
        )
        self._check_tuning(document)
        return document

    def _number(self, top: Fields, key: str, default: float, most: float) -> float:
        value = top.number(key, required=False, above=0)
        if value is not None and value > most:
            top.wrong(key, f"must be at most {most:g}, not {value:g}")
        return default if value is None else float(value)

    def _base(self, top: Fields) -> dict[str, Any]:
        fields = top.inner("base")
        if fields is None:
            return {}
        given = top.raw("base")
        read: dict[str, Any] = {}
        for name in BASE_FIELDS:
            value = fields.raw(name, required=False)
            if name in self.overrides:
                read[name] = self._value(f"--{name.replace('_', '-')}", name, self.overrides[name])
            elif isinstance(given, dict) and name in given:
                read[name] = self._value(f"base.{name}", name, value)
        fields.close()
        return read

    def _sweep(self, top: Fields) -> dict[str, tuple[Any, ...]]:
        raw = top.raw("sweep", required=False)
        if raw is None:
            return {}
        if not isinstance(raw, dict):
            top.wrong("sweep", f"must be an object of axes, each with a list of values, not {value_text(raw)}")
            return {}
        read: dict[str, tuple[Any, ...]] = {}
        for axis, values in raw.items():
            path = f"sweep.{axis}"
            group, dot, key = axis.partition(".")
            if axis not in BASE_FIELDS and not (dot and group in (SERVING, INFRA) and key):
                self.problems.append(f"{path}: unknown axis; {nearest(axis, BASE_FIELDS)}")
            elif not isinstance(values, list) or not values:
                self.problems.append(f"{path}: must be a list of at least one value, not {value_text(values)}")
            elif dot and group in raw:
                self.problems.append(f"{path}: {group} is swept as a whole too; keep one of both axes")
            elif axis in self.overrides:
                self.problems.append(
                    f"--{axis.replace('_', '-')}: the document sweeps {axis}; drop the option or the axis"
                )
            else:
                read[axis] = tuple(self._value(f"{path}[{n}]", axis, value) for n, value in enumerate(values))
        return read

    def _value(self, path: str, name: str, value: Any) -> Any:
        """Return one value in its normal form, none where it has a mistake."""
        group, dot, key = name.partition(".")
        if dot:
            return self._parameter(path, group, key, value)
        if name in _CHECKS:
            return self._checked(path, lambda: _CHECKS[name](value, self.catalog))
        if value is None:
            return None
        if not isinstance(value, dict):
            self.problems.append(f"{path}: must be an object of names and values, not {value_text(value)}")
            return None
        return MappingProxyType({key: self._parameter(f"{path}.{key}", name, key, each) for key, each in value.items()})

    def _parameter(self, path: str, group: str, key: str, value: Any) -> str | None:
        if group == INFRA:
            return self._checked(path, lambda: _infra_parameter(key, value))
        other = self.spelled.setdefault(key.upper(), key)
        if other != key:
            self.problems.append(f"{path}: {other} is the same parameter in other letters; keep one spelling")
        return self._checked(path, lambda: _serving_parameter(key, value))

    def _checked(self, path: str, check: Callable[[], Any]) -> Any:
        try:
            return check()
        except _Mistake as mistake:
            self.problems.append(f"{path}: {mistake}")
            return None

    def _stages(self, top: Fields) -> tuple[tuple[Stage, ...], str | None]:
        spelled = top.texts("stages", among=SPELLINGS)
        if top.raw("stages", required=False) == []:
            top.wrong("stages", "is empty; name at least build, deploy and test")
        # the same word twice is a mistake that is noted by now
        named = [stage for spelling in dict.fromkeys(spelled) for stage in stages_named(spelling)]
        techniques = [each for each in TECHNIQUES if f"tune-{each}" in spelled]
        if len(techniques) > 1:
            top.wrong("stages", f"tunes by {' and '.join(techniques)}; keep one technique")
        elif len(set(named)) < len(named):
            twice = sorted({stage.value for stage in named if named.count(stage) > 1})
            top.wrong("stages", f"names {' and '.join(twice)} twice in different words; keep one of each")
        else:
            placed = [stage for stage in named if stage not in _ANYWHERE]
            right = sorted(placed, key=CANONICAL_ORDER.index)
            if placed != right:
                top.wrong("stages", f"must be in this order: {', '.join(stage.value for stage in right)}")
        asked = {Stage.GENERATE, Stage.VALIDATE, Stage.CLEAN, *named}
        if Stage.BUILD in asked:
            asked.add(Stage.PUSH)
        for stage in CANONICAL_ORDER:
            needed = _NEEDS.get(stage)
            if stage in asked and needed is not None and needed not in asked:
                top.wrong("stages", f"has {stage.value} without {needed.value}; add {needed.value}")
        return tuple(stage for stage in CANONICAL_ORDER if stage in asked), next(iter(techniques), None)

    def _check_tuning(self, document: ProveDocument) -> None:
        if not document.tunes:
            return
        what = "must be true, since the stages tune an adapter; switch it on or drop the tuning stages"
        swept = document.sweep.get("enable_lora")
        if swept is None:
            if document.base.get("enable_lora") is False:
                self.problems.append(f"base.enable_lora: {what}")
            return
        self.problems += [f"sweep.enable_lora[{n}]: {what}" for n, value in enumerate(swept) if value is False]
