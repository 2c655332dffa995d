"""The artifacts of a tier run: what they say, that they are whole, and where they lie."""

import json
import os
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from ci_histories import CATALOG, Histories

from mlcc_dagster.core.exceptions import UsageError
from mlcc_dagster.core.tier_summary import SUMMARY_VERSION, SummaryRow, TierSummary
from resources.platform import Platform
from resources.tier_summaries import (
    check_folder,
    file_stem,
    keep_newest,
    newest_rounds,
    summaries_folder,
    summarize,
    write_summary,
)

FOREST, TIGHT, FLASK = (
    "local-fastapi-forest-1cpu",
    "local-fastapi-forest-tight-memory",
    "local-flask-forest-1cpu",
)
OOM = {
    "failure_category": "oom",
    "run_status": "fail-deploy",
    "error_message": "deploy failed (oom): 515 MB | limit 400",
}


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return Platform.open(tmp_path / "home", executor="local")


@pytest.fixture
def histories(platform: Platform) -> Histories:
    return Histories(platform.home.database)


def play(histories: Histories, platform: Platform, names: tuple[str, ...]) -> str:
    """Open a round of the local tier and let three of its configurations end: passed, failed as expected, failed."""
    round_id = platform.rounds.join("local", [histories.key(name) for name in names], open_seconds=3600).id
    histories.finish(histories.claim(FOREST, round=round_id), "pass")
    histories.finish(histories.claim(TIGHT, round=round_id), "fail-deploy", **OOM)
    histories.finish(histories.claim(FLASK, round=round_id), "fail-test", error_message="no answer")
    return round_id


def test_a_summary_tells_each_configuration_of_the_round_from_the_tables_alone(
    histories: Histories, platform: Platform
) -> None:
    histories.run(FLASK, ".")
    round_id = play(histories, platform, (FOREST, TIGHT, FLASK))
    summary = summarize(platform, round_id, scope="local", estimated_usd=2.0, estimated_seconds=60.0)
    assert summary.finished
    assert {row.name: row.verdict for row in summary.rows} == {
        FOREST: "passed",
        TIGHT: "fail-deploy (oom), as expected",
        FLASK: "fail-test, ⚠️ REGRESSION",
    }
    assert summary.counts == {"total": 3, "passed": 1, "failed": 2, "not_finished": 0, "not_as_expected": 1}
    assert (summary.actual_usd, summary.estimated_usd, summary.cost_ceiling_usd) == (1.5, 2.0, 1)
    assert summary.gate is None, "only the ci tier releases"
    assert str(summary.rows[2].confidence) == "1/2 (9-91 %)"


def test_what_is_not_finished_and_what_was_made_twice_is_told_as_such(histories: Histories, platform: Platform) -> None:
    names = (FOREST, TIGHT)
    round_id = platform.rounds.join("local", [histories.key(name) for name in names], open_seconds=3600).id
    cut_off = histories.claim(FOREST, round=round_id)
    assert histories.table.interrupt(cut_off.run_id, "power", cost_usd=0.25)
    waiting = summarize(platform, round_id, scope="local")
    assert {row.name: row.verdict for row in waiting.rows} == dict.fromkeys(names, "not finished")
    assert (waiting.finished, waiting.rows[0].reason) == (False, "power")
    histories.finish(histories.claim(FOREST, round=round_id), "pass")
    (again, _) = summarize(platform, round_id, scope="local").rows
    assert (again.verdict, again.cost_usd) == ("passed", 0.75), "the attempt that was cut off cost something too"


def test_a_round_that_nobody_opened_here_has_the_entries_that_run_here(
    histories: Histories, platform: Platform
) -> None:
    histories.finish(histories.claim(FOREST, round="local@20260601T050000Z"), "pass")
    summary = summarize(platform, "local@20260601T050000Z", scope="local")
    assert {row.name for row in summary.rows} == {entry.id for entry in CATALOG.tier_entries("local")}
    assert summary.counts["not_finished"] == len(summary.rows) - 1


def test_the_ci_tiers_summary_has_the_release_gate(histories: Histories, platform: Platform) -> None:
    names = [entry.id for entry in CATALOG.tier_entries("ci")]
    for name in names:
        histories.finish(histories.claim(name, round="ci@1"), "fail-deploy" if name == names[0] else "pass")
    summary = summarize(platform, "ci@1", scope="ci", members=[histories.key(name) for name in names])
    assert summary.gate is not None
    # the clock of these histories is not the machine's: nothing of it is recent
    assert not summary.gate.released
    assert (
        "## Release gate\n\nMust not be released: 0 of 11 models of tier ci pass, 10 are needed."
        in summary.to_markdown()
    )
    assert summary.to_json()["release_gate"]["needed"] == 10


def test_an_estimate_stays_that_of_the_first_command(histories: Histories, platform: Platform) -> None:
    round_id = play(histories, platform, (FOREST, TIGHT, FLASK))
    first = summarize(platform, round_id, scope="local", estimated_usd=2.0, estimated_seconds=60.0)
    write_summary(summaries_folder(platform.home), first)
    later = summarize(platform, round_id, scope="local", estimated_usd=9.0, estimated_seconds=1.0)
    assert (later.estimated_usd, later.estimated_seconds) == (2.0, 60.0)


