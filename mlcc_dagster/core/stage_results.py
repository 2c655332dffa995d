"""Whether the stage results of a record are whole: the ones we write, and those of records that come from elsewhere.

Belongs here: the rules over one `stageResults` document. Not here: running stages, what a stage's failure means
(`failures.py`), spellings of stages (`stages.py`). Source: the stage results of continuous validation; the sentences are those
of existing installations.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mlcc_dagster.core.outcome import StageStatus
from mlcc_dagster.core.stages import SPELLINGS

COMPAT_STAGES: tuple[str, ...] = ("generate", "validate", "build", "deploy_test", "register", "teardown", "update")
"""The stages that a record of existing installations always has, each once."""

KNOWN_STAGES: frozenset[str] = frozenset((*SPELLINGS, *COMPAT_STAGES))

ERROR_CHARACTERS = 500
"""The most that a stage's error summary holds."""


def stage_results_problems(document: Mapping[str, Any], *, required: Sequence[str] | None = None) -> list[str]:
    """Return one sentence per mistake of a record's stage results, none where they are sound.

    With `required` the document must have exactly these stages, as records of existing installations do (`COMPAT_STAGES`);
    without, any stages in any known spelling, since a run has the stages that it was asked for. A stage that is not expected
    is named and not looked into.
    """
    expected = frozenset(KNOWN_STAGES if required is None else required)
    problems = []
    if required is not None:
        if len(document) != len(required):
            problems.append(f"Expected {len(required)} stage entries, found {len(document)}")
        problems += [f"Missing required stage: {name}" for name in required if name not in document]
    for name, result in document.items():
        if name in expected:
            problems += _of_stage(name, result)
    return problems + [f"Unexpected stage: {name}" for name in document if name not in expected]


def _of_stage(name: str, result: Any) -> Iterator[str]:
    if not isinstance(result, Mapping):
        yield f"Stage '{name}' is no object: {result!r}"
        return
    status, seconds, error = result.get("status"), result.get("durationSeconds"), result.get("errorSummary")
    if status not in list(StageStatus):
        yield f"Stage '{name}' has invalid status: {_shown(status)}"
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not math.isfinite(seconds) or seconds < 0:
        yield f"Stage '{name}' has invalid durationSeconds: {_shown(seconds)}"
    if isinstance(error, str) and len(error) > ERROR_CHARACTERS:
        yield f"Stage '{name}' errorSummary exceeds {ERROR_CHARACTERS} characters ({len(error)})"


def _shown(value: Any) -> str:
    return f"'{value}'" if isinstance(value, str) else "none" if value is None else str(value)
