"""Evaluations and baselines read from JSON: everything that is wrong with one, all at once.

Belongs here: the checks of one document. Not here: what the documents are and how two of them differ (`evaluations.py`), reading
files.

What is no JSON at all is an unusable request. What is JSON and says something wrong or contradictory blocks: a gate that
guesses what was meant is none. `schema_version` is ours: absent, it is 1, as existing gates write no version.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, TypeGuard, TypeVar

from mlcc_dagster.core.evaluations import (
    SCHEMA_VERSION,
    BucketScore,
    CandidateEvaluation,
    EvalBaseline,
    Item,
    listed,
    scores_of,
)
from mlcc_dagster.core.exceptions import UsageError

ROUNDED = 5e-5
"""How far an accuracy may be from what its items say: written with four decimals, it is off by as much."""

MOST_ITEMS = 1_000_000_000
"""More items than this in one bucket are a mistake."""

Document = TypeVar("Document")


@dataclass(frozen=True)
class Read(Generic[Document]):
    """A document as it was read: none with all its problems, one sentence each, or a sound one and no problem.

    `legible` is what could be read of it, sound or not, none where that is nothing: it is for finding what else is wrong, and
    nothing is decided by it.
    """

    document: Document | None
    problems: tuple[str, ...]
    legible: Document | None = None


def read_candidate(text: str, *, source: str) -> Read[CandidateEvaluation]:
    """Read `candidate_eval.json`. Raises `UsageError` where the text is no JSON; what is wrong with its content is a
    problem."""
    document = json_of(text, source=source, what="an evaluation such as `mlcc evaluate` writes")
    reader = _Reader(document, source)
    buckets, items = reader.buckets(), reader.items()
    found = CandidateEvaluation(
        reader.text("eval_set_dvc_hash", "the hash of the evaluation set"),
        reader.optional_text("candidate_sha"),
        buckets,
        items,
        reader.evaluated(),
    )
    reader.check_items(buckets, items)
    return reader.read(found)


def read_baseline(text: str, *, source: str) -> Read[EvalBaseline]:
    """Read `eval_baseline.json`; as `read_candidate` otherwise."""
    document = json_of(text, source=source, what="a baseline such as eval_baseline.json")
    reader = _Reader(document, source)
    buckets, items = reader.buckets(), reader.items()
    found = EvalBaseline(
        reader.text("eval_set_dvc_hash", "the hash of the evaluation set"),
        reader.text("baseline_sha", "what the baseline is of"),
        reader.optional_text("previous_baseline_sha"),
        reader.share("tolerance_pp"),
        buckets,
        items,
        reader.optional_text("justification"),
        reader.share("tolerance_before") if reader.has("tolerance_before") else None,
    )
    reader.check_items(buckets, items)
    return reader.read(found)


def json_of(text: str, *, source: str, what: str) -> Any:
    """Return the JSON of a text, names that an object has twice noted in it (`Twice`). Raises `UsageError` where it is none."""
    try:
        return json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UsageError(f"{source} is not readable as JSON ({reason}); name {what}") from None


class Twice(dict[str, Any]):
    """An object in which names stand twice: readers of JSON differ in which of them counts."""

    names: tuple[str, ...] = ()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    seen: set[str] = set()
    twice = Twice(found)
    twice.names = tuple(dict.fromkeys(name for name, _ in pairs if name in seen or seen.add(name)))
    return twice


class _Reader:
    """Takes a document apart and notes every problem. A value with a problem is replaced by one of its type that no sound one
    is: an empty text, an `n` of 0, an accuracy that is no number; items of which one has a problem by no items."""

    def __init__(self, document: Any, source: str) -> None:
        self._source = source
        self._problems: list[str] = []
        self._open = True
        if not isinstance(document, dict):
            self._note(
                "", f"must be an object with eval_set_dvc_hash and buckets, not {_shown(document)}; evaluate again"
            )
            document = None
        self._document: Mapping[str, Any] = document if document is not None else MappingProxyType({})
        # of something else than an object every name would be missing, which says nothing more
        self._open = document is not None
        if document is not None:
            self._note_twice("", document)
            version = self._document.get("schema_version", SCHEMA_VERSION)
            if isinstance(version, bool) or version != SCHEMA_VERSION:
                self._note(
                    "schema_version",
                    f"is {_shown(version)} and this version reads {SCHEMA_VERSION}; evaluate again with it, or update it",
                )

    def read(self, found: Document) -> Read[Document]:
        """Return what was found, as no document where there is a problem."""
        return Read(None if self._problems else found, tuple(self._problems), found if self._open else None)

    def has(self, name: str) -> bool:
        return name in self._document

    def text(self, name: str, what: str) -> str:
        value = self._document.get(name)
        if isinstance(value, str) and value.strip():
            return value
        self._note(name, f"must be {what}, not {_shown(value)}; evaluate again")
        return ""

    def optional_text(self, name: str) -> str | None:
        value = self._document.get(name)
        if value is None:
            return None
        if isinstance(value, str) and value.strip():
            return value
        self._note(name, f"must be a text or null, not {_shown(value)}; correct it")
        return None

    def share(self, name: str) -> float:
        value = self._document.get(name)
        if _is_number(value) and 0 <= value < 1:
            return float(value)
        self._note(name, f"must be a share from 0 to below 1, such as 0.02, not {_shown(value)}; correct it")
        return 0.0

    def evaluated(self) -> Mapping[str, Any]:
        value = self._document.get("evaluated")
        if value is None:
            return MappingProxyType({})
        if not isinstance(value, dict):
            self._note("evaluated", f"must be an object, not {_shown(value)}; evaluate again")
            return MappingProxyType({})
        cost = value.get("cost_usd")
        if cost is not None and not (_is_number(cost) and cost >= 0):
            self._note("evaluated.cost_usd", f"must be an amount or absent, not {_shown(cost)}; evaluate again")
        return MappingProxyType(value)

    def buckets(self) -> dict[str, BucketScore]:
        value = self._document.get("buckets")
        if not isinstance(value, dict) or not value:
            self._note("buckets", f"must be an object with at least one bucket, not {_shown(value)}; evaluate again")
            return {}
        self._note_twice("buckets", value)
        return {name: self._bucket(f"buckets.{name}", score) for name, score in value.items()}

    def _bucket(self, path: str, value: Any) -> BucketScore:
        if not isinstance(value, dict):
            self._note(path, f"must be an object with accuracy and n, not {_shown(value)}; evaluate again")
            return BucketScore(math.nan, 0)
        self._note_twice(path, value)
        accuracy, n = value.get("accuracy"), value.get("n")
        if not _is_number(accuracy) or not 0 <= accuracy <= 1:
            self._note(f"{path}.accuracy", f"must be a number from 0 to 1, not {_shown(accuracy)}; evaluate again")
            accuracy = math.nan
        if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MOST_ITEMS:
            self._note(f"{path}.n", f"must be a whole number from 1 to {MOST_ITEMS}, not {_shown(n)}; evaluate again")
            n = 0
        return BucketScore(float(accuracy), n)

    def items(self) -> tuple[Item, ...]:
        value = self._document.get("items")
        if value is None:
            return ()
        if not isinstance(value, list):
            self._note("items", f"must be a list, not {_shown(value)}; evaluate again")
            return ()
        items = []
        before = len(self._problems)
        for index, entry in enumerate(value):
            path = f"items[{index}]"
            if not isinstance(entry, dict):
                self._note(path, f"must be an object with id, buckets and correct, not {_shown(entry)}; evaluate again")
                continue
            self._note_twice(path, entry)
            name, buckets, correct = entry.get("id"), entry.get("buckets"), entry.get("correct")
            if not isinstance(name, str) or not name:
                self._note(f"{path}.id", f"must be a text, not {_shown(name)}; evaluate again")
                name = f"#{index}"
            if not isinstance(buckets, list) or not buckets or not all(isinstance(each, str) for each in buckets):
                self._note(f"{path}.buckets", f"must be a list of bucket names, not {_shown(buckets)}; evaluate again")
                buckets = []
            elif len(set(buckets)) < len(buckets):
                self._note(f"{path}.buckets", "names a bucket twice; evaluate again")
            if not isinstance(correct, bool):
                self._note(f"{path}.correct", f"must be true or false, not {_shown(correct)}; evaluate again")
                correct = False
            items.append(Item(name, tuple(buckets), correct))
        return tuple(items) if len(self._problems) == before else ()

    def check_items(self, buckets: Mapping[str, BucketScore], items: Sequence[Item]) -> None:
        """Note where items contradict each other or their buckets; only of what could be read at all."""
        if not buckets or not items:
            return
        seen: set[str] = set()
        twice = [item.id for item in items if item.id in seen or seen.add(item.id)]
        if twice:
            self._note(
                "items", f"have {listed('item', list(dict.fromkeys(twice)))} twice or more; answer each item once"
            )
        counted = scores_of(items)
        for name in counted:
            if name not in buckets:
                self._note("items", f"name bucket {name}, which buckets does not have; evaluate again")
        for name, score in buckets.items():
            found = counted.get(name)
            n = 0 if found is None else found.n
            if score.n and n != score.n:
                self._note(f"buckets.{name}.n", f"is {score.n} and {n} of the items are in it; evaluate again")
            elif found is not None and abs(found.accuracy - score.accuracy) > ROUNDED * 1.001:
                self._note(
                    f"buckets.{name}.accuracy",
                    f"is {score.accuracy} and {round(found.accuracy * n)} of {n} items are correct; evaluate again",
                )

    def _note_twice(self, path: str, value: Any) -> None:
        if isinstance(value, Twice):
            for name in value.names:
                self._note(f"{path}.{name}".lstrip("."), "stands there twice; keep one of them")

    def _note(self, path: str, what: str) -> None:
        if not self._open:
            return
        self._problems.append(f"{self._source}: {f'{path} ' if path else ''}{what}")


def _is_number(value: Any) -> TypeGuard[int | float]:
    """Whether a value is a finite number; comparing first keeps whole numbers out that no float can hold."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return -1e300 < value < 1e300 and math.isfinite(value)


def _shown(value: Any) -> str:
    if value is None:
        return "absent"
    text = "true" if value is True else "false" if value is False else repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
