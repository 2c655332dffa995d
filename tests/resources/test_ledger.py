"""The ledger: what is intended is never forgotten, released once, and no budget is ever promised beyond its ceiling."""

import json
import math
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from mlcc_dagster.core.budget import Totals
from mlcc_dagster.core.exceptions import LeaseLost, UsageError
from resources.database import MIGRATIONS, SCHEMA, SCHEMA_VERSION, Database
from resources.ledger import Ledger

ROOT = Path(__file__).parents[2]
RUN = "0123abcd-g1"


@dataclass
class Clock:
    """A clock that tests move by hand."""

    now: float = 1_750_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Ledger:
    return Ledger(tmp_path / "state.sqlite", clock=clock)


def intend(ledger: Ledger, *, run_id: str = RUN, ref: str = "server", seconds: float = 60) -> int:
    return ledger.intend(run_id=run_id, kind="process", ref=ref, deadline_seconds=seconds)


def test_a_resource_is_known_from_its_intent_until_its_release(ledger: Ledger, clock: Clock) -> None:
    number = intend(ledger)
    assert [(r.id, r.state, r.deadline) for r in ledger.alive(RUN)] == [(number, "intended", clock.now + 60)]
    ledger.confirm(number, {"pid": 7})
    ledger.confirm(number, {"port": 8080})
    assert [(r.state, dict(r.details)) for r in ledger.alive()] == [("alive", {"pid": 7, "port": 8080})]
    assert [ledger.release(number, how) for how in ("clean", "reaper")] == [True, False]
    assert ledger.alive() == []
    assert [(r.state, r.how) for r in ledger.history(RUN)] == [("released", "clean")]


def test_a_maker_whose_intent_was_reaped_is_told_to_end_what_it_made(ledger: Ledger) -> None:
    number = intend(ledger)
    ledger.release(number, "reaper: deadline")
    with pytest.raises(LeaseLost, match=r"reaper: deadline.*end it"):
        ledger.confirm(number, {})
    with pytest.raises(UsageError, match="intent first"):
        ledger.confirm(number + 1, {})


def test_runs_and_numbers_narrow_what_is_read(ledger: Ledger) -> None:
    first, second = intend(ledger, ref="one"), intend(ledger, run_id="other-g1", ref="two")
    assert [r.id for r in ledger.alive(RUN)] == [first]
    assert [r.id for r in ledger.history()] == [second, first]
    assert [r.id for r in ledger.history(limit=1)] == [second]


def test_prolonging_never_shortens(ledger: Ledger, clock: Clock) -> None:
    intend(ledger, seconds=60)
    intend(ledger, seconds=5000)
    ledger.prolong(RUN, 600)
    assert [r.deadline - clock.now for r in ledger.alive(RUN)] == [600, 5000]


def test_putting_off_sets_every_deadline_anew_and_of_that_run_alone(ledger: Ledger, clock: Clock) -> None:
    intend(ledger, seconds=60)
    intend(ledger, seconds=5000)
    intend(ledger, run_id="other-g1", seconds=5000)
    ledger.put_off(RUN, 600)
    assert [r.deadline - clock.now for r in ledger.alive()] == [600, 600, 5000]


def test_a_slot_is_held_by_as_many_as_fit_and_comes_back_when_given_back(ledger: Ledger) -> None:
    asked = [ledger.acquire_slot("local", f"r-g{n}", capacity=2, lease_seconds=90) for n in (1, 2, 3)]
    assert asked == [True, True, False]
    assert ledger.acquire_slot("aws", "r-g3", capacity=1, lease_seconds=90), "pools are apart"
    assert ledger.acquire_slot("local", "r-g1", capacity=2, lease_seconds=90), "its own again"
    assert [s.run_id for s in ledger.slots("local")] == ["r-g1", "r-g2"]
    assert ledger.release_slots("r-g2") == ("local",)
    assert ledger.release_slots("r-g2") == ()
    assert ledger.acquire_slot("local", "r-g3", capacity=2, lease_seconds=90)


def test_a_slot_whose_lease_ran_out_is_taken_over_and_its_old_holder_sees_it(ledger: Ledger, clock: Clock) -> None:
    ledger.acquire_slot("local", "old-g1", capacity=1, lease_seconds=90)
    clock.now += 60
    assert ledger.beat_slots("old-g1", 90) == ("local",)
    clock.now += 89
    assert not ledger.acquire_slot("local", "new-g1", capacity=1, lease_seconds=90), "a beat renewed it"
    clock.now += 1
    assert ledger.acquire_slot("local", "new-g1", capacity=1, lease_seconds=90)
    assert ledger.beat_slots("old-g1", 90) == ()
    assert [s.run_id for s in ledger.slots()] == ["new-g1"]


