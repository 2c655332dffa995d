"""The records of continuous validation as they are exchanged: their names and defaults, and reading old ones.

Belongs here: what makes an old record readable. Not here: the table (`ci_table.py`), the records of measurements
(`records.py`), what a record's configuration is called elsewhere (`old_configurations.py`), what a person may change of a
record (`record_settings.py`).

Source of the rules: "the CI record" of the specification; the defaults are those that readers of existing installations
apply.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from catalog.model import DEFAULT_CONCURRENCY_LEVELS, MOST_CONCURRENCY, Catalog, nearest
from catalog.reading import Fields
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.dynamodb_json import read_items, whole_or_float
from mlcc_dagster.core.exceptions import InvalidInput, UsageError
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.old_configurations import former_ids, old_configuration
from mlcc_dagster.core.outcome import BenchmarkPlan
from mlcc_dagster.core.record_settings import (
    BUILD_STRATEGIES,
    DEFAULT_BUILD_STRATEGY,
    NO_WORKLOAD,
    default_workload,
    workload_problem,
)
from mlcc_dagster.core.records import utc_text
from mlcc_dagster.core.resolution import configuration_of
from mlcc_dagster.core.result_columns import moment_of
from mlcc_dagster.core.stages import SPELLINGS

RECORD_VERSIONS = (1, 2)
"""Versions of the record that are read; the last is the one that is written."""

NEVER = "1970-01-01T00:00:00Z"
"""The `lastTestTimestamp` of what was never tested, in records of existing installations."""

RECORD_DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {
        "schemaVersion": 1,
        "testStatus": "untested",
        "lastTestTimestamp": NEVER,
        "buildStrategy": DEFAULT_BUILD_STRATEGY,
        "stageResults": MappingProxyType({}),
        "errorMessage": "",
        "deploymentConfig": "",
        "baseImage": "",
        "baseImageVersion": "",
        "projectName": "",
        "benchmarkEnabled": False,
        "benchmarkConcurrencyLevels": DEFAULT_CONCURRENCY_LEVELS,
    }
)
"""What a reader takes where a record has nothing. `lastBenchmark*` have no default: absent is never benchmarked."""

FAILED_STAGES = frozenset(SPELLINGS) | {"update", "unknown"}
"""Every stage that a status `fail-<stage>` may name, those of older records among them."""

BENCHMARK_STATUSES = ("completed", "failed", "in-progress")

_READ = frozenset(
    {
        *RECORD_DEFAULTS,
        *("configId", "configJson", "previousTestStatus", "lastTestDuration", "duration", "e2eCatalogId", "tier"),
        *("createdAt", "benchmarkWorkload", "lastBenchmarkRunId", "lastBenchmarkTimestamp", "lastBenchmarkStatus"),
        # the lease of another table holds nothing here
        *("leaseOwner", "leaseUntil", "generation"),
    }
)


def with_defaults(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with the default of every attribute that is absent, null or an empty text."""
    filled = {name: value for name, value in record.items() if value is not None and value != ""}
    for name, value in RECORD_DEFAULTS.items():
        plain = dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value
        filled.setdefault(name, plain)
    return filled


def image_parts(image: str | None) -> tuple[str | None, str | None]:
    """Split an image reference into name and version: its digest or tag, none where it has neither. A port in the name is
    no tag."""
    if not image:
        return None, None
    name, at, digest = image.partition("@")
    if at:
        return name, digest
    name, colon, tag = image.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (image, None)


def is_test_status(text: str) -> bool:
    """Whether a text is a status of a record: untested, running, pass, or `fail-` and a stage in any of its spellings."""
    return text in ("untested", "running", "pass") or (
        text.startswith("fail-") and text.removeprefix("fail-") in FAILED_STAGES
    )


@dataclass(frozen=True)
class OldRecord:
    """A record of another table, read: under its id of today, with `stored_id` the one it had there. Times are UTC text,
    none where it was never tested or does not say; `remarks` are sentences on what was read otherwise than it stands."""

    config_id: str
    stored_id: str
    configuration: Configuration
    test_status: str
    previous_test_status: str | None
    last_test_timestamp: str | None
    last_test_duration: float | None
    tier: str | None
    e2e_catalog_id: str | None
    build_strategy: str
    benchmark: BenchmarkPlan
    stage_results: Mapping[str, Any]
    error_message: str | None
    last_benchmark_run_id: str | None
    last_benchmark_timestamp: str | None
    last_benchmark_status: str | None
    image: str | None
    project_name: str | None
    created_at: str | None
    remarks: tuple[str, ...] = field(default=())


