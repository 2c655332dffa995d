"""Result files of outside tools on disk: read, checked against the store, published all or not at all.

Belongs here: folders, packed files, the three forms of content (JSON, lines of JSON, tables), what is there already, raw
requests below the home. Not here: what a tool's file says and which row it makes (`core.imports`), the store (`result_store.py`).

Everything is read and checked before anything is written. A run that the disk refuses in the middle leaves the runs before it,
each whole: the same import again completes it, since what is there already changes nothing.
"""

import csv
import gzip
import io
import json
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catalog.model import Catalog
from mlcc_dagster.core.exceptions import InvalidInput
from mlcc_dagster.core.imports.completion import Difference, ImportedLevel, ImportedRun, comparable, imported_runs
from mlcc_dagster.core.imports.formats import format_named, paired, read_document
from mlcc_dagster.core.imports.measured import Document, Measured
from mlcc_dagster.core.imports.settings import ImportSettings
from mlcc_dagster.core.request_records import RequestRecord
from resources.home import Home
from resources.result_store import ResultStore, Snapshot

LARGEST_BYTES = 1 << 30
"""The most that one file may hold, unpacked: it is read at once."""

ENDINGS: tuple[str, ...] = (".json", ".jsonl", ".csv", ".parquet")
"""What is looked into when a folder is named, each also with `.gz`; a file that is named itself may end as it likes."""

_MOST_PROBLEMS = 20  # of one file: a table of many bad rows says the same of each
_GZIP = b"\x1f\x8b"
_PARQUET = b"PAR1"


@dataclass(frozen=True)
class FileReport:
    """What became of one file. `kept` are the names of numbers that no column holds, `left_out` what was not taken and why,
    `format` is none where the file was not taken at all."""

    path: str
    format: str | None
    rows: int = 0
    new_runs: int = 0
    unchanged_runs: int = 0
    configurations: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "file": self.path,
            "format": self.format,
            "rows": self.rows,
            "new_runs": self.new_runs,
            "unchanged_runs": self.unchanged_runs,
            "configurations": list(self.configurations),
            "kept": list(self.kept),
            "left_out": list(self.left_out),
            "remarks": list(self.remarks),
        }


@dataclass(frozen=True)
class ImportPlan:
    """Everything that files hold, read and checked; nothing is written yet. `new` runs are not in the store, `unchanged`
    ones are, as they are here."""

    files: tuple[FileReport, ...]
    new: tuple[ImportedRun, ...]
    unchanged: tuple[ImportedRun, ...]
    differences: tuple[Difference, ...]

    @property
    def new_rows(self) -> int:
        """How many rows are new."""
        return sum(len(run.levels) for run in self.new)

    @property
    def configurations(self) -> Mapping[str, str]:
        """The configurations of all runs by id, as a person reads them."""
        runs = (*self.new, *self.unchanged)
        return {str(level.row["config_id"]): level.configuration for run in runs for level in run.levels}


def plan_import(
    paths: Sequence[Path],
    *,
    settings: ImportSettings,
    catalog: Catalog,
    store: ResultStore,
    format_name: str | None = None,
) -> ImportPlan:
    """Read files and folders, and check everything against the store.

    In a folder, files that are of no kind which is read here are left out and named; a file that is named itself must be one.
    Raises `InvalidInput` carrying every mistake of every file, `UsageError` for an unknown format.
    """
    if format_name is not None:
        format_named(format_name)
    problems: list[str] = []
    formats: dict[str, str] = {}
    left_out: dict[str, tuple[str, ...]] = {}
    measured: list[Measured] = []
    for path, named in _files(paths, problems):
        source = str(path)
        if source in formats:
            continue
        try:
            document = read_file(path)
        except InvalidInput as error:
            problems += error.problems
            continue
        try:
            formats[source], found = read_document(document, source=source, name=format_name)
        except InvalidInput as error:
            if named or "is no file of results" not in error.problems[0]:
                problems += _at_most(error.problems, source)
            else:
                left_out[source] = ("is no file of results that is read here",)
            continue
        measured += found
    together, ambiguous = paired(measured)
    runs, wrong = imported_runs(together, settings=settings, catalog=catalog)
    by_source: dict[str, list[str]] = defaultdict(list)
    for problem in wrong:
        by_source[problem.partition(": ")[0]].append(problem)
    problems += [*ambiguous, *(each for source, found in by_source.items() for each in _at_most(found, source))]
    if not problems and not measured and not formats:
        problems.append("the folders that were named hold no file of results; name files, or another folder")
    new, unchanged = _against(store, runs, problems)
    if problems:
        raise InvalidInput("the import", problems)
    files = _reports(formats, new, unchanged, together)
    files += [FileReport(source, None, left_out=why) for source, why in left_out.items()]
    differences = tuple(d for run in (*new, *unchanged) for level in run.levels for d in level.differences)
    return ImportPlan(tuple(files), tuple(new), tuple(unchanged), differences)


