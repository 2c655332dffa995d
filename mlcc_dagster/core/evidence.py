"""What a result depended on, so that a verdict can expire when exactly that changes.

Belongs here: the record of digests and versions. Not here: collecting them (executors do) or comparing them with today's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class Evidence:
    """What a result depended on: digests and versions by name (image, engine, template, python ...), and the kind of
    execution: `process`, `container` or `endpoint`."""

    engine: str
    execution: str
    digests: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
