"""The names of workloads, and what they stand for.

Belongs here: which names there are and making the workload of one. Not here: the workloads themselves. Four forms beside what
is built in and what entry points of other distributions register: `stage:STAGE:ENTRY`, `benchmark:ENTRY`,
`python:MODULE:FUNCTION`, and `command`, which stands behind `--`.
"""

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from catalog.model import nearest
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.triage.recipe import COMMAND
from mlcc_dagster.core.triage.registries import BUILT_IN, WorkloadEntry, joined, refuse
from mlcc_dagster.core.triage.resolution import unknown_hint
from resources.triage.commands import CommandWorkload
from resources.triage.registries import WORKLOAD_GROUP, loaded, points, source_of
from resources.triage.workloads import CallableWorkload, Workload

LOST_UPDATE = "lost-update"
ANSWERS = "llamacpp-answers"
ANSWERS_ENTRY = "local-llamacpp-smollm2-q4-1-2cpu"

FORMS: tuple[WorkloadEntry, ...] = (
    WorkloadEntry(
        "stage:STAGE:ENTRY",
        "stage",
        BUILT_IN,
        "a stage of a catalog entry's lifecycle on this machine, such as stage:test:local-fastapi-logistic-1cpu",
    ),
    WorkloadEntry(
        "benchmark:ENTRY",
        "benchmark",
        BUILT_IN,
        "the benchmark of a catalog entry on this machine; every step is a request",
    ),
    WorkloadEntry("python:MODULE:FUNCTION", "callable", BUILT_IN, "a Python function that takes a trial"),
    WorkloadEntry(COMMAND, "command", BUILT_IN, "the command behind --; it passes with exit code 0"),
)
"""Names with something to fill in, and the one that needs a command."""

NAMED: tuple[WorkloadEntry, ...] = (
    WorkloadEntry(LOST_UPDATE, "callable", BUILT_IN, "an example: two threads race and sometimes lose an addition"),
    WorkloadEntry(
        ANSWERS, "benchmark", BUILT_IN, "llama.cpp must answer the same among other requests as it does alone"
    ),
)


def all_workloads() -> list[WorkloadEntry]:
    """Return every workload that can be named, those with something to fill in last. Raises `UsageError` naming both sources
    of every collision."""
    problems: list[str] = []
    others = [WorkloadEntry(point.name, "callable", source_of(point)) for point in points(WORKLOAD_GROUP)]
    found = joined("workload", [NAMED, others, FORMS], problems)
    refuse(problems)
    return [*(each for each in found.values() if each not in FORMS), *FORMS]


def workload_named(
    name: str, command: Sequence[str] | None, problems: list[str], *, write: bool = True
) -> Workload | None:
    """Return the workload of a name, none with the reason in `problems` where there is none. `command` are the words behind
    `--`; without `write` importing a module leaves no compiled file behind."""
    if command is not None and name != COMMAND:
        problems.append(f"workload: '{name}' takes no command; write command, or drop the words behind --")
        return None
    form, _, rest = name.partition(":")
    builders: Mapping[str, Callable[[str, list[str]], Workload | None]] = MappingProxyType(
        {"stage": _stage, "benchmark": _benchmark, "python": _python}
    )
    with _compiled_files(write):
        try:
            if name == COMMAND:
                return _command(command, problems)
            if name == LOST_UPDATE:
                from resources.triage.examples import lost_update

                return CallableWorkload(lost_update.run)
            if name == ANSWERS:
                return _answers()
            if rest and form in builders:
                return builders[form](rest, problems)
            return _registered(name, problems)
        except UsageError as error:
            problems.append(f"workload: {error}")
            return None


def _command(command: Sequence[str] | None, problems: list[str]) -> Workload | None:
    if not command or not command[0]:
        problems.append("workload: command needs the command itself; write it behind --, as in -- python check.py")
        return None
    return CommandWorkload(tuple(command))


def _registered(name: str, problems: list[str]) -> Workload | None:
    point = next((point for point in points(WORKLOAD_GROUP) if point.name == name), None)
    if point is None:
        known = [entry.name for entry in all_workloads()]
        problems.append(f"workload: no workload '{name}' is registered; {unknown_hint(name, known)}")
        return None
    value, broken = loaded(point)
    if broken is None and not callable(value):
        broken = f"{point.value} cannot be called"
    if broken is not None:
        problems.append(f"workload: '{name}' of {source_of(point)} cannot be used ({broken}); mend it there")
        return None
    return CallableWorkload(value)


def _python(rest: str, problems: list[str]) -> Workload | None:
    module_name, _, attribute = rest.partition(":")
    if not attribute:
        problems.append("workload: a Python function is named python:MODULE:FUNCTION; give both")
        return None
    # where a person keeps the function that reproduces a failure
    if "" not in sys.path:
        sys.path.append("")
    try:
        value: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            value = getattr(value, part)
    except AttributeError:
        problems.append(f"workload: module {module_name} has no {attribute}; correct the name")
        return None
    except Exception as error:
        problems.append(f"workload: {module_name} cannot be imported ({type(error).__name__}: {error}); correct it")
        return None
    if not callable(value):
        problems.append(f"workload: {attribute} of {module_name} cannot be called; name a function that takes a trial")
        return None
    return CallableWorkload(value)


def _stage(rest: str, problems: list[str]) -> Workload | None:
    from resources.triage.serving import STAGES, StageWorkload

    stage_name, _, entry = rest.partition(":")
    stages = {stage.value: stage for stage in STAGES}
    if stage_name not in stages or not entry:
        problems.append(
            f"workload: a stage is named stage:STAGE:ENTRY with one of {', '.join(stages)}, not '{stage_name}'"
            if stage_name not in stages
            else "workload: a stage is named stage:STAGE:ENTRY; give the catalog entry"
        )
        return None
    configuration, _ = _entry(entry)
    return StageWorkload(configuration, stages[stage_name])


def _benchmark(rest: str, problems: list[str]) -> Workload | None:
    from resources.triage.serving import BenchmarkWorkload

    configuration, plan = _entry(rest)
    return BenchmarkWorkload(configuration, plan.workload, max(plan.concurrency_levels))


def _answers() -> Workload:
    from resources.triage.served_answers import AnswersWorkload

    return AnswersWorkload(_entry(ANSWERS_ENTRY)[0])


def _entry(name: str) -> tuple[Any, Any]:
    """Return the configuration of a catalog entry and what is measured of it. Raises `UsageError` where there is none."""
    from mlcc_dagster.core.resolution import configuration_of
    from resources.home import Home
    from resources.home_catalog import catalog_of
    from resources.lifecycle import benchmark_plan

    catalog = catalog_of(Home.current())
    entry = next((each for each in catalog.entries if each.id == name), None)
    if entry is None:
        local = [each.id for each in catalog.entries if each.instance_type.startswith("local.")]
        raise UsageError(f"the catalog has no entry '{name}'; {nearest(name, local)}")
    return configuration_of(entry, catalog), benchmark_plan(entry)


@contextmanager
def _compiled_files(write: bool) -> Iterator[None]:
    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = before or not write
    try:
        yield
    finally:
        sys.dont_write_bytecode = before
