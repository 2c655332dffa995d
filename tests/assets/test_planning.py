"""The plan and the odds as assets: what their pages show is what the planner says."""

from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest
from scripted_runs import Graph, fails

from mlcc_dagster.core.odds import FIRST_BLOCK
from mlcc_dagster.core.stages import Stage
from resources.prover import Execution, make_plan
from resources.survey import Survey


def metadata_of(run: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    (event,) = [e for e in run.get_asset_materialization_events() if e.asset_key == dg.AssetKey(asset)]
    return dict(event.materialization.metadata)


def test_the_plan_on_the_page_is_the_plan_of_the_day_with_the_reason_of_every_rank(graph: Graph) -> None:
    assert graph.run().success
    planned = make_plan(graph.platform, Survey.take(graph.platform), Execution.of_day(datetime.now(UTC)))
    shown = metadata_of(graph.refresh(), "prove_plan")
    records = [record.data for record in shown["plan"].records]
    assert [record["configuration"] for record in records] == [str(p.candidate.configuration) for p in planned.picks]
    assert [record["why"] for record in records] == [pick.why for pick in planned.picks]
    assert all(record["why"] for record in records)
    assert shown["picks"].value == len(planned.picks) > 0
    assert shown["expected new pairs"].value == pytest.approx(planned.objective)
    assert shown["no choice exceeds"].value >= shown["expected new pairs"].value
    assert graph.platform.ledger.reservations() == [], "a plan promises nothing"


def test_without_a_judged_prediction_the_odds_say_so_and_show_no_score(graph: Graph) -> None:
    shown = metadata_of(graph.refresh(), "success_odds")
    assert shown["judged predictions"].value == 0
    assert "Brier score" not in shown


def test_a_failure_is_in_doubt_on_the_page(graph: Graph) -> None:
    graph.executor.scripts[Stage.DEPLOY] = fails("CUDA out of memory")
    assert not graph.run().success
    shown = metadata_of(graph.refresh(), "success_odds")
    assert (shown["trials"].value, shown["passed"].value) == (1, 0)
    records = [record.data for record in shown["most in doubt"].records]
    assert len(records) == 21, "six values and fifteen pairs"
    assert all(record["failed"] == 1 for record in records)


@pytest.mark.slow
def test_odds_that_were_judged_show_their_score_and_their_reliability(graph: Graph) -> None:
    graph.executor.scripts[Stage.DEPLOY] = fails("No space left on device")
    for occasion in range(FIRST_BLOCK + 2):
        assert not graph.run(round_id=f"round-{occasion}").success
    shown = metadata_of(graph.refresh(), "success_odds")
    assert shown["trials"].value == FIRST_BLOCK + 2
    assert shown["judged predictions"].value == 2
    assert 0 <= shown["Brier score"].value <= 1
    assert "data:image/png" in shown["reliability"].value
