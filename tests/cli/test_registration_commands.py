"""`mlcc register`, `mlcc ci set` and `mlcc ci import`, as a person uses them."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from command_calls import Call, files_below

from catalog.loader import load_catalog
from mlcc_dagster.core.identity import config_id, legacy_config_id
from mlcc_dagster.core.outcome import BenchmarkPlan, Owner
from mlcc_dagster.core.resolution import configuration_of
from resources.ci_table import CiRecord
from resources.local.executor import KINDS
from resources.local.projects import write_project
from resources.sqlite_ci_table import SqliteCiTable

CATALOG = load_catalog()
GOLDEN = configuration_of(CATALOG.entry("rt-qwen3-4b"), CATALOG)
GOLDEN_ID = "9586bf351b64c95f"
FOREST = CATALOG.entry("local-flask-forest-1cpu")


def table(home: Path) -> SqliteCiTable:
    return SqliteCiTable(home / "state.sqlite")


def record(home: Path, key: str = GOLDEN_ID) -> CiRecord:
    found = table(home).record(key)
    assert found is not None
    return found


def hold(home: Path, lease_seconds: float = 3600.0) -> None:
    """Let another process run the golden configuration."""
    table(home).claim(
        GOLDEN_ID,
        configuration=GOLDEN,
        round="x",
        owner=Owner("laptop", 97, 7, "boot", "dagster-run"),
        lease_seconds=lease_seconds,
        run_type="ci",
        benchmark=BenchmarkPlan(False, "multi_turn_chat", (1,)),
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A generated project in the working folder."""
    folder = tmp_path / "elsewhere" / "my-project"
    write_project(folder, KINDS[FOREST.deployment_config], configuration_of(FOREST, CATALOG))
    return folder


# ---- register


def test_an_entry_is_registered_with_what_it_declares(mlcc: Call, home: Path):
    answer = mlcc("register", "rt-qwen3-4b")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith("1 configuration registered, none refused")
    made = record(home)
    assert (made.test_status, made.tier, made.e2e_catalog_id) == ("untested", "ci", "rt-qwen3-4b")
    assert made.benchmark == BenchmarkPlan(True, "multi_turn_chat", (1, 4, 8))


@pytest.mark.parametrize("name", ["rt-qwen3-4b", GOLDEN_ID, "9586bf", "rt-qwen3-4", legacy_config_id(GOLDEN)])
def test_a_configuration_has_several_names(mlcc: Call, home: Path, name: str):
    document = mlcc("register", name, "--json").document
    assert document["ci_table"] == "mlcc-ci-table"
    (row,) = document["configurations"]
    assert (row["config_id"], row["name"], row["registered"]) == (GOLDEN_ID, "rt-qwen3-4b", True)
    assert record(home).tier == "ci"


def test_registering_again_asks_for_a_new_test_and_keeps_what_was_set_and_what_is_known(mlcc: Call, home: Path):
    mlcc("register", "rt-qwen3-4b", "--no-benchmark-enabled", "--workload", "rag_document_qa")
    mlcc("ci", "import", str(export(home.parent, item(testStatus="pass", lastTestTimestamp="2025-01-01T00:00:00Z"))))
    (row,) = mlcc("register", "rt-qwen3-4b", "--json").document["configurations"]
    assert row["previous_status"] == "pass"
    once = record(home)
    assert (once.test_status, once.previous_test_status) == ("untested", "pass")
    assert once.last_test_timestamp == "2025-01-01T00:00:00.000000Z"
    assert once.benchmark == BenchmarkPlan(False, "rag_document_qa", (1, 4, 8))
    mlcc("register", "rt-qwen3-4b")
    assert record(home) == once, "twice is once"
    mlcc("register", "rt-qwen3-4b", "--benchmark-enabled")
    assert record(home).benchmark.enabled


def test_the_whole_catalog_is_registered_at_once_and_again(mlcc: Call, home: Path):
    for _ in range(2):
        document = mlcc("register", "--all", "--json").document
        assert [row["name"] for row in document["configurations"]] == [entry.id for entry in CATALOG.entries]
        assert document["refused"] == 0
        assert {r.e2e_catalog_id for r in table(home).records()} == {entry.id for entry in CATALOG.entries}


def test_what_runs_now_is_refused_with_the_reason_and_the_others_are_registered(mlcc: Call, home: Path):
    mlcc("register", "rt-qwen3-4b")
    hold(home)
    before = record(home)
    answer = mlcc("register", "rt-qwen3-4b")
    assert answer.code == 1
    assert "cannot be registered anew now (running: 9586bf351b64c95f-g1 of laptop:97" in answer.out
    assert record(home) == before
    document = mlcc("register", "--all", "--json")
    assert (document.code, document.document["refused"]) == (1, 1)
    assert len(table(home).records()) == len(CATALOG.entries)


