"""The stages of a lifecycle: their order, their spellings elsewhere, their time limits.

Belongs here: what is true of a stage by name. Not here: what a stage did (`outcome.py`) or how it is done (executors).
Source of the rules: the canonical order, spelling table and default limits of the lifecycle specification.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from mlcc_dagster.core.exceptions import UsageError


class Stage(StrEnum):
    """One stage, in canonical order. `STAGE` (weights to the store first) is optional and comes before all others."""

    STAGE = "stage"
    GENERATE = "generate"
    VALIDATE = "validate"
    BUILD = "build"
    PUSH = "push"
    DEPLOY = "deploy"
    TEST = "test"
    TUNE = "tune"
    ADAPTER = "adapter"
    TEST_ADAPTER = "test_adapter"
    BENCHMARK = "benchmark"
    REGISTER = "register"
    CLEAN = "clean"


CANONICAL_ORDER: tuple[Stage, ...] = tuple(Stage)

TUNING_STAGES: frozenset[Stage] = frozenset({Stage.TUNE, Stage.ADAPTER, Stage.TEST_ADAPTER})
"""Run only when asked for; a failing tune skips the two others and nothing else."""

GATE_STAGES: frozenset[Stage] = frozenset(CANONICAL_ORDER) - {Stage.BENCHMARK, Stage.REGISTER, Stage.CLEAN}
"""They alone decide `testStatus`."""

DEFAULT_LIMIT_SECONDS: Mapping[Stage, int] = MappingProxyType(
    {
        Stage.STAGE: 1800,
        Stage.GENERATE: 120,
        Stage.VALIDATE: 120,
        Stage.BUILD: 1800,
        Stage.PUSH: 600,
        Stage.DEPLOY: 1800,
        Stage.TEST: 300,
        Stage.TUNE: 7200,
        Stage.ADAPTER: 900,
        Stage.TEST_ADAPTER: 300,
        Stage.BENCHMARK: 3600,
        Stage.REGISTER: 300,
        Stage.CLEAN: 600,
    }
)

TECHNIQUES: tuple[str, ...] = ("sft", "dpo", "rlaif", "rlvr")

SPELLINGS: Mapping[str, tuple[Stage, ...]] = MappingProxyType(
    {stage.value: (stage,) for stage in Stage}
    | {f"tune-{technique}": (Stage.TUNE,) for technique in TECHNIQUES}
    | {
        "adapter-add": (Stage.ADAPTER,),
        "test-adapter": (Stage.TEST_ADAPTER,),
        "adapter_test": (Stage.TEST_ADAPTER,),
        "deploy_test": (Stage.DEPLOY, Stage.TEST),
        "teardown": (Stage.CLEAN,),
        "submit": (Stage.BUILD, Stage.PUSH),
    }
)
"""Every spelling used elsewhere and the stages it stands for."""


def stages_named(spelling: str) -> tuple[Stage, ...]:
    """Return the stages that a spelling stands for.

    Raises `UsageError` naming the known spellings.
    """
    try:
        return SPELLINGS[spelling]
    except KeyError:
        raise UsageError(f"unknown stage '{spelling}'; use one of {', '.join(SPELLINGS)}") from None


def ci_name(stage: Stage, technique: str | None = None) -> str:
    """Return the name a stage has in `fail-<stage>`: `tune-sft`, `adapter-add`, `test-adapter`, else its own."""
    if stage is Stage.TUNE:
        return f"tune-{technique or 'sft'}"
    return {Stage.ADAPTER: "adapter-add", Stage.TEST_ADAPTER: "test-adapter"}.get(stage, stage.value)


def asks_for_tuning(request: Mapping[str, Any] | None) -> bool:
    """Whether a request asks for the tune and adapter stages: `include_tuning` or `enable_lora` is true, or
    `tune_technique` names one (`none` and the empty text name none).

    Only the boolean counts as true, not `"true"` or 1: tuning costs more than everything else of a run together. Source:
    the rules of continuous validation, as existing installations apply them.
    """
    if not request:
        return False
    technique = request.get("tune_technique")
    return (
        request.get("include_tuning") is True
        or request.get("enable_lora") is True
        or (isinstance(technique, str) and technique not in ("", "none"))
    )
