"""`mlcc ci report` and `mlcc ci status`: the table, the counts, the exit code, and the documented JSON."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_calls import Call

sys.path.insert(0, str(Path(__file__).parents[1] / "resources"))

from ci_histories import CATALOG, Histories

ROOT = Path(__file__).parents[2]
FOREST, TIGHT, FLASK = (
    "local-fastapi-forest-1cpu",
    "local-fastapi-forest-tight-memory",
    "local-flask-forest-1cpu",
)
OOM = {"failure_category": "oom", "run_status": "fail-deploy"}


@pytest.fixture
def histories(home: Path) -> Histories:
    home.mkdir()
    return Histories(home / "state.sqlite")


def documented(name: str) -> list[Any]:
    """The JSON blocks of a command's section."""
    page = (ROOT / "docs" / "commands.md").read_text("utf-8")
    section = page.partition(f"## `mlcc {name}`\n")[2].partition("\n## ")[0]
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", section, re.S)]


def shape(document: Any) -> Any:
    if isinstance(document, dict):
        return {key: shape(value) for key, value in document.items()}
    return [shape(document[0])] if isinstance(document, list) and document else None


def test_all_good_is_a_table_by_tier_with_the_summary_line_last_and_exits_0(mlcc: Call, histories: Histories):
    histories.run(FOREST, "..")
    histories.run("rt-qwen3-4b", ".")
    histories.register(FLASK)
    answer = mlcc("ci", "report")
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert lines[1].split("  ")[0] == "Tier"
    assert [re.split(r"\s{2,}", line)[:3] for line in lines[3:6]] == [
        ["ci", "rt-qwen3-4b", "pass"],
        ["local", FOREST, "pass"],
        ["local", FLASK, "untested"],
    ]
    assert lines[4].endswith("12.5 s  2/2 (34-100 %)")
    assert lines[-1] == "3 total | 2 passing | 0 failing | 1 untested | 66% coverage" or lines[-1].endswith(
        "67% coverage"
    )


def test_a_regression_is_marked_and_exits_1(mlcc: Call, histories: Histories):
    histories.run(FOREST, ".F")
    histories.run(FLASK, ".")
    answer = mlcc("ci", "report")
    assert answer.code == 1
    (line,) = [line for line in answer.out.splitlines() if FOREST in line]
    assert "fail-test ⚠️ REGRESSION" in line
    assert mlcc("ci", "report", "--by", "deployment-config").code == 1


def test_what_fails_as_its_entry_expects_exits_0_and_counts_as_failing(mlcc: Call, histories: Histories):
    histories.run(TIGHT, "F", **OOM)
    answer = mlcc("ci", "report")
    assert answer.code == 0
    assert "fail-test (as expected)" in answer.out
    assert answer.out.splitlines()[-1] == "1 total | 0 passing | 1 failing | 0 untested | 0% coverage"


def test_the_json_of_a_regression_is_the_documented_one(mlcc: Call, histories: Histories):
    histories.run(FOREST, "...F")
    document = mlcc("ci", "report", "--json").document
    (block,) = documented("ci report")
    found, wanted = document["configurations"].pop(FOREST), block["configurations"].popitem()[1]
    assert shape(found) == shape(wanted)
    assert found["confidence"] == wanted["confidence"]
    assert shape(document) == shape(block)


def test_by_deployment_config_the_fifteen_known_ones_are_listed_in_their_order(mlcc: Call, histories: Histories):
    histories.run(FOREST, ".")
    document = mlcc("ci", "report", "--by", "deployment-config", "--json").document
    names = list(document["configurations"])
    assert (len(names), names[0], names[-1]) == (15, "transformers-vllm", "diffusors-comfyui")
    assert set(document) == {"by", "summary", "configurations", "regressions", "untestedConfigs", "notes"}
    assert document["summary"] == {
        "total": 15,
        "tested": 1,
        "passing": 1,
        "failing": 0,
        "untested": 14,
        "coveragePercent": 6.7,
    }
    assert set(document["configurations"]["http-fastapi"]) >= {
        "status",
        "project",
        "lastTest",
        "duration",
        "recordCount",
    }
    assert document["untestedConfigs"] == [name for name in names if name != "http-fastapi"]
    lines = mlcc("ci", "report", "--by", "deployment-config").out.splitlines()
    assert lines[1].split() == ["Config", "Status", "Project", "Last", "Test", "Duration"]
    assert lines[-1] == "15 total | 1 tested | 1 passing | 0 failing | 14 untested | 6.7% coverage"


def test_the_status_is_the_documented_document_and_a_line_of_counts(mlcc: Call, histories: Histories):
    histories.run(TIGHT, "F", **OOM)
    histories.run(FOREST, ".")
    answer = mlcc("ci", "status", "--json")
    (block,) = documented("ci status")
    assert answer.code == 0, "a failing configuration is what `mlcc ci report` is asked for"
    assert shape(answer.document) == shape(block)
    lines = mlcc("ci", "status").out.splitlines()
    assert lines[0] == "2 total | 0 running | 1 passing | 1 failing | 0 untested"
    assert lines[1].startswith(f"last completed: {FOREST} pass at ")
    histories.claim(FLASK, lease_seconds=1)
    assert f"running with a lease that is over: {FLASK}; `mlcc reap`" in mlcc("ci", "status").out


@pytest.mark.parametrize("words", [("report",), ("report", "--by", "deployment-config"), ("status",)])
def test_a_home_that_is_not_there_is_empty_and_stays_away(words: tuple[str, ...], mlcc: Call, home: Path):
    answer = mlcc("ci", *words)
    assert answer.code == 0
    assert f"there is no home {home} yet" in answer.err
    assert json.loads(mlcc("ci", *words, "--json").out)
    assert not home.exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("report", "--by", "model"), "--by cannot be 'model'; use one of configuration, deployment-config"),
        (("report", "--executor", "moon"), "unknown executor 'moon'; use one of local, replay"),
        (("status", "--executor", "moon"), "unknown executor 'moon'; use one of local, replay"),
    ],
)
def test_an_unusable_request_exits_2_with_one_sentence(words: tuple[str, ...], sentence: str, mlcc: Call, home: Path):
    answer = mlcc("ci", *words)
    assert (answer.code, answer.out) == (2, "")
    assert sentence in answer.err
    assert not home.exists()


@pytest.mark.parametrize("words", [["ci", "report"], ["ci", "status"], ["logs", FOREST]])
def test_none_of_them_imports_dagster(words: list[str], histories: Histories):
    histories.run(FOREST, ".")
    program = (
        "import sys; from mlcc_dagster.cli import main\n"
        f"try: main({words!r})\n"
        "except SystemExit: pass\n"
        "heavy = {'dagster', 'duckdb', 'pyarrow', 'scipy', 'pandas'}\n"
        "sys.stderr.write('loaded:' + ','.join(sorted(heavy & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stderr.rpartition("loaded:")[2] == ""
    assert FOREST in done.stdout or "kept no log" in done.stderr or "1 passing" in done.stdout


def test_every_tier_of_the_catalog_has_a_place_in_the_report(mlcc: Call, histories: Histories):
    names = {tier: CATALOG.tier_entries(tier)[0].id for tier in CATALOG.tiers}
    for name in names.values():
        histories.run(name, ".")
    rows = mlcc("ci", "report", "--json").document["configurations"]
    assert [row["tier"] for row in rows.values()] == list(CATALOG.tiers)
