"""What the tests of running matrices share: recipes, plans, and workloads of a module of their own."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mlcc_dagster.core.triage.options import NO_OPTIONS, RunOptions
from resources.triage.plans import Plan, checked
from resources.triage.recipe_files import read_sidecars


def recipe(*cells: dict[str, Any], workload: str = "lost-update", **values: Any) -> dict[str, Any]:
    """A recipe document; cells are called c0, c1, … and have no mitigation unless they say so."""
    made = [{"name": f"c{n}", "mitigations": ["none"], "environment": "local"} | cell for n, cell in enumerate(cells)]
    return {"schema_version": 1, "workload": workload, "trials": 2, "steps": 1, "cells": made} | values


def plan(
    document: dict[str, Any],
    *sidecars: Path,
    command: Sequence[str] | None = None,
    seconds: float = 60.0,
    options: RunOptions = NO_OPTIONS,
) -> Plan:
    """Check a recipe document as the command line does."""
    return checked(
        document,
        source="recipe.yaml",
        sidecars=read_sidecars(sidecars),
        command=command,
        trial_seconds=seconds,
        options=options,
    )


Module = Callable[[str, str], None]
"""Writes a module of the given name that `python:NAME:FUNCTION` finds."""


def everything_below(folder: Path) -> str:
    """Return the text of all files below a folder with their names, to look for what must not be there."""
    return "\n".join(
        f"{path}\n{path.read_bytes().decode('utf-8', 'replace')}"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    )
