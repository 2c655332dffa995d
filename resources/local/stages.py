"""The stages of the `local` executor: who does which, and what each hands on.

Belongs here: generate to register, for any kind of server. Not here: what can be run (`executor.py`, which imports this only
when a stage is performed), the parts (`projects`, `building`, `registries`, `deployment`), what is particular to a kind.
"""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx

from mlcc_dagster.core.exceptions import StageFailed
from mlcc_dagster.core.stages import DEFAULT_LIMIT_SECONDS, Stage
from resources import load_client
from resources.executor import StageRequest
from resources.home import Home
from resources.local import building, deployment, projects
from resources.local.images import MANIFEST_TYPE, Descriptor
from resources.local.registries import LOCAL, open_registry
from resources.local.serving import EXECUTION, ServingKind, WorkloadProfile, problems_of

REQUEST_SECONDS = 60.0
"""A benchmark request that takes longer is an error."""


class LocalStages:
    """Performs stages in a home. `workload` gives a workload by its name."""

    def __init__(self, home: Home, workload: Callable[[str], WorkloadProfile]) -> None:
        self._home = home
        self._workload = workload
        self.by_name: Mapping[Stage, Callable[[StageRequest, ServingKind], dict[str, Any]]] = MappingProxyType(
            {
                Stage.GENERATE: self._generate,
                Stage.VALIDATE: self._validate,
                Stage.BUILD: self._build,
                Stage.PUSH: self._push,
                Stage.DEPLOY: self._deploy,
                Stage.TEST: self._test,
                Stage.BENCHMARK: self._benchmark,
                Stage.REGISTER: self._register,
            }
        )

    def _generate(self, request: StageRequest, kind: ServingKind) -> dict[str, Any]:
        refusal = kind.refusal(request.configuration)
        if refusal is not None:
            raise StageFailed(refusal, category="model_incompatibility")
        problems = problems_of(kind, request.configuration)
        if problems:
            raise StageFailed(f"{'; '.join(problems)}; correct the configuration", category="service_limitation")
        folder = _project(request)
        shutil.rmtree(folder, ignore_errors=True)
        files = projects.write_project(folder, kind, request.configuration)
        request.say(f"generated {len(files)} files: {', '.join(files)}")
        return {
            "project": str(folder),
            "project_name": projects.project_name(request.configuration),
            "template_digest": projects.template_digest(kind),
        }

    def _validate(self, request: StageRequest, kind: ServingKind) -> dict[str, Any]:
        problems = projects.project_problems(_project(request), kind, request.configuration)
        for problem in problems:
            request.say(problem)
        if problems:
            raise StageFailed(f"the project has {len(problems)} mistake(s), the first: {problems[0]}")
        request.say("the project is complete")
        return {}

    def _build(self, request: StageRequest, kind: ServingKind) -> dict[str, Any]:
        return building.build_image(request, kind, _project(request), self._home.root / "cache")

    def _push(self, request: StageRequest, kind: ServingKind) -> dict[str, Any]:
        digest = request.outputs.get("image_digest")
        if digest is None:
            raise StageFailed("there is no image to push; run the stage build before")
        registry = open_registry(self._home.settings.registry or LOCAL, store=self._home.registry)
        repository = f"mlcc/{projects.project_name(request.configuration)}"
        entry = request.ledger.intend(
            run_id=request.run_id,
            kind="image",
            ref=f"{registry.name} {repository}@{digest}",
            deadline_seconds=request.remaining() + DEFAULT_LIMIT_SECONDS[Stage.CLEAN],
        )
        reference = registry.push(
            Path(request.outputs["image_layout"]),
            Descriptor(MANIFEST_TYPE, digest, int(request.outputs["manifest_size"])),
            repository,
            owner=request.run_id,
            remaining=request.remaining,
        )
        request.ledger.confirm(entry, {"reference": reference})
        request.say(f"published {reference} ({digest})")
        return {"registry": registry.name, "repository": repository, "image_reference": reference}

    def _deploy(self, request: StageRequest, kind: ServingKind) -> dict[str, Any]:
        return deployment.deploy(request, kind, self._home.registry)

    def _test(self, request: StageRequest, kind: ServingKind) -> dict[str, Any]:
        endpoint = _endpoint(request)
        try:
            # one request may take what is left of the stage; nothing waits longer
            with httpx.Client(base_url=endpoint, timeout=request.remaining(), trust_env=False) as client:
                pinged = client.get("/ping")
                if pinged.status_code != 200:
                    raise StageFailed(f"/ping answered {pinged.status_code} instead of 200")
                seen = kind.try_out(client, model=Path(request.outputs["model_folder"]), say=request.say)
        except httpx.HTTPError as error:
            request.remaining()
            ended = deployment.tell_if_ended(request)
            raise StageFailed(
                ended or f"the server did not answer on {endpoint} ({type(error).__name__}: {error})"
            ) from error
        return dict(seen)

    def _benchmark(self, request: StageRequest, kind: ServingKind) -> dict[str, Any]:
        endpoint, plan = _endpoint(request), request.benchmark
        workload = self._workload(plan.workload)
        exchange = kind.exchange(model=Path(request.outputs["model_folder"]), workload=workload)
        if workload.input_tokens_mean is not None:
            request.say(
                f"workload {workload.name}: {workload.input_tokens_mean} tokens in, {workload.output_tokens_mean} out, "
                f"{workload.requests} requests per level"
            )
        raw: dict[str, str] = {}
        levels: list[dict[str, Any]] = []
        for level in plan.concurrency_levels:
            path = request.raw / f"{workload.name}-c{level}" / "profile_export.jsonl"
            summary = load_client.measure_level(
                endpoint,
                exchange,
                concurrency=level,
                requests=workload.requests,
                path=path,
                request_seconds=REQUEST_SECONDS,
                remaining=request.remaining,
            )
            request.say(
                f"concurrency {level}: {summary.requests} requests, {summary.errors} errors, {summary.seconds:.2f} s, "
                f"{summary.warmups} warm-up requests before; connections kept open"
            )
            if summary.errors == summary.requests:
                ended = deployment.tell_if_ended(request)
                raise StageFailed(
                    f"no request succeeded at concurrency {level} (first error: {summary.first_error})"
                    + (f": {ended}" if ended else "")
                )
            raw[str(level)] = str(path.relative_to(self._home.root))
            levels.append(
                {"concurrency": level, "requests": summary.requests, "errors": summary.errors}
                | {"warmups": summary.warmups, "seconds": round(summary.seconds, 3)}
            )
        return {"raw": raw, "levels": levels, "client": f"httpx {httpx.__version__}", "keep_alive": True}

    def _register(self, request: StageRequest, kind: ServingKind) -> dict[str, Any]:
        outputs = request.outputs
        if outputs.get("image_reference") is None:
            raise StageFailed("there is no published image to register; run the stages build and push before")
        document = {
            "project_name": projects.project_name(request.configuration),
            "image": outputs["image_reference"],
            "digest": outputs["image_digest"],
            "model_digest": outputs["model_digest"],
            "base_image": outputs["base_image"],
            "engine": kind.engine(),
            "execution": EXECUTION,
            "python": outputs["python"],
            "run_id": request.run_id,
        }
        request.say(f"registered {document['image']} of {document['project_name']}")
        return {"registration": document}


def _project(request: StageRequest) -> Path:
    return request.workspace / "project"


def _endpoint(request: StageRequest) -> str:
    endpoint = request.outputs.get("endpoint")
    if endpoint is None:
        raise StageFailed(f"there is no deployment for stage {request.stage}; run the stage deploy before")
    return str(endpoint)
