"""`mlcc logs`: the run that is meant, its logs in order, and one JSON document however long they are."""

import json
import os
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from command_calls import Call

sys.path.insert(0, str(Path(__file__).parents[1] / "resources"))

from ci_histories import Histories

from mlcc_dagster.cli.log_commands import since_asked
from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.stages import Stage

ROOT = Path(__file__).parents[2]
FOREST = "local-fastapi-forest-1cpu"
NOW = datetime(2026, 6, 9, 12, tzinfo=UTC)


@pytest.fixture
def histories(home: Path) -> Histories:
    home.mkdir()
    return Histories(home / "state.sqlite")


def write(home: Path, run_id: str, stage: str, text: str | bytes) -> Path:
    path = home / "logs" / run_id / f"{stage}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.fixture
def two_runs(home: Path, histories: Histories) -> tuple[str, str]:
    """Two runs of one configuration, each with the logs of two stages."""
    runs = (histories.run(FOREST, "."), histories.run(FOREST, "F"))
    for run in runs:
        write(home, run, "test", f"tested {run}\n")
        write(home, run, "build", f"built {run}\nsecond line\n")
    return runs


@pytest.mark.parametrize("form", ["name", "beginning of the name", "config_id", "beginning of the config_id"])
def test_a_configuration_in_any_form_stands_for_its_newest_run(
    form: str, mlcc: Call, two_runs: tuple[str, str], histories: Histories
):
    key = histories.key(FOREST)
    what = {"name": FOREST, "beginning of the name": FOREST[:-3], "config_id": key}.get(form, key[:8])
    answer = mlcc("logs", what)
    assert (answer.code, answer.err) == (0, "")
    newest = two_runs[1]
    assert answer.out.splitlines() == [
        f"==> {newest} build <==",
        f"built {newest}",
        "second line",
        f"==> {newest} test <==",
        f"tested {newest}",
    ]


def test_a_run_id_and_a_stage_choose_what_is_shown(mlcc: Call, two_runs: tuple[str, str]):
    older = two_runs[0]
    assert mlcc("logs", older, "--stage", "deploy_test").out == f"==> {older} test <==\ntested {older}\n"


def test_the_json_is_the_documented_one(mlcc: Call, two_runs: tuple[str, str], home: Path):
    document = mlcc("logs", two_runs[0], "--stage", "build", "--json").document
    page = (ROOT / "docs" / "commands.md").read_text("utf-8").partition("## `mlcc logs`\n")[2]
    block = json.loads(re.findall(r"```json\n(.*?)```", page, re.S)[0])
    (run,), (wanted,) = document["runs"], block["runs"]
    assert list(run) == list(wanted)
    (log,) = run["logs"]
    assert list(log) == list(wanted["logs"][0])
    assert log["lines"] == [f"built {two_runs[0]}", "second line"]
    assert (log["bytes"], log["path"]) == (
        Path(log["path"]).stat().st_size,
        str(home / f"logs/{two_runs[0]}/build.log"),
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'"quotes" \\ and \t tabs\n',
        b"\xff\xfe\n",
        "gr\u00fcn \U0001f600\n".encode(),
        b"\x1b[31mred\x1b[0m\r\n",
        b"\n\n",
    ],
    ids=["empty", "quotes", "no text", "beyond ASCII", "colours", "empty lines"],
)
def test_whatever_a_log_holds_the_json_is_one_document(content: bytes, mlcc: Call, histories: Histories, home: Path):
    run = histories.run(FOREST, ".")
    write(home, run, "build", content)
    write(home, run, "test", content)
    first, second = mlcc("logs", run, "--json").document["runs"][0]["logs"]
    assert first["lines"] == second["lines"]
    assert first["lines"] == [line.rstrip("\r") for line in content.decode(errors="backslashreplace").split("\n")[:-1]]
    assert mlcc("logs", run).code == 0


# ---- since


