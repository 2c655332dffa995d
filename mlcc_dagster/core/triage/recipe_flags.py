"""A matrix that is given by options instead of a file.

Belongs here: the product of two axes as a recipe document. Not here: checking it (`recipe_reading.py` does, exactly as it
checks a file), the options of the command. Source of the cells' names: triage, `<mitigation>-<environment>`.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlcc_dagster.core.triage.recipe import DEFAULT_THRESHOLD, SCHEMA_VERSION, EnvironmentChoice

IMAGE = "image:"
"""What stands before an image reference on the environment axis."""


@dataclass(frozen=True)
class Flags:
    """What a matrix is when it is given by options instead of a file: the product of two axes. `image:REF` on the
    environment axis is an image of its own."""

    workload: str
    mitigation_axis: Sequence[str]
    environment_axis: Sequence[str]
    trials: int
    steps: int = 1
    ticket: str | None = None
    baseline_cell: str | None = None
    confound_threshold: float = DEFAULT_THRESHOLD


def document_of(flags: Flags) -> dict[str, Any]:
    """Return the recipe document of a matrix given by options: cells `<mitigation>-<environment>`, environments fastest."""
    confound: dict[str, Any] = {"threshold": flags.confound_threshold}
    if flags.baseline_cell is not None:
        confound["baseline_cell"] = flags.baseline_cell
    document: dict[str, Any] = {"schema_version": SCHEMA_VERSION}
    if flags.ticket is not None:
        document["ticket"] = flags.ticket
    cells = []
    for mitigation, name in itertools.product(flags.mitigation_axis, flags.environment_axis):
        inline, reference = name.startswith(IMAGE), name.removeprefix(IMAGE)
        shown = EnvironmentChoice.inline(reference).name if inline else name
        environment: Any = {"docker": reference} if inline else name
        cells.append({"name": f"{mitigation}-{shown}", "mitigations": [mitigation], "environment": environment})
    return document | {
        "workload": flags.workload,
        "trials": flags.trials,
        "steps": flags.steps,
        "confound": confound,
        "cells": cells,
    }
