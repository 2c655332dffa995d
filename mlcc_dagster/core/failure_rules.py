"""What a rule on a line of a log is, and what is known of any line before a rule is asked: the frame of the ruleset `v1`.

Belongs here: the form and the strength of rules, noise, markers. Not here: the rules themselves (`failure_causes.py`,
`failure_symptoms.py`), how they are applied (`failures.py`). Every rule carries a line that it must match, so that a new
rule brings its own fixture.
"""

import re
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property


class Strength(IntEnum):
    """How much a match says: any line that calls itself an error, a report of another failure, what a program raised, a
    symptom or a failed check that names itself, the cause.

    What a program raised is worth less than a symptom: programs print what they catch, and a check that fails names
    itself beside what it raised.
    """

    HINT = 1
    REPORT = 2
    CRASH = 3
    SYMPTOM = 4
    CAUSE = 5


@dataclass(frozen=True)
class Rule:
    """One rule of `v1`. `example` is a line that it decides; a rule whose meaning changes gets the next `version`.

    With `beside` the rule holds only in a log in which that expression matches too: a fact that takes two lines.
    """

    id: str
    category: str
    expression: str
    example: str
    strength: Strength = Strength.CAUSE
    case: bool = False
    version: int = 1
    beside: str | None = None

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """The compiled expression; case-insensitive unless `case`."""
        return re.compile(self.expression, 0 if self.case else re.IGNORECASE)

    @cached_property
    def company(self) -> re.Pattern[str] | None:
        """The compiled `beside`, case-insensitive; none where one line is enough."""
        return None if self.beside is None else re.compile(self.beside, re.IGNORECASE)


# fmt: off
STEMS: tuple[str, ...] = (
    " › ", "!!!", ".go:", "124", "[-w", "___", "abort", "alloc", "available", "broken", "can't", "cancel",
    "cannot find", "cannot load", "cannot serve", "capacity", "command", "compatible", "connect", "could not",
    "couldn't", "crash", "credential", "critical", "curl", "denied", "did not", "dirty", "divisible",
    "does not", "eaddrinuse", "eai_again", "enomem", "enospc", "enotfound", "epipe", "error", "exceed",
    "exception", "exit", "expired", "fail", "fatal", "forbidden", "formatted", "gated", "gateway",
    "greater than", "heap space", "hung up", "in use", "incompleteread", "input required", "insufficient",
    "interrupt", "invalid", "kill", "larger than", "limit", "lint", "lost", "memory", "mismatch",
    "name or service", "no language", "no matching", "no required", "no space", "no such", "nodename",
    "not found", "not ok", "notready", "oom", "optinrequired", "panic", "pending", "pull", "read-only",
    "recogni", "reformat", "refused", "region", "regression", "reset", "route", "schedul", "segment", "sigabrt",
    "sigbus", "sigill", "signal", "sigsegv", "slowdown", "solution", "supported", "taken", "terminated",
    "throttl", "timed", "timeout", "timing", "too many", "too small", "unable to", "unauthorized", "unbound",
    "undefined", "unknown", "unreachable", "warning", "x509", "xid",
)
# fmt: on
"""What a line must hold, one of them in small letters, to be matched with the rules at all: reading a log of millions of
lines takes minutes otherwise. A new rule may need a new stem."""

LOCATED = re.compile(r"^\S+\.\w+:\d+:")
"""A line that begins with a place in a source file is matched with the rules too, whatever it holds."""

