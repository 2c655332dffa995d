"""Which tool a file is of, and the two files of one run put together.

Belongs here: the registry of readers, detection by content. Not here: what a tool's file says (one module per tool).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Protocol

from mlcc_dagster.core.exceptions import InvalidInput, UsageError
from mlcc_dagster.core.imports import aiperf, athena_export, guidellm, inferencex, llmperf, vllm_bench
from mlcc_dagster.core.imports.measured import Document, Measured


class Recognizes(Protocol):
    """Whether a document is of a kind."""

    def __call__(self, document: Document, /) -> bool: ...


class Reads(Protocol):
    """Reads a document of a kind; raises `InvalidInput` with every mistake."""

    def __call__(self, document: Document, /, *, source: str) -> tuple[Measured, ...]: ...


@dataclass(frozen=True)
class Format:
    """A kind of file: its name, how it is told from others and how it is read."""

    name: str
    looks_like: str
    recognizes: Recognizes
    read: Reads


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        module.NAME: Format(module.NAME, module.LOOKS_LIKE, module.recognizes, module.read)
        for module in (athena_export, aiperf, vllm_bench, guidellm, llmperf, inferencex)
    }
)
"""Every kind of file that is read. A new tool is one more module."""


def format_named(name: str) -> Format:
    """Return a format by name. Raises `UsageError` naming the known ones."""
    if name not in FORMATS:
        raise UsageError(f"no format '{name}'; use one of {', '.join(FORMATS)}, or leave --format out")
    return FORMATS[name]


def format_of(document: Document, *, source: str) -> Format:
    """Return the format that a document's content tells. Raises `InvalidInput` where it is none or could be several."""
    found = [each for each in FORMATS.values() if each.recognizes(document)]
    if len(found) == 1:
        return found[0]
    if found:
        names = " or ".join(each.name for each in found)
        raise InvalidInput(source, [f"{source}: could be {names}; say which with --format"])
    tried = "; ".join(f"{each.name}: {each.looks_like}" for each in FORMATS.values())
    raise InvalidInput(source, [f"{source}: is no file of results that is read here (tried {tried})"])


def read_document(document: Document, *, source: str, name: str | None = None) -> tuple[str, tuple[Measured, ...]]:
    """Read a document in the format of that name, else in the one that its content tells, and return the format's name too.

    Raises `InvalidInput` with every mistake, `UsageError` for an unknown name.
    """
    chosen = format_of(document, source=source) if name is None else format_named(name)
    return chosen.name, tuple(replace(each, sources=(source,)) for each in chosen.read(document, source=source))


def paired(measured: Iterable[Measured]) -> tuple[tuple[Measured, ...], tuple[str, ...]]:
    """Put the summary and the raw requests of a run together where both were given, and say what could not be told apart.

    Two files are of one run when as many requests succeeded in both and the shortest and the longest latency agree; the run
    keeps the identity of its summary. What has no other half stays as it is.
    """
    given = list(measured)
    halves: dict[tuple[object, ...], dict[str, list[Measured]]] = defaultdict(lambda: defaultdict(list))
    for each in given:
        if each.half is not None and each.pairing is not None:
            halves[(each.format, each.pairing)][each.half].append(each)
    # The same file given twice is one half.
    distinct = {
        key: {half: list({each.identity: each for each in found}.values()) for half, found in sides.items()}
        for key, sides in halves.items()
    }
    problems = [
        f"{', '.join(each.where for each in [*sides['summary'], *sides['records']])}: several could be of one run; "
        "import them one run at a time"
        for sides in distinct.values()
        if len(sides.get("summary", ())) >= 1 <= len(sides.get("records", ())) and sum(map(len, sides.values())) > 2
    ]
    made: list[Measured] = []
    for each in given:
        sides = distinct.get((each.format, each.pairing), {})
        summaries, raw = sides.get("summary", []), sides.get("records", [])
        if each.half == "records" and summaries:
            continue
        made.append(_together(each, raw[0]) if each.half == "summary" and raw else each)
    return tuple(made), tuple(problems)


def _together(summary: Measured, raw: Measured) -> Measured:
    return replace(
        summary,
        where=f"{summary.where} + {raw.where}",
        columns={**raw.columns, **summary.columns},
        records=raw.records,
        timed=raw.timed,
        sources=(*summary.sources, *raw.sources),
        summary={**{n: v for n, v in summary.columns.items() if isinstance(v, float)}, **summary.summary},
        half=None,
    )
