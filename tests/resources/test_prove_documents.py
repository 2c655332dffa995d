"""What a home remembers of prove documents: the same document back, the standing of each configuration, what a run may cost."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.loader import load_catalog
from mlcc_dagster.core.exceptions import HomeError, UsageError
from mlcc_dagster.core.outcome import BenchmarkPlan, Claim, Owner, StageResult, StageStatus
from mlcc_dagster.core.prices import Billing, Prices
from mlcc_dagster.core.prove_documents import expand
from mlcc_dagster.core.prove_reading import read_prove_document
from mlcc_dagster.core.stages import DEFAULT_LIMIT_SECONDS, Stage
from resources.ci_table import Commit
from resources.home import Home
from resources.platform import Platform
from resources.prove_documents import (
    PROJECT_DIGEST,
    Asked,
    Remembered,
    Standing,
    all_remembered,
    asked_for,
    asked_in,
    progress,
    project_digest,
    remember,
    remembered,
)
from resources.prove_runs import most_usd
from resources.sqlite_ci_table import SqliteCiTable

CATALOG = load_catalog()
BASE = {
    "model_name": "sklearn/random-forest-digits",
    "deployment_config": "http-fastapi",
    "instance_type": "local.1cpu",
}
OWNER = Owner("host", 1, 1, "boot", "dagster-run")


def document(*, no_clean: bool = False, **changes: Any) -> Remembered:
    raw = {"schema_version": "1", "base": BASE, "sweep": {}, "stages": ["build", "deploy", "test"]} | changes
    read = read_prove_document(json.dumps(raw), CATALOG, source="prove.json")
    return asked_for(expand(read, CATALOG), source="prove.json", no_clean=no_clean)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").ensure()


# ---- remembering


def test_a_document_is_remembered_as_it_was(home: Home):
    kept = document(
        sweep={
            "serving_params": [{"memory_limit_mb": 512}, {}],
            "quantization": ["fp16", None],
            "max_model_len": [None, 7],
        },
        stages=["build", "deploy", "test", "tune-sft"],
        base=BASE | {"infra_params": {"capacity_reservation_arn": "arn:aws:sagemaker:eu-west-1:1:x"}},
        no_clean=True,
    )
    remember(home, kept)
    again = remembered(home, kept.digest)
    assert again is not None
    assert again.asked == kept.asked
    assert again.expansion.members == kept.expansion.members
    assert again.expansion.points == kept.expansion.points == 8
    assert again.digest == kept.digest
    assert (again.source, again.at, again.no_clean, again.budget) == (kept.source, kept.at, True, kept.budget)


def test_the_newest_call_of_a_document_decides_its_time_budget_and_cleaning(home: Home):
    remember(home, document(timeout_minutes=5, no_clean=True))
    later = document(timeout_minutes=7, budget_usd=3)
    remember(home, later)
    (kept,) = all_remembered(home)
    assert (kept.asked.timeout_seconds, kept.asked.kept_seconds) == (420.0, 0.0)
    assert Stage.CLEAN in kept.asked.stages
    assert kept.budget == f"prove:{later.digest}/3"


def test_a_round_of_a_document_says_what_its_runs_do_and_no_other_does(home: Home):
    kept = document()
    remember(home, kept)
    assert asked_in(home, f"{kept.scope}@20260101T000000Z") == kept.asked
    assert asked_in(home, "local@20260101T000000Z") is None
    with pytest.raises(UsageError, match="is gone, so what prove:abc@x asks for is unknown; run `mlcc prove` again"):
        asked_in(home, "prove:abc@x")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema_version": 2}'])
def test_a_damaged_file_is_named_and_nothing_is_guessed(home: Home, text: str):
    kept = document()
    remember(home, kept)
    path = home.root / "prove" / f"{kept.digest}.json"
    path.write_text(text)
    with pytest.raises(HomeError, match="move it away"):
        remembered(home, kept.digest)


# ---- how far it came


def claimed(ci: SqliteCiTable, kept: Remembered, round_id: str) -> Claim:
    (member,) = kept.expansion.members
    claim = ci.claim(
        member.config_id,
        configuration=member.configuration,
        round=round_id,
        owner=OWNER,
        lease_seconds=60,
        run_type="prove",
        benchmark=BenchmarkPlan(False, "none", ()),
    )
    assert isinstance(claim, Claim)
    return claim


def ended(ci: SqliteCiTable, claim: Claim, status: str, run_status: str) -> None:
    ci.intend(
        claim, Commit((), status=status, test_status=None, run_status=run_status, duration_seconds=1.0, cost_usd=0.5)
    )
    ci.finish(claim.run_id)


Step = Callable[[SqliteCiTable, Claim], None]
PASS: Step = lambda ci, claim: ended(ci, claim, "completed", "pass")  # noqa: E731
BUILT: Step = lambda ci, claim: ended(ci, claim, "partial", "pass")  # noqa: E731
FAIL: Step = lambda ci, claim: ended(ci, claim, "failed", "fail-test")  # noqa: E731
TUNE: Step = lambda ci, claim: ended(ci, claim, "completed", "fail-tune-sft")  # noqa: E731
OOM: Step = lambda ci, claim: ended(ci, claim, "unfeasible", "fail-deploy")  # noqa: E731
KILL: Step = lambda ci, claim: ci.interrupt(claim.run_id, "killed", cost_usd=0.25) and None  # noqa: E731
RUNS: Step = lambda ci, claim: None  # noqa: E731


@pytest.mark.parametrize(
    ("steps", "standing", "rests_on", "reason"),
    [
        ([], Standing.WAITING, None, "never begun"),
        ([RUNS], Standing.RUNNING, 1, "begun"),
        ([KILL], Standing.INTERRUPTED, 1, "cut off"),
        ([PASS], Standing.PASSED, 1, "passed"),
        ([BUILT], Standing.PASSED, 1, "all that was asked for, although nothing was tested"),
        ([FAIL], Standing.FAILED, 1, "failed, worth another try"),
        ([TUNE], Standing.FAILED, 1, "proven, but not all that was asked for"),
        ([OOM], Standing.UNFEASIBLE, 1, "known bad"),
        ([FAIL, PASS], Standing.PASSED, 2, "the newest decides"),
        ([FAIL, KILL], Standing.FAILED, 1, "a try that was cut off says nothing"),
        ([KILL, PASS], Standing.PASSED, 2, "went on"),
        ([FAIL, RUNS], Standing.RUNNING, 2, "tried again just now"),
    ],
)
def test_a_standing_rests_on_the_attempts_of_the_documents_rounds(
    home: Home, steps: list[Step], standing: Standing, rests_on: int | None, reason: str
):
    ci, kept = SqliteCiTable(home.database), document()
    for number, step in enumerate(steps):
        step(ci, claimed(ci, kept, f"{kept.scope}@{number}"))
    (found,) = progress(ci, kept)
    assert found.standing is standing, reason
    assert (found.attempt.generation if found.attempt else None) == rests_on
    assert found.cost_usd == sum({KILL: 0.25, RUNS: 0.0}.get(step, 0.5) for step in steps)


def test_what_others_ran_is_no_progress_of_a_document(home: Home):
    ci, kept = SqliteCiTable(home.database), document()
    PASS(ci, claimed(ci, kept, "local@1"))
    PASS(ci, claimed(ci, kept, "prove:0123456789ab@1"))
    (found,) = progress(ci, kept)
    assert found.standing is Standing.WAITING


# ---- the project


def generated(folder: Path, **files: str) -> StageResult:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    made = MappingProxyType({"project": str(folder)})
    return project_digest(StageResult(Stage.GENERATE, StageStatus.PASS, "2026-01-01T00:00:00Z", 0.1, outputs=made))


def test_a_project_has_the_same_digest_wherever_it_lies_and_another_when_a_file_changes(tmp_path: Path):
    first = generated(tmp_path / "a", config="1", do__build="x").outputs[PROJECT_DIGEST]
    assert generated(tmp_path / "b", config="1", do__build="x").outputs[PROJECT_DIGEST] == first
    others = [{"config": "2", "do__build": "x"}, {"config": "1", "do__test": "x"}, {"config": "1"}]
    digests = [generated(tmp_path / f"c{n}", **files).outputs[PROJECT_DIGEST] for n, files in enumerate(others)]
    assert len({first, *digests}) == 4


def test_what_names_no_project_has_no_digest(tmp_path: Path):
    plain = StageResult(Stage.GENERATE, StageStatus.PASS, "", 0.1)
    assert PROJECT_DIGEST not in project_digest(plain).outputs
    failed = replace(
        generated(tmp_path / "a", config="1"), status=StageStatus.FAIL, outputs=MappingProxyType({"project": "x"})
    )
    assert PROJECT_DIGEST not in project_digest(failed).outputs


# ---- money


@pytest.mark.parametrize("billing", list(Billing))
@given(
    seconds=st.lists(st.floats(0, 4000), min_size=len(Stage), max_size=len(Stage)),
    minutes=st.floats(0.5, 200),
    no_clean=st.booleans(),
)
def test_a_promise_covers_every_way_to_spend_the_time_of_a_run(
    billing: Billing, seconds: list[float], minutes: float, no_clean: bool
):
    gpu = BASE | {
        "model_name": "Qwen/Qwen3-0.6B",
        "deployment_config": "transformers-vllm",
        "instance_type": "ml.g5.2xlarge",
    }
    stages = ["stage", "build", "deploy", "test", "tune", "adapter", "test-adapter", "benchmark", "register"]
    kept = document(base=gpu, stages=stages, timeout_minutes=minutes, no_clean=no_clean)
    (member,) = kept.expansion.members
    prices = Prices(billing, CATALOG.instances["ml.g5.2xlarge"].usd_per_hour, CATALOG.costs)

    class Priced:
        catalog = CATALOG
        entries_by_id: Mapping[str, Any] = MappingProxyType({})

        def prices(self, configuration: Any) -> Prices:
            return prices

    promised = most_usd(Priced(), member, kept.asked)  # type: ignore[arg-type]
    left, spent = minutes * 60, []
    for stage, wanted in zip(Stage, seconds, strict=True):
        if stage is Stage.CLEAN:
            spent.append((stage, min(wanted, DEFAULT_LIMIT_SECONDS[stage])))
            continue
        used = min(wanted, DEFAULT_LIMIT_SECONDS[stage], left)
        left -= used
        spent.append((stage, used))
    kept_usd = prices.usd(Stage.DEPLOY, kept.asked.kept_seconds)
    assert prices.run_usd(spent) + kept_usd <= promised + 1e-9


def test_time_that_is_short_makes_a_promise_small(home: Home):
    platform = Platform.open(home.root)
    long, short = (document(timeout_minutes=minutes) for minutes in (90, 1))
    costs = [most_usd(platform, kept.expansion.members[0], kept.asked) for kept in (long, short)]
    clean = DEFAULT_LIMIT_SECONDS[Stage.CLEAN]
    assert costs[1] < costs[0]
    assert costs[1] <= (60 + 6 + clean) * 0.05 / 3600


def test_a_document_that_measures_nothing_switches_a_benchmark_off():
    plan = BenchmarkPlan(True, "local_predict", (1, 4))
    assert not document().asked.measures(plan).enabled
    measuring = Asked(frozenset({Stage.BENCHMARK}), None, 60.0)
    assert measuring.measures(replace(plan, enabled=False)) == plan