def read_old_records(text: str, catalog: Catalog, *, source: str = "the file") -> tuple[OldRecord, ...]:
    """Read an export of another table, in either form of DynamoDB's, in its order; of several records of one configuration
    the one that was tested last.

    A record that does not say its configuration is that of the catalog entry whose id it has. Raises `InvalidInput` carrying
    every mistake of every record with its path, such as `Items[3].testStatus`.
    """
    problems: list[str] = []
    reader = _Reader(catalog, problems)
    found = [reader.record(path, item) for path, item in read_items(text, problems)]
    if problems:
        raise InvalidInput(source, list(dict.fromkeys(problems)))
    return _latest(record for record in found if record is not None)


def _latest(records: Iterable[OldRecord]) -> tuple[OldRecord, ...]:
    kept: dict[str, OldRecord] = {}
    for record in records:
        other = kept.setdefault(record.config_id, record)
        if other is not record:
            later, earlier = sorted((record, other), key=_standing, reverse=True)
            remark = f"the record stored as {earlier.stored_id} is an older one of the same configuration"
            kept[record.config_id] = replace(later, remarks=(*later.remarks, remark))
    return tuple(kept.values())


def _standing(record: OldRecord) -> tuple[str, str, bool]:
    return record.last_test_timestamp or "", record.created_at or "", record.stored_id == record.config_id


@dataclass
class _Reader:
    catalog: Catalog
    problems: list[str]
    _declared: dict[str, Configuration] | None = None

    def record(self, path: str, item: dict[str, Any]) -> OldRecord | None:
        """Read one item, none where it has a mistake."""
        given = {name: value for name, value in item.items() if value is not None and value != ""}
        f = Fields(given, path, self.problems)
        stored = f.text("configId")
        if f.number("schemaVersion", required=False, whole=True) not in (None, *RECORD_VERSIONS):
            known = " and ".join(str(version) for version in RECORD_VERSIONS)
            f.wrong("schemaVersion", f"{given['schemaVersion']} is not known, {known} are; update mlcc")
        configuration = self._configuration(f, given, stored)
        remarks = self._remarks(given)
        status = self._status(f, "testStatus") or "untested"
        previous = self._status(f, "previousTestStatus")
        if status == "running":
            status = previous if previous not in (None, "running") else "untested"
            remarks.append(f"was running elsewhere, so it is {status} here")
        tested = self._moment(f, "lastTestTimestamp")
        last_benchmark = f.text("lastBenchmarkStatus", required=False, among=BENCHMARK_STATUSES)
        if last_benchmark == "in-progress":
            last_benchmark = "failed"
            remarks.append("its benchmark was in progress elsewhere, so it is failed here")
        record = {
            "test_status": status,
            "previous_test_status": previous,
            "last_test_timestamp": None if tested is None or tested == _EPOCH else utc_text(tested),
            "last_test_duration": self._duration(f),
            "tier": f.text("tier", required=False, among=self.catalog.tiers),
            "e2e_catalog_id": f.text("e2eCatalogId", required=False),
            "build_strategy": f.text("buildStrategy", required=False, among=BUILD_STRATEGIES) or DEFAULT_BUILD_STRATEGY,
            "stage_results": _stage_results(f),
            "error_message": f.text("errorMessage", required=False),
            "last_benchmark_run_id": f.text("lastBenchmarkRunId", required=False),
            "last_benchmark_timestamp": self._text_of(f, "lastBenchmarkTimestamp"),
            "last_benchmark_status": last_benchmark,
            "image": _image(f.text("baseImage", required=False), f.text("baseImageVersion", required=False)),
            "project_name": f.text("projectName", required=False),
            "created_at": self._text_of(f, "createdAt"),
        }
        benchmark = self._benchmark(f, configuration)
        if not f.sound or configuration is None or benchmark is None:
            return None
        key = config_id(configuration)
        if key != stored:
            remarks.insert(0, f"was stored as {stored}")
        return OldRecord(key, stored, configuration, benchmark=benchmark, remarks=tuple(remarks), **record)

    def _configuration(self, f: Fields, given: Mapping[str, Any], stored: str | None) -> Configuration | None:
        document = f.raw("configJson", required=False)
        if isinstance(document, str):
            document = _inner_json(f, "configJson", document)
            if document is None:
                return None
        if document is None:
            found = self._entry_of(given.get("e2eCatalogId"), stored)
            if found is None and stored is not None:
                f.wrong(
                    "configJson",
                    f"is missing, and no catalog entry has the id {stored}; add it, or import the catalog entry first",
                )
            return found
        configuration = old_configuration(document, self.catalog, f.at("configJson"), self.problems)
        if configuration is None or stored is None:
            return None
        try:
            ids = former_ids(configuration, self.catalog)
        except UsageError as error:
            f.wrong("configJson", str(error))
            return None
        if stored not in ids:
            f.wrong(
                "configId",
                f"'{stored}' is no id that the configuration of its configJson has or had ({config_id(configuration)} is); "
                "correct one of the two",
            )
        return configuration

    def _entry_of(self, entry_id: Any, stored: str | None) -> Configuration | None:
        if self._declared is None:
            self._declared = {}
            for entry in self.catalog.all_entries:
                configuration = configuration_of(entry, self.catalog)
                for key in former_ids(configuration, self.catalog):
                    self._declared.setdefault(key, configuration)
        own = [entry for entry in self.catalog.all_entries if entry.id == entry_id]
        for configuration in (configuration_of(entry, self.catalog) for entry in own):
            if stored in former_ids(configuration, self.catalog):
                return configuration
        return self._declared.get(stored or "")

    def _remarks(self, given: Mapping[str, Any]) -> list[str]:
        left_out = sorted(set(given) - _READ)
        return [f"{', '.join(left_out)} left out: no attribute of a record"] if left_out else []

    def _status(self, f: Fields, name: str) -> str | None:
        status = f.text(name, required=False)
        if status is not None and not is_test_status(status):
            known = ["untested", "running", "pass", *(f"fail-{stage}" for stage in sorted(FAILED_STAGES))]
            f.wrong(name, f"'{status}' is not known; {nearest(status, known)}")
        return status

    def _moment(self, f: Fields, name: str) -> datetime | None:
        text = f.text(name, required=False)
        try:
            return moment_of(text)
        except ValueError:
            f.wrong(name, f"'{text}' is no time; write it as 2026-01-31T06:00:00Z")
            return None

    def _text_of(self, f: Fields, name: str) -> str | None:
        moment = self._moment(f, name)
        return None if moment is None else utc_text(moment)

    def _duration(self, f: Fields) -> float | None:
        seconds = f.number("lastTestDuration", required=False, at_least=0, at_most=_MOST_SECONDS)
        if seconds is not None:
            return float(seconds)
        # The tier runner of existing installations writes milliseconds under this name.
        milliseconds = f.number("duration", required=False, at_least=0, at_most=_MOST_SECONDS * 1000)
        return None if milliseconds is None else milliseconds / 1000

    def _benchmark(self, f: Fields, configuration: Configuration | None) -> BenchmarkPlan | None:
        enabled = f.flag("benchmarkEnabled", default=False)
        workload = f.text("benchmarkWorkload", required=False)
        levels = (
            f.whole_numbers("benchmarkConcurrencyLevels", required=False, at_most=MOST_CONCURRENCY)
            or DEFAULT_CONCURRENCY_LEVELS
        )
        if configuration is None:
            return None
        if workload is None:
            workload = default_workload(configuration, self.catalog)
        elif workload != NO_WORKLOAD and (problem := workload_problem(configuration, workload, self.catalog)):
            f.wrong("benchmarkWorkload", problem)
        return BenchmarkPlan(enabled, workload, levels)


