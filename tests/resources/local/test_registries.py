"""Images go into a registry once, come back byte for byte, and are never half there."""

import json
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from mlcc_dagster.core.exceptions import StageFailed
from resources.local import images
from resources.local.images import Descriptor, Layer
from resources.local.registries import DistributionRegistry, LocalStore, Registry, open_registry, tag_of


def plenty() -> float:
    return 60.0


@pytest.fixture
def image(tmp_path: Path) -> tuple[Path, Descriptor]:
    return make_image(tmp_path, "one")


def make_image(tmp_path: Path, text: str) -> tuple[Path, Descriptor]:
    source = tmp_path / f"{text}.txt"
    source.write_text(text * 1000)
    layout = tmp_path / f"image-{text}"
    manifest, _ = images.write_image(
        layout,
        layers=[Layer("app", {"opt/ml/app/file.txt": source})],
        config={"architecture": "amd64", "os": "linux", "config": {}},
        annotations={"mlcc.execution": "process"},
    )
    return layout, manifest


def assert_comes_back(registry: Registry, image: tuple[Path, Descriptor], target: Path) -> None:
    layout, manifest = image
    registry.push(layout, manifest, "mlcc/app", owner="run-1", remaining=plenty)
    registry.pull("mlcc/app", manifest.digest, target, remaining=plenty)
    assert images.verify(target, manifest.digest) == images.verify(layout, manifest.digest)
    images.unpack(target, manifest.digest, target / "root")
    assert (target / "root/opt/ml/app/file.txt").read_text() == "one" * 1000


def test_what_is_pushed_into_the_local_store_comes_back(tmp_path: Path, image: tuple[Path, Descriptor]) -> None:
    assert_comes_back(LocalStore(tmp_path / "store"), image, tmp_path / "back")


def test_what_is_pushed_into_a_real_registry_comes_back(
    tmp_path: Path, image: tuple[Path, Descriptor], distribution: str
) -> None:
    assert_comes_back(DistributionRegistry(distribution), image, tmp_path / "back")


def test_skopeo_reads_what_was_pushed_into_a_real_registry(image: tuple[Path, Descriptor], distribution: str) -> None:
    layout, manifest = image
    registry = DistributionRegistry(distribution)
    reference = registry.push(layout, manifest, "mlcc/app", owner="run-1", remaining=plenty)
    assert reference == f"{distribution}/mlcc/app@{manifest.digest}"
    # a second push of the same image sends nothing and says the same
    assert registry.push(layout, manifest, "mlcc/app", owner="run-2", remaining=plenty) == reference
    for name in (reference, f"{distribution}/mlcc/app:{tag_of(manifest.digest)}"):
        said = subprocess.run(
            ["skopeo", "inspect", "--tls-verify=false", f"docker://{name}"], capture_output=True, text=True, check=True
        )
        document = json.loads(said.stdout)
        assert document["Digest"] == manifest.digest
        assert document["Layers"] == [images.verify(layout, manifest.digest)[1].digest]


def test_skopeo_reads_the_local_store(tmp_path: Path, image: tuple[Path, Descriptor], binaries: None) -> None:
    layout, manifest = image
    reference = LocalStore(tmp_path / "store").push(layout, manifest, "mlcc/app", owner="r", remaining=plenty)
    said = subprocess.run(["skopeo", "inspect", reference], capture_output=True, text=True, check=True)
    assert json.loads(said.stdout)["Digest"] == manifest.digest


def test_a_real_registry_without_the_image_says_what_is_missing(tmp_path: Path, distribution: str) -> None:
    with pytest.raises(StageFailed, match="answered 404") as caught:
        DistributionRegistry(distribution).pull("mlcc/app", f"sha256:{'0' * 64}", tmp_path / "back", remaining=plenty)
    assert caught.value.category == "infrastructure"


def test_the_store_keeps_every_image_pushed_at_the_same_time(tmp_path: Path) -> None:
    made = [make_image(tmp_path, f"number{index}") for index in range(4)]
    store = tmp_path / "store"
    threads = [
        threading.Thread(
            target=lambda pushed, owner: LocalStore(store).push(
                *pushed, "mlcc/app", owner=f"run-{owner}", remaining=plenty
            ),
            args=(pushed, index),
        )
        for index, pushed in enumerate([*made, *made])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found.digest for found in images.read_index(store)) == sorted(m.digest for _, m in made)
    for _, manifest in made:
        images.verify(store, manifest.digest)
    assert list((store / ".incoming").iterdir()) == []


def test_a_push_that_stops_half_way_publishes_nothing_and_leaves_nothing(
    tmp_path: Path, image: tuple[Path, Descriptor]
) -> None:
    layout, manifest = image
    store = LocalStore(tmp_path / "store")
    asked = iter([60.0, 60.0])

    def ends_soon() -> float:
        try:
            return next(asked)
        except StopIteration:
            raise StageFailed("stage push passed its own time limit", category="timeout") from None

    with pytest.raises(StageFailed, match="time limit"):
        store.push(layout, manifest, "mlcc/app", owner="run-1", remaining=ends_soon)
    assert images.read_index(tmp_path / "store") == []
    store.forget_unfinished("run-1")
    store.forget_unfinished("run-1")
    assert list((tmp_path / "store" / ".incoming").iterdir()) == []
    with pytest.raises(StageFailed, match="has no image"):
        store.pull("mlcc/app", manifest.digest, tmp_path / "back", remaining=plenty)


def test_a_store_whose_blob_rotted_is_not_pulled_from(tmp_path: Path, image: tuple[Path, Descriptor]) -> None:
    layout, manifest = image
    store = LocalStore(tmp_path / "store")
    store.push(layout, manifest, "mlcc/app", owner="run-1", remaining=plenty)
    layer = images.verify(layout, manifest.digest)[1]
    images.blob_path(tmp_path / "store", layer.digest).write_bytes(b"rot")
    with pytest.raises(StageFailed, match="arrived as"):
        store.pull("mlcc/app", manifest.digest, tmp_path / "back", remaining=plenty)
    with pytest.raises(StageFailed, match="is damaged; remove that file"):
        store.push(layout, manifest, "mlcc/app", owner="run-1", remaining=plenty)


@pytest.mark.parametrize(
    ("name", "base"),
    [
        pytest.param("127.0.0.1:5000", "http://127.0.0.1:5000", id="loopback needs no certificate"),
        pytest.param("localhost:5000", "http://localhost:5000", id="loopback by name"),
        pytest.param("[::1]:5000", "http://[::1]:5000", id="loopback of version 6"),
        pytest.param("registry.example:443", "https://registry.example:443", id="everything else is encrypted"),
        pytest.param("127.0.0.1.example", "https://127.0.0.1.example", id="a name that only looks like loopback"),
    ],
)
def test_only_loopback_is_spoken_to_in_the_clear(name: str, base: str) -> None:
    assert DistributionRegistry(name)._base == base


@pytest.mark.parametrize("name", ["http://host", "host/path", "user:secret@host", "host:port", ""])
def test_what_is_no_registry_address_is_refused(name: str) -> None:
    with pytest.raises(StageFailed, match=r"is no registry address; set MLCC_REGISTRY"):
        open_registry(name, store=Path("unused"))


def test_a_registry_that_is_not_there_is_an_infrastructure_failure(image: tuple[Path, Descriptor]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(StageFailed, match="could not be reached") as caught:
        DistributionRegistry(f"127.0.0.1:{port}").push(*image, "mlcc/app", owner="r", remaining=plenty)
    assert caught.value.category == "infrastructure"
