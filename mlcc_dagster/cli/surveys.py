"""The survey that a command shows: of the home's store, or of a file of results in its place.

Belongs here: reading what was asked for, once for all commands on evidence. Not here: surveys themselves
(`resources.survey`), showing them.
"""

from datetime import UTC, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING

from mlcc_dagster.core.exceptions import UsageError

if TYPE_CHECKING:
    from resources.survey import Survey


def take_survey(executor: str | None, *, results: Path | None = None, as_of: str | None = None) -> "Survey":
    """Look at the store of the command's home, warning of every file that had to be left out; with `results` at the
    rows of that file, which makes no home.

    Raises `UsageError` for an unknown executor or a moment that is none, `InvalidInput` for an unusable file.
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.opening import executor_name, home_of, open_platform, warn_of_skipped
    from resources.survey import Survey

    moment = moment_asked(as_of)
    if results is None:
        platform = open_platform(executor, to_read=True)
        survey = Survey.take(platform, as_of=moment)
        _ = survey.rows  # reads the files: damage behind a sound footer shows only now
        warn_of_skipped(platform)
        return survey
    from mlcc_dagster.core.configuration import DIMENSIONS
    from resources.foreign_results import read_results
    from resources.home_catalog import catalog_of
    from resources.platform import open_executor

    home = home_of(executor)
    name = executor_name(executor, home)
    found = read_results(results)
    if found.unreadable_times:
        rows = console.counted(found.unreadable_times, "row")
        console.warn(f"{rows} of {results} with a run_timestamp that is no time; they count as older than all others")
    absent = [name for name in DIMENSIONS if found.rows and not any(name in row for row in found.rows)]
    if "tp_degree" in absent and any("tensor_parallel_degree" in row for row in found.rows):
        absent.remove("tp_degree")
    if absent:
        console.warn(f"{results} has no column {', '.join(absent)}; every row counts with the empty text there")
    return Survey.of_rows(found.rows, catalog_of(home), open_executor(name, home), as_of=moment)


def moment_asked(text: str | None) -> datetime | None:
    """Read `--as-of`: a day (then its end) or a moment, in UTC unless it says otherwise; none where nothing is asked."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"--as-of takes a day or a time such as 2026-11-20 or 2026-11-20T12:00, not '{text}'"
        ) from None
    if len(text) <= len("2026-11-20"):
        moment = datetime.combine(moment.date(), time.max)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
