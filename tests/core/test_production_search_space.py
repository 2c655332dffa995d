"""A production search space as a universe: thousands of vectors, gaps and interaction coverage in one look."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlcc_dagster.core.configuration import DIMENSIONS, Vector
from mlcc_dagster.core.gaps import observed_gaps
from mlcc_dagster.core.interactions import interaction_coverage

CONFIGS = Path(__file__).parents[3] / "shared" / "realdata" / "inferencex" / "configs"

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not CONFIGS.exists(), reason="the shared real data is not beside this checkout"),
]


def degrees(entry: dict[str, Any]) -> Iterator[int]:
    for part in (entry, entry.get("prefill") or {}, entry.get("decode") or {}):
        if "tp" in part:
            yield part["tp"]


def declared() -> list[Vector]:
    """Every vector that the two master files ask for: framework, model, runner, precision, tensor parallelism."""
    found: dict[Vector, None] = {}
    for name in ("nvidia-master.yaml", "amd-master.yaml"):
        for job in yaml.safe_load((CONFIGS / name).read_text("utf-8")).values():
            for cases in job["scenarios"].values():
                for entry in itertools.chain.from_iterable(case["search-space"] for case in cases):
                    for tp in degrees(entry):
                        family, runner = job["model-prefix"], job["runner"]
                        found[
                            Vector(job["framework"], family, runner, job["precision"], str(tp), "realtime-inference")
                        ] = None
    return list(found)


def test_gaps_and_interactions_of_a_production_search_space_add_up() -> None:
    vectors = declared()
    rows = [dict(zip(DIMENSIONS, vector.values(), strict=True)) | {"status": "completed"} for vector in vectors]
    gaps = observed_gaps(rows)
    values = [list(dict.fromkeys(getattr(vector, name) for vector in vectors)) for name in DIMENSIONS]
    product = [Vector(*each) for each in itertools.product(*values)]
    assert len(vectors) > 100
    assert len(gaps) == len(product) - len(vectors)
    assert set(gaps).isdisjoint(vectors)
    for strength in (1, 2, 3):
        found = interaction_coverage(product, vectors, strength=strength)
        for subset in found.subsets:
            pick = [DIMENSIONS.index(name) for name in subset.dimensions]
            assert subset.covered == len({tuple(v.values()[axis] for axis in pick) for v in vectors})
        print(f"{strength}-way: {found.share[0]} of {found.share[1]}")
    print(
        f"{len(vectors)} declared vectors of {len(product)}, {len(gaps)} gaps, best has {gaps.neighbours[0]} neighbours"
    )
