"""The watchdog of a stage: ends one that outstays its time, whether it looks at the clock or not.

Belongs here: when to step in, and what the stage is then said to have failed of. Not here: the time itself (`lifecycle.py`),
ending resources (executors), runs whose process is dead or stopped (`reaper.py`: this watchdog lives and dies with them).

A stage is expected to look at its time in every wait and to end itself. One that does not is ended in two steps, each a
grace after the one before: what it holds is cleaned away, so that it fails for want of it; and if it still does not return,
its run is abandoned, so that its money is charged and given back and nothing that it does later counts.
"""

import contextlib
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from catalog.model import Instance
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.evidence import Evidence
from mlcc_dagster.core.exceptions import StageFailed
from resources.executor import Executor, StageRequest
from resources.ledger import Ledger

GRACE_SECONDS = 30.0
"""How long after its time a stage may still end itself, and how long after its cleaning it may still fail by that."""


class WatchedExecutor:
    """An executor whose stages are ended when they outstay their time.

    `used_up` is what a stage says that passed its time because its run's money ends there; none where the time is its own
    limit. `clean` and `abandon` end the run's resources, and the run itself, and are given the reason; both are called from
    the watchdog's thread.
    """

    def __init__(
        self,
        executor: Executor,
        *,
        used_up: str | None,
        clean: Callable[[str], object],
        abandon: Callable[[str], object],
    ) -> None:
        self.name = executor.name
        self.billing = executor.billing
        self._executor = executor
        self._used_up = used_up
        self._end_resources = clean
        self._abandon = abandon

    def perform(self, request: StageRequest) -> Mapping[str, Any]:
        """Do one stage; see `Executor.perform`. Raises `StageFailed` (category `timeout`) for one that failed at its
        deadline for want of money, and for one that had to be ended, whatever it came to."""
        returned, ended = threading.Event(), threading.Event()
        watchdog = threading.Thread(
            target=self._watch, args=(request, returned, ended), name=f"watchdog {request.run_id}", daemon=True
        )
        watchdog.start()
        try:
            outputs = self._executor.perform(request)
        except Exception as error:
            known = error.category if isinstance(error, StageFailed) else None
            unpaid = self._used_up is not None and (known == "timeout" or time.monotonic() >= request.deadline)
            if not ended.is_set() and not unpaid:
                raise
            request.say(error.message if isinstance(error, StageFailed) else traceback.format_exc())
            outputs = error.outputs if isinstance(error, StageFailed) else {}
            raise StageFailed(self._outstayed(request), category="timeout", outputs=outputs) from error
        finally:
            returned.set()
            # two cleanings of one run must not go on at once
            watchdog.join()
        if ended.is_set():
            raise StageFailed(self._outstayed(request), category="timeout")
        return outputs

    def _watch(self, request: StageRequest, returned: threading.Event, ended: threading.Event) -> None:
        if returned.wait(max(0.0, request.deadline - time.monotonic()) + GRACE_SECONDS):
            return
        ended.set()
        for end in (self._end_resources, self._abandon):
            # whatever fails here, the reaper ends what is left
            with contextlib.suppress(Exception):
                end(self._outstayed(request))
            if returned.wait(GRACE_SECONDS):
                return

    def _outstayed(self, request: StageRequest) -> str:
        return self._used_up or f"stage {request.stage} passed its own time limit and had to be ended"

    def clean(self, run_id: str, ledger: Ledger, log: TextIO) -> None:
        """See `Executor.clean`."""
        self._executor.clean(run_id, ledger, log)

    def can_run(self, configuration: Configuration) -> str | None:
        """See `Executor.can_run`."""
        return self._executor.can_run(configuration)

    def reaches(self, instance: Instance) -> bool:
        """See `Executor.reaches`."""
        return self._executor.reaches(instance)

    def digests(self, deployment_config: str) -> Mapping[str, str]:
        """See `Executor.digests`."""
        return self._executor.digests(deployment_config)

    def evidence(self, configuration: Configuration, outputs: Mapping[str, Any]) -> Evidence:
        """See `Executor.evidence`."""
        return self._executor.evidence(configuration, outputs)
