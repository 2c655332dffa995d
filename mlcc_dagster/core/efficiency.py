"""What the engine's own signals advise, whatever they are compared with.

Belongs here: the signals, their limits and the advice. Not here: regressions (`comparison.py`), advice on configurations
(`recommendation.py`). Source: the efficiency hints of existing installations.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

_RATIO_LIMIT = 1.5  # a share of a cache is never above 1: what is larger was written in percent


@dataclass(frozen=True)
class Signal:
    """A column with the limit it should keep: at most, or at least where `least`; `share` says that it may also be written in
    percent."""

    column: str
    limit: float
    least: bool
    share: bool
    advice: str


SIGNALS: Mapping[str, Signal] = MappingProxyType(
    {
        each.column: each
        for each in (
            Signal(
                "kv_cache_util_avg",
                0.95,
                False,
                True,
                "Reduce IC_COPY_COUNT or increase VRAM — KV cache is nearly saturated.",
            ),
            Signal(
                "prefix_cache_hit_rate",
                0.1,
                True,
                True,
                "Low prefix cache hit rate — review prompt templating for shared prefixes.",
            ),
            Signal(
                "queue_depth_waiting_avg",
                5,
                False,
                False,
                "Requests are queueing — scale IC_COPY_COUNT to add capacity.",
            ),
        )
    }
)
"""The signals by column, in the order of reports."""


def efficiency_hints(observed: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return a hint for every signal beyond its limit; what was not observed gives none."""
    found = []
    for signal in SIGNALS.values():
        value = observed.get(signal.column)
        if value is None:
            continue
        share = value / 100 if signal.share and value > _RATIO_LIMIT else value
        if share < signal.limit if signal.least else share > signal.limit:
            found.append(
                {
                    "type": "efficiency",
                    "signal": signal.column,
                    "observed": share,
                    "threshold": signal.limit,
                    "recommendation": signal.advice,
                }
            )
    return found
