"""Rules of promised and spent money: what fits under a ceiling, what a finished run is charged.

Belongs here: the arithmetic of reservations and their records. Not here: keeping them (`resources.ledger`) or choosing
what to spend on (`planning.py`). Source of the rules: the budget is a hard invariant; reserve, run, settle.

Sums are taken in whole micro-dollars: added up as binary fractions, ten promises of 0.1 USD would not make exactly 1
USD.
"""

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from mlcc_dagster.core.exceptions import UsageError

_MICROS_PER_USD = 1_000_000

MOST_USD = 1e9
"""No amount is larger: sums of whole micro-dollars stay within the 64 bits that the books have for them."""


@dataclass(frozen=True)
class Reservation:
    """Money promised to one run. `state` goes reserved -> active -> settled, or reserved -> released; `spent_usd` is
    what was charged (never above `usd`), `overrun_usd` what was used beyond the promise; `deadline` in Unix seconds is
    when a promise whose run never started is released."""

    run_key: str
    budget: str
    run_id: str | None
    state: str
    usd: float
    spent_usd: float
    overrun_usd: float
    deadline: float


@dataclass(frozen=True)
class Totals:
    """The sums of one budget in USD, per state, and how many `runs` it was promised to (released ones aside). What was
    used beyond promises stands apart: it is no longer the ledger's to prevent, but it counts against every later
    promise."""

    reserved_usd: float
    active_usd: float
    spent_usd: float
    overrun_usd: float
    runs: int = 0

    @property
    def committed_usd(self) -> float:
        """Promised or spent: what may never pass the ceiling."""
        return usd_of(
            micros_promised(self.reserved_usd) + micros_promised(self.active_usd) + micros_promised(self.spent_usd)
        )


@dataclass(frozen=True)
class Budget:
    """What may be spent under a name. `ceiling_usd` is the lowest that anybody who promised from it has named, none for one
    of a time when ceilings were not kept."""

    name: str
    ceiling_usd: float | None
    totals: Totals
    created_at: str

    @property
    def left_usd(self) -> float | None:
        """What may still be promised, none without a known ceiling: 0 where overruns have used up more than there was."""
        if self.ceiling_usd is None:
            return None
        gone = micros_promised(self.totals.committed_usd) + micros_promised(self.totals.overrun_usd)
        return usd_of(max(0, micros_ceiling(self.ceiling_usd) - gone))


def micros_promised(usd: float) -> int:
    """Return an amount in micro-dollars, rounded up: a promise is never smaller than what was asked for.

    Raises `UsageError` for a negative or not finite amount and for one above `MOST_USD`.
    """
    return _micros(usd, ROUND_CEILING)


def micros_ceiling(usd: float) -> int:
    """Return a ceiling in micro-dollars, rounded down.

    Raises `UsageError` for a negative or not finite amount and for one above `MOST_USD`.
    """
    return _micros(usd, ROUND_FLOOR)


def usd_of(micros: int) -> float:
    """Return micro-dollars as USD."""
    return micros / _MICROS_PER_USD


def fits(*, committed: int, overrun: int, amount: int, ceiling: int) -> bool:
    """Whether another promise of `amount` leaves everything at or below the ceiling, the first promise included.

    All in micro-dollars; `committed` is reserved + active + spent.
    """
    return committed + overrun + amount <= ceiling


def charge(*, promised: int, used: int) -> tuple[int, int]:
    """Split what a run used into what its promise covers and what went beyond, in micro-dollars.

    The covered part is what is charged, so that settling can only ever lower the sum of a budget.
    """
    return min(used, promised), max(0, used - promised)


def _micros(usd: float, rounding: str) -> int:
    if not 0 <= usd <= MOST_USD:  # not a number is neither
        raise UsageError(f"{usd} is no amount of money; give USD as a number of at least 0 and at most {MOST_USD:.0f}")
    # str() gives the shortest decimal that means the same float: 0.07 is 70,000 micro-dollars and not 70,001
    return int((Decimal(str(usd)) * _MICROS_PER_USD).to_integral_value(rounding))
