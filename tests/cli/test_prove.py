"""`mlcc prove`: a document on the real graph, whose stages a test scripts: what runs, what goes on, what is promised."""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from command_calls import Answer, Call, files_below

sys.path.insert(0, str(Path(__file__).parents[1] / "assets"))

from scripted_runs import KIND, Scripted, fails

from catalog.loader import load_catalog
from mlcc_dagster.cli.prove_commands import expansion_of
from mlcc_dagster.core.exceptions import StageFailed
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.outcome import BenchmarkPlan, Claim
from mlcc_dagster.core.resolution import configuration_of
from mlcc_dagster.core.stages import Stage
from resources import platform as platforms
from resources import processes
from resources.executor import StageRequest
from resources.home import Home
from resources.ledger import Ledger
from resources.platform import Platform
from resources.prove_documents import all_remembered, asked_for
from resources.sqlite_ci_table import SqliteCiTable
from resources.stage_runner import KEPT

CATALOG = load_catalog()
FOREST, LOGISTIC = "sklearn/random-forest-digits", "sklearn/logistic-regression-digits"
BASE = {"model_name": FOREST, "deployment_config": "http-fastapi", "instance_type": "local.1cpu"}
SERVERS = ["http-fastapi", "http-flask"]
GATE = ["clean", "build", "deploy", "test", "generate"]
GATE_STAGES = [Stage.GENERATE, Stage.VALIDATE, Stage.BUILD, Stage.PUSH, Stage.DEPLOY, Stage.TEST]


@dataclass
class Bench:
    """A home whose stages do what a test says, a document in it, and the command line over both."""

    mlcc: Call
    home: Home
    folder: Path
    scripts: dict[Stage, Callable[[StageRequest], None]] = field(default_factory=dict)
    performed: list[tuple[str, Stage]] = field(default_factory=list)

    def write(self, **changes: Any) -> Path:
        whole = {"schema_version": "1", "base": BASE, "sweep": {}, "stages": GATE} | changes
        path = self.folder / "prove.json"
        path.write_text(json.dumps(whole))
        return path

    def prove(self, *words: str, **changes: Any) -> Answer:
        path = (
            self.folder / "prove.json"
            if not changes and (self.folder / "prove.json").exists()
            else self.write(**changes)
        )
        return self.mlcc("prove", str(path), *words)

    @property
    def ci(self) -> SqliteCiTable:
        return SqliteCiTable(self.home.database)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.home.database)

    def stages_of(self, run_id: str) -> list[Stage]:
        return [stage for run, stage in self.performed if run == run_id]