def carry_out(plan: ImportPlan, *, home: Home, store: ResultStore, advance: Callable[[], None]) -> None:
    """Publish the new runs of a plan; `advance` is called after each. Raw requests come first: a row that names them must
    find them. Raises `OSError` where the disk refuses."""
    for run in plan.new:
        rows = run.rows
        if any(level.records for level in run.levels):
            for level in run.levels:
                _keep_raw(home.raw / run.run_id, level.row, level.records)
            rows = [row | {"raw_uri": f"{home.raw.name}/{run.run_id}"} for row in rows]
        store.publish(run.run_id, rows)
        advance()


def _at_most(problems: Sequence[str], source: str) -> list[str]:
    rest = len(problems) - _MOST_PROBLEMS
    return [*problems[:_MOST_PROBLEMS], *([f"{source}: {rest} more of this file"] if rest > 0 else [])]


def _files(paths: Sequence[Path], problems: list[str]) -> Iterator[tuple[Path, bool]]:
    """Yield the files that were named, and those below folders that were; whether each was named itself."""
    for path in paths:
        try:
            if path.is_dir():
                below = sorted(each for each in path.rglob("*") if not _hidden(each, path))
                yield from ((each, False) for each in below if each.is_file() and _ending(each) in ENDINGS)
            elif path.is_file():
                yield path, True
            elif path.exists():
                problems.append(f"{path}: is no file and no folder; name a file of results")
            else:
                problems.append(f"{path}: there is no such file; name a file or a folder of results")
        except OSError as error:
            problems.append(f"{path}: cannot be read ({error.strerror}); name a file that you may read")


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _ending(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def read_file(path: Path) -> Document:
    """Read and parse a file by its content, unpacked where it is packed with gzip. Raises `InvalidInput` with what is wrong
    and where."""
    try:
        content = _content(path)
        if not content.strip():
            raise ValueError("is empty; name a file of results")
        if content.startswith(_PARQUET):
            return Document("table", _parquet(content))
        text = content.decode("utf-8-sig")
        return _json(text) if text.lstrip()[:1] in ("{", "[") else Document("table", _csv(text))
    except UnicodeDecodeError as error:
        problem = f"is neither Parquet nor UTF-8 text (byte {error.start}); save it as one of them"
    except RecursionError:
        problem = "is nested too deeply; export it again"
    except OSError as error:
        problem = f"cannot be read ({error.strerror or error}); name a file that you may read"
    except (ValueError, csv.Error) as error:
        problem = str(error)
    raise InvalidInput(str(path), [f"{path}: {problem}"])


def _content(path: Path) -> bytes:
    too_large = f"holds more than {LARGEST_BYTES >> 20} MiB; split it into smaller files"
    if path.stat().st_size > LARGEST_BYTES:
        raise ValueError(too_large)
    content = path.read_bytes()
    if not content.startswith(_GZIP):
        return content
    try:
        with gzip.open(io.BytesIO(content)) as packed:
            content = packed.read(LARGEST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"cannot be unpacked ({error}); pack it with gzip again") from error
    if len(content) > LARGEST_BYTES:
        raise ValueError(too_large)
    return content


def _parquet(content: bytes) -> list[dict[str, Any]]:
    import pyarrow as pa
    from pyarrow import parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        names = list(file.schema_arrow.names)
        _refuse_repeated(names)
        table = file.read()
        for index, name in enumerate(names):
            # some writers mark no text as text
            if pa.types.is_binary(table.schema.field(index).type):
                table = table.set_column(index, name, table.column(index).cast(pa.string()))
        # What has columns and no rows is still recognised by its names.
        return table.to_pylist() or [dict.fromkeys(names)]
    except (pa.ArrowException, OSError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"is no whole Parquet file ({first}); copy it again") from error


def _refuse_repeated(names: Sequence[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"has two columns named {', '.join(repeated)}; remove one of them")


def _csv(text: str) -> list[dict[str, Any]]:
    limit = csv.field_size_limit()
    # A row's evidence may be longer than the default limit of a cell.
    csv.field_size_limit(LARGEST_BYTES)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        names = next(reader, [])
        _refuse_repeated(names)
        rows = []
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(names):
                said = "more" if len(cells) > len(names) else "fewer"
                raise ValueError(f"line {reader.line_num} has {said} cells than the header; export it again")
            rows.append({name: cell or None for name, cell in zip(names, cells, strict=True)})
        return rows or [dict.fromkeys(names)]
    except csv.Error as error:
        raise ValueError(f"is no CSV ({error}); export it again") from error
    finally:
        csv.field_size_limit(limit)


def _json(text: str) -> Document:
    try:
        return Document("json", json.loads(text))
    except json.JSONDecodeError as error:
        lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
        try:
            first = json.loads(lines[0][1])
        except ValueError:
            first = None
        if not isinstance(first, dict) or len(lines) < 2:
            raise ValueError(
                f"is no whole JSON (line {error.lineno}, column {error.colno}: {error.msg}); export it again"
            ) from error
    values = []
    for number, line in lines:
        try:
            values.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(
                f"line {number} is no whole JSON (column {error.colno}: {error.msg}); export it again"
            ) from None
    return Document("lines", values)


def _against(
    store: ResultStore, runs: Sequence[ImportedRun], problems: list[str]
) -> tuple[list[ImportedRun], list[ImportedRun]]:
    """Return the runs that the store has not, and those that it has as they are here."""
    wanted = frozenset(run.run_id for run in runs)
    there, damaged = store.snapshot().read(lambda snapshot: _stored(snapshot, wanted))
    new, unchanged = [], []
    for run in runs:
        where = run.levels[0].measured.where
        found = there.get(run.run_id)
        if run.run_id in damaged:
            problems.append(f"{where}: {damaged[run.run_id]}; move it away or restore it")
        elif found is None:
            new.append(run)
        elif {comparable(row, whole=run.complete) for row in run.rows} == {
            comparable(row, whole=run.complete) for row in found
        }:
            unchanged.append(run)
        else:
            problems.append(
                f"{where}: run {run.run_id} is in the store with other values ({len(found)} rows there, {len(run.levels)} "
                "here); what is published stays: import it with the same --set, or into another home"
            )
    return new, unchanged


def _stored(snapshot: Snapshot, wanted: frozenset[str]) -> tuple[dict[str, list[dict[str, Any]]], dict[str, str]]:
    """Return the stored rows of runs by run id, and why a file of one of them does not count."""
    from pyarrow import dataset as pds

    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    if wanted and snapshot.files:
        for row in snapshot.table(filter=pds.field("run_id").isin(sorted(wanted))).to_pylist():
            rows[row["run_id"]].append(row)
    # Publishing would keep such a file as it is, and nobody would read it.
    named = {
        path.name.removeprefix("run-").removesuffix(".parquet"): f"{path} does not count ({why})"
        for path, why in snapshot.skipped
    }
    return dict(rows), {run_id: why for run_id, why in named.items() if run_id in wanted}


def _reports(
    formats: Mapping[str, str],
    new: Sequence[ImportedRun],
    unchanged: Sequence[ImportedRun],
    measured: Iterable[Measured],
) -> list[FileReport]:
    """Return what became of each file, in the order they were given."""
    levels: dict[str, list[ImportedLevel]] = defaultdict(list)
    counts: dict[tuple[str, bool], int] = defaultdict(int)
    for run, is_new in [*((run, True) for run in new), *((run, False) for run in unchanged)]:
        for level in run.levels:
            for source in level.measured.sources:
                levels[source].append(level)
        for source in {source for level in run.levels for source in level.measured.sources}:
            counts[source, is_new] += 1
    left_out: dict[str, dict[str, None]] = defaultdict(dict)
    held: set[str] = set()
    for each in measured:
        for source in each.sources:
            held.add(source)
            left_out[source].update(dict.fromkeys(each.left_out))
    return [
        FileReport(
            path=source,
            format=name,
            rows=len(levels[source]),
            new_runs=counts[source, True],
            unchanged_runs=counts[source, False],
            configurations=tuple(dict.fromkeys(str(level.row["config_id"]) for level in levels[source])),
            kept=tuple(dict.fromkeys(name for level in levels[source] for name in level.measured.extra)),
            left_out=tuple(left_out[source]),
            remarks=tuple(dict.fromkeys(_remarks(source, levels[source], held=source in held))),
        )
        for source, name in formats.items()
    ]


def _remarks(source: str, levels: Sequence[ImportedLevel], *, held: bool) -> Iterator[str]:
    for level in levels:
        summary, *raw = level.measured.sources
        yield from level.remarks
        if source in raw:
            yield f"holds the raw requests of {summary}"
    if not levels:
        yield "the same result is in another of the files; it counts once" if held else "holds no rows"


def _keep_raw(folder: Path, row: Mapping[str, Any], records: Sequence[RequestRecord]) -> None:
    """Write the requests of a level in AIPerf's form, one per line."""
    level = "x" if row["concurrency"] is None else row["concurrency"]
    place = folder / f"{row['workload']}-c{level}".replace("/", "_") / "profile_export.jsonl"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("".join(json.dumps(_line(record)) + "\n" for record in records), "utf-8")


def _line(record: RequestRecord) -> dict[str, Any]:
    return {
        "metadata": {
            "request_start_ns": record.start_ns,
            "request_end_ns": record.end_ns,
            "benchmark_phase": record.phase,
            "was_cancelled": record.cancelled,
        },
        "metrics": {name: {"value": value} for name, value in record.metrics.items()},
        "error": None if record.error is None else {"message": record.error},
    }
