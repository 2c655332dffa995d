"""Where images are kept: the local OCI layout store, or a registry that speaks the Distribution protocol.

Belongs here: publishing an image by digest and fetching it back. Not here: making or checking images (`images.py`). Source of
the rules: OCI image layout and Distribution specification 1.1 (blob existence, monolithic upload, manifest by tag).
"""

import contextlib
import hashlib
import ipaddress
import os
import re
import shutil
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import filelock
import httpx

from mlcc_dagster.core.exceptions import StageFailed
from resources.local import images
from resources.local.images import Descriptor

LOCAL = "local"
_REFERENCE_NAME = "org.opencontainers.image.ref.name"
_HOST = re.compile(r"[A-Za-z0-9.-]+(?::\d{1,5})?|\[[0-9A-Fa-f:]+\](?::\d{1,5})?")
_CHUNK = 1 << 20
_REQUEST_SECONDS = 60.0
_LOCK_POLL_SECONDS = 1.0

Remaining = Callable[[], float]
"""Gives the seconds left and raises when none are: asked before every blob."""


class Registry(Protocol):
    """A place that keeps images by digest."""

    @property
    def name(self) -> str:
        """`local`, or the host that is asked."""
        ...

    def push(self, layout: Path, manifest: Descriptor, repository: str, *, owner: str, remaining: Remaining) -> str:
        """Publish an image and return the reference it can be pulled by; what is there already is not sent again."""
        ...

    def pull(self, repository: str, digest: str, layout: Path, *, remaining: Remaining) -> None:
        """Fetch an image by digest into the new folder `layout`, checking every blob on its way."""
        ...


def tag_of(digest: str) -> str:
    """Return the tag under which an image of that digest is found by people: its first twelve digits."""
    return digest.removeprefix("sha256:")[:12]


