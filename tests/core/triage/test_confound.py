"""Tags: which one a cell gets, exactly at the threshold, and what must not read as a cure."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcc_dagster.core.triage.confound import Tag, assess, baseline_warnings, percent_more
from mlcc_dagster.core.triage.statistics import CellStatistics, statistics_of
from mlcc_dagster.core.triage.trials import ExitStatus, TrialResult


def numbers(passed: int, failed: int, errors: int = 0, step_ms: float | None = 10.0) -> CellStatistics:
    statuses = [ExitStatus.OK] * passed + [ExitStatus.WORKLOAD_FAILED] * failed
    statuses += [ExitStatus.INFRASTRUCTURE_FAILED] * errors
    times = () if step_ms is None else (step_ms,)
    return statistics_of(
        [
            TrialResult("c", n, status, "", 1.0, 1, times if n < passed + failed else ())
            for n, status in enumerate(statuses)
        ]
    )


def tag_of(cell: CellStatistics, base: CellStatistics, threshold: float = 1.15) -> Any:
    return assess({"base": base, "cell": cell}, "base", threshold)["cell"]


BASE = numbers(12, 8)


@pytest.mark.parametrize(
    ("cell", "base", "tag", "text", "why"),
    [
        (numbers(0, 0, errors=5), BASE, Tag.ERROR, "error", "no trial said anything"),
        (numbers(0, 0), BASE, Tag.NEVER_RAN, "never ran", "no trial ended"),
        (numbers(20, 0), numbers(0, 0, errors=3), Tag.NOT_COMPARABLE, "n/a (baseline unusable)", "nothing to compare"),
        (numbers(20, 0), numbers(0, 0), Tag.NOT_COMPARABLE, "n/a (baseline unusable)", "the baseline never ran"),
        (numbers(20, 0, step_ms=None), BASE, Tag.NOT_COMPARABLE, "n/a (timing not per step)", "the cell is not timed"),
        (
            numbers(20, 0),
            numbers(12, 8, step_ms=None),
            Tag.NOT_COMPARABLE,
            "n/a (timing not per step)",
            "nor the baseline",
        ),
        (numbers(20, 0, step_ms=12.0), BASE, Tag.SPEED, "speed (+20%)", "slower comes before any cure"),
        (numbers(0, 20, step_ms=12.0), BASE, Tag.SPEED, "speed (+20%)", "and before no effect"),
        (numbers(12, 8), BASE, Tag.NO_EFFECT, "no effect", "an equal rate is not lower"),
        (numbers(0, 20), BASE, Tag.NO_EFFECT, "no effect", "nor is a higher one"),
        (numbers(20, 0), BASE, Tag.CREDITED, "credited (p = 0.0016)", "a difference that chance hardly makes"),
        (numbers(20, 0, step_ms=2.0), BASE, Tag.CREDITED, "credited (p = 0.0016)", "faster is no confound"),
        (numbers(6, 2), numbers(5, 3), Tag.UNDECIDED, "undecided (p = 0.5)", "3 of 8 to 2 of 8 is no evidence"),
        (
            numbers(18, 0, errors=2),
            BASE,
            Tag.UNDECIDED,
            "undecided (too many of its trials were errors)",
            "one error in ten is too many",
        ),
        (numbers(19, 0, errors=1), BASE, Tag.CREDITED, "credited (p = 0.002)", "one in twenty is not"),
        (
            numbers(20, 0),
            numbers(10, 8, errors=2),
            Tag.UNDECIDED,
            "undecided (too many of the baseline's trials were errors)",
            "the baseline is held to the same",
        ),
    ],
)
def test_a_cell_is_tagged_in_the_order_of_the_rule(cell, base, tag, text, why):
    assessment = tag_of(cell, base)
    assert (assessment.tag, assessment.text) == (tag, text), why


def test_the_baseline_is_the_baseline_whatever_it_did_but_for_errors():
    for base, tag in ((BASE, Tag.BASELINE), (numbers(0, 0, errors=2), Tag.ERROR), (numbers(0, 0), Tag.NEVER_RAN)):
        assert assess({"base": base}, "base", 1.15)["base"].tag is tag


@pytest.mark.parametrize(
    ("base_ms", "cell_ms", "threshold", "speed", "why"),
    [
        (100.0, 115.0, 1.15, False, "exactly at the threshold is not above it"),
        (100.0, 115.001, 1.15, True, "a little above is"),
        (3.0, 3.45, 1.15, False, "3.45 / 3.0 is above 1.15 in binary and exactly 1.15 as written"),
        (0.1, 0.3, 3.0, False, "and so is 0.3 / 0.1"),
        (7.0, 7.7, 1.1, False, "7.7 / 7.0 the same"),
        (10.0, 8.0, 0.8, False, "a threshold below 1 works alike"),
        (10.0, 8.1, 0.8, True, "also above it"),
    ],
)
def test_the_threshold_is_exact(base_ms, cell_ms, threshold, speed, why):
    assessment = tag_of(numbers(20, 0, step_ms=cell_ms), numbers(12, 8, step_ms=base_ms), threshold)
    assert (assessment.tag is Tag.SPEED) is speed, why


@given(
    step=st.decimals(min_value="0.001", max_value="9999", places=3, allow_nan=False),
    threshold=st.decimals(min_value="0.01", max_value="20", places=2, allow_nan=False),
)
def test_no_product_of_written_numbers_falls_off_the_threshold(step, threshold):
    """However binary rounds: step times threshold, written out, is never slower than the threshold."""
    assessment = tag_of(
        numbers(20, 0, step_ms=float(step * threshold)), numbers(12, 8, step_ms=float(step)), float(threshold)
    )
    assert assessment.tag is Tag.CREDITED
    assert assessment.ratio == Fraction(threshold)


@pytest.mark.parametrize(
    ("ratio", "text"),
    [("1.2", "+20%"), ("1.001", "+1%"), ("2.154", "+115%"), ("10", "+900%")],
    ids=["plain", "never +0%", "rounded", "large"],
)
def test_how_much_slower_is_in_whole_percent(ratio, text):
    assert percent_more(Fraction(ratio)) == text


def test_what_is_undecided_says_in_its_evidence_that_it_is_none():
    line = tag_of(numbers(6, 2), numbers(5, 3)).evidence.line()
    assert line == (
        "3 of 8 failed in the baseline, 2 of 8 here; one-sided Fisher p = 0.5; failure rate 5.6 % to 59.2 % (95 % Beta interval); "
        "no evidence yet: about 185 trials per cell are needed to show such a difference"
    )


@pytest.mark.parametrize(
    ("base", "told"),
    [
        (numbers(0, 0), ["never ran"]),
        (numbers(0, 0, errors=4), ["is unusable: all its trials were errors"]),
        (numbers(8, 1, errors=1), ["is unreliable: 1 of its 10 trials were errors"]),
        (numbers(9, 0), ["never failed in 9 trials"]),
        (numbers(5, 4, step_ms=None), ["has no times of single steps"]),
        (numbers(5, 4), []),
    ],
    ids=["never ran", "errors alone", "unreliable", "no failure", "not timed", "usable"],
)
def test_a_baseline_that_cannot_carry_the_matrix_is_warned_of(base, told):
    warnings = baseline_warnings("base", base)
    assert len(warnings) == len(told)
    assert all(
        part in warning and warning.startswith("the baseline 'base'")
        for part, warning in zip(told, warnings, strict=True)
    )