@pytest.mark.parametrize(
    "words", [["my-project"], ["./my-project"], []], ids=["by name", "by path", "where one stands"]
)
def test_a_generated_project_is_registered_by_its_folder(
    mlcc: Call, home: Path, project: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
):
    if not words:
        monkeypatch.chdir(project)
    (row,) = mlcc("register", *words, "--benchmark-enabled", "--json").document["configurations"]
    assert row["name"] == FOREST.id, "the entry that declares the same"
    made = record(home, row["config_id"])
    assert made.configuration == configuration_of(FOREST, CATALOG)
    assert (made.project_name, made.tier) == ("http-flask-random-forest-digits-local-1cpu", "local")


def test_a_project_that_no_entry_declares_is_registered_with_defaults(mlcc: Call, home: Path, project: Path):
    declaration = json.loads((project / "config.json").read_text("utf-8"))
    declaration["configuration"]["serving_params"] = {"workers": "3"}
    (project / "config.json").write_text(json.dumps(declaration), "utf-8")
    (row,) = mlcc("register", "my-project", "--json").document["configurations"]
    made = record(home, row["config_id"])
    assert made.benchmark == BenchmarkPlan(False, "local_predict", (1, 4, 8))
    assert (made.tier, made.e2e_catalog_id) == (None, None)


def test_a_name_that_is_both_an_entry_and_a_folder_is_not_guessed(mlcc: Call, home: Path, project: Path):
    project.rename(project.parent / FOREST.id)
    answer = mlcc("register", FOREST.id)
    assert (answer.code, answer.out) == (2, "")
    assert f"write ./{FOREST.id} for the folder" in answer.err
    assert mlcc("register", f"./{FOREST.id}").code == 0


def test_the_name_of_the_ci_table_is_that_of_the_home(mlcc: Call, home: Path):
    assert mlcc("register", "rt-qwen3-4b", "--ci-table", "mlcc-ci-table").code == 0


@pytest.mark.parametrize(
    ("words", "said", "reason"),
    [
        ("register", "nothing was named to register", "no project here"),
        ("register --all rt-qwen3-4b", "were both given; use one of them", "both"),
        ("register rt-qwen3-", "add characters until one is left", "ambiguous"),
        ("register rt-qwen3-4c", "did you mean rt-qwen3-4b", "unknown"),
        ("register ./nothing", "there is no folder nothing", "no folder"),
        ("register .", "holds no generated project", "no project"),
        (
            "register rt-qwen3-4b --ci-table mine",
            "a home has one, mlcc-ci-table; leave --ci-table out",
            "another table",
        ),
        ("register rt-qwen3-4b --workload chat", "rt-qwen3-4b: --workload 'chat' is not known", "unknown workload"),
        ("register rt-qwen3-4b --workload=", "rt-qwen3-4b: --workload '' is not known", "empty is not the default"),
        ("register rt-qwen3-4b --workload local_predict", "is for a predictor", "another kind"),
        ("ci set rt-qwen3-4b tier=ci", "is not registered; `mlcc register rt-qwen3-4b` does that", "not registered"),
        ("ci set nope tier=ci", "no configuration 'nope'", "unknown"),
        ("ci import nothing.json", "cannot read nothing.json (No such file or directory)", "no file"),
        ("ci import .", ". is a folder; name an export of the CI table", "a folder"),
    ],
)
def test_a_request_that_cannot_be_met_makes_nothing(mlcc: Call, home: Path, words: str, said: str, reason: str):
    answer = mlcc(*words.split())
    assert (answer.code, answer.out) == (2, ""), reason
    assert said in answer.err, reason
    assert files_below(home.parent) == {}
    assert not home.exists()


# ---- ci set


def test_a_registered_configuration_is_changed_and_its_status_stays(mlcc: Call, home: Path):
    mlcc("register", "rt-qwen3-4b", "--no-benchmark-enabled")
    mlcc("ci", "import", str(export(home.parent, item(testStatus="pass", lastTestTimestamp="2025-01-01T00:00:00Z"))))
    answer = mlcc("ci", "set", "rt-qwen3-4b", "benchmarkEnabled=true", "benchmarkConcurrencyLevels=1,2")
    assert answer.out.splitlines() == [
        "rt-qwen3-4b: benchmarkEnabled false before, true now",
        "rt-qwen3-4b: benchmarkConcurrencyLevels 1,4,8 before, 1,2 now",
    ]
    assert (record(home).test_status, record(home).benchmark.concurrency_levels) == ("pass", (1, 2))
    document = mlcc("ci", "set", "9586", "tier=weekly", "--json").document
    assert document["changed"] == {"tier": {"before": "ci", "after": "weekly"}}
    assert document["settings"]["benchmarkEnabled"] is True
    assert mlcc("ci", "set", "9586", "tier=weekly").out == "rt-qwen3-4b: nothing changed\n"