NOISE: tuple[re.Pattern[str], ...] = tuple(
    re.compile(expression)
    for expression in (
        # Said at a level that is no failure. Capitals only: an event of type Warning is how a cluster reports one.
        r"^\W*(?:\S+[ \t]+){0,4}?[\[(]?(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING)\b",
        r"##\[(?:warning|debug|notice|group|endgroup|command)\]",
        r"\b\w*(?:Deprecation|Future|User|Resource|Runtime)Warning\b",
        # A retry that is announced has not failed yet.
        r"(?i)\b(?:retrying|will retry|retry(?:ing)? in|back(?:ing)? ?off \d|attempt \d+ ?(?:/|of) ?\d+)\b",
        # Settings and flags are no events: timeout=30, "timeout": 30, oom_score_adj=0.
        r"(?i)^\W*(?:export\s+)?[\"']?[\w.-]*(?:timeout|oom|memory|limit|retries|error)[\w.-]*[\"']?\s*[:=]\s*"
        r"[\"']?[-\d.]+\s?\w{0,3}[\"']?,?$",
        # What a shell echoes before it runs it (a bar of pluses is no echo), and what an echoed script would print.
        r"^\s*\+{1,6} ",
        r"^\s*(?:echo|printf|die|logger)\b",
        # Source lines of a traceback: what would be caught, raised or expected.
        r"^\s*(?:except|raise|assert|catch|throw|if|elif|with|warn|return)\b.*[:({\[,;)]$",
        # Advice, not an event.
        r"(?i)\b(?:to avoid|to prevent|in case of|in order to|if (?:you|it|there|this|any)|when you|may cause|can cause|"
        r"might cause)\b.{0,60}\b(?:out of memory|oom|tim(?:es?|ed)[ -]?out)\b",
        # Counters, and reports of success.
        r"(?i)\b(?:0|no) (?:errors?|failures?|failed|timeouts?)\b",
        r"(?i)^[\w /()+-]*\b(?:errors?|timeouts?|failures?)(?: \(\S+\))?\s+\d+$",
        r"(?:\bPASSED\b|\bPASS\b|\bok\b|\bSKIPPED\b|\bXFAIL\b)(?:\s*\[[^\]]*\])*\s*$",
        # Side tasks: reports, telemetry and compiler caches may fail without failing the stage.
        r"(?i)\b(?:upload|publish|send)\w*\b.{0,40}\b(?:reports?|artifacts?|telemetry|statistics|stats|metrics)\b",
        r"(?i)\b(?:cache|storage) (?:read|write|check)\b|\bs?ccache\b",
        # What every failing step says, whatever its cause.
        r"(?i)\bto show a full traceback\b|\bprocess completed with exit code\b|\bstep script exited with code\b",
        r"(?i)\bcontainer implementation failed\b|\bcommand did not exit successfully\b",
        r"(?i)\bphase complete: \w+ state: failed\b|\bif your build fails\b",
        r"(?i)^\W*(?:make(?:\[\d+\])?: \*\*\*|npm (?:ERR!|error) (?:code|A complete log)|ninja: build stopped)",
        r"(?i)\b(?:continue-on-error|fail-fast|error-handling|if-no-files-found|ignore-errors?|on-error)\b",
    )
)
"""Lines that report no failure, matched on the bare line (no time, no colour). They decide nothing, not even as a
hint."""

DECORATION = re.compile(
    r"\x1b\[[0-9;?]*[A-Za-z]|^\ufeff|^#\d+ \d+\.\d+ |^E {3,}(?=\S)|^\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|"
    r"[+-]\d\d:?\d\d)?\]?[ \t]?|^\[Container\] \S+ \S+ "
)
"""What stands before or around the words of a line: colour, byte order mark, time, step of an image build, the mark of
pytest before what a check raised."""

CHAIN_LINK = re.compile(r"^\s*(?:Caused by:|[├╰]─▶)")
"""A further cause in the chain of an error."""

CHAIN_HEAD = re.compile(r"^\S|^\s*× ")
"""A line at which a chain of causes can begin: not indented, or marked as the head."""

STACK_FRAME = re.compile(r"^\s+(?:at \S|\.\.\. \d+ more\b|File \")")
"""A line of a stack trace, whose causes are not told from the top."""

STAGE_MARKER = re.compile(
    r"^(?:\W*(?:stage|phase|entering phase|running stage|"
    r"starting stage)\b[ :=]+['\"]?(?P<named>[a-z_-]+)['\"]?\W*$"
    r"|\+*\s*(?:bash |sh )?(?:\./)?do/(?P<script>[a-z-]+)\b)",
    re.IGNORECASE,
)
"""A line that begins a stage in a log which holds several."""

STEP_END = re.compile(
    r"(?i)\bprocess completed with exit code [1-9]|\bphase complete: \w+ state: failed\b|"
    r"\bcommand did not exit successfully\b"
)
"""The line with which a runner ends a failing step; what comes after belongs to later steps."""
