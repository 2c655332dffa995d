"""The executor `replay`: plays recorded or modelled outcomes in virtual time, for scale and planning studies.

Belongs here: the executor. Not here: where the outcomes come from (`recorded_outcomes.py`, `modelled_outcomes.py`), nor
anything that really runs. What is played is never evidence of something real: it lies in a home of its own, and every row
says executor and engine `replay`, execution `virtual`.

Virtual time: no stage waits. Its outputs say how long it would have taken (`virtual_seconds`), and a stage that would
have passed its time limit is a timeout, although no time went by. Request times in the raw records are nanoseconds since
the start of their concurrency level.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TextIO

from catalog.loader import load_catalog
from catalog.model import Catalog, Instance
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.evidence import Evidence
from mlcc_dagster.core.exceptions import StageFailed, UsageError
from mlcc_dagster.core.prices import Billing
from mlcc_dagster.core.stages import DEFAULT_LIMIT_SECONDS, Stage
from resources.executor import StageRequest
from resources.home import Home
from resources.ledger import Ledger
from resources.modelled_outcomes import ModelledOutcomes
from resources.played import Outcomes, Played
from resources.recorded_outcomes import RecordedOutcomes

NAME = "replay"
ENDPOINT = "replay-endpoint"
"""The ledger's kind of a virtual deployment: nothing but its entry exists."""

RECORDED_FILE = "outcomes.json"
"""Where a replay home may have recorded outcomes; without it outcomes are modelled."""


class ReplayExecutor:
    """Performs stages by looking up how they end. Keeps nothing but ledger entries, logs and raw records."""

    name = NAME
    billing = Billing.MANAGED
    """What is played is a run on AWS."""

    def __init__(self, outcomes: Outcomes, *, home: Home, catalog: Catalog) -> None:
        """Raises `UsageError` for a home that is not a replay home: what is played must never mix with what is
        proven."""
        if home.root.name != NAME:
            raise UsageError(
                f"replayed outcomes must not be written to {home.root}, where real results lie; "
                f"use {home.replay().root}"
            )
        self._outcomes = outcomes
        self._home = home
        self._catalog = catalog

    @classmethod
    def of_home(cls, home: Home) -> "ReplayExecutor":
        """Return the executor of a replay home: its recorded outcomes where it has any, else modelled ones.

        Raises `UsageError` for another home, `InvalidInput` naming every mistake of the recording.
        """
        catalog = load_catalog()
        recorded = home.root / RECORDED_FILE
        outcomes = RecordedOutcomes.read(recorded) if recorded.exists() else ModelledOutcomes(catalog)
        return cls(outcomes, home=home, catalog=catalog)

    def can_run(self, configuration: Configuration) -> str | None:
        """Refuse what has an unknown deployment configuration or no outcome; whether it fits is for preflight to
        say."""
        if configuration.deployment_config not in self._catalog.deployment_configs:
            return f"the catalog has no deployment configuration {configuration.deployment_config}"
        return self._outcomes.refusal(configuration)

    def reaches(self, instance: Instance) -> bool:
        """See `Executor.reaches`: outcomes are played for every instance."""
        return True

    def perform(self, request: StageRequest) -> Mapping[str, Any]:
        """Play one stage at once. `virtual_seconds` is always among its outputs."""
        # The limit is taken at the very start; whole seconds give back what the run was given, whatever passed since.
        limit = math.ceil(request.remaining())
        played = self._outcomes.play(request.run_id, request.configuration, request.stage, request.benchmark)
        if played.seconds > limit:
            request.say(f"stopped at its limit of {limit} virtual seconds")
            raise StageFailed(
                f"stage {request.stage} would take {played.seconds:.1f} s and passed its own time limit of {limit} s",
                category="timeout",
                outputs={"virtual_seconds": float(limit)},
            )
        request.say(f"replaying {played.seconds:.3f} virtual seconds")
        for line in played.log.splitlines():
            request.say(line)
        if played.failed:
            raise StageFailed(
                f"stage {request.stage} failed as {self.name} has it", outputs={"virtual_seconds": played.seconds}
            )
        outputs: dict[str, Any] = {"virtual_seconds": played.seconds}
        if request.stage is Stage.DEPLOY:
            outputs["endpoint"] = self._deploy(request)
        if request.stage is Stage.BENCHMARK:
            outputs["raw"] = self._keep(request, played)
        return outputs

    def clean(self, run_id: str, ledger: Ledger, log: TextIO) -> None:
        """Release the run's virtual deployment in the ledger, which is all there is of it."""
        for entry in ledger.alive(run_id):
            if entry.kind == ENDPOINT and ledger.release(entry.id, "replayed, nothing existed"):
                log.write(f"released {entry.ref}\n")

    def digests(self, deployment_config: str) -> Mapping[str, str]:
        """See `Executor.digests`: the outcomes that are played now."""
        return {"engine": NAME, "outcomes": self._outcomes.digest}

    def evidence(self, configuration: Configuration, outputs: Mapping[str, Any]) -> Evidence:
        """Name the outcomes it was played from. The execution is `virtual`: no process, container or endpoint
        answered."""
        return Evidence(engine=NAME, execution="virtual", digests=MappingProxyType({"outcomes": self._outcomes.digest}))

    def _deploy(self, request: StageRequest) -> str:
        ref = f"{NAME}://{request.run_id}"
        lifetime = request.remaining() + DEFAULT_LIMIT_SECONDS[Stage.CLEAN]
        entry = request.ledger.intend(run_id=request.run_id, kind=ENDPOINT, ref=ref, deadline_seconds=lifetime)
        request.ledger.confirm(entry, {"lease_tag": request.lease_tag})
        return ref

    def _keep(self, request: StageRequest, played: Played) -> dict[str, str]:
        kept = {}
        for level, lines in played.records.items():
            path = request.raw / f"concurrency-{level}" / "profile_export.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(lines, "utf-8")
            kept[str(level)] = str(path.relative_to(self._home.root))
        return kept
