"""Estimates of a home: what real attempts teach them, the tiers' known times, and that a dry run says the same."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from catalog.loader import load_catalog
from mlcc_dagster.cli.rounds import Target, estimate
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.outcome import BenchmarkPlan, Owner, StageResult, StageStatus
from mlcc_dagster.core.records import utc_text
from mlcc_dagster.core.resolution import configuration_of
from mlcc_dagster.core.stages import CANONICAL_ORDER, DEFAULT_LIMIT_SECONDS, TUNING_STAGES, Stage
from resources.ci_table import Refused
from resources.estimates import Estimates, tier_scales
from resources.lifecycle import (
    DEFAULT_STAGES,
    RunRequest,
    begin,
    benchmark_plan,
    conclude,
    perform,
    stages_of,
)
from resources.platform import Platform

CATALOG = load_catalog()
OWNER = Owner("host", 1, 1, "boot", "0" * 36)
PLAN = BenchmarkPlan(enabled=True, workload="local_predict", concurrency_levels=(1,))
MEASURED = BenchmarkPlan(enabled=True, workload="multi_turn_chat", concurrency_levels=(1,))
LOCAL = {entry.id: configuration_of(entry, CATALOG) for entry in CATALOG.tier_entries("local")}
FOREST, FOREST_2CPU = LOCAL["local-fastapi-forest-1cpu"], LOCAL["local-fastapi-forest-2cpu"]
FLASK, SMOLLM = LOCAL["local-flask-forest-1cpu"], LOCAL["local-llamacpp-smollm2-q4-1-2cpu"]
GAP = Configuration("transformers-vllm", "Qwen/Qwen3-4B", "qwen3", "ml.g6.xlarge", "us-west-2")


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return Platform.open(tmp_path / "home", executor="local")


def noted(
    platform: Platform, configuration: Configuration, seconds: dict[Stage, float], *, failing: Stage | None = None
) -> None:
    """An attempt as its process leaves it in the table, ended by an interruption."""
    claim = platform.ci.claim(
        config_id(configuration),
        configuration=configuration,
        round=f"r{len(platform.ci.attempts())}",
        owner=OWNER,
        lease_seconds=60,
        run_type="ci",
        benchmark=PLAN,
    )
    assert not isinstance(claim, Refused)
    for stage, took in seconds.items():
        status = StageStatus.FAIL if stage is failing else StageStatus.PASS
        result = StageResult(stage, status, utc_text(datetime.now(UTC)), took)
        platform.ci.stage_ended(claim, stage.value, result.to_document())
    assert platform.ci.interrupt(claim.run_id, "the test is over")


def deploy_seconds(estimates: Estimates, configuration: Configuration) -> float:
    return estimates.seconds(configuration, config_id(configuration), [Stage.DEPLOY])


# ---- before any run


def test_before_any_run_the_declared_times_stand_alone(platform: Platform) -> None:
    estimates = Estimates.take(platform)
    times = CATALOG.stage_times
    assert estimates.seconds(FOREST, config_id(FOREST), [Stage.BUILD, Stage.DEPLOY]) == pytest.approx(
        times["build"].local_seconds + times["deploy"].local_seconds
    )
    assert estimates.seconds(GAP, config_id(GAP), [Stage.BUILD, Stage.DEPLOY]) == pytest.approx(
        times["build"].seconds + times["deploy"].seconds
    ), "no entry of a tier, so nothing is known of it"
    assert estimates.stage(GAP, config_id(GAP), Stage.BUILD).assumed
    assert estimates.learned(config_id(FOREST)) == 0


@pytest.mark.parametrize("tier", [name for name, tier in CATALOG.tiers.items() if tier.known_minutes])
def test_the_entries_of_a_tier_take_its_known_minutes_together_without_tuning(tier: str, platform: Platform) -> None:
    estimates = Estimates.take(platform)
    seconds = 0.0
    for entry in CATALOG.tier_entries(tier):
        configuration = configuration_of(entry, CATALOG)
        stages = stages_of(entry, benchmark_plan(entry))
        seconds += estimates.seconds(configuration, config_id(configuration), stages - TUNING_STAGES)
        assert estimates.seconds(configuration, config_id(configuration), [Stage.TUNE]) == pytest.approx(
            CATALOG.stage_times["tune"].seconds
        )
    assert seconds / 60 == pytest.approx(CATALOG.tiers[tier].known_minutes)


def test_entries_of_a_tier_that_nobody_timed_keep_the_declared_times() -> None:
    assert not {config_id(configuration) for configuration in LOCAL.values()} & set(tier_scales(CATALOG))


@pytest.mark.parametrize("stage", CANONICAL_ORDER)
def test_every_stage_has_a_declared_time_well_within_its_limit(stage: Stage) -> None:
    times = CATALOG.stage_times[stage.value]
    assert 0 < times.local_seconds <= times.seconds < DEFAULT_LIMIT_SECONDS[stage] / 2


# ---- what runs teach


def test_runs_teach_most_about_their_own_configuration_and_something_about_others(platform: Platform) -> None:
    before = Estimates.take(platform)
    for _ in range(4):
        noted(platform, FOREST, {Stage.DEPLOY: 35.0})
    after = Estimates.take(platform)
    own, related, other = (deploy_seconds(after, each) for each in (FOREST, FOREST_2CPU, SMOLLM))
    assert 35.0 > own > related > deploy_seconds(before, FOREST)
    assert related == pytest.approx(other), "one vote on either level"
    assert [after.learned(config_id(each)) for each in (FOREST, FOREST_2CPU)] == [4, 0]
    shown = after.stage(FOREST_2CPU, config_id(FOREST_2CPU), Stage.DEPLOY)
    assert (shown.own_runs, shown.related_runs, shown.assumed) == (0, 4, False)


def test_an_answer_does_not_depend_on_what_was_asked_before(platform: Platform) -> None:
    for _ in range(2):
        noted(platform, FOREST, {Stage.DEPLOY: 35.0})
    noted(platform, FLASK, {Stage.DEPLOY: 0.5})
    everything = [FOREST, FOREST_2CPU, FLASK, SMOLLM, GAP]
    shared = Estimates.take(platform)
    one_way = [deploy_seconds(shared, each) for each in everything]
    other_way = [deploy_seconds(shared, each) for each in reversed(everything)]
    alone = [deploy_seconds(Estimates.take(platform), each) for each in everything]
    assert one_way == other_way[::-1] == alone
    assert len(set(alone)) == len(everything), "each is known in another way"


def test_a_stage_that_failed_teaches_nothing_and_what_passed_before_it_does(platform: Platform) -> None:
    untaught = Estimates.take(platform)
    noted(platform, FOREST, {Stage.BUILD: 50.0, Stage.DEPLOY: 300.0}, failing=Stage.DEPLOY)
    noted(platform, FLASK, {Stage.BUILD: 50.0}, failing=Stage.BUILD)
    taught = Estimates.take(platform)
    key = config_id(FOREST)
    assert deploy_seconds(taught, FOREST) == deploy_seconds(untaught, FOREST)
    assert taught.seconds(FOREST, key, [Stage.BUILD]) > untaught.seconds(FOREST, key, [Stage.BUILD])
    assert (taught.learned(key), taught.learned(config_id(FLASK))) == (1, 0)


def test_a_played_run_teaches_its_virtual_seconds(tmp_path: Path) -> None:
    platform = Platform.open(tmp_path / "home", executor="replay")
    key = platform.ci.register(GAP, benchmark=MEASURED).config_id
    outcome = begin(platform, RunRequest(key, "r1"), OWNER)
    assert not isinstance(outcome, Refused)
    for stage in CANONICAL_ORDER:
        outcome = perform(platform, stage, outcome)
    concluded = conclude(platform, outcome)
    assert concluded.succeeded, "the model lets this run pass"
    played = outcome.result(Stage.DEPLOY)
    assert played is not None
    assert played.outputs["virtual_seconds"] > 300 > played.seconds
    declared = CATALOG.stage_times["deploy"].seconds
    found = deploy_seconds(Estimates.take(platform), GAP)
    assert found == pytest.approx(declared ** (2 / 3) * played.outputs["virtual_seconds"] ** (1 / 3))


# ---- money, and the dry run


def test_usd_are_the_seconds_of_each_stage_at_its_own_price(platform: Platform) -> None:
    estimates = Estimates.take(platform)
    stages = DEFAULT_STAGES | TUNING_STAGES
    for configuration in (FOREST, GAP):
        key = config_id(configuration)
        priced = [
            platform.stage_usd(configuration, stage, estimates.stage(configuration, key, stage).seconds)
            for stage in stages
        ]
        assert estimates.usd(configuration, key, stages) == pytest.approx(sum(priced))
        assert estimates.usd(configuration, key, stages) > estimates.usd(configuration, key, DEFAULT_STAGES) > 0
    assert estimates.usd(GAP, config_id(GAP), []) == 0


def test_a_dry_run_says_what_a_plan_weighs(platform: Platform) -> None:
    noted(platform, FOREST, {Stage.DEPLOY: 35.0})
    targets = [
        Target(config_id(FOREST), "forest", FOREST),
        Target(config_id(SMOLLM), "smollm", SMOLLM),
        Target(config_id(GAP), "gap", GAP, refusal="needs a GPU"),
    ]
    forecast = estimate(platform, targets, "local")
    estimates = Estimates.take(platform)
    for target in targets[:2]:
        asked = (target.configuration, target.config_id, DEFAULT_STAGES)
        assert forecast.seconds[target.config_id] == pytest.approx(estimates.seconds(*asked))
        assert forecast.usd[target.config_id] == pytest.approx(estimates.usd(*asked))
    assert forecast.sentence.startswith("2 of 3 configurations run here, about ")
    assert forecast.sentence.endswith("(1 learned from past runs); the tier's ceiling is 1 USD")
    document = forecast.to_json()
    assert [row["learned_from_runs"] for row in document["configurations"]] == [1, 0, None]
    assert [row["estimated_seconds"] for row in document["configurations"]][2] is None
    assert document["estimated_usd"] == pytest.approx(sum(forecast.usd.values()))


def test_where_nothing_runs_the_dry_run_says_so_without_a_sum(platform: Platform) -> None:
    forecast = estimate(platform, [Target(config_id(GAP), "gap", GAP, refusal="needs a GPU")], None)
    assert (forecast.sentence, forecast.runnable) == ("none of 1 configurations runs here", 0)
