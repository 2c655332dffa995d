"""The ordered rules and the stage detection of existing installations, kept as they are: the data of the ruleset `compat`.

Belongs here: what must answer as those installations do. Not here: rules of our own (`failure_causes.py`,
`failure_symptoms.py`), how either is applied (`failures.py`).
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class CompatRule:
    """A rule of `compat`: its place in the order, its category, what is searched for (case-insensitive, within a
    line)."""

    order: int
    category: str
    pattern: re.Pattern[str]


def _compat(expression: str) -> re.Pattern[str]:
    # A line of the original ends at a lone carriage return too, and its words are ASCII words.
    return re.compile(expression.replace("..", r"[^\n\r\u2028\u2029]*"), re.IGNORECASE | re.ASCII)


_COMPAT: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("capacity", ("InsufficientInstanceCapacity", "CapacityError", "no capacity")),
    ("timeout", (r"timed?\s*out", "timeout", "deadline exceeded")),
    ("oom", ("OutOfMemory", "OOM", "CUDA out of memory", "Cannot allocate memory", "killed..memory")),
    ("code_bug", ("template..error", "SyntaxError", "ReferenceError", "TypeError", "script crash", "rendering failed")),
    ("model_incompatibility", ("not supported..model", "model..incompatible", "unsupported..architecture")),
    ("model_incompatibility", ("LoRA..not supported", "adapter..not compatible")),
    ("service_limitation", ("not available..region", "service..not supported", "API..not available")),
    ("service_limitation", ("feature..not..region", "ValidationException")),
)
COMPAT_RULES: tuple[CompatRule, ...] = tuple(
    CompatRule(order, category, _compat(expression))
    for order, (category, expression) in enumerate(
        ((category, expression) for category, expressions in _COMPAT for expression in expressions), start=1
    )
)
"""The order is the rule: the first one that matches anywhere decides. `..` stands for anything on the same line."""

COMPAT_STAGE_RULES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("generate", _compat(r"\b(?:generate|generation)\b")),
    ("stage", _compat(r"\bdo/stage\b|model[^\n\r]staging|pre-stage|s3..stag")),
    ("build", _compat(r"\b(?:build|docker)\b")),
    ("push", _compat(r"\b(?:push|ecr|registry)\b")),
    ("deploy", _compat(r"\b(?:deploy|endpoint|CreateEndpoint|InferenceComponent)\b")),
    ("test", _compat(r"\b(?:test|invoke|invocation|inference)\b")),
    ("tune", _compat(r"\b(?:tune|customization|fine-tun|finetun)\b")),
    ("adapter", _compat(r"\b(?:adapter|lora)\b")),
    ("benchmark", _compat(r"\b(?:benchmark|bench)\b")),
    ("register", _compat(r"\b(?:register|dynamo)\b")),
    ("clean", _compat(r"\b(?:clean|delete)\b")),
)
"""Which stage a log belongs to, in order: the first whose words occur anywhere."""
