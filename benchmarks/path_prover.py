"""What finding, measuring and replacing unproven configurations costs, each against the plain form of the same rules and
against the seconds that are promised.

The plain forms compare pair by pair or put tuples into sets. Where they would take minutes they run on a sample or on
fewer rows, and their seconds are scaled to the whole in the same run; the name of a line says so. Peaks of memory are of
a further run that is not timed, and count what was allocated beyond the rows themselves.
"""

import heapq
import itertools
import random
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from benchmarks.pairs import Comparison, seconds
from mlcc_dagster.core.coded_vectors import CodedVectors
from mlcc_dagster.core.configuration import DIMENSIONS, Configuration, Vector
from mlcc_dagster.core.gaps import Gap, GapList, observed_gaps
from mlcc_dagster.core.interactions import interaction_coverage
from mlcc_dagster.core.odds import SuccessOdds, Trials
from mlcc_dagster.core.planning import Candidate, Evidence, plan
from mlcc_dagster.core.standing import Reason
from mlcc_dagster.core.substitution import SubstitutionIndex

RUNS = 3
SMALL_ROWS, SMALL_SHAPE = 1_500, (8, 9, 7, 5, 3, 2)
LARGE_ROWS, LARGE_SHAPE = 1_000_000, (20, 25, 20, 10, 10, 10)
HUGE_ROWS, HUGE_SHAPE = 2_000, (200, 300, 100, 20, 10, 10)
SAMPLED_GAPS = 100
SET_ROWS = 100_000
SCANNED_ROWS = 100_000
REQUESTS = 10_000
PLAN_SHAPE = tuple(zip(DIMENSIONS, (10, 20, 10, 5, 5, 3), strict=True))
PLAN_GAPS, PLAN_PICKS, PLAN_USD = 100_000, 10, 400.0
SAMPLED_CANDIDATES = 10_000
MIB = 2**20

Table = Mapping[str, Sequence[str]]
Plain = Callable[[], float]
"""Runs a plain form and returns its seconds, scaled to the whole."""


def measure() -> Iterator[Comparison]:
    """Measure gaps, interaction coverage and substitution at the sizes that the specification names."""
    yield from gaps_of_some_rows()
    yield from gaps_of_many_cells()
    table = columns(LARGE_ROWS, LARGE_SHAPE, seed=2)
    yield from gaps_of_many_rows(table)
    yield from interactions_of_many_rows(table)
    yield from substitution_in_many_rows(table)
    yield from plan_of_many_gaps()


def gaps_of_some_rows() -> Iterator[Comparison]:
    """Rows as mappings, the list written as JSON; pair by pair every gap meets every proven vector."""
    table = columns(SMALL_ROWS, SMALL_SHAPE, seed=1)
    rows = [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]
    gaps = observed_gaps(rows)
    what = f"{SMALL_ROWS} rows, {len(gaps)} gaps as JSON"
    yield from against(
        what,
        lambda: observed_gaps(rows).to_json(neighbours=True),
        plain=pairwise(table, gaps),
        peer=f"pairwise ({SAMPLED_GAPS} gaps, scaled)",
        promised_s=0.05,
    )


def gaps_of_many_rows(table: Table) -> Iterator[Comparison]:
    """Columns of 10^6 rows over 10^7 cells; the floor only puts the rows' vectors into one set."""
    mib = peak_mib(lambda: observed_gaps(table))
    what = f"gaps, 10^6 rows, 10^7 cells, peak {mib:.0f} MiB of 1024"
    yield from against(
        what,
        lambda: observed_gaps(table),
        plain=lambda: seconds(lambda: set(zip(*table.values(), strict=True))),
        peer="a set of the rows",
        promised_s=2,
    )


def gaps_of_many_cells() -> Iterator[Comparison]:
    """A product that no tensor holds, in the sparse form; the plain form counts for a sample of the gaps alone."""
    table = columns(HUGE_ROWS, HUGE_SHAPE, seed=3)
    gaps = observed_gaps(table)
    sampled = pairwise(table, gaps)
    yield paired(
        f"first ten of {len(gaps):.0e} gaps, {HUGE_ROWS} rows / pairwise ({SAMPLED_GAPS} gaps alone)",
        lambda: observed_gaps(table).head(10).to_json(neighbours=True),
        lambda: sampled() / len(gaps) * SAMPLED_GAPS,
    )


