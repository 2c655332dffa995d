"""`mlcc gate` exits as the decision is, changes nothing it should not, and records where the candidate is registered."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_calls import Answer, Call, files_below

SET = "1702aa59fec75db3edad1d1a0bb8ceda"
URL = "https://example.com/decisions/1"


def items(**right_of: tuple[int, int]) -> list[dict[str, Any]]:
    return [
        {"id": f"{name}-{index}", "buckets": [name], "correct": index < right}
        for name, (right, n) in right_of.items()
        for index in range(n)
    ]


def evaluation(with_items: bool = True, **right_of: tuple[int, int]) -> dict[str, Any]:
    """Buckets with so many right answers of so many."""
    scores = {name: {"accuracy": right / n, "n": n} for name, (right, n) in right_of.items()}
    document = {"schema_version": 1, "eval_set_dvc_hash": SET, "buckets": scores}
    return document | ({"items": items(**right_of)} if with_items else {})


def baseline(**right_of: tuple[int, int]) -> dict[str, Any]:
    head = {"baseline_sha": "b" * 64, "previous_baseline_sha": None, "tolerance_pp": 0.02, "justification": URL}
    return evaluation(**right_of) | head


FIRST = ("--first", "--justification", URL, "--baseline", "none-yet.json")

Write = Callable[[str, Any], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(name: str, document: Any) -> Path:
        path = tmp_path / name
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return path

    return written


@pytest.fixture
def gate(mlcc: Call, write: Write) -> Callable[..., Answer]:
    """Judge a candidate against a baseline of 100 items in each of two buckets."""

    def judged(candidate: Any, *words: str, against: Any = None) -> Answer:
        before = baseline(tense=(90, 100), person=(80, 100)) if against is None else against
        paths = write("candidate.json", candidate), write("baseline.json", before)
        return mlcc("gate", "--candidate", str(paths[0]), "--baseline", str(paths[1]), *words)

    return judged


@pytest.mark.parametrize(
    ("candidate", "words", "code"),
    [
        pytest.param(evaluation(tense=(90, 100), person=(80, 100)), (), 0, id="the same"),
        pytest.param(evaluation(tense=(88, 100), person=(78, 100)), (), 0, id="exactly at the tolerance"),
        pytest.param(evaluation(tense=(99, 100), person=(77, 100)), (), 1, id="one bucket fell"),
        pytest.param(
            evaluation(tense=(90, 100), person=(80, 100)), ("--rule", "noninferiority"), 3, id="too few items to know"
        ),
        pytest.param(
            evaluation(tense=(90, 100), person=(30, 100)), ("--rule", "noninferiority"), 1, id="shown to be worse"
        ),
        pytest.param(evaluation(tense=(90, 100), person=(80, 99)), (), 1, id="n changed"),
        pytest.param('{"eval_set', (), 2, id="cut"),
        pytest.param(evaluation(tense=(90, 100), person=(80, 100)), ("--rule", "strict"), 2, id="an unknown rule"),
        pytest.param(evaluation(tense=(90, 100), person=(80, 100)), ("--rule", ""), 2, id="an empty rule"),
        pytest.param(evaluation(tense=(90, 100), person=(80, 100)), ("--tolerance", "2"), 2, id="percent for a share"),
    ],
)
def test_the_exit_code_is_the_decision(gate: Callable[..., Answer], candidate: Any, words: tuple[str, ...], code: int):
    assert gate(candidate, *words).code == code
    assert gate(candidate, *words, "--json").code == code


GOOD = evaluation(tense=(90, 100), person=(80, 100))


def changed(**changes: Any) -> dict[str, Any]:
    return evaluation(with_items=False, tense=(90, 100), person=(80, 100)) | changes


SCORES = GOOD["buckets"]


@pytest.mark.parametrize(
    ("candidate", "code", "words"),
    [
        pytest.param(changed(eval_set_dvc_hash="f" * 32), 1, "was evaluated on set", id="hash mismatch"),
        pytest.param(changed(buckets={"tense": SCORES["tense"]}), 1, "has no bucket person", id="missing bucket"),
        pytest.param(changed(buckets=SCORES | {"x": SCORES["tense"]}), 1, "has no bucket x", id="extra bucket"),
        pytest.param(changed(buckets=SCORES | {"tense": {"accuracy": 0.9, "n": 99}}), 1, "99 items", id="n changed"),
        pytest.param(changed(buckets=SCORES | {"tense": {"accuracy": float("nan"), "n": 100}}), 1, "nan", id="NaN"),
        pytest.param(changed(schema_version=7), 1, "schema_version is 7", id="wrong schema version"),
        pytest.param(json.dumps(GOOD)[:200], 2, "not readable as JSON", id="truncated file"),
        pytest.param(b"\xff\xfe\x00".decode("latin-1"), 2, "not readable as JSON", id="no JSON"),
    ],
)
def test_it_fails_closed_and_leaves_the_registry_as_it_was(
    gate: Callable[..., Answer], mlcc: Call, home: Path, tmp_path: Path, candidate: Any, code: int, words: str
):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "bundle.json").write_text("{}")
    digest = mlcc("registry", "register-pending", str(bundle), "--json").document["digest"]
    if isinstance(candidate, dict):
        candidate = candidate | {"candidate_sha": digest}
    before = files_below(home)
    answer = gate(candidate)
    assert answer.code == code
    assert words in answer.out + answer.err
    assert files_below(home) == before


def test_all_reasons_are_shown_at_once(gate: Callable[..., Answer]):
    answer = gate(
        changed(eval_set_dvc_hash="f" * 32, buckets={"tense": {"accuracy": 0.9, "n": 99}, "x": SCORES["tense"]})
    )
    reasons = [line for line in answer.out.splitlines() if line.startswith("- ")]
    assert len(reasons) == 4 and all(";" in reason for reason in reasons)


def test_a_decision_on_a_registered_candidate_is_recorded_with_the_baseline_it_was_made_against(
    gate: Callable[..., Answer], mlcc: Call, home: Path, tmp_path: Path
):
    from hashlib import sha256

    from resources.home import Home
    from resources.registry import open_registry

    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "bundle.json").write_text('{"quantization": "q4_0"}')
    digest = mlcc("registry", "register-pending", str(bundle), "--json").document["digest"]
    answer = gate(GOOD | {"candidate_sha": digest, "evaluated": {"cost_usd": 0.25}}, "--json")
    assert answer.code == 0
    line = open_registry(Home(home)).read().lines[-1]
    assert answer.document["recorded"] == {"line": line.sequence, "why_not": None}
    assert (line.kind, line.digest, line.body["verdict"]) == ("gate", digest, "promote")
    assert line.body["baseline_digest"] == sha256((tmp_path / "baseline.json").read_bytes()).hexdigest()
    assert line.body["evaluated"] == {"items": 200, "correct": 170, "cost_usd": 0.25}
    blocked = gate(evaluation(tense=(99, 100), person=(70, 100)) | {"candidate_sha": digest})
    assert blocked.code == 1 and "recorded in the model registry" in blocked.out
    assert open_registry(Home(home)).read().lines[-1].body["verdict"] == "blocked"


@pytest.mark.parametrize(
    ("sha", "words"),
    [(None, "names no digest"), ("c" * 64, "is not registered in dev")],
    ids=["of nothing known", "not registered"],
)
def test_what_is_not_registered_is_not_recorded_and_said_so(gate: Callable[..., Answer], home: Path, sha, words):
    answer = gate(GOOD | {"candidate_sha": sha})
    assert answer.code == 0 and words in answer.out
    assert not home.exists()


def test_in_production_a_decision_that_cannot_be_recorded_fails(
    gate: Callable[..., Answer], mlcc: Call, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "bundle.json").write_text("{}")
    monkeypatch.setenv("MLCC_ENV", "prod")
    digest = mlcc("registry", "register-pending", str(bundle), "--json").document["digest"]
    before = files_below(home)
    answer = gate(GOOD | {"candidate_sha": digest})
    assert answer.code == 1
    assert "NOT RECORDED" in answer.err
    assert files_below(home) == before


def test_the_evidence_has_the_documented_fields(gate: Callable[..., Answer]):
    page = (Path(__file__).parents[2] / "docs" / "commands.md").read_text("utf-8")
    section = page.split("## `mlcc gate`\n")[1].split("\n## ")[0]
    documented = json.loads(section.split("```json\n")[1].split("```")[0])
    printed = gate(GOOD, "--json").document
    assert list(printed) == list(documented)
    for rule, verdict in documented["rules"].items():
        (ours,) = {tuple(each) for each in printed["rules"][rule]["buckets"].values()}
        (theirs,) = (tuple(each) for each in verdict["buckets"].values())
        assert ours == theirs


def test_a_looser_tolerance_is_said_loudly_and_refused_in_production(
    gate: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
):
    worse = evaluation(tense=(90, 100), person=(76, 100))
    assert gate(worse).code == 1
    loose = gate(worse, "--tolerance", "0.05")
    assert loose.code == 0 and "LOOSENED" in loose.err
    assert gate(worse, "--tolerance", "0.05", "--json").document["tolerance"]["loosened"] is True
    assert gate(GOOD, "--tolerance", "0.001").code == 0
    monkeypatch.setenv("MLCC_ENV", "prod")
    refused = gate(worse, "--tolerance", "0.05")
    assert refused.code == 2 and "in production nobody may" in refused.err and refused.out == ""
    assert gate(worse, "--tolerance", "0.01").code == 1, "stricter may be asked for anywhere"


def test_a_misspelt_environment_is_refused(gate: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLCC_ENV", "Production")
    assert gate(GOOD).code == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("gate", "--json"), "--candidate is missing"),
        (("gate", "--candidate", "nowhere.json"), "cannot read nowhere.json"),
        (("gate", "--candidate", "."), "is a folder"),
        (("gate", "--tolerance", "0.1", "check-baseline", "--last", "x"), "must stand behind `check-baseline`"),
    ],
    ids=["no candidate", "no file", "a folder", "an option of the group before a command"],
)
def test_an_unusable_request_is_one_sentence(mlcc: Call, words: tuple[str, ...], said: str):
    answer = mlcc(*words)
    assert answer.code == 2 and said in answer.err and answer.out == ""


@pytest.mark.parametrize(("command", "words"), [("gate", "update-baseline"), ("evaluate", "make-set")])
def test_without_options_it_shows_its_page_and_lets_no_ci_pass(mlcc: Call, command: str, words: str):
    answer = mlcc(command)
    assert answer.code == 2 and words in answer.out


@pytest.mark.parametrize("command", [("gate",), ("gate", "benchmarks")], ids=" ".join)
def test_two_files_that_cannot_be_read_are_both_named(mlcc: Call, write: Write, command: tuple[str, ...]):
    answer = mlcc(*command, "--candidate", str(write("new.json", "{")), "--baseline", "nowhere.json")
    assert answer.code == 2 and answer.out == ""
    assert "new.json is not readable as JSON" in answer.err and "cannot read nowhere.json" in answer.err


def test_a_name_from_a_file_neither_commands_the_terminal_nor_makes_a_line_of_its_own(
    gate: Callable[..., Answer], mlcc: Call, write: Write
):
    answer = gate(changed(buckets=SCORES | {"x\x1b[31m\nall buckets pass\x00": SCORES["tense"]}))
    assert answer.code == 1
    assert not {"\x1b", "\x00"} & set(answer.out + answer.err)
    assert "all buckets pass" not in [line[: len("all buckets pass")] for line in answer.out.splitlines()]
    assert "x\\x1b[31m all buckets pass\\x00" in answer.out
    refused = mlcc(
        "gate", "update-baseline", "--from", str(write("spoilt.json", changed(buckets={"\x1b[31m": 3}))), *FIRST
    )
    assert refused.code == 2 and "buckets.\\x1b[31m must be" in refused.err


def test_the_table_has_as_many_digits_as_tell_a_verdict(gate: Callable[..., Answer]):
    before = evaluation(with_items=False, a=(9000, 10000)) | {
        name: value for name, value in baseline(a=(1, 1)).items() if name not in ("buckets", "items")
    }
    answer = gate(evaluation(with_items=False, a=(8796, 10000)), against=before)
    assert answer.code == 1
    assert "tolerated 2.00 pp" in answer.out and "-2.04 pp" in answer.out


# ---- baselines


def test_an_update_chains_to_the_last_baseline_and_keeps_its_tolerance(mlcc: Call, write: Write):
    path = write("eval_baseline.json", baseline(tense=(90, 100)) | {"tolerance_pp": 0.03})
    candidate = write("candidate.json", evaluation(tense=(85, 100)) | {"candidate_sha": "c" * 64})
    answer = mlcc(
        "gate", "update-baseline", "--from", str(candidate), "--justification", f"{URL}2", "--baseline", str(path)
    )
    assert answer.code == 0
    assert "tense is 5.0 pp lower" in answer.err
    document = json.loads(path.read_text())
    assert (document["baseline_sha"], document["previous_baseline_sha"]) == ("c" * 64, "b" * 64)
    assert (document["tolerance_pp"], document["justification"]) == (0.03, f"{URL}2")
    assert document["buckets"] == {"tense": {"accuracy": 0.85, "n": 100}}
    assert mlcc("gate", "--candidate", str(candidate), "--baseline", str(path)).code == 0


@pytest.mark.parametrize(
    ("candidate", "before", "words", "said"),
    [
        pytest.param({"candidate_sha": "c" * 64}, None, (), "nothing to chain to", id="no baseline"),
        pytest.param({"candidate_sha": "c" * 64}, {}, ("--first",), "leave --first out", id="--first over a baseline"),
        pytest.param({}, {}, (), "no candidate_sha", id="nobody knows what was evaluated"),
        pytest.param({"candidate_sha": "b" * 64}, {}, (), "nothing to update", id="the same again"),
        pytest.param(
            {"candidate_sha": "c" * 64, "buckets": {}}, {}, (), "at least one bucket", id="a broken evaluation"
        ),
        pytest.param(
            {"candidate_sha": "c" * 64}, {"baseline_sha": None}, (), "baseline_sha must be", id="a broken baseline"
        ),
        pytest.param(
            {"candidate_sha": "c" * 64}, {}, ("--tolerance", "7"), "--tolerance must be", id="a tolerance of 7"
        ),
        pytest.param(
            {"candidate_sha": "c" * 64}, {}, ("--justification", "because"), "must be a web address", id="no address"
        ),
    ],
)
def test_an_update_that_cannot_chain_is_refused_and_changes_nothing(
    mlcc: Call, write: Write, tmp_path: Path, candidate: dict, before: dict | None, words: tuple[str, ...], said: str
):
    path = tmp_path / "eval_baseline.json"
    if before is not None:
        write(path.name, baseline(tense=(90, 100)) | before)
    source = write("candidate.json", evaluation(tense=(85, 100)) | candidate)
    kept = files_below(tmp_path)
    answer = mlcc(
        "gate", "update-baseline", "--from", str(source), "--baseline", str(path), "--justification", URL, *words
    )
    assert answer.code == 2 and said in answer.err
    assert files_below(tmp_path) == kept


def test_a_baseline_that_is_a_link_stays_one(mlcc: Call, write: Write, tmp_path: Path):
    kept = write("kept.json", baseline(tense=(90, 100)))
    link = tmp_path / "eval_baseline.json"
    link.symlink_to(kept)
    candidate = write("candidate.json", evaluation(tense=(95, 100)) | {"candidate_sha": "c" * 64})
    words = ("--from", str(candidate), "--baseline", str(link), "--justification", f"{URL}2")
    assert mlcc("gate", "update-baseline", *words).code == 0
    assert link.is_symlink() and json.loads(kept.read_text())["baseline_sha"] == "c" * 64


def test_the_first_baseline_and_the_json_of_an_update(mlcc: Call, write: Write, tmp_path: Path):
    candidate = write("candidate.json", evaluation(tense=(85, 100)) | {"candidate_sha": "c" * 64})
    path = tmp_path / "new.json"
    words = ("--from", str(candidate), "--baseline", str(path), "--justification", URL)
    first = mlcc("gate", "update-baseline", *words, "--first", "--json").document
    assert (first["baseline_sha"], first["previous_baseline_sha"], first["tolerance_pp"]) == ("c" * 64, None, 0.02)
    assert (first["items"], first["fallen"], first["other_set"]) == (100, {}, False)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a committed baseline."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "eval_baseline.json").write_text(json.dumps(baseline(tense=(90, 100))))
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.com")
    for words in (("init", "-q"), ("add", "."), (*identity, "commit", "-qm", "baseline")):
        subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)
    return folder


def test_the_ci_check_follows_the_committed_baseline(mlcc: Call, write: Write, repository: Path):
    path = repository / "eval_baseline.json"
    unchanged = mlcc("gate", "check-baseline", "--baseline", str(path), "--ref", "HEAD")
    assert unchanged.code == 0
    candidate = write("candidate.json", evaluation(tense=(95, 100)) | {"candidate_sha": "c" * 64})
    update = ("gate", "update-baseline", "--from", str(candidate), "--baseline", str(path))
    assert mlcc(*update, "--justification", f"{URL}2").code == 0
    chained = mlcc("gate", "check-baseline", "--baseline", str(path), "--ref", "HEAD", "--json")
    assert chained.code == 0
    assert chained.document == {
        "chains": True,
        "baseline_sha": "c" * 64,
        "last_baseline_sha": "b" * 64,
        "faults": [],
    }
    again = write("candidate.json", evaluation(tense=(96, 100)) | {"candidate_sha": "d" * 64})
    assert (
        mlcc(
            "gate", "update-baseline", "--from", str(again), "--baseline", str(path), "--justification", f"{URL}3"
        ).code
        == 0
    )
    skipped = mlcc("gate", "check-baseline", "--baseline", str(path), "--ref", "HEAD")
    assert skipped.code == 1 and "the last baseline is of" in skipped.out


def test_the_ci_check_of_a_first_baseline_and_of_a_file(mlcc: Call, write: Write, repository: Path):
    new = repository / "another_baseline.json"
    new.write_text(json.dumps(baseline(tense=(90, 100))))
    assert mlcc("gate", "check-baseline", "--baseline", str(new), "--ref", "HEAD").code == 0
    last = write("last.json", baseline(tense=(90, 100)) | {"baseline_sha": "a" * 64})
    answer = mlcc("gate", "check-baseline", "--baseline", str(new), "--last", str(last), "--json")
    assert answer.code == 1 and len(answer.document["faults"]) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "with either --last FILE or --ref REF"),
        (("--last", "x.json", "--ref", "HEAD"), "with either --last FILE or --ref REF"),
        (("--ref", "no-such-commit"), "git knows no commit no-such-commit"),
        (("--ref", "--output=/tmp/x"), "is no name of a commit"),
        (("--last", "nowhere.json"), "cannot read nowhere.json"),
    ],
)
def test_a_check_against_nothing_is_refused(mlcc: Call, repository: Path, words: tuple[str, ...], said: str):
    answer = mlcc("gate", "check-baseline", "--baseline", str(repository / "eval_baseline.json"), *words)
    assert answer.code == 2 and said in answer.err


# ---- the study


def test_a_study_of_the_rules_is_reproducible(mlcc: Call):
    words = ("gate", "study", "--buckets", "2", "--items", "60", "--simulations", "50", "--tolerance", "0.1", "--json")
    first, second = mlcc(*words), mlcc(*words)
    assert first.code == 0 and first.document == second.document
    assert [each["scenario"] for each in first.document["scenarios"]] == [
        "equal",
        "one bucket at the tolerance",
        "one bucket twice as bad",
        "all buckets at the tolerance",
        "equal, planned items",
    ]
    assert first.document["scenarios"][-1]["items"] == first.document["planned_items"]
    assert "fixed blocks" in mlcc(*words[:-1]).out


@pytest.mark.parametrize("words", [("--buckets", "0"), ("--seed", "-1"), ("--simulations", "0"), ("--families", "3")])
def test_a_study_that_cannot_be_made_is_refused(mlcc: Call, words: tuple[str, ...]):
    assert mlcc("gate", "study", *words).code == 2
