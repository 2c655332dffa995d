"""Strategies compared in worlds whose truth is hidden from them: what each covers for the same money.

Belongs here: worlds by kind, a strategy's walk through one, the comparison over many. Not here: the strategies themselves
(`planning.py`; `random` is here, since nobody would plan with it), pictures of a comparison (`resources.plots`).

In a world a run costs the same whether it proves anything or not. Hidden are a memory rule (preflight knows it but for an
overhead), some incompatible pairs of values, and where the golden path's cluster of proven configurations lies. A
strategy sees what a planner sees: what preflight admits, what was proven, what failed, prices. What counts in the end is the
share of the pairs that some working configuration contains.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from mlcc_dagster.core.coded_vectors import CodedVectors
from mlcc_dagster.core.configuration import DIMENSIONS
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.expected_gain import Offers
from mlcc_dagster.core.interaction_cover import InteractionCover
from mlcc_dagster.core.odds import SuccessOdds, Trials
from mlcc_dagster.core.planning import MAX_PROVES_PER_RUN, STRATEGIES, STRENGTH, Board

LEVEL = 0.95
"""Of the intervals of means."""

PARTS = 40
"""Points of the budget at which walks are compared."""

MAX_ATTEMPTS = 3
_MOST_VECTORS = 200_000
_MOST_FAULTS = 1_000
_DRAWS = 200
_BYTES_PER_PARAMETER = (2.0, 1.0, 0.5, 0.5)
_GPU_GB = (24, 24, 48, 40, 80, 141)
_SMALLEST_MODEL, _LARGEST_MODEL = 0.5e9, 120e9
_USABLE, _ESTIMATED_OVERHEAD = 0.9, 1.1
_GOLDEN_BOX = (2, 3, 2, 2, 2, 1)
"""How many values of each dimension the golden path's cluster spans."""


@dataclass(frozen=True)
class WorldKind:
    """What worlds of a kind have in common: the number of values per dimension, how many pairs of values are incompatible,
    the proven configurations at the start and whether they lie together, USD per hour and GPU of the cheapest and the
    dearest instance family, the hidden share of memory that preflight does not know of (at most), and how often a
    run fails for a reason of the moment."""

    name: str
    shape: tuple[int, ...] = (5, 8, 6, 4, 4, 3)
    incompatible: int = 6
    golden: int = 12
    clustered: bool = True
    usd_per_gpu_hour: tuple[float, float] = (1.7, 17.0)
    overhead: float = 0.3
    flaky: float = 0.0

    def __post_init__(self) -> None:
        problems = []
        if len(self.shape) != len(DIMENSIONS) or min(self.shape) < 1:
            problems.append(f"a shape has {len(DIMENSIONS)} numbers of values of at least 1, not {self.shape}")
        elif math.prod(self.shape) > _MOST_VECTORS:
            problems.append(f"a world has at most {_MOST_VECTORS} vectors, not {math.prod(self.shape)}")
        if not 0 <= self.incompatible <= _MOST_FAULTS:
            problems.append(f"a world has 0 to {_MOST_FAULTS} incompatible pairs of values, not {self.incompatible}")
        if self.golden < 1:
            problems.append(f"golden configurations are 1 or more, not {self.golden}")
        if problems:
            raise UsageError("; ".join(problems))


KINDS: Mapping[str, WorldKind] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            WorldKind("standard"),
            WorldKind("few-faults", incompatible=1, overhead=0.05),
            WorldKind("many-faults", incompatible=20),
            WorldKind("flat-prices", usd_per_gpu_hour=(5.0, 5.0)),
            WorldKind("steep-prices", usd_per_gpu_hour=(0.5, 50.0)),
            WorldKind("wide", shape=(10, 20, 8, 5, 4, 3)),
            WorldKind("narrow", shape=(3, 4, 3, 2, 3, 2), golden=3),
            WorldKind("scattered", clustered=False),
            WorldKind("flaky", flaky=0.15),
            WorldKind("blind", overhead=3.0),
        )
    }
)
"""Kinds of worlds by name. `standard` has the sizes and roughly the difficulty of the first planning study; the others
change one thing each. `blind`: preflight's memory estimate is of little use."""


def kind_named(name: str) -> WorldKind:
    """Return the kind of that name. Raises `UsageError` naming the known ones."""
    try:
        return KINDS[name]
    except KeyError:
        raise UsageError(f"unknown kind of world '{name}'; use one of {', '.join(KINDS)}, or all") from None