def reserve(ledger: Ledger, key: str, usd: float, *, ceiling: float = 1.0, budget: str = "b", seconds: float = 60):
    return ledger.reserve(budget, key, usd, ceiling_usd=ceiling, deadline_seconds=seconds)


def test_money_goes_from_reserved_to_active_to_settled(ledger: Ledger) -> None:
    assert reserve(ledger, "k", 0.6)
    assert ledger.totals("b") == Totals(0.6, 0, 0, 0, 1)
    assert ledger.activate("k", RUN)
    assert ledger.totals("b") == Totals(0, 0.6, 0, 0, 1)
    assert [ledger.settle(RUN, 0.25) for _ in range(2)] == [True, False]
    assert ledger.totals("b") == Totals(0, 0, 0.25, 0, 1)
    kept = ledger.reservation("k")
    assert kept is not None
    assert (kept, kept.state, kept.run_id, kept.usd) == (ledger.reservation(RUN), "settled", RUN, 0.6)
    assert ledger.totals("never used") == Totals(0, 0, 0, 0)
    assert ledger.reservation("unknown") is None


def test_the_first_promise_may_not_pass_the_ceiling_either(ledger: Ledger) -> None:
    assert not reserve(ledger, "k", 1.000001)
    assert reserve(ledger, "k", 1.0)
    assert not reserve(ledger, "another", 0.000001)


def test_asking_twice_is_one_promise(ledger: Ledger) -> None:
    assert [reserve(ledger, "k", 0.6) for _ in range(3)] == [True, True, True]
    assert ledger.totals("b").reserved_usd == 0.6
    with pytest.raises(UsageError, match="budget 'b'"):
        reserve(ledger, "k", 0.1, budget="another")


def test_a_promise_that_no_run_started_on_is_released_by_its_deadline(ledger: Ledger, clock: Clock) -> None:
    reserve(ledger, "k", 0.6, seconds=60)
    reserve(ledger, "later", 0.1, seconds=600)
    assert ledger.release_overdue() == ()
    clock.now += 60
    assert not ledger.activate("k", RUN), "too late even before anybody released it"
    assert ledger.release_overdue() == ("k",)
    assert not ledger.activate("k", RUN)
    assert not ledger.settle("k", 0.6)
    assert ledger.totals("b") == Totals(0.1, 0, 0, 0, 1)
    assert reserve(ledger, "k", 0.5), "a released key may be promised anew"
    assert ledger.activate("k", RUN)
    assert ledger.release_overdue(clock.now + 10_000) == ("later",), "an active promise has no deadline"


@pytest.mark.parametrize(
    ("key", "run_id", "granted", "why"),
    [
        ("k", RUN, True, "the run itself may ask again"),
        ("k", "other-g1", False, "one promise pays for one run"),
        ("unknown", "other-g1", False, "no promise, no money"),
        ("second", RUN, False, "one run is paid from one promise"),
    ],
)
def test_a_promise_belongs_to_one_run(ledger: Ledger, key: str, run_id: str, granted: bool, why: str) -> None:
    reserve(ledger, "k", 0.1)
    reserve(ledger, "second", 0.1)
    ledger.activate("k", RUN)
    assert ledger.activate(key, run_id) is granted, why


def test_a_settled_key_is_spent(ledger: Ledger) -> None:
    reserve(ledger, "k", 0.1)
    assert ledger.settle("k", 0.0), "a run that lost its claim used nothing"
    assert not reserve(ledger, "k", 0.1)


def test_what_was_used_beyond_a_promise_is_kept_apart_and_blocks_later_promises(ledger: Ledger) -> None:
    reserve(ledger, "k", 0.5)
    ledger.activate("k", RUN)
    ledger.settle(RUN, 0.75)
    totals = ledger.totals("b")
    assert (totals.spent_usd, totals.overrun_usd, totals.committed_usd) == (0.5, 0.25, 0.5)
    assert not reserve(ledger, "next", 0.3)
    assert reserve(ledger, "next", 0.25)


