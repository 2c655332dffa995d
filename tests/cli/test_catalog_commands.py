"""`catalog list` and `catalog validate` over the shipped catalog."""

import pytest
from command_calls import Call

from catalog.loader import load_catalog
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.resolution import configuration_of

CATALOG = load_catalog()


def test_the_list_has_every_entry_with_its_id_and_whether_it_runs_here(mlcc: Call):
    answer = mlcc("catalog", "list", "--json")
    assert (answer.code, answer.err) == (0, "")
    entries = answer.document["entries"]
    assert answer.document["executor"] == "local"
    assert [entry["id"] for entry in entries] == [entry.id for entry in CATALOG.entries]
    for shown, entry in zip(entries, CATALOG.entries, strict=True):
        assert shown["config_id"] == config_id(configuration_of(entry, CATALOG))
        assert shown["runs_here"] == (shown["reason"] is None)
        assert shown["runs_here"] == (entry.tier == "local")


@pytest.mark.parametrize("tier", CATALOG.tiers)
def test_a_tier_lists_its_entries_alone_one_line_each(tier: str, mlcc: Call):
    lines = mlcc("catalog", "list", "--tier", tier).out.splitlines()
    assert [line.split()[0] for line in lines[3:]] == [entry.id for entry in CATALOG.tier_entries(tier)]
    assert all("-" * 5 not in line for line in lines[3:])


def test_listing_makes_no_home(mlcc: Call, home):
    mlcc("catalog", "list")
    mlcc("catalog", "validate")
    assert not home.exists()


def test_the_shipped_catalog_is_sound(mlcc: Call):
    document = mlcc("catalog", "validate", "--json").document
    assert document["valid"] is True
    assert document["problems"] == []
    assert document["counts"]["entries"] == len(CATALOG.entries)
    assert mlcc("catalog", "validate").out.startswith(f"the catalog is sound: {len(CATALOG.entries)} entries")
