"""`mlcc catalog import` and `mlcc catalog export`: entries that come from elsewhere, and go there."""

import json
from pathlib import Path
from typing import Any

import pytest
from command_calls import Call, files_below

from catalog.json_entries import read_json_entries
from catalog.loader import load_catalog

CATALOG = load_catalog()
GOLDEN = [entry for entry in CATALOG.entries if entry.tier != "local"]


def config(entry_id: str = "flask-east", region: str = "us-east-1", **changes: Any) -> dict[str, Any]:
    args = f"--deployment-config=http-flask --instance-type=ml.m5.large --region={region}"
    steps = ["build", "push", "deploy", "test", "clean"]
    made = {"id": entry_id, "tier": "ci", "track": "realtime", "args": args, "lifecycle": steps, "timeout": 600}
    return made | changes


def file_of(folder: Path, *configs: dict[str, Any]) -> Path:
    path = folder / "e2e.json"
    path.write_text(json.dumps({"configs": configs}), "utf-8")
    return path


def test_an_imported_entry_is_one_of_the_home_from_then_on(mlcc: Call, home: Path, tmp_path: Path):
    path = file_of(tmp_path, config(), config("flask-west", "us-west-1"))
    document = mlcc("catalog", "import", str(path), "--json").document
    assert document == {
        "file": str(path),
        "home": str(home),
        "added": ["flask-east", "flask-west"],
        "changed": [],
        "unchanged": [],
    }
    listed = mlcc("catalog", "list", "--tier", "ci", "--json").document["entries"]
    assert [entry["id"] for entry in listed[-2:]] == ["flask-east", "flask-west"]
    assert mlcc("register", "flask-east").code == 0
    before = files_below(home / "catalog")
    answer = mlcc("catalog", "import", str(path))
    assert answer.out.splitlines() == [
        "added no entries",
        "changed no entries",
        "unchanged 2 entries: flask-east, flask-west",
    ]
    assert files_below(home / "catalog") == before


def test_mistakes_are_all_reported_and_nothing_is_taken_in(mlcc: Call, home: Path, tmp_path: Path):
    path = file_of(tmp_path, config(), config(timeout=1), config("rt-qwen3-4b"), config("x", extra=1))
    answer = mlcc("catalog", "import", str(path))
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"mlcc: {path} has 3 mistakes")
    assert "configs[1].timeout: must be at least 60, not 1" in answer.err
    assert not home.exists()


def test_a_shipped_id_is_refused(mlcc: Call, home: Path, tmp_path: Path):
    answer = mlcc("catalog", "import", str(file_of(tmp_path, config("rt-qwen3-4b"))))
    assert (answer.code, answer.out) == (2, "")
    assert "configs[0].id: 'rt-qwen3-4b' is a shipped entry with another" in answer.err
    assert not home.exists()


def test_what_is_exported_is_imported_without_a_change(mlcc: Call, home: Path, tmp_path: Path):
    mlcc("catalog", "import", str(file_of(tmp_path, config())))
    path = tmp_path / "out.json"
    document = mlcc("catalog", "export", str(path), "--json").document
    assert document["written"] == [*(entry.id for entry in GOLDEN), "flask-east"]
    assert set(document["left_out"]) == {entry.id for entry in CATALOG.entries if entry.tier == "local"}
    assert mlcc("catalog", "import", str(path), "--json").document["unchanged"] == document["written"]


@pytest.mark.parametrize("tier", ["ci", "nightly", "weekly"])
def test_a_tier_is_printed_as_one_document_and_nothing_else(mlcc: Call, home: Path, tier: str):
    answer = mlcc("catalog", "export", "--tier", tier)
    assert (answer.code, answer.err) == (0, "")
    assert read_json_entries(answer.out, CATALOG) == CATALOG.tier_entries(tier)
    assert not home.exists()


def test_what_the_form_cannot_hold_is_named_with_the_reason(mlcc: Call, tmp_path: Path):
    answer = mlcc("catalog", "export", str(tmp_path / "out.json"))
    assert (answer.code, answer.out) == (0, f"{len(GOLDEN)} entries written to {tmp_path / 'out.json'}\n")
    assert answer.err.count("left out") == len(CATALOG.entries) - len(GOLDEN)
    nothing = mlcc("catalog", "export", str(tmp_path / "none.json"), "--tier", "local")
    assert (nothing.code, nothing.out) == (1, "")
    assert not (tmp_path / "none.json").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("catalog export --tier nope", "no tier 'nope'; use one of ci"),
        ("catalog export no/such/folder/x.json", "cannot write no/such/folder/x.json (No such file or directory)"),
        ("catalog import nothing.json", "cannot read nothing.json (No such file or directory)"),
        ("catalog import .", ". is a folder; name a catalog in the JSON form"),
    ],
)
def test_a_request_that_cannot_be_met_makes_nothing(mlcc: Call, home: Path, words: str, said: str):
    answer = mlcc(*words.split())
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert files_below(home.parent) == {}
