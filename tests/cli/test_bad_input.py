"""Bad input: one clear sentence that says what to do next, exit 2, no traceback, and nothing made or half written."""

import shutil
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_calls import Call, files_below

import catalog
from catalog.loader import FILES

SHIPPED = Path(catalog.__file__).parent


@pytest.fixture
def taken_port() -> Iterator[str]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield str(listening.getsockname()[1])


@pytest.mark.parametrize(
    ("words", "said", "next_step", "reason"),
    [
        ("run", "nothing was named to run", "use --tier NAME or --config ID", "neither of both"),
        ("run --tier local --config x", "both given", "use one of them", "both"),
        ("run --tier nope", "no tier 'nope'", "use one of ci, nightly, weekly, local", "unknown tier"),
        ("run --tier=", "no tier ''", "use one of ci, nightly, weekly, local", "empty tier"),
        ("run --config=", "--config is empty", "`mlcc catalog list` shows both", "an empty prefix names everything"),
        ("run --config zzzz", "no configuration 'zzzz'", "`mlcc catalog list`", "nothing near"),
        (
            "run --config local-fastapi-forest-1cup",
            "no configuration 'local-fastapi-forest-1cup'",
            "did you mean local-fastapi-forest-1cpu",
            "a slip of the finger",
        ),
        ("run --config local-fast", "names", "add characters until one is left", "ambiguous prefix"),
        ("run --tier local --executor nope", "unknown executor 'nope'", "use one of local", "unknown executor"),
        ("run --tier local --executor=", "unknown executor ''", "use one of local", "empty is not the default"),
        ("run --tier ci", "can run with this executor", "run it with executor", "no entry of the tier runs here"),
        ("gaps --universe nope", "no universe 'nope'", "use catalog or observed", "unknown universe"),
        ("gaps --limit -1", "--limit cannot be -1", "use 0 for all", "negative limit"),
        ("gaps --executor nope", "unknown executor 'nope'", "use one of local", "unknown executor"),
        ("coverage --executor nope", "unknown executor 'nope'", "use one of local", "unknown executor"),
        ("coverage --by nope,model_family", "'nope,model_family'", "use two of deployment_config", "no dimension"),
        ("coverage --by model_family", "'model_family'", "use two of deployment_config", "one dimension"),
        ("coverage --by model_family,model_family", "two different", "use two of", "the same dimension twice"),
        ("coverage --by a,b,c", "'a,b,c'", "use two of deployment_config", "three dimensions"),
        ("catalog list --tier nope", "no tier 'nope'", "use one of ci", "unknown tier"),
        ("catalog list --executor nope", "unknown executor 'nope'", "use one of local", "unknown executor"),
        ("catalog validate no/such/folder", "no folder no/such/folder", "name one", "missing catalog folder"),
        ("ledger --history -1", "--history cannot be -1", "use 0 for none", "negative history"),
        ("ui --port 0", "0 is not a port", "choose one from 1 to 65535", "port 0 is any port"),
        ("ui --port 65536", "65536 is not a port", "choose one from 1 to 65535", "beyond the last port"),
        ("ui --host no.such.host.invalid", "cannot listen on", "choose another with --port or --host", "unknown host"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused_before_anything_is_made(
    words: str, said: str, next_step: str, reason: str, mlcc: Call, tmp_path: Path
):
    answer = mlcc(*words.split())
    assert (answer.code, answer.out) == (2, ""), reason
    assert answer.err.count("\n") == 1, "one sentence, no traceback"
    assert answer.err.startswith("mlcc: ")
    assert said in answer.err
    assert next_step in answer.err.partition(said)[2]
    assert files_below(tmp_path) == {}
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("", "write one SELECT"),
        ("SELEC 1", "correct the statement and try again"),
        ("SELECT (1", "correct the statement and try again"),
        ("SELECT 1; SELECT 2", "send them one by one"),
        ("COPY (SELECT 1) TO 'stolen.csv'", "COPY is not allowed"),
        ("DROP TABLE mlcc_ci.benchmark_results", "results are read-only"),
        ("SELECT * FROM elsewhere", "there is mlcc_ci.benchmark_results"),
        ("SELECT * FROM read_csv('/etc/passwd')", "reads the tables of mlcc_ci and nothing else"),
    ],
)
def test_a_statement_that_is_no_select_over_the_table_is_refused_before_a_home_is_made(
    query: str, said: str, mlcc: Call, tmp_path: Path
):
    answer = mlcc("sql", query)
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert answer.err.count("\n") == 1
    assert files_below(tmp_path) == {}
    assert not (tmp_path / "home").exists()


def test_an_unknown_column_is_named_with_the_near_ones_and_the_results_stay_as_they_are(mlcc: Call, proven_home: Path):
    before = files_below(proven_home / "results")
    answer = mlcc("sql", "SELECT modelname FROM mlcc_ci.benchmark_results")
    assert (answer.code, answer.out) == (2, "")
    assert "unknown column modelname" in answer.err
    assert "model_name" in answer.err
    assert files_below(proven_home / "results") == before


def test_an_unknown_format_names_the_known_ones(mlcc: Call, home: Path):
    answer = mlcc("sql", "SELECT 1", "--format", "xml")
    assert (answer.code, answer.err) == (2, "mlcc: no format 'xml'; use table, csv, json or parquet\n")
    assert not home.exists()


def test_a_taken_port_is_said_before_anything_is_started(mlcc: Call, home: Path, taken_port: str):
    answer = mlcc("ui", "--port", taken_port)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == (
        f"mlcc: cannot listen on 127.0.0.1:{taken_port} (Address already in use); choose another with --port or --host\n"
    )
    assert not home.exists()


# ---- the catalog


@pytest.fixture
def own_catalog(tmp_path: Path) -> Path:
    """A copy of the shipped catalog with five mistakes of five kinds in five files."""
    folder = tmp_path / "own"
    folder.mkdir()
    for name in FILES:
        shutil.copy(SHIPPED / name, folder / name)

    def spoil(name: str, old: str, new: str) -> None:
        text = (folder / name).read_text("utf-8")
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1), "utf-8")

    spoil("local_path.yaml", "tier: local", "tier: locl")
    spoil("instances.yaml", "instance_type: ml.g5.xlarge", "instanse_type: ml.g5.xlarge")
    spoil("tiers.yaml", "cost_ceiling_usd: 10", "cost_ceiling_usd: lots")
    (folder / "costs.yaml").write_text("tuning_usd: [", "utf-8")
    (folder / "servers.yaml").unlink()
    return folder