_MOST_SECONDS = 366 * 24 * 3600.0
"""No test took longer than a year; a number above is of another unit."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _inner_json(f: Fields, key: str, text: str) -> Any:
    """Return what a text holds as JSON, none where it has a mistake, which is then noted."""
    try:
        document = json.loads(text, parse_int=whole_or_float)
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        f.wrong(key, "holds half a character; write it whole")
    except RecursionError:
        f.wrong(key, "is nested too deeply; no value of a record is")
    except ValueError as error:
        f.wrong(key, f"is no JSON ({getattr(error, 'msg', error)}); correct the text")
    else:
        return document
    return None


def _stage_results(f: Fields) -> Mapping[str, Any]:
    results = f.raw("stageResults", required=False)
    if isinstance(results, str):
        results = _inner_json(f, "stageResults", results)
    if results is None:
        return MappingProxyType({})
    if not isinstance(results, dict) or not all(isinstance(each, dict) for each in results.values()):
        f.wrong("stageResults", "must be an object with one object for each stage")
        return MappingProxyType({})
    return MappingProxyType({name: _stage_result(result) for name, result in results.items()})


def _stage_result(result: dict[str, Any]) -> dict[str, Any]:
    if "durationSeconds" in result or not isinstance(result.get("duration"), (int, float)):
        return result
    # As the tier runner of existing installations writes it.
    return {
        "status": result.get("status"),
        "durationSeconds": result["duration"] / 1000,
        "logPointer": "",
        "errorSummary": result.get("error") or "",
    }


def _image(name: str | None, version: str | None) -> str | None:
    """Return the whole reference; existing installations write the version into the name, too."""
    if name is None or version is None or image_parts(name)[1] is not None:
        return name
    return f"{name}{'@' if version.startswith('sha256:') else ':'}{version}"
