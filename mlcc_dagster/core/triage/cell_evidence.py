"""How strong the difference between a cell's failures and the baseline's is.

Belongs here: the exact test, the interval of the failure rate and how many trials would show a difference of this size. Not
here: what follows from it (`confound.py`). Sources: R. A. Fisher's exact test, one-sided; the Beta interval of Jeffreys;
the sample size of J. L. Fleiss, A. Tytun and H. K. Ury (1980), which is close to what the exact test needs.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from mlcc_dagster.core.triage.statistics import CellStatistics

SIGNIFICANCE = 0.05
"""What a mitigation is credited at: a difference that chance alone makes less often than this."""

POWER = 0.8
"""How often as many trials as are called needed show a difference of the size that was seen."""

INTERVAL_SHARE = 0.95

_Z_SIGNIFICANCE = float(special.ndtri(1 - SIGNIFICANCE))
_Z_POWER = float(special.ndtri(POWER))


@dataclass(frozen=True)
class Evidence:
    """Failures of a cell and of its baseline, each (failed, trials with a verdict), and what they show. `rate_low` and
    `rate_high` enclose the cell's failure rate with 95 %; `trials_needed` of each of both cells would show a difference as
    large as the one that was seen, none where the cell did not fail less often."""

    failed: int
    verdicts: int
    baseline_failed: int
    baseline_verdicts: int
    p_value: float
    rate_low: float
    rate_high: float
    trials_needed: int | None

    @property
    def p_text(self) -> str:
        """The p-value as a person reads it; a small one is never 0."""
        return "p < 0.0001" if self.p_value < 0.0001 else f"p = {self.p_value:.2g}"

    def line(self) -> str:
        """Return the evidence in one line."""
        counts = f"{self.baseline_failed} of {self.baseline_verdicts} failed in the baseline, {self.failed} of {self.verdicts} here"
        interval = f"failure rate {100 * self.rate_low:.1f} % to {100 * self.rate_high:.1f} % (95 % Beta interval)"
        line = f"{counts}; one-sided Fisher {self.p_text}; {interval}"
        if self.trials_needed is None:
            return line
        if self.p_value <= SIGNIFICANCE:
            return f"{line}; one plans {self.trials_needed} trials per cell for such a difference"
        return (
            f"{line}; no evidence yet: about {self.trials_needed} trials per cell are needed to show such a difference"
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "failed": self.failed,
            "verdicts": self.verdicts,
            "baseline_failed": self.baseline_failed,
            "baseline_verdicts": self.baseline_verdicts,
            "fisher_p_one_sided": self.p_value,
            "significance": SIGNIFICANCE,
            "failure_rate_low": self.rate_low,
            "failure_rate_high": self.rate_high,
            "trials_needed": self.trials_needed,
        }


def evidence_of(cell: CellStatistics, base: CellStatistics) -> Evidence:
    """Return what the failures of a cell show beside those of the baseline; both must have verdicts."""
    low, high = beta_interval(cell.failed, cell.verdicts)
    return Evidence(
        failed=cell.failed,
        verdicts=cell.verdicts,
        baseline_failed=base.failed,
        baseline_verdicts=base.verdicts,
        p_value=fisher_less(cell.failed, cell.verdicts, base.failed, base.verdicts),
        rate_low=low,
        rate_high=high,
        trials_needed=trials_needed(base.failed / base.verdicts, cell.failed / cell.verdicts),
    )


def fisher_less(failed: int, trials: int, base_failed: int, base_trials: int) -> float:
    """Return how likely it is that a cell with `trials` has `failed` failures or fewer, when both cells fail alike: the
    one-sided p-value of Fisher's exact test, the hypergeometric distribution with the failures of both cells shared out."""
    failures, together = failed + base_failed, trials + base_trials
    least = max(0, failures - base_trials)
    counts = np.arange(least, failed + 1)
    logs = _log_choose(trials, counts) + _log_choose(base_trials, failures - counts) - _log_choose(together, failures)
    return min(1.0, math.exp(float(np.asarray(special.logsumexp(logs)))))


def _log_choose(n: int, k: Any) -> Any:
    return special.gammaln(n + 1) - special.gammaln(np.add(k, 1)) - special.gammaln(n - np.asarray(k) + 1)


def beta_interval(failed: int, trials: int) -> tuple[float, float]:
    """Return the failure rates that enclose the true one with 95 %: quantiles of Beta(failed + 1/2, passed + 1/2), down to
    0 where nothing failed and up to 1 where everything did."""
    tail = (1 - INTERVAL_SHARE) / 2
    a, b = failed + 0.5, trials - failed + 0.5
    low = 0.0 if failed == 0 else float(special.betaincinv(a, b, tail))
    high = 1.0 if failed == trials else float(special.betaincinv(a, b, 1 - tail))
    return low, high


def trials_needed(base_rate: float, rate: float) -> int | None:
    """Return how many trials each of two cells needs to show, at `SIGNIFICANCE` and with `POWER`, that one fails at `rate`
    and not at the higher `base_rate`; none where it is not higher."""
    difference = base_rate - rate
    if difference <= 0:
        return None
    mean = (base_rate + rate) / 2
    spread = _Z_SIGNIFICANCE * math.sqrt(2 * mean * (1 - mean))
    spread += _Z_POWER * math.sqrt(base_rate * (1 - base_rate) + rate * (1 - rate))
    plain = (spread / difference) ** 2
    return math.ceil(plain / 4 * (1 + math.sqrt(1 + 4 / (plain * difference))) ** 2)
