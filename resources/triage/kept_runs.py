"""The runs that a home keeps, read back from their folders.

Belongs here: finding them, their keys, and their cells as rows. Not here: writing folders (`run_folders.py`), assets and SQL over
the rows. A run is known by its place below `triage/` in the home; runs with another `--output-dir` are nobody's but the caller's.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.triage.matrix import SCHEMA_VERSION
from resources.home import Home
from resources.triage.run_folders import MATRIX_JSON

FOLDER = "triage"
SEPARATOR = "~"
"""Between the parts of a key; no folder of a run has it in its name."""


@dataclass(frozen=True)
class KeptRun:
    """A run and its `matrix.json`. `key` is ticket, workload and time, as its folders are called."""

    key: str
    path: Path
    document: Mapping[str, Any]

    @property
    def finished(self) -> bool:
        """Whether no trial of it is missing."""
        return self.document["finished"] is True


def key_of(path: Path) -> str:
    """Return the key of a run from its folder."""
    return SEPARATOR.join(path.parts[-3:])


def run_paths(home: Home) -> list[Path]:
    """Return the folders of the home's runs, in the order of their times."""
    found = (each.parent for each in (home.root / FOLDER).glob(f"*/*/*/{MATRIX_JSON}"))
    return sorted((path for path in found if not path.is_symlink()), key=lambda path: (path.name, path))


def kept_runs(home: Home) -> Iterator[KeptRun]:
    """Read the home's runs. Raises `UsageError` for one that cannot be read: without it every answer would be wrong."""
    for path in run_paths(home):
        yield read_run(path)


def run_named(home: Home, key: str) -> KeptRun:
    """Return the run of a key. Raises `UsageError` where the home has none."""
    path = next((path for path in run_paths(home) if key_of(path) == key), None)
    if path is None:
        raise UsageError(f"the home keeps no triage run {key}; run it again, or drop its partition")
    return read_run(path)


def read_run(path: Path) -> KeptRun:
    """Read the run in a folder. Raises `UsageError` where its matrix cannot be read."""
    place = path / MATRIX_JSON
    try:
        document = json.loads(place.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{place} cannot be read ({error}); resume the run, or remove its folder") from error
    if not isinstance(document, dict) or document.get("schema_version") != SCHEMA_VERSION or "cells" not in document:
        raise UsageError(f"{place} is of another version or damaged; resume the run, or remove its folder")
    return KeptRun(key_of(path), path, document)


def cell_rows(run: KeptRun) -> Iterator[dict[str, Any]]:
    """Return the cells of a run as rows, by the columns of the table `triage_cells`."""
    document = run.document
    for cell in document["cells"]:
        statistics, confound = cell["statistics"], cell["confound"]
        evidence = confound["evidence"] or {}
        # what was written before these were known has none of them
        anytime, control = confound.get("anytime") or {}, confound.get("delay_control") or {}
        yield {
            "triage_run": run.key,
            "ticket": document["ticket"],
            "workload": document["workload"],
            "started_at": document["started_at"],
            "finished": run.finished,
            "cell": cell["name"],
            "is_baseline": cell["name"] == document["baseline_cell"],
            "mitigations": ", ".join(cell["mitigations"]),
            "environment": cell["environment"]["name"],
            "steps": cell["steps"],
            "trials": statistics["trials"],
            "passed": statistics["passed"],
            "failed": statistics["failed"],
            "errors": statistics["errors"],
            "failure_rate": statistics["failure_rate"],
            "failure_rate_low": evidence.get("failure_rate_low"),
            "failure_rate_high": evidence.get("failure_rate_high"),
            "mean_step_ms": statistics["mean_step_time_ms"],
            "step_p99_ms": statistics["p99_step_time_ms"],
            "step_time_ratio": confound["step_time_ratio"],
            "tag": confound["tag"],
            "fisher_p": evidence.get("fisher_p_one_sided"),
            "e_value": anytime.get("e_value"),
            "control_delay_ms": control.get("delay_ms"),
            "control_failure_rate": (control.get("statistics") or {}).get("failure_rate"),
            "control_explains": control.get("explains"),
        }
