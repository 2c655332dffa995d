"""How commands speak: tables and sentences on standard output, progress on standard error, one JSON document with `--json`.

Belongs here: output and nothing else. On a terminal tables fit its width; anywhere else they are plain lines, one per row,
that text tools can read.
"""

import contextlib
import csv
import itertools
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

ABSENT = "-"
COLUMN_GAP = 3
"""Characters between the columns of a table on a terminal."""


@cache
def err() -> "Console":
    """The console on standard error, for progress: a bar and the lines beside it must go through the same one."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def undiverted_err() -> Iterator["Console"]:
    """Give a console on what standard error is now, whatever happens to its descriptor in the block.

    While its ops run, Dagster turns the descriptors of standard output and error into files that a `tail` copies back, and ends
    that `tail` with them: what a run says last would be seen late, or never.
    """
    from rich.console import Console

    try:
        copy = os.dup(sys.stderr.fileno())
    except (AttributeError, OSError, ValueError):  # a stream of a test, or a closed one: nothing can be diverted
        yield err()
        return
    with os.fdopen(copy, "w", encoding="utf-8", errors="backslashreplace") as stream:
        yield Console(file=stream, highlight=False, soft_wrap=True)


def say(text: str = "") -> None:
    """Print one line of plain text to standard output; half characters (of broken input) and control characters as escapes,
    but for tabs and the ends of lines."""
    print(harmless(text))  # noqa: T201


def warn(text: str) -> None:
    """Print one warning to standard error, escaped as by `say`."""
    print(f"warning: {harmless(text)}", file=sys.stderr)  # noqa: T201


_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}
_JSON_CONTROLS = {code: f"\\u{code:04x}" for code in _CONTROLS}
"""Control characters as escapes: what came from elsewhere must not command a terminal."""


def harmless(text: str) -> str:
    """Return a text that cannot command a terminal: control characters (but tabs and the ends of lines) and half characters as
    escapes."""
    return text.translate(_CONTROLS).encode("utf-8", "backslashreplace").decode("utf-8")


@contextlib.contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Show on standard error how many of `total` steps are done, and yield what to call after each: a bar on a terminal,
    elsewhere a line at about every tenth."""
    if err().is_terminal:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=err(), transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda: bar.advance(task)
        return
    done = itertools.count(1)

    def advance() -> None:
        count = next(done)
        if count == total or count % max(1, total // 10) == 0:
            print(f"{what}: {count} of {total}", file=sys.stderr, flush=True)  # noqa: T201

    yield advance


def print_json(document: Any) -> None:
    """Print one JSON document, all of it and nothing else, to standard output.

    JSON has no word for numbers that are not finite: they are the texts `NaN`, `Infinity` and `-Infinity`, never null,
    which means absent. Bytes are hexadecimal text, dates and decimals their usual text.
    """
    text = json.dumps(_finite(document), indent=2, ensure_ascii=False, allow_nan=False, default=_json_text)
    say(text.translate(_JSON_CONTROLS))


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    right: Sequence[str] = (),
    below: Sequence[str] = (),
) -> None:
    """Print a title, a table and the lines `below` it; absent values are `-`. `right` names the columns of numbers.

    A table without rows is its title and the lines below.
    """
    texts = [[cell_text(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich(title, columns, texts, right)
    else:
        _print_plain(title, columns, texts, right)
        if below and texts:
            say()
    for line in below:
        say(line)


def _print_plain(title: str, columns: Sequence[str], texts: Sequence[Sequence[str]], right: Sequence[str]) -> None:
    say(title)
    if not texts:
        return
    widths = [max(map(len, column)) for column in zip(columns, *texts, strict=True)]
    # The last column may hold whole sentences: a rule as long as the longest of them says nothing.
    rules = ["-" * width for width in widths[:-1]] + ["-" * len(columns[-1])]
    for line in (columns, rules, *texts):
        cells = (
            cell.rjust(width) if name in right else cell.ljust(width)
            for name, cell, width in zip(columns, line, widths, strict=True)
        )
        say("  ".join(cells).rstrip())


def print_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows as comma-separated values under a line of names; absent values are empty."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(["" if value is None else cell_text(value) for value in row] for row in rows)


def _print_rich(title: str, columns: Sequence[str], texts: Sequence[Sequence[str]], right: Sequence[str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    console.print(Text(title, style="bold"))
    if not texts:
        return
    if sum(len(column) + COLUMN_GAP for column in columns) > console.width:
        # Not even the names fit beside each other: folded letter by letter nobody could read them.
        widest = max(map(len, columns))
        for row in texts:
            console.print()
            for column, cell in zip(columns, row, strict=True):
                console.print(Text(f"{column:{widest}}  {cell}"))
        console.print()
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(
            Text(column), justify="right" if column in right else "left", overflow="fold", min_width=len(column)
        )
    for row in texts:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def cell_text(value: Any) -> str:
    """Return a value as one line for a table: `-` where absent, `true` and `false` in SQL's spelling."""
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return str(value).lower()
    text = " ".join(str(value).splitlines())
    # what came from elsewhere must not command a terminal
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: `1 gap`, `2 gaps`, `no gaps`; `plural` where that is not the noun with an s."""
    return f"{number or 'no'} {noun if number == 1 else plural or f'{noun}s'}"


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def _json_text(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
