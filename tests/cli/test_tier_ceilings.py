"""`mlcc run --tier` and its ceiling: promised before each run, held whatever happens, and said in the end."""

import re
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from command_calls import Call

sys.path.insert(0, str(Path(__file__).parents[1] / "assets"))

from scripted_runs import Scripted, platform_with

from catalog.loader import load_catalog
from catalog.model import Catalog
from mlcc_dagster.cli import rounds
from mlcc_dagster.cli.dagster_runs import DagsterRuns
from mlcc_dagster.cli.tier_money import TierMoney, money_of
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.outcome import BenchmarkPlan, Claim
from mlcc_dagster.core.resolution import configuration_of
from mlcc_dagster.core.stages import Stage
from resources import home_catalog, platform, processes
from resources.ci_table import Commit
from resources.executor import StageRequest
from resources.home import Home
from resources.ledger import Ledger
from resources.platform import Platform
from resources.rounds import Round
from resources.tier_runs import Purse, ceiling_of, plan_round

NAMES = ("local-fastapi-forest-1cpu", "local-flask-forest-1cpu")


def small_catalog(ceiling_usd: float) -> Catalog:
    """The catalog with two entries in the local tier, and a ceiling."""
    shipped = load_catalog()
    entries = tuple(entry for entry in shipped.entries if entry.id in NAMES)
    tiers = dict(shipped.tiers) | {"local": replace(shipped.tiers["local"], cost_ceiling_usd=ceiling_usd)}
    return replace(shipped, entries=entries, tiers=tiers)


