"""Tiers on their schedules: a round per tick, promises within the tier's ceiling, and the rest as runs end."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import (
    InProcessCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, ScheduleInstigatorData
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from scripted_runs import Graph
from sensor_ticks import perform, queued, schedule_tick, tick

from mlcc_dagster.core.stages import Stage
from mlcc_dagster.core.tier_rounds import MOST_ATTEMPTS
from resources.executor import StageRequest
from resources.tier_runs import left_of, plan_round, roster
from sensors.tier_schedules import SCHEDULES, open_round

NOW = datetime.now(UTC)
TICK = NOW.replace(hour=5, minute=0, second=0, microsecond=0) - timedelta(days=0 if NOW.hour >= 5 else 1)
"""When the local tier's schedule ticked last."""
ROUND = f"local@{TICK:%Y%m%dT%H%M%SZ}"
SCHEDULE = "local_tier_schedule"


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    """The real graph with an instance on the disk, which keeps whether schedules are on."""
    (tmp_path / "dagster").mkdir()
    instance = dg.DagsterInstance.local_temp(str(tmp_path / "dagster"), overrides={"telemetry": {"enabled": False}})
    return Graph.over(tmp_path / "home", instance=instance)


def switch(graph: Graph, *, on: bool = True, name: str = SCHEDULE) -> None:
    """Switch a schedule on or off, as the page does."""
    location = InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name="mlcc_dagster.definitions"))
    origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(location, "__repository__"), name)
    state = InstigatorState(
        origin,
        InstigatorType.SCHEDULE,
        InstigatorStatus.RUNNING if on else InstigatorStatus.STOPPED,
        ScheduleInstigatorData("0 5 * * *", TICK.timestamp()),
    )
    known = graph.instance.get_instigator_state(state.instigator_origin_id, state.selector_id)
    (graph.instance.add_instigator_state if known is None else graph.instance.update_instigator_state)(state)


def ceiling(graph: Graph, usd: float, tier: str = "local") -> None:
    """Change a tier's ceiling in the graph's catalog."""
    catalog = graph.platform.catalog
    tiers = dict(catalog.tiers) | {tier: replace(catalog.tiers[tier], cost_ceiling_usd=usd)}
    object.__setattr__(graph.platform, "catalog", replace(catalog, tiers=tiers))


def play_out(graph: Graph, first: list[dg.RunRequest], after: Callable[[], None] = lambda: None) -> list[str]:
    """Run what is requested and tick the sensor until nothing comes any more; returns the order of the configurations. A run key
    is run once, whoever asks for it again."""
    waiting, order = list(first), []
    keys = {request.run_key for request in first}
    while waiting:
        request = waiting.pop(0)
        order.append(str(request.partition_key))
        perform(graph, request)
        after()
        more = [each for each in tick(graph, "tier_sensor").run_requests or [] if each.run_key not in keys]
        keys |= {each.run_key for each in more}
        waiting += more
    return order


def test_there_is_a_schedule_per_tier_at_its_time_and_each_is_off_until_it_is_switched_on() -> None:
    assert {schedule.name: schedule.cron_schedule for schedule in SCHEDULES} == {
        "ci_tier_schedule": "0 6 * * *",
        "nightly_tier_schedule": "0 2 * * *",
        "weekly_tier_schedule": "0 2 * * 0",
        "local_tier_schedule": "0 5 * * *",
    }
    assert {schedule.default_status for schedule in SCHEDULES} == {dg.DefaultScheduleStatus.STOPPED}
    assert {schedule.execution_timezone for schedule in SCHEDULES} == {"UTC"}


def test_a_tick_opens_its_round_and_requests_as_many_as_can_make_use_of_the_slots(graph: Graph) -> None:
    data = schedule_tick(graph, SCHEDULE, TICK)
    members = roster(graph.platform, "local").members
    assert [request.partition_key for request in data.run_requests] == list(members[:2]), "one slot, and one that waits"
    for request in data.run_requests:
        assert request.tags["mlcc/round"] == ROUND
        assert (request.tags["mlcc/tier"], request.tags["mlcc/run_type"]) == ("local", "ci")
        assert request.run_key == request.tags["mlcc/reservation"] == f"{ROUND}/{request.partition_key}/1"
        promise = graph.platform.ledger.reservation(request.run_key)
        assert promise is not None
        assert (promise.state, promise.budget) == ("reserved", ROUND)
    assert graph.platform.rounds.progress(ROUND) == ((), members)
    assert set(members) <= set(graph.instance.get_dynamic_partitions("configuration"))
    assert graph.platform.ledger.budgets()[0].ceiling_usd == 1.0