def interactions_of_many_rows(table: Table) -> Iterator[Comparison]:
    """2-way coverage of 10^6 result rows, as columns of texts and as codes. Possible are 10^5 other vectors, coded as they
    are once a catalog is read; the plain form takes every pair of values of every row into a set."""
    possible = CodedVectors.of_columns(columns(SET_ROWS, LARGE_SHAPE, seed=4))
    proven = CodedVectors.proven_in(table)
    few = [values[:-1] for values in zip(*(column[:SET_ROWS] for column in table.values()), strict=True)]
    pairs = list(itertools.combinations(range(len(DIMENSIONS)), 2))

    def plain() -> float:
        taken = seconds(lambda: {(a, b, row[a], row[b]) for row in few for a, b in pairs})
        return taken * LARGE_ROWS / SET_ROWS

    forms: dict[str, Callable[[], object]] = {
        "columns": lambda: interaction_coverage(possible, CodedVectors.proven_in(table)),
        "codes": lambda: interaction_coverage(possible, proven),
    }
    for form, work in forms.items():
        mib = peak_mib(work)
        what = f"2-way coverage of 10^6 rows as {form}, peak {mib:.0f} MiB"
        yield from against(what, work, plain=plain, peer="a set of pairs (10^5 rows, scaled)", promised_s=1)


def substitution_in_many_rows(table: Table) -> Iterator[Comparison]:
    """Answers from an index over 10^6 proven rows, built once; the plain form looks at every row for each request."""
    chosen = np.random.default_rng(5)
    first = datetime(2026, 1, 1, tzinfo=UTC)
    times = [(first + timedelta(seconds=s)).isoformat() for s in chosen.integers(0, 10**7, LARGE_ROWS).tolist()]
    proven = {**table, "status": ["completed"] * LARGE_ROWS, "run_timestamp": times}
    # One value more than there are, so that some requests ask for what nobody has; a family that all have.
    shape = [size if name == "model_family" else size + 1 for name, size in zip(DIMENSIONS, LARGE_SHAPE, strict=True)]
    codes = chosen.integers(0, shape, (REQUESTS, len(shape))).tolist()
    requests = [Vector(*map("{}-{}".format, DIMENSIONS, row)) for row in codes]
    names = (*DIMENSIONS, "run_timestamp")
    scanned = list(zip(*(proven[name][:SCANNED_ROWS] for name in names), strict=True))

    def scan(request: Vector) -> list[tuple[str, ...]]:
        wanted = request.values()
        family = [row for row in scanned if row[1] == wanted[1]]
        newest = sorted(family, key=lambda row: row[-1], reverse=True)
        return heapq.nsmallest(3, newest, key=lambda row: sum(map(str.__ne__, row, wanted)))

    def plain() -> float:
        return seconds(lambda: scan(requests[0])) * LARGE_ROWS / SCANNED_ROWS

    peer = "a scan (10^5 rows, scaled)"
    yield paired(f"index of 10^6 proven rows, once / one request by {peer}", lambda: SubstitutionIndex(proven), plain)
    indexes = itertools.cycle([SubstitutionIndex(proven) for _ in range(RUNS)])
    yield from against(
        "first substitution in a new index",
        lambda: next(indexes).answer(requests[0]),
        plain=plain,
        peer=peer,
        promised_s=0.02,
        warm=False,
    )
    index = next(indexes)
    yield from against(
        f"{REQUESTS} substitutions",
        lambda: [index.answer(request) for request in requests],
        plain=lambda: plain() * REQUESTS,
        peer=f"{REQUESTS} scans (one, scaled)",
        promised_s=1,
    )


