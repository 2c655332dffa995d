"""The search for changes of level: against Apache Otava on the same series, and how well it keeps its word.

Belongs here: the measurement, and making an environment for Otava, which pins a numpy of its own. Not here: the search
(`mlcc_dagster.core.change_points`). Otava is asked in one process that reads series and answers, so that its start is not counted.
"""

import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pairs import Comparison, compare
from mlcc_dagster.core.change_points import FALSE_ALARMS, SIGNIFICANCE, change_points
from mlcc_dagster.core.detectability import FRESH_RUNS, POWER, minimum_detectable_effect_pct

OTAVA = "apache-otava==0.8.0"
CACHE = Path(tempfile.gettempdir()) / "mlcc-benchmarks" / OTAVA.replace("==", "-")
"""The environment is kept here, for the next measurement."""

SHARED = Path(__file__).parents[2] / "shared" / "realdata" / "timeseries"

PEER = """
import json, sys
from otava.analysis import compute_change_points, compute_change_points_orig
for line in sys.stdin:
    asked = json.loads(line)
    if asked["search"] == "t-test":
        found, _ = compute_change_points(asked["values"])
    else:
        found, _ = compute_change_points_orig(asked["values"], max_pvalue=asked["significance"], seed=1)
    print(json.dumps([int(each.index) for each in found]), flush=True)
"""

Noise = Callable[[np.random.Generator, int], Any]

NOISES: dict[str, Noise] = {
    "normal noise": lambda g, n: g.normal(size=n),
    "heavy tails (t with 3 degrees of freedom)": lambda g, n: g.standard_t(3, size=n),
    "skew (log-normal)": lambda g, n: np.exp(0.5 * g.normal(size=n)),
    "ties (rounded)": lambda g, n: np.round(g.normal(size=n)),
}
STATIONARY = 1000
SHIFTED = 400
RUNS = (12, 30, 60)


@dataclass
class Otava:
    """The peer, listening."""

    process: "subprocess.Popen[str]"

    def search(self, values: Sequence[float], search: str) -> list[int]:
        """Return the places that Otava finds in a series."""
        assert self.process.stdin is not None and self.process.stdout is not None
        asked = {"values": list(values), "search": search, "significance": SIGNIFICANCE}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def otava() -> Otava:
    """Start the peer in its environment, which is made where it is not there yet."""
    python = CACHE / "bin" / "python"
    if not python.exists():
        venv.create(CACHE, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", OTAVA], check=True, stderr=subprocess.DEVNULL)
    return Otava(subprocess.Popen([python, "-c", PEER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))


def series() -> dict[str, list[float]]:
    """Return series by name: made ones with known steps, and the real ones where they lie beside the checkout."""
    generator = np.random.default_rng(20261122)
    made = {}
    shapes = {"40 runs, one step": (1, 1.1), "120 runs, three steps": (1, 1.1, 1.0, 1.2), "400 runs, quiet": (1,)}
    for name, steps in shapes.items():
        length = int(name.split()[0])
        level = np.repeat(steps, length // len(steps))
        made[name] = list(100 * level * (1 + 0.02 * generator.normal(size=len(level))))
    database = SHARED / "tigerbeetle.json"
    if database.exists():
        rows = sorted(json.loads(database.read_text("utf-8")), key=lambda row: row["timestamp"])
        for place, metric in enumerate(rows[0]["metrics"]):
            made[f"{len(rows)} commits, {metric['name']}"] = [float(row["metrics"][place]["value"]) for row in rows]
    return made


def measure() -> Iterator[Comparison]:
    """Time both searches against Otava's on every series, and print where they answer otherwise; then false alarms and power."""
    peer = otava()
    try:
        for name, values in series().items():
            for search, runs in (("t-test", 5), ("permutation", 1)):
                ours, theirs = (
                    [change.index for change in change_points(values, search=search)],
                    peer.search(values, search),
                )
                same = f"same {len(ours)} places" if ours == theirs else f"ours {ours}, theirs {theirs}"
                yield compare(
                    f"{search}, {name} ({same})",
                    lambda v=values, s=search: change_points(v, search=s),
                    lambda v=values, s=search: peer.search(v, s),
                    runs=runs,
                )
    finally:
        peer.process.stdin.close()  # type: ignore[union-attr]
        peer.process.wait()
    for line in words_kept():
        sys.stdout.write(f"  {line}\n")
        sys.stdout.flush()


def words_kept() -> Iterator[str]:
    """Say how often series that never change have a change found, and how often shifts of the stated size are."""
    for kind, noise in NOISES.items():
        generator = np.random.default_rng(20261123)
        draws = [100 + 2 * noise(generator, 40) for _ in range(STATIONARY)]
        alarms = sum(bool(change_points(list(values))) for values in draws)
        yield f"false alarms, {kind}: {alarms} of {STATIONARY} series of 40 runs (stated: at most {FALSE_ALARMS:.0%})"
    for kind, noise in NOISES.items():
        for runs in RUNS:
            generator = np.random.default_rng(20261124)
            yield f"shifts found, {kind}, {runs} runs before: {found_of(generator, noise, runs)} (stated: at least {POWER:.0%})"


def found_of(generator: np.random.Generator, noise: Noise, runs: int) -> str:
    """Lay the effect that each history states upon five more runs, up or down in turn, and count how many are found."""
    found = stated = 0
    for draw in range(SHIFTED):
        values = 100 + 2 * np.asarray(noise(generator, runs + FRESH_RUNS), dtype=float)
        effect = minimum_detectable_effect_pct(list(values[:runs]))
        if effect is None:
            continue
        stated += 1
        values[runs:] += (1 if draw % 2 else -1) * effect / 100 * values[:runs].mean()
        found += any(abs(change.index - runs) <= 2 for change in change_points(list(values)))
    return f"{found} of {stated} = {found / stated:.3f}"
