"""What a person types names a configuration: whole names, unique beginnings, and what is said of all others."""

import pytest

from catalog.loader import load_catalog
from mlcc_dagster.cli.targets import one_configuration, registered_configurations, tier_entries
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.resolution import configuration_of
from resources.home import Home

CATALOG = load_catalog()
ENTRY = next(entry for entry in CATALOG.entries if entry.id == "local-fastapi-forest-1cpu")
CONFIGURATION = configuration_of(ENTRY, CATALOG)
KEY = config_id(CONFIGURATION)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (ENTRY.id, "a catalog id"),
        (KEY, "a config_id"),
        (KEY.upper(), "a config_id copied from a page that shows capitals"),
        ("local-fastapi-forest-1", "a unique beginning of a catalog id"),
        (KEY[:10], "a unique beginning of a config_id"),
    ],
)
def test_a_name_or_its_unique_beginning_is_the_configuration(text: str, reason: str):
    assert one_configuration(CATALOG, {}, text) == (KEY, CONFIGURATION), reason


@pytest.mark.parametrize("entry", CATALOG.entries, ids=lambda entry: entry.id)
def test_every_catalog_id_names_its_own_configuration_even_where_it_begins_another(entry):
    key, configuration = one_configuration(CATALOG, {}, entry.id)
    assert configuration == configuration_of(entry, CATALOG)
    assert key == config_id(configuration)


def test_a_configuration_that_only_the_home_knows_is_found():
    assert one_configuration(CATALOG, {"feedbeef": CONFIGURATION}, "feedb") == ("feedbeef", CONFIGURATION)


def test_an_ambiguous_beginning_lists_what_it_may_mean():
    with pytest.raises(UsageError, match=r"'local-' names \d+ configurations \(local-.*add characters"):
        one_configuration(CATALOG, {}, "local-")


def test_a_long_list_of_matches_says_that_it_goes_on():
    with pytest.raises(UsageError, match=r"'rt-' names \d+ configurations \((rt-[\w.-]+, ){8}\.\.\.\)"):
        one_configuration(CATALOG, {}, "rt-")


@pytest.mark.parametrize("text", ["", "%", "*"])
def test_what_would_match_everything_matches_nothing(text: str):
    with pytest.raises(UsageError, match="mlcc catalog list"):
        one_configuration(CATALOG, {}, text)


def test_a_home_that_is_not_there_registers_nothing_and_is_not_made(tmp_path):
    assert registered_configurations(Home(tmp_path / "home")) == {}
    assert not (tmp_path / "home").exists()


def test_the_tiers_share_out_all_entries():
    assert {e.id for tier in CATALOG.tiers for e in tier_entries(CATALOG, tier)} == {e.id for e in CATALOG.entries}
