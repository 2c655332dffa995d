"""Predictions are judged by what was known before them, and corrected towards what happened."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mlcc_dagster.core.calibration import BINS, Bin, Calibration, brier_score, calibrate

UNTOUCHED = np.linspace(0.001, 0.999, 50)


@pytest.mark.parametrize(
    ("predicted", "happened", "score"),
    [
        pytest.param([1, 0], [True, False], 0, id="sure and right"),
        pytest.param([1, 0], [False, True], 1, id="sure and wrong"),
        pytest.param([0.5] * 4, [True, False, True, True], 0.25, id="a half says nothing"),
        pytest.param([0.8], [True], 0.04, id="one prediction"),
        pytest.param([0.9, 0.2, 0.6], [True, False, False], (0.01 + 0.04 + 0.36) / 3, id="by hand"),
    ],
)
def test_the_brier_score_is_the_mean_squared_difference(predicted: Any, happened: Any, score: float) -> None:
    assert brier_score(predicted, happened) == pytest.approx(score)
    assert brier_score(np.array(predicted), np.array(happened)) == pytest.approx(score)


def test_no_prediction_has_no_score() -> None:
    with pytest.raises(ValueError, match="at least one"):
        brier_score([], [])


@pytest.mark.parametrize("blocks", [[], [np.empty(0)]])
def test_where_nothing_was_predicted_nothing_is_judged_and_nothing_corrected(blocks: list) -> None:
    found = calibrate(blocks, np.array([True, False, True]))
    assert found == Calibration(0, None, None, ())
    assert found.corrected(UNTOUCHED) == pytest.approx(UNTOUCHED)


def drawn(odds: NDArray[np.float64], seed: int) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).random(len(odds)) < odds


def bent(odds: NDArray[np.float64], slope: float, shift: float = 0.0) -> NDArray[np.float64]:
    """Predictions whose log-odds are a line of the true ones."""
    return 1 / (1 + np.exp(-(slope * np.log(odds / (1 - odds)) + shift)))


TRUE_ODDS = np.random.default_rng(7).uniform(0.03, 0.97, 800)
OFF = [
    ("overconfident", 3.0, 0.0),
    ("very overconfident", 6.0, 0.0),
    ("hesitant", 0.5, 0.0),
    ("hopeful", 1.0, 1.5),
    ("gloomy", 1.0, -1.5),
    ("overconfident and hopeful", 2.5, 1.0),
]


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("slope", "shift"), [pytest.param(a, b, id=why) for why, a, b in OFF])
def test_a_predictor_that_is_off_in_one_way_is_corrected_towards_the_truth(
    slope: float, shift: float, seed: int
) -> None:
    raw, happened = bent(TRUE_ODDS, slope, shift), drawn(TRUE_ODDS, seed)
    found = calibrate(np.split(raw, [50, 100, 200, 400]), happened)
    assert found.brier is not None
    assert found.brier < brier_score(raw, happened)
    assert np.abs(found.corrected(raw) - TRUE_ODDS).mean() < np.abs(raw - TRUE_ODDS).mean() / 2
    assert np.abs(found.corrected(raw) - TRUE_ODDS).max() < 0.12


@pytest.mark.parametrize(
    ("said", "came_true", "count"),
    [
        pytest.param(0.95, 0.5, 200, id="sure of what is a toss"),
        pytest.param(0.999, 0.5, 100, id="surer"),
        pytest.param(1.0, 0.1, 1000, id="certain of what hardly ever happens"),
        pytest.param(0.0, 0.9, 1000, id="certain that it never happens"),
        pytest.param(1.0, 0.0, 1000, id="certain and always wrong"),
    ],
)
def test_confident_predictions_that_were_wrong_are_brought_to_what_happened(
    said: float, came_true: float, count: int
) -> None:
    happened = np.arange(count) < came_true * count
    found = calibrate([np.full(count, said)], np.random.default_rng(1).permutation(happened))
    assert found.corrected(np.array([said]))[0] == pytest.approx(came_true, abs=0.06)


@pytest.mark.parametrize(
    ("raw", "happened"),
    [
        pytest.param(TRUE_ODDS, drawn(TRUE_ODDS, 3), id="predictions that mean what they say"),
        pytest.param(np.tile([1.0, 0.0], 40), np.tile([True, False], 40), id="sure and always right"),
        pytest.param(np.full(4, 0.6), np.array([True, False, True, True]), id="few outcomes"),
    ],
)
def test_predictions_that_were_right_stay_nearly_as_they_are(
    raw: NDArray[np.float64], happened: NDArray[np.bool_]
) -> None:
    assert calibrate([raw], happened).corrected(raw) == pytest.approx(raw, abs=0.06)


def test_a_correction_never_turns_the_order_of_odds_around() -> None:
    raw = np.linspace(0.05, 0.95, 400)
    found = calibrate([raw], drawn(1 - raw, 4))
    assert found.slope > 0
    assert (np.diff(found.corrected(raw)) > 0).all()
    assert found.corrected(raw).mean() == pytest.approx(0.5, abs=0.05)


def test_the_reference_predicts_the_share_of_successes_so_far() -> None:
    outcomes = np.array([True, True, False, True, False, False])
    found = calibrate([np.array([0.5, 0.5]), np.array([0.5, 0.5])], outcomes)
    # two outcomes were before: (2 + 1) / (2 + 2), and (3 + 1) / (4 + 2) before the second block
    assert found.reference == pytest.approx(((3 / 4) ** 2 + (1 / 4) ** 2 + 2 * (2 / 3) ** 2) / 4)
    assert found.count == 4


def test_bins_tell_what_was_predicted_and_what_happened() -> None:
    found = calibrate([np.array([0.05, 0.1, 0.5, 1.0])], np.array([False, True, True, True]))
    assert [(b.low, b.high, b.count, b.observed) for b in found.bins] == [
        (0.0, 0.2, 2, 0.5),
        (pytest.approx(0.4), pytest.approx(0.6), 1, 1.0),
        (0.8, 1.0, 1, 1.0),
    ]
    assert [b.predicted for b in found.bins] == pytest.approx([0.075, 0.5, 1.0], abs=1e-5)


ODDS = st.one_of(st.sampled_from([0.0, 1.0, 0.2, 0.4, 0.6, 0.8]), st.floats(0, 1))
BLOCKS = st.lists(st.lists(ODDS, min_size=1, max_size=8), max_size=4)
FIRST = st.lists(st.booleans(), max_size=5)


def read(blocks: Sequence[Sequence[float]]) -> list[NDArray[np.float64]]:
    return [np.array(block) for block in blocks]


@settings(max_examples=60, deadline=None)
@given(BLOCKS, FIRST, st.data())
def test_every_prediction_is_in_one_bin_and_every_figure_between_0_and_1(
    blocks: list[list[float]], before: list[bool], data: st.DataObject
) -> None:
    count = sum(map(len, blocks))
    outcomes = [*before, *data.draw(st.lists(st.booleans(), min_size=count, max_size=count))]
    found = calibrate(read(blocks), np.array(outcomes, dtype=bool))
    assert found.count == sum(each.count for each in found.bins) == count
    assert len(found.bins) <= BINS
    for each in found.bins:
        # 0.6 may come back from its log-odds as a last bit less
        assert 0 <= each.low <= each.predicted + 1e-9 and each.predicted - 1e-9 <= each.high <= 1
        assert 0 <= each.observed <= 1
    if count:
        assert found.brier is not None and 0 <= found.brier <= 1
        assert found.reference is not None and 0 <= found.reference <= 1
        happened = sum(outcomes[len(before) :])
        assert sum(each.count * each.observed for each in found.bins) == pytest.approx(happened)
    corrected = found.corrected(np.array([0.0, 0.25, 0.5, 0.75, 1.0]))
    assert np.isfinite([found.slope, found.shift, *corrected]).all()
    assert (np.diff(corrected) >= 0).all() and corrected[0] >= 0 and corrected[-1] <= 1


@settings(max_examples=60, deadline=None)
@given(BLOCKS.filter(bool), FIRST, st.data())
def test_each_block_is_judged_as_the_blocks_before_it_correct_it(
    blocks: list[list[float]], before: list[bool], data: st.DataObject
) -> None:
    """Squared errors add up over blocks, so that a block's own are the difference that it makes."""
    count = sum(map(len, blocks))
    outcomes = np.array([*before, *data.draw(st.lists(st.booleans(), min_size=count, max_size=count))], dtype=bool)
    known = len(outcomes) - len(blocks[-1])
    earlier, found = calibrate(read(blocks[:-1]), outcomes[:known]), calibrate(read(blocks), outcomes)
    judged = earlier.corrected(np.array(blocks[-1]))
    own = float(((judged - outcomes[known:]) ** 2).sum())
    assert found.brier is not None
    assert found.count * found.brier == pytest.approx(earlier.count * (earlier.brier or 0.0) + own, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(BLOCKS.filter(bool), st.data())
def test_what_happened_in_a_block_changes_no_judgement_up_to_it(blocks: list[list[float]], data: st.DataObject) -> None:
    count, last = sum(map(len, blocks)), len(blocks[-1])
    outcomes = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)), dtype=bool)
    otherwise = outcomes.copy()
    otherwise[-last:] = ~otherwise[-last:]
    one, other = calibrate(read(blocks), outcomes), calibrate(read(blocks), otherwise)
    assert [judged(each) for each in one.bins] == [judged(each) for each in other.bins]


def judged(each: Bin) -> tuple[float, float, int, float]:
    """What a bin says of predictions alone."""
    return each.low, each.high, each.count, each.predicted
