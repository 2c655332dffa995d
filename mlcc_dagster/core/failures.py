"""Why a stage failed: category, whether another try is worth money, and the line that decided.

Belongs here: the categories, reading a log, when a retry is due. Not here: the rules (`failure_rules.py`), writing the
verdict (`records.py`), digests that let a verdict expire (`evidence.py`).

Two rulesets answer one interface. `compat` keeps the ordered rules of existing installations: first match wins,
substrings, nothing matched is a code bug. `v1`, the default, reads only the window of the failing stage, leaves out
lines that report no failure (settings, progress, warnings, announced retries, finished checks), matches whole words,
and takes the last match of the strongest kind: a *cause* (out of memory, quota) outweighs a *symptom* that causes bring
about (connection refused, a time limit, a crashed script), and a *hint* is any line that calls itself an error: it
decides nothing but tells a person where to look. Nothing matched, or hints only, is `unknown`, which is never
unfeasible.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Protocol

from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.failure_rules import (
    COMPAT_RULES,
    COMPAT_STAGE_RULES,
    DECORATION,
    NOISE,
    RULES,
    STAGE_MARKER,
    STEP_END,
    Rule,
    Strength,
)


@dataclass(frozen=True)
class Classification:
    """The reading of one failing log. `line` is the deciding line, none where no rule matched; `rule` is
    `<ruleset>/<id>@<version>`."""

    stage: str
    category: str
    retryable: bool
    line: str | None
    rule: str


MAX_ATTEMPTS = 3
"""Attempts that a retryable failure gets before a person must look."""


@dataclass(frozen=True)
class Category:
    """A kind of failure. `action` is what the platform does, `next_step` what it tells a person; `wait` gives the time
    until the next try from the number of attempts made (1 after the first), none where it is not retried."""

    name: str
    retryable: bool
    action: str
    next_step: str
    wait: Callable[[int], timedelta] | None = None
    max_attempts: int = MAX_ATTEMPTS


def _categories(*entries: Category) -> Mapping[str, Category]:
    return MappingProxyType({entry.name: entry for entry in entries})


CATEGORIES: Mapping[str, Category] = _categories(
    Category(
        "capacity",
        True,
        "retry after 1 h, or the next instance of the same ladder",
        "Wait for the retry, or ask for another instance type of the same family.",
        lambda attempt: timedelta(hours=1),
    ),
    Category(
        "timeout",
        True,
        "retry with a longer limit",
        "Raise the stage's time limit in the catalog entry if it keeps running out.",
        lambda attempt: timedelta(minutes=10),
    ),
    Category(
        "oom",
        False,
        "unfeasible: instance too small",
        "Use an instance with more memory, a smaller context length or a stronger quantization.",
    ),
    Category(
        "code_bug",
        False,
        "unfeasible until fixed",
        "Correct the template or script that the deciding line names, then run the configuration again.",
    ),
    Category(
        "model_incompatibility",
        False,
        "unfeasible",
        "Use a server (version) that supports this model, or another model; see the deciding line.",
    ),
    Category(
        "service_limitation",
        False,
        "unfeasible",
        "Use a region or an API form that offers what the deciding line refuses.",
    ),
    Category(
        "quota",
        False,
        "parked until the quota changes",
        "Request an increase of the service quota for this instance type, then lift the verdict.",
    ),
    Category(
        "infrastructure",
        True,
        "retry with backoff",
        "Look at network, registry, disk and credentials if it persists; the configuration itself is not at fault.",
        lambda attempt: timedelta(minutes=5 * 4 ** (attempt - 1)),
    ),
    Category(
        "unknown",
        True,
        "retry once, then a person looks",
        "Read the stage's log, then add a rule for its deciding line.",
        lambda attempt: timedelta(hours=1),
        max_attempts=2,
    ),
)
"""The vocabulary of failure categories."""


def category_named(name: str) -> Category:
    """Return the category of that name. Raises `UsageError` naming the known ones."""
    try:
        return CATEGORIES[name]
    except KeyError:
        raise UsageError(f"unknown failure category '{name}'; use one of {', '.join(CATEGORIES)}") from None


def retry_due(category: str, attempt: int, now: datetime) -> datetime | None:
    """Return when the next try is due after `attempt` failures of this category, or none when there is none: not
    retryable, or its attempts are used up (then it is parked for a person).

    Raises `UsageError` for an unknown category, `ValueError` for an attempt below 1.
    """
    if attempt < 1:
        raise ValueError(f"attempt {attempt} does not exist; count from 1")
    entry = category_named(category)
    if entry.wait is None or attempt >= entry.max_attempts:
        return None
    return now + entry.wait(attempt)


def known(stage: str, category: str, line: str | None) -> Classification:
    """Return the classification of a failure whose cause is a known fact, such as a limit enforced by the platform
    itself.

    Raises `UsageError` for an unknown category.
    """
    return Classification(stage, category, category_named(category).retryable, line, f"known/{category}@1")


class Ruleset(Protocol):
    """One way to read logs."""

    @property
    def name(self) -> str: ...

    def classify(self, stage: str, log: str) -> Classification:
        """Read the full log of a failing stage."""
        ...


@dataclass(frozen=True)
class Compat:
    """Ruleset `compat`: the first rule in order that matches decides; nothing matched is `code_bug`."""

    name: str = "compat"

    def classify(self, stage: str, log: str) -> Classification:
        """Read a log as existing installations do; an empty stage is detected from the log."""
        named = stage or self.detect_stage(log)
        for rule in COMPAT_RULES:
            match = rule.pattern.search(log)
            if match:
                start = log.rfind("\n", 0, match.start()) + 1
                end = log.find("\n", match.end())
                line = log[start : end if end >= 0 else len(log)].strip()
                return self._reading(named, rule.category, line, str(rule.order))
        return self._reading(named, "code_bug", None, "default")

    def detect_stage(self, log: str) -> str:
        """Return the first stage in order whose words occur in the log, `unknown` where none do."""
        return next((stage for stage, pattern in COMPAT_STAGE_RULES if pattern.search(log)), "unknown")

    def _reading(self, stage: str, category: str, line: str | None, rule: str) -> Classification:
        return Classification(stage, category, CATEGORIES[category].retryable, line, f"{self.name}/{rule}@1")


@dataclass(frozen=True)
class FirstVersion:
    """Ruleset `v1`: the last match of the strongest kind in the failing stage's window, noise left out."""

    name: str = "v1"

    def classify(self, stage: str, log: str) -> Classification:
        """Read a log; with no match it is `unknown` without a line."""
        found: tuple[Rule, str] | None = None
        for line in reversed(window(stage, log)):
            rule = deciding_rule(line, above=found[0].strength if found else 0)
            if rule is not None:
                found = (rule, line.strip())
                if rule.strength is Strength.CAUSE:
                    break
        if found is None:
            return Classification(stage, "unknown", CATEGORIES["unknown"].retryable, None, f"{self.name}/none@1")
        rule, line = found
        name = f"{self.name}/{rule.id}@{rule.version}"
        return Classification(stage, rule.category, CATEGORIES[rule.category].retryable, line, name)


