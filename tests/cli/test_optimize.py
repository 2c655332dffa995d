"""`mlcc optimize` and `mlcc benchmark`: what is refused, searches on the real graph, how they go on."""

import json
import re
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from command_calls import Answer, Call

sys.path.insert(0, str(Path(__file__).parents[1] / "assets"))

from scripted_runs import Scripted, fails

from mlcc_dagster.core.stages import Stage
from resources import platform as platforms
from resources.executor import StageRequest
from resources.home import Home
from resources.ledger import Ledger
from resources.result_store import ResultStore
from resources.sqlite_ci_table import SqliteCiTable

NAME = "local-llamacpp-smollm2-q4-1-2cpu"
COMMANDS = (Path(__file__).parents[2] / "docs" / "commands.md").read_text("utf-8")


def documented(command: str) -> Any:
    """The JSON document that the command's page shows."""
    section = COMMANDS.partition(f"\n## `mlcc {command}`\n")[2]
    found = re.search(r"```json\n(.*?)```", section, re.S)
    assert found is not None
    return json.loads(found[1])


class Measured(Scripted):
    """Measures what a test says: `latency_ms` gives the latency of a run."""

    latency_ms: Callable[[StageRequest], float]

    def _measure(self, request: StageRequest, level: int) -> str:
        path = request.raw / f"c{level}" / "profile_export.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        latency = self.latency_ms(request)
        record = {
            "metadata": {"request_start_ns": 0, "request_end_ns": int(latency * 1e6)},
            "metrics": {"request_latency": {"value": latency, "unit": "ms"}},
        }
        path.write_text(json.dumps(record) + "\n")
        return str(path.relative_to(self.home.root))


LATENCY_MS = {"f16": 100.0, "q8_0": 80.0, "q4_0": 25.0}


def cache_of(request: StageRequest) -> str:
    return request.configuration.serving_params.get("kv_cache_type", "f16")


def by_cache(request: StageRequest) -> float:
    """The latency of a cache type, 1 % more or less from run to run."""
    return LATENCY_MS[cache_of(request)] * (1 + 0.01 * (int(request.run_id[-1]) % 3 - 1))


@dataclass
class Bench:
    """A home whose runs do what a test says, and the command line over it."""

    mlcc: Call
    home: Home
    scripts: dict[Stage, Callable[[StageRequest], None]] = field(default_factory=dict)
    latency_ms: Callable[[StageRequest], float] = by_cache

    def optimize(self, *words: str) -> Answer:
        asked = ("--metric", "latency", "--parameters", "kv_cache_dtype", "--pairs", "3")
        return self.mlcc("optimize", NAME, *asked, *words)

    @property
    def rows(self) -> list[dict[str, Any]]:
        return ResultStore(self.home.results, SqliteCiTable(self.home.database).fenced_out).snapshot().rows()


@pytest.fixture
def bench(mlcc: Call, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench(mlcc, Home(home))

    def scripted(name: str, home: Home) -> Scripted:
        executor = Measured(home, made.scripts)
        executor.latency_ms = lambda request: made.latency_ms(request)
        return executor

    from mlcc_dagster.cli.dagster_runs import DagsterRuns

    monkeypatch.setattr(platforms, "open_executor", scripted)
    # coverage and gaps are other tests' matter, and refreshing them takes longer than a run
    monkeypatch.setattr(DagsterRuns, "refresh", lambda self: None)
    yield made


# ---- what is refused


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param("optimize no-such", "no configuration 'no-such'", id="an unknown configuration"),
        pytest.param("optimize rt-qwen3-4b", "needs a GPU instance", id="what cannot run here"),
        pytest.param(f"optimize {NAME} --metric speed", "no metric 'speed'", id="an unknown metric"),
        pytest.param(f"optimize {NAME} --parameters slot", "no parameter 'slot'", id="an unknown parameter"),
        pytest.param(f"optimize {NAME} --parameters ,", "--parameters is empty", id="no parameter"),
        pytest.param(f"optimize {NAME} --workload local_predict", "is for a predictor", id="a predictor's workload"),
        pytest.param(f"optimize {NAME} --concurrency 0", "no concurrency level 0", id="nobody at a time"),
        pytest.param("optimize local-fastapi-forest-1cpu", "can be searched; add one", id="nothing to search"),
        pytest.param(
            f"optimize {NAME} --max-trials 0 --max-cost 0 --max-minutes nan --pairs 2 --seed -1",
            "the request has 5 mistakes",
            id="all bounds at once",
        ),
        pytest.param(f"benchmark {NAME} --workload local_predict", "is for a predictor", id="benchmark: other kind"),
        pytest.param(f"benchmark {NAME} --workload local_chat --concurrency x", "such as 1,4", id="benchmark: levels"),
        pytest.param("benchmark rt-qwen3-4b --workload sample", "nothing was started", id="benchmark: not here"),
    ],
)
def test_what_cannot_be_met_is_one_sentence_and_touches_no_home(mlcc: Call, home: Path, words: str, said: str) -> None:
    answer = mlcc(*words.split())
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert not home.exists()