def test_the_same_tick_twice_asks_for_the_same_runs_and_promises_their_money_once(graph: Graph) -> None:
    first, again = schedule_tick(graph, SCHEDULE, TICK), schedule_tick(graph, SCHEDULE, TICK)
    assert [r.run_key for r in first.run_requests] == [r.run_key for r in again.run_requests]
    assert graph.platform.ledger.totals(ROUND).runs == len(first.run_requests)


@pytest.mark.slow
def test_the_sensor_goes_on_until_every_member_has_its_result_and_the_tier_stays_below_its_ceiling(
    graph: Graph,
) -> None:
    switch(graph)
    taken: list[float] = []
    members = roster(graph.platform, "local").members

    def look() -> None:
        totals = graph.platform.ledger.totals(ROUND)
        taken.append(totals.committed_usd + totals.overrun_usd)

    order = play_out(graph, list(schedule_tick(graph, SCHEDULE, TICK).run_requests), look)
    assert order == list(members)
    assert graph.platform.rounds.progress(ROUND) == (members, ())
    assert max(taken) <= 1.0
    assert {attempt.tier for attempt in graph.platform.ci.attempts()} == {"local"}
    assert tick(graph, "tier_sensor").skip_message == "no tier that is switched on has an open round"


@pytest.mark.slow
def test_a_ceiling_that_does_not_pay_for_all_at_once_lets_the_next_begin_when_money_comes_back(graph: Graph) -> None:
    switch(graph)
    ceiling(graph, 0.05)
    members = roster(graph.platform, "local").members
    first = schedule_tick(graph, SCHEDULE, TICK)
    assert [request.partition_key for request in first.run_requests] == [members[0], members[1]]
    whole = [graph.platform.ledger.reservation(r.run_key).usd for r in first.run_requests]  # type: ignore[union-attr]
    assert whole[0] == pytest.approx(0.0374, abs=1e-3), "all its stages up to their limits"
    assert whole[0] + whole[1] == pytest.approx(0.05), "and for the second all that is left"
    assert tick(graph, "tier_sensor").run_requests == []
    order = play_out(graph, list(first.run_requests))
    assert order == list(members)
    assert graph.platform.ledger.totals(ROUND).committed_usd <= 0.05


def test_what_the_ceiling_does_not_pay_for_is_left_out_and_the_log_says_so(graph: Graph) -> None:
    switch(graph)
    ceiling(graph, 1e-6)
    tick_of_schedule = open_round(graph.instance, graph.platform, "local", TICK)
    assert tick_of_schedule.requests == ()
    assert "left out local-fastapi-forest-1cpu: it is expected to cost" in tick_of_schedule.sentence
    assert "of the tier's ceiling 0.0000 USD are left" in tick_of_schedule.sentence
    assert "expected 0.0" in tick_of_schedule.sentence
    assert "ceiling 1e-06 USD" in tick_of_schedule.sentence
    assert schedule_tick(graph, SCHEDULE, TICK).skip_message == tick_of_schedule.sentence
    assert graph.platform.ledger.totals(ROUND).runs == 0


def test_a_run_that_takes_longer_than_anybody_expected_is_ended_so_that_the_ceiling_holds(graph: Graph) -> None:
    (member, *_), _ = plan_round(graph.platform, "local", opened(graph), asked={}, at_most=1)
    ceiling(graph, member.needed_usd + 1e-6)
    (request,) = schedule_tick(graph, SCHEDULE, TICK).run_requests
    promised = graph.platform.ledger.reservation(request.run_key or "")
    assert promised is not None
    assert promised.usd == pytest.approx(member.needed_usd, abs=2e-6)

    def never_ends(stage: StageRequest) -> None:
        limits.append(stage.remaining())
        # as if all of it had passed
        object.__setattr__(stage, "deadline", 0.0)
        stage.remaining()

    limits: list[float] = []
    graph.executor.scripts[Stage.BUILD] = never_ends
    assert not perform(graph, request).success
    assert 1 < limits[0] < 60, "seconds, of the half hour that a build may take"
    (attempt,) = graph.platform.ci.attempts(request.partition_key)
    assert (attempt.failure_category, attempt.run_status) == ("timeout", "fail-build")
    totals = graph.platform.ledger.totals(ROUND)
    assert totals.committed_usd + totals.overrun_usd <= member.needed_usd + 1e-6


