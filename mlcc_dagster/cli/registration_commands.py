"""`mlcc register`, `mlcc ci set` and `mlcc ci import`: what is validated from now on, how, and what is known from before."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlcc_dagster.cli.ci_group import ci_app
from mlcc_dagster.cli.help_pages import examples

if TYPE_CHECKING:
    from catalog.model import Catalog, Entry
    from mlcc_dagster.core.configuration import Configuration
    from mlcc_dagster.core.outcome import BenchmarkPlan
    from resources.ci_table import CiRecord
    from resources.home import Home

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def add_to(app: typer.Typer) -> None:
    """Add `register` to the command line, and `set` and `import` to the group `ci`."""
    app.command(
        epilog=examples(
            "mlcc register rt-qwen3-4b --benchmark-enabled",
            "mlcc register ./my-project --workload multi_turn_chat",
            "mlcc register --all",
        )
    )(register)
    ci_app.command(
        "set",
        epilog=examples(
            "mlcc ci set rt-qwen3-4b benchmarkEnabled=true",
            "mlcc ci set 9586bf351b64c95f benchmarkConcurrencyLevels=1,4 tier=weekly",
        ),
    )(set_values)
    ci_app.command(
        "import", epilog=examples("mlcc ci import scan.json", "mlcc ci import 01701234567890-abcdef.json.gz --json")
    )(import_records)


def register(
    subject: Annotated[
        str | None,
        typer.Argument(
            metavar="PATH|ID",
            help="Folder of a generated project, a catalog id, or a config_id (default: the current folder).",
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Register every entry of the catalog.")] = False,
    benchmark_enabled: Annotated[
        bool | None,
        typer.Option("--benchmark-enabled/--no-benchmark-enabled", help="Whether it is measured after its gate."),
    ] = None,
    workload: Annotated[str | None, typer.Option(metavar="NAME", help="What it is measured with.")] = None,
    ci_table: Annotated[
        str | None, typer.Option(metavar="NAME", help="The CI table; a home has one, mlcc-ci-table.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Register configurations for continuous validation.

    The test status becomes untested, so that it is tested next; history and what was set before stay. To register again is
    safe.

    Exit 0 when all are registered, 1 when one was refused because it runs now, 2 when the request is unusable.
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.opening import home_of
    from mlcc_dagster.core.exceptions import InvalidInput, UsageError
    from resources.ci_table import TABLE_NAME
    from resources.home import Home
    from resources.home_catalog import catalog_of
    from resources.sqlite_ci_table import SqliteCiTable

    if ci_table not in (None, TABLE_NAME):
        raise UsageError(
            f"no CI table '{ci_table}' here: a home has one, {TABLE_NAME}; leave --ci-table out, or name another home with "
            "MLCC_HOME"
        )
    catalog, home = catalog_of(Home.current()), home_of(None)
    known = _records(home)
    subjects = _subjects(subject, everything, catalog, known)
    plans, problems = {}, []
    for each in subjects:
        plan, problem = _plan(each, known.get(each.config_id), benchmark_enabled, workload, catalog)
        plans[each.config_id] = plan
        problems += [f"{each.name}: {problem}"] if problem else []
    if problems:
        raise InvalidInput("the request", problems)
    table = SqliteCiTable(home.ensure().database)
    rows = []
    for each in subjects:
        before, reason = known.get(each.config_id), None
        try:
            table.register(
                each.configuration,
                benchmark=plans[each.config_id],
                tier=each.entry.tier if each.entry else None,
                catalog_id=each.entry.id if each.entry else None,
                project_name=each.project_name,
                reset=True,
            )
        except UsageError as error:
            reason = str(error)
        rows.append(
            {
                "config_id": each.config_id,
                "name": each.name,
                "configuration": str(each.configuration),
                "registered": reason is None,
                "reason": reason,
                "previous_status": None if before is None else before.test_status,
                "benchmark_enabled": plans[each.config_id].enabled,
                "workload": plans[each.config_id].workload,
            }
        )
    refused = sum(not row["registered"] for row in rows)
    if json:
        console.print_json({"ci_table": TABLE_NAME, "configurations": rows, "refused": refused})
    else:
        console.print_table(
            f"{console.counted(len(rows) - refused, 'configuration')} registered, {refused or 'none'} refused",
            ["config_id", "name", "status before", "measured with", "registered"],
            (
                [
                    row["config_id"],
                    row["name"],
                    row["previous_status"],
                    row["workload"] if row["benchmark_enabled"] else None,
                    row["reason"] or "yes",
                ]
                for row in rows
            ),
        )
    raise typer.Exit(1 if refused else 0)


def set_values(
    config: Annotated[str, typer.Argument(metavar="ID", help="A catalog id, a config_id, or a unique beginning.")],
    words: Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", help="What to change.")],
    json: AsJson = False,
) -> None:
    """Change how a registered configuration is validated.

    Keys: benchmarkEnabled, benchmarkWorkload, benchmarkConcurrencyLevels (1,4,8), buildStrategy, tier. What was tested stays as
    it is. All mistakes are reported at once.

    Exit 1 when it was refused because the configuration runs now, 2 when the request is unusable.
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.opening import home_of
    from mlcc_dagster.core.exceptions import MlccError, UsageError
    from mlcc_dagster.core.record_settings import changed_settings
    from resources.home import Home
    from resources.home_catalog import catalog_of
    from resources.sqlite_ci_table import SqliteCiTable

    catalog, home = catalog_of(Home.current()), home_of(None)
    known = _records(home)
    named = _named(config, catalog, known)
    record = known.get(named.config_id)
    if record is None:
        raise UsageError(f"{named.name} is not registered; `mlcc register {named.name}` does that")
    wanted = changed_settings(words, record.settings, record.configuration, catalog)
    try:
        changed = SqliteCiTable(home.database).change(record.config_id, wanted)
    except UsageError as error:
        # The request was sound: another moment would have allowed it.
        raise MlccError(str(error)) from error
    before, after = record.settings.to_json(), changed.settings.to_json()
    values = {name: {"before": before[name], "after": after[name]} for name in after if before[name] != after[name]}
    if json:
        console.print_json({"config_id": record.config_id, "name": named.name, "changed": values, "settings": after})
        return
    for name, value in values.items():
        console.say(f"{named.name}: {name} {_shown(value['before'])} before, {_shown(value['after'])} now")
    if not values:
        console.say(f"{named.name}: nothing changed")


