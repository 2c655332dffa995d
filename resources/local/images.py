"""OCI image layouts: writing one that has the same digest whenever it is built from the same files, reading it back.

Belongs here: layers, manifest, index, verification, unpacking. Not here: where images are kept (`registries.py`), what goes
into a layer (`building.py`). Source of the rules: OCI image specification 1.1 (image layout, manifest, config).
"""

import hashlib
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

from mlcc_dagster.core.exceptions import StageFailed

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
"""Layers are plain tar: compressed bytes would change with the compressor's version."""

CREATED = "1970-01-01T00:00:00Z"
_LAYOUT = {"imageLayoutVersion": "1.0.0"}
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Descriptor:
    """A blob as manifests name it: media type, `sha256:<hex>` digest, size in bytes."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def to_json(self) -> dict[str, Any]:
        """Return the descriptor as the specification writes it."""
        document: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        return document | ({"annotations": dict(self.annotations)} if self.annotations else {})

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Descriptor":
        """Read a descriptor; raises `StageFailed` where it is none (such as an index written by something else)."""
        try:
            return cls(
                str(document["mediaType"]),
                _checked_digest(document["digest"]),
                int(document["size"]),
                MappingProxyType(dict(document.get("annotations") or {})),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise StageFailed(f"an image names a blob in a form that is not OCI ({error}); push it again") from error


@dataclass(frozen=True)
class Layer:
    """Files of one layer: path inside the image -> file on disk. `title` says what it is."""

    title: str
    files: Mapping[str, Path]


def write_image(
    layout: Path, *, layers: Sequence[Layer], config: Mapping[str, Any], annotations: Mapping[str, str]
) -> tuple[Descriptor, tuple[Descriptor, ...]]:
    """Write a new OCI layout folder with one image and return the descriptors of its manifest and of its layers.

    Times are zero, owners root, entries sorted and modes reduced to 644 and 755: the digest depends on names, contents
    and executability alone. `config` is the image config without rootfs and history.
    """
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    written = tuple(_write_layer(blobs, layer) for layer in layers)
    document = dict(config) | {
        "created": CREATED,
        "rootfs": {"type": "layers", "diff_ids": [descriptor.digest for descriptor in written]},
        "history": [{"created": CREATED, "created_by": f"mlcc build: {layer.title}"} for layer in layers],
    }
    config_descriptor = _write_json(blobs, CONFIG_TYPE, document)
    manifest = _write_json(
        blobs,
        MANIFEST_TYPE,
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": config_descriptor.to_json(),
            "layers": [descriptor.to_json() for descriptor in written],
            "annotations": dict(annotations),
        },
    )
    write_layout_files(layout, [manifest])
    return manifest, written


def write_layout_files(layout: Path, manifests: Sequence[Descriptor]) -> None:
    """Write `oci-layout` and `index.json` of a layout whose blobs are in place. Each is replaced atomically."""
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX_TYPE,
        "manifests": [descriptor.to_json() for descriptor in manifests],
    }
    for name, document in (("oci-layout", _LAYOUT), ("index.json", index)):
        new = layout / f".{name}.new"
        new.write_bytes(canonical_json(document))
        new.replace(layout / name)


def read_index(layout: Path) -> list[Descriptor]:
    """Return the manifests that a layout's index names; none where it has no index yet."""
    path = layout / "index.json"
    if not path.exists():
        return []
    return [Descriptor.from_json(entry) for entry in json.loads(path.read_bytes())["manifests"]]


def blob_path(layout: Path, digest: str) -> Path:
    """Return where a layout keeps the blob of that digest."""
    return layout / "blobs" / "sha256" / _checked_digest(digest).removeprefix("sha256:")


def read_blobs(manifest: bytes) -> tuple[Descriptor, ...]:
    """Return the descriptors of config and layers, in this order, of a manifest document."""
    document = json.loads(manifest)
    return (
        Descriptor.from_json(document["config"]),
        *(Descriptor.from_json(layer) for layer in document["layers"]),
    )


