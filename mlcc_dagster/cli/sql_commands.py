"""`mlcc sql`: any question in SQL over results and models, the named ones, and the models as a dbt project.

Belongs here: reading the request, showing rows. Not here: answering (`resources.sql_engine`), models (`resources.sql_models`). None
of them imports Dagster, and a question about the results alone does not read the models.
"""

import sys
from collections.abc import Sequence
from json import dumps as json_text
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from mlcc_dagster.cli.help_pages import examples

if TYPE_CHECKING:
    import pyarrow as pa

    from resources.platform import Platform
    from resources.sql_engine import SqlEngine

FORMATS = ("table", "csv", "json", "parquet")
DUCKDB, ATHENA = "duckdb", "athena"
ASK = "ask"


class AskingGroup(TyperGroup):
    """A group whose first word may be a statement: whatever is no command of it is put to `ask`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words behind `mlcc sql`, with `ask` before them unless they name a command or ask for help."""
        if not args or args[0] not in {*self.commands, *ctx.help_option_names}:
            args = [ASK, *args]
        return super().parse_args(ctx, args)


sql_app = typer.Typer(
    cls=AskingGroup,
    rich_markup_mode=None,
    epilog=examples(
        'mlcc sql "SELECT status, count(*) AS n FROM mlcc_ci.benchmark_results GROUP BY status"',
        "mlcc sql --list",
        "mlcc sql --named best_gaps",
        "mlcc sql compile --target target",
    ),
)


def add_to(app: typer.Typer) -> None:
    """Add the commands on SQL to the command line."""
    app.add_typer(sql_app, name="sql")


@sql_app.callback()
def sql() -> None:
    """Ask the results in SQL.

    Athena's dialect; one SELECT over mlcc_ci.benchmark_results and the models, which can reach no other table, no file and no
    network. What is no command below is a question for `ask`, so that word may be left out.
    """


