"""Gaps are filled within the promised money: by ticks of the sensor and by the schedule, whatever is killed in between."""

import time
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from scripted_runs import Graph, fails

from mlcc_dagster.core.stages import Stage
from resources.prover import START_SECONDS, Execution, make_plan, promise
from resources.survey import Survey
from sensors.path_proving import coverage_sensor, path_prove_schedule, run_request

DAY = Execution.of_day(datetime.now(UTC))


@pytest.fixture
def proven_tier(graph: Graph) -> Graph:
    """A graph whose local predictors but one vector are proven."""
    return with_proven_tier(graph)


def with_proven_tier(graph: Graph) -> Graph:
    for name in ("local-fastapi-forest-1cpu", "local-flask-forest-1cpu", "local-fastapi-logistic-1cpu"):
        assert graph.run(graph.ids[name]).success
    return graph


def survey(graph: Graph) -> Survey:
    return Survey.take(graph.platform)


def tick(graph: Graph) -> dg.SensorResult:
    context = dg.build_sensor_context(instance=graph.instance, resources={"platform": graph.resource})
    result = coverage_sensor(context)
    assert isinstance(result, dg.SensorResult)
    return result


def start(graph: Graph, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
    """Do what the daemon does with a request: add the partition and run it with its tags."""
    assert request.partition_key is not None
    tags = {name.removeprefix("mlcc/"): value for name, value in request.tags.items() if name != "mlcc/round"}
    return graph.run(request.partition_key, round_id=request.tags["mlcc/round"], **tags)


def test_a_tick_requests_the_best_gap_with_money_promised_for_it(proven_tier: Graph) -> None:
    requests = tick(proven_tier).run_requests or []
    assert requests, "there is a startable gap"
    first = requests[0]
    assert first.tags["mlcc/run_type"] == "path_prove"
    promised = proven_tier.platform.ledger.reservation(first.run_key or "")
    assert promised is not None
    assert (promised.state, promised.budget) == ("reserved", DAY.name)
    assert promised.usd > 0


def test_a_canary_goes_alone_and_what_shares_its_unproven_value_follows_its_result(graph: Graph) -> None:
    (canary,) = tick(graph).run_requests or []
    assert tick(graph).run_requests == [canary], "the same promise, and nothing beside it"
    assert start(graph, canary).success
    followers = tick(graph).run_requests or []
    proven = graph.platform.ci.records()[0].configuration.vector
    planned = make_plan(graph.platform, survey(graph), DAY)
    waiting = [pick for pick in planned.picks if pick.waits]
    assert len(followers) >= 1
    assert all(str(proven.instance_family) not in (pick.waits or "") for pick in waiting), "that value is proven now"


def test_a_proof_is_settled_with_what_it_really_used_and_closes_the_gap(proven_tier: Graph) -> None:
    before = {gap.vector for gap in survey(proven_tier).gaps}
    request = (tick(proven_tier).run_requests or [])[0]
    assert start(proven_tier, request).success
    settled = proven_tier.platform.ledger.reservation(request.run_key or "")
    assert settled is not None
    assert settled.state == "settled"
    assert 0 < settled.spent_usd < settled.usd
    after = {gap.vector for gap in survey(proven_tier).gaps}
    assert len(before - after) == 1
    (attempt,) = proven_tier.platform.ci.attempts(request.partition_key)
    assert (attempt.run_type, attempt.status) == ("path_prove", "completed")


def test_a_tick_killed_between_promise_and_request_neither_loses_money_nor_runs_twice(proven_tier: Graph) -> None:
    platform = proven_tier.platform
    planned = make_plan(platform, survey(proven_tier), DAY)
    (lost,) = promise(platform, DAY, planned, at_most=1)  # the tick dies here: promised, never requested
    promised = platform.ledger.totals(DAY.name)
    requests = tick(proven_tier).run_requests or []
    again = [request for request in requests if request.run_key == lost.run_key]
    assert len(again) == 1, "the same promise under the same key, so Dagster cannot run it twice"
    same_key = platform.ledger.reservation(lost.run_key)
    assert same_key is not None
    assert platform.ledger.totals(DAY.name).reserved_usd >= promised.reserved_usd
    assert [r.run_key for r in platform.ledger.reservations()].count(lost.run_key) == 1
    assert start(proven_tier, again[0]).success
    assert start(proven_tier, again[0]).success, "a second run of the request ends quietly"
    assert len(platform.ci.attempts(lost.config_id)) == 1


def test_a_promise_whose_run_never_starts_is_released_by_its_deadline(proven_tier: Graph) -> None:
    platform = proven_tier.platform
    (lost,) = promise(platform, DAY, make_plan(platform, survey(proven_tier), DAY), at_most=1)
    deadline = datetime.now(UTC).timestamp() + START_SECONDS + 1
    assert platform.ledger.release_overdue(deadline) == (lost.run_key,)
    assert platform.ledger.totals(DAY.name).committed_usd == 0
    assert start(proven_tier, run_request(DAY, lost)).success, "the late run ends quietly"
    assert not any(a.state == "finished" for a in platform.ci.attempts(lost.config_id))


def test_a_failing_gap_is_not_paid_for_again_at_the_next_tick(proven_tier: Graph) -> None:
    proven_tier.executor.scripts[Stage.DEPLOY] = fails("ConnectionResetError: [Errno 104] Connection reset by peer")
    request = (tick(proven_tier).run_requests or [])[0]
    assert not start(proven_tier, request).success
    spent = proven_tier.platform.ledger.totals(DAY.name).spent_usd
    keys = [again.partition_key for again in tick(proven_tier).run_requests or []]
    assert request.partition_key not in keys
    assert proven_tier.platform.ledger.totals(DAY.name).spent_usd == spent


def test_an_unfeasible_gap_is_left_out_with_its_reason(proven_tier: Graph) -> None:
    proven_tier.executor.scripts[Stage.DEPLOY] = fails("MemoryError: Cannot allocate memory")
    request = (tick(proven_tier).run_requests or [])[0]
    start(proven_tier, request)
    planned = make_plan(proven_tier.platform, survey(proven_tier), DAY)
    assert request.partition_key not in [pick.candidate.config_id for pick in planned.picks]
    assert any(why.startswith("unfeasible") for why in planned.left_out.values())


def test_the_bounds_of_an_execution_hold_in_the_ledger_for_two_provers_at_once(proven_tier: Graph) -> None:
    platform = proven_tier.platform
    tight = Execution("path_prove@tight", max_proves=1, max_usd=50.0)
    stale = make_plan(platform, survey(proven_tier), tight)  # both provers plan before either promises
    assert len(list(promise(platform, tight, stale, at_most=5))) == 1
    others = [p for p in promise(platform, tight, stale, at_most=5) if p.run_key not in waiting_keys(proven_tier)]
    assert others == []
    assert platform.ledger.totals(tight.name).runs == 1


def test_executions_that_begin_in_the_same_second_have_budgets_of_their_own() -> None:
    now = datetime.now(UTC)
    names = {Execution.of_moment(now, max_proves=1, max_usd=1.0).name for _ in range(20)}
    assert len(names) == 20


def test_what_another_execution_has_promised_is_not_promised_twice(proven_tier: Graph) -> None:
    platform = proven_tier.platform
    one, other = (Execution(f"path_prove@{name}", max_proves=10, max_usd=50.0) for name in ("one", "other"))
    (theirs,) = promise(platform, one, make_plan(platform, survey(proven_tier), one), at_most=1)
    planned = make_plan(platform, survey(proven_tier), other)
    assert theirs.config_id not in [pick.candidate.config_id for pick in planned.picks]
    assert planned.left_out[theirs.pick.candidate.gap.vector] == "money is promised to a run of it"
    again = make_plan(platform, survey(proven_tier), one)
    assert theirs.config_id in [pick.candidate.config_id for pick in again.picks], "its own promise is taken up again"


def test_a_run_that_ends_while_a_plan_is_made_is_not_promised_again(proven_tier: Graph) -> None:
    platform = proven_tier.platform
    (proof,) = promise(platform, DAY, make_plan(platform, survey(proven_tier), DAY), at_most=1)
    before = survey(proven_tier)
    assert start(proven_tier, run_request(DAY, proof)).success
    planned = make_plan(platform, before, DAY)
    assert proof.config_id not in [pick.candidate.config_id for pick in planned.picks], (
        "the survey has no result of it yet"
    )


def test_a_run_whose_claim_is_refused_gives_its_money_back_at_once(proven_tier: Graph) -> None:
    ledger = proven_tier.platform.ledger
    key = proven_tier.ids["local-fastapi-forest-1cpu"]
    assert proven_tier.run(key, round_id="done").success
    assert ledger.reserve("b", f"b/{key}/9", 1.0, ceiling_usd=1.0, deadline_seconds=900)
    assert proven_tier.run(key, round_id="done", reservation=f"b/{key}/9").success, "the round has it already"
    assert (ledger.totals("b").committed_usd, ledger.totals("b").runs) == (0, 0)


def waiting_keys(graph: Graph) -> set[str]:
    return {r.run_key for r in graph.platform.ledger.reservations(state="reserved")}


def test_a_run_is_ended_when_its_reservation_is_used_up(proven_tier: Graph) -> None:
    platform = proven_tier.platform
    (proof,) = promise(platform, DAY, make_plan(platform, survey(proven_tier), DAY), at_most=1)
    request = run_request(DAY, proof)
    # longer than the promise pays for, so that the next stage finds nothing left whatever the machine's speed
    proven_tier.executor.scripts[Stage.BUILD] = lambda request: time.sleep(0.5)
    poor = "path_prove@poor/" + proof.config_id + "/1"
    platform.ledger.reserve("path_prove@poor", poor, 1e-6, ceiling_usd=1.0, deadline_seconds=60)
    platform.ledger.release_overdue(datetime.now(UTC).timestamp() + START_SECONDS + 1)
    platform.ledger.reserve("path_prove@poor", poor, 1e-6, ceiling_usd=1.0, deadline_seconds=60)
    ended = proven_tier.run(proof.config_id, round_id="poor", reservation=poor, run_type="path_prove")
    assert not ended.success
    (attempt,) = platform.ci.attempts(request.partition_key)
    assert attempt.failure_category == "timeout"


@pytest.mark.slow
def test_the_schedule_shares_the_days_budget_with_the_sensor(tmp_path: Path) -> None:
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        graph = with_proven_tier(Graph.over(tmp_path / "home", instance=instance))
        promised = {request.run_key for request in tick(graph).run_requests or []}
        with dg.build_schedule_context(
            instance=instance, scheduled_execution_time=datetime.now(UTC), resources={"platform": graph.resource}
        ) as context:
            requests = path_prove_schedule(context)
        assert isinstance(requests, list)
        assert promised, "the sensor came first"
        assert promised <= {request.run_key for request in requests}, (
            "what has not begun is asked for again, under its key"
        )
        assert graph.platform.ledger.totals(DAY.name).runs == len(requests)
        assert {request.partition_key for request in requests} <= set(instance.get_dynamic_partitions("configuration"))


@pytest.mark.parametrize("name", ["coverage_sensor", "path_prove_schedule"])
def test_what_spends_money_is_off_until_it_is_switched_on(name: str, tmp_path: Path) -> None:
    defs = Graph.over(tmp_path / "home").defs
    found = defs.resolve_sensor_def(name) if "sensor" in name else defs.resolve_schedule_def(name)
    assert found.default_status.value == "STOPPED"
    assert found.description
