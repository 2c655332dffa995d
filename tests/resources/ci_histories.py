"""A CI table with the history that a test says, written through the table's own contract."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from catalog.loader import load_catalog
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.outcome import BenchmarkPlan, Claim, Owner, StageResult, StageStatus
from mlcc_dagster.core.resolution import configuration_of
from mlcc_dagster.core.stages import Stage
from resources.ci_table import Commit
from resources.sqlite_ci_table import SqliteCiTable

CATALOG = load_catalog()
ENTRIES = {entry.id: entry for entry in CATALOG.entries}
PLAN = BenchmarkPlan(enabled=False, workload="local_predict", concurrency_levels=(1,))
GROUND = {"template_digest": "sha256:a", "base_image": "python:3.11"}


@dataclass
class Histories:
    """A table on a clock that goes on by a minute with each write; configurations are named by their catalog ids."""

    database: Path
    now: float = 1_780_000_000.0
    step: float = 30.0
    rounds: int = field(default=0)

    def __post_init__(self) -> None:
        self.table = SqliteCiTable(self.database, clock=self._tick)

    def _tick(self) -> float:
        self.now += self.step
        return self.now

    def key(self, name: str) -> str:
        return config_id(configuration_of(ENTRIES[name], CATALOG))

    def register(self, name: str) -> str:
        entry = ENTRIES[name]
        self.table.register(configuration_of(entry, CATALOG), benchmark=PLAN, tier=entry.tier, catalog_id=entry.id)
        return self.key(name)

    def claim(self, name: str, *, round: str | None = None, lease_seconds: float = 90.0) -> Claim:
        self.rounds += 1
        entry = ENTRIES[name]
        claim = self.table.claim(
            self.register(name),
            configuration=configuration_of(entry, CATALOG),
            round=round or f"round-{self.rounds}",
            owner=Owner("host", 1, 1, "boot", f"dagster-run-{self.rounds}"),
            lease_seconds=lease_seconds,
            run_type="ci",
            tier=entry.tier,
            benchmark=PLAN,
        )
        assert isinstance(claim, Claim), claim
        return claim

    def note(self, claim: Claim, stage: Stage, outputs: Mapping[str, Any], *, at: str = "2026-06-01T00:00:00Z") -> None:
        made = StageResult(stage, StageStatus.PASS, at, 1.0, outputs=dict(outputs))
        self.table.stage_ended(claim, stage.value, made.to_document())

    def finish(self, claim: Claim, test_status: str | None, **values: Any) -> None:
        made = {
            "rows": (),
            "status": "completed" if test_status == "pass" else "failed",
            "run_status": test_status or "pass",
            "duration_seconds": 12.5,
            "cost_usd": 0.5,
            "project_name": "the-project",
        }
        self.table.intend(claim, Commit(test_status=test_status, **(made | values)))
        assert self.table.finish(claim.run_id)

    def run(self, name: str, text: str, *, ground: Mapping[str, str] = GROUND, **values: Any) -> str:
        """Run a configuration once for each character: `.` passes, `F` fails its test. Return the newest run id."""
        run_id = ""
        for character in text:
            claim = self.claim(name)
            self.note(claim, Stage.GENERATE, ground)
            self.finish(claim, "pass" if character == "." else "fail-test", **values)
            run_id = claim.run_id
        return run_id