# ---- files


def test_both_files_are_named_after_the_round_and_say_the_same(
    histories: Histories, platform: Platform, tmp_path: Path
) -> None:
    round_id = play(histories, platform, (FOREST, TIGHT, FLASK))
    summary = summarize(platform, round_id, scope="local")
    document, page = write_summary(tmp_path / "made" / "here", summary)
    assert {path.name for path in (tmp_path / "made" / "here").iterdir()} == {document.name, page.name}
    assert document.name == f"{round_id.replace('@', '-')}.json"
    told = json.loads(document.read_text("utf-8"))
    assert told == json.loads(json.dumps(summary.to_json()))
    assert (told["schema_version"], told["round"], told["finished"]) == (SUMMARY_VERSION, round_id, True)
    text = page.read_text("utf-8")
    assert text.startswith("# local: 1 of 3 passed\n")
    assert "3 total | 1 passed | 2 failed | 0 not finished | 1 not as expected" in text
    rows = [line for line in text.splitlines() if line.startswith("| local-")]
    assert [line.replace("\\|", "").count("|") for line in rows] == [7, 7, 7], "what a log said ends no cell"
    reasons = text.partition("## Not as expected\n\n")[2]
    assert reasons == f"- {FLASK}: no answer\n", "an expected failure needs no reason"
    assert document.stat().st_mode & 0o777 == page.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("round_id", "stem"),
    [
        ("ci@20261122T060000Z", "ci-20261122T060000Z"),
        ("ci@20261122T060000Z.2", "ci-20261122T060000Z.2"),
        ("config:68ce4c631fd38fb7@20261122T060000Z", "config-68ce4c631fd38fb7-20261122T060000Z"),
        ("../../etc/passwd", "..-..-etc-passwd"),
    ],
)
def test_a_rounds_files_have_names_that_lead_nowhere_else(round_id: str, stem: str) -> None:
    assert file_stem(round_id) == stem


MANY = TierSummary(
    "local",
    "local@1",
    "local",
    "2026-01-01T00:00:00Z",
    tuple(SummaryRow(f"{n:016x}", f"c{n}", "x" * 200) for n in range(200)),
)


def test_a_reader_never_sees_half_a_file_while_it_is_replaced(tmp_path: Path) -> None:
    path, _ = write_summary(tmp_path, MANY)
    done = threading.Event()

    def write() -> None:
        for turn in range(40):
            write_summary(tmp_path, replace(MANY, written_at=str(turn)))
        done.set()

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    reads = 0
    while not done.is_set() or not reads:
        assert len(json.loads(path.read_text("utf-8"))["configurations"]) == 200
        reads += 1
    for writer in writers:
        writer.join()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["local-1.json", "local-1.md"], "no partial file stays"


def test_a_write_that_fails_leaves_the_earlier_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = write_summary(tmp_path, MANY)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_summary(tmp_path, replace(MANY, written_at="later"))
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_that_cannot_hold_summaries_is_refused_before_anything_runs(tmp_path: Path) -> None:
    check_folder(tmp_path / "not" / "there" / "yet")
    assert list(tmp_path.iterdir()) == [], "asking makes nothing"
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError, match="is a file; name a folder"):
            check_folder(place)


# ---- rounds that schedules began


def test_the_newest_finished_round_of_each_tier_is_kept_once(histories: Histories, platform: Platform) -> None:
    assert keep_newest(platform) == ()
    play(histories, platform, (FOREST, TIGHT, FLASK))
    histories.finish(histories.claim("rt-qwen3-4b", round="ci@20260601T060000Z"), "pass")
    newest = newest_rounds(platform)
    assert set(newest) == {"local", "ci"}
    kept = keep_newest(platform)
    folder = summaries_folder(platform.home)
    assert kept == (folder / "ci-20260601T060000Z.md", folder / f"{file_stem(newest['local'])}.md")
    before = kept[1].read_text("utf-8")
    histories.run(FOREST, "F")
    assert keep_newest(platform) == kept
    assert kept[1].read_text("utf-8") == before, "it says what was, not what is"


def test_runs_of_single_configurations_and_unfinished_rounds_leave_no_summary(
    histories: Histories, platform: Platform
) -> None:
    histories.finish(histories.claim(FOREST, round="config:x@1"), "pass")
    assert newest_rounds(platform) == {}
    platform.rounds.join("local", [histories.key(FOREST), histories.key(TIGHT)], open_seconds=3600)
    round_id = platform.rounds.join("local", [histories.key(FOREST)], open_seconds=3600).id
    histories.finish(histories.claim(FOREST, round=round_id), "pass")
    assert newest_rounds(platform) == {"local": round_id}
    assert keep_newest(platform) == ()
    histories.finish(histories.claim(TIGHT, round=round_id), "fail-deploy", **OOM)
    assert len(keep_newest(platform)) == 1
