"""Turning what a person typed into configurations: a tier, a catalog id, a config id or a unique beginning of one."""

from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches

from catalog.model import Catalog, Entry
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.resolution import configuration_of
from resources.home import Home
from resources.sqlite_ci_table import SqliteCiTable

SHOWN_MATCHES = 8


def tier_entries(catalog: Catalog, tier: str) -> tuple[Entry, ...]:
    """Return the entries of a tier; raises `UsageError` naming the tiers."""
    if tier not in catalog.tiers:
        raise UsageError(f"no tier '{tier}'; use one of {', '.join(catalog.tiers)}")
    return tuple(catalog.tier_entries(tier))


def registered_configurations(home: Home) -> dict[str, Configuration]:
    """Return the configurations that ran in a home, by config id; a home that is not there has none and is not made."""
    if not home.exists():
        return {}
    return {record.config_id: record.configuration for record in SqliteCiTable(home.database).records()}


def one_configuration(
    catalog: Catalog, registered: Mapping[str, Configuration], text: str
) -> tuple[str, Configuration]:
    """Return the config id and configuration that a text names: a catalog id of any tier, a config_id, or a unique
    beginning of either. `registered` are the configurations beside the catalog's.

    Raises `UsageError` with the near ones where none matches, with all matches where several do.
    """
    entries = (configuration_of(entry, catalog) for entry in catalog.entries)
    known = {**registered, **{config_id(configuration): configuration for configuration in entries}}
    key = named_config_id(catalog, registered, text)
    return key, known[key]


def named_config_id(
    catalog: Catalog, registered: Iterable[str], text: str, *, measured: Collection[str] = frozenset()
) -> str:
    """Return the config id that a text names, as `one_configuration` does and with its errors; `registered` and `measured` are
    ids beside the catalog's. Of several matches the measured ones are named first."""
    names = {entry.id: config_id(configuration_of(entry, catalog)) for entry in catalog.entries}
    known = {*names.values(), *registered, *measured}
    if text in names:
        return names[text]
    if text in known:
        return text
    matches = {name: key for name, key in names.items() if name.startswith(text)}
    # ids are made in lower case here; imported ones are as they came
    matches |= {key: key for key in known if key.startswith((text, text.lower()))}
    keys = sorted(set(matches.values()))
    if not text:
        raise UsageError("--config is empty; name a catalog id or a config_id, `mlcc catalog list` shows both")
    if len(keys) == 1:
        return keys[0]
    if keys:
        shown = sorted(matches, key=lambda name: (matches[name] not in measured, name))
        more = ", ..." if len(shown) > SHOWN_MATCHES else ""
        raise UsageError(
            f"'{text}' names {len(keys)} configurations ({', '.join(shown[:SHOWN_MATCHES])}{more}); "
            "add characters until one is left"
        )
    near = get_close_matches(text, [*names, *sorted(known)], n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "`mlcc catalog list` shows all"
    raise UsageError(f"no configuration '{text}'; {hint}")
