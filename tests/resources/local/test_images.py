"""An image depends on names, contents and executability alone, and a damaged one is never used."""

import json
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcc_dagster.core.exceptions import StageFailed
from resources.local import images
from resources.local.images import Descriptor, Layer

CONTENTS = {"opt/ml/app/serve.py": "print('x')\n", "opt/ml/app/do/run": "#!/bin/sh\n", "opt/ml/config.json": "{}"}


def write_files(folder: Path, *, executable: str = "opt/ml/app/do/run", mtime: int = 0) -> dict[str, Path]:
    found = {}
    for name, text in CONTENTS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o700 if name == executable else 0o600)
        os.utime(path, (mtime, mtime))
        found[name] = path
    return found


def build(layout: Path, files: dict[str, Path], **annotations: str) -> Descriptor:
    config = {"architecture": "amd64", "os": "linux", "config": {}}
    manifest, _ = images.write_image(layout, layers=[Layer("app", files)], config=config, annotations=annotations)
    return manifest


def test_the_same_files_in_another_folder_order_and_time_are_the_same_image(tmp_path: Path) -> None:
    first = build(tmp_path / "a", write_files(tmp_path / "files-a", mtime=1))
    files = write_files(tmp_path / "files-b", mtime=1_700_000_000)
    assert build(tmp_path / "b", dict(reversed(files.items()))) == first


@pytest.mark.parametrize("change", ["content", "name", "executable", "annotation"])
def test_whatever_changes_what_runs_changes_the_digest(tmp_path: Path, change: str) -> None:
    first = build(tmp_path / "a", write_files(tmp_path / "files-a"))
    executable = "opt/ml/config.json" if change == "executable" else "opt/ml/app/do/run"
    files = write_files(tmp_path / "files-b", executable=executable)
    if change == "content":
        files["opt/ml/config.json"].write_text("[]")
    if change == "name":
        files["opt/ml/other.json"] = files.pop("opt/ml/config.json")
    second = build(tmp_path / "b", files, **({"mlcc.execution": "process"} if change == "annotation" else {}))
    assert second.digest != first.digest


def test_layers_carry_neither_times_nor_owners(tmp_path: Path) -> None:
    manifest = build(tmp_path / "image", write_files(tmp_path / "files", mtime=1_700_000_000))
    layer = images.verify(tmp_path / "image", manifest.digest)[1]
    with tarfile.open(images.blob_path(tmp_path / "image", layer.digest)) as archive:
        entries = archive.getmembers()
    assert [entry.name for entry in entries] == sorted(entry.name for entry in entries)
    assert {(e.mtime, e.uid, e.gid, e.uname, e.gname) for e in entries} == {(0, 0, 0, "", "")}
    assert {e.name: e.mode for e in entries if e.isfile()} == {
        name: 0o755 if name.endswith("run") else 0o644 for name in CONTENTS
    }


def test_the_config_names_the_layers_by_their_contents(tmp_path: Path) -> None:
    manifest = build(tmp_path / "image", write_files(tmp_path / "files"))
    config, layer = images.verify(tmp_path / "image", manifest.digest)
    document = json.loads(images.blob_path(tmp_path / "image", config.digest).read_bytes())
    assert document["rootfs"]["diff_ids"] == [layer.digest]
    assert images.read_index(tmp_path / "image") == [manifest]


def test_unpacking_gives_back_what_went_in(tmp_path: Path) -> None:
    manifest = build(tmp_path / "image", write_files(tmp_path / "files"))
    images.unpack(tmp_path / "image", manifest.digest, tmp_path / "root")
    assert {name: (tmp_path / "root" / name).read_text() for name in CONTENTS} == CONTENTS
    assert os.access(tmp_path / "root" / "opt/ml/app/do/run", os.X_OK)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        pytest.param("flip", "has other contents", id="one bit changed"),
        pytest.param("cut", "has other contents", id="cut off"),
        pytest.param("remove", "is missing", id="gone"),
    ],
)
@pytest.mark.parametrize("blob", [0, 1], ids=["config", "layer"])
def test_a_damaged_blob_is_named_and_nothing_is_unpacked(tmp_path: Path, damage: str, words: str, blob: int) -> None:
    manifest = build(tmp_path / "image", write_files(tmp_path / "files"))
    digest = images.verify(tmp_path / "image", manifest.digest)[blob].digest
    path = images.blob_path(tmp_path / "image", digest)
    data = bytearray(path.read_bytes())
    if damage == "remove":
        path.unlink()
    else:
        data[len(data) // 2] ^= 1
        path.write_bytes(data if damage == "flip" else data[:-1])
    with pytest.raises(StageFailed, match=f"{digest} {words}.*push it again"):
        images.unpack(tmp_path / "image", manifest.digest, tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_a_damaged_manifest_is_refused(tmp_path: Path) -> None:
    manifest = build(tmp_path / "image", write_files(tmp_path / "files"))
    images.blob_path(tmp_path / "image", manifest.digest).write_bytes(b"{}")
    with pytest.raises(StageFailed, match=r"manifest .* is missing or damaged"):
        images.verify(tmp_path / "image", manifest.digest)


def test_an_entry_that_would_leave_the_folder_is_refused(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("x")
    config = {"architecture": "amd64", "os": "linux", "config": {}}
    manifest, _ = images.write_image(
        tmp_path / "image", layers=[Layer("bad", {"../escaped": outside})], config=config, annotations={}
    )
    with pytest.raises(StageFailed, match="cannot be unpacked"):
        images.unpack(tmp_path / "image", manifest.digest, tmp_path / "below" / "root")
    assert not (tmp_path / "below" / "escaped").exists()


@given(st.text(max_size=80))
def test_only_a_sha256_digest_names_a_file(text: str) -> None:
    with pytest.raises(ValueError, match="is no sha256 digest"):
        images.blob_path(Path("layout"), f"sha256:{text}" if len(text) != 64 else text)


@pytest.mark.parametrize("digest", ["sha256:" + "../" * 21 + "a", "sha512:" + "a" * 64, "sha256:" + "A" * 64])
def test_a_descriptor_of_another_form_is_refused(digest: str) -> None:
    with pytest.raises(StageFailed, match="not OCI"):
        Descriptor.from_json({"mediaType": "x", "digest": digest, "size": 1})