@pytest.fixture
def executor(home: Path, monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """The executor of every platform that is opened: its stages take no time."""
    made = Scripted(Home(home))
    monkeypatch.setattr(platform, "open_executor", lambda name, of: made)
    monkeypatch.setattr(DagsterRuns, "refresh", lambda self: None)
    return made


def bound(monkeypatch: pytest.MonkeyPatch, usd: float) -> None:
    """Let everything see the small catalog with this ceiling."""
    made = small_catalog(usd)
    for module in (home_catalog, platform):
        monkeypatch.setattr(module, "catalog_of", lambda home: made)


@pytest.fixture
def opened(home: Path, executor: Scripted) -> Platform:
    """The platform that a command opens, on its home."""
    made = platform_with(Home(home), executor)
    object.__setattr__(made, "catalog", small_catalog(0.038))
    return made


def keys_of(opened: Platform) -> list[str]:
    return [config_id(configuration_of(entry, opened.catalog)) for entry in opened.catalog.tier_entries("local")]


# ---- the whole command


@pytest.mark.slow
def test_a_tier_is_promised_its_money_run_by_run_and_the_report_says_estimate_actual_and_ceiling(
    mlcc: Call, executor: Scripted, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound(monkeypatch, 0.05)
    promised: list[float] = []

    def look(request: StageRequest) -> None:
        totals = Ledger(Home(home).database).totals(Ledger(Home(home).database).budgets()[0].name)
        promised.append(totals.committed_usd)

    executor.scripts[Stage.TEST] = look
    answer = mlcc("run", "--tier", "local", "--json")
    assert answer.code == 0
    document = answer.document
    (budget,) = Ledger(Home(home).database).budgets()
    assert (budget.name, budget.ceiling_usd) == (document["round"], 0.05)
    assert len(promised) == 2
    assert 0.03 < max(promised) <= 0.05, "one run's promise at a time, what it did not use came back"
    assert document["cost_ceiling_usd"] == 0.05
    assert document["actual_usd"] == pytest.approx(budget.totals.spent_usd, abs=3e-6)
    assert budget.totals.reserved_usd == budget.totals.active_usd == 0
    assert document["estimated_usd"] > 0
    text = mlcc("run", "--tier", "local")
    assert "the tier's ceiling is 0.05 USD" in text.err
    assert re.search(r"^cost: estimated \d\.\d{4} USD, actual \d\.\d{4} USD, ceiling 0\.05 USD$", text.out, re.M)


@pytest.mark.slow
def test_what_the_ceiling_does_not_pay_for_is_left_out_which_is_said_and_is_not_as_expected(
    mlcc: Call, executor: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound(monkeypatch, 1e-5)
    answer = mlcc("run", "--tier", "local")
    assert answer.code == 1
    assert executor.performed == []
    for name in NAMES:
        assert f"{name}: it is expected to cost 0.0" in answer.out
        assert "left out, no money" in answer.out
    document = mlcc("run", "--tier", "local", "--json").document
    assert [each["verdict"] for each in document["configurations"]] == ["left out, no money"] * 2
    assert "of the tier's ceiling 0.0000 USD are left" in document["configurations"][0]["reason"]


@pytest.mark.slow
def test_a_single_configuration_has_no_ceiling_and_needs_no_promise(
    mlcc: Call, executor: Scripted, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound(monkeypatch, 1e-5)
    document = mlcc("run", "--config", NAMES[0], "--json").document
    assert document["cost_ceiling_usd"] is None
    assert [each["verdict"] for each in document["configurations"]] == ["proven"]
    assert Ledger(Home(home).database).budgets() == []


# ---- its parts


class Target:
    def __init__(self, key: str) -> None:
        self.config_id = self.name = key


def money(opened: Platform, round_id: str = "local@r", **calls: object) -> TierMoney:
    made = money_of(opened, "local", round_id, note=lambda *_, **__: None, clear=lambda: None)
    assert made is not None
    return made


def test_a_promise_that_no_run_began_with_is_given_back_before_the_next(opened: Platform) -> None:
    purse = money(opened)
    first, second = keys_of(opened)
    lost = purse.promise(Target(first))
    assert lost is not None
    taken = opened.ledger.totals("local@r").reserved_usd
    assert taken > 0.03
    assert purse.promise(Target(second)) is not None, "both at once would not fit"
    assert opened.ledger.totals("local@r").reserved_usd == pytest.approx(taken)
    purse.close()
    assert opened.ledger.totals("local@r").reserved_usd == 0


def test_a_promise_that_a_run_began_with_stays_its_own(opened: Platform) -> None:
    purse = money(opened)
    reservation = purse.promise(Target(keys_of(opened)[0]))
    assert opened.ledger.activate(str(reservation), "a-run-g1")
    purse.close()
    assert opened.ledger.totals("local@r").active_usd > 0


def test_of_two_commands_that_want_the_same_run_the_loser_gives_back_its_own_money_alone(opened: Platform) -> None:
    object.__setattr__(opened, "catalog", small_catalog(1.0))
    key = keys_of(opened)[0]
    winner, loser = money(opened), money(opened)
    kept, lost = winner.promise(Target(key)), loser.promise(Target(key))
    assert kept != lost
    assert opened.ledger.activate(str(kept), f"{key}-g1")
    loser.close()
    states = {each.run_key: each.state for each in opened.ledger.reservations()}
    assert states == {kept: "active", lost: "settled"}


def test_while_a_run_of_another_process_may_give_money_back_it_is_waited_for(
    opened: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = keys_of(opened)
    other, mine = money(opened), money(opened)
    theirs = other.promise(Target(first))
    assert opened.ledger.activate(str(theirs), f"{first}-g1")
    other_ends = threading.Timer(0.3, lambda: opened.ledger.settle(str(theirs), 0.001))
    monkeypatch.setattr("mlcc_dagster.cli.tier_money.WATCH_SECONDS", 0.05)
    other_ends.start()
    assert mine.promise(Target(second)) is not None
    other_ends.join()
    assert opened.ledger.totals("local@r").committed_usd <= 0.038


def test_promised_money_that_nobody_began_to_spend_is_not_waited_for(opened: Platform) -> None:
    first, second = keys_of(opened)
    assert money(opened).promise(Target(first)) is not None
    mine = money(opened)
    assert mine.promise(Target(second)) is None
    assert "USD are left" in mine.left_out[second]


def test_a_purse_does_not_promise_what_has_no_price(opened: Platform) -> None:
    instances = {name: replace(each, usd_per_hour=None) for name, each in opened.catalog.instances.items()}
    object.__setattr__(opened, "catalog", replace(opened.catalog, instances=instances))
    purse = Purse(opened, "local@r", 10.0)
    assert purse.promise(keys_of(opened)[0]) is None
    assert "no price in the catalog" in purse.refusal(keys_of(opened)[0])


def test_played_runs_have_no_ceiling_since_they_spend_nothing(opened: Platform, executor: Scripted) -> None:
    assert ceiling_of(opened, "local") == 0.038
    assert ceiling_of(opened, None) is None
    assert ceiling_of(opened, "gone") is None
    executor.name = "replay"
    assert ceiling_of(opened, "local") is None
    opened.rounds.join("local", keys_of(opened), open_seconds=60)
    round_id = opened.rounds.join("local", keys_of(opened), open_seconds=60).id
    _, step = plan_round(opened, "local", round_id, asked={}, at_most=9)
    assert [start.usd for start in step.start] == [None, None]


def test_what_another_process_finished_meanwhile_is_not_called_left_out(opened: Platform) -> None:
    key = keys_of(opened)[0]
    target = rounds.Target(key, NAMES[0], configuration_of(opened.catalog.entries[0], opened.catalog))
    report = rounds.Report(opened, Round("local@r", "", False), [target], unpaid={key: "too dear"})
    assert report.verdict(target) == ("left out, no money", False)
    assert report.reason(target) == "too dear"
    claim = opened.ci.claim(
        key,
        configuration=target.configuration,
        round="local@r",
        owner=processes.this_process("another"),
        lease_seconds=90,
        run_type="ci",
        benchmark=BenchmarkPlan(enabled=False, workload="none", concurrency_levels=()),
    )
    assert isinstance(claim, Claim)
    done = Commit((), "completed", "pass", "pass", 1.0, cost_usd=0.01)
    opened.ci.intend(claim, done)
    opened.ci.finish(claim.run_id)
    (attempt,) = opened.ci.attempts(key)
    report.attempts[key] = attempt
    assert report.verdict(target) == ("proven", True)
    assert report.reason(target) is None
    assert report.actual_usd == 0.01
