"""The summary that `mlcc run` leaves: in the home, where `--save-local` says, and refused before anything runs."""

import json
from pathlib import Path

import pytest
from command_calls import Call

from catalog.loader import load_catalog
from mlcc_dagster.cli.rounds import Forecast, Report, Target
from mlcc_dagster.cli.run_commands import keep_summary
from mlcc_dagster.core.identity import config_id
from mlcc_dagster.core.resolution import configuration_of
from resources.platform import Platform

CATALOG = load_catalog()
NAME = "local-fastapi-logistic-1cpu"
CONFIGURATION = configuration_of(next(entry for entry in CATALOG.entries if entry.id == NAME), CATALOG)
TARGET = Target(config_id(CONFIGURATION), NAME, CONFIGURATION)
FORECAST = Forecast({TARGET.config_id: 3.0}, {TARGET.config_id: 0.25}, {}, "about 3 s", (TARGET,))


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_folder_that_cannot_be_one_is_refused_before_a_home_is_made(
    place: str, mlcc: Call, home: Path, tmp_path: Path
):
    (tmp_path / "file").write_text("x")
    answer = mlcc("run", "--tier", "local", "--dry-run", "--save-local", str(tmp_path / place))
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.endswith("is a file; name a folder\n")
    assert not home.exists()


def test_a_dry_run_writes_no_summary(mlcc: Call, home: Path, tmp_path: Path):
    assert mlcc("run", "--tier", "local", "--dry-run", "--save-local", str(tmp_path / "made")).code == 0
    assert not (tmp_path / "made").exists()
    assert not (home / "summaries").exists()


@pytest.mark.parametrize(
    ("tier", "asked", "places"),
    [
        (True, False, ["home"]),
        (True, True, ["home", "asked"]),
        (False, True, ["asked"]),
        (False, False, []),
    ],
    ids=["a tier's is kept", "and copied", "one configuration's only where asked", "else there is none"],
)
def test_a_summary_lies_where_it_should_with_what_was_estimated(
    tier: bool, asked: bool, places: list[str], home: Path, tmp_path: Path
):
    platform = Platform.open(executor="local")
    scope = "local" if tier else f"config:{TARGET.config_id}"
    opened = platform.rounds.join(scope, [TARGET.config_id], open_seconds=60)
    folder = tmp_path / "asked"
    written = keep_summary(
        platform, scope, Report(platform, opened, [TARGET]), FORECAST, kept=tier, save_local=folder if asked else None
    )
    folders = {"home": platform.home.root / "summaries", "asked": folder}
    assert [path.parent for path in written if path.suffix == ".json"] == [folders[place] for place in places]
    for path in written:
        if path.suffix == ".json":
            told = json.loads(path.read_text("utf-8"))
            assert (told["round"], told["estimated_usd"], told["finished"]) == (opened.id, 0.25, False)
            assert [row["verdict"] for row in told["configurations"]] == ["not finished"]


def test_a_full_disk_is_one_warning_and_takes_nothing_back(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    platform = Platform.open(executor="local")
    opened = platform.rounds.join("local", [TARGET.config_id], open_seconds=60)
    (tmp_path / "asked").write_text("a file in its place, put there meanwhile")
    report = Report(platform, opened, [TARGET])
    written = keep_summary(platform, "local", report, FORECAST, kept=True, save_local=tmp_path / "asked")
    assert [path.parent.name for path in written] == ["summaries", "summaries"]
    assert capsys.readouterr().err.startswith(f"warning: the summary could not be written to {tmp_path / 'asked'} (")


@pytest.mark.slow
def test_a_real_tier_run_leaves_the_same_summary_in_both_places(mlcc_process: Call, home: Path, tmp_path: Path):
    folder = tmp_path / "artifacts"
    answer = mlcc_process("run", "--tier", "weekly", "--executor", "replay", "--save-local", str(folder))
    assert answer.code in (0, 1), answer.err
    kept = home / "replay" / "summaries"
    (document,) = folder.glob("*.json")
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }
    told = json.loads(document.read_text("utf-8"))
    assert told["finished"]
    assert told["counts"]["total"] == 4
    assert told["counts"]["passed"] + told["counts"]["failed"] == 4
    assert told["estimated_usd"] > 0
    assert told["actual_usd"] > 0
    assert told["release_gate"] is None, "this tier releases nothing"
    for path in (*folder.iterdir(), *kept.iterdir()):
        assert f"summary: {path}" in answer.err
    report = mlcc_process("ci", "report", "--executor", "replay", "--json")
    assert report.document["summary"]["passing"] == told["counts"]["passed"]
    assert report.code == (1 if told["counts"]["failed"] else 0)
