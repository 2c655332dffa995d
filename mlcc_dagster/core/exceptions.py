"""Errors a person can act on: each carries one sentence that ends with what to do next.

Belongs here: exception classes that cross a floor. Not here: how they are shown (the command line does that)
and failures of a configuration under test, which are data (`failures.py`), never exceptions.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any


class MlccError(Exception):
    """Base of every error whose text may be shown to a person as it stands.

    `exit_code` is what a command exits with: 1 something failed, 2 the request itself was unusable.
    """

    exit_code = 1


class UsageError(MlccError):
    """The request names something that does not exist or cannot be done; nothing was started."""

    exit_code = 2


class InvalidInput(UsageError):
    """An input file or table breaks its schema. Carries every problem, not the first.

    `problems` are sentences, each with a path such as `local_path.yaml: entries[3].tier`.
    """

    def __init__(self, subject: str, problems: Sequence[str]) -> None:
        self.subject = subject
        self.problems = tuple(problems)
        count = len(self.problems)
        head = f"{subject} has {count} mistake{'s' if count != 1 else ''}; correct {'them' if count != 1 else 'it'} and try again:"
        super().__init__("\n".join([head, *(f"  - {problem}" for problem in self.problems)]))


class HomeError(UsageError):
    """The platform's home folder cannot be used as it is (not writable, made by a newer version)."""


class LeaseLost(MlccError):
    """A write was refused because another owner or a later generation holds the record (fencing)."""


class StageFailed(Exception):
    """Raised inside an executor to end a stage with `fail`; never crosses the lifecycle graph.

    `message` is one sentence. What the stage printed before stays in its log. `category` is set only where the
    executor knows the cause for a fact (a limit it enforced itself); otherwise the log is classified. `outputs` are JSON
    values that a stage leaves although it failed (the virtual seconds of one that was played).
    """

    def __init__(
        self,
        message: str,
        *,
        category: str | None = None,
        outputs: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.category = category
        self.outputs = outputs