def import_records(
    file: Annotated[
        Path, typer.Argument(help="A DynamoDB export: of `aws dynamodb scan`, or the lines of one to S3 (also .gz).")
    ],
    json: AsJson = False,
) -> None:
    """Take in the CI records of another table.

    Records of version 1 or 2, older statuses and missing attributes are read with defaults; one that was stored under an older id
    gets that of today. All are taken in or none; a record here that is newer stays, and the same file again changes nothing.
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.input_files import text_of
    from mlcc_dagster.cli.opening import home_of
    from mlcc_dagster.core.ci_records import read_old_records
    from resources.home import Home
    from resources.home_catalog import catalog_of
    from resources.sqlite_ci_table import SqliteCiTable

    catalog, home = catalog_of(Home.current()), home_of(None)
    text = text_of(file, "an export of the CI table")
    records = read_old_records(text, catalog, source=str(file))
    taken = SqliteCiTable(home.ensure().database).take_in(records)
    rows = [
        {
            "config_id": each.record.config_id,
            "stored_id": each.record.stored_id,
            "configuration": str(each.record.configuration),
            "test_status": each.record.test_status,
            "last_test_timestamp": each.record.last_test_timestamp,
            "action": each.action,
            "reason": each.reason,
            "remarks": list(each.record.remarks),
        }
        for each in taken
    ]
    counts = {
        action: sum(row["action"] == action for row in rows) for action in ("imported", "updated", "unchanged", "kept")
    }
    if json:
        console.print_json({"file": str(file), **counts, "records": rows})
        return
    console.print_table(
        f"{console.counted(len(rows), 'record')}: {', '.join(f'{n} {action}' for action, n in counts.items())}",
        ["config_id", "configuration", "status", "action", "remarks"],
        (
            [
                row["config_id"],
                row["configuration"],
                row["test_status"],
                row["action"],
                "; ".join(filter(None, [row["reason"], *row["remarks"]])) or None,
            ]
            for row in rows
        ),
    )


# ---- what was named


class _Subject:
    """A configuration to register: with its entry where the catalog has one, and its project where a folder was named."""

    def __init__(
        self, configuration: "Configuration", *, entry: "Entry | None" = None, project_name: str | None = None
    ) -> None:
        from mlcc_dagster.core.identity import config_id

        self.configuration = configuration
        self.config_id = config_id(configuration)
        self.entry = entry
        self.project_name = project_name
        self.name = entry.id if entry else project_name or self.config_id


def _records(home: "Home") -> "dict[str, CiRecord]":
    """Return what is registered in a home, by config id; a home that is not there has nothing and is not made."""
    from resources.sqlite_ci_table import SqliteCiTable

    return {r.config_id: r for r in SqliteCiTable(home.database).records()} if home.exists() else {}


def _subjects(
    subject: str | None, everything: bool, catalog: "Catalog", known: "Mapping[str, CiRecord]"
) -> list[_Subject]:
    from mlcc_dagster.core.exceptions import UsageError
    from mlcc_dagster.core.resolution import configuration_of
    from resources.project_folders import is_project, read_project

    if everything and subject is not None:
        raise UsageError(f"--all and {subject} were both given; use one of them")
    if everything:
        found = [_Subject(configuration_of(entry, catalog), entry=entry) for entry in catalog.entries]
        return list({each.config_id: each for each in reversed(found)}.values())[::-1]
    if subject is None and not is_project(Path()):
        raise UsageError("nothing was named to register; name a project's folder or a catalog id, or use --all")
    folder = Path(subject or ".")
    by_path = subject is None or folder.is_absolute() or subject.startswith(".") or "/" in subject
    if not by_path and folder.is_dir() and is_project(folder):
        if any(entry.id == subject for entry in catalog.all_entries):
            raise UsageError(
                f"{subject} is a catalog id and a project's folder here; write ./{subject} for the folder, or go elsewhere for "
                "the entry"
            )
        by_path = True
    if not by_path:
        return [_named(subject or "", catalog, known)]
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}; name the folder of a generated project, or a catalog id")
    project = read_project(folder, catalog)
    made = _Subject(project.configuration, project_name=project.name or folder.resolve().name)
    entry = _entry_of(made.config_id, catalog)
    return [_Subject(project.configuration, entry=entry, project_name=made.project_name) if entry else made]


def _named(text: str, catalog: "Catalog", known: "Mapping[str, CiRecord]") -> _Subject:
    """Return the configuration that a text names: a catalog id (of an extension, too), an id of today or an older one, or a
    unique beginning. Raises `UsageError` with what is near."""
    from mlcc_dagster.cli.targets import one_configuration
    from mlcc_dagster.core.exceptions import UsageError
    from mlcc_dagster.core.old_configurations import former_ids
    from mlcc_dagster.core.resolution import configuration_of

    if not text:
        raise UsageError("the id is empty; name a catalog id or a config_id, `mlcc catalog list` shows both")
    entry = next((entry for entry in catalog.all_entries if entry.id == text), None)
    if entry is not None:
        return _Subject(configuration_of(entry, catalog), entry=entry)
    registered = {key: record.configuration for key, record in known.items()}
    declared = [configuration_of(entry, catalog) for entry in catalog.all_entries]
    if text not in registered:
        for configuration in (*registered.values(), *declared):
            if text.lower() in former_ids(configuration, catalog):
                found = _Subject(configuration)
                return _Subject(configuration, entry=_entry_of(found.config_id, catalog))
    key, configuration = one_configuration(catalog, registered, text)
    return _Subject(configuration, entry=_entry_of(key, catalog))


def _entry_of(key: str, catalog: "Catalog") -> "Entry | None":
    from mlcc_dagster.core.identity import config_id
    from mlcc_dagster.core.resolution import configuration_of

    return next((e for e in catalog.all_entries if config_id(configuration_of(e, catalog)) == key), None)


def _plan(
    subject: _Subject, record: "CiRecord | None", enabled: bool | None, workload: str | None, catalog: "Catalog"
) -> "tuple[BenchmarkPlan, str | None]":
    """Return what is measured (what is recorded, else declared, else the default, with what was asked for on top), and what
    is wrong with it."""
    from dataclasses import replace

    from catalog.model import DEFAULT_CONCURRENCY_LEVELS
    from mlcc_dagster.core.outcome import BenchmarkPlan
    from mlcc_dagster.core.record_settings import default_workload, workload_problem
    from resources.lifecycle import benchmark_plan

    if record is not None:
        plan = record.benchmark
    elif subject.entry is not None:
        plan = benchmark_plan(subject.entry)
    else:
        named = default_workload(subject.configuration, catalog)
        plan = BenchmarkPlan(enabled=False, workload=named, concurrency_levels=DEFAULT_CONCURRENCY_LEVELS)
    plan = replace(
        plan,
        enabled=plan.enabled if enabled is None else enabled,
        workload=plan.workload if workload is None else workload,
        concurrency_levels=plan.concurrency_levels or DEFAULT_CONCURRENCY_LEVELS,
    )
    asked = workload is not None or enabled is True
    problem = workload_problem(subject.configuration, plan.workload, catalog) if asked else None
    return plan, f"--workload {problem}" if problem else None


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ",".join(str(each) for each in value)
    return str(value).lower() if isinstance(value, bool) else str(value or "-")