def test_the_lowest_ceiling_that_anybody_named_holds_for_all(ledger: Ledger) -> None:
    assert reserve(ledger, "a", 0.4, ceiling=1.0)
    assert not reserve(ledger, "b", 0.2, ceiling=0.5), "one names less and is held to it"
    assert not reserve(ledger, "c", 0.2, ceiling=1.0), "and so is everybody else from then on"
    assert reserve(ledger, "d", 0.1, ceiling=2.0)
    (budget,) = ledger.budgets()
    assert (budget.ceiling_usd, budget.left_usd, budget.totals) == (0.5, 0.0, ledger.totals("b"))


def test_a_ceiling_below_what_is_promised_already_stops_every_later_promise(ledger: Ledger) -> None:
    assert reserve(ledger, "a", 0.4)
    assert reserve(ledger, "a", 0.4, ceiling=0.3), "what was promised stays promised"
    assert not reserve(ledger, "b", 0.0001)
    assert [budget.left_usd for budget in ledger.budgets()] == [0.0]


def test_a_budget_is_known_from_the_first_time_anything_was_asked_of_it(ledger: Ledger, clock: Clock) -> None:
    assert ledger.budgets() == []
    assert not reserve(ledger, "k", 2.0, budget="poor")
    clock.now += 1
    assert reserve(ledger, "l", 0.5, budget="rich", ceiling=10.0)
    newest, oldest = ledger.budgets()
    assert (newest.name, newest.ceiling_usd, newest.left_usd, newest.totals.runs) == ("rich", 10.0, 9.5, 1)
    assert (oldest.name, oldest.ceiling_usd, oldest.totals) == ("poor", 1.0, Totals(0, 0, 0, 0))
    assert newest.created_at > oldest.created_at


def test_budgets_do_not_count_against_each_other(ledger: Ledger) -> None:
    assert reserve(ledger, "k", 1.0, budget="one")
    assert reserve(ledger, "l", 1.0, budget="other")
    assert [budget.left_usd for budget in ledger.budgets()] == [0.0, 0.0]


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"usd": -0.1}, id="a negative promise makes room for others"),
        pytest.param({"usd": math.nan}, id="no number"),
        pytest.param({"usd": math.inf}, id="no end"),
        pytest.param({"usd": 1e300}, id="more than the books can hold"),
        pytest.param({"ceiling_usd": math.nan}, id="a ceiling that nothing is above"),
        pytest.param({"ceiling_usd": math.inf}, id="no ceiling"),
        pytest.param({"deadline_seconds": math.nan}, id="a time that never comes"),
        pytest.param({"deadline_seconds": math.inf}, id="a promise that would never be released"),
        pytest.param({"deadline_seconds": -1.0}, id="a time that is over"),
    ],
)
def test_what_is_no_amount_or_time_is_refused_and_leaves_nothing(ledger: Ledger, wrong: dict[str, float]) -> None:
    asked: dict[str, float] = {"usd": 0.1, "ceiling_usd": 1.0, "deadline_seconds": 60.0} | wrong
    with pytest.raises(UsageError, match="at least 0"):
        ledger.reserve("b", "k", asked.pop("usd"), **asked)  # type: ignore[arg-type]
    assert ledger.reservations() == []
    assert ledger.budgets() == []


@pytest.mark.parametrize("usd", [-0.1, math.nan, math.inf, 1e300])
def test_a_charge_that_is_no_amount_is_refused_and_the_promise_stays(ledger: Ledger, usd: float) -> None:
    reserve(ledger, "k", 0.5)
    ledger.activate("k", RUN)
    with pytest.raises(UsageError, match="at least 0"):
        ledger.settle(RUN, usd)
    assert ledger.totals("b").active_usd == 0.5


@pytest.mark.parametrize("seconds", [-86_400, 86_400])
def test_a_clock_that_is_set_anew_keeps_promises_or_gives_them_back_and_never_both(
    ledger: Ledger, clock: Clock, seconds: float
) -> None:
    reserve(ledger, "begun", 0.5)
    reserve(ledger, "waiting", 0.5)
    ledger.activate("begun", RUN)
    clock.now += seconds
    released = ledger.release_overdue()
    assert released == (("waiting",) if seconds > 0 else ())
    assert ledger.activate("waiting", "other-g1") is not bool(released)
    assert ledger.settle(RUN, 0.1), "a run that began is charged whatever the clock says"