FIVE = ("local_path.yaml", "instances.yaml", "tiers.yaml", "costs.yaml", "servers.yaml")


def test_all_five_mistakes_of_a_catalog_are_reported_at_once(mlcc: Call, own_catalog: Path):
    answer = mlcc("catalog", "validate", str(own_catalog))
    assert (answer.code, answer.out) == (2, "")
    lines = answer.err.splitlines()
    assert lines[0].startswith("mlcc: the catalog has ")
    assert lines[0].endswith("correct them and try again:")
    for name in FIVE:
        assert any(line.startswith(f"  - {name}: ") for line in lines[1:]), name
    assert "Traceback" not in answer.err


def test_the_same_mistakes_are_one_json_document(mlcc: Call, own_catalog: Path):
    answer = mlcc("catalog", "validate", str(own_catalog), "--json")
    assert (answer.code, answer.err) == (2, "")
    assert answer.document["valid"] is False
    assert answer.document["counts"] is None
    assert {problem.partition(":")[0] for problem in answer.document["problems"]} >= set(FIVE)


# ---- the home

READERS = ("gaps", "coverage", "ledger", "plan", "budget")


@pytest.mark.parametrize("command", [*READERS, "init", "reap", "run --tier local", "ui"])
@pytest.mark.parametrize("below", [False, True], ids=["a file in its place", "a path below a file"])
def test_a_home_that_cannot_be_made_is_one_sentence_and_nothing_is_made(
    command: str, below: bool, mlcc: Call, home: Path, monkeypatch: pytest.MonkeyPatch
):
    home.write_text("not a folder", "utf-8")
    place = home / "deeper" if below else home
    monkeypatch.setenv("MLCC_HOME", str(place))
    words = command.split()
    if command == "ui":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            words += ["--port", str(free.getsockname()[1])]
    answer = mlcc(*words)
    assert (answer.code, answer.out) == (2, "")
    assert f"cannot use {place} as the home" in answer.err
    assert answer.err.endswith("set MLCC_HOME to a folder you can write to\n")
    assert answer.err.count("\n") == 1
    assert home.read_text("utf-8") == "not a folder"


