"""Versions of models: how one is written, and which comes after which.

Belongs here: reading `vX.Y.Z` and `vX.Y.Z-dev[.N]` and their order (Semantic Versioning 2.0.0, items 2 and 11). Not here:
who may be given one (`model_registry.py`).
"""

import re
from dataclasses import dataclass, field

from mlcc_dagster.core.exceptions import UsageError

# [0-9] and not \d, which also means digits of other scripts; nine digits are more than anybody releases.
_NUMBER = "(0|[1-9][0-9]{0,8})"
_VERSION = re.compile(rf"v{_NUMBER}\.{_NUMBER}\.{_NUMBER}(-dev(?:\.{_NUMBER})?)?")


@dataclass(frozen=True, order=True)
class Version:
    """A version. Versions are ordered as Semantic Versioning orders them: v1.0.0-dev < v1.0.0-dev.1 < v1.0.0 <
    v1.0.1-dev."""

    _key: tuple[int, ...] = field(repr=False)
    text: str = field(compare=False)

    @classmethod
    def read(cls, text: str) -> "Version":
        """Read a version. Raises `UsageError` for anything else: other forms would let one version have two names."""
        found = _VERSION.fullmatch(text)
        if found is None:
            shown = text if len(text) <= 40 else f"{text[:40]}..."
            raise UsageError(
                f"{shown!r} is no version; write it as v1.2.3, outside production as v1.2.3-dev or v1.2.3-dev.4"
            )
        major, minor, patch, dev, count = found.groups()
        final = dev is None
        return cls((int(major), int(minor), int(patch), int(final), -1 if count is None else int(count)), text)

    @property
    def dev(self) -> bool:
        """Whether it is a version for trying, which production never uses."""
        return not self._key[3]

    def __str__(self) -> str:
        return self.text
