"""Provers that share a budget and are killed with SIGKILL while they promise, begin and settle: the books are whole at every
moment, and at no moment is more promised and spent than the ceiling."""

import json
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from mlcc_forks import ROOT, Blow

from mlcc_dagster.core.budget import micros_promised
from resources.ledger import Ledger

pytestmark = pytest.mark.slow

CEILING = 1.0
BOOKS = "resources.ledger"

PROVER = """
import json, os, random, sys
from pathlib import Path

sys.path.insert(0, sys.argv[2])
from mlcc_forks import Blow
from resources.ledger import Ledger

request = json.loads(sys.argv[1])
ledger, chance = Ledger(Path(request["path"])), random.Random(request["seed"])
for blow in request["blows"]:
    Blow(**blow).arm()
print("ready", flush=True)
for number in range(request["runs"]):
    key = f"{request['name']}-{number}"
    usd = request["usd"] or chance.uniform(0.01, 0.3)
    if ledger.reserve("b", key, usd, ceiling_usd=request["ceiling"], deadline_seconds=60):
        # the run id names the process, so that what it leaves behind is known when it is dead
        if ledger.activate(key, f"{key}-of-{os.getpid()}"):
            ledger.settle(key, usd * request["share"])
"""


def start(path: Path, name: str, *, blows: list[Blow], runs: int, usd: float = 0.0, share: float, seed: int = 0) -> Any:
    """Start a prover of its own process."""
    request = {
        "path": str(path),
        "name": name,
        "blows": [asdict(blow) for blow in blows],
        "runs": runs,
        "usd": usd,
        "share": share,
        "seed": seed,
        "ceiling": CEILING,
    }
    return subprocess.Popen(
        [sys.executable, "-c", PROVER, json.dumps(request), str(Path(__file__).parent)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )


@pytest.mark.parametrize(
    ("blow", "state", "left"),
    [
        pytest.param(Blow(f"{BOOKS}:Ledger.reserve", "before"), None, 1.0, id="about to promise"),
        pytest.param(Blow(f"{BOOKS}:_lowest_ceiling", "after"), None, 1.0, id="half way through a promise"),
        pytest.param(Blow(f"{BOOKS}:fits", "after"), None, 1.0, id="it fits, and it is not written"),
        pytest.param(Blow(f"{BOOKS}:Ledger.reserve", "after"), "reserved", 0.4, id="promised, nobody knows of it"),
        pytest.param(Blow(f"{BOOKS}:Ledger.activate", "before"), "reserved", 0.4, id="about to begin"),
        pytest.param(Blow(f"{BOOKS}:Ledger.activate", "after"), "active", 0.4, id="begun, nobody knows of it"),
        pytest.param(Blow(f"{BOOKS}:Ledger.settle", "before"), "active", 0.4, id="done, not charged"),
        pytest.param(Blow(f"{BOOKS}:charge", "after"), "active", 0.4, id="half way through a charge"),
        pytest.param(Blow(f"{BOOKS}:Ledger.settle", "after"), "settled", 0.85, id="charged, nobody knows of it"),
    ],
)
def test_killed_at_any_step_a_prover_leaves_whole_books_and_the_rest_to_others(
    tmp_path: Path, blow: Blow, state: str | None, left: float
) -> None:
    path = tmp_path / "state.sqlite"
    prover = start(path, "killed", blows=[blow], runs=1, usd=0.6, share=0.25)
    prover.communicate(timeout=60)
    assert prover.returncode == -signal.SIGKILL
    ledger = Ledger(path)
    kept = ledger.reservation("killed-0")
    assert (kept.state if kept else None) == state
    assert not ledger.reserve("b", "too much", left + 1e-6, ceiling_usd=CEILING, deadline_seconds=60)
    assert ledger.reserve("b", "the rest", left, ceiling_usd=CEILING, deadline_seconds=60)
    assert ledger.totals("b").committed_usd == CEILING
    # what the killed one promised comes back by its deadline, or is charged by whoever finds it
    assert ("killed-0" in ledger.release_overdue(time.time() + 61)) == (state == "reserved")
    assert ledger.settle("killed-0", 0.1) == (state == "active")
    spent = {"active": 0.1, "settled": 0.15}.get(state or "", 0.0)
    assert ledger.totals("b").committed_usd == spent


def test_provers_that_are_killed_all_the_time_never_pass_the_ceiling_together(tmp_path: Path) -> None:
    path, chance = tmp_path / "state.sqlite", random.Random(7)
    Ledger(path).budgets()
    over = threading.Event()
    samples: list[float] = []

    def observe() -> None:
        ledger = Ledger(path)
        while not over.is_set():
            samples.extend(budget.totals.committed_usd for budget in ledger.budgets())
            time.sleep(0.001)

    observer = threading.Thread(target=observe)
    observer.start()
    ends: list[int] = []
    try:
        for turn in range(6):
            provers = []
            for number in range(3):
                # some die at a step, the others whenever it hits them
                step = chance.choice(["reserve", "activate", "settle", None, None])
                side, call = chance.choice(["before", "after"]), chance.randint(1, 6)
                blows = [] if step is None else [Blow(f"{BOOKS}:Ledger.{step}", side, call)]
                name = f"{turn}-{number}"
                provers.append(start(path, name, blows=blows, runs=100_000, share=0.02, seed=hash((turn, number))))
            for prover in provers:
                assert prover.stdout.readline() == b"ready\n"
            for prover in provers:
                time.sleep(chance.uniform(0.05, 0.25))
                prover.kill()
            for prover in provers:
                prover.communicate(timeout=60)
                ends.append(prover.returncode)
            # the reaper's part: what dead provers left is charged or released
            ledger = Ledger(path)
            for promise in ledger.reservations(state="active"):
                ledger.settle(promise.run_key, promise.usd * 0.02)
            ledger.release_overdue(time.time() + 61)
            assert ledger.totals("b").active_usd == ledger.totals("b").reserved_usd == 0
    finally:
        over.set()
        observer.join()
    assert ends == [-signal.SIGKILL] * 18
    assert len(samples) > 100
    assert 0.1 < max(samples) <= CEILING
    (budget,) = Ledger(path).budgets()
    settled = Ledger(path).reservations(state="settled")
    assert len(settled) > 18
    assert micros_promised(budget.totals.spent_usd) == sum(micros_promised(each.spent_usd) for each in settled)
    assert budget.totals.overrun_usd == 0