def verify(layout: Path, digest: str) -> tuple[Descriptor, ...]:
    """Check the image of that digest, every byte of it, and return the descriptors of config and layers.

    Raises `StageFailed` naming every blob that is missing or does not have its digest.
    """
    problems: list[str] = []
    manifest = blob_path(layout, digest)
    if not manifest.exists() or digest_of(manifest) != digest:
        raise StageFailed(f"image manifest {digest} is missing or damaged; build and push the image again")
    blobs = read_blobs(manifest.read_bytes())
    for blob in blobs:
        path = blob_path(layout, blob.digest)
        if not path.exists():
            problems.append(f"{blob.digest} is missing")
        elif path.stat().st_size != blob.size or digest_of(path) != blob.digest:
            problems.append(f"{blob.digest} has other contents")
    if problems:
        raise StageFailed(f"image {digest} is damaged ({'; '.join(problems)}); build and push it again")
    return blobs


def unpack(layout: Path, digest: str, root: Path) -> None:
    """Verify the image and unpack its layers in order below the new folder `root`.

    Raises `StageFailed` where the image is damaged or an entry would leave the folder.
    """
    blobs = verify(layout, digest)
    root.mkdir(parents=True)
    for layer in blobs[1:]:
        try:
            with tarfile.open(blob_path(layout, layer.digest), "r:") as archive:
                archive.extractall(root, filter="data")
        except tarfile.TarError as error:
            raise StageFailed(f"layer {layer.digest} cannot be unpacked ({error}); build the image again") from error


def digest_of(path: Path) -> str:
    """Return the `sha256:<hex>` digest of a file."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def canonical_json(document: Mapping[str, Any]) -> bytes:
    """Return the one byte form of a document: sorted keys, no spaces."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode("utf-8")


def _write_json(blobs: Path, media_type: str, document: Mapping[str, Any]) -> Descriptor:
    data = canonical_json(document)
    digest = hashlib.sha256(data).hexdigest()
    (blobs / digest).write_bytes(data)
    return Descriptor(media_type, f"sha256:{digest}", len(data))


def _write_layer(blobs: Path, layer: Layer) -> Descriptor:
    unnamed = blobs / ".layer"
    with unnamed.open("wb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        folders = {str(parent) for name in layer.files for parent in Path(name).parents} - {"."}
        for name in sorted(folders | set(layer.files)):
            source = layer.files.get(name)
            if source is None:
                archive.addfile(_entry(name, kind=tarfile.DIRTYPE, mode=0o755))
                continue
            executable = source.stat().st_mode & 0o100
            entry = _entry(name, kind=tarfile.REGTYPE, mode=0o755 if executable else 0o644)
            entry.size = source.stat().st_size
            with source.open("rb") as content:
                archive.addfile(entry, content)
    digest = digest_of(unnamed)
    size = unnamed.stat().st_size
    unnamed.replace(blobs / digest.removeprefix("sha256:"))
    return Descriptor(LAYER_TYPE, digest, size, MappingProxyType({"org.opencontainers.image.title": layer.title}))


def _entry(name: str, *, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.mtime = kind, mode, 0
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def _checked_digest(digest: object) -> str:
    text = str(digest)
    algorithm, _, value = text.partition(":")
    if algorithm != "sha256" or len(value) != 64 or set(value) - set("0123456789abcdef"):
        raise ValueError(f"'{text}' is no sha256 digest")
    return text


def copy_checked(source: BinaryIO, target: BinaryIO, descriptor: Descriptor) -> None:
    """Copy a blob while checking it. Raises `StageFailed` where size or digest differ from the descriptor's."""
    seen, count = hashlib.sha256(), 0
    while chunk := source.read(_CHUNK):
        seen.update(chunk)
        count += len(chunk)
        target.write(chunk)
    check_arrived(descriptor, digest=f"sha256:{seen.hexdigest()}", size=count)


def check_arrived(descriptor: Descriptor, *, digest: str, size: int) -> None:
    """Raise `StageFailed` unless what arrived is the blob that the descriptor names."""
    if digest != descriptor.digest or size != descriptor.size:
        raise StageFailed(
            f"blob {descriptor.digest} ({descriptor.size} bytes) arrived as {digest} ({size} bytes); push the image again"
        )