def test_a_home_of_the_second_version_gains_its_budgets_and_keeps_its_promises(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    later = {statement for version in MIGRATIONS if version >= 2 for statement in MIGRATIONS[version]}
    with sqlite3.connect(path) as connection:
        for statement in SCHEMA:
            if statement not in later:
                connection.execute(statement)
        for key, budget, state, day in (("k", "newer", "reserved", 2), ("l", "older", "settled", 1)):
            connection.execute(
                "INSERT INTO reservation (run_key, budget, state, promised_micros, spent_micros, deadline, created_at) "
                "VALUES (?, ?, ?, 400000, ?, 0, ?)",
                (key, budget, state, 100_000 if state == "settled" else 0, f"2026-11-0{day}T00:00:00.000000Z"),
            )
        connection.execute("PRAGMA user_version = 2")
    ledger = Ledger(path)
    assert [(b.name, b.ceiling_usd, b.left_usd) for b in ledger.budgets()] == [
        ("newer", None, None),
        ("older", None, None),
    ]
    assert ledger.totals("newer") == Totals(0.4, 0, 0, 0, 1)
    assert not reserve(ledger, "m", 0.7, budget="newer"), "what was promised before the ceiling was kept counts"
    assert next((b.name, b.ceiling_usd, b.left_usd) for b in ledger.budgets()) == ("newer", 1.0, 0.6)
    with Database(path).reading() as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION


KEYS = st.sampled_from(["k1", "k2", "k3"])
AMOUNTS = st.sampled_from([0.1, 0.333333, 0.6, 1.0])
CEILING = 1.0


def budget_machine(path: Path) -> type[RuleBasedStateMachine]:
    """Return a machine that uses one budget in any order and checks the invariant after every step."""
    databases = iter(range(10_000))

    class Budget(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.clock = Clock()
            self.ledger = Ledger(path / f"{next(databases)}.sqlite", clock=self.clock)
            self.used = 0.0

        @rule(key=KEYS, usd=AMOUNTS)
        def reserve(self, key: str, usd: float) -> None:
            granted = self.ledger.reserve("b", key, usd, ceiling_usd=CEILING, deadline_seconds=60)
            kept = self.ledger.reservation(key)
            assert granted == (kept is not None and kept.state in ("reserved", "active"))

        @rule(key=KEYS)
        def activate(self, key: str) -> None:
            before = self.ledger.reservation(key)
            granted = self.ledger.activate(key, f"{key}-g1")
            assert not granted or (before is not None and before.state in ("reserved", "active"))

        @rule(key=KEYS, usd=AMOUNTS)
        def settle(self, key: str, usd: float) -> None:
            if self.ledger.settle(key, usd):
                self.used += usd

        @rule(seconds=st.sampled_from([1, 30, 61]))
        def wait(self, seconds: int) -> None:
            self.clock.now += seconds

        @rule()
        def release_overdue(self) -> None:
            self.ledger.release_overdue()

        @invariant()
        def never_above_the_ceiling(self) -> None:
            totals = self.ledger.totals("b")
            assert totals.committed_usd <= CEILING
            assert totals.spent_usd + totals.overrun_usd == pytest.approx(self.used)

    return Budget


def test_no_order_of_events_promises_more_than_the_ceiling(tmp_path: Path) -> None:
    run_state_machine_as_test(
        budget_machine(tmp_path),
        settings=settings(
            max_examples=30, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )


SPEND = """
import json, random, sys
from pathlib import Path
from resources.ledger import Ledger
path, name = sys.argv[1:]
ledger, chance = Ledger(Path(path)), random.Random(int(name))
sys.stdin.read(1)
highest = 0.0
for number in range(15):
    key, usd, wait = f"{name}-{number}", chance.choice([0.1, 0.2, 0.35]), chance.choice([0, 60])
    if ledger.reserve("b", key, usd, ceiling_usd=1.0, deadline_seconds=wait):
        if ledger.activate(key, key + "-g1") and chance.random() < 0.7:
            ledger.settle(key, chance.choice([0.0, 0.01, 0.05]))
    if chance.random() < 0.3:
        ledger.release_overdue()
    highest = max(highest, ledger.totals("b").committed_usd)
print(json.dumps(highest))
"""


def test_provers_that_share_a_budget_never_pass_it_together(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    children: list[Any] = [
        subprocess.Popen(
            [sys.executable, "-c", SPEND, str(path), str(n)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        for n in range(3)
    ]
    for child in children:
        child.stdin.write(b"!")
        child.stdin.flush()
    seen = [json.loads(child.communicate(timeout=60)[0]) for child in children]
    assert [child.returncode for child in children] == [0, 0, 0]
    assert 0.5 < max(seen) <= 1.0
    totals = Ledger(path).totals("b")
    assert 0 < totals.committed_usd <= 1.0
    assert totals.overrun_usd == 0
