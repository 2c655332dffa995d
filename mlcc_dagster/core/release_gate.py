"""May this be released: enough models of a tier pass, and what does not pass is named.

Belongs here: the decision and its reasons. Not here: a deployment gate against a baseline of measured values, reading the
table (`resources.ci_lines`). Source: the release gate of continuous validation, at least ceil(5/6 x N) of the N models of the
ci tier.

It fails closed: only a pass that is recent enough counts. Untested, running, stale, not registered, of the future or of an
unknown time is no pass, and a tier without models releases nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

RELEASE_TIER = "ci"
_CLOCKS_APART = timedelta(minutes=5)
"""Clocks of machines differ; what lies further ahead is no time of a test."""


@dataclass(frozen=True)
class Candidate:
    """One entry of the tier. `model` is none where the server brings its own; `test_status` is none where it is not
    registered; `last_test` is ISO 8601 text."""

    name: str
    model: str | None
    test_status: str | None
    last_test: str | None


@dataclass(frozen=True)
class ModelVerdict:
    """Whether a model passes, and why not: one sentence per entry of it that does not."""

    model: str
    entries: tuple[str, ...]
    reasons: tuple[str, ...]

    @property
    def passes(self) -> bool:
        """A model passes when all its entries do."""
        return not self.reasons


@dataclass(frozen=True)
class ReleaseDecision:
    """The decision on a tier: how many of its models pass and how many must."""

    tier: str
    needed: int
    models: tuple[ModelVerdict, ...]

    @property
    def passing(self) -> int:
        """How many models pass."""
        return sum(model.passes for model in self.models)

    @property
    def released(self) -> bool:
        """Whether enough models pass; of no model that is never so."""
        return bool(self.models) and self.passing >= self.needed

    @property
    def reasons(self) -> tuple[str, ...]:
        """Everything that does not pass, also where enough does."""
        if not self.models:
            return (f"tier {self.tier} has no model; `mlcc catalog list --tier {self.tier}` shows its entries",)
        return tuple(reason for model in self.models for reason in model.reasons)

    @property
    def sentence(self) -> str:
        """The decision in one sentence."""
        what = "may be released" if self.released else "must not be released"
        return f"{what}: {self.passing} of {len(self.models)} models of tier {self.tier} pass, {self.needed} are needed"

    def to_json(self) -> dict[str, Any]:
        """Return the decision with every reason."""
        return {
            "tier": self.tier,
            "released": self.released,
            "passing": self.passing,
            "needed": self.needed,
            "models": len(self.models),
            "reasons": list(self.reasons),
        }


def needed_of(models: int) -> int:
    """Return ceil(5/6 x N) in whole numbers: floats would ask for one too many where 5 N / 6 is whole."""
    return -(-5 * models // 6)


def decide(
    candidates: Sequence[Candidate], *, now: datetime, stale_after_seconds: float, tier: str = RELEASE_TIER
) -> ReleaseDecision:
    """Decide on a tier from all its entries. `now` is aware; a pass older than `stale_after_seconds` does not count."""
    models: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        models.setdefault(candidate.model or candidate.name, []).append(candidate)
    verdicts = tuple(
        ModelVerdict(
            model=model,
            entries=tuple(entry.name for entry in entries),
            reasons=tuple(
                f"{entry.name}: {why}" for entry in entries if (why := _why_not(entry, now, stale_after_seconds))
            ),
        )
        for model, entries in models.items()
    )
    return ReleaseDecision(tier, needed_of(len(verdicts)), verdicts)


def _why_not(candidate: Candidate, now: datetime, stale_after_seconds: float) -> str | None:
    if candidate.test_status is None:
        return "not registered, so never tested"
    if candidate.test_status == "running":
        return "its test is running; wait for it to end"
    if candidate.test_status != "pass":
        return candidate.test_status
    try:
        tested = datetime.fromisoformat(candidate.last_test or "")
    except ValueError:
        return f"passes, but nobody knows since when (last test: {candidate.last_test or 'none'}); test it again"
    age = now - (tested if tested.tzinfo else tested.replace(tzinfo=UTC))
    if age < -_CLOCKS_APART:
        return f"its last test lies in the future ({candidate.last_test}); set the clocks and test it again"
    if age > timedelta(seconds=stale_after_seconds):
        hours = age.total_seconds() / 3600
        return f"stale: it passed {hours:.1f} h ago, {stale_after_seconds / 3600:g} h are allowed; test it again"
    return None