@dataclass(frozen=True, eq=False)
class World:
    """One world: n vectors as codes, which of them preflight admits, which work, USD per run of each, the rows proven at the
    start."""

    kind: WorldKind
    vectors: CodedVectors
    admitted: NDArray[np.bool_]
    works: NDArray[np.bool_]
    usd: NDArray[np.float64]
    golden: NDArray[np.int64]

    @classmethod
    def draw(cls, kind: WorldKind, chance: np.random.Generator, *, hours: float) -> "World":
        """Draw a world in which a run takes `hours`. Raises `UsageError` where no world of the kind has enough working
        configurations for its golden path."""
        grids = np.meshgrid(*[np.arange(size, dtype=np.int32) for size in kind.shape], indexing="ij")
        codes = np.stack([grid.ravel() for grid in grids], axis=1)
        values = tuple(tuple(f"{name}-{code}" for code in range(size)) for name, size in _named(kind.shape))
        vectors = CodedVectors(values, codes)
        for _ in range(_DRAWS):
            admitted, works = _memory(kind, codes, chance)
            works &= ~_incompatible(kind, codes, chance)
            golden = _golden(kind, codes, np.flatnonzero(works), chance)
            if golden is not None:
                per_gpu = np.geomspace(*kind.usd_per_gpu_hour, kind.shape[2])
                usd = per_gpu[codes[:, 2]] * 2.0 ** codes[:, 4] * hours
                return cls(kind, vectors, admitted, works, usd, golden)
        raise UsageError(
            f"no world of kind {kind.name} has {kind.golden} working configurations that lie together; ask for fewer golden "
            f"or fewer faults, or give the dimensions more values"
        )

    @cached_property
    def pairs(self) -> InteractionCover:
        """The pairs that some working configuration contains, those of the golden path covered."""
        return InteractionCover(self.rows(np.flatnonzero(self.works)), self.rows(self.golden), strength=STRENGTH)

    def rows(self, rows: NDArray[np.integer]) -> CodedVectors:
        """Return some of the vectors."""
        return CodedVectors(self.vectors.values, self.vectors.codes[rows])


@dataclass(frozen=True)
class Studied:
    """A strategy as a study plays it: `choose` makes its choice for one world; `preflight` whether it is kept from what
    preflight refutes; `odds` whether it needs them."""

    name: str
    choose: Callable[[np.random.Generator], Callable[[Board], list[int]]]
    preflight: bool = True
    odds: bool = False


def _at_random(chance: np.random.Generator) -> Callable[[Board], list[int]]:
    return lambda board: board.fitting(chance.permutation(len(board.offers)))


def _as_planned(name: str) -> Callable[[np.random.Generator], Callable[[Board], list[int]]]:
    return lambda chance: STRATEGIES[name].choose


STUDIED: Mapping[str, Studied] = MappingProxyType(
    {
        each.name: each
        for each in (
            Studied("expected-gain", _as_planned("expected-gain"), odds=True),
            Studied("neighbours", _as_planned("neighbours")),
            Studied("random", _at_random),
            Studied("neighbours-without-preflight", _as_planned("neighbours"), preflight=False),
            Studied("random-without-preflight", _at_random, preflight=False),
        )
    }
)
"""What can be compared: the planner's strategies, and choosing at random."""


def studied_named(names: Sequence[str]) -> list[Studied]:
    """Return strategies by name, each once. Raises `UsageError` naming all that are unknown, and those that are known."""
    unknown = [name for name in names if name not in STUDIED]
    if unknown or not names:
        raise UsageError(
            f"unknown strategies to compare: {', '.join(unknown) or 'none given'}; use some of {', '.join(STUDIED)}"
        )
    return [STUDIED[name] for name in dict.fromkeys(names)]