def test_a_dry_run_shows_the_space_with_what_is_left_out_and_starts_nothing(mlcc: Call, home: Path) -> None:
    answer = mlcc("optimize", NAME, "--dry-run", "--json")
    assert answer.code == 0
    document = answer.document
    assert document["started"] is False
    dimensions = {each["name"]: each for each in document["dimensions"]}
    assert dimensions["slots"] == {"name": "slots", "sets": "slots", "values": [1, 2, 3, 4, 6, 8], "present": 2}
    assert {each["name"] for each in document["left_out"]} == {"tensor_parallelism", "threads"}
    assert (document["known_settings"], document["concurrency"]) == (0, 2)
    assert document["run_most_usd"] > document["run_usd"] > 0
    assert SqliteCiTable(Home(home).database).attempts() == ()
    assert "nothing was started" in mlcc("optimize", NAME, "--dry-run").out.splitlines()[0]


# ---- searching


@pytest.mark.slow
def test_a_search_finds_what_is_better_compares_it_in_turns_and_goes_on_from_its_rows(bench: Bench) -> None:
    answer = bench.optimize("--max-trials", "5", "--json")
    assert answer.code == 0, answer.err
    document = answer.document
    assert set(document) == set(documented("optimize"))
    assert set(document["trials"][0]) == set(documented("optimize")["trials"][0])
    assert (document["verdict"], document["ended_by"]) == ("better", "all_settings_tried")
    assert document["best"]["changed"] == {"kv_cache_dtype": "q4_0"}
    low, high = document["comparison"]["interval_pct"]
    assert low <= 75.0 <= high, "it takes a quarter of the time"
    assert high - low < 10.0
    phases = [trial["phase"] for trial in document["trials"]]
    assert phases == ["present", "search", "search", *["compare"] * 6]
    turns = [trial["setting"]["kv_cache_dtype"] for trial in document["trials"][3:]]
    assert turns == ["f16", "q4_0", "q4_0", "f16", "f16", "q4_0"]
    # every trial is a row of its own, paid from the search's budget
    assert {row["run_type"] for row in bench.rows} == {"optimization"}
    assert sorted(row["run_id"] for row in bench.rows) == sorted(trial["run_id"] for trial in document["trials"])
    totals = Ledger(bench.home.database).totals(document["search"])
    assert (totals.runs, totals.committed_usd) == (9, pytest.approx(totals.spent_usd))
    assert document["spent_usd"] == pytest.approx(sum(trial["cost_usd"] for trial in document["trials"]), abs=1e-5)
    # the same again: everything is known, and better is told by new pairs alone
    again = bench.optimize("--max-trials", "5", "--json").document
    assert (again["known_settings"], again["verdict"]) == (3, "better")
    assert [trial["phase"] for trial in again["trials"]] == ["compare"] * 6


@pytest.mark.slow
def test_settings_that_fail_are_results_and_are_not_tried_again(bench: Bench) -> None:
    def the_present_alone(request: StageRequest) -> None:
        if cache_of(request) != "f16":
            fails("MemoryError: Cannot allocate memory")(request)

    bench.scripts[Stage.DEPLOY] = the_present_alone
    answer = bench.optimize("--json")
    assert answer.code == 0, answer.err
    document = answer.document
    assert (document["verdict"], document["failed_settings"]) == ("no_better", 2)
    assert document["comparison"] is None
    failed = [trial for trial in document["trials"] if trial["value"] is None]
    assert len(failed) == 2
    assert all("Cannot allocate memory" in trial["reason"] for trial in failed)
    told = bench.optimize()
    assert "no better setting was found" in told.out
    assert [row["status"] for row in bench.rows].count("unfeasible") == 2, "what is unfeasible is not tried again"


@pytest.mark.slow
def test_what_is_as_good_is_not_called_better(bench: Bench) -> None:
    lucky = iter([100.0, 90.0, 100.0, 101.0, 99.0, 100.0, 101.0, 99.0])
    bench.latency_ms = lambda request: next(lucky)
    document = bench.optimize("--max-trials", "1", "--json").document
    assert document["verdict"] == "no_better"
    low, high = document["comparison"]["interval_pct"]
    assert low < 0 < high
    assert document["best"] is not None


def test_a_present_setting_that_fails_ends_the_search(bench: Bench) -> None:
    bench.scripts[Stage.TEST] = fails("AssertionError: no answer")
    answer = bench.optimize("--json")
    assert answer.code == 1
    document = answer.document
    assert (document["verdict"], document["ended_by"]) == ("not_compared", "present_setting_failed")
    assert [trial["phase"] for trial in document["trials"]] == ["present"]


