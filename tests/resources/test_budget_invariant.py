"""A run and its reservation: however long it would like to go on, it is ended, cleaned and charged no more than was
promised."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TextIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.loader import load_catalog
from catalog.model import Instance
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.evidence import Evidence
from mlcc_dagster.core.exceptions import LeaseLost, StageFailed
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.outcome import BenchmarkPlan, Outcome, Owner, StageStatus
from mlcc_dagster.core.prices import Billing
from mlcc_dagster.core.resolution import configuration_of
from mlcc_dagster.core.stages import CANONICAL_ORDER, DEFAULT_LIMIT_SECONDS, Stage
from resources import processes, watchdog
from resources.executor import StageRequest
from resources.home import Home
from resources.ledger import Ledger
from resources.lifecycle import (
    RunRequest,
    abandon,
    begin,
    conclude,
    interrupted_usd,
    limit_seconds,
    most_usd,
    perform,
    performed,
    stage_limit,
    stages_of,
)
from resources.modelled_outcomes import ModelledOutcomes
from resources.person_words import PersonWords
from resources.platform import Platform
from resources.played import Played
from resources.replay import ReplayExecutor
from resources.result_store import ResultStore
from resources.rounds import Rounds
from resources.sqlite_ci_table import SqliteCiTable

CATALOG = load_catalog()


LOCAL = next(entry for entry in CATALOG.entries if entry.id == "local-fastapi-logistic-1cpu")
LOCAL_KEY = config_id(configuration_of(LOCAL, CATALOG))
PRICE = (CATALOG.instances["local.1cpu"].usd_per_hour or 0.0) / 3600
Script = Callable[[StageRequest], None]


class Endless:
    """Passes every stage at once, except those it has a script for. Its deploy leaves an entry in the ledger."""

    name = "endless"
    billing = Billing.MACHINE

    def __init__(self, scripts: Mapping[Stage, Script]) -> None:
        self.scripts = scripts
        self.performed: list[Stage] = []
        self.cleaned = 0

    def perform(self, request: StageRequest) -> Mapping[str, Any]:
        self.performed.append(request.stage)
        if request.stage is Stage.DEPLOY:
            number = request.ledger.intend(
                run_id=request.run_id, kind="endpoint", ref="e", deadline_seconds=request.remaining()
            )
            request.ledger.confirm(number, {})
        self.scripts.get(request.stage, lambda request: None)(request)
        return {}

    def clean(self, run_id: str, ledger: Ledger, log: TextIO) -> None:
        self.cleaned += 1
        for resource in ledger.alive(run_id):
            if resource.kind == "endpoint":
                ledger.release(resource.id, "ended")

    def can_run(self, configuration: Configuration) -> str | None:
        return None

    def reaches(self, instance: Instance) -> bool:
        return True

    def digests(self, deployment_config: str) -> Mapping[str, str]:
        return {}

    def evidence(self, configuration: Configuration, outputs: Mapping[str, Any]) -> Evidence:
        return Evidence("endless", "process")


def platform_over(root: Path, executor: Any) -> Platform:
    home = Home(root).ensure()
    ci = SqliteCiTable(home.database)
    return Platform(
        home=home,
        catalog=CATALOG,
        ci=ci,
        ledger=Ledger(home.database),
        rounds=Rounds(home.database),
        store=ResultStore(home.results, ci.fenced_out),
        words=PersonWords(home.database),
        executor=executor,
    )


def owner() -> Owner:
    return processes.this_process("0" * 32)


def promised(platform: Platform, usd: float, *, key: str = LOCAL_KEY) -> Outcome:
    """Begin a run that so much is promised to, of a budget of exactly that."""
    assert platform.ledger.reserve("b", "k", usd, ceiling_usd=usd + 1e-6, deadline_seconds=600)
    begun = begin(platform, RunRequest(key, round="1", reservation="k"), owner())
    assert isinstance(begun, Outcome)
    return begun


def performed_whole(platform: Platform, outcome: Outcome) -> Outcome:
    for stage in CANONICAL_ORDER:
        outcome = perform(platform, stage, outcome)
    return outcome


CLEAN_USD = PRICE * limit_seconds(LOCAL, Stage.CLEAN)
"""What is kept back for cleaning."""


def looks_at_its_time(request: StageRequest) -> None:
    while True:
        request.remaining()
        time.sleep(0.02)


def until_its_workspace_is_gone(request: StageRequest) -> None:
    while request.workspace.exists():
        time.sleep(0.02)


def fails_when_its_workspace_is_gone(request: StageRequest) -> None:
    until_its_workspace_is_gone(request)
    raise ConnectionResetError(104, "Connection reset by peer")


def fails_of_something_else_at_its_end(request: StageRequest) -> None:
    time.sleep(max(0.0, request.deadline - time.monotonic()))
    raise StageFailed("the server did not answer", category="infrastructure")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A grace that tests can wait for."""
    monkeypatch.setattr(watchdog, "GRACE_SECONDS", 0.3)


