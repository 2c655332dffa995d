"""The universe adds up: every vector of the product is possible, or counted under what rules it out."""

from math import prod

import pytest

from catalog.loader import load_catalog
from catalog.model import Instance
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.resolution import resolve
from mlcc_dagster.core.universe import EXECUTOR, Universe, universe_values

CATALOG = load_catalog()


def runs_all(configuration: Configuration) -> str | None:
    return None


def runs_none(configuration: Configuration) -> str | None:
    return "is asleep"


def is_local(instance: Instance) -> bool:
    return instance.local


def test_possible_and_excluded_vectors_are_the_whole_product() -> None:
    found = Universe.of(CATALOG, runs_all)
    assert len(found.possible) + sum(found.excluded.values()) == prod(map(len, universe_values(CATALOG).values()))
    assert len(set(found.possible)) == len(found.possible)


def test_a_size_counts_the_vectors_that_share_what_is_fixed() -> None:
    found = Universe.of(CATALOG, runs_all, reaches=is_local)
    assert found.size() == len(found.possible) + sum(found.excluded.values())
    assert found.size("quantization") * len(found.values["quantization"]) == found.size()
    assert found.size(*found.values) == 1


def test_what_rules_out_is_a_constraint_of_the_catalog_or_the_executor() -> None:
    found = Universe.of(CATALOG, runs_none, reaches=is_local)
    assert found.possible == ()
    assert found.excluded[EXECUTOR] > 0
    assert set(found.excluded) - {EXECUTOR} <= set(CATALOG.constraints)


@pytest.mark.parametrize("reaches", [is_local, lambda instance: not instance.local], ids=["here", "elsewhere"])
def test_the_reach_cuts_the_universe_and_nothing_within_it(reaches) -> None:
    whole = Universe.of(CATALOG, runs_all).possible
    families = {family for family, found in CATALOG.instances_by_family.items() if any(map(reaches, found))}
    assert Universe.of(CATALOG, runs_all, reaches=reaches).possible == tuple(
        vector for vector in whole if vector.instance_family in families
    )


def test_every_possible_vector_can_be_made_concrete() -> None:
    for vector in Universe.of(CATALOG, runs_all).possible[::97]:
        assert isinstance(resolve(vector, CATALOG, runs_all), Configuration)
