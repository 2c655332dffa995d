"""The Dagster instance of a home: its file, its opening, and runs that a command starts in it.

Belongs here: what commands need of Dagster. Import this only where a command runs something: Dagster costs seconds.
"""

import logging
import os
import warnings
from pathlib import Path
from typing import Any

from resources.home import Home

INSTANCE_FILE = """\
# Written by `mlcc init`; yours to change. Storage is SQLite below this folder; for more than one machine name a
# Postgres storage, a run launcher and a compute log manager here (docs/architecture.md).
telemetry:
  enabled: false
nux:
  enabled: false
concurrency:
  runs:
    max_concurrent_runs: 4
run_monitoring:
  enabled: true
  start_timeout_seconds: 180
  cancel_timeout_seconds: 180
sensors:
  use_threads: true
  num_workers: 4
schedules:
  use_threads: true
  num_workers: 2
"""


def write_instance_file(home: Home) -> Path:
    """Write the instance file where there is none and return its path; an existing one is left as it is."""
    home.ensure()
    path = home.dagster / "dagster.yaml"
    if not path.exists():
        partial = path.with_suffix(".partial")
        partial.write_text(INSTANCE_FILE, "utf-8")
        partial.replace(path)
    return path


def open_instance(home: Home) -> Any:
    """Open the home's Dagster instance (`dagster.DagsterInstance`), quietly."""
    os.environ["DAGSTER_HOME"] = str(home.dagster)
    os.environ["MLCC_HOME"] = str(home.root)
    warnings.filterwarnings("ignore", module="dagster")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    import dagster as dg
    from filelock import FileLock

    # Two first openings at once would both stamp Dagster's new tables, which nobody can open from then on.
    with FileLock(home.ensure().dagster / "opening.lock"):
        write_instance_file(home)
        return dg.DagsterInstance.from_config(str(home.dagster))