@pytest.mark.parametrize(
    ("stage", "script"),
    [
        pytest.param(Stage.BUILD, looks_at_its_time, id="ends itself in time"),
        pytest.param(Stage.BUILD, fails_of_something_else_at_its_end, id="its wait gives up by itself at that moment"),
        pytest.param(
            Stage.BUILD, fails_when_its_workspace_is_gone, id="ignores its time, and breaks when it is cleaned"
        ),
        pytest.param(Stage.DEPLOY, fails_when_its_workspace_is_gone, id="the same with a slot and an endpoint in hand"),
        pytest.param(Stage.BUILD, until_its_workspace_is_gone, id="ignores its time, and says that all went well"),
    ],
)
@pytest.mark.usefixtures("impatient")
def test_a_run_whose_reservation_is_used_up_is_ended_cleaned_and_charged_no_more(
    stage: Stage, script: Script, tmp_path: Path
) -> None:
    executor = Endless({stage: script})
    platform = platform_over(tmp_path / "home", executor)
    usd = CLEAN_USD + PRICE * 1.5
    conclusion = conclude(platform, performed_whole(platform, promised(platform, usd)))

    ended = conclusion.outcome.result(stage)
    assert ended is not None
    assert ended.failure is not None
    assert (ended.status, ended.failure.category) == (StageStatus.FAIL, "timeout")
    assert "reservation of the run is used up" in ended.failure.line
    assert "its own time limit" not in conclusion.sentence
    assert "reservation of the run is used up" in (platform.home.root / (ended.log or "")).read_text()
    assert executor.performed[-1] is stage, "nothing is begun that nothing pays for"
    cleaned = conclusion.outcome.result(Stage.CLEAN)
    assert cleaned is not None
    assert cleaned.status is StageStatus.PASS
    (row,) = platform.store.snapshot().rows()
    assert (row["status"], row["failure_stage"], row["failure_category"]) == ("failed", stage.value, "timeout")
    assert "reservation of the run is used up" in row["failure_reason"]

    assert PRICE * 1.0 < conclusion.cost_usd < PRICE * 1.5 + CLEAN_USD
    totals = platform.ledger.totals("b")
    assert totals.spent_usd == pytest.approx(conclusion.cost_usd, abs=1e-6)
    assert (totals.active_usd, totals.overrun_usd) == (0.0, 0.0)
    assert platform.ledger.alive() == platform.ledger.slots() == []
    assert platform.ci.running() == ()


