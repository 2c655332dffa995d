"""Triage matrices as an asset, one partition per run, and the job that runs one from the UI.

Belongs here: the partitions, the asset, the job, what is shown of a matrix. Not here: running (`resources.triage.runner`), what its
numbers mean (`core.triage`), noticing runs of commands (`sensors.triage_runs`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from assets.lifecycle import OWNER
from resources.dagster_resources import PlatformResource
from resources.home import Home
from resources.triage.kept_runs import FOLDER, KeptRun, read_run, run_named

TRIAGE_RUNS = dg.DynamicPartitionsDefinition(name="triage_run")
"""One key per run: `<ticket>~<workload>~<UTC second>`, as its folders are called."""

_NUMBERS = {"trials": "int", "failed": "int", "mean step ms": "float", "failure rate": "float"}


def cells_table(document: Mapping[str, Any]) -> dg.MetadataValue:
    """Return the cells of a `matrix.json` as a Dagster table."""
    names = ("cell", "mitigations", "environment", "failed", "trials", "failure rate", "mean step ms", "confound")
    records = [
        dg.TableRecord(
            {
                "cell": cell["name"],
                "mitigations": ", ".join(cell["mitigations"]),
                "environment": cell["environment"]["name"],
                "failed": cell["statistics"]["failed"],
                "trials": cell["statistics"]["trials"],
                "failure rate": cell["statistics"]["failure_rate"],
                "mean step ms": cell["statistics"]["mean_step_time_ms"],
                "confound": cell["confound"]["text"],
            }
        )
        for cell in document["cells"]
    ]
    return dg.MetadataValue.table(
        records, dg.TableSchema([dg.TableColumn(name, _NUMBERS.get(name, "string")) for name in names])
    )


def matrix_metadata(run: KeptRun) -> dict[str, dg.MetadataValue]:
    """Return what is shown of a run: its cells, the text of its `matrix.md`, the plot where there is something to draw."""
    document = run.document
    tags = [cell["confound"]["tag"] for cell in document["cells"]]
    markdown = run.path / "matrix.md"
    metadata: dict[str, dg.MetadataValue] = {
        "workload": dg.MetadataValue.text(document["workload"]),
        "ticket": dg.MetadataValue.text(document["ticket"] or "none"),
        "finished": dg.MetadataValue.bool(run.finished),
        "credited": dg.MetadataValue.int(tags.count("credited")),
        "confounded": dg.MetadataValue.int(tags.count("confounded") + tags.count("speed")),
        "trials": dg.MetadataValue.int(sum(cell["statistics"]["trials"] for cell in document["cells"])),
        "cells": cells_table(document),
        "folder": dg.MetadataValue.path(str(run.path)),
    }
    if markdown.is_file():
        metadata["matrix"] = dg.MetadataValue.md(markdown.read_text("utf-8"))
    if any(
        cell["statistics"]["mean_step_time_ms"] is not None and cell["statistics"]["failure_rate"] is not None
        for cell in document["cells"]
    ):
        from resources.plots import png_markdown
        from resources.triage.plots import failure_plot

        picture = png_markdown(failure_plot(document), "failure rate against step time")
        metadata["failure rate against step time"] = dg.MetadataValue.md(picture)
    return metadata


@dg.asset(
    partitions_def=TRIAGE_RUNS,
    group_name="triage",
    owners=[OWNER],
    kinds={"python"},
    description=(
        "A triage matrix: which mitigation makes a failure go away, and which only slows everything down. A partition is a run; "
        "new ones come from `mlcc triage run` and from triage_job."
    ),
)
def triage_matrix(context: dg.AssetExecutionContext, platform: PlatformResource) -> dg.MaterializeResult:
    """Show the run of the partition as its folder has it; it runs nothing."""
    run = run_named(platform.open().home, context.partition_key)
    context.log.info(f"{len(run.document['cells'])} cells from {run.path}")
    return dg.MaterializeResult(metadata=matrix_metadata(run))


class TriageConfig(dg.Config):
    """What `triage_job` runs: the same as `mlcc triage run`."""

    recipe: str = Field(description="The recipe: its text (YAML or JSON), or the path of a file.")
    mitigations_files: list[str] = Field(default=[], description="Sidecars with further mitigations and environments.")
    command: list[str] = Field(default=[], description="The words of the command, for the workload command.")
    trial_seconds: float = Field(default=1800.0, gt=0, description="How long a trial may take.")
    delay_control: bool = Field(
        default=False, description="Slow the baseline as much as a slower cell is, and try it too."
    )
    adaptive: bool = Field(default=False, description="Give trials to undecided cells.")
    minimize: bool = Field(
        default=False, description="Try parts of a stack until the smallest that does the same is known."
    )


def run_configured(home: Home, config: TriageConfig) -> KeptRun:
    """Run a configured matrix in the home and return it. Raises as `resources.triage.plans.checked` does."""
    from mlcc_dagster.core.triage.options import RunOptions
    from resources.triage.documents import plain_document
    from resources.triage.plans import checked
    from resources.triage.recipe_files import read_sidecars, recipe_document
    from resources.triage.runner import run

    problems: list[str] = []
    # no path of a file has a line break or a colon followed by a space, and no recipe is without
    is_text = "\n" in config.recipe or ": " in config.recipe
    document = plain_document(config.recipe, problems) if is_text else recipe_document(Path(config.recipe), problems)
    plan = checked(
        document,
        source="the run's configuration" if is_text else config.recipe,
        sidecars=read_sidecars([Path(each) for each in config.mitigations_files]),
        command=config.command or None,
        trial_seconds=config.trial_seconds,
        problems=problems,
        options=RunOptions(delay_control=config.delay_control, adaptive=config.adaptive, minimize=config.minimize),
    )
    return read_run(run(plan, home.root / FOLDER).folder.path)


@dg.op(description="Runs the matrix of a recipe and materializes its partition of triage_matrix.")
def run_triage(context: dg.OpExecutionContext, config: TriageConfig, platform: PlatformResource) -> None:
    """Run a matrix; one that found no cure is a success as any other."""
    run = run_configured(platform.open().home, config)
    context.instance.add_dynamic_partitions("triage_run", [run.key])
    context.log_event(dg.AssetMaterialization(triage_matrix.key, partition=run.key, metadata=matrix_metadata(run)))
    context.log.info(f"matrix: {run.path / 'matrix.md'}")


@dg.job(description="Runs a triage matrix from its recipe, given as configuration.")
def triage_job() -> None:
    """One op: the trials of a matrix are one loop in one process."""
    run_triage()
