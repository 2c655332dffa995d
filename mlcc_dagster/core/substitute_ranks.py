"""How substitutes are ordered: ranks by name, behind one interface.

Belongs here: the names and what they stand for. Not here: the order by differing dimensions (`substitution.py`), the order by
learned swap costs (`predicted_substitution.py`), how an answer is shown.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, Union

from mlcc_dagster.core.configuration import Vector
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.substitution import Answer, SubstitutionIndex

if TYPE_CHECKING:
    from mlcc_dagster.core.predicted_substitution import PredictedAnswer

Rows = Sequence[Mapping[str, Any]]
Prices = Mapping[str, float | None]
"""USD per hour by instance type, none where the price is not known."""

RankedAnswer = Union[Answer, "PredictedAnswer"]
"""The substitutions for one request, best first, or the message why there is none. Every rank beyond `hamming` says more of
the request, in a type of its own."""


class Rank(Protocol):
    """Answers a request with the best `top` substitutions among result rows."""

    def __call__(self, rows: Rows, requested: Vector, *, top: int, usd_per_hour: Prices) -> RankedAnswer:
        """Return the answer. Raises `UsageError` for `top` below 1 and `InvalidInput` naming every time of a row that cannot
        be read."""
        ...


def by_distance(rows: Rows, requested: Vector, *, top: int, usd_per_hour: Prices) -> Answer:
    """Rank `hamming`: fewest differing dimensions first; prices do not matter. See `SubstitutionIndex`."""
    return SubstitutionIndex(rows).answer(requested, top=top)


def by_swap_cost(rows: Rows, requested: Vector, *, top: int, usd_per_hour: Prices) -> "PredictedAnswer":
    """Rank `predicted`: the lowest learned swap cost first. See `predicted_substitution.predicted_answer`."""
    # Learning needs scipy's optimizer, nearly a second of imports that the other rank must not wait for.
    from mlcc_dagster.core.predicted_substitution import predicted_answer

    return predicted_answer(rows, requested, top=top, usd_per_hour=usd_per_hour)


RANKS: Mapping[str, Rank] = MappingProxyType({"hamming": by_distance, "predicted": by_swap_cost})


def rank_named(name: str) -> Rank:
    """Return the rank of that name. Raises `UsageError` naming the known ones."""
    try:
        return RANKS[name]
    except KeyError:
        raise UsageError(f"unknown rank '{name}'; use one of {', '.join(RANKS)}") from None