@sql_app.command(
    name=ASK,
    epilog=examples(
        'mlcc sql ask "SELECT status, count(*) AS n FROM mlcc_ci.benchmark_results GROUP BY status"',
        'mlcc sql ask --format csv "SELECT * FROM mlcc_ci.latest_result"',
        "mlcc sql ask --named best_gaps --json",
        'mlcc sql ask --format parquet --output results.parquet "SELECT * FROM mlcc_ci.benchmark_results"',
    ),
)
def ask(
    query: Annotated[str | None, typer.Argument(help="One SELECT over the tables of mlcc_ci.")] = None,
    named: Annotated[str | None, typer.Option(metavar="NAME", help="Ask this named query instead.")] = None,
    list_all: Annotated[
        bool, typer.Option("--list", help="List the named queries and the tables; ask nothing.")
    ] = False,
    format: Annotated[str, typer.Option(help="table, csv, json or parquet.")] = "table",
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="The file that parquet is written to.")] = None,
    limit: Annotated[int, typer.Option(help="How many rows at most; 0 means all.")] = 0,
    seconds: Annotated[
        float | None, typer.Option(help="How long the query may take (default: sql_seconds of the settings).")
    ] = None,
    memory: Annotated[
        int | None,
        typer.Option(metavar="MB", help="How much memory it may take (default: sql_memory_mb of the settings)."),
    ] = None,
    engine: Annotated[
        str, typer.Option(help="Who answers: duckdb, here over this home, or athena, over the account's mlcc_ci.")
    ] = DUCKDB,
    json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Answer one SELECT, written out or named.

    The tables are mlcc_ci.benchmark_results and the models, which are computed from the same results at this moment. With
    --engine athena the same text goes to Athena unchanged.
    """
    from mlcc_dagster.cli.opening import open_platform, warn_of_skipped
    from resources.sql_engine import SqlError
    from resources.sql_limits import last_limits
    from resources.sql_models import shipped_query

    form = "json" if json else format
    _check_request(query, named, list_all, form, output, limit, seconds, memory, engine)
    if list_all:
        show_list(form)
        return
    statement = query if query is not None else shipped_query(named or "").sql
    if engine == ATHENA:
        from resources.athena_engine import AthenaEngine
        from resources.home import Home

        rows = AthenaEngine.of(Home.current().settings, seconds=seconds).query(statement)
        show_rows(rows.slice(0, limit) if limit else rows, form, output)
        return
    # before a home is made for a statement that cannot be answered
    reads_models = _reads_models(statement)
    platform = open_platform(to_read=True)
    local = _engine(platform, reads_models, seconds, memory)
    with last_limits(local.seconds, local.memory_mb, exit_code=SqlError.exit_code, say=_last_words):
        table = local.query(statement)
    if limit:
        table = table.slice(0, limit)
    warn_of_skipped(platform)
    show_rows(table, form, output)


def _last_words(sentence: str) -> None:
    # where the process ends without coming back here: as every error is told
    sys.stderr.write(f"mlcc: {sentence}\n")
    sys.stderr.flush()


def _check_request(
    query: str | None,
    named: str | None,
    list_all: bool,
    form: str,
    output: Path | None,
    limit: int,
    seconds: float | None,
    memory: int | None,
    engine: str,
) -> None:
    from mlcc_dagster.core.exceptions import InvalidInput, UsageError

    problems = []
    if sum((query is not None, named is not None, list_all)) != 1:
        problems.append("give one of a SELECT, --named NAME and --list; see `mlcc sql ask --help`")
    if form not in FORMATS:
        problems.append(f"no format '{form}'; use {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    if list_all and form not in ("table", "json"):
        problems.append(f"--list has no format '{form}'; use table or json")
    if (form == "parquet") != (output is not None) and not list_all:
        problems.append("--format parquet and --output FILE go together; give both or neither")
    if limit < 0:
        problems.append(f"--limit cannot be {limit}; use 0 for all, or how many to show")
    if seconds is not None and not 0 < seconds < 1e6:
        problems.append(f"--seconds cannot be {seconds:g}; give a number above 0")
    if memory is not None and memory < 1:
        problems.append(f"--memory cannot be {memory}; give a number of MB above 0")
    if engine not in (DUCKDB, ATHENA):
        problems.append(f"no engine '{engine}'; use {DUCKDB} or {ATHENA}")
    if engine == ATHENA and memory is not None:
        problems.append("--memory is a limit of duckdb; Athena's is its workgroup's, drop the option")
    if problems:
        raise UsageError(problems[0]) if len(problems) == 1 else InvalidInput("the request", problems)


def _reads_models(statement: str) -> bool:
    """Check a statement before any home is opened, and say whether it reads more than the results. Reading the models costs
    half a second that a question about the results must not pay."""
    from resources.sql_engine import SqlError, checked, translate

    try:
        tree = checked(statement)
    except SqlError:
        from resources.sql_models import shipped_project

        relations = shipped_project().relations()
        translate(checked(statement, relations), relations)
        return True
    translate(tree)
    return False


def _engine(platform: "Platform", reads_models: bool, seconds: float | None, memory: int | None) -> "SqlEngine":
    from resources.sql_engine import SqlEngine

    if reads_models:
        from resources.model_sources import model_engine

        return model_engine(platform, seconds=seconds, memory_mb=memory)
    settings = platform.home.settings
    return SqlEngine(
        platform.store, seconds=seconds or settings.sql_seconds, memory_mb=memory or settings.sql_memory_mb
    )


def show_list(form: str) -> None:
    """Print the named queries, and the tables that a statement may read, with what a row of each is."""
    from mlcc_dagster.cli import console
    from resources.sql_engine import SCHEMA
    from resources.sql_models import shipped_project

    project = shipped_project()
    tables = [(source.name, "source", source.description) for source in project.sources.values()]
    tables += [(model.name, model.layer, model.description) for model in project.models]
    if form == "json":
        console.print_json(
            {
                "queries": [
                    {"name": query.name, "answers": query.answers, "sql": query.sql} for query in project.queries
                ],
                "tables": [
                    {"name": f"{SCHEMA}.{name}", "layer": layer, "description": text} for name, layer, text in tables
                ],
            }
        )
        return
    queries = console.counted(len(project.queries), "named query", "named queries")
    console.print_table(queries, ["name", "answers"], [(query.name, query.answers) for query in project.queries])
    console.say()
    rows = [(f"{SCHEMA}.{name}", layer, text) for name, layer, text in tables]
    console.print_table(console.counted(len(rows), "table"), ["table", "layer", "description"], rows)


def show_rows(table: "pa.Table", form: str, output: Path | None) -> None:
    """Print rows in a format, or write them to a Parquet file. Raises `UsageError` for JSON of columns with one name."""
    from mlcc_dagster.cli import console
    from mlcc_dagster.core.exceptions import UsageError

    columns = table.column_names
    if output is not None:
        from resources.model_runs import publish_table

        publish_table(output, table)
        console.say(f"{console.counted(table.num_rows, 'row')} in {output}")
        return
    # Not one mapping per row: two columns may have one name.
    values = [column.to_pylist(maps_as_pydicts="strict") for column in table.columns]
    rows: Sequence[tuple[Any, ...]] = list(zip(*values, strict=True))
    if form == "json":
        repeated = sorted({name for name in columns if columns.count(name) > 1})
        if repeated:
            raise UsageError(f"several columns are named {', '.join(repeated)}; give each its own name with AS")
        console.print_json([dict(zip(columns, row, strict=True)) for row in rows])
        return
    rows = [tuple(map(_one_text, row)) for row in rows]
    if form == "csv":
        console.print_csv(columns, rows)
    else:
        numbers = [name for name, kind in zip(columns, table.schema.types, strict=True) if _is_number(str(kind))]
        console.print_table(console.counted(len(rows), "row"), columns, rows, right=numbers)


def _one_text(value: Any) -> Any:
    """Return an array, a map or a row as JSON, since a cell is one text; any other value as it is."""
    from mlcc_dagster.cli.console import cell_text

    if not isinstance(value, (list, dict)):
        return value
    return json_text(value, ensure_ascii=False, default=cell_text)


def _is_number(kind: str) -> bool:
    return kind.startswith(("int", "uint", "float", "double", "decimal"))


@sql_app.command(name="compile", epilog=examples("mlcc sql compile", "mlcc sql compile --target /tmp/mlcc_dbt --json"))
def compile_models(
    target: Annotated[Path, typer.Option(metavar="DIR", help="The folder of the project.")] = Path("target"),
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Write the models as a dbt project for DuckDB, with the tables that they read as Parquet.

    `dbt build --profiles-dir .` in that folder (with dbt-duckdb) gives the same rows as the models here.
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.opening import open_platform, warn_of_skipped
    from resources.dbt_project import write_dbt_project
    from resources.sql_models import shipped_project

    platform = open_platform(to_read=True)
    project = shipped_project()
    files = write_dbt_project(platform, project, target)
    warn_of_skipped(platform)
    models = [model.name for model in project.models]
    if json:
        console.print_json({"target": str(target), "models": models, "files": [str(path) for path in files]})
        return
    console.say(
        f"{console.counted(len(models), 'model')} in {target}; build them there with `dbt build --profiles-dir .`"
    )
