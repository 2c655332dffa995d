"""The ledger as a hard invariant: whatever crashes, in whatever order, no more is ever promised and spent together than the
ceiling allows."""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from mlcc_dagster.core.budget import micros_ceiling, micros_promised
from resources.database import Database
from resources.ledger import Ledger


class Crash(BaseException):
    """The process dies here."""


@dataclass(frozen=True)
class Mortal(Database):
    """A database whose user dies before or after its next commit, where `doom` says so."""

    doom: list[str] = field(default_factory=list)

    @contextmanager
    def writing(self) -> Iterator[Any]:
        moment = self.doom.pop() if self.doom else ""
        with super().writing() as connection:
            yield connection
            if moment == "before commit":
                raise Crash
        if moment == "after commit":
            raise Crash


@dataclass
class Prover:
    """One of several that share a budget; what it knows is gone when it crashes."""

    key: str | None = None
    run_id: str | None = None

    def forget(self) -> None:
        self.key = self.run_id = None


DEATHS = st.sampled_from(["", "", "", "before commit", "after commit"])
PROVERS = st.integers(0, 3)
CEILINGS = st.sampled_from([1.0, 1.0, 1.5, 0.8])
# fractions of a micro-dollar, so that rounding is met
PRICES = st.floats(min_value=1e-7, max_value=0.01)
SECONDS = st.floats(min_value=0, max_value=500)


