"""Vectors for the tests of interactions and plans, and their combinations, read plainly from the definition."""

import itertools
from collections.abc import Iterable
from typing import Any

from hypothesis import strategies as st

from mlcc_dagster.core.configuration import DIMENSIONS, Vector
from mlcc_dagster.core.interactions import Interaction

BASE = Vector("vllm", "qwen3", "g5", "none", "1", "realtime-inference")

VECTORS = st.tuples(*(st.sampled_from(["", "a", "b", "1", "2", "10"][: 2 + axis]) for axis in range(6))).map(
    lambda values: Vector(*values)
)
SETS = st.lists(VECTORS, max_size=12)


def vector(**changed: Any) -> Vector:
    """A vector that has other values than the base in some dimensions."""
    return Vector(**{**dict(zip(DIMENSIONS, BASE.values(), strict=True)), **changed})


def alone(name: str) -> Vector:
    """A vector that shares no value with one of another name."""
    return Vector(*(f"{name}{axis}" for axis in range(6)))


def combinations(vectors: Iterable[Vector], strength: int = 2) -> set[Interaction]:
    """Every t-way combination that one of the vectors contains."""
    return {
        Interaction(names, tuple(getattr(each, name) for name in names))
        for each in vectors
        for names in itertools.combinations(DIMENSIONS, strength)
    }