@pytest.mark.slow
def test_money_that_does_not_suffice_for_the_comparison_is_not_spent_on_settings(bench: Bench) -> None:
    most = bench.mlcc("optimize", NAME, "--dry-run", "--json").document["run_most_usd"]
    answer = bench.optimize("--max-cost", f"{most + 1e-6:.7f}", "--json")
    document = answer.document
    assert (document["ended_by"], document["verdict"]) == ("max_cost", "not_compared")
    assert [trial["phase"] for trial in document["trials"]] == ["present"]
    assert document["spent_usd"] <= most


@pytest.mark.slow
def test_ctrl_c_ends_in_order_and_the_same_command_goes_on(bench: Bench) -> None:
    benchmarks = []

    def interrupted(request: StageRequest) -> None:
        benchmarks.append(request.run_id)
        if len(benchmarks) == 3:
            signal.raise_signal(signal.SIGINT)

    bench.scripts[Stage.BENCHMARK] = interrupted
    answer = bench.optimize("--json")
    assert answer.code == 130
    document = answer.document
    assert (document["interrupted"], document["ended_by"]) == (True, "interrupted")
    measured = [trial["run_id"] for trial in document["trials"] if trial["value"] is not None]
    assert len(measured) == 2
    ledger = Ledger(bench.home.database)
    assert (ledger.alive(), ledger.slots(), ledger.living()) == ([], [], [])
    again = bench.optimize("--max-trials", "9", "--json").document
    assert again["known_settings"] == 2
    assert [trial["phase"] for trial in again["trials"]].count("search") == 1, "three settings, two known"


# ---- one measurement


@pytest.mark.slow
def test_a_benchmark_measures_the_named_load_and_leaves_the_record_as_it_is(bench: Bench) -> None:
    answer = bench.mlcc("benchmark", NAME, "--workload", "sample", "--concurrency", "4,2", "--json")
    assert answer.code == 0, answer.err
    document = answer.document
    assert set(document) == set(documented("benchmark"))
    assert set(document["levels"][0]) == set(documented("benchmark")["levels"][0])
    assert (document["workload"], [level["concurrency"] for level in document["levels"]]) == ("sample", [2, 4])
    assert {(row["run_type"], row["workload"], row["concurrency"]) for row in bench.rows} == {
        ("manual", "sample", 2),
        ("manual", "sample", 4),
    }
    record = SqliteCiTable(bench.home.database).record(document["config_id"])
    assert record is not None
    assert record.benchmark.workload == "local_chat"


def test_a_benchmark_that_fails_says_why_and_exits_1(bench: Bench) -> None:
    bench.scripts[Stage.BENCHMARK] = fails("ConnectionError: Connection refused")
    answer = bench.mlcc("benchmark", NAME, "--workload", "local_chat")
    assert answer.code == 1
    assert "benchmark failed" in answer.out


def test_a_benchmark_that_is_not_asked_to_start_says_what_it_would_take(bench: Bench) -> None:
    document = bench.mlcc("benchmark", NAME, "--workload", "sample", "--dry-run", "--json").document
    assert (document["started"], document["concurrency_levels"]) == (False, [2])
    assert document["estimated_seconds"] > 0
    assert bench.rows == []


# ---- the executors


@pytest.mark.slow
def test_a_search_is_played_from_end_to_end(mlcc_process: Call, home: Path) -> None:
    answer = mlcc_process(
        *("optimize", "rt-qwen3-4b", "--executor", "replay", "--parameters", "quantization"),
        *("--max-trials", "2", "--pairs", "3", "--json"),
    )
    assert (answer.code, answer.err) == (0, "")
    document = answer.document
    assert document["verdict"] == "better", "fewer bits are faster in the model of outcomes"
    assert document["executor"] == "replay"
    played = Home(home).replay()
    rows = ResultStore(played.results, SqliteCiTable(played.database).fenced_out).snapshot().rows()
    assert len({row["run_id"] for row in rows}) == len(document["trials"])
    assert {row["run_type"] for row in rows} == {"optimization"}


@pytest.mark.slow
def test_a_search_is_run_for_real_on_the_embedded_model(mlcc_process: Call, home: Path) -> None:
    answer = mlcc_process(
        *("optimize", NAME, "--parameters", "slots", "--concurrency", "4"),
        *("--max-trials", "1", "--pairs", "3", "--max-minutes", "1", "--json"),
    )
    assert answer.err == ""
    assert answer.code in (0, 1), "on a machine that others keep busy, the time may not suffice for three pairs"
    document = answer.document
    measured = [trial for trial in document["trials"] if trial["value"] is not None]
    assert len(measured) >= 1
    assert all(trial["value"] > 0 for trial in measured)
    rows = ResultStore(home / "results", SqliteCiTable(Home(home).database).fenced_out).snapshot().rows()
    assert {row["run_id"] for row in rows} == {trial["run_id"] for trial in document["trials"]}
    assert {(row["run_type"], row["concurrency"], row["execution"]) for row in rows} == {("optimization", 4, "process")}
    assert Ledger(Home(home).database).alive() == []
    assert list((home / "workspaces").iterdir()) == []