def test_all_mistakes_of_a_change_are_reported_at_once_and_nothing_changes(mlcc: Call, home: Path):
    mlcc("register", "rt-qwen3-4b")
    before = record(home)
    answer = mlcc("ci", "set", "rt-qwen3-4b", "tier=weekly", "benchmarkEnabled=1", "buildstrategy=x")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("mlcc: the request has 2 mistakes")
    assert "buildstrategy: cannot be set; did you mean 'buildStrategy'?" in answer.err
    assert record(home) == before


def test_a_change_is_refused_while_the_configuration_runs(mlcc: Call, home: Path):
    mlcc("register", "rt-qwen3-4b")
    hold(home)
    answer = mlcc("ci", "set", "rt-qwen3-4b", "tier=weekly")
    assert (answer.code, answer.out) == (1, "")
    assert "cannot be changed now (running: 9586bf351b64c95f-g1 of laptop:97" in answer.err


# ---- ci import


def item(stored: str = GOLDEN_ID, target: str = "realtime-inference", **attributes: str) -> dict[str, Any]:
    config = {
        "deploymentConfig": "transformers-vllm",
        "modelName": "Qwen/Qwen3-4B",
        "instanceType": "ml.g5.xlarge",
        "awsRegion": "us-west-2",
        "deploymentTarget": target,
    }
    values = {"configId": stored, "configJson": json.dumps(config), **attributes}
    return {name: {"S": value} for name, value in values.items()}


def export(folder: Path, *items: dict[str, Any], lines: bool = False, packed: bool = False) -> Path:
    text = "\n".join(json.dumps({"Item": each}) for each in items) if lines else json.dumps({"Items": items})
    path = folder / "export.json"
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    return path


@pytest.mark.parametrize("lines", [False, True], ids=["a scan", "lines"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
def test_records_of_another_table_are_taken_in_once(mlcc: Call, home: Path, tmp_path: Path, lines: bool, packed: bool):
    stored = legacy_config_id(GOLDEN)
    assert stored is not None
    old = item(stored, "managed-inference", testStatus="fail-teardown", lastTestTimestamp="2025-01-01T00:00:00Z")
    path = export(tmp_path, old, lines=lines, packed=packed)
    document = mlcc("ci", "import", str(path), "--json").document
    assert {name: document[name] for name in ("imported", "updated", "unchanged", "kept")} == {
        "imported": 1,
        "updated": 0,
        "unchanged": 0,
        "kept": 0,
    }
    (row,) = document["records"]
    assert (row["config_id"], row["stored_id"]) == (GOLDEN_ID, stored)
    assert record(home).test_status == "fail-teardown"
    answer = mlcc("ci", "import", str(path))
    assert answer.out.startswith("1 record: 0 imported, 0 updated, 1 unchanged, 0 kept")
    assert f"was stored as {stored}" in answer.out


def test_a_newer_record_here_is_kept_and_the_line_says_so(mlcc: Call, home: Path, tmp_path: Path):
    mlcc("ci", "import", str(export(tmp_path, item(testStatus="pass", lastTestTimestamp="2025-02-01T00:00:00Z"))))
    old = item(testStatus="fail-build", lastTestTimestamp="2025-01-01T00:00:00Z")
    answer = mlcc("ci", "import", str(export(tmp_path, old)))
    assert answer.code == 0
    assert "kept" in answer.out.splitlines()[-1]
    assert "the record here is newer, tested 2025-02-01T00:00:00.000000Z" in answer.out.splitlines()[-1]
    assert record(home).test_status == "pass"


def test_an_export_with_mistakes_is_refused_whole(mlcc: Call, home: Path, tmp_path: Path):
    bad = [item(testStatus="passed"), item(), item("0123456789abcdef")]
    answer = mlcc("ci", "import", str(export(tmp_path, *bad)))
    assert (answer.code, answer.out) == (2, "")
    assert "export.json has 2 mistakes" in answer.err
    assert "Items[0].testStatus: 'passed' is not known" in answer.err
    assert "Items[2].configId: '0123456789abcdef' is no id" in answer.err
    assert not home.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"\xff\xff", "is no UTF-8 text (byte 0)"), (b"\x1f\x8b\x08broken", "cannot read"), (b"", "is empty")],
)
def test_a_file_that_is_no_export_is_said_to_be_none(mlcc: Call, home: Path, tmp_path: Path, content: bytes, said: str):
    (tmp_path / "x").write_bytes(content)
    answer = mlcc("ci", "import", str(tmp_path / "x"))
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert not home.exists()


def test_an_old_id_of_what_was_imported_names_it(mlcc: Call, home: Path, tmp_path: Path):
    mlcc("ci", "import", str(export(tmp_path, item())))
    stored = legacy_config_id(GOLDEN)
    assert stored is not None
    assert mlcc("ci", "set", stored, "benchmarkEnabled=true").code == 0
    assert record(home, config_id(GOLDEN)).benchmark.enabled