@pytest.mark.parametrize(
    ("text", "ago"),
    [("90s", 90), ("10m", 600), ("2h", 7200), ("3d", 259_200), ("1w", 604_800), (" 5m ", 300)],
)
def test_a_span_counts_back_from_now(text: str, ago: int):
    assert since_asked(text, NOW) == NOW - timedelta(seconds=ago)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-06-01", "2026-06-01T00:00:00+00:00"),
        ("2026-06-01T10:00", "2026-06-01T10:00:00+00:00"),
        ("2026-06-01T10:00:00Z", "2026-06-01T10:00:00+00:00"),
        ("2026-06-01T10:00:00+02:00", "2026-06-01T10:00:00+02:00"),
    ],
)
def test_a_time_is_utc_unless_it_says_otherwise(text: str, moment: str):
    assert since_asked(text, NOW) == datetime.fromisoformat(moment)


@pytest.mark.parametrize("text", ["yesterday", "10", "-5m", "5 minutes", "", "999999999w", "2026-13-01"])
def test_what_is_neither_is_refused(text: str):
    with pytest.raises(UsageError, match="--since takes a span"):
        since_asked(text, NOW)


def test_since_shows_all_runs_with_a_stage_that_ended_since_then_oldest_first(
    mlcc: Call, histories: Histories, home: Path
):
    runs = []
    for moment in ("2026-06-01T10:00:00Z", "2026-06-02T10:00:00Z", "2026-06-03T10:00:00Z"):
        claim = histories.claim(FOREST)
        histories.note(claim, Stage.BUILD, {}, at=moment)
        histories.finish(claim, "pass")
        write(home, claim.run_id, "build", "built\n")
        runs.append(claim.run_id)
    told = mlcc("logs", FOREST, "--since", "2026-06-02", "--json").document["runs"]
    assert [run["run_id"] for run in told] == runs[1:], "files that were copied today ended long ago all the same"
    answer = mlcc("logs", FOREST, "--since", "2026-06-04")
    assert (answer.code, answer.out) == (0, "")
    assert answer.err.startswith("warning: nothing was logged since 2026-06-04; ")
    assert mlcc("logs", FOREST, "--since", "2026-06-04", "--json").document == {"runs": []}


def test_a_stage_that_nobody_noted_ended_when_its_file_last_changed(mlcc: Call, histories: Histories, home: Path):
    run = histories.claim(FOREST).run_id  # it runs now
    old = write(home, run, "build", "built\n")
    os.utime(old, (1_700_000_000, 1_700_000_000))
    write(home, run, "deploy", "waiting\n")
    assert mlcc("logs", FOREST, "--since", "1h").out == f"==> {run} deploy <==\nwaiting\n"


# ---- what cannot be shown


def test_what_is_not_there_exits_2_with_a_sentence_that_says_what_is(
    mlcc: Call, two_runs: tuple[str, str], histories: Histories
):
    key = histories.key(FOREST)
    flask = histories.register("local-flask-forest-1cpu")
    for words, sentence in {
        ("nobody",): "no configuration 'nobody'",
        ("",): "neither a configuration nor a run was named",
        (f"{key}-g9",): f"no run '{key}-g9' is known here",
        ("local-flask-forest-1cpu",): f"({flask}) never ran here; `mlcc run --config {flask}` runs it",
        (FOREST, "--stage", "tune"): f"{two_runs[1]} has no log of stage tune; it has build, test",
        (FOREST, "--stage", "party"): "unknown stage 'party'",
        (FOREST, "--since", "soon"): "--since takes a span",
        ("../../etc/passwd",): "no configuration '../../etc/passwd'",
    }.items():
        answer = mlcc("logs", *words)
        assert (answer.code, answer.out) == (2, ""), words
        assert sentence in answer.err, words


def test_without_a_home_there_are_no_logs_and_none_is_made(mlcc: Call, home: Path):
    answer = mlcc("logs", FOREST)
    assert answer.code == 2
    assert f"there is no home {home} yet" in answer.err
    assert not home.exists()


def test_a_run_that_kept_no_log_says_why_it_ended(mlcc: Call, histories: Histories):
    run = histories.run(FOREST, "F", error_message="preflight refutes it")
    answer = mlcc("logs", FOREST)
    assert (answer.code, answer.out) == (0, "")
    assert answer.err == f"warning: {run} kept no log: preflight refutes it\n"
    assert mlcc("logs", FOREST, "--json").document["runs"][0]["logs"] == []