@pytest.mark.usefixtures("impatient")
def test_a_stage_that_never_returns_is_given_up_and_nothing_it_does_later_counts(tmp_path: Path) -> None:
    free = threading.Event()
    platform = platform_over(tmp_path / "home", Endless({Stage.DEPLOY: lambda request: free.wait(60) and None}))
    outcome = promised(platform, CLEAN_USD + PRICE * 1.5)
    for stage in CANONICAL_ORDER[: CANONICAL_ORDER.index(Stage.DEPLOY)]:
        outcome = perform(platform, stage, outcome)
    done: list[Outcome] = []
    worker = threading.Thread(target=lambda: done.append(perform(platform, Stage.DEPLOY, outcome)))
    worker.start()
    try:
        waited = time.monotonic()
        while platform.ci.running():
            assert time.monotonic() - waited < 30
            time.sleep(0.05)
        settled = platform.ledger.reservation("k")
        while settled is not None and settled.state == "active":
            settled = platform.ledger.reservation("k")
        assert worker.is_alive(), "it hangs as it did, and holds nothing"
        attempt = platform.ci.attempt(outcome.claim.run_id)
        assert attempt is not None
        assert attempt.state == "interrupted"
        assert "reservation of the run is used up" in str(attempt.reason)
        assert settled is not None
        assert (settled.state, settled.overrun_usd) == ("settled", 0.0)
        assert settled.spent_usd == pytest.approx(attempt.cost_usd, abs=1e-6)
        assert 0 < settled.spent_usd < settled.usd
        assert platform.ledger.alive() == platform.ledger.slots() == []
    finally:
        free.set()
        worker.join()
    (late,) = done
    result = late.result(Stage.DEPLOY)
    assert result is not None
    assert result.status is StageStatus.FAIL
    with pytest.raises(LeaseLost):
        conclude(platform, late)
    assert platform.store.snapshot().rows() == []
    assert platform.ledger.totals("b").spent_usd == settled.spent_usd, "nor is it charged twice"


@pytest.mark.usefixtures("impatient")
def test_a_stage_of_a_run_without_a_reservation_is_ended_by_its_own_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resources.lifecycle.limit_seconds", lambda entry, stage: 1.0)
    platform = platform_over(tmp_path / "home", Endless({Stage.BUILD: fails_when_its_workspace_is_gone}))
    begun = begin(platform, RunRequest(LOCAL_KEY, round="1"), owner())
    assert isinstance(begun, Outcome)
    conclusion = conclude(platform, performed_whole(platform, begun))
    assert "build failed (timeout): stage build passed its own time limit" in conclusion.sentence


def test_a_run_within_its_reservation_is_left_alone_and_gives_the_rest_back(tmp_path: Path) -> None:
    platform = platform_over(tmp_path / "home", Endless({}))
    plan = BenchmarkPlan(False, "none", ())
    configuration = configuration_of(LOCAL, CATALOG)
    platform.ci.register(configuration, benchmark=plan)
    usd = most_usd(platform, configuration, LOCAL_KEY, plan)
    outcome = promised(platform, usd)
    for stage in CANONICAL_ORDER:
        if stage in stages_of(LOCAL, plan):
            limit = stage_limit(platform, outcome, stage)
            assert (limit.seconds, limit.used_up) == (limit_seconds(LOCAL, stage), None), (
                "the promise is for all limits"
            )
        outcome = perform(platform, stage, outcome)
    conclusion = conclude(platform, outcome)
    assert conclusion.outcome.status == "completed", conclusion.sentence
    assert 0 < platform.ledger.totals("b").spent_usd < usd / 100
    assert platform.ledger.totals("b").active_usd == 0


def test_what_pays_for_cleaning_alone_begins_no_stage(tmp_path: Path) -> None:
    executor = Endless({})
    platform = platform_over(tmp_path / "home", executor)
    conclusion = conclude(platform, performed_whole(platform, promised(platform, CLEAN_USD + PRICE * 0.9)))
    assert (executor.performed, executor.cleaned) == ([], 1)
    assert "reservation of the run is used up" in conclusion.sentence
    assert conclusion.outcome.benchmark_status is None, "a benchmark that nothing paid for was not a failed one"


