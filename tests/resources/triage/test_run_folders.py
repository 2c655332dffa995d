"""The folder of a run: claimed once, and nothing leads outside."""

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlcc_dagster.core.exceptions import UsageError
from resources.triage.run_folders import RunFolder, place_problems

MOMENT = datetime(2026, 6, 9, 14, 30, 22, tzinfo=UTC)


def claim(output: Path, ticket: str | None = "T-1", workload: str = "w") -> RunFolder:
    return RunFolder.claim(output, ticket=ticket, workload=workload, now=MOMENT)


def test_a_run_lies_below_its_ticket_and_its_workload(tmp_path: Path):
    assert claim(tmp_path).path == tmp_path / "T-1" / "w" / "2026-06-09T14-30-22"
    assert claim(tmp_path, None).path == tmp_path / "_no_ticket_" / "w" / "2026-06-09T14-30-22"


def test_runs_of_one_second_all_get_a_folder_of_their_own(tmp_path: Path):
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: claim(tmp_path).path, range(24)))
    assert len(set(folders)) == 24
    assert all(folder.is_dir() for folder in folders)
    assert {folder.name for folder in folders} >= {
        "2026-06-09T14-30-22",
        "2026-06-09T14-30-22-2",
        "2026-06-09T14-30-22-24",
    }


@given(st.one_of(st.text(min_size=1, max_size=30), st.sampled_from(["../../x", "..", "/etc", "a/../../../b", "\0"])))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_no_ticket_or_workload_leads_out_of_the_output_folder(tmp_path: Path, name: str):
    output = tmp_path / "out" / "inner"
    for folder in (claim(output, name), claim(output, "T", name)):
        assert folder.path.resolve().is_relative_to(output.resolve())
        assert len(folder.path.relative_to(output).parts) == 3
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["inner"]


@pytest.mark.parametrize("part", ["T-1", "T-1/w"])
def test_a_link_in_the_way_is_refused_and_nothing_is_made_behind_it(tmp_path: Path, part: str):
    outside = tmp_path / "outside"
    outside.mkdir()
    link = tmp_path / "out" / part
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    assert "is a link" in place_problems(tmp_path / "out", ticket="T-1", workload="w")[0]
    with pytest.raises(UsageError, match="is a link or no folder"):
        claim(tmp_path / "out")
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("planted", ["cells", "cells/a", "environments", "sidecars"])
def test_a_link_inside_the_folder_is_written_through_by_nothing(tmp_path: Path, planted: str):
    outside = tmp_path / "outside"
    outside.mkdir()
    folder = claim(tmp_path / "out")
    (folder.path / planted).parent.mkdir(exist_ok=True)
    (folder.path / planted).symlink_to(outside)
    place = (*planted.split("/"), *(["a"] if planted == "cells" else []), "x.json")
    with pytest.raises(UsageError, match="is a link or no folder"):
        folder.write(*place, content=b"x")
    with pytest.raises(UsageError, match="is a link or no folder"):
        folder.read(*place)
    assert list(outside.iterdir()) == []


def test_a_link_in_place_of_a_file_is_replaced_and_not_followed(tmp_path: Path):
    outside = tmp_path / "outside.json"
    outside.write_text("mine")
    folder = claim(tmp_path / "out")
    (folder.path / "matrix.json").symlink_to(outside)
    with pytest.raises(UsageError, match="is a link"):
        folder.read("matrix.json")
    folder.write("matrix.json", content=b"new")
    assert outside.read_text() == "mine"
    assert folder.read("matrix.json") == b"new"


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = claim(tmp_path)
    folder.write("cells", "a", "trial_0.json", content=b"old")

    def broken(descriptor: int) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="the disk is full"):
        folder.write("cells", "a", "trial_0.json", content=b"new")
    monkeypatch.undo()
    assert folder.read("cells", "a", "trial_0.json") == b"old"
    assert folder.trial_numbers("a") == [0]
    folder.write("cells", "a", "trial_0.json", content=b"newer")
    assert folder.read("cells", "a", "trial_0.json") == b"newer"


def test_trials_are_listed_in_natural_order(tmp_path: Path):
    folder = claim(tmp_path)
    for number in (10, 2, 0, 11, 1):
        folder.write_trial("a", number, {})
    (folder.path / "cells" / "a" / "trial_2.log").write_text("")
    assert folder.trial_numbers("a") == [0, 1, 2, 10, 11]
    assert folder.trial_numbers("b") == []


def test_two_processes_never_work_in_one_folder(tmp_path: Path):
    folder = claim(tmp_path)
    with folder.alone(), pytest.raises(UsageError, match="another process works on"), RunFolder(folder.path).alone():
        raise AssertionError("both hold it")
    with folder.alone():
        pass


@pytest.mark.parametrize("there", ["file", "read-only"])
def test_a_place_that_cannot_hold_a_run_is_told_without_touching_it(tmp_path: Path, there: str, monkeypatch):
    place = tmp_path / "out"
    if there == "file":
        place.write_text("x")
        told = "is no folder"
    else:
        place.mkdir()
        monkeypatch.setattr(os, "access", lambda path, mode: False)
        told = "cannot be written to"
    assert told in place_problems(place, ticket=None, workload="w")[0]
    assert place_problems(tmp_path / "new", ticket=None, workload="w") == (
        [] if there == "file" else [f"{tmp_path} {told}; name another --output-dir"]
    )
    assert not (tmp_path / "new").exists()