class LocalStore:
    """One OCI layout folder for all images. Blobs are created once and never changed; the index changes under a lock."""

    name = LOCAL

    def __init__(self, root: Path) -> None:
        self._root = root

    def push(self, layout: Path, manifest: Descriptor, repository: str, *, owner: str, remaining: Remaining) -> str:
        """See `Registry.push`. Unfinished copies lie in `.incoming/<owner>` until they are complete."""
        blobs = images.verify(layout, manifest.digest)
        incoming = self._root / ".incoming" / owner
        incoming.mkdir(parents=True, exist_ok=True)
        (self._root / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        # the manifest last: whoever finds it finds all that it names
        for blob in (*blobs, manifest):
            remaining()
            self._publish(images.blob_path(layout, blob.digest), blob, incoming)
        reference = f"{repository}:{tag_of(manifest.digest)}"
        entry = Descriptor(manifest.media_type, manifest.digest, manifest.size, {_REFERENCE_NAME: reference})
        with self._locked(remaining):
            known = images.read_index(self._root)
            if entry not in known:
                images.write_layout_files(self._root, [*known, entry])
        shutil.rmtree(incoming, ignore_errors=True)
        return f"oci:{self._root}:{reference}"

    def pull(self, repository: str, digest: str, layout: Path, *, remaining: Remaining) -> None:
        """See `Registry.pull`. `repository` is not asked for: the digest alone finds the image."""
        (layout / "blobs" / "sha256").mkdir(parents=True)
        manifest = images.blob_path(self._root, digest)
        if not manifest.exists():
            raise StageFailed(f"the local store has no image {digest}; build and push it again")
        descriptor = Descriptor(images.MANIFEST_TYPE, digest, manifest.stat().st_size)
        for blob in (descriptor, *images.read_blobs(manifest.read_bytes())):
            remaining()
            source = images.blob_path(self._root, blob.digest)
            if not source.exists():
                raise StageFailed(f"the local store lost blob {blob.digest}; build and push the image again")
            with source.open("rb") as there, images.blob_path(layout, blob.digest).open("xb") as here:
                images.copy_checked(there, here, blob)
        images.write_layout_files(layout, [descriptor])

    def forget_unfinished(self, owner: str) -> None:
        """Remove what a push of that owner left unfinished; idempotent."""
        shutil.rmtree(self._root / ".incoming" / owner, ignore_errors=True)

    def _publish(self, source: Path, blob: Descriptor, incoming: Path) -> None:
        target = images.blob_path(self._root, blob.digest)
        if target.exists():
            if target.stat().st_size == blob.size and images.digest_of(target) == blob.digest:
                return
            raise StageFailed(f"blob {target} of the local store is damaged; remove that file and push again")
        new = incoming / target.name
        with source.open("rb") as there, new.open("wb") as here:
            images.copy_checked(there, here, blob)
            here.flush()
            os.fsync(here.fileno())
        # a link, unlike a rename, never replaces what another push has published meanwhile
        with contextlib.suppress(FileExistsError):
            os.link(new, target)
        new.unlink()

    @contextlib.contextmanager
    def _locked(self, remaining: Remaining) -> Iterator[None]:
        """Hold the store's lock; the kernel gives it back when its holder dies."""
        lock = filelock.FileLock(self._root / ".lock")
        while True:
            try:
                lock.acquire(timeout=min(remaining(), _LOCK_POLL_SECONDS))
                break
            except filelock.Timeout:
                continue
        try:
            yield
        finally:
            lock.release()


class DistributionRegistry:
    """A registry that speaks the Distribution protocol: plain http on loopback hosts, https otherwise. No login."""

    def __init__(self, host: str) -> None:
        if not _HOST.fullmatch(host):
            raise StageFailed(
                f"'{host}' is no registry address; set MLCC_REGISTRY to a host and port such as 127.0.0.1:5000"
            )
        self.name = host
        self._base = f"{'http' if _is_loopback(host) else 'https'}://{host}"

    def push(self, layout: Path, manifest: Descriptor, repository: str, *, owner: str, remaining: Remaining) -> str:
        """See `Registry.push`. An upload that breaks off is the registry's to expire: it becomes no blob."""
        blobs = images.verify(layout, manifest.digest)
        with self._client() as client:
            for blob in blobs:
                self._push_blob(client, repository, images.blob_path(layout, blob.digest), blob, remaining)
            body = images.blob_path(layout, manifest.digest).read_bytes()
            answer = self._ask(
                client,
                "PUT",
                f"/v2/{repository}/manifests/{tag_of(manifest.digest)}",
                remaining,
                expected=(201,),
                content=body,
                headers={"Content-Type": manifest.media_type},
            )
        stored = answer.headers.get("Docker-Content-Digest", manifest.digest)
        if stored != manifest.digest:
            raise StageFailed(
                f"registry {self.name} stored the manifest as {stored}, not {manifest.digest}; push again"
            )
        return f"{self.name}/{repository}@{manifest.digest}"

    def pull(self, repository: str, digest: str, layout: Path, *, remaining: Remaining) -> None:
        """See `Registry.pull`."""
        (layout / "blobs" / "sha256").mkdir(parents=True)
        with self._client() as client:
            answer = self._ask(
                client,
                "GET",
                f"/v2/{repository}/manifests/{digest}",
                remaining,
                expected=(200,),
                headers={"Accept": images.MANIFEST_TYPE},
            )
            descriptor = Descriptor(images.MANIFEST_TYPE, digest, len(answer.content))
            arrived = f"sha256:{hashlib.sha256(answer.content).hexdigest()}"
            images.check_arrived(descriptor, digest=arrived, size=len(answer.content))
            images.blob_path(layout, digest).write_bytes(answer.content)
            for blob in images.read_blobs(answer.content):
                self._pull_blob(client, repository, blob, images.blob_path(layout, blob.digest), remaining)
        images.write_layout_files(layout, [descriptor])

    def _push_blob(
        self, client: httpx.Client, repository: str, source: Path, blob: Descriptor, remaining: Remaining
    ) -> None:
        there = self._ask(client, "HEAD", f"/v2/{repository}/blobs/{blob.digest}", remaining, expected=(200, 404))
        if there.status_code == 200:
            return
        begun = self._ask(client, "POST", f"/v2/{repository}/blobs/uploads/", remaining, expected=(202,))
        # the location may be relative and carries a state of the registry's own that must be kept
        location = urllib.parse.urlsplit(str(httpx.URL(self._base).join(begun.headers["Location"])))
        query = f"{location.query}&" if location.query else ""
        target = location._replace(query=f"{query}digest={urllib.parse.quote(blob.digest)}")
        self._ask(
            client,
            "PUT",
            urllib.parse.urlunsplit(target),
            remaining,
            expected=(201,),
            content=_chunks(source, remaining),
            headers={"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)},
        )

    def _pull_blob(
        self, client: httpx.Client, repository: str, blob: Descriptor, target: Path, remaining: Remaining
    ) -> None:
        seen, count = hashlib.sha256(), 0
        path = f"/v2/{repository}/blobs/{blob.digest}"
        try:
            with (
                client.stream("GET", path, timeout=min(remaining(), _REQUEST_SECONDS)) as answer,
                target.open("xb") as file,
            ):
                if answer.status_code != 200:
                    answer.read()
                    raise self._refused("GET", path, answer)
                for chunk in answer.iter_bytes(_CHUNK):
                    remaining()
                    seen.update(chunk)
                    count += len(chunk)
                    file.write(chunk)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        images.check_arrived(blob, digest=f"sha256:{seen.hexdigest()}", size=count)

    def _client(self) -> httpx.Client:
        # redirects are followed for blobs, which large registries keep in an object store; the environment's proxies
        # must not see loopback traffic
        return httpx.Client(base_url=self._base, follow_redirects=True, trust_env=not _is_loopback(self.name))

    def _ask(
        self,
        client: httpx.Client,
        method: str,
        url: str,
        remaining: Remaining,
        *,
        expected: tuple[int, ...],
        content: bytes | Iterator[bytes] | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        try:
            answer = client.request(
                method, url, content=content, headers=headers, timeout=min(remaining(), _REQUEST_SECONDS)
            )
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if answer.status_code not in expected:
            raise self._refused(method, url, answer)
        return answer

    def _unreachable(self, error: httpx.HTTPError) -> StageFailed:
        return StageFailed(
            f"registry {self.name} could not be reached ({error}); start it, or unset MLCC_REGISTRY to use the local store",
            category="infrastructure",
        )

    def _refused(self, method: str, url: str, answer: httpx.Response) -> StageFailed:
        if answer.status_code in (401, 403):
            return StageFailed(
                f"registry {self.name} asks for a login ({answer.status_code}), which push does not have; use a registry "
                "without one, or unset MLCC_REGISTRY to use the local store",
                category="infrastructure",
            )
        said = answer.text.strip()[:200]
        return StageFailed(
            f"registry {self.name} answered {answer.status_code} to {method} {url.partition('?')[0]}: {said}; see its log",
            category="infrastructure",
        )


def _chunks(path: Path, remaining: Remaining) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            remaining()
            yield chunk


def _is_loopback(host: str) -> bool:
    name = urllib.parse.urlsplit(f"//{host}").hostname or ""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def open_registry(name: str, *, store: Path) -> Registry:
    """Return the registry of that name: `local` is the layout folder `store`, anything else a host."""
    return LocalStore(store) if name == LOCAL else DistributionRegistry(name)
