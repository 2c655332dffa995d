"""A race: two threads add to one counter, and sometimes an addition is lost.

Belongs here: the example alone. Each step hands one addition to the two threads in turn. An addition reads the counter, works a
moment, and writes. Now and then it works long (`SLOW_SHARE`); then the other thread reads meanwhile what is about to be
overwritten, and one addition is lost. The trial fails when the counter is not the number of steps.

`MLCC_EXAMPLE_LOCK=1` makes read and write one step under a lock: the cure. `MLCC_EXAMPLE_LOCK_FIRST` and `…_SECOND` make one of
both threads take it: a lock that the other does not take cures nothing, so both are needed. `MLCC_EXAMPLE_SLEEP_MS` holds every
step up: longer than an addition can take, and the race is hidden, not cured.
"""

import os
import queue
import random
import threading
import time
from contextlib import AbstractContextManager, nullcontext

from resources.triage.workloads import Report, SetupFailed, Trial

LOCK_VARIABLE = "MLCC_EXAMPLE_LOCK"
THREAD_LOCK_VARIABLES = ("MLCC_EXAMPLE_LOCK_FIRST", "MLCC_EXAMPLE_LOCK_SECOND")
SLEEP_VARIABLE = "MLCC_EXAMPLE_SLEEP_MS"

STEP_SECONDS = 0.006
"""From one addition to the next, when nothing holds it up."""

QUICK_SECONDS = 0.0005
SLOW_SECONDS = 0.013
"""How long an addition works between reading and writing: mostly quick, and now and then beyond the next step."""

SLOW_SHARE = 0.035
"""How many of the additions are slow."""

LONGEST_SLEEP_MS = 60_000.0


def expected_failure_rate(steps: int) -> float:
    """Return the share of trials that fails without a mitigation: those where any addition but the last is slow. The machine
    adds a little when its threads wait longer than they ask to."""
    return 1 - (1 - SLOW_SHARE) ** max(0, steps - 1)


def run(trial: Trial) -> Report:
    """Add `trial.steps` times and compare. Raises `SetupFailed` for a length of sleep that is no number."""
    lock = threading.Lock()
    locks: list[AbstractContextManager[object]] = [
        lock if _is_set(LOCK_VARIABLE) or _is_set(own) else nullcontext() for own in THREAD_LOCK_VARIABLES
    ]
    seconds = STEP_SECONDS + _sleep_seconds()
    counter = _Counter()
    lanes = [queue.SimpleQueue[bool]() for _ in range(2)]
    threads = [
        threading.Thread(target=_additions, args=(lane, counter, taken), daemon=True)
        for lane, taken in zip(lanes, locks, strict=True)
    ]
    for thread in threads:
        thread.start()
    try:
        for step in range(trial.steps):
            with trial.step():
                lanes[step % 2].put(True)
                time.sleep(seconds)
            trial.remaining()
    finally:
        for lane in lanes:
            lane.put(False)
        for thread in threads:
            thread.join()
    lost = trial.steps - counter.value
    return Report(
        passed=lost == 0,
        reason=f"the counter is {counter.value} after {trial.steps} additions" if lost else None,
        label="lost update" if lost else None,
        metrics={"lost": lost},
    )


class _Counter:
    value = 0


def _additions(lane: "queue.SimpleQueue[bool]", counter: _Counter, lock: AbstractContextManager[object]) -> None:
    drawn = random.Random()
    while lane.get():
        with lock:
            value = counter.value
            time.sleep(SLOW_SECONDS if drawn.random() < SLOW_SHARE else QUICK_SECONDS)
            counter.value = value + 1


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "0") not in ("", "0")


def _sleep_seconds() -> float:
    text = os.environ.get(SLEEP_VARIABLE, "0")
    try:
        milliseconds = float(text)
    except ValueError:
        milliseconds = -1.0
    if not 0 <= milliseconds <= LONGEST_SLEEP_MS:
        raise SetupFailed(f"{SLEEP_VARIABLE} must be milliseconds from 0 to {LONGEST_SLEEP_MS:g}")
    return milliseconds / 1000