def test_money_that_was_settled_under_a_living_run_pays_for_nothing_more(tmp_path: Path) -> None:
    executor = Endless({})
    platform = platform_over(tmp_path / "home", executor)
    outcome = perform(platform, Stage.STAGE, promised(platform, 1.0))
    outcome = perform(platform, Stage.GENERATE, outcome)
    platform.ledger.settle("k", 0.01)
    outcome = perform(platform, Stage.VALIDATE, outcome)
    assert executor.performed == [Stage.GENERATE]
    assert "was settled under this run" in str(outcome.results[-1].error)


def test_a_hanging_stage_is_due_for_the_reaper_when_its_reservation_ends(tmp_path: Path) -> None:
    due: list[float] = []

    def look(request: StageRequest) -> None:
        due.extend(resource.deadline - time.time() for resource in request.ledger.alive(request.run_id))

    # deploy has waited for a slot, for which everything was put off by half an hour
    platform = platform_over(tmp_path / "home", Endless({Stage.BUILD: look, Stage.DEPLOY: look}))
    performed_whole(platform, promised(platform, CLEAN_USD + PRICE * 100))
    assert due
    assert all(0 < seconds <= 100 + DEFAULT_LIMIT_SECONDS[Stage.CLEAN] for seconds in due), (
        "build alone may take 1800 s"
    )


# ---- cut off


@pytest.mark.parametrize(
    ("done", "seconds", "expected"),
    [
        pytest.param([], 100, 0.0, id="cut off while it was generated: done where the lifecycle runs"),
        pytest.param(["generate", "validate"], 600, 0.35, id="in build: ten build minutes"),
        pytest.param(
            ["generate", "validate", "build", "push"], 600, 0.35 + 0.6, id="in deploy: the instance is rented"
        ),
        pytest.param(
            ["generate", "validate", "build", "push", "deploy", "test", "benchmark", "register"],
            600,
            0.35 + 0.6 + 0.6,
            id="before clean: what it deployed lives until now",
        ),
        pytest.param(
            ["generate", "validate", "build", "push", "deploy", "test", "benchmark", "register", "clean"],
            600,
            0.35 + 0.6,
            id="cleaned and not concluded: nothing goes on",
        ),
        pytest.param(["generate", "validate", "build"], -3600, 0.35, id="a clock set back makes nothing cheaper"),
    ],
)
def test_a_run_that_was_cut_off_is_charged_what_it_noted_and_the_stage_it_was_in(
    done: list[str], seconds: float, expected: float, tmp_path: Path
) -> None:
    executor = Endless({})
    executor.billing = Billing.MANAGED
    platform = platform_over(tmp_path / "home", executor)
    platform = replace(
        platform,
        catalog=replace(
            CATALOG,
            instances=CATALOG.instances | {"local.1cpu": replace(CATALOG.instances["local.1cpu"], usd_per_hour=3.6)},
        ),
    )
    begun = begin(platform, RunRequest(LOCAL_KEY, round="1"), owner())
    assert isinstance(begun, Outcome)
    # ten minutes of build, deploy and nothing else, ended just now
    ended = datetime.now(UTC)
    for name in done:
        took = 600.0 if name in ("build", "deploy") else 0.0
        document = {
            "stage": name,
            "status": "pass",
            "started_at": (ended - timedelta(seconds=took)).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "seconds": took,
            "log": None,
            "error": None,
            "failure": None,
            "outputs": {},
        }
        platform.ci.stage_ended(begun.claim, name, document)
    attempt = platform.ci.attempt(begun.claim.run_id)
    assert attempt is not None
    now = (ended if done else datetime.fromisoformat(attempt.started_at)) + timedelta(seconds=seconds)
    assert interrupted_usd(platform, attempt, now) == pytest.approx(expected, abs=1e-6)


def test_a_run_that_is_abandoned_is_charged_once_and_its_money_comes_back(tmp_path: Path) -> None:
    platform = platform_over(tmp_path / "home", Endless({}))
    outcome = promised(platform, 1.0)
    for stage in (Stage.GENERATE, Stage.BUILD):
        outcome = perform(platform, stage, outcome)
    assert [abandon(platform, outcome.claim.run_id, "cancelled") for _ in range(2)] == [True, False]
    totals = platform.ledger.totals("b")
    assert 0 < totals.spent_usd < 0.01
    assert (totals.active_usd, totals.overrun_usd) == (0.0, 0.0)
    assert platform.ledger.reserve("b", "next", 1.0 - 0.01, ceiling_usd=1.0, deadline_seconds=60)


