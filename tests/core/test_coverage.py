"""Coverage: sets that part the possible vectors, shares that never round into a claim, two dimensions crossed."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcc_dagster.core.configuration import DIMENSIONS, Vector
from mlcc_dagster.core.coverage import Cell, Coverage, matrix, percent_text
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.standing import Expiry, Standing, Status

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)


def vector(family: str = "qwen3", instance: str = "g5", tp: str = "1", quantization: str = "none") -> Vector:
    return Vector("transformers-vllm", family, instance, quantization, tp, "realtime-inference")


def row(of: Vector, status: str = "completed", *, ago: timedelta = DAY, **more: Any) -> dict[str, Any]:
    dimensions = dict(zip(DIMENSIONS, of.values(), strict=True))
    return {**dimensions, "status": status, "run_timestamp": (NOW - ago).isoformat(), **more}


A, B, C, D = vector(tp="1"), vector(tp="2"), vector(tp="4"), vector(tp="8")
GONE = vector(instance="g4dn")
LLAMA = vector(family="llama3")
TOO_MANY = vector(tp="16")


def covered(rows: list[dict[str, Any]], *, stale_after: timedelta | None = None, **words: Any) -> Coverage:
    return Coverage.of(
        [A, B, C, D, LLAMA],
        {TOO_MANY: "tp_degree 16 is more than 8 GPUs"},
        Standing.of(rows, **words),
        now=NOW,
        stale_after=stale_after,
    )


def test_every_possible_vector_is_exactly_one_thing() -> None:
    coverage = covered([row(A), row(B, "failed"), row(C, "unfeasible"), row(A, "failed")])
    assert (coverage.proven, coverage.failed, coverage.unfeasible) == ({A}, {B}, {C})
    assert coverage.untested == {D, LLAMA}
    assert coverage.excluded == {TOO_MANY: "tp_degree 16 is more than 8 GPUs"}
    assert coverage.tested_share == (3, 5)
    assert coverage.passing_share == (1, 3)
    assert coverage.proven_share == (1, 5)


def test_evidence_of_what_is_no_longer_possible_is_listed_apart() -> None:
    coverage = covered([row(GONE), row(TOO_MANY, "failed"), row(A)])
    assert coverage.outside == {GONE: Status.PROVEN, TOO_MANY: Status.FAILED}
    assert coverage.proven == {A}
    assert coverage.proven_share == (1, 5)


def test_an_expired_verdict_makes_its_vector_untested_again() -> None:
    rows = [row(A, "unfeasible"), row(B, "unfeasible")]
    coverage = covered(rows, expiries={A: Expiry(NOW, "driver updated")}, marks={C: "too slow"})
    assert coverage.unfeasible == {B, C}
    assert A in coverage.untested


@pytest.mark.parametrize(
    ("rows", "stale"),
    [
        pytest.param([row(A, ago=31 * DAY)], {A}, id="older than the limit"),
        pytest.param([row(A, ago=30 * DAY)], set(), id="exactly at the limit is fresh"),
        pytest.param([row(A, ago=90 * DAY), row(A, ago=DAY)], set(), id="the newest proof counts"),
        pytest.param([row(A, ago=90 * DAY), row(A, "failed", ago=DAY)], {A}, id="a newer failure freshens nothing"),
        pytest.param([row(A) | {"run_timestamp": None}], {A}, id="a proof of unknown time is stale"),
    ],
)
def test_a_proof_beyond_the_staleness_limit_stays_proven_and_is_marked(
    rows: list[dict[str, Any]], stale: set[Vector]
) -> None:
    coverage = covered(rows, stale_after=30 * DAY)
    assert coverage.proven == {A}
    assert coverage.stale == stale
    assert covered(rows).stale == set()


def test_the_evidence_class_says_who_proved() -> None:
    rows = [row(A, executor="local"), row(A, executor="mcc"), row(B, executor="mcc"), row(C), row(D, "failed")]
    coverage = covered(rows)
    assert coverage.proofs_by_executor == {"imported": 1, "local": 1, "mcc": 2}
    assert coverage.executors[A] == {"local", "mcc"}


def test_a_vector_both_possible_and_excluded_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="1 vectors are both possible and excluded"):
        Coverage.of([A], {A: "too large"}, Standing.of([]), now=NOW, stale_after=None)


def test_a_family_is_its_slice_of_every_set() -> None:
    coverage = covered([row(A), row(LLAMA, "failed"), row(GONE)], stale_after=DAY / 2)
    llama = coverage.of_family("llama3")
    assert (llama.possible, llama.failed, llama.outside, llama.excluded) == ({LLAMA}, {LLAMA}, {}, {})
    qwen = coverage.of_family("qwen3")
    assert qwen.stale == {A}
    assert set(qwen.outside) == {GONE}
    assert qwen.possible | llama.possible == coverage.possible
    with pytest.raises(UsageError, match="'gemma'; families with vectors are llama3, qwen3"):
        coverage.of_family("gemma")


def test_nothing_possible_is_no_share_of_anything() -> None:
    empty = Coverage.of([], {}, Standing.of([]), now=NOW, stale_after=None)
    assert empty.proven_share == empty.passing_share == (0, 0)
    with pytest.raises(UsageError, match="none yet"):
        empty.of_family("qwen3")


@pytest.mark.parametrize(
    ("share", "text"),
    [
        pytest.param((0, 7), "0 %", id="nothing is zero"),
        pytest.param((7, 7), "100 %", id="everything is a hundred"),
        pytest.param((0, 0), "n/a", id="a share of nothing is none"),
        pytest.param((1, 100_000), "<0.1 %", id="a little is not zero"),
        pytest.param((99_999, 100_000), ">99.9 %", id="almost all is not a hundred"),
        pytest.param((1, 2000), "0.1 %", id="half a tenth rounds up"),
        pytest.param((1999, 2000), ">99.9 %", id="where rounding would reach a hundred"),
        pytest.param((1998, 2000), "99.9 %", id="the largest that is shown as it is"),
        pytest.param((1, 3), "33.3 %", id="a third"),
        pytest.param((2, 3), "66.7 %", id="two thirds"),
        pytest.param((1, 2), "50.0 %", id="a half has its decimal"),
        pytest.param((10**18 - 1, 10**18), ">99.9 %", id="beyond the precision of a float"),
    ],
)
def test_percentages_never_round_into_a_claim(share: tuple[int, int], text: str) -> None:
    assert percent_text(share) == text


@pytest.mark.parametrize("share", [(-1, 3), (4, 3), (1, 0)])
def test_a_part_larger_than_the_whole_is_refused(share: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="no share"):
        percent_text(share)


def test_two_dimensions_crossed_count_and_keep_the_vectors() -> None:
    coverage = covered([row(A), row(B, "failed"), row(C, "unfeasible")], stale_after=DAY / 2)
    crossed = matrix(coverage, "model_family", "tp_degree")
    assert crossed.rows == ("llama3", "qwen3")
    assert crossed.columns == ("1", "2", "4", "8", "16")
    assert crossed.cell("qwen3", "1") == Cell(proven=(A,), stale=(A,))
    assert crossed.cell("qwen3", "2").failed == (B,)
    assert crossed.cell("qwen3", "16") == Cell(excluded=(TOO_MANY,))
    assert crossed.cell("qwen3", "16").possible == 0
    assert crossed.cell("llama3", "8") == Cell()
    instances = matrix(coverage, "instance_family", "model_family").cell("g5", "qwen3")
    assert instances.counts == {
        "proven": 1,
        "failed": 1,
        "unfeasible": 1,
        "untested": 1,
        "stale": 1,
        "excluded": 1,
        "possible": 4,
    }
    assert instances.proven_share == (1, 4)


@pytest.mark.parametrize(
    ("dimensions", "said"),
    [
        pytest.param(
            ("gpu", "model_family"), "unknown dimension 'gpu'; use two of deployment_config", id="one unknown"
        ),
        pytest.param(("gpu", "cpu"), "unknown dimension 'cpu', 'gpu'", id="both unknown are both named"),
        pytest.param(("tp_degree", "tp_degree"), "not tp_degree with itself", id="one dimension twice"),
    ],
)
def test_a_matrix_needs_two_different_dimensions(dimensions: tuple[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        matrix(covered([]), *dimensions)


VECTORS = st.tuples(*(st.sampled_from("ab") for _ in DIMENSIONS)).map(lambda values: Vector(*values))
STATUSES = st.sampled_from(["completed", "failed", "unfeasible"])


@settings(max_examples=50, deadline=None)
@given(possible=st.sets(VECTORS), evidence=st.lists(st.tuples(VECTORS, STATUSES)))
def test_counts_agree_in_every_view(possible: set[Vector], evidence: list[tuple[Vector, str]]) -> None:
    standing = Standing.of([row(each, status) for each, status in evidence])
    coverage = Coverage.of(possible, {}, standing, now=NOW, stale_after=None)
    parts = (coverage.proven, coverage.failed, coverage.unfeasible, coverage.untested)
    assert sum(map(len, parts)) == len(frozenset().union(*parts)) == len(possible)
    completed = {each for each, status in evidence if status == "completed"}
    assert coverage.proven == completed & possible
    assert set(coverage.outside) == {each for each, _ in evidence} - possible
    for rows, columns in itertools.permutations(DIMENSIONS, 2):
        crossed = matrix(coverage, rows, columns)
        assert sum(cell.possible for cell in crossed.cells.values()) == len(possible)
        assert sum(len(cell.proven) for cell in crossed.cells.values()) == len(coverage.proven)
