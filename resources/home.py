"""The home folder of a platform: where everything it remembers lies.

Belongs here: names of places below the home and making them. Not here: what is written there.
"""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mlcc_dagster.core.exceptions import HomeError
from resources.settings import Settings, home_root, read_settings


@dataclass(frozen=True)
class Home:
    """Places below one home folder; `root` is absolute. Making the value touches nothing."""

    root: Path

    @classmethod
    def current(cls) -> "Home":
        """The home that `$MLCC_HOME` (default `.mlcc`) names."""
        return cls(home_root())

    @cached_property
    def settings(self) -> Settings:
        """The settings of this home (`settings.yaml`, defaults where absent)."""
        return read_settings(self.root / "settings.yaml")

    @property
    def database(self) -> Path:
        """SQLite file with CI table, ledger, history, rounds."""
        return self.root / "state.sqlite"

    @property
    def results(self) -> Path:
        """Root of the Parquet result files."""
        return self.root / "results"

    @property
    def raw(self) -> Path:
        """Raw benchmark records, one folder per run."""
        return self.root / "raw"

    @property
    def logs(self) -> Path:
        """Stage logs, one folder per run."""
        return self.root / "logs"

    @property
    def workspaces(self) -> Path:
        """Scratch folders of live runs; empty when nothing runs."""
        return self.root / "workspaces"

    @property
    def registry(self) -> Path:
        """The local OCI layout store that push publishes into."""
        return self.root / "registry"

    @property
    def dagster(self) -> Path:
        """DAGSTER_HOME of this platform."""
        return self.root / "dagster"

    def replay(self) -> "Home":
        """The home that replayed outcomes are written to, apart from real ones."""
        return self if self.root.name == "replay" else Home(self.root / "replay")

    def exists(self) -> bool:
        """Whether `mlcc init` (or a first run) has made this home."""
        return self.database.exists()

    def ensure(self) -> "Home":
        """Make the folders and return the home.

        Raises `HomeError` with one sentence where the folder cannot be made or written.
        """
        try:
            for place in (self.root, self.results, self.raw, self.logs, self.workspaces, self.registry, self.dagster):
                place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HomeError(self._refusal(error.strerror or str(error))) from error
        if not os.access(self.root, os.W_OK | os.X_OK):
            raise HomeError(self._refusal("not writable"))
        return self

    def _refusal(self, why: str) -> str:
        return f"cannot use {self.root} as the home ({why}); set MLCC_HOME to a folder you can write to"