def test_every_mistake_of_the_settings_is_reported_and_the_home_is_left_as_it_was(mlcc: Call, home: Path):
    home.mkdir()
    (home / "settings.yaml").write_text("slots: many\nlease_seconds: -1\nexecuter: local\n", "utf-8")
    answer = mlcc("gaps")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.splitlines()[0] == (f"mlcc: {home / 'settings.yaml'} has 3 mistakes; correct them and try again:")
    assert [line.split(":")[0].removeprefix("  - ") for line in answer.err.splitlines()[1:]] == [
        "slots",
        "lease_seconds",
        "executer",
    ]
    assert list(files_below(home)) == ["settings.yaml"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("slots: [", "not readable as YAML"),
        ("- slots", "must be a mapping"),
        ("executor: nope", "unknown executor 'nope' of settings.yaml or MLCC_EXECUTOR; use one of"),
    ],
)
def test_settings_of_another_form_are_one_mistake(text: str, said: str, mlcc: Call, home: Path):
    home.mkdir()
    (home / "settings.yaml").write_text(text, "utf-8")
    answer = mlcc("coverage")
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert list(files_below(home)) == ["settings.yaml"]


def test_settings_that_are_no_text_are_one_sentence(mlcc: Call, home: Path):
    home.mkdir()
    (home / "settings.yaml").write_bytes("executor: caf\u00e9".encode("latin-1"))
    answer = mlcc("gaps")
    assert (answer.code, answer.out) == (2, "")
    assert "is not UTF-8 text (byte 13); save it as UTF-8" in answer.err


def test_a_folder_in_the_place_of_the_settings_is_one_sentence(mlcc: Call, home: Path):
    (home / "settings.yaml").mkdir(parents=True)
    answer = mlcc("gaps")
    assert (answer.code, answer.out) == (2, "")
    assert "must be a file of settings" in answer.err


def test_an_unknown_executor_makes_no_home(mlcc: Call, home: Path):
    answer = mlcc("path-prove", "--executor", "nope")
    assert (answer.code, answer.out) == (2, "")
    assert "unknown executor 'nope'; use one of" in answer.err
    assert not home.exists()


@pytest.mark.parametrize("command", [*READERS, "run --tier local --dry-run", "sql SELECT+1"])
def test_a_newer_database_is_refused_and_left_as_it_is(command: str, mlcc: Call, home: Path):
    home.mkdir()
    with sqlite3.connect(home / "state.sqlite") as connection:
        connection.execute("CREATE TABLE later (x)")
        connection.execute("PRAGMA user_version = 999")
    before = (home / "state.sqlite").read_bytes()
    answer = mlcc(*(word.replace("+", " ") for word in command.split()))
    assert (answer.code, answer.out) == (2, "")
    assert "was written by a newer version (schema 999" in answer.err
    assert answer.err.endswith("update mlcc-dagster or set MLCC_HOME to another folder\n")
    assert (home / "state.sqlite").read_bytes() == before


def test_a_database_that_is_none_is_one_sentence(mlcc: Call, home: Path):
    home.mkdir()
    (home / "state.sqlite").write_bytes(b"this is no database, it only has its name" * 50)
    answer = mlcc("gaps")
    assert (answer.code, answer.out) == (2, "")
    assert "cannot use" in answer.err
    assert "repair it or set MLCC_HOME elsewhere" in answer.err