@dataclass(frozen=True, eq=False)
class Walk:
    """What a strategy did in one world: USD spent and pairs covered after each run (both begin with the state before the
    first), the pairs there are, and how many runs proved something."""

    usd: NDArray[np.float64]
    covered: NDArray[np.int64]
    pairs: int
    proven: int

    @property
    def runs(self) -> int:
        """How many runs were paid for."""
        return len(self.usd) - 1

    @property
    def share(self) -> float:
        """The share of the pairs that is covered in the end."""
        return float(self.covered[-1]) / self.pairs

    def at(self, usd: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the share that was covered when so much was spent."""
        return self.covered[np.searchsorted(self.usd, usd + 1e-9, side="right") - 1] / self.pairs


def walk(world: World, studied: Studied, *, budget_usd: float, chance: np.random.Generator) -> Walk:
    """Play one world until nothing affordable is left: plan with an execution's bounds, run the first pick, learn, plan
    again."""
    choose = studied.choose(chance)
    truth = world.pairs.copy()
    allowed = world.admitted if studied.preflight else np.ones(len(world.usd), dtype=bool)
    known = InteractionCover(world.rows(np.flatnonzero(allowed)), world.rows(world.golden), strength=STRENGTH)
    places, true_places = known.places(world.vectors), truth.places(world.vectors)
    waiting = allowed.copy()
    waiting[world.golden] = False
    attempts = np.zeros(len(waiting), dtype=np.int64)
    neighbours = sum((_neighbours(world, int(row)) for row in world.golden), start=np.zeros(len(waiting), np.int64))
    tried, passed = world.golden.tolist(), [True] * len(world.golden)
    momentary = [False] * len(tried)
    spent, usd, covered, proven = 0.0, [0.0], [truth.share[0]], 0
    while True:
        rows = np.flatnonzero(waiting & (world.usd <= budget_usd - spent))
        if not len(rows):
            break
        odds = np.ones(len(rows))
        if studied.odds:
            trials = Trials(world.rows(np.array(tried)), np.array(passed), np.array(momentary))
            odds = SuccessOdds(trials).of(world.rows(rows))
        offers = Offers(places[rows], odds, world.usd[rows], world.usd[rows])
        picked = choose(Board(offers, neighbours[rows], known, MAX_PROVES_PER_RUN, budget_usd - spent))
        if not picked:
            break
        row = int(rows[picked[0]])
        unlucky = bool(chance.random() < world.kind.flaky)
        works = bool(world.works[row]) and not unlucky
        spent += float(world.usd[row])
        attempts[row] += 1
        waiting[row] = unlucky and attempts[row] < MAX_ATTEMPTS
        tried.append(row)
        passed.append(works)
        momentary.append(unlucky)
        if works:
            proven += 1
            neighbours = neighbours + _neighbours(world, row)
            known.close(places[row])
            truth.close(true_places[row])
        usd.append(spent)
        covered.append(truth.share[0])
    return Walk(np.array(usd), np.array(covered), truth.share[1], proven)


@dataclass(frozen=True)
class Mean:
    """A mean over worlds with its interval of `LEVEL` (Student's t); no interval where there is one world."""

    mean: float
    low: float | None
    high: float | None

    @classmethod
    def of(cls, values: Sequence[float], *, within: tuple[float, float] = (-math.inf, math.inf)) -> "Mean":
        """Return the mean of values; the interval of values that lie `within` bounds ends there too."""
        found = np.asarray(values, dtype=np.float64)
        mean = float(found.mean())
        if len(found) < 2:
            return cls(mean, None, None)
        half = float(stats.t.ppf((1 + LEVEL) / 2, len(found) - 1)) * float(found.std(ddof=1)) / len(found) ** 0.5
        return cls(mean, max(within[0], mean - half), min(within[1], mean + half))

    @property
    def interval(self) -> str | None:
        """The interval as text."""
        return None if self.low is None or self.high is None else f"{self.low:.3f} to {self.high:.3f}"

    def to_json(self) -> dict[str, float | None]:
        """Return mean, low and high."""
        return {"mean": self.mean, "low": self.low, "high": self.high}

    def __str__(self) -> str:
        return f"{self.mean:.3f}" if self.interval is None else f"{self.mean:.3f} ({self.interval})"


@dataclass(frozen=True, eq=False)
class Comparison:
    """The walks of strategies through the same worlds of one kind, by strategy."""

    kind: WorldKind
    budget_usd: float
    walks: Mapping[str, Sequence[Walk]]

    def share(self, strategy: str) -> Mean:
        """Return the share of working pairs that a strategy covered in the end."""
        return Mean.of([each.share for each in self.walks[strategy]], within=(0, 1))

    def advantage(self, strategy: str, other: str) -> Mean:
        """Return how much more a strategy covered than another, world by world."""
        pairs = zip(self.walks[strategy], self.walks[other], strict=True)
        return Mean.of([mine.share - its.share for mine, its in pairs])

    def curve(self, strategy: str) -> list[tuple[float, Mean]]:
        """Return what was covered after so many USD, from 0 to the budget."""
        points = np.linspace(0, self.budget_usd, PARTS + 1)
        shares = np.stack([each.at(points) for each in self.walks[strategy]], axis=1)
        return [(float(usd), Mean.of(row.tolist(), within=(0, 1))) for usd, row in zip(points, shares, strict=True)]

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as JSON values: per strategy the share covered, runs and proofs per world, pairs per
        USD."""
        return {
            "kind": self.kind.name,
            "shape": list(self.kind.shape),
            "budget_usd": self.budget_usd,
            "strategies": [
                {
                    "strategy": name,
                    "covered_share": self.share(name).to_json(),
                    "more_than": {
                        other: self.advantage(name, other).to_json() for other in self.walks if other != name
                    },
                    "lowest_share": min(each.share for each in walks),
                    "runs": Mean.of([each.runs for each in walks]).mean,
                    "proven": Mean.of([each.proven for each in walks]).mean,
                    "new_pairs_per_usd": Mean.of([_per_usd(each) for each in walks]).mean,
                    "curve": [{"usd": usd, **mean.to_json()} for usd, mean in self.curve(name)],
                }
                for name, walks in self.walks.items()
            ],
        }


def play(
    kind: WorldKind,
    strategies: Sequence[Studied],
    *,
    budget_usd: float,
    hours: float,
    worlds: int,
    seed: int,
    played: Callable[[], None] = lambda: None,
) -> dict[str, list[Walk]]:
    """Play worlds one after the other, every strategy in each, and return the walks by strategy; `played` is called after
    each world. World k of a seed is the same whatever the strategies and however many worlds are asked for."""
    walks: dict[str, list[Walk]] = {each.name: [] for each in strategies}
    for index in range(worlds):
        # Each stream has a name of its own: a strategy's luck must depend neither on the others nor on the kinds before.
        world = World.draw(kind, np.random.default_rng([seed, index, 0]), hours=hours)
        for each in strategies:
            chance = np.random.default_rng([seed, index, 1, *each.name.encode()])
            walks[each.name].append(walk(world, each, budget_usd=budget_usd, chance=chance))
        played()
    return walks


def kind_with(
    kind: WorldKind, *, shape: tuple[int, ...] | None = None, incompatible: int | None = None, golden: int | None = None
) -> WorldKind:
    """Return a kind with some of its numbers changed; errors as for `WorldKind`."""
    changes = {"shape": shape, "incompatible": incompatible, "golden": golden}
    return replace(kind, **{name: value for name, value in changes.items() if value is not None})


def _named(shape: Sequence[int]) -> Iterator[tuple[str, int]]:
    return zip(DIMENSIONS, shape, strict=True)


def _memory(
    kind: WorldKind, codes: NDArray[np.int32], chance: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which vectors fit into memory as preflight estimates it, and which really do."""
    parameters = np.exp(chance.uniform(np.log(_SMALLEST_MODEL), np.log(_LARGEST_MODEL), kind.shape[1]))
    width = np.resize(_BYTES_PER_PARAMETER, kind.shape[3])
    gigabytes = np.resize(_GPU_GB, kind.shape[2])
    estimated = parameters[codes[:, 1]] * width[codes[:, 3]] * _ESTIMATED_OVERHEAD
    usable = _USABLE * gigabytes[codes[:, 2]] * 1e9 * 2.0 ** codes[:, 4]
    return estimated <= usable, estimated * (1 + chance.uniform(0, kind.overhead)) <= usable


def _incompatible(kind: WorldKind, codes: NDArray[np.int32], chance: np.random.Generator) -> NDArray[np.bool_]:
    dimensions = list(itertools.combinations(range(len(kind.shape)), 2))
    found = np.zeros(len(codes), dtype=bool)
    for _ in range(kind.incompatible):
        a, b = dimensions[chance.integers(len(dimensions))]
        value, other = chance.integers(kind.shape[a]), chance.integers(kind.shape[b])
        found |= (codes[:, a] == value) & (codes[:, b] == other)
    return found


def _golden(
    kind: WorldKind, codes: NDArray[np.int32], working: NDArray[np.int64], chance: np.random.Generator
) -> NDArray[np.int64] | None:
    """Return the rows of the golden path: working ones, of few values of each dimension where they are clustered."""
    inside = np.ones(len(working), dtype=bool)
    if kind.clustered:
        for axis, (size, span) in enumerate(zip(kind.shape, _GOLDEN_BOX, strict=True)):
            values = chance.choice(size, min(size, span), replace=False)
            inside &= np.isin(codes[working, axis], values)
    found = working[inside]
    return chance.choice(found, kind.golden, replace=False) if len(found) >= kind.golden else None


def _neighbours(world: World, row: int) -> NDArray[np.int64]:
    codes = world.vectors.codes
    return ((codes != codes[row]).sum(axis=1) == 1).astype(np.int64)


def _per_usd(walked: Walk) -> float:
    spent = float(walked.usd[-1])
    return float(walked.covered[-1] - walked.covered[0]) / spent if spent else 0.0
