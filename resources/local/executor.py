"""The `local` executor: every stage done for real on this machine, without an account, a container engine or a GPU.

Belongs here: what it can run, and which part does which stage. Not here: the parts (`projects`, `building`, `registries`,
`deployment`, `supervisor`), what is particular to a kind of server (kinds), time limits and logs (`stage_runner`).
"""

import errno
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from types import MappingProxyType
from typing import Any, TextIO

from catalog.model import Instance
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.evidence import Evidence
from mlcc_dagster.core.exceptions import StageFailed
from mlcc_dagster.core.prices import Billing
from resources.executor import StageRequest
from resources.home import Home
from resources.ledger import Ledger
from resources.local.language_models import LLAMACPP
from resources.local.predictors import FASTAPI, FLASK
from resources.local.serving import EXECUTION, ServingKind, WorkloadProfile, problems_of

KINDS: Mapping[str, ServingKind] = MappingProxyType({kind.name: kind for kind in (FASTAPI, FLASK, LLAMACPP)})
"""What can be served here, by deployment configuration."""

_ELSEWHERE = "run it with executor mcc or codebuild"


def catalog_workload(name: str) -> WorkloadProfile:
    """Return the catalog's workload of that name, as it is scaled on this machine. Raises `StageFailed` naming the known
    ones."""
    from catalog.loader import load_catalog

    workloads = load_catalog().workloads
    try:
        workload = workloads[name]
    except KeyError:
        raise StageFailed(f"unknown workload '{name}'; use one of {', '.join(workloads)}") from None
    return workload if workload.local is None else replace(workload, **asdict(workload.local))


class LocalExecutor:
    """Performs stages in a home. It keeps nothing of a run in memory. `workload` gives a workload by its name."""

    name = "local"
    billing = Billing.MACHINE

    def __init__(self, home: Home, *, workload: Callable[[str], WorkloadProfile] = catalog_workload) -> None:
        self._home = home
        self._workload = workload

    def can_run(self, configuration: Configuration) -> str | None:
        """Say in one clause why the configuration cannot run here, all reasons at once, or none when it can."""
        kind = KINDS.get(configuration.deployment_config)
        local = configuration.instance_type.startswith("local.")
        if not local:
            needs = f"instance {configuration.instance_type}" if kind else "a GPU instance"
            return f"needs {needs}: {_ELSEWHERE}"
        if kind is None:
            return f"serves no {configuration.deployment_config} (it serves {', '.join(KINDS)}): {_ELSEWHERE}"
        refusal = kind.refusal(configuration)
        problems = ([] if refusal is None else [refusal]) + problems_of(kind, configuration)
        return "; ".join(problems) or None

    def reaches(self, instance: Instance) -> bool:
        """See `Executor.reaches`: this machine alone."""
        return instance.local

    def perform(self, request: StageRequest) -> Mapping[str, Any]:
        """Do one stage; see `Executor.perform`."""
        kind = KINDS.get(request.configuration.deployment_config)
        if kind is None:
            raise StageFailed(
                f"the local executor serves no {request.configuration.deployment_config} (it serves "
                f"{', '.join(KINDS)}); {_ELSEWHERE}",
                category="service_limitation",
            )
        from resources.local.stages import LocalStages

        stage = LocalStages(self._home, self._workload).by_name.get(request.stage)
        if stage is None:
            raise StageFailed(
                f"the local executor offers no stage {request.stage} for {kind.name}; leave it out of the lifecycle",
                category="service_limitation",
            )
        try:
            return stage(request, kind)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise StageFailed(
                f"no space left on the disk of {self._home.root}; free some and run it again", category="infrastructure"
            ) from error

    def clean(self, run_id: str, ledger: Ledger, log: TextIO) -> None:
        """End everything of a run; see `Executor.clean`."""
        from resources.local import deployment

        deployment.clean(run_id, self._home, ledger, log)

    def digests(self, deployment_config: str) -> Mapping[str, str]:
        """See `Executor.digests`: the engine installed here, and the templates as they are now."""
        kind = KINDS.get(deployment_config)
        if kind is None:
            return {}
        from resources.local.projects import template_digest

        return {"engine": kind.engine(), "template": template_digest(kind)}

    def evidence(self, configuration: Configuration, outputs: Mapping[str, Any]) -> Evidence:
        """Say what the result depended on: digests that the stages reached by now, and the engine installed here."""
        kind = KINDS.get(configuration.deployment_config)
        names = {"image": "image_digest", "template": "template_digest", "model": "model_digest", "python": "python"}
        names |= {"weights": "weights_digest", "derived_from": "derived_from"}
        digests = {name: str(outputs[key]) for name, key in names.items() if outputs.get(key) is not None}
        engine = kind.engine() if kind else configuration.deployment_config
        return Evidence(engine, EXECUTION, MappingProxyType(digests))