def opened(graph: Graph) -> str:
    """The round of the tick, opened and nothing asked for."""
    return graph.platform.rounds.open("local", roster(graph.platform, "local").members, at=TICK).id


def test_a_run_that_ended_before_its_claim_gives_back_its_money_and_is_asked_for_again(graph: Graph) -> None:
    switch(graph)
    first = schedule_tick(graph, SCHEDULE, TICK).run_requests
    runs = [queued(graph, request) for request in first]
    assert all(runs)
    assert not tick(graph, "tier_sensor").run_requests, "both are under way"
    graph.instance.report_run_failed(runs[0])  # type: ignore[arg-type]
    (again,) = tick(graph, "tier_sensor").run_requests
    assert (again.partition_key, again.run_key) == (first[0].partition_key, f"{ROUND}/{first[0].partition_key}/2")
    kept = graph.platform.ledger.reservation(first[0].run_key or "")
    assert kept is not None
    assert (kept.state, kept.spent_usd) == ("settled", 0.0)


@pytest.mark.slow
def test_what_is_cut_off_again_and_again_is_left_to_the_next_round(graph: Graph) -> None:
    switch(graph)

    def cancelled(request: StageRequest) -> None:
        raise KeyboardInterrupt

    graph.executor.scripts[Stage.BUILD] = cancelled
    order = play_out(graph, list(schedule_tick(graph, SCHEDULE, TICK).run_requests))
    members = roster(graph.platform, "local").members
    assert {key: order.count(key) for key in members} == dict.fromkeys(members, MOST_ATTEMPTS)
    assert "cut off 3 times in this round" in tick(graph, "tier_sensor").skip_message
    assert graph.platform.ledger.totals(ROUND).reserved_usd == 0


@pytest.mark.parametrize(
    ("on", "back", "why"),
    [
        pytest.param(False, timedelta(0), "its schedule was switched off", id="switched off"),
        pytest.param(True, timedelta(days=1), "a newer tick has taken its place", id="an older tick's round"),
    ],
)
def test_the_sensor_goes_on_with_nothing_else(graph: Graph, on: bool, back: timedelta, why: str) -> None:
    switch(graph)
    switch(graph, on=on)
    perform(graph, schedule_tick(graph, SCHEDULE, TICK - back).run_requests[0])
    result = tick(graph, "tier_sensor")
    assert result.skip_message == "no tier that is switched on has an open round", why


def test_the_sensor_leaves_the_round_of_a_command_alone(graph: Graph) -> None:
    switch(graph)
    graph.platform.rounds.join("local", roster(graph.platform, "local").members, open_seconds=60)
    assert not tick(graph, "tier_sensor").run_requests


def test_a_tier_that_runs_nowhere_here_asks_for_nothing_and_says_why(graph: Graph) -> None:
    data = schedule_tick(graph, "ci_tier_schedule", datetime(2026, 11, 22, 6, tzinfo=UTC))
    assert not data.run_requests
    assert data.skip_message.startswith("nothing of tier ci runs with executor scripted; left out rt-qwen3-06b: needs")


def test_a_member_that_runs_elsewhere_is_waited_for(graph: Graph) -> None:
    from resources import processes
    from resources.lifecycle import RunRequest, begin

    members = roster(graph.platform, "local").members
    begin(graph.platform, RunRequest(members[0], "another round"), processes.this_process("another"))
    asked: list[Any] = [r.partition_key for r in schedule_tick(graph, SCHEDULE, TICK).run_requests]
    assert members[0] not in asked
    assert graph.platform.rounds.progress(ROUND)[1] == members


def test_all_of_a_ceiling_that_is_left_can_be_promised(graph: Graph) -> None:
    """Sums of binary fractions must not make a promise of exactly what is left too large by a rounding error."""
    ledger = graph.platform.ledger
    for number, usd in enumerate((0.1, 0.2, 0.007, 0.033333)):
        assert ledger.reserve(ROUND, f"k{number}", usd, ceiling_usd=1.0, deadline_seconds=60)
    left = left_of(graph.platform, ROUND, 1.0)
    assert ledger.reserve(ROUND, "rest", left, ceiling_usd=1.0, deadline_seconds=60)
    assert left_of(graph.platform, ROUND, 1.0) == 0