@pytest.fixture
def bench(mlcc: Call, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench(mlcc, Home(home), tmp_path)

    def scripted(name: str, home: Home) -> Scripted:
        executor = Scripted(home, made.scripts)
        executor.performed = made.performed
        return executor

    from mlcc_dagster.cli.dagster_runs import DagsterRuns

    monkeypatch.setattr(platforms, "open_executor", scripted)
    # coverage and gaps are other tests' matter, and refreshing them takes longer than a run
    monkeypatch.setattr(DagsterRuns, "refresh", lambda self: None)
    yield made


SIX = {"deployment_config": SERVERS, "serving_params.memory_limit_mb": [None, 512, 768]}

# ---- what runs


@pytest.mark.slow
def test_a_sweep_runs_each_configuration_once_through_the_stages_of_its_document(bench: Bench):
    answer = bench.prove("--json", sweep=SIX)
    assert answer.code == 0, answer.err
    document = answer.document
    assert (document["started"], document["passed"], document["count"], document["finished"]) == (6, 6, 6, True)
    assert [entry["values"] for entry in document["configurations"]] == [
        {"deployment_config": server, "serving_params.memory_limit_mb": limit}
        for server in SERVERS
        for limit in (None, 512, 768)
    ]
    attempts = bench.ci.attempts()
    assert {(a.run_type, a.state, a.run_status) for a in attempts} == {("prove", "finished", "pass")}
    assert {a.round for a in attempts} == {attempts[0].round}
    assert attempts[0].round.startswith(f"prove:{document['document']}@")
    for attempt in attempts:
        assert bench.stages_of(attempt.run_id) == GATE_STAGES
        assert {stage for stage, told in attempt.stages.items() if told["status"] == "skip"} == {
            *("stage", "tune", "adapter", "test_adapter", "benchmark", "register")
        }
    assert bench.ledger.alive() == []
    assert bench.ledger.totals(f"prove:{document['document']}/50").runs == 6


def test_a_finished_document_says_so_and_starts_nothing(bench: Bench):
    assert bench.prove(sweep={"deployment_config": SERVERS}).code == 0
    before, files = list(bench.performed), files_below(bench.home.logs)
    answer = bench.prove()
    assert answer.code == 0
    assert answer.out.splitlines()[-1] == "every configuration of this document was settled before: nothing was started"
    again = bench.prove("--json").document
    assert (again["started"], again["finished"], again["passed"]) == (0, True, 2)
    assert bench.performed == before
    assert files_below(bench.home.logs) == files


def test_a_benchmark_is_measured_when_the_document_asks_whatever_the_record_says(bench: Bench):
    entry = next(e for e in CATALOG.entries if e.id == "local-fastapi-forest-1cpu")
    key = config_id(configuration_of(entry, CATALOG))
    assert bench.prove().code == 0
    record = bench.ci.record(key)
    assert record is not None
    assert record.benchmark.enabled, "a document without benchmark changes nobody else's runs"
    assert Stage.BENCHMARK not in bench.stages_of(f"{key}-g1")
    assert bench.prove(stages=[*GATE, "benchmark", "register"]).code == 0
    assert bench.stages_of(f"{key}-g2") == [*GATE_STAGES, Stage.BENCHMARK, Stage.REGISTER]


def test_what_nothing_knows_is_registered_so_that_it_can_be_run(bench: Bench):
    assert bench.prove(base=BASE | {"serving_params": {"memory_limit_mb": 600}}).code == 0
    (record,) = bench.ci.records()
    assert dict(record.configuration.serving_params) == {"memory_limit_mb": "600"}
    assert record.test_status == "pass"
    assert record.benchmark.workload == "local_predict"


def test_equal_points_are_run_once_and_that_is_said(bench: Bench):
    answer = bench.prove(sweep={"quantization": ["fp16", None]})
    assert answer.code == 0
    assert "quantization=fp16 and quantization=null are one configuration, which is run once" in answer.err
    assert len(bench.ci.attempts()) == 1


# ---- going on


def only_flask(script: Callable[[StageRequest], None]) -> Callable[[StageRequest], None]:
    def scripted(request: StageRequest) -> None:
        if request.configuration.deployment_config == "http-flask":
            script(request)

    return scripted


@pytest.mark.slow
def test_what_failed_is_tried_again_and_what_passed_is_not(bench: Bench):
    bench.scripts[Stage.TEST] = only_flask(fails("Connection refused"))
    answer = bench.prove(sweep={"deployment_config": SERVERS})
    assert answer.code == 1
    (told,) = [line for line in answer.out.splitlines() if line.startswith("deployment_config=http-flask: ")]
    assert told.startswith("deployment_config=http-flask: test failed (")
    first = bench.prove("--json")
    assert (first.code, first.document["started"]) == (1, 1)
    del bench.scripts[Stage.TEST]
    assert bench.prove().code == 0
    attempts = {key: len(bench.ci.attempts(key)) for key in {a.config_id for a in bench.ci.attempts()}}
    assert sorted(attempts.values()) == [1, 3]
    assert bench.prove("--json").document["started"] == 0


@pytest.mark.slow
def test_what_a_fact_refutes_is_not_tried_again(bench: Bench):
    def out_of_memory(request: StageRequest) -> None:
        raise StageFailed("MemoryError", category="oom")

    bench.scripts[Stage.DEPLOY] = only_flask(out_of_memory)
    assert bench.prove(sweep={"deployment_config": SERVERS}).code == 1
    answer = bench.prove("--json")
    assert (answer.code, answer.document["started"], answer.document["finished"]) == (1, 0, True)
    standings = {entry["values"]["deployment_config"]: entry["standing"] for entry in answer.document["configurations"]}
    assert standings == {"http-fastapi": "passed", "http-flask": "unfeasible"}


@pytest.mark.slow
def test_what_preflight_refutes_costs_nothing_and_what_cannot_run_here_is_left_out(bench: Bench):
    answer = bench.prove(
        "--json",
        sweep={"instance_type": ["local.1cpu", "ml.m5.large"], "deployment_config": ["http-fastapi", "triton-fil"]},
    )
    assert answer.code == 1
    told = {tuple(each["values"].values()): each for each in answer.document["configurations"]}
    assert told["local.1cpu", "http-fastapi"]["standing"] == "passed"
    assert told["ml.m5.large", "http-fastapi"]["standing"] == "waiting"
    assert told["ml.m5.large", "http-fastapi"]["reason"] == "needs a GPU instance"


def test_a_reservation_of_capacity_is_refused_by_who_cannot_use_it(bench: Bench):
    arn = "arn:aws:sagemaker:eu-west-1:1:training-plan/x"
    answer = bench.prove(base=BASE | {"infra_params": {"capacity_reservation_arn": arn}})
    assert (answer.code, answer.out) == (2, "")
    assert "into which executor scripted does not deploy; leave infra_params out" in answer.err
    assert not bench.home.root.exists()


# ---- time and money


def test_the_time_of_a_run_bounds_its_stages_together(bench: Bench):
    def endless(request: StageRequest) -> None:
        while request.remaining() > 0:
            request.stop.wait(0.02)

    bench.scripts[Stage.VALIDATE] = endless
    answer = bench.prove("--json", timeout_minutes=0.03)
    assert answer.code == 1
    (told,) = answer.document["configurations"]
    assert told["stages"]["validate"]["status"] == "fail"
    assert told["stages"]["validate"]["seconds"] < 30
    assert "the 0.03 minutes of the run are used up; raise timeout_minutes of the document" in told["reason"]
    assert bench.ledger.alive() == []


@pytest.mark.slow
def test_a_budget_is_a_ceiling_and_raising_it_goes_on_with_the_rest(bench: Bench):
    sweep = {"deployment_config": SERVERS}
    answer = bench.prove("--json", sweep=sweep, budget_usd=0.00001)
    assert answer.code == 1
    assert answer.document["started"] == 0
    reason = answer.document["configurations"][0]["reason"]
    # the entry limits each stage to 300 s, of which it has seven with clean, at 0.05 USD an hour
    assert reason.startswith("not started: a run can cost 0.0292 USD at most and 0.0000 USD are left of 1e-05; raise")
    assert bench.ci.attempts() == ()
    # enough for one promise at a time
    raised = bench.prove("--json", sweep=sweep, budget_usd=0.03)
    assert (raised.code, raised.document["started"]) == (0, 2)
    assert raised.document["document"] == answer.document["document"], "budget and time are no part of what is proven"
    costs = [entry["cost_usd"] for entry in raised.document["configurations"]]
    assert raised.document["spent_usd"] == pytest.approx(sum(costs), abs=1e-5)


@pytest.mark.slow
def test_what_was_spent_under_another_ceiling_of_a_document_counts_against_this_one(bench: Bench):
    bench.scripts[Stage.TEST] = fails("Connection refused")
    scope = f"prove:{bench.prove('--json', budget_usd=0.5).document['document']}"
    # as if earlier runs had used up most of it
    assert bench.ledger.reserve(f"{scope}/0.5", "used", 0.46, ceiling_usd=0.5, deadline_seconds=60)
    assert bench.ledger.settle("used", 0.46)
    refused = bench.prove("--json", budget_usd=0.48)
    assert refused.document["started"] == 0
    assert "0.0292 USD at most and 0.0" in refused.document["configurations"][0]["reason"]
    assert bench.prove("--json", budget_usd=0.5).document["started"] == 1
    assert bench.ledger.totals(f"{scope}/0.5").committed_usd <= 0.5


def test_money_that_another_process_holds_is_waited_for(bench: Bench):
    opened = Platform.open()
    kept = asked_for(expansion_of(bench.write(budget_usd=0.03), {}), source="prove.json", no_clean=False)
    scope = kept.budget
    claim = opened.ci.claim(
        "aaaa",
        configuration=kept.expansion.members[0].configuration,
        round="another@x",
        owner=processes.this_process("another"),
        lease_seconds=60,
        run_type="prove",
        benchmark=BenchmarkPlan(False, "none", ()),
    )
    assert isinstance(claim, Claim)
    assert opened.ledger.reserve(scope, "held", 0.029, ceiling_usd=0.03, deadline_seconds=60)
    assert opened.ledger.activate("held", claim.run_id)
    waiting = threading.Timer(
        2.0, lambda: (opened.ledger.settle("held", 0.0), opened.ci.interrupt(claim.run_id, "over"))
    )
    waiting.start()
    answer = bench.prove("--json")
    waiting.join()
    assert (answer.code, answer.document["started"]) == (0, 1)
    assert bench.ledger.totals(scope).committed_usd <= 0.03


# ---- what is kept


def test_no_clean_keeps_what_passed_until_the_document_is_run_without_it(bench: Bench):
    answer = bench.prove("--no-clean")
    assert answer.code == 0, answer.err
    (run_id,) = [attempt.run_id for attempt in bench.ci.attempts()]
    kinds = {resource.kind for resource in bench.ledger.alive(run_id)}
    assert kinds == {KIND, KEPT, "workspace"}
    (told,) = bench.mlcc("prove", "report", "--json").document["configurations"]
    assert Path(told["endpoint"]).exists()
    assert f"kept at {told['endpoint']}" in answer.out
    assert [slot.run_id for slot in bench.ledger.slots()] == [run_id]
    assert bench.mlcc("reap").code == 0
    assert {resource.kind for resource in bench.ledger.alive(run_id)} == kinds, "the reaper leaves it alone"
    charged = bench.ledger.reservation(run_id)
    assert charged is not None
    assert charged.spent_usd == pytest.approx(0.05 * 1.5, rel=0.02), "all the time that it may be kept is paid for"
    again = bench.prove()
    assert again.code == 0
    assert "ended 1 deployment kept by --no-clean" in again.err
    assert not Path(told["endpoint"]).exists()
    assert bench.ledger.alive() == []
    assert bench.ledger.slots() == []
    assert len(bench.ci.attempts()) == 1


def test_what_is_kept_ends_at_its_deadline(bench: Bench):
    assert bench.prove("--no-clean", timeout_minutes=0.05).code == 0
    (resource,) = [each for each in bench.ledger.alive() if each.kind == KEPT]
    from functools import partial

    from resources.lifecycle import interrupted_usd
    from resources.reaper import reap

    opened = Platform.open()
    parts = {"home": opened.home, "ci": opened.ci, "ledger": opened.ledger, "store": opened.store}
    parts |= {"executor": opened.executor, "interrupted_usd": partial(interrupted_usd, opened)}
    assert reap(**parts, now=resource.deadline - 1).ended == ()
    ended = reap(**parts, now=resource.deadline + 1).ended
    assert {each.kind for each in ended} == {KIND, KEPT, "workspace"}
    assert bench.ledger.alive() == []


def test_what_failed_is_cleaned_even_so(bench: Bench):
    bench.scripts[Stage.TEST] = fails("Connection refused")
    assert bench.prove("--no-clean").code == 1
    assert bench.ledger.alive() == []
    assert bench.ledger.slots() == []


def test_more_deployments_than_slots_cannot_be_kept(bench: Bench):
    answer = bench.prove("--no-clean", sweep={"deployment_config": SERVERS})
    assert (answer.code, answer.out) == (2, "")
    assert "2 are to be made, 0 are kept and this home has 1 slot; sweep less, or raise slots" in answer.err
    assert bench.performed == []


# ---- asking


POSITIONS = [
    "prove --dry-run {file}",
    "prove {file} --dry-run",
    "prove run --dry-run {file}",
    "prove --dry-run run {file}",
    "prove --instance-type local.2cpu --dry-run {file}",
    "prove {file} --dry-run --instance-type local.2cpu",
    "prove --concurrency=2 {file} --json --dry-run",
]


@pytest.mark.parametrize("words", POSITIONS)
def test_a_dry_run_in_any_position_says_count_minutes_and_usd_and_starts_nothing(bench: Bench, words: str):
    path = bench.write(sweep=SIX)
    answer = bench.mlcc(*words.format(file=path).split())
    assert answer.code == 0, answer.err
    if "--json" in words:
        document = answer.document
        assert (document["started"], document["count"], document["to_run"]) == (False, 6, 6)
        assert document["estimated_minutes"] > 0
        assert 0 < document["estimated_usd"] < document["most_usd"]
    else:
        assert "nothing was started" in answer.out.splitlines()[0]
        assert answer.out.count("local.2cpu" if "2cpu" in words else "local.1cpu") == 6
        assert "6 of 6 configurations to run, about " in answer.out.splitlines()[-1]
    assert bench.performed == []
    assert bench.ci.attempts() == ()
    assert bench.ledger.reservations() == []
    assert all_remembered(bench.home) == []


@pytest.mark.parametrize(
    "words", ["prove --dry-run report", "prove report --dry-run", "prove --json report", "prove report"]
)
def test_a_report_is_of_the_document_that_was_run_last(bench: Bench, words: str):
    assert bench.prove(sweep={"deployment_config": SERVERS}).code == 0
    answer = bench.mlcc(*words.split())
    assert answer.code == 0
    if "--json" in words:
        assert answer.document["passed"] == 2
        assert answer.document["configurations"][0]["stages"]["test"]["status"] == "pass"
    else:
        assert answer.out.splitlines()[-1].startswith("2 configurations | 2 passed | 0.00")


def test_a_report_names_its_document_by_file_or_name_and_one_that_was_not_run_waits(bench: Bench):
    assert bench.prove().code == 0
    name = bench.mlcc("prove", "report", "--json").document["document"]
    assert bench.mlcc("prove", "report", name[:4], "--json").document["document"] == name
    assert bench.mlcc("prove", "report", str(bench.folder / "prove.json"), "--json").document["document"] == name
    other = bench.write(sweep=SIX)
    answer = bench.mlcc("prove", "report", str(other), "--json")
    assert answer.code == 1
    assert {entry["standing"] for entry in answer.document["configurations"]} == {"waiting"}


@pytest.mark.slow
def test_the_status_counts_every_document_of_the_home(bench: Bench):
    assert bench.prove(sweep={"deployment_config": SERVERS}).code == 0
    bench.scripts[Stage.BUILD] = fails("Connection refused")
    assert bench.prove(base=BASE | {"model_name": LOGISTIC}).code == 1
    newest, oldest = bench.mlcc("prove", "status", "--json").document["documents"]
    assert (newest["failed"], newest["passed"], newest["finished"]) == (1, 0, False)
    assert (oldest["failed"], oldest["passed"], oldest["finished"]) == (0, 2, True)
    assert "2 documents run here" in bench.mlcc("prove", "status").out


# ---- promotion


@pytest.mark.slow
def test_what_passed_is_promoted_into_the_catalog_of_the_home_and_the_document_stays_what_it_was(bench: Bench):
    base = BASE | {"model_name": LOGISTIC, "max_model_len": None}
    sweep = {"deployment_config": SERVERS, "serving_params.memory_limit_mb": [None, 700]}
    assert bench.prove(base=base, sweep=sweep, stages=[*GATE, "benchmark"]).code == 0
    would = bench.mlcc("prove", "--dry-run", "sync", "--json").document
    assert (would["dry_run"], len(would["added"]), len(would["present"])) == (True, 3, 1)
    assert not (bench.home.root / "catalog").exists()
    done = bench.mlcc("prove", "sync")
    assert done.code == 0
    assert done.out.count("+ - id: proven-http-") == 3
    assert done.out.splitlines()[-1] == "3 entries added, 1 there before, 0 left out"
    listed = {
        each["id"]: each for each in bench.mlcc("catalog", "list", "--tier", "local", "--json").document["entries"]
    }
    for entry in would["added"]:
        assert listed[entry["id"]]["config_id"] in {attempt.config_id for attempt in bench.ci.attempts()}
        assert entry["lifecycle"][-1] == "clean"
        assert entry["benchmark"]["enabled"]
    again = bench.mlcc("prove", "sync", "--json").document
    assert (again["added"], len(again["present"])) == ([], 4)
    assert bench.prove("--json").document["started"] == 0, "its configurations have the ids they had"


@pytest.mark.slow
def test_what_was_not_tested_or_failed_is_not_promoted(bench: Bench):
    bench.scripts[Stage.TEST] = only_flask(fails("Connection refused"))
    base = BASE | {"serving_params": {"memory_limit_mb": 710}}
    assert bench.prove(base=base, sweep={"deployment_config": SERVERS}).code == 1
    assert bench.prove(base=base | {"instance_type": "local.2cpu"}, stages=["build"]).code == 0
    document = bench.mlcc("prove", "sync", "--json").document
    assert [entry["deployment_config"] for entry in document["added"]] == ["http-fastapi"]
    assert list(document["left_out"].values()) == [
        "it was not tested, so nothing is proven; add deploy and test to the stages"
    ]


def test_what_is_replayed_is_not_promoted(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLCC_EXECUTOR", "replay")
    answer = bench.mlcc("prove", "sync")
    assert answer.code == 2
    assert "no evidence for a catalog" in answer.err


# ---- refusals


@pytest.mark.parametrize(
    ("words", "said", "next_step"),
    [
        ("prove nope.json", "cannot read nope.json", "name a document such as prove.json"),
        ("prove report", "no document was run here yet", "run one with `mlcc prove FILE`"),
        ("prove report nope", "cannot read nope", "name a document such as prove.json"),
        ("prove run", "missing argument 'FILE'", "see `mlcc prove run --help`"),
        ("prove {file} --concurrency 0", "--concurrency cannot be 0", "use 1 or more"),
        ("prove {file} --executor nope", "unknown executor 'nope'", "use one of local"),
        (
            "prove {file} --instance-type ml.g5.xlarge",
            "none of them can run with this executor",
            "needs a GPU instance",
        ),
        ("prove {file} --frob", "no such option: --frob", "see `mlcc prove run --help`"),
    ],
)
def test_a_request_that_cannot_be_met_makes_nothing(bench: Bench, words: str, said: str, next_step: str):
    answer = bench.mlcc(*words.format(file=bench.write()).split())
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.count("\n") == 1
    assert said in answer.err
    assert next_step in answer.err.partition(said)[2]
    assert not bench.home.root.exists()


def test_all_mistakes_of_a_document_come_at_once_and_nothing_is_made(bench: Bench):
    answer = bench.prove("--quantization", "nope", base=BASE | {"enable_lora": 1}, sweep={"instance_type": ["x"]})
    assert (answer.code, answer.out) == (2, "")
    assert f"{bench.folder / 'prove.json'} has 3 mistakes" in answer.err
    assert "--quantization: 'nope' is not known" in answer.err
    assert "sweep.instance_type[0]: 'x' is not known" in answer.err
    assert not bench.home.root.exists()


def test_a_damaged_memory_of_a_document_is_named(bench: Bench):
    assert bench.prove().code == 0
    (path,) = (bench.home.root / "prove").glob("*.json")
    path.write_text("{")
    answer = bench.mlcc("prove", "status")
    assert answer.code == 2
    assert str(path) in answer.err
    assert "move it away" in answer.err


def test_more_at_a_time_than_there_are_slots_is_said(bench: Bench):
    answer = bench.prove("--concurrency", "3")
    assert answer.code == 0
    assert "this home has 1 deployment slot, so 1 at a time instead of 3; raise slots in settings.yaml" in answer.err


# ---- what is documented


def keys(document: Any) -> Any:
    """Return the keys of a document level by level; of a list those of its first item."""
    if isinstance(document, dict):
        return {key: keys(value) for key, value in document.items() if key not in {"values", "stages"}}
    return [keys(document[0])] if isinstance(document, list) and document else None


@pytest.mark.parametrize(
    ("section", "words"),
    [("run", "{file} --dry-run --json"), ("report", "report --json"), ("status", "status --json")],
)
def test_the_documented_json_has_the_keys_that_are_printed(bench: Bench, section: str, words: str):
    page = (Path(__file__).parents[2] / "docs" / "commands.md").read_text("utf-8")
    text = page.partition(f"## `mlcc prove {section}`\n")[2].partition("\n## `mlcc ")[0]
    documented = json.loads(text.partition("```json\n")[2].partition("```")[0])
    if section != "run":
        assert bench.prove().code == 0
    printed = bench.mlcc("prove", *words.format(file=bench.write()).split()).document
    assert keys(documented) == keys(printed)
    assert list(documented) == list(printed)


def test_a_document_of_the_page_is_one_that_can_be_run(bench: Bench):
    page = (Path(__file__).parents[2] / "docs" / "commands.md").read_text("utf-8")
    text = page.partition("## `mlcc prove`\n")[2].partition("```\n")[2].partition("```")[0]
    (bench.folder / "prove.json").write_text(text)
    document = bench.prove("--dry-run", "--json").document
    assert (document["points"], document["to_run"]) == (4, 4)