def bare(line: str) -> str:
    """Return a line without colour, byte order mark and time before it: what rules and noise are matched on."""
    previous = None
    while previous != line:
        previous, line = line, DECORATION.sub("", line)
    return line.rstrip()


def deciding_rule(line: str, *, above: int = 0) -> Rule | None:
    """Return the strongest rule that matches a line, the earlier of equals, considering those stronger than `above`;
    none for noise."""
    text = bare(line)
    matching = [rule for rule in RULES if rule.strength > above and rule.pattern.search(text)]
    if not matching or any(pattern.search(text) for pattern in NOISE):
        return None
    return max(matching, key=lambda rule: rule.strength)


def window(stage: str, log: str) -> Sequence[str]:
    """Return the lines that belong to the failing stage: from its last marker to the next stage's, ending where a
    runner ended the failing step; the whole log where it has no markers."""
    lines = log.splitlines()
    begin, end = 0, len(lines)
    spelled = stage.replace("_", "-")
    markers = [(index, _marked_stage(line)) for index, line in enumerate(lines)]
    own = [index for index, name in markers if name == spelled]
    if own:
        begin = own[-1]
        end = next((index for index, name in markers if index > begin and name not in (None, spelled)), end)
    step_end = next((i for i in range(begin, end) if STEP_END.search(lines[i])), None)
    return lines[begin : end if step_end is None else step_end + 1]


def _marked_stage(line: str) -> str | None:
    if len(line) > 200:
        return None
    match = STAGE_MARKER.match(bare(line))
    return (match["named"] or match["script"]).lower().replace("_", "-") if match else None


RULESETS: Mapping[str, Ruleset] = MappingProxyType({ruleset.name: ruleset for ruleset in (Compat(), FirstVersion())})
"""Rulesets by name."""


def classify(stage: str, log: str, ruleset: str = "v1") -> Classification:
    """Classify the full log of a failing stage by a named ruleset. Raises `UsageError` naming the known rulesets."""
    try:
        reader = RULESETS[ruleset]
    except KeyError:
        raise UsageError(f"unknown ruleset '{ruleset}'; use one of {', '.join(RULESETS)}") from None
    return reader.classify(stage, log)
