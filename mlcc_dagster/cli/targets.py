"""Turning what a person typed into configurations: a tier, a catalog id, a config id or a unique beginning of one."""

from difflib import get_close_matches

from catalog.model import Catalog, Entry
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.resolution import configuration_of
from resources.platform import Platform


def tier_entries(catalog: Catalog, tier: str) -> tuple[Entry, ...]:
    """Return the entries of a tier; raises `UsageError` naming the tiers."""
    if tier not in catalog.tiers:
        raise UsageError(f"no tier '{tier}'; use one of {', '.join(catalog.tiers)}")
    return tuple(catalog.tier_entries(tier))


def one_configuration(platform: Platform, text: str) -> tuple[str, Configuration]:
    """Return the config id and configuration that a text names: a catalog id of any tier, a config_id, or a unique
    beginning of either.

    Raises `UsageError` with the near ones where none matches, with all matches where several do.
    """
    known = platform.configurations()
    names = {entry.id: config_id(configuration_of(entry, platform.catalog)) for entry in platform.catalog.entries}
    if text in names:
        return names[text], known[names[text]]
    if text in known:
        return text, known[text]
    matches = {name: key for name, key in names.items() if name.startswith(text)}
    matches |= {key: key for key in known if key.startswith(text.lower())}
    keys = sorted(set(matches.values()))
    if text and len(keys) == 1:
        return keys[0], known[keys[0]]
    if text and keys:
        shown = ", ".join(sorted(matches)[:8])
        raise UsageError(f"'{text}' names {len(keys)} configurations ({shown}); add characters until one is left")
    near = get_close_matches(text, [*names, *known], n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "see `mlcc catalog list`"
    raise UsageError(f"no configuration '{text}'; {hint}")
