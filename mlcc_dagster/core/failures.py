"""Why a stage failed: category, whether another try is worth money, and the line that decided.

Belongs here: the categories, reading a log, when a retry is due. Not here: the rules (`failure_rules.py`), writing the
verdict (`records.py`), digests that let a verdict expire (`evidence.py`).

Two rulesets answer one interface. `compat` keeps the ordered rules of existing installations: first match wins,
substrings, nothing matched is a code bug. `v1`, the default, reads only the window of the failing stage, leaves out
lines that report no failure (settings, progress, warnings, announced retries, finished checks), matches whole words,
and takes the last match of the strongest kind: a *cause* (out of memory, quota) outweighs a *symptom* that causes bring
about (connection refused, a time limit, a check that failed), that outweighs what a program *raised*, that a *report* that
something else failed, and a *hint* is any line that calls itself an error: it decides nothing but tells a person where
to look. Nothing matched, or hints only, is `unknown`, which is never unfeasible.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Protocol

from mlcc_dagster.core.compat_failure_rules import COMPAT_RULES, COMPAT_STAGE_RULES
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.failure_causes import CAUSES
from mlcc_dagster.core.failure_rules import (
    CHAIN_HEAD,
    CHAIN_LINK,
    DECORATION,
    LOCATED,
    NOISE,
    STACK_FRAME,
    STAGE_MARKER,
    STEMS,
    STEP_END,
    Rule,
    Strength,
)
from mlcc_dagster.core.failure_symptoms import SYMPTOMS
from mlcc_dagster.core.stages import SPELLINGS, Stage

RULES: tuple[Rule, ...] = (*CAUSES, *SYMPTOMS)
"""The rules of `v1`, in the order in which equals decide."""


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


PREFLIGHT = "preflight"
"""The category of what a declared constraint refutes: nothing was started and nothing paid."""


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
        PREFLIGHT,
        False,
        "unfeasible without having been started",
        "Change what the sentence names (instance, tp_degree, quantization, server), or the catalog where it is wrong.",
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
    wait = entry.wait(attempt)
    # a row of others may lie at the end of time, where nothing can be added
    return now + wait if datetime.max.replace(tzinfo=now.tzinfo) - now > wait else now


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
        """Read a log; an empty stage is detected from it, and with no match it is `unknown` without a line."""
        named = stage or marked_stage(log)
        lines = window(named, log)
        found = _strongest(lines, _rules_for(lines))
        if found is None:
            return Classification(
                named or "unknown", "unknown", CATEGORIES["unknown"].retryable, None, f"{self.name}/none@1"
            )
        rule, index = found
        line = lines[message_head(lines, index)].strip()
        # A log without markers: what the deciding line is about is the only honest evidence, since words such as
        # "build" or "test" stand in every log.
        named = named or Compat().detect_stage(line)
        name = f"{self.name}/{rule.id}@{rule.version}"
        return Classification(named, rule.category, CATEGORIES[rule.category].retryable, line, name)


def _rules_for(lines: Sequence[str]) -> Sequence[Rule]:
    """Return the rules that hold in a log: all but those that need company which is not there."""
    text = "\n".join(lines)
    return [rule for rule in RULES if rule.company is None or rule.company.search(text)]


def _strongest(lines: Sequence[str], rules: Sequence[Rule]) -> tuple[Rule, int] | None:
    """Return the rule that decides a log and the index of its line: the last match of the strongest kind."""
    found: tuple[Rule, int] | None = None
    for index in range(len(lines) - 1, -1, -1):
        rule = deciding_rule(lines[index], rules=rules)
        if rule is not None:
            found = (rule, index)
            if rule.strength is Strength.CAUSE:
                break
            rules = [stronger for stronger in rules if stronger.strength > rule.strength]
    return found


LINE_LENGTH = 2000
"""Characters of a line that are read: what failed is said at its beginning, and a page of JSON in one line must not hold
up the reading."""


def bare(line: str) -> str:
    """Return the beginning of a line without colour, byte order mark and time before it: what rules and noise are
    matched on."""
    line = line[:LINE_LENGTH]
    previous = None
    while previous != line:
        previous, line = line, DECORATION.sub("", line)
    return line.rstrip()


def deciding_rule(line: str, *, rules: Sequence[Rule] = RULES) -> Rule | None:
    """Return the strongest of `rules` that matches a line, the earlier of equals; none for noise."""
    text = bare(line)
    small = text.lower()
    if not any(stem in small for stem in STEMS) and not LOCATED.search(text):
        return None
    if any(pattern.search(text) for pattern in NOISE):
        return None
    matching = [rule for rule in rules if rule.pattern.search(text)]
    return max(matching, key=lambda rule: rule.strength, default=None)


def message_head(lines: Sequence[str], index: int) -> int:
    """Return the index of the line that begins the message which the line at `index` belongs to.

    An error that is printed with its chain of causes ("Caused by:" and what is indented below) is one message: its
    strongest link decides the category, its first line says what failed. A stack trace is none: there the line itself
    stands.
    """
    linked = False
    for at in range(index, -1, -1):
        text = bare(lines[at])
        if CHAIN_LINK.match(text):
            linked = True
        elif STACK_FRAME.match(text):
            return index
        elif CHAIN_HEAD.match(text):
            return at if linked and deciding_rule(text) is not None else index
    return index


def window(stage: str, log: str) -> Sequence[str]:
    """Return the lines that belong to the failing stage: from its last marker to the next stage's, ending where a
    runner ended the failing step; the whole log where it has no markers."""
    lines = log.splitlines()
    begin, end = 0, len(lines)
    markers = [(index, name) for index, line in enumerate(lines) if (name := _marker(line)) is not None]
    own = [index for index, name in markers if stage in _stages_of(name)]
    if own:
        begin = own[-1]
        end = next((index for index, name in markers if index > begin and stage not in _stages_of(name)), end)
    step_end = next((i for i in range(begin, end) if STEP_END.search(lines[i])), None)
    return lines[begin : end if step_end is None else step_end + 1]


def marked_stage(log: str) -> str:
    """Return the stage that the markers of a log say it failed in: the last one marked, `clean` (which runs after every
    failure) only where it is alone; the empty text for a log without markers."""
    marked = [
        stage.value
        for line in log.splitlines()
        if (name := _marker(line)) is not None and name in SPELLINGS
        for stage in SPELLINGS[name]
    ]
    before = [stage for stage in marked if stage != Stage.CLEAN]
    return (before or marked or [""])[-1]


def _marker(line: str) -> str | None:
    if len(line) > 200:
        return None
    match = STAGE_MARKER.match(bare(line))
    return (match["named"] or match["script"]).lower() if match else None


def _stages_of(name: str) -> Sequence[str]:
    """Return the stages that a marker stands for; one that names none of ours (`install`) stands for itself."""
    return SPELLINGS.get(name, (name,))


RULESETS: Mapping[str, Ruleset] = MappingProxyType({ruleset.name: ruleset for ruleset in (Compat(), FirstVersion())})
"""Rulesets by name."""


def ruleset_named(name: str) -> Ruleset:
    """Return the ruleset of that name. Raises `UsageError` naming the known ones."""
    try:
        return RULESETS[name]
    except KeyError:
        raise UsageError(f"unknown ruleset '{name}'; use one of {', '.join(RULESETS)}") from None


def classify(stage: str, log: str, ruleset: str = "v1") -> Classification:
    """Classify the full log of a failing stage by a named ruleset; an empty `stage` is detected from the log.

    Raises `UsageError` naming the known rulesets.
    """
    return ruleset_named(ruleset).classify(stage, log)
