"""Serving for real: a stage and a benchmark of predictors, and llama.cpp under settings of threads and batch."""

import json
from pathlib import Path

import pytest
from triage_runs import plan, recipe

from resources import processes
from resources.home import Home
from resources.ledger import Ledger
from resources.local.executor import KINDS
from resources.triage.runner import run
from resources.triage.serving import VariedKind, servers_home, varied
from resources.triage.workload_names import workload_named

LLAMACPP = "local-llamacpp-smollm2-q4-1-2cpu"


def nothing_is_left(home: Path) -> None:
    place = servers_home()
    assert list(place.workspaces.iterdir()) == []
    assert Ledger(place.database).alive() == []
    assert [tag for tag, process in processes.tagged_all() if processes.lease_home(process) == place.root] == []


@pytest.mark.slow
def test_a_stage_and_a_benchmark_of_a_predictor_are_tried_for_real(tmp_path: Path, home: Path):
    test = run(plan(recipe({}, workload="stage:test:local-fastapi-logistic-1cpu", trials=1, steps=3)), tmp_path)
    (cell,) = test.matrix.statistics.values()
    assert (cell.passed, len(cell.step_times_ms)) == (1, 3)
    document = recipe({}, workload="benchmark:local-fastapi-logistic-1cpu", trials=1, steps=20)
    benchmark = run(plan(document), tmp_path)
    (cell,) = benchmark.matrix.statistics.values()
    assert (cell.passed, len(cell.step_times_ms)) == (1, 20)
    nothing_is_left(home)


@pytest.mark.slow
def test_llama_cpp_answers_the_same_under_settings_of_threads_and_batch(tmp_path: Path, home: Path):
    cells = [{"mitigations": ["llamacpp_one_thread", "llamacpp_four_slots"]}]
    document = recipe(*cells, workload="llamacpp-answers", trials=1, steps=4)
    document["workload_config"] = {"tokens": 8, "questions": 2}
    ended = run(plan(document, seconds=240), tmp_path)
    trial = json.loads((ended.folder.path / "cells/c0/trial_0.json").read_text())
    assert trial["exit_status"] == "ok", trial["reason"]
    assert trial["metrics"] == {"concurrency": 4, "answers": 4, "different": 0}
    assert len(trial["step_times_ms"]) == 4
    nothing_is_left(home)


@pytest.mark.slow
def test_what_a_dead_trial_left_is_ended_before_the_next(tmp_path: Path, home: Path):
    place = servers_home().ensure()
    ledger = Ledger(place.database)
    ledger.intend(run_id="triage-1-1-1", kind="process", ref="supervisor of triage-1-1-1", deadline_seconds=600)
    run(plan(recipe({}, workload="stage:generate:local-fastapi-logistic-1cpu", trials=1)), tmp_path)
    nothing_is_left(home)


@pytest.mark.slow
def test_a_stage_that_fails_is_a_failure_and_one_before_it_is_not(tmp_path: Path, home: Path):
    # the server's address space is limited below what its libraries need
    for name, status in (("stage:deploy", "workload_failed"), ("stage:test", "workload_setup_failed")):
        document = recipe({}, workload=f"{name}:local-fastapi-forest-tight-memory", trials=1)
        ended = run(plan(document), tmp_path)
        (cell,) = ended.matrix.statistics.values()
        assert cell.exit_status_counts[status] == 1, cell.reasons


@pytest.mark.slow
def test_a_slot_that_does_not_become_free_is_no_failure_of_the_cell(tmp_path: Path, home: Path):
    own = Home(home).ensure()
    (home / "settings.yaml").write_text("slot_wait_seconds: 1\n")
    assert Ledger(own.database).acquire_slot("local", "a-run-of-somebody-else", capacity=1, lease_seconds=600)
    ended = run(plan(recipe({}, workload="stage:test:local-fastapi-logistic-1cpu", trials=1)), tmp_path)
    (cell,) = ended.matrix.statistics.values()
    assert cell.exit_status_counts["infrastructure_failed"] == 1, cell.reasons
    (reason,) = cell.reasons
    assert "held by a-run-of-somebody-else; let it end and resume the run" in reason
    built = run(plan(recipe({}, workload="stage:build:local-fastapi-logistic-1cpu", trials=1)), tmp_path)
    assert built.matrix.statistics["c0"].passed == 1, "what deploys nothing asks for no slot"


def test_variables_of_a_cell_set_the_server_as_they_set_llama_cpps_own():
    workload = workload_named(f"benchmark:{LLAMACPP}", None, [])
    assert workload is not None
    variables = {"LLAMA_ARG_THREADS": "1", "LLAMA_ARG_N_PARALLEL": "4", "LLAMA_ARG_CACHE_TYPE_K": "q8_0", "X": "y"}
    configuration = varied(workload.configuration, variables)  # pyright: ignore[reportAttributeAccessIssue]
    kind = VariedKind(KINDS[configuration.deployment_config], variables)
    engine = kind.context(configuration)["engine"]
    assert (engine["threads"], engine["slots"], engine["kv_cache_type"]) == (1, 4, "q8_0")
    assert kind.environment(model=Path("m"), configuration=configuration)["X"] == "y"