def plan_of_many_gaps() -> Iterator[Comparison]:
    """A plan of ten among 10^5 gaps, odds learned from 500 trials on the way; the plain form asks every gap for its pairs
    before each pick, with odds that it is given."""
    chosen = random.Random(6)
    every = list(itertools.starmap(Vector, itertools.product(*([f"{n}-{v}" for v in range(s)] for n, s in PLAN_SHAPE))))
    chosen.shuffle(every)
    proven, failed, gaps = every[:300], every[300:500], every[500 : 500 + PLAN_GAPS]
    trials = Trials.of([*((vector, True) for vector in proven), *((vector, False) for vector in failed)])
    evidence = Evidence(every, frozenset(proven), trials)
    candidates = [candidate(gap, chosen.uniform(1, 40)) for gap in gaps]
    odds = SuccessOdds(trials).of(gaps).tolist()
    pairs = list(itertools.combinations(range(len(DIMENSIONS)), 2))
    sampled = range(0, PLAN_GAPS, PLAN_GAPS // SAMPLED_CANDIDATES)

    def plain_pick() -> None:
        covered = {(a, b, each.values()[a], each.values()[b]) for each in proven for a, b in pairs}
        max(
            odds[row]
            * sum((a, b, (texts := gaps[row].values())[a], texts[b]) not in covered for a, b in pairs)
            / candidates[row].expected_usd
            for row in sampled
        )

    yield from against(
        f"plan of {PLAN_PICKS} among {PLAN_GAPS} gaps, t = 2",
        lambda: plan(candidates, strategy="expected-gain", evidence=evidence, max_proves=PLAN_PICKS, max_usd=PLAN_USD),
        plain=lambda: seconds(plain_pick) * PLAN_PICKS * PLAN_GAPS / len(sampled),
        peer=f"a loop over all pairs before each pick ({SAMPLED_CANDIDATES} gaps, scaled)",
        promised_s=2,
    )


def candidate(vector: Vector, usd: float) -> Candidate:
    """Return a gap without neighbours that may cost so much at most and is expected to cost half of it."""
    gap = Gap(vector, 0, Reason.UNTESTED, "no run of it yet")
    configuration = Configuration(vector.deployment_config, None, vector.model_family, "local.1cpu", "local")
    return Candidate(gap, str(vector), configuration, promised_usd=usd, expected_usd=usd / 2)


def columns(count: int, shape: Sequence[int], seed: int) -> dict[str, list[str]]:
    """Return `count` random rows as columns: the six dimensions and `status`, about nine of ten completed."""
    chosen = np.random.default_rng(seed)
    table = {
        name: np.array([f"{name}-{value}" for value in range(size)], dtype=object)[
            chosen.integers(0, size, count)
        ].tolist()
        for name, size in zip(DIMENSIONS, shape, strict=True)
    }
    return {**table, "status": np.where(chosen.random(count) < 0.9, "completed", "failed").tolist()}


def pairwise(table: Table, gaps: GapList) -> Plain:
    """Return a run that compares a sample of the gaps with every proven vector. Raises `AssertionError` where a count
    differs from the list's: a figure of something wrong is none."""
    rows = zip(*(table[name] for name in DIMENSIONS), table["status"], strict=True)
    proven = {row[:-1] for row in rows if row[-1] == "completed"}
    chosen = random.Random(1).sample(range(len(gaps)), SAMPLED_GAPS)
    sample = [(gaps[index].values(), int(gaps[index : index + 1].neighbours[0])) for index in chosen]

    def compare_all() -> None:
        for gap, neighbours in sample:
            found = sum(1 for each in proven if sum(map(str.__ne__, gap, each)) == 1)
            if found != neighbours:
                raise AssertionError(f"{gap} has {found} neighbours pair by pair but {neighbours} in the list")

    return lambda: seconds(compare_all) * len(gaps) / SAMPLED_GAPS


def against(
    what: str, work: Callable[[], object], *, plain: Plain, peer: str, promised_s: float, warm: bool = True
) -> Iterator[Comparison]:
    """Time the work and its plain form in turn; the same seconds then stand against those promised. `warm`: whether one
    run of each goes before, untimed."""
    taken = paired(f"{what} / {peer}", work, plain, warm=warm)
    yield taken
    yield Comparison(f"{what} / promised seconds", tuple((own, promised_s) for own, _ in taken.pairs), bound=1)


def paired(name: str, work: Callable[[], object], plain: Plain, *, warm: bool = True) -> Comparison:
    """Run both in turn and return the timed pairs, the plain seconds as they were scaled."""
    if warm:
        work()
        plain()
    return Comparison(name, tuple((seconds(work), plain()) for _ in range(RUNS)))


def peak_mib(work: Callable[[], Any]) -> float:
    """Return the most memory that was allocated at one time while the work ran, in MiB, numpy's included."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / MIB
    finally:
        tracemalloc.stop()
