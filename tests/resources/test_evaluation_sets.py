"""The hash of an evaluation set is the one that DVC writes: compared with its library, and with a real DVC's own files."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcc_dagster.core.exceptions import InvalidInput, UsageError
from resources.evaluation_sets import content_hash, eval_set_hash, read_dvc_file

DVC = ["dvc==3.67.1"]


def written(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    return folder


def pointer(path: Path, /, **output: Any) -> Path:
    """Write the `.dvc` file of data that lies beside it."""
    values = {"md5": "0" * 32, "size": 1, "hash": "md5", "path": path.name} | output
    document = {"outs": [{name: value for name, value in values.items() if value is not None}]}
    made = path.with_name(f"{path.name}.dvc")
    made.write_text(yaml.safe_dump(document), "utf-8")
    return made


def hash_by_dvc_data(path: Path) -> str:
    """The hash by the library that DVC itself uses."""
    from dvc_data.hashfile.hash import hash_file
    from dvc_data.hashfile.meta import Meta
    from dvc_data.hashfile.tree import Tree
    from dvc_objects.fs.local import LocalFileSystem

    files = LocalFileSystem()
    if path.is_file():
        return str(hash_file(str(path), files, "md5")[1].value)
    tree = Tree()
    for place in path.rglob("*"):
        if place.is_file():
            tree.add(place.relative_to(path).parts, Meta(), hash_file(str(place), files, "md5")[1])
    tree.digest()
    assert tree.hash_info is not None
    return str(tree.hash_info.value)


TREES = st.dictionaries(
    st.lists(st.text(st.sampled_from("ab-.é0"), min_size=1, max_size=3), min_size=1, max_size=3)
    .filter(lambda parts: not {".", ".."} & set(parts))
    .map("/".join),
    st.binary(max_size=8),
    min_size=1,
    max_size=5,
).filter(lambda tree: not any(one != other and other.startswith(f"{one}/") for one in tree for other in tree))


@settings(deadline=None)  # the first example imports the library
@given(TREES)
def test_the_hash_of_a_folder_is_that_of_the_library_that_dvc_uses(tmp_path_factory: pytest.TempPathFactory, tree: Any):
    folder = written(tmp_path_factory.mktemp("set") / "data", tree)
    assert content_hash(folder) == hash_by_dvc_data(folder)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_the_hash_of_a_file_is_too(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    path = written(tmp_path_factory.mktemp("set"), {"set.jsonl": content}) / "set.jsonl"
    assert content_hash(path) == hash_by_dvc_data(path)


def test_data_and_its_dvc_file_are_two_names_of_one_set_and_must_agree(tmp_path: Path):
    data = written(tmp_path, {"set.jsonl": b"one\n"}) / "set.jsonl"
    bare = eval_set_hash(data)
    committed = pointer(data, md5=bare)
    assert eval_set_hash(data) == eval_set_hash(committed) == bare
    data.write_bytes(b"one\ntwo\n")
    for name in (data, committed):
        with pytest.raises(UsageError, match=f"is not the evaluation set of .*{bare} is committed"):
            eval_set_hash(name)


def test_data_that_was_not_fetched_is_said_to_be_missing(tmp_path: Path):
    with pytest.raises(UsageError, match="is not there; fetch it with `dvc pull`"):
        eval_set_hash(pointer(tmp_path / "set.jsonl"))


def test_a_link_in_a_set_is_refused(tmp_path: Path):
    folder = written(tmp_path / "set", {"a": b"1"})
    (folder / "b").symlink_to("/etc/passwd")
    with pytest.raises(UsageError, match="is a link"):
        eval_set_hash(folder)


@pytest.mark.parametrize(
    ("output", "why"),
    [
        ({"hash": None}, "hash: must be md5, not None; add the data again with DVC 3"),
        ({"hash": "sha256"}, "hash: must be md5, not 'sha256'"),
        ({"md5": "abc"}, "md5: must be 32 hexadecimal digits"),
        ({"md5": 7}, "md5: must be 32 hexadecimal digits"),
        ({"md5": None}, "md5: must be 32 hexadecimal digits"),
        ({"path": "../secret"}, "path: must name data beside"),
        ({"path": "/etc/passwd"}, "path: must name data beside"),
        ({"path": ".."}, "path: must name data beside"),
        ({"path": "a/b"}, "path: must name data beside"),
        ({"path": ""}, "path: must name data beside"),
    ],
)
def test_a_dvc_file_that_cannot_be_one_is_refused(tmp_path: Path, output: dict[str, Any], why: str):
    with pytest.raises(InvalidInput, match=why):
        read_dvc_file(pointer(tmp_path / "set", **output))


@pytest.mark.parametrize("text", ["", "outs: []", "outs: [1]", "outs: {}", "[", "outs: [{md5: a}, {md5: b}]", "\x00"])
def test_a_file_that_is_no_dvc_file_is_refused(tmp_path: Path, text: str):
    path = tmp_path / "set.dvc"
    path.write_text(text, "utf-8")
    with pytest.raises(InvalidInput):
        read_dvc_file(path)


def test_a_dvc_file_of_other_data_does_not_vouch_for_this(tmp_path: Path):
    data = written(tmp_path, {"set.jsonl": b"x"}) / "set.jsonl"
    pointer(data, path="other.jsonl")
    with pytest.raises(UsageError, match=r"speaks of other\.jsonl"):
        eval_set_hash(data)


# ---- a real DVC, in an environment of its own: it pins an old runtime that breaks Dagster


@pytest.fixture(scope="module")
def dvc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DVC itself. Skips where it cannot be installed; in continuous integration that is a failure."""
    folder = tmp_path_factory.mktemp("dvc") / "venv"
    uv = Path(sys.executable).with_name("uv")
    if uv.exists():
        steps = [
            [uv, "venv", "--quiet", "--python", sys.executable, folder],
            [uv, "pip", "install", "--quiet", "--python", folder / "bin" / "python", *DVC],
        ]
    else:
        steps = [
            [sys.executable, "-m", "venv", folder],
            [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *DVC],
        ]
    for step in steps:
        done = subprocess.run([str(word) for word in step], capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            why = f"DVC cannot be installed here: {(done.stderr.strip().splitlines() or ['no word'])[-1]}"
            if os.environ.get("CI") == "true":
                pytest.fail(why)
            pytest.skip(why)
    return folder / "bin" / "dvc"


@pytest.mark.slow
def test_the_files_that_a_real_dvc_writes_are_read_and_fit_what_it_was_given(tmp_path: Path, dvc: Path):
    file = written(tmp_path, {"set.jsonl": b'{"id": 1}\r\n{"id": 2}\n'}) / "set.jsonl"
    folder = written(
        tmp_path / "buckets",
        {"tense/past.jsonl": b"1", "tense.jsonl": b"2", "verb.jsonl": b"3", "ü.txt": b"", "B": b"4"},
    )
    for words in (["init", "--no-scm", "--quiet"], ["add", "--quiet", file.name, folder.name]):
        subprocess.run(
            [dvc, *words], cwd=tmp_path, check=True, timeout=120, env=os.environ | {"DVC_NO_ANALYTICS": "true"}
        )
    assert read_dvc_file(tmp_path / "buckets.dvc").md5.endswith(".dir")
    for data in (file, folder):
        committed = data.with_name(f"{data.name}.dvc")
        said = yaml.safe_load(committed.read_text())["outs"][0]["md5"]
        assert eval_set_hash(data) == eval_set_hash(committed) == content_hash(data) == said
    (folder / "B").unlink()
    (folder / "B").write_bytes(b"changed")
    with pytest.raises(UsageError, match="is not the evaluation set"):
        eval_set_hash(folder)
