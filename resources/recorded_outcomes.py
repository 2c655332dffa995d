"""Outcomes that really happened once, read from one JSON file to be played again.

Belongs here: the form of the file and its reading. Not here: the executor that plays them (`replay.py`), made-up outcomes
(`modelled_outcomes.py`). The form:

    {"<config_id>": {"stages": {"build": {"seconds": 410.0, "status": "pass", "log": "..."},
                                "benchmark": {"seconds": 95.5, "status": "pass"}},
                     "records": {"4": "b1946ac9/profile_export_4.jsonl"}}}

`status` is pass or fail, `log` what the stage printed (required where it failed: it is what gets classified), `records`
the AIPerf export per concurrency level, as a path relative to the file.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.exceptions import InvalidInput, StageFailed
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.outcome import BenchmarkPlan, StageStatus
from mlcc_dagster.core.stages import Stage
from resources.played import Played

_PERFORMED = tuple(stage.value for stage in Stage if stage is not Stage.CLEAN)


@dataclass(frozen=True)
class RecordedStage:
    """How a stage of a configuration ended, as recorded."""

    seconds: float
    status: StageStatus
    log: str


@dataclass(frozen=True)
class Recording:
    """The recorded stages of one configuration and its benchmark exports per concurrency level."""

    stages: Mapping[Stage, RecordedStage]
    records: Mapping[int, Path]


@dataclass(frozen=True)
class RecordedOutcomes:
    """Outcomes as a file has them, the same for every run of a configuration. `digest` is that of the file."""

    recordings: Mapping[str, Recording]
    digest: str

    @classmethod
    def read(cls, path: Path) -> "RecordedOutcomes":
        """Read a recording in the form that this module's head describes. Raises `InvalidInput` with every mistake."""
        try:
            content = path.read_bytes()
            document = json.loads(content)
        except OSError as error:
            raise InvalidInput(str(path), [f"cannot be read ({error.strerror})"]) from error
        except ValueError as error:
            raise InvalidInput(str(path), [f"not readable as JSON ({error})"]) from error
        problems: list[str] = []
        if not isinstance(document, dict):
            raise InvalidInput(str(path), ["must be an object of config ids"])
        recordings = {key: _recording(key, entry, path.parent, problems) for key, entry in document.items()}
        if problems:
            raise InvalidInput(str(path), problems)
        return cls(MappingProxyType(recordings), hashlib.sha256(content).hexdigest())

    def refusal(self, configuration: Configuration) -> str | None:
        """Refuse what was not recorded."""
        key = config_id(configuration)
        return None if key in self.recordings else f"nothing is recorded of {key}"

    def play(self, run_id: str, configuration: Configuration, stage: Stage, plan: BenchmarkPlan) -> Played:
        """Return the recorded outcome. Raises `StageFailed` for a stage or concurrency level that was not recorded."""
        key = run_id.rpartition("-g")[0]
        recording = self.recordings.get(key)
        recorded = recording.stages.get(stage) if recording is not None else None
        if recording is None or recorded is None:
            raise StageFailed(f"no stage {stage} is recorded of {key}; record it or leave it out", category="code_bug")
        if recorded.status is StageStatus.FAIL:
            return Played(recorded.seconds, recorded.log, failed=True)
        levels = plan.concurrency_levels if stage is Stage.BENCHMARK else ()
        missing = [str(level) for level in levels if level not in recording.records]
        if missing:
            raise StageFailed(
                f"no records at concurrency {', '.join(missing)} of {key}; record them or plan other levels",
                category="code_bug",
            )
        records = {level: recording.records[level].read_text("utf-8") for level in levels}
        return Played(recorded.seconds, recorded.log, records=records)


def _recording(key: str, entry: Any, folder: Path, problems: list[str]) -> Recording:
    if not isinstance(entry, dict) or not isinstance(entry.get("stages"), dict):
        problems.append(f"{key}: must be an object with stages")
        return Recording({}, {})
    stages = {}
    for name, recorded in entry["stages"].items():
        where = f"{key}.stages.{name}"
        fields = recorded if isinstance(recorded, dict) else {}
        seconds: Any = fields.get("seconds")
        status, log = fields.get("status"), fields.get("log", "")
        found = len(problems)
        if name not in _PERFORMED:
            problems.append(f"{where}: unknown stage; use one of {', '.join(_PERFORMED)}")
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < math.inf:
            problems.append(f"{where}.seconds: must be a number from 0, not {seconds!r}")
        if status not in ("pass", "fail"):
            problems.append(f"{where}.status: must be pass or fail, not {status!r}")
        if not isinstance(log, str) or (status == "fail" and not log.strip()):
            problems.append(f"{where}.log: must be a text, not empty where the stage failed")
        if len(problems) == found:
            stages[Stage(name)] = RecordedStage(float(seconds), StageStatus(status), log)
    records = {}
    exports = entry.get("records", {})
    if not isinstance(exports, dict):
        problems.append(f"{key}.records: must be an object of concurrency levels")
        exports = {}
    for level, export in exports.items():
        place = folder / str(export)
        if not level.isdecimal() or int(level) < 1:
            problems.append(f"{key}.records.{level}: a concurrency level is a whole number from 1")
        elif not place.is_file():
            problems.append(f"{key}.records.{level}: there is no file {place}")
        else:
            records[int(level)] = place
    return Recording(MappingProxyType(stages), MappingProxyType(records))