# ---- any durations, in virtual time


@dataclass(frozen=True)
class Lasting:
    """Outcomes that succeed and last as long as a test says."""

    seconds: Mapping[Stage, float]
    digest: str = "lasting"

    def refusal(self, configuration: Configuration) -> str | None:
        return None

    def play(self, run_id: str, configuration: Configuration, stage: Stage, plan: BenchmarkPlan) -> Played:
        played = ModelledOutcomes(CATALOG, failures=()).play(run_id, configuration, stage, plan)
        return replace(played, seconds=self.seconds.get(stage, 0.0))


QWEN = Configuration("transformers-vllm", "Qwen/Qwen3-4B", "qwen3", "ml.g5.xlarge", "us-west-2")
QWEN_PLAN = BenchmarkPlan(enabled=True, workload="multi_turn_chat", concurrency_levels=(1,))
TIMED = [stage for stage in stages_of(None, QWEN_PLAN) if stage is not Stage.CLEAN]


@pytest.mark.slow
@given(
    shares=st.fixed_dictionaries({stage: st.floats(0.001, 1.3) for stage in sorted(TIMED, key=CANONICAL_ORDER.index)}),
    promised_share=st.floats(0.0, 1.0),
)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_its_stages_take_a_run_is_charged_at_most_its_promise(
    tmp_path_factory: pytest.TempPathFactory, shares: dict[Stage, float], promised_share: float
) -> None:
    home = Home(tmp_path_factory.mktemp("study") / "replay").ensure()
    lasting = Lasting({stage: share * DEFAULT_LIMIT_SECONDS[stage] for stage, share in shares.items()})
    platform = platform_over(home.root, ReplayExecutor(lasting, home=home, catalog=CATALOG))
    key = config_id(QWEN)
    platform.ci.register(QWEN, benchmark=QWEN_PLAN)
    most = most_usd(platform, QWEN, key, QWEN_PLAN)
    outcome = promised(platform, most * promised_share, key=key)
    promise = platform.ledger.reservation("k")
    assert promise is not None
    prices = platform.prices(QWEN)
    cleaning = prices.most_usd(Stage.CLEAN, DEFAULT_LIMIT_SECONDS[Stage.CLEAN])
    for stage in CANONICAL_ORDER:
        outcome = perform(platform, stage, outcome)
        # even at the high end of every range, cleaning can still be paid
        started = any(result.seconds > 0 for result in outcome.results)
        if stage is not Stage.CLEAN and started:
            assert prices.most_run_usd(performed(outcome.results)) + cleaning <= promise.usd + 1e-6
    conclusion = conclude(platform, outcome)

    totals = platform.ledger.totals("b")
    assert totals.committed_usd <= promise.usd
    assert (totals.active_usd, totals.reserved_usd, totals.overrun_usd) == (0.0, 0.0, 0.0)
    assert totals.spent_usd == pytest.approx(conclusion.cost_usd, abs=2e-6)
    (row,) = platform.store.snapshot().rows()
    assert row["cost_usd"] == conclusion.cost_usd
    failure = conclusion.outcome.first_failure()
    too_long = [stage for stage in TIMED if shares[stage] > 1]
    if failure is None:
        assert not too_long
        assert row["status"] == "completed"
    else:
        assert failure.failure is not None
        assert failure.failure.category == "timeout"
        used_up = "reservation of the run is used up" in failure.failure.line
        assert used_up or failure.stage in too_long
        assert not (used_up and promised_share == 1.0), "a whole promise pays for every limit"
    assert platform.ledger.alive() == platform.ledger.slots() == []