def provers_machine(folder: Path) -> type[RuleBasedStateMachine]:
    """Return a machine of provers that promise, run, overrun, crash and are reaped while clocks are set anew."""
    numbers = count()

    class Provers(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.now = 1_750_000_000.0
            self.doom: list[str] = []
            path = folder / f"{next(numbers)}.sqlite"
            self.ledger = Ledger(path, clock=lambda: self.now)
            self.ledger._database = Mortal(path, self.doom)
            self.provers = [Prover() for _ in range(4)]
            self.keys = count()
            self.lowest = 10**12
            self.known: dict[str, str] = {}
            self.charged: dict[str, int] = {}

        def attempt(self, death: str, act: Callable[[], Any], *, by: Prover | None = None) -> Any:
            """Do something and return what came of it, none when its doer died: then nobody has heard of it."""
            self.doom[:] = [death] if death else []
            try:
                return act()
            except Crash:
                if by is not None:
                    by.forget()
                return None
            finally:
                self.doom.clear()

        @rule(number=PROVERS, price=PRICES, seconds=SECONDS, ceiling=CEILINGS, death=DEATHS)
        def promise(self, number: int, price: float, seconds: float, ceiling: float, death: str) -> None:
            prover, key = self.provers[number], f"k{next(self.keys)}"
            before = self.committed()
            granted = self.attempt(
                death,
                lambda: self.ledger.reserve("b", key, price * seconds, ceiling_usd=ceiling, deadline_seconds=60),
                by=prover,
            )
            if death != "before commit":
                self.lowest = min(self.lowest, micros_ceiling(ceiling))
            amount = micros_promised(price * seconds)
            is_there = self.ledger.reservation(key) is not None
            assert is_there == (death != "before commit" and before + amount <= self.lowest)
            if is_there:
                self.known[key] = "reserved"
            if granted:
                prover.key, prover.run_id = key, None

        @rule(number=PROVERS, death=DEATHS)
        def begin(self, number: int, death: str) -> None:
            prover = self.provers[number]
            if prover.key is not None and prover.run_id is None:
                key, run_id = prover.key, f"{prover.key}-g1"
                if self.attempt(death, lambda: self.ledger.activate(key, run_id), by=prover):
                    prover.run_id = run_id

        @rule(number=PROVERS, share=st.floats(0, 3), death=DEATHS)
        def settle(self, number: int, share: float, death: str) -> None:
            prover = self.provers[number]
            if prover.run_id is not None:
                self.charge(prover.run_id, share, death, by=prover)
                prover.forget()

        @rule(share=st.floats(0, 3), death=DEATHS)
        def reap(self, share: float, death: str) -> None:
            """Settle what crashed provers left active, as the reaper does."""
            alive = {prover.run_id for prover in self.provers}
            for reservation in self.ledger.reservations(state="active"):
                if reservation.run_id not in alive:
                    self.charge(reservation.run_key, share, death)
            self.attempt(death, self.ledger.release_overdue)

        @rule(share=st.floats(0, 3))
        def settle_again(self, share: float) -> None:
            """A second settlement of anything that is over changes nothing."""
            for reservation in self.ledger.reservations(state="settled"):
                assert not self.ledger.settle(reservation.run_key, share)
                assert not self.ledger.settle(reservation.run_id or "nobody", share)

        @rule(number=PROVERS)
        def crash(self, number: int) -> None:
            self.provers[number].forget()

        @rule(seconds=st.sampled_from([1, 30, 61, -61, 100_000, -100_000]))
        def clock_steps(self, seconds: int) -> None:
            self.now += seconds

        def charge(self, key: str, share: float, death: str, *, by: Prover | None = None) -> None:
            reservation = self.ledger.reservation(key)
            assert reservation is not None
            used = reservation.usd * share
            self.attempt(death, lambda: self.ledger.settle(key, used), by=by)
            after = self.ledger.reservation(key)
            assert after is not None
            assert (after.state == "settled") == (death != "before commit")
            if after.state == "settled":
                self.charged[after.run_key] = micros_promised(used)

        def committed(self) -> int:
            totals = self.ledger.totals("b")
            return micros_promised(totals.committed_usd) + micros_promised(totals.overrun_usd)

        @invariant()
        def promised_and_spent_stay_below_the_ceiling(self) -> None:
            totals = self.ledger.totals("b")
            # the ceiling may have been lowered below what was promised before; the highest that was ever named holds
            assert totals.committed_usd <= 1.5
            for budget in self.ledger.budgets():
                assert budget.ceiling_usd == self.lowest / 1_000_000
                assert budget.totals == totals

        @invariant()
        def no_money_is_lost_or_charged_twice(self) -> None:
            totals = self.ledger.totals("b")
            assert micros_promised(totals.spent_usd) + micros_promised(totals.overrun_usd) == sum(self.charged.values())
            for reservation in self.ledger.reservations():
                assert reservation.run_key in self.known
                assert reservation.spent_usd <= reservation.usd
                assert reservation.overrun_usd == 0 or reservation.spent_usd == reservation.usd
                settled = reservation.run_key in self.charged
                assert (reservation.state == "settled") == settled
                assert reservation.state != "reserved" or reservation.run_id is None

    return Provers


@pytest.mark.slow
def test_no_order_of_promises_crashes_and_clocks_passes_the_ceiling(tmp_path: Path) -> None:
    run_state_machine_as_test(
        provers_machine(tmp_path),
        settings=settings(
            max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )


def test_eight_provers_at_once_never_pass_the_ceiling_at_any_moment(tmp_path: Path) -> None:
    path, provers, ceiling = tmp_path / "state.sqlite", 8, 1.0
    start, over = threading.Barrier(provers + 1), threading.Event()
    charged: list[int] = []
    granted: list[str] = []
    problems: list[BaseException] = []

    def prove(number: int) -> None:
        ledger, chance = Ledger(path), random.Random(number)
        left: list[str] = []
        start.wait()
        for turn in range(12):
            while left:  # what it left active when it crashed is settled later, as a reaper does
                promise = ledger.reservation(left.pop())
                assert promise is not None
                assert ledger.settle(promise.run_key, promise.usd / 10)
                charged.append(micros_promised(promise.usd / 10))
            # every prover tries keys of its own and one that all of them try
            for key in (f"{number}-{turn}", f"shared-{turn}"):
                usd = chance.uniform(0.01, 0.4)
                if not ledger.reserve("b", key, usd, ceiling_usd=ceiling, deadline_seconds=chance.choice([0, 60])):
                    continue
                run_id = f"{key}-g{number}"
                if not ledger.activate(key, run_id):
                    continue  # too late, or another's
                granted.append(key)
                if chance.random() < 0.2:
                    left.append(run_id)
                    continue
                used = chance.uniform(0, 0.1) * usd
                if ledger.settle(run_id, used):
                    charged.append(micros_promised(used))
            ledger.release_overdue()

    def guarded(number: int) -> None:
        try:
            prove(number)
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(provers)]
    for thread in threads:
        thread.start()
    samples: list[float] = []

    def observe() -> None:
        ledger = Ledger(path)
        while not over.is_set():
            samples.append(ledger.totals("b").committed_usd)

    observer = threading.Thread(target=observe)
    observer.start()
    start.wait()
    for thread in threads:
        thread.join()
    over.set()
    observer.join()
    assert problems == []
    assert len(samples) > 10
    assert 0.5 < max(samples) <= ceiling
    assert len(granted) == len(set(granted)) > provers, "no key paid for two runs"
    totals = Ledger(path).totals("b")
    assert micros_promised(totals.spent_usd) == sum(charged)
    assert totals.overrun_usd == 0


def test_of_a_start_and_a_release_at_the_same_moment_exactly_one_wins(tmp_path: Path) -> None:
    path, deadline = tmp_path / "state.sqlite", 1_750_000_000.0
    # the clocks of two processes need not agree: each is right by its own
    early, late = Ledger(path, clock=lambda: deadline - 0.001), Ledger(path, clock=lambda: deadline + 0.001)
    won = {"start": 0, "release": 0}
    for turn in range(40):
        key = f"k{turn}"
        assert Ledger(path, clock=lambda: deadline - 60).reserve("b", key, 1.0, ceiling_usd=1.0, deadline_seconds=60)
        both = threading.Barrier(2)
        done: dict[str, bool] = {}

        def start(key: str = key, both: threading.Barrier = both, done: dict[str, bool] = done) -> None:
            both.wait()
            done["start"] = early.activate(key, f"{key}-g1")

        def release(key: str = key, both: threading.Barrier = both, done: dict[str, bool] = done) -> None:
            both.wait()
            done["release"] = key in late.release_overdue()

        threads = [threading.Thread(target=act) for act in random.sample([start, release], 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(done.values()) == [False, True], "the money is the run's, or it is back; never both or neither"
        won["start" if done["start"] else "release"] += 1
        assert early.totals("b").committed_usd == (1.0 if done["start"] else 0.0)
        assert not early.activate(key, "another-g1")
        if done["start"]:
            early.settle(key, 0.0)
    assert sum(won.values()) == 40
